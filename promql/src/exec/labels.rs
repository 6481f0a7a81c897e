//! Functions that change labels of whole series, and the order in which label values sort.
//!
//! Compat: prometheus `promql/functions.go` `evalLabelReplace`, `evalLabelJoin`; facette/natsort (2018-12).

use std::cmp::Ordering;

use model::{Labels, LabelsBuilder, Regex};

use super::column::Series;
use super::join::Map;
use model::labels::METRIC_NAME;

/// The pattern is tried once per value, of which there are often far fewer than series.
pub(crate) fn replace(series: &mut [Series], dst: &[u8], replacement: &[u8], src: &[u8], regex: &Regex) {
    let mut known: Map<Box<[u8]>, Option<Box<[u8]>>> = Map::default();
    for s in series {
        let source = s.labels.get(src).unwrap_or_default();
        if !known.contains_key(source) {
            let mut value = Vec::new();
            let is_match = regex.expand(source, replacement, &mut value);
            known.insert(source.into(), is_match.then(|| value.into()));
        }
        if let Some(value) = &known[source] {
            set(s, dst, value);
        }
    }
}

pub(crate) fn join(series: &mut [Series], dst: &[u8], separator: &[u8], sources: &[std::sync::Arc<[u8]>]) {
    for s in series {
        let values: Vec<&[u8]> = sources.iter().map(|l| s.labels.get(l).unwrap_or_default()).collect();
        let value = values.join(separator);
        set(s, dst, &value);
    }
}

fn set(series: &mut Series, name: &[u8], value: &[u8]) {
    let mut builder = LabelsBuilder::from(&series.labels);
    builder.set(name, value);
    series.labels = builder.build();
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}

/// Compares label by label in the order of `names`; equal in all of them, the whole sets decide.
pub(crate) fn compare_by(names: &[std::sync::Arc<[u8]>], a: &Labels, b: &Labels) -> Ordering {
    for name in names {
        let (a, b) = (a.get(name).unwrap_or_default(), b.get(name).unwrap_or_default());
        if a != b {
            return natural(a, b);
        }
    }
    a.cmp(b)
}

/// Natural order of two different values: runs of digits compare as numbers. The empty value comes first.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.len().cmp(&b.len());
    }
    let (chunks_a, chunks_b) = (runs(a), runs(b));
    for (i, chunk_a) in chunks_a.iter().enumerate() {
        let Some(chunk_b) = chunks_b.get(i) else {
            return Ordering::Greater;
        };
        let order = match (number(chunk_a), number(chunk_b)) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => chunk_a.cmp(chunk_b),
        };
        if order != Ordering::Equal {
            return order;
        }
        if i + 1 == chunks_a.len() {
            return Ordering::Less;
        }
        if i + 1 == chunks_b.len() {
            return Ordering::Greater;
        }
    }
    Ordering::Greater
}

/// Maximal runs of digits and of anything else.
fn runs(text: &[u8]) -> Vec<&[u8]> {
    text.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).collect()
}

fn number(run: &[u8]) -> Option<i64> {
    std::str::from_utf8(run).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_sort_naturally() {
        for (less, greater) in
            [("2", "10"), ("a2", "a10"), ("a", "b"), ("a1", "a1b"), ("1.5", "1.10"), ("", "a"), ("08", "9")]
        {
            assert_eq!(natural(less.as_bytes(), greater.as_bytes()), Ordering::Less, "{less} {greater}");
            assert_eq!(natural(greater.as_bytes(), less.as_bytes()), Ordering::Greater, "{greater} {less}");
        }
    }
}
