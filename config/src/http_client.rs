//! How to reach a target, a discovery service or an Alertmanager over HTTP: the block that is inlined in many sections.
//!
//! Compat: prometheus/common `config`, `HTTPClientConfig`.

pub(crate) mod decode;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Secret;

#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub tls: Tls,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    /// Further request headers, each with its values in order.
    pub headers: BTreeMap<String, Vec<Secret>>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            tls: Tls::default(),
            follow_redirects: true,
            enable_http2: true,
            headers: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct BasicAuth {
    pub username: String,
    pub password: SecretSource,
}

/// `Authorization: <kind> <credentials>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorization {
    pub kind: String,
    pub credentials: SecretSource,
}

/// A secret in the file itself or in a file that is read at each use.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    Inline(Secret),
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name to verify instead of the host's.
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
}
