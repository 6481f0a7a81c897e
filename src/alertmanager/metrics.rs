//! What the Alertmanager counts about itself, under upstream's names and with its help.

use std::collections::BTreeMap;
use std::time::Duration;

use model::wire::expose::{Counter, Exposition, Gauge, Histogram, Kind};
use parking_lot::Mutex;

use super::notify::Outcome;
use super::stage::Suppression;

/// All kinds of receivers, as `Notifier::name` calls them: each has its series from the beginning.
const INTEGRATIONS: [&str; 18] = [
    "discord",
    "email",
    "incidentio",
    "jira",
    "mattermost",
    "msteams",
    "msteamsv2",
    "opsgenie",
    "pagerduty",
    "pushover",
    "rocketchat",
    "slack",
    "sns",
    "telegram",
    "victorops",
    "webex",
    "webhook",
    "wechat",
];

/// Why notifications fail.
const FAILURES: [&str; 7] = [
    "authError",
    "clientError",
    "contextCanceled",
    "contextDeadlineExceeded",
    "other",
    "rateLimited",
    "serverError",
];

const LATENCY_BOUNDS: [f64; 5] = [1.0, 5.0, 10.0, 15.0, 20.0];
const QUERY_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What is counted for each kind of receiver.
#[derive(Debug)]
struct OfIntegration {
    sent: Counter,
    requests: Counter,
    failed_requests: Counter,
    latency: Histogram,
    /// As in `FAILURES`.
    failed: [Counter; 7],
}

/// How often and how long: a summary without quantiles.
#[derive(Debug, Default)]
pub(super) struct Spans {
    count: Counter,
    sum: Gauge,
}

impl Spans {
    pub(super) fn observe(&self, span: Duration) {
        self.count.inc();
        self.sum.add(span.as_secs_f64());
    }

    fn expose(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, help, Kind::Summary);
        out.quantiles(name, &[], (self.count.get(), self.sum.get()), Vec::new());
    }
}

/// How silences, or the notification log, are kept on disk.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    pub(super) runs: Counter,
    pub(super) errors: Counter,
    pub(super) garbage: Spans,
    pub(super) snapshots: Spans,
    pub(super) snapshot_bytes: Gauge,
}

impl Maintenance {
    /// `subject` is the part of the names, the others are the words of the help texts.
    fn expose(&self, out: &mut Exposition, subject: &str, [singular, plural]: [&str; 2]) {
        let name = |rest: &str| format!("alertmanager_{subject}_{rest}");
        let help = format!("Duration of the last {singular} garbage collection cycle.");
        self.garbage.expose(out, &name("gc_duration_seconds"), &help);
        let help = format!("Duration of the last {singular} snapshot.");
        self.snapshots.expose(out, &name("snapshot_duration_seconds"), &help);
        let help = format!("Size of the last {singular} snapshot in bytes.");
        out.gauge(&name("snapshot_size_bytes"), &help, self.snapshot_bytes.get());
        let help = format!("How many maintenances were executed for {plural}.");
        out.counter(&name("maintenance_total"), &help, &self.runs);
        let help = format!("How many maintenances were executed for {plural} that failed.");
        out.counter(&name("maintenance_errors_total"), &help, &self.errors);
    }
}

/// How often something was looked up, and how long it took.
#[derive(Debug)]
pub(super) struct Queries {
    total: Counter,
    latency: Histogram,
}

impl Default for Queries {
    fn default() -> Self {
        Self { total: Counter::new(), latency: Histogram::new(&QUERY_BOUNDS) }
    }
}

impl Queries {
    pub(super) fn observe(&self, span: Duration) {
        self.total.inc();
        self.latency.observe(span.as_secs_f64());
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) received_firing: Counter,
    pub(super) received_resolved: Counter,
    pub(super) invalid: Counter,
    pub(super) limited: Counter,
    pub(super) dispatched: Spans,
    pub(super) silences: Maintenance,
    pub(super) log: Maintenance,
    pub(super) silence_queries: Queries,
    pub(super) log_queries: Queries,
    pub(super) journal_errors: Counter,
    /// Alerts held back, by reason.
    suppressed: Mutex<BTreeMap<Suppression, u64>>,
    /// As in `INTEGRATIONS`.
    integrations: [OfIntegration; 18],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            received_firing: Counter::new(),
            received_resolved: Counter::new(),
            invalid: Counter::new(),
            limited: Counter::new(),
            dispatched: Spans::default(),
            silences: Maintenance::default(),
            log: Maintenance::default(),
            silence_queries: Queries::default(),
            log_queries: Queries::default(),
            journal_errors: Counter::new(),
            suppressed: Mutex::default(),
            integrations: std::array::from_fn(|_| OfIntegration {
                sent: Counter::new(),
                requests: Counter::new(),
                failed_requests: Counter::new(),
                latency: Histogram::new(&LATENCY_BOUNDS),
                failed: std::array::from_fn(|_| Counter::new()),
            }),
        }
    }
}

impl Metrics {
    pub(super) fn note_suppressed(&self, why: Suppression, n: usize) {
        *self.suppressed.lock().entry(why).or_default() += n as u64;
    }

