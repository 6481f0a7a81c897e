//! `scrape_configs`: one job as written, then with everything it inherits.
//!
//! Compat: prometheus `config`, `ScrapeConfig.UnmarshalYAML` and `ScrapeConfig.Validate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;

use super::discovery::decode::SdFields;
use super::global::{
    RawGlobal, ScrapeFlags, decode_flag, decode_limit, decode_path, decode_scheme, unknown_escaping,
};
use super::protocols::{PROTO_FIRST, RawProtocols, TEXT_ONLY, decode_protocol, parse_protocol};
use super::{Escaping, ScrapeConfig, ScrapeLimits};
use crate::http_client::HttpClient;
use crate::http_client::decode::HttpFields;
use crate::relabel::NameScheme;
use crate::relabel::decode::{RawRule, RawRules, decode_list, refuse_null, validate_list};
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoder, Issue, Node};

/// The elements of a list of jobs; `None` for a null one.
pub(super) type RawJobs = Vec<(Pos, Option<RawScrape>)>;

pub(super) fn decode_jobs(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<RawJobs, Issue> {
    let mut jobs = RawJobs::new();
    decoder.items(node, "[]*config.ScrapeConfig", &mut |decoder, item| {
        if item.is_null() {
            jobs.push((item.pos, None));
        } else if let Some(job) = RawScrape::decode(decoder, base, item)? {
            jobs.push((item.pos, Some(job)));
        }
        Ok(())
    })?;
    Ok(jobs)
}

/// One element of `scrape_configs`, before `global` is known.
pub(super) struct RawScrape {
    pos: Pos,
    interval: Duration,
    timeout: Duration,
    protocols: Option<RawProtocols>,
    fallback: Option<String>,
    scheme: Option<NameScheme>,
    escaping: String,
    flags: ScrapeFlags,
    relabel: Vec<RawRule>,
    metric_relabel: Vec<RawRule>,
    /// What needs no more work.
    config: ScrapeConfig,
}

impl RawScrape {
    pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
        let mut raw = Self {
            pos: node.pos,
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            protocols: None,
            fallback: None,
            scheme: None,
            escaping: String::new(),
            flags: ScrapeFlags::default(),
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            config: default_job(),
        };
        let mut http = HttpFields::default();
        let mut discovery = SdFields::default();
        let (mut relabel, mut metric_relabel) = (RawRules::new(), RawRules::new());
        let job = &mut raw.config;
        let ok = decoder.fields(node, "config.ScrapeConfig", &mut |decoder, key, value| {
            match key {
                "job_name" => decoder.set(value, &mut job.job_name)?,
                "scrape_interval" => decoder.set(value, &mut raw.interval)?,
                "scrape_timeout" => decoder.set(value, &mut raw.timeout)?,
                "scrape_protocols" => raw.protocols = RawProtocols::decode(decoder, value)?,
                "fallback_scrape_protocol" => raw.fallback = decode_protocol(decoder, value)?,
                "scrape_failure_log_file" => {
                    decode_path(decoder, base, value, &mut job.scrape_failure_log_file)?;
                }
                "honor_labels" => decoder.set(value, &mut job.honor_labels)?,
                "honor_timestamps" => decoder.set(value, &mut job.honor_timestamps)?,
                "track_timestamps_staleness" => decoder.set(value, &mut job.track_timestamps_staleness)?,
                "params" => {
                    let pairs = decoder.pairs(value, "url.Values", &mut |decoder, key, value| {
                        let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
                        let values: Option<Vec<String>> = Vec::decode(decoder, value)?;
                        Ok(values.map(|values| (name.clone().into_bytes(), (name, values))))
                    })?;
                    job.params = pairs.unwrap_or_default().into_iter().map(|(_, pair)| pair).collect();
                }
                "metrics_path" => decoder.set(value, &mut job.metrics_path)?,
                "scheme" => decoder.set(value, &mut job.scheme)?,
                "enable_compression" => decoder.set(value, &mut job.enable_compression)?,
                "native_histogram_bucket_limit" => {
                    decoder.set(value, &mut job.native_histogram_bucket_limit)?;
                }
                "native_histogram_min_bucket_factor" => {
                    decoder.set(value, &mut job.native_histogram_min_bucket_factor)?;
                }
                "metric_name_validation_scheme" => raw.scheme = decode_scheme(decoder, value)?,
                "metric_name_escaping_scheme" => decoder.set(value, &mut raw.escaping)?,
                "relabel_configs" => relabel = decode_list(decoder, value)?.unwrap_or_default(),
                "metric_relabel_configs" => {
                    metric_relabel = decode_list(decoder, value)?.unwrap_or_default();
                }
                _ => {
                    return Ok(decode_limit(decoder, key, value, &mut job.limits)?
                        || decode_flag(decoder, key, value, &mut raw.flags)?
                        || http.field(decoder, base, key, value)?
                        || discovery.field(decoder, base, key, value)?);
                }
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        if job.job_name.is_empty() {
            return Err(Issue::new(node.pos, "job_name is empty"));
        }
        job.http = http.finish(base, node.pos)?;
        job.discovery = discovery.finish(relabel.is_empty())?;
        raw.relabel = refuse_null(relabel, "empty or null target relabeling rule in scrape config")?;
        raw.metric_relabel =
            refuse_null(metric_relabel, "empty or null metric relabeling rule in scrape config")?;
        Ok(Some(raw))
    }

    /// Fills in what the job inherits and checks the whole, in upstream's order.
    pub(super) fn resolve(self, global: &RawGlobal) -> Result<ScrapeConfig, Issue> {
        let mut job = self.config;
        let name = go_quote(job.job_name.as_bytes());
        let fail = |text: String| Err(Issue::new(self.pos, text));
        job.scrape_interval = if self.interval.is_zero() { global.scrape_interval } else { self.interval };
        if self.timeout > job.scrape_interval {
            return fail(format!(
                "scrape timeout greater than scrape interval for scrape config with job name {name}"
            ));
        }
        job.scrape_timeout = if self.timeout.is_zero() {
            global.scrape_timeout.min(job.scrape_interval)
        } else {
            self.timeout
        };
        job.limits = inherit_limits(job.limits, global.limits);
        if job.scrape_failure_log_file.is_empty() {
            job.scrape_failure_log_file.clone_from(&global.scrape_failure_log_file);
        }
        let inherit = |own: Option<bool>, global: Option<bool>| own.or(global).unwrap_or(false);
        job.scrape_native_histograms = inherit(self.flags.native_histograms, global.flags.native_histograms);
        job.convert_classic_histograms_to_nhcb =
            inherit(self.flags.convert_classic, global.flags.convert_classic);
        job.always_scrape_classic_histograms =
            inherit(self.flags.always_classic, global.flags.always_classic);
        job.extra_scrape_metrics = inherit(self.flags.extra_metrics, global.flags.extra_metrics);
        job.scrape_protocols = match self.protocols {
            Some(protocols) => protocols.resolve().map_err(|text| {
                Issue::new(self.pos, format!("{text} for scrape config with job name {name}"))
            })?,
            None => match &global.protocols {
                Some(protocols) => protocols.clone(),
                None if job.scrape_native_histograms => PROTO_FIRST.to_vec(),
                None => TEXT_ONLY.to_vec(),
            },
        };
        if let Some(fallback) = self.fallback.filter(|text| !text.is_empty()) {
            let protocol = parse_protocol(&fallback).map_err(|text| {
                let text = format!(
                    "invalid fallback_scrape_protocol for scrape config with job name {name}: {text}"
                );
                Issue::new(self.pos, text)
            })?;
            job.fallback_scrape_protocol = Some(protocol);
        }
        let of_scheme = |scheme: NameScheme| match scheme {
            NameScheme::Utf8 => Escaping::AllowUtf8,
            NameScheme::Legacy => Escaping::Underscores,
        };
        let global_escaping = match global.escaping.as_str() {
            "" => of_scheme(global.scheme.unwrap_or_default()),
            text => match Escaping::parse(text) {
                Some(escaping) => escaping,
                None => return fail(unknown_escaping("global", text)),
            },
        };
        job.name_scheme = self.scheme.or(global.scheme).unwrap_or_default();
        job.escaping = match self.escaping.as_str() {
            "" if self.scheme.is_some() => of_scheme(job.name_scheme),
            "" => global_escaping,
            text => match Escaping::parse(text) {
                Some(escaping) => escaping,
                None => return fail(unknown_escaping("scrape config", text)),
            },
        };
        if job.escaping == Escaping::AllowUtf8 && job.name_scheme != NameScheme::Utf8 {
            return fail("utf8 metric names requested but validation scheme is not set to UTF8".to_owned());
        }
        job.relabel = validate_list(self.relabel, job.name_scheme)?;
        job.metric_relabel = validate_list(self.metric_relabel, job.name_scheme)?;
        Ok(job)
    }
}

fn default_job() -> ScrapeConfig {
    ScrapeConfig {
        job_name: String::new(),
        scrape_interval: Duration::ZERO,
        scrape_timeout: Duration::ZERO,
        scrape_protocols: Vec::new(),
        fallback_scrape_protocol: None,
        metrics_path: "/metrics".to_owned(),
        scheme: "http".to_owned(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        enable_compression: true,
        extra_scrape_metrics: false,
        scrape_native_histograms: false,
        always_scrape_classic_histograms: false,
        convert_classic_histograms_to_nhcb: false,
        native_histogram_bucket_limit: 0,
        native_histogram_min_bucket_factor: 0.0,
        scrape_failure_log_file: String::new(),
        name_scheme: NameScheme::Utf8,
        escaping: Escaping::AllowUtf8,
        limits: ScrapeLimits::default(),
        http: HttpClient::default(),
        relabel: Vec::new(),
        metric_relabel: Vec::new(),
        discovery: Vec::new(),
    }
}

/// A zero inherits, so a global limit cannot be switched off for a job.
fn inherit_limits(own: ScrapeLimits, global: ScrapeLimits) -> ScrapeLimits {
    let or = |own: u64, global: u64| if own == 0 { global } else { own };
    ScrapeLimits {
        body_size_bytes: or(own.body_size_bytes, global.body_size_bytes),
        samples: or(own.samples, global.samples),
        targets: or(own.targets, global.targets),
        labels: or(own.labels, global.labels),
        label_name_bytes: or(own.label_name_bytes, global.label_name_bytes),
        label_value_bytes: or(own.label_value_bytes, global.label_value_bytes),
        keep_dropped_targets: or(own.keep_dropped_targets, global.keep_dropped_targets),
    }
}
