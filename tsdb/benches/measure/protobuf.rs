//! Protobuf expositions of a given size, written the way that client libraries write them.

/// A number in as many bytes as it takes.
pub(crate) fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(u8::try_from(n & 0x7f).expect("seven bits are left") | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).expect("it is below 128"));
    out
}

/// A string, bytes or a message.
pub(crate) fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

pub(crate) fn uint(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}

pub(crate) fn double(field: u64, v: f64) -> Vec<u8> {
    [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
}

/// A family behind its length; `kind` is 0 for counters and 4 for histograms.
fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics: Vec<Vec<u8>> = metrics.iter().map(|metric| bytes(4, metric)).collect();
    let head = [bytes(1, name.as_bytes()), bytes(2, b"Requests that the app has served.")];
    let message = [head.concat(), uint(3, kind), metrics.concat()].concat();
    [varint(message.len() as u64), message].concat()
}

fn labels(i: u64) -> Vec<u8> {
    [label("code", &(200 + i % 7).to_string()), label("method", "get"), label("pod", &format!("p-{i}"))]
        .concat()
}

/// `n` counters in families of ten, three labels each.
pub(crate) fn counters(n: u64) -> Vec<u8> {
    let families = (0..n / 10).map(|of| {
        let metrics: Vec<Vec<u8>> = (0..10)
            .map(|i| [labels(of * 10 + i), bytes(3, &double(1, (i * 7919) as f64))].concat())
            .collect();
        family(&format!("app_requests_{of}_total"), 0, &metrics)
    });
    families.collect::<Vec<_>>().concat()
}

/// `n` classic histograms of eleven buckets in families of ten: 13 samples each, as the bucket of +Inf is there.
pub(crate) fn classic(n: u64) -> Vec<u8> {
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, f64::INFINITY];
    let histogram = |i: u64| {
        let buckets =
            (1..).zip(bounds).map(|(k, bound)| bytes(3, &[uint(1, k * 10), double(2, bound)].concat()));
        let buckets = buckets.collect::<Vec<_>>().concat();
        let totals = [uint(1, 110), double(2, i as f64 + 0.5), buckets].concat();
        [labels(i), bytes(7, &totals)].concat()
    };
    let families = (0..n / 10).map(|of| {
        let metrics: Vec<Vec<u8>> = (0..10).map(|i| histogram(of * 10 + i)).collect();
        family(&format!("app_latency_{of}_seconds"), 4, &metrics)
    });
    families.collect::<Vec<_>>().concat()
}

/// `n` native histograms of 40 buckets in two spans, in families of ten.
pub(crate) fn native(n: u64) -> Vec<u8> {
    let histogram = |i: u64| {
        let span = |offset: u64, length| bytes(12, &[uint(1, offset), uint(2, length)].concat());
        // In the zigzag order: 1, then up and down by one.
        let deltas: Vec<u8> = (0..40).map(|k| if k % 2 == 0 { 2 } else { 1 }).collect();
        let totals = [uint(1, 20), double(2, i as f64 + 0.5), uint(5, 6), double(6, 1e-128)].concat();
        let sides = [span(3, 20), span(8, 20), bytes(13, &deltas)].concat();
        [labels(i), bytes(7, &[totals, sides].concat())].concat()
    };
    let families = (0..n / 10).map(|of| {
        let metrics: Vec<Vec<u8>> = (0..10).map(|i| histogram(of * 10 + i)).collect();
        family(&format!("app_size_{of}_bytes"), 4, &metrics)
    });
    families.collect::<Vec<_>>().concat()
}
