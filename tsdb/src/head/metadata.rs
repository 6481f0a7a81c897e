//! What the exposition says of metrics: each text is kept once, a series keeps its number.
//!
//! Compat: prometheus `tsdb`, `memSeries.meta`.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use model::storage::Metadata;
use model::{Labels, Timestamp};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::slab::NONE;
use super::{Head, Inner, Slot};

/// All metadata in use.
#[derive(Debug, Default)]
pub(super) struct Catalog(Mutex<Interned>);

#[derive(Debug, Default)]
struct Interned {
    hasher: RandomState,
    /// By id; nothing where an id is free.
    items: Vec<Option<Metadata>>,
    table: HashTable<u32>,
    free: Vec<u32>,
}

impl Catalog {
    pub(super) fn get(&self, id: u32) -> Option<Metadata> {
        self.0.lock().items.get(id as usize).cloned().flatten()
    }

    pub(super) fn is(&self, id: u32, metadata: &Metadata) -> bool {
        self.0.lock().items.get(id as usize).is_some_and(|known| known.as_ref() == Some(metadata))
    }

    pub(super) fn intern(&self, metadata: &Metadata) -> u32 {
        let Interned { hasher, items, table, free } = &mut *self.0.lock();
        let hash = hasher.hash_one(metadata);
        if let Some(&id) = table.find(hash, |&id| items[id as usize].as_ref() == Some(metadata)) {
            return id;
        }
        let id = free.pop().unwrap_or_else(|| {
            items.push(None);
            u32::try_from(items.len() - 1).expect("series, and so their metadata, have u32 ids")
        });
        items[id as usize] = Some(metadata.clone());
        table.insert_unique(hash, id, |&id| hasher.hash_one(items[id as usize].as_ref().expect("in use")));
        id
    }

    /// Forgets all but `used`.
    fn retain(&self, used: &RoaringBitmap) {
        let Interned { items, table, free, .. } = &mut *self.0.lock();
        table.retain(|&mut id| {
            let is_used = used.contains(id);
            if !is_used {
                items[id as usize] = None;
                free.push(id);
            }
            is_used
        });
    }

    fn is_empty(&self) -> bool {
        self.0.lock().table.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        let interned = self.0.lock();
        let texts: usize = interned.items.iter().flatten().map(|it| it.unit.len() + it.help.len()).sum();
        (texts + interned.items.capacity() * size_of::<Option<Metadata>>() + interned.table.allocation_size())
            as u64
    }
}

impl Inner {
    /// Forgets what no series has any more. Nobody is giving metadata to a series meanwhile: it is done under the lock of
    /// its shard, and all are held.
    pub(super) fn collect_metadata(&self) {
        if self.metadata.is_empty() {
            return;
        }
        let states: Vec<_> = self.shards.iter().map(|shard| shard.state.write()).collect();
        let used: RoaringBitmap = states.iter().flat_map(|state| state.metadata_ids()).collect();
        self.metadata.retain(&used);
    }

    /// Notes what the log says of a series.
    pub(super) fn replay_metadata(&self, slot: Slot, metadata: &Metadata) {
        if self.options.features.logs_metadata {
            let mut state = self.shards[slot.shard()].state.write();
            state.set_metadata(slot.idx(), self.metadata.intern(metadata));
        }
    }

    /// Brings an exemplar of the log back; those that are refused were so when they came.
    pub(super) fn replay_exemplar(&self, slot: Slot, exemplar: &model::Exemplar, min_valid_time: Timestamp) {
        if exemplar.t >= min_valid_time && self.exemplars.is_enabled() {
            let state = self.shards[slot.shard()].state.read();
            let series = self.registry.read().labels(state.cold[slot.idx()].id);
            drop(state);
            self.exemplars.restore(&series, exemplar);
        }
    }
}

impl Head {
    /// What is known of the metric of a series, if the store keeps that.
    pub fn metadata(&self, series: &Labels) -> Option<Metadata> {
        let inner = &*self.0;
        let slot = {
            let registry = inner.registry.read();
            registry.find_slot(registry.hash(series), series)?.1
        };
        let id = inner.shards[slot.shard()].state.read().metadata(slot.idx());
        (id != NONE).then(|| inner.metadata.get(id)).flatten()
    }
}
