//! The face: the HTTP API of the server and of the built-in Alertmanager, and the page.
//!
//! Reading order: [`view`] (what may be shown, and the traits that the server implements to show it),
//! [`params`] (requests), [`routes`] (their table), [`api`] (who answers), [`json`] (answers), `stream` (large
//! ones), [`server`] (connections), [`security`] (who is let in).
//! Never sees live state of the server: it asks through the traits of [`view`] and gets owned structs.
//!
//! Compat: prometheus `web` and `web/api/v1` (3.14).

#![forbid(unsafe_code)]

pub mod actions;
pub mod api;
mod compression;
pub mod consoles;
mod debug;
pub mod error;
pub mod federate;
pub mod json;
pub mod metrics;
pub mod notifications;
pub mod params;
pub mod remote;
mod routes;
pub mod security;
pub mod server;
mod stall;
mod stream;
pub mod ui;
pub mod view;

pub use api::{Api, router};
pub use error::ApiError;
pub use notifications::Notifications;
