//! The outbox: e-mails between composed and accepted, on disk where there is one.
//!
//! # When does the notification log hear "sent"?
//!
//! A letter is written and synced before the first attempt, so a crash between composing and acceptance
//! loses nothing: the next process finds the letter and goes on, with the same Message-ID. Then the flush
//! waits for what the server says:
//! - accepted for somebody: sent;
//! - refused for good: the letter is removed and the flush fails, so the dispatcher comes again, as upstream;
//! - nothing final when the flush must end: the letter is safe, so this counts as sent; it stays and is tried
//!   on, after those of its elders in the group that nobody got, in their order. Should it be refused for
//!   good after all, or die of age, that is logged and counted and the entry of the notification log is taken
//!   back ([`Outbox::take_lost`]): what still fires is told anew. The log is therefore never left with a
//!   "sent" that nobody got;
//! - without a disk nothing is safe: the letter is withdrawn and the flush fails.
//!
//! The log itself is saved with a delay, so a crash may lose a "sent" that was true. A letter therefore
//! knows what it tells ([`identity`]), and stays for a moment after it was delivered; when the first flush
//! of its group after a restart is about to tell the same, it counts as sent without a second mail. Only the
//! first flush, only the group's last letter, and only for a while after the start: news that merely look
//! the same are never held back later. What the log was saved with explains itself: such a letter is not
//! compared with ([`Outbox::settle`]), for the same news after it are a second occasion.
//!
//! One case is left to SMTP: a server that accepted while the crash kept us from noting it gets the
//! message again, once, under the same Message-ID.
//!
//! A letter that somebody got goes on alone for the recipients that are left: a mailbox that is full for days
//! keeps no news from the others. Who got a newer letter of the group need not get the older ones, so that
//! the last word each recipient hears is the newest. What becomes of the rest is logged; nothing is taken
//! back, for those who got it would get it twice.
//!
//! A letter that waits longer than its patience makes place for a newer one of its group, which says what
//! there is to say, if the newer one goes to all who wait or nobody got the old one. The number of letters
//! and of their bytes is bounded; a full outbox makes flushes fail, and the dispatcher come again.
//!
//! # Attempts
//!
//! Each server and way of being let in is a lane: at most four sessions, each for up to a hundred letters. A server
//! that cannot be reached closes its lane for up to a minute, and then one letter tries alone; a refused
//! login closes it for five. A letter that is put off comes back after up to five minutes, for up to five days.

mod lane;
mod store;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use config::alertmanager::{Email, Notifier, Receiver};
use jiff::Timestamp;
use model::quote::hex;
use model::wire::expose::{Counter, Exposition, Kind};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compose::{Composed, Form, compose};
use super::session::{Cause, Fault};
use super::thread;
use crate::alertmanager::clock::{self, Clock};
use crate::alertmanager::nflog::{Entry, Key, Memory};
use crate::alertmanager::notify::{Extras, Failure, Message, Outcome, Sent};
use lane::Lane;
use store::{Found, Letter, Progress, Store};

