//! `remote_write` and `remote_read`: other stores that samples are sent to and fetched from.
//!
//! Compat: prometheus `config`, `RemoteWriteConfig` and `RemoteReadConfig`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;

use super::azuread::{AzureAd, decode_azuread, print_azuread};
use super::is_reserved_header;
use super::print::print_map;
use crate::Secret;
use crate::http_client::HttpClient;
use crate::http_client::decode::HttpFields;
use crate::http_client::print as http;
use crate::http_client::sigv4::{Sigv4, decode_sigv4, print_sigv4};
use crate::relabel::decode::{
    RawRule, RawRules, decode_list, label_name, print_list, refuse_null, validate_list,
};
use crate::relabel::{NameScheme, Rule};
use crate::uri::Uri;
use crate::yaml::emit::{Fields, print as print_yaml};
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, Out};

#[derive(Clone, Debug)]
pub struct Write {
    /// It may hold a password.
    pub url: Secret,
    pub timeout: Duration,
    pub headers: BTreeMap<String, String>,
    pub relabel: Vec<Rule>,
    /// Empty for one that follows from the content.
    pub name: String,
    pub send_exemplars: bool,
    pub send_native_histograms: bool,
    pub round_robin_dns: bool,
    pub message: Message,
    pub http: HttpClient,
    pub queue: Queue,
    pub metadata: Metadata,
    pub sigv4: Option<Sigv4>,
    pub azuread: Option<AzureAd>,
    pub google_iam: Option<GoogleIam>,
}

/// `protobuf_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    V1,
    V2,
}

impl Message {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

/// `queue_config`; all numbers are above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub capacity: i64,
    pub max_shards: i64,
    pub min_shards: i64,
    pub max_samples_per_send: i64,
    pub batch_send_deadline: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    pub retry_on_http_429: bool,
    /// Zero for none.
    pub sample_age_limit: Duration,
}

/// `metadata_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub send: bool,
    pub send_interval: Duration,
    pub max_samples_per_send: i64,
}

/// `google_iam`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GoogleIam {
    /// As typed; empty for the default credentials.
    pub credentials_file: String,
}

#[derive(Clone, Debug)]
pub struct Read {
    /// It may hold a password.
    pub url: Secret,
    pub timeout: Duration,
    pub chunked_read_limit: u64,
    pub headers: BTreeMap<String, String>,
    pub read_recent: bool,
    /// Empty for one that follows from the content.
    pub name: String,
    pub http: HttpClient,
    /// Selectors must contain these.
    pub required_matchers: BTreeMap<String, String>,
    pub filter_external_labels: bool,
}

/// What upstream refuses when it applies a configuration: two sections that say the same.
pub fn duplicate(writes: &[Write], reads: &[Read]) -> Option<String> {
    let first = |kind: &str, texts: Vec<(String, String)>| {
        let (_, url) =
            texts.iter().enumerate().find_map(|(i, entry)| texts[..i].contains(entry).then_some(entry))?;
        let text = format!("duplicate remote {kind} configs are not allowed, found duplicate for URL: {url}");
        Some(text)
    };
    let text = |out: Out, url: &Secret| (print_yaml(&out), print_url(url));
    first("write", writes.iter().map(|write| text(print_write(write), &write.url)).collect())
        .or_else(|| first("read", reads.iter().map(|read| text(print_read(read), &read.url)).collect()))
}

/// A section before the name scheme is known.
pub(super) struct RawWrite {
    pub(super) pos: Pos,
    relabel: Vec<RawRule>,
    config: Write,
}

