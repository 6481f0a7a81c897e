//! Sections against a small API server: what is asked of it, what it takes to go on when things break.

mod fake;
mod manifest;
mod memory;

use std::collections::BTreeMap;
use std::time::Duration;

use config::Secret;
use config::http_client::{BasicAuth, HttpClient, SecretSource, TextSource};
use config::prometheus::{AttachMetadata, KubernetesNamespaces};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::health::Health;
use super::*;
use fake::Fake;

const PODS: &str = "/api/v1/pods";

fn section(role: KubernetesRole, url: &str) -> KubernetesDiscovery {
    KubernetesDiscovery {
        api_server: Some(url.to_owned()),
        role,
        kubeconfig_file: None,
        http: HttpClient::default(),
        namespaces: KubernetesNamespaces::default(),
        selectors: Vec::new(),
        attach_metadata: None,
    }
}

fn pod(namespace: &str, name: &str, n_ports: usize) -> Value {
    let ports: Vec<Value> = (0..n_ports).map(|i| json!({"containerPort": 8000 + i})).collect();
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
        "status": {"podIP": "10.0.0.1"},
    })
}

struct Running {
    updates: mpsc::Receiver<Update>,
    /// Targets by source.
    known: BTreeMap<String, usize>,
    context: Context,
    stop: CancellationToken,
    /// Its watches end with it.
    _clusters: Arc<Clusters>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn clusters() -> Arc<Clusters> {
    Arc::new(Clusters::new(Arc::default(), CancellationToken::new()))
}

fn run(section: &KubernetesDiscovery, clusters: &Arc<Clusters>) -> Running {
    run_within(&Surroundings::of_process(), section, clusters)
}

fn run_within(around: &Surroundings, section: &KubernetesDiscovery, clusters: &Arc<Clusters>) -> Running {
    let context = Context {
        health: Arc::new(Health::new("kubernetes")),
        metrics: Arc::new(super::super::Metrics::new("scrape")),
    };
    let discoverer = Discoverer::within(around, section, clusters, &context).unwrap();
    let (sender, updates) = mpsc::channel(16);
    let stop = CancellationToken::new();
    tokio::spawn(super::super::Discoverer::run(Box::new(discoverer), sender, stop.clone()));
    Running { updates, known: BTreeMap::new(), context, stop, _clusters: Arc::clone(clusters) }
}

impl Running {
    async fn step(&mut self) {
        let update = timeout(Duration::from_secs(20), self.updates.recv()).await;
        for group in update.expect("an update comes in time").expect("the provider runs") {
            if group.targets.is_empty() {
                self.known.remove(&group.source);
            } else {
                self.known.insert(group.source.clone(), group.targets.len());
            }
        }
    }

    /// Takes updates until what is known is this.
    async fn until(&mut self, expected: &[(&str, usize)]) {
        let expected: BTreeMap<String, usize> = expected.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect();
        while self.known != expected {
            let before = self.known.clone();
            timeout(Duration::from_secs(20), self.step())
                .await
                .unwrap_or_else(|_| panic!("{before:?} did not become {expected:?}"));
        }
    }

