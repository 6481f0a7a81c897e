//! Regular expressions with Go's syntax and Prometheus' anchoring: `^(?s:pattern)$`.
//!
//! [`syntax`] reads the pattern, [`literal`] looks for a way round the automaton, and `regex-automata` runs
//! what is left: the first values by a program that is quickly made ([`trial`]), the rest by one that is quick.
//! Memory is bounded: programs by [`NFA_BYTES_MAX`], the lazy automaton of each thread that uses
//! a pattern by [`CACHE_BYTES`].
//!
//! Of a value that is not UTF-8 each odd byte reads as U+FFFD, as in Go; it is translated for the automaton
//! ([`Subject`]).
//!
//! Compat: prometheus `model/labels`, `FastRegexMatcher`; Go `regexp` and `regexp/syntax`.

mod characters;
mod literal;
mod subject;
mod syntax;
mod trial;

use std::sync::OnceLock;

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax as automata_syntax;
use regex_automata::{Anchored, Input, Span};
use regex_syntax::hir::{Hir, Look};

use literal::{Gap, Shape};
use subject::Subject;
use syntax::Dialect;
use trial::Trial;

/// The largest program.
const NFA_BYTES_MAX: usize = 16 << 20;
/// A matcher of so many of Go's instructions is far below that, so it is compiled when a value first asks for it. Most
/// queries are parsed more often than their patterns meet values.
const SIZE_LAZY_MAX: u64 = 200;
/// The lazy automaton's cache, for each pattern and thread.
const CACHE_BYTES: usize = 64 << 10;
/// Programs with one way to match are kept in a quicker form up to this size.
const ONEPASS_BYTES_MAX: usize = 128 << 10;

/// A pattern that does not compile; displays Go's text.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("error parsing regexp: {0}")]
pub struct Error(pub String);

impl Error {
    fn new(what: &str, expression: &[u8]) -> Self {
        Self(format!("{what}: `{}`", String::from_utf8_lossy(expression)))
    }
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Regex {
    hir: Hir,
    /// Compiled at once where it may be too large, else when a value asks for it.
    program: OnceLock<meta::Regex>,
    trial: Trial,
    /// What is known about whole values; `None` for patterns that are not anchored.
    shape: Option<Shape>,
}

impl Regex {
    /// Compiles `pattern` so that it must match a whole value; `.` also matches a newline.
    ///
    /// # Errors
    /// The pattern is not valid in Go's syntax, or its program too large.
    ///
    /// Compat: prometheus `model/labels`, `NewFastRegexMatcher`.
    pub fn anchored(pattern: &[u8]) -> Result<Self, Error> {
        // Literals are not read as a pattern upstream either, so they may be any bytes and any number.
        if let Some(branches) = literal::branches(pattern) {
            let hir = Hir::alternation(branches.iter().map(|branch| Hir::literal(*branch)).collect());
            return Ok(Self::shaped(hir, Shape::of_strings(branches)));
        }
        let (hir, size) = syntax::parse_with_size(pattern, Dialect::Matcher)?;
        Self::whole(hir, size, pattern)
    }

    /// As [`Regex::anchored`], but `pattern` is read as part of the text `^(?s:pattern)$`, which shows in
    /// messages and lets parentheses close too early. Relabelling and `label_replace` are defined so.
    ///
    /// # Errors
    /// As [`Regex::anchored`].
    ///
    /// Compat: prometheus `model/relabel`, `NewRegexp`.
    pub fn wrapped(pattern: &[u8]) -> Result<Self, Error> {
        let text = [b"^(?s:", pattern, b")$"].concat();
        let (hir, size) = syntax::parse_with_size(&text, Dialect::Plain)?;
        // A pattern such as `a)|(?s:b` is anchored at one end only in each branch, as in Go.
        if syntax::parse(pattern, Dialect::Plain).is_err() {
            Self::part(hir, &text)
        } else {
            Self::whole(hir, size, &text)
        }
    }

