//! What every kind of receiver is told: the same alerts posted to our built-in Alertmanager and to a live one, both with
//! the same configuration, and each with a recorder of its own that answers as the services do. The requests of both
//! are equal, and ours are those in `golden/`, so that a machine without Alertmanager checks them as well.

mod known;
mod recorder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use expect_test::expect_file;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::process::{Home, Server, is_root, now, peer, until_true};
use crate::tls::Authority;
use known::Known;
use recorder::{Recorder, Seen, digest};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/receivers");

/// Services whose address is not configurable.
const HOSTS: [&str; 3] = ["slack.com", "events.pagerduty.com", "api.pushover.net"];

/// Files that hold a URL or a secret, some with blanks around it.
const FILES: [(&str, &str); 16] = [
    ("webhook_url", "http://HOST/webhook/file\n"),
    ("slack_url", " http://HOST/slack/full\n"),
    ("routing_key", "routing {{ \"two\" }}\n"),
    ("opsgenie_key", "key two\n"),
    ("telegram_token", "2:token\n"),
    ("discord_url", "http://HOST/discord/full\n"),
    ("msteams_url", "http://HOST/msteams/full\n"),
    ("pushover_user", "user two"),
    ("pushover_token", "token two"),
    ("victorops_key", "key two\n"),
    ("wechat_secret", "secret two\n"),
    ("rocketchat_token", "token two\n"),
    ("rocketchat_id", "id two\n"),
    ("mattermost_url", "http://HOST/mattermost/full\n"),
    ("incidentio_url", "http://HOST/incidentio/full\n"),
    ("incidentio_token", "token two\n"),
];

/// How long nobody may ask anything for a step to be over: longer than the group interval.
const QUIET: Duration = Duration::from_millis(1800);

/// A server with its recorder.
struct Side {
    recorder: Recorder,
    server: Server,
    /// Files are read at each use.
    _home: Home,
}

impl Side {
    fn new(authority: &Authority, tls: &Arc<ServerConfig>, start: impl FnOnce(&Home) -> Server) -> Self {
        let recorder = Recorder::start(tls);
        let home = Home::new("global: {scrape_interval: 1h}\n");
        let address = recorder.address();
        let ours = ["alertmanager.yml", "own.tmpl"];
        let texts = ours.map(|name| (name, std::fs::read_to_string(Path::new(FOLDER).join(name)).unwrap()));
        for (name, text) in &texts {
            let text = text.replace("HOST", &address).replace("DIR", home.path("").to_str().unwrap());
            home.write(name, &text);
        }
        home.write("ca.pem", &authority.own.cert);
        for (name, text) in FILES {
            home.write(name, &text.replace("HOST", &address));
        }
        let server = start(&home);
        Self { recorder, server, _home: home }
    }

    fn ours(authority: &Authority, tls: &Arc<ServerConfig>) -> Self {
        Self::new(authority, tls, |home| {
            home.start(&[
                "--alertmanager.config-file=alertmanager.yml",
                "--web.external-url=http://am.example:9093",
            ])
        })
    }

    /// `None` if there is none.
    fn upstream(test: &str, authority: &Authority, tls: &Arc<ServerConfig>) -> Option<Self> {
        let bin = |name: &str| peer(name, test);
        let next = std::env::var_os("FERULA_PEERS")
            .map(|peers| Path::new(&peers).join("bin/alertmanager-next"))
            .filter(|path| path.exists());
        let program = next.or_else(|| bin("alertmanager"))?;
        let is_next = program.ends_with("alertmanager-next");
        if !is_next && !is_root() {
            crate::process::skipped(test, "giving alertmanager its templates needs root");
            return None;
        }
        Some(Self::new(authority, tls, |home| {
            let share = program.parent().unwrap().join("../.apt/x/usr/share");
            let mut command = if !is_next && share.exists() {
                // Debian's reads its templates from a place of the system.
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-c", "mount --bind \"$0\" /usr/share && exec \"$@\""]);
                command.arg(&share).arg(&program);
                command
            } else {
                Command::new(&program)
            };
            command
                .arg(format!("--config.file={}", home.path("alertmanager.yml").display()))
                .arg(format!("--storage.path={}", home.path("am").display()))
                .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
                .args(["--web.external-url=http://am.example:9093", "--log.level=debug"]);
            Server::start("alertmanager", &mut command, "/-/ready")
        }))
    }

    fn post(&self, alerts: &Value) {
        let (status, body) = self.server.post("/api/v2/alerts", alerts);
        assert_eq!(status, 200, "{body}");
    }

    /// The requests with what differs from run to run replaced.
    fn seen(&self) -> Vec<Seen> {
        let mut all = self.recorder.seen();
        for seen in &mut all {
            if let Ok(text) = std::str::from_utf8(&seen.body) {
                seen.body = text.replace(&self.recorder.address(), "HOST").into_bytes();
            }
        }
        all
    }
}

