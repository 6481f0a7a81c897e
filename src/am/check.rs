//! `ferula am check-config` and `ferula am export`: a configuration looked at, and made fit for others.
//!
//! Compat: alertmanager `cli`, `CheckConfig`.

use std::io::Read as _;
use std::path::PathBuf;

use ::config::alertmanager::{Config, load_in, parse_in};
use ::config::matchers::Mode;
use ::config::paths;
use clap::Args;

use super::{Done, Failure, Streams, existing_file};
use crate::alertmanager::notify::templates::Templates;

/// The longest configuration that is read from standard input.
const INPUT_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Files to be validated; standard input if there are none.
    #[arg(value_name = "check-files", value_parser = existing_file)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file; standard input if there is none.
    #[arg(value_name = "config-file", value_parser = existing_file)]
    file: Option<PathBuf>,
}

/// The reason, and behind it the place, unless the reason names one.
pub(super) fn message(e: &::config::Error) -> String {
    let Some(problem) = e.problems().first() else { return e.to_string() };
    match problem.line {
        0 => problem.message.clone(),
        _ if problem.message.starts_with("yaml: ") => problem.message.clone(),
        line => format!("{} (line {line}, column {})", problem.message, problem.column),
    }
}

pub(super) fn run(options: &Options, mode: Mode, streams: &mut Streams<'_>) -> Done {
    let mut failed = 0;
    if options.files.is_empty() {
        let mut text = String::new();
        (&mut *streams.input).take(INPUT_BYTES_MAX).read_to_string(&mut text)?;
        let path = PathBuf::from("/dev/stdin");
        failed += check(&path, parse_in(mode, &text, &path), streams)?;
    }
    for path in &options.files {
        failed += check(path, load_in(mode, path), streams)?;
    }
    if failed > 0 {
        return Err(format!("failed to validate {failed} file(s)").into());
    }
    Ok(())
}

/// How often the file failed.
fn check(
    path: &std::path::Path,
    loaded: Result<Config, ::config::Error>,
    streams: &mut Streams<'_>,
) -> Result<usize, Failure> {
    let out = &mut *streams.out;
    write!(out, "Checking '{}'", path.display())?;
    let config = match loaded {
        Ok(config) => config,
        Err(e) => {
            writeln!(out, "  FAILED: {}\n", message(&e))?;
            return Ok(1);
        }
    };
    writeln!(out, "  SUCCESS\nFound:\n - global config\n - route")?;
    writeln!(out, " - {} inhibit rules", config.inhibit_rules.len())?;
    writeln!(out, " - {} receivers", config.receivers.len())?;
    writeln!(out, " - {} templates", config.templates.len())?;
    let mut failed = 0;
    if !config.templates.is_empty() {
        match templates(&config.templates) {
            Ok(_) => writeln!(out, "  SUCCESS")?,
            Err(text) => {
                failed = 1;
                writeln!(out, "  FAILED: {text}")?;
            }
        }
    }
    for warning in &config.warnings {
        writeln!(streams.err, "warning: {}: {warning}", path.display())?;
    }
    writeln!(streams.out)?;
    Ok(failed)
}

/// Our definitions, and those of the files that the globs name.
pub(super) fn templates(globs: &[String]) -> Result<Templates, String> {
    let mut files = Vec::new();
    for glob in globs {
        for path in paths::glob(glob).map_err(|_| "syntax error in pattern".to_owned())? {
            let text = std::fs::read_to_string(&path).map_err(|e| format!("open {}: {e}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, text));
        }
    }
    Templates::new(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).map_err(|e| e.to_string())
}

pub(super) fn export(options: &Export, streams: &mut Streams<'_>) -> Done {
    let mut text = String::new();
    match &options.file {
        Some(path) => text = std::fs::read_to_string(path)?,
        None => drop((&mut *streams.input).take(INPUT_BYTES_MAX).read_to_string(&mut text)?),
    }
    let path = options.file.clone().unwrap_or_else(|| "/dev/stdin".into());
    // What does not load here would not load there.
    parse_in(Mode::Fallback, &text, &path).map_err(|e| message(&e))?;
    let (out, dropped) = ::config::alertmanager::export(&text).map_err(|problem| problem.message)?;
    for key in dropped {
        writeln!(streams.err, "left out, {key}")?;
    }
    streams.out.write_all(out.as_bytes())?;
    Ok(())
}
