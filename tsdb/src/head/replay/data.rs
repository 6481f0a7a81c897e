//! The samples of a log: decoded and parted by shard on all cores, applied in the order of the log.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use foldhash::HashMap;
use model::{AnyHistogram, Exemplar, Timestamp, Value};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::super::series::{Applied, TIME_MAX};
use super::super::{Inner, Slot};
use super::pipeline::Prepared;
use super::scan::{Cut, Run, Scanned};
use super::table::Slots;
use super::{ReplayProgress, Stop};
use crate::wal::reader::Corruption;
use crate::wal::record::{self, Kind};

/// Lists of samples that wait to be used again.
const SPARE_LISTS: usize = 64;

/// A float of the series that has this index in its shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float {
    idx: u32,
    t: Timestamp,
    v: f64,
}

/// What is more than a float.
#[derive(Debug)]
pub(super) struct Other {
    idx: u32,
    st: Timestamp,
    t: Timestamp,
    value: OtherValue,
}

#[derive(Debug)]
enum OtherValue {
    Float(f64),
    Histogram(AnyHistogram),
}

/// Samples for one shard, in the order of the log.
#[derive(Debug)]
pub(super) enum Part {
    Floats(Vec<Float>),
    Others(Vec<Other>),
    /// For the queue of exemplars, which is no shard's.
    Exemplars(Vec<(Slot, Exemplar)>),
}

/// What a run of records yields, in order for every queue.
#[derive(Debug)]
struct Sorted {
    /// By shard; what is in `parts` came before.
    floats: Vec<Vec<Float>>,
    parts: Vec<(usize, Part)>,
}

impl Sorted {
    /// Puts something else than a float behind the floats of its shard.
    fn push_other(&mut self, shard: usize, other: Other) {
        if !self.floats[shard].is_empty() {
            let floats = std::mem::take(&mut self.floats[shard]);
            self.parts.push((shard, Part::Floats(floats)));
        }
        let last = self.parts.iter_mut().rev().find(|(of, _)| *of == shard);
        match last {
            Some((_, Part::Others(others))) => others.push(other),
            _ => self.parts.push((shard, Part::Others(vec![other]))),
        }
    }
}

/// What reading the samples needs to know, and what it finds out.
#[derive(Debug)]
pub(super) struct Data<'a> {
    inner: &'a Inner,
    scanned: &'a Scanned,
    slots: &'a Slots,
    min_valid_time: Timestamp,
    progress: &'a ReplayProgress,
    spare: Mutex<Vec<Vec<Float>>>,
    mint: AtomicI64,
    maxt: AtomicI64,
    /// Samples, histograms and exemplars of series that are not defined.
    pub(super) n_unknown: [AtomicU64; 3],
    pub(super) skipped: Mutex<HashMap<&'static str, u64>>,
}

