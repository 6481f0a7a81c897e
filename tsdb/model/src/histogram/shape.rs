//! The same counts in other buckets: coarser ones, fewer empty ones; and whether two histograms are the same.
//!
//! Compat: prometheus `model/histogram`, `ReduceResolution`, `Compact` and `Equals`.

use super::{BucketCount, Buckets, InvalidHistogram, Span};
use crate::elementary::kahan_add;

/// A number that is compared as data.
pub trait Bits: Copy {
    fn is_same(self, other: Self) -> bool;
}

impl Bits for u64 {
    fn is_same(self, other: Self) -> bool {
        self == other
    }
}

impl Bits for i64 {
    fn is_same(self, other: Self) -> bool {
        self == other
    }
}

impl Bits for f64 {
    fn is_same(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl<C, B: BucketCount> Buckets<C, B> {
    /// Merges exponential buckets to those of `schema`, which is below the present one.
    ///
    /// # Errors
    /// Spans and buckets contradict each other, or the buckets are custom ones; the histogram is left as it was.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), InvalidHistogram> {
        let is_possible = !self.uses_custom_buckets() && schema < self.schema;
        let shift = is_possible.then(|| self.schema.abs_diff(schema)).filter(|&shift| shift < 63);
        let shift = shift.ok_or(InvalidHistogram::InvalidSchema)?;
        for (spans, buckets) in [
            (&self.positive_spans, self.positive_buckets.len()),
            (&self.negative_spans, self.negative_buckets.len()),
        ] {
            if spans.iter().skip(1).any(|span| span.offset < 0) {
                return Err(InvalidHistogram::SpanNegativeOffset);
            }
            if spans.iter().map(|span| u64::from(span.length)).sum::<u64>() != buckets as u64 {
                return Err(InvalidHistogram::SpansBucketsMismatch);
            }
        }
        reduce(&mut self.positive_spans, &mut self.positive_buckets, shift);
        reduce(&mut self.negative_spans, &mut self.negative_buckets, shift);
        self.schema = schema;
        Ok(())
    }

    /// Cuts out empty buckets where more than `empty_max` follow each other or they begin or end a span; fills
    /// smaller gaps between spans.
    ///
    /// The histogram must be well-formed.
    pub fn compact(&mut self, empty_max: u32) {
        compact(&mut self.positive_spans, &mut self.positive_buckets, empty_max);
        compact(&mut self.negative_spans, &mut self.negative_buckets, empty_max);
    }
}

impl<C: Bits, B: Bits> Buckets<C, B> {
    /// Whether both hold the same data, compared by bits; hints do not count, nor do spans without buckets.
    pub fn is_same(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.count.is_same(other.count)
            && self.sum.is_same(other.sum)
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
            && self.zero_threshold == other.zero_threshold
            && self.zero_count.is_same(other.zero_count)
            && filled(&self.negative_spans).eq(filled(&other.negative_spans))
            && are_same(&self.negative_buckets, &other.negative_buckets)
            && filled(&self.positive_spans).eq(filled(&other.positive_spans))
            && are_same(&self.positive_buckets, &other.positive_buckets)
    }
}

fn are_same<B: Bits>(a: &[B], b: &[B]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(*b))
}

/// Offset and length of the spans that have buckets.
fn filled(spans: &[Span]) -> impl Iterator<Item = (i64, u32)> + '_ {
    let mut offset = 0;
    spans.iter().filter_map(move |span| {
        offset += i64::from(span.offset);
        (span.length > 0).then(|| (std::mem::take(&mut offset), span.length))
    })
}

/// The index of each bucket with its count.
fn counted<B: BucketCount>(spans: &[Span], buckets: &[B]) -> Vec<(i64, B)> {
    let mut next = 0;
    let indices = spans.iter().flat_map(|span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    });
    indices.zip(B::absolute(buckets).iter().copied()).collect()
}

/// Spans and buckets of counts at ascending indices.
fn assemble<B: BucketCount>(counted: &[(i64, B)]) -> (Vec<Span>, Vec<B>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for &(index, _) in counted {
        if let Some(span) = spans.last_mut().filter(|_| index == next) {
            span.length += 1;
        } else {
            let offset = i32::try_from(index - next).unwrap_or(i32::MAX);
            spans.push(Span { offset, length: 1 });
        }
        next = index + 1;
    }
    (spans, B::from_absolute(counted.iter().map(|&(_, count)| count).collect()))
}

/// The indices that were pushed, as spans.
#[derive(Default)]
struct Spans {
    spans: Vec<Span>,
    next: i64,
}

impl Spans {
    fn push(&mut self, index: i64) {
        if let Some(span) = self.spans.last_mut().filter(|_| index == self.next) {
            span.length += 1;
        } else {
            let offset = i32::try_from(index - self.next).unwrap_or(i32::MAX);
            self.spans.push(Span { offset, length: 1 });
        }
        self.next = index + 1;
    }
}

