//! `tests/compat/*.yaml`: groups of requests, by the status with which each is answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

/// Files of the folder that hold no scenarios.
const OTHERS: [&str; 3] = ["differences", "differences-3.5", "endpoints"];

/// A group of requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// The path.
    on: String,
    #[serde(default)]
    method: Option<String>,
    /// Which of the servers.
    #[serde(default)]
    server: Server,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Parameters of all requests of the group.
    #[serde(default)]
    all: BTreeMap<String, Values>,
    /// The body of all requests of the group, as it is.
    #[serde(default)]
    payload: Option<String>,
    /// The same in base64.
    #[serde(default)]
    payload_base64: Option<String>,
    /// Keys of JSON objects, or names of headers, whose values may differ.
    #[serde(default)]
    mask: Vec<String>,
    /// Keys of JSON objects that only one of the servers has.
    #[serde(default)]
    drop: Vec<String>,
    /// Keys of JSON lists that have no order.
    #[serde(default)]
    unordered: Vec<String>,
    /// Integers of 13 digits are times of this run.
    #[serde(default)]
    stamps: bool,
    /// The body is long, and not ours to keep: only its digest is compared.
    #[serde(default)]
    digest: bool,
    /// The answer is a stream of events without end, of which this many are awaited.
    #[serde(default)]
    events: Option<usize>,
    /// What the configuration file of the server says from before the request on.
    #[serde(default)]
    config: Option<String>,
    /// The answer depends on more than the fixed data: only comparable with a peer at hand.
    #[serde(default)]
    live: bool,
    /// What the bodies of all answers say, beyond being those recorded.
    #[serde(default)]
    says: Option<String>,
    /// Headers of all answers, likewise.
    #[serde(default)]
    says_headers: BTreeMap<String, String>,
    /// Status of the answer -> parameters of each request.
    answers: BTreeMap<u16, Vec<BTreeMap<String, Values>>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Server {
    /// As users start it, with the fixed data, targets and rules.
    #[default]
    Plain,
    /// With an external URL that has a path, and the series of a server that scraped itself.
    Prefixed,
    /// With the fixed data and everything that a flag must allow.
    Open,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Values {
    One(String),
    Many(Vec<String>),
}

pub(super) struct Case {
    /// Names the request in recordings and messages.
    pub(super) name: String,
    /// The file that has it, without its extension.
    pub(super) file: String,
    pub(super) server: Server,
    pub(super) method: String,
    pub(super) path: String,
    /// Parameters, those of the body with the others.
    pub(super) params: Vec<(String, String)>,
    pub(super) target: String,
    pub(super) body: Vec<u8>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) mask: Vec<String>,
    pub(super) drop: Vec<String>,
    pub(super) unordered: Vec<String>,
    pub(super) stamps: bool,
    pub(super) digest: bool,
    pub(super) events: Option<usize>,
    pub(super) config: Option<String>,
    pub(super) live: bool,
    pub(super) status: u16,
    pub(super) says: Option<String>,
    pub(super) says_headers: BTreeMap<String, String>,
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// The file `name` of the folder.
pub(super) fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All requests; `now` stands for the end of the live data, in seconds.
pub(super) fn cases(now: &str) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .filter(|name| !OTHERS.contains(&name.as_str()))
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for file in files {
        let groups: Vec<Group> = read(&format!("{file}.yaml"));
        for group in groups {
            assert!(!group.answers.is_empty(), "{file}: {} is asked nothing", group.on);
            for (status, asks) in &group.answers {
                for ask in asks {
                    let case = case(&file, &group, *status, ask, now);
                    assert!(names.insert(case.name.clone()), "{file}: {} is there twice", case.name);
                    cases.push(case);
                }
            }
        }
    }
    cases
}

fn case(file: &str, group: &Group, status: u16, ask: &BTreeMap<String, Values>, now: &str) -> Case {
    let mut method = group.method.clone().unwrap_or_else(|| "GET".to_owned());
    let mut params = group.all.clone();
    params.extend(ask.clone());
    let (mut shown, mut live, mut pairs) = (String::new(), group.live, Vec::new());
    let mut url = form_urlencoded::Serializer::new(String::new());
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, values) in &params {
        let values = match values {
            Values::One(one) => std::slice::from_ref(one),
            Values::Many(many) => many,
        };
        for value in values {
            write!(shown, " {name}={value}").unwrap();
            live |= value.contains("$now");
            let value = value.replace("$now", now);
            pairs.push((name.strip_prefix("body:").unwrap_or(name).to_owned(), value.clone()));
            // `body:name` travels in the body, which makes it a POST.
            if let Some(name) = name.strip_prefix("body:") {
                if method == "GET" {
                    "POST".clone_into(&mut method);
                }
                form.append_pair(name, &value);
            } else {
                url.append_pair(name, &value);
            }
        }
    }
    let url = url.finish();
    let prefix = match group.server {
        Server::Plain => "",
        Server::Prefixed => "prefixed ",
        Server::Open => "open ",
    };
    let mut rest = String::new();
    for (name, value) in &group.headers {
        write!(rest, " [{name}: {value}]").unwrap();
    }
    let body = match (&group.payload, &group.payload_base64) {
        (Some(text), _) => text.replace("$now", now).into_bytes(),
        (None, Some(text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        (None, None) => form.finish().into_bytes(),
    };
    if group.payload.is_some() || group.payload_base64.is_some() {
        let sum: u32 =
            body.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        write!(rest, " #{sum:08x}").unwrap();
    }
    Case {
        name: format!("{prefix}{method} {}{shown}{rest}", group.on),
        file: file.to_owned(),
        server: group.server,
        target: if url.is_empty() {
            group.on.clone()
        } else {
            format!("{}{}{url}", group.on, if group.on.contains('?') { '&' } else { '?' })
        },
        path: group.on.split('?').next().unwrap().to_owned(),
        params: pairs,
        method,
        body,
        headers: group.headers.clone().into_iter().collect(),
        mask: group.mask.clone(),
        drop: group.drop.clone(),
        unordered: group.unordered.clone(),
        stamps: group.stamps,
        digest: group.digest,
        events: group.events,
        config: group.config.clone(),
        live,
        status,
        says: group.says.clone(),
        says_headers: group.says_headers.clone(),
    }
}
