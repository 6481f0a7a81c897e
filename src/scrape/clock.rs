//! What time it is, for those who need the wall's word and for tests that bring their own.
//!
//! Waiting is tokio's business, whose clock tests can pause; this is only the wall clock beside it.

use std::time::{SystemTime, UNIX_EPOCH};

use model::Timestamp;

/// A source of wall time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the epoch.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A clock 292 million years ahead is wrong anyway.
        Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
    }
}
