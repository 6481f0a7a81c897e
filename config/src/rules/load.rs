//! Rule files from YAML: strict keys, then every rule is checked and all complaints are reported together.
//!
//! Compat: prometheus `model/rulefmt`, `Parse` and `RuleGroups.Validate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::quote::go_quote;
use promql::parse::Parser;
use promql::parse::ast::Expr;

use super::{Rule, RuleGroup, RuleKind};
use crate::relabel::NameScheme;
use crate::yaml::decode::Dialect;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, tree};
use crate::{Error, Problem, template};

/// What else decides whether a rule is valid.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub name_scheme: NameScheme,
    /// Keys that mean nothing here are no errors.
    pub ignore_unknown_fields: bool,
    /// The switches of the language.
    pub promql: promql::parse::Options,
}

/// A rule file that loads.
#[derive(Clone, Debug)]
pub struct RuleFile {
    pub groups: Vec<RuleGroup>,
    pub warnings: Vec<String>,
}

/// Reads a rule file with default options.
///
/// # Errors
/// The file cannot be read, or rules are refused; then all of them are named.
pub fn load(path: &Path) -> Result<Vec<RuleGroup>, Error> {
    Ok(load_with(path, &Options::default())?.groups)
}

/// Reads a rule file.
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, options: &Options) -> Result<RuleFile, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    parse(&text, path, options)
}

/// Validates the text of a rule file; `path` is what errors and groups call it.
///
/// # Errors
/// Rules are refused; all of them are named.
pub fn parse(text: &str, path: &Path, options: &Options) -> Result<RuleFile, Error> {
    let mut decoder = Decoder::new(Dialect::V3);
    decoder.ignores_unknown = options.ignore_unknown_fields;
    let document = decode(&mut decoder, text);
    let (groups, has_more) = document.map_err(|issue| {
        // The library's own errors name their lines.
        Error::rules(path, vec![Problem { line: 0, column: 0, message: issue.text }])
    })?;
    let mut checker =
        Checker { parser: Parser::new(options.promql), scheme: options.name_scheme, problems: Vec::new() };
    let mut out: Vec<RuleGroup> = Vec::new();
    for group in groups {
        let repeated = out.iter().any(|other| other.name == group.name);
        out.push(checker.group(group, path, repeated));
    }
    if !checker.problems.is_empty() {
        return Err(Error::rules(path, checker.problems));
    }
    let warnings = has_more.then(|| {
        "Multiple document yaml rules files are not supported, only the first document is processed"
            .to_owned()
    });
    Ok(RuleFile { groups: out, warnings: warnings.into_iter().collect() })
}

fn decode(decoder: &mut Decoder, text: &str) -> Result<(Vec<RawGroup>, bool), Issue> {
    let document = tree::parse(text)?;
    let mut groups = Vec::new();
    if let Some(root) = &document.root {
        decoder.fields(root, "rulefmt.RuleGroups", &mut |decoder, key, value| {
            if key != "groups" {
                return Ok(false);
            }
            decoder.items(value, "[]rulefmt.RuleGroup", &mut |decoder, item| {
                groups.extend(RawGroup::decode(decoder, item)?);
                Ok(())
            })?;
            Ok(true)
        })?;
    }
    decoder.finish()?;
    Ok((groups, document.has_more))
}

struct RawGroup {
    pos: Pos,
    name: String,
    interval: Duration,
    query_offset: Option<Duration>,
    limit: i64,
    labels: BTreeMap<String, String>,
    rules: Vec<RawRule>,
}

