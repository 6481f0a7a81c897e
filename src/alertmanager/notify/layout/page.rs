//! What a mail says, before it is HTML or text: every string final but for escaping, every list cut.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use config::alertmanager::Email;
use config::template::notification::Alert;
use jiff::Timestamp;

use super::markup::{self, Line};
use super::words::{self, Clock};
use super::{UNIT, spark};
use crate::alertmanager::alert::LabelSet;
use crate::alertmanager::insight::{Facts, Findings, History};
use crate::alertmanager::links::{Length, Silencing};
use crate::alertmanager::notify::{Message, group_key_hash};
use crate::chart::Bad;

const SUMMARY_CHARS_MAX: usize = 400;
const DESCRIPTION_CHARS_MAX: usize = 4_000;
const ANNOTATION_CHARS_MAX: usize = 600;
const ANNOTATIONS_MAX: usize = 12;
const LABELS_MAX: usize = 30;
const ROW_LABELS_MAX: usize = 8;
const VALUE_CHARS_MAX: usize = 120;
const SUBJECT_CHARS_MAX: usize = 180;
/// Groups of what does not fit into a table.
const HIDDEN_GROUPS_MAX: usize = 6;
const RELATED_MAX: usize = 5;
const SPARK_CHARS: usize = 12;
/// Where a template of a rule failed, its text begins with this. Compat: prometheus `rules`, `AlertingRule.Eval`.
const FAILED_TEMPLATE: &str = "<error expanding template:";

/// How bad it is, which is also the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    Resolved,
    Info,
    Warning,
    /// Something fires and does not say how bad it is.
    Unknown,
    Critical,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) subject: String,
    pub(super) preheader: String,
    pub(super) tone: Tone,
    /// Nothing fires any more.
    pub(super) is_over: bool,
    /// `3 firing, 1 resolved`.
    pub(super) status: String,
    pub(super) severity: Option<String>,
    pub(super) name: String,
    /// The labels of the group without the name.
    pub(super) scope: Vec<(String, String)>,
    pub(super) summary: Vec<Line>,
    /// That there are alerts with other summaries.
    pub(super) others: Option<String>,
    pub(super) description: Vec<Line>,
    pub(super) notices: Vec<String>,
    pub(super) facts: Vec<Fact>,
    pub(super) links: Vec<Link>,
    pub(super) silences: Vec<Link>,
    pub(super) graphs: Vec<Graph>,
    pub(super) firing: Table,
    pub(super) resolved: Table,
    pub(super) labels: Vec<(String, String)>,
    pub(super) annotations: Vec<(String, Vec<Line>)>,
    pub(super) history: Option<String>,
    pub(super) related: Vec<Related>,
    pub(super) footer: Vec<(&'static str, String)>,
    pub(super) all_alerts: Option<String>,
    /// Who sends this.
    pub(super) sender: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    pub(super) text: &'static str,
    pub(super) url: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Graph {
    pub(super) cid: String,
    pub(super) alt: String,
    /// What is plotted, as a query, where that is not the same as above.
    pub(super) subject: Option<String>,
    pub(super) of: String,
    pub(super) url: Option<String>,
    pub(super) spark: String,
    pub(super) n_neighbours: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    /// What is not shown, in words.
    pub(super) rest: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The labels in which it differs from the others.
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: String,
    pub(super) note: String,
    pub(super) spark: String,
    pub(super) silence: Option<String>,
    pub(super) query: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Related {
    pub(super) name: String,
    pub(super) shared: String,
    pub(super) since: String,
}

/// The order in which alerts are shown, as places in the message: what fires, the worst and longest first.
pub(super) fn order(alerts: &[Alert]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..alerts.len()).collect();
    order.sort_by_key(|&i| {
        let alert = &alerts[i];
        (alert.is_resolved, Reverse(tone_of(alert.labels.get("severity"))), alert.starts_at, i)
    });
    order
}

fn tone_of(severity: Option<&String>) -> Tone {
    match severity.map(|severity| severity.to_lowercase()).as_deref() {
        Some(
            "critical" | "crit" | "page" | "emergency" | "fatal" | "disaster" | "high" | "error" | "p0"
            | "p1" | "sev1",
        ) => Tone::Critical,
        Some(
            "warning" | "warn" | "ticket" | "major" | "minor" | "medium" | "average" | "p2" | "p3" | "sev2"
            | "sev3",
        ) => Tone::Warning,
        Some(
            "info" | "information" | "informational" | "notice" | "low" | "none" | "debug" | "p4" | "p5",
        ) => Tone::Info,
        _ => Tone::Unknown,
    }
}

/// What all parts of a page are made from.
struct Maker<'m> {
    config: &'m Email,
    message: &'m Message<'m>,
    findings: &'m Findings,
    clock: Clock,
    order: Vec<usize>,
}

