use std::fmt::Write;
use std::io::Write as _;
use std::path::PathBuf;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::golden::{quote, unquote};
use crate::labels::Labels;

/// All that a parser says about a body, a line per entry.
fn dump(body: &[u8], format: Format) -> String {
    dump_with(body, format, Parser::next)
}

/// The same by the lexer alone, without the fast lane.
fn dump_by_token(body: &[u8], format: Format) -> String {
    dump_with(body, format, |parser| {
        if parser.is_done {
            return None;
        }
        let entry = parser.next_by_token().transpose();
        parser.is_done = !matches!(entry, Some(Ok(_)));
        entry
    })
}

/// The same when every line was seen before.
fn dump_known(body: &[u8], format: Format) -> String {
    dump_with(body, format, |parser| {
        if let Some(Ok(Entry::Series(seen))) = parser.clone().next() {
            // A guess that is wrong changes nothing.
            assert!(parser.next_known(seen.raw.len(), |_, _| false).is_none());
            let known = parser.next_known(seen.raw.len(), |raw, _| raw == seen.raw);
            if let Some(line) = known {
                return Some(Ok(Entry::Series(line)));
            }
        }
        parser.next()
    })
}

fn dump_with<'a>(
    body: &'a [u8],
    format: Format,
    mut next: impl FnMut(&mut Parser<'a>) -> Option<Result<Entry<'a>, ParseError>>,
) -> String {
    let mut out = String::new();
    let mut parser = Parser::new(body, format);
    let mut labels = LabelsBuilder::default();
    while let Some(entry) = next(&mut parser) {
        match entry {
            Ok(Entry::Series(line)) => {
                let t = line.t.map_or("-".to_owned(), |t| t.to_string());
                let set = match parser.labels_into(&line, &mut labels) {
                    Ok(()) => labels.build().to_string(),
                    Err(e) => e.to_string(),
                };
                let (raw, set) = (quote(line.raw), quote(set.as_bytes()));
                assert!(body[line.offset..].starts_with(line.raw));
                writeln!(out, " S {raw} {t} {:x} {set}", line.v.to_bits())
            }
            Ok(Entry::Type { family, kind }) => writeln!(out, " T {} {kind}", quote(family)),
            Ok(Entry::Help { family, text }) => writeln!(out, " H {} {}", quote(family), quote(&text)),
            Ok(Entry::Unit { family, unit }) => writeln!(out, " U {} {}", quote(family), quote(unit)),
            Err(e) => writeln!(out, " E {}", quote(e.to_string().as_bytes())),
        }
        .unwrap();
    }
    assert!(parser.next().is_none(), "a parser that is done stays so");
    out
}

/// Both lanes say the same; what they say.
#[track_caller]
fn dump_agreed(body: &[u8], format: Format, name: &str) -> String {
    assert_eq!(dump_known(body, format), dump(body, format), "{name}");
    let out = dump(body, format);
    assert!(out == dump_by_token(body, format), "the lanes disagree about {name}");
    out
}

/// The file was made from our own bodies and mutations of them by a program around upstream's parsers:
/// `T` or `O` and a body, then a line per entry.
#[test]
fn says_what_upstream_says_about_our_corpus() {
    let golden = include_str!("../../../testdata/exposition.golden");
    let (mut cases, mut lines) = (0, golden.lines().peekable());
    let mut failures = String::new();
    while let Some(case) = lines.next() {
        let (format, body) = case.split_once(' ').unwrap();
        let format = if format == "T" { Format::Text } else { Format::OpenMetrics };
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|l| l.starts_with(' ')) {
            expected.push_str(line);
            expected.push('\n');
        }
        let got = dump(&unquote(body), format);
        if got != expected {
            writeln!(failures, "{case}\n expected\n{expected} got\n{got}").unwrap();
        }
        cases += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(cases > 900, "only {cases} cases");
}

