//! Mattermost: an incoming webhook with attachments.
//!
//! Compat: alertmanager `notify/mattermost` (0.34).

use config::alertmanager::{Field, Mattermost, MattermostAttachment, MattermostPriority};
use model::quote::go_quote;
use serde::Serialize;

use super::exchange::{Exchange, secret, shown};
use super::truncate::in_runes;
use super::{Failure, Message};

const TEXT_RUNES_MAX: usize = 16_383;

#[derive(Debug, Serialize)]
struct Post {
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    channel: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    icon_emoji: String,
    attachments: Vec<Attachment>,
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    props: Option<Props>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
}

#[derive(Debug, Serialize)]
struct Attachment {
    #[serde(skip_serializing_if = "String::is_empty")]
    fallback: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    color: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pretext: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author_icon: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title_link: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<AttachmentField>,
    #[serde(skip_serializing_if = "String::is_empty")]
    thumb_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    footer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    footer_icon: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image_url: String,
}

#[derive(Debug, Serialize)]
struct AttachmentField {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Props {
    card: String,
}

#[derive(Debug, Serialize)]
struct Priority {
    #[serde(rename = "priority")]
    level: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    requested_ack: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    persistent_notifications: bool,
}

pub(super) async fn send(config: &Mattermost, message: &Message<'_>) -> Result<(), Failure> {
    let url = secret(&config.webhook_url, "webhook_url_file").await?;
    if url.is_empty() {
        return Err(Failure::last("webhook url missing"));
    }
    let post = post(config, message)?;
    let within = |failure: Failure| failure.within(&format!("channel {}", go_quote(post.channel.as_bytes())));
    let mut answer = Exchange::new(&config.http).post_json(&url, &post).await?;
    answer.check_with(&[], |_, body| shown(body)).await.map_err(within)
}

fn post(config: &Mattermost, message: &Message<'_>) -> Result<Post, Failure> {
    let text = message.told(&config.text);
    // The text is that of the message where there are attachments, and of the only attachment where there are none.
    let (text, attachments) = if config.attachments.is_empty() {
        let own = attachment(&config.own, message);
        (String::new(), vec![Attachment { text, ..own }])
    } else {
        let attachments = config.attachments.iter().map(|config| attachment(config, message));
        (in_runes(text, TEXT_RUNES_MAX, "text", message.group_key), attachments.collect())
    };
    let card = config.card.as_ref().filter(|card| !card.is_empty());
    Ok(Post {
        text,
        channel: message.text(&config.channel)?,
        username: message.told(&config.username),
        icon_url: message.told(&config.icon_url),
        icon_emoji: message.told(&config.icon_emoji),
        attachments,
        r#type: message.text(&config.kind)?,
        props: card.map(|card| Props { card: message.told(card) }),
        priority: match &config.priority {
            Some(config) if !config.priority.is_empty() => Some(priority(config, message)?),
            _ => None,
        },
    })
}

fn attachment(config: &MattermostAttachment, message: &Message<'_>) -> Attachment {
    let told = |template: &str| message.told(template);
    let field = |field: &Field| AttachmentField {
        title: told(&field.title),
        value: told(&field.value),
        short: field.short,
    };
    Attachment {
        fallback: told(&config.fallback),
        color: told(&config.color),
        pretext: told(&config.pretext),
        text: told(&config.text),
        author_name: told(&config.author_name),
        author_link: told(&config.author_link),
        author_icon: told(&config.author_icon),
        title: told(&config.title),
        title_link: told(&config.title_link),
        fields: config.fields.iter().map(field).collect(),
        thumb_url: told(&config.thumb_url),
        footer: told(&config.footer),
        footer_icon: told(&config.footer_icon),
        image_url: told(&config.image_url),
    }
}

/// What a priority allows: to be acknowledged from important on, to be repeated only when urgent.
fn priority(config: &MattermostPriority, message: &Message<'_>) -> Result<Priority, Failure> {
    let asked = message.text(&config.priority)?;
    let priority = match asked.to_lowercase().as_str() {
        "urgent" => "urgent",
        "important" => "important",
        "standard" => "standard",
        _ => {
            tracing::warn!(
                group = message.group_key,
                priority = asked,
                "unknown priority, standard is taken"
            );
            "standard"
        }
    };
    Ok(Priority {
        level: priority,
        requested_ack: config.requested_ack && priority != "standard",
        persistent_notifications: config.persistent_notifications && priority == "urgent",
    })
}
