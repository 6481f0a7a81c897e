//! Aggregations that fold values as they come: sum, avg, count, group, min, max, stddev, stdvar.
//!
//! Rows are computed a wave at a time, in parallel, then added in series order, in parallel over the steps.
//! So memory follows groups × steps, and every sum is the sequential one to the last bit whatever the number
//! of threads.
//!
//! Histograms are summed in cells of their own, made when the first is met; see `histograms`.
//!
//! Compat: prometheus `promql/engine.go`, `aggregation` (3.14).

mod histograms;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashMap;
use model::Labels;
use model::labels::METRIC_NAME;
use rayon::prelude::*;

use super::Ctx;
use super::column::{Block, Histograms, Row, RowView, Series, bits};
use super::math::{Mean, kahan_add};
use super::stream::Stream;
use crate::annotations::Place;
use crate::engine::Error;
use crate::parse::ast::AggregateOp;
use crate::plan::Grouping;
use histograms::{HistogramFold, Outcome, Remark};

/// Which group each series belongs to; groups in order of first appearance.
pub(crate) struct Groups {
    pub(crate) of_series: Vec<u32>,
    pub(crate) series: Vec<Series>,
    /// Whether some group has members whose name goes in the end and members whose name stays.
    pub(crate) is_mixed: bool,
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The rows of each group, in series order.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.len()];
        for (row, &group) in self.of_series.iter().enumerate() {
            rows[group as usize].push(row);
        }
        rows
    }
}

/// Whether the name of each group goes in the end, where its members differ: if that of any goes that is there at the
/// last step at which the group is.
pub(crate) struct LastWord {
    /// Per group the last step, counted from 1, and what was said there.
    said: Vec<(usize, bool)>,
}

impl LastWord {
    pub(crate) fn new(groups: &Groups) -> Option<Self> {
        groups.is_mixed.then(|| Self { said: vec![(0, false); groups.len()] })
    }

    pub(crate) fn hear(&mut self, group: usize, row: RowView<'_>, drop_name: bool) {
        let Some(last) = row.last_step() else {
            return;
        };
        let (step, said) = &mut self.said[group];
        if last + 1 > *step {
            (*step, *said) = (last + 1, drop_name);
        } else if last + 1 == *step {
            *said |= drop_name;
        }
    }

    /// Has all groups do as was said; one that was never there is left alone.
    pub(crate) fn settle(self, series: &mut [Series]) {
        for (series, (step, drop_name)) in series.iter_mut().zip(self.said) {
            if step > 0 {
                series.drop_name = drop_name;
            }
        }
    }
}

pub(crate) fn group(series: &[Series], grouping: &Grouping) -> Groups {
    let mut known: HashMap<Vec<u8>, u32, foldhash::fast::FixedState> = HashMap::default();
    let mut groups =
        Groups { of_series: Vec::with_capacity(series.len()), series: Vec::new(), is_mixed: false };
    let (mut key, mut last_key) = (Vec::new(), Vec::new());
    for s in series {
        key.clear();
        push_key(&mut key, &s.labels, grouping);
        // Neighbours are often in one group, all of them where there is one.
        let last = groups.of_series.last().copied().filter(|_| key == last_key);
        let id = if let Some(id) = last.or_else(|| known.get(&key).copied()) {
            let drop_name = &mut groups.series[id as usize].drop_name;
            groups.is_mixed |= *drop_name != s.drop_name;
            *drop_name |= s.drop_name;
            id
        } else {
            let id = u32::try_from(groups.len()).expect("a query has fewer than 2^32 groups");
            known.insert(key.clone(), id);
            groups.series.push(Series { labels: grouping.labels_of(&s.labels), drop_name: s.drop_name });
            id
        };
        groups.of_series.push(id);
        std::mem::swap(&mut key, &mut last_key);
    }
    groups
}

