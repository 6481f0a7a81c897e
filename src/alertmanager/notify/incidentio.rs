//! incident.io: the body of a webhook, bounded.
//!
//! Compat: alertmanager `notify/incidentio` (0.34).

use config::alertmanager::Incidentio;
use config::http_client::Authorization;
use serde::Deserialize;

use super::exchange::{Exchange, encode, secret};
use super::webhook::{Payload, first_alerts};
use super::{Failure, Message};

const BYTES_MAX: usize = 512 << 10;

pub(super) async fn send(config: &Incidentio, message: &Message<'_>) -> Result<(), Failure> {
    let (message, n_truncated) = first_alerts(message, config.max_alerts);
    let mut payload = Payload::new(&message, "1", n_truncated);
    let mut body = encode(&payload)?;
    if body.len() > BYTES_MAX {
        // One alert is enough for an incident.
        payload.alerts.truncate(1);
        let before = body.len();
        body = encode(&payload)?;
        tracing::warn!(group = message.group_key, before, bytes = body.len(), "kept only the first alert");
    }
    let url = secret(&config.url, "url_file").await?;
    let mut http = config.http.clone();
    if let Some(token) = &config.alert_source_token {
        http.authorization = Some(Authorization { kind: "Bearer".to_owned(), credentials: token.clone() });
    }
    let exchange = Exchange::new(&http).within("incident.io", config.timeout);
    exchange.post_bytes(&url, body).await?.check_with(&[429], |_, body| detail(body)).await
}

fn detail(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        message: String,
        errors: Vec<String>,
        error: String,
    }
    let Ok(said) = serde_json::from_slice::<Said>(body) else { return String::new() };
    let parts = [said.message, said.error, said.errors.join(", ")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}
