//! `alertmanager.yml` beside the reference programs: which of thousands of changed files both take, and what a
//! running Alertmanager says it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use config::matchers::Mode;

use super::mutants::{Random, mutant};
use super::mutated::{count, head, seed, write};
use super::printed::{ask, difference, free_port};
use super::{Source, peer, say, upstream, without};

/// How many files one process is given.
const BATCH: usize = 200;

/// We refuse what upstream takes, by what is in our message.
const WE_ALONE_REFUSE: [&str; 2] = [
    // Go's strings hold any bytes.
    "is not valid UTF-8",
    // Upstream's `time_intervals` are checked against the zones of the machine, ours against those we bring.
    "unknown time zone",
];

/// Keys that the older program does not know, at least not in all the places where they stand.
const NEWER: [&str; 3] = ["labels", "event_recorder", "use_aws_http_client"];

#[derive(Debug)]
enum Verdict {
    Accepted,
    Refused(String),
    /// A null where the reference implementation follows a pointer.
    Crashed,
}

fn check(binary: &Path, dir: &Path, names: &[String], features: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while verdicts.len() < names.len() {
        let rest = &names[verdicts.len()..];
        let rest = &rest[..rest.len().min(BATCH)];
        let output = Command::new(binary)
            .arg(format!("--enable-feature={features}"))
            .arg("check-config")
            .args(rest)
            .current_dir(dir)
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let answers: Vec<&str> = out.split("Checking '").skip(1).collect();
        assert!(!answers.is_empty(), "amtool checks nothing: {err}");
        for (name, answer) in rest.iter().zip(answers) {
            let answer =
                answer.strip_prefix(&format!("{name}'")).unwrap_or_else(|| panic!("{name}: {answer}"));
            // What it logs of the file stands between.
            let mut answer = answer;
            while answer.starts_with("time=") {
                answer = answer.split_once('\n').map_or("", |(_, rest)| rest);
            }
            verdicts.push(if let Some(text) = answer.strip_prefix("  FAILED: ") {
                Verdict::Refused(text.trim_end().to_owned())
            } else if answer.starts_with("  SUCCESS") {
                Verdict::Accepted
            } else {
                assert!(err.contains("panic: "), "{name}: {answer}{err}");
                Verdict::Crashed
            });
        }
    }
    verdicts
}

/// Our own files, and those of upstream's tests if they are there.
fn sources(test: &str) -> Vec<Source> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![here.join("testdata/alertmanager")];
    let theirs = upstream().join("alertmanager/config");
    if theirs.exists() {
        folders.push(theirs);
    } else {
        say(&format!(
            "SKIPPED {test}: the files in {} are not there (set FERULA_UPSTREAM)",
            theirs.display()
        ));
    }
    let mut found = BTreeMap::new();
    for entry in folders.iter().flat_map(|folder| folder.read_dir().unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    // Most of what can go wrong stands in one file.
    let repeated = found.into_iter().flat_map(|(name, text)| {
        let weight = if name == "kinds.yml" { 30 } else { 1 };
        std::iter::repeat_with(move || Source { name: name.clone(), text: text.clone() }).take(weight)
    });
    repeated.collect()
}

