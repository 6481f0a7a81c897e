//! What targets say about their families: type, help and unit.
//!
//! Kept per target for the API. Targets of a job mostly say the same, so equal tables are shared. A warm
//! scrape only sums up hashes of what it reads; the table is made anew when the sum differs.
//! A family that is no longer exposed stays known for a while, as a target may expose it now and then.
//!
//! Compat: prometheus `scrape/scrape.go`, `metaEntry`.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use model::storage::Metadata;
use model::wire::parse::{Entry, MetricType, Parser};
use model::wire::{Format, HistogramOptions, protobuf};
use parking_lot::Mutex;

/// Passes that a family stays known without being exposed.
const PASSES_UNSEEN_MAX: u8 = 10;

/// The most families of one target that are kept; a target with more is described in part.
const FAMILIES_MAX: usize = 100_000;

/// What a target said about one family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Family {
    pub name: Box<str>,
    pub kind: MetricType,
    pub help: Box<str>,
    pub unit: Box<str>,
}

/// The families of a target in order of name.
pub type Table = [Family];

/// The tables of one job, each content once.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<HashMap<u64, Weak<Table>>>);

impl Tables {
    fn share(&self, table: Vec<Family>) -> Arc<Table> {
        let mut tables = self.0.lock();
        let hash = foldhash::fast::FixedState::default().hash_one(&table);
        if let Some(known) = tables.get(&hash).and_then(Weak::upgrade)
            && *known == *table
        {
            return known;
        }
        tables.retain(|_, known| known.strong_count() > 0);
        let table: Arc<Table> = table.into();
        tables.insert(hash, Arc::downgrade(&table));
        table
    }
}

/// The metadata of one target across its scrapes.
#[derive(Debug, Default)]
pub struct Memory {
    hasher: RandomState,
    /// The sum of the last pass.
    sum: u64,
    table: Option<Arc<Table>>,
    /// Passes left for families of the table that are exposed no more; 0 if there are none.
    n_passes_left: u8,
    /// The store is to be told everything again: the last pass said something else than the one before, and its
    /// first lines may have come before what it said of them, or the last pass failed.
    is_settling: bool,
}

impl Memory {
    /// The share of one entry in the sum of a pass; order does not matter. Samples have none.
    pub(super) fn hash(&self, entry: &Entry<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match entry {
            Entry::Series(_) => return 0,
            Entry::Type { family, kind } => (0, family, kind).hash(&mut hasher),
            Entry::Help { family, text } => (1, family, text.as_ref()).hash(&mut hasher),
            Entry::Unit { family, unit } => (2, family, unit).hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Ends a successful pass over `body` whose entries summed up to `sum`.
    pub(super) fn finish(&mut self, sum: u64, body: &[u8], format: Format, tables: &Tables) {
        let has_unseen = self.n_passes_left > 0;
        self.n_passes_left = self.n_passes_left.saturating_sub(1);
        let expired = has_unseen && self.n_passes_left == 0;
        self.is_settling = sum != self.sum;
        if sum == self.sum && !expired {
            return;
        }
        self.sum = sum;
        let has_unseen_now = self.take_over(usize::MAX, body, format, tables, !expired);
        // The countdown is not wound up again while it runs, so that what keeps changing cannot pile up.
        if !has_unseen_now {
            self.n_passes_left = 0;
        } else if !has_unseen {
            self.n_passes_left = PASSES_UNSEEN_MAX;
        }
    }

    /// A pass failed, and with its batch what the store was told is lost.
    pub(super) fn fail(&mut self) {
        self.is_settling = true;
    }

    /// Keeps what the body of a failed pass had said when that ended, `n` pieces, as upstream does.
    pub(super) fn keep(&mut self, n: usize, sum: u64, body: &[u8], format: Format, tables: &Tables) {
        if sum != 0 && sum != self.sum {
            self.sum = sum;
            if self.take_over(n, body, format, tables, true) && self.n_passes_left == 0 {
                self.n_passes_left = PASSES_UNSEEN_MAX;
            }
        }
    }

    /// Makes the table of the first `n` pieces that `body` says and, field by field, what was said before; families that it does not name
    /// are left out unless `keeps_unseen`. Returns whether there are such in the table.
    fn take_over(
        &mut self,
        n: usize,
        body: &[u8],
        format: Format,
        tables: &Tables,
        keeps_unseen: bool,
    ) -> bool {
        let seen = read(body, format, n);
        let n_seen = seen.len();
        let mut families: BTreeMap<Box<str>, Family> = BTreeMap::new();
        for family in self.table.iter().flat_map(|table| table.iter()) {
            if keeps_unseen || seen.contains_key(&family.name) {
                families.insert(family.name.clone(), family.clone());
            }
        }
        for (name, said) in seen {
            let family = families.entry(name.clone()).or_insert_with(|| Family {
                name,
                kind: MetricType::Unknown,
                help: Box::default(),
                unit: Box::default(),
            });
            family.kind = said.kind.unwrap_or(family.kind);
            if let Some(help) = said.help {
                family.help = help;
            }
            if let Some(unit) = said.unit {
                family.unit = unit;
            }
        }
        let has_unseen = families.len() > n_seen;
        self.table = Some(tables.share(families.into_values().collect()));
        has_unseen
    }

    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        self.table.as_ref()
    }

    /// What successful passes said about a family.
    fn family(&self, name: &[u8]) -> Option<&Family> {
        let table = self.table.as_deref()?;
        let i = table.binary_search_by(|family| family.name.as_bytes().cmp(name)).ok()?;
        table.get(i)
    }
}

/// What a pass has said so far about the family whose lines follow. Allocates nothing as long as that is known.
///
/// Compat: prometheus `scrape/scrape_append_v2.go`, `lastMeta` and `lastMFName`.
pub(super) struct Current<'a> {
    name: &'a [u8],
    known: Option<&'a Family>,
    /// If the pass says something else.
    draft: Option<Metadata>,
    /// The store has to be told even if the pass says what is known.
    is_settling: bool,
}

