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
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|word| word == "tsdb") {
        telemetry::init(Log { level: LevelFilter::WARN, json: false });
        return ferula::cli::tsdb::run(args);
    }
    if args.peek().is_some_and(|word| word == "check") {
        telemetry::init(Log { level: LevelFilter::WARN, json: false });
        return ferula::check::run(args);
    }
    let is_amtool = std::env::args_os()
        .next()
        .is_some_and(|program| Path::new(&program).file_stem().is_some_and(|name| name == "amtool"));
    if is_amtool {
        telemetry::init(Log { level: LevelFilter::WARN, json: false });
        return ferula::am::run(std::env::args_os());
    }
    if args.peek().is_some_and(|word| word == "am") {
        telemetry::init(Log { level: LevelFilter::WARN, json: false });
        return ferula::am::run(args);
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
