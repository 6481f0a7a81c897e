//! What differs between expected and found alerts, in colours of a terminal.
//!
//! Compat: `nsf/jsondiff`, `Compare` with the options for consoles, on lists of labels and annotations.

use std::collections::{BTreeMap, BTreeSet};

use model::quote::go_quote;

use super::case::Shown;

const INDENT: &str = "    ";
const ADDED: &str = "\u{1b}[0;32m";
const REMOVED: &str = "\u{1b}[0;31m";
const CHANGED: &str = "\u{1b}[0;33m";
const PLAIN: &str = "\u{1b}[0m";

/// The lists side by side; an empty one counts as an alert without labels.
pub(super) fn alerts(mut expected: Vec<Shown>, mut got: Vec<Shown>) -> String {
    for list in [&mut expected, &mut got] {
        if list.is_empty() {
            list.push(Shown::default());
        }
    }
    let count = expected.len().max(got.len());
    let items = (0..count).map(|i| match (expected.get(i), got.get(i)) {
        (Some(a), Some(b)) => object(
            &[
                ("Annotations", map(&a.annotations, &b.annotations, 2)),
                ("Labels", map(&a.labels, &b.labels, 2)),
            ]
            .map(|(name, text)| format!("{}: {text}", go_quote(name.as_bytes()))),
            1,
        ),
        (Some(only), None) => coloured(REMOVED, &whole(only)),
        (None, Some(only)) => coloured(ADDED, &whole(only)),
        (None, None) => String::new(),
    });
    braced('[', &items.collect::<Vec<_>>(), ']', 0)
}

fn braced(open: char, items: &[String], close: char, level: usize) -> String {
    if items.is_empty() {
        return format!("{open}{close}");
    }
    let (inner, outer) = (INDENT.repeat(level + 1), INDENT.repeat(level));
    let items = items.join(&format!(",\n{inner}"));
    format!("{open}\n{inner}{items}\n{outer}{close}")
}

fn object(fields: &[String], level: usize) -> String {
    braced('{', fields, '}', level)
}

fn map(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, level: usize) -> String {
    let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let quote = |text: &str| go_quote(text.as_bytes());
    let fields = names.into_iter().map(|name| {
        let field = |value: &str| format!("{}: {}", quote(name), quote(value));
        match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) if a == b => field(a),
            (Some(a), Some(b)) => {
                format!("{}: {}", quote(name), coloured(CHANGED, &format!("{} => {}", quote(a), quote(b))))
            }
            (Some(only), None) => coloured(REMOVED, &field(only)),
            (None, Some(only)) => coloured(ADDED, &field(only)),
            (None, None) => String::new(),
        }
    });
    object(&fields.collect::<Vec<_>>(), level)
}

/// An alert that only one side has.
fn whole(alert: &Shown) -> String {
    let one = |name: &str, labels: &BTreeMap<String, String>| {
        format!("{}: {}", go_quote(name.as_bytes()), map(labels, labels, 2))
    };
    object(&[one("Annotations", &alert.annotations), one("Labels", &alert.labels)], 1)
}

/// Every line in the colour by itself, its indentation not.
fn coloured(colour: &str, text: &str) -> String {
    let line = |line: &str| {
        let blank = line.len() - line.trim_start_matches(' ').len();
        format!("{}{colour}{}{PLAIN}", &line[..blank], &line[blank..])
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
