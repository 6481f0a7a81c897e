//! Head and blocks as one store: a view of a span of time over all of them.
//!
//! The list of blocks is read after the head was asked. Compaction puts a block in service before the head lets
//! go of its samples, so nothing falls between the two; what both hold counts once.
//!
//! Compat: prometheus `tsdb/db.go`, `DB.Querier`; `storage/merge.go`.

use std::sync::Arc;

use model::histogram::CounterResetHint;
use model::storage::{Error, Querier, RawChunk, SelectHints, SeriesSet};
use model::{Detail, HistogramPoints, Labels, Matcher, SampleBatch, TimeRange, Timestamp};
use smallvec::SmallVec;

use super::blocks::{BlockList, Blocks};
use crate::block::Block;

/// A view of the store.
pub(crate) struct DbQuerier {
    /// Absent where the head has nothing so old.
    pub(crate) head: Option<Box<dyn Querier>>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) range: TimeRange,
}

impl DbQuerier {
    /// The blocks that may have samples in the range, by time; pinned by whoever holds the list.
    fn overlapping(list: &BlockList, range: TimeRange) -> Vec<Arc<Block>> {
        list.iter().filter(|block| block.range().overlaps(range)).cloned().collect()
    }

    /// Sorted and unique values from all sources.
    fn union(
        &self,
        limit: usize,
        of_head: impl FnOnce(&dyn Querier) -> Result<Vec<Box<[u8]>>, Error>,
        of_block: impl Fn(&Block) -> crate::Result<Vec<Box<[u8]>>>,
    ) -> Result<Vec<Box<[u8]>>, Error> {
        let mut values = self.head.as_deref().map_or(Ok(Vec::new()), of_head)?;
        for block in Self::overlapping(&self.blocks.list(), self.range) {
            values.extend(of_block(&block).map_err(Error::new)?);
        }
        // The stable sort merges the ascending runs of the sources.
        values.sort();
        values.dedup();
        if limit > 0 {
            values.truncate(limit);
        }
        Ok(values)
    }
}

impl Querier for DbQuerier {
    fn select(&self, matchers: &[Matcher], hints: &SelectHints) -> Result<Box<dyn SeriesSet>, Error> {
        // Series come in one order from the whole view, whichever part of it a selector needs. The head sorts its own with
        // less effort, if it is known now that blocks will be there; their list is read again after it was asked.
        let is_head_sorted =
            hints.sorted || self.blocks.list().iter().any(|block| block.range().overlaps(self.range));
        let head = match &self.head {
            Some(head) => {
                let hints = SelectHints { sorted: is_head_sorted, ..hints.clone() };
                Some(head.select(matchers, &hints)?)
            }
            None => None,
        };
        let range = hints.range.map_or(self.range, |range| {
            TimeRange::new(range.mint.max(self.range.mint), range.maxt.min(self.range.maxt))
        });
        let mut sets: Vec<Box<dyn SeriesSet>> = Vec::new();
        let mut has_blocks = false;
        for block in Self::overlapping(&self.blocks.list(), self.range) {
            has_blocks = true;
            if block.range().overlaps(range) {
                sets.push(Box::new(block.select(matchers, range).map_err(Error::new)?));
            }
        }
        match head {
            Some(head) if sets.is_empty() && (is_head_sorted || !has_blocks) => return Ok(head),
            Some(head) => sets.push(head),
            None if sets.len() == 1 => return Ok(sets.remove(0)),
            None => {}
        }
        Ok(Box::new(MergedSet::new(sets)))
    }

    fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        self.union(
            limit,
            |head| head.label_values(name, matchers, limit),
            |block| block.label_values(name, matchers, limit),
        )
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        self.union(limit, |head| head.label_names(matchers, limit), |block| block.label_names(matchers))
    }
}

/// Series of several sets in label order, each label set once.
struct MergedSet {
    /// Oldest first.
    sets: Vec<Box<dyn SeriesSet>>,
    rows: Vec<Row>,
}

struct Row {
    labels: Labels,
    /// Where the series is found: set and position, oldest set first.
    parts: SmallVec<[(usize, usize); 2]>,
}

