//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction` over classic and native histograms.
//!
//! The rows of the argument are told apart once: those with floats are buckets of classic histograms, those with
//! histograms are native ones; where both have the same labels, neither is evaluated.
//!
//! Compat: prometheus `promql/functions.go`, `funcHistogramQuantile` and its neighbours; `promql/engine.go`,
//! `resetHistograms` (3.14).

mod classic;
mod native;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use model::number::{format_openmetrics, parse_go_float};
use model::{FloatHistogram, Labels, LabelsBuilder};
use parking_lot::Mutex;

use self::classic::Classic;
use self::native::NanRemark;
pub(crate) use self::native::accessor;
use super::Ctx;
use super::budget::Charge;
use super::column::{Block, Grid, Histograms, Row, Scalars, Series, bits};
use super::stream::{Stream, is_metadata};
use crate::annotations::{Annotation, Place, Repair};
use crate::engine::Error;
use crate::plan::Node;

/// Of so many steps invalid quantiles are told: all that a query may have, but not those of a fine subquery.
const QUANTILES_TOLD_MAX: usize = 11_001;

/// What a step of a row costs, in steps of a plain row.
const WORK: usize = 12;

/// The rows of an argument, told apart.
struct Input {
    block: Block,
    natives: Vec<Native>,
    /// In label order.
    classics: Vec<Classic>,
}

/// A row with native histograms.
struct Native {
    row: usize,
    /// The steps at which there are classic buckets of the same labels; empty if there are none.
    taken: Vec<u64>,
}

impl Native {
    fn has(&self, step: usize) -> bool {
        self.taken.is_empty() || !bits::get(&self.taken, step)
    }
}

/// A histogram of either kind.
enum Which<'a> {
    Native(&'a Native),
    Classic(&'a Classic),
}

impl Input {
    fn of(ctx: &Ctx<'_>, block: Block, place: Place) -> Self {
        let mut known: HashMap<Labels, usize, foldhash::fast::FixedState> = HashMap::default();
        let (mut natives, mut classics): (Vec<Native>, Vec<Classic>) = (Vec::new(), Vec::new());
        for (row, series) in block.series.iter().enumerate() {
            if !block.histograms(row).is_empty() {
                natives.push(Native { row, taken: Vec::new() });
            }
            if !bits::any(block.present(row)) {
                continue;
            }
            let le = series.labels.get(b"le").unwrap_or_default();
            let Ok(upper) = parse_go_float(le) else {
                let name = shown_name(ctx, &series.labels);
                ctx.annotate(Annotation::bad_bucket_label(le, name, place));
                continue;
            };
            let labels = series.labels.without(|name| name == b"le");
            let i = *known.entry(labels.clone()).or_insert_with(|| {
                classics.push(Classic::new(labels));
                classics.len() - 1
            });
            classics[i].push(upper, row);
        }
        classics.iter_mut().for_each(Classic::sort);
        for native in &mut natives {
            let labels = &block.series[native.row].labels;
            let Some(&i) = known.get(labels) else { continue };
            let classic = &mut classics[i];
            for (step, _) in block.histograms(native.row).iter() {
                if classic.is_at(&block, step) {
                    classic.take(block.grid, step);
                    native.taken.resize(block.grid.words(), 0);
                    bits::set(&mut native.taken, step);
                }
            }
            if !native.taken.is_empty() {
                let name = shown_name(ctx, labels);
                ctx.annotate(Annotation::mixed_classic_native(name, place));
            }
        }
        classics.sort_by(|a, b| a.labels.cmp(&b.labels));
        Self { block, natives, classics }
    }

    fn len(&self) -> usize {
        self.natives.len() + self.classics.len()
    }

    /// Natives first.
    fn get(&self, i: usize) -> Which<'_> {
        match self.natives.get(i) {
            Some(native) => Which::Native(native),
            None => Which::Classic(&self.classics[i - self.natives.len()]),
        }
    }

    fn labels(&self, i: usize) -> &Labels {
        match self.get(i) {
            Which::Native(native) => &self.block.series[native.row].labels,
            Which::Classic(classic) => &classic.labels,
        }
    }

    fn output(&self, ctx: &Ctx<'_>, i: usize) -> Series {
        let labels = self.labels(i);
        if ctx.delayed_name_removal {
            return Series { labels: labels.clone(), drop_name: true };
        }
        Series { labels: labels.without(is_metadata), drop_name: false }
    }

    fn native_histograms(&self, native: &Native) -> &Histograms {
        self.block.histograms(native.row)
    }
}

