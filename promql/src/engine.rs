//! The engine: from a text and a store to a result, inside limits.
//!
//! One engine serves all queries of a process. Ad-hoc ones and rules have a lane each, with a pool of threads and a gate on
//! concurrency of its own, so that rules are on time whatever people ask; the limits are the same. It is synchronous; a caller with an event loop calls it from a thread.
//!
//! Compat: prometheus `promql/engine.go`, `Engine`, `NewInstantQuery`, `NewRangeQuery` (3.14).

mod metrics;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use model::storage::{Queryable, SelectHints};
use model::{AnyHistogram, FloatHistogram, Labels, Position, Sample, SampleBatch, TimeRange, Timestamp};
use parking_lot::{Condvar, Mutex};

use crate::annotations::Annotations;
pub use crate::exec::budget::CancelFlag;
use crate::exec::budget::{Budget, Charge, Total, now};
use crate::exec::column::{Block, Grid, Scalars, Series, bits};
use crate::exec::costs::Costs;
use crate::exec::profile::Profile;
use crate::exec::{Ctx, Equals, Output, Selected, duplicates, is_metadata, sample_of, unify_block};
use crate::parse::ast::{Expr, ValueType};
use crate::parse::{self, ParseError, Parser};
use crate::plan::passes::{self, Passes};
use crate::plan::{self, Node, Plan, Scope};

/// Memory that a query may reserve per sample it may hold: values, times, state of an aggregation.
const BYTES_PER_SAMPLE: usize = 32;

/// Memory that figures of a step take: two counters, the pair of them, and what is told.
const BYTES_PER_TOLD_STEP: usize = 4 * size_of::<usize>() + size_of::<StepStats>();

/// A small limit on samples still leaves this much for tables.
const BYTES_MIN: usize = 64 << 20;

/// Series that one worker takes at a time.
const MORSEL_ROWS: usize = 64;

/// A tree higher than this is evaluated on a thread with a stack of its own.
const HEIGHT_INLINE_MAX: usize = 64;

/// Room for each level of such a tree, several times what it takes. Pages that are not used cost nothing.
const DEEP_STACK_BYTES_PER_LEVEL: usize = if cfg!(debug_assertions) { 256 << 10 } else { 32 << 10 };

/// How long a query in the queue sleeps before it looks at its cancellation again.
const QUEUE_POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How far an instant selector looks back; 0 for the default of 5 minutes.
    pub lookback_delta: Duration,
    /// The longest that a query may take, waiting for its turn included.
    pub timeout: Duration,
    /// The most samples that a query may hold at once.
    pub max_samples: usize,
    /// The most bytes that all queries may hold together.
    pub max_total_bytes: usize,
    /// The most queries that run at once; 0 for no limit.
    pub max_concurrency: usize,
    /// Threads that work on queries; 0 for one per core.
    pub threads: usize,
    pub features: Features,
    /// Which rewrites make plans cheaper. No result depends on it.
    pub passes: Passes,
}

/// What is switched on, named as upstream's flags.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    pub parser: parse::Options,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `promql-per-step-stats`
    pub per_step_stats: bool,
    /// `use-start-timestamps`
    pub start_timestamps: bool,
    /// `type-and-unit-labels`: the label `__type__` says what is a counter, not the name.
    pub type_and_unit_labels: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_delta: DEFAULT_LOOKBACK,
            timeout: Duration::from_mins(2),
            max_samples: 50_000_000,
            max_total_bytes: usize::MAX,
            max_concurrency: 20,
            threads: 0,
            features: Features::default(),
            passes: Passes::ALL,
        }
    }
}

/// Upstream's default of `--query.lookback-delta`.
pub const DEFAULT_LOOKBACK: Duration = Duration::from_mins(5);

/// What a caller may change for one query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// Instead of the engine's, if it is not zero.
    pub lookback_delta: Option<Duration>,
    /// At most the engine's.
    pub timeout: Option<Duration>,
    pub cancel: CancelFlag,
    pub lane: Lane,
    pub detail: Detail,
    /// Told to the [`Observer`].
    pub origin: Option<Origin>,
}

/// Where a query waits and works. Neither lane ever waits for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    #[default]
    AdHoc,
    Rules,
}