/// The counts of one side in the buckets of a schema coarser by `shift`.
pub(super) fn reduced(spans: &[Span], counts: &[f64], shift: u32) -> (Vec<Span>, Vec<f64>) {
    let mut merged: Vec<f64> = Vec::with_capacity((counts.len() >> shift.min(8)) + 2 * spans.len() + 1);
    let mut targets = Spans::default();
    let mut index = 0;
    let mut rest = counts;
    for span in spans {
        index += i64::from(span.offset);
        let (run, behind) = rest.split_at((span.length as usize).min(rest.len()));
        rest = behind;
        for &count in run {
            let target = coarser(index, shift);
            match merged.last_mut() {
                Some(sum) if target + 1 == targets.next => *sum += count,
                _ => {
                    merged.push(count);
                    targets.push(target);
                }
            }
            index += 1;
        }
    }
    (targets.spans, merged)
}

/// Merges the buckets of one side to those of a schema coarser by `shift`.
fn reduce<B: BucketCount>(spans: &mut Vec<Span>, buckets: &mut Vec<B>, shift: u32) {
    let mut merged: Vec<(i64, B)> = Vec::with_capacity(buckets.len());
    for (index, count) in counted(spans, buckets) {
        let target = coarser(index, shift);
        match merged.last_mut().filter(|(last, _)| *last == target) {
            Some((_, sum)) => *sum = sum.add(count),
            None => merged.push((target, count)),
        }
    }
    (*spans, *buckets) = assemble(&merged);
}

/// As [`reduce`], where `cs` are what sums in the buckets have lost.
pub(super) fn reduce_compensated(
    spans: &mut Vec<Span>,
    buckets: &mut Vec<f64>,
    cs: &mut Vec<f64>,
    shift: u32,
) {
    let mut merged: Vec<(i64, f64)> = Vec::with_capacity(buckets.len());
    let mut lost: Vec<f64> = Vec::with_capacity(buckets.len());
    for ((index, count), &c) in counted(spans, buckets).into_iter().zip(&*cs) {
        let target = coarser(index, shift);
        if let (Some((last, sum)), Some(sum_c)) = (merged.last_mut(), lost.last_mut())
            && *last == target
        {
            for inc in [count, c] {
                (*sum, *sum_c) = kahan_add(inc, *sum, *sum_c);
            }
        } else {
            merged.push((target, count));
            lost.push(c);
        }
    }
    (*spans, *buckets) = assemble(&merged);
    *cs = lost;
}

/// Bucket i ends at base^i, so that the ones that end together count from 1.
fn coarser(index: i64, shift: u32) -> i64 {
    ((index - 1) >> shift) + 1
}

fn compact<B: BucketCount>(spans: &mut Vec<Span>, buckets: &mut Vec<B>, empty_max: u32) {
    if is_compact(spans, &B::absolute(buckets), empty_max) {
        return;
    }
    if empty_max == 0 && B::IS_COUNT {
        return cut_empty(spans, buckets);
    }
    let mut kept: Vec<(i64, B)> = Vec::with_capacity(buckets.len());
    // Empty buckets since the last one that was kept: they stay as they are if nothing is missing between them.
    let mut empty: Vec<(i64, B)> = Vec::new();
    for (index, count) in counted(spans, buckets) {
        if count == B::default() {
            empty.push((index, count));
            continue;
        }
        if let Some(&(last, _)) = kept.last()
            && index - last - 1 <= i64::from(empty_max)
        {
            if usize::try_from(index - last - 1) == Ok(empty.len()) {
                kept.append(&mut empty);
            } else {
                kept.extend((last + 1..index).map(|empty| (empty, B::default())));
            }
        }
        empty.clear();
        kept.push((index, count));
    }
    (*spans, *buckets) = assemble(&kept);
}

/// Cuts all empty buckets out of counts, in place.
fn cut_empty<B: BucketCount>(spans: &mut Vec<Span>, counts: &mut Vec<B>) {
    let mut kept = Spans::default();
    let (mut index, mut from, mut to) = (0, 0, 0);
    for span in &*spans {
        index += i64::from(span.offset);
        for _ in 0..(span.length as usize).min(counts.len() - from) {
            if counts[from] != B::default() {
                counts[to] = counts[from];
                to += 1;
                kept.push(index);
            }
            from += 1;
            index += 1;
        }
    }
    counts.truncate(to);
    *spans = kept.spans;
}

/// Whether there is nothing to cut out and nothing to fill.
fn is_compact<B: BucketCount>(spans: &[Span], counts: &[B], empty_max: u32) -> bool {
    let is_apart = |span: &Span| i64::from(span.offset) > i64::from(empty_max);
    spans.iter().all(|span| span.length > 0)
        && spans.iter().skip(1).all(is_apart)
        && counts.iter().all(|&count| count != B::default())
}

/// Cuts out all buckets that are empty and have lost nothing.
pub(super) fn compact_compensated(spans: &mut Vec<Span>, buckets: &mut Vec<f64>, cs: &mut Vec<f64>) {
    let all = counted(spans, buckets);
    let cells: Vec<((i64, f64), f64)> =
        all.into_iter().zip(cs.iter().copied()).filter(|&((_, count), c)| count != 0.0 || c != 0.0).collect();
    let (kept, lost): (Vec<(i64, f64)>, Vec<f64>) = cells.into_iter().unzip();
    (*spans, *buckets) = assemble(&kept);
    *cs = lost;
}
