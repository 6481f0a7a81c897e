//! `--web.config.file`: TLS, users, headers and the rate limit of the server itself.
//!
//! Judges the file; what serves by it is elsewhere. Whether a certificate belongs to its key is asked of the caller,
//! because this crate knows no cryptography.
//!
//! Compat: prometheus/exporter-toolkit `web`, `Validate`.

mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::quote::go_quote;

pub use source::{Contents, Source};

use crate::http_client::TlsVersion;
use crate::yaml::decode::Dialect;
use crate::yaml::scalar::{self, Value};
use crate::yaml::tree::{Kind, Pos};
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, tree};
use crate::{Error, Problem, Secret, paths};

/// What a file says, as far as it can be known without the files that it names.
#[derive(Clone, Debug)]
pub struct Settings {
    /// With TLS only.
    pub http2: bool,
    /// Sent with every answer.
    pub headers: BTreeMap<String, String>,
    /// Over all clients together.
    pub rate_limit: Option<RateLimit>,
    /// The bcrypt hash of each user's password; none for no authentication.
    pub users: BTreeMap<String, Secret>,
    tls: RawTls,
    /// What relative paths are relative to.
    base: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// In which one request is allowed.
    pub interval: Duration,
    pub burst: i64,
}

/// With the contents of all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub cert: Pem,
    pub key: Pem,
    pub client_ca: Option<Pem>,
    pub client_auth: ClientAuth,
    /// One of them must be a name of the client's certificate; `None` for any.
    pub client_allowed_sans: Option<Vec<String>>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// By their names in Go, for versions up to 1.2; empty for the library's own choice.
    pub cipher_suites: Vec<String>,
    /// By their names in Go; empty for the library's own choice.
    pub curve_preferences: Vec<String>,
    pub prefer_server_cipher_suites: bool,
}

/// What a PEM file holds. May be a key, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(pub Arc<[u8]>);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<pem>")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

/// Go's, without those it calls insecure.
const CIPHER_SUITES: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

const CURVES: [&str; 4] = ["CurveP256", "CurveP384", "CurveP521", "X25519"];

/// The headers that may be set, each with the values it may have; none for any.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Says why a certificate and a key, both PEM, do not serve together.
pub type PairCheck<'a> = &'a dyn Fn(&[u8], &[u8]) -> Result<(), String>;

/// Reads a file.
pub type Reader<'a> = &'a mut dyn FnMut(&Path) -> io::Result<Arc<[u8]>>;

/// Reads a file and those it names, and judges all of it: what serves by it may start.
///
/// # Errors
/// The file or one it names cannot be read, or is refused.
pub fn load(path: &Path, check_pair: PairCheck<'_>) -> Result<(Settings, Option<ServerTls>), Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
    let settings = Settings::parse(path, &bytes)?;
    let refuse = |message| Error::of_file(path, message);
    settings.check_users().map_err(refuse)?;
    let tls = settings.tls(&mut |path| std::fs::read(path).map(Arc::from), check_pair).map_err(refuse)?;
    Ok((settings, tls))
}

