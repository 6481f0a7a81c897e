//! Strings that stand in many objects, kept once for the whole process.
//!
//! The pods of a cluster share their namespaces, label names, images and owners; 20,000 pods of a hundred
//! deployments have a few thousand different strings. A [`Text`] is a pointer to the one copy.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use serde::de::{Deserialize, Deserializer, Visitor};

/// A shared string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Text(Arc<str>);

static ALL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Pool {
    texts: HashSet<Arc<str>>,
    /// The size at which those that nobody else holds are let go.
    full: usize,
}

/// Below this many strings the pool is not worth a look.
const FULL_MIN: usize = 4096;

impl Pool {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= self.full.max(FULL_MIN) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            // Growing by half before the next look keeps its cost constant per string.
            self.full = self.texts.len() + self.texts.len() / 2;
            if self.texts.capacity() > 4 * self.full.max(FULL_MIN) {
                self.texts.shrink_to(self.full);
            }
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(ALL.lock().get(text))
    }
}

impl Default for Text {
    fn default() -> Self {
        static EMPTY: LazyLock<Text> = LazyLock::new(|| Text::from(""));
        EMPTY.clone()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfStr;

        impl Visitor<'_> for OfStr {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text::from(text))
            }
        }

        deserializer.deserialize_str(OfStr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let (a, b) = (Text::from("some-namespace"), Text::from("some-namespace"));
        assert!(Arc::ptr_eq(&a.0, &b.0));
        assert_eq!(Text::default(), Text::from(""));
    }

    #[test]
    fn the_pool_lets_go_of_what_nobody_holds() {
        let mut pool = Pool::default();
        let kept: Vec<_> = (0..100).map(|i| pool.get(&format!("kept-{i}"))).collect();
        for i in 0..50_000 {
            drop(pool.get(&format!("gone-{i}")));
        }
        assert!(pool.texts.len() <= FULL_MIN + 100, "{} strings are kept", pool.texts.len());
        for text in &kept {
            assert!(Arc::ptr_eq(text, &pool.get(text)));
        }
    }
}
