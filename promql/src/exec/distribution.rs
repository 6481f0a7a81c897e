//! Aggregations that look at all values of a group at a step: `quantile` and `count_values`.
//!
//! A quantile is worked out group by group, as many groups at a time as fit into a wave. Values are counted as they
//! come; a value is written out, and labels are built, once per group and value.
//!
//! Compat: prometheus `promql/engine.go`, `aggregation`, `aggregationCountValues` (3.14).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use model::number::append_f_into;
use model::{FloatHistogram, Labels};
use rayon::prelude::*;

use super::aggregate::{Groups, LastWord, group};
use super::column::{Block, Histograms, RowView, Scalars, Series, bits};
use super::ranked::{bounds, reordered};
use super::stream::{Stream, WAVE_CELLS};
use super::{Ctx, math};
use crate::annotations::{Annotation, Place};
use crate::engine::Error;
use crate::parse::ast::AggregateOp;
use crate::plan::Grouping;

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
    let mut tally = Tally::new(ctx, grid.len)?;
    let mut samples = ctx.budget.charge(0)?;
    stream.for_each_wave(ctx, &mut samples, |wave| {
        for r in 0..wave.rows {
            let row = wave.row(r);
            let group = groups.of_series[wave.from + r];
            // Neighbouring steps often have the same value.
            let mut last: Option<(u64, usize)> = None;
            for step in bits::ones(row.present) {
                let v = row.values[step];
                let column = match last {
                    Some((known, column)) if known == v.to_bits() => column,
                    _ => tally.column(
                        ctx,
                        group,
                        if shows_value { Counted::float(v) } else { Counted::Any },
                    )?,
                };
                last = Some((v.to_bits(), column));
                tally.count(ctx, column, step)?;
            }
            let mut last: Option<(&Arc<FloatHistogram>, usize)> = None;
            for (step, histogram) in row.histograms.iter() {
                let column = match last {
                    Some((known, column)) if Arc::ptr_eq(known, histogram) => column,
                    _ => {
                        let what =
                            if shows_value { texts.number(histogram.to_string()) } else { Counted::Any };
                        tally.column(ctx, group, what)?
                    }
                };
                last = Some((histogram, column));
                tally.count(ctx, column, step)?;
            }
        }
        Ok(())
    })?;
    let mut columns = labelled(&tally.columns, &texts, &groups, label);
    if groups.len() > 1 {
        columns.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    }
    let mut charge = ctx.charge_block(columns.len(), grid)?;
    let (series, order): (Vec<Series>, Vec<usize>) =
        columns.into_iter().map(|(labels, column)| (Series { labels, drop_name: false }, column)).unzip();
    charge.add_samples(tally.points())?;
    let mut block = Block::absent(series, grid, charge);
    for (row, column) in order.into_iter().enumerate() {
        tally.each(column, |step, count| block.set(row, step, f64::from(count)));
    }
    Ok(block)
}

/// The labels of all columns, in their order if there is but one group. No two are the same: texts of values are
/// as distinct as the values.
fn labelled(columns: &[Column], texts: &Texts, groups: &Groups, label: &[u8]) -> Vec<(Labels, usize)> {
    // One group's label sets differ in the text alone, whose first bytes nearly always decide.
    let mut written: Vec<u8> = Vec::with_capacity(columns.len() * 12);
    let mut sorted: Vec<(u128, usize, usize, usize)> = Vec::with_capacity(columns.len());
    for (number, column) in columns.iter().enumerate() {
        let start = written.len();
        match column.what {
            Counted::Float(bits) => append_f_into(f64::from_bits(bits), &mut written),
            Counted::Text(text) => written.extend_from_slice(texts.all[text as usize].as_bytes()),
            Counted::Any => {}
        }
        let mut head = [0; 16];
        let text = &written[start..];
        let n = text.len().min(head.len());
        head[..n].copy_from_slice(&text[..n]);
        sorted.push((u128::from_be_bytes(head), start, written.len(), number));
    }
    if groups.len() == 1 {
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| written[a.1..a.2].cmp(&written[b.1..b.2])));
    }
    let labels_of = |(_, start, end, number): (u128, usize, usize, usize)| {
        let column = &columns[number];
        let labels = &groups.series[column.group as usize].labels;
        if matches!(column.what, Counted::Any) {
            return (labels.clone(), number);
        }
        let before = labels.iter().take_while(|(name, _)| *name < label);
        let behind = labels.iter().skip_while(|(name, _)| *name <= label);
        (Labels::from_sorted(before.chain([(label, &written[start..end])]).chain(behind)), number)
    };
    sorted.into_iter().map(labels_of).collect()
}

