//! How fine native histograms may be.
//!
//! Compat: prometheus `scrape/target.go`, `bucketLimitAppenderV2` and `maxSchemaAppenderV2`, and `scrape/scrape.go`,
//! `pickSchema`.

use model::histogram::{InvalidHistogram, SCHEMA_MAX, SCHEMA_MAX_KNOWN, SCHEMA_MIN, SCHEMA_MIN_KNOWN};
use model::wire::Native;

/// What a job prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolution {
    schema_max: i32,
    /// 0 for no limit.
    buckets_max: u64,
}

impl Resolution {
    /// `factor` is the least by which buckets are to grow, 0 for any.
    pub(super) fn new(buckets_max: u64, factor: f64) -> Self {
        Self { schema_max: finest_schema(factor), buckets_max }
    }

    /// Merges buckets until the histogram is as coarse and small as wanted; false if it cannot be.
    ///
    /// # Errors
    /// The histogram contradicts itself.
    pub(super) fn fit(self, native: &mut Native) -> Result<bool, InvalidHistogram> {
        let is_known = (SCHEMA_MIN_KNOWN..=SCHEMA_MAX_KNOWN).contains(&native.schema());
        if self.schema_max < SCHEMA_MAX && is_known && native.schema() > self.schema_max {
            native.reduce_resolution(self.schema_max)?;
        }
        if self.buckets_max == 0 {
            return Ok(true);
        }
        while native.n_buckets() as u64 > self.buckets_max {
            if !(SCHEMA_MIN + 1..=SCHEMA_MAX).contains(&native.schema()) {
                return Ok(false);
            }
            native.reduce_resolution(native.schema() - 1)?;
        }
        Ok(true)
    }
}

/// The finest schema whose buckets grow by `factor` at least.
fn finest_schema(factor: f64) -> i32 {
    if factor <= 1.0 {
        return SCHEMA_MAX;
    }
    let schema = (-factor.log2().log2()).floor();
    #[expect(clippy::cast_possible_truncation, reason = "the range is known")]
    let schema = schema.clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX)) as i32;
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

    #[test]
    fn factors_choose_schemas() {
        for (factor, schema) in [
            (0.0, 8),
            (1.0, 8),
            (1.002, 8),
            (1.0027, 8),
            (1.00272, 7),
            (1.1, 2),
            (1.0905, 3),
            (1.5, 0),
            (2.0, 0),
            (4.0, -1),
            (65536.0, -4),
            (1e300, -4),
            (f64::INFINITY, -4),
        ] {
            assert_eq!(finest_schema(factor), schema, "{factor}");
        }
    }

    fn native(schema: i32, n: u32) -> Native {
        let mut native = Native::default();
        native.int.schema = schema;
        native.int.positive_spans = vec![Span { offset: 1, length: n }];
        native.int.positive_buckets = vec![0; n as usize];
        native.int.positive_buckets[0] = 1;
        native
    }

    #[test]
    fn resolution_is_halved_until_it_fits() {
        let limit = Resolution::new(4, 0.0);
        let mut it = native(2, 4);
        assert_eq!((limit.fit(&mut it), it.schema(), it.n_buckets()), (Ok(true), 2, 4), "at the limit");
        let mut it = native(2, 5);
        assert_eq!((limit.fit(&mut it), it.schema(), it.n_buckets()), (Ok(true), 1, 3), "one beyond");
        let mut it = native(-3, 9);
        assert_eq!((limit.fit(&mut it), it.schema()), (Ok(false), -4), "there is nothing coarser");
        let mut it = native(CUSTOM_BUCKETS_SCHEMA, 5);
        assert_eq!((limit.fit(&mut it), it.n_buckets()), (Ok(false), 5), "custom buckets stay");
        let mut it = native(8, 9);
        assert_eq!((Resolution::new(0, 1.5).fit(&mut it), it.schema()), (Ok(true), 0));
        it.int.positive_spans[0].length = 7;
        assert!(Resolution::new(0, 4.0).fit(&mut it).is_err());
    }
}
