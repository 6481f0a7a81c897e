//! The alerts that wait for one Alertmanager.
//!
//! An alert waits once: a newer state of it takes the place of the older one, because only the newest counts. So a
//! queue overflows only if more alerts than fit are active at a time, however long the Alertmanager is away.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use model::Labels;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Alert;

/// A bounded queue; when it is full the oldest alerts make room, because newer ones say more.
pub struct Queue {
    waiting: Mutex<Waiting>,
    capacity: usize,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    /// By the order in which they came.
    alerts: BTreeMap<u64, Entry>,
    places: HashMap<Labels, u64>,
    n_come: u64,
}

/// An alert that waits, or has been taken to be sent.
#[derive(Clone, Debug)]
pub struct Entry {
    pub alert: Arc<Alert>,
    /// How often it has been sent in vain.
    pub n_failures: u8,
    place: u64,
}

impl Entry {
    /// After it was sent in vain.
    #[must_use]
    pub fn failed(self) -> Self {
        Self { n_failures: self.n_failures.saturating_add(1), ..self }
    }
}

/// What a push did beside adding.
#[derive(Clone, Debug, Default)]
pub struct Pushed {
    /// Alerts that made room for these.
    pub dropped: Vec<Entry>,
    /// Alerts that these say anew.
    pub n_replaced: usize,
}

impl Waiting {
    /// Lets the oldest go until there are no more than `capacity`, and hands them out.
    fn shrink(&mut self, capacity: usize) -> Vec<Entry> {
        let n_dropped = self.alerts.len().saturating_sub(capacity);
        (0..n_dropped).map_while(|_| self.pop()).collect()
    }

    fn pop(&mut self) -> Option<Entry> {
        let (_, entry) = self.alerts.pop_first()?;
        self.places.remove(&entry.alert.labels);
        Some(entry)
    }
}

impl Queue {
    pub fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::default(), capacity, arrived: Notify::new() }
    }

    /// Adds `alerts`, each in the place of an older state of it if there is one.
    pub fn push(&self, alerts: impl IntoIterator<Item = Arc<Alert>>) -> Pushed {
        let mut pushed = Pushed::default();
        let mut waiting = self.waiting.lock();
        for alert in alerts {
            let known = waiting.places.get(&alert.labels).copied();
            let place = known.unwrap_or(waiting.n_come);
            if known.is_some() {
                pushed.n_replaced += 1;
            } else {
                waiting.n_come += 1;
                waiting.places.insert(alert.labels.clone(), place);
            }
            waiting.alerts.insert(place, Entry { alert, n_failures: 0, place });
            pushed.dropped.extend(waiting.shrink(self.capacity));
        }
        drop(waiting);
        self.arrived.notify_one();
        pushed
    }

    /// Takes up to `n_max` of the oldest alerts; empty if there are none.
    pub fn take(&self, n_max: usize) -> Vec<Entry> {
        let mut waiting = self.waiting.lock();
        let n = n_max.min(waiting.alerts.len());
        (0..n).map_while(|_| waiting.pop()).collect()
    }

    /// Puts alerts back that were taken and could not be sent, but for those that newer states have come of. Returns
    /// those that there was no room for.
    pub fn put_back(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut waiting = self.waiting.lock();
        for entry in entries {
            if !waiting.places.contains_key(&entry.alert.labels) {
                waiting.places.insert(entry.alert.labels.clone(), entry.place);
                waiting.alerts.insert(entry.place, entry);
            }
        }
        let dropped = waiting.shrink(self.capacity);
        drop(waiting);
        self.arrived.notify_one();
        dropped
    }

    /// Returns once something has been pushed since the last call.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().alerts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::alert::tests::named;
    use super::{Alert, Entry, Pushed, Queue};

    fn alerts(names: &[&str]) -> Vec<Arc<Alert>> {
        names.iter().map(|name| Arc::new(named(name, 0))).collect()
    }

    fn names(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.alert.labels.to_map()["alertname"].clone()).collect()
    }

    fn counts(pushed: &Pushed) -> (usize, usize) {
        (pushed.dropped.len(), pushed.n_replaced)
    }

    #[test]
    fn the_oldest_make_room() {
        let queue = Queue::new(3);
        assert_eq!(counts(&queue.push(alerts(&["a", "b"]))), (0, 0));
        assert_eq!(counts(&queue.push(alerts(&["c", "d"]))), (1, 0));
        assert_eq!(names(&queue.take(2)), ["b", "c"]);
        assert_eq!(counts(&queue.push(alerts(&["e", "f", "g", "h"]))), (2, 0));
        assert_eq!(names(&queue.take(9)), ["f", "g", "h"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_newer_state_takes_the_place_of_the_older() {
        let queue = Queue::new(3);
        queue.push(alerts(&["a", "b", "c"]));
        let newer = vec![Arc::new(named("b", 7))];
        assert_eq!(counts(&queue.push(newer)), (0, 1));
        let taken = queue.take(9);
        assert_eq!(names(&taken), ["a", "b", "c"]);
        assert_eq!(taken[1].alert.ends_at, 7);
        assert_eq!(counts(&queue.push(alerts(&["b"]))), (0, 0), "what was taken waits no more");
    }

    #[test]
    fn what_could_not_be_sent_comes_first_again_unless_it_is_outdated() {
        let queue = Queue::new(4);
        queue.push(alerts(&["a", "b", "c"]));
        let taken = queue.take(2);
        queue.push([Arc::new(named("a", 7))]);
        queue.push(alerts(&["d"]));
        assert!(queue.put_back(taken).is_empty());
        let back = queue.take(9);
        assert_eq!(names(&back), ["b", "c", "a", "d"]);
        assert_eq!(back[2].alert.ends_at, 7);
        queue.push(alerts(&["e", "f", "g"]));
        assert_eq!(queue.put_back(back).len(), 3, "four places, three of them taken");
        assert_eq!(names(&queue.take(9)), ["d", "e", "f", "g"]);
    }
}
