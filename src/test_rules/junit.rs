//! Results as `JUnit` XML, which CI servers read.
//!
//! Compat: prometheus `util/junitxml`.

use std::fmt::Write;

/// The tests of a file.
#[derive(Debug)]
pub(super) struct Suite {
    name: String,
    failures: usize,
    errors: usize,
    timestamp: String,
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    name: String,
    failures: Vec<String>,
    error: Option<String>,
}

impl Suite {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), failures: 0, errors: 0, timestamp: String::new(), cases: Vec::new() }
    }

    /// Notes the time of day at which the tests begin.
    pub(super) fn begin(&mut self) {
        self.timestamp = jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    }

    pub(super) fn case(&mut self, name: &str, failures: &[String]) {
        self.failures += failures.len();
        self.cases.push(Case { name: name.to_owned(), failures: failures.to_vec(), error: None });
    }

    /// Nothing of the file can be run.
    pub(super) fn abort(&mut self, message: &str) {
        self.errors += 1;
        let error = Some(message.to_owned());
        self.cases.push(Case { name: "unknown".to_owned(), failures: Vec::new(), error });
    }
}

pub(super) fn xml(suites: &[Suite]) -> String {
    let mut out = String::from("<testsuites>");
    for suite in suites {
        let _ = write!(
            out,
            "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" timestamp=\"{}\">",
            escape(&suite.name),
            suite.cases.len(),
            suite.failures,
            suite.errors,
            suite.timestamp
        );
        for case in &suite.cases {
            let _ = write!(out, "<testcase name=\"{}\">", escape(&case.name));
            for failure in &case.failures {
                let _ = write!(out, "<failure>{}</failure>", escape(failure));
            }
            if let Some(error) = &case.error {
                let _ = write!(out, "<error>{}</error>", escape(error));
            }
            out.push_str("</testcase>");
        }
        out.push_str("</testsuite>");
    }
    out.push_str("</testsuites>");
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            // XML has no way to write these.
            '\0'..=' ' | '\u{fffe}' | '\u{ffff}' if c != ' ' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
