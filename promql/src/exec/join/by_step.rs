//! A join as upstream runs it, one step after the other, over two collected sides.
//!
//! Numbers stand for labels: of match groups, and of output label sets, each worked out once per pair of series.
//!
//! Compat: prometheus `promql/engine.go`, `VectorBinop` (3.14).

use model::Labels;

use super::{Join, Map, Signatures, match_labels};
use crate::engine::Error;
use crate::exec::Ctx;
use crate::exec::column::{Block, Series};
use crate::exec::element::{self, Element, Remarks, Value, ValueRef};
use crate::exec::stream;

/// Stands for the filled sample in the place of a row.
const FILLED: u32 = u32::MAX;

pub(super) fn run(join: &Join<'_>, ctx: &Ctx<'_>, many: &Block, one: &Block) -> Result<Block, Error> {
    let grid = many.grid;
    let signatures = Signatures::new(join.matching, &many.series, &one.series);
    let count = signatures.count;
    let mut walk = Walk {
        join,
        ctx,
        many,
        one,
        signatures,
        partner: vec![(0, 0); count],
        matched: vec![0; count],
        taken: Map::default(),
        outputs: Map::default(),
        numbers: Map::default(),
        labels: Vec::new(),
        rows: Vec::new(),
        series: Vec::new(),
        points: Vec::new(),
        remarks: Remarks::new(join.op, join.place),
    };
    for step in 0..grid.len {
        if step % 64 == 0 {
            ctx.budget.check()?;
        }
        walk.step(step)?;
    }
    let Walk { series, points, remarks, .. } = walk;
    remarks.raise(ctx);
    let mut charge = ctx.charge_block(series.len(), grid)?;
    charge.add_samples(points.len())?;
    let mut block = Block::absent(series, grid, charge);
    for (row, step, value) in points {
        if block.has(row, step) {
            return Err(stream::duplicates());
        }
        match value {
            Value::Float(v) => block.set(row, step, v),
            Value::Histogram(histogram) => block.row_mut(row).histograms.push(step, histogram),
        }
    }
    Ok(block)
}

struct Walk<'a> {
    join: &'a Join<'a>,
    ctx: &'a Ctx<'a>,
    many: &'a Block,
    one: &'a Block,
    signatures: Signatures,
    // Of the step whose number, counted from 1, stands beside them; others are of the past.
    /// Per match group the row of the "one" side.
    partner: Vec<(u32, u32)>,
    /// Per match group whether something was put out.
    matched: Vec<u32>,
    /// Which output labels a match group has put out.
    taken: Map<(u32, u32), u32>,
    /// The output of a pair of rows, by number: twice that of its labels, one more if their name falls later.
    outputs: Map<(u32, u32), u32>,
    numbers: Map<Labels, u32>,
    labels: Vec<Labels>,
    /// Per number of an output the row of the result, once it has one.
    rows: Vec<Option<usize>>,
    series: Vec<Series>,
    points: Vec<(usize, usize, Value)>,
    remarks: Remarks,
}

