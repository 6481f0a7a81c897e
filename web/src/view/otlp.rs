//! Who takes what is sent over the OpenTelemetry protocol.

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// Why a request, or series of it that are too many, was not stored, with the text for who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is wrong, and sending it again would not help.
    Invalid(String),
    /// Something else went wrong.
    Failed(String),
    /// It may be taken later.
    Unavailable(String),
}

/// Takes requests; called on threads that may block.
pub trait Receiver: Send + Sync {
    /// Stores what `body` brings, all of it or nothing but for series that are too many.
    ///
    /// # Errors
    /// Nothing was stored, or not all.
    fn receive(&self, body: &[u8], encoding: Encoding) -> Result<(), Refusal>;
}
