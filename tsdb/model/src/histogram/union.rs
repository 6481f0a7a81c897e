//! The buckets of two sides, laid over each other: which runs of indices are in one, in the other or in both.
//!
//! Works on spans and asks for no memory, so that a sum into a layout that already has all buckets asks for none.
//!
//! Compat: prometheus `model/histogram`, `addBuckets`: the spans that come out are the same, adjacent ones included.

use super::Span;

/// Buckets that follow each other, in the first side, the second or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    index: i64,
    pub(super) len: usize,
    /// Where its buckets are.
    pub(super) first: Option<usize>,
    pub(super) second: Option<usize>,
    /// Whether a span of the first side begins with it.
    starts: bool,
}

/// The pieces of two sides, indices ascending.
#[derive(Clone)]
pub(super) struct Union<'a> {
    first: Runs<'a>,
    second: Runs<'a>,
}

impl<'a> Union<'a> {
    /// The sides as spans and number of buckets; the first `skipped` buckets of the second are not there.
    pub(super) fn new(first: (&'a [Span], usize), second: (&'a [Span], usize), skipped: usize) -> Self {
        let mut second = Runs::new(second.0, second.1);
        second.skip(skipped);
        Self { first: Runs::new(first.0, first.1), second }
    }

    /// Whether the first side has all buckets of the second.
    pub(super) fn is_first(&self) -> bool {
        self.clone().all(|piece| piece.first.is_some())
    }

    /// The spans of all pieces: those of the first side stay apart even where they touch now, what is new prolongs
    /// the span before it, else begins the one behind it.
    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut end = 0;
        // Whether the last span is one new bucket that may still become the beginning of the next span.
        let mut alone = false;
        for piece in self.clone() {
            let touches = !spans.is_empty() && piece.index == end;
            let continues = if piece.first.is_some() { !piece.starts || (touches && alone) } else { touches };
            let length = u32::try_from(piece.len).unwrap_or(u32::MAX);
            if let Some(span) = spans.last_mut().filter(|_| continues) {
                span.length += length;
                alone = false;
            } else {
                let offset = i32::try_from(piece.index - end).unwrap_or(i32::MAX);
                spans.push(Span { offset, length });
                alone = piece.first.is_none() && piece.len == 1;
            }
            end = piece.index + i64::try_from(piece.len).unwrap_or(i64::MAX);
        }
        spans
    }
}

impl Iterator for Union<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let until = |other: Option<Run>, from: i64| {
            other.map_or(usize::MAX, |run| usize::try_from(run.index - from).unwrap_or(usize::MAX))
        };
        let (first, second) = (self.first.peek(), self.second.peek());
        let (index, len) = match (first, second) {
            (None, None) => return None,
            (Some(a), b) if b.is_none_or(|b| a.index < b.index) => (a.index, a.len.min(until(b, a.index))),
            (Some(a), Some(b)) if a.index == b.index => (a.index, a.len.min(b.len)),
            (a, Some(b)) => (b.index, b.len.min(until(a, b.index))),
            (Some(_), None) => unreachable!("taken by the second arm"),
        };
        let at = |run: Option<Run>| run.filter(|run| run.index == index).map(|run| run.at);
        let piece = Piece {
            index,
            len,
            first: at(first),
            second: at(second),
            starts: first.is_some_and(|a| a.starts),
        };
        if piece.first.is_some() {
            self.first.skip(len);
        }
        if piece.second.is_some() {
            self.second.skip(len);
        }
        Some(piece)
    }
}

#[derive(Clone, Copy)]
struct Run {
    index: i64,
    at: usize,
    len: usize,
    /// Whether its span begins with it.
    starts: bool,
}

/// The runs of one side: spans without the empty ones, no further than there are buckets.
#[derive(Clone)]
struct Runs<'a> {
    spans: std::slice::Iter<'a, Span>,
    /// The run in front; empty when used up.
    run: Run,
    n_buckets: usize,
}

impl<'a> Runs<'a> {
    fn new(spans: &'a [Span], n_buckets: usize) -> Self {
        Self { spans: spans.iter(), run: Run { index: 0, at: 0, len: 0, starts: true }, n_buckets }
    }

    fn peek(&mut self) -> Option<Run> {
        while self.run.len == 0 {
            let span = self.spans.next()?;
            self.run.index += i64::from(span.offset);
            self.run.len = (span.length as usize).min(self.n_buckets - self.run.at);
            self.run.starts = true;
        }
        Some(self.run)
    }

    fn skip(&mut self, mut n: usize) {
        while n > 0 && self.peek().is_some() {
            let taken = n.min(self.run.len);
            self.run.index += i64::try_from(taken).unwrap_or(i64::MAX);
            self.run.at += taken;
            self.run.len -= taken;
            self.run.starts = false;
            n -= taken;
        }
    }
}
