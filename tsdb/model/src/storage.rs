//! The contracts between those who write samples, those who keep them and those who ask for them.
//!
//! These doc comments are the specification: the store implements them, the engine and the scrape loop
//! rely on them, and tests may put any other implementation in their place.
//! Everything here is synchronous.
//!
//! Compat: prometheus `storage/interface.go` and `storage/interface_append.go` (the V2 shape).

use std::num::NonZeroU64;

use crate::exemplar::SeriesExemplars;
use crate::histogram::{self, InvalidHistogram};
use crate::wire::parse::MetricType;
use crate::{Detail, Exemplar, HistogramPoints, Labels, Matcher, SampleBatch, TimeRange, Timestamp, Value};

/// A failure of the store, its text ready for the user.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<dyn std::error::Error + Send + Sync>);

impl Error {
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// Why one sample was refused. The batch it was meant for stays usable.
/// Compat: prometheus `storage`, `ErrOutOfOrderSample` and its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AppendError {
    /// `t` is older than the newest sample of the series and out-of-order ingestion is off.
    #[error("out of order sample")]
    OutOfOrder,
    /// `t` is older than the out-of-order window allows.
    #[error("too old sample")]
    TooOld,
    /// `t` lies before what the head still accepts.
    #[error("out of bounds")]
    OutOfBounds,
    /// The series has another value at the same `t`.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// The ref names no living series: append again by labels.
    #[error("unknown series")]
    UnknownSeries,
    /// The label set is empty, has a duplicate name or no valid metric name.
    #[error("invalid sample")]
    InvalidLabels,
    /// A native histogram contradicts itself.
    #[error(transparent)]
    InvalidHistogram(#[from] InvalidHistogram),
    /// The start time is not before the sample.
    #[error("ST is newer or the same as sample's timestamp, ignoring")]
    StartNotBefore,
    /// The series already has samples at or after the start time: expected of every counter that lives on.
    #[error("start timestamp out of order, ignoring")]
    StartOutOfOrder,
    /// The exemplar is older than the newest of its series.
    #[error("out of order exemplar")]
    ExemplarOutOfOrder,
    /// The labels of the exemplar are longer than [`crate::exemplar::LABEL_CHARS_MAX`].
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    ExemplarTooLong,
    /// The store keeps no exemplars.
    #[error("exemplar storage is disabled or max exemplars is less than or equal to 0")]
    ExemplarsDisabled,
    /// The store holds as many series as its limit allows.
    #[error("series limit reached")]
    SeriesLimit,
    /// An earlier failure of the log made the store read-only.
    #[error("the store is read-only after a failure of its log")]
    Poisoned,
}

impl From<histogram::Invalid> for AppendError {
    fn from(invalid: histogram::Invalid) -> Self {
        Self::InvalidHistogram(invalid.kind)
    }
}

/// A handle to a series of the store, valid until the series leaves the head.
///
/// Opaque to everybody but the store that gave it; never stored on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub NonZeroU64);

/// How a caller of [`Appender::append`] names the series.
#[derive(Clone, Copy, Debug)]
pub enum SeriesKey<'a> {
    /// As an earlier call returned it: the fast way.
    Ref(SeriesRef),
    /// By its labels, which finds or creates the series.
    Labels(&'a Labels),
}

/// A store that takes samples.
pub trait Appendable: Send + Sync {
    /// Opens a batch.
    ///
    /// `affinity` groups series that are written together: a scrape passes the hash of its target, so
    /// that the series of one target lie side by side in memory; everybody else passes any constant.
    fn appender(&self, affinity: u64) -> Box<dyn Appender + '_>;
}

/// What the exposition says of a metric.
/// Compat: prometheus `model/metadata`, `Metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    pub kind: MetricType,
    pub unit: Box<str>,
    pub help: Box<str>,
}

/// A store that can be asked for exemplars.
pub trait ExemplarQueryable: Send + Sync {
    /// The exemplars in `range` of the series that pass all matchers of any of the `selectors`, by label set, each
    /// series once.
    ///
    /// # Errors
    /// The store keeps no exemplars or cannot be read.
    ///
    /// Compat: prometheus `storage`, `ExemplarQuerier`.
    fn exemplars(&self, range: TimeRange, selectors: &[Vec<Matcher>]) -> Result<Vec<SeriesExemplars>, Error>;
}

