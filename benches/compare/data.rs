//! The data that queries are compared on: what a few hundred pods would have shown for some hours, as a folder of the
//! store for those who open one, and as lines of JSON for those who import.

use std::io::{BufWriter, Write};
use std::path::Path;

use model::storage::{Appendable, Queryable, SelectHints, SeriesKey, SeriesRef};
use model::{Labels, MatchOp, Matcher, SampleBatch, TimeRange};
use tsdb::Db;
use tsdb::db::Options;
use tsdb::head::ReplayProgress;

/// How much of it, equal for all servers.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Size {
    #[arg(long, default_value_t = 100)]
    pub(crate) pods: usize,
    /// How many hours back the data goes.
    #[arg(long, default_value_t = 6)]
    pub(crate) hours: i64,
    /// Seconds between two samples of a series.
    #[arg(long, default_value_t = 15)]
    pub(crate) every: i64,
}

/// What the data is.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) series: usize,
    pub(crate) samples: usize,
    /// The times of the first and last samples.
    pub(crate) range: TimeRange,
}

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const CODES: [&str; 5] = ["200", "204", "400", "404", "500"];
const BOUNDS: [&str; 12] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// A series and how its value moves.
struct Series {
    labels: Labels,
    base: u64,
    rate: u64,
    is_gauge: bool,
}

/// The series of all pods: by method and code, forty plain counters, gauges, and classic histograms.
fn series(pods: usize) -> Vec<Series> {
    let mut all = Vec::new();
    let mut random = fastrand::Rng::with_seed(1);
    for pod in 0..pods {
        let pod = format!("api-{pod}");
        let mut push = |name: &str, others: &[(&str, &str)], rate: u64, is_gauge: bool| {
            // Rates over several metrics at once must stay apart when their names fall.
            let own = [("__name__", name), ("family", name), ("job", "fleet"), ("pod", &pod)];
            let labels = Labels::from_pairs(own.into_iter().chain(others.iter().copied()));
            all.push(Series { labels, base: random.u64(0..1_000_000), rate, is_gauge });
        };
        for handler in 0..5 {
            let handler = format!("/api/v1/h{handler}");
            for method in METHODS {
                for (c, code) in CODES.iter().enumerate() {
                    let by = [("handler", &*handler), ("method", method), ("code", code)];
                    push("http_requests_total", &by, 50 - 9 * c as u64, false);
                    if c == 4 {
                        push("http_errors_total", &by[..2], 3, false);
                    }
                }
            }
        }
        for n in 0..40 {
            for method in METHODS {
                let by = [("method", method), ("code", "200")];
                push(&format!("app_events_{n:02}_total"), &by, n + 1, false);
            }
        }
        for container in 0..20 {
            push("memory_working_set_bytes", &[("container", &format!("c{container}"))], 7, true);
        }
        for service in ["read", "write", "list"] {
            // A bucket counts what those below it count, so the rates ascend.
            for (b, le) in BOUNDS.iter().enumerate() {
                push(
                    "rpc_duration_seconds_bucket",
                    &[("service", service), ("le", le)],
                    10 * (b as u64 + 1),
                    false,
                );
            }
            push("rpc_duration_seconds_count", &[("service", service)], 120, false);
            push("rpc_duration_seconds_sum", &[("service", service)], 80, false);
        }
    }
    // Counted from the same number in all buckets of a histogram, for they would not ascend else.
    for series in all.iter_mut().filter(|s| s.labels.metric_name() == b"rpc_duration_seconds_bucket") {
        series.base = series.rate * 1000;
    }
    all
}

impl Series {
    fn value(&self, k: u64) -> f64 {
        if self.is_gauge {
            return (self.base + (k * (self.rate + 7)) % 997 * 4096) as f64;
        }
        // Counters of processes that start anew once, each at a time of its own.
        let restart = 200 + self.base % 1000;
        let since = if k >= restart { k - restart } else { self.base / 16 + k };
        // Buckets of one histogram have the same base by their rate, and so restart together.
        let since = if self.base == self.rate * 1000 { 1000 + k } else { since };
        (since * self.rate + (since * 7919) % (self.rate + 1)) as f64
    }
}

/// Writes the folder `dir`, its newest sample at `end` or just before.
pub(crate) fn write(dir: &Path, size: Size, end: i64) -> anyhow::Result<Written> {
    let every = size.every * 1000;
    let end = end.div_euclid(every) * every;
    let steps = size.hours * 3_600_000 / every;
    let start = end - steps * every;
    let series = series(size.pods);
    let db = Db::open(dir, &Options::default(), &ReplayProgress::default())?;
    let mut refs: Vec<Option<SeriesRef>> = vec![None; series.len()];
    for step in 0..=steps {
        let t = start + step * every;
        let mut batch = db.appender(0);
        for (series, known) in series.iter().zip(&mut refs) {
            let key = known.map_or(SeriesKey::Labels(&series.labels), SeriesKey::Ref);
            *known = Some(batch.append(key, t, series.value(step.unsigned_abs()))?);
        }
        batch.commit()?;
        if step % 40 == 39 {
            let blocks = db.blocks().len();
            db.maintain(t)?;
            if db.blocks().len() != blocks {
                refs.fill(None);
            }
        }
    }
    db.close()?;
    let samples = series.len() * (usize::try_from(steps)? + 1);
    Ok(Written { series: series.len(), samples, range: TimeRange::new(start, end) })
}

/// Writes what the folder `dir` holds as lines of JSON, the format of VictoriaMetrics' import.
pub(crate) fn export(dir: &Path, range: TimeRange, to: &Path) -> anyhow::Result<()> {
    let db = Db::open(dir, &Options::default(), &ReplayProgress::default())?;
    let querier = db.querier(range)?;
    let any = Matcher::new(MatchOp::Ne, "__name__", "")?;
    let set = querier.select(&[any], &SelectHints::default())?;
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(to)?);
    let mut batch = SampleBatch::default();
    for i in 0..set.len() {
        batch.clear();
        set.samples_into(i, range, &mut batch)?;
        let labels: serde_json::Value = set.labels(i).to_map().into_iter().collect();
        write!(out, "{{\"metric\":{labels},\"values\":[")?;
        for (n, v) in batch.vs.iter().enumerate() {
            write!(out, "{}{v}", if n > 0 { "," } else { "" })?;
        }
        write!(out, "],\"timestamps\":[")?;
        for (n, t) in batch.ts.iter().enumerate() {
            write!(out, "{}{t}", if n > 0 { "," } else { "" })?;
        }
        writeln!(out, "]}}")?;
    }
    out.flush()?;
    drop(set);
    drop(querier);
    db.close()?;
    Ok(())
}
