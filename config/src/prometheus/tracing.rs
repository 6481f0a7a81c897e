//! `tracing`: where the server's own traces go.
//!
//! Compat: prometheus `config`, `TracingConfig`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::is_reserved_header;
use super::print::print_map;
use crate::http_client::Tls;
use crate::http_client::print::print_tls;
use crate::http_client::tls::decode_tls;
use crate::yaml::emit::Fields;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    pub client: Client,
    pub endpoint: String,
    /// The share of requests that are traced.
    pub sampling_fraction: f64,
    pub insecure: bool,
    pub tls: Tls,
    pub headers: BTreeMap<String, String>,
    pub compression: Compression,
    pub timeout: Duration,
}

/// Over what OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Grpc,
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
}

/// `None` for null, too.
pub(super) fn decode_tracing(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Tracing> {
    if node.is_null() {
        return Ok(None);
    }
    let mut tracing = Tracing {
        client: Client::Grpc,
        endpoint: String::new(),
        sampling_fraction: 0.0,
        insecure: false,
        tls: Tls::default(),
        headers: BTreeMap::new(),
        compression: Compression::None,
        timeout: Duration::ZERO,
    };
    let mut compression = String::new();
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "client_type" if value.is_null() => {}
            "client_type" => match decoder.text_as(value, "config.plain")?.as_deref() {
                None => {}
                Some("grpc") => tracing.client = Client::Grpc,
                Some("http") => tracing.client = Client::Http,
                Some(other) => {
                    let text =
                        format!("expected tracing client type to be to be http or grpc, but got {other}");
                    return Err(Issue::new(value.pos, text));
                }
            },
            "endpoint" => decoder.set(value, &mut tracing.endpoint)?,
            "sampling_fraction" => decoder.set(value, &mut tracing.sampling_fraction)?,
            "insecure" => decoder.set(value, &mut tracing.insecure)?,
            "tls_config" => tracing.tls = decode_tls(decoder, base, value)?.unwrap_or_default(),
            "headers" => decoder.set(value, &mut tracing.headers)?,
            "compression" => decoder.set(value, &mut compression)?,
            "timeout" => decoder.set(value, &mut tracing.timeout)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let fail = |text: String| Err(Issue::new(node.pos, text));
    for name in tracing.headers.keys() {
        match name.to_lowercase().as_str() {
            "authorization" => {
                return fail("custom authorization header configuration is not yet supported".to_owned());
            }
            lower if is_reserved_header(lower) => {
                return fail(format!("{name} is a reserved header. It must not be changed"));
            }
            _ => {}
        }
    }
    if tracing.endpoint.is_empty() {
        return fail("tracing endpoint must be set".to_owned());
    }
    tracing.compression = match compression.as_str() {
        "" => Compression::None,
        "gzip" => Compression::Gzip,
        other => return fail(format!("invalid compression type {other} provided, valid options: gzip")),
    };
    decoder.warn(node.pos, "section tracing has no effect yet: no traces are sent");
    Ok(Some(tracing))
}

pub(super) fn print_tracing(tracing: &Tracing) -> Out {
    let mut fields = Fields::default();
    let client = match tracing.client {
        Client::Grpc => "grpc",
        Client::Http => "http",
    };
    fields.put("client_type", client).some("endpoint", tracing.endpoint.as_str());
    fields.some("sampling_fraction", tracing.sampling_fraction).some("insecure", tracing.insecure);
    if tracing.tls != Tls::default() {
        fields.put("tls_config", print_tls(&tracing.tls));
    }
    fields.some("headers", print_map(&tracing.headers));
    if tracing.compression == Compression::Gzip {
        fields.put("compression", "gzip");
    }
    fields.some("timeout", tracing.timeout);
    fields.into_out()
}
