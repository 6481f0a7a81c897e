//! Bodies at random, right and spoilt, scraped by Ferula and by Prometheus under the same options: requests, stored
//! series with values to the bit, timestamps, histograms and staleness, exemplars, metadata, reports of scrapes and
//! errors are equal, or it is known why not.
//!
//! Each case is a job of its own with one target, which answers with one body after the other ([`case`]). Both servers
//! have a listener of their own ([`serve`]) that counts their requests, so that they see the same bodies in the same
//! order whenever they ask; the last body is repeated until all targets of both are done. Samples are read from the
//! data directories afterwards, where nothing is left out or rounded ([`seen`]). Cases that differ are scraped again: a
//! scrape that was missed on a busy machine is no difference.
//!
//! - `FERULA_EXPOSITION_BODIES`, `_SEED`: how many, which ones. `_CASE`: one case alone.
//! - `FERULA_EXPOSITION_FORMAT`: of `text`, `openmetrics` and `protobuf` those to run alone.
//! - `FERULA_EXPOSITION_WITHOUT`: keys that no job has.
//! - `FERULA_EXPOSITION_SETUP`: the number of one setup alone.
//! - `FERULA_EXPOSITION_SHRINK`: makes that many of the cases that differ smaller.
//! - `FERULA_EXPOSITION_FERULA`: another binary than the one built with the test.
//! - `FERULA_EXPOSITION_KNOWN`: a file with further reasons, for who looks for the others.
//! - `FERULA_EXPOSITION_REPORT`: a file for all differences.

mod case;
mod family;
mod known;
mod proto;
mod seen;
mod serve;
mod shrink;
mod spoil;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::case::{Case, Format, SETUPS, Scope, setup_of};
use self::known::Known;
use self::seen::Difference;
use self::serve::Targets;
use crate::process::{Home, skipped};

/// What plain `cargo test` scrapes.
const BODIES_DEFAULT: usize = 200;

/// Up to so many cases all setups run at the same time.
const CASES_AT_ONCE: usize = 150;

/// Targets beside each other.
const TARGETS_MAX: usize = 500;

/// How long after their last scrape was due targets may take to be done.
const PATIENCE: Duration = Duration::from_secs(40);

/// How many differences are shown, and how much of each.
const SHOWN: usize = 10;
const SHOWN_BYTES: usize = 6000;

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is left out beside 3.5: keys and features that it does not know, and what it did otherwise nearly everywhere,
/// as its first tries at converted histograms and labels for types and units. It knows legacy names, but wants the
/// escaping said besides.
const NEW_KEYS: [&str; 4] = [
    "scrape_native_histograms",
    "extra_scrape_metrics",
    "convert_classic_histograms_to_nhcb",
    "metric_name_validation_scheme: legacy",
];
const NEW_FEATURES: [&str; 3] = ["st-storage", "xor2-encoding", "type-and-unit-labels"];

/// The reference server: 3.14 where the peers have it.
struct Peer {
    path: PathBuf,
    is_new: bool,
}

fn reference(test: &str) -> Option<Peer> {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/ferula-peers");
    let bin = std::env::var_os("FERULA_PEERS").map_or_else(home, PathBuf::from).join("bin");
    let found = [("prometheus-next", true), ("prometheus", false)];
    let peer = found
        .map(|(name, is_new)| Peer { path: bin.join(name), is_new })
        .into_iter()
        .find(|p| p.path.exists());
    if peer.is_none() {
        skipped(test, &format!("no prometheus in {} (`make peers` brings it)", bin.display()));
    }
    peer
}

