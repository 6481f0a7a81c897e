//! Columns of values over the steps of a query: `f64` values and a bitmap that says which are there, native
//! histograms in a sparse column beside them.
//!
//! NaN is a value like any other and never means absent. What a slot holds whose bit is clear is not
//! defined, so operators may compute on it and must not show it.

use std::sync::Arc;

use model::{FloatHistogram, HistogramPoints, Labels, Timestamp};

use super::budget::{Budget, Charge};
use super::element::ValueRef;
use crate::engine::Error;

/// The times at which an expression is evaluated: `len` steps from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start: Timestamp,
    pub(crate) step: i64,
    pub(crate) len: usize,
}

impl Grid {
    pub(crate) fn time(self, step: usize) -> Timestamp {
        self.start + self.step * i64::try_from(step).expect("a grid has fewer than 2^63 steps")
    }

    /// The last time; the start of an empty grid.
    pub(crate) fn end(self) -> Timestamp {
        self.time(self.len.saturating_sub(1))
    }

    /// Words of a bitmap over the steps.
    pub(crate) fn words(self) -> usize {
        self.len.div_ceil(64)
    }

    pub(crate) fn first_step(self) -> Self {
        Self { step: 1, len: self.len.min(1), ..self }
    }

    /// Whether it begins and ends at one time: an instant query, what is the same at all steps, a subquery of one
    /// point where it was asked. There results have an order, and sorting has an effect.
    pub(crate) fn is_point(self) -> bool {
        self.step == 1 && self.len == 1
    }
}

/// One output series: its labels, and whether the metric name falls at the end (delayed removal).
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
}

/// A scalar at every step.
#[derive(Clone, Debug)]
pub(crate) enum Scalars {
    Const(f64),
    Steps(Arc<Steps>),
}

/// A value per step, on the query's account.
#[derive(Debug)]
pub(crate) struct Steps {
    values: Box<[f64]>,
    _charge: Option<Charge>,
}

impl std::ops::Deref for Steps {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values
    }
}

impl Scalars {
    /// One value per step; their memory is reserved first.
    pub(crate) fn steps(
        budget: &Arc<Budget>,
        values: impl ExactSizeIterator<Item = f64>,
    ) -> Result<Self, Error> {
        let charge = budget.charge(values.len().saturating_mul(size_of::<f64>()))?;
        Ok(Self::Steps(Arc::new(Steps { values: values.collect(), _charge: Some(charge) })))
    }

    /// `len` steps from `first` on, as a copy that is too small to be on the account.
    pub(crate) fn part(&self, first: usize, len: usize) -> Self {
        match self {
            Self::Const(v) => Self::Const(*v),
            Self::Steps(vs) => {
                Self::Steps(Arc::new(Steps { values: vs[first..first + len].into(), _charge: None }))
            }
        }
    }

    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Self::Const(v) => *v,
            Self::Steps(vs) => vs[step],
        }
    }

    pub(crate) fn map(&self, budget: &Arc<Budget>, f: impl Fn(f64) -> f64) -> Result<Self, Error> {
        match self {
            Self::Const(v) => Ok(Self::Const(f(*v))),
            Self::Steps(vs) => Self::steps(budget, vs.iter().map(|&v| f(v))),
        }
    }

    pub(crate) fn zip(
        &self,
        other: &Self,
        budget: &Arc<Budget>,
        f: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, Error> {
        match (self, other) {
            (Self::Const(a), Self::Const(b)) => Ok(Self::Const(f(*a, *b))),
            (Self::Const(a), Self::Steps(b)) => Self::steps(budget, b.iter().map(|&b| f(*a, b))),
            (Self::Steps(a), Self::Const(b)) => Self::steps(budget, a.iter().map(|&a| f(a, *b))),
            (Self::Steps(a), Self::Steps(b)) => {
                Self::steps(budget, a.iter().zip(&***b).map(|(&a, &b)| f(a, b)))
            }
        }
    }
}

/// The histograms of one row, ascending by step; no step has a float too.
#[derive(Debug, Default)]
pub(crate) struct Histograms {
    points: Vec<(u32, Arc<FloatHistogram>)>,
    /// Those that were there before it was cleared, for their memory.
    old: Vec<Arc<FloatHistogram>>,
}

impl Clone for Histograms {
    fn clone(&self) -> Self {
        Self { points: self.points.clone(), old: Vec::new() }
    }

    fn clone_from(&mut self, other: &Self) {
        self.points.clone_from(&other.points);
    }
}

