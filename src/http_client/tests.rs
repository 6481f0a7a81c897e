//! Credentials, and a client over loopback.

use config::Secret;
use config::http_client::{Authorization, BasicAuth, Header, SecretSource, TextSource, Tls};

use http::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn authorization(headers: &Headers) -> HeaderValue {
    let mut all = HeaderMap::new();
    headers.add_to(&mut all, true).await.unwrap();
    all.remove(http::header::AUTHORIZATION).unwrap()
}

#[tokio::test]
async fn credentials_in_files_are_read_at_each_use() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = HttpClient {
        authorization: Some(Authorization {
            kind: "Bearer".to_owned(),
            credentials: SecretSource::File(file.path().to_owned()),
        }),
        ..HttpClient::default()
    };
    let headers = Headers::new(&config).unwrap();
    for token in ["one", "two"] {
        std::fs::write(file.path(), format!(" {token}\n")).unwrap();
        let value = authorization(&headers).await;
        assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
        assert!(value.is_sensitive());
    }
}

#[tokio::test]
async fn basic_credentials_are_encoded() {
    let config = HttpClient {
        basic_auth: Some(BasicAuth {
            username: TextSource::Inline("u".to_owned()),
            password: SecretSource::Inline(Secret::new("p")),
        }),
        ..HttpClient::default()
    };
    let value = authorization(&Headers::new(&config).unwrap()).await;
    assert_eq!(value.to_str().unwrap(), "Basic dTpw");
    assert!(Client::new(&config, Duration::from_secs(1)).is_ok());
}

#[test]
fn a_missing_file_is_told_by_name() {
    let tls = Tls { ca: Some(TextSource::File(PathBuf::from("/nowhere/ca.pem"))), ..Tls::default() };
    let error = TlsSource::new(tls, &[]).current().unwrap_err().to_string();
    assert!(
        error.starts_with(
            "unable to read CA cert: unable to read file /nowhere/ca.pem: open /nowhere/ca.pem: no such file"
        ),
        "{error}"
    );
}

