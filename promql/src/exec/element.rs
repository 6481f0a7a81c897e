//! One element of a vector with another, or with a scalar: what an operator makes of floats and histograms.
//!
//! Columns of floats have loops of their own in `math`; this is for where a histogram is involved, and for elements
//! that are matched one by one. Which remark of a step is raised is for the caller to decide: only the last one.
//!
//! Compat: prometheus `promql/engine.go`, `vectorElemBinop` (3.14).

use std::collections::BTreeMap;
use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::{Combined, CounterResetHint, MixedSchemas, TrimSide};
use parking_lot::Mutex;

use super::column::{Histograms, Row, RowView, Scalars, bits};
use super::{Ctx, math};
use crate::annotations::{Annotation, Place};
use crate::parse::ast::BinaryOp;

/// An operand: the sample of a series at one step, or a scalar.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueRef<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl ValueRef<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// What becomes of two elements.
#[derive(Clone, Debug)]
pub(crate) enum Element {
    /// They cannot be combined; it is as if they had not met.
    Impossible,
    /// They met, and the comparison does not hold.
    Discarded,
    Kept(Value),
}

/// What is to be said about two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remark {
    Incompatible { lhs: &'static str, rhs: &'static str },
    MixedSchemas,
    ResetsCollide,
    Reconciled,
}

impl Remark {
    pub(crate) fn annotation(self, op: BinaryOp, place: Place) -> Annotation {
        let operation = if op == BinaryOp::Sub { "subtraction" } else { "addition" };
        match self {
            Self::Incompatible { lhs, rhs } => Annotation::incompatible_types(lhs, op.as_str(), rhs, place),
            Self::MixedSchemas => Annotation::incompatible_layout(op.as_str(), place),
            Self::ResetsCollide => Annotation::resets_collide(operation, place),
            Self::Reconciled => Annotation::reconciled(operation, place),
        }
    }
}

/// What `op` makes of two elements. With `return_bool` a comparison that is possible gives 1 or 0; without, it keeps
/// the left one.
pub(crate) fn element(
    op: BinaryOp,
    lhs: ValueRef<'_>,
    rhs: ValueRef<'_>,
    return_bool: bool,
) -> (Element, Option<Remark>) {
    use BinaryOp::{Add, Div, Eq, Mul, Ne, Sub, TrimLower, TrimUpper};
    use ValueRef::{Float, Histogram};
    let changed = |h: &FloatHistogram, change: &dyn Fn(&mut FloatHistogram)| {
        let mut h = h.clone();
        change(&mut h);
        (Element::Kept(Value::Histogram(Arc::new(h))), None)
    };
    match (op, lhs, rhs) {
        (TrimUpper | TrimLower, Float(_), Float(_)) => {}
        (_, Float(a), Float(b)) => {
            let outcome = math::element_binary(op, return_bool, a, b);
            return (outcome.map_or(Element::Discarded, |v| Element::Kept(Value::Float(v))), None);
        }
        (Mul, Float(factor), Histogram(h)) | (Mul, Histogram(h), Float(factor)) => {
            return changed(h, &|h| scale(h, factor));
        }
        (Div, Histogram(h), Float(divisor)) => return changed(h, &|h| divide(h, divisor)),
        (TrimUpper, Histogram(h), Float(bound)) => return changed(h, &|h| h.trim(bound, TrimSide::Below)),
        (TrimLower, Histogram(h), Float(bound)) => return changed(h, &|h| h.trim(bound, TrimSide::Above)),
        (Add | Sub, Histogram(a), Histogram(b)) => return combined(op, a, b),
        (Eq | Ne, Histogram(a), Histogram(b)) => {
            let holds = a.is_equal(b) == (op == Eq);
            let outcome = match (return_bool, holds) {
                (true, _) => Element::Kept(Value::Float(f64::from(u8::from(holds)))),
                (false, true) => Element::Kept(Value::Histogram(Arc::clone(a))),
                (false, false) => Element::Discarded,
            };
            return (outcome, None);
        }
        _ => {}
    }
    (Element::Impossible, Some(Remark::Incompatible { lhs: lhs.kind(), rhs: rhs.kind() }))
}

fn scale(h: &mut FloatHistogram, factor: f64) {
    h.multiply(factor);
    h.compact(0);
}

fn divide(h: &mut FloatHistogram, divisor: f64) {
    h.divide(divisor);
    h.compact(0);
}

/// The histograms of a column and a scalar, in place; `false` if `op` cannot combine them.
pub(crate) fn change_by_scalar(
    op: BinaryOp,
    histograms: &mut Histograms,
    scalar: &Scalars,
    scalar_left: bool,
) -> bool {
    let change: fn(&mut FloatHistogram, f64) = match op {
        BinaryOp::Mul => scale,
        BinaryOp::Div if !scalar_left => divide,
        BinaryOp::TrimUpper if !scalar_left => |h, bound| h.trim(bound, TrimSide::Below),
        BinaryOp::TrimLower if !scalar_left => |h, bound| h.trim(bound, TrimSide::Above),
        _ => return false,
    };
    change_each(histograms, |step| scalar.at(step), change);
    true
}

