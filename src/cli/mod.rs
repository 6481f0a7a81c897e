//! The command line.

pub mod flags;
pub mod tsdb;
