//! Queries at random, asked of Ferula and of Prometheus over the same data: values, order, errors and annotations are
//! equal, or it is known why not.
//!
//! [`data`] is written once and both servers open a copy. [`generate`] writes expressions, right and ([`spoil`]) wrong
//! ones; each is asked as an instant or a range query, with experimental features off and on. A request whose answers
//! differ is asked again: where Prometheus disagrees with itself nobody can agree with it. What is left is made
//! smaller, looked up in `tests/it/differential/known.yaml` and otherwise fails the test.
//!
//! - `FERULA_DIFFERENTIAL_QUERIES`, `_SEED`: how many, which ones.
//! - `FERULA_DIFFERENTIAL_PEER`: the reference server's name among the peers, `prometheus` (3.5) or
//!   `prometheus-next` (3.14).
//! - `FERULA_DIFFERENTIAL_FERULA`: another binary than the one built with the test.
//! - `FERULA_DIFFERENTIAL_SERVE`: keeps both servers up for that many seconds instead and says where they are.
//! - `FERULA_DIFFERENTIAL_REPORT`: a file for all differences.

mod answer;
mod data;
mod expression;
mod generate;
mod histograms;
mod known;
mod request;
mod spoil;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use self::answer::{Answer, Verdict, compare, contrast};
use self::generate::Language;
use self::known::Known;
use self::request::{Request, request};
use crate::process::{CLIENT, Home, RUNTIME, Server, peer};

/// What `make compat` and plain `cargo test` ask.
const QUERIES_DEFAULT: usize = 1500;

/// Requests under way at a time.
const CONCURRENCY: usize = 4;

/// How often Prometheus is asked again before it counts as being sure.
const REPEATS: usize = 4;
/// As the order of a Go map may happen to be the same a few times.
const REPEATS_OF_ORDER: usize = 14;

/// How many differences are made smaller, how many requests that may take each, and how many are shown.
const SHRUNK: usize = 60;
const SHRINK_REQUESTS: usize = 120;
const SHOWN: usize = 12;
/// How many of those that are no differences the report file shows.
const NOTED: usize = 200;

/// Of a long answer, this much is shown.
const SHOWN_BYTES: usize = 1500;

const CONFIG: &str = "global: {evaluation_interval: 1m}\nstorage: {tsdb: {out_of_order_time_window: 4h}}\n";

/// Features that both servers get.
struct Setup {
    name: &'static str,
    features: &'static str,
    is_experimental: bool,
}

const SETUPS_NEW: [Setup; 3] = [
    Setup {
        name: "features off",
        features: "xor2-encoding,st-storage,histograms-st-encoding",
        is_experimental: false,
    },
    Setup {
        name: "features on",
        features: "xor2-encoding,st-storage,histograms-st-encoding,promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers,use-start-timestamps",
        is_experimental: true,
    },
    Setup {
        name: "features on, delayed name removal",
        features: "xor2-encoding,st-storage,histograms-st-encoding,promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers,promql-delayed-name-removal,type-and-unit-labels",
        is_experimental: true,
    },
];

const SETUPS_OLD: [Setup; 2] = [
    Setup {
        name: "features off",
        features: "native-histograms,promql-duration-expr",
        is_experimental: false,
    },
    Setup {
        name: "features on",
        features: "native-histograms,promql-duration-expr,promql-experimental-functions,promql-delayed-name-removal",
        is_experimental: true,
    },
];

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Both servers on copies of one directory.
struct Pair {
    theirs: Server,
    ours: Server,
}

impl Pair {
    fn start(peer: &Path, data: &Path, setup: &Setup) -> (Self, [Home; 2]) {
        let homes = [Home::new(CONFIG), Home::new(CONFIG)];
        for home in &homes {
            assert!(
                Command::new("cp").arg("-r").arg(data).arg(home.path("data")).status().unwrap().success()
            );
        }
        let feature = format!("--enable-feature={}", setup.features);
        let args = [feature.as_str(), "--storage.tsdb.retention.time=100y"];
        let ours =
            PathBuf::from(variable("FERULA_DIFFERENTIAL_FERULA", env!("CARGO_BIN_EXE_ferula").to_owned()));
        let pair = Self { theirs: homes[0].start_peer(peer, &args), ours: homes[1].start_peer(&ours, &args) };
        (pair, homes)
    }
}

async fn ask(server: &Server, request: &Request) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&request.parameters).finish();
    let send = async {
        let url = format!("{}{}", server.url, request.path);
        // Prometheus reads forms of these two alone.
        let post = CLIENT.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(body);
        let response = post.send().await?;
        let status = response.status().as_u16();
        Ok::<_, reqwest::Error>(Answer { status, body: response.text().await? })
    };
    send.await.unwrap_or_else(|e| Answer { status: 0, body: format!("no answer: {e}") })
}

