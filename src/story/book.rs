//! All stories: notes become entries here, in memory for what is recent and in the archive for the rest.
//!
//! Sync and without a clock: every note carries its time. Entries of a track that say the same are one entry,
//! written when it begins, when it is closed and at checkpoints in between.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use model::{Labels, TimeRange, Timestamp};

use super::archive::Archive;
use super::code::Code;
use super::event::{Entry, Event, Finding, State, Text, Track};
use super::note::{Evaluation, Handed, Note, Rule, Seen};
use super::subject::{Id, Subject};
use super::{Investigator, Question};

/// The most entries of one story in memory; a story of more is read from the archive.
const STORY_ENTRIES_MAX: usize = 500;
/// The most alerts of one evaluation whose end is looked into.
const QUESTIONS_MAX: usize = 10;
/// The most alerts that begin or end in one evaluation among which label churn is looked for.
const CHURN_MAX: usize = 200;
/// An alert that begins so soon after its `for` was reset is told to begin again, in ms.
const RESET_MEMORY_MS: i64 = 3_600_000;
/// An alert whose start lies so far ahead comes from a clock that is wrong, in ms.
const SKEW_MS: i64 = 30_000;

pub(super) struct Book {
    stories: HashMap<Id, Story>,
    rules: HashMap<Id, Members>,
    /// The rules' alerts behind the labels that Alertmanagers know.
    origins: HashMap<Id, Vec<Id>>,
    archive: Option<Archive>,
    next_number: u64,
    n_entries: usize,
    entries_max: usize,
    /// Memory holds everything that happened since.
    complete_from: Timestamp,
    /// The archive could not be written when it was last tried.
    pub(super) failed: Option<String>,
}

struct Story {
    subject: Arc<Subject>,
    lines: VecDeque<Line>,
    /// The newest entry of each track, by number.
    open: HashMap<Track, u64>,
    touched: Timestamp,
    /// It was read from the archive and nothing has been heard of its subject since.
    is_from_before: bool,
}

struct Line {
    entry: Entry,
    /// The count that the archive has.
    saved: u64,
}

/// The active alerts of a rule after its last evaluation.
struct Members {
    rule: Arc<Rule>,
    alerts: BTreeSet<Id>,
}

/// A story as it is told.
#[derive(Clone, Debug)]
pub struct Tale {
    pub subject: Arc<Subject>,
    /// In order of their numbers.
    pub entries: Vec<Entry>,
}

impl Book {
    /// Opens the book on what `archive` remembers.
    pub(super) fn open(archive: Option<Archive>, entries_max: usize) -> std::io::Result<Self> {
        let mut book = Self {
            stories: HashMap::new(),
            rules: HashMap::new(),
            origins: HashMap::new(),
            next_number: 1,
            n_entries: 0,
            entries_max,
            complete_from: Timestamp::MIN,
            failed: None,
            archive: None,
        };
        if let Some(archive) = archive {
            let (lines, is_all) = archive.read_newest(entries_max / 2)?;
            if !is_all {
                book.complete_from =
                    lines.iter().map(|(_, entry)| entry.first).min().unwrap_or(Timestamp::MAX);
            }
            for (subject, entry) in lines {
                book.recall(subject, entry);
            }
            book.settle_recalled();
            book.archive = Some(archive);
        }
        Ok(book)
    }

    /// Takes back an entry from the archive, in any order; a later version replaces an earlier one.
    fn recall(&mut self, subject: Arc<Subject>, entry: Entry) {
        self.next_number = self.next_number.max(entry.number + 1);
        let story = self.stories.entry(subject.id()).or_insert_with(|| Story::new(subject));
        let saved = entry.count;
        let line = Line { entry, saved };
        let at = story.lines.partition_point(|known| known.entry.number < line.entry.number);
        match story.lines.get_mut(at) {
            Some(known) if known.entry.number == line.entry.number => *known = line,
            _ => {
                story.lines.insert(at, line);
                self.n_entries += 1;
            }
        }
    }

