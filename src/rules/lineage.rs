//! Which rules of a group read what others of it write, and so which of them may be evaluated at once.
//!
//! A rule depends on the rules before it alone: what later ones write it sees from the evaluation before, in
//! whatever order they run.
//!
//! Compat: prometheus `rules/group.go`, `buildDependencyMap`, and `rules/manager.go`, `SplitGroupIntoBatches`.

use config::rules::{Rule, RuleKind};
use model::Matcher;
use model::labels::METRIC_NAME;
use promql::parse::ast::{Expr, VectorSelector};

/// By rule of the group, the rules that it reads from, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage(Vec<Vec<usize>>);

impl Lineage {
    /// `None` if a selector names no metric: it may read anything.
    pub fn of(rules: &[Rule]) -> Option<Self> {
        if rules.len() == 1 {
            return Some(Self(vec![Vec::new()]));
        }
        let mut sources = Vec::with_capacity(rules.len());
        for (i, rule) in rules.iter().enumerate() {
            let mut found = vec![false; i];
            let mut is_known = true;
            rule.expr.walk(|part| {
                let Some(selector) = selector(part) else { return };
                match reads(selector, &rules[..i]) {
                    Some(read) => found.iter_mut().zip(read).for_each(|(found, read)| *found |= read),
                    None => is_known = false,
                }
            });
            if !is_known {
                return None;
            }
            sources.push((0..i).filter(|&j| found[j]).collect());
        }
        Some(Self(sources))
    }

    /// The rules that rule `i` reads from.
    pub fn sources(&self, i: usize) -> &[usize] {
        &self.0[i]
    }

    /// The rules in batches: those of one may be evaluated at once, after all batches before it.
    pub fn batches(&self) -> Vec<Vec<usize>> {
        let is_source = |i: usize| self.0.iter().any(|sources| sources.contains(&i));
        let (mut first, mut between, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for (i, sources) in self.0.iter().enumerate() {
            match (sources.is_empty(), is_source(i)) {
                (true, _) => first.push(i),
                (false, true) => between.push(vec![i]),
                (false, false) => last.push(i),
            }
        }
        let batches = std::iter::once(first).chain(between).chain([last]);
        batches.filter(|batch| !batch.is_empty()).collect()
    }
}

fn selector(part: &Expr) -> Option<&VectorSelector> {
    match part {
        Expr::Vector(selector) => Some(selector),
        Expr::Matrix(matrix) => Some(&matrix.selector),
        _ => None,
    }
}

/// For each of `others` whether the selector may read what it writes; `None` if it names no metric.
fn reads(selector: &VectorSelector, others: &[Rule]) -> Option<Vec<bool>> {
    let on = |name: &[u8]| selector.matchers.iter().find(|matcher| *matcher.name == *name);
    let name = on(METRIC_NAME)?;
    let asks_alerts = name.matches(b"ALERTS") || name.matches(b"ALERTS_FOR_STATE");
    let alert = on(b"alertname");
    let read = |other: &Rule| match &other.kind {
        RuleKind::Recording { name: written } => name.matches(written.as_bytes()),
        RuleKind::Alerting { name: written, .. } => {
            let is_asked = |alert: &Matcher| alert.matches(written.as_bytes());
            name.matches(written.as_bytes()) || asks_alerts && alert.is_none_or(is_asked)
        }
    };
    Some(others.iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Lineage;
    use std::fmt::Write;

    /// Records a, b, ... with these expressions; `!` in front makes an alert of it.
    fn lineage(exprs: &[&str]) -> Option<Lineage> {
        let mut text = "groups:\n- name: g\n  rules:\n".to_owned();
        for (name, expr) in ('a'..).zip(exprs) {
            let (kind, expr) = expr.strip_prefix('!').map_or(("record", *expr), |expr| ("alert", expr));
            writeln!(text, "  - {{{kind}: {name}, expr: '{expr}'}}").unwrap();
        }
        let options = config::rules::Options::default();
        Lineage::of(&config::rules::parse(&text, Path::new("r"), &options).unwrap().groups[0].rules)
    }

    #[track_caller]
    fn check(exprs: &[&str], sources: &[&[usize]], batches: &[&[usize]]) {
        let lineage = lineage(exprs).expect("all selectors have names");
        assert_eq!((0..exprs.len()).map(|i| lineage.sources(i)).collect::<Vec<_>>(), sources);
        assert_eq!(lineage.batches(), batches);
    }

    #[test]
    fn independent_rules_are_one_batch() {
        check(&["x", "y", "!z > 1"], &[&[], &[], &[]], &[&[0, 1, 2]]);
        check(&["x"], &[&[]], &[&[0]]);
        check(&["{job=\"any\"}"], &[&[]], &[&[0]]);
    }

    #[test]
    fn readers_come_after_what_they_read() {
        check(&["x", "a", "b", "c + a", "y"], &[&[], &[0], &[1], &[0, 2], &[]], &[&[0, 4], &[1], &[2], &[3]]);
        check(&["x", "rate(a[5m])", "max_over_time(a[1h:1m])"], &[&[], &[0], &[0]], &[&[0], &[1, 2]]);
    }

    #[test]
    fn a_rule_does_not_depend_on_later_ones() {
        check(&["b", "x"], &[&[], &[]], &[&[0, 1]]);
    }

    #[test]
    fn alerts_are_read_by_their_series() {
        check(&["!x", "!y", "count(ALERTS{alertname=\"b\"})"], &[&[], &[], &[1]], &[&[0, 1], &[2]]);
        check(&["!x", "!y", "count(ALERTS_FOR_STATE)"], &[&[], &[], &[0, 1]], &[&[0, 1], &[2]]);
        check(&["!x", "{__name__=~\"ALERTS.*\", alertname!=\"a\"}"], &[&[], &[]], &[&[0, 1]]);
    }

    #[test]
    fn names_may_be_patterns() {
        check(&["x", "y", "{__name__=~\"a|q\"}"], &[&[], &[], &[0]], &[&[0, 1], &[2]]);
        assert_eq!(lineage(&["x", "{job=\"any\"}"]), None);
    }
}
