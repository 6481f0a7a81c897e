//! Mails of all situations: their text and HTML against stored files, their sizes, and what hostile labels cannot do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use config::alertmanager::Receiver;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::alertmanager::alert::{Alert, Fingerprint, LabelSet};
use crate::alertmanager::dispatch::Flushed;
use crate::alertmanager::insight::{Facts, History, Insight, Related, RuleFacts};
use crate::alertmanager::links::Signer;
use crate::alertmanager::nflog::{Memory, Reason};
use crate::alertmanager::notify::templates::Templates;
use crate::alertmanager::notify::{Extras, Origin};
use crate::chart::{Bad, Chart, Curve, Span, SpanKind, Threshold};
use crate::unit::{Base, Unit};

const MINUTE: i64 = 60;
/// 2026-08-03 08:54 UTC, a Monday.
const NOW: i64 = 1_785_747_240;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn set(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A message in the making.
struct Situation {
    name: &'static str,
    group: LabelSet,
    alerts: Vec<Flushed>,
    reason: Reason,
    findings: Findings,
    zone: &'static str,
    has_signer: bool,
}

/// Knows what it was told.
#[derive(Debug)]
struct Told(Findings);

impl Insight for Told {
    fn look(&self, question: Question) -> BoxFuture<'_, Findings> {
        let mut findings = self.0.clone();
        // Facts are told by the fingerprint's place in the message; questions come in the order of the page.
        let by_labels: BTreeMap<_, _> = std::mem::take(&mut findings.alerts)
            .into_values()
            .map(|facts| (facts.rule.file.clone(), facts))
            .collect();
        for (i, asked) in question.alerts.iter().enumerate() {
            if let Some(facts) = by_labels.get(&format!("{:?}", asked.labels)) {
                let mut facts = facts.clone();
                facts.rule =
                    Arc::new(RuleFacts { file: "rules/web.yml".to_owned(), ..(*facts.rule).clone() });
                if i >= question.charts_max {
                    facts.chart = None;
                }
                if let Some(chart) = &mut facts.chart {
                    chart.zone = question.zone.clone();
                }
                findings.alerts.insert(i, facts);
            }
        }
        Box::pin(std::future::ready(findings))
    }
}

fn flushed(labels: LabelSet, annotations: LabelSet, starts_at: i64, ends_at: Option<i64>) -> Flushed {
    let alert = Alert {
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations,
        starts_at: at(starts_at),
        ends_at: at(ends_at.unwrap_or(NOW + 4 * MINUTE)),
        updated_at: at(NOW),
        generator_url: "https://ferula.example.org/graph?g0.expr=latency_seconds+%3E+1&g0.tab=1".to_owned(),
        is_timeout: false,
    };
    Flushed { alert: Arc::new(alert), is_resolved: ends_at.is_some() }
}

fn email(zone: &str) -> Email {
    let text = "
global: {smtp_smarthost: 'localhost:25', smtp_from: 'f@example.org'}
route: {receiver: team-web}
receivers: [{name: team-web, email_configs: [{to: 'ops@example.org'}]}]
";
    let loaded = config::alertmanager::parse(text, std::path::Path::new("am.yml")).unwrap();
    let config::alertmanager::Notifier::Email(email) = &loaded.receivers[0].integrations[0].notifier else {
        panic!("an e-mail was configured");
    };
    let mut email = Email::clone(email);
    email.extensions.timezone = zone.to_owned();
    email
}

impl Situation {
    fn render(&self) -> Content {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let templates = Templates::new([]).unwrap();
        let receiver = Receiver { name: "team-web".to_owned(), ..Receiver::default() };
        let (labels, repeat) = (LabelSet::new(), NOW + 240 * MINUTE);
        let origin = Origin {
            receiver: &receiver,
            integration: "email",
            index: 0,
            group_key: "{}/{team=\"web\"}:{alertname=\"HighLatency\"}",
            group_labels: &self.group,
            route_labels: &labels,
            route_key: "{}/{team=\"web\"}",
            route_path: "root › team=web › severity=critical",
            repeat_at: self.alerts.iter().any(|flushed| !flushed.is_resolved).then(|| at(repeat)),
        };
        let surroundings = (&templates, "https://ferula.example.org", at(NOW));
        let mut message = Message::new(origin, &self.alerts, self.reason, surroundings, Memory::new());
        message.extras = Extras {
            insight: Some(Arc::new(Told(self.findings.clone()))),
            signer: self.has_signer.then(|| Arc::new(Signer::open(None).unwrap())),
            version: "0.1.0".to_owned(),
        };
        runtime.block_on(render(&email(self.zone), &message))
    }
}

