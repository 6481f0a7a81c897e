//! The late samples of the head as the source of blocks, one per window of the block range.
//!
//! Every open chunk is sealed first, so that what is handed out and what comes meanwhile are told apart by chunk.
//!
//! Compat: prometheus `tsdb/ooo_head_read.go`, `OOOCompactionHead`; `tsdb/db.go`, `DB.compactOOO`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::sample::Position;
use model::{SampleBatch, TimeRange, Timestamp};

use super::{Files, Sealed, encode, merged, read};
use crate::Result;
use crate::chunk::EncodedChunk;
use crate::compact::{SeriesSource, SourceSeries};
use crate::head::series::ALIVE;
use crate::head::{Head, Inner, Slot};

/// Where runs are cut, as the head cuts.
const SAMPLES_PER_CHUNK: u16 = 120;

/// So many series are looked at before others may have their shard.
const SERIES_PER_TURN: u32 = 1024;

/// The late samples of all series as of one moment.
#[derive(Debug)]
pub struct LateSamples {
    inner: Arc<Inner>,
    /// In label order.
    entries: Vec<Entry>,
    files: Files,
    /// The windows, by their first times, in which there are samples.
    windows: BTreeSet<Timestamp>,
    /// What was logged before is in here.
    log_from: Option<u64>,
    _pin: Arc<()>,
}

#[derive(Debug)]
struct Entry {
    id: u32,
    slot: Slot,
    generation: u16,
    /// The first ones of its late chunks.
    chunks: Vec<Sealed>,
}

impl Head {
    /// Seals what is late so far and takes a look at it; nothing if there is nothing, nor a log of it.
    ///
    /// # Errors
    /// The log or the chunk files cannot be written; nothing is lost.
    pub fn late_samples(&self) -> Result<Option<LateSamples>> {
        let inner = &self.0;
        // Before the first series is looked at: what is logged before is stored by then.
        let log_from = inner.late.log.roll()?;
        let pin = Arc::clone(&inner.pin);
        let mut entries = Vec::new();
        for (n, shard) in inner.shards.iter().enumerate() {
            let mut start = 0;
            loop {
                // Others may have the shard in between.
                let mut state = shard.state.write();
                let end = state.n_slots().min(start + SERIES_PER_TURN);
                for idx in start..end {
                    let hot = shard.line(idx);
                    if hot.flags.load(Relaxed) & ALIVE == 0 || state.late(idx).is_none() {
                        continue;
                    }
                    state.change_late(idx, |late| late.seal(hot.wal_ref(), inner))?;
                    let chunks = state.late(idx).map(|late| late.sealed.clone()).unwrap_or_default();
                    let (id, generation) = (state.cold[idx].id, hot.generation());
                    entries.push(Entry { id, slot: Slot::new(n, idx), generation, chunks });
                }
                if end == state.n_slots() {
                    break;
                }
                start = end;
            }
        }
        if entries.is_empty() && log_from.is_none() {
            return Ok(None);
        }
        let registry = inner.registry.read();
        let ranks = registry.pair_ranks();
        let key = |entry: &Entry| registry.pair_ids(entry.id).iter().map(|&pair| ranks[pair as usize]);
        entries.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        drop(registry);
        let files = inner.chunks.files();
        let (inner, windows) = (Arc::clone(inner), BTreeSet::new());
        let mut late = LateSamples { inner, entries, files, windows, log_from, _pin: pin };
        late.windows = late.find_windows()?;
        Ok(Some(late))
    }

    /// Forgets what was handed out, which is in blocks by now, and what was logged of it.
    ///
    /// # Errors
    /// Old files cannot be removed; what they hold is in blocks, too.
    pub fn drop_late_samples(&self, late: LateSamples) -> Result<()> {
        let inner = &*self.0;
        let _one_at_a_time = inner.truncating.lock();
        for Entry { slot, generation, chunks, .. } in &late.entries {
            let shard = &inner.shards[slot.shard()];
            let mut state = shard.state.write();
            if shard.line(slot.idx()).generation() != *generation || state.late(slot.idx()).is_none() {
                continue;
            }
            // Chunks are only ever added at the end.
            state.change_late(slot.idx(), |late| {
                debug_assert!(late.sealed.starts_with(chunks), "BUG: late chunks went meanwhile");
                late.sealed.drain(..chunks.len().min(late.sealed.len()));
            });
        }
        let log_from = late.log_from;
        // It pins what a collection would free.
        drop(late);
        inner.collect_files()?;
        log_from.map_or(Ok(()), |first| inner.late.log.truncate(first))
    }
}

