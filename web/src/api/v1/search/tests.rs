//! Searches against a store in memory.

use std::time::{Duration, Instant};

use model::Labels;
use promql::testing::Storage;

use super::effort::{Effort, wanted};
use super::request::{Order, Request};
use super::score::{Algorithm, Filter};
use super::{ErrorKind, Found, Lines, Next, Space};

fn request(limit: usize, batch_size: usize) -> Request {
    Request {
        range: model::TimeRange::ALL,
        selectors: Vec::new(),
        filter: None,
        order: Order::Ascending,
        includes_score: true,
        limit,
        batch_size,
    }
}

fn lines(texts: &[&str], limit: usize, batch_size: usize) -> Vec<String> {
    let found = texts.iter().map(|text| Found { text: (*text).to_owned(), score: 0.5 }).collect();
    let request = request(limit, batch_size);
    let mut lines = Lines { found, metadata: None, request, space: Space::LabelNames, next: Next::First };
    std::iter::from_fn(|| lines.next_line()).map(|line| String::from_utf8(line).unwrap()).collect()
}

#[test]
fn lines_are_batches_and_a_trailer() {
    let more = "{\"status\":\"success\",\"has_more\":true}\n";
    let all = "{\"status\":\"success\",\"has_more\":false}\n";
    assert_eq!(lines(&[], 3, 2), ["{\"results\":[]}\n", all], "the first line is always sent");
    assert_eq!(
        lines(&["a", "<b>", "c", "d"], 3, 2),
        [
            "{\"results\":[{\"name\":\"a\",\"score\":0.5},{\"name\":\"\\u003cb\\u003e\",\"score\":0.5}]}\n",
            "{\"results\":[{\"name\":\"c\",\"score\":0.5}]}\n",
            more
        ]
    );
    assert_eq!(lines(&["a", "b"], 2, 2).last().unwrap(), all);
    assert_eq!(lines(&["a", "b"], 2, usize::MAX).len(), 2);
}

/// What a request finds among metrics named by `names`.
fn found(names: &[String], request: &Request) -> Vec<(String, f64)> {
    let mut storage = Storage::default();
    for name in names {
        storage.append(&Labels::from_pairs([("__name__", name.as_str())]), [(0, 1.0)]);
    }
    let space = Space::MetricNames { with_metadata: false };
    let found = super::find_in(&storage, request, &space, &mut Effort::new(&mut || Ok(()))).unwrap();
    found.into_iter().map(|found| (found.text, found.score)).collect()
}

#[test]
fn the_best_of_many_are_those_of_all() {
    // More than are kept between two sweeps, the best ones late.
    let names: Vec<_> = (0..5000).map(|i| format!("{}x{i}y", "_".repeat(40 - i % 40))).collect();
    let filter = || Filter::new(["xy"], Algorithm::Subsequence, 0, true);
    let few = found(&names, &Request { order: Order::Score, filter: filter(), ..request(7, 100) });
    let all = found(&names, &Request { order: Order::Score, filter: filter(), ..request(10_000, 100) });
    assert_eq!((few.len(), all.len()), (8, 5000), "one more tells that there is more");
    assert_eq!(few, all[..8]);
    assert!(all.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
}

#[test]
fn a_search_nobody_waits_for_ends() {
    // A single value that would be compared for hours: each of its letters begins a match that ends with its last.
    let value = format!("{}b", "a".repeat(4 << 20));
    let mut storage = Storage::default();
    storage.append(&Labels::from_pairs([("__name__", "up"), ("long", value.as_str())]), [(0, 1.0)]);
    let space = Space::LabelValues { label: "long".to_owned() };
    let filter = Filter::new(["acb", "ab"], Algorithm::Subsequence, 0, true);
    let request = Request { filter, ..request(1, 1) };
    let cancel = promql::CancelFlag::default();
    let ended_by = |timeout, leaves_at: u32| {
        let (began, mut looks) = (Instant::now(), 0);
        let mut look = || {
            looks += 1;
            if looks == leaves_at {
                cancel.cancel();
            }
            wanted(&cancel, began, timeout)
        };
        let e = super::find_in(&storage, &request, &space, &mut Effort::new(&mut look)).unwrap_err();
        (looks, e.kind, e.message)
    };
    let (looks, kind, message) = ended_by(Duration::from_millis(1), u32::MAX);
    assert_eq!((kind, message.as_str()), (ErrorKind::Timeout, "search timed out"), "after {looks} looks");
    // The first look is before any value.
    let expected = (3, ErrorKind::Canceled, "search was canceled".to_owned());
    assert_eq!(ended_by(Duration::MAX, 3), expected);
}

#[test]
fn similarity_of_long_texts_can_be_ended() {
    let value = "b".repeat(4 << 20);
    let filter = Filter::new(["a".repeat(1024).as_str()], Algorithm::JaroWinkler, 50, true).unwrap();
    let mut looks = 0;
    let mut look = || {
        looks += 1;
        if looks < 3 { Ok(()) } else { Err(super::Stop::Abandoned) }
    };
    assert_eq!(filter.score(&value, &mut Effort::new(&mut look)), Err(super::Stop::Abandoned));
}

#[test]
fn order_and_limit_are_as_asked() {
    let names: Vec<_> = ["b", "a", "c"].map(str::to_owned).to_vec();
    let of = |order, limit| -> Vec<String> {
        found(&names, &Request { order, ..request(limit, 1) }).into_iter().map(|(text, _)| text).collect()
    };
    assert_eq!(of(Order::Ascending, 1), ["a", "b"]);
    assert_eq!(of(Order::Descending, 1), ["c", "b"]);
    assert_eq!(of(Order::Score, 5), ["a", "b", "c"]);
}
