use ulid::Ulid;

use super::*;
use crate::block::meta::HINT_OUT_OF_ORDER;

fn block(mint: i64, maxt: i64) -> BlockMeta {
    BlockMeta::level1(Ulid::generate(), mint, maxt)
}

#[track_caller]
fn check(blocks: &[(i64, i64)], expected: &[usize]) {
    let metas: Vec<_> = blocks.iter().map(|&(mint, maxt)| block(mint, maxt)).collect();
    assert_eq!(plan(&metas, &[20, 60, 180, 540, 1620], true), expected, "{blocks:?}");
}

/// The cases of prometheus `tsdb/compact_test.go`, `TestLeveledCompactor_plan`, as facts.
#[test]
fn plans_as_upstream() {
    check(&[], &[]);
    check(&[(0, 20)], &[]);
    check(&[(0, 20), (20, 40), (40, 60)], &[]);
    check(&[(0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]);
    check(&[(0, 20), (20, 40), (60, 80)], &[]);
    check(&[(0, 20), (20, 40), (60, 80), (80, 100)], &[0, 1]);
    check(&[(0, 20), (60, 80), (80, 100), (120, 140)], &[]);
    check(&[(0, 60), (60, 120), (120, 180), (180, 200), (200, 220)], &[0, 1, 2]);
    check(&[(0, 60), (120, 180), (720, 960), (1000, 1020)], &[0, 1]);
    check(&[(0, 20), (19, 40), (40, 60)], &[0, 1]);
    check(&[(0, 20), (20, 40), (30, 50), (40, 60), (60, 80)], &[1, 2, 3]);
    check(&[(0, 360), (340, 560), (360, 420), (420, 540)], &[0, 1, 2, 3]);
}

#[test]
fn leaves_failed_windows_and_mixes_no_classes() {
    let mut metas: Vec<_> = [(0, 20), (20, 40), (40, 60), (60, 80)].map(|(a, b)| block(a, b)).into();
    metas[1].compaction.failed = true;
    assert!(plan(&metas, &[20, 60], true).is_empty());
    metas[1].compaction.failed = false;
    metas[1].compaction.hints.push(HINT_STALE_SERIES.to_owned());
    // The stale block stays out; the others span the window all the same.
    assert_eq!(plan(&metas, &[20, 60], true), [0, 2]);
}

#[test]
fn cleans_large_blocks_with_many_tombstones() {
    let mut metas: Vec<_> = [(0, 540), (540, 560)].map(|(a, b)| block(a, b)).into();
    metas[0].stats.num_series = 10;
    metas[0].stats.num_tombstones = 1;
    assert_eq!(plan(&metas, &[20, 60, 180, 540, 1620], true), [0]);
    metas[0].max_time = 60;
    assert!(plan(&metas, &[20, 60, 180, 540, 1620], true).is_empty());
    metas[0].stats.num_tombstones = 10;
    assert_eq!(plan(&metas, &[20, 60, 180, 540, 1620], true), [0]);
}

#[test]
fn ranges_grow_by_three() {
    let hour = 3_600_000;
    assert_eq!(ranges(2 * hour, 36 * hour), [2 * hour, 6 * hour, 18 * hour]);
    assert_eq!(ranges(2 * hour, hour), [2 * hour]);
    assert_eq!(ranges(2 * hour, i64::MAX).len(), 10);
}

/// A line of the golden file: blocks, whether they may be merged where they overlap, and the plan.
fn parse(line: &str) -> (Vec<BlockMeta>, bool, Vec<usize>) {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let blocks = parts[1].split(',').map(|text| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<i64>().unwrap();
        let mut meta = block(number(0), number(1));
        meta.stats.num_series = number(2).unsigned_abs();
        meta.stats.num_tombstones = number(3).unsigned_abs();
        for mark in words.get(4).copied().unwrap_or_default().chars() {
            match mark {
                'f' => meta.compaction.failed = true,
                's' => meta.compaction.hints.push(HINT_STALE_SERIES.to_owned()),
                'c' => meta.compaction.hints.push(HINT_SELECTED_SERIES.to_owned()),
                'o' => meta.compaction.hints.push(HINT_OUT_OF_ORDER.to_owned()),
                _ => panic!("unknown mark in {line}"),
            }
        }
        meta
    });
    let planned = parts[2].split_whitespace().map(|position| position.parse().unwrap()).collect();
    (blocks.collect(), parts[0] == "overlap", planned)
}

#[test]
fn random_plans_are_upstreams() {
    let lines = include_str!("golden.txt").lines().filter(|line| !line.starts_with('#'));
    let mut n = 0;
    for line in lines {
        let (metas, merge_overlapping, expected) = parse(line);
        assert_eq!(plan(&metas, &[20, 60, 180, 540, 1620], merge_overlapping), expected, "{line}");
        n += 1;
    }
    assert!(n > 400);
}
