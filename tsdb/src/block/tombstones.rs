//! `tombstones`: what was deleted from a block and is still in its chunks.
//!
//! The file is replaced as a whole; a block in service never changes its own, see [`super::Block::with_tombstones`].
//!
//! Compat: prometheus `tsdb/tombstones`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use model::{Position, SampleBatch, TimeRange, Timestamp};

use crate::bytes::{Cursor, put_uvarint, put_varint};
use crate::{DecodeError, Error, Result, fs};

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;

/// The content of a file without entries.
pub(crate) const EMPTY_FILE: [u8; 9] = [0x01, 0x30, 0xBA, 0x30, VERSION, 0, 0, 0, 0];

/// Deleted spans by series ref.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    /// Ascending and disjoint per series, both ends inside.
    spans: HashMap<u64, Vec<TimeRange>, foldhash::fast::RandomState>,
    size: u64,
}

impl Tombstones {
    /// Reads the file at `path`; a missing one deletes nothing.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let Some(bytes) = fs::read_if_exists(path)? else { return Ok(Self::default()) };
        let mut tombstones =
            Self::decode(&bytes).map_err(|e| Error::corrupt(path, u64::from(e.offset), e.what))?;
        tombstones.size = bytes.len() as u64;
        Ok(tombstones)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fail = |what| Err(DecodeError { what, offset: 0 });
        let Some((content, sum)) = bytes.split_last_chunk::<4>() else {
            return fail("tombstones too short");
        };
        let mut cursor = Cursor::new(content);
        if cursor.u32()? != MAGIC {
            return fail("not tombstones: wrong magic number");
        }
        if cursor.u8()? != VERSION {
            return fail("tombstones of an unknown version");
        }
        // The checksum is over the entries alone.
        let mut entries = cursor;
        if crc32c::crc32c(entries.take(entries.remaining())?) != u32::from_be_bytes(*sum) {
            return fail("checksum of the tombstones does not match");
        }
        let mut spans: HashMap<u64, Vec<TimeRange>, _> = HashMap::default();
        while !cursor.is_empty() {
            let series = cursor.uvarint()?;
            spans.entry(series).or_default().push(TimeRange::new(cursor.varint()?, cursor.varint()?));
        }
        for spans in spans.values_mut() {
            merge(spans);
        }
        Ok(Self { spans, size: 0 })
    }

    /// Puts the file at `path` in the place of the one there, if any.
    ///
    /// # Errors
    /// It cannot be written: the old one is still there.
    pub(crate) fn save(&mut self, path: &Path) -> Result<()> {
        let bytes = self.encode();
        fs::replace(path, &bytes)?;
        self.size = bytes.len() as u64;
        Ok(())
    }

    /// The content of a file, by series and time, so that equal deletions give equal files.
    fn encode(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for (&series, spans) in self.spans.iter().collect::<BTreeMap<_, _>>() {
            for span in spans {
                put_uvarint(&mut entries, series);
                put_varint(&mut entries, span.mint);
                put_varint(&mut entries, span.maxt);
            }
        }
        let mut out = EMPTY_FILE[..5].to_vec();
        out.extend_from_slice(&entries);
        out.extend(crc32c::crc32c(&entries).to_be_bytes());
        out
    }

    /// Deletes a span of a series, too, and says whether that was anything new.
    pub(crate) fn add(&mut self, series: u32, span: TimeRange) -> bool {
        add(self.spans.entry(u64::from(series)).or_default(), span)
    }

    /// The number of spans of all series.
    pub(crate) fn len(&self) -> usize {
        self.spans.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    /// The deleted spans of a series, ascending and disjoint.
    pub fn spans(&self, series_ref: u32) -> &[TimeRange] {
        self.spans.get(&u64::from(series_ref)).map_or(&[], Vec::as_slice)
    }
}

