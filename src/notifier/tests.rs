//! Managers against Alertmanagers that answer as they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::Labels;
use model::wire::expose::{Expose, Exposition};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Alert;
use super::alert::tests::named;
use super::manager::{Manager, Options, sections};
use super::sender::BatchSize;
use crate::discovery::TargetSets;

/// What was posted: the path, with credentials if there were any, and the alerts.
type Posts = Arc<Mutex<Vec<(String, Vec<Value>)>>>;

/// An Alertmanager that answers the n-th request with what `status` says, once it is let.
struct Receiver {
    address: String,
    posts: Posts,
    /// How many requests may be answered.
    turns: Arc<Semaphore>,
}

impl Receiver {
    async fn start(status: impl Fn(usize) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (posts, turns) = (Posts::default(), Arc::new(Semaphore::new(0)));
        let (seen, gate) = (Arc::clone(&posts), Arc::clone(&turns));
        let (status, n) = (Arc::new(status), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, gate) = (Arc::clone(&seen), Arc::clone(&gate));
                let (status, n) = (Arc::clone(&status), Arc::clone(&n));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some((path, body)) = request(&mut stream).await {
                        let status = status(n.fetch_add(1, Ordering::SeqCst));
                        seen.lock().push((path, serde_json::from_slice(&body).unwrap()));
                        gate.acquire().await.unwrap().forget();
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { address, posts, turns }
    }

    async fn good() -> Self {
        let receiver = Self::start(|_| "200 OK").await;
        receiver.let_all();
        receiver
    }

    fn let_all(&self) {
        self.turns.add_permits(1000);
    }

    /// The names of the alerts of each post.
    fn names(&self) -> Vec<Vec<String>> {
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap().to_owned();
        self.posts.lock().iter().map(|(_, alerts)| alerts.iter().map(name).collect()).collect()
    }
}

async fn request(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|&n| n > 0)?;
        if line.starts_with("POST") {
            path = line.split(' ').nth(1).unwrap().to_owned();
        }
        if let Some(credentials) = line.to_lowercase().strip_prefix("authorization: ") {
            path = format!("{path} {}", credentials.trim());
        }
        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((path, body))
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

fn options() -> Options {
    Options { queue_capacity: 10, batch_size: BatchSize(2), drain_on_shutdown: true }
}

fn config(alerting: &str) -> config::Config {
    crate::http_client::provider();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, format!("global:\n  external_labels: {{region: eu}}\nalerting:\n{alerting}"))
        .unwrap();
    config::prometheus::load(&path).unwrap()
}

/// Applies the configuration, with the targets of its static sections.
fn apply(manager: &Manager, config: &config::Config) {
    manager.apply(config).unwrap();
    let targets: TargetSets = sections(config)
        .map(|(key, section)| {
            let groups = section.discovery.iter().flat_map(|discovery| match discovery {
                config::prometheus::Discovery::Static(groups) => {
                    groups.iter().cloned().map(Arc::new).collect()
                }
                _ => Vec::new(),
            });
            (key, groups.collect())
        })
        .collect();
    manager.set_targets(&targets);
}

fn section(address: &str, more: &str) -> String {
    format!("  - static_configs: [{{targets: ['{address}']}}]\n{more}")
}

fn alerts(names: &[&str]) -> Vec<Alert> {
    names.iter().map(|name| named(name, 1)).collect()
}

fn metrics(manager: &Manager) -> String {
    let mut out = Exposition::default();
    manager.expose(&mut out);
    String::from_utf8(out.into_body()).unwrap()
}

