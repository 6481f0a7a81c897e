//! Real servers for the tests, ours and the reference ones: started on a port of the system's choice, asked over
//! HTTP, and killed when the test lets go of them, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything that must happen may take, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many lines of its log a process shows when its test fails.
const LINES_SHOWN: usize = 60;

/// Looks until there is something to be seen.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Looks until it is so.
pub(crate) fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}

/// Seconds since the epoch.
pub(crate) fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

/// Says that a test cannot run here, and why.
pub(crate) fn skipped(test: &str, why: &str) {
    // Not `println!`: what that says of a test that passes nobody gets to see.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Where the program of a reference server belongs.
fn peer_path(name: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers");
    std::env::var_os("FERULA_PEERS").map_or_else(home, PathBuf::from).join("bin").join(name)
}

/// The program of a reference server that not everybody has.
pub(crate) fn peer_if_there(name: &str) -> Option<PathBuf> {
    Some(peer_path(name)).filter(|path| path.exists())
}

/// The program of a reference server, or word that the test is skipped.
pub(crate) fn peer(name: &str, test: &str) -> Option<PathBuf> {
    let path = peer_path(name);
    if !path.exists() {
        skipped(test, &format!("no {} (`make peers` brings it)", path.display()));
        return None;
    }
    Some(path)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A running program whose standard error is kept.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { name: name.to_owned(), child, log }
    }

    /// The first line of the log that contains `text`.
    pub(crate) fn logged(&self, text: &str) -> Option<String> {
        self.log.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Where it listens, as it says in its log.
    pub(crate) fn url(&mut self) -> String {
        let line = until(&format!("{} to listen", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended at its start with {status}:\n{}", self.name, self.log());
            }
            self.logged("\"Listening on\"")
        });
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        format!("http://{address}")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("{name} to end"), || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("--- the log of {} ---", self.name);
            for line in &log[log.len().saturating_sub(LINES_SHOWN)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// A server that answers HTTP.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) url: String,
}

pub(crate) static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

pub(crate) static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    // Fails only if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap()
});

/// Sends a request and reads the whole answer; `None` if nobody answers.
fn send(request: reqwest::RequestBuilder) -> Option<(u16, String)> {
    RUNTIME.block_on(async {
        let response = request.send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    })
}

/// A path with its parameters encoded.
pub(crate) fn with_parameters(path: &str, parameters: &[(&str, &str)]) -> String {
    let url = reqwest::Url::parse_with_params(&format!("http://host{path}"), parameters).unwrap();
    url.as_str().trim_start_matches("http://host").to_owned()
}

