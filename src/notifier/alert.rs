//! An alert on its way to an Alertmanager.

use std::collections::BTreeMap;

use model::{Labels, LabelsBuilder, Timestamp};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// Compat: prometheus `notifier`, `Alert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub starts_at: Timestamp,
    /// In the past for a resolved alert, else when the receiver may give it up.
    pub ends_at: Timestamp,
    pub generator_url: String,
}

impl Alert {
    /// The alert with the labels of `external` that it lacks.
    pub(super) fn with_external_labels(mut self, external: &Labels) -> Self {
        let mut builder = LabelsBuilder::from(&self.labels);
        for (name, value) in external {
            if builder.get(name).is_none() {
                builder.set(name, value);
            }
        }
        self.labels = builder.build();
        self
    }

    /// The alert as `rules` leave it, or `None` if they drop it.
    pub(super) fn relabelled(mut self, rules: &[config::relabel::Rule]) -> Option<Self> {
        if !rules.is_empty() {
            let mut builder = LabelsBuilder::from(&self.labels);
            if !config::relabel::apply(rules, &mut builder) {
                return None;
            }
            self.labels = builder.build();
        }
        Some(self)
    }
}

/// The shape of the Alertmanager's API v2.
impl Serialize for Alert {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Alert", 5)?;
        // Upstream's form of none at all.
        out.serialize_field("annotations", &Some(&self.annotations).filter(|all| !all.is_empty()))?;
        out.serialize_field("endsAt", &rfc3339(self.ends_at))?;
        out.serialize_field("startsAt", &rfc3339(self.starts_at))?;
        out.serialize_field("generatorURL", &self.generator_url)?;
        out.serialize_field("labels", &self.labels.to_map())?;
        out.end()
    }
}

/// `2026-01-02T03:04:05.678Z`.
pub fn rfc3339(t: Timestamp) -> String {
    // Years beyond 9999 do not exist in the format; the nearest that does stands in.
    jiff::Timestamp::from_millisecond(t).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use model::Labels;

    use super::Alert;

    /// An alert of that name.
    pub(in super::super) fn named(name: &str, ends_at: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", name)]),
            annotations: BTreeMap::new(),
            starts_at: 0,
            ends_at,
            generator_url: String::new(),
        }
    }

    fn alert() -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", "Down"), ("job", "x")]),
            annotations: BTreeMap::from([("summary".to_owned(), "it is".to_owned())]),
            starts_at: 1_767_323_045_678,
            ends_at: 1_767_323_285_000,
            generator_url: "http://h/graph".to_owned(),
        }
    }

    #[test]
    fn external_labels_fill_gaps_only() {
        let external = Labels::from_pairs([("job", "other"), ("region", "eu")]);
        let labels = alert().with_external_labels(&external).labels;
        assert_eq!(labels.to_string(), r#"{alertname="Down", job="x", region="eu"}"#);
    }

    #[test]
    fn json_is_that_of_api_v2() {
        assert_eq!(
            serde_json::to_string(&alert()).unwrap(),
            r#"{"annotations":{"summary":"it is"},"endsAt":"2026-01-02T03:08:05Z","startsAt":"2026-01-02T03:04:05.678Z","generatorURL":"http://h/graph","labels":{"alertname":"Down","job":"x"}}"#
        );
    }
}
