//! Rocket.Chat: a message with one attachment, in the name of a user.
//!
//! Compat: alertmanager `notify/rocketchat` (0.34).

use config::alertmanager::{Field, Rocketchat, RocketchatAction};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use model::quote::go_quote;
use serde::{Deserialize, Serialize};

use super::exchange::{Exchange, encode, parse, secret, shown};
use super::truncate::in_runes;
use super::{Failure, Message};

const TITLE_RUNES_MAX: usize = 1024;

#[derive(Debug, Serialize)]
struct Post<'m> {
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'m str,
    #[serde(skip_serializing_if = "String::is_empty")]
    emoji: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    avatar: String,
    attachments: [Attachment; 1],
}

#[derive(Debug, Serialize)]
struct Attachment {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thumb_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    color: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<AttachmentField>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Action>,
}

#[derive(Debug, Serialize)]
struct AttachmentField {
    short: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
}

#[derive(Debug, Serialize)]
struct Action {
    /// The service knows no other.
    r#type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    is_webview: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    msg: String,
    msg_in_chat_window: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    success: bool,
    error: String,
}

pub(super) async fn send(config: &Rocketchat, message: &Message<'_>) -> Result<(), Failure> {
    let told = |template: &str| message.told(template);
    let field = |field: &Field| AttachmentField {
        short: field.short.unwrap_or(config.short_fields),
        title: told(&field.title),
        value: told(&field.value),
    };
    let action = |action: &RocketchatAction| Action {
        r#type: "button",
        text: told(&action.text),
        url: told(&action.url),
        is_webview: false,
        msg: told(&action.msg),
        msg_in_chat_window: false,
    };
    let channel = message.text(&config.channel)?;
    let post = Post {
        channel: &channel,
        emoji: told(&config.emoji),
        avatar: told(&config.icon_url),
        attachments: [Attachment {
            title: in_runes(told(&config.title), TITLE_RUNES_MAX, "title", message.group_key),
            title_link: told(&config.title_link),
            text: told(&config.text),
            image_url: told(&config.image_url),
            thumb_url: told(&config.thumb_url),
            color: told(&config.color),
            fields: config.fields.iter().map(field).collect(),
            actions: config.actions.iter().map(action).collect(),
        }],
    };
    let headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("x-auth-token"), credential(&secret(&config.token, "token_file").await?)?),
        (
            HeaderName::from_static("x-user-id"),
            credential(&secret(&config.token_id, "token_id_file").await?)?,
        ),
    ]);
    let url = format!("{}/api/v1/chat.postMessage", config.api_url.trim_end_matches('/'));
    let exchange = Exchange::new(&config.http);
    let mut answer = exchange.ask(Method::POST, parse(&url)?, headers, Some(encode(&post)?)).await?;
    let within = |failure: Failure| failure.within(&format!("channel {}", go_quote(channel.as_bytes())));
    answer.check_with(&[], |_, body| shown(body)).await.map_err(within)?;
    let body = answer.body().await?;
    judge(&body).map_err(|failure| within(failure).because("clientError"))
}

fn credential(text: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| Failure::last("the token cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The service says in a good answer that it failed.
fn judge(body: &[u8]) -> Result<(), Failure> {
    let said: Said = serde_json::from_slice(body).map_err(|error| {
        let body = go_quote(shown(body).as_bytes());
        Failure::again(format!("could not unmarshal JSON response {body}: {error}"))
    })?;
    if said.success {
        return Ok(());
    }
    Err(Failure::last(format!("error response from Rocketchat: {}", said.error)))
}