/// Answers each connection's one request by `script`, which gets the whole of it as text.
fn serve<S>(
    mut accept: impl AsyncFnMut() -> S + Send + 'static,
    script: impl Fn(&str) -> String + Send + Sync + 'static,
) where
    S: AsyncReadExt + AsyncWriteExt + Unpin + Send + 'static,
{
    // One runtime of one thread: what is served is served there, too.
    tokio::task::spawn_local(async move {
        loop {
            let mut stream = accept().await;
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut chunk).await {
                    Ok(n @ 1..) => request.extend_from_slice(&chunk[..n]),
                    _ => break,
                }
            }
            let answer = script(&String::from_utf8_lossy(&request));
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// A server on loopback; returns its port.
async fn server(script: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serve(async move || listener.accept().await.unwrap().0, script);
    port
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn bearer(text: &str) -> HttpClient {
    HttpClient {
        authorization: Some(Authorization {
            kind: "Bearer".to_owned(),
            credentials: SecretSource::Inline(Secret::new(text)),
        }),
        headers: [(
            "X-Key".to_owned(),
            Header { secrets: vec![Secret::new("k-secret")], ..Header::default() },
        )]
        .into_iter()
        .chain([("X-Open".to_owned(), Header { values: vec!["o".to_owned()], ..Header::default() })])
        .collect(),
        ..HttpClient::default()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "local")]
async fn reads_whole_answers_up_to_a_limit() {
    let port = server(|request| {
        assert!(request.contains("user-agent: Prometheus/3.14.0\r\n"), "{request}");
        answer("200 OK", "Content-Type: Application/JSON; charset=\"UTF-8\"\r\n", "[1,2]")
    })
    .await;
    let client = Client::new(&HttpClient::default(), PATIENCE).unwrap();
    let url = url(&format!("http://127.0.0.1:{port}/x"));
    let (head, body) = client.get_bytes(url.clone(), HeaderMap::new(), 5).await.unwrap();
    assert_eq!((head.status.as_u16(), head.is_json(), &body[..]), (200, true, &b"[1,2]"[..]));
    let error = client.get_bytes(url, HeaderMap::new(), 4).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer's body exceeds 4 bytes");
}

#[tokio::test(flavor = "local")]
async fn talks_over_a_unix_socket() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("d.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    serve(
        async move || listener.accept().await.unwrap().0,
        |request| {
            assert!(request.starts_with("GET /v1/x HTTP/1.1\r\n"), "{request}");
            answer("200 OK", "", "ok")
        },
    );
    let client = Client::for_socket(&HttpClient::default(), &path, PATIENCE).unwrap();
    let (_, body) = client.get_bytes(url("http://localhost/v1/x"), HeaderMap::new(), 100).await.unwrap();
    assert_eq!(&body[..], b"ok");
}

#[tokio::test(flavor = "local")]
async fn secrets_stay_behind_when_a_redirect_leaves_the_host() {
    let home_port = Arc::new(Mutex::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, home_of) = (Arc::clone(&seen), Arc::clone(&home_port));
    let foreign = server(move |request| {
        log.lock().push(format!("foreign {request}").to_lowercase());
        let back = format!("Location: http://127.0.0.1:{}/back\r\n", home_of.lock());
        answer("302 Found", &back, "")
    })
    .await;
    let log = Arc::clone(&seen);
    let home = server(move |request| {
        log.lock().push(format!("home {request}").to_lowercase());
        match request.split(' ').nth(1) {
            Some("/") => answer("301 Moved", "Location: /again\r\n", ""),
            Some("/again") => answer("307 T", &format!("Location: http://localhost:{foreign}/\r\n"), ""),
            _ => answer("200 OK", "", "done"),
        }
    })
    .await;
    *home_port.lock() = home;
    let client = Client::new(&bearer("t-secret"), PATIENCE).unwrap();
    let url = url(&format!("http://127.0.0.1:{home}/"));
    let (_, body) = client.get_bytes(url.clone(), HeaderMap::new(), 100).await.unwrap();
    assert_eq!(&body[..], b"done");
    let seen = std::mem::take(&mut *seen.lock());
    let told: Vec<(bool, bool, bool)> = seen
        .iter()
        .map(|r| (r.contains("bearer t-secret"), r.contains("x-key: k-secret"), r.contains("x-open: o")))
        .collect();
    let (all, harmless) = ((true, true, true), (false, false, true));
    assert_eq!(told, [all, all, harmless, harmless], "{seen:#?}");

    let config = HttpClient { follow_redirects: false, ..HttpClient::default() };
    let client = Client::new(&config, PATIENCE).unwrap();
    let (head, _) = client.get_bytes(url, HeaderMap::new(), 100).await.unwrap();
    assert_eq!(head.status.as_u16(), 301);
}

#[tokio::test(flavor = "local")]
async fn redirects_end() {
    let n = Arc::new(Mutex::new(0));
    let count = Arc::clone(&n);
    let port = server(move |_| {
        *count.lock() += 1;
        answer("302 Found", "Location: /\r\n", "")
    })
    .await;
    let client = Client::new(&HttpClient::default(), PATIENCE).unwrap();
    let url = url(&format!("http://u:hidden@127.0.0.1:{port}/"));
    let error = client.get_bytes(url, HeaderMap::new(), 100).await.unwrap_err().to_string();
    assert_eq!(error, format!("Get \"http://u:xxxxx@127.0.0.1:{port}/\": stopped after 10 redirects"));
    assert_eq!(*n.lock(), 10);
}

#[tokio::test]
async fn errors_tell_the_cause_and_hide_passwords() {
    let client = Client::new(&HttpClient::default(), PATIENCE).unwrap();
    // Nobody listens on a port that was just given back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = url(&format!("http://u:hidden@127.0.0.1:{port}/"));
    let error = client.get_bytes(url, HeaderMap::new(), 100).await.unwrap_err();
    let shown = error.to_string();
    assert_eq!(
        shown,
        format!("Get \"http://u:xxxxx@127.0.0.1:{port}/\": tcp connect error: connection refused")
    );
    assert_eq!(error.without_url(), "tcp connect error: connection refused");
}
