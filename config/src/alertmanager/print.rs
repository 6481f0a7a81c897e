//! The configuration of the Alertmanager as YAML: upstream's key order, secrets masked.
//!
//! Compat: alertmanager `config`, `Config.String`.

use std::collections::BTreeMap;

use model::Matcher;

use super::decode::{RawGlobal, RawRoute};
use super::{Config, Email, Notifier, Receiver, Webhook};
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
            .some(
                "email_configs",
                list(receiver, |notifier, resolved| match notifier {
                    Notifier::Email(config) => Some(email(config, resolved)),
                    _ => None,
                }),
            )
            .some(
                "webhook_configs",
                list(receiver, |notifier, resolved| match notifier {
                    Notifier::Webhook(config) => Some(webhook(config, resolved)),
                    _ => None,
                }),
            );
        inner.into_out()
    });
    fields.some("receivers", Out::List(receivers.collect()));
    fields.put("templates", config.templates.iter().cloned().collect::<Out>());
    print_yaml(&fields.into_out())
}

fn list(receiver: &Receiver, print: impl Fn(&Notifier, bool) -> Option<Out>) -> Out {
    let printed = receiver.integrations.iter();
    Out::List(printed.filter_map(|one| print(&one.notifier, one.send_resolved)).collect())
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

fn email(email: &Email, send_resolved: bool) -> Out {
    let mut fields = Fields::default();
    fields
        .put("send_resolved", send_resolved)
        .some("to", email.to.as_str())
        .some("from", email.from.as_str())
        .some("hello", email.hello.as_str())
        .some("smarthost", email.smarthost.as_str())
        .some("auth_username", email.auth_username.as_str());
    http::print_secret(&mut fields, "auth_password", &email.auth_password);
    http::print_secret(&mut fields, "auth_secret", &email.auth_secret);
    fields
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

fn webhook(webhook: &Webhook, send_resolved: bool) -> Out {
    let mut fields = Fields::default();
    fields.put("send_resolved", send_resolved).put("http_config", print_http(&webhook.http));
    http::print_secret(&mut fields, "url", &webhook.url);
    fields.put("max_alerts", webhook.max_alerts).put("timeout", webhook.timeout);
    fields.into_out()
}
