//! The state of alerts on disk, so that a restart, even by a lost process, changes nothing for who is notified.
//!
//! One file: a line that names the format and the checksum of the rest, then JSON. It is replaced as a whole every
//! now and then and at the end. What it lacks (a rule without alerts, a file that is too old, a data directory that
//! another server wrote) is restored from `ALERTS_FOR_STATE` instead, see [`super::restore`].
//!
//! Not upstream's: there `for` alone survives, and a firing alert begins anew.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use config::rules::RuleKind;
use model::{Labels, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::alerting::{Alert, AlertState, Seen, State};
use super::group::{Group, Rule};
use super::restore::restored_active_at;
use super::{Context, millis};

/// The first line up to the checksum; the number is the format's.
const HEADER: &str = "ferula alert state 1 ";

/// How often the file is written, if that is quick.
const PERIOD: Duration = Duration::from_secs(15);

/// The most of its time that writing takes from one processor.
const SHARE_MAX: u32 = 20;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    saved_at: Timestamp,
    rules: Vec<KeptRule>,
}

/// A rule that has alerts.
#[derive(Debug, Serialize, Deserialize)]
struct KeptRule {
    file: PathBuf,
    group: String,
    alert: String,
    labels: BTreeMap<String, String>,
    /// Which one of those in the group with equal name and labels.
    nth: usize,
    alerts: Vec<KeptAlert>,
}

/// An [`Alert`]; floats as their bits, because JSON knows no NaN.
#[derive(Debug, Serialize, Deserialize)]
struct KeptAlert {
    labels: BTreeMap<String, String>,
    #[serde(with = "shared")]
    annotations: Arc<Annotations>,
    state: KeptState,
    value: u64,
    first_value: u64,
    min_value: u64,
    max_value: u64,
    value_at_fire: Option<u64>,
    active_at: Timestamp,
    fired_at: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    keep_firing_since: Option<Timestamp>,
    last_sent_at: Option<Timestamp>,
    valid_until: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptState {
    Inactive,
    Pending,
    Firing,
}

impl KeptAlert {
    /// `None` for labels that are no text: the alert could not be recognised.
    fn of(labels: &Labels, alert: &Alert) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
        Some(Self {
            labels: labels
                .iter()
                .map(|(name, value)| Some((text(name)?, text(value)?)))
                .collect::<Option<_>>()?,
            annotations: Arc::clone(&alert.annotations),
            state: match alert.state {
                AlertState::Inactive => KeptState::Inactive,
                AlertState::Pending => KeptState::Pending,
                AlertState::Firing => KeptState::Firing,
            },
            value: alert.value.to_bits(),
            first_value: alert.seen.first.to_bits(),
            min_value: alert.seen.min.to_bits(),
            max_value: alert.seen.max.to_bits(),
            value_at_fire: alert.seen.at_fire.map(f64::to_bits),
            active_at: alert.active_at,
            fired_at: alert.fired_at,
            resolved_at: alert.resolved_at,
            keep_firing_since: alert.keep_firing_since,
            last_sent_at: alert.last_sent_at,
            valid_until: alert.valid_until,
        })
    }

    fn into_alert(self) -> (Labels, Alert) {
        let alert = Alert {
            state: match self.state {
                KeptState::Inactive => AlertState::Inactive,
                KeptState::Pending => AlertState::Pending,
                KeptState::Firing => AlertState::Firing,
            },
            annotations: self.annotations,
            value: f64::from_bits(self.value),
            seen: Seen {
                first: f64::from_bits(self.first_value),
                min: f64::from_bits(self.min_value),
                max: f64::from_bits(self.max_value),
                at_fire: self.value_at_fire.map(f64::from_bits),
            },
            active_at: self.active_at,
            fired_at: self.fired_at,
            resolved_at: self.resolved_at,
            keep_firing_since: self.keep_firing_since,
            last_sent_at: self.last_sent_at,
            valid_until: self.valid_until,
        };
        (Labels::from_pairs(&self.labels), alert)
    }
}

type Annotations = BTreeMap<String, String>;

/// What is shared in memory is written as it is.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Annotations;

    pub(super) fn serialize<S: Serializer>(map: &Arc<Annotations>, out: S) -> Result<S::Ok, S::Error> {
        (**map).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Arc<Annotations>, D::Error> {
        Annotations::deserialize(input).map(Arc::new)
    }
}

/// What tells a rule of a group from the others, but for equal ones.
fn identity(rule: &Rule) -> Option<(&str, &BTreeMap<String, String>)> {
    match &rule.spec.kind {
        RuleKind::Alerting { name, .. } => Some((name, &rule.spec.labels)),
        RuleKind::Recording { .. } => None,
    }
}

/// The alerting rules of a group with their numbers among equal ones.
fn numbered(group: &Group) -> impl Iterator<Item = (&Rule, usize)> {
    let mut seen = HashMap::new();
    group.rules.iter().filter_map(move |rule| {
        let n: &mut usize = seen.entry(identity(rule)?).or_default();
        *n += 1;
        Some((rule, *n - 1))
    })
}

