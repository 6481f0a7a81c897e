//! Mails to a real SMTP server that reads them back with a MIME library that is not ours. It needs Python with
//! aiosmtpd: `FERULA_VENV` names the environment that has it. And sessions with a server of the test, which
//! does what real ones seldom do.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use config::Secret;
use config::alertmanager::{Layout, Threading};
use config::http_client::{SecretSource, TextSource};
use config::template::notification::Alert;
use serde_json::{Value, json};

use super::compose::assemble;
use super::content::{Content, Image};
use super::fake::{Act, Fake, say};
use super::samples::{alert, config, message};
use super::*;
use crate::alertmanager::nflog::Memory;
use crate::alertmanager::notify::templates::Templates;

// === The real server ===

/// aiosmtpd with a folder for what it gets.
struct Real {
    process: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Real {
    /// Starts one, or says that the test is skipped.
    fn start(test: &str, options: &[&str]) -> Option<Self> {
        // Not `println!`: what that says of a test that passes nobody gets to see.
        let skipped = |why: &str| writeln!(std::io::stderr(), "SKIPPED {test}: {why}").unwrap();
        let python = std::env::var("FERULA_VENV")
            .map_or_else(|_| "python3".to_owned(), |venv| format!("{venv}/bin/python"));
        let has = Command::new(&python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            skipped(&format!("{python} has no aiosmtpd (`make smtp` installs it, FERULA_VENV names it)"));
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/smtp_server.py");
        let mut process = Command::new(&python)
            .arg(script)
            .arg(dir.path())
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = loop {
            let line = lines.next().expect("the server says where it listens");
            if let Some((_, address)) = line.split_once("address=") {
                break address.to_owned();
            }
            writeln!(std::io::stderr(), "{line}").unwrap();
        };
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, address, dir })
    }

    fn mails(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
        paths.sort();
        paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
    }

