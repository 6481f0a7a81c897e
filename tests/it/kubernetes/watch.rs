//! One watch: what there is, then what changes, in the eyes of its selectors; and how it fails.
//!
//! Compat: kubernetes `apiserver/pkg/storage/cacher`, `cacheWatcher`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::faults::{Deed, Interruption};
use super::objects::{Change, Kind, Object};
use super::selector::Selector;
use super::server::{
    Asked, Form, Piece, Progress, Refusal, Shared, Signal, StreamingLists, broken, metadata, number,
};
use super::table;

/// Changes that a watch takes from the store at once.
const BATCH: usize = 500;

/// One watch.
pub(super) struct Watch {
    kind: Kind,
    namespace: String,
    selector: Selector,
    form: Form,
    /// What it begins with, and the version after which it goes on.
    initial: Vec<Arc<Object>>,
    /// Where a failure is an event.
    gone: Option<Refusal>,
    wants_bookmarks: bool,
    wants_end_of_initial: bool,
    timeout: Duration,
    signal: watch::Receiver<Signal>,
    /// Interruptions that it has seen.
    n_interruptions: usize,
    progress: Arc<Progress>,
}

impl Watch {
    pub(super) fn new(shared: &Shared, asked: Asked, form: Form) -> Result<Self, Refusal> {
        let kind = asked.kind.unwrap();
        let bad = |message| Refusal::new(400, "BadRequest", message);
        let mut fields = asked.parameter("fieldSelector").to_owned();
        if !asked.name.is_empty() {
            fields = format!("metadata.name={},{fields}", asked.name);
        }
        let selector = Selector::parse(kind, asked.parameter("labelSelector"), &fields).map_err(bad)?;
        let is_streaming = wants_streaming(shared.options.streaming_lists, &asked)?;
        let version = number(&asked, "resourceVersion")?;
        let store = shared.store.lock().unwrap();
        let mut signal = shared.signal.subscribe();
        let n_interruptions = signal.borrow_and_update().interruptions.len();
        if is_streaming && version > store.version() {
            return Err(Refusal::too_large(version, store.version()));
        }
        let with_initial = is_streaming || version == 0;
        let gone = if with_initial { None } else { store.changes(version, 1).err() };
        let gone = gone.map(|gone| Refusal::gone(version, &gone));
        if shared.options.gone_as_status
            && let Some(refusal) = gone
        {
            return Err(refusal);
        }
        let initial = if with_initial { store.all(kind).cloned().collect() } else { Vec::new() };
        let start = if with_initial { store.version() } else { version };
        let progress = Arc::new(Progress { kind, version: AtomicU64::new(0) });
        let timeout = match number(&asked, "timeoutSeconds")? {
            0 => Duration::from_mins(30),
            seconds => Duration::from_secs(seconds),
        };
        shared.watches.lock().unwrap().push(Arc::downgrade(&progress));
        progress.version.store(start.min(store.version()), Ordering::Release);
        Ok(Self {
            kind,
            selector,
            form,
            initial,
            gone,
            wants_bookmarks: asked.is_true("allowWatchBookmarks"),
            wants_end_of_initial: is_streaming && asked.is_true("allowWatchBookmarks"),
            timeout,
            signal,
            n_interruptions,
            progress,
            namespace: asked.namespace,
        })
    }

