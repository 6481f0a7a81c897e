//! What Ferula asks of an API server, and what becomes of its targets when the server fails it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::cluster::{Maker, Size};
use super::faults::{ALWAYS, Deed, Interruption, Verb};
use super::objects::{Kind, Store};
use super::populated;
use super::server::{Api, Options, StreamingLists};
use super::watch::gone_event;
use crate::process::{Home, Server, until, until_true};

const SIZE: Size = Size { nodes: 6, namespaces: 3, pods: 60, is_newest: true };

const HEAD: &str = "global: {scrape_interval: 30d, scrape_timeout: 1s}\nscrape_configs:\n";

/// A job whose targets are as different as what discovery says of them.
pub(super) fn job(name: &str, api: &Api, section: &str) -> String {
    format!(
        "  - job_name: {name}\n    kubernetes_sd_configs: [{{api_server: '{}', {section}}}]\n    \
         relabel_configs: [{{action: labelmap, regex: '__meta_kubernetes_(.+)'}}]\n",
        api.url()
    )
}

/// The targets that the pods of the cluster are: container and port, or the container alone.
fn pods_of(api: &Api) -> BTreeSet<String> {
    let mut targets = BTreeSet::new();
    for pod in api.store().all(Kind::Pod).map(|pod| &pod.value) {
        if !pod["status"]["podIP"].is_string() {
            continue;
        }
        let name = pod["metadata"]["name"].as_str().unwrap();
        let all = [&pod["spec"]["containers"], &pod["spec"]["initContainers"]];
        for container in all.into_iter().filter_map(Value::as_array).flatten() {
            let of = |port: &str| format!("{name}/{}:{port}", container["name"].as_str().unwrap());
            match container["ports"].as_array().filter(|ports| !ports.is_empty()) {
                None => drop(targets.insert(of(""))),
                Some(ports) => {
                    targets.extend(ports.iter().map(|port| of(&port["containerPort"].to_string())));
                }
            }
        }
    }
    targets
}

/// The same as a server shows it of a job.
fn pods_in(server: &Server, job: &str) -> BTreeSet<String> {
    let data = server.data("/api/v1/targets", &[("state", "active"), ("scrapePool", job)]);
    let label = |target: &Value, name: &str| {
        let value = &target["discoveredLabels"][format!("__meta_kubernetes_pod_{name}")];
        value.as_str().unwrap_or_default().to_owned()
    };
    let targets = data["activeTargets"].as_array().unwrap().iter();
    targets
        .map(|t| {
            format!(
                "{}/{}:{}",
                label(t, "name"),
                label(t, "container_name"),
                label(t, "container_port_number")
            )
        })
        .collect()
}

fn until_right(what: &str, api: &Api, server: &Server) {
    until_true(what, || pods_in(server, "pods") == pods_of(api));
}

/// Ferula with one job of pods, which it knows.
fn with_pods(seed: u64, options: Options) -> (Api, Maker, Home, Server) {
    let (api, maker) = populated(seed, &SIZE, options);
    let home = Home::new(&[HEAD, &job("pods", &api, "role: pod")].concat());
    let server = home.start(&[]);
    until_right("the pods at the start", &api, &server);
    (api, maker, home, server)
}

/// Something changes that the targets show: a pod comes, another goes.
fn replace_a_pod(api: &Api, maker: &mut Maker) {
    let template = maker.template("team-0", "newcomer");
    let mut pod = maker.pod(&template, None);
    maker.run(&mut pod, false);
    api.change(|store| {
        let (namespace, name) = store.all(Kind::Pod).next().unwrap().key();
        assert!(store.delete(Kind::Pod, &namespace, &name));
        store.put(Kind::Pod, pod);
    });
}

/// The kinds that were asked for anew since requests were last forgotten.
fn relisted(api: &Api) -> Vec<Kind> {
    api.relists().into_keys().collect()
}

