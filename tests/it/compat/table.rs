//! `docs/api.md`: what of the HTTP API there is, and how much of it answers as Prometheus does.
//!
//! The endpoints are listed in `tests/compat/endpoints.yaml`; every number comes from the answers just given.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::reply::Reply;
use super::scenario::{Case, read};

/// How one scenario went.
pub(super) struct Outcome<'a> {
    pub(super) case: &'a Case,
    /// As recorded.
    pub(super) theirs: &'a Reply,
    pub(super) ours: Reply,
    pub(super) is_equal: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    section: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    methods: Vec<String>,
    /// `{name}` stands for one segment, `*` at the end for any rest.
    path: String,
    #[serde(default)]
    parameters: Vec<String>,
    /// What is answered where it is our own or has no end; that there is a route can be seen by what it refuses.
    #[serde(default)]
    instead: Option<String>,
    /// 3.14 has no such route: nothing can be equal, but it must be there and its parameters have their effect.
    #[serde(default)]
    newer: bool,
}

impl Endpoint {
    fn has(&self, path: &str) -> bool {
        let path = path.strip_prefix("/pre/fix").unwrap_or(path);
        if let Some(folder) = self.path.strip_suffix('*') {
            return path.starts_with(folder);
        }
        let (wanted, given): (Vec<_>, Vec<_>) = (self.path.split('/').collect(), path.split('/').collect());
        wanted.len() == given.len()
            && wanted.iter().zip(given).all(|(wanted, given)| wanted.starts_with('{') || *wanted == given)
    }
}

/// The parameters whose presence or value has changed an answer, all else being equal.
fn effective<'a>(endpoint: &'a Endpoint, outcomes: &[&Outcome<'_>]) -> BTreeSet<&'a str> {
    let without = |case: &Case, name: &str| -> Vec<(String, String)> {
        let mut rest: Vec<_> = case.params.iter().filter(|(n, _)| n != name).cloned().collect();
        rest.sort();
        rest
    };
    let is_own = endpoint.newer || endpoint.instead.is_some();
    let changes = |name: &str| {
        outcomes.iter().enumerate().any(|(i, one)| {
            outcomes[i + 1..].iter().any(|other| {
                let body = |outcome: &Outcome<'_>| {
                    let reply = if is_own { &outcome.ours } else { outcome.theirs };
                    (reply.status, reply.body.clone())
                };
                let is_known = |outcome: &Outcome<'_>| outcome.is_equal || is_own;
                let same_place = one.case.server == other.case.server
                    && one.case.path == other.case.path
                    && one.case.headers == other.case.headers;
                same_place
                    && is_known(one)
                    && is_known(other)
                    && without(one.case, name) == without(other.case, name)
                    && one.case.params != other.case.params
                    && body(one) != body(other)
            })
        })
    };
    endpoint.parameters.iter().map(String::as_str).filter(|name| changes(name)).collect()
}

fn row(endpoint: &Endpoint, outcomes: &[Outcome<'_>], gaps: &mut Vec<String>) -> String {
    let mine: Vec<_> = outcomes.iter().filter(|outcome| endpoint.has(&outcome.case.path)).collect();
    let mut gap = |what: String| {
        gaps.push(format!("{}: {what}", endpoint.path));
        what
    };
    let refuses = |status: u16| [404, 405].contains(&status);
    let missing: Vec<_> = endpoint
        .methods
        .iter()
        .filter(|method| {
            let asked: Vec<_> = mine.iter().filter(|outcome| outcome.case.method == **method).collect();
            // Something that Prometheus does not refuse must be asked, and not be refused here.
            let model = |outcome: &Outcome<'_>| {
                if endpoint.newer { outcome.ours.status } else { outcome.theirs.status }
            };
            !asked.iter().any(|outcome| !refuses(model(outcome)) && !refuses(outcome.ours.status))
        })
        .map(String::as_str)
        .collect();
    let has_route = mine.iter().any(|outcome| outcome.theirs.status == 405 && outcome.is_equal);
    let exists = if missing.is_empty() || (endpoint.instead.is_some() && has_route) {
        "yes".to_owned()
    } else {
        gap(format!("not {}", missing.join(", ")))
    };
    let found = effective(endpoint, &mine);
    let parameters =
        match endpoint.parameters.iter().filter(|name| !found.contains(name.as_str())).collect::<Vec<_>>() {
            _ if endpoint.parameters.is_empty() => "none".to_owned(),
            lost if lost.is_empty() => format!("all {}", found.len()),
            lost => gap(format!("{} of {}, not {lost:?}", found.len(), endpoint.parameters.len())),
        };
    if endpoint.newer {
        let path = format!("{} `{}`", endpoint.methods.join(", "), endpoint.path);
        return format!("| {path} | {exists} | {parameters} | newer than 3.14 | newer than 3.14 |\n");
    }
    let mut equal = |what: &str, wanted: &dyn Fn(u16) -> bool| {
        let all: Vec<_> = mine.iter().filter(|outcome| wanted(outcome.theirs.status)).collect();
        let n_equal = all.iter().filter(|outcome| outcome.is_equal).count();
        match all.len() - n_equal {
            _ if n_equal == 0 => gap(format!("no {what}")),
            0 => n_equal.to_string(),
            n => format!("{n_equal}, {n} listed as different"),
        }
    };
    let answers = match &endpoint.instead {
        Some(what) => format!("{what} of our own"),
        None => equal("answer", &|status| status < 400),
    };
    let errors = equal("error", &|status| status >= 400);
    format!(
        "| {} `{}` | {exists} | {parameters} | {answers} | {errors} |\n",
        endpoint.methods.join(", "),
        endpoint.path
    )
}

/// Compares the table with the one in the documentation; with `UPDATE_EXPECT=1` writes it there.
pub(super) fn check(outcomes: &[Outcome<'_>]) {
    let mut text = String::from(
        "# The HTTP API\n\n\
        Written by the test `compat::answers_are_those_recorded` from the scenarios in `tests/compat`, each of them a\n\
        request that Prometheus 3.14 has answered. Ferula's answers are compared byte for byte, with the status and\n\
        the headers that clients read.\n\n\
        - **Exists**: every method is answered where Prometheus answers it.\n\
        - **Parameters**: for each of them there are two requests that differ in nothing else, and whose answers differ\n  \
        from each other and are Prometheus' own.\n\
        - **Answers** and **errors**: how many are equal, of those with a status below 400 and of the others (wrong\n  \
        methods among them). What differs on purpose is listed with its reason in `tests/compat/differences.yaml`;\n  \
        pages and profiles are our own, and what 3.14 does not have yet can equal nothing.\n",
    );
    let mut gaps = Vec::new();
    for Section { section, endpoints } in read::<Vec<Section>>("endpoints.yaml") {
        write!(text, "\n## {section}\n\n").unwrap();
        text += "| Endpoint | Exists | Parameters | Answers equal | Errors equal |\n|---|---|---|---|---|\n";
        for endpoint in &endpoints {
            text += &row(endpoint, outcomes, &mut gaps);
        }
    }
    let n_equal = outcomes.iter().filter(|outcome| outcome.is_equal).count();
    writeln!(text, "\n{n_equal} of {} answers are equal.", outcomes.len()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/api.md is not what was seen; UPDATE_EXPECT=1 writes it:\n{text}");
    assert!(gaps.is_empty(), "cells of docs/api.md that say nothing good:\n{}", gaps.join("\n"));
}