    /// Compiles `pattern` to be found anywhere in a text; `.` stops at a newline.
    ///
    /// # Errors
    /// As [`Regex::anchored`].
    ///
    /// Compat: Go `regexp.Compile`.
    pub fn unanchored(pattern: &[u8]) -> Result<Self, Error> {
        Self::part(syntax::parse(pattern, Dialect::Plain)?, pattern)
    }

    fn whole(hir: Hir, size: u64, pattern: &[u8]) -> Result<Self, Error> {
        let shape = Shape::of(&hir);
        let needs_program = size > SIZE_LAZY_MAX && matches!(shape, Shape::Prefix(_));
        let regex = Self::shaped(hir, shape);
        if needs_program {
            regex.compile(pattern)?;
        }
        Ok(regex)
    }

    fn shaped(hir: Hir, shape: Shape) -> Self {
        let hir = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
        Self { hir, program: OnceLock::new(), trial: Trial::default(), shape: Some(shape) }
    }

    fn part(hir: Hir, pattern: &[u8]) -> Result<Self, Error> {
        let regex = Self { hir, program: OnceLock::new(), trial: Trial::default(), shape: None };
        regex.compile(pattern)?;
        Ok(regex)
    }

    fn compile(&self, pattern: &[u8]) -> Result<(), Error> {
        let program = build(&self.hir, Some(NFA_BYTES_MAX))
            .ok_or_else(|| Error::new("expression too large", pattern))?;
        self.program.get_or_init(|| program);
        Ok(())
    }

    /// Patterns that match without a program are small, so theirs has no limit.
    fn program(&self) -> &meta::Regex {
        self.program.get_or_init(|| build(&self.hir, None).expect("a tree without a limit compiles"))
    }

    /// Whether the pattern matches: all of `value` if it is anchored, else any part.
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.shape.as_ref().and_then(|shape| shape.is_match(value)).unwrap_or_else(|| {
            let subject = Subject::new(value);
            let input = self.input(subject.read());
            let tried = self.is_on_trial().then(|| self.trial.is_match(&self.hir, &input)).flatten();
            tried.unwrap_or_else(|| self.program().is_match(input))
        })
    }

    /// Whether no program was made yet.
    fn is_on_trial(&self) -> bool {
        self.program.get().is_none()
    }

