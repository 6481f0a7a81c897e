//! Why an alert fires or does not, and where its messages went: the stories, and for what they do not tell the
//! store, asked at the time in question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::rules::RuleKind;
use model::storage::Queryable;
use model::{Labels, LabelsBuilder, MatchOp, Matcher, TimeRange, Timestamp};
use promql::Engine;
use web::view::story as view;

use super::App;
use crate::rules::chronicle;
use crate::rules::group::{Group, Rule};
use crate::rules::why::{Inquiry, own_labels};
use crate::story::cause::{self, Cause, Delivery};
use crate::story::{
    Code, Entry, Event, FILE_LABEL, GROUP_LABEL, Id, Journal, Kind, State, Subject, Tale, tell,
};

/// Before the span that is asked for, so much of the archive is read to know how things stood, in ms.
const BEFORE_MS: i64 = 24 * 3_600_000;
/// Names that lead to names: relabelling happens twice at most.
const RENAMES_MAX: usize = 3;
/// After so long the rest is left to the next page.
const TIME_MAX: Duration = Duration::from_secs(20);

impl view::StorySource for App {
    fn explain(&self, query: &view::Query) -> Result<view::Explained, String> {
        let explainer = Explainer {
            journal: &self.story,
            engine: &self.engine,
            storage: self.store.as_ref(),
            groups: self.rules.groups(),
        };
        explainer.explain(query)
    }
}

/// What explaining needs of the server.
pub(super) struct Explainer<'a> {
    pub(super) journal: &'a Journal,
    pub(super) engine: &'a Engine,
    pub(super) storage: &'a dyn Queryable,
    pub(super) groups: Vec<Arc<Group>>,
}

/// One alert with all that is known of it.
struct Case {
    labels: Labels,
    /// Under every name that it goes by, in order.
    entries: Vec<Entry>,
    known_as: Vec<Labels>,
}

type Running<'g> = (&'g Group, &'g Rule);

