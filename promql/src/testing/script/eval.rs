//! `eval`: what is evaluated, what is expected of it, and in which variants.
//!
//! Compat: prometheus `promql/promqltest`, `evalCmd`, `atModifierTestCases`.

use std::collections::BTreeMap;

use model::storage::Queryable;
use model::{Labels, Regex, Timestamp};

use super::{duration, word};
use crate::annotations::Annotations;
use crate::engine::{Engine, Error, QueryOptions, QueryResult, RangeParams};
use crate::parse::ast::{At, Expr};
use crate::parse::series::{self, SequenceValue};
use crate::plan::STEP_DEPENDENT;

pub(super) struct Eval<'a> {
    text: &'a str,
    expr: Expr,
    pub(super) range: RangeParams,
    is_instant: bool,
    /// Not compared with the middle of a range query.
    is_alone: bool,
    expectations: Vec<Expectation>,
    pub(super) is_ordered: bool,
    pub(super) series: BTreeMap<Labels, Expected>,
    pub(super) scalar: Option<f64>,
    pub(super) string: Vec<u8>,
    /// The times that items of series stand for.
    pub(super) items: RangeParams,
}

/// An expected series; its place counts where order does.
pub(super) struct Expected {
    pub(super) place: usize,
    pub(super) values: Vec<SequenceValue>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fail,
    Warn,
    NoWarn,
    Info,
    NoInfo,
}

struct Expectation {
    kind: Kind,
    text: Text,
}

enum Text {
    Any,
    Exactly(String),
    Pattern(String, Regex),
}

impl Text {
    fn is_met_by(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => expected == text,
            Self::Pattern(_, regex) => regex.is_match(text.as_bytes()),
        }
    }

    fn pattern(text: &str) -> Result<Self, String> {
        // Searched for anywhere, while a `Regex` matches whole values.
        Regex::anchored(format!("(?s:.*)(?:{text})(?s:.*)").as_bytes())
            .map(|regex| Self::Pattern(text.to_owned(), regex))
            .map_err(|e| e.to_string())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.split_once(':') {
            Some(("msg", rest)) if !rest.is_empty() => Ok(Self::Exactly(rest.trim().to_owned())),
            Some(("regex", rest)) if !rest.is_empty() => Self::pattern(rest.trim()),
            _ => Err(format!("invalid expectation {text:?}")),
        }
    }

    fn shown(&self) -> &str {
        match self {
            Self::Any => "anything",
            Self::Exactly(text) | Self::Pattern(text, _) => text,
        }
    }
}

/// `from A to B step S` with what comes behind, each word bound to its last possible place.
fn range(text: &str) -> Result<(RangeParams, &str), String> {
    let invalid = || format!("invalid range {text:?}");
    let rest = text.trim_start().strip_prefix("from").ok_or_else(invalid)?;
    let splits = |text: &'_ str, at: &str| -> Vec<usize> {
        let is_word = |i: usize| {
            text[..i].ends_with(char::is_whitespace) && text[i + at.len()..].starts_with(char::is_whitespace)
        };
        text.match_indices(at).map(|(i, _)| i).filter(|&i| is_word(i)).collect()
    };
    for to in splits(rest, "to").into_iter().rev() {
        let (start, behind) = (rest[..to].trim(), &rest[to + 2..]);
        if let Some(&step) = splits(behind, "step").last() {
            let (step_ms, expr) = word(&behind[step + 4..]);
            let (start, end) = (duration(start)?, duration(behind[..step].trim())?);
            if end < start {
                return Err("invalid test definition, end timestamp is before start timestamp".to_owned());
            }
            return Ok((RangeParams { start, end, step_ms: duration(step_ms)? }, expr));
        }
    }
    Err(invalid())
}

impl<'a> Eval<'a> {
    /// Reads a command and how many lines of its block it takes.
    pub(super) fn parse(engine: &Engine, command: &'a str, block: &[&str]) -> Result<(Self, usize), String> {
        let (head, rest) = word(command);
        let (mode, rest) = word(rest);
        let is_instant = mode == "instant";
        let (range, text) = match (mode, word(rest)) {
            ("instant", ("at", rest)) => {
                let (t, text) = word(rest);
                let t = duration(t)?;
                (RangeParams { start: t, end: t, step_ms: 0 }, text)
            }
            ("range", _) => range(rest)?,
            _ => return Err(format!("invalid evaluation {mode:?}")),
        };
        let expr = engine.parse(text).map_err(|e| format!("{text}: {e}"))?;
        let mut eval = Self {
            text,
            expr,
            range,
            is_instant,
            is_alone: !is_instant,
            expectations: Vec::new(),
            is_ordered: false,
            series: BTreeMap::new(),
            scalar: None,
            string: Vec::new(),
            items: range,
        };
        let mut expect = |kind| eval.expectations.push(Expectation { kind, text: Text::Any });
        match head {
            "eval" => {}
            "eval_fail" => expect(Kind::Fail),
            "eval_warn" => expect(Kind::Warn),
            "eval_info" => expect(Kind::Info),
            "eval_ordered" if is_instant => eval.is_ordered = true,
            _ => return Err(format!("invalid evaluation {head:?}")),
        }
        for (i, line) in block.iter().enumerate() {
            if eval.line(head, line)? {
                return Ok((eval, i + 1));
            }
        }
        Ok((eval, block.len()))
    }

