//! `ferula check config`: a configuration with all that it names, as far as it is there without a server: rule files,
//! credentials, certificates, target lists.
//!
//! Compat: prometheus `cmd/promtool/main.go`, `CheckConfig`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::config::http_client::Tls;
use ::config::prometheus::{Alertmanager, Discovery, FileDiscovery, ScrapeConfig};
use ::config::{Config, TargetGroup, paths, relabel, rules, target_group};
use clap::Args;
use model::LabelsBuilder;
use model::quote::go_quote;

use super::rules::{Lint, Verdict, check_files};
use super::{Outcome, Streams, existing_file};
use crate::scrape::dry_run;

#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as on the command line")]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only check the config file syntax, ignoring file and content validation referenced in the config.
    #[arg(long)]
    syntax_only: bool,
    /// Linting checks to apply to the rules/scrape configs specified in the config. Available options are: all,
    /// duplicate-rules, none, too-long-scrape-interval. Use --lint=none to disable linting.
    #[arg(long, default_value = "duplicate-rules")]
    lint: String,
    /// Make lint errors exit with exit code 3.
    #[arg(long)]
    lint_fatal: bool,
    /// Ignore unknown fields in the rule groups read by the config files. This is useful when you want to extend rule
    /// files with custom metadata. Ensure that those fields are removed before loading them into the server as it
    /// performs strict checks by default.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Check config file for Prometheus in Agent mode.
    #[arg(long)]
    agent: bool,
    /// The config files to check.
    #[arg(value_name = "config-files", required = true, value_parser = existing_file)]
    files: Vec<PathBuf>,
}

pub(super) fn run(
    options: &Options,
    lookback: Duration,
    promql: promql::parse::Options,
    streams: &mut Streams<'_>,
) -> io::Result<Outcome> {
    let names: Vec<&str> = options.lint.split(',').collect();
    let is_off = names.contains(&"none");
    let minds_interval =
        !is_off && names.iter().any(|name| ["all", "too-long-scrape-interval"].contains(name));
    let of_rules =
        names.iter().copied().filter(|name| !is_off && !matches!(*name, "" | "too-long-scrape-interval"));
    let rules = rules::Options {
        ignore_unknown_fields: options.ignore_unknown_fields,
        promql,
        ..rules::Options::default()
    };
    let lint = Lint::parse(of_rules, options.lint_fatal, rules, streams)?;
    let mut verdict = Verdict::default();
    for file in &options.files {
        writeln!(streams.out, "Checking {}", file.display())?;
        let mut warnings = Vec::new();
        let checked = check_file(file, options, &mut warnings);
        for warning in warnings {
            writeln!(streams.out, "  WARNING: {warning}")?;
        }
        let (config, rule_files) = match checked {
            Err(e) => {
                verdict = Verdict { failed: true, has_errors: true };
                writeln!(streams.err, "  FAILED: {e}")?;
                writeln!(streams.out)?;
                continue;
            }
            Ok(checked) => checked,
        };
        for warning in &config.warnings {
            writeln!(streams.err, "  WARNING: {}: {warning}", file.display())?;
        }
        if !rule_files.is_empty() {
            writeln!(streams.out, "  SUCCESS: {} rule files found", rule_files.len())?;
        }
        writeln!(streams.out, " SUCCESS: {} is valid prometheus config file syntax\n", file.display())?;
        if options.syntax_only {
            continue;
        }
        if minds_interval {
            verdict.failed |= !check_intervals(&config.scrape_configs, lookback, streams)?;
        }
        let of_rules = check_files(&rule_files, &lint, streams)?;
        verdict.failed |= of_rules.failed;
        verdict.has_errors |= of_rules.has_errors;
    }
    Ok(verdict.outcome(lint.is_fatal))
}

/// Says no of the first job whose samples would be stale before the next scrape.
fn check_intervals(
    jobs: &[Arc<ScrapeConfig>],
    lookback: Duration,
    streams: &mut Streams<'_>,
) -> io::Result<bool> {
    let is_long = |job: &&Arc<ScrapeConfig>| !lookback.is_zero() && job.scrape_interval >= lookback;
    let Some(job) = jobs.iter().find(is_long) else { return Ok(true) };
    writeln!(
        streams.err,
        "  FAILED: too long scrape interval found, data point will be marked as stale - job: {}, interval: {}",
        job.job_name,
        model::duration::format(job.scrape_interval)
    )?;
    Ok(false)
}

type Checked = (Config, Vec<PathBuf>);

