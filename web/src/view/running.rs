//! What the routes ask of the running server beyond its store: its configuration, its features, its costliest queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::TimeText;

/// By category, then by name: whether the server has it and it is switched on.
pub type Features = BTreeMap<&'static str, BTreeMap<String, bool>>;

/// The server as it runs now.
pub trait Running: Send + Sync {
    /// The configuration that every part works with.
    fn config(&self) -> Arc<config::Config>;
    fn features(&self) -> Features;
    /// What was asked so far, in no order.
    fn top_queries(&self) -> TopQueries;
    /// The program and its arguments.
    fn command_line(&self) -> Vec<String>;
    fn threads(&self) -> Vec<Thread>;
}

/// One thread of the process.
#[derive(Clone, Debug)]
pub struct Thread {
    pub id: u64,
    pub name: String,
    /// As the system writes it: `R` runs, `S` sleeps.
    pub state: char,
    /// CPU time since it began.
    pub user: Duration,
    pub kernel: Duration,
}

/// The queries that cost most, and how many distinct ones were forgotten to keep the table small.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopQueries {
    pub queries: Vec<TopQuery>,
    pub forgotten: u64,
}

/// One expression as one place asks it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopQuery {
    /// Its beginning, if it is very long.
    pub query: String,
    /// `http` or `rules`.
    pub origin: &'static str,
    /// The path that was asked, or the file of the rule group.
    pub path: String,
    /// Where the answer is shown, as the client says, or the rule group.
    pub shown_in: BTreeMap<&'static str, String>,
    pub count: u64,
    pub errors: u64,
    /// Seconds, as all times here.
    pub total_time: f64,
    pub longest_time: f64,
    pub average_time: f64,
    /// Samples that selectors and windows saw.
    pub total_samples: u64,
    /// The most that one query held at once.
    pub peak_samples: u64,
    pub last_time: TimeText,
}