fn tls(authority: &Authority) -> Arc<ServerConfig> {
    let pair = authority.sign(&HOSTS);
    let certs = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(certs, key).unwrap())
}

// === Alerts ===

const STARTED: &str = "2024-02-03T04:05:06.789Z";

fn alert(labels: Value, annotations: Value, is_resolved: bool) -> Value {
    let ends_at = if is_resolved {
        "2024-02-03T05:00:00.5Z".to_owned()
    } else {
        jiff::Timestamp::from_second(now() as i64 + 3600).unwrap().to_string()
    };
    json!({
        "labels": labels, "annotations": annotations, "startsAt": STARTED, "endsAt": ends_at,
        "generatorURL": "http://prom:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
    })
}

fn plain(is_resolved: bool) -> Value {
    alert(
        json!({"alertname": "Plain", "instance": "a:9100", "job": "node", "severity": "critical"}),
        json!({"summary": "Plain is down", "description": "Plain on a:9100 has been down for 5 minutes", "runbook_url": "http://x/r?a=b&c=d"}),
        is_resolved,
    )
}

fn many(instance: &str, severity: &str, is_resolved: bool) -> Value {
    alert(
        json!({"alertname": "Many", "instance": instance, "job": "node", "severity": severity}),
        json!({"summary": "Many has many", "description": format!("Many on {instance}")}),
        is_resolved,
    )
}

/// Values that mean something where they go.
fn hostile(is_resolved: bool) -> Value {
    alert(
        json!({
            "alertname": "Ho<st>ile \"x\" é😀 {{ .Status }} a/b?c=d&e#f%41+~*",
            "instance": "line\nbreak\ttab\r\u{1}\u{7f}\u{2028}\u{202e}rtl",
            "severity": "cr'it`ical\\",
            "markdown": "*b* _i_ [l](u) `c` |t| # h",
            "json": "{\"a\": [1, \"}\"]}",
            "yaml": "a: [1, &x !!int 2]\n---\n",
        }),
        json!({
            "summary": "<script>alert('x')</script> & {{ template \"own.line\" . }}",
            "description": "true",
            "none": " ",
        }),
        is_resolved,
    )
}

/// More than any service takes. Without wide characters where upstream would cut one in two or stop with a panic.
fn long(is_resolved: bool) -> Value {
    let text: String = (0..8000).map(|i| format!("{i:05}é")).collect();
    alert(
        json!({"alertname": "Long", "instance": "i".repeat(300), "severity": "warning"}),
        json!({"summary": "s".repeat(3000), "description": text}),
        is_resolved,
    )
}

fn bare(is_resolved: bool) -> Value {
    let mut alert = alert(json!({"alertname": "Bare"}), json!({}), is_resolved);
    alert.as_object_mut().unwrap().remove("generatorURL");
    alert
}

fn failing() -> Value {
    alert(json!({"alertname": "Failing", "case": "failure"}), json!({}), false)
}

/// Never two alerts of one group in a step: what begins long ago is told at once, whether others follow or not.
fn steps() -> [Value; 3] {
    [
        json!([plain(false), many("a:1", "info", false), failing()]),
        json!([plain(true), many("b:1", "warning", false), hostile(false), long(false), bare(false)]),
        json!([many("b:1", "warning", true), hostile(true), long(true), bare(true)]),
    ]
}

// === Requests as they are compared ===

/// Headers that services look at.
const HEADERS: [&str; 6] =
    ["authorization", "content-type", "user-agent", "accept-language", "x-auth-token", "x-user-id"];

/// A request on a few lines. Of a long text the ends are kept and the rest is a digest, for the golden files.
fn shown(seen: &Seen) -> String {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let mut text = format!("{} {}{path}\n", seen.method, seen.host);
    for (name, value) in form(query.as_bytes()) {
        text.push_str(&format!("  ?{name}={value:?}\n"));
    }
    for name in HEADERS {
        let Some(value) = seen.headers.get(name) else { continue };
        match name {
            // The libraries that upstream uses for these have names of their own.
            "user-agent" if ["jira", "sns", "telegram"].contains(&kind(seen)) => {}
            "user-agent" => text.push_str("  user-agent: Alertmanager/VERSION\n"),
            // The signature depends on the time and on what is signed.
            "authorization" if value.starts_with("AWS4") => {
                let scope = value.split(", ").next().unwrap().split('/').collect::<Vec<_>>();
                text.push_str(&format!("  authorization: {}/DATE/{}\n", scope[0], scope[2..].join("/")));
            }
            // Not told by a request that has no body.
            "content-type" if seen.method == "GET" => {}
            name => text.push_str(&format!("  {name}: {value}\n")),
        }
    }
    if seen.headers.get("content-type").is_some_and(|kind| kind.contains("form")) {
        for (name, value) in attributes_by_name(form(&seen.body)) {
            text.push_str(&format!("  {name}={:?}\n", elided(&value)));
        }
    } else {
        text.push_str(std::str::from_utf8(&seen.body).unwrap());
    }
    text
}

