//! Which format a body has: what we ask for, and what a target says that it sent.
//!
//! Compat: prometheus `scrape/scrape.go`, `acceptHeader`, and `model/textparse/interface.go`, `New`.

use std::fmt::Write as _;

use config::prometheus::ScrapeProtocol;
use model::wire::parse::Format;

/// The `Accept` header for `protocols` in order of preference.
///
/// Protobuf is left out: a target that is not offered it answers in text.
pub(super) fn accept(protocols: &[ScrapeProtocol]) -> String {
    let mut weight = 6;
    let mut text = String::new();
    for protocol in protocols {
        let media = match protocol {
            ScrapeProtocol::PrometheusProto => continue,
            ScrapeProtocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0;escaping=allow-utf-8",
        };
        let _ = write!(text, "{media};q=0.{weight},");
        weight -= 1;
    }
    let _ = write!(text, "*/*;q=0.{weight}");
    text
}

/// In which format a body is written, by its content type.
///
/// # Errors
/// The type is missing or unknown and the job names no fallback.
pub(super) fn format(content_type: Option<&str>, fallback: Option<ScrapeProtocol>) -> Result<Format, String> {
    let text = content_type.unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = match media.as_str() {
        "text/plain" => return Ok(Format::Text),
        "application/openmetrics-text" => return Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => {
            return Err("cannot read the protobuf format, only the text formats".to_owned());
        }
        media => media.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty()),
    };
    match fallback {
        Some(ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0) => Ok(Format::Text),
        Some(ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0) => {
            Ok(Format::OpenMetrics)
        }
        Some(ScrapeProtocol::PrometheusProto) => {
            Err("cannot read the protobuf format, only the text formats".to_owned())
        }
        None if text.is_empty() => Err(
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified \
             for target"
                .to_owned(),
        ),
        None if known => Err(format!(
            "received unsupported Content-Type {text:?} and no fallback_scrape_protocol specified for target"
        )),
        None => Err(format!(
            "cannot parse Content-Type {text:?} and no fallback_scrape_protocol for target"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_names_protocols_by_preference() {
        use ScrapeProtocol::{OpenMetricsText1_0_0, PrometheusProto, PrometheusText0_0_4};
        assert_eq!(
            accept(&[PrometheusProto, OpenMetricsText1_0_0, PrometheusText0_0_4]),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
        );
    }

    #[test]
    fn content_type_chooses_the_format() {
        assert_eq!(format(Some("Text/Plain; version=0.0.4"), None), Ok(Format::Text));
        assert_eq!(format(Some("application/openmetrics-text"), None), Ok(Format::OpenMetrics));
        let fallback = Some(ScrapeProtocol::PrometheusText0_0_4);
        assert_eq!(format(None, fallback), Ok(Format::Text));
        assert_eq!(format(Some("text/html"), fallback), Ok(Format::Text));
        assert_eq!(
            format(None, None).unwrap_err(),
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified \
             for target"
        );
        assert_eq!(
            format(Some("text/html"), None).unwrap_err(),
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"
        );
        assert_eq!(
            format(Some("bogus"), None).unwrap_err(),
            "cannot parse Content-Type \"bogus\" and no fallback_scrape_protocol for target"
        );
    }
}
