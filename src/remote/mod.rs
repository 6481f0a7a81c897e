//! What other servers and programs send to the store: the meaning of their requests, without HTTP.

pub mod otlp;
