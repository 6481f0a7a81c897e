//! `alertmanager.yml` from YAML: globals into receivers, parents into routes, validation in upstream's words.
//!
//! Compat: alertmanager `config`, `Load`, `Config.UnmarshalYAML`, `Config.String`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use model::quote::go_quote;

use super::global::Global;
use super::intervals::RawNamed;
use super::kinds::RawReceiver;
use super::observe::{RawEventRecorder, RawTracing};
use super::record::{self, Record, Slot};
use super::route::{RawInhibitRule, RawRoute};
use super::{Config, Route, TimeInterval};
use crate::matchers::Mode;
use crate::yaml::decode::Dialect;
use crate::yaml::emit::{Fields, print as print_yaml};
use crate::yaml::tree::Pos;
use crate::yaml::{Decoder, Issue, Node, Out, tree};
use crate::{Error, Problem, paths};

/// Reads and validates a configuration file.
///
/// # Errors
/// The file cannot be read, or its text is refused.
pub fn load(path: &Path) -> Result<Config, Error> {
    load_in(Mode::default(), path)
}

/// As [`load`], with matchers in a grammar of the user's choice.
///
/// # Errors
/// As [`load`].
pub fn load_in(mode: Mode, path: &Path) -> Result<Config, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    parse_in(mode, &text, path)
}

/// Validates the text of a configuration; relative paths in it belong to the directory of `path`.
///
/// # Errors
/// The text is refused.
pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
    parse_in(Mode::default(), text, path)
}

/// As [`parse`], with matchers in a grammar of the user's choice.
///
/// # Errors
/// As [`parse`].
pub fn parse_in(mode: Mode, text: &str, path: &Path) -> Result<Config, Error> {
    let base = path.parent().unwrap_or(Path::new(""));
    let mut decoder = Decoder::new(Dialect::V2);
    decoder.matcher_mode = mode;
    decode(&mut decoder, text, base).map_err(|issue| Error::plain(path, Problem::from(issue)))
}

fn decode(decoder: &mut Decoder, text: &str, base: &Path) -> Result<Config, Issue> {
    let document = tree::parse(text)?;
    // Nothing at all is not even asked for its root route.
    let Some(root) = document.root.as_ref().filter(|root| !root.is_null()) else {
        return Err(Issue::new(Pos { line: 1, column: 1 }, "no route provided in config"));
    };
    let mut raw = RawConfig::default();
    let is_sound = record::read(&mut raw, decoder, base, root)?;
    if is_sound { raw.resolve(decoder, base, root.pos) } else { Err(unsound(decoder, root)) }
}

fn unsound(decoder: &mut Decoder, root: &Node) -> Issue {
    let noted = decoder.finish().err();
    noted.unwrap_or_else(|| Issue::new(root.pos, "BUG: a section is refused without a reason"))
}

/// What a user who set both did not mean.
fn warn_of_timers(route: &Route, warnings: &mut Vec<String>) {
    let (repeat, group) = (route.repeat_interval, route.group_interval);
    if repeat < group {
        warnings.push(format!(
            "repeat_interval is less than group_interval. Notifications will not repeat until the next \
             group_interval. (repeat_interval {}, group_interval {}, receiver {})",
            model::duration::format(repeat),
            model::duration::format(group),
            go_quote(route.receiver.as_bytes()),
        ));
    }
    route.routes.iter().for_each(|child| warn_of_timers(child, warnings));
}

#[derive(Default)]
struct RawConfig {
    global: RawGlobal,
    route: Option<Box<RawRoute>>,
    inhibit_rules: Vec<RawInhibitRule>,
    receivers: Receivers,
    templates: Vec<String>,
    mute_time_intervals: Vec<RawNamed<true>>,
    time_intervals: Vec<RawNamed<false>>,
    tracing: RawTracingSection,
    event_recorder: EventRecorder,
}

impl Record for RawConfig {
    const GO_TYPE: &'static str = "config.plain";

    fn keys(&mut self) -> Vec<record::Key<'_>> {
        use record::{always, some};
        vec![
            some("global", &mut self.global),
            some("route", &mut self.route),
            some("inhibit_rules", &mut self.inhibit_rules),
            some("receivers", &mut self.receivers),
            always("templates", &mut self.templates),
            some("mute_time_intervals", &mut self.mute_time_intervals),
            some("time_intervals", &mut self.time_intervals),
            some("tracing", &mut self.tracing),
            some("event_recorder", &mut self.event_recorder),
        ]
    }
}

