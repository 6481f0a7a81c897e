//! Every endpoint beside Prometheus': the same data, the same requests, and the answers byte for byte.
//!
//! Requests are data, in `tests/compat/*.yaml`. Two tests use them:
//! - with the reference server at hand (`FERULA_PEERS`, otherwise skipped by name), it takes the data in and
//!   then serves one copy of its directory while Ferula serves another;
//! - always, Ferula takes the part of the data that has fixed timestamps in by itself, and its answers are
//!   compared with `tests/compat/recorded.json`, which the first test writes under `FERULA_COMPAT_RECORD=1`.
//!
//! What may differ is masked in a request (`mask`), what differs on purpose is listed in
//! `tests/compat/differences.yaml` with the reason; an entry that no longer differs fails the test.
//!
//! Compat: prometheus `web/web.go`, `web/api/v1` (3.5 as the reference, 3.14 as the model).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// When the fixed data begins, in ms: 2025-01-01T00:00:00Z.
const BEGIN: i64 = 1_735_689_600_000;

/// The fixed data has a sample every 15 s.
const STEP: i64 = 15_000;

/// Samples of one series of the fixed data.
const STEPS: i64 = 41;

// === the data ===

/// The fixed data as a target exposes it, timestamps included.
fn fixed_data() -> String {
    let mut out = String::new();
    let mut series = |name: &str, labels: &str, value: &dyn Fn(i64) -> Option<String>| {
        for i in 0..STEPS {
            if let Some(value) = value(i) {
                writeln!(out, "{name}{labels} {value} {}", BEGIN + i * STEP).unwrap();
            }
        }
    };
    // In label order, so that answers do not depend on whether the head or a block gives them.
    series("{\"compat.dotted name\",\"a label\"=\"x\",job=\"web\"}", "", &|i| Some(i.to_string()));
    for (instance, version) in [("a:1", "1.2.3"), ("b:1", "1.3.0")] {
        let labels = format!("{{instance=\"{instance}\",job=\"web\",version=\"{version}\"}}");
        series("compat_build_info", &labels, &|_| Some("1".to_owned()));
    }
    for (code, methods) in
        [("200", &[("get", 3), ("post", 17)][..]), ("404", &[("post", 24)]), ("500", &[("get", 10)])]
    {
        for instance in ["a:1", "b:1"] {
            // One of them starts again in the middle.
            let restart = if instance == "b:1" { 20 } else { 0 };
            for (method, slope) in methods {
                let labels =
                    format!("{{code=\"{code}\",instance=\"{instance}\",job=\"web\",method=\"{method}\"}}");
                series("compat_requests_total", &labels, &|i| {
                    Some(((i - if i >= restart { restart } else { 0 }) * slope).to_string())
                });
            }
        }
    }
    for (suffix, labels, slope) in [
        ("_bucket", "{job=\"web\",le=\"+Inf\"}", 19),
        ("_bucket", "{job=\"web\",le=\"0.1\"}", 5),
        ("_bucket", "{job=\"web\",le=\"0.5\"}", 11),
        ("_bucket", "{job=\"web\",le=\"1\"}", 17),
        ("_count", "{job=\"web\"}", 19),
        ("_sum", "{job=\"web\"}", 8),
    ] {
        series(&format!("compat_seconds{suffix}"), labels, &|i| Some((i * slope).to_string()));
    }
    // Ends in the middle.
    series("compat_short", "{job=\"web\"}", &|i| (i < 12).then(|| i.to_string()));
    for (room, values) in [
        ("attic", ["1", "2.5", "-3", "0.1"]),
        ("cellar", ["NaN", "+Inf", "-Inf", "0"]),
        ("kitchen <&>", ["1e21", "1e-7", "123456789.123", "-0"]),
        ("\u{fc}ber \\\"all\\\"", ["1e300", "5e-324", "0.30000000000000004", "100000000000000000000"]),
    ] {
        series("compat_temperature", &format!("{{room=\"{room}\"}}"), &|i| {
            Some(values[usize::try_from(i).unwrap() % 4].to_owned())
        });
    }
    out
}

