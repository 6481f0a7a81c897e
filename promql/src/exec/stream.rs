//! Series announced first, rows of values on demand.
//!
//! A stream is what an operator returns: it knows its output series, and computes the column of any one of
//! them when asked, from any thread. Chains of selector, range function, scalar operators and instant
//! functions are one stream and touch memory once per row; whoever needs all rows at once collects them
//! into a block, and an aggregation consumes rows without keeping them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::labels::METRIC_NAME;
use model::{Labels, SampleBatch, TimeRange, is_stale};
use rayon::prelude::*;

use super::Ctx;
use super::budget::Charge;
use super::column::{Block, Grid, Scalars, Series, bits};
use super::{math, range};
use crate::annotations::Annotation;
use crate::engine::Error;
use crate::parse::ast::BinaryOp;
use crate::plan::{MapFn, RangeFn, Selector};

/// Below so many estimated sample-steps a query runs on its own thread: spawning costs more.
const INLINE_WORK_MAX: usize = 20_000;

/// What a row costs besides its steps, in the same unit: the samples of a chunk.
const ROW_WORK: usize = 120;

pub(crate) struct Stream {
    pub(crate) series: Vec<Series>,
    pub(crate) grid: Grid,
    pub(crate) source: Source,
    /// Applied to every row, in order.
    pub(crate) ops: Vec<RowOp>,
    /// Annotations that depend on whether any row has a point; see [`Note`].
    pub(crate) notes: Vec<Note>,
}

pub(crate) enum Source {
    Block(Block),
    /// A block of one step whose values hold at every step.
    Broadcast(Block),
    Instant {
        selector: Selector,
        times: bool,
    },
    Range(Box<RangeSource>),
}

/// A range function over the windows of each series.
pub(crate) struct RangeSource {
    pub(crate) input: RangeInput,
    pub(crate) func: RangeFn,
    pub(crate) span: range::Span,
    pub(crate) params: Vec<Scalars>,
    /// The samples that all windows together need.
    pub(crate) needed: TimeRange,
    /// Per series the index into the notes, or `NO_NOTE`.
    pub(crate) notes_of: Vec<u32>,
}

pub(crate) const NO_NOTE: u32 = u32::MAX;

pub(crate) enum RangeInput {
    Select(usize),
    Subquery {
        stream: Box<Stream>,
        /// The memory of the row that each worker keeps.
        _row: Charge,
    },
}

/// An annotation that holds as soon as a series to which it belongs has an output point.
pub(crate) struct Note {
    pub(crate) raised: AtomicBool,
    pub(crate) annotation: Annotation,
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
    },
    /// Every value becomes the time of its step.
    StepTimes,
}

