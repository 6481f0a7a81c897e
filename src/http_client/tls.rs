//! TLS of the connections we open: what is trusted, what we show of ourselves, and which versions are spoken.
//!
//! Certificates and keys are read again for each new connection, so that they can be rotated without a reload; what is
//! built of them is kept until they change.
//!
//! Compat: prometheus/common `config`, `NewTLSConfig`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use config::http_client::{TextSource, Tls, TlsVersion};
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::{Error, plain};

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
            .with_protocol_versions(versions(&self.tls)?)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(files, provider)?);
        let mut config = match (&files.cert, &files.key) {
            (Some((cert_path, cert)), Some((key_path, key))) => {
                let chain = certificates("client cert", cert_path, cert)?;
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
                let pinned = certificates("CA cert", path, pem)?;
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

/// The versions that a block allows. Ours are 1.2 and 1.3; what asks for an older one means at least 1.2.
fn versions(tls: &Tls) -> Result<&'static [&'static SupportedProtocolVersion], Error> {
    use rustls::version::{TLS12, TLS13};
    static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];
    static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    static WARNED: std::sync::Once = std::sync::Once::new();
    if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
        && max < min
    {
        return Err(Error::TlsVersions);
    }
    let is_old = |version: Option<TlsVersion>| version.is_some_and(|v| v < TlsVersion::Tls12);
    if is_old(tls.min_version) || is_old(tls.max_version) {
        WARNED.call_once(|| {
            tracing::warn!(
                "TLS 1.0 and 1.1 are not spoken: where tls_config names them, 1.2 is used instead"
            );
        });
    }
    Ok(match (tls.min_version, tls.max_version) {
        (Some(TlsVersion::Tls13), _) => &ONLY_13,
        (_, Some(TlsVersion::Tls10 | TlsVersion::Tls11 | TlsVersion::Tls12)) => &ONLY_12,
        _ => &BOTH,
    })
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
            ca: text("CA cert", &tls.ca)?,
            cert: text("client cert", &tls.cert)?,
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
    match (content, path) {
        (Ok(bytes), path) => Ok((path.unwrap_or(Path::new("")).to_owned(), bytes)),
        (Err(source), Some(path)) => Err(Error::File { what, path: path.to_owned(), source }),
        // What is inline can be read.
        (Err(_), None) => Err(Error::NoSecretManager),
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
            Err(rustls::Error::InvalidCertificate(error))
                if is_authority(&error) && self.pinned.iter().any(|pinned| pinned == end_entity) =>
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

/// Whether a certificate was refused only because it may sign others, which webpki looks at after its dates.
fn is_authority(error: &CertificateError) -> bool {
    // The library's own type of error is not ours to name.
    matches!(error, CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity"))
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

/// Whether the peer speaks none of the protocols that we offer inside of TLS.
pub(crate) fn refuses_protocols(error: &io::Error) -> bool {
    matches!(inner(error), Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|source| source.downcast_ref())
}

/// What a connection failed with, in the words that upstream's users know.
///
/// Compat: Go `crypto/tls` and `crypto/x509`.
pub(crate) fn explain(error: &io::Error) -> String {
    match inner(error) {
        Some(error) => explain_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => plain(error),
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let of_certificate = |what: &str| format!("tls: failed to verify certificate: x509: {what}");
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            of_certificate("certificate signed by unknown authority")
        }
        InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => of_certificate("certificate has expired or is not yet valid"),
        InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: expected_name,
            presented,
        }) => {
            let expected = expected_name.to_str();
            // Names come with their kind around them: `DnsName("a.test")`, `IpAddress(127.0.0.1)`.
            let bare = |name: &String| {
                let inner =
                    name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let names: Vec<String> = presented.iter().map(bare).collect();
            let is_address = matches!(expected_name, ServerName::IpAddress(_));
            of_certificate(&if is_address && !presented.iter().any(|name| name.starts_with("IpAddress(")) {
                format!("cannot validate certificate for {expected} because it doesn't contain any IP SANs")
            } else if names.is_empty() {
                format!("certificate is not valid for any names, but wanted to match {expected}")
            } else {
                format!("certificate is valid for {}, not {expected}", names.join(", "))
            })
        }
        InvalidCertificate(error) if is_authority(error) => of_certificate(
            "certificate signed by unknown authority: that of an authority itself must be among those in ca_file",
        ),
        InvalidCertificate(other) => format!("tls: failed to verify certificate: {other}"),
        AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        other => format!("tls: {other}"),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let known = match alert {
        A::AccessDenied => "access denied",
        A::BadCertificate => "bad certificate",
        A::CertificateExpired => "expired certificate",
        A::CertificateRequired => "certificate required",
        A::CertificateRevoked => "revoked certificate",
        A::CertificateUnknown => "unknown certificate",
        A::DecryptError => "error decrypting message",
        A::HandshakeFailure => "handshake failure",
        A::IllegalParameter => "illegal parameter",
        A::InsufficientSecurity => "insufficient security level",
        A::InternalError => "internal error",
        A::NoApplicationProtocol => "no application protocol",
        A::ProtocolVersion => "protocol version not supported",
        A::UnknownCA => "unknown certificate authority",
        A::UnrecognisedName => "unrecognized name",
        A::UnsupportedCertificate => "unsupported certificate",
        other => return format!("{other:?}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests;
