use std::path::Path;

use expect_test::expect_file;

use crate::prometheus::parse;

const ALL: &str = include_str!("../../../testdata/prometheus/discovery.yml");

/// The listed texts were compared with what Prometheus 3.14 prints for the same file.
#[test]
fn every_mechanism_is_printed() {
    let config = parse(ALL, Path::new("/etc")).unwrap();
    assert!(!config.text.contains("hidden"), "a secret is printed");
    expect_file!["../../../testdata/prometheus/discovery.txt"].assert_eq(&config.text);
    let silent: Vec<_> = config.warnings.iter().filter(|text| !text.contains("finds no targets")).collect();
    assert!(silent.is_empty(), "{silent:?}");
    assert_eq!(config.warnings.len(), 29, "one per key that finds nothing");
}
