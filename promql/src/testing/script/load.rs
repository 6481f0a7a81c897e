//! `load` and `load_with_nhcb`: series descriptions, start times, and classic histograms made native ones.
//!
//! Compat: prometheus `promql/promqltest`, `loadCmd`, and `util/convertnhcb`.

use std::collections::BTreeMap;

use model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};
use model::labels::METRIC_NAME;
use model::number::parse_go_float;
use model::{FloatHistogram, Histogram, Labels, LabelsBuilder, Timestamp, Value};

use super::{Store, duration, word};
use crate::parse::series::{self, SequenceValue};

pub(super) struct Load {
    step: i64,
    with_histograms: bool,
    /// Of a series given twice the last line wins.
    series: BTreeMap<Labels, Line>,
}

struct Line {
    values: Vec<SequenceValue>,
    /// How long before its sample each count began, if there are start times at all.
    starts: Option<Vec<Option<i64>>>,
}

impl Load {
    pub(super) fn parse(command: &str, block: &[&str]) -> Result<Self, String> {
        let (head, step) = word(command);
        let with_histograms = match head {
            "load" => false,
            "load_with_nhcb" => true,
            _ => return Err("invalid load command. (load[_with_nhcb] <step:duration>)".to_owned()),
        };
        let mut load = Self { step: duration(step)?, with_histograms, series: BTreeMap::new() };
        let mut pending: Option<(Labels, Vec<Option<i64>>)> = None;
        for line in block {
            let (first, rest) = word(line);
            if let Some(metric) = first.strip_suffix("@st").filter(|_| !rest.is_empty()) {
                if pending.is_some() {
                    return Err("@st line has no following sample line".to_owned());
                }
                let (labels, _) =
                    series::parse(&format!("{metric} _")).map_err(|e| format!("{line}: {e}"))?;
                let items: Result<Vec<_>, String> = rest.split_whitespace().map(starts).collect();
                pending = Some((labels, items?.concat()));
                continue;
            }
            let (labels, values) = series::parse(line).map_err(|e| format!("{line}: {e}"))?;
            let starts = match pending.take() {
                None => None,
                Some((of, _)) if of != labels => {
                    return Err("@st metric does not match the following sample line metric".to_owned());
                }
                Some((_, starts)) if starts.len() != values.len() => {
                    let (n, m) = (starts.len(), values.len());
                    return Err(format!("@st line has {n} values but sample line has {m}"));
                }
                Some((_, starts)) => Some(starts),
            };
            load.series.insert(labels, Line { values, starts });
        }
        match pending {
            None => Ok(load),
            Some(_) => Err("@st line has no following sample line".to_owned()),
        }
    }

    fn time(&self, i: usize) -> Timestamp {
        self.step * i64::try_from(i).expect("a line holds fewer than 2^63 values")
    }

    pub(super) fn append(&self, store: &mut dyn Store) -> Result<(), String> {
        let mut add = |labels: &Labels, st, t, value: Value<'_>| {
            store.append(labels, st, t, value).map_err(|e| format!("{labels} at {t}: {e}"))
        };
        for (labels, line) in &self.series {
            for (i, value) in line.values.iter().enumerate() {
                let t = self.time(i);
                let start = line.starts.as_ref().and_then(|starts| starts[i]);
                let st = start.map_or(0, |offset| t + offset);
                match value {
                    SequenceValue::Gap => {}
                    SequenceValue::Float(v) => add(labels, st, t, Value::Float(*v))?,
                    SequenceValue::Histogram { histogram, .. } => {
                        add(labels, st, t, Value::FloatHistogram(histogram))?;
                    }
                }
            }
        }
        if self.with_histograms {
            for ((labels, t), classic) in self.classic_histograms()? {
                let histogram = classic.convert().map_err(|e| format!("{labels} at {t}: {e}"))?;
                add(&labels, 0, t, Value::FloatHistogram(&histogram))?;
            }
        }
        store.loaded()
    }

    /// What the floats tell of classic histograms, by the labels of the histogram and by time.
    fn classic_histograms(&self) -> Result<BTreeMap<(Labels, Timestamp), Classic>, String> {
        let mut all: BTreeMap<(Labels, Timestamp), Classic> = BTreeMap::new();
        for (labels, line) in &self.series {
            let name = labels.metric_name();
            let parts =
                [(Part::Sum, &b"_sum"[..]), (Part::Count, b"_count"), (Part::Bucket(0.0), b"_bucket")];
            let found = parts.iter().find_map(|(part, suffix)| Some((*part, name.strip_suffix(*suffix)?)));
            let Some((mut part, base)) = found else { continue };
            if let Part::Bucket(bound) = &mut part {
                let le =
                    labels.get(b"le").ok_or_else(|| format!("expected bucket label in metric {labels}"))?;
                match parse_go_float(le) {
                    Ok(le) if !le.is_nan() => *bound = le,
                    _ => continue,
                }
            }
            let mut builder = LabelsBuilder::from(labels);
            builder.set(METRIC_NAME, base);
            builder.remove(b"le");
            let base = builder.build();
            for (i, value) in line.values.iter().enumerate() {
                if let SequenceValue::Float(v) = value {
                    all.entry((base.clone(), self.time(i))).or_default().set(part, *v);
                }
            }
        }
        Ok(all)
    }
}

