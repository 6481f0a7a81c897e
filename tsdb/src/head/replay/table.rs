//! The table of series: who is in the log, under which refs, and where in the head they live.
//!
//! Records are unpacked, taken apart and hashed by any thread; one at a time puts what they define into the registry. No
//! label set is ever built: names and values go from the record to the ids of the registry, most of them
//! by comparison with those of the series before.
//!
//! Everything that a ref may mean is known before the first sample is looked at. That is the same as reading in order: a
//! series that was dropped has no samples behind that, and one that is defined again has another ref.

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashSet};
use model::storage::Metadata;
use model::{Labels, LabelsBuilder, TimeRange, Timestamp};

use super::super::registry::{PairMemo, hash_packed};
use super::super::series::LOGGED;
use super::super::slab::{ID_LIST_MAX, NONE};
use super::super::{Inner, Slot};
use crate::DecodeError;
use crate::wal::record::{self, Kind, RefTombstone};

/// From refs of the log to slots.
#[derive(Debug, Default)]
pub(in crate::head) struct Slots {
    /// By ref, where refs are dense enough.
    dense: Vec<Slot>,
    sparse: HashMap<u64, Slot>,
}

const NO_SLOT: Slot = Slot(NONE);

impl Slots {
    pub(in crate::head) fn insert(&mut self, series: u64, slot: Slot) {
        let dense_end = 4 * (self.dense.len() + 65_536);
        match usize::try_from(series) {
            Ok(at) if at < dense_end => {
                if at >= self.dense.len() {
                    self.dense.resize(at + 1, NO_SLOT);
                }
                self.dense[at] = slot;
            }
            _ => drop(self.sparse.insert(series, slot)),
        }
    }

    #[inline]
    pub(in crate::head) fn get(&self, series: u64) -> Option<Slot> {
        let dense = usize::try_from(series).ok().and_then(|at| self.dense.get(at)).copied();
        match dense.filter(|&slot| slot != NO_SLOT) {
            None => self.sparse.get(&series).copied(),
            found => found,
        }
    }

    /// No ref means one of these slots any more.
    fn forget(&mut self, gone: &HashSet<Slot>) {
        self.sparse.retain(|_, slot| !gone.contains(slot));
        self.dense.iter_mut().filter(|slot| gone.contains(slot)).for_each(|slot| *slot = NO_SLOT);
    }
}

/// A series as a record defines it, ready to be put into the registry.
#[derive(Debug)]
struct Definition {
    series: u64,
    /// Of its packed labels.
    hash: u64,
    shard: usize,
    /// Where its packed labels end; they begin where those of the one before end.
    end: usize,
}

/// Some definitions.
#[derive(Debug, Default)]
pub(in crate::head) struct Packed {
    /// Their label sets, one behind the other.
    labels: Vec<u8>,
    definitions: Vec<Definition>,
}

impl Packed {
    /// Adds a series; names that do not ascend are put in order.
    pub(in crate::head) fn push(
        &mut self,
        hasher: &RandomState,
        series: u64,
        shard: usize,
        pairs: &[(&[u8], &[u8])],
    ) {
        let start = self.labels.len();
        let is_sorted =
            pairs.windows(2).all(|pair| pair[0].0 < pair[1].0) && pairs.iter().all(|pair| !pair.1.is_empty());
        if is_sorted {
            Labels::pack_sorted(pairs.iter().copied(), &mut self.labels);
        } else {
            let mut builder = LabelsBuilder::default();
            for (name, value) in pairs {
                builder.set(name, value);
            }
            Labels::pack_sorted(builder.iter(), &mut self.labels);
        }
        let hash = hash_packed(hasher, &self.labels[start..]);
        self.definitions.push(Definition { series, hash, shard, end: self.labels.len() });
    }
}

/// What some records say of series.
#[derive(Debug)]
pub(super) enum Part {
    Series(Packed),
    Tombstones(Vec<RefTombstone>),
    Metadata(Vec<(u64, Metadata)>),
}

/// Takes a record apart; other kinds than those of the table yield nothing.
pub(super) fn prepare(
    inner: &Inner,
    hasher: &RandomState,
    record: &[u8],
    out: &mut Vec<Part>,
) -> Result<(), DecodeError> {
    match Kind::of(record) {
        Kind::Series => {
            let mut packed = Packed::default();
            let decoded = record::each_series(record, |series, pairs| {
                packed.push(hasher, series, inner.shard_of(affinity(pairs)), pairs);
            });
            out.push(Part::Series(packed));
            decoded
        }
        Kind::Tombstones => {
            let mut tombstones = Vec::new();
            let decoded = record::decode_tombstones(record, &mut tombstones);
            out.push(Part::Tombstones(tombstones));
            decoded
        }
        Kind::Metadata => {
            let mut all = Vec::new();
            let decoded = record::decode_metadata(record, |series, metadata| all.push((series, metadata)));
            out.push(Part::Metadata(all));
            decoded
        }
        _ => Ok(()),
    }
}

