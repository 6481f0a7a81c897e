//! A running reference server reloads each file that it takes; what it then shows is what we print.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use config::prometheus::Defaults;

use super::mutants::{Random, mutant};
use super::{peer, say, sources, upstream, without};

/// A reference server that ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(binary: &Path, dir: &Path) -> Self {
        let port = free_port();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", dir.join("p.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-lifecycle", "--enable-feature=exemplar-storage"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        let started = Instant::now();
        while server.ask("GET", "/-/ready").is_none_or(|answer| !answer.starts_with("HTTP/1.0 200")) {
            assert!(started.elapsed() < Duration::from_mins(1), "the reference server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn ask(&self, method: &str, path: &str) -> Option<String> {
        ask(self.port, method, path)
    }

    fn reload(&self) -> Reload {
        let answer = self.ask("POST", "/-/reload").unwrap();
        if answer.starts_with("HTTP/1.0 200") {
            Reload::Done
        } else if answer.contains("couldn't load configuration") {
            Reload::Refused(answer)
        } else {
            Reload::HalfApplied
        }
    }

    fn printed(&self) -> String {
        let answer = self.ask("GET", "/api/v1/status/config").unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        json["data"]["yaml"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The whole answer, head and body.
pub(crate) fn ask(port: u16, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What became of the file that was put in place.
enum Reload {
    Done,
    Refused(String),
    /// It is valid and shown, but some part of the server could not do what it says.
    HalfApplied,
}

/// The mechanisms that a build of the reference server was made without.
fn missing_mechanisms(answer: &str) -> Vec<String> {
    let fields = answer.split("field ").skip(1).filter_map(|rest| rest.split(' ').next());
    fields.filter(|field| field.ends_with("_sd_configs")).map(str::to_owned).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// Where the texts part, with a few lines around.
pub(crate) fn difference(ours: &str, theirs: &str) -> String {
    let line = ours.lines().zip(theirs.lines()).position(|(a, b)| a != b);
    let around = |text: &str| {
        let lines: Vec<&str> = text.lines().skip(line.unwrap_or_default().saturating_sub(2)).collect();
        lines[..lines.len().min(6)].join("\n")
    };
    format!("--- ours\n{}\n--- theirs\n{}", around(ours), around(theirs))
}

fn load(file: &Path) -> Result<config::Config, config::Error> {
    // As the server is started.
    let defaults = Defaults { max_exemplars: Some(100_000), ..Defaults::default() };
    config::prometheus::load_with(file, &defaults)
}

#[test]
fn the_reference_server_prints_mutants_the_same() {
    let test = "the_reference_server_prints_mutants_the_same";
    let Some(binary) = peer(test, &["prometheus-next"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yml");
    std::fs::write(&file, "").unwrap();
    let server = Server::start(&binary, dir.path());
    // All mechanisms that the build lacks are found with the first file of each.
    let mut sources = sources(test);
    sources.retain(|source| !source.name.contains(".bad."));
    for source in &mut sources {
        std::fs::write(&file, &source.text).unwrap();
        if let Reload::Refused(answer) = server.reload() {
            let missing = missing_mechanisms(&answer);
            source.text = without(&source.text, |key| missing.iter().any(|name| name == key));
        }
    }
    let count = crate::mutated::count() / 2;
    let mut random = Random::new(crate::mutated::seed() + 1_000_000);
    let (mut same, mut wrong, mut refused) = (0, Vec::new(), Vec::new());
    for _ in 0..count {
        let text = mutant(&sources, &mut random);
        std::fs::write(&file, &text).unwrap();
        let Ok(ours) = load(&file) else { continue };
        if let Reload::Refused(answer) = server.reload() {
            // Which files are taken is the other test's concern; what is not must not be many.
            refused.push(answer);
            continue;
        }
        let theirs = server.printed();
        if ours.text == theirs {
            same += 1;
        } else {
            wrong.push(format!("{}\n--- of\n{text}", difference(&ours.text, &theirs)));
        }
    }
    say(&format!("{test}: of {count} mutants {same} are taken and printed alike, {} are not", wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n=====\n"));
    assert!(refused.len() * 50 <= count, "we take what they refuse: {refused:#?}");
    assert!(same * 10 >= count, "too few are taken to say anything");
}

#[test]
fn the_reference_server_prints_the_same() {
    let test = "the_reference_server_prints_the_same";
    // An older one prints other keys.
    let Some(binary) = peer(test, &["prometheus-next"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    if upstream().exists() {
        copy(&upstream().join("config"), dir.path());
    }
    let file = dir.path().join("p.yml");
    std::fs::write(&file, "").unwrap();
    let server = Server::start(&binary, dir.path());
    assert_eq!(server.printed(), load(&file).unwrap().text, "the empty file");
    let (mut same, mut refused, mut shortened) = (0, 0, 0);
    let mut wrong = Vec::new();
    for source in sources(test) {
        let mut text = source.text;
        std::fs::write(&file, &text).unwrap();
        let mut reload = server.reload();
        let missing =
            if let Reload::Refused(answer) = &reload { missing_mechanisms(answer) } else { Vec::new() };
        if !missing.is_empty() {
            text = without(&text, |key| missing.iter().any(|name| name == key));
            std::fs::write(&file, &text).unwrap();
            reload = server.reload();
            shortened += 1;
        }
        let name = source.name;
        match (reload, load(&file)) {
            (Reload::Refused(_), Err(_)) => refused += 1,
            // Files of jobs that are wrong come to light when the main one is applied.
            (Reload::HalfApplied, Err(_)) if config::prometheus::load_main(&file).is_ok() => refused += 1,
            (Reload::Refused(answer), Ok(_)) => wrong.push(format!("{name}: we accept, they say {answer}")),
            (Reload::Done | Reload::HalfApplied, Err(e)) => wrong.push(format!("{name}: we refuse: {e}")),
            (Reload::Done | Reload::HalfApplied, Ok(ours)) => {
                let theirs = server.printed();
                if ours.text == theirs {
                    same += 1;
                } else {
                    wrong.push(format!("{name}:\n{}", difference(&ours.text, &theirs)));
                }
            }
        }
    }
    say(&format!(
        "{test}: {same} files printed alike, {refused} refused by both; of {shortened} the sections were left out that the \
         build of the server lacks"
    ));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