    async fn until_failure(&self, wanted: bool) -> Option<String> {
        for _ in 0..2000 {
            let failure = self.context.health.failure().map(|failure| failure.error);
            if failure.is_some() == wanted {
                return failure;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("failure: {:?}", self.context.health.failure());
    }
}

#[tokio::test]
async fn sections_share_one_watch_and_a_reload_asks_nothing() {
    let fake = Fake::default();
    fake.with(|cluster| cluster.has_streaming_lists = true);
    fake.put(PODS, pod("a", "p", 1));
    fake.put(PODS, pod("b", "q", 2));
    let url = fake.start().await;
    let clusters = clusters();

    let mut first = run(&section(KubernetesRole::Pod, &url), &clusters);
    first.until(&[("pod/a/p", 1), ("pod/b/q", 2)]).await;
    assert_eq!(fake.requests(), ["stream /api/v1/pods"]);
    assert_eq!(fake.with(|cluster| cluster.user_agents.clone()), [crate::http_client::USER_AGENT]);
    assert_eq!(clusters.metrics().events(KubernetesRole::Pod), Events { added: 2, ..Events::default() });

    fake.put(PODS, pod("a", "p", 3));
    fake.delete(PODS, "b/q");
    fake.put(PODS, pod("c", "r", 1));
    first.until(&[("pod/a/p", 3), ("pod/c/r", 1)]).await;
    let events = Events { added: 3, updated: 1, deleted: 1 };
    assert_eq!(clusters.metrics().events(KubernetesRole::Pod), events);

    // As on a reload: the new section first, then the old one ends.
    let mut other = section(KubernetesRole::Endpoints, &url);
    other.attach_metadata = Some(AttachMetadata { node: true, ..AttachMetadata::default() });
    let _other = run(&other, &clusters);
    let mut attached = section(KubernetesRole::Pod, &url);
    attached.attach_metadata = Some(AttachMetadata { job: true, ..AttachMetadata::default() });
    let mut second = run(&attached, &clusters);
    drop(first);
    second.until(&[("pod/a/p", 3), ("pod/c/r", 1)]).await;
    for _ in 0..500 {
        if clusters.get(&connect::Reach::new(&attached, &Surroundings::of_process()).unwrap()).n_watches()
            == 4
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fake.put(PODS, pod("c", "r", 2));
    second.until(&[("pod/a/p", 3), ("pod/c/r", 2)]).await;
    let new = ["stream /api/v1/endpoints", "stream /api/v1/nodes", "stream /api/v1/services"];
    assert_eq!(fake.requests(), new);
    assert_eq!(clusters.metrics().requests(), BTreeMap::from([("200".to_owned(), 4)]));
}

#[tokio::test]
async fn servers_without_streamed_lists_are_listed_in_pages() {
    let fake = Fake::default();
    fake.with(|cluster| cluster.page = Some(2));
    for i in 0..5 {
        fake.put(PODS, pod("a", &format!("p-{i}"), 1));
    }
    let url = fake.start().await;
    let clusters = clusters();
    let mut running = run(&section(KubernetesRole::Pod, &url), &clusters);
    let all = ["pod/a/p-0", "pod/a/p-1", "pod/a/p-2", "pod/a/p-3", "pod/a/p-4"];
    running.until(&all.map(|source| (source, 1))).await;
    fake.put(PODS, pod("a", "p-4", 2));
    while running.known["pod/a/p-4"] != 2 {
        running.step().await;
    }
    let (stream, list, watch) = ("stream /api/v1/pods", "list /api/v1/pods", "watch /api/v1/pods");
    assert_eq!(fake.requests(), [list, list, list, stream, watch]);
    assert_eq!(clusters.metrics().failures.get(), 0);

    // The next watch of the cluster does not try again.
    let _services = run(&section(KubernetesRole::Service, &url), &clusters);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.requests(), ["list /api/v1/services", "watch /api/v1/services"]);
}

#[tokio::test]
async fn what_ends_goes_on_where_it_was_and_what_is_forgotten_is_listed_anew() {
    let fake = Fake::default();
    fake.with(|cluster| cluster.has_streaming_lists = true);
    fake.put(PODS, pod("a", "p", 1));
    fake.put(PODS, pod("a", "q", 1));
    let url = fake.start().await;
    let clusters = clusters();
    let mut running = run(&section(KubernetesRole::Pod, &url), &clusters);
    running.until(&[("pod/a/p", 1), ("pod/a/q", 1)]).await;

    // An event, so that the watch has worked, then an end in the middle of the next one.
    fake.put(PODS, pod("a", "p", 2));
    running.until(&[("pod/a/p", 2), ("pod/a/q", 1)]).await;
    fake.break_watches();
    fake.put(PODS, pod("a", "p", 3));
    running.until(&[("pod/a/p", 3), ("pod/a/q", 1)]).await;
    assert_eq!(fake.requests(), ["stream /api/v1/pods", "watch /api/v1/pods"]);
    assert_eq!(clusters.metrics().failures.get(), 0);

    // Broken again, and what happened in between is forgotten.
    fake.with(|cluster| {
        cluster.refusals.insert(PODS.to_owned(), 503);
        cluster.version += 10;
        cluster.oldest = cluster.version;
    });
    fake.break_watches();
    let failure = running.until_failure(true).await.unwrap();
    assert_eq!(failure, "/api/v1/pods: the server answered 503: refused by the test");
    fake.delete(PODS, "a/q");
    fake.put(PODS, pod("a", "r", 1));
    let oldest = fake.with(|cluster| cluster.version);
    fake.with(|cluster| cluster.oldest = oldest);
    assert_eq!(running.known.len(), 2, "what was known stays");
    fake.requests();
    fake.with(|cluster| cluster.refusals.clear());
    running.until(&[("pod/a/p", 3), ("pod/a/r", 1)]).await;
    running.until_failure(false).await;
    let requests = fake.requests();
    let n = requests.iter().filter(|request| request.starts_with("stream")).count();
    assert_eq!(n, 1, "{requests:?}");
    let events = clusters.metrics().events(KubernetesRole::Pod);
    assert_eq!(events, Events { added: 3, updated: 2, deleted: 1 }, "the list repeats nothing");
}

#[tokio::test]
async fn namespaces_fail_alone_and_nothing_is_settled_before_all_are_known() {
    let fake = Fake::default();
    fake.put(PODS, pod("a", "p", 1));
    fake.put(PODS, pod("b", "p", 1));
    fake.put(PODS, pod("c", "p", 1));
    fake.with(|cluster| cluster.refusals.insert("/api/v1/namespaces/b/pods".to_owned(), 403));
    let url = fake.start().await;
    let clusters = clusters();
    let mut section = section(KubernetesRole::Pod, &url);
    section.namespaces.names = ["a", "b", "a"].map(str::to_owned).to_vec();
    let mut running = run(&section, &clusters);
    running.until(&[("pod/a/p", 1)]).await;
    let failure = running.until_failure(true).await.unwrap();
    assert_eq!(failure, "/api/v1/namespaces/b/pods: the server answered 403: refused by the test");
    assert!(!running.context.health.updated(), "half of it is no reason to forget what was known");
    let is_unknown = |source| running.context.health.is_unknown(source);
    for _ in 0..500 {
        if !is_unknown("pod/a/gone") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let unknown = ["pod/a/gone", "pod/b/p", "endpoints/b/x", "pod/c/p"].map(is_unknown);
    assert_eq!(unknown, [false, true, true, false]);
    fake.with(|cluster| cluster.refusals.clear());
    running.until(&[("pod/a/p", 1), ("pod/b/p", 1)]).await;
    running.until_failure(false).await;
    for _ in 0..500 {
        if running.context.health.updated() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(running.context.health.updated());
    let name = "/api/v1/namespaces/%7Bnamespace%7D/pods";
    let mut out = model::wire::expose::Exposition::default();
    expose(&[&clusters.metrics()], &mut out);
    let text = String::from_utf8(out.into_body()).unwrap();
    let line = format!("prometheus_sd_kubernetes_http_request_duration_seconds_count{{endpoint=\"{name}\"}}");
    assert!(text.contains(&line), "{text}");
    assert!(text.contains("prometheus_sd_kubernetes_workqueue_depth{queue_name=\"pod\"} 0\n"), "{text}");
}

/// A reload that asks for a namespace that is forbidden: its pods stay, but the others' live and die.
#[tokio::test]
async fn a_forbidden_namespace_keeps_no_dead_targets_of_others() {
    let fake = Fake::default();
    for (namespace, name) in [("a", "p"), ("a", "q"), ("b", "p"), ("c", "p")] {
        fake.put(PODS, pod(namespace, name, 1));
    }
    let url = fake.start().await;
    let stop = CancellationToken::new();
    let manager = Arc::new(super::super::Manager::new("scrape", stop.clone()));
    let mut sets = manager.subscribe();
    let running = Arc::clone(&manager);
    tokio::spawn(async move { running.run().await });
    let mut section = section(KubernetesRole::Pod, &url);
    let apply = |section: &KubernetesDiscovery| {
        let sections = vec![config::prometheus::Discovery::Kubernetes(Box::new(section.clone()))];
        manager.apply(&BTreeMap::from([("job".to_owned(), sections)]));
    };
    let mut until = async |expected: &[&str]| {
        let fits = |sets: &Arc<super::super::TargetSets>| {
            let groups = sets.get("job").into_iter().flatten();
            let mut found: Vec<&str> = groups.map(|group| group.source.as_str()).collect();
            found.sort_unstable();
            found == expected
        };
        let waited = timeout(Duration::from_secs(20), sets.wait_for(fits)).await.map(drop);
        assert!(waited.is_ok(), "{expected:?}: {:?}", sets.borrow());
    };
    apply(&section);
    until(&["pod/a/p", "pod/a/q", "pod/b/p", "pod/c/p"]).await;
    fake.with(|cluster| cluster.refusals.insert("/api/v1/namespaces/b/pods".to_owned(), 403));
    section.namespaces.names = ["a", "b"].map(str::to_owned).to_vec();
    apply(&section);
    until(&["pod/a/p", "pod/a/q", "pod/b/p"]).await;
    fake.delete(PODS, "a/q");
    until(&["pod/a/p", "pod/b/p"]).await;
    stop.cancel();
}

/// What a proxy or a login page answers is no list, and a list that cannot be finished is no list yet.
#[tokio::test]
async fn what_is_no_list_takes_nothing_away() {
    let fake = Fake::default();
    fake.with(|cluster| (cluster.page, cluster.forgets_pages) = (Some(1), true));
    fake.put(PODS, pod("a", "p", 1));
    fake.put(PODS, pod("a", "q", 1));
    let url = fake.start().await;
    let clusters = clusters();
    let mut running = run(&section(KubernetesRole::Pod, &url), &clusters);
    // The token of the second page is too old: then all in one.
    running.until(&[("pod/a/p", 1), ("pod/a/q", 1)]).await;

    for answer in [r#"{"message": "please log in"}"#, r#"{"metadata": {}, "items": []}"#] {
        fake.with(|cluster| {
            cluster.list = Some(answer.to_owned());
            cluster.version += 10;
            cluster.oldest = cluster.version;
        });
        fake.break_watches();
        // The watch that broke at once may show first.
        while running.until_failure(true).await.unwrap()
            != "/api/v1/pods: the answer is no list: it has no version"
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fake.with(|cluster| cluster.list = None);
        running.until_failure(false).await;
    }
    fake.put(PODS, pod("a", "r", 1));
    while running.known.len() != 3 {
        running.step().await;
        assert!(running.known.len() >= 2, "targets were taken away");
    }
    assert_eq!(clusters.metrics().events(KubernetesRole::Pod).deleted, 0);
}

/// A server that is so old that it knows nothing of streamed lists, in a cluster that never rests.
#[tokio::test]
async fn a_streamed_list_without_an_end_is_given_up() {
    let fake = Fake::default();
    fake.with(|cluster| cluster.ignores_streams = true);
    fake.put(PODS, pod("a", "p", 1));
    let url = fake.start().await;
    let mut running = run(&section(KubernetesRole::Pod, &url), &clusters());
    let busy = fake.clone();
    let unrest = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            busy.put(PODS, pod("a", "p", 1));
        }
    });
    running.until(&[("pod/a/p", 1)]).await;
    unrest.abort();
}

/// An error of the server's that comes at one version for ever must not freeze what is known.
#[tokio::test]
async fn a_version_that_cannot_be_watched_is_given_up() {
    let fake = Fake::default();
    fake.put(PODS, pod("a", "p", 1));
    let url = fake.start().await;
    let mut running = run(&section(KubernetesRole::Pod, &url), &clusters());
    running.until(&[("pod/a/p", 1)]).await;
    fake.with(|cluster| {
        cluster.version += 10;
        cluster.unwatchable = cluster.version;
    });
    fake.break_watches();
    fake.put(PODS, pod("a", "p", 2));
    running.until(&[("pod/a/p", 2)]).await;
    running.until_failure(false).await;
}

#[tokio::test]
async fn credentials_of_all_kinds() {
    let fake = Fake::default();
    fake.put(PODS, pod("a", "p", 1));
    fake.with(|cluster| cluster.authorization = Some("Bearer s3cret".to_owned()));
    let url = fake.start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let kubeconfig = |user: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": url.clone()}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": user}],
        })
        .to_string()
    };
    let by_file = KubernetesDiscovery {
        api_server: None,
        kubeconfig_file: Some(path.clone()),
        ..section(KubernetesRole::Pod, "")
    };
    let credential = json!({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "s3cret"}});
    let plugin = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/echo",
        "args": [credential.to_string()],
        "interactiveMode": "Never",
    });
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    for user in [json!({"token": "s3cret"}), json!({"tokenFile": "token"}), json!({"exec": plugin})] {
        std::fs::write(&path, kubeconfig(user.clone())).unwrap();
        let mut running = run(&by_file, &clusters());
        running.until(&[("pod/a/p", 1)]).await;
    }

    // A token that was changed in the file is taken up.
    std::fs::write(&path, kubeconfig(json!({"token": "old-t0ken"}))).unwrap();
    let mut running = run(&by_file, &clusters());
    let failure = running.until_failure(true).await.unwrap();
    assert_eq!(failure, "/api/v1/pods: the server answered 401: Unauthorized");
    std::fs::write(&path, kubeconfig(json!({"token": "s3cret"}))).unwrap();
    running.until(&[("pod/a/p", 1)]).await;

    // By URL, behind a path.
    let mut by_url = section(KubernetesRole::Pod, &format!("{url}/"));
    by_url.http.basic_auth = Some(BasicAuth {
        username: TextSource::Inline("u".to_owned()),
        password: SecretSource::Inline(Secret::new("p")),
    });
    fake.with(|cluster| cluster.authorization = Some("Basic dTpw".to_owned()));
    let mut running = run(&by_url, &clusters());
    running.until(&[("pod/a/p", 1)]).await;
}

