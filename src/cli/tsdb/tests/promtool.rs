//! Every command beside promtool's, on the same directories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::storage::{Appendable as _, SeriesKey};
use model::{Labels, MatchOp, Matcher, STALE_NAN, TimeRange};
use tsdb::db::{Db, Options};
use tsdb::head::ReplayProgress;

use super::{output, text};

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000 / (18 * HOUR) * (18 * HOUR);

/// promtool, or a loud word that the calling test is skipped.
pub(super) fn promtool(test: &str) -> Option<PathBuf> {
    use std::io::Write as _;
    let root = std::env::var_os("FERULA_PEERS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers"),
        PathBuf::from,
    );
    let path = root.join("bin/promtool");
    if path.exists() {
        return Some(path);
    }
    // Not `println!`: nobody sees what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {} is not there (set FERULA_PEERS)", path.display());
    None
}

fn theirs(promtool: &Path, args: &[&str]) -> Result<String, String> {
    let run = Command::new(promtool).arg("tsdb").args(args).output().unwrap();
    let (out, error) = (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
    if run.status.success() { Ok(out) } else { Err(error) }
}

/// Values that are hard to print.
fn values() -> impl Iterator<Item = f64> {
    [
        0.0,
        -0.0,
        1.0,
        -1.5,
        1e6,
        1e-5,
        123_456_789.0,
        1e21,
        1e20,
        0.1,
        1.0 / 3.0,
        5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        STALE_NAN,
        100_000.0,
        1_000_000.5,
        2.5e-7,
    ]
    .into_iter()
    .cycle()
}

fn series() -> Vec<Labels> {
    let odd =
        ["a\"b", "back\\slash", "new\nline", "tab\t", "ümlaut", "€", "<&>", "\u{2028}", "日本", "\u{7f}"];
    let mut all = Vec::new();
    for (i, value) in odd.into_iter().enumerate() {
        let n = i.to_string();
        all.push(Labels::from_pairs([("__name__", "odd_total"), ("n", &n), ("v", value)]));
        all.push(Labels::from_pairs([("__name__", "even"), ("n", &n), ("a", "1")]));
    }
    all
}

/// Two blocks, hours in the log and in head chunks, and deletions in both.
fn fill(dir: &Path) {
    let db = Db::open(dir, &Options::default(), &ReplayProgress::default()).unwrap();
    let all = series();
    let mut values = values();
    for hour in 0..7 {
        for t in (START + hour * HOUR..START + (hour + 1) * HOUR).step_by(30_000) {
            let mut appender = db.appender(0);
            for (i, labels) in all.iter().enumerate() {
                // Some come and go.
                if i % 3 != 2 || (t / HOUR) % 2 == 0 {
                    appender.append(SeriesKey::Labels(labels), t, values.next().unwrap()).unwrap();
                }
            }
            appender.commit().unwrap();
        }
        db.maintain(START + hour * HOUR).unwrap();
    }
    let matcher = Matcher::new(MatchOp::Re, "n", "[36]").unwrap();
    db.delete(TimeRange::new(START + HOUR + 7, START + 6 * HOUR), &[matcher]).unwrap();
    let whole = Matcher::new(MatchOp::Eq, "n", "7").unwrap();
    db.delete(TimeRange::ALL, &[whole]).unwrap();
    assert_eq!(db.blocks().len(), 2);
    db.close().unwrap();
}

#[track_caller]
fn check(promtool: &Path, dir: &Path, args: &[&str]) {
    let args: Vec<&str> = args.iter().copied().chain([text(dir)]).collect();
    let (ours, theirs) = (output(&args).unwrap(), theirs(promtool, &args).unwrap());
    assert!(!theirs.is_empty(), "{args:?} prints nothing");
    for (n, (a, b)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(a, b, "{args:?}: line {n}");
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{args:?}");
}

#[test]
fn dumps_and_lists_are_those_of_promtool() {
    let Some(promtool) = promtool("dumps_and_lists_are_those_of_promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let at = |hour: i64| (START + hour * HOUR).to_string();
    check(&promtool, dir.path(), &["dump"]);
    check(&promtool, dir.path(), &["dump-openmetrics"]);
    check(&promtool, dir.path(), &["list"]);
    check(&promtool, dir.path(), &["list", "-r"]);
    check(&promtool, dir.path(), &["list", "--human-readable"]);
    for (from, to) in [(0, 1), (1, 3), (3, 6), (5, 6), (6, 9)] {
        let (from, to) = (format!("--min-time={}", at(from)), format!("--max-time={}", at(to)));
        check(&promtool, dir.path(), &["dump", &from, &to]);
        check(&promtool, dir.path(), &["dump-openmetrics", &from, &to, "--match=odd_total"]);
        check(&promtool, dir.path(), &["dump", &from, &to, "--match=even", "--match={n=~'[1-4]'}"]);
    }
    let sandbox = tempfile::tempdir().unwrap();
    let root = format!("--sandbox-dir-root={}", text(sandbox.path()));
    check(&promtool, dir.path(), &["dump", &root, "--match={n='1'}"]);
    for args in [["dump", "--match={"], ["dump", "--match="]] {
        let args: Vec<&str> = args.into_iter().chain([text(dir.path())]).collect();
        let (ours, theirs) = (output(&args).unwrap_err(), theirs(&promtool, &args).unwrap_err());
        assert_eq!(ours, theirs.trim_end());
    }
}

/// The title of each list with its lines, which promtool puts in no order where numbers are equal.
fn lists(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (lists_text, chunks) = text.split_once("\nCompaction analysis:").unwrap_or((text, ""));
    for part in lists_text.split("\n\n") {
        let mut lines: Vec<String> = part.lines().map(str::to_owned).collect();
        let title = lines.remove(0);
        let numbers: Vec<u64> =
            lines.iter().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
        assert!(numbers.is_sorted_by(|a, b| a >= b) || title.starts_with("Block"), "{title}: {lines:?}");
        if !title.starts_with("Block") {
            lines.sort_unstable();
        }
        lists.insert(title, lines);
    }
    lists.insert("chunks".to_owned(), chunks.lines().map(str::to_owned).collect());
    lists
}

#[test]
fn analyses_are_those_of_promtool() {
    let Some(promtool) = promtool("analyses_are_those_of_promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let db = Db::open(dir.path(), &Options::default(), &ReplayProgress::default()).unwrap();
    let first = db.blocks()[0].ulid.to_string();
    db.close().unwrap();
    for (flags, block) in [
        (&[][..], ""),
        (&["--extended"], ""),
        (&["--extended", "--match={n=~'[123]', v!=''}"], first.as_str()),
        (&["--match=even"], first.as_str()),
    ] {
        let mut args = vec!["analyze", "--limit=10000"];
        args.extend(flags);
        args.push(text(dir.path()));
        args.extend(Some(block).filter(|block| !block.is_empty()));
        let (ours, theirs) = (output(&args).unwrap(), theirs(&promtool, &args).unwrap());
        assert_eq!(lists(&ours), lists(&theirs), "{args:?}");
        assert!(!lists(&ours).is_empty());
    }
    let n = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain([text(dir.path())]).collect();
        (output(&args).unwrap().lines().count(), theirs(&promtool, &args).unwrap().lines().count())
    };
    for limit in ["--limit=0", "--limit=1", "--limit=3"] {
        let (ours, theirs) = n(&["analyze", limit]);
        assert_eq!(ours, theirs, "{limit}");
    }
}

/// Lines of all kinds over some days, out of order within a few lines.
fn open_metrics() -> String {
    let mut input = String::new();
    let mut values = values();
    input.push_str("# HELP odd Some help.\n# TYPE odd counter\n");
    for step in 0..900_i64 {
        for labels in series().iter().take(8) {
            // Every fifth line changes places with the one before.
            let t = START + step * 60_000 + if step % 5 == 0 { 60_000 } else { 0 }
                - i64::from(step % 5 == 1) * 60_000;
            let mut text = labels.metric_name().to_vec();
            let mut pairs = Vec::new();
            for (name, value) in labels.iter().skip(1) {
                let value = String::from_utf8(value.to_vec()).unwrap();
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                pairs.push(format!("{}=\"{value}\"", std::str::from_utf8(name).unwrap()));
            }
            text.extend(format!("{{{}}}", pairs.join(",")).bytes());
            let value = model::number::format_g(values.next().unwrap());
            let name = String::from_utf8(text).unwrap();
            writeln!(input, "{name} {value} {}.{:03}", t / 1000, t % 1000).unwrap();
        }
        if step % 100 == 0 {
            writeln!(input, "late{{step=\"{step}\"}} {step} {}", START / 1000 + 400_000).unwrap();
        }
    }
    input.push_str("# EOF\n");
    input
}

/// What every block of a directory holds that does not depend on when it was made, by its start.
fn blocks(dir: &Path) -> BTreeMap<i64, (i64, serde_json::Value, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(meta) = std::fs::read(path.join("meta.json")) else { continue };
        let mut meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
        // Not every release writes it.
        meta["stats"].as_object_mut().unwrap().remove("numFloatSamples");
        let chunks = std::fs::read(path.join("chunks/000001")).unwrap();
        let maxt = meta["maxTime"].as_i64().unwrap();
        assert_eq!(meta["compaction"]["level"], 1);
        found.insert(meta["minTime"].as_i64().unwrap(), (maxt, meta["stats"].clone(), chunks));
    }
    found
}

#[test]
fn blocks_made_of_open_metrics_are_those_of_promtool() {
    let Some(promtool) = promtool("blocks_made_of_open_metrics_are_those_of_promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.om");
    std::fs::write(&input, open_metrics()).unwrap();
    for (i, flags) in [
        &["create-blocks-from", "openmetrics"][..],
        &["create-blocks-from", "--max-block-duration=7h", "openmetrics", "-r", "--label=x=y", "--label=a=z"],
        &["create-blocks-from", "openmetrics", "--max-block-duration=10000h", "--quiet"],
    ]
    .into_iter()
    .enumerate()
    {
        let (a, b) = (dir.path().join(format!("ours-{i}")), dir.path().join(format!("theirs-{i}")));
        let with = |out| -> Vec<String> {
            flags
                .iter()
                .map(|flag| (*flag).to_owned())
                .chain([text(&input).to_owned(), text(out).to_owned()])
                .collect()
        };
        let strs = |args: &'_ [String]| -> Vec<String> { args.to_vec() };
        let run = |args: Vec<String>, ours: bool| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            if ours { output(&args).unwrap() } else { theirs(&promtool, &args).unwrap() }
        };
        let (ours, theirs) = (run(strs(&with(&a)), true), run(strs(&with(&b)), false));
        // Ids and the sizes of indexes differ; that release still writes sections of label values.
        let columns = |text: &str| -> Vec<Vec<String>> {
            let rows = text.lines().map(|line| line.split("  ").filter(|cell| !cell.is_empty()));
            rows.map(|row| row.skip(1).take(6).map(|cell| cell.trim().to_owned()).collect()).collect()
        };
        assert_eq!(columns(&ours), columns(&theirs), "{flags:?}");
        assert_eq!(ours.is_empty(), flags.contains(&"--quiet"));
        let (ours, theirs) = (blocks(&a), blocks(&b));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{flags:?}");
        assert!(!ours.is_empty());
        for (mint, block) in &ours {
            let theirs = &theirs[mint];
            assert_eq!((block.0, &block.1), (theirs.0, &theirs.1), "{flags:?}: the block at {mint}");
            let differs = block.2.iter().zip(&theirs.2).position(|(a, b)| a != b);
            assert_eq!((differs, block.2.len()), (None, theirs.2.len()), "{flags:?}: the chunks at {mint}");
        }
        assert_eq!(output(&["dump", text(&b)]).unwrap(), output(&["dump", text(&a)]).unwrap());
    }
}

#[test]
fn input_that_promtool_refuses_is_refused() {
    let Some(promtool) = promtool("input_that_promtool_refuses_is_refused") else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.om");
    let many = (0..5000).map(|i| format!("up{{i=\"{i}\"}} 1 50\n")).collect::<Vec<_>>().concat();
    for lines in [
        "up 1\n# EOF\n".to_owned(),
        "up 1 5\n".to_owned(),
        "up x 5\n# EOF\n".to_owned(),
        "\n# EOF\n".to_owned(),
        "up{ 1 5\n# EOF\n".to_owned(),
        "up 1 5\n# EOF\nup 2 6\n".to_owned(),
        format!("{many}up{{i=\"3\"}} 1 40\n# EOF\n"),
        format!("{many}up{{i=\"3\"}} 2 50\n# EOF\n"),
    ] {
        std::fs::write(&input, &lines).unwrap();
        let (a, b) = (dir.path().join("ours"), dir.path().join("theirs"));
        let ours = output(&["create-blocks-from", "openmetrics", text(&input), text(&a)]).unwrap_err();
        let theirs =
            theirs(&promtool, &["create-blocks-from", "openmetrics", text(&input), text(&b)]).unwrap_err();
        assert_eq!(ours, theirs.trim_end(), "{}", &lines[lines.len().saturating_sub(60)..]);
    }
    std::fs::write(&input, "# EOF\n").unwrap();
    for (out, is_ours) in [("ours", true), ("theirs", false)] {
        let out = dir.path().join(out);
        let args = ["create-blocks-from", "openmetrics", text(&input), text(&out)];
        let printed = if is_ours { output(&args) } else { theirs(&promtool, &args) };
        assert_eq!(printed.unwrap(), "", "nothing to import is nothing wrong");
    }
}
