//! Checkpoints: what is still needed of old segments, written as a small log of its own.
//!
//! Compat: prometheus `tsdb/wlog`, `Checkpoint`. Unlike it, records of types that nobody knows are carried on.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use foldhash::HashSet;
use model::Timestamp;
use model::storage::Metadata;

use super::reader::Records;
use super::record::{self, HistogramRecords, Kind, RefSample, RefTombstone};
use super::{Batch, Options, Writer, segment};
use crate::{Error, Result, fs};

/// How much is gathered before it is written.
const FLUSH_BYTES: usize = 1 << 20;

/// From which times on things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    pub samples: Timestamp,
    /// Deletions may hide late samples, and those of chunks that began before.
    pub deletions: Timestamp,
}

impl From<Timestamp> for Since {
    fn from(t: Timestamp) -> Self {
        Self { samples: t, deletions: t }
    }
}

/// As [`create`], then removes what the checkpoint replaces.
pub fn write(
    dir: &Path,
    last: u64,
    from: impl Into<Since>,
    stores_start_times: bool,
    options: Options,
    keep: impl Fn(u64) -> bool,
) -> Result<()> {
    create(dir, last, from, stores_start_times, options, keep)?;
    remove_covered(dir, last)
}

/// Writes the checkpoint that covers all segments up to `last`, from the one before it and those segments. Keeps series, their tombstones and their newest metadata where `keep` says so, and everything that has a
/// time from `from` on. Start times are kept if they are still wanted.
///
/// What `keep` says of a series must not change meanwhile.
pub fn create(
    dir: &Path,
    last: u64,
    from: impl Into<Since>,
    stores_start_times: bool,
    options: Options,
    keep: impl Fn(u64) -> bool,
) -> Result<()> {
    let previous = segment::checkpoints(dir)?.last().copied();
    let segments: Vec<u64> = segment::list(dir)?
        .into_iter()
        .filter(|&n| n <= last && previous.is_none_or(|previous| n > previous))
        .collect();
    if let (Some(previous), Some(&first)) = (previous, segments.first())
        && first != previous + 1
    {
        let what = format!("segment {first} does not follow checkpoint {previous}");
        return Err(Error::corrupt(dir, 0, what));
    }
    let target = segment::checkpoint_path(dir, last);
    let tmp = fs::with_suffix(&target, ".tmp");
    fs::remove_dir_all(&tmp)?;
    let writer = Writer::open(&tmp, Options { sync_interval: None, ..options })?;
    let mut filter = Filter::new(from.into(), keep, writer, stores_start_times);
    if let Some(previous) = previous {
        let path = segment::checkpoint_path(dir, previous);
        for n in segment::list(&path)? {
            filter.copy(&segment::path(&path, n))?;
        }
    }
    for &n in &segments {
        filter.copy(&segment::path(dir, n))?;
    }
    filter.finish()?;
    fs::sync_dir(&tmp)?;
    fs::rename(&tmp, &target)
}

/// Removes segments and checkpoints that the checkpoint `last` replaces.
pub fn remove_covered(dir: &Path, last: u64) -> Result<()> {
    segment::remove_before(dir, last + 1)?;
    for n in segment::checkpoints(dir)?.into_iter().filter(|&n| n < last) {
        fs::remove_dir_all(&segment::checkpoint_path(dir, n))?;
    }
    fs::sync_dir(dir)
}

struct Filter<K> {
    from: Since,
    keep: K,
    writer: Writer,
    batch: Batch,
    record: Vec<u8>,
    samples: record::Samples,
    histograms: HistogramRecords,
    metadata: LatestMetadata,
}

/// What was said last of each series. Thousands of series share a few texts.
#[derive(Default)]
struct LatestMetadata {
    texts: HashSet<Rc<Metadata>>,
    by_series: BTreeMap<u64, Rc<Metadata>>,
}

