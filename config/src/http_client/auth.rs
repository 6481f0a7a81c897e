//! The keys that authenticate: `basic_auth`, `authorization`, `oauth2`.
//!
//! Compat: prometheus/common `config`, `BasicAuth`, `Authorization`, `OAuth2`.

use std::collections::BTreeMap;
use std::path::Path;

use super::print;
use super::proxy::ProxyFields;
use super::tls::decode_tls;
use super::{Grant, JwtAlgorithm, Oauth2, Printed, SecretSource, TextSource, Tls};
use crate::yaml::emit::Fields;
use crate::yaml::free::{self, Free};
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, Out};
use crate::{Secret, paths};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The three keys that name one thing: `x`, `x_file`, `x_ref`.
#[derive(Debug, Default)]
pub(super) struct RawSource<T> {
    pub(super) inline: T,
    pub(super) file: String,
    pub(super) reference: String,
}

impl<T: Decode + Default + PartialEq> RawSource<T> {
    /// Takes `key` if it is one of the three of `name`.
    pub(super) fn field(
        &mut self,
        decoder: &mut Decoder,
        name: &str,
        key: &str,
        value: &Node,
    ) -> Result<bool, Issue> {
        match key.strip_prefix(name) {
            Some("") => decoder.set(value, &mut self.inline)?,
            Some("_file") => decoder.set(value, &mut self.file)?,
            Some("_ref") => decoder.set(value, &mut self.reference)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        let given = [self.inline != T::default(), !self.file.is_empty(), !self.reference.is_empty()];
        given.iter().filter(|given| **given).count() > 1
    }

    pub(super) fn is_set(&self) -> bool {
        self.inline != T::default() || !self.file.is_empty() || !self.reference.is_empty()
    }
}

impl RawSource<Secret> {
    pub(super) fn into_source(self, base: &Path) -> SecretSource {
        if !self.inline.is_empty() || !self.is_set() {
            return SecretSource::Inline(self.inline);
        }
        match paths::join_path(base, &self.file) {
            Some(path) => SecretSource::File(path),
            None => SecretSource::Ref(self.reference),
        }
    }
}

impl RawSource<String> {
    pub(super) fn into_source(self, base: &Path) -> TextSource {
        if !self.inline.is_empty() || !self.is_set() {
            return TextSource::Inline(self.inline);
        }
        match paths::join_path(base, &self.file) {
            Some(path) => TextSource::File(path),
            None => TextSource::Ref(self.reference),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct RawBasicAuth {
    pub(super) username: RawSource<String>,
    pub(super) password: RawSource<Secret>,
}

impl RawBasicAuth {
    pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Result<Self, Issue> {
        let mut auth = Self::default();
        decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            Ok(auth.username.field(decoder, "username", key, value)?
                || auth.password.field(decoder, "password", key, value)?)
        })?;
        Ok(auth)
    }

    pub(super) fn refusal(&self) -> Option<&'static str> {
        if self.username.is_ambiguous() {
            return Some(
                "at most one of basic_auth username, username_file & username_ref must be configured",
            );
        }
        let text = "at most one of basic_auth password, password_file & password_ref must be configured";
        self.password.is_ambiguous().then_some(text)
    }
}

#[derive(Debug, Default)]
pub(super) struct RawAuthorization {
    pub(super) kind: String,
    pub(super) credentials: RawSource<Secret>,
}

impl RawAuthorization {
    pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Result<Self, Issue> {
        let mut auth = Self::default();
        decoder.fields(node, "config.Authorization", &mut |decoder, key, value| {
            if key == "type" {
                decoder.set(value, &mut auth.kind)?;
                return Ok(true);
            }
            auth.credentials.field(decoder, "credentials", key, value)
        })?;
        Ok(auth)
    }
}

#[derive(Debug, Default)]
pub(super) struct RawOauth2 {
    client_id: String,
    secret: RawSource<Secret>,
    key: RawSource<Secret>,
    key_id: String,
    grant_type: String,
    algorithm: String,
    iss: String,
    audience: String,
    claims: Vec<(String, Free)>,
    scopes: Vec<String>,
    token_url: String,
    endpoint_params: BTreeMap<String, String>,
    tls: Tls,
    proxy: ProxyFields,
}

impl RawOauth2 {
    pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut raw = Self::default();
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "client_id" => decoder.set(value, &mut raw.client_id)?,
                "client_certificate_key_id" => decoder.set(value, &mut raw.key_id)?,
                "grant_type" => decoder.set(value, &mut raw.grant_type)?,
                "signature_algorithm" => decoder.set(value, &mut raw.algorithm)?,
                "iss" => decoder.set(value, &mut raw.iss)?,
                "audience" => decoder.set(value, &mut raw.audience)?,
                "claims" => {
                    raw.claims =
                        free::decode_map(decoder, value, "map[string]interface {}")?.unwrap_or_default();
                }
                "scopes" => decoder.set(value, &mut raw.scopes)?,
                "token_url" => decoder.set(value, &mut raw.token_url)?,
                "endpoint_params" => decoder.set(value, &mut raw.endpoint_params)?,
                "tls_config" => raw.tls = decode_tls(decoder, base, value)?.unwrap_or_default(),
                _ => {
                    return Ok(raw.secret.field(decoder, "client_secret", key, value)?
                        || raw.key.field(decoder, "client_certificate_key", key, value)?
                        || raw.proxy.field(decoder, key, value)?);
                }
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        match raw.proxy.refusal() {
            Some(text) => Err(Issue::new(node.pos, text)),
            None => Ok(Some(raw)),
        }
    }

