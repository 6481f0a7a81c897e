use std::collections::BTreeMap;

use model::storage::SeriesSet as _;
use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::block::{BlockMeta, writer};
use crate::chunk::Encoding;
use crate::chunk::testing::{batches, histogram, lines, plain};
use crate::compact::testing::{labels, peer};

/// One series with these chunks.
struct Chunks(Option<Vec<EncodedChunk>>);

impl SeriesSource for Chunks {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        Ok(["__name__", "up"].map(|symbol| Box::from(symbol.as_bytes())).into())
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        let Some(chunks) = self.0.take() else { return Ok(false) };
        series.labels = labels(&[("__name__", "up")]);
        series.chunks = chunks;
        Ok(true)
    }
}

fn block(dir: &std::path::Path, source: &mut dyn SeriesSource) -> Option<Arc<Block>> {
    let meta = BlockMeta::level1(Ulid::generate(), i64::MIN / 2, i64::MAX / 2);
    let meta = writer::write(dir, meta, source, writer::Options::default(), &mut |_, _| {}).unwrap()?;
    Some(Arc::new(Block::open(&dir.join(meta.ulid.to_string())).unwrap()))
}

fn encoded(batch: &SampleBatch, floats: FloatEncoding, per_chunk: u16) -> Vec<EncodedChunk> {
    let mut chunks = Vec::new();
    chunk::encode_batch(batch, floats, true, per_chunk, |chunk| chunks.push(chunk));
    chunks
}

fn block_of(dir: &std::path::Path, batch: &SampleBatch, floats: FloatEncoding) -> Option<Arc<Block>> {
    block(dir, &mut Chunks(Some(encoded(batch, floats, 50))))
}

fn samples(block: &Arc<Block>) -> SampleBatch {
    let mut out = SampleBatch::default();
    let set = block.select(&[], TimeRange::ALL).unwrap();
    assert_eq!(set.len(), 1);
    set.samples_into(0, TimeRange::ALL, &mut out).unwrap();
    out
}

fn chunks_of(block: &Arc<Block>, floats: FloatEncoding) -> Vec<EncodedChunk> {
    let mut source = BlockMerge::new(&[Arc::clone(block)]).unwrap().with_floats(floats);
    let mut series = SourceSeries::default();
    assert!(source.next(&mut series).unwrap());
    series.chunks
}

/// Each sample's line under its time.
fn by_time(batch: &SampleBatch) -> BTreeMap<i64, String> {
    let time = |line: &String| line.split(' ').next().unwrap().parse().unwrap();
    plain(batch).into_iter().map(|line| (time(&line), line)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn blocks_of_all_kinds_merge_to_every_sample_once(
        parts in prop::collection::vec((batches(), 0..40_000_i64, any::<bool>()), 2..4),
        xor2: bool,
    ) {
        let dir = tempfile::TempDir::new().unwrap();
        let floats = |xor2| if xor2 { FloatEncoding::Xor2 } else { FloatEncoding::Xor };
        let mut all: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        let mut blocks = Vec::new();
        for (mut batch, shift, xor2) in parts {
            batch.ts.iter_mut().for_each(|t| *t += shift);
            batch.histograms.iter_mut().for_each(|sample| sample.t += shift);
            for (t, line) in by_time(&batch) {
                all.entry(t).or_default().push(line);
            }
            blocks.extend(block_of(dir.path(), &batch, floats(xor2)));
        }
        let mut merge = BlockMerge::new(&blocks).unwrap().with_floats(floats(xor2));
        let merged = samples(&block(dir.path(), &mut merge).unwrap());
        let found = by_time(&merged);
        prop_assert_eq!(lines(&merged).len(), found.len());
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
        for (t, line) in found {
            prop_assert!(all[&t].contains(&line), "{line} is none of {:?}", all[&t]);
        }
    }
}

/// Floats at these times, with a start time if it is not 0.
fn floats(times: impl Iterator<Item = i64>, st: i64) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for t in times {
        batch.push_started(st, t, t as f64);
    }
    batch
}

