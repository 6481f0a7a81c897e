//! `route` and `inhibit_rules`: the tree as it is written, and resolved with everything inherited.
//!
//! Compat: alertmanager `config`, `Route`; `config/common`, `InhibitRule`, `Matchers`, `MatchRegexps`;
//! `dispatch`, `NewRoute`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;
use model::{MatchOp, Matcher};

use super::record::{Key, Record, Slot, always, print_map, some};
use super::{InhibitRule, Route};
use crate::matchers::{self, Mode};
use crate::relabel::NameScheme;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode as _, Decoder, Issue, Node, Out};

/// The label list that groups by everything.
const GROUP_BY_ALL: &str = "...";

/// A node as it is written; what it does not set it inherits.
#[derive(Default)]
pub(super) struct RawRoute {
    pos: Option<Pos>,
    receiver: String,
    group_by: Labels,
    matchers: Matchers,
    mute_time_intervals: Vec<String>,
    active_time_intervals: Vec<String>,
    is_continuing: bool,
    routes: Vec<RawRoute>,
    group_wait: Option<Duration>,
    group_interval: Option<Duration>,
    repeat_interval: Option<Duration>,
    labels: RouteLabels,
}

impl Record for RawRoute {
    const GO_TYPE: &'static str = "config.plain";
    const GO_LIST: &'static str = "[]*config.Route";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let matchers = &mut self.matchers;
        vec![
            some("receiver", &mut self.receiver),
            some("group_by", &mut self.group_by),
            some("match", &mut matchers.equal),
            some("match_re", &mut matchers.regex),
            some("matchers", &mut matchers.list),
            some("mute_time_intervals", &mut self.mute_time_intervals),
            some("active_time_intervals", &mut self.active_time_intervals),
            always("continue", &mut self.is_continuing),
            some("routes", &mut self.routes),
            some("group_wait", &mut self.group_wait),
            some("group_interval", &mut self.group_interval),
            some("repeat_interval", &mut self.repeat_interval),
            some("labels", &mut self.labels),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        self.matchers.check()?;
        let is_valid = |name: &str| is_label_name(self.group_by.mode, name);
        if let Some(bad) = self.labels.0.keys().find(|name| !is_valid(name)) {
            return Err(format!("invalid label name {} in route labels", go_quote(bad.as_bytes())));
        }
        self.check_group_by()?;
        for (name, interval) in
            [("group_interval", self.group_interval), ("repeat_interval", self.repeat_interval)]
        {
            if interval.is_some_and(|interval| interval.is_zero()) {
                return Err(format!("{name} cannot be zero"));
            }
        }
        Ok(())
    }

    fn stands_at(&mut self, pos: Pos) {
        self.pos = Some(pos);
    }

    fn null() -> Result<Self, String> {
        Err("empty or null route".to_owned())
    }
}

fn is_label_name(mode: Mode, name: &str) -> bool {
    match mode {
        Mode::Classic => NameScheme::Legacy.is_label_name(name.as_bytes()),
        Mode::Fallback | Mode::Utf8 => !name.is_empty(),
    }
}

