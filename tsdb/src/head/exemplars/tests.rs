use std::collections::VecDeque;

use model::MatchOp;
use proptest::prelude::*;

use super::*;

fn series(n: u8) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", n.to_string().as_str())])
}

fn exemplar(t: i64, v: f64, id: &str) -> Exemplar {
    Exemplar { labels: Labels::from_pairs([("id", id)]), v, t, has_own_t: true }
}

fn all(exemplars: &Exemplars) -> Vec<(Labels, Vec<i64>)> {
    exemplars
        .select(TimeRange::ALL, &[vec![]])
        .into_iter()
        .map(|found| (found.series, found.exemplars.iter().map(|e| e.t).collect()))
        .collect()
}

#[test]
fn without_a_time_of_its_own_the_same_one_is_a_repetition() {
    let exemplars = Exemplars::new(10, 0);
    let it = series(1);
    let untimed = |t, id| Exemplar { has_own_t: false, ..exemplar(t, 1.0, id) };
    exemplars.add(&it, &untimed(1000, "a")).unwrap();
    let judge = |e: Exemplar| exemplars.judge(&it, &e);
    assert_eq!(judge(untimed(2000, "a")), Ok(false));
    assert_eq!(judge(untimed(2000, "b")), Ok(true));
    assert_eq!(judge(exemplar(2000, 1.0, "a")), Ok(true));
    exemplars.add(&it, &exemplar(2000, 1.0, "a")).unwrap();
    assert_eq!(judge(untimed(3000, "a")), Ok(true));
}

#[test]
fn all_of_an_earlier_run_are_restored_and_then_repetitions_are_known() {
    let exemplars = Exemplars::new(10, 0);
    let it = series(1);
    for t in [1000, 2000, 3000] {
        exemplars.restore(&it, &exemplar(t, 1.0, "a"));
    }
    assert_eq!(all(&exemplars), [(it.clone(), vec![1000, 2000, 3000])]);
    let untimed = |t, id| Exemplar { has_own_t: false, ..exemplar(t, 1.0, id) };
    assert_eq!(exemplars.judge(&it, &untimed(4000, "a")), Ok(false));
    assert_eq!(exemplars.judge(&it, &exemplar(3000, 1.0, "a")), Ok(false));
    assert_eq!(exemplars.judge(&it, &exemplar(4000, 1.0, "a")), Ok(true));
}

#[test]
fn rules_follow_upstream() {
    let exemplars = Exemplars::new(10, 0);
    let it = series(1);
    exemplars.add(&it, &exemplar(1000, 1.0, "a")).unwrap();
    let judge = |e: Exemplar| exemplars.judge(&it, &e);
    assert_eq!(judge(exemplar(1000, 1.0, "a")), Ok(false), "the newest again");
    assert_eq!(judge(exemplar(1000, 2.0, "a")), Ok(true));
    assert_eq!(judge(exemplar(1000, 1.0, "b")), Ok(true));
    assert_eq!(judge(exemplar(1000, 0.5, "b")), Err(AppendError::ExemplarOutOfOrder));
    assert_eq!(judge(exemplar(1000, 1.0, "A")), Err(AppendError::ExemplarOutOfOrder));
    assert_eq!(judge(exemplar(999, 3.0, "c")), Err(AppendError::ExemplarOutOfOrder));
    assert_eq!(exemplars.judge(&series(2), &exemplar(1, 3.0, "c")), Ok(true), "another series");
    // Two characters of the name count, too; characters, not bytes.
    assert_eq!(judge(exemplar(2000, 1.0, &"ä".repeat(126))), Ok(true));
    assert_eq!(judge(exemplar(2000, 1.0, &"x".repeat(127))), Err(AppendError::ExemplarTooLong));
    exemplars.set_window(500);
    assert_eq!(judge(exemplar(501, 3.0, "c")), Ok(true));
    assert_eq!(judge(exemplar(500, 3.0, "c")), Err(AppendError::ExemplarOutOfOrder));
    exemplars.add(&it, &exemplar(600, 1.0, "late")).unwrap();
    exemplars.add(&it, &exemplar(800, 1.0, "late")).unwrap();
    exemplars.add(&it, &exemplar(800, 7.0, "taken for the same")).unwrap();
    assert_eq!(all(&exemplars), [(series(1), vec![600, 800, 1000])]);
    assert_eq!((exemplars.appended.get(), exemplars.out_of_order.get()), (3, 0));
    exemplars.add(&it, &exemplar(400, 1.0, "too late")).unwrap_err();
    assert_eq!(exemplars.out_of_order.get(), 1);
    exemplars.resize(0);
    assert_eq!(judge(exemplar(3000, 1.0, "a")), Err(AppendError::ExemplarsDisabled));
    assert_eq!(all(&exemplars), []);
}

