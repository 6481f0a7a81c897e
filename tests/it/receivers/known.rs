//! Where we differ from upstream on purpose.

/// Whether two requests are the same for those who get them.
pub(super) fn same(one: &str, other: &str) -> bool {
    one == other
}