impl RawWrite {
    pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut url: Option<Uri> = None;
        let mut relabel = RawRules::new();
        let mut http = HttpFields::without_http2();
        let mut message = Message::V1.as_str().to_owned();
        let mut config = Write {
            url: Secret::default(),
            timeout: Duration::from_secs(30),
            headers: BTreeMap::new(),
            relabel: Vec::new(),
            name: String::new(),
            send_exemplars: false,
            send_native_histograms: false,
            round_robin_dns: false,
            message: Message::V1,
            http: HttpClient::default(),
            queue: Queue {
                capacity: 10_000,
                max_shards: 50,
                min_shards: 1,
                max_samples_per_send: 2000,
                batch_send_deadline: Duration::from_secs(5),
                min_backoff: Duration::from_millis(30),
                max_backoff: Duration::from_secs(5),
                retry_on_http_429: false,
                sample_age_limit: Duration::ZERO,
            },
            metadata: Metadata {
                send: true,
                send_interval: Duration::from_mins(1),
                max_samples_per_send: 2000,
            },
            sigv4: None,
            azuread: None,
            google_iam: None,
        };
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "url" if value.is_null() => url = None,
                "url" => url = Uri::decode(decoder, value)?,
                "remote_timeout" => decoder.set(value, &mut config.timeout)?,
                "headers" => decoder.set(value, &mut config.headers)?,
                "write_relabel_configs" => relabel = decode_list(decoder, value)?.unwrap_or_default(),
                "name" => decoder.set(value, &mut config.name)?,
                "send_exemplars" => decoder.set(value, &mut config.send_exemplars)?,
                "send_native_histograms" => decoder.set(value, &mut config.send_native_histograms)?,
                "round_robin_dns" => decoder.set(value, &mut config.round_robin_dns)?,
                "protobuf_message" => {
                    let text = decoder.text_as(value, "remote.WriteMessageType")?;
                    message = text.unwrap_or_default();
                }
                "queue_config" => decode_queue(decoder, value, &mut config.queue)?,
                "metadata_config" => decode_metadata(decoder, value, &mut config.metadata)?,
                "sigv4" => config.sigv4 = decode_sigv4(decoder, value)?,
                "azuread" => config.azuread = decode_azuread(decoder, value)?,
                "google_iam" if value.is_null() => config.google_iam = None,
                "google_iam" => config.google_iam = Some(decode_google_iam(decoder, value)?),
                _ => return http.field(decoder, base, key, value),
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        let fail = |text: String| Issue::new(node.pos, text);
        let url = url.ok_or_else(|| fail("url for remote_write is empty".to_owned()))?;
        config.url = Secret::new(url.expose());
        let relabel = refuse_null(relabel, "empty or null relabeling rule in remote write config")?;
        check_headers(&config.headers).map_err(fail)?;
        config.message = match message.as_str() {
            "prometheus.WriteRequest" => Message::V1,
            "io.prometheus.write.v2.Request" => Message::V2,
            other => {
                return Err(fail(format!(
                    "invalid protobuf_message value: unknown type for remote write protobuf message {other}, supported: {}, {}",
                    Message::V1.as_str(),
                    Message::V2.as_str()
                )));
            }
        };
        config.http = http.finish(base, node.pos)?;
        if let Some(text) = config.queue.refusal() {
            return Err(fail(text.to_owned()));
        }
        config.check_auth().map_err(fail)?;
        Ok(Some(Self { pos: node.pos, relabel, config }))
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn resolve(self, scheme: NameScheme) -> Result<Write, Issue> {
        Ok(Write { relabel: validate_list(self.relabel, scheme)?, ..self.config })
    }
}

impl Write {
    fn check_auth(&self) -> Result<(), String> {
        let kinds = [
            ("basic_auth", self.http.basic_auth.is_some()),
            ("authorization", self.http.authorization.is_some()),
            ("oauth2", self.http.oauth2.is_some()),
            ("sigv4", self.sigv4.is_some()),
            ("azuread", self.azuread.is_some()),
            ("google_iam", self.google_iam.is_some()),
        ];
        let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind).collect();
        if given.len() > 1 {
            return Err(format!(
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [{}]",
                given.join(" ")
            ));
        }
        Ok(())
    }
}

