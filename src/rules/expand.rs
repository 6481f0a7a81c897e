//! The texts of an alerting rule: its labels and annotations, filled in for one element of its result.
//!
//! What an element gave at the last evaluation is kept: as long as its value is the same, the texts are, unless one
//! of them asks the store or the clock. Texts without a template never see the engine.
//!
//! Compat: prometheus `rules/alerting.go`, `AlertingRule.Eval`, and `template`, `Expander.Expand`.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::rules::{Rule, RuleKind};
use config::template::alert as template;
use foldhash::{HashMap, HashMapExt};
use model::{Labels, Timestamp};
use promql::{Origin, SampleValue};

use super::alerting::{Found, alert_labels};
use super::{Context, Element};

/// The texts of one rule.
#[derive(Debug)]
pub(super) struct Texts {
    /// The rule's.
    name: String,
    /// What errors call the template.
    template_name: String,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    /// Equal elements give equal texts.
    is_pure: bool,
    /// The value shows in no text.
    ignores_value: bool,
}

/// What the elements of the last evaluation gave.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: HashMap<Labels, Known>,
    /// The external labels that it holds for.
    external: Option<Arc<Labels>>,
}

#[derive(Debug)]
struct Known {
    value_bits: u64,
    n_failures: u64,
    labels: Labels,
    annotations: Arc<BTreeMap<String, String>>,
}

fn is_template(text: &str) -> bool {
    text.contains("{{")
}

impl Texts {
    /// `None` for a recording rule.
    pub(super) fn of(rule: &Rule) -> Option<Self> {
        let RuleKind::Alerting { name, annotations, .. } = &rule.kind else { return None };
        let pairs = |map: &BTreeMap<String, String>| -> Vec<(String, String)> {
            map.iter().map(|(key, text)| (key.clone(), text.clone())).collect()
        };
        let texts: Vec<_> = rule.labels.values().chain(annotations.values()).collect();
        // A text that merely speaks of a query is expanded more often than it must be, no more.
        let is_impure =
            |text: &&String| is_template(text) && (text.contains("query") || text.contains("now"));
        Some(Self {
            name: name.clone(),
            template_name: format!("__alert_{name}"),
            labels: pairs(&rule.labels),
            annotations: pairs(annotations),
            is_pure: !texts.iter().any(is_impure),
            ignores_value: !texts.iter().any(|text| is_template(text)),
        })
    }

    /// Fills the texts in for every element of a result.
    pub(super) fn expand(
        &self,
        ctx: &Context,
        origin: &Origin,
        memory: &mut Memory,
        result: Vec<Element>,
        ts: Timestamp,
    ) -> Vec<Found> {
        let external = ctx.external_labels.load_full();
        let mut known = std::mem::take(&mut memory.known);
        if !self.is_pure || memory.external.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &external)) {
            known.clear();
        }
        if self.is_pure {
            memory.known = HashMap::with_capacity(result.len());
        }
        let one = One { ctx, origin, external: &external, ts };
        let found = result.into_iter().map(|(element, sample)| {
            let value = if let SampleValue::Float(v) = sample { v } else { 0.0 };
            let is_float = matches!(sample, SampleValue::Float(_));
            let same = |known: &Known| self.ignores_value || is_float && known.value_bits == value.to_bits();
            let texts = known
                .remove(&element)
                .filter(same)
                .unwrap_or_else(|| self.expand_one(&one, &element, &sample, value));
            ctx.metrics.expansion_failures.add(texts.n_failures);
            let n_texts = self.labels.len() + self.annotations.len();
            ctx.metrics.expansions.add(n_texts as u64);
            let found =
                Found { labels: texts.labels.clone(), annotations: Arc::clone(&texts.annotations), value };
            if self.is_pure && (is_float || self.ignores_value) {
                memory.known.insert(element, texts);
            }
            found
        });
        let found = found.collect();
        memory.external = Some(external);
        found
    }

    fn expand_one(&self, one: &One<'_>, element: &Labels, sample: &SampleValue, value: f64) -> Known {
        let data = template::AlertData {
            labels: element,
            external_labels: one.external,
            external_url: &one.ctx.external_url,
            value: shown(sample),
            t: one.ts,
        };
        let query = |text: &str| {
            let found = one.ctx.query_text(text, one.ts, one.origin)?;
            Ok(found.into_iter().map(|(labels, sample)| (labels, shown(&sample))).collect())
        };
        let mut n_failures = 0;
        let mut expand = |text: &str| {
            if !is_template(text) {
                return text.to_owned();
            }
            template::expand(&self.template_name, text, &data, &query).unwrap_or_else(|e| {
                n_failures += 1;
                tracing::warn!(alert = self.name, labels = %element, error = %e, "expanding an alert's template failed");
                format!("<error expanding template: {e}>")
            })
        };
        let labels: Vec<_> = self.labels.iter().map(|(label, text)| (label.as_str(), expand(text))).collect();
        let annotations = self.annotations.iter().map(|(key, text)| (key.clone(), expand(text))).collect();
        Known {
            value_bits: value.to_bits(),
            n_failures,
            labels: alert_labels(element, &labels, &self.name),
            annotations: Arc::new(annotations),
        }
    }
}

/// What all elements of an evaluation have in common.
struct One<'a> {
    ctx: &'a Context,
    origin: &'a Origin,
    external: &'a Labels,
    ts: Timestamp,
}

/// The sample as templates take it.
fn shown(sample: &SampleValue) -> template::SampleValue {
    match sample {
        SampleValue::Float(v) => template::SampleValue::Float(*v),
        SampleValue::Histogram(h) => template::SampleValue::Histogram(Arc::clone(h)),
    }
}
