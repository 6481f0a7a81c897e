use model::Value;
use model::histogram::{CounterResetHint, Histogram};
use model::storage::{Appendable, SeriesKey};
use model::wire::remote_read::{Hints, RawMatcher, read_frame, read_samples};
use tempfile::TempDir;
use tsdb::db::Db;
use tsdb::head::{Features, ReplayProgress};

use super::*;

struct Zone(Arc<Labels>);

impl ExternalLabels for Zone {
    fn external_labels(&self) -> Arc<Labels> {
        Arc::clone(&self.0)
    }
}

/// What came, and after how many pieces nobody wants more.
#[derive(Default)]
struct Received {
    kind: Option<ResponseType>,
    pieces: Vec<Vec<u8>>,
    pieces_max: Option<usize>,
}

impl Answer for Received {
    fn begin(&mut self, kind: ResponseType) -> Result<(), ReadError> {
        assert_eq!(self.kind.replace(kind), None);
        Ok(())
    }

    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), ReadError> {
        if self.pieces_max.is_some_and(|most| self.pieces.len() >= most) {
            return Err(ReadError::Gone);
        }
        self.pieces.push(bytes);
        Ok(())
    }
}

struct Place {
    db: Arc<Db>,
    reader: Reader,
    _dir: TempDir,
}

fn place(features: Features, options: Options) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = tsdb::db::Options { features, ..tsdb::db::Options::default() };
    let db = Arc::new(Db::open(dir.path(), &store, &ReplayProgress::default()).unwrap());
    let external = Arc::new(Zone(Arc::new(Labels::from_pairs([("zone", "a"), ("job", "ours")]))));
    Place { reader: Reader::new(Arc::clone(&db) as Arc<dyn Queryable>, external, options), db, _dir: dir }
}

const OPTIONS: Options = Options { samples_max: 0, frame_bytes_max: 1 << 20 };

impl Place {
    fn append(&self, labels: &[(&str, &str)], st: i64, samples: impl IntoIterator<Item = (i64, f64)>) {
        let labels = Labels::from_pairs(labels.iter().copied());
        for (t, v) in samples {
            let mut batch = self.db.appender(0);
            batch.append_value(SeriesKey::Labels(&labels), st, t, Value::Float(v)).unwrap();
            batch.commit().unwrap();
        }
    }

    fn ask(&self, queries: Vec<Query>, accepted: &[i32]) -> Result<Received, ReadError> {
        let mut body = Vec::new();
        Request { queries, accepted: accepted.to_vec() }.write(&mut body);
        let mut received = Received::default();
        self.reader.read(&body, &mut received)?;
        Ok(received)
    }
}

fn query(name: &str, range: (i64, i64), others: &[(i32, &str, &str)]) -> Query {
    let mut query = Query { start: range.0, end: range.1, ..Query::default() };
    for &(kind, name, value) in [(2, "__name__", name)].iter().chain(others) {
        query.matchers.push(RawMatcher { kind, name: name.into(), value: value.into() });
    }
    query
}

/// Of every query, the series as `labels: time=value ...`.
fn shown_samples(received: &Received) -> Vec<Vec<String>> {
    assert_eq!(received.kind, Some(ResponseType::Samples));
    let results = read_samples(&received.pieces.concat()).unwrap();
    let series = |series: &remote_read::ReadSeries| show(&series.labels, &series.samples);
    results.iter().map(|list| list.iter().map(series).collect()).collect()
}

fn show(labels: &[(Vec<u8>, Vec<u8>)], samples: &SampleBatch) -> String {
    let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (&name[..], &value[..])));
    let floats = samples.iter().map(|sample| format!("{}={}", sample.t, sample.v));
    let histograms = samples.histograms.iter().map(|sample| format!("{}=h", sample.t));
    format!("{labels} {}", floats.chain(histograms).collect::<Vec<_>>().join(" "))
}

/// Encodings of chunks and what they hold, series after series, with the number of frames.
fn shown_chunks(received: &Received) -> (Vec<(u8, String)>, usize) {
    assert_eq!(received.kind, Some(ResponseType::StreamedChunks));
    let bytes = received.pieces.concat();
    let (mut rest, mut all, mut n) = (&bytes[..], Vec::new(), 0);
    while let Some(list) = read_frame(&mut rest, crc32c::crc32c).unwrap() {
        n += 1;
        for series in list {
            for chunk in series.chunks {
                let mut samples = SampleBatch::default();
                let encoding = Encoding::from_byte(chunk.encoding).unwrap();
                chunk::decode(encoding, &chunk.bytes, TimeRange::ALL, &mut samples).unwrap();
                assert_eq!(samples.ts.first().copied().unwrap_or(chunk.mint), chunk.mint);
                assert_eq!(samples.ts.last().copied().unwrap_or(chunk.maxt), chunk.maxt);
                all.push((chunk.encoding, show(&series.labels, &samples)));
            }
        }
    }
    (all, n)
}

