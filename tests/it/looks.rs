//! The mail as people get it: value, threshold and graph of what fires, and a link that silences it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::mail::{header, mails, part, python};
use crate::process::{Home, Process, until, until_true};
use crate::scripted::Scripted;

const CONFIG: &str = "
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {site: here}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: queues
    static_configs: [{targets: ['TARGET']}]
";

const RULES: &str = "
groups:
  - name: queues
    rules:
      - alert: QueueStuck
        expr: queue_wait_seconds{job=\"queues\"} > 5
        for: 1s
        labels: {severity: critical}
        annotations: {summary: 'queue {{ $labels.queue }} <waits>', runbook_url: 'https://wiki.example.org/queue'}
";

const ALERTMANAGER: &str = "
global: {smtp_smarthost: 'SMTP', smtp_from: 'ferula@example.org', smtp_require_tls: false, smtp_hello: localhost}
route: {receiver: mail, group_by: [alertname, queue], group_wait: 3s, group_interval: 5s, repeat_interval: 1h}
receivers:
  - name: mail
    email_configs: [{to: 'ops@example.org', send_resolved: true}]
";

#[test]
fn a_mail_shows_value_threshold_and_graph_and_its_link_silences() {
    let test = "a_mail_shows_value_threshold_and_graph_and_its_link_silences";
    let Some(python) = python(test) else { return };
    let is_stuck = Arc::new(AtomicBool::new(false));
    let stuck = Arc::clone(&is_stuck);
    let target = Scripted::target(move || {
        let wait = if stuck.load(Ordering::Acquire) { 9 } else { 1 };
        format!("queue_wait_seconds{{queue=\"a\"}} {wait}\nqueue_wait_seconds{{queue=\"b\"}} 2\n")
    });
    let home = Home::new(&CONFIG.replace("TARGET", &target.address()));
    let inbox = home.path("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/smtp_server.py");
    let mut smtp = Process::spawn("aiosmtpd", Command::new(python).arg(script).arg(&inbox));
    let smarthost = smtp.url().trim_start_matches("http://").to_owned();
    home.write("rules.yml", RULES);
    home.write("alertmanager.yml", &ALERTMANAGER.replace("SMTP", &smarthost));
    let server = home.start(&["--alertmanager.config-file=alertmanager.yml"]);
    until_true("both queues to be seen", || server.value("count(queue_wait_seconds)") == Some(2.0));
    is_stuck.store(true, Ordering::Release);

    let mail = until("the mail", || mails(&inbox).into_iter().next());
    check_words(&mail);
    check_graph(&mail);
    check_link(&server, &mail);

    is_stuck.store(false, Ordering::Release);
    // The silence is made: that it is over nobody is told either.
    until_true("the alert to be over", || server.json("/api/v2/alerts").as_array().unwrap().is_empty());
    assert_eq!(mails(&inbox).len(), 1);
    server.stop();
}

fn check_words(mail: &Value) {
    assert_eq!(mail["defects"], json!([]));
    assert_eq!(mail["content_type"], "multipart/related");
    assert_eq!(header(mail, "Subject"), "QueueStuck a (critical)");
    assert_eq!(header(mail, "X-Ferula-Severity"), "critical");
    let (text, html) = (part(mail, "text/plain"), part(mail, "text/html"));
    for words in [
        "FIRING: QueueStuck [critical]",
        "queue a <waits>",
        "Value now       9 s (threshold > 5 s)",
        "When it fired   9 s",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 78 || line.trim().starts_with("http")), "{text}");
    assert!(
        html.contains("queue a &lt;waits&gt;") && html.contains("https://wiki.example.org/queue"),
        "{html}"
    );
    for words in ["QueueStuck in group queues of ", "&gt; 5 s", "Route: </strong>", "site"] {
        assert!(html.contains(words), "{words:?} is not in {html}");
    }
}

/// The image is the one that the HTML names, and the last value in it is as far above the threshold as it should.
fn check_graph(mail: &Value) {
    let images: Vec<_> =
        mail["parts"].as_array().unwrap().iter().filter(|part| part["type"] == "image/png").collect();
    let [image] = images.as_slice() else { panic!("not one image in {mail:#}") };
    let id = image["id"].as_str().unwrap().trim_matches(['<', '>']);
    assert!(part(mail, "text/html").contains(&format!("cid:{id}")), "{id}");
    let encoded = image["base64"].as_str().unwrap();
    let file = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    assert!(file.len() <= 40_000, "{} bytes", file.len());
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut data = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut data).unwrap();
    assert_eq!((info.width, info.height), (1200, 400));
    let pixels: Vec<&[u8]> = data.chunks_exact(3).collect();
    let is_like = |pixel: &[u8], color: [u8; 3]| pixel.iter().zip(color).all(|(a, b)| a.abs_diff(b) < 12);
    let rows = |color: [u8; 3], columns: std::ops::Range<usize>| -> Vec<usize> {
        let in_row = |y: usize| columns.clone().filter(|x| is_like(pixels[y * 1200 + x], color)).count();
        (0..400).map(in_row).collect()
    };
    // The threshold is the row with most red; the value of now is the highest blue.
    let red = rows([0xcf, 0x22, 0x2e], 200..800);
    let threshold = (50..340).max_by_key(|y| red[*y]).unwrap();
    assert!(red[threshold] > 200, "no threshold");
    let blue = rows([0x0b, 0x5c, 0xd5], 200..1200);
    let top = blue.iter().position(|n| *n > 0).expect("there is a curve");
    // Zero is at the foot of the plot; half a label stands above its value.
    let (foot, value) = (346.0, top as f64 + 10.0);
    let ratio = (foot - value) / (foot - threshold as f64);
    assert!((ratio - 9.0 / 5.0).abs() < 0.12, "9 is drawn {ratio} times as high as 5");
}

fn check_link(server: &crate::process::Server, mail: &Value) {
    let text = part(mail, "text/plain");
    let link = text.lines().find(|line| line.contains("/alerts/act?t=")).expect("a link that silences");
    let token = link.split("?t=").nth(1).unwrap();
    let silences = || server.json("/api/v2/silences").as_array().unwrap().clone();
    let (status, page) = server.get(&format!("/alerts/act?t={token}"));
    assert!(status == 200 && page.contains("One of them fires right now"), "{status} {page}");
    assert!(silences().is_empty(), "looking at a link made a silence");
    let (status, page) = server.form("/alerts/act", &[("t", &format!("{token}x"))]);
    assert!(status == 403 && page.contains("This link does not work"), "{status} {page}");
    for _ in 0..2 {
        let (status, page) = server.form("/alerts/act", &[("t", token)]);
        assert!(status == 200 && page.contains("Silenced"), "{status} {page}");
    }
    let silences = silences();
    let [silence] = silences.as_slice() else { panic!("not one silence but {silences:?}") };
    assert_eq!(silence["createdBy"], "silence by mail link: mail");
    assert_eq!(silence["status"]["state"], "active");
    assert_eq!(silence["matchers"].as_array().unwrap().len(), 2);
    let state = until("the alert to be silenced", || {
        let alerts = server.json("/api/v2/alerts");
        Some(alerts[0]["status"]["state"].clone()).filter(|state| state == "suppressed")
    });
    assert_eq!(state, "suppressed");
}
