//! Messages as they arrive: e-mails taken by an SMTP server of the test, and their parts read back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::Secret;
use config::alertmanager::{Email, EmailExtensions, Integration, Layout, Notifier, Webhook};
use config::http_client::{HttpClient, SecretSource, Tls};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::templates::Templates;
use super::{Failure, Message, Origin, Sent, deliver, email, exchange, retry, webhook};
use crate::alertmanager::alert::{Alert, Fingerprint, LabelSet};
use crate::alertmanager::dispatch::Flushed;
use crate::alertmanager::nflog::{Memory, Reason};

/// What the test's server answers where it does not simply agree.
#[derive(Clone, Debug, Default)]
struct Manner {
    /// The mechanisms of AUTH; none when empty, a STARTTLS that fails for `broken TLS`.
    auth: &'static str,
    /// The answer to one recipient.
    refuse: Option<(&'static str, &'static str)>,
    /// The answer to the message.
    after_data: Option<&'static str>,
}

/// What the test's server saw.
#[derive(Debug, Default)]
struct Seen {
    commands: Vec<String>,
    messages: Vec<String>,
}

/// Speaks as much SMTP as the tests need.
async fn smtp_server(manner: Manner) -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(b"220-test\r\n220 greets\r\n").await.unwrap();
            let mut message: Option<String> = None;
            let mut login = 0;
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(text) = &mut message {
                    if line != "." {
                        text.push_str(line.strip_prefix('.').unwrap_or(&line));
                        text.push_str("\r\n");
                        continue;
                    }
                    all.lock().messages.extend(message.take());
                    let answer = manner.after_data.unwrap_or("250 taken");
                    write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                    continue;
                }
                all.lock().commands.push(line.clone());
                let verb = line.split(' ').next().unwrap_or_default().to_uppercase();
                let answer = match verb.as_str() {
                    "EHLO" if manner.auth == "broken TLS" => "250-test\r\n250 STARTTLS".to_owned(),
                    "STARTTLS" => "454 not now".to_owned(),
                    "EHLO" if manner.auth.is_empty() => "250-test\r\n250 8BITMIME".to_owned(),
                    "EHLO" => format!("250-test\r\n250-8BITMIME\r\n250 AUTH {}", manner.auth),
                    "AUTH" if line.contains("LOGIN") => {
                        login = 1;
                        "334 VXNlcm5hbWU6".to_owned()
                    }
                    "AUTH" => "235 welcome".to_owned(),
                    _ if login == 1 => {
                        login = 2;
                        "334 UGFzc3dvcmQ6".to_owned()
                    }
                    _ if login == 2 => {
                        login = 0;
                        "235 welcome".to_owned()
                    }
                    "DATA" => {
                        message = Some(String::new());
                        "354 go".to_owned()
                    }
                    "QUIT" => "221 bye".to_owned(),
                    _ => match manner.refuse {
                        Some((address, answer)) if line.contains(address) => answer.to_owned(),
                        _ => "250-fine\r\n250 go on".to_owned(),
                    },
                };
                write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
        }
    });
    (address, seen)
}

fn set(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn flushed(labels: &[(&str, &str)], annotations: &[(&str, &str)], is_resolved: bool) -> Flushed {
    let labels = set(labels);
    let alert = Alert {
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: set(annotations),
        starts_at: at(0),
        ends_at: at(if is_resolved { 90 } else { 900 }),
        updated_at: at(0),
        generator_url: "http://prom:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1".to_owned(),
        is_timeout: false,
    };
    Flushed { alert: Arc::new(alert), is_resolved }
}

fn config(smarthost: &str) -> Email {
    let header = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Email {
        to: "ops@example.org, Other Team <other@example.org>".to_owned(),
        from: "Ferula <ferula@example.org>".to_owned(),
        hello: "localhost".to_owned(),
        smarthost: smarthost.to_owned(),
        auth_username: String::new(),
        auth_password: SecretSource::Inline(Secret::new("pässword")),
        auth_secret: SecretSource::Inline(Secret::default()),
        force_implicit_tls: None,
        auth_identity: String::new(),
        require_tls: false,
        tls: Tls::default(),
        headers: BTreeMap::from([
            header("Subject", "{{ template \"email.default.subject\" . }}"),
            header("From", "Ferula <ferula@example.org>"),
            header("To", "ops@example.org, Other Team <other@example.org>"),
        ]),
        has_subject: false,
        html: "{{ template \"email.default.html\" . }}".to_owned(),
        text: String::new(),
        threading: None,
        layout: Layout::Alertmanager,
        extensions: EmailExtensions::default(),
    }
}

fn integration(config: Email) -> Integration {
    Integration { index: 0, send_resolved: true, notifier: Notifier::Email(Box::new(config)) }
}

fn message<'m>(templates: &'m Templates, alerts: &[Flushed], memory: Memory) -> Message<'m> {
    let group = set(&[("alertname", &alerts[0].alert.labels["alertname"])]);
    Message::new(
        Origin::sample("team.a", "{}:{alertname=\"Down\"}", group),
        alerts,
        Reason::First,
        (templates, "http://ferula:9090", at(120)),
        memory,
    )
}

