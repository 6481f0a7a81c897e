//! The receiving end of remote write: requests of both versions into batches of the store.
//!
//! A request is gone through before anything is done with it. Of version 1 all samples are taken or none; of version 2
//! whatever can be taken is, and the sender is told what was not, and why. Series without a name or with labels that
//! cannot be are skipped in version 1 without a word, as upstream does, but counted.
//!
//! Beyond upstream: start times of samples reach the store, exemplars of a series that begins with a histogram are kept,
//! and a series that is refused because there are too many does not take known ones with it. Exemplars may come alone in
//! version 2, too: so every Prometheus sends them, and so none of 3.14 takes them.
//!
//! Compat: prometheus `storage/remote/write_handler.go`, `writeHandler` and `remoteWriteAppender` (3.14).

use std::fmt::{self, Write as _};
use std::sync::Arc;

use model::exemplar::LABEL_CHARS_MAX;
use model::histogram::{self, Buckets, InvalidHistogram, Span};
use model::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT, is_legacy_label_name};
use model::number::format_g;
use model::quote::go_quote;
use model::storage::{
    AppendError, Appendable, Appender, Metadata, Queryable, SelectHints, SeriesKey, SeriesRef,
};
use model::wire::Native;
use model::wire::expose::{Counter, Expose, Exposition};
use model::wire::parse::MetricType;
use model::wire::remote_write::{Message, Outline, Pair, Request, Sample, Series, Times};
use model::{Exemplar, Labels, Matcher, SampleBatch, TimeRange, Timestamp, Value};
use web::view::remote::{WriteError, WriteReceiver, Written};

/// Samples may be ahead of our clock by so much.
/// Compat: prometheus `storage/remote`, `maxAheadTime`.
const AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// Names and values of a series may be so long together: what is longer cannot be meant.
const SERIES_BYTES_MAX: usize = 1 << 20;

/// The most text of errors that a sender gets to see.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Help and unit of a series may be so long together; longer ones are not kept.
const METADATA_BYTES_MAX: usize = 64 << 10;

/// The most text of help and units that is handed to the store for one request: many series may refer to one text.
const METADATA_BYTES_TOGETHER_MAX: usize = 64 << 20;

/// For so many samples of a request that repeat a time the value that is there is looked up.
const LOOKUPS_MAX: usize = 10;

/// What is done with requests.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Type and unit of version 2 become labels.
    pub type_and_unit_labels: bool,
    /// Metadata of version 2 is handed to the store, which keeps it then.
    pub keeps_metadata: bool,
    /// The clock, in ms since the epoch.
    pub now: fn() -> Timestamp,
}

/// See the module.
pub struct Receiver<S> {
    storage: Arc<S>,
    options: Options,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Metrics {
    invalid_labels: Counter,
    without_metadata: Counter,
}

impl<S> Expose for Receiver<S> {
    fn expose(&self, out: &mut Exposition) {
        out.counter(
            "prometheus_api_remote_write_invalid_labels_samples_total",
            "The total number of received remote write samples and histogram samples which were rejected due to invalid labels.",
            &self.metrics.invalid_labels,
        );
        out.counter(
            "prometheus_api_remote_write_without_metadata_appended_samples_total",
            "The total number of received remote write samples (and histogram samples) which were ingested without corresponding metadata.",
            &self.metrics.without_metadata,
        );
    }
}

impl<S: Appendable + Queryable> Receiver<S> {
    pub fn new(storage: Arc<S>, options: Options) -> Self {
        Self { storage, options, metrics: Metrics::default() }
    }
}

impl<S: Appendable + Queryable> WriteReceiver for Receiver<S> {
    fn write(&self, message: Message, body: &[u8]) -> Result<Written, WriteError> {
        let request = Request::read(message, body).map_err(|bad| {
            tracing::warn!(message = message.name(), error = %bad, "Error decoding remote write request");
            WriteError { is_temporary: false, text: bad.to_string(), written: Written::default() }
        })?;
        match message {
            Message::V1 => self.write_v1(&request),
            Message::V2 => self.write_v2(&request),
        }
    }
}

/// Why something of a request was not taken.
#[derive(Debug)]
enum Refused {
    /// By its time, value or contents: sending it again is no use.
    Sample(String),
    /// The series is one too many.
    SeriesLimit,
    /// The store takes no series with so many labels.
    Labels,
    /// The store failed.
    Storage(String),
}

/// A batch that is being filled, and memory that each series uses again.
struct Batch<'r> {
    appender: Box<dyn Appender + 'r>,
    queryable: &'r dyn Queryable,
    t_max: Timestamp,
    pairs: Vec<Pair<'r>>,
    refs: Vec<u32>,
    native: Native,
    written: Written,
    n_lookups: usize,
}