fn form(text: &[u8]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = form_urlencoded::parse(text).into_owned().collect();
    pairs.sort();
    pairs
}

/// Amazon's attributes are numbered; upstream numbers them differently each time.
fn attributes_by_name(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let names: BTreeMap<String, String> = pairs
        .iter()
        .filter_map(|(name, value)| {
            let number = name.strip_prefix("MessageAttributes.entry.")?.strip_suffix(".Name")?;
            Some((number.to_owned(), value.clone()))
        })
        .collect();
    let mut pairs: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| {
            match name.strip_prefix("MessageAttributes.entry.").and_then(|n| n.split_once('.')) {
                Some((number, rest)) => (format!("attribute {:?} {rest}", names[number]), value),
                None => (name, value),
            }
        })
        .collect();
    pairs.sort();
    pairs
}

fn elided(text: &str) -> String {
    const ENDS: usize = 100;
    let n = text.chars().count();
    if n <= 8 * ENDS {
        return text.to_owned();
    }
    let head: String = text.chars().take(ENDS).collect();
    let tail: String = text.chars().skip(n - ENDS).collect();
    format!("{head}[{n} characters, {}]{tail}", digest(text.as_bytes()))
}

/// The kind that a request belongs to.
fn kind(seen: &Seen) -> &str {
    match seen.host.as_str() {
        "slack.com" => "slack",
        "events.pagerduty.com" => "pagerduty",
        "api.pushover.net" => "pushover",
        _ => seen.target.trim_start_matches('/').split(['/', '?']).next().unwrap(),
    }
}

fn is_failing(seen: &Seen) -> bool {
    seen.target.starts_with("/fail/")
}

/// Tokens may be fetched by several messages at once, so only that they are counts.
fn is_token(seen: &Seen) -> bool {
    seen.target.contains("/gettoken")
}

/// All requests in an order of their own.
fn sorted(all: &[Seen]) -> Vec<String> {
    let mut texts: Vec<_> =
        all.iter().filter(|seen| !is_failing(seen) && !is_token(seen)).map(shown).collect();
    let tokens: BTreeSet<_> =
        all.iter().filter(|seen| !is_failing(seen) && is_token(seen)).map(shown).collect();
    texts.extend(tokens);
    texts.sort();
    texts
}

/// Pretty, so that people can read it and git can compare it.
fn golden(seen: &Seen) -> String {
    let text = shown(seen);
    let Ok(body) = serde_json::from_slice::<Value>(&seen.body) else { return text };
    let head = text.split('{').next().unwrap();
    format!("{head}{body:#}\n")
}

