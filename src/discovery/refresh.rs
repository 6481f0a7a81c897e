//! Discovery by asking again and again: the loop that such mechanisms share.
//!
//! Asks at once and then at every tick. What cannot be had keeps its last groups; what an answer no longer
//! holds is gone.
//!
//! Compat: prometheus `discovery/refresh`, `Discovery`.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Context, Error, Update, taken};

/// Shorter intervals are taken for this one: 0 would spin (upstream panics on it).
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How long a request may take whose interval is no bound.
const TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);

/// Something that can be asked for its groups.
pub(super) trait Source: Send + Sync + 'static {
    /// Asks once. Nothing changes after an error.
    fn refresh(&self) -> impl Future<Output = Result<Answer, Error>> + Send;
}

/// What a source found.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) groups: Update,
    /// Sources of groups that could not be had this time.
    pub(super) failed: BTreeMap<String, Error>,
}

impl Answer {
    pub(super) fn one(group: TargetGroup) -> Self {
        Self { groups: vec![Arc::new(group)], failed: BTreeMap::new() }
    }
}

pub(super) struct Discoverer<S> {
    source: S,
    interval: Duration,
    context: Context,
}

impl<S: Source> Discoverer<S> {
    pub(super) fn new(source: S, interval: Duration, context: &Context) -> Self {
        Self { source, interval, context: context.clone() }
    }

    async fn refresh_until_stopped(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval.max(INTERVAL_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = BTreeSet::new();
        let health = &self.context.health;
        health.hold();
        let mut is_settled = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let update = tokio::select! {
                () = stop.cancelled() => return,
                update = self.ask(&mut known) => update,
            };
            let Some((update, failed)) = update else { continue };
            if !is_settled {
                taken(&updates).await;
                is_settled = failed.is_empty();
                if is_settled {
                    health.settle();
                } else {
                    health.settle_but(move |source| failed.contains_key(source));
                }
            }
            if updates.send(update).await.is_err() {
                return;
            }
        }
    }

    /// What was found and what could not be had; `None` if that is everything, which changes nothing.
    async fn ask(&self, known: &mut BTreeSet<String>) -> Option<(Update, BTreeMap<String, Error>)> {
        let Context { health, metrics } = &self.context;
        let start = Instant::now();
        let answer = self.source.refresh().await;
        let took = start.elapsed();
        metrics.observe_refresh(health.mechanism(), took);
        health.refreshed(took, answer.is_err());
        let Answer { groups, failed } = match answer {
            Ok(answer) => answer,
            Err(error) => {
                health.failed("", "Unable to refresh target groups", &error);
                return None;
            }
        };
        health.retain(|part| failed.contains_key(part));
        for (part, error) in &failed {
            health.failed(part, "Unable to refresh a target group", error);
        }
        if groups.is_empty() && !failed.is_empty() {
            return None;
        }
        Some((replaced(groups, &failed, known), failed))
    }
}

/// `groups` with an empty one for each source that is gone; `known` are those that hold targets.
fn replaced(mut groups: Update, failed: &BTreeMap<String, Error>, known: &mut BTreeSet<String>) -> Update {
    let found: BTreeSet<String> = groups.iter().map(|group| group.source.clone()).collect();
    let (kept, gone): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(known)
        .into_iter()
        .filter(|source| !found.contains(source))
        .partition(|source| failed.contains_key(source));
    groups.extend(gone.into_iter().map(|source| Arc::new(TargetGroup { source, ..TargetGroup::default() })));
    *known = found;
    known.extend(kept);
    groups
}

/// How long a single request of a mechanism with this interval may take.
pub(super) fn timeout(interval: Duration) -> Duration {
    if interval.is_zero() { TIMEOUT_DEFAULT } else { interval }
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

#[cfg(test)]
mod tests;
