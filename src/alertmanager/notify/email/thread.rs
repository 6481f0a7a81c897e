//! Threads: what makes a mail reader show the e-mails of one life of a group below each other.
//!
//! The first mail of a life is the root; each later one names the one before and those before that, and
//! keeps the subject of the root where the subject is ours, for some readers thread by subject. Upstream's
//! own threads have a root that no mail ever was; where they are asked for, that name comes in addition.
//!
//! Compat: alertmanager `notify/email`, `Threading` (0.34).

use config::alertmanager::Threading;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::alertmanager::nflog::{Datum, Memory};

const ROOT: &str = "rootMessageId";
const LAST: &str = "lastMessageId";
const SUBJECT: &str = "rootSubject";
const REFERENCES: &str = "references";

/// The most identities in `References`.
const REFERENCES_MAX: usize = 20;
/// An identity of a user's making that is longer is not kept.
const ID_BYTES_MAX: usize = 250;

/// The e-mails of one life of a group, to be answered by the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::alertmanager::notify) struct Thread {
    pub(in crate::alertmanager::notify) root: String,
    pub(in crate::alertmanager::notify) last: String,
    /// Between root and last, oldest first.
    between: Vec<String>,
    /// The subject of the root, where it was ours to choose.
    pub(in crate::alertmanager::notify) subject: Option<String>,
}

impl Thread {
    /// The thread that a mail begins.
    pub(super) fn begin(id: String, subject: Option<String>) -> Self {
        Self { root: id.clone(), last: id, between: Vec::new(), subject }
    }

    pub(super) fn from_memory(memory: &Memory) -> Option<Self> {
        let text = |name: &str| match memory.get(name)? {
            // What a file says may be anything.
            Datum::Text(text) if !text.contains(['\r', '\n']) => Some(text.clone()),
            _ => None,
        };
        let between = text(REFERENCES).unwrap_or_default();
        Some(Self {
            root: text(ROOT)?,
            last: text(LAST)?,
            between: between.split_whitespace().take(REFERENCES_MAX).map(str::to_owned).collect(),
            subject: text(SUBJECT),
        })
    }

    /// The same thread after one more mail of that subject.
    pub(super) fn answered_by(&self, id: String, subject: Option<String>) -> Self {
        let mut next = Self { subject, ..self.clone() };
        if next.last == next.root {
            next.last = id;
        } else {
            next.between.push(std::mem::replace(&mut next.last, id));
        }
        // Root and last have their place too.
        let surplus = next.between.len().saturating_sub(REFERENCES_MAX - 2);
        next.between.drain(..surplus);
        next
    }

    /// What an answer says in `References`: the root first, the last at the end.
    pub(super) fn references(&self) -> Vec<String> {
        let mut all = vec![self.root.clone()];
        all.extend(self.between.iter().cloned());
        if self.last != self.root {
            all.push(self.last.clone());
        }
        all
    }

    pub(in crate::alertmanager::notify) fn into_memory(self) -> Memory {
        let mut memory = Memory::new();
        let mut put = |name: &str, text: String| drop(memory.insert(name.to_owned(), Datum::Text(text)));
        put(ROOT, self.root);
        put(LAST, self.last);
        if !self.between.is_empty() {
            put(REFERENCES, self.between.join(" "));
        }
        if let Some(subject) = self.subject {
            put(SUBJECT, subject);
        }
        memory
    }
}

/// The identity of the last mail that left `memory`.
pub(super) fn last_id(memory: &Memory) -> Option<&str> {
    match memory.get(LAST)? {
        Datum::Text(id) => Some(id),
        _ => None,
    }
}

/// The identity in a header of the user's, if it can be answered.
pub(super) fn as_id(value: &str) -> Option<&str> {
    let value = value.trim();
    let inner = value.strip_prefix('<')?.strip_suffix('>')?;
    let is_clean = inner.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
    (is_clean && inner.contains('@') && value.len() <= ID_BYTES_MAX).then_some(value)
}

/// Upstream's root of the threads of a group: `<alert-H-D@alertmanager>`. The day is that of the server.
pub(super) fn phantom_root(by: Threading, group_hash: &str, now: Timestamp) -> String {
    let day = match by {
        Threading::Daily => now.to_zoned(TimeZone::system()).date().to_string(),
        Threading::Forever => String::new(),
    };
    format!("<alert-{group_hash}-{day}@alertmanager>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_keep_root_and_last_and_at_most_twenty() {
        let id = |n: usize| format!("<{n}@h>");
        let mut thread = Thread::begin(id(0), Some("s".to_owned()));
        assert_eq!(thread.references(), [id(0)]);
        for n in 1..50 {
            thread = Thread::from_memory(&thread.answered_by(id(n), thread.subject.clone()).into_memory())
                .unwrap();
            let references = thread.references();
            assert!(references.len() <= REFERENCES_MAX);
            assert_eq!((references.first(), references.last()), (Some(&id(0)), Some(&id(n))));
        }
        assert_eq!(thread.references()[1..3], [id(31), id(32)]);
        assert_eq!(thread.subject.as_deref(), Some("s"));
    }

    #[test]
    fn memory_of_a_damaged_file_is_none() {
        let text = |text: &str| Datum::Text(text.to_owned());
        let of = |pairs: Vec<(&str, Datum)>| pairs.into_iter().map(|(n, d)| (n.to_owned(), d)).collect();
        assert_eq!(Thread::from_memory(&of(vec![(ROOT, text("<a@b>"))])), None);
        let evil = of(vec![(ROOT, text("<a@b>\r\nBcc: x")), (LAST, text("<a@b>"))]);
        assert_eq!(Thread::from_memory(&evil), None);
        assert_eq!(Thread::from_memory(&of(vec![(ROOT, Datum::Int(1)), (LAST, text("<a@b>"))])), None);
    }

    #[test]
    fn the_made_up_root_is_upstreams() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(phantom_root(Threading::Forever, "00ff", now), "<alert-00ff-@alertmanager>");
        let day = now.to_zoned(TimeZone::system()).date();
        assert_eq!(phantom_root(Threading::Daily, "00ff", now), format!("<alert-00ff-{day}@alertmanager>"));
    }

    #[test]
    fn only_whole_identities_are_answered() {
        assert_eq!(as_id(" <a@b> "), Some("<a@b>"));
        for bad in ["a@b", "<a b@c>", "<a>", "<a@b> <c@d>", ""] {
            assert_eq!(as_id(bad), None, "{bad}");
        }
    }
}
