//! `prometheus.yml` from YAML: the top level, and the order in which its sections are judged.
//!
//! What later versions of Ferula will do is read, checked and printed all the same, with a warning.
//!
//! Compat: prometheus `config`, `LoadFile` and `Config.UnmarshalYAML`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use model::Labels;
use model::quote::go_quote;

use super::alerting::RawAlerting;
use super::global::{RawGlobal, expand_labels};
use super::otlp::RawOtlp;
use super::remote::{self, RawWrite, decode_read};
use super::scrape::{RawJobs, decode_jobs};
use super::storage::decode_storage;
use super::tracing::{Tracing, decode_tracing};
use super::{Alerting, Config, Defaults, Global, ScrapeConfig, Storage, print, scrape_files};
use crate::paths;
use crate::yaml::decode::Dialect;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoder, Issue, Node, tree};
use crate::{Error, Problem};

/// Go's default, which means nothing here but is part of the printed text.
const GOGC: i64 = 75;

/// Reads and validates a configuration file and the files of jobs that it names.
///
/// # Errors
/// A file cannot be read, or its text is refused.
pub fn load(path: &Path) -> Result<Config, Error> {
    load_with(path, &Defaults::default())
}

/// As [`load`], with what flags contribute.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, defaults: &Defaults) -> Result<Config, Error> {
    let (mut config, global) = read_main(path, defaults)?;
    scrape_files::append(&mut config, &global)?;
    Ok(config)
}

/// As [`load`], of the main file alone.
///
/// # Errors
/// As [`load`].
pub fn load_main(path: &Path) -> Result<Config, Error> {
    read_main(path, &Defaults::default()).map(|(config, _)| config)
}

fn read_main(path: &Path, defaults: &Defaults) -> Result<(Config, RawGlobal), Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    parse_as(&text, path, path.parent().unwrap_or(Path::new("")), defaults)
}

/// Validates the text of a main file whose relative paths belong to `base_dir`. Files that it names are not read.
///
/// # Errors
/// The text is refused.
pub fn parse(text: &str, base_dir: &Path) -> Result<Config, Error> {
    let file = base_dir.join("prometheus.yml");
    parse_as(text, &file, base_dir, &Defaults::default()).map(|(config, _)| config)
}

/// A number that changes with the main file or any file of rules or jobs that it names now. The file need not be
/// valid otherwise.
///
/// # Errors
/// A file cannot be read, or the main one is no YAML.
///
/// Compat: prometheus `config`, `GenerateChecksum`.
pub fn fingerprint(path: &Path) -> Result<[u8; 16], Error> {
    let mut hash = Md5::new();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    hash.update(&text);
    let document = tree::parse(&text).map_err(|issue| Error::config(path, Problem::from(issue)))?;
    let base = path.parent().unwrap_or(Path::new(""));
    // What is wrong with the rest is for the reading to say.
    let mut patterns = Vec::new();
    if let Some(root) = &document.root {
        let mut decoder = Decoder::new(Dialect::V2);
        let read = decoder.fields(root, "config.plain", &mut |decoder, key, value| {
            if matches!(key, "rule_files" | "scrape_config_files") {
                patterns.extend(decode_patterns(decoder, value)?.into_iter().map(|(_, pattern)| pattern));
            }
            Ok(true)
        });
        read.map_err(|issue| Error::config(path, Problem::from(issue)))?;
    }
    for pattern in patterns {
        for file in paths::glob(&paths::join(base, &pattern)).unwrap_or_default() {
            let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, &e))?;
            for part in [file.as_os_str().as_encoded_bytes(), &bytes] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
        }
    }
    Ok(hash.finalize().into())
}

pub(super) fn parse_as(
    text: &str,
    file: &Path,
    base: &Path,
    defaults: &Defaults,
) -> Result<(Config, RawGlobal), Error> {
    let mut decoder = Decoder::new(Dialect::V2);
    decode(&mut decoder, text, base, defaults).map_err(|issue| Error::config(file, Problem::from(issue)))
}

