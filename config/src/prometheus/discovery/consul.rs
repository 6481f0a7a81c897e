//! `consul_sd_configs`.
//!
//! Compat: prometheus `discovery/consul`, `SDConfig`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::ConsulDiscovery;
use crate::Secret;
use crate::http_client::HttpClient;
use crate::http_client::decode::HttpFields;
use crate::http_client::print as http;
use crate::prometheus::print::print_map;
use crate::yaml::emit::Fields;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<ConsulDiscovery> {
    let mut http = HttpFields::default();
    let mut consul = ConsulDiscovery {
        server: "localhost:8500".to_owned(),
        path_prefix: String::new(),
        scheme: "http".to_owned(),
        token: Secret::default(),
        datacenter: String::new(),
        namespace: String::new(),
        partition: String::new(),
        username: String::new(),
        password: Secret::default(),
        tag_separator: ",".to_owned(),
        services: Vec::new(),
        tags: Vec::new(),
        node_meta: BTreeMap::new(),
        filter: String::new(),
        health_filter: String::new(),
        allow_stale: true,
        refresh_interval: Duration::from_secs(30),
        http: HttpClient::default(),
    };
    let ok = decoder.fields(node, "consul.plain", &mut |decoder, key, value| {
        match key {
            "server" => decoder.set(value, &mut consul.server)?,
            "path_prefix" => decoder.set(value, &mut consul.path_prefix)?,
            "token" => decoder.set(value, &mut consul.token)?,
            "datacenter" => decoder.set(value, &mut consul.datacenter)?,
            "namespace" => decoder.set(value, &mut consul.namespace)?,
            "partition" => decoder.set(value, &mut consul.partition)?,
            "tag_separator" => decoder.set(value, &mut consul.tag_separator)?,
            "scheme" => decoder.set(value, &mut consul.scheme)?,
            "username" => decoder.set(value, &mut consul.username)?,
            "password" => decoder.set(value, &mut consul.password)?,
            "allow_stale" => decoder.set(value, &mut consul.allow_stale)?,
            "refresh_interval" => decoder.set(value, &mut consul.refresh_interval)?,
            "services" => decoder.set(value, &mut consul.services)?,
            "tags" => decoder.set(value, &mut consul.tags)?,
            "node_meta" => decoder.set(value, &mut consul.node_meta)?,
            "filter" => decoder.set(value, &mut consul.filter)?,
            "health_filter" => decoder.set(value, &mut consul.health_filter)?,
            _ => return http.field(decoder, base, key, value),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let fail = |text: &str| Err(Issue::new(node.pos, text));
    if consul.server.trim().is_empty() {
        return fail("consul SD configuration requires a server address");
    }
    if !(consul.username.is_empty() && consul.password.is_empty()) {
        if http.has_basic_auth() {
            return fail(
                "at most one of consul SD configuration username and password and basic auth can be configured",
            );
        }
        http.set_basic_auth(&consul.username, &consul.password);
    }
    if !consul.token.is_empty() && (http.has_authorization() || http.has_oauth2()) {
        return fail("at most one of consul SD token, authorization, or oauth2 can be configured");
    }
    consul.http = http.finish(base, node.pos)?;
    Ok(Some(consul))
}

pub(super) fn print(consul: &ConsulDiscovery) -> Out {
    let mut fields = Fields::default();
    let secret = |secret: &Secret| if secret.is_empty() { String::new() } else { secret.to_string() };
    let list = |texts: &[String]| texts.iter().cloned().collect::<Out>();
    fields
        .some("server", consul.server.as_str())
        .some("path_prefix", consul.path_prefix.as_str())
        .some("token", secret(&consul.token).as_str())
        .some("datacenter", consul.datacenter.as_str())
        .some("namespace", consul.namespace.as_str())
        .some("partition", consul.partition.as_str())
        .some("tag_separator", consul.tag_separator.as_str())
        .some("scheme", consul.scheme.as_str())
        .some("username", consul.username.as_str())
        .some("password", secret(&consul.password).as_str())
        .put("allow_stale", consul.allow_stale)
        .some("refresh_interval", consul.refresh_interval)
        .some("services", list(&consul.services))
        .some("tags", list(&consul.tags))
        .some("node_meta", print_map(&consul.node_meta))
        .some("filter", consul.filter.as_str())
        .some("health_filter", consul.health_filter.as_str())
        .append(http::print(&consul.http));
    fields.into_out()
}
