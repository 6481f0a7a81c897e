//! Targets behind TLS, proxies, tokens and limits: who is trusted, what is sent to whom, and that secrets stay ours.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::process::{Home, Server, until, until_true};
use crate::scripted::{Scripted, answer};
use crate::tls::{Authority, TlsTarget, http2_target, read_head};

const HEAD: &str = "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\nscrape_configs:\n";

/// A job for one target with these further keys.
fn job(name: &str, address: &str, keys: &str) -> String {
    format!("- {{job_name: {name}, static_configs: [{{targets: ['{address}']}}]{keys}}}\n")
}

fn tls_job(name: &str, address: &str, tls: &str) -> String {
    job(name, address, &format!(", scheme: https, tls_config: {{{tls}}}"))
}

/// The error that a job's target ends with; empty once it is up.
fn outcome(server: &Server, job: &str) -> String {
    until(&format!("the first scrape of {job}"), || {
        let target = server.target(job)?;
        (target["health"] != "unknown").then(|| target["lastError"].as_str().unwrap().to_owned())
    })
}

fn is_up(server: &Server, job: &str) -> bool {
    server.target(job).is_some_and(|target| target["health"] == "up")
}

/// Answers whatever it hears in plain HTTP; returns its `host:port`.
fn without_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // What the other side makes of it is the test's matter.
            let mut heard = [0; 8192];
            let _ = stream.read(&mut heard);
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nwhat?\n");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    });
    address
}

#[test]
fn a_target_behind_tls_is_verified_as_the_job_says() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let here = ours.sign(&["127.0.0.1"]);
    let plain = TlsTarget::start(here.server(None));
    let named = TlsTarget::start(ours.sign(&["exporter.test"]).server(None));
    let expired = TlsTarget::start(ours.sign_expired("exporter.test").server(None));
    let itself = TlsTarget::start(ours.own.server(None));
    let demanding = TlsTarget::start(here.server(Some(&other)));
    let only_12 = TlsTarget::start(here.server(None));
    let http = without_tls();

    let text = [
        HEAD.to_owned(),
        tls_job("good", &plain.address(), "ca_file: ca.pem"),
        tls_job("inline", &plain.address(), &format!("ca: {}", json!(ours.own.cert))),
        tls_job("wrong_ca", &plain.address(), "ca_file: other.pem"),
        tls_job("system", &plain.address(), ""),
        tls_job("careless", &named.address(), "insecure_skip_verify: true"),
        tls_job("careless_expired", &expired.address(), "insecure_skip_verify: true"),
        tls_job("named", &named.address(), "ca_file: ca.pem, server_name: exporter.test"),
        tls_job("wrong_name", &named.address(), "ca_file: ca.pem"),
        tls_job("expired", &expired.address(), "ca_file: ca.pem, server_name: exporter.test"),
        tls_job("self_signed", &itself.address(), "ca_file: ca.pem"),
        tls_job("self_signed_name", &itself.address(), "ca_file: ca.pem, server_name: elsewhere.test"),
        tls_job("self_signed_unknown", &itself.address(), "ca_file: other.pem"),
        tls_job(
            "shown",
            &demanding.address(),
            "ca_file: ca.pem, cert_file: client.pem, key_file: client.key",
        ),
        tls_job("not_shown", &demanding.address(), "ca_file: ca.pem"),
        tls_job(
            "shown_other",
            &demanding.address(),
            "ca_file: ca.pem, cert_file: stranger.pem, key_file: stranger.key",
        ),
        tls_job("old", &only_12.address(), "ca_file: ca.pem, min_version: TLS10, max_version: TLS12"),
        tls_job("no_tls", &http, "ca_file: ca.pem"),
    ]
    .concat();
    let home = Home::new(&text);
    home.write("ca.pem", &ours.own.cert);
    home.write("other.pem", &other.own.cert);
    let (client, stranger) = (other.sign(&["client"]), ours.sign(&["stranger"]));
    home.write("client.pem", &client.cert);
    home.write("client.key", &client.key);
    home.write("stranger.pem", &stranger.cert);
    home.write("stranger.key", &stranger.key);
    let server = home.start(&[]);

    for job in ["good", "inline", "careless", "careless_expired", "named", "self_signed", "shown", "old"] {
        assert_eq!(outcome(&server, job), "", "{job}");
        assert_eq!(server.value(&format!("tls_up{{job=\"{job}\"}}")), Some(1.0), "{job}");
    }
    let refused = |job: &str, what: &str| {
        let error = outcome(&server, job);
        assert!(error.starts_with("Get \"https://127.0.0.1:"), "{job}: {error}");
        assert!(error.ends_with(what), "{job}: {error}");
        assert_eq!(server.value(&format!("up{{job=\"{job}\"}}")), Some(0.0), "{job}");
    };
    let unknown = ": tls: failed to verify certificate: x509: certificate signed by unknown authority";
    refused("wrong_ca", unknown);
    refused("system", unknown);
    let error = outcome(&server, "self_signed_unknown");
    assert!(error.contains(unknown), "{error}");
    refused(
        "wrong_name",
        ": x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs",
    );
    refused("expired", ": x509: certificate has expired or is not yet valid");
    refused("not_shown", ": remote error: tls: certificate required");
    refused("no_tls", ": http: server gave HTTP response to HTTPS client");
    let error = outcome(&server, "shown_other");
    assert!(error.contains("remote error: tls: "), "{error}");
    let error = outcome(&server, "self_signed_name");
    assert!(error.contains("tls: failed to verify certificate"), "{error}");
    assert!(server.process.logged("TLS 1.0 and 1.1 are not spoken").is_some());
    server.stop();
}

