//! Microsoft Teams, by flows: an adaptive card.
//!
//! Compat: alertmanager `notify/msteamsv2` (0.34).

use config::alertmanager::Msteamsv2;
use serde::Serialize;

use super::exchange::{Exchange, secret};
use super::{Failure, Message};

#[derive(Debug, Serialize)]
struct Post {
    r#type: &'static str,
    attachments: [Attachment; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    content_type: &'static str,
    content_url: Option<&'static str>,
    content: Card,
}

#[derive(Debug, Serialize)]
struct Card {
    #[serde(rename = "$schema")]
    schema: &'static str,
    r#type: &'static str,
    version: &'static str,
    body: [Block; 2],
    msteams: Width,
}

#[derive(Debug, Default, Serialize)]
struct Block {
    r#type: &'static str,
    text: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    weight: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    size: &'static str,
    wrap: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    style: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    color: &'static str,
}

#[derive(Debug, Serialize)]
struct Width {
    width: &'static str,
}

pub(super) async fn send(config: &Msteamsv2, message: &Message<'_>) -> Result<(), Failure> {
    let url = secret(&config.webhook_url, "webhook_url_file").await?;
    let heading = Block {
        r#type: "TextBlock",
        text: message.told(&config.title),
        weight: "Bolder",
        size: "Medium",
        wrap: true,
        style: "heading",
        color: if message.is_firing() { "Attention" } else { "Good" },
    };
    let text =
        Block { r#type: "TextBlock", text: message.told(&config.text), wrap: true, ..Block::default() };
    let content = Card {
        schema: "http://adaptivecards.io/schemas/adaptive-card.json",
        r#type: "AdaptiveCard",
        version: "1.2",
        body: [heading, text],
        msteams: Width { width: "full" },
    };
    let content_type = "application/vnd.microsoft.card.adaptive";
    let post =
        Post { r#type: "message", attachments: [Attachment { content_type, content_url: None, content }] };
    Exchange::new(&config.http).post_json(&url, &post).await?.check(&[]).await
}