/// Bytes that are equal for equal group labels.
fn push_key(key: &mut Vec<u8>, labels: &Labels, grouping: &Grouping) {
    let mut push = |bytes: &[u8]| {
        let len = u32::try_from(bytes.len()).expect("a label is shorter than 4 GiB");
        key.extend_from_slice(&len.to_le_bytes());
        key.extend_from_slice(bytes);
    };
    if grouping.without {
        for (name, value) in labels.iter().filter(|(name, _)| !grouping.removes(name)) {
            push(name);
            push(value);
        }
    } else {
        for name in &grouping.labels {
            push(labels.get(name).unwrap_or_default());
        }
    }
}

impl Grouping {
    pub(crate) fn removes(&self, name: &[u8]) -> bool {
        name == METRIC_NAME || lists(&self.labels, name)
    }

    /// The labels of the group of `labels`.
    pub(crate) fn labels_of(&self, labels: &Labels) -> Labels {
        if self.without {
            return labels.without(|name| self.removes(name));
        }
        Labels::from_sorted(self.labels.iter().filter_map(|name| Some((&**name, labels.get(name)?))))
    }
}

pub(crate) fn lists(sorted: &[Arc<[u8]>], name: &[u8]) -> bool {
    sorted.binary_search_by(|l| (**l).cmp(name)).is_ok()
}

/// Folds the rows of `stream` into one row per group. `place` shows the operand.
pub(crate) fn fold(
    ctx: &Ctx<'_>,
    op: AggregateOp,
    stream: &Stream,
    grouping: &Grouping,
    place: Place,
) -> Result<Block, Error> {
    let grid = stream.grid;
    let mut groups = group(&stream.series, grouping);
    if groups.len() == 0 || grid.len == 0 {
        stream.drain(ctx)?;
        return Ok(Block::empty(grid));
    }
    // Sum, compensation, count and result, at the most.
    let cells = groups.len().saturating_mul(grid.len);
    let mut charge = ctx.budget.charge(cells.saturating_mul(32))?;
    let mut held = ctx.budget.charge(0)?;

    let (steps, words) = (grid.len, grid.words());
    let lanes = ctx.threads.min(words).max(1);
    let lane_words = words.div_ceil(lanes);
    let mut folds: Vec<Fold> = (0..words.div_ceil(lane_words))
        .map(|lane| {
            Fold::new(op, groups.len(), lane * lane_words * 64, steps.min((lane + 1) * lane_words * 64))
        })
        .collect();

    let mut last_word = LastWord::new(&groups);
    stream.for_each_wave(ctx, &mut charge, |wave| {
        if let Some(last_word) = &mut last_word {
            for r in 0..wave.rows {
                let series = wave.from + r;
                let group = groups.of_series[series] as usize;
                last_word.hear(group, wave.row(r), stream.series[series].drop_name);
            }
        }
        let add_wave = |fold: &mut Fold| {
            for r in 0..wave.rows {
                let series = wave.from + r;
                fold.add(groups.of_series[series] as usize, series, wave.row(r), &stream.series[series]);
            }
        };
        match ctx.pool {
            Some(pool) if folds.len() > 1 && wave.is_large() => {
                pool.install(|| folds.par_iter_mut().for_each(add_wave));
            }
            _ => folds.iter_mut().for_each(add_wave),
        }
        let bytes = folds.iter_mut().map(|fold| std::mem::take(&mut fold.histograms.bytes)).sum();
        if bytes > 0 {
            held.absorb(ctx.budget.charge(bytes)?);
        }
        Ok(())
    })?;

    if let Some(last_word) = last_word {
        last_word.settle(&mut groups.series);
    }

    // Groups in the order in which their first point was met.
    let mut order: Vec<(usize, usize)> = (0..groups.len())
        .map(|g| (folds.iter().map(|f| f.first[g]).min().unwrap_or(usize::MAX), g))
        .filter(|&(first, _)| first != usize::MAX)
        .collect();
    order.sort_unstable();
    let series: Vec<Series> = order.iter().map(|&(_, g)| groups.series[g].clone()).collect();
    let charge = ctx.charge_block(series.len(), grid)?;
    let mut block = Block::absent(series, grid, charge);
    for (row, &(_, g)) in order.iter().enumerate() {
        let Row { values, present, histograms } = block.row_mut(row);
        for fold in &mut folds {
            let len = fold.steps();
            let words = len.div_ceil(64);
            fold.finish(g, &mut values[fold.from..fold.from + len]);
            present[fold.from / 64..][..words].copy_from_slice(&fold.seen[g * fold.words()..][..words]);
            if !fold.histograms.is_empty() {
                fold.finish_histograms(g, present, histograms);
            }
        }
    }
    let mut said: Vec<Remark> = folds.iter_mut().flat_map(|fold| fold.histograms.said.drain(..)).collect();
    said.sort();
    said.dedup();
    for remark in said {
        ctx.annotate(remark.annotation(op, place));
    }
    block.drop_empty_rows();
    let points = block.weight();
    if let Some(charge) = &mut block.charge {
        charge.add_samples(points)?;
    }
    Ok(block)
}

