//! What must not bring the server down: broken configurations, ill-behaved targets, a full disk. Each ends in a
//! clear error or a failed scrape, and everything else carries on.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Home, Server, is_root, now, pairs, skipped, until, until_true};
use crate::scripted::{Scripted, answer};

fn healthy() -> Scripted {
    let scrapes = AtomicU32::new(0);
    Scripted::target(move || format!("fine {}\n", scrapes.fetch_add(1, Ordering::Relaxed)))
}

fn one_job(target: &Scripted) -> String {
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
         scrape_configs:\n  - {{job_name: fine, static_configs: [{{targets: ['{}']}}]}}\n",
        target.address()
    )
}

/// Runs the server to an end that comes by itself: exit code and standard error.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdout(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn keeps_scraping(server: &Server) {
    let seen = server.value("fine").unwrap();
    until_true("scraping to go on", || server.value("fine").is_some_and(|n| n >= seen + 3.0));
}

// === what the user types ===

#[test]
fn a_broken_file_at_the_start_ends_with_2_and_says_where() {
    let good = "scrape_configs: []\n";
    let receiver = "route: {receiver: a}\nreceivers: [{name: a}]\n";
    let cases = [
        ("global:\n  scrape_interval: 1s\n  scrape_intervall: 1s\n", "", receiver, "prometheus.yml:3:3"),
        ("global:\n  scrape_interval: soon\n", "", receiver, "prometheus.yml:2:20"),
        ("scrape_configs:\n  - job_name: a\n  - job_name: a\n", "", receiver, "prometheus.yml:3:"),
        ("global: [\n", "", receiver, "prometheus.yml:"),
        (
            "rule_files: [rules.yml]\n",
            "groups:\n- name: a\n  rules:\n  - record: x\n    expr: 1 +\n",
            receiver,
            "rules.yml: 5:11:",
        ),
        (good, "", "route: {receiver: b}\nreceivers: [{name: a}]\n", "alertmanager.yml:1:"),
        (
            good,
            "",
            "route:\n  receiver: a\n  group_wait: -1s\nreceivers: [{name: a}]\n",
            "alertmanager.yml:3:",
        ),
    ];
    for (config, rules, alertmanager, place) in cases {
        let home = Home::new(config);
        home.write("rules.yml", rules);
        home.write("alertmanager.yml", alertmanager);
        let (code, text) = run(&mut home.command(&["--alertmanager.config-file=alertmanager.yml"]));
        assert_eq!(code, Some(2), "{config}{rules}{alertmanager}: {text}");
        assert!(text.contains(place), "{place} is not named: {text}");
        assert!(!home.path("data").exists(), "a data directory was made for a broken configuration");
    }
    let home = Home::new(good);
    std::fs::remove_file(home.path("prometheus.yml")).unwrap();
    let (code, text) = run(&mut home.command(&[]));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("prometheus.yml"), "{text}");
}

