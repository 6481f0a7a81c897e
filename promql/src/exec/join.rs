//! Arithmetic and comparisons between vectors: matching by signature, once per query.
//!
//! Signatures are numbered once per series. Where every match group has at most one candidate on the sides that must
//! be unique, the join is a list of pairs, and a row of it is computed when it is asked for: nothing is collected but
//! a "one" side that several rows share. Otherwise, and for fill modifiers, both sides are collected and it walks
//! step by step, because who conflicts with whom then depends on who is there.
//!
//! Compat: prometheus `promql/engine.go`, `VectorBinop`, `resultMetric` (3.14).

mod by_step;
#[cfg(test)]
pub(crate) mod tests;

use hashbrown::{HashMap, HashSet};
use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder};

use super::Ctx;
use super::budget::Charge;
use super::column::{Block, Row, RowView, Series};
use super::element::{self, Remarks};
use super::math;
use super::stream::{Scratch, Source, Stream, is_metadata};
use crate::annotations::Place;
use crate::engine::Error;
use crate::parse::ast::{BinaryOp, Cardinality, VectorMatching};

pub(super) type Set<T> = HashSet<T, foldhash::fast::FixedState>;
pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// The operator with all that decides about labels.
#[derive(Clone, Copy)]
pub(crate) struct Join<'a> {
    pub(crate) op: BinaryOp,
    pub(crate) matching: &'a VectorMatching,
    pub(crate) return_bool: bool,
    pub(crate) place: Place,
}

/// Per row of both sides the number of its match group.
pub(crate) struct Signatures {
    pub(crate) left: Vec<u32>,
    pub(crate) right: Vec<u32>,
    pub(crate) count: usize,
}

fn is_matched(matching: &VectorMatching, name: &[u8]) -> bool {
    let listed = matching.labels.iter().any(|l| **l == *name);
    if matching.on { listed } else { !listed && name != METRIC_NAME }
}

/// The labels by which `labels` is matched.
fn match_labels(matching: &VectorMatching, labels: &Labels) -> Labels {
    labels.without(|name| !is_matched(matching, name))
}

impl Signatures {
    pub(crate) fn new(matching: &VectorMatching, left: &[Series], right: &[Series]) -> Self {
        let mut known: Map<Box<[u8]>, u32> = HashMap::default();
        let mut key = Vec::new();
        let mut number = |series: &[Series]| -> Vec<u32> {
            let id_of = |s: &Series| {
                key.clear();
                Labels::pack_sorted(s.labels.iter().filter(|(name, _)| is_matched(matching, name)), &mut key);
                if let Some(&id) = known.get(&key[..]) {
                    return id;
                }
                let next = u32::try_from(known.len()).expect("a query has fewer than 2^32 series");
                known.insert(key[..].into(), next);
                next
            };
            series.iter().map(id_of).collect()
        };
        let (left, right) = (number(left), number(right));
        Self { left, right, count: known.len() }
    }
}

/// A join whose pairs hold at every step, as a source of rows.
pub(crate) struct Pairs {
    op: BinaryOp,
    return_bool: bool,
    /// The "many" side is the right operand.
    swapped: bool,
    many: Stream,
    one: Stream,
    rows: Vec<(usize, usize)>,
    /// Rows of either side that are in no pair.
    alone: [Vec<usize>; 2],
    remarks: Remarks,
    /// Whether rows of the "one" side are computed even if there is nothing to combine them with.
    one_may_remark: bool,
    /// The memory of the second rows.
    _rows: Charge,
}

impl Pairs {
    pub(crate) fn depth(&self) -> usize {
        self.many.depth().max(self.one.depth())
    }

    /// Computes the row of pair `i`.
    pub(crate) fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        i: usize,
        scratch: &mut Scratch,
        mut row: Row<'_>,
    ) -> Result<(), Error> {
        let (many, one) = self.rows[i];
        self.many.fill_row(ctx, many, scratch, row.reborrow())?;
        if let Some(other) = self.one.ready_row(one) {
            self.combine(i, row, other);
            return Ok(());
        }
        if row.is_empty() && !self.one_may_remark {
            return Ok(());
        }
        let mut other = scratch.take_row(self.one.grid);
        self.one.fill_row(ctx, one, scratch, other.row())?;
        self.combine(i, row, other.view());
        scratch.put_row(other);
        Ok(())
    }

    fn combine(&self, i: usize, row: Row<'_>, other: RowView<'_>) {
        if row.histograms.is_empty() && other.histograms.is_empty() && !self.op.is_trim() {
            let Row { values, present, .. } = row;
            let other = (other.values, other.present);
            return math::join_row(self.op, self.return_bool, self.swapped, values, present, other);
        }
        element::join_row(self.op, (self.return_bool, self.swapped), row, other, (i, &self.remarks));
    }

    /// As [`Stream::raise_notes`]; computes the rows that no pair has asked for, if they may have something to say.
    pub(crate) fn raise_notes(&self, ctx: &Ctx<'_>) -> Result<(), Error> {
        for (stream, alone) in [&self.many, &self.one].into_iter().zip(&self.alone) {
            stream.hear(ctx, alone)?;
            stream.raise_notes(ctx)?;
        }
        self.remarks.raise(ctx);
        Ok(())
    }
}

