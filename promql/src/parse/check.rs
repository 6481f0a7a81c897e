//! Types and arity, with upstream's messages in upstream's order; the first one ends the check.
//!
//! The check also completes what only types decide: set operators match many to many, and operators
//! between anything but two vectors have no matching at all.
//!
//! Compat: prometheus `promql/parser/parse.go`, `checkAST`.

use model::labels::METRIC_NAME;
use model::quote::go_quote;

use super::ParseError;
use super::ast::{
    Aggregate, Binary, Call, Cardinality, Expr, Span, Subquery, Unary, ValueType, VectorSelector,
};
use super::lex::is_space;

type Checked<T> = Result<T, (Span, String)>;

/// Checks a tree that was parsed from `text`.
pub(super) fn check(expr: &mut Expr, text: &str) -> Result<(), ParseError> {
    Checker { text }.expr(expr).map(drop).map_err(|(span, message)| ParseError::new(text, span, message))
}

struct Checker<'a> {
    text: &'a str,
}

fn refuse<T>(span: Span, message: impl Into<String>) -> Checked<T> {
    Err((span, message.into()))
}

impl Checker<'_> {
    fn expr(&self, expr: &mut Expr) -> Checked<ValueType> {
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Vector(selector) => check_selector(selector)?,
            Expr::Matrix(matrix) => check_selector(&matrix.selector)?,
            Expr::Subquery(subquery) => self.subquery(subquery)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Expr::Binary(binary) => self.binary(binary)?,
            Expr::Unary(unary) => self.unary(unary)?,
            Expr::Paren(paren) => drop(self.expr(&mut paren.expr)?),
        }
        Ok(expr.value_type())
    }

    fn expect(&self, expr: &mut Expr, want: ValueType, place: &str) -> Checked<()> {
        let got = self.expr(expr)?;
        if got == want {
            return Ok(());
        }
        refuse(expr.span(), format!("expected type {want} in {place}, got {got}"))
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Checked<()> {
        self.expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression")?;
        match (aggregate.op.param_type(), &mut aggregate.param) {
            (Some(ty), Some(param)) => self.expect(param, ty, "aggregation parameter"),
            _ => Ok(()),
        }
    }

    fn unary(&self, unary: &mut Unary) -> Checked<()> {
        match self.expr(&mut unary.expr)? {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            got => refuse(
                unary.span,
                format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got \"{got}\""
                ),
            ),
        }
    }

    fn subquery(&self, subquery: &mut Subquery) -> Checked<()> {
        match self.expr(&mut subquery.expr)? {
            ValueType::Vector => Ok(()),
            // Upstream shows the internal name here.
            got => refuse(
                subquery.span,
                format!("subquery is only allowed on instant vector, got {} instead", got.as_str()),
            ),
        }
    }

    fn call(&self, call: &mut Call) -> Checked<()> {
        let name = go_quote(call.func.name.as_bytes());
        check_arity(call, &name)?;
        if call.func.name == "info" {
            return self.info(call);
        }
        for (i, arg) in call.args.iter_mut().enumerate() {
            let Some(want) = call.func.arg_type(i) else {
                break;
            };
            self.expect(arg, want, &format!("call to function {name}"))?;
        }
        Ok(())
    }

    /// `info(v, {..})`: the selector may match everything, but must not name a metric outside its braces.
    /// Upstream looks at it before it descends into the first argument.
    fn info(&self, call: &mut Call) -> Checked<()> {
        let span = call.span;
        if let Some(selector) = call.args.get(1) {
            let got = selector.value_type();
            if got != ValueType::Vector {
                let want = ValueType::Vector;
                return refuse(span, format!("expected type {want} in call to function \"info\", got {got}"));
            }
            match selector {
                Expr::Vector(selector) if selector.name.is_empty() => {}
                Expr::Vector(selector) => {
                    return refuse(
                        selector.span,
                        "expected label selectors only, got vector selector instead",
                    );
                }
                other => return refuse(other.span(), "expected label selectors only"),
            }
        }
        let Some(vector) = call.args.first_mut() else {
            return Ok(());
        };
        self.expect(vector, ValueType::Vector, "call to function \"info\"")
    }

    fn binary(&self, binary: &mut Binary) -> Checked<()> {
        let lhs = self.expr(&mut binary.lhs)?;
        let rhs = self.expr(&mut binary.rhs)?;
        let (op, span) = (binary.op, binary.span);
        if binary.return_bool && !op.is_comparison() {
            return refuse(
                self.operator_span(binary),
                "bool modifier can only be used on comparison operators",
            );
        }
        if op.is_comparison() && !binary.return_bool && (lhs, rhs) == (ValueType::Scalar, ValueType::Scalar) {
            return refuse(self.operator_span(binary), "comparisons between scalars must use BOOL modifier");
        }
        let operator_span = self.operator_span(binary);
        let Some(matching) = &mut binary.matching else {
            return Ok(());
        };
        if op.is_set() && matching.card == Cardinality::OneToOne {
            matching.card = Cardinality::ManyToMany;
        }
        if matching.on
            && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            let label = go_quote(label);
            return refuse(
                operator_span,
                format!("label {label} must not occur in ON and GROUP clause at once"),
            );
        }
        for (ty, operand) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
            if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
                return refuse(
                    operand.span(),
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        let is_filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        if (lhs, rhs) != (ValueType::Vector, ValueType::Vector) {
            if !matching.labels.is_empty() {
                return refuse(span, "vector matching only allowed between instant vectors");
            }
            if is_filled {
                return refuse(span, "filling in missing series only allowed between instant vectors");
            }
            if op.is_set() {
                return refuse(
                    span,
                    format!("set operator \"{}\" not allowed in binary scalar expression", op.as_str()),
                );
            }
            binary.matching = None;
        } else if op.is_set() {
            if matching.card != Cardinality::ManyToMany {
                return refuse(span, format!("no grouping allowed for \"{}\" operation", op.as_str()));
            }
            if is_filled {
                return refuse(span, "filling in missing series not allowed for set operators");
            }
        }
        Ok(())
    }

    /// From the first byte behind the left operand that is no space to the last one before the right operand
    /// (which itself is outside, as upstream has it).
    fn operator_span(&self, binary: &Binary) -> Span {
        let (start, end) = (binary.lhs.span().end, binary.rhs.span().start);
        let between = self.text.get(start as usize..end as usize).unwrap_or_default();
        let leading = between.len() - between.trim_start_matches(is_space).len();
        let trailing = between.len() - between.trim_end_matches(is_space).len();
        let length = |n: usize| u32::try_from(n).unwrap_or_default();
        Span { start: start + length(leading), end: end.saturating_sub(1 + length(trailing)) }
    }
}

