//! What a series has beside its line, once it is more than a plain series of floats in order.
//!
//! Most series never have one; it is made when first needed and dropped with the series.

use super::late::Late;
use super::series::State;
use super::slab::NONE;
use crate::chunk;

/// Lives under the lock of the shard.
#[derive(Debug, Default)]
pub(super) struct Extension {
    /// The open chunk, where it is not one of plain floats.
    pub(super) open: Option<Open>,
    /// Samples that came too late for their place.
    pub(super) late: Option<Box<Late>>,
    /// Of the newest sample if it is a histogram; 0 as well when only its chunk is known, after a start.
    pub(super) n_buckets: u32,
}

impl Extension {
    /// Whether there is nothing of the series but what its line knows of.
    pub(super) fn has_open_chunk_only(&self) -> bool {
        // Whoever adds a field decides here: what has samples beside the chunks of the line must not be dropped with
        // them.
        let Self { open: _, late, n_buckets: _ } = self;
        late.is_none()
    }
}

/// An open chunk and what its cut needs to know beside the line.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) builder: chunk::Builder,
    /// Whether its end was predicted from how fast it fills.
    pub(super) has_predicted: bool,
}

impl State {
    /// The extension of series `idx`, if it has one.
    pub(super) fn extension(&self, idx: u32) -> Option<&Extension> {
        match self.cold[idx].extension {
            NONE => None,
            at => self.extensions[at].as_deref(),
        }
    }

    /// The extension of series `idx`, made if it has none.
    pub(super) fn extension_mut(&mut self, idx: u32) -> &mut Extension {
        if self.cold[idx].extension == NONE {
            self.cold[idx].extension = match self.free_extensions.pop() {
                Some(at) => at,
                None => self.extensions.push(None),
            };
        }
        self.extensions[self.cold[idx].extension].get_or_insert_default()
    }

    /// Frees the extension of series `idx`.
    pub(super) fn drop_extension(&mut self, idx: u32) {
        self.drop_late(idx);
        let at = std::mem::replace(&mut self.cold[idx].extension, NONE);
        if at != NONE {
            let gone = self.extensions[at].take();
            self.n_histogram_buckets -= gone.map_or(0, |it| u64::from(it.n_buckets));
            self.free_extensions.push(at);
        }
    }
}