/// Buffers of one worker, reused from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) batch: SampleBatch,
    pub(crate) range: range::Scratch,
    values: Vec<f64>,
    present: Vec<u64>,
    /// For the rows of a subquery's inner expression.
    inner: Option<Box<Self>>,
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
        Self { series, grid: block.grid, source: Source::Block(block), ops: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Computes row `i`; `present` comes in empty.
    pub(crate) fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        i: usize,
        scratch: &mut Scratch,
        values: &mut [f64],
        present: &mut [u64],
    ) -> Result<(), Error> {
        match &self.source {
            Source::Block(block) => {
                values.copy_from_slice(block.values(i));
                present.copy_from_slice(block.present(i));
            }
            Source::Broadcast(block) => {
                if let Some(v) = block.get(i, 0) {
                    values.fill(v);
                    bits::fill(present, self.grid.len);
                }
            }
            Source::Instant { selector, times } => {
                let first = selector.at.unwrap_or(self.grid.start).saturating_sub(selector.offset);
                let last = selector.at.unwrap_or(self.grid.end()).saturating_sub(selector.offset);
                let needed = TimeRange::new(first.saturating_sub(ctx.lookback - 1), last);
                scratch.batch.clear();
                ctx.selected[selector.select].samples_into(i, needed, &mut scratch.batch)?;
                ctx.stats.samples_read.fetch_add(scratch.batch.len(), Ordering::Relaxed);
                select_last(&scratch.batch, self.grid, *selector, ctx.lookback, *times, values, present);
                ctx.stats.queryable.fetch_add(bits::count(present), Ordering::Relaxed);
            }
            Source::Range(source) => {
                source.fill_row(ctx, self.grid, i, scratch, values, present)?;
                if let Some(note) = self.notes.get(source.notes_of.get(i).map_or(usize::MAX, |&n| n as usize))
                    && !note.raised.load(Ordering::Relaxed)
                    && bits::any(present)
                {
                    note.raised.store(true, Ordering::Relaxed);
                }
            }
        }
        for op in &self.ops {
            op.apply(self.grid, values, present);
        }
        Ok(())
    }

    /// Computes the rows `from..` that fit into the slices, in parallel where it pays.
    pub(crate) fn fill_rows(
        &self,
        ctx: &Ctx<'_>,
        from: usize,
        values: &mut [f64],
        present: &mut [u64],
        charge: &mut Charge,
    ) -> Result<(), Error> {
        let (steps, words) = (self.grid.len, self.grid.words());
        if steps == 0 || values.is_empty() {
            return Ok(());
        }
        let morsel = ctx.morsel_rows;
        let points = AtomicUsize::new(0);
        let work = |scratch: &mut Scratch, (m, (values, present)): (usize, (&mut [f64], &mut [u64]))| {
            ctx.budget.check()?;
            let rows = values.chunks_exact_mut(steps).zip(present.chunks_exact_mut(words));
            for (r, (values, present)) in rows.enumerate() {
                self.fill_row(ctx, from + m * morsel + r, scratch, values, present)?;
            }
            let sum = points.fetch_add(bits::count(present), Ordering::Relaxed) + bits::count(present);
            // Refuses early, before the rest is computed; the account itself is kept below.
            if sum > ctx.budget.samples_max {
                return Err(Error::TooManySamples("query execution".to_owned()));
            }
            Ok(())
        };
        let rows = values.len() / steps;
        let chunks = |values, present| (values, present);
        let (values, present) = chunks(values, present);
        match ctx.pool {
            Some(pool) if rows > morsel && rows * (steps + ROW_WORK) > ctx.inline_work_max() => {
                pool.install(|| {
                    values
                        .par_chunks_mut(morsel * steps)
                        .zip(present.par_chunks_mut(morsel * words))
                        .enumerate()
                        .try_for_each_init(Scratch::default, work)
                })?;
            }
            _ => {
                let mut scratch = Scratch::default();
                let morsels = values.chunks_mut(morsel * steps).zip(present.chunks_mut(morsel * words));
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
            block.series = self.series;
            let rows = block.len();
            for row in 0..rows {
                let (values, present) = block.row_mut(row);
                for op in &self.ops {
                    op.apply(self.grid, values, present);
                }
            }
            block.drop_empty_rows();
            return Ok(block);
        }
        let series = std::mem::take(&mut self.series);
        let charge = ctx.charge_block(series.len(), self.grid)?;
        let mut block = Block::absent(series, self.grid, charge);
        let mut charge = block.charge.take().expect("a block of absent rows is charged");
        self.fill_rows(ctx, 0, &mut block.values, &mut block.present, &mut charge)?;
        block.charge = Some(charge);
        self.raise_notes(ctx);
        block.drop_empty_rows();
        Ok(block)
    }

    /// Hands the annotations that turned out to hold to the query.
    pub(crate) fn raise_notes(&self, ctx: &Ctx<'_>) {
        for note in self.notes.iter().filter(|note| note.raised.load(Ordering::Relaxed)) {
            ctx.annotate(note.annotation.clone());
        }
        if let Source::Range(source) = &self.source
            && let RangeInput::Subquery { stream: inner, .. } = &source.input
        {
            inner.raise_notes(ctx);
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

    /// The check after a function or an operator; nothing to check for an instant query with delayed removal.
    pub(crate) fn unify_after_operator(self, ctx: &Ctx<'_>) -> Result<Self, Error> {
        if ctx.instant && ctx.delayed_name_removal { Ok(self) } else { self.unify(ctx, Equals::Merge) }
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

/// For each step the last sample in the lookback window, unless it is a stale marker.
fn select_last(
    batch: &SampleBatch,
    grid: Grid,
    selector: Selector,
    lookback: i64,
    times: bool,
    values: &mut [f64],
    present: &mut [u64],
) {
    let (ts, vs) = (&*batch.ts, &*batch.vs);
    let visible = |next: usize, reference: i64| {
        let last = next.checked_sub(1)?;
        let shown = ts[last] > reference.saturating_sub(lookback) && !is_stale(vs[last]);
        shown.then(|| if times { ts[last] as f64 / 1000.0 } else { vs[last] })
    };
    if let Some(at) = selector.at {
        let reference = at.saturating_sub(selector.offset);
        if let Some(v) = visible(ts.partition_point(|&t| t <= reference), reference) {
            values.fill(v);
            bits::fill(present, grid.len);
        }
        return;
    }
    let mut next = 0;
    let mut reference = grid.start.saturating_sub(selector.offset);
    for (step, slot) in values.iter_mut().enumerate() {
        while next < ts.len() && ts[next] <= reference {
            next += 1;
        }
        if let Some(v) = visible(next, reference) {
            *slot = v;
            bits::set(present, step);
        }
        reference = reference.saturating_add(grid.step);
    }
}

impl RangeSource {
    fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        grid: Grid,
        i: usize,
        scratch: &mut Scratch,
        values: &mut [f64],
        present: &mut [u64],
    ) -> Result<(), Error> {
        self.samples_into(ctx, i, scratch)?;
        let Scratch { batch, range, .. } = scratch;
        if !batch.is_empty() {
            let seen = range::apply(self.func, batch, self.span, grid, &self.params, range, values, present)?;
            ctx.stats.queryable.fetch_add(seen, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The samples of series `i` that the windows see, into `scratch.batch`.
    pub(crate) fn samples_into(&self, ctx: &Ctx<'_>, i: usize, scratch: &mut Scratch) -> Result<(), Error> {
        scratch.batch.clear();
        match &self.input {
            RangeInput::Select(select) => {
                ctx.selected[*select].samples_into(i, self.needed, &mut scratch.batch)?;
                ctx.stats.samples_read.fetch_add(scratch.batch.len(), Ordering::Relaxed);
                remove_stale(&mut scratch.batch);
            }
            RangeInput::Subquery { stream, .. } => {
                let grid = stream.grid;
                let inner = scratch.inner.get_or_insert_with(Box::default);
                scratch.values.clear();
                scratch.values.resize(grid.len, 0.0);
                scratch.present.clear();
                scratch.present.resize(grid.words(), 0);
                stream.fill_row(ctx, i, inner, &mut scratch.values, &mut scratch.present)?;
                for step in bits::ones(&scratch.present) {
                    scratch.batch.push(grid.time(step), scratch.values[step]);
                }
            }
        }
        Ok(())
    }
}

/// Removes stale markers in place.
fn remove_stale(batch: &mut SampleBatch) {
    if !batch.vs.iter().any(|&v| is_stale(v)) {
        return;
    }
    let mut kept = 0;
    for i in 0..batch.len() {
        if !is_stale(batch.vs[i]) {
            batch.ts[kept] = batch.ts[i];
            batch.vs[kept] = batch.vs[i];
            kept += 1;
        }
    }
    batch.ts.truncate(kept);
    batch.vs.truncate(kept);
}

impl RowOp {
    fn apply(&self, grid: Grid, values: &mut [f64], present: &mut [u64]) {
        match self {
            Self::Negate => values.iter_mut().for_each(|v| *v = -*v),
            Self::StepTimes => {
                for (step, v) in values.iter_mut().enumerate() {
                    *v = grid.time(step) as f64 / 1000.0;
                }
            }
            Self::Map { func, params } => math::map_row(*func, params, values, present),
            Self::Binary { op, scalar, scalar_left, return_bool } => {
                math::scalar_row(*op, scalar, *scalar_left, *return_bool, values, present);
            }
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