impl Histograms {
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.old.clear();
        self.old.extend(self.points.drain(..).map(|(_, histogram)| histogram));
    }

    /// Hands over what was there before it was cleared, if nobody else holds it, so that the next is made in its memory.
    pub(crate) fn lend(&mut self, to: &mut HistogramPoints) {
        self.old.drain(..).for_each(|histogram| to.recycle(histogram));
    }

    /// Appends the histogram of a step behind all others.
    pub(crate) fn push(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        let step = u32::try_from(step).expect("a query has fewer than 2^32 steps");
        debug_assert!(self.points.last().is_none_or(|(last, _)| *last < step), "histograms ascend by step");
        self.points.push((step, histogram));
    }

    pub(crate) fn get(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        let at = self.points.binary_search_by_key(&step, |(at, _)| *at as usize).ok()?;
        Some(&self.points[at].1)
    }

    pub(crate) fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = (usize, &Arc<FloatHistogram>)> + DoubleEndedIterator {
        self.points.iter().map(|(step, histogram)| (*step as usize, histogram))
    }

    pub(crate) fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (usize, &mut Arc<FloatHistogram>)> {
        self.points.iter_mut().map(|(step, histogram)| (*step as usize, histogram))
    }

    /// The histograms of the given steps.
    pub(crate) fn within(
        &self,
        steps: std::ops::Range<usize>,
    ) -> impl ExactSizeIterator<Item = (usize, &Arc<FloatHistogram>)> {
        let position = |step: usize| self.points.partition_point(|(at, _)| (*at as usize) < step);
        let points = &self.points[position(steps.start)..position(steps.end)];
        points.iter().map(|(step, histogram)| (*step as usize, histogram))
    }

    /// Keeps the histograms to which `keep` says yes; it may change them.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(usize, &mut Arc<FloatHistogram>) -> bool) {
        self.points.retain_mut(|(step, histogram)| keep(*step as usize, histogram));
    }

    /// Sets the bits of the steps that have a histogram.
    pub(crate) fn mark(&self, words: &mut [u64]) {
        self.points.iter().for_each(|(step, _)| bits::set(words, *step as usize));
    }

    /// Takes over the histograms of `other`, none of whose steps is taken.
    fn absorb(&mut self, other: &mut Self) {
        self.points.append(&mut other.points);
        self.points.sort_by_key(|(step, _)| *step);
    }

    /// The memory of the histograms; of one that is at several steps once.
    fn bytes(&self) -> usize {
        let is_first = |i: usize| i == 0 || !Arc::ptr_eq(&self.points[i - 1].1, &self.points[i].1);
        let first = (0..self.points.len()).filter(|&i| is_first(i));
        first.map(|i| weight(&self.points[i].1).saturating_mul(BYTES_PER_WEIGHT)).sum()
    }

    /// The histograms with their steps.
    pub(crate) fn into_points(self) -> impl Iterator<Item = (usize, Arc<FloatHistogram>)> {
        self.points.into_iter().map(|(step, histogram)| (step as usize, histogram))
    }

    /// What they count on the account of samples.
    pub(crate) fn weight(&self) -> usize {
        self.points.iter().map(|(_, histogram)| weight(histogram)).sum()
    }
}

/// The memory of what counts as one sample of a histogram: that of a float with its time.
const BYTES_PER_WEIGHT: usize = 16;

/// What a histogram counts on the account of samples.
pub(crate) fn weight(h: &FloatHistogram) -> usize {
    h.size_in_samples()
}

/// One row to be filled or changed in place.
pub(crate) struct Row<'a> {
    pub(crate) values: &'a mut [f64],
    /// Which steps have a float.
    pub(crate) present: &'a mut [u64],
    pub(crate) histograms: &'a mut Histograms,
}

impl Row<'_> {
    pub(crate) fn reborrow(&mut self) -> Row<'_> {
        Row { values: &mut *self.values, present: &mut *self.present, histograms: &mut *self.histograms }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && !bits::any(self.present)
    }

    pub(crate) fn set(&mut self, step: usize, v: f64) {
        self.values[step] = v;
        bits::set(self.present, step);
    }

    /// What the row counts on the account of samples.
    pub(crate) fn weight(&self) -> usize {
        bits::count(self.present) + self.histograms.weight()
    }
}

/// One row to be read.
#[derive(Clone, Copy)]
pub(crate) struct RowView<'a> {
    pub(crate) values: &'a [f64],
    /// Which steps have a float.
    pub(crate) present: &'a [u64],
    pub(crate) histograms: &'a Histograms,
}

