//! What receivers over HTTP do where a service is not as one wishes: servers of the test answer by a list.

use std::sync::Arc;
use std::time::Duration;

use config::alertmanager::Notifier;
use config::template::notification::Data;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{defaults, flushed, message};
use crate::alertmanager::nflog::{Datum, Memory};
use crate::alertmanager::notify::templates::Templates;
use crate::alertmanager::notify::{Failure, Message, Sent, send};

/// What was asked: the first line and the body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Gives the answers one after the other, the last again and again.
async fn service(answers: &[(u16, &'static str, &'static str)]) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Asked::default();
    let (seen, answers) = (Arc::clone(&asked), answers.to_vec());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, length) = loop {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).await.unwrap();
                bytes.extend_from_slice(&piece[..n]);
                if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                    let head = String::from_utf8(bytes.drain(..at + 4).collect()).unwrap().to_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                    break (head.clone(), length.map_or(0, |length| length.trim().parse().unwrap()));
                }
                if n == 0 {
                    return;
                }
            };
            while bytes.len() < length {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).await.unwrap();
                bytes.extend_from_slice(&piece[..n]);
            }
            let line = head.lines().next().unwrap_or_default().trim_end_matches(" http/1.1").to_owned();
            let (status, kind, body) = {
                let mut seen = seen.lock();
                seen.push((line, serde_json::from_slice(&bytes).unwrap_or(Value::Null)));
                answers[(seen.len() - 1).min(answers.len() - 1)]
            };
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            // Whoever hangs up has heard enough.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

const JSON: &str = "application/json";

/// The only integration of a configuration, `HOST` being `address`.
fn integration(section: &str, address: &str) -> config::alertmanager::Integration {
    let text = format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{section}").replace("HOST", address);
    let config = config::alertmanager::parse(&text, std::path::Path::new("/am.yml")).unwrap();
    config.receivers[0].integrations[0].clone()
}

fn sample(templates: &Templates) -> Message<'_> {
    let alert = flushed(&[("alertname", "Down"), ("instance", "a_b*c")], &[("summary", "it is")], false);
    message(templates, &[alert], Memory::new())
}

async fn told(section: &str, address: &str, message: &Message<'_>) -> Result<Sent, Failure> {
    send(&integration(section, address), message).await
}

#[tokio::test]
async fn a_template_that_fails_does_not_cost_an_alert() {
    let templates = defaults();
    let (address, asked) = service(&[(200, "text/plain", "ok")]).await;
    let section =
        "  slack_configs: [{api_url: 'http://HOST/', title: '{{ .Nope }}', text: '{{ index .Alerts 7 }}'}]\n";
    told(section, &address, &sample(&templates)).await.unwrap();
    let attachment = asked.lock()[0].1["attachments"][0].clone();
    let title = attachment["title"].as_str().unwrap();
    assert!(
        title.starts_with("<error expanding template: ") && title.contains("can't evaluate field Nope"),
        "{title}"
    );
    assert!(title.ends_with("\n[FIRING] alertname=Down, instance=a_b*c"), "{title}");
    assert!(attachment["text"].as_str().unwrap().contains("index out of range"), "{attachment}");
    // What nobody reads must be right.
    let section = "  pagerduty_configs: [{routing_key: '{{ .Nope }}', url: 'http://HOST/'}]\n";
    let failure = told(section, &address, &sample(&templates)).await.unwrap_err();
    assert!(
        !failure.retry && failure.message.starts_with("failed to template PagerDuty v2 message: "),
        "{failure}"
    );
    let section = "  pagerduty_configs: [{routing_key: '{{ .CommonLabels.nope }}', url: 'http://HOST/'}]\n";
    let failure = told(section, &address, &sample(&templates)).await.unwrap_err();
    assert_eq!((failure.retry, failure.message.as_str()), (false, "routing key cannot be empty"));
}

