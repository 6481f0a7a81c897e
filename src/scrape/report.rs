//! The series that a scrape says about itself: `up` and its siblings.
//!
//! They bypass limits and metric relabelling, and their names cannot be overridden by a target's label.
//!
//! Compat: prometheus `scrape/scrape.go`, `scrapeLoop.report` and `reportStale`.

use std::time::Duration;

use model::labels::METRIC_NAME;
use model::storage::{AppendError, Appender, Metadata, SeriesKey, SeriesRef};
use model::wire::parse::MetricType;
use model::{Labels, LabelsBuilder, STALE_NAN, Timestamp};

use super::ingest::Counts;

/// A series of the report: its name, and what is said of it.
struct Said {
    name: &'static str,
    help: &'static str,
    unit: &'static str,
}

/// In the order in which they are written; those behind [`N_ALWAYS`] on demand only.
#[rustfmt::skip]
const SERIES: [Said; 8] = [
    Said { name: "up", help: "Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed.", unit: "targets" },
    Said { name: "scrape_duration_seconds", help: "Duration of the last scrape in seconds.", unit: "seconds" },
    Said { name: "scrape_samples_scraped", help: "Number of samples last scraped.", unit: "samples" },
    Said { name: "scrape_samples_post_metric_relabeling", help: "Number of samples remaining after metric relabeling was applied.", unit: "samples" },
    Said { name: "scrape_series_added", help: "Number of series in the last scrape.", unit: "series" },
    Said { name: "scrape_timeout_seconds", help: "The configured scrape timeout for a target.", unit: "seconds" },
    Said { name: "scrape_sample_limit", help: "The configured sample limit for a target. Returns zero if there is no limit configured.", unit: "samples" },
    Said { name: "scrape_body_size_bytes", help: "The uncompressed size of the last scrape response, if successful. Scrapes failing because body_size_limit is exceeded report -1, other scrape failures report 0.", unit: "bytes" },
];
const N_ALWAYS: usize = 5;

/// What is reported of one scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) is_up: bool,
    pub(super) duration: Duration,
    pub(super) counts: Counts,
    pub(super) extra: Option<Extra>,
    /// The store is told type, help and unit of new series.
    pub(super) tells_metadata: bool,
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
pub(super) struct Refs([Option<SeriesRef>; SERIES.len()]);

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
        let n = if extra.is_some() { SERIES.len() } else { N_ALWAYS };
        for (i, &v) in values.iter().enumerate().take(n) {
            let before = self.0[i];
            self.append_one(i, target, t, v, batch)?;
            if let Some(series) = self.0[i].filter(|_| report.tells_metadata && self.0[i] != before) {
                let Said { help, unit, .. } = SERIES[i];
                let metadata =
                    Metadata { kind: MetricType::Gauge, unit: Box::from(unit), help: Box::from(help) };
                // The sample stands without.
                if let Err(error) = batch.update_metadata(series, &metadata) {
                    tracing::debug!(%error, ?metadata, "metadata refused");
                }
            }
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
        let known = (0..SERIES.len()).filter(|&i| self.0[i].is_some()).collect::<Vec<_>>();
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
            labels.set(METRIC_NAME, SERIES[i].name.as_bytes());
            take_labels(&mut labels, target);
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

/// Gives a series of the report the labels of its target. A label that the series has under the same name moves to
/// `exported_…`; as it has none but its own name, what moves is nothing, and takes a label `exported_…` of the
/// target's away if the one that it is named after comes later.
///
/// Compat: prometheus `scrape/scrape.go`, `mutateReportSampleLabels`.
fn take_labels(labels: &mut LabelsBuilder, target: &Labels) {
    for (name, value) in target {
        let own = labels.get(name).unwrap_or_default().to_vec();
        labels.set(&[b"exported_", name].concat(), &own);
        labels.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exported_label_of_the_target_gives_way() {
        let mut labels = LabelsBuilder::default();
        labels.set(METRIC_NAME, b"up");
        let target =
            Labels::from_pairs([("exported_job", "x"), ("instance", "i"), ("job", "j"), ("zone", "z")]);
        take_labels(&mut labels, &target);
        assert_eq!(labels.build().to_string(), r#"{__name__="up", instance="i", job="j", zone="z"}"#);
        let mut labels = LabelsBuilder::default();
        take_labels(&mut labels, &Labels::from_pairs([("a", "1"), ("exported_a", "2")]));
        assert_eq!(labels.build().to_string(), r#"{a="1", exported_a="2"}"#);
    }
}
