//! Series announced first, rows of values on demand.
//!
//! A stream is what an operator returns: it knows its output series, and computes the column of any one of
//! them when asked, from any thread. Chains of selector, range function, scalar operators and instant
//! functions are one stream and touch memory once per row; whoever needs all rows at once collects them
//! into a block, and an aggregation consumes rows without keeping them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
pub(crate) use model::HistogramPoint;
use model::histogram::CounterResetHint;
use model::labels::METRIC_NAME;
use model::{
    Detail, FloatHistogram, HistogramPoints, Labels, STALE_NAN, SampleBatch, TimeRange, Timestamp, is_stale,
};
use parking_lot::Mutex;
use rayon::prelude::*;

use super::Ctx;
use super::budget::Charge;
use super::column::{Block, Grid, Histograms, Row, RowView, Scalars, Series, bits};
use super::join::Pairs;
use super::profile::Measured;
use super::range::remarks::{Notes, Remarks};
use super::range::{At, Outcome, boundary};
use super::sets::Masked;
use super::stats_only::Seek;
use super::{element, histogram, math, range, stats_only};
use crate::annotations::Annotation;
use crate::engine::Error;
use crate::parse::ast::BinaryOp;
use crate::plan::{HistogramFn, MapFn, RangeFn, Selector};

/// Below so many estimated sample-steps a query runs on its own thread: spawning costs more.
const INLINE_WORK_MAX: usize = 20_000;

/// Cells (series × steps) of a wave: what stays in a core's cache while it is used.
pub(crate) const WAVE_CELLS: usize = 64 * 1024;

/// The same of histograms, which are larger.
const HISTOGRAM_CELLS: usize = 1024;

/// What a row costs besides its steps, in the same unit: the samples of a chunk.
const ROW_WORK: usize = 120;

/// How deep streams may lie in each other. A row is computed by recursion, on threads whose stacks are small.
const DEPTH_MAX: usize = 32;

/// Cells that may be computed before a look at the clock and the client.
const CELLS_UNCHECKED_MAX: usize = 4096;

pub(crate) struct Stream {
    pub(crate) series: Vec<Series>,
    pub(crate) grid: Grid,
    pub(crate) source: Source,
    /// Applied to every row, in order.
    pub(crate) ops: Vec<RowOp>,
    /// What rows say besides their points.
    pub(crate) notes: Option<Notes>,
}

pub(crate) enum Source {
    Block(Block),
    /// A block of one step whose values hold at every step.
    Broadcast(Block),
    Instant {
        selector: Selector,
        pick: Pick,
    },
    Range(Box<RangeSource>),
    Measured(Box<Measured>),
    /// Rows of two streams, paired once per query.
    Pairs(Box<Pairs>),
    /// Rows at the steps that another stream allows.
    Masked(Box<Masked>),
    /// The rows of one stream, then those of another.
    Chain(Box<(Stream, Stream)>),
}

/// What of the selected sample is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    Value,
    Time,
    /// Since when it counts.
    Start,
}

/// A range function over the windows of each series.
pub(crate) struct RangeSource {
    pub(crate) input: RangeInput,
    pub(crate) func: RangeFn,
    pub(crate) span: range::Span,
    pub(crate) params: Vec<Scalars>,
    /// The samples that all windows together need.
    pub(crate) needed: TimeRange,
    /// Whether the function looks at the start times of samples.
    pub(crate) counts_from_start: bool,
    /// Whether histograms are read without their buckets.
    pub(crate) stats_only: bool,
}

/// An annotation that holds as soon as an operator has met what it is about.
pub(crate) struct Note {
    pub(crate) raised: AtomicBool,
    pub(crate) annotation: Annotation,
}

pub(crate) enum RangeInput {
    Select(usize),
    Subquery {
        stream: Box<Stream>,
        /// The memory of what each worker keeps.
        _rows: Charge,
    },
}

/// An operator on single columns.
pub(crate) enum RowOp {
    Negate,
    Map {
        func: MapFn,
        params: Vec<Scalars>,
    },
    Binary {
        op: BinaryOp,
        scalar: Scalars,
        scalar_left: bool,
        return_bool: bool,
        /// About elements that cannot be combined.
        note: Note,
    },
    /// Every value becomes the time of its step.
    StepTimes,
    /// Floats disappear, histograms become floats.
    OfHistograms(HistogramFn),
    /// Histograms are left out.
    FloatsOnly,
}

/// The samples of one series as the store keeps them: floats as columns, histograms beside them as floats.
#[derive(Default)]
pub(crate) struct Samples {
    /// Holds no histograms.
    pub(crate) floats: SampleBatch,
    pub(crate) histograms: HistogramPoints,
}

