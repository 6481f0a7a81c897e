//! The parser of protobuf bodies: a stream of `MetricFamily` messages, each behind its length.
//!
//! A [`Parser`] walks one body and says family by family what upstream says: help, unit if there is one, type, then
//! the samples of each metric in turn. Strings are borrowed from the body; a metric's numbers are read into memory
//! that the next metric uses again. Labels are decoded on demand only: [`Parser::label_bytes`] and
//! [`Parser::place`] tell samples apart without.
//!
//! Where upstream stumbles, this does not: an untyped metric without a value is 0, not what the metric before it
//! was; all exemplars of all native histograms of a family are given, not those of the first alone; a histogram that
//! follows one of another kind is taken as far as it goes, where upstream has nothing and fails the scrape; and
//! spans that do not match their buckets are refused in every metric of a family.
//!
//! Compat: prometheus `model/textparse`, `ProtobufParser`, and `prompb/io/prometheus/client`,
//! `MetricStreamingDecoder` (3.14).

pub mod cursor;
mod message;
pub mod put;

use std::borrow::Cow;

use self::cursor::{Bad, Cursor};
use self::message::{Exemplar, Family, Metric, Pair, Side, read_pair};
use super::nhcb::Classic;
use super::parse::{Entry, MetricType, ParseError};
use super::{HistogramOptions, Native};
use crate::histogram::{BucketCount, Buckets, CounterResetHint, Span};
use crate::labels::METRIC_NAME;
use crate::{Labels, LabelsBuilder, Timestamp, number};

/// One piece of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// Help, unit or type of a family, never a series.
    Said(Entry<'a>),
    Float(f64),
    /// A histogram, which lies in [`Parser::native`].
    Histogram,
}

/// What tells the samples of a metric apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub part: u8,
    /// The bits of `le` or `quantile`.
    pub bound: u64,
}

/// An exemplar as exposed.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarOf<'p, 'a> {
    pairs: &'p [Pair<'a>],
    pub t: Option<Timestamp>,
    pub v: f64,
}

impl ExemplarOf<'_, '_> {
    /// The labels, those with empty values left out.
    pub fn labels(&self) -> Labels {
        Labels::from_pairs(self.pairs.iter().copied())
    }
}

/// A walk over one body.
#[derive(Debug)]
pub struct Parser<'a> {
    rest: &'a [u8],
    /// The length of the body.
    n_bytes: usize,
    options: HistogramOptions,
    type_and_unit_labels: bool,
    state: State,
    family: Family<'a>,
    kind: MetricType,
    /// The metrics of the family that have been begun, and those of the body.
    n_begun: usize,
    n_metrics: u64,
    metric: Metric<'a>,
    part: Part,
    /// The metric before was a classic histogram only, after which upstream sees none that is native.
    follows_classic: bool,
    classic: Classic,
    native: Native,
}

/// What was given last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of a family.
    Between,
    Help,
    Unit,
    Type,
    Sample,
    Done,
}

/// Which sample of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The only one.
    Value,
    Count,
    Sum,
    /// A quantile or bucket by its index; a bucket behind the last is that of +Inf.
    At(usize),
    /// The native histogram as exposed.
    Native,
    /// The native histogram made of the classic one.
    Converted,
}

impl<'a> Parser<'a> {
    pub fn new(body: &'a [u8], options: HistogramOptions) -> Self {
        Self {
            rest: body,
            n_bytes: body.len(),
            options,
            type_and_unit_labels: false,
            state: State::Between,
            family: Family::default(),
            kind: MetricType::Unknown,
            n_begun: 0,
            n_metrics: 0,
            metric: Metric::default(),
            part: Part::Value,
            follows_classic: false,
            classic: Classic::default(),
            native: Native::default(),
        }
    }

    /// Adds type and unit of the family as labels, in place of what the target sent under their names.
    #[must_use]
    pub fn with_type_and_unit_labels(mut self, wanted: bool) -> Self {
        self.type_and_unit_labels = wanted;
        self
    }

