//! Appends batches of records to the last segment.
//!
//! Committers hand over finished batches; whoever holds the file writes all that queued up meanwhile with one
//! write, so a commit costs one system call at most and none under load. A commit that returned survives the
//! end of the process. The medium is told every few seconds by a thread that does nothing else.
//!
//! A write that fails (disk full) is taken back: the file is cut to where it was good and the batches
//! of that write are refused; the next one tries anew. A failed sync is final: what the
//! kernel dropped cannot be told, so the log takes nothing more.
//!
//! Compat: prometheus `tsdb/wlog`, `WL`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::wire::expose::{Counter, Exposition, Kind, Summary};
use parking_lot::{Condvar, Mutex};

use super::compress::{Compression, Packer};
use super::{FIRST, FULL, HEADER_LEN, LAST, MIDDLE, PAGE_LEN, segment};
use crate::fs::{self, File};
use crate::{Error, Result};

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment is closed before it would grow beyond; a multiple of the page.
    pub segment_bytes: u64,
    /// How records are compressed where that makes them smaller.
    pub compression: Compression,
    /// How often what was written is synced; `None` syncs closed segments only.
    pub sync_interval: Option<Duration>,
}

impl Default for Options {
    /// 128 MiB: upstream's segments, so that its directory keeps its shape.
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            compression: Compression::default(),
            sync_interval: Some(Duration::from_secs(5)),
        }
    }
}

/// Empty batches that are kept, and how large one may have been.
const SPARE_BATCHES: usize = 4;
const SPARE_BATCH_BYTES: usize = 256 << 10;

/// How long each took.
#[derive(Debug)]
struct Fsyncs(Summary);

impl Default for Fsyncs {
    fn default() -> Self {
        Self(Summary::new(&[0.5, 0.9, 0.99]))
    }
}

/// The counts of a log.
#[derive(Debug, Default)]
pub struct Metrics {
    pub page_flushes: Counter,
    pub completed_pages: Counter,
    pub writes_failed: Counter,
    pub truncations: Counter,
    pub truncations_failed: Counter,
    pub corruptions: Counter,
    pub bytes_saved: Counter,
    part_writes: Counter,
    part_bytes: Counter,
    fsyncs: Fsyncs,
}

impl Metrics {
    /// All but the corruptions, whose family is one for all logs.
    fn expose(
        &self,
        prefix: &str,
        compression: Compression,
        segment_current: u64,
        storage_bytes: u64,
        out: &mut Exposition,
    ) {
        let counters = [
            ("page_flushes_total", "Total number of page flushes.", &self.page_flushes),
            ("completed_pages_total", "Total number of completed pages.", &self.completed_pages),
            (
                "record_part_writes_total",
                "Total number of record parts written before flushing.",
                &self.part_writes,
            ),
            (
                "record_parts_bytes_written_total",
                "Total number of record part bytes written before flushing, including CRC and compression headers.",
                &self.part_bytes,
            ),
            ("writes_failed_total", "Total number of write log writes that failed.", &self.writes_failed),
            ("truncations_total", "Total number of write log truncations attempted.", &self.truncations),
            (
                "truncations_failed_total",
                "Total number of write log truncations that failed.",
                &self.truncations_failed,
            ),
        ];
        for (name, help, counter) in counters {
            out.counter(&format!("{prefix}{name}"), help, counter);
        }
        let name = format!("{prefix}record_bytes_saved_total");
        out.family(&name, "Total number of bytes saved by the optional record compression. Use this metric to learn about the effectiveness compression.", Kind::Counter);
        out.sample(&name, &[("compression", compression.as_str())], self.bytes_saved.get() as f64);
        out.gauge(
            &format!("{prefix}segment_current"),
            "Write log segment index that TSDB is currently writing to.",
            segment_current as f64,
        );
        out.gauge(
            &format!("{prefix}storage_size_bytes"),
            "Size of the write log directory.",
            storage_bytes as f64,
        );
        let name = format!("{prefix}fsync_duration_seconds");
        out.family(&name, "Duration of write log fsync.", Kind::Summary);
        out.summary(&name, &[], &self.fsyncs.0);
    }
}

