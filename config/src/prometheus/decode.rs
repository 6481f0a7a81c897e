//! `prometheus.yml` from YAML: defaults, inheritance from `global`, validation in upstream's words.
//!
//! What Ferula does not do yet is refused by name, or accepted with a warning where it asks for nothing that a
//! user would miss.
//!
//! Compat: prometheus `config`, `Config.UnmarshalYAML` and `ScrapeConfig.Validate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::Labels;
use model::quote::go_quote;

use super::discovery::decode::SdFields;
use super::{
    Alerting, Alertmanager, Config, Escaping, FloatEncoding, Global, Retention, ScrapeConfig, ScrapeLimits,
    ScrapeProtocol, Storage, print,
};
use crate::http_client::decode::HttpFields;
use crate::http_client::sigv4::decode_sigv4;
use crate::paths;
use crate::relabel::NameScheme;
use crate::relabel::decode::{RawRules, decode_list, validate_list};
use crate::units::Size;
use crate::yaml::decode::Dialect;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoder, Issue, Node, tree};
use crate::{Error, Problem};

const DEFAULT_SCRAPE_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_EVALUATION_INTERVAL: Duration = Duration::from_mins(1);

pub(super) const DEFAULT_PROTOCOLS: [ScrapeProtocol; 4] = [
    ScrapeProtocol::OpenMetricsText1_0_0,
    ScrapeProtocol::OpenMetricsText0_0_1,
    ScrapeProtocol::PrometheusText1_0_0,
    ScrapeProtocol::PrometheusText0_0_4,
];

/// Reads and validates a configuration file.
///
/// # Errors
/// The file cannot be read, or its text is refused.
pub fn load(path: &Path) -> Result<Config, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    parse_as(&text, path, path.parent().unwrap_or(Path::new("")))
}

/// Validates the text of a configuration whose relative paths belong to `base_dir`.
///
/// # Errors
/// The text is refused.
pub fn parse(text: &str, base_dir: &Path) -> Result<Config, Error> {
    parse_as(text, &base_dir.join("prometheus.yml"), base_dir)
}

pub(super) fn parse_as(text: &str, file: &Path, base: &Path) -> Result<Config, Error> {
    let mut decoder = Decoder::new(Dialect::V2);
    decode(&mut decoder, text, base).map_err(|issue| Error::config(file, Problem::from(issue)))
}

fn decode(decoder: &mut Decoder, text: &str, base: &Path) -> Result<Config, Issue> {
    let document = tree::parse(text)?;
    let mut raw = RawConfig::default();
    if let Some(root) = &document.root {
        raw.decode(decoder, base, root)?;
    }
    decoder.finish()?;
    raw.resolve(decoder, base)
}

#[derive(Default)]
struct RawConfig {
    global: Option<RawGlobal>,
    scrape_configs: Vec<(Pos, Option<RawScrape>)>,
    rule_files: Vec<(Pos, String)>,
    alerting: Option<RawAlerting>,
    storage: Storage,
    unsupported: Option<(Pos, String)>,
    gogc: Option<i64>,
}

