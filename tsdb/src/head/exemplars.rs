//! The newest exemplars of all series, in one ring whose size may change at any time.
//!
//! The ring forgets in the order in which exemplars came; those of one series are linked in order of time. A series is
//! known by its labels here, because it may leave the head while its exemplars stay. Memory only: after a start
//! the log brings them back.
//!
//! Compat: prometheus `tsdb`, `CircularExemplarStorage`; of equal time and value, label sets are ordered by their
//! text and not by upstream's hash of it.

use foldhash::HashMap;
use model::exemplar::{LABEL_CHARS_MAX, SeriesExemplars};
use model::storage::{AppendError, Error, ExemplarQueryable};
use model::wire::expose::{Counter, Expose, Exposition};
use model::{Exemplar, Labels, Matcher, TimeRange};
use parking_lot::RwLock;

use super::Head;
use super::slab::NONE;

/// The store of exemplars.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    ring: RwLock<Ring>,
    appended: Counter,
    out_of_order: Counter,
}

#[derive(Debug, Default)]
struct Ring {
    /// The most there may be.
    capacity: usize,
    /// As many as came so far, at most `capacity`.
    items: Vec<Item>,
    /// Where the next one goes: the end, or in place of the oldest.
    next: usize,
    /// How much older than the newest of its series one may be, in ms.
    window_ms: i64,
    series: HashMap<Labels, Ends>,
}

#[derive(Debug)]
struct Item {
    series: Labels,
    exemplar: Exemplar,
    /// The neighbours in time among those of the series.
    older: u32,
    newer: u32,
}

/// The first and last of a series by time.
#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
}

impl Exemplars {
    pub(super) fn new(capacity: usize, window_ms: i64) -> Self {
        let ring = Ring { capacity: capped(capacity), window_ms: window_ms.max(0), ..Ring::default() };
        Self { ring: RwLock::new(ring), ..Self::default() }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.ring.read().capacity > 0
    }

    /// Says whether an exemplar would be stored; false if it repeats the newest of its series.
    pub(super) fn judge(&self, series: &Labels, exemplar: &Exemplar) -> Result<bool, AppendError> {
        let ring = self.ring.read();
        ring.judge(ring.series.get(series).copied(), exemplar)
    }

    /// Stores an exemplar unless it is known.
    pub(super) fn add(&self, series: &Labels, exemplar: &Exemplar) -> Result<(), AppendError> {
        let added = self.ring.write().add(series, exemplar);
        match added {
            Ok(is_new) => self.appended.add(u64::from(is_new)),
            Err(AppendError::ExemplarOutOfOrder) => self.out_of_order.inc(),
            Err(_) => {}
        }
        added.map(|_| ())
    }

    /// Stores an exemplar of an earlier run, of which nothing says whether its time is its own. While others of that
    /// run follow it counts as such, for all of them were found worth storing; then it does not, so that a target that
    /// goes on repeating itself is recognised.
    pub(super) fn restore(&self, series: &Labels, exemplar: &Exemplar) {
        let mut ring = self.ring.write();
        let at = ring.next;
        if ring.add(series, exemplar) == Ok(true) {
            ring.items[at].exemplar.has_own_t = false;
            self.appended.inc();
        }
    }

    /// Visits all in the order in which they came.
    pub(super) fn each(&self, mut visit: impl FnMut(&Labels, &Exemplar)) {
        let ring = self.ring.read();
        let (newer, older) = ring.items.split_at(ring.first());
        older.iter().chain(newer).for_each(|item| visit(&item.series, &item.exemplar));
    }

    pub(super) fn resize(&self, capacity: usize) {
        self.ring.write().resize(capped(capacity));
    }

    /// How much older than the newest of its series one may be: the out-of-order window.
    pub(super) fn set_window(&self, window_ms: i64) {
        self.ring.write().window_ms = window_ms.max(0);
    }

