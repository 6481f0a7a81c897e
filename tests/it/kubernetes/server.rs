//! A Kubernetes API server for tests: what `kubectl get` and the informers of client-go need, and every way in which
//! a real one can fail them.
//!
//! Reads only; what is in the cluster a test says through [`Api`]. Speaks JSON, the table form and the metadata form,
//! never protobuf: clients that prefer that accept JSON as well. Not here: authorisation, admission, `OpenAPI`.
//!
//! Compat: kubernetes 1.35, `kube-apiserver`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::faults::{Deed, Fault, Interruption, Seen, Verb};
use super::objects::{Gone, Kind, Object, Store};
use super::selector::Selector;
use super::table;
use super::watch::{Mouth, Watch};
use crate::process::{RUNTIME, until};

/// What a real server compresses, if asked to.
const COMPRESSED_FROM: usize = 128 * 1024;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(super) type Piece = Result<Frame<Bytes>, std::io::Error>;

/// What the server makes of `sendInitialEvents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamingLists {
    Served,
    /// As by a server that knows the parameter and has it switched off.
    Refused,
    /// As by a server that is older than the parameter.
    Ignored,
}

#[derive(Clone)]
pub(crate) struct Options {
    /// Whoever has another one is refused.
    pub(crate) token: Option<String>,
    pub(crate) streaming_lists: StreamingLists,
    pub(crate) bookmark_every: Duration,
    /// A version that is too old: status 410, or status 200 and an event that says so.
    pub(crate) gone_as_status: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            streaming_lists: StreamingLists::Served,
            bookmark_every: Duration::from_mins(1),
            gone_as_status: false,
        }
    }
}

/// A running server, until it is dropped.
pub(crate) struct Api {
    shared: Arc<Shared>,
    address: SocketAddr,
    up: Mutex<CancellationToken>,
}

pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) store: Mutex<Store>,
    pub(super) signal: watch::Sender<Signal>,
    pub(super) faults: Mutex<Vec<Fault>>,
    pub(super) seen: Mutex<Vec<Seen>>,
    /// How far each running watch has come.
    pub(super) watches: Mutex<Vec<Weak<Progress>>>,
}

/// What wakes watches.
#[derive(Clone, Default)]
pub(super) struct Signal {
    pub(super) version: u64,
    pub(super) interruptions: Vec<(Option<Kind>, Interruption)>,
}

pub(super) struct Progress {
    pub(super) kind: Kind,
    pub(super) version: AtomicU64,
}

impl Api {
    pub(crate) fn start(options: Options) -> Self {
        let shared = Arc::new(Shared {
            options,
            store: Mutex::default(),
            signal: watch::Sender::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            watches: Mutex::default(),
        });
        let (address, up) = listen(&shared, "127.0.0.1:0".parse().unwrap());
        Self { shared, address, up: Mutex::new(up) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A file that tells clients where it is.
    pub(crate) fn kubeconfig(&self) -> String {
        let token = self.shared.options.token.as_deref().unwrap_or("none");
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{}'}}}}]\n\
             users: [{{name: test, user: {{token: '{token}'}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: default}}}}]\n",
            self.url()
        )
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap()
    }

    /// Changes the cluster and tells all watches.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store();
        let result = change(&mut store);
        let version = store.version();
        drop(store);
        self.shared.signal.send_modify(|signal| signal.version = version);
        result
    }

    pub(crate) fn fault(&self, verb: Verb, kind: Option<Kind>, times: usize, deed: Deed) {
        self.shared.faults.lock().unwrap().push(Fault { verb, kind, times, deed });
    }

