//! How the API server of a section is reached: from inside the cluster, as a kubeconfig says, or by its URL.
//!
//! Configuration, credentials (tokens that are renewed, exec plugins, client certificates) and the client
//! itself are kube's. With `api_server` the client block of the section does the work, below kube's client.
//! Connections speak HTTP/1.1 on purpose, one per watch: clients of HTTP/2 here never open a second
//! connection to a host, and a server lets no more than a hundred streams into one, so that further watches
//! would wait for ever.
//!
//! Errors say nothing of what is in kubeconfigs or in answers of exec plugins, since that may be secret.
//!
//! Compat: prometheus `discovery/kubernetes/kubernetes.go`, `New`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::http_client::HttpClient;
use config::prometheus::KubernetesDiscovery;
use http::{Request, Response, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioExecutor;
use kube::client::{AuthError, Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tower::{BoxError, Layer, Service, ServiceExt};

use super::super::Error;
use crate::http_client::USER_AGENT;

/// What tells clusters, and users of one cluster, apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reach {
    InCluster(Surroundings),
    Kubeconfig(PathBuf),
    Url { url: String, http: Box<HttpClient> },
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// No request lasts longer: watches end themselves after ten minutes, and stalled answers are given up by
/// their readers.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(30);

/// What a pod is told of the cluster around it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Surroundings {
    pub(super) host: String,
    pub(super) port: String,
    /// Holds the files of the pod's account.
    pub(super) folder: PathBuf,
}

impl Reach {
    /// # Errors
    /// There is no cluster around us, or what the section names cannot be read or used.
    pub(super) fn new(section: &KubernetesDiscovery, around: &Surroundings) -> Result<Self, Error> {
        match (&section.kubeconfig_file, &section.api_server) {
            (Some(path), _) => {
                read_kubeconfig(path)?;
                Ok(Self::Kubeconfig(path.clone()))
            }
            (None, Some(url)) => {
                parse_url(url)?;
                let http = Box::new(HttpClient { enable_http2: false, ..section.http.clone() });
                crate::http_client::Client::new(&http, CONNECT_TIMEOUT)
                    .map_err(|error| Error(error.to_string()))?;
                Ok(Self::Url { url: url.clone(), http })
            }
            (None, None) => {
                around.config()?;
                Ok(Self::InCluster(around.clone()))
            }
        }
    }

    /// Makes a client; files are read and plugins are run now.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        match self {
            Self::InCluster(around) => by_config(around.config()?).await,
            Self::Kubeconfig(path) => {
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(read_kubeconfig(path)?, &options).await;
                by_config(config.map_err(|error| bad_kubeconfig(path, &error))?).await
            }
            Self::Url { url, http } => by_url(url, http),
        }
    }

    /// How logs and errors name it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::InCluster(_) => "the cluster around us".to_owned(),
            Self::Kubeconfig(path) => path.display().to_string(),
            Self::Url { url, .. } => match parse_url(url) {
                Ok(url) => url.host_str().unwrap_or_default().to_owned(),
                Err(_) => String::new(),
            },
        }
    }
}

impl Surroundings {
    pub(super) fn of_process() -> Self {
        let text = |name| std::env::var(name).unwrap_or_default();
        Self {
            host: text("KUBERNETES_SERVICE_HOST"),
            port: text("KUBERNETES_SERVICE_PORT"),
            folder: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }

    /// The namespace that we run in.
    ///
    /// # Errors
    /// We do not run in a cluster.
    pub(super) fn namespace(&self) -> Result<String, Error> {
        let name = std::fs::read_to_string(self.folder.join("namespace"))
            .map_err(|error| Error(format!("could not determine the pod's namespace: {error}")))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(Error("could not read own namespace name (empty file)".to_owned()));
        }
        Ok(name.to_owned())
    }

    /// As kube finds it, but for folders of one's own.
    fn config(&self) -> Result<Config, Error> {
        if self.host.is_empty() || self.port.is_empty() {
            return Err(Error(
                "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and \
                 KUBERNETES_SERVICE_PORT must be defined"
                    .to_owned(),
            ));
        }
        let bad =
            |what: &dyn std::fmt::Display| Error(format!("unable to load in-cluster configuration: {what}"));
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let url = format!("https://{host}:{}", self.port);
        let url: http::Uri = url.parse().map_err(|error| bad(&format!("{url}: {error}")))?;
        let path = self.folder.join("ca.crt");
        let unreadable = |error: &dyn std::fmt::Display| bad(&format!("{}: {error}", path.display()));
        let text = std::fs::read(&path).map_err(|error| unreadable(&error))?;
        let certificates = CertificateDer::pem_slice_iter(&text).map(|found| found.map(|der| der.to_vec()));
        let certificates: Vec<Vec<u8>> =
            certificates.collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        if certificates.is_empty() {
            return Err(unreadable(&"it holds no certificate"));
        }
        let mut config = Config::new(url);
        config.root_cert = Some(certificates);
        config.root_cert_file = Some(path);
        config.auth_info.token_file = Some(self.folder.join("token").to_string_lossy().into_owned());
        Ok(config)
    }
}

fn read_kubeconfig(path: &Path) -> Result<Kubeconfig, Error> {
    Kubeconfig::read_from(path).map_err(|error| bad_kubeconfig(path, &error))
}