#[tokio::test]
async fn slack_gets_a_new_message_where_the_old_one_is_gone() {
    let templates = defaults();
    let mut message = sample(&templates);
    message.memory = Memory::from([
        ("threadTs".to_owned(), Datum::Text("1.1".to_owned())),
        ("channelId".to_owned(), Datum::Text("C1".to_owned())),
    ]);
    let notifier = |address: &str| {
        let mut integration =
            integration("  slack_configs: [{api_url: 'http://HOST/', channel: '#c'}]\n", address);
        let Notifier::Slack(config) = &mut integration.notifier else { panic!("it is for Slack") };
        config.update_message = true;
        let url = format!("http://{address}/api/chat.postMessage");
        config.target = config::alertmanager::SlackTarget::App {
            token: config::http_client::SecretSource::Inline(config::Secret::new("t")),
            url,
        };
        integration
    };
    let (address, asked) = service(&[
        (200, JSON, r#"{"ok":false,"error":"message_not_found"}"#),
        (200, JSON, r#"{"ok":true,"channel":"C2","ts":"2.2"}"#),
    ])
    .await;
    let sent = send(&notifier(&address), &message).await.unwrap();
    let texts: Vec<_> = asked
        .lock()
        .iter()
        .map(|(line, body)| format!("{line} {} {}", body["channel"], body["ts"]))
        .collect();
    assert_eq!(texts, ["post /api/chat.update \"C1\" \"1.1\"", "post /api/chat.postmessage \"#c\" null"]);
    assert_eq!(sent.memory["threadTs"], Datum::Text("2.2".to_owned()));
    assert_eq!(sent.memory["channelId"], Datum::Text("C2".to_owned()));
    // Anything else that is wrong stays wrong.
    let (address, asked) = service(&[(200, JSON, r#"{"ok":false,"error":"invalid_auth"}"#)]).await;
    let failure = send(&notifier(&address), &message).await.unwrap_err();
    assert_eq!(failure.message, "channel \"C1\": error response from Slack: invalid_auth");
    assert_eq!((failure.retry, failure.reason, asked.lock().len()), (false, "clientError", 1));
}

#[tokio::test]
async fn telegram_gets_plain_text_where_it_refuses_the_markup() {
    let templates = defaults();
    let refused =
        r#"{"ok":false,"error_code":400,"description":"Bad Request: can't parse entities: Character '_'"}"#;
    let (address, asked) = service(&[(400, JSON, refused), (200, JSON, r#"{"ok":true}"#)]).await;
    let section = "  telegram_configs: [{bot_token: secret, chat_id: 1, api_url: 'http://HOST', parse_mode: Markdown}]\n";
    told(section, &address, &sample(&templates)).await.unwrap();
    let modes: Vec<_> = asked.lock().iter().map(|(_, body)| body["parse_mode"].clone()).collect();
    assert_eq!(modes, [json!("Markdown"), Value::Null]);
    // Nobody learns the token from an error.
    let failure = told(section, "127.0.0.1:1", &sample(&templates)).await.unwrap_err();
    assert!(failure.retry && failure.message.starts_with("telebot: Post \"<redacted>\": "), "{failure}");
    assert!(!failure.message.contains("secret"), "{failure}");
    let (address, _) = service(&[(502, "text/html", "<h1>Bad Gateway</h1>")]).await;
    let failure = told(section, &address, &sample(&templates)).await.unwrap_err();
    assert!(failure.retry && failure.message.contains("status code 502"), "{failure}");
}

#[tokio::test]
async fn wechat_fetches_a_token_once_and_again_when_it_expires() {
    let templates = defaults();
    let (address, asked) = service(&[
        (200, JSON, r#"{"errcode":0,"access_token":"one"}"#),
        (200, JSON, r#"{"errcode":0}"#),
        (200, JSON, r#"{"errcode":40014,"errmsg":"invalid access_token"}"#),
        (200, JSON, r#"{"errcode":0,"access_token":"two"}"#),
        (200, JSON, r#"{"errcode":0}"#),
        (500, "text/plain", ""),
    ])
    .await;
    let section = "  wechat_configs: [{api_url: 'http://HOST/', api_secret: s, corp_id: c}]\n";
    let message = sample(&templates);
    told(section, &address, &message).await.unwrap();
    let failure = told(section, &address, &message).await.unwrap_err();
    assert_eq!((failure.retry, failure.message.as_str()), (true, "invalid access_token"));
    told(section, &address, &message).await.unwrap();
    let failure = told(section, &address, &message).await.unwrap_err();
    assert_eq!((failure.retry, failure.reason), (true, "serverError"));
    let lines: Vec<_> = asked.lock().iter().map(|(line, _)| line.clone()).collect();
    let (fetch, post) = ("get /gettoken?corpid=c&corpsecret=s", "post /message/send?access_token=");
    let of = |token: &str| format!("{post}{token}");
    assert_eq!(lines, [fetch.to_owned(), of("one"), of("one"), fetch.to_owned(), of("two"), of("two")]);
}

#[tokio::test]
async fn messages_are_cut_to_what_services_take() {
    let templates = defaults();
    let (address, asked) = service(&[(202, JSON, "{}")]).await;
    let mut message = sample(&templates);
    let alerts: Vec<_> = (0..40)
        .map(|i| {
            let mut alert = message.data.alerts[0].clone();
            alert.labels.insert("instance".to_owned(), format!("host-{i}"));
            alert.annotations.insert("summary".to_owned(), "é".repeat(10_000));
            alert
        })
        .collect();
    let Data { receiver, reason, group_labels, external_url, .. } = message.data.clone();
    message.data = Data::new(receiver, group_labels, alerts, reason, external_url);
    told("  pagerduty_configs: [{routing_key: k, url: 'http://HOST/'}]\n", &address, &message).await.unwrap();
    let event = asked.lock()[0].1.clone();
    let why = "Custom details have been removed because the original event exceeds the maximum size of 512KB";
    assert_eq!(event["payload"]["custom_details"], json!({"error": why}));
    let section = "  incidentio_configs: [{url: 'http://HOST/', alert_source_token: t}]\n";
    told(section, &address, &message).await.unwrap();
    let body = asked.lock()[1].1.clone();
    assert_eq!(body["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(body["commonLabels"], json!({"alertname": "Down"}));
    // What is left out is not counted among what all have in common.
    told("  webhook_configs: [{url: 'http://HOST/', max_alerts: 1}]\n", &address, &message).await.unwrap();
    let body = asked.lock()[2].1.clone();
    assert_eq!((&body["truncatedAlerts"], &body["commonLabels"]["instance"]), (&json!(39), &json!("host-0")));
    let section = "  webex_configs: [{api_url: 'http://HOST/', room_id: r, http_config: {authorization: {credentials: b}}}]\n";
    told(section, &address, &message).await.unwrap();
    let text = asked.lock()[3].1["markdown"].as_str().unwrap().to_owned();
    assert!((7436..=7439).contains(&text.len()) && text.ends_with('…'), "{} bytes", text.len());
}

#[tokio::test]
async fn jira_takes_a_text_where_it_wants_a_document() {
    let templates = defaults();
    let (address, asked) = service(&[(200, JSON, r#"{"issues":[]}"#), (201, JSON, r#"{"key":"P-1"}"#)]).await;
    let section = "  jira_configs: [{api_url: 'http://HOST/rest/api/3', project: P, issue_type: T, description: 'it {{ .Status }}'}]\n";
    told(section, &address, &sample(&templates)).await.unwrap();
    let (line, body) = asked.lock()[1].clone();
    assert_eq!(line, "post /rest/api/3/issue");
    assert_eq!(body["fields"]["description"]["content"][0]["content"][0]["text"], "it firing");
    // An issue that is closed already is not closed again, one that is open is.
    let open = r#"{"issues":[{"key":"P-1","fields":{"status":{"statusCategory":{"key":"new"}}}}]}"#;
    let (address, asked) = service(&[
        (200, JSON, open),
        (204, JSON, ""),
        (200, JSON, r#"{"transitions":[{"id":"1","name":"No"}]}"#),
    ])
    .await;
    let section =
        "  jira_configs: [{api_url: 'http://HOST', project: P, issue_type: T, resolve_transition: Done}]\n";
    let alert = flushed(&[("alertname", "Down")], &[], true);
    let resolved = message(&templates, &[alert], Memory::new());
    let failure = told(section, &address, &resolved).await.unwrap_err();
    assert_eq!(failure.message, "can't find transition Done for issue P-1");
    assert_eq!(asked.lock().len(), 3);
    // Nothing is created for what is over.
    let (address, asked) = service(&[(200, JSON, r#"{"issues":[]}"#)]).await;
    told(section, &address, &resolved).await.unwrap();
    assert_eq!(asked.lock().len(), 1);
}

#[tokio::test]
async fn a_timeout_of_its_own_ends_a_request() {
    let templates = defaults();
    // Takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (section, owner) in [
        ("  webhook_configs: [{url: 'http://HOST/secret', timeout: 50ms}]\n", "webhook"),
        ("  slack_configs: [{api_url: 'http://HOST/secret', timeout: 50ms}]\n", "slack"),
        ("  pagerduty_configs: [{routing_key: k, url: 'http://HOST/secret', timeout: 50ms}]\n", "pagerduty"),
        (
            "  incidentio_configs: [{url: 'http://HOST/secret', alert_source_token: t, timeout: 50ms}]\n",
            "incident.io",
        ),
    ] {
        let failure = told(section, &address, &sample(&templates)).await.unwrap_err();
        let text = format!(
            "Post \"<redacted>\": context deadline exceeded: configured {owner} timeout reached (50ms)"
        );
        assert!(failure.retry && failure.message.ends_with(&text), "{failure}");
    }
}

#[tokio::test]
async fn secrets_are_read_from_their_files_each_time() {
    let templates = defaults();
    let (address, asked) = service(&[(200, "text/plain", "")]).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    let section = format!("  webhook_configs: [{{url_file: {}}}]\n", path.display());
    let failure = told(&section, &address, &sample(&templates)).await.unwrap_err();
    let text = format!("read url_file: open {}: no such file or directory", path.display());
    assert_eq!((failure.retry, failure.message), (true, text));
    for name in ["one", "two"] {
        std::fs::write(&path, format!("http://{address}/{name}/{{{{ .Status }}}}\n")).unwrap();
        told(&section, &address, &sample(&templates)).await.unwrap();
    }
    let lines: Vec<_> = asked.lock().iter().map(|(line, _)| line.clone()).collect();
    assert_eq!(lines, ["post /one/firing", "post /two/firing"]);
}

#[test]
fn what_templates_make_of_values_may_be_of_another_kind() {
    let templates = defaults();
    let message = sample(&templates);
    let deep = |value: Value| message.deep(&value).unwrap();
    let value = json!({
        "n": "{{ len .Alerts }}", "yes": "yes", "nothing": "", "time": "2024-01-02", "colon": "a: b", "text": "a:b",
        "list": ["{{ .CommonLabels | toJson }}", 1, null], "{{ .Status }}": "'1'", "bad": "{{ .Status }}: [",
    });
    let expected = json!({
        "n": 1, "yes": true, "nothing": null, "time": "2024-01-02", "colon": {"a": "b"}, "text": "a:b",
        "list": [{"alertname": "Down", "instance": "a_b*c"}, 1, null], "firing": "'1'", "bad": "firing: [",
    });
    assert_eq!(deep(value), expected);
    assert!(message.deep(&json!(["{{ .Nope }}"])).is_err());
}

/// Every attempt that fails is worth a look at the clock, and the last says what was wrong before.
#[tokio::test]
async fn what_failed_before_the_deadline_is_told() {
    use crate::alertmanager::notify::deliver;
    let templates = defaults();
    let (address, asked) = service(&[(503, "text/plain", "not now")]).await;
    let integration = integration("  webhook_configs: [{url: 'http://HOST/'}]\n", &address);
    let outcome = deliver(&integration, &sample(&templates), Duration::from_millis(1500)).await;
    let failure = outcome.result.unwrap_err();
    assert_eq!(
        (failure.reason, failure.message.as_str()),
        ("serverError", "unexpected status code 503: not now")
    );
    assert!(outcome.requests >= 2, "{} attempts", outcome.requests);
    assert_eq!(outcome.failed_requests, outcome.requests);
    let n_asked = asked.lock().len();
    assert_eq!((outcome.latencies.len(), outcome.requests), (n_asked, n_asked as u64));
}
