//! Native histograms that grow by observations: exponential ones of several schemas, with negative and zero buckets,
//! custom bounds, gauges, and those that change their layout on the way.

use std::collections::BTreeMap;

use fastrand::Rng;
use model::histogram::{
    AnyHistogram, CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Histogram, Span,
};

/// How a histogram is laid out, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Whole counts of positive values.
    Int,
    /// Values on both sides of zero, and a zero bucket of some width.
    Signed,
    /// Fractional counts.
    Float,
    /// Custom bounds, which differ between series.
    Custom,
    /// Schema, width of the zero bucket and bounds change with every restart; so does exponential to custom.
    Shifting,
    /// Counts anew every time.
    Gauge,
    /// NaN and infinite observations, empty histograms, buckets that are listed and empty.
    Strange,
}

const BOUNDS: [f64; 5] = [0.1, 0.5, 1.0, 2.5, 10.0];
const OTHER_BOUNDS: [f64; 4] = [0.25, 0.5, 2.5, 5.0];

/// What has been observed since the last restart.
pub(crate) struct Observed {
    layout: Layout,
    schema: i32,
    bounds: Vec<f64>,
    zero_threshold: f64,
    zero_count: u64,
    sum: f64,
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    /// Observed and in no bucket.
    n_nan: u64,
    /// Fractional counts are whole ones times this.
    unit: f64,
    /// The middle of what is observed.
    scale: f64,
}

impl Observed {
    pub(crate) fn new(rng: &mut Rng, layout: Layout) -> Self {
        let is_custom = layout == Layout::Custom;
        Self {
            layout,
            schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { rng.i32(-1..4) },
            bounds: if is_custom { BOUNDS.to_vec() } else { Vec::new() },
            zero_threshold: if is_custom { 0.0 } else { 0.001 },
            zero_count: 0,
            sum: 0.0,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            n_nan: 0,
            unit: if layout == Layout::Float { 0.1 + rng.f64() } else { 1.0 },
            scale: *rng.choice(&[0.3, 1.0, 4.0]).expect("a choice"),
        }
    }

    pub(crate) fn use_other_bounds(&mut self) {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            self.bounds = OTHER_BOUNDS.to_vec();
        }
    }

    /// Counts from zero again.
    pub(crate) fn restart(&mut self, rng: &mut Rng) {
        self.zero_count = 0;
        self.sum = 0.0;
        self.positive.clear();
        self.negative.clear();
        self.n_nan = 0;
        if self.layout != Layout::Shifting {
            return;
        }
        if rng.u8(..3) == 0 {
            self.schema = CUSTOM_BUCKETS_SCHEMA;
            self.bounds = if rng.bool() { BOUNDS.to_vec() } else { OTHER_BOUNDS.to_vec() };
            self.zero_threshold = 0.0;
        } else {
            self.schema = rng.i32(-2..6);
            self.bounds.clear();
            self.zero_threshold = *rng.choice(&[0.0, 0.001, 0.5, 2.0]).expect("a choice");
        }
    }

    /// Halves the resolution, as clients do that count too many buckets.
    fn coarsen(&mut self) {
        self.schema -= 1;
        for side in [&mut self.positive, &mut self.negative] {
            let mut coarse = BTreeMap::new();
            for (index, count) in std::mem::take(side) {
                *coarse.entry((index + 1).div_euclid(2)).or_default() += count;
            }
            *side = coarse;
        }
    }

    fn observe(&mut self, rng: &mut Rng) {
        // Roughly what waiting times look like.
        let mut v = self.scale * (-(1.0 - rng.f64()).ln()) * (-(1.0 - rng.f64()).ln());
        if self.layout == Layout::Signed && rng.u8(..3) == 0 {
            v = -v;
        }
        if self.layout == Layout::Strange && rng.u16(..400) == 0 {
            v = f64::NAN;
        }
        self.sum += v;
        if v.is_nan() {
            self.n_nan += 1;
        } else if self.schema == CUSTOM_BUCKETS_SCHEMA {
            let index = self.bounds.partition_point(|bound| *bound < v);
            *self.positive.entry(i32::try_from(index).unwrap()).or_default() += 1;
        } else if v.abs() <= self.zero_threshold {
            self.zero_count += 1;
        } else {
            let index = (v.abs().log2() * 2f64.powi(self.schema)).ceil() as i32;
            let side = if v < 0.0 { &mut self.negative } else { &mut self.positive };
            *side.entry(index).or_default() += 1;
        }
    }

    /// The histogram after some more observations.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> AnyHistogram {
        if self.layout == Layout::Gauge {
            self.restart(rng);
        }
        if self.layout == Layout::Signed && rng.u8(..80) == 0 && self.schema > -3 {
            self.coarsen();
        }
        let n_observed = if rng.u8(..5) == 0 { 0 } else { rng.u8(..12) };
        for _ in 0..n_observed {
            self.observe(rng);
        }
        // Some list the empty buckets between others, some do not.
        let gap_max = if self.layout == Layout::Strange { 4 } else { 0 };
        let (positive_spans, positive) = spans(&self.positive, gap_max);
        let (negative_spans, negative) = spans(&self.negative, gap_max);
        let count =
            positive.iter().sum::<u64>() + negative.iter().sum::<u64>() + self.zero_count + self.n_nan;
        let hint =
            if self.layout == Layout::Gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        if self.layout == Layout::Float {
            let float = |n: u64| n as f64 * self.unit;
            let positive_buckets: Vec<f64> = positive.into_iter().map(float).collect();
            let negative_buckets: Vec<f64> = negative.into_iter().map(float).collect();
            // Added up as a validation adds them up, which wants the total to be right.
            let sums = negative_buckets.iter().sum::<f64>() + positive_buckets.iter().sum::<f64>();
            return AnyHistogram::Float(Box::new(FloatHistogram {
                counter_reset_hint: hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: float(self.zero_count),
                count: sums + float(self.zero_count),
                sum: self.sum * self.unit,
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                custom_values: self.bounds.clone(),
            }));
        }
        AnyHistogram::Int(Box::new(Histogram {
            counter_reset_hint: hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count,
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets: deltas(&positive),
            negative_buckets: deltas(&negative),
            custom_values: self.bounds.clone(),
        }))
    }
}

/// Runs of buckets; up to `gap_max` empty ones between two are listed.
fn spans(buckets: &BTreeMap<i32, u64>, gap_max: i32) -> (Vec<Span>, Vec<u64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut counts = Vec::new();
    let mut end = 0;
    for (&index, &count) in buckets {
        let gap = index - end;
        match spans.last_mut() {
            Some(span) if gap <= gap_max => {
                counts.extend((0..gap).map(|_| 0));
                span.length += u32::try_from(gap).unwrap() + 1;
            }
            _ => spans.push(Span { offset: gap, length: 1 }),
        }
        counts.push(count);
        end = index + 1;
    }
    (spans, counts)
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    counts
        .iter()
        .map(|&count| count.cast_signed() - std::mem::replace(&mut before, count.cast_signed()))
        .collect()
}