/// Two elements that meet.
struct Pair<'v> {
    step: usize,
    /// In the order of the step.
    number: usize,
    group: u32,
    many: (u32, ValueRef<'v>),
    one: (u32, ValueRef<'v>),
}

impl<'a> Walk<'a> {
    fn step(&mut self, step: usize) -> Result<(), Error> {
        let (many, one): (&'a Block, &'a Block) = (self.many, self.one);
        let there = |block: &'a Block| {
            let rows = (0..block.len()).filter_map(move |row| Some((row, block.view(row).get(step)?)));
            rows.map(|(row, v)| (u32::try_from(row).expect("a query has fewer than 2^32 series"), v))
        };
        let (mut any_many, mut any_one) = (there(many).peekable(), there(one).peekable());
        let (is_many, is_one) = (any_many.peek().is_some(), any_one.peek().is_some());
        if (!is_many && !is_one) || (!self.join.fills() && (!is_many || !is_one)) {
            return Ok(());
        }
        let now = u32::try_from(step + 1).expect("a query has fewer than 2^32 steps");
        for (row, _) in any_one {
            let group = self.signatures.right[row as usize] as usize;
            let (seen, earlier) = self.partner[group];
            if seen == now {
                return Err(self.many_to_many(row, earlier));
            }
            self.partner[group] = (now, row);
        }
        let mut number = 0;
        for (row, v) in any_many {
            let group = self.signatures.left[row as usize];
            let (seen, other) = self.partner[group as usize];
            let other = if seen == now {
                let v = one.view(other as usize).get(step).expect("a partner is there at the step");
                (other, v)
            } else if let Some(filled) = self.join.matching.fill_right {
                (FILLED, ValueRef::Float(filled))
            } else {
                continue;
            };
            self.meet(&Pair { step, number, group, many: (row, v), one: other })?;
            number += 1;
        }
        let Some(filled) = self.join.matching.fill_left else {
            return Ok(());
        };
        for (row, v) in there(one) {
            let group = self.signatures.right[row as usize];
            if self.matched[group as usize] != now {
                let filled = (FILLED, ValueRef::Float(filled));
                self.meet(&Pair { step, number, group, many: filled, one: (row, v) })?;
                number += 1;
            }
        }
        Ok(())
    }

    fn meet(&mut self, pair: &Pair<'_>) -> Result<(), Error> {
        let join = self.join;
        let now = u32::try_from(pair.step + 1).expect("a query has fewer than 2^32 steps");
        let (lhs, rhs) =
            if join.is_swapped() { (pair.one.1, pair.many.1) } else { (pair.many.1, pair.one.1) };
        let (outcome, remark) = element::element(join.op, lhs, rhs, join.return_bool);
        self.remarks.note(pair.number, remark.map(|remark| (pair.step, remark)));
        if matches!(outcome, Element::Impossible) {
            return Ok(());
        }
        let output = self.output(pair.many.0, pair.one.0);
        // Refused before a comparison throws the sample away.
        let conflict = |what: &str| Err(Error::Execution(format!("multiple matches for labels: {what}")));
        let matched = std::mem::replace(&mut self.matched[pair.group as usize], now);
        if join.is_one_to_one() {
            if matched == now {
                return conflict("many-to-one matching must be explicit (group_left/group_right)");
            }
        } else if self.taken.insert((pair.group, output / 2), now) == Some(now) {
            return conflict("grouping labels must ensure unique matches");
        }
        let Element::Kept(value) = outcome else {
            return Ok(());
        };
        // An instant query with delayed removal may keep equal label sets until the end.
        let keeps_equals = self.many.grid.is_point() && self.ctx.delayed_name_removal;
        let row = match self.rows[output as usize] {
            Some(row) if !keeps_equals => row,
            _ => {
                let labels = self.labels[output as usize / 2].clone();
                self.series.push(Series { labels, drop_name: output % 2 == 1 });
                self.series.len() - 1
            }
        };
        self.rows[output as usize] = Some(row);
        self.points.push((row, pair.step, value));
        Ok(())
    }

    /// The number of the output of two rows.
    fn output(&mut self, many: u32, one: u32) -> u32 {
        if let Some(&number) = self.outputs.get(&(many, one)) {
            return number;
        }
        let matching = self.join.matching;
        let of = |block: &Block, row: u32| block.series[row as usize].clone();
        let filled =
            |other: &Series| Series { labels: match_labels(matching, &other.labels), drop_name: false };
        let (many_series, one_series) = match (many, one) {
            (FILLED, one) => {
                let one = of(self.one, one);
                (filled(&one), one)
            }
            (many, FILLED) => {
                let many = of(self.many, many);
                let one = filled(&many);
                (many, one)
            }
            (many, one) => (of(self.many, many), of(self.one, one)),
        };
        let output = self.join.output(self.ctx, &many_series, &one_series.labels);
        let next = u32::try_from(self.labels.len()).expect("a query has fewer than 2^31 series");
        let labels = *self.numbers.entry(output.labels.clone()).or_insert(next);
        if labels == next {
            self.labels.push(output.labels);
            self.rows.extend([None, None]);
        }
        let number = labels * 2 + u32::from(output.drop_name);
        self.outputs.insert((many, one), number);
        number
    }

    /// Both are named in the order of their texts, as in upstream's tests.
    fn many_to_many(&self, a: u32, b: u32) -> Error {
        let matching = self.join.matching;
        let side = if self.join.is_swapped() { "left" } else { "right" };
        let series = [a, b].map(|row| &self.one.series[row as usize].labels);
        let group = match_labels(matching, series[0]);
        let mut both = series.map(ToString::to_string);
        both.sort();
        Error::Execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}]\
             ;many-to-many matching not allowed: matching labels must be unique on one side",
            both[0], both[1]
        ))
    }
}
