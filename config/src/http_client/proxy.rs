//! By which way connections leave: `proxy_url` and its companions.
//!
//! Compat: prometheus/common `config`, `ProxyConfig`.

use std::collections::BTreeMap;

use super::Proxy;
use crate::Secret;
use crate::uri::Uri;
use crate::yaml::emit::Fields;
use crate::yaml::{Decode, Decoder, Issue, Node, Out};

#[derive(Debug, Default)]
pub(super) struct ProxyFields {
    /// An empty one is given all the same.
    url: Option<Uri>,
    no_proxy: String,
    from_environment: bool,
    connect_headers: BTreeMap<String, Vec<Secret>>,
}

impl ProxyFields {
    pub(super) fn field(&mut self, decoder: &mut Decoder, key: &str, value: &Node) -> Result<bool, Issue> {
        match key {
            "proxy_url" if value.is_null() => self.url = None,
            "proxy_url" => self.url = Uri::decode(decoder, value)?,
            "no_proxy" => decoder.set(value, &mut self.no_proxy)?,
            "proxy_from_environment" => decoder.set(value, &mut self.from_environment)?,
            "proxy_connect_header" => {
                let pairs = decoder.pairs(value, "config.ProxyHeader", &mut |decoder, key, value| {
                    let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
                    let values: Option<Vec<Secret>> = Vec::decode(decoder, value)?;
                    Ok(values.map(|values| (name.clone().into_bytes(), (name, values))))
                })?;
                self.connect_headers = pairs.unwrap_or_default().into_iter().map(|(_, pair)| pair).collect();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn has_url(&self) -> bool {
        self.url.as_ref().is_some_and(|url| *url != Uri::default())
    }

    pub(super) fn refusal(&self) -> Option<&'static str> {
        if !self.connect_headers.is_empty() && !self.from_environment && !self.has_url() {
            return Some(
                "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
            );
        }
        if self.from_environment && self.has_url() {
            return Some("if proxy_from_environment is configured, proxy_url must not be configured");
        }
        if self.from_environment && !self.no_proxy.is_empty() {
            return Some("if proxy_from_environment is configured, no_proxy must not be configured");
        }
        if self.url.is_none() && !self.no_proxy.is_empty() {
            return Some("if no_proxy is configured, proxy_url must also be configured");
        }
        None
    }

    pub(super) fn finish(self) -> Proxy {
        Proxy {
            url: self.url.filter(|url| *url != Uri::default()).map(|url| Secret::new(url.expose())),
            no_proxy: self.no_proxy,
            from_environment: self.from_environment,
            connect_headers: self.connect_headers,
        }
    }

    pub(super) fn print(&self, fields: &mut Fields) {
        let url = self.url.as_ref().map(ToString::to_string).unwrap_or_default();
        print(fields, &url, &self.no_proxy, self.from_environment, &self.connect_headers);
    }
}

pub(super) fn print_proxy(fields: &mut Fields, proxy: &Proxy) {
    let url = proxy.url.as_ref().map(|url| Uri::parse(url.expose()));
    let url = url.and_then(Result::ok).map(|url| url.to_string()).unwrap_or_default();
    print(fields, &url, &proxy.no_proxy, proxy.from_environment, &proxy.connect_headers);
}

fn print(
    fields: &mut Fields,
    url: &str,
    no_proxy: &str,
    from_environment: bool,
    connect_headers: &BTreeMap<String, Vec<Secret>>,
) {
    fields.some("proxy_url", url).some("no_proxy", no_proxy);
    fields.some("proxy_from_environment", from_environment);
    let headers = connect_headers
        .iter()
        .map(|(name, values)| (name.clone(), Out::List(values.iter().map(Out::secret).collect())));
    fields.some("proxy_connect_header", Out::sorted(headers));
}
