//! What a pattern says without being run: the strings it stands for, or the literals it asks for.
//!
//! Compat: prometheus `model/labels`, `FastRegexMatcher`, whose shortcuts these resemble.

use memchr::memmem;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// The most strings that a pattern may be taken apart into.
const MAX_SET: usize = 256;
/// The most bytes of those strings together.
const MAX_SET_BYTES: usize = 64 << 10;

/// How whole values are matched without an automaton.
#[derive(Debug)]
pub(super) enum Shape {
    /// One of few strings, sorted.
    Set(Box<[Box<[u8]>]>),
    /// A literal between two gaps.
    Around { before: Gap, literal: Box<memmem::Finder<'static>>, after: Gap },
    /// No more is known than what the value must begin with, perhaps nothing.
    Prefix(Box<[u8]>),
}

/// What may stand beside a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    Nothing,
    /// `.*`
    Anything,
    /// `.+`
    Something,
}

/// The branches of a pattern that is made of nothing but literals: `foo|bar`.
///
/// Compat: prometheus `model/labels`, `optimizeAlternatingLiterals`.
pub(super) fn branches(pattern: &[u8]) -> Option<Vec<&[u8]>> {
    let is_special = |b: &u8| br"\.+*?()[]{}^$".contains(b);
    if pattern.iter().any(is_special) {
        return None;
    }
    Some(pattern.split(|&b| b == b'|').collect())
}

impl Shape {
    /// The shape of a pattern that matches these strings and nothing else.
    pub(super) fn of_strings(mut strings: Vec<&[u8]>) -> Self {
        strings.sort_unstable();
        strings.dedup();
        Self::Set(strings.into_iter().map(Into::into).collect())
    }

    /// The shape of a pattern that must match a whole value.
    pub(super) fn of(hir: &Hir) -> Self {
        let parts = without_anchors(hir);
        if let Some(set) = set_of(&parts) {
            return Self::Set(set);
        }
        around(&parts).unwrap_or_else(|| Self::Prefix(prefix_of(&parts).into()))
    }

    /// Whether `value` matches, or `None` if an automaton must tell.
    pub(super) fn is_match(&self, value: &[u8]) -> Option<bool> {
        match self {
            Self::Set(set) if set.len() <= 8 => Some(set.iter().any(|s| **s == *value)),
            Self::Set(set) => Some(set.binary_search_by(|s| (**s).cmp(value)).is_ok()),
            Self::Around { before, literal, after } => Some(is_around(value, *before, literal, *after)),
            Self::Prefix(prefix) => (!value.starts_with(prefix)).then_some(false),
        }
    }
}

fn is_around(value: &[u8], before: Gap, literal: &memmem::Finder<'_>, after: Gap) -> bool {
    let needle = literal.needle();
    let slack = usize::from(before == Gap::Something) + usize::from(after == Gap::Something);
    if value.len() < needle.len() + slack {
        return false;
    }
    match (before, after) {
        (Gap::Nothing, _) => {
            value.starts_with(needle) && (after != Gap::Nothing || value.len() == needle.len())
        }
        (_, Gap::Nothing) => value.ends_with(needle),
        // The earliest place leaves the most behind it.
        _ => {
            let skip = usize::from(before == Gap::Something);
            let end = value.len() - usize::from(after == Gap::Something);
            literal.find(&value[skip..end]).is_some()
        }
    }
}

/// The parts of a concatenation, without anchors at its ends, where they say nothing new.
fn without_anchors(hir: &Hir) -> Vec<&Hir> {
    let mut parts: Vec<&Hir> = match hir.kind() {
        HirKind::Concat(parts) => parts.iter().collect(),
        _ => vec![hir],
    };
    let is_look = |hir: &&Hir, look| matches!(hir.kind(), HirKind::Look(l) if *l == look);
    while parts.first().is_some_and(|p| is_look(p, Look::Start)) {
        parts.remove(0);
    }
    while parts.last().is_some_and(|p| is_look(p, Look::End)) {
        parts.pop();
    }
    parts
}

fn around(parts: &[&Hir]) -> Option<Shape> {
    let (mut before, mut after) = (Gap::Nothing, Gap::Nothing);
    let mut rest = parts;
    if let [first, tail @ ..] = rest
        && let Some(gap) = gap_of(first)
    {
        (before, rest) = (gap, tail);
    }
    if let [head @ .., last] = rest
        && let Some(gap) = gap_of(last)
    {
        (after, rest) = (gap, head);
    }
    let mut literal = Vec::new();
    for part in rest {
        match inner(part).kind() {
            HirKind::Literal(bytes) => literal.extend_from_slice(&bytes.0),
            _ => return None,
        }
    }
    // Two gaps with nothing between them ask for as many characters as both.
    if literal.is_empty() && before == Gap::Something && after == Gap::Something {
        return None;
    }
    (before != Gap::Nothing || after != Gap::Nothing).then(|| Shape::Around {
        before,
        literal: Box::new(memmem::Finder::new(&literal).into_owned()),
        after,
    })
}