    fn settle_recalled(&mut self) {
        for (id, story) in &mut self.stories {
            story.is_from_before = true;
            for line in &story.lines {
                story.touched = story.touched.max(line.entry.last);
                story.open.insert(line.entry.event.track(), line.entry.number);
                if matches!(line.entry.event, Event::Ended { .. }) {
                    story.open.remove(&Track::Values);
                }
                if let Event::KnownAs { labels } = &line.entry.event {
                    link(&mut self.origins, Subject::alert(labels).id(), *id);
                }
            }
            while story.lines.len() > STORY_ENTRIES_MAX {
                if let Some(line) = story.lines.pop_front() {
                    self.complete_from = self.complete_from.max(line.entry.last + 1);
                    self.n_entries -= 1;
                }
            }
        }
    }

    // === Notes ===

    pub(super) fn apply(&mut self, note: Note, investigate: Option<&Investigator>) {
        match note {
            Note::Evaluated(evaluation) => self.evaluated(&evaluation, investigate),
            Note::Rule { at, rule, code, what } => self.reloaded(at, &rule, code, &what),
            Note::Handed { at, alerts } => alerts.into_iter().for_each(|handed| self.handed(at, handed)),
            Note::Posted { at, to, alerts, code, error } => {
                for labels in alerts {
                    let event = Event::Posted { to: Arc::clone(&to), code, error: Arc::clone(&error) };
                    self.push(&Subject::alert(&labels), at, event);
                }
            }
            Note::Received { at, labels, starts_at, ends_at, is_timeout } => {
                let code = self.received_as(&labels, at, starts_at, ends_at);
                let event = Event::Received { starts_at, ends_at, is_timeout, code };
                self.push(&Subject::alert(&labels), at, event);
            }
            Note::Grouped { at, alert, group, receiver, due, code } => {
                self.push_known(alert, at, Event::Grouped { group, receiver, due, code });
            }
            Note::Flushed { at, group, receiver, next, alerts } => {
                for flushed in alerts {
                    let (group, receiver) = (Arc::clone(&group), Arc::clone(&receiver));
                    let (is_resolved, verdict) = (flushed.is_resolved, flushed.verdict);
                    let event = Event::Flushed { group, receiver, is_resolved, verdict, next };
                    self.push_known(flushed.alert, at, event);
                }
            }
            Note::Told { at, group, receiver, integration, alerts, telling } => {
                for &alert in alerts.iter() {
                    let event = Event::Told {
                        group: Arc::clone(&group),
                        receiver: Arc::clone(&receiver),
                        integration: Arc::clone(&integration),
                        telling: telling.clone(),
                    };
                    self.push_known(alert, at, event);
                }
            }
            Note::Server { at, code, detail } => {
                self.push(&Subject::server(), at, Event::Server { code, detail });
            }
        }
    }

    fn evaluated(&mut self, evaluation: &Evaluation, investigate: Option<&Investigator>) {
        let rule = &evaluation.rule;
        let at = evaluation.at;
        let n_active = evaluation.alerts.iter().filter(|seen| seen.state != State::Inactive).count() as u64;
        let event = match &evaluation.error {
            Some(error) => Event::Failed { error: Arc::clone(error) },
            None => Event::Evaluated { low: n_active, high: n_active },
        };
        self.push(&rule.subject, at, event);

        let seen: HashMap<Id, (Subject, &Seen)> = evaluation
            .alerts
            .iter()
            .map(|seen| {
                let subject = Subject::alert(&seen.labels);
                (subject.id(), (subject, seen))
            })
            .collect();
        let before = match self.rules.remove(&rule.id) {
            Some(members) => members.alerts,
            None => self.members_from_before(rule),
        };
        let is_active = |id: &Id| seen.get(id).is_some_and(|(_, seen)| seen.state != State::Inactive);
        let lost: Vec<Id> = before.iter().copied().filter(|id| !is_active(id)).collect();
        let fresh: Vec<Id> =
            seen.keys().copied().filter(|id| is_active(id) && !before.contains(id)).collect();
        let churn = self.churn(&lost, &fresh, &seen);

        let mut n_questions = 0;
        let mut ask = |labels: &Labels| {
            n_questions += 1;
            let question =
                Question { rule, labels, query_at: evaluation.query_at, hold_ms: evaluation.hold_ms };
            let answer = investigate.filter(|_| n_questions <= QUESTIONS_MAX).and_then(|ask| ask(&question));
            answer.unwrap_or_else(|| Finding::new(Code::ExpressionFalse).of(Arc::clone(&rule.expr)))
        };
        for id in lost {
            let Some(subject) = self.stories.get(&id).map(|story| Arc::clone(&story.subject)) else {
                continue;
            };
            let why = match (&evaluation.error, churn.get(&id)) {
                (Some(error), _) if error.starts_with("exceeded limit") => {
                    Finding::new(Code::LimitExceeded).of(Arc::clone(error))
                }
                (Some(error), _) => Finding::new(Code::RuleError).of(Arc::clone(error)),
                (None, Some(other)) => Finding::new(Code::LabelChurn).with_labels(other.to_string()),
                (None, None) => ask(&subject.labels),
            };
            self.end(&subject, at, evaluation.hold_ms, why);
        }
        let mut alerts = BTreeSet::new();
        for (id, (subject, seen)) in &seen {
            if seen.state == State::Inactive {
                continue;
            }
            alerts.insert(*id);
            self.begin_if_news(*id, subject, seen, evaluation, churn.get(id));
            if evaluation.error.is_none() {
                let event = match seen.keep_firing_since {
                    None => Event::Held { low: seen.value, high: seen.value, value: seen.value },
                    Some(since) => {
                        let until = since.saturating_add(evaluation.keep_ms);
                        let why = self.kept_because(*id, until).unwrap_or_else(|| ask(&seen.labels));
                        Event::Kept { until, why }
                    }
                };
                self.push(subject, at, event);
            }
        }
        self.rules.insert(rule.id, Members { rule: Arc::clone(rule), alerts });
    }