/// How much [`Stats`] tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    #[default]
    Totals,
    /// Every operator, and every step if [`Features::per_step_stats`] is set; costs time.
    All,
}

/// Who asked a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Http {
        client: String,
        method: String,
        path: String,
        /// What the client tells of the place where the answer is shown, by name.
        shown_in: Vec<(&'static str, String)>,
    },
    Rules {
        file: String,
        group: String,
    },
}

/// Hears of queries: the way to logs, which the engine knows nothing of.
pub trait Observer: Send + Sync {
    /// A query has its turn. What is returned is dropped when it is over.
    fn begun(&self, text: &str) -> Box<dyn Send + '_>;

    /// Whether [`Observer::ended`] is of use now.
    fn listens(&self) -> bool;

    /// A query is over, however it ended.
    fn ended(&self, query: &Ended<'_>);
}

/// A query that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'q> {
    pub text: &'q str,
    pub range: RangeParams,
    pub origin: Option<&'q Origin>,
    pub stats: &'q Stats,
    pub error: Option<&'q Error>,
    /// From the question to the answer, waiting for a turn included.
    pub took: Duration,
}

/// The steps of a range query: `start`, `start + step_ms` and so on, not beyond `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeParams {
    pub start: Timestamp,
    pub end: Timestamp,
    pub step_ms: i64,
}

#[derive(Clone, Debug)]
pub struct QueryResult {
    pub value: Value,
    pub annotations: Annotations,
    pub stats: Stats,
    /// To be kept as long as the value.
    pub held: Held,
}

/// The memory of a result, on the account of all queries until the last copy of this is dropped.
#[derive(Clone, Debug)]
pub struct Held(#[expect(dead_code, reason = "gives back what it holds when it is dropped")] Arc<Charge>);

/// Costs of a query.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The samples that selectors and windows saw, at every step anew.
    pub total_queryable_samples: usize,
    /// The same, each sample of overlapping windows once.
    pub samples_read: usize,
    /// The most that were held at once.
    pub peak_samples: usize,
    /// Spent waiting for a turn.
    pub queue_time: Duration,
    /// Spent finding series.
    pub prepare_time: Duration,
    /// Spent evaluating, without the sorting.
    pub eval_time: Duration,
    /// Spent sorting the result of a range query.
    pub sort_time: Duration,
    /// If asked for.
    pub steps: Vec<StepStats>,
    /// If asked for: the operators of the plan, the root first, each before its operands.
    pub operators: Vec<OperatorStats>,
}

/// What one step saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepStats {
    pub t: Timestamp,
    pub queryable_samples: usize,
    pub samples_read: usize,
}

/// What one operator took.
#[derive(Clone, Debug)]
pub struct OperatorStats {
    /// As an explained plan shows it.
    pub operator: String,
    /// Below the root.
    pub depth: usize,
    /// Operands included, summed over all threads.
    pub time: Duration,
    pub series: usize,
    pub samples: usize,
    /// Of memory that it held when it was done.
    pub bytes: usize,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Sample),
    String { t: Timestamp, value: Arc<[u8]> },
    Vector(Vec<VectorSample>),
    Matrix(Vec<MatrixSeries>),
}

#[derive(Clone, Debug)]
pub struct VectorSample {
    pub labels: Labels,
    pub t: Timestamp,
    pub value: SampleValue,
}

/// What one sample of an instant vector holds.
#[derive(Clone, Debug)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// One series of a matrix. All its histograms have float counts.
#[derive(Clone, Debug)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub samples: SampleBatch,
}

/// Why there is no result. Displays upstream's text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Parsed, but of a type that the kind of query does not allow, or with a duration that comes out as none.
    #[error("{0}")]
    InvalidType(String),
    /// Holds where the query was.
    #[error("query timed out in {0}")]
    Timeout(String),
    #[error("query was canceled in {0}")]
    Canceled(String),
    #[error("query processing would load too many samples into memory in {0}")]
    TooManySamples(String),
    /// The query, or all queries together, would need more memory than they may.
    #[error("{0}")]
    TooManyBytes(String),
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Storage(String),
    /// A defect of the engine.
    #[error("{0}")]
    Internal(String),
}

