//! Scripted incidents: rules, notifier and Alertmanager as they run, on a clock that jumps from one event to the
//! next. Each asks afterwards why, and the answer has to name the cause.

mod delivery;
mod rules;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use model::storage::{Appendable, SeriesKey};
use model::{Labels, STALE_NAN, TimeRange, Timestamp};
use promql::{Engine, EngineOptions};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tsdb::db::{Db, Options as StoreOptions};
use tsdb::head::ReplayProgress;
use web::view::story as view;

use super::Explainer;
use crate::alertmanager::{self, Alertmanager, PostedAlert};
use crate::notifier::manager::sections;
use crate::story::{Journal, Limits, tell};
use crate::{notifier, rules as rules_of_server};

/// 2026-01-05, a Monday.
const BASE: Timestamp = 1_767_600_000_000;

/// The time of the runtime's clock, which stands still while somebody works.
fn now() -> Timestamp {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    let passed = Instant::now().saturating_duration_since(origin);
    BASE + i64::try_from(passed.as_millis()).unwrap()
}

struct Clock;

impl alertmanager::Clock for Clock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(now()).unwrap()
    }
}

/// A server without its network side.
struct Server {
    dir: Arc<TempDir>,
    db: Arc<Db>,
    engine: Arc<Engine>,
    journal: Arc<Journal>,
    notifier: Arc<notifier::Manager>,
    manager: rules_of_server::Manager,
    alertmanager: Option<Arc<Alertmanager>>,
    stop: CancellationToken,
}

/// What a server is started with.
#[derive(Default)]
struct Setup {
    /// The rules of one group with an interval of a minute.
    rules: String,
    /// What stands beside them in the group.
    group: &'static str,
    /// `alertmanager.yml`; without one there is none built in.
    alertmanager: Option<String>,
    /// The `alerting` and `global` sections of `prometheus.yml`.
    prometheus: String,
    targets: Vec<String>,
    queue_capacity: Option<usize>,
}

fn setup(rules: &str) -> Setup {
    Setup { rules: rules.to_owned(), ..Setup::default() }
}

impl Setup {
    fn groups(&self, dir: &TempDir) -> Vec<config::rules::RuleGroup> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let text = format!("groups:\n- name: g\n  interval: 1m\n{}  rules:\n{}", self.group, self.rules);
        let path = dir.path().join("rules.yml");
        config::rules::parse(&text, &path, &config::rules::Options::default()).unwrap().groups
    }

    async fn start(&self) -> Server {
        let server = self.start_in(Arc::new(tempfile::tempdir().unwrap())).await;
        // Whole minutes read better, and the store wants none from before.
        let past_minute = now().rem_euclid(60_000);
        tokio::time::sleep(Duration::from_millis(u64::try_from(60_000 - past_minute).unwrap())).await;
        server
    }

    /// Starts on the data of a server before.
    async fn start_in(&self, dir: Arc<TempDir>) -> Server {
        let data = dir.path().join("data");
        let db = Arc::new(Db::open(&data, &StoreOptions::default(), &ReplayProgress::default()).unwrap());
        let engine = Arc::new(Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }));
        let journal = Journal::open(&dir.path().join("stories"), Limits::default(), Box::new(now)).unwrap();
        let alertmanager = self.alertmanager.as_ref().map(|text| {
            let config = config::alertmanager::parse(text, &dir.path().join("alertmanager.yml")).unwrap();
            let options = alertmanager::Options {
                data_dir: Some(dir.path().join("alertmanager")),
                story: Some(Arc::clone(&journal)),
                ..alertmanager::Options::default()
            };
            Alertmanager::new(config, options, Arc::new(Clock)).unwrap()
        });
        let stop = CancellationToken::new();
        if let Some(alertmanager) = &alertmanager {
            tokio::spawn(Arc::clone(alertmanager).run(stop.clone()));
        }
        let inbox = alertmanager.clone().map(|alertmanager| -> notifier::manager::Inbox {
            Box::new(move |alerts| {
                alertmanager.put(alerts.into_iter().map(super::super::views::posted).collect()).unwrap();
            })
        });
        let options = notifier::manager::Options {
            queue_capacity: self.queue_capacity.unwrap_or(1000),
            batch_size: notifier::sender::BatchSize(64),
            drain_on_shutdown: false,
        };
        let notifier = notifier::Manager::new(options, inbox).told_to(Some(Arc::clone(&journal)));
        let notifier = Arc::new(notifier);
        self.configure(&dir, &notifier);
        let send_to = Arc::clone(&notifier);
        let storage = Arc::clone(&db) as Arc<dyn rules_of_server::Storage>;
        journal
            .set_investigator(rules_of_server::why::investigator(Arc::clone(&engine), Arc::clone(&storage)));
        let ctx = Arc::new(rules_of_server::Context {
            engine: Arc::clone(&engine),
            storage,
            notify: Box::new(move |alerts| send_to.send(alerts)),
            external_url: "http://here".to_owned(),
            external_labels: ArcSwap::from_pointee(Labels::empty()),
            now,
            options: rules_of_server::Options {
                for_grace_period: Duration::from_mins(1),
                ..rules_of_server::Options::default()
            },
            metrics: rules_of_server::Metrics::default(),
            story: Some(Arc::clone(&journal)),
        });
        let manager = rules_of_server::Manager::new(ctx, None);
        let server = Server { dir, db, engine, journal, notifier, manager, alertmanager, stop };
        server.apply(self, true).await;
        server
    }

    fn configure(&self, dir: &TempDir, notifier: &notifier::Manager) {
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, &self.prometheus).unwrap();
        let config = config::prometheus::load(&path).unwrap();
        notifier.apply(&config).unwrap();
        let group = |url: &String| {
            let address = config::TargetGroup {
                targets: vec![Labels::from_pairs([("__address__", url.as_str())])],
                ..config::TargetGroup::default()
            };
            Arc::new(address)
        };
        let sets = sections(&config).map(|(key, _)| (key, self.targets.iter().map(group).collect()));
        notifier.set_targets(&sets.collect());
    }
}

