//! From a body to samples in an open batch: parse, look up, append. Synchronous from here on.
//!
//! The warm path (every line is in the cache) allocates nothing and touches no label. The cold path parses
//! the labels of a line, merges the target's, relabels and verifies, once per line and target.
//! Opens and commits nothing: the batch belongs to the caller, who drops it when the scrape fails.
//!
//! Compat: prometheus `scrape/scrape_append_v2.go`, `scrapeLoopAppenderV2.append`, and `scrape/scrape.go`,
//! `mutateSampleLabels`.

mod exposed;
mod resolution;

use std::sync::Arc;

use config::prometheus::ScrapeConfig;
use config::relabel;
use model::labels::METRIC_NAME;
use model::storage::{AppendError, Appender, SeriesKey, SeriesRef};
use model::wire::nhcb::{self, Converter};
use model::wire::parse::{Entry, MetricType, Parser, SeriesLine};
use model::wire::{Format, HistogramOptions, protobuf};
use model::{Exemplar, Labels, LabelsBuilder, STALE_NAN, Timestamp, Value, is_stale};

use self::exposed::{Converted, Exposed, Line, Message, Sampled};
use self::resolution::Resolution;
use super::cache::{Cache, Hasher, Key, Lookup};
use super::limits;
use super::metadata::{Current, Memory};

/// What a job and a target prescribe for their samples.
#[derive(Clone, Debug)]
pub struct Rules {
    pub job: Arc<ScrapeConfig>,
    /// The target's own labels, which every series gets.
    pub target: Labels,
    /// The target's own, which may differ from the job's.
    pub histograms: HistogramOptions,
    pub extras: Extras,
}

/// What is taken from bodies beside samples and exemplars: as the store keeps it, since both cost something.
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each of a feature of its own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Type, help and unit of families.
    pub metadata: bool,
    /// Since when series count, where targets say so. The `_created` lines of OpenMetrics are no series then.
    pub start_times: bool,
    /// The same of cumulative series where targets do not say it, made up.
    pub made_up_starts: bool,
    /// Type and unit of families as labels.
    pub type_and_unit_labels: bool,
}

/// What a pass over a body counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples in the body.
    pub scraped: u64,
    /// Samples that relabelling kept, refused ones among them.
    pub kept: u64,
    /// Series that the last scrape did not have.
    pub new: u64,
    pub out_of_order: u64,
    pub duplicate: u64,
    pub out_of_bounds: u64,
    /// Of new series that the store has no room for.
    pub beyond_series_limit: u64,
    pub exemplar_out_of_order: u64,
    /// Classic histograms that were to be converted and make no sense; their series are lost unless they are
    /// taken as well.
    pub unconverted: u64,
    /// Pieces of metadata.
    pub said: usize,
    /// The sum that [`Memory::finish`] wants.
    pub metadata: u64,
}

/// Why a scrape fails as a whole; displays what the user reads as the target's error.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Parse(String),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    #[error("{0}")]
    LabelLimit(String),
    #[error("{0}")]
    Labels(String),
    #[error("{0}")]
    Histogram(String),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A body and when it was scraped.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    pub bytes: &'a [u8],
    pub format: Format,
    /// The time of samples that have none of their own.
    pub t: Timestamp,
}

