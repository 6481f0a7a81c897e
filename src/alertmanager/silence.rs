//! Silences: who may not be told about what, until when.
//!
//! A silence holds sets of matchers, any of which may hold; the API makes and shows but one. What it says of
//! receivers is kept and, as upstream, without effect.
//!
//! Compat: alertmanager `silence` (0.34).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use model::quote::go_quote;
use model::{MatchOp, Matcher, Regex};
use serde::{Deserialize, Serialize};

use super::alert::{LabelSet, matches};
use super::clock::{self, after};
use super::snapshot;

/// The most silences that are kept, expired ones included, where the options set no limit.
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
    /// Any of them may hold, each as a whole.
    pub sets: Vec<Vec<SilenceMatcher>>,
    compiled: Vec<Vec<Matcher>>,
    /// Of the receivers' labels.
    pub receiver_sets: Vec<Vec<SilenceMatcher>>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    pub created_by: String,
    pub comment: String,
    pub annotations: LabelSet,
}

/// What a silence is made of when it is read from a file.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) id: String,
    pub(super) sets: Vec<Vec<SilenceMatcher>>,
    pub(super) receiver_sets: Vec<Vec<SilenceMatcher>>,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) created_by: String,
    pub(super) comment: String,
    pub(super) annotations: LabelSet,
}