/// Serves `body` as a target until the test process ends.
fn serve_target(body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while head.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=1.0.0; escaping=allow-utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

// === processes ===

/// A server that is killed when the test ends.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    /// Starts `program` and waits until it says where it listens.
    fn start(program: &Path, args: &[String]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, receive) = mpsc::channel();
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("Listening on") {
                    let address =
                        line.split("address=").nth(1).map(|rest| rest.split(' ').next().unwrap().to_owned());
                    let _ = send.send(address.unwrap());
                } else if std::env::var_os("FERULA_COMPAT_LOG").is_some() {
                    eprintln!("{name}: {line}");
                }
            }
        });
        let address = receive.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
            panic!("{} said not within 30 s where it listens", program.display());
        });
        Self { child, address }
    }

    /// Waits until the answer to `path` pleases.
    fn until(&self, path: &str, pleases: impl Fn(&Reply) -> bool) {
        let start = Instant::now();
        loop {
            if let Ok(reply) = send(&self.address, "GET", path, &[], "")
                && pleases(&reply)
            {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{path} of {} never pleased", self.address);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_ready(&self, prefix: &str) {
        self.until(&format!("{prefix}/-/ready"), |reply| reply.status == 200);
    }

    /// Asks the process to stop and waits until it has.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the reference server, or nothing after saying so.
fn peer(name: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_PEERS")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/ferula-peers")));
    let path = root.map(|root| root.join("bin").join(name)).filter(|path| path.exists());
    if path.is_none() {
        eprintln!("SKIPPED {test}: {name} is not there (set FERULA_PEERS)");
    }
    path
}

fn ferula() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ferula"))
}

// === requests and answers ===

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reply {
    status: u16,
    /// Only those that [`HEADERS`] names, sorted.
    headers: Vec<(String, String)>,
    body: String,
}

/// The headers that are compared.
const HEADERS: [&str; 11] = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "allow",
    "content-encoding",
    "content-type",
    "location",
    "vary",
    "x-content-type-options",
    "x-prometheus-stopping",
];

/// Sends one request on a connection of its own.
fn send(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: &str,
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: compat.example\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if method == "POST" || method == "PUT" {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        }
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let split =
        raw.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| std::io::Error::other("no head"))?;
    let head = String::from_utf8_lossy(&raw[..split]).into_owned();
    let mut body = raw[split + 4..].to_vec();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
    let all: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let has = |name: &str, value: &str| all.iter().any(|(n, v)| n == name && v == value);
    if has("transfer-encoding", "chunked") {
        body = unchunk(&body);
    }
    if has("content-encoding", "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
        body = plain;
    } else if has("content-encoding", "deflate") {
        let mut plain = Vec::new();
        flate2::read::ZlibDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
        body = plain;
    }
    // 3.14 says that answers vary by encoding, 3.5 does not.
    let is_by_encoding =
        |name: &str, value: &str| name == "vary" && value.eq_ignore_ascii_case("accept-encoding");
    let mut headers: Vec<_> = all
        .into_iter()
        .filter(|(name, value)| HEADERS.contains(&name.as_str()) && !is_by_encoding(name, value))
        .collect();
    headers.sort();
    Ok(Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        out.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    out
}

