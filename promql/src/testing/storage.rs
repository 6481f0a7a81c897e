//! A store in memory, in label order, that reads histograms as a store with chunks would.
//!
//! What a chunk shows of the histograms in it is part of what queries see: the hints on counter resets follow from
//! where chunks begin, and all histograms of a chunk have the same buckets.
//!
//! Compat: prometheus `tsdb/chunkenc`, `FloatHistogramAppender`, and the head's rules for new chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::histogram::{CounterResetHint, Span};
use model::storage::{AppendError, Error, Querier, Queryable, SelectHints, SeriesSet};
use model::{
    AnyHistogram, FloatHistogram, HistogramSample, Labels, Matcher, STALE_NAN, SampleBatch, TimeRange,
    Timestamp, Value, is_stale,
};

#[derive(Clone, Debug, Default)]
pub struct Storage {
    series: BTreeMap<Labels, Arc<Series>>,
}

#[derive(Clone, Debug, Default)]
struct Series {
    samples: SampleBatch,
    /// Where in the histograms the chunk begins that the next one may join; none behind a float.
    chunk: Option<usize>,
}

impl Storage {
    /// Adds floats to a series; its times ascend.
    ///
    /// # Panics
    /// A sample is not later than the one before.
    pub fn append(&mut self, labels: &Labels, samples: impl IntoIterator<Item = (Timestamp, f64)>) {
        for (t, v) in samples {
            if let Err(e) = self.append_value(labels, 0, t, Value::Float(v)) {
                panic!("sample of {labels} at {t}: {e}");
            }
        }
    }

    /// Adds a sample of any kind that counts since `st` ms (0: not known).
    ///
    /// # Errors
    /// It is not later than the last one of its series and not the same, or a histogram contradicts itself.
    pub fn append_value(
        &mut self,
        labels: &Labels,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), AppendError> {
        let series = Arc::make_mut(self.series.entry(labels.clone()).or_default());
        match value {
            // The end of a series of histograms is a histogram.
            Value::Float(v) if is_stale(v) && series.chunk.is_some() => {
                series.append_histogram(st, t, FloatHistogram { sum: STALE_NAN, ..FloatHistogram::default() })
            }
            Value::Float(v) => series.append_float(st, t, v),
            Value::Histogram(histogram) => series.append_histogram(st, t, histogram.to_float()),
            Value::FloatHistogram(histogram) => series.append_histogram(st, t, histogram.clone()),
        }
    }

    pub fn clear(&mut self) {
        self.series.clear();
    }

    fn matching(&self, matchers: &[Matcher]) -> impl Iterator<Item = (&Labels, &Arc<Series>)> {
        let passes =
            |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        self.series.iter().filter(move |(labels, _)| passes(labels))
    }
}

impl Series {
    fn append_float(&mut self, st: Timestamp, t: Timestamp, v: f64) -> Result<(), AppendError> {
        let is_repeated =
            self.samples.ts.last() == Some(&t) && self.samples.vs.last().is_some_and(|old| same(*old, v));
        if self.is_taken(t, is_repeated)? {
            return Ok(());
        }
        self.samples.push_started(st, t, v);
        self.chunk = None;
        Ok(())
    }

    fn append_histogram(
        &mut self,
        st: Timestamp,
        t: Timestamp,
        mut histogram: FloatHistogram,
    ) -> Result<(), AppendError> {
        if !histogram.is_stale() {
            histogram.validate()?;
        }
        let last = self.samples.histograms.last();
        let is_repeated = last.is_some_and(|last| last.t == t && float(last).is_same(&histogram));
        if self.is_taken(t, is_repeated)? {
            return Ok(());
        }
        let previous = last.map(float).filter(|_| self.chunk.is_some());
        let joins = previous.is_some_and(|previous| can_join(previous, &histogram));
        if !joins {
            self.chunk = Some(self.samples.histograms.len());
        }
        let is_gauge = histogram.counter_reset_hint == CounterResetHint::Gauge;
        if !histogram.is_stale() {
            histogram.counter_reset_hint = match (is_gauge, joins) {
                (true, _) => CounterResetHint::Gauge,
                (false, true) => CounterResetHint::NotCounterReset,
                (false, false) => CounterResetHint::Unknown,
            };
            if joins {
                let chunk = self.chunk.unwrap_or(0);
                unify(&mut self.samples.histograms[chunk..], &mut histogram);
            }
        }
        let histogram = AnyHistogram::Float(Box::new(histogram));
        self.samples.histograms.push(HistogramSample { t, st, histogram });
        Ok(())
    }

