//! Binary operators between vectors: matching by signature, once per query.
//!
//! Signatures are hashed once per series. Where every match group has at most one candidate on the sides
//! that must be unique, the join is a gather of whole columns. Otherwise (and for fill modifiers) it walks
//! step by step, because who conflicts with whom then depends on who is there.
//!
//! Compat: prometheus `promql/engine.go`, `VectorBinop`, `VectorAnd`, `resultMetric` (3.14).

use hashbrown::{HashMap, HashSet};
use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder};

use super::Ctx;
use super::column::{Block, Series, bits};
use super::math;
use super::stream::{Stream, is_metadata};
use crate::annotations::{Annotation, Place};
use crate::engine::Error;
use crate::parse::ast::{BinaryOp, Cardinality, VectorMatching};

type Set<T> = HashSet<T, foldhash::fast::FixedState>;
type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Output series, and for each the rows of both sides that it is computed from.
type StaticPairs = (Vec<Series>, Vec<(usize, usize)>);

/// The operator with all that decides about labels.
pub(crate) struct Join<'a> {
    pub(crate) op: BinaryOp,
    pub(crate) matching: &'a VectorMatching,
    pub(crate) return_bool: bool,
    pub(crate) place: Place,
}

/// Per row of both sides the number of its match group.
struct Signatures {
    left: Vec<usize>,
    right: Vec<usize>,
    count: usize,
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
    fn new(matching: &VectorMatching, left: &[Series], right: &[Series]) -> Self {
        let mut known: Map<Labels, usize> = HashMap::default();
        let mut number = |series: &[Series]| -> Vec<usize> {
            let labels = series.iter().map(|s| match_labels(matching, &s.labels));
            labels
                .map(|labels| {
                    let next = known.len();
                    *known.entry(labels).or_insert(next)
                })
                .collect()
        };
        let (left, right) = (number(left), number(right));
        Self { left, right, count: known.len() }
    }
}

