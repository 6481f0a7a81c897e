//! Functions of range vectors as scripts, whose results are those of a running Prometheus.

use std::path::Path;

use crate::testing::tests::{assert_clean, engine, scripts};

#[test]
fn range_vectors_give_what_prometheus_gives() {
    let all = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ours/ranges"));
    assert!(all.len() >= 5, "the scripts are part of the sources");
    assert_clean(&all, &[engine(1), engine(2).with_morsels_of(3)]);
}