/// A line per sample of a body: series, start time, and the exemplar if there is one.
fn dump_extras(body: &[u8]) -> String {
    let mut out = String::new();
    let mut parser = Parser::new(body, Format::OpenMetrics).with_start_times();
    while let Some(entry) = parser.next() {
        let Entry::Series(line) = entry.expect("the body is valid") else { continue };
        write!(out, " {} {}", quote(line.raw), parser.start_time(&line)).unwrap();
        // Asked for behind the look ahead, which must not touch it.
        if let Some(exemplar) = parser.exemplar(&line) {
            let t = exemplar.t.map_or("-".to_owned(), |t| t.to_string());
            let labels = quote(exemplar.labels().to_string().as_bytes());
            write!(out, " {labels} {t} {:x}", exemplar.v.to_bits()).unwrap();
        }
        out.push('\n');
    }
    out
}

/// The file says what made it.
#[test]
fn exemplars_and_start_times_are_those_of_upstream() {
    let golden = include_str!("../../../testdata/openmetrics_extras.golden");
    let mut lines = golden.lines().skip_while(|line| !line.starts_with('"')).peekable();
    let (mut starts, mut exemplars) = (0, 0);
    while let Some(body) = lines.next() {
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            starts += usize::from(!line.ends_with(" 0"));
            exemplars += usize::from(line.contains(" \"{"));
            expected.push_str(line);
            expected.push('\n');
        }
        assert_eq!(dump_extras(&unquote(body)), expected, "{body}");
    }
    assert!(starts > 100 && exemplars > 50, "{starts} start times, {exemplars} exemplars");
}

#[test]
fn a_line_without_an_exemplar_does_not_get_the_one_before() {
    let body = b"a 1 # {x=\"1\"} 2\nb 1\n# EOF\n";
    let mut parser = Parser::new(body, Format::OpenMetrics);
    let seen: Vec<bool> = std::iter::from_fn(|| {
        let Some(Ok(Entry::Series(line))) = parser.next() else { return None };
        Some(parser.exemplar(&line).is_some())
    })
    .collect();
    assert_eq!(seen, [true, false]);
}

#[test]
fn created_lines_are_series_unless_start_times_are_asked_for() {
    let body = b"# TYPE a counter\na_total 1\na_created 5\n# EOF\n";
    let series = |mut parser: Parser<'_>| {
        let mut n = 0;
        while let Some(Ok(entry)) = parser.next() {
            n += usize::from(matches!(entry, Entry::Series(line) if parser.start_time(&line) >= 0));
        }
        n
    };
    assert_eq!(series(Parser::new(body, Format::OpenMetrics)), 2);
    assert_eq!(series(Parser::new(body, Format::OpenMetrics).with_start_times()), 1);
    // The text format has none.
    assert_eq!(series(Parser::new(b"# TYPE a counter\na_created 5\n", Format::Text).with_start_times()), 1);
}

#[test]
fn a_created_line_that_was_a_series_before_is_none_now() {
    let mut parser =
        Parser::new(b"# TYPE a counter\na_created 5\n# EOF\n", Format::OpenMetrics).with_start_times();
    assert!(matches!(parser.next(), Some(Ok(Entry::Type { .. }))));
    assert!(parser.next_known(b"a_created".len(), |_, _| true).is_none());
    assert!(parser.next().is_none());
}

#[test]
fn a_label_with_an_empty_value_takes_its_other_values_with_it() {
    let labels = |body: &str| {
        let mut parser = Parser::new(body.as_bytes(), Format::Text);
        let Some(Ok(Entry::Series(line))) = parser.next() else { panic!("{body} has no series") };
        let mut labels = LabelsBuilder::default();
        parser.labels_into(&line, &mut labels).map(|()| labels.build().to_string()).map_err(|e| e.to_string())
    };
    let plain = labels("a{c=\"x\"} 1\n");
    for body in ["a{b=\"\",b=\"x\",c=\"x\"} 1\n", "a{b=\"x\",c=\"x\",b=\"\"} 1\n"] {
        assert_eq!(labels(body), plain);
    }
    assert!(labels("a{b=\"x\",b=\"x\"} 1\n").unwrap_err().contains("label name \"b\" is not unique"));
}