impl Page {
    /// The page with at most `n_rows` rows in each table; `charted` alerts have an image each.
    pub(super) fn new(
        config: &Email,
        message: &Message<'_>,
        findings: &Findings,
        charted: &[usize],
        n_rows: usize,
    ) -> Self {
        let order = order(&message.data.alerts);
        let clock = Clock { now: message.now, zone: words::zone(&config.extensions.timezone) };
        Maker { config, message, findings, clock, order }.page(charted, n_rows)
    }
}

impl Maker<'_> {
    fn page(&self, charted: &[usize], n_rows: usize) -> Page {
        let data = &self.message.data;
        let (firing, resolved): (Vec<usize>, Vec<usize>) =
            self.order.iter().partition(|&&i| !data.alerts[i].is_resolved);
        let tones = firing.iter().map(|&i| tone_of(data.alerts[i].labels.get("severity")));
        let is_lost = firing.is_empty() && resolved.iter().all(|i| self.lost(*i).is_some());
        let status = if is_lost { "Over, no data".to_owned() } else { status(firing.len(), resolved.len()) };
        // Nobody knows whether it is well: that is no reason for green.
        let calm = if is_lost { Tone::Warning } else { Tone::Resolved };
        let name = self.name();
        let is_single = data.alerts.len() == 1;
        let table = |alerts: &[usize]| if is_single { Table::default() } else { self.table(alerts, n_rows) };
        let lead = self.order.first().copied();
        Page {
            subject: self.subject(&name),
            preheader: self.preheader(&firing, &resolved),
            tone: tones.max().unwrap_or(calm),
            is_over: firing.is_empty(),
            status,
            severity: self.severity(),
            scope: self.scope(),
            summary: self.annotation(lead, "summary", SUMMARY_CHARS_MAX),
            others: self.others(),
            description: self.annotation(lead, "description", DESCRIPTION_CHARS_MAX),
            notices: self.notices(),
            facts: self.facts(&firing, &resolved),
            links: self.links(lead),
            silences: if firing.is_empty() { Vec::new() } else { self.silences() },
            graphs: self.graphs(charted),
            firing: table(&firing),
            resolved: table(&resolved),
            labels: self.labels(is_single),
            annotations: self.annotations(lead),
            history: self.findings.history.as_ref().map(|history| self.history(history)),
            related: self.related(),
            footer: self.footer(),
            all_alerts: self.all_alerts(),
            sender: self.sender(),
            name,
        }
    }

    // === What it is about ===

    fn name(&self) -> String {
        let data = &self.message.data;
        let name = data.group_labels.get("alertname").or_else(|| data.common_labels.get("alertname"));
        if let Some(name) = name {
            return words::line(name, VALUE_CHARS_MAX);
        }
        let names: BTreeSet<_> =
            data.alerts.iter().filter_map(|alert| alert.labels.get("alertname")).collect();
        match names.first() {
            Some(first) if names.len() > 1 => {
                format!("{} and {}", words::line(first, 60), words::count(names.len() - 1, "other alert"))
            }
            Some(first) => words::line(first, VALUE_CHARS_MAX),
            None => "Alerts".to_owned(),
        }
    }

    fn scope(&self) -> Vec<(String, String)> {
        shown(&self.message.data.group_labels, LABELS_MAX, |name| name == "alertname")
    }

    fn severity(&self) -> Option<String> {
        let severity = self.message.data.common_labels.get("severity");
        severity.map(|severity| words::line(severity, 24)).filter(|severity| !severity.is_empty())
    }

    /// The same for all mails of a life of the group: readers thread by it. What changes is in the preheader.
    fn subject(&self, name: &str) -> String {
        let data = &self.message.data;
        // A name that is not the group's may not be the only one in the next mail.
        let mut parts = Vec::new();
        if data.group_labels.contains_key("alertname") || data.group_labels.is_empty() {
            parts.push(name.to_owned());
        } else {
            parts.extend(data.common_labels.get("alertname").map(|name| words::line(name, 80)));
        }
        parts.extend(self.scope().into_iter().map(|(_, value)| value));
        if parts.is_empty() {
            parts.push(name.to_owned());
        }
        let mut subject = words::line(&parts.join(" "), SUBJECT_CHARS_MAX);
        if let Some(severity) = self.severity()
            && !data.group_labels.contains_key("severity")
        {
            subject = format!("{subject} ({severity})");
        }
        subject
    }

    /// The line that lists of mails show behind the subject.
    fn preheader(&self, firing: &[usize], resolved: &[usize]) -> String {
        let alerts = &self.message.data.alerts;
        let mut parts = Vec::new();
        if firing.is_empty() {
            let ended = resolved.iter().filter_map(|&i| alerts[i].ends_at).max();
            let is_lost = !resolved.is_empty() && resolved.iter().all(|i| self.lost(*i).is_some());
            parts.push(if is_lost {
                "NO DATA".to_owned()
            } else if resolved.len() == 1 {
                "RESOLVED".to_owned()
            } else {
                format!("RESOLVED {}", resolved.len())
            });
            if let (Some(ended), Some(begun)) = (ended, resolved.iter().map(|&i| alerts[i].starts_at).min()) {
                parts.push(format!("at {} after {}", self.clock.short(ended), words::span(begun, ended)));
            }
        } else {
            parts.push(format!("FIRING {}", firing.len()));
            if let Some(begun) = firing.iter().map(|&i| alerts[i].starts_at).min() {
                parts.push(format!("since {} ({})", self.clock.short(begun), self.clock.ago(begun)));
            }
        }
        if let Some((_, facts)) = self.worst(if firing.is_empty() { resolved } else { firing })
            && let Some(value) = facts.value
        {
            let threshold = facts.threshold.as_ref().filter(|_| !firing.is_empty());
            let limit =
                threshold.map(|limit| format!(" {} {}", limit.operator, facts.unit.show(limit.value)));
            parts.push(format!("{}{}", facts.unit.show(value), limit.unwrap_or_default()));
        }
        parts.join(" · ")
    }

    /// An annotation that all alerts share, else that of the one shown first.
    fn annotation(&self, lead: Option<usize>, name: &str, max: usize) -> Vec<Line> {
        let data = &self.message.data;
        let own = || lead.and_then(|i| data.alerts[i].annotations.get(name));
        let text = data.common_annotations.get(name).or_else(own);
        text.map(|text| markup::parse(&words::paragraph(&readable(text), max))).unwrap_or_default()
    }

    fn others(&self) -> Option<String> {
        let data = &self.message.data;
        let is_shared = data.common_annotations.contains_key("summary");
        let has_own = data.alerts.iter().any(|alert| alert.annotations.contains_key("summary"));
        (has_own && !is_shared && data.alerts.len() > 1)
            .then(|| format!("and {} below", words::count(data.alerts.len() - 1, "more alert")))
    }

    /// Since when an alert that is over has had no data.
    fn lost(&self, i: usize) -> Option<Timestamp> {
        let facts = self.findings.alerts.get(&i)?;
        let is_over = self.message.data.alerts.get(i)?.is_resolved;
        facts.lost_since.filter(|_| is_over && !facts.is_absence)
    }

    fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        let alerts = &self.message.data.alerts;
        let lost: Vec<_> = (0..alerts.len()).filter_map(|i| self.lost(i)).collect();
        if let Some(since) = lost.iter().min() {
            let which = if alerts.len() == 1 { "This alert is" } else { "Some alerts are" };
            notices.push(format!(
                "No data since {}. {which} over because the data is gone; nobody knows whether it is well again.",
                self.clock.short(*since)
            ));
        }
        notices.extend(self.findings.notes.iter().map(|note| words::line(note, 200)));
        notices
    }

    // === Facts ===

    fn worst(&self, of: &[usize]) -> Option<(usize, &Facts)> {
        let known = of.iter().filter_map(|i| Some((*i, self.findings.alerts.get(i)?)));
        let badness = |facts: &Facts| match (&facts.threshold, facts.value) {
            (Some(limit), Some(value)) if limit.bad == Bad::Below => limit.value - value,
            (Some(limit), Some(value)) => value - limit.value,
            (None, Some(_)) => 0.0,
            (_, None) => f64::NEG_INFINITY,
        };
        known.max_by(|a, b| badness(a.1).total_cmp(&badness(b.1)).then(b.0.cmp(&a.0)))
    }

    fn facts(&self, firing: &[usize], resolved: &[usize]) -> Vec<Fact> {
        let alerts = &self.message.data.alerts;
        let mut facts = Vec::new();
        let begun = |of: &[usize]| of.iter().map(|&i| alerts[i].starts_at).min();
        if let Some(since) = begun(firing) {
            facts.push(fact("Firing since", self.clock.short(since), self.clock.day(since)));
            let pending = firing.first().and_then(|i| self.findings.alerts.get(i)).and_then(pending);
            facts.push(fact("For", self.clock.ago(since), pending.unwrap_or_default()));
        } else if let Some(since) = begun(resolved)
            && let Some(ended) = resolved.iter().filter_map(|&i| alerts[i].ends_at).max()
        {
            facts.push(fact("Resolved", self.clock.short(ended), self.clock.day(ended)));
            facts.push(fact(
                "Fired for",
                words::span(since, ended),
                format!("since {}", self.clock.short(since)),
            ));
        }
        let of = if firing.is_empty() { resolved } else { firing };
        if let Some((i, worst)) = self.worst(of) {
            self.value_facts(&mut facts, i, worst, of.len() > 1);
        }
        facts
    }

    fn value_facts(&self, facts: &mut Vec<Fact>, i: usize, known: &Facts, is_group: bool) {
        let show = |v: f64| known.unit.show(v);
        let limit = known.threshold.as_ref().map(|limit| format!("{} {}", limit.operator, show(limit.value)));
        let is_over = self.message.data.alerts[i].is_resolved;
        if known.is_absence && !is_over {
            facts.push(fact("Missing", "no data".to_owned(), words::line(&known.rule.subject, 80)));
            return;
        }
        if let Some(value) = known.value {
            let name = if is_group && !is_over { "Worst now" } else { "Value now" };
            let note = match &limit {
                Some(limit) if is_over => format!("alert at {limit}"),
                Some(limit) => format!("threshold {limit}"),
                None => String::new(),
            };
            facts.push(fact(name, show(value), note));
        }
        if let Some(value) = known.value_at_fire {
            let peak =
                known.peak.filter(|peak| *peak != value || known.value.is_some_and(|now| now != value));
            let farthest = match known.threshold.as_ref().map(|limit| limit.bad) {
                Some(Bad::Below) => "lowest",
                _ => "peak",
            };
            let note = peak.map(|peak| format!("{farthest} {}", show(peak))).unwrap_or_default();
            facts.push(fact("When it fired", show(value), note));
        }
    }

    // === Links ===

    fn links(&self, lead: Option<usize>) -> Vec<Link> {
        let data = &self.message.data;
        let of = |name: &str| {
            let own = || lead.and_then(|i| data.alerts[i].annotations.get(name));
            data.common_annotations.get(name).or_else(own).and_then(|url| words::link(url))
        };
        let query = lead.and_then(|i| self.query(i));
        [("Runbook", of("runbook_url")), ("Dashboard", of("dashboard_url")), ("Query", query)]
            .into_iter()
            .filter_map(|(text, url)| Some(Link { text, url: url? }))
            .collect()
    }

    /// The page that plots the expression, around the time of the alert where the page is ours.
    fn query(&self, i: usize) -> Option<String> {
        let alert = &self.message.data.alerts[i];
        let url = words::link(&alert.generator_url)?;
        let Some(facts) = self.findings.alerts.get(&i) else { return Some(url) };
        let end = alert.ends_at.unwrap_or(self.message.now);
        let life = end.duration_since(facts.active_at).as_secs().max(0);
        let range_m = (life * 2 / 60).clamp(60, 7 * 24 * 60);
        let end = end.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let url = url.replace("g0.tab=1", "g0.tab=0");
        let end = percent_encoding::utf8_percent_encode(&end, percent_encoding::NON_ALPHANUMERIC);
        Some(format!("{url}&g0.range_input={range_m}m&g0.end_input={end}"))
    }

    /// What silences the group, by signed links where that is allowed, and by a form in any case.
    fn silences(&self) -> Vec<Link> {
        let data = &self.message.data;
        let mut labels = data.group_labels.clone();
        if let Some(name) = data.common_labels.get("alertname") {
            labels.insert("alertname".to_owned(), name.clone());
        }
        if labels.is_empty() {
            // A silence of everything is nobody's wish.
            return Vec::new();
        }
        let until = self.clock.tomorrow().map(|t| Length::Until(t.as_second()));
        let mut links: Vec<_> = [
            ("1 hour", Some(Length::Minutes(60))),
            ("4 hours", Some(Length::Minutes(240))),
            ("until tomorrow 08:00", until),
        ]
        .into_iter()
        .filter_map(|(text, length)| Some(Link { text, url: self.signed(&labels, length?)? }))
        .collect();
        links.extend(self.form(&labels).map(|url| Link { text: "choose…", url }));
        links
    }

    fn signed(&self, labels: &LabelSet, length: Length) -> Option<String> {
        if !self.config.extensions.has_actions {
            return None;
        }
        let receiver = self.message.data.receiver.clone();
        let zone = self.config.extensions.timezone.clone();
        let what = Silencing { labels: labels.clone(), length, receiver, zone };
        let token = self.message.extras.signer.as_ref()?.sign(what, self.message.now)?;
        words::link(&format!("{}/alerts/act?t={token}", self.message.data.external_url))
    }

    /// The page on which silences are made, filled in.
    fn form(&self, labels: &LabelSet) -> Option<String> {
        let quoted = |value: &str| model::quote::go_quote(value.as_bytes());
        let matchers: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        let filter = format!("{{{}}}", matchers.join(","));
        let filter = percent_encoding::utf8_percent_encode(&filter, percent_encoding::NON_ALPHANUMERIC);
        words::link(&format!("{}/#/silences/new?filter={filter}", self.message.data.external_url))
    }

    fn all_alerts(&self) -> Option<String> {
        let data = &self.message.data;
        let receiver =
            percent_encoding::utf8_percent_encode(&data.receiver, percent_encoding::NON_ALPHANUMERIC);
        words::link(&format!("{}/#/alerts?receiver={receiver}", data.external_url))
    }

    // === Graphs and tables ===

    fn graphs(&self, charted: &[usize]) -> Vec<Graph> {
        let mut graphs: Vec<Graph> = Vec::new();
        let mut above = None;
        for mut graph in charted.iter().filter_map(|&i| self.graph(i)) {
            let subject = graph.subject.take();
            graph.subject = subject.clone().filter(|_| subject != above);
            above = subject;
            graphs.push(graph);
        }
        graphs
    }

    fn graph(&self, i: usize) -> Option<Graph> {
        let facts = self.findings.alerts.get(&i)?;
        let chart = facts.chart.as_ref()?;
        let of = self.differing(i);
        let of = of.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let spark = facts.curve.as_ref().map(|curve| spark::line(curve, chart.from, chart.to, 40));
        Some(Graph {
            cid: format!("graph{i}"),
            alt: Self::alt(facts, &of),
            subject: Some(words::line(&facts.rule.subject, 300)),
            of,
            url: self.query(i),
            spark: spark.unwrap_or_default(),
            n_neighbours: chart.neighbours.len(),
        })
    }

    /// What the image shows, for those who do not see it.
    fn alt(facts: &Facts, of: &str) -> String {
        let show = |v: f64| facts.unit.show(v);
        let mut out = format!("Graph of {}", words::line(&facts.rule.subject, 120));
        if !of.is_empty() {
            out = format!("{out} for {}", words::line(of, 120));
        }
        let parts = [
            facts.value_at_fire.map(|v| format!("{} when it fired", show(v))),
            facts.value.map(|v| format!("{} now", show(v))),
            facts
                .threshold
                .as_ref()
                .map(|limit| format!("threshold {} {}", limit.operator, show(limit.value))),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            out.push_str(": ");
            out.push_str(&parts.join(", "));
        }
        out
    }

    fn differing(&self, i: usize) -> Vec<(String, String)> {
        let data = &self.message.data;
        shown(&data.alerts[i].labels, ROW_LABELS_MAX, |name| data.common_labels.contains_key(name))
    }

    fn table(&self, alerts: &[usize], n_rows: usize) -> Table {
        let n_rows = if alerts.len() == n_rows + 1 && n_rows > 0 { n_rows + 1 } else { n_rows };
        let (shown, hidden) = alerts.split_at(n_rows.min(alerts.len()));
        let rest = if hidden.is_empty() { None } else { Some(self.hidden(hidden)) };
        Table { rows: shown.iter().map(|&i| self.row(i)).collect(), rest }
    }

    fn row(&self, i: usize) -> Row {
        let alert = &self.message.data.alerts[i];
        let facts = self.findings.alerts.get(&i);
        let show = |facts: &Facts, v: f64| facts.unit.show(v);
        let value = facts.and_then(|facts| match (facts.value, facts.value_at_fire) {
            (Some(now), Some(then)) if alert.is_resolved => {
                Some(format!("{} → {}", show(facts, then), show(facts, now)))
            }
            (Some(now), _) if !facts.is_absence => Some(show(facts, now)),
            _ if alert.is_resolved && facts.lost_since.is_some() && !facts.is_absence => {
                Some("no data".to_owned())
            }
            _ => None,
        });
        let note = match alert.ends_at {
            Some(ended) => {
                format!("resolved {} after {}", self.clock.short(ended), words::span(alert.starts_at, ended))
            }
            None => {
                format!("since {} ({})", self.clock.short(alert.starts_at), self.clock.ago(alert.starts_at))
            }
        };
        let spark = facts.and_then(|facts| {
            let curve = facts.curve.as_ref()?;
            let (first, last) = (curve.points.first()?.0, curve.points.last()?.0);
            Some(spark::line(curve, first, self.message.now.as_millisecond().max(last), SPARK_CHARS))
        });
        let mut labels = self.differing(i);
        if labels.is_empty() {
            // Alerts that have all labels in common differ in what others have beyond them.
            labels = shown(&alert.labels, 2, |name| name != "alertname" && name != "instance");
        }
        let silence = || self.signed(&alert.labels, Length::Minutes(60)).or_else(|| self.form(&alert.labels));
        Row {
            labels,
            value: value.unwrap_or_default(),
            note,
            spark: spark.unwrap_or_default(),
            silence: if alert.is_resolved { None } else { silence() },
            query: self.query(i),
        }
    }

    /// `and 34 more: zone=a (20), zone=b (14)`, by the label that sorts them into the fewest groups.
    fn hidden(&self, hidden: &[usize]) -> String {
        let data = &self.message.data;
        let mut by_label: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for &i in hidden {
            for (name, value) in
                data.alerts[i].labels.iter().filter(|(name, _)| !data.common_labels.contains_key(*name))
            {
                *by_label.entry(name).or_default().entry(value).or_default() += 1;
            }
        }
        let covers = |counts: &BTreeMap<&str, usize>| counts.values().sum::<usize>() == hidden.len();
        let best = by_label
            .into_iter()
            .filter(|(_, counts)| covers(counts) && counts.len() > 1)
            .min_by_key(|(_, counts)| counts.len());
        let mut out = format!("and {} more", hidden.len());
        if let Some((name, counts)) = best.filter(|(_, counts)| counts.len() < hidden.len()) {
            let mut counts: Vec<_> = counts.into_iter().collect();
            counts.sort_by_key(|(value, n)| (Reverse(*n), *value));
            let shown: Vec<_> = counts
                .iter()
                .take(HIDDEN_GROUPS_MAX)
                .map(|(value, n)| format!("{}={} ({n})", words::line(name, 40), words::line(value, 40)))
                .collect();
            out.push_str(": ");
            out.push_str(&shown.join(", "));
            if counts.len() > HIDDEN_GROUPS_MAX {
                out.push_str(", …");
            }
        }
        out
    }

    // === Surroundings ===

    fn labels(&self, is_single: bool) -> Vec<(String, String)> {
        let data = &self.message.data;
        let skip = |name: &str| name == "alertname" || name == "severity" && !is_single;
        shown(&data.common_labels, LABELS_MAX, skip)
    }

    fn annotations(&self, lead: Option<usize>) -> Vec<(String, Vec<Line>)> {
        let data = &self.message.data;
        let shown_elsewhere = ["summary", "description", "runbook_url", "dashboard_url", UNIT];
        let is_single = data.alerts.len() == 1;
        let own =
            lead.filter(|_| is_single).map_or(&data.common_annotations, |i| &data.alerts[i].annotations);
        own.iter()
            .filter(|(name, text)| !shown_elsewhere.contains(&name.as_str()) && !text.is_empty())
            .take(ANNOTATIONS_MAX)
            .map(|(name, text)| {
                let text = words::paragraph(&readable(text), ANNOTATION_CHARS_MAX);
                (words::line(name, 60), markup::parse(&text))
            })
            .collect()
    }

    fn history(&self, history: &History) -> String {
        let days = history.days;
        let mut out = match history.times {
            0 | 1 => format!("The first time in {days} days."),
            2 => format!("Fired twice in the last {days} days"),
            n => format!("Fired {n} times in the last {days} days"),
        };
        if history.times > 1 {
            if let Some(median) = history.median {
                let length = crate::unit::span(median.as_secs_f64());
                let mostly = if history.times == 2 { "" } else { "mostly " };
                out = format!("{out}, {mostly}for {length}");
            }
            if let Some(previous) = history.previous {
                out = format!("{out}; the last time on {}", self.clock.short(previous));
            }
            out.push('.');
        }
        out
    }

    fn related(&self) -> Vec<Related> {
        let related = self.findings.related.iter().take(RELATED_MAX);
        related
            .map(|other| {
                let is_shared = |name: &str| other.shared.iter().any(|shared| shared == name);
                Related {
                    name: words::line(
                        other.labels.get("alertname").map_or("", String::as_str),
                        VALUE_CHARS_MAX,
                    ),
                    shared: words::line(&words::pairs(&other.labels, |name| !is_shared(name)), 160),
                    since: format!(
                        "since {} ({})",
                        self.clock.short(other.since),
                        self.clock.ago(other.since)
                    ),
                }
            })
            .collect()
    }

    fn footer(&self) -> Vec<(&'static str, String)> {
        let (data, origin) = (&self.message.data, &self.message.origin);
        let mut footer = vec![
            ("Why you get this", format!("{}; {}", words::reason(&data.reason), to(data))),
            ("Route", words::line(origin.route_path, 300)),
        ];
        if let Some(repeat_at) = origin.repeat_at {
            footer.push(("Next reminder", format!("{}, if nothing changes", self.clock.short(repeat_at))));
        }
        let rules: BTreeSet<_> = self
            .findings
            .alerts
            .values()
            .map(|facts| format!("{} in group {} of {}", facts.rule.name, facts.rule.group, facts.rule.file))
            .collect();
        if let (Some(rule), 1) = (rules.first(), rules.len()) {
            footer.push(("Rule", words::line(rule, 300)));
        }
        footer.push(("Group", group_key_hash(origin.group_key)[..12].to_owned()));
        let receiver = words::line(&data.receiver, 80);
        let stop = format!("silence the alert, or change receiver {receiver} in alertmanager.yml");
        footer.push(("To stop these mails", stop));
        footer
    }

    fn sender(&self) -> String {
        let version = &self.message.extras.version;
        let host = url::Url::parse(&self.message.data.external_url).ok();
        let host = host.and_then(|url| {
            Some(format!("{}{}", url.host_str()?, url.port().map(|p| format!(":{p}")).unwrap_or_default()))
        });
        let at = host.map(|host| format!(" at {host}")).unwrap_or_default();
        let space = if version.is_empty() { "" } else { " " };
        format!("Sent {} by Ferula{space}{version}{at}", self.clock.long(self.message.now))
    }
}

