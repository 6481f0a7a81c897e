//! Start times for cumulative series that tell none: made up from what is seen.
//!
//! The first sample of a series is kept back as the base: from its time on the series counts, and later values are
//! told less that base. A value that goes back began anew, a millisecond before it was seen.
//!
//! Compat: prometheus `scrape/st_synthesis.go`, `stCache`.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use model::histogram::FloatHistogram;
use model::wire::Native;
use model::{Timestamp, histogram::BucketCount as _};

use super::cache::Key;

/// The bases of one target's series, by their lines.
#[derive(Debug, Default)]
pub(super) struct Starts {
    series: HashMap<Key, Start, RandomState>,
    pass: u32,
}

#[derive(Debug)]
struct Start {
    st: Timestamp,
    /// The pass in which the series was seen last.
    pass: u32,
    seen: Seen,
}

#[derive(Debug)]
enum Seen {
    Float {
        previous: f64,
        base: f64,
    },
    /// No base: the histogram began anew since.
    Histogram {
        previous: Box<FloatHistogram>,
        base: Option<Box<FloatHistogram>>,
    },
}

impl Starts {
    /// Begins a pass over a body.
    pub(super) fn begin(&mut self) {
        self.pass = self.pass.wrapping_add(1);
    }

    /// Ends a successful pass: what was not seen in it is forgotten.
    pub(super) fn finish(&mut self) {
        let pass = self.pass;
        self.series.retain(|_, start| start.pass == pass);
        if self.series.capacity() > 4 * self.series.len() + 64 {
            self.series.shrink_to_fit();
        }
    }

    pub(super) fn knows(&self, key: Key) -> bool {
        self.series.contains_key(&key)
    }

    /// Whether this pass has seen the series before.
    pub(super) fn has_seen(&self, key: Key) -> bool {
        self.series.get(&key).is_some_and(|start| start.pass == self.pass)
    }

    /// A sample of the series was refused: the next is the first.
    pub(super) fn forget(&mut self, key: Key) {
        self.series.remove(&key);
    }

    /// Since when the value counts, which is made less its base; `None` for the first, which is not to be stored.
    pub(super) fn adjust_float(&mut self, key: Key, v: &mut f64, t: Timestamp) -> Option<Timestamp> {
        let pass = self.pass;
        if let Some(start) = self.series.get_mut(&key)
            && let Seen::Float { previous, base } = &mut start.seen
        {
            start.pass = pass;
            if *v < *previous {
                *base = 0.0;
                start.st = t - 1;
            }
            *previous = *v;
            *v -= *base;
            return Some(start.st);
        }
        self.series.insert(key, Start { st: t, pass, seen: Seen::Float { previous: *v, base: *v } });
        None
    }

    /// As [`Starts::adjust_float`].
    pub(super) fn adjust(&mut self, key: Key, native: &mut Native, t: Timestamp) -> Option<Timestamp> {
        let pass = self.pass;
        let now = if native.is_float { native.float.clone() } else { native.int.to_float() };
        // What contradicts itself is for the store to refuse.
        let is_sound = now.is_well_formed();
        if let Some(start) = self.series.get_mut(&key).filter(|_| is_sound)
            && let Seen::Histogram { previous, base } = &mut start.seen
        {
            start.pass = pass;
            let is_reset = now.is_reset_after(previous);
            previous.copy_from(&now);
            if is_reset {
                *base = None;
                start.st = t - 1;
            } else if let Some(base) = base {
                let mut less = now;
                if less.sub_assign(base).is_ok() {
                    less.compact(0);
                    take(less, native);
                }
            }
            return Some(start.st);
        }
        if is_sound {
            let (previous, base) = (Box::new(now.clone()), Some(Box::new(now)));
            self.series.insert(key, Start { st: t, pass, seen: Seen::Histogram { previous, base } });
            return None;
        }
        Some(0)
    }
}

/// Puts the difference in the place of the histogram, whose kind and hint stay.
fn take(less: FloatHistogram, native: &mut Native) {
    if native.is_float {
        native.float = less;
        return;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of integers")]
    let whole = |v: f64| v as u64;
    let deltas =
        |counts: &[f64]| i64::from_absolute(counts.iter().map(|&v| whole(v).cast_signed()).collect());
    let int = &mut native.int;
    int.schema = less.schema;
    int.zero_threshold = less.zero_threshold;
    (int.zero_count, int.count, int.sum) = (whole(less.zero_count), whole(less.count), less.sum);
    int.positive_buckets = deltas(&less.positive_buckets);
    int.negative_buckets = deltas(&less.negative_buckets);
    (int.positive_spans, int.negative_spans) = (less.positive_spans, less.negative_spans);
    int.custom_values = less.custom_values;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::cache::Hasher;

    #[test]
    fn the_first_value_is_the_base_until_the_count_begins_anew() {
        let (key, mut starts) = (Hasher::default().key(b"a_total", 0), Starts::default());
        let mut see = |mut v: f64, t| {
            starts.begin();
            let st = starts.adjust_float(key, &mut v, t);
            starts.finish();
            (st, v)
        };
        assert_eq!(see(10.0, 1000), (None, 10.0));
        assert_eq!(see(15.0, 2000), (Some(1000), 5.0));
        assert_eq!(see(15.0, 3000), (Some(1000), 5.0));
        assert_eq!(see(4.0, 4000), (Some(3999), 4.0));
        assert_eq!(see(9.0, 5000), (Some(3999), 9.0));
    }

    #[test]
    fn histograms_are_told_less_their_first() {
        let key = Hasher::default().key(b"h", 0);
        let native = |counts: &[i64]| {
            let mut native = Native::default();
            native.int.count = counts.iter().sum::<i64>().unsigned_abs();
            let length = u32::try_from(counts.len()).unwrap();
            native.int.positive_spans = vec![model::histogram::Span { offset: 0, length }];
            native.int.positive_buckets = i64::from_absolute(counts.to_vec());
            native
        };
        let mut starts = Starts::default();
        let mut see = |counts: &[i64], t| {
            let mut native = native(counts);
            let st = starts.adjust(key, &mut native, t);
            assert_eq!(native.validate(), Ok(()));
            (st, native.int.count, native.int.positive_buckets)
        };
        assert_eq!(see(&[1, 2], 1000), (None, 3, vec![1, 1]));
        assert_eq!(see(&[1, 5], 2000), (Some(1000), 3, vec![3]));
        assert_eq!(see(&[1, 1], 3000), (Some(2999), 2, vec![1, 0]));
        assert_eq!(see(&[2, 1], 4000), (Some(2999), 3, vec![2, -1]));
    }

    #[test]
    fn what_is_gone_or_refused_begins_anew() {
        let (hasher, mut starts) = (Hasher::default(), Starts::default());
        let (a, b) = (hasher.key(b"a", 0), hasher.key(b"b", 0));
        starts.begin();
        starts.adjust_float(a, &mut 1.0, 1);
        starts.adjust_float(b, &mut 1.0, 1);
        assert!(starts.has_seen(a));
        starts.finish();
        starts.begin();
        assert!(starts.knows(a) && !starts.has_seen(a));
        starts.adjust_float(a, &mut 2.0, 2);
        starts.finish();
        assert!(starts.knows(a) && !starts.knows(b));
        starts.forget(a);
        assert!(!starts.knows(a));
    }
}