#[test]
fn certificates_are_changed_without_a_reload() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let target = TlsTarget::start(before.sign(&["127.0.0.1"]).server(Some(&before)));
    let keys = "ca_file: ca.pem, cert_file: client.pem, key_file: client.key";
    let home = Home::new(&[HEAD, &tls_job("x", &target.address(), keys)].concat());
    let install = |authority: &Authority| {
        let client = authority.sign(&["client"]);
        home.write("ca.pem", &authority.own.cert);
        home.write("client.pem", &client.cert);
        home.write("client.key", &client.key);
    };
    install(&before);
    let server = home.start(&[]);
    until_true("the target to be up", || is_up(&server, "x"));
    target.change(after.sign(&["127.0.0.1"]).server(Some(&after)));
    until_true("the old files to be refused", || !is_up(&server, "x"));
    install(&after);
    until_true("the new files to be used", || is_up(&server, "x"));
    std::fs::remove_file(home.path("ca.pem")).unwrap();
    until_true("the missing file to be told", || {
        let error = server.target("x").unwrap()["lastError"].as_str().unwrap().to_owned();
        error.contains("unable to read CA cert: unable to read file ")
            && error.ends_with(": no such file or directory")
    });
    server.stop();
}

#[test]
fn a_target_that_insists_on_http2_gets_it() {
    let ours = Authority::new("ours");
    let address = http2_target(ours.sign(&["127.0.0.1"]).server(None));
    let tls = ", scheme: https, tls_config: {ca_file: ca.pem}";
    let text = [
        HEAD.to_owned(),
        job("allowed", &address, tls),
        job("forbidden", &address, &format!("{tls}, enable_http2: false")),
    ]
    .concat();
    let home = Home::new(&text);
    home.write("ca.pem", &ours.own.cert);
    let server = home.start(&[]);
    assert_eq!(outcome(&server, "allowed"), "");
    until_true("several scrapes over the same connection", || {
        server.value("count_over_time(by_http2{version=\"HTTP/2.0\"}[1m])").is_some_and(|n| n >= 3.0)
    });
    assert!(is_up(&server, "allowed"));
    let error = outcome(&server, "forbidden");
    assert!(error.ends_with(": remote error: tls: no application protocol"), "{error}");
    server.stop();
}

