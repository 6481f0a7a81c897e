//! Reads the log of late samples back, after the log of all samples.
//!
//! A marker says that what was logged of a series before it is in sealed chunks. It is believed if those are
//! there; else the samples stay and are sealed once more: twice the same is better than nothing. (Upstream believes
//! every marker below the last chunk that it found, whosesoever, and so may forget samples of a chunk that was lost.)
//!
//! Compat: prometheus `tsdb/head_wal.go`, `Head.loadWBL`.

use std::sync::atomic::Ordering::Relaxed;

use foldhash::HashMap;
use model::{TimeRange, Value};

use super::{Inner, Late, Sealed};
use crate::head::Slot;
use crate::wal::reader::Records;
use crate::wal::record::{self, Kind, RefMarker, RefSample};
use crate::wal::{repair, segment};
use crate::{DecodeError, Error, Result, fs};

/// Gives the series their sealed chunks of late samples, then replays the log. `find` knows the series by their refs.
pub(in super::super) fn replay(
    inner: &Inner,
    sealed: HashMap<u64, Vec<Sealed>>,
    find: impl Fn(u64) -> Option<Slot>,
    is_read_only: bool,
) -> Result<()> {
    let mut replay = Replay { inner, find, samples: Vec::new(), markers: Vec::new() };
    for (series, chunks) in sealed {
        replay.attach(series, &chunks);
    }
    let dir = &inner.late.log.dir;
    for n in segment::list(dir)? {
        let path = segment::path(dir, n);
        let map = fs::Mmap::open(&path)?;
        let mut records = Records::new(&map);
        loop {
            let before = records.sound_len();
            let corruption = match records.next() {
                Ok(None) => break,
                Ok(Some(record)) => match replay.record(record) {
                    Ok(()) => continue,
                    Err(e) => Error::corrupt(&path, before as u64, format!("bad record: {e}")),
                },
                Err(corruption) => Error::corrupt(&path, corruption.offset, corruption.what),
            };
            if is_read_only {
                tracing::warn!(error = %corruption, "the log of late samples is read up to its first bad record");
                replay.tell_unknown();
                return Ok(());
            }
            tracing::error!(error = %corruption, "the log of late samples is cut at its first bad record; what follows is kept aside as *.corrupt");
            inner.metrics.log_corruptions.inc();
            drop(map);
            return repair::repair(dir, n, before);
        }
    }
    replay.tell_unknown();
    Ok(())
}

struct Replay<'a, F> {
    inner: &'a Inner,
    find: F,
    samples: Vec<RefSample>,
    markers: Vec<RefMarker>,
}

impl<F: Fn(u64) -> Option<Slot>> Replay<'_, F> {
    fn attach(&self, series: u64, chunks: &[Sealed]) {
        let Some(slot) = (self.find)(series) else { return };
        let mut state = self.inner.shards[slot.shard()].state.write();
        let span = state.change_late(slot.idx(), |late| {
            late.sealed.extend_from_slice(chunks);
            late.sealed.sort_unstable_by_key(Sealed::place);
            late.span()
        });
        if let Some(TimeRange { mint, maxt }) = span {
            self.inner.late.observe(mint, maxt);
        }
    }

    fn record(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        match Kind::of(record) {
            Kind::Samples => {
                let mut samples = std::mem::take(&mut self.samples);
                samples.clear();
                record::decode_samples(record, &mut samples)?;
                for &RefSample { series, st, t, v } in &samples {
                    self.insert(series, (st, t), Value::Float(v));
                }
                self.samples = samples;
            }
            Kind::Histograms => {
                record::decode_histograms(record, |series, st, t, value| {
                    self.insert(series, (st, t), value);
                })?;
            }
            Kind::Markers => {
                let mut markers = std::mem::take(&mut self.markers);
                markers.clear();
                record::decode_markers(record, &mut markers)?;
                for cut in markers.chunk_by(|a, b| a.series == b.series) {
                    self.cut(cut);
                }
                self.markers = markers;
            }
            _ => {}
        }
        Ok(())
    }

    fn insert(&self, series: u64, (st, t): (i64, i64), value: Value<'_>) {
        let inner = self.inner;
        // A ref whose record is lost must not be given to another series: these samples would become its own.
        inner.last_ref.fetch_max(series, Relaxed);
        let Some(slot) = (self.find)(series) else {
            inner.late.metrics.unknown_samples.of(value).inc();
            return;
        };
        let shard = &inner.shards[slot.shard()];
        let mut state = shard.state.write();
        let wal_ref = shard.line(slot.idx()).wal_ref();
        let inserted = state.change_late(slot.idx(), |late| late.insert(wal_ref, inner, (st, t), value));
        if inserted.is_stored {
            inner.late.observe(t, t);
        }
        if let Some(e) = inserted.failure {
            tracing::error!(error = %e, "chunks of late samples cannot be sealed and stay in memory");
        }
    }

    /// What was logged of the series so far is sealed: forgets it if the chunks are there.
    fn cut(&self, markers: &[RefMarker]) {
        let Some(slot) = markers.first().and_then(|marker| (self.find)(marker.series)) else {
            self.inner.late.metrics.unknown_markers.add(markers.len() as u64);
            return;
        };
        let mut state = self.inner.shards[slot.shard()].state.write();
        let Some(late) = state.late(slot.idx()) else { return };
        if markers.iter().all(|marker| has(late, marker.chunk)) {
            state.change_late(slot.idx(), |late| late.open.clear());
        }
    }

    fn tell_unknown(&self) {
        let metrics = &self.inner.late.metrics;
        let samples = metrics.unknown_samples.float.get() + metrics.unknown_samples.histogram.get();
        let markers = metrics.unknown_markers.get();
        if samples + markers > 0 {
            tracing::warn!(samples, markers, "the log of late samples names series that are not there");
        }
    }
}

/// Whether the chunk of a marker is among the sealed ones; the zero of a series' first chunk is not.
fn has(late: &Late, chunk: u64) -> bool {
    late.sealed.binary_search_by_key(&chunk, Sealed::place).is_ok()
}
