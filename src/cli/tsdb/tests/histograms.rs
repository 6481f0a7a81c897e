//! Native histograms in the tools' output.

use std::path::Path;
use std::process::Command;

use model::histogram::{CounterResetHint, Span};
use model::{AnyHistogram, FloatHistogram, Histogram, HistogramSample, Labels, SampleBatch};
use tsdb::block::{BlockMeta, writer};
use tsdb::chunk::{FloatEncoding, encode_batch};
use tsdb::compact::{SeriesSource, SourceSeries};

use super::promtool::promtool;
use super::{output, text};

const START: i64 = 1_700_006_400_000;

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// Buckets on both sides of zero, the zero bucket among them.
fn exponential(n: u64) -> Histogram {
    Histogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: n,
        count: 9 * n,
        sum: n as f64 * 18.4,
        positive_spans: vec![span(-1, 2), span(2, 2)],
        positive_buckets: vec![n.cast_signed(), n.cast_signed(), -n.cast_signed(), 0],
        negative_spans: vec![span(1, 2)],
        negative_buckets: vec![n.cast_signed(), n.cast_signed()],
        custom_values: Vec::new(),
    }
}

fn custom(n: u64) -> Histogram {
    Histogram {
        schema: model::histogram::CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0,
        count: 3 * n,
        sum: n as f64 / 3.0,
        positive_spans: vec![span(0, 3)],
        positive_buckets: vec![n.cast_signed(), 0, 0],
        custom_values: vec![-0.5, 1e6, 2e7],
        ..Histogram::default()
    }
}

fn gauge(n: u64) -> FloatHistogram {
    FloatHistogram {
        counter_reset_hint: CounterResetHint::Gauge,
        schema: -2,
        zero_threshold: 1e-128,
        zero_count: n as f64 / 3.0,
        count: n as f64 * 1.5,
        sum: -1e21,
        positive_spans: vec![span(0, 1), span(3, 1)],
        positive_buckets: vec![0.5 * n as f64, 1e7],
        ..FloatHistogram::default()
    }
}

/// Series by name with a hundred samples each; the last one changes from floats to histograms and back.
fn series() -> Vec<(&'static str, SampleBatch)> {
    let batch = |of: &dyn Fn(u64) -> Option<AnyHistogram>| {
        let mut batch = SampleBatch::default();
        for n in 1..=100_u64 {
            let t = START + n.cast_signed() * 15_000;
            match of(n) {
                Some(histogram) => batch.histograms.push(HistogramSample { t, st: 0, histogram }),
                None => batch.push(t, n as f64),
            }
        }
        batch
    };
    let int = |h: Histogram| Some(AnyHistogram::Int(Box::new(h)));
    vec![
        ("custom", batch(&|n| int(custom(n)))),
        ("exponential", batch(&|n| int(exponential(n)))),
        ("gauge", batch(&|n| Some(AnyHistogram::Float(Box::new(gauge(n)))))),
        ("mixed", batch(&|n| if (30..60).contains(&n) { int(exponential(n)) } else { None })),
    ]
}