#[test]
fn selection_is_by_any_selector_in_label_order() {
    let exemplars = Exemplars::new(100, 0);
    for n in [3, 1, 2] {
        for t in 0..5 {
            exemplars.add(&series(n), &exemplar(t * 10, 1.0, "x")).unwrap();
        }
    }
    let is = |n: &str| vec![Matcher::new(MatchOp::Eq, "n", n).unwrap()];
    let found = exemplars.select(TimeRange::new(10, 20), &[is("3"), is("1"), is("1"), is("9")]);
    let found: Vec<_> = found.iter().map(|f| (f.series.clone(), f.exemplars.len())).collect();
    assert_eq!(found, [(series(1), 2), (series(3), 2)]);
    assert!(exemplars.select(TimeRange::new(11, 19), &[is("1")]).is_empty());
    assert!(exemplars.select(TimeRange::ALL, &[]).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, i64),
    Resize(usize),
}

proptest! {
    /// Against a plain queue of what came.
    #[test]
    fn ring_keeps_what_a_queue_keeps(
        capacity in 0_usize..12,
        steps in prop::collection::vec(
            prop_oneof![
                8 => (0_u8..4, 0_i64..60).prop_map(|(n, t)| Step::Add(n, t)),
                1 => (0_usize..14).prop_map(Step::Resize),
            ],
            0..200,
        ),
    ) {
        let exemplars = Exemplars::new(capacity, 30);
        let mut capacity = capacity;
        let mut queue: VecDeque<(u8, i64)> = VecDeque::new();
        for step in steps {
            match step {
                Step::Add(n, t) => {
                    let newest = queue.iter().filter(|it| it.0 == n).map(|it| it.1).max();
                    let is_known = queue.contains(&(n, t));
                    let added = exemplars.add(&series(n), &exemplar(t, 1.0, "x"));
                    if capacity == 0 {
                        prop_assert_eq!(added, Err(AppendError::ExemplarsDisabled));
                    } else if newest.is_some_and(|newest| t <= newest - 30) {
                        prop_assert_eq!(added, Err(AppendError::ExemplarOutOfOrder));
                    } else {
                        prop_assert_eq!(added, Ok(()));
                        if !is_known {
                            queue.push_back((n, t));
                        }
                    }
                }
                Step::Resize(to) => {
                    exemplars.resize(to);
                    capacity = to;
                }
            }
            while queue.len() > capacity {
                queue.pop_front();
            }
            let mut expected: Vec<(Labels, Vec<i64>)> = Vec::new();
            for n in 0..4 {
                let mut ts: Vec<i64> = queue.iter().filter(|it| it.0 == n).map(|it| it.1).collect();
                ts.sort_unstable();
                if !ts.is_empty() {
                    expected.push((series(n), ts));
                }
            }
            prop_assert_eq!(all(&exemplars), expected);
            let mut came = Vec::new();
            exemplars.each(|labels, e| came.push((labels.clone(), e.t)));
            prop_assert_eq!(came, queue.iter().map(|&(n, t)| (series(n), t)).collect::<Vec<_>>());
        }
    }
}
