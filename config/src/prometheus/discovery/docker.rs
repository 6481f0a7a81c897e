//! `docker_sd_configs` and `dockerswarm_sd_configs`.
//!
//! Compat: prometheus `discovery/moby`, `DockerSDConfig` and `DockerSwarmSDConfig`.

use std::path::Path;
use std::time::Duration;

use super::{DockerDiscovery, DockerFilter, DockerSwarmDiscovery, DockerSwarmRole};
use crate::http_client::decode::HttpFields;
use crate::http_client::print as http;
use crate::uri::Uri;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

const DEFAULT_PORT: i64 = 80;
const DEFAULT_REFRESH: Duration = Duration::from_mins(1);

pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<DockerDiscovery> {
    let mut http = HttpFields::default();
    let (mut host, mut port, mut filters) = (String::new(), DEFAULT_PORT, Vec::new());
    let mut host_networking_host = "localhost".to_owned();
    let mut match_first_network = true;
    let mut refresh_interval = DEFAULT_REFRESH;
    let ok = decoder.fields(node, "moby.plain", &mut |decoder, key, value| {
        match key {
            "host" => decoder.set(value, &mut host)?,
            "port" => decoder.set(value, &mut port)?,
            "filters" => decode_filters(decoder, value, &mut filters)?,
            "host_networking_host" => decoder.set(value, &mut host_networking_host)?,
            "refresh_interval" => decoder.set(value, &mut refresh_interval)?,
            "match_first_network" => decoder.set(value, &mut match_first_network)?,
            _ => return http.field(decoder, base, key, value),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    check_host(&host).map_err(|text| Issue::new(node.pos, text))?;
    let http = http.finish(base, node.pos)?;
    Ok(Some(DockerDiscovery {
        host,
        port,
        filters,
        host_networking_host,
        match_first_network,
        refresh_interval,
        http,
    }))
}

pub(super) fn decode_swarm(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<DockerSwarmDiscovery> {
    let mut http = HttpFields::default();
    let (mut host, mut port, mut filters) = (String::new(), DEFAULT_PORT, Vec::new());
    let mut role = String::new();
    let mut refresh_interval = DEFAULT_REFRESH;
    let ok = decoder.fields(node, "moby.plain", &mut |decoder, key, value| {
        match key {
            "host" => decoder.set(value, &mut host)?,
            "role" => decoder.set(value, &mut role)?,
            "port" => decoder.set(value, &mut port)?,
            "filters" => decode_filters(decoder, value, &mut filters)?,
            "refresh_interval" => decoder.set(value, &mut refresh_interval)?,
            _ => return http.field(decoder, base, key, value),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let fail = |text: String| Issue::new(node.pos, text);
    check_host(&host).map_err(fail)?;
    let role = match role.as_str() {
        "services" => DockerSwarmRole::Services,
        "nodes" => DockerSwarmRole::Nodes,
        "tasks" => DockerSwarmRole::Tasks,
        "" => return Err(fail("role missing (one of: tasks, services, nodes)".to_owned())),
        _ => return Err(fail(format!("invalid role {role}, expected tasks, services, or nodes"))),
    };
    let http = http.finish(base, node.pos)?;
    Ok(Some(DockerSwarmDiscovery { host, role, port, filters, refresh_interval, http }))
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("host missing".to_owned());
    }
    Uri::parse(host).map(drop)
}

fn decode_filters(decoder: &mut Decoder, node: &Node, filters: &mut Vec<DockerFilter>) -> Result<(), Issue> {
    let mut found = Vec::new();
    let is_list = decoder.items(node, "[]moby.Filter", &mut |decoder, item| {
        let mut filter = DockerFilter { name: String::new(), values: Vec::new() };
        let ok = decoder.fields(item, "moby.Filter", &mut |decoder, key, value| {
            match key {
                "name" => decoder.set(value, &mut filter.name)?,
                "values" => decoder.set(value, &mut filter.values)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        found.extend(ok.then_some(filter));
        Ok(())
    })?;
    if is_list {
        *filters = found;
    }
    Ok(())
}

pub(super) fn print(docker: &DockerDiscovery) -> Out {
    let mut fields = http::print(&docker.http);
    fields
        .put("host", docker.host.as_str())
        .put("port", Out::Raw(docker.port.to_string()))
        .put("filters", print_filters(&docker.filters))
        .put("host_networking_host", docker.host_networking_host.as_str())
        .put("refresh_interval", docker.refresh_interval)
        .put("match_first_network", docker.match_first_network);
    fields.into_out()
}

pub(super) fn print_swarm(swarm: &DockerSwarmDiscovery) -> Out {
    let mut fields = http::print(&swarm.http);
    fields
        .put("host", swarm.host.as_str())
        .put("role", swarm.role.as_str())
        .put("port", Out::Raw(swarm.port.to_string()))
        .put("filters", print_filters(&swarm.filters))
        .put("refresh_interval", swarm.refresh_interval);
    fields.into_out()
}

fn print_filters(filters: &[DockerFilter]) -> Out {
    let filter = |filter: &DockerFilter| {
        let values = filter.values.iter().cloned().collect::<Out>();
        Out::Map(vec![("name".to_owned(), Out::from(filter.name.as_str())), ("values".to_owned(), values)])
    };
    Out::List(filters.iter().map(filter).collect())
}
