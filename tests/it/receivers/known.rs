//! Where we differ from upstream on purpose, or from one of its versions.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::process::Server;

/// What is forgiven to a version of upstream, and to us.
pub(super) struct Known {
    /// 0.33: there are no labels of routes, reasons are counted otherwise, and what `toJson` has written is read as
    /// templates once more, so that an empty text becomes null (prometheus/alertmanager#5302).
    is_old: bool,
}

impl Known {
    pub(super) fn of(upstream: &Server) -> Self {
        let status = upstream.json("/api/v2/status");
        Self { is_old: status["versionInfo"]["version"].as_str().unwrap().starts_with("0.33.") }
    }

    /// A request without what is forgiven.
    pub(super) fn request(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if may_be_sorted(&text) {
            let at = text.find('{').unwrap();
            if let Ok(body) = serde_json::from_str(&text[at..]) {
                text = format!("{}{}", &text[..at], meant(body));
            }
        }
        if self.is_old {
            text = text
                .replace("\"routeLabels\":{},", "")
                .replace("\"generatorURL\":null", "\"generatorURL\":\"\"");
        }
        text
    }

    /// Series with their values. Before 0.34 few integrations tell why they failed.
    pub(super) fn counts(&self, counts: &[(String, u64)]) -> Vec<String> {
        let mut sums = BTreeMap::<&str, u64>::new();
        for (series, value) in counts {
            let series = if self.is_old { series.split(",reason=").next().unwrap() } else { series };
            *sums.entry(series).or_default() += value;
        }
        sums.into_iter().map(|(series, value)| format!("{series} {value}")).collect()
    }
}

/// Documents of Jira's version 3 are written by templates as JSON. Upstream passes them on as they are, we as what they
/// mean, names sorted. So may be the names of what `toJson` writes, which shows where it stays a text.
fn may_be_sorted(text: &str) -> bool {
    ["/jira/v3/rest/api/3/issue", "/webhook/payload", "pagerduty"].iter().any(|path| text.contains(path))
}

/// Texts that are lists in JSON are those lists.
fn meant(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("[{") => {
            serde_json::from_str(&text).map_or(Value::String(text), meant)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(meant).collect()),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, meant(value))).collect(),
        other => other,
    }
}
