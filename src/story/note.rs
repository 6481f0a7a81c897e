//! What the parts of the server tell the journal: cheap to make, taken apart later on the journal's own thread.

use std::sync::Arc;

use model::{Labels, Timestamp};

use super::code::Code;
use super::event::{State, Telling, Text, Verdict};
use super::subject::{Id, Subject};

#[derive(Clone, Debug)]
pub enum Note {
    /// An alerting rule was evaluated.
    Evaluated(Evaluation),
    /// A reload added, changed or removed a rule.
    Rule { at: Timestamp, rule: Arc<Rule>, code: Code, what: Text },
    /// The notifier took alerts: the labels that the rule gave, and those that Alertmanagers get.
    Handed { at: Timestamp, alerts: Vec<Handed> },
    /// What became of alerts on the way to one external Alertmanager, by the labels it gets.
    Posted { at: Timestamp, to: Text, alerts: Vec<Labels>, code: Code, error: Text },
    /// The built-in Alertmanager took an alert.
    Received { at: Timestamp, labels: Labels, starts_at: Timestamp, ends_at: Timestamp, is_timeout: bool },
    /// It put an alert into a group.
    Grouped { at: Timestamp, alert: Id, group: Text, receiver: Text, due: Timestamp, code: Code },
    /// A group's time came.
    Flushed { at: Timestamp, group: Text, receiver: Text, next: Timestamp, alerts: Vec<Flushed> },
    /// An integration was told, or not.
    Told {
        at: Timestamp,
        group: Text,
        receiver: Text,
        integration: Text,
        alerts: Arc<[Id]>,
        telling: Telling,
    },
    /// Something about the server as a whole.
    Server { at: Timestamp, code: Code, detail: Text },
}

/// A rule as notes name it.
#[derive(Debug)]
pub struct Rule {
    pub id: Id,
    pub subject: Subject,
    pub expr: Text,
}

impl Rule {
    pub fn new(subject: Subject, expr: impl Into<Text>) -> Arc<Self> {
        Arc::new(Self { id: subject.id(), subject, expr: expr.into() })
    }
}

/// One evaluation of an alerting rule, as it left the rule's alerts.
#[derive(Clone, Debug)]
pub struct Evaluation {
    pub rule: Arc<Rule>,
    /// The slot.
    pub at: Timestamp,
    /// The time that the expression was asked for.
    pub query_at: Timestamp,
    pub hold_ms: i64,
    pub keep_ms: i64,
    pub error: Option<Text>,
    pub alerts: Vec<Seen>,
}

/// An alert after an evaluation.
#[derive(Clone, Debug)]
pub struct Seen {
    pub labels: Labels,
    pub state: State,
    pub value: f64,
    pub active_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    /// The expression does not give it any more; it fires on since.
    pub keep_firing_since: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Handed {
    pub from: Labels,
    /// `None` if relabelling dropped it.
    pub to: Option<Labels>,
    /// Who took it, dropped it, or should have.
    pub code: Code,
    pub by: Text,
}

#[derive(Clone, Debug)]
pub struct Flushed {
    pub alert: Id,
    pub is_resolved: bool,
    pub verdict: Verdict,
}

impl Note {
    /// How much room it takes, in alerts.
    pub(super) fn weight(&self) -> usize {
        1 + match self {
            Self::Evaluated(evaluation) => evaluation.alerts.len(),
            Self::Handed { alerts, .. } => alerts.len(),
            Self::Posted { alerts, .. } => alerts.len(),
            Self::Flushed { alerts, .. } => alerts.len(),
            Self::Told { alerts, .. } => alerts.len(),
            _ => 0,
        }
    }
}
