//! `/openapi.yaml`: the API described for programs that generate clients.
//!
//! The description is data: [`operations`] has a line per route, [`schemas`] the shapes of answers, [`yaml`] writes
//! both. A test asks every operation of a router, and every route of a router is described here or named as left out.
//!
//! Compat: prometheus `web/api/v1/openapi.go`: the same paths, parameters, identifiers and shapes; the words are ours.

mod operations;
mod schemas;
mod yaml;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use self::operations::{Answer, OPERATIONS, Operation, Param, Place, Request, TAGS};
use self::schemas::{ENVELOPES, SCHEMAS, Shape};
use self::yaml::Node;
use crate::api::{Options, Shared};
use crate::params::Params;

/// Which edition of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    V3_1,
    /// Knows streams of events.
    V3_2,
}

pub(super) async fn openapi(State(api): Shared, params: Params) -> Response {
    let edition = match params.url("openapi_version") {
        "3.2" | "3.2.0" => Edition::V3_2,
        _ => Edition::V3_1,
    };
    let body = document(edition, &api.options, &api.status.build_info().version);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/yaml; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate")),
    ];
    (headers, body).into_response()
}

pub(crate) fn document(edition: Edition, options: &Options, version: &str) -> String {
    let text = match edition {
        Edition::V3_1 => "3.1.0",
        Edition::V3_2 => "3.2.0",
    };
    let server = format!("{}/api/v1", options.page.external_url);
    let info = map([
        ("title", "Prometheus API".into()),
        (
            "description",
            "The HTTP API of Ferula, a monitoring server that is compatible with Prometheus.".into(),
        ),
        ("version", version.into()),
    ]);
    map([
        ("openapi", text.into()),
        ("info", info),
        ("servers", Node::List(vec![map([("url", server.as_str().into())])])),
        ("tags", tags(edition)),
        ("paths", paths(edition, options.search_limit_max)),
        ("components", map([("schemas", components(options.search_limit_max))])),
    ])
    .to_yaml()
}