fn decode(
    decoder: &mut Decoder,
    text: &str,
    base: &Path,
    defaults: &Defaults,
) -> Result<(Config, RawGlobal), Issue> {
    let document = tree::parse(text)?;
    let mut raw = RawConfig::default();
    if let Some(root) = &document.root {
        raw.decode(decoder, base, defaults, root)?;
    }
    decoder.finish()?;
    if document.has_more {
        decoder
            .warnings
            .push("only the first document of the file is read, what follows is ignored".to_owned());
    }
    raw.resolve(decoder, base, defaults)
}

#[derive(Default)]
struct RawConfig {
    global: Option<RawGlobal>,
    /// Zero for the default.
    gogc: i64,
    alerting: Option<RawAlerting>,
    rule_files: Vec<(Pos, String)>,
    scrape_config_files: Vec<(Pos, String)>,
    scrape_configs: RawJobs,
    storage: Storage,
    tracing: Option<Tracing>,
    /// `None` for a null element.
    remote_write: Vec<(Pos, Option<RawWrite>)>,
    remote_read: Vec<(Pos, Option<remote::Read>)>,
    otlp: RawOtlp,
}

impl RawConfig {
    fn decode(
        &mut self,
        decoder: &mut Decoder,
        base: &Path,
        defaults: &Defaults,
        root: &Node,
    ) -> Result<(), Issue> {
        decoder.fields(root, "config.plain", &mut |decoder, key, value| {
            match key {
                "global" if value.is_null() => self.global = None,
                "global" => self.global = RawGlobal::decode(decoder, base, defaults, value)?,
                "runtime" if value.is_null() => self.gogc = 0,
                "runtime" => {
                    decoder.fields(value, "config.RuntimeConfig", &mut |decoder, key, value| {
                        if key == "gogc" {
                            decoder.set(value, &mut self.gogc)?;
                        }
                        Ok(key == "gogc")
                    })?;
                }
                "alerting" => self.alerting = RawAlerting::decode(decoder, base, value)?,
                "rule_files" => self.rule_files = decode_patterns(decoder, value)?,
                "scrape_config_files" => self.scrape_config_files = decode_patterns(decoder, value)?,
                "scrape_configs" => self.scrape_configs = decode_jobs(decoder, base, value)?,
                "storage" if value.is_null() => self.storage = Storage::default(),
                "storage" => decode_storage(decoder, value, &mut self.storage)?,
                "tracing" => self.tracing = decode_tracing(decoder, base, value)?,
                "remote_write" => {
                    self.remote_write.clear();
                    decoder.items(value, "[]*config.RemoteWriteConfig", &mut |decoder, item| {
                        if item.is_null() {
                            self.remote_write.push((item.pos, None));
                        } else if let Some(write) = RawWrite::decode(decoder, base, item)? {
                            self.remote_write.push((item.pos, Some(write)));
                        }
                        Ok(())
                    })?;
                }
                "remote_read" => {
                    self.remote_read.clear();
                    decoder.items(value, "[]*config.RemoteReadConfig", &mut |decoder, item| {
                        if item.is_null() {
                            self.remote_read.push((item.pos, None));
                        } else if let Some(read) = decode_read(decoder, base, item)? {
                            self.remote_read.push((item.pos, Some(read)));
                        }
                        Ok(())
                    })?;
                }
                "otlp" => self.otlp = RawOtlp::decode(decoder, value)?.unwrap_or_default(),
                _ => return Ok(false),
            }
            if matches!(key, "remote_write" | "remote_read") && !is_empty_list(value) {
                let what = if key == "remote_write" { "sent" } else { "fetched" };
                decoder.warn(value.pos, &format!("section {key} has no effect yet: no samples are {what}"));
            }
            Ok(true)
        })?;
        Ok(())
    }

