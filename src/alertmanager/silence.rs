//! Silences: who may not be told about what, until when.
//!
//! Compat: alertmanager `silence` (0.34), single matcher sets.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use model::{MatchOp, Matcher};
use serde::{Deserialize, Serialize};

use super::alert::{LabelSet, matches};
use super::clock::{self, after};

/// The most silences that are kept, expired ones included.
pub const SILENCES_MAX: usize = 100_000;
/// The most matchers of one silence.
const MATCHERS_MAX: usize = 1_000;

/// A matcher as the API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceMatcher {
    #[serde(default = "yes")]
    pub is_equal: bool,
    pub is_regex: bool,
    pub name: String,
    pub value: String,
}

const fn yes() -> bool {
    true
}

impl SilenceMatcher {
    pub const fn op(&self) -> MatchOp {
        match (self.is_regex, self.is_equal) {
            (false, true) => MatchOp::Eq,
            (false, false) => MatchOp::Ne,
            (true, true) => MatchOp::Re,
            (true, false) => MatchOp::Nre,
        }
    }
}

/// A silence as it is posted; with an id it changes the one of that id.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostedSilence {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub annotations: LabelSet,
    pub comment: String,
    pub created_by: String,
    #[serde(deserialize_with = "clock::required")]
    pub ends_at: Timestamp,
    pub matchers: Vec<SilenceMatcher>,
    #[serde(deserialize_with = "clock::required")]
    pub starts_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    Active,
    Pending,
    Expired,
}

impl SilenceState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

/// A silence in the store.
#[derive(Clone, Debug)]
pub struct Silence {
    pub id: String,
    pub matchers: Vec<SilenceMatcher>,
    compiled: Vec<Matcher>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    pub created_by: String,
    pub comment: String,
    pub annotations: LabelSet,
}

impl Silence {
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if self.ends_at <= now {
            SilenceState::Expired
        } else if self.starts_at > now {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }
}

/// Why a silence was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    #[error("silence not found")]
    NotFound,
    #[error("{0}")]
    Invalid(String),
}

/// All silences by id.
#[derive(Debug, Default)]
pub struct Silences {
    silences: BTreeMap<String, Silence>,
}

impl Silences {
    /// Creates a silence, or changes or replaces the one whose id it names; returns the id it now has.
    ///
    /// # Errors
    /// The id is unknown or the silence is not valid.
    pub fn put(&mut self, posted: PostedSilence, now: Timestamp) -> Result<String, SilenceError> {
        let invalid = |text: &str| Err(SilenceError::Invalid(text.to_owned()));
        if posted.starts_at >= posted.ends_at {
            return invalid("Failed to create silence: start time must be before end time");
        }
        if posted.ends_at < now {
            return invalid("Failed to create silence: end time can't be in the past");
        }
        let compiled = compile(&posted.matchers)?;
        let old = match posted.id.as_str() {
            "" => None,
            id => Some(self.silences.get(id).cloned().ok_or(SilenceError::NotFound)?),
        };
        let mut silence = Silence {
            id: posted.id,
            matchers: posted.matchers,
            compiled,
            starts_at: posted.starts_at,
            ends_at: posted.ends_at,
            updated_at: now,
            created_by: posted.created_by,
            comment: posted.comment,
            annotations: posted.annotations,
        };
        if let Some(old) = &old {
            if may_change(old, &silence, now) {
                let id = silence.id.clone();
                self.silences.insert(id.clone(), silence);
                return Ok(id);
            }
            if old.state(now) != SilenceState::Expired {
                self.expire(&old.id, now)?;
            }
        }
        if self.silences.len() >= SILENCES_MAX {
            return Err(SilenceError::Invalid(format!(
                "exceeded maximum number of silences: {SILENCES_MAX}"
            )));
        }
        silence.starts_at = silence.starts_at.max(now);
        silence.id = new_id();
        let id = silence.id.clone();
        self.silences.insert(id.clone(), silence);
        Ok(id)
    }