    fn last(&self) -> Value {
        self.mails().pop().expect("a mail")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate of `localhost` that vouches for itself, and its key.
fn certificate(dir: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

fn secret(text: &str) -> SecretSource {
    SecretSource::Inline(Secret::new(text))
}

fn templates() -> Templates {
    Templates::new([]).unwrap()
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    mail["headers"][name].as_str().unwrap_or_else(|| panic!("no header {name} in {mail:#}"))
}

fn part<'a>(mail: &'a Value, kind: &str) -> &'a Value {
    let mut parts = mail["parts"].as_array().unwrap().iter();
    parts.find(|part| part["type"] == kind).unwrap_or_else(|| panic!("no part {kind} in {mail:#}"))
}

/// What holds for every mail, whatever is in it.
fn check_form(mail: &Value) {
    assert_eq!(mail["defects"], json!([]), "{mail:#}");
    assert_eq!(mail["header_defects"], json!([]), "{mail:#}");
    assert_eq!((&mail["is_ascii"], &mail["bare_line_ends"]), (&json!(true), &json!(false)));
    assert!(mail["longest_line"].as_u64().unwrap() < 998, "{}", mail["longest_line"]);
    let mut names: Vec<_> =
        mail["names"].as_array().unwrap().iter().map(|name| name.to_string().to_lowercase()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "a header occurs twice");
}

/// Composes a mail about `alerts`, which the server reads.
async fn deliver(real: &Real, config: &Email, alerts: Vec<Alert>) -> Value {
    let templates = templates();
    send(config, &message(&templates, alerts, Memory::new())).await.unwrap();
    let mail = real.last();
    check_form(&mail);
    mail
}

#[tokio::test]
async fn ways_in() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let every = "CRAM-MD5 XOAUTH2 OAUTHBEARER LOGIN PLAIN";
    // How the server is, which secrets we have, and who it thinks we are in the end.
    let cases: [(&str, &str, &[&str], &str); 11] = [
        ("none", "PLAIN LOGIN", &["password"], "plain:me"),
        ("none", "LOGIN PLAIN", &["password"], "login:me"),
        ("none", "CRAM-MD5 PLAIN", &["secret", "password"], "cram:me"),
        ("none", "PLAIN CRAM-MD5", &["secret", "password"], "plain:me"),
        ("none", "CRAM-MD5 LOGIN", &["password"], "login:me"),
        ("starttls", "PLAIN", &["password"], "plain:me"),
        ("starttls", every, &["secret", "token", "password"], "cram:me"),
        ("starttls", every, &["token", "password"], "xoauth2:me"),
        ("starttls", "OAUTHBEARER XOAUTH2", &["token"], "oauthbearer:me"),
        ("implicit", "LOGIN", &["password"], "login:me"),
        ("implicit", "", &[], ""),
    ];
    for (tls, auth, secrets, user) in cases {
        let options = ["--tls", tls, "--cert", cert, "--key", key, "--auth", auth];
        let Some(real) = Real::start("ways_in", &options) else { return };
        let mut config = config(&real.address);
        config.require_tls = tls == "starttls";
        config.force_implicit_tls = (tls == "implicit").then_some(true);
        config.tls.ca = Some(TextSource::File(cert.into()));
        config.tls.server_name = Some("localhost".to_owned());
        for kind in secrets {
            config.auth_username = "me".to_owned();
            match *kind {
                "password" => config.auth_password = secret("pässword"),
                "secret" => config.auth_secret = secret("pässword"),
                _ => config.extensions.auth_token = Some(secret("t0ken")),
            }
        }
        let mail = deliver(&real, &config, vec![alert(&[("alertname", "A")], &[])]).await;
        let case = format!("{tls} {auth:?} {secrets:?}");
        assert_eq!(mail["user"].as_str().unwrap_or_default(), user, "{case}");
        assert_eq!(mail["tls"], json!(tls != "none"), "{case}");
        // A wrong secret is final, and not said in the error.
        if !secrets.is_empty() {
            config.auth_password = secret("wr0ng");
            config.auth_secret = secret("wr0ng");
            config.extensions.auth_token = config.extensions.auth_token.map(|_| secret("wr0ng"));
            let templates = templates();
            let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new());
            let failure = send(&config, &message).await.unwrap_err();
            assert_eq!((failure.retry, failure.reason), (false, "authError"), "{case}: {failure}");
            assert!(
                failure.message.contains(" auth: 535 ") && !failure.message.contains("wr0ng"),
                "{failure}"
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_ends_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let test = "a_certificate_that_nobody_vouches_for_ends_the_session";
    for tls in ["starttls", "implicit"] {
        let options = ["--tls", tls, "--cert", cert, "--key", key];
        let Some(real) = Real::start(test, &options) else { return };
        let mut config = config(&real.address);
        config.require_tls = true;
        config.force_implicit_tls = (tls == "implicit").then_some(true);
        let templates = templates();
        let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new());
        let failure = send(&config, &message).await.unwrap_err();
        assert!(
            failure.retry && failure.message.contains("tls: failed to verify certificate: x509: "),
            "{failure}"
        );
        // The name has to be right too.
        config.tls.ca = Some(TextSource::File(cert.into()));
        config.tls.server_name = Some("elsewhere".to_owned());
        let failure = send(&config, &message).await.unwrap_err();
        assert!(failure.message.contains("x509: "), "{failure}");
        config.tls.insecure_skip_verify = true;
        send(&config, &message).await.unwrap();
        assert_eq!(real.last()["tls"], true);
        // TLS to a server that speaks none yet.
        if tls == "starttls" {
            config.force_implicit_tls = Some(true);
            let failure = send(&config, &message).await.unwrap_err();
            assert!(
                failure.retry && failure.message.starts_with("establish TLS connection to server: "),
                "{failure}"
            );
        }
    }
}

/// What stands in labels and annotations cannot become a header, a recipient, a part, markup or a template.
#[tokio::test]
async fn hostile_values_stay_values() {
    let Some(real) = Real::start("hostile_values_stay_values", &[]) else { return };
    let evil = "x\r\nBcc: victim@example.org\r\n\r\n.\r\nMAIL FROM:<a@b>\r\n--=_1_\r\n\u{2028}<script>alert(1)</script>\"'{{ .Nope }}\0\u{202e}gpj\u{1f4a5}=?utf-8?q?x?=";
    let long = "y".repeat(3_000);
    let alerts = vec![alert(
        &[
            ("alertname", evil),
            ("instance", "\"><img src=x onerror=alert(1)>"),
            ("severity", evil),
            ("long", &long),
        ],
        &[
            ("summary", evil),
            ("description", "{{ template \"x\" }}\r\n.\r\nFrom me\n..\n"),
            ("runbook_url", "javascript:alert(1)"),
        ],
    )];
    for layout in [Layout::Alertmanager, Layout::Ferula] {
        let mut config = config(&real.address);
        config.layout = layout;
        config.headers.insert("X-Evil".to_owned(), "{{ .CommonLabels.alertname }}".to_owned());
        config.headers.insert("Bad Name\r\nBcc".to_owned(), "z".to_owned());
        let mail = deliver(&real, &config, alerts.clone()).await;
        assert_eq!(mail["rcpt_tos"], json!(["ops@example.org", "other@example.org"]));
        assert_eq!(mail["mail_from"], "ferula@example.org");
        let headers = mail["headers"].as_object().unwrap();
        assert!(
            !headers.contains_key("Bcc") && !headers.keys().any(|name| name.contains("Bad")),
            "{headers:?}"
        );
        assert!(
            header(&mail, "X-Evil").contains("<script>") && header(&mail, "X-Evil").contains('\u{1f4a5}')
        );
        assert_eq!(mail["shape"], "multipart/alternative(text/plain,text/html)");
        let html = part(&mail, "text/html")["text"].as_str().unwrap();
        assert!(
            !html.contains("<script") && !html.contains("<img src=x") && !html.contains("\"javascript:"),
            "{html}"
        );
        let text = part(&mail, "text/plain")["text"].as_str().unwrap();
        assert!(text.contains("{{ .Nope }}") && text.contains("MAIL FROM:<a@b>"), "{text}");
    }
}

#[tokio::test]
async fn an_annotation_of_five_megabytes_does_not_stop_the_mail() {
    let Some(real) = Real::start("an_annotation_of_five_megabytes_does_not_stop_the_mail", &[]) else {
        return;
    };
    let large = "ä\r\n".repeat(1_300_000);
    let alerts = vec![alert(&[("alertname", "A"), ("instance", "a:1")], &[("description", &large)])];
    let mail = deliver(&real, &config(&real.address), alerts).await;
    let text = part(&mail, "text/plain")["text"].as_str().unwrap();
    assert!(text.contains("instance = a:1") && text.contains("failed") && text.len() < 10_000, "{text}");
}

#[tokio::test]
async fn images_belong_to_the_html_that_names_them() {
    let Some(real) = Real::start("images_belong_to_the_html_that_names_them", &[]) else { return };
    let config = config(&real.address);
    let templates = templates();
    let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new());
    let png: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    let image = |cid: &str, alt: &str| Image { cid: cid.to_owned(), png: png.clone(), alt: alt.to_owned() };
    let content = Content {
        subject: Some("DiskFull db1 ✓".to_owned()),
        text: Some("text\n".to_owned()),
        html: Some("<img src=\"cid:g1\"><img src=\"cid:g10\"> ü".to_owned()),
        images: vec![image("g1", "value 3 ≥ 2"), image("g10", ""), image("no\r\nX: y", "")],
        headers: vec![("X-Extra".to_owned(), "yes".to_owned()), ("Bcc: x\r\n".to_owned(), "no".to_owned())],
        note: Vec::new(),
    };
    let composed = assemble(&config, &message, &content).unwrap();
    transmit(&config, &composed).await.unwrap();
    let mail = real.last();
    check_form(&mail);
    assert_eq!(
        mail["shape"],
        "multipart/related(multipart/alternative(text/plain,text/html),image/png,image/png)"
    );
    assert_eq!((header(&mail, "Subject"), header(&mail, "X-Extra")), ("DiskFull db1 ✓", "yes"));
    let html = part(&mail, "text/html")["text"].as_str().unwrap();
    let parts = mail["parts"].as_array().unwrap();
    for image in parts.iter().filter(|part| part["type"] == "image/png") {
        let id = image["id"].as_str().unwrap();
        let cid = id.trim_start_matches('<').trim_end_matches('>');
        assert!(
            html.contains(&format!("src=\"cid:{cid}\"")) && cid.ends_with("@example.org"),
            "{cid} in {html}"
        );
        assert_eq!(image["disposition"], "inline");
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(image["base64"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, png);
    }
    let names: Vec<_> = mail["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let wanted = [
        "Date",
        "From",
        "To",
        "Subject",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "X-Extra",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "List-Id",
        "X-Ferula-Status",
        "X-Ferula-Group",
        "X-Ferula-Alertname",
    ];
    assert_eq!(names, wanted);
    assert_eq!(header(&mail, "List-Id"), "<team-a.alerts.example.org>");
    // Without HTML there is nothing to show them in.
    let text_only = Content { html: None, ..content };
    transmit(&config, &assemble(&config, &message, &text_only).unwrap()).await.unwrap();
    assert_eq!(real.last()["shape"], "multipart/alternative(text/plain)");
}

#[tokio::test]
async fn a_thread_has_one_root_and_one_subject() {
    let Some(real) = Real::start("a_thread_has_one_root_and_one_subject", &[]) else { return };
    let mut config = config(&real.address);
    config.threading = Some(Threading::Forever);
    let templates = templates();
    let mut memory = Memory::new();
    let mut ids = Vec::new();
    for n in 0..4 {
        let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], memory);
        let content = Content {
            subject: Some(format!("A number {n}")),
            text: Some("x".to_owned()),
            ..Content::default()
        };
        let composed = assemble(&config, &message, &content).unwrap();
        transmit(&config, &composed).await.unwrap();
        memory = composed.thread.into_memory();
        let mail = real.last();
        check_form(&mail);
        assert_eq!(header(&mail, "Subject"), "A number 0");
        let group = header(&mail, "X-Ferula-Group");
        let phantom = format!("<alert-{group}-@alertmanager>");
        let mut wanted = vec![phantom.clone()];
        wanted.extend(ids.iter().cloned());
        assert_eq!(header(&mail, "References").split_whitespace().collect::<Vec<_>>(), wanted);
        assert_eq!(header(&mail, "In-Reply-To"), ids.last().unwrap_or(&phantom));
        let id = header(&mail, "Message-ID").to_owned();
        assert!(id.starts_with(&format!("<{group}.1700000120.")) && id.ends_with("@example.org>"), "{id}");
        assert!(!ids.contains(&id));
        ids.push(id);
    }
    // A subject of the user's is not ours to keep.
    config.has_subject = true;
    config.headers.insert("Subject".to_owned(), "mine {{ .Status }}".to_owned());
    let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], memory);
    let content = Content { subject: Some("x".to_owned()), text: Some("x".to_owned()), ..Content::default() };
    transmit(&config, &assemble(&config, &message, &content).unwrap()).await.unwrap();
    assert_eq!(header(&real.last(), "Subject"), "mine firing");
}

