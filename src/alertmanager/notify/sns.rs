//! Amazon SNS: a message to a topic, a phone or an endpoint, signed.
//!
//! Compat: alertmanager `notify/sns` (0.34), and what Amazon's library makes of it.

use std::collections::BTreeMap;

use config::alertmanager::Sns;

use super::exchange::{Exchange, parse};
use super::{Failure, Message, aws};

const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// For a phone.
const SMS_BYTES_MAX: usize = 1600;

pub(super) async fn send(config: &Sns, message: &Message<'_>) -> Result<(), Failure> {
    let pairs = publish(config, message)?;
    let region = match config.sigv4.region.as_str() {
        "" => {
            std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION")).unwrap_or_default()
        }
        region => region.to_owned(),
    };
    if region.is_empty() {
        let text = "region not configured in sns.sigv4.region or in default credentials chain";
        return Err(Failure::last(text));
    }
    let url = filled(message, "api_url", &config.api_url)?;
    let url = if url.is_empty() { aws::endpoint("sns", &region)? } else { parse(&url)? };
    let exchange = Exchange::new(&config.http);
    let keys = aws::keys(&config.sigv4, &region, exchange).await?;
    aws::post(&url, &pairs, &keys, &region, "sns", exchange).await.map(drop)
}

/// Upstream repeats itself on a template that fails; nothing helps there.
fn filled(message: &Message<'_>, name: &str, template: &str) -> Result<String, Failure> {
    let within = |failure: Failure| failure.within(&format!("execute '{name}' template"));
    message.text(template).map_err(|failure| within(failure).because("clientError"))
}

/// The parameters of the call, sorted by name.
fn publish(config: &Sns, message: &Message<'_>) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs = BTreeMap::new();
    let mut put = |name: &str, value: &str| pairs.insert(name.to_owned(), value.to_owned());
    put("Action", "Publish");
    put("Version", "2010-03-31");
    let mut attributes = BTreeMap::new();
    for (name, value) in &config.attributes {
        attributes.insert(filled(message, "attributes", name)?, filled(message, "attributes", value)?);
    }
    if !config.topic_arn.is_empty() {
        let topic = filled(message, "topic_arn", &config.topic_arn)?;
        put("TopicArn", &topic);
        if topic.strip_suffix(".fifo").is_some() {
            let hash = message.group_key_hash();
            put("MessageDeduplicationId", &hash);
            put("MessageGroupId", &hash);
        }
    }
    let mut max = MESSAGE_BYTES_MAX;
    if !config.phone_number.is_empty() {
        put("PhoneNumber", &filled(message, "phone_number", &config.phone_number)?);
        max = SMS_BYTES_MAX;
    }
    if !config.target_arn.is_empty() {
        put("TargetArn", &filled(message, "target_arn", &config.target_arn)?);
    }
    let mut text = message.told(&config.message);
    if text.len() > max {
        // Upstream cuts a character in two if need be.
        text.truncate(text.floor_char_boundary(max));
        attributes.insert("truncated".to_owned(), "true".to_owned());
    }
    put("Message", &text);
    if !config.subject.is_empty() {
        put("Subject", &filled(message, "subject", &config.subject)?);
    }
    for (i, (name, value)) in (1..).zip(&attributes) {
        put(&format!("MessageAttributes.entry.{i}.Name"), name);
        put(&format!("MessageAttributes.entry.{i}.Value.DataType"), "String");
        put(&format!("MessageAttributes.entry.{i}.Value.StringValue"), value);
    }
    Ok(pairs.into_iter().collect())
}
