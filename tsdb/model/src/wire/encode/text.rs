//! The text format, version 0.0.4.
//!
//! Compat: prometheus/common `expfmt.MetricFamilyToText`.

use super::{Classic, Count, Escaping, Family, Kind, Metric, Native, Value};
use crate::labels::is_legacy_metric_name;
use crate::number::append_g_into;

pub(super) fn write(out: &mut Vec<u8>, family: &Family<'_>, escaping: Escaping) {
    let name = &*escaping.apply(&family.name);
    if let Some(help) = &family.help {
        out.extend_from_slice(b"# HELP ");
        write_name(out, name, "");
        out.push(b' ');
        write_escaped(out, help, false);
        out.push(b'\n');
    }
    out.extend_from_slice(b"# TYPE ");
    write_name(out, name, "");
    out.extend_from_slice(match family.kind {
        Kind::Counter => b" counter\n".as_slice(),
        Kind::Gauge => b" gauge\n",
        Kind::Summary => b" summary\n",
        Kind::Untyped => b" untyped\n",
        // Readers of text know of no histograms whose counts go back.
        Kind::Histogram | Kind::GaugeHistogram => b" histogram\n",
    });
    for metric in &family.metrics {
        Lines { out, name, metric, escaping }.write();
    }
}

/// The lines of one metric.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    name: &'a [u8],
    metric: &'a Metric<'a>,
    escaping: Escaping,
}

impl Lines<'_> {
    fn write(&mut self) {
        match &self.metric.value {
            Value::Number(v) => self.line("", None, *v),
            Value::Summary(summary) => {
                for &(quantile, v) in &summary.quantiles {
                    self.line("", Some(("quantile", quantile)), v);
                }
                self.line("_sum", None, summary.sum);
                self.line("_count", None, summary.count as f64);
            }
            Value::Classic(Classic { count, sum, buckets }) => self.histogram(buckets, *count, *sum),
            Value::Native(Native::Int(histogram)) => {
                self.histogram(&[], Count::Int(histogram.count), histogram.sum);
            }
            Value::Native(Native::Float(histogram)) => {
                self.histogram(&[], Count::Float(histogram.count), histogram.sum);
            }
        }
    }

    fn histogram(&mut self, buckets: &[(f64, Count)], count: Count, sum: f64) {
        for (bound, count) in buckets {
            self.line("_bucket", Some(("le", *bound)), count.as_f64());
        }
        if buckets.iter().all(|(bound, _)| *bound != f64::INFINITY) {
            self.line("_bucket", Some(("le", f64::INFINITY)), count.as_f64());
        }
        self.line("_sum", None, sum);
        self.line("_count", None, count.as_f64());
    }

    fn line(&mut self, suffix: &str, extra: Option<(&str, f64)>, v: f64) {
        let Self { out, name, metric, escaping } = self;
        // A name that the classic rules do not allow is the first thing in the braces.
        let mut separator = b'{';
        if !is_legacy_metric_name(name) {
            out.push(b'{');
            separator = b',';
        }
        write_name(out, name, suffix);
        for (name, value) in &metric.labels {
            out.push(std::mem::replace(&mut separator, b','));
            write_name(out, &escaping.apply(name), "");
            out.extend_from_slice(b"=\"");
            write_escaped(out, value, true);
            out.push(b'"');
        }
        if let Some((name, v)) = extra {
            out.push(std::mem::replace(&mut separator, b','));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            write_float(out, v);
            out.push(b'"');
        }
        if separator == b',' {
            out.push(b'}');
        }
        out.push(b' ');
        write_float(out, v);
        if let Some(t) = metric.timestamp {
            out.push(b' ');
            out.extend_from_slice(itoa::Buffer::new().format(t).as_bytes());
        }
        out.push(b'\n');
    }
}

fn write_float(out: &mut Vec<u8>, v: f64) {
    // Zero has no sign in this format.
    append_g_into(if v == 0.0 { 0.0 } else { v }, out);
}

fn write_name(out: &mut Vec<u8>, name: &[u8], suffix: &str) {
    let is_quoted = !is_legacy_metric_name(name);
    if is_quoted {
        out.push(b'"');
        write_escaped(out, name, true);
        out.extend_from_slice(suffix.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(name);
        out.extend_from_slice(suffix.as_bytes());
    }
}

fn write_escaped(out: &mut Vec<u8>, text: &[u8], quotes: bool) {
    for &b in text {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            b => out.push(b),
        }
    }
}