impl Explainer<'_> {
    pub(super) fn explain(&self, query: &view::Query) -> Result<view::Explained, String> {
        let deadline = Instant::now() + TIME_MAX;
        let mut cases = self.cases(query)?;
        if cases.is_empty() {
            cases.extend(self.case_of_rule(query));
        }
        if cases.is_empty() {
            return Ok(view::Explained {
                time: tell::time(query.time),
                alerts: self.nobody(query).into_iter().collect(),
                next_token: String::new(),
            });
        }
        cases.sort_by(|a, b| a.labels.cmp(&b.labels));
        let token = |case: &Case| format!("{:016x}", Subject::alert(&case.labels).id().0);
        if !query.token.is_empty() {
            let first = cases.iter().position(|case| token(case) == query.token).unwrap_or(cases.len());
            cases.drain(..first);
        }
        let rest = cases.split_off(query.limit.min(cases.len()));
        let rules = self.rule_tales(&cases, query)?;
        let mut next_token = rest.first().map(token).unwrap_or_default();
        let mut alerts = Vec::with_capacity(cases.len());
        for (i, case) in cases.iter().enumerate() {
            if i > 0 && Instant::now() >= deadline {
                next_token = token(case);
                break;
            }
            alerts.push(self.explain_case(case, &rules, query));
        }
        Ok(view::Explained { time: tell::time(query.time), alerts, next_token })
    }

    // === Whose story ===

    fn cases(&self, query: &view::Query) -> Result<Vec<Case>, String> {
        let wanted = |s: &Subject| s.kind == Kind::Alert && selects(&query.selectors, &s.labels);
        let matching = self.tell(query, &wanted)?;
        // Who asks for the labels that an Alertmanager knows means the alert of the rule behind them.
        let mut roots = BTreeSet::new();
        for tale in &matching {
            let mut ids = BTreeSet::from([tale.subject.id()]);
            for _ in 0..RENAMES_MAX {
                let origins = ids.iter().flat_map(|id| match self.journal.origins(*id) {
                    origins if origins.is_empty() => vec![*id],
                    origins => origins,
                });
                ids = origins.collect();
            }
            roots.extend(ids);
        }
        let mut tales: BTreeMap<Id, Tale> =
            matching.into_iter().map(|tale| (tale.subject.id(), tale)).collect();
        for _ in 0..=RENAMES_MAX {
            let named = tales.values().flat_map(|tale| names(&tale.entries)).map(|l| Subject::alert(&l).id());
            let missing: BTreeSet<Id> =
                named.chain(roots.iter().copied()).filter(|id| !tales.contains_key(id)).collect();
            if missing.is_empty() {
                break;
            }
            let found = self.tell(query, &|s| s.kind == Kind::Alert && missing.contains(&s.id()))?;
            tales.extend(found.into_iter().map(|tale| (tale.subject.id(), tale)));
        }
        let case = |root: &Id| {
            let tale = tales.get(root)?;
            let (mut entries, mut known_as) = (tale.entries.clone(), names(&tale.entries));
            let mut i = 0;
            while let Some(labels) = known_as.get(i) {
                if let Some(tale) = tales.get(&Subject::alert(labels).id()) {
                    entries.extend(tale.entries.iter().cloned());
                    for name in names(&tale.entries) {
                        if !known_as.contains(&name) {
                            known_as.push(name);
                        }
                    }
                }
                i += 1;
            }
            entries.sort_by_key(|entry| entry.number);
            entries.dedup_by_key(|entry| entry.number);
            Some(Case { labels: tale.subject.labels.clone(), entries, known_as })
        };
        Ok(roots.iter().filter_map(case).collect())
    }

    fn tell(&self, query: &view::Query, wanted: &dyn Fn(&Subject) -> bool) -> Result<Vec<Tale>, String> {
        let mint = query.range.mint.min(query.time).saturating_sub(BEFORE_MS);
        let range = TimeRange::new(mint, query.range.maxt.max(query.time));
        self.journal.tell(range, wanted).map_err(|e| format!("read the stories of alerts: {e}"))
    }

    /// The stories of the rules that give alerts of these names.
    fn rule_tales(&self, cases: &[Case], query: &view::Query) -> Result<Vec<Tale>, String> {
        let names: BTreeSet<&[u8]> = cases.iter().filter_map(|case| case.labels.get(b"alertname")).collect();
        let is_wanted = |s: &Subject| {
            s.kind == Kind::Rule && s.labels.get(b"alertname").is_some_and(|name| names.contains(name))
        };
        self.tell(query, &is_wanted)
    }

    /// An alert that no story tells of, but that a rule could give.
    fn case_of_rule(&self, query: &view::Query) -> Option<Case> {
        query.selectors.iter().find_map(|matchers| {
            let (_, rule) = self.running().find(|(_, rule)| may_give(rule, matchers))?;
            let mut builder = LabelsBuilder::from(&Labels::empty());
            for matcher in matchers.iter().filter(|matcher| matcher.op == MatchOp::Eq) {
                builder.set(&matcher.name, &matcher.value);
            }
            builder.set(b"alertname", rule.name().as_bytes());
            Some(Case { labels: builder.build(), entries: Vec::new(), known_as: Vec::new() })
        })
    }

    /// The answer about an alert of a name that nobody has heard of.
    fn nobody(&self, query: &view::Query) -> Option<view::ExplainedAlert> {
        let matchers = query.selectors.first()?;
        let named = matchers.iter().find(|m| &*m.name == b"alertname" && m.op == MatchOp::Eq)?;
        let name = String::from_utf8_lossy(&named.value).into_owned();
        let gone = self.tell(query, &|s| s.kind == Kind::Rule && s.label("alertname") == name).ok()?;
        let removed = gone.iter().flat_map(|tale| &tale.entries).rev().find(|entry| {
            entry.first <= query.time
                && matches!(entry.event, Event::Reloaded { code: Code::RuleRemoved, .. })
        });
        let cause = match removed {
            Some(entry) => {
                let text = format!("{} at {}", tell::text(&entry.event), tell::time(entry.first));
                Cause::new(Code::RuleRemoved, text).since(entry.first)
            }
            None => Cause::new(
                Code::NoRule,
                format!("no alerting rule that fits is named {name}, and no such alert has been received"),
            ),
        };
        let none = Cause::new(Code::NotFiring, "nobody is told of an alert that does not fire");
        Some(view::ExplainedAlert {
            labels: [("alertname".to_owned(), name)].into(),
            fingerprint: String::new(),
            known_as: Vec::new(),
            rule: None,
            state: "unknown",
            cause: cause_view(&cause),
            notification: cause_view(&none),
            deliveries: Vec::new(),
            timeline: Vec::new(),
            timeline_truncated: false,
        })
    }

    fn running(&self) -> impl Iterator<Item = Running<'_>> {
        self.groups.iter().flat_map(|group| {
            let rules = group.rules.iter().map(move |rule| (&**group, rule));
            rules.filter(|(_, rule)| matches!(rule.spec.kind, RuleKind::Alerting { .. }))
        })
    }

    /// The rule that the alert comes from, or would.
    fn rule_of(&self, labels: &Labels) -> Option<Running<'_>> {
        let told = self.journal.rule_of(Subject::alert(labels).id());
        let is_told = |(group, rule): &Running<'_>| {
            told.as_ref().is_some_and(|told| told.id == chronicle::of_rule(group, rule).id)
        };
        let exact: Vec<_> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        self.running().find(is_told).or_else(|| self.running().find(|(_, rule)| may_give(rule, &exact)))
    }

    // === What it says ===

    fn explain_case(&self, case: &Case, rules: &[Tale], query: &view::Query) -> view::ExplainedAlert {
        let t = query.time;
        let running = self.rule_of(&case.labels);
        let rule_story = running.and_then(|(group, rule)| {
            let id = chronicle::of_rule(group, rule).id;
            rules.iter().find(|tale| tale.subject.id() == id)
        });
        let rule_entries = rule_story.map_or(&[][..], |tale| &tale.entries);
        let (state, cause) = self.state(case, running, rule_entries, t);
        let deliveries = cause::deliveries(&case.entries, t);
        let notification = cause::notification(state.unwrap_or_default(), &case.entries, &deliveries, t);
        let told: Vec<_> =
            case.entries.iter().chain(rule_entries.iter().filter(|e| is_news_of_rule(e))).collect();
        let (timeline, timeline_truncated) = timeline(told, query);
        view::ExplainedAlert {
            labels: case.labels.to_map(),
            fingerprint: format!("{:016x}", Subject::alert(&case.labels).id().0),
            known_as: case.known_as.iter().map(Labels::to_map).collect(),
            rule: running.map(|(group, rule)| rule_view(group, rule)),
            state: state.map_or("unknown", State::as_str),
            cause: cause_view(&cause),
            notification: cause_view(&notification),
            deliveries: deliveries.iter().map(delivery_view).collect(),
            timeline,
            timeline_truncated,
        }
    }

    fn state(
        &self,
        case: &Case,
        running: Option<Running<'_>>,
        rule_entries: &[Entry],
        t: Timestamp,
    ) -> (Option<State>, Cause) {
        let told = cause::state(&case.entries, rule_entries, t);
        match told {
            Some((State::Inactive, cause)) => {
                // Why it ended may not be why it is not there now.
                let lasts = matches!(
                    cause.code,
                    Code::RuleRemoved | Code::LimitExceeded | Code::LabelChurn | Code::Flapping
                );
                let now = running
                    .filter(|_| !lasts)
                    .and_then(|running| self.why_not(case, running, rule_entries, cause.since, t));
                let cause = match now {
                    Some(now) => Cause { text: format!("{}; before that: {}", now.text, cause.text), ..now },
                    None => cause,
                };
                (Some(State::Inactive), cause)
            }
            Some((state, cause)) => (Some(state), cause),
            None if case
                .entries
                .iter()
                .any(|e| e.first <= t && matches!(e.event, Event::Received { .. })) =>
            {
                let (state, cause) = cause::received_state(&case.entries, t)
                    .unwrap_or_else(|| (State::Inactive, Cause::new(Code::Unknown, "nothing was received")));
                (Some(state), cause)
            }
            None => match running {
                Some(running) => (Some(State::Inactive), self.never(case, running, rule_entries, t)),
                None => (None, Cause::new(Code::NoRule, "no alerting rule gives such an alert")),
            },
        }
    }

    /// Why an alert without a state at `t` has none.
    fn never(&self, case: &Case, running: Running<'_>, rule_entries: &[Entry], t: Timestamp) -> Cause {
        if let Some((since, error)) = cause::failure(rule_entries, t) {
            let text = format!("evaluating the rule has failed since {}: {error}", tell::time(since));
            return Cause::new(cause::failure_code(&error), text).since(since);
        }
        let finding = self.ask(case, running, t);
        if finding.code == Code::ExpressionTrue {
            let text = "the expression is true, but the rule has not been evaluated since it is";
            return Cause::new(Code::NotEvaluated, text);
        }
        Cause::new(finding.code, format!("not active: {}", tell::finding(&finding)))
    }

    /// Why an alert that ended at `since` is still not active at `t`, if that is another matter.
    fn why_not(
        &self,
        case: &Case,
        running: Running<'_>,
        rule_entries: &[Entry],
        since: Option<Timestamp>,
        t: Timestamp,
    ) -> Option<Cause> {
        let interval_ms = i64::try_from(running.0.interval.as_millis()).unwrap_or(i64::MAX);
        if since.is_none_or(|since| t.saturating_sub(since) < interval_ms) {
            return None;
        }
        let cause = self.never(case, running, rule_entries, t);
        (!matches!(
            cause.code,
            Code::NotEvaluated | Code::ExpressionFalse | Code::OtherLabels | Code::Unknown
        ))
        .then_some(cause)
    }

    fn ask(&self, case: &Case, (group, rule): Running<'_>, t: Timestamp) -> crate::story::Finding {
        let own = own_labels(&chronicle::of_rule(group, rule).subject);
        let offset_ms = i64::try_from(group.query_offset.as_millis()).unwrap_or(0);
        let own = own.iter().map(String::as_str);
        Inquiry::new(self.engine, self.storage, t - offset_ms, &case.labels, own).why(rule.expr())
    }
}

