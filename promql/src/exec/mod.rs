//! Evaluation of a plan: every node over all steps at once.
//!
//! The one match from node to operator is [`Ctx::eval`]. Chains that work on single series, and joins that are
//! settled for all steps, stay streams of rows; aggregations and rankings fold rows as they come; sorts and joins
//! whose partners change collect blocks.
//!
//! Compat: prometheus `promql/engine.go`, `evaluator` (3.14).

pub(crate) mod aggregate;
pub(crate) mod budget;
pub(crate) mod calendar;
pub(crate) mod column;
pub(crate) mod costs;
mod distribution;
mod element;
mod histogram;
mod info;
mod join;
mod labels;
pub(crate) mod math;
mod order;
pub(crate) mod profile;
mod range;
mod ranked;
mod sets;
mod spares;
mod stats_only;
mod stream;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use model::storage::SeriesSet;
use model::{Detail, Labels, SampleBatch, TimeRange};
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::annotations::{Annotation, Annotations, Place};
use crate::engine::Error;
use crate::parse::ast::{AggregateOp, BinaryOp};
use crate::plan::{Grouping, Input, Node, RangeFn, ScalarFn, Strategy, Window};
use budget::Budget;
use column::{Block, Grid, Row, Scalars, Series, bits};
use costs::Costs;
use join::Join;
use profile::Profile;
use range::remarks::Notes;
pub(crate) use spares::Spares;
pub(crate) use stream::{Equals, duplicates, is_metadata, sample_of, unify_block};
use stream::{Note, Pick, RangeInput, RangeSource, RowOp, Samples, Source, Stream};

/// What a node yields.
#[expect(clippy::large_enum_variant, reason = "there is one per node, and it is taken apart at once")]
pub(crate) enum Output {
    Scalars(Scalars),
    Stream(Stream),
    Text(Arc<[u8]>),
}

/// What all operators of one query share.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Ctx<'q> {
    pub(crate) selected: Vec<Selected>,
    /// The view of the store, for what cannot be selected before the query runs; `None` without selectors.
    pub(crate) querier: Option<Box<dyn model::storage::Querier>>,
    pub(crate) budget: Arc<Budget>,
    /// `None` with one thread: everything runs where it is called.
    pub(crate) pool: Option<&'q rayon::ThreadPool>,
    pub(crate) threads: usize,
    /// Series that one worker takes at a time.
    pub(crate) morsel_rows: usize,
    pub(crate) inline_work_max: Option<usize>,
    pub(crate) strategy: Strategy,
    pub(crate) lookback: i64,
    pub(crate) delayed_name_removal: bool,
    /// Whether operands are computed entirely before what is done with them, so that the first error is the one that is
    /// told. Set once the query has failed.
    pub(crate) operands_first: bool,
    /// Whether start times of samples count.
    pub(crate) start_timestamps: bool,
    /// Whether the label `__type__` says what is a counter.
    pub(crate) type_and_unit_labels: bool,
    pub(crate) instant: bool,
    pub(crate) annotations: Mutex<Annotations>,
    pub(crate) costs: Costs,
    /// Memory of histograms, from worker to worker.
    pub(crate) spares: Spares,
    /// `None` where nobody asked.
    pub(crate) profile: Option<Profile>,
}

/// The answer of the store to one select.
pub(crate) struct Selected {
    set: Box<dyn SeriesSet>,
    labels: OnceLock<Vec<Labels>>,
}

impl Selected {
    pub(crate) fn new(set: Box<dyn SeriesSet>) -> Self {
        Self { set, labels: OnceLock::new() }
    }

    fn series(&self) -> Vec<Series> {
        let labels = self.labels.get_or_init(|| (0..self.set.len()).map(|i| self.set.labels(i)).collect());
        labels.iter().map(|labels| Series { labels: labels.clone(), drop_name: false }).collect()
    }

