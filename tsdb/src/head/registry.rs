//! Who is in the head: symbols, label pairs, the label sets of series and the postings that find them.
//!
//! Strings exist once; a pair of name and value has an id; a series is a sorted list of pair ids. A series' own
//! id ascends with its creation and is what postings hold. Samples never pass here: only creation,
//! selection and the garbage collection after a truncation take the lock around this.
//!
//! When many series are gone the others are given lower ids. So an id means something only to who has held a
//! shard or the head's pin ever since it was looked up.

use std::hash::BuildHasher;

use foldhash::HashMap;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use model::matcher::Values;
use model::{Labels, Matcher, TimeRange, Timestamp};
use roaring::RoaringBitmap;

use super::Slot;
use super::postings::Postings;
use super::slab::{ID_LIST_MAX, IdLists, NONE, Paged};
use crate::block::tombstones;

/// Unique strings, by id.
#[derive(Debug, Default)]
struct Symbols {
    blocks: Vec<Vec<u8>>,
    /// Block, offset and length of each.
    spans: Paged<(u32, u32, u32)>,
    table: HashTable<u32>,
}

const BLOCK_BYTES: usize = 64 << 10;

impl Symbols {
    fn get(&self, id: u32) -> &[u8] {
        let (block, at, len) = self.spans[id];
        &self.blocks[block as usize][at as usize..(at + len) as usize]
    }

    fn find(&self, hasher: &RandomState, bytes: &[u8]) -> Option<u32> {
        self.table.find(hasher.hash_one(bytes), |&id| self.get(id) == bytes).copied()
    }

    fn intern(&mut self, hasher: &RandomState, bytes: &[u8]) -> u32 {
        if let Some(id) = self.find(hasher, bytes) {
            return id;
        }
        if self.blocks.last().is_none_or(|block| block.capacity() - block.len() < bytes.len()) {
            self.blocks.push(Vec::with_capacity(BLOCK_BYTES.max(bytes.len())));
        }
        let block = self.blocks.last_mut().expect("one was pushed if there was none");
        let at = u32::try_from(block.len()).expect("blocks are small");
        block.extend_from_slice(bytes);
        let len = u32::try_from(bytes.len()).expect("labels are below 16 MiB");
        let id = self.spans.push((u32::try_from(self.blocks.len() - 1).expect("few blocks"), at, len));
        let (table, spans, blocks) = (&mut self.table, &self.spans, &self.blocks);
        table.insert_unique(hasher.hash_one(bytes), id, |&id| {
            let (block, at, len) = spans[id];
            hasher.hash_one(&blocks[block as usize][at as usize..(at + len) as usize])
        });
        id
    }
}

#[derive(Debug)]
struct Pair {
    name: u32,
    value: u32,
    /// How many visible series carry it.
    n_visible: u32,
    postings: Postings,
}

/// Ids of the dead are not worth a thought while they are fewer: 64 KiB.
const DEAD_IDS_MIN: u32 = 4096;

/// Bytes of the registry by what they are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) symbols: u64,
    pub(super) pairs: u64,
    pub(super) label_sets: u64,
    pub(super) series: u64,
    pub(super) postings: u64,
}

/// What the registry knows of one series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Shard and index, packed; `NONE` once the series is gone.
    pub(super) slot: u32,
    hash: u32,
    labels: u32,
    n_labels: u16,
    pub(super) generation: u16,
}

/// The pairs of the series looked at last: most labels of the next one are the same.
#[derive(Debug, Default)]
pub(super) struct PairMemo {
    packed: Vec<u8>,
    /// Where each pair ends in `packed`.
    ends: Vec<usize>,
    ids: Vec<u32>,
    next_ids: Vec<u32>,
}

impl PairMemo {
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }
}

