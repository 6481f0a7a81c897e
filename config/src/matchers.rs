//! Matchers as Alertmanager users write them, in routes, inhibition rules, silences and filters.
//!
//! Two grammars exist: the classic one takes anything behind the operator as the value, the newer one quotes
//! names and values. A text is read in both; where they disagree the classic reading wins, as it does upstream
//! by default.
//!
//! Compat: alertmanager `matcher/parse`, `matcher/compat` (`FallbackMatchersParser`), `pkg/labels`.

mod utf8;

use model::quote::go_quote;
use model::{MatchOp, Matcher};

/// A text that is a matcher in neither grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Which grammar a text is read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Both, the classic one wins where they disagree.
    #[default]
    Fallback,
    /// `--enable-feature=classic-mode`.
    Classic,
    /// `--enable-feature=utf8-strict-mode`.
    Utf8,
}

/// Reads `{a="b", c=~"d|e"}`, with or without the braces.
///
/// # Errors
/// The text is no list of matchers, or a regular expression does not compile.
pub fn parse(text: &str) -> Result<Vec<Matcher>, Error> {
    parse_in(Mode::Fallback, text)
}

/// Reads a list of matchers in a given grammar.
///
/// # Errors
/// As [`parse`].
pub fn parse_in(mode: Mode, text: &str) -> Result<Vec<Matcher>, Error> {
    let (newer, classic) = match mode {
        Mode::Classic => return classic_list(text),
        Mode::Utf8 => return utf8::list(text),
        Mode::Fallback => (utf8::list(text), classic_list(text)),
    };
    match (newer, classic) {
        (_, Ok(classic)) => Ok(classic),
        (Ok(newer), Err(_)) => Ok(newer),
        (Err(_), Err(e)) => Err(e),
    }
}

/// Reads exactly one matcher, without braces.
///
/// # Errors
/// As [`parse`]; or there are several.
pub fn parse_one(text: &str) -> Result<Matcher, Error> {
    parse_one_in(Mode::Fallback, text)
}

/// Reads exactly one matcher in a given grammar.
///
/// # Errors
/// As [`parse_one`].
pub fn parse_one_in(mode: Mode, text: &str) -> Result<Matcher, Error> {
    match mode {
        Mode::Classic => classic_one(text),
        Mode::Utf8 => utf8::one(text),
        Mode::Fallback if text.starts_with('{') || text.ends_with('}') => utf8::one(text),
        Mode::Fallback => classic_one(text).or_else(|e| utf8::one(text).map_err(|_| e)),
    }
}

/// What should be said about a list that loads: why a later version might not read it, or read something else.
pub fn warning(text: &str) -> Option<String> {
    let classic = classic_list(text).ok()?;
    let suggestion = || classic.iter().map(print).collect::<Vec<_>>().join(",");
    match utf8::list(text) {
        Ok(newer) if newer == classic => None,
        Ok(_) => Some(format!("matchers input has disagreement: {text}")),
        Err(e) => Some(format!(
            "matchers are read by the classic grammar only: {text}: {e}; quote values and escape backslashes, as in: {}",
            suggestion()
        )),
    }
}

/// A matcher as the Alertmanager writes it: in configurations, keys of groups and answers. Names are bare unless
/// they hold what the newer grammar reserves.
///
/// Compat: alertmanager `pkg/labels`, `Matcher.String`.
pub fn print(matcher: &Matcher) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes);
    print_parts(&text(&matcher.name), matcher.op, &text(&matcher.value))
}

/// As [`print`], of a matcher whose pattern need not compile.
pub fn print_parts(name: &str, op: MatchOp, value: &str) -> String {
    let op = op.as_str();
    if name.contains(|c: char| c.is_whitespace() || is_reserved(c)) {
        return format!("{}{op}{}", go_quote(name.as_bytes()), go_quote(value.as_bytes()));
    }
    let value = value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    format!("{name}{op}\"{value}\"")
}

fn build(op: MatchOp, name: &str, value: &str) -> Result<Matcher, Error> {
    Matcher::new(op, name, value).map_err(|e| Error(anchored(&e.to_string(), value)))
}

/// The complaint about a regular expression as it is said of the one with anchors around, which is what is compiled
/// upstream.
pub(crate) fn anchored(message: &str, pattern: &str) -> String {
    let whole = format!("^(?:{pattern})$");
    if message.contains("trailing backslash") {
        return format!("error parsing regexp: missing closing ): `{whole}`");
    }
    match message.strip_suffix(&format!(": `{pattern}`")) {
        Some(what) if what.ends_with("missing closing )") || what.ends_with("unexpected )") => {
            format!("{what}: `{whole}`")
        }
        _ => message.to_owned(),
    }
}

// === The classic grammar ===

/// Commas outside of quotes separate; one at the end is fine.
fn classic_list(text: &str) -> Result<Vec<Matcher>, Error> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut in_quotes, mut escaped) = (false, false);
    let mut parts = Vec::new();
    let mut part = String::new();
    for c in text.chars() {
        match c {
            ',' if !in_quotes => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            '"' if !escaped => in_quotes = !in_quotes,
            '\\' => {
                escaped = !escaped;
                part.push(c);
                continue;
            }
            _ => {}
        }
        escaped = false;
        part.push(c);
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts.iter().map(|part| classic_one(part)).collect()
}

/// `^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*((?s).*?)\s*$`
fn classic_one(text: &str) -> Result<Matcher, Error> {
    let bad = || Error(format!("bad matcher format: {text}"));
    // Go's `\s`, which is ASCII.
    let trim = |text: &'_ str| text.trim_matches(['\t', '\n', '\x0c', '\r', ' ']).to_owned();
    let body = trim(text);
    let end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).ok_or_else(bad)?;
    let (name, rest) = body.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad());
    }
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    let (op, raw) = operator(rest).ok_or_else(bad)?;
    build(op, name, &classic_value(&trim(raw))?)
}

fn operator(text: &str) -> Option<(MatchOp, &str)> {
    let ops = [("=~", MatchOp::Re), ("!~", MatchOp::Nre), ("!=", MatchOp::Ne), ("=", MatchOp::Eq)];
    ops.into_iter().find_map(|(sign, op)| Some((op, text.strip_prefix(sign)?)))
}

/// Undoes `\n`, `\"` and `\\`; other backslashes stand for themselves.
fn classic_value(written: &str) -> Result<String, Error> {
    let unescaped = || Error(format!("matcher value contains unescaped double quote: {written}"));
    let (mut wants_quote, raw) = match written.strip_prefix('"') {
        Some(raw) => (true, raw),
        None => (false, written),
    };
    let mut value = String::new();
    let mut escaped = false;
    for (i, c) in raw.char_indices() {
        let is_last = i + 1 == raw.len();
        match c {
            'n' if escaped => value.push('\n'),
            '"' | '\\' if escaped => value.push(c),
            c if escaped => value.extend(['\\', c]),
            '\\' if !is_last => {
                escaped = true;
                continue;
            }
            '"' if !wants_quote || !is_last => return Err(unescaped()),
            '"' => wants_quote = false,
            c => value.push(c),
        }
        escaped = false;
    }
    if wants_quote { Err(unescaped()) } else { Ok(value) }
}

fn is_reserved(c: char) -> bool {
    "{}!=~,\\\"'`".contains(c)
}

#[cfg(test)]
mod tests;
