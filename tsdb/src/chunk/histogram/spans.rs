//! Sets of buckets as spans: which buckets two of them have, and counts moved from one set to another.
//!
//! Compat: prometheus `tsdb/chunkenc`, `expandIntSpansAndBuckets`, `expandSpansBothWays` and `insert`.

use std::cmp::Ordering;

use model::histogram::Span;

/// The indices of the buckets in `spans`, ascending.
pub(super) fn indices(spans: &[Span]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0_i64;
    spans.iter().flat_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    })
}

/// How many buckets `spans` have.
pub(super) fn count(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

/// The shortest spans of ascending `indices`.
pub(super) fn from_indices(indices: &[i64]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for &index in indices {
        if let Some(span) = spans.last_mut().filter(|_| index == next) {
            span.length += 1;
        } else {
            // Gaps lie within those of the spans that the indices came from, which are 32 bits wide.
            let offset = i32::try_from(index - next).unwrap_or(i32::MAX);
            spans.push(Span { offset, length: 1 });
        }
        next = index + 1;
    }
    spans
}

/// The shortest spans with the buckets of both.
pub(super) fn union(a: &[Span], b: &[Span]) -> Vec<Span> {
    let indices: Vec<i64> = pair(a, b).map(|bucket| bucket.index).collect();
    from_indices(&indices)
}

/// A bucket of either of two sets, with its position in each.
pub(super) struct Paired {
    pub(super) index: i64,
    pub(super) old: Option<usize>,
    pub(super) new: Option<usize>,
}

/// The buckets of both sets in order.
pub(super) fn pair<'a>(old: &'a [Span], new: &'a [Span]) -> impl Iterator<Item = Paired> + 'a {
    let mut olds = indices(old).enumerate().peekable();
    let mut news = indices(new).enumerate().peekable();
    std::iter::from_fn(move || {
        let order = match (olds.peek(), news.peek()) {
            (Some((_, a)), Some((_, b))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        let index = old.or(new)?.1;
        Some(Paired { index, old: old.map(|(at, _)| at), new: new.map(|(at, _)| at) })
    })
}

/// What a new set of buckets asks of an old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The old set lacks buckets of the new.
    pub(super) grows: bool,
    /// The new set lacks buckets of the old.
    pub(super) lacks: bool,
}

/// Compares two sets alone.
pub(super) fn compare(old: &[Span], new: &[Span]) -> Difference {
    let mut difference = Difference::default();
    if old != new {
        for bucket in pair(old, new) {
            difference.grows |= bucket.old.is_none();
            difference.lacks |= bucket.new.is_none();
        }
    }
    difference
}

/// Compares two sets with absolute counts; `None` if any count went back, or a bucket vanished that was not empty.
pub(super) fn compare_counts<V: PartialOrd + Default>(
    old: (&[Span], &[V]),
    new: (&[Span], &[V]),
) -> Option<Difference> {
    let mut difference = Difference::default();
    for bucket in pair(old.0, new.0) {
        let before = bucket.old.and_then(|at| old.1.get(at));
        let after = bucket.new.and_then(|at| new.1.get(at));
        match (before, after) {
            (Some(a), Some(b)) if a > b => return None,
            (Some(_), Some(_)) => {}
            (Some(a), None) if *a == V::default() => difference.lacks = true,
            (Some(_), None) => return None,
            (None, _) => difference.grows = true,
        }
    }
    Some(difference)
}

/// Absolute counts in the buckets of `from`, put into those of `to`, which has all of them; the others are empty.
pub(super) fn spread<V: Copy + Default>(counts: &[V], from: &[Span], to: &[Span]) -> Vec<V> {
    pair(from, to)
        .map(|bucket| bucket.old.and_then(|at| counts.get(at)).copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    #[test]
    fn indices_skip_gaps_and_empty_spans() {
        let all: Vec<_> = indices(&spans(&[(-2, 2), (1, 0), (2, 3)])).collect();
        assert_eq!(all, [-2, -1, 3, 4, 5]);
        assert_eq!(from_indices(&all), spans(&[(-2, 2), (3, 3)]));
        assert_eq!(from_indices(&[]), []);
        assert_eq!(count(&spans(&[(-2, 2), (1, 0), (2, 3)])), 5);
    }

    #[test]
    fn differences_both_ways() {
        let (old, new) = (spans(&[(0, 2), (1, 1)]), spans(&[(1, 3)]));
        // 0 1 . 3 against 1 2 3
        assert_eq!(compare(&old, &new), Difference { grows: true, lacks: true });
        assert_eq!(compare_counts((&old, &[0, 4, 5]), (&new, &[4, 0, 6])), Some(compare(&old, &new)));
        assert_eq!(compare_counts((&old, &[1, 4, 5]), (&new, &[4, 0, 6])), None, "a filled bucket vanished");
        assert_eq!(compare_counts((&old, &[0, 4, 5]), (&new, &[3, 0, 6])), None, "a count went back");
        assert_eq!(spread(&[4, 7, 6], &new, &spans(&[(0, 5)])), [0, 4, 7, 6, 0]);
    }
}
