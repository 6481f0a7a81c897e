//! What is computed of histograms, native and classic: totals, quantiles, fractions, spread.

use std::collections::BTreeMap;
use std::fmt::Write;

use model::elementary::{exp2, log2};
use model::histogram::CounterResetHint;
use model::number::{format_g, parse_go_float};
use model::quote::go_quote;
use model::{FloatHistogram, Labels, LabelsBuilder, Timestamp};

use super::{Grid, Reference, Res, Row, Val};
use crate::parse::ast::Call;

/// A sum of histograms with what there is to say of it.
pub(super) struct Total {
    /// The place of the first one that cannot be added.
    pub(super) value: Result<FloatHistogram, usize>,
    pub(super) collide: bool,
    pub(super) reconciled: bool,
}

/// The compensated sum or mean, one after the other.
pub(super) fn total(hists: &[&FloatHistogram], is_mean: bool) -> Total {
    let mut reconciled = false;
    let has = |hint| hists.iter().any(|h| h.counter_reset_hint == hint);
    let collide = has(CounterResetHint::CounterReset) && has(CounterResetHint::NotCounterReset);
    let mut sum = hists[0].clone();
    let mut c: Option<FloatHistogram> = None;
    let mut incremental = false;
    let mut n = 1.0;
    for (i, h) in hists.iter().enumerate().skip(1) {
        n += 1.0;
        if !incremental {
            let mut s = sum.clone();
            let mut k = c.clone().unwrap_or_else(|| s.compensation());
            match s.kahan_add_assign(h, &mut k) {
                Ok(done) => reconciled |= done.reconciled,
                Err(_) => return Total { value: Err(i), collide, reconciled },
            }
            if !is_mean || !s.has_overflow() {
                (sum, c) = (s, Some(k));
                continue;
            }
            incremental = true;
            sum.divide(n - 1.0);
            if let Some(c) = &mut c {
                c.divide(n - 1.0);
            }
        }
        let q = (n - 1.0) / n;
        sum.multiply(q);
        let mut k = match c.take() {
            Some(mut c) => {
                c.multiply(q);
                c
            }
            None => sum.compensation(),
        };
        let mut part = (*h).clone();
        part.divide(n);
        match sum.kahan_add_assign(&part, &mut k) {
            Ok(done) => reconciled |= done.reconciled,
            Err(_) => return Total { value: Err(i), collide, reconciled },
        }
        c = Some(k);
    }
    if is_mean && !incremental {
        sum.divide(n);
        if let Some(c) = &mut c {
            c.divide(n);
        }
    }
    if let Some(c) = c {
        // Of the same buckets, which cannot fail.
        let _ = sum.add_assign(&c);
    }
    Total { value: Ok(sum), collide, reconciled }
}

/// How the classic buckets of a metric had to be repaired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repair {
    min: f64,
    max: f64,
    diff: f64,
    count: usize,
    from: Timestamp,
    to: Timestamp,
}

impl Repair {
    /// The start of the text: the numbers behind it are compared elsewhere.
    pub(super) fn text(&self, metric: &[u8]) -> String {
        let mut text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                        https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
            .to_owned();
        push_metric(&mut text, metric);
        let _ = write!(text, ", from buckets {} to {}", format_g(self.min), format_g(self.max));
        text
    }

    fn merge(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.diff = self.diff.max(other.diff);
        self.count += other.count;
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }
}

fn push_metric(text: &mut String, metric: &[u8]) {
    if !metric.is_empty() {
        let _ = write!(text, " for metric name {}", go_quote(metric));
    }
}

/// A classic histogram: bounds and cumulative counts.
type Classic = Vec<(f64, f64)>;

enum Kind<'a> {
    Native(&'a FloatHistogram),
    Classic(Classic),
}

/// The histograms of a step: labels without `le`, and what they are of.
type Found<'a> = Vec<(Labels, Kind<'a>)>;

impl Reference {
    /// The name is told where it falls late only.
    fn push_metric(&self, text: &mut String, metric: &[u8]) {
        if self.scope.delayed {
            push_metric(text, metric);
        }
    }