/// A server of TLS that knows its clients by certificates of `authority`.
fn server_config(
    authority: &rcgen::Certificate,
    own: (&rcgen::Certificate, &rcgen::KeyPair),
) -> rustls::ServerConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = crate::http_client::provider();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.1.serialize_der()).unwrap();
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.0.der().clone()], key)
        .unwrap()
}

#[tokio::test]
async fn certificates_of_both_sides() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["ca".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
    };
    let (server, server_key) = signed("kubernetes.test");
    let (client, client_key) = signed("client.test");

    let fake = Fake::default();
    fake.put(PODS, pod("a", "p", 1));
    let url = fake.start_tls(server_config(&authority, (&server, &server_key))).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", &authority.pem());
    write("client.pem", &client.pem());
    write("client.key", &client_key.serialize_pem());
    let kubeconfig = |ca: &str, name: &str| {
        json!({
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {
                "server": url.clone(),
                "certificate-authority": ca,
                "tls-server-name": name,
            }}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {"client-certificate": "client.pem", "client-key": "client.key"}}],
        })
        .to_string()
    };
    let by_file = KubernetesDiscovery {
        api_server: None,
        kubeconfig_file: Some(folder.path().join("kubeconfig")),
        ..section(KubernetesRole::Pod, "")
    };
    write("kubeconfig", &kubeconfig("ca.pem", "kubernetes.test"));
    let mut running = run(&by_file, &clusters());
    running.until(&[("pod/a/p", 1)]).await;

    // Another name, and another authority.
    write("other.pem", &client.pem());
    for (ca, name) in [("ca.pem", "other.test"), ("other.pem", "kubernetes.test")] {
        write("kubeconfig", &kubeconfig(ca, name));
        let running = run(&by_file, &clusters());
        let failure = running.until_failure(true).await.unwrap();
        assert!(failure.contains("invalid peer certificate"), "{failure}");
    }

    // The same by the client block.
    let mut by_url = section(KubernetesRole::Pod, &url);
    by_url.http.tls = config::http_client::Tls {
        ca: Some(TextSource::File(folder.path().join("ca.pem"))),
        cert: Some(TextSource::File(folder.path().join("client.pem"))),
        key: Some(SecretSource::File(folder.path().join("client.key"))),
        server_name: Some("kubernetes.test".to_owned()),
        ..config::http_client::Tls::default()
    };
    let mut running = run(&by_url, &clusters());
    running.until(&[("pod/a/p", 1)]).await;
}

