//! Reloading: everything is read and checked first, then every part takes over what concerns it.
//!
//! A configuration that cannot be used changes nothing: the running one stays, and the log, the answer of
//! `/-/reload` and a metric say why.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use model::Timestamp;
use parking_lot::Mutex;

use super::files::Fingerprint;
use super::{App, Files, now};
use crate::http_client;
use crate::notifier::manager::sections;
use crate::rules;

/// How reloading went so far.
#[derive(Default)]
pub(super) struct Reloads {
    /// One at a time.
    gate: tokio::sync::Mutex<()>,
    last: Mutex<Last>,
    /// The files that run, as they were when they were read; `None` also after they could not be looked at.
    seen: Mutex<Option<Fingerprint>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) is_success: bool,
    /// Of the last success.
    pub(super) succeeded_at: Option<Timestamp>,
}

impl Reloads {
    pub(super) fn last(&self) -> Last {
        *self.last.lock()
    }
}

impl App {
    /// Reads the files again and applies them.
    ///
    /// # Errors
    /// They cannot be used; the running configuration stays.
    pub(super) async fn reload(&self) -> anyhow::Result<()> {
        tracing::info!(filename = %self.flags.config_file.display(), "Loading configuration file");
        // Before they are read: what changes meanwhile is found at the next look.
        let seen = self.flags.auto_reload.and_then(|_| Fingerprint::take(&self.flags).ok());
        let outcome = async { self.apply(Files::load(&self.flags)?, false).await }.await;
        if let Err(e) = &outcome {
            self.reloads.last.lock().is_success = false;
            self.notifications.add(web::notifications::RELOAD_FAILED);
            tracing::error!(error = format!("{e:#}"), "Error reloading config");
        } else {
            self.notifications.remove(web::notifications::RELOAD_FAILED);
            *self.reloads.seen.lock() = seen;
        }
        outcome
    }

    /// Takes the files as they are now for those that run.
    pub(super) fn note_files(&self) {
        match Fingerprint::take(&self.flags) {
            Ok(seen) => *self.reloads.seen.lock() = Some(seen),
            Err(e) => tracing::error!(
                error = format!("{e:#}"),
                "Failed to generate initial checksum for configuration file"
            ),
        }
    }

    /// Reloads if a file changed since the last success; files that cannot be used are tried again each time.
    pub(super) async fn reload_if_changed(&self) {
        match Fingerprint::take(&self.flags) {
            Err(e) => {
                *self.reloads.seen.lock() = None;
                let error = format!("{e:#}");
                tracing::error!(error, "Failed to generate checksum during configuration reload");
            }
            Ok(now) if self.reloads.seen.lock().as_ref() == Some(&now) => {}
            Ok(_) => {
                tracing::info!("Configuration file change detected, reloading the configuration.");
                // The outcome has been logged.
                drop(self.reload().await);
            }
        }
    }

    /// Hands `files` to every part. Checks first what could fail, so that no part is left behind.
    pub(super) async fn apply(&self, files: Files, is_first: bool) -> anyhow::Result<()> {
        let _turn = self.reloads.gate.lock().await;
        check(&files)?;
        // Taken over at the next start; what is not possible is refused now.
        self.floats(&files.config)?;
        let of_alertmanager = files.alertmanager.iter().flat_map(|config| &config.warnings);
        for warning in files.config.warnings.iter().chain(of_alertmanager) {
            tracing::warn!("{warning}");
        }
        let retention = self.flags.alertmanager.retention;
        for warning in files.alertmanager.iter().flat_map(|config| config.retention_warnings(retention)) {
            tracing::warn!("{warning}");
        }
        self.queries
            .set_log(files.config.global.query_log_file.as_deref())
            .context("apply the log of queries")?;
        // First, because its templates are read only now: a bad one must find nothing changed.
        if let (Some(alertmanager), Some(config)) = (&self.alertmanager, files.alertmanager) {
            alertmanager
                .apply(Arc::unwrap_or_clone(config))
                .context("apply the Alertmanager's configuration")?;
        }
        let config = files.config;
        if let Some(db) = self.store.get() {
            db.set_out_of_order_window(config.storage.out_of_order_time_window)
                .context("apply the window for out-of-order samples")?;
            db.set_retention(self.retention(&config));
            db.set_stale_series_threshold(config.storage.stale_series_compaction_threshold);
            db.set_max_exemplars(self.max_exemplars(&config));
        }
        self.engine.set_default_subquery_step(config.global.evaluation_interval);
        if let Err(errors) = self.scrape.apply(&config) {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            anyhow::bail!("{}", texts.join("; "));
        }
        let jobs: BTreeMap<_, _> =
            config.scrape_configs.iter().map(|job| (job.job_name.clone(), job.discovery.clone())).collect();
        self.scrape_discovery.apply(&jobs);
        self.notifier.apply(&config).context("apply the alerting configuration")?;
        let sets: BTreeMap<_, _> =
            sections(&config).map(|(key, section)| (key, section.discovery.clone())).collect();
        self.notify_discovery.apply(&sets);
        self.rules_ctx.external_labels.store(Arc::new(config.global.external_labels.clone()));
        let update = rules::manager::Update {
            groups: files.rules,
            evaluation_interval: config.global.evaluation_interval,
            query_offset: config.global.rule_query_offset,
        };
        self.rules.apply(update, is_first).await;
        self.config.store(config);
        *self.reloads.last.lock() = Last { is_success: true, succeeded_at: Some(now()) };
        tracing::info!(filename = %self.flags.config_file.display(), "Completed loading of configuration file");
        Ok(())
    }
}

