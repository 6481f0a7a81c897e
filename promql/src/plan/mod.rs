//! The plan of a query: the tree with every time, window, parameter and function resolved.
//!
//! Built once per query from the checked tree; holds no data. Evaluation only reads it.
//!
//! Compat: prometheus `promql/engine.go`, `PreprocessExpr`, `populateSeries` (3.14).

mod build;
pub(crate) mod duration;
pub(crate) mod explain;
pub(crate) mod passes;

use std::sync::Arc;

use model::{Matcher, TimeRange, Timestamp};

pub(crate) use build::{STEP_DEPENDENT, Scope, build};

use crate::annotations::Place;
use crate::parse::ast::{AggregateOp, BinaryOp, Boundary, Span, VectorMatching};

/// What evaluation walks.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    /// What is asked from the store, for each selector; the passes join equal ones.
    pub(crate) selects: Vec<Select>,
    pub(crate) strategy: Strategy,
    /// The hull of what `info()` selects while the query runs.
    pub(crate) info_range: Option<TimeRange>,
}

/// What `info()` looks for, and when.
#[derive(Debug)]
pub(crate) struct InfoSelector {
    /// `None` without a second argument.
    pub(crate) matchers: Option<Vec<Matcher>>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) offset: i64,
    pub(crate) range: TimeRange,
}

/// How to evaluate, where there is a choice that no result shows. All off in a plain plan.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strategy {
    /// Aggregations add rows as they are computed.
    pub(crate) fuses_aggregations: bool,
    /// What is small is computed on the thread of the query.
    pub(crate) inlines_small: bool,
}

/// What a node consists of, as far as passes are concerned.
#[derive(Default)]
pub(crate) struct Parts<'p> {
    /// In the order of evaluation.
    pub(crate) children: Vec<&'p mut Node>,
    /// Indices into [`Plan::selects`].
    pub(crate) selects: Vec<&'p mut usize>,
}

#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) matchers: Vec<Matcher>,
    /// The hull of all windows that use it.
    pub(crate) range: TimeRange,
}

#[derive(Debug)]
pub(crate) enum Node {
    Const(f64),
    Str(Arc<[u8]>),
    /// Evaluated at the first step, the value copied to all.
    Invariant(Box<Node>),
    Selector(Selector),
    /// `timestamp(selector)`: the times of the selected samples.
    SelectorTimes(Selector),
    /// `start_timestamp(selector)`: since when the selected samples count.
    SelectorStarts(Selector),
    /// A range vector as the result of the query.
    Window(Window),
    RangeFn {
        func: RangeFn,
        window: Window,
        params: Vec<Node>,
        /// Shown is the first argument; see [`Window::span`].
        place: Place,
        /// Shown is the window.
        window_place: Place,
        /// Of the window's own argument.
        keep_name: bool,
    },
    AbsentOverTime {
        window: Window,
        labels: model::Labels,
    },
    Absent {
        arg: Box<Node>,
        labels: model::Labels,
    },
    Map {
        func: MapFn,
        arg: Box<Node>,
        params: Vec<Node>,
    },
    /// `timestamp(expr)` of anything but a selector: the time of the step.
    StepTimes(Box<Node>),
    /// `time()`.
    Time,
    /// `scalar(v)`.
    ToScalar(Box<Node>),
    /// `vector(s)`.
    ToVector(Box<Node>),
    ScalarFn {
        func: ScalarFn,
        lhs: Box<Node>,
        rhs: Box<Node>,
    },
    Sort {
        arg: Box<Node>,
        descending: bool,
        place: Place,
    },
    SortByLabel {
        arg: Box<Node>,
        labels: Vec<Arc<[u8]>>,
        descending: bool,
        place: Place,
    },
    LabelReplace {
        arg: Box<Node>,
        dst: Arc<[u8]>,
        replacement: Arc<[u8]>,
        src: Arc<[u8]>,
        regex: model::Regex,
    },
    LabelJoin {
        arg: Box<Node>,
        dst: Arc<[u8]>,
        separator: Arc<[u8]>,
        sources: Vec<Arc<[u8]>>,
    },
    /// `histogram_quantile`; with `label` set `histogram_quantiles`.
    Quantiles {
        arg: Box<Node>,
        quantiles: Vec<(Node, Place)>,
        label: Option<Arc<[u8]>>,
        /// Shown is the vector.
        place: Place,
    },
    Fraction {
        arg: Box<Node>,
        lower: Box<Node>,
        upper: Box<Node>,
        /// Shown is the vector.
        place: Place,
    },
    /// A function of native histograms; floats yield nothing.
    HistogramFn {
        func: HistogramFn,
        arg: Box<Node>,
    },
    Info {
        arg: Box<Node>,
        selector: InfoSelector,
    },
    /// A function of native histograms only: floats yield nothing.
    NothingOf(Box<Node>),
    Negate(Box<Node>),
    ScalarBinary {
        op: BinaryOp,
        lhs: Box<Node>,
        rhs: Box<Node>,
    },
    VectorScalar {
        op: BinaryOp,
        vector: Box<Node>,
        scalar: Box<Node>,
        scalar_left: bool,
        return_bool: bool,
        place: Place,
    },
    Join {
        op: BinaryOp,
        lhs: Box<Node>,
        rhs: Box<Node>,
        matching: VectorMatching,
        return_bool: bool,
        place: Place,
    },
    SetOp {
        op: BinaryOp,
        lhs: Box<Node>,
        rhs: Box<Node>,
        matching: VectorMatching,
    },
    Aggregate {
        op: AggregateOp,
        arg: Box<Node>,
        param: Option<Box<Node>>,
        /// Shown is the parameter.
        param_place: Place,
        /// Shown is the operand.
        arg_place: Place,
        grouping: Grouping,
    },
}