impl RawConfig {
    fn decode(&mut self, decoder: &mut Decoder, base: &Path, root: &Node) -> Result<(), Issue> {
        decoder.fields(root, "config.plain", &mut |decoder, key, value| {
            match key {
                "global" if value.is_null() => self.global = None,
                "global" => self.global = RawGlobal::decode(decoder, base, value)?,
                "scrape_configs" => {
                    decoder.items(value, "[]*config.ScrapeConfig", &mut |decoder, item| {
                        if item.is_null() {
                            self.scrape_configs.push((item.pos, None));
                        } else if let Some(scrape) = RawScrape::decode(decoder, base, item)? {
                            self.scrape_configs.push((item.pos, Some(scrape)));
                        }
                        Ok(())
                    })?;
                }
                "rule_files" => {
                    decoder.items(value, "[]string", &mut |decoder, item| {
                        self.rule_files.extend(String::decode(decoder, item)?.map(|text| (item.pos, text)));
                        Ok(())
                    })?;
                }
                "alerting" => self.alerting = RawAlerting::decode(decoder, base, value)?,
                "storage" => decode_storage(decoder, value, &mut self.storage)?,
                "runtime" => {
                    decoder.fields(value, "config.RuntimeConfig", &mut |decoder, key, value| {
                        let known = key == "gogc";
                        if known {
                            self.gogc = i64::decode(decoder, value)?;
                        }
                        Ok(known)
                    })?;
                }
                "tracing" => decode_tracing(decoder, value)?,
                "otlp" if !value.is_null() => {
                    decoder.warn(
                        value.pos,
                        "section otlp has no effect: the OTLP receiver is not supported yet",
                    );
                }
                "otlp" => {}
                "remote_write" | "remote_read" | "scrape_config_files" => {
                    if !is_empty_list(value) {
                        let text = format!("section {key} is not supported yet");
                        self.unsupported.get_or_insert((value.pos, text));
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }

    fn resolve(self, decoder: &mut Decoder, base: &Path) -> Result<Config, Issue> {
        let global = self.global.unwrap_or_default();
        for (pos, path) in &self.rule_files {
            if !paths::is_rule_path(path) {
                let path = go_quote(path.as_bytes());
                return Err(Issue::new(*pos, format!("invalid rule file path {path}")));
            }
        }
        if let Some((pos, text)) = self.unsupported {
            return Err(Issue::new(pos, text));
        }
        let mut scrape_configs: Vec<Arc<ScrapeConfig>> = Vec::new();
        for (pos, scrape) in self.scrape_configs {
            let scrape = scrape.ok_or_else(|| Issue::new(pos, "empty or null scrape config section"))?;
            let scrape = scrape.resolve(decoder, &global)?;
            if scrape_configs.iter().any(|other| other.job_name == scrape.job_name) {
                let name = go_quote(scrape.job_name.as_bytes());
                let text = format!("found multiple scrape configs with job name {name}");
                return Err(Issue::new(pos, text));
            }
            scrape_configs.push(Arc::new(scrape));
        }
        let alerting = match self.alerting {
            Some(alerting) => alerting.resolve(global.scheme)?,
            None => Alerting::default(),
        };
        let external_labels = expand_labels(decoder, &global.external_labels);
        let mut config = Config {
            scrape_configs,
            rule_files: self.rule_files.iter().map(|(_, path)| paths::join(base, path)).collect(),
            alerting,
            storage: self.storage,
            text: String::new(),
            warnings: Vec::new(),
            global: Global {
                scrape_interval: global.scrape_interval,
                scrape_timeout: global.scrape_timeout,
                evaluation_interval: global.evaluation_interval,
                rule_query_offset: global.rule_query_offset,
                external_labels: Labels::from_pairs(&external_labels),
                query_log_file: global.query_log_file.clone(),
                name_scheme: global.scheme.unwrap_or_default(),
            },
        };
        config.text = print::print(&config, &global, &external_labels, self.gogc);
        config.warnings = std::mem::take(&mut decoder.warnings);
        Ok(config)
    }
}

pub(super) fn is_empty_list(node: &Node) -> bool {
    node.is_null() || matches!(&node.kind, tree::Kind::List(items) if items.is_empty())
}

/// `global` with what jobs inherit from it beyond the resolved struct.
pub(super) struct RawGlobal {
    pub(super) scrape_interval: Duration,
    pub(super) scrape_timeout: Duration,
    /// `None` when the file does not say.
    pub(super) protocols: Option<Vec<ScrapeProtocol>>,
    pub(super) evaluation_interval: Duration,
    pub(super) rule_query_offset: Duration,
    pub(super) query_log_file: Option<PathBuf>,
    pub(super) scrape_failure_log_file: String,
    /// Before environment variables are filled in.
    external_labels: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) limits: ScrapeLimits,
    pub(super) scheme: Option<NameScheme>,
    pub(super) escaping: Option<Escaping>,
    pub(super) flags: ScrapeFlags,
}

/// What `global` and jobs say alike, `None` where a job inherits.
#[derive(Clone, Copy, Default)]
pub(super) struct ScrapeFlags {
    pub(super) native_histograms: Option<bool>,
    pub(super) convert_classic: Option<bool>,
    pub(super) always_classic: Option<bool>,
    pub(super) extra_metrics: Option<bool>,
}

impl Default for RawGlobal {
    fn default() -> Self {
        Self {
            scrape_interval: DEFAULT_SCRAPE_INTERVAL,
            scrape_timeout: DEFAULT_SCRAPE_TIMEOUT,
            protocols: None,
            evaluation_interval: DEFAULT_EVALUATION_INTERVAL,
            rule_query_offset: Duration::ZERO,
            query_log_file: None,
            scrape_failure_log_file: String::new(),
            external_labels: Vec::new(),
            limits: ScrapeLimits::default(),
            scheme: None,
            escaping: None,
            flags: ScrapeFlags::default(),
        }
    }
}

impl RawGlobal {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
        let (mut interval, mut timeout) = (Duration::ZERO, Duration::ZERO);
        let mut evaluation = Duration::ZERO;
        let mut global = Self::default();
        let mut protocols = None;
        let mut escaping = String::new();
        let mut labels_pos = node.pos;
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "scrape_interval" => decoder.set(value, &mut interval)?,
                "scrape_timeout" => decoder.set(value, &mut timeout)?,
                "scrape_protocols" => protocols = RawProtocols::decode(decoder, value)?,
                "evaluation_interval" => decoder.set(value, &mut evaluation)?,
                "rule_query_offset" => decoder.set(value, &mut global.rule_query_offset)?,
                "query_log_file" => {
                    let text = String::decode(decoder, value)?.unwrap_or_default();
                    global.query_log_file = paths::join_path(base, &text);
                }
                "scrape_failure_log_file" => {
                    decode_failure_log(decoder, base, value, &mut global.scrape_failure_log_file)?;
                }
                "external_labels" => {
                    labels_pos = value.pos;
                    let pairs = decoder.pairs(value, "map[string]string", &mut |decoder, key, value| {
                        let Some(name) = decoder.bytes(key)? else { return Ok(None) };
                        Ok(decoder.bytes(value)?.map(|value| (name, value)))
                    })?;
                    global.external_labels = pairs.unwrap_or_default();
                }
                "metric_name_validation_scheme" => global.scheme = decode_scheme(decoder, value)?,
                "metric_name_escaping_scheme" => {
                    decoder.set(value, &mut escaping)?;
                    warn_of_escaping(decoder, value, &escaping);
                }
                _ => {
                    return Ok(decode_limit(decoder, key, value, &mut global.limits)?
                        || decode_flag(decoder, key, value, &mut global.flags)?);
                }
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        let fail = |text: String| Err(Issue::new(node.pos, text));
        let scheme = global.scheme.unwrap_or_default();
        for (name, value) in &global.external_labels {
            if !scheme.is_label_name(name) {
                return Err(Issue::new(labels_pos, format!("{} is not a valid label name", go_quote(name))));
            }
            if std::str::from_utf8(value).is_err() {
                return Err(Issue::new(
                    labels_pos,
                    format!("{} is not a valid label value", go_quote(value)),
                ));
            }
        }
        if !interval.is_zero() {
            global.scrape_interval = interval;
        }
        if timeout > global.scrape_interval {
            return fail("global scrape timeout greater than scrape interval".to_owned());
        }
        global.scrape_timeout =
            if timeout.is_zero() { DEFAULT_SCRAPE_TIMEOUT.min(global.scrape_interval) } else { timeout };
        if !evaluation.is_zero() {
            global.evaluation_interval = evaluation;
        }
        if let Some(protocols) = protocols {
            global.protocols = Some(
                protocols
                    .resolve()
                    .map_err(|text| Issue::new(node.pos, format!("{text} for global config")))?,
            );
        }
        if !escaping.is_empty() {
            let parsed = Escaping::parse(&escaping);
            if parsed.is_none() {
                return fail(unknown_escaping("global", &escaping));
            }
            global.escaping = parsed;
        }
        Ok(Some(global))
    }
}

fn unknown_escaping(whose: &str, got: &str) -> String {
    format!(
        "unknown {whose} name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got {}",
        go_quote(got.as_bytes())
    )
}

fn warn_of_escaping(decoder: &mut Decoder, node: &Node, escaping: &str) {
    if !matches!(escaping, "" | "allow-utf-8") {
        let text = "metric_name_escaping_scheme has no effect: names are taken as targets send them";
        decoder.warn(node.pos, text);
    }
}

fn decode_scheme(decoder: &mut Decoder, node: &Node) -> Result<Option<NameScheme>, Issue> {
    match String::decode(decoder, node)?.as_deref() {
        None | Some("") => Ok(None),
        Some("utf8") => Ok(Some(NameScheme::Utf8)),
        Some("legacy") => {
            let text = "metric_name_validation_scheme: legacy applies to relabelling only: \
                        scraped names are not checked yet";
            decoder.warn(node.pos, text);
            Ok(Some(NameScheme::Legacy))
        }
        Some(other) => {
            let other = go_quote(other.as_bytes());
            Err(Issue::new(node.pos, format!("unrecognized ValidationScheme: {other}")))
        }
    }
}

fn decode_limit(
    decoder: &mut Decoder,
    key: &str,
    node: &Node,
    limits: &mut ScrapeLimits,
) -> Result<bool, Issue> {
    let slot = match key {
        "body_size_limit" => {
            let mut size = Size::default();
            decoder.set(node, &mut size)?;
            limits.body_size_bytes = size.limit();
            return Ok(true);
        }
        "sample_limit" => &mut limits.samples,
        "target_limit" => &mut limits.targets,
        "label_limit" => &mut limits.labels,
        "label_name_length_limit" => &mut limits.label_name_bytes,
        "label_value_length_limit" => &mut limits.label_value_bytes,
        "keep_dropped_targets" => &mut limits.keep_dropped_targets,
        _ => return Ok(false),
    };
    decoder.set(node, slot)?;
    Ok(true)
}

fn decode_flag(
    decoder: &mut Decoder,
    key: &str,
    node: &Node,
    flags: &mut ScrapeFlags,
) -> Result<bool, Issue> {
    let slot = match key {
        "scrape_native_histograms" => &mut flags.native_histograms,
        "convert_classic_histograms_to_nhcb" => &mut flags.convert_classic,
        "always_scrape_classic_histograms" => &mut flags.always_classic,
        "extra_scrape_metrics" => &mut flags.extra_metrics,
        _ => return Ok(false),
    };
    *slot = if node.is_null() { None } else { bool::decode(decoder, node)? };
    if *slot == Some(true) && matches!(key, "scrape_native_histograms" | "convert_classic_histograms_to_nhcb")
    {
        decoder.warn(node.pos, &format!("{key} has no effect: native histograms are not scraped yet"));
    }
    Ok(true)
}

fn decode_failure_log(
    decoder: &mut Decoder,
    base: &Path,
    node: &Node,
    slot: &mut String,
) -> Result<(), Issue> {
    let text = String::decode(decoder, node)?.unwrap_or_default();
    if !text.is_empty() {
        decoder.warn(node.pos, "scrape_failure_log_file has no effect: it is not supported yet");
    }
    *slot = paths::join(base, &text);
    Ok(())
}

/// A list of protocol names, checked when it is known whose they are.
struct RawProtocols(Vec<String>);

impl RawProtocols {
    fn decode(decoder: &mut Decoder, node: &Node) -> Result<Option<Self>, Issue> {
        if node.is_null() {
            return Ok(None);
        }
        let mut names = Vec::new();
        let is_list = decoder.items(node, "[]config.ScrapeProtocol", &mut |decoder, item| {
            names.extend(decode_protocol(decoder, item)?);
            Ok(())
        })?;
        Ok(is_list.then_some(Self(names)))
    }

    fn resolve(self) -> Result<Vec<ScrapeProtocol>, String> {
        if self.0.is_empty() {
            return Err("scrape_protocols cannot be empty".to_owned());
        }
        let mut out = Vec::new();
        for (i, name) in self.0.iter().enumerate() {
            if self.0[..i].contains(name) {
                return Err(format!("duplicated protocol in scrape_protocols, got [{}]", self.0.join(" ")));
            }
            out.push(parse_protocol(name).map_err(|text| format!("scrape_protocols: {text}"))?);
        }
        Ok(out)
    }
}

fn decode_protocol(decoder: &mut Decoder, node: &Node) -> Result<Option<String>, Issue> {
    match node.kind {
        tree::Kind::Scalar(_) => String::decode(decoder, node),
        _ => decoder.mismatch(node, "config.ScrapeProtocol"),
    }
}

fn parse_protocol(name: &str) -> Result<ScrapeProtocol, String> {
    ScrapeProtocol::parse(name).ok_or_else(|| {
        let known: Vec<&str> = ScrapeProtocol::ALL.iter().map(|protocol| protocol.as_str()).collect();
        format!("unknown scrape protocol {name}, supported: [{}]", known.join(" "))
    })
}

/// Fills environment variables into values; a variable that is not set becomes nothing, with a warning.
fn expand_labels(decoder: &mut Decoder, pairs: &[(Vec<u8>, Vec<u8>)]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes).expect("external labels were checked to be UTF-8").to_owned()
    };
    let lookup = |name: &str| std::env::var(name).unwrap_or_default();
    let expand = |(name, value): &(Vec<u8>, Vec<u8>)| {
        (text(name), expand_env(&text(value), &lookup, &mut decoder.warnings))
    };
    pairs.iter().map(expand).collect()
}

/// Compat: Go `os.Expand`, with `$$` for a dollar sign.
pub(super) fn expand_env(text: &str, lookup: &dyn Fn(&str) -> String, warnings: &mut Vec<String>) -> String {
    let is_special = |c: char| "*#$@!?-".contains(c) || c.is_ascii_digit();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let (name, after) = if let Some(body) = rest.strip_prefix('{') {
            match body.split_once('}') {
                Some((name, after)) => (name, after),
                // Not closed: the two characters are swallowed.
                None => ("", body),
            }
        } else if rest.starts_with(is_special) {
            rest.split_at(1)
        } else {
            let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
            if name.is_empty() {
                out.push('$');
            }
            (name, after)
        };
        rest = after;
        match name {
            "" => {}
            "$" => out.push('$'),
            name => {
                let value = lookup(name);
                if value.is_empty() {
                    warnings.push(format!("Empty environment variable name={name}"));
                }
                out.push_str(&value);
            }
        }
    }
    out.push_str(rest);
    out
}