/// A body in which upstream looks ahead to the end for every line, which takes it minutes.
#[test]
fn start_times_of_a_large_family_without_any_cost_one_look() {
    let lines = (0..200_000).fold(String::new(), |body, i| body + &format!("a_total{{i=\"{i}\"}} 1\n"));
    let body = format!("# TYPE a counter\n{lines}# TYPE b counter\nb_total 1\nb_created 7\n# EOF\n");
    let mut parser = Parser::new(body.as_bytes(), Format::OpenMetrics).with_start_times();
    let mut starts = 0;
    while let Some(entry) = parser.next() {
        if let Entry::Series(line) = entry.unwrap() {
            starts += parser.start_time(&line);
        }
    }
    assert_eq!(starts, 7000);
}

#[test]
fn an_exemplar_that_is_not_valid_ends_the_look_ahead_and_the_body() {
    let body = b"# TYPE a counter\na_total 1\na_total{b=\"c\"} 2 # {x=y} 1\na_created 5\n# EOF\n";
    let mut parser = Parser::new(body, Format::OpenMetrics).with_start_times();
    assert!(matches!(parser.next(), Some(Ok(Entry::Type { .. }))));
    let Some(Ok(Entry::Series(line))) = parser.next() else { panic!("no series") };
    assert_eq!(parser.start_time(&line), 0);
    assert!(matches!(parser.next(), Some(Err(_))));
    assert!(parser.next().is_none());
}

#[test]
fn walks_a_body() {
    let body = br#"# HELP http_requests_total Requests\nserved.
# TYPE http_requests_total counter
http_requests_total{method="post",path="C:\\a \"b\"}#"} 1027 1395066363000
http_requests_total{ method = "get" , } 3.5

# TYPE latency histogram
latency_bucket{le="1"} 4e+02
latency_bucket{le="+Inf"} NaN
{"my.metric",l="v"} -Inf"#;
    let said = dump(body, Format::Text).replace("\n ", "\n");
    expect![[r#"
         H "http_requests_total" "Requests\nserved."
         T "http_requests_total" counter
         S "http_requests_total{method=\"post\",path=\"C:\\\\a \\\"b\\\"}#\"}" 1395066363000 40900c0000000000 "{__name__=\"http_requests_total\", method=\"post\", path=\"C:\\\\a \\\"b\\\"}#\"}"
         S "http_requests_total{ method = \"get\" , }" - 400c000000000000 "{__name__=\"http_requests_total\", method=\"get\"}"
         T "latency" histogram
         S "latency_bucket{le=\"1\"}" - 4079000000000000 "{__name__=\"latency_bucket\", le=\"1.0\"}"
         S "latency_bucket{le=\"+Inf\"}" - 7ff8000000000001 "{__name__=\"latency_bucket\", le=\"+Inf\"}"
         S "{\"my.metric\",l=\"v\"}" - fff0000000000000 "{__name__=\"my.metric\", l=\"v\"}"
    "#]]
    .assert_eq(said.trim_start());
}

#[test]
fn an_error_says_where() {
    let mut parser = Parser::new(b"ok 1\nbad{a=b} 1\n", Format::Text);
    assert!(matches!(parser.next(), Some(Ok(Entry::Series(_)))));
    let error = parser.next().expect("the second line").expect_err("is not valid");
    assert_eq!(error.offset, 11);
    assert_eq!(error.to_string(), r#"expected label value, got "b" ("INVALID") while parsing: "bad{a=b""#);
    assert!(parser.next().is_none());
}

/// A file or folder of the reference projects' data, or a loud word and `None` where it is not there.
fn upstream(path: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_UPSTREAM").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/upstream")),
        PathBuf::from,
    );
    let path = root.join(path);
    if !path.exists() {
        // Not `println!`: nobody sees what a passing test prints.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: {} is not there (set FERULA_UPSTREAM)",
            path.display()
        );
        return None;
    }
    Some(path)
}

