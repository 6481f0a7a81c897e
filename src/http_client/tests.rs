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
            while !is_whole(&request) {
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

/// Whether a request has come to the end of its body.
fn is_whole(request: &[u8]) -> bool {
    let Some(at) = request.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..at]).to_lowercase();
    let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    request.len() >= at + 4 + length.map_or(0, |n| n.parse().unwrap())
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
    assert_eq!(error, "Get \"/\": stopped after 10 redirects");
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

fn oauth2(port: u16, secret: SecretSource) -> HttpClient {
    let oauth2 = config::http_client::Oauth2 {
        client_id: "me&".to_owned(),
        client_secret: secret,
        grant: config::http_client::Grant::ClientCredentials,
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_url: format!("http://127.0.0.1:{port}/token"),
        endpoint_params: [("x".to_owned(), "y z".to_owned())].into(),
        tls: Tls::default(),
        proxy: config::http_client::Proxy::default(),
        printed: config::http_client::Printed::default(),
    };
    HttpClient { oauth2: Some(Box::new(oauth2)), ..HttpClient::default() }
}

/// What the target heard as `Authorization` when `n` requests were sent in turn.
async fn authorizations(config: &HttpClient, n: usize, between: impl Fn(usize)) -> Vec<String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let port = server(move |request| {
        let line = request.lines().find_map(|line| line.strip_prefix("authorization: "));
        log.lock().push(line.unwrap_or_default().to_owned());
        answer("200 OK", "", "")
    })
    .await;
    let client = Client::new(config, PATIENCE).unwrap();
    for i in 0..n {
        between(i);
        let url = url(&format!("http://127.0.0.1:{port}/"));
        if let Err(error) = client.get_bytes(url, HeaderMap::new(), 100).await {
            seen.lock().push(error.to_string());
        }
    }
    let seen = seen.lock();
    seen.clone()
}

#[tokio::test(flavor = "local")]
async fn tokens_are_fetched_once_and_again_for_another_secret() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let port = server(move |request| {
        let mut asked = log.lock();
        asked.push(request.to_owned());
        let body = format!(r#"{{"access_token": "t{}", "expires_in": 3600}}"#, asked.len());
        answer("200 OK", "Content-Type: application/json\r\n", &body)
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = oauth2(port, SecretSource::File(file.path().to_owned()));
    let told = authorizations(&config, 4, |i| {
        std::fs::write(file.path(), if i < 2 { " one+\n" } else { "two" }).unwrap();
    })
    .await;
    assert_eq!(told, ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]);
    let asked = asked.lock();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    assert!(asked[0].starts_with("POST /token HTTP/1.1\r\n"), "{}", asked[0]);
    // The pair in it is encoded like a form: `me%26:one%2B`.
    assert!(asked[0].contains("authorization: Basic bWUlMjY6b25lJTJC\r\n"), "{}", asked[0]);
    assert!(asked[0].ends_with("\r\n\r\ngrant_type=client_credentials&scope=a+b&x=y+z"), "{}", asked[0]);
}

#[tokio::test(flavor = "local")]
async fn a_secret_may_have_to_go_among_the_parameters() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let port = server(move |request| {
        log.lock().push(request.to_owned());
        if request.contains("client_secret=s") {
            // Expires at once, so that every request fetches another.
            answer("200 OK", "", r#"{"access_token": "t", "expires_in": 1}"#)
        } else {
            answer("401 Unauthorized", "", "")
        }
    })
    .await;
    let told = authorizations(&oauth2(port, SecretSource::Inline(Secret::new("s"))), 2, |_| {}).await;
    assert_eq!(told, ["Bearer t", "Bearer t"]);
    let asked = asked.lock();
    let in_header: Vec<bool> = asked.iter().map(|request| request.contains("authorization: ")).collect();
    assert_eq!(in_header, [true, false, false], "the way that worked is known: {asked:#?}");
    assert!(asked[2].contains("client_id=me%26&client_secret=s"), "{}", asked[2]);
}

#[tokio::test(flavor = "local")]
async fn a_server_that_refuses_tokens_is_asked_once_in_a_while() {
    let n = Arc::new(Mutex::new(0));
    let count = Arc::clone(&n);
    let port = server(move |_| {
        *count.lock() += 1;
        answer("400 Bad Request", "", r#"{"error": "invalid_client"}"#)
    })
    .await;
    let told = authorizations(&oauth2(port, SecretSource::Inline(Secret::new("hidden"))), 3, |_| {}).await;
    assert_eq!(told, [r#"oauth2: "invalid_client""#; 3]);
    // Once with the secret in the header and once among the parameters.
    assert_eq!(*n.lock(), 2);
}

#[tokio::test(flavor = "local")]
async fn requests_leave_through_the_proxy() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let proxy = server(move |request| {
        log.lock().push(request.to_owned());
        if request.starts_with("CONNECT") {
            answer("403 No", "", "")
        } else {
            answer("200 OK", "", "through")
        }
    })
    .await;
    let proxy = |no_proxy: &str| config::http_client::Proxy {
        url: Some(Secret::new(format!("http://u:hidden@127.0.0.1:{proxy}"))),
        no_proxy: no_proxy.to_owned(),
        connect_headers: [("X-Pass".to_owned(), vec![Secret::new("p-secret")])].into(),
        ..config::http_client::Proxy::default()
    };
    let get = async |no_proxy: &str, to: &str| {
        let config = HttpClient { proxy: proxy(no_proxy), ..HttpClient::default() };
        let client = Client::new(&config, PATIENCE).unwrap();
        client.get_bytes(url(to), HeaderMap::new(), 100).await.map(|answer| answer.1)
    };
    assert_eq!(&get("", "http://nowhere.invalid/x").await.unwrap()[..], b"through");
    let request = seen.lock().remove(0);
    assert!(request.starts_with("GET http://nowhere.invalid/x HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("proxy-authorization: Basic dTpoaWRkZW4="), "{request}");
    assert!(!request.contains("p-secret"), "only CONNECT carries it, this one is passed on: {request}");

    let error = get("", "https://nowhere.invalid/x").await.unwrap_err().to_string();
    let request = seen.lock().remove(0);
    assert!(request.starts_with("CONNECT nowhere.invalid:443 HTTP/1.1\r\n"), "{request}");
    let request = request.to_lowercase();
    assert!(request.contains("proxy-authorization: basic dtpoawrkzw4=\r\n"), "{request}");
    assert!(request.contains("x-pass: p-secret\r\n"), "{request}");
    assert!(!error.contains("secret") && !error.contains("hidden"), "{error}");

    assert!(get("nowhere.invalid", "http://nowhere.invalid/x").await.is_err());
    assert_eq!(seen.lock().len(), 0, "an exception does not go through it");
}
