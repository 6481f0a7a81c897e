use super::value::write_timestamp;
use super::{write_escaped, write_labels, write_raw};

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
    let text = |value: &promql::Value| {
        let mut out = Vec::new();
        super::value::write_value(&mut out, value);
        String::from_utf8(out).unwrap()
    };
    let scalar = promql::Value::Scalar(model::Sample { t: 1500, v: 2.0 });
    assert_eq!(text(&scalar), r#""resultType":"scalar","result":[1.5,"2"]"#);
    let string = promql::Value::String { t: -60, value: b"x"[..].into() };
    assert_eq!(text(&string), r#""resultType":"string","result":[-0.06,"x"]"#);
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
    let text = |value: &promql::Value| written(|out| super::value::write_value(out, value));
    let expected = format!(r#""resultType":"vector","result":[{{"metric":{{}},"histogram":[1.500,{one}]}}]"#);
    assert_eq!(text(&vector), expected);
    let histograms = vec![sample(&histogram), sample(&FloatHistogram::default())];
    let samples = model::SampleBatch { histograms, ..model::SampleBatch::default() };
    let series = |samples| promql::MatrixSeries { labels: model::Labels::empty(), samples };
    let mut both = model::SampleBatch::default();
    both.push(2_000, 3.0);
    both.histograms = vec![sample(&FloatHistogram::default())];
    let empty = r#"[1.500,{"count":"0","sum":"0"}]"#;
    let expected = format!(
        r#""resultType":"matrix","result":[{{"metric":{{}},"histograms":[[1.500,{one}],{empty}]}},{{"metric":{{}},"values":[[2,"3"]],"histograms":[{empty}]}}]"#
    );
    assert_eq!(text(&promql::Value::Matrix(vec![series(samples), series(both)])), expected);
}
