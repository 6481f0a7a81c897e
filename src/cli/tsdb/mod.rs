//! `ferula tsdb …`: looking at a data directory and bringing old samples into one, without a server.
//!
//! One command per file, with promtool's flags and output. Directories are read as they lie: no lock is taken and
//! nothing in them changes, so all but `create-blocks-from` also work beside a running server.
//!
//! Compat: prometheus `cmd/promtool`, `tsdb` (3.14).

mod analyze;
mod dump;
mod dump_openmetrics;
mod import_openmetrics;
mod import_rules;
mod list;
pub(super) mod output;
mod selection;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Run tsdb commands.
#[derive(Debug, Parser)]
#[command(name = "ferula tsdb", version, max_term_width = 100)]
struct Tsdb {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Analyze churn, label pair cardinality and compaction efficiency.
    Analyze(analyze::Options),
    /// List tsdb blocks.
    List(list::Options),
    /// Dump data (series+samples or optionally just series) from a TSDB.
    Dump(dump::Options),
    /// [Experimental] Dump samples from a TSDB into OpenMetrics text format, excluding native histograms, which are
    /// not representable in it.
    DumpOpenmetrics(dump_openmetrics::Options),
    /// [Experimental] Import samples from input and produce TSDB blocks. Refer to Prometheus' storage documentation.
    CreateBlocksFrom(CreateBlocksFrom),
}

#[derive(Debug, Args)]
struct CreateBlocksFrom {
    #[command(flatten)]
    shown: Shown,
    /// Maximum duration created blocks may span. Anything less than 2h is ignored.
    #[arg(long, global = true, hide = true, value_parser = model::duration::parse)]
    max_block_duration: Option<std::time::Duration>,
    #[command(subcommand)]
    from: From,
}

/// How created blocks are told.
#[derive(Clone, Copy, Debug, Args)]
struct Shown {
    /// Print human readable values.
    #[arg(short = 'r', long, global = true)]
    human_readable: bool,
    /// Do not print created blocks.
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Import samples from `OpenMetrics` input and produce TSDB blocks. Refer to Prometheus' storage documentation.
    Openmetrics(import_openmetrics::Options),
    /// Create blocks of data for new recording rules.
    Rules(import_rules::Options),
}

/// The directory of a store.
#[derive(Debug, Args)]
struct Database {
    /// Database path.
    #[arg(value_name = "db path", default_value = "data/")]
    path: PathBuf,
}

/// Runs the command of these arguments, which begin behind the program's name. What went wrong beside the way is logged.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match Tsdb::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help and version arrive here, too.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let done = execute(parsed.command, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Analyze(options) => analyze::run(&options, out),
        Command::List(options) => list::run(&options, out),
        Command::Dump(options) => dump::run(&options, out),
        Command::DumpOpenmetrics(options) => dump_openmetrics::run(&options, out),
        Command::CreateBlocksFrom(CreateBlocksFrom { shown, max_block_duration, from }) => match from {
            From::Openmetrics(options) => {
                import_openmetrics::run(&options, shown, max_block_duration.unwrap_or_default(), out)
            }
            From::Rules(options) => {
                import_rules::run(&options, max_block_duration.unwrap_or_default(), &mut io::stderr())
            }
        },
    }
}

#[cfg(test)]
mod tests;
