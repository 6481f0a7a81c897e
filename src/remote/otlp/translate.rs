//! From a request to samples in an open batch.
//!
//! What is wrong with one metric does not keep the others from being looked at, so that whoever sent them reads of
//! everything at once; the caller drops the batch if anything was wrong.
//!
//! Compat: prometheus `storage/remote/otlptranslator/prometheusremotewrite`, `PrometheusConverter.FromMetrics`.

mod labels;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::time::Duration;

use config::prometheus::otlp::Otlp;
use foldhash::fast::FixedState;
use foldhash::{HashSet, HashSetExt};
use model::quote::go_quote;
use model::storage::{AppendError, Appender, Metadata, SeriesKey};
use model::wire::otlp::{
    Data, Exemplar, ExponentialPoint, Head, HistogramPoint, KeyValue, Metric, NumberPoint, Request,
    ResourceMetrics, SummaryPoint, Temporality,
};
use model::wire::parse::MetricType;
use model::{Labels, STALE_NAN, Timestamp, Value, number, quote};

use self::labels::{Family, Series, Source};
use super::names::{self, Kind, Names};
use super::{native, value};

/// The most errors that an answer lists.
const ERRORS_MAX: usize = 100;

/// The longest text of an error or a warning.
const TEXT_BYTES_MAX: usize = 4096;

/// The most warnings that are kept of a request; they are told apart by their texts.
const WARNINGS_MAX: usize = 1000;

/// The most samples that say again what a resource is.
const INFO_SAMPLES_MAX: usize = 50_000;

const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

const NS_PER_MS: i64 = 1_000_000;

/// What the translation goes by.
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the server")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'c> {
    pub(super) config: &'c Otlp,
    /// Points that count since the one before are taken as they are.
    pub(super) takes_deltas: bool,
    pub(super) type_and_unit_labels: bool,
    /// The store puts a zero where a count begins.
    pub(super) zero_at_start: bool,
    pub(super) logs_metadata: bool,
    /// How long a sample is seen.
    pub(super) lookback: Duration,
    /// The latest time that is accepted.
    pub(super) t_max: Timestamp,
}

/// Why something was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) blame: Blame,
}

/// Who can do something about it. What is greater decides of a request with several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blame {
    /// Translation and everything that has no other.
    Us,
    /// The sender, by not sending it again.
    Sender,
    /// Nobody right now: it may work later.
    Later,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, blame: Blame::Us }
    }
}

/// How a translation went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) errors: Vec<Failure>,
    /// Errors that are not in the list.
    pub(super) n_more_errors: usize,
    pub(super) warnings: BTreeSet<(Category, String)>,
    /// Hashes of the series that the store has no room for.
    pub(super) over_limit: HashSet<u64>,
    pub(super) n_without_metadata: u64,
    pub(super) n_exemplars_refused: u64,
}

/// The kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Category {
    LabelNameCollision,
    ZeroCountNonZeroSum,
}

impl Category {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::LabelNameCollision => "label_name_collision",
            Self::ZeroCountNonZeroSum => "histogram_zero_count_non_zero_sum",
        }
    }
}

impl Outcome {
    fn fail(&mut self, mut failure: Failure) {
        shorten(&mut failure.text);
        if self.errors.len() < ERRORS_MAX || failure.blame > self.blame() {
            self.errors.push(failure);
        } else {
            self.n_more_errors += 1;
        }
    }

    fn warn(&mut self, category: Category, mut text: String) {
        shorten(&mut text);
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.insert((category, text));
        }
    }

    pub(super) fn blame(&self) -> Blame {
        self.errors.iter().map(|failure| failure.blame).max().unwrap_or(Blame::Us)
    }

    /// All errors as one text.
    pub(super) fn error_text(&self) -> String {
        let mut texts: Vec<String> = self.errors.iter().map(|failure| failure.text.clone()).collect();
        if self.n_more_errors > 0 {
            texts.push(format!("{} more errors", self.n_more_errors));
        }
        texts.join("\n")
    }

    pub(super) fn warnings_by_category(&self) -> BTreeMap<Category, u64> {
        let mut counts = BTreeMap::new();
        for (category, _) in &self.warnings {
            *counts.entry(*category).or_default() += 1;
        }
        counts
    }
}

