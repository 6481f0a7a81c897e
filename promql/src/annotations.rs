//! Warnings and infos: what a query says besides its result.
//!
//! Annotations are results, not errors. Equal texts collapse into one, whatever their positions; the position
//! that is evaluated last wins, in whatever order they are found. The repair of decreasing classic buckets is merged instead.
//!
//! Compat: prometheus `util/annotations` (3.14).

use std::cmp::Ordering;
use std::fmt::Write;

use model::number::format_g;
use model::quote::go_quote;

use crate::parse::ast::Span;
use crate::parse::position;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Warning,
    Info,
}

/// Where in the query a remark belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// What is told to the user: often an argument.
    pub(crate) shown: Span,
    /// The whole expression that found it.
    pub(crate) by: Span,
}

impl Place {
    /// The expression `by`, at its own position.
    pub(crate) fn of(by: Span) -> Self {
        Self { shown: by, by }
    }

    /// Whether this expression is evaluated after `other`: arguments before what uses them, left before right.
    fn is_after(self, other: Self) -> bool {
        let key = |by: Span| (by.end, std::cmp::Reverse(by.start));
        key(self.by) >= key(other.by)
    }
}

/// One remark, with the place in the query that it is about.
#[derive(Clone, Debug)]
pub struct Annotation {
    pub severity: Severity,
    text: String,
    place: Place,
    repair: Option<Repair>,
    /// How often it was found, where that is told.
    occurrences: usize,
}

/// How classic buckets had to be repaired, over all steps of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repair {
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_diff: f64,
    /// How many upstream says there were, see [`Repair::counted`].
    pub(crate) count: u64,
    /// How many at the first step that had any.
    pub(crate) at_first: u64,
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
}

impl Repair {
    /// One of step `step` of `steps`, as it weighs in the count.
    ///
    /// Upstream merges what it has found so far with itself at every step, so that the count doubles: `n` becomes
    /// `2 * (n + found)`, but for the first step that finds any, and wraps in the end. Where each occurrence weighs 2 to
    /// the number of steps that are left, counts of rows add up in any order; [`Repair::counted`] does the rest.
    ///
    /// Compat: prometheus `promql/engine.go`, `rangeEval`; `util/annotations`, `Merge`.
    #[must_use]
    pub(crate) fn of_step(self, step: usize, steps: usize) -> Self {
        Self { count: power_of_two(steps - step), at_first: 1, ..self }
    }

    /// What all rows have found, once they are merged; the first of `steps` steps that found any is `first`.
    #[must_use]
    pub(crate) fn counted(self, first: usize, steps: usize) -> Self {
        let too_many = self.at_first.wrapping_mul(power_of_two(steps - first - 1));
        Self { count: self.count.wrapping_sub(too_many), at_first: 0, ..self }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.min_bucket = self.min_bucket.min(other.min_bucket);
        self.max_bucket = self.max_bucket.max(other.max_bucket);
        self.max_diff = self.max_diff.max(other.max_diff);
        self.count = self.count.wrapping_add(other.count);
        match other.mint.cmp(&self.mint) {
            Ordering::Less => self.at_first = other.at_first,
            Ordering::Equal => self.at_first += other.at_first,
            Ordering::Greater => {}
        }
        self.mint = self.mint.min(other.mint);
        self.maxt = self.maxt.max(other.maxt);
    }
}

/// The remarks of one query, in order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    entries: Vec<Annotation>,
}

impl Annotation {
    fn new(severity: Severity, text: String, place: Place) -> Self {
        Self { severity, text, place, repair: None, occurrences: 0 }
    }

    pub(crate) fn warning(text: impl Into<String>, place: Place) -> Self {
        Self::new(Severity::Warning, text.into(), place)
    }

    pub(crate) fn info(text: impl Into<String>, place: Place) -> Self {
        Self::new(Severity::Info, text.into(), place)
    }

    /// Tells how often it was found; counts of equal texts add up.
    #[must_use]
    pub(crate) fn found(self, occurrences: usize) -> Self {
        Self { occurrences, ..self }
    }

    pub(crate) fn invalid_quantile(q: f64, place: Place) -> Self {
        let q = format_g(q);
        Self::new(Severity::Warning, format!("quantile value should be between 0 and 1, got {q}"), place)
    }

    pub(crate) fn invalid_ratio(r: f64, cap: f64, place: Place) -> Self {
        let (r, cap) = (format_g(r), format_g(cap));
        let text = format!("ratio value should be between -1 and 1, got {r}, capping to {cap}");
        Self::new(Severity::Warning, text, place)
    }

    pub(crate) fn bad_bucket_label(le: &[u8], metric: &[u8], place: Place) -> Self {
        let mut text = format!("bucket label \"le\" is missing or has a malformed value of {}", go_quote(le));
        push_metric(&mut text, metric);
        Self::new(Severity::Warning, text, place)
    }