/// A group of requests in `tests/compat/*.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// The path.
    on: String,
    #[serde(default)]
    method: Option<String>,
    /// Which of the servers: `plain`, or `prefixed` with an external URL that has a path.
    #[serde(default)]
    server: Server,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Parameters of all requests of the group.
    #[serde(default)]
    all: BTreeMap<String, Values>,
    /// Keys of JSON objects, or names of headers, whose values may differ.
    #[serde(default)]
    mask: Vec<String>,
    /// The list in the answer has no order.
    #[serde(default)]
    unordered: bool,
    /// The answer depends on more than the fixed data: only comparable with a peer at hand.
    #[serde(default)]
    live: bool,
    /// Parameters of one request each; one of them with none if absent.
    #[serde(default)]
    asks: Vec<BTreeMap<String, Values>>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Server {
    #[default]
    Plain,
    Prefixed,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

struct Case {
    /// Names the request in recordings and messages.
    name: String,
    server: Server,
    method: String,
    target: String,
    form: String,
    headers: Vec<(String, String)>,
    mask: Vec<String>,
    unordered: bool,
    live: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// All requests; `now` stands for the end of the live data, in seconds.
fn cases(now: &str) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| path.file_name().unwrap() != "differences.yaml")
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let groups: Vec<Group> = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for group in groups {
            let asks = if group.asks.is_empty() { vec![BTreeMap::new()] } else { group.asks.clone() };
            for ask in &asks {
                let case = case(&group, ask, now);
                assert!(cases.iter().all(|other| other.name != case.name), "{} is there twice", case.name);
                cases.push(case);
            }
        }
    }
    cases
}

fn case(group: &Group, ask: &BTreeMap<String, Values>, now: &str) -> Case {
    let mut method = group.method.clone().unwrap_or_else(|| "GET".to_owned());
    let mut params = group.all.clone();
    params.extend(ask.clone());
    let (mut shown, mut live) = (String::new(), group.live);
    let mut url = form_urlencoded::Serializer::new(String::new());
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, values) in &params {
        let values = match values {
            Values::One(one) => std::slice::from_ref(one),
            Values::Many(many) => many,
        };
        for value in values {
            write!(shown, " {name}={value}").unwrap();
            live |= value.contains("$now");
            let value = value.replace("$now", now);
            // `body:name` travels in the body, which makes it a POST.
            if let Some(name) = name.strip_prefix("body:") {
                "POST".clone_into(&mut method);
                form.append_pair(name, &value);
            } else {
                url.append_pair(name, &value);
            }
        }
    }
    let (url, form) = (url.finish(), form.finish());
    let prefix = if group.server == Server::Prefixed { "prefixed " } else { "" };
    let mut shown_headers = String::new();
    for (name, value) in &group.headers {
        write!(shown_headers, " [{name}: {value}]").unwrap();
    }
    Case {
        name: format!("{prefix}{method} {}{shown}{shown_headers}", group.on),
        server: group.server,
        target: if url.is_empty() { group.on.clone() } else { format!("{}?{url}", group.on) },
        method,
        form,
        headers: group.headers.clone().into_iter().collect(),
        mask: group.mask.clone(),
        unordered: group.unordered,
        live,
    }
}

impl Case {
    fn ask(&self, servers: &Pair) -> Reply {
        let address = match self.server {
            Server::Plain => &servers.plain.address,
            Server::Prefixed => &servers.prefixed.address,
        };
        let mut reply = send(address, &self.method, &self.target, &self.headers, &self.form)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        for key in &self.mask {
            reply.body = masked(&reply.body, key);
            reply.headers.retain(|(name, _)| name != key);
        }
        if self.unordered
            && let Ok(mut tree) = serde_json::from_str::<serde_json::Value>(&reply.body)
        {
            for list in ["/data/result", "/data/alerts"] {
                if let Some(list) = tree.pointer_mut(list).and_then(|list| list.as_array_mut()) {
                    list.sort_by_key(ToString::to_string);
                }
            }
            reply.body = tree.to_string();
        }
        reply
    }
}

/// `text` with the scalar values of the JSON key `key` replaced.
fn masked(text: &str, key: &str) -> String {
    let key = format!("\"{key}\":");
    let mut out = String::new();
    let mut rest = text;
    while let Some(i) = rest.find(&key) {
        let (before, after) = rest.split_at(i + key.len());
        out.push_str(before);
        out.push_str("\"MASKED\"");
        let end = if let Some(inner) = after.strip_prefix('"') {
            let mut is_escaped = false;
            let close = inner.find(|c| {
                let is_close = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_close
            });
            close.expect("a string ends") + 2
        } else {
            after.find([',', '}']).expect("an object ends")
        };
        rest = &after[end..];
    }
    out + rest
}

