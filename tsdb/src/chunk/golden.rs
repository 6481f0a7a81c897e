//! What upstream's encoders write and its decoders read, byte for byte: `testdata/chunks/`.

use std::fmt::Write as _;
use std::path::Path;

use model::histogram::{Buckets, CounterResetHint, Span};
use model::{AnyHistogram, FloatHistogram, Histogram, HistogramSample, SampleBatch, TimeRange, Value};

use super::{Builder, Encoding, Pushed, count, decode};

/// A sample, floats and histograms alike.
#[derive(Clone)]
enum Put {
    Float { st: i64, t: i64, v: f64 },
    Histogram(HistogramSample),
}

impl Put {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Float { v, .. } => Value::Float(*v),
            Self::Histogram(sample) => Value::from(&sample.histogram),
        }
    }

    fn times(&self) -> (i64, i64) {
        match self {
            Self::Float { st, t, .. } => (*st, *t),
            Self::Histogram(sample) => (sample.st, sample.t),
        }
    }

    /// As a chunk gives it back that was begun at `first`.
    fn read(&self, first: i64) -> Self {
        let mut read = self.clone();
        if let Self::Histogram(sample) = &mut read
            && sample.t > first
            && !sample.histogram.is_stale()
            && sample.histogram.counter_reset_hint() == CounterResetHint::Unknown
        {
            sample.histogram.set_counter_reset_hint(CounterResetHint::NotCounterReset);
        }
        read
    }
}

fn parse(line: &str) -> Put {
    let words: Vec<&str> = line.split(' ').collect();
    let int = |at: usize| words[at].parse::<i64>().unwrap();
    let float = |at: usize| float(words[at]);
    let (st, t) = (int(1), int(2));
    if words[0] == "value" {
        return Put::Float { st, t, v: float(3) };
    }
    let counter_reset_hint = match int(3) {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        _ => CounterResetHint::Gauge,
    };
    let (schema, zero_threshold, sum) = (i32::try_from(int(4)).unwrap(), float(5), float(8));
    let (positive_spans, negative_spans) = (spans(words[9]), spans(words[11]));
    let custom_values = list(words[13], self::float);
    let histogram = if words[0] == "int" {
        AnyHistogram::Int(Box::new(Histogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            zero_count: words[6].parse().unwrap(),
            count: words[7].parse().unwrap(),
            sum,
            positive_spans,
            negative_spans,
            positive_buckets: list(words[10], |word| word.parse().unwrap()),
            negative_buckets: list(words[12], |word| word.parse().unwrap()),
            custom_values,
        }))
    } else {
        AnyHistogram::Float(Box::new(FloatHistogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            zero_count: float(6),
            count: float(7),
            sum,
            positive_spans,
            negative_spans,
            positive_buckets: list(words[10], self::float),
            negative_buckets: list(words[12], self::float),
            custom_values,
        }))
    };
    Put::Histogram(HistogramSample { t, st, histogram })
}

fn float(word: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(word, 16).unwrap())
}

fn list<T>(word: &str, parse: impl Fn(&str) -> T) -> Vec<T> {
    let inner = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap();
    if inner.is_empty() { Vec::new() } else { inner.split(',').map(parse).collect() }
}

fn spans(word: &str) -> Vec<Span> {
    list(word, |word| {
        let (offset, length) = word.split_once(':').unwrap();
        Span { offset: offset.parse().unwrap(), length: length.parse().unwrap() }
    })
}

/// The line that [`parse`] reads.
fn line(put: &Put) -> String {
    fn join(parts: impl Iterator<Item = String>) -> String {
        format!("[{}]", parts.collect::<Vec<_>>().join(","))
    }
    fn of<C, B>(
        kind: &str,
        sample: &HistogramSample,
        h: &Buckets<C, B>,
        told: impl Fn(&C) -> String,
        bucket: impl Fn(&B) -> String,
    ) -> String {
        let bits = |v: &f64| format!("{:x}", v.to_bits());
        let spans =
            |spans: &[Span]| join(spans.iter().map(|span| format!("{}:{}", span.offset, span.length)));
        let mut line = format!("{kind} {} {} {}", sample.st, sample.t, h.counter_reset_hint as u8);
        let threshold = bits(&h.zero_threshold);
        let _ = write!(line, " {} {threshold} {} {}", h.schema, told(&h.zero_count), told(&h.count));
        let positive = join(h.positive_buckets.iter().map(&bucket));
        let _ = write!(line, " {} {} {positive}", bits(&h.sum), spans(&h.positive_spans));
        let negative = join(h.negative_buckets.iter().map(&bucket));
        let _ = write!(line, " {} {negative}", spans(&h.negative_spans));
        let _ = write!(line, " {}", join(h.custom_values.iter().map(bits)));
        line
    }
    let bits = |v: &f64| format!("{:x}", v.to_bits());
    match put {
        Put::Float { st, t, v } => format!("value {st} {t} {}", bits(v)),
        Put::Histogram(sample) => match &sample.histogram {
            AnyHistogram::Int(h) => of("int", sample, h, u64::to_string, i64::to_string),
            AnyHistogram::Float(h) => of("float", sample, h, bits, bits),
        },
    }
}

struct Case {
    name: String,
    encoding: Encoding,
    puts: Vec<Put>,
    /// Before which sample a chunk was ended.
    cuts: Vec<usize>,
    /// Bytes in hex, and how they are read.
    chunks: Vec<(String, Vec<String>)>,
}

fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/chunks").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    let mut read = 0;
    for text in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(head) = text.strip_prefix("case ") {
            let (encoding, name) = head.split_once(' ').unwrap();
            let encoding = Encoding::from_byte(encoding.parse().unwrap()).unwrap();
            let (name, puts, cuts, chunks) = (format!("{file} {name}"), vec![], vec![], vec![]);
            cases.push(Case { name, encoding, puts, cuts, chunks });
            read = 0;
            continue;
        }
        let Case { puts, cuts, chunks, .. } = cases.last_mut().unwrap();
        if text == "cut" {
            cuts.push(puts.len());
        } else if let Some(hex) = text.strip_prefix("chunk ") {
            chunks.push((hex.to_owned(), Vec::new()));
        } else if let Some(n) = text.strip_prefix("same ") {
            let samples = &mut chunks.last_mut().unwrap().1;
            let n: usize = n.parse().unwrap();
            let first = puts[read - samples.len()].times().1;
            samples.extend(puts[read..read + n].iter().map(|put| line(&put.read(first))));
            read += n;
        } else if let Some(differing) = text.strip_prefix('=') {
            chunks.last_mut().unwrap().1.push(differing.to_owned());
            read += 1;
        } else {
            puts.push(parse(text));
        }
    }
    cases
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn encode(case: &Case) -> Vec<String> {
    let mut chunks = Vec::new();
    let mut open: Option<Builder> = None;
    for (i, put) in case.puts.iter().enumerate() {
        let ((st, t), value) = (put.times(), put.value());
        let next = match &mut open {
            None => Builder::new(case.encoding, st, t, value),
            Some(chunk) if case.cuts.contains(&i) => chunk.cut(st, t, value),
            Some(chunk) => match chunk.push(st, t, value) {
                Pushed::Stored => continue,
                Pushed::Next(next) => *next,
            },
        };
        chunks.extend(open.replace(next));
    }
    chunks.extend(open);
    for chunk in &chunks {
        assert_eq!(chunk.encoding(), case.encoding);
    }
    chunks.into_iter().map(|chunk| hex(&chunk.finish().bytes)).collect()
}

fn read(encoding: Encoding, bytes: &[u8]) -> Vec<String> {
    let mut out = SampleBatch::default();
    decode(encoding, bytes, TimeRange::ALL, &mut out).unwrap();
    let floats = out.iter().enumerate().map(|(i, s)| Put::Float { st: out.st(i), t: s.t, v: s.v });
    let all = floats.chain(out.histograms.iter().cloned().map(Put::Histogram));
    all.map(|put| line(&put)).collect()
}

fn check(file: &str, n_cases: usize) {
    let cases = cases(file);
    assert!(cases.len() >= n_cases, "{file} has {} cases", cases.len());
    for case in cases {
        let expected: Vec<&String> = case.chunks.iter().map(|(hex, _)| hex).collect();
        assert_eq!(encode(&case).iter().collect::<Vec<_>>(), expected, "{}", case.name);
        let mut n = 0;
        for (hex, expected) in &case.chunks {
            let bytes = unhex(hex);
            assert_eq!(read(case.encoding, &bytes), *expected, "{}", case.name);
            assert_eq!(usize::from(count(case.encoding, &bytes).unwrap()), expected.len());
            n += expected.len();
        }
        assert_eq!(n, case.puts.len(), "{}", case.name);
    }
}

#[test]
fn xor() {
    check("xor.txt", 19);
}

#[test]
fn xor2() {
    check("xor2.txt", 30);
}

#[test]
fn histograms() {
    check("histogram.txt", 57);
}

#[test]
fn float_histograms() {
    check("float-histogram.txt", 57);
}

#[test]
fn histograms_with_start_times() {
    check("histogram-st.txt", 60);
}

#[test]
fn float_histograms_with_start_times() {
    check("float-histogram-st.txt", 60);
}

#[test]
fn damage_is_an_error_or_other_samples_but_no_panic() {
    let files = [
        "xor.txt",
        "xor2.txt",
        "histogram.txt",
        "float-histogram.txt",
        "histogram-st.txt",
        "float-histogram-st.txt",
    ];
    let mut random = fastrand::Rng::with_seed(5);
    for case in files.into_iter().flat_map(cases) {
        for (hex, _) in &case.chunks {
            let sound = unhex(hex);
            for _ in 0..20 {
                let mut bytes = sound.clone();
                for _ in 0..random.u8(1..4) {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= random.u8(..);
                }
                bytes.truncate(random.usize(1..=bytes.len() * 2));
                let mut out = SampleBatch::default();
                let _ = count(case.encoding, &bytes)
                    .map(|_| decode(case.encoding, &bytes, TimeRange::ALL, &mut out));
                // A bucket takes a bit at least.
                let buckets: usize = out.histograms.iter().map(|sample| buckets(&sample.histogram)).sum();
                assert!(out.len() <= bytes.len() * 8 && buckets <= bytes.len() * 8);
            }
        }
    }
}

fn buckets(histogram: &AnyHistogram) -> usize {
    match histogram {
        AnyHistogram::Int(h) => h.positive_buckets.len() + h.negative_buckets.len(),
        AnyHistogram::Float(h) => h.positive_buckets.len() + h.negative_buckets.len(),
    }
}
