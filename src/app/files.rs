//! The files that the user wrote, read as one: all of them are valid, or nothing is applied.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anyhow::Context;
use config::prometheus::Defaults;
use config::rules::RuleGroup;

use super::reload::MAX_EXEMPLARS_DEFAULT;
use crate::cli::flags::Flags;

/// A whole configuration, valid.
pub struct Files {
    pub config: Arc<config::Config>,
    pub rules: Vec<RuleGroup>,
    /// For the built-in Alertmanager, if it runs.
    pub alertmanager: Option<Arc<config::alertmanager::Config>>,
}

impl Files {
    /// Reads everything that the flags name.
    ///
    /// # Errors
    /// A file is missing, unreadable or invalid; the text names file, line and column.
    pub fn load(flags: &Flags) -> anyhow::Result<Self> {
        let path = &flags.config_file;
        let config = config::prometheus::load_with(path, &defaults(flags))
            .with_context(|| format!("couldn't load configuration (--config.file=\"{}\")", path.display()))?;
        if let Some(text) = config::prometheus::remote::duplicate(&config.remote_write, &config.remote_read) {
            anyhow::bail!("couldn't load configuration (--config.file=\"{}\"): {text}", path.display());
        }
        let options = config::rules::Options {
            name_scheme: config.global.name_scheme,
            promql: super::parser(flags),
            ..config::rules::Options::default()
        };
        let rules = load_rules(&config.rule_files, &options)?;
        let alertmanager = match &flags.alertmanager_config_file {
            Some(path) => Some(Arc::new(config::alertmanager::load(path).with_context(|| {
                format!("couldn't load configuration (--alertmanager.config-file=\"{}\")", path.display())
            })?)),
            None => None,
        };
        Ok(Self { config: Arc::new(config), rules, alertmanager })
    }
}

/// What flags say where the file is silent.
fn defaults(flags: &Flags) -> Defaults {
    let retention = flags.storage.options.retention;
    let has = |name| flags.features.contains(name);
    Defaults {
        proto_first: has("st-storage") || has("created-timestamp-zero-ingestion"),
        extra_scrape_metrics: has("extra-scrape-metrics"),
        retention: config::prometheus::Retention {
            time: retention.time.unwrap_or_default(),
            size_bytes: retention.size_bytes.unwrap_or_default(),
            percentage: retention.percentage,
        },
        max_exemplars: flags.storage.keeps_exemplars.then_some(MAX_EXEMPLARS_DEFAULT),
    }
}

/// What the files on disk say now; it changes with each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    main: [u8; 16],
    alertmanager: Option<Vec<u8>>,
}

impl Fingerprint {
    /// # Errors
    /// A file cannot be read, or the main one is no YAML.
    pub(super) fn take(flags: &Flags) -> anyhow::Result<Self> {
        let alertmanager = flags
            .alertmanager_config_file
            .as_ref()
            .map(|path| std::fs::read(path).with_context(|| format!("read {}", path.display())));
        Ok(Self {
            main: config::prometheus::fingerprint(&flags.config_file)?,
            alertmanager: alertmanager.transpose()?,
        })
    }
}

/// The groups of all files that the patterns name, a file that two of them name once.
fn load_rules(patterns: &[String], options: &config::rules::Options) -> anyhow::Result<Vec<RuleGroup>> {
    let mut files = BTreeMap::new();
    for pattern in patterns {
        let found = config::paths::glob(pattern)
            .with_context(|| format!("error retrieving rule files for {pattern}"))?;
        for path in found {
            if let Entry::Vacant(entry) = files.entry(path) {
                let file = config::rules::load_with(entry.key(), options)?;
                for warning in &file.warnings {
                    tracing::warn!(file = %entry.key().display(), "{warning}");
                }
                entry.insert(file.groups);
            }
        }
    }
    Ok(files.into_values().flatten().collect())
}
