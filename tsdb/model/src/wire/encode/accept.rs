//! Which form a client asks for.
//!
//! Compat: prometheus/common `expfmt.Negotiate` and what it reads the header with, munnerz/goautoneg `ParseAccept`,
//! its order of clauses of one weight included.

use super::{Escaping, Format};
use crate::number::parse_go_float;

/// More clauses of a header than this are not looked at.
const MAX_CLAUSES: usize = 64;

struct Clause<'a> {
    kind: &'a str,
    subkind: &'a str,
    weight: f64,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (range, params) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subkind) = range.split_once('/').unwrap_or((range, ""));
        let (kind, subkind) = (trim(kind), trim(subkind));
        let subkind = match subkind {
            "" if kind == "*" => "*",
            "" => return None,
            _ if subkind.contains('/') => return None,
            _ => subkind,
        };
        let mut clause = Self { kind, subkind, weight: 1.0, params: Vec::new() };
        for param in params.split(';') {
            let Some((name, value)) = param.split_once('=').filter(|(_, value)| !value.contains('=')) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            match trim(name) {
                "q" => clause.weight = parse_go_float(value.as_bytes()).unwrap_or(0.0),
                name => clause.params.push((name, trim(value))),
            }
        }
        Some(clause)
    }

    /// The last of several of one name wins.
    fn param(&self, name: &str) -> &'a str {
        self.params.iter().rev().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    fn goes_before(&self, other: &Self) -> bool {
        self.weight > other.weight
            || (self.kind != "*" && other.kind == "*")
            || (self.subkind != "*" && other.subkind == "*")
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(' ')
}

/// The clauses, the most wanted first.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> =
        accept.split(',').take(MAX_CLAUSES).filter_map(|text| Clause::parse(trim(text))).collect();
    // "Goes before" is no order (`a/*;q=1` and `a/b;q=0.5` each go before the other), so how it is sorted matters.
    for i in 1..clauses.len() {
        let mut at = i;
        while at > 0 && clauses[at].goes_before(&clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
    clauses
}

/// The form to answer an `Accept` header with, and what to do with names that the classic rules do not allow.
///
/// Text and underscores if nothing else is asked for that we have. The escaping of a clause counts although another
/// clause decides the form.
pub fn negotiate(accept: &str) -> (Format, Escaping) {
    let mut escaping = Escaping::Underscores;
    for clause in clauses(accept) {
        if let Some(asked) = Escaping::parse(clause.param("escaping")) {
            escaping = asked;
        }
        let format = match (clause.kind, clause.subkind) {
            ("application", "vnd.google.protobuf")
                if clause.param("proto") == "io.prometheus.client.MetricFamily" =>
            {
                match clause.param("encoding") {
                    "delimited" => Format::ProtoDelimited,
                    "text" => Format::ProtoText,
                    "compact-text" => Format::ProtoCompact,
                    _ => continue,
                }
            }
            ("text", "plain") if matches!(clause.param("version"), "" | "0.0.4") => Format::Text,
            _ => continue,
        };
        return (format, escaping);
    }
    (Format::Text, escaping)
}
