//! What other servers and programs send to the store, over HTTP.

pub mod otlp;
