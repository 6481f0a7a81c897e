//! What tests of queries need: a store in memory and the language of upstream's `.test` scripts.
//!
//! Not for servers: nothing here is fast, durable or limited.
//!
//! Compat: prometheus `promql/promqltest`.

pub mod script;
pub mod storage;

pub use script::{Report, Store, run, run_on};
pub use storage::Storage;

#[cfg(test)]
pub(crate) mod generate;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
pub(crate) mod tests;
