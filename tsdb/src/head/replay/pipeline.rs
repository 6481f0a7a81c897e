//! Work whose first half may be done in any order and whose second half may not.
//!
//! Jobs are prepared by whoever is free, a bounded number ahead. What they yield goes to queues in the order of the
//! jobs, and whoever is free empties a queue, one thread at a time each. So decoding uses all cores, and still
//! every shard is given its samples in the order of the log.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// Jobs prepared ahead of the first one that is not, for each thread.
const AHEAD: usize = 4;

/// Parts that wait in one queue, before nothing more is prepared: one shard may get all of it.
const WAITING: usize = 32;

/// What a prepared job yields: parts, each for one queue, and why there are no more if it failed.
#[derive(Debug)]
pub(in crate::head) struct Prepared<P, E> {
    pub(in crate::head) parts: Vec<(usize, P)>,
    pub(in crate::head) failure: Option<E>,
}

struct State<P, E> {
    /// The next job to prepare.
    next: usize,
    /// All before were prepared and are in the queues.
    done: usize,
    /// Those from `done` on, as far as they are prepared.
    ready: VecDeque<Option<Prepared<P, E>>>,
    queues: Vec<VecDeque<P>>,
    is_busy: Vec<bool>,
    failed: Option<(usize, E)>,
    has_panicked: bool,
}

impl<P, E> State<P, E> {
    /// Moves what is ready to the queues, up to the first job that is not.
    fn advance(&mut self) {
        while let Some(Some(_)) = self.ready.front() {
            let Prepared { parts, failure } = self.ready.pop_front().flatten().expect("looked at above");
            if self.failed.is_none() {
                for (queue, part) in parts {
                    self.queues[queue].push_back(part);
                }
                self.failed = failure.map(|error| (self.done, error));
            }
            self.done += 1;
        }
    }

    fn is_over(&self, n_jobs: usize) -> bool {
        self.has_panicked
            || (self.done == self.next
                && (self.failed.is_some() || self.next == n_jobs)
                && self.queues.iter().all(VecDeque::is_empty)
                && !self.is_busy.contains(&true))
    }
}

/// Tells the others when a thread dies, so that they do not wait for it for ever.
struct Alarm<'a, P, E> {
    state: &'a Mutex<State<P, E>>,
    changed: &'a Condvar,
}

impl<P, E> Drop for Alarm<'_, P, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.lock().has_panicked = true;
            self.changed.notify_all();
        }
    }
}

/// Prepares `n_jobs` jobs and applies what they yield.
///
/// The first job that fails, in their order, ends it: what it and the jobs before it yield is applied, what those
/// after it yield is not, and its number is returned. An error while applying is returned as that of the last job begun.
pub(in crate::head) fn run<P: Send, E: Send>(
    n_jobs: usize,
    n_queues: usize,
    prepare: impl Fn(usize) -> Prepared<P, E> + Sync,
    apply: impl Fn(usize, P) -> Result<(), E> + Sync,
) -> Result<(), (usize, E)> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let n_threads = cores.min(n_jobs.max(1));
    let state = Mutex::new(State {
        next: 0,
        done: 0,
        ready: VecDeque::new(),
        queues: (0..n_queues).map(|_| VecDeque::new()).collect(),
        is_busy: vec![false; n_queues],
        failed: None,
        has_panicked: false,
    });
    let changed = Condvar::new();
    let work = || {
        let _alarm = Alarm { state: &state, changed: &changed };
        let mut it = state.lock();
        while !it.is_over(n_jobs) {
            if let Some(queue) = (0..n_queues).find(|&q| !it.is_busy[q] && !it.queues[q].is_empty()) {
                let parts = std::mem::take(&mut it.queues[queue]);
                it.is_busy[queue] = true;
                drop(it);
                let applied = parts.into_iter().try_for_each(|part| apply(queue, part));
                it = state.lock();
                it.is_busy[queue] = false;
                if let Err(error) = applied {
                    it.failed = Some((it.next.saturating_sub(1), error));
                    it.queues.iter_mut().for_each(VecDeque::clear);
                }
            } else if it.failed.is_none()
                && it.next < n_jobs
                && it.next - it.done < AHEAD * n_threads
                && it.queues.iter().all(|queue| queue.len() < WAITING)
            {
                let job = it.next;
                it.next += 1;
                it.ready.push_back(None);
                drop(it);
                let prepared = prepare(job);
                it = state.lock();
                let at = job - it.done;
                it.ready[at] = Some(prepared);
                it.advance();
            } else {
                changed.wait(&mut it);
                continue;
            }
            changed.notify_all();
        }
        changed.notify_all();
    };
    std::thread::scope(|scope| {
        for _ in 1..n_threads {
            scope.spawn(work);
        }
        work();
    });
    state.into_inner().failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_gets_its_parts_in_the_order_of_the_jobs() {
        let seen: Vec<Mutex<Vec<usize>>> = (0..3).map(|_| Mutex::default()).collect();
        let prepare = |job: usize| {
            // Some take longer than others.
            std::hint::black_box((0..job % 7 * 500).max());
            Prepared { parts: vec![(job % 3, job), ((job + 1) % 3, job)], failure: None::<()> }
        };
        let apply = |queue: usize, part: usize| {
            let mut seen = seen[queue].try_lock().expect("one thread at a time");
            seen.push(part);
            Ok(())
        };
        assert_eq!(run(1000, 3, prepare, apply), Ok(()));
        for (queue, seen) in seen.iter().enumerate() {
            let expected: Vec<usize> =
                (0..1000).filter(|job| job % 3 == queue || (job + 1) % 3 == queue).collect();
            assert_eq!(*seen.lock(), expected);
        }
        assert_eq!(
            run(0, 1, |_| Prepared { parts: vec![(0, ())], failure: None::<()> }, |_, ()| Ok(())),
            Ok(())
        );
    }

    #[test]
    fn a_queue_that_nobody_keeps_up_with_holds_up_the_rest() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let (prepared, applied) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let prepare = |job: usize| {
            prepared.fetch_add(1, SeqCst);
            Prepared { parts: vec![(0, job)], failure: None::<()> }
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let apply = |_: usize, _: usize| {
            // What was taken, what waits, and what is being prepared.
            let most = 2 * (WAITING + AHEAD * cores);
            for _ in 0..200 {
                let ahead = prepared.load(SeqCst) - applied.load(SeqCst);
                assert!(ahead <= most, "{ahead} jobs wait");
                std::thread::yield_now();
            }
            applied.fetch_add(1, SeqCst);
            Ok(())
        };
        assert_eq!(run(3000, 1, prepare, apply), Ok(()));
        assert_eq!(applied.load(SeqCst), 3000);
    }

    #[test]
    fn the_first_failure_ends_it_and_what_came_before_is_applied() {
        let seen = Mutex::new(Vec::new());
        let prepare = |job: usize| {
            let failure = (job == 50 || job == 60).then_some(job);
            Prepared { parts: vec![(0, job)], failure }
        };
        let apply = |_, part| {
            seen.lock().push(part);
            Ok(())
        };
        assert_eq!(run(100, 1, prepare, apply), Err((50, 50)));
        assert_eq!(*seen.lock(), (0..=50).collect::<Vec<_>>());
        let prepare = |job: usize| Prepared { parts: vec![(job % 2, job)], failure: None };
        let failed = run(100, 2, prepare, |_, part| if part < 9 { Ok(()) } else { Err(part) });
        assert!(failed.unwrap_err().1 >= 9);
    }
}
