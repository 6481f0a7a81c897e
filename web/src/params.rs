//! Requests: form values from the URL and the body, times, durations, limits and selectors, with upstream's texts.
//!
//! Compat: prometheus `web/api/v1`, `parseTime`, `parseDuration`, `parseMatchersParam`.

mod form;

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::IntoResponse;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use model::{Matcher, TimeRange, Timestamp};

use crate::error::ApiError;
use crate::server::Peer;

pub(crate) use form::unescape;

/// The largest form a POST may carry: Go's own limit for forms.
pub const FORM_BYTES_MAX: usize = 10 << 20;

/// All form values of a request, those of the body first, as Go merges them.
#[derive(Clone, Debug, Default)]
pub struct Params {
    values: Vec<(String, String)>,
    /// How many of `values` came from the body.
    n_body: usize,
    /// What was wrong with values that are left out.
    problem: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_form = matches!(*request.method(), Method::POST | Method::PUT)
            && request
                .headers()
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok()?.split(';').next())
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        let body = if is_form {
            Bytes::from_request(request, state).await.map_err(|e| {
                let is_large = e.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE;
                malformed(if is_large { "http: POST too large" } else { "unexpected EOF" })
            })?
        } else {
            Bytes::new()
        };
        let params = Self::parse(&query, &body);
        match &params.problem {
            Some(problem) if form::is_too_many(problem) => Err(malformed(problem)),
            _ => Ok(params),
        }
    }
}

/// Who sent a request, and where to.
pub struct Caller(pub promql::Origin);

/// The headers in which clients say where an answer is shown, and what we call them. None of them is a secret.
const PLACES: [(&str, &str); 9] = [
    ("x-dashboard-uid", "dashboard"),
    ("x-dashboard-title", "dashboardTitle"),
    ("x-panel-id", "panel"),
    ("x-panel-title", "panelTitle"),
    ("x-datasource-uid", "datasource"),
    ("x-plugin-id", "plugin"),
    ("x-grafana-org-id", "org"),
    ("x-rule-uid", "rule"),
    ("fromalert", "fromAlert"),
];

/// The most of such a header that is kept.
const PLACE_BYTES_MAX: usize = 200;

fn shown_in(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let places = PLACES.iter().filter_map(|&(header, name)| {
        let text = String::from_utf8_lossy(headers.get(header)?.as_bytes()).into_owned();
        let kept = text.floor_char_boundary(PLACE_BYTES_MAX);
        (kept > 0).then(|| (name, text[..kept].to_owned()))
    });
    places.collect()
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer =
            parts.extensions.get::<Peer>().map(|Peer(address)| address.ip().to_canonical().to_string());
        Ok(Self(promql::Origin::Http {
            client: peer.unwrap_or_default(),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            shown_in: shown_in(&parts.headers),
        }))
    }
}

impl Params {
    fn parse(query: &str, body: &[u8]) -> Self {
        let mut values = Vec::new();
        let in_body = form::parse(body, &mut values);
        let n_body = values.len();
        let in_url = form::parse(query.as_bytes(), &mut values);
        Self { values, n_body, problem: in_body.or(in_url) }
    }

    /// Itself, unless anything of the form could not be read: some routes are that strict, the others go on without it.
    ///
    /// # Errors
    /// There was something.
    pub fn strict(self) -> Result<Self, ApiError> {
        match &self.problem {
            Some(problem) => Err(malformed(problem)),
            None => Ok(self),
        }
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

    /// The duration `name` in nanoseconds, if given.
    ///
    /// # Errors
    /// It is neither a number of seconds nor a duration.
    pub fn duration_nanos(&self, name: &str) -> Result<Option<i64>, String> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_duration(text).map(Some),
        }
    }
}

fn malformed(problem: &str) -> ApiError {
    ApiError::bad_data(format!("error parsing form values: {problem}"))
}

/// Seconds, their fraction rounded to ms, or RFC 3339.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    // The two times that no RFC 3339 parser of Go reads back, as upstream prints them.
    const MIN: &str = "-292273086-05-16T16:47:06Z";
    const MAX: &str = "292277025-08-18T07:12:54.999999999Z";
    let fail = || format!("cannot parse {} to a valid timestamp", model::quote::go_quote(text.as_bytes()));
    if let Some(seconds) = parse_seconds(text) {
        // What upstream makes of these depends on the processor.
        if !seconds.is_finite() {
            return Err(fail());
        }
        return Ok(clamped_i64(seconds.trunc())
            .saturating_mul(1000)
            .saturating_add(clamped_i64((seconds.fract() * 1000.0).round())));
    }
    match text {
        MIN => Ok(TimeRange::ALL.mint),
        MAX => Ok(TimeRange::ALL.maxt),
        _ => parse_rfc3339(text.as_bytes()).ok_or_else(fail),
    }
}

