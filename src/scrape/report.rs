//! The series that a scrape says about itself: `up` and its siblings.
//!
//! They bypass limits and metric relabelling, and their names cannot be overridden by a target's label.
//!
//! Compat: prometheus `scrape/scrape.go`, `scrapeLoop.report` and `reportStale`.

use std::time::Duration;

use model::labels::METRIC_NAME;
use model::storage::{AppendError, Appender, SeriesKey, SeriesRef};
use model::{Labels, LabelsBuilder, STALE_NAN, Timestamp};

use super::ingest::{Counts, overrule};

/// Names in the order in which they are written; those behind [`N_ALWAYS`] on demand only.
const NAMES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];
const N_ALWAYS: usize = 5;

/// What is reported of one scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) is_up: bool,
    pub(super) duration: Duration,
    pub(super) counts: Counts,
    pub(super) extra: Option<Extra>,
}

/// What `extra_scrape_metrics` adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extra {
    pub(super) timeout: Duration,
    pub(super) sample_limit: u64,
    /// 0 for a failed scrape, -1 for a body over the limit.
    pub(super) body_bytes: i64,
}

/// The refs of a target's report series.
#[derive(Debug, Default)]
pub(super) struct Refs([Option<SeriesRef>; NAMES.len()]);

impl Refs {
    pub(super) fn append<A: Appender + ?Sized>(
        &mut self,
        target: &Labels,
        report: &Report,
        t: Timestamp,
        batch: &mut A,
    ) -> Result<(), AppendError> {
        let (counts, extra) = (report.counts, report.extra);
        let values = [
            f64::from(u8::from(report.is_up)),
            report.duration.as_secs_f64(),
            counts.scraped as f64,
            counts.kept as f64,
            counts.new as f64,
            extra.map_or(0.0, |extra| extra.timeout.as_secs_f64()),
            extra.map_or(0.0, |extra| extra.sample_limit as f64),
            extra.map_or(0.0, |extra| extra.body_bytes as f64),
        ];
        let n = if extra.is_some() { NAMES.len() } else { N_ALWAYS };
        for (i, &v) in values.iter().enumerate().take(n) {
            self.append_one(i, target, t, v, batch)?;
        }
        Ok(())
    }

    /// Ends the series that were written before.
    pub(super) fn append_stale<A: Appender + ?Sized>(
        &mut self,
        target: &Labels,
        t: Timestamp,
        batch: &mut A,
    ) -> Result<(), AppendError> {
        // Where the target came back by another loop its samples are newer; a late mark would cut them in two.
        batch.refuse_late(true);
        let known = (0..NAMES.len()).filter(|&i| self.0[i].is_some()).collect::<Vec<_>>();
        let appended = known.into_iter().try_for_each(|i| self.append_one(i, target, t, STALE_NAN, batch));
        batch.refuse_late(false);
        appended
    }

    fn append_one<A: Appender + ?Sized>(
        &mut self,
        i: usize,
        target: &Labels,
        t: Timestamp,
        v: f64,
        batch: &mut A,
    ) -> Result<(), AppendError> {
        let mut answer = Err(AppendError::UnknownSeries);
        if let Some(series) = self.0[i] {
            answer = batch.append(SeriesKey::Ref(series), t, v);
        }
        if answer == Err(AppendError::UnknownSeries) {
            let mut labels = LabelsBuilder::default();
            labels.set(METRIC_NAME, NAMES[i].as_bytes());
            overrule(&mut labels, target);
            answer = batch.append(SeriesKey::Labels(&labels.build()), t, v);
        }
        match answer {
            Ok(series) => {
                self.0[i] = Some(series);
                Ok(())
            }
            // Two loops of one target follow each other, or the clock went back: this sample alone is lost.
            Err(
                AppendError::OutOfOrder
                | AppendError::TooOld
                | AppendError::OutOfBounds
                | AppendError::Duplicate
                // The store counts and says it; the samples of known series are kept.
                | AppendError::SeriesLimit,
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