#[test]
fn a_wrong_flag_ends_with_2() {
    let home = Home::new("{}");
    for flag in
        ["--no-such-flag", "--query.timeout=soon", "--log.level=loud", "--storage.tsdb.retention.size=5"]
    {
        let (code, text) = run(&mut home.command(&[flag]));
        assert_eq!(code, Some(2), "{flag}: {text}");
        let name = flag.split('=').next().unwrap().trim_start_matches("--");
        assert!(text.contains(name), "{flag} is not named: {text}");
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let target = healthy();
    let home = Home::new(&one_job(&target));
    let server = home.start(&[]);
    until_true("a sample", || server.value("fine").is_some());
    let (code, text) = run(&mut home.command(&[]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("lock"), "the lock is not named: {text}");
    keeps_scraping(&server);
    server.stop();
    home.start(&[]).stop();
}

#[test]
fn an_address_in_use_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new("{}");
    let (code, text) = run(Command::new(env!("CARGO_BIN_EXE_ferula"))
        .current_dir(home.path(""))
        .args(["--config.file=prometheus.yml".to_owned(), format!("--web.listen-address={address}")]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&address), "{text}");
}

#[test]
fn a_broken_file_at_a_reload_changes_nothing() {
    let target = healthy();
    let home = Home::new("");
    let good = format!("rule_files: [rules.yml]\n{}", one_job(&target));
    home.write("prometheus.yml", &good);
    home.write("rules.yml", "groups: []\n");
    let server = home.start(&[]);
    until_true("a sample", || server.value("fine").is_some());
    let running = server.data("/api/v1/status/config", &[]);
    let is_successful = || server.metric("prometheus_config_last_reload_successful").unwrap() > 0.0;

    home.write("prometheus.yml", &good.replace("scrape_configs", "scrape_confs"));
    server.process.signal(Signal::HUP);
    until_true("the failure to show in the metric", || !is_successful());
    until_true("the reason to be logged", || {
        server
            .process
            .logged("Error reloading config")
            .is_some_and(|line| line.contains("prometheus.yml:3:1"))
    });
    let (status, body) = server.post("/-/reload", &Value::Null);
    assert_eq!(status, 500, "{body}");
    assert!(body.starts_with("failed to reload config: ") && body.contains("prometheus.yml:3:1"), "{body}");

    // Half of it is good: nothing of it is taken.
    home.write("prometheus.yml", &good.replace("500ms", "1h"));
    home.write("rules.yml", "groups: [{name: a, rules: [{record: a, expr: 'rate(b)'}]}]\n");
    let (status, body) = server.post("/-/reload", &Value::Null);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("rules.yml: 1:46:"), "{body}");
    assert_eq!(server.data("/api/v1/status/config", &[]), running);
    assert!(!is_successful());
    keeps_scraping(&server);

    home.write("prometheus.yml", &good);
    home.write("rules.yml", "groups: []\n");
    assert_eq!(server.post("/-/reload", &Value::Null).0, 200);
    assert!(is_successful());
    keeps_scraping(&server);
    server.stop();
}

#[test]
fn a_broken_mail_template_at_a_reload_changes_nothing() {
    let target = healthy();
    let home = Home::new(&one_job(&target));
    home.write("alertmanager.yml", "route: {receiver: a}\nreceivers: [{name: a}]\ntemplates: [mail.tmpl]\n");
    home.write("mail.tmpl", "{{ define \"subject\" }}fine{{ end }}");
    let server = home.start(&["--alertmanager.config-file=alertmanager.yml"]);
    let pools = server.data("/api/v1/scrape_pools", &[]);

    home.write("mail.tmpl", "{{ define \"subject\" }}{{ end");
    home.write("prometheus.yml", "scrape_configs: []\n");
    let (status, body) = server.post("/-/reload", &Value::Null);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("template"), "{body}");
    assert_eq!(server.data("/api/v1/scrape_pools", &[]), pools, "the job is gone although the reload failed");

    home.write("mail.tmpl", "");
    assert_eq!(server.post("/-/reload", &Value::Null).0, 200);
    assert_ne!(server.data("/api/v1/scrape_pools", &[]), pools);
    server.stop();
}

// === what targets answer ===

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";

