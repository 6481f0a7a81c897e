//! `http_headers`: further request headers, without those that the client sets itself.
//!
//! Compat: prometheus/common `config`, `Headers`.

use std::collections::BTreeMap;
use std::path::Path;

use super::Header;
use crate::Secret;
use crate::paths;
use crate::yaml::{Decode, Decoder, Issue, Node};

/// Headers that the client sets itself.
const RESERVED: [&str; 18] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

pub(crate) fn decode_headers(
    decoder: &mut Decoder,
    base: &Path,
    node: &Node,
) -> Result<BTreeMap<String, Header>, Issue> {
    let pairs = decoder.pairs(node, "config.Headers", &mut |decoder, key, value| {
        let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
        let mut header = Header::default();
        decoder.fields(value, "config.Header", &mut |decoder, key, value| {
            match key {
                "values" => decoder.set(value, &mut header.values)?,
                "secrets" => {
                    let secrets: Option<Vec<Secret>> = Vec::decode(decoder, value)?;
                    header.secrets = secrets.unwrap_or_default();
                }
                "files" => {
                    let files: Vec<String> = Vec::decode(decoder, value)?.unwrap_or_default();
                    header.files = files.iter().map(|file| paths::join(base, file).into()).collect();
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Some((name.clone().into_bytes(), (name, header))))
    })?;
    Ok(pairs.unwrap_or_default().into_iter().map(|(_, pair)| pair).collect())
}

/// The first header that may not be set, in its usual spelling.
pub(super) fn reserved_header(headers: &BTreeMap<String, Header>) -> Option<String> {
    headers.keys().map(|name| canonical_header(name)).find(|name| RESERVED.contains(&name.as_str()))
}

/// `content-type` to `Content-Type`, as Go's `textproto.CanonicalMIMEHeaderKey`; odd names stay as they are.
pub(crate) fn canonical_header(name: &str) -> String {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(is_token) {
        return name.to_owned();
    }
    let mut upper = true;
    name.chars()
        .map(|c| {
            let cased = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            upper = c == '-';
            cased
        })
        .collect()
}
