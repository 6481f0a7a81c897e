//! `rocketchat_configs`.
//!
//! Compat: alertmanager `config`, `RocketchatConfig`; its fields and actions have no YAML names upstream, so
//! that their keys are Go's field names in lower case and are always printed.

use std::path::Path;

use super::super::global::Global;
use super::super::record::{Key, Record, Url, always, some};
use super::super::{Field, Notifier, Rocketchat, RocketchatAction};
use super::{Common, Kind, at_most_one, demand, template};
use crate::Secret;
use crate::http_client::decode::secret_source;

#[derive(Default)]
pub(super) struct RawRocketchat {
    common: Common,
    api_url: Url,
    token: Option<Secret>,
    token_file: String,
    token_id: Option<Secret>,
    token_id_file: String,
    fields: Vec<RawField>,
    actions: Vec<RocketchatAction>,
    /// All that is texts and switches; the rest of it is filled in at the end.
    texts: Rocketchat,
}

#[derive(Default)]
struct RawField(Field);

impl Record for RawField {
    const GO_TYPE: &'static str = "config.RocketchatAttachmentField";
    const GO_LIST: &'static str = "[]*config.RocketchatAttachmentField";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let field = &mut self.0;
        vec![
            always("short", &mut field.short),
            always("title", &mut field.title),
            always("value", &mut field.value),
        ]
    }
}

impl Record for RocketchatAction {
    const GO_TYPE: &'static str = "config.RocketchatAttachmentAction";
    const GO_LIST: &'static str = "[]*config.RocketchatAttachmentAction";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            always("type", &mut self.kind),
            always("text", &mut self.text),
            always("url", &mut self.url),
            always("imageurl", &mut self.image_url),
            always("iswebview", &mut self.is_webview),
            always("webviewheightratio", &mut self.webview_height_ratio),
            always("msg", &mut self.msg),
            always("msginchatwindow", &mut self.msg_in_chat_window),
            always("msgprocessingtype", &mut self.msg_processing_type),
        ]
    }
}

impl Record for RawRocketchat {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_url", &mut self.api_url),
            some("token_id", &mut self.token_id),
            some("token_id_file", &mut self.token_id_file),
            some("token", &mut self.token),
            some("token_file", &mut self.token_file),
            some("channel", &mut texts.channel),
            some("color", &mut texts.color),
            some("title", &mut texts.title),
            some("title_link", &mut texts.title_link),
            some("text", &mut texts.text),
            some("fields", &mut self.fields),
            always("short_fields", &mut texts.short_fields),
            some("emoji", &mut texts.emoji),
            some("icon_url", &mut texts.icon_url),
            some("image_url", &mut texts.image_url),
            some("thumb_url", &mut texts.thumb_url),
            always("link_names", &mut texts.link_names),
            some("actions", &mut self.actions),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        at_most_one(self.token.is_some() && !self.token_file.is_empty(), "token", "token_file")?;
        at_most_one(self.token_id.is_some() && !self.token_id_file.is_empty(), "token_id", "token_id_file")
    }
}

impl Kind for RawRocketchat {
    fn new() -> Self {
        let texts = Rocketchat {
            color: "{{ if eq .Status \"firing\" }}red{{ else }}green{{ end }}".to_owned(),
            emoji: template("rocketchat.default.emoji"),
            icon_url: template("rocketchat.default.iconurl"),
            text: template("rocketchat.default.text"),
            title: template("rocketchat.default.title"),
            title_link: template("rocketchat.default.titlelink"),
            ..Rocketchat::default()
        };
        Self { texts, ..Self::default() }
    }

    /// What the section sets itself wins over the other form in `global`, where upstream would keep both.
    fn inherit(&mut self, global: &Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit(&global.rocketchat_api_url);
        if self.token_id.is_none() && self.token_id_file.is_empty() {
            self.token_id.clone_from(&global.rocketchat_token_id);
            self.token_id_file.clone_from(&global.rocketchat_token_id_file);
        }
        demand(
            self.token_id.is_some() || !self.token_id_file.is_empty(),
            "no global Rocketchat TokenID set either inline or in a file",
        )?;
        if self.token.is_none() && self.token_file.is_empty() {
            self.token.clone_from(&global.rocketchat_token);
            self.token_file.clone_from(&global.rocketchat_token_file);
        }
        demand(
            self.token.is_some() || !self.token_file.is_empty(),
            "no global Rocketchat Token set either inline or in a file",
        )
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let mut api_url = self.api_url;
        api_url.end_in_slash();
        let rocketchat = Rocketchat {
            http: self.common.client(),
            api_url: api_url.expose(),
            token: secret_source(base, self.token.unwrap_or_default(), &self.token_file),
            token_id: secret_source(base, self.token_id.unwrap_or_default(), &self.token_id_file),
            fields: self.fields.into_iter().map(|field| field.0).collect(),
            actions: self.actions,
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Rocketchat(Box::new(rocketchat)))
    }
}
