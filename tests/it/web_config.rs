//! The server behind its own TLS, users and limits: who gets in, when changes of files count, and that neither slow clients nor
//! pages of others harm those who ask properly.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::process::{self, Home, Process, RUNTIME, Server, until, until_true};
use crate::tls::{Authority, Pair};

/// Of `secret` and of `other`, with the least cost.
const SECRET: &str = "$2b$04$BmM1dm5paxmbtZ1rWPMLyuDbIWMwRkAxwmaQMgyvfsf.1Ju4.s9ta";
const OTHER: &str = "$2b$04$BmM1dm5paxmbtZ1rWPMLyuZuKejhBg7c5DY0Hk0Y/n0Jrugs/N4cu";

/// The protocols of a client that keeps its connection.
const KEPT: &[&str] = &["http/1.1", "http/1.0"];

/// A client that believes one authority.
#[derive(Clone)]
struct Client(reqwest::Client);

impl Client {
    fn new(
        authority: &Authority,
        shown: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.own.cert.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let builder = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy();
        // A new connection for each request, so that what is said to the next one is seen, unless it is to be kept.
        let n_idle = usize::from(protocols == KEPT);
        Self(builder.pool_max_idle_per_host(n_idle).timeout(Duration::from_secs(50)).build().unwrap())
    }

    /// What a request comes to, in a line.
    fn ask(&self, url: &str, user: Option<(&str, &str)>) -> String {
        let mut request = self.0.get(url);
        if let Some((name, password)) = user {
            request = request.basic_auth(name, Some(password));
        }
        RUNTIME.block_on(async {
            let Ok(response) = request.send().await else { return "no answer".to_owned() };
            let header =
                |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let head = format!(
                "{:?} {} auth={:?} frame={:?}",
                response.version(),
                response.status().as_u16(),
                header("www-authenticate"),
                header("x-frame-options"),
            );
            // What others answer differs, what is refused does not.
            match response.status().as_u16() {
                200 | 302 | 404 => head,
                _ => format!("{head} {:?}", response.text().await.unwrap_or_default()),
            }
        })
    }
}

fn users(hash: &str) -> String {
    format!("basic_auth_users: {{alice: {hash}}}\n")
}

const TLS: &str = "tls_server_config: {cert_file: cert.pem, key_file: cert.key";

/// A server that is started with a web configuration, on files of its own.
struct Guarded {
    home: Home,
    process: Process,
    /// `host:port`.
    address: String,
}

impl Guarded {
    fn start(home: Home, program: &Path, web: &str, args: &[&str]) -> Self {
        home.write("web.yml", web);
        let mut command = home.server(program, args);
        command.arg(format!("--web.config.file={}", home.path("web.yml").display()));
        let mut process = Process::spawn("a guarded server", &mut command);
        let address = process.url().trim_start_matches("http://").to_owned();
        until_true("the server to be ready", || process.logged("ready to receive web requests").is_some());
        Self { home, process, address }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What comes back of raw bytes without TLS.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut heard = String::new();
        // It may be reset behind the answer.
        let _ = stream.read_to_string(&mut heard);
        heard
    }
}

fn install(home: &Home, name: &str, pair: &Pair) {
    home.write(&format!("{name}.key"), &pair.key);
    home.write(&format!("{name}.pem"), &pair.cert);
}

