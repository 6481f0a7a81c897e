//! What other servers send and fetch: the store behind remote write, remote read and federation.

use std::sync::Arc;

use model::Labels;
use model::wire::expose::Expose;
use model::wire::remote_read::ResponseType;
use model::wire::remote_write::Message;

/// Who takes samples in that other servers send.
pub trait WriteReceiver: Expose + Send + Sync {
    /// Takes in a request whose encoding has been undone. May block.
    ///
    /// # Errors
    /// Not everything was taken; what was, the error tells.
    fn write(&self, message: Message, body: &[u8]) -> Result<Written, WriteError>;
}

/// What of a request is in the store now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
}

/// Why not all of a request is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError {
    /// Sending the same again may help.
    pub is_temporary: bool,
    pub text: String,
    /// What is in the store nevertheless.
    pub written: Written,
}

/// Who gives samples to other servers.
pub trait ReadServer: Send + Sync {
    /// Answers a request whose encoding has been undone, piece by piece. May block.
    ///
    /// # Errors
    /// The answer, as far as it was given, is not whole.
    fn read(&self, request: &[u8], answer: &mut dyn Answer) -> Result<(), ReadError>;
}

/// Where the pieces of an answer go.
pub trait Answer {
    /// Says what the pieces will be: called once, before the first of them.
    ///
    /// # Errors
    /// Nobody waits for the answer any more.
    fn begin(&mut self, kind: ResponseType) -> Result<(), ReadError>;

    /// Sends a piece, waiting until there is room for it.
    ///
    /// # Errors
    /// Nobody waits for the answer any more.
    fn piece(&mut self, bytes: Vec<u8>) -> Result<(), ReadError>;
}

/// Why a remote read has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The request is wrong; the text says why.
    Request(String),
    /// The store failed; the text says how.
    Storage(String),
    /// Nobody waits for the answer any more.
    Gone,
}

/// What the server calls itself towards others.
pub trait ExternalLabels: Send + Sync {
    fn external_labels(&self) -> Arc<Labels>;
}
