//! What users read when a scrape fails: compared with what the reference server says of the same targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use crate::process::{Home, Server, peer, until};
use crate::tls::{Authority, TlsTarget};

/// Sends `answer` to whoever comes, whatever is asked, and hangs up; returns its `host:port`.
fn says(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut heard = [0; 8192];
                let _ = stream.read(&mut heard);
                let _ = stream.write_all(answer);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    address
}

/// Takes connections and never says a word.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let streams: Vec<_> = listener.incoming().collect();
        drop(streams);
    });
    address
}

/// The last error of each job once all have been scraped.
fn errors(server: &Server, n: usize) -> BTreeMap<String, String> {
    until("all targets to be scraped", || {
        let data = server.data("/api/v1/targets", &[("state", "active")]);
        let targets = data["activeTargets"].as_array().unwrap();
        let told = targets.iter().filter(|target| target["health"] != "unknown");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let told: BTreeMap<_, _> =
            told.map(|target| (text(&target["labels"]["job"]), text(&target["lastError"]))).collect();
        (told.len() == n).then_some(told)
    })
}

#[test]
fn failures_read_as_the_reference_server_words_them() {
    let Some(program) = peer("prometheus-next", "failures_read_as_the_reference_server_words_them") else {
        return;
    };
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let tls = TlsTarget::start(ours.sign(&["127.0.0.1"]).server(None));
    let named = TlsTarget::start(ours.sign(&["exporter.test", "more.test"]).server(None));
    let demanding = TlsTarget::start(ours.sign(&["127.0.0.1"]).server(Some(&other)));
    let plain = says(b"HTTP/1.0 400 Bad Request\r\n\r\nwhat?\n");
    let https = |keys: &str| format!(", scheme: https, tls_config: {{{keys}}}");
    let cases = [
        ("refused", "127.0.0.1:1".to_owned(), String::new()),
        ("unavailable", says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), String::new()),
        ("own_words", says(b"HTTP/1.1 404 Nobody Here\r\nContent-Length: 0\r\n\r\n"), String::new()),
        ("no_words", says(b"HTTP/1.1 418\r\nContent-Length: 0\r\n\r\n"), String::new()),
        ("silent", silent(), String::new()),
        ("hangs_up", says(b""), String::new()),
        ("cut_short", says(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\na 1\n"), String::new()),
        ("stays_away", says(b"HTTP/1.1 302 Found\r\nLocation: ftp://a.test/\r\nContent-Length: 0\r\n\r\n"), String::new()),
        ("round_and_round", says(b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), String::new()),
        ("redirected", says(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), ", follow_redirects: false".to_owned()),
        ("nowhere", says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), String::new()),
        ("too_large", says(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nabcdefgh 1\n"), ", body_size_limit: 5B".to_owned()),
        ("no_gzip", says(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n\r\nabcdefghijklm 1\n"), String::new()),
        ("no_type", says(b"HTTP/1.1 200 OK\r\n\r\na 1\n"), String::new()),
        ("html", says(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\na 1\n"), String::new()),
        ("no_file", "127.0.0.1:1".to_owned(), ", authorization: {credentials_file: /nowhere/token}".to_owned()),
        ("no_user_file", "127.0.0.1:1".to_owned(), ", basic_auth: {username_file: /nowhere/user, password: x}".to_owned()),
        ("no_header_file", "127.0.0.1:1".to_owned(), ", http_headers: {X: {files: [/nowhere/x]}}".to_owned()),
        ("proxy_refused", "a.test:1".to_owned(), ", proxy_url: 'http://127.0.0.1:1'".to_owned()),
        ("proxy_forbids", "a.test:1".to_owned(), format!("{}, proxy_url: 'http://{}'", https(""), says(b"HTTP/1.1 403 Forbidden\r\n\r\n"))),
        ("unknown_ca", tls.address(), https("ca_file: other.pem")),
        ("other_name", named.address(), https("ca_file: ca.pem, server_name: a.test")),
        ("no_address", named.address(), https("ca_file: ca.pem")),
        ("demanding", demanding.address(), https("ca_file: ca.pem")),
        ("no_tls", plain, https("ca_file: ca.pem")),
        ("no_token", "127.0.0.1:1".to_owned(), format!(", oauth2: {{client_id: me, client_secret: x, token_url: 'http://{}/'}}", says(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 45\r\nConnection: close\r\n\r\n{\"error\":\"bad\",\"error_description\":\"go away\"}\n"))),
        ("bad_port", "127.0.0.1:99999".to_owned(), String::new()),
    ];
    let mut text = "global: {scrape_interval: 1s, scrape_timeout: 900ms}\nscrape_configs:\n".to_owned();
    for (name, address, keys) in &cases {
        writeln!(text, "- {{job_name: {name}, static_configs: [{{targets: ['{address}']}}]{keys}}}").unwrap();
    }
    let (home, their_home) = (Home::new(&text), Home::new(&text));
    for home in [&home, &their_home] {
        home.write("ca.pem", &ours.own.cert);
        home.write("other.pem", &other.own.cert);
    }
    let server = home.start(&[]);
    let reference = their_home.start_peer(&program, &[]);
    let (said, expected) = (errors(&server, cases.len()), errors(&reference, cases.len()));
    let differ: Vec<_> = expected
        .iter()
        .filter(|(job, text)| said[*job] != **text)
        .map(|(job, text)| format!("{job}\n  ours:   {}\n  theirs: {text}", said[job]))
        .collect();
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), cases.len(), differ.join("\n"));
    server.stop();
}
