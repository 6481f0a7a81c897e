//! The configuration of the Alertmanager as YAML: upstream's key order, secrets masked.
//!
//! Compat: alertmanager `config`, `Config.String`.

use std::collections::BTreeMap;
use std::path::Path;

use model::Matcher;

use super::decode::{RawGlobal, RawRoute};
use super::{Config, Email, Webhook};
use crate::http_client::print as http;
use crate::http_client::{HttpClient, Tls};
use crate::yaml::Out;
use crate::yaml::emit::{Fields, print as print_yaml};

pub(super) fn print(config: &Config, route: &RawRoute, global: &RawGlobal) -> String {
    let mut fields = Fields::default();
    fields.put("global", print_global(global)).put("route", print_route(route));
    let rules = config.inhibit_rules.iter().map(|rule| {
        let mut inner = Fields::default();
        inner
            .some("source_matchers", matchers(&rule.source_matchers))
            .some("target_matchers", matchers(&rule.target_matchers))
            .some("equal", rule.equal.iter().cloned().collect::<Out>());
        inner.into_out()
    });
    fields.some("inhibit_rules", Out::List(rules.collect()));
    let receivers = config.receivers.iter().map(|receiver| {
        let mut inner = Fields::default();
        inner
            .put("name", receiver.name.as_str())
            .some("email_configs", Out::List(receiver.email.iter().map(email).collect()))
            .some("webhook_configs", Out::List(receiver.webhook.iter().map(webhook).collect()));
        inner.into_out()
    });
    fields.some("receivers", Out::List(receivers.collect()));
    fields.put("templates", config.templates.iter().cloned().collect::<Out>());
    print_yaml(&fields.into_out())
}

fn print_global(global: &RawGlobal) -> Out {
    let smtp = &global.smtp;
    let mut fields = Fields::default();
    fields.put("resolve_timeout", global.resolve_timeout);
    fields.put("http_config", print_http(global.http.as_ref().unwrap_or(&HttpClient::default())));
    fields
        .some("smtp_from", smtp.from.as_str())
        .some("smtp_hello", global.smtp_hello.as_str())
        .some("smtp_smarthost", smtp.smarthost.as_str())
        .some("smtp_auth_username", smtp.auth_username.as_str())
        .some("smtp_auth_password", masked(smtp.auth_password.is_empty()))
        .some("smtp_auth_password_file", smtp.auth_password_file.as_str())
        .some("smtp_auth_secret", masked(smtp.auth_secret.is_empty()))
        .some("smtp_auth_secret_file", smtp.auth_secret_file.as_str())
        .some("smtp_auth_identity", smtp.auth_identity.as_str())
        .put("smtp_require_tls", global.smtp_require_tls);
    fields.put("smtp_tls_config", http::print_tls(global.smtp_tls.as_ref().unwrap_or(&Tls::default())));
    if let Some(force) = global.smtp_force_implicit_tls {
        fields.put("smtp_force_implicit_tls", force);
    }
    fields.into_out()
}

fn masked(is_empty: bool) -> Out {
    Out::from(if is_empty { "" } else { "<secret>" })
}

fn print_http(client: &HttpClient) -> Out {
    http::print(client).into_out()
}

fn matchers(list: &[Matcher]) -> Out {
    list.iter().map(ToString::to_string).collect()
}

fn print_route(route: &RawRoute) -> Out {
    let mut fields = Fields::default();
    fields.some("receiver", route.receiver.as_str());
    if let Some(labels) = &route.group_by {
        fields.put("group_by", labels.iter().cloned().collect::<Out>());
    }
    fields.some("matchers", matchers(&route.matchers)).put("continue", route.continue_matching);
    fields.some("routes", Out::List(route.routes.iter().map(print_route).collect()));
    let timers = [
        ("group_wait", route.group_wait),
        ("group_interval", route.group_interval),
        ("repeat_interval", route.repeat_interval),
    ];
    for (key, timer) in timers {
        if let Some(timer) = timer {
            fields.put(key, timer);
        }
    }
    fields.into_out()
}

fn path_text(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.to_string_lossy().into_owned())
}

fn email(email: &Email) -> Out {
    let mut fields = Fields::default();
    fields
        .put("send_resolved", email.send_resolved)
        .some("to", email.to.as_str())
        .some("from", email.from.as_str())
        .some("hello", email.hello.as_str())
        .some("smarthost", email.smarthost.as_str())
        .some("auth_username", email.auth_username.as_str());
    http::print_secret(&mut fields, "auth_password", &email.auth_password);
    fields
        .some("auth_secret", masked(email.auth_secret.is_empty()))
        .some("auth_secret_file", path_text(email.auth_secret_file.as_deref()).as_str())
        .some("auth_identity", email.auth_identity.as_str())
        .some("headers", print_map(&email.headers))
        .some("html", email.html.as_str())
        .some("text", email.text.as_str())
        .put("require_tls", email.require_tls)
        .put("tls_config", http::print_tls(&email.tls));
    if let Some(force) = email.force_implicit_tls {
        fields.put("force_implicit_tls", force);
    }
    fields.into_out()
}

fn print_map(map: &BTreeMap<String, String>) -> Out {
    Out::Map(map.iter().map(|(key, value)| (key.clone(), Out::Text(value.clone()))).collect())
}

fn webhook(webhook: &Webhook) -> Out {
    let mut fields = Fields::default();
    fields
        .put("send_resolved", webhook.send_resolved)
        .put("http_config", print_http(&webhook.http))
        .some("url", masked(webhook.url.is_empty()))
        .some("url_file", path_text(webhook.url_file.as_deref()).as_str())
        .put("max_alerts", webhook.max_alerts)
        .put("timeout", webhook.timeout);
    fields.into_out()
}