/// The pairs of a join, and whether some row of the "one" side is in several.
struct Paired {
    series: Vec<Series>,
    rows: Vec<(usize, usize)>,
    is_shared: bool,
}

impl Join<'_> {
    fn is_swapped(&self) -> bool {
        self.matching.card == Cardinality::OneToMany
    }

    fn is_one_to_one(&self) -> bool {
        self.matching.card == Cardinality::OneToOne
    }

    fn fills(&self) -> bool {
        self.matching.fill_left.is_some() || self.matching.fill_right.is_some()
    }

    /// Computes the join. The result may hold equal label sets, which the caller unifies.
    pub(crate) fn run(&self, ctx: &Ctx<'_>, lhs: Stream, rhs: Stream) -> Result<Stream, Error> {
        let grid = lhs.grid;
        let (mut many, mut one) = if self.is_swapped() { (rhs, lhs) } else { (lhs, rhs) };
        if !self.fills() {
            let mut paired = self.pair(ctx, &many.series, &one.series);
            if paired.is_none() {
                // Series without a point in sight do not count.
                many = Stream::of_block(many.collect(ctx)?);
                one = Stream::of_block(one.collect(ctx)?);
                paired = self.pair(ctx, &many.series, &one.series);
            }
            if paired.as_ref().is_some_and(|p| p.is_shared) && !matches!(one.source, Source::Block(_)) {
                one = Stream::of_block(one.collect(ctx)?);
                paired = self.pair(ctx, &many.series, &one.series);
            }
            if let Some(paired) = paired {
                return self.pairs(ctx, many, one, paired);
            }
        }
        let (many, one) = (many.collect(ctx)?, one.collect(ctx)?);
        if grid.len == 0 || (many.len() == 0 && one.len() == 0) {
            return Ok(Stream::of_block(Block::empty(grid)));
        }
        by_step::run(self, ctx, &many, &one).map(Stream::of_block)
    }

    fn pairs(&self, ctx: &Ctx<'_>, many: Stream, one: Stream, paired: Paired) -> Result<Stream, Error> {
        let alone = |n: usize, in_pairs: &mut dyn Iterator<Item = usize>| -> Vec<usize> {
            let mut is_paired = vec![false; n];
            in_pairs.for_each(|row| is_paired[row] = true);
            (0..n).filter(|&row| !is_paired[row]).collect()
        };
        let Paired { series, rows, .. } = paired;
        let alone = [
            alone(many.len(), &mut rows.iter().map(|&(many, _)| many)),
            alone(one.len(), &mut rows.iter().map(|&(_, one)| one)),
        ];
        let grid = many.grid;
        let charge = ctx.charge_block(ctx.threads.min(rows.len()), grid)?;
        let source = Pairs {
            op: self.op,
            return_bool: self.return_bool,
            swapped: self.is_swapped(),
            one_may_remark: one.may_remark(),
            many,
            one,
            rows,
            alone,
            remarks: Remarks::new(self.op, self.place),
            _rows: charge,
        };
        Ok(Stream { series, grid, source: Source::Pairs(Box::new(source)), ops: Vec::new(), notes: None })
    }

    /// The output series and the rows they come from, if no step can have a conflict.
    fn pair(&self, ctx: &Ctx<'_>, many: &[Series], one: &[Series]) -> Option<Paired> {
        let signatures = Signatures::new(self.matching, many, one);
        let mut partner = vec![usize::MAX; signatures.count];
        for (row, &id) in signatures.right.iter().enumerate() {
            if std::mem::replace(&mut partner[id as usize], row) != usize::MAX {
                return None;
            }
        }
        let mut taken = vec![false; signatures.count];
        let mut outputs: Set<Labels> = Set::default();
        let mut paired = Paired { series: Vec::new(), rows: Vec::new(), is_shared: false };
        for (row, &id) in signatures.left.iter().enumerate() {
            let other = partner[id as usize];
            if other == usize::MAX {
                continue;
            }
            let was_taken = std::mem::replace(&mut taken[id as usize], true);
            paired.is_shared |= was_taken;
            if self.is_one_to_one() && was_taken {
                return None;
            }
            let output = self.output(ctx, &many[row], &one[other].labels);
            if !self.is_one_to_one() && !outputs.insert(output.labels.clone()) {
                return None;
            }
            paired.series.push(output);
            paired.rows.push((row, other));
        }
        Some(paired)
    }

    fn output(&self, ctx: &Ctx<'_>, many: &Series, one: &Labels) -> Series {
        let drops = math::is_arithmetic(self.op) || (self.return_bool && !ctx.delayed_name_removal);
        let listed = |name: &[u8]| self.matching.labels.iter().any(|l| **l == *name);
        let one_to_one = self.is_one_to_one();
        let mut labels = many
            .labels
            .without(|name| (drops && is_metadata(name)) || (one_to_one && listed(name) != self.matching.on));
        if !self.matching.include.is_empty() {
            let mut builder = LabelsBuilder::from(&labels);
            for name in &self.matching.include {
                builder.set(name, one.get(name).unwrap_or_default());
            }
            labels = builder.build();
        }
        // What a filter leaves over has its name again, even if an operand was about to lose it.
        let drop_name = ctx.delayed_name_removal && self.return_bool;
        Series { labels, drop_name }
    }
}
