//! `alertmanager.yml` from YAML: globals into receivers, parents into routes, validation in upstream's words.
//!
//! Compat: alertmanager `config`, `Load`, `Config.UnmarshalYAML`; `dispatch`, `NewRoute`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::quote::go_quote;
use model::{MatchOp, Matcher};

use super::{
    Config, Email, EmailExtensions, InhibitRule, Integration, Layout, Notifier, Receiver, Route, Webhook,
    print,
};
use crate::http_client::decode::{HttpFields, canonical_header, decode_tls, secret_source};
use crate::http_client::{HttpClient, SecretSource, Tls};
use crate::relabel::NameScheme;
use crate::yaml::decode::Dialect;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, tree};
use crate::{Error, Problem, Secret, matchers, paths};

const DEFAULT_HTML: &str = "{{ template \"email.default.html\" . }}";
const DEFAULT_SUBJECT: &str = "{{ template \"email.default.subject\" . }}";

/// The label list that groups by everything.
const GROUP_BY_ALL: &str = "...";

/// Keys of `global` for receivers that are refused, so that a file that sets them by habit still loads.
const OTHER_GLOBALS: [&str; 28] = [
    "slack_api_url",
    "slack_api_url_file",
    "slack_app_token",
    "slack_app_token_file",
    "slack_app_url",
    "pagerduty_url",
    "opsgenie_api_url",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "wechat_api_url",
    "wechat_api_secret",
    "wechat_api_secret_file",
    "wechat_api_corp_id",
    "victorops_api_url",
    "victorops_api_key",
    "victorops_api_key_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "webex_api_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
    "jira_api_url",
];

const OTHER_RECEIVERS: [&str; 16] = [
    "discord_configs",
    "incidentio_configs",
    "pagerduty_configs",
    "slack_configs",
    "opsgenie_configs",
    "wechat_configs",
    "pushover_configs",
    "victorops_configs",
    "sns_configs",
    "telegram_configs",
    "webex_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "jira_configs",
    "rocketchat_configs",
    "mattermost_configs",
];

/// Reads and validates a configuration file.
///
/// # Errors
/// The file cannot be read, or its text is refused.
pub fn load(path: &Path) -> Result<Config, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    parse(&text, path)
}

/// Validates the text of a configuration; relative paths in it belong to the directory of `path`.
///
/// # Errors
/// The text is refused.
pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
    let base = path.parent().unwrap_or(Path::new(""));
    let mut decoder = Decoder::new(Dialect::V2);
    decode(&mut decoder, text, base).map_err(|issue| Error::plain(path, Problem::from(issue)))
}

fn decode(decoder: &mut Decoder, text: &str, base: &Path) -> Result<Config, Issue> {
    let document = tree::parse(text)?;
    let mut raw = RawConfig::default();
    if let Some(root) = &document.root {
        raw.decode(decoder, base, root)?;
    }
    decoder.finish()?;
    let root = document.root.as_ref().map_or(Pos { line: 1, column: 1 }, |root| root.pos);
    raw.resolve(decoder, base, root)
}

#[derive(Default)]
struct RawConfig {
    global: RawGlobal,
    route: Option<RawRoute>,
    inhibit_rules: Vec<InhibitRule>,
    receivers: Vec<RawReceiver>,
    templates: Vec<String>,
}

