//! The scanner: text to tokens, one at a time and only when asked, because error order depends on it.
//!
//! Modal, as upstream's: what is legal, and how a stray character is complained about, depends on
//! whether the scanner stands in a statement, inside braces, at the start of a bracket or in the values
//! of a series description. After an error the stream is at its end.
//!
//! Compat: prometheus `promql/parser/lex.go`.

use model::quote::go_quote;

use super::ast::{AggregateOp, BinaryOp, Span};

/// What a token is; its text is the slice of the input under its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Eof,
    /// The message is in [`Lexer::error`].
    Error,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    String,
    Number,
    Duration,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// A single `=`.
    Assign,
    /// `=~`, inside braces only.
    EqRegex,
    /// `!~`, inside braces only.
    NeRegex,
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Preprocessor(Preprocessor),
    // Of series descriptions only:
    Space,
    Blank,
    Times,
    OpenHistogram,
    CloseHistogram,
    /// What a histogram says of itself, before a colon.
    Descriptor,
    /// The value of the descriptor `counter_reset_hint`.
    Hint,
}

/// The words that modify something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Bool,
    Fill,
    FillLeft,
    FillRight,
}

/// The words that stand for something of the query itself; functions in expressions, operands in durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preprocessor {
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Statement,
    Braces,
    /// Right after `[`, and until the first number within it.
    Bracket,
    /// The items behind the metric of a series description.
    Values,
    /// Between `{{` and `}}`.
    Histogram,
    /// The list of a histogram's buckets, within its brackets.
    Buckets,
    /// The end or an error was reached.
    Done,
}

#[expect(clippy::struct_excessive_bools, reason = "upstream's flags, each seen by other modes")]
pub(super) struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    /// Where the current token starts.
    start: usize,
    mode: Mode,
    /// Reads a series description: numbers have no hexadecimal form, the metric is followed by values.
    series: bool,
    paren_depth: i64,
    bracket_open: bool,
    /// A `:` was seen in the open bracket.
    got_colon: bool,
    /// A number was seen after any `[`; upstream never takes it back.
    got_duration: bool,
    /// Why the stream ended in [`Kind::Error`].
    pub(super) error: String,
}

/// How a scan failed: the message, the position being wherever the scanner stands.
struct Refused(String);

type Scanned = Result<Kind, Refused>;

