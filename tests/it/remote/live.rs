//! A Prometheus that sends what it scrapes to two of ours, one in each version, while one of them is killed and comes
//! back: in the end all three have the same.
//!
//! `FERULA_REMOTE_WRITE_SECONDS` says how long it goes on; `make remote-write` lets it go on for a minute.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::*;

/// How long it goes on where nobody says, in seconds.
const SECONDS: u64 = 7;

/// A target with a counter that has exemplars, and a series that can be made to end.
struct Exporter {
    address: String,
    is_short: Arc<AtomicBool>,
}

fn exporter() -> Exporter {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let is_short = Arc::new(AtomicBool::new(false));
    let (ended, scrapes) = (Arc::clone(&is_short), AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while head.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let n = scrapes.fetch_add(1, Ordering::Relaxed);
            let mut body = format!(
                "# TYPE live_requests counter\n# HELP live_requests What came.\n\
                 live_requests_total{{path=\"/<a>\"}} {n} # {{trace_id=\"t{n}\"}} 0.5\n\
                 # TYPE live_special gauge\nlive_special{{v=\"nan\"}} NaN\nlive_special{{v=\"inf\"}} -Inf\n"
            );
            if !ended.load(Ordering::Relaxed) {
                body.push_str("# TYPE live_short gauge\nlive_short 1\n");
            }
            body.push_str("# EOF\n");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Exporter { address, is_short }
}

/// One of ours at an address that it keeps, whichever port it gets: what comes there is handed on to it.
struct Fixed {
    home: Home,
    address: String,
    /// Where it is now.
    now_at: Arc<Mutex<String>>,
}

impl Fixed {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let now_at = Arc::new(Mutex::new(String::new()));
        let target = Arc::clone(&now_at);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let target = target.lock().unwrap().clone();
                // While it is away, whoever comes is turned away.
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        // Half a connection is of no use to either.
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { home: Home::new(EMPTY), address, now_at }
    }

    fn start(&self) -> Server {
        let server = Server::start("ferula", &mut self.home.command(&RECEIVES), "/-/ready");
        server.address().clone_into(&mut self.now_at.lock().unwrap());
        server
    }
}

#[test]
fn what_a_prometheus_sends_in_either_version_arrives_whole() {
    const TEST: &str = "what_a_prometheus_sends_in_either_version_arrives_whole";
    let Some((program, is_newest)) = newest_peer(TEST) else { return };
    let seconds = std::env::var("FERULA_REMOTE_WRITE_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());

    let exporter = exporter();
    let (first, second) = (Fixed::new(), Fixed::new());
    let (v1, v2) = (first.start(), second.start());
    let queue = "queue_config: {batch_send_deadline: 200ms, min_backoff: 30ms, max_backoff: 300ms}";
    let section = |server: &Fixed, message: &str| {
        format!(
            "- url: http://{}/api/v1/write\n  protobuf_message: {message}\n  send_exemplars: true\n  \
             send_native_histograms: true\n  {queue}\n",
            server.address
        )
    };
    let natives = if is_newest { ", scrape_native_histograms: true" } else { "" };
    let write = format!(
        "global: {{scrape_interval: 1s{natives}}}\nremote_write:\n{}{}",
        section(&first, "prometheus.WriteRequest"),
        section(&second, "io.prometheus.write.v2.Request")
    );
    let home = Home::new(&write);
    let features = "--enable-feature=exemplar-storage,native-histograms,metadata-wal-records";
    let sender = home.start_peer(&program, &[features]);
    let scrape = format!(
        "scrape_configs:\n- job_name: self\n  static_configs: [{{targets: ['{}']}}]\n\
         - job_name: exporter\n  static_configs: [{{targets: ['{}']}}]\n",
        sender.address(),
        exporter.address
    );
    home.write("prometheus.yml", &format!("{write}{scrape}"));
    assert_eq!(sender.form("/-/reload", &[]).0, 200);
    let begin = now();

    thread::sleep(Duration::from_secs(seconds) / 2);
    exporter.is_short.store(true, Ordering::Relaxed);
    v2.kill();
    thread::sleep(Duration::from_millis(500));
    let v2 = second.start();
    thread::sleep(Duration::from_secs(seconds) / 2);

    // Of times that are over, everything arrives sooner or later.
    let end = now() - 1.0;
    let window = format!("{}s", (end - begin) as u64 + 2);
    let sent = everything(&sender, end, &window);
    let n_histograms = sent.values().filter(|(_, histograms)| !histograms.is_null()).count();
    assert!(sent.len() > 300, "only {} series were scraped", sent.len());
    assert!(n_histograms > 3, "only {n_histograms} native histograms were scraped");
    for (name, server) in [("1.0", &v1), ("2.0", &v2)] {
        let mut missing = Vec::new();
        let is_whole = (0..300).any(|_| {
            missing = differing(&everything(server, end, &window), &sent);
            if !missing.is_empty() {
                thread::sleep(Duration::from_millis(100));
            }
            missing.is_empty()
        });
        assert!(
            is_whole,
            "{} series differ in {name}:\n{}",
            missing.len(),
            missing[..missing.len().min(5)].join("\n")
        );
        // Who is gone is gone for all, at the same time.
        for back in [0.0, 1.0, 2.0, (end - begin) / 2.0] {
            let expr = "count by (job) ({__name__=~\".+\"}) or live_short";
            let [a, b] = [server, &sender].map(|server| server.query(expr, end - back));
            assert_eq!(a, b, "{name}, {back} s before the end");
        }
        let exemplars = |server: &Server| {
            let (start, end) = (format!("{begin:.3}"), format!("{end:.3}"));
            let parameters =
                [("query", "{__name__=~\".+\"}"), ("start", start.as_str()), ("end", end.as_str())];
            server.json(&with_parameters("/api/v1/query_exemplars", &parameters))["data"].take()
        };
        let expected = exemplars(&sender);
        assert!(expected.as_array().is_some_and(|list| !list.is_empty()));
        until_true(&format!("the exemplars of {name}"), || exemplars(server) == expected);
        for refused in ["samples", "histograms", "exemplars"] {
            let expr = format!("sum(prometheus_remote_storage_{refused}_failed_total)");
            assert_eq!(sender.value(&expr), Some(0.0), "{refused} were refused");
        }
    }
}