impl Settings {
    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// It is no valid YAML, has unknown keys or values that are not allowed.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let base = path.parent().unwrap_or(Path::new(""));
        // What is no UTF-8 is no YAML, and the parser says so.
        let settings = Self::decode(&String::from_utf8_lossy(bytes), base);
        settings.map_err(|issue| Error::plain(path, Problem::from(issue)))
    }

    fn decode(text: &str, base: &Path) -> Result<Self, Issue> {
        let mut decoder = Decoder::new(Dialect::V2);
        let mut raw = Raw { http2: true, ..Raw::default() };
        if let Some(root) = tree::parse(text)?.root {
            raw.decode(&mut decoder, &root)?;
        }
        decoder.finish()?;
        check_headers(&raw.headers).map_err(|text| Issue::new(Pos::default(), text))?;
        // A limit of a negative time limits nothing.
        let interval = u64::try_from(raw.interval_ns).ok().filter(|ns| *ns > 0).map(Duration::from_nanos);
        Ok(Self {
            http2: raw.http2,
            headers: raw.headers,
            rate_limit: interval.map(|interval| RateLimit { interval, burst: raw.burst }),
            users: raw.users,
            tls: raw.tls,
            base: base.to_owned(),
        })
    }

    /// Whether what stands for passwords are bcrypt hashes.
    ///
    /// # Errors
    /// One is not; the text does not show it.
    pub fn check_users(&self) -> Result<(), String> {
        self.users.values().try_for_each(|hash| check_hash(hash.expose()))
    }

    /// What is needed to speak TLS; `None` for plain HTTP. Judged in upstream's order, which decides what a user sees
    /// of several mistakes. Files go before texts.
    ///
    /// # Errors
    /// Something is missing, a file cannot be read, or certificate and key do not serve together.
    pub fn tls(&self, read: Reader<'_>, check_pair: PairCheck<'_>) -> Result<Option<ServerTls>, String> {
        let raw = &self.tls;
        let (has_cert, has_key, has_ca) = (
            !(raw.cert.is_empty() && raw.cert_file.is_empty()),
            !(raw.key.expose().is_empty() && raw.key_file.is_empty()),
            !(raw.client_ca.is_empty() && raw.client_ca_file.is_empty()),
        );
        if !has_cert && !has_key && !has_ca && raw.client_auth.is_empty() {
            return Ok(None);
        }
        if !has_cert {
            return Err("missing one of cert or cert_file".to_owned());
        }
        if !has_key {
            return Err("missing one of key or key_file".to_owned());
        }
        let mut pem = |file: &str, text: &str| match paths::join_path(&self.base, file) {
            Some(path) => read(&path).map(Pem).map_err(|e| (path.clone(), Error::io(&path, &e))),
            None => Ok(Pem(text.as_bytes().into())),
        };
        let unread = |what: &str, (path, e): (PathBuf, Error)| {
            format!("failed to read {what} ({}): {e}", path.display())
        };
        let cert = pem(&raw.cert_file, &raw.cert).map_err(|e| unread("cert_file", e))?;
        let key = pem(&raw.key_file, raw.key.expose()).map_err(|e| unread("key_file", e))?;
        check_pair(&cert.0, &key.0).map_err(|e| format!("failed to load X509KeyPair: {e}"))?;
        let client_ca = if has_ca {
            Some(pem(&raw.client_ca_file, &raw.client_ca).map_err(|(_, e)| e.to_string())?)
        } else {
            None
        };
        let client_auth = match raw.client_auth.as_str() {
            "" | "NoClientCert" => ClientAuth::None,
            "RequestClientCert" => ClientAuth::Request,
            "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
            "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
            "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
            other => return Err(format!("invalid ClientAuth: {other}")),
        };
        if client_ca.is_some() && client_auth == ClientAuth::None {
            return Err("client CA's have been configured without a Client Auth Policy".to_owned());
        }
        Ok(Some(ServerTls {
            cert,
            key,
            client_ca,
            client_auth,
            client_allowed_sans: raw.client_allowed_sans.clone(),
            min_version: raw.min_version,
            max_version: raw.max_version,
            cipher_suites: raw.cipher_suites.clone(),
            curve_preferences: raw.curve_preferences.clone(),
            prefer_server_cipher_suites: raw.prefer_server_cipher_suites,
        }))
    }
}

#[derive(Default)]
struct Raw {
    tls: RawTls,
    http2: bool,
    headers: BTreeMap<String, String>,
    burst: i64,
    interval_ns: i64,
    users: BTreeMap<String, Secret>,
}

#[derive(Clone, Debug)]
struct RawTls {
    cert: String,
    cert_file: String,
    key: Secret,
    key_file: String,
    client_ca: String,
    client_ca_file: String,
    client_auth: String,
    client_allowed_sans: Option<Vec<String>>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: TlsVersion,
    max_version: TlsVersion,
    prefer_server_cipher_suites: bool,
}

impl Default for RawTls {
    fn default() -> Self {
        Self {
            cert: String::new(),
            cert_file: String::new(),
            key: Secret::default(),
            key_file: String::new(),
            client_ca: String::new(),
            client_ca_file: String::new(),
            client_auth: String::new(),
            client_allowed_sans: None,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            prefer_server_cipher_suites: true,
        }
    }
}