impl Samples {
    pub(crate) fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    fn forget_starts(&mut self) {
        self.floats.sts.clear();
        self.histograms.iter_mut().for_each(|point| point.st = 0);
    }

    pub(crate) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// What they count on the account of samples.
    pub(crate) fn weight(&self) -> usize {
        self.floats.len() + self.histograms.iter().map(|p| super::column::weight(&p.value)).sum::<usize>()
    }

    /// What those after `start` and up to `end` count.
    pub(crate) fn weight_in(&self, start: Timestamp, end: Timestamp) -> usize {
        let ts = &self.floats.ts;
        let floats = ts.partition_point(|&t| t <= end).saturating_sub(ts.partition_point(|&t| t <= start));
        let seen = self.histograms.iter().filter(|p| p.t > start && p.t <= end);
        floats + seen.map(|p| super::column::weight(&p.value)).sum::<usize>()
    }

    /// As the result of a query holds them.
    pub(crate) fn into_batch(self) -> SampleBatch {
        let mut batch = self.floats;
        let histograms = self.histograms.into_points().into_iter();
        batch.histograms = histograms.map(|p| sample_of(p.t, p.value)).collect();
        batch
    }
}

/// A histogram as the result of a query holds it.
pub(crate) fn sample_of(t: Timestamp, histogram: Arc<FloatHistogram>) -> model::HistogramSample {
    let histogram = model::AnyHistogram::Float(Box::new(Arc::unwrap_or_clone(histogram)));
    model::HistogramSample { t, st: 0, histogram }
}

/// Buffers of one worker, reused from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) samples: Samples,
    pub(crate) range: range::Scratch,
    values: Vec<f64>,
    present: Vec<u64>,
    histograms: Histograms,
    /// For the rows of a subquery's inner expression.
    inner: Option<Box<Self>>,
    /// Whether this is such an inner one.
    is_inside: bool,
    /// For the second rows of joins, which may be nested.
    rows: Vec<OwnedRow>,
}

/// A row with its own memory.
#[derive(Default)]
pub(crate) struct OwnedRow {
    values: Vec<f64>,
    present: Vec<u64>,
    histograms: Histograms,
}

impl OwnedRow {
    pub(crate) fn row(&mut self) -> Row<'_> {
        Row { values: &mut self.values, present: &mut self.present, histograms: &mut self.histograms }
    }

    pub(crate) fn view(&self) -> RowView<'_> {
        RowView { values: &self.values, present: &self.present, histograms: &self.histograms }
    }
}

impl Scratch {
    /// An empty row, to be given back by [`Scratch::put_row`].
    pub(crate) fn take_row(&mut self, grid: Grid) -> OwnedRow {
        let mut row = self.rows.pop().unwrap_or_default();
        row.values.resize(grid.len, 0.0);
        row.present.clear();
        row.present.resize(grid.words(), 0);
        row.histograms.clear();
        row
    }

    pub(crate) fn put_row(&mut self, row: OwnedRow) {
        self.rows.push(row);
    }
}

/// Neighbouring rows of a stream, computed together.
pub(crate) struct Wave<'w> {
    /// The number of the first row.
    pub(crate) from: usize,
    pub(crate) rows: usize,
    grid: Grid,
    values: &'w [f64],
    present: &'w [u64],
    histograms: &'w [Histograms],
}

impl<'w> Wave<'w> {
    /// The `r`-th row of the wave.
    pub(crate) fn row(&self, r: usize) -> RowView<'w> {
        let (steps, words) = (self.grid.len, self.grid.words());
        RowView {
            values: &self.values[r * steps..][..steps],
            present: &self.present[r * words..][..words],
            histograms: &self.histograms[r],
        }
    }

    /// Whether it is worth the while of several threads.
    pub(crate) fn is_large(&self) -> bool {
        self.rows * self.grid.len > WAVE_CELLS / 4
    }
}

/// Of morsels that fail the error of the first one, whichever thread is faster.
struct FirstFailure {
    morsel: AtomicUsize,
    error: Mutex<Option<Error>>,
}

impl Default for FirstFailure {
    fn default() -> Self {
        Self { morsel: AtomicUsize::new(usize::MAX), error: Mutex::default() }
    }
}

impl FirstFailure {
    /// Does the work of a morsel unless one before it has failed.
    fn unless_before(&self, morsel: usize, work: impl FnOnce() -> Result<(), Error>) {
        if self.morsel.load(Ordering::Relaxed) < morsel {
            return;
        }
        if let Err(e) = work() {
            let mut error = self.error.lock();
            if morsel < self.morsel.load(Ordering::Relaxed) {
                self.morsel.store(morsel, Ordering::Relaxed);
                *error = Some(e);
            }
        }
    }

