//! Scraping: from discovered groups to samples in the store.
//!
//! The walk of a sample: [`Manager`] keeps one pool per job; a pool turns groups into targets and runs one
//! loop per target; the loop waits for its slot, fetches the body over its own connection and hands it to
//! [`ingest`], which is synchronous and runs to the commit where the body arrived, or on a worker if it is large. The cache between them turns the
//! bytes of a line into the series it was last time, so that a warm scrape parses no labels.
//! Knows nothing of how targets are discovered, nor of the store beyond [`model::storage`].
//!
//! Compat: prometheus `scrape` (3.14).

mod body;
pub mod cache;
mod clock;
mod connect;
mod dials;
pub mod dry_run;
mod failures;
mod fetch;
pub mod ingest;
mod lanes;
mod limits;
mod manager;
pub mod metadata;
mod metrics;
mod negotiate;
mod pool;
mod report;
mod runner;
mod synthesis;
mod target;

pub use clock::{Clock, System};
pub use ingest::Extras;
pub use manager::{ActiveTarget, DroppedTarget, Error, Manager, Options, TargetMetadata, Targets};
pub use target::Health;

#[cfg(test)]
mod tests;