    /// Whether there is this very sample already.
    fn is_taken(&self, t: Timestamp, is_repeated: bool) -> Result<bool, AppendError> {
        let last = self.samples.ts.last().copied().max(self.samples.histograms.last().map(|h| h.t));
        match last {
            Some(last) if last == t && is_repeated => Ok(true),
            Some(last) if last == t => Err(AppendError::Duplicate),
            Some(last) if last > t => Err(AppendError::OutOfOrder),
            _ => Ok(false),
        }
    }
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

fn float(sample: &HistogramSample) -> &FloatHistogram {
    match &sample.histogram {
        AnyHistogram::Float(histogram) => histogram,
        AnyHistogram::Int(_) => unreachable!("the store keeps float histograms only"),
    }
}

/// Whether a histogram may stand behind another one in the same chunk.
fn can_join(previous: &FloatHistogram, next: &FloatHistogram) -> bool {
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if next.is_stale() {
        return true;
    }
    if previous.is_stale()
        || is_gauge(previous) != is_gauge(next)
        || next.counter_reset_hint == CounterResetHint::CounterReset
        || previous.schema != next.schema
        || !same(previous.zero_threshold, next.zero_threshold)
        || previous.custom_values != next.custom_values
    {
        return false;
    }
    let goes_on = |old: &BTreeMap<i64, f64>, new: &BTreeMap<i64, f64>| {
        old.iter().all(|(index, count)| *count == 0.0 || new.get(index).is_some_and(|new| new >= count))
    };
    let [old, new] = [previous, next].map(|h| {
        [by_index(&h.positive_spans, &h.positive_buckets), by_index(&h.negative_spans, &h.negative_buckets)]
    });
    is_gauge(next)
        || (next.count >= previous.count
            && next.zero_count >= previous.zero_count
            && goes_on(&old[0], &new[0])
            && goes_on(&old[1], &new[1]))
}

fn by_index(spans: &[Span], buckets: &[f64]) -> BTreeMap<i64, f64> {
    let mut next = 0;
    let indices = spans.iter().flat_map(|span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    });
    indices.zip(buckets.iter().copied()).collect()
}

/// Gives all histograms of a chunk and the one that joins it the buckets that any of them has.
fn unify(chunk: &mut [HistogramSample], next: &mut FloatHistogram) {
    let Some(first) = chunk.first().map(float) else { return };
    let union = |a: (&[Span], &[f64]), b: (&[Span], &[f64])| -> BTreeSet<i64> {
        by_index(a.0, a.1).into_keys().chain(by_index(b.0, b.1).into_keys()).collect()
    };
    let positive = union(
        (&first.positive_spans, &first.positive_buckets),
        (&next.positive_spans, &next.positive_buckets),
    );
    let negative = union(
        (&first.negative_spans, &first.negative_buckets),
        (&next.negative_spans, &next.negative_buckets),
    );
    let older = chunk.iter_mut().map(|sample| match &mut sample.histogram {
        AnyHistogram::Float(histogram) => &mut **histogram,
        AnyHistogram::Int(_) => unreachable!("the store keeps float histograms only"),
    });
    for histogram in older.filter(|h| !h.is_stale()).chain([next]) {
        lay_out(&mut histogram.positive_spans, &mut histogram.positive_buckets, &positive);
        lay_out(&mut histogram.negative_spans, &mut histogram.negative_buckets, &negative);
    }
}

fn lay_out(spans: &mut Vec<Span>, buckets: &mut Vec<f64>, indices: &BTreeSet<i64>) {
    let counts = by_index(spans, buckets);
    if counts.len() == indices.len() {
        return;
    }
    *buckets = indices.iter().map(|index| counts.get(index).copied().unwrap_or(0.0)).collect();
    spans.clear();
    let mut end = 0;
    for &index in indices {
        match spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            _ => {
                let offset = i32::try_from(index - end).expect("both are sums of few offsets");
                spans.push(Span { offset, length: 1 });
            }
        }
        end = index + 1;
    }
}

impl Queryable for Storage {
    fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for Storage {
    fn select(&self, matchers: &[Matcher], _: &SelectHints) -> Result<Box<dyn SeriesSet>, Error> {
        let found = self.matching(matchers).map(|(labels, series)| (labels.clone(), Arc::clone(series)));
        Ok(Box::new(Found(found.collect())))
    }

    fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        let mut values: Vec<Box<[u8]>> =
            self.matching(matchers).filter_map(|(labels, _)| labels.get(name).map(Into::into)).collect();
        values.sort();
        values.dedup();
        values.truncate(if limit == 0 { usize::MAX } else { limit });
        Ok(values)
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        let mut names: Vec<Box<[u8]>> = self
            .matching(matchers)
            .flat_map(|(labels, _)| labels.iter().map(|(name, _)| name.into()))
            .collect();
        names.sort();
        names.dedup();
        names.truncate(if limit == 0 { usize::MAX } else { limit });
        Ok(names)
    }
}

struct Found(Vec<(Labels, Arc<Series>)>);