impl<'r> Batch<'r> {
    fn new<S: Appendable + Queryable>(receiver: &'r Receiver<S>) -> Self {
        Self {
            // Senders mix what belongs to many targets, so requests are spread over the store.
            appender: receiver.storage.appender(fastrand::u64(..)),
            queryable: &*receiver.storage,
            t_max: (receiver.options.now)().saturating_add(AHEAD_MS_MAX),
            pairs: Vec::with_capacity(64),
            refs: Vec::new(),
            native: Native::default(),
            written: Written::default(),
            n_lookups: 0,
        }
    }

    fn commit(self) -> Result<Written, WriteError> {
        let written = self.written;
        self.appender.commit().map(|()| written).map_err(|e| temporary(e.to_string()))
    }

    fn append(
        &mut self,
        to: &mut Target,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), Refused> {
        if t > self.t_max {
            return Err(Refused::Sample(too_far_ahead()));
        }
        let mut outcome = Err(AppendError::UnknownSeries);
        if let Some(series) = to.series {
            outcome = self.append_to(SeriesKey::Ref(series), st, t, value);
        }
        if outcome == Err(AppendError::UnknownSeries) {
            outcome = self.append_to(SeriesKey::Labels(&to.labels), st, t, value);
        }
        match outcome {
            Ok(series) => {
                to.series = Some(series);
                Ok(())
            }
            Err(error) => Err(self.refused(error, &to.labels, t, value)),
        }
    }

    #[inline]
    fn append_to(
        &mut self,
        key: SeriesKey<'_>,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Float(v) if st == 0 => self.appender.append(key, t, v),
            value => self.appender.append_value(key, st, t, value),
        }
    }

    #[cold]
    fn refused(&mut self, error: AppendError, labels: &Labels, t: Timestamp, value: Value<'_>) -> Refused {
        match error {
            AppendError::Duplicate => Refused::Sample(self.duplicate(labels, t, value)),
            AppendError::OutOfOrder | AppendError::OutOfBounds | AppendError::TooOld => {
                Refused::Sample(error.to_string())
            }
            AppendError::InvalidHistogram(kind) => Refused::Sample(match value {
                Value::Histogram(it) => {
                    it.validate().err().map_or_else(|| kind.to_string(), |e| e.to_string())
                }
                Value::FloatHistogram(it) => {
                    it.validate().err().map_or_else(|| kind.to_string(), |e| e.to_string())
                }
                Value::Float(_) => kind.to_string(),
            }),
            AppendError::SeriesLimit => Refused::SeriesLimit,
            AppendError::InvalidLabels => Refused::Labels,
            error => Refused::Storage(error.to_string()),
        }
    }

    /// What is said of a float whose time is taken, with the value that is there.
    ///
    /// Compat: prometheus `storage/errors.go`, `errDuplicateSampleForTimestamp`.
    fn duplicate(&mut self, labels: &Labels, t: Timestamp, value: Value<'_>) -> String {
        let bare = AppendError::Duplicate.to_string();
        let Value::Float(v) = value else { return bare };
        self.n_lookups += 1;
        if self.n_lookups > LOOKUPS_MAX {
            return bare;
        }
        let Some(existing) = existing(self.queryable, labels, t) else { return bare };
        let existing = match existing {
            Existing::Histogram => "is a histogram".to_owned(),
            Existing::Float(v) => format_g(v),
        };
        format!("{bare} {t}; overrides not allowed: existing {existing}, new value {}", format_g(v))
    }

    fn append_sample(&mut self, to: &mut Target, sample: Sample) -> Result<(), Refused> {
        self.append(to, sample.st, sample.t, Value::Float(sample.v))?;
        self.written.samples += 1;
        Ok(())
    }

    /// Appends the histogram that was read last.
    fn append_histogram(&mut self, to: &mut Target, times: Times) -> Result<(), Refused> {
        if times.t > self.t_max {
            return Err(Refused::Sample(too_far_ahead()));
        }
        let mut native = std::mem::take(&mut self.native);
        let outcome = if (histogram::SCHEMA_MAX + 1..=histogram::SCHEMA_MAX_KNOWN).contains(&native.schema())
        {
            native
                .reduce_resolution(histogram::SCHEMA_MAX)
                .map_err(|kind| Refused::Sample(irreducible(&native, kind)))
        } else {
            Ok(())
        };
        let outcome = outcome.and_then(|()| self.append(to, times.st, times.t, native.value()));
        self.native = native;
        outcome?;
        self.written.histograms += 1;
        Ok(())
    }

    /// Appends an exemplar; a store that keeps none, or knows it already, has no complaint.
    fn append_exemplar(&mut self, to: &Target, exemplar: &Exemplar) -> Result<(), AppendError> {
        if exemplar.t > self.t_max {
            return Err(AppendError::OutOfBounds);
        }
        // Senders give exemplars entries of their own, behind those of the samples or in a later request.
        let found = to.series.or_else(|| self.appender.find(&to.labels));
        let series = found.ok_or(AppendError::UnknownSeries)?;
        match self.appender.append_exemplar(series, exemplar) {
            Err(AppendError::ExemplarsDisabled) => Ok(()),
            outcome => outcome,
        }
    }
}

