//! `ferula am silence`: make, look for, change, end and import silences.
//!
//! Compat: alertmanager `cli`, `silence*Cmd`.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use ::config::matchers;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use model::MatchOp;

use super::alert::{pairs, rfc3339, with_alertname};
use super::api::{Api, Matcher, PostedSilence, Silence, SilenceFields};
use super::format::instant;
use super::{Common, Done, Failure, Streams, existing_file, go_duration};

/// The longest file of silences that is read.
const IMPORT_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a new silence, as in `silence add foo node=bar 'job=~web.*' -c comment`.
    Add(Add),
    /// Expire silences.
    Expire(Expire),
    /// Import silences from a JSON file or stdin, as `silence query -o json` prints them.
    Import(Import),
    /// Query silences; with --within those that will expire, or with --expired have expired, within that time.
    Query(Query),
    /// Update silences.
    Update(Update),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// Username for the `CreatedBy` field; yours by default.
    #[arg(short, long)]
    author: Option<String>,
    #[arg(long = "require-comment", hide = true, default_value = "true")]
    require_comment: bool,
    #[arg(long = "no-require-comment", hide = true)]
    no_require_comment: bool,
    /// Duration of silence.
    #[arg(short, long, default_value = "1h")]
    duration: String,
    /// Set when the silence should start, as in 2006-01-02T15:04:05-07:00.
    #[arg(long, value_name = "RFC3339")]
    start: Option<String>,
    /// Set when the silence should end (overwrites duration), as in 2006-01-02T15:04:05-07:00.
    #[arg(long, value_name = "RFC3339")]
    end: Option<String>,
    /// A comment to help describe the silence.
    #[arg(short, long, default_value = "")]
    comment: String,
    /// Set an annotation to be included with the silence.
    #[arg(long, value_name = "name=value")]
    annotation: Vec<String>,
    /// What is to be silenced.
    #[arg(value_name = "matcher-groups")]
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Expire {
    /// Ids of silences to expire.
    #[arg(value_name = "silence-ids")]
    ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Force adding new silences even if it already exists.
    #[arg(short, long)]
    force: bool,
    /// Number of concurrent workers to use for import.
    #[arg(short, long, default_value = "8")]
    worker: usize,
    /// JSON file with silences.
    #[arg(value_name = "input-file", value_parser = existing_file)]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Query {
    /// Show expired silences instead of active.
    #[arg(long)]
    expired: bool,
    /// Only show silence ids.
    #[arg(short, long)]
    quiet: bool,
    /// Show silences that belong to this creator.
    #[arg(long)]
    created_by: Option<String>,
    /// Get a single silence by its id.
    #[arg(long)]
    id: Option<String>,
    /// Show silences that will expire or have expired within a duration.
    #[arg(long, value_parser = go_duration)]
    within: Option<Duration>,
    /// Query filter.
    #[arg(value_name = "matcher-groups")]
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// Only show silence ids.
    #[arg(short, long)]
    quiet: bool,
    /// Duration of silence.
    #[arg(short, long)]
    duration: Option<String>,
    /// Set when the silence should start, as in 2006-01-02T15:04:05-07:00.
    #[arg(long, value_name = "RFC3339")]
    start: Option<String>,
    /// Set when the silence should end (overwrites duration), as in 2006-01-02T15:04:05-07:00.
    #[arg(long, value_name = "RFC3339")]
    end: Option<String>,
    /// A comment to help describe the silence.
    #[arg(short, long, default_value = "")]
    comment: String,
    /// Silence ids to update.
    #[arg(value_name = "update-ids")]
    ids: Vec<String>,
}

pub(super) fn run(command: &Command, common: &Common, streams: &mut Streams<'_>) -> Done {
    match command {
        Command::Add(options) => add(options, common, streams),
        Command::Expire(options) => expire(options, common, streams),
        Command::Import(options) => import(options, common, streams),
        Command::Query(options) => query(options, common, streams),
        Command::Update(options) => update(options, common, streams),
    }
}

fn add(options: &Add, common: &Common, streams: &mut Streams<'_>) -> Done {
    let mut wanted = Vec::new();
    for text in with_alertname(common.features, &options.matchers) {
        wanted.push(matchers::parse_one_in(common.features, &text).map_err(|e| e.to_string())?);
    }
    if wanted.is_empty() {
        return Err("no matchers specified".into());
    }
    let starts_at = match &options.start {
        Some(text) => rfc3339(text)?,
        None => format!("{:.3}", Timestamp::now()),
    };
    let ends_at = match &options.end {
        Some(text) => rfc3339(text)?,
        None => later(&starts_at, &options.duration)?,
    };
    check_order(&starts_at, &ends_at)?;
    if options.require_comment && !options.no_require_comment && options.comment.is_empty() {
        return Err("comment required by config".into());
    }
    let fields = SilenceFields {
        annotations: pairs(common.features, &options.annotation, "annotations")?,
        comment: options.comment.clone(),
        created_by: options.author.clone().unwrap_or_else(username),
        ends_at,
        matchers: wanted.iter().map(posted).collect(),
        starts_at,
    };
    let api = Api::new(common, streams)?;
    let id = api.post_silence(&PostedSilence { id: String::new(), fields })?;
    writeln!(streams.out, "{id}")?;
    Ok(())
}

