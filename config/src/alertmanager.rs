//! `alertmanager.yml`, resolved: globals merged into receivers, the route tree with everything inherited.
//!
//! Compat: alertmanager `config`, `Config` (0.34).

mod decode;
mod export;
mod global;
mod intervals;
mod kinds;
mod observe;
mod receivers;
mod record;
mod route;
mod time_interval;

pub use decode::{load, load_in, parse, parse_in};
pub use export::{export, flat_map};
pub use receivers::*;
pub use time_interval::{DayRange, TimeInterval};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Matcher;

#[derive(Clone, Debug)]
pub struct Config {
    pub resolve_timeout: Duration,
    pub route: Route,
    pub receivers: Vec<Arc<Receiver>>,
    pub inhibit_rules: Vec<InhibitRule>,
    /// Globs of template files, joined to the directory of the file.
    pub templates: Vec<String>,
    /// By name; a name may stand for several, any of which may hold.
    pub time_intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// The whole configuration as YAML, secrets masked.
    pub text: String,
    /// What was accepted but has no effect, for the log.
    pub warnings: Vec<String>,
}

impl Config {
    /// What the operator should know of routes that repeat more seldom than the notification log remembers.
    pub fn retention_warnings(&self, retention: Duration) -> Vec<String> {
        let mut warnings = Vec::new();
        self.route.warn_of_retention(retention, &mut warnings);
        warnings
    }
}

/// A node of the route tree, what it did not set inherited from its parent.
#[derive(Clone, Debug)]
pub struct Route {
    pub receiver: String,
    /// Every alert of the node takes these labels for its group; `None` groups by all labels (`...`).
    pub group_by: Option<Vec<String>>,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    pub matchers: Vec<Matcher>,
    /// Go on to the next sibling after a match.
    pub continue_matching: bool,
    /// Names of intervals in which nobody is told; not inherited.
    pub mute_time_intervals: Vec<String>,
    /// Names of the only intervals in which somebody is told; empty for always; not inherited.
    pub active_time_intervals: Vec<String>,
    /// Templates over the data of a group, those of the parents merged in.
    pub labels: BTreeMap<String, String>,
    pub routes: Vec<Route>,
}

impl Route {
    fn warn_of_retention(&self, retention: Duration, warnings: &mut Vec<String>) {
        if self.repeat_interval > retention {
            warnings.push(format!(
                "repeat_interval is greater than the data retention period. It can lead to notifications being \
                 repeated more often than expected. (repeat_interval {}, retention {}, receiver {:?})",
                model::duration::format(self.repeat_interval),
                model::duration::format(retention),
                self.receiver,
            ));
        }
        self.routes.iter().for_each(|route| route.warn_of_retention(retention, warnings));
    }
}

#[derive(Clone, Debug)]
pub struct InhibitRule {
    /// Empty for none.
    pub name: String,
    pub source_matchers: Vec<Matcher>,
    pub target_matchers: Vec<Matcher>,
    pub equal: Vec<String>,
}

#[cfg(test)]
mod tests;