/// Where samples go: by labels at first, then by what the store called it.
struct Target {
    labels: Labels,
    series: Option<SeriesRef>,
}

/// What is said of a histogram that is too fine and cannot be made coarser.
///
/// Compat: prometheus `model/histogram`, `reduceResolution`.
fn irreducible(native: &Native, kind: InvalidHistogram) -> String {
    fn sides<C, B>(it: &Buckets<C, B>) -> [(&[Span], usize); 2] {
        [(&it.positive_spans, it.positive_buckets.len()), (&it.negative_spans, it.negative_buckets.len())]
    }
    let sides = if native.is_float { sides(&native.float) } else { sides(&native.int) };
    for (spans, n_buckets) in sides {
        if let Some(at) = (1..spans.len()).find(|&at| spans[at].offset < 0) {
            return format!("span number {} with offset {}: {kind}", at + 1, spans[at].offset);
        }
        if spans.iter().map(|span| u64::from(span.length)).sum::<u64>() > n_buckets as u64 {
            return format!("have {n_buckets} buckets but spans need more: {kind}");
        }
    }
    kind.to_string()
}

fn too_far_ahead() -> String {
    format!("{}: timestamp is too far in the future", AppendError::OutOfBounds)
}

fn temporary(text: String) -> WriteError {
    WriteError { is_temporary: true, text, written: Written::default() }
}

enum Existing {
    Float(f64),
    Histogram,
}

/// The sample of a series at one time.
fn existing(queryable: &dyn Queryable, labels: &Labels, t: Timestamp) -> Option<Existing> {
    let range = TimeRange::new(t, t);
    let matchers: Vec<_> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    let set = queryable.querier(range).ok()?.select(&matchers, &SelectHints::default()).ok()?;
    let series = (0..set.len()).find(|&i| set.labels(i) == *labels)?;
    let mut samples = SampleBatch::default();
    set.samples_into(series, range, &mut samples).ok()?;
    match samples.vs.first() {
        Some(&v) => Some(Existing::Float(v)),
        None => samples.histograms.first().map(|_| Existing::Histogram),
    }
}

// === labels ===

/// Why labels are none of a series.
#[derive(Debug, PartialEq, Eq)]
enum BadLabels {
    Invalid,
    Duplicate(String),
}

