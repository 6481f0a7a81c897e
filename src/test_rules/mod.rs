//! `ferula test rules`: files of unit tests for rules, run on a store in memory with the server's own rules code.
//!
//! Reading order: this module (files, exit codes, what is printed), [`case`](self::case) (one test: input, evaluation,
//! comparison), [`memory`] (the store), [`diff`] and [`junit`] (other shapes of the same findings).
//!
//! Compat: prometheus `cmd/promtool/unittest.go` (3.14), flags, output and exit codes. Ours beyond that: a failed
//! file is named, and errors of the file's YAML have a place.

mod case;
mod diff;
mod junit;
mod memory;
mod print;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use config::rule_tests::{self, File};
use model::quote::go_quote;
use promql::{Engine, EngineOptions};

use self::case::Runner;
use self::junit::Suite;

/// Unit testing.
#[derive(Debug, Parser)]
#[command(name = "ferula test", version, max_term_width = 100)]
struct Test {
    /// Comma separated features of the query language to enable, as the server's flag of that name.
    #[arg(long = "enable-feature", global = true)]
    features: Vec<String>,
    /// File path to store `JUnit` XML test results.
    #[arg(long, global = true)]
    junit: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Unit tests for rules.
    Rules(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// If set, will only run test groups whose names match the regular expression. Can be specified multiple times.
    #[arg(long)]
    run: Vec<String>,
    /// Enable unit test debugging.
    #[arg(long)]
    debug: bool,
    /// Print colored differential output between expected & received output.
    #[arg(long)]
    diff: bool,
    /// Ignore unknown fields in the rule files. This is useful when you want to extend rule files with custom metadata.
    /// Ensure that those fields are removed before loading them into the server as it performs strict checks by default.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// The unit test file.
    #[arg(value_name = "test-rule-file", required = true, value_parser = crate::check::existing_file)]
    files: Vec<PathBuf>,
}

/// Where the command writes.
struct Streams<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

/// Runs the command of these arguments, which begin behind the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    ExitCode::from(run_with(args, &mut Streams { out: &mut out, err: &mut err }))
}

fn run_with(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> u8 {
    let parsed = match Test::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help and version arrive here, too.
            let to: &mut dyn Write = if e.use_stderr() { streams.err } else { streams.out };
            let _ = write!(to, "{}", e.render());
            return u8::from(e.use_stderr());
        }
    };
    let Command::Rules(options) = &parsed.command;
    let done = execute(&parsed, options, streams).and_then(|passed| {
        streams.out.flush()?;
        Ok(passed)
    });
    match done {
        Ok(passed) => u8::from(!passed),
        // Whoever reads has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(e) => {
            let _ = writeln!(streams.err, "{e}");
            1
        }
    }
}

/// Whether all tests passed.
fn execute(test: &Test, options: &Options, streams: &mut Streams<'_>) -> io::Result<bool> {
    let promql = crate::check::parser_options(&test.features, streams.out)?;
    let names = match names_pattern(&options.run) {
        Ok(names) => names,
        Err(e) => {
            writeln!(streams.err, "--run: {e}")?;
            return Ok(false);
        }
    };
    let mut report = match &test.junit {
        None => None,
        Some(path) => Some(std::fs::File::create(path)?),
    };
    let mut engine = EngineOptions { threads: 1, ..EngineOptions::default() };
    engine.features.parser = promql;
    engine.features.delayed_name_removal =
        test.features.iter().any(|list| list.split(',').any(|one| one == "promql-delayed-name-removal"));
    let runner = Runner {
        engine: Arc::new(Engine::new(engine)),
        rules: config::rules::Options {
            ignore_unknown_fields: options.ignore_unknown_fields,
            promql,
            ..config::rules::Options::default()
        },
        diff: options.diff,
        debug: options.debug,
    };
    let mut suites = Vec::new();
    let mut passed = true;
    for path in &options.files {
        let mut suite = Suite::new(&path.display().to_string());
        let errors = run_file(path, &runner, names.as_ref(), &mut suite, streams)?;
        if errors.is_empty() {
            writeln!(streams.out, "  SUCCESS")?;
        } else {
            passed = false;
            writeln!(streams.err, "  FAILED: {}", path.display())?;
            for error in &errors {
                writeln!(streams.err, "{error}")?;
                writeln!(streams.out)?;
            }
        }
        writeln!(streams.out)?;
        suites.push(suite);
    }
    if let Some(report) = &mut report
        && let Err(e) = report.write_all(junit::xml(&suites).as_bytes())
    {
        writeln!(streams.err, "failed to write JUnit XML: {e}")?;
    }
    Ok(passed)
}

