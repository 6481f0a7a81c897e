//! `mattermost_configs`.
//!
//! Compat: alertmanager `notify/mattermost`, `MattermostConfig`.

use std::path::Path;

use super::super::global::Global;
use super::super::record::{Key, Record, SecretUrl, some};
use super::super::{Field, Mattermost, MattermostAttachment, MattermostPriority, Notifier};
use super::{Common, Kind, at_most_one, demand, template};
use crate::http_client::decode::secret_source;

#[derive(Default)]
pub(super) struct RawMattermost {
    common: Common,
    webhook_url: SecretUrl,
    webhook_url_file: String,
    channel: String,
    username: String,
    /// Its keys stand among those of the section.
    own: RawAttachment,
    icon_url: String,
    icon_emoji: String,
    attachments: Vec<RawAttachment>,
    kind: String,
    props: Option<Box<Props>>,
    priority: Option<Box<MattermostPriority>>,
}

#[derive(Default)]
struct RawField(Field);

impl Record for RawField {
    const GO_TYPE: &'static str = "mattermost.plain";
    const GO_LIST: &'static str = "[]*mattermost.MattermostField";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let field = &mut self.0;
        vec![
            some("title", &mut field.title),
            some("value", &mut field.value),
            some("short", &mut field.short),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        demand(!self.0.title.is_empty(), "missing title in Mattermost field configuration")?;
        demand(!self.0.value.is_empty(), "missing value in Mattermost field configuration")
    }
}

#[derive(Default)]
struct RawAttachment {
    texts: MattermostAttachment,
    fields: Vec<RawField>,
}

impl Record for RawAttachment {
    const GO_TYPE: &'static str = "mattermost.MattermostAttachment";
    const GO_LIST: &'static str = "[]*mattermost.MattermostAttachment";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        vec![
            some("fallback", &mut texts.fallback),
            some("color", &mut texts.color),
            some("pretext", &mut texts.pretext),
            some("text", &mut texts.text),
            some("author_name", &mut texts.author_name),
            some("author_link", &mut texts.author_link),
            some("author_icon", &mut texts.author_icon),
            some("title", &mut texts.title),
            some("title_link", &mut texts.title_link),
            some("fields", &mut self.fields),
            some("thumb_url", &mut texts.thumb_url),
            some("footer", &mut texts.footer),
            some("footer_icon", &mut texts.footer_icon),
            some("image_url", &mut texts.image_url),
        ]
    }
}

impl RawAttachment {
    fn finish(self) -> MattermostAttachment {
        let fields = self.fields.into_iter().map(|field| field.0).collect();
        MattermostAttachment { fields, ..self.texts }
    }
}

#[derive(Default)]
struct Props {
    card: String,
}

impl Record for Props {
    const GO_TYPE: &'static str = "mattermost.MattermostProps";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![some("card", &mut self.card)]
    }
}

impl Record for MattermostPriority {
    const GO_TYPE: &'static str = "mattermost.MattermostPriority";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            some("priority", &mut self.priority),
            some("requested_ack", &mut self.requested_ack),
            some("persistent_notifications", &mut self.persistent_notifications),
        ]
    }
}

impl Record for RawMattermost {
    const GO_TYPE: &'static str = "mattermost.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let mut keys = self.common.keys();
        keys.extend([
            some("webhook_url", &mut self.webhook_url),
            some("webhook_url_file", &mut self.webhook_url_file),
            some("channel", &mut self.channel),
            some("username", &mut self.username),
        ]);
        let texts = &mut self.own.texts;
        keys.extend([
            some("text", &mut texts.text),
            some("fallback", &mut texts.fallback),
            some("color", &mut texts.color),
            some("pretext", &mut texts.pretext),
            some("author_name", &mut texts.author_name),
            some("author_link", &mut texts.author_link),
            some("author_icon", &mut texts.author_icon),
            some("title", &mut texts.title),
            some("title_link", &mut texts.title_link),
            some("fields", &mut self.own.fields),
            some("thumb_url", &mut texts.thumb_url),
            some("footer", &mut texts.footer),
            some("footer_icon", &mut texts.footer_icon),
            some("image_url", &mut texts.image_url),
            some("icon_url", &mut self.icon_url),
            some("icon_emoji", &mut self.icon_emoji),
            some("attachments", &mut self.attachments),
            some("type", &mut self.kind),
            some("props", &mut self.props),
            some("priority", &mut self.priority),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        let is_ambiguous = self.webhook_url.is_set() && !self.webhook_url_file.is_empty();
        at_most_one(is_ambiguous, "webhook_url", "webhook_url_file")
    }
}

impl Kind for RawMattermost {
    fn new() -> Self {
        let texts = MattermostAttachment {
            color: template("mattermost.default.color"),
            text: template("mattermost.default.text"),
            title: template("mattermost.default.title"),
            title_link: template("mattermost.default.titlelink"),
            fallback: template("mattermost.default.fallback"),
            ..MattermostAttachment::default()
        };
        Self {
            common: Common::new(true),
            username: template("mattermost.default.username"),
            own: RawAttachment { texts, fields: Vec::new() },
            ..Self::default()
        }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        if !self.webhook_url.is_set() && self.webhook_url_file.is_empty() {
            self.webhook_url = global.mattermost_webhook_url.clone();
            self.webhook_url_file.clone_from(&global.mattermost_webhook_url_file);
        }
        demand(
            self.webhook_url.is_set() || !self.webhook_url_file.is_empty(),
            "missing webhook_url or webhook_url_file on mattermost_config",
        )
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let own = self.own.finish();
        let mattermost = Mattermost {
            http: self.common.client(),
            webhook_url: secret_source(base, self.webhook_url.secret(), &self.webhook_url_file),
            channel: self.channel,
            username: self.username,
            text: own.text.clone(),
            own,
            icon_url: self.icon_url,
            icon_emoji: self.icon_emoji,
            attachments: self.attachments.into_iter().map(RawAttachment::finish).collect(),
            kind: self.kind,
            card: self.props.map(|props| props.card),
            priority: self.priority.map(|priority| *priority),
        };
        (self.common.send_resolved, Notifier::Mattermost(Box::new(mattermost)))
    }
}
