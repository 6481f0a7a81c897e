//! Alerts as the Alertmanager keeps them, and the rules by which a posted one becomes or changes a kept one.
//!
//! Compat: alertmanager `alert`, `types` (0.34); fingerprints are prometheus/common `LabelSet.Fingerprint`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use model::Matcher;
use serde::Deserialize;

use super::clock::{self, after};

pub type LabelSet = BTreeMap<String, String>;

/// An alert as it is posted to API v2.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostedAlert {
    pub labels: LabelSet,
    #[serde(default)]
    pub annotations: LabelSet,
    /// Missing, or Go's zero time, when the sender leaves it to us.
    #[serde(default, deserialize_with = "clock::optional")]
    pub starts_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "clock::optional")]
    pub ends_at: Option<Timestamp>,
    #[serde(default, rename = "generatorURL")]
    pub generator_url: String,
}

/// The identity of a label set, 16 hex digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// FNV-1a over names and values in order of name, each ended by 0xff.
    pub fn of(labels: &LabelSet) -> Self {
        const END: &[u8] = &[0xff];
        let parts = labels.iter().flat_map(|(name, value)| [name.as_bytes(), END, value.as_bytes(), END]);
        Self(model::fnv1a(parts))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An alert in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub fingerprint: Fingerprint,
    pub labels: LabelSet,
    pub annotations: LabelSet,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    pub generator_url: String,
    /// The end was not given but is the resolve timeout's.
    pub is_timeout: bool,
}

/// Why a posted alert was refused; the text is the API's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("start time must be before end time")]
    EndsBeforeStart,
    #[error("at least one label pair required")]
    NoLabels,
    #[error("invalid label set: invalid name {0}")]
    LabelName(String),
    #[error("invalid annotations: invalid name {0}")]
    AnnotationName(String),
    #[error("labels and annotations of {size} bytes are more than {max}")]
    TooLarge { size: usize, max: usize },
    #[error("too many alerts, at most {0} are kept")]
    TooMany(usize),
}

/// Labels and annotations of one alert, in bytes.
const ALERT_BYTES_MAX: usize = 1 << 20;

impl Alert {
    /// Completes and checks a posted alert.
    ///
    /// # Errors
    /// It has no labels, an empty name, or ends before it starts.
    pub fn accept(posted: PostedAlert, now: Timestamp, resolve_timeout: Duration) -> Result<Self, Invalid> {
        let mut labels = posted.labels;
        labels.retain(|_, value| !value.is_empty());
        let starts_at = posted.starts_at.or(posted.ends_at).unwrap_or(now);
        let ends_at = posted.ends_at.unwrap_or_else(|| after(now, resolve_timeout));
        if ends_at < starts_at {
            return Err(Invalid::EndsBeforeStart);
        }
        if labels.is_empty() {
            return Err(Invalid::NoLabels);
        }
        if labels.contains_key("") {
            return Err(Invalid::LabelName("\"\"".to_owned()));
        }
        if posted.annotations.contains_key("") {
            return Err(Invalid::AnnotationName("\"\"".to_owned()));
        }
        let size = labels.iter().chain(&posted.annotations).map(|(k, v)| k.len() + v.len()).sum();
        if size > ALERT_BYTES_MAX {
            return Err(Invalid::TooLarge { size, max: ALERT_BYTES_MAX });
        }
        Ok(Self {
            fingerprint: Fingerprint::of(&labels),
            labels,
            annotations: posted.annotations,
            starts_at,
            ends_at,
            updated_at: now,
            generator_url: posted.generator_url,
            is_timeout: posted.ends_at.is_none(),
        })
    }

    /// The value of `alertname`; empty without one.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }

    pub fn is_resolved(&self, now: Timestamp) -> bool {
        self.ends_at <= now
    }

    /// The alert that this one and the stored `old` make together: overlapping ones merge, else the new
    /// one replaces the old.
    #[must_use]
    pub fn over(self, old: &Self, now: Timestamp) -> Self {
        let is_inside = |t: Timestamp| t > old.starts_at && t < old.ends_at;
        if !is_inside(self.ends_at) && !is_inside(self.starts_at) {
            return self;
        }
        let (young, old) = if self.updated_at < old.updated_at { (old.clone(), &self) } else { (self, old) };
        let mut merged = young;
        merged.starts_at = merged.starts_at.min(old.starts_at);
        if merged.is_resolved(now) {
            if old.is_resolved(now) {
                merged.ends_at = merged.ends_at.max(old.ends_at);
            }
        } else if old.ends_at > merged.ends_at && !old.is_timeout {
            merged.ends_at = old.ends_at;
        }
        merged
    }
}

/// Whether every matcher holds; an absent label counts as empty.
pub fn matches(matchers: &[Matcher], labels: &LabelSet) -> bool {
    matchers.iter().all(|matcher| matcher.matches(label(labels, &matcher.name).as_bytes()))
}

fn label<'l>(labels: &'l LabelSet, name: &[u8]) -> &'l str {
    std::str::from_utf8(name).ok().and_then(|name| labels.get(name)).map_or("", String::as_str)
}

/// The order in which the alerts of a group are told: by job, by instance, then by all labels; what has no
/// such label comes last. Compat: alertmanager `alert`, `AlertSlice.Less`.
pub fn by_target(a: &LabelSet, b: &LabelSet) -> Ordering {
    let by = |name: &str| match (a.get(name), b.get(name)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    };
    by("job").then_with(|| by("instance")).then_with(|| by_labels(a, b))
}

/// Fewer labels come first; then the first pair that differs decides, and a set that lacks a name comes
/// before the one that has it. Compat: prometheus/common `LabelSet.Before`.
pub fn by_labels(a: &LabelSet, b: &LabelSet) -> Ordering {
    let difference = a.iter().zip(b).find(|(a, b)| a != b);
    let by_pair = difference.map_or(Ordering::Equal, |(a, b)| b.0.cmp(a.0).then_with(|| a.1.cmp(b.1)));
    a.len().cmp(&b.len()).then(by_pair)
}

/// `{a="x", b="y"}`. Compat: prometheus/common `LabelSet.String`.
pub fn display(labels: &LabelSet) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", model::quote::go_quote(value.as_bytes())))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