fn garbage() -> Scripted {
    Scripted::raw(|_, stream| {
        // Not a NUL at first: it is the end of an exposition, as in Prometheus.
        let body: Vec<u8> = (1..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        stream.write_all(OK)?;
        write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(&body)
    })
}

/// Good lines first, then one that is not.
fn half_garbage() -> Scripted {
    Scripted::raw(|_, stream| answer(stream, 200, "text/plain", "good 1\ngood_too 2\n{{{ what?\n"))
}

fn endless() -> Scripted {
    Scripted::raw(|_, stream| {
        stream.write_all(OK)?;
        stream.write_all(b"\r\n")?;
        for i in 0_u64.. {
            stream.write_all(format!("endless{{i=\"{i}\"}} 1\n").repeat(100).as_bytes())?;
        }
        Ok(())
    })
}

/// An endless head of the response.
fn endless_headers() -> Scripted {
    Scripted::raw(|_, stream| {
        stream.write_all(OK)?;
        for i in 0_u64.. {
            write!(stream, "X-{i}: {}\r\n", "y".repeat(1000))?;
        }
        Ok(())
    })
}

/// A byte now and then: of the head or of the body.
fn slow_loris(head: &'static [u8], bytes: &'static [u8]) -> Scripted {
    Scripted::raw(move |_, stream| {
        stream.write_all(head)?;
        for byte in bytes.iter().cycle() {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })
}

/// Promises more than it sends.
fn cut_off() -> Scripted {
    Scripted::raw(|_, stream| {
        stream.write_all(OK)?;
        stream.write_all(b"Content-Length: 1000\r\n\r\ncut 1\ncu")?;
        stream.shutdown(std::net::Shutdown::Both)
    })
}

#[test]
fn ill_behaved_targets_are_down_and_their_neighbour_is_up() {
    let bad = [
        ("garbage", garbage(), ""),
        ("half_garbage", half_garbage(), ""),
        ("endless", endless(), "body size limit exceeded"),
        ("endless_headers", endless_headers(), ""),
        ("slow_head", slow_loris(b"", b"HTTP/1.1 200 OK"), "deadline exceeded"),
        (
            "slow_body",
            slow_loris(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"a 1\n"),
            "deadline exceeded",
        ),
        ("cut_off", cut_off(), ""),
        ("status", Scripted::raw(|_, stream| answer(stream, 503, "text/plain", "a 1\n")), "503"),
        ("silent", Scripted::raw(|_, _| Err(std::io::Error::other("hangs up"))), ""),
    ];
    let good = healthy();
    let mut config = one_job(&good);
    for (job, target, _) in &bad {
        let address = target.address();
        writeln!(
            config,
            "  - {{job_name: {job}, body_size_limit: 100KB, static_configs: [{{targets: ['{address}']}}]}}"
        )
        .unwrap();
    }
    let home = Home::new(&config);
    let server = home.start(&[]);
    until_true("ten scrapes of the healthy target", || server.value("fine").is_some_and(|n| n >= 10.0));
    for (job, _, reason) in &bad {
        let target = until(&format!("{job} to be scraped"), || {
            server.target(job).filter(|target| target["health"] == "down")
        });
        let error = target["lastError"].as_str().unwrap();
        assert!(!error.is_empty() && error.contains(reason), "{job}: {error:?}");
        let ups = server.query(&format!("up{{job={job:?}}}[5m]"), now());
        let values = ups["result"][0]["values"].as_array().unwrap();
        assert!(values.len() >= 3, "{job}: only {} scrapes", values.len());
        assert!(values.iter().all(|pair| pair[1] == "0"), "{job}: {values:?}");
        let stored = server.query(&format!("count({{job={job:?},__name__!~\"up|scrape_.*\"}})"), now());
        assert_eq!(
            stored["result"].as_array().unwrap().len(),
            0,
            "{job}: half an answer was stored: {stored}"
        );
    }
    let fine = server.query("up{job=\"fine\"}[5m]", now());
    let values = fine["result"][0]["values"].as_array().unwrap();
    assert!(values.iter().all(|pair| pair[1] == "1"), "the healthy neighbour suffered: {values:?}");
    assert_eq!(server.target("fine").unwrap()["lastError"], "");
    server.stop();
}

// === what the disk does ===

/// A small file system of its own, gone with the test.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &Path, mib: u32) -> Result<Self, String> {
        if !is_root() {
            return Err("mounting a small disk needs root".to_owned());
        }
        std::fs::create_dir(path).unwrap();
        let size = format!("size={mib}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Ok(Self(path.to_owned())),
            Ok(output) => Err(format!("mount: {}", String::from_utf8_lossy(&output.stderr))),
            Err(e) => Err(format!("mount: {e}")),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, as the server may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes until nothing goes in any more.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_stops_ingestion_alone_and_for_as_long_as_it_is_full() {
    let scrapes = AtomicU32::new(0);
    let target = Scripted::target(move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        // Enough of them to need the disk at every scrape.
        let many = (0..1000).map(|i| format!("many{{i=\"{i}\"}} {}\n", f64::from(n * i).sqrt()));
        many.chain([format!("fine {n}\n")]).collect()
    });
    let home = Home::new(&one_job(&target));
    let _disk = match SmallDisk::mount(&home.path("data"), 16) {
        Ok(disk) => disk,
        Err(why) => {
            return skipped("a_full_disk_stops_ingestion_alone_and_for_as_long_as_it_is_full", &why);
        }
    };
    let server = home.start(&[]);
    until_true("samples", || server.value("fine").is_some_and(|n| n >= 4.0));
    let ballast = home.path("data/ballast");
    fill(&ballast);
    until_true("the failure to be logged", || {
        fill(&ballast);
        server.process.log().to_lowercase().contains("no space left on device")
    });
    // Some more scrapes meet the full disk.
    let full_at = now();
    until_true("some time to pass", || now() > full_at + 3.0);
    assert!(server.value("count(count_over_time(many[5m]))") == Some(1000.0), "queries are not answered");
    let during = server.query("count_over_time(fine[2s])", now());
    assert_eq!(during["result"].as_array().unwrap().len(), 0, "samples that are in no log: {during}");
    assert_eq!(server.get("/-/healthy").0, 200);
    // Nobody is told that all is well.
    let target_view = server.target("fine").unwrap();
    assert!(target_view["lastError"].as_str().unwrap().contains("No space left"), "{target_view}");
    assert_eq!(target_view["health"], "down", "{target_view}");

    std::fs::remove_file(&ballast).unwrap();
    let freed_at = now();
    until_true("ingestion to resume", || {
        server
            .value(&format!("count_over_time(fine[{:.0}s])", (now() - freed_at).max(1.0)))
            .is_some_and(|n| n >= 4.0)
    });
    assert_eq!(server.target("fine").unwrap()["health"], "up");
    let end = now() - 1.0;
    let all = pairs(&server.query("{job=\"fine\"}[5m]", end));
    server.kill();

    let again = home.start(&[]);
    let replayed = pairs(&again.query("{job=\"fine\"}[5m]", end));
    for (series, pairs) in &all {
        let lost = pairs.iter().filter(|pair| !replayed[series].contains(pair)).count();
        assert_eq!(lost, 0, "the restart lost samples of {series}");
    }
    assert!(again.process.logged("level=ERROR").is_none(), "{}", again.process.log());
    assert!(again.process.logged("level=WARN").is_none(), "{}", again.process.log());
    assert_eq!(again.metric("prometheus_tsdb_wal_corruptions_total"), Some(0.0));
    keeps_scraping(&again);
    again.stop();
}

#[test]
fn more_series_than_the_limit_are_refused_and_known_ones_go_on() {
    let scrapes = AtomicU32::new(0);
    let target = Scripted::target(move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        let mut body = format!("fine {n}\n");
        for i in 0..n * 20 {
            let _ = writeln!(body, "leak{{id=\"{i}\"}} 1");
        }
        body
    });
    let home = Home::new(&one_job(&target));
    let server = home.start(&["--storage.tsdb.head-series-limit=50"]);
    until_true("series to be refused", || {
        server.metric("ferula_tsdb_head_series_refused_total").is_some_and(|n| n > 0.0)
    });
    keeps_scraping(&server);
    assert_eq!(server.value("up"), Some(1.0));
    assert_eq!(server.metric("prometheus_tsdb_head_series"), Some(50.0));
    assert!(server.process.log().contains("as many series as its limit allows"), "{}", server.process.log());
}
