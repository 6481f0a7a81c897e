//! Checkpoints: what is still needed of old segments, written as a small log of its own.
//!
//! Compat: prometheus `tsdb/wlog`, `Checkpoint`.

use std::path::Path;

use model::Timestamp;

use super::reader::Records;
use super::record::{self, Kind};
use super::{Batch, Options, Writer, segment};
use crate::{Error, Result, fs};

/// How much is gathered before it is written.
const FLUSH_BYTES: usize = 1 << 20;

/// Writes the checkpoint that covers all segments up to `last`, from the one before it and those segments;
/// then removes both. Keeps series for which `keep` says so, and samples from `mint` on.
pub fn write(
    dir: &Path,
    last: u64,
    mint: Timestamp,
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
    let mut filter =
        Filter { mint, keep, batch: Batch::new(options.compress), record: Vec::new(), samples: Vec::new() };
    if let Some(previous) = previous {
        let path = segment::checkpoint_path(dir, previous);
        for n in segment::list(&path)? {
            filter.copy(&segment::path(&path, n), &writer, options.compress)?;
        }
    }
    for &n in &segments {
        filter.copy(&segment::path(dir, n), &writer, options.compress)?;
    }
    writer.log(std::mem::replace(&mut filter.batch, Batch::new(false)))?;
    writer.close()?;
    fs::sync_dir(&tmp)?;
    fs::rename(&tmp, &target)?;
    remove_covered(dir, last)
}

/// Removes segments and checkpoints that the checkpoint `last` replaces.
pub fn remove_covered(dir: &Path, last: u64) -> Result<()> {
    for n in segment::list(dir)?.into_iter().filter(|&n| n <= last) {
        fs::remove_file(&segment::path(dir, n))?;
    }
    for n in segment::checkpoints(dir)?.into_iter().filter(|&n| n < last) {
        fs::remove_dir_all(&segment::checkpoint_path(dir, n))?;
    }
    fs::sync_dir(dir)
}

struct Filter<K> {
    mint: Timestamp,
    keep: K,
    batch: Batch,
    record: Vec<u8>,
    samples: Vec<record::RefSample>,
}

impl<K: Fn(u64) -> bool> Filter<K> {
    fn copy(&mut self, path: &Path, writer: &Writer, compress: bool) -> Result<()> {
        let map = fs::Mmap::open(path)?;
        let mut records = Records::new(&map);
        while let Some(record) = records.next().map_err(|c| Error::corrupt(path, c.offset, c.what))? {
            self.record(record).map_err(|e| Error::corrupt(path, 0, e.to_string()))?;
            if self.batch.payload_len() >= FLUSH_BYTES {
                writer.log(std::mem::replace(&mut self.batch, Batch::new(compress)))?;
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &[u8]) -> Result<(), crate::DecodeError> {
        self.record.clear();
        match Kind::of(record) {
            Kind::Series => {
                record::begin_series(&mut self.record);
                let (out, keep) = (&mut self.record, &self.keep);
                record::decode_series(record, |series, labels| {
                    if keep(series) {
                        record::push_series(out, series, &labels);
                    }
                })?;
            }
            Kind::Samples => {
                self.samples.clear();
                record::decode_samples(record, &mut self.samples)?;
                self.samples.retain(|sample| sample.t >= self.mint);
                if let Some(&base) = self.samples.first() {
                    record::begin_samples(&mut self.record, base);
                    for &sample in &self.samples {
                        record::push_sample(&mut self.record, base, sample);
                    }
                }
            }
            Kind::Tombstones => {
                let mut tombstones = Vec::new();
                record::decode_tombstones(record, &mut tombstones)?;
                record::begin_tombstones(&mut self.record);
                for tombstone in tombstones.into_iter().filter(|t| t.maxt >= self.mint) {
                    record::push_tombstone(&mut self.record, tombstone);
                }
            }
            _ => self.record.extend_from_slice(record),
        }
        if self.record.len() > 1 {
            self.batch.push(&self.record);
        }
        Ok(())
    }
}
