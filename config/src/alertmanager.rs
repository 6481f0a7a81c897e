//! `alertmanager.yml`, resolved: globals merged into receivers, the route tree with everything inherited.
//!
//! Compat: alertmanager `config`, `Config` (0.34).

mod decode;
mod print;

pub use decode::{load, parse};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Matcher;

use crate::Secret;
use crate::http_client::{HttpClient, SecretSource, Tls};

#[derive(Clone, Debug)]
pub struct Config {
    pub resolve_timeout: Duration,
    pub route: Route,
    pub receivers: Vec<Arc<Receiver>>,
    pub inhibit_rules: Vec<InhibitRule>,
    /// Globs of template files, joined to the directory of the file.
    pub templates: Vec<String>,
    /// The whole configuration as YAML, secrets masked.
    pub text: String,
    /// What was accepted but has no effect, for the log.
    pub warnings: Vec<String>,
}

/// A node of the route tree, what it did not set inherited from its parent.
#[derive(Clone, Debug)]
pub struct Route {
    pub receiver: String,
    /// Every alert of the node takes these labels for its group; `None` groups by all labels (`...`).
    pub group_by: Option<Vec<String>>,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    pub matchers: Vec<Matcher>,
    /// Go on to the next sibling after a match.
    pub continue_matching: bool,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug)]
pub struct Receiver {
    pub name: String,
    pub email: Vec<Email>,
    pub webhook: Vec<Webhook>,
}

#[derive(Clone, Debug)]
pub struct InhibitRule {
    pub source_matchers: Vec<Matcher>,
    pub target_matchers: Vec<Matcher>,
    pub equal: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Email {
    pub send_resolved: bool,
    pub to: String,
    pub from: String,
    /// The name given in EHLO.
    pub hello: String,
    /// `host:port`; port 465 means implicit TLS.
    pub smarthost: String,
    pub auth_username: String,
    pub auth_password: SecretSource,
    pub auth_secret: Secret,
    /// Used instead of `auth_secret` when set.
    pub auth_secret_file: Option<PathBuf>,
    pub auth_identity: String,
    /// STARTTLS is demanded; without it a server that offers none is used in the clear.
    pub require_tls: bool,
    /// `None` for implicit TLS on port 465 only.
    pub force_implicit_tls: Option<bool>,
    pub tls: Tls,
    /// Templates by canonical header name, `Subject` among them.
    pub headers: BTreeMap<String, String>,
    /// Templates of the parts; empty for none.
    pub html: String,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Webhook {
    pub send_resolved: bool,
    pub url: Secret,
    /// Used instead of `url` when set.
    pub url_file: Option<PathBuf>,
    pub http: HttpClient,
    /// The most alerts in one message, 0 for all.
    pub max_alerts: u64,
    pub timeout: Duration,
}

#[cfg(test)]
mod tests;
