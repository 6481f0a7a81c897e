//! Remote write, remote read and federation as other servers meet them over HTTP.

use axum::response::Response;
use model::histogram::{CounterResetHint, Span};
use model::wire::expose::{Expose, Exposition};
use model::wire::remote_read::ResponseType;
use model::wire::remote_write::Message;
use model::{Histogram, STALE_NAN, Timestamp, Value};

use super::*;
use crate::remote::Remote;
use crate::view::remote::{
    Answer, ExternalLabels, ReadError, ReadServer, WriteError, WriteReceiver, Written,
};

/// Does what a body says.
struct Scripted(Arc<Server>);

impl Expose for Scripted {
    fn expose(&self, out: &mut Exposition) {
        out.gauge("receiver", "There is one.", 1.0);
    }
}

impl WriteReceiver for Scripted {
    fn write(&self, message: Message, body: &[u8]) -> Result<Written, WriteError> {
        let text = String::from_utf8_lossy(body).into_owned();
        self.0.acts.lock().unwrap().push(format!("{message:?} {text}"));
        let written = Written { samples: 3, histograms: 2, exemplars: 1 };
        match text.as_str() {
            "panic" => panic!("a test of panics"),
            "fail" => Err(WriteError { is_temporary: true, text, written: Written::default() }),
            "refuse" => Err(WriteError { is_temporary: false, text, written }),
            _ => Ok(written),
        }
    }
}

impl ReadServer for Scripted {
    fn read(&self, request: &[u8], answer: &mut dyn Answer) -> Result<(), ReadError> {
        let request = String::from_utf8_lossy(request).into_owned();
        let kind =
            if request.contains("chunks") { ResponseType::StreamedChunks } else { ResponseType::Samples };
        if request == "bad" {
            return Err(ReadError::Request("bad".to_owned()));
        }
        answer.begin(kind)?;
        if request.contains("none") {
            return Ok(());
        }
        if request.contains("early") {
            return Err(ReadError::Storage("early".to_owned()));
        }
        for i in 0..100 {
            answer.piece(vec![b'0' + i % 10; 1000])?;
            if i == 50 && request.contains("late") {
                return Err(ReadError::Storage("late".to_owned()));
            }
            assert!(i < 50 || !request.contains("panic"), "a test of panics");
        }
        Ok(())
    }
}

impl ExternalLabels for Scripted {
    fn external_labels(&self) -> Arc<Labels> {
        Arc::new(Labels::from_pairs([("zone", "a"), ("code", "x")]))
    }
}

pub(super) fn remote(server: &Arc<Server>) -> Remote {
    let scripted = || Arc::new(Scripted(Arc::clone(server)));
    let is_off = server.is_admin_off.load(Ordering::Relaxed);
    let receiver = (!is_off).then(|| scripted() as Arc<dyn WriteReceiver>);
    Remote::new(receiver, vec![Message::V1, Message::V2], scripted(), scripted(), 1)
}

fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

/// A request to write, with the two headers that matter unless they are empty.
fn writing(content_type: &str, encoding: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post("/api/v1/write");
    for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, encoding)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    request.body(body.into()).unwrap()
}

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

