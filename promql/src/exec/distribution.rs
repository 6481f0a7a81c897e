//! Aggregations that look at all values of a group at a step: `quantile` and `count_values`.
//!
//! A quantile is worked out group by group, as many groups at a time as fit into a wave. Values are counted as they
//! come; a value is written out once per query, and labels once per group and value.
//!
//! Compat: prometheus `promql/engine.go`, `aggregation`, `aggregationCountValues` (3.14).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use model::number::format_f;
use model::{FloatHistogram, LabelsBuilder};
use rayon::prelude::*;

use super::aggregate::{LastWord, group};
use super::column::{Block, Histograms, RowView, Scalars, Series, bits};
use super::ranked::{bounds, reordered};
use super::stream::{Stream, WAVE_CELLS};
use super::{Ctx, math};
use crate::annotations::{Annotation, Place};
use crate::engine::Error;
use crate::parse::ast::AggregateOp;
use crate::plan::Grouping;

/// What a counted value takes besides its counts: its text, labels, and places in tables.
const COLUMN_BYTES: usize = 400;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// `param_place` shows the parameter, `place` the operand.
pub(crate) fn quantile(
    ctx: &Ctx<'_>,
    stream: &Stream,
    param: &Scalars,
    (param_place, place): (Place, Place),
    grouping: &Grouping,
) -> Result<Block, Error> {
    let grid = stream.grid;
    let (min, max, any_nan) = bounds(param, grid.len);
    for (bad, q) in [(any_nan, f64::NAN), (max > 1.0, max), (min < 0.0, min)] {
        if bad {
            ctx.annotate(Annotation::invalid_quantile(q, param_place));
        }
    }
    if grid.len == 0 {
        return Ok(Block::empty(grid));
    }
    let groups = group(&stream.series, grouping);
    let rows = groups.rows();
    let mut last_word = LastWord::new(&groups);
    let charge = ctx.charge_block(groups.len(), grid)?;
    let mut block = Block::absent(groups.series, grid, charge);
    let (steps, words) = (grid.len, grid.words());
    let wave = (ctx.morsel_rows * ctx.threads * 2).max(WAVE_CELLS / steps);
    let ignored = AtomicBool::new(false);
    let mut samples = ctx.budget.charge(0)?;
    let mut next = 0;
    // Per group the first series with a point: the order of groups, where there is one.
    let mut first = vec![usize::MAX; if grid.is_point() { rows.len() } else { 0 }];
    while next < rows.len() {
        let from = next;
        let mut listed: Vec<usize> = Vec::new();
        let mut starts = Vec::new();
        while next < rows.len() && (listed.is_empty() || listed.len() + rows[next].len() <= wave) {
            starts.push(listed.len());
            listed.extend_from_slice(&rows[next]);
            next += 1;
        }
        let n = listed.len();
        let _buffer = ctx.charge_block(n, grid)?;
        let (mut values, mut present) = (vec![0.0; n * steps], vec![0; n * words]);
        let mut histograms = vec![Histograms::default(); n];
        stream.fill_listed(ctx, &|r| listed[r], &mut values, &mut present, &mut histograms, &mut samples)?;
        if histograms.iter().any(|all| !all.is_empty()) {
            ignored.store(true, Ordering::Relaxed);
        }
        if let Some(last_word) = &mut last_word {
            for (i, start) in starts.iter().enumerate() {
                for r in *start..starts.get(i + 1).copied().unwrap_or(n) {
                    let row = RowView {
                        values: &values[r * steps..][..steps],
                        present: &present[r * words..][..words],
                        histograms: &histograms[r],
                    };
                    last_word.hear(from + i, row, stream.series[listed[r]].drop_name);
                }
            }
        }
        for (first, i) in first.iter_mut().skip(from).zip(0..next - from) {
            let mut members = starts[i]..starts.get(i + 1).copied().unwrap_or(n);
            *first = members.find(|r| present[r * words] & 1 == 1).map_or(usize::MAX, |r| listed[r]);
        }
        let one = |(i, (out, seen)): (usize, (&mut [f64], &mut [u64]))| -> Result<(), Error> {
            let members = starts[i]..starts.get(i + 1).copied().unwrap_or(n);
            let mut floats = Vec::with_capacity(members.len());
            for (step, out) in out.iter_mut().enumerate() {
                if step % 64 == 0 {
                    ctx.budget.check()?;
                }
                floats.clear();
                let there = members.clone().filter(|r| bits::get(&present[r * words..][..words], step));
                floats.extend(there.map(|r| values[r * steps + step]));
                if !floats.is_empty() {
                    *out = math::quantile(param.at(step), &mut floats);
                    bits::set(seen, step);
                }
            }
            Ok(())
        };
        let out = &mut block.values[from * steps..next * steps];
        let seen = &mut block.present[from * words..next * words];
        match ctx.pool {
            Some(pool) if next - from > 1 && n * steps > WAVE_CELLS / 4 => pool.install(|| {
                let columns = out.par_chunks_exact_mut(steps).zip(seen.par_chunks_exact_mut(words));
                columns.enumerate().try_for_each(one)
            })?,
            _ => {
                out.chunks_exact_mut(steps)
                    .zip(seen.chunks_exact_mut(words))
                    .enumerate()
                    .try_for_each(one)?;
            }
        }
    }
    if let Some(last_word) = last_word {
        last_word.settle(&mut block.series);
    }
    stream.raise_notes(ctx)?;
    if ignored.into_inner() {
        ctx.annotate(Annotation::ignored_in_aggregation(AggregateOp::Quantile.as_str(), place));
    }
    if grid.is_point() {
        let mut order: Vec<usize> = (0..first.len()).filter(|&group| first[group] != usize::MAX).collect();
        order.sort_by_key(|&group| first[group]);
        block = reordered(ctx, &block, &order)?;
    }
    block.drop_empty_rows();
    let points = block.weight();
    if let Some(charge) = &mut block.charge {
        charge.add_samples(points)?;
    }
    Ok(block)
}

