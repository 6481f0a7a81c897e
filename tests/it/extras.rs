//! What OpenMetrics carries beside samples: exemplars, metadata and start times, from a target to the API and the log,
//! as the reference server has it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Home, Process, Server, now, peer, until_true};
use crate::scripted::Scripted;

fn config(target: &Scripted) -> String {
    format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs: [{{job_name: x, static_configs: [{{targets: ['{}'], labels: {{instance: i}}}}]}}]\n",
        target.address()
    )
}

/// A target whose exemplars change from phase to phase: on buckets, with a time of their own and without, late ones,
/// one that is too long.
fn with_exemplars(phase: &Arc<AtomicU32>, begun: f64) -> Scripted {
    let phase = Arc::clone(phase);
    Scripted::openmetrics(move || {
        let n = phase.load(Ordering::Acquire);
        let t = begun + f64::from(n) / 10.0;
        let long = "é".repeat(130);
        let mut text = String::from("# TYPE req counter\n");
        writeln!(text, "req_total{{code=\"200\"}} {n} # {{trace_id=\"t{n}\"}} 0.{n} {t:.3}").unwrap();
        // Without times of their own: the second says the same over and over, which is one exemplar.
        writeln!(text, "req_total{{code=\"500\"}} {n} {t:.3} # {{trace_id=\"untimed\"}} {n}").unwrap();
        writeln!(text, "req_total{{code=\"502\"}} {n} {t:.3} # {{trace_id=\"untimed\"}} 1").unwrap();
        text.push_str("# TYPE lat histogram\n");
        writeln!(text, "lat_bucket{{le=\"1\"}} 1 # {{trace_id=\"b{n}\",text=\"é\\\"\\\\\\n\"}} 3e-1 {t:.3}")
            .unwrap();
        writeln!(
            text,
            "lat_bucket{{le=\"+Inf\"}} 2 # {{z=\"last\",empty=\"\",\"a.b\"=\"first\"}} -Inf {t:.3}"
        )
        .unwrap();
        writeln!(text, "lat_count 2\nlat_sum 3 # {{}} 4 {t:.3}").unwrap();
        writeln!(text, "# TYPE late counter\nlate_total 1 # {{n=\"{n}\"}} 1 {:.3}", begun - f64::from(n))
            .unwrap();
        writeln!(text, "# TYPE long counter\nlong_total 1 # {{l=\"{long}\"}} 1 {t:.3}").unwrap();
        let longest = "é".repeat(127);
        writeln!(text, "# TYPE longest counter\nlongest_total 1 # {{l=\"{longest}\"}} 1 {t:.3}").unwrap();
        text.push_str("# EOF\n");
        text
    })
}

fn exemplars(server: &Server, begun: f64) -> Value {
    let (start, end) = (format!("{:.3}", begun - 100.0), format!("{:.3}", begun + 100.0));
    let parameters = [("query", "{job=\"x\"}"), ("start", start.as_str()), ("end", end.as_str())];
    server.data("/api/v1/query_exemplars", &parameters)
}

#[test]
fn scraped_exemplars_are_those_of_prometheus_and_outlive_a_kill() {
    let test = "scraped_exemplars_are_those_of_prometheus_and_outlive_a_kill";
    let begun = (now() * 10.0).floor() / 10.0;
    let phase = Arc::new(AtomicU32::new(0));
    let target = with_exemplars(&phase, begun);
    let (home, peer_home) = (Home::new(&config(&target)), Home::new(&config(&target)));
    let args = ["--enable-feature=exemplar-storage"];
    let server = home.start(&args);
    let prometheus = peer("prometheus", test).map(|program| peer_home.start_peer(&program, &args));
    let servers = || [Some(&server), prometheus.as_ref()].into_iter().flatten();
    for n in 0..5 {
        phase.store(n, Ordering::Release);
        for server in servers() {
            until_true("the exemplars of a phase", || {
                exemplars(server, begun).to_string().contains(&format!("\"t{n}\""))
            });
        }
    }
    let all = exemplars(&server, begun);
    let counts: Vec<usize> =
        all.as_array().unwrap().iter().map(|series| series["exemplars"].as_array().unwrap().len()).collect();
    if let Some(prometheus) = &prometheus {
        assert_eq!(exemplars(prometheus, begun), all);
    }
    // Buckets, their sum, the late one, the longest, requests.
    assert_eq!(counts, [5, 5, 5, 1, 5, 5, 5, 1], "{all:#}");
    for server in servers() {
        let refused = server.metric("prometheus_target_scrapes_exemplar_out_of_order_total");
        assert!(refused.is_some_and(|n| n > 0.0), "{refused:?}");
        let appended = server.metric("prometheus_tsdb_exemplar_exemplars_appended_total");
        assert_eq!(appended, Some(32.0), "{}", server.url);
    }
    server.kill();
    let server = home.start(&args);
    assert_eq!(exemplars(&server, begun), all, "after a kill");
    // What the target still says is not news.
    let started = now();
    until_true("scrapes after the start", || {
        server.value(&format!("timestamp(up{{job=\"x\"}}) > bool {started}")) == Some(1.0)
    });
    assert_eq!(exemplars(&server, begun), all, "after further scrapes");
    server.stop();
    // Without the feature nothing is kept, and the scrape does not mind.
    let server = home.start(&[]);
    let started = now();
    until_true("scrapes without the feature", || {
        server.value(&format!("timestamp(up{{job=\"x\"}}) > bool {started}")) == Some(1.0)
    });
    assert_eq!(server.value("up{job=\"x\"}"), Some(1.0));
    server.stop();
}