/// `and`, `or`, `unless`.
pub(crate) fn set_op(op: BinaryOp, mut lhs: Block, rhs: Block, matching: &VectorMatching) -> Block {
    let grid = lhs.grid;
    let words = grid.words();
    let signatures = Signatures::new(matching, &lhs.series, &rhs.series);
    let union = |block: &Block, ids: &[usize]| {
        let mut all = vec![0u64; signatures.count * words];
        for (row, &id) in ids.iter().enumerate() {
            let seen = &mut all[id * words..][..words];
            seen.iter_mut().zip(block.present(row)).for_each(|(to, from)| *to |= from);
            block.histograms(row).mark(seen);
        }
        all
    };
    let restrict = |block: &mut Block, ids: &[usize], others: &[u64], keep: bool| {
        for (row, &id) in ids.iter().enumerate() {
            let others = &others[id * words..][..words];
            let row = block.row_mut(row);
            for (to, other) in row.present.iter_mut().zip(others) {
                *to &= if keep { *other } else { !*other };
            }
            row.histograms.retain(|step, _| bits::get(others, step) == keep);
        }
        block.drop_empty_rows();
    };
    if op == BinaryOp::Or {
        let mut rhs = rhs;
        let left = union(&lhs, &signatures.left);
        restrict(&mut rhs, &signatures.right, &left, false);
        lhs.series.append(&mut rhs.series);
        lhs.values.append(&mut rhs.values);
        lhs.present.append(&mut rhs.present);
        lhs.histograms.append(&mut rhs.histograms);
        match (&mut lhs.charge, rhs.charge.take()) {
            (Some(mine), Some(other)) => mine.absorb(other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    } else {
        let right = union(&rhs, &signatures.right);
        restrict(&mut lhs, &signatures.left, &right, op == BinaryOp::And);
    }
    lhs
}

impl Join<'_> {
    /// Computes the join. The result may hold equal label sets, which the caller unifies.
    pub(crate) fn run(&self, ctx: &Ctx<'_>, lhs: &Block, rhs: &Block) -> Result<Stream, Error> {
        let grid = lhs.grid;
        let fills = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        if grid.len == 0
            || (lhs.len() == 0 && rhs.len() == 0)
            || (!fills && (lhs.len() == 0 || rhs.len() == 0))
        {
            return Ok(Stream::of_block(Block::empty(grid)));
        }
        let swapped = self.matching.card == Cardinality::OneToMany;
        let signatures = Signatures::new(self.matching, &lhs.series, &rhs.series);
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let (many_ids, one_ids) = if swapped {
            (&signatures.right, &signatures.left)
        } else {
            (&signatures.left, &signatures.right)
        };
        let is_plain = !fills && (math::is_arithmetic(self.op) || self.op.is_comparison());
        let pairs = if is_plain {
            self.static_pairs(ctx, many, one, many_ids, one_ids, signatures.count)
        } else {
            None
        };
        let block = match pairs {
            Some((series, pairs)) => ctx.compute_block(series, grid, 1, |i, row| {
                let (m, o) = pairs[i];
                let many = (many.values(m), many.present(m));
                let one = (one.values(o), one.present(o));
                let (left, right) = if swapped { (one, many) } else { (many, one) };
                math::join_row(self.op, self.return_bool, left, right, row.values, row.present);
                Ok(())
            })?,
            None => self.by_step(ctx, many, one, many_ids, one_ids)?,
        };
        Ok(Stream::of_block(block))
    }

    /// The output series and the rows they come from, if no step can have a conflict.
    fn static_pairs(
        &self,
        ctx: &Ctx<'_>,
        many: &Block,
        one: &Block,
        many_ids: &[usize],
        one_ids: &[usize],
        count: usize,
    ) -> Option<StaticPairs> {
        let mut partner = vec![usize::MAX; count];
        for (row, &id) in one_ids.iter().enumerate() {
            if partner[id] != usize::MAX {
                return None;
            }
            partner[id] = row;
        }
        let mut taken = vec![false; count];
        let mut outputs: Set<Labels> = Set::default();
        let (mut series, mut pairs) = (Vec::new(), Vec::new());
        for (row, &id) in many_ids.iter().enumerate() {
            let other = partner[id];
            if other == usize::MAX {
                continue;
            }
            let one_to_one = self.matching.card == Cardinality::OneToOne;
            if one_to_one && std::mem::replace(&mut taken[id], true) {
                return None;
            }
            let output = self.output(ctx, &many.series[row], &one.series[other].labels);
            if !one_to_one && !outputs.insert(output.labels.clone()) {
                return None;
            }
            series.push(output);
            pairs.push((row, other));
        }
        Some((series, pairs))
    }

    fn output(&self, ctx: &Ctx<'_>, many: &Series, one: &Labels) -> Series {
        let drops = math::is_arithmetic(self.op) || (self.return_bool && !ctx.delayed_name_removal);
        let listed = |name: &[u8]| self.matching.labels.iter().any(|l| **l == *name);
        let one_to_one = self.matching.card == Cardinality::OneToOne;
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
        let drop_name = ctx.delayed_name_removal && (many.drop_name || self.return_bool);
        Series { labels, drop_name }
    }

    /// The join as upstream runs it, one step after the other.
    fn by_step(
        &self,
        ctx: &Ctx<'_>,
        many: &Block,
        one: &Block,
        many_ids: &[usize],
        one_ids: &[usize],
    ) -> Result<Block, Error> {
        let grid = many.grid;
        let mut walk = Walk { join: self, ctx, many, one, many_ids, one_ids, sink: Sink::default() };
        for step in 0..grid.len {
            if step % 64 == 0 {
                ctx.budget.check()?;
            }
            walk.step(step)?;
        }
        let sink = walk.sink;
        if sink.incompatible {
            ctx.annotate(Annotation::incompatible_floats(self.op.as_str(), self.place));
        }
        let mut charge = ctx.charge_block(sink.series.len(), grid)?;
        charge.add_samples(sink.points.len())?;
        let mut block = Block::absent(sink.series, grid, charge);
        for (row, step, v) in sink.points {
            if block.get(row, step).is_some() {
                return Err(super::stream::duplicates());
            }
            block.set(row, step, v);
        }
        Ok(block)
    }
}

/// What a step-by-step join has found.
#[derive(Default)]
struct Sink {
    series: Vec<Series>,
    rows: Map<(Labels, bool), usize>,
    points: Vec<(usize, usize, f64)>,
    incompatible: bool,
}

struct Walk<'a> {
    join: &'a Join<'a>,
    ctx: &'a Ctx<'a>,
    many: &'a Block,
    one: &'a Block,
    many_ids: &'a [usize],
    one_ids: &'a [usize],
    sink: Sink,
}

