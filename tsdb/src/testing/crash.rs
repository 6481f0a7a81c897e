//! The store on a disk that fails at operation N, for every N that a day of work has.
//!
//! After a kill everything acknowledged is there and nothing of what was refused is there by half. After a refused
//! operation or a full disk the same store goes on. After a power cut the store opens, whatever of the unsynced
//! bytes and names arrived; what was synced is there, and of the rest whole batches in their order.
//!
//! `cargo test` takes every so manieth operation; `FERULA_FAULTS=all` (`make faults`) takes all. A failure names the fault and
//! the last operations before it.

use std::io::ErrorKind;
use std::time::Duration;

use ::model::{MatchOp, Matcher};

use super::*;
use crate::fs::sim::{Fault, Image, Sim};

/// What is done at one point of the script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A batch at so many minutes from the start.
    Batch(i64),
    Maintain(i64),
    /// A batch of samples that come 25 minutes late.
    Late(i64),
    /// Deletes a series of the hours before.
    Delete(i64),
    Clean(i64),
    Snapshot(i64),
    Reopen,
    /// As after a kill -9 at a quiet moment.
    Drop,
}

/// A day in the life of a store: head to blocks, blocks to larger blocks, log to checkpoints, stops and starts.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for tick in 0..90 {
        let minute = tick * 10;
        steps.push(Step::Batch(minute));
        if minute % 60 == 50 {
            steps.push(Step::Maintain(minute));
        }
        match tick {
            7 | 40 => steps.push(Step::Reopen),
            22 | 61 => steps.push(Step::Drop),
            _ => {}
        }
    }
    steps.push(Step::Maintain(900));
    steps.push(Step::Reopen);
    steps
}

/// The same day with late samples, deletions and copies: what a kill must leave alone, and a power cut or a refused
/// operation may undo in part, since the log of late samples is written as well as may be and a deletion changes
/// many files.
fn long_script() -> Vec<Step> {
    let mut steps = Vec::new();
    for step in script() {
        steps.push(step);
        match step {
            Step::Batch(minute) if minute % 70 == 60 => steps.push(Step::Late(minute)),
            Step::Batch(minute) if minute % 150 == 140 => steps.push(Step::Delete(minute)),
            Step::Maintain(410) => steps.push(Step::Clean(410)),
            Step::Maintain(590) => steps.push(Step::Snapshot(590)),
            _ => {}
        }
    }
    steps
}

/// How late samples may be, in minutes.
const WINDOW: u64 = 60;

fn options() -> Options {
    Options {
        wal_segment_bytes: 32 << 10,
        out_of_order_window: Duration::from_mins(WINDOW),
        // Synced where segments end, so that the outcome depends on no clock.
        wal_sync_interval: Duration::ZERO,
        retention: crate::db::Retention {
            time: Some(Duration::from_hours(60)),
            ..crate::db::Retention::default()
        },
        ..Options::default()
    }
}

/// Enough for a segment to end now and then by itself.
fn rows(minute: i64) -> Vec<Row> {
    let t = START + minute * MINUTE;
    let mut rng = fastrand::Rng::with_seed(minute.cast_unsigned());
    // Series come and go, so that some leave the head.
    let first = usize::try_from(minute / 240).unwrap();
    let mut content = |n: usize| {
        if n % 4 == 3 {
            return Content::Histogram(histogram(&mut rng, n, t));
        }
        Content::Float(float(&mut rng, n, t))
    };
    (first..first + 6).map(|n| (n, t, content(n))).collect()
}

/// Where the log ended when a batch was acknowledged: segment and length.
type End = Option<(PathBuf, u64)>;

fn log_end(dir: &Path) -> End {
    let wal = dir.join("wal");
    let last = crate::wal::segment::list(&wal).ok()?.last().copied()?;
    let path = crate::wal::segment::path(&wal, last);
    let len = crate::fs::file_len(&path).ok()?;
    Some((path, len))
}

