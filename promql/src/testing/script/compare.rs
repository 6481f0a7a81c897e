//! What counts as equal: nearly the same floats and histograms, exactly the same series, times and kinds.
//!
//! Compat: prometheus `promql/promqltest`, `compareResult`, `compareNativeHistogram`, and `util/almost`.

use std::collections::BTreeSet;
use std::fmt::Write;

use model::{AnyHistogram, FloatHistogram, Labels, Timestamp, is_stale};

use super::eval::Eval;
use crate::engine::{MatrixSeries, SampleValue, Value};
use crate::parse::series::SequenceValue;

/// A value as it was got.
#[derive(Clone, Debug)]
enum Point {
    Float(f64),
    Histogram(Box<FloatHistogram>),
}

impl Point {
    fn meets(&self, expected: &SequenceValue) -> bool {
        match (self, expected) {
            (Self::Float(v), SequenceValue::Float(expected)) => almost_equal(*v, *expected),
            (Self::Histogram(h), SequenceValue::Histogram { histogram, has_hint }) => {
                same_histograms(h, histogram, *has_hint)
            }
            _ => false,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Float(v) => v.to_string(),
            Self::Histogram(h) => h.to_test_expression(),
        }
    }
}

fn shown(value: &SequenceValue) -> String {
    match value {
        SequenceValue::Gap => "_".to_owned(),
        SequenceValue::Float(v) => v.to_string(),
        SequenceValue::Histogram { histogram, .. } => histogram.to_test_expression(),
    }
}

impl Eval<'_> {
    pub(super) fn compare(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::Scalar(sample) => self.compare_scalar(sample.v),
            Value::String { value, .. } if **value == *self.string => Ok(()),
            Value::String { value, .. } => Err(format!(
                "got string {:?}, expected {:?}",
                String::from_utf8_lossy(value),
                String::from_utf8_lossy(&self.string)
            )),
            Value::Vector(samples) => {
                let point = |value: &SampleValue| match value {
                    SampleValue::Float(v) => Point::Float(*v),
                    SampleValue::Histogram(h) => Point::Histogram(Box::new((**h).clone())),
                };
                let actual: Vec<_> = samples.iter().map(|s| (s.labels.clone(), point(&s.value))).collect();
                self.compare_vector(&actual)
            }
            Value::Matrix(matrix) => self.compare_matrix(matrix),
        }
    }

    fn compare_scalar(&self, v: f64) -> Result<(), String> {
        match self.scalar {
            Some(expected) if almost_equal(v, expected) => Ok(()),
            expected => Err(format!("got scalar {v}, expected {expected:?}")),
        }
    }

    fn compare_matrix(&self, matrix: &[MatrixSeries]) -> Result<(), String> {
        are_sorted(matrix)?;
        if self.is_ordered || self.scalar.is_some() {
            return Err("got a matrix".to_owned());
        }
        for series in matrix {
            let labels = &series.labels;
            let points = points(series);
            let list = || points.iter().map(|(t, p)| format!("{t}: {}", p.shown())).collect::<Vec<_>>();
            let expected = self
                .series
                .get(labels)
                .ok_or_else(|| format!("unexpected series {labels} {}", list().join(", ")))?;
            let expected: Vec<(Timestamp, &SequenceValue)> = (0..)
                .zip(&expected.values)
                .filter(|(_, value)| !matches!(value, SequenceValue::Gap))
                .map(|(i, value)| (self.items.start + i * self.items.step_ms, value))
                .collect();
            let is_met = points.len() == expected.len()
                && points.iter().zip(&expected).all(|((t, p), (et, e))| t == et && p.meets(e));
            if !is_met {
                let wanted: Vec<_> = expected.iter().map(|(t, e)| format!("{t}: {}", shown(e))).collect();
                return Err(format!("{labels}: got {}, expected {}", list().join(", "), wanted.join(", ")));
            }
        }
        self.all_found(matrix.iter().map(|s| &s.labels))
    }

    fn compare_vector(&self, actual: &[(Labels, Point)]) -> Result<(), String> {
        let mut list = String::new();
        for (labels, point) in actual {
            let _ = write!(list, "{labels} {}; ", point.shown());
        }
        if self.scalar.is_some() {
            return Err(format!("got a vector, expected a scalar: {list}"));
        }
        for (i, (labels, point)) in actual.iter().enumerate() {
            let Some(expected) = self.series.get(labels) else {
                return Err(format!("unexpected {labels} in {list}"));
            };
            if self.is_ordered && expected.place != i {
                return Err(format!("{labels} is at place {i}, expected {}: {list}", expected.place));
            }
            let value = &expected.values[0];
            if !point.meets(value) {
                return Err(format!("{labels}: got {}, expected {}", point.shown(), shown(value)));
            }
        }
        self.all_found(actual.iter().map(|(labels, _)| labels)).map_err(|e| format!("{e} in {list}"))
    }

    fn all_found<'l>(&self, found: impl Iterator<Item = &'l Labels>) -> Result<(), String> {
        let found: Vec<&Labels> = found.collect();
        let unique: BTreeSet<&Labels> = found.iter().copied().collect();
        if unique.len() < found.len() {
            return Err("two series have the same labels".to_owned());
        }
        match self.series.keys().find(|labels| !unique.contains(labels)) {
            None => Ok(()),
            Some(missing) => Err(format!("{missing} was not found")),
        }
    }

    /// Compares the middle of three steps with what the instant query had to be.
    pub(super) fn compare_middle(
        &self,
        instant: &Value,
        ranged: &Value,
        at: Timestamp,
    ) -> Result<(), String> {
        let Value::Matrix(matrix) = ranged else {
            return Err("a range query gave no matrix".to_owned());
        };
        are_sorted(matrix)?;
        let middle: Vec<(Labels, Point)> = matrix
            .iter()
            .flat_map(|series| points(series).into_iter().map(|(t, point)| (t, series.labels.clone(), point)))
            .filter(|(t, ..)| *t == at)
            .map(|(_, labels, point)| (labels, point))
            .collect();
        match (instant, middle.first()) {
            (Value::Scalar(_), Some((_, Point::Float(v)))) => self.compare_scalar(*v),
            (Value::Scalar(_), _) => Err("there is no scalar in the middle".to_owned()),
            _ => self.compare_vector(&middle),
        }
    }
}