impl Node {
    /// The parts of this node, not those of its children.
    pub(crate) fn parts_mut(&mut self) -> Parts<'_> {
        let mut parts = Parts::default();
        match self {
            Self::Const(_) | Self::Str(_) | Self::Time => {}
            Self::Selector(selector) | Self::SelectorTimes(selector) | Self::SelectorStarts(selector) => {
                parts.selects.push(&mut selector.select);
            }
            Self::Window(window) | Self::AbsentOverTime { window, labels: _ } => parts.add_window(window),
            Self::RangeFn { func: _, window, params, place: _, window_place: _, keep_name: _ } => {
                parts.children.extend(params);
                parts.add_window(window);
            }
            Self::Invariant(arg)
            | Self::StepTimes(arg)
            | Self::ToScalar(arg)
            | Self::ToVector(arg)
            | Self::HistogramFn { arg, func: _ }
            | Self::Info { arg, selector: _ }
            | Self::NothingOf(arg)
            | Self::Negate(arg)
            | Self::Absent { arg, labels: _ }
            | Self::Sort { arg, descending: _, place: _ }
            | Self::SortByLabel { arg, labels: _, descending: _, place: _ }
            | Self::LabelReplace { arg, dst: _, replacement: _, src: _, regex: _ }
            | Self::LabelJoin { arg, dst: _, separator: _, sources: _ } => parts.children.push(arg),
            Self::Map { func: _, arg, params } => {
                parts.children.push(arg);
                parts.children.extend(params);
            }
            Self::ScalarFn { func: _, lhs, rhs }
            | Self::ScalarBinary { op: _, lhs, rhs }
            | Self::Join { op: _, lhs, rhs, matching: _, return_bool: _, place: _ }
            | Self::SetOp { op: _, lhs, rhs, matching: _ } => parts.children.extend([&mut **lhs, &mut **rhs]),
            Self::Quantiles { arg, quantiles, label: _, place: _ } => {
                parts.children.extend(quantiles.iter_mut().map(|(q, _)| q));
                parts.children.push(arg);
            }
            Self::Fraction { arg, lower, upper, place: _ } => {
                parts.children.extend([&mut **lower, &mut **upper, &mut **arg]);
            }
            Self::VectorScalar { op: _, vector, scalar, scalar_left: _, return_bool: _, place: _ } => {
                parts.children.extend([&mut **scalar, &mut **vector]);
            }
            Self::Aggregate { op: _, arg, param, param_place: _, arg_place: _, grouping: _ } => {
                parts.children.extend(param.as_deref_mut());
                parts.children.push(arg);
            }
        }
        parts
    }
}

impl<'p> Parts<'p> {
    fn add_window(&mut self, window: &'p mut Window) {
        match &mut window.input {
            Input::Select(select) => self.selects.push(select),
            Input::Subquery { expr, step: _ } => self.children.push(expr),
        }
    }
}

/// `by (..)` or `without (..)`; the labels sorted and unique.
#[derive(Clone, Debug)]
pub(crate) struct Grouping {
    pub(crate) labels: Vec<Arc<[u8]>>,
    pub(crate) without: bool,
}

/// Where an instant selector looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selector {
    /// Index into [`Plan::selects`].
    pub(crate) select: usize,
    pub(crate) at: Option<Timestamp>,
    pub(crate) offset: i64,
    /// Whether values are taken from the line between the samples before and behind.
    pub(crate) smoothed: bool,
    /// Whether counts and sums of histograms are all that is wanted.
    pub(crate) stats_only: bool,
    pub(crate) span: Span,
}

/// The window of a range vector at a step: `(ref - range, ref]`.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) input: Input,
    pub(crate) range: i64,
    pub(crate) at: Option<Timestamp>,
    pub(crate) offset: i64,
    pub(crate) boundary: Option<Boundary>,
    /// Whether counts and sums of histograms are all that is wanted.
    pub(crate) stats_only: bool,
    /// Why the function that is to read this cannot, which it says when it is evaluated.
    pub(crate) refused: Option<Box<str>>,
    /// Of the argument as upstream reports it: a subquery is always at the start of the text.
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) enum Input {
    /// Index into [`Plan::selects`].
    Select(usize),
    Subquery {
        expr: Box<Node>,
        step: i64,
    },
}

impl Window {
    /// The time at which a window ends that is asked for at `t`.
    pub(crate) fn reference(&self, t: Timestamp) -> Timestamp {
        self.at.unwrap_or(t).saturating_sub(self.offset)
    }
}

/// Functions of the samples of one series in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Changes,
    Resets,
    Count,
    Present,
    Last,
    First,
    Sum,
    Avg,
    Min,
    Max,
    Stddev,
    Stdvar,
    Mad,
    TsOfMin,
    TsOfMax,
    TsOfFirst,
    TsOfLast,
    Quantile,
    Deriv,
    PredictLinear,
    Smoothing,
}

/// Functions of one float, with scalar parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapFn {
    Abs,
    Ceil,
    Floor,
    Exp,
    Sqrt,
    Ln,
    Log2,
    Log10,
    Sgn,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Deg,
    Rad,
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
    Month,
    Year,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistogramFn {
    Count,
    Sum,
    Avg,
    Stddev,
    Stdvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarFn {
    MinOf,
    MaxOf,
}