    /// The alerts that were active before a restart and look like the rule's.
    fn members_from_before(&self, rule: &Rule) -> BTreeSet<Id> {
        let texts: Vec<_> = rule
            .subject
            .labels
            .iter()
            .filter(|(name, value)| !name.starts_with(b"__") && !value.windows(2).any(|w| w == b"{{"))
            .collect();
        let is_like = |subject: &Subject| {
            subject.kind == super::subject::Kind::Alert
                && texts.iter().all(|(name, value)| subject.labels.get(name).unwrap_or_default() == *value)
        };
        let stories =
            self.stories.iter().filter(|(_, story)| story.is_from_before && is_like(&story.subject));
        stories
            .filter(|(_, story)| story.state().is_some_and(|(state, _)| state != State::Inactive))
            .map(|(&id, _)| id)
            .collect()
    }

    /// Alerts that ended and alerts that began at one evaluation, where they differ in few values only: each
    /// with the labels of the other.
    fn churn(&self, lost: &[Id], fresh: &[Id], seen: &HashMap<Id, (Subject, &Seen)>) -> HashMap<Id, Labels> {
        let mut found = HashMap::new();
        if lost.len() > CHURN_MAX || fresh.len() > CHURN_MAX {
            return found;
        }
        for new in fresh {
            let Some((subject, _)) = seen.get(new) else { continue };
            let is_free = |id: &&Id| !found.contains_key(*id);
            let old = lost.iter().filter(is_free).find_map(|id| {
                let labels = &self.stories.get(id)?.subject.labels;
                is_similar(labels, &subject.labels).then(|| (*id, labels.clone()))
            });
            if let Some((id, labels)) = old {
                found.insert(id, subject.labels.clone());
                found.insert(*new, labels);
            }
        }
        found
    }

    fn begin_if_news(
        &mut self,
        id: Id,
        subject: &Subject,
        seen: &Seen,
        evaluation: &Evaluation,
        churn: Option<&Labels>,
    ) {
        let story = self.stories.get(&id);
        let past = story.and_then(Story::state);
        let is_from_before = story.is_some_and(|story| story.is_from_before);
        let was_reset = story.is_some_and(|story| story.was_reset_since(evaluation.at - RESET_MEMORY_MS));
        let none: Text = Arc::from("");
        let (because, detail) = match past {
            Some((State::Firing, _)) if seen.state == State::Pending && !is_from_before => {
                (Code::ForChanged, none)
            }
            Some((State::Pending, active_at))
                if seen.state == State::Firing && active_at == seen.active_at =>
            {
                (Code::ForReached, none)
            }
            Some((state, active_at)) if state != State::Inactive => match (is_from_before, active_at) {
                (true, t) if t == seen.active_at => (Code::Restored, none),
                (true, _) => (Code::Restarted, Arc::from(state.as_str())),
                (false, t) if t != seen.active_at => (Code::Restored, none),
                (false, _) if state != seen.state => (Code::ForReached, none),
                (false, _) => return,
            },
            _ => match churn {
                Some(other) => (Code::LabelChurn, Arc::from(other.to_string())),
                None if was_reset => (Code::ForReset, none),
                None => (Code::ExpressionTrue, none),
            },
        };
        let event = Event::Began {
            state: seen.state,
            active_at: seen.active_at,
            hold_ms: evaluation.hold_ms,
            value: seen.value,
            because,
            detail,
        };
        self.push(subject, evaluation.at, event);
    }

