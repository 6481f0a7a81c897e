//! The ids of the series that carry one label, as runs: contiguous ids of a target cost next to nothing.

use roaring::RoaringBitmap;

/// An ascending list of ids. Runs before the last one are encoded as (gap, length) varints.
#[derive(Debug, Default)]
pub(super) struct Postings {
    encoded: Vec<u8>,
    /// Where the encoded runs end.
    end: u32,
    /// The last run, which may still grow.
    start: u32,
    len: u32,
}

impl Postings {
    /// Appends an id greater than all others.
    pub(super) fn push(&mut self, id: u32) {
        if self.len > 0 && id == self.start + self.len {
            self.len += 1;
            return;
        }
        debug_assert!(self.len == 0 || id > self.start + self.len, "BUG: posting {id} out of order");
        if self.len > 0 {
            // The low bit tells a run from a single id, which is the common case.
            let gap = u64::from(self.start - self.end);
            push_uvarint(&mut self.encoded, (gap << 1) | u64::from(self.len > 1));
            if self.len > 1 {
                push_uvarint(&mut self.encoded, u64::from(self.len));
            }
            self.end = self.start + self.len;
        }
        (self.start, self.len) = (id, 1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs as (first id, length), ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut rest = self.encoded.as_slice();
        let mut end = 0;
        let encoded = std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let tagged = take_uvarint(&mut rest);
            let start = end + u32::try_from(tagged >> 1).expect("gaps are between u32 ids");
            let len = if tagged & 1 == 0 { 1 } else { take_uvarint(&mut rest) };
            let len = u32::try_from(len).expect("runs are of u32 ids");
            end = start + len;
            Some((start, len))
        });
        encoded.chain((self.len > 0).then_some((self.start, self.len)))
    }

    pub(super) fn add_to(&self, out: &mut RoaringBitmap) {
        for (start, len) in self.runs() {
            if len == 1 {
                out.insert(start);
            } else {
                out.insert_range(start..=start + (len - 1));
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.encoded.capacity()
    }

    /// The list with the ids that `new_ids` gives to those it has; it keeps their order and has none for the gone.
    pub(super) fn renumbered(&self, new_ids: &[Option<u32>]) -> Self {
        let mut moved = Self::default();
        for (start, len) in self.runs() {
            let old = start as usize..(start + len) as usize;
            new_ids[old].iter().flatten().for_each(|&id| moved.push(id));
        }
        moved.encoded.shrink_to_fit();
        moved
    }

    /// The list without some ids.
    pub(super) fn without(&self, dead: &RoaringBitmap) -> Self {
        let mut kept = Self::default();
        for (start, len) in self.runs() {
            (start..start + len).filter(|&id| !dead.contains(id)).for_each(|id| kept.push(id));
        }
        kept.encoded.shrink_to_fit();
        kept
    }
}

fn push_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Takes what [`push_uvarint`] wrote; these bytes never leave memory.
fn take_uvarint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().expect("BUG: torn varint in postings");
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_come_back(ids in prop::collection::btree_set(0_u32..3000, 0..600), dead in prop::collection::btree_set(0_u32..3000, 0..300)) {
            let mut postings = Postings::default();
            for &id in &ids {
                postings.push(id);
            }
            let mut found = RoaringBitmap::new();
            postings.add_to(&mut found);
            prop_assert!(found.iter().eq(ids.iter().copied()));
            let mut kept = RoaringBitmap::new();
            postings.without(&dead.iter().copied().collect()).add_to(&mut kept);
            prop_assert!(kept.iter().eq(ids.difference(&dead).copied()));
            let (mut moved, mut next) = (RoaringBitmap::new(), 0..);
            let new_ids: Vec<_> = (0..3000).map(|id| if dead.contains(&id) { None } else { next.next() }).collect();
            postings.renumbered(&new_ids).add_to(&mut moved);
            prop_assert!(moved.iter().eq(ids.iter().filter_map(|&id| new_ids[id as usize])));
        }
    }
}