// === the servers ===

/// One server as users start it, one under a path.
struct Pair {
    plain: Process,
    prefixed: Process,
}

/// The configuration of both while they answer: it scrapes one target that nobody serves.
const CONFIG: &str = r#"global:
  scrape_interval: 1s
  evaluation_interval: 1s
  external_labels:
    site: "here"
rule_files:
  - rules.yml
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["127.0.0.1:1"]
scrape_configs:
  - job_name: unreachable
    static_configs:
      - targets: ["127.0.0.1:1"]
        labels: {zone: "<1>"}
  - job_name: later
    scrape_interval: 10h
    metrics_path: /some/path
    scheme: https
    params: {a: ["b c"]}
    basic_auth: {username: me, password: secret}
    static_configs:
      - targets: ["later.example:9", "left-out.example:9"]
    relabel_configs:
      - source_labels: [__address__]
        regex: "left-out.*"
        action: drop
"#;

const RULES: &str = r#"groups:
  - name: recording
    interval: 1s
    rules:
      - record: rule:one
        expr: vector(1)
        labels: {team: "a"}
      - record: rule:broken
        expr: label_replace(vector(1), "9x", "", "", "")
  - name: alerting
    interval: 1s
    limit: 10
    labels: {group: "yes"}
    rules:
      - alert: Always
        expr: vector(1) > 0
        labels: {severity: "page", quoted: "{{ $value }}"}
        annotations: {summary: "it is {{ $value }} <always>"}
      - alert: Soon
        expr: vector(1e-7)
        for: 1h
        keep_firing_for: 5m
      - alert: Never
        expr: vector(0) > 1
  - name: another
    rules:
      - alert: Always
        expr: vector(2)
"#;

fn arguments(config: &Path, data: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec![
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", data.display()),
        "--web.listen-address=127.0.0.1:0".to_owned(),
        "--storage.tsdb.retention.time=100y".to_owned(),
    ];
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    args
}

/// Starts both servers on `data` and waits until they have scraped and evaluated.
fn start_pair(program: &Path, folder: &Path, data: &Path) -> Pair {
    std::fs::write(folder.join("serve.yml"), CONFIG).unwrap();
    std::fs::write(folder.join("rules.yml"), RULES).unwrap();
    std::fs::write(folder.join("nothing.yml"), "").unwrap();
    let plain = ["--web.external-url=http://compat.example/", "--web.enable-lifecycle"];
    let plain = Process::start(program, &arguments(&folder.join("serve.yml"), data, &plain));
    let prefixed =
        ["--web.external-url=http://compat.example/pre/fix/", "--web.cors.origin=https?://(a|b)\\.example"];
    let empty = data.with_extension("empty");
    let prefixed = Process::start(program, &arguments(&folder.join("nothing.yml"), &empty, &prefixed));
    plain.until_ready("");
    prefixed.until_ready("/pre/fix");
    plain.until("/api/v1/targets?scrapePool=unreachable", |reply| reply.body.contains("\"down\""));
    plain.until("/api/v1/rules", |reply| {
        !reply.body.contains("0001-01-01") && reply.body.contains("firing") && reply.body.contains("pending")
    });
    // The series of alerts come with the second evaluation, when states have been restored.
    plain.until(&query("count({__name__=~\"ALERTS|ALERTS_FOR_STATE\"}) == 6"), |reply| {
        reply.body.contains("\"value\"")
    });
    plain.until("/api/v1/alertmanagers", |reply| reply.body.contains("http"));
    Pair { plain, prefixed }
}

/// The path that asks for `text` at this moment.
fn query(text: &str) -> String {
    let mut url = form_urlencoded::Serializer::new("/api/v1/query?".to_owned());
    url.append_pair("query", text).finish()
}