    fn kept_because(&self, id: Id, until: Timestamp) -> Option<Finding> {
        match self.stories.get(&id)?.newest(&Track::Values)? {
            Entry { event: Event::Kept { until: known, why }, .. } if *known == until => Some(why.clone()),
            _ => None,
        }
    }

    fn end(&mut self, subject: &Subject, at: Timestamp, hold_ms: i64, why: Finding) {
        let past = self.stories.get(&subject.id()).and_then(Story::state);
        let Some((was, active_at)) = past.filter(|(state, _)| *state != State::Inactive) else { return };
        let active_ms = at.saturating_sub(active_at);
        self.push(subject, at, Event::Ended { was, active_ms, hold_ms, why });
        // The values of the next life are a run of their own.
        let Some(story) = self.stories.get_mut(&subject.id()) else { return };
        if let Some(number) = story.open.remove(&Track::Values)
            && let Some(line) = story.line(number)
            && line.saved != line.entry.count
        {
            line.saved = line.entry.count;
            let entry = line.entry.clone();
            Self::save(self.archive.as_mut(), &mut self.failed, subject, &entry);
        }
    }

    fn reloaded(&mut self, at: Timestamp, rule: &Rule, code: Code, what: &Text) {
        self.push(&rule.subject, at, Event::Reloaded { code, what: Arc::clone(what) });
        if code != Code::RuleRemoved {
            return;
        }
        for id in self.rules.remove(&rule.id).into_iter().flat_map(|members| members.alerts) {
            let Some(subject) = self.stories.get(&id).map(|story| Arc::clone(&story.subject)) else {
                continue;
            };
            self.end(&subject, at, 0, Finding::new(Code::RuleRemoved).of(Arc::clone(what)));
        }
    }

    fn handed(&mut self, at: Timestamp, handed: Handed) {
        let subject = Subject::alert(&handed.from);
        let id = subject.id();
        match handed.to {
            Some(to) if handed.code == Code::Queued => {
                if to != handed.from {
                    link(&mut self.origins, Subject::alert(&to).id(), id);
                    self.push(&subject, at, Event::KnownAs { labels: to });
                }
                // That it goes on is worth a word only where it had been stopped.
                let stopped = self.stories.get(&id).and_then(|story| story.newest(&Track::Hand));
                if stopped.is_some() {
                    self.push(&subject, at, Event::Stopped { code: Code::Queued, by: handed.by });
                }
            }
            _ => self.push(&subject, at, Event::Stopped { code: handed.code, by: handed.by }),
        }
    }

    fn received_as(&self, labels: &Labels, at: Timestamp, starts_at: Timestamp, ends_at: Timestamp) -> Code {
        let story = self.stories.get(&Subject::alert(labels).id());
        let past = story.and_then(|story| story.newest(&Track::Received)).map(|entry| &entry.event);
        let was_firing = matches!(past, Some(Event::Received { code: Code::ExpressionTrue, .. }));
        if ends_at <= at {
            let is_ours = story.is_some_and(|story| story.newest(&Track::State).is_some());
            if was_firing || is_ours { Code::Resolved } else { Code::ClockSkew }
        } else if starts_at > at + SKEW_MS {
            Code::ClockSkew
        } else {
            Code::ExpressionTrue
        }
    }

    // === Entries ===

    fn push_known(&mut self, id: Id, at: Timestamp, event: Event) {
        if let Some(subject) = self.stories.get(&id).map(|story| Arc::clone(&story.subject)) {
            self.push(&subject, at, event);
        }
    }