struct Source(std::vec::IntoIter<(&'static str, SampleBatch)>);

impl SeriesSource for Source {
    fn symbols(&mut self) -> tsdb::Result<Vec<Box<[u8]>>> {
        let names = ["__name__"].into_iter().chain(self.0.as_slice().iter().map(|(name, _)| *name));
        let mut symbols: Vec<Box<[u8]>> = names.map(|name| Box::from(name.as_bytes())).collect();
        symbols.sort_unstable();
        Ok(symbols)
    }

    fn next(&mut self, series: &mut SourceSeries) -> tsdb::Result<bool> {
        let Some((name, batch)) = self.0.next() else { return Ok(false) };
        series.labels = Labels::from_pairs([("__name__", name)]);
        series.chunks.clear();
        encode_batch(&batch, FloatEncoding::Xor, false, 120, |chunk| series.chunks.push(chunk));
        Ok(true)
    }
}

fn fill(dir: &Path) {
    let meta = BlockMeta::level1("01M7Z7EP13T1GYDQRA5Q5WC0JS".parse().unwrap(), START, START + 7_200_000);
    let mut source = Source(series().into_iter());
    writer::write(dir, meta, &mut source, writer::Options::default(), &mut |_, _| {}).unwrap().unwrap();
    std::fs::create_dir_all(dir.join("wal")).unwrap();
}

#[test]
fn histograms_are_dumped_as_promtool_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let ours = output(&["dump", text(dir.path())]).unwrap();
    let n = |name: &str| ours.lines().filter(|line| line.contains(name)).count();
    assert_eq!(["custom", "exponential", "gauge", "mixed"].map(n), [100; 4], "every sample");
    let mixed: Vec<&str> = ours.lines().filter(|line| line.contains("mixed")).collect();
    assert_eq!(mixed[0], format!("{{__name__=\"mixed\"}} 1 {}", START + 15_000));
    assert!(mixed[29].contains("{count:270, sum:552, [-"), "{}", mixed[29]);
    assert_eq!(output(&["dump-openmetrics", text(dir.path())]).unwrap().lines().count(), 70 + 1);
    let Some(promtool) = promtool("histograms_are_dumped_as_promtool_writes_them") else { return };
    let theirs = |args: &[&str]| {
        let run = Command::new(&promtool).arg("tsdb").args(args).arg(dir.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    // promtool loses the samples at which it finds out that another type begins.
    let ours: std::collections::BTreeSet<&str> = ours.lines().collect();
    let dumped = theirs(&["dump"]);
    assert!(dumped.lines().count() > 300, "{}", dumped.lines().count());
    for line in dumped.lines() {
        assert!(ours.contains(line), "only promtool has {line}");
    }
    let analyze = ["analyze", "--extended"];
    let ours = output(&[&analyze[..], &[text(dir.path())]].concat()).unwrap();
    let chunks = |text: &str| text.split_once("Compaction analysis").unwrap().1.to_owned();
    assert_eq!(chunks(&ours), chunks(&theirs(&analyze)));
}

/// Chunks of every kind cut in the middle by a deletion, read, copied and written anew.
#[test]
fn histograms_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let all = output(&["dump", text(dir.path())]).unwrap();
    let options = tsdb::db::Options::default();
    let db = tsdb::Db::open(dir.path(), &options, &tsdb::head::ReplayProgress::default()).unwrap();
    let mut left: Vec<&str> = all.lines().collect();
    let time = |line: &str| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
    for (name, from, to) in [
        (".+", 20, 24),
        ("custom|mixed", 28, 31),
        ("mixed", 55, 70),
        ("gauge", 90, 100),
        ("exponential", 0, 24),
    ] {
        let range = model::TimeRange::new(START + from * 15_000, START + to * 15_000);
        let matcher = model::Matcher::new(model::MatchOp::Re, "__name__", name).unwrap();
        left.retain(|line| {
            let of_series = name == ".+" || name.split('|').any(|name| line.contains(&format!("\"{name}\"")));
            !(of_series && range.contains(time(line)))
        });
        db.delete(range, &[matcher]).unwrap();
    }
    let dump = |dir: &Path| output(&["dump", text(dir)]).unwrap();
    let left = left.into_iter().fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(dump(dir.path()), left);
    db.snapshot("copy", true, 0).unwrap();
    assert_eq!(dump(&dir.path().join("snapshots/copy")), left);
    db.clean_tombstones(START).unwrap();
    assert_eq!(db.blocks().len(), 1);
    assert_eq!(db.blocks()[0].stats.num_tombstones, 0);
    assert_eq!(db.blocks()[0].stats.num_samples, left.lines().count() as u64);
    assert_eq!(dump(dir.path()), left);
}
