//! TLS of the server: what is spoken, and with which certificate, as the files say when a connection begins.
//!
//! rustls speaks TLS 1.2 and 1.3 with modern cipher suites only. What a file asks for beside these is left out and said in a
//! warning; if nothing is left, the file is refused.
//!
//! Compat: prometheus/exporter-toolkit `ConfigToTLSConfig`; Go `crypto/tls` and `net/http`.

use std::io;
use std::sync::Arc;

use config::http_client::TlsVersion;
use config::web::{ClientAuth, Contents, ServerTls, Settings, Source};
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, InvalidMessage, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::{clients, pair};

/// The names that files give to what we speak in version 1.2.
const SUITES: [(&str, SupportedCipherSuite); 6] = {
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    [
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ]
};

/// The names that files give to what we exchange keys by.
static GROUPS: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", aws_lc_rs::kx_group::X25519),
    ("CurveP256", aws_lc_rs::kx_group::SECP256R1),
    ("CurveP384", aws_lc_rs::kx_group::SECP384R1),
];

/// One of these must be in a list of suites, or HTTP/2 cannot be.
const HTTP2_SUITES: [&str; 2] =
    ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];

/// TLS as a file says.
pub(crate) struct Tls {
    source: Arc<Source>,
    http2: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the files that `settings` names.
    contents: Contents,
    settings: Option<Arc<Settings>>,
    built: Option<(ServerTls, Arc<ServerConfig>)>,
}

impl Tls {
    pub(super) fn new(source: Arc<Source>, http2: bool) -> Self {
        Self { source, http2, state: Mutex::default() }
    }

    /// What is spoken on a connection that begins now.
    ///
    /// # Errors
    /// The file, or one that it names, is missing or refused at the moment.
    pub(crate) fn current(&self) -> Result<Arc<ServerConfig>, String> {
        let settings = self.source.current().map_err(|e| e.to_string())?;
        let mut state = self.state.lock();
        let State { contents, settings: last, built } = &mut *state;
        if !last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &settings)) {
            contents.clear();
            *last = Some(Arc::clone(&settings));
        }
        // What served together before is not tried again.
        let known = built.as_ref().map(|(tls, _)| (tls.cert.clone(), tls.key.clone()));
        let is_known = |cert: &[u8], key: &[u8]| {
            known.as_ref().is_some_and(|(known, known_key)| *known.0 == *cert && *known_key.0 == *key)
        };
        let tls = settings.tls(&mut |path| contents.read(path), &|cert, key| {
            if is_known(cert, key) { Ok(()) } else { pair::check(cert, key) }
        })?;
        let tls = tls.ok_or("TLS config is not present")?;
        if let Some((known, config)) = built
            && *known == tls
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(build(&tls, self.http2)?);
        *built = Some((tls, Arc::clone(&config)));
        Ok(config)
    }
}

/// Whether HTTP/2, which demands some suites, can be offered with those of the file.
///
/// # Errors
/// It cannot.
///
/// Compat: golang.org/x/net `http2.ConfigureServer`.
pub(super) fn check_http2(tls: &ServerTls) -> Result<(), String> {
    let has = |name: &&str| tls.cipher_suites.iter().any(|suite| suite == *name);
    if tls.cipher_suites.is_empty() || tls.min_version == TlsVersion::Tls13 || HTTP2_SUITES.iter().any(has) {
        return Ok(());
    }
    Err("http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of \
         TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)"
        .to_owned())
}

/// Says what of a file's wishes we cannot do.
///
/// # Errors
/// Nothing would be left.
pub(super) fn judge(tls: &ServerTls) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    if tls.max_version < tls.min_version {
        return Err("tls: no supported versions satisfy MinVersion and MaxVersion".to_owned());
    }
    if tls.min_version < TlsVersion::Tls12 || tls.max_version < TlsVersion::Tls12 {
        warnings.push(
            "TLS 1.0 and 1.1 are not spoken: where tls_server_config names them, 1.2 is used instead"
                .to_owned(),
        );
    }
    let known = |name: &str| {
        name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_") || {
            SUITES.iter().any(|(known, _)| *known == name)
        }
    };
    let unknown: Vec<&str> =
        tls.cipher_suites.iter().map(String::as_str).filter(|name| !known(name)).collect();
    let suites = suites(tls);
    if !versions(tls).contains(&&TLS13) && !suites.iter().any(|suite| suite.tls13().is_none()) {
        return Err(format!(
            "none of the cipher_suites is supported in TLS 1.2: [{}]",
            tls.cipher_suites.join(" ")
        ));
    }
    if !unknown.is_empty() {
        warnings.push(format!("cipher_suites that are not supported and left out: [{}]", unknown.join(" ")));
    }
    let (known, unknown): (Vec<&str>, Vec<&str>) = tls
        .curve_preferences
        .iter()
        .map(String::as_str)
        .partition(|name| GROUPS.iter().any(|(known, _)| known == name));
    if !unknown.is_empty() {
        let unknown = unknown.join(" ");
        if known.is_empty() {
            return Err(format!("none of the curve_preferences is supported: [{unknown}]"));
        }
        warnings.push(format!("curve_preferences that are not supported and left out: [{unknown}]"));
    }
    if tls.client_allowed_sans.is_some() && tls.client_auth == ClientAuth::None {
        warnings.push("client_allowed_sans has no effect without a client_auth_type".to_owned());
    }
    Ok(warnings)
}

