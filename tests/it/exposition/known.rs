//! What is known to differ and why: `tests/it/exposition/known.yaml`.

use std::path::{Path, PathBuf};

use model::Regex;
use serde::Deserialize;

use super::case::Case;
use super::seen::Difference;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    because: String,
    /// Only beside 3.5.
    #[serde(default)]
    is_old: bool,
    /// Patterns, each found somewhere: in the case as it is shown, in what differs, in what each server has.
    case: Option<String>,
    what: Option<String>,
    theirs: Option<String>,
    ours: Option<String>,
}

struct Reason {
    because: String,
    case: Option<Regex>,
    what: Option<Regex>,
    theirs: Option<Regex>,
    ours: Option<Regex>,
}

/// All that is known.
pub(super) struct Known(Vec<Reason>);

impl Known {
    pub(super) fn load(is_new: bool) -> Self {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/exposition/known.yaml");
        let further = std::env::var_os("FERULA_EXPOSITION_KNOWN").map(PathBuf::from);
        let mut entries = Vec::new();
        for path in [Some(committed), further].into_iter().flatten() {
            let of_file: Option<Vec<Entry>> =
                serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            entries.extend(of_file.into_iter().flatten());
        }
        let compile = |pattern: Option<String>| {
            pattern.map(|p| {
                Regex::unanchored(format!("(?s:{p})").as_bytes()).unwrap_or_else(|e| panic!("{p}: {}", e.0))
            })
        };
        let reason = |entry: Entry| {
            let Entry { because, case, what, theirs, ours, .. } = entry;
            let is_bounded = case.is_some() || theirs.is_some() || ours.is_some();
            assert!(is_bounded, "{because}: covers everything");
            Reason {
                because,
                case: compile(case),
                what: compile(what),
                theirs: compile(theirs),
                ours: compile(ours),
            }
        };
        let entries = entries.into_iter().filter(|entry| !entry.is_old || !is_new);
        Self(entries.map(reason).collect())
    }

    /// Why a case may differ in this respect.
    pub(super) fn reason(&self, case: &Case, difference: &Difference) -> Option<&str> {
        let shown = case.shown();
        let fits = |pattern: &Option<Regex>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(text.as_bytes()))
        };
        let covers = |reason: &&Reason| {
            fits(&reason.what, &difference.what)
                && fits(&reason.theirs, &difference.theirs)
                && fits(&reason.ours, &difference.ours)
                && fits(&reason.case, &shown)
        };
        self.0.iter().find(covers).map(|reason| &*reason.because)
    }
}
