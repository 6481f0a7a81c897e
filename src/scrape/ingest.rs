//! From a body to samples in an open batch: parse, look up, append. Synchronous from here on.
//!
//! The warm path (every line is in the cache) allocates nothing and touches no label. The cold path parses
//! the labels of a line, merges the target's, relabels and verifies, once per line and target.
//! Opens and commits nothing: the batch belongs to the caller, who drops it when the scrape fails.
//!
//! Compat: prometheus `scrape/scrape_append_v2.go`, `scrapeLoopAppenderV2.append`, and `scrape/scrape.go`,
//! `mutateSampleLabels`.

use std::sync::Arc;

use config::prometheus::{ScrapeConfig, ScrapeLimits};
use config::relabel;
use model::labels::METRIC_NAME;
use model::storage::{AppendError, Appender, SeriesKey, SeriesRef};
use model::wire::parse::{Entry, ExemplarLine, Format, MetricType, Parser, SeriesLine};
use model::{Exemplar, Labels, LabelsBuilder, STALE_NAN, Timestamp, Value, is_stale};

use super::cache::{Cache, Hasher, Key, Lookup};
use super::limits;
use super::metadata::{Current, Memory};
use super::target::HistogramOptions;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Type, help and unit of families.
    pub metadata: bool,
    /// `_created` lines of OpenMetrics, which are no series then.
    pub start_times: bool,
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
    #[error("{0}")]
    LabelLimit(String),
    #[error("{0}")]
    Labels(String),
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
        cache,
        batch,
        counts,
        t_max: body.t.saturating_add(limits::AHEAD_MS_MAX),
        n_left: match rules.job.limits.samples {
            0 => u64::MAX,
            limit => limit,
        },
        exceeded: false,
        keeps_exemplars: true,
        family: None,
        labels: LabelsBuilder::default(),
    };
    let mut parser = Parser::new(body.bytes, body.format);
    if rules.extras.start_times {
        parser = parser.with_start_times();
    }
    // What decides on the labels of a line besides its bytes.
    let key_of = |raw: &[u8], kind: MetricType| {
        let format = u8::from(body.format == Format::OpenMetrics);
        hasher.key(raw, (format << 7) | kind as u8)
    };
    loop {
        // The line that the last pass had here, which it nearly always is, need not be read byte by byte.
        if let Some(key) = pass.cache.expected()
            && let Some(line) = parser.next_known(key.raw_len(), |raw, kind| key_of(raw, kind) == key)
        {
            pass.sample(&mut parser, &line, key, body.t)?;
            continue;
        }
        let Some(entry) = parser.next() else { break };
        match entry {
            Ok(Entry::Series(line)) => {
                let key = key_of(line.raw, line.kind);
                pass.sample(&mut parser, &line, key, body.t)?;
            }
            Ok(entry) => {
                pass.counts.metadata = pass.counts.metadata.wrapping_add(memory.hash(&entry));
                if rules.extras.metadata {
                    pass.family = Current::follow(pass.family.take(), &entry, memory);
                }
            }
            Err(error) => return Err(Error::Parse(error.to_string())),
        }
    }
    if pass.exceeded {
        return Err(Error::SampleLimit);
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
    cache: &'a mut Cache,
    batch: &'a mut A,
    counts: &'a mut Counts,
    /// The latest time that is accepted.
    t_max: Timestamp,
    /// Samples left under the sample limit.
    n_left: u64,
    exceeded: bool,
    /// Until the store says otherwise.
    keeps_exemplars: bool,
    /// What the body said last of a family, if the store is to know.
    family: Option<Current<'a>>,
    labels: LabelsBuilder,
}

