//! An alerting rule: the state of every alert that its expression gives.
//!
//! [`State::update`] is the state machine; it sees results and times only, so that tests drive it without a
//! store. An alert is identified by its final label set.
//!
//! Compat: prometheus `rules/alerting.go`, `AlertingRule.Eval`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder, Timestamp};

use promql::SampleValue;

use super::Element;

/// How long a resolved alert is kept and sent again, in ms.
const RESOLVED_RETENTION_MS: i64 = 15 * 60 * 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertState {
    Inactive,
    Pending,
    Firing,
}

impl AlertState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert. Times are evaluation times in ms.
#[derive(Clone, Debug)]
pub struct Alert {
    pub state: AlertState,
    pub annotations: Arc<BTreeMap<String, String>>,
    /// Of the last evaluation that gave the alert.
    pub value: f64,
    pub seen: Seen,
    pub active_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub keep_firing_since: Option<Timestamp>,
    pub last_sent_at: Option<Timestamp>,
    /// When the receiver may take the alert for resolved if it hears no more of it.
    pub valid_until: Timestamp,
}

/// The values that an alert has had since it became active.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub first: f64,
    pub min: f64,
    pub max: f64,
    /// At the evaluation that made it fire, the last one if it did so more than once.
    pub at_fire: Option<f64>,
}

/// The spans that drive an alert, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub hold_ms: i64,
    pub keep_firing_for_ms: i64,
}

/// The alerts of one rule by final label set.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub alerts: HashMap<Labels, Alert>,
    /// The series of active alerts, so that their labels are built once in the life of a state.
    series: foldhash::HashMap<Labels, AlertSeries>,
    hold: Option<Hold>,
}

#[derive(Clone, Debug)]
struct AlertSeries {
    state: AlertState,
    alerts: Labels,
    for_state: Labels,
}

/// Right after a start what an expression lacks means little: scrapes and recording rules may not have come yet.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// As in the restoring of `for`, which waits for recording rules to run twice.
    n_evaluations: u8,
    until: Timestamp,
}

impl Hold {
    const EVALUATIONS: u8 = 2;
    /// Whoever was away for less than that still finds most of its last samples.
    const MAX_MS: i64 = 2 * 60 * 1000;
}

/// What an evaluation found for one alert, its texts expanded.
#[derive(Clone, Debug)]
pub struct Found {
    pub labels: Labels,
    pub annotations: Arc<BTreeMap<String, String>>,
    /// 0 for a histogram.
    pub value: f64,
}

/// The final labels of an alert: the element's without the name, the rule's over them, `alertname` over all.
pub(super) fn alert_labels(element: &Labels, expanded: &[(&str, String)], name: &str) -> Labels {
    let mut builder = LabelsBuilder::from(element);
    builder.remove(METRIC_NAME);
    for (label, value) in expanded {
        builder.set(label.as_bytes(), value.as_bytes());
    }
    builder.set(b"alertname", name.as_bytes());
    builder.build()
}

impl State {
    /// Alerts as they were before the server was away for `away_ms`, until `now`. They stay as they are for the first
    /// evaluations, found or not.
    pub(super) fn restored(alerts: HashMap<Labels, Alert>, now: Timestamp, away_ms: i64) -> Self {
        let until = now + away_ms.clamp(0, Hold::MAX_MS);
        let hold = Some(Hold { n_evaluations: Hold::EVALUATIONS, until });
        Self { alerts, hold, ..Self::default() }
    }

    /// Moves every alert on by one evaluation at `ts`.
    ///
    /// # Errors
    /// Two elements ended up with the same labels: nothing changes. More than `limit` alerts are active
    /// (unless it is 0): all state is dropped, as upstream does.
    pub fn update(
        &mut self,
        ts: Timestamp,
        found: Vec<Found>,
        timing: Timing,
        limit: usize,
    ) -> Result<(), String> {
        let fresh = self.go_on(ts, found, timing)?;
        for (labels, hit) in fresh {
            self.begin(labels, hit, ts, timing);
        }
        let n_active = self.active().count();
        if limit > 0 && n_active > limit {
            self.alerts.clear();
            self.series.clear();
            return Err(over_limit(limit, n_active));
        }
        Ok(())
    }

