//! ns per sample of a warm scrape from the body in memory to the batch: parse, look up, append.
//!
//! The floor, for the 61-byte lines used here: reading the line once at 6 GB/s takes 10 ns, hashing it
//! another 5 ns, its float 8 ns and the slot 2 ns; so 25 ns, to which the virtual call of the appender adds.
//! The appender counts and keeps nothing.

#[allow(dead_code, reason = "the bytes are of no interest here")]
#[path = "../tsdb/benches/measure/counting.rs"]
mod counting;
#[allow(dead_code, reason = "classic histograms are of no interest here")]
#[path = "../tsdb/benches/measure/protobuf.rs"]
mod exposition;

use std::hint::black_box;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferula::scrape::cache::{Cache, Hasher};
use ferula::scrape::ingest::{Body, Counts, Extras, Rules, ingest};
use ferula::scrape::metadata::Memory;
use model::storage::{AppendError, Appender, Error, SeriesKey, SeriesRef};
use model::wire::{Format, HistogramOptions};
use model::{Labels, Value};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Counts samples.
struct Count(u64);

impl Appender for Count {
    fn append(&mut self, key: SeriesKey<'_>, _: i64, _: f64) -> Result<SeriesRef, AppendError> {
        self.0 += 1;
        Ok(match key {
            SeriesKey::Ref(series) => series,
            SeriesKey::Labels(_) => SeriesRef(NonZeroU64::new(self.0).expect("it was just raised")),
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

fn body(n: usize) -> String {
    (0..n).fold(String::new(), |body, i| {
        let family = i - i % 50;
        let head = if i == family {
            format!(
                "# HELP http_requests_{family}_total Served.\n# TYPE http_requests_{family}_total counter\n"
            )
        } else {
            String::new()
        };
        let line = format!(
            "http_requests_{family}_total{{code=\"200\",handler=\"/api/{}\"}} {}\n",
            i - family,
            i * 7919
        );
        body + &head + &line
    })
}

fn scrape_warm(criterion: &mut Criterion) {
    let text = "scrape_configs: [{job_name: j}]\n";
    let config = config::prometheus::parse(text, Path::new("/")).expect("the configuration is valid");
    let rules = Rules {
        job: Arc::clone(&config.scrape_configs[0]),
        target: Labels::from_pairs([("job", "j"), ("instance", "i")]),
        histograms: HistogramOptions { native: true, ..HistogramOptions::default() },
        extras: Extras::default(),
    };
    let hasher = Hasher::default();
    let mut group = criterion.benchmark_group("scrape_warm");
    let bodies = [
        ("1000", 1_000, Format::Text, body(1_000).into_bytes()),
        ("10000", 10_000, Format::Text, body(10_000).into_bytes()),
        ("protobuf", 10_000, Format::Protobuf, exposition::counters(10_000)),
        ("native_histograms", 1_000, Format::Protobuf, exposition::native(1_000)),
    ];
    for (name, n, format, bytes) in bodies {
        let (mut cache, memory, mut t) = (Cache::default(), Memory::default(), 0);
        let mut pass = || {
            t += 1_000;
            let body = Body { bytes: &bytes, format, t };
            let mut counts = Counts::default();
            let batch: &mut dyn Appender = &mut Count(0);
            ingest(body, &rules, &hasher, &mut cache, &memory, batch, &mut counts)
                .expect("the body is valid");
            counts
        };
        assert_eq!(pass().kept, n);
        let before = counting::allocations();
        pass();
        eprintln!("allocations per warm body {name}: {}", counting::allocations() - before);
        group.throughput(Throughput::Elements(n));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(pass())));
    }
    group.finish();
}

criterion_group!(benches, scrape_warm);
criterion_main!(benches);
