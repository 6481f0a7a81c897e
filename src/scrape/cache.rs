//! The scrape cache: from the raw bytes of a metric line to the series it became last time.
//!
//! One cache per target, touched by one scrape of that target at a time, so it needs no lock. It holds one
//! slot of 24 bytes per line in the order of exposition and never the text. The next line is compared with
//! the next slot, which is nearly always right; else a few slots ahead are tried (lines vanished), then an
//! index that is built for this pass alone (the order changed). Only a miss parses labels.
//!
//! Equality is judged by a 64-bit hash under a key drawn at random per process, plus 16 bits of the length.
//! A false match would need two lines of one target to agree in all 80 bits: among a million lines of a
//! target, 5e11 pairs, its chance is below 3e-8 even if all lengths are equal, and a target cannot aim for
//! one, since it never learns the key or any hash.
//!
//! Which series a scrape has lost follows from two bits per slot, so there is no second map.
//!
//! Compat: prometheus `scrape/scrape.go`, `scrapeCache` (3.14), in what it keeps, not in how.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash, Hasher as _};

use foldhash::quality::RandomState;
use model::LabelsBuilder;
use model::storage::SeriesRef;
use model::wire::protobuf::Place;

use super::synthesis::Starts;

/// Slots ahead that are tried before the index is built.
const WINDOW: usize = 8;

/// What identifies a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    hash: u64,
    /// The length modulo 2^16.
    len: u16,
}

impl Key {
    /// The length of the line's name and labels, if that is below 2^16.
    #[inline]
    pub fn raw_len(self) -> usize {
        usize::from(self.len)
    }
}

/// Hashes lines; one per process.
#[derive(Clone, Debug, Default)]
pub struct Hasher(RandomState);

impl Hasher {
    /// `kind` is whatever else decides on the label set of a line, as the family's type does for `le`.
    pub fn key(&self, raw: &[u8], kind: u8) -> Key {
        // The kind is spread over the word, so that it cannot be made up for by the text.
        let spread = u64::from(kind).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Key { hash: self.0.hash_one(raw) ^ spread, len: low_u16(raw.len()) }
    }

    /// The key of a sample that has no line of its own but these labels.
    pub(super) fn key_of_labels(&self, labels: &LabelsBuilder) -> Key {
        let mut hasher = self.0.build_hasher();
        let mut n = 0_usize;
        for (name, value) in labels.iter() {
            (name, value).hash(&mut hasher);
            n += name.len() + value.len();
        }
        Key { hash: hasher.finish(), len: low_u16(n) }
    }

    pub(super) fn hash(&self, it: &impl Hash) -> u64 {
        self.0.hash_one(it)
    }

    /// The key of a sample of the metric with this hash, whose labels are `len` bytes.
    #[inline]
    pub(super) fn key_of_place(&self, metric: u64, place: Place, len: usize) -> Key {
        Key { hash: self.0.hash_one((metric, place)), len: low_u16(len) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the length modulo 2^16 is what is kept")]
const fn low_u16(len: usize) -> u16 {
    len as u16
}

/// What a line became.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u64,
    /// `None` for a line that relabelling dropped.
    series: Option<SeriesRef>,
    /// The pass in which the line was seen last.
    tick: u32,
    len: u16,
    /// Bits of [`Cache::bit`]: in which of the last two passes the series got a sample whose end is ours to mark.
    tracked: u8,
}

/// What [`Cache::lookup`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The line is this series; `again` if this pass has seen the line before.
    Hit { slot: u32, series: SeriesRef, again: bool },
    /// Relabelling dropped the line.
    Dropped,
    /// The line is new: parse it and call [`Cache::insert`] or [`Cache::insert_dropped`].
    Miss,
}

/// The lines of one target.
#[derive(Debug, Default)]
pub struct Cache {
    /// In the order of the last successful pass; lines that are new in this pass follow at the end.
    slots: Vec<Slot>,
    tick: u32,
    /// Where the next line should be.
    cursor: usize,
    /// How many slots there were when the pass began.
    n_before: usize,
    /// Lines of this pass that have a slot, each once.
    n_seen: usize,
    /// Series that the last pass tracked, and how many of them this pass has tracked again.
    n_tracked_before: usize,
    n_tracked_again: usize,
    n_tracked: usize,
    /// Of this pass once it left the order: where each hash is, and the slots in the order seen.
    detour: Option<Box<Detour>>,
    /// What is known of series whose start times are made up.
    starts: Starts,
}

#[derive(Debug, Default)]
struct Detour {
    index: HashMap<u64, u32, foldhash::fast::RandomState>,
    order: Vec<u32>,
}

impl Cache {
    /// Begins a pass over a body.
    pub fn begin(&mut self) {
        self.tick = self.tick.wrapping_add(1);
        self.cursor = 0;
        self.n_before = self.slots.len();
        self.n_seen = 0;
        self.n_tracked_again = 0;
        self.n_tracked = 0;
        self.detour = None;
        self.starts.begin();
    }

