//! Discovery in the running server: files that change under it, and the same fake services before a reference
//! Prometheus and before us, which must find the same targets, labels and all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Home, Process, Server, is_root, peer, skipped, until, until_true};
use crate::scripted::{Scripted, answer};

/// The sections of a job that fail now: mechanism -> error.
fn failures(server: &Server) -> BTreeMap<String, String> {
    let sections = server.data("/api/v1/discovery", &[]);
    let failing = sections.as_array().unwrap().iter().filter(|section| section["lastError"] != "");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    failing.map(|section| (text(&section["mechanism"]), text(&section["lastError"]))).collect()
}

/// The addresses of the targets of a job, sorted.
fn addresses(server: &Server, job: &str) -> Vec<String> {
    let targets = server.data("/api/v1/targets", &[("state", "active")]);
    let of_job = targets["activeTargets"].as_array().unwrap().iter().filter(|t| t["scrapePool"] == job);
    let mut found: Vec<String> =
        of_job.map(|t| t["discoveredLabels"]["__address__"].as_str().unwrap().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn files_are_followed_and_what_fails_is_shown_while_its_targets_stay() {
    let home = Home::new(
        "global: {scrape_interval: 1h}\n\
         scrape_configs:\n\
         - {job_name: f, file_sd_configs: [{files: ['sd/*.yml'], refresh_interval: 1h}]}\n\
         - {job_name: e, hetzner_sd_configs: [{role: robot, basic_auth: {username: u, password: p}}]}\n",
    );
    home.write("sd/a.yml", "- targets: ['a:1']\n");
    let server = home.start(&[]);
    let wait = |expected: &[&str]| {
        until_true(&format!("{expected:?}"), || addresses(&server, "f") == expected);
    };
    wait(&["a:1"]);
    let shown = failures(&server);
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["hetzner"], "{shown:?}");
    assert!(shown["hetzner"].contains("not built in"), "{shown:?}");
    assert!(server.process.logged("hetzner").is_some(), "the log is silent about it");
    assert_eq!(server.metric("prometheus_sd_failed_configs{name=\"scrape\"}"), Some(1.0));

    // Replaced at once, as it should be done; then written in pieces, as it is done.
    for i in 2..5 {
        home.write("sd/a.yml", &format!("- targets: ['a:{i}']\n"));
        wait(&[&format!("a:{i}")]);
    }
    std::fs::write(home.path("sd/b.yml"), "- targets: ['b:1']\n- targe").unwrap();
    until_true("the half-written file to show", || failures(&server).contains_key("file"));
    assert!(failures(&server)["file"].contains("b.yml"), "{:?}", failures(&server));
    assert_eq!(addresses(&server, "f"), ["a:4"]);
    std::fs::write(home.path("sd/b.yml"), "- targets: ['b:1']\n- targets: ['b:2']\n").unwrap();
    wait(&["a:4", "b:1", "b:2"]);
    until_true("the file to be well", || !failures(&server).contains_key("file"));
    std::fs::write(home.path("sd/a.yml"), "- {").unwrap();
    until_true("the broken file to show", || failures(&server).contains_key("file"));
    assert_eq!(addresses(&server, "f"), ["a:4", "b:1", "b:2"]);
    std::fs::remove_file(home.path("sd/a.yml")).unwrap();
    wait(&["b:1", "b:2"]);
    server.stop();
}

/// Answers by path, without the version of Docker's API: headers beside the type, and a body.
type Pages = Arc<Mutex<BTreeMap<String, (String, String)>>>;

/// A service that answers with `pages`, with 500 to what it does not know.
fn service(pages: &Pages) -> Scripted {
    let pages = Arc::clone(pages);
    Scripted::raw(move |request, stream| {
        let path = request.path.split('?').next().unwrap_or_default();
        let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
            Some((_, rest)) => format!("/{rest}"),
            None => path.to_owned(),
        };
        let page = pages.lock().unwrap().get(&path).cloned();
        match page {
            Some((headers, body)) => answer(stream, 200, &format!("application/json{headers}"), &body),
            None => answer(stream, 500, "text/plain", "not now"),
        }
    })
}