/// How many samples of a group have each value, the value's text as one more label. In label order.
pub(crate) fn count_values(
    ctx: &Ctx<'_>,
    stream: &Stream,
    label: &[u8],
    grouping: &Grouping,
) -> Result<Block, Error> {
    let grid = stream.grid;
    if grid.len == 0 {
        return Ok(Block::empty(grid));
    }
    // The value takes the place of the label, so groups are made without it.
    let mut rest = grouping.clone();
    let shows_value = !grouping.without || !grouping.removes(label);
    rest.labels.retain(|l| **l != *label);
    if grouping.without {
        rest.labels.push(label.into());
        rest.labels.sort();
    }
    let groups = group(&stream.series, &rest);
    let mut texts = Texts::default();
    let mut tally =
        Tally { charge: ctx.budget.charge(0)?, steps: grid.len, columns: Map::default(), counts: Vec::new() };
    let mut samples = ctx.budget.charge(0)?;
    stream.for_each_wave(ctx, &mut samples, |wave| {
        for r in 0..wave.rows {
            let row = wave.row(r);
            let group = groups.of_series[wave.from + r];
            // Neighbouring steps often have the same value.
            let mut last: Option<(u64, usize)> = None;
            for step in bits::ones(row.present) {
                let v = row.values[step].to_bits();
                let column = match last {
                    Some((known, column)) if known == v => column,
                    _ => tally.column(ctx, group, if shows_value { texts.of_float(v) } else { 0 })?,
                };
                last = Some((v, column));
                tally.counts[column][step] += 1;
            }
            let mut last: Option<(&Arc<FloatHistogram>, usize)> = None;
            for (step, histogram) in row.histograms.iter() {
                let column = match last {
                    Some((known, column)) if Arc::ptr_eq(known, histogram) => column,
                    _ => {
                        let text = if shows_value { texts.number(histogram.to_string()) } else { 0 };
                        tally.column(ctx, group, text)?
                    }
                };
                last = Some((histogram, column));
                tally.counts[column][step] += 1;
            }
        }
        Ok(())
    })?;
    let labels_of = |group: u32, text: usize| {
        let labels = &groups.series[group as usize].labels;
        if !shows_value {
            return labels.clone();
        }
        let mut builder = LabelsBuilder::from(labels);
        builder.set(label, texts.all[text].as_bytes());
        builder.build()
    };
    let mut columns: Vec<(model::Labels, usize)> =
        tally.columns.iter().map(|(&(group, text), &column)| (labels_of(group, text), column)).collect();
    columns.sort();
    let mut charge = ctx.charge_block(columns.len(), grid)?;
    let series =
        columns.iter().map(|(labels, _)| Series { labels: labels.clone(), drop_name: false }).collect();
    charge.add_samples(tally.counts.iter().flatten().filter(|&&count| count > 0).count())?;
    let mut block = Block::absent(series, grid, charge);
    for (row, (_, column)) in columns.into_iter().enumerate() {
        for (step, &count) in tally.counts[column].iter().enumerate().filter(|(_, count)| **count > 0) {
            block.set(row, step, f64::from(count));
        }
    }
    Ok(block)
}

/// The texts of values, each written once.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    numbers: Map<String, usize>,
    of_bits: Map<u64, usize>,
}

impl Texts {
    fn of_float(&mut self, bits: u64) -> usize {
        if let Some(&number) = self.of_bits.get(&bits) {
            return number;
        }
        let number = self.number(format_f(f64::from_bits(bits)));
        self.of_bits.insert(bits, number);
        number
    }

    fn number(&mut self, text: String) -> usize {
        if let Some(&number) = self.numbers.get(&text) {
            return number;
        }
        self.all.push(text.clone());
        self.numbers.insert(text, self.all.len() - 1);
        self.all.len() - 1
    }
}

/// Counts per step, a column per group and value.
struct Tally {
    charge: super::budget::Charge,
    steps: usize,
    columns: Map<(u32, usize), usize>,
    counts: Vec<Vec<u32>>,
}

impl Tally {
    fn column(&mut self, ctx: &Ctx<'_>, group: u32, text: usize) -> Result<usize, Error> {
        if let Some(&column) = self.columns.get(&(group, text)) {
            return Ok(column);
        }
        self.charge.absorb(
            ctx.budget.charge(self.steps.saturating_mul(size_of::<u32>()).saturating_add(COLUMN_BYTES))?,
        );
        self.counts.push(vec![0; self.steps]);
        self.columns.insert((group, text), self.counts.len() - 1);
        Ok(self.counts.len() - 1)
    }
}
