use std::path::Path;
use std::time::Duration;

use model::storage::{Querier, SelectHints};
use model::{Matcher, TimeRange};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::block::meta::HINT_STALE_SERIES;
use crate::compact::testing::{Model, ModelSource, collect, model, read_block, write_block};
use crate::db::querier::DbQuerier;
use crate::fs::fault;

const RANGES: [i64; 3] = [1000, 3000, 9000];

fn maintenance(dir: &Path, retention: Retention) -> Maintenance {
    let maintenance =
        Maintenance::new(dir.to_owned(), RANGES.to_vec(), writer::Options::default(), retention);
    maintenance.reload().unwrap();
    maintenance
}

fn unbounded() -> Retention {
    Retention::default()
}

/// Flushes the part of `all` in `range` as the head would.
fn flush(maintenance: &Maintenance, all: &Model, range: Range<i64>) -> Result<Option<Ulid>> {
    let part: Model = all
        .iter()
        .map(|(labels, samples)| {
            (labels.clone(), samples.range(range.clone()).map(|(&t, &v)| (t, v)).collect())
        })
        .collect();
    maintenance.flush_head(range, &mut ModelSource::new(&part, 120), 1_700_000_000_000)
}

fn select(maintenance: &Maintenance, matchers: &[Matcher], range: TimeRange) -> Model {
    let querier = DbQuerier { head: None, blocks: Arc::clone(&maintenance.blocks), range };
    let set = querier.select(matchers, &SelectHints::default()).unwrap();
    collect(set.as_ref(), TimeRange::ALL).into_iter().collect()
}

fn shapes(maintenance: &Maintenance) -> Vec<(i64, i64, u32)> {
    let list = maintenance.blocks.list();
    list.iter()
        .map(|block| (block.meta().min_time, block.meta().max_time, block.meta().compaction.level))
        .collect()
}

#[test]
fn blocks_grow_by_three_and_keep_every_sample() {
    let dir = TempDir::new().unwrap();
    let all = model(20, 0..12_000, 50);
    let maintenance = maintenance(dir.path(), unbounded());
    for start in (0..12_000).step_by(1000) {
        flush(&maintenance, &all, start..start + 1000).unwrap();
        maintenance.compact_blocks(0, || false).unwrap();
        let until = TimeRange::new(0, start + 999);
        let expected: Model = all
            .iter()
            .map(|(labels, samples)| {
                (labels.clone(), samples.range(..start + 1000).map(|(&t, &v)| (t, v)).collect())
            })
            .collect();
        assert_eq!(select(&maintenance, &[], until), expected, "after {start}");
    }
    // Nine became one, the newest is left alone until one more comes.
    assert_eq!(
        shapes(&maintenance),
        [(0, 9000, 3), (9000, 10_000, 1), (10_000, 11_000, 1), (11_000, 12_000, 1)]
    );
    let big = maintenance.blocks.list()[0].meta().compaction.clone();
    assert_eq!((big.sources.len(), big.parents.len()), (9, 3));
    assert_eq!(fs::list(dir.path()).unwrap().len(), 4, "merged blocks are gone");
    assert_eq!(maintenance.metrics.compactions.get(), 12 + 4);
}

#[test]
fn overlapping_blocks_are_merged_and_their_samples_count_once() {
    let dir = TempDir::new().unwrap();
    let all = model(5, 0..2000, 50);
    write_block(dir.path(), &all, 0..2000).unwrap();
    write_block(dir.path(), &all, 0..2000).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    assert_eq!(select(&maintenance, &[], TimeRange::ALL), all);
    maintenance.compact_blocks(0, || false).unwrap();
    assert_eq!(shapes(&maintenance), [(0, 2000, 2)]);
    assert_eq!(select(&maintenance, &[], TimeRange::ALL), all);
    assert_eq!(maintenance.metrics.vertical_compactions.get(), 1);
}

