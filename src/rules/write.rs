//! The series of one rule: which ones it wrote, so that they are appended to by reference and ended when they
//! are missing from a result.
//!
//! Compat: prometheus `rules/group.go`, `seriesInPreviousEval`.

use foldhash::HashMap;
use model::storage::{AppendError, Appender, SeriesKey, SeriesRef};
use model::{Labels, STALE_NAN, Timestamp};
use promql::SampleValue;

use super::{Context, Element};

/// The affinity under which rules append: they have no target of their own.
pub(super) const AFFINITY: u64 = 0;

/// The series of the last evaluation that was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    known: HashMap<Labels, Entry>,
    /// Grows with every evaluation.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    series: SeriesRef,
    /// When it was written last.
    round: u64,
}

impl Series {
    pub(super) fn contains(&self, labels: &Labels) -> bool {
        self.known.contains_key(labels)
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = Labels> + use<> {
        std::mem::take(&mut self.known).into_keys()
    }

    /// Writes the samples of one evaluation at `t` and ends the series that have none. Says what was refused, if
    /// anything was.
    ///
    /// # Errors
    /// Nothing could be written; what is remembered stays as it was.
    pub(super) fn write(
        &mut self,
        ctx: &Context,
        rule: &str,
        samples: &[Element],
        t: Timestamp,
    ) -> Result<Option<String>, String> {
        let mut appender = ctx.storage.appender(AFFINITY);
        appender.refuse_late(true);
        self.round += 1;
        let mut fresh = Vec::new();
        let mut refused = Refused::default();
        for (labels, sample) in samples {
            let value = match sample {
                SampleValue::Float(v) => model::Value::Float(*v),
                SampleValue::Histogram(h) => model::Value::FloatHistogram(h),
            };
            let entry = self.known.get_mut(labels);
            match append(appender.as_mut(), labels, entry.as_ref().map(|entry| entry.series), t, value) {
                Ok(series) => {
                    if let Some(entry) = entry {
                        *entry = Entry { series, round: self.round }
                    } else {
                        fresh.push(labels);
                        self.known.insert(labels.clone(), Entry { series, round: self.round });
                    }
                }
                Err(e) => refused.note(rule, labels, e),
            }
        }
        for (labels, entry) in &self.known {
            if entry.round != self.round {
                // A refusal means that the series has newer samples already.
                let _ =
                    append(appender.as_mut(), labels, Some(entry.series), t, model::Value::Float(STALE_NAN));
            }
        }
        if let Err(e) = appender.commit() {
            for labels in fresh {
                self.known.remove(labels);
            }
            return Err(e.to_string());
        }
        let round = self.round;
        self.known.retain(|_, entry| entry.round == round);
        Ok(refused.told(rule))
    }
}

fn append(
    appender: &mut dyn Appender,
    labels: &Labels,
    known: Option<SeriesRef>,
    t: Timestamp,
    value: model::Value<'_>,
) -> Result<SeriesRef, AppendError> {
    if let Some(known) = known {
        match appender.append_value(SeriesKey::Ref(known), 0, t, value) {
            // Gone from memory since; it is found by its labels.
            Err(AppendError::UnknownSeries) => {}
            done => return done,
        }
    }
    appender.append_value(SeriesKey::Labels(labels), 0, t, value)
}

/// The samples of an evaluation that the store did not take.
#[derive(Default)]
struct Refused {
    out_of_order: usize,
    too_old: usize,
    duplicate: usize,
    last: Option<AppendError>,
}

impl Refused {
    fn note(&mut self, rule: &str, labels: &Labels, e: AppendError) {
        self.last = Some(e);
        match e {
            AppendError::OutOfOrder => self.out_of_order += 1,
            AppendError::TooOld => self.too_old += 1,
            AppendError::Duplicate => self.duplicate += 1,
            e => tracing::warn!(rule, series = %labels, error = %e, "Rule evaluation result discarded"),
        }
    }

    fn told(self, rule: &str) -> Option<String> {
        let counts = [
            (self.out_of_order, "Error on ingesting out-of-order result from rule evaluation"),
            (self.too_old, "Error on ingesting too old result from rule evaluation"),
            (
                self.duplicate,
                "Error on ingesting results from rule evaluation with different value but same timestamp",
            ),
        ];
        for (num_dropped, text) in counts.into_iter().filter(|(n, _)| *n > 0) {
            tracing::warn!(rule, num_dropped, "{text}");
        }
        self.last.map(|e| e.to_string())
    }
}
