//! One watch: the objects of one kind that a selection leaves, kept as they are in the cluster.
//!
//! It begins with a list, streamed where the server can (`sendInitialEvents`), else in pages, and goes on from
//! the list's version with watches that follow each other without a gap: each begins at the version of the
//! last event or bookmark of the one before. Only when the server has forgotten that version (410) is listed
//! anew, and then only what differs is passed on. While the server cannot be reached, what was known stays.
//!
//! Changes go to every [`Subscription`], which keeps the last state of each object until it is taken: a slow
//! taker costs no more than the objects themselves.
//!
//! Compat: `client-go`'s reflector: parameters, timeouts and back-off.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::metrics::Events;
use super::object::{Key, Kind, Object, Received};
use super::requests::{Ended, Event, Failure, PAGE, Pages, Requests, STREAMED_LIST_SILENCE, Stream};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Selection {
    pub(super) kind: Kind,
    /// `None` for all of them and for kinds that have none.
    pub(super) namespace: Option<String>,
    /// As typed; empty for none.
    pub(super) labels: String,
    /// As typed; empty for none.
    pub(super) fields: String,
}

pub(super) struct Watch {
    selection: Selection,
    store: Mutex<Store>,
    /// Told when the last subscription ends.
    is_unused: Notify,
}

#[derive(Default)]
struct Store {
    objects: HashMap<Key, Object>,
    /// The objects are all that there are.
    is_synced: bool,
    error: Option<Arc<str>>,
    inboxes: Vec<Arc<Inbox>>,
    is_closed: bool,
}

/// What one subscription has yet to take.
struct Inbox {
    pending: Mutex<Pending>,
    wake: Arc<Notify>,
}

#[derive(Default)]
pub(super) struct Pending {
    /// The newest state of what changed; `None` for what is gone.
    pub(super) changes: HashMap<Key, Option<Object>>,
    pub(super) events: Events,
    /// What was taken so far, with this, is all there is.
    pub(super) is_synced: bool,
    /// Why the watch does not work now.
    pub(super) error: Option<Arc<str>>,
}

/// The use of a watch; dropping it ends the use.
pub(super) struct Subscription {
    watch: Arc<Watch>,
    inbox: Arc<Inbox>,
}

impl Subscription {
    pub(super) fn kind(&self) -> Kind {
        self.watch.selection.kind
    }

    /// How errors name what is watched.
    pub(super) fn name(&self) -> String {
        self.watch.name()
    }

    /// Takes what has changed since the last call; in the first one that is everything.
    pub(super) fn take(&self) -> Pending {
        let mut pending = self.inbox.pending.lock();
        let (is_synced, error) = (pending.is_synced, pending.error.clone());
        std::mem::replace(&mut *pending, Pending { is_synced, error, ..Pending::default() })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut store = self.watch.store.lock();
        store.inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        if store.inboxes.is_empty() {
            self.watch.is_unused.notify_one();
        }
    }
}

/// How long a watch goes on without users: longer than between two reloads of a rollout.
const UNUSED_MAX: Duration = Duration::from_mins(2);

/// The first pause after a failure, doubled by each further one.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A watch that lasted this long, or had an event, worked.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// One whose version is forgotten later than this had a version that was worth its list.
const LONG_WATCH: Duration = Duration::from_secs(30);

/// So many watches that fail at the same version make us list anew.
const FAILURES_MAX: u32 = 5;

/// The same for failures that should pass, some ten minutes long: a server may be unable to go on from one version.
const PASSING_MAX: u32 = 20;

/// A streamed list that takes longer is asked for in pages.
const STREAMED_LIST_MAX: Duration = Duration::from_mins(2);

impl Watch {
    pub(super) fn new(selection: Selection) -> Self {
        Self { selection, store: Mutex::default(), is_unused: Notify::new() }
    }

    /// `None` if the watch has ended.
    pub(super) fn subscribe(self: &Arc<Self>, wake: &Arc<Notify>) -> Option<Subscription> {
        let mut store = self.store.lock();
        if store.is_closed {
            return None;
        }
        let pending = Pending {
            changes: store.objects.iter().map(|(key, object)| (key.clone(), Some(object.clone()))).collect(),
            events: Events { added: store.objects.len() as u64, ..Events::default() },
            is_synced: store.is_synced,
            error: store.error.clone(),
        };
        let inbox = Arc::new(Inbox { pending: Mutex::new(pending), wake: Arc::clone(wake) });
        store.inboxes.push(Arc::clone(&inbox));
        drop(store);
        wake.notify_one();
        Some(Subscription { watch: Arc::clone(self), inbox })
    }

