//! A fleet of targets with 1000 series of ten labels each, of which one is a series' own, and its values: a third constant,
//! a third small counters, a third large ones.

#![allow(dead_code, reason = "each bench takes what it needs")]

use std::hint::black_box;

use model::Labels;
use model::storage::{SeriesKey, SeriesRef};
use tsdb::head::Head;

/// Series of one target.
pub(crate) const SERIES: usize = 1000;

/// When everything begins: at a border of two hours, so that blocks are whole.
pub(crate) const START: i64 = 1_699_999_200_000;

pub(crate) fn labels(target: usize, series: usize) -> Labels {
    let (instance, group) = (format!("10.0.{}.{}:9100", target / 250, target % 250), series / 10);
    Labels::from_pairs([
        ("__name__", format!("some_subsystem_metric_{}_total", group % 50)),
        ("cluster", "eu-west-1".to_owned()),
        ("code", (200 + series % 10).to_string()),
        ("handler", format!("/api/v1/resource/{}", group / 50)),
        ("instance", instance.clone()),
        ("job", "service".to_owned()),
        ("method", ["GET", "PUT", "POST"][target % 3].to_owned()),
        ("namespace", format!("team-{}", target % 7)),
        ("pod", format!("service-{instance}")),
        ("zone", ["a", "b", "c"][target % 3].to_owned()),
    ])
}

/// Targets, their series in a head, and the values they show.
pub(crate) struct Fleet {
    pub(crate) refs: Vec<Vec<SeriesRef>>,
    /// When the last scrape was.
    pub(crate) t: i64,
    rng: fastrand::Rng,
    counters: Vec<f64>,
}

impl Fleet {
    /// Creates the series by a first scrape.
    pub(crate) fn new(head: &Head, n_targets: usize) -> Self {
        let mut refs = Vec::new();
        for target in 0..n_targets {
            let mut batch = head.batch(target as u64);
            let each = (0..SERIES).map(|n| {
                batch.append(SeriesKey::Labels(&labels(target, n)), START, 0.0).expect("is accepted")
            });
            refs.push(each.collect());
            batch.commit().expect("commits");
        }
        Self { refs, t: START, rng: fastrand::Rng::with_seed(1), counters: vec![0.0; n_targets * SERIES] }
    }

    pub(crate) fn n_series(&self) -> usize {
        self.counters.len()
    }

    /// The bytes that the fleet itself has.
    pub(crate) fn own_bytes(&self) -> usize {
        self.n_series() * (size_of::<f64>() + size_of::<SeriesRef>())
    }

    /// Moves time and values on.
    pub(crate) fn prepare(&mut self, step_ms: i64) {
        self.t += step_ms;
        for (n, counter) in self.counters.iter_mut().enumerate() {
            match n % 3 {
                0 => {}
                1 => *counter += f64::from(self.rng.u8(..10)),
                _ => *counter += f64::from(self.rng.u32(..1_000_000)),
            }
        }
    }

    /// One scrape of every target.
    pub(crate) fn scrape_all(&self, head: &Head) {
        for (target, refs) in self.refs.iter().enumerate() {
            let mut batch = head.batch(target as u64);
            let values = &self.counters[target * SERIES..(target + 1) * SERIES];
            for (&series, &v) in refs.iter().zip(values) {
                black_box(batch.append(SeriesKey::Ref(series), self.t, v)).expect("is accepted");
            }
            batch.commit().expect("commits");
        }
    }
}