/// As [`Registry::hash`], by a registry's hasher.
pub(super) fn hash_packed(hasher: &RandomState, packed: &[u8]) -> u64 {
    hasher.hash_one(packed)
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    hasher: RandomState,
    symbols: Symbols,
    pairs: Paged<Pair>,
    pair_table: HashTable<u32>,
    /// The pairs of each name, in order of creation.
    by_name: HashMap<u32, Vec<u32>>,
    label_ids: IdLists,
    series: Paged<Entry>,
    series_table: HashTable<u32>,
    /// Series whose creation was committed.
    pub(super) visible: RoaringBitmap,
    /// Label lists of series that are gone, kept while somebody may still look.
    limbo: Vec<u32>,
    /// Deleted spans by series id.
    tombstones: HashMap<u32, Vec<TimeRange>>,
}

impl Registry {
    pub(super) fn hash(&self, labels: &Labels) -> u64 {
        self.hasher.hash_one(labels.as_bytes())
    }

    pub(super) fn hasher(&self) -> RandomState {
        self.hasher.clone()
    }

    pub(super) fn entry(&self, id: u32) -> Entry {
        self.series[id]
    }

    pub(super) fn n_series(&self) -> u64 {
        self.visible.len()
    }

    /// All series, those of batches that are still open among them.
    pub(super) fn n_created(&self) -> u64 {
        self.series_table.len() as u64
    }

    pub(super) fn find(&self, hash: u64, labels: &Labels) -> Option<u32> {
        self.series_table
            .find(spread(low(hash)), |&id| self.series[id].hash == low(hash) && self.has_labels(id, labels))
            .copied()
    }

    /// As [`Registry::find`], with where the series lives.
    pub(super) fn find_slot(&self, hash: u64, labels: &Labels) -> Option<(u32, Slot, u16)> {
        let id = self.find(hash, labels)?;
        let entry = self.series[id];
        Some((id, Slot(entry.slot), entry.generation))
    }

    fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        let mut wanted = labels.iter();
        self.pair_ids(id).iter().all(|&pair| wanted.next() == Some(self.pair_text(pair)))
            && wanted.next().is_none()
    }

    /// Adds a series that is not visible yet.
    pub(super) fn create(&mut self, hash: u64, labels: &Labels, slot: u32, generation: u16) -> u32 {
        let pairs: Vec<u32> = labels.iter().map(|(name, value)| self.intern_pair(name, value)).collect();
        self.create_of_pairs(hash, &pairs, slot, generation)
    }

    fn create_of_pairs(&mut self, hash: u64, pairs: &[u32], slot: u32, generation: u16) -> u32 {
        assert!(pairs.len() <= ID_LIST_MAX, "BUG: series of {} labels", pairs.len());
        let n_labels = u16::try_from(pairs.len()).expect("asserted above");
        let handle = self.label_ids.alloc(pairs);
        let id = self.series.push(Entry { slot, hash: low(hash), labels: handle, n_labels, generation });
        for &pair in pairs {
            self.pairs[pair].postings.push(id);
        }
        let series = &self.series;
        self.series_table.insert_unique(spread(low(hash)), id, |&id| spread(series[id].hash));
        id
    }

    /// Interns the pairs of a label set, as [`Labels::as_bytes`] holds them; their ids are the memo's then.
    pub(super) fn intern_pairs(&mut self, packed: &[u8], memo: &mut PairMemo) {
        memo.next_ids.clear();
        let mut pairs = model::labels::unpack(packed);
        let (mut start, mut old_start) = (0, 0);
        let mut new_ends: smallvec::SmallVec<[usize; 32]> = smallvec::SmallVec::new();
        while let Some((name, value)) = pairs.next() {
            let end = packed.len() - pairs.rest().len();
            let at = memo.next_ids.len();
            let old_end = memo.ends.get(at).copied().unwrap_or(old_start);
            let is_same = packed[start..end] == memo.packed[old_start..old_end];
            let id = if is_same { memo.ids[at] } else { self.intern_pair(name, value) };
            memo.next_ids.push(id);
            new_ends.push(end);
            (start, old_start) = (end, old_end);
        }
        memo.packed.clear();
        memo.packed.extend_from_slice(packed);
        memo.ends.clear();
        memo.ends.extend_from_slice(&new_ends);
        std::mem::swap(&mut memo.ids, &mut memo.next_ids);
    }

    /// The series of these pairs and where it lives; `hash` is that of its labels.
    pub(super) fn find_ids(&self, hash: u64, pairs: &[u32]) -> Option<(u32, Slot)> {
        let is_it = |&id: &u32| self.series[id].hash == low(hash) && self.pair_ids(id) == pairs;
        let id = *self.series_table.find(spread(low(hash)), is_it)?;
        Some((id, Slot(self.series[id].slot)))
    }

    /// As [`Registry::create`] and [`Registry::publish`], of interned pairs.
    pub(super) fn create_visible(&mut self, hash: u64, pairs: &[u32], slot: u32, generation: u16) -> u32 {
        let id = self.create_of_pairs(hash, pairs, slot, generation);
        for &pair in pairs {
            self.pairs[pair].n_visible += 1;
        }
        self.visible.insert(id);
        id
    }

    /// Shows a series to queries from now on, unless it is gone.
    pub(super) fn publish(&mut self, id: u32) {
        if self.series[id].slot != NONE && self.visible.insert(id) {
            self.count_visible(id, 1);
        }
    }

    fn count_visible(&mut self, id: u32, by: i32) {
        let entry = self.series[id];
        for &pair in self.label_ids.get(entry.labels, usize::from(entry.n_labels)) {
            let n = &mut self.pairs[pair].n_visible;
            *n = n.saturating_add_signed(by);
        }
    }

    fn intern_pair(&mut self, name: &[u8], value: &[u8]) -> u32 {
        let name = self.symbols.intern(&self.hasher, name);
        let value = self.symbols.intern(&self.hasher, value);
        let hash = self.hasher.hash_one((name, value));
        let is_it = |&id: &u32| (self.pairs[id].name, self.pairs[id].value) == (name, value);
        if let Some(&id) = self.pair_table.find(hash, is_it) {
            return id;
        }
        let id = self.pairs.push(Pair { name, value, n_visible: 0, postings: Postings::default() });
        let (pairs, hasher) = (&self.pairs, &self.hasher);
        self.pair_table.insert_unique(hash, id, |&id| hasher.hash_one((pairs[id].name, pairs[id].value)));
        self.by_name.entry(name).or_default().push(id);
        id
    }

    fn find_pair(&self, name: &[u8], value: &[u8]) -> Option<u32> {
        let name = self.symbols.find(&self.hasher, name)?;
        let value = self.symbols.find(&self.hasher, value)?;
        let hash = self.hasher.hash_one((name, value));
        self.pair_table
            .find(hash, |&id| (self.pairs[id].name, self.pairs[id].value) == (name, value))
            .copied()
    }

    pub(super) fn pair_ids(&self, id: u32) -> &[u32] {
        let entry = self.series[id];
        self.label_ids.get(entry.labels, usize::from(entry.n_labels))
    }

    pub(super) fn pair_text(&self, pair: u32) -> (&[u8], &[u8]) {
        let pair = &self.pairs[pair];
        (self.symbols.get(pair.name), self.symbols.get(pair.value))
    }

    pub(super) fn labels(&self, id: u32) -> Labels {
        Labels::from_sorted(self.pair_ids(id).iter().map(|&pair| self.pair_text(pair)))
    }

    /// The rank of every pair in the order of names and values, so that label sets compare as integers.
    pub(super) fn pair_ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.pairs.len()).collect();
        order.sort_unstable_by(|&a, &b| self.pair_text(a).cmp(&self.pair_text(b)));
        let mut ranks = vec![0; order.len()];
        for (rank, pair) in order.into_iter().enumerate() {
            ranks[pair as usize] = u32::try_from(rank).expect("pairs have u32 ids");
        }
        ranks
    }

    /// As [`Registry::pair_ranks`], of the pairs of some series alone; others have no rank.
    pub(super) fn pair_ranks_of(&self, ids: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut ranks = vec![NONE; self.pairs.len() as usize];
        let mut order = Vec::new();
        for id in ids {
            for &pair in self.pair_ids(id) {
                if ranks[pair as usize] == NONE {
                    ranks[pair as usize] = 0;
                    order.push(pair);
                }
            }
        }
        order.sort_unstable_by(|&a, &b| self.pair_text(a).cmp(&self.pair_text(b)));
        for (rank, pair) in (0..).zip(order) {
            ranks[pair as usize] = rank;
        }
        ranks
    }

    /// Puts series in the order of their labels.
    ///
    /// Label by label: the rank of each is fetched once per series, where comparing series with one another would fetch
    /// it some twenty times from wherever it lies.
    pub(super) fn sort_by_labels(&self, ids: &mut [u32]) {
        const FEW: usize = 16;
        let ranks = self.pair_ranks();
        let ranks_of = |id: u32| self.pair_ids(id).iter().map(|&pair| ranks[pair as usize]);
        let mut keyed: Vec<(u32, u32)> = ids.iter().map(|&id| (0, id)).collect();
        // Series that are alike up to a label, and how many labels that is.
        let mut alike = vec![(0..keyed.len(), 0)];
        while let Some((range, depth)) = alike.pop() {
            let group = &mut keyed[range.clone()];
            for (key, id) in &mut *group {
                // A set that ends here comes before those that go on.
                *key = self.pair_ids(*id).get(depth).map_or(0, |&pair| ranks[pair as usize] + 1);
            }
            group.sort_unstable();
            let mut start = range.start;
            for group in group.chunk_by_mut(|a, b| a.0 == b.0) {
                if group.len() > FEW {
                    alike.push((start..start + group.len(), depth + 1));
                } else if group.len() > 1 {
                    group.sort_unstable_by(|a, b| ranks_of(a.1).cmp(ranks_of(b.1)));
                }
                start += group.len();
            }
        }
        for (id, (_, sorted)) in ids.iter_mut().zip(keyed) {
            *id = sorted;
        }
    }

    /// Every string in the labels of the series, sorted and unique.
    pub(super) fn symbols_of(&self, ids: impl Iterator<Item = u32>) -> Vec<Box<[u8]>> {
        let mut is_used = vec![false; self.symbols.spans.len() as usize];
        for id in ids {
            for &pair in self.pair_ids(id) {
                let pair = &self.pairs[pair];
                is_used[pair.name as usize] = true;
                is_used[pair.value as usize] = true;
            }
        }
        let used = (0..).zip(is_used).filter(|&(_, is_used)| is_used);
        let mut symbols: Vec<&[u8]> = used.map(|(symbol, _)| self.symbols.get(symbol)).collect();
        symbols.sort_unstable();
        symbols.into_iter().map(Into::into).collect()
    }

    // === selection ===

    /// The visible series that pass all matchers.
    ///
    /// A matcher that a series without the label fails is intersected with; one that it passes is turned around
    /// and subtracted, after all others. Compat: prometheus `tsdb`, `PostingsForMatchers`.
    pub(super) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found = self.visible.clone();
        let (subtracting, intersecting): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| m.matches_empty());
        for matcher in intersecting {
            let mut ids = RoaringBitmap::new();
            self.each_value_where(matcher, true, &mut |pair| pair.postings.add_to(&mut ids));
            found &= ids;
            if found.is_empty() {
                return found;
            }
        }
        for matcher in subtracting {
            let mut ids = RoaringBitmap::new();
            self.each_value_where(matcher, false, &mut |pair| pair.postings.add_to(&mut ids));
            found -= ids;
        }
        found
    }

    /// Visits the pairs of the matcher's name on whose value it says `verdict`, each value judged once.
    fn each_value_where<'a>(&'a self, matcher: &Matcher, verdict: bool, visit: &mut dyn FnMut(&'a Pair)) {
        let mut look_up = |value: &[u8]| {
            if let Some(pair) = self.find_pair(&matcher.name, value) {
                visit(&self.pairs[pair]);
            }
        };
        let takes_all = match matcher.values(verdict) {
            Values::None => return,
            Values::One(value) => return look_up(value),
            Values::Set(values) => return values.iter().for_each(|value| look_up(value)),
            Values::Prefixed(_) => false,
            Values::All => true,
        };
        for &id in self.pairs_of(&matcher.name) {
            let pair = &self.pairs[id];
            if takes_all || matcher.matches(self.symbols.get(pair.value)) == verdict {
                visit(pair);
            }
        }
    }

    fn pairs_of(&self, name: &[u8]) -> &[u32] {
        let name = self.symbols.find(&self.hasher, name);
        name.and_then(|name| self.by_name.get(&name)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn label_values(&self, name: &[u8], among: Option<&RoaringBitmap>) -> Vec<Box<[u8]>> {
        let mut values: Vec<&[u8]> = self
            .pairs_of(name)
            .iter()
            .map(|&id| &self.pairs[id])
            .filter(|pair| pair.n_visible > 0 && among.is_none_or(|among| touches(&pair.postings, among)))
            .map(|pair| self.symbols.get(pair.value))
            .collect();
        values.sort_unstable();
        values.into_iter().map(Into::into).collect()
    }

    pub(super) fn label_names(&self, among: Option<&RoaringBitmap>) -> Vec<Box<[u8]>> {
        let mut names: Vec<&[u8]> = match among {
            None => {
                let is_visible = |pairs: &[u32]| pairs.iter().any(|&id| self.pairs[id].n_visible > 0);
                self.by_name.iter().filter(|(_, pairs)| is_visible(pairs)).map(|(&name, _)| name).collect()
            }
            Some(among) => {
                let mut seen = RoaringBitmap::new();
                for id in among {
                    seen.extend(self.pair_ids(id).iter().map(|&pair| self.pairs[pair].name));
                }
                seen.iter().collect::<Vec<_>>()
            }
        }
        .into_iter()
        .map(|name| self.symbols.get(name))
        .collect();
        names.sort_unstable();
        names.into_iter().map(Into::into).collect()
    }

    /// Visits name, value and number of series of every pair in use.
    pub(super) fn each_pair<'a>(&'a self, mut visit: impl FnMut(&'a [u8], &'a [u8], u32)) {
        for pair in self.pairs.iter().filter(|pair| pair.n_visible > 0) {
            visit(self.symbols.get(pair.name), self.symbols.get(pair.value), pair.n_visible);
        }
    }

    // === deletion ===

    /// Hides the samples of a series in `span`.
    pub(super) fn delete(&mut self, id: u32, span: TimeRange) {
        tombstones::add(self.tombstones.entry(id).or_default(), span);
    }

    /// The deleted spans of a series, ascending and disjoint.
    pub(super) fn deleted(&self, id: u32) -> &[TimeRange] {
        self.tombstones.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Forgets deletions that end before `mint`.
    pub(super) fn truncate_deletions(&mut self, mint: Timestamp) {
        self.tombstones.retain(|_, spans| {
            spans.retain(|span| span.maxt >= mint);
            !spans.is_empty()
        });
        self.tombstones.shrink_to_fit();
    }

    // === garbage ===

    /// Forgets series. While `is_watched` somebody may still ask for their labels.
    pub(super) fn remove(&mut self, ids: &[u32], is_watched: bool) {
        let dead: RoaringBitmap = ids.iter().copied().collect();
        let mut touched = RoaringBitmap::new();
        for &id in ids {
            touched.extend(self.pair_ids(id).iter().copied());
            if self.visible.remove(id) {
                self.count_visible(id, -1);
            }
            if let Ok(found) = self.series_table.find_entry(spread(self.series[id].hash), |&it| it == id) {
                found.remove();
            }
            self.series[id].slot = NONE;
            self.limbo.push(id);
        }
        for pair in touched {
            self.pairs[pair].postings = self.pairs[pair].postings.without(&dead);
        }
        if !is_watched {
            self.tidy();
        }
    }

    /// Gives memory of the dead back; ids of pairs and series may change, so nobody may be watching.
    fn tidy(&mut self) {
        for id in std::mem::take(&mut self.limbo) {
            // Only now: who still reads its samples must not see those deleted come back.
            self.tombstones.remove(&id);
            let entry = &mut self.series[id];
            self.label_ids.free(entry.labels, usize::from(entry.n_labels));
            entry.n_labels = 0;
        }
        let n_dead = self.pairs.iter().filter(|pair| pair.postings.is_empty()).count();
        if n_dead * 10 > self.pairs.len() as usize * 3 {
            self.rebuild_names();
        }
    }

    #[cfg(test)]
    pub(super) fn n_ids(&self) -> u32 {
        self.series.len()
    }

    fn n_dead_ids(&self) -> u32 {
        let n_living = u32::try_from(self.series_table.len()).expect("series have u32 ids");
        self.series.len() - n_living
    }

    /// Whether many ids are those of the dead, all of whom are forgotten.
    pub(super) fn is_worth_renumbering(&self) -> bool {
        let n_dead = self.n_dead_ids();
        self.limbo.is_empty() && n_dead >= DEAD_IDS_MIN && n_dead > self.series.len() / 10 * 3
    }

    /// Gives the living the lowest ids in the order they have; returns the new id by the old one. Nobody else may
    /// know an id.
    pub(super) fn renumber(&mut self) -> Vec<Option<u32>> {
        let old = std::mem::take(&mut self.series);
        let mut new_ids = Vec::with_capacity(old.len() as usize);
        for entry in old.into_items() {
            new_ids.push((entry.slot != NONE).then(|| self.series.push(entry)));
        }
        let series = &self.series;
        self.series_table = HashTable::with_capacity(series.len() as usize);
        for id in 0..series.len() {
            let hash_of = |&id: &u32| spread(series[id].hash);
            self.series_table.insert_unique(hash_of(&id), id, hash_of);
        }
        let new_id = |id: u32| new_ids[id as usize];
        self.visible = self.visible.iter().filter_map(new_id).collect();
        let tombstones = std::mem::take(&mut self.tombstones);
        self.tombstones =
            tombstones.into_iter().filter_map(|(id, spans)| Some((new_id(id)?, spans))).collect();
        for pair in 0..self.pairs.len() {
            let pair = &mut self.pairs[pair];
            pair.postings = pair.postings.renumbered(&new_ids);
        }
        new_ids
    }

    pub(super) fn memory(&self) -> Memory {
        let symbols = &self.symbols;
        let texts: usize = symbols.blocks.iter().map(Vec::capacity).sum();
        let lists: usize = self.by_name.values().map(|pairs| pairs.capacity() * 4 + 32).sum();
        let postings: usize = self.pairs.iter().map(|pair| pair.postings.heap_bytes()).sum();
        Memory {
            symbols: symbols.spans.bytes() + (texts + symbols.table.allocation_size()) as u64,
            pairs: self.pairs.bytes() + (self.pair_table.allocation_size() + lists) as u64,
            label_sets: self.label_ids.bytes(),
            series: self.series.bytes() + self.series_table.allocation_size() as u64,
            postings: (postings + self.visible.serialized_size()) as u64,
        }
    }

    /// Keeps the pairs and symbols in use only; series keep their ids.
    fn rebuild_names(&mut self) {
        let old_pairs = std::mem::take(&mut self.pairs);
        let old_symbols = std::mem::take(&mut self.symbols);
        self.pair_table.clear();
        self.by_name.clear();
        let mut remap = vec![NONE; old_pairs.len() as usize];
        for (old, mut pair) in old_pairs.into_items().enumerate() {
            if !pair.postings.is_empty() {
                let id = self.intern_pair(old_symbols.get(pair.name), old_symbols.get(pair.value));
                self.pairs[id].n_visible = pair.n_visible;
                self.pairs[id].postings = std::mem::take(&mut pair.postings);
                remap[old] = id;
            }
        }
        for id in 0..self.series.len() {
            let entry = self.series[id];
            for pair in self.label_ids.get_mut(entry.labels, usize::from(entry.n_labels)) {
                *pair = remap[*pair as usize];
            }
        }
    }
}

fn touches(postings: &Postings, among: &RoaringBitmap) -> bool {
    postings.runs().any(|(start, len)| among.range_cardinality(start..=start + (len - 1)) > 0)
}

fn low(hash: u64) -> u32 {
    u32::try_from(hash & 0xffff_ffff).expect("masked")
}

/// The 32 bits kept per series, spread over the 64 that the table looks at (its tag is the top seven).
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