impl<'a> Data<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        scanned: &'a Scanned,
        slots: &'a Slots,
        min_valid_time: Timestamp,
        progress: &'a ReplayProgress,
    ) -> Self {
        Self {
            inner,
            scanned,
            slots,
            min_valid_time,
            progress,
            spare: Mutex::default(),
            mint: AtomicI64::new(Timestamp::MAX),
            maxt: AtomicI64::new(Timestamp::MIN),
            n_unknown: Default::default(),
            skipped: Mutex::default(),
        }
    }

    /// The times of the oldest and the newest sample stored.
    pub(super) fn times(&self) -> (Timestamp, Timestamp) {
        (self.mint.load(Relaxed), self.maxt.load(Relaxed))
    }

    /// Decodes a run of records.
    pub(super) fn prepare(&self, run: Run) -> Prepared<Part, Stop> {
        if let Some(number) = self.scanned.files[run.file].number {
            self.progress.reach(number);
        }
        let mut records = self.scanned.records(run);
        let floats = self.inner.shards.iter().map(|_| self.spare_list()).collect();
        let mut sorted = Sorted { floats, parts: Vec::new() };
        let failure = loop {
            let sound_len = records.sound_len();
            let cut = |corruption| Some(Stop::Corrupt(Cut { file: run.file, sound_len, corruption }));
            match records.next() {
                Ok(Some(record)) => {
                    if let Err(error) = self.decode(record, &mut sorted) {
                        let what = format!("bad record: {error}");
                        break cut(Corruption { what, offset: sound_len as u64 });
                    }
                }
                Ok(None) => break None,
                Err(corruption) => break cut(corruption),
            }
        };
        let Sorted { floats, mut parts } = sorted;
        for (shard, list) in floats.into_iter().enumerate() {
            if list.is_empty() {
                self.put_back(list);
            } else {
                parts.push((shard, Part::Floats(list)));
            }
        }
        Prepared { parts, failure }
    }

    /// Adds what a record holds; nothing of one that is damaged.
    fn decode(&self, record: &[u8], sorted: &mut Sorted) -> Result<(), crate::DecodeError> {
        let mut n_unknown = 0;
        let kind = Kind::of(record);
        let counter = match kind {
            Kind::Histograms => &self.n_unknown[1],
            Kind::Exemplars => &self.n_unknown[2],
            _ => &self.n_unknown[0],
        };
        let mut place = |series: u64, t: Timestamp| {
            if t < self.min_valid_time || !(-TIME_MAX..=TIME_MAX).contains(&t) {
                return None;
            }
            let slot = self.slots.get(series);
            n_unknown += u64::from(slot.is_none());
            slot
        };
        match kind {
            Kind::Samples
                if record.first() == Some(&2) || !self.inner.options.features.stores_start_times =>
            {
                let floats = &mut sorted.floats;
                let lens: SmallVec<[usize; 16]> = floats.iter().map(Vec::len).collect();
                let decoded = record::each_sample(record, |sample| {
                    if let Some(slot) = place(sample.series, sample.t) {
                        floats[slot.shard()].push(Float { idx: slot.idx(), t: sample.t, v: sample.v });
                    }
                });
                if decoded.is_err() {
                    floats.iter_mut().zip(lens).for_each(|(list, len)| list.truncate(len));
                }
                decoded?;
            }
            Kind::Samples => {
                let mut others = Vec::new();
                record::each_sample(record, |sample| {
                    if let Some(slot) = place(sample.series, sample.t) {
                        let value = OtherValue::Float(sample.v);
                        others.push((slot, Other { idx: slot.idx(), st: sample.st, t: sample.t, value }));
                    }
                })?;
                for (slot, other) in others {
                    sorted.push_other(slot.shard(), other);
                }
            }
            Kind::Histograms => {
                let stores_start_times = self.inner.options.features.stores_start_times;
                let mut others = Vec::new();
                record::decode_histograms(record, |series, st, t, value| {
                    let Some(slot) = place(series, t) else { return };
                    let value = match value {
                        Value::Float(v) => OtherValue::Float(v),
                        Value::Histogram(it) => {
                            OtherValue::Histogram(AnyHistogram::Int(Box::new(it.clone())))
                        }
                        Value::FloatHistogram(it) => {
                            OtherValue::Histogram(AnyHistogram::Float(Box::new(it.clone())))
                        }
                    };
                    let st = if stores_start_times { st } else { 0 };
                    others.push((slot, Other { idx: slot.idx(), st, t, value }));
                })?;
                for (slot, other) in others {
                    sorted.push_other(slot.shard(), other);
                }
            }
            Kind::Exemplars if self.inner.exemplars.is_enabled() => {
                let mut exemplars = Vec::new();
                record::decode_exemplars(record, |it| {
                    if let Some(slot) = place(it.series, it.exemplar.t) {
                        exemplars.push((slot, it.exemplar));
                    }
                })?;
                sorted.parts.push((self.inner.shards.len(), Part::Exemplars(exemplars)));
            }
            // Nobody asks for them.
            Kind::Exemplars => {}
            kind => *self.skipped.lock().entry(kind.as_str()).or_default() += 1,
        }
        counter.fetch_add(n_unknown, Relaxed);
        Ok(())
    }

    /// Appends samples to their series.
    pub(super) fn apply(&self, shard: usize, part: Part) -> crate::Result<()> {
        let (chunks, options) = (&self.inner.chunks, &self.inner.options);
        let (mut mint, mut maxt) = (Timestamp::MAX, Timestamp::MIN);
        let mut note = |applied: Applied, t: Timestamp| {
            if applied == Applied::Stored {
                (mint, maxt) = (mint.min(t), maxt.max(t));
            }
        };
        match part {
            Part::Floats(floats) => {
                let shard = &self.inner.shards[shard];
                let mut state = shard.state.write();
                for &Float { idx, t, v } in &floats {
                    let place = (idx, shard.line(idx).generation());
                    note(shard.apply(&mut state, chunks, options, place, t, v)?, t);
                }
                drop(state);
                self.put_back(floats);
            }
            Part::Others(others) => {
                let shard = &self.inner.shards[shard];
                let mut state = shard.state.write();
                for Other { idx, st, t, value } in &others {
                    let place = (*idx, shard.line(*idx).generation());
                    let value = match value {
                        OtherValue::Float(v) => Value::Float(*v),
                        OtherValue::Histogram(histogram) => histogram.into(),
                    };
                    note(shard.apply_value(&mut state, chunks, options, place, *st, *t, value)?, *t);
                }
            }
            Part::Exemplars(exemplars) => {
                for (slot, exemplar) in &exemplars {
                    self.inner.replay_exemplar(*slot, exemplar, self.min_valid_time);
                }
            }
        }
        self.mint.fetch_min(mint, Relaxed);
        self.maxt.fetch_max(maxt, Relaxed);
        Ok(())
    }

    fn spare_list(&self) -> Vec<Float> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn put_back(&self, mut list: Vec<Float>) {
        list.clear();
        let mut spare = self.spare.lock();
        if list.capacity() > 0 && spare.len() < SPARE_LISTS {
            spare.push(list);
        }
    }
}
