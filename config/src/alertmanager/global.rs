//! `global`: what receivers take where they say nothing.
//!
//! Compat: alertmanager `config`, `GlobalConfig` and the first half of `Config.UnmarshalYAML`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kinds::{OptionalSource, Source};
use super::record::{Key, Record, SecretUrl, Slot, Url, always, some};
use crate::http_client::{HttpClient, Tls};
use crate::yaml::{Decode as _, Decoder, Issue, Node, Out};
use model::quote::go_quote;

pub(super) struct Global {
    /// The directory of the configuration, to which relative paths belong.
    pub(super) base: PathBuf,
    pub(super) resolve_timeout: Duration,
    pub(super) http: Option<HttpClient>,
    pub(super) jira_api_url: Url,
    pub(super) smtp_from: String,
    pub(super) smtp_hello: String,
    pub(super) smtp_smarthost: HostPort,
    pub(super) smtp_auth_username: String,
    pub(super) smtp_auth_password: Source,
    pub(super) smtp_auth_secret: Source,
    pub(super) smtp_auth_identity: String,
    pub(super) smtp_require_tls: bool,
    pub(super) smtp_tls: Option<Tls>,
    pub(super) smtp_force_implicit_tls: Option<bool>,
    pub(super) slack_api_url: SecretUrl,
    pub(super) slack_api_url_file: String,
    pub(super) slack_app_token: Source,
    pub(super) slack_app_url: Url,
    pub(super) pagerduty_url: Url,
    pub(super) opsgenie_api_url: Url,
    pub(super) opsgenie_api_key: Source,
    pub(super) wechat_api_url: Url,
    pub(super) wechat_api_secret: Source,
    pub(super) wechat_api_corp_id: String,
    pub(super) victorops_api_url: Url,
    pub(super) victorops_api_key: Source,
    pub(super) telegram_api_url: Url,
    pub(super) telegram_bot_token: Source,
    pub(super) webex_api_url: Url,
    pub(super) rocketchat_api_url: Url,
    pub(super) rocketchat_token: OptionalSource,
    pub(super) rocketchat_token_id: OptionalSource,
    pub(super) mattermost_webhook_url: SecretUrl,
    pub(super) mattermost_webhook_url_file: String,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            base: PathBuf::new(),
            resolve_timeout: Duration::from_mins(5),
            http: Some(HttpClient::default()),
            jira_api_url: Url::default(),
            smtp_from: String::new(),
            smtp_hello: "localhost".to_owned(),
            smtp_smarthost: HostPort::default(),
            smtp_auth_username: String::new(),
            smtp_auth_password: Source::default(),
            smtp_auth_secret: Source::default(),
            smtp_auth_identity: String::new(),
            smtp_require_tls: true,
            smtp_tls: Some(Tls::default()),
            smtp_force_implicit_tls: None,
            slack_api_url: SecretUrl::default(),
            slack_api_url_file: String::new(),
            slack_app_token: Source::default(),
            slack_app_url: Url::of("https://slack.com/api/chat.postMessage"),
            pagerduty_url: Url::of("https://events.pagerduty.com/v2/enqueue"),
            opsgenie_api_url: Url::of("https://api.opsgenie.com/"),
            opsgenie_api_key: Source::default(),
            wechat_api_url: Url::of("https://qyapi.weixin.qq.com/cgi-bin/"),
            wechat_api_secret: Source::default(),
            wechat_api_corp_id: String::new(),
            victorops_api_url: Url::of("https://alert.victorops.com/integrations/generic/20131114/alert/"),
            victorops_api_key: Source::default(),
            telegram_api_url: Url::of("https://api.telegram.org"),
            telegram_bot_token: Source::default(),
            webex_api_url: Url::of("https://webexapis.com/v1/messages"),
            rocketchat_api_url: Url::of("https://open.rocket.chat/"),
            rocketchat_token: OptionalSource::default(),
            rocketchat_token_id: OptionalSource::default(),
            mattermost_webhook_url: SecretUrl::default(),
            mattermost_webhook_url_file: String::new(),
        }
    }
}

