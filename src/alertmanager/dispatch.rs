//! Groups of alerts and their timers: when a group is notified about, and with which alerts.
//!
//! Sync and without a clock of its own: [`Dispatcher::insert`] and [`Dispatcher::take_due`] are told the
//! time, [`Dispatcher::next_due`] says when to come back. The caller sends what is due and reports with
//! [`Dispatcher::finish`]; until then the group does not become due again.
//!
//! Compat: alertmanager `dispatch`, `aggrGroup` (0.34). A reload keeps the timers of groups that still
//! exist, where upstream starts all over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use config::alertmanager::Receiver;
use jiff::Timestamp;

use super::alert::{Alert, Fingerprint, LabelSet, display};
use super::clock::after;
use super::route::Routes;

/// A flush may take at least this long, however short the group interval.
const FLUSH_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// The groups of all routes.
#[derive(Debug)]
pub struct Dispatcher {
    routes: Arc<Routes>,
    groups: HashMap<GroupId, Group>,
}

/// Route and group labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(String);

#[derive(Debug)]
pub struct Group {
    /// What upstream calls the group key: `{}/{severity="page"}:{alertname="Down"}`.
    pub key: String,
    pub route: usize,
    pub labels: LabelSet,
    pub alerts: BTreeMap<Fingerprint, Arc<Alert>>,
    due: Timestamp,
    is_flushing: bool,
}

/// A group whose time has come, as it was then.
#[derive(Clone, Debug)]
pub struct Flush {
    pub id: GroupId,
    pub key: String,
    pub labels: LabelSet,
    pub receiver: Arc<Receiver>,
    /// The key of the route, and its path for people.
    pub route_key: String,
    pub route_path: String,
    /// When the group is flushed next, and how often it is.
    pub next_due: Timestamp,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    /// Attempts end when this has passed.
    pub timeout: Duration,
    pub alerts: Vec<Flushed>,
}

/// An alert of a flush; whether it is resolved was decided when the flush began.
#[derive(Clone, Debug)]
pub struct Flushed {
    pub alert: Arc<Alert>,
    pub is_resolved: bool,
}

impl Flush {
    /// When the group is told again if nothing changes: at the first flush at which what is told now is older
    /// than the repeat interval.
    pub fn repeat_at(&self) -> Timestamp {
        let interval = self.group_interval.max(Duration::from_secs(1));
        let skipped = self.repeat_interval.as_nanos() / interval.as_nanos();
        after(self.next_due, interval.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX)))
    }
}

impl Dispatcher {
    pub fn new(routes: Arc<Routes>) -> Self {
        Self { routes, groups: HashMap::new() }
    }

    /// Puts `alert` into its groups.
    pub fn insert(&mut self, alert: &Arc<Alert>, now: Timestamp) {
        for route in self.routes.find(&alert.labels) {
            let node = self.routes.node(route);
            let labels = node.group_labels(&alert.labels);
            let shown = display(&labels);
            let id = GroupId(format!("{}:{shown}", node.id));
            let group = self.groups.entry(id).or_insert_with(|| Group {
                key: format!("{}:{shown}", node.key),
                route,
                labels,
                alerts: BTreeMap::new(),
                // An alert that is older than the wait, as after a restart, waits no longer.
                due: match after(alert.starts_at, node.group_wait) {
                    t if t < now => now,
                    _ => after(now, node.group_wait),
                },
                is_flushing: false,
            });
            group.alerts.insert(alert.fingerprint, Arc::clone(alert));
        }
    }

    /// When the next group is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.groups.values().filter(|group| !group.is_flushing).map(|group| group.due).min()
    }

    /// The groups that are due, their timers set anew.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Flush> {
        let mut flushes = Vec::new();
        for (id, group) in &mut self.groups {
            if group.is_flushing || group.due > now {
                continue;
            }
            let node = self.routes.node(group.route);
            group.due = after(now, node.group_interval);
            group.is_flushing = true;
            let mut alerts: Vec<_> = group
                .alerts
                .values()
                .map(|alert| Flushed { alert: Arc::clone(alert), is_resolved: alert.is_resolved(now) })
                .collect();
            alerts.sort_by(|a, b| sort_key(&a.alert.labels).cmp(&sort_key(&b.alert.labels)));
            flushes.push(Flush {
                id: id.clone(),
                key: group.key.clone(),
                labels: group.labels.clone(),
                receiver: Arc::clone(&node.receiver),
                route_key: node.key.clone(),
                route_path: node.path.clone(),
                next_due: group.due,
                group_interval: node.group_interval,
                repeat_interval: node.repeat_interval,
                timeout: node.group_interval.max(FLUSH_TIMEOUT_MIN),
                alerts,
            });
        }
        flushes.sort_by(|a, b| a.id.cmp(&b.id));
        flushes
    }

    /// Ends a flush: after success its resolved alerts leave the group, and an empty group ceases to be.
    pub fn finish(&mut self, flush: &Flush, succeeded: bool) {
        let Some(group) = self.groups.get_mut(&flush.id) else { return };
        group.is_flushing = false;
        if !succeeded {
            return;
        }
        for flushed in flush.alerts.iter().filter(|flushed| flushed.is_resolved) {
            let current = group.alerts.get(&flushed.alert.fingerprint);
            // One that changed meanwhile has yet to be told.
            if current.is_some_and(|current| Arc::ptr_eq(current, &flushed.alert)) {
                group.alerts.remove(&flushed.alert.fingerprint);
            }
        }
        if group.alerts.is_empty() {
            self.groups.remove(&flush.id);
        }
    }

    /// Goes over to other routes: every alert finds its groups anew, groups that remain keep their timers.
    pub fn reload<'a>(
        &mut self,
        routes: Arc<Routes>,
        alerts: impl Iterator<Item = &'a Arc<Alert>>,
        now: Timestamp,
    ) {
        self.routes = routes;
        let old = std::mem::take(&mut self.groups);
        // What resolved but was not told yet is in the old groups only.
        for alert in old.values().flat_map(|group| group.alerts.values()) {
            self.insert(alert, now);
        }
        for alert in alerts {
            self.insert(alert, now);
        }
        for (id, group) in &mut self.groups {
            if let Some(old) = old.get(id) {
                let latest = after(now, self.routes.node(group.route).group_interval);
                group.due = old.due.min(latest);
                group.is_flushing = old.is_flushing;
            }
        }
    }

    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// Alerts are shown by job, by instance, then by all labels.
pub(super) fn sort_key(labels: &LabelSet) -> (Option<&String>, Option<&String>, &LabelSet) {
    (labels.get("job"), labels.get("instance"), labels)
}
