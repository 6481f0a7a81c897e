//! The binary: flags in, exit code out; everything between is the library's.
//!
//! Exit codes: 1 for a failure, 2 for bad arguments or a bad configuration.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use ferula::app;
use ferula::cli::flags::{Flags, Log, Values};
use ferula::telemetry;
use tracing::level_filters::LevelFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if let Some(code) = tool() {
        return code;
    }
    let values = match Values::parse(std::env::args_os()) {
        Ok(values) => values,
        Err(e) => {
            // Help and version arrive here, too.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let flags = match Flags::resolve(&values) {
        Ok(flags) => flags,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error parsing command line arguments: {e:#}");
            return ExitCode::from(2);
        }
    };
    telemetry::init(flags.log);
    for warning in &flags.warnings {
        tracing::warn!("{warning}");
    }
    let files = match app::Files::load(&flags) {
        Ok(files) => files,
        Err(e) => {
            tracing::error!(error = format!("{e:#}"), "loading the configuration failed");
            return ExitCode::from(2);
        }
    };
    match app::run(flags, files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = format!("{e:#}"), "the server failed");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command that the first argument names, or the name by which the program was called; `None` for the server.
fn tool() -> Option<ExitCode> {
    let mut args = std::env::args_os().peekable();
    let program = args.peek().map(|program| Path::new(program).file_stem().unwrap_or_default().to_owned());
    let is = |name: &str| program.as_ref().is_some_and(|program| program == name);
    if is("amtool") {
        telemetry::init(Log { level: LevelFilter::WARN, json: false });
        return Some(ferula::am::run(args));
    }
    args.next();
    let word = args.peek().map(|word| word.to_string_lossy().into_owned());
    let run: fn(_) -> ExitCode = match word.as_deref() {
        Some("tsdb") => ferula::cli::tsdb::run,
        Some("check") => ferula::check::run,
        Some("am") => ferula::am::run,
        Some("explain") => ferula::explain::run,
        Some("test") => ferula::test_rules::run,
        // A server is nothing that promtool starts.
        _ if is("promtool") => ferula::check::run,
        _ => return None,
    };
    // Rules that fail on purpose are what unit tests of rules are about.
    let level = if word.as_deref() == Some("test") { LevelFilter::ERROR } else { LevelFilter::WARN };
    telemetry::init(Log { level, json: false });
    Some(run(args))
}
