//! What a failed comparison shows.
//!
//! Compat: prometheus `cmd/promtool/unittest.go`, the `String` methods; `promql`, `Matrix.String`.

use std::collections::BTreeMap;
use std::fmt::Write;

use model::AnyHistogram;
use model::quote::go_quote;
use promql::MatrixSeries;

use super::case::{Sample, Shown};

/// Every line but the first behind `indent`.
pub(super) fn indented(text: &str, indent: &str) -> String {
    text.split('\n').collect::<Vec<_>>().join(&format!("\n{indent}"))
}

/// A numbered list.
pub(super) fn alerts(alerts: &[Shown]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let one = |(i, alert): (usize, &Shown)| {
        let text =
            format!("\nLabels:{}\nAnnotations:{}", label_set(&alert.labels), label_set(&alert.annotations));
        format!("{i}:{}", indented(&text, "  "))
    };
    format!("[\n{}\n]", alerts.iter().enumerate().map(one).collect::<Vec<_>>().join(",\n"))
}

/// Labels as they print, empty values included.
fn label_set(labels: &BTreeMap<String, String>) -> String {
    let pair = |(name, value): (&String, &String)| {
        let name = if model::labels::is_legacy_label_name(name.as_bytes()) {
            name.clone()
        } else {
            go_quote(name.as_bytes())
        };
        format!("{name}={}", go_quote(value.as_bytes()))
    };
    format!("{{{}}}", labels.iter().map(pair).collect::<Vec<_>>().join(", "))
}

pub(super) fn samples(samples: &[Sample]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let one = |sample: &Sample| match sample.histogram.as_str() {
        "" => format!("{} {}", sample.labels, model::number::format_e(sample.value).to_uppercase_exponent()),
        histogram => format!("{} {histogram}", sample.labels),
    };
    samples.iter().map(one).collect::<Vec<_>>().join(", ")
}

trait UppercaseExponent {
    fn to_uppercase_exponent(self) -> String;
}

impl UppercaseExponent for String {
    /// `1e+00` as `1E+00`; words stay as they are.
    fn to_uppercase_exponent(self) -> String {
        if self.starts_with(|c: char| c.is_ascii_digit() || c == '-') { self.replace('e', "E") } else { self }
    }
}

pub(super) fn matrix(series: &[MatrixSeries]) -> String {
    let mut out = String::new();
    for (i, series) in series.iter().enumerate() {
        let _ = write!(out, "{}{} =>", if i > 0 { "\n" } else { "" }, series.labels);
        for sample in series.samples.iter() {
            let _ = write!(out, "\n{} @[{}]", model::number::format_f(sample.v), sample.t);
        }
        for sample in &series.samples.histograms {
            let _ = match &sample.histogram {
                AnyHistogram::Float(h) => write!(out, "\n{h} @[{}]", sample.t),
                AnyHistogram::Int(h) => write!(out, "\n{} @[{}]", h.to_float(), sample.t),
            };
        }
    }
    out
}

/// A message that begins with `line:column:`, its line `lines` further down.
pub(super) fn moved_down(message: &str, lines: usize) -> String {
    let moved = message.split_once(':').and_then(|(line, rest)| {
        let line: usize = line.parse().ok()?;
        Some(format!("{}:{rest}", line + lines))
    });
    moved.unwrap_or_else(|| message.to_owned())
}
