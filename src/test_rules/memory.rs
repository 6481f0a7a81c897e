//! A store in memory that rules write to and queries read, for as long as a test takes.
//!
//! Compat: prometheus `promql/promqltest`, `LazyLoader`.

use std::num::NonZeroU64;
use std::sync::Arc;

use model::storage::{
    AppendError, Appendable, Appender, Error, Querier, Queryable, SelectHints, SeriesKey, SeriesRef,
    SeriesSet,
};
use model::{Labels, Matcher, TimeRange, Timestamp, Value};
use parking_lot::Mutex;
use promql::testing::Storage;

#[derive(Default)]
pub(super) struct Store {
    /// Shared with open queriers; written in place when there are none.
    samples: Mutex<Arc<Storage>>,
    /// Names of series by their refs, which count from 1.
    names: Mutex<Vec<Labels>>,
}

impl Store {
    /// Adds a sample at once.
    pub(super) fn put(&self, labels: &Labels, t: Timestamp, value: Value<'_>) -> Result<(), AppendError> {
        Arc::make_mut(&mut self.samples.lock()).append_value(labels, 0, t, value)
    }
}

impl Appendable for Store {
    fn appender(&self, _: u64) -> Box<dyn Appender + '_> {
        Box::new(Writer { store: self })
    }
}

/// Samples are visible at once: nobody queries between those of one rule.
struct Writer<'s> {
    store: &'s Store,
}

impl Writer<'_> {
    fn name(&self, series: SeriesRef) -> Option<Labels> {
        let index = usize::try_from(series.0.get() - 1).ok()?;
        self.store.names.lock().get(index).cloned()
    }
}

impl Appender for Writer<'_> {
    fn append(&mut self, key: SeriesKey<'_>, t: Timestamp, v: f64) -> Result<SeriesRef, AppendError> {
        self.append_value(key, 0, t, Value::Float(v))
    }

    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        _: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match key {
            SeriesKey::Ref(series) => {
                let labels = self.name(series).ok_or(AppendError::UnknownSeries)?;
                self.store.put(&labels, t, value)?;
                Ok(series)
            }
            SeriesKey::Labels(labels) => {
                self.store.put(labels, t, value)?;
                let mut names = self.store.names.lock();
                names.push(labels.clone());
                let series =
                    NonZeroU64::new(names.len() as u64).expect("there is at least the one just pushed");
                Ok(SeriesRef(series))
            }
        }
    }

    fn commit(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

impl Queryable for Store {
    fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier>, Error> {
        Ok(Box::new(Reader(Arc::clone(&self.samples.lock()))))
    }
}

struct Reader(Arc<Storage>);

impl Querier for Reader {
    fn select(&self, matchers: &[Matcher], hints: &SelectHints) -> Result<Box<dyn SeriesSet>, Error> {
        self.0.select(matchers, hints)
    }

    fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        self.0.label_values(name, matchers, limit)
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        self.0.label_names(matchers, limit)
    }
}
