//! A family as an `io.prometheus.client.MetricFamily` message, and the four ways to write a message.
//!
//! The message is built once, as fields in the order of their declaration, which the texts follow; bytes follow their
//! numbers.
//!
//! Compat: `client_model` 0.6, `metrics.proto`; Go's `protodelim`, `prototext` and `protojson` (whose texts vary in blanks from
//! build to build on purpose; ours have one everywhere).

use std::borrow::Cow;
use std::io::Write as _;

use super::{Classic, Count, Escaping, Family, Kind, Metric, Native, Value};
use crate::Timestamp;
use crate::histogram::{BucketCount, Buckets, Span};
use crate::number::{append_g_into, append_json_into};

/// Number and name of a field.
type Id = (u32, &'static str);

struct Field<'a> {
    id: Id,
    data: Data<'a>,
}

enum Data<'a> {
    One(Node<'a>),
    /// Each element is written behind a tag of its own: nothing is packed in this schema.
    Repeated(Vec<Node<'a>>),
}

enum Node<'a> {
    Uint32(u32),
    Uint64(u64),
    Int64(i64),
    /// Number and name.
    Enum(u32, &'static str),
    Sint32(i32),
    Sint64(i64),
    Double(f64),
    Text(Cow<'a, [u8]>),
    Message(Message<'a>),
    /// `google.protobuf.Timestamp`, which is a text in JSON.
    Time(Timestamp),
}

type Message<'a> = Vec<Field<'a>>;

fn one<'a>(number: u32, name: &'static str, node: Node<'a>) -> Field<'a> {
    Field { id: (number, name), data: Data::One(node) }
}

fn repeated<'a>(number: u32, name: &'static str, nodes: impl Iterator<Item = Node<'a>>) -> Field<'a> {
    Field { id: (number, name), data: Data::Repeated(nodes.collect()) }
}

/// Everything of a family but its metrics.
fn head_of<'a>(family: &'a Family<'_>, escaping: Escaping) -> Message<'a> {
    let (number, name) = match family.kind {
        Kind::Counter => (0, "COUNTER"),
        Kind::Gauge => (1, "GAUGE"),
        Kind::Summary => (2, "SUMMARY"),
        Kind::Untyped => (3, "UNTYPED"),
        Kind::Histogram => (4, "HISTOGRAM"),
        Kind::GaugeHistogram => (5, "GAUGE_HISTOGRAM"),
    };
    let mut message = vec![one(1, "name", Node::Text(escaping.apply(&family.name)))];
    if let Some(help) = &family.help {
        message.push(one(2, "help", Node::Text(Cow::Borrowed(help))));
    }
    message.push(one(3, "type", Node::Enum(number, name)));
    message
}

fn message_of<'a>(family: &'a Family<'_>, escaping: Escaping) -> Message<'a> {
    let mut message = head_of(family, escaping);
    let metrics = family.metrics.iter().map(|m| Node::Message(metric(m, family.kind, escaping)));
    message.push(repeated(4, "metric", metrics));
    message
}

fn metric<'a>(metric: &'a Metric<'_>, kind: Kind, escaping: Escaping) -> Message<'a> {
    let labels = metric.labels.iter().map(|(name, value)| {
        Node::Message(vec![
            one(1, "name", Node::Text(escaping.apply(name))),
            one(2, "value", Node::Text(Cow::Borrowed(value))),
        ])
    });
    let mut message = vec![repeated(1, "label", labels)];
    let created = metric.created;
    message.push(match (&metric.value, kind) {
        (Value::Number(v), Kind::Counter) => {
            let mut counter = vec![one(1, "value", Node::Double(*v))];
            counter.extend(created.map(|t| one(3, "created_timestamp", Node::Time(t))));
            one(3, "counter", Node::Message(counter))
        }
        (Value::Number(v), Kind::Gauge) => number(2, "gauge", *v),
        (Value::Number(v), _) => number(5, "untyped", *v),
        (Value::Summary(summary), _) => {
            let quantiles = summary.quantiles.iter().map(|&(quantile, v)| {
                Node::Message(vec![
                    one(1, "quantile", Node::Double(quantile)),
                    one(2, "value", Node::Double(v)),
                ])
            });
            let mut fields = vec![
                one(1, "sample_count", Node::Uint64(summary.count)),
                one(2, "sample_sum", Node::Double(summary.sum)),
                repeated(3, "quantile", quantiles),
            ];
            fields.extend(created.map(|t| one(4, "created_timestamp", Node::Time(t))));
            one(4, "summary", Node::Message(fields))
        }
        (Value::Classic(histogram), _) => one(7, "histogram", Node::Message(classic(histogram, created))),
        (Value::Native(Native::Int(h)), _) => one(7, "histogram", Node::Message(native(&**h, created))),
        (Value::Native(Native::Float(h)), _) => one(7, "histogram", Node::Message(native(&**h, created))),
    });
    message.extend(metric.timestamp.map(|t| one(6, "timestamp_ms", Node::Int64(t))));
    message
}

fn number<'a>(field: u32, name: &'static str, v: f64) -> Field<'a> {
    one(field, name, Node::Message(vec![one(1, "value", Node::Double(v))]))
}

/// A count in the field that it belongs to.
fn count<'a>(count: Count, int: Id, float: Id) -> Field<'a> {
    match count {
        Count::Int(n) => Field { id: int, data: Data::One(Node::Uint64(n)) },
        Count::Float(v) => Field { id: float, data: Data::One(Node::Double(v)) },
    }
}

const SAMPLE_COUNT: [Id; 2] = [(1, "sample_count"), (4, "sample_count_float")];
const CUMULATIVE_COUNT: [Id; 2] = [(1, "cumulative_count"), (4, "cumulative_count_float")];
const ZERO_COUNT: [Id; 2] = [(7, "zero_count"), (8, "zero_count_float")];

fn classic<'a>(histogram: &Classic, created: Option<Timestamp>) -> Message<'a> {
    let buckets = histogram.buckets.iter().map(|&(bound, n)| {
        let [int, float] = CUMULATIVE_COUNT;
        Node::Message(vec![count(n, int, float), one(2, "upper_bound", Node::Double(bound))])
    });
    let [int, float] = SAMPLE_COUNT;
    let mut message = vec![
        count(histogram.count, int, float),
        one(2, "sample_sum", Node::Double(histogram.sum)),
        repeated(3, "bucket", buckets),
    ];
    message.extend(created.map(|t| one(15, "created_timestamp", Node::Time(t))));
    message
}

/// What differs between histograms of integers and of floats.
trait Kept: BucketCount {
    type Total: Copy;
    /// The fields of the buckets of the negative and of the positive side.
    const SIDES: [Id; 2];
    fn total(total: Self::Total) -> Count;
    fn node<'a>(self) -> Node<'a>;
}

impl Kept for i64 {
    type Total = u64;
    const SIDES: [Id; 2] = [(10, "negative_delta"), (13, "positive_delta")];

    fn total(total: u64) -> Count {
        Count::Int(total)
    }

    fn node<'a>(self) -> Node<'a> {
        Node::Sint64(self)
    }
}

impl Kept for f64 {
    type Total = f64;
    const SIDES: [Id; 2] = [(11, "negative_count"), (14, "positive_count")];

    fn total(total: f64) -> Count {
        Count::Float(total)
    }

    fn node<'a>(self) -> Node<'a> {
        Node::Double(self)
    }
}

fn native<'a, B: Kept>(histogram: &Buckets<B::Total, B>, created: Option<Timestamp>) -> Message<'a> {
    let [int, float] = SAMPLE_COUNT;
    let [zero_int, zero_float] = ZERO_COUNT;
    let [negative, positive] = B::SIDES;
    let mut message =
        vec![count(B::total(histogram.count), int, float), one(2, "sample_sum", Node::Double(histogram.sum))];
    message.extend(created.map(|t| one(15, "created_timestamp", Node::Time(t))));
    message.extend([
        one(5, "schema", Node::Sint32(histogram.schema)),
        one(6, "zero_threshold", Node::Double(histogram.zero_threshold)),
        count(B::total(histogram.zero_count), zero_int, zero_float),
        repeated(9, "negative_span", spans(&histogram.negative_spans)),
        repeated(negative.0, negative.1, histogram.negative_buckets.iter().map(|b| b.node())),
        repeated(12, "positive_span", spans(&histogram.positive_spans)),
        repeated(positive.0, positive.1, histogram.positive_buckets.iter().map(|b| b.node())),
    ]);
    message
}

fn spans<'a>(spans: &[Span]) -> impl Iterator<Item = Node<'a>> {
    spans.iter().map(|span| {
        Node::Message(vec![
            one(1, "offset", Node::Sint32(span.offset)),
            one(2, "length", Node::Uint32(span.length)),
        ])
    })
}

/// Whole seconds, downwards, and the nanoseconds since.
fn seconds_and_nanos(t: Timestamp) -> (i64, i64) {
    (t.div_euclid(1000), t.rem_euclid(1000) * 1_000_000)
}

/// A `google.protobuf.Timestamp`, whose schema leaves zeros out.
fn time<'a>(t: Timestamp) -> Message<'a> {
    let (seconds, nanos) = seconds_and_nanos(t);
    let fields = [(1, "seconds", seconds), (2, "nanos", nanos)];
    fields
        .into_iter()
        .filter(|f| f.2 != 0)
        .map(|(number, name, v)| one(number, name, Node::Int64(v)))
        .collect()
}

/// Appends the message behind its length.
pub(super) fn write_delimited(out: &mut Vec<u8>, family: &Family<'_>, escaping: Escaping) {
    let mut body = Vec::new();
    bytes(&mut body, &head_of(family, escaping));
    // One metric after the other: a family may be of a million.
    for m in &family.metrics {
        field_bytes(&mut body, 4, &Node::Message(metric(m, family.kind, escaping)));
    }
    varint(out, body.len() as u64);
    out.append(&mut body);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

/// What keeps small negative numbers short.
const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

fn bytes(out: &mut Vec<u8>, message: &Message<'_>) {
    let mut fields: Vec<&Field<'_>> = message.iter().collect();
    fields.sort_by_key(|field| field.id.0);
    for Field { id: (number, _), data } in fields {
        match data {
            Data::One(node) => field_bytes(out, *number, node),
            Data::Repeated(nodes) => nodes.iter().for_each(|node| field_bytes(out, *number, node)),
        }
    }
}

/// Tag and value.
fn field_bytes(out: &mut Vec<u8>, number: u32, node: &Node<'_>) {
    const VARINT: u32 = 0;
    const FIXED64: u32 = 1;
    const LENGTH: u32 = 2;
    let mut tag = |wire: u32| varint(out, u64::from(number << 3 | wire));
    match node {
        Node::Uint32(v) | Node::Enum(v, _) => {
            tag(VARINT);
            varint(out, u64::from(*v));
        }
        Node::Uint64(v) => {
            tag(VARINT);
            varint(out, *v);
        }
        Node::Int64(v) => {
            tag(VARINT);
            varint(out, v.cast_unsigned());
        }
        Node::Sint32(v) => {
            tag(VARINT);
            varint(out, zigzag(i64::from(*v)));
        }
        Node::Sint64(v) => {
            tag(VARINT);
            varint(out, zigzag(*v));
        }
        Node::Double(v) => {
            tag(FIXED64);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        Node::Text(text) => {
            tag(LENGTH);
            varint(out, text.len() as u64);
            out.extend_from_slice(text);
        }
        Node::Message(message) => {
            tag(LENGTH);
            behind_length(out, |out| bytes(out, message));
        }
        Node::Time(t) => {
            tag(LENGTH);
            behind_length(out, |out| bytes(out, &time(*t)));
        }
    }
}

fn behind_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let mut length = Vec::with_capacity(5);
    varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}

/// Appends the message as text, of one line or of many, and a line feed.
pub(super) fn write_text(out: &mut Vec<u8>, family: &Family<'_>, escaping: Escaping, many_lines: bool) {
    text_fields(out, &message_of(family, escaping), many_lines.then_some(0));
    out.push(b'\n');
}

/// `indent` if each field has a line of its own.
fn text_fields(out: &mut Vec<u8>, message: &Message<'_>, indent: Option<usize>) {
    let mut is_first = true;
    for Field { id: (_, name), data } in message {
        let nodes = match data {
            Data::One(node) => std::slice::from_ref(node),
            Data::Repeated(nodes) => nodes,
        };
        for node in nodes {
            match indent {
                Some(indent) => {
                    if !is_first {
                        out.push(b'\n');
                    }
                    out.resize(out.len() + indent, b' ');
                }
                None if is_first => {}
                None => out.push(b' '),
            }
            is_first = false;
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(if indent.is_some() { b": " } else { b":" });
            text_node(out, node, indent);
        }
    }
}

fn text_node(out: &mut Vec<u8>, node: &Node<'_>, indent: Option<usize>) {
    let message = match node {
        Node::Message(message) => message,
        Node::Time(t) => return text_message(out, &time(*t), indent),
        Node::Uint32(v) => return decimal(out, *v),
        Node::Uint64(v) => return decimal(out, *v),
        Node::Int64(v) | Node::Sint64(v) => return decimal(out, *v),
        Node::Sint32(v) => return decimal(out, *v),
        Node::Enum(_, name) => return out.extend_from_slice(name.as_bytes()),
        Node::Double(v) if v.is_nan() => return out.extend_from_slice(b"nan"),
        Node::Double(v) if v.is_infinite() => {
            return out.extend_from_slice(if *v > 0.0 { b"inf" } else { b"-inf" });
        }
        Node::Double(v) => return append_g_into(*v, out),
        Node::Text(text) => return quoted(out, text),
    };
    text_message(out, message, indent);
}

fn text_message(out: &mut Vec<u8>, message: &Message<'_>, indent: Option<usize>) {
    let is_empty = message.iter().all(|f| matches!(&f.data, Data::Repeated(nodes) if nodes.is_empty()));
    out.push(b'{');
    if let Some(indent) = indent.filter(|_| !is_empty) {
        out.push(b'\n');
        text_fields(out, message, Some(indent + 2));
        out.push(b'\n');
        out.resize(out.len() + indent, b' ');
    } else {
        text_fields(out, message, None);
    }
    out.push(b'}');
}

fn decimal(out: &mut Vec<u8>, v: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(v).as_bytes());
}

/// A string of the text form: control characters and bytes that are not UTF-8 by their number.
fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..' ' | '\x7f' => formatted(out, format_args!("\\x{:02x}", u32::from(c))),
                '\u{80}'..='\u{9f}' => formatted(out, format_args!("\\u{:04x}", u32::from(c))),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for b in chunk.invalid() {
            formatted(out, format_args!("\\x{b:02x}"));
        }
    }
    out.push(b'"');
}

