//! `jira_configs` and `sns_configs`.
//!
//! Compat: alertmanager `notify/jira`, `JiraConfig`; `config`, `SNSConfig`.

use std::path::Path;
use std::time::Duration;

use super::super::global::Global;
use super::super::record::{FreeMap, Key, Record, Slot, Url, always, fields, read, some};
use super::super::{Jira, JiraText, Notifier, Sns};
use super::{Common, Kind, demand, template};
use crate::http_client::sigv4::{Sigv4, decode_sigv4, print_sigv4};
use crate::yaml::{Decoder, Issue, Node, Out};

#[derive(Default)]
pub(super) struct RawJira {
    common: Common,
    api_url: Url,
    reopen_duration: Duration,
    fields: FreeMap,
    texts: Jira,
}

impl Record for JiraText {
    const GO_TYPE: &'static str = "jira.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![some("template", &mut self.template), some("enable_update", &mut self.enable_update)]
    }
}

/// A template alone, or a section that holds it.
impl Slot for JiraText {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            *self = Self::default();
            Ok(())
        } else if node.text().is_some() {
            decoder.set(node, &mut self.template)
        } else {
            read(self, decoder, base, node).map(drop)
        }
    }

    fn print(&mut self) -> Out {
        fields(self).into_out()
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Record for RawJira {
    const GO_TYPE: &'static str = "jira.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_url", &mut self.api_url),
            some("api_type", &mut texts.api_type),
            some("project", &mut texts.project),
            some("summary", &mut texts.summary),
            some("description", &mut texts.description),
            some("labels", &mut texts.labels),
            some("priority", &mut texts.priority),
            some("issue_type", &mut texts.issue_type),
            some("reopen_transition", &mut texts.reopen_transition),
            some("resolve_transition", &mut texts.resolve_transition),
            some("wont_fix_resolution", &mut texts.wont_fix_resolution),
            some("reopen_duration", &mut self.reopen_duration),
            some("fields", &mut self.fields),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        demand(!self.texts.project.is_empty(), "missing project in jira_config")?;
        demand(!self.texts.issue_type.is_empty(), "missing issue_type in jira_config")?;
        demand(
            matches!(self.texts.api_type.as_str(), "auto" | "cloud" | "datacenter"),
            "unknown api_type on jira_config, must be auto, cloud or datacenter",
        )
    }
}

impl Kind for RawJira {
    fn new() -> Self {
        let text = |name: &str| JiraText { template: template(name), enable_update: None };
        let texts = Jira {
            api_type: "auto".to_owned(),
            summary: text("jira.default.summary"),
            description: text("jira.default.description"),
            priority: template("jira.default.priority"),
            ..Jira::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit(&global.jira_api_url);
        demand(self.api_url.is_set(), "no global Jira Cloud URL set")
    }

    fn finish(self, _: &Path) -> (bool, Notifier) {
        let jira = Jira {
            http: self.common.client(),
            api_url: self.api_url.expose(),
            reopen_duration: self.reopen_duration,
            fields: self.fields.into_json(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Jira(Box::new(jira)))
    }
}

#[derive(Default)]
pub(super) struct RawSns {
    common: Common,
    texts: Sns,
}

impl Slot for Sigv4 {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            *self = Self::default();
        } else if let Some(sigv4) = decode_sigv4(decoder, node)? {
            *self = sigv4;
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        print_sigv4(self)
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Record for RawSns {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_url", &mut texts.api_url),
            always("sigv4", &mut texts.sigv4),
            some("topic_arn", &mut texts.topic_arn),
            some("phone_number", &mut texts.phone_number),
            some("target_arn", &mut texts.target_arn),
            some("subject", &mut texts.subject),
            some("message", &mut texts.message),
            some("attributes", &mut texts.attributes),
            some("use_aws_http_client", &mut texts.use_aws_http_client),
        ]);
        keys
    }

    /// All three at once pass upstream's test, too.
    fn check(&mut self) -> Result<(), String> {
        let sns = &self.texts;
        let is_odd = !sns.target_arn.is_empty() ^ !sns.topic_arn.is_empty() ^ !sns.phone_number.is_empty();
        demand(is_odd, "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config")
    }
}

impl Kind for RawSns {
    fn new() -> Self {
        let texts = Sns {
            subject: template("sns.default.subject"),
            message: template("sns.default.message"),
            ..Sns::default()
        };
        Self { common: Common::new(true), texts }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, _: &Path) -> (bool, Notifier) {
        let sns = Sns { http: self.common.client(), ..self.texts };
        (self.common.send_resolved, Notifier::Sns(Box::new(sns)))
    }
}