impl<'a> RowView<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && !bits::any(self.present)
    }

    pub(crate) fn first_step(self) -> Option<usize> {
        let histogram = self.histograms.iter().next().map(|(step, _)| step);
        bits::ones(self.present).next().into_iter().chain(histogram).min()
    }

    pub(crate) fn last_step(self) -> Option<usize> {
        let float = self.present.iter().rposition(|&word| word != 0);
        let float = float.map(|w| w * 64 + 63 - self.present[w].leading_zeros() as usize);
        float.max(self.histograms.iter().next_back().map(|(step, _)| step))
    }

    /// What the row has at a step.
    pub(crate) fn get(self, step: usize) -> Option<ValueRef<'a>> {
        if bits::get(self.present, step) {
            return Some(ValueRef::Float(self.values[step]));
        }
        if self.histograms.is_empty() { None } else { self.histograms.get(step).map(ValueRef::Histogram) }
    }
}

/// Series × steps, row-major by series.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) series: Vec<Series>,
    pub(crate) grid: Grid,
    pub(crate) values: Vec<f64>,
    /// Which steps have a float.
    pub(crate) present: Vec<u64>,
    /// One per series.
    pub(crate) histograms: Vec<Histograms>,
    /// Keeps the memory and samples of this block on the query's account until it is dropped.
    pub(crate) charge: Option<Charge>,
}

impl Block {
    pub(crate) fn empty(grid: Grid) -> Self {
        Self {
            series: Vec::new(),
            grid,
            values: Vec::new(),
            present: Vec::new(),
            histograms: Vec::new(),
            charge: None,
        }
    }

    /// Rows of nothing; the caller has charged them.
    pub(crate) fn absent(series: Vec<Series>, grid: Grid, charge: Charge) -> Self {
        let (values, present) = (vec![0.0; series.len() * grid.len], vec![0; series.len() * grid.words()]);
        let histograms = vec![Histograms::default(); series.len()];
        Self { series, grid, values, present, histograms, charge: Some(charge) }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn values(&self, row: usize) -> &[f64] {
        &self.values[row * self.grid.len..][..self.grid.len]
    }

    pub(crate) fn present(&self, row: usize) -> &[u64] {
        &self.present[row * self.grid.words()..][..self.grid.words()]
    }

    pub(crate) fn histograms(&self, row: usize) -> &Histograms {
        &self.histograms[row]
    }

    pub(crate) fn view(&self, row: usize) -> RowView<'_> {
        let (values, present) = (self.values(row), self.present(row));
        RowView { values, present, histograms: &self.histograms[row] }
    }

    /// Appends a row, which the caller has charged.
    pub(crate) fn push_row(&mut self, series: Series, row: RowView<'_>) {
        self.series.push(series);
        self.values.extend_from_slice(row.values);
        self.present.extend_from_slice(row.present);
        self.histograms.push(row.histograms.clone());
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> Row<'_> {
        let (steps, words) = (self.grid.len, self.grid.words());
        Row {
            values: &mut self.values[row * steps..][..steps],
            present: &mut self.present[row * words..][..words],
            histograms: &mut self.histograms[row],
        }
    }

    /// The float of a row at a step.
    pub(crate) fn get(&self, row: usize, step: usize) -> Option<f64> {
        bits::get(self.present(row), step).then(|| self.values(row)[step])
    }

    /// Whether a row has a float or a histogram at a step.
    pub(crate) fn has(&self, row: usize, step: usize) -> bool {
        bits::get(self.present(row), step) || self.histograms[row].get(step).is_some()
    }

    pub(crate) fn set(&mut self, row: usize, step: usize, v: f64) {
        self.row_mut(row).set(step, v);
    }

    /// What the block counts on the account of samples.
    pub(crate) fn weight(&self) -> usize {
        bits::count(&self.present) + self.histograms.iter().map(Histograms::weight).sum::<usize>()
    }

    /// The memory of all histograms.
    pub(crate) fn histogram_bytes(&self) -> usize {
        self.histograms.iter().map(Histograms::bytes).sum()
    }

    /// Removes the rows without any point, which no consumer can see.
    pub(crate) fn drop_empty_rows(&mut self) {
        let is_filled = |row: usize| !self.histograms[row].is_empty() || bits::any(self.present(row));
        let keep: Vec<usize> = (0..self.len()).filter(|&row| is_filled(row)).collect();
        if keep.len() < self.len() {
            self.keep_rows(&keep);
        }
    }

    /// Keeps the rows named by `keep`, which ascends.
    fn keep_rows(&mut self, keep: &[usize]) {
        let (steps, words) = (self.grid.len, self.grid.words());
        for (to, &from) in keep.iter().enumerate() {
            self.values.copy_within(from * steps..(from + 1) * steps, to * steps);
            self.present.copy_within(from * words..(from + 1) * words, to * words);
            self.series.swap(to, from);
            self.histograms.swap(to, from);
        }
        self.series.truncate(keep.len());
        self.values.truncate(keep.len() * steps);
        self.present.truncate(keep.len() * words);
        self.histograms.truncate(keep.len());
    }

