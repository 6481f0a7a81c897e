//! What a query may use: time, samples and bytes, and the flag by which its client calls it off.
//!
//! Samples are counted as upstream does, a float point as one, but never more strictly: only what an
//! operator holds at once. Bytes are charged before they are allocated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::engine::{Error, Lane};

/// Raised by the client of a query when it no longer wants the answer.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all queries of an engine may hold together.
///
/// A quarter is for rules alone: results that are read slowly are held for long, and no alert may be missed for them.
#[derive(Debug)]
pub(crate) struct Total {
    bytes: AtomicUsize,
    /// The part of `bytes` that is not of rules.
    ad_hoc_bytes: AtomicUsize,
    bytes_max: usize,
    ad_hoc_bytes_max: usize,
}

impl Total {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            ad_hoc_bytes: AtomicUsize::new(0),
            bytes_max,
            ad_hoc_bytes_max: bytes_max - bytes_max / 4,
        })
    }

    /// Adds to the account of `lane`, unless that is more than the number of bytes that is returned.
    fn reserve(&self, bytes: usize, lane: Lane) -> Result<(), usize> {
        let is_ad_hoc = lane == Lane::AdHoc;
        if is_ad_hoc && !reserve(&self.ad_hoc_bytes, bytes, self.ad_hoc_bytes_max) {
            return Err(self.ad_hoc_bytes_max);
        }
        if reserve(&self.bytes, bytes, self.bytes_max) {
            return Ok(());
        }
        if is_ad_hoc {
            self.ad_hoc_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Err(self.bytes_max)
    }

    fn release(&self, bytes: usize, lane: Lane) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if lane == Lane::AdHoc {
            self.ad_hoc_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// What the running queries hold now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) deadline: Instant,
    pub(crate) cancel: CancelFlag,
    pub(crate) samples_max: usize,
    pub(crate) bytes_max: usize,
    samples: AtomicUsize,
    samples_peak: AtomicUsize,
    bytes: AtomicUsize,
    total: Arc<Total>,
    lane: Lane,
}

impl Budget {
    pub(crate) fn new(
        deadline: Instant,
        cancel: CancelFlag,
        samples_max: usize,
        bytes_max: usize,
        total: Arc<Total>,
        lane: Lane,
    ) -> Arc<Self> {
        Arc::new(Self {
            deadline,
            cancel,
            samples_max,
            bytes_max,
            samples: AtomicUsize::new(0),
            samples_peak: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            total,
            lane,
        })
    }

    /// Whether the query may go on; asked once per morsel.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancel.is_canceled() {
            return Err(Error::Canceled("expression evaluation".to_owned()));
        }
        if now() >= self.deadline {
            return Err(Error::Timeout("expression evaluation".to_owned()));
        }
        Ok(())
    }

    /// Reserves `bytes` of memory.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Error> {
        if !reserve(&self.bytes, bytes, self.bytes_max) {
            return Err(Error::TooManyBytes(format!(
                "query processing would need more than {} bytes of memory",
                self.bytes_max
            )));
        }
        if let Err(max) = self.total.reserve(bytes, self.lane) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::TooManyBytes(format!(
                "all queries together would need more than {max} bytes of memory"
            )));
        }
        Ok(Charge { budget: Arc::clone(self), samples: 0, bytes })
    }

    fn add_samples(&self, n: usize) -> Result<(), Error> {
        let now = self.samples.fetch_add(n, Ordering::Relaxed) + n;
        self.samples_peak.fetch_max(now, Ordering::Relaxed);
        if now > self.samples_max {
            return Err(Error::TooManySamples("query execution".to_owned()));
        }
        Ok(())
    }

    /// What the query holds now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Tells of a window of `widest` samples and a row of `row` beside those on the account, which are gone again.
    /// Refuses a window that is too much by itself; what upstream refuses because of what it holds besides, this does
    /// not.
    pub(crate) fn saw(&self, widest: usize, row: usize) -> Result<(), Error> {
        if widest > self.samples_max {
            return Err(Error::TooManySamples("query execution".to_owned()));
        }
        let now = self.samples.load(Ordering::Relaxed).saturating_add(widest + row);
        // Nearly always less: a plain read does not take the line away from other threads.
        if now > self.samples_peak.load(Ordering::Relaxed) {
            self.samples_peak.fetch_max(now, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn samples_peak(&self) -> usize {
        self.samples_peak.load(Ordering::Relaxed)
    }
}

/// Adds to an account unless that is too much. What is refused never shows: others would be refused for it.
fn reserve(account: &AtomicUsize, bytes: usize, max: usize) -> bool {
    let add = |held: usize| held.checked_add(bytes).filter(|&sum| sum <= max);
    account.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

/// Samples and bytes on a query's account, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    samples: usize,
    bytes: usize,
}

impl Charge {
    /// Puts `n` more samples on the account.
    pub(crate) fn add_samples(&mut self, n: usize) -> Result<(), Error> {
        self.samples += n;
        self.budget.add_samples(n)
    }

    /// Takes over what `other` has on the account.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.samples += std::mem::take(&mut other.samples);
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.samples.fetch_sub(self.samples, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.total.release(self.bytes, self.budget.lane);
    }
}

/// The engine's clock: deadlines are the only thing it is asked for.
pub(crate) fn now() -> Instant {
    Instant::now()
}
