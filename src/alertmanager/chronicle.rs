//! What the Alertmanager tells the journal of stories: what came, into which group, what each stage made of it, and
//! what became of every message.
//!
//! Nothing is computed without a journal, and of what was held back only who held it is looked up again.

use std::sync::Arc;

use config::alertmanager::Integration;
use jiff::Timestamp;
use model::Labels;

use super::State;
use super::alert::{Alert, LabelSet, display};
use super::clock::after;
use super::dispatch::{Dispatcher, Flush, Flushed, Group, GroupId};
use super::nflog::{Entry, Key, Reason};
use super::notify::email::outbox::Lost;
use super::notify::{self, Failure};
use super::stage::{Outcome, Suppression};
use crate::story::{self, Code, Id, Journal, Note, Telling, Text, Verdict};

/// What a rule's template that failed leaves in a text.
const TEMPLATE_ERROR: &str = "<error expanding template:";

fn ms(t: Timestamp) -> model::Timestamp {
    t.as_millisecond()
}

fn labels_of(labels: &LabelSet) -> Labels {
    Labels::from_pairs(labels)
}

/// Where an alert that is about to be put into its groups stands.
pub(super) struct Arrival(Vec<(GroupId, bool, bool)>);

impl Arrival {
    /// Before it is put there.
    pub(super) fn of(journal: Option<&Journal>, dispatcher: &Dispatcher, alert: &Alert) -> Self {
        let Some(_) = journal else { return Self(Vec::new()) };
        let places = dispatcher.places(alert).into_iter().map(|id| {
            let group = dispatcher.group(&id);
            let is_member = group.is_some_and(|group| group.alerts.contains_key(&alert.fingerprint));
            (id, group.is_some(), is_member)
        });
        Self(places.collect())
    }

    /// After it was.
    pub(super) fn tell(
        self,
        journal: Option<&Journal>,
        dispatcher: &Dispatcher,
        alert: &Alert,
        now: Timestamp,
    ) {
        let Some(journal) = journal else { return };
        journal.note(Note::Received {
            at: ms(now),
            labels: labels_of(&alert.labels),
            starts_at: ms(alert.starts_at),
            ends_at: ms(alert.ends_at),
            is_timeout: alert.is_timeout,
        });
        for (id, existed, was_member) in self.0 {
            let Some(group) = dispatcher.group(&id).filter(|_| !was_member) else { continue };
            journal.note(Note::Grouped {
                at: ms(now),
                alert: Id(alert.fingerprint.0),
                group: group.key.as_str().into(),
                receiver: dispatcher.routes().node(group.route).receiver.name.as_str().into(),
                due: ms(group.due()),
                code: if existed { Code::GroupInterval } else { Code::GroupWait },
            });
        }
    }
}

/// Tells what the stages made of a flush.
pub(super) fn flushed(
    journal: Option<&Journal>,
    flush: &Flush,
    outcome: &Outcome,
    state: &State,
    now: Timestamp,
) {
    let Some(journal) = journal else { return };
    let told = |flushed: &Flushed, verdict: Verdict| story::Flushed {
        alert: Id(flushed.alert.fingerprint.0),
        is_resolved: flushed.is_resolved,
        verdict,
    };
    let mut alerts: Vec<_> =
        outcome.kept.iter().map(|flushed| told(flushed, Verdict::new(Code::Passed))).collect();
    for (why, held) in &outcome.suppressed {
        for flushed in held {
            alerts.push(told(flushed, verdict(*why, &flushed.alert, flush, outcome, state, now)));
        }
    }
    journal.note(Note::Flushed {
        at: ms(now),
        group: flush.key.as_str().into(),
        receiver: flush.receiver.name.as_str().into(),
        next: ms(flush.next_due),
        alerts,
    });
    if flush.receiver.integrations.is_empty() && !outcome.kept.is_empty() {
        let telling = Telling::new(Code::NullReceiver);
        tell(journal, flush, "none", &outcome.kept, telling, now);
    }
}

fn verdict(
    why: Suppression,
    alert: &Alert,
    flush: &Flush,
    outcome: &Outcome,
    state: &State,
    now: Timestamp,
) -> Verdict {
    match why {
        Suppression::Inhibition => {
            let source = state.inhibitor.find(&alert.labels, now);
            let known = source.and_then(|fingerprint| state.store.get(fingerprint));
            let by = known.map_or_else(
                || source.map_or_else(String::new, |fingerprint| fingerprint.to_string()),
                |source| display(&source.labels),
            );
            Verdict { by: by.into(), ..Verdict::new(Code::Inhibited) }
        }
        Suppression::Silence => {
            let verdict = Verdict::new(Code::Silenced);
            let Some(silence) = state.silences.iter().find(|silence| silence.mutes(&alert.labels, now))
            else {
                return verdict;
            };
            Verdict {
                by: silence.id.as_str().into(),
                author: silence.created_by.as_str().into(),
                comment: silence.comment.as_str().into(),
                until: ms(silence.ends_at),
                ..verdict
            }
        }
        Suppression::MuteTimeInterval => {
            let by = outcome.muted_by.as_deref().unwrap_or_default().join(", ");
            Verdict { by: by.into(), ..Verdict::new(Code::MuteInterval) }
        }
        Suppression::ActiveTimeInterval => {
            let by = flush.node().active_time_intervals().join(", ");
            Verdict { by: by.into(), ..Verdict::new(Code::ActiveInterval) }
        }
    }
}

