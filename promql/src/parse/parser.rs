//! Tokens to tree: precedence climbing with one token of lookahead.
//!
//! What is open around the current place stands in a list ([`Open`]), not on the stack of calls, so nesting costs
//! memory that [`HEIGHT_MAX`] bounds. Types are checked as nodes are made (see [`super::check`]).
//!
//! The first error wins, so its kind and place are upstream's only if errors arise in upstream's order:
//! the lookahead is read exactly where upstream's generated parser needs one to decide, and what an
//! unexpected token is said to stand in is the innermost construct ([`Context`]) that is still open.
//!
//! Compat: prometheus `promql/parser/generated_parser.y` and `parse.go`.

use std::sync::Arc;

use model::Matcher;
use model::duration;
use model::matcher::MatchOp;
use model::quote::go_quote;

use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Boundary, Call, Cardinality, DurationExpr, DurationOp,
    Expr, MatrixSelector, Modifiers, NumberLiteral, Paren, Span, StringLiteral, Subquery, Unary, ValueType,
    VectorMatching, VectorSelector,
};
use super::functions::Function;
use super::lex::{Keyword, Kind, Lexer, Preprocessor, Token, is_space};
use super::{
    DURATION_HEIGHT_MAX, DURATION_NESTING_MAX, HEIGHT_MAX, Options, ParseError, SUBQUERIES_MAX, check,
    functions, literal,
};

/// An error was recorded; there is nothing more to parse.
pub(super) struct Halt;

pub(super) type Parsed<T> = Result<T, Halt>;

/// The construct that an unexpected token is reported in, with what was expected there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    None,
    Aggregation,
    GroupingOpen,
    GroupingLabel,
    GroupingNext,
    MatcherFirst,
    MatcherOp,
    MatcherValue,
    MatcherNext,
    Offset,
    At,
    RangeStart,
    RangeEnd,
    StepStart,
    StepEnd,
    LabelFirst,
    LabelAssign,
    LabelValue,
    LabelNext,
    SeriesValues,
    SeriesWord,
    Histogram,
}

impl Context {
    /// The texts behind `in` and `expected`.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("", ""),
            Self::Aggregation => ("aggregation", ""),
            Self::GroupingOpen => ("grouping opts", "\"(\""),
            Self::GroupingLabel => ("grouping opts", "label"),
            Self::GroupingNext => ("grouping opts", "\",\" or \")\""),
            Self::MatcherFirst => ("label matching", "identifier or \"}\""),
            Self::MatcherOp => ("label matching", "label matching operator"),
            Self::MatcherValue => ("label matching", "string"),
            Self::MatcherNext => ("label matching", "\",\" or \"}\""),
            Self::Offset => ("offset", "number, duration, step(), or range()"),
            Self::At => ("@", "timestamp"),
            Self::RangeStart => ("subquery or range selector", "number, duration, step(), or range()"),
            Self::RangeEnd => ("subquery or range", "\":\" or \"]\""),
            Self::StepStart => ("subquery selector", "number, duration, step(), range(), or \"]\""),
            Self::StepEnd => ("subquery selector", "\"]\""),
            Self::LabelFirst => ("label set", "identifier or \"}\""),
            Self::LabelAssign => ("label set", "\"=\""),
            Self::LabelValue => ("label set", "string"),
            Self::LabelNext => ("label set", "\",\" or \"}\""),
            Self::SeriesValues => ("series values", ""),
            Self::SeriesWord => ("series values", "number or \"stale\""),
            Self::Histogram => ("histogram description", "histogram description key, e.g. buckets:[5 10 7]"),
        }
    }
}

/// A checked subtree, boxed since it is handed on many times before it finds its place.
struct Tree {
    expr: Box<Expr>,
    height: Height,
    ty: ValueType,
}

/// How much a tree holds in each other, which is limited.
#[derive(Clone, Copy, Default)]
struct Height {
    nodes: usize,
    subqueries: usize,
}

impl Height {
    const LEAF: Self = Self { nodes: 1, subqueries: 0 };

    fn max(self, other: Self) -> Self {
        let (nodes, subqueries) = (self.nodes.max(other.nodes), self.subqueries.max(other.subqueries));
        Self { nodes, subqueries }
    }
}

/// A construct that waits for the expression behind it.
enum Open {
    Paren(Span),
    Sign {
        negative: bool,
        start: u32,
    },
    /// An operator with its left operand.
    Binary {
        op: BinaryOp,
        modifiers: BinaryModifiers,
        lhs: Tree,
    },
    Call(OpenCall),
    Aggregate(OpenAggregate),
}

struct OpenCall {
    name: Token,
    func: Option<&'static Function>,
    args: Arguments,
}

struct OpenAggregate {
    op: AggregateOp,
    token: Token,
    modifier: Option<Grouping>,
    args: Arguments,
    /// To be restored behind it.
    context: Context,
}

/// What is known of the arguments so far, and the complaints about types kept apart for upstream's order.
#[derive(Default)]
struct Arguments {
    exprs: Vec<Expr>,
    height: Height,
    /// The complaint that stood before the construct began, which wins.
    before: Option<Box<check::Complaint>>,
    /// One for each argument, as soon as there is any.
    complaints: Vec<Option<Box<check::Complaint>>>,
}

struct DurationTree {
    expr: DurationExpr,
    height: usize,
}

/// `by (..)` or `without (..)`.
#[derive(Default)]
struct Grouping {
    without: bool,
    labels: Vec<Arc<[u8]>>,
}

/// What may stand between a binary operator and its right operand.
struct BinaryModifiers {
    return_bool: bool,
    matching: VectorMatching,
}

/// The level of `+` and `-` signs is that of `*`, so that only `^` binds tighter.
const SIGN_LEVEL: u8 = 5;
const POW_LEVEL: u8 = 6;

const fn level(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Lt
        | BinaryOp::Le
        | BinaryOp::Gt
        | BinaryOp::Ge
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => POW_LEVEL,
    }
}

/// The lowest level that a right operand may hold without parentheses: `^` alone is right-associative.
const fn right_level(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Pow => POW_LEVEL,
        op => level(op) + 1,
    }
}

const fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    match op {
        BinaryOp::Add => Some(DurationOp::Add),
        BinaryOp::Sub => Some(DurationOp::Sub),
        BinaryOp::Mul => Some(DurationOp::Mul),
        BinaryOp::Div => Some(DurationOp::Div),
        BinaryOp::Mod => Some(DurationOp::Mod),
        BinaryOp::Pow => Some(DurationOp::Pow),
        _ => None,
    }
}

fn merge(first: Span, last: Span) -> Span {
    Span { start: first.start, end: last.end }
}

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    options: Options,
    /// The token that was read but not consumed.
    ahead: Option<Token>,
    /// The token read last, consumed or not: what is "unexpected".
    last: Token,
    /// The end of the last token read that may close a node.
    last_closing: u32,
    context: Context,
    /// How many durations are open around the current one.
    depth: usize,
    error: Option<ParseError>,
    /// The first complaint about types, which counts if there is no error.
    complaint: Option<Box<check::Complaint>>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(lexer: Lexer<'a>, options: Options) -> Self {
        Self {
            lexer,
            options,
            ahead: None,
            last: Token { kind: Kind::Eof, span: Span::default() },
            last_closing: 0,
            context: Context::None,
            depth: 0,
            error: None,
            complaint: None,
        }
    }

    /// The recorded error; only to be asked after a [`Halt`] or at the end.
    pub(super) fn into_result<T>(self, parsed: Parsed<T>) -> Result<T, ParseError> {
        match (self.error, parsed) {
            (Some(error), _) => Err(error),
            (None, Ok(parsed)) => Ok(parsed),
            (None, Err(Halt)) => unreachable!("BUG: the parser halted without an error"),
        }
    }

    /// As [`Parser::into_result`], for an expression, whose types count too.
    pub(super) fn into_checked(mut self, parsed: Parsed<Expr>) -> Result<Expr, ParseError> {
        let (text, complaint) = (self.lexer.text(), self.complaint.take());
        let expr = self.into_result(parsed)?;
        match complaint {
            Some(complaint) => Err(ParseError::new(text, complaint.span, complaint.message)),
            None => Ok(expr),
        }
    }

    /// A whole expression up to the end of the input.
    pub(super) fn whole_expression(&mut self) -> Parsed<Expr> {
        if self.peek() == Kind::Eof {
            return self.fail(Span::default(), "no expression found in input");
        }
        let tree = self.expression()?;
        self.end_of_input()?;
        Ok(*tree.expr)
    }

    /// A single vector selector without modifiers up to the end of the input.
    pub(super) fn whole_selector(&mut self) -> Parsed<VectorSelector> {
        let selector = match self.peek() {
            Kind::LeftBrace => self.selector(None)?,
            kind if is_metric_name(kind) => {
                let name = self.advance();
                self.selector(Some(name))?
            }
            _ => return self.unexpected(),
        };
        self.end_of_input()?;
        Ok(selector)
    }

    pub(super) fn end_of_input(&mut self) -> Parsed<()> {
        match self.peek() {
            Kind::Eof => Ok(()),
            _ => self.unexpected(),
        }
    }

    // === Tokens and errors ===

    pub(super) fn peek(&mut self) -> Kind {
        if let Some(token) = self.ahead {
            return token.kind;
        }
        let token = self.lexer.token();
        self.ahead = Some(token);
        self.last = token;
        match token.kind {
            Kind::Error => {
                let message = std::mem::take(&mut self.lexer.error);
                self.record(token.span, message);
            }
            Kind::RightBrace | Kind::RightParen | Kind::RightBracket | Kind::Duration | Kind::Number => {
                self.last_closing = token.span.end;
            }
            _ => {}
        }
        token.kind
    }

    /// Consumes the next token.
    pub(super) fn advance(&mut self) -> Token {
        self.peek();
        self.ahead = None;
        self.last
    }

    pub(super) fn text(&self, span: Span) -> &'a str {
        &self.lexer.text()[span.start as usize..span.end as usize]
    }

    fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        if self.peek() == kind { Ok(self.advance()) } else { self.unexpected() }
    }

    /// Sets what is being parsed and returns what was, to be restored.
    pub(super) fn enter(&mut self, context: Context) -> Context {
        std::mem::replace(&mut self.context, context)
    }

    pub(super) fn leave(&mut self, outer: Context) {
        self.context = outer;
    }

    fn record(&mut self, span: Span, message: String) {
        if self.error.is_none() {
            self.error = Some(ParseError::new(self.lexer.text(), span, message));
        }
    }

    pub(super) fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Parsed<T> {
        self.record(span, message.into());
        Err(Halt)
    }

    /// Complains about the token read last, unless the scanner has complained already.
    pub(super) fn unexpected<T>(&mut self) -> Parsed<T> {
        let token = self.last;
        let mut message = format!("unexpected {}", self.describe(token));
        let (place, expected) = self.context.texts();
        if !place.is_empty() {
            message.push_str(" in ");
            message.push_str(place);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.fail(token.span, message)
    }

    fn describe(&self, token: Token) -> String {
        let text = self.text(token.span);
        match token.kind {
            Kind::Eof => "end of input".to_owned(),
            Kind::Keyword(_) => format!("<{text}>"),
            Kind::Op(_) | Kind::At | Kind::EqRegex | Kind::NeRegex => format!("<op:{text}>"),
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            Kind::Identifier => format!("identifier {}", go_quote(text.as_bytes())),
            Kind::MetricIdentifier => format!("metric identifier {}", go_quote(text.as_bytes())),
            Kind::String => format!("string {}", quote_start(text)),
            Kind::Number => format!("number {}", quote_start(text)),
            Kind::Duration => format!("duration {}", quote_start(text)),
            Kind::Space => quote_start(&text[..1]),
            _ => quote_start(text),
        }
    }

    /// The height of a node with parts of such a height; refuses a tree that is too high.
    fn above(&mut self, parts: Height) -> Parsed<Height> {
        let height = Height { nodes: 1 + parts.nodes, ..parts };
        if height.nodes > HEIGHT_MAX {
            return self.too_deep(HEIGHT_MAX);
        }
        Ok(height)
    }

    fn too_deep<T>(&mut self, limit: usize) -> Parsed<T> {
        let span = self.last.span;
        self.fail(span, format!("expression is nested too deeply, the limit is {limit} levels"))
    }

    /// Keeps the first complaint about types.
    fn complain(&mut self, checked: check::Checked) {
        if let Err(complaint) = checked
            && self.complaint.is_none()
        {
            self.complaint = Some(complaint);
        }
    }

    // === Expressions ===

    fn expression(&mut self) -> Parsed<Tree> {
        let mut open = Vec::new();
        let mut operand = self.operand(&mut open)?;
        loop {
            let Some(tree) = operand else {
                operand = self.operand(&mut open)?;
                continue;
            };
            let tree = self.postfix(tree)?;
            if let Kind::Op(op) = self.peek() {
                let lhs = self.reduce(&mut open, tree, level(op))?;
                self.advance();
                let modifiers = self.binary_modifiers()?;
                self.open(&mut open, Open::Binary { op, modifiers, lhs })?;
                operand = None;
                continue;
            }
            let tree = self.reduce(&mut open, tree, 0)?;
            operand = match open.pop() {
                None => return Ok(tree),
                Some(Open::Paren(span)) => Some(self.paren(span, tree)?),
                Some(Open::Call(call)) => self.argument_of_call(&mut open, call, tree)?,
                Some(Open::Aggregate(aggregate)) => self.argument_of_aggregate(&mut open, aggregate, tree)?,
                Some(Open::Sign { .. } | Open::Binary { .. }) => {
                    unreachable!("BUG: operators are complete before what they stand in is")
                }
            };
        }
    }

    /// Opens a construct, of which only so many can be open as a tree may be high.
    fn open(&mut self, open: &mut Vec<Open>, construct: Open) -> Parsed<()> {
        if open.len() >= HEIGHT_MAX {
            return self.too_deep(HEIGHT_MAX);
        }
        open.push(construct);
        Ok(())
    }

    /// Completes signs and operators that bind the operand `tree` at least as tightly as an operator at `level_next`
    /// behind it does; `^` alone lets its own kind go first.
    fn reduce(&mut self, open: &mut Vec<Open>, mut tree: Tree, level_next: u8) -> Parsed<Tree> {
        loop {
            match open.last() {
                Some(Open::Sign { .. }) if SIGN_LEVEL >= level_next => {}
                Some(Open::Binary { op: BinaryOp::Pow, .. }) if POW_LEVEL > level_next => {}
                Some(Open::Binary { op, .. }) if *op != BinaryOp::Pow && level(*op) >= level_next => {}
                _ => return Ok(tree),
            }
            tree = match open.pop() {
                Some(Open::Sign { negative, start }) => self.unary(negative, start, tree)?,
                Some(Open::Binary { op, modifiers, lhs }) => self.binary(op, modifiers, lhs, tree)?,
                _ => unreachable!("BUG: the last construct was just seen"),
            };
        }
    }

    fn binary(&mut self, op: BinaryOp, modifiers: BinaryModifiers, lhs: Tree, rhs: Tree) -> Parsed<Tree> {
        let span = merge(lhs.expr.span(), rhs.expr.span());
        let matching = modifiers.matching;
        if !self.options.binop_fill && (matching.fill_left.is_some() || matching.fill_right.is_some()) {
            return self.fail(span, "binop fill modifiers are experimental and not enabled");
        }
        let height = self.above(lhs.height.max(rhs.height))?;
        let mut binary = Binary {
            op,
            lhs: lhs.expr,
            rhs: rhs.expr,
            return_bool: modifiers.return_bool,
            matching: Some(matching),
            span,
        };
        let checked = check::binary(&mut binary, lhs.ty, rhs.ty, self.lexer.text());
        self.complain(checked);
        let ty = match (lhs.ty, rhs.ty) {
            (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
            _ => ValueType::Vector,
        };
        Ok(Tree { expr: Box::new(Expr::Binary(binary)), height, ty })
    }

    fn unary(&mut self, negative: bool, start: u32, tree: Tree) -> Parsed<Tree> {
        let Tree { mut expr, height, ty } = tree;
        if let Expr::Number(literal) = &mut *expr {
            if negative {
                literal.value = -literal.value;
            }
            literal.span.start = start;
            return Ok(Tree { expr, height, ty });
        }
        let height = self.above(height)?;
        let span = Span { start, end: expr.span().end };
        self.complain(check::unary(span, ty));
        Ok(Tree { expr: Box::new(Expr::Unary(Unary { negative, expr, span })), height, ty })
    }

    fn paren(&mut self, open: Span, tree: Tree) -> Parsed<Tree> {
        let close = self.expect(Kind::RightParen)?;
        let height = self.above(tree.height)?;
        let span = merge(open, close.span);
        let expr = Box::new(Expr::Paren(Paren { expr: tree.expr, span }));
        Ok(Tree { expr, height, ty: tree.ty })
    }

    /// One step toward an operand: a sign or something that opens yields none yet.
    fn operand(&mut self, open: &mut Vec<Open>) -> Parsed<Option<Tree>> {
        let kind = self.peek();
        let leaf = |expr, ty| Ok(Some(Tree { expr: Box::new(expr), height: Height::LEAF, ty }));
        match kind {
            Kind::Number | Kind::Duration => {
                let literal = self.number()?;
                leaf(Expr::Number(literal), ValueType::Scalar)
            }
            Kind::String => {
                let token = self.advance();
                let value = self.unquote(token)?;
                leaf(Expr::String(StringLiteral { value, span: token.span }), ValueType::String)
            }
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let start = self.advance().span.start;
                self.open(open, Open::Sign { negative: op == BinaryOp::Sub, start })?;
                Ok(None)
            }
            Kind::LeftParen => {
                let span = self.advance().span;
                self.open(open, Open::Paren(span))?;
                Ok(None)
            }
            Kind::LeftBrace => {
                let selector = self.selector(None)?;
                leaf(Expr::Vector(selector), ValueType::Vector)
            }
            Kind::Aggregate(op) => {
                let token = self.advance();
                match self.peek() {
                    Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without) => {
                        self.open_aggregate(open, op, token)
                    }
                    _ => {
                        let selector = self.selector(Some(token))?;
                        leaf(Expr::Vector(selector), ValueType::Vector)
                    }
                }
            }
            Kind::Identifier | Kind::Preprocessor(_) => {
                let token = self.advance();
                if self.peek() == Kind::LeftParen {
                    return self.open_call(open, token);
                }
                let selector = self.selector(Some(token))?;
                leaf(Expr::Vector(selector), ValueType::Vector)
            }
            kind if is_metric_name(kind) => {
                let token = self.advance();
                let selector = self.selector(Some(token))?;
                leaf(Expr::Vector(selector), ValueType::Vector)
            }
            _ => self.unexpected(),
        }
    }

    /// A number or duration token as seconds.
    pub(super) fn number(&mut self) -> Parsed<NumberLiteral> {
        let token = self.advance();
        let (span, text) = (token.span, self.text(token.span));
        if token.kind == Kind::Duration {
            return match duration::parse_ms(text) {
                Ok(ms) => Ok(NumberLiteral { value: seconds(ms), is_duration: true, span }),
                Err(error) => self.fail(span, error.to_string()),
            };
        }
        match literal::number(text) {
            Ok(value) => Ok(NumberLiteral { value, is_duration: false, span }),
            Err(error) => self.fail(span, format!("error parsing number: {error}")),
        }
    }

    pub(super) fn unquote(&mut self, token: Token) -> Parsed<Arc<[u8]>> {
        let text = self.text(token.span);
        if let Some(bytes) = literal::unquote(text) {
            return Ok(Arc::from(&*bytes));
        }
        let quoted = go_quote(text.as_bytes());
        self.fail(token.span, format!("error unquoting string {quoted}: invalid syntax"))
    }

    fn open_call(&mut self, open: &mut Vec<Open>, name: Token) -> Parsed<Option<Tree>> {
        let func = functions::lookup(self.text(name.span));
        let args = self.open_arguments()?;
        let call = OpenCall { name, func, args };
        if self.peek() == Kind::RightParen {
            let close = self.advance();
            return self.call(call, close).map(Some);
        }
        self.open(open, Open::Call(call))?;
        Ok(None)
    }

    fn open_aggregate(
        &mut self,
        open: &mut Vec<Open>,
        op: AggregateOp,
        token: Token,
    ) -> Parsed<Option<Tree>> {
        let context = self.enter(Context::Aggregation);
        let modifier = self.aggregate_modifier()?;
        let args = self.open_arguments()?;
        let aggregate = OpenAggregate { op, token, modifier, args, context };
        if self.peek() == Kind::RightParen {
            let close = self.advance();
            return self.aggregate(aggregate, close).map(Some);
        }
        self.open(open, Open::Aggregate(aggregate))?;
        Ok(None)
    }

    fn open_arguments(&mut self) -> Parsed<Arguments> {
        self.expect(Kind::LeftParen)?;
        Ok(Arguments { before: self.complaint.take(), ..Arguments::default() })
    }

    /// Takes a complete argument in; `Some` is the parenthesis that closes the list.
    fn argument(&mut self, args: &mut Arguments, tree: Tree) -> Parsed<Option<Token>> {
        let complaint = self.complaint.take();
        if complaint.is_some() || !args.complaints.is_empty() {
            args.complaints.resize_with(args.exprs.len(), || None);
            args.complaints.push(complaint);
        }
        args.height = args.height.max(tree.height);
        args.exprs.push(*tree.expr);
        if self.peek() != Kind::Comma {
            return self.expect(Kind::RightParen).map(Some);
        }
        let comma = self.advance();
        let kind = self.peek();
        if !starts_expression(kind) {
            return self.fail(comma.span, "trailing commas not allowed in function call args");
        }
        Ok(None)
    }

    fn argument_of_call(
        &mut self,
        open: &mut Vec<Open>,
        mut call: OpenCall,
        tree: Tree,
    ) -> Parsed<Option<Tree>> {
        if let Some(close) = self.argument(&mut call.args, tree)? {
            return self.call(call, close).map(Some);
        }
        open.push(Open::Call(call));
        Ok(None)
    }

    fn argument_of_aggregate(
        &mut self,
        open: &mut Vec<Open>,
        mut aggregate: OpenAggregate,
        tree: Tree,
    ) -> Parsed<Option<Tree>> {
        if let Some(close) = self.argument(&mut aggregate.args, tree)? {
            return self.aggregate(aggregate, close).map(Some);
        }
        open.push(Open::Aggregate(aggregate));
        Ok(None)
    }

    fn call(&mut self, call: OpenCall, close: Token) -> Parsed<Tree> {
        let OpenCall { name, func, args } = call;
        let text = self.text(name.span);
        let Some(func) = func else {
            return self.fail(name.span, format!("unknown function with name {}", go_quote(text.as_bytes())));
        };
        if func.experimental && !self.options.experimental_functions {
            return self.fail(name.span, format!("function {} is not enabled", go_quote(text.as_bytes())));
        }
        let height = self.above(args.height)?;
        let call = Call { func, args: args.exprs, span: merge(name.span, close.span) };
        self.complaint = args.before;
        self.complain(check::call(&call, args.complaints));
        Ok(Tree { expr: Box::new(Expr::Call(call)), height, ty: func.return_type })
    }

    fn aggregate(&mut self, aggregate: OpenAggregate, close: Token) -> Parsed<Tree> {
        let OpenAggregate { op, token, mut modifier, args, context } = aggregate;
        let mut span = merge(token.span, close.span);
        if modifier.is_none() {
            modifier = self.aggregate_modifier()?;
            span.end = if modifier.is_some() { self.last_closing } else { self.end_before_lookahead() };
        }
        self.leave(context);
        let Grouping { without, labels: grouping } = modifier.unwrap_or_default();
        let Arguments { mut exprs, height, before, complaints } = args;
        if exprs.is_empty() {
            return self.fail(span, "no arguments for aggregate expression provided");
        }
        if op.is_experimental() && !self.options.experimental_functions {
            return self.fail(
                span,
                format!(
                    "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                    op.as_str()
                ),
            );
        }
        let expected = if op.param_type().is_some() { 2 } else { 1 };
        let got = exprs.len();
        let (expr, param) = match (exprs.pop(), exprs.pop()) {
            (Some(expr), param) if got == expected => (Box::new(expr), param.map(Box::new)),
            _ => {
                return self.fail(
                    span,
                    format!(
                        "wrong number of arguments for aggregate expression provided, expected {expected}, got {got}"
                    ),
                );
            }
        };
        let height = self.above(height)?;
        let aggregate = Aggregate { op, expr, param, grouping, without, span };
        self.complaint = before;
        self.complain(check::aggregate(&aggregate, complaints));
        Ok(Tree { expr: Box::new(Expr::Aggregate(aggregate)), height, ty: ValueType::Vector })
    }

    /// Where upstream ends an aggregation without a clause behind it: it has read one token more, and if that
    /// is a parenthesis looks for another one before it, else takes what closed last.
    fn end_before_lookahead(&self) -> u32 {
        if self.last.kind != Kind::RightParen {
            return self.last_closing;
        }
        let before = &self.lexer.text()[..self.last.span.start as usize];
        let trimmed = before.trim_end_matches(is_space);
        match u32::try_from(trimmed.len()) {
            Ok(end) if trimmed.ends_with(')') => end,
            _ => self.last_closing,
        }
    }

    /// `by (..)` or `without (..)`, if one stands here.
    fn aggregate_modifier(&mut self) -> Parsed<Option<Grouping>> {
        let without = match self.peek() {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.advance();
        let labels = self.grouping_labels()?;
        Ok(Some(Grouping { without, labels }))
    }

    /// `(a, "b",)`.
    fn grouping_labels(&mut self) -> Parsed<Vec<Arc<[u8]>>> {
        let outer = self.enter(Context::GroupingOpen);
        self.expect(Kind::LeftParen)?;
        let mut labels = Vec::new();
        loop {
            self.context = Context::GroupingLabel;
            if self.peek() == Kind::RightParen {
                break;
            }
            labels.push(self.grouping_label()?);
            self.context = Context::GroupingNext;
            match self.peek() {
                Kind::Comma => drop(self.advance()),
                Kind::RightParen => break,
                _ => return self.unexpected(),
            }
        }
        self.advance();
        self.leave(outer);
        Ok(labels)
    }

    fn grouping_label(&mut self) -> Parsed<Arc<[u8]>> {
        let kind = self.peek();
        if kind == Kind::String {
            let token = self.advance();
            let name = self.unquote(token)?;
            if name.is_empty() || std::str::from_utf8(&name).is_err() {
                let quoted = go_quote(&name);
                return self.fail(token.span, format!("invalid label name for grouping: {quoted}"));
            }
            return Ok(name);
        }
        let is_label = match kind {
            Kind::Op(op) => op == BinaryOp::Atan2 || op.is_set(),
            Kind::Keyword(keyword) => keyword != Keyword::Without,
            kind => is_metric_name(kind),
        };
        if !is_label {
            return self.unexpected();
        }
        let token = self.advance();
        Ok(self.text(token.span).as_bytes().into())
    }

    fn binary_modifiers(&mut self) -> Parsed<BinaryModifiers> {
        let return_bool = self.peek() == Kind::Keyword(Keyword::Bool);
        if return_bool {
            self.advance();
        }
        let mut matching = VectorMatching {
            card: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        if let Kind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.peek() {
            self.advance();
            matching.on = keyword == Keyword::On;
            matching.labels = self.grouping_labels()?;
            if let Kind::Keyword(side @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek() {
                self.advance();
                matching.card = match side {
                    Keyword::GroupLeft => Cardinality::ManyToOne,
                    _ => Cardinality::OneToMany,
                };
                // What cannot start an operand is reported as a missing list of labels.
                let kind = self.peek();
                let is_fill =
                    matches!(kind, Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight));
                if kind == Kind::LeftParen || !(is_fill || starts_expression(kind)) {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok(BinaryModifiers { return_bool, matching })
    }

    /// `fill (v)`, or `fill_left (v)` and `fill_right (v)` in any order, each at most once.
    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        match self.peek() {
            Kind::Keyword(Keyword::Fill) => {
                let value = Some(self.fill_value()?);
                (matching.fill_left, matching.fill_right) = (value, value);
            }
            Kind::Keyword(Keyword::FillLeft) => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek() == Kind::Keyword(Keyword::FillRight) {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Kind::Keyword(Keyword::FillRight) => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek() == Kind::Keyword(Keyword::FillLeft) {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.advance();
        self.expect(Kind::LeftParen)?;
        let value = self.signed_number()?;
        self.expect(Kind::RightParen)?;
        Ok(value)
    }

    /// A number or duration behind at most one sign.
    fn signed_number(&mut self) -> Parsed<f64> {
        let sign = match self.peek() {
            Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.advance();
                if op == BinaryOp::Sub { -1.0 } else { 1.0 }
            }
            _ => 1.0,
        };
        match self.peek() {
            Kind::Number | Kind::Duration => Ok(sign * self.number()?.value),
            _ => self.unexpected(),
        }
    }

    // === Selectors and their modifiers ===

    /// A selector whose name, if any, has been consumed.
    fn selector(&mut self, name: Option<Token>) -> Parsed<VectorSelector> {
        let mut matchers = Vec::new();
        let mut span = name.map_or_else(Span::default, |token| token.span);
        if name.is_none() || self.peek() == Kind::LeftBrace {
            let open = self.advance();
            let close = self.matchers(&mut matchers)?;
            span = merge(name.map_or(open.span, |token| token.span), close.span);
        }
        let name: Arc<[u8]> = name.map_or("", |token| self.text(token.span)).as_bytes().into();
        if !name.is_empty() {
            matchers.push(Matcher::metric_name(Arc::clone(&name)));
        }
        Ok(VectorSelector { name, matchers, modifiers: Modifiers::default(), boundary: None, span })
    }

    /// The matchers behind a consumed brace, up to and with the closing one.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<Token> {
        let outer = self.enter(Context::MatcherFirst);
        loop {
            self.context = Context::MatcherFirst;
            if self.peek() == Kind::RightBrace {
                break;
            }
            matchers.push(self.matcher()?);
            self.context = Context::MatcherNext;
            match self.peek() {
                Kind::Comma => drop(self.advance()),
                Kind::RightBrace => break,
                _ => return self.unexpected(),
            }
        }
        self.leave(outer);
        Ok(self.advance())
    }

    fn matcher(&mut self) -> Parsed<Matcher> {
        let kind = self.peek();
        let (token, name) = match kind {
            Kind::Identifier => {
                let token = self.advance();
                (token, Arc::from(self.text(token.span).as_bytes()))
            }
            Kind::String => {
                let token = self.advance();
                (token, self.unquote(token)?)
            }
            _ => return self.unexpected(),
        };
        let op = match self.peek() {
            Kind::Assign => MatchOp::Eq,
            Kind::Op(BinaryOp::Ne) => MatchOp::Ne,
            Kind::EqRegex => MatchOp::Re,
            Kind::NeRegex => MatchOp::Nre,
            _ if kind == Kind::String => return Ok(Matcher::metric_name(name)),
            _ => {
                self.context = Context::MatcherOp;
                return self.unexpected();
            }
        };
        self.advance();
        self.context = Context::MatcherValue;
        let value_token = self.expect(Kind::String)?;
        let value = self.unquote(value_token)?;
        match Matcher::shared(op, name, value) {
            Ok(matcher) => Ok(matcher),
            Err(error) => self.fail(merge(token.span, value_token.span), error.to_string()),
        }
    }

    /// Everything that may follow an operand and binds to it: ranges, `offset`, `@`, `anchored`, `smoothed`.
    fn postfix(&mut self, mut tree: Tree) -> Parsed<Tree> {
        // The type inside a subquery, about which there is a complaint only when its modifiers are complete.
        let mut inner = None;
        loop {
            match self.peek() {
                Kind::LeftBracket => {
                    self.selected(&tree, inner);
                    inner = Some(tree.ty);
                    tree = self.brackets(tree)?;
                }
                Kind::Keyword(Keyword::Offset) => self.offset(&mut tree)?,
                Kind::At => self.at(&mut tree.expr)?,
                Kind::Keyword(Keyword::Anchored) => {
                    self.boundary(&mut tree.expr, Boundary::Anchored, "anchored")?;
                }
                Kind::Keyword(Keyword::Smoothed) => {
                    self.boundary(&mut tree.expr, Boundary::Smoothed, "smoothed")?;
                }
                _ => {
                    if !matches!(*tree.expr, Expr::Matrix(_)) {
                        self.selected(&tree, inner);
                    }
                    return Ok(tree);
                }
            }
        }
    }

    /// Checks what modifiers may follow, now that none does.
    fn selected(&mut self, tree: &Tree, inner: Option<ValueType>) {
        let checked = match (&*tree.expr, inner) {
            (Expr::Vector(selector), _) => check::selector(selector),
            (Expr::Subquery(subquery), Some(inner)) => check::subquery(subquery.span, inner),
            _ => return,
        };
        self.complain(checked);
    }

    /// `[range]` or `[range:step]`.
    fn brackets(&mut self, tree: Tree) -> Parsed<Tree> {
        let open = self.advance();
        let outer = self.enter(Context::RangeStart);
        let range = self.positive_duration()?;
        self.context = Context::RangeEnd;
        let tree = match self.peek() {
            Kind::RightBracket => {
                let close = self.advance();
                self.matrix(tree, range, merge(open.span, close.span))
            }
            Kind::Colon => {
                self.advance();
                self.context = Context::StepStart;
                let step = match self.peek() {
                    Kind::RightBracket => None,
                    _ => Some(self.positive_duration()?),
                };
                self.context = Context::StepEnd;
                let close = self.expect(Kind::RightBracket)?;
                let mut height = self.above(tree.height)?;
                height.subqueries += 1;
                if height.subqueries > SUBQUERIES_MAX {
                    let message =
                        format!("subqueries are nested too deeply, the limit is {SUBQUERIES_MAX} levels");
                    return self.fail(merge(open.span, close.span), message);
                }
                let span = merge(tree.expr.span(), close.span);
                let expr = Box::new(Expr::Subquery(Subquery {
                    expr: tree.expr,
                    range: range.expr,
                    step: step.map(|step| step.expr),
                    modifiers: Modifiers::default(),
                    span,
                }));
                Ok(Tree { expr, height, ty: ValueType::Matrix })
            }
            _ => self.unexpected(),
        }?;
        self.leave(outer);
        Ok(tree)
    }

    fn matrix(&mut self, tree: Tree, range: DurationTree, brackets: Span) -> Parsed<Tree> {
        let Expr::Vector(selector) = *tree.expr else {
            return self.fail(brackets, "ranges only allowed for vector selectors");
        };
        if selector.modifiers.offset.is_some() {
            return self.fail(brackets, "no offset modifiers allowed before range");
        }
        if selector.modifiers.at.is_some() {
            return self.fail(brackets, "no @ modifiers allowed before range");
        }
        let span = merge(selector.span, brackets);
        let expr = Box::new(Expr::Matrix(MatrixSelector { selector, range: range.expr, span }));
        Ok(Tree { expr, height: Height::LEAF, ty: ValueType::Matrix })
    }

    fn offset(&mut self, tree: &mut Tree) -> Parsed<()> {
        self.advance();
        let outer = self.enter(Context::Offset);
        let offset = self.offset_duration()?;
        self.leave(outer);
        let end = self.last_closing;
        let span = tree.expr.span();
        let Some((modifiers, node_span)) = modifiable(&mut tree.expr) else {
            return self.fail(
                span,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            );
        };
        if modifiers.offset.is_some() {
            return self.fail(span, "offset may not be set multiple times");
        }
        // An offset of nothing is no offset, as upstream has it.
        modifiers.offset = Some(offset.expr).filter(|offset| offset.literal_ns() != Some(0));
        node_span.end = end;
        Ok(())
    }

    /// `@ 1.5`, `@ start()`, `@ end()`.
    fn at(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.advance();
        let outer = self.enter(Context::At);
        let at = if let Kind::Preprocessor(word @ (Preprocessor::Start | Preprocessor::End)) = self.peek() {
            self.advance();
            self.expect(Kind::LeftParen)?;
            self.expect(Kind::RightParen)?;
            if word == Preprocessor::Start { At::Start } else { At::End }
        } else {
            let seconds = self.signed_number()?;
            At::Time(self.timestamp(seconds, expr.span())?)
        };
        self.leave(outer);
        let end = self.last_closing;
        let span = expr.span();
        let Some((modifiers, node_span)) = modifiable(expr) else {
            return self.fail(
                span,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            );
        };
        if modifiers.at.is_some() {
            return self.fail(span, "@ <timestamp> may not be set multiple times");
        }
        modifiers.at = Some(at);
        node_span.end = end;
        Ok(())
    }

    /// Seconds as milliseconds, half away from zero.
    fn timestamp(&mut self, seconds: f64, span: Span) -> Parsed<i64> {
        const BOUND: f64 = 9_223_372_036_854_775_808.0;
        if !(-BOUND < seconds && seconds < BOUND) {
            let printed =
                if seconds.is_finite() { format!("{seconds:.6}") } else { model::number::format_g(seconds) };
            return self.fail(span, format!("timestamp out of bounds for @ modifier: {printed}"));
        }
        let ms = (seconds * 1000.0).round();
        if !(-BOUND..BOUND).contains(&ms) {
            // What upstream's conversion yields on the processors it mostly runs on.
            return Ok(i64::MIN);
        }
        #[expect(clippy::cast_possible_truncation, reason = "within the bounds of an i64, just checked")]
        let ms = ms as i64;
        Ok(ms)
    }

    fn boundary(&mut self, expr: &mut Expr, boundary: Boundary, word: &str) -> Parsed<()> {
        self.advance();
        let span = expr.span();
        if !self.options.extended_range_selectors {
            return self.fail(span, format!("{word} modifier is experimental and not enabled"));
        }
        let set = match expr {
            Expr::Vector(selector) => &mut selector.boundary,
            Expr::Matrix(matrix) => &mut matrix.selector.boundary,
            Expr::Subquery(_) => {
                return self.fail(span, format!("{word} modifier is not supported for subqueries"));
            }
            _ => return self.fail(span, format!("{word} modifier not implemented")),
        };
        if set.is_some_and(|other| other != boundary) {
            return self.fail(span, "anchored and smoothed modifiers cannot be used together");
        }
        *set = Some(boundary);
        Ok(())
    }

    // === Durations ===

    /// A duration whose literal must exceed zero; what an expression yields is only known when it is run.
    fn positive_duration(&mut self) -> Parsed<DurationTree> {
        let duration = self.duration(0)?;
        match &duration.expr {
            DurationExpr::Literal(literal) if literal.value <= 0.0 => {
                self.fail(literal.span, "duration must be greater than 0")
            }
            _ => Ok(duration),
        }
    }

    fn duration(&mut self, level_min: u8) -> Parsed<DurationTree> {
        self.depth += 1;
        if self.depth > DURATION_NESTING_MAX {
            return self.too_deep(DURATION_NESTING_MAX);
        }
        let lhs = self.duration_operand()?;
        let tree = self.duration_from(lhs, level_min)?;
        self.depth -= 1;
        Ok(tree)
    }

    /// Continues behind `lhs` with operators at `level_min` or above.
    fn duration_from(&mut self, mut lhs: DurationTree, level_min: u8) -> Parsed<DurationTree> {
        while let Kind::Op(token_op) = self.peek() {
            let Some(op) = duration_op(token_op).filter(|_| level(token_op) >= level_min) else {
                break;
            };
            let token = self.advance();
            let rhs = self.duration(right_level(token_op))?;
            self.duration_expr_enabled(&lhs.expr)?;
            let is_zero = matches!(&rhs.expr, DurationExpr::Literal(literal) if literal.value == 0.0);
            match op {
                DurationOp::Div if is_zero => return self.fail(token.span, "division by zero"),
                DurationOp::Mod if is_zero => return self.fail(token.span, "modulo by zero"),
                _ => {}
            }
            let height = self.limit_duration(1 + lhs.height.max(rhs.height))?;
            let span = merge(lhs.expr.span(), rhs.expr.span());
            let (left, right) = (Box::new(lhs.expr), Box::new(rhs.expr));
            lhs = DurationTree { expr: DurationExpr::Binary { op, lhs: left, rhs: right, span }, height };
        }
        Ok(lhs)
    }

    fn duration_operand(&mut self) -> Parsed<DurationTree> {
        let mut signs = Vec::new();
        while let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek() {
            signs.push((op == BinaryOp::Sub, self.advance()));
        }
        if signs.is_empty() {
            return self.duration_primary();
        }
        let mut tree = self.duration(POW_LEVEL)?;
        for (negative, sign) in signs.into_iter().rev() {
            tree = self.signed_duration(negative, sign, tree)?;
        }
        Ok(tree)
    }

    /// Applies a sign: a literal takes it in, `+` of anything else vanishes.
    fn signed_duration(&mut self, negative: bool, sign: Token, tree: DurationTree) -> Parsed<DurationTree> {
        let span = merge(sign.span, tree.expr.span());
        match tree.expr {
            DurationExpr::Literal(mut literal) => {
                if negative {
                    literal.value = -literal.value;
                }
                literal.span = span;
                self.duration_in_range(literal.value, sign.span)?;
                Ok(DurationTree { expr: DurationExpr::Literal(literal), height: tree.height })
            }
            operand if negative => {
                let height = self.limit_duration(1 + tree.height)?;
                let operand = Box::new(operand);
                Ok(DurationTree { expr: DurationExpr::Unary { op: DurationOp::Sub, operand, span }, height })
            }
            expr => Ok(DurationTree { expr, height: tree.height }),
        }
    }

    fn duration_primary(&mut self) -> Parsed<DurationTree> {
        match self.peek() {
            Kind::Number | Kind::Duration => self.duration_literal(),
            Kind::Preprocessor(
                Preprocessor::Step | Preprocessor::Range | Preprocessor::MinOf | Preprocessor::MaxOf,
            ) => {
                let tree = self.duration_word()?;
                self.duration_expr_enabled(&tree.expr)?;
                Ok(tree)
            }
            Kind::LeftParen => {
                self.advance();
                let inner = self.duration(0)?;
                self.expect(Kind::RightParen)?;
                self.duration_expr_enabled(&inner.expr)?;
                self.parenthesized(inner)
            }
            _ => self.unexpected(),
        }
    }

    /// Parentheses are a mark, not a level: two pairs are one, and a literal bears none.
    fn parenthesized(&mut self, inner: DurationTree) -> Parsed<DurationTree> {
        if matches!(inner.expr, DurationExpr::Paren(..) | DurationExpr::Literal(_)) {
            return Ok(inner);
        }
        let span = inner.expr.span();
        let height = self.limit_duration(1 + inner.height)?;
        Ok(DurationTree { expr: DurationExpr::Paren(Box::new(inner.expr), span), height })
    }

    fn duration_literal(&mut self) -> Parsed<DurationTree> {
        let literal = self.number()?;
        self.duration_in_range(literal.value, literal.span)?;
        Ok(DurationTree { expr: DurationExpr::Literal(literal), height: 1 })
    }

    /// `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)`.
    fn duration_word(&mut self) -> Parsed<DurationTree> {
        let token = self.advance();
        self.expect(Kind::LeftParen)?;
        if let Kind::Preprocessor(word @ (Preprocessor::Step | Preprocessor::Range)) = token.kind {
            let close = self.expect(Kind::RightParen)?;
            let span = merge(token.span, close.span);
            let expr = match word {
                Preprocessor::Step => DurationExpr::Step(span),
                _ => DurationExpr::Range(span),
            };
            return Ok(DurationTree { expr, height: 1 });
        }
        let lhs = self.duration(0)?;
        self.expect(Kind::Comma)?;
        let rhs = self.duration(0)?;
        self.expect(Kind::RightParen)?;
        let height = self.limit_duration(1 + lhs.height.max(rhs.height))?;
        // Upstream reports these from the left operand to the right one.
        let span = merge(lhs.expr.span(), rhs.expr.span());
        let (lhs, rhs) = (Box::new(lhs.expr), Box::new(rhs.expr));
        let expr = match token.kind {
            Kind::Preprocessor(Preprocessor::MinOf) => DurationExpr::MinOf { lhs, rhs, span },
            _ => DurationExpr::MaxOf { lhs, rhs, span },
        };
        Ok(DurationTree { expr, height })
    }

    /// What follows `offset`: one operand, which an operator does not extend, or an expression that starts
    /// with a parenthesis or a second sign, which it does (a quirk of upstream's grammar).
    fn offset_duration(&mut self) -> Parsed<DurationTree> {
        let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek() else {
            return match self.peek() {
                Kind::LeftParen => self.duration(0),
                _ => self.duration_primary(),
            };
        };
        let negative = op == BinaryOp::Sub;
        let sign = self.advance();
        match self.peek() {
            Kind::Number | Kind::Duration => {
                let literal = self.number()?;
                let tree = DurationTree { expr: DurationExpr::Literal(literal), height: 1 };
                self.signed_duration(negative, sign, tree)
            }
            Kind::Preprocessor(
                Preprocessor::Step | Preprocessor::Range | Preprocessor::MinOf | Preprocessor::MaxOf,
            ) => {
                let tree = self.duration_word()?;
                let span = merge(sign.span, tree.expr.span());
                let op = if negative { DurationOp::Sub } else { DurationOp::Add };
                let operand = Box::new(tree.expr);
                let expr = DurationExpr::Unary { op, operand, span };
                self.duration_expr_enabled(&expr)?;
                Ok(DurationTree { expr, height: self.limit_duration(1 + tree.height)? })
            }
            Kind::LeftParen => {
                self.advance();
                let inner = self.duration(0)?;
                self.expect(Kind::RightParen)?;
                let inner = self.parenthesized(inner)?;
                self.signed_duration(negative, sign, inner)
            }
            _ => {
                let operand = self.duration(POW_LEVEL)?;
                let lhs = self.signed_duration(negative, sign, operand)?;
                self.duration_from(lhs, 0)
            }
        }
    }

    /// Refuses a duration that is too high.
    fn limit_duration(&mut self, height: usize) -> Parsed<usize> {
        if height > DURATION_HEIGHT_MAX {
            return self.too_deep(DURATION_HEIGHT_MAX);
        }
        Ok(height)
    }

    fn duration_expr_enabled(&mut self, expr: &DurationExpr) -> Parsed<()> {
        if self.options.duration_expr {
            return Ok(());
        }
        self.fail(expr.span(), "experimental duration expression is not enabled")
    }

    /// Upstream counts nanoseconds in an i64. It also lets NaN pass and then looks some 292 years ahead.
    fn duration_in_range(&mut self, seconds: f64, span: Span) -> Parsed<()> {
        const BOUND: f64 = 9_223_372_036_854_775_808.0 / 1e9;
        if seconds.abs() > BOUND {
            return self.fail(span, "duration out of range");
        }
        Ok(())
    }
}

fn modifiable(expr: &mut Expr) -> Option<(&mut Modifiers, &mut Span)> {
    match expr {
        Expr::Vector(e) => Some((&mut e.modifiers, &mut e.span)),
        Expr::Matrix(e) => Some((&mut e.selector.modifiers, &mut e.span)),
        Expr::Subquery(e) => Some((&mut e.modifiers, &mut e.span)),
        _ => None,
    }
}

/// Milliseconds as upstream turns a duration into seconds: whole ones and the rest apart.
fn seconds(ms: i64) -> f64 {
    (ms / 1000) as f64 + ((ms % 1000) * 1_000_000) as f64 / 1e9
}

/// Whether a token may be the name of a metric.
pub(super) fn is_metric_name(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) | Kind::Preprocessor(_) => true,
        Kind::Op(op) => op.is_set(),
        Kind::Keyword(keyword) => matches!(
            keyword,
            Keyword::By
                | Keyword::Without
                | Keyword::Offset
                | Keyword::Anchored
                | Keyword::Smoothed
                | Keyword::Fill
                | Keyword::FillLeft
                | Keyword::FillRight
        ),
        _ => false,
    }
}

fn starts_expression(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Number
            | Kind::Duration
            | Kind::String
            | Kind::LeftParen
            | Kind::LeftBrace
            | Kind::Op(BinaryOp::Add | BinaryOp::Sub)
    ) || is_metric_name(kind)
}

/// Go's `%.10q...`: quoted, cut to ten characters if it is longer than ten bytes.
fn quote_start(text: &str) -> String {
    const LENGTH_MAX: usize = 10;
    if text.len() <= LENGTH_MAX {
        return go_quote(text.as_bytes());
    }
    let end = text.char_indices().nth(LENGTH_MAX).map_or(text.len(), |(i, _)| i);
    format!("{}...", go_quote(&text.as_bytes()[..end]))
}
