//! What a job would make of discovered targets, without scraping them: for commands that check a configuration.
//!
//! Compat: prometheus `scrape`, `TargetsFromGroup`, and `cmd/promtool/sd.go`, `getSDCheckResult`.

use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::ScrapeConfig;
use model::Labels;

use super::target::{Origin, from_origin};

/// A target before and after relabelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relabelled {
    pub discovered: Labels,
    /// Those with two underscores among them, for they say how the target is scraped; empty if it is dropped.
    pub labels: Result<Labels, String>,
}

/// Every target of a group under the rules of a job.
pub fn relabelled(group: &Arc<TargetGroup>, config: &ScrapeConfig) -> Vec<Relabelled> {
    let origins = (0..group.targets.len()).map(|index| Origin { group: Arc::clone(group), index });
    origins
        .map(|origin| {
            let discovered = origin.discovered_labels(config).build();
            Relabelled { discovered, labels: all_labels(&origin, config) }
        })
        .collect()
}

/// The labels of a target while its URL is not made yet.
fn all_labels(origin: &Origin, config: &ScrapeConfig) -> Result<Labels, String> {
    if from_origin(origin, config)?.is_none() {
        return Ok(Labels::default());
    }
    let mut labels = origin.discovered_labels(config);
    config::relabel::apply(&config.relabel, &mut labels);
    if labels.get(b"instance").is_none() {
        let address = labels.get(b"__address__").unwrap_or_default().to_vec();
        labels.set(b"instance", &address);
    }
    labels.retain(|name, _| !name.starts_with(b"__meta_"));
    Ok(labels.build())
}

/// Why the first bad target of a group is none.
///
/// # Errors
/// Labels do not make a target.
pub fn check_group(group: &Arc<TargetGroup>, config: &ScrapeConfig) -> Result<(), String> {
    for index in 0..group.targets.len() {
        let origin = Origin { group: Arc::clone(group), index };
        from_origin(&origin, config)
            .map_err(|e| format!("instance {index} in group {}: {e}", group.source))?;
    }
    Ok(())
}