/// Lets `program` scrape the fixed data into `data`, and itself for some seconds if that is asked for.
fn take_in(program: &Path, folder: &Path, data: &Path, itself: bool) {
    let config = folder.join("take-in.yml");
    let target = serve_target(fixed_data());
    let global = "global: {scrape_interval: 1s}\nscrape_configs:\n";
    let job = |name: &str, address: &str| {
        format!(
            "  - job_name: {name}\n    honor_labels: true\n    static_configs: [{{targets: [\"{address}\"], labels: {{instance: {name}}}}}]\n"
        )
    };
    std::fs::write(&config, format!("{global}{}", job("fixed", &target))).unwrap();
    let server = Process::start(program, &arguments(&config, data, &["--web.enable-lifecycle"]));
    server.until_ready("");
    // The scrape is there as a whole or not at all.
    server.until(&query("up{job=\"fixed\"}"), |reply| reply.body.contains("\"1\"]"));
    if itself {
        std::fs::write(&config, format!("{global}{}", job("itself", &server.address))).unwrap();
        let reload = send(&server.address, "POST", "/-/reload", &[], "").unwrap();
        assert_eq!(reload.status, 200, "{}", reload.body);
        // Some different status codes for its own counters.
        for _ in 0..20 {
            for text in ["up", "("] {
                send(&server.address, "GET", &query(text), &[], "").unwrap();
            }
        }
        server.until(&query("count_over_time(up{job=\"itself\"}[1m]) >= 12"), |reply| {
            reply.body.contains("\"value\"")
        });
    }
    server.stop();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

// === the tests ===

/// The differences that are meant to be, by request, with their reasons.
fn differences() -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Difference {
        because: String,
        asks: Vec<String>,
    }
    let text = std::fs::read_to_string(folder().join("differences.yaml")).unwrap();
    let list: Vec<Difference> = serde_yaml::from_str(&text).unwrap();
    list.into_iter().flat_map(|d| d.asks.into_iter().map(move |ask| (ask, d.because.clone()))).collect()
}

/// Where two answers part, with some context.
fn describe(theirs: &Reply, ours: &Reply) -> String {
    let mut out = String::new();
    if theirs.status != ours.status {
        write!(out, "\n    status: {} there, {} here", theirs.status, ours.status).unwrap();
    }
    if theirs.headers != ours.headers {
        write!(out, "\n    headers there: {:?}\n    headers here:  {:?}", theirs.headers, ours.headers)
            .unwrap();
    }
    if theirs.body != ours.body {
        let common = theirs.body.bytes().zip(ours.body.bytes()).take_while(|(a, b)| a == b).count();
        let part = |text: &str| {
            let from = text.floor_char_boundary(common.saturating_sub(60));
            text[from..].chars().take(300).collect::<String>()
        };
        write!(out, "\n    body there: …{:?}\n    body here:  …{:?}", part(&theirs.body), part(&ours.body))
            .unwrap();
    }
    out
}

