//! Random trees that a text can spell: what the printer writes, the parser reads back.

use std::sync::Arc;

use model::Matcher;
use model::labels::METRIC_NAME;
use model::matcher::MatchOp;
use proptest::prelude::*;

use super::super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Boundary, Call, Cardinality, DurationExpr, DurationOp,
    Expr, MatrixSelector, Modifiers, NumberLiteral, Paren, Span, StringLiteral, Subquery, Unary,
    VectorMatching, VectorSelector,
};
use super::super::functions;

const NO: Span = Span { start: 0, end: 0 };

fn number() -> BoxedStrategy<NumberLiteral> {
    let value = prop_oneof![
        (0_u32..1000).prop_map(f64::from),
        any::<f64>().prop_map(f64::abs).prop_filter("finite", |v| v.is_finite()),
        Just(f64::INFINITY),
    ];
    prop_oneof![value.prop_map(|value| NumberLiteral { value, is_duration: false, span: NO }), duration(),]
        .boxed()
}

/// A duration literal as it is read: whole milliseconds, but for those of which printing cuts one off
/// (2054.294 s is 34m14s293ms to upstream, whose nanoseconds come out just short of a millisecond).
fn duration() -> BoxedStrategy<NumberLiteral> {
    (1_u32..100_000_000)
        .prop_filter_map("prints short", |ms| {
            let value = f64::from(ms / 1000) + f64::from(ms % 1000 * 1_000_000) / 1e9;
            let is_exact = value * 1e9 >= f64::from(ms) * 1e6;
            is_exact.then_some(NumberLiteral { value, is_duration: true, span: NO })
        })
        .boxed()
}

fn label() -> BoxedStrategy<Arc<[u8]>> {
    let name =
        prop_oneof!["[a-z_][a-z0-9_]{0,5}", "(by|on|sum|offset|bool|start|without|inf)", "[a-zé.\" ]{1,4}"];
    name.prop_map(|name| name.as_bytes().into()).boxed()
}

/// Names in brackets must not be words that only quotes make labels.
fn grouping() -> BoxedStrategy<Vec<Arc<[u8]>>> {
    let label = label().prop_filter("keyword", |l| !matches!(&**l, b"without" | b"inf"));
    prop::collection::vec(label, 0..3).boxed()
}

fn bytes() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        "[a-z0-9]{0,4}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6).prop_filter("literal", |bytes| {
            // The literal replacement character is refused, as upstream refuses it.
            !String::from_utf8_lossy(bytes).contains('\u{fffd}') || std::str::from_utf8(bytes).is_err()
        }),
    ]
    .boxed()
}

fn selector() -> BoxedStrategy<VectorSelector> {
    let op = prop_oneof![Just(MatchOp::Eq), Just(MatchOp::Ne), Just(MatchOp::Re), Just(MatchOp::Nre)];
    let matcher = (op, label(), bytes()).prop_map(|(op, name, value)| match op {
        MatchOp::Eq | MatchOp::Ne => Matcher::new(op, name, value).unwrap(),
        // Patterns are the business of the matcher's own tests.
        _ => Matcher::new(op, name, "a.+|b").unwrap(),
    });
    let name = prop_oneof!["[a-z_:][a-z0-9_:]{0,6}x", "(sum|and|offset|step|by|fill|anchored)"];
    (name, prop::collection::vec(matcher, 0..3), boundary())
        .prop_map(|(name, mut matchers, boundary)| {
            matchers.push(Matcher::equal(METRIC_NAME, &name));
            let name = name.as_bytes().into();
            VectorSelector { name, matchers, modifiers: Modifiers::default(), boundary, span: NO }
        })
        .boxed()
}

fn boundary() -> BoxedStrategy<Option<Boundary>> {
    prop_oneof![4 => Just(None), 1 => Just(Some(Boundary::Anchored)), 1 => Just(Some(Boundary::Smoothed))]
        .boxed()
}

fn modifiers() -> BoxedStrategy<Modifiers> {
    let at = prop_oneof![
        (-1_000_000_000_000_i64..1_000_000_000_000).prop_map(At::Time),
        Just(At::Start),
        Just(At::End)
    ];
    (prop::option::weighted(0.3, offset()), prop::option::weighted(0.3, at))
        .prop_map(|(offset, at)| Modifiers { offset, at })
        .boxed()
}

fn offset() -> BoxedStrategy<DurationExpr> {
    let signed = (duration(), any::<bool>()).prop_map(|(mut literal, negative)| {
        if negative {
            literal.value = -literal.value;
        }
        DurationExpr::Literal(literal)
    });
    let words = prop_oneof![Just(DurationExpr::Step(NO)), Just(DurationExpr::Range(NO))];
    let negated = words.clone().prop_map(|operand| DurationExpr::Unary {
        op: DurationOp::Sub,
        operand: Box::new(operand),
        span: NO,
    });
    prop_oneof![
        signed,
        words,
        negated,
        duration_expr().prop_filter_map("paren", |expr| match expr {
            DurationExpr::Paren(..) => Some(expr),
            DurationExpr::Binary { .. } => Some(DurationExpr::Paren(Box::new(expr), NO)),
            _ => None,
        })
    ]
    .boxed()
}