/// The name as far as annotations may show it.
fn shown_name<'a>(ctx: &Ctx<'_>, labels: &'a Labels) -> &'a [u8] {
    if ctx.delayed_name_removal { labels.metric_name() } else { b"" }
}

/// One of the quantiles asked for.
struct Asked {
    q: Scalars,
    /// What its label says, for `histogram_quantiles`.
    label: Option<String>,
    /// The steps at which it has that label; `None` for all.
    steps: Option<Vec<u64>>,
}

impl Asked {
    fn is_at(&self, step: usize) -> bool {
        self.steps.as_ref().is_none_or(|steps| bits::get(steps, step))
    }

    fn is_valid_at(&self, step: usize) -> bool {
        self.is_at(step) && (0.0..=1.0).contains(&self.q.at(step))
    }

    /// A quantile under the labels that it has: one per value, if it changes from step to step.
    fn all(
        ctx: &Ctx<'_>,
        q: Scalars,
        is_labelled: bool,
        grid: Grid,
        charge: &mut Charge,
    ) -> Result<Vec<Self>, Error> {
        if !is_labelled {
            return Ok(vec![Self { q, label: None, steps: None }]);
        }
        if let Scalars::Const(v) = q {
            return Ok(vec![Self { q, label: Some(format_openmetrics(v)), steps: None }]);
        }
        let mut by_label: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for step in 0..grid.len {
            let label = format_openmetrics(q.at(step));
            if !by_label.contains_key(&label) {
                charge.absorb(ctx.budget.charge(grid.words().saturating_mul(8))?);
            }
            bits::set(by_label.entry(label).or_insert_with(|| vec![0; grid.words()]), step);
        }
        let asked = by_label.into_iter();
        Ok(asked
            .map(|(label, steps)| Self { q: q.clone(), label: Some(label), steps: Some(steps) })
            .collect())
    }
}

/// Which remarks on observations of NaN a row calls for.
#[derive(Default)]
struct NanRemarks {
    result: AtomicBool,
    missing: AtomicBool,
}

impl NanRemarks {
    fn note(&self, remark: Option<NanRemark>) {
        match remark {
            None => {}
            Some(NanRemark::Result) => self.result.store(true, Ordering::Relaxed),
            Some(NanRemark::Missing) => self.missing.store(true, Ordering::Relaxed),
        }
    }
}

/// Computes `f` of the histograms in `from` at the steps at which there is a point to be; of one that is at several
/// steps only once if the other operands are `constant`.
fn each_histogram(
    from: &Histograms,
    constant: bool,
    is_at: impl Fn(usize) -> bool,
    row: &mut Row<'_>,
    mut f: impl FnMut(usize, &FloatHistogram) -> f64,
) {
    let mut last: Option<(&Arc<FloatHistogram>, f64)> = None;
    for (step, histogram) in from.iter().filter(|(step, _)| is_at(*step)) {
        let v = match last {
            Some((known, v)) if constant && Arc::ptr_eq(known, histogram) => v,
            _ => f(step, histogram),
        };
        last = Some((histogram, v));
        row.set(step, v);
    }
}

