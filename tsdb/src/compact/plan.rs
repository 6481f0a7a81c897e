//! Which blocks to merge next. Pure: descriptions in, positions out.
//!
//! Compat: prometheus `tsdb/compact.go`, `LeveledCompactor.plan`.

use crate::block::meta::{BlockMeta, HINT_SELECTED_SERIES, HINT_STALE_SERIES};

/// A block is rewritten for its tombstones alone when they touch more than this share of its series.
const TOMBSTONE_SHARE: f64 = 0.05;

/// The spans that blocks grow through: `min_ms` times powers of three up to `max_ms`.
/// Compat: prometheus `tsdb`, `ExponentialBlockRanges` and the cut in `open`.
pub fn ranges(min_ms: i64, max_ms: i64) -> Vec<i64> {
    let mut ranges: Vec<i64> =
        std::iter::successors(Some(min_ms), |range| range.checked_mul(3)).take(10).collect();
    let kept = ranges.iter().position(|&range| range > max_ms).unwrap_or(ranges.len());
    ranges.truncate(kept.max(1));
    ranges
}

/// The blocks to merge into one, as positions in `metas`; empty when there is nothing to do.
///
/// Blocks of some series only (stale, selected) are never mixed with whole ones, which go first.
pub fn plan(metas: &[BlockMeta], ranges: &[i64], merge_overlapping: bool) -> Vec<usize> {
    let class = |meta: &BlockMeta| {
        if meta.compaction.has_hint(HINT_STALE_SERIES) {
            1
        } else if meta.compaction.has_hint(HINT_SELECTED_SERIES) {
            2
        } else {
            0
        }
    };
    let plan_class = |wanted: u8| {
        let mut members: Vec<usize> = (0..metas.len()).filter(|&i| class(&metas[i]) == wanted).collect();
        members.sort_by_key(|&i| metas[i].min_time);
        plan_class(metas, &members, ranges, merge_overlapping)
    };
    (0..3).map(plan_class).find(|planned| !planned.is_empty()).unwrap_or_default()
}

fn plan_class(metas: &[BlockMeta], members: &[usize], ranges: &[i64], merge_overlapping: bool) -> Vec<usize> {
    if merge_overlapping {
        let overlapping = first_overlapping(metas, members);
        if !overlapping.is_empty() {
            return overlapping;
        }
    }
    // The newest is left alone: a window in which users copy what came fresh from the head.
    let Some((_, members)) = members.split_last() else { return Vec::new() };
    let window = fullest_window(metas, members, ranges);
    if !window.is_empty() {
        return window;
    }
    worth_cleaning(metas, members, ranges)
}

/// The first run of blocks in which each begins before the end of those before it.
fn first_overlapping(metas: &[BlockMeta], members: &[usize]) -> Vec<usize> {
    let mut run = Vec::new();
    let Some(&first) = members.first() else { return run };
    let mut end = metas[first].max_time;
    for pair in members.windows(2) {
        let next = &metas[pair[1]];
        if next.min_time < end {
            if run.is_empty() {
                run.push(pair[0]);
            }
            run.push(pair[1]);
        } else if !run.is_empty() {
            break;
        }
        end = end.max(next.max_time);
    }
    run
}

/// The first aligned window, small windows first, that holds several blocks and will get no more.
fn fullest_window(metas: &[BlockMeta], members: &[usize], ranges: &[i64]) -> Vec<usize> {
    let Some(&newest) = members.last() else { return Vec::new() };
    let high = metas[newest].min_time;
    for &range in ranges.iter().skip(1) {
        for group in split_by_range(metas, members, range) {
            let (Some(&first), Some(&last)) = (group.first(), group.last()) else { continue };
            if group.len() < 2 || group.iter().any(|&i| metas[i].compaction.failed) {
                continue;
            }
            let (mint, maxt) = (metas[first].min_time, metas[last].max_time);
            if maxt - mint == range || maxt <= high {
                return group;
            }
        }
    }
    Vec::new()
}

/// The blocks by windows of `range`, aligned to it; those that fit in no window are left out.
fn split_by_range(metas: &[BlockMeta], members: &[usize], range: i64) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    let mut rest = members;
    while let Some((&first, behind)) = rest.split_first() {
        let end = metas[first].min_time.div_euclid(range).saturating_mul(range).saturating_add(range);
        if metas[first].max_time > end {
            rest = behind;
            continue;
        }
        let fitting = rest.iter().take_while(|&&i| metas[i].max_time <= end).count();
        groups.push(rest[..fitting].to_vec());
        rest = &rest[fitting..];
    }
    groups
}

/// The newest large block of which enough was deleted to be worth rewriting it alone.
fn worth_cleaning(metas: &[BlockMeta], members: &[usize], ranges: &[i64]) -> Vec<usize> {
    let large = ranges.get(ranges.len() / 2).copied().unwrap_or(i64::MAX);
    for &i in members.iter().rev() {
        let meta = &metas[i];
        let (tombstones, series) = (meta.stats.num_tombstones, meta.stats.num_series);
        if meta.max_time - meta.min_time < large {
            return if tombstones > 0 && tombstones >= series { vec![i] } else { Vec::new() };
        }
        if tombstones as f64 / (series + 1) as f64 > TOMBSTONE_SHARE {
            return vec![i];
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
