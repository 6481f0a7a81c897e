//! What is known to differ and why: `tests/it/differential/known.yaml`.

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
    /// Patterns, each found somewhere in the query, in the error (or else the whole answer) of Prometheus, in ours.
    query: Option<String>,
    theirs: Option<String>,
    ours: Option<String>,
    /// Of an annotation that has this text, what follows up to the position is not compared.
    cut_annotations_at: Option<String>,
    /// The position of an annotation that has this text is not compared.
    unplaced: Option<String>,
    /// Series listed behind this text in an error are compared in any order.
    unordered_behind: Option<String>,
}

/// All that is known.
#[derive(Default)]
pub(crate) struct Known {
    reasons: Vec<Reason>,
    /// See [`Entry::cut_annotations_at`].
    cuts: Vec<String>,
    /// See [`Entry::unplaced`].
    unplaced: Vec<String>,
    /// See [`Entry::unordered_behind`].
    lists: Vec<String>,
}

/// A reason why answers may differ.
struct Reason {
    because: String,
    query: Option<Regex>,
    theirs: Option<Regex>,
    ours: Option<Regex>,
}

impl Known {
    /// Why these answers may differ.
    pub(crate) fn reason(&self, request: &Request, theirs: &Answer, ours: &Answer) -> Option<&str> {
        let fits = |pattern: &Option<Regex>, text: &str| {
            pattern.as_ref().is_none_or(|p| p.is_match(text.as_bytes()))
        };
        let (theirs, ours) = (theirs.told(), ours.told());
        let covers = |reason: &&Reason| {
            fits(&reason.query, request.query()) && fits(&reason.theirs, &theirs) && fits(&reason.ours, &ours)
        };
        self.reasons.iter().find(covers).map(|reason| &*reason.because)
    }

    /// An error as it is compared.
    pub(crate) fn compared_error(&self, error: &str) -> String {
        let list = self.lists.iter().find_map(|list| Some(error.find(list)? + list.len()));
        let Some(end) = list.and_then(|from| Some(from + error[from..].find("}]")?)) else {
            return error.to_owned();
        };
        let from = list.unwrap_or(end);
        let mut series: Vec<_> = error[from..end].split("}, {").collect();
        series.sort_unstable();
        format!("{}{}{}", &error[..from], series.join("}, {"), &error[end..])
    }

    /// The part of an annotation that is compared.
    pub(crate) fn compared(&self, annotation: &str) -> String {
        let place = annotation.rfind(" (").unwrap_or(annotation.len());
        let cut = self.cuts.iter().filter_map(|cut| annotation.find(cut)).min().unwrap_or(place).min(place);
        let is_placed = !self.unplaced.iter().any(|text| annotation.contains(text));
        format!("{}{}", &annotation[..cut], if is_placed { &annotation[place..] } else { "" })
    }
}

pub(crate) fn load(is_new: bool) -> Known {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/differential/known.yaml");
    let entries: Vec<Entry> = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let compile = |pattern: Option<String>| {
        pattern.map(|p| {
            Regex::unanchored(format!("(?s:{p})").as_bytes()).unwrap_or_else(|e| panic!("{p}: {}", e.0))
        })
    };
    let mut known = Known::default();
    for entry in entries.into_iter().filter(|entry| !entry.is_old || !is_new) {
        let Entry { because, query, theirs, ours, cut_annotations_at, unordered_behind, unplaced, .. } =
            entry;
        if cut_annotations_at.is_some() || unordered_behind.is_some() || unplaced.is_some() {
            known.unplaced.extend(unplaced);
            known.cuts.extend(cut_annotations_at);
            known.lists.extend(unordered_behind);
            continue;
        }
        assert!(query.is_some() || theirs.is_some() || ours.is_some(), "{because}: covers everything");
        known.reasons.push(Reason {
            because,
            query: compile(query),
            theirs: compile(theirs),
            ours: compile(ours),
        });
    }
    known
}
