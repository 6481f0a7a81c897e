//! Functions of range vectors as scripts, whose results are those of a running Prometheus.

use std::path::Path;

use model::Labels;

use crate::engine::{Engine, EngineOptions, Features, QueryOptions};
use crate::testing::Storage;
use crate::testing::tests::{assert_clean, engine, scripts};

#[test]
fn range_vectors_give_what_prometheus_gives() {
    let all = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ours/ranges"));
    assert!(all.len() >= 5, "the scripts are part of the sources");
    assert_clean(&all, &[engine(1), engine(2).with_morsels_of(3)]);
}

#[test]
fn where_types_count_a_rate_of_what_is_no_counter_is_told() {
    let features = Features { type_and_unit_labels: true, ..Features::default() };
    let engine = Engine::new(EngineOptions { threads: 1, features, ..EngineOptions::default() });
    let mut storage = Storage::default();
    let types =
        [("a", "counter"), ("b", "gauge"), ("c_total", ""), ("d_total", "unknown"), ("e", "histogram")];
    for (name, kind) in types {
        let labels = Labels::from_pairs([("__name__", name), ("__type__", kind), ("of", name)]);
        storage.append(&labels, [(0, 1.0), (10_000, 2.0), (20_000, 3.0)]);
    }
    let query = "rate({__name__=~\".+\"}[1m])";
    let result = engine.instant_query(&storage, query, 20_000, &QueryOptions::default());
    let mut infos = result.expect("no labels are equal").annotations.infos(query, 0);
    infos.sort();
    let expected = [("", "c_total"), ("gauge", "b"), ("unknown", "d_total")].map(|(kind, name)| {
        format!(
            "PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" or \
             \"histogram\", got \"{kind}\": \"{name}\" (1:6)"
        )
    });
    assert_eq!(infos, expected);
}

#[test]
fn the_peak_is_a_window_and_what_became_of_it() {
    let mut storage = Storage::default();
    let labels = Labels::from_pairs([("__name__", "metric")]);
    storage.append(&labels, (0..=100).map(|k| (k * 10_000, k as f64)));
    let engine = engine(1);
    for (text, peak) in [("metric[20s]", 2), ("rate(metric[20s])", 3), ("metric[20s:5s]", 3)] {
        let result = engine.instant_query(&storage, text, 10_000, &QueryOptions::default());
        assert_eq!(result.expect(text).stats.peak_samples, peak, "{text}");
    }
}