/// Records that are logged together or not at all; compressed by the committer, outside every lock.
pub struct Batch {
    payload: Vec<u8>,
    /// Where each record ends in the payload, and its flags.
    records: Vec<(usize, u8)>,
    bytes_raw: usize,
    packer: Packer,
    /// Where the next record is encoded, kept so that a warm commit asks for no memory.
    record: Vec<u8>,
}

impl Batch {
    pub fn new(compression: Compression) -> Self {
        let (payload, records, record) = (Vec::new(), Vec::new(), Vec::new());
        Self { payload, records, bytes_raw: 0, packer: Packer::new(compression), record }
    }

    /// An empty buffer for records; it comes back by [`Batch::return_buffer`].
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record
    }

    pub(crate) fn return_buffer(&mut self, record: Vec<u8>) {
        self.record = record;
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn clear(&mut self) {
        self.payload.clear();
        self.records.clear();
        self.bytes_raw = 0;
    }

    /// Adds one encoded record.
    pub fn push(&mut self, record: &[u8]) {
        self.bytes_raw += record.len();
        let flags = self.packer.pack(record, &mut self.payload);
        self.records.push((self.payload.len(), flags));
    }

    /// What the records take, packed.
    pub fn payload_len(&self) -> usize {
        self.payload.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], u8)> {
        let mut start = 0;
        self.records.iter().map(move |&(end, flags)| {
            let record = &self.payload[start..end];
            start = end;
            (record, flags)
        })
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    queue: Mutex<Vec<Arc<Ticket>>>,
    tail: Mutex<Tail>,
    options: Options,
    dir: PathBuf,
    /// Empty batches to use again: the tables of the compression alone are 32 KiB each.
    spare: Mutex<Vec<Batch>>,
    /// Tickets that nobody else holds, their batches taken out.
    spare_tickets: Mutex<Vec<Arc<Ticket>>>,
    syncer: Option<JoinHandle<()>>,
}

/// What the syncing thread and the writers share.
#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    /// Why the log takes nothing more.
    poison: OnceLock<String>,
    segment: AtomicU64,
    unsynced: Mutex<Unsynced>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Unsynced {
    /// Closed segments.
    closed: Vec<Arc<File>>,
    /// The open segment, if it was written since the last sync.
    open: Option<Arc<File>>,
    is_stopping: bool,
}

/// A batch in the queue and the answer its committer waits for.
#[derive(Debug)]
struct Ticket {
    /// There until the answer was read.
    batch: Option<Batch>,
    answer: OnceLock<Result<(), Arc<Error>>>,
}

/// The end of the log.
#[derive(Debug)]
struct Tail {
    dir: PathBuf,
    options: Options,
    file: Arc<File>,
    number: u64,
    /// The good bytes of the open segment.
    len: u64,
    /// Whether the file may hold more than the good bytes.
    is_dirty: bool,
    framed: Vec<u8>,
    /// What the last group was in; empty.
    group: Vec<Arc<Ticket>>,
}

impl Ticket {
    fn batch(&self) -> &Batch {
        self.batch.as_ref().expect("taken out by its committer alone, after the answer")
    }
}