#[test]
fn a_group_key_has_upstreams_hash() {
    // What sha256sum says of the text.
    let hash = super::group_key_hash(r#"{}:{alertname="Down"}"#);
    assert_eq!(hash, "af94c9e8f6a3043625e36c6f472fe6be85ac23a9117184ee4cb7b4ad7401a47e");
}

fn defaults() -> Templates {
    Templates::new([]).unwrap()
}

/// A message's headers, unfolded, and its parts by type, decoded.
#[derive(Debug)]
struct Parsed {
    headers: Vec<(String, String)>,
    parts: Vec<(String, String)>,
}

impl Parsed {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} occurs twice");
        value
    }

    fn part(&self, kind: &str) -> &str {
        &self.parts.iter().find(|(own, _)| own.starts_with(kind)).unwrap_or_else(|| panic!("no {kind}")).1
    }
}

fn parse(text: &str) -> Parsed {
    let (headers, body) = split(text);
    let kind = headers.iter().find(|(name, _)| name == "Content-Type").unwrap().1.clone();
    assert!(kind.starts_with("multipart/alternative"), "{kind}");
    let boundary = kind.split_once("boundary=\"").unwrap().1.split_once('"').unwrap().0;
    let delimiter = format!("--{boundary}");
    let mut sections = body.split(delimiter.as_str());
    sections.next();
    let parts = sections.take_while(|section| !section.starts_with("--")).map(|section| {
        let (headers, body) = split(section.trim_start_matches("\r\n"));
        let of = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, v)| v.clone()).unwrap();
        assert_eq!(of("Content-Transfer-Encoding"), "quoted-printable");
        (of("Content-Type"), quoted_printable(&body))
    });
    Parsed { parts: parts.collect(), headers }
}

fn split(text: &str) -> (Vec<(String, String)>, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ");
    let headers = unfolded.lines().map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("header {line:?}"));
        (name.to_owned(), value.to_owned())
    });
    (headers.collect(), body.to_owned())
}

