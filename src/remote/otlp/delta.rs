//! Points that count since the one before, added up to points that count since a beginning.
//!
//! The sums live here only: after a restart, and after five minutes without a point, a series begins anew. What was
//! counted was counted, even if the store refuses the points that are made, and the next point tells it; but not if the
//! request is going to be sent again: then its points are forgotten, or they would be late.
//!
//! Compat: opentelemetry-collector-contrib `processor/deltatocumulativeprocessor`, with the options that Prometheus gives
//! it. Other than there, exemplars and flags of a point are its own and not those of the first of its series, and a sum
//! that changes between whole numbers and fractions goes on.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::HashMap;
use foldhash::quality::RandomState;
use model::Timestamp;
use model::histogram::SCHEMA_MIN;
use model::wire::otlp::{
    AnyValue, Data, ExponentialPoint, Head, HistogramPoint, KeyValue, Metric, Number, NumberPoint, Request,
    ResourceMetrics, ScopeMetrics, Side, Temporality,
};

/// Series without a point for so long are forgotten.
const STALE_AFTER: Duration = Duration::from_mins(5);

const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// New series beyond so many are not taken.
const STREAMS_MAX: usize = 1_000_000;

/// The memory of all sums together; points that would need more are not taken.
const STREAM_BYTES_MAX: usize = 512 << 20;

/// Floats lie from 2 to the one power to 2 to the other.
const EXPONENTS: (i64, i64) = (-1076, 1024);

/// The buckets that a sum has at most on a side; it becomes coarser before it has more.
const BUCKETS_MAX: i64 = 160;

/// Whether anything in the request counts since the point before.
pub(super) fn has_delta(request: &Request<'_>) -> bool {
    let scopes = request.resources.iter().flat_map(|resource| &resource.scopes);
    let mut metrics = scopes.flat_map(|scope| &scope.metrics);
    metrics.any(|metric| metric.data.temporality() == Some(Temporality::Delta))
}

/// The sums of all series.
#[derive(Default)]
pub(super) struct Streams {
    by_key: HashMap<u128, Stream>,
    n_bytes: usize,
    /// What becomes of those that the request at hand has points of.
    pending: HashMap<u128, Stream>,
    /// How many there are and what they take, once all of that is so.
    pending_size: Size,
    limits: Limits,
    swept_at: Timestamp,
    hashers: (RandomState, RandomState),
}

#[derive(Clone, Copy, Default)]
struct Size {
    n: usize,
    n_bytes: usize,
}

/// What all series together may have.
struct Limits(Size);

impl Default for Limits {
    fn default() -> Self {
        Self(Size { n: STREAMS_MAX, n_bytes: STREAM_BYTES_MAX })
    }
}

#[derive(Clone)]
struct Stream {
    seen_at: Timestamp,
    start: u64,
    /// 0 as long as there is no sum.
    time: u64,
    sum: Sum,
}

impl Stream {
    const fn n_bytes(&self) -> usize {
        let apart = match &self.sum {
            Sum::Number(_) => 0,
            Sum::Classic { counts, bounds, .. } => (counts.capacity() + bounds.capacity()) * 8,
            Sum::Exponential(it) => {
                let n_buckets = it.positive.counts.capacity() + it.negative.counts.capacity();
                size_of::<Exponential>() + n_buckets * 8
            }
        };
        size_of::<(u128, Self)>() + apart
    }
}

#[derive(Clone)]
enum Sum {
    Number(Option<Number>),
    Classic { count: u64, sum: Option<f64>, counts: Vec<u64>, bounds: Vec<f64> },
    Exponential(Box<Exponential>),
}

#[derive(Clone)]
struct Exponential {
    count: u64,
    sum: Option<f64>,
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
}

