//! `ferula am alert`: what fires, and alerts made by hand.
//!
//! Compat: alertmanager `cli`, `alertQueryCmd`, `alertAddCmd`.

use ::config::matchers::{self, Mode};
use clap::{Args, Subcommand};
use model::MatchOp;
use model::quote::go_quote;

use super::api::{Api, LabelSet, PostedAlert};
use super::{Common, Done, Failure, Streams};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// View and search through current alerts.
    ///
    /// If none of the flags for states is given, active alerts are returned. If alertname is omitted and the first
    /// argument is no matcher, it is taken for the value of alertname.
    Query(Query),
    /// Add a new alert, as in `alert add foo node=bar --annotation=summary=text`.
    Add(Add),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub(super) struct Query {
    /// Show inhibited alerts.
    #[arg(short, long)]
    inhibited: bool,
    /// Show silenced alerts.
    #[arg(short, long)]
    silenced: bool,
    /// Show active alerts.
    #[arg(short, long)]
    active: bool,
    /// Show unprocessed alerts.
    #[arg(short, long)]
    unprocessed: bool,
    /// Show alerts matching receiver (supports regex syntax).
    #[arg(short, long, default_value = "")]
    receiver: String,
    /// Query filter.
    #[arg(value_name = "matcher-groups")]
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Set the URL of the source that generated the alert.
    #[arg(long, default_value = "")]
    generator_url: String,
    /// Set when the alert should start, as in 2006-01-02T15:04:05-07:00.
    #[arg(long, value_name = "RFC3339")]
    start: Option<String>,
    /// Set when the alert should end, as in 2006-01-02T15:04:05-07:00.
    #[arg(long, value_name = "RFC3339")]
    end: Option<String>,
    /// Set an annotation to be included with the alert.
    #[arg(long, value_name = "name=value")]
    annotation: Vec<String>,
    /// List of labels to be included with the alert.
    labels: Vec<String>,
}

pub(super) fn run(command: &Command, common: &Common, streams: &mut Streams<'_>) -> Done {
    match command {
        Command::Query(options) => query(options, common, streams),
        Command::Add(options) => add(options, common, streams),
    }
}

fn query(options: &Query, common: &Common, streams: &mut Streams<'_>) -> Done {
    let matchers = with_alertname(common.features, &options.matchers);
    let has_state = options.silenced || options.inhibited || options.active || options.unprocessed;
    let on = |flag: bool| if flag { "true" } else { "false" };
    let mut query = vec![("active", on(options.active || !has_state))];
    query.extend(matchers.iter().map(|matcher| ("filter", matcher.as_str())));
    query.push(("inhibited", on(options.inhibited)));
    if !options.receiver.is_empty() {
        query.push(("receiver", &options.receiver));
    }
    query.extend([("silenced", on(options.silenced)), ("unprocessed", on(options.unprocessed))]);
    let api = Api::new(common, streams)?;
    let alerts = api.alerts(&query)?;
    Ok(common.format().alerts(alerts, streams.out)?)
}

fn add(options: &Add, common: &Common, streams: &mut Streams<'_>) -> Done {
    let labels = with_alertname(common.features, &options.labels);
    let alert = PostedAlert {
        labels: pairs(common.features, &labels, "labels")?,
        annotations: pairs(common.features, &options.annotation, "annotations")?,
        starts_at: options.start.as_deref().map(rfc3339).transpose()?,
        ends_at: options.end.as_deref().map(rfc3339).transpose()?,
        generator_url: options.generator_url.clone(),
    };
    let api = Api::new(common, streams)?;
    Ok(api.post_alerts(&[alert])?)
}

/// The texts, the first of which may be the value of `alertname` alone.
pub(super) fn with_alertname(mode: Mode, texts: &[String]) -> Vec<String> {
    let mut texts = texts.to_vec();
    if let Some(first) = texts.first_mut()
        && matchers::parse_one_in(mode, first).is_err()
    {
        *first = format!("alertname={}", go_quote(first.as_bytes()));
    }
    texts
}

/// Texts of the form `name=value`.
pub(super) fn pairs(mode: Mode, texts: &[String], what: &str) -> Result<LabelSet, Failure> {
    let mut set = LabelSet::new();
    for text in texts {
        let matcher = matchers::parse_one_in(mode, text).map_err(|e| e.to_string())?;
        if matcher.op != MatchOp::Eq {
            return Err(format!("{what} must be specified as key=value pairs").into());
        }
        let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        set.insert(utf8(&matcher.name), utf8(&matcher.value));
    }
    Ok(set)
}

/// A time as the API takes it.
pub(super) fn rfc3339(text: &str) -> Result<String, Failure> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) if text.contains('T') => Ok(format!("{at:.3}")),
        _ => {
            let text = go_quote(text.as_bytes());
            Err(format!("parsing time {text} as \"2006-01-02T15:04:05Z07:00\": it is no such time").into())
        }
    }
}
