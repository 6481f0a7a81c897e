//! The receiver of the OpenTelemetry protocol: a request becomes samples, all of it or nothing but for series that are
//! too many.
//!
//! Reading order: [`translate`] (the walk), its `labels`, [`names`], [`native`] histograms, [`value`]s of attributes,
//! [`delta`] (points that count since the one before). The bytes are decoded by `model::wire::otlp`; HTTP is that of
//! `web::remote::otlp`.
//!
//! Compat: prometheus `storage/remote/write_otlp_handler.go` (3.14). A failed commit is told, where upstream says that
//! all went well.

mod delta;
mod names;
mod native;
mod translate;
mod value;

use std::hash::BuildHasher;
use std::time::Duration;

use config::prometheus::otlp::Otlp;
use model::Timestamp;
use model::storage::{AppendError, Appendable};
use model::wire::expose::{Counter, Expose, Exposition, Gauge, Kind};
use model::wire::otlp::{self, Request};
use parking_lot::Mutex;
use web::view::otlp::{Encoding, Refusal};

use self::delta::Streams;
use self::translate::{Blame, Category, Outcome, Settings};

/// Samples so far in the future are refused.
const AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// The warnings of a request that are logged.
const LOGGED_WARNINGS_MAX: usize = 10;

/// So much of the errors of a request is logged.
const LOGGED_BYTES_MAX: usize = 2048;

/// What becomes of points that count since the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deltas {
    #[default]
    Refused,
    /// Stored as they are.
    Stored,
    /// Added up.
    Accumulated,
}

/// What the flags say.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub deltas: Deltas,
    pub type_and_unit_labels: bool,
    /// The store puts a zero where a count begins.
    pub zero_at_start: bool,
    pub logs_metadata: bool,
    /// How long a sample is seen.
    pub lookback: Duration,
}

/// The receiver.
pub struct Receiver {
    options: Options,
    now: fn() -> Timestamp,
    /// Held until the samples are stored, so that those of one series come there in their order.
    streams: Mutex<Streams>,
    metrics: Metrics,
}

#[derive(Default)]
struct Metrics {
    collisions: Counter,
    zero_counts: Counter,
    without_metadata: Counter,
    exemplars_refused: Counter,
    streams: Gauge,
    late_deltas: Counter,
    deltas_beyond_limit: Counter,
}

impl Receiver {
    pub fn new(options: Options, now: fn() -> Timestamp) -> Self {
        Self { options, now, streams: Mutex::default(), metrics: Metrics::default() }
    }

    /// Stores what `body` brings.
    ///
    /// # Errors
    /// The body cannot be decoded, or something in it cannot be translated or stored; then nothing of it is. If series
    /// are refused because there are too many, all others are stored.
    pub fn receive(
        &self,
        store: &dyn Appendable,
        config: &Otlp,
        body: &[u8],
        encoding: Encoding,
    ) -> Result<(), Refusal> {
        let decoded = match encoding {
            Encoding::Protobuf => otlp::from_protobuf(body),
            Encoding::Json => otlp::from_json(body),
        };
        let mut request = decoded.map_err(|error| Refusal::Invalid(error.to_string()))?;
        if self.options.deltas != Deltas::Accumulated || !delta::has_delta(&request) {
            return self.store(store, config, &request);
        }
        let mut streams = self.streams.lock();
        let dropped = streams.accumulate(&mut request, (self.now)());
        let outcome = match dropped.refusal {
            Some(text) => Err(Refusal::Invalid(text)),
            None => self.store(store, config, &request),
        };
        if let Err(Refusal::Unavailable(_)) = outcome {
            return outcome;
        }
        streams.keep();
        self.metrics.streams.set(streams.len() as f64);
        self.metrics.late_deltas.add(dropped.late);
        self.metrics.deltas_beyond_limit.add(dropped.beyond_limit);
        if dropped.beyond_limit > 0 {
            tracing::warn!(
                points = dropped.beyond_limit,
                streams = streams.len(),
                "OTLP delta points dropped: too many series"
            );
        }
        outcome
    }

