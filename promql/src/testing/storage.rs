//! A store in memory, in label order.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::storage::{Error, Querier, Queryable, SelectHints, SeriesSet};
use model::{Labels, Matcher, SampleBatch, TimeRange, Timestamp};

#[derive(Clone, Debug, Default)]
pub struct Storage {
    series: BTreeMap<Labels, Arc<Series>>,
}

#[derive(Clone, Debug, Default)]
struct Series {
    samples: SampleBatch,
    /// Spans in which the series holds what the engine cannot read yet, and what that is.
    unreadable: Vec<(TimeRange, &'static str)>,
}

impl Storage {
    /// Adds samples to a series; its times ascend.
    ///
    /// # Panics
    /// A sample is not later than the one before.
    pub fn append(&mut self, labels: &Labels, samples: impl IntoIterator<Item = (Timestamp, f64)>) {
        let series = Arc::make_mut(self.series.entry(labels.clone()).or_default());
        for (t, v) in samples {
            let last = series.samples.ts.last().copied();
            assert!(last.is_none_or(|last| last < t), "sample of {labels} at {t} is not later than {last:?}");
            series.samples.push(t, v);
        }
    }

    /// Makes reads of `range` fail: `what` is not supported yet.
    pub fn mark_unreadable(&mut self, labels: &Labels, range: TimeRange, what: &'static str) {
        let series = Arc::make_mut(self.series.entry(labels.clone()).or_default());
        series.unreadable.push((range, what));
    }

    pub fn clear(&mut self) {
        self.series.clear();
    }

    fn matching(&self, matchers: &[Matcher]) -> impl Iterator<Item = (&Labels, &Arc<Series>)> {
        let passes =
            |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        self.series.iter().filter(move |(labels, _)| passes(labels))
    }
}

impl Queryable for Storage {
    fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for Storage {
    fn select(&self, matchers: &[Matcher], _: &SelectHints) -> Result<Box<dyn SeriesSet>, Error> {
        let found = self.matching(matchers).map(|(labels, series)| (labels.clone(), Arc::clone(series)));
        Ok(Box::new(Found(found.collect())))
    }

    fn label_values(&self, name: &[u8], matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        let mut values: Vec<Box<[u8]>> =
            self.matching(matchers).filter_map(|(labels, _)| labels.get(name).map(Into::into)).collect();
        values.sort();
        values.dedup();
        values.truncate(if limit == 0 { usize::MAX } else { limit });
        Ok(values)
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<Box<[u8]>>, Error> {
        let mut names: Vec<Box<[u8]>> = self
            .matching(matchers)
            .flat_map(|(labels, _)| labels.iter().map(|(name, _)| name.into()))
            .collect();
        names.sort();
        names.dedup();
        names.truncate(if limit == 0 { usize::MAX } else { limit });
        Ok(names)
    }
}

struct Found(Vec<(Labels, Arc<Series>)>);

impl SeriesSet for Found {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, i: usize) -> Labels {
        self.0[i].0.clone()
    }

    fn samples_into(&self, i: usize, range: TimeRange, out: &mut SampleBatch) -> Result<(), Error> {
        let series = &self.0[i].1;
        if let Some((_, what)) = series.unreadable.iter().find(|(span, _)| span.overlaps(range)) {
            return Err(Error::new(format!("{what} is not supported yet")));
        }
        let SampleBatch { ts, vs, .. } = &series.samples;
        let from = ts.partition_point(|&t| t < range.mint);
        let to = ts.partition_point(|&t| t <= range.maxt).max(from);
        out.ts.extend_from_slice(&ts[from..to]);
        out.vs.extend_from_slice(&vs[from..to]);
        Ok(())
    }
}