fn set(pages: &Pages, path: &str, headers: &str, body: &str) {
    pages.lock().unwrap().insert(path.to_owned(), (headers.to_owned(), body.to_owned()));
}

/// A recorded answer without the nulls among its entries, which the reference servers do not survive.
fn entries(text: &str) -> Vec<Value> {
    let entries: Vec<Value> = serde_json::from_str(text).unwrap();
    entries.into_iter().filter(|entry| !entry.is_null()).collect()
}

fn text(entries: &[Value]) -> String {
    Value::from(entries.to_vec()).to_string()
}

const CONTAINERS: &str = include_str!("../../src/discovery/docker/testdata/containers.json");
const CONTAINER_NETWORKS: &str = include_str!("../../src/discovery/docker/testdata/networks.json");
const SWARM: [(&str, &str); 4] = [
    ("/nodes", include_str!("../../src/discovery/dockerswarm/testdata/nodes.json")),
    ("/networks", include_str!("../../src/discovery/dockerswarm/testdata/networks.json")),
    ("/services", include_str!("../../src/discovery/dockerswarm/testdata/services.json")),
    ("/tasks", include_str!("../../src/discovery/dockerswarm/testdata/tasks.json")),
];
const CONSUL_WEB: &str = include_str!("../../src/discovery/consul/testdata/web.json");
const PING: &str = "\r\nApi-Version: 1.44";

/// The recorded containers, without what Prometheus before 3.14 does not know: addresses of IPv6 alone.
fn containers(is_newest: bool) -> Vec<Value> {
    let mut containers = entries(CONTAINERS);
    containers.retain(|container| is_newest || container["Id"] != "c-six");
    containers
}

/// A reference server and whether it has Consul's discovery: distributions leave mechanisms out.
fn reference(test: &str) -> Option<(PathBuf, bool)> {
    let mut candidates = vec![peer("prometheus", test)?];
    candidates.insert(0, candidates[0].with_file_name("prometheus-next"));
    let docker = "docker_sd_configs: [{host: 'http://127.0.0.1:1'}]";
    let found = candidates.into_iter().find(|program| program.exists() && accepts(program, docker));
    let Some(program) = found else {
        skipped(test, "the reference servers have no Docker discovery");
        return None;
    };
    let has_consul = accepts(&program, "consul_sd_configs: [{server: '127.0.0.1:1'}]");
    if !has_consul {
        skipped(test, &format!("Consul cannot be compared: {} has no discovery for it", program.display()));
    }
    Some((program, has_consul))
}

/// Whether a server starts with this section in a job.
fn accepts(program: &Path, section: &str) -> bool {
    let home = Home::new(&format!("scrape_configs: [{{job_name: j, {section}}}]\n"));
    let server = Process::spawn("prometheus", &mut home.server(program, &[]));
    until("the server to say what it thinks of its file", || {
        let is_refused = server.logged("Error loading config").is_some();
        let is_taken = server.logged("Server is ready").is_some();
        (is_refused || is_taken).then_some(is_taken)
    })
}

/// What both servers find: pool, labels before and after relabelling, of active and dropped targets.
fn found(server: &Server) -> BTreeSet<String> {
    let targets = server.data("/api/v1/targets", &[]);
    let list = |name: &str| targets[name].as_array().cloned().unwrap_or_default();
    let discovered = |target: &Value| {
        let mut labels = target["discoveredLabels"].clone();
        // Newer servers say more of how a target is scraped, which is not discovery's business.
        labels.as_object_mut().unwrap().retain(|name, _| !name.contains("_histograms_"));
        labels.to_string()
    };
    let active = list("activeTargets")
        .into_iter()
        .map(|t| format!("{} {} -> {} {}", t["scrapePool"], discovered(&t), t["labels"], t["scrapeUrl"]));
    let dropped =
        list("droppedTargets").into_iter().map(|t| format!("{} {} dropped", t["scrapePool"], discovered(&t)));
    active.chain(dropped).collect()
}

struct Pair {
    ours: Server,
    theirs: Server,
}