impl Server {
    async fn apply(&self, setup: &Setup, is_first: bool) {
        let update = rules_of_server::manager::Update {
            groups: setup.groups(&self.dir),
            evaluation_interval: Duration::from_mins(1),
            query_offset: Duration::ZERO,
        };
        self.manager.apply(update, is_first).await;
    }

    /// Writes a sample; `None` ends the series, as a scrape does that does not find it any more.
    fn put(&self, series: &str, v: impl Into<Option<f64>>) {
        let matchers = promql::parse::parse_selector(series).unwrap();
        let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name.to_vec(), m.value.to_vec())));
        let mut appender = self.db.appender(1);
        appender.append(SeriesKey::Labels(&labels), now(), v.into().unwrap_or(STALE_NAN)).unwrap();
        appender.commit().unwrap();
    }

    /// So many minutes with these values.
    async fn minutes(&self, n: usize, series: &[(&str, f64)]) {
        for _ in 0..n {
            for (series, v) in series {
                self.put(series, *v);
            }
            seconds(60).await;
        }
    }

    /// Takes an alert from outside.
    fn post(&self, labels: &[(&str, &str)], starts_at: Option<i64>, ends_at: Option<i64>) {
        let time = |t: i64| jiff::Timestamp::from_millisecond(t).unwrap();
        let posted = PostedAlert {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            starts_at: starts_at.map(time),
            ends_at: ends_at.map(time),
            ..PostedAlert::default()
        };
        self.alertmanager.as_ref().unwrap().put(vec![posted]).unwrap();
    }

    fn explain_all(&self, selector: &str, t: Timestamp) -> Vec<view::ExplainedAlert> {
        let explainer = Explainer {
            journal: &self.journal,
            engine: &self.engine,
            storage: self.db.as_ref(),
            groups: self.manager.groups(),
        };
        let query = view::Query {
            selectors: vec![promql::parse::parse_selector(selector).unwrap()],
            time: t,
            range: TimeRange::new(t - 86_400_000, t),
            limit: 100,
            entries_max: 100,
            token: String::new(),
        };
        explainer.explain(&query).unwrap().alerts
    }

    #[track_caller]
    fn explain(&self, selector: &str) -> view::ExplainedAlert {
        let mut alerts = self.explain_all(selector, now());
        assert_eq!(alerts.len(), 1, "{selector}: {alerts:#?}");
        alerts.remove(0)
    }

    /// The state and its cause, whose sentence must hold all of `words`.
    #[track_caller]
    fn state(&self, selector: &str, state: &str, code: &str, words: &[&str]) {
        let alert = self.explain(selector);
        assert_eq!((alert.state, alert.cause.code), (state, code), "{alert:#?}");
        for word in words {
            assert!(alert.cause.text.contains(word), "no {word:?} in {}", alert.cause.text);
        }
    }

    /// Where the mail is, in a sentence that must hold all of `words`.
    #[track_caller]
    fn mail(&self, selector: &str, code: &str, words: &[&str]) {
        let alert = self.explain(selector);
        assert_eq!(alert.notification.code, code, "{alert:#?}");
        for word in words {
            assert!(alert.notification.text.contains(word), "no {word:?} in {}", alert.notification.text);
        }
    }

    /// Ends without saying good-bye to the store, but with all notes in files.
    async fn restart(self, setup: &Setup) -> Server {
        let dir = Arc::clone(&self.dir);
        self.manager.stop().await;
        self.notifier.stop().await;
        self.stop.cancel();
        seconds(1).await;
        self.journal.save();
        self.db.close().unwrap();
        drop(self);
        setup.start_in(dir).await
    }
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

/// An HTTP server that answers `statuses` one after the other, the last one for ever. Returns its address.
async fn http(statuses: &'static [u16]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for i in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let status = statuses[usize::min(i, statuses.len() - 1)];
            tokio::spawn(async move {
                let mut request = Vec::new();
                loop {
                    let mut buffer = [0; 4096];
                    let n = stream.read(&mut buffer).await.unwrap_or(0);
                    request.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&request).to_lowercase();
                    let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                        let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
                        body.len() >= length.lines().next().unwrap().trim().parse::<usize>().unwrap()
                    });
                    if n == 0 || whole {
                        break;
                    }
                }
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// An SMTP server that takes every mail, or refuses every recipient for good.
async fn smtp(refuses: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                let _ = write.write_all(b"220 here\r\n").await;
                let mut is_data = false;
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer: &[u8] = match line.to_uppercase() {
                        _ if is_data && line != "." => continue,
                        _ if is_data => {
                            is_data = false;
                            b"250 taken\r\n"
                        }
                        verb if verb.starts_with("DATA") => {
                            is_data = true;
                            b"354 go on\r\n"
                        }
                        verb if verb.starts_with("RCPT") && refuses => b"550 no such user\r\n",
                        verb if verb.starts_with("QUIT") => b"221 bye\r\n",
                        _ => b"250 ok\r\n",
                    };
                    if write.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
