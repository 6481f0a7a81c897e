//! `meta.json`: what a block holds, since when, and from which blocks it came.
//!
//! Top-level fields that we do not know (other programs keep theirs here) survive a rewrite.
//!
//! Compat: prometheus `tsdb/block.go`, `BlockMeta`.

use std::path::Path;

use model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::{Error, Result, fs};

pub const HINT_OUT_OF_ORDER: &str = "from-out-of-order";
pub const HINT_STALE_SERIES: &str = "from-stale-series";
pub const HINT_SELECTED_SERIES: &str = "from-selected-series";

const VERSION: u32 = 1;

/// The description of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    #[serde(with = "ulid_text")]
    pub ulid: Ulid,
    /// Samples satisfy `min_time <= t < max_time`.
    pub min_time: Timestamp,
    pub max_time: Timestamp,
    #[serde(default)]
    pub stats: Stats,
    #[serde(default)]
    pub compaction: Compaction,
    #[serde(default)]
    pub version: u32,
    /// Whatever else stood at the top level.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// Totals of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// How a block came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compaction {
    /// 1 when written from the head, else one above the highest parent.
    pub level: u32,
    /// The level-1 blocks whose samples are in it, ascending.
    #[serde(with = "ulid_list", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Ulid>,
    /// Compaction found that nothing of it is left; the next reload deletes it.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks it was made of directly; where they still exist, it supersedes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// A compaction of it failed; the planner leaves its range alone.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// A direct input of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    #[serde(with = "ulid_text")]
    pub ulid: Ulid,
    pub min_time: Timestamp,
    pub max_time: Timestamp,
}

impl Compaction {
    pub fn has_hint(&self, hint: &str) -> bool {
        self.hints.iter().any(|h| h == hint)
    }

    fn add_hint(&mut self, hint: &str) {
        if let Err(i) = self.hints.binary_search_by(|h| h.as_str().cmp(hint)) {
            self.hints.insert(i, hint.to_owned());
        }
    }
}

impl BlockMeta {
    /// The meta of a block of samples with `min_time <= t < max_time` that has no parents.
    pub fn level1(ulid: Ulid, min_time: Timestamp, max_time: Timestamp) -> Self {
        Self {
            ulid,
            min_time,
            max_time,
            stats: Stats::default(),
            compaction: Compaction { level: 1, sources: vec![ulid], ..Compaction::default() },
            version: VERSION,
            extra: serde_json::Map::new(),
        }
    }

    /// The meta of a block of late samples with `min_time <= t < max_time`: with one parent that is none, as upstream
    /// writes it.
    pub fn out_of_order(ulid: Ulid, min_time: Timestamp, max_time: Timestamp) -> Self {
        let mut meta = Self::level1(ulid, min_time, max_time);
        meta.compaction.parents = vec![Parent { ulid: Ulid::nil(), min_time: 0, max_time: 0 }];
        meta.compaction.add_hint(HINT_OUT_OF_ORDER);
        meta
    }

    /// The meta of a block of series that have ended, written before their time left the head.
    pub fn of_stale_series(ulid: Ulid, min_time: Timestamp, max_time: Timestamp) -> Self {
        let mut meta = Self::level1(ulid, min_time, max_time);
        meta.compaction.add_hint(HINT_STALE_SERIES);
        meta
    }

    /// The meta of the block that `parents` (at least one) become.
    /// Compat: prometheus `tsdb/compact.go`, `CompactBlockMetas`.
    pub fn compacted(ulid: Ulid, parents: &[BlockMeta]) -> Self {
        let mut compaction = Compaction {
            level: 1 + parents.iter().map(|parent| parent.compaction.level).max().unwrap_or_default(),
            sources: parents.iter().flat_map(|parent| parent.compaction.sources.iter().copied()).collect(),
            parents: parents.iter().map(BlockMeta::as_parent).collect(),
            ..Compaction::default()
        };
        compaction.sources.sort_unstable();
        compaction.sources.dedup();
        let any = |hint| parents.iter().any(|parent| parent.compaction.has_hint(hint));
        if parents.iter().all(|parent| parent.compaction.has_hint(HINT_OUT_OF_ORDER)) {
            compaction.add_hint(HINT_OUT_OF_ORDER);
        }
        for hint in [HINT_STALE_SERIES, HINT_SELECTED_SERIES] {
            if any(hint) {
                compaction.add_hint(hint);
            }
        }
        Self {
            ulid,
            min_time: parents.iter().map(|parent| parent.min_time).min().unwrap_or_default(),
            max_time: parents.iter().map(|parent| parent.max_time).max().unwrap_or_default(),
            stats: Stats::default(),
            compaction,
            version: VERSION,
            extra: serde_json::Map::new(),
        }
    }