fn range() -> BoxedStrategy<DurationExpr> {
    prop_oneof![3 => duration().prop_map(DurationExpr::Literal), 1 => duration_expr()].boxed()
}

/// Operands of operators stand in parentheses unless they are single tokens.
fn duration_expr() -> BoxedStrategy<DurationExpr> {
    let leaf = prop_oneof![
        duration().prop_map(DurationExpr::Literal),
        Just(DurationExpr::Step(NO)),
        Just(DurationExpr::Range(NO)),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let operand = inner.clone().prop_map(|expr| match expr {
            DurationExpr::Binary { .. } | DurationExpr::Unary { .. } => {
                DurationExpr::Paren(Box::new(expr), NO)
            }
            expr => expr,
        });
        let op = prop::sample::select(vec![
            DurationOp::Add,
            DurationOp::Sub,
            DurationOp::Mul,
            DurationOp::Div,
            DurationOp::Mod,
            DurationOp::Pow,
        ]);
        let pair = (inner.clone(), inner);
        prop_oneof![
            (op, operand.clone(), operand).prop_map(|(op, lhs, rhs)| {
                DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), span: NO }
            }),
            pair.clone().prop_map(|(a, b)| DurationExpr::MinOf {
                lhs: Box::new(a),
                rhs: Box::new(b),
                span: NO
            }),
            pair.prop_map(|(a, b)| DurationExpr::MaxOf { lhs: Box::new(a), rhs: Box::new(b), span: NO }),
        ]
    })
    .boxed()
}

/// An operator behind an offset in parentheses would extend it, so such a selector stands in parentheses itself.
fn vector_leaf() -> BoxedStrategy<Expr> {
    (selector(), modifiers())
        .prop_map(|(selector, modifiers)| {
            let is_extensible = matches!(modifiers.offset, Some(DurationExpr::Paren(..)));
            let expr = Expr::Vector(VectorSelector { modifiers, ..selector });
            if is_extensible { paren(expr) } else { expr }
        })
        .boxed()
}

fn matrix() -> BoxedStrategy<Expr> {
    (selector(), modifiers(), range())
        .prop_map(|(selector, modifiers, range)| {
            Expr::Matrix(MatrixSelector {
                selector: VectorSelector { modifiers, ..selector },
                range,
                span: NO,
            })
        })
        .boxed()
}

fn paren(expr: Expr) -> Expr {
    Expr::Paren(Paren { expr: Box::new(expr), span: NO })
}

/// Anything that is no single token goes into parentheses where an operand stands.
fn operand(expr: Expr) -> Box<Expr> {
    Box::new(match expr {
        Expr::Binary(_) | Expr::Unary(_) => paren(expr),
        expr => expr,
    })
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Call(Call { func: functions::lookup(name).unwrap(), args, span: NO })
}

fn aggregate(op: AggregateOp, expr: Expr, grouping: Vec<Arc<[u8]>>, without: bool) -> Expr {
    let number = NumberLiteral { value: 2.0, is_duration: false, span: NO };
    let param = op.param_type().map(|_| {
        Box::new(match op {
            AggregateOp::CountValues => {
                Expr::String(StringLiteral { value: b"a\xffb".as_slice().into(), span: NO })
            }
            _ => Expr::Number(number),
        })
    });
    Expr::Aggregate(Aggregate { op, expr: Box::new(expr), param, grouping, without, span: NO })
}

fn matching(is_set: bool) -> BoxedStrategy<VectorMatching> {
    let fill =
        prop::option::weighted(0.2, prop_oneof![Just(0.0), Just(-1.5), Just(1e9), Just(f64::INFINITY)]);
    (grouping(), any::<bool>(), 0..3_usize, grouping(), fill.clone(), fill)
        .prop_map(move |(labels, on, card, mut include, fill_left, fill_right)| {
            if is_set {
                let include = Vec::new();
                let card = Cardinality::ManyToMany;
                return VectorMatching { card, labels, on, include, fill_left: None, fill_right: None };
            }
            let card = [Cardinality::OneToOne, Cardinality::ManyToOne, Cardinality::OneToMany][card];
            include.retain(|label| card != Cardinality::OneToOne && !labels.contains(label));
            VectorMatching { card, labels, on, include, fill_left, fill_right }
        })
        .boxed()
}

fn binary_op() -> BoxedStrategy<BinaryOp> {
    prop::sample::select(vec![
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Pow,
        BinaryOp::Atan2,
        BinaryOp::Eq,
        BinaryOp::Ne,
        BinaryOp::Lt,
        BinaryOp::Le,
        BinaryOp::Gt,
        BinaryOp::Ge,
        BinaryOp::TrimUpper,
        BinaryOp::TrimLower,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Unless,
    ])
    .boxed()
}

