//! `global`: what jobs inherit, and the labels that go with everything that leaves the server.
//!
//! Compat: prometheus `config`, `GlobalConfig`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::quote::go_quote;

use super::protocols::{PROTO_FIRST, RawProtocols};
use super::{Defaults, Escaping, ScrapeLimits, ScrapeProtocol};
use crate::paths;
use crate::relabel::NameScheme;
use crate::units::Size;
use crate::yaml::{Decode, Decoder, Issue, Node};

const DEFAULT_SCRAPE_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_EVALUATION_INTERVAL: Duration = Duration::from_mins(1);

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
    pub(super) external_labels: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) limits: ScrapeLimits,
    pub(super) scheme: Option<NameScheme>,
    /// As typed; jobs say what is wrong with it.
    pub(super) escaping: String,
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
            // Only where the section is missing: an open one leaves it to the name scheme.
            escaping: Escaping::AllowUtf8.as_str().to_owned(),
            flags: ScrapeFlags::default(),
        }
    }
}

impl RawGlobal {
    /// What counts where the file has no such section.
    pub(super) fn missing(defaults: &Defaults) -> Self {
        Self::default().with(defaults)
    }

    fn with(mut self, defaults: &Defaults) -> Self {
        if self.protocols.is_none() && defaults.proto_first {
            self.protocols = Some(PROTO_FIRST.to_vec());
        }
        self.flags.native_histograms.get_or_insert(false);
        self.flags.extra_metrics.get_or_insert(defaults.extra_scrape_metrics);
        self
    }

    pub(super) fn decode(
        decoder: &mut Decoder,
        base: &Path,
        defaults: &Defaults,
        node: &Node,
    ) -> Result<Option<Self>, Issue> {
        let (mut interval, mut timeout) = (Duration::ZERO, Duration::ZERO);
        let mut evaluation = Duration::ZERO;
        let mut global = Self { escaping: String::new(), ..Self::default() };
        let mut protocols = None;
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
                    decode_path(decoder, base, value, &mut global.scrape_failure_log_file)?;
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
                    decoder.set(value, &mut global.escaping)?;
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
        Ok(Some(global.with(defaults)))
    }
}

pub(super) fn unknown_escaping(whose: &str, got: &str) -> String {
    format!(
        "unknown {whose} name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got {}",
        go_quote(got.as_bytes())
    )
}

pub(super) fn decode_scheme(decoder: &mut Decoder, node: &Node) -> Result<Option<NameScheme>, Issue> {
    match String::decode(decoder, node)?.as_deref() {
        None | Some("") => Ok(None),
        Some("utf8") => Ok(Some(NameScheme::Utf8)),
        Some("legacy") => Ok(Some(NameScheme::Legacy)),
        Some(other) => {
            let other = go_quote(other.as_bytes());
            Err(Issue::new(node.pos, format!("unrecognized ValidationScheme: {other}")))
        }
    }
}

pub(super) fn decode_limit(
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

pub(super) fn decode_flag(
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
    Ok(true)
}

pub(super) fn decode_path(
    decoder: &mut Decoder,
    base: &Path,
    node: &Node,
    slot: &mut String,
) -> Result<(), Issue> {
    *slot = paths::join(base, &String::decode(decoder, node)?.unwrap_or_default());
    Ok(())
}

/// Fills environment variables into values; a variable that is not set becomes nothing, with a warning.
pub(super) fn expand_labels(decoder: &mut Decoder, pairs: &[(Vec<u8>, Vec<u8>)]) -> BTreeMap<String, String> {
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
