//! Query results.
//!
//! Compat: prometheus `web/api/v1/json_codec.go`.

use model::Timestamp;
use model::exemplar::SeriesExemplars;
use model::number::{append_f_into, append_json_into};
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
            write_timestamp(out, sample.t);
            out.extend_from_slice(b",\"");
            append_f_into(sample.v, out);
            out.extend_from_slice(b"\"]");
        }
        Value::String { t, value } => {
            out.push(b'[');
            write_timestamp(out, *t);
            out.push(b',');
            write_escaped(out, value);
            out.push(b']');
        }
        Value::Vector(samples) => write_list(out, samples, |out, sample| {
            out.extend_from_slice(b"{\"metric\":");
            write_labels(out, &sample.labels);
            if let SampleValue::Float(v) = sample.value {
                out.extend_from_slice(b",\"value\":");
                write_point(out, sample.t, v);
            }
            out.push(b'}');
        }),
        Value::Matrix(series) => write_list(out, series, |out, series| {
            out.extend_from_slice(b"{\"metric\":");
            write_labels(out, &series.labels);
            out.extend_from_slice(b",\"values\":");
            write_list(out, series.samples.iter(), |out, sample| write_point(out, sample.t, sample.v));
            out.push(b'}');
        }),
    }
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

fn write_point(out: &mut Vec<u8>, t: Timestamp, v: f64) {
    out.push(b'[');
    write_timestamp(out, t);
    out.extend_from_slice(b",\"");
    append_json_into(v, out);
    out.extend_from_slice(b"\"]");
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
        out.extend_from_slice(format!(".{millis:03}").as_bytes());
    }
}