/// Leads a server through changes of its files; what each step came to.
fn lead(program: &Path, config: &str, ours: &Authority, theirs: &Authority) -> Vec<String> {
    const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    let home = Home::new(config);
    install(&home, "cert", &ours.sign(&["127.0.0.1"]));
    home.write("clients.pem", &theirs.own.cert);
    let headers = "http_server_config: {headers: {X-Frame-Options: deny}}\n";
    let guarded = Guarded::start(home, program, &format!("{TLS}}}\n{headers}{}", users(SECRET)), &[]);
    let home = &guarded.home;
    let plain = Client::new(ours, None, &BOTH, &["h2", "http/1.1"]);
    let alice = Some(("alice", "secret"));
    let mut seen = Vec::new();
    let mut note = |what: &str, outcome: String| seen.push(format!("{what}: {outcome}"));
    for path in [
        "/metrics",
        "/-/healthy",
        "/-/ready",
        "/api/v1/query?query=1",
        "/version",
        "/nothing",
        "/api/v1/write",
    ] {
        note(path, plain.ask(&guarded.url(path), alice));
        note(path, plain.ask(&guarded.url(path), None));
    }
    let healthy = guarded.url("/-/healthy");
    for (user, password) in
        [("alice", "Secret"), ("alice", ""), ("bob", "secret"), ("", "secret"), ("bob", "fakepassword")]
    {
        note(&format!("{user}:{password}"), plain.ask(&healthy, Some((user, password))));
    }
    note("an authority that is not ours", Client::new(theirs, None, &BOTH, &[]).ask(&healthy, alice));
    note("1.2", Client::new(ours, None, &[&TLS12], &[]).ask(&healthy, alice));
    note("1.3", Client::new(ours, None, &[&TLS13], &["http/1.1"]).ask(&healthy, alice));
    note("no TLS", guarded.raw("GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n"));

    home.write("web.yml", &format!("{TLS}, min_version: TLS13}}\n{}", users(OTHER)));
    note("old password", plain.ask(&healthy, alice));
    note("new password", plain.ask(&healthy, Some(("alice", "other"))));
    note("1.2 no more", Client::new(ours, None, &[&TLS12], &[]).ask(&healthy, Some(("alice", "other"))));
    let kept = Client::new(ours, None, &BOTH, KEPT);
    note("kept", kept.ask(&healthy, Some(("alice", "other"))));
    home.write("web.yml", &format!("{TLS}}}\nnonsense: 1\n"));
    note("nonsense", plain.ask(&healthy, alice));
    note("nonsense, kept", kept.ask(&healthy, Some(("alice", "other"))));
    home.write("web.yml", &format!("{TLS}}}\nhttp_server_config: {{http2: false}}\n"));
    // A young file without users may be half of one with some.
    std::thread::sleep(Duration::from_secs(4));
    note("anybody", plain.ask(&healthy, None));
    install(home, "cert", &theirs.sign(&["127.0.0.1"]));
    // One that has no session of before, in which nobody shows a certificate.
    note("after the certificate", Client::new(ours, None, &BOTH, &[]).ask(&healthy, None));
    note("after the certificate", Client::new(theirs, None, &BOTH, &["h2", "http/1.1"]).ask(&healthy, None));
    home.write("cert.key", "");
    note("without a key", Client::new(theirs, None, &BOTH, &[]).ask(&healthy, None));
    install(home, "cert", &ours.sign(&["127.0.0.1"]));

    let (named, stranger) = (theirs.sign(&["client.test", "10.1.2.3"]), ours.sign(&["client.test"]));
    for policy in [
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
        "RequireAndVerifyClientCert, client_allowed_sans: [a.test, 10.1.2.3]",
        "RequireAndVerifyClientCert, client_allowed_sans: [a.test]",
        "RequireAnyClientCert, client_allowed_sans: [client.test]",
    ] {
        home.write("web.yml", &format!("{TLS}, client_ca_file: clients.pem, client_auth_type: {policy}}}\n"));
        for (who, shown) in [("nobody", None), ("known", Some(&named)), ("stranger", Some(&stranger))] {
            for version in BOTH {
                let client = Client::new(ours, shown, &[version], &["http/1.1"]);
                note(&format!("{policy}, {who}"), client.ask(&healthy, None));
            }
        }
    }
    home.write("web.yml", "");
    note("TLS is not switched off", plain.ask(&healthy, None));
    std::fs::remove_file(home.path("web.yml")).unwrap();
    note("no file", plain.ask(&healthy, None));
    seen
}

