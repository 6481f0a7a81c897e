mod promtool;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use expect_test::{Expect, expect};

use super::{Streams, run_with};

/// What a command ends with, writes to the standard output and to the standard error.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro gives it")]
fn check(args: &[&str], input: &str, expected: Expect) {
    let (mut input, mut out, mut err) = (input.as_bytes(), Vec::new(), Vec::new());
    let mut streams = Streams { input: &mut input, out: &mut out, err: &mut err };
    let args = ["check"].iter().chain(args).map(|arg| (*arg).into());
    let code = run_with(args, &mut streams);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    expected.assert_eq(&format!("{code}\n--- out\n{}--- err\n{}", text(out), text(err)));
}

const TWICE: &str =
    "groups: [{name: g, labels: {a: b}, rules: [{record: r, expr: x}, {record: r, expr: y}]}]\n";

#[test]
fn rules_that_are_there_twice() {
    check(
        &["rules"],
        TWICE,
        expect![[r"
        0
        --- out
        Checking standard input

        --- err
          FAILED:
        lint error 1 duplicate rule(s) found.
        Metric: r
        Label(s):
        	a: b
        Might cause inconsistency while recording expressions
    "]],
    );
    check(
        &["rules", "--lint-fatal"],
        TWICE,
        expect![[r"
        3
        --- out
        Checking standard input

        --- err
          FAILED:
        lint error 1 duplicate rule(s) found.
        Metric: r
        Label(s):
        	a: b
        Might cause inconsistency while recording expressions
    "]],
    );
    check(
        &["rules", "--lint=none,odd"],
        TWICE,
        expect![[r#"
        0
        --- out
        WARNING: unknown lint option: "odd"
        Checking standard input
          SUCCESS: 2 rules found

        --- err
    "#]],
    );
}

#[test]
fn unknown_fields() {
    let text = "groups: [{name: g, owner: me, rules: [{record: r, expr: x, why: no}]}]\n";
    check(
        &["rules"],
        text,
        expect![[r"
        1
        --- out
        Checking standard input
        --- err
          FAILED:
        yaml: unmarshal errors:
          line 1: field owner not found in type rulefmt.RuleGroup
          line 1: field why not found in type rulefmt.Rule
    "]],
    );
    check(
        &["rules", "--ignore-unknown-fields"],
        text,
        expect![[r"
        0
        --- out
        Checking standard input
          SUCCESS: 1 rules found

        --- err
    "]],
    );
}

#[test]
fn features_of_the_query_language() {
    let text = "groups: [{name: g, rules: [{record: r, expr: 'limitk(1, x)'}]}]\n";
    check(
        &["--enable-feature=promql-experimental-functions,", "rules"],
        text,
        expect![[r"
        0
        --- out
        Checking standard input
          SUCCESS: 1 rules found

        --- err
    "]],
    );
    check(
        &["rules"],
        text,
        expect![[r#"
        1
        --- out
        Checking standard input
        --- err
          FAILED:
        1:46: group "g", rule 1, "r": could not parse expression: 1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions
    "#]],
    );
}

#[test]
fn metrics_without_a_task() {
    check(
        &["metrics", "--lint=none"],
        "a 1\n",
        expect![[r"
        1
        --- out
        --- err
        error: at least one of --extended or linting must be enabled
        Use --extended for cardinality analysis, or remove --lint=none to enable linting
    "]],
    );
    check(
        &["metrics", "--lint=none", "--extended"],
        "a 1\nb{x=\"y\"} 1\nb 1\n",
        expect![[r"
        0
        --- out
        Metric    Cardinality    Percentage    
        b         2              66.67%        
        a         1              33.33%        
        Total     3              100%          
        --- err
    "]],
    );
}

#[test]
fn files_that_are_not_there() {
    check(
        &["config", "/nowhere/at-all.yml"],
        "",
        expect![[r"
        1
        --- out
        --- err
        error: invalid value '/nowhere/at-all.yml' for '<config-files>...': path '/nowhere/at-all.yml' does not exist

        For more information, try '--help'.
    "]],
    );
    check(
        &["config", "/"],
        "",
        expect![[r"
        1
        --- out
        --- err
        error: invalid value '/' for '<config-files>...': '/' is a directory

        For more information, try '--help'.
    "]],
    );
}

/// A server that answers one request.
fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let n = stream.read(&mut request).unwrap();
        let path = String::from_utf8_lossy(&request[..n]).split(' ').nth(1).unwrap().to_owned();
        let body = body.replace("PATH", &path);
        let length = body.len();
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    });
    format!("http://{address}")
}

#[test]
fn health_of_a_server() {
    let url = answering("200 OK", "Asked for PATH.\n");
    check(
        &["healthy", "--url", &format!("{url}/prefix/")],
        "",
        expect![[r"
        0
        --- out
        --- err
          SUCCESS:  Asked for /prefix/-/healthy.

    "]],
    );
    let url = answering("200 OK", "Asked for PATH.\n");
    check(
        &["ready", "--url", &url],
        "",
        expect![[r"
        0
        --- out
        --- err
          SUCCESS:  Asked for /-/ready.

    "]],
    );
    let url = answering("503 Service Unavailable", "no");
    let (mut input, mut out, mut err) = (&b""[..], Vec::new(), Vec::new());
    let mut streams = Streams { input: &mut input, out: &mut out, err: &mut err };
    let code = run_with(["check", "ready", "--url", &url].map(Into::into), &mut streams);
    let expected = format!("  FAILED: check failed: URL={url}, status=503\n");
    assert_eq!((code, String::from_utf8(err).unwrap()), (1, expected));
}
