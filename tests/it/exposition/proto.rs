//! Families as protobuf: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! Written by hand, as wrong wire types and lengths are wanted as well.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::family::{
    Content, Exemplar, Family, Histogram, Kind, Metric, Native, NativeQuirk, Pairs, Quirk, one_in,
};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v as u8 & 0x7f) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn unsigned(out: &mut Vec<u8>, field: u64, v: u64) {
    varint(out, field << 3 | VARINT);
    varint(out, v);
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn double(out: &mut Vec<u8>, field: u64, v: f64) {
    varint(out, field << 3 | FIXED64);
    out.extend_from_slice(&v.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, v: &[u8]) {
    varint(out, field << 3 | LENGTH);
    varint(out, v.len() as u64);
    out.extend_from_slice(v);
}

fn message(out: &mut Vec<u8>, field: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    bytes(out, field, &inner);
}

fn timestamp(out: &mut Vec<u8>, field: u64, t: i64) {
    message(out, field, |out| {
        unsigned(out, 1, t.div_euclid(1000) as u64);
        unsigned(out, 2, t.rem_euclid(1000) as u64 * 1_000_000);
    });
}

fn labels(out: &mut Vec<u8>, pairs: &Pairs) {
    for (name, value) in pairs {
        message(out, 1, |out| {
            bytes(out, 1, name.as_bytes());
            bytes(out, 2, value.as_bytes());
        });
    }
}

fn exemplar(out: &mut Vec<u8>, field: u64, exemplar: &Exemplar) {
    message(out, field, |out| {
        labels(out, &exemplar.labels);
        double(out, 2, exemplar.v);
        if let Some(t) = exemplar.t {
            timestamp(out, 3, t);
        }
    });
}

/// The messages of a body, each with its length in front.
pub(super) fn messages(rng: &mut Rng, families: &[Family]) -> Vec<Vec<u8>> {
    let shown = families.iter().filter(|family| !family.is_hidden);
    shown
        .map(|family| {
            let inner = message_of(rng, family);
            let mut out = Vec::new();
            varint(&mut out, inner.len() as u64);
            out.extend(inner);
            out
        })
        .collect()
}

fn message_of(rng: &mut Rng, family: &Family) -> Vec<u8> {
    let mut out = Vec::new();
    let mut name = family.name.clone();
    if family.kind == Kind::Counter && !name.ends_with("_total") && !one_in(rng, 6) {
        name.push_str("_total");
    }
    bytes(&mut out, 1, name.as_bytes());
    if let Some(help) = &family.help {
        bytes(&mut out, 2, help.as_bytes());
    }
    let kind = match family.kind {
        Kind::Counter => 0,
        Kind::Gauge | Kind::Info | Kind::StateSet => 1,
        Kind::Summary => 2,
        Kind::Unknown => 3,
        Kind::Histogram => 4,
        Kind::GaugeHistogram => 5,
    };
    let kind = if one_in(rng, 150) { rng.u64(..8) } else { kind };
    // A type of 0 need not be said.
    if kind > 0 || rng.bool() {
        unsigned(&mut out, 3, kind);
    }
    for metric in family.metrics.iter().filter(|metric| !metric.is_hidden) {
        metric_of(rng, &mut out, family, metric);
    }
    if let Some(unit) = &family.unit {
        bytes(&mut out, 5, unit.as_bytes());
    }
    out
}

fn metric_of(rng: &mut Rng, out: &mut Vec<u8>, family: &Family, metric: &Metric) {
    let one = |out: &mut Vec<u8>, extra: Option<(&str, &str)>, fill: &mut dyn FnMut(&mut Vec<u8>)| {
        message(out, 4, |out| {
            labels(out, &metric.labels);
            if let Some((name, value)) = extra {
                labels(out, &vec![(name.to_owned(), value.to_owned())]);
            }
            fill(out);
            if let Some(t) = metric.t {
                unsigned(out, 6, t as u64);
            }
        });
    };
    match &metric.content {
        Content::Number { v, exemplar: said } => one(out, None, &mut |out| match family.kind {
            Kind::Counter => message(out, 3, |out| {
                double(out, 1, *v);
                if let Some(said) = said {
                    exemplar(out, 2, said);
                }
                if let Some(began) = metric.began {
                    timestamp(out, 3, began);
                }
            }),
            Kind::Unknown => message(out, 5, |out| double(out, 1, *v)),
            _ => message(out, 2, |out| double(out, 1, *v)),
        }),
        Content::Summary { quantiles, sum, count } => one(out, None, &mut |out| {
            message(out, 3 + 1, |out| {
                unsigned(out, 1, *count);
                double(out, 2, *sum);
                for (quantile, v) in quantiles {
                    message(out, 3, |out| {
                        double(out, 1, *quantile);
                        double(out, 2, *v);
                    });
                }
                if let Some(began) = metric.began {
                    timestamp(out, 4, began);
                }
            });
        }),
        Content::States(states) => {
            for (state, is_on) in states {
                let v = f64::from(u8::from(*is_on));
                one(out, Some((&family.name, state)), &mut |out| message(out, 2, |out| double(out, 1, v)));
            }
        }
        Content::Histogram(histogram) => {
            let mut inner = Vec::new();
            histogram_of(rng, &mut inner, metric, histogram);
            one(out, None, &mut |out| bytes(out, 7, &inner));
        }
    }
}

fn histogram_of(rng: &mut Rng, out: &mut Vec<u8>, metric: &Metric, histogram: &Histogram) {
    let quirk = histogram.quirk;
    let is_float =
        quirk == Quirk::Fractional || histogram.native.as_ref().is_some_and(|native| native.is_float);
    let classic: u64 = histogram.counts.iter().sum();
    let mut count = classic;
    let mut sum = histogram.sum;
    if let Some(native) = &histogram.native {
        count =
            native.zero_count + native.positive.values().sum::<u64>() + native.negative.values().sum::<u64>();
        match native.quirk {
            NativeQuirk::CountDiffers => count += 3,
            NativeQuirk::NanSum => {
                sum = f64::NAN;
                count += rng.u64(..3);
            }
            _ => {}
        }
    } else if quirk == Quirk::CountDiffers {
        count += 1;
    }
    if quirk != Quirk::NoCount {
        if is_float {
            double(out, 4, count as f64);
        } else {
            unsigned(out, 1, count);
        }
    }
    if quirk != Quirk::NoSum {
        double(out, 2, sum);
    }
    if !histogram.is_native_alone && quirk != Quirk::NoBuckets {
        buckets(out, histogram, is_float);
    }
    if let Some(began) = metric.began {
        timestamp(out, 15, began);
    }
    if let Some(native) = &histogram.native {
        native_of(out, native);
    }
}

fn buckets(out: &mut Vec<u8>, histogram: &Histogram, is_float: bool) {
    let quirk = histogram.quirk;
    let mut rows = Vec::new();
    let mut total = 0;
    for (i, n) in histogram.counts.iter().enumerate() {
        total += n;
        let bound = histogram.bounds.get(i).copied().unwrap_or(f64::INFINITY);
        // Protobuf may leave the infinite one out.
        if bound.is_infinite() && matches!(quirk, Quirk::NoInf | Quirk::None) {
            continue;
        }
        let shown = if quirk == Quirk::Falling && i == 1 { 0 } else { total };
        rows.push((bound, shown, &histogram.exemplars[i]));
    }
    match quirk {
        Quirk::Unsorted => rows.reverse(),
        Quirk::Doubled => rows.extend(rows.first().copied()),
        _ => {}
    }
    for (bound, n, said) in rows {
        message(out, 3, |out| {
            if is_float {
                double(out, 4, n as f64 * 1.5);
            } else {
                unsigned(out, 1, n);
            }
            double(out, 2, bound);
            if let Some(said) = said {
                exemplar(out, 3, said);
            }
        });
    }
}

/// Runs of buckets: offset to the end of the run before, counts.
fn runs(buckets: &BTreeMap<i32, u64>, fills_gaps: bool) -> Vec<(i32, Vec<u64>)> {
    let mut runs: Vec<(i32, Vec<u64>)> = Vec::new();
    let mut next = 0;
    for (&index, &n) in buckets {
        let gap = index - next;
        match runs.last_mut() {
            Some((_, counts)) if gap == 0 || (fills_gaps && gap <= 2) => {
                counts.extend((0..gap).map(|_| 0));
                counts.push(n);
            }
            _ => runs.push((gap, vec![n])),
        }
        next = index + 1;
    }
    runs
}

fn native_of(out: &mut Vec<u8>, native: &Native) {
    unsigned(out, 5, zigzag(i64::from(native.schema)));
    double(out, 6, native.zero_threshold);
    if native.is_float {
        double(out, 8, native.zero_count as f64);
    } else {
        unsigned(out, 7, native.zero_count);
    }
    side(out, native, &native.negative, [9, 10, 11], NativeQuirk::None);
    side(out, native, &native.positive, [12, 13, 14], native.quirk);
    for said in &native.exemplars {
        exemplar(out, 16, said);
    }
}

fn side(
    out: &mut Vec<u8>,
    native: &Native,
    buckets: &BTreeMap<i32, u64>,
    fields: [u64; 3],
    quirk: NativeQuirk,
) {
    let mut runs = runs(buckets, native.fills_gaps);
    if quirk == NativeQuirk::NoOpSpan || (runs.is_empty() && fields[0] == 12) {
        runs.insert(0, (0, Vec::new()));
    }
    let counts: Vec<u64> = runs.iter().flat_map(|(_, counts)| counts).copied().collect();
    let n_runs = runs.len();
    for (i, (offset, counts)) in runs.into_iter().enumerate() {
        let mut length = counts.len() as u64;
        let mut offset = i64::from(offset);
        match quirk {
            NativeQuirk::LongSpan if i + 1 == n_runs => length += 1,
            NativeQuirk::ShortSpan if i == 0 => length = length.saturating_sub(1),
            NativeQuirk::NegativeOffset if i == 1 => offset = -2,
            NativeQuirk::EmptySpans if i == 0 => {
                // The same place said in two steps.
                message(out, fields[0], |out| unsigned(out, 1, zigzag(offset)));
                offset = 0;
            }
            _ => {}
        }
        message(out, fields[0], |out| {
            unsigned(out, 1, zigzag(offset));
            unsigned(out, 2, length);
        });
    }
    if counts.is_empty() {
        return;
    }
    let mut packed = Vec::new();
    let mut before = 0;
    for (i, n) in counts.iter().enumerate() {
        let mut n = i64::try_from(*n).unwrap();
        if quirk == NativeQuirk::NegativeCount && i == 0 {
            n = -1;
        }
        if native.is_float {
            packed.extend_from_slice(&(n as f64).to_le_bytes());
        } else {
            varint(&mut packed, zigzag(n - before));
        }
        before = n;
    }
    let field = if native.is_float { fields[2] } else { fields[1] };
    if native.fills_gaps {
        bytes(out, field, &packed);
        return;
    }
    // One by one, as the second version of the language writes them.
    if native.is_float {
        for piece in packed.chunks(8) {
            varint(out, field << 3 | FIXED64);
            out.extend_from_slice(piece);
        }
    } else {
        for piece in packed.split_inclusive(|byte| byte & 0x80 == 0) {
            varint(out, field << 3 | VARINT);
            out.extend_from_slice(piece);
        }
    }
}