/// Changes each histogram of a column, together with what else there is at its step. One that is at several steps, as
/// most are where steps are closer than samples, is changed once if that is the same, too.
pub(crate) fn change_each<T: Copy + SameBits>(
    histograms: &mut Histograms,
    at: impl Fn(usize) -> T,
    change: impl Fn(&mut FloatHistogram, T),
) {
    let mut last: Option<(Arc<FloatHistogram>, T, Arc<FloatHistogram>)> = None;
    for (step, histogram) in histograms.iter_mut() {
        let other = at(step);
        if let Some((before, with, changed)) = &last
            && Arc::ptr_eq(before, histogram)
            && with.is_same(other)
        {
            *histogram = Arc::clone(changed);
            continue;
        }
        let mut changed = FloatHistogram::clone(histogram);
        change(&mut changed, other);
        let changed = Arc::new(changed);
        last = Some((std::mem::replace(histogram, Arc::clone(&changed)), other, changed));
    }
}

/// Whether two operands give the same result.
pub(crate) trait SameBits {
    fn is_same(&self, other: Self) -> bool;
}

impl SameBits for () {
    fn is_same(&self, (): Self) -> bool {
        true
    }
}

impl SameBits for f64 {
    fn is_same(&self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

fn combined(op: BinaryOp, a: &FloatHistogram, b: &FloatHistogram) -> (Element, Option<Remark>) {
    let mut result = a.clone();
    let outcome = if op == BinaryOp::Sub {
        let outcome = result.sub_assign(b);
        result.counter_reset_hint = CounterResetHint::Gauge;
        outcome
    } else {
        result.add_assign(b)
    };
    match outcome {
        Err(MixedSchemas) => (Element::Impossible, Some(Remark::MixedSchemas)),
        // A collision takes the element away, as upstream's does, and with it the word about bounds.
        Ok(Combined { resets_collide: true, .. }) => (Element::Impossible, Some(Remark::ResetsCollide)),
        Ok(Combined { reconciled, .. }) => {
            result.compact(0);
            let kept = Element::Kept(Value::Histogram(Arc::new(result)));
            (kept, reconciled.then_some(Remark::Reconciled))
        }
    }
}

/// What a binary operator has to say, rows and steps in any order: of each step what its last row says.
#[derive(Debug)]
pub(crate) struct Remarks {
    op: BinaryOp,
    place: Place,
    last: Mutex<BTreeMap<usize, (usize, Remark)>>,
}

impl Remarks {
    pub(crate) fn new(op: BinaryOp, place: Place) -> Self {
        Self { op, place, last: Mutex::default() }
    }

    /// Takes what row `row` has to say, as pairs of a step and a remark.
    pub(crate) fn note(&self, row: usize, said: impl IntoIterator<Item = (usize, Remark)>) {
        let mut said = said.into_iter().peekable();
        if said.peek().is_none() {
            return;
        }
        let mut last = self.last.lock();
        for (step, remark) in said {
            let known = last.entry(step).or_insert((row, remark));
            if known.0 <= row {
                *known = (row, remark);
            }
        }
    }

    pub(crate) fn raise(&self, ctx: &Ctx<'_>) {
        let mut raised: Vec<Remark> = Vec::new();
        for &(_, remark) in self.last.lock().values() {
            if !raised.contains(&remark) {
                raised.push(remark);
                ctx.annotate(remark.annotation(self.op, self.place));
            }
        }
    }
}

/// Two rows of which one has histograms, or under an operator that floats do not have. The first, `row`, becomes the
/// result; it is the right operand if `swapped`.
pub(crate) fn join_row(
    op: BinaryOp,
    (return_bool, swapped): (bool, bool),
    row: Row<'_>,
    other: RowView<'_>,
    (number, remarks): (usize, &Remarks),
) {
    let Row { values, present, histograms } = row;
    let mut said = Vec::new();
    let mut results: Vec<(usize, Value)> = Vec::new();
    let mut meet = |step: usize, mine: ValueRef<'_>, theirs: ValueRef<'_>| {
        let (lhs, rhs) = if swapped { (theirs, mine) } else { (mine, theirs) };
        let (outcome, remark) = element(op, lhs, rhs, return_bool);
        said.extend(remark.map(|remark| (step, remark)));
        if let Element::Kept(value) = outcome {
            results.push((step, value));
        }
    };
    for (step, mine) in histograms.iter() {
        if let Some(theirs) = other.get(step) {
            meet(step, ValueRef::Histogram(mine), theirs);
        }
    }
    for (step, theirs) in other.histograms.iter() {
        if bits::get(present, step) {
            meet(step, ValueRef::Float(values[step]), ValueRef::Histogram(theirs));
        }
    }
    if op.is_trim() {
        for step in bits::ones(present).filter(|&step| bits::get(other.present, step)) {
            meet(step, ValueRef::Float(values[step]), ValueRef::Float(other.values[step]));
        }
        present.fill(0);
    } else {
        math::join_row(op, return_bool, swapped, values, present, (other.values, other.present));
    }
    histograms.clear();
    results.sort_by_key(|(step, _)| *step);
    for (step, value) in results {
        match value {
            Value::Histogram(histogram) => histograms.push(step, histogram),
            Value::Float(v) => {
                values[step] = v;
                bits::set(present, step);
            }
        }
    }
    remarks.note(number, said);
}

#[cfg(test)]
mod tests {
    use model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

    use super::*;

    fn histogram(hint: CounterResetHint, custom_values: &[f64]) -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram {
            counter_reset_hint: hint,
            schema: if custom_values.is_empty() { 0 } else { CUSTOM_BUCKETS_SCHEMA },
            count: 4.0,
            sum: 6.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 0.0, 3.0],
            custom_values: custom_values.to_vec(),
            ..FloatHistogram::default()
        })
    }

    /// The outcome as a test expression, with the remark behind it.
    fn told(op: BinaryOp, lhs: ValueRef<'_>, rhs: ValueRef<'_>, return_bool: bool) -> String {
        let (outcome, remark) = element(op, lhs, rhs, return_bool);
        let outcome = match outcome {
            Element::Impossible => "impossible".to_owned(),
            Element::Discarded => "discarded".to_owned(),
            Element::Kept(Value::Float(v)) => v.to_string(),
            Element::Kept(Value::Histogram(h)) => h.to_test_expression(),
        };
        match remark.map(|remark| remark.annotation(op, Place::default()).render("")) {
            Some(remark) => format!("{outcome}; {remark}"),
            None => outcome,
        }
    }

    #[test]
    fn each_pair_of_kinds_has_its_operators() {
        use ValueRef::{Float, Histogram};
        let h = histogram(CounterResetHint::Unknown, &[]);
        let (h, f) = (Histogram(&h), Float(2.0));
        let all = [
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
        ];
        let possible = |lhs, rhs| {
            let is = |op: &&BinaryOp| !matches!(element(**op, lhs, rhs, false).0, Element::Impossible);
            all.iter().filter(is).map(|op| op.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(possible(f, f), "+ - * / % ^ atan2 == != < <= > >=");
        assert_eq!(possible(f, h), "*");
        assert_eq!(possible(h, f), "* / </ >/");
        assert_eq!(possible(h, h), "+ - == !=");
        assert_eq!(
            told(BinaryOp::TrimUpper, f, h, false),
            "impossible; PromQL info: incompatible sample types encountered for binary operator \"</\": float </ histogram (unknown position)"
        );
    }

    #[test]
    fn results_are_compact_and_differences_gauges() {
        use ValueRef::{Float, Histogram};
        let a = histogram(CounterResetHint::CounterReset, &[]);
        let h = Histogram(&a);
        let scaled = "{{count:8 sum:12 counter_reset_hint:reset buckets:[2 0 6]}}";
        assert_eq!(told(BinaryOp::Mul, Float(2.0), h, false), scaled);
        let (Element::Kept(Value::Histogram(scaled)), _) = element(BinaryOp::Mul, h, Float(2.0), false)
        else {
            panic!("a histogram can be scaled");
        };
        assert_eq!(scaled.positive_spans.len(), 2, "the empty bucket is gone");
        assert_eq!(told(BinaryOp::Sub, h, h, false), "{{counter_reset_hint:gauge}}");
        assert_eq!(
            told(BinaryOp::Div, h, Float(0.0), false),
            "{{count:+Inf sum:+Inf z_bucket:NaN counter_reset_hint:reset}}"
        );
        assert_eq!(told(BinaryOp::Ne, h, h, false), "discarded");
        assert_eq!(told(BinaryOp::Ne, h, h, true), "0");
    }

    #[test]
    fn what_is_said_about_sums() {
        use ValueRef::Histogram;
        let plain = histogram(CounterResetHint::CounterReset, &[]);
        let other = histogram(CounterResetHint::NotCounterReset, &[]);
        let custom = histogram(CounterResetHint::Unknown, &[1.0, 2.0]);
        let wider = histogram(CounterResetHint::Unknown, &[1.0, 2.0, 3.0]);
        assert_eq!(
            told(BinaryOp::Add, Histogram(&plain), Histogram(&other), false),
            "impossible; PromQL warning: conflicting counter resets during histogram addition (unknown position)"
        );
        assert_eq!(
            told(BinaryOp::Sub, Histogram(&plain), Histogram(&custom), false),
            "impossible; PromQL warning: incompatible bucket layout encountered for binary operator - (unknown position)"
        );
        assert_eq!(
            told(BinaryOp::Add, Histogram(&custom), Histogram(&wider), false),
            "{{schema:-53 count:8 sum:12 custom_values:[1 2] buckets:[2 0 6]}}; PromQL info: mismatched custom buckets were reconciled during addition (unknown position)"
        );
    }
}
