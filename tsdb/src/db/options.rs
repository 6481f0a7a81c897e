//! How the store is set up: upstream's flags and the `storage.tsdb` section, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::block::chunks::SEGMENT_BYTES_DEFAULT;
use crate::head::Features;
use crate::wal::Compression;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// What is kept when no retention is configured.
pub const RETENTION_DEFAULT: Duration = DAY.saturating_mul(15);
/// No block grows longer by itself.
const MAX_BLOCK: Duration = DAY.saturating_mul(31);

/// The settings of a [`super::Db`].
#[derive(Clone, Debug)]
pub struct Options {
    pub retention: Retention,
    /// `storage.tsdb.min-block-duration`: the span of a block from the head.
    pub min_block: Duration,
    /// `storage.tsdb.max-block-duration`; by default a tenth of the retention, at most 31 days.
    pub max_block: Option<Duration>,
    /// `storage.tsdb.max-block-chunk-segment-size`.
    pub max_block_chunk_segment_bytes: u64,
    /// `storage.tsdb.wal-segment-size`.
    pub wal_segment_bytes: u64,
    /// `storage.tsdb.wal-compression` and `storage.tsdb.wal-compression-type`.
    pub wal_compression: Compression,
    /// How long a power cut may undo what was acknowledged; zero syncs as upstream, when a segment ends.
    pub wal_sync_interval: Duration,
    /// `storage.tsdb.out_of_order_time_window`: how much older than the newest sample a late one may be; zero refuses
    /// all that come out of order.
    pub out_of_order_window: Duration,
    /// How often the head is written to a file of ours that makes the next start fast; `None` for never.
    pub head_snapshot_interval: Option<Duration>,
    /// The most series in the head; new ones beyond it are refused. 0 for no limit.
    pub head_series_limit: u64,
    /// `storage.tsdb.no-lockfile`: for file systems that cannot lock.
    pub no_lockfile: bool,
    /// `storage.tsdb.stale_series_compaction_threshold`: series that ended are written out early once they are such a
    /// share of all; 0 for never.
    pub stale_series_threshold: f64,
    /// What of `enable-feature` changes what is stored.
    pub features: Features,
    /// `storage.tsdb.allow-overlapping-compaction`.
    pub merge_overlapping: bool,
    /// `storage.tsdb.delay-compact-file.path`: blocks fresh from the head are merged once this file lists them.
    pub upload_list: Option<PathBuf>,
    /// The feature `delayed-compaction`: the head is written out late by a random time of up to so many hundredths of
    /// its block's span, so that servers started together do not all write at once. 0 for never late.
    pub compaction_delay_percent: u8,
}

/// How long and how much is kept; zero and `None` set no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retention {
    pub time: Option<Duration>,
    pub size_bytes: Option<u64>,
    /// Of the whole file system; goes before the size.
    pub percentage: f64,
}

impl Retention {
    /// With zeros taken as unset.
    #[must_use]
    pub fn normalized(self) -> Self {
        Self {
            time: self.time.filter(|time| !time.is_zero()),
            size_bytes: self.size_bytes.filter(|&size| size > 0),
            percentage: self.percentage.max(0.0),
        }
    }

    /// What flags say: fifteen days if they set no bound.
    /// Compat: prometheus `cmd/prometheus`, `storage.tsdb.retention.time`.
    #[must_use]
    pub fn or_default(self) -> Self {
        let set = self.normalized();
        if set == Self::default() { Self { time: Some(RETENTION_DEFAULT), ..set } } else { set }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Retention::default().or_default(),
            min_block: HOUR * 2,
            max_block: None,
            max_block_chunk_segment_bytes: SEGMENT_BYTES_DEFAULT,
            wal_segment_bytes: 128 << 20,
            wal_compression: Compression::Snappy,
            wal_sync_interval: Duration::from_secs(5),
            out_of_order_window: Duration::ZERO,
            head_snapshot_interval: Some(Duration::from_mins(5)),
            head_series_limit: 0,
            no_lockfile: false,
            stale_series_threshold: 0.0,
            features: Features::default(),
            merge_overlapping: true,
            upload_list: None,
            compaction_delay_percent: 0,
        }
    }
}

impl Options {
    /// The spans blocks grow through, in ms.
    pub(crate) fn block_ranges(&self) -> Vec<i64> {
        let by_retention =
            self.retention.normalized().time.map_or(MAX_BLOCK, |time| time / 10).min(MAX_BLOCK);
        let max_block = self.max_block.unwrap_or(by_retention);
        crate::compact::plan::ranges(millis(self.min_block).max(1), millis(max_block))
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_upstreams() {
        let hour = 3_600_000;
        assert_eq!(Options::default().block_ranges(), [2 * hour, 6 * hour, 18 * hour]);
        let unbounded = Retention::default();
        let by_size =
            Options { retention: Retention { size_bytes: Some(1 << 30), ..unbounded }, ..Options::default() };
        assert_eq!(by_size.block_ranges().last(), Some(&(486 * hour)));
        let short = Options { max_block: Some(HOUR), ..Options::default() };
        assert_eq!(short.block_ranges(), [2 * hour]);
        assert_eq!(
            Retention { time: Some(Duration::ZERO), size_bytes: Some(0), percentage: 0.0 }.or_default().time,
            Some(RETENTION_DEFAULT)
        );
    }
}