/// What a pod finds around it: the address in its environment, token, authority and namespace in files.
#[tokio::test]
async fn in_a_cluster() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::http_client::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let fake = Fake::default();
    for namespace in ["own", "other"] {
        fake.put(PODS, pod(namespace, "p", 1));
    }
    fake.with(|cluster| cluster.authorization = Some("Bearer first".to_owned()));
    let url = fake.start_tls(config).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let port = url.rsplit_once(':').unwrap().1.to_owned();
    let around = Surroundings { host: "127.0.0.1".to_owned(), port, folder: folder.path().into() };
    let mut section = KubernetesDiscovery { api_server: None, ..section(KubernetesRole::Pod, "") };
    let made = |section: &KubernetesDiscovery| {
        Discoverer::within(&around, section, &clusters(), &super::super::testing::context("kubernetes"))
            .err()
            .map(|error| error.to_string())
    };
    let ca = folder.path().join("ca.crt").display().to_string();
    let start = format!("unable to load in-cluster configuration: {ca}: ");
    assert!(made(&section).unwrap().starts_with(&start));
    write("ca.crt", "nothing");
    assert_eq!(made(&section).unwrap(), format!("{start}it holds no certificate"));
    write("ca.crt", &certificate.pem());
    assert_eq!(made(&section), None);
    section.namespaces.own_namespace = true;
    assert!(made(&section).unwrap().starts_with("could not determine the pod's namespace: "));
    write("namespace", "");
    assert_eq!(made(&section).unwrap(), "could not read own namespace name (empty file)");
    write("namespace", "own\n");

    // The token comes late, and is renewed while we run.
    let mut running = run_within(&around, &section, &clusters());
    let failure = running.until_failure(true).await.unwrap();
    let start = "/api/v1/namespaces/own/pods: could not read the token file ";
    assert!(failure.starts_with(start), "{failure}");
    write("token", "first\n");
    running.until(&[("pod/own/p", 1)]).await;
    fake.with(|cluster| cluster.authorization = Some("Bearer second".to_owned()));
    write("token", "second\n");
    fake.break_watches();
    fake.put(PODS, pod("own", "p", 2));
    running.until(&[("pod/own/p", 2)]).await;
    section.namespaces.own_namespace = false;
    let mut all = run_within(&around, &section, &clusters());
    all.until(&[("pod/own/p", 2), ("pod/other/p", 1)]).await;
}

