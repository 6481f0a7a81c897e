//! The store against a plain map: random steps of everything that can be done to it.
//!
//! Every step is followed by a read of everything; some steps end in a crash in the middle of what they do. Kinds of
//! samples that the head refuses as a whole are left out.

use std::time::Duration;

use ::model::{MatchOp, Matcher};
use proptest::prelude::*;

use super::*;
use crate::fs::sim::{Fault, Sim};
use crate::head;

/// What is done; times are in seconds after the newest sample or before it.
#[derive(Clone, Debug)]
enum Step {
    /// So many batches of `count` series from `first` on, `every` seconds apart.
    Scrape {
        n: u8,
        first: u8,
        count: u8,
        every: u16,
        seed: u64,
    },
    /// One batch that is dropped.
    RollBack {
        first: u8,
        seed: u64,
    },
    /// Samples older than what their series has.
    Late {
        first: u8,
        count: u8,
        back: u16,
        seed: u64,
    },
    /// What a series has already, and the same with another value.
    Repeat {
        first: u8,
    },
    /// Series end: their newest sample is a staleness marker.
    End {
        first: u8,
        count: u8,
    },
    /// Several samples of a series in one batch, not all in order.
    Tangle {
        first: u8,
        seed: u64,
    },
    /// The read of a part, by series and time.
    Read {
        mint: u16,
        len: u16,
    },
    Maintain,
    /// Deletes some series in a part of the past.
    Delete {
        of: u8,
        mint: u16,
        len: u16,
    },
    Clean,
    /// A copy of all, which is opened and compared.
    Snapshot,
    Close,
    Kill,
    /// The next step ends at its so manieth operation, of a write with some eighths done.
    Crash {
        after: u8,
        share: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..25_u8, 0..8_u8, 1..6_u8, 5..900_u16, any::<u64>())
            .prop_map(|(n, first, count, every, seed)| Step::Scrape { n, first, count, every, seed }),
        1 => (0..8_u8, any::<u64>()).prop_map(|(first, seed)| Step::RollBack { first, seed }),
        2 => (0..8_u8, 1..6_u8, 1..9000_u16, any::<u64>())
            .prop_map(|(first, count, back, seed)| Step::Late { first, count, back, seed }),
        1 => (0..8_u8).prop_map(|first| Step::Repeat { first }),
        1 => (0..8_u8, 1..6_u8).prop_map(|(first, count)| Step::End { first, count }),
        1 => (0..8_u8, any::<u64>()).prop_map(|(first, seed)| Step::Tangle { first, seed }),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(mint, len)| Step::Read { mint, len }),
        3 => Just(Step::Maintain),
        2 => (0..9_u8, any::<u16>(), any::<u16>())
            .prop_map(|(of, mint, len)| Step::Delete { of, mint, len }),
        1 => Just(Step::Clean),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => (1..30_u8, 0..9_u8).prop_map(|(after, share)| Step::Crash { after, share }),
    ];
    proptest::collection::vec(step, 1..30)
}

/// Whether a matcher takes a series.
type Passes = Box<dyn Fn(&Labels) -> bool>;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

struct Walk {
    world: World,
    sim: Sim,
    habits: Habits,
    now: Timestamp,
    n_crashes: u32,
    n_snapshots: u32,
    /// What comes late into these is nothing to rely on.
    deleted: Vec<(Labels, TimeRange)>,
    home: tempfile::TempDir,
}

fn options() -> Options {
    Options { wal_segment_bytes: 32 << 10, wal_sync_interval: Duration::ZERO, ..Options::default() }
}

/// What a store writes beside the rest so as to start fast or to be small; none of it may change what it holds.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    /// A snapshot of our own with every tick and at a close.
    snapshots: bool,
    /// Upstream's snapshot at a close.
    snapshots_at_close: bool,
    /// Series that have ended leave early.
    drops_stale: bool,
}

fn habits() -> impl Strategy<Value = Habits> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(snapshots, snapshots_at_close, drops_stale)| {
        Habits { snapshots, snapshots_at_close, drops_stale }
    })
}

