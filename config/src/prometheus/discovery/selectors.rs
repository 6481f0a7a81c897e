//! The two selector languages of Kubernetes: whether a text is one. The server evaluates them, we only pass them on.
//!
//! Compat: k8s.io/apimachinery `labels.Parse` and `fields.ParseSelector`.

use std::collections::BTreeSet;

use model::quote::go_quote;

const NAME_BYTES_MAX: usize = 63;
const PREFIX_BYTES_MAX: usize = 253;

const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                        validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                          '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                          'my_value',  or '12345', regex used for validation is \
                          '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                           '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
                           used for validation is \
                           '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

// === field selectors ===

/// `metadata.name=x,status.phase!=y`.
///
/// # Errors
/// Which term is no comparison, or is escaped wrongly.
pub(super) fn check_field(selector: &str) -> Result<(), String> {
    let mut terms = split_terms(selector);
    terms.sort_unstable();
    for term in terms.into_iter().filter(|term| !term.is_empty()) {
        let operator = term.char_indices().find_map(|(i, _)| {
            ["!=", "==", "="].iter().find(|op| term[i..].starts_with(**op)).map(|op| i + op.len())
        });
        let Some(end) = operator else {
            return Err(format!("invalid selector: '{selector}'; can't understand '{term}'"));
        };
        check_field_value(&term[end..])?;
    }
    Ok(())
}

/// At commas that no backslash precedes.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut is_escaped = false;
    selector
        .split(|c: char| {
            let splits = c == ',' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            splits
        })
        .collect()
}

fn check_field_value(value: &str) -> Result<(), String> {
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('\\' | ',' | '=') => {}
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("invalid field selector: invalid escape sequence: \\{other}"));
                }
            },
            ',' | '=' => {
                // The reference prints the character's number.
                let number = u32::from(c);
                return Err(format!("invalid field selector: unescaped character in value: {number}"));
            }
            _ => {}
        }
    }
    Ok(())
}

// === label selectors ===

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    /// `=`, `==`, `!=`.
    Equality,
    /// `>`, `<`.
    Order,
    Word,
    /// `in`, `notin`: words where a value is expected.
    Set,
    Open,
}

fn token(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "=" | "==" | "!=" => Token::Equality,
        ">" | "<" => Token::Order,
        "in" | "notin" => Token::Set,
        "(" => Token::Open,
        _ => return None,
    })
}

/// `app=web,tier in (front,back),!canary`.
///
/// # Errors
/// What was found where something else was expected, or which key or value no object can have.
pub(super) fn check_label(selector: &str) -> Result<(), String> {
    let mut parser = Parser { items: scan(selector), at: 0 };
    loop {
        let (token, text) = parser.peek_value();
        match token {
            Token::Word | Token::Not => {
                parser.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
                let (token, text) = parser.next_value();
                match token {
                    Token::End => return Ok(()),
                    Token::Comma => {
                        let (token, text) = parser.peek_value();
                        if !matches!(token, Token::Word | Token::Not) {
                            return Err(format!("found '{text}', expected: identifier after ','"));
                        }
                    }
                    _ => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                }
            }
            Token::End => return Ok(()),
            _ => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
        }
    }
}

/// The tokens, with [`Token::End`] last. Symbols are as long as possible; a NUL ends the text.
fn scan(selector: &str) -> Vec<(Token, String)> {
    let is_symbol = |c: char| "=!(),><".contains(c);
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut items = Vec::new();
    let mut rest = selector.split('\0').next().unwrap_or_default().trim_start_matches(is_blank);
    while let Some(first) = rest.chars().next() {
        let end = if is_symbol(first) {
            // Each of them is a token on its own.
            if rest.get(..2).is_some_and(|two| token(two).is_some()) { 2 } else { 1 }
        } else {
            rest.find(|c| is_symbol(c) || is_blank(c)).unwrap_or(rest.len())
        };
        let text = &rest[..end];
        items.push((token(text).unwrap_or(Token::Word), text.to_owned()));
        rest = rest[end..].trim_start_matches(is_blank);
    }
    items.push((Token::End, String::new()));
    items
}