/// One batch of samples: visible as a whole after [`Appender::commit`], gone when dropped before.
pub trait Appender {
    /// Buffers one sample for the series of `key`.
    ///
    /// Returns the ref to use next time. `t` is in ms since the epoch. The order of two samples of one
    /// series inside a batch is kept.
    ///
    /// # Errors
    /// The sample alone is refused and counted, the batch stays usable. An equal `t` with an equal value
    /// (by bits) is accepted and not stored again.
    ///
    /// Compat: prometheus `storage/interface_append.go`, `AppenderV2.Append`.
    fn append(&mut self, key: SeriesKey<'_>, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError>;

    /// As [`Appender::append`], for a sample of any kind that counts since `st` ms (0: not known).
    ///
    /// # Errors
    /// As [`Appender::append`]; a histogram that contradicts itself is refused.
    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError>;

    /// Whether samples are refused from here on that could only be stored out of order, although the store takes such:
    /// so for marks that say what is so now. It is not refused until told.
    ///
    /// Compat: prometheus `storage/interface_append.go`, `AppendV2Options.RejectOutOfOrder`.
    fn refuse_late(&mut self, _is_refused: bool) {}

    /// What a series is called that is in the store already: for what comes without a sample. The store need not know.
    fn find(&mut self, _labels: &Labels) -> Option<SeriesRef> {
        None
    }

    /// Buffers an exemplar for a series that an earlier call of this batch named. One that repeats the newest of its
    /// series is accepted and not stored again.
    ///
    /// # Errors
    /// The exemplar alone is refused and counted. A store that keeps none refuses all.
    ///
    /// Compat: prometheus `storage`, `ExemplarAppender`.
    fn append_exemplar(&mut self, _series: SeriesRef, _exemplar: &Exemplar) -> Result<(), AppendError> {
        Err(AppendError::ExemplarsDisabled)
    }

    /// Tells what kind of metric a series is; kept with the batch if it changed, by stores that keep it.
    ///
    /// # Errors
    /// The ref names no living series.
    ///
    /// Compat: prometheus `storage`, `MetadataUpdater`.
    fn update_metadata(&mut self, _series: SeriesRef, _metadata: &Metadata) -> Result<(), AppendError> {
        Ok(())
    }

    /// Makes the batch durable against the end of the process, then visible to queries as a whole.
    ///
    /// # Errors
    /// The log refused the batch (disk full, for one): nothing of it is visible or will be after a restart.
    fn commit(self: Box<Self>) -> Result<(), Error>;
}

/// A store that can be asked.
pub trait Queryable: Send + Sync {
    /// Opens a view of the samples in `range`; the view pins what it needs until it is dropped.
    ///
    /// # Errors
    /// The store cannot be read.
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>, Error>;
}

/// What the engine tells about the use of a selector; the store may ignore all of it.
#[derive(Clone, Debug, Default)]
pub struct SelectHints {
    /// The times that the selector needs, both inside.
    pub range: Option<TimeRange>,
    /// The query's step in ms, 0 for an instant query.
    pub step_ms: i64,
    /// The most series that the caller takes, 0 for all.
    pub limit: usize,
    /// Whether series must come in label order rather than the store's own.
    pub sorted: bool,
}

/// A view of a span of time. Dropped as soon as the query is done, which releases blocks.
pub trait Querier: Send + Sync {
    /// Finds the series that pass all `matchers` and have samples or might have samples in the range.
    ///
    /// Series come in the store's order (creation order in the head alone, label order as soon as blocks
    /// are merged), each label set once.
    ///
    /// # Errors
    /// An index cannot be read.
    fn select(&self, matchers: &[Matcher], hints: &SelectHints) -> Result<Box<dyn SeriesSet>, Error>;

    /// The values of the label `name` among the series that pass `matchers` (all series if there are
    /// none), sorted and unique, at most `limit` of them unless it is 0.
    ///
    /// # Errors
    /// An index cannot be read.
    fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error>;

    /// The label names of the series that pass `matchers`, as [`Querier::label_values`].
    ///
    /// # Errors
    /// An index cannot be read.
    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error>;
}

/// One chunk as the store keeps it.
#[derive(Clone, Copy, Debug)]
pub struct RawChunk<'a> {
    /// The times of its first and last sample.
    pub mint: Timestamp,
    pub maxt: Timestamp,
    /// The encoding by its number on disk, which is also that of remote read.
    pub encoding: u8,
    pub bytes: &'a [u8],
}

/// What a select found: labels by index, samples decoded on demand and from any thread.
///
/// A set shows one moment: samples committed after the select are not in it, and a batch is in it wholly
/// or not at all.
pub trait SeriesSet: Send + Sync {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label set of series `i`, materialised.
    fn labels(&self, i: usize) -> Labels;

    /// Appends the samples of series `i` within `range` to `out`, times strictly ascending, stale
    /// markers included.
    ///
    /// # Errors
    /// A chunk cannot be read; what was appended before it stays in `out`.
    fn samples_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error>;

    /// As [`SeriesSet::samples_into`], for callers that want the last sample alone: those before it may be left out.
    ///
    /// # Errors
    /// As [`SeriesSet::samples_into`].
    fn last_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        self.samples_into(i, range, out)
    }

    /// Hands the samples of series `i` within `range` to `visit` as the chunks in which they are kept, in order of time
    /// and none overlapping another; what reaches beyond the range is encoded anew. `visit` must not wait for anything.
    /// `false`, with nothing handed on, where there are no such chunks: then the samples can be had decoded.
    ///
    /// # Errors
    /// As [`SeriesSet::samples_into`]; some chunks may have been handed on.
    fn chunks(
        &self,
        _i: usize,
        _range: TimeRange,
        _visit: &mut dyn FnMut(RawChunk<'_>),
    ) -> Result<bool, Error> {
        Ok(false)
    }

    /// As [`SeriesSet::samples_into`], with the histograms as floats and apart: `floats` gets none and has none.
    /// Of what `detail` does not ask for, there may be nothing in them.
    ///
    /// # Errors
    /// As [`SeriesSet::samples_into`].
    fn points_into(
        &self,
        i: usize,
        range: TimeRange,
        _detail: Detail,
        floats: &mut SampleBatch,
        histograms: &mut HistogramPoints,
    ) -> Result<(), Error> {
        self.samples_into(i, range, floats)?;
        histograms.take_from(&mut floats.histograms);
        Ok(())
    }
}