/// Letters in the outbox, and their bytes.
const LETTERS_MAX: usize = 50_000;
const BYTES_MAX: u64 = 1 << 30;
/// The same where there is no disk.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// Who has waited so long to be composed goes without values and graphs: a slow store must not hold up mails.
const HURRY: Duration = Duration::from_secs(15);
/// Messages that are composed at a time: each may be megabytes.
const COMPOSERS: usize = 4;
/// RFC 5321, 4.5.4.1 asks for four or five days.
const AGE_MAX: Duration = Duration::from_hours(5 * 24);
/// A letter that waits so long, or the timeout of its flush, makes place for a newer one.
const PATIENCE_MIN: Duration = Duration::from_hours(1);
/// How long a delivered letter stays: the notification log has been saved by then.
const KEEP_DELIVERED: Duration = Duration::from_secs(10);
/// How long after a start the letters of the process before are compared with.
const RECOGNISE: Duration = Duration::from_mins(10);
/// The flush ends so long before its deadline, to be still in time.
const MARGIN: Duration = Duration::from_millis(100);
/// How often a flush that is late looks after an attempt that runs.
const POLL: Duration = Duration::from_millis(50);
/// Attempts of which the time is kept for the metric.
const LATENCIES_MAX: usize = 100;
/// How long the sessions may take to end when the server stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The e-mails on their way, of all receivers.
pub(in crate::alertmanager) struct Outbox {
    clock: Arc<dyn Clock>,
    started_at: Timestamp,
    /// `None` where nothing outlives the process.
    store: Option<Store>,
    state: Mutex<State>,
    composers: Semaphore,
    stop: CancellationToken,
    /// Something is to be taken back.
    has_lost: Notify,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    lanes: HashMap<String, Lane>,
    letters: HashMap<u64, Slot>,
    /// The letters of a group and integration, by the key of the notification log. The first that nobody got
    /// is tried, and all that somebody got.
    chains: HashMap<String, VecDeque<u64>>,
    next: u64,
    bytes: u64,
    /// By receiver and index.
    configs: Configs,
    /// The last letter of each chain of the process before.
    known: HashMap<String, Known>,
    delivered: VecDeque<(Instant, PathBuf)>,
    lost: Vec<Lost>,
    /// Sessions that are open or about to be.
    workers: usize,
}

/// A letter in the outbox.
struct Slot {
    letter: Arc<Letter>,
    /// Recipients that wait.
    to: Vec<String>,
    body: Body,
    bytes: u64,
    lane: String,
    tries: Tries,
    is_in_flight: bool,
    /// A server accepted it for somebody.
    is_got: bool,
    /// Why the last attempt failed.
    last: Option<Fault>,
    /// The flush that waits for it.
    waiter: Option<oneshot::Sender<Verdict>>,
}

#[derive(Clone)]
enum Body {
    Disk(PathBuf),
    Memory(Arc<[u8]>),
}

/// Attempts, and how long the first of them took.
#[derive(Clone, Debug, Default)]
struct Tries {
    n: u64,
    latencies: Vec<Duration>,
}

impl Tries {
    fn end(&mut self, took: Duration) {
        if self.latencies.len() < LATENCIES_MAX {
            self.latencies.push(took);
        }
    }

    /// For what never became a letter.
    fn one() -> Self {
        Self { n: 1, latencies: Vec::new() }
    }

    fn into_outcome(self, result: Result<Sent, Failure>, is_accepted: bool) -> Outcome {
        let failed_requests = if is_accepted { self.n.saturating_sub(1) } else { self.n };
        Outcome { result, requests: self.n, failed_requests, latencies: self.latencies }
    }
}

/// What a flush hears of its letter.
#[derive(Debug)]
enum Verdict {
    /// Somebody got it.
    Accepted(Tries),
    /// Nobody will.
    Refused(Fault, Tries),
}

struct Known {
    identity: String,
    id: String,
    memory: Memory,
}

/// A letter that counted as sent and that nobody will get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::alertmanager) struct Lost {
    pub(in crate::alertmanager) key: Key,
    /// Its Message-ID.
    pub(in crate::alertmanager) id: String,
    pub(in crate::alertmanager) message: String,
}

impl Lost {
    /// Whether `memory` is what this letter left in the notification log.
    pub(in crate::alertmanager) fn is_last_of(&self, memory: &Memory) -> bool {
        thread::last_id(memory) == Some(self.id.as_str())
    }
}

#[derive(Default)]
struct Metrics {
    sent: Counter,
    superseded: Counter,
    recipients_refused: Counter,
    /// By class.
    deferred: Mutex<BTreeMap<&'static str, u64>>,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
}

