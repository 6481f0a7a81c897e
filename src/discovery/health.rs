//! How a provider fares: what fails now, since when, and when it last had something to say.
//!
//! A mechanism asks many things (files, names, services, watches), each of which fails and recovers alone, so
//! failures are kept by part. What is recorded here reaches the log, `/api/v1/discovery` and the page; it must
//! hold no secret. It has no say in targets: a failure never takes one away.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;
use parking_lot::Mutex;

use super::metrics::Refreshes;

/// Failures of parts beyond this are logged but not kept.
const PARTS_MAX: usize = 256;

/// The longest text of an error that is kept; servers answer with whole pages.
const ERROR_BYTES_MAX: usize = 2048;

/// Shared by a provider, which writes, and its manager, which shows.
pub(crate) struct Health {
    mechanism: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The jobs that use the provider.
    jobs: Vec<String>,
    /// Their counts, if the mechanism asks again and again.
    refreshes: Vec<Arc<Refreshes>>,
    failures: BTreeMap<String, Failure>,
    last_update: Option<Timestamp>,
    unknown: Unknown,
}

/// What the provider cannot tell yet, by source.
#[derive(Default)]
enum Unknown {
    /// It has said nothing; its first update is all of it.
    #[default]
    Silent,
    All,
    Nothing,
    Some(Box<dyn Fn(&str) -> bool + Send + Sync>),
}

/// Something that fails now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub error: String,
    /// When it began.
    pub since: Timestamp,
}

impl Health {
    pub(crate) fn new(mechanism: &'static str) -> Self {
        Self { mechanism, state: Mutex::default() }
    }

    pub(crate) fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// Logs and keeps that `part` cannot be had: a file, a name, a service; empty where there is only one.
    pub(crate) fn failed(&self, part: &str, what: &str, error: &dyn Display) {
        let mut state = self.state.lock();
        let jobs = state.jobs.join(", ");
        let error = error.to_string();
        tracing::error!(discovery = self.mechanism, config = jobs, part, error, "{what}");
        // Errors about files name them as it is.
        let is_named = part.is_empty() || error.starts_with(part);
        let text = clipped(if is_named { error } else { format!("{part}: {error}") });
        if let Some(known) = state.failures.get_mut(part) {
            known.error = text;
        } else if state.failures.len() < PARTS_MAX {
            state.failures.insert(part.to_owned(), Failure { error: text, since: now() });
        }
    }

    /// `part` can be had again.
    pub(crate) fn recovered(&self, part: &str) {
        self.state.lock().failures.remove(part);
    }

    /// Forgets the failures of parts that nobody asks for any more.
    pub(crate) fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        self.state.lock().failures.retain(|part, _| is_wanted(part));
    }

    /// The oldest failure, and how many more there are.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let state = self.state.lock();
        let oldest = state.failures.values().min_by_key(|failure| failure.since)?;
        let error = match state.failures.len() - 1 {
            0 => oldest.error.clone(),
            n => format!("{} (and {n} more)", oldest.error),
        };
        Some(Failure { error, since: oldest.since })
    }

    pub(crate) fn last_update(&self) -> Option<Timestamp> {
        self.state.lock().last_update
    }

    /// Says that the provider sends what it finds piece by piece: until [`Health::settle`] its updates replace
    /// of what a predecessor had found only the sources that they name.
    pub(crate) fn hold(&self) {
        self.state.lock().unknown = Unknown::All;
    }

    /// Everything was asked for once. What was sent before has to be taken first, see [`super::taken`]; the
    /// next update, an empty one will do, makes it known.
    pub(crate) fn settle(&self) {
        self.state.lock().unknown = Unknown::Nothing;
    }

    /// As [`Health::settle`] but for these sources, of which nothing could be learnt yet: what a predecessor
    /// had found there stays, and everything else goes.
    pub(crate) fn settle_but(&self, is_unknown: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.state.lock().unknown = Unknown::Some(Box::new(is_unknown));
    }

    /// Whether nothing can be told of this source yet.
    pub(super) fn is_unknown(&self, source: &str) -> bool {
        match &self.state.lock().unknown {
            Unknown::Nothing => false,
            Unknown::Silent | Unknown::All => true,
            Unknown::Some(is_unknown) => is_unknown(source),
        }
    }

    /// Notes an update; tells whether it and its predecessors are the whole.
    pub(super) fn updated(&self) -> bool {
        let mut state = self.state.lock();
        state.last_update = Some(now());
        if matches!(state.unknown, Unknown::Silent) {
            state.unknown = Unknown::Nothing;
        }
        matches!(state.unknown, Unknown::Nothing)
    }

    pub(super) fn set_jobs(&self, jobs: Vec<String>, refreshes: Vec<Arc<Refreshes>>) {
        let mut state = self.state.lock();
        state.jobs = jobs;
        state.refreshes = refreshes;
    }

    /// Counts a refresh for every job that uses the provider.
    pub(super) fn refreshed(&self, took: Duration, is_failure: bool) {
        for refreshes in &self.state.lock().refreshes {
            refreshes.duration.observe(took.as_secs_f64());
            if is_failure {
                refreshes.failures.inc();
            }
        }
    }
}

fn now() -> Timestamp {
    jiff::Timestamp::now().as_millisecond()
}

fn clipped(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ERROR_BYTES_MAX, Health, PARTS_MAX};

    #[test]
    fn failures_are_kept_by_part_until_they_recover() {
        let health = Health::new("dns");
        assert_eq!(health.failure(), None);
        health.failed("a", "cannot", &"refused");
        health.failed("b", "cannot", &"timed out");
        let shown = health.failure().unwrap();
        assert!(shown.error.ends_with(" (and 1 more)"), "{shown:?}");
        health.recovered("a");
        assert_eq!(health.failure().unwrap().error, "b: timed out");
        health.failed("b", "cannot", &"b:1:2: refused");
        assert_eq!(health.failure().unwrap().error, "b:1:2: refused");
        health.retain(|part| part != "b");
        assert_eq!(health.failure(), None);
        health.failed("", "cannot", &"é".repeat(ERROR_BYTES_MAX));
        assert!(health.failure().unwrap().error.len() <= ERROR_BYTES_MAX + 3);
        for i in 0..2 * PARTS_MAX {
            health.failed(&i.to_string(), "cannot", &"x");
        }
        assert!(health.failure().unwrap().error.ends_with(&format!("(and {} more)", PARTS_MAX - 1)));
    }
}
