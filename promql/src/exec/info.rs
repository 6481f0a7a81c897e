//! `info()`: adds the labels of info metrics, `target_info` first of all, to the series of the same instance and job.
//!
//! Which info series are fetched depends on the values found in the operand, so this is the one operator that asks the
//! store while the query runs. A series may get other labels from step to step and then becomes several.
//!
//! Compat: prometheus `promql/info.go` (3.14, with the handling of `@` and `offset` that its tests have since).

use std::collections::BTreeSet;

use model::labels::METRIC_NAME;
use model::storage::SelectHints;
use model::{Detail, Labels, LabelsBuilder, MatchOp, Matcher, is_stale};

use super::column::{Block, Grid, Series};
use super::element::ValueRef;
use super::join::Map;
use super::stream::{self, Samples, Stream};
use super::{Ctx, Selected};
use crate::engine::Error;
use crate::plan::InfoSelector;

/// What tells to whom an info series belongs.
const IDENTIFYING: [&[u8]; 2] = [b"instance", b"job"];

/// The time of a step at which an info series has no sample.
const NEVER: i64 = i64::MIN;

/// Stands for no output.
const NOWHERE: u32 = u32::MAX;

pub(crate) fn run(ctx: &Ctx<'_>, base: &Block, selector: &InfoSelector) -> Result<Stream, Error> {
    let grid = base.grid;
    let (names, data): (Vec<&Matcher>, Vec<&Matcher>) =
        selector.matchers.iter().flatten().partition(|m| *m.name == *METRIC_NAME);
    let names = effective(&names);
    let is_info = |series: &Series| names.iter().all(|m| m.matches(series.labels.metric_name()));
    let untouched: Vec<bool> = base.series.iter().map(is_info).collect();
    let infos = fetch(ctx, base, &untouched, &names, &data, selector)?;
    Join::new(ctx, base, &untouched, &infos, &data).run(grid).map(Stream::of_block)
}

/// The matchers by which info metrics are found: what is only excluded is excluded from those called `.+_info`.
fn effective(names: &[&Matcher]) -> Vec<Matcher> {
    let mut all: Vec<Matcher> = names.iter().map(|&m| m.clone()).collect();
    if all.is_empty() {
        all.push(Matcher::equal(METRIC_NAME, "target_info"));
    } else if all.iter().all(|m| m.op.is_negative()) {
        all.insert(0, Matcher::new(MatchOp::Re, METRIC_NAME, ".+_info").expect("the pattern is valid"));
    }
    all
}

/// The info series with a sample at some step.
struct Infos {
    labels: Vec<Labels>,
    /// Series × steps: the time of the sample that is seen there.
    times: Vec<i64>,
    steps: usize,
    charge: super::budget::Charge,
}

impl Infos {
    fn at(&self, row: usize, step: usize) -> Option<i64> {
        let t = self.times[row * self.steps + step];
        (t != NEVER).then_some(t)
    }
}

fn fetch(
    ctx: &Ctx<'_>,
    base: &Block,
    untouched: &[bool],
    names: &[Matcher],
    data: &[&Matcher],
    selector: &InfoSelector,
) -> Result<Infos, Error> {
    let grid = base.grid;
    let mut infos =
        Infos { labels: Vec::new(), times: Vec::new(), steps: grid.len, charge: ctx.budget.charge(0)? };
    let mut matchers: Vec<Matcher> = Vec::new();
    for name in IDENTIFYING {
        let enriched = base.series.iter().zip(untouched).filter(|(_, untouched)| !**untouched);
        let values: BTreeSet<&[u8]> = enriched.filter_map(|(s, _)| s.labels.get(name)).collect();
        if !values.is_empty() {
            let pattern = values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(&b'|');
            let matcher = Matcher::new(MatchOp::Re, name, pattern);
            matchers.push(matcher.map_err(|e| Error::Internal(format!("unexpected error: {e}")))?);
        }
    }
    let Some(querier) = ctx.querier.as_deref().filter(|_| !matchers.is_empty() && grid.len > 0) else {
        return Ok(infos);
    };
    matchers.extend(data.iter().map(|&m| m.clone()));
    matchers.extend_from_slice(names);
    let hints = SelectHints {
        range: Some(selector.range),
        step_ms: if ctx.instant { 0 } else { grid.step },
        ..SelectHints::default()
    };
    let set =
        querier.select(&matchers, &hints).map_err(|e| Error::Storage(format!("expanding series: {e}")))?;
    let selected = Selected::new(set);
    let mut samples = Samples::default();
    for (i, series) in selected.series().into_iter().enumerate() {
        if i % 64 == 0 {
            ctx.budget.check()?;
        }
        samples.clear();
        selected.samples_into(i, selector.range, Detail::All, &mut samples)?;
        ctx.costs.taken(samples.weight());
        let from = infos.times.len();
        infos.charge.absorb(ctx.budget.charge(grid.len * size_of::<i64>())?);
        if !push_times(&samples, grid, selector, ctx.lookback, &mut infos.times) {
            let text = format!("this should be an info metric, with float samples: {}", series.labels);
            return Err(Error::Execution(text));
        }
        if infos.times[from..].iter().all(|&t| t == NEVER) {
            infos.times.truncate(from);
        } else {
            infos.labels.push(series.labels);
        }
    }
    Ok(infos)
}

