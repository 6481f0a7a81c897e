//! `tls_config`, wherever it stands.
//!
//! Compat: prometheus/common `config`, `TLSConfig`.

use std::path::Path;

use super::auth::RawSource;
use super::{Tls, TlsVersion};
use crate::Secret;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node};

impl TlsVersion {
    const ALL: [Self; 4] = [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls10 => "TLS10",
            Self::Tls11 => "TLS11",
            Self::Tls12 => "TLS12",
            Self::Tls13 => "TLS13",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

#[derive(Default)]
struct RawTls {
    ca: RawSource<String>,
    cert: RawSource<String>,
    key: RawSource<Secret>,
    server_name: String,
    insecure_skip_verify: bool,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
}

pub(crate) fn decode_tls(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Tls> {
    let mut raw = RawTls::default();
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "server_name" => decoder.set(value, &mut raw.server_name)?,
            "insecure_skip_verify" => decoder.set(value, &mut raw.insecure_skip_verify)?,
            "min_version" => raw.min_version = decode_version(decoder, value)?,
            "max_version" => raw.max_version = decode_version(decoder, value)?,
            _ => {
                return Ok(raw.ca.field(decoder, "ca", key, value)?
                    || raw.cert.field(decoder, "cert", key, value)?
                    || raw.key.field(decoder, "key", key, value)?);
            }
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    if let Some(text) = raw.refusal() {
        return Err(Issue::new(node.pos, text));
    }
    Ok(Some(Tls {
        ca: raw.ca.is_set().then(|| raw.ca.into_source(base)),
        cert: raw.cert.is_set().then(|| raw.cert.into_source(base)),
        key: raw.key.is_set().then(|| raw.key.into_source(base)),
        server_name: Some(raw.server_name).filter(|name| !name.is_empty()),
        insecure_skip_verify: raw.insecure_skip_verify,
        min_version: raw.min_version,
        max_version: raw.max_version,
    }))
}

fn decode_version(decoder: &mut Decoder, node: &Node) -> Decoded<TlsVersion> {
    if node.is_null() {
        return Ok(None);
    }
    let Some(text) = String::decode(decoder, node)? else { return Ok(None) };
    match TlsVersion::parse(&text) {
        Some(version) => Ok(Some(version)),
        None => Err(Issue::new(node.pos, format!("unknown TLS version: {text}"))),
    }
}

impl RawTls {
    fn refusal(&self) -> Option<&'static str> {
        if self.ca.is_ambiguous() {
            return Some("at most one of ca, ca_file & ca_ref must be configured");
        }
        if self.cert.is_ambiguous() {
            return Some("at most one of cert, cert_file & cert_ref must be configured");
        }
        if self.key.is_ambiguous() {
            return Some("at most one of key and key_file must be configured");
        }
        match (self.cert.is_set(), self.key.is_set()) {
            (true, false) => Some(
                "exactly one of key or key_file must be configured when a client certificate is configured",
            ),
            (false, true) => {
                Some("exactly one of cert or cert_file must be configured when a client key is configured")
            }
            _ => None,
        }
    }
}