impl Writer {
    /// Starts the segment after the last one; what is there stays as it is.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        assert!(
            options.segment_bytes > 0 && options.segment_bytes.is_multiple_of(PAGE_LEN as u64),
            "BUG: segment size {} is no multiple of the page",
            options.segment_bytes
        );
        fs::create_dir_all(dir)?;
        let after_checkpoint = segment::checkpoints(dir)?.last().map_or(0, |n| n + 1);
        let last = segment::list(dir)?.last().copied();
        let number = last.map_or(after_checkpoint, |n| n + 1);
        // Whoever wrote it may have been killed before its last sync.
        let left_behind = last.map(|n| File::open(&segment::path(dir, n)).map(Arc::new)).transpose()?;
        let file = Arc::new(File::create_new(&segment::path(dir, number))?);
        fs::sync_dir(dir)?;
        let shared = Arc::new(Shared {
            metrics: Metrics::default(),
            poison: OnceLock::new(),
            segment: AtomicU64::new(number),
            unsynced: Mutex::new(Unsynced {
                closed: left_behind.into_iter().collect(),
                ..Unsynced::default()
            }),
            wake: Condvar::new(),
        });
        let syncer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("wal-sync".to_owned())
                .spawn(move || shared.sync_until_stopped(options.sync_interval))
                .map_err(Error::io("start a thread for", dir))?
        };
        let (dir, framed, group) = (dir.to_owned(), Vec::new(), Vec::new());
        let tail = Tail { dir: dir.clone(), options, file, number, len: 0, is_dirty: false, framed, group };
        Ok(Self {
            shared,
            queue: Mutex::default(),
            tail: Mutex::new(tail),
            options,
            dir,
            spare: Mutex::default(),
            spare_tickets: Mutex::default(),
            syncer: Some(syncer),
        })
    }

    /// An empty batch, one that was used before if there is any.
    pub fn batch(&self) -> Batch {
        self.spare.lock().pop().unwrap_or_else(|| Batch::new(self.options.compression))
    }

    fn recycle(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.spare.lock();
        let is_small = batch.payload.capacity().max(batch.record.capacity()) <= SPARE_BATCH_BYTES;
        if spare.len() < SPARE_BATCHES && is_small {
            spare.push(batch);
        }
    }

    fn ticket(&self, batch: Batch) -> Arc<Ticket> {
        let mut spare = self.spare_tickets.lock().pop();
        match spare.as_mut().and_then(Arc::get_mut) {
            Some(ticket) => *ticket = Ticket { batch: Some(batch), answer: OnceLock::new() },
            None => return Arc::new(Ticket { batch: Some(batch), answer: OnceLock::new() }),
        }
        spare.expect("it was just filled")
    }

    /// Keeps what an answered ticket was made of.
    fn recycle_ticket(&self, mut ticket: Arc<Ticket>) {
        // Whoever wrote the group has let go of it before the answer could be read.
        let Some(batch) = Arc::get_mut(&mut ticket).and_then(|ticket| ticket.batch.take()) else { return };
        self.recycle(batch);
        let mut spare = self.spare_tickets.lock();
        if spare.len() < SPARE_BATCHES {
            spare.push(ticket);
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn expose(&self, out: &mut Exposition) {
        self.expose_as("prometheus_tsdb_wal_", out);
        let name = "prometheus_tsdb_wal_corruptions_total";
        out.counter(name, "Total number of WAL corruptions.", &self.metrics().corruptions);
    }

    /// What it counts, under names that begin with `prefix`.
    pub(crate) fn expose_as(&self, prefix: &str, out: &mut Exposition) {
        let storage_bytes = fs::dir_size(&self.dir);
        self.metrics().expose(prefix, self.options.compression, self.segment(), storage_bytes, out);
    }

    /// Removes all segments before `n`; the one being written stays.
    pub fn remove_before(&self, n: u64) -> Result<()> {
        segment::remove_before(&self.dir, n.min(self.segment()))?;
        fs::sync_dir(&self.dir)
    }

    /// Where the next record will be: segment and byte. All records logged so far lie before.
    pub fn position(&self) -> (u64, u64) {
        let tail = self.tail.lock();
        (tail.number, tail.len)
    }

    /// The number of the segment being written.
    pub fn segment(&self) -> u64 {
        self.shared.segment.load(Ordering::Relaxed)
    }

    /// Why the log takes nothing more, if so.
    pub fn poison(&self) -> Option<&str> {
        self.shared.poison.get().map(String::as_str)
    }

    /// Appends a batch; when this returns the batch survives the end of the process, or is refused as a whole.
    pub fn log(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let ticket = self.ticket(batch);
        self.queue.lock().push(Arc::clone(&ticket));
        let mut tail = self.tail.lock();
        if ticket.answer.get().is_none() {
            let mut group = std::mem::take(&mut tail.group);
            std::mem::swap(&mut *self.queue.lock(), &mut group);
            let written = match self.poison() {
                Some(why) => Err(Error::Poisoned(why.to_owned())),
                None => tail.write_group(&group, &self.shared),
            };
            let answer = written.map_err(Arc::new);
            if answer.is_err() {
                self.shared.metrics.writes_failed.inc();
            }
            for ticket in &group {
                let batch = ticket.batch();
                let saved = batch.bytes_raw.saturating_sub(batch.payload.len());
                self.shared.metrics.bytes_saved.add(saved as u64);
                ticket.answer.set(answer.clone()).expect("a ticket leaves the queue once");
            }
            // Never long: there are as many as threads that commit.
            group.clear();
            tail.group = group;
        }
        drop(tail);
        let answer = ticket.answer.get().expect("the ticket was in the queue before the tail was locked");
        let answer = answer.clone().map_err(Error::Refused);
        self.recycle_ticket(ticket);
        answer
    }

    /// Brings everything logged so far to the medium, now.
    pub fn sync(&self) -> Result<()> {
        let open = Arc::clone(&self.tail.lock().file);
        let closed = self.shared.unsynced.lock().closed.clone();
        for file in closed.iter().chain([&open]) {
            self.shared.sync(file);
        }
        self.poison().map_or(Ok(()), |why| Err(Error::Poisoned(why.to_owned())))
    }

    /// Closes the open segment and starts the next one.
    pub fn roll(&self) -> Result<u64> {
        let mut tail = self.tail.lock();
        let closed = tail.roll(&self.shared)?;
        self.shared.close(closed);
        Ok(tail.number)
    }

    /// Pads, syncs and ends the log; the error is that of the last sync.
    pub fn close(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        let Some(syncer) = self.syncer.take() else { return Ok(()) };
        self.shared.unsynced.lock().is_stopping = true;
        self.shared.wake.notify_all();
        if syncer.join().is_err() {
            return Err(Error::Poisoned("the syncing thread panicked".to_owned()));
        }
        let mut tail = self.tail.lock();
        tail.pad(&self.shared)?;
        tail.file.sync_data()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            tracing::error!(error = %e, "cannot close the log");
        }
    }
}