    fn select(&self, range: TimeRange, selectors: &[Vec<Matcher>]) -> Vec<SeriesExemplars> {
        let ring = self.ring.read();
        let is_wanted = |labels: &Labels| {
            let passes = |matcher: &Matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default());
            selectors.iter().any(|matchers| matchers.iter().all(passes))
        };
        let mut found = Vec::new();
        for (labels, ends) in &ring.series {
            let overlaps = ring.item(ends.oldest).exemplar.t <= range.maxt
                && ring.item(ends.newest).exemplar.t >= range.mint;
            if !overlaps || !is_wanted(labels) {
                continue;
            }
            let exemplars: Vec<Exemplar> =
                ring.of_series(*ends).filter(|exemplar| range.contains(exemplar.t)).cloned().collect();
            if !exemplars.is_empty() {
                found.push(SeriesExemplars { series: labels.clone(), exemplars });
            }
        }
        found.sort_unstable_by(|a, b| a.series.cmp(&b.series));
        found
    }

    pub(super) fn bytes(&self) -> u64 {
        let ring = self.ring.read();
        let texts: usize = ring.items.iter().map(|item| item.exemplar.labels.as_bytes().len()).sum();
        let series: usize =
            ring.series.keys().map(|labels| labels.as_bytes().len() + size_of::<(Labels, Ends)>() + 1).sum();
        (ring.items.capacity() * size_of::<Item>() + texts + series) as u64
    }
}

/// Links are 32 bits.
fn capped(capacity: usize) -> usize {
    capacity.min(NONE as usize)
}

impl Ring {
    fn item(&self, at: u32) -> &Item {
        &self.items[at as usize]
    }

    fn item_mut(&mut self, at: u32) -> &mut Item {
        &mut self.items[at as usize]
    }

    /// Where the one is that came first.
    fn first(&self) -> usize {
        if self.items.len() == self.capacity { self.next } else { 0 }
    }

    fn of_series(&self, ends: Ends) -> impl Iterator<Item = &Exemplar> {
        let mut at = ends.oldest;
        std::iter::from_fn(move || {
            let item = (at != NONE).then(|| self.item(at))?;
            at = item.newer;
            Some(&item.exemplar)
        })
    }

    fn judge(&self, ends: Option<Ends>, exemplar: &Exemplar) -> Result<bool, AppendError> {
        if self.capacity == 0 {
            return Err(AppendError::ExemplarsDisabled);
        }
        let chars: usize = exemplar.labels.iter().map(|(name, value)| n_chars(name) + n_chars(value)).sum();
        if chars > LABEL_CHARS_MAX {
            return Err(AppendError::ExemplarTooLong);
        }
        let Some(ends) = ends else { return Ok(true) };
        let newest = &self.item(ends.newest).exemplar;
        let is_of_time = newest.t == exemplar.t || !(newest.has_own_t || exemplar.has_own_t);
        if is_of_time && newest.v == exemplar.v && newest.labels == exemplar.labels {
            return Ok(false);
        }
        // Several of one time are those of a histogram's buckets; that they ascend tells a repeated scrape from a
        // new one without looking at all of them.
        let is_late = if exemplar.t == newest.t {
            exemplar.v < newest.v || (exemplar.v == newest.v && exemplar.labels < newest.labels)
        } else {
            exemplar.t < newest.t && exemplar.t <= newest.t.saturating_sub(self.window_ms)
        };
        if is_late { Err(AppendError::ExemplarOutOfOrder) } else { Ok(true) }
    }

    /// Returns whether it was stored, which it is not if it is known.
    fn add(&mut self, series: &Labels, exemplar: &Exemplar) -> Result<bool, AppendError> {
        let ends = self.series.get(series).copied();
        if !self.judge(ends, exemplar)? {
            return Ok(false);
        }
        if let Some(ends) = ends
            && exemplar.t < self.item(ends.newest).exemplar.t
            && let Some(before) = self.last_until(ends, exemplar.t)
            && self.item(before).exemplar.t == exemplar.t
        {
            // Late and of a time that is there: taken for the same one, as upstream does.
            return Ok(false);
        }
        if self.items.len() == self.capacity {
            self.unlink(self.next);
        }
        // What was just forgotten may have been of the same series.
        let ends = self.series.get(series).copied();
        let at = u32::try_from(self.next).expect("the capacity is below 2^32");
        let (older, newer) = match ends {
            None => (NONE, NONE),
            Some(ends) => match self.last_until(ends, exemplar.t) {
                Some(older) => (older, self.item(older).newer),
                None => (NONE, ends.oldest),
            },
        };
        let item = Item { series: series.clone(), exemplar: exemplar.clone(), older, newer };
        match self.items.get_mut(self.next) {
            Some(forgotten) => *forgotten = item,
            None => self.items.push(item),
        }
        let ends = self.series.entry(series.clone()).or_insert(Ends { oldest: at, newest: at });
        if older == NONE {
            ends.oldest = at;
        }
        if newer == NONE {
            ends.newest = at;
        }
        if older != NONE {
            self.item_mut(older).newer = at;
        }
        if newer != NONE {
            self.item_mut(newer).older = at;
        }
        self.next = (self.next + 1) % self.capacity;
        Ok(true)
    }