/// See the module's page.
pub struct Engine {
    options: EngineOptions,
    ad_hoc: Way,
    rules: Way,
    observer: OnceLock<Arc<dyn Observer>>,
    total: Arc<Total>,
    metrics: metrics::Metrics,
    default_subquery_step_ms: AtomicI64,
    morsel_rows: usize,
    inline_work_max: Option<usize>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.options)
            .field("threads", &self.ad_hoc.threads)
            .finish_non_exhaustive()
    }
}

impl model::memory::Holder for Engine {
    fn memory(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("queries", self.total.bytes() as u64);
    }
}

impl Engine {
    pub fn new(mut options: EngineOptions) -> Self {
        if options.lookback_delta.is_zero() {
            options.lookback_delta = DEFAULT_LOOKBACK;
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores() } else { options.threads };
        Self {
            metrics: metrics::Metrics::default(),
            total: Total::new(options.max_total_bytes),
            ad_hoc: Way::new("promql", threads, options.max_concurrency),
            rules: Way::new("promql-rules", threads.div_ceil(2), options.max_concurrency),
            observer: OnceLock::new(),
            options,
            default_subquery_step_ms: AtomicI64::new(60_000),
            morsel_rows: MORSEL_ROWS,
            inline_work_max: None,
        }
    }

