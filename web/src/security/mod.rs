//! How the server itself is protected: `--web.config.file`, and who may change something from a browser.
//!
//! Reading order: [`Security`] (what is decided of each request before the router sees it), [`users`], [`rate`], [`tls`]
//! with [`pair`] and [`clients`] (what is decided of each connection), [`origin`] (requests that pages of others send).
//! What a configuration file means is read in `config::web`.
//!
//! Compat: prometheus/exporter-toolkit `web`, `webHandler` and `Serve` (0.17).

mod clients;
pub(crate) mod origin;
mod pair;
mod rate;
mod tls;
mod users;

use std::path::Path;
use std::sync::Arc;

use axum::response::Response;
use config::web::{Settings, Source};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::routes::text_error;
use crate::server::Sparingly;
use rate::Bucket;
pub(crate) use tls::{Tls, explain};
use users::Users;

/// A web configuration file that is served by. What it says of users, headers and certificates counts from the moment it
/// is written; whether there is TLS, HTTP/2 or a rate limit, from the start.
pub struct Security {
    source: Arc<Source>,
    tls: Option<Tls>,
    http2: bool,
    limit: Option<Bucket>,
    users: Users,
    complaints: Sparingly,
    /// What the operator should know.
    warnings: Vec<String>,
}

/// Why a file is not served by, with the place where it is known.
pub type Refusal = config::Error;

impl Security {
    /// Reads the file at `path` for a server that starts.
    ///
    /// # Errors
    /// The file, or one that it names, is missing or refused.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let (settings, tls) = config::web::load(path, &pair::check)?;
        let source = Arc::new(Source::new(path.to_owned()));
        let refuse = |text| Refusal::of_file(path, text);
        let mut warnings = Vec::new();
        let tls = match &tls {
            Some(tls) => {
                warnings = tls::judge(tls).map_err(refuse)?;
                if settings.http2 {
                    tls::check_http2(tls).map_err(refuse)?;
                }
                Some(Tls::new(Arc::clone(&source), settings.http2))
            }
            None => None,
        };
        if let Some(tls) = &tls {
            tls.current().map_err(refuse)?;
        }
        let limit = settings.rate_limit.map(Bucket::new);
        Ok(Self {
            source,
            http2: tls.is_some() && settings.http2,
            tls,
            limit,
            users: Users::new(),
            complaints: Sparingly::default(),
            warnings,
        })
    }

    /// Judges a file as [`Security::open`] does, for a command that starts nothing.
    ///
    /// # Errors
    /// As [`Security::open`], but for what only a start refuses.
    ///
    /// Compat: exporter-toolkit `Validate`.
    pub fn check(path: &Path) -> Result<(), Refusal> {
        let (_, tls) = config::web::load(path, &pair::check)?;
        let judged = tls.map(|tls| tls::judge(&tls).and_then(|_| tls::build(&tls, true)));
        judged.transpose().map(drop).map_err(|text| Refusal::of_file(path, text))
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether HTTP/2 is offered.
    pub fn http2(&self) -> bool {
        self.http2
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether a request with these headers may go on, and with which headers its answer goes out.
    ///
    /// # Errors
    /// The answer that it gets instead.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<Arc<Settings>, Box<Response>> {
        let refuse = |status: StatusCode| {
            Box::new(text_error(status, format!("{}\n", status.canonical_reason().unwrap_or_default())))
        };
        let settings = self.source.current().map_err(|e| {
            if self.complaints.may_speak() {
                tracing::error!(error = %e, "Unable to parse configuration");
            }
            refuse(StatusCode::INTERNAL_SERVER_ERROR)
        })?;
        if self.limit.as_ref().is_some_and(|limit| !limit.allows()) {
            return Err(refuse(StatusCode::TOO_MANY_REQUESTS));
        }
        if settings.users.is_empty() || self.users.admits(&settings.users, headers).await {
            return Ok(settings);
        }
        let mut refusal = refuse(StatusCode::UNAUTHORIZED);
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        add_headers(&settings, refusal.headers_mut());
        Err(refusal)
    }
}

/// Puts the configured headers where the answer has none of its own.
pub(crate) fn add_headers(settings: &Settings, headers: &mut HeaderMap) {
    for (name, value) in &settings.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("only known names are configured");
        // A line break would end the header, as in Go it does not.
        let Ok(value) = HeaderValue::from_str(&value.replace(['\r', '\n'], " ")) else { continue };
        headers.entry(name).or_insert(value);
    }
}
