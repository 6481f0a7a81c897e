//! `/targets/relabel_steps` and `/scrape_pools/config` (newer than upstream 3.14): what a job is and what it makes of labels.
//!
//! Compat: prometheus `web/api/v1/api.go`, `targetRelabelSteps`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use config::prometheus::ScrapeConfig;
use config::relabel::{self, Rule};
use model::{Labels, LabelsBuilder};
use serde::Serialize;

use super::{Answer, ok};
use crate::api::{Api, Shared};
use crate::error::ApiError;
use crate::json;
use crate::params::Params;

/// A rule in the form in which the file has it.
#[derive(Serialize)]
struct Shown<'r> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_labels: Vec<String>,
    separator: &'r str,
    regex: &'r str,
    #[serde(skip_serializing_if = "is_zero")]
    modulus: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_label: &'r str,
    replacement: &'r str,
    action: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl<'r> From<&'r Rule> for Shown<'r> {
    fn from(rule: &'r Rule) -> Self {
        let text = |name: &Arc<[u8]>| String::from_utf8_lossy(name).into_owned();
        Self {
            source_labels: rule.source_labels.iter().map(text).collect(),
            separator: &rule.separator,
            regex: &rule.pattern,
            modulus: rule.modulus,
            target_label: &rule.target_label,
            replacement: &rule.replacement,
            action: rule.action.as_str(),
        }
    }
}

fn job(api: &Api, pool: &str) -> Result<Arc<ScrapeConfig>, ApiError> {
    let config = api.running.config();
    let found = config.scrape_configs.iter().find(|job| job.job_name == pool);
    found.cloned().ok_or_else(|| {
        let quoted = model::quote::go_quote(pool.as_bytes());
        ApiError::bad_data(format!("error retrieving scrape config: scrape pool {quoted} not found"))
    })
}

fn pool(params: &Params) -> Result<&str, ApiError> {
    match params.get("scrapePool") {
        "" => Err(ApiError::bad_data("no scrapePool parameter provided")),
        pool => Ok(pool),
    }
}

/// The job as YAML, secrets masked.
pub(super) async fn pool_config(State(api): Shared, params: Params) -> Answer {
    #[derive(Serialize)]
    struct Text {
        yaml: String,
    }
    ok(&Text { yaml: job(&api, pool(&params)?)?.text() })
}

/// What each rule of a job makes of a label set.
pub(super) async fn relabel_steps(State(api): Shared, params: Params) -> Answer {
    let pool = pool(&params)?;
    let labels = match params.get("labels") {
        "" => return Err(ApiError::bad_data("no labels parameter provided")),
        text => parse_labels(text).map_err(|e| ApiError::bad_data(format!("error parsing labels: {e}")))?,
    };
    let job = job(&api, pool)?;
    let mut labels = builder(&labels);
    let mut is_kept = true;
    let steps: Vec<(&Rule, Labels, bool)> = job
        .relabel
        .iter()
        .map(|rule| {
            is_kept = is_kept && relabel::apply(std::slice::from_ref(rule), &mut labels);
            (rule, if is_kept { labels.build() } else { Labels::empty() }, is_kept)
        })
        .collect();
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"{\"steps\":");
        json::write_list(out, &steps, |out, (rule, labels, is_kept)| {
            out.extend_from_slice(b"{\"rule\":");
            json::write_serialized(out, &Shown::from(*rule));
            out.extend_from_slice(b",\"output\":");
            json::write_labels(out, labels);
            out.extend_from_slice(if *is_kept { b",\"keep\":true}" } else { b",\"keep\":false}" });
        });
        out.push(b'}');
    };
    Ok(json::success(write, &[], &[]))
}

fn builder(labels: &BTreeMap<String, String>) -> LabelsBuilder {
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels {
        builder.set(name.as_bytes(), value.as_bytes());
    }
    builder
}

/// An object of strings, with the errors of Go's decoder where those of ours can be told apart.
fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    use serde_json::Value;
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mismatch = |value: &Value, go_type: &str| {
        format!("json: cannot unmarshal {} into Go value of type {go_type}", kind(value))
    };
    match serde_json::from_str(text) {
        Ok(Value::Null) => Ok(BTreeMap::new()),
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(value) => Ok((name, value)),
                Value::Null => Ok((name, String::new())),
                other => Err(mismatch(&other, "string")),
            })
            .collect(),
        Ok(other) => Err(mismatch(&other, "map[string]string")),
        Err(e) if e.is_eof() => Err("unexpected end of JSON input".to_owned()),
        Err(e) => Err(syntax_error(text, &e)),
    }
}

fn syntax_error(text: &str, e: &serde_json::Error) -> String {
    let shown = e.to_string();
    let place = [
        ("expected value", "looking for beginning of value"),
        ("trailing comma", "looking for beginning of object key string"),
        ("key must be a string", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("trailing characters", "after top-level value"),
    ];
    let place = place.into_iter().find(|(ours, _)| shown.starts_with(ours));
    let line = text.lines().nth(e.line().saturating_sub(1)).unwrap_or_default();
    let found = line.get(e.column().saturating_sub(1)..).and_then(|rest| rest.chars().next());
    match (place, found) {
        (Some((_, place)), Some(c)) => {
            let quoted = if c == '\'' { r"'\''".to_owned() } else { format!("'{c}'") };
            format!("invalid character {quoted} {place}")
        }
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::parse_labels;

    #[test]
    fn labels_are_an_object_of_strings() {
        assert_eq!(parse_labels(r#"{"a":"b","c":null}"#).unwrap().len(), 2);
        assert_eq!(parse_labels("null").unwrap().len(), 0);
        for (text, error) in [
            ("[]", "json: cannot unmarshal array into Go value of type map[string]string"),
            (r#"{"a":1}"#, "json: cannot unmarshal number into Go value of type string"),
            ("{a}", "invalid character 'a' looking for beginning of object key string"),
            ("x", "invalid character 'x' looking for beginning of value"),
            (r#"{"a" "b"}"#, "invalid character '\"' after object key"),
            (r#"{"a":"b"]"#, "invalid character ']' after object key:value pair"),
            (r#"{"a":"b",}"#, "invalid character '}' looking for beginning of object key string"),
            (r#"{"a":"b"}}"#, "invalid character '}' after top-level value"),
            (r#"{"a":"#, "unexpected end of JSON input"),
        ] {
            assert_eq!(parse_labels(text).unwrap_err(), error, "{text}");
        }
    }
}
