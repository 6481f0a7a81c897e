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
    /// It explains all that differs in the case.
    #[serde(default)]
    whole: bool,
    /// It explains no more than what servers make of the series of failed scrapes.
    #[serde(default)]
    of_failed: bool,
    /// Patterns, each found somewhere: in the case as it is shown, in what differs, in what each server has.
    case: Option<String>,
    what: Option<String>,
    theirs: Option<String>,
    ours: Option<String>,
}

struct Reason {
    because: String,
    whole: bool,
    of_failed: bool,
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
            let Entry { because, whole, of_failed, case, what, theirs, ours, .. } = entry;
            let is_bounded = of_failed || case.is_some() || theirs.is_some() || ours.is_some();
            assert!(is_bounded, "{because}: covers everything");
            Reason {
                because,
                whole,
                of_failed,
                case: compile(case),
                what: compile(what),
                theirs: compile(theirs),
                ours: compile(ours),
            }
        };
        let entries = entries.into_iter().filter(|entry| !entry.is_old || !is_new);
        Self(entries.map(reason).collect())
    }

    /// Why a case may differ in each of these respects.
    pub(super) fn reasons(&self, case: &Case, differences: &[Difference]) -> Vec<Option<&str>> {
        let shown = case.shown();
        let fits = |pattern: &Option<Regex>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(text.as_bytes()))
        };
        let covers = |reason: &Reason, difference: &Difference| {
            (!reason.of_failed || difference.of_failed)
                && fits(&reason.what, &difference.what)
                && fits(&reason.theirs, &difference.theirs)
                && fits(&reason.ours, &difference.ours)
                && fits(&reason.case, &shown)
        };
        let of = |difference: &Difference| self.0.iter().find(|reason| covers(reason, difference));
        let found: Vec<_> = differences.iter().map(of).collect();
        let whole = found.iter().flatten().find(|reason| reason.whole).copied();
        found.iter().map(|reason| reason.or(whole).map(|reason| &*reason.because)).collect()
    }
}