    fn into_result(self) -> Result<(), Error> {
        self.error.into_inner().map_or(Ok(()), Err)
    }
}

/// What to do when two output series have equal labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equals {
    /// Merge them, unless both have a point at the same step.
    Merge,
    /// Refuse them as soon as both have any point.
    Refuse,
}

pub(crate) fn duplicates() -> Error {
    Error::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

pub(crate) fn is_metadata(name: &[u8]) -> bool {
    name == METRIC_NAME || name == b"__type__" || name == b"__unit__"
}

impl Stream {
    pub(crate) fn of_block(block: Block) -> Self {
        let series = block.series.clone();
        Self { series, grid: block.grid, source: Source::Block(block), ops: Vec::new(), notes: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether it must be collected before it becomes a part of another.
    pub(crate) fn is_deep(&self) -> bool {
        self.depth() >= DEPTH_MAX
    }

    /// Streams in streams; none is much deeper than allowed, so that neither is this recursion.
    pub(crate) fn depth(&self) -> usize {
        match &self.source {
            Source::Block(_) | Source::Broadcast(_) | Source::Instant { .. } => 0,
            Source::Range(source) => match &source.input {
                RangeInput::Select(_) => 0,
                RangeInput::Subquery { stream, .. } => 1 + stream.depth(),
            },
            Source::Measured(measured) => 1 + measured.stream.depth(),
            Source::Pairs(pairs) => 1 + pairs.depth(),
            Source::Masked(masked) => 1 + masked.input.depth(),
            Source::Chain(both) => 1 + both.0.depth().max(both.1.depth()),
        }
    }

    /// Computes row `i`, which comes in empty.
    pub(crate) fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        i: usize,
        scratch: &mut Scratch,
        mut row: Row<'_>,
    ) -> Result<(), Error> {
        match &self.source {
            Source::Block(block) => {
                row.values.copy_from_slice(block.values(i));
                row.present.copy_from_slice(block.present(i));
                row.histograms.clone_from(block.histograms(i));
            }
            Source::Broadcast(block) => {
                if let Some(v) = block.get(i, 0) {
                    row.values.fill(v);
                    bits::fill(row.present, self.grid.len);
                } else if let Some(histogram) = block.histograms(i).get(0) {
                    (0..self.grid.len).for_each(|step| row.histograms.push(step, Arc::clone(histogram)));
                }
            }
            Source::Instant { selector, pick } => {
                self.select_row(ctx, i, (*selector, *pick), scratch, row.reborrow())?;
            }
            Source::Measured(measured) => measured.fill_row(ctx, i, scratch, row.reborrow())?,
            Source::Range(source) => {
                let outcome = source.fill_row(ctx, self.grid, i, scratch, row.reborrow())?;
                if let Some(notes) = &self.notes {
                    let mut remarks = outcome.remarks;
                    let is_rate = matches!(source.func, RangeFn::Rate | RangeFn::Increase);
                    remarks.add_if(is_rate && bits::any(row.present), Remarks::RATE_OF_FLOATS);
                    notes.note(i, remarks, outcome.overlaps, row.present);
                }
            }
            Source::Pairs(pairs) => pairs.fill_row(ctx, i, scratch, row.reborrow())?,
            Source::Masked(masked) => masked.fill_row(ctx, i, scratch, row.reborrow())?,
            Source::Chain(both) => {
                let (first, second) = &**both;
                match i.checked_sub(first.len()) {
                    None => first.fill_row(ctx, i, scratch, row.reborrow())?,
                    Some(i) => second.fill_row(ctx, i, scratch, row.reborrow())?,
                }
            }
        }
        for op in &self.ops {
            op.apply(self.grid, row.reborrow());
        }
        Ok(())
    }

    /// A row of an instant selector.
    fn select_row(
        &self,
        ctx: &Ctx<'_>,
        i: usize,
        (selector, pick): (Selector, Pick),
        scratch: &mut Scratch,
        mut row: Row<'_>,
    ) -> Result<(), Error> {
        let is_smoothed = selector.smoothed && pick == Pick::Value;
        let reference =
            |step: usize| selector.at.unwrap_or_else(|| self.grid.time(step)).saturating_sub(selector.offset);
        let (first, last) = (reference(0), reference(self.grid.len.saturating_sub(1)));
        let ahead = if is_smoothed { ctx.lookback } else { 0 };
        let needed = TimeRange::new(first.saturating_sub(ctx.lookback - 1), last.saturating_add(ahead));
        let samples = &mut scratch.samples;
        row.histograms.lend(&mut samples.histograms);
        samples.clear();
        let selected = &ctx.selected[selector.select];
        let is_one_time = self.grid.len == 1 || selector.at.is_some();
        if is_one_time && !is_smoothed && !selector.stats_only {
            selected.last_into(i, needed, samples)?;
        } else {
            let detail = if selector.stats_only { Detail::Stats } else { Detail::All };
            selected.samples_into(i, needed, detail, samples)?;
        }
        if selector.stats_only {
            let hull = last.saturating_sub(first).saturating_add(2 * ctx.lookback);
            let reach = if is_smoothed { hull } else { ctx.lookback };
            let seeks =
                (0..self.grid.len).map(|step| Seek { t: reference(step).saturating_add(ahead), reach });
            stats_only::strip(samples, seeks);
        }
        if is_smoothed {
            remove_stale(samples);
            let remarks = boundary::smoothed(samples, self.grid, reference, ctx.lookback, row.reborrow());
            if let Some(notes) = &self.notes {
                notes.note(i, remarks, 0, row.present);
            }
        } else {
            select_last(samples, self.grid, selector, ctx.lookback, pick, row.reborrow());
        }
        ctx.costs.selected(&row, scratch.is_inside);
        Ok(())
    }

    /// Computes the rows `from..` that fit into the slices, in parallel where it pays; they come in empty.
    pub(crate) fn fill_rows(
        &self,
        ctx: &Ctx<'_>,
        from: usize,
        values: &mut [f64],
        present: &mut [u64],
        histograms: &mut [Histograms],
        charge: &mut Charge,
    ) -> Result<(), Error> {
        self.fill_listed(ctx, &|r| from + r, values, present, histograms, charge)
    }

    /// As [`Stream::fill_rows`], of the rows that `listed` names.
    pub(crate) fn fill_listed(
        &self,
        ctx: &Ctx<'_>,
        listed: &(dyn Fn(usize) -> usize + Sync),
        values: &mut [f64],
        present: &mut [u64],
        histograms: &mut [Histograms],
        charge: &mut Charge,
    ) -> Result<(), Error> {
        type Morsel<'m> = ((&'m mut [f64], &'m mut [u64]), &'m mut [Histograms]);
        let (steps, words) = (self.grid.len, self.grid.words());
        if steps == 0 || values.is_empty() {
            return Ok(());
        }
        let morsel = ctx.morsel_rows;
        let points = AtomicUsize::new(0);
        let unchecked = (CELLS_UNCHECKED_MAX / steps).max(1);
        // Refuses early, before the rest is computed; the account itself is kept below.
        let add = |weight: usize| {
            if points.fetch_add(weight, Ordering::Relaxed) + weight > ctx.budget.samples_max {
                return Err(Error::TooManySamples("query execution".to_owned()));
            }
            Ok(())
        };
        let work = |scratch: &mut Scratch, (m, ((values, present), histograms)): (usize, Morsel<'_>)| {
            let columns = values.chunks_exact_mut(steps).zip(present.chunks_exact_mut(words));
            let mut weight = 0;
            for (r, ((values, present), histograms)) in columns.zip(histograms).enumerate() {
                if r % unchecked == 0 {
                    ctx.budget.check()?;
                }
                let mut row = Row { values, present, histograms };
                self.fill_row(ctx, listed(m * morsel + r), scratch, row.reborrow())?;
                weight += row.weight();
                // Floats take memory that is there already, histograms do not: those are counted row by row.
                if !row.histograms.is_empty() {
                    add(std::mem::take(&mut weight))?;
                }
            }
            add(weight)
        };
        let rows = values.len() / steps;
        match ctx.pool {
            Some(pool) if rows > morsel && rows * (steps + ROW_WORK) > ctx.inline_work_max() => {
                let failure = FirstFailure::default();
                pool.install(|| {
                    values
                        .par_chunks_mut(morsel * steps)
                        .zip(present.par_chunks_mut(morsel * words))
                        .zip(histograms.par_chunks_mut(morsel))
                        .enumerate()
                        .for_each_init(
                            || ctx.spares.scratch(),
                            |scratch, m| failure.unless_before(m.0, || work(scratch, m)),
                        );
                });
                failure.into_result()?;
            }
            _ => {
                let mut scratch = ctx.spares.scratch();
                let columns = values.chunks_mut(morsel * steps).zip(present.chunks_mut(morsel * words));
                let morsels = columns.zip(histograms.chunks_mut(morsel));
                morsels.enumerate().try_for_each(|m| work(&mut scratch, m))?;
            }
        }
        charge.add_samples(points.into_inner())
    }

    /// Computes all rows; those without a point are left out.
    pub(crate) fn collect(mut self, ctx: &Ctx<'_>) -> Result<Block, Error> {
        if self.grid.len == 0 {
            return Ok(Block::empty(self.grid));
        }
        if let Source::Block(mut block) = self.source {
            (block.series, block.grid) = (self.series, self.grid);
            let rows = block.len();
            for row in 0..rows {
                for op in &self.ops {
                    op.apply(self.grid, block.row_mut(row));
                }
            }
            self.ops.iter().for_each(|op| op.raise_note(ctx));
            block.drop_empty_rows();
            return Ok(block);
        }
        let series = std::mem::take(&mut self.series);
        let charge = ctx.charge_block(series.len(), self.grid)?;
        let mut block = Block::absent(series, self.grid, charge);
        let mut charge = block.charge.take().expect("a block of absent rows is charged");
        let Block { values, present, histograms, .. } = &mut block;
        self.fill_rows(ctx, 0, values, present, histograms, &mut charge)?;
        charge.absorb(ctx.budget.charge(block.histogram_bytes())?);
        block.charge = Some(charge);
        self.raise_notes(ctx)?;
        block.drop_empty_rows();
        Ok(block)
    }

    /// Computes all rows, a wave at a time, each wave in the same memory. `charge` takes the samples.
    pub(crate) fn for_each_wave(
        &self,
        ctx: &Ctx<'_>,
        charge: &mut Charge,
        mut f: impl FnMut(Wave<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (grid, rows) = (self.grid, self.len());
        let (steps, words) = (grid.len, grid.words());
        if steps == 0 || rows == 0 {
            return self.raise_notes(ctx);
        }
        let least = ctx.morsel_rows * ctx.threads * 2;
        let wave = least.max(WAVE_CELLS / steps).min(rows);
        let _buffer = ctx.charge_block(wave, grid)?;
        let (mut values, mut present) = (vec![0.0; wave * steps], vec![0; wave * words]);
        let mut histograms = vec![Histograms::default(); wave];
        let of_histograms = if ctx.pool.is_some() { least } else { HISTOGRAM_CELLS / steps }.clamp(1, wave);
        let (mut from, mut n) = (0, of_histograms);
        while from < rows {
            n = n.min(rows - from);
            present.fill(0);
            histograms.iter_mut().for_each(Histograms::clear);
            let (columns, bitmaps) = (&mut values[..n * steps], &mut present[..n * words]);
            self.fill_rows(ctx, from, columns, bitmaps, &mut histograms[..n], charge)?;
            f(Wave { from, rows: n, grid, values: &values, present: &present, histograms: &histograms })?;
            from += n;
            n = if histograms[..n].iter().any(|row| !row.is_empty()) { of_histograms } else { wave };
        }
        self.raise_notes(ctx)
    }

    /// Computes all rows for what they have to say alone.
    pub(crate) fn drain(&self, ctx: &Ctx<'_>) -> Result<(), Error> {
        let mut charge = ctx.budget.charge(0)?;
        self.for_each_wave(ctx, &mut charge, |_| Ok(()))
    }

    /// Computes the given rows for what they have to say alone, unless it is clear that they are silent.
    pub(crate) fn hear(&self, ctx: &Ctx<'_>, rows: &[usize]) -> Result<(), Error> {
        if rows.is_empty() || self.grid.len == 0 || !self.may_remark() {
            return Ok(());
        }
        let (steps, words) = (self.grid.len, self.grid.words());
        let wave = (ctx.morsel_rows * ctx.threads * 2).min(rows.len());
        let _buffer = ctx.charge_block(wave, self.grid)?;
        let (mut values, mut present) = (vec![0.0; wave * steps], vec![0; wave * words]);
        let mut histograms = vec![Histograms::default(); wave];
        for rows in rows.chunks(wave) {
            let n = rows.len();
            let mut charge = ctx.budget.charge(0)?;
            present.fill(0);
            histograms.iter_mut().for_each(Histograms::clear);
            let (columns, bitmaps) = (&mut values[..n * steps], &mut present[..n * words]);
            self.fill_listed(ctx, &|r| rows[r], columns, bitmaps, &mut histograms[..n], &mut charge)?;
        }
        Ok(())
    }

    /// Whether computing a row may lead to an annotation.
    pub(crate) fn may_remark(&self) -> bool {
        self.notes.is_some()
            || self.ops.iter().any(|op| matches!(op, RowOp::Binary { .. }))
            || match &self.source {
                Source::Block(_) | Source::Broadcast(_) | Source::Instant { .. } => false,
                Source::Range(_) | Source::Pairs(_) => true,
                Source::Masked(masked) => masked.input.may_remark(),
                Source::Measured(measured) => measured.stream.may_remark(),
                Source::Chain(both) => both.0.may_remark() || both.1.may_remark(),
            }
    }

    /// A row that needs not be computed.
    pub(crate) fn ready_row(&self, i: usize) -> Option<RowView<'_>> {
        match &self.source {
            Source::Block(block) if self.ops.is_empty() => Some(block.view(i)),
            _ => None,
        }
    }

    /// Hands the annotations that turned out to hold to the query, once all rows are computed.
    pub(crate) fn raise_notes(&self, ctx: &Ctx<'_>) -> Result<(), Error> {
        if let Some(notes) = &self.notes {
            notes.tell(ctx);
        }
        self.ops.iter().for_each(|op| op.raise_note(ctx));
        match &self.source {
            Source::Block(_) | Source::Broadcast(_) | Source::Instant { .. } => Ok(()),
            Source::Range(source) => match &source.input {
                RangeInput::Select(_) => Ok(()),
                RangeInput::Subquery { stream: inner, .. } => inner.raise_notes(ctx),
            },
            Source::Pairs(pairs) => pairs.raise_notes(ctx),
            Source::Masked(masked) => masked.input.raise_notes(ctx),
            Source::Measured(measured) => measured.stream.raise_notes(ctx),
            Source::Chain(both) => {
                both.0.raise_notes(ctx)?;
                both.1.raise_notes(ctx)
            }
        }
    }

    /// Removes the metric name now, or marks it for removal at the end.
    pub(crate) fn drop_names(&mut self, ctx: &Ctx<'_>) {
        for series in &mut self.series {
            if ctx.delayed_name_removal {
                series.drop_name = true;
            } else {
                series.labels = series.labels.without(is_metadata);
            }
        }
    }

    /// As [`Stream::drop_names`]; what is removed now is the name alone.
    pub(crate) fn drop_only_names(&mut self, ctx: &Ctx<'_>) {
        for series in &mut self.series {
            if ctx.delayed_name_removal {
                series.drop_name = true;
            } else {
                series.labels = series.labels.without(|name| name == METRIC_NAME);
            }
        }
    }

    /// The check after a function or an operator; nothing to check for an instant query with delayed removal.
    pub(crate) fn unify_after_operator(self, ctx: &Ctx<'_>) -> Result<Self, Error> {
        if self.grid.is_point() && ctx.delayed_name_removal {
            Ok(self)
        } else {
            self.unify(ctx, Equals::Merge)
        }
    }

    /// Makes sure that no two series have equal labels.
    pub(crate) fn unify(self, ctx: &Ctx<'_>, equals: Equals) -> Result<Self, Error> {
        if !has_equals(&self.series) {
            return Ok(self);
        }
        let mut block = self.collect(ctx)?;
        unify_block(&mut block, equals)?;
        Ok(Self::of_block(block))
    }
}

fn has_equals(series: &[Series]) -> bool {
    let mut seen =
        hashbrown::HashSet::with_capacity_and_hasher(series.len(), foldhash::fast::FixedState::default());
    !series.iter().all(|s| seen.insert(s.labels.as_bytes()))
}

/// Merges or refuses series with equal labels in a block without empty rows.
pub(crate) fn unify_block(block: &mut Block, equals: Equals) -> Result<(), Error> {
    let mut first: HashMap<Labels, usize, foldhash::fast::FixedState> = HashMap::default();
    let mut merged = false;
    for row in 0..block.len() {
        match first.entry(block.series[row].labels.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(entry) => {
                if equals == Equals::Refuse || !block.merge_row(*entry.get(), row) {
                    return Err(duplicates());
                }
                merged = true;
            }
        }
    }
    if merged {
        block.drop_empty_rows();
    }
    Ok(())
}

/// As [`select_last`] for a series without histograms; `show` makes a value of a sample.
#[inline]
fn select_floats(
    ts: &[Timestamp],
    vs: &[f64],
    grid: Grid,
    selector: Selector,
    lookback: i64,
    row: &mut Row<'_>,
    show: impl Fn(Timestamp, f64) -> f64,
) {
    let mut rest = ts.iter().zip(vs).map(|(&t, &v)| (t, v)).peekable();
    let (mut last_t, mut last) = (Timestamp::MIN, STALE_NAN);
    let mut reference = grid.start.saturating_sub(selector.offset);
    for (slots, word) in row.values.chunks_mut(64).zip(&mut *row.present) {
        let mut shown = 0;
        for (bit, slot) in slots.iter_mut().enumerate() {
            while let Some((t, v)) = rest.next_if(|&(t, _)| t <= reference) {
                (last_t, last) = (t, v);
            }
            // What a slot holds whose bit is clear does not matter.
            *slot = show(last_t, last);
            let is_shown = last_t > reference.saturating_sub(lookback) && !is_stale(last);
            shown |= u64::from(is_shown) << bit;
            reference = reference.saturating_add(grid.step);
        }
        *word |= shown;
    }
}

/// For each step the last sample in the lookback window, unless it is a stale marker.
fn select_last(
    samples: &Samples,
    grid: Grid,
    selector: Selector,
    lookback: i64,
    pick: Pick,
    mut row: Row<'_>,
) {
    let (ts, vs) = (&*samples.floats.ts, &*samples.floats.vs);
    let histograms = &*samples.histograms;
    let seconds = |t: Timestamp| t as f64 / 1000.0;
    let picked = |at: At, row: &mut Row<'_>, steps: std::ops::Range<usize>| {
        let started = samples.started(at);
        let v = match (pick, at) {
            (Pick::Time, _) => seconds(started.t),
            (Pick::Start, _) => seconds(started.st),
            (Pick::Value, At::Float(i)) => vs[i],
            (Pick::Value, At::Histogram(i)) => {
                return steps.for_each(|step| row.histograms.push(step, Arc::clone(&histograms[i].value)));
            }
        };
        steps.for_each(|step| row.set(step, v));
    };
    if let Some(at) = selector.at {
        let reference = at.saturating_sub(selector.offset);
        let next = ts.partition_point(|&t| t <= reference);
        let next_histogram = histograms.partition_point(|p| p.t <= reference);
        let oldest = reference.saturating_sub(lookback);
        if let Some(last) = last_of(samples, next, next_histogram, oldest) {
            picked(last, &mut row, 0..grid.len);
        }
        return;
    }
    if histograms.is_empty() && pick != Pick::Start {
        if pick == Pick::Time {
            select_floats(ts, vs, grid, selector, lookback, &mut row, |t, _| seconds(t));
        } else {
            select_floats(ts, vs, grid, selector, lookback, &mut row, |_, v| v);
        }
        return;
    }
    let (mut next, mut next_histogram) = (0, 0);
    let mut reference = grid.start.saturating_sub(selector.offset);
    for step in 0..grid.len {
        while next < ts.len() && ts[next] <= reference {
            next += 1;
        }
        while next_histogram < histograms.len() && histograms[next_histogram].t <= reference {
            next_histogram += 1;
        }
        if let Some(last) = last_of(samples, next, next_histogram, reference.saturating_sub(lookback)) {
            picked(last, &mut row, step..step + 1);
        }
        reference = reference.saturating_add(grid.step);
    }
}

