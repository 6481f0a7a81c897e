//! Types and arity, with upstream's messages. Each node is checked when it is made, its parts before it.
//!
//! Of all complaints upstream shows the first that its walk over the finished tree finds. That is the first made
//! here but for calls and aggregations, of whose parts the complaints are sorted again ([`call`], [`aggregate`]).
//!
//! The check also completes what only types decide: set operators match many to many, and operators
//! between anything but two vectors have no matching at all.
//!
//! Compat: prometheus `promql/parser/parse.go`, `checkAST`.

use model::labels::METRIC_NAME;
use model::quote::go_quote;

use super::ast::{Aggregate, Binary, Call, Cardinality, Expr, Span, ValueType, VectorSelector};
use super::lex::is_space;

/// What is wrong about types, and where.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) span: Span,
    pub(super) message: String,
}

pub(super) type Checked = Result<(), Box<Complaint>>;

/// The complaints inside the arguments, in their order; shorter than these if the last ones have none.
type Inside = Vec<Option<Box<Complaint>>>;

fn refuse(span: Span, message: impl Into<String>) -> Checked {
    Err(Box::new(Complaint { span, message: message.into() }))
}

fn take(inside: &mut Inside, index: usize) -> Checked {
    inside.get_mut(index).and_then(Option::take).map_or(Ok(()), Err)
}

fn expect(expr: &Expr, want: ValueType, place: impl FnOnce() -> String) -> Checked {
    let got = expr.value_type();
    if got == want {
        return Ok(());
    }
    refuse(expr.span(), format!("expected type {want} in {}, got {got}", place()))
}

/// The parameter is written first, but upstream looks at it last.
pub(super) fn aggregate(aggregate: &Aggregate, mut inside: Inside) -> Checked {
    take(&mut inside, usize::from(aggregate.param.is_some()))?;
    expect(&aggregate.expr, ValueType::Vector, || "aggregation expression".to_owned())?;
    if let (Some(ty), Some(param)) = (aggregate.op.param_type(), &aggregate.param) {
        take(&mut inside, 0)?;
        expect(param, ty, || "aggregation parameter".to_owned())?;
    }
    Ok(())
}

/// `got` is the type of the operand.
pub(super) fn unary(span: Span, got: ValueType) -> Checked {
    if matches!(got, ValueType::Scalar | ValueType::Vector) {
        return Ok(());
    }
    refuse(
        span,
        format!(
            "unary expression only allowed on expressions of type scalar or instant vector, got \"{got}\""
        ),
    )
}

/// `got` is the type of what is queried.
pub(super) fn subquery(span: Span, got: ValueType) -> Checked {
    if got == ValueType::Vector {
        return Ok(());
    }
    // Upstream shows the internal name here.
    refuse(span, format!("subquery is only allowed on instant vector, got {} instead", got.as_str()))
}

/// The number of arguments comes before what is wrong inside them.
pub(super) fn call(call: &Call, mut inside: Inside) -> Checked {
    arity(call)?;
    if call.func.name == "info"
        && let [_, selector, ..] = &*call.args
    {
        info(call.span, selector)?;
        // Such a selector may match everything, and nothing else can be wrong with it.
        drop(take(&mut inside, 1));
    }
    for (i, arg) in call.args.iter().enumerate() {
        let Some(want) = call.func.arg_type(i) else {
            break;
        };
        take(&mut inside, i)?;
        expect(arg, want, || format!("call to function {}", go_quote(call.func.name.as_bytes())))?;
    }
    Ok(())
}

/// The second argument of `info(v, {..})`: it must not name a metric outside its braces.
fn info(span: Span, selector: &Expr) -> Checked {
    let got = selector.value_type();
    if got != ValueType::Vector {
        let want = ValueType::Vector;
        return refuse(span, format!("expected type {want} in call to function \"info\", got {got}"));
    }
    match selector {
        Expr::Vector(selector) if selector.name.is_empty() => Ok(()),
        Expr::Vector(selector) => {
            refuse(selector.span, "expected label selectors only, got vector selector instead")
        }
        other => refuse(other.span(), "expected label selectors only"),
    }
}

fn arity(call: &Call) -> Checked {
    let (declared, got) = (call.func.args.len(), call.args.len());
    let refuse_arity = |what: &str, n: usize| {
        let name = go_quote(call.func.name.as_bytes());
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

/// An operator between operands of the types `lhs` and `rhs`, written in `text`.
pub(super) fn binary(binary: &mut Binary, lhs: ValueType, rhs: ValueType, text: &str) -> Checked {
    use ValueType::{Scalar, Vector};

    let (op, span) = (binary.op, binary.span);
    if binary.return_bool && !op.is_comparison() {
        let place = operator_span(binary, text);
        return refuse(place, "bool modifier can only be used on comparison operators");
    }
    if op.is_comparison() && !binary.return_bool && (lhs, rhs) == (Scalar, Scalar) {
        let place = operator_span(binary, text);
        return refuse(place, "comparisons between scalars must use BOOL modifier");
    }
    let Some(matching) = &mut binary.matching else {
        return Ok(());
    };
    if op.is_set() && matching.card == Cardinality::OneToOne {
        matching.card = Cardinality::ManyToMany;
    }
    let twice = |label: &&_| matching.on && matching.include.contains(*label);
    if let Some(label) = matching.labels.iter().find(twice) {
        let message = format!("label {} must not occur in ON and GROUP clause at once", go_quote(label));
        return refuse(operator_span(binary, text), message);
    }
    for (ty, operand) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
        if !matches!(ty, Scalar | Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return refuse(operand.span(), message);
        }
    }
    let is_filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    if (lhs, rhs) != (Vector, Vector) {
        if !matching.labels.is_empty() {
            return refuse(span, "vector matching only allowed between instant vectors");
        }
        if is_filled {
            return refuse(span, "filling in missing series only allowed between instant vectors");
        }
        if op.is_set() {
            let message = format!("set operator \"{}\" not allowed in binary scalar expression", op.as_str());
            return refuse(span, message);
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
fn operator_span(binary: &Binary, text: &str) -> Span {
    let (start, end) = (binary.lhs.span().end, binary.rhs.span().start);
    let between = text.get(start as usize..end as usize).unwrap_or_default();
    let leading = between.len() - between.trim_start_matches(is_space).len();
    let trailing = between.len() - between.trim_end_matches(is_space).len();
    let length = |n: usize| u32::try_from(n).unwrap_or_default();
    Span { start: start + length(leading), end: end.saturating_sub(1 + length(trailing)) }
}

pub(super) fn selector(selector: &VectorSelector) -> Checked {
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
