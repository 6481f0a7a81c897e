//! Our own metrics: primitives to count with, and how they are shown.
//!
//! There is no registry: every component keeps a plain struct of these and writes itself into an
//! [`Exposition`] through [`Expose`]; the server collects the components. [`super::encode`] makes bytes of it.
//!
//! Compat: `client_golang`, what its registry gathers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use super::encode::Kind;
use super::encode::{self, Classic, Count, Family, Metric, Value};
use crate::Timestamp;

/// Something that shows metrics.
pub trait Expose {
    /// Writes whole families; a family is written by one component only.
    fn expose(&self, out: &mut Exposition);
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn set(&self, v: f64) {
        self.0.store(v.to_bits(), Ordering::Relaxed);
    }

    pub fn add(&self, v: f64) {
        // An error is impossible: the closure never declines.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
            Some((f64::from_bits(bits) + v).to_bits())
        });
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Observations in cumulative buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One per bound and one beyond the last.
    counts: Box<[Counter]>,
    sum: Gauge,
}

impl Histogram {
    /// `bounds` are the upper bounds of the buckets, ascending, without +Inf.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| Counter::new()).collect(), sum: Gauge::new() }
    }

    pub fn observe(&self, v: f64) {
        self.counts[self.bounds.partition_point(|&bound| bound < v)].inc();
        self.sum.add(v);
    }
}

/// How far back a [`Summary`] looks, in so many steps. Compat: the defaults of Prometheus' own summaries.
const SUMMARY_AGE: Duration = Duration::from_mins(10);
const SUMMARY_STEPS: u32 = 5;

/// Two values of one class of a [`Summary`] differ by this factor at most: what it tells is right to 1 %.
const SUMMARY_FACTOR: f64 = 1.02;

/// What is smaller counts as this.
const SUMMARY_MIN: f64 = 1e-9;

/// Quantiles of what was observed in the last ten minutes.
///
/// Observations are counted in classes of about equal value, so that memory is bounded by their spread (some hundred
/// classes for what a computer times), not by their number.
#[derive(Debug)]
pub struct Summary {
    quantiles: &'static [f64],
    sum: Gauge,
    count: Counter,
    began: Instant,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The step that the first of `steps` belongs to.
    newest: u64,
    /// How many observations each class had, the newest step first.
    steps: [BTreeMap<u16, u64>; SUMMARY_STEPS as usize],
}

impl Recent {
    fn turn_to(&mut self, step: u64) {
        let passed = step.saturating_sub(self.newest).min(u64::from(SUMMARY_STEPS));
        for _ in 0..passed {
            self.steps.rotate_right(1);
            self.steps[0].clear();
        }
        self.newest = self.newest.max(step);
    }
}

impl Summary {
    /// `quantiles` between 0 and 1, ascending.
    pub fn new(quantiles: &'static [f64]) -> Self {
        Self {
            quantiles,
            sum: Gauge::new(),
            count: Counter::new(),
            began: Instant::now(),
            recent: Mutex::default(),
        }
    }

    pub fn observe(&self, v: f64) {
        self.observe_at(v, self.began.elapsed());
    }

    fn observe_at(&self, v: f64, age: Duration) {
        self.sum.add(v);
        self.count.inc();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.turn_to(step(age));
        *recent.steps[0].entry(class(v)).or_default() += 1;
    }

    /// The quantiles with their values, NaN where nothing was observed.
    fn values_at(&self, age: Duration) -> Vec<(f64, f64)> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.turn_to(step(age));
        let mut classes = BTreeMap::<u16, u64>::new();
        for (&class, &n) in recent.steps.iter().flatten() {
            *classes.entry(class).or_default() += n;
        }
        drop(recent);
        let total: u64 = classes.values().sum();
        let value = |quantile: f64| {
            let rank = (quantile * total as f64).ceil().max(1.0);
            let mut below = 0;
            let class = classes.iter().find(|(_, n)| {
                below += **n;
                below as f64 >= rank
            });
            class.map_or(f64::NAN, |(&class, _)| SUMMARY_MIN * SUMMARY_FACTOR.powf(f64::from(class) - 0.5))
        };
        self.quantiles.iter().map(|&quantile| (quantile, value(quantile))).collect()
    }
}

fn step(age: Duration) -> u64 {
    age.as_secs() / (SUMMARY_AGE / SUMMARY_STEPS).as_secs()
}

/// The class of a value: the n-th ends at the smallest value times the factor to the n-th power.
fn class(v: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; NaN is 0")]
    let class = (v / SUMMARY_MIN).log(SUMMARY_FACTOR).ceil() as u16;
    class
}

/// Families under construction.
///
/// Each is written by one component, in any order; what was begun without a sample is left out.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family<'static>>,
    created: Option<Timestamp>,
}