/// The later of the float and the histogram before the given positions, if it is after `oldest` and no stale marker.
fn last_of(samples: &Samples, next: usize, next_histogram: usize, oldest: Timestamp) -> Option<At> {
    let float = next.checked_sub(1).map(|i| (samples.floats.ts[i], samples.floats.vs[i]));
    let histogram = next_histogram.checked_sub(1).map(|i| &samples.histograms[i]);
    match (float, histogram) {
        (float, Some(point)) if float.is_none_or(|(t, _)| t < point.t) => {
            (point.t > oldest && !point.value.is_stale()).then(|| At::Histogram(next_histogram - 1))
        }
        (Some((t, v)), _) => (t > oldest && !is_stale(v)).then(|| At::Float(next - 1)),
        _ => None,
    }
}

impl RangeSource {
    fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        grid: Grid,
        i: usize,
        scratch: &mut Scratch,
        mut row: Row<'_>,
    ) -> Result<Outcome, Error> {
        row.histograms.lend(&mut scratch.range.spare);
        self.samples_into(ctx, grid, i, scratch)?;
        let Scratch { samples, range, .. } = scratch;
        if samples.is_empty() {
            return Ok(Outcome::default());
        }
        let is_selector = matches!(self.input, RangeInput::Select(_));
        if !is_selector {
            forget_resets(&mut samples.histograms);
        }
        if !self.counts_from_start {
            samples.forget_starts();
        }
        let call = range::Call { func: self.func, span: self.span, params: &self.params };
        let outcome = range::tiles::apply(&ctx.budget, call, samples, grid, range, row.reborrow())?;
        ctx.budget.saw(outcome.seen.widest, row.weight())?;
        let read = if is_selector { outcome.seen.read } else { 0 };
        ctx.costs.windows(samples, self.span, grid, (outcome.seen.windows, read), scratch.is_inside);
        Ok(outcome)
    }

    /// The samples of series `i` that the windows see, into `scratch.samples`.
    pub(crate) fn samples_into(
        &self,
        ctx: &Ctx<'_>,
        grid: Grid,
        i: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        scratch.samples.clear();
        match &self.input {
            RangeInput::Select(select) => {
                let detail = if self.stats_only { Detail::Stats } else { Detail::All };
                ctx.selected[*select].samples_into(i, self.needed, detail, &mut scratch.samples)?;
                if self.stats_only {
                    stats_only::strip(&mut scratch.samples, self.span.seeks(grid));
                }
                remove_stale(&mut scratch.samples);
            }
            RangeInput::Subquery { stream, .. } => {
                let grid = stream.grid;
                let Scratch { samples, values, present, histograms, inner, .. } = scratch;
                values.clear();
                values.resize(grid.len, 0.0);
                present.clear();
                present.resize(grid.words(), 0);
                histograms.clear();
                let inner = inner.get_or_insert_with(Box::default);
                inner.is_inside = true;
                stream.fill_row(ctx, i, inner, Row { values, present, histograms })?;
                for step in bits::ones(present) {
                    samples.floats.push(grid.time(step), values[step]);
                }
                for (step, histogram) in histograms.iter() {
                    let value = Arc::clone(histogram);
                    samples.histograms.push(HistogramPoint { t: grid.time(step), st: 0, value });
                }
            }
        }
        Ok(())
    }
}

