//! Label sets: sorted, unique (name, value) pairs of bytes in one shared allocation.
//!
//! Names and values are bytes, not `str`: `PromQL` literals may hold invalid UTF-8 and must survive.
//! An empty value means that the label is absent, so a set never holds one.
//! The store keeps interned ids instead; a `Labels` is the materialised form, made for output, for
//! the engine and for the cold path of a scrape.
//!
//! Compat: prometheus `model/labels`, `Labels` (stringlabels) and `Builder`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// The label that carries the metric's name.
pub const METRIC_NAME: &[u8] = b"__name__";

/// The labels in which type and unit of a metric are kept, where that is asked for.
pub const METRIC_TYPE: &[u8] = b"__type__";
pub const METRIC_UNIT: &[u8] = b"__unit__";

/// An immutable label set, cheap to clone.
///
/// Encoded as pairs in ascending order of name, each name and value behind its length: one byte below
/// 255, else 255 and three bytes little endian (a label is far below 16 MiB by the limits of its readers).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

static EMPTY: LazyLock<Arc<[u8]>> = LazyLock::new(|| Arc::from([]));

impl Labels {
    pub fn empty() -> Self {
        Self(Arc::clone(&EMPTY))
    }

    /// Builds a set from pairs in any order; of equal names the last wins, empty values are dropped.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a set from pairs whose names strictly ascend and whose values are not empty.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut bytes = Vec::with_capacity(192);
        Self::pack_sorted(pairs, &mut bytes);
        let labels = Self(bytes.into());
        debug_assert!(labels.is_strictly_ascending(), "BUG: labels built from unsorted pairs: {labels}");
        labels
    }

    /// Appends the bytes of the set that [`Labels::from_sorted`] would build; [`unpack`] reads them.
    pub fn pack_sorted<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
        for (name, value) in pairs {
            push_bytes(out, name);
            push_bytes(out, value);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of labels; walks the set.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of `name`, or `None` if the set lacks it.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        for (n, value) in self {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(value),
                Ordering::Greater => break,
            }
        }
        None
    }

    /// The metric name, or an empty slice.
    pub fn metric_name(&self) -> &[u8] {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// The set without the labels for which `drop` says so.
    #[must_use]
    pub fn without(&self, drop: impl Fn(&[u8]) -> bool) -> Self {
        // Mostly one label falls and what stays is in one piece, which is copied as it is.
        let (mut kept, mut n_pieces) = (0..0, 0);
        let mut pairs = self.iter();
        let mut start = 0;
        while let Some((name, _)) = pairs.next() {
            let end = self.0.len() - pairs.rest().len();
            if !drop(name) {
                if n_pieces == 0 || kept.end != start {
                    n_pieces += 1;
                    kept = start..end;
                }
                kept.end = end;
            }
            start = end;
        }
        match n_pieces {
            0 => Self::empty(),
            1 if kept.len() == self.0.len() => self.clone(),
            1 => Self(self.0[kept].into()),
            _ => Self::from_sorted(self.iter().filter(|&(name, _)| !drop(name))),
        }
    }

    /// The bytes of the encoded set: equal sets have equal bytes, their order means nothing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pairs as text, bytes that are not UTF-8 replaced; for the cold readers (templates, views).
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (lossy(name), lossy(value))).collect()
    }

    fn is_strictly_ascending(&self) -> bool {
        self.iter().zip(self.iter().skip(1)).all(|(a, b)| a.0 < b.0)
            && self.iter().all(|(_, value)| !value.is_empty())
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(len) if len < u8::MAX => out.push(len),
        _ => {
            let len = u32::try_from(bytes.len()).expect("a label is shorter than 4 GiB");
            assert!(len < 1 << 24, "BUG: label of {len} bytes passed the limits");
            out.push(u8::MAX);
            out.extend_from_slice(&len.to_le_bytes()[..3]);
        }
    }
    out.extend_from_slice(bytes);
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

/// Compares label by label (name, then value, by bytes); a prefix sorts first.
/// Compat: prometheus `model/labels`, `Compare`.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        // Sets that are sorted share most of their labels: only the first pair that differs is looked at.
        let same = common_prefix(&self.0, &other.0);
        let mut pairs = self.iter();
        let mut start = 0;
        while !pairs.rest.is_empty() {
            pairs.next();
            let end = self.0.len() - pairs.rest.len();
            if end > same {
                break;
            }
            start = end;
        }
        let (mut mine, mut theirs) = (Iter { rest: &self.0[start..] }, Iter { rest: &other.0[start..] });
        mine.next().cmp(&theirs.next())
    }
}

