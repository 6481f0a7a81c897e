//! The table form of objects: the columns that `kubectl get` prints.
//!
//! Compat: kubernetes `pkg/printers/internalversion`, the columns only as far as they help whoever looks.

use std::sync::Arc;

use serde_json::{Value, json};

use super::objects::{Kind, Object};
use super::server::metadata;

/// A table of objects; the columns are left out where an earlier table of the same stream has said them.
pub(crate) fn of(kind: Kind, version: u64, objects: &[&Arc<Object>], with_columns: bool) -> Value {
    let columns: Vec<_> = columns(kind)
        .iter()
        .map(|(name, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": priority})
        })
        .collect();
    let rows: Vec<_> = objects
        .iter()
        .map(|object| json!({"cells": cells(kind, &object.value), "object": metadata(object)}))
        .collect();
    let mut meta = json!({});
    if version > 0 {
        meta["resourceVersion"] = json!(version.to_string());
    }
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
        "columnDefinitions": with_columns.then_some(columns), "rows": rows,
    })
}

/// Name and priority: what is above zero shows with `-o wide` alone.
fn columns(kind: Kind) -> &'static [(&'static str, u8)] {
    match kind {
        Kind::Node => &[("Name", 0), ("Status", 0), ("Age", 0), ("Internal-IP", 1)],
        Kind::Namespace => &[("Name", 0), ("Status", 0), ("Age", 0)],
        Kind::Pod => &[("Name", 0), ("Ready", 0), ("Status", 0), ("Age", 0), ("IP", 1), ("Node", 1)],
        Kind::Service => {
            &[("Name", 0), ("Type", 0), ("Cluster-IP", 0), ("Port(s)", 0), ("Age", 0), ("Selector", 1)]
        }
        Kind::Endpoints => &[("Name", 0), ("Endpoints", 0), ("Age", 0)],
        Kind::EndpointSlice => &[("Name", 0), ("AddressType", 0), ("Ports", 0), ("Endpoints", 0), ("Age", 0)],
        Kind::Ingress => &[("Name", 0), ("Class", 0), ("Hosts", 0), ("Age", 0)],
        Kind::ReplicaSet | Kind::Deployment | Kind::Job | Kind::CronJob => &[("Name", 0), ("Age", 0)],
    }
}

fn cells(kind: Kind, object: &Value) -> Vec<String> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("<none>").to_owned();
    let (name, age) = (text("/metadata/name"), age(object));
    let each = |path: &str, what: &dyn Fn(&Value) -> String| -> String {
        let items = object.pointer(path).and_then(Value::as_array);
        let texts: Vec<_> = items.into_iter().flatten().map(what).collect();
        if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") }
    };
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match kind {
        Kind::Node => {
            let is_ready =
                each("/status/conditions", &|c| format!("{}={}", string(&c["type"]), string(&c["status"])))
                    .split(',')
                    .any(|condition| condition == "Ready=True");
            let status = if is_ready { "Ready" } else { "NotReady" };
            let address = each("/status/addresses", &|a| string(&a["address"]));
            vec![name, status.to_owned(), age, address]
        }
        Kind::Namespace => vec![name, text("/status/phase"), age],
        Kind::Pod => {
            let is_ready = |status: &&Value| status["ready"] == true;
            let statuses = object["status"]["containerStatuses"].as_array();
            let n_ready = statuses.into_iter().flatten().filter(is_ready).count();
            let n = object["spec"]["containers"].as_array().map_or(0, Vec::len);
            let ready = format!("{n_ready}/{n}");
            vec![name, ready, text("/status/phase"), age, text("/status/podIP"), text("/spec/nodeName")]
        }
        Kind::Service => {
            let ports = each("/spec/ports", &|p| format!("{}/{}", p["port"], string(&p["protocol"])));
            let selector = object["spec"]["selector"].as_object().into_iter().flatten();
            let selector: Vec<_> =
                selector.map(|(label, value)| format!("{label}={}", string(value))).collect();
            vec![name, text("/spec/type"), text("/spec/clusterIP"), ports, age, selector.join(",")]
        }
        Kind::Endpoints => {
            let addresses = |subset: &Value| {
                let addresses = subset["addresses"].as_array().into_iter().flatten();
                addresses.map(|address| string(&address["ip"])).collect::<Vec<_>>().join(",")
            };
            vec![name, each("/subsets", &addresses), age]
        }
        Kind::EndpointSlice => {
            let ports = each("/ports", &|p| p["port"].to_string());
            let endpoints = each("/endpoints", &|e| string(&e["addresses"][0]));
            vec![name, text("/addressType"), ports, endpoints, age]
        }
        Kind::Ingress => {
            vec![name, text("/spec/ingressClassName"), each("/spec/rules", &|r| string(&r["host"])), age]
        }
        Kind::ReplicaSet | Kind::Deployment | Kind::Job | Kind::CronJob => vec![name, age],
    }
}

fn age(object: &Value) -> String {
    let created = object["metadata"]["creationTimestamp"].as_str();
    let Some(created) = created.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let seconds = (jiff::Timestamp::now().as_second() - created.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
