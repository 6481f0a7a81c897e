//! A warm scrape allocates nothing: counted by the allocator itself, which is why this is a binary of its own.

#[path = "allocations/counting.rs"]
mod counting;
#[path = "../tsdb/benches/measure/protobuf.rs"]
mod exposition;

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use ferula::scrape::cache::{Cache, Hasher};
use ferula::scrape::ingest::{Body, Counts, Extras, Rules, ingest};
use ferula::scrape::metadata::Memory;
use model::storage::{AppendError, Appender, Error, SeriesKey, SeriesRef};
use model::wire::{Format, HistogramOptions};
use model::{Labels, Value};

use counting::ALLOCATIONS;

struct Count(u64);

impl Appender for Count {
    fn append(&mut self, key: SeriesKey<'_>, _: i64, _: f64) -> Result<SeriesRef, AppendError> {
        self.0 += 1;
        Ok(match key {
            SeriesKey::Ref(series) => series,
            SeriesKey::Labels(_) => SeriesRef(NonZeroU64::MIN.saturating_add(self.0)),
        })
    }

    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        _st: i64,
        t: i64,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Float(v) => self.append(key, t, v),
            Value::Histogram(_) | Value::FloatHistogram(_) => self.append(key, t, 0.0),
        }
    }

    fn commit(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// Scrapes a body three times; how often each pass allocated, and how many lines it took.
fn passes(body: &[u8], format: Format, extras: Extras) -> Vec<(usize, u64)> {
    passes_with(body, format, HistogramOptions::default(), extras)
}

fn passes_with(
    body: &[u8],
    format: Format,
    histograms: HistogramOptions,
    extras: Extras,
) -> Vec<(usize, u64)> {
    let text = "scrape_configs: [{job_name: j}]\n";
    let config = config::prometheus::parse(text, Path::new("/")).expect("the configuration is valid");
    let rules = Rules {
        job: Arc::clone(&config.scrape_configs[0]),
        target: Labels::from_pairs([("job", "j"), ("instance", "i")]),
        histograms,
        extras,
    };
    let (hasher, memory, mut cache) = (Hasher::default(), Memory::default(), Cache::default());
    let mut pass = |t| {
        let body = Body { bytes: body, format, t };
        let (mut counts, mut batch) = (Counts::default(), Count(0));
        let before = ALLOCATIONS.get();
        ingest(body, &rules, &hasher, &mut cache, &memory, &mut batch, &mut counts)
            .expect("the body is valid");
        (ALLOCATIONS.get() - before, counts.kept)
    };
    [1_000, 2_000, 3_000].map(&mut pass).to_vec()
}

#[test]
fn a_warm_pass_allocates_nothing() {
    let head = "# HELP requests_total Requests served.\n# TYPE requests_total counter\n".to_owned();
    let body = (0..1000).fold(head, |body, i| {
        body + &format!("requests_total{{code=\"200\",handler=\"/{i}\"}} {}.5\n", i * 31)
    });
    let all = passes(body.as_bytes(), Format::Text, Extras::default());
    assert!(all[0].0 > 1000, "the counter counts: {all:?}");
    assert_eq!(all[1..], [(0, 1000), (0, 1000)]);
}

/// Start times are looked for in place, and what is asked once per scrape of a store without exemplars is one of them.
#[test]
fn a_warm_pass_over_openmetrics_allocates_for_one_exemplar_at_most() {
    let body = |exemplar: &str| {
        let lines = (0..500).fold(String::new(), |body, i| {
            body + &format!("req_total{{n=\"{i}\"}} 7{exemplar}\nreq_created{{n=\"{i}\"}} 1.5\n")
        });
        format!("# HELP req Requests.\n# TYPE req counter\n{lines}# EOF\n")
    };
    let extras = Extras { start_times: true, ..Extras::default() };
    assert_eq!(passes(body("").as_bytes(), Format::OpenMetrics, extras)[1..], [(0, 500), (0, 500)]);
    let all = passes(body(" # {t=\"1\"} 1").as_bytes(), Format::OpenMetrics, extras);
    assert!(all[1..].iter().all(|(n, kept)| *n < 10 && *kept == 500), "{all:?}");
}

/// What is allocated for a body of protobuf is the memory that its metrics are read into, one after the other.
#[test]
fn a_warm_pass_over_protobuf_allocates_nothing_per_sample() {
    let options = HistogramOptions { native: true, ..HistogramOptions::default() };
    for (name, make, per_metric) in [
        ("counters", exposition::counters as fn(u64) -> Vec<u8>, 1),
        ("classic", exposition::classic, 13),
        ("native", exposition::native, 1),
    ] {
        let warm = |n| {
            let all = passes_with(&make(n), Format::Protobuf, options, Extras::default());
            assert!(all[0].0 > usize::try_from(n).expect("it is small"), "the counter counts: {all:?}");
            assert_eq!(all[1], all[2]);
            assert_eq!(all[1].1, n * per_metric);
            all[1].0
        };
        let (few, many) = (warm(100), warm(1000));
        assert!(few <= 40 && many == few, "{name}: {few} allocations for 100 metrics, {many} for 1000");
    }
}

/// Labels of lines of histogram families are decoded in every pass, in memory that is used again but for the bounds,
/// which are written anew; the buckets of the result are moved once.
#[test]
fn a_warm_pass_that_converts_histograms_allocates_little() {
    let options = HistogramOptions { convert: true, ..HistogramOptions::default() };
    let warm = |n: u64| {
        let lines = (0..n).fold("# TYPE h histogram\n".to_owned(), |body, i| {
            body + &format!(
                "h_bucket{{a=\"{i}\",le=\"1\"}} 1\nh_bucket{{a=\"{i}\",le=\"+Inf\"}} 3\nh_sum{{a=\"{i}\"}} 2\nh_count{{a=\"{i}\"}} 3\n"
            )
        });
        let all = passes_with(lines.as_bytes(), Format::Text, options, Extras::default());
        assert_eq!(all[1], all[2]);
        assert_eq!(all[1].1, n);
        all[1].0
    };
    let (few, many) = (warm(10), warm(1000));
    assert!(many < few + 8 * 1000, "{few} allocations for 10 histograms, {many} for 1000");
}
