//! Answers of many megabytes: the same bytes as Prometheus', written while they are read, and over for who stops reading.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;

use crate::process::{
    CLIENT, Home, RUNTIME, Server, peer, peer_if_there, until, until_true, with_parameters,
};

const FIRST: u64 = 1_700_000_000;

const PATIENCE: Duration = Duration::from_mins(1);

/// Series, and the samples of each.
const SERIES: usize = 40;
const SAMPLES: u64 = 46;

/// Seconds between two samples, all of which a step of a second finds.
const EVERY: u64 = 240;

/// Blocks with values whose texts are long.
fn fill(home: &Home) {
    let mut text = String::from("# TYPE large gauge\n");
    for series in 0..SERIES {
        for sample in 0..SAMPLES {
            let value = (sample * 7919 + series as u64) as f64 / 7.0;
            let at = FIRST + sample * EVERY;
            writeln!(text, "large{{series=\"<{series}>\"}} {value} {at}").unwrap();
        }
    }
    text.push_str("# EOF\n");
    home.write("large.txt", &text);
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_ferula"))
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([home.path("large.txt"), home.path("data")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Some 12 MB.
fn target() -> String {
    let (start, end) = (FIRST.to_string(), (FIRST + 10_990).to_string());
    let parameters = [("query", "large"), ("start", &*start), ("end", &*end), ("step", "1"), ("stats", "")];
    with_parameters("/api/v1/query_range", &parameters)
}

/// The body as it is, or as it was before it was compressed.
fn body(server: &Server, target: &str, encoding: &str) -> Vec<u8> {
    // It sets up what every client needs.
    LazyLock::force(&CLIENT);
    // What is sent shall be seen as it is.
    let client = reqwest::Client::builder().no_gzip().no_proxy().timeout(PATIENCE).build().unwrap();
    let request = client.get(format!("{}{target}", server.url)).header("Accept-Encoding", encoding);
    let (sent, bytes) = RUNTIME.block_on(async {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let sent = response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
        assert!(response.content_length().is_none(), "so much is not known before it is written");
        (sent, response.bytes().await.unwrap().to_vec())
    });
    let mut text = Vec::new();
    match sent.as_deref() {
        Some("gzip") => flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut text).map(drop).unwrap(),
        Some("deflate") => flate2::read::ZlibDecoder::new(&*bytes).read_to_end(&mut text).map(drop).unwrap(),
        _ => text = bytes,
    }
    assert_eq!(sent.as_deref().unwrap_or("identity"), encoding);
    text
}

/// How many range queries have been answered, and with how many bytes.
fn answered(server: &Server) -> (f64, f64) {
    let (_, text) = server.get("/metrics");
    let value = |part: &str| {
        let start = format!("prometheus_http_response_size_bytes_{part}{{handler=\"/api/v1/query_range\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0.0, |value| value.parse().unwrap())
    };
    (value("count"), value("sum"))
}

/// A client that has sent its request and read the first bytes of the answer.
fn reader(server: &Server, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream
}

#[test]
fn a_large_answer_is_that_of_prometheus_and_never_whole_in_memory() {
    let home = Home::new("scrape_configs: []\n");
    fill(&home);
    // It is also how long a client may leave an answer lying.
    let server = home.start(&["--storage.tsdb.retention.time=100y", "--web.read-timeout=2s"]);
    let target = target();
    let whole = body(&server, &target, "identity");
    assert!(whole.len() > 10_000_000, "{} bytes", whole.len());
    assert!(body(&server, &target, "gzip") == whole && body(&server, &target, "deflate") == whole);
    let newest = peer_if_there("prometheus-next").or_else(|| peer("prometheus", "large::a_large_answer"));
    if let Some(program) = newest {
        let theirs = Home::new("scrape_configs: []\n");
        fill(&theirs);
        let prometheus = theirs.start_peer(&program, &["--storage.tsdb.retention.time=100y"]);
        let (ours, theirs) = (String::from_utf8(whole.clone()).unwrap(), prometheus.get(&target).1);
        let at = ours.bytes().zip(theirs.bytes()).take_while(|(a, b)| a == b).count();
        let shown =
            |text: &str| text.get(at.saturating_sub(80)..(at + 80).min(text.len())).map(str::to_owned);
        assert!(ours == theirs, "at byte {at}: {:?}, not {:?}", shown(&ours), shown(&theirs));
    }

    // Clients that stop reading are given up, with most of the answer not even written.
    let (n_before, bytes_before) = answered(&server);
    let mut stalled: Vec<_> = (0..3).map(|_| reader(&server, &target)).collect();
    // They hold up nobody meanwhile.
    assert!(body(&server, &target, "identity") == whole);
    let (n, bytes) =
        until("them to be cut off", || Some(answered(&server)).filter(|&(n, _)| n >= n_before + 4.0));
    assert_eq!(n, n_before + 4.0);
    let written = bytes - bytes_before - whole.len() as f64;
    assert!(written < 0.7 * 3.0 * whole.len() as f64, "{written} bytes for who reads none");
    for stream in &mut stalled {
        // What had been sent is still there; then it is over, one way or the other.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < whole.len() && !rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
    }

    // Whoever goes away ends it at once.
    let (n_before, bytes_before) = answered(&server);
    drop(reader(&server, &target));
    until_true("the answer to be given up", || answered(&server).0 > n_before);
    assert!(answered(&server).1 - bytes_before < 0.7 * whole.len() as f64);
    server.stop();
}