async fn ask_both(pair: &Pair, request: &Request) -> (Answer, Answer) {
    let (theirs, ours) =
        futures_util::future::join(ask(&pair.theirs, request), ask(&pair.ours, request)).await;
    (theirs, ours)
}

/// Whether Prometheus says now this and now that, and whether ours was one of it.
enum Steadiness {
    Steady,
    Unsteady { is_ours_among: bool },
}

async fn steadiness(
    pair: &Pair,
    known: &Known,
    request: &Request,
    theirs: &Answer,
    ours: &Answer,
    verdict: Verdict,
) -> Steadiness {
    let repeats = if matches!(verdict, Verdict::Different("order" | "values and order")) {
        REPEATS_OF_ORDER
    } else {
        REPEATS
    };
    let mut steady = true;
    for _ in 0..repeats {
        let again = ask(&pair.theirs, request).await;
        if compare(&again, ours, known).is_fine() {
            return Steadiness::Unsteady { is_ours_among: true };
        }
        steady &= compare(theirs, &again, known).is_fine();
    }
    if steady { Steadiness::Steady } else { Steadiness::Unsteady { is_ours_among: false } }
}

/// A request whose answers differ, as small as it could be made.
struct Difference {
    setup: &'static str,
    what: Verdict,
    asked: Request,
    shrunk: Request,
    theirs: Answer,
    ours: Answer,
}

/// Leaves out what can be left out while the answers differ in the same respect.
async fn shrink(pair: &Pair, known: &Known, difference: &mut Difference) {
    let mut left = SHRINK_REQUESTS;
    'again: while let Some(expr) = difference.shrunk.expr.clone() {
        for smaller in expr.smaller() {
            if left == 0 {
                return;
            }
            left -= 1;
            let request = difference.shrunk.with_expr(smaller);
            let (theirs, ours) = ask_both(pair, &request).await;
            let verdict = compare(&theirs, &ours, known);
            let is_kept = verdict == difference.what
                && matches!(
                    steadiness(pair, known, &request, &theirs, &ours, verdict).await,
                    Steadiness::Steady
                );
            if is_kept {
                (difference.shrunk, difference.theirs, difference.ours) = (request, theirs, ours);
                continue 'again;
            }
        }
        return;
    }
}

#[derive(Default)]
struct Counts {
    asked: usize,
    /// Answered with an error by both.
    refused: usize,
    /// Answered with nothing by both.
    empty: usize,
    same: usize,
    rounded: usize,
    ties: usize,
    unsteady_among: usize,
    unsteady: usize,
    known: BTreeMap<String, usize>,
    different: Vec<Difference>,
    /// Some of those that are no difference and yet not the same.
    noted: Vec<Difference>,
}

async fn run(pair: &Pair, setup: &'static Setup, requests: Vec<Request>, known: &Known, counts: &mut Counts) {
    let asked = futures_util::stream::iter(requests.iter().map(|request| ask_both(pair, request)));
    let mut answers = asked.buffered(CONCURRENCY);
    let mut at = 0;
    while let Some((theirs, ours)) = answers.next().await {
        let request = &requests[at];
        at += 1;
        counts.asked += 1;
        counts.refused += usize::from(theirs.status != 200 && ours.status != 200);
        counts.empty +=
            usize::from(theirs.body.contains("\"result\":[]") && ours.body.contains("\"result\":[]"));
        let what = compare(&theirs, &ours, known);
        match what {
            Verdict::Same => counts.same += 1,
            Verdict::Rounded | Verdict::Ties => {
                *(if what == Verdict::Ties { &mut counts.ties } else { &mut counts.rounded }) += 1;
                counts.note(setup.name, what, request, &theirs, &ours);
            }
            Verdict::Form | Verdict::Different(_) => {
                match steadiness(pair, known, request, &theirs, &ours, what).await {
                    Steadiness::Unsteady { is_ours_among: true } => {
                        counts.unsteady_among += 1;
                        continue;
                    }
                    Steadiness::Unsteady { is_ours_among: false } => {
                        counts.unsteady += 1;
                        counts.note("unsteady", what, request, &theirs, &ours);
                        continue;
                    }
                    Steadiness::Steady => {}
                }
                if let Some(because) = known.reason(request, &theirs, &ours) {
                    *counts.known.entry(because.to_owned()).or_default() += 1;
                    continue;
                }
                let mut difference = Difference {
                    setup: setup.name,
                    what,
                    asked: request.clone(),
                    shrunk: request.clone(),
                    theirs,
                    ours,
                };
                if counts.different.len() < SHRUNK {
                    shrink(pair, known, &mut difference).await;
                }
                counts.different.push(difference);
            }
        }
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_BYTES);
    if end < text.len() { format!("{} ... ({} bytes)", &text[..end], text.len()) } else { text.to_owned() }
}

