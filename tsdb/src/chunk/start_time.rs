//! When the counts of a chunk's samples began: a header byte and a few bits behind each sample.
//!
//! Most series never change it, so nothing is written until the first sample where it differs; the header
//! says which one that was. From then on every sample tells the distance to the sample before it.
//!
//! Compat: prometheus `tsdb/chunkenc`, `stEncoder` and `stDecoder`.

use model::Timestamp;

use super::bits::{BitReader, BitWriter};
use super::varbit;
use crate::DecodeError;

/// In the header: the first sample tells its start.
const FIRST_KNOWN: u8 = 0x80;
/// The last sample that the header can name as the first change; there, writing begins unasked.
const CHANGE_MAX: u16 = 0x7f;

/// What the writer remembers between two samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Encoder {
    st: Timestamp,
    /// The time of the sample before the last, less the start.
    distance: i64,
    header: u8,
}

impl Encoder {
    /// The byte for the chunk's header.
    pub(super) fn header(&self) -> u8 {
        self.header
    }

    /// Writes the part of sample number `index`, counted from 0, at `t`, behind its other bits.
    pub(super) fn put(
        &mut self,
        bits: &mut BitWriter,
        index: u16,
        t: Timestamp,
        previous_t: Timestamp,
        st: Timestamp,
    ) {
        let distance = previous_t.wrapping_sub(st);
        if index == 0 {
            if st != 0 {
                bits.put_varint(t.wrapping_sub(st));
                self.header = FIRST_KNOWN;
            }
        } else if self.header & !FIRST_KNOWN != 0 {
            varbit::put_int(bits, distance.wrapping_sub(self.distance));
            self.distance = distance;
        } else if st != self.st || index == CHANGE_MAX {
            varbit::put_int(bits, distance);
            self.distance = distance;
            self.header |= index.to_le_bytes()[0];
        }
        self.st = st;
    }
}

/// What the reader remembers between two samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    st: Timestamp,
    distance: i64,
    is_first_known: bool,
    /// The first sample that tells a change, 0 if none does.
    change: u16,
}

impl Decoder {
    pub(super) fn new(header: u8) -> Self {
        Self {
            st: 0,
            distance: 0,
            is_first_known: header & FIRST_KNOWN != 0,
            change: u16::from(header & !FIRST_KNOWN),
        }
    }

    /// Reads the part of sample number `index`, counted from 0, at `t`; returns the start, 0 if it is not known.
    #[inline]
    pub(super) fn read(
        &mut self,
        bits: &mut BitReader<'_>,
        index: u16,
        t: Timestamp,
        previous_t: Timestamp,
    ) -> Result<Timestamp, DecodeError> {
        if index == 0 {
            if self.is_first_known {
                self.st = t.wrapping_sub(bits.read_varint()?);
            }
        } else if self.change != 0 && index >= self.change {
            self.distance = self.distance.wrapping_add(varbit::read_int(bits)?);
            self.st = previous_t.wrapping_sub(self.distance);
        }
        Ok(self.st)
    }
}