    /// Upstream's order of checks.
    fn resolve(
        self,
        decoder: &mut Decoder,
        base: &Path,
        defaults: &Defaults,
    ) -> Result<(Config, RawGlobal), Issue> {
        let global = self.global.unwrap_or_else(|| RawGlobal::missing(defaults));
        let scheme = global.scheme.unwrap_or_default();
        check_patterns(&self.rule_files, "rule file")?;
        check_patterns(&self.scrape_config_files, "scrape config file")?;
        let scrape_configs = resolve_jobs(self.scrape_configs, &global)?;
        let alerting = match self.alerting {
            Some(alerting) => alerting.resolve(scheme)?,
            None => Alerting::default(),
        };
        let mut names = HashSet::new();
        let mut remote_write = Vec::new();
        for (pos, write) in self.remote_write {
            let write = write.ok_or_else(|| Issue::new(pos, "empty or null remote write config section"))?;
            check_name(&mut names, write.name(), "write", write.pos)?;
            remote_write.push(write.resolve(scheme)?);
        }
        let mut names = HashSet::new();
        let mut remote_read = Vec::new();
        for (pos, read) in self.remote_read {
            let read = read.ok_or_else(|| Issue::new(pos, "empty or null remote read config section"))?;
            check_name(&mut names, &read.name, "read", pos)?;
            remote_read.push(read);
        }
        let external_labels = expand_labels(decoder, &global.external_labels);
        let otlp = self.otlp.resolve(scheme)?;
        let join = |patterns: &[(Pos, String)]| {
            patterns.iter().map(|(_, path)| paths::join(base, path)).collect::<Vec<_>>()
        };
        let mut config = Config {
            gogc: if self.gogc == 0 { default_gogc() } else { self.gogc },
            scrape_configs,
            rule_files: join(&self.rule_files),
            scrape_config_files: join(&self.scrape_config_files),
            alerting,
            storage: self.storage,
            tracing: self.tracing,
            remote_write,
            remote_read,
            otlp,
            text: String::new(),
            warnings: Vec::new(),
            global: Global {
                scrape_interval: global.scrape_interval,
                scrape_timeout: global.scrape_timeout,
                evaluation_interval: global.evaluation_interval,
                rule_query_offset: global.rule_query_offset,
                external_labels: Labels::from_pairs(&external_labels),
                query_log_file: global.query_log_file.clone(),
                name_scheme: scheme,
            },
        };
        config.text = print::print(&config, &global, &external_labels, defaults);
        config.warnings = std::mem::take(&mut decoder.warnings);
        Ok((config, global))
    }
}

fn decode_patterns(decoder: &mut Decoder, node: &Node) -> Result<Vec<(Pos, String)>, Issue> {
    let mut patterns = Vec::new();
    decoder.items(node, "[]string", &mut |decoder, item| {
        patterns.extend(String::decode(decoder, item)?.map(|text| (item.pos, text)));
        Ok(())
    })?;
    Ok(patterns)
}

fn check_patterns(patterns: &[(Pos, String)], what: &str) -> Result<(), Issue> {
    match patterns.iter().find(|(_, path)| !paths::is_rule_path(path)) {
        Some((pos, path)) => {
            let path = go_quote(path.as_bytes());
            Err(Issue::new(*pos, format!("invalid {what} path {path}")))
        }
        None => Ok(()),
    }
}

fn resolve_jobs(jobs: RawJobs, global: &RawGlobal) -> Result<Vec<Arc<ScrapeConfig>>, Issue> {
    let mut names = HashSet::new();
    let mut resolved = Vec::new();
    for (pos, job) in jobs {
        let job = job.ok_or_else(|| Issue::new(pos, "empty or null scrape config section"))?;
        let job = job.resolve(global)?;
        if !names.insert(job.job_name.clone()) {
            let name = go_quote(job.job_name.as_bytes());
            return Err(Issue::new(pos, format!("found multiple scrape configs with job name {name}")));
        }
        resolved.push(Arc::new(job));
    }
    Ok(resolved)
}

/// Sections without a name get one of their content.
fn check_name(names: &mut HashSet<String>, name: &str, kind: &str, pos: Pos) -> Result<(), Issue> {
    if !name.is_empty() && !names.insert(name.to_owned()) {
        let name = go_quote(name.as_bytes());
        let text = format!("found multiple remote {kind} configs with job name {name}");
        return Err(Issue::new(pos, text));
    }
    Ok(())
}

pub(super) fn is_empty_list(node: &Node) -> bool {
    node.is_null() || matches!(&node.kind, tree::Kind::List(items) if items.is_empty())
}

fn default_gogc() -> i64 {
    let text = std::env::var("GOGC").unwrap_or_default();
    if text.eq_ignore_ascii_case("off") { -1 } else { text.parse().unwrap_or(GOGC) }
}