/// Puts labels in order and judges them; empty values are still there. `is_utf8` says whether all are, where that is known.
///
/// Their size comes first: the labels of version 2 may all refer to one text, however long that is.
///
/// Compat: prometheus `model/labels`, `Labels.IsValid` and `HasDuplicateLabelNames`.
fn judge(pairs: &mut [Pair<'_>], is_utf8: Option<bool>) -> Result<(), BadLabels> {
    let n_bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).fold(0, usize::saturating_add);
    if n_bytes > SERIES_BYTES_MAX {
        return Err(BadLabels::Invalid);
    }
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_by_key(|&(name, _)| name);
    }
    let mut has_name = false;
    for &(name, value) in &*pairs {
        let is_name = name == METRIC_NAME;
        has_name |= is_name;
        if name.is_empty() || (is_name && value.is_empty()) {
            return Err(BadLabels::Invalid);
        }
    }
    let is_utf8 = || {
        is_utf8
            .unwrap_or_else(|| pairs.iter().all(|&(name, value)| is_utf8_text(name) && is_utf8_text(value)))
    };
    if !has_name || !is_utf8() {
        return Err(BadLabels::Invalid);
    }
    match pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            Err(BadLabels::Duplicate(String::from_utf8_lossy(front(pair[0].0, 1 << 10)).into_owned()))
        }
        None => Ok(()),
    }
}

fn is_utf8_text(text: &[u8]) -> bool {
    text.is_ascii() || std::str::from_utf8(text).is_ok()
}

fn front(text: &[u8], most: usize) -> &[u8] {
    &text[..text.len().min(most)]
}

/// The labels that are left of judged ones.
fn pack(pairs: &[Pair<'_>]) -> Labels {
    Labels::from_sorted(pairs.iter().copied().filter(|(_, value)| !value.is_empty()))
}

/// Labels of whatever kind, as upstream prints them. Of a text that is longer than any complaint no more is looked at
/// than a complaint has.
///
/// Compat: prometheus `model/labels`, `Labels.String`.
struct Shown<'p, 'a>(&'p [Pair<'a>]);

impl fmt::Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (i, &(name, value)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            let (name, value) = (front(name, SHOWN_BYTES_MAX), front(value, SHOWN_BYTES_MAX));
            if is_legacy_label_name(name) {
                f.write_str(&String::from_utf8_lossy(name))?;
            } else {
                f.write_str(&go_quote(name))?;
            }
            write!(f, "={}", go_quote(value))?;
        }
        f.write_char('}')
    }
}

/// Beyond what is shown of labels, so that what is cut off shows nowhere.
const SHOWN_BYTES_MAX: usize = ERROR_BYTES_MAX + 8;

/// The front of what a text would be: it is written no further.
fn shown(it: impl fmt::Display, most: usize) -> String {
    struct Bounded {
        text: String,
        most: usize,
    }
    impl fmt::Write for Bounded {
        fn write_str(&mut self, more: &str) -> fmt::Result {
            let left = self.most - self.text.len();
            if more.len() <= left {
                self.text.push_str(more);
                return Ok(());
            }
            self.text.push_str(&more[..more.floor_char_boundary(left)]);
            Err(fmt::Error)
        }
    }
    let mut bounded = Bounded { text: String::new(), most };
    let is_whole = write!(bounded, "{it}").is_ok();
    if !is_whole {
        bounded.text.push_str("...");
    }
    bounded.text
}

