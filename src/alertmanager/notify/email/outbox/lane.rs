//! One server and way of being let in: which letters are to go there, when, and the sessions that take them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use config::alertmanager::Email;
use config::http_client::SecretSource;
use model::quote::hex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::store::{self, Letter, Progress};
use super::{AGE_MAX, Body, KEEP_DELIVERED, Lost, Outbox, Slot, State, Verdict, lane_of};
use crate::alertmanager::clock;
use crate::alertmanager::notify::Failure;
use crate::alertmanager::notify::email::session::{Cause, Fault, Session};

/// Sessions with one server.
const PARALLEL: usize = 4;
/// Messages in one session; some servers want no more.
const MESSAGES_PER_SESSION: usize = 100;
/// One attempt ends after this at the latest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(5);
/// The first pause of a letter that is put off; each later one is twice as long, give or take a quarter.
const LETTER_PAUSE: Duration = Duration::from_secs(1);
const LETTER_PAUSE_MAX: Duration = Duration::from_mins(5);
/// The same of a server that cannot be reached.
const LANE_PAUSE: Duration = Duration::from_millis(500);
const LANE_PAUSE_MAX: Duration = Duration::from_mins(1);
/// A refused login is not tried again so soon: accounts are locked.
const LOGIN_PAUSE: Duration = Duration::from_mins(5);

/// What goes to one server, as one user.
#[derive(Default)]
pub(super) struct Lane {
    /// Heads of their chains and letters that somebody got, oldest first.
    ready: BTreeSet<u64>,
    deferred: BTreeSet<(Instant, u64)>,
    workers: usize,
    is_watched: bool,
    /// Attempts that failed in a row before any message was told.
    failures: u32,
    closed_until: Option<Instant>,
    /// The login was refused: since then, and why.
    barred: Option<(Instant, Fault)>,
    wake: Arc<Notify>,
}

/// Mails go through one lane if their sessions begin alike: one that needs TLS never travels in a session
/// that was opened for one that does not.
pub(super) fn name(config: &Email) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let settings = (
        (&config.hello, &config.auth_identity, config.require_tls, config.force_implicit_tls),
        (&config.tls, config.extensions.is_auth_optional),
    );
    context.update(format!("{settings:?}").as_bytes());
    let token = config.extensions.auth_token.as_ref();
    let tls_key = config.tls.key.as_ref();
    let secrets = [Some(&config.auth_password), Some(&config.auth_secret), token, tls_key];
    for secret in secrets {
        context.update(b"\0");
        match secret {
            Some(SecretSource::Inline(secret)) => context.update(secret.expose().as_bytes()),
            // What is in the file may change, and is read for each session.
            Some(SecretSource::File(path)) => context.update(path.as_os_str().as_encoded_bytes()),
            Some(SecretSource::Ref(name)) => context.update(name.as_bytes()),
            None => {}
        }
    }
    let hash = context.finish();
    format!("{} {} {}", config.smarthost, config.auth_username, hex(&hash.as_ref()[..8]))
}

impl Lane {
    pub(super) fn reopen(&mut self) {
        self.closed_until = None;
        self.barred = None;
        self.failures = 0;
        self.wake.notify_one();
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.ready.remove(&number);
        self.deferred.retain(|(_, other)| *other != number);
    }

    /// Lets a letter go as soon as there is a session for it.
    pub(super) fn put_ready(&mut self, number: u64) {
        if !self.deferred.iter().any(|(_, other)| *other == number) {
            self.ready.insert(number);
            self.wake.notify_one();
        }
    }

    /// Keeps a letter for later; whoever watches the clock may have to wake earlier than he thought.
    fn defer(&mut self, at: Instant, number: u64) {
        self.deferred.insert((at, number));
        self.wake.notify_one();
    }

    fn closed_until(&self, now: Instant) -> Option<Instant> {
        let barred = self.barred.as_ref().map(|(until, _)| *until);
        self.closed_until.max(barred).filter(|until| *until > now)
    }