    fn push(&mut self, subject: &Subject, at: Timestamp, event: Event) {
        let id = subject.id();
        let story = self.stories.entry(id).or_insert_with(|| Story::new(Arc::new(subject.clone())));
        story.touched = story.touched.max(at);
        let track = event.track();
        if matches!(track, Track::State | Track::Values) {
            story.is_from_before = false;
        }
        let mut news = Some(event);
        if let Some(line) = story.open.get(&track).copied().and_then(|number| story.line(number)) {
            news = news.and_then(|event| line.entry.event.absorb(event));
            if news.is_none() {
                line.entry.last = line.entry.last.max(at);
                line.entry.count += 1;
                return;
            }
            if line.saved != line.entry.count {
                line.saved = line.entry.count;
                let entry = line.entry.clone();
                Self::save(self.archive.as_mut(), &mut self.failed, subject, &entry);
            }
        }
        let Some(event) = news else { return };
        let entry = Entry { number: self.next_number, first: at, last: at, count: 1, event };
        self.next_number += 1;
        Self::save(self.archive.as_mut(), &mut self.failed, subject, &entry);
        let Some(story) = self.stories.get_mut(&id) else { return };
        story.open.insert(track, entry.number);
        story.lines.push_back(Line { entry, saved: 1 });
        self.n_entries += 1;
        if story.lines.len() > STORY_ENTRIES_MAX
            && let Some(line) = story.lines.pop_front()
        {
            self.n_entries -= 1;
            self.complete_from = self.complete_from.max(line.entry.last + 1);
            if line.saved != line.entry.count {
                Self::save(self.archive.as_mut(), &mut self.failed, subject, &line.entry);
            }
        }
    }

    fn save(archive: Option<&mut Archive>, failed: &mut Option<String>, subject: &Subject, entry: &Entry) {
        if let Some(archive) = archive
            && let Err(e) = archive.append(subject, entry)
        {
            *failed = Some(e.to_string());
        }
    }

    /// Writes what was noted to the archive's file.
    pub(super) fn flush(&mut self) {
        if let Some(archive) = &mut self.archive {
            let outcome = archive.flush();
            self.note_outcome(outcome);
        }
    }

    fn note_outcome(&mut self, outcome: std::io::Result<()>) {
        match outcome {
            Ok(()) => self.failed = None,
            Err(e) => {
                if self.failed.is_none() {
                    tracing::error!(error = %e, "writing the stories of alerts failed");
                }
                self.failed = Some(e.to_string());
            }
        }
    }

    /// Writes the newest version of every entry that has grown since it was written.
    pub(super) fn checkpoint(&mut self) {
        for story in self.stories.values_mut() {
            for line in story.lines.iter_mut().filter(|line| line.saved != line.entry.count) {
                line.saved = line.entry.count;
                Self::save(self.archive.as_mut(), &mut self.failed, &story.subject, &line.entry);
            }
        }
        self.flush();
        if let Some(archive) = &mut self.archive {
            let outcome = archive.sync();
            self.note_outcome(outcome);
        }
    }

    /// Forgets in memory what is too much, the longest untouched first, and lets the archive clean up.
    pub(super) fn maintain(&mut self, now: Timestamp) {
        self.forget();
        if let Some(archive) = &mut self.archive {
            let outcome = archive.maintain(now);
            self.note_outcome(outcome);
        }
    }

    fn forget(&mut self) {
        if self.n_entries <= self.entries_max {
            return;
        }
        let active: HashSet<Id> =
            self.rules.values().flat_map(|members| members.alerts.iter().copied()).collect();
        let mut order: Vec<_> =
            self.stories.iter().map(|(&id, story)| (active.contains(&id), story.touched, id)).collect();
        order.sort_unstable();
        let mut gone = HashSet::new();
        for (_, touched, id) in order {
            if self.n_entries <= self.entries_max / 10 * 9 {
                break;
            }
            let Some(story) = self.stories.remove(&id) else { continue };
            self.n_entries -= story.lines.len();
            self.complete_from = self.complete_from.max(touched + 1);
            for line in story.lines.iter().filter(|line| line.saved != line.entry.count) {
                Self::save(self.archive.as_mut(), &mut self.failed, &story.subject, &line.entry);
            }
            gone.insert(id);
        }
        self.origins.retain(|_, from| {
            from.retain(|origin| !gone.contains(origin));
            !from.is_empty()
        });
    }