/// # Errors
/// The labels are longer than any store takes, and many times so perhaps: they are not even copied.
fn exemplar_of(pairs: &[Pair<'_>], v: f64, t: Timestamp) -> Result<Exemplar, AppendError> {
    let mut n_left = LABEL_CHARS_MAX;
    for text in pairs.iter().flat_map(|&(name, value)| [name, value]) {
        // A character has four bytes at most.
        let is_short = text.len() <= 4 * LABEL_CHARS_MAX;
        let n_chars = || text.utf8_chunks().map(|it| it.valid().chars().count() + it.invalid().len()).sum();
        let left = is_short.then(n_chars).and_then(|n| n_left.checked_sub(n));
        n_left = left.ok_or(AppendError::ExemplarTooLong)?;
    }
    Ok(Exemplar { labels: Labels::from_pairs(pairs.iter().copied()), v, t, has_own_t: t != 0 })
}

// === version 1 ===

impl<S: Appendable + Queryable> Receiver<S> {
    fn write_v1(&self, request: &Request<'_>) -> Result<Written, WriteError> {
        let mut batch = Batch::new(self);
        let (mut has_warned, mut n_late_exemplars, mut n_over_limit) = (false, 0_u64, 0_u64);
        for series in request.series() {
            let outline = series.outline(&mut batch.pairs, &mut batch.refs);
            let judged = judge(&mut batch.pairs, None);
            if judged.is_err() || outline.n_labels > batch.pairs.len() {
                if !std::mem::replace(&mut has_warned, true) {
                    let labels = shown(Shown(&batch.pairs), 1 << 10);
                    tracing::warn!(series = %labels, reason = ?judged, "Invalid labels in a remote write request");
                }
                self.metrics.invalid_labels.inc();
                continue;
            }
            match batch.append_series_v1(&series, &outline, &mut n_late_exemplars) {
                Ok(()) => {}
                Err(Refused::SeriesLimit) => n_over_limit += 1,
                Err(Refused::Labels) => self.metrics.invalid_labels.inc(),
                Err(Refused::Sample(text)) => {
                    let series = shown(Shown(&batch.pairs), 1 << 10);
                    tracing::warn!(
                        error = text,
                        series,
                        "Sample refused from remote write, and the request with it"
                    );
                    return Err(WriteError { is_temporary: false, text, written: Written::default() });
                }
                Err(Refused::Storage(text)) => return Err(temporary(text)),
            }
        }
        if n_late_exemplars > 0 {
            tracing::warn!(num_dropped = n_late_exemplars, "Error on ingesting out-of-order exemplars");
        }
        let written = batch.commit()?;
        if n_over_limit > 0 {
            // All others are in the store, so nothing is to be sent again.
            let text = format!("{} for {n_over_limit} series", AppendError::SeriesLimit);
            return Err(WriteError { is_temporary: false, text, written });
        }
        Ok(written)
    }
}

impl<'r> Batch<'r> {
    fn append_series_v1(
        &mut self,
        series: &Series<'r>,
        outline: &Outline,
        n_late_exemplars: &mut u64,
    ) -> Result<(), Refused> {
        let mut target = Target { labels: pack(&self.pairs), series: None };
        if outline.n_samples == 1 {
            self.append_sample(&mut target, outline.sample)?;
        } else {
            for sample in series.samples() {
                self.append_sample(&mut target, sample)?;
            }
        }
        if outline.n_histograms > 0 {
            for histogram in series.histograms() {
                let times = histogram.read_into(&mut self.native);
                self.append_histogram(&mut target, times)?;
            }
        }
        if outline.n_exemplars > 0 {
            for bytes in series.exemplars() {
                let (v, t) = bytes.read_into(&mut self.pairs, &mut self.refs);
                let appended = exemplar_of(&self.pairs, v, t)
                    .and_then(|exemplar| self.append_exemplar(&target, &exemplar));
                match appended {
                    Ok(()) => self.written.exemplars += 1,
                    Err(AppendError::ExemplarOutOfOrder) => *n_late_exemplars += 1,
                    Err(error) => {
                        tracing::debug!(%error, series = %target.labels, "Error while adding exemplar");
                    }
                }
            }
        }
        Ok(())
    }
}

// === version 2 ===

/// What the sender is told, up to a limit.
#[derive(Debug, Default)]
struct Complaints {
    text: String,
    n: usize,
    n_left_out: usize,
}

impl Complaints {
    fn add(&mut self, complaint: impl fmt::Display) {
        self.n += 1;
        if self.is_full() {
            self.n_left_out += 1;
            return;
        }
        if self.n > 1 {
            self.text.push('\n');
        }
        self.text.push_str(&shown(complaint, ERROR_BYTES_MAX));
    }

    /// Whether texts of further complaints are not told.
    fn is_full(&self) -> bool {
        self.text.len() >= ERROR_BYTES_MAX
    }

    fn into_text(mut self) -> Option<String> {
        if self.n_left_out > 0 {
            let _ = write!(self.text, "\nand {} more", self.n_left_out);
        }
        (self.n > 0).then_some(self.text)
    }
}

/// The metadata of the series before, which that of the next mostly is.
#[derive(Debug, Default)]
struct KnownMetadata {
    of: Option<model::wire::remote_write::MetadataRefs>,
    metadata: Metadata,
}

impl<S: Appendable + Queryable> Receiver<S> {
    fn write_v2(&self, request: &Request<'_>) -> Result<Written, WriteError> {
        let mut batch = Batch::new(self);
        let mut complaints = Complaints::default();
        let mut metadata = KnownMetadata::default();
        let (mut n_without_metadata, mut n_metadata_bytes) = (0_u64, 0_usize);
        for series in request.series() {
            let outline = series.outline(&mut batch.pairs, &mut batch.refs);
            let n = (outline.n_samples + outline.n_histograms) as u64;
            let (unit, help) = match self.labels_v2(request, &outline, &mut batch, complaints.is_full()) {
                Ok(texts) => texts,
                Err(Unusable { complaint, is_counted }) => {
                    complaints.add(complaint);
                    self.metrics.invalid_labels.add(if is_counted { n } else { 0 });
                    continue;
                }
            };
            if n == 0 && outline.n_exemplars == 0 {
                complaints.add(format_args!(
                    "TimeSeries must contain at least one sample or histogram for series {}",
                    Shown(&batch.pairs)
                ));
                continue;
            }
            let before = batch.written;
            let mut target = Target { labels: pack(&batch.pairs), series: None };
            batch.append_samples_v2(&series, &outline, &mut target, &mut complaints).map_err(temporary)?;
            batch.append_exemplars_v2(request, &series, &outline, &target, &mut complaints);
            if self.options.keeps_metadata {
                let n_bytes = unit.len() + help.len();
                n_metadata_bytes = n_metadata_bytes.saturating_add(n_bytes);
                let is_kept =
                    n_bytes <= METADATA_BYTES_MAX && n_metadata_bytes <= METADATA_BYTES_TOGETHER_MAX;
                if is_kept && metadata.of != Some(outline.metadata) {
                    let text = |bytes| String::from_utf8_lossy(bytes).into();
                    metadata = KnownMetadata {
                        of: Some(outline.metadata),
                        metadata: Metadata {
                            kind: outline.metadata.kind,
                            unit: text(unit),
                            help: text(help),
                        },
                    };
                }
                let kept = target
                    .series
                    .filter(|_| is_kept)
                    .map(|series| batch.appender.update_metadata(series, &metadata.metadata));
                if !matches!(kept, Some(Ok(()))) {
                    let written = batch.written;
                    n_without_metadata +=
                        written.samples + written.histograms - before.samples - before.histograms;
                }
            }
        }
        let written = batch.commit()?;
        self.metrics.without_metadata.add(n_without_metadata);
        let n = complaints.n;
        let Some(text) = complaints.into_text() else { return Ok(written) };
        let first = shown(text.lines().next().unwrap_or_default(), 1 << 10);
        tracing::warn!(refused = n, first, "Some of a remote write request was refused");
        Err(WriteError { is_temporary: false, text, written })
    }

    /// Puts the labels of a series into the batch and judges them; returns unit and help. A complaint without a text will
    /// do where `is_full`.
    fn labels_v2<'r>(
        &self,
        request: &Request<'r>,
        outline: &Outline,
        batch: &mut Batch<'r>,
        is_full: bool,
    ) -> Result<(&'r [u8], &'r [u8]), Unusable> {
        let shown_refs = |refs: &[u32]| {
            let list: Vec<_> = refs.iter().take(64).map(ToString::to_string).collect();
            format!("[{}{}]", list.join(" "), if refs.len() > 64 { " ..." } else { "" })
        };
        let mut is_utf8 = request.resolve(&batch.refs, &mut batch.pairs).map_err(|e| Unusable {
            complaint: format!("parsing labels for series {}: {e}", shown_refs(&batch.refs)),
            is_counted: true,
        })?;
        let texts = request.metadata_texts(outline.metadata).map_err(|e| Unusable {
            complaint: format!("parsing metadata for series {}: {e}", shown_refs(&batch.refs)),
            is_counted: false,
        })?;
        let (unit, kind) = (texts.0, outline.metadata.kind);
        if self.options.type_and_unit_labels && (kind != MetricType::Unknown || !unit.is_empty()) {
            batch.pairs.retain(|&(name, _)| name != METRIC_TYPE && name != METRIC_UNIT);
            if kind != MetricType::Unknown {
                batch.pairs.push((METRIC_TYPE, kind.as_str().as_bytes()));
            }
            if !unit.is_empty() {
                batch.pairs.push((METRIC_UNIT, unit));
                is_utf8 &= request.is_utf8(outline.metadata.unit);
            }
        }
        judge(&mut batch.pairs, Some(is_utf8)).map_err(|bad| {
            if is_full {
                return Unusable { complaint: String::new(), is_counted: true };
            }
            let shown = shown(Shown(&batch.pairs), ERROR_BYTES_MAX);
            let complaint = match bad {
                BadLabels::Invalid => format!("invalid metric name or labels, got {shown}"),
                BadLabels::Duplicate(name) => {
                    format!("invalid labels for series, labels {shown}, duplicated label {name}")
                }
            };
            Unusable { complaint, is_counted: true }
        })?;
        Ok(texts)
    }
}