    pub(crate) fn heal(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Does something to the running watches of a kind, or of all.
    pub(crate) fn interrupt(&self, kind: Option<Kind>, interruption: Interruption) {
        self.shared.signal.send_modify(|signal| signal.interruptions.push((kind, interruption)));
    }

    /// Closes the port and every connection.
    pub(crate) fn go_down(&self) {
        self.up.lock().unwrap().cancel();
        until("the port to be closed", || std::net::TcpStream::connect(self.address).err());
    }

    pub(crate) fn come_back(&self) {
        *self.up.lock().unwrap() = listen(&self.shared, self.address).1;
    }

    /// All requests since the start or since they were forgotten.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn forget_seen(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// How often each kind was read anew, whichever way.
    pub(crate) fn relists(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.seen().iter().filter(|seen| seen.is_relist()) {
            *counts.entry(seen.kind.unwrap()).or_default() += 1;
        }
        counts
    }

    /// The kinds that somebody watches now, once for each watch.
    pub(crate) fn watched(&self) -> Vec<Kind> {
        let mut kinds: Vec<_> = self.shared.running().iter().map(|progress| progress.kind).collect();
        kinds.sort();
        kinds
    }

    /// Whether every running watch has been sent all there is.
    pub(crate) fn is_delivered(&self) -> bool {
        let version = self.store().version();
        self.shared.running().iter().all(|progress| progress.version.load(Ordering::Acquire) >= version)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.up.lock().unwrap().cancel();
    }
}

/// Accepts connections until the token is cancelled, which closes them too.
fn listen(shared: &Arc<Shared>, address: SocketAddr) -> (SocketAddr, CancellationToken) {
    let up = CancellationToken::new();
    let listener = RUNTIME.block_on(TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap();
    let (shared, stop) = (Arc::clone(shared), up.clone());
    RUNTIME.spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let _ = stream.set_nodelay(true);
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| answer(Arc::clone(&shared), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // An error is a client that went away or a fault that was asked for.
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = connection => {}
                }
            });
        }
    });
    (address, up)
}

/// What a request is about.
pub(super) struct Asked {
    pub(super) verb: Verb,
    pub(super) kind: Option<Kind>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
}

impl Asked {
    fn parse(uri: &hyper::Uri) -> Self {
        let query: BTreeMap<_, _> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let path = uri.path().trim_end_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, "v1", rest @ ..] => (*group, rest),
            _ => ("", &[][..]),
        };
        let (namespace, plural, name) = match rest {
            ["namespaces", namespace, plural] => (*namespace, *plural, ""),
            ["namespaces", namespace, plural, name] => (*namespace, *plural, *name),
            [plural, name] => ("", *plural, *name),
            [plural] => ("", *plural, ""),
            _ => ("", "", ""),
        };
        let kind = Kind::of(group, plural).filter(|kind| namespace.is_empty() || kind.is_namespaced());
        let is_watch = query.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
        let verb = match kind {
            None => Verb::Other,
            Some(_) if is_watch => Verb::Watch,
            Some(_) if name.is_empty() => Verb::List,
            Some(_) => Verb::Get,
        };
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { verb, kind, namespace, name, path, query }
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }
}

/// The shape in which objects are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table,
    Metadata,
}

impl Form {
    /// The first that the client accepts and that there is.
    fn negotiate(accept: &str) -> Option<Self> {
        if accept.trim().is_empty() {
            return Some(Self::Whole);
        }
        accept.split(',').find_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
                return None;
            }
            let of = |name: &str| {
                clause.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
            };
            match (of("as"), of("g"), of("v")) {
                (None, ..) => Some(Self::Whole),
                (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Self::Table),
                (
                    Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                    Some("meta.k8s.io"),
                    Some("v1"),
                ) => Some(Self::Metadata),
                _ => None,
            }
        })
    }
}

/// A refusal as the API writes it.
pub(super) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    pub(super) fn gone(version: u64, gone: &Gone) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {version} ({})", gone.oldest))
    }

    pub(super) fn too_large(version: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        Self {
            details: json!({"causes": [cause], "retryAfterSeconds": 1}),
            ..Self::new(504, "Timeout", message)
        }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"))
    }

    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    fn response(&self) -> Response<Body> {
        let mut response = whole(self.code, self.status().to_string().into_bytes());
        if let Some(seconds) = self.details["retryAfterSeconds"].as_u64() {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        response
    }
}

