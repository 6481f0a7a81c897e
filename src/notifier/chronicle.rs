//! What the notifier tells the journal of stories: what relabelling made of alerts, and who got them.

use std::sync::Arc;

use model::Labels;

use super::Alert;
use super::queue::Entry;
use crate::story::{Code, Handed, Journal, Note};

/// Alerts on their way through relabelling; without a journal nothing is kept.
pub(super) struct Handover<'j> {
    journal: Option<&'j Journal>,
    alerts: Vec<(Labels, Option<Labels>)>,
}

impl<'j> Handover<'j> {
    pub(super) fn new(journal: Option<&'j Arc<Journal>>) -> Self {
        Self { journal: journal.map(AsRef::as_ref), alerts: Vec::new() }
    }

    /// The alert with the labels `from` goes on with others, or not at all.
    pub(super) fn note(&mut self, from: Labels, to: Option<&Alert>) {
        if self.journal.is_some() {
            self.alerts.push((from, to.map(|alert| alert.labels.clone())));
        }
    }

    /// Tells what became of them; `by` names the relabelling, `is_heard` says whether anybody is there.
    pub(super) fn tell(self, by: &str, is_heard: bool) {
        let Some(journal) = self.journal else { return };
        if self.alerts.is_empty() {
            return;
        }
        let by: Arc<str> = Arc::from(by);
        let handed = self.alerts.into_iter().map(|(from, to)| {
            let code = match &to {
                None => Code::RelabelledAway,
                Some(_) if is_heard => Code::Queued,
                Some(_) => Code::NoAlertmanager,
            };
            Handed { from, to, code, by: Arc::clone(&by) }
        });
        journal.note(Note::Handed { at: journal.now(), alerts: handed.collect() });
    }

    /// Tells of those that one section's relabelling dropped or changed for the Alertmanager at `url`.
    pub(super) fn tell_of(self, url: &str) {
        let Some(journal) = self.journal else { return };
        let (mut dropped, mut renamed) = (Vec::new(), Vec::new());
        for (from, to) in self.alerts {
            match to {
                None => dropped.push(from),
                Some(to) if to != from => {
                    renamed.push(Handed { from, to: Some(to), code: Code::Queued, by: Arc::from("") });
                }
                Some(_) => {}
            }
        }
        if !renamed.is_empty() {
            journal.note(Note::Handed { at: journal.now(), alerts: renamed });
        }
        posted(Some(journal), url, dropped, Code::RelabelledAway, "");
    }
}

/// Tells what became of alerts on their way to the Alertmanager at `url`.
pub(super) fn posted(journal: Option<&Journal>, url: &str, alerts: Vec<Labels>, code: Code, error: &str) {
    let Some(journal) = journal.filter(|_| !alerts.is_empty()) else { return };
    journal.note(Note::Posted {
        at: journal.now(),
        to: Arc::from(url),
        alerts,
        code,
        error: Arc::from(error),
    });
}

pub(super) fn labels_of(entries: &[Entry]) -> Vec<Labels> {
    entries.iter().map(|entry| entry.alert.labels.clone()).collect()
}