const CHUNKS: &[i32] = &[1];

#[test]
fn external_labels_are_added_and_matched_by_who_asks() {
    let place = place(Features::default(), OPTIONS);
    place.append(&[("__name__", "up")], 0, [(1000, 1.0)]);
    place.append(&[("__name__", "up"), ("job", "own")], 0, [(1000, 2.0)]);
    let ours = r#"{__name__="up", job="ours", zone="a"} 1000=1"#;
    let own = r#"{__name__="up", job="own", zone="a"} 1000=2"#;
    let ask = |others| shown_samples(&place.ask(vec![query("up", (0, 2000), others)], &[]).unwrap()).concat();
    assert_eq!(ask(&[(0, "zone", "a")]), [ours, own]);
    assert_eq!(ask(&[(0, "job", "ours")]), [ours]);
    assert_eq!(ask(&[(0, "job", "own")]), [own]);
    // What is not an equality is asked of the store, which knows nothing of zones.
    assert_eq!(ask(&[(2, "zone", "a")]), [] as [&str; 0]);
    assert_eq!(ask(&[(0, "zone", "b")]), [] as [&str; 0]);
}

#[test]
fn both_kinds_of_answers_hold_the_same_in_range() {
    let place = place(Features::default(), OPTIONS);
    place.append(&[("__name__", "b")], 0, (0..300).map(|i| (i * 1000, i as f64)));
    place.append(&[("__name__", "a")], 0, [(5_000, 1.5)]);
    let histogram = Histogram { counter_reset_hint: CounterResetHint::Gauge, ..Histogram::default() };
    let mut batch = place.db.appender(0);
    let labels = Labels::from_pairs([("__name__", "c")]);
    batch.append_value(SeriesKey::Labels(&labels), 0, 7_000, Value::Histogram(&histogram)).unwrap();
    batch.commit().unwrap();
    for range in [(0, 299_000), (3_500, 8_000), (5_000, 5_000), (100_000, 250_500), (400_000, 500_000)] {
        let queries = || vec![query("a|b|c", range, &[]), query("a", range, &[])];
        let mut samples = shown_samples(&place.ask(queries(), &[0, 1]).unwrap()).concat();
        samples.sort();
        let (chunks, _) = shown_chunks(&place.ask(queries(), CHUNKS).unwrap());
        let mut whole: Vec<String> = Vec::new();
        for (_, chunk) in chunks {
            let (labels, rest) = chunk.split_once("} ").unwrap();
            match whole.last_mut().filter(|last| last.starts_with(&format!("{labels}}} "))) {
                Some(last) => *last = format!("{last} {rest}"),
                None => whole.push(chunk),
            }
        }
        whole.sort();
        assert_eq!(whole, samples, "{range:?}");
        let is_gauge = place.ask(vec![query("c", range, &[])], CHUNKS).unwrap();
        assert_eq!(shown_chunks(&is_gauge).0.len(), usize::from(range.0 <= 7_000 && range.1 >= 7_000));
    }
}