fn quoted_printable(text: &str) -> String {
    let joined = text.replace("=\r\n", "");
    let mut out = Vec::new();
    let mut bytes = joined.bytes();
    while let Some(b) = bytes.next() {
        if b == b'=' {
            let hex: String = bytes.by_ref().take(2).map(char::from).collect();
            out.push(u8::from_str_radix(&hex, 16).unwrap());
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn an_email_has_subject_both_parts_and_labels() {
    let (address, seen) = smtp_server(Manner { auth: "PLAIN LOGIN", ..Manner::default() }).await;
    let mut config = config(&address);
    config.auth_username = "me".to_owned();
    let templates = defaults();
    let down = flushed(
        &[("alertname", "Down"), ("instance", "a:1"), ("job", "node")],
        &[("summary", "a:1 is down ü"), ("description", "no answer\nfor 5m"), ("value", "0")],
        false,
    );
    let first = message(&templates, &[down], Memory::new());
    let integration = integration(config);
    let outcome = deliver(&integration, &first, Duration::from_secs(10)).await;
    let sent = outcome.result.unwrap();
    let id = sent.id.clone().unwrap();
    let (commands, mail) = {
        let seen = seen.lock();
        (seen.commands.clone(), parse(&seen.messages[0]))
    };
    assert_eq!(commands[0], "EHLO localhost");
    assert!(commands[1].starts_with("AUTH PLAIN AG1lAHDDpHNzd29yZA=="), "{commands:?}");
    assert!(commands[2].starts_with("MAIL FROM:<ferula@example.org>"), "{commands:?}");
    assert_eq!(commands[3..5], ["RCPT TO:<ops@example.org>", "RCPT TO:<other@example.org>"]);
    assert_eq!(mail.header("Subject"), Some("[FIRING:1] Down (a:1 node)"));
    assert_eq!(mail.header("From"), Some("Ferula <ferula@example.org>"));
    assert_eq!(mail.header("To"), Some("ops@example.org, \"Other Team\" <other@example.org>"));
    assert_eq!(mail.header("Message-ID"), Some(id.as_str()));
    assert_eq!(mail.header("In-Reply-To"), None);
    assert_eq!(mail.header("Date"), Some("Tue, 14 Nov 2023 22:15:20 +0000"));
    assert_eq!(mail.header("MIME-Version"), Some("1.0"));
    let text = mail.part("text/plain");
    for wanted in [
        "1 firing, 0 resolved",
        "[FIRING] Down: a:1 is down ü",
        "value    0",
        "since    2023-11-14 22:13:20 UTC",
        "labels   alertname=Down, instance=a:1, job=node",
        "http://prom:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
        "http://ferula:9090/#/alerts?receiver=team%5C.a",
    ] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    let html = mail.part("text/html");
    for wanted in [
        "a:1 is down ü",
        "no answer\r\nfor 5m",
        ">instance</td>",
        ">a:1</td>",
        "href=\"http://prom:9090/graph?g0.expr=up&#43;%3D%3D&#43;0&amp;g0.tab=1\"",
        "/#/silences/new?filter=%7Balertname%3D%22Down%22%2Cinstance%3D%22a%3a1%22%2Cjob%3D%22node%22%7D\"",
    ] {
        assert!(html.to_lowercase().contains(&wanted.to_lowercase()), "{wanted} in\n{html}");
    }

    // The next one answers the first.
    let up = flushed(&[("alertname", "Down"), ("instance", "a:1")], &[], true);
    let second = message(&templates, &[up], sent.memory);
    let outcome = deliver(&integration, &second, Duration::from_secs(10)).await;
    let next = outcome.result.unwrap();
    let mail = parse(&seen.lock().messages[1]);
    assert_eq!(mail.header("Subject"), Some("[RESOLVED] Down (a:1)"));
    assert_eq!(mail.header("In-Reply-To"), Some(id.as_str()));
    assert_eq!(mail.header("References"), Some(id.as_str()));
    assert_eq!(mail.header("Message-ID"), next.id.as_deref());
    assert!(mail.part("text/plain").contains("resolved 2023-11-14 22:14:50 UTC, after 1m 30s"));
}

#[tokio::test]
async fn login_is_spoken_where_plain_is_not() {
    let (address, seen) = smtp_server(Manner { auth: "LOGIN", ..Manner::default() }).await;
    let mut config = config(&address);
    config.auth_username = "me".to_owned();
    let templates = defaults();
    let message = message(&templates, &[flushed(&[("alertname", "A")], &[], false)], Memory::new());
    deliver(&integration(config), &message, Duration::from_secs(10)).await.result.unwrap();
    assert_eq!(seen.lock().commands[1..4], ["AUTH LOGIN", "bWU=", "cMOkc3N3b3Jk"]);
}

/// What stands in labels cannot become a header, a recipient, a part, markup or a template.
#[tokio::test]
async fn hostile_labels_stay_values() {
    let (address, seen) = smtp_server(Manner::default()).await;
    let config = config(&address);
    let templates = defaults();
    let evil =
        "x\r\nBcc: victim@example.org\r\n\r\n.\r\nMAIL FROM:<a@b>\r\n<script>alert(1)</script>\"'{{ .Nope }}";
    let alert = flushed(
        &[("alertname", evil), ("instance", "\"><img src=x onerror=alert(1)>")],
        &[
            ("summary", evil),
            ("runbook_url", "javascript:alert(1)"),
            ("description", "{{ template \"x\" }}\r\n.\r\n"),
        ],
        false,
    );
    let message = message(&templates, &[alert], Memory::new());
    deliver(&integration(config), &message, Duration::from_secs(10)).await.result.unwrap();
    let seen = seen.lock();
    assert_eq!(seen.messages.len(), 1);
    assert_eq!(seen.commands.iter().filter(|line| line.starts_with("MAIL FROM")).count(), 1);
    assert_eq!(seen.commands.iter().filter(|line| line.starts_with("RCPT TO")).count(), 2);
    let mail = parse(&seen.messages[0]);
    assert_eq!(mail.header("Bcc"), None);
    assert_eq!(mail.parts.len(), 2);
    let html = mail.part("text/html");
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    assert!(!html.contains("javascript:") && html.contains("#ZgotmplZ"), "{html}");
    assert!(html.contains("{{ .Nope }}") && mail.part("text/plain").contains("{{ .Nope }}"));
}

#[tokio::test]
async fn replies_decide_whether_to_come_back() {
    let templates = defaults();
    let alerts = [flushed(&[("alertname", "A")], &[], false)];
    let attempt = async |manner: Manner, change: fn(&mut Email)| {
        let (address, seen) = smtp_server(manner).await;
        let mut config = config(&address);
        change(&mut config);
        let result = email::send(&config, &message(&templates, &alerts, Memory::new())).await;
        (result.map(drop), seen.lock().messages.len())
    };
    let none: fn(&mut Email) = |_| {};
    let after = |answer| Manner { after_data: Some(answer), ..Manner::default() };
    let refuse = |address, answer| Manner { refuse: Some((address, answer)), ..Manner::default() };
    let retry = |result: Result<(), Failure>| result.unwrap_err().retry;
    assert!(retry(attempt(after("451 later"), none).await.0));
    assert!(!retry(attempt(after("552 too large"), none).await.0));
    assert!(retry(attempt(after("421 closing"), none).await.0));
    assert!(!retry(attempt(refuse("ferula@", "550 who"), none).await.0));
    // One bad address does not keep the mail from the others.
    let (result, messages) = attempt(refuse("<ops@", "550 unknown"), none).await;
    assert_eq!((result, messages), (Ok(()), 1));
    let only_ops: fn(&mut Email) = |config| config.to = "ops@example.org".to_owned();
    assert!(!retry(attempt(refuse("<ops@", "550 unknown"), only_ops).await.0));
    assert!(retry(attempt(refuse("<ops@", "450 greylisted"), only_ops).await.0));
    let (result, _) = attempt(Manner::default(), |config| config.require_tls = true).await;
    let failure = result.unwrap_err();
    assert!(
        failure.retry && failure.message.contains("does not advertise the STARTTLS extension"),
        "{failure}"
    );
    let (result, _) = attempt(Manner::default(), |config| config.from = "a@b.c, d@e.f".to_owned()).await;
    assert_eq!(result.unwrap_err(), Failure::last("must be exactly one 'from' address (got: 2)"));
    let (result, _) = attempt(Manner::default(), |config| config.to = "a@b.c\nBcc: x@y.z".to_owned()).await;
    assert!(!retry(result));
    // STARTTLS that fails matters where TLS is demanded only.
    let broken = || Manner { auth: "broken TLS", ..Manner::default() };
    assert_eq!(attempt(broken(), none).await, (Ok(()), 1));
    let (result, messages) = attempt(broken(), |config| config.require_tls = true).await;
    assert!(retry(result) && messages == 0);
    // A server that hangs up at once.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    assert!(retry(
        email::send(&config(&address), &message(&templates, &alerts, Memory::new())).await.map(drop)
    ));
}

#[tokio::test]
async fn a_broken_template_does_not_lose_the_alert() {
    let templates = Templates::new([("mine.tmpl", "{{ define \"mine\" }}{{ .Nope }}{{ end }}")]).unwrap();
    let alerts = [flushed(&[("alertname", "A"), ("job", "x")], &[], false)];
    let mut config = config("localhost:25");
    config.html = "{{ template \"mine\" . }}".to_owned();
    config.headers.insert("X-Mine".to_owned(), "{{ .Nope }}".to_owned());
    let composed = email::compose(&config, &message(&templates, &alerts, Memory::new()), email::Form::Full)
        .await
        .unwrap();
    let mail = parse(&String::from_utf8(composed.bytes).unwrap());
    let text = mail.part("text/plain");
    assert!(text.contains("can't evaluate field Nope") && text.contains("job = x"), "{text}");
    assert!(mail.header("X-Mine").unwrap().contains("can't evaluate field Nope"));
    assert!(Templates::new([("bad.tmpl", "{{ end }}")]).is_err());
    let own = Templates::new([("own.tmpl", "{{ define \"email.default.subject\" }}mine{{ end }}")]).unwrap();
    let composed =
        email::compose(&config, &message(&own, &alerts, Memory::new()), email::Form::Full).await.unwrap();
    assert_eq!(parse(&String::from_utf8(composed.bytes).unwrap()).header("Subject"), Some("mine"));
}

#[test]
fn a_webhook_body_is_upstreams() {
    let templates = defaults();
    let alerts = [
        flushed(&[("alertname", "Down"), ("instance", "a:1")], &[("summary", "s <b>")], false),
        flushed(&[("alertname", "Down"), ("instance", "b:1")], &[], true),
    ];
    let message = message(&templates, &alerts, Memory::new());
    let body = exchange::encode(&webhook::Payload::new(&message, "4", 0)).unwrap();
    let (a, b) = (alerts[0].alert.fingerprint, alerts[1].alert.fingerprint);
    let wanted = format!(
        r#"{{"receiver":"team\\.a","status":"firing","alerts":[{{"status":"firing","labels":{{"alertname":"Down","instance":"a:1"}},"annotations":{{"summary":"s \u003cb\u003e"}},"startsAt":"2023-11-14T22:13:20Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prom:9090/graph?g0.expr=up+%3D%3D+0\u0026g0.tab=1","fingerprint":"{a}"}},{{"status":"resolved","labels":{{"alertname":"Down","instance":"b:1"}},"annotations":{{}},"startsAt":"2023-11-14T22:13:20Z","endsAt":"2023-11-14T22:14:50Z","generatorURL":"http://prom:9090/graph?g0.expr=up+%3D%3D+0\u0026g0.tab=1","fingerprint":"{b}"}}],"notification_reason":"first notification","groupLabels":{{"alertname":"Down"}},"commonLabels":{{"alertname":"Down"}},"commonAnnotations":{{}},"routeLabels":{{}},"externalURL":"http://ferula:9090","version":"4","groupKey":"{{}}:{{alertname=\"Down\"}}","truncatedAlerts":0}}"#
    );
    assert_eq!(String::from_utf8(body).unwrap(), wanted + "\n");
}

#[test]
fn pauses_grow_and_stay_within_their_bounds() {
    let mut backoff = super::Backoff::default();
    let pauses: Vec<_> = (0..30).map(|_| backoff.next_pause().as_secs_f64()).collect();
    for (i, pause) in (0_i32..).zip(&pauses) {
        let middle = (0.5 * 1.5_f64.powi(i)).min(60.0);
        assert!((middle * 0.5..=middle * 1.5).contains(pause), "pause {i} is {pause} s, not about {middle}");
    }
}

#[tokio::test]
async fn attempts_end_with_the_deadline() {
    // The first pause alone is longer than the deadline.
    let no = |retry| move || async move { Err(Failure { message: "no".to_owned(), retry, reason: "other" }) };
    for may_retry in [true, false] {
        let outcome = retry("r/x[0]", Duration::from_millis(50), no(may_retry)).await;
        assert_eq!((outcome.requests, outcome.failed_requests), (1, 1));
        assert_eq!(outcome.result.unwrap_err().message, "no");
    }
    let hangs = || std::future::pending::<Result<Sent, Failure>>();
    let outcome = retry("r/x[0]", Duration::from_millis(50), hangs).await;
    assert_eq!(outcome.result.unwrap_err().reason, "contextDeadlineExceeded");
}

#[tokio::test]
async fn webhook_answers_decide_whether_to_come_back() {
    let templates = defaults();
    let message = message(&templates, &[flushed(&[("alertname", "A")], &[], false)], Memory::new());
    for (status, retry, reason) in [
        (500, true, "serverError"),
        (404, false, "clientError"),
        (403, false, "authError"),
        (429, false, "rateLimited"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret-token", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwhy?");
            write.write_all(answer.as_bytes()).await.unwrap();
        });
        let config = Webhook {
            url: SecretSource::Inline(Secret::new(url)),
            http: HttpClient::default(),
            max_alerts: 0,
            timeout: Duration::from_secs(5),
            payload: None,
        };
        let failure = webhook::send(&config, &message).await.unwrap_err();
        assert_eq!((failure.retry, failure.reason), (retry, reason));
        assert_eq!(failure.message, format!("unexpected status code {status}: why?"));
    }
    let config = Webhook {
        url: SecretSource::Inline(Secret::new("http://127.0.0.1:1/secret-token")),
        http: HttpClient::default(),
        payload: None,
        max_alerts: 0,
        timeout: Duration::ZERO,
    };
    let failure = webhook::send(&config, &message).await.unwrap_err();
    assert!(failure.retry && !failure.message.contains("secret-token"), "{failure}");
}

