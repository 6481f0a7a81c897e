//! Limits on the labels of scraped series.
//!
//! Compat: prometheus `scrape/scrape.go`, `verifyLabelLimits`, and the texts of its errors.

use config::prometheus::ScrapeLimits;
use model::LabelsBuilder;
use model::labels::METRIC_NAME;
use model::quote::go_quote;

/// The runes of a text that a message shows.
const SHOWN_MAX: usize = 50;

/// A sample may be that far ahead of us before it is refused, in ms.
pub(super) const AHEAD_MS_MAX: i64 = 10 * 60 * 1000;

/// # Errors
/// The text for the user, naming the first limit that is exceeded.
pub(super) fn verify(labels: &LabelsBuilder, limits: &ScrapeLimits) -> Result<(), String> {
    let metric = || cut(labels.get(METRIC_NAME).unwrap_or_default());
    let exceeds = |n: usize, limit: u64| limit > 0 && u64::try_from(n).is_ok_and(|n| n > limit);
    if exceeds(labels.len(), limits.labels) {
        return Err(format!(
            "label_limit exceeded (metric: {}, number of labels: {}, limit: {})",
            metric(),
            labels.len(),
            limits.labels
        ));
    }
    if limits.label_name_bytes == 0 && limits.label_value_bytes == 0 {
        return Ok(());
    }
    for (name, value) in labels.iter() {
        if exceeds(name.len(), limits.label_name_bytes) {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {}, label name: {}, length: {}, limit: {})",
                metric(),
                cut(name),
                name.len(),
                limits.label_name_bytes
            ));
        }
        if exceeds(value.len(), limits.label_value_bytes) {
            return Err(format!(
                "label_value_length_limit exceeded (metric: {}, label name: {}, value: {}, length: {}, limit: {})",
                metric(),
                cut(name),
                go_quote(cut(value).as_bytes()),
                value.len(),
                limits.label_value_bytes
            ));
        }
    }
    Ok(())
}

fn cut(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(SHOWN_MAX).collect()
}
