//! The command line.

pub mod check;
pub mod flags;
pub mod tsdb;