    fn samples_into(
        &self,
        i: usize,
        range: TimeRange,
        detail: Detail,
        out: &mut Samples,
    ) -> Result<(), Error> {
        let Samples { floats, histograms } = out;
        told(self.set.points_into(i, range, detail, floats, histograms))
    }

    /// As [`Selected::samples_into`], where only the last sample is asked for.
    fn last_into(&self, i: usize, range: TimeRange, out: &mut Samples) -> Result<(), Error> {
        told(self.set.last_into(i, range, &mut out.floats))?;
        out.histograms.take_from(&mut out.floats.histograms);
        Ok(())
    }
}

/// A failure of the store as a query tells of it.
fn told(result: Result<(), model::storage::Error>) -> Result<(), Error> {
    result.map_err(|e| Error::Storage(format!("expanding series: {e}")))
}

impl<'q> Ctx<'q> {
    pub(crate) fn annotate(&self, annotation: Annotation) {
        self.annotations.lock().add(annotation);
    }

    /// Evaluates `node` at every step of `grid`.
    pub(crate) fn eval(&self, node: &'q Node, grid: Grid) -> Result<Output, Error> {
        let output = match &self.profile {
            None => self.eval_node(node, grid),
            Some(profile) => profile.measure(self, node, || self.eval_node(node, grid)),
        };
        match output? {
            Output::Stream(stream) if self.operands_first || stream.is_deep() => {
                Ok(Output::Stream(Stream::of_block(stream.collect(self)?)))
            }
            output => Ok(output),
        }
    }