fn decode_storage(decoder: &mut Decoder, node: &Node, storage: &mut Storage) -> Result<(), Issue> {
    decoder.fields(node, "config.StorageConfig", &mut |decoder, key, value| {
        match key {
            "tsdb" => decode_tsdb(decoder, value, storage)?,
            "exemplars" => {
                let max_exemplars = storage.max_exemplars.insert(0);
                decoder.fields(value, "config.ExemplarsConfig", &mut |decoder, key, value| {
                    if key == "max_exemplars" {
                        decoder.set(value, max_exemplars)?;
                    }
                    Ok(key == "max_exemplars")
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(())
}

fn decode_tsdb(decoder: &mut Decoder, node: &Node, storage: &mut Storage) -> Result<(), Issue> {
    decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "out_of_order_time_window" => {
                decoder.set(value, &mut storage.out_of_order_time_window)?;
            }
            "stale_series_compaction_threshold" => {
                decoder.set(value, &mut storage.stale_series_compaction_threshold)?;
            }
            "chunk_encoding" => {
                decoder.fields(value, "config.ChunkEncodingConfig", &mut |decoder, key, value| {
                    if key != "floats" {
                        return Ok(false);
                    }
                    match String::decode(decoder, value)?.as_deref() {
                        None | Some("") => {}
                        Some("xor") => storage.floats = Some(FloatEncoding::Xor),
                        Some("xor2") => storage.floats = Some(FloatEncoding::Xor2),
                        Some(other) => {
                            let text = format!(
                                "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {}",
                                go_quote(other.as_bytes())
                            );
                            return Err(Issue::new(value.pos, text));
                        }
                    }
                    Ok(true)
                })?;
            }
            "retention" if value.is_null() => {}
            "retention" => storage.retention = Some(decode_retention(decoder, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(())
}

fn decode_retention(decoder: &mut Decoder, node: &Node) -> Result<Retention, Issue> {
    let mut retention = Retention::default();
    let mut size = Size::default();
    decoder.fields(node, "config.TSDBRetentionConfig", &mut |decoder, key, value| {
        match key {
            "time" => decoder.set(value, &mut retention.time)?,
            "size" => decoder.set(value, &mut size)?,
            "percentage" => decoder.set(value, &mut retention.percentage)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if size.0 < 0 {
        let text = "'storage.tsdb.retention.size' must be greater than or equal to 0";
        return Err(Issue::new(node.pos, text));
    }
    if !(0.0..=100.0).contains(&retention.percentage) {
        let text = "'storage.tsdb.retention.percentage' must be in the range [0, 100]";
        return Err(Issue::new(node.pos, text));
    }
    if retention.percentage > 0.0 && size.0 > 0 {
        let text =
            "storage.tsdb.retention.size is ignored, because storage.tsdb.retention.percentage is specified";
        decoder.warn(node.pos, text);
    }
    retention.size_bytes = size.limit();
    Ok(retention)
}

fn decode_tracing(decoder: &mut Decoder, node: &Node) -> Result<(), Issue> {
    const KEYS: [&str; 6] =
        ["sampling_fraction", "insecure", "tls_config", "headers", "compression", "timeout"];
    if node.is_null() {
        return Ok(());
    }
    let mut endpoint = String::new();
    let mut client = String::new();
    let mut compression = String::new();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "endpoint" => decoder.set(value, &mut endpoint)?,
            "client_type" => decoder.set(value, &mut client)?,
            "compression" => decoder.set(value, &mut compression)?,
            "headers" => decoder.set(value, &mut headers)?,
            key => return Ok(KEYS.contains(&key)),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(());
    }
    let fail = |text: String| Err(Issue::new(node.pos, text));
    if !matches!(client.as_str(), "" | "grpc" | "http") {
        return fail(format!("expected tracing client type to be to be http or grpc, but got {client}"));
    }
    if let Some(name) = headers
        .keys()
        .map(|name| name.to_ascii_lowercase())
        .find(|name| name == "authorization" || crate::prometheus::is_reserved_header(name))
    {
        return fail(match name.as_str() {
            "authorization" => "custom authorization header configuration is not yet supported".to_owned(),
            name => format!("{name} is a reserved header. It must not be changed"),
        });
    }
    if endpoint.is_empty() {
        return fail("tracing endpoint must be set".to_owned());
    }
    if !matches!(compression.as_str(), "" | "gzip") {
        return fail(format!("invalid compression type {compression} provided, valid options: gzip"));
    }
    decoder.warn(node.pos, "section tracing has no effect: sending traces is not supported yet");
    Ok(())
}

/// One element of `scrape_configs`, before `global` is known.
struct RawScrape {
    pos: Pos,
    interval: Duration,
    timeout: Duration,
    protocols: Option<RawProtocols>,
    fallback: Option<String>,
    scheme: Option<NameScheme>,
    escaping: String,
    flags: ScrapeFlags,
    relabel: RawRules,
    metric_relabel: RawRules,
    /// What needs no more work.
    config: ScrapeConfig,
}

impl RawScrape {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
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
        let job = &mut raw.config;
        let ok = decoder.fields(node, "config.ScrapeConfig", &mut |decoder, key, value| {
            match key {
                "job_name" => decoder.set(value, &mut job.job_name)?,
                "scrape_interval" => decoder.set(value, &mut raw.interval)?,
                "scrape_timeout" => decoder.set(value, &mut raw.timeout)?,
                "scrape_protocols" => raw.protocols = RawProtocols::decode(decoder, value)?,
                "fallback_scrape_protocol" => raw.fallback = decode_protocol(decoder, value)?,
                "scrape_failure_log_file" => {
                    decode_failure_log(decoder, base, value, &mut job.scrape_failure_log_file)?;
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
                "native_histogram_bucket_limit" | "native_histogram_min_bucket_factor" => {
                    if f64::decode(decoder, value)?.is_some_and(|v| v != 0.0) {
                        let text = format!("{key} has no effect: native histograms are not scraped yet");
                        decoder.warn(value.pos, &text);
                    }
                }
                "metric_name_validation_scheme" => raw.scheme = decode_scheme(decoder, value)?,
                "metric_name_escaping_scheme" => {
                    decoder.set(value, &mut raw.escaping)?;
                    warn_of_escaping(decoder, value, &raw.escaping);
                }
                "relabel_configs" => raw.relabel = decode_list(decoder, value)?.unwrap_or_default(),
                "metric_relabel_configs" => {
                    raw.metric_relabel = decode_list(decoder, value)?.unwrap_or_default();
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
        job.discovery = discovery.finish(raw.relabel.is_empty())?;
        Ok(Some(raw))
    }

    fn resolve(self, decoder: &mut Decoder, global: &RawGlobal) -> Result<ScrapeConfig, Issue> {
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
            None => global.protocols.clone().unwrap_or_else(|| DEFAULT_PROTOCOLS.to_vec()),
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
        job.name_scheme = self.scheme.or(global.scheme).unwrap_or_default();
        let default_escaping = match job.name_scheme {
            NameScheme::Utf8 => Escaping::AllowUtf8,
            NameScheme::Legacy => Escaping::Underscores,
        };
        job.escaping = match self.escaping.as_str() {
            "" if self.scheme.is_some() => default_escaping,
            "" => global.escaping.unwrap_or(default_escaping),
            text => match Escaping::parse(text) {
                Some(escaping) => escaping,
                None => return fail(unknown_escaping("scrape config", text)),
            },
        };
        if job.escaping == Escaping::AllowUtf8 && job.name_scheme != NameScheme::Utf8 {
            return fail("utf8 metric names requested but validation scheme is not set to UTF8".to_owned());
        }
        job.relabel = validate_list(
            self.relabel,
            job.name_scheme,
            "empty or null target relabeling rule in scrape config",
        )?;
        job.metric_relabel = validate_list(
            self.metric_relabel,
            job.name_scheme,
            "empty or null metric relabeling rule in scrape config",
        )?;
        if job.scrape_protocols.iter().all(|p| *p == ScrapeProtocol::PrometheusProto) {
            let text = "scrape_protocols asks for PrometheusProto alone, which is not supported yet";
            decoder.warn(self.pos, text);
        }
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
        http: crate::http_client::HttpClient::default(),
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

#[derive(Default)]
struct RawAlerting {
    alert_relabel: RawRules,
    alertmanagers: Vec<RawAlertmanager>,
}

struct RawAlertmanager {
    relabel: RawRules,
    alert_relabel: RawRules,
    config: Alertmanager,
}

impl RawAlerting {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
        let mut raw = Self::default();
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "alert_relabel_configs" => {
                    raw.alert_relabel = decode_list(decoder, value)?.unwrap_or_default();
                }
                "alertmanagers" => {
                    decoder.items(value, "config.AlertmanagerConfigs", &mut |decoder, item| {
                        if item.is_null() {
                            return Err(Issue::new(item.pos, "empty or null Alertmanager config section"));
                        }
                        raw.alertmanagers.extend(RawAlertmanager::decode(decoder, base, item)?);
                        Ok(())
                    })?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(raw))
    }

    fn resolve(self, scheme: Option<NameScheme>) -> Result<Alerting, Issue> {
        let scheme = scheme.unwrap_or_default();
        let alertmanagers = self.alertmanagers.into_iter().map(|raw| {
            Ok(Alertmanager {
                relabel: validate_list(
                    raw.relabel,
                    scheme,
                    "empty or null Alertmanager target relabeling rule",
                )?,
                alert_relabel: validate_list(
                    raw.alert_relabel,
                    scheme,
                    "empty or null Alertmanager alert relabeling rule",
                )?,
                ..raw.config
            })
        });
        Ok(Alerting {
            alert_relabel: validate_list(self.alert_relabel, scheme, "empty or null alert relabeling rule")?,
            alertmanagers: alertmanagers.collect::<Result<_, Issue>>()?,
        })
    }
}

impl RawAlertmanager {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
        let mut http = HttpFields::default();
        let mut discovery = SdFields::default();
        let (mut relabel, mut alert_relabel) = (Vec::new(), Vec::new());
        let mut config = Alertmanager {
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            timeout: Duration::from_secs(10),
            http: crate::http_client::HttpClient::default(),
            sigv4: None,
            relabel: Vec::new(),
            alert_relabel: Vec::new(),
            discovery: Vec::new(),
        };
        let ok = decoder.fields(node, "config.AlertmanagerConfig", &mut |decoder, key, value| {
            match key {
                "scheme" => decoder.set(value, &mut config.scheme)?,
                "path_prefix" => decoder.set(value, &mut config.path_prefix)?,
                "timeout" => decoder.set(value, &mut config.timeout)?,
                "api_version" => match String::decode(decoder, value)?.as_deref() {
                    None | Some("v2") => {}
                    Some(other) => {
                        let text =
                            format!("expected Alertmanager api version to be one of [v2] but got {other}");
                        return Err(Issue::new(value.pos, text));
                    }
                },
                "sigv4" => {
                    config.sigv4 = decode_sigv4(decoder, value)?;
                    if config.sigv4.is_some() {
                        decoder.warn(value.pos, "sigv4 has no effect yet: requests are not signed");
                    }
                }
                "relabel_configs" => relabel = decode_list(decoder, value)?.unwrap_or_default(),
                "alert_relabel_configs" => alert_relabel = decode_list(decoder, value)?.unwrap_or_default(),
                _ => {
                    return Ok(http.field(decoder, base, key, value)?
                        || discovery.field(decoder, base, key, value)?);
                }
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        config.http = http.finish(base, node.pos)?;
        let http = &config.http;
        let is_authenticated =
            http.basic_auth.is_some() || http.authorization.is_some() || http.oauth2.is_some();
        if is_authenticated && config.sigv4.is_some() {
            let text = "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured";
            return Err(Issue::new(node.pos, text));
        }
        config.discovery = discovery.finish(relabel.is_empty())?;
        Ok(Some(Self { relabel, alert_relabel, config }))
    }
}
