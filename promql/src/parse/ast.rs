//! The tree of an expression, every node with the byte range it was written in.
//!
//! Holds what the user wrote and nothing that evaluation derives: no resolved times, no plan.
//! A tree may be higher than a stack allows to recurse: [`Expr::walk`] visits it, and dropping takes it apart node
//! by node. Cloning and comparing do recurse.
//!
//! Compat: prometheus `promql/parser/ast.go`.

use std::fmt;
use std::sync::Arc;

use model::Matcher;

/// A range of bytes in the query text, `end` outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// What an expression yields. Displays as the documented name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Number(NumberLiteral),
    String(StringLiteral),
    /// An instant vector selector.
    Vector(VectorSelector),
    /// A range vector selector.
    Matrix(MatrixSelector),
    Subquery(Subquery),
    Call(Call),
    Aggregate(Aggregate),
    Binary(Binary),
    Unary(Unary),
    Paren(Paren),
}

#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    pub value: f64,
    /// Written as a duration (`5m`), which only printing remembers.
    pub is_duration: bool,
    pub span: Span,
}

/// The unquoted bytes, which may be invalid UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    pub value: Arc<[u8]>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name written before the braces; empty if none. Its matcher is the last of `matchers`.
    pub name: Arc<[u8]>,
    pub matchers: Vec<Matcher>,
    pub modifiers: Modifiers,
    /// `anchored` or `smoothed`, of which at most one is set.
    pub boundary: Option<Boundary>,
    pub span: Span,
}

/// `anchored` and `smoothed` of extended range selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    Anchored,
    Smoothed,
}

/// `offset` and `@`, shared by selectors and subqueries.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Modifiers {
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

/// The operand of `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Time(i64),
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub range: DurationExpr,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Box<Expr>,
    pub range: DurationExpr,
    /// `None` for the default step.
    pub step: Option<DurationExpr>,
    pub modifiers: Modifiers,
    pub span: Span,
}

/// The arithmetic of durations: `[5m]`, `[1h / 2]`, `offset -(step() * 3)`.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// Seconds; `is_duration` as in [`NumberLiteral`].
    Literal(NumberLiteral),
    Step(Span),
    Range(Span),
    Unary {
        op: DurationOp,
        operand: Box<DurationExpr>,
        span: Span,
    },
    Binary {
        op: DurationOp,
        lhs: Box<DurationExpr>,
        rhs: Box<DurationExpr>,
        span: Span,
    },
    MinOf {
        lhs: Box<DurationExpr>,
        rhs: Box<DurationExpr>,
        span: Span,
    },
    MaxOf {
        lhs: Box<DurationExpr>,
        rhs: Box<DurationExpr>,
        span: Span,
    },
    Paren(Box<DurationExpr>, Span),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// An entry of the function table.
    pub func: &'static super::functions::Function,
    pub args: Vec<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Box<Expr>,
    /// The parameter of `topk`, `quantile`, `count_values` and their kin.
    pub param: Option<Box<Expr>>,
    pub grouping: Vec<Arc<[u8]>>,
    pub without: bool,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Box<Expr>,
    pub rhs: Box<Expr>,
    /// `bool` was written.
    pub return_bool: bool,
    /// Between two vectors always set after the check, else `None`.
    pub matching: Option<VectorMatching>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `</`
    TrimUpper,
    /// `>/`
    TrimLower,
    And,
    Or,
    Unless,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub card: Cardinality,
    /// The labels of `on (..)` or `ignoring (..)`.
    pub labels: Vec<Arc<[u8]>>,
    pub on: bool,
    /// The labels of `group_left (..)` or `group_right (..)`.
    pub include: Vec<Arc<[u8]>>,
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// `-x` and `+x` of anything but a number literal, into which the sign is folded.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    pub negative: bool,
    pub expr: Box<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    pub expr: Box<Expr>,
    pub span: Span,
}

impl ValueType {
    /// The name inside the program and in JSON; [`fmt::Display`] gives the documented one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Scalar | Self::String => self.as_str(),
        })
    }
}

impl AggregateOp {
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::CountValues,
        Self::Quantile,
        Self::Limitk,
        Self::LimitRatio,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the parameter before the operand, if the operator takes one.
    pub const fn param_type(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }

    /// Whether the operator needs `--enable-feature=promql-experimental-functions`.
    pub const fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

impl BinaryOp {
    pub const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Pow,
        Self::Atan2,
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Gt,
        Self::Ge,
        Self::TrimUpper,
        Self::TrimLower,
        Self::And,
        Self::Or,
        Self::Unless,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// The operators that filter, or answer 0 and 1 with `bool`; the trim operators are arithmetic.
    pub const fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }

    /// The operators that cut histograms.
    pub const fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }

    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl Cardinality {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

impl DurationOp {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }
}

impl DurationExpr {
    /// As upstream reports it: parentheses around an expression are not part of its range.
    pub fn span(&self) -> Span {
        match self {
            Self::Literal(literal) => literal.span,
            Self::Step(span)
            | Self::Range(span)
            | Self::Unary { span, .. }
            | Self::Binary { span, .. }
            | Self::MinOf { span, .. }
            | Self::MaxOf { span, .. }
            | Self::Paren(_, span) => *span,
        }
    }

    /// The length in nanoseconds, rounded, if it was written as a plain literal.
    /// Compat: upstream keeps literals as `time.Duration`.
    pub fn literal_ns(&self) -> Option<i64> {
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "the parser refuses what is out of range")]
            Self::Literal(literal) => Some(match (literal.value * 1e9).round() {
                // What upstream's conversion yields on the processors it mostly runs on.
                ns if ns.is_nan() => i64::MIN,
                ns => ns as i64,
            }),
            _ => None,
        }
    }
}