fn chart(
    own: Curve,
    unit: Unit,
    threshold: Option<Threshold>,
    active: i64,
    fired: i64,
    ended: Option<i64>,
) -> Chart {
    let end = ended.unwrap_or(NOW) * 1_000;
    Chart {
        from: (NOW - 90 * MINUTE) * 1_000,
        to: NOW * 1_000,
        step_ms: 30_000,
        zone: TimeZone::UTC,
        unit,
        own: vec![own],
        limits: Vec::new(),
        neighbours: Vec::new(),
        threshold,
        spans: vec![
            Span { from: active * 1_000, to: fired * 1_000, kind: SpanKind::Pending },
            Span { from: fired * 1_000, to: end, kind: SpanKind::Firing },
        ],
    }
}

fn curve(value: impl Fn(f64) -> f64) -> Curve {
    let points =
        (0..=180_i32).map(|i| (((NOW - 90 * MINUTE) + i64::from(i) * 30) * 1_000, value(f64::from(i))));
    Curve { points: points.collect() }
}

/// A latency that rose above a second five minutes before it fired at `fired`.
fn latency(labels: &LabelSet, phase: f64, fired: i64, ended: Option<i64>) -> Facts {
    let rise = ((fired - 8 * MINUTE) - (NOW - 90 * MINUTE)) as f64 / 30.0;
    let fall = ended.map_or(f64::INFINITY, |t| (t - (NOW - 90 * MINUTE)) as f64 / 30.0);
    let wave =
        |phase: f64, i: f64| 0.35 + 0.06 * (i / 9.0 + phase).sin() + 0.03 * (i / 2.3 + phase * 7.0).sin();
    let own = curve(|i| {
        wave(phase, i)
            + if i > rise && i < fall { ((i - rise) * 0.06).min(1.9 + 0.2 * (i / 3.0).sin()) } else { 0.0 }
    });
    let now = own.points.last().unwrap().1;
    let unit = Unit::from(Base::Seconds);
    let threshold = Threshold { value: 1.0, operator: ">", bad: Bad::Above };
    let active = fired - 5 * MINUTE;
    let mut chart = chart(own.clone(), unit.clone(), Some(threshold.clone()), active, fired, ended);
    chart.neighbours = [1.0, 2.0, 3.0].map(|more| curve(|i| wave(phase + more, i))).into();
    Facts {
        rule: Arc::new(RuleFacts {
            name: "HighLatency".to_owned(),
            group: "web".to_owned(),
            // Stands for the labels here; what is told says another file.
            file: format!("{labels:?}"),
            query: "latency > 1".to_owned(),
            subject: "histogram_quantile(0.99, sum by (le, instance) (rate(http_request_duration_seconds_bucket[5m])))"
                .to_owned(),
            hold: Duration::from_mins(5),
            keep_firing_for: Duration::ZERO,
        }),
        active_at: at(active),
        fired_at: Some(at(fired)),
        value: Some(now),
        value_at_fire: Some(1.42),
        peak: Some(now.max(2.48)),
        unit,
        threshold: Some(threshold),
        is_absence: false,
        lost_since: None,
        curve: Some(own),
        chart: Some(chart),
    }
}

fn latency_labels(instance: &str) -> LabelSet {
    set(&[
        ("alertname", "HighLatency"),
        ("cluster", "eu-1"),
        ("instance", instance),
        ("job", "checkout"),
        ("severity", "critical"),
        ("team", "web"),
    ])
}

fn latency_texts(instance: &str) -> LabelSet {
    set(&[
        ("summary", &format!("Checkout on {instance} answers slowly")),
        (
            "description",
            "99 of 100 requests should be answered within **1 second**. Look at the pool of connections first: \
             `pgbouncer` was the cause the last times.\n- [connections](https://grafana.example.org/d/pool)\n- deploys: https://ci.example.org/deploys?app=checkout&env=prod",
        ),
        ("runbook_url", "https://wiki.example.org/runbooks/latency"),
        ("dashboard_url", "https://grafana.example.org/d/checkout?var-instance=a"),
    ])
}

