//! How to reach a target, a discovery service or an Alertmanager over HTTP: the block that is inlined in many sections.
//!
//! Compat: prometheus/common `config`, `HTTPClientConfig`.

mod auth;
pub(crate) mod decode;
mod file;
pub(crate) mod headers;
pub(crate) mod print;
mod proxy;
pub mod sigv4;
pub(crate) mod tls;

pub use file::load;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Secret;

#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub oauth2: Option<Box<Oauth2>>,
    pub tls: Tls,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    pub proxy: Proxy,
    /// Further request headers, by name as typed.
    pub headers: BTreeMap<String, Header>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            tls: Tls::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy: Proxy::default(),
            headers: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct BasicAuth {
    pub username: TextSource,
    pub password: SecretSource,
}

/// `Authorization: <kind> <credentials>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorization {
    pub kind: String,
    pub credentials: SecretSource,
}

/// Tokens that are fetched from elsewhere and renewed before they expire.
#[derive(Clone, Debug, PartialEq)]
pub struct Oauth2 {
    pub client_id: String,
    /// For the grant by client credentials.
    pub client_secret: SecretSource,
    pub grant: Grant,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: BTreeMap<String, String>,
    /// Of the connection to the token's server, not of the target's.
    pub tls: Tls,
    pub proxy: Proxy,
    /// Keys that the grant does not use are printed all the same.
    pub printed: Printed,
}

/// A section as it is printed where the types keep less than the file says: defaults filled in, secrets masked.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Printed(pub(crate) Option<crate::yaml::Out>);

/// `grant_type` with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    ClientCredentials,
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`: a JWT that we sign stands for the client's secret.
    JwtBearer {
        /// PEM of an RSA key.
        key: SecretSource,
        key_id: String,
        algorithm: JwtAlgorithm,
        /// The client's id where the file names none.
        iss: String,
        /// The token's URL where the file names none.
        audience: String,
        /// Further claims, JSON object text.
        claims: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    Rs256,
    Rs384,
    Rs512,
}

/// By which way connections leave.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Proxy {
    /// `http`, `https` or `socks5`; a password in it is a secret.
    pub url: Option<Secret>,
    /// Hosts, domains and networks that are reached without it, separated by commas.
    pub no_proxy: String,
    /// Follows `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` instead.
    pub from_environment: bool,
    /// Sent with CONNECT.
    pub connect_headers: BTreeMap<String, Vec<Secret>>,
}

/// The values of one header, sent in the order of the fields; files are read at each request.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Header {
    pub values: Vec<String>,
    pub secrets: Vec<Secret>,
    pub files: Vec<PathBuf>,
}

/// A secret in the file itself or in a file that is read at each use.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    Inline(Secret),
    File(PathBuf),
    /// The name of a secret in a secret manager. There is none, so the file loads and each use fails.
    Ref(String),
}

/// A text in the file itself or in a file that is read at each use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    Inline(String),
    File(PathBuf),
    /// As [`SecretSource::Ref`].
    Ref(String),
}

fn no_secret_manager() -> std::io::Error {
    std::io::Error::other("cannot use secret ref without manager")
}

/// Certificates and keys are PEM.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tls {
    pub ca: Option<TextSource>,
    pub cert: Option<TextSource>,
    pub key: Option<SecretSource>,
    /// The name to verify instead of the host's.
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl TextSource {
    /// The text, its file read now.
    ///
    /// # Errors
    /// The file cannot be read, or the source is a reference.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Inline(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => std::fs::read(path),
            Self::Ref(_) => Err(no_secret_manager()),
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Inline(_) | Self::Ref(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Default for SecretSource {
    /// An empty secret.
    fn default() -> Self {
        Self::Inline(Secret::default())
    }
}

impl SecretSource {
    /// The secret, its file read now.
    ///
    /// # Errors
    /// The file cannot be read, or the source is a reference.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Inline(secret) => Ok(secret.expose().as_bytes().to_vec()),
            Self::File(path) => std::fs::read(path),
            Self::Ref(_) => Err(no_secret_manager()),
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Inline(_) | Self::Ref(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

#[cfg(test)]
mod tests;