impl Walk {
    fn new(window: i64, habits: Habits) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        std::fs::create_dir(&dir).unwrap();
        let sim = Sim::new(&dir);
        let window_option = Duration::from_millis(window.cast_unsigned());
        let features =
            head::Features { snapshots_at_close: habits.snapshots_at_close, ..head::Features::default() };
        let options = Options {
            out_of_order_window: window_option,
            head_snapshot_interval: habits.snapshots.then_some(Duration::ZERO),
            stale_series_threshold: if habits.drops_stale { 0.01 } else { 0.0 },
            features,
            ..options()
        };
        let mut world = World::new(&dir, options);
        world.window = window;
        world.is_off = Some(sim.struck());
        world.open().unwrap();
        Self { world, sim, habits, now: START, n_crashes: 0, n_snapshots: 0, deleted: Vec::new(), home }
    }

    /// A value for series `n`; some series change between floats and histograms.
    fn content(rng: &mut fastrand::Rng, n: usize, t: Timestamp) -> Content {
        if !(n.is_multiple_of(3) || n == 7 && t / 1_000_000 % 2 == 0) {
            return Content::Histogram(histogram(rng, n, t));
        }
        Content::Float(float(rng, n, t))
    }

    fn rows(first: u8, count: u8, t: Timestamp, seed: u64) -> Vec<Row> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let first = usize::from(first);
        (first..first + usize::from(count)).map(|n| (n, t, Self::content(&mut rng, n, t))).collect()
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Scrape { n, first, count, every, seed } => {
                for i in 0..n {
                    self.now += i64::from(every) * 1000;
                    self.world.commit(&Self::rows(first, count, self.now, seed ^ u64::from(i)))?;
                }
                Ok(())
            }
            Step::RollBack { first, seed } => {
                self.world.roll_back(&Self::rows(first, 3, self.now + 1000, seed));
                Ok(())
            }
            Step::Late { first, count, back, seed } => {
                // An odd time, which no scrape uses; a second value at the same time is nothing to rely on.
                let t = (self.now - i64::from(back) * 1000).max(START) + 7;
                let mut rows = Self::rows(first, count, t, seed);
                rows.retain(|(n, t, _)| {
                    let samples = self.world.oracle.get(&series(*n));
                    let is_deleted =
                        |(labels, range): &(Labels, TimeRange)| *labels == series(*n) && range.contains(*t);
                    // Of a series that has left the head it is not known how late a sample is.
                    let may_be_gone = self.habits.drops_stale && self.world.ended.contains(&series(*n));
                    samples.is_none_or(|samples| !samples.contains_key(t))
                        && (!may_be_gone || self.world.window > 0)
                        && !self.deleted.iter().any(is_deleted)
                });
                self.world.commit(&rows)
            }
            Step::Repeat { first } => {
                let labels = series(usize::from(first));
                let Some(&t) = self.world.newest.get(&labels) else { return Ok(()) };
                let is_gone = |(of, range): &(Labels, TimeRange)| *of == labels && range.contains(t);
                // Nor what is repeated of a series that has left the head, or was deleted and then left it.
                if (self.habits.drops_stale && self.world.ended.contains(&labels))
                    || self.deleted.iter().any(is_gone)
                {
                    return Ok(());
                }
                // The oracle sees to it that only the very same is accepted.
                self.world.commit(&[
                    (usize::from(first), t, Content::Float(0.125)),
                    (usize::from(first), t, Content::Float(0.25)),
                ])
            }
            Step::End { first, count } => {
                self.now += 5000;
                let series = usize::from(first)..usize::from(first + count);
                let marker = || Content::Float(sample::STALE_NAN);
                self.world.commit(&series.map(|n| (n, self.now, marker())).collect::<Vec<_>>())
            }
            Step::Tangle { first, seed } => {
                let mut rows = Vec::new();
                for offset in [3, 1, 3, 5, 4] {
                    rows.extend(Self::rows(first, 2, self.now + offset * 1000, seed));
                }
                self.now += 6000;
                self.world.commit(&rows)
            }
            Step::Read { mint, len } => {
                let range = self.range(mint, len);
                let mut expected = self.world.oracle.clone();
                for samples in expected.values_mut() {
                    samples.retain(|&t, _| range.contains(t));
                }
                expected.retain(|_, samples| !samples.is_empty());
                match difference(&read(self.world.db(), range), &expected) {
                    Some(difference) => panic!("read of {range:?}: {difference}"),
                    None => Ok(()),
                }
            }
            Step::Maintain => self.world.db().maintain(self.now).map_err(|e| e.to_string()),
            Step::Delete { of, mint, len } => self.delete(of, mint, len),
            Step::Clean => self.world.db().clean_tombstones(self.now).map_err(|e| e.to_string()),
            Step::Snapshot => self.snapshot(),
            Step::Close => self.world.close().and_then(|()| self.world.open()).map_err(|e| e.to_string()),
            Step::Kill => {
                self.world.db = None;
                self.world.open().map_err(|e| e.to_string())
            }
            Step::Crash { after, share } => {
                self.sim.plan(Fault::Stop { at: self.sim.count() + u64::from(after), share });
                Ok(())
            }
        }
    }

    /// The range that two numbers choose of all that is past.
    fn range(&self, mint: u16, len: u16) -> TimeRange {
        let span = (self.now - START).max(1) + 2;
        let mint = START - 1 + i64::from(mint) * span / i64::from(u16::MAX);
        TimeRange::new(mint, mint + i64::from(len) * span / i64::from(u16::MAX))
    }

    fn delete(&mut self, of: u8, mint: u16, len: u16) -> Result<(), String> {
        let mut range = self.range(mint, len);
        // What comes later at deleted times is nothing to rely on.
        range.maxt = range.maxt.min(self.now);
        let (matcher, passes): (_, Passes) = match of {
            7 => {
                (Matcher::new(MatchOp::Eq, "zone", "a"), Box::new(|labels| labels.get(b"zone") == Some(b"a")))
            }
            8 => (Matcher::new(MatchOp::Ne, "none", "x"), Box::new(|_| true)),
            _ => {
                let pod = format!("pod-{of}");
                let matcher = Matcher::new(MatchOp::Eq, "pod", &pod);
                (matcher, Box::new(move |labels| labels.get(b"pod") == Some(pod.as_bytes())))
            }
        };
        let deleted = self.world.db().delete(range, &[matcher.unwrap()]);
        let gone = |labels: &Labels, t: i64| passes(labels) && range.contains(t);
        let known = self.world.newest.keys().filter(|labels| passes(labels));
        self.deleted.extend(known.map(|labels| (labels.clone(), range)));
        if self.sim.is_struck() {
            // Any part of it may have happened.
            self.world.doubtful = self
                .world
                .oracle
                .iter()
                .flat_map(|(labels, samples)| samples.keys().map(move |&t| (labels.clone(), t)))
                .filter(|(labels, t)| gone(labels, *t))
                .collect();
        } else {
            for (labels, samples) in &mut self.world.oracle {
                samples.retain(|&t, _| !gone(labels, t));
            }
            self.world.oracle.retain(|_, samples| !samples.is_empty());
        }
        deleted.map_err(|e| e.to_string())
    }

    fn snapshot(&mut self) -> Result<(), String> {
        self.n_snapshots += 1;
        let name = format!("copy-{}", self.n_snapshots);
        self.world.db().snapshot(&name, true, self.now).map_err(|e| e.to_string())?;
        let to = self.home.path().join(&name);
        copy(&self.world.dir.join("snapshots").join(&name), &to);
        let copied = Db::open(&to, &options(), &ReplayProgress::default()).map_err(|e| e.to_string())?;
        let found = read(&copied, TimeRange::ALL);
        let mut expected = self.world.oracle.clone();
        if self.world.window > 0 {
            // Late samples that are in no block yet are left out, as upstream does.
            for (labels, samples) in &mut expected {
                samples.retain(|t, _| found.get(labels).is_some_and(|samples| samples.contains_key(t)));
            }
            expected.retain(|_, samples| !samples.is_empty());
        }
        if let Some(difference) = difference(&found, &expected) {
            panic!("the snapshot: {difference}");
        }
        Ok(())
    }

    fn walk(&mut self, steps: &[Step]) {
        for (i, step) in steps.iter().enumerate() {
            let done = self.step(step);
            if self.sim.is_struck() {
                self.n_crashes += 1;
                self.world.db = None;
                self.sim.heal();
                self.world.open().unwrap_or_else(|e| panic!("step {i}, after a crash: {e}"));
                self.world.settle();
            } else {
                done.unwrap_or_else(|e| panic!("step {i}, {step:?}: {e}"));
            }
            self.world.check(&format!("after step {i}, {step:?}"));
            assert!(self.world.db().quarantined().is_empty(), "{:?}", self.world.db().quarantined());
        }
    }
}