fn posted(matcher: &model::Matcher) -> Matcher {
    Matcher {
        is_equal: Some(matches!(matcher.op, MatchOp::Eq | MatchOp::Re)),
        is_regex: matches!(matcher.op, MatchOp::Re | MatchOp::Nre),
        name: String::from_utf8_lossy(&matcher.name).into_owned(),
        value: String::from_utf8_lossy(&matcher.value).into_owned(),
    }
}

/// `duration` behind `start`.
fn later(start: &str, duration: &str) -> Result<String, Failure> {
    let span = model::duration::parse(duration).map_err(|e| e.to_string())?;
    if span.is_zero() {
        return Err("silence duration must be greater than 0".into());
    }
    let start = instant(start).ok_or_else(|| format!("{start} is no time"))?;
    let span = SignedDuration::try_from(span).map_err(|e| e.to_string())?;
    let end = start.checked_add(span).map_err(|e| e.to_string())?;
    Ok(format!("{end:.3}"))
}

fn check_order(start: &str, end: &str) -> Done {
    if instant(start) > instant(end) {
        return Err("silence cannot start after it ends".into());
    }
    Ok(())
}

/// Who runs the command, as the system's list of users has it.
fn username() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    listed.or_else(|| std::env::var("USER").ok()).unwrap_or_default()
}

fn expire(options: &Expire, common: &Common, streams: &mut Streams<'_>) -> Done {
    if options.ids.is_empty() {
        return Err("no silence IDs specified".into());
    }
    let api = Api::new(common, streams)?;
    for id in &options.ids {
        api.delete_silence(id)?;
    }
    Ok(())
}

fn import(options: &Import, common: &Common, streams: &mut Streams<'_>) -> Done {
    let mut text = String::new();
    match &options.file {
        Some(path) => std::fs::File::open(path)?.take(IMPORT_BYTES_MAX).read_to_string(&mut text)?,
        None => (&mut *streams.input).take(IMPORT_BYTES_MAX).read_to_string(&mut text)?,
    };
    let mut silences: Vec<PostedSilence> = serde_json::from_str(&text)
        .map_err(|e| format!("couldn't unmarshal input data, is it JSON?: {e}"))?;
    if options.force {
        for silence in &mut silences {
            silence.id.clear();
        }
    }
    let api = Api::new(common, streams)?;
    let (mut failed, mut written) = (0, Ok(()));
    api.post_silences(&silences, options.worker, &mut |silence, answer| {
        let said = match answer {
            Ok(id) => writeln!(streams.out, "{id}"),
            Err(e) => {
                failed += 1;
                let Failure::Text(text) = Failure::from(e) else { return };
                writeln!(streams.err, "Error adding silence id='{}': {text}", silence.id)
            }
        };
        if written.is_ok() {
            written = said;
        }
    });
    written?;
    if failed > 0 {
        return Err(format!("couldn't import {failed} out of {} silences", silences.len()).into());
    }
    Ok(())
}

fn query(options: &Query, common: &Common, streams: &mut Streams<'_>) -> Done {
    let filters = with_alertname(common.features, &options.matchers);
    let api = Api::new(common, streams)?;
    let mut silences = api.silences(&filters)?;
    let now = Timestamp::now();
    silences.retain(|silence| is_wanted(options, silence, now));
    show(options.quiet, silences, common, streams)
}

fn is_wanted(options: &Query, silence: &Silence, now: Timestamp) -> bool {
    let Some(end) = instant(&silence.fields.ends_at) else { return true };
    let is_near = options.within.is_none_or(|within| {
        let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        within.is_zero() || now.duration_until(end).abs() <= within
    });
    let is_past = end < now;
    is_past == options.expired
        && is_near
        && options.created_by.as_ref().is_none_or(|by| by.is_empty() || *by == silence.fields.created_by)
        && options.id.as_ref().is_none_or(|id| id.is_empty() || *id == silence.id)
}

fn update(options: &Update, common: &Common, streams: &mut Streams<'_>) -> Done {
    if options.ids.is_empty() {
        return Err("no silence IDs specified".into());
    }
    let api = Api::new(common, streams)?;
    let mut updated = Vec::new();
    for id in &options.ids {
        let mut silence = api.silence(id)?;
        let fields = &mut silence.fields;
        if let Some(start) = &options.start {
            fields.starts_at = rfc3339(start)?;
        }
        if let Some(end) = &options.end {
            fields.ends_at = rfc3339(end)?;
        } else if let Some(duration) = &options.duration {
            fields.ends_at = later(&fields.starts_at, duration)?;
        }
        check_order(&fields.starts_at, &fields.ends_at)?;
        if !options.comment.is_empty() {
            fields.comment.clone_from(&options.comment);
        }
        let posted = PostedSilence { id: silence.id.clone(), fields: fields.clone() };
        silence.id = api.post_silence(&posted)?;
        updated.push(silence);
    }
    show(options.quiet, updated, common, streams)
}

fn show(quiet: bool, silences: Vec<Silence>, common: &Common, streams: &mut Streams<'_>) -> Done {
    if !quiet {
        return Ok(common.format().silences(silences, streams.out)?);
    }
    for silence in &silences {
        writeln!(streams.out, "{}", silence.id)?;
    }
    Ok(())
}
