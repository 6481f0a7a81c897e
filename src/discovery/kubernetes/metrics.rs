//! What discovery from Kubernetes counts of itself.
//!
//! Compat: prometheus `discovery/kubernetes/metrics.go` and `discovery/metrics_k8s_client.go`, names and
//! labels; of the work queues, what a queue that is emptied at once can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use config::prometheus::KubernetesRole;
use model::wire::expose::{Counter, Exposition, Kind};
use parking_lot::Mutex;

/// Counts over all clusters and sections.
#[derive(Debug, Default)]
pub(in crate::discovery) struct Metrics {
    events: [[Counter; 3]; ROLES.len()],
    pub(super) failures: Counter,
    /// By status code, or `<error>` when there was no answer.
    requests: Mutex<BTreeMap<String, u64>>,
    /// Time to the head of the answer, by path.
    durations: Mutex<BTreeMap<String, Summary>>,
    queues: [Mutex<Queue>; ROLES.len()],
}

const ROLES: [KubernetesRole; 6] = [
    KubernetesRole::EndpointSlice,
    KubernetesRole::Endpoints,
    KubernetesRole::Node,
    KubernetesRole::Pod,
    KubernetesRole::Service,
    KubernetesRole::Ingress,
];

const EVENTS: [&str; 3] = ["add", "delete", "update"];

fn place(role: KubernetesRole) -> usize {
    ROLES.iter().position(|known| *known == role).expect("all roles are listed")
}

#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    /// Seconds.
    sum: f64,
    count: u64,
}

impl Summary {
    fn observe(&mut self, each: Duration, n: u64) {
        self.sum += each.as_secs_f64() * n as f64;
        self.count += n;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// Somebody discovers this role, or did.
    is_used: bool,
    depth: i64,
    items: u64,
    latency: Summary,
    work: Summary,
}

/// What happened to objects of one kind since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Events {
    pub(super) added: u64,
    pub(super) deleted: u64,
    pub(super) updated: u64,
}

impl Metrics {
    pub(super) fn add_events(&self, role: KubernetesRole, events: Events) {
        let counters = &self.events[place(role)];
        for (counter, n) in counters.iter().zip([events.added, events.deleted, events.updated]) {
            counter.add(n);
        }
    }

    pub(super) fn request(&self, path: &str, status: Option<u16>, duration: Duration) {
        let status = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        *self.requests.lock().entry(status).or_default() += 1;
        self.durations.lock().entry(path.to_owned()).or_default().observe(duration, 1);
    }

    /// `added` groups wait; the number may be negative when some are given up.
    pub(super) fn queue(&self, role: KubernetesRole, added: i64) {
        let mut queue = self.queues[place(role)].lock();
        queue.depth += added;
        queue.items += u64::try_from(added).unwrap_or_default();
    }

    /// Somebody discovers this role: its queue is shown from now on.
    pub(super) fn begin(&self, role: KubernetesRole) {
        self.queues[place(role)].lock().is_used = true;
    }

    /// `n` groups waited for `latency` and were then made in `work`.
    pub(super) fn dequeue(&self, role: KubernetesRole, n: u64, latency: Duration, work: Duration) {
        let mut queue = self.queues[place(role)].lock();
        queue.depth -= n.cast_signed();
        queue.latency.observe(latency, n);
        if let Ok(parts) = u32::try_from(n)
            && parts > 0
        {
            queue.work.observe(work / parts, n);
        }
    }

    #[cfg(test)]
    pub(super) fn events(&self, role: KubernetesRole) -> Events {
        let [added, deleted, updated] = &self.events[place(role)];
        Events { added: added.get(), deleted: deleted.get(), updated: updated.get() }
    }

    #[cfg(test)]
    pub(super) fn requests(&self) -> BTreeMap<String, u64> {
        self.requests.lock().clone()
    }
}

