//! Byte forms on the wire: what targets expose and what we expose ourselves.

pub mod expose;
pub mod parse;

mod line;
mod openmetrics;
mod text;
mod token;
