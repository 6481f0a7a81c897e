//! Who is appending, so that a truncation can tell when nobody holds any more what it wants to free.
//!
//! An appender opened before a series was marked to leave may hold a sample for it without having seen the mark;
//! one opened later sees it. So a mark is acted upon once all that were open when it was set have closed.
//!
//! Compat: prometheus `tsdb`, `memSeries.pendingCommit`, in what it protects, not in how.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Which truncation was the last one when an appender opened, and the appender's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    epoch: u64,
    id: u64,
}

/// The appenders that are open.
#[derive(Debug, Default)]
pub(super) struct Appenders {
    open: Mutex<Open>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    epoch: u64,
    /// How many are open by epoch, oldest first; only the newest may be none.
    counts: VecDeque<(u64, usize)>,
    /// The number of the newest appender.
    last_id: u64,
    ids: BTreeSet<u64>,
}

impl Appenders {
    pub(super) fn enter(&self) -> Epoch {
        let mut open = self.open.lock();
        let epoch = open.epoch;
        match open.counts.back_mut() {
            Some((newest, n)) if *newest == epoch => *n += 1,
            _ => {
                open.counts.push_back((epoch, 1));
                open.drop_empty();
            }
        }
        open.last_id += 1;
        let id = open.last_id;
        open.ids.insert(id);
        Epoch { epoch, id }
    }

    pub(super) fn leave(&self, Epoch { epoch, id }: Epoch) {
        let mut open = self.open.lock();
        open.ids.remove(&id);
        let count = open.counts.iter_mut().find(|(of, _)| *of == epoch);
        count.expect("an epoch with an open appender stays in the list").1 -= 1;
        open.drop_empty();
        drop(open);
        self.closed.notify_all();
    }

    pub(super) fn n_open(&self) -> usize {
        self.open.lock().counts.iter().map(|(_, n)| n).sum()
    }

    /// The numbers of the oldest appender that is open, or else the newest there was, and of the newest.
    /// Compat: prometheus `tsdb`, `isolation.lowWatermark`, without readers, which hold up nobody here.
    pub(super) fn watermarks(&self) -> (u64, u64) {
        let open = self.open.lock();
        (open.ids.first().copied().unwrap_or(open.last_id), open.last_id)
    }

    /// Waits until every appender that is open now has closed; false if that takes too long.
    pub(super) fn outlive(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut open = self.open.lock();
        open.epoch += 1;
        let epoch = open.epoch;
        while open.counts.iter().any(|&(of, n)| of < epoch && n > 0) {
            if self.closed.wait_until(&mut open, until).timed_out() {
                return false;
            }
        }
        true
    }
}

impl Open {
    fn drop_empty(&mut self) {
        while self.counts.len() > 1 && self.counts.front().is_some_and(|&(_, n)| n == 0) {
            self.counts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_appenders_are_waited_for_and_newer_ones_are_not() {
        let appenders = Appenders::default();
        assert!(appenders.outlive(Duration::ZERO));
        let old = appenders.enter();
        assert!(!appenders.outlive(Duration::ZERO));
        let new = appenders.enter();
        assert_ne!(old, new);
        assert_eq!(appenders.n_open(), 2);
        assert_eq!(appenders.watermarks(), (1, 2));
        appenders.leave(new);
        assert!(!appenders.outlive(Duration::ZERO), "the oldest is still open");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| appenders.outlive(Duration::from_mins(1)));
            appenders.leave(old);
            assert!(waiting.join().unwrap());
        });
        assert_eq!(appenders.n_open(), 0);
        assert_eq!(appenders.watermarks(), (2, 2));
    }
}
