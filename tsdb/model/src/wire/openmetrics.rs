//! The lexer of OpenMetrics, 0.0.1 and 1.0.0.
//!
//! Stricter than the text format: single spaces, no blank lines, no comments but the three kinds of
//! metadata, and the last line is `# EOF`.
//!
//! Compat: prometheus `model/textparse`, `openmetricslex.l`.

use super::token::{Cursor, Mode, Token, is_label_byte, is_label_start, is_metric_byte, is_metric_start};

/// Reads the next token.
pub(super) fn lex(c: &mut Cursor<'_>) -> Token {
    if c.is_at_end() {
        return Token::Eof;
    }
    c.start = c.pos;
    let b = c.current();
    match c.mode {
        Mode::Init => match b {
            b'#' => lex_meta(c),
            b'{' => step(c, Mode::Labels, Token::BraceOpen),
            _ if is_metric_start(b) => {
                c.skip_while(is_metric_byte);
                c.mode = Mode::Value;
                Token::MetricName
            }
            _ => Token::Invalid,
        },
        Mode::MetaName => match b {
            b'"' => quoted(c, true, Mode::MetaText, Token::MetricName),
            _ if is_metric_start(b) => {
                c.skip_while(is_metric_byte);
                c.mode = Mode::MetaText;
                Token::MetricName
            }
            _ => Token::Invalid,
        },
        Mode::MetaText if b == b' ' => {
            c.bump();
            if c.skip_while(|b| !matches!(b, b'\n' | 0)) != b'\n' {
                return Token::Invalid;
            }
            step(c, Mode::Init, Token::Text)
        }
        Mode::Labels => match b {
            b'"' => quoted(c, true, Mode::Labels, Token::QuotedString),
            b'=' => step(c, Mode::LabelValue, Token::Equal),
            b'}' => step(c, Mode::Value, Token::BraceClose),
            _ => lex_label(c, b),
        },
        Mode::LabelValue if b == b'"' => quoted(c, false, Mode::Labels, Token::LabelValue),
        Mode::Value => match b {
            b'{' => step(c, Mode::Labels, Token::BraceOpen),
            b' ' => spaced_word(c, Mode::Timestamp, Token::Value),
            _ => Token::Invalid,
        },
        Mode::Timestamp => match b {
            b'\n' => step(c, Mode::Init, Token::LineBreak),
            b' ' => lex_timestamp_or_exemplar(c),
            _ => Token::Invalid,
        },
        Mode::Exemplar => match b {
            b'"' => quoted(c, false, Mode::Exemplar, Token::QuotedString),
            b'=' => step(c, Mode::ExemplarValue, Token::Equal),
            b'}' => step(c, Mode::ExemplarValue, Token::BraceClose),
            _ => lex_label(c, b),
        },
        Mode::ExemplarValue => match b {
            b'"' => quoted(c, false, Mode::Exemplar, Token::LabelValue),
            b' ' => spaced_word(c, Mode::ExemplarTimestamp, Token::Value),
            _ => Token::Invalid,
        },
        Mode::ExemplarTimestamp => match b {
            b'\n' => step(c, Mode::Init, Token::LineBreak),
            b' ' => spaced_word(c, Mode::ExemplarTimestamp, Token::Timestamp),
            _ => Token::Invalid,
        },
        _ => Token::Invalid,
    }
}

const fn is_word_byte(b: u8) -> bool {
    !matches!(b, b' ' | b'\n' | 0)
}

/// A token of one byte.
fn step(c: &mut Cursor<'_>, mode: Mode, token: Token) -> Token {
    c.bump();
    c.mode = mode;
    token
}

fn quoted(c: &mut Cursor<'_>, newlines: bool, mode: Mode, token: Token) -> Token {
    if !c.skip_quoted(newlines) {
        return Token::Invalid;
    }
    c.mode = mode;
    token
}

fn lex_label(c: &mut Cursor<'_>, b: u8) -> Token {
    if b == b',' {
        c.bump();
        return Token::Comma;
    }
    if !is_label_start(b) {
        return Token::Invalid;
    }
    c.skip_while(is_label_byte);
    Token::LabelName
}

/// One space and what follows it up to the next; the token holds the space.
fn spaced_word(c: &mut Cursor<'_>, mode: Mode, token: Token) -> Token {
    if !is_word_byte(c.bump()) {
        return Token::Invalid;
    }
    c.skip_while(is_word_byte);
    c.mode = mode;
    token
}

/// ` # {` opens an exemplar; anything else of one space and a word is a timestamp to be.
fn lex_timestamp_or_exemplar(c: &mut Cursor<'_>) -> Token {
    let b = c.bump();
    if b == b'#' && c.bump() == b' ' {
        if c.bump() != b'{' {
            return Token::Invalid;
        }
        return step(c, Mode::Exemplar, Token::Comment);
    }
    if !is_word_byte(b) {
        return Token::Invalid;
    }
    c.skip_while(is_word_byte);
    Token::Timestamp
}

/// `# HELP `, `# TYPE `, `# UNIT ` or `# EOF` with an optional line break.
fn lex_meta(c: &mut Cursor<'_>) -> Token {
    if c.bump() != b' ' {
        return Token::Invalid;
    }
    let b = c.bump();
    c.mode = Mode::Comment;
    let (word, token): (&[u8], _) = match b {
        b'E' => (b"EOF", Token::EofWord),
        b'H' => (b"HELP ", Token::Help),
        b'T' => (b"TYPE ", Token::Type),
        b'U' => (b"UNIT ", Token::Unit),
        _ => return Token::Invalid,
    };
    if !c.skip_word(word) {
        return Token::Invalid;
    }
    if token == Token::EofWord {
        if c.current() == b'\n' {
            c.bump();
        }
        c.mode = Mode::Init;
    } else {
        c.mode = Mode::MetaName;
    }
    token
}
