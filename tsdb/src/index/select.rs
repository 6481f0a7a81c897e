//! From matchers to postings, over anything that has postings.
//!
//! A matcher that refuses the empty value narrows: its series carry one of the values that pass.
//! One that accepts the empty value only removes: the series that carry a value that fails.
//! So an absent label counts as empty without a list of the series that lack it.
//! A pattern runs once per distinct value, or not at all where its values are known.
//!
//! Compat: prometheus `tsdb/querier.go`, `PostingsForMatchers`.

use model::{MatchOp, Matcher};

use super::postings::{self, Postings};

/// Postings by label pair: a block's index, or the head's.
pub trait PostingsSource {
    type Error;

    /// Every series.
    ///
    /// # Errors
    /// The list cannot be read.
    fn all(&self) -> Result<Postings<'_>, Self::Error>;

    /// The series with `name="value"`, an empty list if there are none.
    ///
    /// # Errors
    /// The list cannot be read.
    fn postings(&self, name: &[u8], value: &[u8]) -> Result<Postings<'_>, Self::Error>;

    /// One list for each value of `name` that starts with `prefix` and that `keep` accepts.
    ///
    /// # Errors
    /// A list cannot be read.
    fn postings_where(
        &self,
        name: &[u8],
        prefix: &[u8],
        keep: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Vec<Postings<'_>>, Self::Error>;
}

/// The series of `source` that pass all `matchers`; without matchers, all of them.
///
/// # Errors
/// A list cannot be read.
pub fn postings<'a, S: PostingsSource + ?Sized>(
    source: &'a S,
    matchers: &[Matcher],
) -> Result<Postings<'a>, S::Error> {
    let (removing, mut narrowing): (Vec<_>, Vec<_>) =
        matchers.iter().partition(|matcher| matcher.matches_empty());
    narrowing.sort_by_key(|matcher| cost(matcher));
    let mut lists = Vec::with_capacity(narrowing.len().max(1));
    for matcher in narrowing {
        let list = carrying(source, matcher, true)?;
        if list.is_empty() {
            return Ok(Postings::EMPTY);
        }
        lists.push(list);
    }
    if lists.is_empty() {
        lists.push(source.all()?);
    }
    let mut found = postings::intersect(lists);
    for matcher in removing {
        if found.is_empty() {
            break;
        }
        if !matches_everything(matcher) {
            found = postings::subtract(found, &carrying(source, matcher, false)?);
        }
    }
    Ok(found)
}

/// The series that carry the label with a value for which the matcher's verdict is `passing`.
fn carrying<'a, S: PostingsSource + ?Sized>(
    source: &'a S,
    matcher: &Matcher,
    passing: bool,
) -> Result<Postings<'a>, S::Error> {
    // The values named by the matcher are those that pass a positive one and fail a negative one.
    let wants_named = matcher.op.is_negative() != passing;
    if wants_named {
        match (matcher.op, matcher.regex().and_then(model::Regex::set_matches)) {
            (MatchOp::Eq | MatchOp::Ne, _) => return source.postings(&matcher.name, &matcher.value),
            (MatchOp::Re | MatchOp::Nre, Some(values)) => {
                let lists: Result<Vec<_>, _> =
                    values.iter().map(|value| source.postings(&matcher.name, value)).collect();
                return Ok(postings::union(lists?));
            }
            _ => {}
        }
    }
    let is_regex = matches!(matcher.op, MatchOp::Re | MatchOp::Nre);
    let lists = if is_regex && &*matcher.value == b".+" {
        // All values are named: all of them, or none.
        if !wants_named {
            return Ok(Postings::EMPTY);
        }
        source.postings_where(&matcher.name, b"", &mut |_| true)?
    } else {
        let prefix = if is_regex && wants_named { literal_prefix(&matcher.value) } else { b"" };
        source.postings_where(&matcher.name, prefix, &mut |value| matcher.matches(value) == passing)?
    };
    Ok(postings::union(lists))
}

/// What a narrowing matcher costs: a look-up, several, or a walk over all values.
fn cost(matcher: &Matcher) -> u8 {
    match matcher.regex() {
        None if matcher.op == MatchOp::Eq => 0,
        Some(regex) if matcher.op == MatchOp::Re && regex.set_matches().is_some() => 1,
        _ => 2,
    }
}

fn matches_everything(matcher: &Matcher) -> bool {
    matcher.op == MatchOp::Re && &*matcher.value == b".*"
}

/// Bytes with which every value must begin to match the pattern; none if in doubt.
pub fn literal_prefix(pattern: &[u8]) -> &[u8] {
    if pattern.contains(&b'|') {
        return b"";
    }
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-/: ".contains(b);
    let plain = pattern.iter().take_while(|b| is_plain(b)).count();
    let (prefix, rest) = pattern.split_at(plain);
    match rest.first() {
        // The last byte is optional or repeated.
        Some(b'*' | b'?' | b'{') => prefix.split_last().map_or(b"", |(_, prefix)| prefix),
        _ => prefix,
    }
}
