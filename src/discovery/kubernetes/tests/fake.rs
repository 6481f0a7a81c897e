//! An API server as small as it can be: one list and one watch per path, and switches for what goes wrong.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

#[derive(Default)]
pub(super) struct Cluster {
    pub(super) version: u64,
    /// By path of the collection and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    /// Version, path and event.
    log: Vec<(u64, String, Value)>,
    /// Versions before it are forgotten.
    pub(super) oldest: u64,
    pub(super) has_streaming_lists: bool,
    /// It takes the parameter of streamed lists for one that it does not know.
    pub(super) ignores_streams: bool,
    /// Answered to lists, whatever there is.
    pub(super) list: Option<String>,
    /// Watches from versions before it end in an error of the server.
    pub(super) unwatchable: u64,
    /// Tokens of pages are forgotten at once.
    pub(super) forgets_pages: bool,
    /// Items in a page, whatever is asked for.
    pub(super) page: Option<usize>,
    /// Answers with this status, by path.
    pub(super) refusals: HashMap<String, u16>,
    /// Only requests with this credential are answered.
    pub(super) authorization: Option<String>,
    /// Method-like: `list`, `watch` or `stream`, with the path, of each request.
    pub(super) requests: Vec<String>,
    pub(super) user_agents: Vec<String>,
    /// Counts up to end all running watches, in the middle of a line.
    n_breaks: u64,
}

#[derive(Clone, Default)]
pub(super) struct Fake {
    pub(super) cluster: Arc<Mutex<Cluster>>,
    changed: Arc<Notify>,
}

impl Fake {
    /// Starts it and returns where it is.
    pub(super) async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// The same behind TLS.
    pub(super) async fn start_tls(&self, config: rustls::ServerConfig) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
                });
            }
        });
        format!("https://{address}")
    }

    /// Changes the cluster and lets watches know.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = change(&mut self.cluster.lock());
        self.changed.notify_waiters();
        result
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.with(|cluster| cluster.put(path, object));
    }

    pub(super) fn delete(&self, path: &str, name: &str) {
        self.with(|cluster| {
            cluster.version += 1;
            let mut object = cluster.objects.remove(&(path.to_owned(), name.to_owned())).unwrap();
            object["metadata"]["resourceVersion"] = cluster.version.to_string().into();
            let event = json!({"type": "DELETED", "object": object});
            cluster.log.push((cluster.version, path.to_owned(), event));
        });
    }

    pub(super) fn break_watches(&self) {
        self.with(|cluster| cluster.n_breaks += 1);
    }

    /// The requests since the last call.
    pub(super) fn requests(&self) -> Vec<String> {
        let mut requests = std::mem::take(&mut self.cluster.lock().requests);
        requests.sort();
        requests
    }
}

impl Cluster {
    fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let key = (path.to_owned(), format!("{}/{}", text("namespace"), text("name")));
        let kind = if self.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        let event = json!({"type": kind, "object": object.clone()});
        self.log.push((self.version, path.to_owned(), event));
        self.objects.insert(key, object);
    }

    /// The objects at `path`, which may name a namespace.
    fn at(&self, path: &str) -> Vec<&Value> {
        let (all, namespace) = collection(path);
        let is_within = |name: &str| namespace.as_ref().is_none_or(|n| name.starts_with(&format!("{n}/")));
        self.objects.iter().filter(|((at, name), _)| *at == all && is_within(name)).map(|(_, v)| v).collect()
    }
}

/// `/api/v1/namespaces/x/pods` is a part of `/api/v1/pods`.
fn collection(path: &str) -> (String, Option<String>) {
    match path.split_once("/namespaces/").and_then(|(start, rest)| Some((start, rest.split_once('/')?))) {
        Some((start, (namespace, rest))) => (format!("{start}/{rest}"), Some(namespace.to_owned())),
        None => (path.to_owned(), None),
    }
}

fn refuse(status: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "message": message, "code": status});
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

