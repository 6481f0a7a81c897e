//! Where a redirect leads, and whether the host there is still the one that we were told to trust.
//!
//! Compat: Go `net/http`, `Client.do`; prometheus/common `config`, `isCrossHostRedirect`.

use http::header::{HeaderMap, LOCATION};
use http::{Method, StatusCode};
use url::Url;

/// Upstream's client gives up there.
pub const REDIRECTS_MAX: usize = 10;

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) url: Url,
    /// As the answer words it, which is what upstream shows of chains that do not end.
    pub(crate) said: String,
}

/// A redirect that cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) to: String,
    pub(crate) what: String,
}

/// Where the answer to a request of `from` sends us, if it does.
///
/// # Errors
/// It is no URL, or we do not speak what is spoken there; the texts are the user's.
pub(crate) fn location(status: StatusCode, headers: &HeaderMap, from: &Url) -> Result<Option<Next>, Refusal> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    // One that does not say where is an answer like any other.
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    let said = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let url = match from.join(&said) {
        Ok(url) => url,
        Err(error) => {
            let what = format!("failed to parse Location header {said:?}: {error}");
            return Err(Refusal { to: from.to_string(), what });
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        let what = format!("unsupported protocol scheme {:?}", url.scheme());
        return Err(Refusal { to: url.into(), what });
    }
    Ok(Some(Next { url, said }))
}

/// The method after a redirect: what changes something is not repeated elsewhere unless the answer says so.
pub(super) fn method(status: StatusCode, method: &Method) -> Method {
    let is_kept = matches!(status.as_u16(), 307 | 308) || matches!(*method, Method::GET | Method::HEAD);
    if is_kept { method.clone() } else { Method::GET }
}

/// Whether credentials for `home` may be sent to `to`: the same host, or one below it, and not in the clear where `home`
/// was encrypted.
pub(crate) fn is_home(home: &Url, to: &Url) -> bool {
    let (Some(parent), Some(host)) = (home.host_str(), to.host_str()) else { return false };
    if home.scheme() == "https" && to.scheme() != "https" {
        return false;
    }
    // Both are in lower case. A subdomain belongs to the host; the number of an address has none.
    let is_below = || {
        matches!(to.host(), Some(url::Host::Domain(_)))
            && host.strip_suffix(parent).is_some_and(|head| head.ends_with('.'))
    };
    host == parent || is_below()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_with_their_host() {
        let is_home = |home, to| super::is_home(&Url::parse(home).unwrap(), &Url::parse(to).unwrap());
        assert!(is_home("http://a.example:80/x", "http://A.example:81/y"));
        assert!(is_home("http://a.example/", "https://a.example/"));
        assert!(is_home("http://example.com/", "http://sub.example.com/"));
        assert!(!is_home("https://a.example/", "http://a.example/"), "in the clear");
        assert!(!is_home("http://a.example/", "http://b.example/"));
        assert!(!is_home("http://example.com/", "http://notexample.com/"));
        assert!(!is_home("http://0.0.1/", "http://10.0.0.1/"));
        assert!(!is_home("http://[::1]/", "http://[1::1]/"));
    }

    #[test]
    fn locations() {
        let from = Url::parse("http://a.example/x?y").unwrap();
        let location = |status: u16, value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(LOCATION, value.parse().unwrap());
            }
            location(StatusCode::from_u16(status).unwrap(), &headers, &from)
                .map(|next| next.map(|next| next.url.to_string()))
                .map_err(|refusal| (refusal.to, refusal.what))
        };
        assert_eq!(location(200, Some("/z")), Ok(None));
        assert_eq!(location(302, Some("/z")), Ok(Some("http://a.example/z".to_owned())));
        assert_eq!(location(308, Some("//b.example:9/z?q")), Ok(Some("http://b.example:9/z?q".to_owned())));
        assert_eq!(location(301, None), Ok(None));
        let refused = ("file:///etc".to_owned(), "unsupported protocol scheme \"file\"".to_owned());
        assert_eq!(location(302, Some("file:///etc")), Err(refused));
    }

    #[test]
    fn only_some_redirects_repeat_what_was_posted() {
        let method = |status: u16, m: &Method| super::method(StatusCode::from_u16(status).unwrap(), m);
        assert_eq!(method(302, &Method::POST), Method::GET);
        assert_eq!(method(307, &Method::POST), Method::POST);
        assert_eq!(method(303, &Method::HEAD), Method::HEAD);
    }
}