/// What did not go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Older than what their series already has.
    pub(super) late: u64,
    /// Of series that there is no room for.
    pub(super) beyond_limit: u64,
    /// Why the request is to be refused as a whole.
    pub(super) refusal: Option<String>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Makes all points count since a beginning. What is left without points is removed, with all that is empty.
    ///
    /// Nothing of it lasts until [`Streams::keep`].
    pub(super) fn accumulate(&mut self, request: &mut Request<'_>, now: Timestamp) -> Dropped {
        self.sweep(now);
        self.pending.clear();
        self.pending_size = Size { n: self.by_key.len(), n_bytes: self.n_bytes };
        let mut dropped = Dropped::default();
        let mut key = Vec::new();
        request.resources.retain_mut(|ResourceMetrics { attributes, scopes }| {
            key.clear();
            push_attributes(&mut key, attributes);
            let of_resource = key.len();
            scopes.retain_mut(|ScopeMetrics { scope, metrics, .. }| {
                key.truncate(of_resource);
                push_text(&mut key, &scope.name);
                push_text(&mut key, &scope.version);
                push_attributes(&mut key, &scope.attributes);
                let of_scope = key.len();
                metrics.retain_mut(|metric| {
                    if metric.data.temporality() != Some(Temporality::Delta) {
                        return true;
                    }
                    key.truncate(of_scope);
                    self.take_metric(&mut key, metric, now, &mut dropped);
                    !metric.data.is_empty()
                });
                !metrics.is_empty()
            });
            !scopes.is_empty()
        });
        dropped
    }

    /// Makes the sums of the last request those of the series.
    pub(super) fn keep(&mut self) {
        self.by_key.extend(self.pending.drain());
        self.pending.shrink_to(1024);
        self.n_bytes = self.pending_size.n_bytes;
    }

    /// Forgets series that have had no points for long.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        // A clock that is set back makes nothing old.
        let has_passed = |since: Timestamp, span: Duration| {
            let ms = u64::try_from(now.saturating_sub(since)).unwrap_or(0);
            Duration::from_millis(ms) > span
        };
        if has_passed(self.swept_at, SWEEP_INTERVAL) {
            self.swept_at = now;
            self.by_key.retain(|_, stream| {
                let is_stale = has_passed(stream.seen_at, STALE_AFTER);
                self.n_bytes = self.n_bytes.saturating_sub(if is_stale { stream.n_bytes() } else { 0 });
                !is_stale
            });
            if self.by_key.len() < self.by_key.capacity() / 4 {
                self.by_key.shrink_to_fit();
            }
        }
    }

    fn take_metric<'a>(
        &mut self,
        key: &mut Vec<u8>,
        metric: &mut Metric<'a>,
        now: Timestamp,
        dropped: &mut Dropped,
    ) {
        push_text(key, &metric.name);
        push_text(key, &metric.unit);
        let kind = match &metric.data {
            Data::Sum { is_monotonic: true, .. } => b'm',
            Data::Sum { .. } => b's',
            Data::Histogram { .. } => b'h',
            _ => b'e',
        };
        key.push(kind);
        let of_metric = key.len();
        let mut take = |point: &mut dyn Point<'a>| {
            key.truncate(of_metric);
            push_attributes(key, &point.head().attributes);
            self.take(key, point, now, dropped)
        };
        match &mut metric.data {
            Data::Sum { points, temporality, .. } => {
                points.retain_mut(|point| take(point));
                *temporality = Temporality::Cumulative;
            }
            Data::Histogram { points, temporality } => {
                points.retain_mut(|point| take(point));
                *temporality = Temporality::Cumulative;
            }
            Data::Exponential { points, temporality } => {
                points.retain_mut(|point| take(point));
                *temporality = Temporality::Cumulative;
            }
            Data::Unknown | Data::Gauge(_) | Data::Summary(_) => {}
        }
    }

    /// Adds a point to its series and makes it the sum; false if it is to be dropped.
    fn take(&mut self, key: &[u8], point: &mut dyn Point<'_>, now: Timestamp, dropped: &mut Dropped) -> bool {
        // Two hashes that nobody outside can foresee stand for the series, which is ten times as long.
        let (low, high) = (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key));
        let key = u128::from(high) << 64 | u128::from(low);
        if point.is_too_coarse() {
            // The translation refuses it, and the request with it.
            return true;
        }
        if point.is_beyond_floats() {
            dropped.refusal.get_or_insert_with(|| {
                "exponential histogram data point has buckets beyond all floats".to_owned()
            });
            return false;
        }
        let known = self.pending.get(&key).or_else(|| self.by_key.get(&key));
        let (n_new, n_bytes_before) = known.map_or((1, 0), |stream| (0, stream.n_bytes()));
        let unknown = || Stream { seen_at: now, start: 0, time: 0, sum: Sum::Number(None) };
        let mut stream = known.cloned().unwrap_or_else(unknown);
        stream.seen_at = now;
        let is_in_time = stream.take(point);
        let size = Size {
            n: self.pending_size.n + n_new,
            n_bytes: (self.pending_size.n_bytes + stream.n_bytes()).saturating_sub(n_bytes_before),
        };
        let Limits(limits) = self.limits;
        let grows = size.n_bytes > self.pending_size.n_bytes;
        if size.n > limits.n || (grows && size.n_bytes > limits.n_bytes) {
            dropped.beyond_limit += 1;
            return false;
        }
        self.pending.insert(key, stream);
        self.pending_size = size;
        dropped.late += u64::from(!is_in_time);
        is_in_time
    }
}

