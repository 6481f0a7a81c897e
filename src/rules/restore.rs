//! The past of alerts after a restart, read back from `ALERTS_FOR_STATE`.
//!
//! Compat: prometheus `rules/group.go`, `RestoreForState`.

use std::collections::HashMap;
use std::time::Instant;

use config::rules::RuleKind;
use model::labels::METRIC_NAME;
use model::storage::{Error, SelectHints};
use model::{Labels, Matcher, SampleBatch, TimeRange, Timestamp, is_stale};

use super::group::{Group, Rule};
use super::{Context, millis};

/// Gives the active alerts of `group` the age they had before the restart. `now` is the wall clock.
pub(super) fn restore(ctx: &Context, group: &Group, now: Timestamp) {
    let started = Instant::now();
    for rule in group.rules.iter().filter(|rule| !rule.is_restored()) {
        if let RuleKind::Alerting { name, hold, .. } = &rule.spec.kind
            && *hold >= ctx.options.for_grace_period
            && let Err(e) = restore_rule(ctx, rule, name, millis(*hold), now)
        {
            tracing::error!(alert = name, error = %e, "restoring the state of an alert failed");
        }
        rule.set_restored();
    }
    group.metrics.last_restore_duration.set(started.elapsed().as_secs_f64());
}

fn restore_rule(ctx: &Context, rule: &Rule, name: &str, hold_ms: i64, now: Timestamp) -> Result<(), Error> {
    let past = select_past(ctx, rule, name, now)?;
    let grace_ms = millis(ctx.options.for_grace_period);
    for (labels, alert) in &mut rule.alerts.lock().alerts {
        if let Some(&(down_at, active_at)) = past.get(labels) {
            alert.active_at = restored_active_at(now, down_at, active_at, hold_ms, grace_ms);
        }
    }
    Ok(())
}

/// When each alert of the rule was last seen and since when it was active then, by alert labels.
fn select_past(
    ctx: &Context,
    rule: &Rule,
    name: &str,
    now: Timestamp,
) -> Result<HashMap<Labels, (Timestamp, Timestamp)>, Error> {
    let range = TimeRange::new(now - millis(ctx.options.for_outage_tolerance), now);
    let mut matchers =
        vec![Matcher::equal(METRIC_NAME, "ALERTS_FOR_STATE"), Matcher::equal("alertname", name)];
    let literal = rule.spec.labels.iter().filter(|(_, text)| !text.contains("{{"));
    matchers.extend(literal.map(|(label, text)| Matcher::equal(label, text)));
    let querier = ctx.storage.querier(range)?;
    let set = querier.select(&matchers, &SelectHints { range: Some(range), ..SelectHints::default() })?;
    let mut past = HashMap::with_capacity(set.len());
    let mut samples = SampleBatch::default();
    for i in 0..set.len() {
        samples.clear();
        set.samples_into(i, range, &mut samples)?;
        let Some(last) = samples.iter().last() else { continue };
        if !is_stale(last.v) {
            past.insert(
                set.labels(i).without(|label| label == METRIC_NAME),
                (last.t, seconds_to_millis(last.v)),
            );
        }
    }
    Ok(past)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates: a time beyond all others stays beyond them")]
fn seconds_to_millis(seconds: f64) -> Timestamp {
    (seconds * 1000.0) as Timestamp
}

/// When an alert counts as having become active: the time that the server was down does not count, and an
/// alert that was about to fire gets the grace period to prove itself.
pub(super) fn restored_active_at(
    now: Timestamp,
    down_at: Timestamp,
    active_at: Timestamp,
    hold_ms: i64,
    grace_ms: i64,
) -> Timestamp {
    let remaining_ms = hold_ms - (down_at - active_at);
    if remaining_ms <= 0 {
        active_at
    } else if remaining_ms < grace_ms {
        now + grace_ms - hold_ms
    } else {
        active_at + (now - down_at)
    }
}

#[cfg(test)]
mod tests {
    use super::restored_active_at;

    #[test]
    fn downtime_does_not_count() {
        // `for` 1 h, grace 10 min, active at 0, restart takes from `down` to `now` (minutes).
        let restored = |now: i64, down: i64| restored_active_at(now, down, 0, 60, 10);
        assert_eq!(restored(100, 70), 0, "it had held long enough");
        assert_eq!(restored(100, 55), 50, "five minutes were left: it fires after the grace period");
        assert_eq!(restored(100, 20), 80, "twenty minutes are spent, forty are left");
    }
}
