//! Thousands of changed files are accepted or refused as promtool does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mutants::{Random, mutant};
use super::{Source, peer, say, sources, without};

/// How many files one process is given.
const BATCH: usize = 200;

/// What promtool makes of a file.
#[derive(Debug)]
enum Verdict {
    /// It loads; what promtool alone has against it besides does not count.
    Accepted,
    Refused(String),
    /// A null where the reference implementation follows a pointer.
    Crashed,
}

/// Files that both judge differently for a reason, by what is in the message of the one that refuses.
struct Excuse {
    text: &'static str,
    /// Only of the older program, which knows fewer keys.
    only_older: bool,
}

const fn always(text: &'static str) -> Excuse {
    Excuse { text, only_older: false }
}

const fn older(text: &'static str) -> Excuse {
    Excuse { text, only_older: true }
}

/// Upstream takes these.
const WE_ALONE_REFUSE: [Excuse; 5] = [
    // None of the three can work. Go's strings hold any bytes.
    always("is not valid UTF-8"),
    always("in DNS-SD config is outside of 0 to 65535"),
    // A share of the disk that is not a number.
    always("must be in the range [0, 100], got NaN"),
    // The older program looks at it in jobs only.
    older("unrecognized ValidationScheme"),
    // Numbers below one were taken, and replaced by others or not.
    older("remote write queue "),
];

/// The older program knows fewer keys and values, and some rules were relaxed since.
const THEY_ALONE_REFUSE: [Excuse; 17] = [
    older("field scrape_native_histograms not found"),
    older("field extra_scrape_metrics not found"),
    older("field retention not found"),
    older("field chunk_encoding not found"),
    older("field stale_series_compaction_threshold not found"),
    older("field outofordertimewindow not found"),
    older("field promote_scope_metadata not found"),
    older("field label_name_underscore_sanitization not found"),
    older("field label_name_preserve_multiple_underscores not found"),
    older("field claims not found"),
    older("field external_id not found"),
    older("field certificate not found"),
    older("unsupported OTLP translation strategy \"UnderscoreEscapingWithoutSuffixes\""),
    // A job that checks names more narrowly than the rest had to say how they are escaped, too.
    older("utf8 metric names requested but validation scheme is not set to UTF8"),
    older("pod role supports only pod selectors"),
    // The region was asked for while the file was read; now it is when the section is put to use.
    older("EC2 SD configuration requires a region"),
    older("Lightsail SD configuration requires a region"),
];

fn check(binary: &Path, dir: &Path, names: &[String]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while verdicts.len() < names.len() {
        let rest = &names[verdicts.len()..];
        let rest = &rest[..rest.len().min(BATCH)];
        let output = Command::new(binary)
            .args(["check", "config", "--syntax-only"])
            .args(rest)
            .current_dir(dir)
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let checked = out.matches("Checking ").count();
        let crashed = err.contains("panic: ");
        assert!(checked > 0, "promtool checks nothing: {err}");
        let mut messages: HashMap<&str, &str> = HashMap::new();
        for message in err.split("  FAILED: ") {
            if let Some((name, text)) =
                message.strip_prefix("parsing YAML file ").and_then(|text| text.split_once(": "))
            {
                messages.insert(name, text.trim_end());
            }
        }
        for (i, name) in rest[..checked].iter().enumerate() {
            verdicts.push(match messages.get(name.as_str()) {
                Some(text) => Verdict::Refused((*text).to_owned()),
                None if crashed && i + 1 == checked => Verdict::Crashed,
                None => Verdict::Accepted,
            });
        }
    }
    verdicts
}

