//! Exemplars: single observations kept beside a series, with labels of their own (a trace id, mostly).
//!
//! Compat: prometheus `model/exemplar`.

use crate::{Labels, Timestamp};

/// The most characters that names and values of an exemplar's labels may have together.
/// Compat: prometheus `model/exemplar`, `ExemplarMaxLabelSetLength`.
pub const LABEL_CHARS_MAX: usize = 128;

/// One observation.
#[derive(Clone, Debug)]
pub struct Exemplar {
    pub labels: Labels,
    pub v: f64,
    pub t: Timestamp,
    /// Whether `t` came with it. Else it is that of the sample, and the same labels and value with every scrape are
    /// the same observation.
    pub has_own_t: bool,
}

/// The exemplars of one series, oldest first.
#[derive(Clone, Debug)]
pub struct SeriesExemplars {
    pub series: Labels,
    pub exemplars: Vec<Exemplar>,
}
