//! Our own metrics: primitives to count with and the text form to show them in.
//!
//! There is no registry: every component keeps a plain struct of these and writes itself into an
//! [`Exposition`] through [`Expose`]; the server collects the components.
//!
//! Compat: the Prometheus text format 0.0.4.

use std::sync::atomic::{AtomicU64, Ordering};

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

    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}
