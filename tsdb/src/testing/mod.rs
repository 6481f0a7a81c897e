//! What the long tests share: a store beside a plain map of what it must hold, and steps that change both.
//!
//! [`model`] takes random steps, [`crash`] breaks the disk under a fixed sequence of them. Values are compared by what
//! they mean: floats by their bits, histograms bucket by bucket, however their spans were cut.

mod crash;
mod model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Histogram, Span};
use ::model::storage::{AppendError, Appendable, Queryable, SelectHints, SeriesKey, SeriesSet};
use ::model::{
    AnyHistogram, Detail, HistogramPoints, HistogramSample, Labels, SampleBatch, TimeRange, Timestamp, Value,
    sample,
};

use crate::db::{Db, Options};
use crate::head::ReplayProgress;

pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// Where block ranges of every size begin.
pub(crate) const START: i64 = 1_700_000_000_000 / (18 * HOUR) * (18 * HOUR);

/// What a sample means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meaning {
    Float(u64),
    /// The marker that a series ends here, whose kind follows the samples before it.
    Stale,
    Histogram(Box<Buckets>),
}

/// A histogram without the accidents of its encoding; numbers by their bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Buckets {
    is_float: bool,
    is_gauge: bool,
    schema: i32,
    totals: [u64; 4],
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    custom: Vec<u64>,
}

fn buckets(spans: &[::model::histogram::Span], values: impl Iterator<Item = f64>) -> BTreeMap<i32, u64> {
    let mut at = 0;
    let mut indexes = Vec::new();
    for span in spans {
        at += span.offset;
        for _ in 0..span.length {
            indexes.push(at);
            at += 1;
        }
    }
    // A bucket that is listed and empty means as much as one that is not listed.
    indexes.into_iter().zip(values).filter(|(_, v)| *v != 0.0).map(|(i, v)| (i, v.to_bits())).collect()
}

fn sums(deltas: &[i64]) -> impl Iterator<Item = f64> + '_ {
    deltas.iter().scan(0_i64, |sum, delta| {
        *sum += delta;
        Some(*sum as f64)
    })
}

impl Meaning {
    pub(crate) fn of(value: Value<'_>) -> Self {
        use ::model::histogram::CounterResetHint::Gauge;
        match value {
            Value::Float(v) if sample::is_stale(v) => Self::Stale,
            Value::Float(v) => Self::Float(v.to_bits()),
            Value::Histogram(h) if h.is_stale() => Self::Stale,
            Value::FloatHistogram(h) if h.is_stale() => Self::Stale,
            Value::Histogram(h) => Self::Histogram(Box::new(Buckets {
                is_float: false,
                is_gauge: h.counter_reset_hint == Gauge,
                schema: h.schema,
                totals: [h.zero_threshold.to_bits(), h.zero_count, h.count, h.sum.to_bits()],
                positive: buckets(&h.positive_spans, sums(&h.positive_buckets)),
                negative: buckets(&h.negative_spans, sums(&h.negative_buckets)),
                custom: h.custom_values.iter().map(|v| v.to_bits()).collect(),
            })),
            Value::FloatHistogram(h) => Self::Histogram(Box::new(Buckets {
                is_float: true,
                is_gauge: h.counter_reset_hint == Gauge,
                schema: h.schema,
                totals: [h.zero_threshold, h.zero_count, h.count, h.sum].map(f64::to_bits),
                positive: buckets(&h.positive_spans, h.positive_buckets.iter().copied()),
                negative: buckets(&h.negative_spans, h.negative_buckets.iter().copied()),
                custom: h.custom_values.iter().map(|v| v.to_bits()).collect(),
            })),
        }
    }
}

/// A sample to append.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Float(f64),
    Histogram(AnyHistogram),
}

impl Content {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Float(v) => Value::Float(*v),
            Self::Histogram(h) => h.into(),
        }
    }
}

/// What a store must hold: by series, by time. Series without samples are left out.
pub(crate) type Oracle = BTreeMap<Labels, BTreeMap<Timestamp, Meaning>>;

