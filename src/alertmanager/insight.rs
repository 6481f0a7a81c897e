//! What the server knows of alerts beyond what they carry: values, thresholds, curves, history.
//!
//! The Alertmanager knows nothing of rules and samples; who does answers through [`Insight`]. Every fact may be missing:
//! an alert of another Prometheus has none, and a question that takes too long has no answer. Messages go out all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::alert::LabelSet;
use crate::chart::{Chart, Curve, Threshold};
use crate::unit::Unit;

/// Answers questions about alerts.
pub trait Insight: Send + Sync + fmt::Debug {
    /// What is known, within a few seconds.
    fn look(&self, question: Question) -> BoxFuture<'_, Findings>;
}

/// What a message wants to know.
#[derive(Clone, Debug)]
pub struct Question {
    pub alerts: Vec<Asked>,
    pub now: Timestamp,
    /// The first so many alerts shall have charts.
    pub charts_max: usize,
    /// The clock of charts.
    pub zone: TimeZone,
}

/// One alert of a message.
#[derive(Clone, Debug)]
pub struct Asked {
    pub labels: LabelSet,
    pub generator_url: String,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    /// The annotation `unit`.
    pub unit: Option<String>,
}

/// What is known of the alerts of a question.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// By the place in the question.
    pub alerts: BTreeMap<usize, Facts>,
    pub history: Option<History>,
    /// Other alerts that fire now, the closest first.
    pub related: Vec<Related>,
    /// What could not be had and why, in words.
    pub notes: Vec<String>,
}

/// What is known of one alert.
#[derive(Clone, Debug)]
pub struct Facts {
    pub rule: Arc<RuleFacts>,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    /// The plotted side of the expression, at the last evaluation or now.
    pub value: Option<f64>,
    pub value_at_fire: Option<f64>,
    /// The farthest on the bad side since the alert became active.
    pub peak: Option<f64>,
    pub unit: Unit,
    pub threshold: Option<Threshold>,
    /// The expression fires because something is missing.
    pub is_absence: bool,
    /// There is no value any more: the alert may be over only because its data is.
    pub lost_since: Option<Timestamp>,
    /// For a sparkline.
    pub curve: Option<Curve>,
    pub chart: Option<Chart>,
}

/// The rule behind an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFacts {
    pub name: String,
    pub group: String,
    pub file: String,
    pub query: String,
    /// The side of the expression that is plotted, as a query.
    pub subject: String,
    pub hold: Duration,
    pub keep_firing_for: Duration,
}

/// How often alerts like those of the message have fired.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub days: u32,
    /// This time included.
    pub times: usize,
    /// Of those that are over.
    pub median: Option<Duration>,
    /// When it began the last time before this one.
    pub previous: Option<Timestamp>,
}

/// An alert that may have to do with those of the message.
#[derive(Clone, Debug, PartialEq)]
pub struct Related {
    pub labels: LabelSet,
    pub since: Timestamp,
    /// The labels that they share.
    pub shared: Vec<String>,
}