    /// The last one of a series that is not newer than `t`.
    fn last_until(&self, ends: Ends, t: i64) -> Option<u32> {
        let mut at = ends.newest;
        while at != NONE && self.item(at).exemplar.t > t {
            at = self.item(at).older;
        }
        (at != NONE).then_some(at)
    }

    /// Takes one out of the order of its series.
    fn unlink(&mut self, at: usize) {
        let Item { older, newer, .. } = self.items[at];
        if older != NONE {
            self.item_mut(older).newer = newer;
        }
        if newer != NONE {
            self.item_mut(newer).older = older;
        }
        let series = &self.items[at].series;
        if (older, newer) == (NONE, NONE) {
            self.series.remove(series);
            return;
        }
        let ends = self.series.get_mut(series).expect("a series with exemplars is known");
        if older == NONE {
            ends.oldest = newer;
        }
        if newer == NONE {
            ends.newest = older;
        }
    }

    /// Keeps the newest that fit.
    fn resize(&mut self, capacity: usize) {
        let (first, len) = (self.first(), self.items.len());
        let n_dropped = len.saturating_sub(capacity);
        for i in 0..n_dropped {
            self.unlink((first + i) % len);
        }
        self.items.rotate_left(first);
        self.items.drain(..n_dropped);
        self.items.shrink_to(capacity);
        let moved = |at: u32| match at {
            NONE => NONE,
            at => u32::try_from((at as usize + len - first) % len - n_dropped).expect("moves to the front"),
        };
        for item in &mut self.items {
            (item.older, item.newer) = (moved(item.older), moved(item.newer));
        }
        for ends in self.series.values_mut() {
            *ends = Ends { oldest: moved(ends.oldest), newest: moved(ends.newest) };
        }
        self.capacity = capacity;
        self.next = if self.items.len() == capacity { 0 } else { self.items.len() };
    }
}

/// Characters as upstream counts them: a byte that is not UTF-8 is one.
fn n_chars(text: &[u8]) -> usize {
    text.utf8_chunks().map(|chunk| chunk.valid().chars().count() + chunk.invalid().len()).sum()
}

impl Head {
    /// Changes how many exemplars are kept, 0 for none; the oldest go first.
    pub fn set_max_exemplars(&self, max: usize) {
        self.0.exemplars.resize(max);
    }
}

/// A head that keeps none finds none, as upstream's.
impl ExemplarQueryable for Head {
    fn exemplars(&self, range: TimeRange, selectors: &[Vec<Matcher>]) -> Result<Vec<SeriesExemplars>, Error> {
        Ok(self.0.exemplars.select(range, selectors))
    }
}

impl Expose for Exemplars {
    fn expose(&self, out: &mut Exposition) {
        let ring = self.ring.read();
        out.counter(
            "prometheus_tsdb_exemplar_exemplars_appended_total",
            "Total number of appended exemplars.",
            &self.appended,
        );
        out.counter(
            "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
            "Total number of out of order exemplar ingestion failed attempts.",
            &self.out_of_order,
        );
        let oldest = ring.items.get(ring.first());
        let gauges = [
            (
                "prometheus_tsdb_exemplar_exemplars_in_storage",
                "Number of exemplars currently in circular storage.",
                ring.items.len() as f64,
            ),
            (
                "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
                "Number of series with exemplars currently in circular storage.",
                ring.series.len() as f64,
            ),
            (
                "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
                "The timestamp of the oldest exemplar stored in circular storage. Useful to check for what timerange the current exemplar buffer limit allows. This usually means the last timestampfor all exemplars for a typical setup. This is not true though if one of the series timestamp is in future compared to rest series.",
                oldest.map_or(0.0, |item| item.exemplar.t as f64 / 1000.0),
            ),
            (
                "prometheus_tsdb_exemplar_max_exemplars",
                "Total number of exemplars the exemplar storage can store, resizeable.",
                ring.capacity as f64,
            ),
        ];
        for (name, help, value) in gauges {
            out.gauge(name, help, value);
        }
    }
}

#[cfg(test)]
mod tests;
