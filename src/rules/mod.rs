//! Rules: groups evaluated on schedule, their samples written back, their alerts handed to the notifier.
//!
//! Reading order: [`Manager`] (which groups run), [`group`] (one group: slots, order), [`lineage`] (what may run at
//! once), [`recording`] and [`alerting`] (one rule), [`condition`] (what an expression compares), `expand` (an alert's texts), `write` (series and their ends),
//! `kept` and [`restore`] (the state of alerts after a restart), [`why`] (why an expression gives nothing).
//! Evaluation is synchronous and takes its time as a parameter; only the schedule is async.
//!
//! Compat: prometheus `rules` (3.14).

pub mod alerting;
pub mod chronicle;
pub mod condition;
mod expand;
pub mod group;
mod kept;
pub mod lineage;
pub mod manager;
mod metrics;
pub mod recording;
pub mod restore;
pub mod why;
mod write;

use std::sync::Arc;
use std::time::Duration;

use model::storage::{Appendable, Queryable};
use model::{Labels, Timestamp};
use promql::parse::ast::Expr;
use promql::{Engine, Lane, Origin, QueryOptions, SampleValue, Value, VectorSample};

pub use manager::Manager;
pub use metrics::Metrics;

use crate::notifier::Alert;
use crate::story;

/// A store that can be asked and written to.
pub trait Storage: Appendable + Queryable {}

impl<T: Appendable + Queryable> Storage for T {}

/// What evaluation needs of the rest of the server.
pub struct Context {
    pub engine: Arc<Engine>,
    pub storage: Arc<dyn Storage>,
    /// Takes the alerts of one rule that are due.
    pub notify: Box<dyn Fn(Vec<Alert>) + Send + Sync>,
    /// Without a trailing slash.
    pub external_url: String,
    pub external_labels: arc_swap::ArcSwap<Labels>,
    /// Milliseconds since the epoch.
    pub now: fn() -> Timestamp,
    pub options: Options,
    pub metrics: Metrics,
    /// Hears of every evaluation of an alerting rule.
    pub story: Option<Arc<story::Journal>>,
}

/// The `--rules.*` flags.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub for_outage_tolerance: Duration,
    pub for_grace_period: Duration,
    pub resend_delay: Duration,
    /// How many rules may run beside others of their group; 0 for one after the other.
    pub concurrent_evals: usize,
    /// A limit refuses new alerts, but leaves those that are active.
    pub keeps_over_limit: bool,
}

/// Upstream's.
impl Default for Options {
    fn default() -> Self {
        Self {
            for_outage_tolerance: Duration::from_hours(1),
            for_grace_period: Duration::from_mins(10),
            resend_delay: Duration::from_mins(1),
            concurrent_evals: 0,
            keeps_over_limit: false,
        }
    }
}

/// One element of a rule's result.
type Element = (Labels, SampleValue);

impl Context {
    /// Evaluates a rule's expression; a scalar becomes one element without labels.
    fn query(&self, expr: &Expr, t: Timestamp, origin: &Origin) -> Result<Vec<Element>, String> {
        let result = self
            .engine
            .instant_expr(self.storage.as_ref(), expr, t, &options(origin))
            .map_err(|e| e.to_string())?;
        elements(result.value)
    }

    /// Evaluates the text of a template's `query`.
    fn query_text(&self, text: &str, t: Timestamp, origin: &Origin) -> Result<Vec<Element>, String> {
        let result = self
            .engine
            .instant_query(self.storage.as_ref(), text, t, &options(origin))
            .map_err(|e| e.to_string())?;
        elements(result.value)
    }
}

/// Rules wait for no other queries.
fn options(origin: &Origin) -> QueryOptions {
    QueryOptions { lane: Lane::Rules, origin: Some(origin.clone()), ..QueryOptions::default() }
}

fn elements(value: Value) -> Result<Vec<Element>, String> {
    match value {
        Value::Vector(samples) => {
            Ok(samples.into_iter().map(|sample: VectorSample| (sample.labels, sample.value)).collect())
        }
        Value::Scalar(sample) => Ok(vec![(Labels::empty(), SampleValue::Float(sample.v))]),
        Value::Matrix(_) | Value::String { .. } => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// A span as the milliseconds that timestamps count in; beyond 292 million years it saturates.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