    fn takes(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || object.key().0 == self.namespace) && self.selector.takes(object)
    }

    /// Sends what there is and what comes. Ends with `None` when nobody listens any more.
    pub(super) async fn run(mut self, shared: &Shared, mut mouth: Mouth) -> Option<()> {
        if let Some(refusal) = &self.gone {
            return mouth.say(line("ERROR", &refusal.status())).await;
        }
        let end = tokio::time::Instant::now() + self.timeout;
        let mut cursor = self.progress.version.load(Ordering::Acquire);
        // Until all of that is out it has come nowhere.
        self.progress.version.store(0, Ordering::Release);
        let mut is_first = true;
        for object in std::mem::take(&mut self.initial).iter().filter(|object| self.takes(object)) {
            mouth.say(self.event("ADDED", object, is_first)).await?;
            is_first = false;
        }
        if self.wants_end_of_initial {
            mouth.say(self.bookmark(cursor, true)).await?;
        }
        let mut bookmarks = tokio::time::interval(shared.options.bookmark_every);
        bookmarks.tick().await;
        loop {
            let batch = shared.store.lock().unwrap().changes(cursor, BATCH);
            let batch = match batch {
                Ok(batch) => batch,
                Err(gone) => {
                    return mouth.say(line("ERROR", &Refusal::gone(cursor, &gone).status())).await;
                }
            };
            for change in &batch {
                if let Some(text) = self.changed(change) {
                    mouth.say(text).await?;
                }
                cursor = change.version;
            }
            self.progress.version.store(cursor, Ordering::Release);
            if batch.len() == BATCH {
                continue;
            }
            self.interrupted(&mut mouth).await?;
            tokio::select! {
                changed = self.signal.changed() => changed.ok()?,
                () = tokio::time::sleep_until(end) => return Some(()),
                () = mouth.pieces.closed() => return None,
                _ = bookmarks.tick(), if self.wants_bookmarks => mouth.say(self.bookmark(cursor, false)).await?,
            }
        }
    }

    /// Does what the test wants done to running watches.
    async fn interrupted(&mut self, mouth: &mut Mouth) -> Option<()> {
        let due: Vec<_> = self.signal.borrow_and_update().interruptions[self.n_interruptions..].to_vec();
        self.n_interruptions += due.len();
        for (_, interruption) in due.into_iter().filter(|(kind, _)| kind.is_none_or(|k| k == self.kind)) {
            match interruption {
                Interruption::End => return None,
                Interruption::Say(bytes) => mouth.say(bytes.to_vec()).await?,
                Interruption::Break => {
                    let half = format!(
                        "{{\"type\":\"MODIFIED\",\"object\":{{\"kind\":{:?},\"meta",
                        self.kind.name()
                    );
                    mouth.say(half.into_bytes()).await?;
                    return mouth.break_off().await;
                }
            }
        }
        Some(())
    }

    /// What a change is to this watch: an object that begins to please its selectors is new to it, one that no longer
    /// does is gone.
    fn changed(&self, change: &Change) -> Option<Vec<u8>> {
        if change.kind() != self.kind {
            return None;
        }
        let before = change.before.as_ref().filter(|before| self.takes(before));
        let is_taken = !change.is_deletion && self.takes(&change.after);
        match (before, is_taken) {
            (None, true) => Some(self.event("ADDED", &change.after, false)),
            (Some(_), true) => Some(self.event("MODIFIED", &change.after, false)),
            (Some(_), false) if change.is_deletion => Some(self.event("DELETED", &change.after, false)),
            (Some(before), false) => {
                // The object as it was when it was last seen, with the version of this change.
                let mut value = before.value.clone();
                value["metadata"]["resourceVersion"] = json!(change.version.to_string());
                let value = match self.form {
                    Form::Whole => value,
                    _ => return Some(self.event("DELETED", before, false)),
                };
                Some(line("DELETED", &value))
            }
            (None, false) => None,
        }
    }

    fn event(&self, kind: &str, object: &Arc<Object>, is_first: bool) -> Vec<u8> {
        match self.form {
            Form::Whole => {
                let mut text = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
                object.write_whole(&mut text);
                text.extend_from_slice(b"}\n");
                text
            }
            // Only the first says what the columns are.
            Form::Table => line(kind, &table::of(self.kind, 0, &[object], is_first)),
            Form::Metadata => line(kind, &metadata(object)),
        }
    }

    fn bookmark(&self, version: u64, is_end_of_initial: bool) -> Vec<u8> {
        let (kind, api_version) = match self.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            Form::Table => ("Table", "meta.k8s.io/v1".to_owned()),
            Form::Whole => (self.kind.name(), self.kind.api_version()),
        };
        let mut object = json!({
            "kind": kind, "apiVersion": api_version,
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        });
        if is_end_of_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        line("BOOKMARK", &object)
    }
}

/// Whether a watch is to begin with all there is, marked at its end.
fn wants_streaming(mode: StreamingLists, asked: &Asked) -> Result<bool, Refusal> {
    let rule = asked.parameter("resourceVersionMatch");
    if mode == StreamingLists::Ignored {
        return Ok(false);
    }
    if !asked.query.contains_key("sendInitialEvents") {
        return match rule {
            "" => Ok(false),
            _ => Err(Refusal::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
        };
    }
    if mode == StreamingLists::Refused {
        return Err(Refusal::invalid(
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        ));
    }
    if rule != "NotOlderThan" {
        return Err(Refusal::invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    Ok(asked.is_true("sendInitialEvents"))
}

fn line(kind: &str, object: &Value) -> Vec<u8> {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into_bytes()
}

/// The event with which a stream says that its version is too old.
pub(crate) fn gone_event() -> Bytes {
    let refusal = Refusal::new(410, "Expired", "too old resource version: 1 (2)");
    Bytes::from(line("ERROR", &refusal.status()))
}

/// Writes the body of an answer, as well as it may.
pub(super) struct Mouth {
    pieces: mpsc::Sender<Piece>,
    cut_after: Option<usize>,
    trickle: Option<(usize, Duration)>,
}

impl Mouth {
    pub(super) fn new(pieces: mpsc::Sender<Piece>, deed: Option<&Deed>) -> Self {
        let (cut_after, trickle) = match deed {
            Some(Deed::CutAfter(bytes)) => (Some(*bytes), None),
            Some(Deed::Trickle { bytes, every }) => (None, Some((*bytes, *every))),
            _ => (None, None),
        };
        Self { pieces, cut_after, trickle }
    }

    /// `None` if nobody listens any more or the connection is to break.
    pub(super) async fn say(&mut self, mut text: Vec<u8>) -> Option<()> {
        let is_cut = self.cut_after.is_some_and(|left| text.len() >= left);
        if let Some(left) = &mut self.cut_after {
            text.truncate(*left);
            *left -= text.len();
        }
        let (bytes, every) = self.trickle.unwrap_or((usize::MAX, Duration::ZERO));
        let mut text = Bytes::from(text);
        while !text.is_empty() {
            let piece = text.split_to(bytes.min(text.len()));
            self.pieces.send(Ok(Frame::data(piece))).await.ok()?;
            if !every.is_zero() {
                tokio::time::sleep(every).await;
            }
        }
        if is_cut {
            return self.break_off().await;
        }
        Some(())
    }

    async fn break_off(&mut self) -> Option<()> {
        let _ = self.pieces.send(Err(broken())).await;
        None
    }
}