/// What became of a case.
enum Outcome {
    Compared(Vec<Difference>),
    /// The reference server could not cope with it.
    Dropped(&'static str),
}

/// How cases are run.
struct Course {
    peer: Peer,
    ours: PathBuf,
    interval: Duration,
}

/// The reference server died.
struct Crashed;

impl Course {
    /// Scrapes cases that share a setup with both servers and compares. `base` is the time that their bodies know.
    fn run(&self, setup: usize, cases: &[Case], base: i64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for cases in cases.chunks(TARGETS_MAX) {
            match self.scrape(setup, cases, base) {
                Ok(of_chunk) => outcomes.extend(of_chunk),
                Err(Crashed) if cases.len() == 1 => {
                    say(&format!(
                        "the reference server dies of this and is not compared: {}",
                        cases[0].shown()
                    ));
                    outcomes.push(Outcome::Dropped("died"));
                }
                Err(Crashed) => {
                    // Whoever it was is in one of the halves.
                    let (left, right) = cases.split_at(cases.len() / 2);
                    outcomes.extend(self.run(setup, left, base));
                    outcomes.extend(self.run(setup, right, base));
                }
            }
        }
        outcomes
    }

    fn scrape(&self, setup: usize, cases: &[Case], base: i64) -> Result<Vec<Outcome>, Crashed> {
        let targets = [Targets::start(cases), Targets::start(cases)];
        let homes = [0, 1].map(|side| Home::new(&self.config(cases, &targets[side].address)));
        let features = SETUPS[setup].features.split(',');
        let features: Vec<_> =
            features.filter(|feature| self.peer.is_new || !NEW_FEATURES.contains(feature)).collect();
        let feature = format!("--enable-feature={}", features.join(","));
        let args = [feature.as_str(), "--scrape.discovery-reload-interval=1s"];
        let mut theirs = homes[0].start_peer(&self.peer.path, &args);
        let mut ours = homes[1].start_peer(&self.ours, &args);

        let n_steps = cases.iter().map(|case| case.answers.len()).max().unwrap_or(0) as u32;
        let deadline = Instant::now() + self.interval * (n_steps + 3) + PATIENCE;
        // Who asks once more has done with the last body.
        let is_done = |side: &Targets, at: usize| side.served(at) > cases[at].answers.len();
        let is_stuck = |side: &Targets| (0..cases.len()).filter(|at| !is_done(side, *at)).collect::<Vec<_>>();
        while Instant::now() < deadline && targets.iter().any(|side| !is_stuck(side).is_empty()) {
            std::thread::sleep(Duration::from_millis(100));
            assert!(ours.process.is_running(), "ferula ended:\n{}", ours.process.log());
            if !theirs.process.is_running() {
                return Err(Crashed);
            }
        }
        let stuck = [is_stuck(&targets[0]), is_stuck(&targets[1])];
        let asked = [seen::ask(&theirs, base), seen::ask(&ours, base)];
        let served: Vec<[usize; 2]> =
            (0..cases.len()).map(|at| [targets[0].served(at), targets[1].served(at)]).collect();
        for side in &asked {
            assert_eq!(side.summed, side.summary, "/api/v1/metadata is not the sum of the targets'");
        }
        if let Some(line) = ours.process.logged("BUG") {
            panic!("ferula found a mistake in itself: {line}");
        }
        // One that is stuck in a parser would never end in peace.
        theirs.kill();
        ours.stop();

        let seen = [0, 1].map(|side| {
            let cases = cases.iter().enumerate().map(|(at, case)| {
                let request = targets[side].asked(at).replace(&targets[side].address, "ADDRESS");
                (case.answers.len(), served[at][side], request)
            });
            let failures = seen::failures(&homes[side].path("failures.log"));
            seen::collect(&asked[side], failures.as_ref(), &homes[side].path("data"), cases, base)
        });
        let [theirs, ours] = &seen;
        let outcome = |at: usize| {
            if stuck[0].contains(&at) {
                return Outcome::Dropped("stuck");
            }
            let mut differences = seen::compare(&theirs[at], &ours[at]);
            if stuck[1].contains(&at) {
                let never = "never done with its bodies".to_owned();
                differences.push(Difference {
                    what: "progress".to_owned(),
                    theirs: String::new(),
                    ours: never,
                    of_failed: false,
                });
            }
            Outcome::Compared(differences)
        };
        Ok((0..cases.len()).map(outcome).collect())
    }

