//! Increases, sums and means of native histograms.
//!
//! Compat: prometheus `promql/functions.go` (3.14), `histogramRate`, `funcSumOverTime`, `funcAvgOverTime`.

use model::FloatHistogram;
use model::histogram::{CounterResetHint, MixedSchemas};

use super::Marks;
use super::remarks::Remarks;
use crate::exec::stream::HistogramPoint;

/// What is known of the histograms of a series, so that windows need not look at each of theirs.
pub(super) struct Run<'a> {
    pub(super) points: &'a [HistogramPoint],
    /// For each the first of those up to it that are of its schema, and gauges if it is one.
    alike_since: Vec<usize>,
}

impl<'a> Run<'a> {
    pub(super) fn new(points: &'a [HistogramPoint]) -> Self {
        let kind = |i: usize| (points[i].value.schema, is_gauge(&points[i].value));
        let mut since = 0;
        let alike_since = (0..points.len()).map(|i| {
            if kind(i) != kind(since) {
                since = i;
            }
            since
        });
        Self { points, alike_since: alike_since.collect() }
    }

    /// Makes `increase` what a counter counted between the first and the last of `lo..hi`, at least two. `resets` marks
    /// the pairs between which it began anew, also by start times; `is_started` says of a pair whether it is so by those.
    pub(super) fn increase(
        &self,
        (lo, hi): (usize, usize),
        resets: &mut Marks<'_>,
        is_started: impl Fn(usize) -> bool,
        increase: &mut FloatHistogram,
        remarks: &mut Remarks,
    ) -> Option<()> {
        let points = &self.points[lo..hi];
        let (first, last) = (&*points[0].value, &*points[points.len() - 1].value);
        let resets = resets.inside(lo, hi);
        // What was counted before a reset right behind the first does not matter, however it was counted.
        let nothing = (resets.first() == Some(&(lo + 1))).then(|| {
            let second = &points[1].value;
            let custom_values = second.custom_values.clone();
            FloatHistogram { schema: second.schema, custom_values, ..FloatHistogram::default() }
        });
        let base = nothing.as_ref().unwrap_or(first);
        let is_custom = base.uses_custom_buckets();
        let mut found = Remarks::default();
        found.add_if(is_gauge(first) || is_gauge(last), Remarks::NOT_COUNTER);
        if last.uses_custom_buckets() != is_custom {
            found.add(Remarks::MIXED_SCHEMAS);
            remarks.add(found);
            return None;
        }
        let mut schema = last.schema.min(base.schema);
        // Those that are like the last have nothing to add to it.
        for point in &self.points[lo + 1..self.alike_since[hi - 1].clamp(lo + 1, hi - 1)] {
            found.add_if(is_gauge(&point.value), Remarks::NOT_COUNTER);
            schema = schema.min(point.value.schema);
            if point.value.uses_custom_buckets() != is_custom {
                // Nothing else is told then.
                remarks.add(Remarks::MIXED_SCHEMAS);
                return None;
            }
        }
        increase.copy_in_schema(last, schema);
        let combined = (|| {
            let taken = increase.sub_assign(base)?;
            found.add_if(taken.reconciled, Remarks::RECONCILED_IN_SUBTRACTION);
            for &i in resets {
                let before = match &nothing {
                    Some(nothing) if i == lo + 1 => {
                        if !is_started(i) && !self.points[i].value.is_reset_after(nothing) {
                            continue;
                        }
                        nothing
                    }
                    _ => &*self.points[i - 1].value,
                };
                let added = increase.add_assign(before)?;
                found.add_if(added.reconciled, Remarks::RECONCILED_IN_ADDITION);
            }
            Ok::<_, MixedSchemas>(())
        })();
        if combined.is_err() {
            remarks.add(Remarks::MIXED_SCHEMAS);
            return None;
        }
        remarks.add(found);
        increase.counter_reset_hint = CounterResetHint::Gauge;
        increase.compact(0);
        Some(())
    }

    /// Makes `delta` the difference between the first and the last of `lo..hi`, at least two, of a gauge.
    pub(super) fn delta(
        &self,
        (lo, hi): (usize, usize),
        delta: &mut FloatHistogram,
        remarks: &mut Remarks,
    ) -> Option<()> {
        let (first, last) = (&*self.points[lo].value, &*self.points[hi - 1].value);
        if first.uses_custom_buckets() != last.uses_custom_buckets() {
            remarks.add(Remarks::MIXED_SCHEMAS);
            return None;
        }
        delta.copy_in_schema(last, first.schema.min(last.schema));
        let Ok(taken) = delta.sub_assign(first) else {
            remarks.add(Remarks::MIXED_SCHEMAS);
            return None;
        };
        remarks.add_if(taken.reconciled, Remarks::RECONCILED_IN_SUBTRACTION);
        remarks.add_if(!is_gauge(first) || !is_gauge(last), Remarks::NOT_GAUGE);
        delta.counter_reset_hint = CounterResetHint::Gauge;
        delta.compact(0);
        Some(())
    }
}

