//! `email_configs`, with our own keys behind upstream's.
//!
//! Compat: alertmanager `config`, `EmailConfig`; `notify/email`, `New` for the headers that are always there.

use std::collections::BTreeMap;
use std::path::Path;

use model::quote::go_quote;

use super::super::global::{Global, HostPort};
use super::super::record::{Key, Record, Slot, always, some};
use super::super::{Email, EmailExtensions, Layout, Notifier, Threading};
use super::{Kind, Source, at_most_one, demand, template};
use crate::http_client::Tls;
use crate::http_client::decode::canonical_header;
use crate::yaml::{Decode as _, Decoder, Issue, Node, Out};

/// Keys that upstream does not have.
pub(in crate::alertmanager) const EXTENSIONS: [&str; 8] = [
    "layout",
    "max_alerts",
    "timezone",
    "actions",
    "graphs",
    "auth_optional",
    "auth_token",
    "auth_token_file",
];

/// The most rows of alerts that a mail may be asked to have.
const MAX_ALERTS_MAX: u64 = 1000;

#[derive(Default)]
pub(super) struct RawEmail {
    send_resolved: bool,
    to: String,
    from: String,
    hello: String,
    smarthost: HostPort,
    auth_username: String,
    auth_password: Source,
    auth_secret: Source,
    auth_identity: String,
    headers: BTreeMap<String, String>,
    /// Whether `headers` has `Subject` from the file.
    has_subject: bool,
    html: Body,
    text: Body,
    require_tls: Option<bool>,
    tls: Option<Tls>,
    force_implicit_tls: Option<bool>,
    threading: RawThreading,
    layout: LayoutName,
    max_alerts: Count,
    timezone: String,
    actions: Option<bool>,
    graphs: Option<bool>,
    auth_optional: Option<bool>,
    auth_token: Source,
}

/// The template of a part, and whether the file sets it.
#[derive(Default)]
struct Body {
    template: String,
    is_set: bool,
}

impl Slot for Body {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        self.is_set = true;
        decoder.set(node, &mut self.template)
    }

    fn print(&mut self) -> Out {
        Out::Text(self.template.clone())
    }

    fn is_zero(&self) -> bool {
        self.template.is_empty()
    }
}

#[derive(Default)]
struct LayoutName(Option<Layout>);

impl Slot for LayoutName {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        self.0 = match String::decode(decoder, node)?.as_deref() {
            None | Some("") => None,
            Some("ferula") => Some(Layout::Ferula),
            Some("alertmanager") => Some(Layout::Alertmanager),
            Some(other) => {
                let other = go_quote(other.as_bytes());
                let text = format!("unknown layout {other} in email config, must be ferula or alertmanager");
                return Err(Issue::new(node.pos, text));
            }
        };
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::from(match self.0 {
            None => "",
            Some(Layout::Ferula) => "ferula",
            Some(Layout::Alertmanager) => "alertmanager",
        })
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

#[derive(Default)]
struct Count(Option<usize>);

impl Slot for Count {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        let Some(n) = decoder.uint_as(node, "uint64")? else { return Ok(()) };
        if !(1..=MAX_ALERTS_MAX).contains(&n) {
            let text = format!("max_alerts in email config must be between 1 and {MAX_ALERTS_MAX}, got {n}");
            return Err(Issue::new(node.pos, text));
        }
        self.0 = usize::try_from(n).ok();
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::from(self.0.unwrap_or_default() as u64)
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

#[derive(Default)]
struct RawThreading {
    enabled: bool,
    thread_by_date: String,
}

impl Record for RawThreading {
    const GO_TYPE: &'static str = "config.ThreadingConfig";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![some("enabled", &mut self.enabled), some("thread_by_date", &mut self.thread_by_date)]
    }
}

impl Slot for RawThreading {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        *self = Self::default();
        if !node.is_null() {
            super::record::read(self, decoder, base, node)?;
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        super::record::fields(self).into_out()
    }

    fn is_zero(&self) -> bool {
        !self.enabled && self.thread_by_date.is_empty()
    }
}

impl Record for RawEmail {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![
            always("send_resolved", &mut self.send_resolved),
            some("to", &mut self.to),
            some("from", &mut self.from),
            some("hello", &mut self.hello),
            some("smarthost", &mut self.smarthost),
            some("auth_username", &mut self.auth_username),
            some("auth_password", &mut self.auth_password.secret),
            some("auth_password_file", &mut self.auth_password.file),
            some("auth_secret", &mut self.auth_secret.secret),
            some("auth_secret_file", &mut self.auth_secret.file),
            some("auth_identity", &mut self.auth_identity),
            some("headers", &mut self.headers),
            some("html", &mut self.html),
            some("text", &mut self.text),
            some("require_tls", &mut self.require_tls),
            some("tls_config", &mut self.tls),
            some("force_implicit_tls", &mut self.force_implicit_tls),
            some("threading", &mut self.threading),
            some("layout", &mut self.layout),
            some("max_alerts", &mut self.max_alerts),
            some("timezone", &mut self.timezone),
            some("actions", &mut self.actions),
            some("graphs", &mut self.graphs),
            some("auth_optional", &mut self.auth_optional),
            some("auth_token", &mut self.auth_token.secret),
            some("auth_token_file", &mut self.auth_token.file),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        demand(!self.to.is_empty(), "missing to address in email config")?;
        let mut headers = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.headers) {
            let name = canonical_header(&name);
            if headers.contains_key(&name) {
                return Err(format!("duplicate header {} in email config", go_quote(name.as_bytes())));
            }
            headers.insert(name, value);
        }
        self.headers = headers;
        self.has_subject = self.headers.contains_key("Subject");
        if self.threading.enabled {
            for header in ["References", "In-Reply-To"] {
                if self.headers.contains_key(header) {
                    return Err(format!(
                        "conflicting configuration: threading.enabled conflicts with custom {header} header"
                    ));
                }
            }
            demand(
                matches!(self.threading.thread_by_date.as_str(), "none" | "daily"),
                "threading.thread_by_date must be either 'none' or 'daily'",
            )?;
        }
        self.check_extensions()
    }
}

