//! Labels that the left side of `and` or `unless` is sure to have, demanded of the right side too.
//!
//! A series on the right whose matching labels no series on the left has can neither keep nor remove one. That
//! holds for these two operators only: every other shows what it finds on either side, be it in an error. And
//! it holds for a plain selector only: functions may have remarks to make about series that meet no partner.

use std::sync::Arc;

use model::{MatchOp, Matcher};

use crate::exec::is_metadata;
use crate::parse::ast::{AggregateOp, BinaryOp, VectorMatching};
use crate::plan::{Input, Node, Plan, Select};

/// A label that every series has, and its value.
type Fixed = (Arc<[u8]>, Arc<[u8]>);

pub(super) fn rewrite(plan: &mut Plan) -> usize {
    let mut narrowings = Vec::new();
    find(&mut plan.root, &plan.selects, &mut narrowings);
    let mut changes = 0;
    for (select, labels) in narrowings {
        let matchers = &mut plan.selects[select].matchers;
        for (name, value) in labels {
            let matcher = Matcher::equal(name, value);
            if !matchers.contains(&matcher) {
                matchers.push(matcher);
                changes += 1;
            }
        }
    }
    changes
}

/// Notes which selects can be narrowed, and to which labels. Each select has one selector yet.
fn find(node: &mut Node, selects: &[Select], narrowings: &mut Vec<(usize, Vec<Fixed>)>) {
    if let Node::SetOp { op: BinaryOp::And | BinaryOp::Unless, lhs, rhs, matching } = node
        && let Some(select) = plain_selector(rhs)
    {
        let mut labels = fixed(lhs, selects);
        labels.retain(|(name, _)| is_matched(name, matching));
        narrowings.push((select, labels));
    }
    for child in node.parts_mut().children {
        find(child, selects, narrowings);
    }
}

fn plain_selector(node: &Node) -> Option<usize> {
    match node {
        Node::Selector(selector) => Some(selector.select),
        Node::Invariant(inner) => plain_selector(inner),
        _ => None,
    }
}

fn is_matched(name: &[u8], matching: &VectorMatching) -> bool {
    matching.labels.iter().any(|label| **label == *name) == matching.on
}

/// The labels that all series of `node` have with the same value, metadata aside.
fn fixed(node: &Node, selects: &[Select]) -> Vec<Fixed> {
    let selected = |select: usize| {
        let equals = |m: &&Matcher| m.op == MatchOp::Eq && !m.value.is_empty() && !is_metadata(&m.name);
        let pair = |m: &Matcher| (Arc::from(&*m.name), Arc::from(&*m.value));
        selects[select].matchers.iter().filter(equals).map(pair).collect()
    };
    match node {
        Node::Selector(selector) | Node::SelectorTimes(selector) => selected(selector.select),
        Node::Window(window) | Node::RangeFn { window, .. } => match &window.input {
            Input::Select(select) => selected(*select),
            Input::Subquery { expr, .. } => fixed(expr, selects),
        },
        Node::Invariant(arg)
        | Node::Negate(arg)
        | Node::StepTimes(arg)
        | Node::Map { arg, .. }
        | Node::Sort { arg, .. }
        | Node::SortByLabel { arg, .. }
        | Node::VectorScalar { vector: arg, .. } => fixed(arg, selects),
        Node::LabelReplace { arg, dst, .. } | Node::LabelJoin { arg, dst, .. } => {
            let mut labels = fixed(arg, selects);
            labels.retain(|(name, _)| name != dst);
            labels
        }
        // Writes a label of its own.
        Node::Aggregate { op: AggregateOp::CountValues, .. } => Vec::new(),
        Node::Aggregate { arg, grouping, .. } => {
            let mut labels = fixed(arg, selects);
            labels.retain(|(name, _)| grouping.labels.contains(name) != grouping.without);
            labels
        }
        Node::SetOp { op: BinaryOp::And | BinaryOp::Unless, lhs, .. } => fixed(lhs, selects),
        _ => Vec::new(),
    }
}
