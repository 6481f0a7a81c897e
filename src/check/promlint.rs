//! What makes a metric hard to use though it is valid: names, units, help texts.
//!
//! Compat: `prometheus/client_golang`, `prometheus/testutil/promlint`, its default validations.

use std::collections::BTreeMap;

use super::families::{Family, Kind};

/// Base units, and what else is measured in them.
const UNITS: [(&str, &str); 24] = [
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];

const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi",
    "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

const ABBREVIATIONS: [&str; 14] =
    ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

/// Something that should be otherwise; ordered as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) metric: String,
    pub(super) text: String,
}

/// All problems of all families, each as often as it is there.
pub(super) fn lint(families: &BTreeMap<String, Family>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = families
        .iter()
        .flat_map(|(name, family)| {
            let texts = lint_family(name, family);
            texts.into_iter().map(|text| Problem { metric: name.clone(), text })
        })
        .collect();
    problems.sort();
    problems
}

fn lint_family(name: &str, family: &Family) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut say = |is_wrong: bool, text: &str| {
        if is_wrong {
            texts.push(text.to_owned());
        }
    };
    let kind = family.kind();
    let lower = name.to_lowercase();
    let has_word = |word: &str| lower.contains(&format!("_{word}_")) || lower.ends_with(&format!("_{word}"));
    let is_typed = kind != Kind::Untyped;

    say(family.help.is_none(), "no help text");
    let has_total = name.ends_with("_total");
    say(kind == Kind::Counter && !has_total, "counter metrics should have \"_total\" suffix");
    say(
        is_typed && kind != Kind::Counter && has_total,
        "non-counter metrics should not have \"_total\" suffix",
    );
    say(name.contains(':'), "metric names should not contain ':'");
    say(is_camel_case(name), "metric names should be written in 'snake_case' not 'camelCase'");
    for _ in ABBREVIATIONS.iter().filter(|word| has_word(word)) {
        say(true, "metric names should not contain abbreviated units");
    }
    if let Some((unit, base)) = unit_of(name) {
        say(unit != base, &format!("use base unit \"{base}\" instead of \"{unit}\""));
    }
    let type_name = kind.as_str();
    say(is_typed && has_word(type_name), &format!("metric name should not include type '{type_name}'"));

    let is_histogram = kind == Kind::Histogram;
    let is_summary = kind == Kind::Summary;
    if is_typed {
        let is_simple = !is_histogram && !is_summary;
        say(
            !is_histogram && name.ends_with("_bucket"),
            "non-histogram metrics should not have \"_bucket\" suffix",
        );
        say(
            is_simple && name.ends_with("_count"),
            "non-histogram and non-summary metrics should not have \"_count\" suffix",
        );
        say(
            is_simple && name.ends_with("_sum"),
            "non-histogram and non-summary metrics should not have \"_sum\" suffix",
        );
    }
    for (i, metric) in family.metrics.iter().enumerate() {
        for (label, _) in &metric.labels {
            say(is_camel_case(label), "label names should be written in 'snake_case' not 'camelCase'");
            say(
                is_typed && !is_histogram && label == "le",
                "non-histogram metrics should not have \"le\" label",
            );
            say(
                is_typed && !is_summary && label == "quantile",
                "non-summary metrics should not have \"quantile\" label",
            );
        }
        say(family.metrics[i + 1..].iter().any(|other| other.labels == metric.labels), "metric not unique");
    }
    texts
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

/// The first word of a name that is a unit, perhaps with a prefix, and its base unit.
fn unit_of(name: &str) -> Option<(&str, &'static str)> {
    let base = |word: &str| UNITS.iter().find(|(unit, _)| *unit == word).map(|(_, base)| *base);
    name.split('_').find_map(|word| {
        let prefixed = || PREFIXES.iter().find_map(|prefix| base(word.strip_prefix(prefix)?));
        Some((word, base(word).or_else(prefixed)?))
    })
}
