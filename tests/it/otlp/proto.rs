//! Requests in JSON written as protobuf.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// How a field is written.
#[derive(Clone, Copy)]
enum Form {
    Message(&'static str),
    Text,
    Base64,
    Hex,
    Bool,
    /// As many bytes as it needs.
    Int,
    Zigzag,
    Fixed,
    Double,
    Enum,
    PackedInts,
    PackedFixed,
    PackedDoubles,
}

use Form::{
    Base64, Bool, Double, Enum, Fixed, Hex, Int, Message, PackedDoubles, PackedFixed, PackedInts, Text,
    Zigzag,
};

fn fields(message: &str) -> &'static [(&'static str, u64, Form)] {
    match message {
        "Request" => &[("resourceMetrics", 1, Message("ResourceMetrics"))],
        "ResourceMetrics" => &[
            ("resource", 1, Message("Resource")),
            ("scopeMetrics", 2, Message("ScopeMetrics")),
            ("schemaUrl", 3, Text),
        ],
        "Resource" => &[("attributes", 1, Message("KeyValue"))],
        "ScopeMetrics" => {
            &[("scope", 1, Message("Scope")), ("metrics", 2, Message("Metric")), ("schemaUrl", 3, Text)]
        }
        "Scope" => &[("name", 1, Text), ("version", 2, Text), ("attributes", 3, Message("KeyValue"))],
        "Metric" => &[
            ("name", 1, Text),
            ("description", 2, Text),
            ("unit", 3, Text),
            ("gauge", 5, Message("Numbers")),
            ("sum", 7, Message("Numbers")),
            ("histogram", 9, Message("Histograms")),
            ("exponentialHistogram", 10, Message("Exponentials")),
            ("summary", 11, Message("Summaries")),
        ],
        "Numbers" => &[
            ("dataPoints", 1, Message("Number")),
            ("aggregationTemporality", 2, Enum),
            ("isMonotonic", 3, Bool),
        ],
        "Histograms" => &[("dataPoints", 1, Message("Histogram")), ("aggregationTemporality", 2, Enum)],
        "Exponentials" => &[("dataPoints", 1, Message("Exponential")), ("aggregationTemporality", 2, Enum)],
        "Summaries" => &[("dataPoints", 1, Message("Summary"))],
        "Number" => &[
            ("startTimeUnixNano", 2, Fixed),
            ("timeUnixNano", 3, Fixed),
            ("asDouble", 4, Double),
            ("exemplars", 5, Message("Exemplar")),
            ("asInt", 6, Fixed),
            ("attributes", 7, Message("KeyValue")),
            ("flags", 8, Int),
        ],
        "Histogram" => &[
            ("startTimeUnixNano", 2, Fixed),
            ("timeUnixNano", 3, Fixed),
            ("count", 4, Fixed),
            ("sum", 5, Double),
            ("bucketCounts", 6, PackedFixed),
            ("explicitBounds", 7, PackedDoubles),
            ("exemplars", 8, Message("Exemplar")),
            ("attributes", 9, Message("KeyValue")),
            ("flags", 10, Int),
        ],
        "Exponential" => &[
            ("attributes", 1, Message("KeyValue")),
            ("startTimeUnixNano", 2, Fixed),
            ("timeUnixNano", 3, Fixed),
            ("count", 4, Fixed),
            ("sum", 5, Double),
            ("scale", 6, Zigzag),
            ("zeroCount", 7, Fixed),
            ("positive", 8, Message("Buckets")),
            ("negative", 9, Message("Buckets")),
            ("flags", 10, Int),
            ("exemplars", 11, Message("Exemplar")),
            ("zeroThreshold", 14, Double),
        ],
        "Buckets" => &[("offset", 1, Zigzag), ("bucketCounts", 2, PackedInts)],
        "Summary" => &[
            ("startTimeUnixNano", 2, Fixed),
            ("timeUnixNano", 3, Fixed),
            ("count", 4, Fixed),
            ("sum", 5, Double),
            ("quantileValues", 6, Message("Quantile")),
            ("attributes", 7, Message("KeyValue")),
            ("flags", 8, Int),
        ],
        "Quantile" => &[("quantile", 1, Double), ("value", 2, Double)],
        "Exemplar" => &[
            ("timeUnixNano", 2, Fixed),
            ("asDouble", 3, Double),
            ("spanId", 4, Hex),
            ("traceId", 5, Hex),
            ("asInt", 6, Fixed),
            ("filteredAttributes", 7, Message("KeyValue")),
        ],
        "KeyValue" => &[("key", 1, Text), ("value", 2, Message("Any"))],
        "Any" => &[
            ("stringValue", 1, Text),
            ("boolValue", 2, Bool),
            ("intValue", 3, Int),
            ("doubleValue", 4, Double),
            ("arrayValue", 5, Message("Array")),
            ("kvlistValue", 6, Message("Pairs")),
            ("bytesValue", 7, Base64),
        ],
        "Array" => &[("values", 1, Message("Any"))],
        "Pairs" => &[("values", 1, Message("KeyValue"))],
        other => panic!("no message {other}"),
    }
}