fn findings(facts: Vec<Facts>) -> Findings {
    Findings { alerts: facts.into_iter().enumerate().collect(), ..Findings::default() }
}

fn single() -> Situation {
    let labels = latency_labels("web-7:8080");
    let facts = latency(&labels, 0.0, NOW - 12 * MINUTE, None);
    let related = Related {
        labels: set(&[
            ("alertname", "PoolExhausted"),
            ("job", "checkout"),
            ("instance", "db-1"),
            ("severity", "warning"),
        ]),
        since: at(NOW - 15 * MINUTE),
        shared: vec!["job".to_owned()],
    };
    let history = History {
        days: 7,
        times: 4,
        median: Some(Duration::from_mins(9)),
        previous: Some(at(NOW - 2 * 1440 * MINUTE)),
    };
    Situation {
        name: "single",
        group: set(&[("alertname", "HighLatency"), ("cluster", "eu-1")]),
        alerts: vec![flushed(labels, latency_texts("web-7:8080"), NOW - 12 * MINUTE, None)],
        reason: Reason::First,
        findings: Findings { related: vec![related], history: Some(history), ..findings(vec![facts]) },
        zone: "Europe/Berlin",
        has_signer: true,
    }
}

fn group_of_40() -> Situation {
    let (mut alerts, mut facts) = (Vec::new(), Vec::new());
    for i in 0..40_u32 {
        let mut labels = latency_labels(&format!("web-{i}:8080"));
        labels.insert("zone".to_owned(), ["a", "b", "c"][i as usize % 3].to_owned());
        let fired = NOW - i64::from(3 + i % 17) * MINUTE;
        facts.push(latency(&labels, f64::from(i) * 0.7, fired, None));
        alerts.push(flushed(labels, latency_texts("many machines"), fired, None));
    }
    Situation {
        name: "group_of_40",
        alerts,
        reason: Reason::NewAlerts,
        findings: findings(facts),
        ..single()
    }
}

fn mixed() -> Situation {
    let ended = NOW - 2 * MINUTE;
    let of = |instance: &str, phase: f64, fired: i64, ended: Option<i64>| {
        let labels = latency_labels(instance);
        let facts = latency(&labels, phase, fired, ended);
        (flushed(labels, latency_texts(instance), fired, ended), facts)
    };
    let all = [
        of("web-1:8080", 0.0, NOW - 14 * MINUTE, None),
        of("web-2:8080", 2.0, NOW - 25 * MINUTE, None),
        of("web-3:8080", 4.0, NOW - 40 * MINUTE, Some(ended)),
    ];
    let (alerts, facts) = all.into_iter().unzip();
    Situation { name: "mixed", alerts, reason: Reason::SomeResolved, findings: findings(facts), ..single() }
}

fn resolved() -> Situation {
    let labels = latency_labels("web-7:8080");
    let (fired, ended) = (NOW - 40 * MINUTE, NOW - 2 * MINUTE);
    let facts = latency(&labels, 0.0, fired, Some(ended));
    Situation {
        name: "resolved",
        alerts: vec![flushed(labels, latency_texts("web-7:8080"), fired, Some(ended))],
        reason: Reason::AllResolved,
        findings: findings(vec![facts]),
        ..single()
    }
}

fn repeat() -> Situation {
    let labels = set(&[
        ("alertname", "DiskWillFill"),
        ("instance", "db-1"),
        ("mountpoint", "/var"),
        ("severity", "warning"),
    ]);
    let own = curve(|i| 6.4e9 - i * 3e7);
    let unit = Unit::from(Base::Bytes);
    let threshold = Threshold { value: 5_368_709_120.0, operator: "<", bad: Bad::Below };
    let fired = NOW - 60 * MINUTE;
    let facts = Facts {
        rule: Arc::new(RuleFacts {
            name: "DiskWillFill".to_owned(),
            group: "disks".to_owned(),
            subject: "node_filesystem_avail_bytes{mountpoint=\"/var\"}".to_owned(),
            ..(*latency(&labels, 0.0, fired, None).rule).clone()
        }),
        value: Some(1e9),
        value_at_fire: Some(5.2e9),
        peak: Some(1e9),
        chart: Some(chart(
            own.clone(),
            unit.clone(),
            Some(threshold.clone()),
            fired - 10 * MINUTE,
            fired,
            None,
        )),
        unit,
        threshold: Some(threshold),
        curve: Some(own),
        ..latency(&labels, 0.0, fired, None)
    };
    Situation {
        name: "repeat",
        group: set(&[("alertname", "DiskWillFill"), ("instance", "db-1")]),
        alerts: vec![flushed(labels, set(&[("summary", "/var on db-1 is nearly full")]), fired, None)],
        reason: Reason::Repeat,
        findings: findings(vec![facts]),
        zone: "",
        has_signer: false,
    }
}