#[test]
fn each_kind_is_listed_once_for_all_jobs_and_never_for_a_reload() {
    let (api, _) = populated(31, &SIZE, Options::default());
    let everything =
        "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}";
    let mut config = HEAD.to_owned();
    for (i, role) in
        ["pod", "pod", "service", "endpoints", "endpointslice", "ingress", "node"].iter().enumerate()
    {
        config += &job(&format!("plain-{role}-{i}"), &api, &format!("role: {role}"));
    }
    for role in ["pod", "endpoints", "endpointslice"] {
        config += &job(&format!("all-{role}"), &api, &format!("role: {role}, {everything}"));
    }
    let home = Home::new(&config);
    let server = home.start(&[]);
    let has_targets = |name: &str| {
        let data = server.data("/api/v1/targets", &[("state", "active"), ("scrapePool", name)]);
        !data["activeTargets"].as_array().unwrap().is_empty()
    };
    let names = |config: &str| -> Vec<String> {
        config.lines().filter_map(|line| line.strip_prefix("  - job_name: ")).map(str::to_owned).collect()
    };
    until_true("targets of all jobs", || names(&config).iter().all(|name| has_targets(name)));
    let used = [
        Kind::Node,
        Kind::Namespace,
        Kind::Pod,
        Kind::Service,
        Kind::Endpoints,
        Kind::EndpointSlice,
        Kind::Ingress,
        Kind::ReplicaSet,
        Kind::Job,
    ];
    let once: BTreeMap<_, _> = used.into_iter().map(|kind| (kind, 1)).collect();
    assert_eq!(api.relists(), once, "requests for everything at the start");
    assert_eq!(api.watched(), used, "running watches");

    // Jobs come, go and are relabelled otherwise; what is known of the cluster is known.
    api.forget_seen();
    let mut other = config.replace("plain-pod-0", "renamed").replace("plain-ingress-5", "also-renamed");
    other += &job("one-more", &api, "role: endpointslice, attach_metadata: {node: true}");
    home.write("prometheus.yml", &other);
    assert_eq!(server.post("/-/reload", &Value::Null).0, 200);
    until_true("targets of the new jobs", || names(&other).iter().all(|name| has_targets(name)));
    for _ in 0..3 {
        assert_eq!(server.post("/-/reload", &Value::Null).0, 200);
    }
    let asked: Vec<_> = api.seen().iter().map(|seen| format!("{:?} {}", seen.verb, seen.path)).collect();
    assert_eq!(asked, Vec::<String>::new(), "requests after reloads");
    server.stop();
}

#[test]
fn selectors_and_namespaces_have_watches_of_their_own() {
    let (api, _) = populated(32, &SIZE, Options::default());
    let selected =
        "role: pod, namespaces: {names: [team-0, team-1]}, selectors: [{role: pod, label: 'tier=front'}]";
    let config =
        [HEAD, &job("a", &api, selected), &job("b", &api, selected), &job("c", &api, "role: pod")].concat();
    let home = Home::new(&config);
    let server = home.start(&[]);
    until_true("three watches", || api.watched().len() == 3);
    let seen = api.seen();
    let asked: BTreeSet<_> = seen
        .iter()
        .filter(|seen| seen.is_relist())
        .map(|seen| (seen.namespace.as_str(), seen.parameter("labelSelector")))
        .collect();
    assert_eq!(asked, BTreeSet::from([("", ""), ("team-0", "tier=front"), ("team-1", "tier=front")]));
    assert_eq!(api.relists(), BTreeMap::from([(Kind::Pod, 3)]));
    server.stop();
}

#[test]
fn a_broken_stream_goes_on_where_it_was() {
    let bookmarks = Options { bookmark_every: Duration::from_millis(200), ..Options::default() };
    let (api, mut maker, _home, server) = with_pods(33, bookmarks);
    let garbage =
        Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Pod\"}}}\n\xff\xfe nonsense\n");
    let interruptions = [
        ("broken in an object", Interruption::Break),
        ("closed in good order", Interruption::End),
        ("full of garbage", Interruption::Say(garbage)),
        ("said to be too large", Interruption::Say(Bytes::from(vec![b'x'; 1 << 20]))),
    ];
    for (what, interruption) in interruptions {
        api.forget_seen();
        api.interrupt(None, interruption.clone());
        replace_a_pod(&api, &mut maker);
        until_right(&format!("the pods after the stream was {what}"), &api, &server);
        if matches!(interruption, Interruption::Break | Interruption::End) {
            assert_eq!(relisted(&api), [], "{what}");
            let watches: Vec<_> =
                api.seen().iter().map(|seen| seen.parameter("resourceVersion").to_owned()).collect();
            assert!(
                !watches.is_empty() && watches.iter().all(|version| version.parse::<u64>().is_ok()),
                "{watches:?}"
            );
        }
    }
    // Versions that only bookmarks told of are good to go on from, when what was before them is forgotten.
    api.change(|store| {
        for i in 0..50 {
            store.put(Kind::Node, json!({"metadata": {"name": format!("elsewhere-{i}")}}));
        }
    });
    let n_bookmarks = 3;
    std::thread::sleep(Duration::from_millis(200 * (n_bookmarks + 1)));
    api.change(Store::compact);
    api.forget_seen();
    api.interrupt(None, Interruption::End);
    replace_a_pod(&api, &mut maker);
    until_right("the pods after a stream that only had bookmarks", &api, &server);
    assert_eq!(relisted(&api), [], "bookmarks were not used");
    server.stop();
}

