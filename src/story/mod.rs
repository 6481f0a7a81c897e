//! The stories of alerts: why each fired or did not, and where its messages went.
//!
//! Reading order: [`note`] (what the parts of the server tell), [`Journal`] (takes notes without ever making
//! anybody wait), `book` (notes become entries, equal ones one), [`event`] (what an entry says), `archive` and
//! `codec` (entries on disk), [`cause`] (what a story amounts to at a moment), [`tell`] (entries in words).
//! Knows no live state: what it says about a moment it says from what was noted until then. Looking into an
//! expression is left to a closure that the server gives.

mod archive;
mod book;
pub mod cause;
mod code;
mod codec;
pub mod event;
pub mod note;
mod subject;
pub mod tell;

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::wire::expose::{Counter, Expose, Exposition};
use model::{Labels, TimeRange, Timestamp};
use parking_lot::{Condvar, Mutex};

use archive::Archive;
pub use archive::Limits;
use book::Book;
pub use book::Tale;
pub use code::Code;
pub use event::{Entry, Event, Finding, State, Telling, Text, Verdict};
pub use note::{Evaluation, Flushed, Handed, Note, Rule, Seen};
pub use subject::{FILE_LABEL, GROUP_LABEL, Id, Kind, Subject};

/// The most that may wait to be taken in, in alerts; what comes on top is counted and lost.
const QUEUE_MAX: usize = 400_000;
/// The most entries in memory, some 100 bytes each.
const ENTRIES_MAX: usize = 400_000;
/// How long a note waits at most before it is in a file.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// How often entries that only grow are written anew, in ms.
const CHECKPOINT_INTERVAL_MS: i64 = 3_600_000;
/// How often files are compacted and memory is cleaned, in ms.
const MAINTENANCE_INTERVAL_MS: i64 = 10_000;

/// Why did a rule not give an alert that it gave before?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub rule: &'a Rule,
    pub labels: &'a Labels,
    /// The time that the expression was asked for.
    pub query_at: Timestamp,
    pub hold_ms: i64,
}