async fn answer(
    State(fake): State<Fake>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let is_watch = query.get("watch").is_some_and(|v| v == "true" || v == "1");
    let is_stream = query.contains_key("sendInitialEvents");
    let mut cluster = fake.cluster.lock();
    let verb = match (is_watch, is_stream) {
        (false, _) => "list",
        (true, false) => "watch",
        (true, true) => "stream",
    };
    cluster.requests.push(format!("{verb} {path}"));
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    cluster.user_agents.push(text(header::USER_AGENT));
    if cluster.authorization.as_ref().is_some_and(|wanted| *wanted != text(header::AUTHORIZATION)) {
        return refuse(401, "Unauthorized");
    }
    if let Some(status) = cluster.refusals.get(&path) {
        return refuse(*status, "refused by the test");
    }
    if is_stream && !cluster.has_streaming_lists && !cluster.ignores_streams {
        return refuse(
            422,
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        );
    }
    if !is_watch {
        return list(&cluster, &path, &query);
    }

    let version = query.get("resourceVersion").map_or(0, |v| v.parse().unwrap());
    if !is_stream && version < cluster.oldest {
        let status = json!({"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410});
        let line = format!("{}\n", json!({"type": "ERROR", "object": status}));
        return line.into_response();
    }
    if !is_stream && version < cluster.unwatchable {
        let status = json!({"kind": "Status", "status": "Failure", "message": "broken", "code": 500});
        return format!("{}\n", json!({"type": "ERROR", "object": status})).into_response();
    }
    let mut first = Vec::new();
    if is_stream {
        first.extend(cluster.at(&path).iter().map(|v| json!({"type": "ADDED", "object": v})));
    }
    if is_stream && !cluster.ignores_streams {
        let meta = json!({"resourceVersion": cluster.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
        first.push(json!({"type": "BOOKMARK", "object": {"metadata": meta}}));
    }
    let from = if is_stream { cluster.version } else { version };
    let n_breaks = cluster.n_breaks;
    drop(cluster);
    let (lines, body) = mpsc::channel::<Result<Bytes, Infallible>>(64);
    tokio::spawn(feed(fake, path, first, from, n_breaks, lines));
    Body::from_stream(futures_util::stream::unfold(body, |mut body| async {
        Some((body.recv().await?, body))
    }))
    .into_response()
}

fn list(cluster: &Cluster, path: &str, query: &HashMap<String, String>) -> Response {
    if let Some(answer) = &cluster.list {
        return answer.clone().into_response();
    }
    if cluster.forgets_pages && query.contains_key("continue") {
        return refuse(410, "The provided continue parameter is too old");
    }
    let all = cluster.at(path);
    let start: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
    let is_cut = !cluster.forgets_pages || query.contains_key("limit");
    let n = cluster.page.filter(|_| is_cut).unwrap_or(all.len());
    let items: Vec<_> = all.iter().skip(start).take(n).collect();
    let mut meta = json!({"resourceVersion": cluster.version.to_string()});
    if start + n < all.len() {
        meta["continue"] = (start + n).to_string().into();
    }
    json!({"kind": "List", "metadata": meta, "items": items}).to_string().into_response()
}

async fn feed(
    fake: Fake,
    path: String,
    first: Vec<Value>,
    mut from: u64,
    n_breaks: u64,
    lines: mpsc::Sender<Result<Bytes, Infallible>>,
) {
    let (all, namespace) = collection(&path);
    let mut next = first;
    loop {
        for event in next.drain(..) {
            // In two pieces, since the network promises nothing.
            let mut line = Bytes::from(format!("{event}\n"));
            let start = line.split_to(line.len() / 2);
            if lines.send(Ok(start)).await.is_err() || lines.send(Ok(line)).await.is_err() {
                return;
            }
        }
        let changed = fake.changed.notified();
        let is_broken = {
            let cluster = fake.cluster.lock();
            for (version, at, event) in &cluster.log {
                let within = &event["object"]["metadata"]["namespace"];
                if *version > from && *at == all && namespace.as_deref().is_none_or(|n| within == n) {
                    next.push(event.clone());
                }
            }
            from = cluster.version.max(from);
            cluster.n_breaks > n_breaks
        };
        if is_broken {
            let _ = lines.send(Ok(Bytes::from_static(b"{\"type\":\"MODI"))).await;
            return;
        }
        if next.is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
            if lines.is_closed() {
                return;
            }
        }
    }
}
