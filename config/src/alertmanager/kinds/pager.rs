//! Services that page people: Pagerduty, Opsgenie, Pushover and Victorops.
//!
//! Compat: alertmanager `notify/pagerduty`, `notify/opsgenie`, `Config`; `config`, `PushoverConfig`,
//! `VictorOpsConfig`.

use std::path::Path;

use super::super::global::Global;
use super::super::record::{FreeMap, Key, Record, Span, Url, always, check_template, some};
use super::super::{
    Notifier, Opsgenie, OpsgenieResponder, Pagerduty, PagerdutyImage, PagerdutyKey, PagerdutyLink, Pushover,
    Victorops,
};
use super::{Common, Kind, Source, at_most_one, demand, template};
use crate::yaml::Out;
use crate::yaml::free::Free;

/// Details that every message has unless the file says otherwise.
const DETAILS: [(&str, &str); 4] = [
    ("firing", "{{ .Alerts.Firing | toJson }}"),
    ("resolved", "{{ .Alerts.Resolved | toJson }}"),
    ("num_firing", "{{ .Alerts.Firing | len }}"),
    ("num_resolved", "{{ .Alerts.Resolved | len }}"),
];

#[derive(Default)]
pub(super) struct RawPagerduty {
    common: Common,
    service_key: Source,
    routing_key: Source,
    url: Url,
    details: FreeMap,
    timeout: Span,
    texts: Pagerduty,
}

impl Record for PagerdutyImage {
    const GO_TYPE: &'static str = "pagerduty.PagerdutyImage";
    const GO_LIST: &'static str = "[]pagerduty.PagerdutyImage";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![some("src", &mut self.src), some("alt", &mut self.alt), some("href", &mut self.href)]
    }
}

impl Record for PagerdutyLink {
    const GO_TYPE: &'static str = "pagerduty.PagerdutyLink";
    const GO_LIST: &'static str = "[]pagerduty.PagerdutyLink";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![some("href", &mut self.href), some("text", &mut self.text)]
    }
}

impl Record for RawPagerduty {
    const GO_TYPE: &'static str = "pagerduty.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("service_key", &mut self.service_key.secret),
            some("service_key_file", &mut self.service_key.file),
            some("routing_key", &mut self.routing_key.secret),
            some("routing_key_file", &mut self.routing_key.file),
            some("url", &mut self.url),
            some("client", &mut texts.client),
            some("client_url", &mut texts.client_url),
            some("description", &mut texts.description),
            some("details", &mut self.details),
            some("images", &mut texts.images),
            some("links", &mut texts.links),
            some("source", &mut texts.source),
            some("severity", &mut texts.severity),
            some("class", &mut texts.class),
            some("component", &mut texts.component),
            some("group", &mut texts.group),
            always("timeout", &mut self.timeout),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        demand(
            self.routing_key.is_set() || self.service_key.is_set(),
            "missing service or routing key in PagerDuty config",
        )?;
        at_most_one(self.routing_key.is_ambiguous(), "routing_key", "routing_key_file")?;
        at_most_one(self.service_key.is_ambiguous(), "service_key", "service_key_file")?;
        if self.texts.source.is_empty() {
            self.texts.source.clone_from(&self.texts.client);
        }
        for (name, text) in DETAILS {
            let free = || Free { printed: Out::from(text), json: text.into() };
            self.details.0.entry(name.to_owned()).or_insert_with(free);
        }
        Ok(())
    }
}

