//! Who is told, and how: one struct per kind of receiver, globals already merged in.
//!
//! Texts are templates unless a field says otherwise. Which HTTP requests they become is not decided here.
//!
//! Compat: alertmanager `config`, `Receiver`, and the `Config` types of `notify/*` (0.34).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::http_client::sigv4::Sigv4;
use crate::http_client::{HttpClient, SecretSource, Tls};

#[derive(Clone, Debug, Default)]
pub struct Receiver {
    pub name: String,
    /// What API and amtool find it by; `name` is always among them.
    pub labels: BTreeMap<String, String>,
    /// In the order in which upstream lists the kinds.
    pub integrations: Vec<Integration>,
}

/// One way in which a receiver is told.
#[derive(Clone, Debug)]
pub struct Integration {
    /// The place among those of its kind: part of its identity in the notification log.
    pub index: usize,
    pub send_resolved: bool,
    pub notifier: Notifier,
}

#[derive(Clone, Debug)]
pub enum Notifier {
    Webhook(Box<Webhook>),
    Email(Box<Email>),
    Pagerduty(Box<Pagerduty>),
    Opsgenie(Box<Opsgenie>),
    Wechat(Box<Wechat>),
    Slack(Box<Slack>),
    Victorops(Box<Victorops>),
    Pushover(Box<Pushover>),
    Sns(Box<Sns>),
    Telegram(Box<Telegram>),
    Discord(Box<Discord>),
    Webex(Box<Webex>),
    Msteams(Box<Msteams>),
    Msteamsv2(Box<Msteamsv2>),
    Jira(Box<Jira>),
    Incidentio(Box<Incidentio>),
    Rocketchat(Box<Rocketchat>),
    Mattermost(Box<Mattermost>),
}

impl Notifier {
    /// The kind, as metrics and the notification log name it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Email(_) => "email",
            Self::Pagerduty(_) => "pagerduty",
            Self::Opsgenie(_) => "opsgenie",
            Self::Wechat(_) => "wechat",
            Self::Slack(_) => "slack",
            Self::Victorops(_) => "victorops",
            Self::Pushover(_) => "pushover",
            Self::Sns(_) => "sns",
            Self::Telegram(_) => "telegram",
            Self::Discord(_) => "discord",
            Self::Webex(_) => "webex",
            Self::Msteams(_) => "msteams",
            Self::Msteamsv2(_) => "msteamsv2",
            Self::Jira(_) => "jira",
            Self::Incidentio(_) => "incidentio",
            Self::Rocketchat(_) => "rocketchat",
            Self::Mattermost(_) => "mattermost",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Email {
    pub to: String,
    pub from: String,
    /// The name given in EHLO.
    pub hello: String,
    /// `host:port`; port 465 means implicit TLS.
    pub smarthost: String,
    pub auth_username: String,
    pub auth_password: SecretSource,
    /// For CRAM-MD5.
    pub auth_secret: SecretSource,
    pub auth_identity: String,
    /// STARTTLS is demanded; without it a server that offers it is used in the clear all the same.
    pub require_tls: bool,
    /// `None` for implicit TLS on port 465 only.
    pub force_implicit_tls: Option<bool>,
    pub tls: Tls,
    /// Templates by canonical header name; `From`, `To` and `Subject` are always there.
    pub headers: BTreeMap<String, String>,
    /// Whether the file sets `Subject`, so that it is not ours to choose.
    pub has_subject: bool,
    /// Templates of the parts; `text` is empty for none.
    pub html: String,
    pub text: String,
    /// Upstream's threading, with its made-up root.
    pub threading: Option<Threading>,
    /// What the mail looks like; [`Layout::Ferula`] only where the file sets neither `html` nor `text`.
    pub layout: Layout,
    /// Keys of ours beside upstream's.
    pub extensions: EmailExtensions,
}

/// `threading.thread_by_date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threading {
    /// A thread for each group and day.
    Daily,
    /// A thread for each group.
    Forever,
}

/// `layout`, a key of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// With value, graph and links.
    #[default]
    Ferula,
    /// The templates `email.default.html` and `email.default.text`.
    Alertmanager,
}

/// What `email_configs` may say beyond upstream; `ferula am export` leaves these keys out.
#[derive(Clone, Debug, PartialEq)]
pub struct EmailExtensions {
    /// `max_alerts`: rows of the table of alerts.
    pub max_alerts: usize,
    /// `timezone`: an IANA name; UTC where it is empty.
    pub timezone: String,
    /// `actions`: signed links that silence.
    pub has_actions: bool,
    /// `graphs`: images of the expression.
    pub has_graphs: bool,
    /// `auth_optional`: go on without a login where the server offers none.
    pub is_auth_optional: bool,
    /// `auth_token` or `auth_token_file`: a bearer token for XOAUTH2.
    pub auth_token: Option<SecretSource>,
}