    fn histograms<'a>(&self, rows: &'a [Row], t: Timestamp) -> Found<'a> {
        let mut natives: Vec<(Labels, &FloatHistogram)> = Vec::new();
        let mut classics: Vec<(Labels, Classic)> = Vec::new();
        for row in rows {
            match row.points.get(&t) {
                None => {}
                Some(Val::H(h)) => natives.push((row.labels.clone(), h)),
                Some(Val::F(v)) => {
                    let le = row.labels.get(b"le").unwrap_or_default();
                    let Ok(bound) = parse_go_float(le) else {
                        let mut text = format!(
                            "bucket label \"le\" is missing or has a malformed value of {}",
                            go_quote(le)
                        );
                        self.push_metric(&mut text, row.labels.metric_name());
                        self.warn(text);
                        continue;
                    };
                    let labels = row.labels.without(|n| n == b"le");
                    match classics.iter_mut().find(|(l, _)| *l == labels) {
                        Some((_, buckets)) => buckets.push((bound, *v)),
                        None => classics.push((labels, vec![(bound, *v)])),
                    }
                }
            }
        }
        let mut out = Vec::new();
        let mut clashes = Vec::new();
        for (labels, h) in natives {
            // The native one is compared without `le`, too.
            let bare = labels.without(|n| n == b"le");
            if classics.iter().any(|(l, _)| *l == bare) {
                let mut text = "vector contains a mix of classic and native histograms".to_owned();
                self.push_metric(&mut text, labels.metric_name());
                self.warn(text);
                clashes.push(bare);
            } else {
                out.push((labels, Kind::Native(h)));
            }
        }
        let kept = classics.into_iter().filter(|(l, _)| !clashes.contains(l));
        out.extend(kept.map(|(l, buckets)| (l, Kind::Classic(buckets))));
        out
    }

    pub(super) fn histogram_quantile(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        // histogram_quantile(q, v) and histogram_quantiles(v, label, q...).
        let is_many = e.func.name == "histogram_quantiles";
        let rows;
        let mut label = Vec::new();
        let mut quantiles = Vec::new();
        if is_many {
            rows = self.rows(&e.args[0], grid)?;
            label = Self::text(&e.args[1]);
            for q in &e.args[2..] {
                quantiles.push(self.scalars(q, grid)?);
            }
            if std::str::from_utf8(&label).is_err() || label.is_empty() {
                return Err(format!("invalid label name {}", go_quote(&label)));
            }
        } else {
            quantiles.push(self.scalars(&e.args[0], grid)?);
            rows = self.rows(&e.args[1], grid)?;
        }
        let mut out: Vec<Row> = Vec::new();
        for t in grid.times() {
            let mut step = Vec::new();
            for q in &quantiles {
                self.check_quantile(q[&t]);
            }
            for (labels, kind) in self.histograms(&rows, t) {
                for q in &quantiles {
                    let q = q[&t];
                    let v = match &kind {
                        Kind::Native(h) => self.native_quantile(q, h, labels.metric_name()),
                        Kind::Classic(buckets) => {
                            let (v, repair) = classic_quantile(q, buckets.clone(), t);
                            if let Some(repair) = repair {
                                let mut all = self.repairs.borrow_mut();
                                let metric = labels.metric_name();
                                let metric = if self.scope.delayed { metric } else { b"" };
                                all.entry(metric.to_vec()).and_modify(|r| r.merge(repair)).or_insert(repair);
                            }
                            v
                        }
                    };
                    let mut labels = labels.clone();
                    if is_many {
                        let mut builder = LabelsBuilder::from(&labels);
                        builder.set(&label, open_metrics(q).as_bytes());
                        labels = builder.build();
                    }
                    step.push((labels, Val::F(v)));
                }
            }
            self.collect(step, t, &mut out)?;
        }
        Self::checked(out)
    }

    /// Adds the samples of a step, whose names fall.
    fn collect(&self, step: Vec<(Labels, Val)>, t: Timestamp, out: &mut Vec<Row>) -> Res<()> {
        for (labels, v) in step {
            let row = self.dropped(Row { labels, drop: false, points: BTreeMap::from([(t, v)]) });
            match out.iter_mut().find(|o| o.labels == row.labels) {
                None => out.push(row),
                Some(o) => {
                    for (t, v) in row.points {
                        if o.points.insert(t, v).is_some() {
                            return Err(super::DUPLICATES.to_owned());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn histogram_fraction(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let lower = self.scalars(&e.args[0], grid)?;
        let upper = self.scalars(&e.args[1], grid)?;
        let rows = self.rows(&e.args[2], grid)?;
        let mut out: Vec<Row> = Vec::new();
        for t in grid.times() {
            let mut step = Vec::new();
            for (labels, kind) in self.histograms(&rows, t) {
                let v = match kind {
                    Kind::Native(h) => self.native_fraction(lower[&t], upper[&t], h, labels.metric_name()),
                    Kind::Classic(buckets) => classic_fraction(lower[&t], upper[&t], buckets),
                };
                step.push((labels, Val::F(v)));
            }
            self.collect(step, t, &mut out)?;
        }
        Self::checked(out)
    }

    fn native_quantile(&self, q: f64, h: &FloatHistogram, metric: &[u8]) -> f64 {
        if q < 0.0 {
            return f64::NEG_INFINITY;
        }
        if q > 1.0 {
            return f64::INFINITY;
        }
        if h.count == 0.0 || q.is_nan() {
            return f64::NAN;
        }
        let upward = h.sum.is_nan() || q < 0.5;
        let rank = if upward { q * h.count } else { (1.0 - q) * h.count };
        let mut all = buckets(h);
        if !upward {
            all.reverse();
        }
        let (mut found, mut below, mut rest) = ((0.0, 0.0, 0.0), 0.0, &all[..]);
        while let Some((&bucket, behind)) = rest.split_first() {
            rest = behind;
            found = bucket;
            if bucket.2 != 0.0 {
                below += bucket.2;
                if below >= rank {
                    break;
                }
            }
        }
        let (mut lower, mut upper, mut n) = found;
        let custom = h.uses_custom_buckets();
        if !custom && lower < 0.0 && upper > 0.0 {
            match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
                (true, false) => lower = 0.0,
                (false, true) => upper = 0.0,
                _ => {}
            }
        } else if custom {
            if lower == f64::NEG_INFINITY {
                if upper <= 0.0 {
                    return upper;
                }
                lower = 0.0;
            } else if upper == f64::INFINITY {
                return lower;
            }
        }
        let mut text = String::new();
        self.push_metric(&mut text, metric);
        let below = if below > h.count { h.count } else { below };
        if below < rank {
            if h.sum.is_nan() {
                self.tell(format!("input to histogram_quantile has NaN observations, result is NaN{text}"));
                return f64::NAN;
            }
            return upper;
        }
        let inside = if upward { rank - (below - n) } else { below - rank };
        if h.sum.is_nan() {
            // The rest is walked to count it, and the last bucket is what is looked at from there on.
            let mut counted = below;
            for &bucket in rest {
                (lower, upper, n) = bucket;
                counted += n;
            }
            if counted < h.count {
                let info = "input to histogram_quantile has NaN observations, result is skewed higher";
                self.tell(format!("{info}{text}"));
            }
        }
        let fraction = inside / n;
        if custom || (lower <= 0.0 && upper >= 0.0) {
            return lower + (upper - lower) * fraction;
        }
        let (low, high) = (log2(lower.abs()), log2(upper.abs()));
        if lower > 0.0 {
            exp2(low + (high - low) * fraction)
        } else {
            -exp2(high + (low - high) * (1.0 - fraction))
        }
    }

    fn native_fraction(&self, lower: f64, upper: f64, h: &FloatHistogram, metric: &[u8]) -> f64 {
        if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        let custom = h.uses_custom_buckets();
        let (mut rank, mut low_rank, mut high_rank) = (0.0, None, None);
        for (mut from, mut to, n) in buckets(h) {
            let around_zero = from <= 0.0 && to >= 0.0;
            if around_zero {
                match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
                    (true, false) => from = 0.0,
                    (false, true) => to = 0.0,
                    _ => {}
                }
            }
            let place = |b: f64| {
                if from >= b {
                    return Some(rank);
                }
                if !(from < b && to > b) {
                    return None;
                }
                if custom && from == f64::NEG_INFINITY {
                    return Some(n);
                }
                if custom && to == f64::INFINITY {
                    return Some(rank);
                }
                let share = if custom || around_zero {
                    (b - from) / (to - from)
                } else {
                    let (v, low, high) = (log2(b.abs()), log2(from.abs()), log2(to.abs()));
                    if b > 0.0 { (v - low) / (high - low) } else { 1.0 - (v - high) / (low - high) }
                };
                Some(rank + n * share)
            };
            low_rank = low_rank.or_else(|| place(lower));
            high_rank = high_rank.or_else(|| place(upper));
            if low_rank.is_some() && high_rank.is_some() {
                break;
            }
            rank += n;
        }
        let mut total = h.count;
        if h.sum.is_nan() {
            total = buckets(h).iter().map(|b| b.2).sum();
            if total < h.count {
                let mut text = "input to histogram_fraction has NaN observations, which are excluded from \
                                all fractions"
                    .to_owned();
                self.push_metric(&mut text, metric);
                self.tell(text);
            }
        }
        let capped = |rank: Option<f64>| rank.filter(|r| *r <= total).unwrap_or(total);
        (capped(high_rank) - capped(low_rank)) / h.count
    }
}

/// All buckets as lower bound, upper bound and count, lowest first, clipped at the zero bucket.
fn buckets(h: &FloatHistogram) -> Vec<(f64, f64, f64)> {
    let all = h.buckets().map(|(place, n)| {
        let interval = h.clipped_interval(place);
        (interval.lower, interval.upper, n)
    });
    all.collect()
}

/// The variance of the observations, each taken to be in the middle of its bucket.
pub(super) fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut c) = (0.0, 0.0);
    for (lower, upper, n) in buckets(h).into_iter().filter(|b| b.2 != 0.0) {
        let middle = if h.uses_custom_buckets() {
            #[expect(clippy::manual_midpoint, reason = "overflows where upstream's does")]
            let middle = (upper + lower) / 2.0;
            middle
        } else if lower <= 0.0 && upper >= 0.0 {
            0.0
        } else {
            let middle = (upper * lower).sqrt();
            if upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        (sum, c) = super::aggregate::kahan_step(n * delta * delta, sum, c);
    }
    (sum + c) / h.count
}

/// Buckets by bound, those of equal bounds added.
fn coalesced(mut buckets: Classic) -> Option<Classic> {
    buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
    if buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
        return None;
    }
    let mut out: Classic = Vec::new();
    for (bound, n) in buckets {
        match out.last_mut() {
            Some(last) if last.0 == bound => last.1 += n,
            _ => out.push((bound, n)),
        }
    }
    Some(out)
}

fn classic_quantile(q: f64, buckets: Classic, t: Timestamp) -> (f64, Option<Repair>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, None);
    }
    let Some(mut buckets) = coalesced(buckets) else { return (f64::NAN, None) };
    let mut repair: Option<Repair> = None;
    let mut previous = buckets[0].1;
    for (bound, n) in &mut buckets[1..] {
        if *n == previous {
            continue;
        }
        let (diff, sum) = ((previous - *n).abs(), previous.abs() + n.abs());
        let almost = if previous == 0.0 || *n == 0.0 || sum < f64::MIN_POSITIVE {
            diff < 1e-12 * f64::MIN_POSITIVE
        } else {
            diff / sum.min(f64::MAX) < 1e-12
        };
        if almost {
            *n = previous;
        } else if *n < previous {
            let this = Repair { min: *bound, max: *bound, diff, count: 1, from: t, to: t };
            match &mut repair {
                Some(repair) => {
                    repair.merge(this);
                    repair.count = 1;
                }
                None => repair = Some(this),
            }
            *n = previous;
        } else {
            previous = *n;
        }
    }
    let last = buckets.len() - 1;
    let total = buckets[last].1;
    if buckets.len() < 2 || total == 0.0 {
        return (f64::NAN, repair);
    }
    let rank = q * total;
    let b = (0..last).find(|&i| buckets[i].1 >= rank).unwrap_or(last);
    if b == last {
        return (buckets[last - 1].0, repair);
    }
    if b == 0 && buckets[0].0 <= 0.0 {
        return (buckets[0].0, repair);
    }
    let (start, before) = if b == 0 { (0.0, 0.0) } else { buckets[b - 1] };
    let (end, count) = (buckets[b].0, buckets[b].1 - before);
    (start + (end - start) * ((rank - before) / count), repair)
}

fn classic_fraction(lower: f64, upper: f64, buckets: Classic) -> f64 {
    let Some(buckets) = coalesced(buckets) else { return f64::NAN };
    let total = buckets[buckets.len() - 1].1;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut low_rank, mut high_rank) = (None, None);
    let (mut rank, mut from) = (0.0, if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY });
    for &(to, cumulative) in &buckets {
        let place = |b: f64| {
            if from >= b {
                return Some(rank);
            }
            let inside = || {
                if from == f64::NEG_INFINITY {
                    cumulative
                } else {
                    rank + (cumulative - rank) * (b - from) / (to - from)
                }
            };
            (from < b && to > b).then(inside)
        };
        low_rank = low_rank.or_else(|| place(lower));
        high_rank = high_rank.or_else(|| place(upper));
        rank = cumulative;
        from = to;
    }
    let capped = |rank: Option<f64>| rank.filter(|r| *r <= total).unwrap_or(total);
    (capped(high_rank) - capped(low_rank)) / total
}

/// A number as OpenMetrics writes it.
fn open_metrics(v: f64) -> String {
    let text = format_g(v);
    if v.is_finite() && !text.contains(['e', '.']) { format!("{text}.0") } else { text }
}
