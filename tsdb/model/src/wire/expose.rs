//! Our own metrics: primitives to count with and the text form to show them in.
//!
//! There is no registry: every component keeps a plain struct of these and writes itself into an
//! [`Exposition`] through [`Expose`]; the server collects the components.
//!
//! Compat: the Prometheus text format 0.0.4.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// The kind of a family, as its `# TYPE` line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A text body under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    body: Vec<u8>,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind.as_str(), "\n"] {
            self.body.extend_from_slice(part.as_bytes());
        }
    }

    /// One line of the family begun last; `name` repeats the family's, perhaps with a suffix.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], v: f64) {
        self.body.extend_from_slice(name.as_bytes());
        for (i, (label, value)) in labels.iter().enumerate() {
            self.body.push(if i == 0 { b'{' } else { b',' });
            self.body.extend_from_slice(label.as_bytes());
            self.body.extend_from_slice(b"=\"");
            for &b in value.as_bytes() {
                match b {
                    b'\\' => self.body.extend_from_slice(b"\\\\"),
                    b'"' => self.body.extend_from_slice(b"\\\""),
                    b'\n' => self.body.extend_from_slice(b"\\n"),
                    b => self.body.push(b),
                }
            }
            self.body.push(b'"');
        }
        if !labels.is_empty() {
            self.body.push(b'}');
        }
        self.body.push(b' ');
        self.body.extend_from_slice(crate::number::format_g(v).as_bytes());
        self.body.push(b'\n');
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

    /// The lines of one histogram of the family begun last.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut cumulative = 0;
        let bucket = format!("{name}_bucket");
        let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(&histogram.counts) {
            cumulative += count.get();
            let le = crate::number::format_g(bound);
            let labels: Vec<_> = labels.iter().copied().chain([("le", le.as_str())]).collect();
            self.sample(&bucket, &labels, cumulative as f64);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum.get());
        self.sample(&format!("{name}_count"), labels, cumulative as f64);
    }

    /// The lines of one summary of the family begun last.
    pub fn summary(&mut self, name: &str, labels: &[(&str, &str)], summary: &Summary) {
        for (quantile, v) in summary.values_at(summary.began.elapsed()) {
            let quantile = crate::number::format_g(quantile);
            let labels: Vec<_> = labels.iter().copied().chain([("quantile", quantile.as_str())]).collect();
            self.sample(name, &labels, v);
        }
        self.sample(&format!("{name}_sum"), labels, summary.sum.get());
        self.sample(&format!("{name}_count"), labels, summary.count.get() as f64);
    }

    pub fn into_body(self) -> Vec<u8> {
        self.body
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