/// Appends the samples of `body` to `batch` and marks the series that are gone since the last pass.
///
/// `counts` holds what was counted also when the pass fails; then the caller drops the batch and calls
/// [`mark_all_stale`] with a new one.
///
/// # Errors
/// The body cannot be parsed, a limit is exceeded or the store refuses more than single samples.
pub fn ingest<'a, A: Appender + ?Sized>(
    body: Body<'a>,
    rules: &'a Rules,
    hasher: &Hasher,
    cache: &'a mut Cache,
    memory: &'a Memory,
    batch: &'a mut A,
    counts: &'a mut Counts,
) -> Result<(), Error> {
    cache.begin();
    let mut pass = Pass {
        rules,
        hasher,
        cache,
        memory,
        batch,
        counts,
        t: body.t,
        t_max: body.t.saturating_add(limits::AHEAD_MS_MAX),
        n_left: match rules.job.limits.samples {
            0 => u64::MAX,
            limit => limit,
        },
        exceeded: false,
        resolution: Resolution::new(
            rules.job.native_histogram_bucket_limit,
            rules.job.native_histogram_min_bucket_factor,
        ),
        exceeded_buckets: false,
        keeps_exemplars: true,
        exemplars: Vec::new(),
        family: None,
        labels: LabelsBuilder::default(),
    };
    match body.format.text() {
        None => pass.take_protobuf(body.bytes)?,
        Some(format) => {
            let mut parser =
                Parser::new(body.bytes, format).with_type_and_unit_labels(rules.extras.type_and_unit_labels);
            if rules.extras.start_times {
                parser = parser.with_start_times();
            }
            if rules.histograms.convert {
                pass.take_converted(Converter::new(parser, rules.histograms.classic_too))?;
            } else {
                pass.take_text(parser)?;
            }
        }
    }
    if pass.exceeded {
        return Err(Error::SampleLimit);
    }
    if pass.exceeded_buckets {
        return Err(Error::BucketLimit);
    }
    let (cache, batch) = (pass.cache, pass.batch);
    let mut refused = Ok(());
    cache.finish(|series| mark_stale(batch, series, body.t, &mut refused));
    Ok(refused?)
}

/// Marks every series of the last pass as ended, because there is no next one: the target failed or is gone.
///
/// # Errors
/// The store refuses more than single samples.
pub fn mark_all_stale<A: Appender + ?Sized>(
    cache: &mut Cache,
    batch: &mut A,
    t: Timestamp,
) -> Result<(), AppendError> {
    let mut refused = Ok(());
    cache.fail(|series| mark_stale(batch, series, t, &mut refused));
    refused
}

fn mark_stale<A: Appender + ?Sized>(
    batch: &mut A,
    series: SeriesRef,
    t: Timestamp,
    refused: &mut Result<(), AppendError>,
) {
    batch.refuse_late(true);
    let appended = batch.append(SeriesKey::Ref(series), t, STALE_NAN);
    batch.refuse_late(false);
    match appended {
        // Expected when a target comes back by another loop: its samples are newer than our mark. A series
        // that has left the store has ended.
        Ok(_)
        | Err(
            AppendError::OutOfOrder
            | AppendError::TooOld
            | AppendError::OutOfBounds
            | AppendError::Duplicate
            | AppendError::UnknownSeries,
        ) => {}
        Err(error) => *refused = Err(error),
    }
}

/// The state of one pass.
struct Pass<'a, A: ?Sized> {
    rules: &'a Rules,
    hasher: &'a Hasher,
    cache: &'a mut Cache,
    memory: &'a Memory,
    batch: &'a mut A,
    counts: &'a mut Counts,
    /// The time of samples without one of their own.
    t: Timestamp,
    /// The latest time that is accepted.
    t_max: Timestamp,
    /// Samples left under the sample limit.
    n_left: u64,
    exceeded: bool,
    resolution: Resolution,
    /// A histogram has too many buckets and cannot be made coarser.
    exceeded_buckets: bool,
    /// Until the store says otherwise.
    keeps_exemplars: bool,
    /// Those of one sample.
    exemplars: Vec<Exemplar>,
    /// What the body said last of a family, if somebody is to know.
    family: Option<Current<'a>>,
    labels: LabelsBuilder,
}

/// What becomes of a sample whose start time is made up.
enum MadeUp {
    /// It has none: it is not cumulative.
    Nothing,
    /// It is kept back as the base of those to come.
    Base,
    Since(Timestamp),
}

impl<'a, A: Appender + ?Sized> Pass<'a, A> {
    /// Lines are told apart by their bytes alone: what was made of one at first sight stays, whatever is said of its
    /// family later. So has upstream.
    fn take_text(&mut self, mut parser: Parser<'a>) -> Result<(), Error> {
        loop {
            // The line that the last pass had here, which it nearly always is, need not be read byte by byte.
            if let Some(key) = self.cache.expected()
                && let Some(line) = parser.next_known(key.raw_len(), |raw, _| self.hasher.key(raw, 0) == key)
            {
                self.line(&mut parser, &line, key, false)?;
                continue;
            }
            match parser.next() {
                None => return Ok(()),
                Some(Ok(Entry::Series(line))) => {
                    let key = self.hasher.key(line.raw, 0);
                    self.line(&mut parser, &line, key, false)?;
                }
                Some(Ok(entry)) => self.said(&entry),
                Some(Err(error)) => return Err(Error::Parse(error.to_string())),
            }
        }
    }

