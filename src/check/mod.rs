//! `ferula check …`: whether files would load, what discovery finds, whether a server answers; without a server of our own.
//!
//! One command per file, with promtool's flags, output and exit codes: 1 for a failure, 3 for what only a linter minds
//! when asked to be strict. Where promtool names a file, lines of ours name the place in it as well.
//!
//! Compat: prometheus `cmd/promtool`, `check` (3.14).

mod config;
mod families;
mod metrics;
mod promlint;
mod rules;
mod server;
mod service_discovery;
mod web_config;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Check the resources for validity.
#[derive(Debug, Parser)]
#[command(name = "ferula check", version, max_term_width = 100)]
struct Check {
    /// The server's maximum query lookback duration.
    #[arg(long = "query.lookback-delta", global = true, default_value = "5m", value_parser = model::duration::parse)]
    lookback_delta: Duration,
    /// Comma separated features of the query language to enable, as the server's flag of that name.
    #[arg(long = "enable-feature", global = true)]
    features: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check if the config files are valid or not.
    Config(config::Options),
    /// Check if the rule files are valid or not.
    Rules(rules::Options),
    /// Check if the web config files are valid or not.
    WebConfig(web_config::Options),
    /// Pass Prometheus metrics over stdin to lint them for consistency and correctness, and optionally perform
    /// cardinality analysis.
    Metrics(metrics::Options),
    /// Perform service discovery for the given job name and report the results, including relabeling.
    ServiceDiscovery(service_discovery::Options),
    /// Check if the Prometheus server is healthy.
    Healthy(server::Options),
    /// Check if the Prometheus server is ready.
    Ready(server::Options),
}

/// Where a command reads and writes.
struct Streams<'a> {
    input: &'a mut dyn Read,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// Valid, but the linter was asked to be strict.
    Linted,
}

impl Outcome {
    const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Linted => 3,
        }
    }
}

/// Runs the command of these arguments, which begin behind the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (mut input, mut out, mut err) = (io::stdin().lock(), io::stdout().lock(), io::stderr().lock());
    let mut streams = Streams { input: &mut input, out: &mut out, err: &mut err };
    ExitCode::from(run_with(args, &mut streams))
}

fn run_with(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> u8 {
    let parsed = match Check::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help and version arrive here, too.
            let to: &mut dyn Write = if e.use_stderr() { streams.err } else { streams.out };
            let _ = write!(to, "{}", e.render());
            return u8::from(e.use_stderr());
        }
    };
    let done = execute(&parsed, streams).and_then(|outcome| {
        streams.out.flush()?;
        Ok(outcome)
    });
    match done {
        Ok(outcome) => outcome.code(),
        // Whoever reads has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(e) => {
            let _ = writeln!(streams.err, "{e}");
            1
        }
    }
}

fn execute(check: &Check, streams: &mut Streams<'_>) -> io::Result<Outcome> {
    let parser = parser_options(&check.features, streams.out)?;
    match &check.command {
        Command::Config(options) => config::run(options, check.lookback_delta, parser, streams),
        Command::Rules(options) => rules::run(options, parser, streams),
        Command::WebConfig(options) => web_config::run(options, streams),
        Command::Metrics(options) => metrics::run(options, streams),
        Command::ServiceDiscovery(options) => service_discovery::run(options, streams),
        Command::Healthy(options) => server::run(options, "-/healthy", streams),
        Command::Ready(options) => server::run(options, "-/ready", streams),
    }
}

/// The switches of the language; unknown ones are told.
pub(crate) fn parser_options(features: &[String], out: &mut dyn Write) -> io::Result<promql::parse::Options> {
    let mut options = promql::parse::Options::default();
    for feature in features.iter().flat_map(|list| list.split(',')) {
        match feature {
            "promql-experimental-functions" => options.experimental_functions = true,
            "promql-extended-range-selectors" => options.extended_range_selectors = true,
            "promql-binop-fill-modifiers" => options.binop_fill = true,
            // These decide about evaluation only, or are always on.
            "" | "promql-delayed-name-removal" | "promql-duration-expr" => {}
            other => write!(out, "  WARNING: Unknown feature passed to --enable-feature: {other}")?,
        }
    }
    Ok(options)
}

/// A path that must lead to a file.
pub(crate) fn existing_file(text: &str) -> Result<PathBuf, String> {
    match std::fs::metadata(text) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!("path '{text}' does not exist")),
        Err(e) => Err(e.to_string()),
        Ok(found) if found.is_dir() => Err(format!("'{text}' is a directory")),
        Ok(_) => Ok(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests;