impl Pair {
    /// Waits until both find the same, which `is_there` recognises.
    fn agree(&self, what: &str, is_there: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let deadline = std::time::Instant::now() + Duration::from_secs(50);
        loop {
            let (ours, theirs) = (found(&self.ours), found(&self.theirs));
            let is_new = is_there(&ours.iter().cloned().collect::<Vec<_>>().join("\n"));
            if ours == theirs && is_new {
                return ours;
            }
            if std::time::Instant::now() > deadline {
                let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
                    a.difference(b).map(String::as_str).collect::<Vec<_>>().join("\n  ")
                };
                panic!(
                    "{what}: seen by us: {is_new}\nours alone:\n  {}\ntheirs alone:\n  {}",
                    only(&ours, &theirs),
                    only(&theirs, &ours)
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A running dnsmasq with a `resolv.conf` that leads to it, for both servers.
struct Names {
    _process: Process,
    resolv_conf: PathBuf,
}

impl Names {
    /// Servers are asked on port 53 and found in `/etc/resolv.conf`, so it takes an address of its own and a
    /// mount that only the started servers see.
    fn start(home: &Home, test: &str) -> Option<Self> {
        let can_mount = || Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success());
        if !is_root() || !can_mount() {
            skipped(test, "names cannot be compared: mounts need root");
            return None;
        }
        let program = Path::new("/usr/sbin/dnsmasq");
        if !program.exists() {
            skipped(test, "names cannot be compared: no dnsmasq (`make dns` installs it)");
            return None;
        }
        let n = std::process::id();
        let address = format!("127.77.{}.{}", n / 250 % 250 + 1, n % 250 + 1);
        if UdpSocket::bind((address.as_str(), 53)).is_err() {
            skipped(test, &format!("names cannot be compared: {address}:53 is taken"));
            return None;
        }
        let config = format!(
            "no-resolv\ndomain-needed\nno-hosts\nbind-interfaces\nlisten-address={address}\nport=53\nlocal=/test/\nlog-facility=-\n\
             srv-host=_web._tcp.a.test,web-1.a.test,8080,1,10\nsrv-host=_web._tcp.a.test,web-2.a.test,8081,2,20\n\
             host-record=web-1.a.test,192.0.2.1,2001:db8::1\nhost-record=both.a.test,192.0.2.3\n\
             host-record=both.b.test,192.0.2.4\ncname=alias.a.test,web-1.a.test\nmx-host=a.test,mail.a.test,10\n\
             dns-rr=a.test,2,036e733101610474657374 00\n"
        );
        home.write("dnsmasq.conf", &config.replace("74657374 00", "7465737400"));
        home.write("resolv.conf", &format!("nameserver {address}\nsearch b.test a.test\n"));
        let mut command = Command::new(program);
        command.arg("--keep-in-foreground").arg("--pid-file=");
        command.arg(format!("--conf-file={}", home.path("dnsmasq.conf").display()));
        let process = Process::spawn("dnsmasq", &mut command);
        until_true("dnsmasq to listen", || std::net::TcpStream::connect((address.as_str(), 53)).is_ok());
        Some(Self { _process: process, resolv_conf: home.path("resolv.conf") })
    }

    /// `command` where `/etc/resolv.conf` is ours.
    fn around(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("unshare");
        let script = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", self.resolv_conf.display());
        wrapped.args(["-m", "sh", "-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        wrapped
    }

    const JOBS: &str = "\
- job_name: names-srv
  relabel_configs: [{action: labelmap, regex: '__meta_(.+)'}]
  dns_sd_configs: [{names: [_web._tcp.a.test, _no._tcp.a.test], refresh_interval: 1s}]
- job_name: names-a
  relabel_configs: [{action: labelmap, regex: '__meta_(.+)'}]
  dns_sd_configs: [{names: [both, both., web-1.a.test, alias.a.test, no.a.test], type: A, port: 9100, refresh_interval: 1s}]
- job_name: names-more
  relabel_configs: [{action: labelmap, regex: '__meta_(.+)'}]
  dns_sd_configs:
  - {names: [web-1.a.test, both.a.test], type: AAAA, port: 9100, refresh_interval: 1s}
  - {names: [a.test], type: MX, port: 25, refresh_interval: 1s}
  - {names: [a.test], type: NS, port: 53, refresh_interval: 1s}
";
}

fn config(lists: &Scripted, docker: &Scripted, swarm: &Scripted, names: &str) -> String {
    let (lists, docker, swarm) = (lists.address(), docker.address(), swarm.address());
    let all = "relabel_configs: [{action: labelmap, regex: '__meta_(.+)'}]";
    let some = "relabel_configs: [{action: drop, source_labels: [__address__], regex: '.*[02468]'}]";
    format!(
        "global: {{scrape_interval: 1h, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: http, {all}, http_sd_configs: [{{url: 'http://{lists}/list?of=all', refresh_interval: 1s}}]}}
- {{job_name: http-some, {some}, http_sd_configs: [{{url: 'http://{lists}/list?of=all', refresh_interval: 1s}}]}}
- {{job_name: file, {all}, file_sd_configs: [{{files: ['sd/*.yml', 'sd/[a-c]?.json'], refresh_interval: 1s}}]}}
- {{job_name: consul, {all}, consul_sd_configs: [{{server: '{lists}', path_prefix: /consul, refresh_interval: 1s}}]}}
- {{job_name: consul-named, {all}, consul_sd_configs: [{{server: '{lists}', path_prefix: /consul, services: [web], tag_separator: ';', datacenter: dc9, refresh_interval: 1s}}]}}
- {{job_name: docker, {all}, docker_sd_configs: [{{host: 'http://{docker}', refresh_interval: 1s}}]}}
- {{job_name: docker-all, {all}, docker_sd_configs: [{{host: 'tcp://{docker}', port: 9000, match_first_network: false, host_networking_host: 'node:9100', refresh_interval: 1s}}]}}
- {{job_name: swarm-nodes, {all}, dockerswarm_sd_configs: [{{host: 'http://{swarm}', role: nodes, refresh_interval: 1s}}]}}
- {{job_name: swarm-services, {all}, dockerswarm_sd_configs: [{{host: 'http://{swarm}', role: services, port: 9323, refresh_interval: 1s}}]}}
- {{job_name: swarm-tasks, {all}, dockerswarm_sd_configs: [{{host: 'http://{swarm}', role: tasks, refresh_interval: 1s}}]}}
{names}"
    )
}

/// What the services say at first.
fn fill(lists: &Pages, docker: &Pages, swarm: &Pages, is_newest: bool) {
    let list =
        r#"[{"targets": ["h:1", "h:2"], "labels": {"a": "b", "__meta_own": "x"}}, {"targets": ["h:3"]}]"#;
    set(lists, "/list", "", list);
    set(lists, "/consul/v1/agent/self", "", r#"{"Config": {"Datacenter": "dc-test"}}"#);
    set(lists, "/consul/v1/catalog/services", "\r\nX-Consul-Index: 5", r#"{"web": ["blue"], "db": []}"#);
    set(lists, "/consul/v1/health/service/web", "\r\nX-Consul-Index: 6", &text(&entries(CONSUL_WEB)));
    set(lists, "/consul/v1/health/service/db", "\r\nX-Consul-Index: 7", &text(&entries(CONSUL_WEB)[..1]));
    set(docker, "/_ping", PING, "");
    set(docker, "/containers/json", "", &text(&containers(is_newest)));
    set(docker, "/networks", "", CONTAINER_NETWORKS);
    set(swarm, "/_ping", PING, "");
    for (path, body) in SWARM {
        set(swarm, path, "", body);
    }
    // Prometheus before 3.14 dies of services that run no container.
    let mut services = entries(SWARM[2].1);
    services.retain(|service| !service["Spec"]["TaskTemplate"]["ContainerSpec"].is_null());
    set(swarm, "/services", "", &text(&services));
}

#[test]
fn the_same_services_have_the_same_targets_as_before_prometheus() {
    let test = "discovery::the_same_services_have_the_same_targets_as_before_prometheus";
    let Some((program, has_consul)) = reference(test) else { return };
    let pages: [Pages; 3] = Default::default();
    let [lists, docker, swarm] = &pages;
    let is_newest = program.ends_with("prometheus-next");
    fill(lists, docker, swarm, is_newest);
    let services = [service(lists), service(docker), service(swarm)];
    let homes = [Home::new(""), Home::new("")];
    let names = Names::start(&homes[0], test);
    let jobs = if names.is_some() { Names::JOBS } else { "" };
    let text_of_config = config(&services[0], &services[1], &services[2], jobs);
    let is_compared = |line: &&str| has_consul || !line.contains("consul_sd_configs");
    let lines: Vec<&str> = text_of_config.lines().filter(is_compared).collect();
    let text_of_config = lines.join("\n") + "\n";
    // Both read the same files, or their paths would differ.
    let folder = homes[0].path("sd").display().to_string();
    let text_of_config = text_of_config.replace("'sd/", &format!("'{folder}/"));
    homes[0].write("sd/t.yml", "- targets: ['f:1', 'f:2']\n  labels: {x: y}\n- targets: ['f:3']\n");
    homes[0].write("sd/b1.json", r#"[{"targets": ["j:1"]}]"#);
    homes[0].write("sd/d1.json", r#"[{"targets": ["no:1"]}]"#);
    let start = |name: &str, home: &Home, program: &Path| {
        home.write("prometheus.yml", &text_of_config);
        let mut command = home.server(program, &["--scrape.discovery-reload-interval=1s"]);
        match &names {
            Some(names) => Server::start(name, &mut names.around(&command), "/-/ready"),
            None => Server::start(name, &mut command, "/-/ready"),
        }
    };
    let pair = Pair {
        ours: start("ferula", &homes[0], Path::new(env!("CARGO_BIN_EXE_ferula"))),
        theirs: start("prometheus", &homes[1], &program),
    };

    let pools: Vec<&str> =
        text_of_config.split("job_name: ").skip(1).map(|t| t.split([',', '\n']).next().unwrap()).collect();
    let first =
        pair.agree("at first", |text| pools.iter().all(|pool| text.contains(&format!("{pool:?} {{"))));
    eprintln!("{} targets of {} jobs are equal", first.len(), pools.len());
    assert!(failures(&pair.ours).is_empty(), "{:?}", failures(&pair.ours));

    // Everything changes.
    set(lists, "/list", "", r#"[{"targets": ["h:4"]}]"#);
    set(lists, "/consul/v1/catalog/services", "\r\nX-Consul-Index: 15", r#"{"web": ["blue"], "new": []}"#);
    set(lists, "/consul/v1/health/service/web", "\r\nX-Consul-Index: 16", &text(&entries(CONSUL_WEB)[1..]));
    set(lists, "/consul/v1/health/service/new", "\r\nX-Consul-Index: 17", &text(&entries(CONSUL_WEB)[2..3]));
    set(docker, "/containers/json", "", &text(&containers(is_newest)[1..]));
    set(swarm, "/nodes", "", &text(&entries(SWARM[0].1)[..2]));
    homes[0].write("sd/t.yml", "- targets: ['f:4']\n");
    std::fs::remove_file(homes[0].path("sd/b1.json")).unwrap();
    let second = pair.agree("after a change", |text| {
        ["h:4", "f:4"].iter().all(|part| text.contains(part))
            && (!has_consul || text.contains("\"new\""))
            && ["h:1", "f:1", "j:1", "\"db\"", "n-new"].iter().all(|part| !text.contains(part))
    });
    assert_ne!(first, second);

    // Everything fails: nobody loses anything, and we say so.
    let kept: Vec<_> = pages.iter().map(|pages| std::mem::take(&mut *pages.lock().unwrap())).collect();
    std::fs::write(homes[0].path("sd/t.yml"), "- targets: ['f:5'").unwrap();
    let expected = &["consul", "docker", "dockerswarm", "file", "http"][usize::from(!has_consul)..];
    let shown = until("all failures to show", || {
        Some(failures(&pair.ours)).filter(|shown| shown.keys().eq(expected))
    });
    eprintln!("{shown:#?}");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(pair.agree("while all fails", |_| true), second);

    // And is back.
    for (pages, kept) in pages.iter().zip(kept) {
        *pages.lock().unwrap() = kept;
    }
    set(lists, "/list", "", r#"[{"targets": ["h:6"]}]"#);
    homes[0].write("sd/t.yml", "- targets: ['f:6']\n");
    pair.agree("afterwards", |text| text.contains("h:6") && text.contains("f:6"));
    until_true("all to be well", || failures(&pair.ours).is_empty());
    pair.ours.stop();
}
