//! What is known to differ and why: `tests/compat/differential.yaml`.

use std::path::Path;

use model::Regex;
use serde::Deserialize;

use super::answer::Answer;
use super::request::Request;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    because: String,
    /// Only beside 3.5.
    #[serde(default)]
    is_old: bool,
    /// Patterns, each found somewhere in the query, in Prometheus' answer, in ours.
    query: Option<String>,
    theirs: Option<String>,
    ours: Option<String>,
}

/// A reason why answers may differ.
pub(crate) struct Known {
    pub(crate) because: String,
    query: Option<Regex>,
    theirs: Option<Regex>,
    ours: Option<Regex>,
}

impl Known {
    pub(crate) fn covers(&self, request: &Request, theirs: &Answer, ours: &Answer) -> bool {
        let fits = |pattern: &Option<Regex>, text: &str| {
            pattern.as_ref().is_none_or(|p| p.is_match(text.as_bytes()))
        };
        fits(&self.query, request.query()) && fits(&self.theirs, &theirs.body) && fits(&self.ours, &ours.body)
    }
}

pub(crate) fn load(is_new: bool) -> Vec<Known> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/differential.yaml");
    let entries: Vec<Entry> = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let compile = |pattern: Option<String>| {
        pattern.map(|p| {
            Regex::unanchored(format!("(?s:{p})").as_bytes()).unwrap_or_else(|e| panic!("{p}: {}", e.0))
        })
    };
    let known = |entry: Entry| {
        let Entry { because, query, theirs, ours, .. } = entry;
        assert!(query.is_some() || theirs.is_some() || ours.is_some(), "{because}: covers everything");
        Known { because, query: compile(query), theirs: compile(theirs), ours: compile(ours) }
    };
    entries.into_iter().filter(|entry| !entry.is_old || !is_new).map(known).collect()
}