    /// Makes every query parallel, in morsels of `rows`: what tests need to see that nothing depends on it.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_morsels_of(mut self, rows: usize) -> Self {
        self.morsel_rows = rows.max(1);
        self.inline_work_max = Some(0);
        self
    }

    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Tells `observer` of queries from now on; the first one stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A second one has nobody to hear for.
        let _ = self.observer.set(observer);
    }

    fn way(&self, lane: Lane) -> &Way {
        match lane {
            Lane::AdHoc => &self.ad_hoc,
            Lane::Rules => &self.rules,
        }
    }

    /// Sets the step of subqueries that name none; the server's `evaluation_interval`.
    pub fn set_default_subquery_step(&self, step: Duration) {
        self.default_subquery_step_ms.store(millis(step).max(1), Ordering::Relaxed);
    }

    /// Parses `text` with the engine's switches.
    ///
    /// # Errors
    /// The text is no expression.
    pub fn parse(&self, text: &str) -> Result<Expr, Error> {
        Ok(Parser::new(self.options.features.parser).parse(text)?)
    }

    /// Evaluates `text` at `t`.
    ///
    /// # Errors
    /// The text is no expression, or its evaluation failed; see [`Error`].
    pub fn instant_query(
        &self,
        storage: &dyn Queryable,
        text: &str,
        t: Timestamp,
        opts: &QueryOptions,
    ) -> Result<QueryResult, Error> {
        let range = RangeParams { start: t, end: t, step_ms: 0 };
        self.guarded(storage, &self.parse(text)?, Some(text), range, opts)
    }

    /// Evaluates `text` at every step of `range`.
    ///
    /// # Errors
    /// As [`Engine::instant_query`].
    pub fn range_query(
        &self,
        storage: &dyn Queryable,
        text: &str,
        range: RangeParams,
        opts: &QueryOptions,
    ) -> Result<QueryResult, Error> {
        self.range(storage, &self.parse(text)?, Some(text), range, opts)
    }

    /// Evaluates an expression at `t`: rules hold them parsed.
    ///
    /// # Errors
    /// As [`Engine::instant_query`], but for the parsing.
    pub fn instant_expr(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        t: Timestamp,
        opts: &QueryOptions,
    ) -> Result<QueryResult, Error> {
        self.guarded(storage, expr, None, RangeParams { start: t, end: t, step_ms: 0 }, opts)
    }

    /// Evaluates an expression at every step of `range`.
    ///
    /// # Errors
    /// As [`Engine::range_query`], but for the parsing.
    pub fn range_expr(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        range: RangeParams,
        opts: &QueryOptions,
    ) -> Result<QueryResult, Error> {
        self.range(storage, expr, None, range, opts)
    }

    fn range(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        text: Option<&str>,
        range: RangeParams,
        opts: &QueryOptions,
    ) -> Result<QueryResult, Error> {
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Vector | ValueType::Scalar) {
            return Err(Error::InvalidType(format!(
                "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            )));
        }
        self.guarded(storage, expr, text, RangeParams { step_ms: range.step_ms.max(1), ..range }, opts)
    }

    /// The plan of a query as text, and what the passes did to it; nothing is evaluated.
    ///
    /// # Errors
    /// As [`Engine::range_query`], as far as they show without a store.
    pub fn explain(&self, text: &str, range: RangeParams, opts: &QueryOptions) -> Result<String, Error> {
        let expr = self.parse(text)?;
        on_deep_stack(&expr, || {
            let (mut plan, outcomes) = self.plan(&expr, range, self.lookback(opts))?;
            Ok(plan::explain::text(&mut plan, &outcomes))
        })
    }

    /// Runs a query and tells the observer of it.
    fn guarded(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        text: Option<&str>,
        range: RangeParams,
        opts: &QueryOptions,
    ) -> Result<QueryResult, Error> {
        let _current = self.metrics.begin();
        let Some(observer) = self.observer.get() else {
            return self.queued(storage, expr, range, opts, || ());
        };
        let text = text.map_or_else(|| Cow::Owned(expr.to_string()), Cow::Borrowed);
        let began = Instant::now();
        let result = self.queued(storage, expr, range, opts, || observer.begun(&text));
        if observer.listens() {
            let none = Stats::default();
            observer.ended(&Ended {
                text: &text,
                range,
                origin: opts.origin.as_ref(),
                stats: result.as_ref().map_or(&none, |result| &result.stats),
                error: result.as_ref().err(),
                took: began.elapsed(),
            });
        }
        result
    }

    /// Runs a query behind the gate of its lane, on a stack that is deep enough; a panic becomes an error. What `begin`
    /// returns lives as long as the query has its turn.
    fn queued<T>(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        range: RangeParams,
        opts: &QueryOptions,
        begin: impl FnOnce() -> T,
    ) -> Result<QueryResult, Error> {
        let started = now();
        let timeout = opts.timeout.unwrap_or(self.options.timeout).min(self.options.timeout);
        let deadline =
            started.checked_add(timeout).unwrap_or_else(|| started + Duration::from_hours(24 * 365));
        let turn = self.way(opts.lane).gate.enter(deadline, &opts.cancel);
        let queue_time = started.elapsed();
        self.metrics.queued(queue_time);
        let _turn = turn?;
        let _begun = begin();
        let run = || {
            catch_unwind(AssertUnwindSafe(|| self.run(storage, expr, range, opts, deadline))).unwrap_or_else(
                |panic| Err(Error::Internal(format!("unexpected error: {}", text_of(&*panic)))),
            )
        };
        let mut result = on_deep_stack(expr, run)?;
        result.stats.queue_time = queue_time;
        self.metrics.ended(&result.stats, range.step_ms > 0);
        Ok(result)
    }

    /// The plan of a query and what the passes did to it.
    fn plan(
        &self,
        expr: &Expr,
        range: RangeParams,
        lookback: i64,
    ) -> Result<(Plan, Vec<passes::Outcome>), Error> {
        let scope = Scope {
            start: range.start,
            end: range.end,
            step: range.step_ms,
            lookback,
            default_subquery_step: self.default_subquery_step_ms.load(Ordering::Relaxed),
            start_timestamps: self.options.features.start_timestamps,
            stats_only: true,
        };
        let mut plan = plan::build(expr, scope)?;
        let outcomes = passes::run(&mut plan, self.options.passes);
        Ok((plan, outcomes))
    }

    fn lookback(&self, opts: &QueryOptions) -> i64 {
        let lookback = opts.lookback_delta.filter(|l| !l.is_zero()).unwrap_or(self.options.lookback_delta);
        millis(lookback).max(1)
    }

    fn run(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        range: RangeParams,
        opts: &QueryOptions,
        deadline: Instant,
    ) -> Result<QueryResult, Error> {
        let prepared = now();
        let lookback = self.lookback(opts);
        let (mut plan, _) = self.plan(expr, range, lookback)?;
        let samples_max = self.options.max_samples;
        let bytes_max = samples_max.saturating_mul(BYTES_PER_SAMPLE).max(BYTES_MIN);
        let total = Arc::clone(&self.total);
        let budget = Budget::new(deadline, opts.cancel.clone(), samples_max, bytes_max, total, opts.lane);
        budget.check()?;
        let (querier, selected) = select(storage, &plan, range.step_ms)?;
        let grid = if range.step_ms == 0 {
            Grid { start: range.start, step: 1, len: 1 }
        } else {
            let steps = range.end.saturating_sub(range.start).div_euclid(range.step_ms).saturating_add(1);
            let step = if range.start == range.end { 1 } else { range.step_ms };
            Grid { start: range.start, step, len: usize::try_from(steps).unwrap_or(0) }
        };
        let wants_all = opts.detail == Detail::All;
        let wants_steps = wants_all && self.options.features.per_step_stats && grid.len > 0;
        let told_bytes = if wants_steps { grid.len.saturating_mul(BYTES_PER_TOLD_STEP) } else { 0 };
        let told = budget.charge(told_bytes)?;
        let way = self.way(opts.lane);
        let mut ctx = Ctx {
            selected,
            querier,
            budget,
            pool: way.pool.as_ref(),
            threads: way.threads,
            morsel_rows: self.morsel_rows,
            inline_work_max: self.inline_work_max.or((!plan.strategy.inlines_small).then_some(0)),
            strategy: plan.strategy,
            lookback,
            delayed_name_removal: self.options.features.delayed_name_removal,
            operands_first: false,
            start_timestamps: self.options.features.start_timestamps,
            type_and_unit_labels: self.options.features.type_and_unit_labels,
            instant: range.step_ms == 0,
            annotations: Mutex::default(),
            spares: crate::exec::Spares::default(),
            costs: if wants_steps { Costs::per_step(grid.len) } else { Costs::default() },
            profile: wants_all.then(Profile::default),
        };
        let evaluated = now();
        let mut value = match assemble(&ctx, &plan.root, grid) {
            Err(found @ Error::Execution(_)) => return Err(first_error(&mut ctx, &plan.root, grid, found)),
            assembled => assembled?,
        };
        let sorted = now();
        if let Value::Matrix(matrix) = &mut value {
            matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        let Ctx { costs, budget, profile, annotations, .. } = ctx;
        let mut held = budget.charge(weight(&value))?;
        held.absorb(told);
        let step_of = |(step, (queryable_samples, samples_read))| StepStats {
            t: grid.time(step),
            queryable_samples,
            samples_read,
        };
        let stats = Stats {
            total_queryable_samples: costs.queryable(),
            samples_read: costs.read(),
            peak_samples: budget.samples_peak(),
            queue_time: Duration::ZERO,
            prepare_time: evaluated - prepared,
            eval_time: sorted - evaluated,
            sort_time: sorted.elapsed(),
            steps: costs.steps().into_iter().enumerate().map(step_of).collect(),
            operators: profile.map_or_else(Vec::new, |profile| profile.report(&mut plan)),
        };
        Ok(QueryResult { value, annotations: annotations.into_inner(), stats, held: Held(Arc::new(held)) })
    }
}

fn histogram_bytes(histogram: &AnyHistogram) -> usize {
    let samples = match histogram {
        AnyHistogram::Float(histogram) => histogram.size_in_samples(),
        // None is: results have float counts.
        AnyHistogram::Int(histogram) => histogram.to_float().size_in_samples(),
    };
    samples * size_of::<Sample>()
}

/// The bytes of a result, labels left out: they are shared with the store.
fn weight(value: &Value) -> usize {
    match value {
        Value::Scalar(_) | Value::String { .. } => 0,
        Value::Vector(samples) => samples.len() * size_of::<VectorSample>(),
        Value::Matrix(series) => series
            .iter()
            .map(|MatrixSeries { samples, .. }| {
                samples.ts.len() * size_of::<Sample>()
                    + samples
                        .histograms
                        .iter()
                        .map(|sample| histogram_bytes(&sample.histogram))
                        .sum::<usize>()
            })
            .sum(),
    }
}

/// What was found, and the view that keeps it alive; none for an expression without selectors.
type Fetched = (Option<Box<dyn model::storage::Querier>>, Vec<Selected>);

/// Asks the store for every set of matchers of the plan, once.
fn select(storage: &dyn Queryable, plan: &Plan, step_ms: i64) -> Result<Fetched, Error> {
    let hull = plan
        .selects
        .iter()
        .map(|s| s.range)
        .chain(plan.info_range)
        .reduce(|a, b| TimeRange::new(a.mint.min(b.mint), a.maxt.max(b.maxt)));
    let Some(hull) = hull else {
        return Ok((None, Vec::new()));
    };
    let failed = |e: model::storage::Error| Error::Storage(e.to_string());
    let querier = storage.querier(hull).map_err(failed)?;
    let mut selected = Vec::with_capacity(plan.selects.len());
    for select in &plan.selects {
        let hints = SelectHints { range: Some(select.range), step_ms, ..SelectHints::default() };
        let set = querier
            .select(&select.matchers, &hints)
            .map_err(|e| Error::Storage(format!("expanding series: {e}")))?;
        selected.push(Selected::new(set));
    }
    Ok((Some(querier), selected))
}

/// The error that the query fails with, whatever was `found` first: rows are computed in parallel and as late as can be,
/// but every operand shall have its say before the operator above it, from left to right, as upstream.
fn first_error<'q>(ctx: &mut Ctx<'q>, root: &'q Node, grid: Grid, found: Error) -> Error {
    ctx.operands_first = true;
    ctx.pool = None;
    match assemble(ctx, root, grid) {
        Err(first @ Error::Execution(_)) => first,
        // Limits and deadlines are told apart from what is wrong with the query.
        _ => found,
    }
}

/// Evaluates the root and gives the result its shape.
fn assemble(ctx: &Ctx<'_>, root: &Node, grid: Grid) -> Result<Value, Error> {
    if let Node::Window(window) = root {
        let mut all = Vec::new();
        for (series, samples) in ctx.raw_windows(window, grid)? {
            all.push(MatrixSeries { labels: final_labels(&series), samples });
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        return merged(all).map(Value::Matrix);
    }
    let block = match ctx.eval(root, grid)? {
        Output::Text(value) => return Ok(Value::String { t: grid.start, value }),
        Output::Scalars(scalars) if ctx.instant => {
            return Ok(Value::Scalar(Sample { t: grid.start, v: scalars.at(0) }));
        }
        Output::Scalars(scalars) => {
            let _result = ctx.budget.charge(grid.len.saturating_mul(size_of::<Sample>()))?;
            return Ok(Value::Matrix(scalar_matrix(&scalars, grid)));
        }
        Output::Stream(stream) => stream.collect(ctx)?,
    };
    let mut block = with_final_labels(ctx, block)?;
    let _result = ctx.budget.charge(block.weight().saturating_mul(size_of::<Sample>()))?;
    if ctx.instant {
        let sample = |row: usize| VectorSample {
            labels: block.series[row].labels.clone(),
            t: grid.start,
            value: match block.histograms(row).get(0) {
                Some(histogram) => SampleValue::Histogram(Arc::clone(histogram)),
                None => SampleValue::Float(block.values(row)[0]),
            },
        };
        return Ok(Value::Vector((0..block.len()).map(sample).collect()));
    }
    let matrix = (0..block.len())
        .map(|row| {
            let mut samples = floats_of(&block, row);
            let histograms = std::mem::take(&mut block.histograms[row]).into_points();
            samples.histograms = histograms.map(|(step, h)| sample_of(grid.time(step), h)).collect();
            MatrixSeries { labels: block.series[row].labels.clone(), samples }
        })
        .collect();
    Ok(Value::Matrix(matrix))
}

/// The floats of a row with their times.
fn floats_of(block: &Block, row: usize) -> SampleBatch {
    let (grid, values, present) = (block.grid, block.values(row), block.present(row));
    let mut samples = SampleBatch::default();
    let points = bits::count(present);
    samples.ts.reserve_exact(points);
    samples.vs.reserve_exact(points);
    // Most rows have all steps, or gaps of many.
    for run in bits::runs(present) {
        samples.ts.extend(run.clone().map(|step| grid.time(step)));
        samples.vs.extend_from_slice(&values[run]);
    }
    samples
}

fn final_labels(series: &Series) -> Labels {
    if series.drop_name { series.labels.without(is_metadata) } else { series.labels.clone() }
}

/// Removes the names that are marked for it, after which no two series may have equal labels.
fn with_final_labels(ctx: &Ctx<'_>, mut block: Block) -> Result<Block, Error> {
    let drops_any = block.series.iter().any(|s| s.drop_name);
    if !drops_any && !ctx.delayed_name_removal {
        return Ok(block);
    }
    for series in &mut block.series {
        series.labels = final_labels(series);
        series.drop_name = false;
    }
    unify_block(&mut block, Equals::Merge)?;
    Ok(block)
}

/// Merges neighbours with equal labels, unless they have samples at the same time.
fn merged(sorted: Vec<MatrixSeries>) -> Result<Vec<MatrixSeries>, Error> {
    let mut out: Vec<MatrixSeries> = Vec::with_capacity(sorted.len());
    for series in sorted {
        match out.last_mut() {
            Some(last) if last.labels == series.labels => {
                let points = |batch: &SampleBatch| batch.len() + batch.histograms.len();
                let before = points(&last.samples) + points(&series.samples);
                last.samples.merge_from(Position::default(), &series.samples);
                if points(&last.samples) < before {
                    return Err(duplicates());
                }
            }
            _ => out.push(series),
        }
    }
    Ok(out)
}

fn scalar_matrix(scalars: &Scalars, grid: Grid) -> Vec<MatrixSeries> {
    let mut samples = SampleBatch::default();
    for step in 0..grid.len {
        samples.push(grid.time(step), scalars.at(step));
    }
    vec![MatrixSeries { labels: Labels::empty(), samples }]
}

/// Calls `work` with room enough for a recursion over `expr`.
fn on_deep_stack<T: Send>(expr: &Expr, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let height = expr.height();
    if height <= HEIGHT_INLINE_MAX {
        return work();
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("promql-deep".to_owned())
            .stack_size(height * DEEP_STACK_BYTES_PER_LEVEL);
        let thread = builder
            .spawn_scoped(scope, work)
            .map_err(|e| Error::Internal(format!("unexpected error: no thread for a deep query: {e}")))?;
        thread.join().unwrap_or_else(|panic| Err(Error::Internal(text_of(&*panic).to_owned())))
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    match panic.downcast_ref::<&str>() {
        Some(text) => text,
        None => panic.downcast_ref::<String>().map_or("panic", String::as_str),
    }
}

/// Where the queries of one lane wait, and the threads that help them.
struct Way {
    gate: Gate,
    /// `None` with one thread: the queries run on their callers' threads.
    pool: Option<rayon::ThreadPool>,
    threads: usize,
}

impl Way {
    fn new(name: &'static str, threads: usize, max_concurrency: usize) -> Self {
        // Without a pool a query is slower but never wrong.
        let build = || {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |i| format!("{name}-{i}"))
                .build()
                .ok()
        };
        let pool = if threads > 1 { build() } else { None };
        let gate = Gate { max: max_concurrency, running: Mutex::new(0), freed: Condvar::new() };
        Self { gate, threads: if pool.is_some() { threads } else { 1 }, pool }
    }
}

/// Lets so many queries run at once; the others wait in line, as long as their time allows.
struct Gate {
    max: usize,
    running: Mutex<usize>,
    freed: Condvar,
}

struct Turn<'a>(&'a Gate);

impl Gate {
    fn enter(&self, deadline: Instant, cancel: &CancelFlag) -> Result<Turn<'_>, Error> {
        let mut running = self.running.lock();
        loop {
            if cancel.is_canceled() {
                return Err(Error::Canceled("query queue".to_owned()));
            }
            if self.max == 0 || *running < self.max {
                *running += 1;
                return Ok(Turn(self));
            }
            let now = now();
            if now >= deadline {
                return Err(Error::Timeout("query queue".to_owned()));
            }
            self.freed.wait_for(&mut running, QUEUE_POLL.min(deadline - now));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