#[test]
fn files_count_from_the_moment_they_are_written() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let newest = process::peer_if_there("prometheus-next");
    // Prometheus 3.5 as it is built for the tests speaks no HTTP/2.
    let has_http2 = newest.is_some();
    let peer = newest
        .or_else(|| process::peer("prometheus", "web_config::files_count_from_the_moment_they_are_written"));
    let (seen, theirs_seen) = thread::scope(|scope| {
        let (ours, theirs) = (&ours, &theirs);
        let beside = peer.as_ref().map(|peer| scope.spawn(move || lead(peer, "{}", ours, theirs)));
        let seen = lead(Path::new(env!("CARGO_BIN_EXE_ferula")), "{}", ours, theirs);
        (seen, beside.map(|beside| beside.join().unwrap()))
    });
    let expect = |what: &str, outcome: &str| {
        assert!(
            seen.iter().any(|line| line == &format!("{what}: {outcome}")),
            "{what}: {outcome}\n{seen:#?}"
        );
    };
    let good = |version: &str| format!("{version} 200 auth=None frame=None");
    expect("/-/healthy", "HTTP/2.0 200 auth=None frame=Some(\"deny\")");
    expect("/-/healthy", "HTTP/2.0 401 auth=Some(\"Basic\") frame=Some(\"deny\") \"Unauthorized\\n\"");
    expect("nonsense", "no answer");
    expect("nonsense, kept", "HTTP/1.1 500 auth=None frame=None \"Internal Server Error\\n\"");
    expect("old password", "HTTP/2.0 401 auth=Some(\"Basic\") frame=None \"Unauthorized\\n\"");
    expect("new password", &good("HTTP/2.0"));
    expect("1.2 no more", "no answer");
    expect("after the certificate", "no answer");
    expect("after the certificate", &good("HTTP/2.0"));
    expect("RequireAndVerifyClientCert, known", &good("HTTP/1.1"));
    expect("RequireAndVerifyClientCert, stranger", "no answer");
    expect("RequireAndVerifyClientCert, client_allowed_sans: [a.test, 10.1.2.3], known", &good("HTTP/1.1"));
    expect("RequireAndVerifyClientCert, client_allowed_sans: [a.test], known", "no answer");
    expect("TLS is not switched off", "no answer");
    let Some(theirs_seen) = theirs_seen else { return };
    let compared =
        |line: &String| if has_http2 { line.clone() } else { line.replace("HTTP/2.0", "HTTP/1.1") };
    let differing: Vec<_> =
        seen.iter().zip(&theirs_seen).filter(|(a, b)| compared(a) != compared(b)).collect();
    assert!(differing.is_empty() && seen.len() == theirs_seen.len(), "ours, theirs: {differing:#?}");
}