impl RawRoute {
    fn check_group_by(&self) -> Result<(), String> {
        let labels = self.group_by.list.as_deref().unwrap_or_default();
        let named = || labels.iter().filter(|label| *label != GROUP_BY_ALL);
        if let Some(bad) = named().find(|label| !is_label_name(self.group_by.mode, label)) {
            return Err(format!("invalid label name {} in group_by list", go_quote(bad.as_bytes())));
        }
        if named().count() > 0 && named().count() < labels.len() {
            return Err("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned());
        }
        let mut seen = BTreeSet::new();
        match named().find(|label| !seen.insert(label.as_str())) {
            Some(twice) => Err(format!("duplicated label {} in group_by", go_quote(twice.as_bytes()))),
            None => Ok(()),
        }
    }

    fn fail<T>(&self, text: String) -> Result<T, Issue> {
        Err(Issue::new(self.pos.unwrap_or(Pos { line: 1, column: 1 }), text))
    }

    /// What only the root must keep, but for `continue`.
    pub(super) fn check_root(&self) -> Result<(), Issue> {
        let refused = [
            (self.receiver.is_empty(), "root route must specify a default receiver"),
            (!self.matchers.is_empty(), "root route must not have any matchers"),
            (!self.mute_time_intervals.is_empty(), "root route must not have any mute time intervals"),
            (!self.active_time_intervals.is_empty(), "root route must not have any active time intervals"),
        ];
        match refused.into_iter().find(|(is_refused, _)| *is_refused) {
            Some((_, text)) => self.fail(text.to_owned()),
            None => Ok(()),
        }
    }

    pub(super) fn check_continue(&self) -> Result<(), Issue> {
        if self.is_continuing {
            return self.fail("cannot have continue in root route".to_owned());
        }
        Ok(())
    }

    pub(super) fn check_receivers(&self, receivers: &BTreeSet<&str>) -> Result<(), Issue> {
        self.routes.iter().try_for_each(|route| route.check_receivers(receivers))?;
        if self.receiver.is_empty() || receivers.contains(self.receiver.as_str()) {
            return Ok(());
        }
        self.fail(format!("undefined receiver {} used in route", go_quote(self.receiver.as_bytes())))
    }

    pub(super) fn check_intervals(&self, names: &BTreeSet<&str>) -> Result<(), Issue> {
        self.routes.iter().try_for_each(|route| route.check_intervals(names))?;
        let used = self.active_time_intervals.iter().chain(&self.mute_time_intervals);
        match used.into_iter().find(|name| !names.contains(name.as_str())) {
            Some(name) => {
                self.fail(format!("undefined time interval {} used in route", go_quote(name.as_bytes())))
            }
            None => Ok(()),
        }
    }

    /// The root, what it does not set being upstream's defaults.
    pub(super) fn resolve_root(&self) -> Route {
        self.resolve(&Route {
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
        })
    }

    /// The node with what it did not set taken from `parent`.
    fn resolve(&self, parent: &Route) -> Route {
        let mut labels = parent.labels.clone();
        labels.extend(self.labels.0.clone());
        let mut route = Route {
            receiver: if self.receiver.is_empty() { parent.receiver.clone() } else { self.receiver.clone() },
            group_by: match &self.group_by.list {
                None => parent.group_by.clone(),
                Some(labels) if labels.iter().any(|label| label == GROUP_BY_ALL) => None,
                Some(labels) => Some(labels.clone()),
            },
            group_wait: self.group_wait.unwrap_or(parent.group_wait),
            group_interval: self.group_interval.unwrap_or(parent.group_interval),
            repeat_interval: self.repeat_interval.unwrap_or(parent.repeat_interval),
            matchers: self.matchers.all(),
            continue_matching: self.is_continuing,
            mute_time_intervals: self.mute_time_intervals.clone(),
            active_time_intervals: self.active_time_intervals.clone(),
            labels,
            routes: Vec::new(),
        };
        route.routes = self.routes.iter().map(|child| child.resolve(&route)).collect();
        route
    }
}

/// `group_by`; `None` inherits.
#[derive(Default)]
struct Labels {
    list: Option<Vec<String>>,
    mode: Mode,
}

impl Slot for Labels {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        self.mode = decoder.matcher_mode;
        if node.is_null() {
            self.list = None;
        } else if let Some(list) = Vec::decode(decoder, node)? {
            self.list = Some(list);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.list.iter().flatten().cloned().collect()
    }

