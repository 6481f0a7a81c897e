//! The tokens of both exposition formats, and the cursor that their lexers share.
//!
//! The lexers are the reference for what is accepted and for the messages; they read byte by byte and are
//! off the hot path, where [`crate::wire::line`] takes the lines that are as most lines are.
//!
//! Compat: prometheus `model/textparse`, `promlex.l` and `openmetricslex.l`.

/// What a lexer saw; the names are those of upstream's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Invalid,
    Eof,
    LineBreak,
    WhiteSpace,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    QuotedString,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::Eof => "EOF",
            Self::LineBreak => "LINEBREAK",
            Self::WhiteSpace => "WHITESPACE",
            Self::Help => "HELP",
            Self::Type => "TYPE",
            Self::Unit => "UNIT",
            Self::EofWord => "EOFWORD",
            Self::Text => "TEXT",
            Self::Comment => "COMMENT",
            Self::MetricName => "MNAME",
            Self::QuotedString => "QSTRING",
            Self::BraceOpen => "BOPEN",
            Self::BraceClose => "BCLOSE",
            Self::LabelName => "LNAME",
            Self::LabelValue => "LVALUE",
            Self::Comma => "COMMA",
            Self::Equal => "EQUAL",
            Self::Timestamp => "TIMESTAMP",
            Self::Value => "VALUE",
        }
    }
}

/// What a lexer expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The start of a line.
    Init,
    /// Behind `# `.
    Comment,
    /// Behind `# HELP ` and its like: a name.
    MetaName,
    /// Behind that name: text.
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

/// A place in a body, and the token that ends there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    body: &'a [u8],
    /// The first byte of the newest token.
    pub(crate) start: usize,
    /// The first byte behind it.
    pub(crate) pos: usize,
    pub(crate) mode: Mode,
    /// Whether the body counts as ending in one line break more than it has (the text format).
    has_virtual_newline: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(body: &'a [u8], has_virtual_newline: bool) -> Self {
        Self { body, start: 0, pos: 0, mode: Mode::Init, has_virtual_newline }
    }

    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The length of the body with the virtual line break.
    pub(crate) fn end(&self) -> usize {
        self.body.len() + usize::from(self.has_virtual_newline)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.pos >= self.end()
    }

    /// The byte at the cursor; a NUL stands for the end as well.
    pub(crate) fn current(&self) -> u8 {
        match self.body.get(self.pos) {
            Some(&b) => b,
            None if self.pos < self.end() => b'\n',
            None => 0,
        }
    }

    /// Moves on by one byte and returns the next.
    ///
    /// NULs are no bytes of any token, but for label values, help texts and comments, where they are
    /// passed over here.
    pub(crate) fn bump(&mut self) -> u8 {
        self.pos = self.end().min(self.pos + 1);
        if matches!(self.mode, Mode::LabelValue | Mode::MetaText | Mode::Comment) {
            while !self.is_at_end() && self.current() == 0 {
                self.pos += 1;
            }
        }
        self.current()
    }

    /// Passes over bytes while `accept` says so; returns the first that it declines.
    pub(crate) fn skip_while(&mut self, accept: impl Fn(u8) -> bool) -> u8 {
        let mut b = self.current();
        while accept(b) && !self.is_at_end() {
            b = self.bump();
        }
        b
    }

    /// Passes over `word`; returns whether all of it was there.
    pub(crate) fn skip_word(&mut self, word: &[u8]) -> bool {
        word.iter().all(|&b| {
            let is_next = self.current() == b;
            if is_next {
                self.bump();
            }
            is_next
        })
    }

    /// Passes over a string in double quotes, the cursor being at the first; returns whether it is closed.
    pub(crate) fn skip_quoted(&mut self, newlines: bool) -> bool {
        let mut b = self.bump();
        loop {
            match b {
                b'"' => {
                    self.bump();
                    return true;
                }
                b'\\' => {
                    if matches!(self.bump(), 0 | b'\n') {
                        return false;
                    }
                }
                0 => return false,
                b'\n' if !newlines => return false,
                _ => {}
            }
            b = self.bump();
        }
    }

    /// The bytes of the newest token; never called for one that holds the virtual line break.
    pub(crate) fn token(&self) -> &'a [u8] {
        self.slice(self.start, self.pos)
    }

    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        &self.body[from.min(self.body.len())..to.min(self.body.len())]
    }

    /// The bytes from `from` to `to` in quotes, for a message; the virtual line break shows.
    pub(crate) fn quote(&self, from: usize, to: usize) -> String {
        let mut bytes = self.slice(from, to).to_vec();
        if self.has_virtual_newline && to > self.body.len() {
            bytes.push(b'\n');
        }
        crate::quote::go_quote(&bytes)
    }
}

/// Whether a metric name may begin with `b`.
pub(crate) const fn is_metric_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b == b':'
}

/// Whether a metric name may go on with `b`.
pub(crate) const fn is_metric_byte(b: u8) -> bool {
    is_metric_start(b) || b.is_ascii_digit()
}

/// Whether a label name may begin with `b`.
pub(crate) const fn is_label_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

/// Whether a label name may go on with `b`.
pub(crate) const fn is_label_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// White space between the tokens of the text format.
pub(crate) const fn is_space(b: u8) -> bool {
    b == b' ' || b == b'\t'
}
