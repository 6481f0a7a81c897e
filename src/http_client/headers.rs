//! The headers that a block of the configuration adds to requests, and which of them may travel to a foreign host.
//!
//! What is in a file is read again for each request: the files are local and a few bytes long, so the wait is not worth
//! a thread.
//!
//! Compat: prometheus/common `config`: the round trippers for basic authentication, credentials, OAuth 2 and headers.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use config::Secret;
use config::http_client::{HttpClient, SecretSource, TextSource};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::Error;
use super::oauth2::Tokens;

/// The headers of one block.
pub struct Headers {
    /// Configured inline.
    fixed: HeaderMap,
    /// Those of them that are neither secrets nor credentials by their name.
    harmless: HeaderMap,
    files: Vec<(HeaderName, PathBuf)>,
    authorization: Option<Scheme>,
}

enum Scheme {
    Ready(HeaderValue),
    Basic { username: TextSource, password: SecretSource },
    Token { kind: String, credentials: PathBuf },
    Oauth2(Box<Tokens>),
}

impl Headers {
    /// # Errors
    /// A configured name or value cannot be sent in a header.
    pub fn new(config: &HttpClient) -> Result<Self, Error> {
        let (mut fixed, mut harmless, mut files) = (HeaderMap::new(), HeaderMap::new(), Vec::new());
        for (name, header) in &config.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header("header name"))?;
            for value in &header.values {
                let value = sensitive(value, "header value")?;
                if !is_credential(&name) {
                    harmless.append(name.clone(), value.clone());
                }
                fixed.append(name.clone(), value);
            }
            for secret in &header.secrets {
                fixed.append(name.clone(), sensitive(secret.expose(), "header value")?);
            }
            files.extend(header.files.iter().map(|path| (name.clone(), path.clone())));
        }
        let authorization = match (&config.basic_auth, &config.authorization, &config.oauth2) {
            (Some(basic), _, _) => Some(match (&basic.username, &basic.password) {
                (TextSource::Ref(_), _) | (_, SecretSource::Ref(_)) => return Err(Error::NoSecretManager),
                (TextSource::Inline(username), SecretSource::Inline(password)) => {
                    Scheme::Ready(basic_value(username, password.expose())?)
                }
                (username, password) => {
                    Scheme::Basic { username: username.clone(), password: password.clone() }
                }
            }),
            (None, Some(token), _) => Some(match &token.credentials {
                SecretSource::Inline(secret) => Scheme::Ready(token_value(&token.kind, secret.expose())?),
                SecretSource::File(path) => {
                    Scheme::Token { kind: token.kind.clone(), credentials: path.clone() }
                }
                SecretSource::Ref(_) => return Err(Error::NoSecretManager),
            }),
            (None, None, Some(oauth2)) => Some(Scheme::Oauth2(Box::new(Tokens::new(oauth2)?))),
            (None, None, None) => None,
        };
        Ok(Self { fixed, harmless, files, authorization })
    }

    /// Adds to `headers` what the block wants there, files read now.
    ///
    /// `is_home` is false once redirects have left the host that was asked first: then nothing secret is added.
    /// An `Authorization` that is there already stays.
    ///
    /// # Errors
    /// A file cannot be read or its content cannot be sent.
    pub async fn add_to(&self, headers: &mut HeaderMap, is_home: bool) -> Result<(), Error> {
        if !is_home {
            append(headers, &self.harmless);
            return Ok(());
        }
        append(headers, &self.fixed);
        for (name, path) in &self.files {
            let text = std::fs::read_to_string(path)
                .map_err(|source| Error::HeaderFile { path: path.clone(), source })?;
            headers.append(name.clone(), sensitive(text.trim(), "header value")?);
        }
        if headers.contains_key(AUTHORIZATION) {
            return Ok(());
        }
        let value = match &self.authorization {
            None => return Ok(()),
            Some(Scheme::Ready(value)) => value.clone(),
            Some(Scheme::Basic { username, password }) => {
                let username = match username {
                    TextSource::Inline(name) => name.clone(),
                    TextSource::File(path) => read_trimmed("basic auth username", path)?,
                    TextSource::Ref(_) => return Err(Error::NoSecretManager),
                };
                basic_value(&username, read_secret("basic auth password", password)?.expose())?
            }
            Some(Scheme::Token { kind, credentials }) => {
                token_value(kind, &read_trimmed("authorization credentials", credentials)?)?
            }
            Some(Scheme::Oauth2(tokens)) => tokens.header().await?,
        };
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}

fn append(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.append(name.clone(), value.clone());
    }
}

/// Headers that say who we are, whatever is in them. Compat: Go `net/http`, what its client drops on a redirect.
fn is_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "cookie"
            | "cookie2"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "www-authenticate"
    )
}

/// A secret as it is now; one in a file is trimmed.
pub(super) fn read_secret(what: &'static str, source: &SecretSource) -> Result<Secret, Error> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.clone()),
        SecretSource::File(path) => read_trimmed(what, path).map(Secret::new),
        SecretSource::Ref(_) => Err(Error::NoSecretManager),
    }
}

fn read_trimmed(what: &'static str, path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        what,
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

pub(super) fn basic_value(username: &str, password: &str) -> Result<HeaderValue, Error> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    sensitive(&format!("Basic {encoded}"), "basic auth")
}

fn token_value(kind: &str, credentials: &str) -> Result<HeaderValue, Error> {
    sensitive(&format!("{kind} {credentials}"), "authorization")
}

pub(super) fn sensitive(text: &str, what: &'static str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Header(what))?;
    value.set_sensitive(true);
    Ok(value)
}