fn formatted(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector does not fail");
}

/// Appends the message as JSON.
pub(super) fn write_json(out: &mut Vec<u8>, family: &Family<'_>) {
    json_message(out, &message_of(family, Escaping::AllowUtf8));
}

fn json_message(out: &mut Vec<u8>, message: &Message<'_>) {
    let mut separator = b'{';
    for Field { id: (_, name), data } in message {
        if matches!(data, Data::Repeated(nodes) if nodes.is_empty()) {
            continue;
        }
        out.push(std::mem::replace(&mut separator, b','));
        out.push(b'"');
        camel_case(out, name);
        out.extend_from_slice(b"\":");
        match data {
            Data::One(node) => json_node(out, node),
            Data::Repeated(nodes) => {
                let mut separator = b'[';
                for node in nodes {
                    out.push(std::mem::replace(&mut separator, b','));
                    json_node(out, node);
                }
                out.push(b']');
            }
        }
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

fn camel_case(out: &mut Vec<u8>, name: &str) {
    let mut is_start = false;
    for b in name.bytes() {
        match b {
            b'_' => is_start = true,
            b => out.push(if std::mem::take(&mut is_start) { b.to_ascii_uppercase() } else { b }),
        }
    }
}

fn json_node(out: &mut Vec<u8>, node: &Node<'_>) {
    match node {
        Node::Uint32(v) => decimal(out, *v),
        Node::Sint32(v) => decimal(out, *v),
        // Readers of JSON keep numbers of 64 bits as floats.
        Node::Uint64(v) => formatted(out, format_args!("\"{v}\"")),
        Node::Int64(v) | Node::Sint64(v) => formatted(out, format_args!("\"{v}\"")),
        Node::Enum(_, name) => formatted(out, format_args!("\"{name}\"")),
        Node::Double(v) if v.is_nan() => out.extend_from_slice(b"\"NaN\""),
        Node::Double(v) if v.is_infinite() => {
            out.extend_from_slice(if *v > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
        }
        Node::Double(v) => {
            append_json_into(*v, out);
            // 1e-9, not 1e-09.
            if let [.., b'e', b'-', zero @ b'0', last] = out.as_mut_slice() {
                *zero = *last;
                out.pop();
            }
        }
        Node::Text(text) => json_text(out, &String::from_utf8_lossy(text)),
        Node::Message(message) => json_message(out, message),
        Node::Time(t) => json_time(out, *t),
    }
}

fn json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..' ' => formatted(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// RFC 3339 in UTC, with milliseconds if there are any.
fn json_time(out: &mut Vec<u8>, t: Timestamp) {
    let (seconds, nanos) = seconds_and_nanos(t);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let [hour, minute, second] = [second / 3600, second / 60 % 60, second % 60];
    formatted(out, format_args!("\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
    if nanos != 0 {
        formatted(out, format_args!(".{:03}", nanos / 1_000_000));
    }
    out.extend_from_slice(b"Z\"");
}

/// Year, month and day so many days after 1970-01-01. Years begin in March here, so that the day that comes and goes
/// is their last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (year + era * 400, month + 3) } else { (year + era * 400 + 1, month - 9) };
    (year, month, day)
}
