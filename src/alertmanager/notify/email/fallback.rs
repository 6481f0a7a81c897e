//! The mail of last resort: the bare alerts, when a template or the layout has failed.
//!
//! It needs nothing but the message, is bounded, and says why it looks like this.

use std::fmt::Write;

use config::template::notification::Data;

use super::content::Content;
use crate::alertmanager::notify::Message;

const ALERTS_MAX: usize = 50;
const VALUE_CHARS_MAX: usize = 500;
const BYTES_MAX: usize = 64 << 10;

/// A text part that lists the alerts.
pub(super) fn content(error: &str, message: &Message<'_>) -> Content {
    let data = &message.data;
    let mut out = format!(
        "{}\n\nThe template of this message failed: {}\n\nThe alerts as they are:\n\n",
        subject(message),
        cut(error)
    );
    let mut told = 0;
    let (resolved, firing): (Vec<_>, Vec<_>) = data.alerts.iter().partition(|alert| alert.is_resolved);
    for alert in firing.into_iter().chain(resolved) {
        if told == ALERTS_MAX || out.len() > BYTES_MAX {
            break;
        }
        told += 1;
        // Writing to a string cannot fail.
        let _ = write!(out, "{} since {}", alert.status(), alert.starts_at);
        for (name, value) in alert.labels.iter().chain(&alert.annotations) {
            if out.len() > BYTES_MAX {
                break;
            }
            let _ = write!(out, "\n  {} = {}", cut(name), cut(value));
        }
        if !alert.generator_url.is_empty() {
            let _ = write!(out, "\n  {}", cut(&alert.generator_url));
        }
        out.push_str("\n\n");
    }
    if told < data.alerts.len() {
        let _ = write!(out, "and {} more\n\n", data.alerts.len() - told);
    }
    if !data.external_url.is_empty() {
        let _ = writeln!(out, "All alerts: {}/#/alerts", data.external_url);
    }
    Content { text: Some(out), note: vec![error.to_owned()], ..Content::default() }
}

fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if out.len() < text.len() {
        let _ = write!(out, "… ({} bytes)", text.len());
    }
    out
}

/// A subject without templates: `[FIRING:2] Down a`.
pub(super) fn subject(message: &Message<'_>) -> String {
    let data = &message.data;
    let firing = data.alerts.iter().filter(|alert| !alert.is_resolved).count();
    let status = if firing > 0 { format!("[FIRING:{firing}]") } else { "[RESOLVED]".to_owned() };
    let alertname = data.group_labels.get("alertname").into_iter();
    let others = data.group_labels.iter().filter(|(name, _)| *name != "alertname").map(|(_, value)| value);
    alertname.chain(others).fold(status, |out, value| format!("{out} {}", cut(value)))
}

/// The highest severity among what fires, else among all.
pub(super) fn severity(data: &Data) -> Option<String> {
    let rank = |severity: &str| match severity.to_ascii_lowercase().as_str() {
        "critical" | "page" | "disaster" | "emergency" => 4,
        "error" | "high" | "major" => 3,
        "warning" | "warn" | "medium" | "minor" => 2,
        "info" | "low" | "none" => 1,
        _ => 0,
    };
    let firing = data.alerts.iter().filter(|alert| !alert.is_resolved);
    let of = |alert: &config::template::notification::Alert| alert.labels.get("severity").cloned();
    let highest = firing.filter_map(of).max_by_key(|severity| rank(severity));
    highest.or_else(|| data.alerts.iter().filter_map(of).max_by_key(|severity| rank(severity)))
}