    // === Telling ===

    /// The stories of the subjects that `wanted` admits, by kind and labels: all that is in memory, and what touches
    /// `range` from the archive.
    pub(super) fn tell(
        &mut self,
        range: TimeRange,
        wanted: &dyn Fn(&Subject) -> bool,
    ) -> std::io::Result<Vec<Tale>> {
        let mut found: HashMap<Id, (Arc<Subject>, HashMap<u64, Entry>)> = HashMap::new();
        let mut take = |subject: &Arc<Subject>, entry: Entry| {
            let (_, entries) =
                found.entry(subject.id()).or_insert_with(|| (Arc::clone(subject), HashMap::new()));
            entries.insert(entry.number, entry);
        };
        if range.mint < self.complete_from
            && let Some(archive) = &mut self.archive
        {
            archive.read(range, &mut |subject, entry| {
                if entry.last >= range.mint && entry.first <= range.maxt && wanted(subject) {
                    take(subject, entry);
                }
            })?;
        }
        for story in self.stories.values().filter(|story| wanted(&story.subject)) {
            story.lines.iter().for_each(|line| take(&story.subject, line.entry.clone()));
        }
        let mut tales: Vec<_> = found
            .into_values()
            .map(|(subject, entries)| {
                let mut entries: Vec<_> = entries.into_values().collect();
                entries.sort_unstable_by_key(|entry| entry.number);
                Tale { subject, entries }
            })
            .collect();
        tales.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        Ok(tales)
    }

    /// The alerts of rules that Alertmanagers know by these labels.
    pub(super) fn origins(&self, id: Id) -> Vec<Id> {
        self.origins.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn rule_of(&self, id: Id) -> Option<Arc<Rule>> {
        self.rules
            .values()
            .find(|members| members.alerts.contains(&id))
            .map(|members| Arc::clone(&members.rule))
    }

    pub(super) fn sizes(&self) -> (usize, usize, u64) {
        (self.stories.len(), self.n_entries, self.archive.as_ref().map_or(0, Archive::bytes))
    }
}

fn link(origins: &mut HashMap<Id, Vec<Id>>, to: Id, from: Id) {
    /// More alerts than this under one set of labels say nothing more.
    const ORIGINS_MAX: usize = 16;
    let known = origins.entry(to).or_default();
    if !known.contains(&from) && known.len() < ORIGINS_MAX {
        known.push(from);
    }
}

/// Whether the sets have the same names and differ in some values, but not in most.
fn is_similar(a: &Labels, b: &Labels) -> bool {
    if a.len() != b.len() || a.iter().zip(b).any(|((x, _), (y, _))| x != y) {
        return false;
    }
    let n_different = a.iter().zip(b).filter(|((_, x), (_, y))| x != y).count();
    let is_name_equal = a.get(b"alertname") == b.get(b"alertname");
    is_name_equal && n_different > 0 && n_different * 2 <= a.len()
}

impl Story {
    fn new(subject: Arc<Subject>) -> Self {
        Self {
            subject,
            lines: VecDeque::new(),
            open: HashMap::new(),
            touched: Timestamp::MIN,
            is_from_before: false,
        }
    }

    fn line(&mut self, number: u64) -> Option<&mut Line> {
        let at = self.lines.partition_point(|line| line.entry.number < number);
        self.lines.get_mut(at).filter(|line| line.entry.number == number)
    }

    fn newest(&self, track: &Track) -> Option<&Entry> {
        let number = *self.open.get(track)?;
        let at = self.lines.partition_point(|line| line.entry.number < number);
        self.lines.get(at).map(|line| &line.entry).filter(|entry| entry.number == number)
    }

    /// The state by what was told last, and since when the alert is active.
    fn state(&self) -> Option<(State, Timestamp)> {
        match &self.newest(&Track::State)?.event {
            Event::Began { state, active_at, .. } => Some((*state, *active_at)),
            _ => Some((State::Inactive, 0)),
        }
    }

    fn was_reset_since(&self, t: Timestamp) -> bool {
        self.newest(&Track::State).is_some_and(|entry| {
            entry.first >= t && matches!(entry.event, Event::Ended { was: State::Pending, .. })
        })
    }
}
