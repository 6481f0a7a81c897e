//! Rules imported from a server that computes simple answers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use super::{output, text};

/// Answers every range query with a sample of its time in every step, and tells what was asked.
fn server() -> (String, Receiver<BTreeMap<String, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/prefix", listener.local_addr().unwrap());
    let (send, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(form) = stream.ok().and_then(answer) else { continue };
            if send.send(form).is_err() {
                return;
            }
        }
    });
    (url, asked)
}

fn answer(stream: TcpStream) -> Option<BTreeMap<String, String>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let (mut path, mut len) = (String::new(), 0);
    while reader.read_line(&mut line).ok()? > 2 {
        if path.is_empty() {
            path.clone_from(&line);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let mut form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let number = |name: &str| form.get(name)?.parse::<f64>().ok();
    let json = if form["query"].contains("bad") {
        r#"{"status":"error","errorType":"execution","error":"no good"}"#.to_owned()
    } else {
        let (start, end, step) = (number("start")?, number("end")?, number("step")?);
        let mut values = Vec::new();
        let mut t = start;
        while t <= end {
            // Values are whole minutes of the day, so that the answer does not depend on when a group begins.
            values.push(format!("[{t:.3},\"{}\"]", (t / 60.0).floor() % 1440.0));
            t += step;
        }
        let series = |i: i32| {
            format!(
                r#"{{"metric":{{"__name__":"x","i":"{i}","kind":"query"}},"values":[{}]}}"#,
                values.join(",")
            )
        };
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{},{}]}}}}"#,
            series(1),
            series(2)
        )
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(reader.get_mut(), "{head}Content-Length: {}\r\n\r\n{json}", json.len()).ok()?;
    form.insert("path".to_owned(), path.trim().to_owned());
    Some(form)
}

const RULES: &str = "
groups:
  - name: first
    interval: 5m
    rules:
      - {record: job:x:sum, expr: 'sum  by (i) (x)', labels: {kind: rule, more: '1'}}
      - {alert: Left, expr: x > 1}
  - name: second
    rules:
      - {record: y, expr: x}
";

const START: i64 = 1_700_006_400;

fn import(url: &str, rules: &Path, out: &Path, more: &[&str]) -> Result<String, String> {
    let (url, out) = (format!("--url={url}"), format!("--output-dir={}", text(out)));
    let args = ["create-blocks-from", "rules", &url, &out].into_iter().chain(more.iter().copied());
    output(&args.chain([text(rules)]).collect::<Vec<_>>())
}

#[test]
fn rules_become_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (rules, data) = (dir.path().join("rules.yml"), dir.path().join("data"));
    std::fs::write(&rules, RULES).unwrap();
    let (url, asked) = server();
    let (start, end) = (format!("--start={START}"), format!("--end={}", START + 3 * 3600));
    assert_eq!(import(&url, &rules, &data, &[&start, &end, "--eval-interval=10m"]).unwrap(), "");
    let asked: Vec<_> = asked.try_iter().collect();
    assert_eq!(asked.len(), 4, "two rules, two windows of two hours: {asked:?}");
    assert!(asked.iter().all(|form| form["path"] == "POST /prefix/api/v1/query_range HTTP/1.1"));
    let of = |name: &str| asked.iter().map(|form| form[name].as_str()).collect::<Vec<_>>();
    assert_eq!(of("query"), ["sum by (i) (x)", "sum by (i) (x)", "x", "x"]);
    assert_eq!(of("step"), ["300", "300", "600", "600"]);
    let starts: Vec<f64> = of("start").iter().map(|start| start.parse().unwrap()).collect();
    let base = START as f64;
    assert!((base..base + 300.0).contains(&starts[0]) && (base + 7200.0..base + 7500.0).contains(&starts[1]));
    assert!((starts[1] - starts[0]).rem_euclid(300.0) < 1e-3, "one grid: {starts:?}");
    assert_eq!(of("end")[..2], [format!("{}.000", START + 7199), format!("{}.000", START + 10_800)]);

    let dumped = output(&["dump", text(&data)]).unwrap();
    let n = |part: &str| dumped.lines().filter(|line| line.starts_with(part)).count();
    assert_eq!(n("{__name__=\"job:x:sum\", i=\"1\", kind=\"rule\", more=\"1\"} "), 36);
    assert_eq!(n("{__name__=\"y\", i=\"2\", kind=\"query\"} "), 18);
    assert_eq!(dumped.lines().count(), 2 * (36 + 18));
}

#[test]
fn what_fails_is_told_and_the_rest_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let (rules, data) = (dir.path().join("rules.yml"), dir.path().join("data"));
    let (url, _asked) = server();
    let fail = |text: &str, args: &[&str]| {
        std::fs::write(&rules, text).unwrap();
        import(&url, &rules, &data, args).unwrap_err()
    };
    let (start, end) = ("--start=2023-11-15T00:00:00Z", "--end=2023-11-15T01:00:00Z");
    assert_eq!(fail(RULES, &["--start=5", "--end=5"]), "start time is not before end time");
    assert!(fail(RULES, &["--start=x"]).contains("cannot parse \"x\" to a valid timestamp"));
    assert!(fail(RULES, &[]).contains("--start"));
    assert!(fail("groups: 5", &[start, end]).starts_with("rule importer parse error: "));
    assert!(!data.exists());
    let half = RULES.replace("'sum  by (i) (x)'", "bad");
    assert_eq!(fail(&half, &[start, end]), "error importing rules");
    assert!(output(&["dump", text(&data)]).unwrap().lines().all(|line| line.starts_with("{__name__=\"y\"")));
}

/// Beside promtool, one minute apart at most: groups begin where a hash of their name says, which is our own.
#[test]
fn rules_become_the_blocks_of_promtool() {
    let Some(promtool) = super::promtool::promtool("rules_become_the_blocks_of_promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yml");
    std::fs::write(&rules, RULES).unwrap();
    let (url, _asked) = server();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let (start, end) = (format!("--start={START}"), format!("--end={}", START + 5 * 3600));
    import(&url, &rules, &ours, &[&start, &end]).unwrap();
    let run = std::process::Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "rules", &start, &end])
        .args([format!("--url={url}"), format!("--output-dir={}", text(&theirs))])
        .arg(&rules)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Series and, give or take the one at an end, as many samples in the same blocks. Windows end at whole seconds, so that
    // a group whose slots fall into the last second of its interval, as follows from its path, lacks one at the ends of two.
    let samples = |dir: &Path| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for line in output(&["dump", text(dir)]).unwrap().lines() {
            let t: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            let interval_ms = if line.contains("\"job:x:sum\"") { 300_000 } else { 60_000 };
            let n_lacking = if t.rem_euclid(interval_ms) > interval_ms - 1_000 { 2 } else { 0 };
            *counts.entry(line[..line.find('}').unwrap()].to_owned()).or_insert(n_lacking) += 1;
        }
        counts
    };
    let (a, b) = (samples(&ours), samples(&theirs));
    assert_eq!(a.keys().filter(|key| !key.contains("Left")).count(), 4);
    for (series, n) in a {
        assert!(n.abs_diff(b[&series]) <= 1, "{series}: {n} and {}", b[&series]);
    }
    let n_blocks = |dir: &Path| output(&["list", text(dir)]).unwrap().lines().count();
    assert!(n_blocks(&theirs) >= n_blocks(&ours));
}
