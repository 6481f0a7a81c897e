//! The data that queries are measured on, made once per shape and kept.
//!
//! Compat: prometheus `promql/bench_test.go`, `setupRangeQueryTestData` and its siblings; promql-engine
//! `engine/bench_test.go`, `setupStorage`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use model::storage::{Appendable, SeriesKey, SeriesRef};
use model::{Histogram, Labels, Value};
use tsdb::Db;
use tsdb::db::{Options, Retention};
use tsdb::head::ReplayProgress;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// a, b, h in sizes of one, ten and a hundred, and sparse.
    Range,
    /// Two metrics of 1000 instances.
    Join,
    NativeHistograms,
    CustomBuckets,
    Info,
    /// 1000 pods of three containers.
    Pods,
    /// 5000 pods of three containers, for six hours.
    ManyPods,
    /// Histograms of the pods.
    PodHistograms,
}

pub(crate) const RANGE_INTERVALS: i64 = 8640 + 10_000;
pub(crate) const JOIN_INTERVALS: i64 = 8640 + 5000;

/// Opens the data of `shape`, which is made if it is not there.
pub(crate) fn open(shape: Shape, data: &Path, is_blocks: bool) -> anyhow::Result<Db> {
    let layout = if is_blocks { "blocks" } else { "days" };
    let dir = data.join(format!("{shape:?}-{layout}"));
    let day = Duration::from_hours(24);
    let options = if is_blocks {
        Options {
            retention: Retention { time: Some(day * 1000), ..Retention::default() },
            ..Options::default()
        }
    } else {
        // As upstream's store for tests: head and blocks of a day, nothing is ever removed.
        Options {
            min_block: day,
            max_block: Some(day),
            retention: Retention { time: Some(day * 1000), ..Retention::default() },
            ..Options::default()
        }
    };
    let open = |dir: &Path| {
        Db::open(dir, &options, &ReplayProgress::default()).with_context(|| format!("open {}", dir.display()))
    };
    if !dir.exists() {
        let unfinished = data.join(format!("{shape:?}-{layout}.tmp"));
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)?;
        }
        let db = open(&unfinished)?;
        Writer { db: &db, refs: Vec::new() }.fill(shape)?;
        db.maintain(i64::MAX / 2)?;
        db.close()?;
        drop(db);
        std::fs::rename(&unfinished, &dir)?;
    }
    open(&dir)
}

struct Writer<'a> {
    db: &'a Db,
    refs: Vec<Option<SeriesRef>>,
}

