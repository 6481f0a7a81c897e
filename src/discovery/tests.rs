//! The manager: what is shared, what is kept over a reload, what it says of failures, its pace.

use std::time::Duration;

use config::prometheus::{FileDiscovery, HttpDiscovery};
use model::Labels;
use tokio::sync::watch;

use super::testing::{Page, Server, json};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    manager: Arc<Manager>,
    sets: watch::Receiver<Arc<TargetSets>>,
    stop: CancellationToken,
}

impl Running {
    fn start() -> Self {
        let stop = CancellationToken::new();
        let manager = Arc::new(Manager::new("scrape", stop.clone()));
        let sets = manager.subscribe();
        let running = Arc::clone(&manager);
        tokio::spawn(async move { running.run().await });
        Self { manager, sets, stop }
    }

    fn apply(&self, jobs: &[(&str, &[Discovery])]) {
        self.manager.apply(&jobs.iter().map(|(job, all)| ((*job).to_owned(), all.to_vec())).collect());
    }

    /// Waits until the addresses of a job are these.
    async fn wait_for(&mut self, job: &str, expected: &[&str]) {
        let fits = |sets: &Arc<TargetSets>| sets.contains_key(job) && addresses(sets, job) == expected;
        let waited = tokio::time::timeout(PATIENCE, self.sets.wait_for(fits)).await.map(drop);
        assert!(waited.is_ok(), "{job}: {:?}, expected {expected:?}", addresses(&self.sets.borrow(), job));
    }

