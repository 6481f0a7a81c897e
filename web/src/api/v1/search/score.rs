//! How well a name fits what somebody types: substrings, subsequences and Jaro-Winkler similarity.
//!
//! Scores are compared with upstream's to the last bit, so the order of additions matters.
//!
//! Compat: prometheus `web/api/v1/search_filters.go` and `util/strutil`.

use super::effort::{Effort, Stop};

/// A subsequence that is not the whole text scores below whatever begins with the term.
const INEXACT: f64 = 0.999;

/// What a substring at the very end loses.
const SUBSTRING_SPAN: f64 = 0.9;

/// Jaro-Winkler: what a common prefix gains, and the longest that counts.
const PREFIX_GAIN: f64 = 0.1;
const PREFIX_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Subsequence,
    JaroWinkler,
}

impl Algorithm {
    pub(super) const ALL: [Self; 2] = [Self::Subsequence, Self::JaroWinkler];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Subsequence => "subsequence",
            Self::JaroWinkler => "jarowinkler",
        }
    }
}

/// What is wanted: any of some terms.
#[derive(Debug)]
pub(super) struct Filter {
    terms: Vec<Term>,
    algorithm: Algorithm,
    /// 0 to 1: the least score of a match that is no substring.
    threshold: f64,
    folds_case: bool,
}

#[derive(Debug)]
struct Term {
    text: String,
    chars: Vec<char>,
}

impl Filter {
    /// `None` if no term is left that says anything: then everything fits.
    pub(super) fn new<'t>(
        terms: impl IntoIterator<Item = &'t str>,
        algorithm: Algorithm,
        threshold_percent: u8,
        is_case_sensitive: bool,
    ) -> Option<Self> {
        let folded = |text: &str| if is_case_sensitive { text.to_owned() } else { lowercase(text) };
        let terms: Vec<_> = terms
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(folded)
            .map(|text| Term { chars: text.chars().collect(), text })
            .collect();
        let threshold = f64::from(threshold_percent) / 100.0;
        (!terms.is_empty()).then_some(Self { terms, algorithm, threshold, folds_case: !is_case_sensitive })
    }

    /// The best score that a term gives `value`; `None` if none fits.
    pub(super) fn score(&self, value: &str, effort: &mut Effort<'_>) -> Result<Option<f64>, Stop> {
        let folded;
        let value = if self.folds_case {
            folded = lowercase(value);
            &folded
        } else {
            value
        };
        let mut best = None;
        for term in &self.terms {
            let Some(score) = self.score_of(term, value, effort)? else { continue };
            if best.is_none_or(|best| score > best) {
                best = Some(score);
            }
            if score >= 1.0 {
                break;
            }
        }
        Ok(best)
    }

    fn score_of(&self, term: &Term, value: &str, effort: &mut Effort<'_>) -> Result<Option<f64>, Stop> {
        effort.spend(term.text.len() + value.len())?;
        let found = match self.algorithm {
            Algorithm::Subsequence if value.starts_with(&term.text) => Some(1.0),
            // None at all is no match, whatever the threshold.
            Algorithm::Subsequence => Some(subsequence(term, value, effort)?)
                .filter(|&score| score > 0.0 && score >= self.threshold),
            Algorithm::JaroWinkler => match substring(term, value) {
                None if self.threshold > 0.0 => {
                    Some(jaro_winkler(term, value, effort)?).filter(|&score| score >= self.threshold)
                }
                found => found,
            },
        };
        Ok(found)
    }
}

