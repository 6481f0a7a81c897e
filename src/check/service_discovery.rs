//! `ferula check service-discovery`: what the discovery of one job finds, and what its rules make of it.
//!
//! Compat: prometheus `cmd/promtool/sd.go`, `CheckSD`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::config::prometheus::ScrapeConfig;
use clap::Args;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{Outcome, Streams, existing_file};
use crate::discovery;
use crate::scrape::dry_run::{self, Relabelled};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The time to wait for discovery results.
    #[arg(long, default_value = "30s", value_parser = model::duration::parse)]
    timeout: Duration,
    /// The prometheus config file.
    #[arg(value_name = "config-file", value_parser = existing_file)]
    config_file: PathBuf,
    /// The job to run service discovery for.
    job: String,
}

pub(super) fn run(options: &Options, streams: &mut Streams<'_>) -> io::Result<Outcome> {
    let config = match ::config::prometheus::load(&options.config_file) {
        Ok(config) => config,
        Err(e) => {
            writeln!(streams.err, "Cannot load config {e}")?;
            return Ok(Outcome::Failed);
        }
    };
    let Some(job) = config.scrape_configs.iter().find(|job| job.job_name == options.job) else {
        writeln!(streams.err, "Job {} not found. Select one of:", options.job)?;
        for job in &config.scrape_configs {
            writeln!(streams.err, "\t{}", job.job_name)?;
        }
        return Ok(Outcome::Failed);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sets = runtime.block_on(discover(job, options.timeout));
    let mut found: Vec<Relabelled> = Vec::new();
    for group in sets.iter().flat_map(|sets| sets.values()).flatten() {
        for target in dry_run::relabelled(group, job) {
            if !found.contains(&target) {
                found.push(target);
            }
        }
    }
    let shown = Value::Array(found.iter().map(to_json).collect());
    write!(streams.out, "{}", serde_json::to_string_pretty(&shown)?)?;
    Ok(Outcome::Passed)
}

/// What is known when time is up.
async fn discover(job: &ScrapeConfig, timeout: Duration) -> Option<Arc<discovery::TargetSets>> {
    let stop = CancellationToken::new();
    let manager = discovery::Manager::new("check", stop.clone());
    let updates = manager.subscribe();
    manager.apply(&BTreeMap::from([(job.job_name.clone(), job.discovery.clone())]));
    let ended = tokio::time::timeout(timeout, manager.run()).await;
    stop.cancel();
    debug_assert!(ended.is_err(), "BUG: discovery ended by itself");
    let sets = Arc::clone(&updates.borrow());
    Some(sets)
}

fn to_json(target: &Relabelled) -> Value {
    let labels = |labels: &model::Labels| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Value::Object(labels.iter().map(|(name, value)| (text(name), Value::String(text(value)))).collect())
    };
    let mut shown = Map::new();
    shown.insert("discoveredLabels".to_owned(), labels(&target.discovered));
    match &target.labels {
        Ok(relabelled) => drop(shown.insert("labels".to_owned(), labels(relabelled))),
        Err(e) => {
            shown.insert("labels".to_owned(), Value::Object(Map::new()));
            shown.insert("error".to_owned(), Value::String(e.clone()));
        }
    }
    Value::Object(shown)
}