fn refuse<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(message.into()))
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            pos: 0,
            start: 0,
            mode: Mode::Statement,
            series: false,
            paren_depth: 0,
            bracket_open: false,
            got_colon: false,
            got_duration: false,
            error: String::new(),
        }
    }

    /// A scanner of series descriptions.
    pub(super) fn series(text: &'a str) -> Self {
        Self { series: true, ..Self::new(text) }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The next token; the end of input again and again once it is reached.
    pub(super) fn token(&mut self) -> Token {
        let scanned = loop {
            self.start = self.pos;
            let step = match self.mode {
                Mode::Statement => self.statement(),
                Mode::Braces => self.braces(),
                Mode::Bracket => self.bracket(),
                Mode::Values => self.values(),
                Mode::Histogram => self.histogram(),
                Mode::Buckets => self.buckets(),
                Mode::Done => Ok(Some(Kind::Eof)),
            };
            match step {
                Ok(None) => {}
                Ok(Some(kind)) => break Ok(kind),
                Err(refused) => break Err(refused),
            }
        };
        match scanned {
            Ok(kind) => {
                if kind == Kind::Eof {
                    self.mode = Mode::Done;
                }
                Token { kind, span: span(self.start, self.pos) }
            }
            Err(Refused(message)) => {
                self.mode = Mode::Done;
                self.error = message;
                Token { kind: Kind::Error, span: span(self.start, self.text.len()) }
            }
        }
    }

    fn statement(&mut self) -> Result<Option<Kind>, Refused> {
        let Some(c) = self.next() else {
            return match (self.paren_depth, self.bracket_open) {
                (0, false) => Ok(Some(Kind::Eof)),
                (0, true) => refuse("unclosed left bracket"),
                _ => refuse("unclosed left parenthesis"),
            };
        };
        let kind = match c {
            '#' => return Ok(self.comment()),
            c if is_space(c) => return Ok(self.spaces()),
            ',' => Kind::Comma,
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '^' => Kind::Op(BinaryOp::Pow),
            '@' => Kind::At,
            '=' => match self.peek() {
                Some('=') => self.take(Kind::Op(BinaryOp::Eq)),
                Some('~') => return refuse("unexpected character after '=': '~'"),
                _ => Kind::Assign,
            },
            '!' => match self.next() {
                Some('=') => Kind::Op(BinaryOp::Ne),
                other => return refuse(format!("unexpected character after '!': {}", quote_char(other))),
            },
            '<' => match self.peek() {
                Some('=') => self.take(Kind::Op(BinaryOp::Le)),
                Some('/') => self.take(Kind::Op(BinaryOp::TrimUpper)),
                _ => Kind::Op(BinaryOp::Lt),
            },
            '>' => match self.peek() {
                Some('=') => self.take(Kind::Op(BinaryOp::Ge)),
                Some('/') => self.take(Kind::Op(BinaryOp::TrimLower)),
                _ => Kind::Op(BinaryOp::Gt),
            },
            c if c.is_ascii_digit() || (c == '.' && self.peek_is(|c| c.is_ascii_digit())) => {
                self.pos = self.start;
                self.number_or_duration()?
            }
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            c if is_alpha(c) || c == ':' => {
                if self.bracket_open {
                    self.word_in_bracket(c)?
                } else {
                    self.pos = self.start;
                    self.keyword_or_identifier()
                }
            }
            '(' => {
                self.paren_depth += 1;
                Kind::LeftParen
            }
            ')' => self.right_paren()?,
            '{' => {
                self.mode = Mode::Braces;
                Kind::LeftBrace
            }
            '[' => {
                if self.bracket_open {
                    return refuse("unexpected left bracket '['");
                }
                self.got_colon = false;
                self.bracket_open = true;
                self.mode = Mode::Bracket;
                Kind::LeftBracket
            }
            ']' => {
                if !self.bracket_open {
                    return refuse("unexpected right bracket ']'");
                }
                self.bracket_open = false;
                Kind::RightBracket
            }
            other => return refuse(format!("unexpected character: {}", quote_char(Some(other)))),
        };
        Ok(Some(kind))
    }

    /// A letter or colon inside brackets: the one colon, or a word of duration arithmetic.
    fn word_in_bracket(&mut self, c: char) -> Scanned {
        if c == ':' {
            if self.got_colon {
                return refuse("unexpected colon ':'");
            }
            self.got_colon = true;
            return Ok(Kind::Colon);
        }
        match self.duration_word(c) {
            Some(kind) => Ok(kind),
            None => refuse(format!("unexpected character: {}, expected ':'", quote_char(Some(c)))),
        }
    }

    fn bracket(&mut self) -> Result<Option<Kind>, Refused> {
        let Some(c) = self.next() else {
            return refuse("unexpected end of input in duration expression");
        };
        let kind = match c {
            ']' => {
                self.bracket_open = false;
                self.got_colon = false;
                self.mode = Mode::Statement;
                Kind::RightBracket
            }
            ':' => {
                if !self.got_duration {
                    self.start = self.pos;
                    return refuse("unexpected colon before duration in duration expression");
                }
                if self.got_colon {
                    self.start = self.pos;
                    return refuse("unexpected repeated colon in duration expression");
                }
                self.got_colon = true;
                Kind::Colon
            }
            '(' => {
                self.paren_depth += 1;
                Kind::LeftParen
            }
            ')' => self.right_paren()?,
            c if is_space(c) => return Ok(None),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '^' => Kind::Op(BinaryOp::Pow),
            ',' => Kind::Comma,
            c if c.is_ascii_digit() || (c == '.' && self.peek_is(|c| c.is_ascii_digit())) => {
                self.pos = self.start;
                self.got_duration = true;
                self.mode = Mode::Statement;
                self.number_or_duration()?
            }
            c => match self.duration_word(c) {
                Some(kind) => kind,
                None => {
                    return refuse(format!(
                        "unexpected character in duration expression: {}",
                        quote_char(Some(c))
                    ));
                }
            },
        };
        Ok(Some(kind))
    }

    /// The rest of `step`, `range`, `min_of` or `max_of` in any case, `first` having been read.
    fn duration_word(&mut self, first: char) -> Option<Kind> {
        if !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return None;
        }
        while self.peek_is(is_alpha) {
            self.next();
        }
        let word = match self.slice().to_ascii_lowercase().as_str() {
            "step" => Preprocessor::Step,
            "range" => Preprocessor::Range,
            "min_of" => Preprocessor::MinOf,
            "max_of" => Preprocessor::MaxOf,
            _ => return None,
        };
        Some(Kind::Preprocessor(word))
    }

    fn right_paren(&mut self) -> Scanned {
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            // Upstream complains from behind the parenthesis.
            self.start = self.pos;
            return refuse("unexpected right parenthesis ')'");
        }
        Ok(Kind::RightParen)
    }

    fn braces(&mut self) -> Result<Option<Kind>, Refused> {
        let Some(c) = self.next() else {
            return refuse("unexpected end of input inside braces");
        };
        let kind = match c {
            '#' => return Ok(self.comment()),
            c if is_space(c) => return Ok(self.spaces()),
            c if is_alpha(c) => {
                while self.peek_is(is_alphanumeric) {
                    self.next();
                }
                Kind::Identifier
            }
            ',' => Kind::Comma,
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            '=' if self.peek() == Some('~') => self.take(Kind::EqRegex),
            '=' => Kind::Assign,
            '!' => match self.next() {
                Some('~') => Kind::NeRegex,
                Some('=') => Kind::Op(BinaryOp::Ne),
                other => {
                    return refuse(format!(
                        "unexpected character after '!' inside braces: {}",
                        quote_char(other)
                    ));
                }
            },
            '{' => return refuse("unexpected left brace '{'"),
            '}' => {
                self.mode = if self.series { Mode::Values } else { Mode::Statement };
                Kind::RightBrace
            }
            other => {
                return refuse(format!("unexpected character inside braces: {}", quote_char(Some(other))));
            }
        };
        Ok(Some(kind))
    }

    /// The items of a series description, where a run of spaces is one token.
    fn values(&mut self) -> Result<Option<Kind>, Refused> {
        let Some(c) = self.next() else {
            return Ok(Some(Kind::Eof));
        };
        let kind = match c {
            '{' if self.peek() == Some('{') => {
                self.mode = Mode::Histogram;
                self.take(Kind::OpenHistogram)
            }
            c if is_space(c) => {
                self.spaces();
                Kind::Space
            }
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            'x' => Kind::Times,
            '_' => Kind::Blank,
            c if c.is_ascii_digit() || (c == '.' && self.peek_is(|c| c.is_ascii_digit())) => {
                self.listed_number()?
            }
            c if is_alpha(c) => {
                self.pos = self.start;
                self.keyword_or_identifier()
            }
            other => {
                return refuse(format!(
                    "unexpected character in series sequence: {}",
                    quote_char(Some(other))
                ));
            }
        };
        Ok(Some(kind))
    }

    fn histogram(&mut self) -> Result<Option<Kind>, Refused> {
        let kind = match self.next() {
            Some(c) if is_space(c) => {
                self.spaces();
                Kind::Space
            }
            Some(c) if is_alpha(c) => self.histogram_word()?,
            Some(':') => Kind::Colon,
            Some('-') => Kind::Op(BinaryOp::Sub),
            Some(c) if c.is_ascii_digit() => self.listed_number()?,
            Some('[') => {
                self.mode = Mode::Buckets;
                Kind::LeftBracket
            }
            Some('}') if self.peek() == Some('}') => {
                self.mode = Mode::Values;
                self.take(Kind::CloseHistogram)
            }
            other => {
                return refuse(format!("histogram description incomplete unexpected: {}", quote_char(other)));
            }
        };
        Ok(Some(kind))
    }

    /// A key, a hint or a number that is a word.
    fn histogram_word(&mut self) -> Scanned {
        while self.peek_is(is_alpha) {
            self.next();
        }
        match self.slice().to_ascii_lowercase().as_str() {
            "sum" | "count" | "schema" | "offset" | "n_offset" | "buckets" | "n_buckets" | "z_bucket"
            | "z_bucket_w" | "custom_values" | "counter_reset_hint" => match self.peek() {
                Some(':') => Ok(Kind::Descriptor),
                _ => refuse("missing `:` for histogram descriptor"),
            },
            "inf" | "nan" => Ok(Kind::Number),
            "unknown" | "reset" | "not_reset" | "gauge" => Ok(Kind::Hint),
            _ => refuse(format!("bad histogram descriptor found: {}", go_quote(self.slice().as_bytes()))),
        }
    }

    fn buckets(&mut self) -> Result<Option<Kind>, Refused> {
        let kind = match self.next() {
            Some(c) if is_space(c) => {
                self.spaces();
                Kind::Space
            }
            Some('-') => Kind::Op(BinaryOp::Sub),
            Some(c) if c.is_ascii_digit() => self.listed_number()?,
            Some(']') => {
                self.mode = Mode::Histogram;
                Kind::RightBracket
            }
            // A word grows until it is a number, as upstream's does.
            Some(c) if is_alpha(c) => loop {
                if matches!(self.slice().to_ascii_lowercase().as_str(), "inf" | "nan") {
                    break Kind::Number;
                }
                if !self.accept(is_alpha) {
                    let c = self.next();
                    return refuse(format!("invalid character in buckets description: {}", quote_char(c)));
                }
            },
            other => {
                return refuse(format!("invalid character in buckets description: {}", quote_char(other)));
            }
        };
        Ok(Some(kind))
    }

    /// A number whose first digit was read.
    fn listed_number(&mut self) -> Scanned {
        self.pos = self.start;
        if self.scan_number() {
            return Ok(Kind::Number);
        }
        refuse(format!("bad number syntax: {}", go_quote(self.slice().as_bytes())))
    }

    fn spaces(&mut self) -> Option<Kind> {
        while self.peek_is(is_space) {
            self.next();
        }
        None
    }

    /// `#` to the end of the line.
    fn comment(&mut self) -> Option<Kind> {
        while self.peek_is(|c| c != '\n' && c != '\r') {
            self.next();
        }
        None
    }

    fn keyword_or_identifier(&mut self) -> Kind {
        while self.peek_is(|c| is_alphanumeric(c) || c == ':') {
            self.next();
        }
        let word = self.slice();
        let kind = match keyword(word) {
            // Upstream keeps these three usable as names: they are keywords only before a parenthesis.
            Some(Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.text[self.pos..].trim_start_matches(is_space).starts_with('(') =>
            {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        if self.series {
            self.mode = if self.peek() == Some('{') { Mode::Statement } else { Mode::Values };
        }
        kind
    }

    fn number_or_duration(&mut self) -> Scanned {
        if self.scan_number() {
            return Ok(Kind::Number);
        }
        if self.scan_rest_of_duration() {
            return Ok(Kind::Duration);
        }
        refuse(format!("bad number or duration syntax: {}", go_quote(self.slice().as_bytes())))
    }

    /// Units and further number-unit pairs behind the digits that [`Self::scan_number`] left.
    /// Which units and in what order is judged later; a character that cannot follow is consumed.
    fn scan_rest_of_duration(&mut self) -> bool {
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        self.accept(|c| c == 's');
        while self.accept(|c| c.is_ascii_digit()) {
            while self.accept(|c| c.is_ascii_digit()) {}
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        if self.peek_is(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }

    /// The shape of a number, not its value: `.5`, `1_000.5e-3`, `0x1F`. False with the offence consumed.
    fn scan_number(&mut self) -> bool {
        let initial = self.pos;
        let mut hex = false;
        if !self.series && self.accept(|c| c == '0') && self.accept(|c| c == 'x' || c == 'X') {
            self.accept(|c| c == '_');
            hex = true;
        }
        let is_digit = move |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        self.accept(|c| c == '.');
        self.accept(is_digit);
        let (mut dot, mut exponent) = (false, false);
        while let Some(c) = self.peek() {
            match c {
                '.' => {
                    self.next();
                    if dot || self.accept(|c| c == '_' || c == '.') || hex {
                        return false;
                    }
                    dot = true;
                }
                // In hexadecimal an `e` is tried as an exponent first, as upstream does.
                'e' | 'E' => {
                    self.next();
                    if exponent {
                        return false;
                    }
                    exponent = true;
                    self.accept(|c| c == '+' || c == '-');
                    if self.accept(|c| "._eE".contains(c)) || self.peek().is_none() {
                        return false;
                    }
                }
                '_' => {
                    self.next();
                    if self.accept(|c| "._eE".contains(c)) || self.peek().is_none() {
                        return false;
                    }
                }
                c if is_digit(c) => while self.accept(is_digit) {},
                _ => break,
            }
        }
        self.pos != initial && !self.peek_is(|c| is_alphanumeric(c) && !(self.series && c == 'x'))
    }

    /// The rest of a quoted string, its opening quote read.
    fn string(&mut self, quote: char) -> Scanned {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some(char::REPLACEMENT_CHARACTER) => return refuse("invalid UTF-8 rune"),
                None | Some('\n') => return refuse("unterminated quoted string"),
                Some(c) if c == quote => return Ok(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Scanned {
        loop {
            match self.next() {
                Some(char::REPLACEMENT_CHARACTER) => return refuse("invalid UTF-8 rune"),
                None => return refuse("unterminated raw string"),
                Some('`') => return Ok(Kind::String),
                Some(_) => {}
            }
        }
    }

    /// Checks one escape sequence, its backslash read.
    fn escape(&mut self, quote: char) -> Result<(), Refused> {
        let (digits, base, max) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.pos -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, char::MAX as u32),
            Some('U') => (8, 16, char::MAX as u32),
            Some(c) => return refuse(format!("unknown escape sequence {}", describe_char(c))),
            None => return refuse("escape sequence not terminated"),
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let c = self.next();
            match c.map(|c| (c, c.to_digit(base))) {
                Some((_, Some(digit))) => value = value.wrapping_mul(base).wrapping_add(digit),
                Some((c, None)) => {
                    return refuse(format!("illegal character {} in escape sequence", describe_char(c)));
                }
                None => return refuse("escape sequence not terminated"),
            }
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return refuse("escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }

    fn slice(&self) -> &'a str {
        &self.text[self.start..self.pos]
    }

    fn peek(&self) -> Option<char> {
        match self.text.as_bytes().get(self.pos) {
            Some(&b) if b.is_ascii() => Some(char::from(b)),
            _ => self.text[self.pos..].chars().next(),
        }
    }

    fn peek_is(&self, accepts: impl Fn(char) -> bool) -> bool {
        self.peek().is_some_and(accepts)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, accepts: impl Fn(char) -> bool) -> bool {
        let accepted = self.peek_is(accepts);
        if accepted {
            self.next();
        }
        accepted
    }

    /// Consumes the second character of a token.
    fn take(&mut self, kind: Kind) -> Kind {
        self.next();
        kind
    }
}

/// The limit on the size of the text is far below 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "parse::TEXT_BYTES_MAX is below 4 GiB")]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

pub(super) const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

const fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

const fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// The token of a reserved word, in any case.
fn keyword(word: &str) -> Option<Kind> {
    const LENGTH_MAX: usize = "count_values".len();
    if word.len() > LENGTH_MAX {
        return None;
    }
    let mut lower = [0; LENGTH_MAX];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    let kind = match &*lower {
        b"and" => Kind::Op(BinaryOp::And),
        b"or" => Kind::Op(BinaryOp::Or),
        b"unless" => Kind::Op(BinaryOp::Unless),
        b"atan2" => Kind::Op(BinaryOp::Atan2),
        b"offset" => Kind::Keyword(Keyword::Offset),
        b"smoothed" => Kind::Keyword(Keyword::Smoothed),
        b"anchored" => Kind::Keyword(Keyword::Anchored),
        b"by" => Kind::Keyword(Keyword::By),
        b"without" => Kind::Keyword(Keyword::Without),
        b"on" => Kind::Keyword(Keyword::On),
        b"ignoring" => Kind::Keyword(Keyword::Ignoring),
        b"group_left" => Kind::Keyword(Keyword::GroupLeft),
        b"group_right" => Kind::Keyword(Keyword::GroupRight),
        b"bool" => Kind::Keyword(Keyword::Bool),
        b"fill" => Kind::Keyword(Keyword::Fill),
        b"fill_left" => Kind::Keyword(Keyword::FillLeft),
        b"fill_right" => Kind::Keyword(Keyword::FillRight),
        b"start" => Kind::Preprocessor(Preprocessor::Start),
        b"end" => Kind::Preprocessor(Preprocessor::End),
        b"step" => Kind::Preprocessor(Preprocessor::Step),
        b"range" => Kind::Preprocessor(Preprocessor::Range),
        b"min_of" => Kind::Preprocessor(Preprocessor::MinOf),
        b"max_of" => Kind::Preprocessor(Preprocessor::MaxOf),
        b"inf" | b"nan" => Kind::Number,
        lower => {
            let op = AggregateOp::ALL.iter().find(|op| op.as_str().as_bytes() == lower)?;
            Kind::Aggregate(*op)
        }
    };
    Some(kind)
}

/// Go's `%q` of a rune; the end of input counts as U+FFFD.
pub(super) fn quote_char(c: Option<char>) -> String {
    match c.unwrap_or(char::REPLACEMENT_CHARACTER) {
        '"' => "'\"'".to_owned(),
        '\'' => "'\\''".to_owned(),
        c => {
            let quoted = go_quote(c.encode_utf8(&mut [0; 4]).as_bytes());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// Go's `%#U` of a rune: `U+0063 'c'`, the character only if it prints.
fn describe_char(c: char) -> String {
    let code = format!("U+{:04X}", c as u32);
    let prints = c == '\\' || c == '"' || !go_quote(c.encode_utf8(&mut [0; 4]).as_bytes()).contains('\\');
    if prints { format!("{code} '{c}'") } else { code }
}
