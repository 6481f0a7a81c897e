//! The tests that need more than one room: checks of the whole tree, and the server as a process.

mod compat;
mod tidy;
