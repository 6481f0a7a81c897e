//! The notifier: alerts that are due, relabelled and sent to every Alertmanager, external and built in.
//!
//! Reading order: [`Alert`] (what rules hand over), [`Manager`] (who gets it), [`queue`] and [`sender`]
//! (how it gets there). A slow or dead Alertmanager delays nobody else: each has a queue of its own.
//! A failed batch is tried once more and then lost, because rules send every active alert again and again.
//!
//! Compat: prometheus `notifier` (3.14).

pub mod alert;
mod chronicle;
pub mod manager;
pub mod queue;
pub mod sender;

pub use alert::Alert;
pub use manager::Manager;

#[cfg(test)]
mod tests;
