//! Discovery by asking again and again: the loop that such mechanisms share.
//!
//! Compat: prometheus `discovery/refresh`, `Discovery`.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Error, Metrics, Update};

/// Something that can be asked for its groups; each group stands alone and may fail alone.
pub(super) trait Source: Send + Sync + 'static {
    /// The mechanism's name in metrics and log lines.
    const MECHANISM: &'static str;

    /// Asks once. Groups of parts that failed are absent and keep their last state.
    fn refresh(&self) -> impl Future<Output = (Update, Vec<Error>)> + Send;
}

pub(super) struct Discoverer<S> {
    source: S,
    interval: Duration,
    metrics: Arc<Metrics>,
}

impl<S: Source> Discoverer<S> {
    pub(super) fn new(source: S, interval: Duration, metrics: Arc<Metrics>) -> Self {
        Self { source, interval, metrics }
    }

    async fn refresh_until_stopped(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        // An interval of 0 would spin.
        let mut ticks = tokio::time::interval(self.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known: BTreeSet<String> = BTreeSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let start = Instant::now();
            let (mut update, errors) = tokio::select! {
                () = stop.cancelled() => return,
                answer = self.source.refresh() => answer,
            };
            self.metrics.refresh_duration.observe(start.elapsed().as_secs_f64());
            for error in &errors {
                self.metrics.refresh_failures.inc();
                tracing::error!(mechanism = S::MECHANISM, %error, "unable to refresh target groups");
            }
            let found: BTreeSet<String> = update.iter().map(|group| group.source.clone()).collect();
            if errors.is_empty() {
                for gone in known.difference(&found) {
                    update.push(Arc::new(TargetGroup { source: gone.clone(), ..TargetGroup::default() }));
                }
                known = found;
            } else {
                known.extend(found);
            }
            if updates.send(update).await.is_err() {
                return;
            }
        }
    }
}

impl<S: Source> super::Discoverer for Discoverer<S> {
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.refresh_until_stopped(updates, stop))
    }
}