fn check_arity(call: &Call, name: &str) -> Checked<()> {
    let (declared, got) = (call.func.args.len(), call.args.len());
    let refuse_arity = |what: &str, n: usize| {
        refuse(call.span, format!("expected {what}{n} argument(s) in call to {name}, got {got}"))
    };
    if call.func.variadic == 0 {
        return if got == declared { Ok(()) } else { refuse_arity("", declared) };
    }
    let least = declared - 1;
    if got < least {
        return refuse_arity("at least ", least);
    }
    match usize::try_from(call.func.variadic) {
        Ok(extra) if got > least + extra => refuse_arity("at most ", least + extra),
        _ => Ok(()),
    }
}

fn check_selector(selector: &VectorSelector) -> Checked<()> {
    let Some((_, in_braces)) = selector.matchers.split_last().filter(|_| !selector.name.is_empty()) else {
        // Without a name something must keep a typo from selecting everything.
        if selector.matchers.iter().all(model::Matcher::matches_empty) {
            return refuse(selector.span, "vector selector must contain at least one non-empty matcher");
        }
        return Ok(());
    };
    match in_braces.iter().find(|matcher| *matcher.name == *METRIC_NAME) {
        Some(matcher) => refuse(
            selector.span,
            format!(
                "metric name must not be set twice: {} or {}",
                go_quote(&selector.name),
                go_quote(&matcher.value)
            ),
        ),
        None => Ok(()),
    }
}
