//! Query results.
//!
//! Compat: prometheus `web/api/v1/json_codec.go`.

use model::exemplar::SeriesExemplars;
use model::number::{append_f_into, append_json_into};
use model::{AnyHistogram, FloatHistogram, SampleBatch, Timestamp};
use promql::{MatrixSeries, SampleValue, Value, VectorSample};

use super::{write_escaped, write_labels, write_list, write_stats};
use crate::stream::Source;

/// The data of a query's answer, `{"resultType":...,"result":...,"stats":...}`, written bit by bit. What is written is given
/// up, a series at a time.
pub(crate) struct QueryData {
    result: Rest,
    /// All behind the result.
    rest: Vec<u8>,
    /// The account of the result, until all of it is written.
    held: Option<promql::Held>,
}

/// What is still to be written of a result.
enum Rest {
    /// Nothing is written yet, not even the type.
    All(Value),
    Vector(Items<VectorSample>),
    Matrix {
        items: Items<MatrixSeries>,
        open: Option<Box<Open>>,
        times: Times,
    },
    Nothing,
}

type Items<T> = std::iter::Enumerate<std::vec::IntoIter<T>>;

impl QueryData {
    pub(crate) fn new(value: Value, stats: Option<&promql::Stats>) -> Self {
        let mut rest = Vec::new();
        if let Some(stats) = stats {
            rest.extend_from_slice(b",\"stats\":");
            write_stats(&mut rest, stats);
        }
        rest.push(b'}');
        Self { result: Rest::All(value), rest, held: None }
    }

    /// Keeps what the result holds on its account as long as it is being written.
    pub(crate) fn holding(self, held: promql::Held) -> Self {
        Self { held: Some(held), ..self }
    }
}

impl Source for QueryData {
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        self.result = match std::mem::replace(&mut self.result, Rest::Nothing) {
            Rest::All(value) => begin(out, value),
            begun => begun,
        };
        let more = match &mut self.result {
            Rest::All(_) | Rest::Nothing => false,
            Rest::Vector(items) => write_vector(out, until, items),
            Rest::Matrix { items, open, times } => write_matrix(out, until, items, open, times),
        };
        if !more {
            self.result = Rest::Nothing;
            self.held = None;
            out.append(&mut self.rest);
        }
        more
    }
}

/// Writes what comes before the items of a result, all of it if there are none.
fn begin(out: &mut Vec<u8>, value: Value) -> Rest {
    out.extend_from_slice(b"{\"resultType\":\"");
    match value {
        // Upstream's general encoder writes these two, not the one of series.
        Value::Scalar(sample) => {
            out.extend_from_slice(b"scalar\",\"result\":[");
            write_seconds(out, sample.t);
            out.extend_from_slice(b",\"");
            append_f_into(sample.v, out);
            out.extend_from_slice(b"\"]");
            Rest::Nothing
        }
        Value::String { t, value } => {
            out.extend_from_slice(b"string\",\"result\":[");
            write_seconds(out, t);
            out.push(b',');
            write_escaped(out, &value);
            out.push(b']');
            Rest::Nothing
        }
        Value::Vector(samples) => {
            out.extend_from_slice(b"vector\",\"result\":[");
            Rest::Vector(samples.into_iter().enumerate())
        }
        Value::Matrix(series) => {
            out.extend_from_slice(b"matrix\",\"result\":[");
            Rest::Matrix { items: series.into_iter().enumerate(), open: None, times: Times::default() }
        }
    }
}

