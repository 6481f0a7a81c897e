//! Sums and means of native histograms, a cell per group and step that has any.
//!
//! Floats and histograms of a cell come in series order, which decides what is said: once a float was first, the
//! histograms are not looked at any more; once schemas did not mix, nothing is.
//!
//! Compat: prometheus `promql/engine.go`, `aggregation` (3.14).

use std::sync::Arc;

use model::FloatHistogram;
use model::histogram::CounterResetHint;

use crate::annotations::{Annotation, Place};
use crate::exec::column;
use crate::parse::ast::AggregateOp;

/// What is to be said about an aggregation of histograms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remark {
    MixedKinds,
    /// With the name of the series that did not fit.
    MixedSchemas(Box<[u8]>),
    ResetsCollide,
    Reconciled,
    Ignored,
}

impl Remark {
    pub(super) fn annotation(self, op: AggregateOp, place: Place) -> Annotation {
        match self {
            Self::MixedKinds => Annotation::mixed_in_aggregation(place),
            Self::MixedSchemas(metric) => Annotation::mixed_schemas(&metric, place),
            Self::ResetsCollide => Annotation::resets_collide("aggregation", place),
            Self::Reconciled => Annotation::reconciled("aggregation", place),
            Self::Ignored => Annotation::ignored_in_aggregation(op.as_str(), place),
        }
    }
}

#[derive(Default)]
pub(super) struct HistogramFold {
    /// Groups × steps, once there is any histogram.
    cells: Vec<Cell>,
    /// Each once.
    pub(super) said: Vec<Remark>,
    /// What was allocated since it was last asked for.
    pub(super) bytes: usize,
}

#[derive(Default)]
enum Cell {
    #[default]
    Empty,
    /// A float came first, so there will be no result.
    AfterFloat,
    /// Schemas did not mix; whether a float had come before.
    Mixed {
        after_float: bool,
    },
    Sum(Box<Sum>),
}

/// What becomes of a cell.
pub(super) enum Outcome {
    /// There was no histogram in it.
    Empty,
    /// It mixed what does not mix.
    Refused,
    Histogram(Arc<FloatHistogram>),
}

struct Sum {
    count: f64,
    /// The sum, or the mean once `incremental`.
    acc: FloatHistogram,
    /// Compensation, from the second histogram on.
    c: Option<FloatHistogram>,
    incremental: bool,
    reset_seen: bool,
    no_reset_seen: bool,
}

impl HistogramFold {
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(super) fn say(&mut self, remark: Remark) {
        if !self.said.contains(&remark) {
            self.said.push(remark);
        }
    }

    /// Adds a histogram to one of `cells` cells. `name` is that of its series.
    pub(super) fn add<'n>(
        &mut self,
        cells: usize,
        cell: usize,
        histogram: &Arc<FloatHistogram>,
        is_mean: bool,
        float_seen: bool,
        name: &dyn Fn() -> &'n [u8],
    ) {
        if self.cells.is_empty() {
            self.cells.resize_with(cells, Cell::default);
            self.bytes += cells * size_of::<Cell>();
        }
        let slot = &mut self.cells[cell];
        match slot {
            Cell::Empty if float_seen => *slot = Cell::AfterFloat,
            Cell::Empty => {
                // The sum and its compensation.
                self.bytes += size_of::<Sum>() + 2 * 16 * column::weight(histogram);
                *slot = Cell::Sum(Box::new(Sum::new(histogram)));
            }
            Cell::AfterFloat | Cell::Mixed { .. } => {}
            Cell::Sum(sum) => {
                let outcome = if is_mean { sum.add_to_mean(histogram) } else { sum.add(histogram) };
                match outcome {
                    Ok(false) => {}
                    Ok(true) => self.say(Remark::Reconciled),
                    Err(model::histogram::MixedSchemas) => {
                        *slot = Cell::Mixed { after_float: float_seen };
                        self.say(Remark::MixedSchemas(name().into()));
                    }
                }
            }
        }
    }

    /// The result of a cell, which is spent by this.
    pub(super) fn finish(&mut self, cell: usize, is_mean: bool, float_seen: bool) -> Outcome {
        let cell = std::mem::take(&mut self.cells[cell]);
        let has_float = match cell {
            Cell::Empty => return Outcome::Empty,
            Cell::Mixed { after_float } => after_float,
            Cell::AfterFloat | Cell::Sum(_) => float_seen,
        };
        if has_float {
            self.say(Remark::MixedKinds);
            return Outcome::Refused;
        }
        let Cell::Sum(sum) = cell else {
            return Outcome::Refused;
        };
        if sum.reset_seen && sum.no_reset_seen {
            self.say(Remark::ResetsCollide);
        }
        Outcome::Histogram(Arc::new(sum.finish(is_mean)))
    }
}

impl Sum {
    fn new(histogram: &FloatHistogram) -> Self {
        let mut sum = Self {
            count: 1.0,
            acc: histogram.clone(),
            c: None,
            incremental: false,
            reset_seen: false,
            no_reset_seen: false,
        };
        sum.see(histogram);
        sum
    }

    fn see(&mut self, histogram: &FloatHistogram) {
        match histogram.counter_reset_hint {
            CounterResetHint::CounterReset => self.reset_seen = true,
            CounterResetHint::NotCounterReset => self.no_reset_seen = true,
            _ => {}
        }
    }

    /// Whether bounds had to be reconciled.
    fn add(&mut self, histogram: &FloatHistogram) -> Result<bool, model::histogram::MixedSchemas> {
        self.see(histogram);
        let c = self.c.get_or_insert_with(|| self.acc.compensation());
        Ok(self.acc.kahan_add_assign(histogram, c)?.reconciled)
    }

    /// As [`Sum::add`], of a sum that turns into an incremental mean where it would overflow.
    fn add_to_mean(&mut self, histogram: &FloatHistogram) -> Result<bool, model::histogram::MixedSchemas> {
        self.see(histogram);
        self.count += 1.0;
        let mut reconciled = false;
        if !self.incremental {
            let mut sum = self.acc.clone();
            let mut c = self.c.clone().unwrap_or_else(|| sum.compensation());
            reconciled = sum.kahan_add_assign(histogram, &mut c)?.reconciled;
            if !sum.has_overflow() {
                (self.acc, self.c) = (sum, Some(c));
                return Ok(reconciled);
            }
            self.incremental = true;
            self.acc.divide(self.count - 1.0);
            if let Some(c) = &mut self.c {
                c.divide(self.count - 1.0);
            }
        }
        let q = (self.count - 1.0) / self.count;
        let mut share = histogram.clone();
        share.divide(self.count);
        self.acc.multiply(q);
        if let Some(c) = &mut self.c {
            c.multiply(q);
        }
        let c = self.c.get_or_insert_with(|| self.acc.compensation());
        Ok(self.acc.kahan_add_assign(&share, c)?.reconciled || reconciled)
    }

    fn finish(self, is_mean: bool) -> FloatHistogram {
        let Self { count, mut acc, mut c, incremental, .. } = self;
        if is_mean && !incremental {
            acc.divide(count);
            if let Some(c) = &mut c {
                c.divide(count);
            }
        }
        if let Some(c) = &c {
            // What was added before can be added again.
            let _ = acc.add_assign(c);
        }
        acc.compact(0);
        acc
    }
}
