//! The store as the rest of the server holds it: present from the start, usable once it is open.
//!
//! Replaying the log takes a while, during which the API already answers that it does.

use std::sync::{Arc, OnceLock};

use model::exemplar::SeriesExemplars;
use model::storage::{Appendable, Appender, Error, ExemplarQueryable, Querier, Queryable};
use model::{Matcher, TimeRange};
use tsdb::db::Db;

/// A place for the store.
#[derive(Default)]
pub(crate) struct Store(OnceLock<Arc<Db>>);

impl Store {
    /// Puts the opened store into its place.
    pub(crate) fn set(&self, db: Arc<Db>) {
        assert!(self.0.set(db).is_ok(), "BUG: the store was opened twice");
    }

    pub(crate) fn get(&self) -> Option<&Arc<Db>> {
        self.0.get()
    }
}

impl Queryable for Store {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>, Error> {
        self.get().ok_or_else(|| Error::new("TSDB not ready"))?.querier(range)
    }
}

impl ExemplarQueryable for Store {
    fn exemplars(&self, range: TimeRange, selectors: &[Vec<Matcher>]) -> Result<Vec<SeriesExemplars>, Error> {
        self.get().ok_or_else(|| Error::new("TSDB not ready"))?.exemplars(range, selectors)
    }
}

impl Appendable for Store {
    fn appender(&self, affinity: u64) -> Box<dyn Appender + '_> {
        self.get()
            .expect("BUG: something was scraped or evaluated before the store was open")
            .appender(affinity)
    }
}
