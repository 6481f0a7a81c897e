//! One request over a connection of its own, and what comes back in a shape to be compared and stored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Only those that [`HEADERS`] names.
    pub(super) headers: BTreeMap<String, String>,
    /// Decompressed; in hexadecimal where it is no text.
    pub(super) body: String,
}

/// The headers that are compared.
const HEADERS: [&str; 16] = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "allow",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-type",
    "location",
    "vary",
    "x-content-type-options",
    "x-prometheus-remote-write-exemplars-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-stopping",
];

pub(super) fn send(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: &[u8],
    events: Option<usize>,
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: compat.example\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if method == "POST" || method == "PUT" {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        }
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    let mut request = format!("{head}\r\n").into_bytes();
    request.extend_from_slice(body);
    // A server may answer, and hang up, before it has read all of a body.
    let _ = stream.write_all(&request);
    let mut raw = Vec::new();
    let read = match events {
        Some(wanted) => read_events(&mut stream, &mut raw, wanted),
        None => stream.read_to_end(&mut raw).map(|_| ()),
    };
    let Some(split) = raw.windows(4).position(|w| w == b"\r\n\r\n") else {
        read?;
        return Err(std::io::Error::other("no head"));
    };
    let head = String::from_utf8_lossy(&raw[..split]).into_owned();
    let mut body = raw[split + 4..].to_vec();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
    let all: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let has = |name: &str, value: &str| all.iter().any(|(n, v)| n == name && v == value);
    if has("transfer-encoding", "chunked") {
        body = unchunk(&body);
    }
    if has("content-encoding", "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
        body = plain;
    } else if has("content-encoding", "deflate") {
        let mut plain = Vec::new();
        flate2::read::ZlibDecoder::new(body.as_slice()).read_to_end(&mut plain)?;
        body = plain;
    } else if has("content-encoding", "snappy") {
        body = snap::raw::Decoder::new().decompress_vec(&body).map_err(std::io::Error::other)?;
    }
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in all.into_iter().filter(|(name, _)| HEADERS.contains(&name.as_str())) {
        match headers.entry(name) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().push_str(" + ");
                entry.get_mut().push_str(&value);
            }
        }
    }
    // Upstream's order is that of its layers; a list of headers has none.
    if let Some(vary) = headers.get_mut("vary") {
        let mut names: Vec<_> = vary.split([',', '+']).map(|name| name.trim().to_ascii_lowercase()).collect();
        names.sort();
        *vary = names.join(", ");
    }
    let body = String::from_utf8(body).unwrap_or_else(|e| {
        e.as_bytes().iter().fold("hex:".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    });
    Ok(Reply { status, headers, body })
}

/// Reads a head and `wanted` events behind it, of a stream that does not end by itself.
fn read_events(stream: &mut TcpStream, raw: &mut Vec<u8>, wanted: usize) -> std::io::Result<()> {
    let mut part = [0; 4096];
    loop {
        let is_enough = raw.windows(4).position(|w| w == b"\r\n\r\n").is_some_and(|split| {
            unchunk(&raw[split + 4..]).windows(2).filter(|w| w == b"\n\n").count() >= wanted
        });
        if is_enough {
            return Ok(());
        }
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Ok(());
        }
        raw.extend_from_slice(&part[..n]);
    }
}

/// What is in the chunks that are there as a whole.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if rest.len() < end + 2 + size + 2 {
            break;
        }
        out.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    out
}

impl Reply {
    /// What is told of a server that does not answer; no server's answer is equal to it.
    pub(super) fn none(error: &std::io::Error) -> Self {
        Self { status: 0, headers: BTreeMap::new(), body: format!("no answer: {error}") }
    }

    /// Takes the values of the JSON key, or of the header, `key` out of the comparison.
    pub(super) fn mask(&mut self, key: &str) {
        self.headers.remove(key);
        self.body = rewritten(&self.body, key, Some("\"MASKED\""));
    }

    /// Forgets that the answer depends on the encoding asked for, which 3.5 does not say.
    pub(super) fn forget_encoding(&mut self) {
        let Some(vary) = self.headers.remove("vary") else { return };
        let rest: Vec<_> = vary.split(", ").filter(|name| *name != "accept-encoding").collect();
        if !rest.is_empty() {
            self.headers.insert("vary".to_owned(), rest.join(", "));
        }
    }

    /// Takes the JSON key `key` out of the comparison with its values.
    pub(super) fn drop_key(&mut self, key: &str) {
        self.body = rewritten(&self.body, key, None);
    }

