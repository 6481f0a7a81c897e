//! The server: everything that is asynchronous, policy or wiring, in the order in which a sample travels.
//!
//! The rooms below it (store, engine, configuration, web) know nothing of it.

#![forbid(unsafe_code)]

pub mod am;
pub mod app;
pub mod check;
pub mod cli;
pub mod container;
pub mod explain;
pub mod telemetry;
pub mod test_rules;
pub mod unit;

pub mod discovery;
pub mod http_client;
pub mod scrape;

pub mod alertmanager;
pub mod chart;
pub mod notifier;
pub mod queries;
pub mod remote;
pub mod rules;
pub mod story;