/// The time of the sample that an instant selector would see, per step; `false` if one is a histogram.
fn push_times(
    samples: &Samples,
    grid: Grid,
    selector: &InfoSelector,
    lookback: i64,
    out: &mut Vec<i64>,
) -> bool {
    let (ts, vs) = (&samples.floats.ts, &samples.floats.vs);
    for step in 0..grid.len {
        let reference = selector.at.unwrap_or_else(|| grid.time(step)).saturating_sub(selector.offset);
        let is_seen = |t: i64| t > reference.saturating_sub(lookback);
        let next = ts.partition_point(|&t| t <= reference);
        let float = next.checked_sub(1).map(|i| (ts[i], vs[i]));
        let next = samples.histograms.partition_point(|point| point.t <= reference);
        let histogram = next.checked_sub(1).map(|i| &samples.histograms[i]);
        match (float, histogram) {
            (float, Some(point)) if float.is_none_or(|(t, _)| t < point.t) => {
                if is_seen(point.t) && !point.value.is_stale() {
                    return false;
                }
                out.push(NEVER);
            }
            (Some((t, v)), _) if is_seen(t) && !is_stale(v) => out.push(t),
            _ => out.push(NEVER),
        }
    }
    true
}

/// A pattern that matches exactly `value`.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        if br"\.+*?()|[]{}^$".contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

struct Join<'a> {
    ctx: &'a Ctx<'a>,
    base: &'a Block,
    untouched: &'a [bool],
    infos: &'a Infos,
    data: &'a [&'a Matcher],
    /// Per info series the number of its metric, instance and job.
    signatures: Vec<u32>,
    /// Per base series the signatures that it may meet, in the order of the names of info metrics.
    wanted: Vec<Vec<u32>>,
    count: usize,
    /// Where a base series goes that has met these info series.
    places: Map<(u32, Vec<u32>), u32>,
    rows: Map<Labels, u32>,
    series: Vec<Series>,
}

