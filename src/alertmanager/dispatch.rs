//! Groups of alerts and their timers: when a group is notified about, and with which alerts.
//!
//! Sync and without a clock of its own: [`Dispatcher::insert`] and [`Dispatcher::take_due`] are told the
//! time, [`Dispatcher::next_due`] says when to come back. The caller sends what is due and reports with
//! [`Dispatcher::finish`]; until then the group does not become due again. Every change that a restart must
//! not lose is handed out by [`Dispatcher::take_changes`].
//!
//! Compat: alertmanager `dispatch`, `aggrGroup` (0.34). A reload keeps the timers of groups whose route did
//! not change, where upstream starts all over; so does a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use config::alertmanager::Receiver;
use jiff::Timestamp;

use super::alert::{Alert, Fingerprint, LabelSet, by_target, display};
use super::clock::{after, before};
use super::route::Routes;

/// A flush may take at least this long, however short the group interval.
const FLUSH_TIMEOUT_MIN: Duration = Duration::from_secs(10);
/// A flush that is late by less counts as in time, so that the timers of a group do not drift.
const LATE_MAX: Duration = Duration::from_secs(1);
/// So many groups of old alerts may be flushed at once; further ones wait for a moment each, so that a start
/// with many alerts does not run into every receiver at the same time.
const BURST_MAX: u32 = 100;
const BURST_PAUSE: Duration = Duration::from_millis(100);

/// The groups of all routes.
#[derive(Debug)]
pub struct Dispatcher {
    routes: Arc<Routes>,
    groups: HashMap<GroupId, Group>,
    /// The groups that are not being flushed, by their time.
    queue: BTreeSet<(Timestamp, GroupId)>,
    /// No more groups than that; 0 for no limit.
    groups_max: usize,
    /// Alerts that found no group because of the limit.
    limited: u64,
    /// Nothing is due before.
    starts_at: Timestamp,
    burst: Burst,
    changes: Vec<Change>,
}

/// How many groups of old alerts came at a time.
#[derive(Debug)]
struct Burst {
    at: Timestamp,
    groups: u32,
}

/// Route and group labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub Arc<str>);

#[derive(Debug)]
pub struct Group {
    /// What upstream calls the group key: `{}/{severity="page"}:{alertname="Down"}`.
    pub key: String,
    pub route: usize,
    pub labels: LabelSet,
    pub alerts: BTreeMap<Fingerprint, Arc<Alert>>,
    /// The time intervals that muted it at its last flush.
    pub muted_by: Vec<String>,
    due: Timestamp,
    is_flushing: bool,
}

impl Group {
    /// When it is flushed next, unless it is being flushed.
    pub const fn due(&self) -> Timestamp {
        self.due
    }
}

/// A group whose time has come, as it was then.
#[derive(Clone, Debug)]
pub struct Flush {
    pub id: GroupId,
    pub key: String,
    pub labels: LabelSet,
    pub receiver: Arc<Receiver>,
    pub route: usize,
    pub routes: Arc<Routes>,
    /// When it was due: the time that counts for its decisions.
    pub at: Timestamp,
    /// When the group is flushed next.
    pub next_due: Timestamp,
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
    /// The route, as it was when the flush began.
    pub fn node(&self) -> &super::route::Node {
        self.routes.node(self.route)
    }

    /// When the group is told again if nothing changes: at the first flush at which what is told now is older
    /// than the repeat interval.
    pub fn repeat_at(&self) -> Timestamp {
        let interval = self.node().group_interval.max(Duration::from_secs(1));
        let skipped = self.repeat_interval.as_nanos() / interval.as_nanos();
        after(self.next_due, interval.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX)))
    }
}

/// What a restart needs to know of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedGroup {
    pub due: Timestamp,
    /// What of its route its timer depends on, as a hash.
    pub timers: u64,
    pub members: BTreeSet<Fingerprint>,
}

/// A change of a group, for the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It exists and is due then.
    Due {
        id: GroupId,
        due: Timestamp,
        timers: u64,
    },
    Joined {
        id: GroupId,
        alert: Fingerprint,
    },
    /// These were told to be resolved.
    Left {
        id: GroupId,
        alerts: Vec<Fingerprint>,
    },
    Gone(GroupId),
}

impl Dispatcher {
    /// Nothing is flushed before `starts_at`; there are `groups_max` groups at most, 0 for no limit.
    pub fn new(routes: Arc<Routes>, starts_at: Timestamp, groups_max: usize) -> Self {
        Self {
            routes,
            groups: HashMap::new(),
            queue: BTreeSet::new(),
            groups_max,
            limited: 0,
            starts_at,
            burst: Burst { at: Timestamp::MIN, groups: 0 },
            changes: Vec::new(),
        }
    }

