//! The cache against a plain model: a map from line to series, and a set of the last pass.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;

#[test]
fn a_slot_takes_24_bytes() {
    assert_eq!(size_of::<Slot>(), 24);
}

#[test]
fn kind_and_length_are_part_of_the_key() {
    let hasher = Hasher::default();
    assert_ne!(hasher.key(b"a{le=\"1\"}", 0), hasher.key(b"a{le=\"1\"}", 3));
    assert_ne!(hasher.key(b"a", 0), hasher.key(b"b", 0));
}

/// One pass: the lines in order, each with whether its series is tracked, and whether the pass succeeds.
type Pass = (Vec<(u8, bool)>, bool);

fn series(line: u8) -> SeriesRef {
    SeriesRef(NonZeroU64::new(u64::from(line) + 1).unwrap())
}

proptest! {
    #[test]
    fn agrees_with_a_map(passes in prop::collection::vec((prop::collection::vec((0..24_u8, any::<bool>()), 0..40), prop::bool::weighted(0.8)), 1..12)) {
        let passes: Vec<Pass> = passes;
        let hasher = Hasher::default();
        let mut cache = Cache::default();
        let mut known: BTreeMap<u8, SeriesRef> = BTreeMap::new();
        let mut tracked_before: BTreeSet<SeriesRef> = BTreeSet::new();
        for (lines, succeeds) in passes {
            cache.begin();
            let (mut seen, mut tracked) = (BTreeMap::new(), BTreeSet::new());
            for (line, track) in lines {
                let key = hasher.key(&[line], 0);
                let slot = match cache.lookup(key) {
                    Lookup::Hit { slot, series: found, again } => {
                        prop_assert_eq!(found, series(line));
                        prop_assert_eq!(again, seen.contains_key(&line));
                        prop_assert!(known.contains_key(&line) || again);
                        slot
                    }
                    Lookup::Miss => {
                        prop_assert!(!known.contains_key(&line) && !seen.contains_key(&line));
                        cache.insert(key, series(line))
                    }
                    Lookup::Dropped => return Err(TestCaseError::fail("nothing was dropped")),
                };
                seen.insert(line, series(line));
                if track {
                    cache.track(slot);
                    tracked.insert(series(line));
                }
            }
            let mut lost = BTreeSet::new();
            if succeeds {
                cache.finish(|series| assert!(lost.insert(series), "lost twice"));
                prop_assert_eq!(&lost, &(&tracked_before - &tracked));
                known = seen;
                tracked_before = tracked;
            } else {
                cache.fail(|series| assert!(lost.insert(series), "lost twice"));
                prop_assert_eq!(&lost, &tracked_before);
                tracked_before.clear();
            }
            prop_assert_eq!(cache.len(), known.len());
        }
    }
}