impl Difference {
    fn report(&self, known: &Known) -> String {
        let [theirs, ours] = contrast(&self.theirs, &self.ours, self.what, known);
        format!(
            "[{}] {:?}\n  asked      {}\n  smaller    {}\n  prometheus {} {}\n  ferula     {} {}\n",
            self.setup,
            self.what,
            self.asked.line(),
            self.shrunk.line(),
            self.theirs.status,
            cut(&theirs),
            self.ours.status,
            cut(&ours)
        )
    }
}

impl Counts {
    fn note(&mut self, setup: &'static str, what: Verdict, asked: &Request, theirs: &Answer, ours: &Answer) {
        if self.noted.len() < NOTED {
            let (asked, shrunk) = (asked.clone(), asked.clone());
            let (theirs, ours) = (theirs.clone(), ours.clone());
            self.noted.push(Difference { setup, what, asked, shrunk, theirs, ours });
        }
    }

    fn summary(&self) -> String {
        let mut out = format!(
            "{} queries: {} equal, {} equal within rounding, {} with equal values in another order, {} of which Prometheus gives several answers \
             ({} of them ours), {} known to differ, {} different; of all {} refused by both, {} empty",
            self.asked,
            self.same,
            self.rounded,
            self.ties,
            self.unsteady + self.unsteady_among,
            self.unsteady_among,
            self.known.values().sum::<usize>(),
            self.different.len(),
            self.refused,
            self.empty
        );
        for (because, n) in &self.known {
            write!(out, "\n  {n:5} {because}").unwrap();
        }
        out
    }
}

#[test]
fn queries_at_random_are_answered_as_the_reference_server_answers_them() {
    let name = variable("FERULA_DIFFERENTIAL_PEER", "prometheus".to_owned());
    let Some(peer) = peer(&name, "queries_at_random") else { return };
    let is_new = name.ends_with("-next");
    let setups: &'static [Setup] = if is_new { &SETUPS_NEW } else { &SETUPS_OLD };
    let n_queries = variable("FERULA_DIFFERENTIAL_QUERIES", QUERIES_DEFAULT);
    let seed = variable("FERULA_DIFFERENTIAL_SEED", 1_u64);
    let only = variable("FERULA_DIFFERENTIAL_SETUP", usize::MAX);
    let home = tempfile::tempdir().unwrap();
    let n_series = data::write(home.path(), seed, is_new);
    let known = known::load(is_new);
    let started = Instant::now();
    let mut counts = Counts::default();
    for (at, setup) in setups.iter().enumerate().filter(|(at, _)| only == usize::MAX || only == *at) {
        let (mut pair, _homes) = Pair::start(&peer, home.path(), setup);
        let serve = variable("FERULA_DIFFERENTIAL_SERVE", 0);
        if serve > 0 {
            say(&format!("{}: {} at {}, ferula at {}", setup.name, name, pair.theirs.url, pair.ours.url));
            std::thread::sleep(Duration::from_secs(serve));
            continue;
        }
        let language = Language { is_new, is_experimental: setup.is_experimental };
        let indices = (0..n_queries).filter(|i| i % setups.len() == at);
        let requests = indices.map(|i| request(seed, i, language)).collect();
        RUNTIME.block_on(run(&pair, setup, requests, &known, &mut counts));
        for server in [&mut pair.theirs, &mut pair.ours] {
            assert!(server.process.is_running(), "a server ended:\n{}", server.process.log());
        }
    }
    let summary = format!("seed {seed}, {n_series} series, {:.0?}, {}", started.elapsed(), counts.summary());
    say(&summary);
    let report = |list: &[Difference]| -> Vec<String> { list.iter().map(|d| d.report(&known)).collect() };
    let different = report(&counts.different);
    if let Ok(path) = std::env::var("FERULA_DIFFERENTIAL_REPORT") {
        let noted = report(&counts.noted).join("\n");
        let text = format!(
            "{summary}\n\n{}\n\nno differences, and yet not the same:\n\n{noted}",
            different.join("\n")
        );
        std::fs::write(&path, text).unwrap();
    }
    assert!(different.is_empty(), "{summary}\n\n{}", different[..different.len().min(SHOWN)].join("\n"));
}

/// Says it although the test passes.
fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("differential: {text}\n").as_bytes());
}