    /// Reads one line; `true` if the block ends with it.
    fn line(&mut self, head: &str, line: &str) -> Result<bool, String> {
        let (first, rest) = word(line);
        match first {
            "expect" => {
                self.expect(rest)?;
                return Ok(false);
            }
            "expected_fail_message" if head == "eval_fail" => {
                let text = Text::Exactly(rest.to_owned());
                self.expectations = vec![Expectation { kind: Kind::Fail, text }];
                return Ok(true);
            }
            "expected_fail_regexp" if head == "eval_fail" => {
                self.expectations = vec![Expectation { kind: Kind::Fail, text: Text::pattern(rest)? }];
                return Ok(true);
            }
            _ => {}
        }
        if let Ok(Expr::Number(number)) = crate::parse::parse(line) {
            self.scalar = Some(number.value);
            return Ok(true);
        }
        let (labels, values) = series::parse(line).map_err(|e| format!("{line}: {e}"))?;
        if self.is_instant && self.items.step_ms == 0 && values.len() != 1 {
            return Err(format!("{line}: an instant vector has one value per series"));
        }
        let steps = (self.items.end - self.items.start).checked_div(self.items.step_ms).unwrap_or(0) + 1;
        if i64::try_from(values.len()).is_ok_and(|n| n > steps) {
            return Err(format!("{line}: more items than the {steps} steps"));
        }
        let place = self.series.len();
        self.series.insert(labels, Expected { place, values });
        Ok(false)
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        let (what, rest) = word(text);
        let kind = match what {
            "fail" => Kind::Fail,
            "warn" => Kind::Warn,
            "no_warn" => Kind::NoWarn,
            "info" => Kind::Info,
            "no_info" => Kind::NoInfo,
            "ordered" => {
                self.is_ordered = true;
                return Ok(());
            }
            "string" => {
                let Ok(Expr::String(literal)) = crate::parse::parse(rest) else {
                    return Err(format!("invalid string {rest}"));
                };
                self.string = literal.value.to_vec();
                self.is_alone = true;
                return Ok(());
            }
            "range" if word(rest).0 == "vector" => {
                // The expression is evaluated at the last of the times.
                let text = format!("{} _", word(rest).1);
                (self.items, _) = range(&text)?;
                (self.range.start, self.range.end) = (self.items.end, self.items.end);
                self.is_alone = true;
                return Ok(());
            }
            other => return Err(format!("invalid expectation {other:?}")),
        };
        self.expectations.push(Expectation { kind, text: Text::parse(rest)? });
        let has = |kind| self.expectations.iter().any(|e| e.kind == kind);
        let fails = self.expectations.iter().filter(|e| e.kind == Kind::Fail).count();
        if (has(Kind::Warn) && has(Kind::NoWarn)) || (has(Kind::Info) && has(Kind::NoInfo)) || fails > 1 {
            return Err("invalid expect lines: they contradict each other".to_owned());
        }
        Ok(())
    }

    /// The expression as written, and pinned to its time at other times.
    fn variants(&self) -> Vec<(String, RangeParams)> {
        let mut variants = vec![(self.text.to_owned(), self.range)];
        if self.is_instant && !calls_step_dependent(&self.expr) {
            let t = self.range.start;
            let mut pinned = self.expr.clone();
            pin(&mut pinned, t);
            let text = pinned.to_string();
            let times = if t == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
            let at = |t| (text.clone(), RangeParams { start: t, end: t, step_ms: 0 });
            variants.extend(times.into_iter().map(at));
        }
        variants
    }

