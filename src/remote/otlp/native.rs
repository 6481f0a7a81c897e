//! Native histograms made of exponential histograms, and of classic ones where these are to have custom buckets.
//!
//! Upstream puts counts of a finer scale than ours into a bucket too low where empty buckets come before them; here
//! every count comes into the bucket that its index says.
//!
//! Compat: prometheus `storage/remote/otlptranslator/prometheusremotewrite/histograms.go`.

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, SCHEMA_MAX, SCHEMA_MIN, Span};
use model::wire::otlp::{ExponentialPoint, HistogramPoint, Side, Temporality};
use model::{Histogram, STALE_NAN, number};

/// The requests do not tell one that could be relied on.
const ZERO_THRESHOLD: f64 = 1e-128;

/// So many empty buckets are written out rather than begin a span.
const GAP_MAX: i64 = 2;

/// The histogram and what is suspicious of it.
pub(super) type Native = (Histogram, Option<String>);

/// # Errors
/// The buckets are too wide, or their indices are beyond what a histogram can say.
pub(super) fn of_exponential(
    point: &ExponentialPoint<'_>,
    temporality: Temporality,
) -> Result<Native, String> {
    if point.scale < SCHEMA_MIN {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {SCHEMA_MIN}, was {}",
            point.scale
        ));
    }
    let too_fine = point.scale.saturating_sub(SCHEMA_MAX).max(0);
    let side = |side: &Side| {
        // The lower bound of a bucket is outside of it here, the upper one inside: one index further.
        spans_of(scaled(side, too_fine.cast_unsigned()), first_of(side, too_fine.cast_unsigned()) + 1)
    };
    let (positive_spans, positive_buckets) = side(&point.positive)?;
    let (negative_spans, negative_buckets) = side(&point.negative)?;
    let histogram = Histogram {
        counter_reset_hint: hint(temporality),
        schema: point.scale.min(SCHEMA_MAX),
        zero_threshold: ZERO_THRESHOLD,
        zero_count: point.zero_count,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        ..Histogram::default()
    };
    let said = (point.count, point.sum, point.head.has_no_value());
    Ok(with_totals(histogram, said, "exponential histogram"))
}

/// # Errors
/// There are more buckets than a histogram can have.
pub(super) fn of_classic(point: &HistogramPoint<'_>, temporality: Temporality) -> Result<Native, String> {
    let first = point.counts.iter().take_while(|&&count| count == 0).count();
    let (positive_spans, positive_buckets) =
        spans_of(point.counts[first..].iter().copied(), i64::try_from(first).unwrap_or(i64::MAX))?;
    let histogram = Histogram {
        counter_reset_hint: hint(temporality),
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans,
        positive_buckets,
        custom_values: point.bounds.clone(),
        ..Histogram::default()
    };
    let said = (point.count, point.sum, point.head.has_no_value());
    Ok(with_totals(histogram, said, "histogram"))
}

/// What is counted since the point before may always go back.
fn hint(temporality: Temporality) -> CounterResetHint {
    if temporality == Temporality::Delta { CounterResetHint::Gauge } else { CounterResetHint::Unknown }
}

fn with_totals(mut histogram: Histogram, said: (u64, Option<f64>, bool), kind: &str) -> Native {
    let (count, sum, has_no_value) = said;
    if has_no_value {
        (histogram.count, histogram.sum) = (STALE_NAN.to_bits(), STALE_NAN);
        return (histogram, None);
    }
    (histogram.count, histogram.sum) = (count, sum.unwrap_or(0.0));
    let warning = (count == 0 && histogram.sum != 0.0).then(|| {
        let sum = number::format_fixed(histogram.sum, 6);
        format!("{kind} data point has zero count, but non-zero sum: {sum}")
    });
    (histogram, warning)
}

fn first_of(side: &Side, shift: u32) -> i64 {
    i64::from(side.offset) >> shift.min(63)
}

/// The counts of the buckets, 2^`shift` of them made one.
fn scaled(side: &Side, shift: u32) -> impl Iterator<Item = u64> {
    let at = move |i: usize| (i64::from(side.offset).saturating_add_unsigned(i as u64)) >> shift.min(63);
    let mut i = 0;
    std::iter::from_fn(move || {
        let mut sum = *side.counts.get(i)?;
        let index = at(i);
        i += 1;
        while let Some(count) = side.counts.get(i).filter(|_| at(i) == index) {
            sum = sum.wrapping_add(*count);
            i += 1;
        }
        Some(sum)
    })
}