#[test]
fn a_superseded_block_is_not_served_and_goes_even_if_broken() {
    let dir = TempDir::new().unwrap();
    let all = model(3, 0..1000, 50);
    let parent = write_block(dir.path(), &all, 0..1000).unwrap();
    let parent_meta = BlockMeta::load(&parent.join(paths::BLOCK_META)).unwrap();
    // As after a crash between the birth of the child and the end of the parent.
    let child = BlockMeta::compacted(Ulid::generate(), &[parent_meta]);
    let ulid = child.ulid;
    writer::write(
        dir.path(),
        child,
        &mut ModelSource::new(&all, 120),
        writer::Options::default(),
        &mut |_, _| {},
    )
    .unwrap();
    fs::remove_file(&parent.join(paths::BLOCK_INDEX)).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    assert_eq!(fs::list(dir.path()).unwrap(), [ulid.to_string()]);
    assert!(maintenance.blocks.quarantined().is_empty());
    assert_eq!(select(&maintenance, &[], TimeRange::ALL), all);
}

#[test]
fn a_broken_block_is_set_aside_and_taken_back_once_whole() {
    let dir = TempDir::new().unwrap();
    let all = model(3, 0..2000, 50);
    let good = write_block(dir.path(), &all, 0..2000).unwrap();
    let bad = write_block(dir.path(), &model(9, 2000..3000, 50), 2000..3000).unwrap();
    let index = fs::read(&bad.join("index")).unwrap();
    fs::write(&bad.join("index"), &index[..index.len() / 2]).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    let told = maintenance.blocks.quarantined();
    assert_eq!(told.len(), 1);
    assert!(told.values().all(|why| why.contains("checksum of the table of contents")), "{told:?}");
    assert_eq!(select(&maintenance, &[], TimeRange::ALL), all);
    let failures = maintenance.metrics.reload_failures.get();
    maintenance.reload().unwrap();
    assert_eq!(maintenance.metrics.reload_failures.get(), failures, "told about once");
    assert!(fs::is_dir(&bad) && fs::is_dir(&good));
    fs::write(&bad.join("index"), &index).unwrap();
    maintenance.reload().unwrap();
    assert!(maintenance.blocks.quarantined().is_empty());
    assert_eq!(shapes(&maintenance).len(), 2);
}

#[test]
fn half_copied_and_foreign_directories_are_left_alone() {
    let dir = TempDir::new().unwrap();
    let half = dir.path().join("01M7Z7EP13T1GYDQRA5Q5WC0JS");
    fs::create_dir_all(&half.join("chunks")).unwrap();
    fs::create_dir_all(&dir.path().join("lost+found")).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    assert!(shapes(&maintenance).is_empty() && fs::is_dir(&half));
    assert_eq!(maintenance.blocks.quarantined().len(), 1);
}

#[test]
fn retention_drops_from_the_oldest_on() {
    let dir = TempDir::new().unwrap();
    let blocks: Vec<_> = (0..4)
        .map(|i| i * 1000)
        .map(|t| write_block(dir.path(), &model(3, t..t + 1000, 50), t..t + 1000).unwrap())
        .collect();
    let maintenance = maintenance(dir.path(), unbounded());
    assert_eq!(shapes(&maintenance).len(), 4);
    *maintenance.retention.lock() = Retention { time: Some(Duration::from_secs(3)), ..Retention::default() };
    maintenance.reload().unwrap();
    assert!(!fs::is_dir(&blocks[0]) && fs::is_dir(&blocks[1]));
    assert_eq!(maintenance.metrics.time_retentions.get(), 1);
    let size = maintenance.blocks.list()[2].size_bytes();
    fs::create_dir_all(&dir.path().join(paths::WAL)).unwrap();
    fs::write(&dir.path().join(paths::WAL).join("00000000"), &[0; 100]).unwrap();
    *maintenance.retention.lock() = Retention { size_bytes: Some(size + 100), ..Retention::default() };
    maintenance.reload().unwrap();
    assert_eq!(shapes(&maintenance), [(3000, 4000, 1)]);
    assert_eq!(maintenance.metrics.size_retentions.get(), 1);
}

