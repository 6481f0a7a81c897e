//! Points and spans of time as the store and the engine count them.

/// Milliseconds since the Unix epoch; may be negative.
pub type Timestamp = i64;

/// A span of time with both ends inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub mint: Timestamp,
    pub maxt: Timestamp,
}

impl TimeRange {
    /// Every representable time.
    pub const ALL: Self = Self { mint: i64::MIN, maxt: i64::MAX };

    pub const fn new(mint: Timestamp, maxt: Timestamp) -> Self {
        Self { mint, maxt }
    }

    pub const fn contains(self, t: Timestamp) -> bool {
        self.mint <= t && t <= self.maxt
    }

    pub const fn overlaps(self, other: Self) -> bool {
        self.mint <= other.maxt && other.mint <= self.maxt
    }
}