/// As many as fit a quick run; `FERULA_MODEL_CASES` for more.
fn cases() -> u32 {
    std::env::var("FERULA_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_store_equals_a_map(
        steps in steps(),
        window in prop_oneof![Just(0), Just(30 * MINUTE), Just(3 * HOUR)],
        habits in habits(),
    ) {
        Walk::new(window, habits).walk(&steps);
    }
}

/// Its first life is in a block, its second in the log under another ref, and what was sealed after a restart is under
/// the first one again.
#[test]
fn a_series_that_came_back_survives_two_restarts() {
    let scrape = |n, first, count, every| Step::Scrape { n, first, count, every, seed: 0 };
    Walk::new(0, Habits::default()).walk(&[
        scrape(1, 3, 2, 5),
        scrape(15, 5, 1, 755),
        Step::Maintain,
        scrape(11, 1, 3, 464),
        Step::Close,
        scrape(19, 1, 3, 272),
        Step::Close,
    ]);
}

/// The samples were deleted in the head, then those before them went into a block and the log was cut.
#[test]
fn what_was_deleted_does_not_come_back_with_a_restart() {
    let scrape = |n, every| Step::Scrape { n, first: 0, count: 1, every, seed: 0 };
    Walk::new(0, Habits::default()).walk(&[
        scrape(7, 221),
        scrape(5, 792),
        scrape(16, 176),
        Step::Close,
        scrape(19, 221),
        scrape(17, 503),
        scrape(21, 368),
        scrape(14, 800),
        Step::Delete { of: 7, mint: 43912, len: 13759 },
        Step::Maintain,
        Step::Close,
    ]);
}
