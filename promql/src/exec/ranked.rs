//! Aggregations that pick samples of a group at each step: `topk`, `bottomk`, `limitk`, `limit_ratio`.
//!
//! Rows are looked at as they come. The best are kept in a heap per group and step, the limited ones are whole rows
//! from which steps are taken away; so memory follows what is picked.
//!
//! Compat: prometheus `promql/engine.go`, `aggregationK` (3.14).

use model::Labels;
use model::xxhash::xxh64;
use rayon::prelude::*;

use super::Ctx;
use super::aggregate::{Groups, group};
use super::column::{Block, Grid, RowView, Scalars, Series, bits};
use super::math::{go_max, go_min};
use super::order;
use super::stream::Stream;
use crate::annotations::{Annotation, Place};
use crate::engine::Error;
use crate::parse::ast::AggregateOp;
use crate::plan::Grouping;

/// Smallest and largest value over all steps, and whether any is NaN, which then both are.
pub(super) fn bounds(param: &Scalars, steps: usize) -> (f64, f64, bool) {
    (0..steps).map(|s| param.at(s)).fold((f64::INFINITY, f64::NEG_INFINITY, false), |(min, max, nan), v| {
        (go_min(min, v), go_max(max, v), nan || v.is_nan())
    })
}

fn invalid(text: String) -> Error {
    Error::Execution(text)
}

/// The picked samples keep their labels. Rows of a range query keep their order too, those of an instant
/// query come group by group, `topk` and `bottomk` best first. `place` shows the parameter.
pub(crate) fn pick(
    ctx: &Ctx<'_>,
    op: AggregateOp,
    stream: &Stream,
    param: &Scalars,
    place: Place,
    grouping: &Grouping,
) -> Result<Block, Error> {
    let grid = stream.grid;
    if !has_picks(ctx, op, param, grid, place)? {
        stream.drain(ctx)?;
        return Ok(Block::empty(grid));
    }
    let groups = group(&stream.series, grouping);
    match op {
        AggregateOp::Topk => best(ctx, op, stream, param, Place::of(place.by), &groups, |a, b| a < b),
        AggregateOp::Bottomk => best(ctx, op, stream, param, Place::of(place.by), &groups, |a, b| a > b),
        _ => limited(ctx, op, stream, param, &groups),
    }
}

/// Checks the parameter; `false` if nothing is picked at any step.
fn has_picks(
    ctx: &Ctx<'_>,
    op: AggregateOp,
    param: &Scalars,
    grid: Grid,
    place: Place,
) -> Result<bool, Error> {
    let (min, max, any_nan) = bounds(param, grid.len);
    if op == AggregateOp::LimitRatio {
        if !any_nan && min == 0.0 && max == 0.0 {
            return Ok(false);
        }
        if any_nan {
            return Err(invalid("Ratio value is NaN".to_owned()));
        }
        if max > 1.0 {
            ctx.annotate(Annotation::invalid_ratio(max, 1.0, place));
        }
        if min < -1.0 {
            ctx.annotate(Annotation::invalid_ratio(min, -1.0, place));
        }
        return Ok(true);
    }
    if !any_nan && max < 1.0 {
        return Ok(false);
    }
    if any_nan {
        return Err(invalid("Parameter value is NaN".to_owned()));
    }
    if min <= -9_223_372_036_854_775_808.0 {
        return Err(invalid(format!("Scalar value {} underflows int64", model::number::format_g(min))));
    }
    // The largest float below 2^63 less what upstream's check rounds away.
    if max >= 9_223_372_036_854_774_784.0 {
        return Err(invalid(format!("Scalar value {} overflows int64", model::number::format_g(max))));
    }
    Ok(true)
}

// === topk and bottomk ===

/// A value and the number of its series.
type Candidate = (f64, u32);

/// The heaps of all groups for a run of steps.
struct Heaps {
    from: usize,
    to: usize,
    /// Per group where its heaps begin, and the most that one of them holds.
    places: Vec<(usize, usize)>,
    /// Per group, step after step.
    candidates: Vec<Candidate>,
    /// Groups × steps.
    lens: Vec<u32>,
    ignored: bool,
}

impl Heaps {
    fn new(from: usize, to: usize, caps: &[usize]) -> Self {
        let mut places = Vec::with_capacity(caps.len());
        let mut total = 0;
        for &cap in caps {
            places.push((total, cap));
            total += cap * (to - from);
        }
        let lens = vec![0; caps.len() * (to - from)];
        Self { from, to, places, candidates: vec![(0.0, 0); total], lens, ignored: false }
    }

    /// The heap of a group at a step, of which the first `len` are taken.
    fn heap(&mut self, group: usize, step: usize) -> (&mut [Candidate], &mut u32) {
        let (start, cap) = self.places[group];
        let candidates = &mut self.candidates[start + (step - self.from) * cap..][..cap];
        (candidates, &mut self.lens[group * (self.to - self.from) + step - self.from])
    }