/// The bytes of a request.
pub(super) fn encode(request: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, "Request", request);
    out
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn delimited(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn int(value: &Value) -> i64 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse::<i64>().unwrap_or_else(|_| text.parse::<u64>().unwrap().cast_signed())
}

fn double(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn message(out: &mut Vec<u8>, name: &str, value: &Value) {
    let object = value.as_object().unwrap();
    for (field, value) in object {
        let Some((_, number, form)) = fields(name).iter().find(|(known, ..)| known == field) else {
            panic!("{name} has no {field}");
        };
        let packed = matches!(form, PackedInts | PackedFixed | PackedDoubles);
        let one = [value.clone()];
        let values = if packed { &one } else { value.as_array().map_or(&one[..], Vec::as_slice) };
        for value in values {
            one_field(out, *number, *form, value);
        }
    }
}

fn one_field(out: &mut Vec<u8>, number: u64, form: Form, value: &Value) {
    let wire = match form {
        Bool | Int | Zigzag | Enum => 0,
        Fixed | Double => 1,
        _ => 2,
    };
    varint(out, number << 3 | wire);
    let list = || value.as_array().unwrap().iter();
    let mut inner = Vec::new();
    match form {
        Message(name) => {
            message(&mut inner, name, value);
            delimited(out, &inner);
        }
        Text => delimited(out, value.as_str().unwrap().as_bytes()),
        Base64 => delimited(out, &STANDARD.decode(value.as_str().unwrap()).unwrap()),
        Hex => {
            let text = value.as_str().unwrap();
            let bytes =
                (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap());
            delimited(out, &bytes.collect::<Vec<u8>>());
        }
        Bool => varint(out, u64::from(value.as_bool().unwrap())),
        Int => varint(out, int(value).cast_unsigned()),
        Zigzag => {
            let v = int(value);
            varint(out, ((v << 1) ^ (v >> 63)).cast_unsigned());
        }
        Fixed => out.extend_from_slice(&int(value).to_le_bytes()),
        Double => out.extend_from_slice(&double(value).to_le_bytes()),
        Enum => {
            let v = match value.as_str() {
                Some("AGGREGATION_TEMPORALITY_DELTA") => 1,
                Some("AGGREGATION_TEMPORALITY_CUMULATIVE") => 2,
                Some(_) => 0,
                None => value.as_u64().unwrap(),
            };
            varint(out, v);
        }
        PackedInts => {
            list().for_each(|value| varint(&mut inner, int(value).cast_unsigned()));
            delimited(out, &inner);
        }
        PackedFixed => {
            list().for_each(|value| inner.extend_from_slice(&int(value).to_le_bytes()));
            delimited(out, &inner);
        }
        PackedDoubles => {
            list().for_each(|value| inner.extend_from_slice(&double(value).to_le_bytes()));
            delimited(out, &inner);
        }
    }
}
