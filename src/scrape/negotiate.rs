//! Which format a body has: what we ask for, and what a target says that it sent.
//!
//! Compat: prometheus `scrape/scrape.go`, `acceptHeader`, and `model/textparse/interface.go`, `New`.

use std::fmt::Write as _;

use config::prometheus::{Escaping, ScrapeProtocol};
use model::quote::go_quote;
use model::wire::Format;

/// The `Accept` header for `protocols` in order of preference; the newer text formats are asked to write names that
/// are not classic ones by `escaping`.
pub(super) fn accept(protocols: &[ScrapeProtocol], escaping: Escaping) -> String {
    let mut weight = 6;
    let mut text = String::new();
    for protocol in protocols {
        let (media, is_escaped) = match protocol {
            ScrapeProtocol::PrometheusProto => (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                false,
            ),
            ScrapeProtocol::OpenMetricsText0_0_1 => ("application/openmetrics-text;version=0.0.1", false),
            ScrapeProtocol::OpenMetricsText1_0_0 => ("application/openmetrics-text;version=1.0.0", true),
            ScrapeProtocol::PrometheusText0_0_4 => ("text/plain;version=0.0.4", false),
            ScrapeProtocol::PrometheusText1_0_0 => ("text/plain;version=1.0.0", true),
        };
        text.push_str(media);
        if is_escaped {
            let _ = write!(text, ";escaping={}", escaping.as_str());
        }
        let _ = write!(text, ";q=0.{weight},");
        weight -= 1;
    }
    let _ = write!(text, "*/*;q=0.{weight}");
    text
}

/// In which format a body is written, by its content type.
///
/// # Errors
/// The type is missing, broken or unknown and the job names no fallback.
///
/// Compat: prometheus `model/textparse/interface.go`, `extractMediaType`.
pub(super) fn format(content_type: Option<&str>, fallback: Option<ScrapeProtocol>) -> Result<Format, String> {
    let text = content_type.unwrap_or_default();
    let media = media_type(text);
    match media.as_deref() {
        Ok("text/plain") => return Ok(Format::Text),
        Ok("application/openmetrics-text") => return Ok(Format::OpenMetrics),
        Ok("application/vnd.google.protobuf") => return Ok(Format::Protobuf),
        _ => {}
    }
    let shown = go_quote(text.as_bytes());
    match (fallback, media) {
        (Some(ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0), _) => {
            Ok(Format::Text)
        }
        (Some(ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0), _) => {
            Ok(Format::OpenMetrics)
        }
        (Some(ScrapeProtocol::PrometheusProto), _) => Ok(Format::Protobuf),
        (None, _) if text.is_empty() => Err(
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified \
             for target"
                .to_owned(),
        ),
        (None, Ok(_)) => Err(format!(
            "received unsupported Content-Type {shown} and no fallback_scrape_protocol specified for target"
        )),
        (None, Err(why)) => Err(format!(
            "cannot parse Content-Type {shown} and no fallback_scrape_protocol for target\nmime: {why}"
        )),
    }
}

/// The media type in a header, in lower case.
///
/// Compat: Go `mime.ParseMediaType`, in what it refuses and in its texts.
fn media_type(header: &str) -> Result<String, &'static str> {
    let (media, mut rest) = header.split_at(header.find(';').unwrap_or(header.len()));
    let media = media.trim().to_ascii_lowercase();
    let (kind, behind) = token(&media);
    if kind.is_empty() {
        return Err("no media type");
    }
    if !behind.is_empty() {
        let subtype = behind.strip_prefix('/').ok_or("expected slash after first token")?;
        let (subtype, behind) = token(subtype);
        if subtype.is_empty() {
            return Err("expected token after slash");
        }
        if !behind.is_empty() {
            return Err("unexpected content after media subtype");
        }
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let Some((name, value, behind)) = parameter(rest) else {
            // One semicolon at the end means nothing.
            return if rest.trim() == ";" { Ok(media) } else { Err("invalid media parameter") };
        };
        if seen.iter().any(|(other, before)| *other == name && *before != value) {
            return Err("duplicate parameter name");
        }
        seen.push((name, value));
        rest = behind;
    }
    Ok(media)
}