impl App {
    /// What the store shall keep: what the file says, all of it, or the flags where it says nothing.
    pub(super) fn retention(&self, config: &config::Config) -> tsdb::db::Retention {
        merged(self.flags.storage.options.retention, config.storage.retention.as_ref())
    }
}

/// What is kept where the file does not say. Compat: prometheus `config`, `DefaultExemplarsConfig`.
pub(super) const MAX_EXEMPLARS_DEFAULT: i64 = 100_000;

impl App {
    /// How many exemplars the store shall keep: none without the feature.
    pub(super) fn max_exemplars(&self, config: &config::Config) -> usize {
        let max = config.storage.max_exemplars.unwrap_or(MAX_EXEMPLARS_DEFAULT);
        let is_enabled = self.flags.storage.keeps_exemplars;
        if is_enabled { usize::try_from(max).unwrap_or(0) } else { 0 }
    }
}

impl App {
    /// How the store shall write floats: as the file says if the features allow it, else as the features say.
    ///
    /// # Errors
    /// The file asks for what the features rule out.
    ///
    /// Compat: prometheus `tsdb`, `DB.ApplyConfig`.
    pub(super) fn floats(&self, config: &config::Config) -> anyhow::Result<tsdb::chunk::FloatEncoding> {
        floats(config.storage.floats, &self.flags.storage.options.features)
    }
}

fn floats(
    file: Option<config::prometheus::FloatEncoding>,
    features: &tsdb::head::Features,
) -> anyhow::Result<tsdb::chunk::FloatEncoding> {
    use config::prometheus::FloatEncoding as Asked;
    use tsdb::chunk::FloatEncoding::{Xor, Xor2};
    match file {
        Some(Asked::Xor2) if features.floats != Xor2 => anyhow::bail!(
            "'storage.tsdb.chunk_encoding.floats: xor2' requires the xor2-encoding feature flag to be enabled at startup"
        ),
        Some(Asked::Xor) if features.stores_start_times => anyhow::bail!(
            "'storage.tsdb.chunk_encoding.floats: xor' is incompatible with st-storage; XOR chunks do not store start timestamps"
        ),
        Some(Asked::Xor2) => Ok(Xor2),
        Some(Asked::Xor) => Ok(Xor),
        None => Ok(features.floats),
    }
}

fn merged(flags: tsdb::db::Retention, file: Option<&config::prometheus::Retention>) -> tsdb::db::Retention {
    let Some(file) = file else { return flags };
    let (time, size_bytes) = (Some(file.time), Some(file.size_bytes));
    tsdb::db::Retention { time, size_bytes, percentage: file.percentage }.normalized()
}

/// Makes every HTTP client that the configuration asks for, which is all of it that may fail after loading.
fn check(files: &Files) -> anyhow::Result<()> {
    for job in &files.config.scrape_configs {
        http_client::Client::new(&job.http, job.scrape_timeout)
            .with_context(|| format!("error creating HTTP client for job {:?}", job.job_name))?;
    }
    for (key, section) in sections(&files.config) {
        http_client::Client::new(&section.http, section.timeout)
            .with_context(|| format!("error creating HTTP client for Alertmanagers {key}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tsdb::db::Retention;

    use config::prometheus::FloatEncoding as Asked;
    use tsdb::chunk::FloatEncoding::{Xor, Xor2};

    use super::{floats, merged};

    #[test]
    fn floats_are_written_as_the_file_says_if_the_features_allow_it() {
        let features = |floats, stores_start_times| tsdb::head::Features {
            floats,
            stores_start_times,
            ..tsdb::head::Features::default()
        };
        let (plain, xor2, starts) = (features(Xor, false), features(Xor2, false), features(Xor2, true));
        assert_eq!(floats(None, &plain).unwrap(), Xor);
        assert_eq!(floats(Some(Asked::Xor), &plain).unwrap(), Xor);
        assert!(floats(Some(Asked::Xor2), &plain).unwrap_err().to_string().contains("requires the xor2"));
        assert_eq!(floats(None, &xor2).unwrap(), Xor2);
        assert_eq!(floats(Some(Asked::Xor), &xor2).unwrap(), Xor);
        assert_eq!(floats(Some(Asked::Xor2), &starts).unwrap(), Xor2);
        assert!(floats(Some(Asked::Xor), &starts).unwrap_err().to_string().contains("incompatible with st"));
    }

    #[test]
    fn retention_of_the_file_goes_before_the_flags() {
        let flags = Retention { time: Some(Duration::from_hours(24)), size_bytes: Some(7), percentage: 0.0 };
        assert_eq!(merged(flags, None), flags);
        let file = |hours, size_bytes, percentage| config::prometheus::Retention {
            time: Duration::from_hours(hours),
            size_bytes,
            percentage,
        };
        assert_eq!(merged(flags, Some(&file(0, 0, 0.0))), Retention::default(), "an empty section keeps all");
        let time = Some(Duration::from_hours(48));
        assert_eq!(merged(flags, Some(&file(48, 0, 0.0))), Retention { time, ..Retention::default() });
        let both = Retention { size_bytes: Some(9), percentage: 5.0, time: None };
        assert_eq!(merged(flags, Some(&file(0, 9, 5.0))), both);
    }
}
