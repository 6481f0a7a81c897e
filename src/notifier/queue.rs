//! The alerts that wait for one Alertmanager.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Alert;

/// A bounded queue; when it is full the oldest alerts make room, because newer ones say more.
pub struct Queue {
    waiting: Mutex<VecDeque<Alert>>,
    capacity: usize,
    arrived: Notify,
}

impl Queue {
    pub fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::default(), capacity, arrived: Notify::new() }
    }

    /// Appends `alerts` and returns how many alerts were dropped for them.
    pub fn push(&self, alerts: Vec<Alert>) -> usize {
        let mut waiting = self.waiting.lock();
        waiting.extend(alerts);
        let n_dropped = waiting.len().saturating_sub(self.capacity);
        waiting.drain(..n_dropped);
        drop(waiting);
        self.arrived.notify_one();
        n_dropped
    }

    /// Takes up to `n_max` of the oldest alerts; empty if there are none.
    pub fn take(&self, n_max: usize) -> Vec<Alert> {
        let mut waiting = self.waiting.lock();
        let n = n_max.min(waiting.len());
        waiting.drain(..n).collect()
    }

    /// Returns once something has been pushed since the last call.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Labels;

    use super::{Alert, Queue};

    fn alerts(names: &[&str]) -> Vec<Alert> {
        let alert = |name: &&str| Alert {
            labels: Labels::from_pairs([("alertname", *name)]),
            annotations: BTreeMap::new(),
            starts_at: 0,
            ends_at: 0,
            generator_url: String::new(),
        };
        names.iter().map(alert).collect()
    }

    fn names(alerts: &[Alert]) -> Vec<String> {
        alerts.iter().map(|alert| alert.labels.to_map()["alertname"].clone()).collect()
    }

    #[test]
    fn the_oldest_make_room() {
        let queue = Queue::new(3);
        assert_eq!(queue.push(alerts(&["a", "b"])), 0);
        assert_eq!(queue.push(alerts(&["c", "d"])), 1);
        assert_eq!(names(&queue.take(2)), ["b", "c"]);
        assert_eq!(queue.push(alerts(&["e", "f", "g", "h"])), 2);
        assert_eq!(names(&queue.take(9)), ["f", "g", "h"]);
        assert!(queue.is_empty());
    }
}
