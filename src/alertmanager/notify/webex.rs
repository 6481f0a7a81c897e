//! Webex: Markdown to a room. The bot's token is in the client's settings.
//!
//! Compat: alertmanager `notify/webex` (0.34).

use config::alertmanager::Webex;
use serde::Serialize;

use super::exchange::Exchange;
use super::truncate::in_bytes;
use super::{Failure, Message};

const MESSAGE_BYTES_MAX: usize = 7439;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Post {
    markdown: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    room_id: String,
}

pub(super) async fn send(config: &Webex, message: &Message<'_>) -> Result<(), Failure> {
    let text = message.told(&config.message);
    let post = Post {
        markdown: in_bytes(text, MESSAGE_BYTES_MAX, "message", message.group_key),
        room_id: message.text(&config.room_id)?,
    };
    Exchange::new(&config.http).post_json(&config.api_url, &post).await?.check(&[]).await
}