/// All points by time.
fn points(series: &MatrixSeries) -> Vec<(Timestamp, Point)> {
    let mut points: Vec<_> = series.samples.iter().map(|s| (s.t, Point::Float(s.v))).collect();
    points.extend(series.samples.histograms.iter().map(|sample| {
        let histogram = match &sample.histogram {
            AnyHistogram::Float(histogram) => histogram.clone(),
            AnyHistogram::Int(histogram) => Box::new(histogram.to_float()),
        };
        (sample.t, Point::Histogram(histogram))
    }));
    points.sort_by_key(|(t, _)| *t);
    points
}

fn are_sorted(matrix: &[MatrixSeries]) -> Result<(), String> {
    if matrix.windows(2).all(|pair| pair[0].labels <= pair[1].labels) {
        return Ok(());
    }
    Err("the series are not sorted by labels".to_owned())
}

/// Equal up to 1e-6 of the sum of both; the staleness marker equals only itself.
fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (diff, sum) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < 1e-6 * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < 1e-6
}

fn same_histograms(actual: &FloatHistogram, expected: &FloatHistogram, with_hint: bool) -> bool {
    let compacted = |h: &FloatHistogram| {
        let mut h = h.clone();
        h.compact(0);
        h
    };
    let (a, b) = (compacted(actual), compacted(expected));
    let buckets =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b));
    // Compacted, there are no spans without buckets.
    a.schema == b.schema
        && almost_equal(a.count, b.count)
        && almost_equal(a.sum, b.sum)
        && (!b.uses_custom_buckets() || a.custom_values == b.custom_values)
        && a.zero_threshold == b.zero_threshold
        && almost_equal(a.zero_count, b.zero_count)
        && a.negative_spans == b.negative_spans
        && buckets(&a.negative_buckets, &b.negative_buckets)
        && a.positive_spans == b.positive_spans
        && buckets(&a.positive_buckets, &b.positive_buckets)
        && (!with_hint || actual.counter_reset_hint == expected.counter_reset_hint)
}
