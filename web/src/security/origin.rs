//! Requests that pages of other sites make a browser send.
//!
//! A page that somebody reads can make their browser send forms to every server that it reaches, with that server's password.
//! Such a request must not change anything: browsers say of it where it comes from, in `Sec-Fetch-Site` (over TLS) or `Origin`.
//! Whoever sends neither is no browser. The flag for CORS lets pages read answers; pages of origins that it names may send
//! changes, too, but its default, which is everybody, does not count for that.
//!
//! Compat: none upstream; the rules are those of Go's `net/http`, `CrossOriginProtection`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use model::Regex;

use crate::routes::text_error;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Whose pages may change something.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// `https://host:port` of the external URL.
    external: String,
    /// Named by the operator.
    allowed: Option<Arc<Regex>>,
}

impl Origins {
    /// `external_origin` is how browsers name the external URL's, `allowed` what the operator named.
    pub fn new(external_origin: &str, allowed: Option<Arc<Regex>>) -> Self {
        Self { external: normal(external_origin), allowed }
    }

    /// Whether a request that changes something may.
    ///
    /// # Errors
    /// The answer that it gets instead.
    pub(crate) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Response>> {
        if method.is_safe() {
            return Ok(());
        }
        let text =
            |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let origin = text(&header::ORIGIN);
        let is_own = match text(&SEC_FETCH_SITE).as_deref() {
            Some("same-origin" | "none") => true,
            Some("") | None => match &origin {
                None => true,
                // A proxy may have changed the one and kept the other. No page can set either.
                Some(origin) => [text(&header::HOST), text(&X_FORWARDED_HOST)]
                    .into_iter()
                    .flatten()
                    .chain(uri.authority().map(|authority| authority.as_str().into()))
                    .any(|host| is_at(origin, &host)),
            },
            Some(_) => false,
        };
        let is_named = |origin: &str| {
            normal(origin) == self.external
                || self.allowed.as_ref().is_some_and(|allowed| allowed.is_match(origin.as_bytes()))
        };
        if is_own || origin.as_deref().is_some_and(is_named) {
            return Ok(());
        }
        tracing::debug!(
            origin = origin.as_deref().unwrap_or_default(),
            "a page of another site was refused a change"
        );
        Err(Box::new(text_error(
            StatusCode::FORBIDDEN,
            "cross-site request refused: pages of other origins change nothing unless --web.cors.origin names them\n",
        )))
    }
}

/// An origin without what does not tell it from others.
fn normal(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let default = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(default).unwrap_or(&origin).to_owned()
}

/// Whether `origin` is a page of `host`, whatever its scheme is.
fn is_at(origin: &str, host: &str) -> bool {
    let Some((scheme, _)) = origin.split_once("://") else { return false };
    normal(origin) == normal(&format!("{scheme}://{host}"))
}

/// Guards routes that change something by every method but the reading ones.
pub(crate) async fn guard(State(origins): State<Arc<Origins>>, request: Request, next: Next) -> Response {
    match origins.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn browsers_tell_and_others_are_not_asked() {
        let origins = Origins::new("https://Mon.example.com:443", None);
        let trusting = Origins::new(
            "http://host:9090",
            Some(Arc::new(Regex::anchored(b"https://ops[.]example[.]com").unwrap())),
        );
        let is_let = |origins: &Origins, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            origins.check(&Method::POST, &Uri::from_static("/-/quit"), &headers).is_ok()
        };
        for (headers, expected) in [
            (&[("host", "a:9090")][..], true),
            (&[("host", "a:9090"), ("origin", "http://a:9090")], true),
            (&[("host", "A"), ("origin", "http://a")], true),
            (&[("host", "a:443"), ("origin", "https://a")], true),
            (&[("host", "a:80"), ("origin", "https://a")], false),
            (&[("host", "a:9090"), ("origin", "http://a:9091")], false),
            (&[("host", "a:9090"), ("origin", "http://b:9090")], false),
            (&[("host", "a:9090"), ("origin", "null")], false),
            (&[("host", "a:9090"), ("origin", "")], false),
            (&[("host", "10.0.0.1:9090"), ("origin", "https://mon.example.com")], true),
            (&[("host", "10.0.0.1:9090"), ("origin", "http://mon.example.com")], false),
            (&[("host", "10.0.0.1:9090"), ("x-forwarded-host", "m"), ("origin", "https://m")], true),
            (&[("host", "a"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "b"), ("origin", "https://a"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "a"), ("sec-fetch-site", "none")], true),
            (&[("host", "a"), ("origin", "http://a"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "a"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a"), ("origin", "https://mon.example.com"), ("sec-fetch-site", "cross-site")], true),
            (
                &[("host", "a"), ("origin", "https://ops.example.com"), ("sec-fetch-site", "cross-site")],
                false,
            ),
        ] {
            assert_eq!(is_let(&origins, headers), expected, "{headers:?}");
        }
        let page = [("host", "a"), ("origin", "https://ops.example.com"), ("sec-fetch-site", "cross-site")];
        assert!(is_let(&trusting, &page));
        assert!(!is_let(&trusting, &[("host", "a"), ("origin", "https://ops.example.com.evil")]));
        let reading = HeaderMap::from_iter([(SEC_FETCH_SITE, HeaderValue::from_static("cross-site"))]);
        assert!(origins.check(&Method::GET, &Uri::from_static("/"), &reading).is_ok());
    }
}
