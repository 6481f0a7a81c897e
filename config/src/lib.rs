//! Every small language that users type: `prometheus.yml`, rule files, `alertmanager.yml`, relabelling,
//! matchers, templates.
//!
//! Reading is two steps: YAML to a tree with positions, tree to the resolved, compiled, valid structs of
//! this crate. A file that loads is a file that runs; every refusal names file, line and column.
//! Knows nothing of the network, of tokio or of the store.
//!
//! Compat: prometheus `config` (3.14), alertmanager `config` (0.34), go.yaml.in/yaml/v2 `UnmarshalStrict`.

pub mod alertmanager;
mod error;
pub mod http_client;
pub mod matchers;
pub mod paths;
pub mod prometheus;
pub mod relabel;
pub mod rules;
pub mod secret;
pub mod target_group;
pub mod template;
#[cfg(test)]
mod testing;
pub mod units;
mod yaml;

pub use error::{Error, Problem};
pub use prometheus::Config;
pub use secret::Secret;
pub use target_group::TargetGroup;