    /// Waits until one of a job's sections fails.
    async fn failure(&self, job: &str) -> Status {
        let look = async {
            loop {
                let found = self.manager.status().into_iter().find(|s| s.job == job && s.failure.is_some());
                if let Some(found) = found {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("the failure does not show")
    }

    fn exposed(&self) -> String {
        let mut out = Exposition::default();
        Exposed(&[&self.manager.metrics()]).expose(&mut out);
        String::from_utf8(out.into_body()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn addresses(sets: &TargetSets, job: &str) -> Vec<String> {
    let targets = sets[job].iter().flat_map(|group| &group.targets);
    let text = |labels: &Labels| String::from_utf8_lossy(labels.get(b"__address__").unwrap()).into_owned();
    let mut all: Vec<String> = targets.map(text).collect();
    all.sort();
    all
}

fn fixed(address: &str) -> Discovery {
    let targets = vec![Labels::from_pairs([("__address__", address)])];
    Discovery::Static(vec![TargetGroup { targets, ..TargetGroup::default() }])
}

fn http(url: &str) -> Discovery {
    Discovery::Http(Box::new(HttpDiscovery {
        url: url.to_owned(),
        refresh_interval: Duration::from_millis(200),
        http: config::http_client::HttpClient::default(),
    }))
}

fn file(path: &std::path::Path) -> Discovery {
    Discovery::File(FileDiscovery {
        files: vec![path.to_str().unwrap().to_owned()],
        refresh_interval: Duration::from_hours(1),
    })
}

/// The watch alone brings the change: the poll is an hour away.
#[tokio::test]
async fn equal_sections_are_shared_and_go_on_over_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    std::fs::write(&path, r#"[{"targets": ["h:1"]}]"#).unwrap();
    let section = [file(&path)];
    let jobs: [(&str, &[Discovery]); 3] = [("a", &section), ("b", &section), ("none", &[])];
    let mut running = Running::start();
    running.apply(&jobs);
    running.wait_for("a", &["h:1"]).await;
    let found = running.sets.borrow().clone();
    assert!(found["none"].is_empty(), "a job without targets is present and empty");
    assert!(Arc::ptr_eq(&found["a"][0], &found["b"][0]), "discovered twice");
    let shown: Vec<_> =
        running.manager.status().into_iter().map(|s| (s.job, s.mechanism, s.n_targets)).collect();
    assert_eq!(shown, [("a".to_owned(), "file", 1), ("b".to_owned(), "file", 1)]);

    // A reload keeps what the provider found.
    running.apply(&jobs);
    let next = folder.path().join("next");
    std::fs::write(&next, r#"[{"targets": ["h:2"]}]"#).unwrap();
    std::fs::rename(&next, &path).unwrap();
    let second = |sets: &Arc<TargetSets>| {
        assert!(!sets["a"].is_empty(), "the reload lost the targets");
        addresses(sets, "a") == ["h:2"]
    };
    let waited = tokio::time::timeout(PATIENCE, running.sets.wait_for(second)).await;
    drop(waited.expect("the rename went unnoticed"));

    // A job that joins gets what is known at once; one that leaves takes its targets with it.
    running.apply(&[("b", &section), ("c", &section)]);
    running.wait_for("c", &["h:2"]).await;
    assert!(!running.sets.borrow().contains_key("a"));
    let exposed = running.exposed();
    assert!(exposed.contains(r#"prometheus_sd_discovered_targets{config="c",name="scrape"} 1"#), "{exposed}");
    assert!(!exposed.contains(r#"config="a""#), "{exposed}");
}

#[tokio::test]
async fn a_changed_section_keeps_the_old_targets_until_it_knows_better() {
    let server = Server::start(json(r#"[{"targets": ["h:1", "h:2"]}]"#)).await;
    let (first, second) = (server.url("/1"), server.url("/2"));
    let mut running = Running::start();
    running.apply(&[("a", &[http(&first)]), ("b", &[http(&first)])]);
    running.wait_for("a", &["h:1", "h:2"]).await;

    // The new one fails: nothing is lost, whoever else uses the old one, and the error shows.
    server.set(Page { status: 503, ..json("no") });
    running.apply(&[("a", &[http(&second)]), ("b", &[http(&first)])]);
    let failing = running.failure("a").await;
    assert_eq!(failing.failure.unwrap().error, "server returned HTTP status 503 Service Unavailable");
    assert_eq!((failing.mechanism, failing.n_targets, failing.last_update), ("http", 2, None));
    assert_eq!(addresses(&running.sets.borrow(), "a"), ["h:1", "h:2"]);

    // Changed once more before it ever answered.
    running.apply(&[("a", &[http(&server.url("/3"))]), ("b", &[http(&first)])]);
    running.failure("a").await;
    assert_eq!(addresses(&running.sets.borrow(), "a"), ["h:1", "h:2"]);

    // It answers: what it says counts, alone.
    server.set(json(r#"[{"targets": ["h:3"]}]"#));
    running.wait_for("a", &["h:3"]).await;
    running.wait_for("b", &["h:3"]).await;
    assert!(running.manager.status().iter().all(|s| s.failure.is_none() && s.last_update.is_some()));

    // Another mechanism inherits, too; a section that is taken away takes its targets with it.
    server.set(Page { status: 503, ..json("no") });
    running.apply(&[("a", &[fixed("s:1"), http(&first)])]);
    running.wait_for("a", &["h:3", "s:1"]).await;
    running.apply(&[("a", &[fixed("s:1")])]);
    running.wait_for("a", &["s:1"]).await;
    running.apply(&[("a", &[http(&server.url("/4"))])]);
    running.failure("a").await;
    assert_eq!(addresses(&running.sets.borrow(), "a"), ["s:1"]);
    running.apply(&[("a", &[])]);
    running.wait_for("a", &[]).await;
}

/// A change of a section while one of its files is half written: that file's targets stay, and no others.
#[tokio::test]
async fn a_changed_section_keeps_what_it_cannot_read_yet_and_that_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let files = |names: &[&str]| {
        let files = names.iter().map(|name| path(name)).collect();
        Discovery::File(FileDiscovery { files, refresh_interval: Duration::from_millis(100) })
    };
    for name in ["x", "y", "z"] {
        write(&format!("{name}.json"), &format!(r#"[{{"targets": ["h:{name}"]}}]"#));
    }
    let mut running = Running::start();
    running.apply(&[("a", &[files(&["x.json", "y.json", "z.json"])])]);
    running.wait_for("a", &["h:x", "h:y", "h:z"]).await;
    write("y.json", r#"[{"targets": ["h:"#);
    running.apply(&[("a", &[files(&["x.json", "y.json"])])]);
    running.wait_for("a", &["h:x", "h:y"]).await;
    running.apply(&[("a", &[files(&["y.json", "x.json"])])]);
    write("x.json", r#"[{"targets": ["h:x2"]}]"#);
    running.wait_for("a", &["h:x2", "h:y"]).await;
    std::fs::remove_file(path("y.json")).unwrap();
    running.wait_for("a", &["h:x2"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_taken_before_the_whole_is_said() {
    let (updates, mut received) = mpsc::channel(4);
    taken(&updates).await;
    updates.send(Update::new()).await.unwrap();
    updates.send(Update::new()).await.unwrap();
    let wait = || tokio::time::timeout(Duration::from_secs(1), taken(&updates));
    assert!(wait().await.is_err());
    received.recv().await.unwrap();
    assert!(wait().await.is_err());
    received.recv().await.unwrap();
    wait().await.unwrap();
    drop(received);
    wait().await.unwrap();
}

#[tokio::test]
async fn what_cannot_run_is_said_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yml");
    std::fs::write(&path, "scrape_configs: [{job_name: e, hetzner_sd_configs: [{role: robot}]}]\n").unwrap();
    let section = config::prometheus::load(&path).unwrap().scrape_configs[0].discovery[0].clone();
    let mut running = Running::start();
    let bad = Discovery::Http(Box::new(HttpDiscovery {
        url: "no url".to_owned(),
        refresh_interval: Duration::from_secs(1),
        http: config::http_client::HttpClient::default(),
    }));
    running.apply(&[("e", &[fixed("h:1")]), ("bad", &[fixed("h:1")])]);
    running.wait_for("e", &["h:1"]).await;
    running.apply(&[("e", &[section]), ("bad", &[bad])]);
    running.wait_for("e", &[]).await;
    let shown = running.failure("e").await;
    assert_eq!((shown.mechanism, shown.n_targets), ("hetzner", 0));
    let expected = "hetzner service discovery is not built in: it finds no targets";
    assert_eq!(shown.failure.unwrap().error, expected);
    assert_eq!(running.failure("bad").await.n_targets, 1, "a section with a mistake loses nothing");
    let exposed = running.exposed();
    assert!(exposed.contains("prometheus_sd_failed_configs{name=\"scrape\"} 2\n"), "{exposed}");
    // Reloading the same file neither forgets nor doubles it.
    running.apply(&[]);
    running.apply(&[]);
    assert!(running.exposed().contains("prometheus_sd_failed_configs{name=\"scrape\"} 0\n"));
}

#[tokio::test]
async fn refreshes_are_counted_by_job_from_zero_on_and_go_with_it() {
    let server = Server::start(Page { delay: Duration::from_hours(1), ..json("[]") }).await;
    let running = Running::start();
    let section = [http(&server.url("/"))];
    running.apply(&[("a", &section), ("b", &section), ("s", &[fixed("h:1")])]);
    let exposed = running.exposed();
    for line in [
        r#"prometheus_sd_refresh_failures_total{config="a",mechanism="http"} 0"#,
        r#"prometheus_sd_refresh_failures_total{config="b",mechanism="http"} 0"#,
        r#"prometheus_sd_refresh_duration_seconds{config="a",mechanism="http",quantile="0.99"} NaN"#,
        r#"prometheus_sd_refresh_duration_seconds_count{config="a",mechanism="http"} 0"#,
        r#"prometheus_sd_refresh_duration_histogram_seconds_bucket{mechanism="http",le="+Inf"} 0"#,
        r#"prometheus_sd_discovered_targets{config="b",name="scrape"} 0"#,
        "prometheus_sd_http_failures_total 0",
        "prometheus_sd_consul_rpc_failures_total 0",
        r#"prometheus_sd_consul_rpc_duration_seconds_count{call="services",endpoint="catalog"} 0"#,
        "prometheus_sd_dns_lookups_total 0",
        "prometheus_sd_dns_lookup_failures_total 0",
        "prometheus_sd_file_read_errors_total 0",
        "prometheus_sd_file_watcher_errors_total 0",
        "prometheus_sd_file_scan_duration_seconds_count 0",
    ] {
        assert!(exposed.lines().any(|l| l == line), "no {line} in\n{exposed}");
    }
    assert!(!exposed.contains(r#"config="s",mechanism"#), "{exposed}");
    server.set(Page { status: 500, ..json("") });
    running.apply(&[("a", &[http(&server.url("/other"))]), ("b", &section)]);
    running.failure("a").await;
    let exposed = running.exposed();
    assert!(!exposed.contains(r#"failures_total{config="a",mechanism="http"} 0"#), "{exposed}");
    running.apply(&[("b", &section)]);
    assert!(!running.exposed().contains(r#"config="a""#));
}

/// With the clock in hand: the first change comes after 50 to 150 ms, a stream of changes ever more slowly,
/// and none is lost.
#[tokio::test(start_paused = true)]
async fn changes_are_gathered_the_longer_the_more_follow() {
    let mut running = Running::start();
    let begin = tokio::time::Instant::now();
    running.apply(&[("a", &[fixed("h:0")])]);
    running.wait_for("a", &["h:0"]).await;
    let first = begin.elapsed();
    assert!((50..=160).contains(&first.as_millis()), "{first:?}");
    let before = running.manager.metrics().updates.get();
    for i in 0..3000 {
        running.apply(&[("a", &[fixed(&format!("h:{i}"))])]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // 30 s of changes every 10 ms: a few on the way to a pause of half a second (0.25 to 0.75 s), then two in each.
    let n = running.manager.metrics().updates.get() - before;
    assert!((45..=90).contains(&n), "{n} updates");
    running.wait_for("a", &["h:2999"]).await;
    // The longest pause may still be under way, and its end begins the calm.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let begin = tokio::time::Instant::now();
    running.apply(&[("a", &[fixed("h:x")])]);
    running.wait_for("a", &["h:x"]).await;
    assert!(begin.elapsed() < Duration::from_millis(160), "calm did not bring the pace back");
}
