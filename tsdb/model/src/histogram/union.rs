//! The buckets of two sides, laid over each other: which runs of indices are in one, in the other or in both.
//!
//! Works on spans, bucket by bucket only where counts are touched. A sum into a layout that already has all buckets asks
//! for no memory.
//!
//! Compat: prometheus `model/histogram`, `addBuckets`: the spans that come out are the same, adjacent ones included.

use super::Span;

/// Buckets that follow each other, in the first side, the second or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) len: usize,
    /// Where its buckets are.
    pub(super) first: Option<usize>,
    pub(super) second: Option<usize>,
}

/// Calls `f` with the places of the buckets that both sides have, run by run: in the first, in the second, how many.
/// `false`, and not with all, if the first lacks one of the second.
#[inline]
pub(super) fn common_runs(
    mut first: Runs<'_>,
    mut second: Runs<'_>,
    mut f: impl FnMut(usize, usize, usize),
) -> bool {
    while second.len > 0 {
        while first.len > 0 && first.end() <= second.index {
            first.advance(first.len);
        }
        if first.len == 0 || first.index > second.index {
            return false;
        }
        first.advance(usize::try_from(second.index - first.index).unwrap_or(usize::MAX).min(first.len));
        let n = first.len.min(second.len);
        f(first.at, second.at, n);
        first.advance(n);
        second.advance(n);
    }
    true
}

/// Calls `f` with the pieces of both sides, indices ascending, and gives the spans of all: those of the first side stay
/// apart even where they touch now; what is new prolongs the span before it, else begins the one behind it.
pub(super) fn merge_runs(mut first: Runs<'_>, mut second: Runs<'_>, mut f: impl FnMut(Piece)) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::with_capacity(first.spans.len() + second.spans.len() + 2);
    let mut end = 0;
    // Whether the last span is one new bucket that may still become the beginning of the next span.
    let mut alone = false;
    while first.len > 0 || second.len > 0 {
        let in_first = first.len > 0 && (second.len == 0 || first.index <= second.index);
        let in_second = second.len > 0 && (first.len == 0 || second.index <= first.index);
        let until = |other: &Runs<'_>, from: i64| {
            if other.len == 0 {
                usize::MAX
            } else {
                usize::try_from(other.index - from).unwrap_or(usize::MAX)
            }
        };
        let (index, len) = match (in_first, in_second) {
            (true, true) => (first.index, first.len.min(second.len)),
            (true, false) => (first.index, first.len.min(until(&second, first.index))),
            _ => (second.index, second.len.min(until(&first, second.index))),
        };
        let touches = !spans.is_empty() && index == end;
        let continues = if in_first { !first.starts || (touches && alone) } else { touches };
        let length = u32::try_from(len).unwrap_or(u32::MAX);
        if let Some(span) = spans.last_mut().filter(|_| continues) {
            span.length += length;
            alone = false;
        } else {
            spans.push(Span { offset: i32::try_from(index - end).unwrap_or(i32::MAX), length });
            alone = !in_first && len == 1;
        }
        end = index + i64::try_from(len).unwrap_or(i64::MAX);
        f(Piece { len, first: in_first.then_some(first.at), second: in_second.then_some(second.at) });
        if in_first {
            first.advance(len);
        }
        if in_second {
            second.advance(len);
        }
    }
    spans
}

/// The runs of one side: spans without the empty ones, no further than there are buckets.
#[derive(Clone)]
pub(super) struct Runs<'a> {
    spans: &'a [Span],
    /// The run in front, with nothing in it behind the last one.
    index: i64,
    at: usize,
    len: usize,
    /// Whether its span begins with it.
    starts: bool,
    n_buckets: usize,
}

impl<'a> Runs<'a> {
    pub(super) fn new(spans: &'a [Span], n_buckets: usize) -> Self {
        let mut runs = Self { spans, index: 0, at: 0, len: 0, starts: true, n_buckets };
        runs.load();
        runs
    }

    fn end(&self) -> i64 {
        self.index + i64::try_from(self.len).unwrap_or(i64::MAX)
    }

    fn load(&mut self) {
        while self.len == 0
            && let Some((span, rest)) = self.spans.split_first()
        {
            self.spans = rest;
            self.index += i64::from(span.offset);
            self.len = (span.length as usize).min(self.n_buckets - self.at);
            self.starts = true;
        }
    }

    /// Leaves `n` buckets of the run in front behind.
    #[inline]
    fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.len, "no further than the run");
        self.index += i64::try_from(n).unwrap_or(i64::MAX);
        self.at += n;
        self.len -= n;
        self.starts = self.starts && n == 0;
        if self.len == 0 {
            self.load();
        }
    }

    /// Leaves `n` buckets behind.
    pub(super) fn skip(mut self, mut n: usize) -> Self {
        while n > 0 && self.len > 0 {
            let taken = n.min(self.len);
            self.advance(taken);
            n -= taken;
        }
        self
    }
}