fn to(data: &config::template::notification::Data) -> String {
    format!("it goes to receiver {}", words::line(&data.receiver, 80))
}

fn fact(name: &'static str, value: String, note: String) -> Fact {
    Fact { name, value, note }
}

/// How long an alert waited before it fired.
fn pending(facts: &Facts) -> Option<String> {
    let fired: Timestamp = facts.fired_at?;
    let waited = words::span(facts.active_at, fired);
    (fired > facts.active_at).then(|| format!("after {waited} pending"))
}

fn status(n_firing: usize, n_resolved: usize) -> String {
    let parts = [(n_firing, "firing"), (n_resolved, "resolved")];
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    match (n_firing, n_resolved) {
        (1, 0) => "Firing".to_owned(),
        (0, 1) => "Resolved".to_owned(),
        _ => parts.join(", "),
    }
}

/// Labels as they are shown, at most `max` of them.
fn shown(labels: &LabelSet, max: usize, skip: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let labels = labels.iter().filter(|(name, _)| !skip(name)).take(max);
    labels.map(|(name, value)| (words::line(name, 60), words::line(value, VALUE_CHARS_MAX))).collect()
}

/// A failed template in words; other texts as they are.
fn readable(text: &str) -> std::borrow::Cow<'_, str> {
    match text.strip_prefix(FAILED_TEMPLATE) {
        Some(error) => {
            format!("(The template of this text failed: {})", error.trim().trim_end_matches('>')).into()
        }
        None => text.into(),
    }
}