fn whole(code: u16, body: Vec<u8>) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder().status(code).header(CONTENT_TYPE, "application/json").body(body).unwrap()
}

/// A response whose body is sent while it comes into being.
fn streamed() -> (mpsc::Sender<Piece>, Response<Body>) {
    let (pieces, mut received) = mpsc::channel(16);
    let stream = futures_util::stream::poll_fn(move |context| received.poll_recv(context));
    let body = StreamBody::new(stream).boxed_unsync();
    (pieces, Response::builder().header(CONTENT_TYPE, "application/json").body(body).unwrap())
}

pub(super) fn broken() -> std::io::Error {
    std::io::Error::other("broken on purpose")
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = Asked::parse(request.uri());
    shared.seen.lock().unwrap().push(Seen {
        verb: asked.verb,
        kind: asked.kind,
        namespace: asked.namespace.clone(),
        query: asked.query.clone(),
        path: asked.path.clone(),
        user_agent: header(USER_AGENT).to_owned(),
        at: Instant::now(),
    });
    let deed = shared.next_fault(&asked);
    match &deed {
        Some(Deed::Refuse(code, retry_after)) => return Ok(refuse(*code, *retry_after).response()),
        Some(Deed::Drop) => return Err(broken()),
        Some(Deed::Delay(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    if let Some(token) = &shared.options.token
        && header(AUTHORIZATION) != format!("Bearer {token}")
    {
        return Ok(Refusal::new(401, "Unauthorized", "Unauthorized").response());
    }
    let Some(form) = Form::negotiate(header(ACCEPT)) else {
        let message = "only the following media types are accepted: application/json";
        return Ok(Refusal::new(406, "NotAcceptable", message).response());
    };
    if request.method() != hyper::Method::GET {
        let message = "the server does not allow this method on the requested resource";
        return Ok(Refusal::new(405, "MethodNotAllowed", message).response());
    }
    let result = match asked.verb {
        Verb::Other => other(&asked.path).map(|body| whole(200, body)),
        Verb::Get => shared.get(&asked, form).map(|body| whole(200, body)),
        Verb::List => {
            let is_gzip_wanted = header(ACCEPT_ENCODING).contains("gzip");
            shared.list(&asked, form).map(|body| match deed {
                Some(Deed::CutAfter(_) | Deed::Trickle { .. }) => trickled(body, deed),
                _ if is_gzip_wanted && body.len() >= COMPRESSED_FROM => compressed(&body),
                _ => whole(200, body),
            })
        }
        Verb::Watch => shared.watch(asked, form, deed),
    };
    Ok(result.unwrap_or_else(|refusal| refusal.response()))
}

fn refuse(code: u16, retry_after: Option<u32>) -> Refusal {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "the server forbids it, as it was asked to"),
        410 => ("Expired", "too old resource version"),
        429 => ("TooManyRequests", "too many requests, please try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    let details = retry_after.map_or(Value::Null, |seconds| json!({"retryAfterSeconds": seconds}));
    Refusal { details, ..Refusal::new(code, reason, message) }
}

fn compressed(body: &[u8]) -> Response<Body> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    let mut response = whole(200, encoder.finish().unwrap());
    response.headers_mut().insert("content-encoding", hyper::header::HeaderValue::from_static("gzip"));
    response
}

fn trickled(body: Vec<u8>, deed: Option<Deed>) -> Response<Body> {
    let (pieces, response) = streamed();
    tokio::spawn(async move {
        // Fails when the client has gone.
        let _ = Mouth::new(pieces, deed.as_ref()).say(body).await;
    });
    response
}

/// Discovery of the API.
fn other(path: &str) -> Result<Vec<u8>, Refusal> {
    let group = |name: &str| {
        let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    let groups = ["apps", "batch", "discovery.k8s.io", "networking.k8s.io"];
    let resources = |name: &str| {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.group() == name);
        let resources: Vec<_> = kinds
            .map(|kind| {
                json!({
                    "name": kind.plural(), "singularName": kind.name().to_lowercase(), "kind": kind.name(),
                    "namespaced": kind.is_namespaced(), "verbs": ["get", "list", "watch"],
                    "shortNames": kind.short().into_iter().collect::<Vec<_>>(),
                })
            })
            .collect();
        let version = if name.is_empty() { "v1".to_owned() } else { format!("{name}/v1") };
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources,
        })
    };
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let value = match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] => return Ok(b"ok".to_vec()),
        ["version"] => json!({
            "major": "1", "minor": "35", "gitVersion": "v1.35.0", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2025-12-17T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        }),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["api", "v1"] => resources(""),
        ["apis"] => {
            let groups: Vec<_> = groups.into_iter().map(group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] if groups.contains(name) => {
            let mut value = group(name);
            (value["kind"], value["apiVersion"]) = (json!("APIGroup"), json!("v1"));
            value
        }
        ["apis", name, "v1"] if groups.contains(name) => resources(name),
        _ => {
            let message = "the server could not find the requested resource";
            return Err(Refusal::new(404, "NotFound", message));
        }
    };
    Ok(value.to_string().into_bytes())
}