impl Writer<'_> {
    fn fill(&mut self, shape: Shape) -> anyhow::Result<()> {
        match shape {
            Shape::Range => self.range(),
            Shape::Join => self.join(),
            Shape::NativeHistograms => self.histograms("native_histogram_series", exponential),
            Shape::CustomBuckets => self.histograms("native_histogram_custom_bucket_series", custom),
            Shape::Info => self.info(),
            Shape::Pods => self.pods(1000, 3, 720, true),
            Shape::ManyPods => self.pods(5000, 3, 720, false),
            Shape::PodHistograms => self.pod_histograms(),
        }
    }

    /// One sample for each of the series, `n` times; what is due becomes a block on the way.
    fn floats(
        &mut self,
        series: &[Labels],
        n: i64,
        interval: i64,
        value: impl Fn(i64, usize) -> f64,
        extra: impl Fn(i64) -> Option<(Labels, f64)>,
    ) -> anyhow::Result<()> {
        self.refs = vec![None; series.len()];
        for s in 0..n {
            let mut batch = self.db.appender(0);
            for (i, labels) in series.iter().enumerate() {
                let key = self.refs[i].map_or(SeriesKey::Labels(labels), SeriesKey::Ref);
                self.refs[i] = Some(batch.append(key, s * interval, value(s, i))?);
            }
            if let Some((labels, v)) = extra(s) {
                batch.append(SeriesKey::Labels(&labels), s * interval, v)?;
            }
            batch.commit()?;
            if s % 100 == 99 {
                let blocks = self.db.blocks().len();
                self.db.maintain(i64::MAX / 2)?;
                if self.db.blocks().len() != blocks {
                    // Series may have left the head.
                    self.refs.fill(None);
                }
            }
        }
        Ok(())
    }

    fn range(&mut self) -> anyhow::Result<()> {
        let mut series = Vec::new();
        let les = (0..10).map(|i| i.to_string()).chain(["+Inf".to_owned()]);
        let les: Vec<String> = les.collect();
        for (size, n) in [("one", 1), ("ten", 10), ("hundred", 100)] {
            for i in 0..n {
                let l = if n == 1 { String::new() } else { i.to_string() };
                for name in ["a", "b"] {
                    series.push(Labels::from_pairs([("__name__", &*format!("{name}_{size}")), ("l", &l)]));
                }
                for le in &les {
                    let name = format!("h_{size}");
                    series.push(Labels::from_pairs([("__name__", &*name), ("l", &l), ("le", le)]));
                }
            }
        }
        let n = series.len() as f64;
        let value = |s: i64, i: usize| s as f64 + i as f64 / n;
        let sparse = |s: i64| {
            let l = (s / (RANGE_INTERVALS / 50)).to_string();
            Some((Labels::from_pairs([("__name__", "sparse"), ("l", &l)]), s as f64 / n))
        };
        self.floats(&series, RANGE_INTERVALS, 10_000, value, sparse)
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(0);
        let mut series = Vec::new();
        for _ in 0..1000 {
            let [a, b] = [random.u64(..), random.u64(..)];
            let instance = format!(
                "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                a >> 32,
                a >> 16 & 0xffff,
                a & 0xfff,
                b >> 52,
                b << 16 >> 16
            );
            for name in ["rpc_request_success_total", "rpc_request_error_total"] {
                series.push(Labels::from_pairs([
                    ("__name__", name),
                    ("environment", "staging"),
                    ("cluster", "test-kubernetes-cluster"),
                    ("namespace", "test-kubernetes-namespace"),
                    ("job", "worker"),
                    ("rpc_method", "fetch-my-data-from-this-service"),
                    ("domain", "test-domain"),
                    ("instance", &instance),
                ]));
            }
        }
        let n = series.len() as f64;
        self.floats(&series, JOIN_INTERVALS, 10_000, |s, i| s as f64 + i as f64 / n, |_| None)
    }

    fn info(&mut self) -> anyhow::Result<()> {
        let mut series = Vec::new();
        for i in 0..100 {
            let cluster = if i >= 50 { "eu-south" } else { "us-east" };
            series.push(Labels::from_pairs([
                ("__name__", "target_info"),
                ("instance", &*format!("instance{i}")),
                ("job", &*format!("job{i}")),
                ("k8s_cluster_name", cluster),
            ]));
        }
        for code in ["200", "400", "500"] {
            series.push(Labels::from_pairs([
                ("__name__", "http_server_request_duration_seconds_count"),
                ("instance", "instance0"),
                ("job", "job0"),
                ("http_status_code", code),
            ]));
        }
        let value = |s: i64, i: usize| if i < 100 { 1.0 } else { s as f64 };
        self.floats(&series, 3600, 2000, value, |_| None)
    }

    fn pods(&mut self, pods: usize, containers: usize, n: i64, with_others: bool) -> anyhow::Result<()> {
        let mut series = Vec::new();
        for pod in 0..pods {
            let pod = format!("p{pod}");
            for container in 0..containers {
                let container = format!("c{container}");
                let code = if series.len() % 2 == 0 { "200" } else { "500" };
                series.push(Labels::from_pairs([
                    ("__name__", "http_requests_total"),
                    ("code", code),
                    ("container", &container),
                    ("pod", &pod),
                ]));
            }
        }
        if with_others {
            for pod in 0..pods {
                let pod = format!("p{pod}");
                series.push(Labels::from_pairs([("__name__", "http_responses_total"), ("pod", &pod)]));
                for le in ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "+Inf"] {
                    let name = "http_response_seconds_bucket";
                    series.push(Labels::from_pairs([("__name__", name), ("le", le), ("pod", &pod)]));
                }
            }
        }
        self.floats(&series, n, 30_000, |s, i| s as f64 * (1 + i % 97) as f64, |_| None)
    }

    fn pod_histograms(&mut self) -> anyhow::Result<()> {
        for pod in 0..1000 {
            let labels =
                Labels::from_pairs([("__name__", "http_request_seconds"), ("pod", &*format!("p{pod}"))]);
            let each = (0..720).map(|i| (i * 30_000, exponential(i)));
            self.histogram_series(&labels, each)?;
        }
        Ok(())
    }

    fn histograms(&mut self, name: &str, make: fn(i64) -> Histogram) -> anyhow::Result<()> {
        for h in 0..3000 {
            let labels = Labels::from_pairs([("__name__", name), ("foo", "bar"), ("h", &*h.to_string())]);
            self.histogram_series(&labels, (0..2000).map(|i| (i * 15_000, make(i))))?;
        }
        Ok(())
    }

    fn histogram_series(
        &mut self,
        labels: &Labels,
        samples: impl Iterator<Item = (i64, Histogram)>,
    ) -> anyhow::Result<()> {
        let mut batch = self.db.appender(0);
        for (t, histogram) in samples {
            batch.append_value(SeriesKey::Labels(labels), 0, t, Value::Histogram(&histogram))?;
        }
        Ok(batch.commit()?)
    }
}

/// Four buckets on either side in two spans; the first sample of a series has a finer schema.
fn exponential(i: i64) -> Histogram {
    if i == 0 {
        return Histogram {
            schema: 3,
            count: 13,
            positive_spans: vec![
                Span { offset: -5, length: 2 },
                Span { offset: 2, length: 3 },
                Span { offset: 2, length: 2 },
            ],
            positive_buckets: vec![1, 2, -2, 1, -1, 0, 3],
            ..Histogram::default()
        };
    }
    let n = i.unsigned_abs();
    let spans = vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }];
    Histogram {
        counter_reset_hint: CounterResetHint::NotCounterReset,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 2 + n,
        count: 12 + 9 * n,
        sum: 18.4 * (i + 1) as f64,
        positive_spans: spans.clone(),
        negative_spans: spans,
        positive_buckets: vec![i + 1, 1, -1, 0],
        negative_buckets: vec![i + 1, 1, -1, 0],
        custom_values: Vec::new(),
    }
}

fn custom(i: i64) -> Histogram {
    Histogram {
        counter_reset_hint: if i > 0 { CounterResetHint::NotCounterReset } else { CounterResetHint::Unknown },
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 5 + 4 * i.unsigned_abs(),
        sum: 18.4 * (i + 1) as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }],
        positive_buckets: vec![i + 1, 1, -1, 0],
        custom_values: vec![0.0, 1.0, 2.0, 3.0, 4.0],
        ..Histogram::default()
    }
}