impl Silence {
    /// # Errors
    /// A regular expression does not compile.
    pub(super) fn from_parts(parts: Parts) -> Result<Self, SilenceError> {
        let Parts {
            id,
            sets,
            receiver_sets,
            starts_at,
            ends_at,
            updated_at,
            created_by,
            comment,
            annotations,
        } = parts;
        let compile = |matcher: &SilenceMatcher| {
            Matcher::new(matcher.op(), &matcher.name, &matcher.value)
                .map_err(|e| SilenceError::Invalid(format!("silence {id}: {e}")))
        };
        let compiled = sets
            .iter()
            .map(|set| set.iter().map(compile).collect::<Result<Vec<_>, _>>())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            id,
            sets,
            compiled,
            receiver_sets,
            starts_at,
            ends_at,
            updated_at,
            created_by,
            comment,
            annotations,
        })
    }

    pub fn state(&self, now: Timestamp) -> SilenceState {
        if self.ends_at <= now {
            SilenceState::Expired
        } else if self.starts_at > now {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// Whether it is active and covers `labels`.
    pub fn mutes(&self, labels: &LabelSet, now: Timestamp) -> bool {
        self.state(now) == SilenceState::Active && self.compiled.iter().any(|set| matches(set, labels))
    }

    /// Whether one of its sets holds every one of `wanted` literally: nothing is evaluated.
    pub fn holds(&self, wanted: &[Matcher]) -> bool {
        let is_it = |own: &SilenceMatcher, wanted: &Matcher| {
            own.op() == wanted.op
                && own.name.as_bytes() == &*wanted.name
                && own.value.as_bytes() == &*wanted.value
        };
        self.sets.iter().any(|set| wanted.iter().all(|wanted| set.iter().any(|own| is_it(own, wanted))))
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

/// How many silences there may be, and how large; 0 for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub silences_max: usize,
    pub silence_bytes_max: usize,
    /// What is added to the end of a silence for the time at which it is forgotten, which counts for its size.
    pub retention: Duration,
}

/// All silences by id.
#[derive(Debug, Default)]
pub struct Silences {
    silences: BTreeMap<String, Silence>,
    /// The ids of what changed since the last look.
    changed: Vec<String>,
}

impl Silences {
    /// Creates a silence, or changes or replaces the one whose id it names; returns the id it now has.
    ///
    /// # Errors
    /// The id is unknown, the silence is not valid, or there are too many.
    pub fn put(
        &mut self,
        posted: PostedSilence,
        limits: Limits,
        now: Timestamp,
    ) -> Result<String, SilenceError> {
        let invalid = |text: &str| Err(SilenceError::Invalid(text.to_owned()));
        if posted.starts_at >= posted.ends_at {
            return invalid("Failed to create silence: start time must be before end time");
        }
        if posted.ends_at < now {
            return invalid("Failed to create silence: end time can't be in the past");
        }
        validate(&posted.matchers)?;
        if clock::is_zero(posted.ends_at) {
            return invalid("invalid silence: invalid zero end timestamp");
        }
        let old = match posted.id.as_str() {
            "" => None,
            id => Some(self.silences.get(id).cloned().ok_or(SilenceError::NotFound)?),
        };
        let mut silence = Silence::from_parts(Parts {
            id: posted.id,
            sets: vec![posted.matchers],
            receiver_sets: Vec::new(),
            starts_at: if clock::is_zero(posted.starts_at) { now } else { posted.starts_at },
            ends_at: posted.ends_at,
            updated_at: now,
            created_by: posted.created_by,
            comment: posted.comment,
            annotations: posted.annotations,
        })?;
        if let Some(old) = &old
            && may_change(old, &silence, now)
        {
            check_size(&silence, limits)?;
            return Ok(self.insert(silence));
        }
        let count = self.silences.len();
        let max = if limits.silences_max == 0 { SILENCES_MAX } else { limits.silences_max };
        if count >= max {
            return Err(SilenceError::Invalid(format!(
                "exceeded maximum number of silences: {count} (limit: {max})"
            )));
        }
        silence.id = new_id();
        silence.starts_at = silence.starts_at.max(now);
        check_size(&silence, limits)?;
        if let Some(old) = old.filter(|old| old.state(now) != SilenceState::Expired) {
            self.expire(&old.id, now)?;
        }
        Ok(self.insert(silence))
    }

    fn insert(&mut self, silence: Silence) -> String {
        let id = silence.id.clone();
        self.changed.push(id.clone());
        self.silences.insert(id.clone(), silence);
        id
    }

    /// Takes over a silence that was saved; the younger of two with one id stays.
    pub(super) fn restore(&mut self, silence: Silence) {
        if self.silences.get(&silence.id).is_none_or(|known| known.updated_at <= silence.updated_at) {
            self.silences.insert(silence.id.clone(), silence);
        }
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
        self.changed.push(id.to_owned());
        Ok(())
    }

    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.silences.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.silences.values()
    }

    pub fn len(&self) -> usize {
        self.silences.len()
    }

    pub fn is_empty(&self) -> bool {
        self.silences.is_empty()
    }

    /// The ids of what was made, changed or ended since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changed)
    }

    /// The active silences that `labels` falls under.
    pub fn find(&self, labels: &LabelSet, now: Timestamp) -> Vec<String> {
        let muting = self.silences.values().filter(|silence| silence.mutes(labels, now));
        muting.map(|silence| silence.id.clone()).collect()
    }

    /// Whether any active silence covers `labels`.
    pub fn mutes(&self, labels: &LabelSet, now: Timestamp) -> bool {
        self.silences.values().any(|silence| silence.mutes(labels, now))
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

fn check_size(silence: &Silence, limits: Limits) -> Result<(), SilenceError> {
    let max = limits.silence_bytes_max;
    let size = snapshot::encode_silence(silence, limits.retention).len();
    if max > 0 && size > max {
        let text = format!("silence exceeded maximum size: {size} bytes (limit: {max} bytes)");
        return Err(SilenceError::Invalid(text));
    }
    Ok(())
}

/// Checks the one set of matchers that the API takes. Compat: alertmanager `silence`, `validateSilence`.
fn validate(matchers: &[SilenceMatcher]) -> Result<(), SilenceError> {
    let invalid = |text: String| Err(SilenceError::Invalid(format!("invalid silence: {text}")));
    if matchers.is_empty() {
        return invalid("matcher set 0 is empty".to_owned());
    }
    if matchers.len() > MATCHERS_MAX {
        return invalid(format!("more than {MATCHERS_MAX} matchers"));
    }
    let mut matches_nothing = true;
    for (i, matcher) in matchers.iter().enumerate() {
        let at = format!("invalid label matcher {i} in set 0");
        if matcher.name.is_empty() {
            return invalid(format!("{at}: invalid label name {}", go_quote(matcher.name.as_bytes())));
        }
        if matcher.is_regex
            && let Err(e) = Regex::unanchored(matcher.value.as_bytes())
        {
            let pattern = go_quote(matcher.value.as_bytes());
            return invalid(format!("{at}: invalid regular expression {pattern}: {e}"));
        }
        match Matcher::new(matcher.op(), &matcher.name, &matcher.value) {
            // A negative matcher counts as one that demands something.
            Ok(compiled) => matches_nothing &= matcher.is_equal && compiled.matches_empty(),
            Err(e) => return invalid(format!("{at}: {e}")),
        }
    }
    if matches_nothing {
        return invalid("matcher set 0: at least one matcher must not match the empty string".to_owned());
    }
    Ok(())
}

/// Whether `new` may take the place of `old` under the same id.
fn may_change(old: &Silence, new: &Silence, now: Timestamp) -> bool {
    if old.sets != new.sets {
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

/// A silence as our first versions wrote it, in JSON.
#[derive(Debug, Deserialize)]
pub(super) struct SilenceRecord {
    id: String,
    matchers: Vec<SilenceMatcher>,
    #[serde(deserialize_with = "clock::required")]
    starts_at: Timestamp,
    #[serde(deserialize_with = "clock::required")]
    ends_at: Timestamp,
    #[serde(deserialize_with = "clock::required")]
    updated_at: Timestamp,
    created_by: String,
    comment: String,
    annotations: LabelSet,
}

impl From<SilenceRecord> for Parts {
    fn from(record: SilenceRecord) -> Self {
        Self {
            id: record.id,
            sets: vec![record.matchers],
            receiver_sets: Vec::new(),
            starts_at: record.starts_at,
            ends_at: record.ends_at,
            updated_at: record.updated_at,
            created_by: record.created_by,
            comment: record.comment,
            annotations: record.annotations,
        }
    }
}