/// The mechanisms of discovery that the program was built without.
fn missing_mechanisms(binary: &Path, dir: &Path, sources: &[Source]) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for source in sources {
        let keys = source.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(keys.filter(|key| key.ends_with("_sd_configs")));
    }
    names.sort_unstable();
    names.dedup();
    let all: Vec<String> = names.iter().map(|name| format!("  {name}: []\n")).collect();
    std::fs::write(dir.join("all.yml"), format!("scrape_configs:\n- job_name: a\n{}", all.concat())).unwrap();
    match &check(binary, dir, &["all.yml".to_owned()])[..] {
        [Verdict::Refused(text)] => names
            .iter()
            .filter(|name| text.contains(&format!("field {name} ")))
            .map(|name| (*name).to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

/// The first line that says something.
pub(crate) fn head(text: &str) -> Option<&str> {
    text.lines().find(|line| *line != "yaml: unmarshal errors:")
}

pub(crate) fn write(dir: &Path, texts: &[String]) -> Vec<String> {
    let names: Vec<String> = (0..texts.len()).map(|i| format!("f{i:05}.yml")).collect();
    for (name, text) in names.iter().zip(texts) {
        std::fs::write(dir.join(name), text).unwrap();
    }
    names
}

/// How many files are made.
pub(crate) fn count() -> usize {
    std::env::var("MUTATED_CONFIGS").map_or(300, |n| n.parse().unwrap())
}

pub(crate) fn seed() -> u64 {
    std::env::var("MUTATED_SEED").map_or(1, |n| n.parse().unwrap())
}

#[test]
fn mutated_files_are_judged_as_promtool_does() {
    let test = "mutated_files_are_judged_as_promtool_does";
    let Some(binary) = peer(test, &["promtool-next", "promtool"]) else { return };
    let is_older = !binary.ends_with("promtool-next");
    let (count, seed) = (count(), seed());
    // To look at them afterwards.
    let kept = std::env::var_os("MUTATED_KEEP").map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let dir = kept.unwrap_or_else(|| scratch.path().to_owned());
    let mut sources = sources(test);
    sources.retain(|source| !source.name.contains(".bad."));
    let missing = missing_mechanisms(&binary, &dir, &sources);
    for source in &mut sources {
        source.text = without(&source.text, |key| missing.iter().any(|name| name == key));
    }
    let mut random = Random::new(seed);
    let texts: Vec<String> = (0..count).map(|_| mutant(&sources, &mut random)).collect();
    let names = write(&dir, &texts);
    let verdicts = check(&binary, &dir, &names);
    let (mut accepted, mut refused, mut same_line, mut excused) = (0, 0, 0, 0);
    let (mut wrong, mut other) = (Vec::new(), Vec::new());
    for ((name, text), verdict) in names.iter().zip(&texts).zip(&verdicts) {
        let excuse = |list: &[Excuse], message: &str| {
            list.iter().any(|excuse| (is_older || !excuse.only_older) && message.contains(excuse.text))
        };
        match (config::prometheus::load_main(&dir.join(name)), verdict) {
            (Ok(_), Verdict::Accepted) => accepted += 1,
            (Err(_), Verdict::Crashed) => excused += 1,
            (Ok(_), Verdict::Crashed) => wrong.push(format!("we accept what they crash at\n{text}")),
            (Ok(_), Verdict::Refused(theirs)) if excuse(&THEY_ALONE_REFUSE, theirs) => excused += 1,
            (Ok(_), Verdict::Refused(theirs)) => wrong.push(format!("we accept: {theirs}\n{text}")),
            (Err(e), Verdict::Accepted) if excuse(&WE_ALONE_REFUSE, &e.to_string()) => excused += 1,
            (Err(e), Verdict::Accepted) => wrong.push(format!("we refuse: {e}\n{text}")),
            (Err(e), Verdict::Refused(theirs)) => {
                refused += 1;
                // Both name the file itself, in a folder or without.
                let file: PathBuf = dir.join(name);
                let ours = e.problems()[0].message.replace(&*file.to_string_lossy(), name);
                if head(&ours) == head(theirs) {
                    same_line += 1;
                } else {
                    other.push(format!("theirs: {theirs}\n  ours: {ours}"));
                }
            }
        }
    }
    say(&format!(
        "{test} with {}: of {count} files {accepted} accepted and {refused} refused by both, {same_line} of these with the \
         same first line; {excused} excused, {} judged otherwise",
        binary.file_name().unwrap().to_string_lossy(),
        wrong.len()
    ));
    if std::env::var_os("MUTATED_SHOW").is_some() {
        say(&other.join("\n"));
    }
    if let Some(path) = std::env::var_os("MUTATED_WRONG") {
        std::fs::write(path, wrong.join("\n=======\n")).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n---\n"));
}