    fn config(&self, cases: &[Case], address: &str) -> String {
        let interval = format!("{}ms", self.interval.as_millis());
        let mut config = format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, scrape_failure_log_file: failures.log}}\n\
             storage: {{exemplars: {{max_exemplars: 1000000}}}}\nscrape_configs:\n"
        );
        for (place, case) in cases.iter().enumerate() {
            config.push_str(&case.job(place, address));
        }
        config
    }
}

/// Now, as bodies know it.
fn base() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A case that differs.
struct Different {
    case: Case,
    differences: Vec<Difference>,
}

impl Different {
    fn report(&self) -> String {
        let mut out = self.case.shown();
        for Difference { what, theirs, ours, .. } in &self.differences {
            write!(out, "  {what}\n    prometheus {theirs}\n    ferula     {ours}\n").unwrap();
        }
        out
    }
}

#[derive(Default)]
struct Counts {
    cases: usize,
    bodies: usize,
    /// Not compared.
    dropped: BTreeMap<&'static str, usize>,
    /// Differed once and not again.
    flickered: usize,
    known: BTreeMap<String, usize>,
    different: Vec<Different>,
}

/// Of the differences of a case those that nobody has explained; counts the others.
fn unexplained(
    known: &Known,
    case: &Case,
    differences: Vec<Difference>,
    counts: &mut Counts,
) -> Vec<Difference> {
    let reasons = known.reasons(case, &differences);
    let mut left = Vec::new();
    for (because, difference) in reasons.into_iter().zip(differences) {
        match because {
            Some(because) => *counts.known.entry(because.to_owned()).or_default() += 1,
            None => left.push(difference),
        }
    }
    left
}

fn run(course: &Course, setup: usize, ids: &[usize], seed: u64, scope: &Scope, known: &Known) -> Counts {
    let mut counts = Counts { cases: ids.len(), ..Counts::default() };
    let mut ids = ids.to_vec();
    // What differs at first is looked at again.
    for is_sure in [false, true] {
        let base = base();
        let cases: Vec<_> = ids.iter().map(|id| Case::make(seed, *id, base, scope)).collect();
        if !is_sure {
            counts.bodies = cases.iter().map(|case| case.answers.len()).sum();
        }
        let mut again = Vec::new();
        let outcomes = course.run(setup, &cases, base);
        for (case, outcome) in cases.into_iter().zip(outcomes) {
            let differences = match outcome {
                Outcome::Dropped(why) => {
                    *counts.dropped.entry(why).or_default() += 1;
                    continue;
                }
                Outcome::Compared(differences) => differences,
            };
            let mut scratch = Counts::default();
            let left =
                unexplained(known, &case, differences, if is_sure { &mut counts } else { &mut scratch });
            if left.is_empty() {
                if is_sure {
                    counts.flickered += 1;
                } else {
                    for (because, n) in scratch.known {
                        *counts.known.entry(because).or_default() += n;
                    }
                }
            } else if is_sure {
                counts.different.push(Different { case, differences: left });
            } else {
                again.push(case.id);
            }
        }
        ids = again;
        if ids.is_empty() {
            break;
        }
    }
    counts
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.bodies += other.bodies;
        self.flickered += other.flickered;
        for (why, n) in other.dropped {
            *self.dropped.entry(why).or_default() += n;
        }
        for (because, n) in other.known {
            *self.known.entry(because).or_default() += n;
        }
        self.different.extend(other.different);
    }

    fn summary(&self) -> String {
        let mut out = format!(
            "{} bodies of {} targets: {} targets differ, {} differed once and not again, {} respects known to differ",
            self.bodies,
            self.cases,
            self.different.len(),
            self.flickered,
            self.known.values().sum::<usize>()
        );
        for (why, n) in &self.dropped {
            write!(out, ", {n} not compared as the reference server {why}").unwrap();
        }
        for (because, n) in &self.known {
            write!(out, "\n  {n:5} {because}").unwrap();
        }
        out
    }
}

