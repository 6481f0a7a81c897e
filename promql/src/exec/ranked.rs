//! Aggregations that need all values of a group at a step: `topk`, `bottomk`, `limitk`, `limit_ratio`,
//! `quantile`, `count_values`.
//!
//! Compat: prometheus `promql/engine.go`, `aggregationK`, `aggregationCountValues` (3.14).

use hashbrown::HashMap;
use model::number::format_f;
use model::{Labels, LabelsBuilder};

use super::Ctx;
use super::aggregate::{Groups, group};
use super::column::{Block, Row, Scalars, Series, bits};
use super::math;
use super::xxhash::xxh64;
use crate::annotations::{Annotation, Place};
use crate::engine::Error;
use crate::parse::ast::AggregateOp;
use crate::plan::Grouping;

/// Smallest and largest value over all steps, NaN aside, and whether any is NaN.
fn bounds(param: &Scalars, steps: usize) -> (f64, f64, bool) {
    (0..steps).map(|s| param.at(s)).fold((f64::INFINITY, f64::NEG_INFINITY, false), |(min, max, nan), v| {
        (min.min(v), max.max(v), nan || v.is_nan())
    })
}

fn invalid(text: String) -> Error {
    Error::Execution(text)
}

/// The picked samples keep their labels. Rows of a range query keep their order too, those of an instant
/// query come group by group, `topk` and `bottomk` best first.
pub(crate) fn pick(
    ctx: &Ctx<'_>,
    op: AggregateOp,
    mut block: Block,
    param: &Scalars,
    place: Place,
    grouping: &Grouping,
) -> Result<Block, Error> {
    let steps = block.grid.len;
    let (min, max, any_nan) = bounds(param, steps);
    let is_ratio = op == AggregateOp::LimitRatio;
    if is_ratio {
        if !any_nan && min == 0.0 && max == 0.0 {
            return Ok(Block::empty(block.grid));
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
    } else {
        if !any_nan && max < 1.0 {
            return Ok(Block::empty(block.grid));
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
    }
    let groups = group(&block.series, grouping);
    let rows = groups.rows();
    let mut picked = vec![0u64; block.present.len()];
    let words = block.grid.words();
    let mut order = Vec::new();
    let mut heap = Vec::new();
    for step in 0..steps {
        if step % 64 == 0 {
            ctx.budget.check()?;
        }
        let param = param.at(step);
        for rows in &rows {
            heap.clear();
            let mut candidates = rows.iter().filter_map(|&row| Some((block.get(row, step)?, row)));
            match op {
                AggregateOp::Topk => best(&mut heap, candidates, k_of(param), |a, b| a < b),
                AggregateOp::Bottomk => best(&mut heap, candidates, k_of(param), |a, b| a > b),
                AggregateOp::Limitk => heap.extend(candidates.take(k_of(param))),
                _ => {
                    let ratio = param.clamp(-1.0, 1.0);
                    heap.extend(
                        candidates.by_ref().filter(|&(_, row)| within(ratio, &block.series[row].labels)),
                    );
                }
            }
            for &(_, row) in &heap {
                bits::set(&mut picked[row * words..][..words], step);
            }
            if ctx.instant {
                order.extend(heap.iter().map(|&(_, row)| row));
            }
        }
    }
    block.present = picked;
    if ctx.instant {
        return reordered(ctx, &block, &order);
    }
    block.drop_empty_rows();
    Ok(block)
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

/// Whether a series belongs to the share `ratio`: the first of all label hashes, or the rest if negative.
fn within(ratio: f64, labels: &Labels) -> bool {
    let offset = xxh64(labels.as_bytes()) as f64 / 18_446_744_073_709_551_616.0;
    if ratio >= 0.0 { ratio != 0.0 && offset < ratio } else { offset >= 1.0 + ratio }
}

/// Keeps the `k` best of `candidates` in `heap`, best first; `worse(a, b)` orders floats, NaN is the worst.
///
/// The order of equal values is that of upstream's binary heap followed by its sort, which keeps the order
/// of short runs.
fn best(
    heap: &mut Vec<(f64, usize)>,
    candidates: impl Iterator<Item = (f64, usize)>,
    k: usize,
    worse: impl Fn(f64, f64) -> bool,
) {
    let less = |a: f64, b: f64| a.is_nan() || worse(a, b);
    for (v, row) in candidates {
        if heap.len() < k {
            heap.push((v, row));
            sift_up(heap, &less);
        } else if let Some(&(root, _)) = heap.first()
            && (worse(root, v) || (root.is_nan() && !v.is_nan()))
        {
            heap[0] = (v, row);
            sift_down(heap, &less);
        }
    }
    heap.sort_by(|&(a, _), &(b, _)| match (a.is_nan(), b.is_nan()) {
        (false, false) if worse(b, a) => std::cmp::Ordering::Less,
        (false, false) if worse(a, b) => std::cmp::Ordering::Greater,
        (a, b) => a.cmp(&b),
    });
}

fn sift_up(heap: &mut [(f64, usize)], less: &impl Fn(f64, f64) -> bool) {
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

fn sift_down(heap: &mut [(f64, usize)], less: &impl Fn(f64, f64) -> bool) {
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

pub(crate) fn quantile(
    ctx: &Ctx<'_>,
    block: &Block,
    param: &Scalars,
    place: Place,
    grouping: &Grouping,
) -> Result<Block, Error> {
    let (min, max, any_nan) = bounds(param, block.grid.len);
    for (bad, q) in [(any_nan, f64::NAN), (max > 1.0, max), (min < 0.0, min)] {
        if bad {
            ctx.annotate(Annotation::invalid_quantile(q, place));
        }
    }
    let groups: Groups = group(&block.series, grouping);
    let rows = groups.rows();
    ctx.compute_block(groups.series, block.grid, block.len(), |g, row| {
        let Row { values, present, .. } = row;
        let mut floats = Vec::with_capacity(rows[g].len());
        for (step, out) in values.iter_mut().enumerate() {
            floats.clear();
            floats.extend(rows[g].iter().filter_map(|&row| block.get(row, step)));
            if !floats.is_empty() {
                *out = math::quantile(param.at(step), &mut floats);
                bits::set(present, step);
            }
        }
        Ok(())
    })
}

/// How many samples of a group have each value, the value's text as one more label. In label order.
pub(crate) fn count_values(
    ctx: &Ctx<'_>,
    block: &Block,
    label: &[u8],
    grouping: &Grouping,
) -> Result<Block, Error> {
    let mut grouping = grouping.clone();
    if !grouping.without {
        grouping.labels.push(label.into());
        grouping.labels.sort();
        grouping.labels.dedup();
    }
    let mut rows: HashMap<Labels, usize, foldhash::fast::FixedState> = HashMap::default();
    let mut series: Vec<Series> = Vec::new();
    let mut points: Vec<(usize, usize)> = Vec::new();
    for (row, s) in block.series.iter().enumerate() {
        ctx.budget.check()?;
        let mut by_value: HashMap<u64, usize, foldhash::fast::FixedState> = HashMap::default();
        for step in bits::ones(block.present(row)) {
            let v = block.values(row)[step];
            let out = *by_value.entry(v.to_bits()).or_insert_with(|| {
                let mut builder = LabelsBuilder::from(&s.labels);
                builder.set(label, format_f(v).as_bytes());
                let labels = grouping.labels_of(&builder.build());
                *rows.entry(labels.clone()).or_insert_with(|| {
                    series.push(Series { labels, drop_name: s.drop_name });
                    series.len() - 1
                })
            });
            points.push((out, step));
        }
    }
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|&a, &b| series[a].labels.cmp(&series[b].labels));
    let mut place = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        place[from] = to;
    }
    let sorted = order.iter().map(|&i| series[i].clone()).collect();
    let mut charge = ctx.charge_block(order.len(), block.grid)?;
    charge.add_samples(points.len().min(block.weight()))?;
    let mut out = Block::absent(sorted, block.grid, charge);
    for (from, step) in points {
        let row = place[from];
        let count = out.get(row, step).unwrap_or(0.0);
        out.set(row, step, count + 1.0);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(values: &[f64], k: usize) -> Vec<usize> {
        let mut heap = Vec::new();
        best(&mut heap, values.iter().copied().zip(0..), k, |a, b| a < b);
        heap.into_iter().map(|(_, row)| row).collect()
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
                assert!(within(ratio, &labels) != within(ratio - 1.0, &labels), "{labels} {ratio}");
            }
        }
    }
}