    /// Sorts the elements of the JSON lists under `key`, which are otherwise left as they are.
    pub(super) fn sort(&mut self, key: &str) {
        let key = format!("\"{key}\":[");
        let (mut out, mut rest) = (String::new(), self.body.as_str());
        while let Some(i) = rest.find(&key) {
            let (before, list) = rest.split_at(i + key.len());
            out.push_str(before);
            let (mut elements, mut at) = (Vec::new(), 0);
            while !list[at..].starts_with(']') && at < list.len() {
                let length = value_length(&list[at..]);
                elements.push(&list[at..at + length]);
                at += length + usize::from(list[at + length..].starts_with(','));
            }
            elements.sort_unstable();
            out.push_str(&elements.join(","));
            rest = &list[at..];
        }
        self.body = out + rest;
    }

    /// Replaces what looks like the time of a sample in text: an integer of 13 digits.
    pub(super) fn mask_stamps(&mut self) {
        let mut out = String::with_capacity(self.body.len());
        let mut rest = self.body.as_str();
        while let Some(from) = rest.find(|c: char| c.is_ascii_digit()) {
            let digits = rest[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - from);
            out.push_str(&rest[..from]);
            out.push_str(if digits == 13 { "STAMP" } else { &rest[from..from + digits] });
            rest = &rest[from + digits..];
        }
        self.body = out + rest;
    }

    /// Gives addresses and folders of this run the names they have in every run.
    pub(super) fn rename(&mut self, names: &[(String, String)]) {
        for (from, to) in names {
            self.body = self.body.replace(from, to);
            for value in self.headers.values_mut() {
                *value = value.replace(from, to);
            }
        }
    }
}

/// How long the JSON value is with which `text` begins.
fn value_length(text: &str) -> usize {
    let (mut depth, mut in_string, mut is_escaped) = (0_i32, false, false);
    for (i, c) in text.char_indices() {
        if in_string {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => {
                    in_string = false;
                    if depth == 0 {
                        return i + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            '}' | ']' | ',' if depth == 0 => return i,
            '}' | ']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// `text` with the values of the JSON key `key` replaced, or taken out with the key.
fn rewritten(text: &str, key: &str, with: Option<&str>) -> String {
    let key = format!("\"{key}\":");
    let (mut out, mut rest) = (String::new(), text);
    while let Some(i) = rest.find(&key) {
        let (before, after) = (&rest[..i], &rest[i + key.len()..]);
        let spaces = after.len() - after.trim_start().len();
        let end = spaces + value_length(&after[spaces..]);
        rest = &after[end..];
        out.push_str(before);
        match with {
            Some(with) => {
                out.push_str(&key);
                out.push_str(with);
            }
            // The comma goes with the key, before it if there is none behind it.
            None => match rest.strip_prefix(',') {
                Some(behind) => rest = behind,
                None if out.ends_with(',') => {
                    out.pop();
                }
                None => {}
            },
        }
    }
    out + rest
}

/// Where two answers part, with some context.
pub(super) fn describe(theirs: &Reply, ours: &Reply) -> String {
    let mut out = String::new();
    if theirs.status != ours.status {
        write!(out, "\n    status: {} there, {} here", theirs.status, ours.status).unwrap();
    }
    if theirs.headers != ours.headers {
        write!(out, "\n    headers there: {:?}\n    headers here:  {:?}", theirs.headers, ours.headers)
            .unwrap();
    }
    if theirs.body != ours.body {
        let common = theirs.body.bytes().zip(ours.body.bytes()).take_while(|(a, b)| a == b).count();
        let part = |text: &str| {
            let from = text.floor_char_boundary(common.saturating_sub(80));
            text[from..].chars().take(340).collect::<String>()
        };
        write!(out, "\n    body there: …{:?}\n    body here:  …{:?}", part(&theirs.body), part(&ours.body))
            .unwrap();
    }
    out
}

#[test]
fn what_may_differ_is_masked_and_nothing_else() {
    let reply = |body: &str| Reply { status: 200, headers: BTreeMap::new(), body: body.to_owned() };
    let mut one = reply(r#"{"a":{"x":[1,"]"],"y":2},"b":[{"a":"q\"}"}],"c":1}"#);
    one.mask("a");
    assert_eq!(one.body, r#"{"a":"MASKED","b":[{"a":"MASKED"}],"c":1}"#);
    one.drop_key("c");
    assert_eq!(one.body, r#"{"a":"MASKED","b":[{"a":"MASKED"}]}"#);
    one.drop_key("a");
    assert_eq!(one.body, r#"{"b":[{}]}"#);
    let mut list = reply(r#"{"l":[{"b":[2,1]},"a,]",{"a":1}],"m":[3,1,2],"l":[]}"#);
    list.sort("l");
    assert_eq!(list.body, r#"{"l":["a,]",{"a":1},{"b":[2,1]}],"m":[3,1,2],"l":[]}"#);
    let mut text = reply("up 1 1735689600000\nn 12345678901234 1.5\n");
    text.mask_stamps();
    assert_eq!(text.body, "up 1 STAMP\nn 12345678901234 1.5\n");
}