struct Run {
    world: World,
    sim: Sim,
    ends: Vec<End>,
    /// Batches below this were synced by a stop.
    n_stopped: usize,
    home: tempfile::TempDir,
}

impl Run {
    fn new(fault: Option<Fault>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        std::fs::create_dir(&dir).unwrap();
        let sim = Sim::new(&dir);
        if let Some(fault) = fault {
            sim.plan(fault);
        }
        let mut world = World::new(&dir, options());
        world.window = i64::try_from(WINDOW).unwrap() * MINUTE;
        Self { world, sim, ends: Vec::new(), n_stopped: 0, home }
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        if !self.world.is_open() {
            self.world.open().map_err(|e| e.to_string())?;
        }
        match step {
            Step::Batch(minute) => {
                let committed = self.world.commit(&rows(minute));
                if self.ends.len() < self.world.batches.len() {
                    self.ends.push(log_end(&self.world.dir));
                }
                committed
            }
            Step::Maintain(minute) => {
                self.world.db().maintain(START + minute * MINUTE).map_err(|e| e.to_string())
            }
            Step::Late(minute) => {
                let mut rows = rows(minute);
                for (_, t, _) in &mut rows {
                    *t -= 25 * MINUTE - 7;
                }
                self.world.commit(&rows)
            }
            Step::Delete(minute) => self.delete(minute),
            Step::Clean(minute) => {
                self.world.db().clean_tombstones(START + minute * MINUTE).map_err(|e| e.to_string())
            }
            Step::Snapshot(minute) => {
                self.world.db().snapshot("copy", true, START + minute * MINUTE).map_err(|e| e.to_string())
            }
            Step::Reopen => {
                let closed = self.world.close();
                if closed.is_ok() {
                    self.n_stopped = self.world.batches.len();
                }
                closed.and_then(|()| self.world.open()).map_err(|e| e.to_string())
            }
            Step::Drop => {
                self.world.db = None;
                self.world.open().map_err(|e| e.to_string())
            }
        }
    }

    fn delete(&mut self, minute: i64) -> Result<(), String> {
        let range = TimeRange::new(START + (minute - 200) * MINUTE, START + (minute - 100) * MINUTE);
        let n = usize::try_from(minute / 240).unwrap() + 1;
        let matcher = Matcher::new(MatchOp::Eq, "pod", format!("pod-{n}")).unwrap();
        let deleted = self.world.db().delete(range, &[matcher]);
        let samples = self.world.oracle.entry(series(n)).or_default();
        if self.sim.is_struck() {
            self.world.doubtful =
                samples.keys().filter(|t| range.contains(**t)).map(|&t| (series(n), t)).collect();
        } else {
            samples.retain(|t, _| !range.contains(*t));
        }
        self.world.oracle.retain(|_, samples| !samples.is_empty());
        deleted.map_err(|e| e.to_string())
    }

    /// How many batches a power cut must leave.
    fn n_synced(&self) -> usize {
        let is_synced = |end: &End| {
            let Some((path, len)) = end else { return false };
            // A segment that is gone was replaced by something synced.
            !path.exists() || self.sim.synced_len(path).is_some_and(|synced| synced >= *len)
        };
        self.n_stopped.max(self.ends.iter().take_while(|end| is_synced(end)).count())
    }
}

/// The operations of a whole script.
fn n_operations(script: Vec<Step>) -> u64 {
    let mut run = Run::new(None);
    for step in script {
        run.step(step).unwrap();
        run.world.check(&format!("after {step:?}"));
    }
    assert!(run.world.db().blocks().iter().any(|block| block.compaction.level > 1), "nothing was merged");
    let checkpoints = crate::wal::segment::checkpoints(&run.world.dir.join("wal")).unwrap();
    assert!(!checkpoints.is_empty(), "no checkpoint was written");
    run.sim.count()
}