/// Looks into an expression; called on the journal's thread.
pub type Investigator = Box<dyn Fn(&Question<'_>) -> Option<Finding> + Send + Sync>;

/// Milliseconds since the epoch.
pub type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// Takes notes and keeps the stories.
pub struct Journal {
    clock: Clock,
    queue: Mutex<Queue>,
    arrived: Condvar,
    book: Mutex<Pages>,
    /// The sizes of the book when it was last free: nobody waits for a query to count them.
    sizes: Mutex<(usize, usize, u64)>,
    investigator: OnceLock<Investigator>,
    notes: Counter,
    lost: Counter,
}

#[derive(Default)]
struct Queue {
    notes: VecDeque<Note>,
    weight: usize,
    /// Notes that found no room since the last one that did.
    n_lost: u64,
    is_stopping: bool,
}

struct Pages {
    book: Book,
    next_checkpoint: Timestamp,
    next_maintenance: Timestamp,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// A journal that remembers only while it lives.
    pub fn in_memory(clock: Clock) -> Arc<Self> {
        let book = Book::open(None, ENTRIES_MAX).expect("memory needs no files");
        Self::new(clock, book)
    }

    /// A journal that goes on with what `dir` remembers; the folder is made when missing.
    ///
    /// # Errors
    /// The folder cannot be read or made.
    pub fn open(dir: &Path, limits: Limits, clock: Clock) -> std::io::Result<Arc<Self>> {
        let archive = Archive::open(dir, limits)?;
        Ok(Self::new(clock, Book::open(Some(archive), ENTRIES_MAX)?))
    }

    fn new(clock: Clock, book: Book) -> Arc<Self> {
        let now = clock();
        let sizes = Mutex::new(book.sizes());
        Arc::new(Self {
            clock,
            sizes,
            queue: Mutex::default(),
            arrived: Condvar::new(),
            book: Mutex::new(Pages {
                book,
                next_checkpoint: now + CHECKPOINT_INTERVAL_MS,
                next_maintenance: now + MAINTENANCE_INTERVAL_MS,
            }),
            investigator: OnceLock::new(),
            notes: Counter::new(),
            lost: Counter::new(),
        })
    }

    /// Who looks into expressions. The first one given stays.
    pub fn set_investigator(&self, investigator: Investigator) {
        let _ = self.investigator.set(investigator);
    }

    /// The time by the journal's clock, for those who have none.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Takes a note. Never waits for a file, a query or a reader; where there is no room the note is lost.
    pub fn note(&self, note: Note) {
        let weight = note.weight();
        let mut queue = self.queue.lock();
        if queue.weight + weight > QUEUE_MAX {
            queue.n_lost += 1;
            drop(queue);
            self.lost.inc();
            return;
        }
        queue.weight += weight;
        queue.notes.push_back(note);
        drop(queue);
        self.notes.inc();
        self.arrived.notify_one();
    }

    /// Takes in all notes that wait.
    pub fn settle(&self) {
        self.settle_into(&mut self.book.lock());
    }

    fn settle_into(&self, pages: &mut Pages) {
        let (notes, n_lost) = {
            let mut queue = self.queue.lock();
            queue.weight = 0;
            (std::mem::take(&mut queue.notes), std::mem::take(&mut queue.n_lost))
        };
        for note in notes {
            pages.book.apply(note, self.investigator.get());
        }
        if n_lost > 0 {
            let detail = Arc::from(format!("{n_lost} notes found no room and were lost"));
            let note = Note::Server { at: self.now(), code: Code::QueueOverflow, detail };
            pages.book.apply(note, None);
        }
    }

    /// Takes in notes until [`Journal::stop`], on the calling thread.
    pub fn run(&self) {
        loop {
            let is_stopping = {
                let mut queue = self.queue.lock();
                if queue.notes.is_empty() && !queue.is_stopping {
                    self.arrived.wait_for(&mut queue, FLUSH_INTERVAL);
                }
                queue.is_stopping
            };
            let mut pages = self.book.lock();
            self.settle_into(&mut pages);
            pages.book.flush();
            let now = self.now();
            if is_stopping || pages.next_checkpoint <= now {
                pages.book.checkpoint();
                pages.next_checkpoint = now + CHECKPOINT_INTERVAL_MS;
            }
            if pages.next_maintenance <= now {
                pages.book.maintain(now);
                pages.next_maintenance = now + MAINTENANCE_INTERVAL_MS;
            }
            drop(pages);
            if is_stopping {
                return;
            }
        }
    }

    /// Lets [`Journal::run`] end once everything noted is in files.
    pub fn stop(&self) {
        self.queue.lock().is_stopping = true;
        self.arrived.notify_all();
    }

    /// Writes everything that is known to files.
    pub fn save(&self) {
        let mut pages = self.book.lock();
        self.settle_into(&mut pages);
        pages.book.checkpoint();
    }

    /// The stories of the subjects that `wanted` admits, by kind and labels: at least what touches `range`.
    ///
    /// # Errors
    /// A file of the archive cannot be read.
    pub fn tell(&self, range: TimeRange, wanted: &dyn Fn(&Subject) -> bool) -> std::io::Result<Vec<Tale>> {
        let mut pages = self.book.lock();
        self.settle_into(&mut pages);
        pages.book.tell(range, wanted)
    }

    /// The alerts of rules that Alertmanagers know by the labels of `id`.
    pub fn origins(&self, id: Id) -> Vec<Id> {
        self.book.lock().book.origins(id)
    }

    /// The rule whose last evaluation gave the alert.
    pub fn rule_of(&self, id: Id) -> Option<Arc<Rule>> {
        self.book.lock().book.rule_of(id)
    }
}

impl Expose for Journal {
    fn expose(&self, out: &mut Exposition) {
        let (n_stories, n_entries, bytes) = {
            let mut known = self.sizes.lock();
            if let Some(pages) = self.book.try_lock() {
                *known = pages.book.sizes();
            }
            *known
        };
        out.counter("ferula_story_notes_total", "Notes that the stories of alerts are made of.", &self.notes);
        out.counter(
            "ferula_story_notes_lost_total",
            "Notes that were lost because too many waited.",
            &self.lost,
        );
        out.gauge("ferula_story_subjects", "Alerts and rules whose stories are in memory.", n_stories as f64);
        out.gauge("ferula_story_entries", "Entries of stories in memory.", n_entries as f64);
        out.gauge("ferula_story_bytes", "Size of the files that stories are kept in.", bytes as f64);
    }
}

#[cfg(test)]
mod tests;