impl<A: Appender + ?Sized> Pass<'_, A> {
    #[inline]
    fn sample(
        &mut self,
        parser: &mut Parser<'_>,
        line: &SeriesLine<'_>,
        key: Key,
        t: Timestamp,
    ) -> Result<(), Error> {
        self.counts.scraped += 1;
        let job = &*self.rules.job;
        let own_t = if job.honor_timestamps { line.t } else { None };
        let t = own_t.unwrap_or(t);
        let is_tracked = own_t.is_none() || job.track_timestamps_staleness;
        let (slot, series) = match self.cache.lookup(key) {
            Lookup::Hit { slot, series, again } => {
                if again && own_t.is_none() {
                    self.counts.kept += 1;
                    self.counts.duplicate += 1;
                    return Ok(());
                }
                (slot, series)
            }
            Lookup::Dropped => return Ok(()),
            Lookup::Miss => {
                if !self.make_labels(parser, line)? {
                    self.cache.insert_dropped(key);
                    return Ok(());
                }
                self.counts.kept += 1;
                let labels = self.labels.build();
                let st = self.start_time(parser, line);
                if let Some(series) = self.append(SeriesKey::Labels(&labels), st, t, line.v)? {
                    let slot = self.cache.insert(key, series);
                    if is_tracked {
                        self.cache.track(slot);
                    }
                    self.counts.new += u64::from(!self.exceeded);
                    self.add_extras(parser, line, series, true, t)?;
                }
                return Ok(());
            }
        };
        self.counts.kept += 1;
        let st = self.start_time(parser, line);
        let mut is_new = false;
        let appended = match self.append(SeriesKey::Ref(series), st, t, line.v) {
            Err(Error::Append(AppendError::UnknownSeries)) => {
                // The store has let the series go meanwhile: it begins anew.
                if !self.make_labels(parser, line)? {
                    return Ok(());
                }
                is_new = true;
                let labels = self.labels.build();
                let appended = self.append(SeriesKey::Labels(&labels), st, t, line.v)?;
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
            self.add_extras(parser, line, series, is_new, t)?;
        }
        Ok(())
    }

    /// Since when the count of a line is, 0 if that is not known or not wanted.
    #[inline]
    fn start_time(&self, parser: &mut Parser<'_>, line: &SeriesLine<'_>) -> Timestamp {
        if self.rules.extras.start_times { parser.start_time(line) } else { 0 }
    }

    /// Hands over what a line brings beside the sample that was appended: nothing, mostly.
    #[inline]
    fn add_extras(
        &mut self,
        parser: &Parser<'_>,
        line: &SeriesLine<'_>,
        series: SeriesRef,
        is_new: bool,
        t: Timestamp,
    ) -> Result<(), Error> {
        if let Some(exemplar) = parser.exemplar(line)
            && self.keeps_exemplars
        {
            self.add_exemplar(&exemplar, series, t);
        }
        if self.family.as_ref().is_some_and(|family| is_new || family.is_news()) {
            self.add_metadata(parser, line, series, is_new)?;
        }
        Ok(())
    }

    /// A refused exemplar is no reason to refuse the sample.
    #[cold]
    fn add_exemplar(&mut self, exemplar: &ExemplarLine<'_>, series: SeriesRef, t: Timestamp) {
        let exemplar = Exemplar {
            labels: exemplar.labels(),
            v: exemplar.v,
            t: exemplar.t.unwrap_or(t),
            has_own_t: exemplar.t.is_some(),
        };
        match self.batch.append_exemplar(series, &exemplar) {
            Ok(()) => {}
            Err(AppendError::ExemplarsDisabled) => self.keeps_exemplars = false,
            Err(AppendError::ExemplarOutOfOrder) => self.counts.exemplar_out_of_order += 1,
            Err(error) => tracing::debug!(%error, ?exemplar, "exemplar refused"),
        }
    }

    /// Tells the store what kind of metric a series is, whose final name decides whether the family is its own.
    /// The labels of a new one are at hand.
    #[cold]
    fn add_metadata(
        &mut self,
        parser: &Parser<'_>,
        line: &SeriesLine<'_>,
        series: SeriesRef,
        is_new: bool,
    ) -> Result<(), Error> {
        if !is_new && !self.make_labels(parser, line)? {
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
        v: f64,
    ) -> Result<Option<SeriesRef>, Error> {
        if self.n_left == 0 && !is_stale(v) {
            // The rest of the body is parsed all the same, so that the report counts all of it.
            self.exceeded = true;
            return Ok(None);
        }
        self.n_left -= u64::from(!is_stale(v));
        if t > self.t_max {
            self.counts.out_of_bounds += 1;
            return Ok(None);
        }
        let appended = match st {
            0 => self.batch.append(key, t, v),
            st => self.batch.append_value(key, st, t, Value::Float(v)),
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
                self.n_left += u64::from(!is_stale(v));
                Err(AppendError::UnknownSeries.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The final labels of a line in `self.labels`, or false if relabelling drops it.
    #[cold]
    fn make_labels(&mut self, parser: &Parser<'_>, line: &SeriesLine<'_>) -> Result<bool, Error> {
        let (job, labels) = (&*self.rules.job, &mut self.labels);
        labels.clear();
        parser.labels_into(line, labels).map_err(|error| Error::Parse(error.to_string()))?;
        if job.honor_labels {
            honor(labels, &self.rules.target, line.raw);
        } else {
            overrule(labels, &self.rules.target);
        }
        if !relabel::apply(&job.metric_relabel, labels) || labels.is_empty() {
            return Ok(false);
        }
        check(labels, &job.limits)?;
        Ok(true)
    }
}

/// Adds the target's labels where the sample has none of that name; one exposed as empty stays absent.
fn honor(labels: &mut LabelsBuilder, target: &Labels, raw: &[u8]) {
    let exposed_empty = empty_labels(raw);
    for (name, value) in target {
        if labels.get(name).is_none() && !exposed_empty.contains(&name) {
            labels.set(name, value);
        }
    }
}

/// The names of labels that a line exposes with an empty value, which a label set cannot hold.
fn empty_labels(raw: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    // Two quotes meet only around an empty value: inside one they are escaped, after one comes no quote.
    for (at, _) in raw.windows(2).enumerate().filter(|(_, pair)| pair == b"\"\"") {
        let head = raw[..at].trim_ascii_end();
        let Some(head) = head.strip_suffix(b"=") else { continue };
        let head = head.trim_ascii_end();
        let name = if let Some(quoted) = head.strip_suffix(b"\"") {
            &quoted[quoted.iter().rposition(|&b| b == b'"').map_or(0, |i| i + 1)..]
        } else {
            let begin = head.iter().rposition(|&b| !(b.is_ascii_alphanumeric() || b == b'_'));
            &head[begin.map_or(0, |i| i + 1)..]
        };
        names.push(name);
    }
    names
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

fn check(labels: &LabelsBuilder, limits: &ScrapeLimits) -> Result<(), Error> {
    let Some(name) = labels.get(METRIC_NAME) else {
        return Err(Error::Labels("missing metric name (__name__ label)".to_owned()));
    };
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    if !is_text(name)
        || !labels.iter().all(|(name, value)| !name.is_empty() && is_text(name) && is_text(value))
    {
        return Err(Error::Labels(format!("invalid metric name or label names: {}", labels.build())));
    }
    limits::verify(labels, limits).map_err(Error::LabelLimit)
}

#[cfg(test)]
mod tests;