impl Default for EmailExtensions {
    fn default() -> Self {
        Self {
            max_alerts: 20,
            timezone: String::new(),
            has_actions: true,
            has_graphs: true,
            is_auth_optional: true,
            auth_token: None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Webhook {
    pub http: HttpClient,
    /// A template.
    pub url: SecretSource,
    /// The most alerts in one message, 0 for all.
    pub max_alerts: u64,
    /// Zero for none.
    pub timeout: Duration,
    /// Replaces the standard body; its strings are templates.
    pub payload: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default)]
pub struct Pagerduty {
    pub http: HttpClient,
    pub key: PagerdutyKey,
    pub url: String,
    pub client: String,
    pub client_url: String,
    pub description: String,
    /// Upstream's four defaults are merged in.
    pub details: BTreeMap<String, serde_json::Value>,
    pub severity: String,
    pub source: String,
    pub class: String,
    pub component: String,
    pub group: String,
    pub images: Vec<PagerdutyImage>,
    pub links: Vec<PagerdutyLink>,
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub enum PagerdutyKey {
    /// The events API v1.
    Service(SecretSource),
    /// The events API v2.
    Routing(SecretSource),
}

impl Default for PagerdutyKey {
    fn default() -> Self {
        Self::Routing(SecretSource::default())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PagerdutyImage {
    pub src: String,
    pub alt: String,
    pub href: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PagerdutyLink {
    pub href: String,
    pub text: String,
}

#[derive(Clone, Debug, Default)]
pub struct Opsgenie {
    pub http: HttpClient,
    pub api_key: SecretSource,
    /// Ends in a slash.
    pub api_url: String,
    pub message: String,
    pub description: String,
    pub source: String,
    pub details: BTreeMap<String, String>,
    pub entity: String,
    pub responders: Vec<OpsgenieResponder>,
    pub actions: String,
    pub tags: String,
    pub note: String,
    pub priority: String,
    pub update_alerts: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpsgenieResponder {
    pub id: String,
    pub name: String,
    pub username: String,
    /// `team`, `teams`, `user`, `escalation`, `schedule`, or a template.
    pub kind: String,
}

#[derive(Clone, Debug, Default)]
pub struct Wechat {
    pub http: HttpClient,
    pub api_secret: SecretSource,
    /// Ends in a slash.
    pub api_url: String,
    pub corp_id: String,
    pub message: String,
    pub to_user: String,
    pub to_party: String,
    pub to_tag: String,
    pub agent_id: String,
    /// `text` or `markdown`.
    pub message_type: String,
}

#[derive(Clone, Debug, Default)]
pub struct Slack {
    pub http: HttpClient,
    pub target: SlackTarget,
    pub channel: String,
    pub username: String,
    pub color: String,
    pub title: String,
    pub title_link: String,
    pub pretext: String,
    pub text: String,
    pub message_text: String,
    pub fields: Vec<Field>,
    pub short_fields: bool,
    pub footer: String,
    pub fallback: String,
    pub callback_id: String,
    pub icon_emoji: String,
    pub icon_url: String,
    pub image_url: String,
    pub thumb_url: String,
    pub link_names: bool,
    pub mrkdwn_in: Vec<String>,
    pub actions: Vec<SlackAction>,
    pub update_message: bool,
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub enum SlackTarget {
    /// An incoming webhook.
    Webhook(SecretSource),
    /// A bot's token, sent as bearer to `url`.
    App { token: SecretSource, url: String },
}

impl Default for SlackTarget {
    fn default() -> Self {
        Self::Webhook(SecretSource::default())
    }
}

/// A field of an attachment, of Slack, Mattermost and Rocket.Chat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    pub title: String,
    pub value: String,
    /// `None` leaves it to `short_fields`.
    pub short: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackAction {
    pub kind: String,
    pub text: String,
    pub url: String,
    pub style: String,
    pub name: String,
    pub value: String,
    pub confirm: Option<SlackConfirmation>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackConfirmation {
    pub text: String,
    pub title: String,
    pub ok_text: String,
    pub dismiss_text: String,
}

#[derive(Clone, Debug, Default)]
pub struct Victorops {
    pub http: HttpClient,
    pub api_key: SecretSource,
    /// Ends in a slash.
    pub api_url: String,
    pub routing_key: String,
    pub message_type: String,
    pub state_message: String,
    pub entity_display_name: String,
    pub monitoring_tool: String,
    pub custom_fields: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Pushover {
    pub http: HttpClient,
    /// A template.
    pub user_key: SecretSource,
    /// A template.
    pub token: SecretSource,
    pub title: String,
    pub message: String,
    pub url: String,
    pub url_title: String,
    pub device: String,
    pub sound: String,
    pub priority: String,
    pub retry: Duration,
    pub expire: Duration,
    pub ttl: Duration,
    pub html: bool,
    pub monospace: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Sns {
    pub http: HttpClient,
    /// A template.
    pub api_url: String,
    pub sigv4: Sigv4,
    pub topic_arn: String,
    pub phone_number: String,
    pub target_arn: String,
    pub subject: String,
    pub message: String,
    pub attributes: BTreeMap<String, String>,
    pub use_aws_http_client: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Telegram {
    pub http: HttpClient,
    pub api_url: String,
    pub bot_token: SecretSource,
    pub chat: TelegramChat,
    pub message_thread_id: i64,
    pub message: String,
    pub disable_notifications: bool,
    /// `Markdown`, `MarkdownV2`, `HTML` or empty.
    pub parse_mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TelegramChat {
    Id(i64),
    /// A file that holds the id.
    File(PathBuf),
}

impl Default for TelegramChat {
    fn default() -> Self {
        Self::Id(0)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Discord {
    pub http: HttpClient,
    pub webhook_url: SecretSource,
    pub content: String,
    pub title: String,
    pub message: String,
    pub username: String,
    pub avatar_url: String,
}

#[derive(Clone, Debug, Default)]
pub struct Webex {
    /// Carries the bot's token.
    pub http: HttpClient,
    pub api_url: String,
    pub message: String,
    pub room_id: String,
}

#[derive(Clone, Debug, Default)]
pub struct Msteams {
    pub http: HttpClient,
    pub webhook_url: SecretSource,
    pub title: String,
    pub summary: String,
    pub text: String,
}

#[derive(Clone, Debug, Default)]
pub struct Msteamsv2 {
    pub http: HttpClient,
    pub webhook_url: SecretSource,
    pub title: String,
    pub text: String,
}

#[derive(Clone, Debug, Default)]
pub struct Jira {
    pub http: HttpClient,
    pub api_url: String,
    /// `auto`, `cloud` or `datacenter`.
    pub api_type: String,
    pub project: String,
    pub summary: JiraText,
    pub description: JiraText,
    pub labels: Vec<String>,
    pub priority: String,
    pub issue_type: String,
    pub reopen_transition: String,
    pub resolve_transition: String,
    pub wont_fix_resolution: String,
    pub reopen_duration: Duration,
    /// Any YAML; its strings are templates.
    pub fields: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct JiraText {
    pub template: String,
    /// Whether an issue that exists is changed.
    pub enable_update: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub struct Incidentio {
    pub http: HttpClient,
    /// No template.
    pub url: SecretSource,
    /// `None` where `http_config` authorises.
    pub alert_source_token: Option<SecretSource>,
    /// 0 for all.
    pub max_alerts: u64,
    /// Zero for none.
    pub timeout: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Rocketchat {
    pub http: HttpClient,
    /// Ends in a slash.
    pub api_url: String,
    pub token: SecretSource,
    pub token_id: SecretSource,
    pub channel: String,
    pub color: String,
    pub title: String,
    pub title_link: String,
    pub text: String,
    pub fields: Vec<Field>,
    pub short_fields: bool,
    pub emoji: String,
    pub icon_url: String,
    pub image_url: String,
    pub thumb_url: String,
    pub link_names: bool,
    pub actions: Vec<RocketchatAction>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RocketchatAction {
    pub kind: String,
    pub text: String,
    pub url: String,
    pub image_url: String,
    pub is_webview: bool,
    pub webview_height_ratio: String,
    pub msg: String,
    pub msg_in_chat_window: bool,
    pub msg_processing_type: String,
}

#[derive(Clone, Debug, Default)]
pub struct Mattermost {
    pub http: HttpClient,
    pub webhook_url: SecretSource,
    pub channel: String,
    pub username: String,
    pub text: String,
    /// The attachment that the fields of the section itself make.
    pub own: MattermostAttachment,
    pub icon_url: String,
    pub icon_emoji: String,
    pub attachments: Vec<MattermostAttachment>,
    pub kind: String,
    /// `props.card`.
    pub card: Option<String>,
    pub priority: Option<MattermostPriority>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MattermostAttachment {
    pub fallback: String,
    pub color: String,
    pub pretext: String,
    pub text: String,
    pub author_name: String,
    pub author_link: String,
    pub author_icon: String,
    pub title: String,
    pub title_link: String,
    pub fields: Vec<Field>,
    pub thumb_url: String,
    pub footer: String,
    pub footer_icon: String,
    pub image_url: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MattermostPriority {
    pub priority: String,
    pub requested_ack: bool,
    pub persistent_notifications: bool,
}