    /// The next item, or `None` at the end of a valid body. After an error there is nothing more.
    ///
    /// # Errors
    /// The body is not valid; the text is upstream's.
    #[expect(clippy::should_implement_trait, reason = "a parser is asked for more than its items")]
    pub fn next(&mut self) -> Option<Result<Item<'a>, ParseError>> {
        let item = self.advance().map_err(|message| {
            self.state = State::Done;
            ParseError { offset: self.n_bytes - self.rest.len(), message }
        });
        item.transpose()
    }

    fn advance(&mut self) -> Result<Option<Item<'a>>, String> {
        let family = self.family.name;
        match self.state {
            State::Done => return Ok(None),
            State::Between => return self.begin_family(),
            State::Help if !self.family.unit.is_empty() => {
                self.state = State::Unit;
                return Ok(Some(Item::Said(Entry::Unit { family, unit: self.family.unit })));
            }
            State::Help | State::Unit => {
                self.state = State::Type;
                return Ok(Some(Item::Said(Entry::Type { family, kind: self.kind })));
            }
            State::Type => {
                self.state = State::Sample;
                self.part = self.first_part();
            }
            State::Sample => {
                if let Some(part) = self.next_part() {
                    self.part = part;
                } else if self.begin_metric()? {
                    self.part = self.first_part();
                } else {
                    self.state = State::Between;
                    return self.begin_family();
                }
            }
        }
        self.item().map(Some)
    }

    /// Goes on to the next family that has a metric.
    fn begin_family(&mut self) -> Result<Option<Item<'a>>, String> {
        loop {
            if self.rest.is_empty() {
                self.state = State::Done;
                return Ok(None);
            }
            let message = self.next_message()?;
            self.family.read(message).map_err(|bad| bad.to_string())?;
            (self.n_begun, self.follows_classic) = (0, false);
            // Set before the first metric is begun, which depends on it.
            self.kind = kind_of(self.family.kind).unwrap_or_default();
            if self.begin_metric()? {
                break;
            }
        }
        let name = self.family.name;
        if name.is_empty() || std::str::from_utf8(name).is_err() {
            return Err(format!("invalid metric name: {}", String::from_utf8_lossy(name)));
        }
        let (shown, help) = (|| crate::quote::go_quote(name), self.family.help);
        if std::str::from_utf8(help).is_err() {
            return Err(format!("invalid help for metric {}: {}", shown(), String::from_utf8_lossy(help)));
        }
        if kind_of(self.family.kind).is_none() {
            return Err(format!("unknown metric type for metric {}: {}", shown(), self.family.kind));
        }
        self.state = State::Help;
        Ok(Some(Item::Said(Entry::Help { family: name, text: Cow::Borrowed(help) })))
    }

    /// Cuts the next family out of the stream.
    fn next_message(&mut self) -> Result<&'a [u8], String> {
        let mut cursor = Cursor::new(self.rest);
        let invalid = || "clientpb: invalid varint encountered".to_owned();
        let length = cursor.varint().map_err(|_| invalid())?;
        let head = self.rest.len() - cursor.len();
        // Five bytes, as many as 32 bits need.
        if head > 5 {
            return Err(invalid());
        }
        let end = usize::try_from(length).ok().and_then(|length| head.checked_add(length));
        let whole = end.and_then(|end| self.rest.split_at_checked(end)).ok_or_else(|| {
            format!(
                "clientpb: insufficient length of buffer, expected at least {} bytes, got {} bytes",
                length.saturating_add(head as u64),
                self.rest.len()
            )
        });
        let (message, rest) = whole?;
        self.rest = rest;
        Ok(&message[head..])
    }

    /// Reads the next metric of the family; false if there is none.
    fn begin_metric(&mut self) -> Result<bool, String> {
        let Some(message) = self.family.metrics.get(self.n_begun) else { return Ok(false) };
        if self.n_begun > 0 && self.has_buckets() {
            self.follows_classic = !self.has_native() && !self.options.convert;
        }
        self.n_begun += 1;
        self.n_metrics += 1;
        self.metric.read(message).map_err(|bad: Bad| bad.to_string())?;
        Ok(true)
    }

    /// Whether the family's metrics are histograms.
    const fn has_buckets(&self) -> bool {
        matches!(self.kind, MetricType::Histogram | MetricType::GaugeHistogram)
    }

    /// Whether the metric has a native part that is wanted.
    fn has_native(&self) -> bool {
        self.options.native && self.metric.histogram.is_native()
    }

    // === The samples of a metric ===

    fn first_part(&self) -> Part {
        match self.kind {
            MetricType::Summary => Part::Count,
            _ if !self.has_buckets() => Part::Value,
            _ if self.has_native() && !self.follows_classic => Part::Native,
            _ if !self.has_native() && self.options.convert && !self.options.classic_too => Part::Converted,
            _ => Part::Count,
        }
    }

    fn next_part(&self) -> Option<Part> {
        let has_classic = self.options.classic_too && !self.metric.histogram.buckets.is_empty();
        match self.part {
            Part::Value | Part::Converted => None,
            Part::Native => has_classic.then_some(Part::Count),
            Part::Count => Some(Part::Sum),
            Part::Sum if self.has_buckets() => Some(Part::At(0)),
            Part::Sum => (!self.metric.summary.quantiles.is_empty()).then_some(Part::At(0)),
            Part::At(i) if self.has_buckets() => {
                // The bucket of +Inf ends them, wherever it is.
                let bucket = self.metric.histogram.buckets.get(i);
                if bucket.is_some_and(|bucket| bucket.bound != f64::INFINITY) {
                    Some(Part::At(i + 1))
                } else {
                    (self.options.convert && !self.has_native()).then_some(Part::Converted)
                }
            }
            Part::At(i) => (i + 1 < self.metric.summary.quantiles.len()).then_some(Part::At(i + 1)),
        }
    }

    fn item(&mut self) -> Result<Item<'a>, String> {
        if self.has_buckets() && self.has_native() {
            self.check_sides()?;
        }
        match self.part {
            Part::Native => {
                self.take_native();
                Ok(Item::Histogram)
            }
            Part::Converted => {
                self.convert()?;
                Ok(Item::Histogram)
            }
            part => Ok(Item::Float(self.value(part))),
        }
    }

    fn value(&self, part: Part) -> f64 {
        let Metric { summary, histogram, .. } = &self.metric;
        match (self.kind, part) {
            (MetricType::Counter, _) => self.metric.counter,
            (MetricType::Gauge, _) => self.metric.gauge,
            (MetricType::Summary, Part::Count) => summary.count as f64,
            (MetricType::Summary, Part::Sum) => summary.sum,
            (MetricType::Summary, Part::At(i)) => summary.quantiles.get(i).map_or(0.0, |&(_, v)| v),
            (_, Part::Value) => self.metric.untyped,
            (_, Part::Sum) => histogram.sum,
            (_, Part::At(i)) => {
                histogram.buckets.get(i).map_or_else(|| histogram.total(), message::Bucket::count)
            }
            (_, _) => histogram.total(),
        }
    }

    /// Compat: prometheus `model/textparse`, `checkNativeHistogramConsistency`.
    fn check_sides(&self) -> Result<(), String> {
        let histogram = &self.metric.histogram;
        for (name, side) in [("positive", &histogram.positive), ("negative", &histogram.negative)] {
            let wanted = side.spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
            let found = if histogram.is_float() { side.counts.len() } else { side.deltas.len() };
            if wanted != found as u64 {
                let family = crate::quote::go_quote(self.family.name);
                return Err(format!(
                    "histogram {family}: {name} side: spans require {wanted} buckets, have {found}"
                ));
            }
        }
        Ok(())
    }

    fn take_native(&mut self) {
        let from = &self.metric.histogram;
        let hint = self.hint();
        self.native.is_float = from.is_float();
        if self.native.is_float {
            let to = &mut self.native.float;
            to.clear_buckets();
            (to.count, to.zero_count) = (from.count_float, from.zero_count_float);
            fill(to, from, hint, |side| &side.counts, |count, _| count);
        } else {
            let to = &mut self.native.int;
            to.clear_buckets();
            (to.count, to.zero_count) = (from.count, from.zero_count);
            fill(to, from, hint, |side| &side.deltas, i64::wrapping_sub);
        }
    }

    fn convert(&mut self) -> Result<(), String> {
        let from = &self.metric.histogram;
        self.classic.clear();
        self.classic.set_count(from.total());
        self.classic.set_sum(from.sum);
        for bucket in &from.buckets {
            self.classic.set_bucket(bucket.bound, bucket.count());
        }
        let hint = self.hint();
        self.classic.convert_into(&mut self.native).map_err(|error| error.to_string())?;
        self.native.int.counter_reset_hint = hint;
        self.native.float.counter_reset_hint = hint;
        Ok(())
    }

    fn hint(&self) -> CounterResetHint {
        if self.kind == MetricType::GaugeHistogram {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
        }
    }

    // === What can be asked of the newest sample ===

    /// The histogram of the newest item, if that was one. The caller may change it and take it.
    pub fn native(&mut self) -> &mut Native {
        &mut self.native
    }

    /// The name of the family.
    pub fn family(&self) -> &'a [u8] {
        self.family.name
    }

    pub fn kind(&self) -> MetricType {
        self.kind
    }

    pub fn unit(&self) -> &'a [u8] {
        self.family.unit
    }

    /// Which metric of the body it is, from 1.
    pub fn metric_number(&self) -> u64 {
        self.n_metrics
    }

    /// The time of the sample; 0 stands for none.
    pub fn t(&self) -> Option<Timestamp> {
        Some(self.metric.t).filter(|&t| t != 0)
    }

    /// The metric's labels as they are written: equal bytes are equal labels.
    pub fn label_bytes(&self) -> &[u8] {
        self.metric.label_bytes()
    }

    /// What tells the sample from the others of its metric.
    pub fn place(&self) -> Place {
        let (part, bound) = match self.part {
            Part::Value => (0, 0),
            Part::Count => (1, 0),
            Part::Sum => (2, 0),
            Part::At(i) if self.has_buckets() => (3, self.bound(i).to_bits()),
            Part::At(i) => (4, self.bound(i).to_bits()),
            // Equal labels: the two never stand for the same metric at a time.
            Part::Native | Part::Converted => (5, 0),
        };
        Place { part, bound }
    }

    /// Since when the sample counts, in ms; 0 if its metric does not say so.
    ///
    /// Compat: prometheus `model/textparse`, `ProtobufParser.StartTimestamp`.
    pub fn start_time(&self) -> Timestamp {
        let start = match self.kind {
            MetricType::Counter => self.metric.counter_start,
            MetricType::Summary => self.metric.summary.start,
            MetricType::Histogram | MetricType::GaugeHistogram => self.metric.histogram.start,
            _ => None,
        };
        start.map_or(0, message::Time::millis)
    }

    /// The exemplars of the sample. A histogram's without a time are left out.
    pub fn exemplars(&self) -> impl Iterator<Item = ExemplarOf<'_, 'a>> {
        let Metric { counter_exemplar, counter_pairs, histogram, .. } = &self.metric;
        let (mut one, mut listed, mut in_buckets) = (None, [].as_slice(), [].as_slice());
        let mut pairs = histogram.pairs.as_slice();
        match (self.kind, self.part) {
            (MetricType::Counter, _) => {
                one = counter_exemplar.as_ref();
                pairs = counter_pairs;
            }
            (MetricType::Histogram | MetricType::GaugeHistogram, Part::At(i)) => {
                one = histogram.buckets.get(i).and_then(|bucket| bucket.exemplar.as_ref());
            }
            (_, Part::Native | Part::Converted) => {
                listed = histogram.exemplars.as_slice();
                if listed.is_empty() {
                    in_buckets = histogram.buckets.as_slice();
                }
            }
            _ => {}
        }
        let of_histogram = listed.iter().chain(in_buckets.iter().filter_map(|b| b.exemplar.as_ref()));
        let all = one.into_iter().chain(of_histogram.filter(|exemplar| exemplar.t.is_some()));
        all.map(move |exemplar: &Exemplar| ExemplarOf {
            pairs: pairs.get(exemplar.labels.clone()).unwrap_or_default(),
            t: exemplar.t.map(message::Time::millis),
            v: exemplar.v,
        })
    }

    /// Decodes the name and the labels of the newest sample into `out`, which is cleared first; names with
    /// an empty value are dropped with all other values they have.
    ///
    /// # Errors
    /// A label is not valid or a name occurs twice with values.
    ///
    /// Compat: prometheus `model/textparse`, `ProtobufParser.Labels`; the refusal of duplicates is that of `tsdb`,
    /// `Head.getOrCreate`, what an empty value does is `labels.Builder.Reset`.
    pub fn labels_into(&self, out: &mut LabelsBuilder) -> Result<(), ParseError> {
        out.clear();
        let mut empty = Vec::new();
        let said = self.type_and_unit_labels.then_some((self.kind, self.family.unit));
        for (name, value) in self.pairs_of(said) {
            let (name, value) = (name?, value);
            if value.is_empty() {
                out.remove(name);
                empty.push(name);
            } else if !empty.contains(&name) {
                if out.get(name).is_some() {
                    let name = String::from_utf8_lossy(name);
                    return Err(self.error(format!("label name \"{name}\" is not unique: invalid sample")));
                }
                out.set(name, &value);
            }
        }
        Ok(())
    }

    /// Name, type, unit, labels and bound of the newest sample.
    fn pairs_of(
        &self,
        said: Option<(MetricType, &'a [u8])>,
    ) -> impl Iterator<Item = (Result<&'a [u8], ParseError>, Cow<'a, [u8]>)> {
        let name = [(Ok(METRIC_NAME), self.name())];
        let said = super::parse::type_and_unit(said);
        let overruled: Vec<&[u8]> = said.iter().map(|(name, _)| *name).collect();
        let is_enabled = !overruled.is_empty() || self.type_and_unit_labels;
        let labels = self.metric.labels.iter().filter_map(move |&label| match self.checked_pair(label) {
            Ok((name, _)) if overruled.contains(&name) || (is_enabled && name == METRIC_NAME) => None,
            Ok((name, value)) => Some((Ok(name), Cow::Borrowed(value))),
            Err(error) => Some((Err(error), Cow::Borrowed(&b""[..]))),
        });
        let bound = match self.part {
            Part::At(i) => {
                let name: &[u8] = if self.has_buckets() { b"le" } else { b"quantile" };
                let mut text = Vec::new();
                number::append_openmetrics_into(self.bound(i), &mut text);
                Some((Ok(name), Cow::Owned(text)))
            }
            _ => None,
        };
        let said = said.into_iter().map(|(name, value)| (Ok(name), Cow::Borrowed(value)));
        name.into_iter().chain(said).chain(labels).chain(bound)
    }

    /// The names of labels that the metric exposes with an empty value, which a label set cannot hold.
    pub fn empty_labels(&self) -> Vec<&'a [u8]> {
        let pairs = self.metric.labels.iter().filter_map(|label| read_pair(label).ok());
        pairs.filter(|(_, value)| value.is_empty()).map(|(name, _)| name).collect()
    }

    fn checked_pair(&self, label: &'a [u8]) -> Result<Pair<'a>, ParseError> {
        let (name, value) = read_pair(label).map_err(|bad| self.error(bad.to_string()))?;
        // An empty message is a label that says nothing, and is lost with all that have no value.
        if (name.is_empty() && !label.is_empty()) || std::str::from_utf8(name).is_err() {
            return Err(self.error(format!("invalid label name: {}", String::from_utf8_lossy(name))));
        }
        if std::str::from_utf8(value).is_err() {
            return Err(self.error(format!("invalid label value: {}", String::from_utf8_lossy(value))));
        }
        Ok((name, value))
    }

    fn error(&self, message: String) -> ParseError {
        ParseError { offset: self.n_bytes - self.rest.len(), message }
    }

    fn bound(&self, i: usize) -> f64 {
        if self.has_buckets() {
            self.metric.histogram.buckets.get(i).map_or(f64::INFINITY, |bucket| bucket.bound)
        } else {
            self.metric.summary.quantiles.get(i).map_or(0.0, |&(quantile, _)| quantile)
        }
    }

    /// The name of the newest sample.
    fn name(&self) -> Cow<'a, [u8]> {
        let suffix: &[u8] = match self.part {
            Part::Count => b"_count",
            Part::Sum => b"_sum",
            Part::At(_) if self.has_buckets() => b"_bucket",
            _ => return Cow::Borrowed(self.family.name),
        };
        Cow::Owned([self.family.name, suffix].concat())
    }
}

