use super::value::write_timestamp;
use super::{write_escaped, write_labels, write_raw};
use crate::stream::Source;

/// A result as text, the same however little is written at a time.
fn text(value: &promql::Value) -> String {
    let whole = |step: usize| {
        let mut data = super::QueryData::new(value.clone(), None);
        written(|out| while data.write_some(out, out.len().saturating_add(step)) {})
    };
    for step in [1, 2, 7] {
        assert_eq!(whole(step), whole(usize::MAX), "{step} bytes at a time");
    }
    whole(usize::MAX)
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn timestamps_have_three_decimals_or_none() {
    for (t, want) in [
        (1_435_781_451_781, "1435781451.781"),
        (1_000, "1"),
        (1_500, "1.500"),
        (-1_005, "-1.005"),
        (0, "0"),
        (i64::MIN, "-9223372036854775.808"),
    ] {
        assert_eq!(written(|out| write_timestamp(out, t)), want);
    }
}

#[test]
fn results_are_raw_and_messages_are_html_safe() {
    let text = "a<b> & \"c\"\\\n\t\x01\u{2028}ü".as_bytes();
    assert_eq!(written(|out| write_raw(out, text)), "\"a<b> & \\\"c\\\"\\\\\\n\\t\\u0001\u{2028}ü\"");
    assert_eq!(
        written(|out| write_escaped(out, text)),
        "\"a\\u003cb\\u003e \\u0026 \\\"c\\\"\\\\\\n\\t\\u0001\\u2028ü\""
    );
    assert_eq!(written(|out| write_raw(out, b"\xff!")), "\"\u{fffd}!\"");
}

#[test]
fn label_sets_are_objects_in_order() {
    let labels = model::Labels::from_pairs([("b", "<2>"), ("a", "1")]);
    assert_eq!(written(|out| write_labels(out, &labels)), r#"{"a":"1","b":"<2>"}"#);
}

#[test]
fn the_time_of_a_scalar_is_a_number_like_any_other() {
    let scalar = promql::Value::Scalar(model::Sample { t: 1500, v: 2.0 });
    assert_eq!(text(&scalar), r#"{"resultType":"scalar","result":[1.5,"2"]}"#);
    let string = promql::Value::String { t: -60, value: b"x"[..].into() };
    assert_eq!(text(&string), r#"{"resultType":"string","result":[-0.06,"x"]}"#);
}

#[test]
fn histograms_are_totals_and_their_filled_buckets() {
    use model::histogram::{FloatHistogram, Span};
    let histogram = FloatHistogram {
        schema: 0,
        zero_threshold: 0.75,
        zero_count: 2.0,
        count: 6.5,
        sum: -1e-7,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 0.0, 2.5],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_buckets: vec![1.0],
        ..FloatHistogram::default()
    };
    let one = r#"{"count":"6.5","sum":"-1e-07","buckets":[[1,"-2","-1","1"],[3,"-0.75","0.75","2"],[0,"0.75","1","1"],[0,"2","4","2.5"]]}"#;
    let sample = |histogram: &FloatHistogram| model::HistogramSample {
        t: 1_500,
        st: 0,
        histogram: model::AnyHistogram::Float(Box::new(histogram.clone())),
    };
    let vector = promql::Value::Vector(vec![promql::VectorSample {
        labels: model::Labels::empty(),
        t: 1_500,
        value: promql::SampleValue::Histogram(histogram.clone().into()),
    }]);
    let expected =
        format!(r#"{{"resultType":"vector","result":[{{"metric":{{}},"histogram":[1.500,{one}]}}]}}"#);
    assert_eq!(text(&vector), expected);
    let histograms = vec![sample(&histogram), sample(&FloatHistogram::default())];
    let samples = model::SampleBatch { histograms, ..model::SampleBatch::default() };
    let series = |samples| promql::MatrixSeries { labels: model::Labels::empty(), samples };
    let mut both = model::SampleBatch::default();
    both.push(2_000, 3.0);
    both.histograms = vec![sample(&FloatHistogram::default())];
    let empty = r#"[1.500,{"count":"0","sum":"0"}]"#;
    let expected = format!(
        r#"{{"resultType":"matrix","result":[{{"metric":{{}},"histograms":[[1.500,{one}],{empty}]}},{{"metric":{{}},"values":[[2,"3"]],"histograms":[{empty}]}}]}}"#
    );
    assert_eq!(text(&promql::Value::Matrix(vec![series(samples), series(both)])), expected);
}

#[test]
fn results_without_series_and_series_without_samples_are_written() {
    use promql::{MatrixSeries, Value};
    assert_eq!(text(&Value::Vector(Vec::new())), r#"{"resultType":"vector","result":[]}"#);
    assert_eq!(text(&Value::Matrix(Vec::new())), r#"{"resultType":"matrix","result":[]}"#);
    let bare = |name: &str| MatrixSeries {
        labels: model::Labels::from_pairs([("a", name)]),
        samples: model::SampleBatch::default(),
    };
    assert_eq!(
        text(&Value::Matrix(vec![bare("1"), bare("2")])),
        r#"{"resultType":"matrix","result":[{"metric":{"a":"1"}},{"metric":{"a":"2"}}]}"#
    );
    let mut floats = bare("1");
    floats.samples.push(1000, 1.0);
    floats.samples.push(2500, f64::NAN);
    let mut data = super::QueryData::new(Value::Matrix(vec![floats]), Some(&promql::Stats::default()));
    let text = written(|out| assert!(!data.write_some(out, usize::MAX)));
    let expected = r#"{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"1"],[2.500,"NaN"]]}],"stats":{"timings":{"#;
    assert!(text.starts_with(expected) && text.ends_with("}}}"), "{text}");
}
