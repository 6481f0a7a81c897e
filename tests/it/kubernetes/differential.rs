//! The same cluster read by Ferula and by a live Prometheus: the targets of both, active and dropped, with all labels
//! that relabelling saw.
//!
//! What Prometheus shows of endpoints depends on the order in which it heard of them and of their pods, so the truth
//! is a Prometheus that has just been started. One that lives as long as Ferula does has to agree too, once every
//! object was written again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::cluster::{Maker, Size};
use super::objects::Kind;
use super::server::{Api, Options};
use super::{change, populated};
use crate::process::{Home, Process, Server, peer, skipped, until, until_true};

/// How long two servers may take to agree.
const PATIENCE: Duration = Duration::from_secs(90);

/// After this long the objects are written once more for the server that lives long.
const TOUCH_EVERY: Duration = Duration::from_secs(15);

const ROUNDS: usize = 5;
const CHANGES: usize = 200;

/// Everything that discovery says becomes a label, so that no two different targets are the same one.
const MAP: &str = "{action: labelmap, regex: '__meta_kubernetes_(.+)'}";

/// One job for each thing that can be said: all roles, selectors, namespaces, metadata of others, relabelling that drops.
fn jobs(is_newest: bool) -> Vec<(&'static str, String)> {
    let all = if is_newest {
        "{node: true, namespace: true, deployment: true, job: true, cronjob: true}"
    } else {
        "{node: true}"
    };
    let mut jobs = Vec::new();
    let mut job = |name, section: &str, rules: &str| {
        let section = section.replace("ALL", all);
        jobs.push((
            name,
            format!("kubernetes_sd_configs: [{{AT, {section}}}]\n    relabel_configs: [{rules}]"),
        ));
    };
    let drop_front =
        format!("{{action: drop, source_labels: [__meta_kubernetes_pod_label_tier], regex: front}}, {MAP}");
    job("nodes", "role: node", MAP);
    job(
        "nodes-of-a-zone",
        "role: node, selectors: [{role: node, label: 'topology.kubernetes.io/zone in (a,b)'}]",
        MAP,
    );
    job("pods", "role: pod", MAP);
    job("pods-attached", "role: pod, attach_metadata: ALL", MAP);
    job(
        "pods-selected",
        "role: pod, namespaces: {names: [team-0, team-2]}, \
         selectors: [{role: pod, label: 'tier!=none,app', field: 'status.phase=Running'}]",
        MAP,
    );
    job("pods-dropped", "role: pod", &drop_front);
    job(
        "pods-kept",
        "role: pod, namespaces: {names: [team-1, team-3]}",
        "{action: keep, source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: 'true'}, \
         {source_labels: [__address__, __meta_kubernetes_pod_container_port_number], regex: '(.+);(.+)', \
         target_label: __param_port, replacement: '$2'}, \
         {action: labelmap, regex: '__meta_kubernetes_(.+)'}",
    );
    job("services", "role: service", MAP);
    job(
        "services-selected",
        "role: service, namespaces: {names: [team-0, team-1]}, selectors: [{role: service, label: 'tier=back', field: 'spec.type!=ExternalName'}]",
        MAP,
    );
    job("endpoints", "role: endpoints", MAP);
    job("endpoints-attached", "role: endpoints, attach_metadata: ALL", &drop_front);
    job(
        "endpoints-selected",
        "role: endpoints, namespaces: {names: [team-0, team-1, team-2]}, \
         selectors: [{role: endpoints, label: tier!=none}, {role: service, label: tier!=front}, {role: pod, label: tier}]",
        MAP,
    );
    job("slices", "role: endpointslice", MAP);
    job("slices-attached", "role: endpointslice, attach_metadata: ALL", MAP);
    job(
        "slices-selected",
        "role: endpointslice, selectors: [{role: endpointslice, label: tier!=none}, \
         {role: service, label: tier=back}, {role: pod, field: 'status.phase!=Pending'}]",
        &drop_front,
    );
    job("ingresses", "role: ingress", MAP);
    job(
        "ingresses-selected",
        "role: ingress, namespaces: {names: [team-1, team-2]}, selectors: [{role: ingress, label: tier!=none}]",
        "{action: drop, source_labels: [__meta_kubernetes_ingress_path], regex: '/a'}, \
         {action: labelmap, regex: '__meta_kubernetes_(.+)'}",
    );
    if is_newest {
        job("services-attached", "role: service, attach_metadata: {namespace: true}", MAP);
        job("ingresses-attached", "role: ingress, attach_metadata: {namespace: true}", MAP);
        job("pods-of-deployments", "role: pod, attach_metadata: {deployment: true}", MAP);
        job("pods-of-jobs", "role: pod, attach_metadata: {job: true, namespace: true}", MAP);
        job(
            "pods-of-cronjobs",
            "role: pod, namespaces: {names: [team-0, team-1]}, attach_metadata: {cronjob: true}",
            MAP,
        );
        job(
            "pods-of-a-zone",
            "role: pod, attach_metadata: {node: true}, selectors: [{role: node, label: 'topology.kubernetes.io/zone=a'}]",
            MAP,
        );
    }
    jobs
}

