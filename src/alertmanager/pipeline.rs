//! The way of a group that is due: through the stages, to the integrations, into the notification log.
//!
//! What resolves while it is held back is not lost: it stays in its group until it may be told, as long as the
//! last that somebody heard of it is that it fires. Upstream forgets it.
//!
//! Compat: alertmanager `notify`, `PipelineBuilder`, `FanoutStage`, `DedupStage`, `SetNotifiesStage`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::alertmanager::Integration;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::alert::{Fingerprint, LabelSet};
use super::chronicle::Telegram;
use super::clock::before;
use super::dispatch::{Flush, Flushed};
use super::nflog::{Entry, Key, Log, Reason, decide, hash};
use super::notify::templates::Templates;
use super::notify::{self, Extras, Failure, Message, Origin};
use super::{Alertmanager, State, chronicle, stage};
use crate::telemetry;

/// What of a group goes on, and what waits.
struct Passed {
    kept: Vec<Flushed>,
    /// Resolved alerts that are held back but were told as firing.
    pending: Vec<Arc<super::Alert>>,
}

impl Alertmanager {
    /// One flush of one group, through all stages.
    pub(super) async fn flush(self: &Arc<Self>, flush: Flush) {
        let Passed { kept, pending } = self.suppress(&flush);
        let succeeded = kept.is_empty() || self.fan_out(&flush, &kept, &pending).await;
        let pending: HashSet<Fingerprint> = pending.iter().map(|alert| alert.fingerprint).collect();
        self.state.lock().dispatcher.finish(&flush, succeeded, &pending);
        self.note_changes();
    }

    fn suppress(&self, flush: &Flush) -> Passed {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let outcome = stage::suppress(
            flush.alerts.clone(),
            flush.node(),
            &state.config.time_intervals,
            (&state.inhibitor, &state.silences),
            (flush.at, now),
        );
        chronicle::flushed(self.options.story.as_deref(), flush, &outcome, state, now);
        if let Some(names) = outcome.muted_by {
            state.dispatcher.set_muted_by(&flush.id, names);
        }
        for (why, held) in &outcome.suppressed {
            self.metrics.note_suppressed(*why, held.len());
        }
        let held: Vec<_> = outcome.suppressed.into_iter().flat_map(|(_, held)| held).collect();
        state.keep_told(flush, &held, self.options.retention, now);
        let pending = held
            .into_iter()
            .filter(|flushed| flushed.is_resolved && state.was_told(flush, &flushed.alert.labels))
            .map(|flushed| flushed.alert)
            .collect();
        Passed { kept: outcome.kept, pending }
    }

    /// Tells all integrations of the receiver; whether all of them now know.
    async fn fan_out(
        self: &Arc<Self>,
        flush: &Flush,
        kept: &[Flushed],
        pending: &[Arc<super::Alert>],
    ) -> bool {
        let pending: BTreeSet<u64> = pending.iter().map(|alert| hash(&alert.labels)).collect();
        let templates = Arc::clone(&self.state.lock().templates);
        let route_labels = self.route_labels(flush, kept, &templates);
        let batch =
            Batch { flush, kept, pending: &pending, templates: &templates, route_labels: &route_labels };
        let sends = flush.receiver.integrations.iter().map(|integration| self.notify(&batch, integration));
        join_all(sends).await.into_iter().all(|ok| ok)
    }

