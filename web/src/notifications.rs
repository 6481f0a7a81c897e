//! What users of the page should know about the server right now, and those who hear of every change.
//!
//! A subscriber that does not keep up loses changes, never the server's time; all end when the server stops.
//!
//! Compat: prometheus `util/notifications`.

use std::sync::Arc;

use model::wire::expose::{Counter, Expose, Exposition};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::view::{Notification, TimeText};

pub const RELOAD_FAILED: &str = "Configuration reload has failed.";
pub const STARTING: &str = "Prometheus is starting and replaying the write-ahead log (WAL).";
pub const STOPPING: &str = "Prometheus is shutting down and gracefully stopping all operations.";

/// How many changes may wait for a subscriber.
const WAITING_MAX: usize = 10;

/// The list, and its subscribers.
#[derive(Debug)]
pub struct Notifications {
    state: Mutex<State>,
    subscribers_max: usize,
    /// The clock.
    now: fn() -> TimeText,
    sent: Counter,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    list: Vec<Notification>,
    subscribers: Vec<(u64, mpsc::Sender<Notification>)>,
    /// Of the next subscriber.
    id: u64,
    is_closed: bool,
}

/// One subscriber, and no clock: what tests start from.
impl Default for Notifications {
    fn default() -> Self {
        Self::new(1, || "1970-01-01T00:00:00Z".to_owned())
    }
}

impl Notifications {
    pub fn new(subscribers_max: usize, now: fn() -> TimeText) -> Self {
        Self {
            state: Mutex::default(),
            subscribers_max,
            now,
            sent: Counter::default(),
            dropped: Counter::default(),
        }
    }

    /// Shows `text` from now on; if it is shown already, it is news again.
    pub fn add(&self, text: &str) {
        let mut state = self.state.lock();
        let date = (self.now)();
        let news = if let Some(known) = state.list.iter_mut().find(|known| known.text == text) {
            known.date = date;
            known.clone()
        } else {
            let new = Notification { text: text.to_owned(), date, active: true };
            state.list.push(new.clone());
            new
        };
        self.tell(&mut state, &news);
    }

    /// Shows `text` no longer.
    pub fn remove(&self, text: &str) {
        let mut state = self.state.lock();
        let Some(i) = state.list.iter().position(|known| known.text == text) else { return };
        let gone = Notification { active: false, ..state.list.remove(i) };
        self.tell(&mut state, &gone);
    }

    fn tell(&self, state: &mut State, news: &Notification) {
        for (_, subscriber) in &state.subscribers {
            self.sent.inc();
            if subscriber.try_send(news.clone()).is_err() {
                self.dropped.inc();
            }
        }
    }

    pub fn list(&self) -> Vec<Notification> {
        self.state.lock().list.clone()
    }

    /// What is shown now, and every change from now on; `None` if there are subscribers enough.
    pub fn subscribe(self: &Arc<Self>) -> Option<Subscription> {
        let mut state = self.state.lock();
        if state.subscribers.len() >= self.subscribers_max || state.is_closed {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        for shown in &state.list {
            // There are fewer texts than places.
            let _ = sender.try_send(shown.clone());
        }
        let id = state.id;
        state.id += 1;
        state.subscribers.push((id, sender));
        Some(Subscription { hub: Arc::clone(self), id, receiver })
    }

    /// Ends all subscriptions once they have what was sent before; there are no new ones.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.subscribers.clear();
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Notifications>,
    id: u64,
    receiver: mpsc::Receiver<Notification>,
}

impl Subscription {
    /// The next change; `None` when the server stops.
    pub async fn next(&mut self) -> Option<Notification> {
        self.receiver.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.state.lock().subscribers.retain(|(id, _)| *id != self.id);
    }
}

impl Expose for Notifications {
    fn expose(&self, out: &mut Exposition) {
        out.gauge(
            "prometheus_api_notification_active_subscribers",
            "The current number of active notification subscribers.",
            self.state.lock().subscribers.len() as f64,
        );
        out.counter(
            "prometheus_api_notification_updates_dropped_total",
            "Total number of notification updates dropped.",
            &self.dropped,
        );
        out.counter(
            "prometheus_api_notification_updates_sent_total",
            "Total number of notification updates sent.",
            &self.sent,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::wire::expose::{Expose, Exposition};

    use super::{Notifications, RELOAD_FAILED, STARTING, WAITING_MAX};

    fn hub(subscribers_max: usize) -> Arc<Notifications> {
        Arc::new(Notifications::new(subscribers_max, || "2026-01-01T00:00:00Z".to_owned()))
    }

    fn shown(hub: &Notifications) -> String {
        let mut out = Exposition::default();
        hub.expose(&mut out);
        String::from_utf8(out.into_body()).unwrap()
    }

    #[tokio::test]
    async fn subscribers_hear_of_what_is_shown_and_of_every_change() {
        let hub = hub(2);
        hub.add(STARTING);
        let mut first = hub.subscribe().unwrap();
        let heard = first.next().await.unwrap();
        assert_eq!((heard.text.as_str(), heard.active), (STARTING, true));
        hub.add(RELOAD_FAILED);
        hub.add(RELOAD_FAILED);
        hub.remove(STARTING);
        hub.remove("never shown");
        for (text, active) in [(RELOAD_FAILED, true), (RELOAD_FAILED, true), (STARTING, false)] {
            let heard = first.next().await.unwrap();
            assert_eq!((heard.text.as_str(), heard.active), (text, active));
        }
        let texts: Vec<_> = hub.list().into_iter().map(|shown| shown.text).collect();
        assert_eq!(texts, [RELOAD_FAILED], "each is shown once");
        let second = hub.subscribe().unwrap();
        assert!(hub.subscribe().is_none(), "two are enough");
        assert!(shown(&hub).contains("\nprometheus_api_notification_active_subscribers 2\n"));
        drop(second);
        assert!(hub.subscribe().is_some());
        assert!(shown(&hub).contains("\nprometheus_api_notification_updates_sent_total 3\n"));
    }

    #[tokio::test]
    async fn who_does_not_listen_loses_changes_and_nobody_waits() {
        let hub = hub(1);
        let mut deaf = hub.subscribe().unwrap();
        for _ in 0..WAITING_MAX + 5 {
            hub.add(RELOAD_FAILED);
        }
        assert!(shown(&hub).contains("\nprometheus_api_notification_updates_dropped_total 5\n"));
        hub.close();
        assert!(hub.subscribe().is_none());
        let mut n = 0;
        while deaf.next().await.is_some() {
            n += 1;
        }
        assert_eq!(n, WAITING_MAX, "what was sent before the end arrives");
    }
}
