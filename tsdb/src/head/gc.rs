//! Truncation: what went into a block leaves memory, chunk files and log.
//!
//! Compat: prometheus `tsdb`, `Head.Truncate`, `Head.gc`, `Head.truncateWAL`.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use model::Timestamp;

use super::series::{ALIVE, LEAVING, NEVER, Shard, State};
use super::slab::NONE;
use super::{Head, Inner, Slot};
use crate::wal::{checkpoint, segment};
use crate::{Error, Result};

/// How long a truncation waits for appenders; a scrape holds one for milliseconds.
const APPENDER_PATIENCE: Duration = Duration::from_secs(2);

impl Head {
    /// Forgets everything before `mint`; samples before it are refused from now on.
    ///
    /// Never waits for readers: what they look at is freed by a later truncation.
    pub fn truncate(&self, mint: Timestamp) -> Result<()> {
        let inner = &*self.0;
        let _one_at_a_time = inner.truncating.lock();
        inner.metrics.truncations.inc();
        let truncated = inner.truncate(mint);
        if truncated.is_err() {
            inner.metrics.truncations_failed.inc();
        }
        truncated
    }
}

/// What a walk over all series found.
struct Marked {
    /// The time of the oldest sample that came in order.
    oldest: Option<Timestamp>,
    /// The place of the first chunk of late samples.
    first_late: u64,
    /// Series without samples.
    leaving: Vec<Slot>,
}

/// The number of the file in which a place is.
fn file_of(place: u64) -> u32 {
    u32::try_from(place >> 32).expect("32 bits are left")
}

impl Inner {
    fn truncate(&self, mint: Timestamp) -> Result<()> {
        self.min_valid_time.fetch_max(mint, Relaxed);
        let started = Instant::now();
        let (oldest, first_late) = self.collect(mint);
        self.forget_deletions(mint);
        self.metrics.observe_gc(started.elapsed());
        // Upstream moves the start of the head to its oldest sample; an empty head has none.
        let new_min = oldest.unwrap_or(Timestamp::MAX);
        self.min_time.store(new_min, Relaxed);
        let max_time = self.max_time.load(Relaxed);
        if oldest.is_none() && max_time < mint {
            // Unless a batch was faster.
            let _ = self.max_time.compare_exchange(max_time, Timestamp::MIN, Relaxed, Relaxed);
        }
        // What was stored since the walk is looked for now; what is stored from here on moves the time itself.
        if let Some(held) = self.oldest_held() {
            self.min_time.fetch_min(held.max(mint), Relaxed);
        }
        // It speaks of blocks and of a log that are no more.
        self.remove_snapshot();
        self.chunks.truncate(mint, file_of(first_late))?;
        self.truncate_log(mint)
    }

    /// Frees what late samples left behind that went into blocks.
    pub(super) fn collect_files(&self) -> Result<()> {
        let mint = self.min_valid_time.load(Relaxed);
        let (_, first_late) = self.collect(mint);
        // Without it the next start has them twice, in the head and in blocks.
        if let Err(e) = self.chunks.note_late_in_blocks(first_late) {
            tracing::warn!(error = %e, "cannot note which chunks of late samples are in blocks");
        }
        self.chunks.truncate(mint, file_of(first_late))
    }

    /// Frees chunks before `mint` and series without any; returns the time of the oldest sample left, late ones
    /// aside, and the place of the first chunk of late ones.
    pub(super) fn collect(&self, mint: Timestamp) -> (Option<Timestamp>, u64) {
        let Marked { oldest, first_late, leaving } = self.mark(mint);
        if !leaving.is_empty() {
            if self.appenders.outlive(APPENDER_PATIENCE) {
                self.sweep(&leaving, mint);
                self.collect_metadata();
                self.renumber();
            } else {
                tracing::warn!(
                    series = leaving.len(),
                    "an appender stays open; series without samples leave later"
                );
            }
        }
        (oldest, first_late)
    }

