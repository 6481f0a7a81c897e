//! Slack: a message with one attachment, by incoming webhook or as an app, which may change what it said before.
//!
//! Compat: alertmanager `notify/slack` (0.34).

use config::alertmanager::{Field, Slack, SlackAction, SlackTarget};
use config::http_client::HttpClient;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use model::quote::go_quote;
use serde::{Deserialize, Serialize};

use super::exchange::{self, Exchange, encode, parse, secret, shown};
use super::truncate::in_runes;
use super::{Failure, Message, Sent};
use crate::alertmanager::nflog::Datum;

const TITLE_RUNES_MAX: usize = 1024;

/// The call that posts, and the one that changes a message. Compat: upstream knows only Slack's own address of it.
const POST: &str = "chat.postMessage";
const UPDATE: &str = "chat.update";

/// Under which names the notification log keeps the message that is to be changed.
const THREAD: &str = "threadTs";
const CHANNEL: &str = "channelId";

#[derive(Debug, Serialize)]
struct Request<'m> {
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ts: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    icon_emoji: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    icon_url: &'m str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    link_names: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'m str,
    attachments: [&'m Attachment; 1],
}

#[derive(Debug, Serialize)]
struct Attachment {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pretext: String,
    text: String,
    fallback: String,
    callback_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<AttachmentField>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Action>,
    #[serde(skip_serializing_if = "String::is_empty")]
    image_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thumb_url: String,
    footer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    color: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mrkdwn_in: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AttachmentField {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    short: bool,
}

#[derive(Debug, Serialize)]
struct Action {
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    style: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm: Option<Confirmation>,
}

#[derive(Debug, Serialize)]
struct Confirmation {
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ok_text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dismiss_text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    ok: bool,
    error: String,
    channel: String,
    ts: String,
}

/// What no template can be about: upstream loses the error of a template and sends the rest empty, we tell the error.
fn attachment(config: &Slack, message: &Message<'_>) -> Attachment {
    let told = |template: &str| message.told(template);
    let field = |field: &Field| AttachmentField {
        title: told(&field.title),
        value: told(&field.value),
        short: field.short.unwrap_or(config.short_fields),
    };
    let action = |action: &SlackAction| Action {
        r#type: told(&action.kind),
        text: told(&action.text),
        url: told(&action.url),
        style: told(&action.style),
        name: told(&action.name),
        value: told(&action.value),
        confirm: action.confirm.as_ref().map(|confirm| Confirmation {
            text: told(&confirm.text),
            title: told(&confirm.title),
            ok_text: told(&confirm.ok_text),
            dismiss_text: told(&confirm.dismiss_text),
        }),
    };
    let mrkdwn_in = match config.mrkdwn_in.as_slice() {
        [] => ["fallback", "pretext", "text"].map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    Attachment {
        title: in_runes(told(&config.title), TITLE_RUNES_MAX, "title", message.group_key),
        title_link: told(&config.title_link),
        pretext: told(&config.pretext),
        text: told(&config.text),
        fallback: told(&config.fallback),
        callback_id: told(&config.callback_id),
        fields: config.fields.iter().map(field).collect(),
        actions: config.actions.iter().map(action).collect(),
        image_url: told(&config.image_url),
        thumb_url: told(&config.thumb_url),
        footer: told(&config.footer),
        color: told(&config.color),
        mrkdwn_in,
    }
}

pub(super) async fn send(config: &Slack, message: &Message<'_>) -> Result<Sent, Failure> {
    let (url, token) = match &config.target {
        SlackTarget::Webhook(url) => (secret(url, "api_url_file").await?, None),
        SlackTarget::App { token, url } => (url.clone(), Some(secret(token, "app_token_file").await?)),
    };
    let caller = Caller { http: &config.http, config, token };
    let attachment = attachment(config, message);
    let text = |template: &str| message.told(template);
    let (channel, username, icon_emoji, icon_url, message_text) = (
        message.text(&config.channel)?,
        text(&config.username),
        text(&config.icon_emoji),
        text(&config.icon_url),
        text(&config.message_text),
    );
    let mut request = Request {
        channel: &channel,
        ts: "",
        username: &username,
        icon_emoji: &icon_emoji,
        icon_url: &icon_url,
        link_names: config.link_names,
        text: &message_text,
        attachments: [&attachment],
    };
    let known = |name: &str| match message.memory.get(name) {
        Some(Datum::Text(text)) if config.update_message && !text.is_empty() => Some(text.as_str()),
        _ => None,
    };
    let mut said = None;
    if let (Some(ts), Some(id)) = (known(THREAD), known(CHANNEL)) {
        (request.ts, request.channel) = (ts, id);
        match caller.call(&update_url(&url), &request).await {
            Ok(answer) => said = Some(answer),
            // The message is gone: upstream gives up here, and nobody is told. We begin anew.
            Err(failure) if is_gone(&failure) => {
                tracing::warn!(group = message.group_key, error = %failure, "cannot update the Slack message");
                (request.ts, request.channel) = ("", &channel);
            }
            Err(failure) => return Err(failure),
        }
    }
    let said = match said {
        Some(said) => said,
        None => caller.call(&url, &request).await?,
    };
    let mut memory = message.memory.clone();
    if config.update_message && !said.ts.is_empty() && !said.channel.is_empty() {
        memory.insert(THREAD.to_owned(), Datum::Text(said.ts));
        memory.insert(CHANNEL.to_owned(), Datum::Text(said.channel));
    }
    Ok(Sent { memory, id: None })
}

/// Upstream goes to Slack's own address; where somebody stands in for Slack, so does its other call.
fn update_url(url: &str) -> String {
    match url.strip_suffix(POST) {
        Some(base) => format!("{base}{UPDATE}"),
        None => format!("https://slack.com/api/{UPDATE}"),
    }
}

fn is_gone(failure: &Failure) -> bool {
    const GONE: [&str; 4] =
        ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"];
    failure.message.contains("error response from Slack: ")
        && GONE.iter().any(|error| failure.message.ends_with(error))
}

struct Caller<'c> {
    http: &'c HttpClient,
    config: &'c Slack,
    token: Option<String>,
}

impl Caller<'_> {
    async fn call(&self, url: &str, request: &Request<'_>) -> Result<Said, Failure> {
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| Failure::last("the app token cannot be sent in a header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let exchange = Exchange::new(self.http).within("slack", self.config.timeout);
        let mut answer = exchange.ask(Method::POST, parse(url)?, headers, Some(encode(request)?)).await?;
        let within =
            |failure: Failure| failure.within(&format!("channel {}", go_quote(request.channel.as_bytes())));
        answer.check_with(&[], |_, body| shown(body)).await.map_err(within)?;
        judge(&mut answer).await.map_err(|failure| within(failure).because("clientError"))
    }
}

/// A webhook says `ok`, the API says so in JSON.
async fn judge(answer: &mut exchange::Answer) -> Result<Said, Failure> {
    let is_json = answer.content_type().starts_with("application/json");
    let body = answer.body().await?;
    if !is_json {
        if body == b"ok" {
            return Ok(Said::default());
        }
        return Err(Failure::last(format!("received an error response from Slack: {}", shown(&body))));
    }
    let said: Said = serde_json::from_slice(&body).map_err(|error| {
        let body = go_quote(shown(&body).as_bytes());
        Failure::again(format!("could not unmarshal JSON response {body}: {error}"))
    })?;
    if said.ok { Ok(said) } else { Err(Failure::last(format!("error response from Slack: {}", said.error))) }
}
