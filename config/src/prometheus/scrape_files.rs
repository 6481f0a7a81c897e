//! `scrape_config_files`: further jobs in files of their own, with the globals of the main file.
//!
//! Compat: prometheus `config`, `Config.GetScrapeConfigs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::quote::go_quote;

use super::global::RawGlobal;
use super::scrape::{RawJobs, decode_jobs};
use super::{Config, ScrapeConfig};
use crate::error::io_reason;
use crate::yaml::decode::Dialect;
use crate::yaml::tree::{self, Pos};
use crate::yaml::{Decoder, Issue};
use crate::{Error, Problem, paths};

/// Appends the jobs of all files that the patterns of `config` match now.
pub(super) fn append(config: &mut Config, global: &RawGlobal) -> Result<(), Error> {
    let main = "main config file".to_owned();
    let mut seen: HashMap<String, String> =
        config.scrape_configs.iter().map(|job| (job.job_name.clone(), main.clone())).collect();
    for pattern in &config.scrape_config_files {
        let files = paths::glob(pattern).map_err(|e| {
            let shown = go_quote(pattern.as_bytes());
            let message = format!("error retrieving scrape config files for {shown}: {e}");
            Error::bare(Path::new(pattern), Problem { line: 0, column: 0, message })
        })?;
        for file in files {
            let name = go_quote(absolute(&file).to_string_lossy().as_bytes());
            let mut decoder = Decoder::new(Dialect::V2);
            let jobs = read(&mut decoder, &file, global, &mut seen, &name).map_err(|issue| {
                let message = format!("{name}: {}", issue.text);
                Error::plain(&file, Problem { message, ..Problem::from(issue) })
            })?;
            config.scrape_configs.extend(jobs.into_iter().map(Arc::new));
            let warnings = decoder.warnings.into_iter();
            config.warnings.extend(warnings.map(|text| format!("{}: {text}", file.display())));
        }
    }
    Ok(())
}

fn absolute(file: &Path) -> PathBuf {
    let dir = std::env::current_dir().unwrap_or_default();
    paths::join(&dir, &file.to_string_lossy()).into()
}

fn read(
    decoder: &mut Decoder,
    file: &Path,
    global: &RawGlobal,
    seen: &mut HashMap<String, String>,
    name: &str,
) -> Result<Vec<ScrapeConfig>, Issue> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Issue::new(Pos::default(), format!("open {}: {}", file.display(), io_reason(&e))))?;
    let base = file.parent().unwrap_or(Path::new(""));
    let mut jobs = RawJobs::new();
    if let Some(root) = tree::parse(&text)?.root {
        decoder.fields(&root, "config.ScrapeConfigs", &mut |decoder, key, value| {
            if key == "scrape_configs" {
                jobs = decode_jobs(decoder, base, value)?;
            }
            Ok(key == "scrape_configs")
        })?;
    }
    decoder.finish()?;
    let mut resolved = Vec::new();
    for (pos, job) in jobs {
        let job = job.ok_or_else(|| Issue::new(pos, "empty or null scrape config section"))?;
        let job = job.resolve(global)?;
        if let Some(first) = seen.insert(job.job_name.clone(), name.to_owned()) {
            let job = go_quote(job.job_name.as_bytes());
            let text = format!("found multiple scrape configs with job name {job}, first found in {first}");
            return Err(Issue::new(pos, text));
        }
        resolved.push(job);
    }
    Ok(resolved)
}