impl Server {
    pub(crate) fn start(name: &str, command: &mut Command, ready_path: &str) -> Self {
        let mut process = Process::spawn(name, command);
        let url = process.url();
        let mut server = Self { process, url };
        until(&format!("{name} to be ready"), || {
            assert!(server.process.is_running(), "{name} ended at its start:\n{}", server.process.log());
            send(CLIENT.get(format!("{}{ready_path}", server.url))).filter(|(status, _)| *status == 200)
        });
        server
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.url);
        send(CLIENT.get(&url)).unwrap_or_else(|| panic!("{url} does not answer"))
    }

    /// Posts a form: status and answer.
    pub(crate) fn form(&self, path: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let url = format!("{}{path}", self.url);
        let body = with_parameters("/", parameters).trim_start_matches("/?").to_owned();
        let request =
            CLIENT.post(&url).header("Content-Type", "application/x-www-form-urlencoded").body(body);
        send(request).unwrap_or_else(|| panic!("{url} does not answer"))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let url = format!("{}{path}", self.url);
        let request = CLIENT.post(&url).header("Content-Type", "application/json").body(body.to_string());
        send(request).unwrap_or_else(|| panic!("{url} does not answer"))
    }

    /// The JSON that a path answers with.
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// The `data` that an endpoint of the query API answers with.
    pub(crate) fn data(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        self.json(&with_parameters(path, parameters))["data"].take()
    }

    pub(crate) fn query(&self, expr: &str, time: f64) -> Value {
        self.data("/api/v1/query", &[("query", expr), ("time", &format!("{time:.3}"))])
    }

    /// The answer to a query as it comes, for those who are in a hurry.
    pub(crate) fn query_text(&self, expr: &str, time: f64) -> String {
        let parameters = [("query", expr), ("time", &format!("{time:.3}"))];
        let (status, body) = self.get(&with_parameters("/api/v1/query", &parameters));
        assert_eq!(status, 200, "{expr}: {body}");
        body
    }

    pub(crate) fn query_range(&self, expr: &str, start: f64, end: f64, step: &str) -> Value {
        let (start, end) = (format!("{start:.3}"), format!("{end:.3}"));
        let parameters = [("query", expr), ("start", start.as_str()), ("end", end.as_str()), ("step", step)];
        self.data("/api/v1/query_range", &parameters)
    }

    /// The value of an expression that has exactly one now.
    pub(crate) fn value(&self, expr: &str) -> Option<f64> {
        let data = self.query(expr, now());
        match data["result"].as_array().unwrap().as_slice() {
            [one] => one["value"][1].as_str().unwrap().parse().ok(),
            _ => None,
        }
    }

    /// A metric of the server itself, without labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics");
        body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The active target whose scrape URL contains `part`.
    pub(crate) fn target(&self, job: &str) -> Option<Value> {
        let targets = self.data("/api/v1/targets", &[("state", "active")]);
        targets["activeTargets"].as_array().unwrap().iter().find(|t| t["labels"]["job"] == job).cloned()
    }

    /// Ends it as an operator does, and checks that it goes in peace.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "{} ended with {status}:\n{}", self.process.name, self.process.log());
    }

    /// Ends it as a lack of memory does.
    pub(crate) fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }
}

/// A directory of a test with the configuration and the data of a server.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.write("prometheus.yml", config);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in place at once, as discovery reads it at any time.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &path).unwrap();
    }

    /// Our server as a command.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.server(Path::new(env!("CARGO_BIN_EXE_ferula")), args)
    }

    pub(crate) fn server(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.0.path())
            .arg(format!("--config.file={}", self.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", self.path("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"])
            .args(args);
        command
    }

    /// Starts our server, with changes of targets taken over at once.
    pub(crate) fn start(&self, args: &[&str]) -> Server {
        let mut command = self.command(args);
        Server::start("ferula", command.arg("--scrape.discovery-reload-interval=1s"), "/-/ready")
    }

    /// Starts the reference server `program` on the same files.
    pub(crate) fn start_peer(&self, program: &Path, args: &[&str]) -> Server {
        Server::start("prometheus", &mut self.server(program, args), "/-/ready")
    }
}

/// Starts `node_exporter` with the few collectors that the tests ask for.
pub(crate) fn node_exporter(program: &Path, address: &str) -> Server {
    let mut command = Command::new(program);
    command
        .arg(format!("--web.listen-address={address}"))
        .args(["--collector.disable-defaults", "--web.disable-exporter-metrics"])
        .args(
            ["cpu", "meminfo", "loadavg", "stat", "uname", "time"].map(|name| format!("--collector.{name}")),
        );
    Server::start("node_exporter", &mut command, "/")
}

/// All raw samples of an answer: series as text -> (time, value).
pub(crate) fn pairs(data: &Value) -> std::collections::BTreeMap<String, Vec<(String, String)>> {
    let series = data["result"].as_array().unwrap();
    let pair = |pair: &Value| (pair[0].to_string(), pair[1].as_str().unwrap().to_owned());
    series
        .iter()
        .map(|s| (s["metric"].to_string(), s["values"].as_array().unwrap().iter().map(pair).collect()))
        .collect()
}