impl Stream {
    /// Adds a point and makes it the sum; false if it is late.
    fn take(&mut self, point: &mut dyn Point<'_>) -> bool {
        let (start, time) = (point.head().start, point.head().time);
        if self.time == 0 {
            (self.start, self.time, self.sum) = (start, time, point.begin());
            return true;
        }
        if start < self.start || time <= self.time {
            return false;
        }
        if !point.add_to(&mut self.sum) {
            (self.start, self.sum) = (start, point.begin());
        }
        self.time = time;
        point.head().start = self.start;
        true
    }
}

/// What a sum can be made of.
trait Point<'a> {
    fn head(&mut self) -> &mut Head<'a>;
    /// Whether its buckets are wider than any that are stored.
    fn is_too_coarse(&self) -> bool {
        false
    }
    /// Whether something was counted where no float is.
    fn is_beyond_floats(&self) -> bool {
        false
    }
    /// The sum of this point alone.
    fn begin(&self) -> Sum;
    /// Adds itself and becomes the sum; false if the two do not go together.
    fn add_to(&mut self, sum: &mut Sum) -> bool;
}

impl<'a> Point<'a> for NumberPoint<'a> {
    fn head(&mut self) -> &mut Head<'a> {
        &mut self.head
    }

    fn begin(&self) -> Sum {
        Sum::Number(self.value)
    }

    fn add_to(&mut self, sum: &mut Sum) -> bool {
        let Sum::Number(sum) = sum else { return false };
        *sum = match (*sum, self.value) {
            (sum, None) => sum,
            (None, value) => value,
            (Some(Number::Int(a)), Some(Number::Int(b))) => Some(Number::Int(a.wrapping_add(b))),
            (Some(a), Some(b)) => Some(Number::Double(a.to_f64() + b.to_f64())),
        };
        self.value = *sum;
        true
    }
}

impl<'a> Point<'a> for HistogramPoint<'a> {
    fn head(&mut self) -> &mut Head<'a> {
        &mut self.head
    }

    fn begin(&self) -> Sum {
        let Self { count, sum, counts, bounds, .. } = self;
        Sum::Classic { count: *count, sum: *sum, counts: counts.clone(), bounds: bounds.clone() }
    }

    /// Histograms with other bounds cannot be added: the sum begins anew.
    fn add_to(&mut self, sum: &mut Sum) -> bool {
        let Sum::Classic { count, sum, counts, bounds } = sum else { return false };
        if *bounds != self.bounds {
            return false;
        }
        for (count, more) in counts.iter_mut().zip(&self.counts) {
            *count = count.wrapping_add(*more);
        }
        *count = count.wrapping_add(self.count);
        *sum = added(*sum, self.sum);
        (self.count, self.sum) = (*count, *sum);
        self.counts.clone_from(counts);
        true
    }
}

impl<'a> Point<'a> for ExponentialPoint<'a> {
    fn head(&mut self) -> &mut Head<'a> {
        &mut self.head
    }

    fn is_too_coarse(&self) -> bool {
        self.scale < SCHEMA_MIN
    }

    fn is_beyond_floats(&self) -> bool {
        let index = |exponent: i64| match u32::try_from(self.scale) {
            // From there on it is more than an offset can say.
            Ok(scale) => exponent << scale.min(32),
            Err(_) => exponent >> self.scale.unsigned_abs().min(63),
        };
        let (low, high) = (index(EXPONENTS.0), index(EXPONENTS.1));
        [&self.positive, &self.negative].into_iter().any(|side| {
            let (first, behind) = used(side, side);
            first < behind && (first < low || behind > high)
        })
    }

    fn begin(&self) -> Sum {
        let mut sum = Exponential::of(self);
        let halvings = halvings(&sum.positive, &sum.positive).max(halvings(&sum.negative, &sum.negative));
        sum.coarsen(halvings);
        trim(&mut sum.positive);
        trim(&mut sum.negative);
        Sum::Exponential(Box::new(sum))
    }

    fn add_to(&mut self, sum: &mut Sum) -> bool {
        let Sum::Exponential(sum) = sum else { return false };
        sum.add(&mut Exponential::of(self));
        self.count = sum.count;
        self.sum = sum.sum;
        self.scale = sum.scale;
        self.zero_count = sum.zero_count;
        self.zero_threshold = sum.zero_threshold;
        self.positive.clone_from(&sum.positive);
        self.negative.clone_from(&sum.negative);
        true
    }
}

