//! The clusters that sections ask for, and in each the watches that they share.
//!
//! Two sections that want the same objects of the same cluster, of one job or of many, share one watch; so do
//! the section before a reload and the one after it. A watch that nobody uses goes on for a while, since the
//! next reload may want it back, and then ends.

use std::collections::HashMap;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::connect::Reach;
use super::metrics::Metrics;
use super::watch::{Selection, Subscription, Watch};

/// All clusters of the server. Ends its watches when it is dropped.
pub(in crate::discovery) struct Clusters {
    all: Mutex<Vec<Arc<Cluster>>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Drop for Clusters {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Clusters {
    /// `stop` ends all watches.
    pub(in crate::discovery) fn new(metrics: Arc<Metrics>, stop: CancellationToken) -> Self {
        Self { all: Mutex::default(), metrics, stop }
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The one that `reach` leads to; equal ways lead to the same.
    pub(super) fn get(&self, reach: &Reach) -> Arc<Cluster> {
        let mut clusters = self.all.lock();
        // One that only this list knows has no section left and no watch.
        clusters.retain(|cluster| Arc::strong_count(cluster) > 1 || cluster.reach == *reach);
        if let Some(known) = clusters.iter().find(|cluster| cluster.reach == *reach) {
            return Arc::clone(known);
        }
        let cluster = Arc::new(Cluster {
            name: reach.name(),
            reach: reach.clone(),
            client: tokio::sync::Mutex::default(),
            watches: Mutex::default(),
            has_streaming_lists: true.into(),
            metrics: Arc::clone(&self.metrics),
            stop: self.stop.clone(),
        });
        clusters.push(Arc::clone(&cluster));
        cluster
    }
}

/// One API server with one identity.
pub(super) struct Cluster {
    pub(super) name: String,
    reach: Reach,
    client: tokio::sync::Mutex<Connected>,
    watches: Mutex<HashMap<Selection, Arc<Watch>>>,
    /// Until the server refuses one.
    pub(super) has_streaming_lists: std::sync::atomic::AtomicBool,
    pub(super) metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Cluster {
    /// Follows what `selection` says; `wake` is told when there is something to take. Must run inside a runtime.
    pub(super) fn subscribe(self: &Arc<Self>, selection: &Selection, wake: &Arc<Notify>) -> Subscription {
        let mut watches = self.watches.lock();
        // A watch that has just ended may still be listed.
        if let Some(subscription) = watches.get(selection).and_then(|watch| watch.subscribe(wake)) {
            return subscription;
        }
        let watch = Arc::new(Watch::new(selection.clone()));
        let subscription = watch.subscribe(wake).expect("a new watch is open");
        watches.insert(selection.clone(), Arc::clone(&watch));
        tokio::spawn(Arc::clone(&watch).run(Arc::clone(self), self.stop.clone()));
        subscription
    }

    /// Takes a watch that has ended off the list.
    pub(super) fn forget(&self, watch: &Arc<Watch>) {
        self.watches.lock().retain(|_, known| !Arc::ptr_eq(known, watch));
    }

    /// The client, made when it is first asked for, and its number.
    pub(super) async fn client(&self) -> Result<(Client, u64), Error> {
        let mut connected = self.client.lock().await;
        let is_valid =
            |known: &Client| known.valid_until().as_ref().is_none_or(|until| *until > jiff::Timestamp::now());
        if let Some(known) = connected.client.as_ref().filter(|known| is_valid(known)) {
            return Ok((known.clone(), connected.number));
        }
        let made = self.reach.connect().await?;
        connected.number += 1;
        connected.client = Some(made.clone());
        Ok((made, connected.number))
    }

    /// Gives up the client of this number, so that the next request begins with what files and plugins say then.
    pub(super) async fn reconnect(&self, number: u64) {
        let mut connected = self.client.lock().await;
        if connected.number == number {
            connected.client = None;
        }
    }

    #[cfg(test)]
    pub(super) fn n_watches(&self) -> usize {
        self.watches.lock().len()
    }
}

#[derive(Default)]
struct Connected {
    client: Option<Client>,
    /// Counts the clients that were made.
    number: u64,
}