#[test]
fn a_full_disk_fails_the_flush_and_leaves_everything_as_it_was() {
    let dir = TempDir::new().unwrap();
    let all = model(5, 0..3000, 50);
    let maintenance = maintenance(dir.path(), unbounded());
    flush(&maintenance, &all, 0..1000).unwrap();
    let before = fs::list(dir.path()).unwrap();
    fault::limit_bytes(dir.path(), 500);
    assert!(flush(&maintenance, &all, 1000..2000).is_err());
    fault::heal(dir.path());
    assert_eq!(fs::list(dir.path()).unwrap(), before);
    assert_eq!(shapes(&maintenance).len(), 1);
    flush(&maintenance, &all, 1000..2000).unwrap();
    assert_eq!(shapes(&maintenance).len(), 2);
}

#[test]
fn a_failed_merge_marks_its_inputs_and_is_not_tried_again() {
    let dir = TempDir::new().unwrap();
    let all = model(5, 0..4000, 50);
    let maintenance = maintenance(dir.path(), unbounded());
    for start in [0, 1000, 2000, 3000] {
        flush(&maintenance, &all, start..start + 1000).unwrap();
    }
    let victim = Arc::clone(&maintenance.blocks.list()[1]);
    let path = victim.dir().join("chunks/000001");
    let mut content = fs::read(&path).unwrap();
    content[12] ^= 1;
    fs::write(&path, &content).unwrap();
    let e = maintenance.compact_blocks(0, || false).unwrap_err().to_string();
    assert!(e.contains("checksum of a chunk"), "{e}");
    let failed: Vec<bool> =
        maintenance.blocks.list().iter().map(|block| block.meta().compaction.failed).collect();
    assert_eq!(failed, [true, true, true, false]);
    maintenance.compact_blocks(0, || false).unwrap();
    assert_eq!(shapes(&maintenance).len(), 4);
}

/// Wherever in a merge the disk becomes full, the inputs stay in service, unmarked, and the next tick merges them.
#[test]
fn a_full_disk_fails_a_merge_which_is_tried_again() {
    let all = model(5, 0..4000, 50);
    let mut n_failed = 0;
    for bytes in (0..).step_by(331) {
        let dir = TempDir::new().unwrap();
        let maintenance = maintenance(dir.path(), unbounded());
        for start in [0, 1000, 2000, 3000] {
            flush(&maintenance, &all, start..start + 1000).unwrap();
        }
        let before = fs::list(dir.path()).unwrap();
        fault::limit_bytes(dir.path(), bytes);
        let merged = maintenance.compact_blocks(0, || false);
        fault::heal(dir.path());
        assert_eq!(select(&maintenance, &[], TimeRange::ALL), all, "full after {bytes} bytes");
        if merged.is_ok() {
            break;
        }
        n_failed += 1;
        assert_eq!(fs::list(dir.path()).unwrap(), before, "full after {bytes} bytes");
        assert!(maintenance.blocks.list().iter().all(|block| !block.meta().compaction.failed));
        maintenance.compact_blocks(0, || false).unwrap();
        assert_eq!(shapes(&maintenance), [(0, 3000, 2), (3000, 4000, 1)]);
        assert_eq!(select(&maintenance, &[], TimeRange::ALL), all);
    }
    assert!(n_failed > 3, "{n_failed} failures are too few to be true");
}

#[test]
fn blocks_of_which_nothing_is_left_go() {
    let dir = TempDir::new().unwrap();
    let all = model(2, 0..1000, 50);
    let block_dir = write_block(dir.path(), &all, 0..1000).unwrap();
    write_block(dir.path(), &model(2, 1000..2000, 50), 1000..2000).unwrap();
    // Everything of the first block is deleted: two tombstones for two series.
    let refs = Block::open(&block_dir).unwrap().all_series().unwrap().into_vec();
    let mut body = Vec::new();
    for series_ref in refs {
        crate::bytes::put_uvarint(&mut body, u64::from(series_ref));
        crate::bytes::put_varint(&mut body, 0);
        crate::bytes::put_varint(&mut body, 5000);
    }
    let sum = crc32c::crc32c(&body).to_be_bytes();
    let file = [&crate::block::tombstones::EMPTY_FILE[..5], &body, &sum].concat();
    fs::write(&block_dir.join(paths::BLOCK_TOMBSTONES), &file).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    let ulid = maintenance.blocks.list()[0].meta().ulid;
    maintenance.blocks.edit_meta(ulid, |meta| meta.stats.num_tombstones = 2).unwrap();
    maintenance.reload().unwrap();
    maintenance.compact_blocks(0, || false).unwrap();
    assert_eq!(shapes(&maintenance), [(1000, 2000, 1)]);
    assert!(!fs::is_dir(&block_dir));
}

