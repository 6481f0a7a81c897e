//! Which samples a dump shows: flags, and the series in the order in which they come.
//!
//! Compat: prometheus `cmd/promtool/tsdb.go`, `dumpTSDBData`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use model::storage::{SelectHints, SeriesSet};
use model::{Labels, Matcher, SampleBatch, TimeRange};
use tsdb::db::ReadOnly;

use super::Database;

#[derive(Debug, Args)]
pub(super) struct Selection {
    #[command(flatten)]
    database: Database,
    /// Root directory where a sandbox directory will be created, this sandbox is used in case WAL replay generates
    /// chunks (default is the system's directory for temporary files). The sandbox is cleaned up at the end.
    #[arg(long)]
    sandbox_dir_root: Option<PathBuf>,
    /// Minimum timestamp to dump, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MIN, allow_negative_numbers = true)]
    min_time: i64,
    /// Maximum timestamp to dump, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MAX, allow_negative_numbers = true)]
    max_time: i64,
    /// Series selector. Can be specified multiple times.
    #[arg(long = "match", default_value = "{__name__=~'(?s:.*)'}")]
    matches: Vec<String>,
}

/// Shows every series with its samples to `visit`, one at a time.
pub(super) fn each_series(
    options: &Selection,
    mut visit: impl FnMut(&Labels, &SampleBatch) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let range = TimeRange::new(options.min_time, options.max_time);
    let root = options.sandbox_dir_root.as_deref();
    let store = ReadOnly::open(&options.database.path, root).context("opening the db dir")?;
    let querier = store.querier(range)?;
    let selectors = options.matches.iter().map(|text| promql::parse::parse_selector(text));
    let selectors: Vec<Vec<Matcher>> = selectors.collect::<Result<_, _>>()?;
    // One selection comes in the store's order, several are merged by labels.
    let hints = SelectHints { sorted: selectors.len() > 1, ..SelectHints::default() };
    let select = |matchers: &Vec<Matcher>| querier.select(matchers, &hints);
    let sets: Vec<Box<dyn SeriesSet>> = selectors.iter().map(select).collect::<Result<_, _>>()?;
    let mut batch = SampleBatch::default();
    let mut show = |set: &dyn SeriesSet, i: usize, labels: &Labels| {
        batch.clear();
        set.samples_into(i, range, &mut batch)?;
        visit(labels, &batch)
    };
    if let [set] = &sets[..] {
        return (0..set.len()).try_for_each(|i| show(set.as_ref(), i, &set.labels(i)));
    }
    let mut rows: Vec<(Labels, usize, usize)> = Vec::new();
    for (s, set) in sets.iter().enumerate() {
        rows.extend((0..set.len()).map(|i| (set.labels(i), s, i)));
    }
    // A series is the same in every set that has it.
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|a, b| a.0 == b.0);
    rows.iter().try_for_each(|(labels, s, i)| show(sets[*s].as_ref(), *i, labels))
}