fn names_pattern(patterns: &[String]) -> Result<Option<model::Regex>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let pattern = patterns.join("|");
    let invalid = |e| format!("error parsing regexp {}: {e}", go_quote(pattern.as_bytes()));
    model::Regex::unanchored(pattern.as_bytes()).map(Some).map_err(invalid)
}

/// What is wrong with the tests of one file.
fn run_file(
    path: &Path,
    runner: &Runner,
    names: Option<&model::Regex>,
    suite: &mut Suite,
    streams: &mut Streams<'_>,
) -> io::Result<Vec<String>> {
    let mut abort = |message: String| {
        suite.abort(&message);
        Ok(vec![message])
    };
    let file = match rule_tests::load(path) {
        Ok(file) => file,
        Err(e) => return abort(e.to_string()),
    };
    let rule_files = match rule_files(path, &file, streams)? {
        Ok(rule_files) => rule_files,
        Err(e) => return abort(e),
    };
    let mut order = HashMap::new();
    for (i, group) in file.group_eval_order.iter().enumerate() {
        if order.insert(group.as_str(), i).is_some() {
            return abort(format!("group name repeated in evaluation order: {group}"));
        }
    }
    suite.begin();
    let interval = or_default(file.evaluation_interval, Duration::from_mins(1));
    runner.engine.set_default_subquery_step(interval);
    let mut errors = Vec::new();
    for (i, test) in file.tests.iter().enumerate() {
        if names.is_some_and(|names| !names.is_match(test.name.as_bytes())) {
            continue;
        }
        let name = if test.name.is_empty() { format!("unnamed#{i}") } else { test.name.clone() };
        let surroundings = case::Surroundings {
            name: &name,
            step: interval,
            input_step: or_default(test.interval, interval),
            order: &order,
            rule_files: &rule_files,
            is_fuzzy: file.fuzzy_compare,
        };
        let found = runner.run(test, &surroundings, streams.err)?;
        suite.case(&name, &found);
        errors.extend(found);
    }
    Ok(errors)
}

fn or_default(duration: Duration, default: Duration) -> Duration {
    if duration.is_zero() { default } else { duration }
}

/// The files that the patterns name, relative to the folder of the file of tests.
fn rule_files(
    path: &Path,
    file: &File,
    streams: &mut Streams<'_>,
) -> io::Result<Result<Vec<PathBuf>, String>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for pattern in &file.rule_files {
        // A pattern that is absolute stays so.
        let pattern = if pattern.is_empty() { PathBuf::new() } else { folder.join(pattern) };
        let shown = clean(&pattern);
        let Ok(files) = config::paths::glob(&shown) else {
            return Ok(Err("syntax error in pattern".to_owned()));
        };
        if files.is_empty() {
            writeln!(streams.err, "  WARNING: no file match pattern {shown}")?;
        }
        found.extend(files);
    }
    Ok(Ok(found))
}

/// The path without what does not change it, as Go joins paths.
fn clean(path: &Path) -> String {
    use std::path::Component;

    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            component => out.push(component),
        }
    }
    out.display().to_string()
}

#[cfg(test)]
mod tests;