#[tokio::test]
async fn ways_that_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let by_file = KubernetesDiscovery {
        api_server: None,
        kubeconfig_file: Some(path.clone()),
        ..section(KubernetesRole::Pod, "")
    };
    let nowhere = Surroundings { host: String::new(), port: "1".to_owned(), folder: folder.path().into() };
    let error =
        |section: &KubernetesDiscovery| connect::Reach::new(section, &nowhere).unwrap_err().to_string();
    assert!(error(&by_file).starts_with(&format!("could not read kubeconfig {}: ", path.display())));
    for text in ["users:\n- name: x\n  user: {token: s3cret\n", "users: s3cret\n", "- s3cret\n", "\"s3cret"] {
        std::fs::write(&path, text).unwrap();
        let error = error(&by_file);
        assert!(error.starts_with(&format!("could not parse kubeconfig {}: ", path.display())), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let in_cluster = KubernetesDiscovery { api_server: None, ..section(KubernetesRole::Pod, "") };
    assert_eq!(
        error(&in_cluster),
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    );

    // A plugin that fails with a secret in its mouth.
    let config = json!({
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "users": [{"name": "x", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "/bin/sh",
            "args": ["-c", "echo s3cret; exit 3"],
            "interactiveMode": "Never",
        }}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let running = run(&by_file, &clusters());
    let failure = running.until_failure(true).await.unwrap();
    assert!(failure.contains("exit status: 3") && !failure.contains("s3cret"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_its_last_user_for_a_while() {
    let selection =
        Selection { kind: Kind::Pod, namespace: None, labels: String::new(), fields: String::new() };
    let watch = Arc::new(watch::Watch::new(selection));
    let wake = Arc::new(Notify::new());
    let start = tokio::time::Instant::now();
    let first = watch.subscribe(&wake).unwrap();
    let unused = tokio::spawn({
        let watch = Arc::clone(&watch);
        async move { watch.unused().await }
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(first);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let second = watch.subscribe(&wake).expect("it is still there");
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(!unused.is_finished());
    drop(second);
    unused.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 10 + 60 + 3600 + 120);
    assert!(watch.subscribe(&wake).is_none());
}

#[test]
fn what_a_role_watches() {
    let shown = |section: &KubernetesDiscovery, namespace| -> Vec<String> {
        selections(section, namespace)
            .iter()
            .map(|s| format!("{} {:?} {:?}", s.kind.path(s.namespace.as_deref()), s.labels, s.fields))
            .collect()
    };
    let mut section = section(KubernetesRole::EndpointSlice, "");
    section.selectors = vec![config::prometheus::KubernetesSelector {
        role: KubernetesRole::Pod,
        label: "a=b".to_owned(),
        field: "spec.nodeName=x".to_owned(),
    }];
    section.attach_metadata =
        Some(AttachMetadata { node: true, namespace: true, deployment: true, job: true, cronjob: true });
    assert_eq!(
        shown(&section, Some("x")),
        [
            r#"/apis/discovery.k8s.io/v1/namespaces/x/endpointslices "" """#,
            r#"/api/v1/namespaces/x/services "" """#,
            r#"/api/v1/namespaces/x/pods "a=b" "spec.nodeName=x""#,
            r#"/api/v1/nodes "" """#,
            r#"/api/v1/namespaces "" """#,
            r#"/apis/apps/v1/namespaces/x/replicasets "" """#,
            r#"/apis/batch/v1/namespaces/x/jobs "" """#,
        ]
    );
    for (role, expected) in [
        (KubernetesRole::Node, &["/api/v1/nodes"][..]),
        (KubernetesRole::Service, &["/api/v1/services", "/api/v1/namespaces"]),
        (KubernetesRole::Ingress, &["/apis/networking.k8s.io/v1/ingresses", "/api/v1/namespaces"]),
    ] {
        section.role = role;
        let paths: Vec<String> = selections(&section, None).iter().map(|s| s.kind.path(None)).collect();
        assert_eq!(paths, expected);
    }
}