    #[inline]
    fn add(&mut self, group: usize, number: u32, row: RowView<'_>, param: &Scalars, worse: impl Worse) {
        let words = self.from / 64..self.to.div_ceil(64);
        for w in words {
            for step in bits::ones_of(row.present[w]).map(|b| w * 64 + b) {
                let k = k_of(param.at(step));
                let (heap, len) = self.heap(group, step);
                offer(heap, len, k, (row.values[step], number), worse);
            }
        }
        if !row.histograms.is_empty() {
            let mut steps = row.histograms.within(self.from..self.to);
            self.ignored |= steps.any(|(step, _)| k_of(param.at(step)) > 0);
        }
    }
}

/// Whether the first value loses against the second, neither being NaN.
pub(crate) trait Worse: Fn(f64, f64) -> bool + Copy + Sync {}

impl<F: Fn(f64, f64) -> bool + Copy + Sync> Worse for F {}

/// Takes a value into a heap of at most `k`, whose root is the worst; NaN is worse than everything.
#[inline]
fn offer(heap: &mut [Candidate], len: &mut u32, k: usize, candidate: Candidate, worse: impl Worse) {
    let less = |a: f64, b: f64| a.is_nan() || worse(a, b);
    let n = *len as usize;
    if n < k.min(heap.len()) {
        heap[n] = candidate;
        *len += 1;
        sift_up(&mut heap[..=n], &less);
    } else if k > 0
        && let Some(&(root, _)) = heap[..n].first()
        && (worse(root, candidate.0) || (root.is_nan() && !candidate.0.is_nan()))
    {
        heap[0] = candidate;
        sift_down(&mut heap[..n], &less);
    }
}

/// Puts the best first and NaN last; equal values in upstream's order.
fn sort_best_first(heap: &mut [Candidate], worse: impl Worse) {
    order::sort(heap, &|a: Candidate, b: Candidate| b.0.is_nan() || worse(b.0, a.0));
}

/// Orders rows by their value at the only step, the best first and NaN last.
pub(crate) fn sort_rows(block: &Block, rows: &mut [usize], worse: impl Worse) {
    let narrow = |row: usize| u32::try_from(row).expect("a query has fewer than 2^32 series");
    let mut all: Vec<Candidate> = rows.iter().map(|&row| (block.values(row)[0], narrow(row))).collect();
    sort_best_first(&mut all, worse);
    rows.iter_mut().zip(all).for_each(|(to, (_, row))| *to = row as usize);
}

fn best(
    ctx: &Ctx<'_>,
    op: AggregateOp,
    stream: &Stream,
    param: &Scalars,
    place: Place,
    groups: &Groups,
    worse: impl Worse,
) -> Result<Block, Error> {
    let grid = stream.grid;
    let k_max = (0..grid.len).map(|step| k_of(param.at(step))).max().unwrap_or(0);
    let mut caps = vec![0; groups.len()];
    for &group in &groups.of_series {
        caps[group as usize] += 1;
    }
    for cap in &mut caps {
        *cap = k_max.min(*cap);
    }
    let heap_bytes = caps.iter().sum::<usize>().saturating_mul(size_of::<Candidate>());
    let cell_bytes = groups.len().saturating_mul(size_of::<u32>()).saturating_add(heap_bytes);
    let mut charge = ctx.budget.charge(cell_bytes.saturating_mul(grid.len))?;
    let words = grid.words();
    let lane_words = words.div_ceil(ctx.threads.min(words).max(1)).max(1);
    let lanes = (0..words).step_by(lane_words);
    let mut lanes: Vec<Heaps> =
        lanes.map(|word| Heaps::new(word * 64, grid.len.min((word + lane_words) * 64), &caps)).collect();
    // Per group the first series with a point: the order of groups.
    let mut first = vec![usize::MAX; groups.len()];
    stream.for_each_wave(ctx, &mut charge, |wave| {
        let add = |heaps: &mut Heaps| {
            for r in 0..wave.rows {
                let number = u32::try_from(wave.from + r).expect("a query has fewer than 2^32 series");
                heaps.add(groups.of_series[wave.from + r] as usize, number, wave.row(r), param, worse);
            }
        };
        match ctx.pool {
            Some(pool) if lanes.len() > 1 && wave.is_large() => {
                pool.install(|| lanes.par_iter_mut().for_each(add));
            }
            _ => lanes.iter_mut().for_each(add),
        }
        for number in (wave.from..wave.from + wave.rows).filter(|&n| !wave.row(n - wave.from).is_empty()) {
            let first = &mut first[groups.of_series[number] as usize];
            *first = (*first).min(number);
        }
        Ok(())
    })?;
    if lanes.iter().any(|heaps| heaps.ignored) {
        ctx.annotate(Annotation::ignored_in_aggregation(op.as_str(), place));
    }
    let mut order: Vec<usize> = (0..groups.len()).filter(|&g| first[g] != usize::MAX).collect();
    order.sort_by_key(|&g| first[g]);
    if grid.is_point() {
        instant_best(ctx, stream, &mut lanes, &order, worse)
    } else {
        range_best(ctx, stream, &mut lanes, groups.len())
    }
}