/// A proxy that understands CONNECT: it opens connections to 127.0.0.1 whatever name is asked for, and keeps the heads.
fn connect_proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let log = Arc::clone(&log);
            thread::spawn(move || -> io::Result<()> {
                let Some(head) = read_head(&mut client) else { return Ok(()) };
                log.lock().unwrap().push(head.clone());
                let to = head.split(' ').nth(1).unwrap_or_default();
                if !head.starts_with("CONNECT ") {
                    return answer(&mut client, 200, "text/plain", "forwarded 1\n");
                }
                if !head.contains("proxy-authorization: Basic ") {
                    return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                }
                let port = to.rsplit(':').next().unwrap_or_default();
                let mut server = TcpStream::connect(format!("127.0.0.1:{port}"))?;
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                let (mut from, mut into) = (client.try_clone()?, server.try_clone()?);
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut into);
                    into.shutdown(Shutdown::Write)
                });
                io::copy(&mut server, &mut client)?;
                client.shutdown(Shutdown::Write)
            });
        }
    });
    (address, seen)
}

#[test]
fn targets_are_reached_through_a_proxy() {
    let ours = Authority::new("ours");
    let target = TlsTarget::start(ours.sign(&["only.behind.proxy.test"]).server(None));
    let (proxy, seen) = connect_proxy();
    let behind = format!("only.behind.proxy.test:{}", target.port());
    let through = |user: &str, more: &str| format!(", proxy_url: 'http://{user}{proxy}'{more}");
    let https = ", scheme: https, tls_config: {ca_file: ca.pem}";
    let text = [
        HEAD.to_owned(),
        job(
            "tunnel",
            &behind,
            &format!("{https}{}", through("u:p@", ", proxy_connect_header: {X-Pass: [one]}")),
        ),
        job("refused", &behind, &format!("{https}{}", through("", ""))),
        job("plain", "plain.behind.proxy.test:80", &through("u:p@", "")),
        job("around", "none.test:1", &through("", ", no_proxy: 'x, .test'")),
    ]
    .concat();
    let home = Home::new(&text);
    home.write("ca.pem", &ours.own.cert);
    let server = home.start(&[]);
    assert_eq!(outcome(&server, "tunnel"), "");
    assert_eq!(outcome(&server, "plain"), "");
    assert_eq!(server.value("forwarded{job=\"plain\"}"), Some(1.0));
    let error = outcome(&server, "refused");
    assert!(error.ends_with(": Proxy Authentication Required"), "{error}");
    let error = outcome(&server, "around");
    assert!(
        error.contains(": dial tcp: lookup none.test: ") || error.ends_with("deadline exceeded"),
        "{error}"
    );
    let seen = seen.lock().unwrap().clone();
    let tunnel = seen.iter().find(|head| head.contains("x-pass: one\r\n")).expect("headers of CONNECT");
    assert!(tunnel.starts_with(&format!("CONNECT {behind} HTTP/1.1\r\nHost: {behind}\r\n")), "{tunnel}");
    let plain = seen.iter().find(|head| head.starts_with("GET ")).expect("a request that is passed on");
    assert!(plain.starts_with("GET http://plain.behind.proxy.test:80/metrics HTTP/1.1\r\n"), "{plain}");
    assert!(plain.contains("proxy-authorization: Basic dTpw\r\n"), "{plain}");
    // Who is behind the tunnel learns nothing of the proxy.
    assert!(target.seen().iter().all(|head| !head.contains("proxy") || !head.contains("x-pass")));
    server.stop();
}

