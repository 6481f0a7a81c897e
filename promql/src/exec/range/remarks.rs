//! What windows say besides their values: noted as bits while rows are computed, told once at the end.
//!
//! A text is written once per metric name, however many windows gave cause for it.
//!
//! Compat: prometheus `util/annotations` (3.14), the remarks of functions of range vectors.

use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use model::quote::go_quote;

use crate::annotations::{Annotation, Place};
use crate::exec::Ctx;
use crate::exec::column::{Scalars, Series};

/// A set of remarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks(u16);

impl Remarks {
    pub(crate) const MIXED_KINDS: Self = Self(1);
    pub(crate) const NOT_COUNTER: Self = Self(1 << 1);
    pub(crate) const NOT_GAUGE: Self = Self(1 << 2);
    pub(crate) const MIXED_SCHEMAS: Self = Self(1 << 3);
    pub(crate) const RECONCILED_IN_SUBTRACTION: Self = Self(1 << 4);
    pub(crate) const RECONCILED_IN_ADDITION: Self = Self(1 << 5);
    pub(crate) const RECONCILED_IN_AGGREGATION: Self = Self(1 << 6);
    pub(crate) const RESETS_COLLIDE: Self = Self(1 << 7);
    pub(crate) const HISTOGRAMS_IGNORED: Self = Self(1 << 8);
    /// There is a rate of floats, which are counters only if they are called so.
    pub(crate) const RATE_OF_FLOATS: Self = Self(1 << 9);

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn add_if(&mut self, condition: bool, other: Self) {
        if condition {
            self.add(other);
        }
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The remarks on all rows of a stream.
pub(crate) struct Notes {
    /// Shown is the first argument.
    place: Place,
    /// Shown is the window.
    window_place: Place,
    names: Vec<Name>,
    /// For each series the index of its name.
    of_series: Vec<u32>,
    quantiles: Option<Quantiles>,
}

/// The remarks on series of one metric name, and of one type where types count.
struct Name {
    metric: Box<[u8]>,
    kind: Option<Box<[u8]>>,
    remarks: AtomicU16,
    overlaps: AtomicUsize,
}

/// The steps at which a quantile was asked for that there is not.
struct Quantiles {
    params: Scalars,
    /// Steps whose parameter is out of range.
    bad: Vec<u64>,
    raised: Vec<AtomicU64>,
}

impl Notes {
    /// With `is_typed` the label `__type__` says what is a counter.
    pub(crate) fn new(series: &[Series], place: Place, window_place: Place, is_typed: bool) -> Self {
        let mut names: Vec<Name> = Vec::new();
        let mut of_series = Vec::with_capacity(series.len());
        for series in series {
            // Series come by name, mostly; names that come again are told again, to no effect.
            let name = series.labels.metric_name();
            let kind = is_typed.then(|| series.labels.get(b"__type__").unwrap_or_default());
            if names.last().is_none_or(|last| &*last.metric != name || last.kind.as_deref() != kind) {
                let (remarks, overlaps) = (AtomicU16::new(0), AtomicUsize::new(0));
                names.push(Name { metric: name.into(), kind: kind.map(Into::into), remarks, overlaps });
            }
            of_series.push(u32::try_from(names.len() - 1).expect("fewer than 2^32 series"));
        }
        Self { place, window_place, names, of_series, quantiles: None }
    }

    /// Also watches for quantiles outside 0 to 1 among `params`.
    pub(crate) fn watch_quantiles(&mut self, params: &Scalars, steps: usize) {
        let mut bad = vec![0; steps.div_ceil(64)];
        for step in (0..steps).filter(|&step| !(0.0..=1.0).contains(&params.at(step))) {
            crate::exec::column::bits::set(&mut bad, step);
        }
        if bad.iter().any(|&word| word != 0) {
            let raised = bad.iter().map(|_| AtomicU64::new(0)).collect();
            self.quantiles = Some(Quantiles { params: params.clone(), bad, raised });
        }
    }

    /// Notes `remarks` on series `i`, whose floats are `present`.
    pub(crate) fn note(&self, i: usize, remarks: Remarks, overlaps: usize, present: &[u64]) {
        if let Some(name) = self.of_series.get(i).and_then(|&name| self.names.get(name as usize)) {
            // Nearly always known already: a plain read does not take the line away from other threads.
            if name.remarks.load(Ordering::Relaxed) & remarks.0 != remarks.0 {
                name.remarks.fetch_or(remarks.0, Ordering::Relaxed);
            }
            if overlaps > 0 {
                name.overlaps.fetch_add(overlaps, Ordering::Relaxed);
            }
        }
        if let Some(quantiles) = &self.quantiles {
            for ((raised, bad), present) in quantiles.raised.iter().zip(&quantiles.bad).zip(present) {
                raised.fetch_or(bad & present, Ordering::Relaxed);
            }
        }
    }

    /// Hands everything that was noted to the query.
    pub(crate) fn tell(&self, ctx: &Ctx<'_>) {
        for name in &self.names {
            let remarks = Remarks(name.remarks.load(Ordering::Relaxed));
            if !remarks.is_empty() {
                self.texts(name, remarks).into_iter().for_each(|annotation| ctx.annotate(annotation));
            }
            let overlaps = name.overlaps.load(Ordering::Relaxed);
            if overlaps > 0 {
                let text = format!(
                    "sample has start time that overlaps with previous sample timestamp for metric {}",
                    go_quote(&name.metric)
                );
                ctx.annotate(Annotation::warning(text, self.window_place).found(overlaps));
            }
        }
        let Some(quantiles) = &self.quantiles else { return };
        let raised: Vec<u64> = quantiles.raised.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let mut last = None;
        for step in crate::exec::column::bits::ones(&raised) {
            let q = quantiles.params.at(step);
            if last != Some(q.to_bits()) {
                ctx.annotate(Annotation::invalid_quantile(q, self.place));
            }
            last = Some(q.to_bits());
        }
    }

    fn texts(&self, Name { metric: name, kind, .. }: &Name, remarks: Remarks) -> Vec<Annotation> {
        let quoted = || go_quote(name);
        let mut out = Vec::new();
        let mut warn = |remark, text: &str| {
            if remarks.has(remark) {
                out.push(Annotation::warning(format!("{text} {}", quoted()), self.window_place));
            }
        };
        warn(Remarks::MIXED_KINDS, "encountered a mix of histograms and floats for metric name");
        warn(Remarks::NOT_COUNTER, "this native histogram metric is not a counter:");
        warn(Remarks::NOT_GAUGE, "this native histogram metric is not a gauge:");
        warn(
            Remarks::MIXED_SCHEMAS,
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name",
        );
        if remarks.has(Remarks::RESETS_COLLIDE) {
            out.push(Annotation::resets_collide("aggregation", self.window_place));
        }
        for (remark, operation) in [
            (Remarks::RECONCILED_IN_SUBTRACTION, "subtraction"),
            (Remarks::RECONCILED_IN_ADDITION, "addition"),
            (Remarks::RECONCILED_IN_AGGREGATION, "aggregation"),
        ] {
            if remarks.has(remark) {
                out.push(Annotation::reconciled(operation, self.window_place));
            }
        }
        if remarks.has(Remarks::HISTOGRAMS_IGNORED) {
            let text = "ignored histograms in a range containing both floats and histograms for metric name";
            out.push(Annotation::info(format!("{text} {}", quoted()), self.place));
        }
        if remarks.has(Remarks::RATE_OF_FLOATS) && !name.is_empty() {
            let suffixes = [&b"_total"[..], b"_sum", b"_count", b"_bucket"];
            match kind.as_deref() {
                Some(b"counter" | b"histogram") => {}
                Some(kind) => out.push(Annotation::info(
                    format!(
                        "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", \
                         got {}: {}",
                        go_quote(kind),
                        quoted()
                    ),
                    self.place,
                )),
                None if suffixes.iter().any(|suffix| name.ends_with(suffix)) => {}
                None => out.push(Annotation::possible_non_counter(name, self.place)),
            }
        }
        out
    }
}
