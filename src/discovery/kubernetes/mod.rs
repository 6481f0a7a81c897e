//! Discovery of targets in Kubernetes: nodes, pods, services, endpoints, endpoint slices and ingresses.
//!
//! A section subscribes to the watches that its role needs ([`watch`], shared by all sections through
//! [`cluster`]); what they deliver changes a [`state`], which says what groups to send; [`groups`] makes them.
//!
//! kube reads kubeconfigs, finds the cluster around us, renews credentials and carries the requests
//! ([`connect`]). Its typed requests and its runtime are not used: they hold whole lists in memory, keep whole
//! objects, and start a list and a watch per user. So lists and watches are our own ([`requests`], [`list`]),
//! and objects hold only what becomes a label ([`object`]).
//!
//! Compat: prometheus `discovery/kubernetes` (3.14).

mod cluster;
mod connect;
mod groups;
mod list;
mod metrics;
mod object;
mod requests;
mod state;
mod text;
mod watch;

pub(super) use cluster::Clusters;
pub(super) use metrics::{Metrics, expose};

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::prometheus::{KubernetesDiscovery, KubernetesRole};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Context, Error, Update, taken};
use cluster::Cluster;
use connect::Surroundings;
use metrics::Events;
use object::Kind;
use state::State;
use watch::{Selection, Subscription};

/// Changes that come together are sent together.
const GATHER: Duration = Duration::from_millis(50);

/// Groups in one update; making that many takes a few milliseconds.
const UPDATE_MAX: usize = 500;

/// The provider of one section.
pub(super) struct Discoverer {
    section: KubernetesDiscovery,
    /// `None` for all namespaces together.
    namespaces: Vec<Option<String>>,
    cluster: Arc<Cluster>,
    context: Context,
    metrics: Arc<Metrics>,
}

impl Discoverer {
    /// # Errors
    /// There is no way to the API server: no cluster around us, or files that cannot be used.
    pub(super) fn new(
        section: &KubernetesDiscovery,
        clusters: &Clusters,
        context: &Context,
    ) -> Result<Self, Error> {
        Self::within(&Surroundings::of_process(), section, clusters, context)
    }

    fn within(
        around: &Surroundings,
        section: &KubernetesDiscovery,
        clusters: &Clusters,
        context: &Context,
    ) -> Result<Self, Error> {
        let reach = connect::Reach::new(section, around)?;
        let own = section.namespaces.own_namespace.then(|| around.namespace()).transpose()?;
        Ok(Self {
            namespaces: namespaces(section, own),
            section: section.clone(),
            cluster: clusters.get(&reach),
            context: context.clone(),
            metrics: clusters.metrics(),
        })
    }

    async fn run_until_stopped(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        // What was found before is replaced when everything is known, not by the first piece.
        self.context.health.hold();
        let unsynced = Mutex::new(self.namespaces.clone());
        let scopes = self.namespaces.iter().map(|namespace| {
            let scope = Scope::new(&self, namespace.as_deref());
            scope.follow(&updates, &unsynced)
        });
        tokio::select! {
            () = stop.cancelled() => {}
            _ = join_all(scopes) => {}
        }
    }
}

impl super::Discoverer for Discoverer {
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run_until_stopped(updates, stop))
    }
}

/// The namespaces to look at; `own` is the one that we run in, if it is wanted.
fn namespaces(section: &KubernetesDiscovery, own: Option<String>) -> Vec<Option<String>> {
    if section.role == KubernetesRole::Node {
        return vec![None];
    }
    let mut all: Vec<Option<String>> = Vec::new();
    for name in section.namespaces.names.iter().cloned().chain(own).map(Some) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if all.is_empty() { vec![None] } else { all }
}

/// What has to be watched for one namespace.
fn selections(section: &KubernetesDiscovery, namespace: Option<&str>) -> Vec<Selection> {
    let of_role = |role: KubernetesRole, namespace: Option<&str>| {
        let selector = section.selectors.iter().find(|selector| selector.role == role);
        Selection {
            kind: role.into(),
            namespace: namespace.map(str::to_owned),
            labels: selector.map(|selector| selector.label.clone()).unwrap_or_default(),
            fields: selector.map(|selector| selector.field.clone()).unwrap_or_default(),
        }
    };
    let of_kind = |kind: Kind, namespace: Option<&str>| Selection {
        kind,
        namespace: namespace.map(str::to_owned),
        labels: String::new(),
        fields: String::new(),
    };
    let mut all = vec![of_role(section.role, namespace)];
    if matches!(section.role, KubernetesRole::Endpoints | KubernetesRole::EndpointSlice) {
        all.push(of_role(KubernetesRole::Service, namespace));
        all.push(of_role(KubernetesRole::Pod, namespace));
    }
    let attach = section.attach_metadata.unwrap_or_default();
    let has_pods =
        !matches!(section.role, KubernetesRole::Node | KubernetesRole::Service | KubernetesRole::Ingress);
    if attach.node && has_pods {
        all.push(of_role(KubernetesRole::Node, None));
    }
    if attach.namespace && section.role != KubernetesRole::Node {
        all.push(of_kind(Kind::Namespace, None));
    }
    if attach.deployment && has_pods {
        all.push(of_kind(Kind::ReplicaSet, namespace));
    }
    if attach.cronjob && has_pods {
        all.push(of_kind(Kind::Job, namespace));
    }
    all
}