impl Kind for RawPagerduty {
    fn new() -> Self {
        let texts = Pagerduty {
            // Without the last blank, as upstream has it.
            description: "{{ template \"pagerduty.default.description\" .}}".to_owned(),
            client: template("pagerduty.default.client"),
            client_url: template("pagerduty.default.clientURL"),
            ..Pagerduty::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.url.inherit(&global.pagerduty_url);
        demand(self.url.is_set(), "no global PagerDuty URL set")
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let key = if self.service_key.is_set() {
            PagerdutyKey::Service(self.service_key.finish(base))
        } else {
            PagerdutyKey::Routing(self.routing_key.finish(base))
        };
        let pagerduty = Pagerduty {
            http: self.common.client(),
            key,
            url: self.url.expose(),
            details: self.details.into_json(),
            timeout: self.timeout.duration(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Pagerduty(Box::new(pagerduty)))
    }
}

#[derive(Default)]
pub(super) struct RawOpsgenie {
    common: Common,
    api_key: Source,
    api_url: Url,
    texts: Opsgenie,
}

impl Record for OpsgenieResponder {
    const GO_TYPE: &'static str = "opsgenie.OpsGenieConfigResponder";
    const GO_LIST: &'static str = "[]opsgenie.OpsGenieConfigResponder";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            some("id", &mut self.id),
            some("name", &mut self.name),
            some("username", &mut self.username),
            some("type", &mut self.kind),
        ]
    }
}

impl Record for RawOpsgenie {
    const GO_TYPE: &'static str = "opsgenie.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_key", &mut self.api_key.secret),
            some("api_key_file", &mut self.api_key.file),
            some("api_url", &mut self.api_url),
            some("message", &mut texts.message),
            some("description", &mut texts.description),
            some("source", &mut texts.source),
            some("details", &mut texts.details),
            some("entity", &mut texts.entity),
            some("responders", &mut texts.responders),
            some("actions", &mut texts.actions),
            some("tags", &mut texts.tags),
            some("note", &mut texts.note),
            some("priority", &mut texts.priority),
            some("update_alerts", &mut texts.update_alerts),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        at_most_one(self.api_key.is_ambiguous(), "api_key", "api_key_file")?;
        self.texts.responders.iter().try_for_each(check_responder)
    }
}

fn check_responder(responder: &OpsgenieResponder) -> Result<(), String> {
    const KINDS: [&str; 5] = ["team", "teams", "user", "escalation", "schedule"];
    let OpsgenieResponder { id, name, username, kind } = responder;
    let shown = |kind: &str| format!("opsGenieConfig responder {{{id} {name} {username} {kind}}}");
    if id.is_empty() && username.is_empty() && name.is_empty() {
        return Err(format!("{} has to have at least one of id, username or name specified", shown(kind)));
    }
    if kind.contains("{{") {
        return check_template(kind)
            .map_err(|text| format!("{} type contains invalid template syntax: {text}", shown(kind)));
    }
    let kind = kind.to_lowercase();
    if !KINDS.contains(&kind.as_str()) {
        let valid = KINDS.join("|");
        return Err(format!("{} type does not match valid options ^({valid})$", shown(&kind)));
    }
    Ok(())
}