    /// Moves the points of row `from` into row `into`; `false` if both have one at some step. Whether the name goes in
    /// the end is as the earlier of them has it.
    pub(crate) fn merge_row(&mut self, into: usize, from: usize) -> bool {
        let (steps, words) = (self.grid.len, self.grid.words());
        let is_earlier = match (self.view(from).first_step(), self.view(into).first_step()) {
            (Some(from), Some(into)) => from < into,
            (from, _) => from.is_some(),
        };
        if self.histograms[from].iter().any(|(step, _)| self.has(into, step))
            || self.histograms[into].iter().any(|(step, _)| self.has(from, step))
        {
            return false;
        }
        let mut moved = std::mem::take(&mut self.histograms[from]);
        self.histograms[into].absorb(&mut moved);
        for w in 0..words {
            let moved = self.present[from * words + w];
            if self.present[into * words + w] & moved != 0 {
                return false;
            }
            for step in bits::ones_of(moved).map(|b| w * 64 + b) {
                self.values[into * steps + step] = self.values[from * steps + step];
            }
            self.present[into * words + w] |= moved;
            self.present[from * words + w] = 0;
        }
        if is_earlier {
            self.series[into].drop_name = self.series[from].drop_name;
        }
        true
    }
}

/// Bitmaps over steps.
pub(crate) mod bits {
    pub(crate) fn get(words: &[u64], i: usize) -> bool {
        words[i / 64] >> (i % 64) & 1 != 0
    }

    pub(crate) fn set(words: &mut [u64], i: usize) {
        words[i / 64] |= 1 << (i % 64);
    }

    pub(crate) fn unset(words: &mut [u64], i: usize) {
        words[i / 64] &= !(1 << (i % 64));
    }

    pub(crate) fn any(words: &[u64]) -> bool {
        words.iter().any(|&w| w != 0)
    }

    pub(crate) fn count(words: &[u64]) -> usize {
        words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The word with the bits of the first `n` steps from its start, `n` up to 64 and beyond.
    pub(crate) fn mask(n: usize) -> u64 {
        if n >= 64 { !0 } else { (1 << n) - 1 }
    }

    /// Sets the bits of all `n` steps.
    pub(crate) fn fill(words: &mut [u64], n: usize) {
        for (i, word) in words.iter_mut().enumerate() {
            *word = mask(n.saturating_sub(i * 64));
        }
    }

    pub(crate) fn ones_of(mut word: u64) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            let found = word != 0;
            word &= word.wrapping_sub(1);
            found.then_some(bit)
        })
    }

    /// The set bits as runs of steps.
    pub(crate) fn runs(words: &[u64]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let mut at = 0;
        // The first step from `from` on whose bit is `is_set`, or the end of the bitmap.
        let find = |from: usize, is_set: bool| {
            let (first, len) = (from / 64, words.len());
            for (w, &word) in words.iter().enumerate().skip(first) {
                let sought = if is_set { word } else { !word };
                let sought = if w == first { sought & (!0 << (from % 64)) } else { sought };
                if sought != 0 {
                    return w * 64 + sought.trailing_zeros() as usize;
                }
            }
            len * 64
        };
        std::iter::from_fn(move || {
            let start = find(at, true);
            at = find(start, false);
            (start < at).then_some(start..at)
        })
    }

    pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
        words.iter().enumerate().flat_map(|(w, &word)| ones_of(word).map(move |b| w * 64 + b))
    }
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn bitmaps_count_what_was_set() {
        let mut words = [0; 3];
        for i in [0, 63, 64, 130] {
            bits::set(&mut words, i);
        }
        assert_eq!(bits::ones(&words).collect::<Vec<_>>(), [0, 63, 64, 130]);
        assert_eq!(bits::count(&words), 4);
        assert_eq!(bits::runs(&words).collect::<Vec<_>>(), [0..1, 63..65, 130..131]);
        assert_eq!(bits::runs(&[0, !0, !0, 0, 1 << 63]).collect::<Vec<_>>(), [64..192, 319..320]);
        assert!(bits::runs(&[!0]).eq([0..64; 1]));
        assert_eq!(bits::runs(&[]).count() + bits::runs(&[0, 0]).count(), 0);
        bits::fill(&mut words, 130);
        assert_eq!(bits::count(&words), 130);
        assert!(!bits::get(&words, 130));
    }
}
