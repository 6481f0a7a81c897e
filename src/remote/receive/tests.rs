use model::storage::ExemplarQueryable;
use model::wire::remote_write::encode::{Part, Writer};
use model::{AnyHistogram, Histogram, STALE_NAN};
use tempfile::TempDir;
use tsdb::db::Db;
use tsdb::head::{Features, ReplayProgress};

use super::*;

const NOW: i64 = 1_700_000_000_000;

struct Place {
    db: Arc<Db>,
    receiver: Receiver<Db>,
    _dir: TempDir,
}

fn options() -> Options {
    Options { type_and_unit_labels: false, keeps_metadata: false, now: || NOW }
}

fn place(options: Options, features: Features, series_limit: u64) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store =
        tsdb::db::Options { features, head_series_limit: series_limit, ..tsdb::db::Options::default() };
    let db = Arc::new(Db::open(dir.path(), &store, &ReplayProgress::default()).unwrap());
    Place { receiver: Receiver::new(Arc::clone(&db), options), db, _dir: dir }
}

fn usual() -> Place {
    place(options(), Features { max_exemplars: 100, ..Features::default() }, 0)
}

type Series<'a> = (&'a [(&'a str, &'a str)], Vec<Part<'a>>);

fn float<'a>(t: i64, v: f64) -> Part<'a> {
    Part::Sample(Sample { t, st: 0, v })
}