/// A checked tree of type instant vector.
pub(super) fn vector() -> BoxedStrategy<Expr> {
    vector_leaf()
        .prop_recursive(5, 24, 3, |inner| {
            let op = prop::sample::select(AggregateOp::ALL.to_vec());
            let binary = binary_op().prop_flat_map(|op| (Just(op), matching(op.is_set()), any::<bool>()));
            // Upstream's scanner wants a number somewhere before the colon.
            let numeric = range()
                .prop_filter("no number", |range| range.to_string().contains(|c: char| c.is_ascii_digit()));
            let subquery = (inner.clone(), numeric, prop::option::of(range()), modifiers()).prop_map(
                |(expr, range, step, modifiers)| {
                    let expr =
                        Expr::Subquery(Subquery { expr: operand(expr), range, step, modifiers, span: NO });
                    call("max_over_time", vec![expr])
                },
            );
            prop_oneof![
                inner.clone().prop_map(paren),
                (inner.clone(), any::<bool>()).prop_map(|(expr, negative)| {
                    Expr::Unary(Unary { negative, expr: operand(expr), span: NO })
                }),
                matrix().prop_map(|matrix| call("rate", vec![matrix])),
                subquery,
                (inner.clone(), number())
                    .prop_map(|(expr, n)| call("clamp_min", vec![expr, Expr::Number(n)])),
                (op, inner.clone(), grouping(), any::<bool>())
                    .prop_map(|(op, expr, grouping, without)| { aggregate(op, expr, grouping, without) }),
                (binary, inner.clone(), inner.clone()).prop_map(|((op, matching, return_bool), lhs, rhs)| {
                    let return_bool = return_bool && op.is_comparison();
                    Expr::Binary(Binary {
                        op,
                        lhs: operand(lhs),
                        rhs: operand(rhs),
                        return_bool,
                        matching: Some(matching),
                        span: NO,
                    })
                }),
                (inner, number()).prop_map(|(lhs, n)| {
                    let (lhs, rhs) = (operand(lhs), Box::new(Expr::Number(n)));
                    let op = BinaryOp::Gt;
                    Expr::Binary(Binary { op, lhs, rhs, return_bool: false, matching: None, span: NO })
                }),
            ]
        })
        .boxed()
}

/// Takes away what text does not keep: places, the order of matchers, how a plain range was written.
pub(super) fn canonical(expr: &mut Expr) {
    match expr {
        Expr::Number(e) => e.span = NO,
        Expr::String(e) => e.span = NO,
        Expr::Vector(e) => canonical_selector(e),
        Expr::Matrix(e) => {
            canonical_selector(&mut e.selector);
            canonical_range(&mut e.range);
            e.span = NO;
        }
        Expr::Subquery(e) => {
            canonical(&mut e.expr);
            canonical_range(&mut e.range);
            e.step.as_mut().map(canonical_range);
            canonical_modifiers(&mut e.modifiers);
            e.span = NO;
        }
        Expr::Call(e) => {
            e.args.iter_mut().for_each(canonical);
            e.span = NO;
        }
        Expr::Aggregate(e) => {
            canonical(&mut e.expr);
            if let Some(param) = &mut e.param {
                canonical(param);
            }
            e.span = NO;
        }
        Expr::Binary(e) => {
            canonical(&mut e.lhs);
            canonical(&mut e.rhs);
            e.span = NO;
        }
        Expr::Unary(e) => {
            canonical(&mut e.expr);
            e.span = NO;
        }
        Expr::Paren(e) => {
            canonical(&mut e.expr);
            e.span = NO;
        }
    }
}

fn canonical_selector(selector: &mut VectorSelector) {
    selector.matchers.sort_by_key(ToString::to_string);
    canonical_modifiers(&mut selector.modifiers);
    selector.span = NO;
}

fn canonical_modifiers(modifiers: &mut Modifiers) {
    modifiers.offset.as_mut().map(canonical_range);
}

/// A plain literal always prints as a duration.
fn canonical_range(range: &mut DurationExpr) {
    if let DurationExpr::Literal(literal) = range {
        literal.is_duration = true;
    }
    canonical_duration(range);
}

fn canonical_duration(expr: &mut DurationExpr) {
    match expr {
        DurationExpr::Literal(literal) => literal.span = NO,
        DurationExpr::Step(span) | DurationExpr::Range(span) => *span = NO,
        DurationExpr::Unary { operand, span, .. } => {
            canonical_duration(operand);
            *span = NO;
        }
        DurationExpr::Binary { lhs, rhs, span, .. }
        | DurationExpr::MinOf { lhs, rhs, span }
        | DurationExpr::MaxOf { lhs, rhs, span } => {
            canonical_duration(lhs);
            canonical_duration(rhs);
            *span = NO;
        }
        DurationExpr::Paren(inner, span) => {
            canonical_duration(inner);
            *span = NO;
        }
    }
}
