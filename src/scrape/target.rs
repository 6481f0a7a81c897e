//! A target: what is scraped, how often, and how it was last time.
//!
//! Made of a discovered group by the job's rules. Its identity is its labels, its URL and its socket; interval and
//! timeout may change without making it another target.
//!
//! Compat: prometheus `scrape/target.go`, `Target` and `PopulateLabels`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use config::prometheus::ScrapeConfig;
use model::quote::go_quote;
use model::wire::HistogramOptions;
use model::{Labels, LabelsBuilder, Timestamp, duration, fnv1a};
use parking_lot::Mutex;

use super::metadata::Table;

const ADDRESS: &[u8] = b"__address__";
const SCHEME: &[u8] = b"__scheme__";
const PATH: &[u8] = b"__metrics_path__";
const INTERVAL: &[u8] = b"__scrape_interval__";
const TIMEOUT: &[u8] = b"__scrape_timeout__";
/// Dialled instead of the address, which then only fills the `Host` header.
const SOCKET: &[u8] = b"__unix_socket__";
const PARAM_PREFIX: &[u8] = b"__param_";

/// Preset from the job like interval and timeout, and like them a target may have its own by relabelling.
const CONVERT: (&[u8], &str) =
    (b"__convert_classic_histograms_to_nhcb__", "convert classic histograms to nhcb");
const CLASSIC_TOO: (&[u8], &str) =
    (b"__always_scrape_classic_histograms__", "always scrape classic histograms");
const NATIVE: (&[u8], &str) = (b"__scrape_native_histograms__", "scrape native histograms");

/// Which forms of histograms are taken from the targets of a job, unless their labels say otherwise.
fn histograms_of(config: &ScrapeConfig) -> HistogramOptions {
    HistogramOptions {
        native: config.scrape_native_histograms,
        classic_too: config.always_scrape_classic_histograms,
        convert: config.convert_classic_histograms_to_nhcb,
    }
}

/// How a target was at its last scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Where discovery found a target: from here its discovered labels can be made again.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) group: Arc<TargetGroup>,
    pub(super) index: usize,
}

impl Origin {
    /// The labels before relabelling, the job's defaults among them.
    pub(super) fn discovered_labels(&self, config: &ScrapeConfig) -> LabelsBuilder {
        let target = &self.group.targets[self.index];
        let mut labels = LabelsBuilder::from(target);
        for (name, value) in &self.group.labels {
            if target.get(name).is_none() {
                labels.set(name, value);
            }
        }
        let mut preset = |name: &[u8], value: &str| {
            if labels.get(name).is_none() {
                labels.set(name, value.as_bytes());
            }
        };
        preset(b"job", &config.job_name);
        preset(INTERVAL, &duration::format(config.scrape_interval));
        preset(TIMEOUT, &duration::format(config.scrape_timeout));
        preset(PATH, &config.metrics_path);
        preset(SCHEME, &config.scheme);
        let histograms = histograms_of(config);
        for (name, is_set) in [
            (CONVERT, histograms.convert),
            (CLASSIC_TOO, histograms.classic_too),
            (NATIVE, histograms.native),
        ] {
            preset(name.0, if is_set { "true" } else { "false" });
        }
        for (key, values) in &config.params {
            if let Some(first) = values.first() {
                preset(&[PARAM_PREFIX, key.as_bytes()].concat(), first);
            }
        }
        labels
    }
}

/// The outcome of the last scrape, for those who look.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) health: Health,
    pub(super) last_error: String,
    pub(super) last_scrape: Option<Timestamp>,
    pub(super) last_duration: Duration,
    pub(super) metadata: Option<Arc<Table>>,
    /// What the scrape cache holds.
    pub(super) cache_bytes: usize,
}

/// Something to scrape.
#[derive(Debug)]
pub(super) struct Target {
    /// What every series of it gets.
    pub(super) labels: Labels,
    pub(super) url: Url,
    /// Where it listens, if not at the URL's host.
    pub(super) socket: Option<Box<Path>>,
    /// Of labels, URL and socket; tells targets apart and spreads them over time and shards.
    pub(super) hash: u64,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) histograms: HistogramOptions,
    /// Shared with earlier and later forms of the same target.
    pub(super) state: Arc<Mutex<State>>,
}