/// The picks of the only step, group by group.
fn instant_best(
    ctx: &Ctx<'_>,
    stream: &Stream,
    lanes: &mut [Heaps],
    order: &[usize],
    worse: impl Worse,
) -> Result<Block, Error> {
    let mut picks: Vec<Candidate> = Vec::new();
    for heaps in lanes {
        for &group in order {
            let (heap, len) = heaps.heap(group, 0);
            let heap = &mut heap[..*len as usize];
            sort_best_first(heap, worse);
            picks.extend_from_slice(heap);
        }
    }
    let mut charge = ctx.charge_block(picks.len(), stream.grid)?;
    charge.add_samples(picks.len())?;
    let series = picks.iter().map(|&(_, number)| stream.series[number as usize].clone()).collect();
    let mut block = Block::absent(series, stream.grid, charge);
    for (row, (v, _)) in picks.into_iter().enumerate() {
        block.set(row, 0, v);
    }
    Ok(block)
}

/// The picks of all steps, by series.
fn range_best(ctx: &Ctx<'_>, stream: &Stream, lanes: &mut [Heaps], groups: usize) -> Result<Block, Error> {
    const UNPICKED: usize = usize::MAX;
    let mut rows = vec![UNPICKED; stream.len()];
    let mut each_pick = |f: &mut dyn FnMut(usize, Candidate)| {
        for heaps in &mut *lanes {
            for group in 0..groups {
                for step in heaps.from..heaps.to {
                    let (heap, len) = heaps.heap(group, step);
                    heap[..*len as usize].iter().for_each(|&pick| f(step, pick));
                }
            }
        }
    };
    let mut points = 0;
    each_pick(&mut |_, (_, number)| {
        rows[number as usize] = 0;
        points += 1;
    });
    let mut series = Vec::new();
    for (number, row) in rows.iter_mut().enumerate().filter(|(_, row)| **row != UNPICKED) {
        *row = series.len();
        series.push(stream.series[number].clone());
    }
    let mut charge = ctx.charge_block(series.len(), stream.grid)?;
    charge.add_samples(points)?;
    let mut block = Block::absent(series, stream.grid, charge);
    each_pick(&mut |step, (v, number)| block.set(rows[number as usize], step, v));
    Ok(block)
}

// === limitk and limit_ratio ===

fn limited(
    ctx: &Ctx<'_>,
    op: AggregateOp,
    stream: &Stream,
    param: &Scalars,
    groups: &Groups,
) -> Result<Block, Error> {
    let (grid, words) = (stream.grid, stream.grid.words());
    let mut charge = ctx.budget.charge(groups.len().saturating_mul(grid.len).saturating_mul(8))?;
    // Of `limitk`: how many a group has taken at a step.
    let mut taken = vec![0usize; if op == AggregateOp::Limitk { groups.len() * grid.len } else { 0 }];
    let mut block = Block::empty(grid);
    let mut held = ctx.charge_block(0, grid)?;
    let mut group_of_row = Vec::new();
    let mut mask = vec![0; words];
    stream.for_each_wave(ctx, &mut charge, |wave| {
        for r in 0..wave.rows {
            let (number, row) = (wave.from + r, wave.row(r));
            if row.is_empty() {
                continue;
            }
            let group = groups.of_series[number] as usize;
            mask.copy_from_slice(row.present);
            row.histograms.mark(&mut mask);
            if op == AggregateOp::Limitk {
                let taken = &mut taken[group * grid.len..][..grid.len];
                restrict(&mut mask, |step| {
                    let is_taken = taken[step] < k_of(param.at(step));
                    taken[step] += usize::from(is_taken);
                    is_taken
                });
            } else {
                let share = share_of(&stream.series[number].labels);
                restrict(&mut mask, |step| within(param.at(step).clamp(-1.0, 1.0), share));
            }
            if bits::any(&mask) {
                held.absorb(ctx.charge_block(1, grid)?);
                block.push_row(stream.series[number].clone(), row);
                let kept = block.row_mut(block.len() - 1);
                kept.present.iter_mut().zip(&mask).for_each(|(word, mask)| *word &= mask);
                kept.histograms.retain(|step, _| bits::get(&mask, step));
                group_of_row.push(group);
            }
        }
        Ok(())
    })?;
    held.add_samples(block.weight())?;
    block.charge = Some(held);
    if grid.is_point() {
        let order = heap_order(&block, &group_of_row);
        return reordered(ctx, &block, &order);
    }
    Ok(block)
}