impl RawGroup {
    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut group = Self {
            pos: node.pos,
            name: String::new(),
            interval: Duration::ZERO,
            query_offset: None,
            limit: 0,
            labels: BTreeMap::new(),
            rules: Vec::new(),
        };
        let ok = decoder.fields(node, "rulefmt.RuleGroup", &mut |decoder, key, value| {
            match key {
                "name" => decoder.set(value, &mut group.name)?,
                "interval" => decoder.set(value, &mut group.interval)?,
                "query_offset" if value.is_null() => group.query_offset = None,
                "query_offset" => group.query_offset = Duration::decode(decoder, value)?,
                "limit" => decoder.set(value, &mut group.limit)?,
                "labels" => decoder.set(value, &mut group.labels)?,
                "rules" => {
                    decoder.items(value, "[]rulefmt.Rule", &mut |decoder, item| {
                        group.rules.extend(RawRule::decode(decoder, item)?);
                        Ok(())
                    })?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(group))
    }
}

/// A text with the place where it stands, which is the rule's own until it is set.
struct Placed {
    text: String,
    pos: Pos,
}

struct RawRule {
    record: Placed,
    alert: Placed,
    expr: Placed,
    hold: Duration,
    keep_firing_for: Duration,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl RawRule {
    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let unset = || Placed { text: String::new(), pos: node.pos };
        let mut rule = Self {
            record: unset(),
            alert: unset(),
            expr: unset(),
            hold: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        };
        let ok = decoder.fields(node, "rulefmt.Rule", &mut |decoder, key, value| {
            let placed = match key {
                "record" => &mut rule.record,
                "alert" => &mut rule.alert,
                "expr" => &mut rule.expr,
                _ => {
                    match key {
                        "for" => decoder.set(value, &mut rule.hold)?,
                        "keep_firing_for" => decoder.set(value, &mut rule.keep_firing_for)?,
                        "labels" => decoder.set(value, &mut rule.labels)?,
                        "annotations" => decoder.set(value, &mut rule.annotations)?,
                        _ => return Ok(false),
                    }
                    return Ok(true);
                }
            };
            placed.pos = value.pos;
            decoder.set(value, &mut placed.text)?;
            Ok(true)
        })?;
        Ok(ok.then_some(rule))
    }
}

/// Collects what is wrong with the rules of one file.
struct Checker {
    parser: Parser,
    scheme: NameScheme,
    problems: Vec<Problem>,
}

impl Checker {
    fn complain(&mut self, pos: Pos, message: String) {
        self.problems.push(Problem { line: pos.line, column: pos.column, message });
    }

    fn group(&mut self, group: RawGroup, file: &Path, repeated: bool) -> RuleGroup {
        if group.name.is_empty() {
            self.complain(group.pos, "Groupname must not be empty".to_owned());
        }
        if repeated {
            let text = format!("groupname: \"{}\" is repeated in the same file", group.name);
            self.complain(group.pos, text);
        }
        for name in group.labels.keys().filter(|name| !self.is_label(name)).cloned().collect::<Vec<_>>() {
            self.complain(group.pos, format!("invalid label name: {name}"));
        }
        let mut rules = Vec::new();
        for (i, rule) in group.rules.into_iter().enumerate() {
            let name = if rule.alert.text.is_empty() { &rule.record.text } else { &rule.alert.text };
            let owner = format!("group {}, rule {}, {}", quoted(&group.name), i + 1, quoted(name));
            rules.extend(self.rule(rule, &owner, &group.labels));
        }
        RuleGroup {
            name: group.name,
            file: file.to_owned(),
            interval: Some(group.interval).filter(|interval| !interval.is_zero()),
            query_offset: group.query_offset,
            limit: usize::try_from(group.limit).unwrap_or(0),
            labels: group.labels,
            rules,
        }
    }

    fn is_label(&self, name: &str) -> bool {
        self.scheme.is_label_name(name.as_bytes()) && name != "__name__"
    }

    /// The rule, or `None` after a complaint without which there would be one.
    fn rule(&mut self, rule: RawRule, owner: &str, group: &BTreeMap<String, String>) -> Option<Rule> {
        let (record, alert) = (&rule.record, &rule.alert);
        let (has_record, has_alert) = (!record.text.is_empty(), !alert.text.is_empty());
        if has_record && has_alert {
            let other = alert.pos;
            let text = "only one of 'record' and 'alert' must be set";
            self.complain(record.pos, format!("{}:{}: {owner}: {text}", other.line, other.column));
        }
        if !has_record && !has_alert {
            self.complain(record.pos, format!("{owner}: one of 'record' or 'alert' must be set"));
        }
        let expr = self.expr(&rule.expr, owner);
        if has_record {
            let fields = [
                ("annotations", !rule.annotations.is_empty()),
                ("for", !rule.hold.is_zero()),
                ("keep_firing_for", !rule.keep_firing_for.is_zero()),
            ];
            for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
                let text = format!("{owner}: invalid field '{field}' in recording rule");
                self.complain(record.pos, text);
            }
            if !self.scheme.is_metric_name(record.text.as_bytes()) {
                self.complain(record.pos, format!("{owner}: invalid recording rule name: {}", record.text));
            }
            if record.text.contains(['{', '}']) {
                let text = "braces present in the recording rule name; should it be in expr?";
                self.complain(record.pos, format!("{owner}: {text}: {}", record.text));
            }
        }
        let pos = if has_alert { alert.pos } else { record.pos };
        for name in rule.labels.keys().filter(|name| !self.is_label(name)).cloned().collect::<Vec<_>>() {
            self.complain(pos, format!("{owner}: invalid label name: {name}"));
        }
        for name in rule.annotations.keys() {
            if !self.scheme.is_label_name(name.as_bytes()) {
                self.complain(pos, format!("{owner}: invalid annotation name: {name}"));
            }
        }
        if has_alert {
            let name = format!("__alert_{}", alert.text);
            let labels = rule.labels.iter().map(|(key, text)| ("label", key, text));
            let annotations = rule.annotations.iter().map(|(key, text)| ("annotation", key, text));
            for (what, key, text) in labels.chain(annotations) {
                if let Err(e) = template::alert::check(&name, text) {
                    self.complain(pos, format!("{owner}: {what} {}: {e}", quoted(key)));
                }
            }
        }
        let mut labels = group.clone();
        labels.extend(rule.labels);
        let kind = if has_record {
            RuleKind::Recording { name: rule.record.text }
        } else {
            RuleKind::Alerting {
                name: rule.alert.text,
                hold: rule.hold,
                keep_firing_for: rule.keep_firing_for,
                annotations: rule.annotations,
            }
        };
        Some(Rule { kind, expr: expr?, labels })
    }

    fn expr(&mut self, expr: &Placed, owner: &str) -> Option<Expr> {
        if expr.text.is_empty() {
            self.complain(expr.pos, format!("{owner}: field 'expr' must be set in rule"));
            return None;
        }
        match self.parser.parse(&expr.text) {
            Ok(parsed) => Some(parsed),
            Err(e) => {
                self.complain(expr.pos, format!("{owner}: could not parse expression: {e}"));
                None
            }
        }
    }
}

fn quoted(text: &str) -> String {
    go_quote(text.as_bytes())
}
