//! The effective configuration as YAML: upstream's key order, defaults filled in, secrets masked.
//!
//! Compat: prometheus `config`, `Config.String`.

use std::collections::BTreeMap;

use super::discovery::print::print_discovery;
use super::global::RawGlobal;
use super::otlp::print_otlp;
use super::remote::{print_read, print_write};
use super::storage::print_storage;
use super::tracing::print_tracing;
use super::{Alertmanager, Config, Defaults, ScrapeConfig, ScrapeLimits, ScrapeProtocol};
use crate::http_client::print as http;
use crate::http_client::sigv4::print_sigv4;
use crate::relabel::decode::print_list;
use crate::units::format_size;
use crate::yaml::Out;
use crate::yaml::emit::{Fields, print as print_yaml};

/// A label set holds no empty value, so the external labels come as they were written besides.
pub(super) fn print(
    config: &Config,
    raw: &RawGlobal,
    labels: &BTreeMap<String, String>,
    defaults: &Defaults,
) -> String {
    let mut fields = Fields::default();
    fields.put("global", global(config, raw, labels));
    fields.put("runtime", Out::Map(vec![("gogc".to_owned(), config.gogc.into())]));
    let mut alerting = Fields::default();
    alerting.some("alert_relabel_configs", print_list(&config.alerting.alert_relabel));
    alerting
        .some("alertmanagers", Out::List(config.alerting.alertmanagers.iter().map(alertmanager).collect()));
    fields.some("alerting", alerting.into_out());
    fields.some("rule_files", config.rule_files.iter().cloned().collect::<Out>());
    fields.some("scrape_config_files", config.scrape_config_files.iter().cloned().collect::<Out>());
    fields.some("scrape_configs", Out::List(config.scrape_configs.iter().map(|job| scrape(job)).collect()));
    fields.put("storage", print_storage(&config.storage, defaults));
    if let Some(tracing) = &config.tracing {
        fields.put("tracing", print_tracing(tracing));
    }
    fields.some("remote_write", Out::List(config.remote_write.iter().map(print_write).collect()));
    fields.some("remote_read", Out::List(config.remote_read.iter().map(print_read).collect()));
    fields.some("otlp", print_otlp(&config.otlp));
    print_yaml(&fields.into_out())
}

fn global(config: &Config, raw: &RawGlobal, labels: &BTreeMap<String, String>) -> Out {
    let global = &config.global;
    let mut fields = Fields::default();
    fields.some("scrape_interval", global.scrape_interval).some("scrape_timeout", global.scrape_timeout);
    fields.some("scrape_protocols", print_protocols(raw.protocols.as_deref().unwrap_or_default()));
    fields.some("evaluation_interval", global.evaluation_interval);
    fields.some("rule_query_offset", global.rule_query_offset);
    let log = global.query_log_file.as_ref().map(|path| path.to_string_lossy().into_owned());
    fields.some("query_log_file", log.unwrap_or_default().as_str());
    fields.some("scrape_failure_log_file", raw.scrape_failure_log_file.as_str());
    fields.some("external_labels", print_map(labels));
    print_limits(&mut fields, &raw.limits);
    fields.some("keep_dropped_targets", raw.limits.keep_dropped_targets);
    fields.put("metric_name_validation_scheme", global.name_scheme.as_str());
    fields.some("metric_name_escaping_scheme", raw.escaping.as_str());
    let flags = &raw.flags;
    fields
        .put("scrape_native_histograms", flags.native_histograms.unwrap_or(false))
        .some("convert_classic_histograms_to_nhcb", flags.convert_classic.unwrap_or(false))
        .some("always_scrape_classic_histograms", flags.always_classic.unwrap_or(false))
        .put("extra_scrape_metrics", flags.extra_metrics.unwrap_or(false));
    fields.into_out()
}

pub(super) fn print_map(map: &BTreeMap<String, String>) -> Out {
    Out::sorted(map.iter().map(|(key, value)| (key.clone(), Out::Text(value.clone()))))
}

fn print_protocols(protocols: &[ScrapeProtocol]) -> Out {
    protocols.iter().map(|protocol| protocol.as_str().to_owned()).collect()
}

fn print_limits(fields: &mut Fields, limits: &ScrapeLimits) {
    if limits.body_size_bytes > 0 {
        fields.put("body_size_limit", format_size(limits.body_size_bytes).as_str());
    }
    fields
        .some("sample_limit", limits.samples)
        .some("target_limit", limits.targets)
        .some("label_limit", limits.labels)
        .some("label_name_length_limit", limits.label_name_bytes)
        .some("label_value_length_limit", limits.label_value_bytes);
}

fn alertmanager(set: &Alertmanager) -> Out {
    let mut fields = Fields::default();
    fields.append(http::print(&set.http));
    if let Some(sigv4) = &set.sigv4 {
        fields.put("sigv4", print_sigv4(sigv4));
    }
    fields.some("scheme", set.scheme.as_str()).some("path_prefix", set.path_prefix.as_str());
    fields.some("timeout", set.timeout).put("api_version", "v2");
    fields.some("relabel_configs", print_list(&set.relabel));
    fields.some("alert_relabel_configs", print_list(&set.alert_relabel));
    print_discovery(&mut fields, &set.discovery);
    fields.into_out()
}

impl ScrapeConfig {
    /// The job alone as YAML, as it stands in [`Config::text`].
    pub fn text(&self) -> String {
        print_yaml(&scrape(self))
    }
}

fn scrape(job: &ScrapeConfig) -> Out {
    let mut fields = Fields::default();
    fields.put("job_name", job.job_name.as_str());
    fields.some("honor_labels", job.honor_labels);
    fields.put("honor_timestamps", job.honor_timestamps);
    fields.put("track_timestamps_staleness", job.track_timestamps_staleness);
    let params = job.params.iter().map(|(key, values)| (key.clone(), values.iter().cloned().collect()));
    fields.some("params", Out::sorted(params));
    fields.some("scrape_interval", job.scrape_interval).some("scrape_timeout", job.scrape_timeout);
    fields.some("scrape_protocols", print_protocols(&job.scrape_protocols));
    fields.some("fallback_scrape_protocol", job.fallback_scrape_protocol.map_or("", ScrapeProtocol::as_str));
    fields.put("scrape_native_histograms", job.scrape_native_histograms);
    fields.put("always_scrape_classic_histograms", job.always_scrape_classic_histograms);
    fields.put("convert_classic_histograms_to_nhcb", job.convert_classic_histograms_to_nhcb);
    fields.some("scrape_failure_log_file", job.scrape_failure_log_file.as_str());
    fields.some("metrics_path", job.metrics_path.as_str()).some("scheme", job.scheme.as_str());
    fields.put("enable_compression", job.enable_compression);
    print_limits(&mut fields, &job.limits);
    fields
        .some("native_histogram_bucket_limit", job.native_histogram_bucket_limit)
        .some("native_histogram_min_bucket_factor", job.native_histogram_min_bucket_factor)
        .some("keep_dropped_targets", job.limits.keep_dropped_targets);
    fields.put("metric_name_validation_scheme", job.name_scheme.as_str());
    fields.put("metric_name_escaping_scheme", job.escaping.as_str());
    fields.put("extra_scrape_metrics", job.extra_scrape_metrics);
    fields.append(http::print(&job.http));
    fields.some("relabel_configs", print_list(&job.relabel));
    fields.some("metric_relabel_configs", print_list(&job.metric_relabel));
    print_discovery(&mut fields, &job.discovery);
    fields.into_out()
}