impl Queue {
    fn refusal(&self) -> Option<&'static str> {
        if self.max_shards <= 0 {
            return Some("remote write queue max_shards must be positive");
        }
        if self.min_shards <= 0 {
            return Some("remote write queue min_shards must be positive");
        }
        if self.min_shards > self.max_shards {
            return Some("remote write queue min_shards must not be greater than max_shards");
        }
        if self.max_samples_per_send <= 0 {
            return Some("remote write queue max_samples_per_send must be positive");
        }
        if self.capacity <= 0 {
            return Some("remote write queue capacity must be positive");
        }
        let is_backwards = self.max_backoff < self.min_backoff;
        is_backwards.then_some("remote write queue max_backoff must not be less than min_backoff")
    }
}

fn decode_queue(decoder: &mut Decoder, node: &Node, queue: &mut Queue) -> Result<(), Issue> {
    if node.is_nothing() {
        (queue.capacity, queue.max_shards, queue.min_shards, queue.max_samples_per_send) = (0, 0, 0, 0);
        return Ok(());
    }
    decoder.fields(node, "config.QueueConfig", &mut |decoder, key, value| {
        match key {
            "capacity" => decoder.set(value, &mut queue.capacity)?,
            "max_shards" => decoder.set(value, &mut queue.max_shards)?,
            "min_shards" => decoder.set(value, &mut queue.min_shards)?,
            "max_samples_per_send" => decoder.set(value, &mut queue.max_samples_per_send)?,
            "batch_send_deadline" => decoder.set(value, &mut queue.batch_send_deadline)?,
            "min_backoff" => decoder.set(value, &mut queue.min_backoff)?,
            "max_backoff" => decoder.set(value, &mut queue.max_backoff)?,
            "retry_on_http_429" => decoder.set(value, &mut queue.retry_on_http_429)?,
            "sample_age_limit" => decoder.set(value, &mut queue.sample_age_limit)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(())
}

fn decode_metadata(decoder: &mut Decoder, node: &Node, metadata: &mut Metadata) -> Result<(), Issue> {
    if node.is_nothing() {
        *metadata = Metadata { send: false, send_interval: Duration::ZERO, max_samples_per_send: 0 };
        return Ok(());
    }
    decoder.fields(node, "config.MetadataConfig", &mut |decoder, key, value| {
        match key {
            "send" => decoder.set(value, &mut metadata.send)?,
            "send_interval" => decoder.set(value, &mut metadata.send_interval)?,
            "max_samples_per_send" => decoder.set(value, &mut metadata.max_samples_per_send)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(())
}

fn decode_google_iam(decoder: &mut Decoder, node: &Node) -> Result<GoogleIam, Issue> {
    let mut google_iam = GoogleIam::default();
    decoder.fields(node, "googleiam.Config", &mut |decoder, key, value| {
        if key == "credentials_file" {
            decoder.set(value, &mut google_iam.credentials_file)?;
        }
        Ok(key == "credentials_file")
    })?;
    Ok(google_iam)
}

/// Headers that the client sets itself may not be given.
fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for name in headers.keys() {
        match name.to_lowercase().as_str() {
            "authorization" => {
                return Err("authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter".to_owned());
            }
            lower if is_reserved_header(lower) => {
                return Err(format!("{name} is a reserved header. It must not be changed"));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn decode_read(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Read> {
    let mut url: Option<Uri> = None;
    let mut http = HttpFields::default();
    let mut config = Read {
        url: Secret::default(),
        timeout: Duration::from_mins(1),
        chunked_read_limit: 50_000_000,
        headers: BTreeMap::new(),
        read_recent: false,
        name: String::new(),
        http: HttpClient::default(),
        required_matchers: BTreeMap::new(),
        filter_external_labels: true,
    };
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "url" if value.is_null() => url = None,
            "url" => url = Uri::decode(decoder, value)?,
            "remote_timeout" => decoder.set(value, &mut config.timeout)?,
            "chunked_read_limit" => {
                config.chunked_read_limit = decoder.uint_as(value, "uint64")?.unwrap_or_default();
            }
            "headers" => decoder.set(value, &mut config.headers)?,
            "read_recent" => decoder.set(value, &mut config.read_recent)?,
            "name" => decoder.set(value, &mut config.name)?,
            "required_matchers" => config.required_matchers = decode_matchers(decoder, value)?,
            "filter_external_labels" => decoder.set(value, &mut config.filter_external_labels)?,
            _ => return http.field(decoder, base, key, value),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let fail = |text: String| Issue::new(node.pos, text);
    let url = url.ok_or_else(|| fail("url for remote_read is empty".to_owned()))?;
    config.url = Secret::new(url.expose());
    check_headers(&config.headers).map_err(fail)?;
    config.http = http.finish(base, node.pos)?;
    Ok(Some(config))
}

fn decode_matchers(decoder: &mut Decoder, node: &Node) -> Result<BTreeMap<String, String>, Issue> {
    let pairs = decoder.pairs(node, "model.LabelSet", &mut |decoder, key, value| {
        let Some(name) = label_name(decoder, key)? else { return Ok(None) };
        Ok(decoder.text_as(value, "model.LabelValue")?.map(|value| (name, value)))
    })?;
    let text = |name: Vec<u8>| {
        String::from_utf8(name).map_err(|e| {
            let shown = go_quote(e.as_bytes());
            Issue::new(node.pos, format!("{shown} is not a valid label name"))
        })
    };
    pairs.unwrap_or_default().into_iter().map(|(name, value)| Ok((text(name)?, value))).collect()
}

fn print_url(url: &Secret) -> String {
    Uri::parse(url.expose()).map(|url| url.to_string()).unwrap_or_default()
}

pub(super) fn print_write(write: &Write) -> Out {
    let mut fields = Fields::default();
    fields.put("url", print_url(&write.url).as_str()).some("remote_timeout", write.timeout);
    fields.some("headers", print_map(&write.headers));
    fields.some("write_relabel_configs", print_list(&write.relabel));
    fields
        .some("name", write.name.as_str())
        .some("send_exemplars", write.send_exemplars)
        .some("send_native_histograms", write.send_native_histograms)
        .some("round_robin_dns", write.round_robin_dns)
        .some("protobuf_message", write.message.as_str());
    fields.append(http::print(&write.http));
    let queue = &write.queue;
    let mut inner = Fields::default();
    inner
        .some("capacity", queue.capacity)
        .some("max_shards", queue.max_shards)
        .some("min_shards", queue.min_shards)
        .some("max_samples_per_send", queue.max_samples_per_send)
        .some("batch_send_deadline", queue.batch_send_deadline)
        .some("min_backoff", queue.min_backoff)
        .some("max_backoff", queue.max_backoff)
        .some("retry_on_http_429", queue.retry_on_http_429)
        .some("sample_age_limit", queue.sample_age_limit);
    fields.put("queue_config", inner.into_out());
    let metadata = &write.metadata;
    if metadata.send || !metadata.send_interval.is_zero() || metadata.max_samples_per_send != 0 {
        let mut inner = Fields::default();
        inner.put("send", metadata.send).put("send_interval", metadata.send_interval);
        inner.some("max_samples_per_send", metadata.max_samples_per_send);
        fields.put("metadata_config", inner.into_out());
    }
    if let Some(sigv4) = &write.sigv4 {
        fields.put("sigv4", print_sigv4(sigv4));
    }
    if let Some(azuread) = &write.azuread {
        fields.put("azuread", print_azuread(azuread));
    }
    if let Some(google_iam) = &write.google_iam {
        let mut inner = Fields::default();
        inner.some("credentials_file", google_iam.credentials_file.as_str());
        fields.put("google_iam", inner.into_out());
    }
    fields.into_out()
}

pub(super) fn print_read(read: &Read) -> Out {
    let mut fields = Fields::default();
    fields.put("url", print_url(&read.url).as_str()).some("remote_timeout", read.timeout);
    fields.some("chunked_read_limit", read.chunked_read_limit);
    fields.some("headers", print_map(&read.headers));
    fields.some("read_recent", read.read_recent).some("name", read.name.as_str());
    fields.append(http::print(&read.http));
    fields.some("required_matchers", print_map(&read.required_matchers));
    fields.some("filter_external_labels", read.filter_external_labels);
    fields.into_out()
}
