//! `tracing` and `event_recorder`: read, judged and printed as upstream does, but without effect.
//!
//! Compat: alertmanager `tracing`, `TracingConfig`; `eventrecorder`, `Config`; `kafka`, `ClientOptions.Validate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;

use super::record::{self, Key, Record, SecretUrl, Slot, always, parse_url, some};
use crate::http_client::headers::decode_headers;
use crate::http_client::print::print_headers;
use crate::http_client::{Header, HttpClient, Tls};
use crate::yaml::{Decoder, Issue, Node, Out};

pub(super) struct RawTracing {
    client_type: ClientType,
    endpoint: String,
    sampling_fraction: f64,
    insecure: bool,
    tls: Option<Tls>,
    headers: Headers,
    compression: String,
    timeout: Duration,
}

impl Default for RawTracing {
    fn default() -> Self {
        Self {
            client_type: ClientType("grpc".to_owned()),
            endpoint: String::new(),
            sampling_fraction: 0.0,
            insecure: false,
            tls: None,
            headers: Headers::default(),
            compression: String::new(),
            timeout: Duration::ZERO,
        }
    }
}

/// Null is an empty type, which no check sees.
struct ClientType(String);

impl Slot for ClientType {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.0.clear();
            return Ok(());
        }
        let Some(kind) = decoder.text_as(node, "tracing.plain")? else { return Ok(()) };
        if !matches!(kind.as_str(), "http" | "grpc") {
            let text = format!("expected tracing client type to be to be http or grpc, but got {kind}");
            return Err(Issue::new(node.pos, text));
        }
        self.0 = kind;
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::Text(self.0.clone())
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Default)]
struct Headers(Option<BTreeMap<String, Header>>);

impl Slot for Headers {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        self.0 = if node.is_null() { None } else { Some(decode_headers(decoder, base, node)?) };
        Ok(())
    }

    fn print(&mut self) -> Out {
        print_headers(self.0.as_ref().unwrap_or(&BTreeMap::new()))
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

impl Record for RawTracing {
    const GO_TYPE: &'static str = "tracing.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            some("client_type", &mut self.client_type),
            some("endpoint", &mut self.endpoint),
            some("sampling_fraction", &mut self.sampling_fraction),
            some("insecure", &mut self.insecure),
            some("tls_config", &mut self.tls),
            some("headers", &mut self.headers),
            some("compression", &mut self.compression),
            some("timeout", &mut self.timeout),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        if self.endpoint.is_empty() {
            return Err("tracing endpoint must be set".to_owned());
        }
        if !matches!(self.compression.as_str(), "" | "gzip") {
            let compression = &self.compression;
            return Err(format!("invalid compression type {compression} provided, valid options: gzip"));
        }
        Ok(())
    }
}

/// Where upstream writes a stream of events.
#[derive(Default)]
pub(super) struct RawEventRecorder {
    files: Vec<FileOutput>,
    webhooks: Vec<WebhookOutput>,
    kafka: Vec<KafkaOutput>,
    stdout: Vec<StdoutOutput>,
}

impl Record for RawEventRecorder {
    const GO_TYPE: &'static str = "eventrecorder.Config";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            some("file_outputs", &mut self.files),
            some("webhook_outputs", &mut self.webhooks),
            some("kafka_outputs", &mut self.kafka),
            some("stdout_outputs", &mut self.stdout),
        ]
    }
}

impl RawEventRecorder {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.webhooks.is_empty() && self.kafka.is_empty() && self.stdout.is_empty()
    }

    pub(super) fn print(&mut self) -> Out {
        record::fields(self).into_out()
    }
}

#[derive(Default)]
struct FileOutput {
    path: PathText,
}

/// Joined to the directory of the configuration when it is read.
#[derive(Default)]
struct PathText(String);

impl Slot for PathText {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        decoder.set(node, &mut self.0)?;
        self.0 = crate::paths::join(base, &self.0);
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::Text(self.0.clone())
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl Record for FileOutput {
    const GO_TYPE: &'static str = "eventrecorder.plain";
    const GO_LIST: &'static str = "[]eventrecorder.FileOutputConfig";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![always("path", &mut self.path)]
    }