#[test]
fn only_what_overlaps_is_written_anew() {
    let dir = tempfile::TempDir::new().unwrap();
    // In chunks of 50: 0-490, 500-990, 1000-1490.
    let first = block_of(dir.path(), &floats((0..150).map(|i| i * 10), 0), FloatEncoding::Xor2).unwrap();
    let second = block_of(dir.path(), &floats((60..90).map(|i| i * 10 + 5), 0), FloatEncoding::Xor2).unwrap();
    let before = chunks_of(&first, FloatEncoding::Xor);
    for (floats, encoding) in [(FloatEncoding::Xor, Encoding::Xor), (FloatEncoding::Xor2, Encoding::Xor2)] {
        let blocks = [Arc::clone(&first), Arc::clone(&second)];
        let mut merge = BlockMerge::new(&blocks).unwrap().with_floats(floats);
        let merged = block(dir.path(), &mut merge).unwrap();
        let after = chunks_of(&merged, floats);
        let shape: Vec<_> = after.iter().map(|chunk| (chunk.mint, chunk.maxt, chunk.encoding)).collect();
        assert_eq!(shape, [(0, 490, Encoding::Xor2), (500, 990, encoding), (1000, 1490, Encoding::Xor2)]);
        assert_eq!((&after[0].bytes, &after[2].bytes), (&before[0].bytes, &before[2].bytes));
        assert_eq!(samples(&merged).len(), 180);
    }
}

#[test]
fn start_times_outlive_a_merge_of_plain_chunks() {
    let dir = tempfile::TempDir::new().unwrap();
    let plain = block_of(dir.path(), &floats((0..10).map(|i| i * 10), 0), FloatEncoding::Xor).unwrap();
    let started = block_of(dir.path(), &floats((4..6).map(|i| i * 10 + 5), 3), FloatEncoding::Xor).unwrap();
    let merged = block(dir.path(), &mut BlockMerge::new(&[plain, started]).unwrap()).unwrap();
    let out = samples(&merged);
    assert_eq!(out.ts, [0, 10, 20, 30, 40, 45, 50, 55, 60, 70, 80, 90]);
    assert_eq!(out.sts, [0, 0, 0, 0, 0, 3, 0, 3, 0, 0, 0, 0]);
    // Up to the first start time the chunk is plain, from there on it has room for more.
    let encodings: Vec<_> =
        chunks_of(&merged, FloatEncoding::Xor).iter().map(|chunk| (chunk.mint, chunk.encoding)).collect();
    assert_eq!(encodings, [(0, Encoding::Xor), (45, Encoding::Xor2)]);
}

#[test]
fn histograms_stay_beside_floats() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut histograms = SampleBatch::default();
    for t in [5, 20, 35] {
        let histogram = model::AnyHistogram::Int(Box::new(histogram(&[(0, 3)], &[])));
        histograms.histograms.push(model::HistogramSample { t, st: 0, histogram });
    }
    let a = block_of(dir.path(), &floats([10, 20, 30].into_iter(), 0), FloatEncoding::Xor).unwrap();
    let b = block_of(dir.path(), &histograms, FloatEncoding::Xor).unwrap();
    let merged = block(dir.path(), &mut BlockMerge::new(&[a, b]).unwrap()).unwrap();
    let out = samples(&merged);
    // At 20 the histogram was there first: its chunk begins earlier.
    assert_eq!(out.ts, [10, 30]);
    assert_eq!(out.histograms.iter().map(|sample| sample.t).collect::<Vec<_>>(), [5, 20, 35]);
    assert_eq!((merged.meta().stats.num_float_samples, merged.meta().stats.num_histogram_samples), (2, 3));
}

