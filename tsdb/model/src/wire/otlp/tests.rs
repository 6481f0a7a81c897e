use super::*;

/// What an exporter sends: a sum with an exemplar and a histogram of a resource with a nested attribute.
const JSON: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"api"}},
    {"key":"nested","value":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[
        {"intValue":"-1"},{"doubleValue":0.5},{"boolValue":true},{"bytesValue":"AQI="},{}]}}}]}}}]},
  "scopeMetrics":[{"scope":{"name":"lib","version":"1"},"schemaUrl":"https://s","metrics":[
    {"name":"sum","unit":"By","description":"help","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
      {"startTimeUnixNano":"1","timeUnixNano":2,"asInt":"-7","flags":1,"exemplars":[
        {"timeUnixNano":"3","asDouble":"NaN","traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"AABBCCDDEEFF0011"}]}]}},
    {"name":"histogram","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[
      {"count":3,"sum":"Infinity","bucketCounts":["1",2],"explicitBounds":[1]}]}},
    {"name":"exponential","exponentialHistogram":{"dataPoints":[
      {"count":"2","scale":-1,"zeroCount":1,"positive":{"offset":-3,"bucketCounts":[1,0]},"zeroThreshold":0.25}]}},
    {"name":"summary","summary":{"dataPoints":[{"count":"1","sum":2,"quantileValues":[{"quantile":0.5,"value":2}]}]}},
    {"name":"gauge","gauge":{"dataPoints":[{"asDouble":1.5}]},"later":{"x":[{}]}},
    {"name":"nothing"}]}]}]}"#;

/// The pieces of protobuf, to write messages by hand.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend_from_slice(bytes);
    out
}

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 0x80 {
        out.push(u8::try_from(v & 0x7f).unwrap() | 0x80);
        v >>= 7;
    }
    out.push(u8::try_from(v).unwrap());
    out
}

fn number(field: u64, v: u64) -> Vec<u8> {
    [varint(field << 3), varint(v)].concat()
}

