//! What a query's selectors and windows saw: the figures behind `stats=`.
//!
//! Totals are always kept. Figures per step are kept where they were asked for, and cost a pass over the windows.
//!
//! Compat: prometheus `util/stats`, `QuerySamples` (3.14). Samples read inside subqueries count for the first step.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::column::{Grid, Row, bits, weight};
use super::range::Span;
use super::stream::Samples;

#[derive(Default)]
pub(crate) struct Costs {
    /// The samples that selectors and windows saw, at every step anew.
    queryable: AtomicUsize,
    /// The same, but each sample of overlapping windows once.
    read: AtomicUsize,
    /// Subqueries around what is being evaluated; their inside is read but not counted as seen.
    depth: AtomicUsize,
    per_step: Option<Steps>,
}

struct Steps {
    queryable: Box<[AtomicUsize]>,
    read: Box<[AtomicUsize]>,
}

/// The sums when something began.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    queryable: usize,
    first_step: usize,
}

fn add(counter: &AtomicUsize, n: usize) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn get(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}

impl Costs {
    pub(crate) fn per_step(steps: usize) -> Self {
        let zeros = || (0..steps).map(|_| AtomicUsize::new(0)).collect();
        Self { per_step: Some(Steps { queryable: zeros(), read: zeros() }), ..Self::default() }
    }

    /// Marks what `work` evaluates as the inside of a subquery.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        add(&self.depth, 1);
        let done = work();
        self.depth.fetch_sub(1, Ordering::Relaxed);
        done
    }

    /// An instant selector gave `row`.
    pub(crate) fn selected(&self, row: &Row<'_>, is_inside: bool) {
        let n = row.weight();
        add(&self.read, n);
        let is_inside = is_inside || get(&self.depth) > 0;
        if !is_inside {
            add(&self.queryable, n);
        }
        let Some(steps) = &self.per_step else { return };
        if is_inside {
            return add(&steps.read[0], n);
        }
        for step in bits::ones(row.present) {
            steps.add(step, 1, 1);
        }
        for (step, h) in row.histograms.iter() {
            steps.add(step, weight(h), weight(h));
        }
    }

    /// The windows over `samples` at the steps of `grid` saw and read so many.
    pub(crate) fn windows(
        &self,
        samples: &Samples,
        span: Span,
        grid: Grid,
        (seen, read): (usize, usize),
        is_inside: bool,
    ) {
        add(&self.read, read);
        let is_inside = is_inside || get(&self.depth) > 0;
        if !is_inside {
            add(&self.queryable, seen);
        }
        let Some(steps) = &self.per_step else { return };
        if is_inside {
            return add(&steps.read[0], read);
        }
        let (before, behind) = span.margins();
        let mut known = i64::MIN;
        for step in 0..grid.len {
            let reference = span.at.unwrap_or(grid.time(step)).saturating_sub(span.offset);
            let start = reference.saturating_sub(span.range).saturating_sub(before);
            let end = reference.saturating_add(behind);
            let new = if read > 0 { samples.weight_in(start.max(known), end) } else { 0 };
            steps.add(step, samples.weight_in(start, end), new);
            known = known.max(end);
        }
    }

    /// A stored range vector of `n` samples was taken as it is.
    pub(crate) fn taken(&self, n: usize) {
        add(&self.queryable, n);
        add(&self.read, n);
        if let Some(steps) = &self.per_step {
            steps.add(0, n, n);
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        let first_step = self.per_step.as_ref().map_or(0, |steps| get(&steps.queryable[0]));
        Mark { queryable: get(&self.queryable), first_step }
    }

    /// What was seen since `mark` at the first step holds for all `steps`, though nothing is read again.
    pub(crate) fn repeat(&self, mark: Mark, steps: usize) {
        let more = steps.saturating_sub(1);
        add(&self.queryable, (get(&self.queryable) - mark.queryable) * more);
        if let Some(per_step) = &self.per_step
            && get(&self.depth) == 0
        {
            let n = get(&per_step.queryable[0]) - mark.first_step;
            per_step.queryable.iter().take(steps).skip(1).for_each(|step| add(step, n));
        }
    }

    pub(crate) fn queryable(&self) -> usize {
        get(&self.queryable)
    }

    pub(crate) fn read(&self) -> usize {
        get(&self.read)
    }

    /// Seen and read at each step, if that was asked for.
    pub(crate) fn steps(&self) -> Vec<(usize, usize)> {
        let pairs = self.per_step.iter().flat_map(|steps| steps.queryable.iter().zip(&steps.read));
        pairs.map(|(queryable, read)| (get(queryable), get(read))).collect()
    }
}

impl Steps {
    fn add(&self, step: usize, queryable: usize, read: usize) {
        add(&self.queryable[step], queryable);
        add(&self.read[step], read);
    }
}
