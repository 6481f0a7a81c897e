//! What each operator of a query took, for those who ask: time, series, samples, memory.
//!
//! A stream that is measured is wrapped, so that every row of it is timed and counted on its way; nothing is wrapped
//! where nobody asked. Times contain those of the operands.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::budget::now;
use super::column::Row;
use super::stream::{Scratch, Source, Stream};
use super::{Ctx, Output};
use crate::engine::{Error, OperatorStats};
use crate::plan::{Node, Plan, explain};

/// The figures of all operators, by the address of their node.
#[derive(Default)]
pub(crate) struct Profile(Mutex<HashMap<usize, Arc<Figures>>>);

#[derive(Default)]
pub(crate) struct Figures {
    nanos: AtomicU64,
    series: AtomicUsize,
    samples: AtomicUsize,
    bytes: AtomicUsize,
}

/// A stream whose rows are counted.
pub(crate) struct Measured {
    pub(crate) stream: Stream,
    figures: Arc<Figures>,
}

fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

impl Figures {
    fn took(&self, began: std::time::Instant) {
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Profile {
    /// Evaluates a node with `work` and keeps the account.
    pub(crate) fn measure(
        &self,
        ctx: &Ctx<'_>,
        node: &Node,
        work: impl FnOnce() -> Result<Output, Error>,
    ) -> Result<Output, Error> {
        let figures = Arc::clone(self.0.lock().entry(address(node)).or_default());
        let (began, held) = (now(), ctx.budget.bytes());
        let output = work()?;
        figures.took(began);
        figures.bytes.fetch_max(ctx.budget.bytes().saturating_sub(held), Ordering::Relaxed);
        let Output::Stream(stream) = output else { return Ok(output) };
        figures.series.fetch_max(stream.len(), Ordering::Relaxed);
        let (series, grid) = (stream.series.clone(), stream.grid);
        let source = Source::Measured(Box::new(Measured { stream, figures }));
        Ok(Output::Stream(Stream { series, grid, source, ops: Vec::new(), notes: None }))
    }

    /// The figures in the order of the tree, the root first.
    pub(crate) fn report(self, plan: &mut Plan) -> Vec<OperatorStats> {
        let mut report = Vec::new();
        add(&self.0.into_inner(), &mut plan.root, 0, &mut report);
        report
    }
}

fn add(
    figures: &HashMap<usize, Arc<Figures>>,
    node: &mut Node,
    depth: usize,
    report: &mut Vec<OperatorStats>,
) {
    let get = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    if let Some(figures) = figures.get(&address(node)) {
        report.push(OperatorStats {
            operator: explain::told(node),
            depth,
            time: std::time::Duration::from_nanos(figures.nanos.load(Ordering::Relaxed)),
            series: get(&figures.series),
            samples: get(&figures.samples),
            bytes: get(&figures.bytes),
        });
    }
    for child in node.parts_mut().children {
        add(figures, child, depth + 1, report);
    }
}

impl Measured {
    pub(crate) fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        i: usize,
        scratch: &mut Scratch,
        mut row: Row<'_>,
    ) -> Result<(), Error> {
        let began = now();
        self.stream.fill_row(ctx, i, scratch, row.reborrow())?;
        self.figures.took(began);
        self.figures.samples.fetch_add(row.weight(), Ordering::Relaxed);
        Ok(())
    }
}