    fn eval_node(&self, node: &'q Node, grid: Grid) -> Result<Output, Error> {
        self.budget.check()?;
        Ok(Output::Stream(match node {
            Node::Const(v) => return Ok(Output::Scalars(Scalars::Const(*v))),
            Node::Str(text) => return Ok(Output::Text(Arc::clone(text))),
            Node::Time => {
                let times = (0..grid.len).map(|step| grid.time(step) as f64 / 1000.0);
                return Ok(Output::Scalars(Scalars::steps(&self.budget, times)?));
            }
            Node::ToScalar(arg) => return Ok(Output::Scalars(self.to_scalar(arg, grid)?)),
            Node::ScalarBinary { op, lhs, rhs } => {
                let (lhs, rhs) = (self.scalars(lhs, grid)?, self.scalars(rhs, grid)?);
                if op.is_trim() {
                    let text = format!("operator \"{}\" not allowed for Scalar operations", op.as_str());
                    return Err(Error::Execution(text));
                }
                let f = |a, b| math::scalar_binary(*op, a, b);
                return Ok(Output::Scalars(lhs.zip(&rhs, &self.budget, f)?));
            }
            Node::ScalarFn { func, lhs, rhs } => {
                let (lhs, rhs) = (self.scalars(lhs, grid)?, self.scalars(rhs, grid)?);
                let f = match func {
                    ScalarFn::MinOf => math::go_min,
                    ScalarFn::MaxOf => math::go_max,
                };
                return Ok(Output::Scalars(lhs.zip(&rhs, &self.budget, f)?));
            }
            Node::Negate(arg) => match self.eval(arg, grid)? {
                Output::Scalars(scalars) => return Ok(Output::Scalars(scalars.map(&self.budget, |v| -v)?)),
                Output::Text(text) => return Ok(Output::Text(text)),
                Output::Stream(mut stream) => {
                    stream.ops.push(RowOp::Negate);
                    stream.drop_names(self);
                    if self.delayed_name_removal { stream } else { stream.unify(self, Equals::Merge)? }
                }
            },
            Node::Invariant(inner) => match (self.costs.mark(), self.eval(inner, grid.first_step())?) {
                (mark, Output::Scalars(scalars)) if grid.len > 0 => {
                    self.costs.repeat(mark, grid.len);
                    return Ok(Output::Scalars(Scalars::Const(scalars.at(0))));
                }
                (mark, Output::Stream(stream)) if grid.len > 1 => {
                    let block = stream.collect(self)?;
                    self.costs.repeat(mark, grid.len);
                    let series = block.series.clone();
                    Stream { series, grid, source: Source::Broadcast(block), ops: Vec::new(), notes: None }
                }
                // It may have been asked for at one step of a range, which is no instant.
                (_, Output::Stream(stream)) => Stream { grid, ..stream },
                (_, other) => return Ok(other),
            },
            Node::Selector(selector) => self.instant(*selector, Pick::Value, grid),
            Node::SelectorTimes(selector) | Node::SelectorStarts(selector) => {
                let is_start = matches!(node, Node::SelectorStarts(_));
                let pick = if is_start { Pick::Start } else { Pick::Time };
                let mut stream = self.instant(*selector, pick, grid);
                stream.drop_names(self);
                stream.unify_after_operator(self)?
            }
            Node::Window(_) => {
                return Err(Error::Internal("unexpected error: a range vector as operand".to_owned()));
            }
            Node::RangeFn { func, window, params, place, window_place, keep_name } => {
                self.range_fn(*func, window, params, (*place, *window_place), *keep_name, grid)?
            }
            Node::Absent { arg, labels } => {
                let stream = self.stream(arg, grid)?;
                self.absent(&stream, labels)?
            }
            Node::AbsentOverTime { window, labels } => {
                let stream = self.windows(RangeFn::Present, window, Vec::new(), grid)?;
                self.absent(&stream, labels)?
            }
            Node::Map { func, arg, params } => {
                let mut stream = self.stream(arg, grid)?;
                let params = params.iter().map(|p| self.scalars(p, grid)).collect::<Result<_, _>>()?;
                stream.ops.push(RowOp::Map { func: *func, params });
                stream.drop_names(self);
                stream.unify_after_operator(self)?
            }
            Node::StepTimes(arg) => {
                let mut stream = self.stream(arg, grid)?;
                stream.ops.push(RowOp::StepTimes);
                stream.drop_names(self);
                stream.unify_after_operator(self)?
            }
            Node::ToVector(arg) => {
                let scalars = self.scalars(arg, grid)?;
                let series = vec![Series { labels: Labels::empty(), drop_name: false }];
                Stream::of_block(self.compute_block(series, grid, 1, |_, row| {
                    row.values.iter_mut().enumerate().for_each(|(step, v)| *v = scalars.at(step));
                    bits::fill(row.present, grid.len);
                    Ok(())
                })?)
            }
            Node::Sort { arg, descending, place } => {
                let mut stream = self.stream(arg, grid)?;
                stream.ops.push(RowOp::FloatsOnly);
                self.sorted(stream, *place, |block, rows| {
                    let worse: fn(f64, f64) -> bool = if *descending { |a, b| a < b } else { |a, b| a > b };
                    ranked::sort_rows(block, rows, worse);
                })?
            }
            Node::SortByLabel { arg, labels, descending, place } => {
                let stream = self.stream(arg, grid)?;
                self.sorted(stream, *place, |block, rows| {
                    rows.sort_by(|&a, &b| {
                        let (a, b) = (&block.series[a].labels, &block.series[b].labels);
                        let order = labels::compare_by(labels, a, b);
                        if *descending { order.reverse() } else { order }
                    });
                })?
            }
            Node::LabelReplace { arg, dst, replacement, src, regex } => {
                let mut stream = self.stream(arg, grid)?;
                labels::replace(&mut stream.series, dst, replacement, src, regex);
                stream.unify(self, Equals::Merge)?
            }
            Node::LabelJoin { arg, dst, separator, sources } => {
                let mut stream = self.stream(arg, grid)?;
                labels::join(&mut stream.series, dst, separator, sources);
                stream.unify(self, Equals::Merge)?
            }
            Node::Quantiles { arg, quantiles, label, place } => {
                self.quantiles(arg, quantiles, label.as_deref(), *place, grid)?
            }
            Node::Fraction { arg, lower, upper, place } => {
                self.fractions(arg, (lower, upper), *place, grid)?
            }
            Node::HistogramFn { func, arg } => {
                let mut stream = self.stream(arg, grid)?;
                stream.ops.push(RowOp::OfHistograms(*func));
                stream.drop_only_names(self);
                stream.unify_after_operator(self)?
            }
            Node::Info { arg, selector } => {
                let base = self.stream(arg, grid)?.collect(self)?;
                info::run(self, &base, selector)?
            }
            Node::NothingOf(arg) => {
                self.stream(arg, grid)?.collect(self)?;
                Stream::of_block(Block::empty(grid))
            }
            Node::VectorScalar { op, vector, scalar, scalar_left, return_bool, place } => {
                let (scalar, stream) = if *scalar_left {
                    let scalar = self.scalars(scalar, grid)?;
                    (scalar, self.stream(vector, grid)?)
                } else {
                    let stream = self.stream(vector, grid)?;
                    (self.scalars(scalar, grid)?, stream)
                };
                self.vector_scalar(*op, stream, scalar, *scalar_left, *return_bool, *place)?
            }
            Node::Join { op, lhs, rhs, matching, return_bool, place } => {
                let (lhs, rhs) = (self.stream(lhs, grid)?, self.stream(rhs, grid)?);
                let join = Join { op: *op, matching, return_bool: *return_bool, place: *place };
                join.run(self, lhs, rhs)?.unify_after_operator(self)?
            }
            Node::SetOp { op, lhs, rhs, matching } => {
                let (lhs, rhs) = (self.stream(lhs, grid)?, self.stream(rhs, grid)?);
                sets::run(self, *op, lhs, rhs, matching)?.unify_after_operator(self)?
            }
            Node::Aggregate { op, arg, param, param_place, arg_place, grouping } => {
                let places = (*param_place, *arg_place);
                self.aggregate(*op, arg, param.as_deref(), places, grouping, grid)?
            }
        }))
    }

