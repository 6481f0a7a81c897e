//! Threads that do nothing but scrape, one runtime each.
//!
//! A target stays on its lane: its socket, its timer and the ingestion of its bodies belong to one thread, so no
//! scrape wakes another thread or waits for one. A runtime that shares its tasks among threads spends more on waking
//! them than a scrape of a thousand samples costs.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::task::TaskTracker;

/// The lanes; none means that loops run where their manager runs.
pub(super) struct Lanes {
    handles: Box<[Handle]>,
}

impl Lanes {
    /// Starts `n` threads, which end when `tasks` is closed and empty.
    pub(super) fn start(n: usize, tasks: &TaskTracker) -> io::Result<Self> {
        let start = |i| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, tasks) = (runtime.handle().clone(), tasks.clone());
            thread::Builder::new()
                .name(format!("scrape-{i}"))
                .spawn(move || runtime.block_on(tasks.wait()))?;
            Ok(handle)
        };
        Ok(Self { handles: (0..n).map(start).collect::<io::Result<_>>()? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// The lane of the target with this hash.
    pub(super) fn of(&self, hash: u64) -> Option<&Handle> {
        let n = self.handles.len();
        // The low bits of the hash say when a target is scraped; the lane must not depend on it.
        let at = usize::try_from(hash >> 33).unwrap_or_default().checked_rem(n)?;
        self.handles.get(at)
    }
}