#[test]
fn a_long_series_goes_over_several_frames() {
    let place = place(Features::default(), Options { frame_bytes_max: 400, ..OPTIONS });
    // Random bits, so that a chunk of 120 samples takes a kilobyte.
    let noise = |i: i64| f64::from_bits((i.cast_unsigned() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    place.append(&[("__name__", "up")], 0, (0..500).map(|i| (i * 1000, noise(i))));
    place.append(&[("__name__", "vp")], 0, [(0, 1.0)]);
    let (chunks, n_frames) =
        shown_chunks(&place.ask(vec![query("up|vp", (0, 500_000), &[])], CHUNKS).unwrap());
    let of_up = chunks.iter().filter(|(_, chunk)| chunk.contains("up")).count();
    assert!(of_up >= 4, "{of_up} chunks");
    assert_eq!(n_frames, of_up + 1, "each chunk is more than a frame should have");
}

#[test]
fn start_times_decide_the_encoding() {
    let floats = FloatEncoding::Xor2;
    let place = place(Features { stores_start_times: true, floats, ..Features::default() }, OPTIONS);
    place.append(&[("__name__", "plain")], 0, [(1000, 1.0), (2000, 2.0)]);
    place.append(&[("__name__", "started")], 500, [(1000, 1.0), (2000, 2.0)]);
    let ask = |name| shown_chunks(&place.ask(vec![query(name, (0, 5000), &[])], CHUNKS).unwrap()).0;
    // Clients of before 3.11 can read the one, and could not be told the other anyhow.
    assert_eq!(ask("plain")[0].0, Encoding::Xor as u8);
    assert_eq!(ask("started")[0].0, Encoding::Xor2 as u8);
    assert!(ask("plain")[0].1.ends_with("1000=1 2000=2"));
}

#[test]
fn what_was_deleted_is_not_given_out() {
    let place = place(Features::default(), OPTIONS);
    place.append(&[("__name__", "up")], 0, (0..10).map(|i| (i * 1000, i as f64)));
    let up = [Matcher::metric_name(b"up"[..].into())];
    place.db.delete(TimeRange::new(2000, 7000), &up).unwrap();
    let (chunks, _) = shown_chunks(&place.ask(vec![query("up", (0, 20_000), &[])], CHUNKS).unwrap());
    assert_eq!(chunks.len(), 1);
    assert!(chunks[0].1.ends_with("} 0=0 1000=1 8000=8 9000=9"), "{chunks:?}");
}

#[test]
fn limits_and_mistakes_are_told() {
    let place = place(Features::default(), Options { samples_max: 10, ..OPTIONS });
    place.append(&[("__name__", "up")], 0, (0..11).map(|i| (i * 1000, 1.0)));
    let ask = |query: Query, accepted: &[i32]| {
        place.ask(vec![query], accepted).map(|received| received.pieces.len())
    };
    let too_many = ReadError::Request("exceeded sample limit (10)".to_owned());
    assert_eq!(ask(query("up", (0, 20_000), &[]), &[]), Err(too_many));
    assert_eq!(ask(query("up", (0, 9_000), &[]), &[]), Ok(1));
    // Chunks are not counted.
    assert_eq!(ask(query("up", (0, 20_000), &[]), CHUNKS), Ok(1));
    let unknown = ReadError::Storage("invalid matcher type".to_owned());
    assert_eq!(ask(query("up", (0, 1), &[(9, "a", "b")]), &[]), Err(unknown));
    assert!(matches!(ask(query("up", (0, 1), &[]), &[5]), Err(ReadError::Request(_))));
    let mut received = Received::default();
    let malformed = place.reader.read(&[0x0a, 9], &mut received);
    assert_eq!(malformed, Err(ReadError::Request("unexpected EOF".to_owned())));
    assert_eq!(received.kind, None);
}

#[test]
fn a_client_that_goes_away_ends_the_read() {
    let place = place(Features::default(), OPTIONS);
    place.append(&[("__name__", "up")], 0, [(0, 1.0)]);
    let mut body = Vec::new();
    let queries = vec![query("up", (0, 1), &[]); 3];
    Request { queries, accepted: vec![] }.write(&mut body);
    let mut received = Received { pieces_max: Some(1), ..Received::default() };
    assert_eq!(place.reader.read(&body, &mut received), Err(ReadError::Gone));
    assert_eq!(received.pieces.len(), 1);
}

#[test]
fn hints_may_ask_for_series_alone_or_for_less() {
    let place = place(Features::default(), OPTIONS);
    place.append(&[("__name__", "up")], 0, [(0, 1.0), (1000, 2.0)]);
    let hints =
        |func: &str, start_ms, end_ms| Hints { func: func.into(), start_ms, end_ms, ..Hints::default() };
    let ask = |hints, accepted: &[i32]| {
        place.ask(vec![Query { hints: Some(hints), ..query("up", (0, 1000), &[]) }], accepted).unwrap()
    };
    let labels = r#"{__name__="up", job="ours", zone="a"}"#;
    assert_eq!(shown_samples(&ask(hints("series", 0, 1000), &[])).concat(), [format!("{labels} ")]);
    assert!(ask(hints("series", 0, 1000), CHUNKS).pieces.is_empty());
    assert_eq!(shown_samples(&ask(hints("rate", 1000, 5000), &[])).concat(), [format!("{labels} 1000=2")]);
    assert_eq!(shown_chunks(&ask(hints("", 0, 500), CHUNKS)).0[0].1, format!("{labels} 0=1"));
}