/// Of an info metric: its name, and its identifying labels.
type Signature<'a> = (&'a [u8], [Option<&'a [u8]>; 2]);

fn identity(labels: &Labels) -> [Option<&[u8]>; 2] {
    IDENTIFYING.map(|name| labels.get(name))
}

impl<'a> Join<'a> {
    fn new(
        ctx: &'a Ctx<'a>,
        base: &'a Block,
        untouched: &'a [bool],
        infos: &'a Infos,
        data: &'a [&'a Matcher],
    ) -> Self {
        let names: BTreeSet<&[u8]> = infos.labels.iter().map(Labels::metric_name).collect();
        let mut known: Map<Signature<'_>, u32> = Map::default();
        let mut number = |labels: &'a Labels| {
            let next = u32::try_from(known.len()).expect("a query has fewer than 2^32 series");
            *known.entry((labels.metric_name(), identity(labels))).or_insert(next)
        };
        let signatures = infos.labels.iter().map(&mut number).collect();
        let wanted_by = |series: &Series| {
            let identity = identity(&series.labels);
            names.iter().filter_map(|name| known.get(&(*name, identity)).copied()).collect()
        };
        let wanted = base.series.iter().map(wanted_by).collect();
        let count = known.len();
        let (places, rows, series) = (Map::default(), Map::default(), Vec::new());
        Self { ctx, base, untouched, infos, data, signatures, wanted, count, places, rows, series }
    }

    fn run(mut self, grid: Grid) -> Result<Block, Error> {
        let base = self.base;
        let rows = base.len();
        let cells = rows.saturating_mul(grid.len);
        let _charge = self.ctx.budget.charge(cells.saturating_mul(size_of::<u32>()))?;
        // Steps × base series: the row of the result.
        let mut places = vec![NOWHERE; cells];
        // Per signature the step, counted from 1, and the info series that holds there.
        let mut current: Vec<(usize, usize)> = vec![(0, 0); self.count];
        let mut taken: Vec<usize> = Vec::new();
        let mut met = Vec::new();
        for step in 0..grid.len {
            if step % 64 == 0 {
                self.ctx.budget.check()?;
            }
            if !(0..rows).any(|row| base.has(row, step)) {
                continue;
            }
            self.choose(step, &mut current)?;
            for row in (0..rows).filter(|&row| base.has(row, step)) {
                met.clear();
                let infos = self.wanted[row].iter().map(|&signature| current[signature as usize]);
                met.extend(infos.filter(|&(now, _)| now == step + 1).map(|(_, info)| info));
                let place = self.place(row, &met)?;
                if place == NOWHERE {
                    continue;
                }
                taken.resize(self.series.len(), 0);
                if std::mem::replace(&mut taken[place as usize], step + 1) == step + 1 {
                    return Err(stream::duplicates());
                }
                places[step * rows + row] = place;
            }
        }
        let mut charge = self.ctx.charge_block(self.series.len(), grid)?;
        charge.add_samples(base.weight())?;
        let mut block = Block::absent(self.series, grid, charge);
        for (cell, &place) in places.iter().enumerate().filter(|(_, place)| **place != NOWHERE) {
            let (step, row) = (cell / rows, cell % rows);
            let mut out = block.row_mut(place as usize);
            match base.view(row).get(step) {
                Some(ValueRef::Float(v)) => out.set(step, v),
                Some(ValueRef::Histogram(histogram)) => out.histograms.push(step, histogram.clone()),
                None => {}
            }
        }
        Ok(block)
    }

    /// Of the info series with one signature the one with the newest sample.
    fn choose(&self, step: usize, current: &mut [(usize, usize)]) -> Result<(), Error> {
        for (info, &signature) in self.signatures.iter().enumerate() {
            let Some(t) = self.infos.at(info, step) else {
                continue;
            };
            let (now, other) = current[signature as usize];
            let known = if now == step + 1 { self.infos.at(other, step) } else { None };
            match known {
                Some(known) if known > t => {}
                Some(known) if known == t => {
                    let labels = &self.infos.labels;
                    return Err(Error::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {known}, new {} @ {t}",
                        labels[other], labels[info]
                    )));
                }
                _ => current[signature as usize] = (step + 1, info),
            }
        }
        Ok(())
    }

    /// The row of the result for a base series that has met the given info series.
    fn place(&mut self, row: usize, met: &[usize]) -> Result<u32, Error> {
        let narrow = |n: usize| u32::try_from(n).expect("a query has fewer than 2^32 series");
        let met: &[usize] = if self.untouched[row] { &[] } else { met };
        let key = (narrow(row), met.iter().map(|&info| narrow(info)).collect::<Vec<_>>());
        if let Some(&place) = self.places.get(&key) {
            return Ok(place);
        }
        let place = match self.labels(row, met)? {
            None => NOWHERE,
            Some(labels) => {
                let next = narrow(self.series.len());
                let place = *self.rows.entry(labels.clone()).or_insert(next);
                if place == next {
                    self.series.push(Series { labels, drop_name: self.base.series[row].drop_name });
                }
                place
            }
        };
        self.places.insert(key, place);
        Ok(place)
    }

    fn labels(&self, row: usize, met: &[usize]) -> Result<Option<Labels>, Error> {
        let base = &self.base.series[row].labels;
        if self.untouched[row] {
            return Ok(Some(base.clone()));
        }
        if met.is_empty() {
            return Ok(self.data.iter().all(|m| m.matches_empty()).then(|| base.clone()));
        }
        let mut added = LabelsBuilder::default();
        for &info in met {
            for (name, value) in &self.infos.labels[info] {
                let is_asked_for = self.data.is_empty() || self.data.iter().any(|m| *m.name == *name);
                if name == METRIC_NAME || !is_asked_for {
                    continue;
                }
                if added.get(name).is_some_and(|known| known != value) {
                    let name = String::from_utf8_lossy(name);
                    return Err(Error::Execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.set(name, value);
                }
            }
        }
        let mut builder = LabelsBuilder::from(base);
        added.iter().for_each(|(name, value)| builder.set(name, value));
        Ok(Some(builder.build()))
    }
}

#[cfg(test)]
mod tests;