impl Exposition {
    /// Tells readers since when everything has been counted: the start of the process.
    pub fn set_created(&mut self, t: Timestamp) {
        self.created = Some(t);
    }

    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.families.push(Family {
            name: name.as_bytes().to_vec().into(),
            help: Some(help.as_bytes().to_vec().into()),
            kind,
            metrics: Vec::new(),
        });
    }

    /// One value of the family begun last, whose name it repeats.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], v: f64) {
        self.push(name, labels, Value::Number(v));
    }

    /// A family of one counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.family(name, help, Kind::Counter);
        self.sample(name, &[], counter.get() as f64);
    }

    /// A family of one gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, v: f64) {
        self.family(name, help, Kind::Gauge);
        self.sample(name, &[], v);
    }

    /// One histogram of the family begun last.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut cumulative = 0;
        let mut add = |count: &Counter| {
            cumulative += count.get();
            Count::Int(cumulative)
        };
        // The bucket without an end is the count of all.
        let buckets =
            histogram.bounds.iter().zip(&histogram.counts).map(|(&bound, n)| (bound, add(n))).collect();
        let count = add(&histogram.counts[histogram.bounds.len()]);
        let value = Classic { count, sum: histogram.sum.get(), buckets };
        self.push(name, labels, Value::Classic(value));
    }

    /// One summary of the family begun last.
    pub fn summary(&mut self, name: &str, labels: &[(&str, &str)], summary: &Summary) {
        let quantiles = summary.values_at(summary.began.elapsed());
        self.quantiles(name, labels, (summary.count.get(), summary.sum.get()), quantiles);
    }

    /// One summary of the family begun last, its quantiles taken elsewhere: count and sum, then quantiles and values.
    pub fn quantiles(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        (count, sum): (u64, f64),
        quantiles: Vec<(f64, f64)>,
    ) {
        self.push(name, labels, Value::Summary(encode::Summary { count, sum, quantiles }));
    }

    fn push(&mut self, name: &str, labels: &[(&str, &str)], value: Value<'static>) {
        let Some(family) = self.families.last_mut().filter(|family| *family.name == *name.as_bytes()) else {
            debug_assert!(false, "BUG: a sample of {name} outside of its family");
            return;
        };
        let mut labels: Vec<encode::Label<'static>> = labels
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec().into(), value.as_bytes().to_vec().into()))
            .collect();
        labels.sort_unstable();
        family.metrics.push(Metric { labels, value, timestamp: None, created: None });
    }

    /// The families by name, the metrics of each by the values of their labels.
    ///
    /// Compat: `client_golang`, `internal.NormalizeMetricFamilies` and `MetricSorter`.
    pub fn into_families(self) -> Vec<Family<'static>> {
        let Self { mut families, created } = self;
        families.retain(|family| !family.metrics.is_empty());
        families.sort_by(|a, b| a.name.cmp(&b.name));
        debug_assert!(
            families.windows(2).all(|pair| pair[0].name != pair[1].name),
            "BUG: a family is written twice: {:?}",
            families.windows(2).find(|pair| pair[0].name == pair[1].name)
        );
        for family in &mut families {
            // Only what counts has a beginning.
            let created = created.filter(|_| family.kind != Kind::Gauge && family.kind != Kind::Untyped);
            family.metrics.iter_mut().for_each(|metric| metric.created = created);
            family.metrics.sort_by(|a, b| {
                let pairs = a.labels.iter().zip(&b.labels);
                let differs = pairs.map(|(a, b)| a.1.cmp(&b.1)).find(|order| order.is_ne());
                a.labels.len().cmp(&b.labels.len()).then(differs.unwrap_or(std::cmp::Ordering::Equal))
            });
        }
        families
    }

    /// Everything in the text format.
    pub fn into_body(self) -> Vec<u8> {
        let mut body = Vec::new();
        for family in self.into_families() {
            encode::write_family(&mut body, &family, encode::Format::Text, encode::Escaping::Underscores);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Exposition, Kind, Summary};

    const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

    #[test]
    fn a_summary_tells_quantiles_to_one_percent() {
        let summary = Summary::new(&QUANTILES);
        for i in 1..=1000 {
            summary.observe_at(f64::from(i) / 1000.0, Duration::ZERO);
        }
        for (quantile, v) in summary.values_at(Duration::ZERO) {
            assert!((v - quantile).abs() <= quantile * 0.011, "{quantile}: {v}");
        }
    }

    #[test]
    fn a_summary_forgets_after_ten_minutes() {
        let summary = Summary::new(&QUANTILES);
        assert!(summary.values_at(Duration::ZERO)[0].1.is_nan());
        summary.observe_at(100.0, Duration::from_mins(1));
        summary.observe_at(1.0, Duration::from_mins(9));
        let median = |minutes| summary.values_at(Duration::from_mins(minutes))[0].1.round();
        assert_eq!(median(9), 1.0);
        let top = |minutes| summary.values_at(Duration::from_mins(minutes))[2].1.round();
        assert!((99.0..=101.0).contains(&top(9)), "{}", top(9));
        assert_eq!(top(11), 1.0);
        assert!(summary.values_at(Duration::from_mins(30))[0].1.is_nan());
        assert_eq!(summary.count.get(), 2);
    }

    #[test]
    fn odd_values_have_a_place() {
        let summary = Summary::new(&QUANTILES);
        for v in [0.0, -1.0, f64::NAN, 1e-12, 1e300, f64::INFINITY] {
            summary.observe_at(v, Duration::ZERO);
        }
        assert!(summary.values_at(Duration::ZERO).iter().all(|(_, v)| !v.is_nan()));
    }

    #[test]
    fn a_summary_is_written_as_clients_write_it() {
        let summary = Summary::new(&[0.5]);
        let mut out = Exposition::default();
        out.family("s", "A summary.", Kind::Summary);
        out.summary("s", &[("a", "b")], &summary);
        assert_eq!(
            String::from_utf8(out.into_body()).unwrap(),
            "# HELP s A summary.\n# TYPE s summary\ns{a=\"b\",quantile=\"0.5\"} NaN\ns_sum{a=\"b\"} 0\ns_count{a=\"b\"} 0\n"
        );
    }
}
