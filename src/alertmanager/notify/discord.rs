//! Discord: a webhook with one embed.
//!
//! Compat: alertmanager `notify/discord` (0.34).

use config::alertmanager::Discord;
use serde::Serialize;

use super::exchange::{Exchange, secret};
use super::truncate::in_runes;
use super::{Failure, Message};

const TITLE_RUNES_MAX: usize = 256;
const DESCRIPTION_RUNES_MAX: usize = 4096;
const CONTENT_RUNES_MAX: usize = 2000;

const RED: u32 = 0x0099_2d22;
const GREEN: u32 = 0x002e_cc71;

#[derive(Debug, Serialize)]
struct Webhook<'m> {
    content: String,
    embeds: [Embed; 1],
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'m str,
    #[serde(skip_serializing_if = "str::is_empty")]
    avatar_url: &'m str,
}

#[derive(Debug, Serialize)]
struct Embed {
    title: String,
    description: String,
    color: u32,
}

pub(super) async fn send(config: &Discord, message: &Message<'_>) -> Result<(), Failure> {
    let url = secret(&config.webhook_url, "webhook_url_file").await?;
    let cut = |template: &str, max, what| in_runes(message.told(template), max, what, message.group_key);
    let body = Webhook {
        content: cut(&config.content, CONTENT_RUNES_MAX, "content"),
        embeds: [Embed {
            title: cut(&config.title, TITLE_RUNES_MAX, "title"),
            description: cut(&config.message, DESCRIPTION_RUNES_MAX, "message"),
            color: if message.is_firing() { RED } else { GREEN },
        }],
        // Neither is a template.
        username: &config.username,
        avatar_url: &config.avatar_url,
    };
    Exchange::new(&config.http).post_json(&url, &body).await?.check(&[]).await
}