impl Outbox {
    /// Opens the outbox in `dir`, with the letters that are in it; without a folder there is none that lasts.
    pub(in crate::alertmanager) fn open(dir: Option<&Path>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let opened = dir.map(|dir| {
            Store::open(dir).inspect_err(|error| {
                let dir = dir.display();
                tracing::error!(%dir, %error, "open outbox of e-mails, going on without");
            })
        });
        let (store, found) = match opened {
            Some(Ok((store, found))) => (Some(store), found),
            _ => (None, Vec::new()),
        };
        let outbox = Self {
            started_at: clock.now(),
            clock,
            store,
            state: Mutex::default(),
            composers: Semaphore::new(COMPOSERS),
            stop: CancellationToken::new(),
            has_lost: Notify::new(),
            metrics: Metrics::default(),
        };
        let queued = found.len();
        {
            let mut state = outbox.state.lock();
            state.next = outbox.store.as_ref().map(Store::last).unwrap_or_default();
            state.adopt(found, outbox.started_at);
        }
        if queued > 0 {
            tracing::info!(queued, "e-mails of the process before found in the outbox");
        }
        Arc::new(outbox)
    }

    /// Goes over to another configuration: a login may work now, a server may be back.
    pub(in crate::alertmanager) fn apply<'r>(&self, receivers: impl IntoIterator<Item = &'r Receiver>) {
        let mut configs = HashMap::new();
        for receiver in receivers {
            for integration in &receiver.integrations {
                if let Notifier::Email(email) = &integration.notifier {
                    let key = (receiver.name.clone(), integration.index);
                    configs.insert(key, Arc::new(Email::clone(email)));
                }
            }
        }
        let mut state = self.state.lock();
        state.configs = configs;
        state.lanes.values_mut().for_each(Lane::reopen);
    }

    /// Letters of the process before that the notification log knows explain nothing: if the first flush tells
    /// the same again, then because it happened again.
    pub(in crate::alertmanager) fn settle<'e>(&self, entries: impl Iterator<Item = (&'e Key, &'e Entry)>) {
        let mut state = self.state.lock();
        if state.known.is_empty() {
            return;
        }
        for (key, entry) in entries {
            let Some(id) = thread::last_id(&entry.memory) else { continue };
            let log_key = key.to_string();
            if state.known.get(&log_key).is_some_and(|known| known.id == id) {
                state.known.remove(&log_key);
            }
        }
    }

    /// Begins to deliver what the process before left.
    pub(in crate::alertmanager) fn resume(self: &Arc<Self>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let heads = state.chains.keys().filter_map(|key| state.head(key));
        let got = state.letters.iter().filter(|(_, slot)| slot.is_got).map(|(number, _)| *number);
        let numbers: Vec<u64> = heads.chain(got).collect();
        for number in numbers {
            self.let_go(state, number);
        }
    }

    /// The letters that counted as sent and were lost since the last call.
    pub(in crate::alertmanager) fn take_lost(&self) -> Vec<Lost> {
        std::mem::take(&mut self.state.lock().lost)
    }

    /// Waits until there is something for [`Outbox::take_lost`].
    pub(in crate::alertmanager) async fn has_lost(&self) {
        self.has_lost.notified().await;
    }

    /// Nothing new is begun; flushes that wait for a letter that is safe end.
    pub(in crate::alertmanager) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits, for a moment, until the transactions that run are over.
    pub(in crate::alertmanager) async fn stopped(&self) {
        let idle = async {
            while self.state.lock().workers > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, idle).await;
    }

    /// Sends `message` and waits for what becomes of it, for at most `timeout`.
    pub(in crate::alertmanager::notify) async fn send(
        self: &Arc<Self>,
        config: &Email,
        message: &Message<'_>,
        timeout: Duration,
    ) -> Outcome {
        let deadline = Instant::now() + timeout.saturating_sub(MARGIN);
        let origin = &message.origin;
        let log_key = origin.log_key().to_string();
        let identity = identity(message);
        if let Some(sent) = self.recognise(&log_key, &identity) {
            tracing::info!(group = message.group_key, "an e-mail of the process before tells this already");
            return Tries::one().into_outcome(Ok(sent), true);
        }
        if let Some(failure) = self.barred(config) {
            return Tries::one().into_outcome(Err(failure), false);
        }
        let mut form = Form::Full;
        let began = Instant::now();
        loop {
            let Ok(permit) = tokio::time::timeout_at(deadline, self.composers.acquire()).await else {
                let failure = too_late("waiting to be composed");
                return Tries::one().into_outcome(Err(failure), false);
            };
            let hurried;
            let message = if began.elapsed() > HURRY {
                hurried = without_insight(message);
                &hurried
            } else {
                message
            };
            let posted = self.post(config, message, &log_key, &identity, (form, timeout)).await;
            drop(permit);
            let (number, sent, heard) = match posted {
                Ok(posted) => posted,
                Err(failure) => return Tries::one().into_outcome(Err(failure), false),
            };
            match self.hear(number, heard, deadline).await {
                // Where it is not accepted yet it is safe.
                Ok((is_accepted, tries)) => return tries.into_outcome(Ok(sent), is_accepted),
                Err((fault, _)) if fault.is_size() && form == Form::Full => form = Form::Small,
                Err((fault, tries)) => return tries.into_outcome(Err(fault.into()), false),
            }
        }
    }

    /// What the process before has sent or will send, if it tells the same.
    fn recognise(&self, log_key: &str, identity: &str) -> Option<Sent> {
        let mut state = self.state.lock();
        if clock::until(self.clock.now(), self.started_at) > RECOGNISE {
            state.known.clear();
        }
        // Whatever it is: later flushes are about later news.
        let known = state.known.remove(log_key)?;
        (known.identity == identity).then_some(Sent { memory: known.memory, id: Some(known.id) })
    }

    /// Composes a letter and puts it into the outbox.
    async fn post(
        self: &Arc<Self>,
        config: &Email,
        message: &Message<'_>,
        log_key: &str,
        identity: &str,
        (form, timeout): (Form, Duration),
    ) -> Result<(u64, Sent, oneshot::Receiver<Verdict>), Failure> {
        let composed = compose(config, message, form).await?;
        let Composed { from, to, bytes, thread } = composed;
        let id = thread.last.clone();
        let memory = thread.into_memory();
        let letter = Letter {
            log_key: log_key.to_owned(),
            receiver: message.origin.receiver.name.clone(),
            index: message.origin.index,
            from,
            to,
            id: id.clone(),
            memory: memory.clone(),
            identity: identity.to_owned(),
            posted_at: self.clock.now(),
            patience: timeout.max(PATIENCE_MIN).as_secs(),
        };
        let number = self.reserve(bytes.len() as u64)?;
        let (bytes, body) = self.write(number, &letter, bytes).await?;
        let (waiter, heard) = oneshot::channel();
        let slot = Slot {
            to: letter.to.clone(),
            body,
            bytes,
            lane: String::new(),
            tries: Tries::default(),
            is_in_flight: false,
            is_got: false,
            last: None,
            waiter: Some(waiter),
            letter: Arc::new(letter),
        };
        self.put(number, slot, config);
        Ok((number, Sent { memory, id: Some(id) }, heard))
    }

    /// Makes room for a letter.
    fn reserve(&self, bytes: u64) -> Result<u64, Failure> {
        let mut state = self.state.lock();
        let limit = if self.store.is_some() { BYTES_MAX } else { MEMORY_BYTES_MAX };
        if state.letters.len() >= LETTERS_MAX || state.bytes + bytes > limit {
            let n = state.letters.len();
            return Err(Failure::again(format!("the outbox is full: {n} e-mails of {} bytes", state.bytes)));
        }
        state.bytes += bytes;
        state.next += 1;
        Ok(state.next)
    }

    /// Writes a letter to disk, if there is one that takes it.
    async fn write(
        self: &Arc<Self>,
        number: u64,
        letter: &Letter,
        message: Vec<u8>,
    ) -> Result<(u64, Body), Failure> {
        let bytes = message.len() as u64;
        let outbox = Arc::clone(self);
        let letter = letter.clone();
        let written = tokio::task::spawn_blocking(move || {
            let written = outbox.store.as_ref().map(|store| store.write(number, &letter, &message));
            match written {
                Some(Ok(path)) => return Body::Disk(path),
                Some(Err(error)) => {
                    tracing::error!(%error, "write an e-mail to the outbox, sending it from memory");
                }
                None => {}
            }
            Body::Memory(message.into())
        });
        match written.await {
            Ok(body) => Ok((bytes, body)),
            Err(e) => {
                self.state.lock().bytes -= bytes;
                Err(Failure::again(format!("write an e-mail to the outbox: {e}")))
            }
        }
    }

    /// Takes a letter in, behind those of its group.
    fn put(self: &Arc<Self>, number: u64, slot: Slot, config: &Email) {
        let letter = Arc::clone(&slot.letter);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let key = (letter.receiver.clone(), letter.index);
        state.configs.entry(key).or_insert_with(|| Arc::new(config.clone()));
        let lane = lane_of(&state.configs, &letter);
        for older in state.superseded_by(&letter) {
            self.metrics.superseded.inc();
            tracing::info!(group = letter.log_key, "an e-mail that waits makes place for a newer one");
            Self::discard(state, older);
        }
        state.letters.insert(number, Slot { lane, ..slot });
        state.chains.entry(letter.log_key.clone()).or_default().push_back(number);
        self.let_next_go(state, &letter.log_key);
    }

    /// Lets the first letter of a group go that nobody got, wherever the one before it went.
    fn let_next_go(self: &Arc<Self>, state: &mut State, log_key: &str) {
        if let Some(number) = state.head(log_key) {
            self.let_go(state, number);
        }
    }

    fn let_go(self: &Arc<Self>, state: &mut State, number: u64) {
        if let Some(slot) = state.letters.get(&number)
            && !slot.is_in_flight
        {
            let lane = lane_of(&state.configs, &slot.letter);
            self.schedule(state, number, &lane);
        }
    }

    /// Waits for what becomes of a letter: whether it was accepted (else it is safe), after how many attempts.
    async fn hear(
        self: &Arc<Self>,
        number: u64,
        mut heard: oneshot::Receiver<Verdict>,
        deadline: Instant,
    ) -> Result<(bool, Tries), (Fault, Tries)> {
        let judge = |verdict: Result<Verdict, _>| match verdict {
            Ok(Verdict::Accepted(tries)) => Ok((true, tries)),
            Ok(Verdict::Refused(fault, tries)) => Err((fault, tries)),
            Err(oneshot::error::RecvError { .. }) => {
                Err((Fault::new(Cause::Network, "the outbox let go of the e-mail"), Tries::default()))
            }
        };
        tokio::select! {
            verdict = &mut heard => return judge(verdict),
            () = tokio::time::sleep_until(deadline) => {}
            () = self.stop.cancelled() => {}
        }
        loop {
            {
                let mut guard = self.state.lock();
                let state = &mut *guard;
                match state.letters.get_mut(&number) {
                    Some(slot) if matches!(slot.body, Body::Disk(_)) => {
                        slot.waiter = None;
                        let why = slot.last.as_ref().map(|fault| fault.message.as_str());
                        let (group, attempts) = (&slot.letter.log_key, slot.tries.n);
                        tracing::warn!(group, attempts, error = why, "e-mail waits in the outbox");
                        return Ok((false, slot.tries.clone()));
                    }
                    Some(slot) if !slot.is_in_flight && !slot.is_got => {
                        let tries = slot.tries.clone();
                        let fault = slot.last.clone().unwrap_or_else(|| {
                            let message = "context deadline exceeded before the first attempt";
                            Fault::new(Cause::Network, message)
                        });
                        self.forget(state, number);
                        return Err((fault, tries));
                    }
                    // Whether it is accepted is not known yet and will be soon, or is known just now.
                    _ => {}
                }
            }
            let soon = tokio::time::timeout(POLL, &mut heard).await;
            if let Ok(verdict) = soon {
                return judge(verdict);
            }
        }
    }

    /// Removes a letter and lets the next of its group go.
    fn forget(self: &Arc<Self>, state: &mut State, number: u64) -> Option<Slot> {
        let slot = Self::discard(state, number)?;
        self.let_next_go(state, &slot.letter.log_key);
        Some(slot)
    }

    /// Removes a letter and its file.
    fn discard(state: &mut State, number: u64) -> Option<Slot> {
        let slot = state.remove(number)?;
        if let Body::Disk(path) = &slot.body
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "remove an e-mail of the outbox");
        }
        Some(slot)
    }

    /// Removes the files of letters that were delivered a while ago.
    fn purge(&self) {
        let now = Instant::now();
        let mut old = Vec::new();
        {
            let mut state = self.state.lock();
            while let Some((until, _)) = state.delivered.front()
                && *until <= now
            {
                old.extend(state.delivered.pop_front());
            }
        }
        for (_, path) in old {
            let _ = std::fs::remove_file(path);
        }
    }

    pub(in crate::alertmanager) fn expose(&self, out: &mut Exposition) {
        let (queued, bytes, oldest) = {
            let state = self.state.lock();
            let oldest = state.letters.values().map(|slot| slot.letter.posted_at).min();
            (state.letters.len(), state.bytes, oldest)
        };
        let now = self.clock.now();
        let age = oldest.map_or(0.0, |oldest| clock::until(now, oldest).as_secs_f64());
        out.gauge("ferula_email_queued", "Number of e-mails in the outbox.", queued as f64);
        out.gauge("ferula_email_queued_bytes", "Size of the e-mails in the outbox.", bytes as f64);
        let help = "Age of the oldest e-mail in the outbox.";
        out.gauge("ferula_email_oldest_queued_age_seconds", help, age);
        let counters: [(&str, &str, &Counter); 3] = [
            (
                "ferula_email_sent_total",
                "E-mails that a server accepted for all recipients that it did not refuse.",
                &self.metrics.sent,
            ),
            (
                "ferula_email_superseded_total",
                "E-mails that made place for a newer one of their group.",
                &self.metrics.superseded,
            ),
            (
                "ferula_email_recipients_refused_total",
                "Recipients that a server refused for good.",
                &self.metrics.recipients_refused,
            ),
        ];
        for (name, help, counter) in counters {
            out.family(name, help, Kind::Counter);
            out.sample(name, &[], counter.get() as f64);
        }
        let by_class = |out: &mut Exposition, name: &str, help: &str, counts: &BTreeMap<&str, u64>| {
            out.family(name, help, Kind::Counter);
            for class in ["4xx", "5xx", "auth", "config", "network", "age"] {
                out.sample(name, &[("class", class)], counts.get(class).copied().unwrap_or_default() as f64);
            }
        };
        let deferred = self.metrics.deferred.lock().clone();
        let help = "Attempts after which an e-mail was put off.";
        by_class(out, "ferula_email_deferred_total", help, &deferred);
        let rejected = self.metrics.rejected.lock().clone();
        let help = "E-mails that nobody got nor will get.";
        by_class(out, "ferula_email_rejected_total", help, &rejected);
    }
}

