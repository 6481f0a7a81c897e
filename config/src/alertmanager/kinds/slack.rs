//! `slack_configs`.
//!
//! Compat: alertmanager `config`, `SlackConfig`, `SlackAction`, `SlackConfirmationField`, `SlackField`.

use std::path::Path;

use super::super::global::Global;
use super::super::record::{Key, Record, SecretUrl, Span, Url, always, some};
use super::super::{Field, Notifier, Slack, SlackAction, SlackConfirmation, SlackTarget};
use super::{Common, Kind, Source, at_most_one, demand, template};
use crate::Secret;
use crate::http_client::Authorization;
use crate::http_client::decode::secret_source;

/// Where an application posts; the only address at which a message can be changed later.
const POST_MESSAGE: &str = "https://slack.com/api/chat.postMessage";

#[derive(Default)]
pub(super) struct RawSlack {
    common: Common,
    api_url: SecretUrl,
    api_url_file: String,
    app_token: Source,
    app_url: Url,
    fields: Vec<RawField>,
    actions: Vec<RawAction>,
    timeout: Span,
    /// All that is texts and switches; the rest of it is filled in at the end.
    texts: Slack,
}

#[derive(Default)]
struct RawField(Field);

impl Record for RawField {
    const GO_TYPE: &'static str = "config.plain";
    const GO_LIST: &'static str = "[]*config.SlackField";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let field = &mut self.0;
        vec![
            some("title", &mut field.title),
            some("value", &mut field.value),
            some("short", &mut field.short),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        demand(!self.0.title.is_empty(), "missing title in Slack field configuration")?;
        demand(!self.0.value.is_empty(), "missing value in Slack field configuration")
    }
}

#[derive(Default)]
struct RawAction {
    action: SlackAction,
    confirm: Option<Box<SlackConfirmation>>,
}

impl Record for SlackConfirmation {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            some("text", &mut self.text),
            some("title", &mut self.title),
            some("ok_text", &mut self.ok_text),
            some("dismiss_text", &mut self.dismiss_text),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        demand(!self.text.is_empty(), "missing text in Slack confirmation configuration")
    }
}

impl Record for RawAction {
    const GO_TYPE: &'static str = "config.plain";
    const GO_LIST: &'static str = "[]*config.SlackAction";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let action = &mut self.action;
        vec![
            some("type", &mut action.kind),
            some("text", &mut action.text),
            some("url", &mut action.url),
            some("style", &mut action.style),
            some("name", &mut action.name),
            some("value", &mut action.value),
            some("confirm", &mut self.confirm),
        ]
    }

    /// A link has none of what a button has.
    fn check(&mut self) -> Result<(), String> {
        let action = &mut self.action;
        demand(!action.kind.is_empty(), "missing type in Slack action configuration")?;
        demand(!action.text.is_empty(), "missing text in Slack action configuration")?;
        if action.url.is_empty() {
            return demand(!action.name.is_empty(), "missing name or url in Slack action configuration");
        }
        action.name.clear();
        action.value.clear();
        self.confirm = None;
        Ok(())
    }
}

