//! What is written down of queries: those that run, in a file that outlives a crash, those that ended, in a log if
//! the configuration names one, and what they cost, in a table.
//!
//! Reading order: [`active`] (the file), [`log`] (the log), [`top`] (the table). [`Watch`] is what the engine tells.

mod active;
mod log;
mod top;

use std::path::Path;
use std::sync::OnceLock;

use model::wire::expose::{Expose, Exposition};
use promql::{Ended, Observer};

use active::Active;
use log::Log;
use top::Top;
use web::view::running::TopQueries;

/// All of them, as the engine sees them.
#[derive(Default)]
pub struct Watch {
    active: OnceLock<Active>,
    log: Log,
    top: Top,
}

impl Watch {
    /// Begins the list of running queries in the folder of the store, which must be ours alone, with room for `slots`;
    /// first tells of those that the last run left there.
    pub fn open(&self, folder: &Path, slots: usize) {
        match Active::open(folder, slots) {
            // Opened once.
            Ok(active) => drop(self.active.set(active)),
            Err(e) => {
                let path = folder.join(active::NAME);
                tracing::error!(file = %path.display(), error = %e, "Error opening query log file");
            }
        }
    }

    /// Writes ended queries to `path` from now on; nowhere without one.
    ///
    /// # Errors
    /// The file cannot be opened; the log stays as it was.
    pub fn set_log(&self, path: Option<&Path>) -> std::io::Result<()> {
        self.log.set(path)
    }

    /// What was asked so far and what it cost.
    pub fn top(&self) -> TopQueries {
        self.top.list()
    }
}

impl Observer for Watch {
    fn begun(&self, text: &str) -> Box<dyn Send + '_> {
        match self.active.get().and_then(|active| active.insert(text)) {
            Some(entry) => Box::new(entry),
            None => Box::new(()),
        }
    }

    fn listens(&self) -> bool {
        true
    }

    fn ended(&self, query: &Ended<'_>) {
        self.top.note(query, jiff::Timestamp::now());
        if self.log.is_enabled() {
            self.log.write(query);
        }
    }
}

impl Expose for Watch {
    fn expose(&self, out: &mut Exposition) {
        out.gauge(
            "prometheus_engine_query_log_enabled",
            "State of the query log.",
            f64::from(u8::from(self.log.is_enabled())),
        );
        out.counter(
            "prometheus_engine_query_log_failures_total",
            "The number of query log failures.",
            &self.log.failures,
        );
        out.gauge(
            "ferula_engine_queries_unfinished",
            "Queries that were running when the last run of the server ended.",
            self.active.get().map_or(0, |active| active.unfinished) as f64,
        );
    }
}