#[tokio::test]
async fn the_users_headers_win() {
    let Some(real) = Real::start("the_users_headers_win", &[]) else { return };
    let mut config = config(&real.address);
    let mut set = |name: &str, value: &str| drop(config.headers.insert(name.to_owned(), value.to_owned()));
    set("From", "Jörg \"J\" Night <night@example.org>");
    set("To", "undisclosed");
    set("Message-Id", "<mine.{{ len .Alerts }}@example.org>");
    set("In-Reply-To", "<root@example.org>");
    set("Content-Type", "text/evil");
    set("List-Id", "<own.example.org>");
    set("X-Team", "{{ .GroupLabels.alertname }} grün");
    set("Subject", "über {{ .CommonLabels.alertname }}");
    config.has_subject = true;
    let templates = templates();
    let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new());
    let sent = send(&config, &message).await.unwrap();
    let mail = real.last();
    assert_eq!(mail["defects"], json!([]));
    assert_eq!(mail["content_type"], "multipart/alternative");
    assert_eq!(mail["mail_from"], "ferula@example.org");
    assert_eq!(mail["rcpt_tos"], json!(["ops@example.org", "other@example.org"]));
    assert!(header(&mail, "From").contains("Jörg") && header(&mail, "From").contains("<night@example.org>"));
    assert_eq!(header(&mail, "To"), "undisclosed");
    assert_eq!(header(&mail, "Message-ID"), "<mine.1@example.org>");
    // The next one answers that.
    assert_eq!(sent.id.as_deref(), Some("<mine.1@example.org>"));
    assert_eq!(header(&mail, "In-Reply-To"), "<root@example.org>");
    assert!(mail["headers"].get("References").is_none());
    assert_eq!(header(&mail, "List-Id"), "<own.example.org>");
    assert_eq!((header(&mail, "X-Team"), header(&mail, "Subject")), ("A grün", "über A"));
}

