//! Which blocks are too old or too much. Pure.
//!
//! Compat: prometheus `tsdb/db.go`, `BeyondTimeRetention` and `BeyondSizeRetention`.

use super::options::{Retention, millis};

/// What retention looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) max_time: i64,
    pub(crate) size_bytes: u64,
}

/// Positions of the blocks that go, by reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    pub(crate) time: Vec<usize>,
    pub(crate) size: Vec<usize>,
}

/// Chooses among `blocks`; `head_bytes` is what log and head chunks take.
///
/// By time the newest block is the measure and never goes. By size the head counts first, then the blocks from
/// the newest on; the first that passes the bound goes, with all older ones.
pub(crate) fn beyond(blocks: &[Candidate], head_bytes: u64, retention: Retention) -> Beyond {
    let mut newest_first: Vec<usize> = (0..blocks.len()).collect();
    newest_first.sort_by_key(|&i| std::cmp::Reverse(blocks[i].max_time));
    let mut beyond = Beyond::default();
    if let (Some(time), Some(&newest)) = (retention.time, newest_first.first()) {
        let time = millis(time);
        let is_old = |&i: &usize| blocks[newest].max_time.saturating_sub(blocks[i].max_time) >= time;
        let kept = newest_first.iter().skip(1).take_while(|i| !is_old(i)).count() + 1;
        beyond.time = newest_first[kept.min(newest_first.len())..].to_vec();
    }
    if let Some(bound) = retention.size_bytes {
        let mut sum = head_bytes;
        let fits = |&&i: &&usize| {
            sum = sum.saturating_add(blocks[i].size_bytes);
            sum <= bound
        };
        let kept = newest_first.iter().take_while(fits).count();
        beyond.size = newest_first[kept..].to_vec();
    }
    beyond
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn block(max_time: i64) -> Candidate {
        Candidate { max_time, size_bytes: 100 }
    }

    #[test]
    fn time_counts_back_from_the_newest() {
        let blocks = [block(3000), block(9000), block(1000), block(8999)];
        let by = |ms| {
            let time = Some(Duration::from_millis(ms));
            beyond(&blocks, 0, Retention { time, ..Retention::default() }).time
        };
        assert_eq!(by(6000), [0, 2]);
        assert_eq!(by(6001), [2]);
        assert_eq!(by(8001), [0_usize; 0]);
        assert_eq!(by(1), [3, 0, 2]);
        assert_eq!(
            beyond(&blocks[..1], 0, Retention { time: Some(Duration::ZERO), ..Retention::default() }).time,
            [0_usize; 0]
        );
    }

    #[test]
    fn size_counts_the_head_and_may_take_everything() {
        let blocks = [block(1), block(2), block(3)];
        let by = |head, size| {
            beyond(&blocks, head, Retention { size_bytes: Some(size), ..Retention::default() }).size
        };
        assert_eq!(by(0, 300), [0_usize; 0]);
        assert_eq!(by(1, 300), [0]);
        assert_eq!(by(0, 199), [1, 0]);
        assert_eq!(by(250, 300), [2, 1, 0]);
    }
}