/// Buckets that follow each other from the index `first` on, long gaps left out. The last is there even if it is
/// empty: it tells how many bounds there have to be.
fn spans_of(counts: impl Iterator<Item = u64>, first: i64) -> Result<(Vec<Span>, Vec<i64>), String> {
    let (mut spans, mut deltas) = (Vec::<Span>::new(), Vec::new());
    let mut before = 0_u64;
    let mut gap = 0_i64;
    let mut push = |gap: i64, count: u64| {
        let offset = |by: i64| {
            i32::try_from(by)
                .map_err(|_| format!("histogram bucket index out of range: {by} behind the one before"))
        };
        if spans.is_empty() {
            spans.push(Span { offset: offset(first)?, length: 0 });
        }
        if gap > GAP_MAX {
            spans.push(Span { offset: offset(gap)?, length: 0 });
        }
        let n_empty = if gap > GAP_MAX { 0 } else { gap };
        for count in (0..n_empty).map(|_| 0).chain([count]) {
            if let Some(span) = spans.last_mut() {
                span.length += 1;
            }
            deltas.push(count.wrapping_sub(before).cast_signed());
            before = count;
        }
        Ok::<(), String>(())
    };
    let mut counts = counts.peekable();
    while let Some(count) = counts.next() {
        if count != 0 || counts.peek().is_none() {
            push(gap, count)?;
            gap = 0;
        } else {
            gap += 1;
        }
    }
    Ok((spans, deltas))
}

#[cfg(test)]
mod tests {
    use model::wire::otlp::Head;

    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialPoint<'static> {
        ExponentialPoint {
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Side { offset, counts: counts.to_vec() },
            ..ExponentialPoint::default()
        }
    }

    /// Index and count of what is not empty.
    fn buckets(histogram: &Histogram) -> Vec<(i64, i64)> {
        let (mut at, mut count, mut out) = (0_i64, 0, Vec::new());
        let mut deltas = histogram.positive_buckets.iter();
        for span in &histogram.positive_spans {
            at += i64::from(span.offset);
            for delta in deltas.by_ref().take(span.length as usize) {
                count += delta;
                if count != 0 {
                    out.push((at, count));
                }
                at += 1;
            }
        }
        out
    }

    #[test]
    fn every_count_comes_into_its_bucket() {
        for scale in 0..12 {
            for offset in -9..9 {
                for zeros in 0..9 {
                    let mut counts = vec![0; zeros];
                    counts.extend([3, 0, 0, 0, 0, 1, 2, 0, 0, 7, 0, 0]);
                    let made = of_exponential(&point(scale, offset, &counts), Temporality::Cumulative);
                    let (made, warning) = made.unwrap();
                    assert_eq!((warning, made.validate()), (None, Ok(())));
                    let shift = (scale - 8).max(0);
                    let mut expected = std::collections::BTreeMap::<i64, i64>::new();
                    for (i, &count) in (0_i64..).zip(&counts) {
                        *expected.entry(((i64::from(offset) + i) >> shift) + 1).or_default() +=
                            count.cast_signed();
                    }
                    expected.retain(|_, count| *count != 0);
                    assert_eq!(buckets(&made), expected.into_iter().collect::<Vec<_>>());
                    assert_eq!(made.schema, scale.min(8));
                }
            }
        }
    }

    #[test]
    fn scales_and_totals() {
        let text = of_exponential(&point(-5, 0, &[1]), Temporality::Cumulative).unwrap_err();
        assert_eq!(text, "cannot convert exponential to native histogram. Scale must be >= -4, was -5");
        let far = point(0, i32::MAX, &[1, 1]);
        assert!(of_exponential(&far, Temporality::Cumulative).is_err());
        let (finest, _) = of_exponential(&point(i32::MAX, 5, &[1, 1]), Temporality::Delta).unwrap();
        assert_eq!((buckets(&finest), finest.counter_reset_hint), (vec![(1, 2)], CounterResetHint::Gauge));
        let (_, warning) = of_exponential(&point(0, 0, &[]), Temporality::Cumulative).unwrap();
        assert_eq!(
            warning.as_deref(),
            Some("exponential histogram data point has zero count, but non-zero sum: 1.000000")
        );
        let stale = ExponentialPoint { head: Head { flags: 1, ..Head::default() }, ..point(0, 0, &[4]) };
        let (stale, warning) = of_exponential(&stale, Temporality::Cumulative).unwrap();
        assert!(stale.is_stale() && warning.is_none());
        assert_eq!(stale.validate(), Ok(()));
    }

    #[test]
    fn classic_histograms_keep_their_bounds() {
        let mut point = HistogramPoint {
            count: 6,
            counts: vec![0, 1, 0, 0, 0, 5],
            bounds: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            ..HistogramPoint::default()
        };
        let (made, _) = of_classic(&point, Temporality::Cumulative).unwrap();
        assert_eq!(made.validate(), Ok(()));
        assert_eq!(buckets(&made), [(1, 1), (5, 5)]);
        point.counts.push(0);
        assert!(
            of_classic(&point, Temporality::Cumulative).unwrap().0.validate().is_err(),
            "a bucket too many"
        );
    }
}
