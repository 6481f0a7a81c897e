//! The servers that are asked: three of each side, with the same files and the same data.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::data;
use super::reply::{Reply, send};
use super::scenario::{Case, Server};

/// Which program answers.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// It is older than the model: some flags and keys are not known to it.
    pub(super) is_old: bool,
    pub(super) is_reference: bool,
}

impl Program {
    pub(super) fn ferula() -> Self {
        Self { path: PathBuf::from(env!("CARGO_BIN_EXE_ferula")), is_old: false, is_reference: false }
    }

    /// The reference server, the model itself where it is there, or nothing after saying so.
    pub(super) fn reference(test: &str) -> Option<Self> {
        let wanted = std::env::var("FERULA_COMPAT_PEER").unwrap_or_else(|_| "prometheus-next".to_owned());
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers");
        let model =
            std::env::var_os("FERULA_PEERS").map_or_else(home, PathBuf::from).join("bin/prometheus-next");
        if wanted == "prometheus-next" && model.exists() {
            return Some(Self { path: model, is_old: false, is_reference: true });
        }
        crate::process::peer("prometheus", test).map(|path| Self { path, is_old: true, is_reference: true })
    }
}

/// The head reaches from the fixed data to now: Prometheus would be busy for minutes cutting it into blocks of two hours.
const WHOLE_HEAD: [&str; 2] =
    ["--storage.tsdb.min-block-duration=100y", "--storage.tsdb.max-block-duration=100y"];

/// A server that is killed when the test ends.
pub(super) struct Process {
    child: Child,
    pub(super) address: String,
}

