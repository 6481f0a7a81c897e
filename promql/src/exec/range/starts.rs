//! What start times tell of two samples that follow each other. A start time of 0 is not known.
//!
//! Compat: prometheus `promql/functions.go` (3.14), `isStartTimestampReset`, `checkStartTimeOverlap`.

use model::Timestamp;

/// The time of a sample, and since when it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) st: Timestamp,
    pub(crate) t: Timestamp,
}

/// Whether counting began anew between two samples.
pub(super) fn is_reset(previous: Started, current: Started) -> bool {
    if current.st == 0 || current.st >= current.t || current.st < previous.t {
        return false;
    }
    // One that counts from the sample before is the next of a row of deltas if that has a sensible start time itself;
    // else it is a counter whose start nobody knows.
    current.st > previous.t || (previous.st != 0 && previous.st < previous.t)
}

/// Whether a sample counts since before the one that it follows, though not since the same time.
pub(super) fn overlaps(previous: Started, current: Started) -> bool {
    current.st != 0 && current.st < previous.t && current.st != previous.st
}

/// The start time of the first sample of a window, if that lies inside it.
pub(super) fn inside(first: Started, window_start: Timestamp) -> Option<Timestamp> {
    (first.st != 0 && first.st > window_start && first.st < first.t).then_some(first.st)
}