impl State {
    /// Takes over what the process before left.
    fn adopt(&mut self, found: Vec<Found>, now: Timestamp) {
        let cutoff = clock::before(now, RECOGNISE);
        for found in found {
            let Found { number, path, letter, bytes, to, is_got, delivered_at } = found;
            // The last of a chain stays.
            let known = Known {
                identity: letter.identity.clone(),
                id: letter.id.clone(),
                memory: letter.memory.clone(),
            };
            if delivered_at.is_none_or(|at| at > cutoff) {
                self.known.insert(letter.log_key.clone(), known);
            }
            if delivered_at.is_some() || to.is_empty() {
                self.delivered.push_back((Instant::now() + RECOGNISE, path));
                continue;
            }
            self.bytes += bytes;
            self.chains.entry(letter.log_key.clone()).or_default().push_back(number);
            let slot = Slot {
                letter: Arc::new(letter),
                to,
                body: Body::Disk(path),
                bytes,
                lane: String::new(),
                tries: Tries::default(),
                is_in_flight: false,
                is_got,
                last: None,
                waiter: None,
            };
            self.letters.insert(number, slot);
        }
    }

    /// The first letter of a group that nobody got.
    fn head(&self, log_key: &str) -> Option<u64> {
        let chain = self.chains.get(log_key)?;
        let is_head = |number: &&u64| self.letters.get(number).is_some_and(|slot| !slot.is_got);
        chain.iter().find(is_head).copied()
    }

