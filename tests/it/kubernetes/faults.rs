//! What a test makes an API server do wrong, and what the server has seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::objects::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    /// Discovery of the API, versions, health.
    Other,
}

/// Something that goes wrong with the next requests it is about.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) verb: Verb,
    /// All if `None`.
    pub(crate) kind: Option<Kind>,
    /// How often.
    pub(crate) times: usize,
    pub(crate) deed: Deed,
}

pub(crate) const ALWAYS: usize = usize::MAX;

#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Answers with this code, and `Retry-After` in seconds.
    Refuse(u16, Option<u32>),
    /// Closes the connection without an answer.
    Drop,
    /// Answers as it should, but later.
    Delay(Duration),
    /// Answers with 200 and ends the answer at once. For watches.
    CloseAtOnce,
    /// Says this first, before what it should say. For watches.
    Say(Bytes),
    /// Breaks the connection after so many bytes of the answer.
    CutAfter(usize),
    /// Writes a few bytes at a time.
    Trickle { bytes: usize, every: Duration },
}

/// What happens to watches that are under way.
#[derive(Clone, Debug)]
pub(crate) enum Interruption {
    /// The connection breaks in the middle of an object.
    Break,
    /// The server closes the stream in good order.
    End,
    /// These bytes stand in the stream; it goes on.
    Say(Bytes),
}

/// A request as it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) verb: Verb,
    pub(crate) kind: Option<Kind>,
    /// Empty for all.
    pub(crate) namespace: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) path: String,
    pub(crate) user_agent: String,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whether it asks for everything anew: the first page of a list, or a watch that begins with what there is.
    pub(crate) fn is_relist(&self) -> bool {
        match self.verb {
            Verb::List => self.parameter("continue").is_empty(),
            Verb::Watch => {
                self.parameter("sendInitialEvents") == "true"
                    || matches!(self.parameter("resourceVersion"), "" | "0")
            }
            Verb::Get | Verb::Other => false,
        }
    }
}