/// Where a list goes on.
struct Continue {
    version: u64,
    after: (String, String),
}

impl Continue {
    fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(json!([self.version, self.after.0, self.after.1]).to_string())
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, namespace, name) = serde_json::from_slice(&bytes).ok()?;
        Some(Self { version, after: (namespace, name) })
    }
}

pub(super) fn number(asked: &Asked, name: &str) -> Result<u64, Refusal> {
    match asked.parameter(name) {
        "" => Ok(0),
        text => {
            text.parse().map_err(|_| Refusal::new(400, "BadRequest", format!("invalid {name}: {text:?}")))
        }
    }
}

impl Shared {
    /// What goes wrong with this request.
    fn next_fault(&self, asked: &Asked) -> Option<Deed> {
        let mut faults = self.faults.lock().unwrap();
        let is_meant = |fault: &&mut Fault| {
            fault.verb == asked.verb
                && fault.times > 0
                && fault.kind.is_none_or(|kind| asked.kind == Some(kind))
        };
        let fault = faults.iter_mut().find(is_meant)?;
        fault.times -= 1;
        Some(fault.deed.clone())
    }

    fn running(&self) -> Vec<Arc<Progress>> {
        let mut watches = self.watches.lock().unwrap();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.iter().filter_map(Weak::upgrade).collect()
    }

    fn get(&self, asked: &Asked, form: Form) -> Result<Vec<u8>, Refusal> {
        let kind = asked.kind.unwrap();
        let store = self.store.lock().unwrap();
        let object = store.get(kind, &asked.namespace, &asked.name).ok_or_else(|| {
            Refusal::new(404, "NotFound", format!("{} {:?} not found", kind.plural(), asked.name))
        })?;
        let mut body = Vec::new();
        match form {
            Form::Whole => object.write_whole(&mut body),
            Form::Table => body = table::of(kind, store.version(), &[object], true).to_string().into_bytes(),
            Form::Metadata => body = metadata(object).to_string().into_bytes(),
        }
        Ok(body)
    }

