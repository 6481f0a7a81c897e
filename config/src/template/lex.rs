//! Template text to tokens: text between actions, and the words inside `{{ }}`.
//!
//! Compat: Go `text/template/parse`, `lexer`.

/// What a [`Token`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    LeftDelim,
    RightDelim,
    Space,
    Ident,
    /// `if`, `range`, `end` and the other words with a meaning of their own.
    Keyword,
    Field,
    Variable,
    Dot,
    Nil,
    Bool,
    Number,
    CharConstant,
    Str,
    RawStr,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    Char,
    /// The text is a message; nothing follows.
    Error,
    Eof,
}

/// A piece of a template.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: std::borrow::Cow<'t, str>,
    /// Byte offset in the template.
    pub(super) pos: usize,
    /// Counted from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text == word
    }

    /// The token as messages show it.
    pub(super) fn display(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone().into_owned(),
            Kind::Keyword | Kind::Dot | Kind::Nil => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let short: String = self.text.chars().take(10).collect();
                format!("{}...", model::quote::go_quote(short.as_bytes()))
            }
            _ => model::quote::go_quote(self.text.as_bytes()),
        }
    }
}

const KEYWORDS: [&str; 10] =
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];
const LEFT: &str = "{{";
const RIGHT: &str = "}}";

/// Splits `text`; the last token is `Eof` or `Error`.
pub(super) fn lex(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, pos: 0, line: 1, parens: 0, tokens: Vec::new() };
    match lexer.run() {
        Ok(()) => lexer.push_empty(Kind::Eof),
        Err(message) => {
            let (pos, line) = (lexer.pos, lexer.line);
            lexer.tokens.push(Token { kind: Kind::Error, text: message.into(), pos, line });
        }
    }
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    pos: usize,
    line: usize,
    parens: usize,
    tokens: Vec<Token<'t>>,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Go's `%#U`: the code point, and the character itself when it can be printed.
