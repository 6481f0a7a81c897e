//! The manifest that runs us in a cluster: it has to let us do what we do, and its parts have to fit together.

use std::collections::BTreeSet;
use std::path::Path;

use config::prometheus::{Discovery, KubernetesRole};
use serde::Deserialize as _;
use serde_json::Value;

use super::super::object::Kind;

/// The objects of the manifest.
fn manifest() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("each document is YAML"))
        .collect()
}

fn one<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    let mut found = all.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn it_may_do_what_discovery_does_and_nothing_more() {
    let all = manifest();
    let rules = one(&all, "ClusterRole")["rules"].as_array().unwrap();
    let mut needed = BTreeSet::new();
    for kind in Kind::ALL {
        let path = kind.path(None);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        needed.insert(match parts[..] {
            ["api", "v1", resource] => (String::new(), resource.to_owned()),
            ["apis", group, "v1", resource] => (group.to_owned(), resource.to_owned()),
            _ => panic!("{path} is no path of a collection"),
        });
    }
    let mut granted = BTreeSet::new();
    for rule in rules {
        if texts(&rule["verbs"]) == BTreeSet::from(["get"]) {
            // For scrapes; discovery asks for no single object.
            continue;
        }
        assert_eq!(texts(&rule["verbs"]), BTreeSet::from(["list", "watch"]), "{rule}");
        for group in texts(&rule["apiGroups"]) {
            granted.extend(texts(&rule["resources"]).into_iter().map(|r| (group.to_owned(), r.to_owned())));
        }
    }
    assert_eq!(granted, needed);

    let (account, binding) = (one(&all, "ServiceAccount"), one(&all, "ClusterRoleBinding"));
    assert_eq!(binding["roleRef"]["name"], one(&all, "ClusterRole")["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["namespace"], account["metadata"]["namespace"]);
    let pod = &one(&all, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
}

#[test]
fn its_parts_fit_together() {
    let all = manifest();
    let namespace = &one(&all, "Namespace")["metadata"]["name"];
    for kind in ["ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"] {
        assert_eq!(&one(&all, kind)["metadata"]["namespace"], namespace, "{kind}");
    }
    let (deployment, service) = (&one(&all, "Deployment")["spec"], &one(&all, "Service")["spec"]);
    let template = &deployment["template"];
    assert_eq!(deployment["selector"]["matchLabels"], template["metadata"]["labels"]);
    assert_eq!(service["selector"], template["metadata"]["labels"]);
    assert_eq!(deployment["strategy"]["type"], "Recreate", "two processes would fight for the data");

    let pod = &template["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["ports"][0]["containerPort"], 9090, "as the default of --web.listen-address");
    assert_eq!(service["ports"][0]["targetPort"], container["ports"][0]["name"]);
    for (probe, path) in
        [("startupProbe", "/-/ready"), ("readinessProbe", "/-/ready"), ("livenessProbe", "/-/healthy")]
    {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
    }
    assert!(container["resources"]["limits"]["memory"].is_string());

    let mount = |name: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["name"] == name).unwrap()["mountPath"].as_str().unwrap()
    };
    let args = texts(&container["args"]);
    assert!(args.contains(&*format!("--config.file={}/prometheus.yml", mount("config"))));
    assert!(args.contains(&*format!("--storage.tsdb.path={}", mount("data"))));
    let volumes = pod["volumes"].as_array().unwrap();
    assert_eq!(volumes[0]["configMap"]["name"], one(&all, "ConfigMap")["metadata"]["name"]);
    assert_eq!(
        volumes[1]["persistentVolumeClaim"]["claimName"],
        one(&all, "PersistentVolumeClaim")["metadata"]["name"]
    );
}

#[test]
fn its_configuration_is_one() {
    let all = manifest();
    let text = one(&all, "ConfigMap")["data"]["prometheus.yml"].as_str().unwrap();
    let config = config::prometheus::parse(text, Path::new("/etc/ferula")).unwrap();
    let mut roles: Vec<KubernetesRole> = config
        .scrape_configs
        .iter()
        .flat_map(|job| &job.discovery)
        .filter_map(|section| match section {
            Discovery::Kubernetes(section) => Some(section.role),
            _ => None,
        })
        .collect();
    roles.sort();
    assert_eq!(roles, [KubernetesRole::Node, KubernetesRole::Pod, KubernetesRole::EndpointSlice]);
}
