//! Label merging; whole passes are tested with the manager and, for allocations, in `tests/`.

use super::exposed::empty_labels;
use super::*;

#[test]
fn finds_labels_exposed_as_empty() {
    assert_eq!(empty_labels(br#"a{x="",y="=",z = ""}"#), [&b"x"[..], b"z"]);
    assert_eq!(empty_labels(br#"{"a","my.label"="",q="\"\""}"#), [&b"my.label"[..]]);
    assert_eq!(empty_labels(b"a"), [&b""[..]; 0]);
}

#[test]
fn conflicts_move_out_of_the_way_shortest_name_first() {
    let mut labels = LabelsBuilder::default();
    for (name, value) in [("foo", "1"), ("exported_foo", "2"), ("exported_exported_foo", "3")] {
        labels.set(name.as_bytes(), value.as_bytes());
    }
    overrule(&mut labels, &Labels::from_pairs([("foo", "t"), ("exported_foo", "u")]));
    assert_eq!(
        labels.build().to_string(),
        r#"{exported_exported_exported_exported_foo="2", exported_exported_exported_foo="1", exported_exported_foo="3", exported_foo="u", foo="t"}"#
    );
}