/// A configuration as users write it, to one e-mail per group, and the resolved one in the same thread.
#[tokio::test]
async fn from_a_configuration_file_to_the_mailbox() {
    use crate::alertmanager::{Alertmanager, Clock, Options, PostedAlert, SystemClock, clock};
    let (address, seen) = smtp_server(Manner::default()).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.tmpl"), "{{ define \"__alertmanager\" }}our house{{ end }}").unwrap();
    let yaml = format!(
        "global:\n  smtp_smarthost: '{address}'\n  smtp_from: ferula@example.org\n  smtp_require_tls: false\n\
         templates: ['*.tmpl']\n\
         route:\n  receiver: ops\n  group_by: [alertname]\n  group_wait: 20ms\n  group_interval: 50ms\n\
         receivers:\n- name: ops\n  email_configs:\n  - to: ops@example.org\n    send_resolved: true\n    layout: alertmanager\n"
    );
    let path = dir.path().join("alertmanager.yml");
    std::fs::write(&path, yaml).unwrap();
    let config = config::alertmanager::load(&path).unwrap();
    let options = Options { data_dir: Some(dir.path().join("am")), ..Options::default() };
    let manager = Alertmanager::new(config, options, Arc::new(SystemClock)).unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&manager).run(shutdown.clone()));
    let now = SystemClock.now();
    let put = |ends| {
        let one = |alertname: &str, instance: &str| PostedAlert {
            labels: set(&[("alertname", alertname), ("instance", instance)]),
            starts_at: Some(now),
            ends_at: Some(ends),
            ..PostedAlert::default()
        };
        manager.put(vec![one("Down", "a"), one("Slow", "a"), one("Down", "b")]).unwrap();
    };
    let mails = async |n: usize| {
        let arrived = async {
            while seen.lock().messages.len() < n {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("mails arrive");
        let seen = seen.lock();
        let mut mails: Vec<_> = seen.messages.iter().skip(n - 2).map(|text| parse(text)).collect();
        mails.sort_by_key(|mail| mail.header("Subject").map(str::to_owned));
        mails
    };
    put(clock::after(now, Duration::from_mins(10)));
    let firing = mails(2).await;
    assert_eq!(firing[0].header("Subject"), Some("[FIRING:1] Slow (a)"));
    assert_eq!(firing[1].header("Subject"), Some("[FIRING:2] Down"));
    assert!(firing[1].part("text/plain").contains("Sent by our house: first notification."));
    put(SystemClock.now());
    let resolved = mails(4).await;
    assert_eq!(resolved[1].header("Subject"), Some("[RESOLVED] Slow (a)"));
    assert_eq!(resolved[1].header("In-Reply-To"), firing[0].header("Message-ID"));
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(seen.lock().messages.len(), 4);
    assert!(dir.path().join("am/nflog").exists());
}

mod services;
