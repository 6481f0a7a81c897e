//! The answers of API v2 and of `/metrics`: the state as it is now, told in upstream's forms.
//!
//! Compat: alertmanager `api/v2` (0.34).

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use model::Matcher;
use model::wire::expose::{Expose, Exposition, Kind};

use super::alert::{Alert, Fingerprint, LabelSet, by_labels, by_target};
use super::api::{
    self, AlertFilter, AlertGroup, AlertStatus, GettableAlert, GettableSilence, Named, ReceiverStatus,
    SilenceFilter, Status,
};
use super::dispatch::{Flushed, Group};
use super::silence::SilenceState;
use super::{Alertmanager, State, notify, route};

impl Alertmanager {
    pub fn status(&self) -> Status {
        Status {
            cluster: api::ClusterStatus { peers: Vec::new(), status: "disabled" },
            config: api::StatusConfig { original: self.state.lock().config.text.clone() },
            uptime: self.started_at,
            version_info: self.options.version.clone(),
        }
    }

    /// The receivers whose labels match.
    pub fn receivers(&self, matchers: &[Matcher]) -> Vec<ReceiverStatus> {
        let state = self.state.lock();
        let receivers = state.config.receivers.iter();
        receivers
            .map(|receiver| ReceiverStatus { labels: labels_of(receiver), name: receiver.name.clone() })
            .filter(|receiver| admits(matchers, &receiver.labels))
            .collect()
    }

    /// The alerts that are not resolved, by fingerprint.
    pub fn alerts(&self, filter: &AlertFilter) -> Vec<GettableAlert> {
        let now = self.clock.now();
        let began = Instant::now();
        let state = self.state.lock();
        let receivers = Receivers::new(&state, filter);
        let alerts = state.store.iter().filter(|alert| is_shown(alert, filter, now));
        let mut found: Vec<_> = alerts
            .filter_map(|alert| {
                let routes = state.dispatcher.routes();
                let names: Vec<_> = routes
                    .find(&alert.labels)
                    .into_iter()
                    .map(|i| routes.node(i).receiver.name.clone())
                    .collect();
                names
                    .iter()
                    .any(|name| receivers.admits(name))
                    .then(|| state.gettable(alert, names, &[], now))
            })
            .filter(|alert| filter.admits_status(&alert.status))
            .collect();
        found.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        self.metrics.silence_queries.observe(began.elapsed());
        found
    }

    /// The groups with the alerts that are not resolved, by labels and receiver.
    pub fn alert_groups(&self, filter: &AlertFilter) -> Vec<AlertGroup> {
        let now = self.clock.now();
        let began = Instant::now();
        let state = self.state.lock();
        let receivers = Receivers::new(&state, filter);
        let routes = state.dispatcher.routes();
        let mut shown = Vec::new();
        // Of each alert, the receivers of all the groups that it is shown in.
        let mut receivers_of: HashMap<Fingerprint, Vec<String>> = HashMap::new();
        for group in state.dispatcher.groups() {
            let receiver = &routes.node(group.route).receiver.name;
            if !receivers.admits(receiver) {
                continue;
            }
            let alerts: Vec<_> = group
                .alerts
                .values()
                .filter(|alert| is_shown(alert, filter, now))
                .filter(|alert| filter.admits_status(&state.status_of(&alert.labels, &[], now)))
                .collect();
            for alert in &alerts {
                receivers_of.entry(alert.fingerprint).or_default().push(receiver.clone());
            }
            if !alerts.is_empty() {
                shown.push((group, receiver, alerts));
            }
        }
        for names in receivers_of.values_mut() {
            names.sort();
        }
        shown.retain(|(group, ..)| filter.muted || group.muted_by.is_empty());
        shown.sort_by_key(|(group, ..)| group.route);
        let mut groups: Vec<_> = shown
            .into_iter()
            .map(|(group, receiver, mut alerts)| {
                alerts.sort_by(|a, b| by_target(&a.labels, &b.labels));
                let gettable = |alert: &std::sync::Arc<Alert>| {
                    let names = receivers_of.get(&alert.fingerprint).cloned().unwrap_or_default();
                    state.gettable(alert, names, &group.muted_by, now)
                };
                AlertGroup {
                    alerts: alerts.into_iter().map(gettable).collect(),
                    labels: group.labels.clone(),
                    receiver: Named { name: receiver.clone() },
                    route_labels: self.shown_route_labels(&state, group, now),
                }
            })
            .collect();
        groups.sort_by(|a, b| {
            by_labels(&a.labels, &b.labels).then_with(|| a.receiver.name.cmp(&b.receiver.name))
        });
        self.metrics.silence_queries.observe(began.elapsed());
        groups
    }