    /// Whether one more session would have something to do.
    fn wants_worker(&self, now: Instant) -> bool {
        let is_closed = self.closed_until(now).is_some();
        let limit = if is_closed || self.failures > 0 { 1 } else { PARALLEL };
        let has_work = !self.ready.is_empty() || !self.deferred.is_empty();
        // Where nothing is ready one session watches the clock.
        let is_idle = self.ready.is_empty() || is_closed;
        has_work && self.workers < limit && !(is_idle && self.workers > 0)
    }
}

/// What a session does next.
enum Next {
    Send(Box<Job>),
    Wait(Instant, Arc<Notify>),
    End,
}

/// One attempt.
struct Job {
    number: u64,
    letter: Arc<Letter>,
    to: Vec<String>,
    body: Body,
    /// Somebody got it in an earlier attempt.
    is_got: bool,
    config: Option<Arc<Email>>,
    began: Instant,
}

fn pause(first: Duration, max: Duration, failures: u32) -> Duration {
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max);
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}

impl Outbox {
    /// Puts a letter on its lane, and sees that somebody works there.
    pub(super) fn schedule(self: &Arc<Self>, state: &mut State, number: u64, lane: &str) {
        if let Some(slot) = state.letters.get_mut(&number)
            && slot.lane != lane
        {
            let before = std::mem::replace(&mut slot.lane, lane.to_owned());
            if let Some(before) = state.lanes.get_mut(&before) {
                before.remove(number);
            }
        }
        state.lanes.entry(lane.to_owned()).or_default().put_ready(number);
        self.staff(state, lane);
    }

    fn staff(self: &Arc<Self>, state: &mut State, name: &str) {
        let Some(lane) = state.lanes.get_mut(name) else { return };
        if self.stop.is_cancelled() || !lane.wants_worker(Instant::now()) {
            return;
        }
        lane.workers += 1;
        state.workers += 1;
        let outbox = Arc::clone(self);
        let name = name.to_owned();
        tokio::spawn(async move { outbox.work(&name).await });
    }

    /// Why a login would only make things worse, for a while after one was refused.
    pub(super) fn barred(&self, config: &Email) -> Option<Failure> {
        let state = self.state.lock();
        let (until, fault) = state.lanes.get(&name(config))?.barred.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?.as_secs();
        let message = format!("{} (not tried again for {left} s)", fault.message);
        Some(Fault::new(Cause::Login, message).into())
    }