impl Process {
    /// Starts `program` in `home` and waits until it says where it listens.
    fn start(program: &Program, home: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(&program.path)
            .current_dir(home)
            .args(["--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .args(["--storage.tsdb.retention.time=100y"])
            .args(program.is_reference.then_some(WHOLE_HEAD).iter().flatten())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", program.path.display()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, receive) = mpsc::channel();
        let name = program.path.file_name().unwrap().to_string_lossy().into_owned();
        let shows = std::env::var_os("FERULA_COMPAT_LOG").is_some();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(rest) = line.split("Listening on").nth(1)
                    && let Some(rest) = rest.split("address=").nth(1)
                {
                    let _ = send.send(Ok(rest.split(' ').next().unwrap().to_owned()));
                }
                if line.contains("level=ERROR") {
                    let _ = send.send(Err(line.clone()));
                }
                if shows {
                    eprintln!("{name}: {line}");
                }
            }
        });
        let address = match receive.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(address)) => address,
            Ok(Err(line)) => panic!("{}: {line}", program.path.display()),
            Err(mpsc::RecvTimeoutError::Timeout | mpsc::RecvTimeoutError::Disconnected) => {
                panic!("{} said not within 30 s where it listens", program.path.display())
            }
        };
        Self { child, address }
    }

    pub(super) fn get(&self, path: &str) -> std::io::Result<Reply> {
        send(&self.address, "GET", path, &[], b"", None)
    }

    /// Waits until the answer to `path` pleases.
    fn until(&self, path: &str, pleases: impl Fn(&Reply) -> bool) {
        let (start, mut last) = (Instant::now(), None);
        loop {
            match self.get(path) {
                Ok(reply) if pleases(&reply) => return,
                reply => last = reply.ok().or(last),
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{path} never pleased: {last:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until `expr` has a result.
    fn until_found(&self, expr: &str) {
        self.until(&query(expr), |reply| reply.body.contains("\"value\""));
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

/// The path that asks for `text` at this moment.
pub(super) fn query(text: &str) -> String {
    let mut url = form_urlencoded::Serializer::new("/api/v1/query?".to_owned());
    url.append_pair("query", text).finish()
}

// === taking in ===

/// The scrape jobs of a server that takes in: name, address, and more of the section.
fn jobs(list: &[(&str, &str, &str)]) -> String {
    let mut text = "global: {scrape_interval: 100ms}\n\
        storage: {tsdb: {out_of_order_time_window: 20y}, exemplars: {max_exemplars: 1000}}\n\
        scrape_configs:\n"
        .to_owned();
    for (name, address, more) in list {
        text += &format!(
            "  - {{job_name: {name}, honor_labels: true{more}, static_configs: [{{targets: [\"{address}\"], labels: {{instance: {name}}}}}]}}\n"
        );
    }
    text
}

/// Lets `program` scrape the fixed data into `home/data`. The block beside it comes from a command of ours.
pub(super) fn take_in(program: &Program, home: &Path) {
    std::fs::create_dir_all(home).unwrap();
    // One after the other: the floats open the head at their time, which the late ones may then be older than.
    let (for_late, for_native) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let floats = data::serve("200 OK", data::TEXT, data::floats().into_bytes());
    let late = data::serve_when(Arc::clone(&for_late), "200 OK", data::TEXT, data::late().into_bytes());
    let native = data::serve_when(Arc::clone(&for_native), "200 OK", data::PROTOBUF, data::histograms());
    let as_they_are = if program.is_old { "" } else { ", scrape_native_histograms: true" };
    let list = [("floats", &*floats, ""), ("late", &*late, ""), ("native", &*native, as_they_are)];
    std::fs::write(home.join("take-in.yml"), jobs(&list)).unwrap();
    let features = "--enable-feature=exemplar-storage,native-histograms";
    let server = Process::start(program, home, &["--config.file=take-in.yml", features]);
    server.until("/-/ready", |reply| reply.status == 200);
    // A scrape is there as a whole or not at all.
    server.until_found("up{job=\"floats\"} == 1");
    for_late.store(true, Ordering::Relaxed);
    server.until_found("up{job=\"late\"} == 1");
    for_native.store(true, Ordering::Relaxed);
    server.until_found("up{job=\"native\"} == 1");
    server.stop();
    std::fs::write(home.join("old.om"), data::old()).unwrap();
    let made = Command::new(Program::ferula().path)
        .current_dir(home)
        .args(["tsdb", "create-blocks-from", "openmetrics", "old.om", "data"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Lets `program` scrape itself into `home/data` for a while.
pub(super) fn take_itself_in(program: &Program, home: &Path) {
    std::fs::create_dir_all(home).unwrap();
    std::fs::write(home.join("take-in.yml"), "").unwrap();
    let server = Process::start(program, home, &["--config.file=take-in.yml", "--web.enable-lifecycle"]);
    std::fs::write(home.join("take-in.yml"), jobs(&[("itself", &server.address, "")])).unwrap();
    server.until("/-/ready", |reply| reply.status == 200);
    let reload = send(&server.address, "POST", "/-/reload", &[], b"", None).unwrap();
    assert_eq!(reload.status, 200, "{}", reload.body);
    // Some different status codes for its own counters.
    for _ in 0..10 {
        for text in ["up", "("] {
            server.get(&query(text)).unwrap();
        }
    }
    server.until_found("count_over_time(up{job=\"itself\"}[1m]) >= 20");
    server.stop();
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
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

// === answering ===

/// Targets that are the same for both sides.
pub(super) struct Targets {
    alpha: String,
    beta: String,
    broken: String,
}

impl Targets {
    pub(super) fn serve() -> Self {
        Self {
            alpha: data::serve("200 OK", data::TEXT, data::ALPHA.into()),
            beta: data::serve("200 OK", data::OPENMETRICS, data::BETA.into()),
            broken: data::serve("500 Internal Server Error", data::TEXT, Vec::new()),
        }
    }

    /// A text of the configuration with the addresses put in.
    fn fill(&self, text: &str) -> String {
        text.replace("ALPHA", &self.alpha).replace("BETA", &self.beta).replace("BROKEN", &self.broken)
    }
}

/// What the plain server runs with: targets that are up, down, dropped and not yet scraped.
const CONFIG: &str = include_str!("../../compat/serve/prometheus.yml");

const RULES: &str = include_str!("../../compat/serve/rules.yml");

const MORE_RULES: &str = include_str!("../../compat/serve/more-rules.yml");

/// What the server with everything switched on runs with.
const OPEN_CONFIG: &str = include_str!("../../compat/serve/open.yml");

/// The token that asks for the page of rules which begins with a group, given its file and name.
fn token(group: &str) -> String {
    digest(group)
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// One side.
pub(super) struct Side {
    home: PathBuf,
    plain: Process,
    prefixed: Process,
    open: Process,
    /// What is called otherwise in each run, and how it is called in all of them.
    names: Vec<(String, String)>,
}

impl Side {
    /// Starts `program` three times below `home`, which has the data, and waits until it has scraped and evaluated.
    pub(super) fn start(program: &Program, home: &Path, targets: &Targets) -> Self {
        let folder = |name: &str| {
            let folder = home.join(name);
            std::fs::create_dir_all(folder.join("rules")).unwrap();
            folder
        };
        let (plain, prefixed, open) = (folder("plain"), folder("prefixed"), folder("open"));
        std::fs::write(plain.join("prometheus.yml"), targets.fill(CONFIG)).unwrap();
        std::fs::write(plain.join("rules/rules.yml"), RULES).unwrap();
        std::fs::write(plain.join("rules/more.yml"), MORE_RULES).unwrap();
        std::fs::write(prefixed.join("prometheus.yml"), "").unwrap();
        std::fs::write(open.join("prometheus.yml"), OPEN_CONFIG).unwrap();
        for (file, text) in [
            ("assets/hello.txt", "hello\n"),
            ("consoles/index.html", "<p>{{ .Path }} {{ .Params.a }} {{ template \"mine\" \"<x>\" }}</p>\n"),
            ("consoles/query.html", "{{ range query \"vector(7)\" }}{{ . | value }}{{ end }}\n"),
            ("consoles/broken.html", "{{ .Nothing }}\n"),
            ("libraries/mine.lib", "{{ define \"mine\" }}[{{ . }}]{{ end }}\n"),
        ] {
            std::fs::create_dir_all(open.join(file).parent().unwrap()).unwrap();
            std::fs::write(open.join(file), text).unwrap();
        }
        let always = ["--config.file=prometheus.yml", "--scrape.discovery-reload-interval=10ms"];
        let start = |home: &Path, more: &[&str]| Process::start(program, home, &[&always[..], more].concat());
        let features = "--enable-feature=exemplar-storage,native-histograms";
        let started = std::thread::scope(|scope| {
            let one = scope.spawn(|| {
                let args = ["--web.external-url=http://compat.example/", "--web.enable-lifecycle", features];
                start(&plain, &args)
            });
            let two = scope.spawn(|| {
                let args = [
                    "--web.external-url=http://compat.example/pre/fix/",
                    "--web.cors.origin=https?://(a|b)\\.example",
                ];
                start(&prefixed, &args)
            });
            let mut args = vec![
                "--web.external-url=http://compat.example/",
                "--web.enable-admin-api",
                "--web.enable-lifecycle",
                "--web.enable-remote-write-receiver",
                "--query.max-samples=3000",
                "--web.user-assets=assets",
                "--web.console.templates=consoles",
                "--web.console.libraries=libraries",
                "--enable-feature=exemplar-storage,native-histograms,promql-per-step-stats,promql-experimental-functions,search-api",
            ];
            if !program.is_old {
                args.extend(["--web.enable-otlp-receiver", "--web.search.max-limit=50"]);
            }
            [start(&open, &args), one.join().unwrap(), two.join().unwrap()]
        });
        let [open, plain, prefixed] = started;
        let mut names = vec![(home.to_str().unwrap().to_owned(), "HOME".to_owned())];
        for (address, name) in [
            (&targets.alpha, "ALPHA"),
            (&targets.beta, "BETA"),
            (&targets.broken, "BROKEN"),
            (&plain.address, "PLAIN"),
            (&prefixed.address, "PREFIXED"),
            (&open.address, "OPEN"),
        ] {
            names.push((format!(":{}", address.split(':').nth(1).unwrap()), format!(":{name}")));
        }
        for (file, group) in [
            ("more.yml", "alerting"),
            ("more.yml", "another"),
            ("rules.yml", "alerting"),
            ("rules.yml", "much later"),
            ("rules.yml", "recording"),
        ] {
            let token = token(&format!("rules/{file};{group}"));
            names.push((token, format!("TOKEN-{file}-{}", group.replace(' ', "-"))));
        }
        let side = Self { home: home.to_owned(), plain, prefixed, open, names };
        side.settle();
        side
    }

    /// Waits until all is as it stays.
    fn settle(&self) {
        for (server, prefix) in [(&self.plain, ""), (&self.prefixed, "/pre/fix"), (&self.open, "")] {
            server.until(&format!("{prefix}/-/ready"), |reply| reply.status == 200);
        }
        self.plain.until("/api/v1/targets?state=active", |reply| {
            reply.body.matches("\"down\"").count() == 2 && reply.body.matches("\"up\"").count() == 2
        });
        self.plain.until("/api/v1/rules", |reply| {
            // Only the group that is evaluated every ten hours may be unknown.
            reply.body.matches("\"health\":\"unknown\"").count() <= 1
                && reply.body.contains("\"firing\"")
                && reply.body.contains("\"pending\"")
        });
        // The series of alerts come with the second evaluation, when states have been restored.
        self.plain.until_found("count({__name__=~\"ALERTS|ALERTS_FOR_STATE\"}) == 8");
        self.plain.until("/api/v1/alertmanagers", |reply| reply.body.contains("http"));
    }

    pub(super) fn ask(&self, case: &Case) -> Reply {
        let (folder, Process { address, .. }) = match case.server {
            Server::Plain => ("plain", &self.plain),
            Server::Prefixed => ("prefixed", &self.prefixed),
            Server::Open => ("open", &self.open),
        };
        if let Some(text) = &case.config {
            std::fs::write(self.home.join(folder).join("prometheus.yml"), text).unwrap();
        }
        let mut target = case.target.clone();
        for (real, name) in &self.names {
            if name.starts_with("TOKEN") || name == "HOME" {
                target = target.replace(name, real);
            }
        }
        let mut reply = send(address, &case.method, &target, &case.headers, &case.body, case.events)
            .unwrap_or_else(|e| Reply::none(&e));
        reply.rename(&self.names);
        for key in &case.mask {
            reply.mask(key);
        }
        for key in &case.drop {
            reply.drop_key(key);
        }
        if case.stamps {
            reply.mask_stamps();
        }
        for key in case.unordered.iter().map(String::as_str).chain(["warnings", "infos"]) {
            reply.sort(key);
        }
        if case.digest && reply.status == 200 {
            reply.body = digest(&reply.body);
        }
        reply
    }

    /// What the server says of itself after it has been asked something.
    pub(super) fn own_metrics(&self) -> String {
        self.plain.get(&query("up")).unwrap();
        self.plain.get("/metrics").unwrap().body
    }
}