    /// What the block that holds the section has against it.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        if self.client_id.is_empty() {
            return Some("oauth2 client_id must be configured");
        }
        if self.token_url.is_empty() {
            return Some("oauth2 token_url must be configured");
        }
        if self.grant_type != JWT_BEARER {
            let text = "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials";
            return self.secret.is_ambiguous().then_some(text);
        }
        if self.key.is_ambiguous() {
            return Some(
                "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer",
            );
        }
        let is_known = matches!(self.algorithm.as_str(), "" | "RS256" | "RS384" | "RS512");
        (!is_known).then_some("valid signature algorithms are RS256, RS384 and RS512")
    }

    pub(super) fn finish(self, base: &Path) -> Oauth2 {
        let printed = Printed(Some(self.print(base)));
        let or = |own: String, default: &String| if own.is_empty() { default.clone() } else { own };
        let grant = if self.grant_type == JWT_BEARER {
            let claims = self.claims.into_iter().map(|(name, claim)| (name, claim.json)).collect();
            Grant::JwtBearer {
                // Upstream leaves this one path as it was typed.
                key: self.key.into_source(Path::new("")),
                key_id: self.key_id,
                algorithm: match self.algorithm.as_str() {
                    "RS384" => JwtAlgorithm::Rs384,
                    "RS512" => JwtAlgorithm::Rs512,
                    _ => JwtAlgorithm::Rs256,
                },
                iss: or(self.iss, &self.client_id),
                audience: or(self.audience, &self.token_url),
                claims: serde_json::Value::Object(claims).to_string(),
            }
        } else {
            Grant::ClientCredentials
        };
        Oauth2 {
            client_secret: self.secret.into_source(base),
            grant,
            scopes: self.scopes,
            client_id: self.client_id,
            token_url: self.token_url,
            endpoint_params: self.endpoint_params,
            tls: self.tls,
            proxy: self.proxy.finish(),
            printed,
        }
    }

    fn print(&self, base: &Path) -> Out {
        let mut fields = Fields::default();
        let source = |fields: &mut Fields, name: &str, raw: &RawSource<Secret>, file: &str| {
            if !raw.inline.is_empty() {
                fields.put(name, Out::secret(&raw.inline));
            }
            fields.some(&format!("{name}_file"), file);
            fields.some(&format!("{name}_ref"), raw.reference.as_str());
        };
        fields.some("client_id", self.client_id.as_str());
        source(&mut fields, "client_secret", &self.secret, &paths::join(base, &self.secret.file));
        fields.some("client_certificate_key_id", self.key_id.as_str());
        source(&mut fields, "client_certificate_key", &self.key, &self.key.file);
        fields
            .some("grant_type", self.grant_type.as_str())
            .some("signature_algorithm", self.algorithm.as_str())
            .some("iss", self.iss.as_str())
            .some("audience", self.audience.as_str());
        let claims = self.claims.iter().map(|(name, claim)| (name.clone(), claim.printed.clone()));
        fields.some("claims", Out::sorted(claims));
        fields.some("scopes", self.scopes.iter().cloned().collect::<Out>());
        fields.some("token_url", self.token_url.as_str());
        let params = self.endpoint_params.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        fields.some("endpoint_params", Out::sorted(params));
        if self.tls != Tls::default() {
            fields.put("tls_config", print::print_tls(&self.tls));
        }
        self.proxy.print(&mut fields);
        fields.into_out()
    }
}