struct Parser {
    items: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    /// The token here; past the end it is the end.
    fn peek(&self) -> (Token, String) {
        self.items.get(self.at).cloned().unwrap_or((Token::End, String::new()))
    }

    /// As [`Parser::peek`], where `in` and `notin` are words.
    fn peek_value(&self) -> (Token, String) {
        let (token, text) = self.peek();
        (if token == Token::Set { Token::Word } else { token }, text)
    }

    fn next(&mut self) -> (Token, String) {
        let item = self.peek();
        self.at += 1;
        item
    }

    fn next_value(&mut self) -> (Token, String) {
        let item = self.peek_value();
        self.at += 1;
        item
    }

    fn requirement(&mut self) -> Result<(), String> {
        let (mut token, mut key) = self.next_value();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next_value();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        check_key("<nil>", &key)?;
        if negated || matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Ok(());
        }
        let (operator, text) = self.next();
        let values = match operator {
            Token::Set => self.values()?,
            Token::Equality | Token::Order => BTreeSet::from([self.exact_value()?]),
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let mut errors = Vec::new();
        for (i, value) in values.iter().enumerate() {
            if operator == Token::Order && value.parse::<i64>().is_err() {
                let value = go_quote(value.as_bytes());
                errors.push(format!(
                    "values[{i}]: Invalid value: {value}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let reasons = value_errors(value);
            if !reasons.is_empty() {
                let value = go_quote(value.as_bytes());
                errors.push(format!("values[{i}][{key}]: Invalid value: {value}: {}", reasons.join("; ")));
            }
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(format!("[{}]", errors.join(", "))),
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next_value() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a, b)`; empty values are written by leaving them out.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let (token, text) = self.next_value();
        if token != Token::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        let (token, text) = self.peek_value();
        match token {
            Token::Word | Token::Comma => {
                let values = self.value_list()?;
                if self.next_value().0 != Token::Close {
                    return Err(format!("found '{text}', expected: ')'"));
                }
                Ok(values)
            }
            Token::Close => {
                self.at += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            _ => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    fn value_list(&mut self) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            let (token, text) = self.next_value();
            match token {
                Token::Word => {
                    values.insert(text);
                    match self.peek_value() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    let next = self.peek_value().0;
                    if values.is_empty() || matches!(next, Token::Close | Token::Comma) {
                        values.insert(String::new());
                    }
                    if next == Token::Close {
                        return Ok(values);
                    }
                }
                _ => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }
}

/// An optional DNS name and a slash, then a name.
fn check_key(path: &str, key: &str) -> Result<(), String> {
    let parts: Vec<&str> = key.split('/').collect();
    let mut reasons = Vec::new();
    let name = match *parts {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                reasons.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > PREFIX_BYTES_MAX {
                    reasons.push(format!("prefix part must be no more than {PREFIX_BYTES_MAX} bytes"));
                }
                if !is_subdomain(prefix) {
                    reasons.push(format!("prefix part {PREFIX_RULE}"));
                }
            }
            name
        }
        _ => {
            reasons.push(format!(
                "a valid label key {KEY_RULE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            ));
            "x"
        }
    };
    if name.is_empty() {
        reasons.push("name part must be non-empty".to_owned());
    } else if name.len() > NAME_BYTES_MAX {
        reasons.push(format!("name part must be no more than {NAME_BYTES_MAX} bytes"));
    }
    if !is_name(name) {
        reasons.push(format!("name part {KEY_RULE}"));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(format!("{path}: Invalid value: {}: {}", go_quote(key.as_bytes()), reasons.join("; ")))
}

fn value_errors(value: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if value.len() > NAME_BYTES_MAX {
        reasons.push(format!("must be no more than {NAME_BYTES_MAX} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        reasons.push(VALUE_RULE.to_owned());
    }
    reasons
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(text.as_bytes().first()) && ends(text.as_bytes().last()) && text.bytes().all(inner)
}

fn is_subdomain(text: &str) -> bool {
    let outer = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').all(|label| {
        let ends = |b: Option<&u8>| b.is_some_and(|b| outer(*b));
        let bytes = label.as_bytes();
        ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| outer(*b) || *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// One line per selector: the complaint, or `ok`.
    fn check(judge: fn(&str) -> Result<(), String>, selectors: &[&str], expected: Expect) {
        let shown = |s: &&str| format!("{s} -> {}\n", judge(s).err().unwrap_or_else(|| "ok".to_owned()));
        expected.assert_eq(&selectors.iter().map(shown).collect::<String>());
    }

    #[test]
    fn field_selectors() {
        let selectors = [
            "",
            ",",
            "a=b,c!=d,e==f",
            "a=b\\,c,d=\\=",
            "metadata.status-Running",
            "a=b=c",
            "a=b\\c",
            "a=b\\",
        ];
        check(
            check_field,
            &selectors,
            expect![[r#"
             -> ok
            , -> ok
            a=b,c!=d,e==f -> ok
            a=b\,c,d=\= -> ok
            metadata.status-Running -> invalid selector: 'metadata.status-Running'; can't understand 'metadata.status-Running'
            a=b=c -> invalid field selector: unescaped character in value: 61
            a=b\c -> invalid field selector: invalid escape sequence: \c
            a=b\ -> invalid field selector: invalid escape sequence: \
        "#]],
        );
    }

    #[test]
    fn label_selectors() {
        let selectors = [
            "",
            "a, !b ,c=d,e==f,g!=h",
            "x in (a,,b),y notin (),z in (,)",
            "in in (in, notin)",
            "a>5,b<6",
            "example.com/a=b",
            "a=",
            "a b",
            "=a",
            "a=b c=d",
            "a,",
            "!",
            "!a=b",
            "a in b",
            "a in (b",
            "a in (b c)",
            "a in (b,",
            "a in (=)",
            "a=(b)",
            "a>x",
            "a=-b",
            "a in (-b,_c)",
            "-a",
            "Example.com/a",
            "/a",
            "a/",
            "a/b/c",
        ];
        check(
            check_label,
            &selectors,
            expect![[r#"
             -> ok
            a, !b ,c=d,e==f,g!=h -> ok
            x in (a,,b),y notin (),z in (,) -> ok
            in in (in, notin) -> ok
            a>5,b<6 -> ok
            example.com/a=b -> ok
            a= -> ok
            a b -> unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
            =a -> found '=', expected: !, identifier, or 'end of string'
            a=b c=d -> found 'c', expected: ',' or 'end of string'
            a, -> found '', expected: identifier after ','
            ! -> unable to parse requirement: found '', expected: identifier
            !a=b -> found '=', expected: ',' or 'end of string'
            a in b -> unable to parse requirement: found 'b' expected: '('
            a in (b -> unable to parse requirement: found '', expected: ',' or ')'
            a in (b c) -> unable to parse requirement: found 'c', expected: ',' or ')'
            a in (b, -> unable to parse requirement: found '', expected: ',', or identifier
            a in (=) -> unable to parse requirement: found '=', expected: ',', ')' or identifier
            a=(b) -> unable to parse requirement: found '(', expected: identifier
            a>x -> unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer
            a=-b -> unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            a in (-b,_c) -> unable to parse requirement: [values[0][a]: Invalid value: "-b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), values[1][a]: Invalid value: "_c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')]
            -a -> unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            Example.com/a -> unable to parse requirement: <nil>: Invalid value: "Example.com/a": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            /a -> unable to parse requirement: <nil>: Invalid value: "/a": prefix part must be non-empty
            a/ -> unable to parse requirement: <nil>: Invalid value: "a/": name part must be non-empty; name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            a/b/c -> unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
        "#]],
        );
    }
}