impl LatestMetadata {
    fn set(&mut self, series: u64, metadata: Metadata) {
        let text = if let Some(text) = self.texts.get(&metadata) {
            Rc::clone(text)
        } else {
            let text = Rc::new(metadata);
            self.texts.insert(Rc::clone(&text));
            text
        };
        self.by_series.insert(series, text);
    }
}

impl<K: Fn(u64) -> bool> Filter<K> {
    fn new(from: Since, keep: K, writer: Writer, stores_start_times: bool) -> Self {
        Self {
            from,
            keep,
            batch: writer.batch(),
            writer,
            record: Vec::new(),
            samples: record::Samples::new(stores_start_times),
            histograms: HistogramRecords::new(stores_start_times),
            metadata: LatestMetadata::default(),
        }
    }

    fn copy(&mut self, path: &Path) -> Result<()> {
        let map = fs::Mmap::open(path)?;
        map.advise_sequential();
        let mut records = Records::new(&map);
        while let Some(record) = records.next().map_err(|c| Error::corrupt(path, c.offset, c.what))? {
            self.record(record).map_err(|e| Error::corrupt(path, 0, e.to_string()))?;
            if self.batch.payload_len() >= FLUSH_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.log(std::mem::replace(&mut self.batch, self.writer.batch()))
    }

    /// Writes the rest.
    fn finish(mut self) -> Result<()> {
        self.record.clear();
        for (&series, metadata) in &self.metadata.by_series {
            record::push_metadata(&mut self.record, series, metadata);
            // Upstream writes one record of all, which fails once that is longer than a segment.
            if self.record.len() >= FLUSH_BYTES {
                self.batch.push(&self.record);
                self.record.clear();
                self.writer.log(std::mem::replace(&mut self.batch, self.writer.batch()))?;
            }
        }
        if !self.record.is_empty() {
            self.batch.push(&self.record);
        }
        self.flush()?;
        self.writer.close()
    }

    fn record(&mut self, record: &[u8]) -> Result<(), crate::DecodeError> {
        let Self { from: Since { samples: mint, deletions }, keep, record: out, .. } = self;
        let (mint, deletions) = (*mint, *deletions);
        out.clear();
        match Kind::of(record) {
            Kind::Series => record::each_series(record, |series, pairs| {
                if keep(series) {
                    if out.is_empty() {
                        record::begin_series(out);
                    }
                    record::push_series_pairs(out, series, pairs);
                }
            })?,
            Kind::Samples => {
                let samples = &mut self.samples;
                record::each_sample(record, |sample: RefSample| {
                    if sample.t >= mint {
                        samples.push(out, sample);
                    }
                })?;
            }
            Kind::Histograms => {
                let histograms = &mut self.histograms;
                record::decode_histograms(record, |series, st, t, value| {
                    if t >= mint {
                        histograms.push(series, st, t, value);
                    }
                })?;
                let batch = &mut self.batch;
                histograms.drain(|record| batch.push(record));
            }
            Kind::Exemplars => {
                let mut exemplars = record::Exemplars::default();
                record::decode_exemplars(record, |it| {
                    if it.exemplar.t >= mint {
                        exemplars.push(out, it.series, &it.exemplar);
                    }
                })?;
            }
            Kind::Tombstones => {
                let mut tombstones = Vec::new();
                record::decode_tombstones(record, &mut tombstones)?;
                for tombstone in tombstones {
                    let RefTombstone { series, maxt, .. } = tombstone;
                    if maxt >= deletions && keep(series) {
                        if out.is_empty() {
                            record::begin_tombstones(out);
                        }
                        record::push_tombstone(out, tombstone);
                    }
                }
            }
            Kind::Metadata => {
                let latest = &mut self.metadata;
                record::decode_metadata(record, |series, metadata| {
                    if keep(series) {
                        latest.set(series, metadata);
                    }
                })?;
            }
            // Markers are of the log of late samples, which has no checkpoints.
            Kind::Markers => {}
            Kind::Unknown(_) => out.extend_from_slice(record),
        }
        if !self.record.is_empty() {
            self.batch.push(&self.record);
        }
        Ok(())
    }
}