    /// As [`State::update`], but what is active goes on whatever the limit: only new alerts are refused beyond it, of
    /// which the text tells.
    ///
    /// # Errors
    /// Two elements ended up with the same labels: nothing changes.
    pub fn update_keeping(
        &mut self,
        ts: Timestamp,
        found: Vec<Found>,
        timing: Timing,
        limit: usize,
    ) -> Result<Option<String>, String> {
        let mut fresh: Vec<_> = self.go_on(ts, found, timing)?.into_iter().collect();
        let n_active = self.active().count();
        let n_wanted = n_active + fresh.len();
        if limit > 0 {
            // The same ones every time.
            fresh.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            fresh.truncate(limit.saturating_sub(n_active));
        }
        for (labels, hit) in fresh {
            self.begin(labels, hit, ts, timing);
        }
        Ok((limit > 0 && n_wanted > limit).then(|| over_limit(limit, n_wanted)))
    }

    /// Moves the known alerts on. Returns the elements that are none of them.
    fn go_on(
        &mut self,
        ts: Timestamp,
        found: Vec<Found>,
        timing: Timing,
    ) -> Result<foldhash::HashMap<Labels, Hit>, String> {
        let mut hits =
            foldhash::HashMap::with_capacity_and_hasher(found.len(), foldhash::fast::RandomState::default());
        for hit in found {
            if hits.insert(hit.labels, Hit { annotations: hit.annotations, value: hit.value }).is_some() {
                return Err(
                    "vector contains metrics with the same labelset after applying alert labels".to_owned()
                );
            }
        }
        let is_held = self.hold.is_some_and(|hold| hold.n_evaluations > 0 || ts < hold.until);
        self.alerts.retain(|labels, alert| match hits.remove(labels) {
            Some(hit) if alert.state != AlertState::Inactive => {
                alert.hit(hit, ts, timing);
                true
            }
            Some(hit) => {
                // A resolved leftover that is back begins anew.
                hits.insert(labels.clone(), hit);
                false
            }
            None if is_held && alert.state != AlertState::Inactive => true,
            None => alert.miss(ts, timing),
        });
        self.hold = self
            .hold
            .filter(|_| is_held)
            .map(|hold| Hold { n_evaluations: hold.n_evaluations.saturating_sub(1), ..hold });
        Ok(hits)
    }

    fn begin(&mut self, labels: Labels, hit: Hit, ts: Timestamp, timing: Timing) {
        let mut alert = Alert::pending(ts, hit.value);
        alert.hit(hit, ts, timing);
        self.alerts.insert(labels, alert);
    }

    /// Moves all times, after the clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        for alert in self.alerts.values_mut() {
            alert.shift(by_ms);
        }
        if let Some(hold) = &mut self.hold {
            hold.until += by_ms;
        }
    }

    /// Pending and firing alerts.
    pub fn active(&self) -> impl Iterator<Item = (&Labels, &Alert)> {
        self.alerts.iter().filter(|(_, alert)| alert.state != AlertState::Inactive)
    }

    /// The state of the rule: that of its most advanced alert.
    pub fn overall(&self) -> AlertState {
        let states = self.alerts.values().map(|alert| alert.state);
        states.max_by_key(|state| *state as u8).unwrap_or(AlertState::Inactive)
    }

    /// The alerts that must be sent at `ts`, marked as sent.
    ///
    /// Receivers may take them for resolved `4 * max(interval, resend_delay)` later.
    pub fn due(&mut self, ts: Timestamp, resend_delay_ms: i64, interval_ms: i64) -> Vec<(Labels, Alert)> {
        let valid_ms = 4 * resend_delay_ms.max(interval_ms);
        let mut due = Vec::new();
        for (labels, alert) in &mut self.alerts {
            if alert.needs_sending(ts, resend_delay_ms) {
                alert.last_sent_at = Some(ts);
                alert.valid_until = ts + valid_ms;
                due.push((labels.clone(), alert.clone()));
            }
        }
        due
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of the active alerts.
    ///
    /// A label whose template gives nothing is missing here as it is on the alert; upstream writes the template's text.
    pub(super) fn samples(&mut self) -> Vec<Element> {
        let mut known = std::mem::take(&mut self.series);
        let mut samples = Vec::with_capacity(2 * self.alerts.len());
        for (labels, alert) in &self.alerts {
            if alert.state == AlertState::Inactive {
                continue;
            }
            let series = known.remove(labels).filter(|series| series.state == alert.state);
            let series = series.unwrap_or_else(|| AlertSeries::new(labels, alert.state));
            samples.push((series.alerts.clone(), SampleValue::Float(1.0)));
            // Whole seconds, as upstream writes it.
            let active_at = alert.active_at.div_euclid(1000) as f64;
            samples.push((series.for_state.clone(), SampleValue::Float(active_at)));
            self.series.insert(labels.clone(), series);
        }
        samples
    }
}

