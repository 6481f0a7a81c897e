//! Microsoft Teams, by the connectors of old: a message card.
//!
//! Compat: alertmanager `notify/msteams` (0.34).

use config::alertmanager::Msteams;
use serde::Serialize;

use super::exchange::{Exchange, secret};
use super::{Failure, Message};

const RED: &str = "8C1A1A";
const GREEN: &str = "2DC72D";

#[derive(Debug, Serialize)]
struct Card {
    #[serde(rename = "@context")]
    context: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    title: String,
    summary: String,
    text: String,
    #[serde(rename = "themeColor")]
    color: &'static str,
}

pub(super) async fn send(config: &Msteams, message: &Message<'_>) -> Result<(), Failure> {
    let url = secret(&config.webhook_url, "webhook_url_file").await?;
    let card = Card {
        context: "http://schema.org/extensions",
        kind: "MessageCard",
        title: message.told(&config.title),
        summary: message.told(&config.summary),
        text: message.told(&config.text),
        color: if message.is_firing() { RED } else { GREEN },
    };
    Exchange::new(&config.http).post_json(&url, &card).await?.check(&[]).await
}