    /// The objects that a list asks for, the version they are of, and whether they may be cut into pages.
    fn listed(&self, asked: &Asked) -> Result<(Vec<Arc<Object>>, u64, bool), Refusal> {
        let kind = asked.kind.unwrap();
        let (wanted, rule) = (asked.parameter("resourceVersion"), asked.parameter("resourceVersionMatch"));
        let store = self.store.lock().unwrap();
        let current = store.version();
        let at = |version: u64| {
            let objects = store.all_at(kind, version).map_err(|gone| Refusal::gone(version, &gone))?;
            Ok((objects, version, true))
        };
        if !asked.parameter("continue").is_empty() {
            let token = Continue::decode(asked.parameter("continue"))
                .ok_or_else(|| Refusal::new(400, "BadRequest", "continue key is not valid"))?;
            if !matches!(wanted, "" | "0") {
                let message = "specifying resource version is not allowed when using continue";
                return Err(Refusal::new(400, "BadRequest", message));
            }
            let (mut objects, version, _) = at(token.version).map_err(|refusal: Refusal| Refusal {
                message: "The provided continue parameter is too old to display a consistent list result."
                    .to_owned(),
                ..refusal
            })?;
            objects.retain(|object| object.key() > token.after);
            return Ok((objects, version, true));
        }
        if !rule.is_empty() && wanted.is_empty() {
            let message = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(Refusal::invalid(message));
        }
        let version = number(asked, "resourceVersion")?;
        let is_exact = rule == "Exact" || (rule.is_empty() && version > 0 && number(asked, "limit")? > 0);
        if version > current {
            return Err(Refusal::too_large(version, current));
        }
        // What the cache answers comes in one piece, whatever the limit.
        if is_exact { at(version) } else { Ok((at(current)?.0, current, wanted != "0")) }
    }

    fn list(&self, asked: &Asked, form: Form) -> Result<Vec<u8>, Refusal> {
        let kind = asked.kind.unwrap();
        let bad = |message| Refusal::new(400, "BadRequest", message);
        let selector =
            Selector::parse(kind, asked.parameter("labelSelector"), asked.parameter("fieldSelector"))
                .map_err(bad)?;
        if asked.query.contains_key("sendInitialEvents") {
            let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
            return Err(Refusal::invalid(message));
        }
        let (mut objects, version, may_page) = self.listed(asked)?;
        objects.retain(|object| {
            let is_here = asked.namespace.is_empty() || object.key().0 == asked.namespace;
            is_here && selector.takes(object)
        });
        let limit = usize::try_from(number(asked, "limit")?).unwrap();
        let mut meta = json!({"resourceVersion": version.to_string()});
        if may_page && limit > 0 && objects.len() > limit {
            let token = Continue { version, after: objects[limit - 1].key() };
            meta["continue"] = json!(token.encode());
            if selector.is_empty() {
                meta["remainingItemCount"] = json!(objects.len() - limit);
            }
            objects.truncate(limit);
        }
        Ok(write_list(kind, form, &meta, version, &objects))
    }

    fn watch(
        self: &Arc<Self>,
        asked: Asked,
        form: Form,
        deed: Option<Deed>,
    ) -> Result<Response<Body>, Refusal> {
        let watch = Watch::new(self, asked, form)?;
        let (pieces, response) = streamed();
        let mut mouth = Mouth::new(pieces, deed.as_ref());
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let first = match deed {
                Some(Deed::CloseAtOnce) => return,
                Some(Deed::Say(bytes)) => bytes.to_vec(),
                _ => Vec::new(),
            };
            // Both end when the client has gone.
            if mouth.say(first).await.is_some() {
                let _ = watch.run(&shared, mouth).await;
            }
        });
        Ok(response)
    }
}

fn write_list(kind: Kind, form: Form, meta: &Value, version: u64, objects: &[Arc<Object>]) -> Vec<u8> {
    if form == Form::Table {
        let objects: Vec<_> = objects.iter().collect();
        let mut table = table::of(kind, version, &objects, true);
        table["metadata"] = meta.clone();
        return table.to_string().into_bytes();
    }
    let (name, api_version) = match form {
        Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
        _ => (kind.name(), kind.api_version()),
    };
    let head =
        format!("{{\"kind\":\"{name}List\",\"apiVersion\":\"{api_version}\",\"metadata\":{meta},\"items\":[");
    let mut body = head.into_bytes();
    for (i, object) in objects.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        match form {
            Form::Metadata => body.extend_from_slice(metadata(object).to_string().as_bytes()),
            _ => object.write_item(&mut body),
        }
    }
    body.extend_from_slice(b"]}\n");
    body
}

pub(crate) fn metadata(object: &Object) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.value["metadata"],
    })
}
