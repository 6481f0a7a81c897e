//! Deletion: samples are hidden at once and stay where they are until their time leaves the head.
//!
//! What is hidden is told to the log first. A span ends with the newest sample that its series has at that moment,
//! so that nothing appended later is hidden by it.
//!
//! Compat: prometheus `tsdb/head.go`, `Head.Delete`.

use std::sync::Arc;

use model::{Matcher, TimeRange};

use super::late::Late;
use super::series::{Shard, State};
use super::slab::NONE;
use super::{Head, Inner, Slot};
use crate::block::tombstones;
use crate::wal::record::{self, RefTombstone};
use crate::{Error, Result};

/// A record of tombstones is ended here; larger ones would have to be split into pages anyway.
const RECORD_BYTES: usize = 64 << 10;

/// What is deleted of one series.
struct Stone {
    id: u32,
    /// The series' name in the log.
    series: u64,
    span: TimeRange,
}

impl Head {
    /// Hides the samples in `range` of the series that pass `matchers`.
    ///
    /// # Errors
    /// The log refused it: nothing is hidden.
    pub fn delete(&self, range: TimeRange, matchers: &[Matcher]) -> Result<()> {
        let inner = &*self.0;
        // A snapshot has all that was logged before it.
        let _truncating = inner.truncating.lock();
        // Ids are told from here to the end.
        let _pin = Arc::clone(&inner.pin);
        let stones = inner.stones(range, matchers);
        inner.log_stones(&stones)?;
        let mut registry = inner.registry.write();
        for stone in &stones {
            // Gone in the meantime: its samples are, too.
            if registry.entry(stone.id).slot != NONE {
                registry.delete(stone.id, stone.span);
            }
        }
        Ok(())
    }
}

impl Inner {
    fn stones(&self, range: TimeRange, matchers: &[Matcher]) -> Vec<Stone> {
        let ids = self.registry.read().select(matchers);
        let states: Vec<_> = self.shards.iter().map(|shard| shard.state.read()).collect();
        let registry = self.registry.read();
        let stone = |id| {
            let slot = Some(registry.entry(id).slot).filter(|&slot| slot != NONE).map(Slot)?;
            let shard = &self.shards[slot.shard()];
            let held = times(shard, &states[slot.shard()], slot.idx())?;
            let span = TimeRange::new(range.mint.max(held.mint), range.maxt.min(held.maxt));
            let series = shard.line(slot.idx()).wal_ref();
            let is_new = !tombstones::covers(registry.deleted(id), span.mint, span.maxt);
            (span.mint <= span.maxt && is_new).then_some(Stone { id, series, span })
        };
        ids.into_iter().filter_map(stone).collect()
    }

    fn log_stones(&self, stones: &[Stone]) -> Result<()> {
        if stones.is_empty() {
            return Ok(());
        }
        let wal = self.wal.read();
        let wal = wal.as_ref().ok_or_else(|| Error::Poisoned("the store is closed".to_owned()))?;
        let mut batch = wal.batch();
        let mut bytes = Vec::new();
        for &Stone { series, span, .. } in stones {
            if bytes.is_empty() {
                record::begin_tombstones(&mut bytes);
            }
            let (mint, maxt) = (span.mint, span.maxt);
            record::push_tombstone(&mut bytes, RefTombstone { series, mint, maxt });
            if bytes.len() >= RECORD_BYTES {
                batch.push(&bytes);
                bytes.clear();
            }
        }
        if !bytes.is_empty() {
            batch.push(&bytes);
        }
        wal.log(batch)
    }
}

/// The times of the oldest and the newest sample of a series.
fn times(shard: &Shard, state: &State, idx: u32) -> Option<TimeRange> {
    let line = shard.line(idx).load();
    let oldest = state.chunks(idx).last().map(|chunk| chunk.mint);
    let first = oldest.or((line.xor.count > 0).then_some(line.first_t));
    let in_order = first.map(|first| TimeRange::new(first, line.last_t()));
    let late = state.late(idx).and_then(Late::span);
    let both = |a: TimeRange, b: TimeRange| TimeRange::new(a.mint.min(b.mint), a.maxt.max(b.maxt));
    in_order.into_iter().chain(late).reduce(both)
}

#[cfg(test)]
mod tests;