impl Shared {
    fn close(&self, file: Arc<File>) {
        let mut unsynced = self.unsynced.lock();
        unsynced.open.take_if(|open| Arc::ptr_eq(open, &file));
        unsynced.closed.push(file);
        self.wake.notify_all();
    }

    fn sync_until_stopped(&self, interval: Option<Duration>) {
        let mut next = interval.map(|interval| Instant::now() + interval);
        loop {
            let mut unsynced = self.unsynced.lock();
            while unsynced.closed.is_empty()
                && !unsynced.is_stopping
                && next.is_none_or(|next| Instant::now() < next)
            {
                match next {
                    Some(next) => drop(self.wake.wait_until(&mut unsynced, next)),
                    None => self.wake.wait(&mut unsynced),
                }
            }
            let mut files = std::mem::take(&mut unsynced.closed);
            if let Some(due) = next
                && Instant::now() >= due
            {
                files.extend(unsynced.open.take());
                next = interval.map(|interval| Instant::now() + interval);
            }
            let is_stopping = unsynced.is_stopping;
            drop(unsynced);
            for file in files {
                self.sync(&file);
            }
            if is_stopping {
                return;
            }
        }
    }

    fn sync(&self, file: &File) {
        let started = Instant::now();
        let synced = file.sync_data();
        self.metrics.fsyncs.0.observe(started.elapsed().as_secs_f64());
        if let Err(e) = synced {
            tracing::error!(error = %e, "the log cannot be synced; no more samples are accepted until a restart");
            // Only the first reason is kept.
            let _ = self.poison.set(e.to_string());
        }
    }
}

impl Tail {
    /// Writes all batches or none.
    fn write_group(&mut self, group: &[Arc<Ticket>], shared: &Shared) -> Result<()> {
        self.clean()?;
        let start = (Arc::clone(&self.file), self.number, self.len);
        let mut closed = Vec::new();
        let written = self.frame_and_write(group, shared, &mut closed);
        if written.is_err() {
            self.is_dirty = true;
            if self.number == start.1 {
                self.len = start.2;
            } else {
                // The group began in a segment closed since: cut that one back, and empty the present one.
                self.len = 0;
                if let Err(e) = start.0.set_len(start.2) {
                    let _ = shared.poison.set(format!("a refused write cannot be taken back: {e}"));
                }
            }
            if let Err(e) = self.clean() {
                tracing::warn!(error = %e, "cannot take a refused write back yet");
            }
        }
        for file in closed {
            shared.close(file);
        }
        shared.unsynced.lock().open = Some(Arc::clone(&self.file));
        written
    }

