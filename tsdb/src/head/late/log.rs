//! The log of late samples: `wbl/`, framed as the log of all samples.
//!
//! A sample comes here after it was stored, and in the order in which it was stored: what a commit has is queued
//! while it holds its shards, written when it has let go of them. Before the first sample of a new chunk
//! there is a marker that tells which sealed chunks hold what was logged of the series before it.
//!
//! Best effort: what cannot be written is kept and tried again with the next commit, up to a limit.
//!
//! Compat: prometheus `tsdb/head_append.go`, `collectOOORecords`.

use std::path::{Path, PathBuf};

use foldhash::HashSet;
use model::wire::expose::Exposition;
use model::{Timestamp, Value};
use parking_lot::Mutex;

use super::Sealed;
use crate::wal;
use crate::wal::record::{self, HistogramRecords, RefMarker, RefSample};
use crate::{Error, Result, fs};

/// What waits for a log that cannot be written; what is more is lost with the process.
const QUEUE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) dir: PathBuf,
    options: wal::Options,
    queue: Mutex<Queue>,
    /// Held while the queue is written, so that its order is that of the log.
    tail: Mutex<Tail>,
}

#[derive(Debug, Default)]
struct Tail {
    /// None as long as no late samples were ever taken.
    writer: Option<wal::Writer>,
    is_closed: bool,
}

/// Encoded records in the order in which their samples were stored.
#[derive(Debug, Default)]
struct Queue {
    records: Vec<Vec<u8>>,
    n_bytes: usize,
}

impl Log {
    pub(super) fn new(dir: &Path, options: wal::Options) -> Self {
        Self { dir: dir.to_owned(), options, queue: Mutex::default(), tail: Mutex::default() }
    }

    /// Whether there is something in the directory.
    pub(super) fn is_begun(&self) -> bool {
        fs::dir_size(&self.dir) > 0
    }

    /// Begins a new segment, unless one is open.
    pub(super) fn open(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        if tail.is_closed {
            return Err(Error::Poisoned("the store is closed".to_owned()));
        }
        if tail.writer.is_none() {
            tail.writer = Some(wal::Writer::open(&self.dir, self.options)?);
        }
        Ok(())
    }

    pub(super) fn close(&self) -> Result<()> {
        let writer = {
            let mut tail = self.tail.lock();
            self.write(&mut tail);
            tail.is_closed = true;
            tail.writer.take()
        };
        writer.map_or(Ok(()), wal::Writer::close)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        fs::dir_size(&self.dir)
    }

    /// Called with the shards held that the records are about.
    pub(super) fn enqueue(&self, records: &mut Records) {
        let mut queue = self.queue.lock();
        for record in records.finish() {
            if queue.n_bytes + record.len() > QUEUE_BYTES_MAX {
                tracing::error!("the log of late samples cannot be written; they are lost with this process");
                return;
            }
            queue.n_bytes += record.len();
            queue.records.push(record);
        }
    }

    /// Writes what was queued so far; when this returns it is written, by whomever.
    pub(super) fn flush(&self) {
        self.write(&mut self.tail.lock());
    }

    fn write(&self, tail: &mut Tail) {
        let queued = std::mem::take(&mut *self.queue.lock());
        let Some(writer) = tail.writer.as_ref().filter(|_| !queued.records.is_empty()) else { return };
        let mut batch = writer.batch();
        queued.records.iter().for_each(|record| batch.push(record));
        if let Err(e) = writer.log(batch) {
            tracing::error!(error = %e, "cannot log late samples yet; they are in memory");
            let mut queue = self.queue.lock();
            let later = std::mem::replace(&mut *queue, queued);
            queue.n_bytes += later.n_bytes;
            queue.records.extend(later.records);
        }
    }

    /// Begins a new segment and tells its number; nothing if no log is open.
    pub(super) fn roll(&self) -> Result<Option<u64>> {
        self.tail.lock().writer.as_ref().map(wal::Writer::roll).transpose()
    }

    /// Removes the segments before `first`.
    pub(super) fn truncate(&self, first: u64) -> Result<()> {
        let tail = self.tail.lock();
        let Some(writer) = &tail.writer else { return Ok(()) };
        writer.metrics().truncations.inc();
        let truncated = writer.remove_before(first);
        writer.metrics().truncations_failed.add(u64::from(truncated.is_err()));
        truncated
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        if let Some(writer) = &self.tail.lock().writer {
            writer.expose_as("prometheus_tsdb_out_of_order_wbl_", out);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.tail.lock().writer.is_some()
    }
}

/// What a commit logs: groups of markers and the samples that follow them.
#[derive(Debug)]
pub(super) struct Records {
    done: Vec<Vec<u8>>,
    markers: Vec<u8>,
    samples: record::Samples,
    floats: Vec<u8>,
    histograms: HistogramRecords,
    /// The series that the present group names: a marker for one of them begins the next group.
    named: HashSet<u64>,
}

impl Records {
    pub(super) fn new(stores_start_times: bool) -> Self {
        Self {
            done: Vec::new(),
            markers: Vec::new(),
            samples: record::Samples::new(stores_start_times),
            floats: Vec::new(),
            histograms: HistogramRecords::new(stores_start_times),
            named: HashSet::default(),
        }
    }

    /// The samples of `series` from here on belong to a new chunk; those before are in `sealed`.
    pub(super) fn begin_chunk(&mut self, series: u64, sealed: &[Sealed]) {
        if !self.named.insert(series) {
            self.end_group();
            self.named.insert(series);
        }
        let refs = sealed.iter().map(Sealed::place);
        // Zero says that there was no chunk before.
        for chunk in refs.chain(sealed.is_empty().then_some(0)) {
            record::push_marker(&mut self.markers, RefMarker { series, chunk });
        }
    }

    pub(super) fn sample(&mut self, series: u64, st: Timestamp, t: Timestamp, value: Value<'_>) {
        self.named.insert(series);
        match value {
            Value::Float(v) => self.samples.push(&mut self.floats, RefSample { series, st, t, v }),
            histogram => self.histograms.push(series, st, t, histogram),
        }
    }

    fn end_group(&mut self) {
        for record in [&mut self.markers, &mut self.floats] {
            if !record.is_empty() {
                self.done.push(std::mem::take(record));
            }
        }
        let done = &mut self.done;
        self.histograms.drain(|record| done.push(record.to_vec()));
        self.named.clear();
    }

    fn finish(&mut self) -> Vec<Vec<u8>> {
        self.end_group();
        std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_before_the_samples_of_their_chunk_and_after_those_of_the_one_before() {
        let chunk = Sealed { file: 2, offset: 8, mint: 0, maxt: 1 };
        let mut records = Records::new(false);
        for series in [1, 2] {
            records.begin_chunk(series, &[]);
            records.sample(series, 0, 10, Value::Float(1.0));
        }
        records.sample(3, 0, 10, Value::Float(1.0));
        records.begin_chunk(2, &[chunk, chunk]);
        records.sample(2, 0, 5, Value::Float(1.0));
        let kinds = records.finish().iter().map(|record| (record[0], record.len())).collect::<Vec<_>>();
        // Two markers, three samples, two markers of one cut, one sample.
        assert_eq!(kinds, [(5, 1 + 32), (2, 17 + 30), (5, 1 + 32), (2, 17 + 10)]);
    }
}
