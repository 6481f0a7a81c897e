//! `http_sd_configs`: a URL that lists targets.
//!
//! Compat: prometheus `discovery/http`, `SDConfig`.

use std::path::Path;
use std::time::Duration;

use super::HttpDiscovery;
use crate::http_client::decode::HttpFields;
use crate::http_client::print as http;
use crate::uri::Uri;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<HttpDiscovery> {
    let mut http = HttpFields::default();
    let mut url = String::new();
    let mut refresh_interval = Duration::from_mins(1);
    let ok = decoder.fields(node, "http.plain", &mut |decoder, key, value| {
        match key {
            "refresh_interval" => decoder.set(value, &mut refresh_interval)?,
            "url" => decoder.set(value, &mut url)?,
            _ => return http.field(decoder, base, key, value),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    check_url(&url).map_err(|text| Issue::new(node.pos, text))?;
    Ok(Some(HttpDiscovery { url, refresh_interval, http: http.finish(base, node.pos)? }))
}

/// A URL of a web server; also that of a `PuppetDB`.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Err("URL is missing".to_owned());
    }
    let url = Uri::parse(url)?;
    if !matches!(url.scheme.as_str(), "http" | "https") {
        return Err("URL scheme must be 'http' or 'https'".to_owned());
    }
    if url.host.is_empty() {
        return Err("host is missing in URL".to_owned());
    }
    Ok(())
}

/// As typed, unless there is a password in it, which the reference server shows.
pub(super) fn print_url(url: &str) -> String {
    let parsed = Uri::parse(url).unwrap_or_default();
    if parsed.has_password() { parsed.to_string() } else { url.to_owned() }
}

pub(super) fn print(section: &HttpDiscovery) -> Out {
    let mut fields = http::print(&section.http);
    fields.some("refresh_interval", section.refresh_interval).put("url", print_url(&section.url).as_str());
    fields.into_out()
}