fn absent() -> Situation {
    let labels = set(&[("alertname", "BackupMissing"), ("job", "backup"), ("severity", "page")]);
    let fired = NOW - 20 * MINUTE;
    let mut own = curve(|_| 1.0);
    own.points.retain(|(t, _)| *t < (fired - 10 * MINUTE) * 1_000);
    let facts = Facts {
        rule: Arc::new(RuleFacts {
            name: "BackupMissing".to_owned(),
            subject: "count(up{job=\"backup\"})".to_owned(),
            ..(*latency(&labels, 0.0, fired, None).rule).clone()
        }),
        value: None,
        value_at_fire: None,
        peak: None,
        unit: Unit::default(),
        threshold: None,
        is_absence: true,
        chart: Some(chart(own.clone(), Unit::default(), None, fired - 10 * MINUTE, fired, None)),
        curve: Some(own),
        ..latency(&labels, 0.0, fired, None)
    };
    Situation {
        name: "absent",
        group: set(&[("alertname", "BackupMissing")]),
        alerts: vec![flushed(labels, set(&[("summary", "Nobody is scraped as job backup")]), fired, None)],
        reason: Reason::First,
        findings: findings(vec![facts]),
        zone: "America/New_York",
        has_signer: true,
    }
}

/// The data went away, which is no good news.
fn lost() -> Situation {
    let mut situation = resolved();
    let facts = situation.findings.alerts.get_mut(&0).unwrap();
    facts.value = None;
    facts.lost_since = Some(at(NOW - 3 * MINUTE));
    Situation { name: "lost", ..situation }
}

fn failed_template() -> Situation {
    let labels = latency_labels("web-7:8080");
    let failed = "<error expanding template: error executing template __alert_HighLatency: template: __alert_HighLatency:1:70: \
                  executing \"__alert_HighLatency\" at <$labels.x.y>: can't evaluate field y>";
    let texts = set(&[("summary", failed), ("description", "This one works.")]);
    Situation {
        name: "failed_template",
        alerts: vec![flushed(labels, texts, NOW - 12 * MINUTE, None)],
        findings: Findings {
            notes: vec!["graph not available: query timed out in expression evaluation".to_owned()],
            ..Findings::default()
        },
        ..single()
    }
}

/// An alert of another Prometheus, about which nothing is known.
fn foreign() -> Situation {
    let labels = set(&[
        ("alertname", "KubePodCrashLooping"),
        ("namespace", "shop"),
        ("pod", "cart-6d8f-x2x9z"),
        ("severity", "info"),
    ]);
    let mut alert = flushed(
        labels,
        set(&[("message", "Pod restarts 1.07 times / 5 minutes")]),
        NOW - 3 * 1440 * MINUTE,
        None,
    );
    Arc::make_mut(&mut alert.alert).generator_url =
        "http://prometheus.other.example:9090/graph?g0.expr=x&g0.tab=1".to_owned();
    Situation {
        name: "foreign",
        group: set(&[("namespace", "shop")]),
        alerts: vec![alert],
        findings: Findings::default(),
        has_signer: false,
        zone: "",
        ..single()
    }
}

fn right_to_left() -> Situation {
    let of = |machine: &str, fired: i64| {
        let labels = set(&[
            ("alertname", "دیسک پر است"),
            ("severity", "warning"),
            ("ماشین", machine),
            ("mood", "🔥🧯"),
            ("城市", "東京都千代田区"),
        ]);
        let texts = set(&[
            ("summary", "دیسک این ماشین تا چهار ساعت دیگر پر می‌شود"),
            ("description", "🔥 **توجه**: فضای `/var` کم است 🚨"),
        ]);
        flushed(labels, texts, fired, None)
    };
    Situation {
        name: "right_to_left",
        group: set(&[("alertname", "دیسک پر است")]),
        alerts: vec![of("پایگاه-۱", NOW - 6 * MINUTE), of("پایگاه-۲ \u{202e}gpj.exe", NOW - 9 * MINUTE)],
        findings: Findings::default(),
        ..single()
    }
}

