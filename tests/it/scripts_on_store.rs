//! The scripts of the query language, upstream's and ours, on the real store: all in the head, all in a block, and some
//! of each. What the store in memory only imitates, hints on counter resets and layouts of histograms, comes from real
//! chunks here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::storage::{AppendError, Appendable, Queryable, SeriesKey};
use model::{AnyHistogram, Labels, Timestamp, Value};
use promql::testing::{Report, Store, run_on};
use promql::{Engine, EngineOptions, Features};
use tempfile::TempDir;
use tsdb::chunk::FloatEncoding;
use tsdb::head::{self, ReplayProgress};
use tsdb::{Db, db};

/// Where the samples are when they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    Block,
    /// The first minutes in blocks, the rest in the head.
    Both,
}

enum Sample {
    Float(f64),
    Histogram(AnyHistogram),
}

/// A store that is filled anew with all that was loaded, whenever something is.
struct OnDisk {
    place: Place,
    dir: TempDir,
    all: Vec<(Labels, Timestamp, Timestamp, Sample)>,
    /// How much of it was loaded before the batch at hand.
    batches: Vec<usize>,
    db: Option<Db>,
    blocks: usize,
}

impl OnDisk {
    fn new(place: Place) -> Self {
        let dir = TempDir::new().unwrap();
        let mut store = Self { place, dir, all: Vec::new(), batches: Vec::new(), db: None, blocks: 0 };
        store.clear();
        store
    }

    fn open(&self, dir: &Path) -> Db {
        let min_block =
            if self.place == Place::Both { Duration::from_mins(4) } else { Duration::from_hours(24) };
        let options = db::Options {
            retention: db::Retention::default(),
            min_block,
            max_block: Some(min_block),
            head_snapshot_interval: None,
            wal_sync_interval: Duration::ZERO,
            features: head::Features {
                floats: FloatEncoding::Xor2,
                stores_start_times: true,
                stores_histogram_starts: true,
                ..head::Features::default()
            },
            ..db::Options::default()
        };
        Db::open(dir, &options, &ReplayProgress::default()).unwrap()
    }

    fn append(db: &Db, samples: &[(Labels, Timestamp, Timestamp, Sample)]) -> Result<(), String> {
        let mut appender = db.head().appender(0);
        for (labels, st, t, sample) in samples {
            let value = match sample {
                Sample::Float(v) => Value::Float(*v),
                Sample::Histogram(h) => h.into(),
            };
            appender
                .append_value(SeriesKey::Labels(labels), *st, *t, value)
                .map_err(|e| format!("{labels} at {t}: {e}"))?;
        }
        appender.commit().map_err(|e| e.to_string())
    }

    fn fill(&mut self) -> Result<(), String> {
        self.db = None;
        self.dir = TempDir::new().unwrap();
        let db = self.open(self.dir.path());
        match self.place {
            Place::Head | Place::Block => {
                let mut from = 0;
                for &to in &self.batches {
                    Self::append(&db, &self.all[from..to])?;
                    from = to;
                }
            }
            Place::Both => {
                // In order of time, as scrapes come, so that older parts can be written out in between.
                let mut by_time: Vec<usize> = (0..self.all.len()).collect();
                by_time.sort_by_key(|&i| self.all[i].2);
                for part in by_time.chunks(50) {
                    let mut appender = db.head().appender(0);
                    for &i in part {
                        let (labels, st, t, sample) = &self.all[i];
                        let value = match sample {
                            Sample::Float(v) => Value::Float(*v),
                            Sample::Histogram(h) => h.into(),
                        };
                        appender
                            .append_value(SeriesKey::Labels(labels), *st, *t, value)
                            .map_err(|e| format!("{labels} at {t}: {e}"))?;
                    }
                    appender.commit().map_err(|e| e.to_string())?;
                    db.maintain(0).map_err(|e| e.to_string())?;
                }
                self.blocks += db.blocks().len();
            }
        }
        if self.place == Place::Block {
            db.snapshot("all", true, 0).map_err(|e| e.to_string())?;
            let copy = self.dir.path().join("snapshots").join("all");
            self.db = Some(self.open(&copy));
            self.blocks += self.db.as_ref().map_or(0, |db| db.blocks().len());
        } else {
            self.db = Some(db);
        }
        Ok(())
    }
}