    /// Runs all variants; the first failure ends it.
    pub(super) fn run(
        &self,
        engine: &Engine,
        storage: &dyn Queryable,
        queries: &mut usize,
    ) -> Result<(), String> {
        let opts = QueryOptions::default();
        for (text, range) in self.variants() {
            let at = range.start;
            *queries += 1;
            let result = if self.is_instant {
                engine.instant_query(storage, &text, at, &opts)
            } else {
                engine.range_query(storage, &text, range, &opts)
            };
            self.check(&result, &text).map_err(|e| format!("{text} at {at}: {e}"))?;
            let Ok(result) = result else { continue };
            if self.is_alone || ["start()", "end()", "range()", "step()"].iter().any(|f| text.contains(f)) {
                continue;
            }
            let around = RangeParams { start: at - 60_000, end: at + 60_000, step_ms: 60_000 };
            *queries += 1;
            let ranged = engine
                .range_query(storage, &text, around, &opts)
                .map_err(|e| format!("{text} around {at}: failed: {e}"))?;
            // Order counts in instant queries only.
            if !self.is_ordered {
                self.compare_middle(&result.value, &ranged.value, at)
                    .map_err(|e| format!("{text} around {at}: {e}"))?;
            }
        }
        Ok(())
    }

    fn check(&self, result: &Result<QueryResult, Error>, text: &str) -> Result<(), String> {
        let fail = self.expectations.iter().find(|e| e.kind == Kind::Fail);
        let result = match (result, fail) {
            (Err(e), Some(expected)) if expected.text.is_met_by(&e.to_string()) => return Ok(()),
            (Err(e), Some(expected)) => {
                return Err(format!("failed with {e}, expected {}", expected.text.shown()));
            }
            (Err(e), None) => return Err(format!("failed: {e}")),
            (Ok(_), Some(_)) => return Err("succeeded but should have failed".to_owned()),
            (Ok(result), None) => result,
        };
        self.check_annotations(&result.annotations, text)?;
        self.compare(&result.value)
    }

    fn check_annotations(&self, annotations: &Annotations, text: &str) -> Result<(), String> {
        let classes = [
            (Kind::Warn, Kind::NoWarn, annotations.warnings(text, 0)),
            (Kind::Info, Kind::NoInfo, annotations.infos(text, 0)),
        ];
        for (some, none, actual) in classes {
            if self.expectations.iter().any(|e| e.kind == none) && !actual.is_empty() {
                return Err(format!("unexpected annotations {actual:?}"));
            }
            let expected: Vec<&Text> =
                self.expectations.iter().filter(|e| e.kind == some).map(|e| &e.text).collect();
            if expected.is_empty() {
                continue;
            }
            if let Some(missing) = expected.iter().find(|e| !actual.iter().any(|a| e.is_met_by(a))) {
                return Err(format!("no annotation ({some:?}) {:?} among {actual:?}", missing.shown()));
            }
            if let Some(stray) = actual.iter().find(|a| !expected.iter().any(|e| e.is_met_by(a))) {
                return Err(format!("unexpected annotation {stray}"));
            }
        }
        Ok(())
    }
}

/// Whether the result depends on the time of evaluation even with all selectors pinned; a pinned subquery gives its
/// expression times of its own.
fn calls_step_dependent(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) | Expr::Subquery(_) => false,
        Expr::Call(e) => STEP_DEPENDENT.contains(&e.func.name) || e.args.iter().any(calls_step_dependent),
        Expr::Aggregate(e) => {
            calls_step_dependent(&e.expr) || e.param.as_deref().is_some_and(calls_step_dependent)
        }
        Expr::Binary(e) => calls_step_dependent(&e.lhs) || calls_step_dependent(&e.rhs),
        Expr::Unary(e) => calls_step_dependent(&e.expr),
        Expr::Paren(e) => calls_step_dependent(&e.expr),
    }
}

/// Pins every outermost selector and subquery that has no time yet to `t`; `start()` and `end()` are no times.
fn pin(expr: &mut Expr, t: Timestamp) {
    let pinned = |at: Option<At>| match at {
        Some(At::Time(_)) => at,
        _ => Some(At::Time(t)),
    };
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(e) => e.modifiers.at = pinned(e.modifiers.at),
        Expr::Matrix(e) => e.selector.modifiers.at = pinned(e.selector.modifiers.at),
        Expr::Subquery(e) => e.modifiers.at = pinned(e.modifiers.at),
        Expr::Call(e) => e.args.iter_mut().for_each(|arg| pin(arg, t)),
        Expr::Aggregate(e) => {
            pin(&mut e.expr, t);
            if let Some(param) = &mut e.param {
                pin(param, t);
            }
        }
        Expr::Binary(e) => {
            pin(&mut e.lhs, t);
            pin(&mut e.rhs, t);
        }
        Expr::Unary(e) => pin(&mut e.expr, t),
        Expr::Paren(e) => pin(&mut e.expr, t),
    }
}