    /// The meta of the block that `base` becomes once what was deleted from it is left out.
    ///
    /// It counts as written for the first time again. Compat: prometheus `tsdb/compact.go`, `LeveledCompactor.Write`
    /// with a base.
    pub fn cleaned(ulid: Ulid, base: &BlockMeta) -> Self {
        let mut meta = Self::level1(ulid, base.min_time, base.max_time);
        meta.compaction.parents = vec![base.as_parent()];
        for hint in [HINT_OUT_OF_ORDER, HINT_STALE_SERIES, HINT_SELECTED_SERIES] {
            if base.compaction.has_hint(hint) {
                meta.compaction.add_hint(hint);
            }
        }
        meta
    }

    fn as_parent(&self) -> Parent {
        Parent { ulid: self.ulid, min_time: self.min_time, max_time: self.max_time }
    }

    /// Whether it says up to when the head's samples are on disk: not so where it holds late samples or
    /// only some series.
    pub fn is_in_order(&self) -> bool {
        self.compaction.hints.iter().all(|hint| {
            hint != HINT_OUT_OF_ORDER && hint != HINT_STALE_SERIES && hint != HINT_SELECTED_SERIES
        })
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, is not such a description, or has another version.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path)?;
        let meta: Self = serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(path, 0, format!("block description: {e}")))?;
        if meta.version != VERSION {
            return Err(Error::corrupt(
                path,
                0,
                format!("block description of version {}, only {VERSION} is known", meta.version),
            ));
        }
        Ok(meta)
    }

    /// The file's content: indented with tabs, no newline at the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
            .expect("a description has text keys and a vector takes all");
        out
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(b: &bool) -> bool {
    !*b
}

/// A ULID as its 26 characters.
mod ulid_text {
    use super::{Deserialize, Deserializer, Serializer, Ulid};

    pub(super) fn serialize<S: Serializer>(ulid: &Ulid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(ulid)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ulid, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ulid::from_string(&text).map_err(serde::de::Error::custom)
    }
}

mod ulid_list {
    use super::{Deserialize, Deserializer, Serializer, Ulid};

    pub(super) fn serialize<S: Serializer>(ulids: &[Ulid], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ulids.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ulid>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
        texts.iter().map(|text| Ulid::from_string(text).map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewriting_keeps_every_byte_and_foreign_fields() {
        let text = "{\n\t\"ulid\": \"01M7Z7EP13T1GYDQRA5Q5WC0JS\",\n\t\"minTime\": 1600000000000,\n\t\"maxTime\": 1600000045003,\n\t\"stats\": {\n\t\t\"numSamples\": 5,\n\t\t\"numSeries\": 2,\n\t\t\"numChunks\": 2\n\t},\n\t\"compaction\": {\n\t\t\"level\": 1,\n\t\t\"sources\": [\n\t\t\t\"01M7Z7EP13T1GYDQRA5Q5WC0JS\"\n\t\t]\n\t},\n\t\"version\": 1,\n\t\"thanos\": {\n\t\t\"labels\": {\n\t\t\t\"replica\": \"a\"\n\t\t}\n\t}\n}";
        let meta: BlockMeta = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(meta.encode()).unwrap(), text);
        assert_eq!(meta.stats.num_series, 2);
    }

    #[test]
    fn late_samples_stay_a_hint_only_if_all_parents_have_it() {
        let block = |hints: &[&str], level| {
            let mut meta = BlockMeta::level1(Ulid::generate(), 0, 10);
            meta.compaction.level = level;
            meta.compaction.hints = hints.iter().map(|&h| h.to_owned()).collect();
            meta
        };
        let merged = |parents: &[BlockMeta]| BlockMeta::compacted(Ulid::generate(), parents).compaction;
        let late = block(&[HINT_OUT_OF_ORDER], 1);
        assert!(merged(&[late.clone(), late.clone()]).has_hint(HINT_OUT_OF_ORDER));
        let mixed = merged(&[late, block(&[HINT_STALE_SERIES], 3)]);
        assert_eq!((mixed.hints, mixed.level), (vec![HINT_STALE_SERIES.to_owned()], 4));
    }
}
