//! For tests: series in memory as a source of blocks, and what a set of series looks like in plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::storage::SeriesSet;
use model::{Labels, SampleBatch, TimeRange};
use ulid::Ulid;

use super::{SeriesSource, SourceSeries};
use crate::Result;
use crate::block::{Block, BlockMeta, writer};
use crate::chunk::xor;

/// Samples by time by series: the model of a store. Values by their bits, so that every NaN equals itself.
pub(crate) type Model = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// A [`Model`] as a source, in chunks of at most `per_chunk` samples.
pub(crate) struct ModelSource {
    series: std::vec::IntoIter<(Labels, BTreeMap<i64, u64>)>,
    symbols: Vec<Box<[u8]>>,
    per_chunk: u16,
}

impl ModelSource {
    pub(crate) fn new(model: &Model, per_chunk: u16) -> Self {
        let symbols: BTreeSet<&[u8]> =
            model.keys().flat_map(Labels::iter).flat_map(|(name, value)| [name, value]).collect();
        Self {
            symbols: symbols.into_iter().map(Into::into).collect(),
            series: model.clone().into_iter().collect::<Vec<_>>().into_iter(),
            per_chunk,
        }
    }
}

impl SeriesSource for ModelSource {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        Ok(std::mem::take(&mut self.symbols))
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        let Some((labels, samples)) = self.series.next() else { return Ok(false) };
        let mut batch = SampleBatch::default();
        for (&t, &v) in &samples {
            batch.push(t, f64::from_bits(v));
        }
        series.labels = labels;
        series.chunks.clear();
        xor::encode_samples(&batch, self.per_chunk, |chunk| series.chunks.push(chunk));
        Ok(true)
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// `n` series of one metric, each with a sample every `step` ms in `times`.
pub(crate) fn model(n: i32, times: std::ops::Range<i64>, step: usize) -> Model {
    (0..n)
        .map(|i| {
            let (pod, zone) = (format!("pod-{i:05}"), format!("z{}", i % 3));
            let samples =
                times.clone().step_by(step).map(|t| (t, ((t / 7 * i64::from(i + 1)) as f64 / 4.0).to_bits()));
            (labels(&[("__name__", "requests_total"), ("pod", &pod), ("zone", &zone)]), samples.collect())
        })
        .collect()
}

/// Writes `model` as a level-1 block of `times` below `dir`.
pub(crate) fn write_block(dir: &Path, model: &Model, times: std::ops::Range<i64>) -> Option<PathBuf> {
    let meta = BlockMeta::level1(Ulid::generate(), times.start, times.end);
    let options = writer::Options::default();
    writer::write(dir, meta, &mut ModelSource::new(model, 120), options, &mut |_, _| {})
        .unwrap()
        .map(|meta| dir.join(meta.ulid.to_string()))
}

/// Everything a set holds, in its order.
pub(crate) fn collect(set: &dyn SeriesSet, range: TimeRange) -> Vec<(Labels, BTreeMap<i64, u64>)> {
    (0..set.len())
        .map(|i| {
            let mut batch = SampleBatch::default();
            set.samples_into(i, range, &mut batch).unwrap();
            crate::testing::assert_points_agree(set, i, range);
            assert!(batch.ts.is_sorted_by(|a, b| a < b), "times ascend");
            let mut last = SampleBatch::default();
            set.last_into(i, range, &mut last).unwrap();
            let bits = |batch: &SampleBatch| batch.iter().last().map(|sample| (sample.t, sample.v.to_bits()));
            assert_eq!(bits(&last), bits(&batch), "the last sample alone is the last of all");
            (set.labels(i), batch.iter().map(|sample| (sample.t, sample.v.to_bits())).collect())
        })
        .collect()
}

/// Everything a block holds.
pub(crate) fn read_block(dir: &Path) -> Model {
    let block = Arc::new(Block::open(dir).unwrap());
    collect(&block.select(&[], TimeRange::ALL).unwrap(), TimeRange::ALL).into_iter().collect()
}

/// A program of a reference server, from `bin` below the folder that `FERULA_PEERS` names, or a loud word that
/// the calling test is skipped.
pub(crate) fn peer(name: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_PEERS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers"),
        PathBuf::from,
    );
    present(root.join("bin").join(name), test, "FERULA_PEERS")
}

/// `rel` below the reference projects' test data, or a loud word that the calling test is skipped.
pub(crate) fn upstream(rel: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_UPSTREAM")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/upstream"), PathBuf::from);
    present(root.join(rel), test, "FERULA_UPSTREAM")
}

fn present(path: PathBuf, test: &str, variable: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    // Not `println!`: nobody sees what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {} is not there (set {variable})", path.display());
    None
}