#[test]
fn everything_is_behind_the_users_and_our_own_tools_get_in() {
    let ours = Authority::new("ours");
    // It scrapes itself through its own door.
    let home = Home::new(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
- job_name: itself
  file_sd_configs: [{files: [self.json], refresh_interval: 1s}]
  scheme: https
  tls_config: {ca_file: ca.pem}
  basic_auth: {username: alice, password: secret}
",
    );
    install(&home, "cert", &ours.sign(&["127.0.0.1"]));
    home.write("ca.pem", &ours.own.cert);
    home.write("alertmanager.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let am = format!("--alertmanager.config-file={}", home.path("alertmanager.yml").display());
    let web = format!("{TLS}}}\n{}", users(SECRET));
    let guarded =
        Guarded::start(home, Path::new(env!("CARGO_BIN_EXE_ferula")), &web, &[&am, "--web.enable-admin-api"]);
    let client = Client::new(&ours, None, &[&TLS13], &[]);
    for path in [
        "/metrics",
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/-/quit",
        "/version",
        "/",
        "/query",
        "/alerts",
        "/favicon.svg",
        "/assets/x.js",
        "/api/v1",
        "/api/v1/query?query=1",
        "/api/v1/write",
        "/api/v1/otlp/v1/metrics",
        "/api/v1/status/walreplay",
        "/api/v1/admin/tsdb/snapshot",
        "/api/v2/status",
        "/api/v2/silences",
        "/api/v2/nothing",
        "/alerts/act?t=x",
        "/federate",
        "/nothing",
        "/debug/pprof/",
    ] {
        let outcome = client.ask(&guarded.url(path), None);
        assert!(outcome.starts_with("HTTP/1.1 401 auth=Some(\"Basic\")"), "{path}: {outcome}");
    }
    let alice = Some(("alice", "secret"));
    for path in ["/api/v2/status", "/query", "/-/healthy"] {
        assert!(client.ask(&guarded.url(path), alice).starts_with("HTTP/1.1 200"), "{path}");
    }
    guarded.home.write("self.json", &format!("[{{\"targets\": [\"{}\"]}}]", guarded.address));
    guarded.home.write(
        "http.yml",
        "basic_auth: {username: alice, password: secret}\ntls_config: {ca_file: ca.pem}\n",
    );
    guarded
        .home
        .write("wrong.yml", "basic_auth: {username: alice, password: x}\ntls_config: {ca_file: ca.pem}\n");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferula"));
        let output = command.current_dir(guarded.home.path("")).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let url = format!("--url={}", guarded.url(""));
    let (is_good, said) = run(&["check", "healthy", "--http.config.file=http.yml", &url]);
    assert!(is_good && said.contains("SUCCESS"), "{said}");
    let (is_good, said) = run(&["check", "healthy", "--http.config.file=wrong.yml", &url]);
    assert!(!is_good && said.contains("status=401"), "{said}");
    let url = format!("--alertmanager.url={}", guarded.url(""));
    let add = ["silence", "add", "--comment=c", "--author=me", "a=b"];
    let (is_good, said) = run(&[&["am", "--http.config.file=http.yml", url.as_str()][..], &add[..]].concat());
    assert!(is_good, "{said}");
    let (is_good, said) = run(&["am", "--http.config.file=http.yml", &url, "silence", "query"]);
    assert!(is_good && said.contains("a=\"b\""), "{said}");
    let (is_good, _) = run(&[&["am", "--http.config.file=wrong.yml", url.as_str()][..], &add[..]].concat());
    assert!(!is_good);
    until_true("the server to scrape itself", || {
        let query = guarded.url("/api/v1/query?query=up%7Bjob%3D%22itself%22%7D%3D%3D1");
        let asked = client.0.get(query).basic_auth("alice", Some("secret"));
        let body = RUNTIME.block_on(async { asked.send().await.unwrap().text().await.unwrap() });
        body.contains("\"itself\"")
    });
    // Neither password nor hash nor key is to be seen.
    let key = std::fs::read_to_string(guarded.home.path("cert.key")).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    for path in ["/api/v1/status/config", "/api/v1/status/flags", "/metrics", "/api/v1/targets"] {
        let asked = client.0.get(guarded.url(path)).basic_auth("alice", Some("secret"));
        let body = RUNTIME.block_on(async { asked.send().await.unwrap().text().await.unwrap() });
        for hidden in ["password: secret", "$2b$", key_line] {
            assert!(!body.contains(hidden), "{path} shows {hidden}");
        }
    }
    for hidden in ["secret", "$2b$", key_line] {
        assert!(!guarded.process.log().contains(hidden), "the log shows {hidden}");
    }
}

#[test]
fn what_cannot_be_served_by_ends_the_start() {
    let (ours, stranger) = (Authority::new("ours"), Authority::new("other"));
    for (web, expected) in [
        ("nonsense: 1\n", "field nonsense not found in type web.Config"),
        ("basic_auth_users: {a: plain}\n", "crypto/bcrypt: hashedSecret too short to be a bcrypted password"),
        ("tls_server_config: {cert_file: cert.pem}\n", "missing one of key or key_file"),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: other.key}\n",
            "failed to load X509KeyPair: tls: private key does not match public key",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: cert.key, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}\n",
            "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher",
        ),
    ] {
        let home = Home::new("{}");
        install(&home, "cert", &ours.sign(&["127.0.0.1"]));
        install(&home, "other", &stranger.sign(&["127.0.0.1"]));
        home.write("web.yml", web);
        let mut command = home.command(&[&format!("--web.config.file={}", home.path("web.yml").display())]);
        let mut process = Process::spawn("a server that does not start", &mut command);
        assert_eq!(process.wait().code(), Some(1), "{web}");
        until(&format!("{expected:?} to be logged"), || process.logged(expected));
    }
}

#[test]
fn slow_clients_and_guessers_do_not_keep_others_out() {
    // Of `fakepassword`, at a price.
    let dear = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
    let home = Home::new("{}");
    let server = Guarded::start(
        home,
        Path::new(env!("CARGO_BIN_EXE_ferula")),
        &users(dear),
        &["--web.read-timeout=1m"],
    );
    let slow = |request: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let password = "Authorization: Basic YWxpY2U6ZmFrZXBhc3N3b3Jk\r\n";
    let ask = || {
        let mut stream =
            slow(&format!("GET /-/healthy HTTP/1.1\r\nHost: a\r\n{password}Connection: close\r\n\r\n"));
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    };
    ask();
    let hanging: Vec<TcpStream> = (0..480)
        .map(|i| match i % 3 {
            0 => slow(""),
            1 => slow("GET /-/healthy HTTP/1.1\r\nHo"),
            _ => slow(&format!(
                "POST /api/v1/query HTTP/1.1\r\nHost: a\r\n{password}Content-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: 100\r\n\r\nquery="
            )),
        })
        .collect();
    // Each costs a core a good part of a second, one after the other.
    let guessing: Vec<TcpStream> = (0..20)
        .map(|i| {
            slow(&format!(
                "GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {}\r\nConnection: close\r\n\r\n",
                ["YTpi", "YTpj", "YTpk", "YTpl"][i % 4]
            ))
        })
        .collect();
    (0..20).for_each(|_| ask());
    for mut stream in guessing {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{heard}");
    }
    ask();
    drop(hanging);
}