/// One message to one integration, as it is told of.
pub(super) struct Telegram<'f> {
    journal: Option<&'f Journal>,
    flush: &'f Flush,
    integration: &'f Integration,
}

impl<'f> Telegram<'f> {
    pub(super) fn new(journal: Option<&'f Journal>, flush: &'f Flush, integration: &'f Integration) -> Self {
        Self { journal, flush, integration }
    }

    fn tell(&self, alerts: &[Flushed], telling: Telling, now: Timestamp) {
        if let Some(journal) = self.journal {
            let name = format!("{}[{}]", self.integration.notifier.name(), self.integration.index);
            tell(journal, self.flush, &name, alerts, telling, now);
        }
    }

    /// There is nothing to say that the integration does not know.
    pub(super) fn not_due(&self, alerts: &[Flushed], entry: Option<&Entry>, now: Timestamp) {
        let (ended, firing): (Vec<_>, Vec<_>) =
            alerts.iter().cloned().partition(|flushed| flushed.is_resolved);
        if !firing.is_empty() {
            let next = entry.map_or(0, |entry| ms(after(entry.at, self.flush.repeat_interval)));
            self.tell(&firing, Telling { next, ..Telling::new(Code::AlreadyTold) }, now);
        }
        if !ended.is_empty() {
            let code = match entry {
                None => Code::ResolvedUntold,
                Some(_) if !self.integration.send_resolved => Code::SendResolvedFalse,
                Some(_) => Code::AlreadyTold,
            };
            self.tell(&ended, Telling::new(code), now);
        }
    }

    /// Ends that the receiver does not want to hear of count as told.
    pub(super) fn unwanted(&self, alerts: &[Flushed], now: Timestamp) {
        let ends: Vec<_> = alerts.iter().filter(|flushed| flushed.is_resolved).cloned().collect();
        if !self.integration.send_resolved && !ends.is_empty() {
            self.tell(&ends, Telling::new(Code::SendResolvedFalse), now);
        }
    }

    /// An attempt failed and there will be another.
    pub(super) fn failed_once(&self, alerts: &[Flushed], attempts: u64, failure: &Failure, now: Timestamp) {
        let error = failure.message.as_str().into();
        self.tell(alerts, Telling { attempts, error, ..Telling::new(Code::Retrying) }, now);
    }

    /// What became of the message in the end.
    pub(super) fn done(&self, alerts: &[Flushed], reason: Reason, outcome: &notify::Outcome, now: Timestamp) {
        let mut telling = Telling {
            reason: reason.as_str().into(),
            attempts: outcome.requests,
            ..Telling::new(Code::Delivered)
        };
        match &outcome.result {
            // Safe in the outbox, which goes on trying.
            Ok(sent) if outcome.failed_requests >= outcome.requests => {
                telling.message = sent.id.as_deref().unwrap_or_default().into();
                telling.error = "the mail is in the outbox, no server has accepted it yet".into();
                telling.code = Code::Retrying;
            }
            Ok(sent) => {
                telling.message = sent.id.as_deref().unwrap_or_default().into();
                if let Some(error) = alerts.iter().find_map(|flushed| template_error(&flushed.alert)) {
                    (telling.code, telling.error) = (Code::TemplateError, error);
                }
            }
            Err(failure) => {
                telling.error = failure.message.as_str().into();
                telling.next = ms(self.flush.next_due);
                telling.code = failure_code(failure);
            }
        }
        self.tell(alerts, telling, now);
    }
}

/// A mail that counted as sent was refused in the end: who is in its group now will be told anew.
pub(super) fn lost(
    journal: Option<&Journal>,
    dispatcher: &Dispatcher,
    key: &Key,
    lost: &Lost,
    now: Timestamp,
) {
    let Some(journal) = journal else { return };
    let is_it = |group: &&Group| {
        group.key == key.group && dispatcher.routes().node(group.route).receiver.name == key.receiver
    };
    for group in dispatcher.groups().filter(is_it) {
        let telling = Telling {
            error: lost.message.as_str().into(),
            message: lost.id.as_str().into(),
            next: ms(group.due()),
            ..Telling::new(Code::ReceiverRefused)
        };
        journal.note(Note::Told {
            at: ms(now),
            group: key.group.as_str().into(),
            receiver: key.receiver.as_str().into(),
            integration: format!("{}[{}]", key.integration, key.index).into(),
            alerts: group.alerts.keys().map(|fingerprint| Id(fingerprint.0)).collect(),
            telling,
        });
    }
}

fn failure_code(failure: &Failure) -> Code {
    let is_late =
        failure.reason == "contextDeadlineExceeded" || failure.message.contains("notify deadline of");
    if failure.message.contains("template") {
        Code::TemplateError
    } else if failure.retry || is_late {
        Code::ReceiverFailed
    } else {
        Code::ReceiverRefused
    }
}

/// What a template of the rule left instead of its text.
fn template_error(alert: &Alert) -> Option<Text> {
    let mut texts = alert.labels.values().chain(alert.annotations.values());
    texts.find(|text| text.contains(TEMPLATE_ERROR)).map(|text| text.as_str().into())
}

fn tell(journal: &Journal, flush: &Flush, name: &str, alerts: &[Flushed], telling: Telling, now: Timestamp) {
    let alerts: Arc<[Id]> = alerts.iter().map(|flushed| Id(flushed.alert.fingerprint.0)).collect();
    journal.note(Note::Told {
        at: ms(now),
        group: flush.key.as_str().into(),
        receiver: flush.receiver.name.as_str().into(),
        integration: name.into(),
        alerts,
        telling,
    });
}