impl Walk<'_> {
    fn step(&mut self, step: usize) -> Result<(), Error> {
        let matching = self.join.matching;
        let there = |block: &Block| {
            (0..block.len()).filter(|&r| bits::get(block.present(r), step)).collect::<Vec<_>>()
        };
        let (many, one) = (there(self.many), there(self.one));
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if (many.is_empty() && one.is_empty()) || (!fills && (many.is_empty() || one.is_empty())) {
            return Ok(());
        }
        let mut partner: Map<usize, usize> = Map::default();
        for &row in &one {
            if let Some(other) = partner.insert(self.one_ids[row], row) {
                return Err(self.many_to_many(other, row));
            }
        }
        // Per signature the output labels so far.
        let mut inserted: Map<usize, Set<Labels>> = Map::default();
        for &row in &many {
            let id = self.many_ids[row];
            let series = &self.many.series[row];
            let v = self.many.values(row)[step];
            match (partner.get(&id), matching.fill_right) {
                (Some(&other), _) => {
                    let labels = self.one.series[other].labels.clone();
                    self.element(step, id, series, &labels, v, self.one.values(other)[step], &mut inserted)?;
                }
                (None, Some(filled)) => {
                    let labels = match_labels(matching, &series.labels);
                    self.element(step, id, series, &labels, v, filled, &mut inserted)?;
                }
                (None, None) => {}
            }
        }
        let Some(filled) = matching.fill_left else {
            return Ok(());
        };
        for &row in &one {
            let id = self.one_ids[row];
            if inserted.contains_key(&id) {
                continue;
            }
            let labels = self.one.series[row].labels.clone();
            let series = Series { labels: match_labels(matching, &labels), drop_name: false };
            self.element(step, id, &series, &labels, filled, self.one.values(row)[step], &mut inserted)?;
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one element of a join: two sides, their values, and where it goes"
    )]
    fn element(
        &mut self,
        step: usize,
        id: usize,
        many: &Series,
        one: &Labels,
        many_value: f64,
        one_value: f64,
        inserted: &mut Map<usize, Set<Labels>>,
    ) -> Result<(), Error> {
        let join = self.join;
        if matches!(join.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            self.sink.incompatible = true;
            return Ok(());
        }
        let swapped = join.matching.card == Cardinality::OneToMany;
        let (left, right) = if swapped { (one_value, many_value) } else { (many_value, one_value) };
        let result = math::element_binary(join.op, join.return_bool, left, right);
        let output = join.output(self.ctx, many, one);
        // Refused before a comparison throws the sample away.
        let conflict = |what: &str| Err(Error::Execution(format!("multiple matches for labels: {what}")));
        let outputs = inserted.get(&id);
        if join.matching.card == Cardinality::OneToOne {
            if outputs.is_some() {
                return conflict("many-to-one matching must be explicit (group_left/group_right)");
            }
        } else if outputs.is_some_and(|seen| seen.contains(&output.labels)) {
            return conflict("grouping labels must ensure unique matches");
        }
        inserted.entry(id).or_default().insert(output.labels.clone());
        let Some(v) = result else {
            return Ok(());
        };
        // An instant query with delayed removal may keep equal label sets until the end.
        let key = (output.labels.clone(), output.drop_name);
        let keeps_equals = self.ctx.instant && self.ctx.delayed_name_removal;
        let row = match self.sink.rows.get(&key) {
            Some(&row) if !keeps_equals => row,
            _ => {
                self.sink.series.push(output);
                self.sink.rows.insert(key, self.sink.series.len() - 1);
                self.sink.series.len() - 1
            }
        };
        self.sink.points.push((row, step, v));
        Ok(())
    }

    fn many_to_many(&self, a: usize, b: usize) -> Error {
        let matching = self.join.matching;
        let side = if matching.card == Cardinality::OneToMany { "left" } else { "right" };
        let group = match_labels(matching, &self.one.series[a].labels);
        let mut both = [a, b].map(|row| self.one.series[row].labels.to_string());
        both.sort();
        Error::Execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}]\
             ;many-to-many matching not allowed: matching labels must be unique on one side",
            both[0], both[1]
        ))
    }
}
