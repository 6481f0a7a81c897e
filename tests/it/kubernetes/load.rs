//! A cluster of 20,000 pods, and how soon a pod that is ready is scraped: figures, printed, with loose bounds.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::alone::job;
use super::cluster::Size;
use super::objects::Kind;
use super::server::{Api, Options};
use super::{change, populated};
use crate::process::{Home, Server, until, until_true};
use crate::scripted::{self, Scripted};

const N_PODS: usize = 20_000;

/// Kilobytes that a process has for itself.
fn private_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// What discovery says it has found for a job.
fn found(server: &Server, job: &str) -> f64 {
    let name = format!("prometheus_sd_discovered_targets{{config=\"{job}\",name=\"scrape\"}}");
    server.metric(&name).unwrap_or(0.0)
}

/// Targets of all pods: one for each port, or for the container that has none.
fn n_targets(api: &Api) -> usize {
    let store = api.store();
    let pods = store.all(Kind::Pod).filter(|pod| pod.value["status"]["podIP"].is_string());
    pods.flat_map(|pod| {
        let spec = &pod.value["spec"];
        let containers =
            [&spec["containers"], &spec["initContainers"]].into_iter().filter_map(|c| c.as_array());
        let ports =
            containers.flatten().map(|container| container["ports"].as_array().map_or(0, Vec::len).max(1));
        ports.collect::<Vec<_>>()
    })
    .sum()
}

/// The job drops all its targets, so that what is measured is discovery: no loops, no series.
#[test]
fn twenty_thousand_pods() {
    let size = Size { nodes: 400, namespaces: 40, pods: N_PODS, is_newest: true };
    let (api, mut maker) = populated(51, &size, Options::default());
    let n_targets = n_targets(&api);
    let empty = Api::start(Options::default());
    let drop_all = |api: &Api| {
        "global: {scrape_interval: 30d, scrape_timeout: 1s, keep_dropped_targets: 1}\nscrape_configs:\n"
            .to_owned()
            + &job("pods", api, "role: pod")
                .replace("[{action: labelmap", "[{action: drop}, {action: labelmap")
    };
    let home = Home::new(&drop_all(&empty));
    let server = home.start(&[]);
    until_true("a watch of the empty cluster", || !empty.watched().is_empty());
    let before = private_memory(&server);

    let begun = Instant::now();
    home.write("prometheus.yml", &drop_all(&api));
    assert_eq!(server.post("/-/reload", &json!(null)).0, 200);
    until_true("all targets", || found(&server, "pods") == n_targets as f64);
    let took = begun.elapsed();
    let peak = private_memory(&server);
    // The allocator gives pages back after a while.
    let mut least = peak;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(500));
        least = least.min(private_memory(&server));
    }
    let n_pods = api.store().all(Kind::Pod).count() as u64;
    let bytes: usize = api.store().all(Kind::Pod).map(|pod| pod.value.to_string().len()).sum();
    eprintln!(
        "{n_pods} pods of {} bytes of JSON each, {n_targets} targets: all known after {took:.1?}; RssAnon {before} kB before, \
         {peak} kB at once, {least} kB after 10 s: {} bytes per pod",
        bytes / n_pods as usize,
        (least.saturating_sub(before)) * 1024 / n_pods,
    );

    // A change of one pod is one change, whatever there is beside it.
    api.forget_seen();
    let template = maker.template("team-0", "latecomer");
    let mut pod = maker.pod(&template, None);
    maker.run(&mut pod, false);
    api.change(|store| store.put(Kind::Pod, pod));
    let begun = Instant::now();
    let n_targets = self::n_targets(&api) as f64;
    until_true("the targets of one more pod", || found(&server, "pods") == n_targets);
    eprintln!("one more pod: known after {:.2?}", begun.elapsed());

    // All of them change at once, as after an update of the cluster.
    let begun = Instant::now();
    api.change(|store| change::touch(store, Kind::Pod));
    until_true("all changes to be sent", || api.is_delivered());
    eprintln!(
        "{n_pods} changes at once: taken after {:.1?}, RssAnon {} kB",
        begun.elapsed(),
        private_memory(&server)
    );
    assert_eq!(found(&server, "pods"), n_targets);
    assert!(api.relists().is_empty(), "{:?}", api.relists());
    server.stop();
}

/// From the moment at which a pod has an address until its target is asked for its first sample.
fn ready_to_scraped(args: &[&str]) -> Vec<Duration> {
    let (send, scraped) = mpsc::channel();
    let target = Scripted::raw(move |request, stream| {
        // Nobody listens any more at the end of the test.
        let _ = send.send((request.path.clone(), Instant::now()));
        scripted::answer(stream, 200, "text/plain; version=0.0.4", "x 1\n")
    });
    let size = Size { nodes: 5, namespaces: 2, pods: 50, is_newest: true };
    let (api, mut maker) = populated(52, &size, Options::default());
    let rules = format!(
        "[{{action: keep, source_labels: [__meta_kubernetes_pod_label_app], regex: timed}}, \
         {{source_labels: [__meta_kubernetes_pod_name], target_label: __param_pod}}, \
         {{source_labels: [__meta_kubernetes_pod_name, __meta_kubernetes_pod_container_name], target_label: pod}}, \
         {{target_label: __address__, replacement: '{}'}}, {{action: labelmap",
        target.address()
    );
    let config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned()
        + &job("pods", &api, "role: pod").replace("[{action: labelmap", &rules);
    let home = Home::new(&config);
    let mut command = home.command(args);
    let server = Server::start("ferula", &mut command, "/-/ready");
    until_true("the pods at the start", || found(&server, "pods") > 0.0);
    let mut first: HashMap<String, Instant> = HashMap::new();
    let mut times = Vec::new();
    for i in 0..12 {
        // At any moment of whatever goes round inside.
        std::thread::sleep(Duration::from_millis(300 + 370 * (i % 4)));
        let template = maker.template("team-0", "timed");
        let mut pod = maker.pod(&template, None);
        maker.run(&mut pod, false);
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        api.change(|store| store.put(Kind::Pod, pod));
        let at = until(&format!("the first scrape of {name}"), || {
            for (path, at) in scraped.try_iter() {
                first.entry(path.split("pod=").nth(1).unwrap_or_default().to_owned()).or_insert(at);
            }
            first.get(&name).copied()
        });
        times.push(at - begun);
    }
    server.stop();
    times.sort();
    times
}

#[test]
fn a_pod_that_is_ready_is_scraped_soon() {
    for args in [&[][..], &["--scrape.discovery-reload-interval=1s"][..]] {
        let times = ready_to_scraped(args);
        let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
        eprintln!(
            "ready to first scrape at an interval of 1 s with {args:?}: median {median:.2?}, longest {last:.2?}"
        );
        assert!(last < Duration::from_secs(15), "{times:?}");
    }
}
