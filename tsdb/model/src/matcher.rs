//! Label matchers: `name="v"`, `name!="v"`, `name=~"re"`, `name!~"re"`.
//!
//! Compat: prometheus `model/labels`, `Matcher`.

use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::labels::{METRIC_NAME, is_legacy_label_name};
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
        Self::shared(op, name.as_ref().into(), value.as_ref().into())
    }

    /// As [`Matcher::new`], without copies.
    ///
    /// # Errors
    /// As [`Matcher::new`].
    pub fn shared(op: MatchOp, name: Arc<[u8]>, value: Arc<[u8]>) -> Result<Self, regex::Error> {
        let regex = match op {
            MatchOp::Re | MatchOp::Nre => Some(Arc::new(Regex::anchored(&value)?)),
            MatchOp::Eq | MatchOp::Ne => None,
        };
        Ok(Self { name, op, value, regex })
    }

    /// A matcher that cannot fail to compile.
    pub fn equal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self { name: name.as_ref().into(), op: MatchOp::Eq, value: value.as_ref().into(), regex: None }
    }

    /// The matcher of a metric's name, sharing it.
    pub fn metric_name(name: Arc<[u8]>) -> Self {
        static METRIC_NAME_SHARED: LazyLock<Arc<[u8]>> = LazyLock::new(|| METRIC_NAME.into());
        Self { name: Arc::clone(&METRIC_NAME_SHARED), op: MatchOp::Eq, value: name, regex: None }
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

    /// The values on which the matcher's verdict is `verdict`, as far as that is known without trying them.
    /// Looking values up, or not looking at all, is what makes a selection cheap.
    pub fn values(&self, verdict: bool) -> Values<'_> {
        // The text of the matcher describes what a positive one accepts and a negative one refuses.
        let is_described = self.op.is_negative() != verdict;
        let Some(regex) = &self.regex else {
            return match (is_described, &*self.value) {
                (true, value) => Values::One(value),
                (false, b"") => Values::All,
                (false, _) => Values::Prefixed(b""),
            };
        };
        if regex.matches_all() || regex.matches_all_but_empty() {
            return if is_described { Values::All } else { Values::None };
        }
        match (is_described, regex.set_matches()) {
            (true, Some(set)) => Values::Set(set),
            (true, None) => Values::Prefixed(regex.prefix().unwrap_or_default()),
            (false, _) => Values::Prefixed(b""),
        }
    }

    /// The compiled pattern of a `Re` or `Nre` matcher.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_deref()
    }
}

/// Which values of its label a matcher picks out. No series carries an empty value, so it does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values<'m> {
    None,
    One(&'m [u8]),
    /// Sorted, each once.
    Set(&'m [Box<[u8]>]),
    /// Among those that begin so; each has to be tried.
    Prefixed(&'m [u8]),
    All,
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
    fn values_are_told_without_trying_them() {
        let patterns = [
            "", "a", "a|b", "a|", "a.*", "ab?c", "a+", "ab{2}", ".*", ".+", ".*b.*", "(a|b).", "[^a]",
            "(?i)a",
        ];
        let values = ["a", "b", "ab", "ac", "abc", "abb", "A", "aab", "c\n"];
        for op in [MatchOp::Eq, MatchOp::Ne, MatchOp::Re, MatchOp::Nre] {
            for pattern in patterns {
                let matcher = Matcher::new(op, "l", pattern).unwrap();
                for (value, verdict) in
                    values.iter().flat_map(|v| [(v.as_bytes(), true), (v.as_bytes(), false)])
                {
                    let said = match matcher.values(verdict) {
                        Values::None => false,
                        Values::One(one) => one == value,
                        Values::Set(set) => set.iter().any(|one| **one == *value),
                        Values::Prefixed(prefix) => {
                            value.starts_with(prefix) && matcher.matches(value) == verdict
                        }
                        Values::All => true,
                    };
                    assert_eq!(said, matcher.matches(value) == verdict, "{matcher} {verdict} {value:?}");
                }
            }
        }
        let verdicts = |op, pattern: &str| {
            let matcher = Matcher::new(op, "l", pattern).unwrap();
            [true, false].map(|verdict| format!("{:?}", matcher.values(verdict)))
        };
        assert_eq!(verdicts(MatchOp::Re, ".+"), ["All", "None"]);
        assert_eq!(verdicts(MatchOp::Nre, "(.*)"), ["None", "All"]);
        assert_eq!(verdicts(MatchOp::Ne, ""), ["All", "One([])"]);
        assert_eq!(verdicts(MatchOp::Re, "x.*")[0], "Prefixed([120])");
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
