//! Requests in JSON against a real store.

use model::storage::{Appender, Queryable, SelectHints, SeriesKey, SeriesRef};
use model::{AnyHistogram, MatchOp, Matcher, SampleBatch, TimeRange, Value, is_stale};
use tempfile::TempDir;
use tsdb::db::{Db, Options as StoreOptions};
use tsdb::head::ReplayProgress;

use super::*;

const NOW: Timestamp = 1_700_000_000_000;

struct House {
    receiver: Receiver,
    config: Otlp,
    db: Db,
    _dir: TempDir,
}

fn house(deltas: Deltas, config: Otlp) -> House {
    limited_house(deltas, config, 0)
}

fn limited_house(deltas: Deltas, config: Otlp, series_limit: u64) -> House {
    let dir = tempfile::tempdir().unwrap();
    let mut store_options = StoreOptions { head_series_limit: series_limit, ..StoreOptions::default() };
    store_options.features.zero_at_start = true;
    store_options.features.max_exemplars = 10;
    let db = Db::open(dir.path(), &store_options, &ReplayProgress::default()).unwrap();
    let options = Options {
        deltas,
        type_and_unit_labels: false,
        zero_at_start: true,
        logs_metadata: false,
        lookback: Duration::from_mins(5),
    };
    House { receiver: Receiver::new(options, || NOW), config, db, _dir: dir }
}

/// A request of one resource with these metrics. `@5` is the time of five seconds ago, in nanoseconds.
fn request(resource: &str, metrics: &str) -> String {
    let mut text = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"scope":{{"name":"lib","version":"2"}},"metrics":[{metrics}]}}]}}]}}"#
    );
    for seconds in (0..1000).rev() {
        let at = format!("{}000000", NOW - seconds * 1000);
        text = text.replace(&format!("@{seconds}"), &at);
    }
    text
}

const API: &str = r#"{"key":"service.name","value":{"stringValue":"api"}}"#;

impl House {
    fn send(&self, resource: &str, metrics: &str) -> Result<(), Refusal> {
        let body = request(resource, metrics);
        self.receiver.receive(&self.db, &self.config, body.as_bytes(), Encoding::Json)
    }

    /// Series with their samples, as seconds ago and value.
    fn stored(&self) -> Vec<String> {
        let range = TimeRange { mint: 0, maxt: NOW * 2 };
        let querier = self.db.querier(range).unwrap();
        let everything = Matcher::new(MatchOp::Re, "__name__", ".+").unwrap();
        let set = querier.select(&[everything], &SelectHints::default()).unwrap();
        let mut out = Vec::new();
        for i in 0..set.len() {
            let mut batch = SampleBatch::default();
            set.samples_into(i, range, &mut batch).unwrap();
            let ago = |t: Timestamp| (NOW - t) / 1000;
            let float = |v: f64| if is_stale(v) { "stale".to_owned() } else { v.to_string() };
            let mut texts: Vec<_> =
                batch.ts.iter().zip(&batch.vs).map(|(&t, &v)| format!(" {}@{}", float(v), ago(t))).collect();
            texts.extend(batch.histograms.iter().map(|sample| {
                let AnyHistogram::Int(it) = &sample.histogram else { panic!("OTLP has whole counts") };
                let count = if it.is_stale() { "stale".to_owned() } else { it.count.to_string() };
                format!(" [{count} {}]@{}", it.schema, ago(sample.t))
            }));
            if !texts.is_empty() {
                out.push(format!("{}{}", set.labels(i), texts.concat()));
            }
        }
        out.sort();
        out
    }

