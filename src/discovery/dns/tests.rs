//! DNS discovery against dnsmasq, a real server; and one of the test's own that fails as no real one can be told to.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::prometheus::{DnsDiscovery, DnsRecordType};

use super::super::metrics::Metrics;
use super::super::refresh::{Answer, Source as _};
use super::super::testing::shown;
use super::{Record, Source, group};

/// The records of the test: two zones, aliases, more addresses than a datagram of EDNS0 holds.
fn records() -> Vec<String> {
    let mut lines: Vec<String> = [
        "srv-host=_web._tcp.example.test,web-1.example.test,8080,1,10",
        "srv-host=_web._tcp.example.test,web-2.example.test,8081,2,20",
        "host-record=web-1.example.test,192.0.2.1,2001:db8::1",
        "host-record=web-2.example.test,192.0.2.2",
        "host-record=both.example.test,192.0.2.3",
        "host-record=both.inner.test,192.0.2.4",
        "cname=alias.example.test,web-1.example.test",
        "mx-host=example.test,mail.example.test,10",
        // NS as bytes: dnsmasq has it for zones of its own only.
        "dns-rr=example.test,2,036e7331076578616d706c65047465737400",
        "txt-record=text.inner.test,no address",
        "host-record=text.example.test,192.0.2.5",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.extend((0..300).map(|i| format!("host-record=many.example.test,10.1.{}.{}", i / 250, i % 250 + 1)));
    lines
}

struct Dnsmasq {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dnsmasq {
    /// `None`, with a word about it, where there is no dnsmasq.
    fn start(test: &str) -> Option<Self> {
        let places = ["/usr/sbin/dnsmasq", "/usr/local/sbin/dnsmasq", "/sbin/dnsmasq"];
        let Some(program) = places.iter().find(|path| std::path::Path::new(path).exists()) else {
            let line = format!("SKIPPED discovery::dns::{test}: no dnsmasq (`make dns` installs it)\n");
            // Not `println!`: what that says of a test that passes nobody gets to see.
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // A port that is free for both at this moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let fixed = [
            "no-resolv",
            "domain-needed",
            "no-hosts",
            "no-dhcp-interface=lo",
            "bind-interfaces",
            "listen-address=127.0.0.1",
            "local=/test/",
            "keep-in-foreground",
            "edns-packet-max=1232",
            "log-facility=-",
        ];
        let text =
            fixed.iter().map(|line| (*line).to_owned()).chain(records()).collect::<Vec<_>>().join("\n");
        std::fs::write(folder.path().join("dnsmasq.conf"), format!("{text}\nport={port}\n")).unwrap();
        let child = Command::new(program)
            .arg(format!("--conf-file={}", folder.path().join("dnsmasq.conf").display()))
            .arg("--pid-file=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, folder, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "dnsmasq does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn source(&self, names: &[&str], record_type: DnsRecordType, resolv_conf: &str) -> Source {
        let path = self.folder.path().join(format!("resolv-{}.conf", fastrand::u64(..)));
        std::fs::write(&path, format!("nameserver 127.0.0.1\n{resolv_conf}\n")).unwrap();
        source(names, record_type, path, self.port)
    }
}

fn source(names: &[&str], record_type: DnsRecordType, resolv_conf: PathBuf, port: u16) -> Source {
    let section = DnsDiscovery {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        record_type,
        port: Some(9100),
        refresh_interval: Duration::from_secs(30),
    };
    Source::with(section, Arc::new(Metrics::new("scrape")), resolv_conf, port)
}

fn lines(answer: &Answer) -> Vec<String> {
    let mut lines = shown(&answer.groups);
    lines.sort();
    lines
}

#[tokio::test]
async fn every_type_of_record() {
    let Some(server) = Dnsmasq::start("every_type_of_record") else { return };
    let check = async |names: &[&str], record_type, expected: &[&str]| {
        let source = server.source(names, record_type, "");
        let answer = source.refresh().await.unwrap();
        assert!(answer.failed.is_empty(), "{:?}", answer.failed);
        assert_eq!(lines(&answer), expected);
        assert_eq!(source.metrics.dns_lookups.get(), names.len() as u64);
        assert_eq!(source.metrics.dns_lookup_failures.get(), 0);
    };
    let name = "_web._tcp.example.test";
    check(&[name], DnsRecordType::Srv, &[
        r#"_web._tcp.example.test: {__address__="web-1.example.test:8080", __meta_dns_name="_web._tcp.example.test", __meta_dns_srv_record_port="8080", __meta_dns_srv_record_target="web-1.example.test."}"#,
        r#"_web._tcp.example.test: {__address__="web-2.example.test:8081", __meta_dns_name="_web._tcp.example.test", __meta_dns_srv_record_port="8081", __meta_dns_srv_record_target="web-2.example.test."}"#,
    ]).await;
    check(
        &["web-1.example.test", "web-2.example.test."],
        DnsRecordType::A,
        &[
            r#"web-1.example.test: {__address__="192.0.2.1:9100", __meta_dns_name="web-1.example.test"}"#,
            r#"web-2.example.test.: {__address__="192.0.2.2:9100", __meta_dns_name="web-2.example.test."}"#,
        ],
    )
    .await;
    // An alias stands beside the answer; a name without records of the type, and one that does not exist, are empty.
    check(
        &["alias.example.test"],
        DnsRecordType::A,
        &[r#"alias.example.test: {__address__="192.0.2.1:9100", __meta_dns_name="alias.example.test"}"#],
    )
    .await;
    check(
        &["web-1.example.test", "web-2.example.test", "no.example.test"],
        DnsRecordType::Aaaa,
        &[
            "no.example.test: none",
            r#"web-1.example.test: {__address__="[2001:db8::1]:9100", __meta_dns_name="web-1.example.test"}"#,
            "web-2.example.test: none",
        ],
    )
    .await;
    check(&["example.test"], DnsRecordType::Mx, &[
        r#"example.test: {__address__="mail.example.test:9100", __meta_dns_mx_record_target="mail.example.test.", __meta_dns_name="example.test"}"#,
    ]).await;
    check(&["example.test"], DnsRecordType::Ns, &[
        r#"example.test: {__address__="ns1.example.test:9100", __meta_dns_name="example.test", __meta_dns_ns_record_target="ns1.example.test."}"#,
    ]).await;
}

#[tokio::test]
async fn answers_that_do_not_fit_a_datagram_come_over_tcp() {
    let Some(server) = Dnsmasq::start("answers_that_do_not_fit_a_datagram_come_over_tcp") else { return };
    let answer = server.source(&["many.example.test"], DnsRecordType::A, "").refresh().await.unwrap();
    assert_eq!(lines(&answer).len(), 300);
}

#[tokio::test]
async fn the_search_list_is_walked_as_upstream_walks_it() {
    let Some(server) = Dnsmasq::start("the_search_list_is_walked_as_upstream_walks_it") else { return };
    let ask = async |name: &str, resolv_conf: &str| {
        let answer = server.source(&[name], DnsRecordType::A, resolv_conf).refresh().await.unwrap();
        assert!(answer.failed.is_empty(), "{:?}", answer.failed);
        let lines = lines(&answer);
        lines[0].split('"').nth(1).unwrap_or("none").to_owned()
    };
    assert_eq!(ask("both", "search none.test inner.test example.test").await, "192.0.2.4:9100");
    assert_eq!(ask("both", "search example.test inner.test").await, "192.0.2.3:9100");
    assert_eq!(ask("both.", "search example.test").await, "none", "a final dot ends the name");
    assert_eq!(ask("both.inner", "search test").await, "192.0.2.4:9100");
    assert_eq!(ask("both.inner", "search test\noptions ndots:5").await, "192.0.2.4:9100");
    // It exists in the first domain, without an address: that is the answer.
    assert_eq!(ask("text", "search inner.test example.test").await, "none");
    assert_eq!(ask("nowhere", "search inner.test example.test").await, "none");
}

/// The file is looked at before every refresh.
#[tokio::test]
async fn a_change_of_the_search_list_needs_no_reload() {
    let Some(server) = Dnsmasq::start("a_change_of_the_search_list_needs_no_reload") else { return };
    let source = server.source(&["both"], DnsRecordType::A, "search inner.test");
    assert!(lines(&source.refresh().await.unwrap())[0].contains("192.0.2.4"));
    std::fs::write(&source.resolv_conf, "nameserver 127.0.0.1\nsearch example.test\n").unwrap();
    assert!(lines(&source.refresh().await.unwrap())[0].contains("192.0.2.3"));
    std::fs::write(&source.resolv_conf, "search example.test\n").unwrap();
    let error = source.refresh().await.unwrap_err().to_string();
    assert!(error.starts_with("could not load ") && error.contains("no nameservers"), "{error}");
}

/// A server that answers with `code` for names that contain `bad`, and "no such name" for others.
fn failing(code: u8) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let listener = TcpListener::bind(("127.0.0.1", port));
    std::thread::spawn(move || {
        // Nobody is served over TCP, but connections need not be refused either.
        let _listener = listener;
        let mut packet = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut packet) {
            let is_bad = packet[..n].windows(3).any(|part| part == b"bad");
            // The question comes back as an answer without records: header, name, type, class.
            let question = packet[12..n].iter().position(|&b| b == 0).map_or(n, |i| 12 + i + 5);
            let mut answer = packet[..question.min(n)].to_vec();
            answer[2] |= 0x80;
            answer[3] = 0x80 | if is_bad { code } else { 3 };
            answer[6..12].fill(0);
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
    port
}

#[tokio::test]
async fn a_failing_name_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    // SERVFAIL and REFUSED.
    for code in [2, 5] {
        let source =
            source(&["bad.test", "good.test"], DnsRecordType::Srv, resolv_conf.clone(), failing(code));
        let answer = source.refresh().await.unwrap();
        assert_eq!(lines(&answer), ["good.test: none"]);
        let error = answer.failed["bad.test"].to_string();
        let expected = "could not resolve \"bad.test\": all servers responded with errors to at least one search domain: ";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!((source.metrics.dns_lookups.get(), source.metrics.dns_lookup_failures.get()), (2, 1));
        // Failing for one domain of the search list and unknown in the other is no "no such name".
        std::fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch bad.test\noptions timeout:1 attempts:1\n")
            .unwrap();
        let answer = source.refresh().await.unwrap();
        assert_eq!(answer.failed.len(), 2, "{answer:?}");
        std::fs::write(&resolv_conf, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    }
    // Nobody is there at all.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let answer = source(&["a.test"], DnsRecordType::A, resolv_conf, port).refresh().await.unwrap();
    assert_eq!(answer.failed.len(), 1, "{answer:?}");
}

#[test]
fn records_become_targets() {
    let records = [
        Record::Address("::1".parse().unwrap()),
        Record::Mx { target: ".".to_owned() },
        Record::Srv { target: "a.b..".to_owned(), port: 0 },
    ];
    let shown: Vec<String> = group("n", 80, &records)
        .targets
        .iter()
        .map(|t| String::from_utf8_lossy(t.get(b"__address__").unwrap()).into_owned())
        .collect();
    assert_eq!(shown, ["[::1]:80", ":80", "a.b:0"]);
}
