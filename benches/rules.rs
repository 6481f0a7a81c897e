//! One evaluation of 10,000 alerting rules of one series each, all active: what a minute of a big server costs.
//!
//! The floor is what a query of one series costs (some 5 us: plan, select, last sample), twice a lookup of a series in
//! the store by reference (0.1 us) and a write to the log. The target is a fifth of one processor at an interval of a
//! minute: 12 s for all of them, 1.2 ms for each.

#![allow(
    clippy::unwrap_used,
    clippy::default_trait_access,
    clippy::format_collect,
    clippy::print_stdout,
    reason = "a bench stops at what it does not expect, and prints its figures"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferula::rules::group::Group;
use ferula::rules::{Context, Metrics, Options, Storage};
use model::Labels;
use model::storage::{Appendable, SeriesKey};
use promql::{Engine, EngineOptions};
use tsdb::db::Db;

const RULES: usize = 10_000;
const ROUNDS: i64 = 5;
const MINUTE: i64 = 60_000;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open(dir.path(), &tsdb::db::Options::default(), &Default::default()).unwrap());
    let ctx = Context {
        engine: Arc::new(Engine::new(EngineOptions::default())),
        storage: Arc::clone(&db) as Arc<dyn Storage>,
        notify: Box::new(|alerts| drop(black_box(alerts))),
        external_url: "http://here:9090".to_owned(),
        external_labels: arc_swap::ArcSwap::from_pointee(Labels::from_pairs([("region", "eu")])),
        now: || 0,
        options: Options::default(),
        metrics: Metrics::default(),
        story: None,
    };
    let rules: String = (0..RULES)
        .map(|i| {
            format!(
                "  - alert: Alert{i}\n    expr: load{{id=\"{i}\"}} > 0\n    for: 1m\n    labels: {{severity: page, team: a}}\n    \
                 annotations: {{summary: '{{{{ $labels.instance }}}} is at {{{{ $value | humanize }}}}', runbook: 'http://here/{i}'}}\n"
            )
        })
        .collect();
    let text = format!("groups:\n- name: g\n  rules:\n{rules}");
    let file = config::rules::parse(&text, Path::new("/r.yml"), &config::rules::Options::default()).unwrap();
    let group = Group::new(file.groups[0].clone(), Duration::from_mins(1), Duration::ZERO, false);
    let series: Vec<Labels> = (0..RULES)
        .map(|i| {
            Labels::from_pairs([("__name__", "load"), ("id", &i.to_string()), ("instance", "host:9100")])
        })
        .collect();
    for changes in [false, true] {
        let mut fastest = Duration::MAX;
        for round in 0..ROUNDS {
            let round = round + if changes { ROUNDS } else { 0 };
            let t = 1_800_000_000_000 + round * MINUTE;
            let mut appender = db.appender(1);
            for labels in &series {
                let v = if changes { round as f64 } else { 1.0 };
                appender.append(SeriesKey::Labels(labels), t, v).unwrap();
            }
            appender.commit().unwrap();
            let started = Instant::now();
            group.eval(&ctx, t);
            if round > 0 {
                fastest = fastest.min(started.elapsed());
            }
        }
        assert_eq!(group.metrics.last_samples.get(), 2.0 * RULES as f64);
        let us = fastest.as_secs_f64() * 1e6 / RULES as f64;
        let share = fastest.as_secs_f64() / 60.0;
        let what = if changes { "values change" } else { "values stay" };
        println!(
            "alert rules, {what}: {us:.1} us each, {share:.4} of a processor at an interval of a minute"
        );
    }
}
