use std::io::Write;

use super::*;

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn invalid(text: &str) -> Refusal {
    Refusal::Invalid(text.to_owned())
}

#[test]
fn bodies_are_inflated_within_bounds() {
    assert_eq!(inflate(&zipped(b"body")), Ok(b"body".to_vec()));
    let two = [zipped(b"one"), zipped(b"two")].concat();
    assert_eq!(inflate(&two), Ok(b"onetwo".to_vec()));
    let full = vec![0; BODY_BYTES_MAX];
    assert_eq!(inflate(&zipped(&full)).map(|out| out.len()), Ok(BODY_BYTES_MAX));
    assert_eq!(inflate(&zipped(&[full, vec![0]].concat())), Err(too_long()));
    assert_eq!(inflate(b""), Err(invalid("EOF")));
    assert_eq!(inflate(b"this is not what gzip writes"), Err(invalid("gzip: invalid header")));
    let cut = zipped(b"body");
    assert_eq!(inflate(&cut[..cut.len() - 3]), Err(invalid("unexpected EOF")));
}

#[tokio::test]
async fn what_waits_is_bounded() {
    let waiting = AtomicUsize::new(0);
    let received = read(&waiting, Body::from(vec![1; BODY_BYTES_MAX])).await;
    assert_eq!(waiting.load(Ordering::Relaxed), BODY_BYTES_MAX);
    let too_much = read(&waiting, Body::from(vec![1; BODY_BYTES_MAX + 1])).await;
    assert_eq!(too_much.err(), Some(too_long()));
    waiting.store(WAITING_BYTES_MAX, Ordering::Relaxed);
    assert!(matches!(read(&waiting, Body::from("x")).await.err(), Some(Refusal::Unavailable(_))));
    drop(received);
    assert_eq!(waiting.load(Ordering::Relaxed), WAITING_BYTES_MAX - BODY_BYTES_MAX);
    assert!(read(&waiting, Body::from("x")).await.is_ok());
}

#[test]
fn only_two_encodings_and_one_compression_are_taken() {
    let encodings = |content_type: Option<&'static str>, compression: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, compression)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        super::encodings(&headers)
    };
    assert_eq!(encodings(Some("application/x-protobuf"), None), Ok((Encoding::Protobuf, false)));
    assert_eq!(encodings(Some("application/json"), Some("gzip")), Ok((Encoding::Json, true)));
    assert_eq!(
        encodings(Some("application/json; charset=utf-8"), None).unwrap_err(),
        "unsupported content type: application/json; charset=utf-8, supported: [application/json, application/x-protobuf]"
    );
    assert_eq!(
        encodings(None, None).unwrap_err(),
        "unsupported content type: , supported: [application/json, application/x-protobuf]"
    );
    assert_eq!(
        encodings(Some("application/json"), Some("zstd")).unwrap_err(),
        "unsupported compression: zstd. Only \"gzip\" or no compression supported"
    );
}