impl<'a> Current<'a> {
    /// Goes on behind `before` by one entry. Entries of one family follow each other as a rule; where they do not,
    /// the next pass says it all, the table being complete by then.
    pub(super) fn follow(before: Option<Self>, entry: &Entry<'a>, memory: &'a Memory) -> Option<Self> {
        let name = match entry {
            Entry::Series(_) => return before,
            Entry::Type { family, .. } | Entry::Help { family, .. } | Entry::Unit { family, .. } => *family,
        };
        let mut current = before.filter(|current| current.name == name).unwrap_or_else(|| Current {
            name,
            known: memory.family(name),
            draft: None,
            is_settling: memory.is_settling,
        });
        let said = (&current.draft, current.known);
        let is_said = match entry {
            Entry::Series(_) => true,
            Entry::Type { kind, .. } => {
                let before = match said {
                    (Some(draft), _) => draft.kind,
                    (None, known) => known.map_or(MetricType::Unknown, |known| known.kind),
                };
                *kind == before
            }
            Entry::Help { text, .. } => is_same(text, said, |it| &it.help, |it| &it.help),
            Entry::Unit { unit, .. } => is_same(unit, said, |it| &it.unit, |it| &it.unit),
        };
        if !is_said {
            let draft = current.draft.get_or_insert_with(|| metadata_of(current.known));
            match entry {
                Entry::Series(_) => {}
                Entry::Type { kind, .. } => draft.kind = *kind,
                Entry::Help { text: help, .. } => draft.help = text(help),
                Entry::Unit { unit, .. } => draft.unit = text(unit),
            }
        }
        Some(current)
    }

    /// The type of the family.
    pub(super) fn kind(&self) -> MetricType {
        match (&self.draft, self.known) {
            (Some(draft), _) => draft.kind,
            (None, known) => known.map_or(MetricType::Unknown, |known| known.kind),
        }
    }

    /// Whether the series of this name is one of the family's.
    pub(super) fn owns(&self, name: &[u8]) -> bool {
        is_of_family(name, self.name, self.kind())
    }

    /// Whether series that the store knows need to be told.
    pub(super) fn is_news(&self) -> bool {
        self.is_settling || self.draft.is_some()
    }

    /// What to tell of the series of this name; `None` if it is none of the family's or there is nothing to tell.
    pub(super) fn of_series(&self, name: &[u8]) -> Option<Metadata> {
        let metadata = self.draft.clone().unwrap_or_else(|| metadata_of(self.known));
        let is_empty = metadata == Metadata::default();
        (!is_empty && is_of_family(name, self.name, metadata.kind)).then_some(metadata)
    }
}

fn metadata_of(known: Option<&Family>) -> Metadata {
    known.map_or_else(Metadata::default, |known| Metadata {
        kind: known.kind,
        unit: known.unit.clone(),
        help: known.help.clone(),
    })
}

