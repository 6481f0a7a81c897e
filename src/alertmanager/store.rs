//! The alerts that are known: merged by fingerprint, in memory, resolved ones dropped after a while.
//!
//! Compat: alertmanager `provider/mem`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::alert::{Alert, Fingerprint, Invalid};

/// The most alerts that are kept at a time.
pub const ALERTS_MAX: usize = 1_000_000;

#[derive(Debug, Default)]
pub struct Store {
    alerts: BTreeMap<Fingerprint, Arc<Alert>>,
}

impl Store {
    /// Adds or merges `alert` and returns what is now known of it.
    ///
    /// # Errors
    /// The store is full and the alert is new.
    pub fn put(&mut self, alert: Alert, now: Timestamp) -> Result<Arc<Alert>, Invalid> {
        let fingerprint = alert.fingerprint;
        let merged = match self.alerts.get(&fingerprint) {
            Some(old) => alert.over(old, now),
            None if self.alerts.len() >= ALERTS_MAX => return Err(Invalid::TooMany(ALERTS_MAX)),
            None => alert,
        };
        let merged = Arc::new(merged);
        self.alerts.insert(fingerprint, Arc::clone(&merged));
        Ok(merged)
    }

    /// Every alert, by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.alerts.values()
    }

    /// Drops what is resolved.
    pub fn collect_garbage(&mut self, now: Timestamp) {
        self.alerts.retain(|_, alert| !alert.is_resolved(now));
    }
}