/// A sum that one of the two does not know is not known any more.
fn added(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a + b)
}

impl Exponential {
    fn of(point: &ExponentialPoint<'_>) -> Self {
        Self {
            count: point.count,
            sum: point.sum,
            scale: point.scale,
            zero_count: point.zero_count,
            zero_threshold: point.zero_threshold,
            positive: point.positive.clone(),
            negative: point.negative.clone(),
        }
    }

    fn add(&mut self, other: &mut Self) {
        let scale = self.scale.min(other.scale);
        for it in [&mut *self, &mut *other] {
            let finer = i64::from(it.scale) - i64::from(scale);
            it.coarsen(u32::try_from(finer).unwrap_or(0));
        }
        let halvings =
            halvings(&self.positive, &other.positive).max(halvings(&self.negative, &other.negative));
        self.coarsen(halvings);
        other.coarsen(halvings);
        if self.zero_threshold < other.zero_threshold {
            self.widen_zero(other.zero_threshold);
        } else if other.zero_threshold < self.zero_threshold {
            other.widen_zero(self.zero_threshold);
        }
        merge(&mut self.positive, &other.positive);
        merge(&mut self.negative, &other.negative);
        self.count = self.count.wrapping_add(other.count);
        self.zero_count = self.zero_count.wrapping_add(other.zero_count);
        self.sum = added(self.sum, other.sum);
    }

    /// Makes one of 2^`shift` buckets each.
    fn coarsen(&mut self, shift: u32) {
        if shift > 0 {
            coarsen(&mut self.positive, shift.min(63));
            coarsen(&mut self.negative, shift.min(63));
            self.scale = self.scale.saturating_sub_unsigned(shift);
        }
    }

    /// Counts what lies within `width` of zero as zero.
    fn widen_zero(&mut self, width: f64) {
        let last = index_of(width, self.scale);
        for side in [&mut self.positive, &mut self.negative] {
            let within = last.saturating_add(1).saturating_sub(i64::from(side.offset));
            let n = usize::try_from(within).unwrap_or(0).min(side.counts.len());
            let moved = side.counts.drain(..n).fold(0_u64, u64::wrapping_add);
            self.zero_count = self.zero_count.wrapping_add(moved);
            side.offset = side.offset.saturating_add_unsigned(u32::try_from(n).unwrap_or(u32::MAX));
        }
        self.zero_threshold = upper_bound(last, self.scale);
    }
}

/// The bucket that `v` lies in.
fn index_of(v: f64, scale: i32) -> i64 {
    if v.is_nan() || v <= 0.0 {
        return i64::MIN;
    }
    // A power of two is the upper bound of its bucket.
    let exponent = v.log2();
    let scaled = exponent * f64::from(scale).exp2();
    let index = if exponent.fract() == 0.0 { scaled.ceil() - 1.0 } else { scaled.floor() };
    // Numbers beyond stay at the border.
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
    let index = index as i64;
    index
}

fn upper_bound(index: i64, scale: i32) -> f64 {
    ((index.saturating_add(1)) as f64 * (-f64::from(scale)).exp2()).exp2()
}

/// Makes one of 2^`shift` buckets each.
fn coarsen(side: &mut Side, shift: u32) {
    let first = i64::from(side.offset);
    let new_first = first >> shift;
    let mut counts: Vec<u64> = Vec::new();
    for (at, &count) in (first..).zip(&side.counts) {
        let place = usize::try_from((at >> shift) - new_first).unwrap_or(usize::MAX);
        match counts.get_mut(place) {
            Some(sum) => *sum = sum.wrapping_add(count),
            None => counts.push(count),
        }
    }
    // It came nearer to zero.
    side.offset = i32::try_from(new_first).unwrap_or_default();
    side.counts = counts;
}

