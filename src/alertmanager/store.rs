//! The alerts that are known: merged by fingerprint, in memory, resolved ones dropped after a while.
//!
//! Compat: alertmanager `provider/mem`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::alert::{Alert, Fingerprint, Invalid};

/// The most alerts that are kept at a time.
pub const ALERTS_MAX: usize = 1_000_000;

#[derive(Debug, Default)]
pub struct Store {
    alerts: BTreeMap<Fingerprint, Arc<Alert>>,
    /// The fingerprints by the value of `alertname`, where the number for each is limited.
    by_name: HashMap<String, BTreeSet<Fingerprint>>,
    per_name_max: usize,
}

/// What became of an alert.
#[derive(Clone, Debug)]
pub enum Put {
    New(Arc<Alert>),
    /// Something else than its times changed.
    Changed(Arc<Alert>),
    /// Only its times changed.
    Prolonged(Arc<Alert>),
    /// There are as many of its name as there may be.
    Limited,
}

impl Store {
    /// A store with at most `per_name_max` firing alerts of one name; 0 for no limit.
    pub fn new(per_name_max: usize) -> Self {
        Self { per_name_max, ..Self::default() }
    }

    /// Adds or merges `alert` and returns what is now known of it.
    ///
    /// # Errors
    /// The store is full and the alert is new.
    pub fn put(&mut self, alert: Alert, now: Timestamp) -> Result<Put, Invalid> {
        let fingerprint = alert.fingerprint;
        let Some(old) = self.alerts.get_mut(&fingerprint) else {
            if self.alerts.len() >= ALERTS_MAX {
                return Err(Invalid::TooMany(ALERTS_MAX));
            }
            if !self.has_room(&alert, now) {
                return Ok(Put::Limited);
            }
            let alert = Arc::new(alert);
            self.restore(Arc::clone(&alert));
            return Ok(Put::New(alert));
        };
        let merged = Arc::new(alert.over(old, now));
        let is_same = merged.annotations == old.annotations && merged.generator_url == old.generator_url;
        *old = Arc::clone(&merged);
        Ok(if is_same { Put::Prolonged(merged) } else { Put::Changed(merged) })
    }

    fn has_room(&self, alert: &Alert, now: Timestamp) -> bool {
        let max = self.per_name_max;
        let Some(known) = self.by_name.get(alert.name()).filter(|known| max > 0 && known.len() >= max) else {
            return true;
        };
        let is_firing =
            |known: &&Fingerprint| self.alerts.get(known).is_some_and(|known| !known.is_resolved(now));
        known.iter().filter(is_firing).count() < max
    }

    /// Takes over an alert that was saved.
    pub fn restore(&mut self, alert: Arc<Alert>) {
        if self.per_name_max > 0 {
            self.by_name.entry(alert.name().to_owned()).or_default().insert(alert.fingerprint);
        }
        self.alerts.insert(alert.fingerprint, alert);
    }

    pub fn get(&self, fingerprint: Fingerprint) -> Option<&Arc<Alert>> {
        self.alerts.get(&fingerprint)
    }

    /// Every alert, by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.alerts.values()
    }

    /// Drops what is resolved.
    pub fn collect_garbage(&mut self, now: Timestamp) {
        let (alerts, by_name) = (&mut self.alerts, &mut self.by_name);
        alerts.retain(|_, alert| !alert.is_resolved(now));
        by_name.retain(|_, known| {
            known.retain(|fingerprint| alerts.contains_key(fingerprint));
            !known.is_empty()
        });
    }

    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }
}
