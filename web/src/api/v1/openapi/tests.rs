//! The description against upstream's own, and against the routes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::operations::{Answer, OPERATIONS, Request};
use super::schemas::{ENVELOPES, SCHEMAS};

/// Every method and path that is described, for those who have a router to ask.
pub(crate) fn described() -> Vec<(&'static str, String)> {
    OPERATIONS.iter().map(|operation| (operation.method, format!("/api/v1{}", operation.path))).collect()
}

/// What of an operation a client depends on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    id: String,
    /// Name, place, whether it is needed.
    params: BTreeSet<(String, String, bool)>,
    /// The schema of a form.
    form: Option<String>,
    /// By status, the schema of the answer.
    answers: BTreeMap<String, String>,
}

fn schema_name(content: &serde_json::Value) -> String {
    let first = content.as_object().and_then(|content| content.iter().next());
    let schema = first.map(|(_, media)| &media["schema"]["$ref"]).and_then(|name| name.as_str());
    schema.unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned()
}

fn facts(document: &serde_json::Value) -> BTreeMap<(String, String), Facts> {
    let mut all = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let params = operation["parameters"].as_array().cloned().unwrap_or_default();
            let form = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"];
            let facts = Facts {
                id: text(&operation["operationId"]),
                params: params
                    .iter()
                    .map(|p| (text(&p["name"]), text(&p["in"]), p["required"].as_bool().unwrap_or(false)))
                    .collect(),
                form: form["schema"]["$ref"].as_str().map(|name| name.rsplit('/').next().unwrap().to_owned()),
                answers: operation["responses"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(code, answer)| (code.clone(), schema_name(&answer["content"])))
                    .collect(),
            };
            all.insert((path.clone(), method.clone()), facts);
        }
    }
    all
}

/// The fields of every schema, and which of them are needed.
fn fields(document: &serde_json::Value) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let of = |schema: &serde_json::Value| {
        let names = schema["properties"].as_object().map(|fields| fields.keys().cloned().collect());
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let required = required.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        (names.unwrap_or_default(), required)
    };
    document["components"]["schemas"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, schema)| (name.clone(), of(schema)))
        .collect()
}

fn ours(edition: super::Edition) -> serde_json::Value {
    let text = super::document(edition, &crate::api::tests::options(), "3.14.0");
    serde_yaml::from_str(&text).unwrap()
}

/// `rel` below the reference projects' test data, or `None` after saying so.
fn upstream(test: &str, rel: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FERULA_UPSTREAM")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/upstream"), PathBuf::from);
    let path = root.join(rel);
    if path.exists() {
        return Some(path);
    }
    // Not `println!`: nobody sees what a passing test prints.
    let _ =
        writeln!(std::io::stderr(), "SKIPPED {test}: {} is not there (set FERULA_UPSTREAM)", path.display());
    None
}

/// Where upstream's description says something else than upstream's server does, and ours says what both do.
const OTHER_ANSWERS: [&str; 4] =
    ["/admin/tsdb/clean_tombstones", "/admin/tsdb/delete_series", "/otlp/v1/metrics", "/read"];

#[test]
fn clients_made_from_upstreams_description_work() {
    let test = "clients_made_from_upstreams_description_work";
    let Some(golden) = upstream(test, "openapi/openapi_3.1_golden.yaml") else { return };
    let golden: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    let (theirs, mine) = (facts(&golden), facts(&ours(super::Edition::V3_1)));
    assert!(theirs.len() > 45, "{}", theirs.len());
    for ((path, method), facts) in &theirs {
        let own = mine.get(&(path.clone(), method.clone()));
        let own = own.unwrap_or_else(|| panic!("{method} {path} is not described"));
        assert_eq!(
            (&own.id, &own.params, &own.form),
            (&facts.id, &facts.params, &facts.form),
            "{method} {path}"
        );
        if !OTHER_ANSWERS.contains(&path.as_str()) {
            assert_eq!(own.answers, facts.answers, "{method} {path}");
        }
    }
    let mine = fields(&ours(super::Edition::V3_1));
    for (name, fields) in fields(&golden) {
        // Of answers that are never sent.
        if ["DeleteSeriesOutputBody", "CleanTombstonesOutputBody"].contains(&name.as_str()) {
            continue;
        }
        assert_eq!(mine.get(&name), Some(&fields), "{name}");
    }
}

#[test]
fn editions_differ_in_streams_only() {
    let (old, new) = (ours(super::Edition::V3_1), ours(super::Edition::V3_2));
    assert_eq!((old["openapi"].as_str(), new["openapi"].as_str()), (Some("3.1.0"), Some("3.2.0")));
    let live = |document: &serde_json::Value| document["paths"].get("/notifications/live").is_some();
    assert!(!live(&old) && live(&new));
    assert_eq!(new["paths"].as_object().unwrap().len(), old["paths"].as_object().unwrap().len() + 1);
    assert_eq!(old["components"], new["components"]);
}

#[test]
fn every_schema_that_is_named_is_there() {
    let document = ours(super::Edition::V3_2);
    let text = serde_json::to_string(&document).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut seen = BTreeSet::new();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
        seen.insert(name.to_owned());
    }
    let unused: Vec<_> = schemas.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(unused.is_empty(), "nobody uses {unused:?}");
    let n_forms = OPERATIONS.iter().filter(|o| matches!(o.request, Request::Form(..))).count();
    assert_eq!(schemas.len(), SCHEMAS.len() + ENVELOPES.len() + n_forms, "no name is used twice");
    let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), OPERATIONS.len(), "nor any identifier");
    assert!(OPERATIONS.iter().any(|operation| matches!(operation.answer, Answer::Events)));
}
