//! The tests that need more than one room: checks of the whole tree, and the server as a process.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of the tests' own"
)]
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_for_each,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "what tests write is small, and read once"
)]

mod admin;
mod alerting;
mod alertmanager;
mod amtool;
mod bad_input;
mod clients;
mod compat;
mod differential;
mod directory;
mod discovery;
mod exposition;
mod extras;
mod kill;
mod kubernetes;
mod large;
mod late;
mod looks;
mod mail;
mod notify;
mod otlp;
mod pingpong;
mod process;
mod queries;
mod receivers;
mod reload;
mod remote;
mod rule_tests;
mod scrape_errors;
mod scrape_security;
mod scripted;
mod scripts_on_store;
mod secrets;
mod self_metrics;
mod storm;
mod tidy;
mod tls;
mod web_config;