/// A date and time with its offset, in ms; what is below that is cut off.
///
/// Compat: Go `time.Parse` with `time.RFC3339Nano`.
fn parse_rfc3339(text: &[u8]) -> Option<Timestamp> {
    let number = |at: std::ops::Range<usize>| {
        let digits = text.get(at).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        Some(digits.iter().fold(0, |n, &digit| n * 10 + i64::from(digit - b'0')))
    };
    let sign_at = |i: usize, sign: u8| text.get(i).filter(|&&b| b == sign);
    for (i, sign) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        sign_at(i, sign)?;
    }
    let clock = [(11..13, 23), (14..16, 59), (17..19, 59)]
        .map(|(at, most)| number(at).filter(|&n| n <= most))
        .into_iter()
        .try_fold(0, |sum, n| Some(sum * 60 + n?))?;
    let date = jiff::civil::Date::new(
        i16::try_from(number(0..4)?).ok()?,
        i8::try_from(number(5..7)?).ok()?,
        i8::try_from(number(8..10)?).ok()?,
    );
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    let midnight = date.ok()?.duration_since(epoch).as_secs();
    let (mut at, mut millis) = (19, 0);
    if matches!(text.get(19), Some(b'.' | b',')) {
        let digits = text[20..].iter().take_while(|digit| digit.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for i in 20..23 {
            millis = millis * 10 + if i < 20 + digits { number(i..i + 1)? } else { 0 };
        }
        at = 20 + digits;
    }
    let offset = match text.get(at)? {
        b'Z' if text.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if text.len() == at + 6 => {
            sign_at(at + 3, b':')?;
            let minutes = number(at + 1..at + 3).filter(|&n| n <= 24)? * 60
                + number(at + 4..at + 6).filter(|&n| n <= 60)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some((midnight + clock - offset * 60) * 1000 + millis)
}

/// A duration in nanoseconds.
fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || model::quote::go_quote(text.as_bytes());
    if let Some(seconds) = parse_seconds(text) {
        let nanos = seconds * 1e9;
        // No duration at all is as short as can be to upstream.
        if nanos.is_nan() {
            return Ok(i64::MIN);
        }
        if !(-9_223_372_036_854_775_808.0..=9_223_372_036_854_775_808.0).contains(&nanos) {
            return Err(format!("cannot parse {} to a valid duration. It overflows int64", quoted()));
        }
        return Ok(clamped_i64(nanos.trunc()));
    }
    let millis = model::duration::parse_ms(text).ok().and_then(|millis| millis.checked_mul(NANOS_PER_MS));
    millis.ok_or_else(|| format!("cannot parse {} to a valid duration", quoted()))
}

/// Nanoseconds, in which upstream counts durations.
pub const NANOS_PER_MS: i64 = 1_000_000;

fn parse_seconds(text: &str) -> Option<f64> {
    model::number::parse_go_float(text.as_bytes()).ok()
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
        for (text, ms) in [
            ("1.5", 1500),
            ("1e3", 1_000_000),
            ("1.0005", 1000),
            ("1.0006", 1001),
            ("-1.5", -1500),
            ("0x1p4", 16_000),
            ("1_0", 10_000),
            ("1e30", i64::MAX),
            ("1763700000000", 1_763_700_000_000_000),
            ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
            ("2015-06-03T13:21:58.5559999999999Z", 1_433_337_718_555),
            ("2015-06-03T13:21:58,5Z", 1_433_337_718_500),
            ("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555),
            ("2015-06-03T12:51:58.555-00:30", 1_433_337_718_555),
            ("1969-12-31T23:59:59.5Z", -500),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("-292273086-05-16T16:47:06Z", i64::MIN),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        for text in [
            "abc",
            "NaN",
            "inf",
            "2015-02-29T00:00:00Z",
            "2015-07-01T24:00:00Z",
            "2015-07-01T20:10:60Z",
            "2015-07-01t20:10:30z",
            "2015-07-01T20:10:30",
            "2015-07-01T20:10:30.Z",
            "2015-07-01T20:10:30+25:00",
            "2015-07-01T20:10:30+0100",
            "2015-07-01T20:10:30ZZ",
            "2015-07-01T20:10:3\u{fc}Z",
            "2015-07-01",
            "+015-07-01T20:10:30Z",
        ] {
            let quoted = model::quote::go_quote(text.as_bytes());
            assert_eq!(parse_time(text), Err(format!("cannot parse {quoted} to a valid timestamp")));
        }
    }

    #[test]
    fn durations_are_seconds_or_prometheus_durations() {
        assert_eq!(parse_duration("123.456"), Ok(123_456_000_000));
        // As upstream counts, 4.273 is a hair less than 4273 ms.
        assert_eq!(parse_duration("4.273"), Ok(4_272_999_999));
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration("NaN"), Ok(i64::MIN));
        assert_eq!(parse_duration("foo"), Err("cannot parse \"foo\" to a valid duration".to_owned()));
        assert!(parse_duration("1e20").unwrap_err().contains("overflows int64"));
        assert!(parse_duration("inf").unwrap_err().contains("overflows int64"));
    }

    #[test]
    fn the_body_comes_before_the_url() {
        let params = Params::parse("query=b&x=1", b"query=a%2Bc");
        assert_eq!((params.get("query"), params.url("query"), params.get("x")), ("a+c", "b", "1"));
        assert_eq!(params.all("query").collect::<Vec<_>>(), ["a+c", "b"]);
    }
}