/// What is spoken, for connections that begin.
///
/// # Errors
/// Certificate and key do not serve, or the authority of the clients does not.
pub(super) fn build(tls: &ServerTls, http2: bool) -> Result<ServerConfig, String> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: suites(tls),
        kx_groups: groups(tls),
        ..aws_lc_rs::default_provider()
    });
    let versions = versions(tls);
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions);
    let builder = builder.map_err(|e| e.to_string())?;
    let builder = match clients::verifier(tls, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let pair = pair::load(&tls.cert.0, &tls.key.0)?;
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.ignore_client_order = tls.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

fn versions(tls: &ServerTls) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if tls.max_version >= TlsVersion::Tls13 {
        versions.push(&TLS13);
    }
    let has_12 = |suites: &[SupportedCipherSuite]| suites.iter().any(|suite| suite.tls13().is_none());
    if tls.min_version <= TlsVersion::Tls12 && (versions.is_empty() || has_12(&suites(tls))) {
        versions.push(&TLS12);
    }
    versions
}

/// A list counts for version 1.2 alone.
fn suites(tls: &ServerTls) -> Vec<SupportedCipherSuite> {
    let is_wanted = |suite: &SupportedCipherSuite| {
        let name = SUITES.iter().find(|(_, known)| known.suite() == suite.suite()).map(|(name, _)| *name);
        tls.cipher_suites.is_empty()
            || name.is_none_or(|name| tls.cipher_suites.iter().any(|wanted| wanted == name))
    };
    aws_lc_rs::default_provider().cipher_suites.into_iter().filter(is_wanted).collect()
}

fn groups(tls: &ServerTls) -> Vec<&'static dyn SupportedKxGroup> {
    if tls.curve_preferences.is_empty() {
        return aws_lc_rs::default_provider().kx_groups;
    }
    let is_wanted = |name: &str| tls.curve_preferences.iter().any(|wanted| wanted == name);
    GROUPS.iter().filter(|(name, _)| is_wanted(name)).map(|(_, group)| *group).collect()
}

/// Why a handshake failed, in the words that upstream's users know where there are such.
pub(crate) fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    let of_certificate = |what: &str| format!("tls: failed to verify certificate: x509: {what}");
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => "tls: client didn't provide a certificate".to_owned(),
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            of_certificate("certificate signed by unknown authority")
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => of_certificate("certificate has expired or is not yet valid"),
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => other.to_string(),
        Some(rustls::Error::AlertReceived(alert)) => format!("remote error: tls: {alert:?}"),
        Some(other) => format!("tls: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use config::web::Pem;

    use super::*;

    fn wishes() -> ServerTls {
        let pem = || Pem(Arc::from(&b""[..]));
        ServerTls {
            cert: pem(),
            key: pem(),
            client_ca: None,
            client_auth: ClientAuth::None,
            client_allowed_sans: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            prefer_server_cipher_suites: true,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_we_cannot_do_is_said() {
        assert_eq!(judge(&wishes()).unwrap(), Vec::<String>::new());
        let tls = ServerTls {
            min_version: TlsVersion::Tls10,
            cipher_suites: names(&[
                "TLS_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
                SUITES[0].0,
            ]),
            curve_preferences: names(&["CurveP521", "X25519"]),
            client_allowed_sans: Some(Vec::new()),
            ..wishes()
        };
        let warnings = judge(&tls).unwrap();
        assert_eq!(warnings.len(), 4);
        assert_eq!(
            warnings[1],
            "cipher_suites that are not supported and left out: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]"
        );
        assert_eq!(warnings[2], "curve_preferences that are not supported and left out: [CurveP521]");
        assert_eq!(versions(&tls), [&TLS13, &TLS12]);
        assert_eq!(suites(&tls).len(), 4);
        assert_eq!(groups(&tls).len(), 1);
    }

    #[test]
    fn a_list_of_suites_counts_for_one_version() {
        let cbc = names(&["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"]);
        let tls = ServerTls { cipher_suites: cbc, ..wishes() };
        assert_eq!(judge(&tls).unwrap().len(), 1);
        assert_eq!(versions(&tls), [&TLS13]);
        let only_12 = ServerTls { max_version: TlsVersion::Tls12, ..tls.clone() };
        judge(&only_12).unwrap_err();
        let old = ServerTls { max_version: TlsVersion::Tls11, min_version: TlsVersion::Tls10, ..wishes() };
        assert_eq!(versions(&old), [&TLS12]);
        let new = ServerTls { min_version: TlsVersion::Tls13, ..tls.clone() };
        assert_eq!(versions(&new), [&TLS13]);
        check_http2(&tls).unwrap_err();
        check_http2(&new).unwrap();
        check_http2(&wishes()).unwrap();
        check_http2(&ServerTls { cipher_suites: names(&[HTTP2_SUITES[0]]), ..wishes() }).unwrap();
    }

    #[test]
    fn every_suite_has_its_name() {
        let all = aws_lc_rs::default_provider().cipher_suites;
        for suite in all.iter().filter(|suite| suite.tls13().is_none()) {
            let name = SUITES.iter().find(|(_, known)| known.suite() == suite.suite()).map(|(name, _)| *name);
            assert_eq!(name, suite.suite().as_str());
        }
    }
}
