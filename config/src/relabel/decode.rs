//! Relabelling rules in YAML: defaults, validation, and the way back.
//!
//! Compat: prometheus `model/relabel`, `Config.UnmarshalYAML`, `Config.Validate` and `Config.MarshalYAML`.

use std::sync::Arc;

use model::Regex;
use model::quote::go_quote;

use super::{Action, DEFAULT_REGEX, DEFAULT_REPLACEMENT, DEFAULT_SEPARATOR, NameScheme, Rule};
use crate::yaml::emit::Fields;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, Out};

/// A rule as written, before the name scheme is known that it is checked against.
#[derive(Debug)]
pub(crate) struct RawRule {
    rule: Rule,
    node_pos: crate::yaml::tree::Pos,
    /// `action:` without a value, which is not the same as no action.
    has_no_action: bool,
    has_pattern: bool,
}

/// One list of rules; `None` stands for a null element, which the owner of the list refuses in its words.
pub(crate) type RawRules = Vec<(crate::yaml::tree::Pos, Option<RawRule>)>;

pub(crate) fn decode_list(decoder: &mut Decoder, node: &Node) -> Decoded<RawRules> {
    let mut rules = RawRules::new();
    let is_list = decoder.items(node, "[]*relabel.Config", &mut |decoder, item| {
        if item.is_null() {
            rules.push((item.pos, None));
        } else if let Some(rule) = RawRule::decode(decoder, item)? {
            rules.push((item.pos, Some(rule)));
        }
        Ok(())
    })?;
    Ok(is_list.then_some(rules))
}

/// The rules without null elements; `null_text` is what their owner says about one.
pub(crate) fn refuse_null(rules: RawRules, null_text: &str) -> Result<Vec<RawRule>, Issue> {
    rules.into_iter().map(|(pos, rule)| rule.ok_or_else(|| Issue::new(pos, null_text))).collect()
}

/// Validates a whole list.
pub(crate) fn validate_list(rules: Vec<RawRule>, scheme: NameScheme) -> Result<Vec<Rule>, Issue> {
    rules.into_iter().map(|rule| rule.validate(scheme)).collect()
}