    /// The letters that `newer` makes superfluous.
    fn superseded_by(&self, newer: &Letter) -> Vec<u64> {
        let chain = self.chains.get(&newer.log_key).into_iter().flatten();
        let is_stale = |number: &&u64| {
            self.letters.get(number).is_some_and(|slot| {
                let age = clock::until(newer.posted_at, slot.letter.posted_at);
                !slot.is_in_flight
                    && slot.waiter.is_none()
                    && (!slot.is_got || slot.to.iter().all(|to| newer.to.contains(to)))
                    && age > Duration::from_secs(slot.letter.patience)
            })
        };
        chain.filter(is_stale).copied().collect()
    }

    /// Recipients that `got` a letter of a group need not get its elders: what to note about those, and which
    /// have nobody left. An attempt that runs is let be.
    fn outrun(&mut self, newer: u64, log_key: &str, got: &[String]) -> (Vec<(PathBuf, Progress)>, Vec<u64>) {
        let (mut notes, mut ended) = (Vec::new(), Vec::new());
        let chain = self.chains.get(log_key).into_iter().flatten();
        for number in chain.take_while(|number| **number != newer) {
            let slot = self.letters.get_mut(number).filter(|slot| slot.is_got && !slot.is_in_flight);
            let Some(slot) = slot else { continue };
            let done: Vec<_> = slot.to.extract_if(.., |to| got.contains(to)).collect();
            if slot.to.is_empty() {
                ended.push(*number);
            } else if let (Body::Disk(path), false) = (&slot.body, done.is_empty()) {
                notes.push((path.clone(), Progress { done, ..Progress::default() }));
            }
        }
        (notes, ended)
    }

