//! Matchers as Alertmanager users write them, in routes, inhibition rules, silences and filters.
//!
//! Two grammars exist: the classic one takes anything behind the operator as the value, the newer one quotes
//! names and values. A text is read in both; where they disagree the classic reading wins, as it does upstream
//! by default.
//!
//! Compat: alertmanager `matcher/parse`, `matcher/compat` (`FallbackMatchersParser`), `pkg/labels`.

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
        Mode::Utf8 => return utf8_list(text),
        Mode::Fallback => (utf8_list(text), classic_list(text)),
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
    let (newer, classic) = match mode {
        Mode::Classic => return classic_one(text),
        Mode::Utf8 => return utf8_one(text),
        Mode::Fallback => (utf8_one(text), classic_one(text)),
    };
    match (newer, classic) {
        (_, Ok(classic)) => Ok(classic),
        (Ok(newer), Err(_)) => Ok(newer),
        (Err(_), Err(e)) => Err(e),
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

// === The newer grammar ===

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Comma,
    Op(MatchOp),
    Text(String),
}

fn lex(text: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let (token, after) = match c {
            '{' => (Token::Open, &rest[1..]),
            '}' => (Token::Close, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '=' | '!' => {
                let (op, after) = operator(rest)
                    .ok_or_else(|| Error(format!("{at}:{}: {c}: expected one of '=~'", at + 1)))?;
                (Token::Op(op), after)
            }
            '"' => {
                let end = closing_quote(rest)
                    .ok_or_else(|| Error(format!("{at}:{}: {rest}: missing end \"", text.len())))?;
                (Token::Text(unquote(&rest[1..end])?), &rest[end + 1..])
            }
            c if is_reserved(c) => return Err(Error(format!("{at}:{}: {c}: invalid input", at + 1))),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || is_reserved(c)).unwrap_or(rest.len());
                (Token::Text(rest[..end].to_owned()), &rest[end..])
            }
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn is_reserved(c: char) -> bool {
    "{}!=~,\\\"'`".contains(c)
}

/// The index of the quote that ends the one at the start.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(i, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(i)
    })
}

/// Undoes Go's escapes in the inside of a double-quoted string.
fn unquote(inner: &str) -> Result<String, Error> {
    let bad = || Error(format!("\"{inner}\": invalid input"));
    let mut out = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\n' {
            return Err(bad());
        }
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let kind = chars.next().ok_or_else(bad)?;
        let simple = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' => Some(b'\\'),
            '"' => Some(b'"'),
            _ => None,
        };
        if let Some(byte) = simple {
            out.push(byte);
            continue;
        }
        let (digits, radix) = match kind {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => return Err(bad()),
        };
        let mut number = if radix == 8 { kind.to_string() } else { String::new() };
        while number.len() < digits {
            number.push(chars.next().filter(char::is_ascii_hexdigit).ok_or_else(bad)?);
        }
        let code = u32::from_str_radix(&number, radix).map_err(|_| bad())?;
        match kind {
            'u' | 'U' => {
                let c = char::from_u32(code).ok_or_else(bad)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => out.push(u8::try_from(code).map_err(|_| bad())?),
        }
    }
    String::from_utf8(out).map_err(|_| bad())
}

fn utf8_one(text: &str) -> Result<Matcher, Error> {
    let tokens = lex(text)?;
    match tokens.first() {
        None => return Err(Error("no matcher".to_owned())),
        Some(Token::Open) => return Err(Error("unexpected open brace".to_owned())),
        _ => {}
    }
    let mut list = utf8_tokens(text, &tokens)?;
    match (list.pop(), list.is_empty()) {
        (Some(matcher), true) => Ok(matcher),
        _ => Err(Error(format!("expected one matcher, found several: {text}"))),
    }
}

fn utf8_list(text: &str) -> Result<Vec<Matcher>, Error> {
    let tokens = lex(text)?;
    let inner = match (tokens.first(), tokens.last()) {
        (Some(Token::Open), Some(Token::Close)) if tokens.len() > 1 => &tokens[1..tokens.len() - 1],
        (Some(Token::Open), _) => {
            return Err(Error(format!("0:{}: end of input: expected close brace", text.len())));
        }
        _ => &tokens,
    };
    utf8_tokens(text, inner)
}

/// Matchers without braces; a comma may follow the last.
fn utf8_tokens(text: &str, tokens: &[Token]) -> Result<Vec<Matcher>, Error> {
    let mut out = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        let [Token::Text(name), Token::Op(op), Token::Text(value), tail @ ..] = rest else {
            return Err(Error(format!("expected a matcher in {}", go_quote(text.as_bytes()))));
        };
        out.push(build(*op, name, value)?);
        rest = match tail {
            [Token::Comma, tail @ ..] => tail,
            [] => tail,
            _ => return Err(Error(format!("expected a comma or the end in {}", go_quote(text.as_bytes())))),
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