#[test]
fn what_is_left_of_a_chunk_keeps_its_encoding() {
    let mut batch = floats((0..10).map(|i| i * 10), 7);
    for encoding in [Encoding::Xor2, Encoding::HistogramSt] {
        if encoding == Encoding::HistogramSt {
            batch = SampleBatch::default();
            let histogram = model::AnyHistogram::Int(Box::new(histogram(&[(0, 3)], &[])));
            let sample = |t| model::HistogramSample { t, st: 0, histogram: histogram.clone() };
            batch.histograms.extend((0..10).map(|i| sample(i * 10)));
        }
        let mut chunks = Vec::new();
        chunk::encode_as(encoding, &batch, |chunk| chunks.push(chunk));
        assert_eq!(chunks.len(), 1);
        assert_eq!((chunks[0].mint, chunks[0].maxt, chunks[0].encoding), (0, 90, encoding));
        let mut out = SampleBatch::default();
        chunk::decode(encoding, &chunks[0].bytes, TimeRange::ALL, &mut out).unwrap();
        assert_eq!(plain(&out), plain(&batch));
    }
}

#[test]
fn promtool_dumps_our_histograms_as_we_print_them() {
    let Some(promtool) = peer("promtool", "promtool_dumps_our_histograms_as_we_print_them") else { return };
    let counted =
        |n: u64| histogram(&[(-3, n), (0, 2 * n), (7, 1)], &[(2, n), (n.to_le_bytes()[0].into(), 3)]);
    let custom = model::Histogram {
        schema: model::histogram::CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        custom_values: vec![0.005, 1.0, 2.5],
        ..histogram(&[(0, 3), (1, 4), (3, 9)], &[])
    };
    for is_float in [false, true] {
        let sample = |t, histogram: &model::Histogram| {
            let histogram = if is_float {
                let mut float = histogram.to_float();
                float.positive_buckets[1] += 0.25;
                model::AnyHistogram::Float(Box::new(float))
            } else {
                model::AnyHistogram::Int(Box::new(histogram.clone()))
            };
            model::HistogramSample { t, st: 0, histogram }
        };
        let (mut ours, mut theirs) = (SampleBatch::default(), SampleBatch::default());
        for n in 3..200_u64 {
            // Some that follow each other in a chunk, some that are resets.
            let t = 1_000_000 + n.cast_signed() * 1000;
            ours.histograms.push(sample(t, &counted(n / 3 * 3)));
            if n > 150 {
                theirs.histograms.push(sample(t + 500, &counted(n)));
            }
        }
        ours.histograms.push(sample(2_000_000, &custom));
        let dir = tempfile::TempDir::new().unwrap();
        let blocks = [&ours, &theirs].map(|batch| block_of(dir.path(), batch, FloatEncoding::Xor).unwrap());
        let store = dir.path().join("store");
        let meta = BlockMeta::level1(Ulid::generate(), 0, 3_000_000);
        let mut merge = BlockMerge::new(&blocks).unwrap();
        let meta =
            writer::write(&store, meta, &mut merge, writer::Options::default(), &mut |_, _| {}).unwrap();
        let merged = Arc::new(Block::open(&store.join(meta.unwrap().ulid.to_string())).unwrap());
        // The tool wants a log directory beside the blocks.
        crate::fs::create_dir_all(&store.join(crate::db::paths::WAL)).unwrap();
        let run = std::process::Command::new(&promtool).args(["tsdb", "dump"]).arg(&store).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

        let name = labels(&[("__name__", "up")]);
        let printed = samples(&merged).histograms.into_iter().map(|sample| match sample.histogram {
            model::AnyHistogram::Int(histogram) => format!("{name} {histogram} {}", sample.t),
            model::AnyHistogram::Float(histogram) => format!("{name} {histogram} {}", sample.t),
        });
        let printed: Vec<String> = printed.collect();
        assert_eq!(printed.len(), 197 + 49 + 1);
        // The tool asks for floats, float histograms and histograms in turn, and each vain question costs a sample.
        let lost = if is_float { 1 } else { 2 };
        assert_eq!(String::from_utf8(run.stdout).unwrap().lines().collect::<Vec<_>>(), printed[lost..]);
    }
}