impl Kept {
    fn of(groups: &[Arc<Group>], now: Timestamp) -> Self {
        let mut rules = Vec::new();
        for group in groups {
            for (rule, nth) in numbered(group) {
                // Cheap: what is big is shared.
                let alerts: Vec<_> =
                    rule.alerts.lock().alerts.iter().map(|(l, a)| (l.clone(), a.clone())).collect();
                if !alerts.is_empty() {
                    rules.push(KeptRule {
                        file: group.spec.file.clone(),
                        group: group.spec.name.clone(),
                        alert: rule.name().to_owned(),
                        labels: rule.spec.labels.clone(),
                        nth,
                        alerts: alerts
                            .iter()
                            .filter_map(|(labels, alert)| KeptAlert::of(labels, alert))
                            .collect(),
                    });
                }
            }
        }
        Self { saved_at: now, rules }
    }

    fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut head = HEADER.to_owned();
        writeln!(head, "{:08x}", crc32c::crc32c(&json))?;
        let mut bytes = head.into_bytes();
        bytes.extend(json);
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let end = bytes.iter().position(|&b| b == b'\n').context("it has no first line")?;
        let head = std::str::from_utf8(&bytes[..end]).ok().and_then(|head| head.strip_prefix(HEADER));
        let Some(head) = head else { bail!("it is of another format") };
        let json = &bytes[end + 1..];
        let sum = u32::from_str_radix(head, 16).context("its checksum is no number")?;
        ensure!(sum == crc32c::crc32c(json), "its checksum is wrong");
        Ok(serde_json::from_slice(json)?)
    }
}

/// Takes the alerts in the file at `path` over into `groups`, which have not begun.
pub(super) fn load(ctx: &Context, path: &Path, groups: &[&Group], now: Timestamp) {
    let read = || -> anyhow::Result<Option<Kept>> {
        tsdb::fs::read_if_exists(path)?.map(|bytes| Kept::from_bytes(&bytes)).transpose()
    };
    match read() {
        Ok(None) => {}
        Ok(Some(kept)) => {
            let away_ms = now - kept.saved_at;
            if away_ms > millis(ctx.options.for_outage_tolerance) {
                tracing::info!(path = %path.display(), away_ms, "the kept state of alerts is too old to be used");
                return;
            }
            let n_alerts = restore(ctx, kept, groups, now);
            tracing::info!(n_alerts, away_ms, "took over the state of alerts");
        }
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "the kept state of alerts cannot be used");
        }
    }
}

fn restore(ctx: &Context, kept: Kept, groups: &[&Group], now: Timestamp) -> usize {
    let away_ms = (now - kept.saved_at).max(0);
    // Where the clock was set back since, no alert may have begun in the future.
    let shift_ms = (now - kept.saved_at).min(0);
    let mut n_alerts = 0;
    for kept_rule in kept.rules {
        let is_it = |group: &&&Group| group.spec.name == kept_rule.group && group.spec.file == kept_rule.file;
        let Some(group) = groups.iter().find(is_it) else { continue };
        let rule = numbered(group).find(|(rule, nth)| {
            identity(rule) == Some((&kept_rule.alert, &kept_rule.labels)) && *nth == kept_rule.nth
        });
        let Some((rule, _)) = rule else { continue };
        let RuleKind::Alerting { hold, .. } = &rule.spec.kind else { continue };
        let alerts = kept_rule.alerts.into_iter().map(KeptAlert::into_alert).map(|(labels, mut alert)| {
            alert.shift(shift_ms);
            if alert.state == AlertState::Pending {
                let down_at = now - away_ms;
                alert.active_at = pending_since(ctx, alert.active_at, down_at, now, millis(*hold));
            }
            (labels, alert)
        });
        let alerts: HashMap<_, _> = alerts.collect();
        n_alerts += alerts.len();
        *rule.alerts.lock() = State::restored(alerts, now, away_ms);
        rule.set_restored();
    }
    n_alerts
}

/// When a pending alert counts as having become active: the time away does not count. After a long one, what would
/// fire soon gets the grace period, as in [`super::restore`].
fn pending_since(
    ctx: &Context,
    active_at: Timestamp,
    down_at: Timestamp,
    now: Timestamp,
    hold_ms: i64,
) -> Timestamp {
    let grace_ms = millis(ctx.options.for_grace_period);
    if now - down_at >= grace_ms && hold_ms >= grace_ms {
        restored_active_at(now, down_at, active_at, hold_ms, grace_ms)
    } else {
        active_at + (now - down_at)
    }
}

/// Writes the file.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// Whether there is nothing in the file; `None` before it was written.
    is_empty: Mutex<Option<bool>>,
}

impl Keeper {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, is_empty: Mutex::new(None) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file by the state of `groups`. Returns how long to wait before the next time.
    pub(super) fn save(&self, groups: &[Arc<Group>], now: Timestamp) -> Duration {
        let started = Instant::now();
        let mut is_empty = self.is_empty.lock();
        let kept = Kept::of(groups, now);
        if kept.rules.is_empty() && *is_empty == Some(true) {
            return PERIOD;
        }
        let write = || -> anyhow::Result<()> {
            if let Some(dir) = self.path.parent() {
                tsdb::fs::create_dir_all(dir)?;
            }
            Ok(tsdb::fs::replace(&self.path, &kept.to_bytes()?)?)
        };
        match write() {
            Ok(()) => *is_empty = Some(kept.rules.is_empty()),
            Err(e) => {
                *is_empty = None;
                tracing::error!(path = %self.path.display(), error = %e, "keeping the state of alerts failed");
            }
        }
        PERIOD.max(started.elapsed() * SHARE_MAX)
    }
}

#[cfg(test)]
mod tests;