/// Letter by letter, as Go's `strings.ToLower`.
fn lowercase(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

/// 1 for a prefix, less the later the term begins.
fn substring(term: &Term, value: &str) -> Option<f64> {
    let at = value.find(&term.text)?;
    if at == 0 {
        return Some(1.0);
    }
    let position = value[..at].chars().count();
    let last = value.chars().count().saturating_sub(term.chars.len());
    Some(if last == 0 { 1.0 } else { 1.0 - SUBSTRING_SPAN * position as f64 / last as f64 })
}

/// How tightly the letters of the term stand in the value, in order; 0 if they do not.
fn subsequence(term: &Term, value: &str, effort: &mut Effort<'_>) -> Result<f64, Stop> {
    if term.text == value {
        return Ok(1.0);
    }
    if term.text.len() > value.len() {
        return Ok(0.0);
    }
    let best = if term.text.is_ascii() && value.is_ascii() {
        tightest(term.text.as_bytes(), value.as_bytes(), effort)?
    } else {
        tightest(&term.chars, &value.chars().collect::<Vec<_>>(), effort)?
    };
    let n = term.chars.len();
    Ok(best.map_or(0.0, |best| best / (n * n) as f64 * INEXACT))
}

/// The best over all places where the pattern may begin, if it is not negative.
fn tightest<T: PartialEq>(pattern: &[T], text: &[T], effort: &mut Effort<'_>) -> Result<Option<f64>, Stop> {
    let starts = (text.len() + 1).saturating_sub(pattern.len());
    let mut best = None;
    for start in (0..starts).filter(|&start| text[start] == pattern[0]) {
        effort.spend(text.len() - start)?;
        // What cannot be completed from here cannot be from any later place.
        let Some(score) = tightness(pattern, text, start) else { break };
        if score >= 0.0 && best.is_none_or(|best| score > best) {
            best = Some(score);
        }
    }
    Ok(best)
}

/// Squares of the lengths of runs, less the gaps before them as a share of the text, the one behind the last by half.
fn tightness<T: PartialEq>(pattern: &[T], text: &[T], start: usize) -> Option<f64> {
    let share = 1.0 / text.len() as f64;
    let mut score = 0.0;
    let (mut matched, mut end) = (0, 0);
    let mut at = start;
    while matched < pattern.len() {
        at += text[at..].iter().position(|c| *c == pattern[matched])?;
        let run = text[at..].iter().zip(&pattern[matched..]).take_while(|(a, b)| a == b).count();
        if at > end {
            score -= (at - end) as f64 * share;
        }
        score += (run * run) as f64;
        matched += run;
        at += run;
        end = at;
    }
    if text.len() > end {
        score -= (text.len() - end) as f64 * share * 0.5;
    }
    Some(score)
}

/// Letters in common, near the same place and in the same order, with a bonus for a common beginning.
fn jaro_winkler(term: &Term, value: &str, effort: &mut Effort<'_>) -> Result<f64, Stop> {
    if term.text == value {
        return Ok(1.0);
    }
    if value.is_empty() {
        return Ok(0.0);
    }
    if term.text.is_ascii() && value.is_ascii() {
        return similarity(term.text.as_bytes(), value.as_bytes(), effort);
    }
    similarity(&term.chars, &value.chars().collect::<Vec<_>>(), effort)
}

fn similarity<T: PartialEq>(a: &[T], b: &[T], effort: &mut Effort<'_>) -> Result<f64, Stop> {
    let (short, long) = if a.len() > b.len() { (b, a) } else { (a, b) };
    let reach = (long.len() / 2).saturating_sub(1);
    let mut is_taken = vec![false; long.len()];
    // The indices of the short text's letters that have a partner.
    let mut paired = Vec::with_capacity(short.len());
    for (i, c) in short.iter().enumerate() {
        let window = i.saturating_sub(reach)..(i + reach + 1).min(long.len());
        effort.spend(window.len())?;
        if let Some(j) = window.into_iter().find(|&j| !is_taken[j] && long[j] == *c) {
            is_taken[j] = true;
            paired.push(i);
        }
    }
    if paired.is_empty() {
        return Ok(0.0);
    }
    let partners = (0..long.len()).filter(|&j| is_taken[j]);
    let displaced = paired.iter().zip(partners).filter(|&(&i, j)| short[i] != long[j]).count();
    let n = paired.len() as f64;
    let (per_short, per_long) = (1.0 / short.len() as f64, 1.0 / long.len() as f64);
    let jaro = (n * per_short + n * per_long + (n - displaced as f64 * 0.5) / n) / 3.0;
    let prefix = short.iter().zip(long).take(PREFIX_MAX).take_while(|(a, b)| a == b).count();
    Ok(jaro + prefix as f64 * PREFIX_GAIN * (1.0 - jaro))
}

#[cfg(test)]
mod tests {
    use super::super::effort::Effort;
    use super::{Algorithm, Filter};

    fn score(terms: &[&str], algorithm: Algorithm, threshold: u8, value: &str) -> Option<f64> {
        scored(&Filter::new(terms.iter().copied(), algorithm, threshold, true).unwrap(), value)
    }

    fn scored(filter: &Filter, value: &str) -> Option<f64> {
        filter.score(value, &mut Effort::new(&mut || Ok(()))).unwrap()
    }

    #[test]
    fn subsequences_score_by_their_runs() {
        let of = |term, value| score(&[term], Algorithm::Subsequence, 0, value);
        assert_eq!(of("node", "node_cpu"), Some(1.0), "a prefix");
        assert_eq!(of("node", "node"), Some(1.0));
        assert_eq!(of("node", "nod"), None);
        assert_eq!(of("cpu", "node"), None);
        // A run of 3 after 5 letters of 8, nothing behind it.
        assert_eq!(of("cpu", "node_cpu"), Some((9.0 - 5.0 * (1.0 / 8.0)) / 9.0 * 0.999));
        // n, then c after a gap of 4; two letters behind.
        assert_eq!(of("nc", "node_cpu"), Some((1.0 - 4.0 / 8.0 + 1.0 - 2.0 / 8.0 * 0.5) / 4.0 * 0.999));
        assert_eq!(of("ü", "grün"), Some((1.0 - 2.0 / 4.0 - 1.0 / 4.0 * 0.5) * 0.999));
        assert_eq!(of("ü", "gruen"), None);
        assert_eq!(score(&["cpu"], Algorithm::Subsequence, 94, "node_cpu"), None, "below the threshold");
        assert!(score(&["cpu"], Algorithm::Subsequence, 92, "node_cpu").is_some());
    }

    #[test]
    fn substrings_score_by_their_place() {
        let of = |term, value| score(&[term], Algorithm::JaroWinkler, 0, value);
        assert_eq!(of("node", "node_cpu"), Some(1.0));
        assert_eq!(of("cpu", "node_cpu"), Some(1.0 - 0.9 * 5.0 / 5.0));
        assert_eq!(of("de", "node_cpu"), Some(1.0 - 0.9 * 2.0 / 6.0));
        assert_eq!(of("ün", "grünün"), Some(1.0 - 0.9 * 2.0 / 4.0));
        assert_eq!(of("ncpu", "node_cpu"), None, "without a threshold nothing fuzzy fits");
    }

    #[test]
    fn similar_texts_fit_above_the_threshold() {
        let of = |term, threshold, value| score(&[term], Algorithm::JaroWinkler, threshold, value);
        // The textbook's examples.
        let close = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-4;
        assert!(close(of("martha", 1, "marhta"), 0.9611));
        assert!(close(of("dixon", 1, "dicksonx"), 0.8133));
        assert_eq!(of("dixon", 82, "dicksonx"), None);
        assert_eq!(of("abc", 1, "xyz"), None, "0 is below every threshold but 0");
    }

    #[test]
    fn the_best_of_several_terms_counts_and_case_may_not() {
        assert_eq!(score(&["zz", "cpu", "node"], Algorithm::Subsequence, 0, "node_cpu"), Some(1.0));
        assert!(Filter::new(["", ""], Algorithm::Subsequence, 0, true).is_none());
        let folding = Filter::new(["NODE", "ÜB"], Algorithm::Subsequence, 0, false).unwrap();
        assert_eq!(scored(&folding, "Node_cpu"), Some(1.0));
        assert_eq!(scored(&folding, "übung"), Some(1.0));
        assert_eq!(score(&["NODE"], Algorithm::Subsequence, 0, "node"), None);
    }
}
