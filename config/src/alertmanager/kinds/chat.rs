//! Chats with few keys: Discord, Microsoft Teams in both forms, Telegram, Webex and Wechat.
//!
//! Compat: alertmanager `notify/{discord,msteams,msteamsv2,telegram}`, `Config`; `config`, `WebexConfig`,
//! `WechatConfig`.

use std::path::Path;

use model::quote::go_quote;

use super::super::global::Global;
use super::super::record::{Int64, Key, Record, SecretUrl, Url, always, some};
use super::super::{Discord, Msteams, Msteamsv2, Notifier, Telegram, TelegramChat, Webex, Wechat};
use super::{Common, Kind, Source, at_most_one, demand, join, template};
use crate::http_client::SecretSource;
use crate::http_client::decode::secret_source;

/// `webhook_url` or `webhook_url_file`.
#[derive(Default)]
struct Hook {
    url: SecretUrl,
    file: String,
}

impl Hook {
    fn keys(&mut self) -> [Key<'_>; 2] {
        [some("webhook_url", &mut self.url), some("webhook_url_file", &mut self.file)]
    }

    fn check(&self) -> Result<(), String> {
        let (has_url, has_file) = (self.url.is_set(), !self.file.is_empty());
        demand(has_url || has_file, "one of webhook_url or webhook_url_file must be configured")?;
        at_most_one(has_url && has_file, "webhook_url", "webhook_url_file")
    }

    fn finish(&self, base: &Path) -> SecretSource {
        secret_source(base, self.url.secret(), &self.file)
    }
}

#[derive(Default)]
pub(super) struct RawDiscord {
    common: Common,
    hook: Hook,
    texts: Discord,
}

impl Record for RawDiscord {
    const GO_TYPE: &'static str = "discord.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend(self.hook.keys());
        keys.extend([
            some("content", &mut texts.content),
            some("title", &mut texts.title),
            some("message", &mut texts.message),
            some("username", &mut texts.username),
            some("avatar_url", &mut texts.avatar_url),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        self.hook.check()
    }
}

impl Kind for RawDiscord {
    fn new() -> Self {
        let texts = Discord {
            title: template("discord.default.title"),
            message: template("discord.default.message"),
            ..Discord::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let discord =
            Discord { http: self.common.client(), webhook_url: self.hook.finish(base), ..self.texts };
        (self.common.send_resolved, Notifier::Discord(Box::new(discord)))
    }
}

#[derive(Default)]
pub(super) struct RawMsteams {
    common: Common,
    hook: Hook,
    texts: Msteams,
}

impl Record for RawMsteams {
    const GO_TYPE: &'static str = "msteams.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend(self.hook.keys());
        keys.extend([
            some("title", &mut texts.title),
            some("summary", &mut texts.summary),
            some("text", &mut texts.text),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        self.hook.check()
    }
}

impl Kind for RawMsteams {
    fn new() -> Self {
        let texts = Msteams {
            title: template("msteams.default.title"),
            summary: template("msteams.default.summary"),
            text: template("msteams.default.text"),
            ..Msteams::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let msteams =
            Msteams { http: self.common.client(), webhook_url: self.hook.finish(base), ..self.texts };
        (self.common.send_resolved, Notifier::Msteams(Box::new(msteams)))
    }
}

#[derive(Default)]
pub(super) struct RawMsteamsv2 {
    common: Common,
    hook: Hook,
    texts: Msteamsv2,
}

impl Record for RawMsteamsv2 {
    const GO_TYPE: &'static str = "msteamsv2.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend(self.hook.keys());
        keys.extend([some("title", &mut texts.title), some("text", &mut texts.text)]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        self.hook.check()
    }
}

impl Kind for RawMsteamsv2 {
    fn new() -> Self {
        let texts = Msteamsv2 {
            title: template("msteamsv2.default.title"),
            text: template("msteamsv2.default.text"),
            ..Msteamsv2::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    /// The only kind whose own client still takes the proxy from `global`.
    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        if let (Some(own), Some(global)) = (&mut self.common.http, &global.http)
            && own.proxy.url.is_none()
        {
            own.proxy.url.clone_from(&global.proxy.url);
        }
        self.common.inherit(global);
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let msteams =
            Msteamsv2 { http: self.common.client(), webhook_url: self.hook.finish(base), ..self.texts };
        (self.common.send_resolved, Notifier::Msteamsv2(Box::new(msteams)))
    }
}

#[derive(Default)]
pub(super) struct RawTelegram {
    common: Common,
    api_url: Url,
    bot_token: Source,
    chat_id: Int64,
    chat_id_file: String,
    texts: Telegram,
}

impl Record for RawTelegram {
    const GO_TYPE: &'static str = "telegram.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            always("api_url", &mut self.api_url),
            some("bot_token", &mut self.bot_token.secret),
            some("bot_token_file", &mut self.bot_token.file),
            some("chat_id", &mut self.chat_id),
            some("chat_id_file", &mut self.chat_id_file),
            some("message_thread_id", &mut texts.message_thread_id),
            some("message", &mut texts.message),
            some("disable_notifications", &mut texts.disable_notifications),
            some("parse_mode", &mut texts.parse_mode),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        at_most_one(self.bot_token.is_ambiguous(), "bot_token", "bot_token_file")?;
        let (has_id, has_file) = (self.chat_id.0 != 0, !self.chat_id_file.is_empty());
        demand(has_id || has_file, "missing chat_id or chat_id_file on telegram_config")?;
        at_most_one(has_id && has_file, "chat_id", "chat_id_file")?;
        demand(
            matches!(self.texts.parse_mode.as_str(), "" | "Markdown" | "MarkdownV2" | "HTML"),
            "unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string",
        )
    }
}

impl Kind for RawTelegram {
    fn new() -> Self {
        let texts = Telegram {
            message: template("telegram.default.message"),
            parse_mode: "HTML".to_owned(),
            ..Telegram::default()
        };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit(&global.telegram_api_url);
        self.bot_token.inherit(&global.telegram_bot_token);
        demand(self.bot_token.is_set(), "missing bot_token or bot_token_file on telegram_config")
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let chat = match self.chat_id_file.as_str() {
            "" => TelegramChat::Id(self.chat_id.0),
            file => TelegramChat::File(join(base, file)),
        };
        let telegram = Telegram {
            http: self.common.client(),
            api_url: self.api_url.expose(),
            bot_token: self.bot_token.finish(base),
            chat,
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Telegram(Box::new(telegram)))
    }
}

#[derive(Default)]
pub(super) struct RawWebex {
    common: Common,
    api_url: Url,
    texts: Webex,
}

impl Record for RawWebex {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let mut keys = self.common.keys();
        keys.extend([
            some("api_url", &mut self.api_url),
            some("message", &mut self.texts.message),
            always("room_id", &mut self.texts.room_id),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        demand(!self.texts.room_id.is_empty(), "missing room_id on webex_config")?;
        demand(self.common.has_authorization(), "missing webex_configs.http_config.authorization")
    }
}

impl Kind for RawWebex {
    fn new() -> Self {
        let texts = Webex { message: template("webex.default.message"), ..Webex::default() };
        Self { common: Common::new(true), texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit(&global.webex_api_url);
        demand(self.api_url.is_set(), "no global Webex URL set")
    }

    fn finish(self, _: &Path) -> (bool, Notifier) {
        let webex = Webex { http: self.common.client(), api_url: self.api_url.expose(), ..self.texts };
        (self.common.send_resolved, Notifier::Webex(Box::new(webex)))
    }
}

#[derive(Default)]
pub(super) struct RawWechat {
    common: Common,
    api_secret: Source,
    api_url: Url,
    texts: Wechat,
}

impl Record for RawWechat {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let texts = &mut self.texts;
        let mut keys = self.common.keys();
        keys.extend([
            some("api_secret", &mut self.api_secret.secret),
            some("api_secret_file", &mut self.api_secret.file),
            some("corp_id", &mut texts.corp_id),
            some("message", &mut texts.message),
            some("api_url", &mut self.api_url),
            some("to_user", &mut texts.to_user),
            some("to_party", &mut texts.to_party),
            some("to_tag", &mut texts.to_tag),
            some("agent_id", &mut texts.agent_id),
            some("message_type", &mut texts.message_type),
        ]);
        keys
    }