/// Puts `span` among ascending and disjoint ones, and says whether that made a difference.
pub(crate) fn add(spans: &mut Vec<TimeRange>, span: TimeRange) -> bool {
    if span.mint > span.maxt || covers(spans, span.mint, span.maxt) {
        return false;
    }
    spans.push(span);
    merge(spans);
    true
}

/// Sorts the spans and joins those that overlap or touch.
fn merge(spans: &mut Vec<TimeRange>) {
    spans.sort_by_key(|span| span.mint);
    spans.dedup_by(|next, kept| {
        let touches = next.mint <= kept.maxt.saturating_add(1);
        if touches {
            kept.maxt = kept.maxt.max(next.maxt);
        }
        touches
    });
}

/// Whether one of `spans` holds all of `mint..=maxt`.
pub(crate) fn covers(spans: &[TimeRange], mint: Timestamp, maxt: Timestamp) -> bool {
    spans.iter().any(|span| span.mint <= mint && maxt <= span.maxt)
}

/// Drops the samples from position `from` on that lie in one of `spans`.
pub(crate) fn apply(spans: &[TimeRange], batch: &mut SampleBatch, start: Position) {
    batch.retain_from(start, |t| !spans.iter().any(|span| span.contains(t)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{put_uvarint, put_varint};

    fn file(entries: &[(u64, i64, i64)]) -> Vec<u8> {
        let mut body = Vec::new();
        for &(series, mint, maxt) in entries {
            put_uvarint(&mut body, series);
            put_varint(&mut body, mint);
            put_varint(&mut body, maxt);
        }
        let mut out = EMPTY_FILE[..5].to_vec();
        out.extend_from_slice(&body);
        out.extend(crc32c::crc32c(&body).to_be_bytes());
        out
    }

    #[test]
    fn joins_what_overlaps_or_touches() {
        let bytes = file(&[(3, 10, 20), (5, 1, 1), (3, 21, 30), (3, -5, 2), (3, 40, 50), (3, 12, 14)]);
        let tombstones = Tombstones::decode(&bytes).unwrap();
        let spans = [(-5, 2), (10, 30), (40, 50)].map(|(mint, maxt)| TimeRange::new(mint, maxt));
        assert_eq!(tombstones.spans(3), spans);
        assert_eq!(tombstones.spans(4), []);
        let mut batch = SampleBatch::default();
        (0..60).step_by(9).for_each(|t| batch.push(t, 0.0));
        apply(&spans, &mut batch, Position { float: 1, histogram: 0 });
        assert_eq!(batch.ts, [0, 9, 36, 54]);
    }

    #[test]
    fn what_was_added_is_read_back() {
        let mut tombstones = Tombstones::default();
        let span = TimeRange::new;
        assert!(tombstones.add(7, span(10, 20)));
        assert!(!tombstones.add(7, span(12, 20)), "nothing new");
        assert!(!tombstones.add(7, span(12, 11)), "nothing at all");
        assert!(tombstones.add(7, span(21, 25)));
        assert!(tombstones.add(7, span(-5, -1)));
        assert!(tombstones.add(3, span(i64::MIN, i64::MAX)));
        assert_eq!(tombstones.len(), 3);
        assert_eq!(
            tombstones.encode(),
            file(&[(3, i64::MIN, i64::MAX), (7, -5, -1), (7, 10, 25)]),
            "in order of series and time"
        );
        let read = Tombstones::decode(&tombstones.encode()).unwrap();
        assert_eq!(read.spans(7), [span(-5, -1), span(10, 25)]);
        assert_eq!(Tombstones::default().encode(), EMPTY_FILE);
    }

    #[test]
    fn an_empty_file_deletes_nothing_and_damage_is_an_error() {
        assert!(Tombstones::decode(&EMPTY_FILE).unwrap().is_empty());
        assert_eq!(file(&[]), EMPTY_FILE);
        let good = file(&[(3, 10, 20), (7, 1, 300)]);
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x40;
            assert!(Tombstones::decode(&bad).is_err(), "byte {i}");
            assert!(Tombstones::decode(&good[..i]).is_err(), "{i} bytes");
        }
    }
}