/// One batch as it was accepted, in the order of its samples.
pub(crate) type Batch = Vec<(Labels, Timestamp, Meaning)>;

/// Series number `n`: names and values that share beginnings, and one that is not ASCII.
pub(crate) fn series(n: usize) -> Labels {
    let (pod, zone) = (format!("pod-{n}"), ["a", "b", "é"][n % 3]);
    Labels::from_pairs([
        ("__name__", if n.is_multiple_of(2) { "requests_total" } else { "wave" }),
        ("pod", &pod),
        ("zone", zone),
    ])
}

/// A value as series `n` might have at `t`: counters, gauges, constants, and now and then something odd.
pub(crate) fn float(rng: &mut fastrand::Rng, n: usize, t: Timestamp) -> f64 {
    match rng.u8(..40) {
        0 => sample::STALE_NAN,
        1 => sample::NORMAL_NAN,
        2 => f64::NEG_INFINITY,
        3 => f64::from_bits(rng.u64(..) & !(0x7ff << 52)),
        4..20 => ((t - START) / 1000) as f64,
        20..25 => n as f64,
        _ => rng.f64() * 1e3,
    }
}

/// A histogram as series `n` might have as its `t`-th: counters that grow, are reset, change their buckets.
pub(crate) fn histogram(rng: &mut fastrand::Rng, n: usize, t: Timestamp) -> AnyHistogram {
    let age = u64::try_from((t - START) / 1000).unwrap_or(0) % 5000;
    let is_custom = n % 4 == 1;
    let n_buckets = 2 + usize::try_from(age / 700).unwrap() + usize::from(rng.u8(..20) == 0);
    let counts: Vec<u64> = (0..n_buckets as u64).map(|i| age / (i + 1)).collect();
    let gap = i32::from(n_buckets > 3);
    let spans = if is_custom || gap == 0 {
        vec![Span { offset: 0, length: u32::try_from(n_buckets).unwrap() }]
    } else {
        vec![
            Span { offset: -2, length: 2 },
            Span { offset: gap, length: u32::try_from(n_buckets).unwrap() - 2 },
        ]
    };
    let sum = if rng.u8(..30) == 0 { sample::STALE_NAN } else { age as f64 * 0.3 };
    let zero_count = if is_custom { 0 } else { age / 9 };
    let count = counts.iter().sum::<u64>() + zero_count;
    let zero_threshold = if is_custom { 0.0 } else { 0.001 };
    let custom_values =
        if is_custom { (0..n_buckets - 1).map(|i| 0.1 + i as f64).collect() } else { Vec::new() };
    let schema = if is_custom { CUSTOM_BUCKETS_SCHEMA } else { 3 };
    let counter_reset_hint = if n % 8 == 6 { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
    if n % 8 >= 4 {
        let positive_buckets = counts.iter().map(|&c| c as f64).collect();
        return AnyHistogram::Float(Box::new(FloatHistogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            zero_count: zero_count as f64,
            count: count as f64,
            sum,
            positive_spans: spans,
            positive_buckets,
            custom_values,
            ..FloatHistogram::default()
        }));
    }
    let mut previous = 0;
    let deltas = counts.iter().map(|&c| {
        let delta = c.cast_signed() - previous;
        previous = c.cast_signed();
        delta
    });
    AnyHistogram::Int(Box::new(Histogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_buckets: deltas.collect(),
        positive_spans: spans,
        custom_values,
        ..Histogram::default()
    }))
}