    fn check(&mut self) -> Result<(), String> {
        if self.texts.message_type.is_empty() {
            "text".clone_into(&mut self.texts.message_type);
        }
        if !matches!(self.texts.message_type.as_str(), "text" | "markdown") {
            let kind = go_quote(self.texts.message_type.as_bytes());
            return Err(format!("weChat message type {kind} does not match valid options ^(text|markdown)$"));
        }
        at_most_one(self.api_secret.is_ambiguous(), "api_secret", "api_secret_file")
    }
}

impl Kind for RawWechat {
    fn new() -> Self {
        let texts = Wechat {
            message: template("wechat.default.message"),
            to_user: template("wechat.default.to_user"),
            to_party: template("wechat.default.to_party"),
            to_tag: template("wechat.default.to_tag"),
            agent_id: template("wechat.default.agent_id"),
            ..Wechat::default()
        };
        Self { texts, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        self.common.inherit(global);
        self.api_url.inherit_slashed(&mut global.wechat_api_url);
        demand(self.api_url.is_set(), "no global Wechat URL set")?;
        self.api_secret.inherit(&global.wechat_api_secret);
        demand(self.api_secret.is_set(), "no global Wechat Api Secret set either inline or in a file")?;
        if self.texts.corp_id.is_empty() {
            self.texts.corp_id.clone_from(&global.wechat_api_corp_id);
        }
        demand(!self.texts.corp_id.is_empty(), "no global Wechat CorpID set")?;
        Ok(())
    }

    fn finish(self, base: &Path) -> (bool, Notifier) {
        let wechat = Wechat {
            http: self.common.client(),
            api_secret: self.api_secret.finish(base),
            api_url: self.api_url.expose(),
            ..self.texts
        };
        (self.common.send_resolved, Notifier::Wechat(Box::new(wechat)))
    }
}