/// One namespace of a section, or all together.
struct Scope<'a> {
    discoverer: &'a Discoverer,
    namespace: Option<String>,
    subscriptions: Vec<Subscription>,
    /// Of each subscription the error that was told last.
    errors: Vec<Option<Arc<str>>>,
    wake: Arc<Notify>,
    state: State,
    is_synced: bool,
}

impl<'a> Scope<'a> {
    fn new(discoverer: &'a Discoverer, namespace: Option<&str>) -> Self {
        let section = &discoverer.section;
        discoverer.metrics.begin(section.role);
        let wake = Arc::new(Notify::new());
        let subscriptions: Vec<Subscription> = selections(section, namespace)
            .iter()
            .map(|selection| discoverer.cluster.subscribe(selection, &wake))
            .collect();
        Self {
            errors: vec![None; subscriptions.len()],
            subscriptions,
            wake,
            state: State::new(section.role, section.attach_metadata.unwrap_or_default()),
            is_synced: false,
            namespace: namespace.map(str::to_owned),
            discoverer,
        }
    }

    /// Sends groups for as long as somebody takes them.
    async fn follow(mut self, updates: &mpsc::Sender<Update>, unsynced: &Mutex<Vec<Option<String>>>) {
        let (role, metrics) = (self.discoverer.section.role, &self.discoverer.metrics);
        let mut waiting = None;
        loop {
            self.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            let before = self.state.queue_len();
            let is_synced = self.take();
            let n = self.state.queue_len();
            metrics.queue(role, n.cast_signed() as i64 - before.cast_signed() as i64);
            let since = *waiting.get_or_insert_with(Instant::now);
            if !is_synced {
                continue;
            }
            waiting = None;
            loop {
                let (left, started) = (self.state.queue_len(), Instant::now());
                let groups = self.state.take_groups(UPDATE_MAX);
                let n = left - self.state.queue_len();
                if n == 0 {
                    break;
                }
                metrics.dequeue(role, n as u64, started.duration_since(since), started.elapsed());
                if !groups.is_empty() && updates.send(groups).await.is_err() {
                    return;
                }
            }
            if !self.is_synced {
                self.is_synced = true;
                taken(updates).await;
                self.settle(&mut unsynced.lock());
                if updates.send(Update::new()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Says that all of this namespace was sent.
    fn settle(&self, unsynced: &mut Vec<Option<String>>) {
        unsynced.retain(|namespace| *namespace != self.namespace);
        let health = &self.discoverer.context.health;
        if unsynced.is_empty() {
            health.settle();
            return;
        }
        let unsynced: Vec<String> = unsynced.iter().flatten().cloned().collect();
        // The namespace stands second in a source.
        let is_within = move |namespace: &str| unsynced.iter().any(|name| name == namespace);
        health.settle_but(move |source| source.split('/').nth(1).is_some_and(&is_within));
    }

    /// Takes what the watches have; tells whether they know everything.
    fn take(&mut self) -> bool {
        let Self { discoverer, subscriptions, errors, state, .. } = self;
        let mut is_synced = true;
        for (subscription, told) in subscriptions.iter().zip(errors) {
            let pending = subscription.take();
            is_synced &= pending.is_synced;
            if let Some((role, events)) =
                counted(discoverer.section.role, subscription.kind(), pending.events)
            {
                discoverer.metrics.add_events(role, events);
            }
            for (key, object) in pending.changes {
                state.apply(subscription.kind(), &key, object);
            }
            if *told != pending.error {
                let health = &discoverer.context.health;
                match &pending.error {
                    Some(error) => health.failed(&subscription.name(), "failed to watch Kubernetes", error),
                    None => health.recovered(&subscription.name()),
                }
                *told = pending.error;
            }
        }
        is_synced
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        // What waits now will not be worked on.
        let n = self.state.queue_len().cast_signed() as i64;
        self.discoverer.metrics.queue(self.discoverer.section.role, -n);
    }
}

/// Under which role events of `kind` count in a section of `role`, and which of them do.
fn counted(role: KubernetesRole, kind: Kind, events: Events) -> Option<(KubernetesRole, Events)> {
    match (role, kind) {
        _ if Kind::from(role) == kind => Some((role, events)),
        (KubernetesRole::Endpoints | KubernetesRole::EndpointSlice, Kind::Service) => {
            Some((KubernetesRole::Service, events))
        }
        (KubernetesRole::Endpoints, Kind::Pod) => {
            Some((KubernetesRole::Pod, Events { updated: events.updated, ..Events::default() }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