/// `global`, which is there with its defaults where the file leaves it out.
#[derive(Default)]
struct RawGlobal(Box<Global>);

impl Slot for RawGlobal {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        let mut global = Global::default();
        if node.is_null() || record::read(&mut global, decoder, base, node)? {
            *self.0 = global;
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        record::fields(&mut *self.0).into_out()
    }

    fn is_zero(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Receivers(Vec<RawReceiver>);

impl Slot for Receivers {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        let mut all = Vec::new();
        decoder.items(node, "[]config.Receiver", &mut |decoder, item| {
            all.extend(RawReceiver::decode(decoder, base, item)?);
            Ok(())
        })?;
        self.0 = all;
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::List(self.0.iter_mut().map(RawReceiver::print).collect())
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Default)]
struct RawTracingSection(Option<Box<RawTracing>>);

impl Slot for RawTracingSection {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        self.0.read(decoder, base, node)?;
        if self.0.is_some() {
            decoder.warn(node.pos, "section tracing has no effect: no traces are sent");
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.0.print()
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }
}

#[derive(Default)]
struct EventRecorder(RawEventRecorder);

impl Slot for EventRecorder {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<(), Issue> {
        self.0 = RawEventRecorder::default();
        if !node.is_null() {
            record::read(&mut self.0, decoder, base, node)?;
        }
        if !self.0.is_empty() {
            decoder.warn(node.pos, "section event_recorder has no effect: no events are recorded");
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.0.print()
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl RawConfig {
    /// Judges the whole in upstream's order, prints it and makes it what the server runs.
    fn resolve(mut self, decoder: &mut Decoder, base: &Path, root: Pos) -> Result<Config, Issue> {
        if let Some(text) = self.global.0.refusal() {
            return Err(Issue::new(root, text));
        }
        base.clone_into(&mut self.global.0.base);
        let mut names = BTreeSet::new();
        for receiver in &mut self.receivers.0 {
            if !names.insert(receiver.name.clone()) {
                let name = go_quote(receiver.name.as_bytes());
                return Err(Issue::new(
                    receiver.pos,
                    format!("notification config name {name} is not unique"),
                ));
            }
            receiver.inherit(&mut self.global.0)?;
        }
        let Some(route) = &self.route else { return Err(Issue::new(root, "no routes provided")) };
        route.check_root()?;
        route.check_receivers(&names.iter().map(String::as_str).collect())?;
        route.check_intervals(&self.interval_names(root)?)?;
        route.check_continue()?;
        let route = route.resolve_root();
        let mut warnings = std::mem::take(&mut decoder.warnings);
        warn_of_timers(&route, &mut warnings);
        for template in &mut self.templates {
            *template = paths::join(base, template);
        }
        let text = self.print();
        let intervals = self.mute_time_intervals.iter().map(|one| (one.name.clone(), one.resolve()));
        let mut time_intervals: BTreeMap<String, Vec<TimeInterval>> = intervals.collect();
        time_intervals.extend(self.time_intervals.iter().map(|one| (one.name.clone(), one.resolve())));
        Ok(Config {
            resolve_timeout: self.global.0.resolve_timeout,
            route,
            inhibit_rules: self.inhibit_rules.iter().map(RawInhibitRule::resolve).collect(),
            receivers: self.receivers.0.into_iter().map(|raw| Arc::new(raw.finish(base))).collect(),
            templates: self.templates,
            time_intervals,
            text,
            warnings,
        })
    }

    /// The names of both lists, which share one namespace.
    fn interval_names(&self, root: Pos) -> Result<BTreeSet<&str>, Issue> {
        let mut names = BTreeSet::new();
        let old = self.mute_time_intervals.iter().map(|one| ("mute time interval", one.name.as_str()));
        let new = self.time_intervals.iter().map(|one| ("time interval", one.name.as_str()));
        for (what, name) in old.chain(new) {
            if !names.insert(name) {
                let name = go_quote(name.as_bytes());
                return Err(Issue::new(root, format!("{what} {name} is not unique")));
            }
        }
        Ok(names)
    }

    fn print(&mut self) -> String {
        let fields: Fields = record::fields(self);
        print_yaml(&fields.into_out())
    }
}
