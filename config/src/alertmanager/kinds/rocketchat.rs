//! `rocketchat_configs`.
//!
//! Compat: alertmanager `config`, `RocketchatConfig`; its fields and actions have no YAML names upstream, so
//! that their keys are Go's field names in lower case and are always printed.

use std::path::Path;

use super::super::global::Global;
use super::super::record::{Key, Record, Url, always, some};
use super::super::{Field, Notifier, Rocketchat, RocketchatAction};
use super::{Common, Kind, OptionalSource, at_most_one, demand, template};

#[derive(Default)]
pub(super) struct RawRocketchat {
    common: Common,
    api_url: Url,
    token: OptionalSource,
    token_id: OptionalSource,
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
            some("token_id", &mut self.token_id.secret),
            some("token_id_file", &mut self.token_id.file),
            some("token", &mut self.token.secret),
            some("token_file", &mut self.token.file),
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
        at_most_one(self.token.is_ambiguous(), "token", "token_file")?;
        at_most_one(self.token_id.is_ambiguous(), "token_id", "token_id_file")
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

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit(&global.rocketchat_api_url);
        self.token_id.inherit(&global.rocketchat_token_id);
        demand(self.token_id.is_set(), "no global Rocketchat TokenID set either inline or in a file")?;
        self.token.inherit(&global.rocketchat_token);
        demand(self.token.is_set(), "no global Rocketchat Token set either inline or in a file")
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let mut api_url = self.api_url;
        api_url.end_in_slash();
        let rocketchat = Rocketchat {
            http: self.common.client(),
            api_url: api_url.expose(),
            token: self.token.finish(base),
            token_id: self.token_id.finish(base),
            fields: self.fields.into_iter().map(|field| field.0).collect(),
            actions: self.actions,
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Rocketchat(Box::new(rocketchat)))
    }
}
