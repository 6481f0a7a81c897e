//! Requests: form values from the URL and the body, times, durations, limits and selectors, with upstream's texts.
//!
//! Compat: prometheus `web/api/v1`, `parseTime`, `parseDuration`, `parseMatchersParam`.

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http::{Method, header};
use model::{Matcher, TimeRange, Timestamp};

use crate::error::ApiError;
use crate::server::Peer;

/// The largest form a POST may carry: Go's own limit for forms.
pub const FORM_BYTES_MAX: usize = 10 << 20;

/// All form values of a request, those of the body first, as Go merges them.
#[derive(Clone, Debug, Default)]
pub struct Params {
    values: Vec<(String, String)>,
    /// How many of `values` came from the body.
    n_body: usize,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_form = matches!(*request.method(), Method::POST | Method::PUT)
            && request
                .headers()
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let body = if is_form {
            Bytes::from_request(request, state)
                .await
                .map_err(|e| ApiError::bad_data(format!("error parsing form values: {e}")))?
        } else {
            Bytes::new()
        };
        Ok(Self::parse(&query, &body))
    }
}

/// Who sent a request, and where to.
pub struct Caller(pub promql::Origin);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer =
            parts.extensions.get::<Peer>().map(|Peer(address)| address.ip().to_canonical().to_string());
        Ok(Self(promql::Origin::Http {
            client: peer.unwrap_or_default(),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
        }))
    }
}

impl Params {
    fn parse(query: &str, body: &[u8]) -> Self {
        let mut values: Vec<_> = form_urlencoded::parse(body).into_owned().collect();
        let n_body = values.len();
        values.extend(form_urlencoded::parse(query.as_bytes()).into_owned());
        Self { values, n_body }
    }

    /// The first value of `name`, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        self.values.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The first value of `name` in the URL, or the empty string: some parameters are read from there only.
    pub fn url(&self, name: &str) -> &str {
        self.values[self.n_body..].iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The time `name`, or `default` if it is not given.
    ///
    /// # Errors
    /// It is neither a number of seconds nor RFC 3339.
    pub fn time(&self, name: &str, default: Timestamp) -> Result<Timestamp, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            text => parse_time(text)
                .map_err(|e| ApiError::parameter(name, format!("invalid time value for '{name}': {e}"))),
        }
    }

    /// Every value whose name is none of `known`.
    pub fn others<'p>(&'p self, known: &'p [&str]) -> impl Iterator<Item = (&'p str, &'p str)> {
        let values = self.values.iter().filter(move |(name, _)| !known.contains(&name.as_str()));
        values.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The time `name`, which must be given.
    ///
    /// # Errors
    /// It is not given, or neither a number of seconds nor RFC 3339.
    pub fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }

    /// The span `start` to `end`, unbounded where not given.
    ///
    /// # Errors
    /// One of them is not a time.
    pub fn range(&self) -> Result<TimeRange, ApiError> {
        Ok(TimeRange::new(self.time("start", TimeRange::ALL.mint)?, self.time("end", TimeRange::ALL.maxt)?))
    }

    /// The most results wanted, 0 for all.
    ///
    /// # Errors
    /// It is no number or negative.
    pub fn limit(&self) -> Result<usize, ApiError> {
        match self.get("limit") {
            "" => Ok(0),
            text => match text.parse::<i64>() {
                Ok(n) => {
                    usize::try_from(n).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
                }
                Err(e) => {
                    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                    let is_out_of_range = matches!(e.kind(), NegOverflow | PosOverflow);
                    let why = if is_out_of_range { "value out of range" } else { "invalid syntax" };
                    let quoted = model::quote::go_quote(text.as_bytes());
                    Err(ApiError::parameter("limit", format!("strconv.Atoi: parsing {quoted}: {why}")))
                }
            },
        }
    }

    /// The selectors of `match[]`.
    ///
    /// # Errors
    /// One of them does not parse or would match everything.
    pub fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all("match[]")
            .map(|text| {
                let matchers =
                    promql::parse::parse_selector(text).map_err(|e| ApiError::parameter("match[]", e))?;
                if matchers.iter().all(Matcher::matches_empty) {
                    return Err(ApiError::parameter(
                        "match[]",
                        "match[] must contain at least one non-empty matcher",
                    ));
                }
                Ok(matchers)
            })
            .collect()
    }

    /// The duration `name` in ms, if given.
    ///
    /// # Errors
    /// It is neither a number of seconds nor a duration.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, String> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_duration(text).map(Some),
        }
    }
}