/// No target is scraped while the test runs: only what is to be scraped is compared.
fn config(api: &Api, is_newest: bool) -> String {
    let mut config = "global: {scrape_interval: 30d, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
    for (i, (name, job)) in jobs(is_newest).into_iter().enumerate() {
        // Each third finds its way by a file, as `kubectl` does.
        let at = if i % 3 == 2 {
            "kubeconfig_file: kubeconfig".to_owned()
        } else {
            format!("api_server: '{}'", api.url())
        };
        writeln!(config, "  - job_name: {name}\n    {}", job.replace("AT", &at)).unwrap();
    }
    config
}

fn home(api: &Api, is_newest: bool) -> Home {
    let home = Home::new(&config(api, is_newest));
    home.write("kubeconfig", &api.kubeconfig());
    home
}

/// A target as text -> how often it is there.
type Targets = BTreeMap<String, usize>;

/// Labels of 3.14 that 3.5 does not know.
fn is_new(label: &str) -> bool {
    let names = [
        "__always_scrape_classic_histograms__",
        "__convert_classic_histograms_to_nhcb__",
        "__scrape_native_histograms__",
    ];
    names.contains(&label) || label.trim_start_matches("__meta_kubernetes_").starts_with("node_condition_")
}

fn targets(server: &Server, is_newest: bool) -> Targets {
    let mut data = server.data("/api/v1/targets", &[]);
    for list in ["activeTargets", "droppedTargets"] {
        for target in data[list].as_array_mut().unwrap() {
            for labels in ["discoveredLabels", "labels"] {
                if let Some(labels) = target[labels].as_object_mut() {
                    labels.retain(|name, _| is_newest || !is_new(name));
                }
            }
        }
    }
    let mut targets = Targets::new();
    let mut add = |text: String| *targets.entry(text).or_default() += 1;
    for target in data["activeTargets"].as_array().unwrap() {
        let fields =
            ["scrapePool", "discoveredLabels", "labels", "scrapeUrl", "scrapeInterval", "scrapeTimeout"];
        add(format!("active {}", fields.map(|field| target[field].to_string()).join(" ")));
    }
    for target in data["droppedTargets"].as_array().unwrap() {
        add(format!("dropped {} {}", target["scrapePool"], target["discoveredLabels"]));
    }
    for (pool, n) in data["droppedTargetCounts"].as_object().unwrap() {
        add(format!("{n} dropped of {pool}"));
    }
    targets
}

/// What one has and the other has not: a few of each.
fn difference(names: [&str; 2], both: [&Targets; 2]) -> Option<String> {
    let only = |these: &Targets, those: &Targets| -> Vec<String> {
        these
            .iter()
            .filter(|(text, n)| those.get(*text) != Some(*n))
            .map(|(text, n)| format!("{n} x {text}"))
            .collect()
    };
    let (first, second) = (only(both[0], both[1]), only(both[1], both[0]));
    if first.is_empty() && second.is_empty() {
        return None;
    }
    let show = |name: &str, lines: &[String]| {
        format!("{} only of {name}:\n{}\n", lines.len(), lines[..lines.len().min(2)].join("\n"))
    };
    Some(format!("{}{}", show(names[0], &first), show(names[1], &second)))
}