#[test]
fn what_is_forgotten_is_listed_anew() {
    for gone_as_status in [false, true] {
        let (api, mut maker, _home, server) = with_pods(34, Options { gone_as_status, ..Options::default() });
        api.go_down();
        replace_a_pod(&api, &mut maker);
        api.change(Store::compact);
        api.forget_seen();
        api.come_back();
        until_right("the pods after 410", &api, &server);
        assert_eq!(api.relists(), BTreeMap::from([(Kind::Pod, 1)]), "as status: {gone_as_status}");
        // In a stream that runs.
        api.forget_seen();
        api.interrupt(None, Interruption::Say(gone_event()));
        api.interrupt(None, Interruption::End);
        replace_a_pod(&api, &mut maker);
        until_right("the pods after an event of 410", &api, &server);
        // The stream may have brought the pod before it ended.
        until_true("the pods to be listed anew", || !api.relists().is_empty());
        assert_eq!(
            api.relists(),
            BTreeMap::from([(Kind::Pod, 1)]),
            "as an event, as status: {gone_as_status}"
        );
        server.stop();
    }
}

#[test]
fn a_server_that_always_forgets_is_not_asked_all_the_time() {
    let options = Options { streaming_lists: StreamingLists::Refused, ..Options::default() };
    let (api, mut maker, _home, server) = with_pods(35, options);
    api.fault(Verb::Watch, None, ALWAYS, Deed::Refuse(410, None));
    api.forget_seen();
    api.interrupt(None, Interruption::End);
    let lists = || -> Vec<_> {
        api.seen()
            .iter()
            .filter(|seen| seen.verb == Verb::List && seen.is_relist())
            .map(|seen| seen.at)
            .collect()
    };
    until_true("five lists", || lists().len() >= 5);
    let gaps: Vec<_> = lists().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().sum::<Duration>() > Duration::from_secs(1), "{gaps:?}");
    assert!(gaps[3] > gaps[0], "pauses do not grow: {gaps:?}");
    assert_eq!(pods_in(&server, "pods"), pods_of(&api), "targets were lost");
    api.heal();
    replace_a_pod(&api, &mut maker);
    until_right("the pods of the server that remembers again", &api, &server);
    server.stop();
}

#[test]
fn every_age_of_server_is_understood() {
    for streaming_lists in [StreamingLists::Served, StreamingLists::Refused, StreamingLists::Ignored] {
        let (api, mut maker, _home, server) =
            with_pods(36, Options { streaming_lists, ..Options::default() });
        replace_a_pod(&api, &mut maker);
        until_right(&format!("the pods of a server with streaming lists {streaming_lists:?}"), &api, &server);
        assert!(api.relists()[&Kind::Pod] <= 2, "{streaming_lists:?}: {:?}", api.relists());
        server.stop();
    }
}

#[test]
fn a_start_with_trouble_ends_well() {
    let troubles: [&[(Verb, Deed)]; 6] = [
        &[(Verb::Watch, Deed::Refuse(500, None)), (Verb::List, Deed::Refuse(503, None))],
        &[(Verb::Watch, Deed::Refuse(429, Some(1))), (Verb::List, Deed::Refuse(429, Some(1)))],
        &[(Verb::Watch, Deed::Drop), (Verb::List, Deed::Drop)],
        &[(Verb::Watch, Deed::CutAfter(100_000)), (Verb::List, Deed::CutAfter(100_000))],
        &[(Verb::Watch, Deed::CloseAtOnce), (Verb::Watch, Deed::Say(Bytes::from_static(b"\x00garbage\n")))],
        &[
            (Verb::Watch, Deed::Trickle { bytes: 8192, every: Duration::from_millis(10) }),
            (Verb::List, Deed::Trickle { bytes: 8192, every: Duration::from_millis(10) }),
        ],
    ];
    for trouble in troubles {
        for streaming_lists in [StreamingLists::Served, StreamingLists::Refused] {
            let (api, _) = populated(37, &SIZE, Options { streaming_lists, ..Options::default() });
            for (verb, deed) in trouble {
                api.fault(*verb, None, 2, deed.clone());
            }
            let home = Home::new(&[HEAD, &job("pods", &api, "role: pod")].concat());
            let server = home.start(&[]);
            until_right(
                &format!("the pods after {trouble:?}, streaming lists {streaming_lists:?}"),
                &api,
                &server,
            );
            server.stop();
        }
    }
}