/// All that a store holds.
pub(crate) fn read(db: &Db, range: TimeRange) -> Oracle {
    let set = db.querier(range).unwrap().select(&[], &SelectHints::default()).unwrap();
    let mut found = Oracle::new();
    let mut batch = SampleBatch::default();
    for i in 0..set.len() {
        batch.clear();
        set.samples_into(i, range, &mut batch).unwrap();
        assert_points_agree(&*set, i, range);
        assert!(batch.ts.is_sorted_by(|a, b| a < b), "times of floats ascend");
        assert!(batch.histograms.is_sorted_by(|a, b| a.t < b.t), "times of histograms ascend");
        let mut samples: BTreeMap<_, _> =
            batch.iter().map(|s| (s.t, Meaning::of(Value::Float(s.v)))).collect();
        for h in &batch.histograms {
            let before = samples.insert(h.t, Meaning::of((&h.histogram).into()));
            assert!(before.is_none(), "a float and a histogram at {}", h.t);
        }
        if let (Some((&first, _)), Some((&last, _))) = (samples.first_key_value(), samples.last_key_value()) {
            assert!(range.contains(first) && range.contains(last), "{first}..{last} outside {range:?}");
            assert!(found.insert(set.labels(i), samples).is_none(), "{} comes twice", set.labels(i));
        }
    }
    found
}

/// Checks that a series reads the same with its histograms as floats, and that of those read without buckets the ones
/// have them that tell of counter resets.
pub(crate) fn assert_points_agree(set: &dyn SeriesSet, i: usize, range: TimeRange) {
    use crate::chunk::testing::lines;
    let mut expected = SampleBatch::default();
    set.samples_into(i, range, &mut expected).unwrap();
    let floats = |expected: &SampleBatch| -> Vec<FloatHistogram> {
        let float = |sample: &HistogramSample| match &sample.histogram {
            AnyHistogram::Int(h) => h.to_float(),
            AnyHistogram::Float(h) => (**h).clone(),
        };
        expected.histograms.iter().map(float).collect()
    };
    let histograms = floats(&expected);
    // Whose hint is not known, and whom it is compared to.
    let mut is_compared = vec![false; histograms.len()];
    let mut before = None;
    for (at, h) in histograms.iter().enumerate().filter(|(_, h)| !h.is_stale()) {
        if h.counter_reset_hint == CounterResetHint::Unknown {
            [Some(at), before].into_iter().flatten().for_each(|at| is_compared[at] = true);
        }
        before = Some(at);
    }
    for detail in [Detail::All, Detail::Stats] {
        let (mut read, mut points) = (SampleBatch::default(), HistogramPoints::default());
        set.points_into(i, range, detail, &mut read, &mut points).unwrap();
        assert!(read.histograms.is_empty(), "they are apart");
        assert_eq!(points.len(), histograms.len(), "histograms of {}", set.labels(i));
        let bare = |at: usize, h: &FloatHistogram| {
            let mut h = h.clone();
            if detail == Detail::Stats && !is_compared[at] {
                h.clear_buckets();
                (h.zero_threshold, h.zero_count) = (0.0, 0.0);
            }
            AnyHistogram::Float(Box::new(h))
        };
        for (at, (sample, h)) in expected.histograms.iter_mut().zip(&histograms).enumerate() {
            sample.histogram = bare(at, h);
        }
        read.histograms = points
            .iter()
            .enumerate()
            .map(|(at, point)| HistogramSample {
                t: point.t,
                st: point.st,
                histogram: bare(at, &point.value),
            })
            .collect();
        assert_eq!(lines(&read), lines(&expected), "{} in {range:?}, {detail:?}", set.labels(i));
    }
}

/// Where two stores differ, in a few lines.
pub(crate) fn difference(found: &Oracle, expected: &Oracle) -> Option<String> {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut n = 0;
    let none = BTreeMap::new();
    let names: std::collections::BTreeSet<&Labels> = found.keys().chain(expected.keys()).collect();
    for labels in names {
        let (a, b) = (found.get(labels).unwrap_or(&none), expected.get(labels).unwrap_or(&none));
        let times: std::collections::BTreeSet<&i64> = a.keys().chain(b.keys()).collect();
        for t in times.into_iter().filter(|t| a.get(t) != b.get(t)) {
            n += 1;
            if n <= 6 {
                let _ = writeln!(
                    out,
                    "{labels} at {:+} min: found {:?}, expected {:?}",
                    (t - START) as f64 / MINUTE as f64,
                    a.get(t),
                    b.get(t)
                );
            }
        }
    }
    (n > 0).then(|| format!("{n} samples differ\n{out}"))
}