impl Record for Global {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            always("resolve_timeout", &mut self.resolve_timeout),
            some("http_config", &mut self.http),
            some("jira_api_url", &mut self.jira_api_url),
            some("smtp_from", &mut self.smtp_from),
            some("smtp_hello", &mut self.smtp_hello),
            some("smtp_smarthost", &mut self.smtp_smarthost),
            some("smtp_auth_username", &mut self.smtp_auth_username),
            some("smtp_auth_password", &mut self.smtp_auth_password.secret),
            some("smtp_auth_password_file", &mut self.smtp_auth_password.file),
            some("smtp_auth_secret", &mut self.smtp_auth_secret.secret),
            some("smtp_auth_secret_file", &mut self.smtp_auth_secret.file),
            some("smtp_auth_identity", &mut self.smtp_auth_identity),
            always("smtp_require_tls", &mut self.smtp_require_tls),
            some("smtp_tls_config", &mut self.smtp_tls),
            some("smtp_force_implicit_tls", &mut self.smtp_force_implicit_tls),
            some("slack_api_url", &mut self.slack_api_url),
            some("slack_api_url_file", &mut self.slack_api_url_file),
            some("slack_app_token", &mut self.slack_app_token.secret),
            some("slack_app_token_file", &mut self.slack_app_token.file),
            some("slack_app_url", &mut self.slack_app_url),
            some("pagerduty_url", &mut self.pagerduty_url),
            some("opsgenie_api_url", &mut self.opsgenie_api_url),
            some("opsgenie_api_key", &mut self.opsgenie_api_key.secret),
            some("opsgenie_api_key_file", &mut self.opsgenie_api_key.file),
            some("wechat_api_url", &mut self.wechat_api_url),
            some("wechat_api_secret", &mut self.wechat_api_secret.secret),
            some("wechat_api_secret_file", &mut self.wechat_api_secret.file),
            some("wechat_api_corp_id", &mut self.wechat_api_corp_id),
            some("victorops_api_url", &mut self.victorops_api_url),
            some("victorops_api_key", &mut self.victorops_api_key.secret),
            some("victorops_api_key_file", &mut self.victorops_api_key.file),
            some("telegram_api_url", &mut self.telegram_api_url),
            some("telegram_bot_token", &mut self.telegram_bot_token.secret),
            some("telegram_bot_token_file", &mut self.telegram_bot_token.file),
            some("webex_api_url", &mut self.webex_api_url),
            some("rocketchat_api_url", &mut self.rocketchat_api_url),
            some("rocketchat_token", &mut self.rocketchat_token.secret),
            some("rocketchat_token_file", &mut self.rocketchat_token.file),
            some("rocketchat_token_id", &mut self.rocketchat_token_id.secret),
            some("rocketchat_token_id_file", &mut self.rocketchat_token_id.file),
            some("mattermost_webhook_url", &mut self.mattermost_webhook_url),
            some("mattermost_webhook_url_file", &mut self.mattermost_webhook_url_file),
        ]
    }
}

impl Global {
    /// What excludes what, in upstream's order; judged after the rest of the file was read.
    pub(super) fn refusal(&self) -> Option<String> {
        let both = |source: &Source| !source.secret.is_empty() && !source.file.is_empty();
        let slack_url = self.slack_api_url.is_set();
        let slack_file = !self.slack_api_url_file.is_empty();
        let pair = |is_ambiguous: bool, key: &str| {
            is_ambiguous.then(|| format!("at most one of {key} & {key}_file must be configured"))
        };
        pair(both(&self.slack_app_token), "slack_app_token")
            .or_else(|| pair(slack_url && slack_file, "slack_api_url"))
            .or_else(|| {
                // A URL that is the application's own was the way to use tokens before there was a key for them.
                let is_app = self.slack_api_url.secret().expose() == self.slack_app_url.expose();
                (self.slack_app_token.is_set() && (slack_url || slack_file) && !is_app).then(|| {
                    "at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file \
                     must be configured"
                        .to_owned()
                })
            })
            .or_else(|| pair(both(&self.opsgenie_api_key), "opsgenie_api_key"))
            .or_else(|| pair(both(&self.victorops_api_key), "victorops_api_key"))
            .or_else(|| pair(both(&self.telegram_bot_token), "telegram_bot_token"))
            .or_else(|| pair(both(&self.smtp_auth_password), "smtp_auth_password"))
            .or_else(|| pair(self.rocketchat_token.is_ambiguous(), "rocketchat_token"))
            .or_else(|| pair(self.rocketchat_token_id.is_ambiguous(), "rocketchat_token_id"))
            .or_else(|| pair(both(&self.smtp_auth_secret), "smtp_auth_secret"))
            .or_else(|| pair(both(&self.wechat_api_secret), "wechat_api_secret"))
            .or_else(|| {
                let file = !self.mattermost_webhook_url_file.is_empty();
                pair(self.mattermost_webhook_url.is_set() && file, "mattermost_webhook_url")
            })
    }
}

/// `host:port`, or nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostPort(pub(super) String);

impl Slot for HostPort {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        if node.is_null() {
            self.0.clear();
        } else if let Some(text) = String::decode(decoder, node)?
            && !text.is_empty()
        {
            let (host, port) =
                split(&text).map_err(|why| Issue::new(node.pos, format!("address {text}: {why}")))?;
            if port.is_empty() {
                let text = go_quote(text.as_bytes());
                return Err(Issue::new(node.pos, format!("address {text}: port cannot be empty")));
            }
            self.0 = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::Text(self.0.clone())
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// Compat: Go `net.SplitHostPort`.
fn split(text: &str) -> Result<(&str, &str), &'static str> {
    const MISSING: &str = "missing port in address";
    const COLONS: &str = "too many colons in address";
    let colon = text.rfind(':').ok_or(MISSING)?;
    let (host, no_open, no_close) = if text.starts_with('[') {
        let end = text.find(']').ok_or("missing ']' in address")?;
        match text[end + 1..].chars().next() {
            Some(':') if end + 1 == colon => {}
            Some(':') => return Err(COLONS),
            _ => return Err(MISSING),
        }
        (&text[1..end], 1, end + 1)
    } else {
        let host = &text[..colon];
        if host.contains(':') {
            return Err(COLONS);
        }
        (host, 0, 0)
    };
    if text[no_open..].contains('[') {
        return Err("unexpected '[' in address");
    }
    if text[no_close..].contains(']') {
        return Err("unexpected ']' in address");
    }
    Ok((host, &text[colon + 1..]))
}
