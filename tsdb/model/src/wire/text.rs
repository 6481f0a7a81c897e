//! The lexer of the Prometheus text format, 0.0.4 and 1.0.0.
//!
//! White space between tokens is free, comments are passed over, and the body counts as ending in one
//! line break more than it has.
//!
//! Compat: prometheus `model/textparse`, `promlex.l`.

use super::token::{
    Cursor, Mode, Token, is_label_byte, is_label_start, is_metric_byte, is_metric_start, is_space,
};

/// Reads the next token, white space included.
pub(super) fn lex(c: &mut Cursor<'_>) -> Token {
    if c.is_at_end() {
        return Token::Eof;
    }
    c.start = c.pos;
    let b = c.current();
    // Between the tokens of a line; the start of a text and of a comment belong to those.
    if is_space(b) && !matches!(c.mode, Mode::MetaText | Mode::Comment) {
        c.skip_while(is_space);
        return Token::WhiteSpace;
    }
    match c.mode {
        Mode::Init => match b {
            b'#' => lex_comment(c),
            b'\n' => step(c, Mode::Init, Token::LineBreak),
            b'{' => step(c, Mode::Labels, Token::BraceOpen),
            0 => step(c, Mode::Init, Token::Eof),
            _ if is_metric_start(b) => {
                c.skip_while(is_metric_byte);
                c.mode = Mode::Value;
                Token::MetricName
            }
            _ => Token::Invalid,
        },
        Mode::MetaName => match b {
            b'"' => quoted(c, Mode::MetaText, Token::MetricName),
            _ if is_metric_start(b) => {
                c.skip_while(is_metric_byte);
                c.mode = Mode::MetaText;
                Token::MetricName
            }
            _ => Token::Invalid,
        },
        Mode::MetaText => {
            let after_space = c.skip_while(is_space);
            if c.pos > c.start && matches!(after_space, b'\n' | 0) {
                return Token::WhiteSpace;
            }
            if after_space != 0 {
                c.skip_while(|b| b != b'\n');
            }
            c.mode = Mode::Init;
            Token::Text
        }
        Mode::Labels => match b {
            b'"' => quoted(c, Mode::Labels, Token::QuotedString),
            b',' => step(c, Mode::Labels, Token::Comma),
            b'=' => step(c, Mode::LabelValue, Token::Equal),
            b'}' => step(c, Mode::Value, Token::BraceClose),
            _ if is_label_start(b) => {
                c.skip_while(is_label_byte);
                Token::LabelName
            }
            _ => Token::Invalid,
        },
        Mode::LabelValue if b == b'"' => quoted(c, Mode::Labels, Token::LabelValue),
        Mode::Value => match b {
            b'{' => step(c, Mode::Labels, Token::BraceOpen),
            0 | b'\n' => Token::Invalid,
            _ => {
                c.skip_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n' | 0));
                c.mode = Mode::Timestamp;
                Token::Value
            }
        },
        Mode::Timestamp => match b {
            b'\n' => step(c, Mode::Init, Token::LineBreak),
            b'0'..=b'9' => {
                c.skip_while(|b| b.is_ascii_digit());
                Token::Timestamp
            }
            _ => Token::Invalid,
        },
        _ => Token::Invalid,
    }
}

/// A token of one byte.
fn step(c: &mut Cursor<'_>, mode: Mode, token: Token) -> Token {
    c.bump();
    c.mode = mode;
    token
}

fn quoted(c: &mut Cursor<'_>, mode: Mode, token: Token) -> Token {
    if !c.skip_quoted(true) {
        return Token::Invalid;
    }
    c.mode = mode;
    token
}

/// `# HELP `, `# TYPE `, or a comment up to its line break.
fn lex_comment(c: &mut Cursor<'_>) -> Token {
    let b = c.bump();
    if is_space(b) {
        let b = c.skip_while(is_space);
        c.mode = Mode::Comment;
        let (word, token): (&[u8], _) =
            if b == b'H' { (b"HELP", Token::Help) } else { (b"TYPE", Token::Type) };
        if c.skip_word(word) && is_space(c.current()) {
            c.skip_while(is_space);
            c.mode = Mode::MetaName;
            return token;
        }
    }
    if c.skip_while(|b| !matches!(b, b'\n' | 0)) == 0 {
        return Token::Eof;
    }
    c.mode = Mode::Init;
    Token::Comment
}
