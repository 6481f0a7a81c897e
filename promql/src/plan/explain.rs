//! A plan as text: the tree, what is asked from the store, and what the passes did.
//!
//! For people who wonder what becomes of their query. Nothing reads it back.

use std::fmt::Write as _;

use model::Timestamp;

use super::passes::Outcome;
use super::{Grouping, Input, Node, Plan, Window};
use crate::parse::ast::{Boundary, VectorMatching};

/// Takes the plan apart to walk it; leaves it as it was.
pub(crate) fn text(plan: &mut Plan, outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    write_node(&mut out, &mut plan.root, 0);
    for (i, select) in plan.selects.iter().enumerate() {
        let matchers: Vec<_> = select.matchers.iter().map(ToString::to_string).collect();
        let (from, to) = (seconds(select.range.mint), seconds(select.range.maxt));
        put(&mut out, format_args!("select #{i} {{{}}} from {from} to {to}\n", matchers.join(", ")));
    }
    for Outcome { pass, changes } in outcomes {
        let done = match changes {
            None => "switched off".to_owned(),
            Some(0) => "nothing to do".to_owned(),
            Some(1) => "1 change".to_owned(),
            Some(n) => format!("{n} changes"),
        };
        put(&mut out, format_args!("pass {}: {done} ({})\n", pass.name, pass.what));
    }
    out
}

fn write_node(out: &mut String, node: &mut Node, depth: usize) {
    put(out, format_args!("{:1$}{2}\n", "", depth * 2, told(node)));
    for child in node.parts_mut().children {
        write_node(out, child, depth + 1);
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes every write");
}

/// One node in a line, without its children.
pub(crate) fn told(node: &Node) -> String {
    match node {
        Node::Const(v) => format!("constant {}", model::number::format_g(*v)),
        Node::Str(text) => format!("string {}", model::quote::go_quote(text)),
        Node::Time => "time of the step".to_owned(),
        Node::Invariant(_) => "once for all steps".to_owned(),
        Node::Selector(s) => {
            let what = if s.smoothed { "smoothed value" } else { "latest sample" };
            let stats = told_stats(s.stats_only);
            format!("{what} of #{}{}{stats}", s.select, moved(s.at, s.offset))
        }
        Node::SelectorTimes(s) => {
            format!("time of the latest sample of #{}{}", s.select, moved(s.at, s.offset))
        }
        Node::SelectorStarts(s) => {
            format!("start time of the latest sample of #{}{}", s.select, moved(s.at, s.offset))
        }
        Node::Window(window) => told_window(window),
        Node::RangeFn { func, window, .. } => format!("{} over {}", name(func), told_window(window)),
        Node::Absent { .. } => "absent".to_owned(),
        Node::AbsentOverTime { window, .. } => format!("absent over {}", told_window(window)),
        Node::Map { func, .. } => format!("map {}", name(func)),
        Node::StepTimes(_) => "time of the step for each series".to_owned(),
        Node::ToScalar(_) => "vector to scalar".to_owned(),
        Node::ToVector(_) => "scalar to vector".to_owned(),
        Node::ScalarFn { func, .. } => format!("scalar {}", name(func)),
        Node::Sort { descending, .. } => format!("sort{}", direction(*descending)),
        Node::SortByLabel { labels, descending, .. } => {
            format!("sort by ({}){}", list(labels), direction(*descending))
        }
        Node::LabelReplace { dst, .. } => format!("replace label {}", shown(dst)),
        Node::LabelJoin { dst, .. } => format!("join labels into {}", shown(dst)),
        Node::Quantiles { .. } => "quantiles of histograms".to_owned(),
        Node::Fraction { .. } => "fractions of histograms".to_owned(),
        Node::HistogramFn { func, .. } => format!("{} of histograms", name(func)),
        Node::Info { selector, .. } => {
            format!("add labels of info metrics{}", moved(selector.at, selector.offset))
        }
        Node::NothingOf(_) => "nothing".to_owned(),
        Node::Negate(_) => "negate".to_owned(),
        Node::ScalarBinary { op, .. } => format!("scalar {}", op.as_str()),
        Node::VectorScalar { op, return_bool, .. } => {
            format!("vector {}{} scalar", op.as_str(), told_bool(*return_bool))
        }
        Node::Join { op, matching, return_bool, .. } => {
            let card = matching.card.as_str();
            format!("join {}{} {card}{}", op.as_str(), told_bool(*return_bool), told_matching(matching))
        }
        Node::SetOp { op, matching, .. } => format!("{}{}", op.as_str(), told_matching(matching)),
        Node::Aggregate { op, grouping, .. } => format!("{}{}", op.as_str(), told_grouping(grouping)),
    }
}

/// The name of a variant without data.
fn name(variant: &impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

fn shown(label: &[u8]) -> String {
    String::from_utf8_lossy(label).into_owned()
}

fn list(labels: &[std::sync::Arc<[u8]>]) -> String {
    labels.iter().map(|label| shown(label)).collect::<Vec<_>>().join(", ")
}

fn told_window(window: &Window) -> String {
    let range = duration(window.range);
    let place = moved(window.at, window.offset);
    match &window.input {
        Input::Select(select) => {
            let boundary = match window.boundary {
                None => "",
                Some(Boundary::Anchored) => " anchored",
                Some(Boundary::Smoothed) => " smoothed",
            };
            format!("{range} of #{select}{place}{boundary}{}", told_stats(window.stats_only))
        }
        Input::Subquery { step, .. } => format!("{range} in steps of {}{place}", duration(*step)),
    }
}

fn told_stats(stats_only: bool) -> &'static str {
    if stats_only { " without buckets" } else { "" }
}

fn moved(at: Option<Timestamp>, offset: i64) -> String {
    let at = at.map(|at| format!(" at {}", seconds(at))).unwrap_or_default();
    let offset = if offset == 0 { String::new() } else { format!(" offset {}", duration(offset)) };
    at + &offset
}

fn duration(ms: i64) -> String {
    let size = model::duration::format(std::time::Duration::from_millis(ms.unsigned_abs()));
    if ms < 0 { format!("-{size}") } else { size }
}

fn seconds(t: Timestamp) -> String {
    format!("{:.3}", t as f64 / 1000.0)
}

fn direction(descending: bool) -> &'static str {
    if descending { " descending" } else { "" }
}

fn told_bool(return_bool: bool) -> &'static str {
    if return_bool { " bool" } else { "" }
}

fn told_matching(matching: &VectorMatching) -> String {
    let word = if matching.on { "on" } else { "ignoring" };
    if !matching.on && matching.labels.is_empty() {
        return String::new();
    }
    format!(" {word} ({})", list(&matching.labels))
}

fn told_grouping(grouping: &Grouping) -> String {
    let word = if grouping.without { "without" } else { "by" };
    if !grouping.without && grouping.labels.is_empty() {
        return String::new();
    }
    format!(" {word} ({})", list(&grouping.labels))
}
