//! Memory of histograms that outlives the worker that asked for it, up to the end of the query.
//!
//! Workers come and go with every wave of rows, while a histogram is five pieces of memory: each hands on what its rows
//! have used.

use std::ops::{Deref, DerefMut};

use model::HistogramPoints;
use parking_lot::Mutex;

use super::stream::Scratch;

/// What workers have left: samples and results of rows. As many as there were workers at once, each bounded in itself.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<(HistogramPoints, HistogramPoints)>>);

/// Buffers of one worker, which give their histograms back.
pub(crate) struct Lent<'s> {
    scratch: Scratch,
    spares: &'s Spares,
}

impl Spares {
    /// Buffers with the memory of histograms that another worker has left.
    pub(crate) fn scratch(&self) -> Lent<'_> {
        let mut scratch = Scratch::default();
        if let Some((samples, results)) = self.0.lock().pop() {
            scratch.samples.histograms = samples;
            scratch.range.spare = results;
        }
        Lent { scratch, spares: self }
    }
}

impl Deref for Lent<'_> {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.scratch
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut samples = std::mem::take(&mut self.scratch.samples.histograms);
        let results = std::mem::take(&mut self.scratch.range.spare);
        samples.clear();
        if samples.has_spare() || results.has_spare() {
            self.spares.0.lock().push((samples, results));
        }
    }
}
