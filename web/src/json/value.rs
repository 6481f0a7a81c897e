//! Query results.
//!
//! Compat: prometheus `web/api/v1/json_codec.go`.

use model::exemplar::SeriesExemplars;
use model::number::{append_f_into, append_json_into};
use model::{AnyHistogram, FloatHistogram, Timestamp};
use promql::{SampleValue, Value};

use super::{write_escaped, write_labels, write_list};

/// Appends `"resultType":…,"result":…`, the inside of a query's data.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    let kind = match value {
        Value::Scalar(_) => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    out.extend_from_slice(b"\"resultType\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"result\":");
    match value {
        // Upstream's general encoder writes these two, not the one of series.
        Value::Scalar(sample) => {
            out.push(b'[');
            write_seconds(out, sample.t);
            out.extend_from_slice(b",\"");
            append_f_into(sample.v, out);
            out.extend_from_slice(b"\"]");
        }
        Value::String { t, value } => {
            out.push(b'[');
            write_seconds(out, *t);
            out.push(b',');
            write_escaped(out, value);
            out.push(b']');
        }
        Value::Vector(samples) => write_list(out, samples, |out, sample| {
            out.extend_from_slice(b"{\"metric\":");
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
        }),
        Value::Matrix(series) => {
            let mut times = Times::default();
            write_list(out, series, |out, series| {
                out.extend_from_slice(b"{\"metric\":");
                write_labels(out, &series.labels);
                // A series of histograms alone has no list of floats, one without anything has neither.
                if !series.samples.is_empty() {
                    out.extend_from_slice(b",\"values\":");
                    times.rewind();
                    write_list(out, series.samples.iter(), |out, sample| {
                        out.push(b'[');
                        times.write(out, sample.t);
                        write_point_value(out, sample.v);
                    });
                }
                if !series.samples.histograms.is_empty() {
                    out.extend_from_slice(b",\"histograms\":");
                    times.rewind();
                    write_list(out, &series.samples.histograms, |out, sample| {
                        out.push(b'[');
                        times.write(out, sample.t);
                        out.push(b',');
                        match &sample.histogram {
                            AnyHistogram::Int(histogram) => write_histogram(out, &histogram.to_float()),
                            AnyHistogram::Float(histogram) => write_histogram(out, histogram),
                        }
                        out.push(b']');
                    });
                }
                out.push(b'}');
            });
        }
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