    fn input<'h>(&self, value: &'h [u8]) -> Input<'h> {
        let anchored = if self.shape.is_some() { Anchored::Yes } else { Anchored::No };
        Input::new(value).anchored(anchored)
    }

    /// The strings that an anchored pattern matches, sorted, if it spells them out or they are few (at most 256).
    pub fn set_matches(&self) -> Option<&[Box<[u8]>]> {
        match &self.shape {
            Some(Shape::Set(set)) => Some(set),
            _ => None,
        }
    }

    /// What every value begins with that an anchored pattern matches, if anything is known.
    pub fn prefix(&self) -> Option<&[u8]> {
        let prefix = match &self.shape {
            Some(Shape::Prefix(prefix)) => prefix,
            Some(Shape::Around { before: Gap::Nothing, literal, .. }) => literal.needle(),
            _ => return None,
        };
        (!prefix.is_empty()).then_some(prefix)
    }

    /// Whether the pattern is anchored and matches every value: `.*`.
    pub fn matches_all(&self) -> bool {
        matches!(&self.shape, Some(Shape::Around { before: Gap::Anything, literal, after })
            if literal.needle().is_empty() && *after != Gap::Something)
    }

    /// Whether the pattern is anchored and matches every value but the empty one: `.+`.
    pub fn matches_all_but_empty(&self) -> bool {
        matches!(&self.shape, Some(Shape::Around { before, literal, after })
            if literal.needle().is_empty() && (*before == Gap::Something || *after == Gap::Something))
    }

    /// The groups of a match, those of the first if the pattern is not anchored.
    fn captures(&self, subject: &Subject<'_>) -> Option<Captures> {
        if let Some(shape) = &self.shape
            && shape.is_match(subject.raw()) == Some(false)
        {
            return None;
        }
        let input = self.input(subject.read());
        let tried = self.is_on_trial().then(|| self.trial.captures(&self.hir, &input)).flatten();
        let captures = tried.unwrap_or_else(|| {
            let program = self.program();
            let mut captures = program.create_captures();
            program.search_captures(&input, &mut captures);
            captures
        });
        captures.is_match().then_some(captures)
    }

    /// Appends `template` to `out` with the groups of a match of `value` in place of `$1`, `${1}`, `$name`
    /// and `${name}`, and a dollar sign in place of `$$`. Returns whether there was a match; without one
    /// `out` stays as it is.
    ///
    /// A name is as long as it can be (`$1x` is the group `1x`), an unknown group is empty, and a dollar
    /// sign that introduces nothing stands for itself.
    ///
    /// Compat: Go `regexp`, `Regexp.Expand`.
    pub fn expand(&self, value: &[u8], template: &[u8], out: &mut Vec<u8>) -> bool {
        let subject = Subject::new(value);
        let Some(captures) = self.captures(&subject) else { return false };
        expand_into(&captures, &subject, template, out);
        true
    }

    /// `text` with every match replaced by `template`, expanded as in [`Regex::expand`].
    ///
    /// Compat: Go `regexp`, `Regexp.ReplaceAllString`.
    pub fn replace_all(&self, text: &[u8], template: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let subject = Subject::new(text);
        let mut copied = 0;
        for captures in self.program().captures_iter(self.input(subject.read())) {
            let Span { start, end } = captures.get_group(0).expect("a match has its whole");
            out.extend_from_slice(subject.slice(copied..start));
            expand_into(&captures, &subject, template, &mut out);
            copied = end;
        }
        out.extend_from_slice(subject.slice(copied..subject.read().len()));
        out
    }
}

/// The program of `hir`, or `None` if it is larger than the limit.
fn build(hir: &Hir, nfa_limit: Option<usize>) -> Option<meta::Regex> {
    let config = meta::Config::new()
        .nfa_size_limit(nfa_limit)
        .onepass_size_limit(Some(ONEPASS_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES);
    let hir = characters::of_bytes(hir);
    meta::Builder::new().configure(config).syntax(automata_syntax::Config::new()).build_from_hir(&hir).ok()
}

fn expand_into(captures: &Captures, subject: &Subject<'_>, template: &[u8], out: &mut Vec<u8>) {
    let mut rest = template;
    while let Some(dollar) = memchr::memchr(b'$', rest) {
        out.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
        } else if let Some((name, after)) = group_reference(rest) {
            rest = after;
            let is_number =
                name.bytes().all(|b| b.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
            let span = match name.parse() {
                Ok(index) if is_number => captures.get_group(index),
                _ => captures.get_group_by_name(name),
            };
            if let Some(span) = span {
                out.extend_from_slice(subject.slice(span.start..span.end));
            }
        } else {
            out.push(b'$');
        }
    }
    out.extend_from_slice(rest);
}

/// The name of a group at the start of `text`, which follows a dollar sign, and what comes behind it.
fn group_reference(text: &[u8]) -> Option<(&str, &[u8])> {
    let (is_braced, text) = match text.strip_prefix(b"{") {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let valid = match std::str::from_utf8(text) {
        Ok(valid) => valid,
        Err(e) => std::str::from_utf8(&text[..e.valid_up_to()]).ok()?,
    };
    let end = valid.find(|c: char| !c.is_alphabetic() && !c.is_numeric() && c != '_').unwrap_or(valid.len());
    let name = &valid[..end];
    let rest = &text[end..];
    let rest = if is_braced { rest.strip_prefix(b"}")? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests;
