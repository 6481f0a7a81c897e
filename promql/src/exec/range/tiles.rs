//! Rows that take long, in tiles of steps: between two of them the query may be called off.
//!
//! What is computed does not depend on tiles: every step has its own window.

use std::sync::Arc;

use super::{Call, Outcome, Scratch};
use crate::engine::Error;
use crate::exec::budget::Budget;
use crate::exec::column::{Grid, Histograms, Row, Scalars};
use crate::exec::stream::Samples;

/// Samples that may be visited between two looks at the clock and the client: a few milliseconds' work, and more than
/// finding the first window of a tile.
const VISITS_MAX: usize = 4 << 20;

/// As [`super::apply`], for a row that may take long.
pub(crate) fn apply(
    budget: &Arc<Budget>,
    call: Call<'_>,
    samples: &Samples,
    grid: Grid,
    scratch: &mut Scratch,
    row: Row<'_>,
) -> Result<Outcome, Error> {
    // No window has more than all samples.
    if samples.len().saturating_mul(grid.len) <= VISITS_MAX {
        return super::apply(call, samples, grid, scratch, row);
    }
    let steps = steps_of_tile(call, samples, grid);
    if steps >= grid.len {
        return super::apply(call, samples, grid, scratch, row);
    }
    let mut all = Outcome::default();
    let mut found = Histograms::default();
    for first in (0..grid.len).step_by(steps) {
        budget.check()?;
        let len = steps.min(grid.len - first);
        let tile = Grid { start: grid.time(first), len, ..grid };
        let params: Vec<Scalars> = call.params.iter().map(|p| p.part(first, len)).collect();
        found.clear();
        let part = Row {
            values: &mut row.values[first..first + len],
            present: &mut row.present[first / 64..][..tile.words()],
            histograms: &mut found,
        };
        let outcome = super::apply(Call { params: &params, ..call }, samples, tile, scratch, part)?;
        found.iter().for_each(|(step, h)| row.histograms.push(first + step, Arc::clone(h)));
        all.seen.windows += outcome.seen.windows;
        all.seen.widest = all.seen.widest.max(outcome.seen.widest);
        all.remarks.add(outcome.remarks);
        all.overlaps += outcome.overlaps;
    }
    let reference = |t: i64| call.span.at.unwrap_or(t).saturating_sub(call.span.offset);
    let (before, behind) = call.span.margins();
    let start = reference(grid.start).saturating_sub(call.span.range).saturating_sub(before);
    let end = reference(grid.end()).saturating_add(behind);
    all.seen.read = all.seen.windows.min(samples.weight_in(start, end));
    Ok(all)
}

/// A multiple of 64, since tiles share no word of a bitmap.
fn steps_of_tile(call: Call<'_>, samples: &Samples, grid: Grid) -> usize {
    let times = [samples.floats.ts.first(), samples.floats.ts.last()].into_iter().flatten().copied();
    let times = times
        .chain([samples.histograms.first(), samples.histograms.last()].into_iter().flatten().map(|p| p.t));
    let (first, last) = times.fold((i64::MAX, i64::MIN), |(first, last), t| (first.min(t), last.max(t)));
    let share = call.span.range as f64 / last.saturating_sub(first).max(1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is never negative"
    )]
    let in_window = (samples.len() as f64 * share.min(1.0)).max(1.0) as usize;
    ((VISITS_MAX / in_window).min(grid.len) / 64).max(1) * 64
}

#[cfg(test)]
mod tests {
    use super::{Budget, Call, Grid, Histograms, Row, Samples, Scalars, Scratch, apply};
    use crate::engine::{CancelFlag, Lane};
    use crate::exec::budget::{Total, now};
    use crate::exec::column::bits;
    use crate::exec::range::Span;
    use crate::plan::RangeFn;

    fn budget(cancel: CancelFlag) -> std::sync::Arc<Budget> {
        let deadline = now() + std::time::Duration::from_mins(5);
        Budget::new(deadline, cancel, usize::MAX, usize::MAX, Total::new(usize::MAX), Lane::AdHoc)
    }

    #[test]
    fn tiles_change_nothing_and_can_be_called_off() {
        let mut samples = Samples::default();
        (0..6_000).for_each(|k| samples.floats.push(k * 5000, ((k * 7919) % 1009) as f64));
        let grid = Grid { start: 0, step: 30_000, len: 1000 };
        let span = Span { range: 25_000_000, offset: 0, at: None, boundary: None, lookback: 300_000 };
        let shares = (0..1000).map(|step| f64::from(step) / 1000.0);
        let q = Scalars::steps(&budget(CancelFlag::new()), shares).expect("there is memory");
        let run = |func, params: &[Scalars], tiled: bool, cancel: &CancelFlag| {
            let (mut values, mut present) = (vec![0.0; grid.len], vec![0; grid.words()]);
            let mut histograms = Histograms::default();
            let row = Row { values: &mut values, present: &mut present, histograms: &mut histograms };
            let (call, mut scratch) = (Call { func, span, params }, Scratch::default());
            let outcome = if tiled {
                apply(&budget(cancel.clone()), call, &samples, grid, &mut scratch, row)?
            } else {
                super::super::apply(call, &samples, grid, &mut scratch, row)?
            };
            let points: Vec<_> = bits::ones(&present).map(|step| (step, values[step].to_bits())).collect();
            Ok::<_, crate::engine::Error>((points, outcome.seen.windows, outcome.seen.read))
        };
        let free = CancelFlag::new();
        for (func, params) in [
            (RangeFn::Stddev, &[][..]),
            (RangeFn::Sum, &[]),
            (RangeFn::Rate, &[]),
            (RangeFn::Max, &[]),
            (RangeFn::Quantile, std::slice::from_ref(&q)),
        ] {
            let whole = run(func, params, false, &free).expect("a row");
            assert!(whole.0.len() >= 999, "{func:?}");
            let tiled = run(func, params, true, &free).expect("a row");
            assert!(tiled.0 == whole.0, "the points of {func:?}");
            assert_eq!((tiled.1, tiled.2), (whole.1, whole.2), "{func:?}");
        }
        let canceled = CancelFlag::new();
        canceled.cancel();
        let e = run(RangeFn::Sum, &[], true, &canceled).expect_err("it was called off");
        assert_eq!(e.to_string(), "query was canceled in expression evaluation");
    }
}
