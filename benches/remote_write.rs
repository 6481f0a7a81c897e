//! ns per sample of a remote write request from the decompressed body to the committed batch: decode, judge labels, look
//! the series up, append, log, apply.
//!
//! Requests are as a Prometheus sends them: 500 series of 10 labels with one sample each, the same series again and again.
//! The floor: going through some 250 bytes of a series of version 1 takes 40 ns, hashing and comparing its labels as much,
//! the look-up 30 ns, the row and its place in the log 50 ns. Of version 2 the labels are references of 20 bytes, and the
//! strings come once per request.

#[allow(dead_code, reason = "the bytes are of no interest here")]
#[path = "../tsdb/benches/measure/counting.rs"]
mod counting;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferula::remote::receive::{Options, Receiver};
use model::Labels;
use model::wire::remote_write::encode::{Part, Writer};
use model::wire::remote_write::{Message, Request, Sample};
use tsdb::db::Db;
use tsdb::head::ReplayProgress;
use web::view::remote::WriteReceiver;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const SERIES: usize = 500;
const BEGIN: i64 = 1_700_000_000_000;

fn series() -> Vec<Labels> {
    let of = |i: usize| {
        let (instance, handler) =
            (format!("host-{}.example.org:9100", i / 50), format!("/api/v1/{}", i % 50));
        Labels::from_pairs([
            ("__name__", "http_request_duration_seconds_bucket"),
            ("cluster", "eu-west-1"),
            ("code", "200"),
            ("env", "production"),
            ("handler", &handler),
            ("instance", &instance),
            ("job", "api-server"),
            ("le", "0.25"),
            ("method", "GET"),
            ("team", "storefront"),
        ])
    };
    (0..SERIES).map(of).collect()
}

fn body(message: Message, series: &[Labels], t: i64) -> Vec<u8> {
    let mut writer = Writer::new(message);
    for (i, labels) in series.iter().enumerate() {
        let sample = Sample { t, st: 0, v: i as f64 + (t / 1000) as f64 };
        writer.series(labels, &[Part::Sample(sample)], None);
    }
    writer.body()
}

fn remote_write(criterion: &mut Criterion) {
    let series = series();
    let mut group = criterion.benchmark_group("remote_write");
    group.throughput(Throughput::Elements(SERIES as u64));
    for message in Message::ALL {
        let bytes = body(message, &series, BEGIN);
        group.bench_function(format!("{message:?} check"), |bencher| {
            bencher
                .iter(|| Request::read(message, black_box(&bytes)).map(|request| request.series().count()));
        });
        let dir = tempfile::tempdir().expect("the system has a temporary folder");
        let db = Db::open(dir.path(), &tsdb::db::Options::default(), &ReplayProgress::default());
        let options =
            Options { type_and_unit_labels: false, keeps_metadata: false, now: || BEGIN + (1 << 40) };
        let receiver = Receiver::new(Arc::new(db.expect("the folder is empty")), options);
        let mut t = BEGIN;
        let mut next = || {
            t += 1_000;
            body(message, &series, t)
        };
        let write = |body: Vec<u8>| {
            let written = receiver.write(message, &body).expect("every sample is newer than the one before");
            assert_eq!(written.samples, SERIES as u64);
        };
        write(next());
        let bytes = next();
        let before = counting::allocations();
        write(bytes);
        eprintln!("allocations per warm series {message:?}: {}", (counting::allocations() - before) / SERIES);
        group.bench_function(format!("{message:?} write"), |bencher| {
            bencher.iter_batched(&mut next, write, criterion::BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, remote_write);
criterion_main!(benches);
