//! `ferula check rules`: rule files, or one on the standard input, and rules that are there twice.
//!
//! Compat: prometheus `cmd/promtool/main.go`, `CheckRules` and `checkDuplicates`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use ::config::rules::{self, RuleGroup, RuleKind};
use clap::Args;
use model::quote::go_quote;

use super::{Outcome, Streams, existing_file};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Linting checks to apply. Available options are: all, duplicate-rules, none. Use --lint=none to disable linting.
    #[arg(long, default_value = "duplicate-rules")]
    lint: String,
    /// Make lint errors exit with exit code 3.
    #[arg(long)]
    lint_fatal: bool,
    /// Ignore unknown fields in the rule files. This is useful when you want to extend rule files with custom metadata.
    /// Ensure that those fields are removed before loading them into the server as it performs strict checks by default.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// The rule files to check, default is read from standard input.
    #[arg(value_name = "rule-files", value_parser = existing_file)]
    files: Vec<PathBuf>,
}

/// What is minded beyond validity.
#[derive(Clone, Debug)]
pub(super) struct Lint {
    pub(super) duplicates: bool,
    pub(super) is_fatal: bool,
    pub(super) rules: rules::Options,
}

impl Lint {
    /// Reads the names of `--lint`; unknown ones are told.
    pub(super) fn parse<'n>(
        names: impl Iterator<Item = &'n str>,
        is_fatal: bool,
        rules: rules::Options,
        streams: &mut Streams<'_>,
    ) -> io::Result<Self> {
        let mut lint = Self { duplicates: false, is_fatal, rules };
        for name in names {
            match name {
                "all" | "duplicate-rules" => lint.duplicates = true,
                "none" => {}
                other => {
                    let other = go_quote(other.as_bytes());
                    writeln!(streams.out, "WARNING: unknown lint option: {other}")?;
                }
            }
        }
        Ok(lint)
    }
}

/// What came of checking, for exit codes: complaints of the linter are failures, but no errors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    pub(super) failed: bool,
    pub(super) has_errors: bool,
}

impl Verdict {
    pub(super) const fn outcome(self, lint_is_fatal: bool) -> Outcome {
        match (self.failed, self.has_errors) {
            (true, true) => Outcome::Failed,
            (true, false) if lint_is_fatal => Outcome::Linted,
            _ => Outcome::Passed,
        }
    }
}

pub(super) fn run(
    options: &Options,
    promql: promql::parse::Options,
    streams: &mut Streams<'_>,
) -> io::Result<Outcome> {
    let rules = rules::Options {
        ignore_unknown_fields: options.ignore_unknown_fields,
        promql,
        ..rules::Options::default()
    };
    let names = options.lint.split(',').filter(|_| !options.lint.is_empty());
    let lint = Lint::parse(names, options.lint_fatal, rules, streams)?;
    let verdict = if options.files.is_empty() {
        check_input(&lint, streams)?
    } else {
        check_files(&options.files, &lint, streams)?
    };
    Ok(verdict.outcome(lint.is_fatal))
}

fn check_input(lint: &Lint, streams: &mut Streams<'_>) -> io::Result<Verdict> {
    writeln!(streams.out, "Checking standard input")?;
    let mut text = String::new();
    if let Err(e) = streams.input.read_to_string(&mut text) {
        writeln!(streams.err, "  FAILED: {e}")?;
        return Ok(Verdict { failed: true, has_errors: true });
    }
    match rules::parse(&text, Path::new("-"), &lint.rules) {
        Ok(file) => judge(&file.groups, lint, streams),
        Err(e) => {
            writeln!(streams.err, "  FAILED:")?;
            for problem in e.problems() {
                match problem.line {
                    0 => writeln!(streams.err, "{}", problem.message)?,
                    line => writeln!(streams.err, "{line}:{}: {}", problem.column, problem.message)?,
                }
            }
            Ok(Verdict { failed: true, has_errors: true })
        }
    }
}

/// Checks rule files one by one. After an error, files that are valid still have theirs said.
pub(super) fn check_files(files: &[PathBuf], lint: &Lint, streams: &mut Streams<'_>) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    for file in files {
        writeln!(streams.out, "Checking {}", file.display())?;
        match rules::load_with(file, &lint.rules) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!(file = %file.display(), "{warning}");
                }
                let one = judge(&loaded.groups, lint, streams)?;
                verdict.failed |= one.failed;
            }
            Err(e) => {
                verdict = Verdict { failed: true, has_errors: true };
                writeln!(streams.err, "  FAILED:\n{e}")?;
            }
        }
    }
    Ok(verdict)
}

fn judge(groups: &[RuleGroup], lint: &Lint, streams: &mut Streams<'_>) -> io::Result<Verdict> {
    let doubled = if lint.duplicates { duplicates(groups) } else { BTreeSet::new() };
    if doubled.is_empty() {
        let n_rules: usize = groups.iter().map(|group| group.rules.len()).sum();
        writeln!(streams.out, "  SUCCESS: {n_rules} rules found\n")?;
        return Ok(Verdict::default());
    }
    let mut text = format!("lint error {} duplicate rule(s) found.\n", doubled.len());
    for (metric, labels) in &doubled {
        let _ = writeln!(text, "Metric: {metric}\nLabel(s):");
        for (name, value) in *labels {
            let _ = writeln!(text, "\t{name}: {value}");
        }
    }
    text.push_str("Might cause inconsistency while recording expressions");
    writeln!(streams.err, "  FAILED:\n{text}")?;
    writeln!(streams.out)?;
    Ok(Verdict { failed: true, has_errors: false })
}

/// The names and labels that several rules have.
fn duplicates(groups: &[RuleGroup]) -> BTreeSet<(&str, &BTreeMap<String, String>)> {
    let mut seen = BTreeSet::new();
    let rules = groups.iter().flat_map(|group| &group.rules).map(|rule| {
        let (RuleKind::Recording { name } | RuleKind::Alerting { name, .. }) = &rule.kind;
        (name.as_str(), &rule.labels)
    });
    rules.filter(|key| !seen.insert(*key)).collect()
}
