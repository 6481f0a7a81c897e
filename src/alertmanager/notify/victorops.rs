//! `VictorOps`, by now Splunk On-Call: an event for each state of the group.
//!
//! Compat: alertmanager `notify/victorops` (0.34).

use std::collections::BTreeMap;

use config::alertmanager::Victorops;

use super::exchange::{Exchange, extended, path_escape, secret};
use super::truncate::in_runes;
use super::{Failure, Message};

const MESSAGE_RUNES_MAX: usize = 20_480;

const TRIGGER: &str = "CRITICAL";
const RESOLVE: &str = "RECOVERY";
/// What a message of alerts that fire may be called; anything else becomes [`TRIGGER`].
const FIRING: [&str; 3] = ["INFO", "WARNING", TRIGGER];

pub(super) async fn send(config: &Victorops, message: &Message<'_>) -> Result<(), Failure> {
    let within = |failure: Failure| failure.within("templating error");
    let key = secret(&config.api_key, "api_key_file").await?;
    let routing_key = message.text(&config.routing_key).map_err(within)?;
    let path = format!("{}/{}", path_escape(&key), path_escape(&routing_key));
    let url = extended(&config.api_url, &path, &[])?;
    let body = body(config, message).map_err(within)?;
    Exchange::new(&config.http).post_json(url.as_str(), &body).await?.check(&[]).await
}

fn body<'c>(config: &'c Victorops, message: &Message<'_>) -> Result<BTreeMap<&'c str, String>, Failure> {
    let kind = message.text(&config.message_type)?;
    let kind = match kind.as_str() {
        _ if !message.is_firing() => RESOLVE,
        known if FIRING.contains(&known) => known,
        _ => TRIGGER,
    };
    let text = message.told(&config.state_message);
    let mut body = BTreeMap::from([
        ("message_type", kind.to_owned()),
        ("entity_id", message.group_key_hash()),
        ("entity_display_name", message.told(&config.entity_display_name)),
        ("state_message", in_runes(text, MESSAGE_RUNES_MAX, "state_message", message.group_key)),
        ("monitoring_tool", message.text(&config.monitoring_tool)?),
    ]);
    for (name, template) in &config.custom_fields {
        body.insert(name, message.text(template)?);
    }
    Ok(body)
}