/// Writes the sum of `all`, each family once.
pub(in crate::discovery) fn expose(all: &[&Metrics], out: &mut Exposition) {
    let events = "prometheus_sd_kubernetes_events_total";
    out.family(events, "The number of Kubernetes events handled.", Kind::Counter);
    for (i, role) in ROLES.iter().enumerate() {
        for (j, event) in EVENTS.iter().enumerate() {
            let n: u64 = all.iter().map(|metrics| metrics.events[i][j].get()).sum();
            out.sample(events, &[("event", event), ("role", role.as_str())], n as f64);
        }
    }
    let failures = "prometheus_sd_kubernetes_failures_total";
    out.family(failures, "The number of failed WATCH/LIST requests.", Kind::Counter);
    out.sample(failures, &[], all.iter().map(|metrics| metrics.failures.get()).sum::<u64>() as f64);

    let mut requests: BTreeMap<String, u64> = BTreeMap::new();
    let mut durations: BTreeMap<String, Summary> = BTreeMap::new();
    for metrics in all {
        for (status, n) in &*metrics.requests.lock() {
            *requests.entry(status.clone()).or_default() += n;
        }
        for (path, summary) in &*metrics.durations.lock() {
            let total = durations.entry(path.clone()).or_default();
            total.sum += summary.sum;
            total.count += summary.count;
        }
    }
    if !requests.is_empty() {
        let name = "prometheus_sd_kubernetes_http_request_total";
        let help = "Total number of HTTP requests to the Kubernetes API by status code.";
        out.family(name, help, Kind::Counter);
        for (status, n) in &requests {
            out.sample(name, &[("status_code", status)], *n as f64);
        }
        let name = "prometheus_sd_kubernetes_http_request_duration_seconds";
        let help = "Summary of latencies for HTTP requests to the Kubernetes API by endpoint.";
        out.family(name, help, Kind::Summary);
        for (path, summary) in &durations {
            expose_summary(name, &[("endpoint", path)], *summary, out);
        }
    }

    let queues: Vec<(&str, Vec<Queue>)> = ROLES
        .iter()
        .enumerate()
        .map(|(i, role)| (role.as_str(), all.iter().map(|metrics| *metrics.queues[i].lock()).collect()))
        .filter(|(_, queues): &(&str, Vec<Queue>)| queues.iter().any(|queue| queue.is_used))
        .collect();
    if queues.is_empty() {
        return;
    }
    let mut family = |name: &str, help: &str, kind: Kind, value: &dyn Fn(&Queue) -> f64| {
        let name = format!("prometheus_sd_kubernetes_workqueue_{name}");
        out.family(&name, help, kind);
        for (role, queues) in &queues {
            out.sample(&name, &[("queue_name", role)], queues.iter().map(value).sum());
        }
    };
    family("depth", "Current depth of the work queue.", Kind::Gauge, &|queue| queue.depth as f64);
    family("items_total", "Total number of items added to the work queue.", Kind::Counter, &|queue| {
        queue.items as f64
    });
    let mut summaries = |name: &str, help: &str, value: &dyn Fn(&Queue) -> Summary| {
        let name = format!("prometheus_sd_kubernetes_workqueue_{name}");
        out.family(&name, help, Kind::Summary);
        for (role, queues) in &queues {
            let sum = queues.iter().map(|queue| value(queue).sum).sum();
            let count = queues.iter().map(|queue| value(queue).count).sum();
            expose_summary(&name, &[("queue_name", role)], Summary { sum, count }, out);
        }
    };
    summaries("latency_seconds", "How long an item stays in the work queue.", &|queue| queue.latency);
    summaries("work_duration_seconds", "How long processing an item from the work queue takes.", &|queue| {
        queue.work
    });
}

fn expose_summary(name: &str, labels: &[(&str, &str)], summary: Summary, out: &mut Exposition) {
    out.quantiles(name, labels, (summary.count, summary.sum), Vec::new());
}