/// The folded state of all groups for a run of steps, groups × steps.
struct Fold {
    from: usize,
    to: usize,
    state: State,
    /// Groups × words: where any value was seen.
    seen: Vec<u64>,
    /// Per group the first series with a point.
    first: Vec<usize>,
    histograms: HistogramFold,
}

enum State {
    Sum { sum: Vec<f64>, c: Vec<f64> },
    Mean(Vec<Mean>),
    Count(Vec<f64>),
    Group,
    Min(Vec<f64>),
    Max(Vec<f64>),
    Variance { cells: Vec<Variance>, root: bool },
}

/// Welford's, without compensation, as upstream's aggregation.
#[derive(Clone, Copy, Default)]
struct Variance {
    count: f64,
    mean: f64,
    aux: f64,
}

impl Fold {
    fn new(op: AggregateOp, groups: usize, from: usize, to: usize) -> Self {
        let (steps, words) = (to - from, (to - from).div_ceil(64));
        let zeros = || vec![0.0; groups * steps];
        let state = match op {
            AggregateOp::Sum => State::Sum { sum: zeros(), c: zeros() },
            AggregateOp::Avg => State::Mean(vec![Mean::default(); groups * steps]),
            AggregateOp::Count => State::Count(zeros()),
            AggregateOp::Min => State::Min(zeros()),
            AggregateOp::Max => State::Max(zeros()),
            AggregateOp::Stddev | AggregateOp::Stdvar => State::Variance {
                cells: vec![Variance::default(); groups * steps],
                root: op == AggregateOp::Stddev,
            },
            _ => State::Group,
        };
        let (seen, first) = (vec![0; groups * words], vec![usize::MAX; groups]);
        Self { from, to, state, seen, first, histograms: HistogramFold::default() }
    }

    fn steps(&self) -> usize {
        self.to - self.from
    }

    fn words(&self) -> usize {
        self.steps().div_ceil(64)
    }

    fn add(&mut self, group: usize, number: usize, row: RowView<'_>, series: &Series) {
        if !row.histograms.is_empty() {
            self.add_histograms(group, number, row.histograms, series);
        }
        let (steps, words) = (self.steps(), self.words());
        let values = &row.values[self.from..self.to];
        let present = &row.present[self.from / 64..][..words];
        let seen = &mut self.seen[group * words..][..words];
        let at = group * steps..(group + 1) * steps;
        let mut any = false;
        for (w, &word) in present.iter().enumerate() {
            if word == 0 {
                continue;
            }
            any = true;
            let before = seen[w];
            seen[w] |= word;
            let run = w * 64..steps.min(w * 64 + 64);
            let vs = &values[run.clone()];
            let cells = at.start + run.start..at.start + run.end;
            let dense = word == bits::mask(run.len());
            // One loop over all steps of the word where all are there, which vectorises; else bit by bit.
            macro_rules! each {
                ($cells:expr, $f:expr) => {{
                    let (cells, f) = ($cells, $f);
                    if dense {
                        cells.iter_mut().zip(vs).for_each(|(cell, &v)| f(cell, v));
                    } else {
                        bits::ones_of(word).for_each(|b| f(&mut cells[b], vs[b]));
                    }
                }};
            }
            match &mut self.state {
                State::Group => {}
                State::Count(count) => each!(&mut count[cells], |n: &mut f64, _: f64| *n += 1.0),
                State::Mean(means) => each!(&mut means[cells], |m: &mut Mean, v: f64| m.push(v)),
                State::Variance { cells: all, .. } => {
                    each!(&mut all[cells], |cell: &mut Variance, v: f64| cell.push(v));
                }
                State::Sum { sum, c } => {
                    let (sum, c) = (&mut sum[cells.clone()], &mut c[cells]);
                    if dense {
                        for ((sum, c), &v) in sum.iter_mut().zip(c).zip(vs) {
                            (*sum, *c) = kahan_add(v, *sum, *c);
                        }
                    } else {
                        for b in bits::ones_of(word) {
                            (sum[b], c[b]) = kahan_add(vs[b], sum[b], c[b]);
                        }
                    }
                }
                State::Min(min) => extreme(&mut min[cells], vs, word, before, |new, old| new < old),
                State::Max(max) => extreme(&mut max[cells], vs, word, before, |new, old| new > old),
            }
        }
        if any {
            self.first[group] = self.first[group].min(number);
        }
    }