impl LateSamples {
    /// The windows in which there are samples, half-open.
    pub fn windows(&self) -> impl Iterator<Item = Range<Timestamp>> + '_ {
        let range = self.inner.options.chunk_range_ms;
        self.windows.iter().map(move |&start| start..start.saturating_add(range))
    }

    /// The series with samples in a window.
    pub fn window(&self, window: Range<Timestamp>) -> LateWindow<'_> {
        LateWindow { late: self, range: TimeRange::new(window.start, window.end - 1), next: 0 }
    }

    fn find_windows(&self) -> Result<BTreeSet<Timestamp>> {
        let range = self.inner.options.chunk_range_ms;
        let window = |t: Timestamp| t.div_euclid(range) * range;
        let mut found = BTreeSet::new();
        for &at in self.entries.iter().flat_map(|entry| &entry.chunks) {
            let (first, last) = (window(at.mint), window(at.maxt));
            found.extend([first, last]);
            if last - first <= range {
                continue;
            }
            let batch = read(&self.inner, &self.files, at, TimeRange::ALL)?;
            found.extend(batch.ts.iter().map(|&t| window(t)));
            found.extend(batch.histograms.iter().map(|sample| window(sample.t)));
        }
        Ok(found)
    }
}

/// The late samples of one window.
#[derive(Debug)]
pub struct LateWindow<'a> {
    late: &'a LateSamples,
    range: TimeRange,
    next: usize,
}

impl LateWindow<'_> {
    fn overlaps(&self, chunk: &Sealed) -> bool {
        chunk.mint <= self.range.maxt && chunk.maxt >= self.range.mint
    }

    /// A chunk that is alone and within the window is copied, all else is merged and encoded anew.
    fn chunks_into(&self, entry: &Entry, out: &mut Vec<EncodedChunk>) -> Result<()> {
        let LateSamples { inner, files, .. } = self.late;
        let deleted = inner.registry.read().deleted(entry.id).to_vec();
        let mut chunks = entry.chunks.iter().filter(|chunk| self.overlaps(chunk));
        let (first, second) = (chunks.next(), chunks.next());
        if let (Some(&at), None, true) = (first, second, deleted.is_empty())
            && at.mint >= self.range.mint
            && at.maxt <= self.range.maxt
        {
            let (encoding, bytes) =
                inner.chunks.read(files, at, |encoding, bytes| (encoding, bytes.to_vec()))?;
            out.push(EncodedChunk { mint: at.mint, maxt: at.maxt, encoding, bytes });
            return Ok(());
        }
        let mut parts = Vec::new();
        for &at in entry.chunks.iter().filter(|chunk| self.overlaps(chunk)) {
            parts.push(read(inner, files, at, self.range)?);
        }
        let mut batch: SampleBatch = merged(parts);
        batch.retain_from(Position::default(), |t| !deleted.iter().any(|span| span.contains(t)));
        out.extend(encode(&batch, inner.options.features.floats, SAMPLES_PER_CHUNK));
        Ok(())
    }
}

impl SeriesSource for LateWindow<'_> {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        let registry = self.late.inner.registry.read();
        let mut pairs = roaring::RoaringBitmap::new();
        for entry in self.late.entries.iter().filter(|it| it.chunks.iter().any(|c| self.overlaps(c))) {
            pairs.extend(registry.pair_ids(entry.id).iter().copied());
        }
        let mut symbols: Vec<&[u8]> =
            pairs.iter().flat_map(|pair| <[_; 2]>::from(registry.pair_text(pair))).collect();
        symbols.sort_unstable();
        symbols.dedup();
        Ok(symbols.into_iter().map(Into::into).collect())
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        while let Some(entry) = self.late.entries.get(self.next) {
            self.next += 1;
            series.chunks.clear();
            self.chunks_into(entry, &mut series.chunks)?;
            if !series.chunks.is_empty() {
                series.labels = self.late.inner.registry.read().labels(entry.id);
                return Ok(true);
            }
        }
        Ok(false)
    }
}