const HOSTILE: &str =
    "x\"><script>alert(1)</script>\r\nBcc: evil@example.org\r\n\r\n{{ .Status }} </td></table>";

fn hostile() -> Situation {
    let labels = set(&[
        ("alertname", HOSTILE),
        ("instance", HOSTILE),
        ("<img src=x onerror=y>", "javascript:alert(1)"),
        ("severity", "<b>"),
    ]);
    let texts = set(&[
        ("summary", HOSTILE),
        (
            "description",
            "[click](javascript:alert(1)) [data](data:text/html,x) <a href='http://evil'>x</a> http://ok.example/\"onclick=\"x",
        ),
        ("runbook_url", "javascript:alert(1)"),
        ("dashboard_url", "https://good.example/\"><script>"),
        ("<style>", "body{display:none}"),
    ]);
    let fired = NOW - 12 * MINUTE;
    let facts = latency(&labels, 0.0, fired, None);
    let other = set(&[("alertname", HOSTILE), ("instance", "harmless")]);
    let mut first = flushed(labels, texts, fired, None);
    Arc::make_mut(&mut first.alert).generator_url = "javascript:alert(2)".to_owned();
    Situation {
        name: "hostile",
        group: set(&[("alertname", HOSTILE), ("instance\r\nX-Evil: 1", HOSTILE)]),
        alerts: vec![first, flushed(other, LabelSet::new(), fired, None)],
        findings: findings(vec![facts]),
        ..single()
    }
}

fn huge() -> Situation {
    let alert = |i: usize| {
        let mut labels = latency_labels(&format!("web-{i}"));
        for name in 0..60 {
            labels.insert(format!("label_{name}"), format!("{i}{}", "v".repeat(5_000)));
        }
        let texts = set(&[
            ("summary", &"word ".repeat(100_000)),
            ("description", &"<&\">".repeat(500_000)),
            ("x", &"y".repeat(1_000_000)),
        ]);
        flushed(labels, texts, NOW - 12 * MINUTE, None)
    };
    Situation {
        name: "huge",
        alerts: (0..25).map(alert).collect(),
        findings: Findings::default(),
        ..single()
    }
}

fn all() -> Vec<Situation> {
    vec![
        single(),
        group_of_40(),
        mixed(),
        resolved(),
        repeat(),
        absent(),
        lost(),
        failed_template(),
        foreign(),
        right_to_left(),
        hostile(),
        huge(),
    ]
}

/// All mails, made once.
static MAILS: LazyLock<Vec<(&'static str, Content)>> =
    LazyLock::new(|| all().iter().map(|situation| (situation.name, situation.render())).collect());

fn mail(name: &str) -> &'static Content {
    &MAILS.iter().find(|(other, _)| *other == name).unwrap().1
}

/// The text with what differs from run to run made the same.
fn settled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, token)) = rest.split_once("/alerts/act?t=") {
        let end =
            token.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(token.len());
        out.push_str(before);
        out.push_str("/alerts/act?t=TOKEN");
        rest = &token[end..];
    }
    out + rest
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/alertmanager/notify/layout/testdata").join(name)
}

#[test]
fn mails_are_as_stored() {
    for (name, content) in MAILS.iter() {
        let text = format!(
            "Subject: {}\n\n{}",
            content.subject.as_deref().unwrap(),
            settled(content.text.as_deref().unwrap())
        );
        let html = settled(content.html.as_deref().unwrap());
        expect_test::expect_file![golden(&format!("{name}.txt"))].assert_eq(&text);
        expect_test::expect_file![golden(&format!("{name}.html"))].assert_eq(&html);
    }
}

#[test]
fn mails_are_small_and_their_text_is_narrow() {
    for (name, content) in MAILS.iter() {
        let (text, html) = (content.text.as_deref().unwrap(), content.html.as_deref().unwrap());
        assert!(html.len() <= 100_000, "{name}: {} bytes of HTML", html.len());
        assert!(text.len() <= 100_000, "{name}: {} bytes of text", text.len());
        for line in text.lines() {
            let is_link =
                line.trim_start_matches([' ', '<', '(']).starts_with("http") && !line.trim().contains(' ');
            assert!(is_link || text::width(line) <= text::WIDTH, "{name}: {line:?}");
        }
        let images: usize = content.images.iter().map(|image| image.png.len()).sum();
        assert!(images <= 200_000 && content.images.iter().all(|image| image.png.len() <= 40_000));
        for image in &content.images {
            assert!(html.contains(&format!("src=\"cid:{}\"", image.cid)), "{name}");
            assert!(!image.alt.is_empty());
        }
        assert_eq!(html.matches("<img ").count(), content.images.len());
    }
}

