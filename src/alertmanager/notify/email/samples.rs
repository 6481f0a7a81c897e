//! Alerts, messages and configurations for tests.

use std::collections::BTreeMap;

use config::Secret;
use config::alertmanager::{Email, EmailExtensions, Layout};
use config::http_client::{SecretSource, Tls};
use config::template::notification::Alert;
use jiff::Timestamp;

use crate::alertmanager::alert::LabelSet;
use crate::alertmanager::nflog::{Memory, Reason};
use crate::alertmanager::notify::templates::Templates;
use crate::alertmanager::notify::{Message, Origin};

pub(super) fn set(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(super) fn config(smarthost: &str) -> Email {
    let header = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Email {
        to: "ops@example.org, Other Team <other@example.org>".to_owned(),
        from: "Ferula <ferula@example.org>".to_owned(),
        hello: "localhost".to_owned(),
        smarthost: smarthost.to_owned(),
        auth_username: String::new(),
        auth_password: SecretSource::Inline(Secret::default()),
        auth_secret: SecretSource::Inline(Secret::default()),
        force_implicit_tls: None,
        auth_identity: String::new(),
        require_tls: false,
        tls: Tls::default(),
        headers: BTreeMap::from([
            header("Subject", "{{ template \"email.default.subject\" . }}"),
            header("From", "Ferula <ferula@example.org>"),
            header("To", "ops@example.org, Other Team <other@example.org>"),
        ]),
        has_subject: false,
        html: "{{ template \"email.default.html\" . }}".to_owned(),
        text: String::new(),
        threading: None,
        layout: Layout::Alertmanager,
        extensions: EmailExtensions::default(),
    }
}

pub(super) fn alert(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Alert {
    let labels = set(labels);
    let fingerprint = crate::alertmanager::alert::Fingerprint::of(&labels).to_string();
    Alert {
        is_resolved: false,
        labels,
        annotations: set(annotations),
        starts_at: at(0),
        ends_at: None,
        generator_url: "http://prom:9090/graph?g0.expr=up".to_owned(),
        fingerprint,
    }
}

/// A message about `alerts`, whose group is named after the first one.
pub(super) fn message(templates: &Templates, alerts: Vec<Alert>, memory: Memory) -> Message<'_> {
    let name = alerts[0].labels.get("alertname").cloned().unwrap_or_default();
    let key: &'static str = Box::leak(format!("{{}}:{{alertname={name:?}}}").into_boxed_str());
    let group = set(&[("alertname", &name)]);
    let mut origin = Origin::sample("team.a", key, group);
    origin.integration = "email";
    let surroundings = (templates, "http://ferula:9090", at(120));
    let mut message = Message::new(origin, &[], Reason::First, surroundings, memory);
    let data = &message.data;
    let route_labels = data.route_labels.clone();
    message.data = config::template::notification::Data::new(
        data.receiver.clone(),
        data.group_labels.clone(),
        alerts,
        data.reason.clone(),
        data.external_url.clone(),
    );
    message.data.route_labels = route_labels;
    message
}