/// A user's own templates give exactly what upstream makes of them.
#[tokio::test]
async fn own_parts_are_left_alone() {
    let Some(real) = Real::start("own_parts_are_left_alone", &[]) else { return };
    let mut config = config(&real.address);
    config.layout = Layout::Ferula;
    config.html = "<p>{{ .Status }} = \"ü\" {{ .CommonLabels.evil }}</p>\n.\n".to_owned();
    let alerts = || vec![alert(&[("alertname", "A"), ("evil", "<b>")], &[])];
    let mail = deliver(&real, &config, alerts()).await;
    assert_eq!(mail["shape"], "multipart/alternative(text/html)");
    let html = part(&mail, "text/html")["text"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(html, "<p>firing = \"ü\" &lt;b&gt;</p>\n.\n");
    config.html = String::new();
    config.text = "plain {{ .CommonLabels.evil }}".to_owned();
    let mail = deliver(&real, &config, alerts()).await;
    assert_eq!(mail["shape"], "multipart/alternative(text/plain)");
    assert_eq!(part(&mail, "text/plain")["text"].as_str().unwrap().trim_end(), "plain <b>");
    // Redefined, the default is the user's as well.
    config.html = "{{ template \"email.default.html\" . }}".to_owned();
    config.text = String::new();
    let own =
        Templates::new([("own.tmpl", "{{ define \"email.default.html\" }}<i>own</i>{{ end }}")]).unwrap();
    send(&config, &message(&own, alerts(), Memory::new())).await.unwrap();
    let mail = real.last();
    assert_eq!(mail["shape"], "multipart/alternative(text/html)");
    assert_eq!(part(&mail, "text/html")["text"].as_str().unwrap().trim_end(), "<i>own</i>");
}

#[tokio::test]
async fn addresses_that_are_not_ascii() {
    let Some(real) = Real::start("addresses_that_are_not_ascii", &[]) else { return };
    let mut config = config(&real.address);
    config.to = "Jörg <jörg@münchen.example>, Ops <ops@münchen.example>".to_owned();
    config.headers.insert("To".to_owned(), config.to.clone());
    let mail = deliver(&real, &config, vec![alert(&[("alertname", "A")], &[])]).await;
    assert_eq!(mail["rcpt_tos"], json!(["jörg@xn--mnchen-3ya.example", "ops@xn--mnchen-3ya.example"]));
}

// === The server of the test ===

async fn attempt(fake: &Fake, change: impl FnOnce(&mut Email)) -> Result<Sent, Failure> {
    let mut config = config(&fake.address);
    change(&mut config);
    let templates = templates();
    send(&config, &message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new())).await
}