/// The indices from the first to behind the last count that is not empty in one of the two.
fn used(a: &Side, b: &Side) -> (i64, i64) {
    let at = |side: &Side, i: usize| i64::from(side.offset).saturating_add_unsigned(i as u64);
    let bounds = |side: &Side| (i64::from(side.offset), at(side, side.counts.len()));
    let ((a_low, a_high), (b_low, b_high)) = (bounds(a), bounds(b));
    let empty = a_high.max(b_high).max(a_low.min(b_low));
    let used_ends = [a, b].into_iter().filter_map(|side| {
        let first = side.counts.iter().position(|&count| count != 0)?;
        let last = side.counts.iter().rposition(|&count| count != 0)?;
        Some((at(side, first), at(side, last + 1)))
    });
    used_ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((empty, empty))
}

/// How often two buckets have to become one before the sum of the two has few enough of them.
///
/// Compat: deltatocumulativeprocessor `internal/data/expo`, `Limit`, which halves towards zero.
fn halvings(a: &Side, b: &Side) -> u32 {
    let (mut low, mut high) = used(a, b);
    let mut halvings = 0;
    while high - low > BUCKETS_MAX {
        low /= 2;
        high /= 2;
        halvings += 1;
    }
    halvings
}

/// Takes empty buckets away before the first and behind the last that is not, where there are many.
fn trim(side: &mut Side) {
    if i64::try_from(side.counts.len()).is_ok_and(|n| n > 2 * BUCKETS_MAX) {
        let counts = std::mem::take(&mut side.counts);
        let all = Side { offset: side.offset, counts };
        merge_used(side, [&all, &Side::default()], used(&all, &all));
    }
}

fn merge(sum: &mut Side, other: &Side) {
    if other.counts.is_empty() {
        return;
    }
    if sum.counts.is_empty() {
        sum.clone_from(other);
        trim(sum);
        return;
    }
    let all = std::mem::take(sum);
    merge_used(sum, [&all, other], used(&all, other));
}

fn merge_used(sum: &mut Side, sides: [&Side; 2], (low, high): (i64, i64)) {
    let mut counts = vec![0_u64; usize::try_from(high - low).unwrap_or_default()];
    for side in sides {
        for (at, &count) in (i64::from(side.offset)..).zip(&side.counts) {
            if let Some(place) = usize::try_from(at - low).ok().and_then(|i| counts.get_mut(i)) {
                *place = place.wrapping_add(count);
            }
        }
    }
    *sum = Side { offset: i32::try_from(low).unwrap_or_default(), counts };
}

// === What tells series apart ===

fn push_bytes(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}

fn push_text(key: &mut Vec<u8>, text: &str) {
    push_bytes(key, text.as_bytes());
}

/// In whatever order they came.
pub(super) fn push_attributes(key: &mut Vec<u8>, attributes: &[KeyValue<'_>]) {
    let mut sorted: Vec<&KeyValue<'_>> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    key.extend_from_slice(&(sorted.len() as u64).to_le_bytes());
    for pair in sorted {
        push_text(key, &pair.key);
        push_value(key, &pair.value);
    }
}

fn push_value(key: &mut Vec<u8>, value: &AnyValue<'_>) {
    match value {
        AnyValue::Empty => key.push(0),
        AnyValue::Text(text) => {
            key.push(1);
            push_text(key, text);
        }
        AnyValue::Bool(v) => key.extend_from_slice(&[2, u8::from(*v)]),
        AnyValue::Int(v) => {
            key.push(3);
            key.extend_from_slice(&v.to_le_bytes());
        }
        AnyValue::Double(v) => {
            key.push(4);
            key.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        AnyValue::Bytes(bytes) => {
            key.push(5);
            push_bytes(key, bytes);
        }
        AnyValue::List(values) => {
            key.push(6);
            key.extend_from_slice(&(values.len() as u64).to_le_bytes());
            for value in values {
                push_value(key, value);
            }
        }
        AnyValue::Map(pairs) => {
            key.push(7);
            push_attributes(key, pairs);
        }
    }
}

#[cfg(test)]
mod tests;