#[test]
fn pages_of_others_change_nothing() {
    let home = Home::new("{}");
    home.write("alertmanager.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let am = format!("--alertmanager.config-file={}", home.path("alertmanager.yml").display());
    let mut command = home.command(&[
        &am,
        "--web.enable-admin-api",
        "--web.external-url=https://mon.example.com/prom/",
        "--web.cors.origin=https://ops[.]example[.]com",
    ]);
    let mut server = Server::start("ferula", &mut command, "/prom/-/ready");
    let root = "/prom";
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let url = format!("{}{root}{path}", server.url);
        let mut request = process::CLIENT.request(method.parse().unwrap(), url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        RUNTIME.block_on(async { request.send().await.unwrap().status().as_u16() })
    };
    let json = ("Content-Type", "application/json");
    let silence = "{\"matchers\":[{\"name\":\"a\",\"value\":\"b\",\"isRegex\":false}],\"startsAt\":\"2050-01-01T00:00:00Z\",\
                   \"endsAt\":\"2050-01-02T00:00:00Z\",\"createdBy\":\"me\",\"comment\":\"c\"}";
    let changes: [(&str, &str, &[(&str, &str)], &str); 8] = [
        ("POST", "/-/reload", &[], ""),
        ("PUT", "/-/reload", &[], ""),
        ("POST", "/api/v1/admin/tsdb/clean_tombstones", &[], ""),
        ("PUT", "/api/v1/admin/tsdb/snapshot", &[], ""),
        ("POST", "/api/v1/admin/tsdb/delete_series?match[]=nothing", &[], ""),
        ("POST", "/api/v2/silences", &[json], silence),
        ("POST", "/api/v2/alerts", &[json], "[{\"labels\":{\"a\":\"b\"}}]"),
        ("POST", "/alerts/act", &[], "t=x"),
    ];
    for (method, path, headers, body) in changes {
        let with = |more: &[(&str, &str)]| send(method, path, &[headers, more].concat(), body);
        // A token that is not ours is refused whoever shows it.
        let plain = with(&[]);
        assert!(plain < 300 || path == "/alerts/act", "{path}: {plain}");
        let own = format!("http://{}", server.address());
        for (origin, site, expected) in [
            ("http://evil.example", None, 403),
            ("null", None, 403),
            ("http://evil.example", Some("cross-site"), 403),
            ("https://other.example.com", Some("same-site"), 403),
            (own.as_str(), None, plain),
            (own.as_str(), Some("same-origin"), plain),
            ("https://mon.example.com", Some("cross-site"), plain),
            ("https://ops.example.com", Some("cross-site"), plain),
        ] {
            let mut more = vec![("Origin", origin)];
            more.extend(site.map(|site| ("Sec-Fetch-Site", site)));
            assert_eq!(with(&more), expected, "{method} {path} from {origin} {site:?}");
        }
    }
    let evil = [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")];
    let form = [&evil[..], &[("Content-Type", "application/x-www-form-urlencoded")]].concat();
    assert_eq!(send("POST", "/api/v1/query", &form, "query=1"), 200);
    assert_eq!(send("GET", "/api/v2/silences", &evil, ""), 200);
    assert_eq!(send("DELETE", "/api/v2/silence/00000000-0000-0000-0000-000000000000", &evil, ""), 403);
    assert_eq!(send("DELETE", "/api/v2/silence/00000000-0000-0000-0000-000000000000", &[], ""), 404);
    assert_eq!(send("POST", "/-/quit", &evil, ""), 403);
    assert_eq!(send("POST", "/-/quit", &[], ""), 200);
    assert!(server.process.wait().success());
}
