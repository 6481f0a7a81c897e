//! What a signed link in a message leads to: a page that says what would happen, and a button that lets it happen.
//!
//! Opening a link changes nothing, since mail servers open links to look for malware; only the button's POST does. Whether a
//! token is good, and what it does, is the server's matter. The page needs no script and loads nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, extract::DefaultBodyLimit};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// Where links lead, below the external URL.
pub const PATH: &str = "/alerts/act";

/// More alerts than this under one silence are probably not what somebody wants.
const ALERTS_WARN: usize = 50;
/// A token is far shorter.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What a link would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The labels that alerts must have to be silenced.
    pub labels: Vec<(String, String)>,
    /// `for 1 hour`, `until Tue 4 Aug 2026 08:00:00 CEST`.
    pub length: String,
    /// How many alerts that fire now have these labels.
    pub n_alerts: usize,
    /// Some of their names.
    pub examples: Vec<String>,
    /// Who will stand as author.
    pub author: String,
}

/// What a link did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub silence: String,
    /// When the silence ends, for people.
    pub until: String,
    /// It was there already.
    pub is_old: bool,
}

/// Why a link does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not ours, or changed.
    Forged,
    Expired,
    /// What it would do is not possible; the text says why.
    Impossible(String),
}

/// Who decides what links do.
pub trait Actions: Send + Sync {
    /// What the link would do.
    ///
    /// # Errors
    /// The token is not good.
    fn offer(&self, token: &str) -> Result<Offer, Refused>;

    /// Does it.
    ///
    /// # Errors
    /// The token is not good, or what it asks for is refused.
    fn act(&self, token: &str) -> Result<Done, Refused>;
}

type Source = State<Arc<dyn Actions>>;

/// The route of the links, to be served beside the server's own.
pub fn router(source: Arc<dyn Actions>) -> Router {
    Router::new()
        .route(PATH, get(ask).post(act))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(source)
}

async fn ask(State(source): Source, RawQuery(query): RawQuery) -> Response {
    let token = token(query.as_deref().unwrap_or_default().as_bytes());
    match source.offer(&token) {
        Ok(offer) => page(StatusCode::OK, "Silence alerts?", &question(&offer, &token)),
        Err(refused) => refusal(&refused),
    }
}

async fn act(State(source): Source, body: Bytes) -> Response {
    match source.act(&token(&body)) {
        Ok(done) => page(StatusCode::OK, "Silenced", &answer(&done)),
        Err(refused) => refusal(&refused),
    }
}

fn token(form: &[u8]) -> String {
    let found = form_urlencoded::parse(form).find(|(name, _)| name == "t");
    found.map(|(_, token)| token.into_owned()).unwrap_or_default()
}

// === The page ===

fn question(offer: &Offer, token: &str) -> String {
    let mut out = String::from("<p>Nobody will be told of alerts with all of these labels:</p><table>");
    for (name, value) in &offer.labels {
        let _ = write!(out, "<tr><th>{}</th><td dir=\"auto\">{}</td></tr>", escaped(name), escaped(value));
    }
    let _ = write!(out, "</table><p><b>{}</b></p>", escaped(&offer.length));
    let firing = match offer.n_alerts {
        0 => "None of them fires right now.".to_owned(),
        1 => "One of them fires right now.".to_owned(),
        n => format!("{n} of them fire right now."),
    };
    let _ = write!(out, "<p>{firing}");
    if !offer.examples.is_empty() {
        let names: Vec<_> = offer.examples.iter().map(|name| escaped(name)).collect();
        let _ = write!(out, " <span class=\"faint\" dir=\"auto\">{}</span>", names.join(", "));
    }
    out.push_str("</p>");
    if offer.n_alerts > ALERTS_WARN {
        let _ = write!(
            out,
            "<p class=\"warning\">That is a lot: {} alerts. A silence this broad hides more than the one you were told \
             about.</p>",
            offer.n_alerts
        );
    }
    let _ = write!(
        out,
        "<form method=\"post\"><input type=\"hidden\" name=\"t\" value=\"{}\"><button>Create the silence</button></form>\
         <p class=\"faint\">Author: {}. Nothing has been changed yet.</p>",
        escaped(token),
        escaped(&offer.author)
    );
    out
}

fn answer(done: &Done) -> String {
    let what = if done.is_old { "There was such a silence already" } else { "The silence is in place" };
    format!(
        "<p>{what}; it lasts until <b>{}</b>.</p><p><a href=\"../#/silences/{id}\">Look at it, change it or end it</a></p>\
         <p class=\"faint\">Silence {id}</p>",
        escaped(&done.until),
        id = escaped(&done.silence)
    )
}

fn refusal(refused: &Refused) -> Response {
    let (status, title, text) = match refused {
        Refused::Forged => (
            StatusCode::FORBIDDEN,
            "This link does not work",
            "It was not made by this server, or it did not arrive whole. Links that are broken over two lines in a mail have \
             to be put together again.",
        ),
        Refused::Expired => (
            StatusCode::GONE,
            "This link has expired",
            "Links in mails work for seven days. Silences can be made on the page of alerts at any time.",
        ),
        Refused::Impossible(text) => (StatusCode::CONFLICT, "That was not possible", text.as_str()),
    };
    let body = format!("<p>{}</p><p><a href=\"../#/silences\">All silences</a></p>", escaped(text));
    page(status, title, &body)
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;padding:24px 16px;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;background:#eef1f4;color:#1f2328}\
main{max-width:520px;margin:0 auto;padding:20px 24px;background:#fff;border:1px solid #d5dbe1;border-radius:8px;overflow-wrap:anywhere}\
h1{margin:0 0 12px;font-size:22px}table{border-collapse:collapse}th{text-align:left;font-weight:400;color:#59636e;padding:2px 16px 2px 0;vertical-align:top}\
td{font-weight:600}button{font:inherit;font-weight:600;padding:10px 20px;border:0;border-radius:6px;background:#0b5cd5;color:#fff;cursor:pointer}\
.faint{color:#59636e;font-size:14px}.warning{padding:8px 12px;background:#fff4d6;border:1px solid #e8cf8a;border-radius:6px;color:#6b4a00}\
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}main{background:#161b22;border-color:#30363d}\
th,.faint{color:#9aa4af}a{color:#79b8ff}.warning{background:#3a2d0a;border-color:#7d5a0b;color:#f2d98d}}";

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"noindex\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        // Not "no-referrer": with that, browsers send the form as if it came from nowhere.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ];
    let headers =
        headers.map(|(name, value): (HeaderName, &'static str)| (name, HeaderValue::from_static(value)));
    (status, headers, html).into_response()
}

/// Text as text, in nodes and in attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