/// Takes over all but totals, in which the two kinds differ. `delta` makes a bucket of its count and that of the one
/// before.
fn fill<'m, 'a, C: Copy, B: BucketCount + 'm>(
    to: &mut Buckets<C, B>,
    from: &'m message::Histogram<'a>,
    hint: CounterResetHint,
    buckets: impl Fn(&'m Side) -> &'m Vec<B>,
    delta: impl Fn(B, B) -> B,
) {
    to.counter_reset_hint = hint;
    to.schema = from.schema;
    to.zero_threshold = from.zero_threshold;
    to.sum = from.sum;
    for (side, spans, counts) in [
        (&from.positive, &mut to.positive_spans, &mut to.positive_buckets),
        (&from.negative, &mut to.negative_spans, &mut to.negative_buckets),
    ] {
        take_filled(&side.spans, buckets(side), spans, counts, &delta);
    }
}

/// Takes over the buckets that are not empty: what [`Buckets::compact`] would leave, without memory of its own. What
/// still goes backwards without the empty ones is left to those who say so.
fn take_filled<B: BucketCount>(
    spans: &[Span],
    buckets: &[B],
    to_spans: &mut Vec<Span>,
    to_buckets: &mut Vec<B>,
    delta: impl Fn(B, B) -> B,
) {
    let mut buckets = buckets.iter();
    let (mut count, mut kept) = (B::default(), B::default());
    // Of the bucket at hand, and behind the last that was kept.
    let (mut index, mut next) = (0_i64, 0_i64);
    for span in spans {
        index += i64::from(span.offset);
        for bucket in buckets.by_ref().take(span.length as usize) {
            count = bucket.count_after(count);
            if count != B::default() {
                to_buckets.push(delta(count, kept));
                kept = count;
                match to_spans.last_mut().filter(|_| index == next) {
                    Some(span) => span.length += 1,
                    None => to_spans
                        .push(Span { offset: i32::try_from(index - next).unwrap_or(i32::MAX), length: 1 }),
                }
                next = index + 1;
            }
            index += 1;
        }
    }
}

const fn kind_of(code: i32) -> Option<MetricType> {
    Some(match code {
        0 => MetricType::Counter,
        1 => MetricType::Gauge,
        2 => MetricType::Summary,
        3 => MetricType::Unknown,
        4 => MetricType::Histogram,
        5 => MetricType::GaugeHistogram,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