impl Kind for RawOpsgenie {
    fn new() -> Self {
        let texts = Opsgenie {
            message: template("opsgenie.default.message"),
            description: template("opsgenie.default.description"),
            source: template("opsgenie.default.source"),
            ..Opsgenie::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit_slashed(&mut global.opsgenie_api_url);
        demand(self.api_url.is_set(), "no global OpsGenie URL set")?;
        self.api_key.inherit_each(&global.opsgenie_api_key);
        demand(self.api_key.is_set(), "no global OpsGenie API Key set either inline or in a file")
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let opsgenie = Opsgenie {
            http: self.common.client(),
            api_key: self.api_key.finish(base),
            api_url: self.api_url.expose(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Opsgenie(Box::new(opsgenie)))
    }
}

#[derive(Default)]
pub(super) struct RawPushover {
    common: Common,
    user_key: Source,
    token: Source,
    retry: Span,
    expire: Span,
    ttl: Span,
    texts: Pushover,
}

impl Record for RawPushover {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("user_key", &mut self.user_key.secret),
            some("user_key_file", &mut self.user_key.file),
            some("token", &mut self.token.secret),
            some("token_file", &mut self.token.file),
            some("title", &mut texts.title),
            some("message", &mut texts.message),
            some("url", &mut texts.url),
            some("url_title", &mut texts.url_title),
            some("device", &mut texts.device),
            some("sound", &mut texts.sound),
            some("priority", &mut texts.priority),
            some("retry", &mut self.retry),
            some("expire", &mut self.expire),
            some("ttl", &mut self.ttl),
            some("html", &mut texts.html),
            some("monospace", &mut texts.monospace),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        demand(self.user_key.is_set(), "one of user_key or user_key_file must be configured")?;
        at_most_one(self.user_key.is_ambiguous(), "user_key", "user_key_file")?;
        demand(self.token.is_set(), "one of token or token_file must be configured")?;
        at_most_one(self.token.is_ambiguous(), "token", "token_file")?;
        at_most_one(self.texts.html && self.texts.monospace, "monospace", "html")
    }
}

impl Kind for RawPushover {
    fn new() -> Self {
        let texts = Pushover {
            title: template("pushover.default.title"),
            message: template("pushover.default.message"),
            url: template("pushover.default.url"),
            priority: "{{ if eq .Status \"firing\" }}2{{ else }}0{{ end }}".to_owned(),
            ..Pushover::default()
        };
        Self {
            common: Common::new(true),
            retry: Span::of_text(60),
            expire: Span::of_text(3600),
            ttl: Span::of_text(0),
            texts,
            ..Self::default()
        }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let pushover = Pushover {
            http: self.common.client(),
            user_key: self.user_key.finish(base),
            token: self.token.finish(base),
            retry: self.retry.duration(),
            expire: self.expire.duration(),
            ttl: self.ttl.duration(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Pushover(Box::new(pushover)))
    }
}

#[derive(Default)]
pub(super) struct RawVictorops {
    common: Common,
    api_key: Source,
    api_url: Url,
    texts: Victorops,
}

impl Record for RawVictorops {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_key", &mut self.api_key.secret),
            some("api_key_file", &mut self.api_key.file),
            always("api_url", &mut self.api_url),
            always("routing_key", &mut texts.routing_key),
            always("message_type", &mut texts.message_type),
            always("state_message", &mut texts.state_message),
            always("entity_display_name", &mut texts.entity_display_name),
            always("monitoring_tool", &mut texts.monitoring_tool),
            some("custom_fields", &mut texts.custom_fields),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        const RESERVED: [&str; 7] = [
            "routing_key",
            "message_type",
            "state_message",
            "entity_display_name",
            "monitoring_tool",
            "entity_id",
            "entity_state",
        ];
        demand(!self.texts.routing_key.is_empty(), "missing Routing key in VictorOps config")?;
        at_most_one(self.api_key.is_ambiguous(), "api_key", "api_key_file")?;
        match RESERVED.iter().find(|name| self.texts.custom_fields.contains_key(**name)) {
            Some(name) => Err(format!(
                "victorOps config contains custom field {name} which cannot be used as it conflicts with the \
                 fixed/static fields"
            )),
            None => Ok(()),
        }
    }
}

impl Kind for RawVictorops {
    fn new() -> Self {
        let texts = Victorops {
            message_type: "CRITICAL".to_owned(),
            state_message: template("victorops.default.state_message"),
            entity_display_name: template("victorops.default.entity_display_name"),
            monitoring_tool: template("victorops.default.monitoring_tool"),
            ..Victorops::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit_slashed(&mut global.victorops_api_url);
        demand(self.api_url.is_set(), "no global VictorOps URL set")?;
        self.api_key.inherit_each(&global.victorops_api_key);
        demand(self.api_key.is_set(), "no global VictorOps API Key set")
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let victorops = Victorops {
            http: self.common.client(),
            api_key: self.api_key.finish(base),
            api_url: self.api_url.expose(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Victorops(Box::new(victorops)))
    }
}
