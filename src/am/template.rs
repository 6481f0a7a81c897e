//! `ferula am template render`: what a template makes of an alert.
//!
//! Compat: alertmanager `cli`, `templateRenderCmd`; `template`, `Data` as JSON.

use std::path::PathBuf;

use ::config::template::notification::{Alert, Data};
use ::config::template::{Mode, Value};
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::api::LabelSet;
use super::check::templates;
use super::{Done, Streams};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Render a given definition in a template file to standard output.
    Render(Options),
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Glob of paths that will be expanded and used for rendering.
    #[arg(long = "template.glob", required = true)]
    globs: Vec<String>,
    /// The template that will be rendered.
    #[arg(long = "template.text", required = true)]
    text: String,
    /// The type of the template.
    #[arg(long = "template.type", value_enum, default_value = "text")]
    kind: Kind,
    /// A file of JSON with the data of the alerts; a predefined, simple one if it is not given.
    #[arg(long = "template.data")]
    data: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Html,
    Text,
}

pub(super) fn run(options: &Options, streams: &mut Streams<'_>) -> Done {
    let templates = templates(&options.globs)?;
    let now = Timestamp::now();
    let (data, status) = match &options.data {
        None => (example(now), "alertstatus".to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path)?;
            let raw: RawData = serde_json::from_str(&text).map_err(|e| e.to_string())?;
            (raw.data(), raw.status)
        }
    };
    let mode = if options.kind == Kind::Html { Mode::Html } else { Mode::Text };
    let data = with_status(data.to_value(), &status);
    let rendered = templates.expand_value(&options.text, &data, mode, now).map_err(|e| e.to_string())?;
    streams.out.write_all(rendered.as_bytes())?;
    Ok(())
}

/// The data with a status of its own, which need not follow from that of the alerts.
fn with_status(data: Value, status: &str) -> Value {
    let Value::Struct(class, fields) = data else { return data };
    let fields = fields.iter().map(|(name, value)| match *name {
        "Status" => ("Status", status.into()),
        name => (name, value.clone()),
    });
    Value::Struct(class, fields.collect())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawData {
    receiver: String,
    status: String,
    alerts: Vec<RawAlert>,
    #[serde(rename = "notification_reason")]
    reason: String,
    group_labels: LabelSet,
    common_labels: LabelSet,
    common_annotations: LabelSet,
    route_labels: LabelSet,
    #[serde(rename = "externalURL")]
    external_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawAlert {
    status: String,
    labels: LabelSet,
    annotations: LabelSet,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// The zero of the other side's times.
fn zero() -> Timestamp {
    "0001-01-01T00:00:00Z".parse().expect("a time")
}

impl RawData {
    fn data(&self) -> Data {
        let alerts = self.alerts.iter().map(|alert| Alert {
            is_resolved: alert.status == "resolved",
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: alert.starts_at.unwrap_or_else(zero),
            ends_at: alert.ends_at,
            generator_url: alert.generator_url.clone(),
            fingerprint: alert.fingerprint.clone(),
        });
        Data {
            common_labels: self.common_labels.clone(),
            common_annotations: self.common_annotations.clone(),
            route_labels: self.route_labels.clone(),
            ..Data::new(
                self.receiver.clone(),
                self.group_labels.clone(),
                alerts.collect(),
                self.reason.clone(),
                self.external_url.clone(),
            )
        }
    }
}

fn set(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The alerts that are rendered where no others are given.
fn example(now: Timestamp) -> Data {
    let common_labels = [("commonlabelkey1", "commonlabelvalue1"), ("commonlabelkey2", "commonlabelvalue2")];
    let common_annotations = [
        ("commonannotationkey1", "commonannotationvalue1"),
        ("commonannotationkey2", "commonannotationvalue2"),
    ];
    let alert = |i: usize, minutes, is_resolved, labels: &[_], annotations: &[_]| Alert {
        is_resolved,
        labels: set(&[labels, &common_labels].concat()),
        annotations: set(&[annotations, &common_annotations].concat()),
        starts_at: now.checked_sub(SignedDuration::from_mins(minutes)).unwrap_or(now),
        ends_at: Some(now),
        generator_url: "https://generatorurl.com".to_owned(),
        fingerprint: format!("fingerprint{i}"),
    };
    let firing = [("label1", "value1"), ("label2", "value2"), ("instance", "foo.bar:1234")];
    let alerts = vec![
        alert(1, 5, false, &firing, &[("annotation1", "value1"), ("annotation2", "value2")]),
        alert(2, 10, true, &[("foo", "bar"), ("baz", "qux")], &[("aaa", "bbb"), ("ccc", "ddd")]),
    ];
    let group = [("grouplabelkey1", "grouplabelvalue1"), ("grouplabelkey2", "grouplabelvalue2")];
    Data::new("receiver".to_owned(), set(&group), alerts, String::new(), "https://example.com".to_owned())
}