    pub(super) fn note_outcome(&self, integration: &'static str, outcome: &Outcome) {
        let Some(i) = INTEGRATIONS.iter().position(|known| *known == integration) else { return };
        let of = &self.integrations[i];
        of.sent.inc();
        of.requests.add(outcome.requests);
        of.failed_requests.add(outcome.failed_requests);
        outcome.latencies.iter().for_each(|span| of.latency.observe(span.as_secs_f64()));
        if let Err(failure) = &outcome.result {
            let reason = FAILURES.iter().position(|known| *known == failure.reason);
            let other = FAILURES.iter().position(|known| *known == "other");
            if let Some(reason) = reason.or(other) {
                of.failed[reason].inc();
            }
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
        out.counter(
            "alertmanager_alerts_limited_total",
            "Total number of alerts that were dropped due to per alert name limit",
            &self.limited,
        );
        self.dispatched.expose(
            out,
            "alertmanager_dispatcher_alert_processing_duration_seconds",
            "Summary of latencies for the processing of alerts.",
        );
        self.expose_notifications(out);
        self.silences.expose(out, "silences", ["silence", "silences"]);
        self.log.expose(out, "nflog", ["notification log", "the notification log"]);
        self.expose_queries(out);
        out.counter(
            "ferula_alertmanager_journal_errors_total",
            "How often changes could not be written to the journal at once.",
            &self.journal_errors,
        );
    }

    fn expose_notifications(&self, out: &mut Exposition) {
        type Pick = fn(&OfIntegration) -> &Counter;
        let counters: [(&str, &str, Pick); 3] = [
            ("notifications_total", "The total number of attempted notifications.", |of| &of.sent),
            ("notification_requests_total", "The total number of attempted notification requests.", |of| {
                &of.requests
            }),
            (
                "notification_requests_failed_total",
                "The total number of failed notification requests.",
                |of| &of.failed_requests,
            ),
        ];
        for (name, help, counter) in counters {
            let name = format!("alertmanager_{name}");
            out.family(&name, help, Kind::Counter);
            for (integration, of) in INTEGRATIONS.iter().zip(&self.integrations) {
                out.sample(&name, &[("integration", integration)], counter(of).get() as f64);
            }
        }
        let failed = "alertmanager_notifications_failed_total";
        out.family(failed, "The total number of failed notifications.", Kind::Counter);
        for (integration, of) in INTEGRATIONS.iter().zip(&self.integrations) {
            for (reason, counter) in FAILURES.iter().zip(&of.failed) {
                let labels = [("integration", *integration), ("reason", *reason)];
                out.sample(failed, &labels, counter.get() as f64);
            }
        }
        let latency = "alertmanager_notification_latency_seconds";
        out.family(latency, "The latency of notifications in seconds.", Kind::Histogram);
        for (integration, of) in INTEGRATIONS.iter().zip(&self.integrations) {
            out.histogram(latency, &[("integration", integration)], &of.latency);
        }
        let suppressed = "alertmanager_notifications_suppressed_total";
        let help = "The total number of notifications suppressed for being silenced, inhibited, outside of active \
                    time intervals or within muted time intervals.";
        out.family(suppressed, help, Kind::Counter);
        let counts = self.suppressed.lock();
        for why in Suppression::ALL {
            let n = counts.get(&why).copied().unwrap_or_default();
            out.sample(suppressed, &[("reason", why.as_str())], n as f64);
        }
    }

    fn expose_queries(&self, out: &mut Exposition) {
        // What cannot happen here has its series all the same, for the alerts and pages that ask for it.
        let none = Counter::new();
        let never = [
            ("silences_gc_errors_total", "How many silence GC errors were encountered."),
            (
                "silences_gossip_messages_propagated_total",
                "Number of received gossip messages that have been further gossiped.",
            ),
            (
                "nflog_gossip_messages_propagated_total",
                "Number of received gossip messages that have been further gossiped.",
            ),
            (
                "dispatcher_aggregation_group_creation_given_up_total",
                "Number of alerts dropped because aggregation group creation exceeded the retry limit.",
            ),
            (
                "dispatcher_aggregation_group_creation_retries_total",
                "Number of CAS retries while creating aggregation groups under contention.",
            ),
        ];
        for (name, help) in never {
            out.counter(&format!("alertmanager_{name}"), help, &none);
        }
        out.counter(
            "alertmanager_silences_queries_total",
            "How many silence queries were received.",
            &self.silence_queries.total,
        );
        let errors = "How many silence received queries did not succeed.";
        out.counter("alertmanager_silences_query_errors_total", errors, &none);
        let latency = "alertmanager_silences_query_duration_seconds";
        out.family(latency, "Duration of silence query evaluation.", Kind::Histogram);
        out.histogram(latency, &[], &self.silence_queries.latency);
        let help = "Number of notification log queries were received.";
        out.counter("alertmanager_nflog_queries_total", help, &self.log_queries.total);
        let errors = "Number notification log received queries that failed.";
        out.counter("alertmanager_nflog_query_errors_total", errors, &none);
        let latency = "alertmanager_nflog_query_duration_seconds";
        out.family(latency, "Duration of notification log query evaluation.", Kind::Histogram);
        out.histogram(latency, &[], &self.log_queries.latency);
    }
}
