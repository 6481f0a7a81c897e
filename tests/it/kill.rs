//! The server is killed while it takes samples in: what a query has shown before is there afterwards, bit by bit.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Home, now, pairs, until_true};
use crate::scripted::Scripted;

const N_TARGETS: usize = 4;
const N_SERIES: u32 = 100;
const N_ROUNDS: usize = 4;
/// All samples.
const QUERY: &str = "k[10m]";

/// A target whose values count its scrapes, each series with a shape of its own.
fn target() -> Scripted {
    let scrapes = AtomicU32::new(0);
    Scripted::target(move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        let mut text = String::new();
        for series in 0..N_SERIES {
            let value = f64::from(n) + f64::from(series) / 1000.0;
            writeln!(text, "k{{series=\"{series}\"}} {value}").unwrap();
        }
        text
    })
}

type Pairs = BTreeMap<String, Vec<(String, String)>>;

/// Every pair of `before` is in `after`; answers how many there were.
fn assert_kept(before: &Pairs, after: &Pairs, round: usize) -> usize {
    for (series, old) in before {
        let new = after.get(series).unwrap_or_else(|| panic!("round {round}: {series} is gone"));
        let lost: Vec<_> = old.iter().filter(|pair| !new.contains(pair)).collect();
        assert!(lost.is_empty(), "round {round}: {series} lost {} of {}: {lost:?}", lost.len(), old.len());
    }
    before.values().map(Vec::len).sum()
}

fn survives(args: &[&str], seconds: f64) {
    let targets: Vec<_> = (0..N_TARGETS).map(|_| target()).collect();
    let addresses: Vec<_> = targets.iter().map(Scripted::address).collect();
    let home = Home::new(&format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs: [{{job_name: k, static_configs: [{{targets: {addresses:?}}}]}}]\n"
    ));
    let mut before = Pairs::new();
    let (mut end, mut n_before) = (0.0, 0);
    for round in 0..=N_ROUNDS {
        let server = home.start(args);
        if round > 0 {
            let after = pairs(&server.query(QUERY, end));
            n_before = assert_kept(&before, &after, round);
        }
        let started = now();
        until_true("samples of every series after the start", || {
            now() > started + seconds
                && server.value(&format!("count(count_over_time(k[{seconds}s]) > 2)"))
                    == Some(N_TARGETS as f64 * f64::from(N_SERIES))
        });
        end = now();
        // Killed at once, so that the last samples shown are the last in the log.
        let text = server.query_text(QUERY, end);
        server.kill();
        before = pairs(&serde_json::from_str::<serde_json::Value>(&text).unwrap()["data"]);
    }
    let n_series = N_TARGETS * N_SERIES as usize;
    assert_eq!(before.len(), n_series);
    assert!(n_before > n_series * N_ROUNDS * 3, "only {n_before} samples were compared");
    // The targets count: within a round nothing was left out either.
    for (series, pairs) in &before {
        let values: Vec<f64> = pairs.iter().map(|(_, value)| value.parse().unwrap()).collect();
        let leaps = values.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        assert_eq!(leaps, 0, "{series} has values out of their order: {values:?}");
    }
}

#[test]
fn no_visible_sample_is_lost_by_kill_9() {
    survives(&[], 2.0);
}

#[test]
fn no_visible_sample_is_lost_by_kill_9_while_blocks_are_cut() {
    let args = [
        "--storage.tsdb.min-block-duration=2s",
        "--storage.tsdb.max-block-duration=6s",
        "--storage.tsdb.block-reload-interval=1s",
    ];
    survives(&args, 4.0);
}
