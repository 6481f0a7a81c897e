//! `PagerDuty`: an event that triggers or resolves, in the words of its events API v1 or v2.
//!
//! Compat: alertmanager `notify/pagerduty` (0.34).

use config::alertmanager::{Pagerduty, PagerdutyImage, PagerdutyKey, PagerdutyLink};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::exchange::{Exchange, encode, secret};
use super::truncate::in_runes;
use super::{Failure, Message};

/// Where events of v1 go; the configured URL is that of v2.
const V1_URL: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";
const EVENT_BYTES_MAX: usize = 512_000;
const SUMMARY_RUNES_MAX: usize = 1024;
/// Upstream's words, its `KB` being 1000 bytes.
const CUT: &str =
    "Custom details have been removed because the original event exceeds the maximum size of 512KB";

/// The bodies of both versions, fields in upstream's order.
#[expect(clippy::struct_field_names, reason = "the names are the service's")]
#[derive(Debug, Default, Serialize)]
struct Event {
    #[serde(skip_serializing_if = "String::is_empty")]
    routing_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    service_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dedup_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    incident_key: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    event_type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    event_action: &'static str,
    payload: Option<Payload>,
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_url: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
}

#[derive(Debug, Serialize)]
struct Payload {
    summary: String,
    source: String,
    severity: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    component: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    custom_details: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct Image {
    src: String,
    alt: String,
    href: String,
}

#[derive(Debug, Serialize)]
struct Link {
    href: String,
    text: String,
}

pub(super) async fn send(config: &Pagerduty, message: &Message<'_>) -> Result<(), Failure> {
    let within = |failure: Failure| failure.within("failed to render details");
    let details = config.details.iter().map(|(name, value)| Ok((name.clone(), message.deep(value)?)));
    let details = details.collect::<Result<Map<_, _>, Failure>>().map_err(within)?;
    let action = if message.is_firing() { "trigger" } else { "resolve" };
    let exchange = Exchange::new(&config.http).within("pagerduty", config.timeout);
    match &config.key {
        PagerdutyKey::Service(key) => {
            let within = |failure: Failure| failure.within("failed to template PagerDuty v1 message");
            let key = secret(key, "service_key_file").await?;
            let mut event = v1(config, message, action, &key).map_err(within)?;
            if event.service_key.is_empty() {
                return Err(Failure::last("service key cannot be empty"));
            }
            event.details = details;
            let sent = exchange.post_bytes(V1_URL, encoded(event, message.group_key)?).await;
            let mut answer =
                sent.map_err(|failure| failure.within("failed to post message to PagerDuty v1"))?;
            // Here a limit on the rate says 403. Upstream counts all failures of v1 as `other`.
            answer.check_with(&[403], detail).await
        }
        PagerdutyKey::Routing(key) => {
            let within = |failure: Failure| failure.within("failed to template PagerDuty v2 message");
            let key = secret(key, "routing_key_file").await?;
            let event = v2(config, message, action, &key, details).map_err(within)?;
            if event.routing_key.is_empty() {
                return Err(Failure::last("routing key cannot be empty"));
            }
            let sent = exchange.post_bytes(&config.url, encoded(event, message.group_key)?).await;
            let mut answer = sent.map_err(|failure| failure.within("failed to post message to PagerDuty"))?;
            answer.check_with(&[429], detail).await
        }
    }
}

fn v1(config: &Pagerduty, message: &Message<'_>, action: &'static str, key: &str) -> Result<Event, Failure> {
    let is_trigger = action == "trigger";
    let of_trigger = |template: &str| if is_trigger { message.text(template) } else { Ok(String::new()) };
    Ok(Event {
        service_key: message.text(key)?,
        incident_key: message.group_key_hash(),
        event_type: action,
        description: summary(config, message),
        client: of_trigger(&config.client)?,
        client_url: of_trigger(&config.client_url)?,
        ..Event::default()
    })
}

fn v2(
    config: &Pagerduty,
    message: &Message<'_>,
    action: &'static str,
    key: &str,
    custom_details: Map<String, Value>,
) -> Result<Event, Failure> {
    let image = |image: &PagerdutyImage| {
        let (src, alt, href) = (&image.src, &image.alt, &image.href);
        Ok(Image { src: message.text(src)?, alt: message.text(alt)?, href: message.text(href)? })
    };
    let link =
        |link: &PagerdutyLink| Ok(Link { href: message.text(&link.href)?, text: message.text(&link.text)? });
    let mut images = config.images.iter().map(image).collect::<Result<Vec<_>, Failure>>()?;
    images.retain(|image| !image.src.is_empty());
    let mut links = config.links.iter().map(link).collect::<Result<Vec<_>, Failure>>()?;
    links.retain(|link| !link.href.is_empty());
    let severity = if config.severity.is_empty() { "error" } else { &config.severity };
    Ok(Event {
        routing_key: message.text(key)?,
        dedup_key: message.group_key_hash(),
        event_action: action,
        payload: Some(Payload {
            summary: summary(config, message),
            source: message.text(&config.source)?,
            severity: message.text(severity)?,
            class: message.text(&config.class)?,
            component: message.text(&config.component)?,
            group: message.text(&config.group)?,
            custom_details,
        }),
        client: message.text(&config.client)?,
        client_url: message.text(&config.client_url)?,
        images,
        links,
        ..Event::default()
    })
}

fn summary(config: &Pagerduty, message: &Message<'_>) -> String {
    in_runes(message.told(&config.description), SUMMARY_RUNES_MAX, "summary", message.group_key)
}

/// An event that is too large goes without its details.
fn encoded(mut event: Event, group: &str) -> Result<Vec<u8>, Failure> {
    let body = encode(&event)?;
    if body.len() <= EVENT_BYTES_MAX {
        return Ok(body);
    }
    tracing::warn!(group, bytes = body.len(), max_bytes = EVENT_BYTES_MAX, "removed the details of an event");
    let cut = Map::from_iter([("error".to_owned(), Value::from(CUT))]);
    match &mut event.payload {
        Some(payload) => payload.custom_details = cut,
        None => event.details = cut,
    }
    encode(&event)
}

/// What `PagerDuty` says of a bad request.
fn detail(code: u16, body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        message: String,
        errors: Vec<String>,
    }
    if code != 400 {
        return String::new();
    }
    let said: Result<Said, _> = serde_json::from_slice(body);
    said.map_or_else(|_| String::new(), |said| format!("{}: {}", said.message, said.errors.join(",")))
}