/// Names that are in a text may be as long as the request.
fn shorten(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push_str("...");
    }
}

/// Appends what `request` has to `batch`.
pub(super) fn translate(request: &Request<'_>, settings: Settings<'_>, batch: &mut dyn Appender) -> Outcome {
    let mut translation = Translation {
        settings,
        names: Names::new(settings.config),
        series: Series::new(settings),
        batch,
        keeps_exemplars: true,
        told: HashSet::new(),
        outcome: Outcome::default(),
    };
    for resource in &request.resources {
        translation.take_resource(resource);
    }
    let mut outcome = translation.outcome;
    for text in translation.series.into_collisions() {
        outcome.warn(Category::LabelNameCollision, text);
    }
    outcome
}

struct Translation<'r, 'b> {
    settings: Settings<'r>,
    names: Names,
    /// The labels of the series at hand.
    series: Series<'r>,
    batch: &'b mut dyn Appender,
    /// Until the store says otherwise.
    keeps_exemplars: bool,
    /// What has been said of resources in this request.
    told: HashSet<(Labels, Timestamp)>,
    outcome: Outcome,
}

type Taken = Result<(), Failure>;

impl<'r> Translation<'r, '_> {
    fn take_resource(&mut self, resource: &'r ResourceMetrics<'r>) {
        if let Err(failure) = self.series.enter_resource(&resource.attributes) {
            return self.outcome.fail(failure);
        }
        let mut times: Option<(u64, u64)> = None;
        for scope in &resource.scopes {
            if let Err(failure) = self.series.enter_scope(scope) {
                self.outcome.fail(failure);
                continue;
            }
            for metric in &scope.metrics {
                for time in times_of(&metric.data) {
                    let (earliest, latest) = times.unwrap_or((time, time));
                    times = Some((earliest.min(time), latest.max(time)));
                }
                if let Err(failure) = self.take_metric(metric) {
                    self.outcome.fail(failure);
                }
            }
        }
        // No point is as late as that; upstream takes it for "there is none".
        if let Some((earliest, latest)) = times.filter(|&(earliest, _)| earliest < u64::MAX)
            && let Err(failure) =
                self.tell_resource(&resource.attributes, earliest.cast_signed(), latest.cast_signed())
        {
            self.outcome.fail(failure);
        }
    }

    fn take_metric(&mut self, metric: &'r Metric<'r>) -> Taken {
        let temporality = metric.data.temporality();
        let is_valid = match temporality {
            None | Some(Temporality::Cumulative) => true,
            Some(Temporality::Delta) => self.settings.takes_deltas,
            Some(Temporality::Unspecified) => false,
        };
        if matches!(metric.data, Data::Unknown) {
            return Err(format!(
                "could not get aggregation temporality for {} as it has unsupported metric type Empty",
                metric.name
            )
            .into());
        }
        if !is_valid {
            let name = go_quote(metric.name.as_bytes());
            return Err(format!("invalid temporality and type combination for metric {name}").into());
        }
        let family = self.family(metric)?;
        if metric.data.is_empty() {
            return Err(format!("empty data points. {} is dropped", metric.name).into());
        }
        let temporality = temporality.unwrap_or_default();
        match &metric.data {
            Data::Unknown => Ok(()),
            Data::Gauge(points) => {
                points.iter().try_for_each(|point| self.take_number(&family, point, false))
            }
            Data::Sum { points, .. } => {
                points.iter().try_for_each(|point| self.take_number(&family, point, true))
            }
            Data::Histogram { points, .. } if self.settings.config.convert_histograms_to_nhcb => {
                points.iter().try_for_each(|point| self.take_custom(&family, point, temporality))
            }
            Data::Histogram { points, .. } => {
                points.iter().try_for_each(|point| self.take_classic(&family, point))
            }
            Data::Exponential { points, .. } => {
                points.iter().try_for_each(|point| self.take_exponential(&family, point, temporality))
            }
            Data::Summary(points) => points.iter().try_for_each(|point| self.take_summary(&family, point)),
        }
    }

    fn family(&self, metric: &Metric<'_>) -> Result<Family, Failure> {
        let kind = match metric.data {
            Data::Gauge(_) => Kind::Gauge,
            Data::Sum { is_monotonic: true, .. } => Kind::Counter,
            _ => Kind::Plain,
        };
        let name = self.names.metric(&metric.name, &metric.unit, kind)?;
        let unit = names::unit(&metric.unit);
        let unit_label = names::unit_label(&unit, self.names.escapes);
        let metadata = Metadata {
            kind: type_of(&metric.data),
            unit: unit.into_boxed_str(),
            help: metric.description.as_ref().into(),
        };
        Ok(Family { name, metadata, unit_label, is_gauge: kind == Kind::Gauge })
    }

    fn take_number(&mut self, family: &Family, point: &'r NumberPoint<'r>, has_exemplars: bool) -> Taken {
        self.series.begin(&point.head.attributes, family, Source::Point)?;
        self.series.set_name(&family.name, "")?;
        let v = point.value.map_or(0.0, model::wire::otlp::Number::to_f64);
        let v = if point.head.has_no_value() { STALE_NAN } else { v };
        let t = millis(point.head.time);
        let exemplars = if has_exemplars { exemplars(&point.exemplars, t)? } else { Vec::new() };
        self.append(family, &point.head, Value::Float(v), &exemplars)
    }

    fn take_classic(&mut self, family: &Family, point: &'r HistogramPoint<'r>) -> Taken {
        let head = &point.head;
        let float = |v: f64| Value::Float(if head.has_no_value() { STALE_NAN } else { v });
        self.series.begin(&head.attributes, family, Source::Point)?;
        if let Some(sum) = point.sum {
            self.series.set_name(&family.name, "_sum")?;
            self.append(family, head, float(sum), &[])?;
        }
        self.series.set_name(&family.name, "_count")?;
        self.append(family, head, float(point.count as f64), &[])?;
        let exemplars = exemplars(&point.exemplars, millis(head.time))?;
        // Both are in ascending order.
        let mut exemplars = exemplars.as_slice();
        self.series.set_name(&family.name, "_bucket")?;
        let mut cumulative = 0_u64;
        let mut bound_text = Vec::new();
        for (&bound, &count) in point.bounds.iter().zip(&point.counts) {
            cumulative = cumulative.wrapping_add(count);
            let n = exemplars
                .iter()
                .take_while(|exemplar| exemplar.v <= bound || exemplar.v.is_nan() || bound.is_nan())
                .count();
            let (inside, above) = exemplars.split_at(n);
            exemplars = above;
            bound_text.clear();
            number::append_f_into(bound, &mut bound_text);
            self.series.set(b"le", &bound_text);
            self.append(family, head, float(cumulative as f64), inside)?;
        }
        self.series.set(b"le", b"+Inf");
        self.append(family, head, float(point.count as f64), exemplars)
    }

    fn take_custom(
        &mut self,
        family: &Family,
        point: &'r HistogramPoint<'r>,
        temporality: Temporality,
    ) -> Taken {
        let made = native::of_classic(point, temporality);
        self.take_native(family, &point.head, made, &point.exemplars)
    }

    fn take_exponential(
        &mut self,
        family: &Family,
        point: &'r ExponentialPoint<'r>,
        temporality: Temporality,
    ) -> Taken {
        let made = native::of_exponential(point, temporality);
        self.take_native(family, &point.head, made, &point.exemplars)
    }

    fn take_native(
        &mut self,
        family: &Family,
        head: &'r Head<'r>,
        made: Result<native::Native, String>,
        of_point: &[Exemplar<'_>],
    ) -> Taken {
        let (histogram, warning) = made?;
        if let Some(warning) = warning {
            self.outcome.warn(Category::ZeroCountNonZeroSum, warning);
        }
        self.series.begin(&head.attributes, family, Source::Point)?;
        self.series.set_name(&family.name, "")?;
        let exemplars = exemplars(of_point, millis(head.time))?;
        self.append(family, head, Value::Histogram(&histogram), &exemplars)
    }

    fn take_summary(&mut self, family: &Family, point: &'r SummaryPoint<'r>) -> Taken {
        let head = &point.head;
        let float = |v: f64| Value::Float(if head.has_no_value() { STALE_NAN } else { v });
        self.series.begin(&head.attributes, family, Source::Point)?;
        self.series.set_name(&family.name, "_sum")?;
        self.append(family, head, float(point.sum), &[])?;
        self.series.set_name(&family.name, "_count")?;
        self.append(family, head, float(point.count as f64), &[])?;
        self.series.set_name(&family.name, "")?;
        let mut text = Vec::new();
        for &(quantile, v) in &point.quantiles {
            text.clear();
            number::append_f_into(quantile, &mut text);
            self.series.set(b"quantile", &text);
            self.append(family, head, float(v), &[])?;
        }
        Ok(())
    }

    /// Says what the resource is, for as long as its points are seen.
    fn tell_resource(&mut self, attributes: &'r [KeyValue<'r>], earliest: i64, latest: i64) -> Taken {
        let n_identifying =
            IDENTIFYING.iter().filter(|&&name| attributes.iter().any(|pair| pair.key == name)).count();
        if attributes.len() == n_identifying {
            return Ok(());
        }
        let family = Family {
            name: "target_info".to_owned(),
            metadata: Metadata { kind: MetricType::Gauge, unit: "".into(), help: "Target metadata".into() },
            unit_label: String::new(),
            is_gauge: true,
        };
        self.series.begin(attributes, &family, Source::Resource)?;
        self.series.set_name(&family.name, "")?;
        let labels = self.series.labels();
        if labels.get(b"job").is_none() && labels.get(b"instance").is_none() {
            return Ok(());
        }
        let interval =
            i64::try_from((self.settings.lookback / 2).as_nanos()).unwrap_or(i64::MAX).max(NS_PER_MS);
        let steps = std::iter::successors(Some(earliest), |at| at.checked_add(interval));
        let steps = steps.take_while(|&at| at < latest).take(INFO_SAMPLES_MAX);
        for at in steps.chain([latest]) {
            let t = at.div_euclid(NS_PER_MS);
            if self.told.insert((labels.clone(), t)) {
                self.append_labels(&labels, &family, 0, t, Value::Float(1.0), &[])?;
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        family: &Family,
        head: &Head<'_>,
        value: Value<'_>,
        exemplars: &[model::Exemplar],
    ) -> Taken {
        let labels = self.series.labels();
        // What a gauge was at its beginning is not known, and it was hardly zero.
        let has_no_zero = self.settings.zero_at_start && family.is_gauge;
        let st = if has_no_zero { 0 } else { millis(head.start) };
        self.append_labels(&labels, family, st, millis(head.time), value, exemplars)
    }

    /// Compat: prometheus `storage/remote`, `otlpInstrumentedAppender.Append`; `tsdb`, `headAppenderV2.Append`.
    fn append_labels(
        &mut self,
        labels: &Labels,
        family: &Family,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
        exemplars: &[model::Exemplar],
    ) -> Taken {
        if t > self.settings.t_max {
            let text = "out of bounds: timestamp is too far in the future".to_owned();
            return Err(Failure { text, blame: Blame::Sender });
        }
        let appended = self.batch.append_value(SeriesKey::Labels(labels), st, t, value);
        let series = match appended {
            Ok(series) => series,
            Err(AppendError::SeriesLimit) => {
                self.outcome.over_limit.insert(FixedState::default().hash_one(labels));
                return Ok(());
            }
            Err(error) => return Err(explain(error, value)),
        };
        let metadata = &family.metadata;
        let says_nothing =
            metadata.kind == MetricType::Unknown && metadata.unit.is_empty() && metadata.help.is_empty();
        self.outcome.n_without_metadata += u64::from(says_nothing);
        let is_stale = match value {
            Value::Float(v) => model::is_stale(v),
            Value::Histogram(histogram) => histogram.is_stale(),
            Value::FloatHistogram(histogram) => histogram.is_stale(),
        };
        if is_stale {
            return Ok(());
        }
        for exemplar in exemplars.iter().take_while(|_| self.keeps_exemplars) {
            match self.batch.append_exemplar(series, exemplar) {
                Err(AppendError::ExemplarsDisabled) => {
                    self.keeps_exemplars = false;
                    break;
                }
                Err(_) => self.outcome.n_exemplars_refused += 1,
                Ok(()) => {}
            }
        }
        if self.settings.logs_metadata && !says_nothing {
            self.batch.update_metadata(series, metadata).map_err(|error| explain(error, value))?;
        }
        Ok(())
    }
}

#[cold]
fn explain(error: AppendError, value: Value<'_>) -> Failure {
    let blame = match error {
        AppendError::OutOfOrder
        | AppendError::OutOfBounds
        | AppendError::Duplicate
        | AppendError::TooOld
        | AppendError::InvalidLabels
        | AppendError::SeriesLimit => Blame::Sender,
        AppendError::Poisoned => Blame::Later,
        _ => Blame::Us,
    };
    let invalid = match value {
        Value::Histogram(histogram) => histogram.validate().err(),
        Value::FloatHistogram(histogram) => histogram.validate().err(),
        Value::Float(_) => None,
    };
    let text = invalid.map_or_else(|| error.to_string(), |invalid| invalid.to_string());
    Failure { text, blame }
}

/// The times of all points, in nanoseconds.
fn times_of<'d>(data: &'d Data<'_>) -> Box<dyn Iterator<Item = u64> + 'd> {
    match data {
        Data::Unknown => Box::new(std::iter::empty()),
        Data::Gauge(points) | Data::Sum { points, .. } => {
            Box::new(points.iter().map(|point| point.head.time))
        }
        Data::Histogram { points, .. } => Box::new(points.iter().map(|point| point.head.time)),
        Data::Exponential { points, .. } => Box::new(points.iter().map(|point| point.head.time)),
        Data::Summary(points) => Box::new(points.iter().map(|point| point.head.time)),
    }
}

/// The milliseconds of a time in nanoseconds; what is past the year 2262 is before 1970, as upstream has it.
const fn millis(time: u64) -> Timestamp {
    time.cast_signed() / NS_PER_MS
}

/// What metadata says of a metric. For points that count since the one before there is no word.
fn type_of(data: &Data<'_>) -> MetricType {
    match data {
        Data::Gauge(_) => MetricType::Gauge,
        Data::Sum { temporality: Temporality::Delta, .. }
        | Data::Histogram { temporality: Temporality::Delta, .. }
        | Data::Exponential { temporality: Temporality::Delta, .. }
        | Data::Unknown => MetricType::Unknown,
        Data::Sum { is_monotonic, .. } => {
            if *is_monotonic {
                MetricType::Counter
            } else {
                MetricType::Gauge
            }
        }
        Data::Histogram { .. } | Data::Exponential { .. } => MetricType::Histogram,
        Data::Summary(_) => MetricType::Summary,
    }
}

/// One without a time of its own has that of its point.
fn exemplars(exemplars: &[Exemplar<'_>], t: Timestamp) -> Result<Vec<model::Exemplar>, Failure> {
    exemplars.iter().map(|exemplar| exemplar_of(exemplar, t)).collect()
}

fn exemplar_of(exemplar: &Exemplar<'_>, t: Timestamp) -> Result<model::Exemplar, Failure> {
    let Some(v) = exemplar.value else {
        return Err("unsupported exemplar value type: Empty".to_owned().into());
    };
    let mut pairs: Vec<(&str, std::borrow::Cow<'_, str>)> = Vec::new();
    for (name, id) in [("trace_id", &exemplar.trace_id[..]), ("span_id", &exemplar.span_id[..])] {
        if id.iter().any(|&b| b != 0) {
            pairs.push((name, quote::hex(id).into()));
        }
    }
    let n_ids = pairs.len();
    pairs.extend(exemplar.attributes.iter().map(|pair| (&*pair.key, value::text(&pair.value))));
    let n_chars: usize = pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if n_chars > model::exemplar::LABEL_CHARS_MAX {
        pairs.truncate(n_ids);
    }
    let own_t = exemplar.time.cast_signed().div_euclid(NS_PER_MS);
    Ok(model::Exemplar {
        labels: Labels::from_pairs(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))),
        v: v.to_f64(),
        t: if own_t == 0 { t } else { own_t },
        has_own_t: own_t != 0,
    })
}
