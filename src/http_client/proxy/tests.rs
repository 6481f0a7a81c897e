//! The rules of `no_proxy`, and what is said to proxies.

use config::Secret;
use tokio::io::duplex;

use super::*;

fn config(url: &str, no_proxy: &str) -> config::http_client::Proxy {
    config::http_client::Proxy {
        url: Some(Secret::new(url)),
        no_proxy: no_proxy.to_owned(),
        ..config::http_client::Proxy::default()
    }
}

#[test]
fn some_hosts_are_reached_directly() {
    let direct = |no_proxy: &str, url: &str| {
        let proxies = Proxies::new(&config("http://p:3128", no_proxy)).unwrap();
        proxies.of_url(&Url::parse(url).unwrap()).is_none()
    };
    // Without exceptions this very host is no exception, either.
    assert!(!direct("", "http://127.0.0.1/"));
    assert!(!direct("", "https://localhost/"));
    for url in ["http://127.0.0.1/", "http://localhost:90/", "http://[::1]/", "http://127.9.9.9/"] {
        assert!(direct("x", url), "{url}");
    }
    assert!(direct("*", "http://any.example/"));
    assert!(direct("foo.com", "http://foo.com/") && direct("foo.com", "http://a.FOO.com:8/"));
    assert!(!direct("foo.com", "http://barfoo.com/"));
    for entry in [".foo.com", "*.foo.com"] {
        assert!(!direct(entry, "http://foo.com/") && direct(entry, "http://a.b.foo.com/"), "{entry}");
    }
    assert!(direct(" a , Foo.com:8 ", "http://foo.com:8/") && !direct("foo.com:8", "http://foo.com:9/"));
    assert!(direct("foo.com:80", "http://foo.com/") && direct("foo.com:443", "https://foo.com/"));
    assert!(direct("10.0.0.0/8", "http://10.9.8.7/") && !direct("10.0.0.0/8", "http://11.0.0.1/"));
    assert!(direct("0.0.0.0/0", "http://9.9.9.9/") && !direct("0.0.0.0/0", "http://[2001::1]/"));
    assert!(direct("fe80::/10", "http://[fe80::7]:9/") && !direct("fe80::/10", "http://[2001::1]/"));
    assert!(direct("10.0.0.1", "http://10.0.0.1:77/") && !direct("10.0.0.1:78", "http://10.0.0.1:77/"));
    assert!(direct("[2001::1]:9", "http://[2001::1]:9/") && !direct("[2001::1]:9", "http://[2001::1]:8/"));
    assert!(direct("2001::1", "http://[2001::1]:9/"));
    assert!(direct("bücher.example", "http://xn--bcher-kva.example/"));
    for nonsense in ["10.0.0.0/99", ":80", ",,", "foo.com:x"] {
        assert!(!direct(nonsense, "http://foo.com/"), "{nonsense}");
    }
}

#[test]
fn the_environment_names_one_proxy_per_scheme() {
    let from_environment =
        config::http_client::Proxy { from_environment: true, ..config::http_client::Proxy::default() };
    let variables =
        [("HTTP_PROXY", ""), ("http_proxy", "p:1"), ("HTTPS_PROXY", "socks5://u:pw@q"), ("no_proxy", "n")];
    let variable = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
    let proxies = Proxies::with_environment(&from_environment, variable).unwrap();
    let of = |url: &str| format!("{:?}", proxies.of_url(&Url::parse(url).unwrap()));
    assert_eq!(of("http://x/"), "Some(Http p:1)");
    assert_eq!(of("https://x/"), "Some(Socks5 q:1080)");
    assert_eq!(of("https://n/"), "None");
    let nothing = Proxies::with_environment(&from_environment, |_| None).unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn refusals_hide_passwords() {
    let error = Proxies::new(&config("ftp://u:hidden@p", "")).unwrap_err().to_string();
    assert_eq!(error, "unable to use the configured proxy URL: unsupported proxy scheme \"ftp\"");
    let error = Proxies::new(&config("http://u:hidden@[", "")).unwrap_err().to_string();
    assert!(!error.contains("hidden"), "{error}");
    let shown = format!("{:?}", Proxies::new(&config("http://u:hidden@p", "")).unwrap());
    assert!(!shown.contains("hidden"), "{shown}");
}

/// Lets the proxy at `url` be asked for `host`; what it heard, and what came of it when it says `answers` in turn.
async fn ask(url: &str, host: &str, answers: &[&[u8]]) -> (Vec<u8>, Result<(), String>) {
    let mut config = config(url, "");
    config.connect_headers = [("X-Pass".to_owned(), vec![Secret::new("one"), Secret::new("two")])].into();
    let proxies = Proxies::new(&config).unwrap();
    let proxy = Arc::clone(proxies.of(true, host, 443).unwrap());
    let (mut ours, mut theirs) = duplex(1 << 16);
    for answer in answers {
        theirs.write_all(answer).await.unwrap();
    }
    theirs.shutdown().await.unwrap();
    let outcome = proxy.open(&mut ours, host, 443).await;
    drop(ours);
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    (heard, outcome)
}

#[tokio::test]
async fn connect() {
    let (heard, outcome) = ask("http://u:p%40@p", "h.example", &[b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"]).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        String::from_utf8(heard).unwrap(),
        "CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\nx-pass: one\r\nx-pass: two\r\n\
         proxy-authorization: Basic dTpwQA==\r\n\r\n"
    );
    let refused =
        |answer: &'static [u8]| async move { ask("http://p", "::1", &[answer]).await.1.unwrap_err() };
    assert_eq!(refused(b"HTTP/1.1 403 Forbidden\r\n\r\n").await, "Forbidden");
    assert_eq!(refused(b"HTTP/1.1 502\r\n\r\n").await, "proxy answered with status 502");
    assert_eq!(refused(b"SSH-2.0\r\n\r\n").await, "malformed HTTP response \"SSH-2.0\"");
    assert_eq!(refused(b"HTTP/1.1 200").await, "unexpected EOF");
    let long = Box::leak(vec![b'a'; 20_000].into_boxed_slice());
    assert_eq!(refused(long).await, "the proxy's answer exceeds 16384 bytes");
}

#[tokio::test]
async fn socks5() {
    let done: &[u8] = &[5, 0, 0, 1, 1, 2, 3, 4, 0, 80];
    let (heard, outcome) = ask("socks5://p", "h.example", &[&[5, 0], done]).await;
    assert_eq!(
        (heard.as_slice(), outcome),
        (&b"\x05\x01\x00\x05\x01\x00\x03\x09h.example\x01\xbb"[..], Ok(()))
    );
    let (heard, outcome) = ask("socks5h://u:pw@p", "1.2.3.4", &[&[5, 2], &[1, 0], done]).await;
    let said = b"\x05\x02\x00\x02\x01\x01u\x02pw\x05\x01\x00\x01\x01\x02\x03\x04\x01\xbb";
    assert_eq!((heard.as_slice(), outcome), (&said[..], Ok(())));
    let refused = |answers: Vec<&'static [u8]>| async move {
        ask("socks5://u:hidden@p", "h", &answers).await.1.unwrap_err()
    };
    assert_eq!(
        refused(vec![&[5, 2], &[1, 1]]).await,
        "socks connect tcp p:1080->h:443: username/password authentication failed"
    );
    assert_eq!(
        refused(vec![&[5, 0], &[5, 5, 0, 1]]).await,
        "socks connect tcp p:1080->h:443: unknown error connection refused"
    );
    assert_eq!(
        refused(vec![&[5, 255]]).await,
        "socks connect tcp p:1080->h:443: no acceptable authentication methods"
    );
}