/// A store and what it must hold.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// How late samples may come, in ms.
    pub(crate) window: i64,
    pub(crate) db: Option<Db>,
    pub(crate) oracle: Oracle,
    /// The newest time that each series was given, deleted or not.
    pub(crate) newest: BTreeMap<Labels, Timestamp>,
    /// Series whose newest sample is a staleness marker, deleted or not.
    pub(crate) ended: std::collections::BTreeSet<Labels>,
    /// What was acknowledged, in order.
    pub(crate) batches: Vec<Batch>,
    /// What was being committed when the disk failed: it may be there, as a whole, or not.
    pub(crate) in_flight: Option<Batch>,
    /// What was being deleted when the disk failed: each may be there or not.
    pub(crate) doubtful: Vec<(Labels, Timestamp)>,
    /// Says whether the process counts as dead.
    pub(crate) is_off: Option<Box<dyn Fn() -> bool>>,
}

/// One sample of a batch: series, time, value.
pub(crate) type Row = (usize, Timestamp, Content);

impl World {
    pub(crate) fn new(dir: &Path, options: Options) -> Self {
        Self {
            dir: dir.to_owned(),
            options,
            window: 0,
            db: None,
            oracle: Oracle::new(),
            newest: BTreeMap::new(),
            ended: std::collections::BTreeSet::new(),
            batches: Vec::new(),
            in_flight: None,
            doubtful: Vec::new(),
            is_off: None,
        }
    }

    pub(crate) fn open(&mut self) -> crate::Result<()> {
        self.db = Some(Db::open(&self.dir, &self.options, &ReplayProgress::default())?);
        Ok(())
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().expect("BUG: the store is not open")
    }

    pub(crate) fn is_open(&self) -> bool {
        self.db.is_some()
    }

    /// Stops as after SIGTERM.
    pub(crate) fn close(&mut self) -> crate::Result<()> {
        let closed = self.db().close();
        self.db = None;
        closed
    }

    /// Appends rows as one batch and commits it. The oracle takes what is acknowledged, and checks what is refused.
    pub(crate) fn commit(&mut self, rows: &[Row]) -> Result<(), String> {
        let batch = self.append(rows, true)?;
        self.take(&batch);
        if !batch.is_empty() {
            self.batches.push(batch);
        }
        Ok(())
    }

    /// Appends rows as one batch and drops it.
    pub(crate) fn roll_back(&mut self, rows: &[Row]) {
        let _ = self.append(rows, false);
    }

    fn append(&mut self, rows: &[Row], commits: bool) -> Result<Batch, String> {
        let db = self.db.as_ref().expect("BUG: the store is not open");
        let mut newest = self.newest.clone();
        let known = |labels: &Labels, t: &i64| self.oracle.get(labels).is_some_and(|s| s.contains_key(t));
        let mut batch = Batch::new();
        let mut appender = db.appender(rows.first().map_or(0, |row| row.0 as u64 % 3));
        for (n, t, content) in rows {
            let labels = series(*n);
            let last = self.newest.get(&labels).copied().unwrap_or(i64::MIN);
            let appended = appender.append_value(SeriesKey::Labels(&labels), 0, *t, content.value());
            match &appended {
                Ok(_) => {}
                Err(AppendError::Poisoned) => {
                    // Asked after the refusal: the log is synced meanwhile by another thread, which may poison the head.
                    assert!(db.head().poison().is_some(), "a sound store says it is poisoned");
                    return Err("poisoned".to_owned());
                }
                // Inside what the head takes, only older samples may be refused.
                Err(e) => {
                    let head = db.head();
                    let bound = head.min_valid_time().max(head.max_time().saturating_sub(HOUR));
                    let is_late = self.window > 0 && *t >= head.max_time().saturating_sub(self.window);
                    assert!(
                        (*t <= last || *t < bound) && (!is_late || *t == last || known(&labels, t)),
                        "{labels} at {t} is refused, {e}: newest {last}, bound {bound}, window {}",
                        self.window
                    );
                }
            }
            if appended.is_ok() {
                // Later in the same batch an older sample is late, or dropped silently, as upstream does.
                let newest = newest.entry(labels.clone()).or_insert(i64::MIN);
                let is_late = *t < *newest && self.window > 0;
                let is_repeated = |(l, s, _): &(Labels, i64, Meaning)| *l == labels && s == t;
                if *t > *newest || (is_late && !known(&labels, t) && !batch.iter().any(is_repeated)) {
                    *newest = (*newest).max(*t);
                    batch.push((labels, *t, Meaning::of(content.value())));
                } else if *t == last {
                    let known = self.oracle.get(&labels).and_then(|samples| samples.get(t));
                    let meaning = Meaning::of(content.value());
                    // A late one is judged when it is committed, and dropped then.
                    assert!(
                        self.window > 0 || known.is_none_or(|known| *known == meaning),
                        "{labels} at {t}: another value is accepted"
                    );
                }
            }
        }
        if commits {
            self.in_flight = Some(batch);
            appender.commit().map_err(|e| e.to_string())?;
            if self.is_off.as_ref().is_some_and(|is_off| is_off()) {
                // The log of late samples is written with best effort: nobody hears of a commit of a dead process.
                return Err("the machine is off".to_owned());
            }
            batch = self.in_flight.take().expect("BUG: just put there");
        }
        Ok(batch)
    }