fn bad_kubeconfig(path: &Path, error: &KubeconfigError) -> Error {
    let path = path.display();
    Error(match error {
        KubeconfigError::ReadConfig(error, _) => format!("could not read kubeconfig {path}: {error}"),
        // The parser's own words may show lines of the file.
        KubeconfigError::Parse(error) => match error.location() {
            Some(at) => format!("could not parse kubeconfig {path}: bad YAML at line {}", at.line()),
            None => format!("could not parse kubeconfig {path}: it is no kubeconfig"),
        },
        error => format!("could not use kubeconfig {path}: {error}"),
    })
}

/// What went wrong, without what a plugin printed.
pub(super) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(error) => describe_auth(error),
        kube::Error::Service(error) => match error.downcast_ref::<AuthError>() {
            Some(error) => describe_auth(error),
            None => chain(&**error),
        },
        error => chain(error),
    }
}

fn describe_auth(error: &AuthError) -> String {
    match error {
        // The command stands with its arguments and its environment.
        AuthError::AuthExecRun { out, .. } => format!("auth exec command failed: {}", out.status),
        AuthError::AuthExecParse(_) => "auth exec command printed no credentials".to_owned(),
        AuthError::ParseTokenKey(_) => "auth provider printed no token".to_owned(),
        error => error.to_string(),
    }
}

/// An error with its causes, each said once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<crate::http_client::Error>() {
        return error.without_url();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let deeper = error.to_string();
        if !text.contains(&deeper) {
            text.push_str(": ");
            text.push_str(&deeper);
        }
        cause = error.source();
    }
    text
}

/// Plugins run when layers are made, so this happens on a thread that may wait.
async fn by_config(mut config: Config) -> Result<Client, Error> {
    let token = config.auth_info.token_file.take().map(TokenFile::open).transpose()?;
    let built = tokio::task::spawn_blocking(move || {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let scheme = config.proxy_url.as_ref().and_then(|url| url.scheme_str());
        match (scheme, config.proxy_url.clone()) {
            (Some("socks5" | "socks5h"), Some(url)) => over(SocksV5::new(url, connector), &config, token),
            (Some("http"), Some(url)) => over(Tunnel::new(url, connector), &config, token),
            (Some("https"), Some(url)) => {
                let secure = config.rustls_https_connector_with_connector(connector)?;
                over(Tunnel::new(url, secure), &config, token)
            }
            _ => over(connector, &config, token),
        }
    });
    match built.await {
        Ok(client) => client.map_err(|error| Error(describe(&error))),
        Err(_) => Err(Error("making a client panicked".to_owned())),
    }
}

/// Builds kube's client as kube does, without the layer that logs each failure before we do.
fn over<C>(connector: C, config: &Config, token: Option<TokenFile>) -> Result<Client, kube::Error>
where
    C: Service<http::Uri> + Clone + Send + Sync + 'static,
    C::Response: legacy::connect::Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = config.extra_headers_layer()?.layer(http.map_request(named).map_err(BoxError::from));
    let namespace = config.default_namespace.clone();
    let base = config.base_uri_layer();
    Ok(match (token, config.auth_layer()?) {
        (Some(token), _) => {
            let service = service.map_request(move |request| token.sign(request));
            ClientBuilder::new(base.layer(service), namespace).build()
        }
        (None, Some(auth)) => ClientBuilder::new(base.layer(auth.layer(service)), namespace).build(),
        (None, None) => ClientBuilder::new(base.layer(service), namespace).build(),
    })
}

/// A token that others renew, as the one of the pod that we are. kube would take the end of its line along.
struct TokenFile {
    path: PathBuf,
    last: header::HeaderValue,
}

impl TokenFile {
    fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let last = Self::read(&path)?;
        Ok(Self { path, last })
    }

    fn read(path: &Path) -> Result<header::HeaderValue, Error> {
        let failed =
            |what: String| Error(format!("could not read the token file {}: {what}", path.display()));
        let token = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let value = header::HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| failed("it holds no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Adds the token as it is now or, if the file is gone, as it was: some remove it once it was read.
    fn sign(&self, mut request: Request<Body>) -> Request<Body> {
        let token = Self::read(&self.path).unwrap_or_else(|_| self.last.clone());
        request.headers_mut().insert(header::AUTHORIZATION, token);
        request
    }
}

/// Adds our name to a request.
fn named(mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    request
}

fn parse_url(url: &str) -> Result<url::Url, Error> {
    url::Url::parse(url).map_err(|error| Error(format!("the URL of the API server is invalid: {error}")))
}

fn by_url(url: &str, http: &HttpClient) -> Result<Client, Error> {
    let base = parse_url(url)?;
    let http = crate::http_client::Client::new(http, CONNECT_TIMEOUT);
    let http = Arc::new(http.map_err(|error| Error(error.to_string()))?);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (http, mut url) = (Arc::clone(&http), base.clone());
        async move {
            url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), request.uri().path()));
            url.set_query(request.uri().query());
            let answer = http
                .request(request.method().clone(), url)?
                .headers(request.headers().clone())
                .timeout(Some(REQUEST_TIMEOUT))
                .send()
                .await?;
            Ok::<_, BoxError>(Response::<reqwest::Body>::from(answer))
        }
    });
    Ok(Client::new(service, "default"))
}
