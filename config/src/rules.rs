//! Rule files: groups of recording and alerting rules.
//!
//! Compat: prometheus `model/rulefmt`.

mod load;

pub use load::{Options, RuleFile, load, load_with, parse};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use promql::parse::ast::Expr;

#[derive(Clone, Debug)]
pub struct RuleGroup {
    pub name: String,
    pub file: PathBuf,
    /// `None` for the global evaluation interval.
    pub interval: Option<Duration>,
    pub query_offset: Option<Duration>,
    /// The most series or alerts a rule may produce, 0 for no limit.
    pub limit: usize,
    pub labels: BTreeMap<String, String>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub kind: RuleKind,
    pub expr: Expr,
    /// Group labels merged in; templates for alerts, literal for recordings.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuleKind {
    Recording {
        name: String,
    },
    Alerting {
        name: String,
        hold: Duration,
        keep_firing_for: Duration,
        annotations: BTreeMap<String, String>,
    },
}

#[cfg(test)]
mod tests;
