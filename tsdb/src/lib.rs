//! The time-series store, in Prometheus' data directory.
//!
//! Reading order: [`chunk`] (what a run of samples looks like), [`wal`] and [`head`] (where new samples live),
//! [`index`] and [`block`] (where old ones rest), [`compact`] (how they get there), [`db`] (all of it as one store).
//!
//! Synchronous; never mentions `PromQL`, HTTP, YAML or tokio. Every file name on disk is in `db::paths`,
//! every file goes through [`fs`].
//!
//! Compat: prometheus `tsdb` (3.14).

#![deny(unsafe_code)]
#![expect(clippy::missing_errors_doc, reason = "all fail with the crate's one Error, whose variants say how")]

pub mod block;
mod bytes;
pub mod chunk;
pub mod compact;
pub mod db;
mod error;
pub mod fs;
pub mod head;
pub mod index;
mod output;
#[cfg(test)]
mod testing;
pub mod wal;

pub use db::Db;
pub use error::{DecodeError, Error, Result};