#[test]
fn a_list_in_pages_is_whole_whatever_happens_between_them() {
    let options = Options { streaming_lists: StreamingLists::Refused, ..Options::default() };
    let size = Size { nodes: 10, namespaces: 3, pods: 1300, is_newest: true };
    let (api, mut maker) = populated(38, &size, options);
    let home = Home::new(&[HEAD, &job("pods", &api, "role: pod")].concat());
    let server = home.start(&[]);
    until_right("the pods at the start", &api, &server);
    // What was known is forgotten, so that the newest state is listed, in pages. The second page is late, and
    // meanwhile the version of the first is forgotten too.
    api.go_down();
    replace_a_pod(&api, &mut maker);
    api.change(Store::compact);
    api.forget_seen();
    for delay in [1, 500] {
        api.fault(Verb::List, Some(Kind::Pod), 1, Deed::Delay(Duration::from_millis(delay)));
    }
    api.come_back();
    let lists = || api.seen().into_iter().filter(|seen| seen.verb == Verb::List).collect::<Vec<_>>();
    until_true("the request for a second page", || lists().len() >= 2);
    assert!(!lists()[1].parameter("continue").is_empty(), "{:?}", lists());
    replace_a_pod(&api, &mut maker);
    api.change(Store::compact);
    until_right("all pods", &api, &server);
    assert!(lists().len() > 2, "{:?}", lists());
    server.stop();
}

#[test]
fn targets_stay_while_the_server_is_away_and_the_reason_shows() {
    let (api, mut maker, home, server) = with_pods(39, Options::default());
    let before = pods_in(&server, "pods");
    api.go_down();
    replace_a_pod(&api, &mut maker);
    let shown = until("the failure to show", || failure(&server, "pods"));
    eprintln!("shown: {shown}");
    assert_eq!(pods_in(&server, "pods"), before);
    // Not even a reload loses them.
    home.write(
        "prometheus.yml",
        &[HEAD, &job("pods", &api, "role: pod"), &job("more", &api, "role: pod")].concat(),
    );
    assert_eq!(server.post("/-/reload", &Value::Null).0, 200);
    until_true("the targets of the new job", || pods_in(&server, "more") == before);
    assert_eq!(pods_in(&server, "pods"), before);
    api.come_back();
    until_right("the pods of the server that came back", &api, &server);
    until_true("the failure to be over", || failure(&server, "pods").is_none());
    server.stop();
}

#[test]
fn a_token_is_sent_and_never_shown() {
    let options = Options { token: Some("open-sesame".to_owned()), ..Options::default() };
    let (api, _) = populated(40, &SIZE, options);
    let with = |token: &str| {
        let section = format!("role: pod, authorization: {{credentials: {token}}}");
        [HEAD, &job("pods", &api, &section)].concat()
    };
    let home = Home::new(&with("wrong-sesame"));
    let server = home.start(&[]);
    let shown = until("the failure to show", || failure(&server, "pods"));
    assert!(shown.contains("401") || shown.to_lowercase().contains("unauthorized"), "{shown}");
    home.write("prometheus.yml", &with("open-sesame"));
    assert_eq!(server.post("/-/reload", &Value::Null).0, 200);
    until_right("the pods with the right token", &api, &server);
    for text in [server.process.log(), server.get("/api/v1/status/config").1, server.get("/metrics").1, shown]
    {
        assert!(!text.contains("sesame"), "{text}");
    }
    server.stop();
}

/// What the API says of a job whose discovery does not work.
fn failure(server: &Server, job: &str) -> Option<String> {
    let data = server.data("/api/v1/discovery", &[]);
    let jobs = data.as_array().unwrap().iter().filter(|section| section["job"] == job);
    let error = jobs.filter_map(|section| section["lastError"].as_str()).find(|error| !error.is_empty());
    error.map(str::to_owned)
}