    fn scalars(&self, node: &'q Node, grid: Grid) -> Result<Scalars, Error> {
        match self.eval(node, grid)? {
            Output::Scalars(scalars) => Ok(scalars),
            _ => Err(Error::Internal("unexpected error: a scalar was expected".to_owned())),
        }
    }

    pub(crate) fn stream(&self, node: &'q Node, grid: Grid) -> Result<Stream, Error> {
        match self.eval(node, grid)? {
            Output::Stream(stream) => Ok(stream),
            _ => Err(Error::Internal("unexpected error: a vector was expected".to_owned())),
        }
    }

    fn instant(&self, selector: crate::plan::Selector, pick: Pick, grid: Grid) -> Stream {
        let series = self.selected[selector.select].series();
        let notes = (selector.smoothed && pick == Pick::Value).then(|| {
            let place = Place::of(selector.span);
            Notes::new(&series, place, place, false)
        });
        Stream { series, grid, source: Source::Instant { selector, pick }, ops: Vec::new(), notes }
    }

    /// A range function's rows, with the labels of its input.
    fn windows(
        &self,
        func: RangeFn,
        window: &'q Window,
        params: Vec<Scalars>,
        grid: Grid,
    ) -> Result<Stream, Error> {
        if let Some(text) = &window.refused {
            return Err(Error::Execution(text.to_string()));
        }
        let (first, last) = (window.reference(grid.start), window.reference(grid.end()));
        let span = range::Span {
            range: window.range,
            offset: window.offset,
            at: window.at,
            boundary: window.boundary,
            lookback: self.lookback,
        };
        let (before, behind) = span.margins();
        let oldest = first.saturating_sub(window.range).saturating_sub(before).saturating_add(1);
        let needed = TimeRange::new(oldest, last.saturating_add(behind));
        let (series, input) = match &window.input {
            Input::Select(select) => (self.selected[*select].series(), RangeInput::Select(*select)),
            Input::Subquery { expr, step } => {
                let inner = subquery_grid(first, last, window.range, *step)?;
                let mut charge = self.charge_block(SUBQUERY_ROWS, inner)?;
                // Without a point nothing is evaluated, so nothing is said or refused either.
                let output = if inner.len == 0 {
                    Output::Stream(Stream::of_block(Block::empty(inner)))
                } else {
                    self.costs.inside(|| self.eval(expr, inner))?
                };
                let stream = match output {
                    Output::Stream(stream) => stream,
                    Output::Scalars(scalars) => self.constant(&scalars, inner)?,
                    Output::Text(_) => {
                        return Err(Error::Internal("unexpected error: a subquery over a string".to_owned()));
                    }
                };
                let more_workers = self.threads.min(stream.len()).saturating_sub(1);
                charge.absorb(self.charge_block(SUBQUERY_ROWS.saturating_mul(more_workers), inner)?);
                (stream.series.clone(), RangeInput::Subquery { stream: Box::new(stream), _rows: charge })
            }
        };
        let counts_from_start = self.start_timestamps
            && matches!(func, RangeFn::Rate | RangeFn::Increase | RangeFn::Irate | RangeFn::Resets);
        let stats_only = window.stats_only;
        let source = RangeSource { input, func, span, params, needed, counts_from_start, stats_only };
        Ok(Stream { series, grid, source: Source::Range(Box::new(source)), ops: Vec::new(), notes: None })
    }

