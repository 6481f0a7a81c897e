//! What blocks cost: writing one from the head's chunks, merging three, asking one of 100,000 series.
//!
//! 100,000 series of eleven labels, 480 samples each (two hours at 15 s) in four chunks. Floor: a block is some
//! 70 MB, which memcpy moves in 10 ms and the checksum passes over in 5 ms; the rest is ours.
//! Prints CPU time of this thread, which others on the machine do not change much. `cargo bench --bench compact_block`.

#![expect(clippy::print_stdout, reason = "a bench is a program that prints")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::storage::SeriesSet as _;
use model::{Labels, MatchOp, Matcher, SampleBatch, TimeRange};
use tsdb::Result;
use tsdb::block::{Block, BlockMeta, writer};
use tsdb::chunk::EncodedChunk;
use tsdb::chunk::xor;
use tsdb::compact::merge::BlockMerge;
use tsdb::compact::{SeriesSource, SourceSeries};
use ulid::Ulid;

const SERIES: usize = 100_000;
const RANGE_MS: i64 = 7_200_000;

/// Series whose chunks are one of a few made beforehand, shifted in time by block.
struct Source {
    labels: Vec<Labels>,
    chunks: Vec<Vec<EncodedChunk>>,
    next: usize,
}

impl Source {
    fn new(start: i64) -> Self {
        let mut labels: Vec<Labels> = (0..SERIES).map(labels).collect();
        labels.sort_unstable();
        let chunks = (0..64_i64).map(|kind| {
            let mut batch = SampleBatch::default();
            for i in 0..480_i64 {
                let jitter = (i * kind) % 3;
                batch.push(start + i * 15_000 + jitter, (i * (kind + 1) + (i * i) % 17) as f64);
            }
            let mut chunks = Vec::new();
            xor::encode_samples(&batch, 120, |chunk| chunks.push(chunk));
            chunks
        });
        Self { labels, chunks: chunks.collect(), next: 0 }
    }
}

fn labels(i: usize) -> Labels {
    let (metric, pod, node) = (i % 200, i / 200, i / 200 % 40);
    let pairs = [
        ("__name__", format!("metric_{metric:03}_total")),
        ("cluster", "eu-1".to_owned()),
        ("container", format!("app-{}", pod % 20)),
        ("endpoint", "http".to_owned()),
        ("instance", format!("10.0.{}.{}:8080", pod / 250, pod % 250)),
        ("job", format!("job-{}", pod % 10)),
        ("method", ["GET", "POST", "PUT", "DELETE"][metric % 4].to_owned()),
        ("namespace", format!("team-{}", pod % 30)),
        ("node", format!("node-{node:02}")),
        ("pod", format!("app-{pod:05}-x7f9c")),
        ("service", format!("svc-{}", pod % 20)),
    ];
    Labels::from_pairs(pairs)
}

impl SeriesSource for Source {
    fn symbols(&mut self) -> Result<Vec<Box<[u8]>>> {
        let mut symbols: Vec<&[u8]> =
            self.labels.iter().flat_map(Labels::iter).flat_map(|(n, v)| [n, v]).collect();
        symbols.sort_unstable();
        symbols.dedup();
        Ok(symbols.into_iter().map(Into::into).collect())
    }

    fn next(&mut self, series: &mut SourceSeries) -> Result<bool> {
        let Some(labels) = self.labels.get(self.next) else { return Ok(false) };
        series.labels = labels.clone();
        series.chunks.clone_from(&self.chunks[self.next % self.chunks.len()]);
        self.next += 1;
        Ok(true)
    }
}

/// Runs `f` and prints the CPU time of this thread, per `n` of `unit`.
fn measure<T>(what: &str, n: usize, unit: &str, f: impl FnOnce() -> T) -> T {
    let before = cpu_ns();
    let out = f();
    let ns = cpu_ns() - before;
    println!("{what:<44} {:>9.1} ms CPU {:>9.1} ns/{unit}", ns as f64 / 1e6, ns as f64 / n as f64);
    out
}

fn cpu_ns() -> u64 {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells the time of a thread");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("the first field is the time")
}

fn write(dir: &Path, meta: BlockMeta, source: &mut dyn SeriesSource) -> PathBuf {
    let ulid = meta.ulid;
    writer::write(dir, meta, source, writer::Options::default(), &mut |_, _| {}).expect("the disk has room");
    dir.join(ulid.to_string())
}

fn main() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let samples = SERIES * 480;
    let mut blocks = Vec::new();
    for i in 0..3 {
        let start = i * RANGE_MS;
        let mut source = Source::new(start);
        let meta = BlockMeta::level1(Ulid::generate(), start, start + RANGE_MS);
        let path = measure("write a block", samples, "sample", || write(dir.path(), meta, &mut source));
        let block = measure("open it", SERIES, "series", || Block::open(&path).expect("just written"));
        println!("{:>60.2} B/sample", block.size_bytes() as f64 / samples as f64);
        blocks.push(Arc::new(block));
    }
    let merged = |blocks: &[Arc<Block>]| {
        let metas: Vec<BlockMeta> = blocks.iter().map(|block| block.meta().clone()).collect();
        BlockMeta::compacted(Ulid::generate(), &metas)
    };
    measure("merge three blocks one after the other", 3 * samples, "sample", || {
        write(dir.path(), merged(&blocks), &mut BlockMerge::new(&blocks).expect("sound blocks"))
    });
    let mut shifted = Source::new(30_000);
    let meta = BlockMeta::level1(Ulid::generate(), 0, RANGE_MS + 30_000);
    let overlapping = Block::open(&write(dir.path(), meta, &mut shifted)).expect("just written");
    let pair = [Arc::clone(&blocks[0]), Arc::new(overlapping)];
    measure("merge two blocks that overlap", 2 * samples, "sample", || {
        write(dir.path(), merged(&pair), &mut BlockMerge::new(&pair).expect("sound blocks"))
    });

    let block = &blocks[0];
    let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).expect("a sound pattern");
    let selections = [
        ("select all", vec![]),
        ("select one metric", vec![matcher(MatchOp::Eq, "__name__", "metric_007_total")]),
        ("select by regex, a tenth", vec![matcher(MatchOp::Re, "__name__", "metric_.*7.*")]),
        (
            "select by regex over pods, and a metric",
            vec![
                matcher(MatchOp::Eq, "__name__", "metric_007_total"),
                matcher(MatchOp::Re, "pod", "app-00.*-x.*"),
            ],
        ),
        ("select by negation alone", vec![matcher(MatchOp::Ne, "job", "job-1")]),
    ];
    for (what, matchers) in selections {
        let set =
            measure(what, SERIES, "series held", || block.select(&matchers, TimeRange::ALL).expect("sound"));
        println!("{:>60} series", set.len());
    }
    let set = block.select(&[], TimeRange::ALL).expect("sound");
    measure("labels of all", set.len(), "series", || {
        (0..set.len()).map(|i| set.labels(i).len()).sum::<usize>()
    });
    let mut batch = SampleBatch::default();
    measure("samples of all", samples, "sample", || {
        for i in 0..set.len() {
            batch.clear();
            set.samples_into(i, TimeRange::ALL, &mut batch).expect("sound");
        }
    });
}