/// A series that cannot be.
struct Unusable {
    complaint: String,
    /// Its samples count as rejected for their labels.
    is_counted: bool,
}

impl<'r> Batch<'r> {
    /// # Errors
    /// The store failed.
    fn append_samples_v2(
        &mut self,
        series: &Series<'r>,
        outline: &Outline,
        target: &mut Target,
        complaints: &mut Complaints,
    ) -> Result<(), String> {
        let mut judge = |outcome: Result<(), Refused>, labels: &Labels| match outcome {
            Ok(()) => Ok(()),
            Err(Refused::Sample(text)) => {
                complaints.add(format_args!("{text} for series {labels}"));
                Ok(())
            }
            Err(Refused::SeriesLimit) => {
                complaints.add(format_args!("{} for series {labels}", AppendError::SeriesLimit));
                Ok(())
            }
            Err(Refused::Labels) => {
                complaints.add(format_args!("{} for series {labels}", AppendError::InvalidLabels));
                Ok(())
            }
            Err(Refused::Storage(text)) => Err(text),
        };
        if outline.n_samples == 1 {
            let outcome = self.append_sample(target, outline.sample);
            judge(outcome, &target.labels)?;
        } else {
            for sample in series.samples() {
                let outcome = self.append_sample(target, sample);
                judge(outcome, &target.labels)?;
            }
        }
        if outline.n_histograms > 0 {
            for histogram in series.histograms() {
                let times = histogram.read_into(&mut self.native);
                let outcome = self.append_histogram(target, times);
                judge(outcome, &target.labels)?;
            }
        }
        Ok(())
    }

    fn append_exemplars_v2(
        &mut self,
        request: &Request<'r>,
        series: &Series<'r>,
        outline: &Outline,
        target: &Target,
        complaints: &mut Complaints,
    ) {
        if outline.n_exemplars == 0 {
            return;
        }
        for bytes in series.exemplars() {
            let (v, t) = bytes.read_into(&mut self.pairs, &mut self.refs);
            if let Err(e) = request.resolve(&self.refs, &mut self.pairs) {
                complaints.add(format_args!("parsing exemplar for series {}: {e}", target.labels));
                continue;
            }
            let appended =
                exemplar_of(&self.pairs, v, t).and_then(|exemplar| self.append_exemplar(target, &exemplar));
            match appended {
                Ok(()) => self.written.exemplars += 1,
                Err(error @ AppendError::ExemplarOutOfOrder) => {
                    complaints.add(format_args!("{error} for series {}", target.labels));
                }
                // As upstream: the samples are there, so the request is not failed for it.
                Err(error) => {
                    tracing::debug!(%error, series = %target.labels, "failed to ingest exemplar");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
