//! The account of memory: every part that grows with what it holds says how much that is.
//!
//! The figures are what the owners asked for, not what the allocator makes of it; their sum beside `RssAnon` shows what
//! nobody owns up to.

use crate::wire::expose::{Exposition, Kind};

/// A part of the server that holds memory in proportion to its load.
pub trait Holder {
    /// Tells the bytes of each of its owners, by a name that is stable over releases.
    fn memory(&self, tell: &mut dyn FnMut(&'static str, u64));
}

/// Writes the account of all `holders`; owners of the same name count together.
pub fn expose(holders: &[&dyn Holder], out: &mut Exposition) {
    const NAME: &str = "ferula_memory_bytes";
    let mut owners = std::collections::BTreeMap::<&str, u64>::new();
    for holder in holders {
        holder.memory(&mut |owner, bytes| *owners.entry(owner).or_default() += bytes);
    }
    out.family(NAME, "Memory by what holds it, as asked for from the allocator.", Kind::Gauge);
    for (owner, bytes) in owners {
        out.sample(NAME, &[("owner", owner)], bytes as f64);
    }
}
