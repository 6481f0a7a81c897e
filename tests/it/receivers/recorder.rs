//! An HTTP server that stands in for every service which receivers tell, answers as they do and keeps what it was told.
//!
//! It is a proxy as well: connections to hosts that it is asked for end here, so that services whose address is not
//! configurable are recorded, too.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What somebody asked.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// `slack.com` of a request that was tunnelled; empty for the recorder itself.
    pub(super) host: String,
    /// With its query.
    pub(super) target: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    last: Option<Instant>,
    /// Labels of the issues that were created, by the address of the service.
    issues: HashSet<(String, String)>,
    /// Targets that have failed once.
    failed: HashSet<String>,
}

/// The server, until it is dropped.
pub(super) struct Recorder {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    is_stopped: Arc<AtomicBool>,
}

impl Recorder {
    /// `tls` is shown to those who tunnel.
    pub(super) fn start(tls: &Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (state, is_stopped) = (Arc::<Mutex<State>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, stopped, tls) = (Arc::clone(&state), Arc::clone(&is_stopped), Arc::clone(tls));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (state, tls) = (Arc::clone(&shared), Arc::clone(&tls));
                // A peer that hangs up is no concern of ours.
                thread::spawn(move || serve(stream, &tls, &state));
            }
        });
        Self { address, state, is_stopped }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What has been seen so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// How many requests there were, and when the last came.
    pub(super) fn activity(&self) -> (usize, Option<Instant>) {
        let state = self.state.lock().unwrap();
        (state.seen.len(), state.last)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // Wakes the listener up, so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, tls: &Arc<ServerConfig>, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader, "") {
        if seen.method == "CONNECT" {
            let host = seen.target.split(':').next().unwrap_or_default().to_owned();
            if reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_err() {
                return;
            }
            let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(connection, reader.into_inner()));
            while let Some(seen) = read(&mut reader, &host) {
                let answer = note(seen, state);
                if reader.get_mut().write_all(&answer).and_then(|()| reader.get_mut().flush()).is_err() {
                    return;
                }
            }
            return;
        }
        let answer = note(seen, state);
        if reader.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

fn read<S: Read>(reader: &mut BufReader<S>, host: &str) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    assert!(!headers.contains_key("transfer-encoding"), "{target} is sent in pieces");
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, host: host.to_owned(), target, headers, body })
}

/// Keeps the request; the bytes of the answer.
fn note(seen: Seen, state: &Mutex<State>) -> Vec<u8> {
    let mut state = state.lock().unwrap();
    let (status, kind, body) = answer(&seen, &mut state);
    state.seen.push(seen);
    state.last = Some(Instant::now());
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    (head + &body).into_bytes()
}

fn of_json(value: &Value) -> (u16, &'static str, String) {
    (200, "application/json", value.to_string())
}

/// As the service does.
fn answer(seen: &Seen, state: &mut State) -> (u16, &'static str, String) {
    let path = seen.target.split('?').next().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/fail/") {
        // What comes before that which is to fail.
        if path.ends_with("/gettoken") {
            return of_json(&json!({"errcode": 0, "errmsg": "ok", "access_token": "token"}));
        }
        if state.failed.insert(path.to_owned()) {
            return failure(rest);
        }
        return success(
            seen,
            path.rsplit("/fail/").next().unwrap_or_default().split_once('/').unwrap().1,
            state,
        );
    }
    success(seen, path.trim_start_matches('/'), state)
}

fn success(seen: &Seen, path: &str, state: &mut State) -> (u16, &'static str, String) {
    match path.split('/').next().unwrap_or_default() {
        "api" if seen.host == "slack.com" => {
            // A message keeps the name that it got when it was new; the bodies are the same whoever asks.
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            let ts = body["ts"].as_str().map_or_else(|| format!("{}.1", digest(&seen.body)), str::to_owned);
            of_json(&json!({"ok": true, "channel": "C1", "ts": ts}))
        }
        "slack" => (200, "text/html", "ok".to_owned()),
        "telegram" => of_json(&json!({"ok": true, "result": {"message_id": 1, "chat": {"id": 1}}})),
        "sns" => {
            let xml =
                "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
            (200, "text/xml", xml.to_owned())
        }
        "wechat" if path.ends_with("/gettoken") => {
            of_json(&json!({"errcode": 0, "errmsg": "ok", "access_token": "to/ken"}))
        }
        "wechat" => of_json(&json!({"errcode": 0, "errmsg": "ok"})),
        "rocketchat" => of_json(&json!({"success": true})),
        "jira" => jira(seen, path, state),
        _ => (200, "text/plain", String::new()),
    }
}

/// Knows the issues that were created.
fn jira(seen: &Seen, path: &str, state: &mut State) -> (u16, &'static str, String) {
    let service = path.split('/').take(2).collect::<Vec<_>>().join("/");
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    match (seen.method.as_str(), path.rsplit('/').next().unwrap_or_default()) {
        ("POST", "search" | "jql") => {
            let jql = body["jql"].as_str().unwrap();
            let label = jql.split("labels=\"").nth(1).unwrap().split('"').next().unwrap();
            let is_known = state.issues.contains(&(service, label.to_owned()));
            let status = json!({"name": "Open", "statusCategory": {"key": "new"}});
            let issue = json!({"key": "OPS-1", "fields": {"status": status}});
            of_json(&json!({"issues": if is_known { vec![issue] } else { Vec::new() }}))
        }
        ("POST", "issue") => {
            let labels = body["fields"]["labels"].as_array().unwrap();
            let label = labels.iter().filter_map(Value::as_str).find(|label| label.starts_with("ALERT{"));
            state.issues.insert((service, label.unwrap().to_owned()));
            of_json(&json!({"key": "OPS-1"}))
        }
        ("GET", "transitions") => {
            of_json(&json!({"transitions": [{"id": "11", "name": "Reopen"}, {"id": "31", "name": "Done"}]}))
        }
        _ => (204, "text/plain", String::new()),
    }
}

/// `429/pagerduty`: with this status, in the words of that service.
fn failure(rest: &str) -> (u16, &'static str, String) {
    let (status, service) = rest.split_once('/').unwrap();
    let mark = format!("why-{}", rest.replace('/', "-"));
    let (kind, body) = match service.split('/').next().unwrap_or_default() {
        "slack" if service.ends_with("json") => ("application/json", json!({"ok": false, "error": mark})),
        "slack" if service.ends_with("broken") => return (200, "application/json", format!("{{{mark}")),
        "pagerduty" | "incidentio" => {
            ("application/json", json!({"status": "invalid", "message": mark, "errors": ["one", "two"]}))
        }
        "telegram" => {
            let code: u16 = status.parse().unwrap();
            ("application/json", json!({"ok": false, "error_code": code, "description": mark}))
        }
        "sns" => {
            let error =
                format!("<Error><Type>Sender</Type><Code>InvalidX</Code><Message>{mark}</Message></Error>");
            return (
                403,
                "text/xml",
                format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"),
            );
        }
        "wechat" if service.contains("expired") => {
            ("application/json", json!({"errcode": 42001, "errmsg": mark}))
        }
        "wechat" => ("application/json", json!({"errcode": 81013, "errmsg": mark})),
        "rocketchat" => ("application/json", json!({"success": false, "error": mark})),
        _ => return (status.parse().unwrap(), "text/plain", mark),
    };
    (status.parse().unwrap(), kind, body.to_string())
}

/// A short name for some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hash.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