/// Counts entries; fails on an error.
fn count(body: &[u8], format: Format) -> (usize, usize) {
    let (mut series, mut meta) = (0, 0);
    let mut parser = Parser::new(body, format);
    let mut labels = LabelsBuilder::default();
    while let Some(entry) = parser.next() {
        match entry.expect("the body is valid") {
            Entry::Series(line) => {
                parser.labels_into(&line, &mut labels).expect("the labels are valid");
                series += 1;
            }
            _ => meta += 1,
        }
    }
    (series, meta)
}

#[test]
fn reads_the_bodies_of_upstream() {
    let Some(folder) = upstream("textparse", "reads_the_bodies_of_upstream") else { return };
    for (file, format) in [
        ("alltypes.237mfs.prom.txt", Format::Text),
        ("alltypes.237mfs.nometa.prom.txt", Format::Text),
        ("alltypes.5mfs.om.txt", Format::OpenMetrics),
        ("1histogram.om.txt", Format::OpenMetrics),
    ] {
        let body = std::fs::read(folder.join(file)).unwrap();
        let text = String::from_utf8_lossy(&body);
        let expected = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).count();
        let meta =
            text.lines().filter(|l| ["# HELP ", "# TYPE ", "# UNIT "].iter().any(|p| l.starts_with(p)));
        assert_eq!(count(&body, format), (expected, meta.count()), "{file}");
        dump_agreed(&body, format, file);
    }
}

/// The OpenMetrics suite asks for more than upstream's parser checks (names that clash, values of
/// counters, the order of families), so of the bodies to refuse only those count that upstream refuses.
#[test]
fn accepts_what_openmetrics_accepts() {
    let Some(folder) = upstream("openmetrics/parsers", "accepts_what_openmetrics_accepts") else { return };
    let (mut accepted, mut refused, mut lenient) = (0, 0, Vec::new());
    for case in std::fs::read_dir(folder).unwrap() {
        let case = case.unwrap().path();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let body = std::fs::read(case.join("metrics")).unwrap();
        let should_parse =
            std::fs::read_to_string(case.join("test.json")).unwrap().contains("\"shouldParse\": true");
        let said = dump_agreed(&body, Format::OpenMetrics, &name);
        let is_valid = !said.lines().any(|l| l.starts_with(" E ") || l.contains("is not unique"));
        match (should_parse, is_valid) {
            (true, true) => accepted += 1,
            (false, false) => refused += 1,
            (false, true) => lenient.push(name),
            (true, false) => panic!("{name} is refused: {said}"),
        }
    }
    lenient.sort_unstable();
    // Each with the reason why upstream takes it.
    let departures = include_str!("../../../testdata/openmetrics_suite.txt");
    let departures: Vec<(&str, &str)> =
        departures.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once(": ")).collect();
    println!("{accepted} accepted, {refused} refused, {} let pass as Prometheus does:", lenient.len());
    for (name, why) in &departures {
        println!("  {name}: {why}");
    }
    assert_eq!(lenient, departures.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!((accepted, refused), (44, 89));
}

/// Name, labels, value, time.
type SampleLine = (String, Vec<(String, String)>, f64, Option<i64>);

fn label_value() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zA-Z0-9 _./:-]{0,20}").unwrap()
}

prop_compose! {
    fn sample_line()(
        name in "[a-z_][a-z0-9_]{0,15}",
        labels in proptest::collection::btree_map("[a-z][a-z0-9_]{0,8}", label_value(), 0..5),
        v in any::<f64>().prop_filter("finite", |v| v.is_finite()),
        t in proptest::option::of(0_i64..4_000_000_000_000),
    ) -> SampleLine {
        (name, labels.into_iter().collect(), v, t)
    }
}

