//! The steps between a group that is due and its messages, each from alerts to alerts.
//!
//! Compat: alertmanager `notify`, `MuteStage`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::dispatch::Flushed;
use super::inhibit::Inhibitor;
use super::silence::Silences;

/// The alerts that no firing alert inhibits.
pub fn inhibit(alerts: Vec<Flushed>, inhibitor: &Inhibitor, now: Timestamp) -> Vec<Flushed> {
    keep(alerts, |flushed| inhibitor.find(&flushed.alert.labels, now).is_none())
}

/// The alerts that no silence covers.
pub fn silence(alerts: Vec<Flushed>, silences: &Silences, now: Timestamp) -> Vec<Flushed> {
    keep(alerts, |flushed| silences.find(&flushed.alert.labels, now).is_empty())
}

fn keep(mut alerts: Vec<Flushed>, keep: impl Fn(&Flushed) -> bool) -> Vec<Flushed> {
    alerts.retain(keep);
    alerts
}

/// The fingerprints of what fires and of what is resolved, as the notification log keeps them.
pub fn split(alerts: &[Flushed]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let of = |resolved: bool| {
        let alerts = alerts.iter().filter(move |flushed| flushed.is_resolved == resolved);
        alerts.map(|flushed| flushed.alert.fingerprint.0).collect()
    };
    (of(false), of(true))
}