impl AlertSeries {
    fn new(labels: &Labels, state: AlertState) -> Self {
        let mut builder = LabelsBuilder::from(labels);
        builder.set(METRIC_NAME, b"ALERTS_FOR_STATE");
        let for_state = builder.build();
        builder.set(METRIC_NAME, b"ALERTS");
        builder.set(b"alertstate", state.as_str().as_bytes());
        Self { state, alerts: builder.build(), for_state }
    }
}

fn over_limit(limit: usize, n_alerts: usize) -> String {
    format!("exceeded limit of {limit} with {n_alerts} alerts")
}

/// What an expression gives for an alert.
#[derive(Debug)]
struct Hit {
    annotations: Arc<BTreeMap<String, String>>,
    value: f64,
}

impl Seen {
    fn new(value: f64) -> Self {
        Self { first: value, min: value, max: value, at_fire: None }
    }

    /// NaN is farther than nothing.
    fn take(&mut self, value: f64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }
}

impl Alert {
    fn pending(ts: Timestamp, value: f64) -> Self {
        Self {
            state: AlertState::Pending,
            annotations: Arc::default(),
            value,
            seen: Seen::new(value),
            active_at: ts,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            last_sent_at: None,
            valid_until: ts,
        }
    }

    /// Moves all times, after the clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.active_at += by_ms;
        self.valid_until += by_ms;
        let times =
            [&mut self.fired_at, &mut self.resolved_at, &mut self.keep_firing_since, &mut self.last_sent_at];
        for t in times.into_iter().flatten() {
            *t += by_ms;
        }
    }

    /// The expression gives the alert at `ts`.
    fn hit(&mut self, hit: Hit, ts: Timestamp, timing: Timing) {
        self.annotations = hit.annotations;
        self.value = hit.value;
        self.seen.take(hit.value);
        self.keep_firing_since = None;
        self.advance(ts, timing);
    }

    /// The expression does not give the alert at `ts`. Says whether it is remembered.
    fn miss(&mut self, ts: Timestamp, timing: Timing) -> bool {
        match self.state {
            AlertState::Pending => return false,
            AlertState::Firing if timing.keep_firing_for_ms > 0 => {
                let since = *self.keep_firing_since.get_or_insert(ts);
                if ts - since < timing.keep_firing_for_ms {
                    self.advance(ts, timing);
                } else {
                    self.resolve(ts);
                }
            }
            AlertState::Firing => self.resolve(ts),
            AlertState::Inactive => {}
        }
        self.resolved_at.is_none_or(|resolved_at| ts - resolved_at <= RESOLVED_RETENTION_MS)
    }

    fn resolve(&mut self, ts: Timestamp) {
        self.state = AlertState::Inactive;
        self.resolved_at = Some(ts);
    }

    fn advance(&mut self, ts: Timestamp, timing: Timing) {
        let held = ts - self.active_at >= timing.hold_ms;
        match (self.state, held) {
            (AlertState::Pending, true) => {
                self.state = AlertState::Firing;
                self.fired_at = Some(ts);
                self.seen.at_fire = Some(self.value);
            }
            // A reload raised `for` above what the alert has held.
            (AlertState::Firing, false) => {
                self.state = AlertState::Pending;
                self.fired_at = None;
                self.seen.at_fire = None;
                self.last_sent_at = None;
                self.keep_firing_since = None;
            }
            _ => {}
        }
    }

    fn needs_sending(&self, ts: Timestamp, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(sent) = self.last_sent_at else { return true };
        self.resolved_at.is_some_and(|resolved_at| resolved_at > sent) || sent + resend_delay_ms < ts
    }
}

#[cfg(test)]
mod tests;