fn is_same(
    text: &[u8],
    said: (&Option<Metadata>, Option<&Family>),
    of_draft: impl Fn(&Metadata) -> &str,
    of_known: impl Fn(&Family) -> &str,
) -> bool {
    let before = match said {
        (Some(draft), _) => of_draft(draft),
        (None, known) => known.map_or("", of_known),
    };
    before.as_bytes() == text
}

/// Whether a series of this name may be a line of the family.
///
/// Compat: prometheus `scrape/scrape.go`, `isSeriesPartOfFamily`.
fn is_of_family(name: &[u8], family: &[u8], kind: MetricType) -> bool {
    // The first suffix that fits decides, even where the name is the family's as it stands.
    let suffixes: &[&[u8]] = match kind {
        MetricType::Counter => &[b"_total"],
        MetricType::Histogram => &[b"_bucket", b"_sum", b"_count"],
        MetricType::GaugeHistogram => &[b"_bucket", b"_gsum", b"_gcount"],
        MetricType::Summary => &[b"_sum", b"_count"],
        MetricType::Info => &[b"_info"],
        MetricType::Unknown | MetricType::Gauge | MetricType::StateSet => &[],
    };
    let stem_of = |name: &'_ [u8]| {
        let n = suffixes.iter().find(|suffix| name.ends_with(suffix)).map_or(0, |suffix| suffix.len());
        name.len() - n
    };
    // The text format has the suffix in the family's name, too.
    let family_stem = match kind {
        MetricType::Counter | MetricType::Info => &family[..stem_of(family)],
        _ => family,
    };
    name.starts_with(family) && name[..stem_of(name)] == *family_stem
}

/// What a body says of a family.
#[derive(Default)]
struct Said {
    kind: Option<MetricType>,
    help: Option<Box<str>>,
    unit: Option<Box<str>>,
}

fn read(body: &[u8], format: Format, n: usize) -> BTreeMap<Box<str>, Said> {
    let mut families = BTreeMap::new();
    let mut n_left = n;
    if let Some(format) = format.text() {
        let mut parser = Parser::new(body, format);
        while n_left > 0
            && let Some(Ok(entry)) = parser.next()
        {
            n_left -= usize::from(!matches!(entry, Entry::Series(_)));
            note(&mut families, &entry);
        }
    } else {
        let mut parser = protobuf::Parser::new(body, HistogramOptions::default());
        while n_left > 0
            && let Some(Ok(item)) = parser.next()
        {
            if let protobuf::Item::Said(entry) = &item {
                n_left -= 1;
                note(&mut families, entry);
            }
        }
    }
    families
}

fn note(families: &mut BTreeMap<Box<str>, Said>, entry: &Entry<'_>) {
    let name = match entry {
        Entry::Series(_) => return,
        Entry::Type { family, .. } | Entry::Help { family, .. } | Entry::Unit { family, .. } => text(family),
    };
    if families.len() >= FAMILIES_MAX && !families.contains_key(&name) {
        return;
    }
    let family = families.entry(name).or_default();
    match entry {
        Entry::Series(_) => {}
        Entry::Type { kind, .. } => family.kind = Some(*kind),
        Entry::Help { text: help, .. } => family.help = Some(text(help)),
        Entry::Unit { unit, .. } => family.unit = Some(text(unit)),
    }
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_family_have_its_name_with_a_suffix_of_its_type() {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, Summary};
        for (name, family, kind, expected) in [
            ("a_total", "a", Counter, true),
            ("a_total", "a_total", Counter, true),
            ("a", "a", Counter, true),
            ("a", "a_total", Counter, false),
            ("a_created", "a", Counter, false),
            ("a_bucket", "a", Histogram, true),
            ("a_sum", "a", Histogram, true),
            ("a_gsum", "a", Histogram, false),
            ("a_gsum", "a", GaugeHistogram, true),
            ("a_bucket", "a", Summary, false),
            ("a_count", "a", Summary, true),
            // The suffix is taken off, whatever the family is called: upstream's word.
            ("a_sum", "a_sum", Histogram, false),
            ("a_info", "a", Info, true),
            ("a_info", "a_info", Info, true),
            ("ab", "a", Gauge, false),
            ("a", "a", Gauge, true),
        ] {
            assert_eq!(
                is_of_family(name.as_bytes(), family.as_bytes(), kind),
                expected,
                "{name} {family} {kind}"
            );
        }
    }
}
