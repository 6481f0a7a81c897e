//! `WeCom` (`WeChat` for companies): a message of an app, sent with a token that is fetched for two hours.
//!
//! Compat: alertmanager `notify/wechat` (0.34).

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use config::alertmanager::Wechat;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::exchange::{Exchange, extended, reason, secret, shown};
use super::{Failure, Message};

const TOKEN_AGE_MAX: Duration = Duration::from_hours(2);
/// Tokens that are kept: one for each app.
const TOKENS_MAX: usize = 64;

/// Answers that say the token is of no use any more. Upstream knows only the first, and fails for two hours on the others.
const TOKEN_EXPIRED: [i64; 3] = [42001, 40014, 41001];

/// Who a token belongs to: address, company, secret.
type Owner = (String, String, String);

/// The tokens of this process. They are secrets, so the notification log, which is a file, does not keep them.
static TOKENS: LazyLock<Mutex<Vec<(Owner, String, Instant)>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Serialize)]
struct Post<'c> {
    text: Content,
    #[serde(skip_serializing_if = "String::is_empty")]
    touser: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    toparty: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    totag: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    agentid: String,
    safe: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    msgtype: &'c str,
    markdown: Content,
}

#[derive(Debug, Default, Serialize)]
struct Content {
    content: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Token {
    access_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    errcode: i64,
    errmsg: String,
}

pub(super) async fn send(config: &Wechat, message: &Message<'_>) -> Result<(), Failure> {
    let within = |failure: Failure| failure.within("templating error");
    let exchange = Exchange::new(&config.http);
    let secret = message.text(&secret(&config.api_secret, "api_secret_file").await?).map_err(within)?;
    let company = message.text(&config.corp_id).map_err(within)?;
    let owner = (config.api_url.clone(), company, secret);
    let token = match known(&owner) {
        Some(token) => token,
        None => fetch(exchange, &owner).await?,
    };
    let content = Content { content: message.told(&config.message) };
    let (text, markdown) = match config.message_type.as_str() {
        "markdown" => (Content::default(), content),
        _ => (content, Content::default()),
    };
    let to = |template: &str| message.text(template).map_err(within);
    let post = Post {
        text,
        touser: to(&config.to_user)?,
        toparty: to(&config.to_party)?,
        totag: to(&config.to_tag)?,
        agentid: to(&config.agent_id)?,
        safe: "0",
        msgtype: &config.message_type,
        markdown,
    };
    let url = extended(&config.api_url, "message/send", &[("access_token", &token)])?;
    let mut answer = exchange.post_json(url.as_str(), &post).await?;
    if answer.status != http::StatusCode::OK {
        let message = format!("unexpected status code {}", answer.status.as_u16());
        return Err(Failure::again(message).because(reason(answer.status)));
    }
    let body = answer.body().await?;
    let said: Said = serde_json::from_slice(&body)
        .map_err(|error| Failure::again(format!("parse the answer {:?}: {error}", shown(&body))))?;
    match said.errcode {
        0 => Ok(()),
        code if TOKEN_EXPIRED.contains(&code) => {
            TOKENS.lock().retain(|(other, _, _)| *other != owner);
            Err(Failure::again(said.errmsg))
        }
        _ => Err(Failure::last(said.errmsg)),
    }
}

fn known(owner: &Owner) -> Option<String> {
    let mut tokens = TOKENS.lock();
    tokens.retain(|(_, _, since)| since.elapsed() < TOKEN_AGE_MAX);
    tokens.iter().find(|(other, _, _)| other == owner).map(|(_, token, _)| token.clone())
}

async fn fetch(exchange: Exchange<'_>, owner: &Owner) -> Result<String, Failure> {
    let (url, company, secret) = owner;
    let url = extended(url, "gettoken", &[("corpid", company), ("corpsecret", secret)])?;
    let mut answer = exchange.ask(Method::GET, url, HeaderMap::new(), None).await?;
    // Upstream does not look at the status, and gives up on a page of a proxy that is about to recover.
    answer.check_with(&[429], |_, body| shown(body)).await?;
    let body = answer.body().await?;
    let token: Token = serde_json::from_slice(&body).map_err(|error| Failure::last(error.to_string()))?;
    if token.access_token.is_empty() {
        return Err(Failure::last(format!("invalid APISecret for CorpID: {company}")));
    }
    let mut tokens = TOKENS.lock();
    if tokens.len() == TOKENS_MAX {
        tokens.remove(0);
    }
    tokens.push((owner.clone(), token.access_token.clone(), Instant::now()));
    Ok(token.access_token)
}