/// The operations to strike: all of them, or a few that change with the day's seed.
fn strikes(script: Vec<Step>, every: u64) -> Vec<u64> {
    let n = n_operations(script);
    if std::env::var("FERULA_FAULTS").is_ok_and(|which| which == "all") {
        return (1..=n + 20).collect();
    }
    (1..=n).step_by(usize::try_from(every).unwrap()).collect()
}

/// Opens what a fault left, compares, goes on with it, and compares again.
fn go_on(mut world: World, when: &str) {
    world.open().unwrap_or_else(|e| panic!("{when}: does not open: {e}"));
    world.settle();
    world.check(when);
    for minute in [910, 915, 1100] {
        world.commit(&rows(minute)).unwrap_or_else(|e| panic!("{when}: {e}"));
        world.db().maintain(START + minute * MINUTE).unwrap_or_else(|e| panic!("{when}: {e}"));
        world.check(&format!("{when}, gone on to minute {minute}"));
    }
    world.close().unwrap_or_else(|e| panic!("{when}: {e}"));
    world.open().unwrap_or_else(|e| panic!("{when}: does not open again: {e}"));
    world.check(&format!("{when}, opened again"));
    assert!(world.db().quarantined().is_empty(), "{when}: {:?}", world.db().quarantined());
}

/// Runs the script until the fault stops it; `None` if it was over before.
fn until_struck(fault: Fault, script: Vec<Step>) -> Option<Run> {
    let mut run = Run::new(Some(fault));
    run.world.is_off = Some(run.sim.struck());
    for step in script {
        let done = run.step(step);
        if run.sim.is_struck() {
            return Some(run);
        }
        done.unwrap_or_else(|e| panic!("{fault:?}: {step:?} failed before the fault: {e}"));
    }
    None
}

#[test]
fn a_kill_loses_nothing_acknowledged() {
    let mut n_struck = 0;
    for at in strikes(long_script(), 37) {
        let fault = Fault::Stop { at, share: u8::try_from(at % 9).unwrap() };
        let Some(mut run) = until_struck(fault, long_script()) else { break };
        n_struck += 1;
        // The disk stays off until everything of the killed process is gone.
        run.world.db = None;
        let when = format!("{fault:?} after\n{}\n", run.sim.recent());
        run.sim.heal();
        go_on(run.world, &when);
    }
    assert!(n_struck > 10, "{n_struck}");
}

#[test]
fn a_refused_operation_is_survived() {
    let mut n_struck = 0;
    for at in strikes(script(), 23) {
        let kind = if at % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::Other };
        let fault = Fault::Refuse { at, kind };
        let mut run = Run::new(Some(fault));
        for step in script() {
            let done = run.step(step);
            let when = || format!("{fault:?}, {step:?}: {done:?} after\n{}\n", run.sim.recent());
            assert!(done.is_ok() || run.sim.is_struck(), "{}", when());
            if done.is_err() {
                run.world.in_flight = None;
            }
            if run.world.is_open() && run.sim.is_struck() && done.is_err() {
                run.world.check(&when());
            }
        }
        if !run.sim.is_struck() {
            break;
        }
        n_struck += 1;
        run.world.db = None;
        let when = format!("{fault:?}");
        go_on(run.world, &when);
    }
    assert!(n_struck > 10, "{n_struck}");
}

#[test]
fn a_full_disk_is_survived_and_space_makes_it_go_on() {
    let mut n_struck = 0;
    for at in strikes(script(), 23) {
        let fault = Fault::Full { at };
        let mut run = Run::new(Some(fault));
        let mut n_failed = 0;
        for step in script() {
            let done = run.step(step);
            if run.sim.is_struck() && n_failed < 9 {
                n_failed += 1;
                run.world.in_flight = None;
                if run.world.is_open() {
                    run.world.check(&format!("{fault:?}, {step:?}: {done:?} after\n{}\n", run.sim.recent()));
                }
                if n_failed == 9 {
                    run.sim.heal();
                }
            } else {
                done.unwrap_or_else(|e| panic!("{fault:?}, healed {}: {step:?}: {e}", n_failed == 9));
            }
        }
        if n_failed == 0 {
            break;
        }
        n_struck += 1;
        run.sim.heal();
        run.world.db = None;
        go_on(run.world, &format!("{fault:?}"));
    }
    assert!(n_struck > 10, "{n_struck}");
}

