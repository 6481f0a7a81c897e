//! From matchers to postings, over anything that has postings.
//!
//! A matcher that refuses the empty value narrows: its series carry one of the values that pass.
//! One that accepts the empty value only removes: the series that carry a value that fails.
//! So an absent label counts as empty without a list of the series that lack it.
//! A pattern runs once per distinct value, or not at all where its values are known.
//!
//! Compat: prometheus `tsdb/querier.go`, `PostingsForMatchers`.

use model::Matcher;
use model::matcher::Values;

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
        found = postings::subtract(found, &carrying(source, matcher, false)?);
    }
    Ok(found)
}

/// The series that carry the label with a value for which the matcher's verdict is `passing`.
fn carrying<'a, S: PostingsSource + ?Sized>(
    source: &'a S,
    matcher: &Matcher,
    passing: bool,
) -> Result<Postings<'a>, S::Error> {
    let name = &*matcher.name;
    let lists = match matcher.values(passing) {
        Values::None => return Ok(Postings::EMPTY),
        Values::One(value) => return source.postings(name, value),
        Values::Set(values) => {
            values.iter().map(|value| source.postings(name, value)).collect::<Result<_, _>>()?
        }
        Values::Prefixed(prefix) => {
            source.postings_where(name, prefix, &mut |value| matcher.matches(value) == passing)?
        }
        Values::All => source.postings_where(name, b"", &mut |_| true)?,
    };
    Ok(postings::union(lists))
}

/// What a narrowing matcher costs: a look-up, several, or a walk over all values.
fn cost(matcher: &Matcher) -> u8 {
    match matcher.values(true) {
        Values::None | Values::One(_) => 0,
        Values::Set(_) => 1,
        Values::Prefixed(_) | Values::All => 2,
    }
}
