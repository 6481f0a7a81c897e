//! The newer grammar of matchers: names and values in quotes or without, in any script.
//!
//! Complaints name the columns between which the trouble lies, counted in characters.
//!
//! Compat: alertmanager `matcher/parse`.

use model::{MatchOp, Matcher};

use super::{Error, build, is_reserved, operator};

const NO_CLOSE_BRACE: &str = "expected close brace";
const NO_OPERATOR: &str = "expected an operator such as '=', '!=', '=~' or '!~'";
const NO_COMMA: &str = "expected a comma or close brace";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Open,
    Close,
    Comma,
    Op(MatchOp),
    Quoted,
    Bare,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Columns.
    start: usize,
    end: usize,
}

/// Exactly one matcher.
pub(super) fn one(text: &str) -> Result<Matcher, Error> {
    if text.starts_with('{') || text.ends_with('}') {
        return Err(Error(format!("unexpected open or close brace: {text}")));
    }
    let mut found = list(text)?;
    match (found.pop(), found.len()) {
        (None, _) => Err(Error("no matchers".to_owned())),
        (Some(matcher), 0) => Ok(matcher),
        (Some(_), more) => Err(Error(format!("expected 1 matcher, found {}", more + 1))),
    }
}

/// Any number of them, in braces or not.
pub(super) fn list(text: &str) -> Result<Vec<Matcher>, Error> {
    Parser { rest: text, column: 0, found: Vec::new() }.run().map_err(Error)
}

