use std::path::Path;

use clap::CommandFactory;

use super::*;

mod histograms;
mod promtool;
mod rules;

/// Runs a command as `main` would and returns what it prints.
fn output(args: &[&str]) -> Result<String, String> {
    let args = ["tsdb"].iter().chain(args).map(OsString::from);
    let parsed = Tsdb::try_parse_from(args).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    execute(parsed.command, &mut out).map_err(|e| format!("{e:#}"))?;
    Ok(String::from_utf8(out).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_flags_are_sound() {
    Tsdb::command().debug_assert();
}

#[test]
fn what_goes_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let (input, data) = (dir.path().join("in.om"), dir.path().join("data"));
    let lines = "\
up{job=\"a\"} 1 1700000000.000
up{job=\"a\"} 0 1700000015.000
up{job=\"a\"} 1e+06 1700009000.000
up{job=\"b<\"} -0.25 1700000000.500
# EOF
";
    std::fs::write(&input, lines).unwrap();
    let made = output(&["create-blocks-from", "openmetrics", text(&input), text(&data)]).unwrap();
    let rows: Vec<Vec<&str>> = made.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0].join(" "),
        "BLOCK ULID MIN TIME MAX TIME DURATION NUM SAMPLES NUM CHUNKS NUM SERIES SIZE"
    );
    assert_eq!(rows[1][1..7], ["1700000000000", "1700000015001", "15.001s", "3", "2", "2"]);
    assert_eq!(rows[2][1..7], ["1700009000000", "1700009000001", "1ms", "1", "1", "1"]);
    assert_eq!(output(&["dump-openmetrics", text(&data)]).unwrap(), lines);
    let listed = output(&["list", "-r", text(&data)]).unwrap();
    assert!(
        listed.contains("2023-11-14 22:13:20 +0000 UTC  2023-11-14 22:13:35 +0000 UTC  15.001s  "),
        "{listed}"
    );
    let dumped = output(&["dump", "--max-time=1700000000400", "--match={job!='b'}", text(&data)]).unwrap();
    assert_eq!(dumped, "{__name__=\"up\", job=\"a\"} 1 1700000000000\n");
    let both =
        output(&["dump", "--format=seriesjson", "--match=up", "--match={job=~'b.'}", text(&data)]).unwrap();
    assert_eq!(both, "{\"__name__\":\"up\",\"job\":\"a\"}\n{\"__name__\":\"up\",\"job\":\"b\\u003c\"}\n");
    // One more label, no output, one block for all.
    let more = dir.path().join("more");
    let args = ["create-blocks-from", "--max-block-duration=18h", "openmetrics", "-q", "--label=x=y"];
    let args: Vec<&str> = args.into_iter().chain([text(&input), text(&more)]).collect();
    assert_eq!(output(&args).unwrap(), "");
    assert_eq!(output(&["list", text(&more)]).unwrap().lines().count(), 2);
    let dumped = output(&["dump", text(&more)]).unwrap();
    assert!(dumped.starts_with("{__name__=\"up\", job=\"a\", x=\"y\"} 1 1700000000000\n"), "{dumped}");
}

#[test]
fn bad_input_is_told_and_leaves_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let (input, data) = (dir.path().join("in.om"), dir.path().join("data"));
    let import = |lines: &str| {
        std::fs::write(&input, lines).unwrap();
        let made = output(&["create-blocks-from", "openmetrics", text(&input), text(&data)]);
        assert!(made.is_ok() || std::fs::read_dir(&data).unwrap().next().is_none());
        made.unwrap_err()
    };
    assert_eq!(
        import("up 1\n# EOF\n"),
        "getting min and max timestamp: expected timestamp for series got none"
    );
    assert_eq!(import("up 1 5\n"), "getting min and max timestamp: next: data does not end with # EOF");
    let many = (0..5000).map(|i| format!("up{{i=\"{i}\"}} 1 50\n")).collect::<Vec<_>>().concat();
    assert_eq!(
        import(&format!("{many}up{{i=\"3\"}} 1 40\n# EOF\n")),
        "block creation: process blocks: add sample: out of order sample"
    );
    assert_eq!(
        import(&format!("{many}up{{i=\"3\"}} 2 50\n# EOF\n")),
        "block creation: process blocks: add sample: duplicate sample for timestamp 50000; overrides not allowed: existing 1, new value 2"
    );
    assert!(
        output(&["dump", text(&dir.path().join("none"))]).unwrap_err().starts_with("opening the db dir: ")
    );
    assert_eq!(output(&["analyze", text(dir.path())]).unwrap_err(), "no blocks found");
    assert_eq!(output(&["analyze", text(dir.path()), "x"]).unwrap_err(), "invalid block ID x");
}

#[test]
fn spans_are_written_as_go_does() {
    let cases = [
        (0, "0s"),
        (1, "1ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (60_001, "1m0.001s"),
        (7_200_000, "2h0m0s"),
        (-90_000, "-1m30s"),
        (130_000_000, "36h6m40s"),
    ];
    for (ms, expected) in cases {
        assert_eq!(output::duration(ms), expected);
    }
}