#[test]
fn tags_are_balanced_and_come_from_us() {
    const KNOWN: [&str; 24] = [
        "html", "head", "meta", "title", "style", "body", "div", "table", "tr", "td", "strong", "span",
        "bdi", "br", "a", "img", "code", "p", "!DOCTYPE", "b", "i", "ul", "li", "h1",
    ];
    for (name, content) in MAILS.iter() {
        let html = content.html.as_deref().unwrap();
        let mut open = Vec::new();
        for node in html.split('<').skip(1) {
            let tag = node.split('>').next().unwrap();
            let kind = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
            assert!(KNOWN.contains(&kind), "{name}: <{tag}>");
            // What stands in quotes is no attribute.
            let attributes: String = tag.split('"').step_by(2).collect();
            assert!(!attributes.contains(" on"), "{name}: <{tag}>");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(kind), "{name}");
            } else if !["meta", "br", "img", "!DOCTYPE"].contains(&kind) {
                open.push(kind);
            }
        }
        assert!(open.is_empty(), "{open:?}");
        for link in html.split("href=\"").skip(1) {
            assert!(link.starts_with("http://") || link.starts_with("https://"), "{name}: {link:.40}");
        }
    }
}

#[test]
fn hostile_labels_stay_labels() {
    let content = mail("hostile");
    let subject = content.subject.as_deref().unwrap();
    let (html, text) = (content.html.as_deref().unwrap(), content.text.as_deref().unwrap());
    assert!(!subject.contains(['\r', '\n']), "{subject:?}");
    assert!(
        !html.contains("<script") && !html.contains("href=\"javascript") && !html.contains("href=\"data:")
    );
    // Nobody executes what labels say.
    assert!(html.contains("{{ .Status }}") && text.contains("{{ .Status }}"));
    assert!(!content.headers.iter().any(|(name, value)| (name.clone() + value).contains(['\r', '\n'])));
    let content = mail("right_to_left");
    let parts = [&content.html, &content.text].map(|part| part.as_deref().unwrap());
    assert!(parts.iter().all(|part| !part.contains('\u{202e}')));
}

#[test]
fn the_subject_is_the_same_for_all_mails_of_a_thread() {
    let subjects: Vec<_> =
        ["single", "mixed", "resolved", "group_of_40"].map(|name| mail(name).subject.clone().unwrap()).into();
    assert!(subjects.iter().all(|subject| subject == "HighLatency eu-1 (critical)"), "{subjects:?}");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    #[derive(Debug)]
    struct Silent;
    impl Insight for Silent {
        fn look(&self, _: Question) -> BoxFuture<'_, Findings> {
            Box::pin(std::future::pending())
        }
    }
    let situation = single();
    let templates = Templates::new([]).unwrap();
    let origin = Origin::sample("team-web", "{}:{}", LabelSet::new());
    let mut message = Message::new(
        origin,
        &situation.alerts,
        Reason::First,
        (&templates, "https://f.example", at(NOW)),
        Memory::new(),
    );
    message.extras.insight = Some(Arc::new(Silent));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let content = runtime.block_on(render(&email(""), &message));
    assert!(content.text.unwrap().contains("values and graphs are not available: no answer within 3s"));
    assert_eq!(content.note.len(), 1);
}

/// `make mails` looks at what this writes.
#[test]
fn mails_are_written_for_people_to_look_at() {
    let Some(folder) = std::env::var_os("FERULA_MAILS").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in MAILS.iter() {
        let mut html = content.html.clone().unwrap();
        for image in &content.images {
            let file = format!("{name}-{}.png", image.cid);
            html = html.replace(&format!("cid:{}", image.cid), &file);
            std::fs::write(folder.join(file), &image.png).unwrap();
        }
        std::fs::write(folder.join(format!("{name}.html")), html).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), content.text.as_deref().unwrap()).unwrap();
    }
}