    fn is_zero(&self) -> bool {
        self.list.as_ref().is_none_or(Vec::is_empty)
    }
}

/// `labels` of a route, templates by name.
#[derive(Default)]
struct RouteLabels(BTreeMap<String, String>);

impl Slot for RouteLabels {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        let pairs = decoder.pairs(node, "model.LabelSet", &mut |decoder, key, value| {
            let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
            if name.is_empty() {
                return Err(Issue::new(key.pos, "\"\" is not a valid label name"));
            }
            let value = decoder.text_as(value, "model.LabelValue")?;
            Ok(value.map(|value| (name.clone().into_bytes(), (name, value))))
        })?;
        if let Some(pairs) = pairs {
            self.0 = pairs.into_iter().map(|(_, pair)| pair).collect();
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        print_map(&self.0)
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// The three ways in which a section says what it matches.
#[derive(Default)]
struct Matchers {
    equal: BTreeMap<String, String>,
    regex: Regexes,
    list: List,
}

impl Matchers {
    fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.regex.0.is_empty() && self.list.0.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        match self.equal.keys().find(|name| !NameScheme::Legacy.is_label_name(name.as_bytes())) {
            Some(name) => Err(format!("invalid label name {}", go_quote(name.as_bytes()))),
            None => Ok(()),
        }
    }

    /// Sorted by name, value, then operator: the order in which they are keyed.
    fn all(&self) -> Vec<Matcher> {
        let equal = self
            .equal
            .iter()
            .map(|(name, value)| Matcher::new(MatchOp::Eq, name, value).expect("equality compiles nothing"));
        let regex = self.regex.0.values().map(|(_, matcher)| matcher.clone());
        let mut all: Vec<Matcher> = equal.chain(regex).chain(self.list.0.iter().cloned()).collect();
        sort(&mut all);
        all
    }
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

/// The old map of regular expressions, with what each becomes.
#[derive(Default)]
struct Regexes(BTreeMap<String, (String, Matcher)>);

impl Slot for Regexes {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        let pairs = decoder.pairs(node, "common.plain", &mut |decoder, key, value| {
            let Some(name) = String::decode(decoder, key)? else { return Ok(None) };
            if value.is_null() {
                return Ok(Some((name.clone().into_bytes(), (key.pos, name, None))));
            }
            let Some(text) = String::decode(decoder, value)? else { return Ok(None) };
            // With its anchors, as it stands in the keys of groups.
            let matcher = Matcher::new(MatchOp::Re, &name, format!("^(?:{text})$"))
                .map_err(|e| Issue::new(value.pos, e.to_string()))?;
            Ok(Some((name.clone().into_bytes(), (key.pos, name, Some((text, matcher))))))
        })?;
        let Some(pairs) = pairs else { return Ok(()) };
        self.0.clear();
        for (_, (pos, name, regex)) in pairs {
            let quoted = || go_quote(name.as_bytes());
            if !NameScheme::Legacy.is_label_name(name.as_bytes()) {
                return Err(Issue::new(pos, format!("invalid label name {}", quoted())));
            }
            let Some(regex) = regex else {
                return Err(Issue::new(pos, format!("invalid regexp value for {}", quoted())));
            };
            self.0.insert(name, regex);
        }
        Ok(())
    }

    fn print(&mut self) -> Out {
        Out::sorted(self.0.iter().map(|(name, (text, _))| {
            let text = if text.is_empty() { Out::Raw("null".to_owned()) } else { Out::Text(text.clone()) };
            (name.clone(), text)
        }))
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

/// `matchers`: texts, each of which may hold several.
#[derive(Default)]
struct List(Vec<Matcher>);

impl Slot for List {
    fn read(&mut self, decoder: &mut Decoder, _: &Path, node: &Node) -> Result<(), Issue> {
        let before = self.0.len();
        let mut lines = Vec::new();
        let mut is_sound = true;
        let is_list = decoder.items(node, "[]string", &mut |decoder, item| {
            match String::decode(decoder, item)? {
                Some(line) => lines.push((item.pos, line)),
                None => is_sound = false,
            }
            Ok(())
        })?;
        if !is_list || !is_sound {
            return Ok(());
        }
        for (pos, line) in lines {
            let parsed = matchers::parse_in(decoder.matcher_mode, &line);
            self.0.extend(parsed.map_err(|e| Issue::new(pos, e.to_string()))?);
            if decoder.matcher_mode == Mode::Fallback
                && let Some(text) = matchers::warning(&line)
            {
                decoder.warn(pos, &text);
            }
        }
        debug_assert!(self.0.len() >= before, "matchers are only added");
        sort(&mut self.0);
        Ok(())
    }

    fn print(&mut self) -> Out {
        self.0.iter().map(matchers::print).collect()
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Default)]
pub(super) struct RawInhibitRule {
    name: String,
    source: Matchers,
    target: Matchers,
    equal: Labels,
}

impl Record for RawInhibitRule {
    const GO_TYPE: &'static str = "common.plain";
    const GO_LIST: &'static str = "[]common.InhibitRule";

    fn keys(&mut self) -> Vec<Key<'_>> {
        let (source, target) = (&mut self.source, &mut self.target);
        vec![
            some("name", &mut self.name),
            some("source_match", &mut source.equal),
            some("source_match_re", &mut source.regex),
            some("source_matchers", &mut source.list),
            some("target_match", &mut target.equal),
            some("target_match_re", &mut target.regex),
            some("target_matchers", &mut target.list),
            some("equal", &mut self.equal),
        ]
    }

    fn check(&mut self) -> Result<(), String> {
        self.source.check()?;
        self.target.check()?;
        let mut equal = self.equal.list.iter().flatten();
        match equal.find(|name| !is_label_name(self.equal.mode, name)) {
            Some(bad) => Err(format!("invalid label name {} in equal list", go_quote(bad.as_bytes()))),
            None => Ok(()),
        }
    }

    fn null() -> Result<Self, String> {
        Ok(Self::default())
    }
}

impl RawInhibitRule {
    pub(super) fn resolve(&self) -> InhibitRule {
        InhibitRule {
            name: self.name.clone(),
            source_matchers: self.source.all(),
            target_matchers: self.target.all(),
            equal: self.equal.list.clone().unwrap_or_default(),
        }
    }
}
