//! Pushover: everything in the query of a POST without a body.
//!
//! Compat: alertmanager `notify/pushover` (0.34).

use config::alertmanager::Pushover;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::exchange::{Exchange, form, parse, secret};
use super::truncate::in_runes;
use super::{Failure, Message};

const URL: &str = "https://api.pushover.net/1/messages.json";

const TITLE_RUNES_MAX: usize = 250;
const MESSAGE_RUNES_MAX: usize = 1024;
const URL_RUNES_MAX: usize = 512;

pub(super) async fn send(config: &Pushover, message: &Message<'_>) -> Result<(), Failure> {
    let token = secret(&config.token, "token_file").await?;
    let user = secret(&config.user_key, "user_key_file").await?;
    let cut = |text: String, max, what| in_runes(text, max, what, message.group_key);
    let text = if config.html { message.told_html(&config.message) } else { message.told(&config.message) };
    let text = cut(text, MESSAGE_RUNES_MAX, "message");
    // Pushover refuses a message without text.
    let text = Some(text.trim()).filter(|text| !text.is_empty()).unwrap_or("(no details)");
    let mut parameters = vec![
        ("token", message.text(&token)?),
        ("user", message.text(&user)?),
        ("title", cut(message.told(&config.title), TITLE_RUNES_MAX, "title")),
        ("message", text.to_owned()),
        ("url", cut(message.text(&config.url)?, URL_RUNES_MAX, "URL")),
        ("url_title", message.text(&config.url_title)?),
        ("priority", message.text(&config.priority)?),
        ("retry", config.retry.as_secs().to_string()),
        ("expire", config.expire.as_secs().to_string()),
        ("device", message.text(&config.device)?),
        ("sound", message.text(&config.sound)?),
    ];
    if config.html {
        parameters.push(("html", "1".to_owned()));
    }
    if config.monospace {
        parameters.push(("monospace", "1".to_owned()));
    }
    if config.ttl.as_secs() > 0 {
        parameters.push(("ttl", config.ttl.as_secs().to_string()));
    }
    let mut pairs: Vec<_> = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let mut url = parse(URL)?;
    url.set_query(Some(&form(&pairs)));
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
    Exchange::new(&config.http).ask(Method::POST, url, headers, None).await?.check(&[]).await
}