    /// Watches until it is stopped or nobody has used it for a while.
    pub(super) async fn run(self: Arc<Self>, cluster: Arc<Cluster>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.unused() => {}
            () = self.follow(&cluster) => {}
        }
        self.store.lock().is_closed = true;
        cluster.forget(&self);
    }

    /// Returns when the watch was closed for want of users.
    pub(super) async fn unused(&self) {
        loop {
            self.is_unused.notified().await;
            tokio::time::sleep(UNUSED_MAX).await;
            let mut store = self.store.lock();
            if store.inboxes.is_empty() {
                store.is_closed = true;
                return;
            }
        }
    }

    async fn follow(&self, cluster: &Cluster) {
        let mut place = Place::default();
        let mut failures = 0;
        loop {
            let failure = match self.round(cluster, &mut place).await {
                Ok(Ended::Cleanly) if place.has_worked(SHORT_WATCH) => {
                    failures = 0;
                    continue;
                }
                Ok(Ended::Cleanly) => Failure::from("the watch ended at once, without an event"),
                // A stream that broke is taken up where it was; that is no failure unless it goes on.
                Ok(Ended::Broken) if place.has_worked(SHORT_WATCH) => {
                    failures = 0;
                    tokio::time::sleep(jittered(PAUSE_MIN)).await;
                    continue;
                }
                Ok(Ended::Broken) => Failure::from("the watch broke at once"),
                Err(failure) => failure,
            };
            // To list anew and again is what brings servers down, so that must not begin anew each time.
            if place.has_worked(if failure.is_gone { LONG_WATCH } else { SHORT_WATCH }) {
                failures = 0;
            }
            failures += 1;
            cluster.metrics.failures.inc();
            if failure.is_refused {
                cluster.reconnect(place.client).await;
            }
            let patience = if failure.is_passing { PASSING_MAX } else { FAILURES_MAX };
            let is_answered = !(failure.is_passing && failure.is_refused);
            if failure.is_gone || failures % patience == 0 && is_answered {
                place.expire();
            }
            tracing::debug!(
                cluster = cluster.name,
                watch = self.name(),
                error = failure.message,
                "watching Kubernetes failed"
            );
            // A version that is forgotten says nothing of the server's health.
            if !failure.is_gone || failures > 1 {
                self.report(Some(&failure.message));
            }
            let doubled = PAUSE_MIN.saturating_mul(1 << (failures - 1).min(16));
            let pause = jittered(doubled.min(PAUSE_MAX)).max(failure.retry_after.min(PAUSE_MAX));
            tokio::time::sleep(pause).await;
        }
    }

    /// Lists, if that is needed, and watches until the server ends the watch.
    async fn round(&self, cluster: &Cluster, place: &mut Place) -> Result<Ended, Failure> {
        place.watching = None;
        place.has_event = false;
        let (client, number) = cluster.client().await.map_err(|error| Failure {
            message: error.to_string(),
            // It says nothing of the version that we have.
            is_passing: true,
            is_refused: true,
            ..Failure::default()
        })?;
        place.client = number;
        let requests = Requests { client: &client, cluster, selection: &self.selection };
        if place.version.is_none() {
            let mut is_unsupported = false;
            // Whatever went wrong with a streamed list, the other way may lead on.
            let is_streamed = !std::mem::take(&mut place.is_stream_broken);
            if is_streamed && cluster.has_streaming_lists.load(Ordering::Relaxed) {
                let ended = self.stream_list(&requests, place).await;
                place.is_stream_broken = place.version.is_none();
                match ended {
                    Err(failure) if failure.is_unsupported && place.is_stream_broken => is_unsupported = true,
                    ended => return ended,
                }
            }
            self.page_list(&requests, place).await?;
            place.is_stream_broken = false;
            // Had it failed as well, the fault would not be the stream's.
            if is_unsupported {
                cluster.has_streaming_lists.store(false, Ordering::Relaxed);
            }
        }
        let version = place.version.clone().unwrap_or_default();
        let mut stream = requests.watch(&version).await?;
        self.take_events(&mut stream, place).await
    }

    /// A watch whose first events are all there is, with a bookmark behind them.
    async fn stream_list(&self, requests: &Requests<'_>, place: &mut Place) -> Result<Ended, Failure> {
        let mut stream = requests.watch_from_nothing().await?;
        let mut listed = HashMap::new();
        let (begun, mut grown) = (Instant::now(), Instant::now());
        loop {
            let n = listed.len();
            match stream.next().await? {
                Some(Event::Changed(received)) => self.collect(&mut listed, received.key, received.object),
                Some(Event::Deleted(received)) => drop(listed.remove(&received.key)),
                Some(Event::Bookmark { version, is_end_of_list: true }) => {
                    if version.is_empty() {
                        return Err(Failure::from("the streamed list has no version"));
                    }
                    place.version = Some(version);
                    break;
                }
                Some(Event::Bookmark { .. }) => {}
                None => return Err(Failure::from("the streamed list ended early")),
            }
            let now = Instant::now();
            if listed.len() > n {
                grown = now;
            }
            // A server that ignores the parameter sends what there is, and then what happens, without an end.
            if now - grown > STREAMED_LIST_SILENCE || now - begun > STREAMED_LIST_MAX {
                let message = "the streamed list has no end".to_owned();
                return Err(Failure { message, is_unsupported: true, ..Failure::default() });
            }
        }
        self.replace(listed);
        self.take_events(&mut stream, place).await
    }

    async fn page_list(&self, requests: &Requests<'_>, place: &mut Place) -> Result<(), Failure> {
        let mut listed = HashMap::new();
        let mut pages = Pages { is_newest: place.has_expired, size: Some(PAGE) };
        loop {
            let collect = |received: Received| self.collect(&mut listed, received.key, received.object);
            match requests.list(&pages, collect).await {
                Ok(version) => {
                    place.version = Some(version);
                    self.replace(listed);
                    return Ok(());
                }
                // The cluster is so large that its pages are forgotten before we have read them all.
                Err(failure) if failure.is_gone && pages.size.is_some() => {
                    listed = HashMap::new();
                    pages.size = None;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn take_events(&self, stream: &mut Stream, place: &mut Place) -> Result<Ended, Failure> {
        self.report(None);
        place.watching = Some(Instant::now());
        place.has_expired = false;
        loop {
            let Some(event) = stream.next().await? else { return Ok(stream.ended()) };
            place.has_event = true;
            let version = match event {
                Event::Changed(received) => {
                    self.store.lock().put(&received.key, &received.object);
                    received.version
                }
                Event::Deleted(received) => {
                    self.store.lock().remove(&received.key);
                    received.version
                }
                Event::Bookmark { version, .. } => version,
            };
            if !version.is_empty() {
                place.version = Some(version);
            }
        }
    }

    /// Adds to a list that is under way; what did not change is kept once.
    fn collect(&self, listed: &mut HashMap<Key, Object>, key: Key, object: Object) {
        let known = self.store.lock().objects.get(&key).filter(|known| **known == object).cloned();
        listed.insert(key, known.unwrap_or(object));
    }

    /// Takes a list that is complete.
    fn replace(&self, listed: HashMap<Key, Object>) {
        let mut store = self.store.lock();
        let gone: Vec<Key> = store.objects.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        for key in gone {
            store.remove(&key);
        }
        let n_more = listed.len().saturating_sub(store.objects.len());
        store.objects.reserve(n_more);
        for (key, object) in listed {
            // What a list repeats has not happened.
            if store.objects.get(&key) != Some(&object) {
                store.put(&key, &object);
            }
        }
        store.objects.shrink_to_fit();
        store.is_synced = true;
        store.tell(|pending| pending.is_synced = true);
    }

    /// Says whether the watch works.
    fn report(&self, error: Option<&str>) {
        let mut store = self.store.lock();
        if store.error.as_deref() != error {
            store.error = error.map(Arc::from);
            let error = store.error.clone();
            store.tell(|pending| pending.error.clone_from(&error));
        }
    }

    /// How log lines and errors name it.
    fn name(&self) -> String {
        self.selection.kind.path(self.selection.namespace.as_deref())
    }
}

impl Store {
    fn put(&mut self, key: &Key, object: &Object) {
        let is_new = match self.objects.entry(key.clone()) {
            Entry::Occupied(mut known) => {
                // A heartbeat: counted, but of no consequence.
                if known.get() == object {
                    self.count(|events| events.updated += 1);
                    return;
                }
                known.insert(object.clone());
                false
            }
            Entry::Vacant(place) => {
                place.insert(object.clone());
                true
            }
        };
        self.tell(|pending| {
            let count = if is_new { &mut pending.events.added } else { &mut pending.events.updated };
            *count += 1;
            pending.changes.insert(key.clone(), Some(object.clone()));
        });
    }

    fn remove(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            self.tell(|pending| {
                pending.events.deleted += 1;
                pending.changes.insert(key.clone(), None);
            });
        }
    }

    fn count(&self, mut count: impl FnMut(&mut Events)) {
        for inbox in &self.inboxes {
            count(&mut inbox.pending.lock().events);
        }
    }

    fn tell(&self, mut change: impl FnMut(&mut Pending)) {
        for inbox in &self.inboxes {
            change(&mut inbox.pending.lock());
            inbox.wake.notify_one();
        }
    }
}

/// How far a watch has come.
#[derive(Debug, Default)]
struct Place {
    /// Where the next watch begins; `None` before the first list and when the server has forgotten it.
    version: Option<String>,
    /// The server forgot a version, so that a list from its memory might be older than what we have.
    has_expired: bool,
    /// The last streamed list came to nothing.
    is_stream_broken: bool,
    /// The client in use.
    client: u64,
    /// When the present watch began, and whether it had an event.
    watching: Option<Instant>,
    has_event: bool,
}

impl Place {
    fn expire(&mut self) {
        self.has_expired |= self.version.take().is_some();
    }

    /// Whether the last watch had an event or lasted for `long`.
    fn has_worked(&self, long: Duration) -> bool {
        let is_long = self.watching.is_some_and(|since| since.elapsed() >= long);
        is_long || self.has_event && long == SHORT_WATCH
    }
}

/// Between half and one and a half of `pause`: many watches that failed at once do not come back at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}