    /// Frees chunks before `mint` and marks the series that have no others.
    fn mark(&self, mint: Timestamp) -> Marked {
        let (mut oldest, mut leaving): (Option<Timestamp>, _) = (None, Vec::new());
        // What is sealed from here on comes behind.
        let mut first_late = self.chunks.end();
        let mut late_times = (Timestamp::MAX, Timestamp::MIN);
        self.late.begin_collection();
        for (n, shard) in self.shards.iter().enumerate() {
            let mut state = shard.state.write();
            // Looked at under the lock: a view is made under it, too.
            let is_watched = Arc::strong_count(&self.pin) > 1;
            for idx in 0..state.n_slots() {
                let hot = shard.line(idx);
                let flags = hot.flags.load(Relaxed);
                if flags & ALIVE == 0 {
                    continue;
                }
                state.truncate_chunks(idx, mint);
                let mut line = hot.load();
                if line.xor.count > 0 && line.last_t() < mint && !is_watched {
                    shard.drop_open(&mut state, idx, &mut line);
                    hot.store(&line);
                }
                let late = state.late(idx).and_then(|late| Some((late.span()?, late.oldest_chunk())));
                if let Some((span, place)) = late {
                    late_times = (late_times.0.min(span.mint), late_times.1.max(span.maxt));
                    first_late = first_late.min(place.unwrap_or(first_late));
                }
                let first = state.chunks(idx).last().map(|chunk| chunk.mint);
                let first = first.or((line.xor.count > 0).then_some(line.first_t));
                if let Some(first) = first {
                    let first = first.max(mint);
                    oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
                    hot.flags.fetch_and(!LEAVING, Relaxed);
                } else if late.is_some() {
                    hot.flags.fetch_and(!LEAVING, Relaxed);
                } else {
                    hot.flags.fetch_or(LEAVING, Relaxed);
                    leaving.push(Slot::new(n, idx));
                }
            }
        }
        self.late.end_collection(late_times.0, late_times.1);
        Marked { oldest, first_late, leaving }
    }

    /// Takes away what was marked, unless an appender opened since has claimed it or an older one gave it samples.
    fn sweep(&self, leaving: &[Slot], mint: Timestamp) {
        for group in leaving.chunk_by(|a, b| a.shard() == b.shard()) {
            let shard = &self.shards[group[0].shard()];
            let mut state = shard.state.write();
            let is_watched = Arc::strong_count(&self.pin) > 1;
            let mut dead = Vec::new();
            for idx in group.iter().map(|slot| slot.idx()) {
                let hot = shard.line(idx);
                let line = hot.load();
                let is_empty =
                    line.xor.count == 0 && state.chunks(idx).next().is_none() && state.late(idx).is_none();
                if is_empty && hot.try_end() {
                    let expiry = if line.last_t() == NEVER { mint } else { line.last_t().max(mint) };
                    self.expiries.lock().insert(line.wal_ref, expiry);
                    dead.push(state.cold[idx].id);
                    shard.death(&mut state, idx);
                }
            }
            if !dead.is_empty() {
                self.metrics.series_removed.add(dead.len() as u64);
                self.registry.write().remove(&dead, is_watched);
            }
        }
    }

    /// Gives the ids of the dead to the living once there are many, so that a head whose series come and go does not
    /// grow for ever.
    pub(super) fn renumber(&self) {
        if !self.registry.read().is_worth_renumbering() {
            return;
        }
        let mut states: Vec<_> = self.shards.iter().map(|shard| shard.state.write()).collect();
        // Before the pin is looked at: whoever takes it from here on finds new ids only.
        let mut registry = self.registry.write();
        if Arc::strong_count(&self.pin) > 1 || !registry.is_worth_renumbering() {
            return;
        }
        let new_ids = registry.renumber();
        // A select that chose series by now chooses again.
        self.published.fetch_add(1, SeqCst);
        for state in &mut states {
            for idx in 0..state.n_slots() {
                let id = &mut state.cold[idx].id;
                *id = new_ids.get(*id as usize).copied().flatten().unwrap_or(NONE);
            }
        }
    }

