//! Lists of scrape protocols and what stands for a list that is not there.
//!
//! Compat: prometheus `config`, `ScrapeProtocol` and `validateAcceptScrapeProtocols`.

use super::ScrapeProtocol;
use crate::yaml::{Decoded, Decoder, Issue, Node};

/// With protobuf in front, which native histograms need.
pub(super) const PROTO_FIRST: [ScrapeProtocol; 5] = [
    ScrapeProtocol::PrometheusProto,
    ScrapeProtocol::OpenMetricsText1_0_0,
    ScrapeProtocol::OpenMetricsText0_0_1,
    ScrapeProtocol::PrometheusText1_0_0,
    ScrapeProtocol::PrometheusText0_0_4,
];

/// Of a job that takes no native histograms.
pub(super) const TEXT_ONLY: &[ScrapeProtocol] = PROTO_FIRST.split_at(1).1;

/// A list of protocol names, checked when it is known whose they are.
pub(super) struct RawProtocols(Vec<String>);

impl RawProtocols {
    pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Result<Option<Self>, Issue> {
        if node.is_null() {
            return Ok(None);
        }
        let mut names = Vec::new();
        let is_list = decoder.items(node, "[]config.ScrapeProtocol", &mut |decoder, item| {
            names.extend(decode_protocol(decoder, item)?);
            Ok(())
        })?;
        Ok(is_list.then_some(Self(names)))
    }

    pub(super) fn resolve(self) -> Result<Vec<ScrapeProtocol>, String> {
        if self.0.is_empty() {
            return Err("scrape_protocols cannot be empty".to_owned());
        }
        let mut out = Vec::new();
        for (i, name) in self.0.iter().enumerate() {
            if self.0[..i].iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return Err(format!("duplicated protocol in scrape_protocols, got [{}]", self.0.join(" ")));
            }
            out.push(parse_protocol(name).map_err(|text| format!("scrape_protocols: {text}"))?);
        }
        Ok(out)
    }
}

pub(super) fn decode_protocol(decoder: &mut Decoder, node: &Node) -> Decoded<String> {
    decoder.text_as(node, "config.ScrapeProtocol")
}

pub(super) fn parse_protocol(name: &str) -> Result<ScrapeProtocol, String> {
    ScrapeProtocol::parse(name).ok_or_else(|| {
        let known: Vec<&str> = ScrapeProtocol::ALL.iter().map(|protocol| protocol.as_str()).collect();
        format!("unknown scrape protocol {name}, supported: [{}]", known.join(" "))
    })
}