/// The target of `origin` under the job's rules, or `None` if they drop it.
///
/// # Errors
/// The labels do not make a target; the text is the user's.
pub(super) fn from_origin(origin: &Origin, config: &ScrapeConfig) -> Result<Option<Target>, String> {
    let mut labels = origin.discovered_labels(config);
    if !config::relabel::apply(&config.relabel, &mut labels) {
        return Ok(None);
    }
    let text = |labels: &LabelsBuilder, name: &[u8]| {
        String::from_utf8_lossy(labels.get(name).unwrap_or_default()).into_owned()
    };
    let address = text(&labels, ADDRESS);
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{} is not a valid hostname", go_quote(address.as_bytes())));
    }
    let duration = |name: &[u8], what: &str| {
        let text = text(&labels, name);
        let parsed =
            duration::parse(&text).map_err(|error| format!("error parsing scrape {what}: {error}"))?;
        if parsed.is_zero() { Err(format!("scrape {what} cannot be 0")) } else { Ok((parsed, text)) }
    };
    let (interval, interval_text) = duration(INTERVAL, "interval")?;
    let (timeout, timeout_text) = duration(TIMEOUT, "timeout")?;
    if timeout > interval {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({} > {})",
            go_quote(timeout_text.as_bytes()),
            go_quote(interval_text.as_bytes())
        ));
    }
    let of_job = histograms_of(config);
    let histograms = HistogramOptions {
        convert: switch(&labels, CONVERT, of_job.convert)?,
        classic_too: switch(&labels, CLASSIC_TOO, of_job.classic_too)?,
        native: switch(&labels, NATIVE, of_job.native)?,
    };
    if labels.get(b"instance").is_none() {
        labels.set(b"instance", address.as_bytes());
    }
    labels.retain(|name, _| !name.starts_with(b"__meta_"));
    if let Some((name, value)) = labels.iter().find(|(_, value)| std::str::from_utf8(value).is_err()) {
        return Err(format!("invalid label value for {}: {}", go_quote(name), go_quote(value)));
    }

    let url = Url::of_target(&labels, &address, config);
    let socket = text(&labels, SOCKET);
    labels.retain(|name, _| !name.starts_with(b"__"));
    let labels = labels.build();
    let hash = fnv1a([labels.as_bytes(), url.text().as_bytes(), socket.as_bytes()]);
    let socket = (!socket.is_empty()).then(|| PathBuf::from(socket).into());
    Ok(Some(Target { labels, url, socket, hash, interval, timeout, histograms, state: Arc::default() }))
}

/// What a label says of a switch that the job has set to `default`.
fn switch(labels: &LabelsBuilder, (name, what): (&[u8], &str), default: bool) -> Result<bool, String> {
    match labels.get(name).unwrap_or_default() {
        b"" => Ok(default),
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Ok(false),
        other => Err(format!(
            "error parsing {what}: strconv.ParseBool: parsing {}: invalid syntax",
            go_quote(other)
        )),
    }
}

/// The URL of a target in one piece of text and the places of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    text: Box<str>,
    /// Where `host:port` begins and the path begins.
    authority: u32,
    path: u32,
}

impl Url {
    fn of_target(labels: &LabelsBuilder, address: &str, config: &ScrapeConfig) -> Self {
        let get = |name: &[u8]| String::from_utf8_lossy(labels.get(name).unwrap_or_default()).into_owned();
        // Every value of the configuration, the first of each key overruled by its label.
        let mut params: BTreeMap<&str, Vec<&str>> = config
            .params
            .iter()
            .map(|(key, values)| (key.as_str(), values.iter().map(String::as_str).collect()))
            .collect();
        for (name, value) in labels.iter() {
            let key = name.strip_prefix(PARAM_PREFIX).and_then(|key| std::str::from_utf8(key).ok());
            if let (Some(key), Ok(value)) = (key, std::str::from_utf8(value)) {
                let values = params.entry(key).or_default();
                match values.first_mut() {
                    Some(first) => *first = value,
                    None => values.push(value),
                }
            }
        }
        let mut rest = String::new();
        let path = get(PATH);
        if !path.starts_with('/') {
            rest.push('/');
        }
        escape(&path, b"-_.~$&+,/:;=@", false, &mut rest);
        let mut separator = '?';
        for (key, values) in &params {
            for value in values {
                rest.push(std::mem::replace(&mut separator, '&'));
                escape(key, b"-_.~", true, &mut rest);
                rest.push('=');
                escape(value, b"-_.~", true, &mut rest);
            }
        }
        Self::new(&get(SCHEME), address, &rest)
    }

    /// The target of a redirect.
    pub(super) fn from_absolute(url: &url::Url) -> Self {
        Self::new(
            url.scheme(),
            url.authority().rsplit('@').next().unwrap_or_default(),
            &url[url::Position::BeforePath..url::Position::AfterQuery],
        )
    }

    fn new(scheme: &str, authority: &str, rest: &str) -> Self {
        let place = |at: usize| u32::try_from(at).expect("a URL is shorter than 4 GiB");
        Self {
            text: format!("{scheme}://{authority}{rest}").into(),
            authority: place(scheme.len() + 3),
            path: place(scheme.len() + 3 + authority.len()),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn authority(&self) -> &str {
        &self.text[self.authority as usize..self.path as usize]
    }

    pub(super) fn path_and_query(&self) -> &str {
        &self.text[self.path as usize..]
    }

    pub(super) fn is_tls(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// # Errors
    /// The address cannot be dialled; the text is the user's.
    pub(super) fn host_and_port(&self) -> Result<(&str, u16), String> {
        let address = self.authority();
        let default = if self.is_tls() { 443 } else { 80 };
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("dial tcp: address {address}: missing ']' in address"))?;
                (host, port.strip_prefix(':'))
            }
            None => match address.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(format!("dial tcp: address {address}: too many colons in address"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        match port {
            None | Some("") => Ok((host, default)),
            Some(port) => match port.parse() {
                Ok(port) => Ok((host, port)),
                Err(_) => Err(format!("dial tcp: address {port}: invalid port")),
            },
        }
    }
}

/// Percent-encodes all but letters, digits and `plain`; a space becomes `+` in a query.
fn escape(text: &str, plain: &[u8], is_query: bool, out: &mut String) {
    for &byte in text.as_bytes() {
        match byte {
            b' ' if is_query => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || plain.contains(&byte) => out.push(char::from(byte)),
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests;
