//! Sums, differences and multiples of float histograms.
//!
//! Where both have the same buckets, as they nearly always have, a sum is one loop over them and asks for no memory.
//!
//! Compat: prometheus `model/histogram`, `FloatHistogram.Add`, `Sub`, `KahanAdd`, `Mul` and `Div`: same bits, and same
//! spans. Nothing is compacted.

use super::custom::{Reconciled, common_bounds};
use super::union::{Runs, common_runs, merge_runs};
use super::{CounterResetHint, FloatHistogram, Span, bounds, shape};
use crate::elementary::kahan_add;

/// What there is to say about two histograms that were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One was marked as a counter reset, the other as none.
    pub resets_collide: bool,
    /// Custom bounds differed; the result has those of both.
    pub reconciled: bool,
}

impl Combined {
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            resets_collide: self.resets_collide || other.resets_collide,
            reconciled: self.reconciled || other.reconciled,
        }
    }
}

/// Exponential and custom buckets cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct MixedSchemas;

impl FloatHistogram {
    /// Adds `other`, which may have other buckets; the coarser schema and the wider zero bucket win.
    ///
    /// # Errors
    /// Only one of them has custom buckets; nothing is changed.
    pub fn add_assign(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        self.combine::<false>(other)
    }

    /// Subtracts `other`; counts may become negative. The hint is that of a sum, see [`FloatHistogram::add_assign`].
    ///
    /// # Errors
    /// Only one of them has custom buckets; nothing is changed.
    pub fn sub_assign(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        self.combine::<true>(other)
    }

    fn combine<const SUBTRACT: bool>(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        let mut combined = self.meet(other)?;
        let signed = |v: f64| if SUBTRACT { -v } else { v };
        self.count += signed(other.count);
        self.sum += signed(other.sum);
        if !self.uses_custom_buckets() {
            self.zero_count = {
                let theirs = self.reconcile_zero_buckets(other, None);
                self.zero_count + signed(theirs.count)
            };
            let reduced = self.match_resolution(other);
            let other = reduced.as_ref().unwrap_or(other);
            let (schema, threshold) = (self.schema, self.zero_threshold);
            for (mine, theirs) in self.sides_mut().into_iter().zip(other.sides()) {
                let skipped = inside_zero_bucket(theirs.0, theirs.1.len(), schema, threshold);
                add_side::<SUBTRACT>(mine, theirs, skipped);
            }
        } else if self.custom_values == other.custom_values {
            let mine = (&mut self.positive_spans, &mut self.positive_buckets);
            add_side::<SUBTRACT>(mine, (&other.positive_spans, &other.positive_buckets), 0);
        } else {
            combined.reconciled = true;
            self.reconcile_custom::<SUBTRACT>(other, None);
        }
        Ok(combined)
    }

    /// Adds `other` to the compensated sum `(self, c)`, where `c` began as [`FloatHistogram::compensation`] of `self`
    /// and goes through the same calls.
    ///
    /// # Errors
    /// Only one of them has custom buckets; nothing is changed.
    pub fn kahan_add_assign(&mut self, other: &Self, c: &mut Self) -> Result<Combined, MixedSchemas> {
        let mut combined = self.meet(other)?;
        (self.count, c.count) = kahan_add(other.count, self.count, c.count);
        (self.sum, c.sum) = kahan_add(other.sum, self.sum, c.sum);
        if !self.uses_custom_buckets() {
            let theirs = self.reconcile_zero_buckets(other, Some(c));
            for inc in [theirs.count, theirs.c] {
                (self.zero_count, c.zero_count) = kahan_add(inc, self.zero_count, c.zero_count);
            }
            let reduced = self.kahan_match_resolution(other, c);
            let (other, other_c) = reduced.as_ref().map_or((other, None), |(other, c)| (other, Some(c)));
            let (schema, threshold) = (self.schema, self.zero_threshold);
            let cs = [&mut c.positive_buckets, &mut c.negative_buckets];
            let other_cs = [0, 1].map(|side| other_c.map(|c: &[Vec<f64>; 2]| &c[side][..]));
            let sides = self.sides_mut().into_iter().zip(cs).zip(other.sides().into_iter().zip(other_cs));
            for ((mine, c), (theirs, their_c)) in sides {
                let skipped = inside_zero_bucket(theirs.0, theirs.1.len(), schema, threshold);
                kahan_add_side(mine, c, theirs, their_c, skipped);
            }
            (c.schema, c.zero_threshold) = (self.schema, self.zero_threshold);
        } else if self.custom_values == other.custom_values {
            let mine = (&mut self.positive_spans, &mut self.positive_buckets);
            let theirs = (&other.positive_spans[..], &other.positive_buckets[..]);
            kahan_add_side(mine, &mut c.positive_buckets, theirs, None, 0);
        } else {
            combined.reconciled = true;
            self.reconcile_custom::<false>(other, Some(c));
        }
        for (spans, mine) in
            [(&mut c.positive_spans, &self.positive_spans), (&mut c.negative_spans, &self.negative_spans)]
        {
            // They rarely change.
            if spans != mine {
                spans.clone_from(mine);
            }
        }
        Ok(combined)
    }