    fn metric(&self, name: &str) -> f64 {
        let mut out = Exposition::default();
        self.receiver.expose(&mut out);
        let text = String::from_utf8(out.into_body()).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

#[test]
fn every_kind_of_metric_is_stored() {
    let house = house(Deltas::Refused, Otlp::default());
    let metrics = r#"
        {"name":"temp","unit":"Cel","gauge":{"dataPoints":[{"timeUnixNano":"@5","startTimeUnixNano":"@9","asDouble":1.5}]}},
        {"name":"jobs","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
            {"timeUnixNano":"@5","startTimeUnixNano":"@9","asInt":"3","attributes":[{"key":"a.b","value":{"stringValue":"x"}}]}]}},
        {"name":"took","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"@5","count":3,"sum":2.5,"bucketCounts":[1,2],"explicitBounds":[0.5]}]}},
        {"name":"fine","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"@5","count":3,"scale":10,"positive":{"bucketCounts":[1,2]}},
            {"timeUnixNano":"@4","flags":1}]}},
        {"name":"old","summary":{"dataPoints":[{"timeUnixNano":"@5","count":1,"sum":2,"quantileValues":[{"quantile":0.5,"value":2}]}]}}"#;
    let resource = format!(r#"{API},{{"key":"host.name","value":{{"stringValue":"h"}}}}"#);
    assert_eq!(house.send(&resource, metrics), Ok(()));
    assert_eq!(
        house.stored(),
        [
            r#"{__name__="fine", job="api"} [3 8]@5 [stale 0]@4"#,
            r#"{__name__="jobs_total", a_b="x", job="api"} 0@9 3@5"#,
            r#"{__name__="old", job="api", quantile="0.5"} 2@5"#,
            r#"{__name__="old_count", job="api"} 1@5"#,
            r#"{__name__="old_sum", job="api"} 2@5"#,
            r#"{__name__="target_info", host_name="h", job="api"} 1@5 1@4"#,
            // What it was at its beginning is not known.
            r#"{__name__="temp_celsius", job="api"} 1.5@5"#,
            r#"{__name__="took_seconds_bucket", job="api", le="+Inf"} 3@5"#,
            r#"{__name__="took_seconds_bucket", job="api", le="0.5"} 1@5"#,
            r#"{__name__="took_seconds_count", job="api"} 3@5"#,
            r#"{__name__="took_seconds_sum", job="api"} 2.5@5"#,
        ]
    );
}

