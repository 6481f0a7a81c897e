//! Label matchers: `name="v"`, `name!="v"`, `name=~"re"`, `name!~"re"`.
//!
//! Compat: prometheus `model/labels`, `Matcher`.

use std::fmt;
use std::sync::Arc;

use crate::labels::is_legacy_label_name;
use crate::quote::go_quote;
use crate::regex::{self, Regex};

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    Eq,
    Ne,
    Re,
    Nre,
}

impl MatchOp {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Re => "=~",
            Self::Nre => "!~",
        }
    }

    pub const fn is_negative(self) -> bool {
        matches!(self, Self::Ne | Self::Nre)
    }
}

/// One condition on one label; an absent label counts as the empty value.
#[derive(Clone)]
pub struct Matcher {
    pub name: Arc<[u8]>,
    pub op: MatchOp,
    pub value: Arc<[u8]>,
    /// Compiled for `Re` and `Nre`, anchored at both ends.
    regex: Option<Arc<Regex>>,
}

impl Matcher {
    /// Builds a matcher, compiling `value` if `op` is a regular expression.
    ///
    /// # Errors
    /// The pattern does not parse; the text is Go's.
    pub fn new(op: MatchOp, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Self, regex::Error> {
        let value = value.as_ref();
        let regex = match op {
            MatchOp::Re | MatchOp::Nre => Some(Arc::new(Regex::anchored(value)?)),
            MatchOp::Eq | MatchOp::Ne => None,
        };
        Ok(Self { name: name.as_ref().into(), op, value: value.into(), regex })
    }

    /// A matcher that cannot fail to compile.
    pub fn equal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self { name: name.as_ref().into(), op: MatchOp::Eq, value: value.as_ref().into(), regex: None }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        match (&self.regex, self.op) {
            (Some(regex), op) => regex.is_match(value) != op.is_negative(),
            (None, op) => (*self.value == *value) != op.is_negative(),
        }
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches(b"")
    }

    /// The compiled pattern of a `Re` or `Nre` matcher.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_deref()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.op, &self.name, &self.value).hash(state);
    }
}

/// `name=~"value"`, the name quoted where it is not legacy-valid.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(&self.name) {
            f.write_str(&String::from_utf8_lossy(&self.name))?;
        } else {
            f.write_str(&go_quote(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), go_quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(op: MatchOp, pattern: &str, value: &str) -> bool {
        Matcher::new(op, "l", pattern).unwrap().matches(value.as_bytes())
    }

    #[test]
    fn the_four_ways_to_compare() {
        assert!(matches(MatchOp::Eq, "a", "a") && !matches(MatchOp::Eq, "a", "ab"));
        assert!(matches(MatchOp::Ne, "a", "") && !matches(MatchOp::Ne, "a", "a"));
        assert!(matches(MatchOp::Re, "a.", "a\n") && !matches(MatchOp::Re, "a.", "xab"));
        assert!(matches(MatchOp::Nre, "a|b", "ab") && !matches(MatchOp::Nre, "a|b", "b"));
        assert!(Matcher::new(MatchOp::Nre, "l", "a").unwrap().matches_empty());
        assert!(!Matcher::new(MatchOp::Re, "l", ".+").unwrap().matches_empty());
    }

    #[test]
    fn refusals_and_prints_are_upstreams() {
        let error = Matcher::new(MatchOp::Re, "l", "a(").unwrap_err();
        assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `a(`");
        let odd = Matcher::new(MatchOp::Nre, "odd name", "\"x\\d").unwrap();
        assert_eq!(odd.to_string(), r#""odd name"!~"\"x\\d""#);
        assert_eq!(Matcher::equal("a", "b").to_string(), r#"a="b""#);
        assert_ne!(Matcher::equal("a", "b"), Matcher::new(MatchOp::Re, "a", "b").unwrap());
    }
}