impl RawRule {
    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let mut raw =
            Self { rule: Rule::default(), node_pos: node.pos, has_no_action: false, has_pattern: false };
        let rule = &mut raw.rule;
        let ok = decoder.fields(node, "relabel.plain", &mut |decoder, key, value| {
            match key {
                "source_labels" => {
                    let mut names = Vec::new();
                    let is_list = decoder.items(value, "model.LabelNames", &mut |decoder, item| {
                        names.extend(label_name(decoder, item)?.map(Arc::from));
                        Ok(())
                    })?;
                    if is_list {
                        rule.source_labels = names;
                    }
                }
                "separator" => decoder.set(value, &mut rule.separator)?,
                "regex" => {
                    raw.has_pattern = true;
                    if let Some(pattern) = String::decode(decoder, value)? {
                        let regex = Regex::wrapped(pattern.as_bytes())
                            .map_err(|e| Issue::new(value.pos, e.to_string()))?;
                        (rule.pattern, rule.regex) = (pattern, Arc::new(regex));
                    }
                }
                "modulus" => decoder.set(value, &mut rule.modulus)?,
                "target_label" => decoder.set(value, &mut rule.target_label)?,
                "replacement" => decoder.set(value, &mut rule.replacement)?,
                "action" if value.is_null() => raw.has_no_action = true,
                "action" => {
                    if let Some(text) = String::decode(decoder, value)? {
                        rule.action = Action::parse(&text).ok_or_else(|| {
                            let text = go_quote(text.as_bytes());
                            Issue::new(value.pos, format!("unknown relabel action {text}"))
                        })?;
                        raw.has_no_action = false;
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ok.then_some(raw))
    }

    fn validate(self, scheme: NameScheme) -> Result<Rule, Issue> {
        match self.refusal(scheme) {
            Some(text) => Err(Issue::new(self.node_pos, text)),
            None => Ok(Rule { scheme, ..self.rule }),
        }
    }

    fn refusal(&self, scheme: NameScheme) -> Option<String> {
        let rule = &self.rule;
        let (action, target) = (rule.action, rule.target_label.as_str());
        if self.has_no_action {
            return Some("relabel action cannot be empty".to_owned());
        }
        if rule.modulus == 0 && action == Action::HashMod {
            return Some("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        let needs_target = matches!(
            action,
            Action::Replace
                | Action::KeepEqual
                | Action::DropEqual
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
        );
        if needs_target && target.is_empty() {
            return Some(format!("relabel configuration for {action} action requires 'target_label' value"));
        }
        let is_template = action == Action::Replace && target.contains('$');
        let is_valid_target = if is_template {
            is_name_template(target, scheme)
        } else {
            scheme.is_label_name(target.as_bytes())
        };
        if needs_target && !is_valid_target && action != Action::HashMod {
            return Some(format!(
                "{} is invalid 'target_label' for {action} action",
                go_quote(target.as_bytes())
            ));
        }
        let has_replacement = rule.replacement != DEFAULT_REPLACEMENT;
        if matches!(action, Action::Lowercase | Action::Uppercase) && has_replacement {
            return Some(format!("'replacement' can not be set for {action} action"));
        }
        if action == Action::LabelMap && !is_name_template(&rule.replacement, scheme) {
            let replacement = go_quote(rule.replacement.as_bytes());
            return Some(format!("{replacement} is invalid 'replacement' for {action} action"));
        }
        if action == Action::HashMod && !is_valid_target {
            return Some(format!(
                "{} is invalid 'target_label' for {action} action",
                go_quote(target.as_bytes())
            ));
        }
        let has_others = rule.modulus != 0 || rule.separator != DEFAULT_SEPARATOR || has_replacement;
        if matches!(action, Action::DropEqual | Action::KeepEqual) && (self.has_pattern || has_others) {
            return Some(format!(
                "{action} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        let has_labels = !rule.source_labels.is_empty() || !target.is_empty();
        if matches!(action, Action::LabelDrop | Action::LabelKeep) && (has_labels || has_others) {
            return Some(format!("{action} action requires only 'regex', and no other fields"));
        }
        None
    }
}

/// Whether `text` may become a label name once its groups are filled in.
fn is_name_template(text: &str, scheme: NameScheme) -> bool {
    match scheme {
        NameScheme::Utf8 => scheme.is_label_name(text.as_bytes()),
        NameScheme::Legacy => is_legacy_template(text),
    }
}

/// `^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$`: word characters and group references, no digit first.
fn is_legacy_template(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text;
    let mut at_start = true;
    while let Some(c) = rest.chars().next() {
        if c == '$' {
            let body = &rest[1..];
            let (name, after) = match body.strip_prefix('{') {
                Some(braced) => match braced.split_once('}') {
                    Some(parts) => parts,
                    None => return false,
                },
                None => body.split_at(body.find(|c| !is_word(c)).unwrap_or(body.len())),
            };
            if name.is_empty() || !name.chars().all(is_word) {
                return false;
            }
            rest = after;
        } else if is_word(c) && !(at_start && c.is_ascii_digit()) {
            rest = &rest[1..];
        } else {
            return false;
        }
        at_start = false;
    }
    !at_start
}

/// A label name in a position where it must be valid at once.
pub(crate) fn label_name(decoder: &mut Decoder, node: &Node) -> Decoded<Vec<u8>> {
    let Some(name) = decoder.bytes(node)? else { return Ok(None) };
    if node.is_null() || NameScheme::Utf8.is_label_name(&name) {
        return Ok(Some(name));
    }
    Err(Issue::new(node.pos, format!("{} is not a valid label name", go_quote(&name))))
}

/// The rules as they are printed back.
pub(crate) fn print_list(rules: &[Rule]) -> Out {
    Out::List(rules.iter().map(print).collect())
}

fn print(rule: &Rule) -> Out {
    let mut fields = Fields::default();
    let sources = rule.source_labels.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    fields.some("source_labels", Out::Flow(sources));
    fields.put("separator", rule.separator.as_str());
    // Not by its text: a default that was written down is printed.
    if !Arc::ptr_eq(&rule.regex, &DEFAULT_REGEX) {
        fields.put("regex", rule.pattern.as_str());
    }
    fields.some("modulus", rule.modulus).some("target_label", rule.target_label.as_str());
    fields.put("replacement", rule.replacement.as_str()).put("action", rule.action.as_str());
    fields.into_out()
}
