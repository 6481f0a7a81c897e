//! `ferula check web-config`: the file that says how the server itself is protected.
//!
//! It is judged as a server judges it at its start, so that what passes here runs.
//!
//! Compat: prometheus `cmd/promtool/main.go`, `CheckWebConfig`.

use std::io;
use std::path::PathBuf;

use clap::Args;
use web::security::Security;

use super::{Outcome, Streams, existing_file};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The config files to check.
    #[arg(value_name = "web-config-files", required = true, value_parser = existing_file)]
    files: Vec<PathBuf>,
}

pub(super) fn run(options: &Options, streams: &mut Streams<'_>) -> io::Result<Outcome> {
    let mut outcome = Outcome::Passed;
    for file in &options.files {
        match Security::check(file) {
            Ok(()) => writeln!(streams.err, "{} SUCCESS", file.display())?,
            Err(e) => {
                outcome = Outcome::Failed;
                for problem in e.problems() {
                    let place = match problem.line {
                        0 => String::new(),
                        line => format!("{line}:{}: ", problem.column),
                    };
                    writeln!(streams.err, "{} FAILED: {place}{}", file.display(), problem.message)?;
                }
            }
        }
    }
    Ok(outcome)
}