    /// Replaces the older two thirds of the log by a checkpoint.
    fn truncate_log(&self, mint: Timestamp) -> Result<()> {
        let wal = self.wal.read();
        let wal = wal.as_ref().ok_or_else(|| Error::Poisoned("the store is closed".to_owned()))?;
        let segments = segment::list(&self.wal_dir)?;
        let (Some(&first), Some(&last)) = (segments.first(), segments.last()) else { return Ok(()) };
        // A new segment, so that a slow log is not kept longer than a fast one.
        wal.roll()?;
        let Some(last) = last.checked_sub(1).filter(|&last| last > first) else { return Ok(()) };
        let last = first + (last - first) * 2 / 3;
        if last <= first {
            return Ok(());
        }
        let living = self.living_refs();
        let expiries = self.expiries.lock().clone();
        let keep = |series: u64| {
            living.binary_search(&series).is_ok() || expiries.get(&series).is_some_and(|&until| until >= mint)
        };
        let stores_start_times = self.options.features.stores_start_times;
        wal.metrics().truncations.inc();
        // A range of which all was deleted leaves no block: the next start finds its chunks in their files again.
        let deletions = self.deletions_from(mint).min(self.chunks.oldest());
        let from = checkpoint::Since { samples: mint, deletions };
        let started = Instant::now();
        let written =
            checkpoint::create(&self.wal_dir, last, from, stores_start_times, self.options.wal, keep);
        self.metrics.observe_checkpoint(started.elapsed(), written.is_err());
        if written.is_err() {
            wal.metrics().truncations_failed.inc();
        }
        written?;
        let removed = checkpoint::remove_covered(&self.wal_dir, last);
        self.metrics.checkpoint_deletions.inc();
        self.metrics.checkpoint_deletions_failed.add(u64::from(removed.is_err()));
        removed?;
        let mut expiries = self.expiries.lock();
        expiries.retain(|_, &mut until| until >= mint);
        self.aliases.lock().retain(|(alias, _)| expiries.contains_key(alias));
        Ok(())
    }

    /// Drops the tombstones of times that left the head, unless somebody may still hold samples they hide.
    pub(super) fn forget_deletions(&self, mint: Timestamp) {
        let from = self.deletions_from(mint);
        let mut registry = self.registry.write();
        if Arc::strong_count(&self.pin) == 1 {
            registry.truncate_deletions(from);
        }
    }

    /// From when on deletions hide something, if what is in order begins at `mint`.
    fn deletions_from(&self, mint: Timestamp) -> Timestamp {
        // Late samples leave after those in order.
        let mint = self.late.oldest().map_or(mint, |oldest| oldest.min(mint));
        // Chunks leave whole: one that reaches over `mint`, or was left open because somebody was looking, still has
        // samples from before.
        mint.min(self.oldest_held().unwrap_or(mint))
    }

    /// The time of the oldest sample that came in order, whether it is of use or not.
    fn oldest_held(&self) -> Option<Timestamp> {
        self.shards.iter().filter_map(|shard| oldest_held(shard, &shard.state.read())).min()
    }

    fn living_refs(&self) -> Vec<u64> {
        let mut refs = Vec::new();
        for shard in &self.shards {
            let n_slots = shard.state.read().n_slots();
            let lines = (0..n_slots).map(|idx| shard.line(idx));
            refs.extend(
                lines
                    .filter(|line| line.flags.load(Relaxed) & ALIVE != 0)
                    .map(super::series::HotLine::wal_ref),
            );
        }
        refs.sort_unstable();
        refs
    }
}

/// The time of the oldest sample in a shard, whether it is of use or not.
fn oldest_held(shard: &Shard, state: &State) -> Option<Timestamp> {
    let of_series = |idx| {
        let hot = shard.line(idx);
        if hot.flags.load(Relaxed) & ALIVE == 0 {
            return None;
        }
        let line = hot.load();
        let sealed = state.chunks(idx).last().map(|chunk| chunk.mint);
        sealed.or((line.xor.count > 0).then_some(line.first_t))
    };
    (0..state.n_slots()).filter_map(of_series).min()
}