#[tokio::test]
async fn a_server_that_hangs_up_anywhere_is_come_back_to() {
    for verb in ["", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let fake =
            Fake::start(
                move |line, _| {
                    if line.split([' ', ':']).next() == Some(verb) { Act::HangUp } else { Act::Agree }
                },
            )
            .await;
        let failure = attempt(&fake, |_| ()).await.unwrap_err();
        assert!(failure.retry && failure.message.ends_with(": EOF"), "{verb}: {failure}");
        assert!(fake.messages().is_empty());
    }
    // The farewell does not matter.
    let fake = Fake::start(|line, _| if line == "QUIT" { Act::HangUp } else { Act::Agree }).await;
    attempt(&fake, |_| ()).await.unwrap();
}

#[tokio::test]
async fn every_step_has_its_time() {
    for verb in ["", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let fake =
            Fake::start(
                move |line, _| {
                    if line.split([' ', ':']).next() == Some(verb) { Act::Sleep } else { Act::Agree }
                },
            )
            .await;
        let config = config(&fake.address);
        let templates = templates();
        let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new());
        let composed = compose(&config, &message, Form::Full).await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(200);
        let hung = async {
            let mut session = Session::open(&config, deadline).await?;
            session.transact(&composed.from, &composed.to, &composed.bytes).await
        };
        let fault = tokio::time::timeout(Duration::from_secs(20), hung).await.expect("an end").unwrap_err();
        assert!(
            fault.is_temporary() && fault.message.ends_with("context deadline exceeded"),
            "{verb}: {fault:?}"
        );
    }
}