/// What samples have in common that are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    /// Where the value is not shown.
    Any,
    /// The bits of a float, of which no two have the same text.
    Float(u64),
    /// The number of a histogram's text.
    Text(u32),
}

impl Counted {
    /// Every NaN is written alike.
    fn float(v: f64) -> Self {
        Self::Float(if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() })
    }
}

/// The texts of histograms, each kept once.
#[derive(Default)]
struct Texts {
    all: Vec<Arc<str>>,
    numbers: Map<Arc<str>, u32>,
}

impl Texts {
    fn number(&mut self, text: String) -> Counted {
        if let Some(&number) = self.numbers.get(text.as_str()) {
            return Counted::Text(number);
        }
        let text: Arc<str> = text.into();
        let number = u32::try_from(self.all.len()).expect("memory runs out before 2^32 texts");
        self.all.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Counted::Text(number)
    }
}

/// Steps whose counts a column holds itself: values of what is measured seldom come back.
const FEW: usize = 4;

/// Columns that are charged at a time.
const CHARGED: usize = 256;

/// The counts of a group and a value.
struct Column {
    group: u32,
    what: Counted,
    /// Steps and counts, from the front; a count of nothing is no count.
    few: [(u32, u32); FEW],
    /// Which of the long columns takes over when there are more steps than that.
    long: Option<u32>,
}

/// Counts per step, a column per group and value.
struct Tally {
    charge: super::budget::Charge,
    steps: usize,
    known: Map<(u32, Counted), u32>,
    columns: Vec<Column>,
    /// Those with a count for every step, one behind the other.
    long: Vec<u32>,
}

impl Tally {
    fn new(ctx: &Ctx<'_>, steps: usize) -> Result<Self, Error> {
        let charge = ctx.budget.charge(0)?;
        Ok(Self { charge, steps, known: Map::default(), columns: Vec::new(), long: Vec::new() })
    }

    fn column(&mut self, ctx: &Ctx<'_>, group: u32, what: Counted) -> Result<usize, Error> {
        if let Some(&column) = self.known.get(&(group, what)) {
            return Ok(column as usize);
        }
        if self.columns.len().is_multiple_of(CHARGED) {
            /// Its labels and the text among them.
            const TEXTS: usize = 300;
            const ENTRY: usize = size_of::<Column>() + 2 * size_of::<((u32, Counted), u32)>() + TEXTS;
            self.charge.absorb(ctx.budget.charge(CHARGED * ENTRY)?);
        }
        let number = u32::try_from(self.columns.len()).expect("memory runs out before 2^32 columns");
        self.columns.push(Column { group, what, few: [(0, 0); FEW], long: None });
        self.known.insert((group, what), number);
        Ok(number as usize)
    }

    fn count(&mut self, ctx: &Ctx<'_>, column: usize, step: usize) -> Result<(), Error> {
        let column = &mut self.columns[column];
        if let Some(long) = column.long {
            self.long[long as usize * self.steps + step] += 1;
            return Ok(());
        }
        let narrow = u32::try_from(step).expect("a query has fewer than 2^32 steps");
        for (at, count) in &mut column.few {
            if *count == 0 || *at == narrow {
                (*at, *count) = (narrow, *count + 1);
                return Ok(());
            }
        }
        self.charge.absorb(ctx.budget.charge(self.steps * size_of::<u32>())?);
        let start = self.long.len();
        column.long = Some(u32::try_from(start / self.steps).expect("no more than columns"));
        self.long.resize(start + self.steps, 0);
        for (at, count) in column.few {
            self.long[start + at as usize] = count;
        }
        self.long[start + step] += 1;
        Ok(())
    }

    /// Hands `f` the steps and counts of a column.
    fn each(&self, column: usize, mut f: impl FnMut(usize, u32)) {
        let column = &self.columns[column];
        if let Some(long) = column.long {
            let counts = &self.long[long as usize * self.steps..][..self.steps];
            counts
                .iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
                .for_each(|(step, &count)| f(step, count));
        } else {
            column
                .few
                .iter()
                .take_while(|(_, count)| *count > 0)
                .for_each(|&(at, count)| f(at as usize, count));
        }
    }

    /// How many steps of columns have a count.
    fn points(&self) -> usize {
        let mut points = 0;
        (0..self.columns.len()).for_each(|column| self.each(column, |_, _| points += 1));
        points
    }
}
