//! Inhibition: alerts that are not told because another one fires.
//!
//! Every rule keeps the set of its firing sources by their values of the `equal` labels, so that one
//! source's end does not hide another.
//!
//! Compat: alertmanager `inhibit` (0.34), without the faults of its one-source index.

use std::collections::{BTreeMap, HashMap};

use config::alertmanager::InhibitRule;
use jiff::Timestamp;

use super::alert::{Alert, Fingerprint, LabelSet, matches};

#[derive(Debug, Default)]
pub struct Inhibitor {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    rule: InhibitRule,
    sources: HashMap<Vec<String>, BTreeMap<Fingerprint, Source>>,
}

#[derive(Debug)]
struct Source {
    ends_at: Timestamp,
    /// It also matches the target side, so it cannot inhibit others that match both.
    is_target: bool,
}

impl Inhibitor {
    pub fn new(rules: &[InhibitRule]) -> Self {
        let rules = rules.iter().map(|rule| Rule { rule: rule.clone(), sources: HashMap::new() });
        Self { rules: rules.collect() }
    }

    /// Notes `alert` as a source wherever it is one.
    pub fn put(&mut self, alert: &Alert) {
        for Rule { rule, sources } in &mut self.rules {
            if matches(&rule.source_matchers, &alert.labels) {
                let is_target = matches(&rule.target_matchers, &alert.labels);
                let source = Source { ends_at: alert.ends_at, is_target };
                sources.entry(equal(rule, &alert.labels)).or_default().insert(alert.fingerprint, source);
            }
        }
    }

    /// The alert that mutes one with `labels`, if any.
    pub fn find(&self, labels: &LabelSet, now: Timestamp) -> Option<Fingerprint> {
        self.rules.iter().find_map(|Rule { rule, sources }| {
            if !matches(&rule.target_matchers, labels) {
                return None;
            }
            let is_source = matches(&rule.source_matchers, labels);
            let candidates = sources.get(&equal(rule, labels))?;
            let works = |source: &Source| source.ends_at > now && !(is_source && source.is_target);
            candidates.iter().find(|(_, source)| works(source)).map(|(fingerprint, _)| *fingerprint)
        })
    }

    pub fn collect_garbage(&mut self, now: Timestamp) {
        for rule in &mut self.rules {
            rule.sources.retain(|_, sources| {
                sources.retain(|_, source| source.ends_at > now);
                !sources.is_empty()
            });
        }
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// A missing label equals an empty one.
fn equal(rule: &InhibitRule, labels: &LabelSet) -> Vec<String> {
    rule.equal.iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect()
}
