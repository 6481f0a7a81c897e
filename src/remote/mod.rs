//! What other servers send to the store and fetch from it: the meaning of their requests, without HTTP.
//!
//! `receive` takes samples in (remote write), `read` gives them out (remote read). Both run on threads that may block.

pub mod otlp;
pub mod read;
pub mod receive;