impl RawConfig {
    fn decode(&mut self, decoder: &mut Decoder, base: &Path, root: &Node) -> Result<(), Issue> {
        decoder.fields(root, "config.plain", &mut |decoder, key, value| {
            match key {
                "global" => {
                    if let Some(global) = RawGlobal::decode(decoder, base, value)? {
                        self.global = global;
                    }
                }
                "route" if value.is_null() => self.route = None,
                "route" => self.route = RawRoute::decode(decoder, value)?,
                "inhibit_rules" => {
                    decoder.items(value, "[]config.InhibitRule", &mut |decoder, item| {
                        self.inhibit_rules.extend(decode_inhibit_rule(decoder, item)?);
                        Ok(())
                    })?;
                }
                "receivers" => {
                    decoder.items(value, "[]config.Receiver", &mut |decoder, item| {
                        self.receivers.extend(RawReceiver::decode(decoder, base, item)?);
                        Ok(())
                    })?;
                }
                "templates" => decoder.set(value, &mut self.templates)?,
                "time_intervals" | "mute_time_intervals" => {
                    if !is_empty(value) {
                        return Err(Issue::new(value.pos, format!("{key} is not supported yet")));
                    }
                }
                "tracing" if !value.is_null() => {
                    decoder.warn(
                        value.pos,
                        "section tracing has no effect: sending traces is not supported yet",
                    );
                }
                "event_recorder" if !value.is_null() => {
                    return Err(Issue::new(value.pos, "section event_recorder is not supported yet"));
                }
                "tracing" | "event_recorder" => {}
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }

    fn resolve(self, decoder: &mut Decoder, base: &Path, root: Pos) -> Result<Config, Issue> {
        let global = self.global;
        let mut receivers: Vec<Arc<Receiver>> = Vec::new();
        for raw in self.receivers {
            if receivers.iter().any(|other| other.name == raw.name) {
                let name = go_quote(raw.name.as_bytes());
                return Err(Issue::new(raw.pos, format!("notification config name {name} is not unique")));
            }
            receivers.push(Arc::new(raw.resolve(&global)?));
        }
        let raw = self.route.ok_or_else(|| Issue::new(root, "no routes provided"))?;
        let fail = |text: &str| Err(Issue::new(raw.pos, text));
        if raw.receiver.is_empty() {
            return fail("root route must specify a default receiver");
        }
        if !raw.matchers.is_empty() {
            return fail("root route must not have any matchers");
        }
        raw.check_receivers(&receivers)?;
        if raw.continue_matching {
            return fail("cannot have continue in root route");
        }
        let route = raw.resolve(&Route {
            receiver: String::new(),
            group_by: Some(Vec::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_mins(5),
            repeat_interval: Duration::from_hours(4),
            matchers: Vec::new(),
            continue_matching: false,
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            labels: BTreeMap::new(),
            routes: Vec::new(),
        });
        let mut config = Config {
            resolve_timeout: global.resolve_timeout,
            text: String::new(),
            route,
            receivers,
            inhibit_rules: self.inhibit_rules,
            time_intervals: BTreeMap::new(),
            templates: self.templates.iter().map(|path| paths::join(base, path)).collect(),
            warnings: std::mem::take(&mut decoder.warnings),
        };
        config.text = print::print(&config, &raw, &global);
        Ok(config)
    }
}

fn is_empty(node: &Node) -> bool {
    node.is_null() || matches!(&node.kind, tree::Kind::List(items) if items.is_empty())
}

pub(super) struct RawGlobal {
    pub(super) resolve_timeout: Duration,
    pub(super) http: Option<HttpClient>,
    pub(super) smtp: Smtp,
    pub(super) smtp_hello: String,
    pub(super) smtp_require_tls: bool,
    pub(super) smtp_tls: Option<Tls>,
    pub(super) smtp_force_implicit_tls: Option<bool>,
}

/// What `global` and an e-mail receiver say alike; empty where a receiver inherits.
#[derive(Clone, Debug, Default)]
pub(super) struct Smtp {
    pub(super) from: String,
    pub(super) smarthost: String,
    pub(super) auth_username: String,
    pub(super) auth_password: Secret,
    pub(super) auth_password_file: String,
    pub(super) auth_secret: Secret,
    pub(super) auth_secret_file: String,
    pub(super) auth_identity: String,
}

impl Default for RawGlobal {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_mins(5),
            http: None,
            smtp: Smtp::default(),
            smtp_hello: "localhost".to_owned(),
            smtp_require_tls: true,
            smtp_tls: None,
            smtp_force_implicit_tls: None,
        }
    }
}

impl Smtp {
    /// Takes `key`, given without the prefix that it has in `global`.
    fn field(&mut self, decoder: &mut Decoder, base: &Path, key: &str, value: &Node) -> Result<bool, Issue> {
        match key {
            "from" => decoder.set(value, &mut self.from)?,
            "smarthost" => {
                if let Some(text) = String::decode(decoder, value)? {
                    self.smarthost = check_host_port(text).map_err(|text| Issue::new(value.pos, text))?;
                }
            }
            "auth_username" => decoder.set(value, &mut self.auth_username)?,
            "auth_password" => decoder.set(value, &mut self.auth_password)?,
            "auth_password_file" => self.auth_password_file = decode_path(decoder, base, value)?,
            "auth_secret" => decoder.set(value, &mut self.auth_secret)?,
            "auth_secret_file" => self.auth_secret_file = decode_path(decoder, base, value)?,
            "auth_identity" => {
                decoder.set(value, &mut self.auth_identity)?;
                if !self.auth_identity.is_empty() {
                    decoder.warn(value.pos, &format!("{key} has no effect: it is not supported yet"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Fills what is not set; a password and its file are one thing.
    fn inherit(&mut self, global: &Self) {
        let fill = |own: &mut String, global: &String| {
            if own.is_empty() {
                own.clone_from(global);
            }
        };
        fill(&mut self.from, &global.from);
        fill(&mut self.smarthost, &global.smarthost);
        fill(&mut self.auth_username, &global.auth_username);
        fill(&mut self.auth_identity, &global.auth_identity);
        if self.auth_password.is_empty() && self.auth_password_file.is_empty() {
            self.auth_password = global.auth_password.clone();
            self.auth_password_file.clone_from(&global.auth_password_file);
        }
        if self.auth_secret.is_empty() && self.auth_secret_file.is_empty() {
            self.auth_secret = global.auth_secret.clone();
            self.auth_secret_file.clone_from(&global.auth_secret_file);
        }
    }
}

fn decode_path(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<String, Issue> {
    Ok(paths::join(base, &String::decode(decoder, node)?.unwrap_or_default()))
}

/// `host:port`, or nothing at all.
fn check_host_port(text: String) -> Result<String, String> {
    if text.is_empty() {
        return Ok(text);
    }
    let missing = || format!("address {text}: missing port in address");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) =
                rest.split_once(']').ok_or(format!("address {text}: missing ']' in address"))?;
            (host, tail.strip_prefix(':').ok_or_else(missing)?)
        }
        None => text.rsplit_once(':').ok_or_else(missing)?,
    };
    if host.contains(':') && !text.starts_with('[') {
        return Err(format!("address {text}: too many colons in address"));
    }
    if port.is_empty() {
        return Err(format!("address {}: port cannot be empty", go_quote(text.as_bytes())));
    }
    Ok(text)
}

impl RawGlobal {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut global = Self::default();
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "resolve_timeout" => decoder.set(value, &mut global.resolve_timeout)?,
                "http_config" => global.http = decode_http(decoder, base, value)?,
                "smtp_hello" => decoder.set(value, &mut global.smtp_hello)?,
                "smtp_require_tls" => decoder.set(value, &mut global.smtp_require_tls)?,
                "smtp_tls_config" if value.is_null() => global.smtp_tls = None,
                "smtp_tls_config" => global.smtp_tls = decode_tls(decoder, base, value)?,
                "smtp_force_implicit_tls" if value.is_null() => global.smtp_force_implicit_tls = None,
                "smtp_force_implicit_tls" => global.smtp_force_implicit_tls = bool::decode(decoder, value)?,
                key if OTHER_GLOBALS.contains(&key) => drop(String::decode(decoder, value)?),
                _ => {
                    let Some(key) = key.strip_prefix("smtp_") else { return Ok(false) };
                    return global.smtp.field(decoder, base, key, value);
                }
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        let smtp = &global.smtp;
        if !smtp.auth_password.is_empty() && !smtp.auth_password_file.is_empty() {
            let text = "at most one of smtp_auth_password & smtp_auth_password_file must be configured";
            return Err(Issue::new(node.pos, text));
        }
        if !smtp.auth_secret.is_empty() && !smtp.auth_secret_file.is_empty() {
            let text = "at most one of smtp_auth_secret & smtp_auth_secret_file must be configured";
            return Err(Issue::new(node.pos, text));
        }
        Ok(Some(global))
    }
}

fn decode_http(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<HttpClient> {
    if node.is_null() {
        return Ok(None);
    }
    let mut http = HttpFields::default();
    let ok = decoder
        .fields(node, "config.plain", &mut |decoder, key, value| http.field(decoder, base, key, value))?;
    if ok { http.finish(base, node.pos).map(Some) } else { Ok(None) }
}

pub(super) struct RawRoute {
    pos: Pos,
    pub(super) receiver: String,
    /// As written; `None` inherits.
    pub(super) group_by: Option<Vec<String>>,
    pub(super) group_wait: Option<Duration>,
    pub(super) group_interval: Option<Duration>,
    pub(super) repeat_interval: Option<Duration>,
    pub(super) matchers: Vec<Matcher>,
    pub(super) continue_matching: bool,
    pub(super) routes: Vec<RawRoute>,
}

impl RawRoute {
    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut route = Self {
            pos: node.pos,
            receiver: String::new(),
            group_by: None,
            group_wait: None,
            group_interval: None,
            repeat_interval: None,
            matchers: Vec::new(),
            continue_matching: false,
            routes: Vec::new(),
        };
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "receiver" => decoder.set(value, &mut route.receiver)?,
                "group_by" if value.is_null() => route.group_by = None,
                "group_by" => route.group_by = Vec::decode(decoder, value)?,
                "match" => decode_match(decoder, value, MatchOp::Eq, &mut route.matchers)?,
                "match_re" => decode_match(decoder, value, MatchOp::Re, &mut route.matchers)?,
                "matchers" => decode_matchers(decoder, value, &mut route.matchers)?,
                "continue" => decoder.set(value, &mut route.continue_matching)?,
                "mute_time_intervals" | "active_time_intervals" | "labels" => {
                    if !is_empty(value) {
                        return Err(Issue::new(value.pos, format!("{key} in a route is not supported yet")));
                    }
                }
                "routes" => {
                    decoder.items(value, "[]*config.Route", &mut |decoder, item| {
                        if item.is_null() {
                            return Err(Issue::new(item.pos, "empty or null route"));
                        }
                        route.routes.extend(Self::decode(decoder, item)?);
                        Ok(())
                    })?;
                }
                "group_wait" => route.group_wait = decode_timer(decoder, value)?,
                "group_interval" => route.group_interval = decode_timer(decoder, value)?,
                "repeat_interval" => route.repeat_interval = decode_timer(decoder, value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        if let Some(text) = route.refusal() {
            return Err(Issue::new(node.pos, text));
        }
        sort(&mut route.matchers);
        Ok(Some(route))
    }

    fn refusal(&self) -> Option<String> {
        let labels = self.group_by.as_deref().unwrap_or_default();
        let mut seen: Vec<&str> = Vec::new();
        let is_all = labels.iter().any(|label| label == GROUP_BY_ALL);
        for label in labels.iter().filter(|label| *label != GROUP_BY_ALL) {
            if label.is_empty() {
                return Some(format!("invalid label name {} in group_by list", go_quote(label.as_bytes())));
            }
            seen.push(label);
        }
        if is_all && !seen.is_empty() {
            let text = "cannot have wildcard group_by (`...`) and other labels at the same time";
            return Some(text.to_owned());
        }
        if let Some((_, label)) = seen.iter().enumerate().find(|(i, label)| seen[..*i].contains(label)) {
            return Some(format!("duplicated label {} in group_by", go_quote(label.as_bytes())));
        }
        if self.group_interval.is_some_and(|interval| interval.is_zero()) {
            return Some("group_interval cannot be zero".to_owned());
        }
        if self.repeat_interval.is_some_and(|interval| interval.is_zero()) {
            return Some("repeat_interval cannot be zero".to_owned());
        }
        None
    }

    fn check_receivers(&self, receivers: &[Arc<Receiver>]) -> Result<(), Issue> {
        self.routes.iter().try_for_each(|route| route.check_receivers(receivers))?;
        if self.receiver.is_empty() || receivers.iter().any(|receiver| receiver.name == self.receiver) {
            return Ok(());
        }
        let name = go_quote(self.receiver.as_bytes());
        Err(Issue::new(self.pos, format!("undefined receiver {name} used in route")))
    }

    /// The node with what it did not set taken from `parent`.
    fn resolve(&self, parent: &Route) -> Route {
        let mut route = Route {
            receiver: if self.receiver.is_empty() { parent.receiver.clone() } else { self.receiver.clone() },
            group_by: match &self.group_by {
                None => parent.group_by.clone(),
                Some(labels) if labels.iter().any(|label| label == GROUP_BY_ALL) => None,
                Some(labels) => Some(labels.clone()),
            },
            group_wait: self.group_wait.unwrap_or(parent.group_wait),
            group_interval: self.group_interval.unwrap_or(parent.group_interval),
            repeat_interval: self.repeat_interval.unwrap_or(parent.repeat_interval),
            matchers: self.matchers.clone(),
            continue_matching: self.continue_matching,
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            labels: BTreeMap::new(),
            routes: Vec::new(),
        };
        route.routes = self.routes.iter().map(|child| child.resolve(&route)).collect();
        route
    }
}

fn decode_timer(decoder: &mut Decoder, node: &Node) -> Decoded<Duration> {
    if node.is_null() { Ok(None) } else { Duration::decode(decoder, node) }
}

/// By name, value, then operator: the order in which they are printed and keyed.
fn sort(list: &mut [Matcher]) {
    let rank = |op: MatchOp| match op {
        MatchOp::Eq => 0,
        MatchOp::Ne => 1,
        MatchOp::Re => 2,
        MatchOp::Nre => 3,
    };
    list.sort_by(|a, b| (&a.name, &a.value, rank(a.op)).cmp(&(&b.name, &b.value, rank(b.op))));
}

/// The old maps `match` and `match_re`.
fn decode_match(
    decoder: &mut Decoder,
    node: &Node,
    op: MatchOp,
    out: &mut Vec<Matcher>,
) -> Result<(), Issue> {
    let go_type = if op == MatchOp::Re { "config.MatchRegexps" } else { "map[string]string" };
    decoder.pairs(node, go_type, &mut |decoder, key, value| {
        let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
        if !NameScheme::Legacy.is_label_name(name.as_bytes()) {
            let text = format!("invalid label name {}", go_quote(name.as_bytes()));
            return Err(Issue::new(key.pos, text));
        }
        if op == MatchOp::Re && value.is_null() {
            return Err(Issue::new(
                value.pos,
                format!("invalid regexp value for {}", go_quote(name.as_bytes())),
            ));
        }
        let Some(text) = String::decode(decoder, value)? else { return Ok(None) };
        out.push(Matcher::new(op, &name, &text).map_err(|e| Issue::new(value.pos, e.to_string()))?);
        Ok(Some((name.into_bytes(), ())))
    })?;
    Ok(())
}

/// `matchers`: a list of texts, each of which may hold several.
fn decode_matchers(decoder: &mut Decoder, node: &Node, out: &mut Vec<Matcher>) -> Result<(), Issue> {
    decoder.items(node, "[]string", &mut |decoder, item| {
        let Some(text) = String::decode(decoder, item)? else { return Ok(()) };
        out.extend(matchers::parse(&text).map_err(|e| Issue::new(item.pos, e.to_string()))?);
        Ok(())
    })?;
    Ok(())
}

fn decode_inhibit_rule(decoder: &mut Decoder, node: &Node) -> Decoded<InhibitRule> {
    let mut rule = InhibitRule {
        name: String::new(),
        source_matchers: Vec::new(),
        target_matchers: Vec::new(),
        equal: Vec::new(),
    };
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "name" => decoder.set(value, &mut rule.name)?,
            "source_match" => decode_match(decoder, value, MatchOp::Eq, &mut rule.source_matchers)?,
            "source_match_re" => decode_match(decoder, value, MatchOp::Re, &mut rule.source_matchers)?,
            "source_matchers" => decode_matchers(decoder, value, &mut rule.source_matchers)?,
            "target_match" => decode_match(decoder, value, MatchOp::Eq, &mut rule.target_matchers)?,
            "target_match_re" => decode_match(decoder, value, MatchOp::Re, &mut rule.target_matchers)?,
            "target_matchers" => decode_matchers(decoder, value, &mut rule.target_matchers)?,
            "equal" => decoder.set(value, &mut rule.equal)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if let Some(bad) = rule.equal.iter().find(|name| name.is_empty()) {
        let text = format!("invalid label name {} in equal list", go_quote(bad.as_bytes()));
        return Err(Issue::new(node.pos, text));
    }
    sort(&mut rule.source_matchers);
    sort(&mut rule.target_matchers);
    Ok(ok.then_some(rule))
}

struct RawReceiver {
    pos: Pos,
    name: String,
    email: Vec<RawEmail>,
    webhook: Vec<RawWebhook>,
}

struct RawEmail {
    pos: Pos,
    send_resolved: bool,
    smtp: Smtp,
    hello: String,
    require_tls: Option<bool>,
    tls: Option<Tls>,
    config: Email,
}

struct RawWebhook {
    send_resolved: bool,
    http: Option<HttpClient>,
    config: Webhook,
}

impl RawReceiver {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut receiver =
            Self { pos: node.pos, name: String::new(), email: Vec::new(), webhook: Vec::new() };
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "name" => decoder.set(value, &mut receiver.name)?,
                "email_configs" => {
                    decoder.items(value, "[]*config.EmailConfig", &mut |decoder, item| {
                        refuse_null(item, "email")?;
                        receiver.email.extend(RawEmail::decode(decoder, base, item)?);
                        Ok(())
                    })?;
                }
                "webhook_configs" => {
                    decoder.items(value, "[]*config.WebhookConfig", &mut |decoder, item| {
                        refuse_null(item, "webhook")?;
                        receiver.webhook.extend(RawWebhook::decode(decoder, base, item)?);
                        Ok(())
                    })?;
                }
                "labels" if !value.is_null() => {
                    return Err(Issue::new(value.pos, "labels of a receiver are not supported yet"));
                }
                "labels" => {}
                key if OTHER_RECEIVERS.contains(&key) => {
                    if !is_empty(value) {
                        let kind = key.trim_end_matches("_configs");
                        let text = format!("receiver type {kind} is not supported yet");
                        return Err(Issue::new(value.pos, text));
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if ok && receiver.name.is_empty() {
            return Err(Issue::new(node.pos, "missing name in receiver"));
        }
        Ok(ok.then_some(receiver))
    }

    fn resolve(self, global: &RawGlobal) -> Result<Receiver, Issue> {
        let mut integrations = Vec::new();
        for (index, raw) in self.webhook.into_iter().enumerate() {
            let http = raw.http.or_else(|| global.http.clone()).unwrap_or_default();
            let notifier = Notifier::Webhook(Box::new(Webhook { http, ..raw.config }));
            integrations.push(Integration { index, send_resolved: raw.send_resolved, notifier });
        }
        for (index, raw) in self.email.into_iter().enumerate() {
            let send_resolved = raw.send_resolved;
            let notifier = Notifier::Email(Box::new(raw.resolve(global)?));
            integrations.push(Integration { index, send_resolved, notifier });
        }
        let labels = BTreeMap::from([("name".to_owned(), self.name.clone())]);
        Ok(Receiver { name: self.name, labels, integrations })
    }
}

fn refuse_null(node: &Node, kind: &str) -> Result<(), Issue> {
    if node.is_null() {
        return Err(Issue::new(node.pos, format!("missing {kind} config")));
    }
    Ok(())
}

impl RawEmail {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut raw = Self {
            pos: node.pos,
            send_resolved: false,
            smtp: Smtp::default(),
            hello: String::new(),
            require_tls: None,
            tls: None,
            config: Email {
                to: String::new(),
                from: String::new(),
                hello: String::new(),
                smarthost: String::new(),
                auth_username: String::new(),
                auth_password: SecretSource::Inline(Secret::default()),
                auth_secret: SecretSource::Inline(Secret::default()),
                auth_identity: String::new(),
                require_tls: true,
                force_implicit_tls: None,
                tls: Tls::default(),
                headers: BTreeMap::new(),
                has_subject: false,
                html: DEFAULT_HTML.to_owned(),
                text: String::new(),
                threading: None,
                layout: Layout::Alertmanager,
                extensions: EmailExtensions::default(),
            },
        };
        let email = &mut raw.config;
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "send_resolved" => decoder.set(value, &mut raw.send_resolved)?,
                "to" => decoder.set(value, &mut email.to)?,
                "hello" => decoder.set(value, &mut raw.hello)?,
                "require_tls" if value.is_null() => raw.require_tls = None,
                "require_tls" => raw.require_tls = bool::decode(decoder, value)?,
                "force_implicit_tls" if value.is_null() => email.force_implicit_tls = None,
                "force_implicit_tls" => email.force_implicit_tls = bool::decode(decoder, value)?,
                "tls_config" if value.is_null() => raw.tls = None,
                "tls_config" => raw.tls = decode_tls(decoder, base, value)?,
                "headers" => decoder.set(value, &mut headers)?,
                "html" => decoder.set(value, &mut email.html)?,
                "text" => decoder.set(value, &mut email.text)?,
                "threading" => {
                    decoder.fields(value, "config.ThreadingConfig", &mut |decoder, key, value| {
                        match key {
                            "enabled" if bool::decode(decoder, value)? == Some(true) => {
                                return Err(Issue::new(
                                    value.pos,
                                    "threading of e-mail is not supported yet",
                                ));
                            }
                            "enabled" => {}
                            "thread_by_date" => drop(String::decode(decoder, value)?),
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                }
                _ => return raw.smtp.field(decoder, base, key, value),
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        if email.to.is_empty() {
            return Err(Issue::new(node.pos, "missing to address in email config"));
        }
        for (name, value) in headers {
            let name = canonical_header(&name);
            if email.headers.contains_key(&name) {
                let text = format!("duplicate header {} in email config", go_quote(name.as_bytes()));
                return Err(Issue::new(node.pos, text));
            }
            email.headers.insert(name, value);
        }
        Ok(Some(raw))
    }

    fn resolve(mut self, global: &RawGlobal) -> Result<Email, Issue> {
        let mut smtp = std::mem::take(&mut self.smtp);
        smtp.inherit(&global.smtp);
        if smtp.smarthost.is_empty() {
            return Err(Issue::new(self.pos, "no global SMTP smarthost set"));
        }
        if smtp.from.is_empty() {
            return Err(Issue::new(self.pos, "no global SMTP from set"));
        }
        let has_secret = !smtp.auth_secret.is_empty() || !smtp.auth_secret_file.is_empty();
        let has_password = !smtp.auth_password.is_empty() || !smtp.auth_password_file.is_empty();
        if !smtp.auth_username.is_empty() && has_secret && !has_password {
            let text = "auth_secret without auth_password in email config: CRAM-MD5 is not supported yet";
            return Err(Issue::new(self.pos, text));
        }
        let mut email = self.config;
        email.has_subject = email.headers.contains_key("Subject");
        let defaults =
            [("Subject", DEFAULT_SUBJECT), ("To", email.to.as_str()), ("From", smtp.from.as_str())];
        for (name, value) in defaults {
            email.headers.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        email.hello = if self.hello.is_empty() { global.smtp_hello.clone() } else { self.hello };
        email.require_tls = self.require_tls.unwrap_or(global.smtp_require_tls);
        email.force_implicit_tls = email.force_implicit_tls.or(global.smtp_force_implicit_tls);
        email.tls = self.tls.or_else(|| global.smtp_tls.clone()).unwrap_or_default();
        // Paths were joined to their directory when they were read.
        email.auth_password = secret_source(Path::new(""), smtp.auth_password, &smtp.auth_password_file);
        email.auth_secret = secret_source(Path::new(""), smtp.auth_secret, &smtp.auth_secret_file);
        Ok(Email {
            from: smtp.from,
            smarthost: smtp.smarthost,
            auth_username: smtp.auth_username,
            auth_identity: smtp.auth_identity,
            ..email
        })
    }
}

impl RawWebhook {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut http = None;
        let mut url_file = String::new();
        let mut url = Secret::default();
        let mut send_resolved = true;
        let mut webhook = Webhook {
            url: SecretSource::Inline(Secret::default()),
            http: HttpClient::default(),
            max_alerts: 0,
            timeout: Duration::ZERO,
            payload: None,
        };
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "send_resolved" => decoder.set(value, &mut send_resolved)?,
                "http_config" => http = decode_http(decoder, base, value)?,
                "url" => {
                    decoder.set(value, &mut url)?;
                    check_url(url.expose()).map_err(|text| Issue::new(value.pos, text))?;
                }
                "url_file" => url_file = decode_path(decoder, base, value)?,
                "max_alerts" => decoder.set(value, &mut webhook.max_alerts)?,
                "timeout" => decoder.set(value, &mut webhook.timeout)?,
                "payload" if !value.is_null() => {
                    return Err(Issue::new(value.pos, "payload of a webhook is not supported yet"));
                }
                "payload" => {}
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        let fail = |text: &str| Err(Issue::new(node.pos, text));
        match (url.is_empty(), url_file.is_empty()) {
            (true, true) => return fail("one of url or url_file must be configured"),
            (false, false) => return fail("at most one of url & url_file must be configured"),
            _ => {}
        }
        webhook.url = secret_source(Path::new(""), url, &url_file);
        Ok(Some(Self { send_resolved, http, config: webhook }))
    }
}

/// A URL with templates in it is judged when it is used.
fn check_url(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains("{{") || text == "<secret>" {
        return Ok(());
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(format!("unsupported scheme {} for URL", go_quote(b"")));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!("unsupported scheme {} for URL", go_quote(scheme.as_bytes())));
    }
    let host = rest.strip_prefix("//").unwrap_or_default();
    if host.is_empty() || host.starts_with(['/', '?', '#']) {
        return Err("missing host for URL".to_owned());
    }
    Ok(())
}