impl Raw {
    fn decode(&mut self, decoder: &mut Decoder, root: &Node) -> Result<(), Issue> {
        decoder.fields(root, "web.Config", &mut |decoder, key, value| {
            match key {
                "tls_server_config" => self.tls.decode(decoder, value)?,
                "http_server_config" => {
                    decoder.fields(value, "web.HTTPConfig", &mut |decoder, key, value| {
                        match key {
                            "http2" => decoder.set(value, &mut self.http2)?,
                            "headers" => decoder.set(value, &mut self.headers)?,
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                }
                "rate_limit" => {
                    decoder.fields(value, "web.RateLimiterConfig", &mut |decoder, key, value| {
                        match key {
                            "burst" => decoder.set(value, &mut self.burst)?,
                            "interval" => {
                                self.interval_ns = decode_interval(decoder, value)?.unwrap_or_default();
                            }
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                }
                "basic_auth_users" => {
                    if let Kind::List(_) | Kind::Scalar(_) = value.kind
                        && !value.is_null()
                    {
                        decoder.mismatch::<()>(value, "map[string]config.Secret")?;
                    } else {
                        let mut users: BTreeMap<String, String> = BTreeMap::new();
                        decoder.set(value, &mut users)?;
                        self.users =
                            users.into_iter().map(|(name, hash)| (name, Secret::new(hash))).collect();
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }
}

impl RawTls {
    fn decode(&mut self, decoder: &mut Decoder, node: &Node) -> Result<(), Issue> {
        decoder.fields(node, "web.TLSConfig", &mut |decoder, key, value| {
            match key {
                "cert" => decoder.set(value, &mut self.cert)?,
                "cert_file" => decoder.set(value, &mut self.cert_file)?,
                "key" => decoder.set(value, &mut self.key)?,
                "key_file" => decoder.set(value, &mut self.key_file)?,
                "client_ca" => decoder.set(value, &mut self.client_ca)?,
                "client_ca_file" => decoder.set(value, &mut self.client_ca_file)?,
                "client_auth_type" => decoder.set(value, &mut self.client_auth)?,
                "client_allowed_sans" => self.client_allowed_sans = decode_sans(decoder, value)?,
                "cipher_suites" => {
                    decode_names(
                        decoder,
                        value,
                        "[]web.Cipher",
                        "cipher",
                        &CIPHER_SUITES,
                        &mut self.cipher_suites,
                    )?;
                }
                "curve_preferences" => {
                    decode_names(
                        decoder,
                        value,
                        "[]web.Curve",
                        "curve",
                        &CURVES,
                        &mut self.curve_preferences,
                    )?;
                }
                "min_version" => decode_version(decoder, value, &mut self.min_version)?,
                "max_version" => decode_version(decoder, value, &mut self.max_version)?,
                "prefer_server_cipher_suites" => {
                    decoder.set(value, &mut self.prefer_server_cipher_suites)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }
}

fn decode_sans(decoder: &mut Decoder, node: &Node) -> Decoded<Vec<String>> {
    if node.is_null() { Ok(None) } else { Vec::decode(decoder, node) }
}

fn decode_names(
    decoder: &mut Decoder,
    node: &Node,
    go_type: &str,
    what: &str,
    known: &[&str],
    out: &mut Vec<String>,
) -> Result<(), Issue> {
    out.clear();
    decoder.items(node, go_type, &mut |decoder, item| {
        let Some(name) = String::decode(decoder, item)? else { return Ok(()) };
        if !item.is_null() && !known.contains(&name.as_str()) {
            return Err(Issue::new(item.pos, format!("unknown {what}: {name}")));
        }
        out.push(name);
        Ok(())
    })?;
    Ok(())
}

fn decode_version(decoder: &mut Decoder, node: &Node, out: &mut TlsVersion) -> Result<(), Issue> {
    if node.is_null() {
        return Ok(());
    }
    let Some(name) = String::decode(decoder, node)? else { return Ok(()) };
    *out = match name.as_str() {
        "TLS10" => TlsVersion::Tls10,
        "TLS11" => TlsVersion::Tls11,
        "TLS12" => TlsVersion::Tls12,
        "TLS13" => TlsVersion::Tls13,
        _ => return Err(Issue::new(node.pos, format!("unknown TLS version: {name}"))),
    };
    Ok(())
}

/// Nanoseconds, written as a number or as a span in Go's way.
fn decode_interval(decoder: &mut Decoder, node: &Node) -> Decoded<i64> {
    let scalar = node.scalar();
    match (scalar.map(scalar::resolve), scalar) {
        (Some(Value::Text), Some(scalar)) => match parse_span(&scalar.text) {
            Some(ns) => Ok(Some(ns)),
            None => decoder.mismatch(node, "time.Duration"),
        },
        _ => decoder.int_as(node, "time.Duration"),
    }
}

/// `1h2m3.5s`, in nanoseconds.
///
/// Compat: Go `time.ParseDuration`.
fn parse_span(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("μs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let ns = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total += number.parse::<f64>().ok()? * ns;
        rest = tail;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is checked to be far below the largest")]
    (!text.is_empty() && total < 9.2e18).then_some((sign * total) as i64)
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in headers {
        let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| known == name) else {
            return Err(format!("HTTP header {} can not be configured", go_quote(name.as_bytes())));
        };
        if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
            let allowed: Vec<String> = allowed.iter().map(|text| go_quote(text.as_bytes())).collect();
            return Err(format!(
                "invalid value for {name}. Expected one of: [{}], but got: {}",
                allowed.join(" "),
                go_quote(value.as_bytes())
            ));
        }
    }
    Ok(())
}

/// Whether `hash` begins as a bcrypt hash does; its cost is part of that.
///
/// Compat: golang.org/x/crypto `bcrypt.Cost`.
fn check_hash(hash: &str) -> Result<(), String> {
    const BYTES_MIN: usize = 59;
    let fail = |text: String| Err(format!("crypto/bcrypt: {text}"));
    let bytes = hash.as_bytes();
    let &[first, major, minor, ..] = bytes else {
        return fail("hashedSecret too short to be a bcrypted password".to_owned());
    };
    if bytes.len() < BYTES_MIN {
        return fail("hashedSecret too short to be a bcrypted password".to_owned());
    }
    if first != b'$' {
        // Which character it is would be a part of what may be a password.
        return fail("bcrypt hashes must start with '$'".to_owned());
    }
    if major > b'2' {
        let major = char::from(major);
        return fail(format!(
            "bcrypt algorithm version '{major}' requested is newer than current version '2'"
        ));
    }
    let at = if minor == b'$' { 3 } else { 4 };
    let cost = hash.get(at..at + 2).unwrap_or_default();
    match cost.parse::<u8>() {
        Ok(4..=31) => Ok(()),
        Ok(cost) => fail(format!("cost {cost} is outside allowed inclusive range 4..31")),
        Err(_) => Err(format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(cost.as_bytes()))),
    }
}

#[cfg(test)]
mod tests;
