//! `ferula tsdb dump`: every sample as a line, or every series.
//!
//! All samples are shown; promtool leaves out the first histogram or two of a series.
//!
//! Compat: prometheus `cmd/promtool/tsdb.go`, `formatSeriesSet`, `formatSeriesSetLabelsToJSON`.

use std::collections::HashSet;
use std::io::Write;

use clap::{Args, ValueEnum};
use model::number::format_g;
use model::{AnyHistogram, Labels, SampleBatch};

use super::selection::{self, Selection};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Output format of the dump.
    #[arg(long, value_enum, default_value_t = Format::Prom)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Prom,
    Seriesjson,
}

pub(super) fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    selection::each_series(&options.selection, |labels, batch| match options.format {
        Format::Prom => write_samples(labels, batch, out),
        Format::Seriesjson => {
            let text = json(labels);
            if !seen.contains(&text) {
                writeln!(out, "{text}")?;
                seen.insert(text);
            }
            Ok(())
        }
    })
}

/// Floats and histograms in the order of their times.
fn write_samples(labels: &Labels, batch: &SampleBatch, out: &mut dyn Write) -> anyhow::Result<()> {
    let labels = labels.to_string();
    let mut histograms = batch.histograms.iter().peekable();
    let mut write_until = |t: i64, out: &mut dyn Write| -> anyhow::Result<()> {
        while let Some(sample) = histograms.next_if(|sample| sample.t <= t) {
            match &sample.histogram {
                AnyHistogram::Int(histogram) => writeln!(out, "{labels} {histogram} {}", sample.t)?,
                AnyHistogram::Float(histogram) => writeln!(out, "{labels} {histogram} {}", sample.t)?,
            }
        }
        Ok(())
    };
    for sample in batch.iter() {
        write_until(sample.t, out)?;
        writeln!(out, "{labels} {} {}", format_g(sample.v), sample.t)?;
    }
    write_until(i64::MAX, out)
}

/// Labels as Go encodes them: names in order, what means something in HTML escaped.
fn json(labels: &Labels) -> String {
    let text = serde_json::to_string(&labels.to_map()).expect("strings can be encoded");
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            c => escaped.push(c),
        }
    }
    escaped
}