/// Clears the bits to which `keep` says no.
fn restrict(mask: &mut [u64], mut keep: impl FnMut(usize) -> bool) {
    for (w, word) in mask.iter_mut().enumerate() {
        for bit in bits::ones_of(*word) {
            if !keep(w * 64 + bit) {
                *word &= !(1 << bit);
            }
        }
    }
}

/// The rows group by group, in the order in which upstream's heap of a group keeps what it was given.
fn heap_order(block: &Block, group_of_row: &[usize]) -> Vec<usize> {
    let mut heaps: Vec<(usize, Vec<Candidate>)> = Vec::new();
    let mut place = std::collections::BTreeMap::new();
    for (row, &group) in group_of_row.iter().enumerate() {
        let at = *place.entry(group).or_insert_with(|| {
            heaps.push((group, Vec::new()));
            heaps.len() - 1
        });
        let heap = &mut heaps[at].1;
        heap.push((block.get(row, 0).unwrap_or(0.0), u32::try_from(row).expect("fewer than 2^32 rows")));
        sift_up(heap, &|a: f64, b: f64| a.is_nan() || a < b);
    }
    heaps.into_iter().flat_map(|(_, heap)| heap).map(|(_, row)| row as usize).collect()
}

/// A block of the rows named by `order`.
pub(crate) fn reordered(ctx: &Ctx<'_>, block: &Block, order: &[usize]) -> Result<Block, Error> {
    let series: Vec<Series> = order.iter().map(|&row| block.series[row].clone()).collect();
    let charge = ctx.charge_block(series.len(), block.grid)?;
    let mut out = Block::absent(series, block.grid, charge);
    for (to, &from) in order.iter().enumerate() {
        let row = out.row_mut(to);
        row.values.copy_from_slice(block.values(from));
        row.present.copy_from_slice(block.present(from));
        row.histograms.clone_from(block.histograms(from));
    }
    Ok(out)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates at both ends"
)]
fn k_of(param: f64) -> usize {
    param as usize
}

/// Where a series lies in `[0, 1)` by the hash of its labels.
fn share_of(labels: &Labels) -> f64 {
    xxh64(labels.as_bytes()) as f64 / 18_446_744_073_709_551_616.0
}

/// Whether a series at `offset` belongs to the share `ratio`: the first of all label hashes, or the rest if negative.
fn within(ratio: f64, offset: f64) -> bool {
    if ratio >= 0.0 { ratio != 0.0 && offset < ratio } else { offset >= 1.0 + ratio }
}

fn sift_up(heap: &mut [Candidate], less: &impl Fn(f64, f64) -> bool) {
    let mut child = heap.len() - 1;
    while child > 0 {
        let parent = (child - 1) / 2;
        if !less(heap[child].0, heap[parent].0) {
            break;
        }
        heap.swap(parent, child);
        child = parent;
    }
}

fn sift_down(heap: &mut [Candidate], less: &impl Fn(f64, f64) -> bool) {
    let mut parent = 0;
    loop {
        let mut child = 2 * parent + 1;
        if child >= heap.len() {
            break;
        }
        if child + 1 < heap.len() && less(heap[child + 1].0, heap[child].0) {
            child += 1;
        }
        if !less(heap[child].0, heap[parent].0) {
            break;
        }
        heap.swap(parent, child);
        parent = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(values: &[f64], k: usize) -> Vec<u32> {
        let (mut heap, mut len) = (vec![(0.0, 0); values.len()], 0);
        for (number, &v) in (0..).zip(values) {
            offer(&mut heap, &mut len, k, (v, number), |a, b| a < b);
        }
        heap.truncate(len as usize);
        sort_best_first(&mut heap, |a, b| a < b);
        heap.into_iter().map(|(_, number)| number).collect()
    }

    #[test]
    fn the_best_come_first_and_nan_last() {
        assert_eq!(top(&[1.0, 3.0, 2.0], 2), [1, 2]);
        assert_eq!(top(&[f64::NAN, 1.0, 2.0], 3), [2, 1, 0]);
        assert_eq!(top(&[f64::NAN, 1.0, 2.0], 2), [2, 1]);
        assert_eq!(top(&[5.0, 5.0, 5.0], 1), [0], "a tie keeps the earlier series");
        assert!(top(&[1.0], 0).is_empty());
    }

    #[test]
    fn the_share_and_its_complement_partition_all_series() {
        for i in 0..500 {
            let labels = Labels::from_pairs([("i", i.to_string())]);
            for ratio in [0.1, 0.5, 0.9] {
                let share = share_of(&labels);
                assert!(within(ratio, share) != within(ratio - 1.0, share), "{labels} {ratio}");
            }
        }
    }
}
