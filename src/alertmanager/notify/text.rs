//! What the templates of a receiver make of a message.
//!
//! Compat: alertmanager `notify`, `TmplText`, `TmplHTML`; `template`, `DeepCopyWithTemplate`.

use config::template::Mode;
use std::fmt::Write as _;

use super::{Failure, Message};

/// The most alerts that a message names whose template does not execute.
const ALERTS_IN_FALLBACK_MAX: usize = 20;

impl Message<'_> {
    pub(super) fn is_firing(&self) -> bool {
        self.data.alerts.iter().any(|alert| !alert.is_resolved)
    }

    /// The text of a template that must not fail: addresses, keys, identifiers.
    pub(super) fn text(&self, template: &str) -> Result<String, Failure> {
        Ok(self.templates.expand(template, &self.data, Mode::Text, self.now)?)
    }

    /// The text of a template that somebody reads. One that fails tells so, and of the alerts what it can: an
    /// alert is not lost because of a typo, as it is upstream.
    pub(super) fn told(&self, template: &str) -> String {
        self.told_in(Mode::Text, template)
    }

    /// The same with its values escaped for HTML.
    pub(super) fn told_html(&self, template: &str) -> String {
        self.told_in(Mode::Html, template)
    }

    fn told_in(&self, mode: Mode, template: &str) -> String {
        let failed = match self.templates.expand(template, &self.data, mode, self.now) {
            Ok(text) => return text,
            Err(error) => error.to_string(),
        };
        tracing::warn!(group = self.group_key, error = failed, "a notification template does not execute");
        let mut text = format!("<error expanding template: {failed}>");
        for alert in self.data.alerts.iter().take(ALERTS_IN_FALLBACK_MAX) {
            let labels: Vec<_> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let _ = write!(text, "\n[{}] {}", alert.status().to_uppercase(), labels.join(", "));
        }
        match self.data.alerts.len().saturating_sub(ALERTS_IN_FALLBACK_MAX) {
            0 => {}
            more => {
                let _ = write!(text, "\nand {more} more");
            }
        }
        if mode == Mode::Html {
            text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        }
        text
    }

    /// A value whose strings, names included, are templates. What one makes that is YAML of another kind becomes
    /// that: a number, a list. Compat: `template.DeepCopyWithTemplate`.
    pub(super) fn deep(&self, value: &serde_json::Value) -> Result<serde_json::Value, Failure> {
        use serde_json::Value;
        Ok(match value {
            Value::String(template) => {
                let text = self.text(template)?;
                config::yaml_value(&text).filter(|value| !value.is_string()).unwrap_or(Value::String(text))
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.deep(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| Ok((self.text(name)?, self.deep(value)?)));
                Value::Object(fields.collect::<Result<_, Failure>>()?)
            }
            other => other.clone(),
        })
    }
}