/// Seconds (fractions rounded to ms) or RFC 3339.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    // The two times that no RFC 3339 parser of Go reads back, as upstream prints them.
    const MIN: &str = "-292273086-05-16T16:47:06Z";
    const MAX: &str = "292277025-08-18T07:12:54.999999999Z";
    let fail = || format!("cannot parse {} to a valid timestamp", model::quote::go_quote(text.as_bytes()));
    if let Some(seconds) = parse_seconds(text) {
        let millis = (seconds * 1000.0).round();
        return if millis.is_finite() { Ok(clamped_i64(millis)) } else { Err(fail()) };
    }
    match text {
        MIN => Ok(TimeRange::ALL.mint),
        MAX => Ok(TimeRange::ALL.maxt),
        _ => text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| fail()),
    }
}

fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_seconds(text) {
        // Whole nanoseconds first, as upstream counts them: 4.273 is a hair less than 4273 ms.
        let nanos = (seconds * 1e9).trunc();
        if !(-9_223_372_036_854_775_808.0..=9_223_372_036_854_775_808.0).contains(&nanos) {
            return Err(format!(
                "cannot parse {} to a valid duration. It overflows int64",
                model::quote::go_quote(text.as_bytes())
            ));
        }
        return Ok(clamped_i64(nanos) / 1_000_000);
    }
    model::duration::parse_ms(text)
        .map_err(|_| format!("cannot parse {} to a valid duration", model::quote::go_quote(text.as_bytes())))
}

fn parse_seconds(text: &str) -> Option<f64> {
    model::number::parse_float(text.as_bytes()).ok()
}

/// The nearest integer in range; `as` saturates, which is what a time beyond all data needs.
#[expect(clippy::cast_possible_truncation, reason = "saturates by definition of the cast")]
fn clamped_i64(v: f64) -> i64 {
    v as i64
}

#[cfg(test)]
mod tests {
    use super::{Params, parse_duration, parse_time};

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        assert_eq!(parse_time("1.5"), Ok(1500));
        assert_eq!(parse_time("1e3"), Ok(1_000_000));
        assert_eq!(parse_time("2015-06-03T13:21:58.555Z"), Ok(1_433_337_718_555));
        assert_eq!(parse_time("2015-06-03T14:21:58.555+01:00"), Ok(1_433_337_718_555));
        assert_eq!(parse_time("-292273086-05-16T16:47:06Z"), Ok(i64::MIN));
        assert_eq!(parse_time("abc"), Err("cannot parse \"abc\" to a valid timestamp".to_owned()));
    }

    #[test]
    fn durations_are_seconds_or_prometheus_durations() {
        assert_eq!(parse_duration("123.456"), Ok(123_456));
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration("foo"), Err("cannot parse \"foo\" to a valid duration".to_owned()));
        assert!(parse_duration("1e20").unwrap_err().contains("overflows int64"));
    }

    #[test]
    fn the_body_comes_before_the_url() {
        let params = Params::parse("query=b&x=1", b"query=a%2Bc");
        assert_eq!((params.get("query"), params.url("query"), params.get("x")), ("a+c", "b", "1"));
        assert_eq!(params.all("query").collect::<Vec<_>>(), ["a+c", "b"]);
    }
}