#[test]
fn mutated_files_are_judged_as_amtool_does() {
    let test = "mutated_files_are_judged_as_amtool_does";
    let Some(binary) = peer(test, &["amtool-next", "amtool"]) else { return };
    let is_older = !binary.ends_with("amtool-next");
    let (count, seed) = (count(), seed());
    let scratch = tempfile::tempdir().unwrap();
    // To look at them afterwards.
    let dir = std::env::var_os("MUTATED_KEEP").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let mut sources = sources(test);
    if is_older {
        for source in &mut sources {
            source.text = without(&source.text, |key| NEWER.contains(&key));
        }
    }
    let mut random = Random::new(seed);
    let texts: Vec<String> = (0..count).map(|_| mutant(&sources, &mut random)).collect();
    let names = write(&dir, &texts);
    let verdicts = check(&binary, &dir, &names, "");
    let (mut accepted, mut refused, mut same_line, mut excused) = (0, 0, 0, 0);
    let (mut wrong, mut other) = (Vec::new(), Vec::new());
    for ((name, text), verdict) in names.iter().zip(&texts).zip(&verdicts) {
        let is_in = |list: &[&str], message: &str| list.iter().any(|text| message.contains(text));
        match (config::alertmanager::load(&dir.join(name)), verdict) {
            (Ok(_), Verdict::Accepted) => accepted += 1,
            // What they crash at we may take or refuse, but have a reason.
            (_, Verdict::Crashed) => excused += 1,
            // Keys come back as parts of other files' blocks.
            (Ok(_), Verdict::Refused(theirs)) if is_older && theirs.contains(" not found in type ") => {
                excused += 1;
            }
            (Ok(_), Verdict::Refused(theirs)) => wrong.push(format!("we accept: {theirs}\n{text}")),
            (Err(e), Verdict::Accepted) if is_in(&WE_ALONE_REFUSE, &e.to_string()) => excused += 1,
            (Err(e), Verdict::Accepted) => wrong.push(format!("we refuse: {e}\n{text}")),
            (Err(e), Verdict::Refused(theirs)) => {
                refused += 1;
                if head(&e.problems()[0].message) == head(theirs) {
                    same_line += 1;
                } else {
                    other.push(format!("theirs: {theirs}\n  ours: {e}"));
                }
            }
        }
    }
    say(&format!(
        "{test} with {}: of {count} files {accepted} accepted and {refused} refused by both, {same_line} of these with \
         the same first line; {excused} excused, {} judged otherwise",
        binary.file_name().unwrap().to_string_lossy(),
        wrong.len()
    ));
    if std::env::var_os("MUTATED_SHOW").is_some() {
        say(&other.join("\n"));
    }
    if let Some(path) = std::env::var_os("MUTATED_WRONG") {
        std::fs::write(path, wrong.join("\n=======\n")).unwrap();
    }
    assert!(accepted * 10 > count, "too few are taken to say anything");
    assert!(wrong.is_empty(), "{}", wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n---\n"));
    // The older one has other names for types.
    assert!(is_older || same_line * 100 >= refused * 95, "{}", other.join("\n"));
}

/// Pieces of matchers, whole and broken.
const PIECES: [&str; 34] = [
    "a", "b", "foo", "_x:1", "0", "ü", "🙂", " ", "  ", "\t", "=", "!=", "=~", "!~", "!", "~", ",", ",", "{",
    "}", "\"", "\"", "\\", "\\n", "\\\"", "\\x41", "\\u00fc", "\"x y\"", "\"b\"", ".*", "(", "[a-z]+", "'",
    "`",
];

#[test]
fn matchers_are_read_as_amtool_does() {
    let test = "matchers_are_read_as_amtool_does";
    let Some(binary) = peer(test, &["amtool-next", "amtool"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(seed());
    let mut texts = Vec::new();
    for _ in 0..count() {
        // Most are matchers but for a piece or two.
        let mut parts: Vec<&str> = Vec::new();
        for i in 0..=random.below(3) {
            parts.extend((i > 0).then_some(","));
            let op = random.pick(&["=", "!=", "=~", "!~"]);
            parts.extend([random.pick(&["a", "foo", "ü", "\"x y\"", "a:b"]), op]);
            parts.push(random.pick(&["b", "\"c\"", "", "\"d|e\"", "f g", "\\d", "\"\\\\d\"", "🙂"]));
        }
        for _ in 0..random.below(3) {
            let at = random.below(parts.len());
            match random.below(3) {
                0 => parts.insert(at, random.pick(&PIECES)),
                1 => parts[at] = random.pick(&PIECES),
                _ => drop(parts.remove(at)),
            }
            if parts.is_empty() {
                break;
            }
        }
        let text = parts.concat();
        texts.push(if random.below(3) == 0 { format!("{{{text}}}") } else { text });
    }
    let configs: Vec<String> = texts
        .iter()
        .map(|text| {
            // JSON's strings are YAML's, too.
            let text = serde_json::to_string(text).unwrap();
            format!("route: {{receiver: a, routes: [{{matchers: [{text}]}}]}}\nreceivers: [{{name: a}}]\n")
        })
        .collect();
    let names = write(dir.path(), &configs);
    let modes = [("", Mode::Fallback), ("classic-mode", Mode::Classic), ("utf8-strict-mode", Mode::Utf8)];
    let mut wrong = Vec::new();
    for (features, mode) in modes {
        let verdicts = check(&binary, dir.path(), &names, features);
        let (mut accepted, mut refused) = (0, 0);
        for ((name, text), verdict) in names.iter().zip(&texts).zip(&verdicts) {
            let ours = config::alertmanager::load_in(mode, &dir.path().join(name));
            match (ours, verdict) {
                (Ok(_), Verdict::Accepted) => accepted += 1,
                (Err(e), Verdict::Refused(theirs)) if e.problems()[0].message.trim_end() == theirs => {
                    refused += 1;
                }
                (Err(e), Verdict::Refused(theirs)) => {
                    wrong.push(format!(
                        "{text} in {mode:?}:\n  ours {}\ntheirs {theirs}",
                        e.problems()[0].message
                    ));
                }
                (ours, theirs) => {
                    wrong.push(format!("{text} in {mode:?}: {:?}, they {theirs:?}", ours.map(|_| ())));
                }
            }
        }
        say(&format!(
            "{test} in {mode:?}: {accepted} accepted and {refused} refused alike of {}",
            names.len()
        ));
        assert!(accepted * 10 > names.len() && refused * 10 > names.len());
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.iter().take(30).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// A running Alertmanager that ends with the test.
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
            .arg(format!("--config.file={}", dir.join("am.yml").display()))
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        let started = Instant::now();
        while ask(port, "GET", "/-/ready").is_none_or(|answer| !answer.starts_with("HTTP/1.0 200")) {
            assert!(started.elapsed() < Duration::from_mins(1), "the Alertmanager does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// What it runs after it was told to read its file again; `None` if it cannot.
    fn reload(&self) -> Option<String> {
        let answer = ask(self.port, "POST", "/-/reload").unwrap();
        if !answer.starts_with("HTTP/1.0 200") {
            return None;
        }
        let answer = ask(self.port, "GET", "/api/v2/status").unwrap();
        let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        Some(json["config"]["original"].as_str().unwrap().to_owned())
    }
}

#[test]
fn a_running_alertmanager_prints_the_same() {
    let test = "a_running_alertmanager_prints_the_same";
    // An older one prints other keys.
    let Some(binary) = peer(test, &["alertmanager-next"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("am.yml");
    let sources = sources(test);
    std::fs::write(&file, &sources.iter().find(|source| source.name == "small.yml").unwrap().text).unwrap();
    // Some kinds read their secrets as soon as they are built.
    for name in ["token.txt", "id.txt"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    let server = Server::start(&binary, dir.path());
    let (mut same, mut wrong, mut unwilling) = (0, Vec::new(), Vec::new());
    let mut compare = |name: &str, text: &str| {
        std::fs::write(&file, text).unwrap();
        let Ok(ours) = config::alertmanager::load(&file) else { return };
        match server.reload() {
            None => unwilling.push(name.to_owned()),
            Some(theirs) if ours.text == theirs => same += 1,
            Some(theirs) => {
                wrong.push(format!("{name}\n{}\n--- of\n{text}", difference(&ours.text, &theirs)));
            }
        }
    };
    let mut seen: Vec<&str> = Vec::new();
    for source in &sources {
        if !seen.contains(&source.name.as_str()) {
            seen.push(&source.name);
            compare(&source.name, &source.text);
        }
    }
    let mut random = Random::new(seed() + 1_000_000);
    for i in 0..count() / 2 {
        compare(&format!("mutant {i}"), &mutant(&sources, &mut random));
    }
    say(&format!(
        "{test}: {same} files printed alike, {} are not; {} are valid but cannot be run: {:?}",
        wrong.len(),
        unwilling.len(),
        unwilling.iter().filter(|name| !name.starts_with("mutant")).collect::<Vec<_>>()
    ));
    if let Some(path) = std::env::var_os("MUTATED_WRONG") {
        std::fs::write(path, wrong.join("\n=======\n")).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n=====\n"));
    assert!(same * 20 >= count(), "too few are taken to say anything");
}