pub(super) fn is_gauge(histogram: &FloatHistogram) -> bool {
    histogram.counter_reset_hint == CounterResetHint::Gauge
}

/// Whether some were marked as counter resets and some as none, which a sum cannot be true to.
fn resets_collide(points: &[HistogramPoint]) -> bool {
    let has = |hint| points.iter().any(|point| point.value.counter_reset_hint == hint);
    has(CounterResetHint::CounterReset) && has(CounterResetHint::NotCounterReset)
}

/// The sum of at least one histogram.
pub(super) fn sum(points: &[HistogramPoint], remarks: &mut Remarks) -> Option<FloatHistogram> {
    let all = (|| {
        let (mut sum, c, mut is_reconciled) = compensated(points, |_| true)?;
        if let Some(c) = c {
            is_reconciled |= sum.add_assign(&c)?.reconciled;
        }
        Ok((sum, is_reconciled))
    })();
    finish(points, all, remarks)
}

/// The mean of at least one histogram: of their sum, as long as that does not overflow.
pub(super) fn mean(points: &[HistogramPoint], remarks: &mut Remarks) -> Option<FloatHistogram> {
    let mut overflows = false;
    let all = (|| {
        let (mut sum, c, is_reconciled) = compensated(points, |sum| {
            overflows = sum.has_overflow();
            !overflows
        })?;
        if overflows {
            return incremental_mean(points);
        }
        let count = points.len() as f64;
        sum.divide(count);
        if let Some(mut c) = c {
            c.divide(count);
            sum.add_assign(&c)?;
        }
        Ok((sum, is_reconciled))
    })();
    finish(points, all, remarks)
}

fn finish(
    points: &[HistogramPoint],
    result: Result<(FloatHistogram, bool), MixedSchemas>,
    remarks: &mut Remarks,
) -> Option<FloatHistogram> {
    let Ok((histogram, is_reconciled)) = result else {
        remarks.add(Remarks::MIXED_SCHEMAS);
        return None;
    };
    remarks.add_if(is_reconciled, Remarks::RECONCILED_IN_AGGREGATION);
    remarks.add_if(resets_collide(points), Remarks::RESETS_COLLIDE);
    Some(histogram)
}

/// A sum, what it has lost, and whether custom bounds differed.
type Compensated = (FloatHistogram, Option<FloatHistogram>, bool);

/// The sum of histograms up to that behind which `go_on` says no.
fn compensated(
    points: &[HistogramPoint],
    mut go_on: impl FnMut(&FloatHistogram) -> bool,
) -> Result<Compensated, MixedSchemas> {
    let mut sum = (*points[0].value).clone();
    let mut c = None;
    let mut is_reconciled = false;
    for point in &points[1..] {
        let c = c.get_or_insert_with(|| sum.compensation());
        is_reconciled |= sum.kahan_add_assign(&point.value, c)?.reconciled;
        if !go_on(&sum) {
            break;
        }
    }
    Ok((sum, c, is_reconciled))
}

/// The mean where the sum overflows: from the histogram on with which it does, the mean is moved on instead.
fn incremental_mean(points: &[HistogramPoint]) -> Result<(FloatHistogram, bool), MixedSchemas> {
    let mut mean = (*points[0].value).clone();
    let mut c: Option<FloatHistogram> = None;
    let (mut is_incremental, mut is_reconciled) = (false, false);
    for (i, point) in points.iter().enumerate().skip(1) {
        let count = (i + 1) as f64;
        if !is_incremental {
            let (mut sum, mut sum_c) = (mean.clone(), c.clone().unwrap_or_else(|| mean.compensation()));
            is_reconciled |= sum.kahan_add_assign(&point.value, &mut sum_c)?.reconciled;
            if !sum.has_overflow() {
                (mean, c) = (sum, Some(sum_c));
                continue;
            }
            is_incremental = true;
            mean.divide(count - 1.0);
            if let Some(c) = &mut c {
                c.divide(count - 1.0);
            }
        }
        let q = (count - 1.0) / count;
        mean.multiply(q);
        let c = match &mut c {
            Some(c) => {
                c.multiply(q);
                c
            }
            None => c.insert(mean.compensation()),
        };
        let mut part = (*point.value).clone();
        part.divide(count);
        is_reconciled |= mean.kahan_add_assign(&part, c)?.reconciled;
    }
    if let Some(c) = &c {
        mean.add_assign(c)?;
    }
    Ok((mean, is_reconciled))
}