/// How many bytes two slices begin with in common.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (words, _) = a.as_chunks::<8>();
    let (others, _) = b.as_chunks::<8>();
    for (i, (x, y)) in words.iter().zip(others).enumerate() {
        let difference = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if difference != 0 {
            return i * 8 + difference.trailing_zeros() as usize / 8;
        }
    }
    let from = words.len().min(others.len()) * 8;
    from + a[from..].iter().zip(&b[from..]).take_while(|(x, y)| x == y).count()
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `{a="x", b="y"}`, names that are not legacy-valid quoted as Go's `%q`, values always.
/// Compat: prometheus `model/labels`, `Labels.String`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                f.write_str(&lossy(name))?;
            } else {
                f.write_str(&crate::quote::go_quote(name))?;
            }
            write!(f, "={}", crate::quote::go_quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether `name` matches `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &[u8]) -> bool {
    is_legacy_name(name, false)
}

/// Whether `name` matches `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &[u8]) -> bool {
    is_legacy_name(name, true)
}

fn is_legacy_name(name: &[u8], colons: bool) -> bool {
    let is_start = |b: u8| b.is_ascii_alphabetic() || b == b'_' || (colons && b == b':');
    name.first().is_some_and(|&b| is_start(b)) && name.iter().all(|&b| is_start(b) || b.is_ascii_digit())
}

/// The pairs of a set in ascending order of name.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

/// The pairs of a set whose bytes [`Labels::as_bytes`] gave.
pub fn unpack(packed: &[u8]) -> Iter<'_> {
    Iter { rest: packed }
}

impl<'a> Iter<'a> {
    /// The bytes of the pairs to come.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self) -> &'a [u8] {
        let (len, header) = match self.rest[0] {
            u8::MAX => (u32::from_le_bytes([self.rest[1], self.rest[2], self.rest[3], 0]) as usize, 4),
            len => (usize::from(len), 1),
        };
        let (bytes, rest) = self.rest[header..].split_at(len);
        self.rest = rest;
        bytes
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some((self.take(), self.take()))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// A label set under change: set and delete by name, then [`LabelsBuilder::build`].
///
/// Keeps its memory through [`LabelsBuilder::clear`], so that a loop that owns one does not allocate.
#[derive(Clone, Default)]
pub struct LabelsBuilder {
    /// Where name and value lie in `text`, sorted by name, no empty values.
    pairs: Vec<Pair>,
    /// Names and values; what was replaced stays until there is too much of it.
    text: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Pair {
    name: Span,
    value: Span,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// The garbage that is kept at most beside an equal amount of text.
const GARBAGE_BYTES_MAX: usize = 16 << 10;

impl LabelsBuilder {
    pub fn clear(&mut self) {
        self.pairs.clear();
        self.text.clear();
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.position(name).ok().map(|i| self.at(self.pairs[i].value))
    }

    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        match (self.position(name), value.is_empty()) {
            (Ok(i), true) => drop(self.pairs.remove(i)),
            (Ok(i), false) => {
                let value = self.append(value);
                self.pairs[i].value = value;
                self.collect_garbage();
            }
            (Err(_), true) => {}
            (Err(i), false) => {
                let pair = Pair { name: self.append(name), value: self.append(value) };
                self.pairs.insert(i, pair);
                self.collect_garbage();
            }
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        self.set(name, b"");
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { pairs, text } = self;
        let at = |span: Span| &text[span.start..span.end];
        pairs.retain(|pair| keep(at(pair.name), at(pair.value)));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|pair| (self.at(pair.name), self.at(pair.value)))
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.pairs.binary_search_by(|pair| self.at(pair.name).cmp(name))
    }

    fn at(&self, span: Span) -> &[u8] {
        &self.text[span.start..span.end]
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        Span { start, end: self.text.len() }
    }

    fn collect_garbage(&mut self) {
        if self.text.len() <= GARBAGE_BYTES_MAX {
            return;
        }
        let used: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.text.len() > GARBAGE_BYTES_MAX + 2 * used {
            let mut fresh =
                Self { pairs: Vec::with_capacity(self.pairs.len()), text: Vec::with_capacity(used) };
            for (name, value) in self.iter() {
                let pair = Pair { name: fresh.append(name), value: fresh.append(value) };
                fresh.pairs.push(pair);
            }
            *self = fresh;
        }
    }
}

impl fmt::Debug for LabelsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (lossy(name), lossy(value)))).finish()
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        let mut builder = Self::default();
        for (name, value) in labels {
            let pair = Pair { name: builder.append(name), value: builder.append(value) };
            builder.pairs.push(pair);
        }
        builder
    }
}

#[cfg(test)]
mod tests;