fn map<const N: usize>(fields: [(&str, Node); N]) -> Node {
    Node::Map(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn tags(edition: Edition) -> Node {
    let tag = |(name, title, about): &(&str, &str, &str)| {
        let mut fields = vec![("name".to_owned(), (*name).into())];
        if edition == Edition::V3_2 {
            fields.push(("summary".to_owned(), (*title).into()));
        }
        fields.push(("description".to_owned(), (*about).into()));
        Node::Map(fields)
    };
    Node::List(TAGS.iter().map(tag).collect())
}

fn paths(edition: Edition, search_limit_max: usize) -> Node {
    let mut paths: Vec<(String, Node)> = Vec::new();
    for operation in OPERATIONS {
        if edition == Edition::V3_1 && matches!(operation.answer, Answer::Events) {
            continue;
        }
        let described = (operation.method.to_owned(), describe(operation, search_limit_max));
        match paths.iter_mut().find(|(path, _)| path == operation.path) {
            Some((_, Node::Map(methods))) => methods.push(described),
            _ => paths.push((operation.path.to_owned(), Node::Map(vec![described]))),
        }
    }
    Node::Map(paths)
}

fn describe(operation: &Operation, search_limit_max: usize) -> Node {
    let mut fields = vec![
        ("tags".to_owned(), Node::List(vec![operation.tag.into()])),
        ("summary".to_owned(), operation.about.into()),
        ("operationId".to_owned(), operation.id.into()),
    ];
    match operation.request {
        Request::Nothing => {}
        Request::Url(params) => {
            let params = params.iter().map(|param| parameter(param, search_limit_max)).collect();
            fields.push(("parameters".to_owned(), Node::List(params)));
        }
        Request::Form(schema, _) => {
            let form = map([("schema", reference(schema))]);
            let body = map([
                ("description", "The parameters of the GET form, as a form.".into()),
                ("content", map([("application/x-www-form-urlencoded", form)])),
                ("required", Node::Flag(true)),
            ]);
            fields.push(("requestBody".to_owned(), body));
        }
        Request::Body(content_type) => {
            let any = map([("schema", map([("type", "string".into()), ("format", "binary".into())]))]);
            let body = map([("content", map([(content_type, any)])), ("required", Node::Flag(true))]);
            fields.push(("requestBody".to_owned(), body));
        }
    }
    fields.push(("responses".to_owned(), responses(&operation.answer)));
    Node::Map(fields)
}

fn parameter(param: &Param, search_limit_max: usize) -> Node {
    let mut fields = vec![
        ("name".to_owned(), param.name.into()),
        ("in".to_owned(), if param.place == Place::Path { "path" } else { "query" }.into()),
        ("description".to_owned(), param.about.into()),
        ("required".to_owned(), Node::Flag(param.is_required)),
    ];
    if param.place == Place::Query {
        fields.push(("explode".to_owned(), Node::Flag(matches!(param.shape, Shape::List(_)))));
    }
    fields.push(("schema".to_owned(), schema(&param.shape, search_limit_max)));
    Node::Map(fields)
}

fn responses(answer: &Answer) -> Node {
    let json = |name: &str| map([("application/json", map([("schema", reference(name))]))]);
    let (code, description, content) = match *answer {
        Answer::Envelope(name) => ("200", "The answer.", Some(json(name))),
        Answer::Nothing(code) => (code, "Done; there is nothing to tell.", None),
        Answer::Body(content_type) => {
            let any = map([("schema", map([("type", "string".into()), ("format", "binary".into())]))]);
            ("200", "The answer.", Some(map([(content_type, any)])))
        }
        Answer::Lines => {
            let lines = map([("schema", map([("type", "string".into())]))]);
            let about =
                "A JSON object per line: batches of `results`, then one with `status` and `has_more`.";
            ("200", about, Some(map([("application/x-ndjson", lines)])))
        }
        Answer::Events => {
            let data = map([
                ("type", "string".into()),
                ("contentMediaType", "application/json".into()),
                ("contentSchema", reference("Notification")),
            ]);
            let event = map([
                ("type", "object".into()),
                ("properties", map([("data", data)])),
                ("required", Node::List(vec!["data".into()])),
                ("additionalProperties", Node::Flag(false)),
            ]);
            let about = "Events as they come, for as long as the client listens.";
            ("200", about, Some(map([("text/event-stream", map([("itemSchema", event)]))])))
        }
    };
    let mut fields = vec![("description".to_owned(), description.into())];
    if let Some(content) = content {
        fields.push(("content".to_owned(), content));
    }
    let failed = map([("description", "It failed.".into()), ("content", json("Error"))]);
    map([(code, Node::Map(fields)), ("default", failed)])
}

// === shapes ===

fn reference(name: &str) -> Node {
    map([("$ref", format!("#/components/schemas/{name}").as_str().into())])
}

fn components(search_limit_max: usize) -> Node {
    let of = |shape: &Shape| schema(shape, search_limit_max);
    let named = SCHEMAS.iter().map(|(name, shape)| ((*name).to_owned(), of(shape)));
    let envelopes =
        ENVELOPES.iter().map(|(name, data)| ((*name).to_owned(), envelope(data.as_ref().map(of))));
    let forms = OPERATIONS.iter().filter_map(|operation| match operation.request {
        Request::Form(name, params) => Some((name.to_owned(), form(params, search_limit_max))),
        _ => None,
    });
    Node::Map(named.chain(envelopes).chain(forms).collect())
}

/// What is around every answer.
fn envelope(data: Option<Node>) -> Node {
    let texts = || schema(&Shape::List(&Shape::Text), 0);
    let mut required = vec!["status".into()];
    let mut properties = vec![("status".to_owned(), schema(&Shape::Words(&["success", "error"]), 0))];
    if let Some(data) = data {
        required.push("data".into());
        properties.push(("data".to_owned(), data));
    }
    properties.push(("warnings".to_owned(), texts()));
    properties.push(("infos".to_owned(), texts()));
    closed_object(properties, required)
}

/// The parameters of a URL as the fields of a form.
fn form(params: &[Param], search_limit_max: usize) -> Node {
    let field = |param: &Param| {
        let shape = match param.shape {
            Shape::Time | Shape::Duration => Shape::Text,
            shape => shape,
        };
        let mut fields = match schema(&shape, search_limit_max) {
            Node::Map(fields) => fields,
            other => unreachable!("BUG: a schema is a map, not {other:?}"),
        };
        fields.push(("description".to_owned(), param.about.into()));
        (param.name.to_owned(), Node::Map(fields))
    };
    let required = params.iter().filter(|param| param.is_required).map(|param| param.name.into()).collect();
    closed_object(params.iter().map(field).collect(), required)
}

fn closed_object(properties: Vec<(String, Node)>, required: Vec<Node>) -> Node {
    let mut fields =
        vec![("type".to_owned(), "object".into()), ("properties".to_owned(), Node::Map(properties))];
    if !required.is_empty() {
        fields.push(("required".to_owned(), Node::List(required)));
    }
    fields.push(("additionalProperties".to_owned(), Node::Flag(false)));
    Node::Map(fields)
}

fn schema(shape: &Shape, search_limit_max: usize) -> Node {
    let of = |shape: &Shape| schema(shape, search_limit_max);
    let typed = |name: &str| map([("type", name.into())]);
    let formatted = |name: &str, format: &str| map([("type", name.into()), ("format", format.into())]);
    let list = |items: Node| map([("type", "array".into()), ("items", items)]);
    match *shape {
        Shape::Any => map([("description", "Any JSON.".into())]),
        Shape::Ref(name) => reference(name),
        Shape::Text => typed("string"),
        Shape::Words(words) => map([
            ("type", "string".into()),
            ("enum", Node::List(words.iter().map(|word| (*word).into()).collect())),
        ]),
        Shape::Moment => formatted("string", "date-time"),
        Shape::Integer => formatted("integer", "int64"),
        Shape::Limit(default) => {
            let default = if search_limit_max == 0 { default } else { default.min(search_limit_max) };
            map([
                ("type", "integer".into()),
                ("format", "int64".into()),
                ("minimum", Node::Number(1)),
                ("default", Node::Number(default)),
            ])
        }
        Shape::Double => formatted("number", "double"),
        Shape::Number => typed("number"),
        Shape::Flag => typed("boolean"),
        Shape::Time => one_of(vec![formatted("string", "date-time"), formatted("number", "unixtime")]),
        Shape::Duration => one_of(vec![formatted("string", "duration"), formatted("number", "float")]),
        Shape::List(items) => list(of(items)),
        Shape::Pair(first, second) => map([
            ("type", "array".into()),
            ("items", if first == second { of(first) } else { one_of(vec![of(first), of(second)]) }),
            ("minItems", Node::Number(2)),
            ("maxItems", Node::Number(2)),
        ]),
        Shape::Either(shapes) => one_of(shapes.iter().map(of).collect()),
        Shape::AnyOf(shapes) => map([("anyOf", Node::List(shapes.iter().map(of).collect()))]),
        Shape::Map(values) => map([("type", "object".into()), ("additionalProperties", of(values))]),
        Shape::Open => map([("type", "object".into()), ("additionalProperties", Node::Flag(true))]),
        Shape::Object(fields) => {
            let name = |field: &str| field.trim_end_matches('?').to_owned();
            let required =
                fields.iter().filter(|(field, _)| !field.ends_with('?')).map(|(field, _)| (*field).into());
            let properties = fields.iter().map(|(field, shape)| (name(field), of(shape))).collect();
            closed_object(properties, required.collect())
        }
        Shape::Loose(fields) => match of(&Shape::Object(fields)) {
            Node::Map(mut object) => {
                object.retain(|(key, _)| key != "additionalProperties");
                Node::Map(object)
            }
            other => other,
        },
    }
}

fn one_of(shapes: Vec<Node>) -> Node {
    map([("oneOf", Node::List(shapes))])
}

#[cfg(test)]
pub(crate) mod tests;
