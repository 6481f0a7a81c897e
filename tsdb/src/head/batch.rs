//! What a batch holds beside its floats: histograms, exemplars, metadata, and where series change the type of their
//! samples.
//!
//! The log keeps samples of each type in records of their own, so a batch is logged and applied in groups: in one
//! group, no series has samples that would come back in another order than they were appended. Floats of a series may
//! stand before its histograms, as theirs is the first record.
//!
//! Compat: prometheus `tsdb`, `appendBatch`, `headAppenderBase.getCurrentBatch`.

use std::ops::Range;

use foldhash::HashMap;
use model::histogram::{AnyHistogram, Buckets};
use model::storage::Metadata;
use model::{Exemplar, FloatHistogram, Histogram, Labels, Timestamp, Value};

use super::Slot;

#[derive(Debug)]
pub(super) struct HistogramRow {
    pub(super) slot: Slot,
    pub(super) generation: u16,
    /// The series' name in the log.
    pub(super) wal_ref: u64,
    pub(super) st: Timestamp,
    pub(super) t: Timestamp,
    pub(super) histogram: AnyHistogram,
}

#[derive(Debug)]
pub(super) struct ExemplarRow {
    pub(super) wal_ref: u64,
    pub(super) series: Labels,
    pub(super) exemplar: Exemplar,
}

#[derive(Debug)]
pub(super) struct MetadataRow {
    pub(super) slot: Slot,
    pub(super) generation: u16,
    pub(super) wal_ref: u64,
    pub(super) metadata: Metadata,
}

/// What has a type of record of its own in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    IntCustom,
    Float,
    FloatCustom,
}

impl Kind {
    fn of(histogram: &AnyHistogram) -> Self {
        match histogram {
            AnyHistogram::Int(it) if it.uses_custom_buckets() => Self::IntCustom,
            AnyHistogram::Int(_) => Self::Int,
            AnyHistogram::Float(it) if it.uses_custom_buckets() => Self::FloatCustom,
            AnyHistogram::Float(_) => Self::Float,
        }
    }

    /// A staleness marker for a series of such histograms; `v` is the marker's value.
    pub(super) fn marker(self, v: f64) -> AnyHistogram {
        match self {
            Self::Int | Self::IntCustom => {
                AnyHistogram::Int(Box::new(Histogram { sum: v, ..Histogram::default() }))
            }
            Self::Float | Self::FloatCustom => {
                AnyHistogram::Float(Box::new(FloatHistogram { sum: v, ..FloatHistogram::default() }))
            }
        }
    }
}

/// Where a group ends.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    rows: usize,
    histograms: usize,
    exemplars: usize,
    metadata: usize,
}

/// What is logged and applied together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Of the batch's floats.
    pub(super) rows: Range<usize>,
    pub(super) histograms: Range<usize>,
    pub(super) exemplars: Range<usize>,
    pub(super) metadata: Range<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) histograms: Vec<HistogramRow>,
    pub(super) exemplars: Vec<ExemplarRow>,
    pub(super) metadata: Vec<MetadataRow>,
    turns: Vec<Turn>,
    /// The kinds of the series that have histograms in the present group, by slot.
    kinds: HashMap<u32, Kind>,
}

impl Beside {
    pub(super) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Whether the present group has histograms, so that a float must ask for the kind of its series.
    #[inline]
    pub(super) fn has_kinds(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// What histograms the series has in the present group.
    pub(super) fn kind(&self, slot: Slot) -> Option<Kind> {
        self.kinds.get(&slot.0).copied()
    }

    /// Begins the next group; the present one has the first `n_rows` floats.
    pub(super) fn turn(&mut self, n_rows: usize) {
        let (exemplars, metadata) = (self.exemplars.len(), self.metadata.len());
        self.turns.push(Turn { rows: n_rows, histograms: self.histograms.len(), exemplars, metadata });
        self.kinds.clear();
    }

    pub(super) fn push_histogram(&mut self, n_rows: usize, row: HistogramRow) {
        let kind = Kind::of(&row.histogram);
        if self.kind(row.slot).is_some_and(|before| before != kind) {
            self.turn(n_rows);
        }
        self.kinds.insert(row.slot.0, kind);
        self.histograms.push(row);
    }

    pub(super) fn groups(&self, n_rows: usize) -> impl Iterator<Item = Group> {
        let (exemplars, metadata) = (self.exemplars.len(), self.metadata.len());
        let end = Turn { rows: n_rows, histograms: self.histograms.len(), exemplars, metadata };
        let mut start = Turn::default();
        self.turns.iter().copied().chain([end]).map(move |end| {
            let from = std::mem::replace(&mut start, end);
            Group {
                rows: from.rows..end.rows,
                histograms: from.histograms..end.histograms,
                exemplars: from.exemplars..end.exemplars,
                metadata: from.metadata..end.metadata,
            }
        })
    }
}

/// What a series of such values had when its count began.
///
/// Compat: prometheus `tsdb`, `headAppenderV2.bestEffortAppendSTZeroSample`: the layout is kept, so that no chunk
/// is begun for it.
pub(super) fn zero_of(value: Value<'_>) -> Option<AnyHistogram> {
    fn zero<C: Default, B>(it: &Buckets<C, B>) -> Box<Buckets<C, B>> {
        Box::new(Buckets {
            counter_reset_hint: model::histogram::CounterResetHint::CounterReset,
            schema: it.schema,
            zero_threshold: it.zero_threshold,
            zero_count: C::default(),
            count: C::default(),
            sum: 0.0,
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            positive_buckets: Vec::new(),
            negative_buckets: Vec::new(),
            custom_values: it.custom_values.clone(),
        })
    }
    match value {
        Value::Float(_) => None,
        Value::Histogram(it) => Some(AnyHistogram::Int(zero(it))),
        Value::FloatHistogram(it) => Some(AnyHistogram::Float(zero(it))),
    }
}