impl Expr {
    pub fn span(&self) -> Span {
        match self {
            Self::Number(e) => e.span,
            Self::String(e) => e.span,
            Self::Vector(e) => e.span,
            Self::Matrix(e) => e.span,
            Self::Subquery(e) => e.span,
            Self::Call(e) => e.span,
            Self::Aggregate(e) => e.span,
            Self::Binary(e) => e.span,
            Self::Unary(e) => e.span,
            Self::Paren(e) => e.span,
        }
    }

    /// What the expression yields; meaningful for a checked tree.
    pub fn value_type(&self) -> ValueType {
        let mut expr = self;
        loop {
            return match expr {
                Self::Number(_) => ValueType::Scalar,
                Self::String(_) => ValueType::String,
                Self::Binary(e) if e.is_scalar() => ValueType::Scalar,
                Self::Vector(_) | Self::Aggregate(_) | Self::Binary(_) => ValueType::Vector,
                Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
                Self::Call(e) => e.func.return_type,
                Self::Unary(e) => {
                    expr = &e.expr;
                    continue;
                }
                Self::Paren(e) => {
                    expr = &e.expr;
                    continue;
                }
            };
        }
    }

    /// Visits the expression and all that is in it, each node before its parts and these in the order of the text.
    pub fn walk<'e>(&'e self, mut visit: impl FnMut(&'e Self)) {
        let mut pending = vec![self];
        while let Some(expr) = pending.pop() {
            visit(expr);
            let first = pending.len();
            expr.for_each_part(|part| pending.push(part));
            pending[first..].reverse();
        }
    }

    /// How many nodes lie on the longest way from this one to a leaf, both counted.
    pub fn height(&self) -> usize {
        let (mut pending, mut highest) = (vec![(self, 1)], 0);
        while let Some((expr, height)) = pending.pop() {
            highest = highest.max(height);
            expr.for_each_part(|part| pending.push((part, height + 1)));
        }
        highest
    }

    /// The nodes right below this one.
    fn for_each_part<'e>(&'e self, mut take: impl FnMut(&'e Self)) {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => {}
            Self::Subquery(e) => take(&e.expr),
            Self::Call(e) => e.args.iter().for_each(take),
            Self::Aggregate(e) => {
                e.param.as_deref().into_iter().for_each(&mut take);
                take(&e.expr);
            }
            Self::Binary(e) => {
                take(&e.lhs);
                take(&e.rhs);
            }
            Self::Unary(e) => take(&e.expr),
            Self::Paren(e) => take(&e.expr),
        }
    }

    /// What takes the place of a part that was taken out.
    const fn nothing() -> Self {
        Self::Number(NumberLiteral { value: 0.0, is_duration: false, span: Span { start: 0, end: 0 } })
    }

    /// Moves what has parts of its own to the list of what is yet to be dropped.
    fn bury(&mut self, pending: &mut Vec<Self>) {
        if !matches!(self, Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_)) {
            pending.push(std::mem::replace(self, Self::nothing()));
        }
    }

    fn bury_parts(&mut self, pending: &mut Vec<Self>) {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(_) => {}
            Self::Subquery(e) => e.expr.bury(pending),
            Self::Call(e) => e.args.iter_mut().for_each(|arg| arg.bury(pending)),
            Self::Aggregate(e) => {
                e.expr.bury(pending);
                e.param.iter_mut().for_each(|param| param.bury(pending));
            }
            Self::Binary(e) => {
                e.lhs.bury(pending);
                e.rhs.bury(pending);
            }
            Self::Unary(e) => e.expr.bury(pending),
            Self::Paren(e) => e.expr.bury(pending),
        }
    }

    /// Drops a list of trees, none of which finds parts to recurse into.
    fn drop_all(mut pending: Vec<Self>) {
        while let Some(mut expr) = pending.pop() {
            expr.bury_parts(&mut pending);
        }
    }
}

impl Binary {
    /// Whether both operands are scalars. In a checked tree only operators between vectors have a matching.
    fn is_scalar(&self) -> bool {
        if self.matching.is_some() {
            return false;
        }
        let mut pending: Vec<&Expr> = vec![&self.lhs, &self.rhs];
        while let Some(expr) = pending.pop() {
            match expr {
                Expr::Binary(e) if e.matching.is_some() => return false,
                Expr::Binary(e) => pending.extend([&*e.lhs, &*e.rhs]),
                Expr::Unary(e) => pending.push(&e.expr),
                Expr::Paren(e) => pending.push(&e.expr),
                other if other.value_type() == ValueType::Scalar => {}
                _ => return false,
            }
        }
        true
    }
}

// Without these a tree would be dropped by recursion. A tree of leaves only costs no list.

impl Drop for Subquery {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.expr.bury(&mut pending);
        Expr::drop_all(pending);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.args.iter_mut().for_each(|arg| arg.bury(&mut pending));
        Expr::drop_all(pending);
    }
}

impl Drop for Aggregate {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.expr.bury(&mut pending);
        self.param.iter_mut().for_each(|param| param.bury(&mut pending));
        Expr::drop_all(pending);
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.lhs.bury(&mut pending);
        self.rhs.bury(&mut pending);
        Expr::drop_all(pending);
    }
}

impl Drop for Unary {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.expr.bury(&mut pending);
        Expr::drop_all(pending);
    }
}

impl Drop for Paren {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.expr.bury(&mut pending);
        Expr::drop_all(pending);
    }
}
