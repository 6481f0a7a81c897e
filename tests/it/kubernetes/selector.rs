//! Label and field selectors, as a client sends them.
//!
//! Compat: kubernetes `apimachinery/pkg/{labels,fields}`, `Parse` and `ParseSelector`.

use serde_json::Value;

use super::objects::{Kind, Object};

/// Both selectors of a request: an object has to please all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Requirement {
    label: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
}

#[derive(Clone, Debug)]
struct Field {
    path: String,
    value: String,
    is_equal: bool,
}

impl Selector {
    pub(crate) fn parse(kind: Kind, labels: &str, fields: &str) -> Result<Self, String> {
        let labels = split(labels).into_iter().map(requirement).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| field(kind, part))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn takes(&self, object: &Object) -> bool {
        let labels = &object.value["metadata"]["labels"];
        let pleases = |r: &Requirement| {
            let value = labels[&r.label].as_str();
            let is_one_of = |values: &[String]| value.is_some_and(|v| values.iter().any(|one| one == v));
            match &r.test {
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
                Test::In(values) => is_one_of(values),
                Test::NotIn(values) => !is_one_of(values),
            }
        };
        let fits = |f: &Field| (text_at(&object.value, &f.path) == f.value) == f.is_equal;
        self.labels.iter().all(pleases) && self.fields.iter().all(fits)
    }
}

/// The parts between commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let new = |label: &str, test| Ok(Requirement { label: label.trim().to_owned(), test });
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((head, values)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>()[..] {
            [label, "in"] => new(label, Test::In(values)),
            [label, "notin"] => new(label, Test::NotIn(values)),
            _ => Err(format!("unable to parse requirement: {part:?}")),
        };
    }
    if let Some((label, value)) = part.split_once("!=") {
        return new(label, Test::NotIn(one(value)));
    }
    if let Some((label, value)) = part.split_once('=') {
        return new(label, Test::In(one(value.strip_prefix('=').unwrap_or(value))));
    }
    match part.strip_prefix('!') {
        Some(label) => new(label, Test::Missing),
        None if part.contains(char::is_whitespace) => Err(format!("unable to parse requirement: {part:?}")),
        None => new(part, Test::Exists),
    }
}

fn field(kind: Kind, part: &str) -> Result<Field, String> {
    let (path, value, is_equal) = part
        .split_once("!=")
        .map(|(path, value)| (path, value, false))
        .or_else(|| part.split_once("==").or_else(|| part.split_once('=')).map(|(p, v)| (p, v, true)))
        .ok_or_else(|| format!("invalid selector: '{part}'; can't understand '{part}'"))?;
    let is_known = match (kind, path) {
        (_, "metadata.namespace") => kind.is_namespaced(),
        (_, "metadata.name")
        | (
            Kind::Pod,
            "spec.nodeName" | "spec.restartPolicy" | "spec.hostNetwork" | "status.phase" | "status.podIP",
        )
        | (Kind::Node, "spec.unschedulable")
        | (Kind::Namespace, "status.phase")
        | (Kind::Service, "spec.clusterIP" | "spec.type")
        | (Kind::ReplicaSet, "status.replicas")
        | (Kind::Job, "status.successful") => true,
        _ => false,
    };
    if !is_known {
        return Err(format!("field label not supported: {path}"));
    }
    Ok(Field { path: path.to_owned(), value: value.to_owned(), is_equal })
}

/// What selectors compare: absent strings are empty, absent numbers and truths are what they begin as.
fn text_at(value: &Value, path: &str) -> String {
    match &value[path.split('.').next().unwrap()][path.split('.').nth(1).unwrap()] {
        Value::String(text) => text.clone(),
        Value::Null if matches!(path, "spec.hostNetwork" | "spec.unschedulable") => "false".to_owned(),
        Value::Null if matches!(path, "status.replicas" | "status.successful") => "0".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[test]
fn selectors_take_what_they_say() {
    let mut store = super::objects::Store::default();
    store.put(
        Kind::Pod,
        serde_json::json!({
            "metadata": {"namespace": "ns", "name": "p", "labels": {"app": "web", "tier": "front", "x/y": ""}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
        }),
    );
    let pod = std::sync::Arc::clone(store.get(Kind::Pod, "ns", "p").unwrap());
    let takes = |labels: &str, fields: &str| Selector::parse(Kind::Pod, labels, fields).unwrap().takes(&pod);
    for yes in [
        "",
        "app=web",
        "app == web",
        "app!=db",
        "app in (db, web),tier",
        "tier notin (back)",
        "!zone",
        "x/y",
        "zone!=a",
        "zone notin (a,b)",
    ] {
        assert!(takes(yes, ""), "{yes}");
    }
    for no in
        ["app=db", "app!=web", "app in (db)", "tier notin (front,back)", "!app", "zone", "app=web,zone=a"]
    {
        assert!(!takes(no, ""), "{no}");
    }
    assert!(takes("", "spec.nodeName=n1,status.phase!=Failed,metadata.name==p,spec.hostNetwork=false"));
    assert!(!takes("", "spec.nodeName=n2") && !takes("", "status.podIP!="));
    assert!(
        Selector::parse(Kind::Pod, "a b", "").is_err()
            && Selector::parse(Kind::Pod, "a within (b)", "").is_err()
    );
    assert!(Selector::parse(Kind::Service, "", "spec.nodeName=a").is_err());
    assert!(Selector::parse(Kind::Pod, "", "nonsense").is_err());
}