#[tokio::test]
async fn what_is_no_remote_write_request_is_refused_with_upstreams_words() {
    let (router, server) = serving(stored());
    let fine = snappy(b"ok");
    let unknown = "application/x-protobuf;proto=other";
    let bomb = vec![0x81, 0x80, 0x80, 0x10];
    for (content_type, encoding, body, status, text) in [
        (
            V1,
            "gzip",
            fine.clone(),
            415,
            "gzip encoding (compression) is not accepted by this server; only snappy is acceptable",
        ),
        (V1, "snappy", vec![0; (32 << 20) + 1], 413, "request body exceeds the 33554432 bytes limit"),
        (V1, "snappy", bomb, 400, "decoded size exceeds the 33554432 bytes limit"),
        (V1, "", vec![], 400, "s2: corrupt input"),
        (
            "application/json",
            "snappy",
            b"{}".to_vec(),
            415,
            "expected application/x-protobuf as the first (media) part, got application/json content-type",
        ),
        (
            "application/json",
            "snappy",
            fine.clone(),
            415,
            "expected application/x-protobuf as the first (media) part, got application/json content-type",
        ),
        (
            unknown,
            "",
            fine.clone(),
            415,
            "got application/x-protobuf;proto=other content type; unknown type for remote write protobuf message other, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
        ),
        (
            "application/x-protobuf;a",
            "",
            fine.clone(),
            415,
            "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got a in application/x-protobuf;a content-type",
        ),
        (V1, "", snappy(b"refuse"), 400, "refuse"),
        (V2, "", snappy(b"fail"), 500, "fail"),
    ] {
        let (got, headers, answer) = ask(&router, writing(content_type, encoding, body)).await;
        assert_eq!((got.as_u16(), answer), (status, format!("{text}\n")), "{content_type} {encoding}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    assert_eq!(*server.acts.lock().unwrap(), ["V1 refuse", "V2 fail"]);
    let (status, _, text) = ask(&router, Request::get("/api/v1/write").body(Body::empty()).unwrap()).await;
    assert_eq!((status.as_u16(), text.as_str()), (405, "Method Not Allowed\n"));
    // A panic is the request's, not the server's.
    assert_eq!(ask(&router, writing(V1, "", snappy(b"panic"))).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(ask(&router, writing(V1, "", snappy(b"ok"))).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn only_senders_of_version_2_are_told_how_much_was_written() {
    let (router, server) = serving(stored());
    let told = |headers: &http::HeaderMap| -> Vec<String> {
        ["samples", "histograms", "exemplars"]
            .iter()
            .filter_map(|what| headers.get(format!("x-prometheus-remote-write-{what}-written")))
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    for (content_type, message, expected) in [
        ("", "V1", vec![]),
        (V1, "V1", vec![]),
        ("application/x-protobuf;proto=prometheus.WriteRequest", "V1", vec![]),
        (V2, "V2", vec!["3", "2", "1"]),
        // As RFC 9110 writes parameters; upstream takes this for version 1.
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", "V2", vec!["3", "2", "1"]),
    ] {
        let (status, headers, body) = ask(&router, writing(content_type, "snappy", snappy(b"ok"))).await;
        assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(told(&headers), expected, "{content_type}");
        assert_eq!(server.acts.lock().unwrap().pop().unwrap(), format!("{message} ok"), "{content_type}");
    }
    let (status, headers, _) = ask(&router, writing(V2, "", snappy(b"refuse"))).await;
    assert_eq!(
        (status.as_u16(), told(&headers)),
        (400, vec!["3".to_owned(), "2".to_owned(), "1".to_owned()])
    );
    let (status, headers, _) = ask(&router, writing(V2, "", snappy(b"fail"))).await;
    assert_eq!(
        (status.as_u16(), told(&headers)),
        (500, vec!["0".to_owned(), "0".to_owned(), "0".to_owned()])
    );
}

#[tokio::test]
async fn a_receiver_that_is_off_names_the_flag() {
    let server = Arc::<Server>::default();
    server.is_admin_off.store(true, Ordering::Relaxed);
    let router = router(api(&server, stored(), 4), None);
    let (status, _, text) = ask(&router, writing(V1, "", snappy(b"ok"))).await;
    let expected = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
    assert_eq!((status, text.as_str()), (StatusCode::NOT_FOUND, expected));
    assert!(!get(&router, "/metrics").await.1.contains("receiver"));
}

async fn read(router: &Router, request: &[u8]) -> (StatusCode, http::HeaderMap, Result<Vec<u8>, String>) {
    let request = Request::post("/api/v1/read").body(Body::from(snappy(request))).unwrap();
    let response: Response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await;
    (head.status, head.headers, body.map(|body| body.to_vec()).map_err(|e| e.to_string()))
}

#[tokio::test]
async fn reads_are_answered_in_one_piece_or_in_many() {
    let (router, _) = serving(stored());
    let (status, headers, body) = read(&router, b"samples").await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"application/x-protobuf".parse().unwrap())
    );
    assert_eq!(headers["content-encoding"], "snappy");
    assert_eq!(snap::raw::Decoder::new().decompress_vec(&body.unwrap()).unwrap().len(), 100_000);
    let (status, headers, body) = read(&router, b"chunks").await;
    assert_eq!((status, headers.get("content-encoding")), (StatusCode::OK, None));
    let expected = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(headers["content-type"], expected);
    assert_eq!(body.unwrap().len(), 100_000);
    let (status, _, body) = read(&router, b"chunks none").await;
    assert_eq!((status, body), (StatusCode::OK, Ok(vec![])));
    let (status, _, body) = read(&router, b"samples none").await;
    assert_eq!((status, body), (StatusCode::OK, Ok(vec![0])));
}

#[tokio::test]
async fn a_read_that_fails_is_never_taken_for_a_whole_one() {
    let (router, _) = serving(stored());
    for (request, status, text) in [
        (&b"bad"[..], 400, "bad\n"),
        (b"samples early", 500, "early\n"),
        (b"chunks early", 500, "early\n"),
        (b"samples late", 500, "late\n"),
        (b"samples panic", 500, "the answer ended early\n"),
    ] {
        let (got, _, body) = read(&router, request).await;
        assert_eq!((got.as_u16(), body.unwrap()), (status, text.as_bytes().to_vec()), "{text}");
    }
    // The status is out already: what is left is to break the connection.
    for request in [&b"chunks late"[..], b"chunks panic"] {
        let (status, _, body) = read(&router, request).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.is_err());
    }
    let broken = Request::post("/api/v1/read").body(Body::from("x")).unwrap();
    let (status, _, text) = ask(&router, broken).await;
    assert_eq!((status.as_u16(), text.as_str()), (400, "snappy: corrupt input\n"));
    let bomb = Request::post("/api/v1/read").body(Body::from(vec![0x81, 0x80, 0x80, 0x10])).unwrap();
    let (status, _, text) = ask(&router, bomb).await;
    let expected = "snappy: decoded length 33554433 exceeds limit 33554432\n";
    assert_eq!((status.as_u16(), text.as_str()), (400, expected));
    // All of them gave their turn back: there is but one.
    assert_eq!(read(&router, b"samples").await.0, StatusCode::OK);
    let metrics = get(&router, "/metrics").await.1;
    assert!(metrics.contains("prometheus_remote_read_handler_queries 0\n"), "{metrics}");
}

// === federation ===

fn histogram(schema: i32, hint: CounterResetHint) -> Histogram {
    Histogram {
        counter_reset_hint: hint,
        schema,
        count: 6,
        sum: 7.5,
        positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![2, 2],
        custom_values: if schema == -53 { vec![1.0, 2.0, 5.0] } else { vec![] },
        ..Histogram::default()
    }
}

fn federated() -> Arc<Storage> {
    let mut storage = Storage::default();
    let mut float = |labels: &[(&str, &str)], samples: &[(Timestamp, f64)]| {
        storage.append(&Labels::from_pairs(labels.iter().copied()), samples.iter().copied());
    };
    float(&[("__name__", "b"), ("i", "1"), ("zone", "own")], &[(-9, 1.0), (-8, 2.0)]);
    float(&[("__name__", "b"), ("i", "0"), ("instance", "x")], &[(-300_000, 7.0)]);
    float(&[("__name__", "a")], &[(-5, f64::INFINITY)]);
    float(&[("__name__", "old")], &[(-300_001, 1.0)]);
    float(&[("__name__", "new")], &[(1, 1.0)]);
    float(&[("__name__", "stale")], &[(-2, 1.0), (-1, STALE_NAN)]);
    float(&[("i", "nameless")], &[(-1, 1.0)]);
    let mut native = |labels: &[(&str, &str)], histogram: &Histogram| {
        let labels = Labels::from_pairs(labels.iter().copied());
        storage.append_value(&labels, 0, -3, Value::Histogram(histogram)).unwrap();
    };
    native(&[("__name__", "b"), ("i", "h")], &histogram(0, CounterResetHint::Unknown));
    native(&[("__name__", "b"), ("i", "g")], &histogram(0, CounterResetHint::Gauge));
    native(&[("__name__", "c")], &histogram(-53, CounterResetHint::Unknown));
    native(&[("__name__", "d")], &Histogram { sum: STALE_NAN, ..Histogram::default() });
    Arc::new(storage)
}

const EVERYTHING: &str = "/federate?match[]=%7B__name__%21%3D%22%22%7D&match[]=b&match[]=%7Bi%21%3D%22%22%7D";

#[tokio::test]
async fn federation_tells_the_newest_of_every_series() {
    let (router, _) = serving(federated());
    let (status, headers, body) = ask(&router, Request::get(EVERYTHING).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let expected = "\
# TYPE a untyped
a{code=\"x\",instance=\"\",zone=\"a\"} +Inf -5
# TYPE b untyped
b{i=\"0\",instance=\"x\",code=\"x\",zone=\"a\"} 7 -300000
b{i=\"1\",zone=\"own\",code=\"x\",instance=\"\"} 2 -8
# TYPE c histogram
c_bucket{code=\"x\",instance=\"\",zone=\"a\",le=\"1\"} 2 -3
c_bucket{code=\"x\",instance=\"\",zone=\"a\",le=\"2\"} 2 -3
c_bucket{code=\"x\",instance=\"\",zone=\"a\",le=\"5\"} 6 -3
c_bucket{code=\"x\",instance=\"\",zone=\"a\",le=\"+Inf\"} 6 -3
c_sum{code=\"x\",instance=\"\",zone=\"a\"} 7.5 -3
c_count{code=\"x\",instance=\"\",zone=\"a\"} 6 -3
";
    assert_eq!(body, expected);
    assert_eq!(get(&router, "/federate").await, (StatusCode::OK, String::new()));
    // Compression asks for more behind the end.
    let request = Request::get(EVERYTHING).header(header::ACCEPT_ENCODING, "gzip").body(Body::empty());
    let response = router.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(axum::body::to_bytes(response.into_body(), usize::MAX).await.is_ok());
    let (status, body) = get(&router, "/federate?match[]=%7B").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.contains("parse error"), "{body}");
}

/// Kinds of samples of one name do not mix within a family, though a name may then begin several.
#[tokio::test]
async fn federation_in_protobuf_has_native_histograms() {
    let (router, _) = serving(federated());
    let accept =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text";
    let request = Request::get("/federate?match[]=b").header(header::ACCEPT, accept);
    let (status, headers, body) = ask(&router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers["content-type"].to_str().unwrap().contains("encoding=compact-text"));
    let kinds: Vec<_> = body
        .lines()
        .map(|line| {
            let of = line.split("type:").nth(1).unwrap().split(' ').find(|word| !word.is_empty()).unwrap();
            (of.to_owned(), line.matches("metric:").count())
        })
        .collect();
    let kind = |name: &str, n| (name.to_owned(), n);
    assert_eq!(kinds, [kind("UNTYPED", 2), kind("GAUGE_HISTOGRAM", 1), kind("HISTOGRAM", 1)], "{body}");
    assert!(body.contains("sample_count_float:6"), "{body}");
}

#[tokio::test]
async fn federation_of_a_store_that_fails_is_counted() {
    struct Broken;
    impl Queryable for Broken {
        fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier>, Error> {
            Err(Error::new("the disk is gone"))
        }
    }
    let (router, _) = serving(Arc::new(Broken));
    let (status, body) = get(&router, "/federate?match[]=b").await;
    assert_eq!((status.as_u16(), body.as_str()), (500, "the disk is gone\n"));
    let metrics = get(&router, "/metrics").await.1;
    assert!(metrics.contains("prometheus_web_federation_errors_total 1\n"), "{metrics}");
    assert!(metrics.contains("prometheus_web_federation_warnings_total 0\n"), "{metrics}");
}

/// A client that goes away in the middle has no turn, and its answer counts as one that failed.
#[tokio::test]
async fn federation_that_is_not_read_holds_no_turn() {
    let mut storage = Storage::default();
    let long = "x".repeat(20_000);
    for i in 0..100 {
        let name = format!("m{i:02}");
        storage.append(&Labels::from_pairs([("__name__", name.as_str()), ("a", &long)]), [(-1, 1.0)]);
    }
    let (router, _) = serving(Arc::new(storage));
    let all = "/federate?match[]=%7B__name__%21%3D%22%22%7D";
    let mut unread = Vec::new();
    for _ in 0..20 {
        let request = Request::get(all).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        unread.push(response);
    }
    let (_, body) = get(&router, all).await;
    assert_eq!(body.matches("# TYPE").count(), 100);
    drop(unread);
    let metrics = get(&router, "/metrics").await.1;
    assert!(metrics.contains("prometheus_web_federation_errors_total 20\n"), "{metrics}");
}