    /// Cuts away what a refused write left behind.
    fn clean(&mut self) -> Result<()> {
        if self.is_dirty {
            self.file.set_len(self.len)?;
            self.is_dirty = false;
        }
        Ok(())
    }

    fn frame_and_write(
        &mut self,
        group: &[Arc<Ticket>],
        shared: &Shared,
        closed: &mut Vec<Arc<File>>,
    ) -> Result<()> {
        self.framed.clear();
        for (record, flags) in group.iter().flat_map(|ticket| ticket.batch().iter()) {
            if !self.fits(record.len()) {
                self.flush(shared)?;
                closed.push(self.roll(shared)?);
                if !self.fits(record.len()) {
                    return Err(Error::corrupt(
                        self.file.path(),
                        0,
                        format!("a record of {} bytes does not fit a segment", record.len()),
                    ));
                }
            }
            self.frame(record, flags, &shared.metrics);
        }
        self.flush(shared)
    }

    fn end(&self) -> u64 {
        self.len + self.framed.len() as u64
    }

    fn page_left(&self) -> usize {
        PAGE_LEN - usize::try_from(self.end() % PAGE_LEN as u64).expect("less than a page")
    }

    /// Whether a record fits what is left of the segment.
    fn fits(&self, len: usize) -> bool {
        if self.end() >= self.options.segment_bytes {
            return false;
        }
        let here = self.page_left().saturating_sub(HEADER_LEN) as u64;
        let pages_after = (self.options.segment_bytes - self.end() - 1) / PAGE_LEN as u64;
        len as u64 <= here + pages_after * (PAGE_LEN - HEADER_LEN) as u64
    }

    fn frame(&mut self, mut record: &[u8], flags: u8, metrics: &Metrics) {
        let mut is_first = true;
        while is_first || !record.is_empty() {
            let mut left = self.page_left();
            if left < HEADER_LEN {
                self.framed.resize(self.framed.len() + left, 0);
                left = PAGE_LEN;
            }
            let (part, rest) = record.split_at(record.len().min(left - HEADER_LEN));
            let kind = match (is_first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let len = u16::try_from(part.len()).expect("a part is shorter than a page");
            self.framed.push(kind | flags);
            self.framed.extend_from_slice(&len.to_be_bytes());
            self.framed.extend_from_slice(&crc32c::crc32c(part).to_be_bytes());
            self.framed.extend_from_slice(part);
            metrics.part_writes.inc();
            metrics.part_bytes.add((HEADER_LEN + part.len()) as u64);
            record = rest;
            is_first = false;
        }
    }

    fn flush(&mut self, shared: &Shared) -> Result<()> {
        if self.framed.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.framed, self.len)?;
        let end = self.end();
        shared.metrics.page_flushes.inc();
        shared.metrics.completed_pages.add(end / PAGE_LEN as u64 - self.len / PAGE_LEN as u64);
        self.len = end;
        self.framed.clear();
        // A group can be large once; its memory is not kept for ever.
        self.framed.shrink_to(1 << 20);
        Ok(())
    }

    /// Fills the page up with zeros, as upstream leaves a segment.
    fn pad(&mut self, shared: &Shared) -> Result<()> {
        self.clean()?;
        self.framed.clear();
        if self.page_left() < PAGE_LEN {
            self.framed.resize(self.page_left(), 0);
            self.flush(shared)?;
        }
        Ok(())
    }

    /// Goes on in a new segment; the caller syncs the old one.
    fn roll(&mut self, shared: &Shared) -> Result<Arc<File>> {
        self.pad(shared)?;
        let path = segment::path(&self.dir, self.number + 1);
        let file = Arc::new(match File::create_new(&path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                // An earlier attempt to roll stopped half-way; nothing was ever put in it.
                File::create(&path)?
            }
            other => other?,
        });
        fs::sync_dir(&self.dir)?;
        self.number += 1;
        self.len = 0;
        shared.segment.store(self.number, Ordering::Relaxed);
        Ok(std::mem::replace(&mut self.file, file))
    }
}
