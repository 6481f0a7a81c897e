//! Names that the classic rules do not allow, rewritten for those who know only these.
//!
//! Compat: prometheus/common `model.EscapeName`, `EscapeMetricFamily`.

use std::borrow::Cow;
use std::io::Write as _;

use crate::labels::is_legacy_metric_name;

/// What is done with names that the classic rules do not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// They are written as they are, quoted.
    AllowUtf8,
    /// Each character that is not allowed becomes an underscore.
    #[default]
    Underscores,
    /// Dots become `_dot_`, underscores and all else two underscores.
    Dots,
    /// `U__` and each character that is not allowed by its number: nothing is lost.
    Values,
}

impl Escaping {
    /// As parameter of a media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The way back from [`Escaping::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|escaping| escaping.as_str() == text)
    }

    /// The name to write, of a metric or of a label: colons are allowed in both.
    pub fn apply(self, name: &[u8]) -> Cow<'_, [u8]> {
        if self == Self::AllowUtf8 || is_legacy_metric_name(name) {
            return Cow::Borrowed(name);
        }
        let mut out = if self == Self::Values { b"U__".to_vec() } else { Vec::new() };
        for (at, c) in chars(name) {
            let is_legal = matches!(c, 'a'..='z' | 'A'..='Z' | '_' | ':') || (c.is_ascii_digit() && at > 0);
            match self {
                Self::Underscores if is_legal => out.push(c as u8),
                Self::Underscores | Self::AllowUtf8 => out.push(b'_'),
                Self::Dots if c == '.' => out.extend_from_slice(b"_dot_"),
                Self::Dots | Self::Values if is_legal && c != '_' => out.push(c as u8),
                Self::Values if c != '_' => {
                    write!(out, "_{:x}_", u32::from(c)).expect("writing to a vector does not fail");
                }
                Self::Dots | Self::Values => out.extend_from_slice(b"__"),
            }
        }
        Cow::Owned(out)
    }
}

/// The characters and where they begin; each byte that is not UTF-8 is a replacement character.
fn chars(bytes: &[u8]) -> impl Iterator<Item = (usize, char)> {
    let of_chunk = |chunk: std::str::Utf8Chunk<'_>| {
        let chars = chunk.valid().chars().map(|c| (c.len_utf8(), c)).collect::<Vec<_>>();
        chars
            .into_iter()
            .chain(chunk.invalid().iter().map(|_| (1, char::REPLACEMENT_CHARACTER)))
            .collect::<Vec<_>>()
    };
    bytes.utf8_chunks().flat_map(of_chunk).scan(0, |at, (len, c)| {
        let start = *at;
        *at += len;
        Some((start, c))
    })
}
