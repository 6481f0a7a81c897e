//! The HTTP client block in YAML: keys that several sections inline, and what excludes what.
//!
//! Compat: prometheus/common `config`, `HTTPClientConfig.Validate`.

use std::collections::BTreeMap;
use std::path::Path;

use super::auth::{RawAuthorization, RawBasicAuth, RawOauth2, RawSource};
pub(crate) use super::headers::canonical_header;
use super::headers::{decode_headers, reserved_header};
use super::proxy::ProxyFields;
pub(crate) use super::tls::decode_tls;
use super::{Authorization, BasicAuth, Header, HttpClient, SecretSource, Tls};
use crate::yaml::tree::Pos;
use crate::yaml::{Decoder, Issue, Node};
use crate::{Secret, paths};

/// The keys of the block as they come by, until [`HttpFields::finish`] judges the whole.
#[derive(Debug)]
pub(crate) struct HttpFields {
    basic_auth: Option<RawBasicAuth>,
    authorization: Option<RawAuthorization>,
    oauth2: Option<RawOauth2>,
    bearer_token: RawSource<Secret>,
    tls: Tls,
    follow_redirects: bool,
    enable_http2: bool,
    proxy: ProxyFields,
    headers: BTreeMap<String, Header>,
}

impl Default for HttpFields {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: RawSource::default(),
            tls: Tls::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy: ProxyFields::default(),
            headers: BTreeMap::new(),
        }
    }
}

impl HttpFields {
    /// A block in which HTTP/2 is off unless the file asks for it.
    pub(crate) fn without_http2() -> Self {
        Self { enable_http2: false, ..Self::default() }
    }

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
            "basic_auth" => self.basic_auth = Some(RawBasicAuth::decode(decoder, value)?),
            "authorization" if value.is_null() => self.authorization = None,
            "authorization" => self.authorization = Some(RawAuthorization::decode(decoder, value)?),
            "oauth2" if value.is_null() => self.oauth2 = None,
            "oauth2" => self.oauth2 = RawOauth2::decode(decoder, base, value)?,
            "bearer_token" => decoder.set(value, &mut self.bearer_token.inline)?,
            "bearer_token_file" => decoder.set(value, &mut self.bearer_token.file)?,
            "tls_config" => self.tls = decode_tls(decoder, base, value)?.unwrap_or_default(),
            "follow_redirects" => decoder.set(value, &mut self.follow_redirects)?,
            "enable_http2" => decoder.set(value, &mut self.enable_http2)?,
            "http_headers" => self.headers = decode_headers(decoder, base, value)?,
            _ => return self.proxy.field(decoder, key, value),
        }
        Ok(true)
    }

    pub(crate) fn has_basic_auth(&self) -> bool {
        self.basic_auth.is_some()
    }

    /// Whether `authorization` is there; a bearer token is not it.
    pub(crate) fn has_authorization(&self) -> bool {
        self.authorization.is_some()
    }

    pub(crate) fn has_oauth2(&self) -> bool {
        self.oauth2.is_some()
    }

    pub(crate) fn has_bearer_token(&self) -> bool {
        self.bearer_token.is_set()
    }

    /// For sections that have a user and a password of their own.
    pub(crate) fn set_basic_auth(&mut self, username: &str, password: &Secret) {
        let auth = RawBasicAuth {
            username: RawSource { inline: username.to_owned(), ..RawSource::default() },
            password: RawSource { inline: password.clone(), ..RawSource::default() },
        };
        self.basic_auth = Some(auth);
    }

    /// What the block says, or what is wrong with it in upstream's order of checks.
    pub(crate) fn finish(self, base: &Path, pos: Pos) -> Result<HttpClient, Issue> {
        if let Some(text) = self.refusal() {
            return Err(Issue::new(pos, text));
        }
        let bearer = RawAuthorization { kind: String::new(), credentials: self.bearer_token };
        let authorization = self.authorization.or(bearer.credentials.is_set().then_some(bearer));
        Ok(HttpClient {
            basic_auth: self.basic_auth.map(|auth| BasicAuth {
                username: auth.username.into_source(base),
                password: auth.password.into_source(base),
            }),
            authorization: authorization.map(|auth| Authorization {
                kind: match auth.kind.trim() {
                    "" => "Bearer".to_owned(),
                    kind => kind.to_owned(),
                },
                credentials: auth.credentials.into_source(base),
            }),
            oauth2: self.oauth2.map(|oauth2| Box::new(oauth2.finish(base))),
            tls: self.tls,
            follow_redirects: self.follow_redirects,
            enable_http2: self.enable_http2,
            proxy: self.proxy.finish(),
            headers: self.headers,
        })
    }

    fn refusal(&self) -> Option<String> {
        let text = self.auth_refusal().or_else(|| self.proxy.refusal());
        text.map(str::to_owned).or_else(|| {
            let name = reserved_header(&self.headers)?;
            Some(format!("setting header \"{name}\" is not allowed"))
        })
    }

    fn auth_refusal(&self) -> Option<&'static str> {
        const ONE_KIND: &str = "at most one of basic_auth, oauth2 & authorization must be configured";
        if self.bearer_token.is_ambiguous() {
            return Some("at most one of bearer_token & bearer_token_file must be configured");
        }
        if (self.basic_auth.is_some() || self.oauth2.is_some()) && self.bearer_token.is_set() {
            return Some(
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
            );
        }
        if let Some(text) = self.basic_auth.as_ref().and_then(RawBasicAuth::refusal) {
            return Some(text);
        }
        if let Some(auth) = &self.authorization {
            if self.bearer_token.is_set() {
                return Some("authorization is not compatible with bearer_token & bearer_token_file");
            }
            if auth.credentials.is_ambiguous() {
                return Some(
                    "at most one of authorization credentials & credentials_file must be configured",
                );
            }
            if auth.kind.trim().eq_ignore_ascii_case("basic") {
                return Some("authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
            }
            if self.basic_auth.is_some() || self.oauth2.is_some() {
                return Some(ONE_KIND);
            }
        }
        let oauth2 = self.oauth2.as_ref()?;
        if self.basic_auth.is_some() { Some(ONE_KIND) } else { oauth2.refusal() }
    }
}

pub(crate) fn secret_source(base: &Path, secret: Secret, file: &str) -> SecretSource {
    match paths::join_path(base, file) {
        Some(path) => SecretSource::File(path),
        None => SecretSource::Inline(secret),
    }
}