    fn check(&mut self) -> Result<(), String> {
        if self.path.0.is_empty() {
            return Err("event_recorder file output requires a path".to_owned());
        }
        Ok(())
    }
}

#[derive(Default)]
struct WebhookOutput {
    url: SecretUrl,
    http: Option<HttpClient>,
    timeout: Duration,
    workers: i64,
    max_retries: i64,
    retry_backoff: Duration,
    batch: bool,
    batch_max_events: i64,
    batch_max_bytes: i64,
    batch_flush_interval: Duration,
}

impl Record for WebhookOutput {
    const GO_TYPE: &'static str = "eventrecorder.plain";
    const GO_LIST: &'static str = "[]eventrecorder.WebhookOutputConfig";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            always("url", &mut self.url),
            some("http_config", &mut self.http),
            some("timeout", &mut self.timeout),
            some("workers", &mut self.workers),
            some("max_retries", &mut self.max_retries),
            some("retry_backoff", &mut self.retry_backoff),
            some("batch", &mut self.batch),
            some("batch_max_events", &mut self.batch_max_events),
            some("batch_max_bytes", &mut self.batch_max_bytes),
            some("batch_flush_interval", &mut self.batch_flush_interval),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        let fail = |text: &str| Err(format!("event_recorder webhook {text}"));
        if !self.url.is_set() {
            return fail("output requires a url");
        }
        if parse_url(self.url.secret().expose()).is_err() {
            return fail("output requires an absolute http(s) url");
        }
        if self.batch_max_events < 0 || self.batch_max_bytes < 0 {
            return fail("batch settings cannot be negative");
        }
        let has_batch = self.batch_max_events != 0 || self.batch_max_bytes != 0;
        if !self.batch && (has_batch || !self.batch_flush_interval.is_zero()) {
            return fail("batch settings require batch: true");
        }
        Ok(())
    }
}

#[derive(Default)]
struct KafkaOutput {
    brokers: Vec<String>,
    topic: String,
    client_id: String,
    format: String,
    acks: String,
    compression: String,
    buffer_size: i64,
    tls: Option<Tls>,
}

impl Record for KafkaOutput {
    const GO_TYPE: &'static str = "eventrecorder.plain";
    const GO_LIST: &'static str = "[]eventrecorder.KafkaOutputConfig";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            always("brokers", &mut self.brokers),
            always("topic", &mut self.topic),
            some("client_id", &mut self.client_id),
            some("format", &mut self.format),
            some("acks", &mut self.acks),
            some("compression", &mut self.compression),
            some("buffer_size", &mut self.buffer_size),
            some("tls_config", &mut self.tls),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        let fail = |text: &str| Err(format!("event_recorder kafka{text}"));
        let quoted = |text: &str| go_quote(text.as_bytes());
        if self.brokers.is_empty() {
            return fail(": at least one broker is required");
        }
        if self.brokers.iter().any(String::is_empty) {
            return fail(": broker entries must be non-empty");
        }
        if !matches!(self.acks.as_str(), "" | "none" | "leader" | "all") {
            let acks = quoted(&self.acks);
            return fail(&format!(": unknown acks {acks}, must be \"none\", \"leader\", or \"all\""));
        }
        if !matches!(self.compression.as_str(), "" | "none" | "gzip" | "snappy" | "lz4" | "zstd") {
            return fail(&format!(": unknown compression {}", quoted(&self.compression)));
        }
        if self.topic.is_empty() {
            return fail(" output requires a topic");
        }
        if self.format.is_empty() {
            "json".clone_into(&mut self.format);
        }
        if !matches!(self.format.as_str(), "json" | "protobuf") {
            let format = quoted(&self.format);
            return fail(&format!(": unknown format {format}, must be \"json\" or \"protobuf\""));
        }
        Ok(())
    }
}

#[derive(Default)]
struct StdoutOutput;

impl Record for StdoutOutput {
    const GO_TYPE: &'static str = "eventrecorder.StdoutOutputConfig";
    const GO_LIST: &'static str = "[]eventrecorder.StdoutOutputConfig";

    fn keys(&mut self) -> Vec<Key<'_>> {
        Vec::new()
    }
}