    pub(crate) fn sort_in_range_query(place: Place) -> Self {
        let text = "sort is ineffective for range queries since results are always ordered by labels";
        Self::new(Severity::Warning, text.to_owned(), place)
    }

    pub(crate) fn possible_non_counter(metric: &[u8], place: Place) -> Self {
        let text = format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
            go_quote(metric)
        );
        Self::new(Severity::Info, text, place)
    }

    /// `lhs` and `rhs` are "float" or "histogram".
    pub(crate) fn incompatible_types(lhs: &str, op: &str, rhs: &str, place: Place) -> Self {
        let text = format!(
            "incompatible sample types encountered for binary operator {}: {lhs} {op} {rhs}",
            go_quote(op.as_bytes())
        );
        Self::new(Severity::Info, text, place)
    }

    pub(crate) fn incompatible_layout(op: &str, place: Place) -> Self {
        let text = format!("incompatible bucket layout encountered for binary operator {op}");
        Self::new(Severity::Warning, text, place)
    }

    /// `operation` is "addition", "subtraction" or "aggregation".
    pub(crate) fn resets_collide(operation: &str, place: Place) -> Self {
        let text = format!("conflicting counter resets during histogram {operation}");
        Self::new(Severity::Warning, text, place)
    }

    /// `operation` as in [`Annotation::resets_collide`].
    pub(crate) fn reconciled(operation: &str, place: Place) -> Self {
        let text = format!("mismatched custom buckets were reconciled during {operation}");
        Self::new(Severity::Info, text, place)
    }

    pub(crate) fn mixed_in_aggregation(place: Place) -> Self {
        let text = "encountered a mix of histograms and floats for aggregation";
        Self::new(Severity::Warning, text.to_owned(), place)
    }

    pub(crate) fn mixed_schemas(metric: &[u8], place: Place) -> Self {
        let text = format!(
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
            go_quote(metric)
        );
        Self::new(Severity::Warning, text, place)
    }

    pub(crate) fn ignored_in_aggregation(op: &str, place: Place) -> Self {
        Self::new(Severity::Info, format!("ignored histogram in {op} aggregation"), place)
    }

    pub(crate) fn forced_monotonicity(metric: &[u8], repair: Repair, place: Place) -> Self {
        let mut text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                        https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
            .to_owned();
        push_metric(&mut text, metric);
        Self { repair: Some(repair), ..Self::new(Severity::Info, text, place) }
    }

    pub(crate) fn mixed_classic_native(metric: &[u8], place: Place) -> Self {
        let text = "vector contains a mix of classic and native histograms";
        Self::new(Severity::Warning, of_metric(text, metric), place)
    }

    pub(crate) fn quantile_is_nan(metric: &[u8], place: Place) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is NaN";
        Self::new(Severity::Info, of_metric(text, metric), place)
    }

    pub(crate) fn quantile_is_skewed(metric: &[u8], place: Place) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        Self::new(Severity::Info, of_metric(text, metric), place)
    }

    pub(crate) fn fraction_excludes_nan(metric: &[u8], place: Place) -> Self {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        Self::new(Severity::Info, of_metric(text, metric), place)
    }

    /// The text as upstream renders it, with `(line:col)` of where it was caused in `query`.
    pub fn render(&self, query: &str) -> String {
        let class = match self.severity {
            Severity::Warning => "PromQL warning",
            Severity::Info => "PromQL info",
        };
        let mut out = format!("{class}: {}", self.text);
        if let Some(repair) = &self.repair {
            let _ = write!(
                out,
                ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                format_g(repair.min_bucket),
                format_g(repair.max_bucket),
                two_digits(repair.max_diff),
                repair.count.cast_signed(),
                rfc3339(repair.mint),
                rfc3339(repair.maxt),
            );
        }
        if self.occurrences > 1 {
            let _ = write!(out, " ({} occurrences)", self.occurrences);
        }
        let _ = write!(out, " ({})", position(query, self.place.shown.start as usize));
        out
    }
}

/// Nobody reads more, and each new one is compared to all.
const ENTRIES_MAX: usize = 10_000;