    /// Zeros in the layout of this histogram, for [`FloatHistogram::kahan_add_assign`].
    #[must_use]
    pub fn compensation(&self) -> Self {
        Self {
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive_buckets: vec![0.0; self.positive_buckets.len()],
            negative_buckets: vec![0.0; self.negative_buckets.len()],
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            custom_values: self.custom_values.clone(),
            ..*self
        }
    }

    /// Multiplies all counts and the sum; what is turned negative counts as a gauge.
    pub fn multiply(&mut self, factor: f64) {
        self.zero_count *= factor;
        self.count *= factor;
        self.sum *= factor;
        self.positive_buckets.iter_mut().for_each(|count| *count *= factor);
        self.negative_buckets.iter_mut().for_each(|count| *count *= factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum, as [`FloatHistogram::multiply`]. A division by zero removes the buckets.
    pub fn divide(&mut self, divisor: f64) {
        self.zero_count /= divisor;
        self.count /= divisor;
        self.sum /= divisor;
        if divisor == 0.0 {
            for (spans, buckets) in self.sides_mut() {
                spans.clear();
                buckets.clear();
            }
            return;
        }
        self.positive_buckets.iter_mut().for_each(|count| *count /= divisor);
        self.negative_buckets.iter_mut().for_each(|count| *count /= divisor);
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// A copy with the buckets of `schema`; if that is coarser, nothing is known of counter resets any more.
    ///
    /// A schema that is not coarser, or one of custom buckets, gives a plain copy.
    #[must_use]
    pub fn to_schema(&self, schema: i32) -> Self {
        let mut copy = Self::default();
        copy.copy_in_schema(self, schema);
        copy
    }

    /// Becomes [`Self::to_schema`] of `other`, in its own memory.
    pub fn copy_in_schema(&mut self, other: &Self, schema: i32) {
        self.copy_from(other);
        if schema < self.schema && !self.uses_custom_buckets() && self.reduce_resolution(schema).is_ok() {
            self.counter_reset_hint = CounterResetHint::Unknown;
        }
    }

    /// Whether both hold the same data: counts by bits, bounds by value. Hints do not count, empty buckets do.
    pub fn is_equal(&self, other: &Self) -> bool {
        self.is_same(other)
    }

    /// Whether some count or the sum is infinite.
    pub fn has_overflow(&self) -> bool {
        let lists = [&self.positive_buckets, &self.negative_buckets, &self.custom_values];
        [self.zero_count, self.count, self.sum]
            .iter()
            .chain(lists.into_iter().flatten())
            .any(|v| v.is_infinite())
    }

    /// How many float samples it weighs where a limit counts samples in memory.
    pub fn size_in_samples(&self) -> usize {
        /// Of upstream's struct, and of the time beside it.
        const FIXED: usize = 168 + 8;
        let spans = self.positive_spans.len() + self.negative_spans.len();
        let buckets = self.positive_buckets.len() + self.negative_buckets.len();
        (FIXED + 8 * (spans + buckets + self.custom_values.len())) / 16
    }

    /// Checks that both can be combined and finds the hint of the result.
    fn meet(&mut self, other: &Self) -> Result<Combined, MixedSchemas> {
        use CounterResetHint::{Gauge, Unknown};
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(MixedSchemas);
        }
        let (mine, theirs) = (self.counter_reset_hint, other.counter_reset_hint);
        let mut resets_collide = false;
        self.counter_reset_hint = match (mine, theirs) {
            _ if mine == theirs => mine,
            (Gauge, _) | (_, Gauge) => Gauge,
            (Unknown, _) | (_, Unknown) => Unknown,
            _ => {
                resets_collide = true;
                Unknown
            }
        };
        Ok(Combined { resets_collide, reconciled: false })
    }

    /// Brings both to the coarser schema: this one in place, `other` as a copy.
    fn match_resolution(&mut self, other: &Self) -> Option<Self> {
        if other.schema < self.schema {
            let shift = self.schema.abs_diff(other.schema);
            for (spans, buckets) in self.sides_mut() {
                (*spans, *buckets) = shape::reduced(spans, buckets, shift);
            }
            self.schema = other.schema;
            return None;
        }
        let shift = self.schema.abs_diff(other.schema);
        (shift > 0).then(|| {
            let (positive_spans, positive_buckets) =
                shape::reduced(&other.positive_spans, &other.positive_buckets, shift);
            let (negative_spans, negative_buckets) =
                shape::reduced(&other.negative_spans, &other.negative_buckets, shift);
            Self {
                positive_spans,
                positive_buckets,
                negative_spans,
                negative_buckets,
                custom_values: Vec::new(),
                ..*other
            }
        })
    }

    /// As `match_resolution`; merged buckets are compensated, too.
    fn kahan_match_resolution(&mut self, other: &Self, c: &mut Self) -> Option<(Self, [Vec<f64>; 2])> {
        let shift = self.schema.abs_diff(other.schema);
        if other.schema < self.schema {
            let cs = [&mut c.positive_buckets, &mut c.negative_buckets];
            for ((spans, buckets), c) in self.sides_mut().into_iter().zip(cs) {
                shape::reduce_compensated(spans, buckets, c, shift);
            }
            self.schema = other.schema;
            return None;
        }
        (shift > 0).then(|| {
            let mut copy = other.clone();
            let cs = copy.sides_mut().map(|(spans, buckets)| {
                let mut c = vec![0.0; buckets.len()];
                shape::reduce_compensated(spans, buckets, &mut c, shift);
                c
            });
            (copy, cs)
        })
    }

    /// Brings both to the custom bounds that both have and combines them there.
    fn reconcile_custom<const SUBTRACT: bool>(&mut self, other: &Self, c: Option<&mut Self>) {
        let bounds = common_bounds(&self.custom_values, &other.custom_values);
        let mut all = Reconciled::new(&bounds);
        let compensations = c.as_deref().map(|c| &c.positive_buckets[..]);
        all.add(&self.positive_spans, &self.positive_buckets, compensations, &self.custom_values);
        if SUBTRACT {
            all.subtract(&other.positive_spans, &other.positive_buckets, &other.custom_values);
        } else {
            all.add(&other.positive_spans, &other.positive_buckets, None, &other.custom_values);
        }
        let (spans, buckets, cs) = all.finish();
        (self.positive_spans, self.positive_buckets) = (spans, buckets);
        if let Some(c) = c {
            c.positive_buckets = cs;
            c.custom_values.clone_from(&bounds);
        }
        self.custom_values = bounds;
    }

    fn sides(&self) -> [(&[Span], &[f64]); 2] {
        [(&self.positive_spans, &self.positive_buckets), (&self.negative_spans, &self.negative_buckets)]
    }

    fn sides_mut(&mut self) -> [(&mut Vec<Span>, &mut Vec<f64>); 2] {
        [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ]
    }
}

/// How many buckets, from the first on, end inside the zero bucket.
pub(super) fn inside_zero_bucket(spans: &[Span], n_buckets: usize, schema: i32, threshold: f64) -> usize {
    let mut next = 0_i64;
    let indices = spans.iter().flat_map(|span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    });
    let ends_inside =
        |index: &i64| i32::try_from(*index).is_ok_and(|index| bounds::upper(index, schema, &[]) <= threshold);
    indices.take(n_buckets).take_while(ends_inside).count()
}

/// Adds one side to another but for its first `skipped` buckets.
fn add_side<const SUBTRACT: bool>(
    (spans, buckets): (&mut Vec<Span>, &mut Vec<f64>),
    (their_spans, theirs): (&[Span], &[f64]),
    skipped: usize,
) {
    let signed = |v: f64| if SUBTRACT { -v } else { v };
    let add = |mine: &mut [f64], theirs: &[f64]| {
        for (a, &b) in mine.iter_mut().zip(theirs) {
            *a += signed(b);
        }
    };
    if spans[..] == *their_spans {
        let from = skipped.min(buckets.len());
        return add(&mut buckets[from..], &theirs[skipped..]);
    }
    let first = Runs::new(spans, buckets.len());
    let second = Runs::new(their_spans, theirs.len()).skip(skipped);
    if common_runs(first.clone(), second.clone(), |_, _, _| {}) {
        common_runs(first, second, |a, b, n| add(&mut buckets[a..a + n], &theirs[b..b + n]));
        return;
    }
    let mut sum = Vec::with_capacity(buckets.len() + theirs.len());
    let all = merge_runs(first, second, |piece| {
        let from = sum.len();
        match (piece.first, piece.second) {
            (Some(a), second) => {
                sum.extend_from_slice(&buckets[a..a + piece.len]);
                if let Some(b) = second {
                    add(&mut sum[from..], &theirs[b..b + piece.len]);
                }
            }
            (None, Some(b)) => sum.extend(theirs[b..b + piece.len].iter().map(|&v| signed(v))),
            (None, None) => {}
        }
    });
    (*spans, *buckets) = (all, sum);
}

/// As [`add_side`], to a compensated sum, which has `cs`; `their_cs` are what the other side has lost itself.
fn kahan_add_side(
    (spans, buckets): (&mut Vec<Span>, &mut Vec<f64>),
    cs: &mut Vec<f64>,
    (their_spans, theirs): (&[Span], &[f64]),
    their_cs: Option<&[f64]>,
    skipped: usize,
) {
    let add = |mine: &mut [f64], cs: &mut [f64], from: usize| {
        let cells = mine.iter_mut().zip(cs);
        for ((a, c), &b) in cells.zip(&theirs[from..]) {
            (*a, *c) = kahan_add(b, *a, *c);
        }
    };
    let add_cs = |mine: &mut [f64], cs: &mut [f64], from: usize| {
        let Some(their_cs) = their_cs else { return };
        for ((a, c), &lost) in mine.iter_mut().zip(cs).zip(&their_cs[from..]) {
            if lost != 0.0 {
                (*a, *c) = kahan_add(lost, *a, *c);
            }
        }
    };
    if spans[..] == *their_spans {
        let from = skipped.min(buckets.len()).min(cs.len());
        add(&mut buckets[from..], &mut cs[from..], skipped);
        return add_cs(&mut buckets[from..], &mut cs[from..], skipped);
    }
    let first = Runs::new(spans, buckets.len().min(cs.len()));
    let second = Runs::new(their_spans, theirs.len()).skip(skipped);
    if common_runs(first.clone(), second.clone(), |_, _, _| {}) {
        common_runs(first, second, |a, b, n| {
            add(&mut buckets[a..a + n], &mut cs[a..a + n], b);
            add_cs(&mut buckets[a..a + n], &mut cs[a..a + n], b);
        });
        return;
    }
    let capacity = buckets.len() + theirs.len();
    let (mut sum, mut lost) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
    let all = merge_runs(first, second, |piece| {
        let from = sum.len();
        match (piece.first, piece.second) {
            (Some(a), second) => {
                sum.extend_from_slice(&buckets[a..a + piece.len]);
                lost.extend_from_slice(&cs[a..a + piece.len]);
                if let Some(b) = second {
                    add(&mut sum[from..], &mut lost[from..], b);
                    add_cs(&mut sum[from..], &mut lost[from..], b);
                }
            }
            (None, Some(b)) => {
                sum.extend_from_slice(&theirs[b..b + piece.len]);
                match their_cs {
                    Some(cs) => lost.extend_from_slice(&cs[b..b + piece.len]),
                    None => lost.resize(sum.len(), 0.0),
                }
            }
            (None, None) => {}
        }
    });
    (*spans, *buckets, *cs) = (all, sum, lost);
}