    /// Puts `alert` into its groups.
    pub fn insert(&mut self, alert: &Arc<Alert>, now: Timestamp) {
        for route in self.routes.find(&alert.labels) {
            let (id, labels) = self.group_of(route, alert);
            self.insert_into(id, route, labels, alert, now);
        }
    }

    /// The groups that `alert` belongs to, whether they are there or not.
    pub fn places(&self, alert: &Alert) -> Vec<GroupId> {
        let routes = self.routes.find(&alert.labels).into_iter();
        routes.map(|route| self.group_of(route, alert).0).collect()
    }

    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.groups.get(id)
    }

    fn group_of(&self, route: usize, alert: &Alert) -> (GroupId, LabelSet) {
        let node = self.routes.node(route);
        let labels = node.group_labels(&alert.labels);
        (GroupId(format!("{}:{}", node.id, display(&labels)).into()), labels)
    }

    fn insert_into(
        &mut self,
        id: GroupId,
        route: usize,
        labels: LabelSet,
        alert: &Arc<Alert>,
        now: Timestamp,
    ) {
        if !self.groups.contains_key(&id) {
            if self.groups_max > 0 && self.groups.len() >= self.groups_max {
                self.limited += 1;
                let alert = display(&alert.labels);
                tracing::error!(
                    limit = self.groups_max,
                    alert,
                    "too many aggregation groups, cannot create new group for alert"
                );
                return;
            }
            self.create(id.clone(), route, labels, alert, now);
        }
        let group = self.groups.get_mut(&id).expect("it was there, or was created");
        if group.alerts.insert(alert.fingerprint, Arc::clone(alert)).is_none() {
            self.changes.push(Change::Joined { id, alert: alert.fingerprint });
        }
    }

    fn create(&mut self, id: GroupId, route: usize, labels: LabelSet, alert: &Alert, now: Timestamp) {
        let node = self.routes.node(route);
        let key = format!("{}:{}", node.key, display(&labels));
        // An alert that is older than the wait, as after a restart, waits no longer.
        let is_old = after(alert.starts_at, node.group_wait) < now;
        let due = if is_old { self.burst.place(now) } else { after(now, node.group_wait) };
        let due = due.max(self.starts_at);
        let (timers, alerts) = (node.timers(), BTreeMap::new());
        let group = Group { key, route, labels, alerts, muted_by: Vec::new(), due, is_flushing: false };
        self.changes.push(Change::Due { id: id.clone(), due, timers });
        self.queue.insert((due, id.clone()));
        self.groups.insert(id, group);
    }

    /// When the next group is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The groups that are due, their timers set anew.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Flush> {
        let mut flushes = Vec::new();
        while self.queue.first().is_some_and(|(due, _)| *due <= now) {
            let Some((due, id)) = self.queue.pop_first() else { break };
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let node = self.routes.node(group.route);
            let at = if due < before(now, LATE_MAX) { now } else { due };
            group.due = after(at, node.group_interval);
            group.is_flushing = true;
            self.changes.push(Change::Due { id: id.clone(), due: group.due, timers: node.timers() });
            let mut alerts: Vec<_> = group
                .alerts
                .values()
                .map(|alert| Flushed { alert: Arc::clone(alert), is_resolved: alert.is_resolved(now) })
                .collect();
            alerts.sort_by(|a, b| by_target(&a.alert.labels, &b.alert.labels));
            flushes.push(Flush {
                id,
                key: group.key.clone(),
                labels: group.labels.clone(),
                receiver: Arc::clone(&node.receiver),
                route: group.route,
                routes: Arc::clone(&self.routes),
                at,
                next_due: group.due,
                repeat_interval: node.repeat_interval,
                timeout: node.group_interval.max(FLUSH_TIMEOUT_MIN),
                alerts,
            });
        }
        flushes
    }

    /// Ends a flush that came to nothing, by a fault of ours.
    pub fn release(&mut self, id: &GroupId) {
        if let Some(group) = self.groups.get_mut(id)
            && std::mem::take(&mut group.is_flushing)
        {
            self.queue.insert((group.due, id.clone()));
        }
    }

    /// After the clock was set back: nothing waits longer than its route says.
    pub fn clamp(&mut self, now: Timestamp) {
        self.starts_at = self.starts_at.min(now);
        for (id, group) in &mut self.groups {
            let node = self.routes.node(group.route);
            let latest = after(now, node.group_interval.max(node.group_wait));
            if group.due > latest {
                if self.queue.remove(&(group.due, id.clone())) {
                    self.queue.insert((latest, id.clone()));
                }
                group.due = latest;
            }
        }
    }

    /// Notes which time intervals mute a group.
    pub fn set_muted_by(&mut self, id: &GroupId, names: Vec<String>) {
        if let Some(group) = self.groups.get_mut(id) {
            group.muted_by = names;
        }
    }

    /// Ends a flush: after success its resolved alerts leave the group, but for those that are `pending`, and
    /// an empty group ceases to be.
    pub fn finish(&mut self, flush: &Flush, succeeded: bool, pending: &HashSet<Fingerprint>) {
        let Some(group) = self.groups.get_mut(&flush.id) else { return };
        if group.is_flushing {
            group.is_flushing = false;
            self.queue.insert((group.due, flush.id.clone()));
        }
        if !succeeded {
            return;
        }
        let mut left = Vec::new();
        for flushed in flush.alerts.iter().filter(|flushed| flushed.is_resolved) {
            let fingerprint = flushed.alert.fingerprint;
            let current = group.alerts.get(&fingerprint);
            // One that changed meanwhile has yet to be told.
            if !pending.contains(&fingerprint)
                && current.is_some_and(|current| Arc::ptr_eq(current, &flushed.alert))
            {
                group.alerts.remove(&fingerprint);
                left.push(fingerprint);
            }
        }
        if group.alerts.is_empty() {
            self.queue.remove(&(group.due, flush.id.clone()));
            self.groups.remove(&flush.id);
            self.changes.push(Change::Gone(flush.id.clone()));
        } else if !left.is_empty() {
            self.changes.push(Change::Left { id: flush.id.clone(), alerts: left });
        }
    }

    /// Goes over to other routes: every alert finds its groups anew, groups whose routes did not change keep
    /// their timers.
    pub fn reload<'a>(
        &mut self,
        routes: Arc<Routes>,
        alerts: impl Iterator<Item = &'a Arc<Alert>>,
        now: Timestamp,
    ) {
        let saved = self.to_saved().collect();
        self.routes = routes;
        self.queue.clear();
        let old = std::mem::take(&mut self.groups);
        self.changes.extend(old.keys().cloned().map(Change::Gone));
        // What resolved but was not told yet may be in the old groups only.
        let mut all: BTreeMap<_, _> = BTreeMap::new();
        let grouped = old.values().flat_map(|group| group.alerts.values().map(Arc::clone));
        all.extend(grouped.chain(alerts.map(Arc::clone)).map(|alert| (alert.fingerprint, alert)));
        self.restore(&saved, all.values(), now);
        for (id, old) in old {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.muted_by = old.muted_by;
            if old.is_flushing {
                group.is_flushing = true;
                self.queue.remove(&(group.due, id));
            }
        }
    }

    /// Makes the groups of `alerts` as they were saved: what fires finds its groups by the routes, what is
    /// resolved returns only where that was yet to be told.
    pub fn restore<'a>(
        &mut self,
        saved: &HashMap<GroupId, SavedGroup>,
        alerts: impl Iterator<Item = &'a Arc<Alert>>,
        now: Timestamp,
    ) {
        let members: HashSet<_> = saved.values().flat_map(|group| &group.members).copied().collect();
        for alert in alerts {
            if !alert.is_resolved(now) {
                self.insert(alert, now);
                continue;
            }
            if !members.contains(&alert.fingerprint) {
                continue;
            }
            let groups: Vec<_> = self
                .routes
                .find(&alert.labels)
                .into_iter()
                .map(|route| (route, self.group_of(route, alert)))
                .collect();
            // In groups that other routes made of it, nobody knows it.
            let is_known = groups.iter().any(|(_, (id, _))| saved.contains_key(id));
            for (route, (id, labels)) in groups {
                let waits = saved.get(&id).is_some_and(|group| group.members.contains(&alert.fingerprint));
                if waits || !is_known {
                    self.insert_into(id, route, labels, alert, now);
                }
            }
        }
        for (id, group) in &mut self.groups {
            let node = self.routes.node(group.route);
            let Some(saved) = saved.get(id).filter(|saved| saved.timers == node.timers()) else { continue };
            self.queue.remove(&(group.due, id.clone()));
            group.due = saved.due.clamp(now, after(now, node.group_interval.max(node.group_wait)));
            group.due = group.due.max(self.starts_at);
            self.queue.insert((group.due, id.clone()));
            self.changes.push(Change::Due { id: id.clone(), due: group.due, timers: saved.timers });
        }
    }

    /// All groups as a restart needs them.
    pub fn to_saved(&self) -> impl Iterator<Item = (GroupId, SavedGroup)> + '_ {
        self.groups.iter().map(|(id, group)| {
            let timers = self.routes.node(group.route).timers();
            let members = group.alerts.keys().copied().collect();
            (id.clone(), SavedGroup { due: group.due, timers, members })
        })
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Alerts that found no group because there were too many.
    pub const fn limited(&self) -> u64 {
        self.limited
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Burst {
    /// When a group that shall not wait is flushed.
    fn place(&mut self, now: Timestamp) -> Timestamp {
        if self.at < before(now, LATE_MAX) {
            *self = Self { at: now, groups: 0 };
        }
        let pauses = self.groups / BURST_MAX;
        self.groups += 1;
        if pauses == 0 { now } else { after(self.at, BURST_PAUSE * pauses).max(now) }
    }
}