    fn take_converted(&mut self, mut converter: Converter<'a>) -> Result<(), Error> {
        while let Some(item) = converter.next() {
            // Counted at once, so that a pass that fails tells it as well.
            self.counts.unconverted = converter.n_unconverted();
            match item.map_err(|error| Error::Parse(error.to_string()))? {
                nhcb::Item::Entry(Entry::Series(line)) => {
                    let key = self.hasher.key(line.raw, 0);
                    self.line(converter.parser(), &line, key, false)?;
                }
                nhcb::Item::Classic(line) => {
                    let key = self.hasher.key(line.raw, 0);
                    self.line(converter.parser(), &line, key, true)?;
                }
                nhcb::Item::Entry(entry) => self.said(&entry),
                nhcb::Item::Histogram => {
                    let key = self.hasher.key_of_labels(converter.labels());
                    let mut native = std::mem::take(converter.native());
                    self.sample(&mut Converted(&mut converter), key, Sampled::Native(&mut native))?;
                    *converter.native() = native;
                }
            }
        }
        self.counts.unconverted = converter.n_unconverted();
        Ok(())
    }

    fn take_protobuf(&mut self, body: &'a [u8]) -> Result<(), Error> {
        let with_labels = self.rules.extras.type_and_unit_labels;
        let mut parser =
            protobuf::Parser::new(body, self.rules.histograms).with_type_and_unit_labels(with_labels);
        // The hash of the metric of this number, from which those of its samples follow.
        let (mut of_metric, mut hash) = (0, 0);
        while let Some(item) = parser.next() {
            let item = item.map_err(|error| Error::Parse(error.to_string()))?;
            if let protobuf::Item::Said(entry) = &item {
                self.said(entry);
                continue;
            }
            if of_metric != parser.metric_number() {
                of_metric = parser.metric_number();
                let said = with_labels.then(|| (parser.kind() as u8, parser.unit()));
                hash = self.hasher.hash(&(parser.family(), said, parser.label_bytes()));
            }
            let key = self.hasher.key_of_place(hash, parser.place(), parser.label_bytes().len());
            match item {
                protobuf::Item::Said(_) => {}
                protobuf::Item::Float(v) => {
                    self.sample(&mut Message { parser: &parser }, key, Sampled::Float(v))?;
                }
                protobuf::Item::Histogram => {
                    let mut native = std::mem::take(parser.native());
                    self.sample(&mut Message { parser: &parser }, key, Sampled::Native(&mut native))?;
                    *parser.native() = native;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn line(
        &mut self,
        parser: &mut Parser<'a>,
        line: &SeriesLine<'a>,
        key: Key,
        is_classic: bool,
    ) -> Result<(), Error> {
        self.sample(&mut Line { parser, series: line, is_classic }, key, Sampled::Float(line.v))
    }

    fn said(&mut self, entry: &Entry<'a>) {
        self.counts.said += 1;
        self.counts.metadata = self.counts.metadata.wrapping_add(self.memory.hash(entry));
        if self.rules.extras.metadata || self.rules.extras.made_up_starts {
            self.family = Current::follow(self.family.take(), entry, self.memory);
        }
    }

    #[inline]
    fn sample(&mut self, sample: &mut impl Exposed, key: Key, mut value: Sampled<'_>) -> Result<(), Error> {
        self.counts.scraped += 1;
        let job = &*self.rules.job;
        let own_t = if job.honor_timestamps { sample.own_t() } else { None };
        let t = own_t.unwrap_or(self.t);
        let is_tracked = own_t.is_none() || job.track_timestamps_staleness;
        let (slot, series) = match self.cache.lookup(key) {
            Lookup::Hit { slot, series, again } => {
                if again && own_t.is_none() {
                    self.counts.kept += 1;
                    self.counts.duplicate += 1;
                    self.cache.starts().forget(key);
                    return Ok(());
                }
                (slot, series)
            }
            Lookup::Dropped => return Ok(()),
            Lookup::Miss => {
                if !self.make_labels(sample)? {
                    self.cache.insert_dropped(key);
                    return Ok(());
                }
                return self.new_sample(sample, key, value, own_t, is_tracked);
            }
        };
        self.counts.kept += 1;
        let mut st = self.start_time(sample);
        if self.rules.extras.made_up_starts && st == 0 {
            st = match self.make_up_start(sample, key, &mut value, t, false)? {
                MadeUp::Nothing => 0,
                MadeUp::Since(st) => st,
                MadeUp::Base => {
                    if is_tracked {
                        self.cache.track(slot);
                    }
                    return Ok(());
                }
            };
        }
        let mut is_new = false;
        let appended = match self.append(SeriesKey::Ref(series), st, t, &mut value) {
            Err(Error::Append(AppendError::UnknownSeries)) => {
                // The store has let the series go meanwhile: it begins anew.
                if !self.make_labels(sample)? {
                    return Ok(());
                }
                is_new = true;
                let labels = self.labels.build();
                let appended = self.append(SeriesKey::Labels(&labels), st, t, &mut value)?;
                if let Some(series) = appended {
                    self.cache.set_series(slot, series);
                }
                appended
            }
            appended => appended?,
        };
        if let Some(series) = appended {
            if is_tracked {
                self.cache.track(slot);
            }
            self.add_extras(sample, series, is_new, t)?;
        } else {
            self.cache.starts().forget(key);
        }
        Ok(())
    }

    /// The first sample of a series, whose labels were made.
    #[cold]
    fn new_sample(
        &mut self,
        sample: &mut impl Exposed,
        key: Key,
        mut value: Sampled<'_>,
        own_t: Option<Timestamp>,
        is_tracked: bool,
    ) -> Result<(), Error> {
        let t = own_t.unwrap_or(self.t);
        self.counts.kept += 1;
        // The base of a made up start is counted, the sample that follows it is not.
        let mut is_counted = true;
        let labels = self.labels.build();
        let mut st = self.start_time(sample);
        if self.rules.extras.made_up_starts && st == 0 {
            if own_t.is_none() && self.cache.starts().has_seen(key) {
                self.counts.duplicate += 1;
                self.cache.starts().forget(key);
                return Ok(());
            }
            is_counted = !self.cache.starts().knows(key);
            match self.make_up_start(sample, key, &mut value, t, true)? {
                MadeUp::Nothing => {}
                MadeUp::Since(since) => st = since,
                MadeUp::Base => {
                    self.counts.new += u64::from(!self.exceeded && !self.exceeded_buckets);
                    return Ok(());
                }
            }
        }
        if let Some(series) = self.append(SeriesKey::Labels(&labels), st, t, &mut value)? {
            let slot = self.cache.insert(key, series);
            if is_tracked {
                self.cache.track(slot);
            }
            self.counts.new += u64::from(is_counted && !self.exceeded && !self.exceeded_buckets);
            self.add_extras(sample, series, true, t)?;
        } else {
            self.cache.starts().forget(key);
        }
        Ok(())
    }

    /// Since when the count of a sample is, 0 if that is not known or not wanted.
    #[inline]
    fn start_time(&self, sample: &mut impl Exposed) -> Timestamp {
        if self.rules.extras.start_times { sample.start_time() } else { 0 }
    }

    /// Makes up since when a sample counts, and makes its value fit that.
    #[cold]
    fn make_up_start(
        &mut self,
        sample: &impl Exposed,
        key: Key,
        value: &mut Sampled<'_>,
        t: Timestamp,
        has_labels: bool,
    ) -> Result<MadeUp, Error> {
        if !self.cache.starts().knows(key) {
            let is_cumulative = |kind| matches!(kind, MetricType::Counter | MetricType::Histogram);
            let Some(family) = self.family.as_ref().filter(|family| is_cumulative(family.kind())) else {
                return Ok(MadeUp::Nothing);
            };
            if !has_labels {
                let (job, target) = (&*self.rules.job, &self.rules.target);
                if !make_labels(&mut self.labels, sample, job, target)? {
                    return Ok(MadeUp::Nothing);
                }
            }
            if !family.owns(self.labels.get(METRIC_NAME).unwrap_or_default()) {
                return Ok(MadeUp::Nothing);
            }
        }
        let st = match value {
            Sampled::Float(v) => self.cache.starts().adjust_float(key, v, t),
            Sampled::Native(native) => self.cache.starts().adjust(key, native, t),
        };
        Ok(st.map_or(MadeUp::Base, MadeUp::Since))
    }

    /// Hands over what a sample brings beside its value, which was appended: nothing, mostly.
    #[inline]
    fn add_extras(
        &mut self,
        sample: &impl Exposed,
        series: SeriesRef,
        is_new: bool,
        t: Timestamp,
    ) -> Result<(), Error> {
        if sample.has_exemplars() && self.keeps_exemplars {
            self.add_exemplars(sample, series, t);
        }
        if self.family.as_ref().is_some_and(|family| is_new || family.is_news()) && self.rules.extras.metadata
        {
            self.add_metadata(sample, series, is_new)?;
        }
        Ok(())
    }

    /// A refused exemplar is no reason to refuse the sample.
    #[cold]
    fn add_exemplars(&mut self, sample: &impl Exposed, series: SeriesRef, t: Timestamp) {
        self.exemplars.clear();
        sample.exemplars_into(t, &mut self.exemplars);
        self.exemplars.sort_by(|a, b| {
            let by_value = a.v.partial_cmp(&b.v).unwrap_or(std::cmp::Ordering::Equal);
            a.t.cmp(&b.t).then(by_value).then_with(|| a.labels.cmp(&b.labels))
        });
        let mut n_out_of_order = 0;
        for exemplar in &self.exemplars {
            match self.batch.append_exemplar(series, exemplar) {
                Ok(()) => {}
                Err(AppendError::ExemplarsDisabled) => {
                    self.keeps_exemplars = false;
                    return;
                }
                Err(AppendError::ExemplarOutOfOrder) => n_out_of_order += 1,
                Err(error) => tracing::debug!(%error, ?exemplar, "exemplar refused"),
            }
        }
        // Of several some may well have come with the last scrape.
        if n_out_of_order == self.exemplars.len() {
            self.counts.exemplar_out_of_order += n_out_of_order as u64;
        }
    }

    /// Tells the store what kind of metric a series is, whose final name decides whether the family is its own.
    /// The labels of a new one are at hand.
    #[cold]
    fn add_metadata(&mut self, sample: &impl Exposed, series: SeriesRef, is_new: bool) -> Result<(), Error> {
        if !is_new && !self.make_labels(sample)? {
            return Ok(());
        }
        let name = self.labels.get(METRIC_NAME).unwrap_or_default();
        if let Some(metadata) = self.family.as_ref().and_then(|family| family.of_series(name))
            && let Err(error) = self.batch.update_metadata(series, &metadata)
        {
            tracing::debug!(%error, ?metadata, "metadata refused");
        }
        Ok(())
    }

    /// Appends unless a limit or the store has something against this sample alone, which is counted.
    #[inline]
    fn append(
        &mut self,
        key: SeriesKey<'_>,
        st: Timestamp,
        t: Timestamp,
        value: &mut Sampled<'_>,
    ) -> Result<Option<SeriesRef>, Error> {
        if let Sampled::Native(native) = value {
            match self.resolution.fit(native) {
                Ok(true) => {}
                Ok(false) => {
                    self.exceeded_buckets = true;
                    return Ok(None);
                }
                Err(error) => {
                    self.counts.kept -= 1;
                    return Err(explain(error.into(), value));
                }
            }
        }
        let is_mark = matches!(value, Sampled::Float(v) if is_stale(*v));
        if self.n_left == 0 && !is_mark {
            // The rest of the body is parsed all the same, so that the report counts all of it.
            self.exceeded = true;
            return Ok(None);
        }
        self.n_left -= u64::from(!is_mark);
        if t > self.t_max {
            self.counts.out_of_bounds += 1;
            return Ok(None);
        }
        let appended = match value {
            Sampled::Float(v) if st == 0 && !self.rules.extras.made_up_starts => {
                self.batch.append(key, t, *v)
            }
            Sampled::Float(v) => self.append_started(key, st, t, Value::Float(*v)),
            Sampled::Native(native) => self.append_started(key, st, t, native.value()),
        };
        match appended {
            Ok(series) => Ok(Some(series)),
            Err(AppendError::OutOfOrder) => {
                self.counts.out_of_order += 1;
                Ok(None)
            }
            Err(AppendError::Duplicate) => {
                self.counts.duplicate += 1;
                Ok(None)
            }
            Err(AppendError::OutOfBounds | AppendError::TooOld) => {
                self.counts.out_of_bounds += 1;
                Ok(None)
            }
            // Known series go on: a target must not look dead because others have too many series.
            Err(AppendError::SeriesLimit) => {
                self.counts.beyond_series_limit += 1;
                Ok(None)
            }
            Err(AppendError::UnknownSeries) => {
                // The caller asks again by labels; only that attempt counts.
                self.n_left += u64::from(!is_mark);
                Err(AppendError::UnknownSeries.into())
            }
            Err(error) => {
                // The scrape ends before this sample.
                self.counts.kept -= 1;
                Err(explain(error, value))
            }
        }
    }

    /// Appends a sample that is no plain float. One whose start is made up is only taken in order.
    fn append_started(
        &mut self,
        key: SeriesKey<'_>,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let is_made_up = self.rules.extras.made_up_starts;
        if is_made_up {
            self.batch.refuse_late(true);
        }
        let appended = self.batch.append_value(key, st, t, value);
        if is_made_up {
            self.batch.refuse_late(false);
        }
        appended
    }

    /// The final labels of a sample in `self.labels`, or false if relabelling drops it.
    #[cold]
    fn make_labels(&mut self, sample: &impl Exposed) -> Result<bool, Error> {
        make_labels(&mut self.labels, sample, &self.rules.job, &self.rules.target)
    }
}

/// Why the store refused more than a sample; of a histogram, what is wrong with it.
#[cold]
fn explain(error: AppendError, value: &Sampled<'_>) -> Error {
    match (error, value) {
        (AppendError::InvalidHistogram(_), Sampled::Native(native)) => match native.validate() {
            Err(invalid) => Error::Histogram(invalid.to_string()),
            Ok(()) => error.into(),
        },
        _ => error.into(),
    }
}

/// The final labels of a sample in `labels`, or false if relabelling drops it.
fn make_labels(
    labels: &mut LabelsBuilder,
    sample: &impl Exposed,
    job: &ScrapeConfig,
    target: &Labels,
) -> Result<bool, Error> {
    sample.labels_into(labels).map_err(|error| Error::Parse(error.to_string()))?;
    if job.honor_labels {
        honor(labels, target, &sample.empty_labels());
    } else {
        overrule(labels, target);
    }
    if !relabel::apply(&job.metric_relabel, labels) || labels.is_empty() {
        return Ok(false);
    }
    check(labels, job)?;
    Ok(true)
}

/// Adds the target's labels where the sample has none of that name; one exposed as empty stays absent.
fn honor(labels: &mut LabelsBuilder, target: &Labels, exposed_empty: &[&[u8]]) {
    for (name, value) in target {
        if labels.get(name).is_none() && !exposed_empty.contains(&name) {
            labels.set(name, value);
        }
    }
}

/// Sets the target's labels; what the sample had under these names moves to `exported_…`.
pub(super) fn overrule(labels: &mut LabelsBuilder, target: &Labels) {
    let mut moved: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in target {
        if let Some(exposed) = labels.get(name) {
            moved.push((name.to_vec(), exposed.to_vec()));
        }
        labels.set(name, value);
    }
    // Shortest first, so that a label which already is an exported_ one gives way to nobody.
    moved.sort_by_key(|(name, _)| name.len());
    for (mut name, value) in moved {
        loop {
            name.splice(0..0, *b"exported_");
            if labels.get(&name).is_none() {
                break;
            }
        }
        labels.set(&name, &value);
    }
}

/// Whether name and labels are valid in the job's scheme and within its limits.
fn check(labels: &LabelsBuilder, job: &ScrapeConfig) -> Result<(), Error> {
    let Some(name) = labels.get(METRIC_NAME) else {
        return Err(Error::Labels("missing metric name (__name__ label)".to_owned()));
    };
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    let scheme = job.name_scheme;
    let is_label = |name: &[u8], value: &[u8]| {
        !name.is_empty() && is_text(name) && is_text(value) && scheme.is_label_name(name)
    };
    if !is_text(name)
        || !scheme.is_metric_name(name)
        || !labels.iter().all(|(name, value)| is_label(name, value))
    {
        return Err(Error::Labels(format!("invalid metric name or label names: {}", labels.build())));
    }
    limits::verify(labels, &job.limits).map_err(Error::LabelLimit)
}

#[cfg(test)]
mod tests;