    /// Ends a silence; one that has ended stays as it is.
    ///
    /// # Errors
    /// The id is unknown.
    pub fn expire(&mut self, id: &str, now: Timestamp) -> Result<(), SilenceError> {
        let silence = self.silences.get_mut(id).ok_or(SilenceError::NotFound)?;
        match silence.state(now) {
            SilenceState::Expired => return Ok(()),
            SilenceState::Active => silence.ends_at = now,
            SilenceState::Pending => (silence.starts_at, silence.ends_at) = (now, now),
        }
        silence.updated_at = now;
        Ok(())
    }

    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.silences.get(id)
    }

    /// The active silences that `labels` falls under.
    pub fn find(&self, labels: &LabelSet, now: Timestamp) -> Vec<String> {
        let silences = self.silences.values();
        let active = silences.filter(|silence| silence.state(now) == SilenceState::Active);
        active
            .filter(|silence| matches(&silence.compiled, labels))
            .map(|silence| silence.id.clone())
            .collect()
    }

    /// Active by end, then pending by start, then expired, the latest first.
    pub fn list(&self, now: Timestamp) -> Vec<&Silence> {
        let mut all: Vec<_> = self.silences.values().collect();
        all.sort_by(|a, b| {
            let (x, y) = (a.state(now), b.state(now));
            x.cmp(&y).then_with(|| match x {
                SilenceState::Active => a.ends_at.cmp(&b.ends_at),
                SilenceState::Pending => a.starts_at.cmp(&b.starts_at),
                SilenceState::Expired => b.ends_at.cmp(&a.ends_at),
            })
        });
        all
    }

    pub fn collect_garbage(&mut self, now: Timestamp, retention: Duration) {
        self.silences.retain(|_, silence| after(silence.ends_at, retention) > now);
    }
}

fn compile(matchers: &[SilenceMatcher]) -> Result<Vec<Matcher>, SilenceError> {
    let invalid = |text: String| Err(SilenceError::Invalid(text));
    if matchers.is_empty() {
        return invalid("at least one matcher set required".to_owned());
    }
    if matchers.len() > MATCHERS_MAX {
        return invalid(format!("more than {MATCHERS_MAX} matchers"));
    }
    let mut compiled = Vec::with_capacity(matchers.len());
    for (i, matcher) in matchers.iter().enumerate() {
        if matcher.name.is_empty() {
            return invalid(format!("invalid label matcher {i} in set 0: invalid label name \"\""));
        }
        match Matcher::new(matcher.op(), &matcher.name, &matcher.value) {
            Ok(matcher) => compiled.push(matcher),
            Err(e) => return invalid(format!("invalid label matcher {i} in set 0: {e}")),
        }
    }
    if compiled.iter().all(Matcher::matches_empty) {
        return invalid("matcher set 0: at least one matcher must not match the empty string".to_owned());
    }
    Ok(compiled)
}

/// Whether `new` may take the place of `old` under the same id.
fn may_change(old: &Silence, new: &Silence, now: Timestamp) -> bool {
    if old.matchers != new.matchers {
        return false;
    }
    match old.state(now) {
        SilenceState::Active => old.starts_at.as_second() == new.starts_at.as_second() && new.ends_at >= now,
        SilenceState::Pending => new.starts_at >= now,
        SilenceState::Expired => false,
    }
}

/// A random UUID (version 4).
fn new_id() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) | 4 << 76;
    let bits = bits & !(3 << 62) | 2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The form of the snapshot file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SilenceRecord {
    id: String,
    matchers: Vec<SilenceMatcher>,
    #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
    starts_at: Timestamp,
    #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
    ends_at: Timestamp,
    #[serde(serialize_with = "clock::nanos", deserialize_with = "clock::required")]
    updated_at: Timestamp,
    created_by: String,
    comment: String,
    annotations: LabelSet,
}

impl Silences {
    pub(super) fn to_records(&self) -> Vec<SilenceRecord> {
        let record = |silence: &Silence| SilenceRecord {
            id: silence.id.clone(),
            matchers: silence.matchers.clone(),
            starts_at: silence.starts_at,
            ends_at: silence.ends_at,
            updated_at: silence.updated_at,
            created_by: silence.created_by.clone(),
            comment: silence.comment.clone(),
            annotations: silence.annotations.clone(),
        };
        self.silences.values().map(record).collect()
    }

    /// Takes over what was saved.
    ///
    /// # Errors
    /// A matcher does not compile.
    pub(super) fn from_records(records: Vec<SilenceRecord>) -> Result<Self, SilenceError> {
        let mut silences = BTreeMap::new();
        for record in records {
            let silence = Silence {
                id: record.id.clone(),
                compiled: compile(&record.matchers)?,
                matchers: record.matchers,
                starts_at: record.starts_at,
                ends_at: record.ends_at,
                updated_at: record.updated_at,
                created_by: record.created_by,
                comment: record.comment,
                annotations: record.annotations,
            };
            silences.insert(record.id, silence);
        }
        Ok(Self { silences })
    }
}
