//! The HTTP client block in YAML: keys that several sections inline, their exclusions, and the way back.
//!
//! Compat: prometheus/common `config`, `HTTPClientConfig.Validate`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Authorization, BasicAuth, Header, HttpClient, Proxy, SecretSource, TextSource, Tls};
use crate::yaml::emit::Fields;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, Out};
use crate::{Secret, paths};

/// Headers that the client sets itself.
const RESERVED: [&str; 18] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

/// The keys of `tls_config` that hold text.
const TLS_TEXTS: [&str; 12] = [
    "ca",
    "ca_file",
    "ca_ref",
    "cert",
    "cert_file",
    "cert_ref",
    "key",
    "key_file",
    "key_ref",
    "server_name",
    "min_version",
    "max_version",
];

const REF_WITHOUT_MANAGER: &str = "cannot use secret ref without manager";

/// The keys of the block as they come by, until [`HttpFields::finish`] judges the whole.
#[derive(Debug, Default)]
pub(crate) struct HttpFields {
    basic_auth: Option<RawBasicAuth>,
    authorization: Option<RawAuthorization>,
    oauth2: Option<Pos>,
    bearer_token: Secret,
    bearer_token_file: String,
    tls: Option<Tls>,
    /// The block's own defaults differ between sections.
    follow_redirects: Option<bool>,
    enable_http2: Option<bool>,
    unsupported: Option<(Pos, &'static str)>,
    headers: BTreeMap<String, Header>,
    reserved_header: Option<(Pos, String)>,
}

#[derive(Debug, Default)]
struct RawBasicAuth {
    username: String,
    username_file: String,
    password: Secret,
    password_file: String,
    has_ref: bool,
}

#[derive(Debug, Default)]
struct RawAuthorization {
    kind: String,
    credentials: Secret,
    credentials_file: String,
    has_ref: bool,
}

impl HttpFields {
    /// Takes `key` if it belongs to the block.
    pub(crate) fn field(
        &mut self,
        decoder: &mut Decoder,
        base: &Path,
        key: &str,
        value: &Node,
    ) -> Result<bool, Issue> {
        match key {
            "basic_auth" if value.is_null() => self.basic_auth = None,
            "basic_auth" => self.basic_auth = Some(decode_basic_auth(decoder, value)?),
            "authorization" if value.is_null() => self.authorization = None,
            "authorization" => self.authorization = Some(decode_authorization(decoder, value)?),
            "oauth2" => self.oauth2 = (!value.is_null()).then_some(value.pos),
            "bearer_token" => decoder.set(value, &mut self.bearer_token)?,
            "bearer_token_file" => decoder.set(value, &mut self.bearer_token_file)?,
            "tls_config" => self.tls = decode_tls(decoder, base, value)?,
            "follow_redirects" => self.follow_redirects = bool::decode(decoder, value)?,
            "enable_http2" => self.enable_http2 = bool::decode(decoder, value)?,
            "proxy_url" | "no_proxy"
                if String::decode(decoder, value)?.is_some_and(|text| !text.is_empty()) =>
            {
                self.refuse(value, "proxy_url is not supported yet");
            }
            "proxy_from_environment" if bool::decode(decoder, value)? == Some(true) => {
                self.refuse(value, "proxy_from_environment is not supported yet");
            }
            "proxy_connect_header" if !value.is_null() => {
                self.refuse(value, "proxy_connect_header is not supported yet");
            }
            "proxy_url" | "no_proxy" | "proxy_from_environment" | "proxy_connect_header" => {}
            "http_headers" => self.headers(decoder, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Type errors come before refusals, so the first of these waits for [`HttpFields::finish`].
    fn refuse(&mut self, node: &Node, what: &'static str) {
        self.unsupported.get_or_insert((node.pos, what));
    }

    fn headers(&mut self, decoder: &mut Decoder, node: &Node) -> Result<(), Issue> {
        let mut files = None;
        let mut reserved = None;
        let pairs = decoder.pairs(node, "config.Headers", &mut |decoder, key, value| {
            let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
            let canonical = canonical_header(&name);
            if RESERVED.contains(&canonical.as_str()) {
                reserved.get_or_insert((key.pos, canonical));
            }
            let (mut values, mut secrets) = (Vec::<String>::new(), Vec::<String>::new());
            decoder.fields(value, "config.Header", &mut |decoder, key, value| {
                match key {
                    "values" => decoder.set(value, &mut values)?,
                    "secrets" => decoder.set(value, &mut secrets)?,
                    "files" => files = (!value.is_null()).then_some(value.pos).or(files),
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            Ok(Some((
                name.into_bytes(),
                Header { values, secrets: secrets.into_iter().map(Secret::new).collect(), files: Vec::new() },
            )))
        })?;
        if let Some(pos) = files {
            self.unsupported.get_or_insert((pos, "files in http_headers are not supported yet"));
        }
        self.reserved_header = reserved;
        let text = |name: Vec<u8>| String::from_utf8(name).expect("the name was decoded as text");
        for (name, header) in pairs.into_iter().flatten() {
            self.headers.insert(text(name), header);
        }
        Ok(())
    }

    /// Whether any of the keys that authenticate is there.
    pub(crate) fn finish(self, base: &Path, pos: Pos) -> Result<HttpClient, Issue> {
        let fail = |text: &str| Err(Issue::new(pos, text));
        let has_bearer = !self.bearer_token.is_empty() || !self.bearer_token_file.is_empty();
        if !self.bearer_token.is_empty() && !self.bearer_token_file.is_empty() {
            return fail("at most one of bearer_token & bearer_token_file must be configured");
        }
        if (self.basic_auth.is_some() || self.oauth2.is_some()) && has_bearer {
            return fail(
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
            );
        }
        if let Some(auth) = &self.basic_auth {
            if !auth.username.is_empty() && !auth.username_file.is_empty() {
                return fail(
                    "at most one of basic_auth username, username_file & username_ref must be configured",
                );
            }
            if !auth.password.is_empty() && !auth.password_file.is_empty() {
                return fail(
                    "at most one of basic_auth password, password_file & password_ref must be configured",
                );
            }
            if auth.has_ref {
                return fail(REF_WITHOUT_MANAGER);
            }
        }
        if let Some(auth) = &self.authorization {
            if has_bearer {
                return fail("authorization is not compatible with bearer_token & bearer_token_file");
            }
            if !auth.credentials.is_empty() && !auth.credentials_file.is_empty() {
                return fail(
                    "at most one of authorization credentials & credentials_file must be configured",
                );
            }
            if auth.kind.trim().eq_ignore_ascii_case("basic") {
                return fail("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
            }
            if self.basic_auth.is_some() || self.oauth2.is_some() {
                return fail("at most one of basic_auth, oauth2 & authorization must be configured");
            }
            if auth.has_ref {
                return fail(REF_WITHOUT_MANAGER);
            }
        }
        if let Some(pos) = self.oauth2 {
            if self.basic_auth.is_some() {
                return fail("at most one of basic_auth, oauth2 & authorization must be configured");
            }
            return Err(Issue::new(pos, "oauth2 is not supported yet"));
        }
        if let Some((pos, name)) = self.reserved_header {
            return Err(Issue::new(pos, format!("setting header \"{name}\" is not allowed")));
        }
        if let Some((pos, text)) = self.unsupported {
            return Err(Issue::new(pos, text));
        }
        if self.basic_auth.as_ref().is_some_and(|auth| !auth.username_file.is_empty()) {
            return fail("username_file in basic_auth is not supported yet");
        }
        let bearer = has_bearer.then(|| RawAuthorization {
            credentials: self.bearer_token,
            credentials_file: self.bearer_token_file,
            ..RawAuthorization::default()
        });
        let authorization = self.authorization.or(bearer).map(|auth| Authorization {
            kind: match auth.kind.trim() {
                "" => "Bearer".to_owned(),
                kind => kind.to_owned(),
            },
            credentials: secret_source(base, auth.credentials, &auth.credentials_file),
        });
        Ok(HttpClient {
            basic_auth: self.basic_auth.map(|auth| BasicAuth {
                password: secret_source(base, auth.password, &auth.password_file),
                username: TextSource::Inline(auth.username),
            }),
            authorization,
            oauth2: None,
            tls: self.tls.unwrap_or_default(),
            follow_redirects: self.follow_redirects.unwrap_or(true),
            enable_http2: self.enable_http2.unwrap_or(true),
            proxy: Proxy::default(),
            headers: self.headers,
        })
    }
}

pub(crate) fn secret_source(base: &Path, secret: Secret, file: &str) -> SecretSource {
    match paths::join_path(base, file) {
        Some(path) => SecretSource::File(path),
        None => SecretSource::Inline(secret),
    }
}

fn decode_basic_auth(decoder: &mut Decoder, node: &Node) -> Result<RawBasicAuth, Issue> {
    let mut auth = RawBasicAuth::default();
    decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "username" => decoder.set(value, &mut auth.username)?,
            "username_file" => decoder.set(value, &mut auth.username_file)?,
            "password" => decoder.set(value, &mut auth.password)?,
            "password_file" => decoder.set(value, &mut auth.password_file)?,
            "username_ref" | "password_ref" => auth.has_ref |= is_set(decoder, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(auth)
}

fn decode_authorization(decoder: &mut Decoder, node: &Node) -> Result<RawAuthorization, Issue> {
    let mut auth = RawAuthorization::default();
    decoder.fields(node, "config.Authorization", &mut |decoder, key, value| {
        match key {
            "type" => decoder.set(value, &mut auth.kind)?,
            "credentials" => decoder.set(value, &mut auth.credentials)?,
            "credentials_file" => decoder.set(value, &mut auth.credentials_file)?,
            "credentials_ref" => auth.has_ref |= is_set(decoder, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(auth)
}

fn is_set(decoder: &mut Decoder, node: &Node) -> Result<bool, Issue> {
    Ok(String::decode(decoder, node)?.is_some_and(|text| !text.is_empty()))
}

/// `tls_config`, wherever it stands.
pub(crate) fn decode_tls(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Tls> {
    let mut keys: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut insecure_skip_verify = false;
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        if key == "insecure_skip_verify" {
            decoder.set(value, &mut insecure_skip_verify)?;
            return Ok(true);
        }
        let Some(known) = TLS_TEXTS.iter().find(|known| **known == key) else { return Ok(false) };
        let Some(text) = String::decode(decoder, value)? else { return Ok(true) };
        if key.ends_with("_version") && !["TLS10", "TLS11", "TLS12", "TLS13"].contains(&text.as_str()) {
            return Err(Issue::new(value.pos, format!("unknown TLS version: {text}")));
        }
        keys.insert(known, text);
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let get = |key: &str| keys.get(key).map_or("", String::as_str);
    let fail = |text: String| Err(Issue::new(node.pos, text));
    for kind in ["ca", "cert", "key"] {
        let sources = [kind.to_owned(), format!("{kind}_file"), format!("{kind}_ref")];
        if sources.iter().filter(|key| !get(key).is_empty()).count() > 1 {
            return fail(format!("at most one of {kind}, {kind}_file & {kind}_ref must be configured"));
        }
    }
    let has =
        |kind: &str| ["", "_file", "_ref"].iter().any(|suffix| !get(&format!("{kind}{suffix}")).is_empty());
    if has("cert") && !has("key") {
        return fail(
            "exactly one of key or key_file must be configured when a client certificate is configured"
                .into(),
        );
    }
    if has("key") && !has("cert") {
        return fail(
            "exactly one of cert or cert_file must be configured when a client key is configured".into(),
        );
    }
    if ["ca_ref", "cert_ref", "key_ref"].iter().any(|key| !get(key).is_empty()) {
        return fail(REF_WITHOUT_MANAGER.to_owned());
    }
    if let Some(key) = ["ca", "cert", "key"].iter().find(|key| !get(key).is_empty()) {
        return fail(format!("inline {key} in tls_config is not supported yet, use {key}_file"));
    }
    // TLS 1.2 is the oldest version that is ever offered, so older minimums ask for nothing.
    if get("min_version") == "TLS13" || !matches!(get("max_version"), "" | "TLS13") {
        return fail("restricting TLS versions in tls_config is not supported yet".to_owned());
    }
    Ok(Some(Tls {
        ca: paths::join_path(base, get("ca_file")).map(TextSource::File),
        cert: paths::join_path(base, get("cert_file")).map(TextSource::File),
        key: paths::join_path(base, get("key_file")).map(SecretSource::File),
        server_name: Some(get("server_name").to_owned()).filter(|name| !name.is_empty()),
        insecure_skip_verify,
        min_version: None,
        max_version: None,
    }))
}

/// `content-type` to `Content-Type`, as Go's `textproto.CanonicalMIMEHeaderKey`; odd names stay as they are.
pub(crate) fn canonical_header(name: &str) -> String {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(is_token) {
        return name.to_owned();
    }
    let mut upper = true;
    name.chars()
        .map(|c| {
            let cased = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            upper = c == '-';
            cased
        })
        .collect()
}

pub(crate) fn print(http: &HttpClient) -> Fields {
    let mut fields = Fields::default();
    if let Some(auth) = &http.basic_auth {
        let mut inner = Fields::default();
        print_text(&mut inner, "username", &auth.username);
        print_secret(&mut inner, "password", &auth.password);
        fields.put("basic_auth", inner.into_out());
    }
    if let Some(auth) = &http.authorization {
        let mut inner = Fields::default();
        inner.put("type", auth.kind.as_str());
        print_secret(&mut inner, "credentials", &auth.credentials);
        fields.put("authorization", inner.into_out());
    }
    if http.tls != Tls::default() {
        fields.put("tls_config", print_tls(&http.tls));
    }
    fields.put("follow_redirects", http.follow_redirects).put("enable_http2", http.enable_http2);
    let headers = http.headers.iter().map(|(name, header)| {
        let mut inner = Fields::default();
        inner.some("values", header.values.iter().cloned().collect::<Out>());
        inner.some("secrets", header.secrets.iter().map(ToString::to_string).collect::<Out>());
        (name.clone(), inner.into_out())
    });
    fields.some("http_headers", Out::Map(headers.collect()));
    fields
}

/// `key` with the secret masked, or `key_file`.
pub(crate) fn print_secret(fields: &mut Fields, key: &str, source: &SecretSource) {
    match source {
        SecretSource::Inline(secret) if secret.is_empty() => {}
        SecretSource::Inline(secret) => drop(fields.put(key, secret.to_string().as_str())),
        SecretSource::File(path) => drop(fields.put(&format!("{key}_file"), &*path.to_string_lossy())),
    }
}

/// `key` with the text, or `key_file`.
pub(crate) fn print_text(fields: &mut Fields, key: &str, source: &TextSource) {
    match source {
        TextSource::Inline(text) => drop(fields.some(key, text.as_str())),
        TextSource::File(path) => drop(fields.put(&format!("{key}_file"), &*path.to_string_lossy())),
    }
}

pub(crate) fn print_tls(tls: &Tls) -> Out {
    let mut fields = Fields::default();
    if let Some(ca) = &tls.ca {
        print_text(&mut fields, "ca", ca);
    }
    if let Some(cert) = &tls.cert {
        print_text(&mut fields, "cert", cert);
    }
    if let Some(key) = &tls.key {
        print_secret(&mut fields, "key", key);
    }
    fields
        .some("server_name", tls.server_name.as_deref().unwrap_or_default())
        .put("insecure_skip_verify", tls.insecure_skip_verify);
    fields.into_out()
}
