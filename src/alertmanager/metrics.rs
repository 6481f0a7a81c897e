//! What the Alertmanager counts about itself, under upstream's names.

use std::collections::BTreeMap;

use model::wire::expose::{Counter, Exposition, Kind};
use parking_lot::Mutex;

use super::notify::Outcome;

const INTEGRATIONS: [&str; 2] = ["email", "webhook"];
const SUPPRESSIONS: [&str; 2] = ["inhibition", "silence"];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) received_firing: Counter,
    pub(super) received_resolved: Counter,
    pub(super) invalid: Counter,
    /// Alerts held back, by reason.
    suppressed: [Counter; 2],
    /// By integration, as in `INTEGRATIONS`.
    sent: [Counter; 2],
    requests: [Counter; 2],
    failed_requests: [Counter; 2],
    /// By integration and reason.
    failed: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Metrics {
    pub(super) fn note_suppressed(&self, reason: &str, n: usize) {
        if let Some(i) = SUPPRESSIONS.iter().position(|known| *known == reason) {
            self.suppressed[i].add(n as u64);
        }
    }

    pub(super) fn note_outcome(&self, integration: &'static str, outcome: &Outcome) {
        let Some(i) = INTEGRATIONS.iter().position(|known| *known == integration) else { return };
        self.sent[i].inc();
        self.requests[i].add(outcome.requests);
        self.failed_requests[i].add(outcome.failed_requests);
        if let Err(failure) = &outcome.result {
            *self.failed.lock().entry((integration, failure.reason)).or_default() += 1;
        }
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let received = "alertmanager_alerts_received_total";
        out.family(received, "The total number of received alerts.", Kind::Counter);
        for (status, counter) in [("firing", &self.received_firing), ("resolved", &self.received_resolved)] {
            out.sample(received, &[("status", status), ("version", "v2")], counter.get() as f64);
        }
        let invalid = "alertmanager_alerts_invalid_total";
        out.family(invalid, "The total number of received alerts that were invalid.", Kind::Counter);
        out.sample(invalid, &[("version", "v2")], self.invalid.get() as f64);
        let by_integration = |out: &mut Exposition, name: &str, help: &str, counters: &[Counter; 2]| {
            out.family(name, help, Kind::Counter);
            for (integration, counter) in INTEGRATIONS.iter().zip(counters) {
                out.sample(name, &[("integration", integration)], counter.get() as f64);
            }
        };
        by_integration(
            out,
            "alertmanager_notifications_total",
            "The total number of attempted notifications.",
            &self.sent,
        );
        by_integration(
            out,
            "alertmanager_notification_requests_total",
            "The total number of attempted notification requests.",
            &self.requests,
        );
        by_integration(
            out,
            "alertmanager_notification_requests_failed_total",
            "The total number of failed notification requests.",
            &self.failed_requests,
        );
        let failed = "alertmanager_notifications_failed_total";
        out.family(failed, "The total number of failed notifications.", Kind::Counter);
        let counts = self.failed.lock();
        for integration in INTEGRATIONS {
            for reason in
                ["other", "clientError", "authError", "rateLimited", "serverError", "contextDeadlineExceeded"]
            {
                let n = counts.get(&(integration, reason)).copied().unwrap_or_default();
                out.sample(failed, &[("integration", integration), ("reason", reason)], n as f64);
            }
        }
        let suppressed = "alertmanager_notifications_suppressed_total";
        out.family(suppressed, "The total number of notifications suppressed.", Kind::Counter);
        for (reason, counter) in SUPPRESSIONS.iter().zip(&self.suppressed) {
            out.sample(suppressed, &[("reason", reason)], counter.get() as f64);
        }
    }
}