impl Record for RawSlack {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_url", &mut self.api_url),
            some("api_url_file", &mut self.api_url_file),
            some("app_token", &mut self.app_token.secret),
            some("app_token_file", &mut self.app_token.file),
            some("app_url", &mut self.app_url),
            some("channel", &mut texts.channel),
            some("username", &mut texts.username),
            some("color", &mut texts.color),
            some("title", &mut texts.title),
            some("title_link", &mut texts.title_link),
            some("pretext", &mut texts.pretext),
            some("text", &mut texts.text),
            some("message_text", &mut texts.message_text),
            some("fields", &mut self.fields),
            always("short_fields", &mut texts.short_fields),
            some("footer", &mut texts.footer),
            some("fallback", &mut texts.fallback),
            some("callback_id", &mut texts.callback_id),
            some("icon_emoji", &mut texts.icon_emoji),
            some("icon_url", &mut texts.icon_url),
            some("image_url", &mut texts.image_url),
            some("thumb_url", &mut texts.thumb_url),
            always("link_names", &mut texts.link_names),
            some("mrkdwn_in", &mut texts.mrkdwn_in),
            some("actions", &mut self.actions),
            always("update_message", &mut texts.update_message),
            always("timeout", &mut self.timeout),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        let (has_url, has_file) = (self.api_url.is_set(), !self.api_url_file.is_empty());
        at_most_one(has_url && has_file, "api_url", "api_url_file")?;
        at_most_one(self.app_token.is_ambiguous(), "app_token", "app_token_file")?;
        at_most_one(
            (has_url || has_file) && self.app_token.is_set(),
            "api_url/api_url_file",
            "app_token/app_token_file",
        )?;
        // Upstream crashes where there is no `api_url`; the token may come from `global`, so that is judged later.
        if has_url || has_file { self.check_update() } else { Ok(()) }
    }
}

impl RawSlack {
    fn check_update(&self) -> Result<(), String> {
        demand(
            !self.texts.update_message || self.api_url.secret().expose() == POST_MESSAGE,
            "update_message can only be used with bot tokens. api_url must be set to \
             https://slack.com/api/chat.postMessage",
        )
    }
}

impl Kind for RawSlack {
    fn new() -> Self {
        let texts = Slack {
            color: template("slack.default.color"),
            username: template("slack.default.username"),
            title: template("slack.default.title"),
            title_link: template("slack.default.titlelink"),
            icon_emoji: template("slack.default.iconemoji"),
            icon_url: template("slack.default.iconurl"),
            pretext: template("slack.default.pretext"),
            text: template("slack.default.text"),
            fallback: template("slack.default.fallback"),
            callback_id: template("slack.default.callbackid"),
            footer: template("slack.default.footer"),
            ..Slack::default()
        };
        Self { texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.app_url.inherit(&global.slack_app_url);
        demand(self.app_url.is_set(), "no global Slack App URL set")?;
        if !self.app_token.is_set() && !self.common.has_authorization() && !self.api_url.is_set() {
            self.app_token = global.slack_app_token.clone();
        }
        if !self.api_url.is_set() && self.api_url_file.is_empty() {
            self.api_url = global.slack_api_url.clone();
            self.api_url_file.clone_from(&global.slack_api_url_file);
        }
        let has_url = self.api_url.is_set() || !self.api_url_file.is_empty();
        demand(
            has_url || self.app_token.is_set(),
            "no Slack API URL nor App token set either inline or in a file",
        )?;
        self.common.inherit(global);
        if !self.app_token.is_set() {
            return self.check_update();
        }
        if self.common.has_authorization() {
            return Err("http authorization can't be set when using Slack App tokens".to_owned());
        }
        let credentials = self.app_token.clone().finish(&global.base);
        let http = self.common.http.get_or_insert_default();
        http.authorization = Some(Authorization { kind: "Bearer".to_owned(), credentials });
        self.api_url = SecretUrl(Some(Secret::new(self.app_url.expose())));
        Ok(())
    }

    fn finish(mut self, base: &Path) -> (bool, Notifier) {
        let http = self.common.client();
        let target = if self.app_token.is_set() {
            let token = std::mem::take(&mut self.app_token).finish(base);
            SlackTarget::App { token, url: self.app_url.expose() }
        } else {
            SlackTarget::Webhook(secret_source(base, self.api_url.secret(), &self.api_url_file))
        };
        let actions = self.actions.into_iter();
        let slack = Slack {
            http,
            target,
            fields: self.fields.into_iter().map(|field| field.0).collect(),
            actions: actions
                .map(|raw| SlackAction { confirm: raw.confirm.map(|confirm| *confirm), ..raw.action })
                .collect(),
            timeout: self.timeout.duration(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Slack(Box::new(slack)))
    }
}