    fn constant(&self, scalars: &Scalars, grid: Grid) -> Result<Stream, Error> {
        let series = vec![Series { labels: Labels::empty(), drop_name: false }];
        let block = self.compute_block(series, grid, 1, |_, row| {
            row.values.iter_mut().enumerate().for_each(|(step, v)| *v = scalars.at(step));
            bits::fill(row.present, grid.len);
            Ok(())
        })?;
        Ok(Stream::of_block(block))
    }

    fn range_fn(
        &self,
        func: RangeFn,
        window: &'q Window,
        params: &'q [Node],
        (place, window_place): (Place, Place),
        keep_name: bool,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let params: Vec<Scalars> = params.iter().map(|p| self.scalars(p, grid)).collect::<Result<_, _>>()?;
        let quantiles = (func == RangeFn::Quantile).then(|| params[0].clone());
        let mut stream = self.windows(func, window, params, grid)?;
        let mut notes = Notes::new(&stream.series, place, window_place, self.type_and_unit_labels);
        if let Some(quantiles) = quantiles {
            notes.watch_quantiles(&quantiles, grid.len);
        }
        stream.notes = Some(notes);
        if keep_name {
            return Ok(stream);
        }
        stream.drop_names(self);
        if self.delayed_name_removal { Ok(stream) } else { stream.unify(self, Equals::Refuse) }
    }

    fn absent(&self, stream: &Stream, labels: &Labels) -> Result<Stream, Error> {
        let grid = stream.grid;
        let all = Grouping { labels: Vec::new(), without: false };
        let any = aggregate::fold(self, AggregateOp::Group, stream, &all, Place::default())?;
        let series = vec![Series { labels: labels.clone(), drop_name: false }];
        let mut block = self.compute_block(series, grid, 1, |_, row| {
            row.values.fill(1.0);
            bits::fill(row.present, grid.len);
            if any.len() > 0 {
                row.present.iter_mut().zip(any.present(0)).for_each(|(out, seen)| *out &= !seen);
            }
            Ok(())
        })?;
        block.drop_empty_rows();
        Ok(Stream::of_block(block))
    }

    fn to_scalar(&self, arg: &'q Node, grid: Grid) -> Result<Scalars, Error> {
        let block = self.stream(arg, grid)?.collect(self)?;
        let only = |step: usize| {
            let mut found = (0..block.len()).filter_map(|row| block.get(row, step));
            match (found.next(), found.next()) {
                (Some(v), None) => v,
                _ => f64::NAN,
            }
        };
        Scalars::steps(&self.budget, (0..grid.len).map(only))
    }