    fn shown_route_labels(&self, state: &State, group: &Group, now: Timestamp) -> LabelSet {
        let node = state.dispatcher.routes().node(group.route);
        if node.labels().is_empty() {
            return LabelSet::new();
        }
        let flushed = |alert: &std::sync::Arc<Alert>| Flushed {
            is_resolved: alert.is_resolved(now),
            alert: std::sync::Arc::clone(alert),
        };
        let alerts: Vec<_> = group.alerts.values().map(flushed).collect();
        let external_url = &self.options.external_url;
        let data = notify::data(&node.receiver.name, &group.labels, &alerts, "unknown", external_url);
        route::render_labels(node.labels(), data, &state.templates, now)
    }

    /// Silences of the wanted states that hold every one of the matchers literally.
    pub fn silences(&self, filter: &SilenceFilter) -> Vec<GettableSilence> {
        let now = self.clock.now();
        let began = Instant::now();
        let state = self.state.lock();
        let found = state
            .silences
            .list(now)
            .into_iter()
            .filter(|silence| match silence.state(now) {
                SilenceState::Active => filter.active,
                SilenceState::Pending => filter.pending,
                SilenceState::Expired => filter.expired,
            })
            .filter(|silence| silence.holds(&filter.matchers))
            .map(|silence| GettableSilence::new(silence, now))
            .collect();
        self.metrics.silence_queries.observe(began.elapsed());
        found
    }

    pub fn silence(&self, id: &str) -> Option<GettableSilence> {
        let now = self.clock.now();
        self.state.lock().silences.get(id).map(|silence| GettableSilence::new(silence, now))
    }
}

/// Which receivers a filter admits.
struct Receivers<'f> {
    filter: &'f AlertFilter,
    labels: HashMap<String, LabelSet>,
}

impl<'f> Receivers<'f> {
    fn new(state: &State, filter: &'f AlertFilter) -> Self {
        let receivers = state.config.receivers.iter().filter(|_| !filter.receiver_matchers.is_empty());
        let labels = receivers.map(|receiver| (receiver.name.clone(), labels_of(receiver))).collect();
        Self { filter, labels }
    }

    fn admits(&self, name: &str) -> bool {
        self.filter.receiver.as_ref().is_none_or(|regex| regex.is_match(name.as_bytes()))
            && (self.filter.receiver_matchers.is_empty()
                || self.labels.get(name).is_some_and(|labels| admits(&self.filter.receiver_matchers, labels)))
    }
}

fn labels_of(receiver: &config::alertmanager::Receiver) -> LabelSet {
    let mut labels = receiver.labels.clone();
    labels.insert("name".to_owned(), receiver.name.clone());
    labels
}

/// What of an alert itself decides whether it is listed.
fn is_shown(alert: &Alert, filter: &AlertFilter, now: Timestamp) -> bool {
    alert.ends_at >= now && admits(&filter.matchers, &alert.labels)
}

/// Whether all matchers hold; one with an empty value asks whether the label is there at all.
///
/// Compat: alertmanager `api/v2`, `matchFilterLabels`.
fn admits(matchers: &[Matcher], labels: &LabelSet) -> bool {
    matchers.iter().all(|matcher| {
        let name = std::str::from_utf8(&matcher.name).unwrap_or_default();
        let value = labels.get(name);
        if matcher.value.is_empty() && value.is_some() == matcher.op.is_negative() {
            return true;
        }
        matcher.matches(value.map_or("", String::as_str).as_bytes())
    })
}

impl State {
    fn status_of(&self, labels: &LabelSet, muted_by: &[String], now: Timestamp) -> AlertStatus {
        let silenced_by = self.silences.find(labels, now);
        let inhibited_by: Vec<_> = self.inhibitor.find(labels, now).iter().map(ToString::to_string).collect();
        let is_muted = !silenced_by.is_empty() || !inhibited_by.is_empty() || !muted_by.is_empty();
        let state = if is_muted { "suppressed" } else { "active" };
        AlertStatus { inhibited_by, muted_by: muted_by.to_vec(), silenced_by, state }
    }