struct Parser<'a> {
    rest: &'a str,
    /// Where the last token that was taken ends.
    column: usize,
    found: Vec<Matcher>,
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Vec<Matcher>, String> {
        let Some((first, _)) = self.peek()? else { return Ok(self.found) };
        let is_open = first.kind == Kind::Open;
        if is_open {
            self.take()?;
        }
        let next = self.peek()?;
        if next.is_none_or(|(token, _)| token.kind == Kind::Close) {
            return self.close(is_open);
        }
        loop {
            self.matcher()?;
            let Some(token) = self.expect_or_end(&[Kind::Comma, Kind::Close], NO_COMMA)? else { break };
            if token.kind == Kind::Close {
                break;
            }
            self.take()?;
            let wanted = [Kind::Close, Kind::Bare, Kind::Quoted];
            let what = "expected a matcher or close brace after comma";
            if self.expect_or_end(&wanted, what)?.is_none_or(|token| token.kind == Kind::Close) {
                break;
            }
        }
        self.close(is_open)
    }

    fn matcher(&mut self) -> Result<(), String> {
        let text = |token: Token<'_>| {
            token
                .unquote()
                .ok_or_else(|| format!("{}:{}: {}: invalid input", token.start, token.end, token.text))
        };
        let name =
            text(self.expect(|kind| matches!(kind, Kind::Quoted | Kind::Bare), "expected label name")?)?;
        let op = self.expect(|kind| matches!(kind, Kind::Op(_)), NO_OPERATOR)?;
        let value =
            text(self.expect(|kind| matches!(kind, Kind::Quoted | Kind::Bare), "expected label value")?)?;
        let Kind::Op(op) = op.kind else { unreachable!("BUG: only operators are expected") };
        let matcher = build(op, &name, &value).map_err(|e| format!("failed to create matcher: {e}"))?;
        self.found.push(matcher);
        Ok(())
    }

    /// The brace that belongs to one at the start, and nothing behind it.
    fn close(mut self, is_open: bool) -> Result<Vec<Matcher>, String> {
        let column = self.column;
        let next = self.peek();
        if is_open {
            match next {
                Ok(Some((token, _))) if token.kind == Kind::Close => drop(self.take()?),
                Ok(Some((token, _))) => {
                    return Err(format!("0:{column}: {}: {NO_CLOSE_BRACE}", token.unexpected()));
                }
                Ok(None) => return Err(format!("0:{column}: end of input: {NO_CLOSE_BRACE}")),
                Err(e) => return Err(format!("0:{column}: {e}: {NO_CLOSE_BRACE}")),
            }
        } else if let Ok(Some((token, _))) = next
            && token.kind == Kind::Close
        {
            return Err(format!("0:{}: }}: expected opening brace", token.end));
        }
        match self.peek() {
            Ok(None) => Ok(self.found),
            Ok(Some((Token { start, end, text, .. }, _))) => {
                Err(format!("{start}:{end}: {text}: expected end of input"))
            }
            Err(e) => Err(format!("{e}: expected end of input")),
        }
    }

    fn expect(&mut self, is_wanted: impl Fn(Kind) -> bool, what: &str) -> Result<Token<'a>, String> {
        match self.peek().map_err(|e| format!("{e}: {what}"))? {
            None => Err(format!("end of input: {what}")),
            Some((token, _)) if is_wanted(token.kind) => {
                self.take()?;
                Ok(token)
            }
            Some((token, _)) => Err(format!("{}: {what}", token.unexpected())),
        }
    }

    /// Looks without taking; `None` at the end of the input.
    fn expect_or_end(&self, wanted: &[Kind], what: &str) -> Result<Option<Token<'a>>, String> {
        match self.peek().map_err(|e| format!("{e}: {what}"))? {
            Some((token, _)) if !wanted.contains(&token.kind) => {
                Err(format!("{}: {what}", token.unexpected()))
            }
            found => Ok(found.map(|(token, _)| token)),
        }
    }

    fn take(&mut self) -> Result<(), String> {
        if let Some((token, rest)) = self.peek()? {
            (self.rest, self.column) = (rest, token.end);
        }
        Ok(())
    }

    /// The next token and what is behind it.
    fn peek(&self) -> Result<Option<(Token<'a>, &'a str)>, String> {
        let rest = self.rest.trim_start();
        let start = self.column + self.rest[..self.rest.len() - rest.len()].chars().count();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let token = |kind, len: usize| {
            let (text, behind) = rest.split_at(len);
            Ok(Some((Token { kind, text, start, end: start + text.chars().count() }, behind)))
        };
        match first {
            '{' => token(Kind::Open, 1),
            '}' => token(Kind::Close, 1),
            ',' => token(Kind::Comma, 1),
            '=' | '!' => match operator(rest) {
                Some((op, behind)) => token(Kind::Op(op), rest.len() - behind.len()),
                None if rest.len() == 1 => {
                    Err(format!("{start}:{}: unexpected end of input, expected one of '=~'", start + 1))
                }
                None => Err(format!("{start}:{}: !: expected one of '=~'", start + 1)),
            },
            '"' => match closing_quote(rest) {
                Some(end) => token(Kind::Quoted, end + 1),
                None => Err(format!("{start}:{}: {rest}: missing end \"", start + rest.chars().count())),
            },
            c if is_reserved(c) => Err(format!("{start}:{}: {c}: invalid input", start + 1)),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || is_reserved(c));
                token(Kind::Bare, end.unwrap_or(rest.len()))
            }
        }
    }
}

impl Token<'_> {
    fn unexpected(&self) -> String {
        format!("{}:{}: unexpected {}", self.start, self.end, self.text)
    }

    fn unquote(&self) -> Option<String> {
        match self.kind {
            Kind::Quoted => unquote(&self.text[1..self.text.len() - 1]),
            _ => Some(self.text.to_owned()),
        }
    }
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
fn unquote(inner: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c == '\n' {
            return None;
        }
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let kind = chars.next()?;
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
            _ => return None,
        };
        let mut number = if radix == 8 { kind.to_string() } else { String::new() };
        while number.len() < digits {
            number.push(chars.next().filter(char::is_ascii_hexdigit)?);
        }
        let code = u32::from_str_radix(&number, radix).ok()?;
        match kind {
            'u' | 'U' => {
                let c = char::from_u32(code)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => out.push(u8::try_from(code).ok()?),
        }
    }
    String::from_utf8(out).ok()
}
