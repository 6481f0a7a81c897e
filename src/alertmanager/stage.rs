//! The steps between a group that is due and its messages, each from alerts to alerts.
//!
//! Compat: alertmanager `notify`, `MuteStage`, `TimeActiveStage`, `TimeMuteStage`, and `PipelineBuilder` for
//! their order.

use std::collections::{BTreeMap, BTreeSet};

use config::alertmanager::TimeInterval;
use jiff::Timestamp;

use super::dispatch::Flushed;
use super::inhibit::Inhibitor;
use super::nflog;
use super::route::Node;
use super::silence::Silences;

/// Why alerts were not told, as the metric names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suppression {
    ActiveTimeInterval,
    Inhibition,
    MuteTimeInterval,
    Silence,
}

impl Suppression {
    pub const ALL: [Self; 4] =
        [Self::ActiveTimeInterval, Self::Inhibition, Self::MuteTimeInterval, Self::Silence];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActiveTimeInterval => "active_time_interval",
            Self::Inhibition => "inhibition",
            Self::MuteTimeInterval => "mute_time_interval",
            Self::Silence => "silence",
        }
    }
}

/// What is left of a group to be told, and what became of the rest.
#[derive(Debug, Default)]
pub struct Outcome {
    pub kept: Vec<Flushed>,
    pub suppressed: Vec<(Suppression, Vec<Flushed>)>,
    /// The time intervals that mute the group now; `None` when no stage looked.
    pub muted_by: Option<Vec<String>>,
}

/// Takes a group's alerts through all stages that may hold them back.
pub fn suppress(
    alerts: Vec<Flushed>,
    node: &Node,
    intervals: &BTreeMap<String, Vec<TimeInterval>>,
    (inhibitor, silences): (&Inhibitor, &Silences),
    (at, now): (Timestamp, Timestamp),
) -> Outcome {
    let mut outcome = Outcome::default();
    let inhibited = |flushed: &Flushed| inhibitor.find(&flushed.alert.labels, now).is_some();
    let Some(alerts) = outcome.hold_back(Suppression::Inhibition, alerts, inhibited) else { return outcome };
    let active = names_of(node.active_time_intervals(), intervals, at);
    let is_inactive = !node.active_time_intervals().is_empty() && active.is_empty();
    outcome.muted_by = Some(if is_inactive { node.active_time_intervals().to_vec() } else { Vec::new() });
    let Some(alerts) = outcome.hold_back(Suppression::ActiveTimeInterval, alerts, |_| is_inactive) else {
        return outcome;
    };
    let muted = names_of(node.mute_time_intervals(), intervals, at);
    let is_muted = !muted.is_empty();
    outcome.muted_by = Some(muted);
    let Some(alerts) = outcome.hold_back(Suppression::MuteTimeInterval, alerts, |_| is_muted) else {
        return outcome;
    };
    let silenced = |flushed: &Flushed| silences.mutes(&flushed.alert.labels, now);
    outcome.kept = outcome.hold_back(Suppression::Silence, alerts, silenced).unwrap_or_default();
    outcome
}

impl Outcome {
    /// What goes on; `None` if nothing does, and then no further stage looks at the group.
    fn hold_back(
        &mut self,
        why: Suppression,
        alerts: Vec<Flushed>,
        is_held: impl Fn(&Flushed) -> bool,
    ) -> Option<Vec<Flushed>> {
        let (held, kept): (Vec<_>, Vec<_>) = alerts.into_iter().partition(is_held);
        if !held.is_empty() {
            self.suppressed.push((why, held));
        }
        (!kept.is_empty()).then_some(kept)
    }
}

/// Those of `names` that `at` lies in, once for each of their intervals that it lies in.
fn names_of(names: &[String], intervals: &BTreeMap<String, Vec<TimeInterval>>, at: Timestamp) -> Vec<String> {
    let holding = |name: &String| {
        let of_name = intervals.get(name).map_or(&[][..], Vec::as_slice);
        of_name.iter().filter(|interval| interval.contains(at)).count()
    };
    names.iter().flat_map(|name| std::iter::repeat_n(name.clone(), holding(name))).collect()
}

/// The hashes of what fires and of what is resolved, as the notification log keeps them.
pub fn split(alerts: &[Flushed]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let of = |resolved: bool| {
        let alerts = alerts.iter().filter(move |flushed| flushed.is_resolved == resolved);
        alerts.map(|flushed| nflog::hash(&flushed.alert.labels)).collect()
    };
    (of(false), of(true))
}