    pub(super) fn starts(&mut self) -> &mut Starts {
        &mut self.starts
    }

    /// Lines known, dropped ones among them.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The bytes of the slots.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The bit of [`Slot::tracked`] that stands for pass `tick`.
    const fn bit(tick: u32) -> u8 {
        1 << (tick & 1)
    }

    /// The line that should come next, if this pass follows the last one.
    #[inline]
    pub fn expected(&self) -> Option<Key> {
        let slot = self.slots.get(self.cursor).filter(|_| self.cursor < self.n_before)?;
        Some(Key { hash: slot.hash, len: slot.len })
    }

    #[inline]
    pub fn lookup(&mut self, key: Key) -> Lookup {
        let is = |slot: &Slot| slot.hash == key.hash && slot.len == key.len;
        let i = match self.slots.get(self.cursor) {
            Some(slot) if self.cursor < self.n_before && is(slot) => self.cursor,
            _ => match self.find(key) {
                Some(i) => i,
                None => return Lookup::Miss,
            },
        };
        let tick = self.tick;
        let slot = &mut self.slots[i];
        let again = slot.tick == tick;
        if !again {
            self.cursor = i + 1;
            slot.tick = tick;
            slot.tracked &= !Self::bit(tick);
            self.n_seen += 1;
            if let Some(detour) = &mut self.detour {
                detour.order.push(index_u32(i));
            }
        }
        match slot.series {
            Some(series) => Lookup::Hit { slot: index_u32(i), series, again },
            None => Lookup::Dropped,
        }
    }

    /// Looks beyond the next slot. Out of the way of the warm path.
    #[cold]
    fn find(&mut self, key: Key) -> Option<usize> {
        let is = |slot: &Slot| slot.hash == key.hash && slot.len == key.len;
        // From here on the order is recorded: up to now it was that of the slots.
        let first = self.detour.is_none();
        let (cursor, n_before) = (self.cursor, self.n_before);
        let detour = self.detour.get_or_insert_with(Box::default);
        if first {
            detour.order.reserve(n_before);
            detour.order.extend(0..index_u32(cursor));
        }
        let ahead = (cursor + 1).min(n_before)..(cursor + 1 + WINDOW).min(n_before);
        if let Some(i) = ahead.clone().find(|&i| is(&self.slots[i])) {
            return Some(i);
        }
        if detour.index.is_empty() {
            detour.index = self.slots.iter().enumerate().map(|(i, slot)| (slot.hash, index_u32(i))).collect();
        }
        let i = *detour.index.get(&key.hash)? as usize;
        is(&self.slots[i]).then_some(i)
    }

    /// Remembers a new line and its series; returns its slot.
    pub fn insert(&mut self, key: Key, series: SeriesRef) -> u32 {
        self.push(key, Some(series))
    }

    /// Remembers that a new line is dropped.
    pub fn insert_dropped(&mut self, key: Key) {
        self.push(key, None);
    }