#[test]
fn after_a_power_cut_there_are_whole_batches_in_their_order() {
    let mut n_struck = 0;
    for at in strikes(script(), 23) {
        let fault = Fault::Stop { at, share: u8::try_from(at % 9).unwrap() };
        let Some(mut run) = until_struck(fault, script()) else { break };
        n_struck += 1;
        let n_synced = run.n_synced();
        for image in
            [Image::Synced, Image::Names, Image::Contents, Image::Torn(at), Image::Torn(at + 1_000_000)]
        {
            let left = run.home.path().join("left");
            let _ = std::fs::remove_dir_all(&left);
            run.sim.materialise(&left, image);
            let when =
                format!("{fault:?}, {image:?}, {n_synced} batches synced, after\n{}\n", run.sim.recent());
            check_power_cut(&run, &left, matches!(image, Image::Torn(_)), n_synced, &when);
        }
        run.world.db = None;
    }
    assert!(n_struck > 5, "{n_struck}");
}

fn check_power_cut(run: &Run, left: &Path, is_torn: bool, n_synced: usize, when: &str) {
    let (before, before_ends) = (&run.world, &run.ends);
    let mut world = World::new(left, options());
    world.window = before.window;
    world.open().unwrap_or_else(|e| panic!("{when}: does not open: {e}"));
    let found = read(world.db(), TimeRange::ALL);
    let mut batches: Vec<&Batch> = before.batches.iter().collect();
    batches.extend(&before.in_flight);
    let segment = |i: usize| before_ends.get(i).and_then(|end| end.as_ref()).map(|(path, _)| path);
    let mut n_found = 0;
    let mut first_missing = None;
    for (i, batch) in batches.iter().copied().enumerate() {
        let n = batch
            .iter()
            .filter(|(labels, t, meaning)| {
                let sample = found.get(labels).and_then(|samples| samples.get(t));
                assert!(
                    sample.is_none_or(|sample| sample == meaning),
                    "{when}: {labels} at {t} is {sample:?}"
                );
                sample.is_some()
            })
            .count();
        n_found += n;
        // A batch is several records; the log may be torn between them.
        let is_half = n > 0 && n < batch.len();
        let is_in_flight = i == before.batches.len();
        assert!(
            !is_half || is_torn || is_in_flight,
            "{when}: {n} of the {} samples of batch {i}",
            batch.len()
        );
        if n < batch.len() {
            assert!(!is_half || first_missing.is_none(), "{when}: half of batch {i} after a missing one");
            let is_there = |(labels, t, _): &&(Labels, i64, Meaning)| {
                found.get(labels).is_some_and(|samples| samples.contains_key(t))
            };
            world.take(&batch.iter().filter(is_there).cloned().collect());
            first_missing.get_or_insert(i);
            continue;
        }
        if let Some(missing) = first_missing {
            // A segment is synced while the next one is written already, as upstream does: for that moment the newer
            // one may arrive and the older one not.
            let is_border = is_torn && segment(missing) != segment(i);
            assert!(is_border, "{when}: batch {i} is there, batch {missing} before it is not");
        }
        world.take(batch);
    }
    let n_all: usize = found.values().map(BTreeMap::len).sum();
    assert_eq!(n_all, n_found, "{when}: samples that nobody wrote");
    let n_kept = first_missing.unwrap_or(batches.len());
    assert!(n_kept >= n_synced, "{when}: {n_kept} batches are left, {n_synced} were synced");
    world.db = None;
    go_on(world, when);
}