impl<'q> Ctx<'q> {
    /// `histogram_quantile`, or with `label` `histogram_quantiles`.
    pub(super) fn quantiles(
        &self,
        arg: &'q Node,
        quantiles: &'q [(Node, Place)],
        label: Option<&[u8]>,
        place: Place,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let mut asked = Vec::new();
        let mut charge = self.budget.charge(0)?;
        for (q, q_place) in quantiles {
            let q = self.scalars(q, grid)?;
            let n = if matches!(q, Scalars::Const(_)) { grid.len.min(1) } else { grid.len };
            let invalid = (0..n).map(|step| q.at(step)).filter(|v| !(0.0..=1.0).contains(v));
            for v in invalid.take(QUANTILES_TOLD_MAX) {
                self.annotate(Annotation::invalid_quantile(v, *q_place));
            }
            asked.extend(Asked::all(self, q, label.is_some(), grid, &mut charge)?);
        }
        let input = Input::of(self, self.stream(arg, grid)?.collect(self)?, place);
        let n = input.len();
        let mut series = Vec::with_capacity(asked.len() * n);
        for asked in &asked {
            for i in 0..n {
                let mut output = input.output(self, i);
                if let (Some(label), Some(text)) = (label, &asked.label) {
                    let mut builder = LabelsBuilder::from(&output.labels);
                    builder.set(label, text.as_bytes());
                    output.labels = builder.build();
                }
                series.push(output);
            }
        }
        let repairs: Mutex<BTreeMap<usize, Repair>> = Mutex::default();
        let nan_remarks: Vec<NanRemarks> = input.natives.iter().map(|_| NanRemarks::default()).collect();
        let out = self.compute_block(series, grid, WORK, |i, mut row| {
            let (asked_before, of) = (&asked[..i / n], &asked[i / n]);
            match input.get(i % n) {
                Which::Native(native) => {
                    let constant = matches!(of.q, Scalars::Const(_));
                    let is_at = |step| native.has(step) && of.is_at(step);
                    each_histogram(input.native_histograms(native), constant, is_at, &mut row, |step, h| {
                        let (v, remark) = native::quantile(of.q.at(step), h);
                        nan_remarks[i % n].note(remark);
                        v
                    });
                }
                Which::Classic(classic) => {
                    // One repair serves all quantiles of a step.
                    let tells =
                        |step| of.is_at(step) && !asked_before.iter().any(|asked| asked.is_valid_at(step));
                    let repair = classic.quantiles_into(&input.block, &of.q, &mut row, tells);
                    if let Some(steps) = &of.steps {
                        row.present.iter_mut().zip(steps).for_each(|(word, steps)| *word &= steps);
                    }
                    if let Some(repair) = repair {
                        let mut repairs = repairs.lock();
                        repairs.entry(i % n).and_modify(|known| known.merge(&repair)).or_insert(repair);
                    }
                }
            }
            Ok(())
        })?;
        for (native, remarks) in input.natives.iter().zip(&nan_remarks) {
            let name = shown_name(self, &input.block.series[native.row].labels);
            if remarks.result.load(Ordering::Relaxed) {
                self.annotate(Annotation::quantile_is_nan(name, place));
            }
            if remarks.missing.load(Ordering::Relaxed) {
                self.annotate(Annotation::quantile_is_skewed(name, place));
            }
        }
        let mut of_names: BTreeMap<&[u8], Repair> = BTreeMap::new();
        for (i, repair) in repairs.into_inner() {
            let name = shown_name(self, input.labels(i));
            of_names.entry(name).and_modify(|known| known.merge(&repair)).or_insert(repair);
        }
        for (name, repair) in of_names {
            let first = usize::try_from((repair.mint - grid.start) / grid.step).unwrap_or(0);
            self.annotate(Annotation::forced_monotonicity(name, repair.counted(first, grid.len), place));
        }
        Stream::of_block(out).unify_after_operator(self)
    }

    /// `histogram_fraction`.
    pub(super) fn fractions(
        &self,
        arg: &'q Node,
        (lower, upper): (&'q Node, &'q Node),
        place: Place,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let (lower, upper) = (self.scalars(lower, grid)?, self.scalars(upper, grid)?);
        let input = Input::of(self, self.stream(arg, grid)?.collect(self)?, place);
        let series = (0..input.len()).map(|i| input.output(self, i)).collect();
        let nan_remarks: Vec<NanRemarks> = input.natives.iter().map(|_| NanRemarks::default()).collect();
        let constant = matches!((&lower, &upper), (Scalars::Const(_), Scalars::Const(_)));
        let out = self.compute_block(series, grid, WORK, |i, mut row| {
            match input.get(i) {
                Which::Native(native) => {
                    let from = input.native_histograms(native);
                    each_histogram(
                        from,
                        constant,
                        |step| native.has(step),
                        &mut row,
                        |step, h| {
                            let (v, remark) = native::fraction(lower.at(step), upper.at(step), h);
                            nan_remarks[i].note(remark);
                            v
                        },
                    );
                }
                Which::Classic(classic) => classic.fractions_into(&input.block, &lower, &upper, &mut row),
            }
            Ok(())
        })?;
        for (native, remarks) in input.natives.iter().zip(&nan_remarks) {
            if remarks.missing.load(Ordering::Relaxed) {
                let name = shown_name(self, &input.block.series[native.row].labels);
                self.annotate(Annotation::fraction_excludes_nan(name, place));
            }
        }
        Stream::of_block(out).unify_after_operator(self)
    }
}