#[test]
fn every_kind_of_receiver_is_told_what_upstream_tells_it() {
    let test = "every_kind_of_receiver_is_told_what_upstream_tells_it";
    let authority = Authority::new("receivers");
    let tls = tls(&authority);
    let ours = Side::ours(&authority, &tls);
    let upstream = Side::upstream(test, &authority, &tls);
    let sides: Vec<&Side> = [Some(&ours), upstream.as_ref()].into_iter().flatten().collect();
    let mut n_first = 0;
    let mut told = BTreeMap::<String, Vec<String>>::new();
    for (i, step) in steps().iter().enumerate() {
        let before: Vec<_> = sides.iter().map(|side| side.recorder.activity().0).collect();
        sides.iter().for_each(|side| side.post(step));
        let began = Instant::now();
        until_true(&format!("the messages of step {i}"), || {
            let is_quiet = |(side, before): (&&Side, &usize)| {
                let (n, last) = side.recorder.activity();
                n > *before && last.is_some_and(|last| last.elapsed() > QUIET && last > began)
            };
            sides.iter().zip(&before).all(is_quiet)
        });
        // The golden files have the simplest group, firing and resolved, and what belongs to no group.
        let seen = ours.seen();
        let marks = ["Plain", &group_hash("{}:{alertname=\"Plain\"}"), "/gettoken", "/transitions"];
        for seen in seen[n_first..].iter().filter(|seen| i < 2 && !is_failing(seen)) {
            let text = golden(seen);
            if marks.iter().any(|mark| text.contains(mark)) {
                told.entry(kind(seen).to_owned()).or_default().push(text);
            }
        }
        n_first = seen.len();
    }
    for (kind, texts) in &mut told {
        texts.sort();
        texts.dedup();
        expect_file![format!("./golden/{kind}.txt")].assert_eq(&texts.join("\n"));
    }
    let Some(upstream) = &upstream else { return };
    if let Some(dir) = std::env::var_os("FERULA_DUMP") {
        let dir = Path::new(&dir);
        std::fs::write(dir.join("ours.txt"), sorted(&ours.seen()).join("\n")).unwrap();
        std::fs::write(dir.join("theirs.txt"), sorted(&upstream.seen()).join("\n")).unwrap();
        std::fs::write(dir.join("ours.log"), ours.server.process.log()).unwrap();
        std::fs::write(dir.join("theirs.log"), upstream.server.process.log()).unwrap();
        std::fs::write(dir.join("ours.metrics"), format!("{:#?}", counts(&ours.server))).unwrap();
        std::fs::write(dir.join("theirs.metrics"), format!("{:#?}", counts(&upstream.server))).unwrap();
        std::fs::write(dir.join("ours.counts"), format!("{:#?}", attempts(&ours))).unwrap();
        std::fs::write(dir.join("theirs.counts"), format!("{:#?}", attempts(upstream))).unwrap();
    }
    let known = Known::of(&upstream.server);
    let requests = |side: &Side| sorted(&side.seen()).iter().map(|text| known.request(text)).collect();
    assert_same("requests", requests(&ours), requests(upstream));
    assert_eq!(attempts(&ours), attempts(upstream), "attempts by path, ours and upstream's");
    let of_log = |side: &Side, key| errors(&side.server.process.log(), key);
    assert_same("errors", of_log(&ours, " error="), of_log(upstream, " err="));
    assert_same("counts", known.counts(&counts(&ours.server)), known.counts(&counts(&upstream.server)));
}

/// Each of ours has one of theirs that is the same.
fn assert_same(what: &str, mut ours: Vec<String>, mut theirs: Vec<String>) {
    let (n_ours, n_theirs) = (ours.len(), theirs.len());
    ours.retain(|text| match theirs.iter().position(|other| text == other) {
        Some(i) => {
            theirs.swap_remove(i);
            false
        }
        None => true,
    });
    let shown = |texts: Vec<String>| texts.iter().map(|text| elided(text)).collect::<Vec<_>>().join("\n");
    assert!(
        ours.is_empty() && theirs.is_empty(),
        "{} of {n_ours} {what} are only ours:\n{}\n\n{} of {n_theirs} only upstream's:\n{}",
        ours.len(),
        shown(ours),
        theirs.len(),
        shown(theirs),
    );
}

/// What a log says of messages that failed, each error by itself and as often as it is told.
fn errors(log: &str, key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    for line in log.lines() {
        let line_key = ["otify attempt failed", "msg=\"notify failed\"", "Notify for alerts failed"];
        let Some((_, error)) = line.split_once(key).filter(|_| line_key.iter().any(|key| line.contains(key)))
        else {
            continue;
        };
        // It is the last thing on its line, quoted where it needs be.
        let error =
            if error.starts_with('"') { serde_json::from_str(error).unwrap() } else { error.to_owned() };
        // Upstream tells of all receivers of a group at once.
        for error in error.split('\n') {
            let error = match error.split_once(" attempts: ") {
                Some((before, after)) if before.contains("notify retry canceled") => after,
                _ => error,
            };
            // What the libraries say of bad JSON is their own.
            let error = match error.find("could not unmarshal JSON response") {
                Some(at) => error[..at + error[at..].find("\": ").unwrap()].to_owned(),
                None => error.to_owned(),
            };
            errors.push(error);
        }
    }
    errors.sort();
    errors
}

/// What is counted of messages: series and value.
fn counts(server: &Server) -> Vec<(String, u64)> {
    let (_, metrics) = server.get("/metrics");
    let names = [
        "alertmanager_notifications_total{",
        "alertmanager_notifications_failed_total{",
        "alertmanager_notification_requests_total{",
        "alertmanager_notification_requests_failed_total{",
        "alertmanager_notification_latency_seconds_count{",
    ];
    let is_counted = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let split = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    metrics.lines().filter(is_counted).map(split).filter(|(_, value)| *value > 0).collect()
}

fn group_hash(key: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How often was asked what fails at first.
fn attempts(side: &Side) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in side.seen().iter().filter(|seen| is_failing(seen)) {
        let path = seen.target.split('?').next().unwrap().to_owned();
        *counts.entry(path).or_default() += 1;
    }
    counts
}