/// Two counters with a start, whose samples have times of their own.
fn with_starts(begun: f64) -> Scripted {
    Scripted::openmetrics(move || {
        let start = begun - 50.0;
        format!(
            "# HELP req requests that came\n# TYPE req counter\n\
             req_total{{code=\"200\"}} 7 {begun:.3}\nreq_created{{code=\"200\"}} {start:.3}\n\
             req_total{{code=\"500\"}} 7 {begun:.3}\n\
             # TYPE lat summary\nlat{{quantile=\"0.5\"}} 7 {begun:.3}\nlat_count 9 {begun:.3}\nlat_sum 9.5 {begun:.3}\n\
             lat_created {start:.3}\n# EOF\n"
        )
    })
}

/// All samples of the target, series as text.
fn samples(server: &Server) -> Vec<String> {
    let data = server.query("{__name__=~\"req.*|lat.*\"}[10m]", now());
    let mut all: Vec<_> = data["result"].as_array().unwrap().iter().map(Value::to_string).collect();
    all.sort();
    all
}

#[test]
fn counts_begin_with_zero_where_created_lines_say_so() {
    let test = "counts_begin_with_zero_where_created_lines_say_so";
    let target = with_starts(now().floor());
    let (home, peer_home) = (Home::new(&config(&target)), Home::new(&config(&target)));
    let args = ["--enable-feature=created-timestamp-zero-ingestion"];
    let server = home.start(&args);
    until_true("samples", || server.value("count(up{job=\"x\"} == 1)") == Some(1.0));
    let ours = samples(&server);
    assert_eq!(ours.len(), 5, "{ours:#?}");
    let zeros = ours.iter().filter(|series| series.contains("\"0\"")).count();
    assert_eq!(zeros, 4, "one counter has no start: {ours:#?}");
    if let Some(prometheus) = peer("prometheus", test) {
        let prometheus = peer_home.start_peer(&prometheus, &args);
        until_true("samples", || prometheus.value("count(up{job=\"x\"} == 1)") == Some(1.0));
        assert_eq!(samples(&prometheus), ours);
    }
    server.kill();
    let server = home.start(&args);
    assert_eq!(samples(&server), ours, "after a kill");
    server.stop();
    // Without the feature they are series.
    let home = Home::new(&config(&target));
    let server = home.start(&[]);
    until_true("samples", || server.value("count({__name__=~\".+_created\"})") == Some(2.0));
    server.stop();
}

#[test]
fn features_of_the_store_are_switched_by_their_flags() {
    let target = with_starts(now().floor());
    let home = Home::new(&config(&target));
    // The log is left uncompressed, so that texts can be found in it.
    let logged = |text: &str| {
        let segments = std::fs::read_dir(home.path("data/wal")).unwrap().map(|entry| entry.unwrap().path());
        let mut logs = segments.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap());
        logs.any(|log| log.windows(text.len()).any(|bytes| bytes == text.as_bytes()))
    };
    let plain = "--no-storage.tsdb.wal-compression";
    let server = home.start(&[plain]);
    until_true("samples", || server.value("up{job=\"x\"}") == Some(1.0));
    server.kill();
    assert!(!logged("requests that came"));

    let features = "--enable-feature=metadata-wal-records,memory-snapshot-on-shutdown,xor2-encoding,st-storage,histograms-st-encoding";
    let server = home.start(&[plain, features]);
    let started = now();
    until_true("samples", || {
        server.value(&format!("timestamp(up{{job=\"x\"}}) > bool {started}")) == Some(1.0)
    });
    assert!(server.process.logged("unknown feature").is_none());
    assert!(logged("requests that came") && logged("Health of the scrape target."), "metadata-wal-records");
    let has_snapshot = || {
        let mut entries = std::fs::read_dir(home.path("data")).unwrap();
        entries.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("chunk_snapshot."))
    };
    assert!(!has_snapshot());
    server.stop();
    assert!(has_snapshot(), "memory-snapshot-on-shutdown");

    // Start times have no place in the older chunks.
    for (feature, floats, why) in [
        ("st-storage", "", "incompatible with start-timestamp storage"),
        ("st-storage,xor2-encoding", "xor", "incompatible with st-storage"),
        ("", "xor2", "requires the xor2-encoding feature flag"),
    ] {
        let file =
            format!("{}storage: {{tsdb: {{chunk_encoding: {{floats: '{floats}'}}}}}}\n", config(&target));
        home.write("prometheus.yml", &file);
        let mut command = home.command(&[&format!("--enable-feature={feature}")]);
        let mut process = Process::spawn("ferula", &mut command);
        assert!(!process.wait().success(), "{feature} {floats}");
        assert!(process.logged(why).is_some(), "{}", process.log());
    }
    // A reload that asks for it leaves the server as it was.
    home.write("prometheus.yml", &config(&target));
    let server = home.start(&[]);
    let file = format!("{}storage: {{tsdb: {{chunk_encoding: {{floats: xor2}}}}}}\n", config(&target));
    home.write("prometheus.yml", &file);
    server.process.signal(Signal::HUP);
    let failed = "prometheus_config_last_reload_successful";
    until_true("the reload to fail", || server.metric(failed) == Some(0.0));
    server.stop();
}
