//! Every small language that users type: `prometheus.yml`, rule files, `alertmanager.yml`, relabelling,
//! matchers, templates.
//!
//! Reading is two steps: YAML to a tree with positions, tree to the resolved, compiled, valid structs of
//! this crate. A file that loads is a file that runs; every refusal names file, line and column.
//! Knows nothing of the network, of tokio or of the store.
//!
//! Compat: prometheus `config` (3.14), alertmanager `config` (0.34), go.yaml.in/yaml/v2 `UnmarshalStrict`.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::format_collect,
        clippy::format_push_string,
        clippy::items_after_statements,
        clippy::needless_pass_by_value,
        clippy::needless_raw_string_hashes,
        clippy::semicolon_if_nothing_returned,
        reason = "tests: expectations are written by a tool, and speed is no concern"
    )
)]

pub mod alertmanager;
mod error;
pub mod http_client;
pub mod matchers;
pub mod paths;
pub mod prometheus;
pub mod relabel;
pub mod rule_tests;
pub mod rules;
pub mod secret;
pub mod span;
pub mod target_group;
pub mod template;
#[cfg(test)]
mod testing;
pub mod units;
mod uri;
pub mod web;
mod yaml;

pub use error::{Error, Problem};
pub use prometheus::Config;
pub use secret::Secret;
pub use target_group::TargetGroup;
pub use yaml::free::parse as yaml_value;