impl RawEmail {
    fn check_extensions(&self) -> Result<(), String> {
        let has_body = self.html.is_set || self.text.is_set;
        if self.layout.0 == Some(Layout::Ferula) && has_body {
            return Err("layout ferula conflicts with html or text in email config".to_owned());
        }
        if !self.timezone.is_empty() && jiff::tz::TimeZone::get(&self.timezone).is_err() {
            let zone = go_quote(self.timezone.as_bytes());
            return Err(format!("unknown time zone {zone} in email config"));
        }
        at_most_one(self.auth_token.is_ambiguous(), "auth_token", "auth_token_file")
    }

    fn extensions(&mut self, base: &Path) -> EmailExtensions {
        let defaults = EmailExtensions::default();
        let token = std::mem::take(&mut self.auth_token);
        EmailExtensions {
            max_alerts: self.max_alerts.0.unwrap_or(defaults.max_alerts),
            timezone: std::mem::take(&mut self.timezone),
            has_actions: self.actions.unwrap_or(defaults.has_actions),
            has_graphs: self.graphs.unwrap_or(defaults.has_graphs),
            is_auth_optional: self.auth_optional.unwrap_or(defaults.is_auth_optional),
            auth_token: token.is_set().then(|| token.finish(base)),
        }
    }
}

impl Kind for RawEmail {
    fn new() -> Self {
        let html = Body { template: template("email.default.html"), is_set: false };
        Self { html, ..Self::default() }
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        let fill = |own: &mut String, global: &String| {
            if own.is_empty() {
                own.clone_from(global);
            }
        };
        if self.tls.is_none() {
            self.tls.clone_from(&global.smtp_tls);
        }
        fill(&mut self.smarthost.0, &global.smtp_smarthost.0);
        demand(!self.smarthost.0.is_empty(), "no global SMTP smarthost set")?;
        fill(&mut self.from, &global.smtp_from);
        demand(!self.from.is_empty(), "no global SMTP from set")?;
        fill(&mut self.hello, &global.smtp_hello);
        fill(&mut self.auth_username, &global.smtp_auth_username);
        self.auth_password.inherit(&global.smtp_auth_password);
        self.auth_secret.inherit_each(&global.smtp_auth_secret);
        fill(&mut self.auth_identity, &global.smtp_auth_identity);
        self.require_tls.get_or_insert(global.smtp_require_tls);
        self.force_implicit_tls = self.force_implicit_tls.or(global.smtp_force_implicit_tls);
        let defaults = [
            ("Subject", template("email.default.subject")),
            ("To", self.to.clone()),
            ("From", self.from.clone()),
        ];
        for (name, value) in defaults {
            self.headers.entry(name.to_owned()).or_insert(value);
        }
        Ok(())
    }

    fn finish(mut self, base: &Path) -> (bool, Notifier) {
        let has_body = self.html.is_set || self.text.is_set;
        let layout = match self.layout.0 {
            Some(layout) => layout,
            None if has_body => Layout::Alertmanager,
            None => Layout::Ferula,
        };
        let threading = match self.threading.thread_by_date.as_str() {
            "daily" => Threading::Daily,
            _ => Threading::Forever,
        };
        let threading = self.threading.enabled.then_some(threading);
        let extensions = self.extensions(base);
        let email = Email {
            to: self.to,
            from: self.from,
            hello: self.hello,
            smarthost: self.smarthost.0,
            auth_username: self.auth_username,
            auth_password: self.auth_password.finish(base),
            auth_secret: self.auth_secret.finish(base),
            auth_identity: self.auth_identity,
            require_tls: self.require_tls.unwrap_or(true),
            force_implicit_tls: self.force_implicit_tls,
            tls: self.tls.unwrap_or_default(),
            headers: self.headers,
            has_subject: self.has_subject,
            html: self.html.template,
            text: self.text.template,
            threading,
            layout,
            extensions,
        };
        (self.send_resolved, Notifier::Email(Box::new(email)))
    }
}