/// Waits until all say the same, and returns it.
fn agree(when: &str, is_newest: bool, servers: &[(&str, &Server)], mut every: impl FnMut()) -> Targets {
    let (start, mut touched) = (Instant::now(), Instant::now());
    loop {
        let found: Vec<_> =
            servers.iter().map(|(name, server)| (*name, targets(server, is_newest))).collect();
        let (first, others) = found.split_first().unwrap();
        let different = others.iter().find_map(|other| difference([first.0, other.0], [&first.1, &other.1]));
        let Some(different) = different else {
            return found.into_iter().next().unwrap().1;
        };
        assert!(start.elapsed() < PATIENCE, "{when}: they do not agree\n{different}");
        if touched.elapsed() > TOUCH_EVERY {
            touched = Instant::now();
            every();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Lets a server that worked out its targets too early do so again.
fn touch(api: &Api) {
    api.change(|store| {
        for kind in [Kind::Pod, Kind::Service, Kind::Endpoints, Kind::EndpointSlice, Kind::Ingress] {
            change::touch(store, kind);
        }
    });
}

/// Changes one after the other, some at once and some apart.
fn disturb(api: &Api, maker: &mut Maker) {
    let mut left = CHANGES;
    while left > 0 {
        let n = left.min(maker.rng.usize(1..8));
        api.change(|store| (0..n).for_each(|_| maker.disturb(store)));
        left -= n;
        std::thread::yield_now();
    }
}

fn start(program: &Path, api: &Api, is_newest: bool) -> (Home, Server) {
    let home = home(api, is_newest);
    let server = home.start_peer(program, &["--scrape.discovery-reload-interval=1s"]);
    (home, server)
}

/// Whether a reference server was built with discovery from Kubernetes.
fn knows_kubernetes(program: &Path) -> bool {
    let home = Home::new(
        "scrape_configs: [{job_name: k, kubernetes_sd_configs: [{role: pod, api_server: 'http://127.0.0.1:1'}]}]\n",
    );
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", home.path("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", home.path("data").display()));
    let process = Process::spawn("prometheus", command.arg("--web.listen-address=127.0.0.1:0"));
    until("word of the configuration", || {
        let is_refused = process.logged("field kubernetes_sd_configs not found").is_some();
        (is_refused || process.logged("Listening on").is_some()).then_some(!is_refused)
    })
}

fn compare(peer_name: &str, test: &str, is_newest: bool) {
    let Some(program) = peer(peer_name, test) else { return };
    if !knows_kubernetes(&program) {
        return skipped(test, &format!("{} was built without Kubernetes", program.display()));
    }
    let size = Size { nodes: 12, namespaces: 4, pods: 120, is_newest };
    let (api, mut maker) = populated(21, &size, Options::default());
    let home = home(&api, is_newest);
    let ferula = home.start(&[]);
    let (_long_home, long) = start(&program, &api, is_newest);
    let begun = Instant::now();
    let mut poor = vec![""];
    while !poor.is_empty() {
        poor = poor_jobs(&targets(&long, is_newest), is_newest);
        assert!(begun.elapsed() < PATIENCE, "jobs without targets: {poor:?}");
    }
    let found = agree("at the start", is_newest, &[("Ferula", &ferula), ("Prometheus", &long)], || {});
    eprintln!("{} different targets of {} jobs", found.len(), jobs(is_newest).len());
    for round in 1..=ROUNDS {
        disturb(&api, &mut maker);
        until_true("all watches to have everything", || api.is_delivered());
        {
            let (_home, fresh) = start(&program, &api, is_newest);
            let when = format!("after {} changes", round * CHANGES);
            agree(&when, is_newest, &[("Ferula", &ferula), ("a new Prometheus", &fresh)], || {});
        }
        touch(&api);
        let when = format!("after {} changes and a touch", round * CHANGES);
        agree(&when, is_newest, &[("Ferula", &ferula), ("Prometheus", &long)], || touch(&api));
    }
    ferula.stop();
}

/// The jobs without targets, and those that should have dropped some and have not: there the comparison is about nothing.
fn poor_jobs(found: &Targets, is_newest: bool) -> Vec<&'static str> {
    let mut poor = jobs(is_newest);
    poor.retain(|(name, job)| {
        let count =
            |sort: &str| found.keys().filter(|text| text.starts_with(&format!("{sort} \"{name}\""))).count();
        count("active") < 2 || (job.contains("action: drop") && count("dropped") == 0)
    });
    poor.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn targets_are_those_of_prometheus_3_14() {
    compare("prometheus-next", "kubernetes::differential::targets_are_those_of_prometheus_3_14", true);
}

#[test]
fn targets_are_those_of_prometheus_3_5() {
    compare("prometheus", "kubernetes::differential::targets_are_those_of_prometheus_3_5", false);
}