impl Store for OnDisk {
    fn clear(&mut self) {
        self.all.clear();
        self.batches.clear();
        self.fill().unwrap();
    }

    fn append(
        &mut self,
        labels: &Labels,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), AppendError> {
        let sample = match value {
            Value::Float(v) => Sample::Float(v),
            Value::Histogram(h) => Sample::Histogram(AnyHistogram::Int(Box::new(h.clone()))),
            Value::FloatHistogram(h) => Sample::Histogram(AnyHistogram::Float(Box::new(h.clone()))),
        };
        self.all.push((labels.clone(), st, t, sample));
        Ok(())
    }

    fn loaded(&mut self) -> Result<(), String> {
        self.batches.push(self.all.len());
        self.fill()
    }

    fn queryable(&self) -> &dyn Queryable {
        self.db.as_ref().unwrap()
    }
}

fn scripts(dir: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn all_scripts(test: &str) -> BTreeMap<String, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut all: BTreeMap<String, String> = scripts(&root.join("promql/testdata/ours"))
        .into_iter()
        .map(|(name, text)| (format!("ours/{name}"), text))
        .collect();
    assert!(!all.is_empty(), "our own scripts are part of the sources");
    let upstream = std::env::var_os("FERULA_UPSTREAM").map_or(root.join("../shared/upstream"), PathBuf::from);
    let upstream = scripts(&upstream.join("promqltest"));
    if upstream.is_empty() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED upstream's part of {test}: no upstream test data (set FERULA_UPSTREAM)"
        );
    }
    all.extend(upstream);
    if let Ok(filter) = std::env::var("FERULA_SCRIPT") {
        all.retain(|name, _| name.contains(&filter));
    }
    all
}

#[expect(clippy::print_stdout, reason = "what was evaluated is to be seen")]
fn run_all(test: &str, place: Place) {
    let features = Features {
        parser: promql::parse::Options::ALL,
        delayed_name_removal: true,
        start_timestamps: true,
        ..Features::default()
    };
    let options = EngineOptions { max_samples: 10_000, threads: 1, features, ..EngineOptions::default() };
    let engine = Engine::new(options);
    let mut total = Report::default();
    let mut store = OnDisk::new(place);
    for (name, mut text) in all_scripts(test) {
        if place == Place::Both {
            // Chunks end where blocks do, and of what begins a chunk it is not known whether it is a reset.
            text = text.replace(" counter_reset_hint:not_reset", "");
        }
        let report = run_on(&mut store, &engine, &name, &text);
        println!("{name}: {} passed, {} failed, {} queries", report.passed, report.failed, report.queries);
        for failure in report.failures.iter().take(5) {
            println!("  FAILED {failure}");
        }
        total.merge(report);
    }
    println!("total: {} passed, {} failed, {} blocks", total.passed, total.failed, store.blocks);
    assert!(total.failures.is_empty(), "{} of the evaluations failed", total.failed);
    assert!(total.passed > 0, "nothing was evaluated");
    assert_eq!(store.blocks > 0, place != Place::Head, "samples are not where they should be");
}

#[test]
fn scripts_pass_on_the_head() {
    run_all("scripts_pass_on_the_head", Place::Head);
}

#[test]
fn scripts_pass_on_blocks() {
    run_all("scripts_pass_on_blocks", Place::Block);
}

#[test]
fn scripts_pass_on_blocks_and_head() {
    run_all("scripts_pass_on_blocks_and_head", Place::Both);
}