    /// Adds the histograms of a row, none of which is where the row has a float.
    fn add_histograms(&mut self, group: usize, number: usize, all: &Histograms, series: &Series) {
        let (steps, words) = (self.steps(), self.words());
        let mut points = all.within(self.from..self.to).peekable();
        if points.peek().is_none() {
            return;
        }
        self.first[group] = self.first[group].min(number);
        let seen = &mut self.seen[group * words..][..words];
        for (step, histogram) in points {
            let step = step - self.from;
            let cell = group * steps + step;
            match &mut self.state {
                State::Group => bits::set(seen, step),
                State::Count(count) => {
                    count[cell] += 1.0;
                    bits::set(seen, step);
                }
                State::Sum { .. } | State::Mean(_) => {
                    let is_mean = matches!(self.state, State::Mean(_));
                    let cells = self.first.len() * steps;
                    let float_seen = bits::get(seen, step);
                    let name = || series.labels.metric_name();
                    self.histograms.add(cells, cell, histogram, is_mean, float_seen, &name);
                }
                State::Min(_) | State::Max(_) | State::Variance { .. } => {
                    self.histograms.say(Remark::Ignored);
                }
            }
        }
    }

    /// Puts the histograms of `group` into the row of its result.
    fn finish_histograms(&mut self, group: usize, present: &mut [u64], out: &mut Histograms) {
        let is_mean = matches!(self.state, State::Mean(_));
        let steps = self.steps();
        for step in 0..steps {
            let at = self.from + step;
            match self.histograms.finish(group * steps + step, is_mean, bits::get(present, at)) {
                Outcome::Empty => {}
                Outcome::Refused => bits::unset(present, at),
                Outcome::Histogram(histogram) => out.push(at, histogram),
            }
        }
    }

    fn finish(&self, group: usize, out: &mut [f64]) {
        let steps = self.steps();
        let at = group * steps..(group + 1) * steps;
        match &self.state {
            State::Group => out.fill(1.0),
            State::Count(vs) | State::Min(vs) | State::Max(vs) => out.copy_from_slice(&vs[at]),
            State::Sum { sum, c } => {
                for (out, (sum, c)) in out.iter_mut().zip(sum[at.clone()].iter().zip(&c[at])) {
                    *out = sum + c;
                }
            }
            State::Mean(means) => out.iter_mut().zip(&means[at]).for_each(|(out, mean)| *out = mean.get()),
            State::Variance { cells, root } => {
                for (out, cell) in out.iter_mut().zip(&cells[at]) {
                    let variance = cell.aux / cell.count;
                    *out = if *root { variance.sqrt() } else { variance };
                }
            }
        }
    }
}

/// Keeps the better value, or the newer one where the kept one is NaN.
fn extreme(kept: &mut [f64], vs: &[f64], word: u64, before: u64, better: impl Fn(f64, f64) -> bool) {
    for b in bits::ones_of(word) {
        let (new, old) = (vs[b], kept[b]);
        if before >> b & 1 == 0 || better(new, old) || old.is_nan() {
            kept[b] = new;
        }
    }
}

impl Variance {
    fn push(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = v;
            self.aux = if v.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.aux += delta * (v - self.mean);
    }
}