    /// Tells one integration, if it has not been told before; whether it now knows.
    async fn notify(self: &Arc<Self>, batch: &Batch<'_>, integration: &Integration) -> bool {
        let flush = batch.flush;
        let kind = integration.notifier.name();
        let key = key_of(flush, integration);
        let (mut firing, resolved) = stage::split(batch.kept);
        let telegram = Telegram::new(self.options.story.as_deref(), flush, integration);
        let (reason, memory) = {
            let began = Instant::now();
            let state = self.state.lock();
            // What waits for the end of a silence is not news that everything is well.
            let entry = state.log.get(&key).cloned().map(|entry| Entry {
                firing: entry.firing.difference(batch.pending).copied().collect(),
                ..entry
            });
            self.metrics.log_queries.observe(began.elapsed());
            let send_resolved = integration.send_resolved;
            let reason =
                decide(entry.as_ref(), &firing, &resolved, send_resolved, flush.repeat_interval, flush.at);
            let Some(reason) = reason else {
                telegram.not_due(batch.kept, entry.as_ref(), self.clock.now());
                return true;
            };
            // A new life of the group begins without memories.
            let entry = entry.filter(|_| reason != Reason::First);
            // What is not told now remains to be told.
            if let Some(known) = state.log.get(&key) {
                firing.extend(known.firing.intersection(batch.pending));
            }
            (reason, entry.map(|entry| entry.memory).unwrap_or_default())
        };
        let mut alerts = batch.kept.to_vec();
        if !integration.send_resolved {
            alerts.retain(|flushed| !flushed.is_resolved);
        }
        telegram.unwanted(batch.kept, self.clock.now());
        let mut left = memory.clone();
        // Where only ends are to be told and the receiver does not care, it counts as told.
        if !alerts.is_empty() {
            let node = flush.node();
            let is_firing = alerts.iter().any(|flushed| !flushed.is_resolved);
            let origin = Origin {
                receiver: &flush.receiver,
                integration: kind,
                index: integration.index,
                group_key: &flush.key,
                group_labels: &flush.labels,
                route_labels: batch.route_labels,
                route_key: &node.key,
                route_path: &node.path,
                repeat_at: is_firing.then(|| flush.repeat_at()),
            };
            let surroundings = (batch.templates, self.options.external_url.as_str(), self.clock.now());
            let mut message = Message::new(origin, &alerts, reason, surroundings, memory);
            message.extras = Extras {
                insight: self.insight.get().cloned(),
                signer: Some(Arc::clone(&self.signer)),
                version: telemetry::VERSION.to_owned(),
            };
            let failed =
                |n: u64, failure: &Failure| telegram.failed_once(&alerts, n, failure, self.clock.now());
            let outcome =
                notify::deliver_through(&self.outbox, integration, &message, flush.timeout, &failed).await;
            telegram.done(&alerts, reason, &outcome, self.clock.now());
            self.metrics.note_outcome(kind, &outcome);
            let receiver = &flush.receiver.name;
            match outcome.result {
                Ok(sent) => {
                    tracing::debug!(receiver, integration = kind, group = flush.key, "notified");
                    left = sent.memory;
                }
                Err(failure) => {
                    tracing::error!(
                        receiver,
                        integration = kind,
                        group = flush.key,
                        attempts = outcome.requests,
                        error = %failure,
                        "notify failed"
                    );
                    return false;
                }
            }
        }
        let at = self.clock.now();
        let expires_at = Log::expiry(at, flush.repeat_interval, self.options.retention);
        let entry = Entry { at, expires_at, firing, resolved, memory: left };
        self.state.lock().log_entry(key, entry);
        // Nobody shall be told twice because the process ends now.
        self.off_thread(Self::save).await;
        true
    }

    /// The labels of the route, rendered for what is told now.
    fn route_labels(&self, flush: &Flush, alerts: &[Flushed], templates: &Templates) -> LabelSet {
        let labels = flush.node().labels();
        if labels.is_empty() {
            return LabelSet::new();
        }
        let external_url = &self.options.external_url;
        let data = notify::data(&flush.receiver.name, &flush.labels, alerts, "unknown", external_url);
        super::route::render_labels(labels, data, templates, self.clock.now())
    }
}

/// What is told of a group to every integration.
struct Batch<'f> {
    flush: &'f Flush,
    kept: &'f [Flushed],
    /// Hashes of resolved alerts that are held back.
    pending: &'f BTreeSet<u64>,
    templates: &'f Templates,
    route_labels: &'f LabelSet,
}

fn key_of(flush: &Flush, integration: &Integration) -> Key {
    Key {
        group: flush.key.clone(),
        receiver: flush.receiver.name.clone(),
        integration: integration.notifier.name().to_owned(),
        index: u32::try_from(integration.index).unwrap_or(u32::MAX),
    }
}

impl State {
    /// What was told of alerts that are held back is remembered until their end may be told.
    fn keep_told(&mut self, flush: &Flush, held: &[Flushed], retention: Duration, now: Timestamp) {
        if held.is_empty() {
            return;
        }
        let held: BTreeSet<u64> = held.iter().map(|flushed| hash(&flushed.alert.labels)).collect();
        let life = flush.repeat_interval.max(flush.node().group_interval);
        let expires_at = Log::expiry(now, life, retention);
        // Not at every flush: each is a record of the journal.
        let renew_before = before(expires_at, life / 2);
        for integration in &flush.receiver.integrations {
            let key = key_of(flush, integration);
            let Some(entry) = self.log.get(&key) else { continue };
            if entry.expires_at < renew_before && !entry.firing.is_disjoint(&held) {
                let entry = Entry { expires_at, ..entry.clone() };
                self.log_entry(key, entry);
            }
        }
    }

    /// Whether the last that any integration heard of the alert is that it fires.
    fn was_told(&self, flush: &Flush, labels: &LabelSet) -> bool {
        let hash = hash(labels);
        flush.receiver.integrations.iter().any(|integration| {
            let entry = self.log.get(&key_of(flush, integration));
            entry.is_some_and(|entry| entry.firing.contains(&hash))
        })
    }
}