    fn store(&self, store: &dyn Appendable, config: &Otlp, request: &Request<'_>) -> Result<(), Refusal> {
        let settings = Settings {
            config,
            takes_deltas: self.options.deltas == Deltas::Stored,
            type_and_unit_labels: self.options.type_and_unit_labels,
            zero_at_start: self.options.zero_at_start,
            logs_metadata: self.options.logs_metadata,
            lookback: self.options.lookback,
            t_max: (self.now)().saturating_add(AHEAD_MS_MAX),
        };
        let mut batch = store.appender(affinity(request));
        let outcome = translate::translate(request, settings, &mut *batch);
        self.count(&outcome);
        if outcome.errors.is_empty() {
            batch.commit().map_err(|error| Refusal::Unavailable(error.to_string()))?;
            return match outcome.over_limit.len() {
                0 => Ok(()),
                // All others are in the store, so nothing is to be sent again.
                n => {
                    let text = format!("{} for {n} series", AppendError::SeriesLimit);
                    tracing::warn!(err = text, "OTLP series refused, all others are stored");
                    Err(Refusal::Invalid(text))
                }
            };
        }
        drop(batch);
        let text = outcome.error_text();
        let logged = &text[..text.floor_char_boundary(LOGGED_BYTES_MAX)];
        tracing::error!(err = logged, "Error appending OTLP write request");
        Err(match outcome.blame() {
            Blame::Us => Refusal::Failed(text),
            Blame::Sender => Refusal::Invalid(text),
            Blame::Later => Refusal::Unavailable(text),
        })
    }

    fn count(&self, outcome: &Outcome) {
        let Metrics { collisions, zero_counts, without_metadata, exemplars_refused, .. } = &self.metrics;
        without_metadata.add(outcome.n_without_metadata);
        exemplars_refused.add(outcome.n_exemplars_refused);
        for (category, n) in outcome.warnings_by_category() {
            match category {
                Category::LabelNameCollision => collisions.add(n),
                Category::ZeroCountNonZeroSum => zero_counts.add(n),
            }
        }
        if !outcome.warnings.is_empty() {
            let texts = outcome.warnings.iter().take(LOGGED_WARNINGS_MAX).map(|(_, text)| text.as_str());
            let warnings = texts.collect::<Vec<_>>().join("; ");
            let all = outcome.warnings.len();
            tracing::warn!(warnings, all, "Warnings translating OTLP metrics to Prometheus write request");
        }
    }
}

/// What one client sends again and again lies side by side.
fn affinity(request: &Request<'_>) -> u64 {
    let mut key = Vec::new();
    if let Some(resource) = request.resources.first() {
        delta::push_attributes(&mut key, &resource.attributes);
    }
    foldhash::fast::FixedState::default().hash_one(key)
}

impl Expose for Receiver {
    fn expose(&self, out: &mut Exposition) {
        let metrics = &self.metrics;
        let name = "prometheus_api_otlp_translation_warnings_total";
        out.family(
            name,
            "The total number of warnings produced while translating OTLP metrics to the Prometheus model, by category.",
            Kind::Counter,
        );
        for (category, counter) in [
            (Category::ZeroCountNonZeroSum, &metrics.zero_counts),
            (Category::LabelNameCollision, &metrics.collisions),
        ] {
            out.sample(name, &[("category", category.as_str())], counter.get() as f64);
        }
        out.counter(
            "prometheus_api_otlp_appended_samples_without_metadata_total",
            "The total number of samples ingested from OTLP without corresponding metadata.",
            &metrics.without_metadata,
        );
        out.counter(
            "prometheus_api_otlp_out_of_order_exemplars_total",
            "The total number of received OTLP exemplars which were rejected because they were out of order.",
            &metrics.exemplars_refused,
        );
        if self.options.deltas != Deltas::Accumulated {
            return;
        }
        // Whoever holds them sweeps them.
        if let Some(mut streams) = self.streams.try_lock() {
            streams.sweep((self.now)());
            metrics.streams.set(streams.len() as f64);
        }
        out.gauge(
            "ferula_otlp_delta_streams",
            "Series whose OTLP delta points are being added up.",
            metrics.streams.get(),
        );
        let name = "ferula_otlp_delta_points_dropped_total";
        out.family(name, "OTLP delta points that were not added up, by reason.", Kind::Counter);
        for (reason, counter) in [("late", &metrics.late_deltas), ("limit", &metrics.deltas_beyond_limit)] {
            out.sample(name, &[("reason", reason)], counter.get() as f64);
        }
    }
}

#[cfg(test)]
mod tests;