fn write_vector(out: &mut Vec<u8>, until: usize, items: &mut Items<VectorSample>) -> bool {
    while out.len() < until {
        let Some((i, sample)) = items.next() else {
            out.push(b']');
            return false;
        };
        out.extend_from_slice(if i > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
        write_labels(out, &sample.labels);
        match &sample.value {
            SampleValue::Float(v) => {
                out.extend_from_slice(b",\"value\":");
                write_point(out, sample.t, *v);
            }
            SampleValue::Histogram(histogram) => {
                out.extend_from_slice(b",\"histogram\":[");
                write_timestamp(out, sample.t);
                out.push(b',');
                write_histogram(out, histogram);
                out.push(b']');
            }
        }
        out.push(b'}');
    }
    true
}

fn write_matrix(
    out: &mut Vec<u8>,
    until: usize,
    items: &mut Items<MatrixSeries>,
    open: &mut Option<Box<Open>>,
    times: &mut Times,
) -> bool {
    while out.len() < until {
        if let Some(series) = open {
            if series.write_some(out, until, times) {
                return true;
            }
            *open = None;
            continue;
        }
        let Some((i, series)) = items.next() else {
            out.push(b']');
            return false;
        };
        out.extend_from_slice(if i > 0 { b",{\"metric\":" } else { b"{\"metric\":" });
        write_labels(out, &series.labels);
        times.rewind();
        *open = Some(Box::new(Open { samples: series.samples, floats: 0, histograms: 0 }));
    }
    true
}

/// A series whose labels are written, and how many of its samples are.
struct Open {
    samples: SampleBatch,
    floats: usize,
    histograms: usize,
}

impl Open {
    /// A series of histograms alone has no list of floats, one without anything has neither.
    fn write_some(&mut self, out: &mut Vec<u8>, until: usize, times: &mut Times) -> bool {
        let (ts, vs) = (&self.samples.ts[..], &self.samples.vs[..]);
        while let (Some(&t), Some(&v)) = (ts.get(self.floats), vs.get(self.floats)) {
            if out.len() >= until {
                return true;
            }
            out.extend_from_slice(if self.floats > 0 { b",[" } else { b",\"values\":[[" });
            times.write(out, t);
            write_point_value(out, v);
            self.floats += 1;
            if self.floats == ts.len() {
                out.push(b']');
                times.rewind();
            }
        }
        while let Some(sample) = self.samples.histograms.get(self.histograms) {
            if out.len() >= until {
                return true;
            }
            out.extend_from_slice(if self.histograms > 0 { b",[" } else { b",\"histograms\":[[" });
            times.write(out, sample.t);
            out.push(b',');
            match &sample.histogram {
                AnyHistogram::Int(histogram) => write_histogram(out, &histogram.to_float()),
                AnyHistogram::Float(histogram) => write_histogram(out, histogram),
            }
            out.push(b']');
            self.histograms += 1;
            if self.histograms == self.samples.histograms.len() {
                out.push(b']');
            }
        }
        out.push(b'}');
        false
    }
}

/// Totals and the buckets that hold something, each as `[which bounds belong to it, lower, upper, count]`.
///
/// Compat: prometheus `util/jsonutil`, `MarshalHistogram`.
fn write_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    let number = |out: &mut Vec<u8>, v: f64| {
        out.push(b'"');
        append_json_into(v, out);
        out.push(b'"');
    };
    out.extend_from_slice(b"{\"count\":");
    number(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    number(out, histogram.sum);
    let mut opening: &[u8] = b",\"buckets\":[";
    for (place, count) in histogram.buckets().filter(|(_, count)| *count != 0.0) {
        let interval = histogram.clipped_interval(place);
        out.extend_from_slice(std::mem::replace(&mut opening, b","));
        out.extend_from_slice(&[b'[', b'0' + interval.code(), b',']);
        number(out, interval.lower);
        out.push(b',');
        number(out, interval.upper);
        out.push(b',');
        number(out, count);
        out.push(b']');
    }
    if opening == b"," {
        out.push(b']');
    }
    out.push(b'}');
}

/// Appends the exemplars of one series.
pub fn write_exemplars(out: &mut Vec<u8>, found: &SeriesExemplars) {
    out.extend_from_slice(b"{\"seriesLabels\":");
    write_labels(out, &found.series);
    out.extend_from_slice(b",\"exemplars\":");
    write_list(out, &found.exemplars, |out, exemplar| {
        out.extend_from_slice(b"{\"labels\":");
        write_labels(out, &exemplar.labels);
        out.extend_from_slice(b",\"value\":\"");
        append_json_into(exemplar.v, out);
        out.extend_from_slice(b"\",\"timestamp\":");
        write_timestamp(out, exemplar.t);
        out.push(b'}');
    });
    out.push(b'}');
}

/// The texts of the times of a series: those of the next one are mostly the same.
#[derive(Default)]
struct Times {
    /// Each time and where its text ends, in the order in which they came.
    ends: Vec<(Timestamp, usize)>,
    text: Vec<u8>,
    next: usize,
}

/// The most times whose texts are kept: a range query has no more steps.
const TIMES_MAX: usize = 11_001;

impl Times {
    /// Another series begins.
    fn rewind(&mut self) {
        self.next = 0;
    }

    fn write(&mut self, out: &mut Vec<u8>, t: Timestamp) {
        while let Some(&(known, end)) = self.ends.get(self.next)
            && known <= t
        {
            self.next += 1;
            if known == t {
                let start = self.next.checked_sub(2).map_or(0, |before| self.ends[before].1);
                out.extend_from_slice(&self.text[start..end]);
                return;
            }
        }
        if self.next == self.ends.len() && self.ends.len() < TIMES_MAX {
            let start = self.text.len();
            write_timestamp(&mut self.text, t);
            self.ends.push((t, self.text.len()));
            self.next += 1;
            out.extend_from_slice(&self.text[start..]);
        } else {
            write_timestamp(out, t);
        }
    }
}

fn write_point(out: &mut Vec<u8>, t: Timestamp, v: f64) {
    out.push(b'[');
    write_timestamp(out, t);
    write_point_value(out, v);
}

/// What follows the time of a point.
fn write_point_value(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(b",\"");
    append_json_into(v, out);
    out.extend_from_slice(b"\"]");
}

/// Seconds as any float: `1.5`, where [`write_timestamp`] says `1.500`.
fn write_seconds(out: &mut Vec<u8>, t: Timestamp) {
    out.extend_from_slice((t as f64 / 1000.0).to_string().as_bytes());
}

/// Seconds, with exactly three decimals if the milliseconds are not zero.
pub(super) fn write_timestamp(out: &mut Vec<u8>, t: Timestamp) {
    if t < 0 {
        out.push(b'-');
    }
    let t = t.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(t / 1000).as_bytes());
    let millis = t % 1000;
    if millis != 0 {
        let digits = [millis / 100, millis / 10 % 10, millis % 10].map(|d| b'0' + d.to_le_bytes()[0]);
        out.push(b'.');
        out.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_the_same_whatever_series_came_before() {
        let mut times = Times::default();
        for series in [&[1000, 2500, 4000][..], &[2500, 5000], &[0, 1000, 1001, 4000, 9999], &[-1, 1000]] {
            let (mut kept, mut plain) = (Vec::new(), Vec::new());
            times.rewind();
            for &t in series {
                times.write(&mut kept, t);
                kept.push(b' ');
                write_timestamp(&mut plain, t);
                plain.push(b' ');
            }
            assert_eq!(kept, plain, "{series:?}");
        }
    }
}