impl MergedSet {
    fn new(sets: Vec<Box<dyn SeriesSet>>) -> Self {
        let mut found: Vec<(Labels, usize, usize)> =
            Vec::with_capacity(sets.iter().map(|set| set.len()).sum());
        for (s, set) in sets.iter().enumerate() {
            found.extend((0..set.len()).map(|i| (set.labels(i), s, i)));
        }
        // Blocks are runs in label order already, which the stable sort finds.
        found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let mut rows: Vec<Row> = Vec::with_capacity(found.len());
        for (labels, set, i) in found {
            match rows.last_mut().filter(|row| row.labels == labels) {
                Some(row) => row.parts.push((set, i)),
                None => rows.push(Row { labels, parts: SmallVec::from_slice(&[(set, i)]) }),
            }
        }
        Self { sets, rows }
    }

    /// Merges what `read` takes from each set that has series `i`.
    fn merge(
        &self,
        i: usize,
        out: &mut SampleBatch,
        read: impl Fn(&dyn SeriesSet, usize, &mut SampleBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some((&(set, at), others)) = self.rows[i].parts.split_first() else { return Ok(()) };
        let from = out.end();
        read(&*self.sets[set], at, out)?;
        if others.is_empty() {
            return Ok(());
        }
        let mut part = SampleBatch::default();
        for &(set, at) in others {
            part.clear();
            read(&*self.sets[set], at, &mut part)?;
            out.merge_from(from, &part);
        }
        Ok(())
    }
}

impl SeriesSet for MergedSet {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, i: usize) -> Labels {
        self.rows[i].labels.clone()
    }

    fn samples_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        self.merge(i, out, |set, at, out| set.samples_into(at, range, out))
    }

    fn chunks(&self, i: usize, range: TimeRange, visit: &mut dyn FnMut(RawChunk<'_>)) -> Result<bool, Error> {
        let parts = &self.rows[i].parts;
        if let [(set, at)] = parts[..] {
            return self.sets[set].chunks(at, range, visit);
        }
        // Kept until it is known that no two of them overlap.
        let mut found = Vec::new();
        for &(set, at) in parts {
            let mut keep = |chunk: RawChunk<'_>| {
                found.push((chunk.mint, chunk.maxt, chunk.encoding, chunk.bytes.to_vec()));
            };
            if !self.sets[set].chunks(at, range, &mut keep)? {
                return Ok(false);
            }
        }
        found.sort_by_key(|&(mint, ..)| mint);
        if !found.is_sorted_by(|a, b| a.1 < b.0) {
            return Ok(false);
        }
        for (mint, maxt, encoding, bytes) in &found {
            visit(RawChunk { mint: *mint, maxt: *maxt, encoding: *encoding, bytes });
        }
        Ok(true)
    }

    fn points_into(
        &self,
        i: usize,
        range: TimeRange,
        detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> Result<(), Error> {
        let (float, histogram) = (floats.end(), histograms.len());
        let last_time = |floats: &SampleBatch, histograms: &HistogramPoints| -> Option<Timestamp> {
            let t = floats.ts[float.float..].last().copied();
            t.max(histograms[histogram..].last().map(|point| point.t))
        };
        for (n, &(set, at)) in self.rows[i].parts.iter().enumerate() {
            let end = last_time(floats, histograms);
            let (next_float, next) = (floats.len(), histograms.len());
            self.sets[set].points_into(at, range, detail, floats, histograms)?;
            let first_histogram = histograms.get(next).map(|point| point.t);
            let starts = [floats.ts.get(next_float).copied(), first_histogram];
            if starts.into_iter().flatten().min().is_some_and(|first| Some(first) <= end) {
                // They overlap, and what is told of a histogram without its buckets is not enough to merge it.
                drop(floats.split_off(float));
                histograms.truncate(histogram);
                self.samples_into(i, range, floats)?;
                histograms.take_from(&mut floats.histograms);
                return Ok(());
            }
            // As where they are merged: what was before it in its own set is not known to be.
            if n > 0
                && let Some(point) = histograms.get_mut(next)
            {
                let hint = point.value.counter_reset_hint;
                if !matches!(hint, CounterResetHint::Gauge | CounterResetHint::Unknown) {
                    Arc::make_mut(&mut point.value).counter_reset_hint = CounterResetHint::Unknown;
                }
            }
        }
        Ok(())
    }

    fn last_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        // Whichever set has the last one.
        self.merge(i, out, |set, at, out| set.last_into(at, range, out))
    }
}
