//! What targets say about their families: type, help and unit.
//!
//! Kept per target for the API. Targets of a job mostly say the same, so equal tables are shared. A warm
//! scrape only sums up hashes of what it reads; the table is made anew when the sum differs.
//! A family that is no longer exposed stays known for a while, as a target may expose it now and then.
//!
//! Compat: prometheus `scrape/scrape.go`, `metaEntry`.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use model::wire::parse::{Entry, Format, MetricType, Parser};
use parking_lot::Mutex;

/// Passes that a family stays known without being exposed.
const PASSES_UNSEEN_MAX: u8 = 10;

/// The most families of one target that are kept; a target with more is described in part.
const FAMILIES_MAX: usize = 100_000;

/// What a target said about one family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Family {
    pub name: Box<str>,
    pub kind: MetricType,
    pub help: Box<str>,
    pub unit: Box<str>,
}

/// The families of a target in order of name.
pub type Table = [Family];

/// The tables of one job, each content once.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<HashMap<u64, Weak<Table>>>);

impl Tables {
    fn share(&self, table: Vec<Family>) -> Arc<Table> {
        let mut tables = self.0.lock();
        let hash = foldhash::fast::FixedState::default().hash_one(&table);
        if let Some(known) = tables.get(&hash).and_then(Weak::upgrade)
            && *known == *table
        {
            return known;
        }
        tables.retain(|_, known| known.strong_count() > 0);
        let table: Arc<Table> = table.into();
        tables.insert(hash, Arc::downgrade(&table));
        table
    }
}

/// The metadata of one target across its scrapes.
#[derive(Debug, Default)]
pub struct Memory {
    hasher: RandomState,
    /// The sum of the last pass.
    sum: u64,
    table: Option<Arc<Table>>,
    /// Passes left for families of the table that are exposed no more; 0 if there are none.
    n_passes_left: u8,
}

impl Memory {
    /// The share of one entry in the sum of a pass; order does not matter. Samples have none.
    pub(super) fn hash(&self, entry: &Entry<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match entry {
            Entry::Series(_) => return 0,
            Entry::Type { family, kind } => (0, family, kind).hash(&mut hasher),
            Entry::Help { family, text } => (1, family, text.as_ref()).hash(&mut hasher),
            Entry::Unit { family, unit } => (2, family, unit).hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Ends a successful pass over `body` whose entries summed up to `sum`.
    pub(super) fn finish(&mut self, sum: u64, body: &[u8], format: Format, tables: &Tables) {
        let has_unseen = self.n_passes_left > 0;
        self.n_passes_left = self.n_passes_left.saturating_sub(1);
        let expired = has_unseen && self.n_passes_left == 0;
        if sum == self.sum && !expired {
            return;
        }
        self.sum = sum;
        let mut families = read(body, format);
        let n_seen = families.len();
        if !expired {
            for family in self.table.iter().flat_map(|table| table.iter()) {
                families.entry(family.name.clone()).or_insert_with(|| family.clone());
            }
        }
        // The countdown is not wound up again while it runs, so that what keeps changing cannot pile up.
        if families.len() == n_seen {
            self.n_passes_left = 0;
        } else if !has_unseen {
            self.n_passes_left = PASSES_UNSEEN_MAX;
        }
        self.table = Some(tables.share(families.into_values().collect()));
    }

    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        self.table.as_ref()
    }
}

fn read(body: &[u8], format: Format) -> BTreeMap<Box<str>, Family> {
    let mut families = BTreeMap::new();
    let mut parser = Parser::new(body, format);
    while let Some(Ok(entry)) = parser.next() {
        let name = match &entry {
            Entry::Series(_) => continue,
            Entry::Type { family, .. } | Entry::Help { family, .. } | Entry::Unit { family, .. } => {
                text(family)
            }
        };
        if families.len() >= FAMILIES_MAX && !families.contains_key(&name) {
            continue;
        }
        let family = families.entry(name.clone()).or_insert_with(|| Family {
            name,
            kind: MetricType::Unknown,
            help: Box::default(),
            unit: Box::default(),
        });
        match entry {
            Entry::Series(_) => {}
            Entry::Type { kind, .. } => family.kind = kind,
            Entry::Help { text: help, .. } => family.help = text(&help),
            Entry::Unit { unit, .. } => family.unit = text(unit),
        }
    }
    families
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}
