//! Postings: ascending 32-bit series refs, and the three set operations on them.
//!
//! A list on disk is read in place, big endian; whatever is computed is a vector.
//!
//! Compat: prometheus `tsdb/index/postings.go` in meaning, not in shape: no lazy trees.

/// Ascending, unique series refs.
#[derive(Clone, Debug)]
pub enum Postings<'a> {
    /// As in the file: four bytes big endian each.
    Mapped(&'a [u8]),
    Owned(Vec<u32>),
}

impl Postings<'_> {
    pub const EMPTY: Self = Self::Owned(Vec::new());

    pub fn len(&self) -> usize {
        match self {
            Self::Mapped(bytes) => bytes.len() / 4,
            Self::Owned(refs) => refs.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ref at `i`, or `None` beyond the end.
    pub fn get(&self, i: usize) -> Option<u32> {
        match self {
            Self::Mapped(bytes) => {
                let raw = bytes.get(i.checked_mul(4)?..)?.first_chunk::<4>()?;
                Some(u32::from_be_bytes(*raw))
            }
            Self::Owned(refs) => refs.get(i).copied(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).map_while(|i| self.get(i))
    }

    pub fn into_vec(self) -> Vec<u32> {
        match self {
            Self::Mapped(_) => self.iter().collect(),
            Self::Owned(refs) => refs,
        }
    }

    /// The first position at or after `from` whose ref is at least `target`: doubling steps, then halving.
    fn seek(&self, from: usize, target: u32) -> usize {
        let len = self.len();
        let reaches = |i: usize| self.get(i).is_none_or(|r| r >= target);
        if from >= len || reaches(from) {
            return from.min(len);
        }
        let mut step = 1;
        let mut low = from;
        while low + step < len && !reaches(low + step) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(len);
        // The ref at `low` is too small, the one at `high` is not.
        while low + 1 < high {
            let middle = low.midpoint(high);
            if reaches(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// Whether the two lists share a ref.
    pub fn intersects(&self, other: &Self) -> bool {
        let (short, long) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        let mut at = 0;
        short.iter().any(|r| {
            at = long.seek(at, r);
            long.get(at) == Some(r)
        })
    }
}

/// The refs that are in every list. Walks the shortest and gallops through the others.
pub fn intersect(mut lists: Vec<Postings<'_>>) -> Postings<'_> {
    lists.sort_by_key(Postings::len);
    if lists.len() <= 1 {
        return lists.pop().unwrap_or(Postings::EMPTY);
    }
    let (short, others) = lists.split_at(1);
    let mut positions = vec![0; others.len()];
    let is_everywhere = |r: &u32| {
        others.iter().zip(&mut positions).all(|(list, at)| {
            *at = list.seek(*at, *r);
            list.get(*at) == Some(*r)
        })
    };
    Postings::Owned(short.iter().flat_map(Postings::iter).filter(is_everywhere).collect())
}

/// The refs that are in any list.
pub fn union(mut lists: Vec<Postings<'_>>) -> Postings<'_> {
    lists.retain(|list| !list.is_empty());
    if lists.len() <= 1 {
        return lists.pop().unwrap_or(Postings::EMPTY);
    }
    let mut refs = Vec::with_capacity(lists.iter().map(Postings::len).sum());
    for list in &lists {
        refs.extend(list.iter());
    }
    #[expect(
        clippy::stable_sort_primitive,
        reason = "the stable sort finds the ascending runs and merges them"
    )]
    refs.sort();
    refs.dedup();
    Postings::Owned(refs)
}

/// The refs of `list` that are not in `dropped`.
pub fn subtract<'a>(list: Postings<'a>, dropped: &Postings<'_>) -> Postings<'a> {
    if dropped.is_empty() || list.is_empty() {
        return list;
    }
    let mut at = 0;
    let stays = |r: &u32| {
        at = dropped.seek(at, *r);
        dropped.get(at) != Some(*r)
    };
    Postings::Owned(list.iter().filter(stays).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn list() -> impl Strategy<Value = BTreeSet<u32>> {
        proptest::collection::btree_set(0_u32..200, 0..80)
    }

    fn mapped(set: &BTreeSet<u32>) -> Vec<u8> {
        set.iter().flat_map(|r| r.to_be_bytes()).collect()
    }

    proptest! {
        #[test]
        fn set_operations_equal_those_of_sets(a in list(), b in list(), c in list()) {
            let bytes = [mapped(&a), mapped(&b), mapped(&c)];
            let lists = || bytes.iter().map(|bytes| Postings::Mapped(bytes)).collect::<Vec<_>>();
            let both: BTreeSet<u32> = a.intersection(&b).copied().collect();
            prop_assert_eq!(intersect(lists()).into_vec(), both.intersection(&c).copied().collect::<Vec<_>>());
            let any: BTreeSet<u32> = a.union(&b).chain(&c).copied().collect();
            prop_assert_eq!(union(lists()).into_vec(), any.into_iter().collect::<Vec<_>>());
            let left = subtract(Postings::Mapped(&bytes[0]), &Postings::Mapped(&bytes[1])).into_vec();
            prop_assert_eq!(left, a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(lists()[0].intersects(&lists()[1]), !both.is_empty());
        }
    }
}