#[test]
fn only_whole_in_order_blocks_move_the_heads_floor() {
    let dir = TempDir::new().unwrap();
    write_block(dir.path(), &model(2, 0..1000, 50), 0..1000).unwrap();
    let stale = write_block(dir.path(), &model(2, 1000..2000, 50), 1000..2000).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    assert_eq!(maintenance.blocks.in_order_max_time(), Some(2000));
    let ulid = paths::parse_block(stale.file_name().unwrap().to_str().unwrap()).unwrap();
    maintenance
        .blocks
        .edit_meta(ulid, |meta| meta.compaction.hints.push(HINT_STALE_SERIES.to_owned()))
        .unwrap();
    maintenance.reload().unwrap();
    assert_eq!(maintenance.blocks.in_order_max_time(), Some(1000));
}

#[test]
fn who_reads_keeps_its_blocks() {
    let dir = TempDir::new().unwrap();
    let all = model(3, 0..1000, 50);
    write_block(dir.path(), &all, 0..1000).unwrap();
    let maintenance = maintenance(dir.path(), unbounded());
    let block = Arc::clone(&maintenance.blocks.list()[0]);
    let set = block.select(&[], TimeRange::ALL).unwrap();
    maintenance.blocks.remove(block.meta().ulid).unwrap();
    maintenance.reload().unwrap();
    assert!(shapes(&maintenance).is_empty());
    assert_eq!(collect(&set, TimeRange::ALL).into_iter().collect::<Model>(), all);
}

#[test]
fn repairs_the_blocks_of_prometheus_2_1() {
    let dir = TempDir::new().unwrap();
    let all = model(3, 0..1000, 50);
    let block = write_block(dir.path(), &all, 0..1000).unwrap();
    let index = block.join(paths::BLOCK_INDEX);
    let mut content = fs::read(&index).unwrap();
    content[4] = 1;
    fs::write(&index, &content).unwrap();
    let meta = block.join(paths::BLOCK_META);
    let text = String::from_utf8(fs::read(&meta).unwrap()).unwrap();
    fs::write(&meta, text.replace("\"version\": 1", "\"version\": 2").as_bytes()).unwrap();
    assert!(Block::open(&block).is_err());
    crate::db::blocks::repair_index_versions(dir.path()).unwrap();
    assert_eq!(read_block(&block), all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Blocks of any times, overlapping or not, asked for any range, before and after all merging.
    #[test]
    fn queries_equal_a_map(
        spans in proptest::collection::vec((0_i64..12, 1_i64..4, 1_i32..6), 1..6),
        mint in -500_i64..14_000, len in 0_i64..8000,
    ) {
        let dir = TempDir::new().unwrap();
        let mut all = Model::new();
        for &(start, len, n) in &spans {
            let times = start * 1000..(start + len) * 1000;
            let part = model(n, times.clone(), 500);
            for (labels, samples) in &part {
                all.entry(labels.clone()).or_default().extend(samples);
            }
            write_block(dir.path(), &part, times).unwrap();
        }
        let range = TimeRange::new(mint, mint + len);
        let mut expected = all.clone();
        for samples in expected.values_mut() {
            samples.retain(|&t, _| range.contains(t));
        }
        expected.retain(|_, samples| !samples.is_empty());
        let maintenance = maintenance(dir.path(), unbounded());
        let ask = || {
            let mut found = select(&maintenance, &[], range);
            found.retain(|_, samples| !samples.is_empty());
            found
        };
        prop_assert_eq!(ask(), expected.clone());
        maintenance.compact_blocks(0, || false).unwrap();
        prop_assert_eq!(ask(), expected);
        prop_assert_eq!(select(&maintenance, &[], TimeRange::ALL), all);
    }
}