    fn gettable(
        &self,
        alert: &Alert,
        receivers: Vec<String>,
        muted_by: &[String],
        now: Timestamp,
    ) -> GettableAlert {
        GettableAlert {
            annotations: alert.annotations.clone(),
            ends_at: alert.ends_at,
            fingerprint: alert.fingerprint.to_string(),
            receivers: receivers.into_iter().map(|name| Named { name }).collect(),
            starts_at: alert.starts_at,
            status: self.status_of(&alert.labels, muted_by, now),
            updated_at: alert.updated_at,
            generator_url: alert.generator_url.clone(),
            labels: alert.labels.clone(),
        }
    }
}

impl AlertFilter {
    fn admits_status(&self, status: &AlertStatus) -> bool {
        let is_active = status.silenced_by.is_empty() && status.inhibited_by.is_empty();
        (self.active || !is_active)
            && (self.silenced || status.silenced_by.is_empty())
            && (self.inhibited || status.inhibited_by.is_empty())
    }
}

impl Expose for Alertmanager {
    fn expose(&self, out: &mut Exposition) {
        let now = self.clock.now();
        let state = self.state.lock();
        let firing: Vec<_> = state.store.iter().filter(|alert| !alert.is_resolved(now)).collect();
        let is_muted = |alert: &Alert| {
            state.silences.mutes(&alert.labels, now) || state.inhibitor.find(&alert.labels, now).is_some()
        };
        let suppressed = firing.iter().filter(|alert| is_muted(alert)).count();
        let alerts = "alertmanager_alerts";
        out.family(alerts, "How many alerts by state.", Kind::Gauge);
        for (name, n) in
            [("active", firing.len() - suppressed), ("suppressed", suppressed), ("unprocessed", 0)]
        {
            out.sample(alerts, &[("state", name)], n as f64);
        }
        let silences = "alertmanager_silences";
        out.family(silences, "How many silences by state.", Kind::Gauge);
        for kind in [SilenceState::Active, SilenceState::Expired, SilenceState::Pending] {
            let n = state.silences.iter().filter(|silence| silence.state(now) == kind).count();
            out.sample(silences, &[("state", kind.as_str())], n as f64);
        }
        let receivers = &state.config.receivers;
        let integrations = receivers.iter().map(|receiver| receiver.integrations.len()).sum();
        // As many bits of it as a float holds.
        let hash = model::fnv1a([state.config.text.as_bytes()]) & ((1 << 48) - 1);
        let help = "Hash of the currently loaded alertmanager configuration. Note that this is not a \
                    cryptographically strong hash.";
        out.gauge("alertmanager_config_hash", help, hash as f64);
        let gauges: [(&str, &str, usize); 9] = [
            (
                "alertmanager_dispatcher_aggregation_groups",
                "Number of active aggregation groups",
                state.dispatcher.len(),
            ),
            ("alertmanager_receivers", "Number of configured receivers.", receivers.len()),
            ("alertmanager_integrations", "Number of configured integrations.", integrations),
            (
                "alertmanager_inhibition_rules",
                "Number of configured inhibition rules.",
                state.inhibitor.len(),
            ),
            (
                "alertmanager_alerts_per_alert_limit",
                "Current limit on number of alerts per alert name",
                self.options.alerts_per_name_max,
            ),
            (
                "alertmanager_silences_state_size",
                "The number of silences in the state map.",
                state.silences.len(),
            ),
            (
                "alertmanager_silences_matcher_index_size",
                "The number of entries in the matcher cache index.",
                state.silences.len(),
            ),
            ("alertmanager_cluster_enabled", "Indicates whether the clustering is enabled or not.", 0),
            (
                "ferula_alertmanager_nflog_entries",
                "Number of entries of the notification log.",
                state.log.len(),
            ),
        ];
        for (name, help, n) in gauges {
            out.gauge(name, help, n as f64);
        }
        let limited = "alertmanager_dispatcher_aggregation_group_limit_reached_total";
        let help = "Number of times when dispatcher failed to create new aggregation group due to limit.";
        out.family(limited, help, Kind::Counter);
        out.sample(limited, &[], state.dispatcher.limited() as f64);
        drop(state);
        self.outbox.expose(out);
        self.metrics.expose(out);
    }
}