/// Mechanisms that are offered, the error, and the configuration that meets them.
type Login = (&'static str, &'static str, fn(&mut Email));

#[tokio::test]
async fn replies_decide_whether_to_come_back() {
    for (verb, reply, retry, text) in [
        ("", "554 go away", false, "create SMTP client: 554 go away"),
        ("", "421 busy", true, "create SMTP client: 421 busy"),
        ("", "hello", true, "create SMTP client: short or odd response: \"hello\""),
        ("EHLO", "421 busy", true, "send EHLO command: 421 busy"),
        ("MAIL", "452 full", true, "send MAIL command: 452 full"),
        ("MAIL", "501-5.1.7 bad\r\n501 sender", false, "send MAIL command: 501 5.1.7 bad sender"),
        ("RCPT", "450 greylisted", true, "send RCPT command: 450 greylisted"),
        ("RCPT", "550 unknown", false, "send RCPT command: 550 unknown"),
        ("DATA", "451 not now", true, "send DATA command: 451 not now"),
        (".", "451 greylisted", true, "delivery failure: 451 greylisted"),
        (".", "554 spam", false, "delivery failure: 554 spam"),
    ] {
        let fake =
            Fake::start(
                move |line, _| {
                    if line.split([' ', ':']).next() == Some(verb) { say(reply) } else { Act::Agree }
                },
            )
            .await;
        let failure = attempt(&fake, |_| ()).await.unwrap_err();
        assert_eq!((failure.retry, failure.message.as_str()), (retry, text), "{verb}");
    }
}

