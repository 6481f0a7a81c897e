//! What it takes to write the head out and to merge what was written: processor time of all threads and memory.
//!
//! `SERIES` series (100,000 if nothing is said) in targets of 1000, a sample each every `STEP` seconds: 15, or 60 with more
//! than 200,000 series, so that a million is filled within minutes. The head grows to three hours and `Db::maintain`
//! makes a block of the first two, truncates the head and writes the checkpoint of the log; three times. Then a
//! process of its own, which has nothing else in memory, merges the three blocks into one.
//!
//! Floor at a million series and 120 samples each: 170 MB of chunks and 100 MB of index, copied and summed some three times at
//! 3 GB/s, and 11 million pairs of labels looked at five times (sort, symbols, series, postings twice) at 10 ns: one second.
//! A head of a million series is 420 MB; a quarter of that, 105 MB, is what writing it out may take on top.

#![expect(clippy::print_stdout, reason = "a bench is a program that prints")]

mod measure;

use std::path::Path;
use std::sync::Arc;

use measure::fleet::{Fleet, SERIES as OF_TARGET};
use measure::{Cost, number, observe};
use tsdb::Db;
use tsdb::block::{Block, BlockMeta, writer};
use tsdb::compact::merge::BlockMerge;
use tsdb::db::Options;
use tsdb::head::ReplayProgress;
use ulid::Ulid;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Set in the process that merges: the directory.
const DIR: &str = "FERULA_BENCH_COMPACTION_DIR";

fn print(what: &str, cost: &Cost, n_series: usize) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let [before, peak, after] = cost.anonymous;
    println!(
        "{what}: {:.2} s CPU ({:.2} s by the clock), {:.2} us CPU/series; anonymous {:.0} MiB before, {:.0} at most ({:+.0} MiB, \
         {:+.0} %), {:.0} after; resident {:.0} MiB at most",
        cost.cpu.as_secs_f64(),
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64() * 1e6 / n_series as f64,
        mib(before),
        mib(peak),
        mib(peak - before),
        (peak - before) as f64 * 100.0 / before as f64,
        mib(after),
        mib(cost.resident_peak),
    );
}

fn print_block(meta: &BlockMeta, bytes: u64) {
    let stats = &meta.stats;
    println!(
        "  block: {} series, {} samples, {:.3} B/sample ({:.0} B/series)",
        stats.num_series,
        stats.num_samples,
        bytes as f64 / stats.num_samples as f64,
        bytes as f64 / stats.num_series as f64
    );
}

fn folder_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let sizes = entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("stays as it is").len());
    sizes.sum()
}

fn compact_head(dir: &Path, n_series: usize, step_ms: i64) {
    // The snapshots that make a start fast are measured by the bench `replay`.
    let options = Options { head_snapshot_interval: None, ..Options::default() };
    let db = Db::open(dir, &options, &ReplayProgress::default()).expect("opens");
    let mut fleet = Fleet::new(db.head(), n_series / OF_TARGET);
    let (mut n_scrapes, mut blocks_before) = (1, 0);
    for _ in 0..3 {
        while db.head().compactable_range().is_none() {
            fleet.prepare(step_ms);
            fleet.scrape_all(db.head());
            n_scrapes += 1;
        }
        if db.blocks().is_empty() {
            let samples = (n_scrapes * n_series) as f64;
            println!("log: {:.2} B/sample, series included", folder_bytes(&dir.join("wal")) as f64 / samples);
        }
        let (done, cost) = observe(|| db.maintain(fleet.t));
        done.expect("maintains");
        print("head compaction", &cost, n_series);
        let bytes = db.blocks_bytes();
        print_block(db.blocks().last().expect("there is a block"), bytes - blocks_before);
        blocks_before = bytes;
    }
    db.close().expect("closes");
}

fn merge(dir: &Path) {
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("stays as it is").path();
        if path.join("meta.json").exists() {
            blocks.push(Arc::new(Block::open(&path).expect("sound")));
        }
    }
    blocks.sort_by_key(|block| block.meta().min_time);
    assert_eq!(blocks.len(), 3);
    let metas: Vec<BlockMeta> = blocks.iter().map(|block| block.meta().clone()).collect();
    let merged = BlockMeta::compacted(Ulid::generate(), &metas);
    let path = dir.join(merged.ulid.to_string());
    let (written, cost) = observe(|| {
        let mut source = BlockMerge::new(&blocks).expect("sound blocks");
        writer::write(dir, merged, &mut source, writer::Options::default(), &mut |_, _| {})
    });
    let meta = written.expect("the disk has room").expect("there are samples");
    let n_samples: u64 = metas.iter().map(|meta| meta.stats.num_samples).sum();
    assert_eq!(meta.stats.num_samples, n_samples);
    print("merge of three blocks", &cost, usize::try_from(meta.stats.num_series).expect("fits"));
    print_block(&meta, Block::open(&path).expect("just written").size_bytes());
}

fn main() {
    if let Some(dir) = std::env::var_os(DIR) {
        return merge(Path::new(&dir));
    }
    let n_series = number("SERIES", 100_000).next_multiple_of(OF_TARGET);
    let step = number("STEP", if n_series > 200_000 { 60 } else { 15 });
    println!("{n_series} series, a sample every {step} s");
    let dir = tempfile::tempdir().expect("a temporary directory");
    compact_head(dir.path(), n_series, i64::try_from(step * 1000).expect("few seconds"));
    let program = std::env::current_exe().expect("has a path");
    let status = std::process::Command::new(program).env(DIR, dir.path()).status().expect("starts");
    assert!(status.success());
}
