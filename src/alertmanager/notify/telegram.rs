//! Telegram: a bot's message to a chat.
//!
//! Compat: alertmanager `notify/telegram` (0.34), and the client library that it uses.

use std::collections::BTreeMap;

use config::alertmanager::{Telegram, TelegramChat};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::exchange::{Exchange, encode, parse, secret, shown};
use super::truncate::in_runes;
use super::{Failure, Message};
use crate::http_client;

const MESSAGE_RUNES_MAX: usize = 4096;

/// In place of HTML that is too long, which cannot be cut without breaking it; upstream's text, blanks included.
const TOO_LONG: &str = "Alertmanager notification could not be sent: message length exceeds Telegram limits.\n\
    \t\t\tPlease check the template used for producing the message content.";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    ok: bool,
    error_code: i64,
    description: String,
}

pub(super) async fn send(config: &Telegram, message: &Message<'_>) -> Result<(), Failure> {
    let text = if config.parse_mode == "HTML" {
        let text = message.told_html(&config.message);
        if text.chars().nth(MESSAGE_RUNES_MAX).is_some() { TOO_LONG.to_owned() } else { text }
    } else {
        in_runes(message.told(&config.message), MESSAGE_RUNES_MAX, "message", message.group_key)
    };
    let token = secret(&config.bot_token, "bot_token_file").await?;
    let chat = chat(&config.chat).await?;
    let mut parameters = BTreeMap::from([
        ("chat_id", chat.to_string()),
        ("text", text),
        ("disable_web_page_preview", "true".to_owned()),
    ]);
    if config.disable_notifications {
        parameters.insert("disable_notification", "true".to_owned());
    }
    if config.message_thread_id != 0 {
        parameters.insert("message_thread_id", config.message_thread_id.to_string());
    }
    if !config.parse_mode.is_empty() {
        parameters.insert("parse_mode", config.parse_mode.clone());
    }
    let url = format!("{}/bot{token}/sendMessage", config.api_url);
    let said = call(config, &url, &parameters).await?;
    if said.error_code == 400 && said.description.contains("can't parse entities") {
        // The value of a label may look like markup that is none. Upstream repeats itself until it gives up.
        tracing::warn!(group = message.group_key, error = said.description, "telegram refuses the markup");
        parameters.remove("parse_mode");
        return judge(&call(config, &url, &parameters).await?);
    }
    judge(&said)
}

async fn call(config: &Telegram, url: &str, parameters: &BTreeMap<&str, String>) -> Result<Said, Failure> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let exchange = Exchange::new(&config.http);
    let asked = exchange.ask(Method::POST, parse(url)?, headers, Some(encode(parameters)?)).await;
    let mut answer = asked.map_err(|failure| failure.within("telebot"))?;
    let body = answer.body().await?;
    serde_json::from_slice(&body).map_err(|error| {
        let status = answer.status.as_u16();
        Failure::again(format!("telebot: status code {status}: {error}: {}", shown(&body)))
    })
}

/// As upstream every failure is worth another attempt, whatever it is.
fn judge(said: &Said) -> Result<(), Failure> {
    if said.ok {
        return Ok(());
    }
    // Of what Telegram itself has a name for, the name's prefix is left out.
    let description = said.description.strip_prefix("Bad Request: ").unwrap_or(&said.description);
    let description = description.strip_prefix("Forbidden: ").unwrap_or(description);
    Err(Failure::again(format!("telegram: {description} ({})", said.error_code)))
}

async fn chat(chat: &TelegramChat) -> Result<i64, Failure> {
    let path = match chat {
        TelegramChat::Id(id) => return Ok(*id),
        TelegramChat::File(path) => path,
    };
    let read = path.clone();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(read)).await;
    let text = text.map_err(|error| Failure::again(error.to_string()))?;
    let shown = path.display();
    let text = text.map_err(|error| {
        let error = http_client::plain(&error);
        Failure::again(format!("could not read {shown}: open {shown}: {error}"))
    })?;
    text.trim()
        .parse()
        .map_err(|error| Failure::again(format!("could not parse chat_id from {shown}: {error}")))
}
