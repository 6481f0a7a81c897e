//! Service discovery: from the discovery sections of the configuration to sets of target groups per job.
//!
//! A [`Discoverer`] watches one source of truth (a list, files, DNS, a registry) and sends groups whenever they
//! change. The [`Manager`] runs them, shares equal ones between jobs and publishes the full map of job to groups.
//! Knows nothing of scraping, of relabelling or of Alertmanagers: both users subscribe to the same channel.
//!
//! A further mechanism is one file (a [`refresh::Source`] if it asks again and again, else a [`Discoverer`]),
//! one arm in [`discoverer`] and one test.
//!
//! Compat: prometheus `discovery` (3.14).

mod consul;
mod dns;
mod docker;
mod dockerswarm;
mod fetch;
mod file;
mod health;
mod http;
#[cfg(feature = "k8s")]
mod kubernetes;
mod label;
mod manager;
mod metrics;
mod moby;
mod refresh;
#[cfg(test)]
mod testing;

pub use health::Failure;
pub use manager::{Manager, Status, TargetSets};
pub use metrics::Metrics;

use std::pin::Pin;
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::Discovery;
use model::wire::expose::{Expose, Exposition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use health::Health;

/// What a provider sends: groups that replace those of the same source; one without targets removes its source.
pub type Update = Vec<Arc<TargetGroup>>;

/// Waits until every update sent before is taken, so that what is said of the whole next counts after them.
async fn taken(updates: &mpsc::Sender<Update>) {
    // A closed channel is noticed by whoever sends next.
    let _ = updates.reserve_many(updates.max_capacity()).await;
}

/// A running source of targets.
pub trait Discoverer: Send {
    /// Sends groups to `updates` until `stop` is cancelled.
    ///
    /// The first update comes as soon as the source is known. Each later one holds the groups that may
    /// have changed, and an empty group for each source that is gone. Errors keep what was sent before; they
    /// are told to the provider's `Health`.
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What a provider gets beside its section.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Makes the provider of a discovery section: the one place that knows all mechanisms.
fn discoverer(
    section: &Discovery,
    context: &Context,
    #[cfg(feature = "k8s")] clusters: &kubernetes::Clusters,
) -> Result<Box<dyn Discoverer>, Error> {
    Ok(match section {
        Discovery::Consul(section) => Box::new(consul::Discoverer::new(section, context)?),
        Discovery::Dns(section) => Box::new(refresh::Discoverer::new(
            dns::Source::new(section.clone(), Arc::clone(&context.metrics)),
            section.refresh_interval,
            context,
        )),
        Discovery::Docker(section) => Box::new(refresh::Discoverer::new(
            docker::Source::new(section)?,
            section.refresh_interval,
            context,
        )),
        Discovery::DockerSwarm(section) => Box::new(refresh::Discoverer::new(
            dockerswarm::Source::new(section)?,
            section.refresh_interval,
            context,
        )),
        Discovery::File(section) => Box::new(file::Discoverer::new(section.clone(), context.clone())),
        Discovery::Http(section) => Box::new(refresh::Discoverer::new(
            http::Source::new(section, Arc::clone(&context.metrics))?,
            section.refresh_interval,
            context,
        )),
        #[cfg(feature = "k8s")]
        Discovery::Kubernetes(section) => Box::new(kubernetes::Discoverer::new(section, clusters, context)?),
        Discovery::Static(groups) => Box::new(Static(groups.clone())),
        #[cfg(not(feature = "k8s"))]
        Discovery::Kubernetes(_) => return Err(not_built_in(section)),
        Discovery::Other(_) => return Err(not_built_in(section)),
    })
}

fn not_built_in(section: &Discovery) -> Error {
    Error(format!("{} service discovery is not built in: it finds no targets", mechanism(section)))
}

/// The mechanisms that find targets.
pub const MECHANISMS: &[&str] = &[
    "consul",
    "dns",
    "docker",
    "dockerswarm",
    "file",
    "http",
    #[cfg(feature = "k8s")]
    "kubernetes",
    "static",
];

/// The name of a section's mechanism in metrics, log lines and the API.
fn mechanism(section: &Discovery) -> &'static str {
    match section {
        Discovery::Consul(_) => "consul",
        Discovery::Dns(_) => "dns",
        Discovery::Docker(_) => "docker",
        Discovery::DockerSwarm(_) => "dockerswarm",
        Discovery::File(_) => "file",
        Discovery::Http(_) => "http",
        Discovery::Kubernetes(_) => "kubernetes",
        Discovery::Other(section) => section.mechanism,
        Discovery::Static(_) => "static",
    }
}

/// Whether a section's mechanism runs in [`refresh`], which is counted by job.
fn is_refreshed(section: &Discovery) -> bool {
    matches!(
        section,
        Discovery::Dns(_) | Discovery::Docker(_) | Discovery::DockerSwarm(_) | Discovery::Http(_)
    )
}

/// Why a provider cannot be made or cannot read its source now. Holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The groups of the configuration file itself: sent once.
struct Static(Vec<TargetGroup>);

impl Discoverer for Static {
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        _stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let groups = self.0.into_iter().enumerate().map(|(i, group)| {
                // Sections of one job are told apart by their place, as upstream does.
                Arc::new(TargetGroup { source: i.to_string(), ..group })
            });
            // A closed channel means that the manager has dropped this provider.
            let _ = updates.send(groups.collect()).await;
        })
    }
}

/// The metrics of all managers of the server together: their families are shared.
pub struct Exposed<'a>(pub &'a [&'a Metrics]);

impl Expose for Exposed<'_> {
    fn expose(&self, out: &mut Exposition) {
        metrics::expose(self.0, out);
    }
}

#[cfg(test)]
mod tests;