/// What is known of counter resets does not hold between samples of a subquery, which leaves some out and repeats
/// others.
fn forget_resets(points: &mut [HistogramPoint]) {
    for point in points {
        let hint = point.value.counter_reset_hint;
        if matches!(hint, CounterResetHint::CounterReset | CounterResetHint::NotCounterReset) {
            Arc::make_mut(&mut point.value).counter_reset_hint = CounterResetHint::Unknown;
        }
    }
}

/// Removes stale markers in place.
fn remove_stale(samples: &mut Samples) {
    samples.histograms.retain(|point| !point.value.is_stale());
    let batch = &mut samples.floats;
    if !batch.vs.iter().any(|&v| is_stale(v)) {
        return;
    }
    let mut kept = 0;
    for i in 0..batch.len() {
        if !is_stale(batch.vs[i]) {
            batch.ts[kept] = batch.ts[i];
            batch.vs[kept] = batch.vs[i];
            if !batch.sts.is_empty() {
                batch.sts[kept] = batch.sts[i];
            }
            kept += 1;
        }
    }
    batch.ts.truncate(kept);
    batch.vs.truncate(kept);
    batch.sts.truncate(kept);
}

impl RowOp {
    fn apply(&self, grid: Grid, row: Row<'_>) {
        let Row { values, present, histograms } = row;
        match self {
            Self::Negate => {
                for v in values.iter_mut() {
                    *v = -*v;
                }
                element::change_each(histograms, |_| (), |h, ()| h.multiply(-1.0));
            }
            Self::OfHistograms(func) => {
                present.fill(0);
                let mut last: Option<(Arc<FloatHistogram>, f64)> = None;
                for (step, histogram) in histograms.iter() {
                    let v = match &last {
                        Some((known, v)) if Arc::ptr_eq(known, histogram) => *v,
                        _ => histogram::accessor(*func, histogram),
                    };
                    last = Some((Arc::clone(histogram), v));
                    values[step] = v;
                    bits::set(present, step);
                }
                histograms.clear();
            }
            Self::StepTimes => {
                histograms.mark(present);
                histograms.clear();
                for (step, v) in values.iter_mut().enumerate() {
                    *v = grid.time(step) as f64 / 1000.0;
                }
            }
            Self::FloatsOnly => histograms.clear(),
            Self::Map { func, params } => {
                histograms.clear();
                math::map_row(*func, params, values, present);
            }
            Self::Binary { op, scalar, scalar_left, return_bool, note } => {
                let is_trim = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
                if !histograms.is_empty() && !element::change_by_scalar(*op, histograms, scalar, *scalar_left)
                {
                    note.raised.store(true, Ordering::Relaxed);
                    histograms.clear();
                }
                if is_trim {
                    if bits::any(present) {
                        note.raised.store(true, Ordering::Relaxed);
                        present.fill(0);
                    }
                } else {
                    math::scalar_row(*op, scalar, *scalar_left, *return_bool, values, present);
                }
            }
        }
    }

    /// Hands the annotation of an operator that turned out to hold to the query.
    fn raise_note(&self, ctx: &Ctx<'_>) {
        if let Self::Binary { note, .. } = self
            && note.raised.load(Ordering::Relaxed)
        {
            ctx.annotate(note.annotation.clone());
        }
    }
}

impl Ctx<'_> {
    fn inline_work_max(&self) -> usize {
        self.inline_work_max.unwrap_or(INLINE_WORK_MAX)
    }

    /// Reserves the memory of `rows` rows.
    pub(crate) fn charge_block(&self, rows: usize, grid: Grid) -> Result<Charge, Error> {
        let row = grid.len.saturating_add(grid.words()).saturating_mul(8);
        self.budget.charge(rows.saturating_mul(row))
    }
}