/// The inside of groups.
fn inner(hir: &Hir) -> &Hir {
    match hir.kind() {
        HirKind::Capture(capture) => inner(&capture.sub),
        _ => hir,
    }
}

/// `.*` or `.+` with a dot that matches everything.
fn gap_of(hir: &Hir) -> Option<Gap> {
    let HirKind::Repetition(repetition) = inner(hir).kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = inner(&repetition.sub).kind() else { return None };
    let is_any = matches!(class.ranges(), [range] if (range.start(), range.end()) == ('\0', char::MAX));
    match (is_any, repetition.min, repetition.max) {
        (true, 0, None) => Some(Gap::Anything),
        (true, 1, None) => Some(Gap::Something),
        _ => None,
    }
}

// === Sets ===

fn set_of(parts: &[&Hir]) -> Option<Box<[Box<[u8]>]>> {
    let mut set = vec![Vec::new()];
    for part in parts {
        set = product(&set, &strings_of(part)?)?;
    }
    set.sort_unstable();
    set.dedup();
    Some(set.into_iter().map(Vec::into_boxed_slice).collect())
}

/// All strings that `hir` matches, if they are few.
fn strings_of(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Class(Class::Unicode(class)) => {
            let n: usize = class.iter().map(ClassUnicodeLen::n_chars).sum();
            (n <= MAX_SET).then(|| {
                class
                    .iter()
                    .flat_map(|range| range.start()..=range.end())
                    .map(|c| c.to_string().into_bytes())
                    .collect()
            })
        }
        HirKind::Class(Class::Bytes(class)) => class
            .is_ascii()
            .then(|| class.iter().flat_map(|range| range.start()..=range.end()).map(|b| vec![b]).collect()),
        HirKind::Capture(capture) => strings_of(&capture.sub),
        HirKind::Concat(parts) => {
            let mut set = vec![Vec::new()];
            for part in parts {
                set = product(&set, &strings_of(part)?)?;
            }
            Some(set)
        }
        HirKind::Alternation(branches) => {
            let mut set = Vec::new();
            for branch in branches {
                set.extend(strings_of(branch)?);
                if !is_small(&set) {
                    return None;
                }
            }
            Some(set)
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.filter(|&max| max <= 64)?;
            let sub = strings_of(&repetition.sub)?;
            let (mut power, mut set) = (vec![Vec::new()], Vec::new());
            for n in 0..=max {
                if n >= repetition.min {
                    set.extend_from_slice(&power);
                    if !is_small(&set) {
                        return None;
                    }
                }
                if n < max {
                    power = product(&power, &sub)?;
                }
            }
            Some(set)
        }
        HirKind::Look(_) => None,
    }
}

/// The number of characters in a range.
trait ClassUnicodeLen {
    fn n_chars(&self) -> usize;
}

impl ClassUnicodeLen for regex_syntax::hir::ClassUnicodeRange {
    fn n_chars(&self) -> usize {
        self.end() as usize - self.start() as usize + 1
    }
}

fn is_small(set: &[Vec<u8>]) -> bool {
    set.len() <= MAX_SET && set.iter().map(Vec::len).sum::<usize>() <= MAX_SET_BYTES
}

fn product(heads: &[Vec<u8>], tails: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    if heads.len() * tails.len() > MAX_SET {
        return None;
    }
    let set: Vec<Vec<u8>> =
        heads.iter().flat_map(|head| tails.iter().map(move |tail| [&head[..], tail].concat())).collect();
    is_small(&set).then_some(set)
}

// === Prefixes ===

fn prefix_of(parts: &[&Hir]) -> Vec<u8> {
    let mut prefix = Vec::new();
    for part in parts {
        if !append_prefix(part, &mut prefix) {
            break;
        }
    }
    prefix
}

/// Appends the literal that `hir` begins with; returns whether that is all of it.
fn append_prefix(hir: &Hir, out: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Literal(literal) => {
            out.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(capture) => append_prefix(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().all(|part| append_prefix(part, out)),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            append_prefix(&repetition.sub, out);
            false
        }
        HirKind::Alternation(branches) => {
            let mut common: Option<Vec<u8>> = None;
            for branch in branches {
                let mut prefix = Vec::new();
                append_prefix(branch, &mut prefix);
                let len = common
                    .as_ref()
                    .map_or(prefix.len(), |c| c.iter().zip(&prefix).take_while(|(a, b)| a == b).count());
                prefix.truncate(len);
                common = Some(prefix);
            }
            out.extend_from_slice(&common.unwrap_or_default());
            false
        }
        _ => false,
    }
}