fn body(message: Message, series: &[Series<'_>], metadata: Option<&Metadata>) -> Vec<u8> {
    let mut writer = Writer::new(message);
    for (labels, parts) in series {
        let pairs = labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        writer.series(pairs, parts, metadata);
    }
    writer.body()
}

impl Place {
    fn write(&self, message: Message, series: &[Series<'_>]) -> Result<Written, WriteError> {
        self.receiver.write(message, &body(message, series, None))
    }

    /// Everything in the store, a line per series: labels, then time and value of each sample.
    fn stored(&self) -> Vec<String> {
        let querier = self.db.querier(TimeRange::ALL).unwrap();
        let hints = SelectHints { sorted: true, ..SelectHints::default() };
        let set =
            querier.select(&[Matcher::new(model::MatchOp::Re, "__name__", ".*").unwrap()], &hints).unwrap();
        (0..set.len())
            .map(|i| {
                let mut samples = SampleBatch::default();
                set.samples_into(i, TimeRange::ALL, &mut samples).unwrap();
                let floats = (0..samples.len()).map(|at| {
                    let st = samples.st(at);
                    let v = if model::is_stale(samples.vs[at]) {
                        "stale".to_owned()
                    } else {
                        format_g(samples.vs[at])
                    };
                    (
                        samples.ts[at],
                        format!(
                            "{}:{v}{}",
                            samples.ts[at] - NOW,
                            if st == 0 { String::new() } else { format!("@{}", st - NOW) }
                        ),
                    )
                });
                let histograms = samples.histograms.iter().map(|sample| {
                    let shown = match &sample.histogram {
                        it if it.is_stale() => "stale histogram".to_owned(),
                        AnyHistogram::Int(it) => format!("{} in {}", it.count, it.schema),
                        AnyHistogram::Float(it) => format!("{}. in {}", it.count, it.schema),
                    };
                    (sample.t, format!("{}:{shown}", sample.t - NOW))
                });
                let mut all: Vec<_> = floats.chain(histograms).collect();
                all.sort();
                let texts: Vec<_> = all.into_iter().map(|(_, text)| text).collect();
                format!("{} {}", set.labels(i), texts.join(" "))
            })
            .collect()
    }

    fn metric(&self, name: &str) -> f64 {
        let mut out = Exposition::default();
        self.receiver.expose(&mut out);
        let text = String::from_utf8(out.into_body()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse().unwrap()
    }
}

fn refused(text: &str, written: Written) -> Result<Written, WriteError> {
    Err(WriteError { is_temporary: false, text: text.to_owned(), written })
}

fn samples(samples: u64) -> Written {
    Written { samples, ..Written::default() }
}

#[test]
fn version_1_is_all_or_nothing() {
    let place = usual();
    let up: &[_] = &[("__name__", "up")];
    assert_eq!(place.write(Message::V1, &[(up, vec![float(NOW, 1.0)])]), Ok(samples(1)));
    let other: Series<'_> = (&[("__name__", "other")], vec![float(NOW, 1.0)]);
    for (part, text) in [
        (float(NOW - 1, 1.0), "out of order sample".to_owned()),
        (
            float(NOW, 2.5),
            format!("duplicate sample for timestamp {NOW}; overrides not allowed: existing 1, new value 2.5"),
        ),
        (float(1, 1.0), "out of bounds".to_owned()),
        (float(NOW + AHEAD_MS_MAX + 1, 1.0), "out of bounds: timestamp is too far in the future".to_owned()),
    ] {
        let outcome = place.write(Message::V1, &[other.clone(), (up, vec![part])]);
        assert_eq!(outcome, refused(&text, Written::default()));
    }
    assert_eq!(place.stored(), [r#"{__name__="up"} 0:1"#]);
    assert_eq!(place.write(Message::V1, &[(up, vec![float(NOW + AHEAD_MS_MAX, 3.0)])]), Ok(samples(1)));
}

#[test]
fn version_2_keeps_what_it_can() {
    let place = usual();
    let up: &[_] = &[("__name__", "up")];
    let all: &[Series<'_>] = &[
        (up, vec![float(NOW, 1.0), float(NOW + 1, 2.0)]),
        (&[("a", "nameless")], vec![float(NOW, 1.0)]),
        (&[("__name__", "x"), ("a", "1"), ("a", "2")], vec![float(NOW, 1.0), float(NOW + 1, 1.0)]),
        (up, vec![]),
        (up, vec![float(NOW + AHEAD_MS_MAX + 1, 1.0)]),
        (&[("__name__", "other")], vec![float(NOW, 1.0)]),
    ];
    let text = "invalid metric name or labels, got {a=\"nameless\"}\n\
        invalid labels for series, labels {__name__=\"x\", a=\"1\", a=\"2\"}, duplicated label a\n\
        TimeSeries must contain at least one sample or histogram for series {__name__=\"up\"}\n\
        out of bounds: timestamp is too far in the future for series {__name__=\"up\"}";
    assert_eq!(place.write(Message::V2, all), refused(text, samples(3)));
    assert_eq!(place.stored(), [r#"{__name__="other"} 0:1"#, r#"{__name__="up"} 0:1 1:2"#]);
    assert_eq!(place.metric("prometheus_api_remote_write_invalid_labels_samples_total"), 3.0);
    let again = format!(
        "duplicate sample for timestamp {}; overrides not allowed: existing 2, new value 7 for series {{__name__=\"up\"}}",
        NOW + 1
    );
    assert_eq!(place.write(Message::V2, &[(up, vec![float(NOW + 1, 7.0)])]), refused(&again, samples(0)));
}

#[test]
fn what_the_sender_is_told_has_bounds() {
    let place = usual();
    let labels: Vec<_> = (0..5000).map(|i| format!("{i}{}", "x".repeat(100))).collect();
    let pairs: Vec<_> = labels.iter().map(|label| [("a", label.as_str())]).collect();
    let all: Vec<Series<'_>> = pairs.iter().map(|pair| (&pair[..], vec![float(NOW, 1.0)])).collect();
    let error = place.write(Message::V2, &all).unwrap_err();
    assert!(error.text.len() < 2 * ERROR_BYTES_MAX, "{}", error.text.len());
    assert!(error.text.lines().last().unwrap().starts_with("and "), "{}", error.text);
    let long = "y".repeat(SERIES_BYTES_MAX);
    let long: Series<'_> = (&[("__name__", &long)], vec![float(NOW, 1.0)]);
    let error = place.write(Message::V2, std::slice::from_ref(&long)).unwrap_err();
    assert!(error.text.len() < 2 * ERROR_BYTES_MAX);
    assert_eq!(place.write(Message::V1, &[long]), Ok(samples(0)));
}

#[test]
fn labels_are_sorted_and_those_without_value_dropped() {
    let place = usual();
    for message in Message::ALL {
        let name = format!("{message:?}");
        let series: Series<'_> =
            (&[("z", "1"), ("b", ""), ("__name__", &name), ("a", "2")], vec![float(NOW, 1.0)]);
        assert_eq!(place.write(message, &[series]), Ok(samples(1)));
    }
    let expected = ["V1", "V2"].map(|name| format!("{{__name__=\"{name}\", a=\"2\", z=\"1\"}} 0:1"));
    assert_eq!(place.stored(), expected);
    // The names decide: an empty value does not excuse the second of a pair.
    let twice: Series<'_> = (&[("__name__", "up"), ("a", ""), ("a", "1")], vec![float(NOW, 1.0)]);
    assert_eq!(place.write(Message::V1, &[twice]), Ok(samples(0)));
    assert_eq!(place.metric("prometheus_api_remote_write_invalid_labels_samples_total"), 1.0);
}

fn part(t: i64, value: Value<'_>) -> Part<'_> {
    Part::Histogram(Times { t, st: 0 }, value)
}

fn histogram(schema: i32) -> Histogram {
    Histogram {
        schema,
        count: 3,
        sum: 4.5,
        positive_spans: vec![model::histogram::Span { offset: 0, length: 2 }],
        positive_buckets: vec![1, 1],
        ..Histogram::default()
    }
}

#[test]
fn histograms_of_all_kinds_are_kept() {
    let place = usual();
    let (int, fine, unknown) = (histogram(3), histogram(11), histogram(60));
    let float_histogram = int.to_float();
    let custom = Histogram { custom_values: vec![1.0], ..histogram(-53) };
    let ended = Histogram { sum: STALE_NAN, ..Histogram::default() };
    for message in Message::ALL {
        let name = format!("{message:?}");
        let labels: &[_] = &[("__name__", name.as_str())];
        let parts = vec![
            part(NOW, Value::Histogram(&int)),
            part(NOW + 1, Value::FloatHistogram(&float_histogram)),
            part(NOW + 2, Value::Histogram(&custom)),
            part(NOW + 3, Value::Histogram(&fine)),
            part(NOW + 4, Value::Histogram(&ended)),
        ];
        let written = Written { histograms: 5, ..Written::default() };
        assert_eq!(place.write(message, &[(labels, parts)]), Ok(written));
        let error =
            place.write(message, &[(labels, vec![part(NOW + 5, Value::Histogram(&unknown))])]).unwrap_err();
        assert!(error.text.starts_with("histogram has an invalid schema"), "{error:?}");
        let bad = Histogram { count: 1, ..int.clone() };
        let error =
            place.write(message, &[(labels, vec![part(NOW + 5, Value::Histogram(&bad))])]).unwrap_err();
        assert!(
            error.text.starts_with("3 observations found in buckets, but the Count field is 1"),
            "{error:?}"
        );
    }
    let expected = ["V1", "V2"].map(|name| {
        format!("{{__name__=\"{name}\"}} 0:3 in 3 1:3. in 3 2:3 in -53 3:3 in 8 4:stale histogram")
    });
    assert_eq!(place.stored(), expected);
}

#[test]
fn start_times_reach_the_store() {
    let started = Part::Sample(Sample { t: NOW, st: NOW - 5, v: 2.0 });
    let series: &[Series<'_>] = &[(&[("__name__", "up")], vec![started])];
    let with = |features| place(options(), features, 0);
    let zeros = with(Features { zero_at_start: true, ..Features::default() });
    assert_eq!(zeros.write(Message::V2, series), Ok(samples(1)));
    assert_eq!(zeros.stored(), [r#"{__name__="up"} -5:0 0:2"#]);
    let floats = tsdb::chunk::FloatEncoding::Xor2;
    let kept = with(Features { stores_start_times: true, floats, ..Features::default() });
    assert_eq!(kept.write(Message::V2, series), Ok(samples(1)));
    assert_eq!(kept.stored(), [r#"{__name__="up"} 0:2@-5"#]);
    let plain = usual();
    assert_eq!(plain.write(Message::V2, series), Ok(samples(1)));
    assert_eq!(plain.stored(), [r#"{__name__="up"} 0:2"#]);
}

#[test]
fn exemplars_follow_their_series() {
    let place = usual();
    let labels: &[Pair<'_>] = &[(b"trace", b"a")];
    let exemplar = |t| Part::Exemplar { labels, v: 0.5, t };
    let histogram = histogram(0);
    let part = |t| part(t, Value::Histogram(&histogram));
    for message in Message::ALL {
        let name = format!("{message:?}");
        let labels: &[_] = &[("__name__", name.as_str())];
        let written = Written { samples: 0, histograms: 1, exemplars: 1 };
        assert_eq!(place.write(message, &[(labels, vec![part(NOW), exemplar(NOW)])]), Ok(written));
        // One that is older than what is there: version 1 never says so.
        let outcome = place.write(message, &[(labels, vec![part(NOW + 1), exemplar(NOW - 1)])]);
        let written = Written { exemplars: 0, ..written };
        let text = format!("out of order exemplar for series {{__name__=\"{name}\"}}");
        assert_eq!(outcome, if message == Message::V1 { Ok(written) } else { refused(&text, written) });
        // As a Prometheus sends them: without a sample, of a series that is there.
        let alone = place.write(message, &[(labels, vec![exemplar(NOW + 5)])]);
        assert_eq!(alone, Ok(Written { exemplars: 1, ..Written::default() }));
        let unknown = place.write(message, &[(&[("__name__", "x")], vec![exemplar(NOW + 5)])]);
        assert_eq!(unknown, Ok(Written::default()));
    }
    let all = [vec![Matcher::new(model::MatchOp::Re, "__name__", ".+").unwrap()]];
    let found = place.db.exemplars(TimeRange::ALL, &all).unwrap();
    let times: Vec<Vec<_>> =
        found.iter().map(|series| series.exemplars.iter().map(|exemplar| exemplar.t).collect()).collect();
    assert_eq!(times, [[NOW, NOW + 5], [NOW, NOW + 5]]);
    // A store that keeps none has no complaint.
    let without = self::place(options(), Features::default(), 0);
    let series: Series<'_> = (&[("__name__", "up")], vec![float(NOW, 1.0), exemplar(NOW)]);
    let written = Written { samples: 1, histograms: 0, exemplars: 1 };
    assert_eq!(without.write(Message::V2, &[series]), Ok(written));
}

#[test]
fn type_and_unit_become_labels_where_that_is_wanted() {
    let place = place(Options { type_and_unit_labels: true, ..options() }, Features::default(), 0);
    let metadata = Metadata { kind: MetricType::Counter, unit: "s".into(), help: "".into() };
    let series: &[Series<'_>] = &[(&[("__name__", "up"), ("__type__", "sent")], vec![float(NOW, 1.0)])];
    place.receiver.write(Message::V2, &body(Message::V2, series, Some(&metadata))).unwrap();
    let unknown = Metadata::default();
    place.receiver.write(Message::V2, &body(Message::V2, series, Some(&unknown))).unwrap();
    assert_eq!(
        place.stored(),
        [
            r#"{__name__="up", __type__="counter", __unit__="s"} 0:1"#,
            r#"{__name__="up", __type__="sent"} 0:1"#
        ]
    );
}

#[test]
fn metadata_is_counted_where_it_could_not_be_kept() {
    let features = Features { logs_metadata: true, ..Features::default() };
    let place = place(Options { keeps_metadata: true, ..options() }, features, 0);
    let metadata = Metadata { kind: MetricType::Gauge, unit: "".into(), help: "Help.".into() };
    let series: &[Series<'_>] = &[(&[("__name__", "up")], vec![float(NOW, 1.0)])];
    assert_eq!(
        place.receiver.write(Message::V2, &body(Message::V2, series, Some(&metadata))),
        Ok(samples(1))
    );
    assert_eq!(place.metric("prometheus_api_remote_write_without_metadata_appended_samples_total"), 0.0);
}

#[test]
fn one_series_too_many_does_not_cost_the_others() {
    for message in Message::ALL {
        let place = place(options(), Features::default(), 1);
        let known: Series<'_> = (&[("__name__", "a")], vec![float(NOW, 1.0)]);
        let fresh: Series<'_> = (&[("__name__", "b")], vec![float(NOW, 1.0)]);
        let error = place.write(message, &[known, fresh]).unwrap_err();
        assert_eq!((error.is_temporary, error.written), (false, samples(1)));
        assert!(error.text.starts_with("series limit reached for"), "{error:?}");
        assert_eq!(place.stored(), [r#"{__name__="a"} 0:1"#]);
    }
}

#[test]
fn a_store_that_is_closed_is_asked_again_later() {
    let place = usual();
    place.db.close().unwrap();
    for message in Message::ALL {
        let error = place.write(message, &[(&[("__name__", "a")], vec![float(NOW, 1.0)])]).unwrap_err();
        assert!(error.is_temporary, "{error:?}");
        assert_eq!(error.written, Written::default());
    }
}

#[test]
fn malformed_requests_have_no_effect() {
    let place = usual();
    for message in Message::ALL {
        let mut body = body(message, &[(&[("__name__", "a")], vec![float(NOW, 1.0)])], None);
        body.extend_from_slice(&[0x2a, 9]);
        let body = if message == Message::V1 { [&body[..body.len() - 2], &[0x0a, 9]].concat() } else { body };
        assert_eq!(place.receiver.write(message, &body), refused("unexpected EOF", Written::default()));
    }
    assert!(place.stored().is_empty());
    assert_eq!(place.db.head().n_series(), 0);
}

/// Senders use several connections at once, each with series of its own.
#[test]
fn several_writers_at_once_lose_nothing() {
    let place = usual();
    let (n_writers, n_requests, n_series) = (4, 20, 50);
    std::thread::scope(|scope| {
        for writer in 0..n_writers {
            let place = &place;
            scope.spawn(move || {
                let message = Message::ALL[writer % 2];
                let names: Vec<_> = (0..n_series).map(|i| (writer.to_string(), i.to_string())).collect();
                for t in 0..n_requests {
                    let all: Vec<_> = names
                        .iter()
                        .map(|(w, i)| [("__name__", "up"), ("w", w.as_str()), ("i", i.as_str())])
                        .collect();
                    let series: Vec<Series<'_>> = all
                        .iter()
                        .map(|labels| (&labels[..], vec![float(NOW + t * 1000, t as f64)]))
                        .collect();
                    assert_eq!(place.write(message, &series), Ok(samples(n_series)));
                }
            });
        }
    });
    let stored = place.stored();
    assert_eq!(stored.len(), n_writers * usize::try_from(n_series).unwrap());
    let expected: Vec<_> = (0..n_requests).map(|t| format!("{}:{t}", t * 1000)).collect();
    for series in stored {
        assert!(series.ends_with(&expected.join(" ")), "{series}");
    }
}

/// A request of version 2 by hand: symbols, and per series its references, those of an exemplar, and help.
fn by_hand(symbols: &[&[u8]], all: &[(&[u32], &[u32], u32)]) -> Vec<u8> {
    fn message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
        out.push(field << 3 | 2);
        varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
    fn varint(out: &mut Vec<u8>, mut v: u64) {
        while v >= 0x80 {
            out.push(u8::try_from(v & 0x7f).unwrap() | 0x80);
            v >>= 7;
        }
        out.push(u8::try_from(v).unwrap());
    }
    fn numbers(all: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        for &it in all {
            varint(&mut out, u64::from(it));
        }
        out
    }
    let mut body = Vec::new();
    for symbol in symbols {
        message(&mut body, 4, symbol);
    }
    for &(refs, exemplar, help) in all {
        let mut series = Vec::new();
        message(&mut series, 1, &numbers(refs));
        let mut sample = vec![0x10];
        varint(&mut sample, NOW.cast_unsigned());
        message(&mut series, 2, &sample);
        if !exemplar.is_empty() {
            let mut bytes = Vec::new();
            message(&mut bytes, 1, &numbers(exemplar));
            message(&mut series, 4, &bytes);
        }
        let mut metadata = vec![0x18];
        varint(&mut metadata, u64::from(help));
        message(&mut series, 5, &metadata);
        message(&mut body, 5, &series);
    }
    body
}

/// All labels refer to one symbol: together they would be 64 GiB.
#[test]
fn what_refers_to_long_texts_is_refused_unwritten() {
    let long = vec![b'a'; 16 << 20];
    let labels: &[u32] = &vec![1; 8192];
    let one: (&[u32], &[u32], u32) = (labels, &[], 0);
    let place = usual();
    let body = by_hand(&[b"", &long], &[one; 20]);
    let error = place.receiver.write(Message::V2, &body).unwrap_err();
    assert!(error.text.starts_with("invalid metric name or labels, got {aaa"), "{}", &error.text[..100]);
    assert!(error.text.ends_with("...\nand 19 more"));
    assert!(error.text.len() < 2 * ERROR_BYTES_MAX);
    assert_eq!(place.metric("prometheus_api_remote_write_invalid_labels_samples_total"), 20.0);
}

/// Labels of more than 16 MiB cannot even be packed.
#[test]
fn exemplars_with_long_labels_are_left_out() {
    let long = vec![b'a'; 17 << 20];
    let place = usual();
    let labels: &[u32] = &[1, 2];
    let many = [3; 4096];
    let (exact, over) = ([4, 5], [4, 6]);
    let (front, most, more) = ([b'x'; 28], "\u{e4}".repeat(100), "\u{e4}".repeat(101));
    let symbols = [b"".as_slice(), b"__name__", b"up", &long, &front, most.as_bytes(), more.as_bytes()];
    for (exemplar, n) in [(&many[..], 0), (&[3, 3], 0), (&over, 0), (&exact, 1)] {
        let body = by_hand(&symbols, &[(labels, exemplar, 0)]);
        let written = place.receiver.write(Message::V2, &body).unwrap();
        assert_eq!(written, Written { samples: 1, histograms: 0, exemplars: n });
    }
    let long = String::from_utf8(long).unwrap();
    let pairs: &[(&[u8], &[u8])] = &[(b"trace_id", long.as_bytes())];
    let part = Part::Exemplar { labels: pairs, v: 0.5, t: NOW };
    let outcome = place.write(Message::V1, &[(&[("__name__", "v1")], vec![float(NOW, 1.0), part])]);
    assert_eq!(outcome, Ok(samples(1)));
}

#[test]
fn long_metadata_is_not_kept() {
    let options = Options { keeps_metadata: true, ..options() };
    let place = place(options, Features { logs_metadata: true, ..Features::default() }, 0);
    let (most, more) = (vec![b'a'; METADATA_BYTES_MAX], vec![b'a'; METADATA_BYTES_MAX + 1]);
    let symbols = [b"".as_slice(), b"__name__", b"a", b"b", &most, &more];
    let body = by_hand(&symbols, &[(&[1, 2], &[], 4), (&[1, 3], &[], 5)]);
    assert_eq!(place.receiver.write(Message::V2, &body), Ok(samples(2)));
    assert_eq!(place.metric("prometheus_api_remote_write_without_metadata_appended_samples_total"), 1.0);
}

#[test]
fn invalid_labels_of_a_refused_request_are_counted() {
    let place = usual();
    let nameless: Series<'_> = (&[("a", "nameless")], vec![float(NOW, 1.0)]);
    let late: Series<'_> = (&[("__name__", "up")], vec![float(NOW + AHEAD_MS_MAX + 1, 1.0)]);
    place.write(Message::V1, &[nameless, late]).unwrap_err();
    assert_eq!(place.metric("prometheus_api_remote_write_invalid_labels_samples_total"), 1.0);
}
