//! A tree as JSON, for the tree view of user interfaces. Keys are in alphabetical order, as upstream's.
//!
//! Compat: prometheus `web/api/v1/translate_ast.go`; Go `encoding/json` for escapes.

use std::sync::Arc;

use model::Matcher;
use model::number::{append_json_into, format_f};

use super::ast::{
    Aggregate, At, Binary, Boundary, Call, DurationExpr, Expr, Modifiers, NumberLiteral, Subquery, Unary,
    VectorSelector,
};

/// Something yet to be written; a list takes the place of recursion.
enum Piece<'e> {
    Expr(&'e Expr),
    Text(&'static str),
    /// What stands behind the first part of a node.
    AfterArgs(&'e Call),
    AfterOperand(&'e Aggregate),
    AfterParam(&'e Aggregate),
    AfterLhs(&'e Binary),
    AfterSubquery(&'e Subquery),
    AfterUnary(&'e Unary),
}

/// Appends the expression as a JSON object.
pub fn write(expr: &Expr, out: &mut Vec<u8>) {
    let mut pieces = vec![Piece::Expr(expr)];
    while let Some(piece) = pieces.pop() {
        match piece {
            Piece::Expr(expr) => write_start(expr, &mut pieces, out),
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::AfterArgs(call) => write_call_end(call, out),
            Piece::AfterOperand(aggregate) => write_aggregate_middle(aggregate, &mut pieces, out),
            Piece::AfterParam(aggregate) => {
                let mut object = Object::resume(out);
                object.key("type").string("aggregation");
                object.key("without").bool(aggregate.without);
                object.close();
            }
            Piece::AfterLhs(binary) => write_binary_middle(binary, &mut pieces, out),
            Piece::AfterSubquery(subquery) => write_subquery_end(subquery, out),
            Piece::AfterUnary(unary) => {
                let mut object = Object::resume(out);
                object.key("op").string(if unary.negative { "-" } else { "+" });
                object.key("type").string("unaryExpr");
                object.close();
            }
        }
    }
}

/// Writes a node up to its first part and puts the rest onto the list, the last piece first.
fn write_start<'e>(expr: &'e Expr, pieces: &mut Vec<Piece<'e>>, out: &mut Vec<u8>) {
    match expr {
        Expr::Number(e) => {
            let mut object = Object::open(out);
            object.key("type").string("numberLiteral");
            object.key("val").string(format_f(e.value));
            object.close();
        }
        Expr::String(e) => {
            let mut object = Object::open(out);
            object.key("type").string("stringLiteral");
            object.key("val").string(&e.value);
            object.close();
        }
        Expr::Vector(e) => write_selector(e, None, out),
        Expr::Matrix(e) => write_selector(&e.selector, Some(&e.range), out),
        Expr::Paren(e) => {
            Object::open(out).key("expr");
            pieces.extend([Piece::Text(",\"type\":\"parenExpr\"}"), Piece::Expr(&e.expr)]);
        }
        Expr::Unary(e) => {
            Object::open(out).key("expr");
            pieces.extend([Piece::AfterUnary(e), Piece::Expr(&e.expr)]);
        }
        Expr::Subquery(e) => {
            Object::open(out).key("expr");
            pieces.extend([Piece::AfterSubquery(e), Piece::Expr(&e.expr)]);
        }
        Expr::Call(e) => {
            Object::open(out).key("args");
            out.push(b'[');
            pieces.push(Piece::AfterArgs(e));
            for (i, arg) in e.args.iter().enumerate().rev() {
                pieces.push(Piece::Expr(arg));
                if i > 0 {
                    pieces.push(Piece::Text(","));
                }
            }
        }
        Expr::Aggregate(e) => {
            Object::open(out).key("expr");
            pieces.extend([Piece::AfterOperand(e), Piece::Expr(&e.expr)]);
        }
        Expr::Binary(e) => {
            let mut object = Object::open(out);
            object.key("bool").bool(e.return_bool);
            object.key("lhs");
            pieces.extend([Piece::AfterLhs(e), Piece::Expr(&e.lhs)]);
        }
    }
}

/// A vector selector, or with a range a matrix selector.
fn write_selector(selector: &VectorSelector, range: Option<&DurationExpr>, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.key("anchored").bool(selector.boundary == Some(Boundary::Anchored));
    object.key("matchers").array(&selector.matchers, write_matcher);
    object.key("name").string(&selector.name);
    object.offset(&selector.modifiers);
    if let Some(range) = range {
        object.key("range").milliseconds(Some(range));
        object.key("rangeExpr").duration_unless_literal(Some(range));
    }
    object.key("smoothed").bool(selector.boundary == Some(Boundary::Smoothed));
    object.at(&selector.modifiers);
    object.key("type").string(if range.is_some() { "matrixSelector" } else { "vectorSelector" });
    object.close();
}

fn write_matcher(matcher: &Matcher, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.key("name").string(&matcher.name);
    object.key("type").string(matcher.op.as_str());
    object.key("value").string(&matcher.value);
    object.close();
}

fn write_subquery_end(subquery: &Subquery, out: &mut Vec<u8>) {
    let mut object = Object::resume(out);
    object.offset(&subquery.modifiers);
    object.key("range").milliseconds(Some(&subquery.range));
    object.key("rangeExpr").duration_unless_literal(Some(&subquery.range));
    let at = &subquery.modifiers;
    object.key("startOrEnd").start_or_end(at.at);
    object.key("step").milliseconds(subquery.step.as_ref());
    object.key("stepExpr").duration_unless_literal(subquery.step.as_ref());
    object.key("timestamp").timestamp(at.at);
    object.key("type").string("subquery");
    object.close();
}

fn write_call_end(call: &Call, out: &mut Vec<u8>) {
    out.push(b']');
    let mut object = Object::resume(out);
    let mut func = object.key("func").object();
    func.key("argTypes").array(call.func.args, |ty, out| Value(out).string(ty.as_str()));
    func.key("name").string(call.func.name);
    func.key("returnType").string(call.func.return_type.as_str());
    func.key("variadic").integer(i64::from(call.func.variadic));
    func.close();
    object.key("type").string("call");
    object.close();
}

fn write_aggregate_middle<'e>(aggregate: &'e Aggregate, pieces: &mut Vec<Piece<'e>>, out: &mut Vec<u8>) {
    let mut object = Object::resume(out);
    object.key("grouping").strings(&aggregate.grouping);
    object.key("op").string(aggregate.op.as_str());
    let param = object.key("param");
    pieces.push(Piece::AfterParam(aggregate));
    match &aggregate.param {
        Some(expr) => pieces.push(Piece::Expr(expr)),
        None => param.null(),
    }
}

fn write_binary_middle<'e>(binary: &'e Binary, pieces: &mut Vec<Piece<'e>>, out: &mut Vec<u8>) {
    let mut object = Object::resume(out);
    match &binary.matching {
        None => object.key("matching").null(),
        Some(matching) => {
            let mut inner = object.key("matching").object();
            inner.key("card").string(matching.card.as_str());
            let mut fill = inner.key("fillValues").object();
            fill.key("lhs").float(matching.fill_left);
            fill.key("rhs").float(matching.fill_right);
            fill.close();
            inner.key("include").strings(&matching.include);
            inner.key("labels").strings(&matching.labels);
            inner.key("on").bool(matching.on);
            inner.close();
        }
    }
    object.key("op").string(binary.op.as_str());
    object.key("rhs");
    pieces.extend([Piece::Text(",\"type\":\"binaryExpr\"}"), Piece::Expr(&binary.rhs)]);
}

/// A duration expression; parentheses are a mark of what they enclose.
fn write_duration(expr: &DurationExpr, out: &mut Vec<u8>) {
    match expr {
        DurationExpr::Literal(literal) => write_duration_literal(literal, out),
        DurationExpr::Paren(inner, _) => write_duration_operator(inner, true, out),
        expr => write_duration_operator(expr, false, out),
    }
}

fn write_duration_operator(expr: &DurationExpr, wrapped: bool, out: &mut Vec<u8>) {
    match expr {
        DurationExpr::Step(_) => write_duration_node("step", None, None, wrapped, out),
        DurationExpr::Range(_) => write_duration_node("range", None, None, wrapped, out),
        DurationExpr::Unary { op, operand, .. } => {
            write_duration_node(op.as_str(), None, Some(operand), wrapped, out);
        }
        DurationExpr::Binary { op, lhs, rhs, .. } => {
            write_duration_node(op.as_str(), Some(lhs), Some(rhs), wrapped, out);
        }
        DurationExpr::MinOf { lhs, rhs, .. } => {
            write_duration_node("min_of", Some(lhs), Some(rhs), wrapped, out);
        }
        DurationExpr::MaxOf { lhs, rhs, .. } => {
            write_duration_node("max_of", Some(lhs), Some(rhs), wrapped, out);
        }
        DurationExpr::Literal(_) | DurationExpr::Paren(..) => write_duration(expr, out),
    }
}

fn write_duration_node(
    op: &str,
    lhs: Option<&DurationExpr>,
    rhs: Option<&DurationExpr>,
    wrapped: bool,
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    object.key("lhs").duration(lhs);
    object.key("op").string(op);
    object.key("rhs").duration(rhs);
    object.key("type").string("durationExpr");
    object.key("wrapped").bool(wrapped);
    object.close();
}

fn write_duration_literal(literal: &NumberLiteral, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.key("duration").bool(literal.is_duration);
    object.key("type").string("numberLiteral");
    object.key("val").string(format_f(literal.value));
    object.close();
}

/// An object that is being written: keys, each followed by its value, then `close`.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

/// The place of one value.
struct Value<'a>(&'a mut Vec<u8>);

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Behind the first value of an object.
    fn resume(out: &'a mut Vec<u8>) -> Self {
        Self { out, is_empty: false }
    }

    fn key(&mut self, key: &str) -> Value<'_> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        Value(self.out).string(key);
        self.out.push(b':');
        Value(self.out)
    }

    fn close(self) {
        self.out.push(b'}');
    }

    fn offset(&mut self, modifiers: &Modifiers) {
        self.key("offset").milliseconds(modifiers.offset.as_ref());
        self.key("offsetExpr").duration_unless_literal(modifiers.offset.as_ref());
    }

    fn at(&mut self, modifiers: &Modifiers) {
        self.key("startOrEnd").start_or_end(modifiers.at);
        self.key("timestamp").timestamp(modifiers.at);
    }
}

impl<'a> Value<'a> {
    fn null(self) {
        self.0.extend_from_slice(b"null");
    }

    fn bool(self, value: bool) {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn integer(self, value: i64) {
        self.0.extend_from_slice(value.to_string().as_bytes());
    }

    /// JSON has no infinities; upstream fails on them, we say that there is no value.
    fn float(self, value: Option<f64>) {
        match value {
            Some(value) if value.is_finite() => append_json_into(value, self.0),
            _ => self.null(),
        }
    }

    /// Escaped as Go does: `<`, `>`, `&` and the two line separators too, invalid bytes replaced.
    fn string(self, value: impl AsRef<[u8]>) {
        let out = self.0;
        out.push(b'"');
        for chunk in value.as_ref().utf8_chunks() {
            for c in chunk.valid().chars() {
                push_char(out, c);
            }
            for _ in chunk.invalid() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
        out.push(b'"');
    }

    fn object(self) -> Object<'a> {
        Object::open(self.0)
    }

    fn array<T>(self, items: &[T], mut write_item: impl FnMut(&T, &mut Vec<u8>)) {
        self.0.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.0.push(b',');
            }
            write_item(item, self.0);
        }
        self.0.push(b']');
    }

    fn strings(self, items: &[Arc<[u8]>]) {
        self.array(items, |item, out| Value(out).string(item));
    }

    fn duration(self, expr: Option<&DurationExpr>) {
        match expr {
            Some(expr) => write_duration(expr, self.0),
            None => self.null(),
        }
    }

    /// A plain literal shows up in milliseconds only.
    fn duration_unless_literal(self, expr: Option<&DurationExpr>) {
        self.duration(expr.filter(|expr| expr.literal_ns().is_none()));
    }

    /// The milliseconds of a literal, 0 for an expression.
    fn milliseconds(self, expr: Option<&DurationExpr>) {
        self.integer(expr.and_then(DurationExpr::literal_ns).unwrap_or_default() / 1_000_000);
    }

    fn timestamp(self, at: Option<At>) {
        match at {
            Some(At::Time(ms)) => self.integer(ms),
            _ => self.null(),
        }
    }

    fn start_or_end(self, at: Option<At>) {
        match at {
            Some(At::Start) => self.string("start"),
            Some(At::End) => self.string("end"),
            _ => self.null(),
        }
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