#[test]
fn answers_are_those_of_prometheus() {
    let Some(prometheus) = peer("prometheus", "answers_are_those_of_prometheus") else { return };
    let folder = tempfile::tempdir().unwrap();
    let [data, theirs, ours] = ["taken-in", "theirs", "ours"].map(|name| folder.path().join(name));
    take_in(&prometheus, folder.path(), &data, true);
    let now = format!("{:.3}", jiff::Timestamp::now().as_millisecond() as f64 / 1000.0 - 1.0);
    copy_folder(&data, &theirs);
    copy_folder(&data, &ours);
    let theirs = start_pair(&prometheus, folder.path(), &theirs);
    let ours = start_pair(&ferula(), folder.path(), &ours);

    let expected = differences();
    let (mut n_equal, mut failures, mut recorded) = (0, Vec::new(), BTreeMap::new());
    let mut meant: Vec<_> = expected.keys().cloned().collect();
    for case in cases(&now) {
        let (their_reply, our_reply) = (case.ask(&theirs), case.ask(&ours));
        meant.retain(|name| *name != case.name);
        match (their_reply == our_reply, expected.get(&case.name)) {
            (true, None) => n_equal += 1,
            (false, Some(_)) => {}
            (true, Some(reason)) => failures.push(format!("{} is equal, in spite of: {reason}", case.name)),
            (false, None) => failures.push(format!("{}{}", case.name, describe(&their_reply, &our_reply))),
        }
        if !case.live && !expected.contains_key(&case.name) {
            recorded.insert(case.name, their_reply);
        }
    }
    failures.extend(meant.into_iter().map(|name| format!("{name}: listed as different but never asked")));
    if std::env::var_os("FERULA_COMPAT_RECORD").is_some() {
        let text = serde_json::to_string_pretty(&recorded).unwrap();
        std::fs::write(self::folder().join("recorded.json"), text + "\n").unwrap();
    }
    println!("{n_equal} answers equal, {} different on purpose, {} wrong", expected.len(), failures.len());
    assert!(failures.is_empty(), "{} wrong answers:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn answers_are_those_recorded() {
    let recorded: BTreeMap<String, Reply> =
        serde_json::from_str(&std::fs::read_to_string(folder().join("recorded.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    take_in(&ferula(), folder.path(), &data, false);
    let ours = start_pair(&ferula(), folder.path(), &data);
    let (mut n_equal, mut failures) = (0, Vec::new());
    for case in cases("0") {
        let Some(theirs) = recorded.get(&case.name) else { continue };
        let reply = case.ask(&ours);
        if reply == *theirs {
            n_equal += 1;
        } else {
            failures.push(format!("{}{}", case.name, describe(theirs, &reply)));
        }
    }
    assert!(failures.is_empty(), "{} wrong answers:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(n_equal, recorded.len(), "recordings of requests that are gone");
}

#[test]
fn own_metrics_are_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let ours = start_pair(&ferula(), folder.path(), &folder.path().join("data"));
    send(&ours.plain.address, "GET", &query("up"), &[], "").unwrap();
    let reply = send(&ours.plain.address, "GET", "/metrics", &[], "").unwrap();

    let mut parser = model::wire::parse::Parser::new(reply.body.as_bytes(), model::wire::parse::Format::Text);
    let (mut seen, mut n_lines) = (std::collections::BTreeSet::new(), 0);
    let mut labels = model::LabelsBuilder::default();
    while let Some(entry) = parser.next() {
        if let model::wire::parse::Entry::Series(line) = entry.unwrap() {
            parser.labels_into(&line, &mut labels).unwrap();
            let labels = labels.build();
            assert!(seen.insert(labels.clone()), "{labels} is there twice");
            n_lines += 1;
        }
    }
    assert!(n_lines > 100, "{}", reply.body);
    let mut families = std::collections::BTreeSet::new();
    for name in reply.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(families.insert(name), "the family {name} is written twice");
    }
    for name in [
        "prometheus_engine_queries",
        "prometheus_engine_queries_concurrent_max",
        "prometheus_engine_query_duration_seconds",
        "prometheus_http_requests_total",
        "prometheus_http_request_duration_seconds",
        "prometheus_http_response_size_bytes",
    ] {
        assert!(families.contains(name), "{name} is missing");
    }
    let counted = reply.body.lines().find(|line| {
        line.starts_with("prometheus_engine_query_duration_seconds_count{slice=\"inner_eval\"}")
    });
    assert!(!counted.unwrap().ends_with(" 0"), "{counted:?}");

    let Some(promtool) = peer("promtool", "own_metrics_are_well_formed, the part with promtool") else {
        return;
    };
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(reply.body.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Prometheus itself has names that its linter does not like.
    let said: Vec<_> = said
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with("should not include type 'histogram'"))
        .collect();
    assert!(said.is_empty(), "{}: {said:?}", output.status);
}
