//! FNV-1a of 64 bits: the hash of everything whose value others see or that must survive a restart.
//!
//! Fingerprints of alerts, offsets of scrapes and of rule groups. Not for tables: those want speed.
//!
//! Compat: Go `hash/fnv`, `New64a`; prometheus/common `model`, `hashAdd`.

/// The hash of all parts, one after the other, without a mark between them.
pub fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn hashes_are_those_of_the_reference() {
        // The test vectors of the algorithm's authors.
        assert_eq!(fnv1a([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a([&b"a"[..]]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a([&b"foo"[..], b"bar"]), 0x8594_4171_f739_67e8);
    }
}
