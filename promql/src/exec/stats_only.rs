//! Histograms without their buckets, for queries that ask for counts and sums alone.
//!
//! What is lost with the buckets is told beforehand by hints: each sample is compared to the one that was read before
//! it. Which one that is depends on how the samples are read, and can be seen in results: reading goes forward from
//! window to window, and what lies before the reach of the next is skipped and forgotten.
//!
//! Compat: prometheus `promql/histogram_stats_iterator.go`; `storage/buffer.go`, `storage/memoized_iterator.go` (3.14).

use std::sync::Arc;

use model::Timestamp;
use model::histogram::CounterResetHint;

use super::range::At;
use super::stream::{HistogramPoint, Samples};

/// A step on the way through the samples: on to those at `t` or behind, where what lies more than `reach` before `t`
/// need not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seek {
    pub(crate) t: Timestamp,
    pub(crate) reach: i64,
}

/// Removes the buckets of all histograms of a series, stale markers included.
pub(crate) fn strip(samples: &mut Samples, seeks: impl Iterator<Item = Seek>) {
    if samples.histograms.is_empty() {
        return;
    }
    let order = samples.merged();
    let mut reader =
        Reader { points: &samples.histograms, hints: vec![None; samples.histograms.len()], previous: None };
    let time = |at: usize| order.get(at).map(|&at| samples.started(at).t);
    // The sample in front, and its time as far as it is known to the reader.
    let (mut at, mut known) = (0, Timestamp::MIN);
    for Seek { t, reach } in seeks {
        let oldest = t.saturating_sub(reach);
        if oldest > known && time(at).is_some() {
            if time(at).is_some_and(|front| oldest > front) {
                reader.previous = None;
                while time(at).is_some_and(|front| front < oldest) {
                    at += 1;
                }
            }
            known = time(at).unwrap_or(known);
        }
        while let Some(front) = time(at).filter(|&front| front < t) {
            reader.read(order[at]);
            at += 1;
            known = time(at).unwrap_or(front);
        }
        if time(at) == Some(t) {
            reader.read(order[at]);
        }
        if at == order.len() {
            break;
        }
    }
    let hints = reader.hints;
    for (point, hint) in samples.histograms.iter_mut().zip(hints) {
        // Nobody else holds what was just read, so nothing is copied.
        let h = Arc::make_mut(&mut point.value);
        h.clear_buckets();
        (h.zero_threshold, h.zero_count) = (0.0, 0.0);
        h.counter_reset_hint = hint.unwrap_or(h.counter_reset_hint);
    }
}

struct Reader<'a> {
    points: &'a [HistogramPoint],
    hints: Vec<Option<CounterResetHint>>,
    /// The histogram that was read before.
    previous: Option<usize>,
}

impl Reader<'_> {
    fn read(&mut self, at: At) {
        let At::Histogram(i) = at else { return };
        let current = &*self.points[i].value;
        if current.is_stale() {
            return;
        }
        if self.hints[i].is_none() {
            self.hints[i] = Some(match (current.counter_reset_hint, self.previous) {
                (CounterResetHint::Unknown, None) => CounterResetHint::Unknown,
                (CounterResetHint::Unknown, Some(previous)) => {
                    if current.is_reset_after(&self.points[previous].value) {
                        CounterResetHint::CounterReset
                    } else {
                        CounterResetHint::NotCounterReset
                    }
                }
                (known, _) => known,
            });
        }
        self.previous = Some(i);
    }
}

#[cfg(test)]
mod tests;