/// Series of one target belong together; its address is the best sign of one.
pub(in crate::head) fn affinity(pairs: &[(&[u8], &[u8])]) -> u64 {
    use std::hash::BuildHasher;
    let get = |name: &[u8]| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1);
    foldhash::fast::FixedState::with_seed(0).hash_one((get(b"job"), get(b"instance")))
}

/// The table under construction.
#[derive(Debug, Default)]
pub(in crate::head) struct Table {
    pub(in crate::head) slots: Slots,
    memo: PairMemo,
    /// Refs under which a series was defined again: their records must outlive the segments that use them.
    pub(super) outdated: Vec<u64>,
    /// Metadata and deletions of series that are not defined.
    pub(super) n_unknown: [u64; 2],
}

impl Table {
    pub(super) fn apply(&mut self, inner: &Inner, part: Part) {
        match part {
            Part::Series(packed) => self.define(inner, &packed),
            Part::Tombstones(tombstones) => self.bury(inner, &tombstones),
            Part::Metadata(all) => {
                for (series, metadata) in all {
                    match self.slots.get(series) {
                        Some(slot) => inner.replay_metadata(slot, &metadata),
                        None => self.n_unknown[0] += 1,
                    }
                }
            }
        }
    }

    pub(in crate::head) fn define(&mut self, inner: &Inner, packed: &Packed) {
        let mut states: Vec<_> = inner.shards.iter().map(|shard| shard.state.write()).collect();
        let mut registry = inner.registry.write();
        let (mut start, mut max_ref) = (0, 0);
        for &Definition { series, hash, shard: n, end } in &packed.definitions {
            let labels = &packed.labels[start..end];
            start = end;
            max_ref = max_ref.max(series);
            if labels.is_empty() {
                continue;
            }
            registry.intern_pairs(labels, &mut self.memo);
            if self.memo.ids().len() > ID_LIST_MAX {
                continue;
            }
            if let Some((_, slot)) = registry.find_ids(hash, self.memo.ids()) {
                if inner.shards[slot.shard()].line(slot.idx()).wal_ref() != series {
                    self.outdated.push(series);
                }
                self.slots.insert(series, slot);
                continue;
            }
            let state = &mut states[n];
            let Some((idx, generation)) = inner.shards[n].birth(state, series, LOGGED) else { continue };
            let slot = Slot::new(n, idx);
            let id = registry.create_visible(hash, self.memo.ids(), slot.0, generation);
            state.cold[idx].id = id;
            self.slots.insert(series, slot);
            inner.metrics.series_created.inc();
        }
        inner.last_ref.fetch_max(max_ref, std::sync::atomic::Ordering::Relaxed);
    }

    /// Refs that mean a series which the log calls otherwise, with what it calls it.
    pub(super) fn aliases(&self, inner: &Inner) -> Vec<(u64, u64)> {
        let name = |slot: Slot| inner.shards[slot.shard()].line(slot.idx()).wal_ref();
        let aliases =
            self.outdated.iter().filter_map(|&series| Some((series, name(self.slots.get(series)?))));
        aliases.filter(|(series, name)| series != name).collect()
    }

    fn bury(&mut self, inner: &Inner, tombstones: &[RefTombstone]) {
        let mut gone = HashSet::default();
        for tombstone in tombstones {
            // Its record may be gone; the ref was used all the same.
            inner.last_ref.fetch_max(tombstone.series, std::sync::atomic::Ordering::Relaxed);
            let Some(slot) = self.slots.get(tombstone.series) else {
                self.n_unknown[1] += 1;
                continue;
            };
            if (tombstone.mint, tombstone.maxt) == (Timestamp::MIN, Timestamp::MAX) {
                gone.insert(slot);
            } else {
                let id = inner.shards[slot.shard()].state.read().cold[slot.idx()].id;
                // Of old times, too: late samples may be there. What hides nothing is forgotten when all is read.
                let span = TimeRange::new(tombstone.mint, tombstone.maxt);
                inner.registry.write().delete(id, span);
            }
        }
        if !gone.is_empty() {
            self.forget(inner, &gone);
        }
    }

    /// A tombstone over all times says that the series was dropped; a later record may define it anew. Those of one
    /// record are dropped together, since all refs have to be looked at.
    fn forget(&mut self, inner: &Inner, gone: &HashSet<Slot>) {
        let mut dead = Vec::with_capacity(gone.len());
        for &slot in gone {
            let shard = &inner.shards[slot.shard()];
            let mut state = shard.state.write();
            self.outdated.push(shard.line(slot.idx()).wal_ref());
            dead.push(state.cold[slot.idx()].id);
            shard.death(&mut state, slot.idx());
        }
        inner.registry.write().remove(&dead, false);
        // Pairs may have other ids now.
        self.memo = PairMemo::default();
        inner.metrics.series_removed.add(dead.len() as u64);
        self.slots.forget(gone);
    }
}
