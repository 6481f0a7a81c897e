//! The HTTP client block of the configuration, put to work: TLS, credentials and headers of requests we send.
//!
//! [`Client`] is for discovery, alerts and whatever else sends a request now and then; it pools connections.
//! Scraping keeps one connection per target and takes only [`TlsSource`] and [`Headers`] from here.
//! Files of certificates are read again for each new connection, files of credentials for each request, so
//! that both can be rotated without a reload.
//!
//! Compat: prometheus/common `config`, `NewClientFromConfig`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use config::Secret;
use config::http_client::{HttpClient, SecretSource, TextSource, Tls};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// How we name ourselves: exporters tell scrapers apart by it, so it says what upstream says.
pub const USER_AGENT: &str = concat!("Prometheus/", env!("CARGO_PKG_VERSION"), " (ferula)");

/// Why a client cannot be made or a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unable to read {what} file {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("unable to use {what} file {}: {detail}", path.display())]
    Pem { what: &'static str, path: PathBuf, detail: String },
    #[error("unable to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("unable to use the configured {0}: it cannot be sent in a header")]
    Header(&'static str),
    #[error("cannot use secret ref without manager")]
    NoSecretManager,
    #[error("unable to set up the HTTP client: {0}")]
    Build(#[from] reqwest::Error),
}

/// Makes requests as one block of the configuration wants them.
pub struct Client {
    headers: Headers,
    tls: TlsSource,
    follow_redirects: bool,
    timeout: Duration,
    /// Rebuilt when the TLS files change.
    built: Mutex<Option<(Arc<ClientConfig>, reqwest::Client)>>,
}

impl Client {
    /// `timeout` bounds each request as a whole, connecting included.
    ///
    /// # Errors
    /// A file of certificates cannot be read or used, or a header cannot be sent.
    pub fn new(config: &HttpClient, timeout: Duration) -> Result<Self, Error> {
        let alpn: &[&[u8]] = if config.enable_http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let client = Self {
            headers: Headers::new(config)?,
            tls: TlsSource::new(config.tls.clone(), alpn),
            follow_redirects: config.follow_redirects,
            timeout,
            built: Mutex::default(),
        };
        client.current()?;
        Ok(client)
    }

    /// Begins a request with the configured headers and credentials.
    ///
    /// # Errors
    /// A file that the configuration names cannot be read or used now.
    pub fn request(&self, method: http::Method, url: url::Url) -> Result<reqwest::RequestBuilder, Error> {
        let mut headers = self.headers.fixed().clone();
        if let Some(value) = self.headers.authorization()? {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(self.current()?.request(method, url).headers(headers))
    }

    fn current(&self) -> Result<reqwest::Client, Error> {
        let tls = self.tls.current()?;
        let mut built = self.built.lock();
        if let Some((config, client)) = &*built
            && Arc::ptr_eq(config, &tls)
        {
            return Ok(client.clone());
        }
        // Of the headers only Authorization is dropped by the client itself when a redirect leaves the host,
        // so requests that carry secrets in other headers follow redirects within their host only.
        let redirect = match (self.follow_redirects, self.headers.fixed().is_empty()) {
            (false, _) => reqwest::redirect::Policy::none(),
            (true, true) => reqwest::redirect::Policy::limited(REDIRECTS_MAX),
            (true, false) => reqwest::redirect::Policy::custom(|attempt| {
                let same = attempt.previous().last().is_some_and(|from| from.host() == attempt.url().host());
                if attempt.previous().len() > REDIRECTS_MAX {
                    attempt.error(format!("stopped after {REDIRECTS_MAX} redirects"))
                } else if same {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .redirect(redirect)
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .pool_idle_timeout(Duration::from_mins(5))
            .user_agent(USER_AGENT)
            .no_proxy()
            .build()?;
        *built = Some((tls, client.clone()));
        Ok(client)
    }
}

/// Upstream's client gives up there.
pub const REDIRECTS_MAX: usize = 10;

/// The headers that a block of the configuration adds to each request.
pub struct Headers {
    fixed: HeaderMap,
    authorization: Option<Scheme>,
}

enum Scheme {
    Ready(HeaderValue),
    Basic { username: String, password: PathBuf },
    Token { kind: String, credentials: PathBuf },
}

impl Headers {
    /// # Errors
    /// A configured name or value cannot be sent in a header.
    pub fn new(config: &HttpClient) -> Result<Self, Error> {
        let mut fixed = HeaderMap::new();
        for (name, header) in &config.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header("header name"))?;
            for value in
                header.values.iter().map(String::as_str).chain(header.secrets.iter().map(Secret::expose))
            {
                fixed.append(name.clone(), sensitive(value, "header value")?);
            }
        }
        let authorization = match (&config.basic_auth, &config.authorization) {
            (Some(basic), _) => Some(match &basic.password {
                SecretSource::Inline(password) => {
                    Scheme::Ready(basic_value(username(basic), password.expose())?)
                }
                SecretSource::File(path) => {
                    Scheme::Basic { username: username(basic).to_owned(), password: path.clone() }
                }
                SecretSource::Ref(_) => return Err(Error::NoSecretManager),
            }),
            (None, Some(token)) => Some(match &token.credentials {
                SecretSource::Inline(secret) => Scheme::Ready(token_value(&token.kind, secret.expose())?),
                SecretSource::File(path) => {
                    Scheme::Token { kind: token.kind.clone(), credentials: path.clone() }
                }
                SecretSource::Ref(_) => return Err(Error::NoSecretManager),
            }),
            (None, None) => None,
        };
        Ok(Self { fixed, authorization })
    }

    pub fn fixed(&self) -> &HeaderMap {
        &self.fixed
    }

    /// The value of `Authorization`, its file read now.
    ///
    /// # Errors
    /// The file cannot be read or its content cannot be sent.
    pub fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        Ok(match &self.authorization {
            None => None,
            Some(Scheme::Ready(value)) => Some(value.clone()),
            Some(Scheme::Basic { username, password }) => {
                Some(basic_value(username, &read_secret("basic auth password", password)?)?)
            }
            Some(Scheme::Token { kind, credentials }) => {
                Some(token_value(kind, &read_secret("authorization credentials", credentials)?)?)
            }
        })
    }
}

/// A user name in a file is refused by the configuration.
fn username(auth: &config::http_client::BasicAuth) -> &str {
    match &auth.username {
        TextSource::Inline(name) => name,
        TextSource::File(_) | TextSource::Ref(_) => "",
    }
}

/// Reads a small file at once, trimmed; it is local and a few bytes long, so the wait is not worth a thread.
fn read_secret(what: &'static str, path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        what,
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

fn basic_value(username: &str, password: &str) -> Result<HeaderValue, Error> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    sensitive(&format!("Basic {encoded}"), "basic auth")
}

fn token_value(kind: &str, credentials: &str) -> Result<HeaderValue, Error> {
    sensitive(&format!("{kind} {credentials}"), "authorization")
}

fn sensitive(text: &str, what: &'static str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Header(what))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The TLS settings of a block, built once and again whenever one of its files changes.
pub struct TlsSource {
    tls: Tls,
    alpn: Vec<Vec<u8>>,
    /// Fingerprint of the files and what was built of them.
    built: Mutex<Option<(u64, Arc<ClientConfig>)>>,
}

impl TlsSource {
    pub fn new(tls: Tls, alpn: &[&[u8]]) -> Self {
        Self { tls, alpn: alpn.iter().map(|name| name.to_vec()).collect(), built: Mutex::default() }
    }

    /// The name to verify instead of the host's.
    pub fn server_name(&self) -> Option<&str> {
        self.tls.server_name.as_deref()
    }

    /// The settings for a new connection.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn current(&self) -> Result<Arc<ClientConfig>, Error> {
        let files = Files::read(&self.tls)?;
        let mut hasher = DefaultHasher::new();
        files.hash(&mut hasher);
        let fingerprint = hasher.finish();
        let mut built = self.built.lock();
        if let Some((known, config)) = &*built
            && *known == fingerprint
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.build(&files)?);
        *built = Some((fingerprint, Arc::clone(&config)));
        Ok(config)
    }

    fn build(&self, files: &Files) -> Result<ClientConfig, Error> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(files, provider)?);
        let mut config = match (&files.cert, &files.key) {
            (Some((cert_path, cert)), Some((key_path, key))) => {
                let chain = certificates("client certificate", cert_path, cert)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Error::Pem {
                    what: "client key",
                    path: key_path.clone(),
                    detail: error.to_string(),
                })?;
                builder.with_client_auth_cert(chain, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }

    fn verifier(
        &self,
        files: &Files,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        if self.tls.insecure_skip_verify {
            return Ok(Arc::new(Foregone { provider, verdict: Verdict::Accept }));
        }
        let (roots, pinned) = match &files.ca {
            Some((path, pem)) => {
                let pinned = certificates("CA certificate", path, pem)?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(pinned.iter().cloned());
                (Arc::new(roots), pinned)
            }
            None => (native_roots(), Vec::new()),
        };
        let name = match self.server_name() {
            Some(name) => Some(
                ServerName::try_from(name.to_owned())
                    .map_err(|_| rustls::Error::General(format!("invalid server name {name:?}")))?,
            ),
            None => None,
        };
        if roots.is_empty() && pinned.is_empty() {
            // A host without any roots may still talk to targets that need no verification.
            return Ok(Arc::new(Foregone { provider, verdict: Verdict::Refuse }));
        }
        let chain = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Arc::new(Verified { chain, pinned, name }))
    }
}

/// The PEM files of a block with their paths, as they are now.
#[derive(Hash)]
struct Files {
    ca: Option<(PathBuf, Vec<u8>)>,
    cert: Option<(PathBuf, Vec<u8>)>,
    key: Option<(PathBuf, Vec<u8>)>,
}

impl Files {
    fn read(tls: &Tls) -> Result<Self, Error> {
        let text = |what, source: &Option<TextSource>| {
            let Some(source) = source else { return Ok(None) };
            read(what, source.read(), source.path()).map(Some)
        };
        Ok(Self {
            ca: text("CA certificate", &tls.ca)?,
            cert: text("client certificate", &tls.cert)?,
            key: match &tls.key {
                Some(key) => Some(read("client key", key.read(), key.path())?),
                None => None,
            },
        })
    }
}

fn read(
    what: &'static str,
    content: std::io::Result<Vec<u8>>,
    path: Option<&Path>,
) -> Result<(PathBuf, Vec<u8>), Error> {
    let path = path.unwrap_or(Path::new("")).to_owned();
    match content {
        Ok(bytes) => Ok((path, bytes)),
        Err(source) => Err(Error::File { what, path, source }),
    }
}

fn certificates(what: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |detail: String| Error::Pem { what, path: path.to_owned(), detail };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if found.is_empty() { Err(bad("it holds no certificate".to_owned())) } else { Ok(found) }
}

/// The crypto of the whole process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The system's roots, read once: they are some hundred kilobytes parsed.
fn native_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "could not read some of the system's root certificates");
        }
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(load))
}

/// Chain and name are verified; a certificate that is in the CA file itself needs no chain.
///
/// Go accepts a self-signed CA certificate as the server's own when it is configured as root, which
/// exporters use a lot; webpki refuses it after it has checked its dates.
#[derive(Debug)]
struct Verified {
    chain: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        let by_chain = self.chain.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        match by_chain {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|pinned| pinned == end_entity) =>
            {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// One verdict on every certificate, whatever it says.
#[derive(Debug)]
struct Foregone {
    provider: Arc<CryptoProvider>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// `insecure_skip_verify`: anything goes, certificates that webpki cannot even parse among them.
    Accept,
    /// A host without roots.
    Refuse,
}

impl Foregone {
    fn verdict<T>(&self, accepted: T) -> Result<T, rustls::Error> {
        match self.verdict {
            Verdict::Accept => Ok(accepted),
            Verdict::Refuse => Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ServerCertVerifier for Foregone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verdict(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verdict(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verdict(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