impl SeriesSet for Found {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, i: usize) -> Labels {
        self.0[i].0.clone()
    }

    fn samples_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        let samples = &self.0[i].1.samples;
        let from = samples.ts.partition_point(|&t| t < range.mint);
        let to = samples.ts.partition_point(|&t| t <= range.maxt).max(from);
        if samples.sts.is_empty() && out.sts.is_empty() {
            out.ts.extend_from_slice(&samples.ts[from..to]);
            out.vs.extend_from_slice(&samples.vs[from..to]);
        } else {
            for at in from..to {
                out.push_started(samples.st(at), samples.ts[at], samples.vs[at]);
            }
        }
        let histograms = &samples.histograms;
        let from = histograms.partition_point(|h| h.t < range.mint);
        let to = histograms.partition_point(|h| h.t <= range.maxt).max(from);
        out.histograms.extend_from_slice(&histograms[from..to]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::series::{self, SequenceValue};

    /// The hints, and the positive buckets, as they are read back.
    fn read(text: &str) -> (Vec<CounterResetHint>, Vec<Vec<f64>>) {
        let (labels, values) = series::parse(text).expect("a description");
        let mut storage = Storage::default();
        for (t, value) in (0..).zip(&values) {
            let value = match value {
                SequenceValue::Gap => continue,
                SequenceValue::Float(v) => Value::Float(*v),
                SequenceValue::Histogram { histogram, .. } => Value::FloatHistogram(histogram),
            };
            storage.append_value(&labels, 0, t, value).expect("it is in order");
        }
        let found = storage.select(&[], &SelectHints::default()).expect("it is in memory");
        let mut out = SampleBatch::default();
        found.samples_into(0, TimeRange::ALL, &mut out).expect("it is in memory");
        let hints = out.histograms.iter().map(|h| h.histogram.counter_reset_hint()).collect();
        (hints, out.histograms.iter().map(|h| float(h).positive_buckets.clone()).collect())
    }

    #[test]
    fn hints_follow_from_where_chunks_begin() {
        use CounterResetHint::{Gauge, NotCounterReset as Not, Unknown};
        let cases = [
            (
                "m {{count:1 buckets:[1]}} {{count:2 buckets:[2]}} {{count:1 buckets:[1]}}",
                vec![Unknown, Not, Unknown],
            ),
            // A float between, a stale marker between, a reset that was told, another schema.
            ("m {{count:1}} 5 {{count:1}} {{count:1}}", vec![Unknown, Unknown, Not]),
            ("m {{count:1}} stale {{count:1}}", vec![Unknown, Unknown, Unknown]),
            (
                "m {{count:1}} {{count:2 counter_reset_hint:reset}} {{count:3 counter_reset_hint:not_reset}}",
                vec![Unknown, Unknown, Not],
            ),
            ("m {{schema:1}} {{schema:0}}", vec![Unknown, Unknown]),
            // A bucket that was filled is gone, an empty one may be.
            ("m {{count:1 buckets:[1 0]}} {{count:5 offset:1 buckets:[5]}}", vec![Unknown, Unknown]),
            ("m {{count:1 buckets:[1 0]}} {{count:5 buckets:[5]}}", vec![Unknown, Not]),
            (
                "m {{count:3 counter_reset_hint:gauge}} {{count:1 counter_reset_hint:gauge}} {{count:2}}",
                vec![Gauge, Gauge, Unknown],
            ),
        ];
        for (text, hints) in cases {
            assert_eq!(read(text).0, hints, "{text}");
        }
    }

    #[test]
    fn histograms_of_a_chunk_have_the_same_buckets() {
        let (_, buckets) = read("m {{count:1 buckets:[1]}} {{count:3 offset:-1 buckets:[1 1 0 1]}}");
        assert_eq!(buckets, [vec![0.0, 1.0, 0.0, 0.0], vec![1.0, 1.0, 0.0, 1.0]]);
    }

    #[test]
    fn what_is_out_of_order_or_invalid_is_refused() {
        let mut storage = Storage::default();
        let labels = Labels::from_pairs([("__name__", "m")]);
        let mut append = |t, value: Value<'_>| storage.append_value(&labels, 0, t, value);
        assert!(append(5, Value::Float(1.0)).is_ok());
        assert!(append(5, Value::Float(1.0)).is_ok());
        assert_eq!(append(5, Value::Float(2.0)), Err(AppendError::Duplicate));
        let negative = FloatHistogram { count: -1.0, ..FloatHistogram::default() };
        assert_eq!(
            append(4, Value::FloatHistogram(&FloatHistogram::default())),
            Err(AppendError::OutOfOrder)
        );
        assert!(matches!(append(6, Value::FloatHistogram(&negative)), Err(AppendError::InvalidHistogram(_))));
    }
}
