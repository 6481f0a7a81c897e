//! `and`, `or`, `unless`: of the other side only bitmaps are kept, one per match group.
//!
//! Compat: prometheus `promql/engine.go`, `VectorAnd`, `VectorOr`, `VectorUnless` (3.14).

use super::Ctx;
use super::column::{Row, bits};
use super::join::Signatures;
use super::stream::{Scratch, Source, Stream};
use crate::engine::Error;
use crate::parse::ast::{BinaryOp, VectorMatching};

/// Rows at the steps where their match group is, or is not, on another side.
pub(crate) struct Masked {
    pub(crate) input: Stream,
    groups: Vec<u32>,
    /// Groups × words: where the other side has a sample of the group.
    others: Vec<u64>,
    keep: bool,
    _charge: super::budget::Charge,
}

impl Masked {
    pub(crate) fn fill_row(
        &self,
        ctx: &Ctx<'_>,
        i: usize,
        scratch: &mut Scratch,
        mut row: Row<'_>,
    ) -> Result<(), Error> {
        self.input.fill_row(ctx, i, scratch, row.reborrow())?;
        let words = self.input.grid.words();
        let others = &self.others[self.groups[i] as usize * words..][..words];
        for (word, other) in row.present.iter_mut().zip(others) {
            *word &= if self.keep { *other } else { !*other };
        }
        if !row.histograms.is_empty() {
            row.histograms.retain(|step, _| bits::get(others, step) == self.keep);
        }
        Ok(())
    }
}

pub(crate) fn run(
    ctx: &Ctx<'_>,
    op: BinaryOp,
    lhs: Stream,
    rhs: Stream,
    matching: &VectorMatching,
) -> Result<Stream, Error> {
    if op == BinaryOp::Or {
        let lhs = Stream::of_block(lhs.collect(ctx)?);
        let signatures = Signatures::new(matching, &lhs.series, &rhs.series);
        let rest = masked(ctx, rhs, signatures.right, (&lhs, &signatures.left), signatures.count, false)?;
        let series = lhs.series.iter().chain(&rest.series).cloned().collect();
        let (grid, source) = (lhs.grid, Source::Chain(Box::new((lhs, rest))));
        return Ok(Stream { series, grid, source, ops: Vec::new(), notes: None });
    }
    let signatures = Signatures::new(matching, &lhs.series, &rhs.series);
    let keep = op == BinaryOp::And;
    masked(ctx, lhs, signatures.left, (&rhs, &signatures.right), signatures.count, keep)
}

/// `input` at the steps where `other` has its match group, or has not.
fn masked(
    ctx: &Ctx<'_>,
    input: Stream,
    groups: Vec<u32>,
    (other, other_groups): (&Stream, &[u32]),
    count: usize,
    keep: bool,
) -> Result<Stream, Error> {
    let (grid, words) = (input.grid, input.grid.words());
    let charge = ctx.budget.charge(count.saturating_mul(words).saturating_mul(8))?;
    let mut others = vec![0; count * words];
    let mut samples = ctx.budget.charge(0)?;
    let mut mark = |row: usize, present: &[u64], histograms: &super::column::Histograms| {
        let seen = &mut others[other_groups[row] as usize * words..][..words];
        seen.iter_mut().zip(present).for_each(|(to, from)| *to |= from);
        histograms.mark(seen);
    };
    if let Source::Block(block) = &other.source
        && other.ops.is_empty()
    {
        (0..block.len()).for_each(|row| mark(row, block.present(row), block.histograms(row)));
    } else {
        other.for_each_wave(ctx, &mut samples, |wave| {
            for r in 0..wave.rows {
                let row = wave.row(r);
                mark(wave.from + r, row.present, row.histograms);
            }
            Ok(())
        })?;
    }
    let series = input.series.clone();
    let source = Masked { input, groups, others, keep, _charge: charge };
    let source = Source::Masked(Box::new(source));
    Ok(Stream { series, grid, source, ops: Vec::new(), notes: None })
}
