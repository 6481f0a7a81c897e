//! The numbers of a histogram as a chunk tells them: the first whole, then how each differs from the last.
//!
//! Integer counts tell how their growth changed, float counts are xored.

use std::fmt::Debug;

use super::super::bits::{BitReader, BitWriter};
use super::super::varbit;
use super::super::xored::Xored;
use crate::DecodeError;

/// One number of a histogram, from sample to sample.
pub(in crate::chunk) trait Tracked: Copy + Debug {
    type Value: Copy + Debug + Default + PartialOrd;

    /// Writes the first value.
    fn begin(value: Self::Value, bits: &mut BitWriter) -> Self;

    fn put(&mut self, value: Self::Value, bits: &mut BitWriter);

    /// Writes what stands for it in a staleness marker, behind which no other sample may follow.
    fn put_stale(&mut self, bits: &mut BitWriter);

    fn read_first(bits: &mut BitReader<'_>) -> Result<Self, DecodeError>;

    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError>;

    /// What a zero bit stands for.
    fn go_on(&mut self);

    fn value(&self) -> Self::Value;
}

/// A count of observations.
#[derive(Clone, Copy, Debug)]
pub(in crate::chunk) struct Total {
    value: u64,
    delta: i64,
}

impl Tracked for Total {
    type Value = u64;

    fn begin(value: u64, bits: &mut BitWriter) -> Self {
        varbit::put_uint(bits, value);
        Self { value, delta: 0 }
    }

    fn put(&mut self, value: u64, bits: &mut BitWriter) {
        let delta = value.wrapping_sub(self.value).cast_signed();
        varbit::put_int(bits, delta.wrapping_sub(self.delta));
        *self = Self { value, delta };
    }

    fn put_stale(&mut self, bits: &mut BitWriter) {
        varbit::put_int(bits, 0);
    }

    fn read_first(bits: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { value: varbit::read_uint(bits)?, delta: 0 })
    }

    #[inline]
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError> {
        self.delta = self.delta.wrapping_add(varbit::read_int(bits)?);
        self.value = self.value.wrapping_add_signed(self.delta);
        Ok(())
    }

    #[inline]
    fn go_on(&mut self) {
        self.value = self.value.wrapping_add_signed(self.delta);
    }

    fn value(&self) -> u64 {
        self.value
    }
}

/// The count in a bucket, less that in the bucket before.
#[derive(Clone, Copy, Debug)]
pub(in crate::chunk) struct Step {
    value: i64,
    delta: i64,
}

impl Tracked for Step {
    type Value = i64;

    fn begin(value: i64, bits: &mut BitWriter) -> Self {
        varbit::put_int(bits, value);
        Self { value, delta: 0 }
    }

    fn put(&mut self, value: i64, bits: &mut BitWriter) {
        let delta = value.wrapping_sub(self.value);
        varbit::put_int(bits, delta.wrapping_sub(self.delta));
        *self = Self { value, delta };
    }

    fn put_stale(&mut self, bits: &mut BitWriter) {
        varbit::put_int(bits, 0);
    }

    fn read_first(bits: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { value: varbit::read_int(bits)?, delta: 0 })
    }

    #[inline]
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError> {
        self.delta = self.delta.wrapping_add(varbit::read_int(bits)?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }

    #[inline]
    fn go_on(&mut self) {
        self.value = self.value.wrapping_add(self.delta);
    }

    fn value(&self) -> i64 {
        self.value
    }
}

impl Tracked for Xored {
    type Value = f64;

    fn begin(value: f64, bits: &mut BitWriter) -> Self {
        Self::begin(value, bits)
    }

    fn put(&mut self, value: f64, bits: &mut BitWriter) {
        self.put(value, bits);
    }

    fn put_stale(&mut self, bits: &mut BitWriter) {
        self.put(0.0, bits);
    }

    fn read_first(bits: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        Self::read_first(bits)
    }

    #[inline]
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError> {
        self.read(bits)
    }

    #[inline]
    fn go_on(&mut self) {}

    fn value(&self) -> f64 {
        Self::value(*self)
    }
}