/// Splits off what may stand unquoted.
fn token(text: &str) -> (&str, &str) {
    let is_special = |c: char| !c.is_ascii_graphic() || "()<>@,;:\\\"/[]?=".contains(c);
    text.split_at(text.find(is_special).unwrap_or(text.len()))
}

/// Splits off `; name=value`.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = token(text.strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    if name.is_empty() {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        None => {
            let (value, rest) = token(rest);
            (Some(value.to_owned()).filter(|value| !value.is_empty())?, rest)
        }
        Some(quoted) => {
            let (mut value, mut chars) = (String::new(), quoted.char_indices());
            loop {
                match chars.next()? {
                    (at, '"') => break (value, &quoted[at + 1..]),
                    (_, '\r' | '\n') => return None,
                    (at, '\\') if quoted[at + 1..].starts_with(['"', '\\']) => {
                        value.extend(chars.next().map(|(_, c)| c));
                    }
                    (_, c) => value.push(c),
                }
            }
        }
    };
    Some((name.to_ascii_lowercase(), value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_names_protocols_by_preference() {
        use ScrapeProtocol::{
            OpenMetricsText0_0_1, OpenMetricsText1_0_0, PrometheusProto, PrometheusText0_0_4,
            PrometheusText1_0_0,
        };
        assert_eq!(
            accept(&[PrometheusProto, OpenMetricsText1_0_0, PrometheusText0_0_4], Escaping::AllowUtf8),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
        );
        assert_eq!(
            accept(&[PrometheusText1_0_0, OpenMetricsText0_0_1], Escaping::Underscores),
            "text/plain;version=1.0.0;escaping=underscores;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,*/*;q=0.4"
        );
    }

    #[test]
    fn content_type_chooses_the_format() {
        for (header, expected) in [
            ("Text/Plain; version=0.0.4", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                Format::Protobuf,
            ),
            (" text/plain ;", Format::Text),
            ("text/plain;\tversion=\"0;\\\"0\" ;\n charset=utf-8", Format::Text),
            ("text/plain; a=b; a=b", Format::Text),
        ] {
            assert_eq!(format(Some(header), None), Ok(expected), "{header}");
        }
        for (protocol, expected) in [
            (ScrapeProtocol::PrometheusText0_0_4, Format::Text),
            (ScrapeProtocol::OpenMetricsText1_0_0, Format::OpenMetrics),
            (ScrapeProtocol::PrometheusProto, Format::Protobuf),
        ] {
            for header in [None, Some("text/html"), Some("text/"), Some("text/plain; x")] {
                assert_eq!(format(header, Some(protocol)), Ok(expected), "{header:?}");
            }
            assert_eq!(format(Some("text/plain"), Some(protocol)), Ok(Format::Text));
        }
    }

    #[test]
    fn without_a_fallback_the_content_type_has_to_be_right() {
        assert_eq!(
            format(None, None).unwrap_err(),
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified \
             for target"
        );
        for known in ["text/html", "bogus"] {
            assert_eq!(
                format(Some(known), None).unwrap_err(),
                format!(
                    "received unsupported Content-Type {known:?} and no fallback_scrape_protocol specified for target"
                )
            );
        }
        for (broken, why) in [
            ("text/", "expected token after slash"),
            ("/x", "no media type"),
            ("text plain", "expected slash after first token"),
            ("text/plain x", "unexpected content after media subtype"),
            ("text/plain; x", "invalid media parameter"),
            ("text/plain; a=\"b", "invalid media parameter"),
            ("text/plain; version=", "invalid media parameter"),
            ("text/plain;version=0.0.4;;q=1", "invalid media parameter"),
            ("text/plain;version==1", "invalid media parameter"),
            ("text/plain; v=1, text/html", "invalid media parameter"),
            ("text/plain; a b=c", "invalid media parameter"),
            ("Text/Plain;A=b;a=c", "duplicate parameter name"),
        ] {
            let shown = go_quote(broken.as_bytes());
            let expected = format!(
                "cannot parse Content-Type {shown} and no fallback_scrape_protocol for target\nmime: {why}"
            );
            assert_eq!(format(Some(broken), None).unwrap_err(), expected);
        }
    }
}