fn fixed(field: u64, v: u64) -> Vec<u8> {
    [varint(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
}

fn double(field: u64, v: f64) -> Vec<u8> {
    fixed(field, v.to_bits())
}

/// The same as [`JSON`].
fn protobuf() -> Vec<u8> {
    let any = |number, bytes: &[u8]| field(number, bytes);
    let pair = |key: &str, value: &[u8]| [field(1, key.as_bytes()), field(2, value)].concat();
    let list = [
        field(1, &number(3, (-1_i64).cast_unsigned())),
        field(1, &double(4, 0.5)),
        field(1, &number(2, 1)),
        field(1, &any(7, &[1, 2])),
        field(1, &[]),
    ];
    let nested = any(6, &field(1, &pair("a", &any(5, &list.concat()))));
    let resource =
        [field(1, &pair("service.name", &any(1, b"api"))), field(1, &pair("nested", &nested))].concat();
    let exemplar = [
        fixed(2, 3),
        double(3, f64::NAN),
        field(5, &(1..=16).collect::<Vec<u8>>()),
        field(4, &[0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11]),
    ];
    let point = [
        fixed(2, 1),
        fixed(3, 2),
        fixed(6, (-7_i64).cast_unsigned()),
        number(8, 1),
        field(5, &exemplar.concat()),
    ];
    let sum = [field(1, &point.concat()), number(2, 2), number(3, 1)].concat();
    let counts = [1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
    let classic =
        [fixed(4, 3), double(5, f64::INFINITY), field(6, &counts), field(7, &1_f64.to_le_bytes())].concat();
    let side = [number(1, 5), field(2, &[1, 0])].concat();
    let exponential = [fixed(4, 2), number(6, 1), fixed(7, 1), field(8, &side), double(14, 0.25)].concat();
    let quantile = [double(1, 0.5), double(2, 2.0)].concat();
    let summary = [fixed(4, 1), double(5, 2.0), field(6, &quantile)].concat();
    let metric = |name: &str, rest: &[u8]| field(2, &[&field(1, name.as_bytes())[..], rest].concat());
    let metrics = [
        metric("sum", &[field(3, b"By"), field(2, b"help"), field(7, &sum)].concat()),
        metric("histogram", &field(9, &[field(1, &classic), number(2, 1)].concat())),
        metric("exponential", &field(10, &field(1, &exponential))),
        metric("summary", &field(11, &field(1, &summary))),
        // A field of the future, and a group of the past.
        metric(
            "gauge",
            &[field(5, &field(1, &double(4, 1.5))), field(99, b"x"), vec![0x63, 0x08, 1, 0x64]].concat(),
        ),
        metric("nothing", &[]),
    ];
    let scope = [field(1, b"lib"), field(2, b"1")].concat();
    let scope = [field(1, &scope), metrics.concat(), field(3, b"https://s")].concat();
    field(1, &[field(1, &resource), field(2, &scope)].concat())
}

#[test]
fn both_encodings_say_the_same() {
    let bytes = protobuf();
    let (of_json, of_protobuf) = (from_json(JSON.as_bytes()).unwrap(), from_protobuf(&bytes).unwrap());
    // NaN equals nothing, but its text does.
    assert_eq!(format!("{of_json:?}"), format!("{of_protobuf:?}"));
    let metrics = &of_protobuf.resources[0].scopes[0].metrics;
    let Data::Sum { points, temporality: Temporality::Cumulative, is_monotonic: true } = &metrics[0].data
    else {
        panic!("{metrics:?}")
    };
    assert_eq!((points[0].value, points[0].head.has_no_value()), (Some(Number::Int(-7)), true));
    assert_eq!(points[0].exemplars[0].trace_id[15], 16);
    let Data::Exponential { points, temporality: Temporality::Unspecified } = &metrics[2].data else {
        panic!("{metrics:?}")
    };
    assert_eq!(points[0].positive, Side { offset: -3, counts: vec![1, 0] });
    assert_eq!(metrics[5].data, Data::Unknown);
}

#[test]
fn what_is_cut_or_damaged_is_refused_or_read_but_harms_nobody() {
    let bytes = protobuf();
    for end in 0..bytes.len() {
        assert_eq!(from_protobuf(&bytes[..end]).is_err(), end > 0, "{end}");
    }
    for end in 1..JSON.len() {
        assert!(from_json(&JSON.as_bytes()[..end]).is_err(), "{end}");
    }
    let mut damaged = bytes.clone();
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            damaged[at] ^= change;
            let _ = from_protobuf(&damaged);
            damaged[at] ^= change;
        }
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| {
        let value = (0..depth).fold(Vec::new(), |inner, _| field(5, &field(1, &inner)));
        field(1, &field(1, &field(1, &[field(1, b"k"), field(2, &value)].concat())))
    };
    assert!(from_protobuf(&nested(63)).is_ok());
    assert_eq!(from_protobuf(&nested(64)).unwrap_err().to_string(), "proto: messages nest too deep");
    let text = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"k","value":{}{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(1000),
        "]}}".repeat(1000)
    );
    assert!(from_json(text.as_bytes()).unwrap_err().to_string().contains("nest too deep"));
    let text = format!("{{\"unknown\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    assert!(from_json(text.as_bytes()).unwrap_err().to_string().contains("nest too deep"));

    // Empty points of two bytes each would take 60 times as much memory.
    let points = [0x0a, 0x00].repeat(4 << 20);
    let body = field(1, &field(2, &field(2, &field(5, &points))));
    assert_eq!(from_protobuf(&body).unwrap_err().to_string(), "proto: the message takes too much memory");
    let mut body = br#"{"resourceMetrics":[{"resource":{"attributes":[{}"#.to_vec();
    body.extend(b",{}".repeat(8 << 20));
    body.extend(b"]}}]}");
    assert!(matches!(from_json(&body), Err(Error::Json(BadJson::TooLarge))));
}

#[test]
fn a_histogram_has_so_many_buckets_at_most() {
    // Field numbers of the metric's kind and of the list in its point, or in a side of it.
    let classic = |list: u64, piece: &[u8]| field(9, &field(1, &field(list, piece)));
    let side = |piece: &[u8]| field(10, &field(1, &field(8, &field(2, piece))));
    let of = |data: &[u8]| {
        let body = field(1, &field(2, &field(2, data)));
        from_protobuf(&body).map(drop).map_err(|error| error.to_string())
    };
    let many = "proto: Buckets has more than 65536 elements".to_owned();
    for list in [6, 7] {
        assert_eq!(of(&classic(list, &vec![0; BUCKETS_MAX * 8])), Ok(()));
        assert_eq!(of(&classic(list, &vec![0; BUCKETS_MAX * 8 + 8])), Err(many.clone()));
    }
    assert_eq!(of(&side(&vec![0; BUCKETS_MAX])), Ok(()));
    assert_eq!(of(&side(&[0xff, 1].repeat(BUCKETS_MAX))), Ok(()));
    assert_eq!(of(&side(&vec![0; BUCKETS_MAX + 1])), Err(many.clone()));
    // One by one, and in several pieces.
    assert_eq!(of(&field(10, &field(1, &field(8, &[0x10, 0].repeat(BUCKETS_MAX + 1))))), Err(many.clone()));
    let two = [field(2, &vec![0; BUCKETS_MAX]), field(2, &[0])].concat();
    assert_eq!(of(&field(10, &field(1, &field(8, &two)))), Err(many));
    // The memory for many of them is taken before they are read.
    let point = field(1, &field(8, &field(2, &vec![0; BUCKETS_MAX])));
    let points = field(10, &point.repeat(DECODED_BYTES_MAX / BUCKETS_MAX / 8));
    assert_eq!(of(&points).unwrap_err(), "proto: the message takes too much memory");

    let json = |n: usize| {
        let counts = vec!["0"; n].join(",");
        let point = format!(r#"{{"positive":{{"bucketCounts":[{counts}]}}}}"#);
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"exponentialHistogram":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
        );
        from_json(body.as_bytes()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(json(BUCKETS_MAX), Ok(()));
    assert!(json(BUCKETS_MAX + 1).unwrap_err().contains("no more than 65536 buckets"));
}

#[test]
fn texts_that_are_no_utf8_lose_only_what_cannot_be_read() {
    let body = field(1, &field(1, &field(1, &[field(1, b"k\xff"), field(2, &field(1, b"\xc3("))].concat())));
    let request = from_protobuf(&body).unwrap();
    let pair = &request.resources[0].attributes[0];
    assert_eq!((&*pair.key, &pair.value), ("k\u{fffd}", &AnyValue::Text("\u{fffd}(".into())));
}

#[test]
fn scopes_of_old_clients_count_where_there_are_no_others() {
    let (old, new) = (field(1000, &field(3, b"old")), field(2, &field(3, b"new")));
    let url = |body: &[u8]| {
        let body = field(1, body);
        let request = from_protobuf(&body).unwrap();
        request.resources[0].scopes.iter().map(|scope| scope.schema_url.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(url(&old), ["old"]);
    assert_eq!(url(&[old, new].concat()), ["new"]);
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    let point = |point: &str| {
        let text = format!(
            r#"{{"resource_metrics":[{{"scope_metrics":[{{"metrics":[{{"sum":{{"data_points":[{point}]}}}}]}}]}}]}}"#
        );
        from_json(text.as_bytes()).is_ok()
    };
    for good in [
        "{}",
        "null",
        r#"{"timeUnixNano":"18446744073709551615"}"#,
        r#"{"time_unix_nano":1,"attributes":null,"exemplars":[{"trace_id":""}]}"#,
        r#"{"asDouble":-1}"#,
        r#"{"asDouble":"-Infinity"}"#,
        r#"{"unknown":{"deep":[1,{"x":null},-1e5,"\u00e4",true]}}"#,
    ] {
        assert!(point(good), "{good}");
    }
    for bad in [
        "1",
        r#"{"timeUnixNano":-1}"#,
        r#"{"timeUnixNano":1.5}"#,
        r#"{"timeUnixNano":"x"}"#,
        r#"{"timeUnixNano":null}"#,
        r#"{"asInt":9223372036854775808}"#,
        r#"{"asDouble":"one"}"#,
        r#"{"asDouble":true}"#,
        r#"{"flags":4294967296}"#,
        r#"{"exemplars":[{"traceId":"01"}]}"#,
        r#"{"exemplars":[{"spanId":"zzzzzzzzzzzzzzzz"}]}"#,
        r#"{"attributes":[{"value":{"bytesValue":"*"}}]}"#,
        r#"{"attributes":{}}"#,
        r#"{"unknown":1.2.3}"#,
        r#"{"unknown":"\x"}"#,
        r#"{"flags":1 "flags":1}"#,
        r#"{,"flags":1}"#,
    ] {
        assert!(!point(bad), "{bad}");
    }
    assert!(from_json(br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"aggregationTemporality":"DELTA"}}]}]}]}"#).is_err());
    let text = |json: &str| {
        let body = format!(r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":{json}}}]}}}}]}}"#);
        let found =
            from_json(body.as_bytes()).map(|request| request.resources[0].attributes[0].key.to_string());
        found.map_err(|error| error.to_string())
    };
    assert_eq!(text(r#""a\"\\\/\b\f\n\r\t\u00E4\ud83d\ude00z""#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\tä😀z");
    assert_eq!(text(r#""\ud83dx\ud83d\u0041\ude00""#).unwrap(), "\u{fffd}x\u{fffd}A\u{fffd}");
    for bad in [r#""\u12""#, r#""\u12g4""#, "\"\n\"", r#""\q""#] {
        assert!(text(bad).unwrap_err().starts_with("parse OTLP request as JSON: expected "), "{bad}");
    }
    // To the last bit.
    for v in [9.632_448_766_701_577, 0.454_012_923_543_154_03, 1e-320, f64::MAX, 0.1 + 0.2] {
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{{"asDouble":{v:?}}}]}}}}]}}]}}]}}"#
        );
        let request = from_json(body.as_bytes()).unwrap();
        let Data::Gauge(points) = &request.resources[0].scopes[0].metrics[0].data else {
            panic!("{request:?}")
        };
        assert_eq!(points[0].value, Some(Number::Double(v)));
    }
    assert_eq!(from_json(b"null").unwrap(), Request::default());
    assert_eq!(from_protobuf(b"").unwrap(), Request::default());
    assert!(from_json(b"{} {}").is_err(), "a second request would be lost");
}
