//! `--web.config.file`: TLS, users, headers and the rate limit of the server itself.
//!
//! Judges the file; what serves by it is elsewhere. Whether a certificate belongs to its key is asked of the caller,
//! because this crate knows no cryptography.
//!
//! Compat: prometheus/exporter-toolkit `web`, `Validate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;

use crate::http_client::{SecretSource, TextSource, TlsVersion};
use crate::yaml::decode::Dialect;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, tree};
use crate::{Error, Problem, Secret, paths};

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `None` for plain HTTP.
    pub tls: Option<ServerTls>,
    /// With TLS only.
    pub http2: bool,
    /// Sent with every answer.
    pub headers: BTreeMap<String, String>,
    /// Over all clients together.
    pub rate_limit: Option<RateLimit>,
    /// The bcrypt hash of each user's password; none for no authentication.
    pub users: BTreeMap<String, Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// In which one request is allowed.
    pub interval: Duration,
    pub burst: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    pub cert: TextSource,
    pub key: SecretSource,
    pub client_ca: Option<TextSource>,
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

/// Reads and validates a file and those it names.
///
/// # Errors
/// The file or one it names cannot be read, or is refused.
pub fn load(path: &Path, check_pair: PairCheck<'_>) -> Result<Config, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, base, check_pair).map_err(|issue| Error::plain(path, Problem::from(issue)))
}

fn parse(text: &str, base: &Path, check_pair: PairCheck<'_>) -> Result<Config, Issue> {
    let mut decoder = Decoder::new(Dialect::V2);
    let mut raw = Raw { http2: true, ..Raw::default() };
    if let Some(root) = tree::parse(text)?.root {
        raw.decode(&mut decoder, &root)?;
    }
    decoder.finish()?;
    let fail = |text: String| Issue::new(Pos::default(), text);
    check_headers(&raw.headers).map_err(fail)?;
    raw.users.values().try_for_each(|hash| check_hash(hash.expose())).map_err(fail)?;
    Ok(Config {
        tls: raw.tls.resolve(base, check_pair).map_err(fail)?,
        http2: raw.http2,
        headers: raw.headers,
        rate_limit: (!raw.interval.is_zero())
            .then_some(RateLimit { interval: raw.interval, burst: raw.burst }),
        users: raw.users,
    })
}

#[derive(Default)]
struct Raw {
    tls: RawTls,
    http2: bool,
    headers: BTreeMap<String, String>,
    burst: i64,
    interval: Duration,
    users: BTreeMap<String, Secret>,
}

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
                                self.interval = decode_interval(decoder, value)?.unwrap_or_default();
                            }
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                }
                "basic_auth_users" => {
                    let mut users: BTreeMap<String, String> = BTreeMap::new();
                    decoder.set(value, &mut users)?;
                    self.users = users.into_iter().map(|(name, hash)| (name, Secret::new(hash))).collect();
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

    /// In upstream's order, which decides what a user sees of several mistakes. Files go before texts.
    fn resolve(self, base: &Path, check_pair: PairCheck<'_>) -> Result<Option<ServerTls>, String> {
        let (has_cert, has_key) = (
            !(self.cert.is_empty() && self.cert_file.is_empty()),
            !(self.key.is_empty() && self.key_file.is_empty()),
        );
        let client_ca = text_source(base, self.client_ca, &self.client_ca_file);
        if !has_cert && !has_key && client_ca.is_none() && self.client_auth.is_empty() {
            return Ok(None);
        }
        if !has_cert {
            return Err("missing one of cert or cert_file".to_owned());
        }
        if !has_key {
            return Err("missing one of key or key_file".to_owned());
        }
        let cert = text_source(base, self.cert, &self.cert_file).expect("one of the two is not empty");
        let key = match paths::join_path(base, &self.key_file) {
            Some(path) => SecretSource::File(path),
            None => SecretSource::Inline(self.key),
        };
        let unread = |what: &str, path: Option<&Path>, e: &std::io::Error| {
            let path = path.unwrap_or(Path::new(""));
            format!("failed to read {what} ({}): {}", path.display(), Error::io(path, e))
        };
        let cert_pem = cert.read().map_err(|e| unread("cert_file", cert.path(), &e))?;
        let key_pem = key.read().map_err(|e| unread("key_file", key.path(), &e))?;
        check_pair(&cert_pem, &key_pem).map_err(|e| format!("failed to load X509KeyPair: {e}"))?;
        if let Some(ca) = &client_ca {
            ca.read().map_err(|e| Error::io(ca.path().unwrap_or(Path::new("")), &e).to_string())?;
        }
        let client_auth = match self.client_auth.as_str() {
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
            client_allowed_sans: self.client_allowed_sans,
            min_version: self.min_version,
            max_version: self.max_version,
            cipher_suites: self.cipher_suites,
            curve_preferences: self.curve_preferences,
            prefer_server_cipher_suites: self.prefer_server_cipher_suites,
        }))
    }
}

fn text_source(base: &Path, text: String, file: &str) -> Option<TextSource> {
    let inline = (!text.is_empty()).then_some(TextSource::Inline(text));
    paths::join_path(base, file).map(TextSource::File).or(inline)
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

/// A span as Go writes it, or nanoseconds.
fn decode_interval(decoder: &mut Decoder, node: &Node) -> Decoded<Duration> {
    let parsed = node.text().and_then(|text| match text.parse::<u64>() {
        Ok(nanoseconds) => Some(Duration::from_nanos(nanoseconds)),
        Err(_) => parse_span(text),
    });
    match parsed {
        Some(interval) => Ok(Some(interval)),
        None if node.is_null() => Ok(Some(Duration::ZERO)),
        None => decoder.mismatch(node, "time.Duration"),
    }
}

/// `1h2m3.5s`; negative spans, which limit nothing, are not taken.
///
/// Compat: Go `time.ParseDuration`.
fn parse_span(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let seconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let span = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(span)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
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
