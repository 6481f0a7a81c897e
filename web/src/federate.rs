//! `/federate`: the newest sample of each series that was asked for, as a target would expose it.
//!
//! Compat: prometheus `web/federate.go` (3.14).

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use model::histogram::CounterResetHint;
use model::labels::METRIC_NAME;
use model::storage::{Queryable, SelectHints};
use model::wire::encode::{
    self, Classic, Escaping, Family, Format, Kind, Metric, Native, Value, content_type, negotiate,
    write_family,
};
use model::wire::expose::{Counter, Expose, Exposition};
use model::{AnyHistogram, FloatHistogram, Labels, Matcher, SampleBatch, TimeRange, Timestamp, is_stale};

use crate::api::{Api, Shared};
use crate::compression::Encoding;
use crate::params::Params;
use crate::remote::read::refusal;
use crate::routes::text_error;
use crate::stream::{self, Source};
use crate::view::remote::ReadError;

const TOO_MANY: &str = "too many federation requests are being answered at the moment\n";

/// What is counted of all federations.
#[derive(Debug, Default)]
pub struct Metrics {
    errors: Counter,
    /// The store warns of nothing, so this stays what it is.
    warnings: Counter,
}

impl Expose for Metrics {
    fn expose(&self, out: &mut Exposition) {
        out.counter(
            "prometheus_web_federation_errors_total",
            "Total number of errors that occurred while sending federation responses.",
            &self.errors,
        );
        out.counter(
            "prometheus_web_federation_warnings_total",
            "Total number of warnings that occurred while sending federation responses.",
            &self.warnings,
        );
    }
}

pub(crate) async fn federate(State(api): Shared, headers: HeaderMap, params: Params) -> Response {
    let selectors: Result<Vec<_>, _> = params.all("match[]").map(promql::parse::parse_selector).collect();
    let selectors = match selectors {
        Ok(selectors) => selectors,
        Err(e) => return refusal(ReadError::Request(e.to_string())),
    };
    let accept = headers.get(header::ACCEPT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let (format, escaping) = negotiate(accept.as_deref().unwrap_or_default());
    let now = (api.options.now)();
    let lookback = i64::try_from(api.engine.options().lookback_delta.as_millis()).unwrap_or(i64::MAX);
    let range = TimeRange::new(now.saturating_sub(lookback), now);
    let external = with_instance(&api.remote.external_labels.external_labels());

    let acquired = Arc::clone(&api.remote.federations).acquire_owned();
    let Ok(turn) = tokio::time::timeout(api.engine.options().timeout, acquired).await else {
        return text_error(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY);
    };
    let turn = turn.expect("the semaphore is never closed");
    let made = tokio::task::spawn_blocking(move || {
        // Given back when the thread is free, even if nobody waits for the answer any more.
        let _turn = turn;
        let unfinished = Unfinished(Some(Arc::clone(&api)));
        let found =
            newest(api.storage.as_ref(), range, &selectors).map_err(|e| ReadError::Storage(e.to_string()))?;
        let families = Families::new(found, external, format, escaping, unfinished);
        Ok(stream::body(families, Encoding::Identity, &api.remote.federations))
    })
    .await;
    match made.unwrap_or_else(|_| Err(ReadError::Storage("the answer ended early".to_owned()))) {
        Ok(body) => {
            let content_type = HeaderValue::try_from(content_type(format, escaping))
                .unwrap_or_else(|_| HeaderValue::from_static("text/plain"));
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Err(e) => refusal(e),
    }
}

/// Counts an answer that does not come to its end, for whatever reason.
struct Unfinished(Option<Arc<Api>>);

impl Unfinished {
    fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(api) = &self.0 {
            api.remote.federation.errors.inc();
        }
    }
}

/// The external labels and an `instance`, so that nobody takes us for the instance of what we tell.
fn with_instance(external: &Labels) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs: Vec<_> = external.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    if external.get(b"instance").is_none() {
        pairs.push((b"instance".to_vec(), Vec::new()));
        pairs.sort();
    }
    pairs
}

/// One series and its newest sample.
struct Newest {
    labels: Labels,
    t: Timestamp,
    value: Sampled,
}

enum Sampled {
    Float(f64),
    Histogram(Box<FloatHistogram>),
}

/// What of a sample decides whether it goes into the family of the one before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Float,
    Histogram { is_gauge: bool },
}

impl Sampled {
    fn shape(&self) -> Shape {
        match self {
            Self::Float(_) => Shape::Float,
            Self::Histogram(it) => {
                Shape::Histogram { is_gauge: it.counter_reset_hint == CounterResetHint::Gauge }
            }
        }
    }
}

