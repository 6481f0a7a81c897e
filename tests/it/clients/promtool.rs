//! promtool as a client: the same commands against every server, which must have the same output.

use std::process::Command;

use serde_json::Value;

use super::{Finding, Outcome};
use crate::process::{Home, skipped};

/// A command: its name, and its arguments with `URL`, `FROM` and `TO` to be put in.
const COMMANDS: &[(&str, &[&str])] = &[
    ("query instant", &["query", "instant", "--time=FROM", "URL", "sum by (code) (http_requests_total)"]),
    ("query instant of odd values", &["query", "instant", "--time=FROM", "URL", "room_celsius"]),
    (
        "query instant as JSON",
        &["query", "instant", "-o", "json", "--time=FROM", "URL", "rpc_duration_seconds"],
    ),
    ("query instant of a scalar", &["query", "instant", "--time=FROM", "URL", "time()"]),
    ("query instant of a wrong query", &["query", "instant", "--time=FROM", "URL", "rate(up)"]),
    (
        "query instant that fails",
        &["query", "instant", "--time=FROM", "URL", "label_replace(up, \"9 x\", \"\", \"\", \"\")"],
    ),
    (
        "query range",
        &["query", "range", "--start=FROM", "--end=TO", "--step=60s", "URL", "rate(http_requests_total[1m])"],
    ),
    (
        "query range of histograms",
        &[
            "query",
            "range",
            "--start=FROM",
            "--end=TO",
            "--step=60s",
            "URL",
            "rate(rpc_duration_seconds[1m])",
        ],
    ),
    (
        "query series",
        &[
            "query",
            "series",
            "--match=queue_length",
            "--match=room_celsius",
            "--start=FROM",
            "--end=TO",
            "URL",
        ],
    ),
    ("query labels", &["query", "labels", "--start=FROM", "--end=TO", "URL", "room"]),
    (
        "query labels of a match",
        &["query", "labels", "--start=FROM", "--end=TO", "--match=queue_length", "URL", "instance"],
    ),
    (
        "query analyze",
        &[
            "query",
            "analyze",
            "--server=URL",
            "--type=histogram",
            "--match=rpc_duration_seconds",
            "--match=request_duration_seconds_bucket",
            "--duration=30m",
            "--time=FROM",
        ],
    ),
    ("debug metrics", &["debug", "metrics", "URL"]),
    ("push metrics", &["push", "metrics", "--label=job=pushed", "URL/api/v1/write", "metrics.prom"]),
];

/// What is pushed.
const METRICS: &str = "# TYPE pushed_requests counter\npushed_requests{code=\"200\"} 7\n# TYPE pushed_level gauge\npushed_level 0.5\n";

#[derive(Clone)]
struct Output {
    code: Option<i32>,
    out: String,
    error: String,
}

fn run(program: &str, home: &Home, arguments: &[&str], url: &str, from: i64) -> Output {
    let arguments = arguments.iter().map(|argument| {
        let argument = argument.replace("URL", url).replace("FROM", &from.to_string());
        argument.replace("TO", &(from + 600).to_string())
    });
    let output = Command::new(program).args(arguments).current_dir(home.path("")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(url, "URL");
    Output { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
}

pub(super) fn findings(test: &str, settings: &Value) -> Vec<Finding> {
    let Some(program) = settings["promtool"].as_str() else {
        skipped(&format!("{test}, promtool"), "no promtool among the peers (`make peers` brings it)");
        return Vec::new();
    };
    let home = Home::new("");
    home.write("metrics.prom", METRICS);
    let from = settings["begin"].as_i64().unwrap() + 1800;
    let mut findings = Vec::new();
    for (name, arguments) in COMMANDS {
        let mut expected: Option<Output> = None;
        for server in settings["servers"].as_array().unwrap() {
            for place in ["plain", "prefixed"] {
                let url = server[place].as_str().unwrap();
                let mut output = run(program, &home, arguments, url, from);
                // The order of series is nobody's.
                let mut lines: Vec<_> = output.out.lines().collect();
                if name.starts_with("query series") || name.starts_with("query analyze") {
                    lines.sort_unstable();
                }
                output.out = lines.join("\n");
                let first = expected.get_or_insert(output.clone());
                let is_equal =
                    first.code == output.code && first.out == output.out && first.error == output.error;
                let why = if is_equal {
                    String::new()
                } else {
                    format!(
                        "{:?} instead of {:?}\n{}{}\ninstead of\n{}{}",
                        output.code, first.code, output.out, output.error, first.out, first.error
                    )
                };
                findings.push(Finding {
                    check: format!("promtool {name}"),
                    server: server["name"].as_str().unwrap().to_owned(),
                    at: url.to_owned(),
                    outcome: if is_equal { Outcome::Pass } else { Outcome::Fail },
                    why,
                });
            }
        }
    }
    findings
}