#[test]
fn a_request_is_stored_as_a_whole_or_not_at_all() {
    let house = house(Deltas::Refused, Otlp::default());
    let gauge = |name: &str, at: &str, v: i64| {
        format!(r#"{{"name":"{name}","gauge":{{"dataPoints":[{{"timeUnixNano":"@{at}","asInt":{v}}}]}}}}"#)
    };
    house.send(API, &gauge("a", "10", 1)).unwrap();
    let before = house.stored();
    let refused = house.send(
        API,
        &[
            &gauge("b", "5", 1)[..],
            &gauge("a", "11", 1),
            r#"{"name":"c","gauge":{}},{"name":"d"}"#,
            &gauge("é", "5", 1),
        ]
        .join(","),
    );
    assert_eq!(
        refused,
        Err(Refusal::Invalid(
            "out of order sample\n\
             empty data points. c is dropped\n\
             could not get aggregation temporality for d as it has unsupported metric type Empty\n\
             normalization for metric \"é\" resulted in empty name"
                .to_owned()
        ))
    );
    assert!(matches!(house.send(API, r#"{"name":"c","gauge":{}}"#), Err(Refusal::Failed(_))));
    let delta = r#"{"name":"s","sum":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"@1"}]}}"#;
    assert_eq!(
        house.send(API, delta),
        Err(Refusal::Failed("invalid temporality and type combination for metric \"s\"".to_owned()))
    );
    let many: Vec<_> = (0..200).map(|_| r#"{"name":"c","gauge":{}}"#).collect();
    let Err(Refusal::Failed(text)) = house.send(API, &many.join(",")) else { panic!("it was taken") };
    assert_eq!((text.lines().count(), text.lines().last()), (101, Some("100 more errors")));
    assert_eq!(house.stored(), before);
    let long = format!(r#"{{"key":"k","value":{{"stringValue":"{}"}}}}"#, "x".repeat(2 << 20));
    assert!(matches!(house.send(&format!("{API},{long}"), &gauge("a", "4", 1)), Err(Refusal::Invalid(_))));
    assert_eq!(house.stored(), before);
}

#[test]
fn resources_and_scopes_become_labels_where_that_is_asked_for() {
    let config = Otlp {
        promote_all_resource_attributes: true,
        ignore_resource_attributes: vec!["service.name".to_owned()],
        promote_scope_metadata: true,
        keep_identifying_resource_attributes: true,
        ..Otlp::default()
    };
    let house = house(Deltas::Refused, config);
    let resource = format!(r#"{API},{{"key":"host.name","value":{{"stringValue":"h"}}}}"#);
    let point = r#"{"timeUnixNano":"@5","asInt":1,"attributes":[
        {"key":"x.y","value":{"stringValue":"1"}},{"key":"x_y","value":{"stringValue":"2"}},{"key":"x y","value":{}}]}"#;
    house.send(&resource, &format!(r#"{{"name":"g","gauge":{{"dataPoints":[{point}]}}}}"#)).unwrap();
    assert_eq!(
        house.stored(),
        [
            r#"{__name__="g", host_name="h", job="api", otel_scope_name="lib", otel_scope_version="2", x_y="1;2"} 1@5"#,
            r#"{__name__="target_info", host_name="h", job="api", service_name="api"} 1@5"#,
        ]
    );
    let collisions = "prometheus_api_otlp_translation_warnings_total{category=\"label_name_collision\"}";
    assert_eq!(house.metric(collisions), 1.0);
}

#[test]
fn the_resource_is_told_as_long_as_its_points_are_seen() {
    let house = house(Deltas::Refused, Otlp::default());
    let resource = format!(r#"{API},{{"key":"host.name","value":{{"stringValue":"h"}}}}"#);
    let points = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"@500"},{"timeUnixNano":"@100"}]}}"#;
    house.send(&resource, points).unwrap();
    assert_eq!(
        house.stored()[1],
        r#"{__name__="target_info", host_name="h", job="api"} 1@500 1@350 1@200 1@100"#
    );
    // Nothing but what job and instance say, or neither of them: nothing is told.
    let alone = r#"{"name":"h","gauge":{"dataPoints":[{"timeUnixNano":"@50"}]}}"#;
    house.send(API, alone).unwrap();
    house.send(r#"{"key":"host.name","value":{"stringValue":"h2"}}"#, alone).unwrap();
    assert_eq!(house.stored().iter().filter(|series| series.contains("target_info")).count(), 1);
}

#[test]
fn deltas_are_stored_or_added_up_as_the_flags_say() {
    let send = |house: &House, start: i64, at: i64, v: i64| {
        let point = format!(r#"{{"startTimeUnixNano":"@{start}","timeUnixNano":"@{at}","asInt":{v}}}"#);
        let sum = format!(r#"{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{point}]}}"#);
        house.send(API, &format!(r#"{{"name":"d","sum":{sum}}}"#))
    };
    let adding = house(Deltas::Accumulated, Otlp::default());
    assert_eq!((send(&adding, 20, 15, 2), send(&adding, 15, 10, 3)), (Ok(()), Ok(())));
    // Late: not an error, but it is counted.
    assert_eq!(send(&adding, 15, 10, 3), Ok(()));
    assert_eq!(adding.stored(), [r#"{__name__="d_total", job="api"} 0@20 2@15 5@10"#]);
    assert_eq!(adding.metric("ferula_otlp_delta_points_dropped_total{reason=\"late\"}"), 1.0);
    assert_eq!(adding.metric("ferula_otlp_delta_streams"), 1.0);
    let plain = house(Deltas::Stored, Otlp::default());
    assert_eq!((send(&plain, 20, 15, 2), send(&plain, 15, 10, 3)), (Ok(()), Ok(())));
    assert_eq!(plain.stored(), [r#"{__name__="d_total", job="api"} 0@20 2@15 3@10"#]);
    // A delta has no type, and with neither unit nor help there is nothing to be told of it.
    let without = "prometheus_api_otlp_appended_samples_without_metadata_total";
    assert_eq!((adding.metric(without), plain.metric(without)), (0.0, 2.0));
}

#[test]
fn exemplars_that_come_too_late_are_counted() {
    let house = house(Deltas::Refused, Otlp::default());
    let long = "x".repeat(200);
    let exemplars = format!(
        r#"{{"timeUnixNano":"@7","asInt":1,"spanId":"0102030405060708","filteredAttributes":[{{"key":"k","value":{{"stringValue":"{long}"}}}}]}},
           {{"asInt":3}}"#
    );
    let point = format!(r#"{{"timeUnixNano":"@5","asInt":1,"exemplars":[{exemplars}]}}"#);
    house
        .send(API, &format!(r#"{{"name":"s","sum":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#))
        .unwrap();
    let range = TimeRange { mint: 0, maxt: NOW };
    let everything = vec![Matcher::new(MatchOp::Re, "__name__", ".+").unwrap()];
    let found = model::storage::ExemplarQueryable::exemplars(&house.db, range, &[everything]).unwrap();
    let found: Vec<_> = found
        .iter()
        .flat_map(|series| &series.exemplars)
        .map(|exemplar| format!("{} {}@{}", exemplar.labels, exemplar.v, (NOW - exemplar.t) / 1000))
        .collect();
    assert_eq!(found, [r#"{span_id="0102030405060708"} 1@7"#, "{} 3@5"]);
    let late = r#"{"timeUnixNano":"@4","asInt":1,"exemplars":[{"timeUnixNano":"@8","asInt":2}]}"#;
    house
        .send(API, &format!(r#"{{"name":"s","sum":{{"aggregationTemporality":2,"dataPoints":[{late}]}}}}"#))
        .unwrap();
    let late = house.metric("prometheus_api_otlp_out_of_order_exemplars_total");
    assert_eq!(late, 1.0);
}

#[test]
fn histograms_that_contradict_themselves_are_told() {
    let config = Otlp { convert_histograms_to_nhcb: true, ..Otlp::default() };
    let house = house(Deltas::Refused, config);
    let send = |count: u64, sum: f64| {
        let point = format!(
            r#"{{"timeUnixNano":"@5","count":{count},"sum":{sum},"bucketCounts":[1,2],"explicitBounds":[1]}}"#
        );
        house.send(
            API,
            &format!(r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#),
        )
    };
    assert_eq!(
        send(4, 1.0),
        Err(Refusal::Failed(
            "3 observations found in buckets, but the Count field is 4: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
                .to_owned()
        ))
    );
    assert_eq!(send(3, 1.0), Ok(()));
    assert_eq!(house.stored(), [r#"{__name__="h", job="api"} [3 -53]@5"#]);
}

/// A store whose disk is full.
struct Full<'s>(&'s Db);

struct FullBatch<'s>(Box<dyn Appender + 's>);

impl Appendable for Full<'_> {
    fn appender(&self, affinity: u64) -> Box<dyn Appender + '_> {
        Box::new(FullBatch(self.0.appender(affinity)))
    }
}

impl Appender for FullBatch<'_> {
    fn append(&mut self, key: SeriesKey<'_>, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError> {
        self.0.append(key, t, v)
    }

    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        self.0.append_value(key, st, t, value)
    }

    fn commit(self: Box<Self>) -> Result<(), model::storage::Error> {
        Err(model::storage::Error::new("no space left"))
    }
}

/// A delta of a counter, as [`request`] takes it.
fn delta(name: &str, start: i64, at: i64, v: i64) -> String {
    let point = format!(r#"{{"startTimeUnixNano":"@{start}","timeUnixNano":"@{at}","asInt":{v}}}"#);
    let sum = format!(r#"{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{point}]}}"#);
    format!(r#"{{"name":"{name}","sum":{sum}}}"#)
}

#[test]
fn deltas_that_could_not_be_stored_count_when_they_come_again() {
    let house = house(Deltas::Accumulated, Otlp::default());
    house.send(API, &delta("d", 20, 15, 2)).unwrap();
    let body = request(API, &delta("d", 15, 10, 3));
    let send = |store: &dyn Appendable| {
        house.receiver.receive(store, &house.config, body.as_bytes(), Encoding::Json)
    };
    for _ in 0..2 {
        assert_eq!(send(&Full(&house.db)), Err(Refusal::Unavailable("no space left".to_owned())));
    }
    assert_eq!(send(&house.db), Ok(()));
    assert_eq!(house.stored(), [r#"{__name__="d_total", job="api"} 0@20 2@15 5@10"#]);
    assert_eq!(house.metric("ferula_otlp_delta_points_dropped_total{reason=\"late\"}"), 0.0);
    // Nobody sends again what is wrong with another series, so it counts.
    let wrong = r#"{"name":"c","gauge":{}}"#;
    assert!(house.send(API, &format!("{},{wrong}", delta("d", 10, 8, 4))).is_err());
    house.send(API, &delta("d", 8, 5, 1)).unwrap();
    assert_eq!(house.stored(), [r#"{__name__="d_total", job="api"} 0@20 2@15 5@10 10@5"#]);
}

#[test]
fn a_series_too_many_takes_no_other_with_it() {
    let house = limited_house(Deltas::Accumulated, Otlp::default(), 2);
    house.send(API, &[delta("a", 20, 15, 1), delta("b", 20, 15, 1)].join(",")).unwrap();
    let more = [delta("a", 15, 10, 1), delta("c", 15, 10, 1), delta("d", 15, 10, 1), delta("b", 15, 10, 1)];
    let refused = Err(Refusal::Invalid("series limit reached for 2 series".to_owned()));
    assert_eq!(house.send(API, &more.join(",")), refused);
    let stored = [
        r#"{__name__="a_total", job="api"} 0@20 1@15 2@10"#,
        r#"{__name__="b_total", job="api"} 0@20 1@15 2@10"#,
    ];
    assert_eq!(house.stored(), stored);
    // A request that is wrong otherwise is refused for that, whole.
    let wrong = [delta("a", 10, 5, 1), delta("e", 10, 5, 1), r#"{"name":"c","gauge":{}}"#.to_owned()];
    assert!(
        matches!(house.send(API, &wrong.join(",")), Err(Refusal::Failed(text)) if text.starts_with("empty"))
    );
    assert_eq!(house.stored(), stored);
}

#[test]
fn sums_without_points_are_forgotten_though_no_others_come() {
    let mut house = house(Deltas::Accumulated, Otlp::default());
    house.send(API, &delta("d", 20, 15, 2)).unwrap();
    assert_eq!(house.metric("ferula_otlp_delta_streams"), 1.0);
    house.receiver.now = || NOW + 301_000;
    assert_eq!(house.metric("ferula_otlp_delta_streams"), 0.0);
    assert_eq!(house.receiver.streams.lock().len(), 0);
}

#[test]
fn exponential_deltas_beyond_all_floats_are_refused() {
    let house = house(Deltas::Accumulated, Otlp::default());
    let send = |at: i64, scale: i32, offset: i32| {
        let point = format!(
            r#"{{"timeUnixNano":"@{at}","count":1,"scale":{scale},"positive":{{"offset":{offset},"bucketCounts":[1]}}}}"#
        );
        let data = format!(r#"{{"aggregationTemporality":1,"dataPoints":[{point}]}}"#);
        house.send(API, &format!(r#"{{"name":"e","exponentialHistogram":{data}}}"#))
    };
    assert!(
        matches!(send(9, i32::MIN, i32::MIN), Err(Refusal::Failed(text)) if text.contains("Scale must be >= -4"))
    );
    assert!(matches!(send(8, i32::MIN, i32::MAX), Err(Refusal::Failed(_))));
    assert!(
        matches!(send(7, 0, i32::MAX), Err(Refusal::Invalid(text)) if text.contains("beyond all floats"))
    );
    assert_eq!((send(6, 0, 1), send(5, 0, 1)), (Ok(()), Ok(())));
    assert_eq!(house.stored(), [r#"{__name__="e", job="api"} [1 0]@6 [2 0]@5"#]);
}
