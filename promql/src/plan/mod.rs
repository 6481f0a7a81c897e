//! The plan of a query: the tree with every time, window, parameter and function resolved.
//!
//! Built once per query from the checked tree; holds no data. Evaluation only reads it.
//!
//! Compat: prometheus `promql/engine.go`, `PreprocessExpr`, `populateSeries` (3.14).

mod build;
pub(crate) mod duration;

use std::sync::Arc;

use model::{Matcher, TimeRange, Timestamp};

pub(crate) use build::{STEP_DEPENDENT, Scope, build};

use crate::annotations::Place;
use crate::parse::ast::{AggregateOp, BinaryOp, Span, VectorMatching};

/// What evaluation walks.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    /// What is asked from the store, each distinct set of matchers once.
    pub(crate) selects: Vec<Select>,
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
}

/// The window of a range vector at a step: `(ref - range, ref]`.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) input: Input,
    pub(crate) range: i64,
    pub(crate) at: Option<Timestamp>,
    pub(crate) offset: i64,
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
pub(crate) enum ScalarFn {
    MinOf,
    MaxOf,
}