    fn push(&mut self, key: Key, series: Option<SeriesRef>) -> u32 {
        let i = index_u32(self.slots.len());
        self.slots.push(Slot { hash: key.hash, series, tick: self.tick, len: key.len, tracked: 0 });
        self.n_seen += 1;
        if let Some(detour) = &mut self.detour {
            detour.order.push(i);
            if !detour.index.is_empty() || self.n_before == 0 {
                detour.index.insert(key.hash, i);
            }
        }
        i
    }

    /// The series of a slot got another ref.
    pub fn set_series(&mut self, slot: u32, series: SeriesRef) {
        self.slots[slot as usize].series = Some(series);
    }

    /// The series of `slot` got a sample in this pass, and its end is ours to mark.
    #[inline]
    pub fn track(&mut self, slot: u32) {
        let (now, before) = (Self::bit(self.tick), Self::bit(self.tick.wrapping_sub(1)));
        let slot = &mut self.slots[slot as usize];
        if slot.tracked & now == 0 {
            self.n_tracked += 1;
            self.n_tracked_again += usize::from(slot.tracked & before != 0);
            slot.tracked |= now;
        }
    }

    /// Ends a successful pass: hands the series that are missing from it to `lost`, forgets lines that
    /// were not seen and takes over the order of the pass.
    pub fn finish(&mut self, mut lost: impl FnMut(SeriesRef)) {
        let (now, before) = (Self::bit(self.tick), Self::bit(self.tick.wrapping_sub(1)));
        if self.n_tracked_again < self.n_tracked_before {
            let tick = self.tick;
            let is_here = |slot: &Slot| slot.tick == tick && slot.tracked & now != 0;
            let mut missing: HashSet<SeriesRef, foldhash::fast::RandomState> = self
                .slots
                .iter()
                .filter(|slot| slot.tracked & before != 0 && !is_here(slot))
                .filter_map(|slot| slot.series)
                .collect();
            // The series may have come under another spelling of its line.
            for slot in self.slots.iter().filter(|slot| is_here(slot)) {
                if let Some(series) = slot.series {
                    missing.remove(&series);
                }
            }
            // In the order of exposition, which is the order of the store.
            for slot in &self.slots {
                if let Some(series) = slot.series
                    && missing.remove(&series)
                {
                    lost(series);
                }
            }
        }
        if let Some(detour) = self.detour.take() {
            self.slots = detour.order.iter().map(|&i| self.slots[i as usize]).collect();
        } else if self.n_seen < self.slots.len() {
            // In order, but cut short.
            let tick = self.tick;
            self.slots.retain(|slot| slot.tick == tick);
        }
        if self.slots.capacity() > 2 * self.slots.len() + 16 {
            self.slots.shrink_to_fit();
        } else if self.n_before != self.slots.len() {
            // Room for an eighth more, not for twice: thousands of targets are all in this state.
            self.slots.shrink_to(self.slots.len() + self.slots.len() / 8);
        }
        self.n_tracked_before = self.n_tracked;
        self.starts.finish();
        debug_assert!(
            self.n_seen == self.slots.len(),
            "BUG: {} lines seen, {} kept",
            self.n_seen,
            self.slots.len()
        );
    }

    /// Ends a pass that failed, or stands for one that could not take place: hands every series that was
    /// tracked before to `lost`. Lines stay known, except those that were new in the failed pass, whose
    /// series the store may have forgotten with the batch.
    pub fn fail(&mut self, mut lost: impl FnMut(SeriesRef)) {
        let before = Self::bit(self.tick.wrapping_sub(1));
        self.slots.truncate(self.n_before);
        self.detour = None;
        for slot in &mut self.slots {
            if slot.tracked & before != 0
                && let Some(series) = slot.series
            {
                lost(series);
            }
            slot.tracked = 0;
        }
        self.n_tracked_before = 0;
    }

    /// Forgets everything, without marks: labels are about to be made by other rules.
    pub fn reset(&mut self) {
        *self = Self { tick: self.tick, ..Self::default() };
    }
}

fn index_u32(i: usize) -> u32 {
    u32::try_from(i).expect("a body of 1 GiB has fewer lines than 2^32")
}

#[cfg(test)]
mod tests;