fn render(lines: &[SampleLine]) -> String {
    let mut body = String::new();
    for (name, labels, v, t) in lines {
        body.push_str(name);
        if !labels.is_empty() {
            let pairs: Vec<_> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            write!(body, "{{{}}}", pairs.join(",")).unwrap();
        }
        write!(body, " {}", crate::number::format_g(*v)).unwrap();
        if let Some(t) = t {
            write!(body, " {t}").unwrap();
        }
        body.push('\n');
    }
    body
}

/// What any byte may become in a mutated body.
const PIECES: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b",",
    b"=",
    b"#",
    b" ",
    b"\t",
    b"\n",
    b"\0",
    b"\xff",
    b"1",
    b"e",
    b"-",
    b".",
    b"NaN",
    b"# EOF\n",
    b"# TYPE a histogram\n",
    b"\xc3\xbc",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_a_foreign_parser(lines in proptest::collection::vec(sample_line(), 1..8)) {
        let body = render(&lines);
        let foreign =
            prometheus_parse::Scrape::parse(body.lines().map(|l| Ok(l.to_owned()))).unwrap();
        let mut parser = Parser::new(body.as_bytes(), Format::Text);
        let mut labels = LabelsBuilder::default();
        for (theirs, ours) in foreign.samples.iter().zip(&lines) {
            let Some(Ok(Entry::Series(line))) = parser.next() else { panic!("no series") };
            parser.labels_into(&line, &mut labels).unwrap();
            let expected = Labels::from_pairs(
                theirs.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain([("__name__", theirs.metric.as_str())]),
            );
            prop_assert_eq!(labels.build(), expected);
            let prometheus_parse::Value::Untyped(v) = theirs.value else { panic!("not untyped") };
            prop_assert_eq!(line.v.to_bits(), v.to_bits());
            if line.t.is_some() {
                prop_assert_eq!(line.t, Some(theirs.timestamp.timestamp_millis()));
            }
            prop_assert_eq!(line.t, ours.3);
        }
        prop_assert!(parser.next().is_none());
        prop_assert_eq!(foreign.samples.len(), lines.len());
    }

    #[test]
    fn mutated_bodies_never_panic_and_the_lanes_agree(
        lines in proptest::collection::vec(sample_line(), 1..4),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..PIECES.len(), 0..3_u8), 0..4),
        format in prop_oneof![Just(Format::Text), Just(Format::OpenMetrics)],
        has_eof in any::<bool>(),
    ) {
        let mut body = render(&lines).into_bytes();
        for (at, piece, kind) in edits {
            let at = at.index(body.len().max(1)).min(body.len());
            let to = if kind == 0 { at } else { body.len().min(at + usize::from(kind)) };
            body.splice(at..to, PIECES[piece].iter().copied());
        }
        if has_eof {
            body.extend_from_slice(b"# EOF\n");
        }
        prop_assert_eq!(dump(&body, format), dump_by_token(&body, format));
        prop_assert_eq!(dump(&body, format), dump_known(&body, format));
    }

    #[test]
    fn mutated_exemplars_and_start_times_never_panic(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..PIECES.len(), 0..3_u8), 0..4),
    ) {
        let mut body = b"# TYPE a histogram\na_bucket{x=\"y\",le=\"1\"} 1 # {t=\"u\",v=\"w\"} 1 2\na_created{x=\"y\"} 5\n{\"a_created\"} 6\n# EOF\n".to_vec();
        for (at, piece, kind) in edits {
            let at = at.index(body.len());
            let to = if kind == 0 { at } else { body.len().min(at + usize::from(kind)) };
            body.splice(at..to, PIECES[piece].iter().copied());
        }
        let mut parser = Parser::new(&body, Format::OpenMetrics).with_start_times();
        while let Some(Ok(entry)) = parser.next() {
            if let Entry::Series(line) = entry {
                parser.start_time(&line);
                if let Some(exemplar) = parser.exemplar(&line) {
                    exemplar.labels();
                }
            }
        }
    }
}