    /// One session after the other, as long as there is something to do.
    async fn work(self: Arc<Self>, lane: &str) {
        let mut session: Option<Session> = None;
        let mut told = 0;
        loop {
            match self.next(lane) {
                Next::Send(job) => {
                    if told >= MESSAGES_PER_SESSION {
                        close(&mut session).await;
                    }
                    if session.is_none() {
                        told = 0;
                    }
                    told += 1;
                    self.attempt(lane, *job, &mut session).await;
                    self.purge();
                }
                Next::Wait(until, wake) => {
                    close(&mut session).await;
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = wake.notified() => {}
                        () = self.stop.cancelled() => {}
                    }
                    if let Some(lane) = self.state.lock().lanes.get_mut(lane) {
                        lane.is_watched = false;
                    }
                }
                Next::End => break,
            }
        }
        close(&mut session).await;
        self.purge();
        let mut state = self.state.lock();
        state.workers -= 1;
    }

    /// Decides under the lock, so that no letter is left without somebody to care.
    fn next(self: &Arc<Self>, name: &str) -> Next {
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        loop {
            let Some(lane) = state.lanes.get_mut(name) else { return Next::End };
            while let Some((at, number)) = lane.deferred.first().copied()
                && at <= now
            {
                lane.deferred.pop_first();
                lane.ready.insert(number);
            }
            let closed_until = lane.closed_until(now);
            let wait = match closed_until {
                Some(until) if !(lane.ready.is_empty() && lane.deferred.is_empty()) => Some(until),
                None if lane.ready.is_empty() => lane.deferred.first().map(|(at, _)| *at),
                _ => None,
            };
            let has_work = closed_until.is_none() && !lane.ready.is_empty();
            if self.stop.is_cancelled() || (!has_work && (wait.is_none() || lane.is_watched)) {
                lane.workers -= 1;
                return Next::End;
            }
            if let (Some(until), false) = (wait, has_work) {
                lane.is_watched = true;
                return Next::Wait(until, Arc::clone(&lane.wake));
            }
            // There is work, and a letter that has gone meanwhile is none.
            let Some(number) = lane.ready.pop_first() else { continue };
            let Some(slot) = state.letters.get_mut(&number) else { continue };
            let right = lane_of(&state.configs, &slot.letter);
            if right != name {
                // Since it came here its receiver has been given another server: no session of ours goes there.
                self.schedule(state, number, &right);
                continue;
            }
            slot.is_in_flight = true;
            slot.tries.n += 1;
            let letter = Arc::clone(&slot.letter);
            let job = Job {
                number,
                to: slot.to.clone(),
                body: slot.body.clone(),
                is_got: slot.is_got,
                config: state.configs.get(&(letter.receiver.clone(), letter.index)).cloned(),
                letter,
                began: now,
            };
            self.staff(state, name);
            return Next::Send(Box::new(job));
        }
    }

    /// One attempt at one letter, and what follows from it.
    async fn attempt(self: &Arc<Self>, lane: &str, job: Job, session: &mut Option<Session>) {
        let age = clock::until(self.clock.now(), job.letter.posted_at);
        if age > AGE_MAX {
            let fault = Fault::new(Cause::Network, format!("not accepted within {AGE_MAX:?}"));
            self.give_up(&job, &fault, "age");
            return;
        }
        let Some(config) = &job.config else {
            let receiver = &job.letter.receiver;
            let what = format!("receiver {receiver:?} has no such e-mail configuration any more");
            self.put_off(lane, &job, &Fault::new(Cause::Unsuitable, what));
            return;
        };
        let body = match &job.body {
            Body::Memory(bytes) => Ok(Arc::clone(bytes)),
            Body::Disk(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || store::read_message(&path)).await;
                read.map_err(std::io::Error::other).flatten().map(Into::into)
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(e) => {
                let fault = Fault::new(Cause::Config, format!("read the e-mail in the outbox: {e}"));
                self.give_up(&job, &fault, "config");
                return;
            }
        };
        let deadline = Instant::now() + ATTEMPT_TIMEOUT;
        if session.as_ref().is_none_or(|session| !session.is_usable()) {
            close(session).await;
            match Session::open(config, deadline).await {
                Ok(opened) => *session = Some(opened),
                Err(fault) => {
                    self.unreachable(lane, &job, &fault);
                    return;
                }
            }
            if let Some(lane) = self.state.lock().lanes.get_mut(lane) {
                lane.failures = 0;
                lane.barred = None;
            }
        }
        let Some(open) = session.as_mut() else { return };
        open.set_deadline(deadline);
        let answers = open.transact(&job.letter.from, &job.to, &body).await;
        if !open.is_usable() {
            close(session).await;
        }
        match answers {
            Ok(answers) => self.note(lane, &job, answers).await,
            Err(fault) if fault.is_temporary() => {
                if fault.cause == Cause::Refused(421) {
                    self.close_lane(lane);
                }
                self.put_off(lane, &job, &fault);
            }
            Err(fault) => self.give_up(&job, &fault, fault.class()),
        }
    }

    /// What the server said about each recipient.
    async fn note(self: &Arc<Self>, lane: &str, job: &Job, answers: Vec<Result<(), Fault>>) {
        let (mut done, mut refused, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let (mut never, mut later) = (None, None);
        for (to, answer) in job.to.iter().zip(answers) {
            match answer {
                Ok(()) => done.push(to.clone()),
                Err(fault) if fault.is_temporary() => {
                    left.push(to.clone());
                    later = Some(fault);
                }
                Err(fault) => {
                    self.metrics.recipients_refused.inc();
                    let group = &job.letter.log_key;
                    tracing::error!(recipient = to, group, error = fault.message, "recipient refused");
                    refused.push(to.clone());
                    never = Some(fault);
                }
            }
        }
        // Who was refused for good has not got it.
        if left.is_empty() && done.is_empty() && !job.is_got {
            let fault = never.unwrap_or_else(|| Fault::new(Cause::Config, "no recipients"));
            self.give_up(job, &fault, fault.class());
            return;
        }
        let accepted = done.clone();
        if let Body::Disk(path) = &job.body
            && !(done.is_empty() && refused.is_empty())
        {
            let delivered_at = left.is_empty().then(|| self.clock.now());
            mark(path.clone(), Progress { done, refused, delivered_at }).await;
        }
        for (path, progress) in self.hand_on(job, &accepted, left) {
            mark(path, progress).await;
        }
        if let Some(fault) = later {
            self.put_off(lane, job, &fault);
        }
    }

    /// Ends a letter that nobody waits for any more, and lets the next one go as soon as somebody got this one:
    /// what is to be noted about its elders.
    fn hand_on(
        self: &Arc<Self>,
        job: &Job,
        accepted: &[String],
        left: Vec<String>,
    ) -> Vec<(PathBuf, Progress)> {
        let log_key = &job.letter.log_key;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (notes, outrun) = state.outrun(job.number, log_key, accepted);
        for older in outrun {
            self.metrics.superseded.inc();
            tracing::info!(group = log_key, "all who waited for an e-mail got a newer one");
            Self::discard(state, older);
        }
        if left.is_empty() {
            self.metrics.sent.inc();
            if let Some(mut slot) = state.remove(job.number) {
                slot.tries.end(job.began.elapsed());
                answer(slot.waiter, Verdict::Accepted(slot.tries));
                if let Body::Disk(path) = slot.body {
                    state.delivered.push_back((Instant::now() + KEEP_DELIVERED, path));
                }
            }
        } else if let Some(slot) = state.letters.get_mut(&job.number) {
            slot.to = left;
            if !accepted.is_empty() {
                slot.is_got = true;
                let mut tries = slot.tries.clone();
                tries.end(job.began.elapsed());
                answer(slot.waiter.take(), Verdict::Accepted(tries));
            }
        }
        self.let_next_go(state, log_key);
        notes
    }

    /// The server cannot be reached, or does not let us in.
    fn unreachable(self: &Arc<Self>, lane: &str, job: &Job, fault: &Fault) {
        match fault.cause {
            Cause::Config => self.give_up_or_put_off(lane, job, fault),
            Cause::Login => {
                let mut guard = self.state.lock();
                let state = &mut *guard;
                if let Some(lane) = state.lanes.get_mut(lane) {
                    lane.barred = Some((Instant::now() + LOGIN_PAUSE, fault.clone()));
                }
                // All flushes that wait on this lane have their answer; what counts as sent stays.
                let on_lane = |slot: &Slot| slot.lane == lane && slot.waiter.is_some();
                let waiting = state.letters.iter().filter(|(_, slot)| on_lane(slot));
                let waiting: Vec<_> = waiting.map(|(number, _)| *number).collect();
                for number in waiting.into_iter().filter(|number| *number != job.number) {
                    if state.letters.get(&number).is_some_and(|slot| slot.is_in_flight) {
                        continue;
                    }
                    if let Some(slot) = self.forget(state, number) {
                        answer(slot.waiter, Verdict::Refused(fault.clone(), slot.tries));
                    }
                }
                drop(guard);
                self.give_up_or_put_off(lane, job, fault);
            }
            Cause::Network | Cause::Unsuitable | Cause::Refused(_) => {
                self.close_lane(lane);
                self.count_deferred(fault);
                let mut state = self.state.lock();
                if let Some(slot) = state.letters.get_mut(&job.number) {
                    slot.is_in_flight = false;
                    slot.tries.end(job.began.elapsed());
                    slot.last = Some(fault.clone());
                }
                // It is the server's fault: the letter keeps its place.
                if state.letters.contains_key(&job.number)
                    && let Some(lane) = state.lanes.get_mut(lane)
                {
                    lane.ready.insert(job.number);
                    lane.wake.notify_one();
                }
                drop(state);
                let group = &job.letter.log_key;
                tracing::warn!(
                    group,
                    error = fault.message,
                    "mail server cannot be used, trying again later"
                );
            }
        }
    }

    /// A flush that waits can come again; what counts as sent has to stay until somebody has seen to it.
    fn give_up_or_put_off(self: &Arc<Self>, lane: &str, job: &Job, fault: &Fault) {
        let slot_is_awaited = |slot: &Slot| slot.waiter.is_some();
        if self.state.lock().letters.get(&job.number).is_some_and(slot_is_awaited) {
            self.give_up(job, fault, fault.class());
        } else {
            self.put_off(lane, job, fault);
        }
    }

    fn close_lane(&self, lane: &str) {
        let mut state = self.state.lock();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.failures = lane.failures.saturating_add(1);
            let until = Instant::now() + pause(LANE_PAUSE, LANE_PAUSE_MAX, lane.failures);
            lane.closed_until = Some(until);
        }
    }

    fn count_deferred(&self, fault: &Fault) {
        *self.metrics.deferred.lock().entry(fault.class()).or_default() += 1;
    }

    /// The letter comes again later.
    fn put_off(self: &Arc<Self>, lane: &str, job: &Job, fault: &Fault) {
        self.count_deferred(fault);
        let mut state = self.state.lock();
        let Some(slot) = state.letters.get_mut(&job.number) else { return };
        slot.is_in_flight = false;
        slot.tries.end(job.began.elapsed());
        slot.last = Some(fault.clone());
        let attempts = u32::try_from(slot.tries.n).unwrap_or(u32::MAX);
        let at = Instant::now() + pause(LETTER_PAUSE, LETTER_PAUSE_MAX, attempts);
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.defer(at, job.number);
        }
        self.staff(&mut state, lane);
        drop(state);
        let group = &job.letter.log_key;
        tracing::warn!(group, attempts, error = fault.message, "e-mail was put off, trying again later");
    }

    /// Nobody will get the letter who has not got it.
    fn give_up(self: &Arc<Self>, job: &Job, fault: &Fault, class: &'static str) {
        let mut state = self.state.lock();
        let Some(mut slot) = self.forget(&mut state, job.number) else { return };
        slot.tries.end(job.began.elapsed());
        let attempts = slot.tries.n;
        let message = fault.message.clone();
        let letter = &slot.letter;
        let (group, id) = (&letter.log_key, &letter.id);
        if slot.is_got {
            // To tell it anew would tell it twice to those who got it.
            let recipients = slot.to.join(", ");
            tracing::error!(group, id, attempts, recipients, error = message, "e-mail does not reach all");
            if let Cause::Refused(_) = fault.cause {
                self.metrics.recipients_refused.add(slot.to.len() as u64);
            }
            return;
        }
        let is_retold = fault.is_size() && slot.waiter.is_some();
        if !answer(slot.waiter, Verdict::Refused(fault.clone(), slot.tries)) {
            tracing::error!(group, id, attempts, error = message, "e-mail is lost");
            state.lost.push(Lost { key: letter.key(), id: id.clone(), message });
            self.has_lost.notify_one();
        }
        if !is_retold {
            *self.metrics.rejected.lock().entry(class).or_default() += 1;
        }
    }
}

/// Notes on disk what became of a letter. Without it somebody may get the same mail again after a restart.
async fn mark(path: PathBuf, progress: Progress) {
    let marked = tokio::task::spawn_blocking(move || store::mark(&path, progress)).await;
    if let Err(error) = marked.map_err(std::io::Error::other).flatten() {
        tracing::error!(%error, "note in the outbox that an e-mail was accepted");
    }
}

/// Tells the flush, if there is one that listens.
fn answer(waiter: Option<tokio::sync::oneshot::Sender<Verdict>>, verdict: Verdict) -> bool {
    waiter.is_some_and(|waiter| waiter.send(verdict).is_ok())
}

async fn close(session: &mut Option<Session>) {
    if let Some(mut session) = session.take() {
        session.quit().await;
    }
}