fn code_point(c: char) -> String {
    let number = format!("U+{:04X}", c as u32);
    if super::format::is_printed(c) { format!("{number} '{c}'") } else { number }
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push_empty(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, text: "".into(), pos: self.pos, line: self.line });
    }

    /// Takes the next `len` bytes as a token.
    fn push(&mut self, kind: Kind, len: usize) {
        let text = &self.rest()[..len];
        self.tokens.push(Token { kind, text: text.into(), pos: self.pos, line: self.line });
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        self.line += memchr::memchr_iter(b'\n', &self.rest().as_bytes()[..len]).count();
        self.pos += len;
    }

    fn skip_spaces(&mut self) {
        self.skip(self.rest().len() - self.rest().trim_start_matches(SPACES).len());
    }

    fn run(&mut self) -> Result<(), String> {
        loop {
            let Some(len) = self.rest().find(LEFT) else {
                if !self.rest().is_empty() {
                    self.push(Kind::Text, self.rest().len());
                }
                return Ok(());
            };
            let after = &self.rest()[len + LEFT.len()..];
            let trims = after.starts_with('-') && after[1..].starts_with(SPACES);
            let kept = if trims { self.rest()[..len].trim_end_matches(SPACES).len() } else { len };
            if kept > 0 {
                self.push(Kind::Text, kept);
            }
            self.skip(len - kept);
            let marker = if trims { 2 } else { 0 };
            if after[marker..].starts_with("/*") {
                self.skip(LEFT.len() + marker);
                self.comment()?;
            } else {
                self.push(Kind::LeftDelim, LEFT.len());
                self.skip(marker);
                self.parens = 0;
                self.action()?;
            }
        }
    }

    /// Whether the action ends here, and whether with a trim marker.
    fn at_right(&self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with(SPACES) && rest[1..].starts_with('-') && rest[2..].starts_with(RIGHT) {
            return Some(true);
        }
        rest.starts_with(RIGHT).then_some(false)
    }

    fn comment(&mut self) -> Result<(), String> {
        let Some(end) = self.rest().find("*/") else { return Err("unclosed comment".to_owned()) };
        self.skip(end + 2);
        match self.at_right() {
            None => Err("comment ends before closing delimiter".to_owned()),
            Some(trims) => {
                self.skip(if trims { 2 + RIGHT.len() } else { RIGHT.len() });
                if trims {
                    self.skip_spaces();
                }
                Ok(())
            }
        }
    }

    fn action(&mut self) -> Result<(), String> {
        loop {
            if let Some(trims) = self.at_right() {
                if self.parens > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                if trims {
                    self.skip(2);
                }
                self.push(Kind::RightDelim, RIGHT.len());
                if trims {
                    self.skip_spaces();
                }
                return Ok(());
            }
            let Some(c) = self.peek() else { return Err("unclosed action".to_owned()) };
            match c {
                c if SPACES.contains(&c) => {
                    let mut len = self.rest().len() - self.rest().trim_start_matches(SPACES).len();
                    // The blank before a closing trim marker belongs to the marker.
                    if self.rest()[len..].starts_with("-}}") {
                        len -= 1;
                    }
                    if len > 0 {
                        self.push(Kind::Space, len);
                    }
                }
                '=' => self.push(Kind::Assign, 1),
                ':' if self.rest().starts_with(":=") => self.push(Kind::Declare, 2),
                ':' => return Err("expected :=".to_owned()),
                '|' => self.push(Kind::Pipe, 1),
                '"' => self.quoted('"', Kind::Str, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
                '`' => match self.rest()[1..].find('`') {
                    Some(len) => self.push(Kind::RawStr, len + 2),
                    None => return Err("unterminated raw quoted string".to_owned()),
                },
                '$' => self.word(Kind::Variable)?,
                '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    if self.rest()[1..].starts_with(is_word) {
                        self.word(Kind::Field)?;
                    } else {
                        self.terminated(1)?;
                        self.push(Kind::Dot, 1);
                    }
                }
                '+' | '-' | '.' | '0'..='9' => self.number()?,
                c if is_word(c) => self.word(Kind::Ident)?,
                '(' => {
                    self.parens += 1;
                    self.push(Kind::LeftParen, 1);
                }
                ')' => {
                    if self.parens == 0 {
                        return Err("unexpected right paren".to_owned());
                    }
                    self.parens -= 1;
                    self.push(Kind::RightParen, 1);
                }
                c if c.is_ascii_graphic() => self.push(Kind::Char, 1),
                c => return Err(format!("unrecognized character in action: {}", code_point(c))),
            }
        }
    }

    /// A name, behind its `.` or `$` where it has one.
    fn word(&mut self, kind: Kind) -> Result<(), String> {
        let prefix = usize::from(kind != Kind::Ident);
        let name = &self.rest()[prefix..];
        let len = prefix + name.find(|c| !is_word(c)).unwrap_or(name.len());
        self.terminated(len)?;
        let kind = match &self.rest()[..len] {
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            "nil" => Kind::Nil,
            "true" | "false" => Kind::Bool,
            _ => kind,
        };
        self.push(kind, len);
        Ok(())
    }

    /// Refuses what cannot stand directly behind the word of `len` bytes that begins here.
    fn terminated(&self, len: usize) -> Result<(), String> {
        let after = &self.rest()[len..];
        match after.chars().next() {
            None => Ok(()),
            Some(c) if SPACES.contains(&c) || ".,|:)(".contains(c) || after.starts_with(RIGHT) => Ok(()),
            Some(c) => Err(format!("bad character {}", code_point(c))),
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, message: &str) -> Result<(), String> {
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' => break,
                '\\' => match chars.next() {
                    None | Some((_, '\n')) => break,
                    Some(_) => {}
                },
                c if c == quote => {
                    self.push(kind, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(message.to_owned())
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let len = number_len(rest);
        let tail = &rest[len..];
        let bad_len = match tail.chars().next() {
            Some(c) if is_word(c) => len + c.len_utf8(),
            // A complex number is written so; there are none here.
            Some('+' | '-') => {
                let second = number_len(tail);
                let next = tail[second..].chars().next().filter(|c| is_word(*c));
                len + second + next.map_or(0, char::len_utf8)
            }
            _ => {
                self.push(Kind::Number, len);
                return Ok(());
            }
        };
        Err(format!("bad number syntax: {}", model::quote::go_quote(&rest.as_bytes()[..bad_len])))
    }
}

/// The length of what may be a number at the beginning of `rest`.
fn number_len(rest: &str) -> usize {
    let signed = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let (digits, body) = match signed.as_bytes() {
        [b'0', b'x' | b'X', ..] => ("0123456789abcdefABCDEF_", &signed[2..]),
        [b'0', b'o' | b'O', ..] => ("01234567_", &signed[2..]),
        [b'0', b'b' | b'B', ..] => ("01_", &signed[2..]),
        _ => ("0123456789_", signed),
    };
    let accept = |text: &mut &str, set: &str| {
        let end = text.find(|c| !set.contains(c)).unwrap_or(text.len());
        *text = &text[end..];
    };
    let mut tail = body;
    accept(&mut tail, digits);
    if let Some(fraction) = tail.strip_prefix('.') {
        tail = fraction;
        accept(&mut tail, digits);
    }
    let exponent: &[char] = match digits.len() {
        11 => &['e', 'E'],
        23 => &['p', 'P'],
        _ => &[],
    };
    if let Some(after) = tail.strip_prefix(exponent) {
        tail = after.strip_prefix(['+', '-']).unwrap_or(after);
        accept(&mut tail, "0123456789_");
    }
    rest.len() - tail.len()
}
