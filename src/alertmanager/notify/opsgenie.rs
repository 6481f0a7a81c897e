//! Opsgenie: alerts created and closed by an alias that names the group, and changed where that is asked for.
//!
//! Compat: alertmanager `notify/opsgenie` (0.34).

use std::collections::BTreeMap;

use config::alertmanager::{Opsgenie, OpsgenieResponder};
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use url::Url;

use super::exchange::{Exchange, encode, extended, secret};
use super::truncate::in_runes;
use super::{Failure, Message};

const MESSAGE_RUNES_MAX: usize = 130;
const BY_ALIAS: [(&str, &str); 1] = [("identifierType", "alias")];

#[derive(Debug, Serialize)]
struct Create<'m> {
    alias: &'m str,
    message: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'m str,
    details: BTreeMap<String, String>,
    source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responders: Vec<Responder>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    priority: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    entity: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Responder {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    r#type: String,
}

#[derive(Debug, Serialize)]
struct Close {
    source: String,
}

#[derive(Debug, Serialize)]
struct NewMessage<'m> {
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'m str,
}

#[derive(Debug, Serialize)]
struct NewDescription<'m> {
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'m str,
}

/// One of the requests that tell about a group.
type Call = (Method, Url, Vec<u8>);

pub(super) async fn send(config: &Opsgenie, message: &Message<'_>) -> Result<(), Failure> {
    let within = |failure: Failure| failure.within("templating error");
    let calls = if message.is_firing() {
        created(config, message).map_err(within)?
    } else {
        let close = Close { source: message.text(&config.source).map_err(within)? };
        let path = format!("v2/alerts/{}/close", message.group_key_hash());
        vec![(Method::POST, extended(&config.api_url, &path, &BY_ALIAS)?, encode(&close)?)]
    };
    let key = secret(&config.api_key, "api_key_file").await?;
    let key = message.text(&key).map_err(within)?;
    let key = HeaderValue::from_str(&format!("GenieKey {}", key.trim()));
    let mut key = key.map_err(|_| Failure::last("the API key cannot be sent in a header"))?;
    key.set_sensitive(true);
    let exchange = Exchange::new(&config.http);
    for (method, url, body) in calls {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json), (AUTHORIZATION, key.clone())]);
        exchange.ask(method, url, headers, Some(body)).await?.check(&[429]).await?;
    }
    Ok(())
}

/// The alert, and with `update_alerts` what it says where it exists already.
fn created(config: &Opsgenie, message: &Message<'_>) -> Result<Vec<Call>, Failure> {
    let alias = message.group_key_hash();
    let text = in_runes(message.told(&config.message), MESSAGE_RUNES_MAX, "message", message.group_key);
    let description = message.told(&config.description);
    let mut details = message.data.common_labels.clone();
    for (name, template) in &config.details {
        details.insert(name.clone(), message.text(template)?);
    }
    let mut responders = Vec::new();
    for responder in &config.responders {
        add_responders(responder, message, &mut responders)?;
    }
    let create = Create {
        alias: &alias,
        message: &text,
        description: &description,
        details,
        source: message.text(&config.source)?,
        responders,
        tags: listed(&message.text(&config.tags)?),
        note: message.text(&config.note)?,
        priority: message.text(&config.priority)?,
        entity: message.text(&config.entity)?,
        actions: listed(&message.text(&config.actions)?),
    };
    let mut calls = vec![(Method::POST, extended(&config.api_url, "v2/alerts", &[])?, encode(&create)?)];
    if config.update_alerts {
        let url = |what: &str| extended(&config.api_url, &format!("v2/alerts/{alias}/{what}"), &BY_ALIAS);
        calls.push((Method::PUT, url("message")?, encode(&NewMessage { message: &text })?));
        let description = NewDescription { description: &description };
        calls.push((Method::PUT, url("description")?, encode(&description)?));
    }
    Ok(calls)
}

/// One that turns out empty is nobody; `teams` are several.
fn add_responders(
    responder: &OpsgenieResponder,
    message: &Message<'_>,
    all: &mut Vec<Responder>,
) -> Result<(), Failure> {
    let responder = Responder {
        id: message.text(&responder.id)?,
        name: message.text(&responder.name)?,
        username: message.text(&responder.username)?,
        r#type: message.text(&responder.kind)?,
    };
    if responder == Responder::default() {
        return Ok(());
    }
    if responder.r#type != "teams" {
        all.push(responder);
        return Ok(());
    }
    for team in listed(&responder.name) {
        // Upstream takes the names of teams for templates once more, which lets labels execute; we do not.
        all.push(Responder { name: team, r#type: "team".to_owned(), ..Responder::default() });
    }
    Ok(())
}

/// What stands between commas.
fn listed(text: &str) -> Vec<String> {
    text.trim().split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