fn scope(peer: &Peer) -> Scope {
    let mut formats = vec![Format::Text, Format::OpenMetrics];
    // 3.5 reads protobuf for the sake of native histograms, which are another feature there.
    if peer.is_new {
        formats.extend([Format::Protobuf; 2]);
    }
    let only = variable("FERULA_EXPOSITION_FORMAT", String::new());
    let is_one = |format: &Format, name: &str| format!("{format:?}").eq_ignore_ascii_case(name);
    formats.retain(|format| only.is_empty() || only.split_whitespace().any(|name| is_one(format, name)));
    let without = variable("FERULA_EXPOSITION_WITHOUT", String::new());
    let unknown: &[&str] = if peer.is_new { &[] } else { &NEW_KEYS };
    let without = without.split_whitespace().chain(unknown.iter().copied());
    Scope { formats, without: without.map(str::to_owned).collect() }
}

#[test]
fn bodies_are_taken_as_the_reference_server_takes_them() {
    let Some(peer) = reference("exposition bodies") else { return };
    let seed = variable("FERULA_EXPOSITION_SEED", 1_u64);
    let n_bodies = variable("FERULA_EXPOSITION_BODIES", BODIES_DEFAULT);
    let only = variable("FERULA_EXPOSITION_CASE", usize::MAX);
    let only_setup = variable("FERULA_EXPOSITION_SETUP", usize::MAX);
    let scope = scope(&peer);
    let ours = PathBuf::from(variable("FERULA_EXPOSITION_FERULA", env!("CARGO_BIN_EXE_ferula").to_owned()));
    let known = Known::load(peer.is_new);
    let interval = Duration::from_millis(variable("FERULA_EXPOSITION_INTERVAL_MS", 1000));
    let course = Course { peer, ours, interval };
    let started = Instant::now();

    let mut by_setup: [Vec<usize>; SETUPS.len()] = Default::default();
    let (mut n, mut id) = (0, 0);
    while n < n_bodies {
        n += Case::make(seed, id, 0, &scope).answers.len();
        by_setup[setup_of(id)].push(id);
        id += 1;
    }
    if only != usize::MAX {
        by_setup = Default::default();
        by_setup[setup_of(only)].push(only);
    }
    let groups = || {
        by_setup
            .iter()
            .enumerate()
            .filter(|(i, ids)| !ids.is_empty() && [usize::MAX, *i].contains(&only_setup))
    };
    let one = |(setup, ids): (usize, &Vec<usize>)| run(&course, setup, ids, seed, &scope, &known);
    let mut counts = Counts::default();
    if id <= CASES_AT_ONCE {
        std::thread::scope(|threads| {
            let running: Vec<_> = groups().map(|group| threads.spawn(move || one(group))).collect();
            for thread in running {
                counts.add(thread.join().unwrap());
            }
        });
    } else {
        for group in groups() {
            counts.add(one(group));
        }
    }
    let summary = format!("seed {seed}, {:.0?}, {}", started.elapsed(), counts.summary());
    say(&summary);
    let n_shrunk = variable("FERULA_EXPOSITION_SHRINK", 0);
    if n_shrunk > 0 {
        counts.different.sort_by_key(|different| different.report().len());
        shrink::shrink(&course, &known, &mut counts.different, n_shrunk);
    }
    // Those that have least to look at first.
    counts.different.sort_by_key(|different| different.report().len());
    let reports: Vec<_> = counts.different.iter().map(Different::report).collect();
    if let Ok(path) = std::env::var("FERULA_EXPOSITION_REPORT") {
        std::fs::write(path, format!("{summary}\n\n{}", reports.join("\n"))).unwrap();
    }
    let cut = |text: &String| text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned();
    let shown: Vec<_> = reports.iter().take(SHOWN).map(cut).collect();
    assert!(reports.is_empty(), "{summary}\n\n{}", shown.join("\n"));
}

/// Says it although the test passes.
fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("exposition: {text}\n").as_bytes());
}
