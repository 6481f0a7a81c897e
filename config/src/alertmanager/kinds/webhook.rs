//! `webhook_configs` and `incidentio_configs`: kinds whose body is JSON of the whole group.
//!
//! Compat: alertmanager `notify/webhook`, `WebhookConfig`; `notify/incidentio`, `IncidentioConfig`.

use std::path::Path;

use super::super::global::Global;
use super::super::record::{Key, Record, Span, TemplateUrl, Url, always, some};
use super::super::{Incidentio, Notifier, Webhook};
use super::{Common, Kind, Source, at_most_one, demand};
use crate::Secret;
use crate::http_client::decode::secret_source;
use crate::yaml::free::Free;

pub(super) struct RawWebhook {
    common: Common,
    url: TemplateUrl,
    url_file: String,
    max_alerts: u64,
    timeout: Span,
    payload: Option<Free>,
}

impl Record for RawWebhook {
    const GO_TYPE: &'static str = "webhook.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let mut keys = self.common.keys();
        keys.extend([
            some("url", &mut self.url),
            always("url_file", &mut self.url_file),
            always("max_alerts", &mut self.max_alerts),
            always("timeout", &mut self.timeout),
            some("payload", &mut self.payload),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        let (has_url, has_file) = (!self.url.0.is_empty(), !self.url_file.is_empty());
        demand(has_url || has_file, "one of url or url_file must be configured")?;
        at_most_one(has_url && has_file, "url", "url_file")
    }
}

impl Kind for RawWebhook {
    fn new() -> Self {
        Self {
            common: Common::new(true),
            url: TemplateUrl::default(),
            url_file: String::new(),
            max_alerts: 0,
            timeout: Span::default(),
            payload: None,
        }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let webhook = Webhook {
            http: self.common.client(),
            url: secret_source(base, self.url.0, &self.url_file),
            max_alerts: self.max_alerts,
            timeout: self.timeout.duration(),
            payload: self.payload.map(|payload| payload.json),
        };
        (self.common.send_resolved, Notifier::Webhook(Box::new(webhook)))
    }
}

pub(super) struct RawIncidentio {
    common: Common,
    url: Url,
    url_file: String,
    token: Source,
    max_alerts: u64,
    timeout: Span,
}

impl Record for RawIncidentio {
    const GO_TYPE: &'static str = "incidentio.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let mut keys = self.common.keys();
        keys.extend([
            always("url", &mut self.url),
            always("url_file", &mut self.url_file),
            some("alert_source_token", &mut self.token.secret),
            some("alert_source_token_file", &mut self.token.file),
            always("max_alerts", &mut self.max_alerts),
            always("timeout", &mut self.timeout),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        let (has_url, has_file) = (self.url.is_set(), !self.url_file.is_empty());
        demand(has_url || has_file, "one of url or url_file must be configured")?;
        at_most_one(has_url && has_file, "url", "url_file")?;
        at_most_one(self.token.is_ambiguous(), "alert_source_token", "alert_source_token_file")?;
        let is_authorized = self.common.has_authorization();
        if is_authorized && self.token.is_set() {
            return Err("cannot specify alert_source_token or alert_source_token_file when using \
                        http_config.authorization"
                .to_owned());
        }
        // Upstream asks only where there is an `http_config`; without one the first message fails there.
        demand(
            is_authorized || self.token.is_set() || self.common.http.is_none(),
            "at least one of alert_source_token, alert_source_token_file or http_config.authorization \
             must be configured",
        )
    }
}

impl Kind for RawIncidentio {
    fn new() -> Self {
        Self {
            common: Common::new(true),
            url: Url::default(),
            url_file: String::new(),
            token: Source::default(),
            max_alerts: 0,
            timeout: Span::default(),
        }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let incidentio = Incidentio {
            http: self.common.client(),
            url: secret_source(base, Secret::new(self.url.expose()), &self.url_file),
            alert_source_token: self.token.is_set().then(|| self.token.finish(base)),
            max_alerts: self.max_alerts,
            timeout: self.timeout.duration(),
        };
        (self.common.send_resolved, Notifier::Incidentio(Box::new(incidentio)))
    }
}