    /// Takes a letter out of all lists; its file and the next of its group are the caller's.
    fn remove(&mut self, number: u64) -> Option<Slot> {
        let slot = self.letters.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        if let Some(lane) = self.lanes.get_mut(&slot.lane) {
            lane.remove(number);
        }
        let key = &slot.letter.log_key;
        if let Some(chain) = self.chains.get_mut(key) {
            chain.retain(|other| *other != number);
            if chain.is_empty() {
                self.chains.remove(key);
            }
        }
        Some(slot)
    }
}

type Configs = HashMap<(String, usize), Arc<Email>>;

/// The lane of a letter; one without a name is for those whose receiver has gone.
fn lane_of(configs: &Configs, letter: &Letter) -> String {
    configs.get(&(letter.receiver.clone(), letter.index)).map(|config| lane::name(config)).unwrap_or_default()
}

/// The message with nothing that has to be asked for.
fn without_insight<'m>(message: &Message<'m>) -> Message<'m> {
    Message { extras: Extras { insight: None, ..message.extras.clone() }, ..message.clone() }
}

/// What a message tells: the same alerts in the same states after the same message before. Times are not
/// part of it, for a restart may shift them.
fn identity(message: &Message<'_>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(thread::last_id(&message.memory).unwrap_or_default().as_bytes());
    for alert in &message.data.alerts {
        context.update(b"\0");
        context.update(alert.fingerprint.as_bytes());
        context.update(alert.status().as_bytes());
    }
    let hash = context.finish();
    hex(&hash.as_ref()[..16])
}

fn too_late(what: &str) -> Failure {
    Failure::last(format!("notify deadline exceeded while {what}")).because("contextDeadlineExceeded")
}

#[cfg(test)]
mod tests;