    /// Orders the rows of an instant query; a range query is told that this has no effect.
    fn sorted(
        &self,
        stream: Stream,
        place: Place,
        arrange: impl Fn(&Block, &mut [usize]),
    ) -> Result<Stream, Error> {
        if !stream.grid.is_point() {
            self.annotate(Annotation::sort_in_range_query(place));
            return stream.unify_after_operator(self);
        }
        let block = stream.collect(self)?;
        let mut rows: Vec<usize> = (0..block.len()).collect();
        arrange(&block, &mut rows);
        Stream::of_block(ranked::reordered(self, &block, &rows)?).unify_after_operator(self)
    }

    fn vector_scalar(
        &self,
        op: BinaryOp,
        mut stream: Stream,
        scalar: Scalars,
        scalar_left: bool,
        return_bool: bool,
        place: Place,
    ) -> Result<Stream, Error> {
        if scalar_left && matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            return self.trimmed_scalar(op, stream, place);
        }
        // Only one kind of element is impossible, so that which is the last of a step does not matter.
        let is_trim = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let (lhs, rhs) = match (is_trim, scalar_left) {
            (true, _) => ("float", "float"),
            (false, true) => ("float", "histogram"),
            (false, false) => ("histogram", "float"),
        };
        let note = Note {
            raised: AtomicBool::new(false),
            annotation: Annotation::incompatible_types(lhs, op.as_str(), rhs, place),
        };
        stream.ops.push(RowOp::Binary { op, scalar, scalar_left, return_bool, note });
        if math::is_arithmetic(op) || return_bool {
            stream.drop_names(self);
        }
        stream.unify_after_operator(self)
    }

    /// A scalar cannot be trimmed: nothing comes out but a remark per step, on the last element.
    fn trimmed_scalar(&self, op: BinaryOp, stream: Stream, place: Place) -> Result<Stream, Error> {
        let grid = stream.grid;
        let block = stream.collect(self)?;
        let mut is_said = [false; 2];
        for step in 0..grid.len {
            if let Some(last) = (0..block.len()).rev().find(|&row| block.has(row, step)) {
                let is_float = block.get(last, step).is_some();
                let kind = if is_float { "float" } else { "histogram" };
                if !std::mem::replace(&mut is_said[usize::from(is_float)], true) {
                    self.annotate(Annotation::incompatible_types("float", op.as_str(), kind, place));
                }
            }
        }
        Ok(Stream::of_block(Block::empty(grid)))
    }

    fn aggregate(
        &self,
        op: AggregateOp,
        arg: &'q Node,
        param: Option<&'q Node>,
        (param_place, arg_place): (Place, Place),
        grouping: &'q Grouping,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let missing = || Error::Internal("unexpected error: an aggregation without its parameter".to_owned());
        let block = match op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                let param = self.scalars(param.ok_or_else(missing)?, grid)?;
                ranked::pick(self, op, &self.stream(arg, grid)?, &param, param_place, grouping)?
            }
            AggregateOp::Quantile => {
                let param = self.scalars(param.ok_or_else(missing)?, grid)?;
                let places = (param_place, arg_place);
                distribution::quantile(self, &self.stream(arg, grid)?, &param, places, grouping)?
            }
            AggregateOp::CountValues => {
                let Some(Node::Str(label)) = param else { return Err(missing()) };
                distribution::count_values(self, &self.stream(arg, grid)?, label, grouping)?
            }
            _ => {
                let mut stream = self.stream(arg, grid)?;
                if !self.strategy.fuses_aggregations {
                    stream = Stream::of_block(stream.collect(self)?);
                }
                aggregate::fold(self, op, &stream, grouping, arg_place)?
            }
        };
        Ok(Stream::of_block(block))
    }

    /// A block whose rows are computed apart from each other. `weight` is the work of a cell.
    fn compute_block(
        &self,
        series: Vec<Series>,
        grid: Grid,
        weight: usize,
        f: impl Fn(usize, Row<'_>) -> Result<(), Error> + Sync,
    ) -> Result<Block, Error> {
        type Columns<'r> = ((&'r mut [f64], &'r mut [u64]), &'r mut column::Histograms);
        let charge = self.charge_block(series.len(), grid)?;
        let mut block = Block::absent(series, grid, charge);
        if grid.len == 0 || block.len() == 0 {
            return Ok(Block::empty(grid));
        }
        let rows = block.len();
        let row = |(i, ((values, present), histograms)): (usize, Columns<'_>)| {
            if i % 64 == 0 {
                self.budget.check()?;
            }
            f(i, Row { values, present, histograms })
        };
        match self.pool {
            Some(pool) if rows > 1 && rows * grid.len * weight > self.inline_work_max.unwrap_or(20_000) => {
                pool.install(|| {
                    block
                        .values
                        .par_chunks_exact_mut(grid.len)
                        .zip(block.present.par_chunks_exact_mut(grid.words()))
                        .zip(block.histograms.par_iter_mut())
                        .enumerate()
                        .try_for_each(row)
                })?;
            }
            _ => {
                let columns =
                    block.values.chunks_exact_mut(grid.len).zip(block.present.chunks_exact_mut(grid.words()));
                columns.zip(&mut block.histograms).enumerate().try_for_each(row)?;
            }
        }
        let points = block.weight();
        if let Some(charge) = &mut block.charge {
            charge.add_samples(points)?;
        }
        block.drop_empty_rows();
        Ok(block)
    }

    /// The samples of a range vector that is the result of the query.
    pub(crate) fn raw_windows(
        &self,
        window: &'q Window,
        grid: Grid,
    ) -> Result<Vec<(Series, SampleBatch)>, Error> {
        let stream = self.windows(RangeFn::Last, window, Vec::new(), grid)?;
        let Source::Range(source) = &stream.source else {
            return Err(Error::Internal("unexpected error: windows without samples".to_owned()));
        };
        let mut out = Vec::new();
        let mut charge = self.budget.charge(0)?;
        let mut scratch = self.spares.scratch();
        for (i, series) in stream.series.iter().enumerate() {
            if i % 64 == 0 {
                self.budget.check()?;
            }
            source.samples_into(self, grid, i, &mut scratch)?;
            if let Some(boundary) = window.boundary {
                let end = window.reference(grid.start);
                let start = end.saturating_sub(window.range);
                let samples = std::mem::take(&mut scratch.samples);
                scratch.samples = range::boundary::extended(&samples, boundary, start, end)?;
            }
            if !scratch.samples.is_empty() {
                let weight = scratch.samples.weight();
                charge.add_samples(weight)?;
                if matches!(source.input, RangeInput::Select(_)) {
                    self.costs.taken(weight);
                }
                out.push((series.clone(), std::mem::take(&mut scratch.samples).into_batch()));
            }
        }
        stream.raise_notes(self)?;
        Ok(out)
    }
}

/// What each worker keeps of a subquery, in rows: the values at its steps, and those with their times as samples.
const SUBQUERY_ROWS: usize = 3;

/// The multiples of `step` in `(first - range, last]`.
fn subquery_grid(first: i64, last: i64, range: i64, step: i64) -> Result<Grid, Error> {
    let out_of_range = || Error::Execution("subquery out of the range of timestamps".to_owned());
    let before = first.checked_sub(range).ok_or_else(out_of_range)?;
    let start =
        before.div_euclid(step).checked_add(1).and_then(|n| n.checked_mul(step)).ok_or_else(out_of_range)?;
    let len = if start > last { 0 } else { last.checked_sub(start).ok_or_else(out_of_range)? / step + 1 };
    let step = if start == last { 1 } else { step };
    Ok(Grid { start, step, len: usize::try_from(len).map_err(|_| out_of_range())? })
}
