//! A recording rule: the result of its expression under another name.
//!
//! Compat: prometheus `rules/recording.go`.

use std::collections::{BTreeMap, HashSet};

use model::labels::METRIC_NAME;
use model::{Labels, LabelsBuilder};

use super::Element;

/// Names and relabels the result; the samples to write.
///
/// # Errors
/// Two elements end up with the same labels, or there are more than `limit` (unless that is 0).
pub(super) fn record(
    name: &str,
    labels: &BTreeMap<String, String>,
    limit: usize,
    result: Vec<Element>,
) -> Result<Vec<Element>, String> {
    let mut seen = HashSet::with_capacity(result.len());
    let mut samples = Vec::with_capacity(result.len());
    for (element, v) in result {
        let mut builder = LabelsBuilder::from(&element);
        builder.set(METRIC_NAME, name.as_bytes());
        for (label, value) in labels {
            builder.set(label.as_bytes(), value.as_bytes());
        }
        let labels: Labels = builder.build();
        if !seen.insert(labels.clone()) {
            return Err(
                "vector contains metrics with the same labelset after applying rule labels".to_owned()
            );
        }
        samples.push((labels, v));
    }
    if limit > 0 && samples.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", samples.len()));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Labels;
    use promql::SampleValue;

    use super::{Element, record};

    fn element(pairs: &[(&str, &str)], v: f64) -> Element {
        (Labels::from_pairs(pairs.iter().copied()), SampleValue::Float(v))
    }

    #[test]
    fn names_and_relabels() {
        let labels =
            BTreeMap::from([("team".to_owned(), "a".to_owned()), ("gone".to_owned(), String::new())]);
        let result = vec![element(&[("__name__", "old"), ("job", "x"), ("gone", "1")], 2.0)];
        let samples = record("new", &labels, 0, result).unwrap();
        assert_eq!(samples[0].0.to_string(), r#"{__name__="new", job="x", team="a"}"#);
    }

    #[test]
    fn refuses_duplicates_and_too_many() {
        let labels = BTreeMap::from([("job".to_owned(), String::new())]);
        let result = vec![element(&[("job", "x")], 1.0), element(&[("job", "y")], 2.0)];
        assert_eq!(
            record("n", &labels, 0, result.clone()).unwrap_err(),
            "vector contains metrics with the same labelset after applying rule labels"
        );
        assert_eq!(
            record("n", &BTreeMap::new(), 1, result).unwrap_err(),
            "exceeded limit of 1 with 2 series"
        );
    }
}