#[tokio::test]
async fn logins_that_cannot_be_are_said_as_upstream_says_them() {
    let offering = |mechanisms: &'static str| {
        Fake::start(move |line, _| {
            if line.starts_with("EHLO") {
                Act::Say(format!("250-fake\r\n250 AUTH {mechanisms}"))
            } else {
                Act::Agree
            }
        })
    };
    let cases: [Login; 6] = [
        (
            "CRAM-MD5 GSSAPI PLAIN LOGIN",
            "find auth mechanism: missing secret for CRAM-MD5 auth mechanism; unknown auth mechanism: GSSAPI; \
             missing password for PLAIN auth mechanism; missing password for LOGIN auth mechanism",
            |_| (),
        ),
        ("XOAUTH2", "find auth mechanism: unknown auth mechanism: XOAUTH2", |_| ()),
        ("PLAIN", "could not read /nowhere/password: ", |config| {
            config.auth_password = SecretSource::File("/nowhere/password".into());
        }),
        ("LOGIN", "LOGIN auth: unexpected server challenge", |config| config.auth_password = secret("p")),
        ("CRAM-MD5", "CRAM-MD5 auth: challenge is not base64", |config| config.auth_secret = secret("p")),
        ("PLAIN", "PLAIN auth: unexpected server challenge", |config| config.auth_password = secret("p")),
    ];
    for (mechanisms, wanted, change) in cases {
        let fake = if wanted.contains("challenge") {
            Fake::start(move |line, _| match line.split(' ').next() {
                Some("EHLO") => Act::Say(format!("250-fake\r\n250 AUTH {mechanisms}")),
                Some("AUTH") if mechanisms == "CRAM-MD5" => say("334 ???"),
                Some("AUTH") => say("334 d2hhdD8="),
                _ => Act::Agree,
            })
            .await
        } else {
            offering(mechanisms).await
        };
        let with_user = |config: &mut Email| {
            config.auth_username = "me".to_owned();
            change(config);
        };
        let failure = attempt(&fake, with_user).await.unwrap_err();
        assert!(failure.message.contains(wanted) && failure.reason == "authError", "{failure}");
        assert_eq!(fake.count("MAIL"), 0);
    }
    // Who has no name does not log in; and where no login is offered none is needed, unless one says so.
    attempt(&offering("PLAIN").await, |_| ()).await.unwrap();
    let plain = Fake::start(|_, _| Act::Agree).await;
    attempt(&plain, |config| config.auth_username = "me".to_owned()).await.unwrap();
    let failure = attempt(&plain, |config| {
        config.auth_username = "me".to_owned();
        config.extensions.is_auth_optional = false;
    });
    assert!(failure.await.unwrap_err().message.contains("does not advertise the AUTH extension"));
    // An identity goes along with PLAIN.
    let fake = offering("PLAIN").await;
    let identity = |config: &mut Email| {
        config.auth_username = "me".to_owned();
        config.auth_identity = "us".to_owned();
        config.auth_password = secret("p");
    };
    attempt(&fake, identity).await.unwrap();
    // us\0me\0p
    assert_eq!(fake.count("AUTH PLAIN dXMAbWUAcA=="), 1);
}

/// What somebody in between says before the handshake is not taken for the server's.
#[tokio::test]
async fn nothing_is_believed_that_came_before_tls() {
    let fake = Fake::start(|line, _| match line.split(' ').next() {
        Some("EHLO") => say("250-fake\r\n250 STARTTLS"),
        Some("STARTTLS") => say("220 go on\r\n250-evil\r\n250 AUTH PLAIN"),
        _ => Act::Agree,
    })
    .await;
    let failure = attempt(&fake, |config| config.require_tls = true).await.unwrap_err();
    assert!(failure.message.contains("data before the TLS handshake"), "{failure}");
    let fake = Fake::start(|_, _| Act::Agree).await;
    let failure = attempt(&fake, |config| config.require_tls = true).await.unwrap_err();
    let text = "'require_tls' is true (default) but \"ADDRESS\" does not advertise the STARTTLS extension";
    assert_eq!(failure.message, text.replace("ADDRESS", &fake.address));
}
