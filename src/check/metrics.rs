//! `ferula check metrics`: lints what an exporter exposes and tells which metrics make the most series.
//!
//! Compat: prometheus `cmd/promtool/main.go`, `CheckMetrics`; Go `text/tabwriter` for the table.

use std::collections::BTreeMap;
use std::io;

use clap::Args;

use super::families::{self, Family, Kind};
use super::{Outcome, Streams, promlint};

/// Between columns.
const PADDING: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print extended information related to the cardinality of the metrics.
    #[arg(long)]
    extended: bool,
    /// Linting checks to apply for metrics. Available options are: all, none. Use --lint=none to disable metrics
    /// linting.
    #[arg(long, default_value = "all")]
    lint: String,
}

pub(super) fn run(options: &Options, streams: &mut Streams<'_>) -> io::Result<Outcome> {
    let lints = options.lint != "none";
    if !options.extended && !lints {
        writeln!(
            streams.err,
            "error: at least one of --extended or linting must be enabled\n\
             Use --extended for cardinality analysis, or remove --lint=none to enable linting"
        )?;
        return Ok(Outcome::Failed);
    }
    let mut text = Vec::new();
    streams.input.read_to_end(&mut text)?;
    let families = String::from_utf8(text).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        format!("text format parsing error in line {line}: invalid UTF-8")
    });
    let families = match families.and_then(|text| families::parse(&text)) {
        Ok(families) => families,
        Err(e) => {
            let doing = if lints { "linting" } else { "parsing text to metric families" };
            writeln!(streams.err, "error while {doing}: {e}")?;
            return Ok(Outcome::Failed);
        }
    };
    let problems = if lints { promlint::lint(&families) } else { Vec::new() };
    for problem in &problems {
        writeln!(streams.err, "{} {}", problem.metric, problem.text)?;
    }
    if options.extended {
        streams.out.write_all(cardinalities(&families).as_bytes())?;
    }
    Ok(if problems.is_empty() { Outcome::Passed } else { Outcome::Linted })
}

/// The series of each family, the most first.
fn cardinalities(families: &BTreeMap<String, Family>) -> String {
    let mut counts: Vec<(&str, usize)> =
        families.iter().map(|(name, family)| (name.as_str(), cardinality(family))).collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let row = |cells: [&str; 3]| cells.map(str::to_owned);
    let mut rows = vec![row(["Metric", "Cardinality", "Percentage"])];
    for (name, count) in counts {
        let share = format!("{:.2}%", count as f64 / total as f64 * 100.0);
        rows.push(row([name, &count.to_string(), &share]));
    }
    rows.push(row(["Total", &total.to_string(), "100%"]));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)].map(|width| width + PADDING);
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        text.push('\n');
    }
    text
}

/// Buckets and quantiles are counted at the first metric, for all have the same.
fn cardinality(family: &Family) -> usize {
    let n_metrics = family.metrics.len();
    match family.kind() {
        Kind::Histogram | Kind::Summary => {
            n_metrics * (2 + family.metrics.first().map_or(0, |metric| metric.n_parts))
        }
        _ => n_metrics,
    }
}