#[test]
fn secrets_are_sent_and_shown_nowhere() {
    let ours = Authority::new("ours");
    let client = ours.sign(&["client"]);
    let heads = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&heads);
    let target = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    while let Some(head) = read_head(&mut stream) {
                        log.lock().unwrap().push_str(&head);
                        // What a clumsy exporter might answer.
                        let kind = if head.contains("basic") { "text/plain" } else { "text/html" };
                        if answer(&mut stream, 200, kind, "a 1\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    };
    let tokens = Arc::new(AtomicUsize::new(0));
    let n_tokens = Arc::clone(&tokens);
    let token_server = Scripted::raw(move |request, stream| {
        assert_eq!(request.path, "/token");
        n_tokens.fetch_add(1, Ordering::Relaxed);
        answer(stream, 200, "application/json", r#"{"access_token": "zz-token", "expires_in": 3600}"#)
    });
    let refusing = Scripted::raw(|request, stream| {
        let echoed = String::from_utf8_lossy(&request.body).into_owned();
        answer(stream, 401, "text/html", &echoed)
    });
    let oauth2 = |server: &Scripted, secret: &str| {
        format!(
            ", oauth2: {{client_id: me, {secret}, token_url: 'http://{}/token', scopes: [s]}}",
            server.address()
        )
    };
    let text = [
        HEAD.to_owned(),
        job("basic", &target, ", basic_auth: {username: u, password: zz-password}"),
        job("basic_file", &target, ", basic_auth: {username: u, password_file: password}"),
        job("bearer", &target, ", authorization: {credentials: zz-bearer}"),
        job("header", &target, ", http_headers: {X-Key: {secrets: [zz-header], files: [header]}}"),
        job("oauth2", &target, &oauth2(&token_server, "client_secret: zz-client")),
        job("oauth2_more", &target, &oauth2(&refusing, "client_secret_file: client")),
        job(
            "proxy",
            &target,
            ", proxy_url: 'http://u:zz-proxy@127.0.0.1:1', proxy_connect_header: {X: [zz-connect]}",
        ),
        job("socks", &target, ", proxy_url: 'socks5://u:zz-socks@127.0.0.1:1'"),
        tls_job(
            "key",
            &target,
            &format!("insecure_skip_verify: true, cert: {}, key: {}", json!(client.cert), json!(client.key)),
        ),
        job("bad_header", &target, ", authorization: {credentials_file: broken}"),
    ]
    .concat();
    let home = Home::new(&text);
    home.write("password", "zz-filed\n");
    home.write("header", "zz-headerfile\n");
    home.write("client", "zz-clientfile");
    home.write("broken", "zz-\u{1}broken");
    let server = home.start(&["--log.level=debug"]);
    for name in [
        "basic",
        "basic_file",
        "bearer",
        "header",
        "oauth2",
        "oauth2_more",
        "proxy",
        "socks",
        "key",
        "bad_header",
    ] {
        outcome(&server, name);
    }
    let (status, _) = server.post("/-/reload", &serde_json::Value::Null);
    assert_eq!(status, 200);
    // A config that is refused must not show them, either.
    home.write("prometheus.yml", &text.replace("scrape_configs", "scrape_confgs"));
    assert_eq!(server.post("/-/reload", &serde_json::Value::Null).0, 500);

    let heads = heads.lock().unwrap().clone();
    for sent in [
        "authorization: Basic dTp6ei1wYXNzd29yZA==\r\n",
        "authorization: Basic dTp6ei1maWxlZA==\r\n",
        "authorization: Bearer zz-bearer\r\n",
        "x-key: zz-header\r\n",
        "x-key: zz-headerfile\r\n",
        "authorization: Bearer zz-token\r\n",
    ] {
        assert!(heads.contains(sent), "{sent} was not sent: {heads}");
    }
    assert_eq!(
        tokens.load(Ordering::Relaxed),
        1,
        "one token serves all scrapes and outlives a reload without changes"
    );
    let error = outcome(&server, "oauth2_more");
    assert!(error.ends_with(": oauth2: cannot fetch token: 401 Unauthorized"), "{error}");
    let error = outcome(&server, "proxy");
    assert!(
        error.ends_with(": proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused"),
        "{error}"
    );
    let error = outcome(&server, "bad_header");
    assert!(
        error.ends_with(": unable to use the configured authorization: it cannot be sent in a header"),
        "{error}"
    );

    let key_line = client.key.lines().nth(1).unwrap().to_owned();
    let mut places = vec![("log".to_owned(), server.process.log())];
    for path in [
        "/api/v1/status/config",
        "/api/v1/targets",
        "/api/v1/scrape_pools",
        "/api/v1/status/flags",
        "/metrics",
        "/config",
        "/targets",
    ] {
        places.push((path.to_owned(), server.get(path).1));
    }
    for (place, text) in places {
        assert!(!text.contains("zz-"), "a secret shows in {place}: {text}");
        for encoded in ["dTp6ei1wYXNzd29yZA", "dTp6ei1maWxlZA", &key_line] {
            assert!(!text.contains(encoded), "a secret shows in {place}: {text}");
        }
    }
    server.stop();
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn compressed(body: Vec<u8>) -> Scripted {
    Scripted::raw(move |_, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    })
}

#[test]
fn bodies_are_bounded_before_and_after_inflating() {
    // 200 MB of one comment in some 200 KB.
    let bomb = compressed(gzip(&[b"# ".to_vec(), vec![b'a'; 200 << 20]].concat()));
    let fits = compressed(gzip(b"fits 1\n"));
    let endless = Scripted::raw(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")?;
        loop {
            stream.write_all(&[b'a'; 4096])?;
        }
    });
    let exact = Scripted::target(|| "exact_7 1\n".to_owned());
    let text = [
        HEAD.to_owned(),
        job("bomb", &bomb.address(), ", body_size_limit: 1MB, extra_scrape_metrics: true"),
        job("fits", &fits.address(), ", body_size_limit: 8B, extra_scrape_metrics: true"),
        job("fits_not", &fits.address(), ", body_size_limit: 7B"),
        job("endless", &endless.address(), ", body_size_limit: 1MB"),
        job("exact", &exact.address(), ", body_size_limit: 11B"),
        job("exact_not", &exact.address(), ", body_size_limit: 10B"),
    ]
    .concat();
    let home = Home::new(&text);
    let server = home.start(&[]);
    for job in ["fits", "exact"] {
        assert_eq!(outcome(&server, job), "", "{job}");
    }
    for job in ["bomb", "fits_not", "endless", "exact_not"] {
        assert_eq!(outcome(&server, job), "body size limit exceeded", "{job}");
        assert_eq!(server.value(&format!("up{{job=\"{job}\"}}")), Some(0.0), "{job}");
    }
    assert_eq!(server.value("scrape_body_size_bytes{job=\"bomb\"}"), Some(-1.0));
    assert_eq!(server.value("scrape_body_size_bytes{job=\"fits\"}"), Some(7.0));
    let n = server.metric("prometheus_target_scrapes_exceeded_body_size_limit_total").unwrap();
    assert!(n >= 4.0, "{n}");
    let bytes = server.metric("process_resident_memory_bytes").unwrap();
    assert!(bytes < 400e6, "the bomb was inflated: {bytes} bytes of memory");
    server.stop();
}

#[test]
fn failures_are_logged_to_a_file_and_sockets_are_dialled() {
    use std::os::unix::net::UnixListener;
    let home = Home::new("");
    let socket = home.path("exporter.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                while let Some(head) = read_head(&mut stream) {
                    let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
                    let body = format!("by_socket{{host=\"{host}\"}} 1\n");
                    let text = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(text.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let relabel = format!(
        ", relabel_configs: [{{target_label: __unix_socket__, replacement: '{}'}}]",
        socket.display()
    );
    let text = [
        HEAD.to_owned(),
        job("socket", "exporter.test:9", &relabel),
        job("down", "127.0.0.1:1", ", scrape_failure_log_file: failures.json"),
        job("down_too", "127.0.0.1:1", ", scrape_failure_log_file: failures.json, metrics_path: /other"),
    ]
    .concat();
    home.write("prometheus.yml", &text);
    let server = home.start(&[]);
    assert_eq!(outcome(&server, "socket"), "");
    assert_eq!(server.value("by_socket{host=\"exporter.test:9\"}"), Some(1.0));
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(home.path(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of = |name: &str, job: &str| lines(name).into_iter().find(|line| line["job_name"] == job);
    let down = until("a failed scrape to be logged", || of("failures.json", "down"));
    assert_eq!(down["target"], "http://127.0.0.1:1/metrics");
    let error = "Get \"http://127.0.0.1:1/metrics\": dial tcp 127.0.0.1:1: connect: connection refused";
    assert_eq!((&down["msg"], &down["level"]), (&error.into(), &"ERROR".into()));
    let too = until("the other job", || of("failures.json", "down_too"));
    assert_eq!(too["target"], "http://127.0.0.1:1/other");
    std::fs::rename(home.path("failures.json"), home.path("old.json")).unwrap();
    assert_eq!(server.post("/-/reload", &serde_json::Value::Null).0, 200);
    until_true("the new file", || of("failures.json", "down").is_some());

    home.write("prometheus.yml", &text.replace("failures.json", "nowhere/failures.json"));
    let (status, body) = server.post("/-/reload", &serde_json::Value::Null);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("can't create json log file: open "), "{body}");
    server.stop();
}
