//! What the rules count, other than by group.
//!
//! Compat: prometheus `rules`, `NewGroupMetrics`, and `template`, where expansions are counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::wire::expose::{Counter, Exposition, Histogram, Kind, Summary};

/// Of all groups together.
#[derive(Debug)]
pub struct Metrics {
    pub(super) evaluations: Durations,
    pub(super) groups: Durations,
    pub(super) expansions: Counter,
    pub(super) expansion_failures: Counter,
    /// Rules that are evaluated beside others of their group now.
    concurrent: AtomicUsize,
}

/// How long something took: quantiles, and buckets for those who add servers up.
#[derive(Debug)]
pub(super) struct Durations {
    summary: Summary,
    histogram: Histogram,
}

impl Durations {
    const BOUNDS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

    pub(super) fn new(quantiles: &'static [f64]) -> Self {
        Self { summary: Summary::new(quantiles), histogram: Histogram::new(&Self::BOUNDS) }
    }

    pub(super) fn observe(&self, duration: Duration) {
        self.summary.observe(duration.as_secs_f64());
        self.histogram.observe(duration.as_secs_f64());
    }

    fn expose(&self, name: &str, help: &str, out: &mut Exposition) {
        let (summary, histogram) = (format!("{name}_seconds"), format!("{name}_histogram_seconds"));
        out.family(&summary, help, Kind::Summary);
        out.summary(&summary, &[], &self.summary);
        out.family(&histogram, help, Kind::Histogram);
        out.histogram(&histogram, &[], &self.histogram);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            evaluations: Durations::new(&[0.5, 0.9, 0.99]),
            groups: Durations::new(&[0.01, 0.05, 0.5, 0.9, 0.99]),
            expansions: Counter::new(),
            expansion_failures: Counter::new(),
            concurrent: AtomicUsize::new(0),
        }
    }
}

impl Metrics {
    /// Takes one of `n_max` places if there is one, without waiting.
    pub(super) fn take_place(&self, n_max: usize) -> Option<Place<'_>> {
        let taken = |n: usize| (n < n_max).then_some(n + 1);
        self.concurrent.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).ok().map(|_| Place(self))
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        self.evaluations.expose(
            "prometheus_rule_evaluation_duration",
            "The duration for a rule to execute.",
            out,
        );
        self.groups.expose("prometheus_rule_group_duration", "The duration of rule group evaluations.", out);
        out.counter(
            "prometheus_template_text_expansions_total",
            "The total number of template text expansions.",
            &self.expansions,
        );
        out.counter(
            "prometheus_template_text_expansion_failures_total",
            "The total number of template text expansion failures.",
            &self.expansion_failures,
        );
    }
}

/// A place among the rules that are evaluated at once, until it is dropped.
pub(super) struct Place<'m>(&'m Metrics);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.concurrent.fetch_sub(1, Ordering::AcqRel);
    }
}
