use super::{Labels, LabelsBuilder};

#[test]
fn sets_are_sorted_and_drop_empty_values() {
    let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
    assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
    assert_eq!(labels.len(), 2);
    assert_eq!(labels.get(b"b"), Some(&b"3"[..]));
    assert_eq!(labels.get(b"c"), None);
}

#[test]
fn long_values_survive_the_length_escape() {
    for len in [254, 255, 256, 70_000] {
        let value = "v".repeat(len);
        let labels = Labels::from_pairs([("name", value.as_str()), ("next", "x")]);
        assert_eq!(labels.get(b"name"), Some(value.as_bytes()));
        assert_eq!(labels.get(b"next"), Some(&b"x"[..]));
    }
}

#[test]
fn a_prefix_sorts_before_the_longer_set() {
    let short = Labels::from_pairs([("a", "1")]);
    let long = Labels::from_pairs([("a", "1"), ("b", "1")]);
    let other = Labels::from_pairs([("a", "2")]);
    assert!(Labels::empty() < short && short < long && long < other);
}

#[test]
fn builders_set_replace_and_remove() {
    let mut builder = LabelsBuilder::from(&Labels::from_pairs([("a", "1"), ("b", "2")]));
    builder.set(b"a", b"9");
    builder.remove(b"b");
    builder.set(b"odd name", b"q\"");
    assert_eq!(builder.build().to_string(), r#"{a="9", "odd name"="q\""}"#);
}

#[test]
fn a_builder_keeps_its_promises_through_many_changes() {
    let mut builder = LabelsBuilder::default();
    let mut expected = std::collections::BTreeMap::new();
    for i in 0..5000_u32 {
        let (name, value) = (format!("l{}", i % 17), "v".repeat((i % 40) as usize));
        builder.set(name.as_bytes(), value.as_bytes());
        if value.is_empty() {
            expected.remove(&name);
        } else {
            expected.insert(name, value);
        }
        assert!(builder.text.len() <= super::GARBAGE_BYTES_MAX + 17 * 2 * 64 + 64, "garbage grows");
    }
    assert_eq!(builder.build(), Labels::from_pairs(&expected));
    assert_eq!(builder.build().to_map(), expected);
    builder.retain(|name, _| name > &b"l2"[..]);
    expected.retain(|name, _| name.as_str() > "l2");
    assert_eq!(LabelsBuilder::from(&builder.build()).build(), Labels::from_pairs(&expected));
    assert_eq!(builder.len(), expected.len());
    builder.clear();
    assert!(builder.is_empty() && builder.get(b"l3").is_none());
}

proptest::proptest! {
    #[test]
    fn sets_order_and_find_as_maps(
        a in proptest::collection::btree_map("[a-c]{0,3}", "[xy]{1,300}", 0..4),
        b in proptest::collection::btree_map("[a-c]{0,3}", "[xy]{1,2}", 0..4),
    ) {
        let (set_a, set_b) = (Labels::from_pairs(&a), Labels::from_pairs(&b));
        proptest::prop_assert_eq!(set_a.cmp(&set_b), a.iter().cmp(b.iter()));
        proptest::prop_assert_eq!(set_a == set_b, a == b);
        for name in a.keys().chain(b.keys()) {
            proptest::prop_assert_eq!(set_a.get(name.as_bytes()), a.get(name).map(String::as_bytes));
        }
        proptest::prop_assert_eq!(set_a.len(), a.len());
    }

    #[test]
    fn sets_that_share_much_order_as_maps(
        shared in proptest::collection::btree_map("[a-c]{1,4}", "[xy]{1,12}", 0..5),
        changes in proptest::collection::vec(("[a-d]{1,4}", "[xyz]{0,300}"), 0..3),
    ) {
        let mut changed = shared.clone();
        for (name, value) in changes {
            if value.is_empty() { changed.remove(&name); } else { changed.insert(name, value); }
        }
        let (a, b) = (Labels::from_pairs(&shared), Labels::from_pairs(&changed));
        proptest::prop_assert_eq!(a.cmp(&b), shared.iter().cmp(changed.iter()));
        proptest::prop_assert_eq!(b.cmp(&a), changed.iter().cmp(shared.iter()));
    }

    #[test]
    fn labels_fall_as_from_a_map(
        a in proptest::collection::btree_map("[a-f]", "[xy]{1,300}", 0..6),
        dropped in proptest::collection::btree_set("[a-f]", 0..5),
    ) {
        let left = Labels::from_pairs(&a).without(|name| dropped.iter().any(|d| d.as_bytes() == name));
        let expected = Labels::from_pairs(a.iter().filter(|(name, _)| !dropped.contains(*name)));
        proptest::prop_assert_eq!(left, expected);
    }
}
