//! Service discovery: from the discovery sections of the configuration to sets of target groups per job.
//!
//! A [`Discoverer`] watches one source of truth (a list, files, DNS) and sends groups whenever they change.
//! The [`Manager`] runs them, shares equal ones between jobs and publishes the full map of job to groups.
//! Knows nothing of scraping, of relabelling or of Alertmanagers: both users subscribe to the same channel.
//!
//! Compat: prometheus `discovery` (3.14).

mod dns;
mod file;
mod manager;
mod metrics;
mod refresh;

pub use manager::{Manager, TargetSets};
pub use metrics::Metrics;

use std::pin::Pin;
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::Discovery;
use model::wire::expose::{Expose, Exposition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a provider sends: groups that replace those of the same source; one without targets removes its source.
pub type Update = Vec<Arc<TargetGroup>>;

/// A running source of targets.
pub trait Discoverer: Send {
    /// Sends groups to `updates` until `stop` is cancelled.
    ///
    /// The first update comes as soon as the source is known. Each later one holds the groups that may
    /// have changed, and an empty group for each source that is gone. Errors keep what was sent before.
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Makes the provider of a discovery section.
fn discoverer(section: &Discovery, metrics: &Arc<Metrics>) -> Result<Box<dyn Discoverer>, Error> {
    Ok(match section {
        Discovery::Static(groups) => Box::new(Static(groups.clone())),
        Discovery::File(section) => Box::new(file::Discoverer::new(section.clone(), Arc::clone(metrics))),
        Discovery::Dns(section) => Box::new(refresh::Discoverer::new(
            dns::Source::new(section.clone(), Arc::clone(metrics))?,
            section.refresh_interval,
            Arc::clone(metrics),
        )),
        Discovery::Consul(_)
        | Discovery::Docker(_)
        | Discovery::DockerSwarm(_)
        | Discovery::Http(_)
        | Discovery::Kubernetes(_)
        | Discovery::Other(_) => return Err(Error("the mechanism is not built in".to_owned())),
    })
}

/// Why a provider cannot be made or cannot read its source now.
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
