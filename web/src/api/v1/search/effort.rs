//! How much a search may cost: it looks after its client and the clock as often as it has worked a while, however long the
//! texts are that it compares.
//!
//! Compat: none; upstream looks at its context between values.

use std::time::{Duration, Instant};

use promql::CancelFlag;

use crate::error::{ApiError, ErrorKind};

/// Letters compared between two looks: some tenths of a millisecond.
const PER_LOOK: usize = 1 << 18;

/// Why a search ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nobody waits for it.
    Abandoned,
    TimedOut,
}

impl From<Stop> for ApiError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Abandoned => {
                tracing::debug!("a search ended because its client went away");
                Self::new(ErrorKind::Canceled, "search was canceled")
            }
            Stop::TimedOut => Self::new(ErrorKind::Timeout, "search timed out"),
        }
    }
}

/// Whether somebody waits for the search, and not for too long.
pub(super) fn wanted(cancel: &CancelFlag, began: Instant, timeout: Duration) -> Result<(), Stop> {
    if cancel.is_canceled() {
        return Err(Stop::Abandoned);
    }
    if began.elapsed() >= timeout {
        return Err(Stop::TimedOut);
    }
    Ok(())
}

pub(super) struct Effort<'l> {
    look: &'l mut dyn FnMut() -> Result<(), Stop>,
    /// Letters until the next look.
    left: usize,
}

impl<'l> Effort<'l> {
    pub(super) fn new(look: &'l mut dyn FnMut() -> Result<(), Stop>) -> Self {
        Self { look, left: PER_LOOK }
    }

    /// Looks, once so many letters have been compared.
    pub(super) fn spend(&mut self, letters: usize) -> Result<(), Stop> {
        match self.left.checked_sub(letters) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.look(),
        }
    }

    pub(super) fn look(&mut self) -> Result<(), Stop> {
        self.left = PER_LOOK;
        (self.look)()
    }
}