/// The value of the metric `name` of the Alertmanager at `address`.
fn metric(manager: &Manager, name: &str, address: &str) -> f64 {
    let line = format!("prometheus_notifications_{name}{{alertmanager=\"http://{address}/api/v2/alerts\"}} ");
    let text = metrics(manager);
    text.lines()
        .find_map(|l| l.strip_prefix(&line))
        .unwrap_or_else(|| panic!("{line}: {text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn every_alertmanager_gets_all_in_batches() {
    let (one, two) = (Receiver::good().await, Receiver::good().await);
    let manager = Manager::new(options(), None);
    let more = "    path_prefix: /am/\n    alert_relabel_configs: [{source_labels: [alertname], regex: b, action: drop}]\n";
    let text = format!("  alertmanagers:\n{}{}", section(&one.address, ""), section(&two.address, more));
    apply(&manager, &config(&text));
    manager.send(alerts(&["a", "b", "c"]));
    manager.stop().await;
    assert_eq!(one.names(), [vec!["a", "b"], vec!["c"]]);
    assert_eq!(two.names(), [vec!["a", "c"]]);
    let (path, sent) = two.posts.lock()[0].clone();
    assert_eq!(path, "/am/api/v2/alerts");
    assert_eq!(sent[0]["labels"]["region"], "eu");
}

/// Two sections that name the same Alertmanager relabel alerts differently, so both are sent.
#[tokio::test]
async fn sections_do_not_share_an_alertmanager() {
    let one = Receiver::good().await;
    let manager = Manager::new(options(), None);
    let drop = |name: &str| {
        format!("    alert_relabel_configs: [{{source_labels: [alertname], regex: {name}, action: drop}}]\n")
    };
    let text = format!(
        "  alertmanagers:\n{}{}",
        section(&one.address, &drop("a")),
        section(&one.address, &drop("b"))
    );
    apply(&manager, &config(&text));
    manager.send(alerts(&["a", "b"]));
    until("both posts", || one.names().len() == 2).await;
    let mut names = one.names();
    names.sort();
    assert_eq!(names, [["a"], ["b"]]);
    until("both to be counted", || metric(&manager, "sent_total", &one.address) == 2.0).await;
    assert!(metrics(&manager).contains("prometheus_notifications_alertmanagers_discovered 2\n"));
    assert!(metrics(&manager).contains("prometheus_notifications_queue_capacity 10\n"));
    manager.stop().await;
}

#[tokio::test]
async fn a_failed_batch_is_tried_once_more_in_its_newest_state() {
    let one = Receiver::start(|n| if n < 1 { "500 Internal Server Error" } else { "200 OK" }).await;
    let manager = Manager::new(options(), None);
    apply(&manager, &config(&format!("  alertmanagers:\n{}", section(&one.address, ""))));
    manager.send(alerts(&["a", "b"]));
    until("the first post", || one.names().len() == 1).await;
    // While it is under way, one of its alerts changes.
    manager.send(vec![named("b", 77)]);
    one.let_all();
    until("the second post", || one.names().len() == 2).await;
    assert_eq!(one.names()[1], ["a", "b"]);
    assert_eq!(one.posts.lock()[1].1[1]["endsAt"], "1970-01-01T00:00:00.077Z");
    until("it to be counted", || metric(&manager, "sent_total", &one.address) == 2.0).await;
    assert_eq!(metric(&manager, "errors_total", &one.address), 2.0);
    assert_eq!(metric(&manager, "dropped_total", &one.address), 0.0);
    assert_eq!(metric(&manager, "latency_seconds_count", &one.address), 1.0);
    manager.stop().await;
}

#[tokio::test]
async fn what_fails_twice_or_is_refused_is_dropped() {
    let down = Receiver::start(|_| "503 Service Unavailable").await;
    let refusing = Receiver::start(|_| "400 Bad Request").await;
    down.let_all();
    refusing.let_all();
    let manager = Manager::new(options(), None);
    let text = format!("  alertmanagers:\n{}{}", section(&down.address, ""), section(&refusing.address, ""));
    apply(&manager, &config(&text));
    manager.send(alerts(&["a", "b"]));
    until("both to be dropped", || {
        metric(&manager, "dropped_total", &down.address) == 2.0
            && metric(&manager, "dropped_total", &refusing.address) == 2.0
    })
    .await;
    assert_eq!((down.names().len(), refusing.names().len()), (2, 1));
    assert_eq!(metric(&manager, "errors_total", &down.address), 4.0);
    assert_eq!(metric(&manager, "sent_total", &down.address), 0.0);
    manager.stop().await;
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_a_slow_one_delays_nobody() {
    let (slow, quick) = (Receiver::start(|_| "200 OK").await, Receiver::good().await);
    let manager = Manager::new(options(), None);
    let text = format!("  alertmanagers:\n{}{}", section(&slow.address, ""), section(&quick.address, ""));
    apply(&manager, &config(&text));
    manager.send(alerts(&["first"]));
    until("both to have it", || slow.names().len() == 1 && quick.names().len() == 1).await;
    let names: Vec<_> = (0..12).map(|i| format!("n{i}")).collect();
    for name in &names {
        manager.send(alerts(&[name]));
        until("the quick one to have it", || quick.names().concat().contains(name)).await;
    }
    assert_eq!(metric(&manager, "queue_length", &slow.address), 10.0);
    assert_eq!(metric(&manager, "dropped_total", &slow.address), 2.0);
    assert_eq!(metric(&manager, "dropped_total", &quick.address), 0.0);
    slow.let_all();
    manager.stop().await;
    let expected: Vec<_> = std::iter::once("first".to_owned()).chain(names[2..].iter().cloned()).collect();
    assert_eq!(slow.names().concat(), expected, "the queue is sent before the end");
}

#[tokio::test]
async fn without_draining_the_queue_is_lost_at_the_end() {
    let slow = Receiver::start(|_| "200 OK").await;
    let manager = Manager::new(Options { drain_on_shutdown: false, ..options() }, None);
    apply(&manager, &config(&format!("  alertmanagers:\n{}", section(&slow.address, ""))));
    manager.send(alerts(&["a"]));
    until("the first post", || slow.names().len() == 1).await;
    manager.send(alerts(&["b", "c", "d"]));
    slow.let_all();
    manager.stop().await;
    assert_eq!(slow.names(), [["a"]]);
}

#[tokio::test]
async fn a_reload_keeps_what_waits() {
    let slow = Receiver::start(|_| "200 OK").await;
    let manager = Manager::new(options(), None);
    apply(&manager, &config(&format!("  alertmanagers:\n{}", section(&slow.address, ""))));
    manager.send(alerts(&["a"]));
    until("the first post", || slow.names().len() == 1).await;
    manager.send(alerts(&["b", "c", "d"]));
    // Another section in front, and this one has changed.
    let other = Receiver::good().await;
    let text = format!(
        "  alertmanagers:\n{}{}",
        section(&other.address, ""),
        section(&slow.address, "    timeout: 7s\n")
    );
    apply(&manager, &config(&text));
    assert_eq!(
        metric(&manager, "queue_length", &slow.address),
        0.0,
        "a section in another place is a new one"
    );
    slow.let_all();
    until("the rest", || slow.names().len() == 3).await;
    assert_eq!(slow.names().concat(), ["a", "b", "c", "d"], "what waited for it is sent all the same");

    // The same place, another text: the queue goes on.
    let held = Receiver::start(|_| "200 OK").await;
    let with = |more: &str| config(&format!("  alertmanagers:\n{}", section(&held.address, more)));
    apply(&manager, &with(""));
    manager.send(alerts(&["a"]));
    until("the first post", || held.names().len() == 1).await;
    manager.send(alerts(&["b", "c", "d"]));
    apply(&manager, &with("    timeout: 7s\n"));
    assert_eq!(metric(&manager, "queue_length", &held.address), 3.0);
    // It is gone from discovery: still sent.
    manager.set_targets(&TargetSets::from([("config-0".to_owned(), Vec::new())]));
    assert!(manager.urls().active.is_empty());
    held.let_all();
    until("the rest", || held.names().len() == 3).await;
    manager.stop().await;
}

#[tokio::test]
async fn a_reload_takes_over_secrets_that_changed_alone() {
    let one = Receiver::good().await;
    let manager = Manager::new(options(), None);
    for (n, token) in [(1, "old"), (2, "new")] {
        let more = format!("    authorization: {{credentials: {token}}}\n");
        apply(&manager, &config(&format!("  alertmanagers:\n{}", section(&one.address, &more))));
        manager.send(alerts(&["a"]));
        until("the post", || one.names().len() == n).await;
    }
    let paths: Vec<_> = one.posts.lock().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/api/v2/alerts bearer old", "/api/v2/alerts bearer new"]);
    manager.stop().await;
}

#[tokio::test]
async fn alerts_that_nobody_hears_are_counted() {
    let manager = Manager::new(options(), None);
    apply(&manager, &config("  alertmanagers: []\n"));
    manager.send(alerts(&["a", "b"]));
    assert!(metrics(&manager).contains("ferula_notifications_unheard_total 2\n"));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let inbox = Arc::clone(&heard);
    let manager = Manager::new(options(), Some(Box::new(move |alerts| inbox.lock().extend(alerts))));
    apply(
        &manager,
        &config("  alert_relabel_configs: [{source_labels: [alertname], regex: b, action: drop}]\n"),
    );
    manager.send(alerts(&["a", "b"]));
    assert!(metrics(&manager).contains("ferula_notifications_unheard_total 0\n"));
    let labels: Vec<Labels> = heard.lock().iter().map(|alert| alert.labels.clone()).collect();
    assert_eq!(labels, [Labels::from_pairs([("alertname", "a"), ("region", "eu")])]);
}