/// One item of an `@st` line: `_`, `_x3`, `-1m`, `-1mx3`, `-1m+10sx3`.
fn starts(item: &str) -> Result<Vec<Option<i64>>, String> {
    let invalid = |why: &str| format!("invalid ST item {item:?}: {why}");
    let times = |text: &str| text.parse::<usize>().map_err(|_| invalid("invalid repeat count"));
    if let Some(rest) = item.strip_prefix('_') {
        let n = match rest.strip_prefix('x') {
            None if rest.is_empty() => 1,
            None => return Err(invalid("a gap stands alone")),
            Some(n) => times(n)?,
        };
        return Ok(vec![None; n]);
    }
    // The unit ends where the repetition or the step begins.
    let length = |text: &str| {
        let signed = text.strip_prefix(['-', '+']).unwrap_or(text);
        let digits = signed.trim_start_matches(|c: char| c.is_ascii_digit());
        let unit = digits.trim_start_matches(|c: char| c.is_ascii_alphabetic() && c != 'x');
        text.len() - unit.len()
    };
    let offset = |text: &str| duration(text.strip_prefix('+').unwrap_or(text)).map_err(|e| invalid(&e));
    let (base, rest) = item.split_at(length(item));
    let base = offset(base)?;
    let (step, n) = match rest.as_bytes().first() {
        None => return Ok(vec![Some(base)]),
        Some(b'x') => (0, times(&rest[1..])?),
        Some(sign @ (b'+' | b'-')) => {
            let (step, rest) = rest[1..].split_at(length(&rest[1..]));
            let n =
                rest.strip_prefix('x').ok_or_else(|| invalid("expected 'x<count>' after step duration"))?;
            (if *sign == b'-' { -offset(step)? } else { offset(step)? }, times(n)?)
        }
        Some(_) => return Err(invalid("unexpected character after duration")),
    };
    if n > series::VALUES_MAX {
        return Err(invalid("too many values"));
    }
    Ok((0..=n).map(|i| Some(base + step * i64::try_from(i).unwrap_or(i64::MAX))).collect())
}

#[derive(Clone, Copy)]
enum Part {
    Sum,
    Count,
    Bucket(f64),
}

/// A classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Bounds with the counts of what is not above them.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn set(&mut self, part: Part, v: f64) {
        match part {
            Part::Sum => self.sum = v,
            Part::Count => self.count = Some(v),
            Part::Bucket(bound) if self.buckets.iter().all(|(b, _)| *b != bound) => {
                self.buckets.push((bound, v));
            }
            Part::Bucket(_) => {}
        }
    }

    /// The same as a native histogram with custom bounds.
    fn convert(mut self) -> Result<FloatHistogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(pair) = self.buckets.windows(2).find(|pair| pair[1].1 < pair[0].1) {
            return Err(format!("count is not cumulative: {} < {}", pair[1].1, pair[0].1));
        }
        if self.buckets.iter().any(|(_, v)| *v < 0.0) || self.count.is_some_and(|v| v < 0.0) {
            return Err("count must be non-negative".to_owned());
        }
        let count = self.count.or_else(|| self.buckets.last().map(|b| b.1)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let last = self.buckets.last().map_or(0.0, |b| b.1);
        if count != last {
            return Err(format!("count mismatch: count={count} != le=+Inf count={last}"));
        }
        let counts: Vec<f64> = std::iter::once(self.buckets[0].1)
            .chain(self.buckets.windows(2).map(|pair| pair[1].1 - pair[0].1))
            .collect();
        let length = u32::try_from(counts.len()).map_err(|_| "too many buckets".to_owned())?;
        let custom_values = self.buckets.iter().map(|b| b.0).filter(|b| *b != f64::INFINITY).collect();
        let is_integral = self.buckets.iter().all(|b| b.1.fract() == 0.0 && b.1 < 1e15);
        let mut histogram = if is_integral {
            let whole: Vec<i64> = counts.iter().map(|v| whole(*v)).collect();
            let deltas = (0..whole.len()).map(|i| whole[i] - if i == 0 { 0 } else { whole[i - 1] });
            let mut histogram = Histogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count: whole_count(count),
                sum: self.sum,
                positive_spans: vec![Span { offset: 0, length }],
                positive_buckets: deltas.collect(),
                custom_values,
                ..Histogram::default()
            };
            histogram.compact(2);
            histogram.validate().map_err(|e| e.to_string())?;
            histogram.to_float()
        } else {
            let mut histogram = FloatHistogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count,
                sum: self.sum,
                positive_spans: vec![Span { offset: 0, length }],
                positive_buckets: counts,
                custom_values,
                ..FloatHistogram::default()
            };
            histogram.compact(0);
            histogram
        };
        histogram.counter_reset_hint = model::histogram::CounterResetHint::Unknown;
        Ok(histogram)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be an integer that is exact as a float")]
fn whole(v: f64) -> i64 {
    v as i64
}

fn whole_count(v: f64) -> u64 {
    whole(v).unsigned_abs()
}