/// The newest samples of all that any of the selectors chooses, by name; those of series that ended are left out.
fn newest(
    storage: &dyn Queryable,
    range: TimeRange,
    selectors: &[Vec<Matcher>],
) -> Result<Vec<Newest>, model::storage::Error> {
    let querier = storage.querier(range)?;
    let hints = SelectHints { range: Some(range), sorted: true, ..SelectHints::default() };
    let mut found = Vec::new();
    let mut samples = SampleBatch::default();
    for matchers in selectors {
        let set = querier.select(matchers, &hints)?;
        for i in 0..set.len() {
            samples.clear();
            set.last_into(i, range, &mut samples)?;
            if let Some((t, value)) = last_of(&mut samples) {
                found.push(Newest { labels: set.labels(i), t, value });
            }
        }
    }
    found.sort_by(|a, b| (a.labels.metric_name(), &a.labels).cmp(&(b.labels.metric_name(), &b.labels)));
    found.dedup_by(|a, b| a.labels == b.labels);
    Ok(found)
}

/// The newest sample, unless it says that there is none.
fn last_of(samples: &mut SampleBatch) -> Option<(Timestamp, Sampled)> {
    let histogram = samples.histograms.pop();
    match (samples.ts.last(), samples.vs.last(), histogram) {
        (Some(&t), Some(&v), histogram) if histogram.as_ref().is_none_or(|it| it.t < t) => {
            (!is_stale(v)).then_some((t, Sampled::Float(v)))
        }
        (_, _, Some(sample)) if !sample.histogram.is_stale() => {
            let histogram = match sample.histogram {
                AnyHistogram::Int(it) => Box::new(it.into_float()),
                AnyHistogram::Float(it) => it,
            };
            Some((sample.t, Sampled::Histogram(histogram)))
        }
        _ => None,
    }
}

/// What was found, a family at a time; each is given up as soon as it is written.
struct Families {
    rest: std::vec::IntoIter<Newest>,
    external: Vec<(Vec<u8>, Vec<u8>)>,
    format: Format,
    escaping: Escaping,
    unfinished: Unfinished,
}

impl Families {
    fn new(
        mut found: Vec<Newest>,
        external: Vec<(Vec<u8>, Vec<u8>)>,
        format: Format,
        escaping: Escaping,
        unfinished: Unfinished,
    ) -> Self {
        let n_nameless = found.iter().filter(|sample| sample.labels.metric_name().is_empty()).count();
        if n_nameless > 0 {
            tracing::warn!(series = n_nameless, "Ignoring nameless metrics during federation");
        }
        found.retain(|sample| {
            let is_writable = match &sample.value {
                Sampled::Float(_) => true,
                Sampled::Histogram(it) => it.uses_custom_buckets() || format.is_protobuf(),
            };
            is_writable && !sample.labels.metric_name().is_empty()
        });
        Self { rest: found.into_iter(), external, format, escaping, unfinished }
    }
}

impl Source for Families {
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        let is_one = |a: &Newest, b: &Newest| {
            a.labels.metric_name() == b.labels.metric_name() && a.value.shape() == b.value.shape()
        };
        while out.len() < until {
            let Some(family) = self.rest.as_slice().chunk_by(is_one).next() else {
                self.unfinished.finish();
                return false;
            };
            let kind = match family[0].value.shape() {
                Shape::Float => Kind::Untyped,
                Shape::Histogram { is_gauge: false } => Kind::Histogram,
                Shape::Histogram { is_gauge: true } => Kind::GaugeHistogram,
            };
            let n = family.len();
            let family = Family {
                name: Cow::Borrowed(family[0].labels.metric_name()),
                help: None,
                kind,
                metrics: family.iter().map(|sample| metric(sample, &self.external)).collect(),
            };
            write_family(out, &family, self.format, self.escaping);
            self.rest.by_ref().take(n).for_each(drop);
        }
        true
    }
}

fn metric<'a>(sample: &'a Newest, external: &'a [(Vec<u8>, Vec<u8>)]) -> Metric<'a> {
    let own = sample.labels.iter().filter(|&(name, _)| name != METRIC_NAME);
    let added = external.iter().filter(|(name, _)| sample.labels.get(name).is_none());
    let added = added.map(|(name, value)| (&name[..], &value[..]));
    let pair = |(name, value)| -> encode::Label<'a> { (Cow::Borrowed(name), Cow::Borrowed(value)) };
    let value = match &sample.value {
        Sampled::Float(v) => Value::Number(*v),
        Sampled::Histogram(it) if it.uses_custom_buckets() => Value::Classic(Classic::from_custom(it)),
        Sampled::Histogram(it) => Value::Native(Native::Float(Cow::Borrowed(&**it))),
    };
    Metric { labels: own.chain(added).map(pair).collect(), value, timestamp: Some(sample.t), created: None }
}