fn check_file(file: &Path, options: &Options, warnings: &mut Vec<String>) -> Result<Checked, String> {
    let mut config = ::config::prometheus::load_main(file).map_err(|e| e.to_string())?;
    if let (true, Some(refusal)) = (options.agent, config.agent_mode_refusal()) {
        return Err(refusal.to_owned());
    }
    let mut rule_files = Vec::new();
    if !options.syntax_only {
        rule_files = find_rule_files(&config.rule_files)?;
        // Once more, with the jobs of further files.
        config =
            ::config::prometheus::load(file).map_err(|e| format!("error loading scrape configs: {e}"))?;
    }
    for job in &config.scrape_configs {
        if !options.syntax_only {
            let credentials = job.http.authorization.as_ref().and_then(|auth| auth.credentials.path());
            check_exists("authorization credentials or bearer token file", credentials)?;
            check_tls(&job.http.tls)?;
        }
        let check_group = |group: &Arc<TargetGroup>| dry_run::check_group(group, job);
        for section in &job.discovery {
            match section {
                Discovery::Kubernetes(section) if !options.syntax_only => check_tls(&section.http.tls)?,
                Discovery::File(section) if !options.syntax_only => {
                    check_lists(section, &check_group, warnings, |pattern| {
                        let job = go_quote(job.job_name.as_bytes());
                        format!("file {pattern} for file_sd in scrape job {job} does not exist")
                    })?;
                }
                Discovery::Static(groups) => {
                    groups.iter().try_for_each(|group| check_group(&Arc::new(group.clone())))?;
                }
                _ => {}
            }
        }
    }
    for set in &config.alerting.alertmanagers {
        let check_group = |group: &Arc<TargetGroup>| check_alertmanagers(group, set);
        for section in &set.discovery {
            match section {
                Discovery::File(section) if !options.syntax_only => {
                    check_lists(section, &check_group, warnings, |pattern| {
                        format!("file {pattern} for file_sd in alertmanager config does not exist")
                    })?;
                }
                Discovery::Static(groups) => {
                    groups.iter().try_for_each(|group| check_group(&Arc::new(group.clone())))?;
                }
                _ => {}
            }
        }
    }
    Ok((config, rule_files))
}

/// A name without a star must lead to a file.
fn find_rule_files(patterns: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for pattern in patterns {
        let found = paths::glob(pattern).map_err(|e| e.to_string())?;
        if !pattern.contains('*') {
            let Some(first) = found.first() else {
                return Err(format!("{} does not point to an existing file", go_quote(pattern.as_bytes())));
            };
            check_exists("rule file", Some(first))?;
        }
        files.extend(found);
    }
    Ok(files)
}

fn check_exists(what: &str, path: Option<&Path>) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    std::fs::metadata(path).map(drop).map_err(|e| {
        let reason = match e.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => e.to_string(),
        };
        let path = path.display().to_string();
        format!("error checking {what} {}: stat {path}: {reason}", go_quote(path.as_bytes()))
    })
}

fn check_tls(tls: &Tls) -> Result<(), String> {
    check_exists("client cert file", tls.cert.as_ref().and_then(|cert| cert.path()))?;
    check_exists("client key file", tls.key.as_ref().and_then(|key| key.path()))
}

/// Reads the target lists that a section names and hands their groups to `check_group`.
fn check_lists(
    section: &FileDiscovery,
    check_group: &dyn Fn(&Arc<TargetGroup>) -> Result<(), String>,
    warnings: &mut Vec<String>,
    missing: impl Fn(&str) -> String,
) -> Result<(), String> {
    for pattern in &section.files {
        let quoted = go_quote(pattern.as_bytes());
        let found = paths::glob(pattern).map_err(|e| e.to_string())?;
        if found.is_empty() {
            warnings.push(missing(&quoted));
        }
        for path in found {
            let groups = read_list(&path).map_err(|e| format!("checking SD file {quoted}: {e}"))?;
            groups.into_iter().try_for_each(|group| {
                // Groups of a file have no name when they are only looked at.
                check_group(&Arc::new(TargetGroup { source: String::new(), ..group }))
            })?;
        }
    }
    Ok(())
}

fn read_list(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("open {}: {e}", path.display()))?;
    target_group::parse_file(path, &text).map_err(|e| e.to_string())
}

/// Whether the addresses of a group are such that alerts can be sent to them.
fn check_alertmanagers(group: &TargetGroup, set: &Alertmanager) -> Result<(), String> {
    for target in &group.targets {
        let mut labels = LabelsBuilder::from(&group.labels);
        labels.set(b"__scheme__", set.scheme.as_bytes());
        labels.set(b"__alerts_path__", format!("{}/api/v2/alerts", set.path_prefix).as_bytes());
        for (name, value) in target {
            labels.set(name, value);
        }
        if !relabel::apply(&set.relabel, &mut labels) {
            continue;
        }
        let address = labels.get(b"__address__").unwrap_or_default();
        if address.contains(&b'/') {
            return Err(format!("{} is not a valid hostname", go_quote(address)));
        }
    }
    Ok(())
}