fn selects(selectors: &[Vec<Matcher>], labels: &Labels) -> bool {
    let passes = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or_default());
    selectors.iter().any(|matchers| matchers.iter().all(passes))
}

/// Whether a rule gives alerts that pass, as far as its name and its plain labels tell.
fn may_give(rule: &Rule, matchers: &[Matcher]) -> bool {
    matchers.iter().any(|m| &*m.name == b"alertname" && m.matches(rule.name().as_bytes()))
        && matchers.iter().all(|m| {
            let text = std::str::from_utf8(&m.name).ok().and_then(|name| rule.spec.labels.get(name));
            text.is_none_or(|text| text.contains("{{") || m.matches(text.as_bytes()))
        })
}

/// The labels that Alertmanagers know an alert by.
fn names(entries: &[Entry]) -> Vec<Labels> {
    let mut found = Vec::new();
    for entry in entries {
        if let Event::KnownAs { labels } = &entry.event
            && !found.contains(labels)
        {
            found.push(labels.clone());
        }
    }
    found
}

/// What of a rule's story belongs into that of its alerts.
fn is_news_of_rule(entry: &Entry) -> bool {
    matches!(entry.event, Event::Failed { .. } | Event::Reloaded { .. })
}

/// The entries within the span, by time, and whether older ones were left out.
fn timeline(mut told: Vec<&Entry>, query: &view::Query) -> (Vec<view::Event>, bool) {
    told.retain(|entry| entry.last >= query.range.mint && entry.first <= query.range.maxt);
    told.sort_by_key(|entry| (entry.first, entry.number));
    let n_left_out = told.len().saturating_sub(query.entries_max);
    let events = told.drain(n_left_out..).map(|entry| view::Event {
        time: tell::time(entry.first),
        until: tell::time(entry.last),
        count: entry.count,
        event: tell::kind(&entry.event),
        code: tell::code(&entry.event).as_str(),
        text: tell::text(&entry.event),
    });
    (events.collect(), n_left_out > 0)
}

fn rule_view(group: &Group, rule: &Rule) -> view::RuleRef {
    let (hold, keep) = match &rule.spec.kind {
        RuleKind::Alerting { hold, keep_firing_for, .. } => (*hold, *keep_firing_for),
        RuleKind::Recording { .. } => Default::default(),
    };
    let subject = &chronicle::of_rule(group, rule).subject;
    view::RuleRef {
        file: subject.label(FILE_LABEL),
        group: subject.label(GROUP_LABEL),
        name: rule.name().to_owned(),
        query: rule.query.clone(),
        duration: hold.as_secs_f64(),
        keep_firing_for: keep.as_secs_f64(),
    }
}

fn cause_view(cause: &Cause) -> view::Cause {
    view::Cause {
        code: cause.code.as_str(),
        text: cause.text.clone(),
        since: cause.since.map(tell::time),
        next: cause.next.map(tell::time),
    }
}

fn delivery_view(delivery: &Delivery) -> view::Delivery {
    view::Delivery {
        to: delivery.to.clone(),
        group: delivery.group.clone(),
        cause: cause_view(&delivery.cause),
        message: delivery.message.clone(),
    }
}

#[cfg(test)]
mod tests;