impl Annotations {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.entries.iter()
    }

    pub(crate) fn add(&mut self, annotation: Annotation) {
        let same = |e: &&mut Annotation| e.severity == annotation.severity && e.text == annotation.text;
        let Some(entry) = self.entries.iter_mut().find(same) else {
            if self.entries.len() < ENTRIES_MAX {
                self.entries.push(annotation);
            }
            return;
        };
        if annotation.place.is_after(entry.place) {
            entry.place = annotation.place;
        }
        if let (Some(mine), Some(other)) = (&mut entry.repair, &annotation.repair) {
            mine.merge(other);
        }
        entry.occurrences += annotation.occurrences;
    }

    pub fn merge(&mut self, other: Self) {
        for annotation in other.entries {
            self.add(annotation);
        }
    }

    /// The warnings as texts; with `limit` > 0 at most so many and one line that counts the rest.
    pub fn warnings(&self, query: &str, limit: usize) -> Vec<String> {
        self.render(Severity::Warning, query, limit, "warning")
    }

    /// The infos, as [`Annotations::warnings`].
    pub fn infos(&self, query: &str, limit: usize) -> Vec<String> {
        self.render(Severity::Info, query, limit, "info")
    }

    fn render(&self, severity: Severity, query: &str, limit: usize, word: &str) -> Vec<String> {
        let matching = || self.entries.iter().filter(|e| e.severity == severity);
        let total = matching().count();
        let shown = if limit == 0 { total } else { total.min(limit) };
        let mut out: Vec<String> = matching().take(shown).map(|e| e.render(query)).collect();
        if total > shown {
            out.push(format!("{} more {word} annotations omitted", total - shown));
        }
        out
    }
}

fn of_metric(text: &str, metric: &[u8]) -> String {
    let mut text = text.to_owned();
    push_metric(&mut text, metric);
    text
}

fn power_of_two(exponent: usize) -> u64 {
    u32::try_from(exponent).ok().and_then(|exponent| 1_u64.checked_shl(exponent)).unwrap_or(0)
}

fn push_metric(text: &mut String, metric: &[u8]) {
    if !metric.is_empty() {
        let _ = write!(text, " for metric name {}", go_quote(metric));
    }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return format_g(v);
    }
    let scientific = format!("{v:.1e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("scientific notation has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    if (-4..2).contains(&exponent) {
        let decimals = usize::try_from(1 - exponent).unwrap_or(0);
        let fixed = format!("{v:.decimals$}");
        if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').to_owned() } else { fixed }
    } else {
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    }
}

fn rfc3339(t_ms: i64) -> String {
    let seconds = t_ms.div_euclid(1000);
    let date = crate::exec::calendar::Date::of_unix_seconds(seconds);
    let of_day = seconds.rem_euclid(86_400);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year,
        date.month,
        date.day,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_collapse_and_the_last_position_wins() {
        let mut all = Annotations::default();
        for start in [3, 7] {
            all.add(Annotation::invalid_quantile(1.5, Place::of(Span { start, end: start + 1 })));
        }
        let expected = "PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:8)";
        assert_eq!(all.warnings("0123456789", 0), [expected]);
        assert!(all.infos("", 0).is_empty());
    }

    #[test]
    fn lists_are_capped_and_positions_count_lines() {
        let mut all = Annotations::default();
        for q in 2..15 {
            all.add(Annotation::invalid_quantile(f64::from(q), Place::of(Span { start: 2, end: 3 })));
        }
        let shown = all.warnings("a\nb", 10);
        assert_eq!(shown.len(), 11);
        assert!(shown[0].ends_with("got 2 (2:1)"), "{}", shown[0]);
        assert_eq!(shown[10], "3 more warning annotations omitted");
        assert_eq!(position("", 0), "unknown position");
        assert_eq!(position("x", 5), "invalid position");
    }

    #[test]
    fn counts_of_repairs_double_from_step_to_step() {
        // How many each step of three rows finds, against the rule as it is.
        let found: [&[u64]; 3] = [&[0, 1, 0, 2, 0], &[0, 1, 1, 0, 0], &[0, 0, 3, 0, 0]];
        let one = Repair {
            min_bucket: 0.0,
            max_bucket: 0.0,
            max_diff: 0.0,
            count: 1,
            at_first: 1,
            mint: 0,
            maxt: 0,
        };
        let (mut expected, mut merged) = (0, None::<Repair>);
        for step in 0..5 {
            let here: u64 = found.iter().map(|row| row[step]).sum();
            expected = if expected == 0 { here } else { 2 * (expected + here) };
        }
        for row in found {
            for (step, n) in row.iter().enumerate() {
                let t = i64::try_from(step).unwrap();
                for _ in 0..*n {
                    let this = Repair { mint: t, maxt: t, ..one }.of_step(step, 5);
                    merged = Some(merged.map_or(this, |mut merged| {
                        merged.merge(&this);
                        merged
                    }));
                }
            }
        }
        assert_eq!(merged.unwrap().counted(1, 5).count, expected);
        assert_eq!(one.of_step(0, 1).counted(0, 1).count, 1);
        assert_eq!(one.of_step(0, 200).counted(0, 200).count, 0, "as upstream wraps");
    }

    #[test]
    fn formats_as_go() {
        for (v, text) in [(0.5, "0.5"), (12.0, "12"), (123.0, "1.2e+02"), (0.00001, "1e-05"), (3.24, "3.2")] {
            assert_eq!(two_digits(v), text);
        }
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_582_934_400_000), "2020-02-29T00:00:00Z");
    }
}
