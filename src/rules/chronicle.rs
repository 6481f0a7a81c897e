//! What rules tell the journal of stories: every evaluation of an alerting rule, and what a reload did to rules.
//!
//! Telling costs a list of the rule's active alerts; what changed since the last evaluation, and why, the journal
//! finds out on its own thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::rules::RuleKind;
use model::Timestamp;

use super::alerting::AlertState;
use super::group::{Group, Rule};
use super::{Context, millis};
use crate::story::{self, Code, Evaluation, Id, Note, Seen, Subject};

/// The rule as stories name it.
pub fn of_rule(group: &Group, rule: &Rule) -> Arc<story::Rule> {
    let make = || {
        let file = group.spec.file.display().to_string();
        let subject = Subject::rule(&file, &group.spec.name, rule.name(), &rule.spec.labels);
        story::Rule::new(subject, rule.query.as_str())
    };
    Arc::clone(rule.story.get_or_init(make))
}

/// Tells how the evaluation of `rule` at `ts` left its alerts.
pub(super) fn evaluated(ctx: &Context, group: &Group, rule: &Rule, ts: Timestamp) {
    let (Some(journal), RuleKind::Alerting { hold, keep_firing_for, .. }) = (&ctx.story, &rule.spec.kind)
    else {
        return;
    };
    let error = rule.report.lock().last_error.as_deref().map(Arc::from);
    let state = rule.alerts.lock();
    let alerts = state.alerts.iter().filter_map(|(labels, alert)| {
        let is = match alert.state {
            AlertState::Inactive if alert.resolved_at == Some(ts) => story::State::Inactive,
            AlertState::Inactive => return None,
            AlertState::Pending => story::State::Pending,
            AlertState::Firing => story::State::Firing,
        };
        Some(Seen {
            labels: labels.clone(),
            state: is,
            value: alert.value,
            active_at: alert.active_at,
            resolved_at: alert.resolved_at,
            keep_firing_since: alert.keep_firing_since,
        })
    });
    let alerts = alerts.collect();
    drop(state);
    journal.note(Note::Evaluated(Evaluation {
        rule: of_rule(group, rule),
        at: ts,
        query_at: ts - millis(group.query_offset),
        hold_ms: millis(*hold),
        keep_ms: millis(*keep_firing_for),
        error,
        alerts,
    }));
}

/// Tells what a reload changed. At the first one there is nothing to compare with.
pub(super) fn reloaded(ctx: &Context, before: &[Arc<Group>], after: &[Arc<Group>]) {
    let Some(journal) = &ctx.story else { return };
    if before.is_empty() {
        return;
    }
    let at = (ctx.now)();
    let note = |rule: &Arc<story::Rule>, code: Code, what: String| {
        journal.note(Note::Rule { at, rule: Arc::clone(rule), code, what: what.into() });
    };
    let (old, new) = (alerting(before), alerting(after));
    for (id, (group, rule)) in &old {
        let told = of_rule(group, rule);
        if let Some((new_group, new_rule)) = new.get(id) {
            let changes = changes((group, rule), (new_group, new_rule));
            if !changes.is_empty() {
                note(&told, Code::RuleChanged, format!("a reload changed {}", changes.join(", ")));
            }
        } else {
            let is_kin = |(g, r): &&(&Arc<Group>, &Rule)| g.key == group.key && r.name() == rule.name();
            let what = match new.values().find(is_kin) {
                Some(_) => "a reload changed the labels of its rule",
                None => "a reload removed its rule",
            };
            note(&told, Code::RuleRemoved, what.to_owned());
        }
    }
    for (_, (group, rule)) in new.iter().filter(|(id, _)| !old.contains_key(id)) {
        note(&of_rule(group, rule), Code::Restarted, "a reload added the rule".to_owned());
    }
}

fn alerting(groups: &[Arc<Group>]) -> BTreeMap<Id, (&Arc<Group>, &Rule)> {
    let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    rules
        .filter(|(_, rule)| matches!(rule.spec.kind, RuleKind::Alerting { .. }))
        .map(|(group, rule)| (of_rule(group, rule).id, (group, rule)))
        .collect()
}

/// What of a rule is different, in words.
fn changes(before: (&Group, &Rule), after: (&Group, &Rule)) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            found.push(format!("{what} from {old} to {new}"));
        }
    };
    compare("the expression", format!("`{}`", before.1.query), format!("`{}`", after.1.query));
    if let (
        RuleKind::Alerting { hold, keep_firing_for, .. },
        RuleKind::Alerting { hold: new_hold, keep_firing_for: new_keep, .. },
    ) = (&before.1.spec.kind, &after.1.spec.kind)
    {
        let span = model::duration::format;
        compare("`for`", span(*hold), span(*new_hold));
        compare("`keep_firing_for`", span(*keep_firing_for), span(*new_keep));
    }
    let span = |group: &Group| model::duration::format(group.interval);
    compare("the interval", span(before.0), span(after.0));
    compare("the limit", before.0.spec.limit.to_string(), after.0.spec.limit.to_string());
    found
}
