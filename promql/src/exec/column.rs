//! Columns of values over the steps of a query: `f64` values and a bitmap that says which are there.
//!
//! NaN is a value like any other and never means absent. What a slot holds whose bit is clear is not
//! defined, so operators may compute on it and must not show it.

use std::sync::Arc;

use model::{Labels, Timestamp};

use super::budget::Charge;

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
        Self { len: self.len.min(1), ..self }
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
    Steps(Arc<[f64]>),
}

impl Scalars {
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Self::Const(v) => *v,
            Self::Steps(vs) => vs[step],
        }
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Const(v) => Self::Const(f(*v)),
            Self::Steps(vs) => Self::Steps(vs.iter().map(|&v| f(v)).collect()),
        }
    }

    pub(crate) fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        match (self, other) {
            (Self::Const(a), Self::Const(b)) => Self::Const(f(*a, *b)),
            (Self::Const(a), Self::Steps(b)) => Self::Steps(b.iter().map(|&b| f(*a, b)).collect()),
            (Self::Steps(a), Self::Const(b)) => Self::Steps(a.iter().map(|&a| f(a, *b)).collect()),
            (Self::Steps(a), Self::Steps(b)) => {
                Self::Steps(a.iter().zip(&**b).map(|(&a, &b)| f(a, b)).collect())
            }
        }
    }
}

/// Series × steps, row-major by series.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) series: Vec<Series>,
    pub(crate) grid: Grid,
    pub(crate) values: Vec<f64>,
    pub(crate) present: Vec<u64>,
    /// Keeps the memory and samples of this block on the query's account until it is dropped.
    pub(crate) charge: Option<Charge>,
}

impl Block {
    pub(crate) fn empty(grid: Grid) -> Self {
        Self { series: Vec::new(), grid, values: Vec::new(), present: Vec::new(), charge: None }
    }

    /// Rows of nothing; the caller has charged them.
    pub(crate) fn absent(series: Vec<Series>, grid: Grid, charge: Charge) -> Self {
        let (values, present) = (vec![0.0; series.len() * grid.len], vec![0; series.len() * grid.words()]);
        Self { series, grid, values, present, charge: Some(charge) }
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

    pub(crate) fn row_mut(&mut self, row: usize) -> (&mut [f64], &mut [u64]) {
        let (steps, words) = (self.grid.len, self.grid.words());
        (&mut self.values[row * steps..][..steps], &mut self.present[row * words..][..words])
    }

    pub(crate) fn get(&self, row: usize, step: usize) -> Option<f64> {
        bits::get(self.present(row), step).then(|| self.values(row)[step])
    }

    pub(crate) fn set(&mut self, row: usize, step: usize, v: f64) {
        let (values, present) = self.row_mut(row);
        values[step] = v;
        bits::set(present, step);
    }

    /// The number of points.
    pub(crate) fn points(&self) -> usize {
        bits::count(&self.present)
    }

    /// Removes the rows without any point, which no consumer can see.
    pub(crate) fn drop_empty_rows(&mut self) {
        let keep: Vec<usize> = (0..self.len()).filter(|&row| bits::any(self.present(row))).collect();
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
        }
        self.series.truncate(keep.len());
        self.values.truncate(keep.len() * steps);
        self.present.truncate(keep.len() * words);
    }

    /// Moves the points of row `from` into row `into`; `false` if both have one at some step.
    pub(crate) fn merge_row(&mut self, into: usize, from: usize) -> bool {
        let (steps, words) = (self.grid.len, self.grid.words());
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
        self.series[into].drop_name |= self.series[from].drop_name;
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
        bits::fill(&mut words, 130);
        assert_eq!(bits::count(&words), 130);
        assert!(!bits::get(&words, 130));
    }
}
