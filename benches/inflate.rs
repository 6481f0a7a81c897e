//! Stage: a gzip body of a target to the text that is parsed, in one piece.
//!
//! The floor is a copy of the text: a 100 KB body at 10 GB/s takes 10 us. What is decided here is which library does it
//! (`scrape::body`); both write into a buffer that is there.

use std::fmt::Write as _;
use std::io::Write as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Decompress, FlushDecompress};

/// A body of about `bytes`, as exporters write them: few names, many labels, values that differ.
fn body(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    let mut n: u64 = 0;
    while text.len() < bytes {
        let family = n / 24;
        if n.is_multiple_of(24) {
            let _ =
                writeln!(text, "# HELP app_requests_{family}_total Requests served by the part {family}.");
            let _ = writeln!(text, "# TYPE app_requests_{family}_total counter");
        }
        let (code, path) = ([200, 404, 500][(n % 3) as usize], n % 8);
        // A few digits without a pattern.
        let value = n.wrapping_mul(6_364_136_223_846_793_005) >> 40;
        let _ = writeln!(
            text,
            "app_requests_{family}_total{{code=\"{code}\",handler=\"/api/v1/p{path}\",method=\"get\"}} {value}"
        );
        n += 1;
    }
    text
}

fn inflate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inflate");
    for bytes in [10_000, 100_000, 1_000_000] {
        let text = body(bytes);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).expect("memory takes everything");
        let packed = encoder.finish().expect("memory takes everything");
        let mut out = vec![0; text.len() + 64];
        group.throughput(Throughput::Bytes(text.len() as u64));

        group.bench_with_input(BenchmarkId::new("flate2_zlib_rs", bytes), &packed, |bencher, packed| {
            bencher.iter(|| {
                let mut state = Decompress::new_gzip(15);
                let status = state.decompress(packed, &mut out, FlushDecompress::Finish);
                assert_eq!(status.ok(), Some(flate2::Status::StreamEnd));
                state.total_out()
            });
        });
        group.bench_with_input(BenchmarkId::new("flate2_reader", bytes), &packed, |bencher, packed| {
            let mut out = Vec::with_capacity(text.len() + 64);
            bencher.iter(|| {
                out.clear();
                std::io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(&packed[..]), &mut out)
                    .expect("the body is whole")
            });
        });
        let mut state = libdeflater::Decompressor::new();
        group.bench_with_input(BenchmarkId::new("libdeflate", bytes), &packed, |bencher, packed| {
            bencher.iter(|| state.gzip_decompress(packed, &mut out).expect("the body is whole"));
        });
        group.bench_with_input(BenchmarkId::new("copy", bytes), &text, |bencher, text| {
            bencher.iter(|| out[..text.len()].copy_from_slice(text.as_bytes()));
        });
    }
    group.finish();
}

criterion_group!(benches, inflate);
criterion_main!(benches);