    /// After a crash in the midst of a commit: finds out whether the batch is there.
    pub(crate) fn settle(&mut self) {
        let found = read(self.db(), TimeRange::ALL);
        for (labels, t) in std::mem::take(&mut self.doubtful) {
            if !found.get(&labels).is_some_and(|samples| samples.contains_key(&t))
                && let Some(samples) = self.oracle.get_mut(&labels)
            {
                samples.remove(&t);
            }
        }
        self.oracle.retain(|_, samples| !samples.is_empty());
        let Some(batch) = self.in_flight.take() else { return };
        let has = |(labels, t, _): &(Labels, i64, Meaning)| {
            found.get(labels).is_some_and(|samples| samples.contains_key(t))
        };
        // The log of late samples is written after the one of those in order, which is whole or not there at all;
        // nobody was told. A comparison with the oracle follows.
        let mut newest = self.newest.clone();
        let (late, in_order): (Batch, Batch) = batch.into_iter().partition(|(labels, t, _)| {
            let newest = newest.entry(labels.clone()).or_insert(i64::MIN);
            let is_late = *t < *newest;
            *newest = (*newest).max(*t);
            is_late
        });
        // Floats and histograms are records of their own, in one write that a kill may have cut short; which of them has
        // a stale marker depends on the series.
        let is_float = |(_, _, meaning): &&(Labels, i64, Meaning)| matches!(meaning, Meaning::Float(_));
        let n_floats = in_order.iter().filter(is_float).count();
        let n_there = in_order.iter().filter(is_float).filter(|sample| has(sample)).count();
        assert!(n_there == 0 || n_there == n_floats, "{n_there} of {n_floats} floats of a batch are there");
        let there: Batch = in_order.into_iter().filter(has).collect();
        self.take(&there);
        let late: Batch = late.into_iter().filter(has).collect();
        self.take(&late);
    }

    /// What is accepted: at equal times the first stays.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for (labels, t, meaning) in batch {
            let newest = self.newest.entry(labels.clone()).or_insert(i64::MIN);
            if *t > *newest {
                *newest = *t;
                if *meaning == Meaning::Stale {
                    self.ended.insert(labels.clone());
                } else {
                    self.ended.remove(labels);
                }
            }
            self.oracle.entry(labels.clone()).or_default().entry(*t).or_insert_with(|| meaning.clone());
        }
    }

    /// Compares all of it, head and blocks.
    pub(crate) fn check(&self, when: &str) {
        if let Some(difference) = difference(&read(self.db(), TimeRange::ALL), &self.oracle) {
            panic!("{when}: {difference}");
        }
    }
}
