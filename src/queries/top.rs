//! The queries that cost most, by expression and by who asks: a small table that forgets the cheapest.
//!
//! What is forgotten and asked again begins anew, so that sums of cheap queries are lower bounds once there were more
//! distinct ones than the table holds.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use promql::{Ended, Origin};
use web::view::running::{TopQueries, TopQuery};

/// The most entries.
const ENTRIES_MAX: usize = 1000;

/// The most of an expression that is kept; longer ones that begin alike count as one.
const QUERY_BYTES_MAX: usize = 1000;

#[derive(Default)]
pub(super) struct Top(Mutex<Table>);

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Costs>,
    forgotten: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    query: String,
    origin: &'static str,
    /// A path, or a file of rules.
    path: String,
    shown_in: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, Default)]
struct Costs {
    count: u64,
    errors: u64,
    total: Duration,
    longest: Duration,
    samples: u64,
    peak_samples: u64,
    last: jiff::Timestamp,
}

impl Key {
    fn of(query: &Ended<'_>) -> Option<Self> {
        let (origin, path, shown_in) = match query.origin? {
            Origin::Http { path, shown_in, .. } => ("http", path.clone(), shown_in.clone()),
            Origin::Rules { file, group } => ("rules", file.clone(), vec![("group", group.clone())]),
        };
        let kept = query.text.floor_char_boundary(QUERY_BYTES_MAX);
        Some(Self { query: query.text[..kept].to_owned(), origin, path, shown_in })
    }
}

impl Top {
    pub(super) fn note(&self, query: &Ended<'_>, now: jiff::Timestamp) {
        let Some(key) = Key::of(query) else { return };
        let mut table = self.0.lock();
        if table.entries.len() >= ENTRIES_MAX && !table.entries.contains_key(&key) {
            table.forget_cheapest();
        }
        let costs = table.entries.entry(key).or_default();
        costs.count += 1;
        costs.errors += u64::from(query.error.is_some());
        costs.total += query.took;
        costs.longest = costs.longest.max(query.took);
        costs.samples += query.stats.total_queryable_samples as u64;
        costs.peak_samples = costs.peak_samples.max(query.stats.peak_samples as u64);
        costs.last = now;
    }

    pub(super) fn list(&self) -> TopQueries {
        let table = self.0.lock();
        let queries = table.entries.iter().map(|(key, costs)| shown(key, costs));
        TopQueries { queries: queries.collect(), forgotten: table.forgotten }
    }
}

impl Table {
    /// Makes room by a tenth of the table, so that looking for the cheapest is seldom.
    fn forget_cheapest(&mut self) {
        let n = self.entries.len() / 10;
        let mut totals: Vec<_> = self.entries.values().map(|costs| costs.total).collect();
        let (cheaper, &mut bound, _) = totals.select_nth_unstable(n);
        // As many of those at the bound as are missing: most queries may cost the same.
        let mut n_at_bound = n - cheaper.iter().filter(|total| **total < bound).count();
        self.entries.retain(|_, costs| match costs.total.cmp(&bound) {
            Ordering::Less => false,
            Ordering::Equal if n_at_bound > 0 => {
                n_at_bound -= 1;
                false
            }
            _ => true,
        });
        self.forgotten += n as u64;
    }
}

fn shown(key: &Key, costs: &Costs) -> TopQuery {
    TopQuery {
        query: key.query.clone(),
        origin: key.origin,
        path: key.path.clone(),
        shown_in: key.shown_in.iter().cloned().collect::<BTreeMap<_, _>>(),
        count: costs.count,
        errors: costs.errors,
        total_time: costs.total.as_secs_f64(),
        longest_time: costs.longest.as_secs_f64(),
        average_time: costs.total.as_secs_f64() / costs.count as f64,
        total_samples: costs.samples,
        peak_samples: costs.peak_samples,
        last_time: costs.last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use promql::{Ended, Error, Origin, RangeParams, Stats};

    use super::{ENTRIES_MAX, QUERY_BYTES_MAX, Top};

    fn note(top: &Top, text: &str, panel: &str, took_ms: u64, error: Option<&Error>) {
        let origin = Origin::Http {
            client: "127.0.0.1".to_owned(),
            method: "POST".to_owned(),
            path: "/api/v1/query".to_owned(),
            shown_in: vec![("panel", panel.to_owned())],
        };
        let stats = Stats { total_queryable_samples: 10, peak_samples: 3, ..Stats::default() };
        let range = RangeParams { start: 0, end: 0, step_ms: 0 };
        let took = Duration::from_millis(took_ms);
        top.note(
            &Ended { text, range, origin: Some(&origin), stats: &stats, error, took },
            Timestamp::UNIX_EPOCH,
        );
    }

    #[test]
    fn costs_are_summed_by_query_and_panel() {
        let top = Top::default();
        note(&top, "up", "1", 10, None);
        note(&top, "up", "1", 30, Some(&Error::Timeout("query execution".to_owned())));
        note(&top, "up", "2", 5, None);
        let mut list = top.list().queries;
        list.sort_by_key(|query| query.count);
        assert_eq!(list.len(), 2);
        let [_, busy] = &list[..] else { panic!("two panels") };
        assert_eq!((busy.count, busy.errors, busy.total_samples, busy.peak_samples), (2, 1, 20, 3));
        assert_eq!((busy.total_time, busy.longest_time, busy.average_time), (0.04, 0.03, 0.02));
        assert_eq!(busy.shown_in["panel"], "1");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_costs() {
        let top = Top::default();
        note(&top, &format!("costly{}", "x".repeat(5000)), "1", 10_000, None);
        for i in 0..5 * ENTRIES_MAX {
            note(&top, &format!("cheap{i}"), "1", 1, None);
        }
        let list = top.list();
        let lengths = ENTRIES_MAX - ENTRIES_MAX / 10..=ENTRIES_MAX;
        assert!(lengths.contains(&list.queries.len()), "{}", list.queries.len());
        assert_eq!(list.queries.len() as u64 + list.forgotten, 5 * ENTRIES_MAX as u64 + 1);
        let costly = list.queries.iter().find(|query| query.total_time == 10.0).unwrap();
        assert_eq!(costly.query.len(), QUERY_BYTES_MAX);
    }
}
