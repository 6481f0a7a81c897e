//! Decoding from JSON: protobuf's mapping, with hexadecimal ids.
//!
//! Names are taken in both spellings (`timeUnixNano`, `time_unix_nano`), whole numbers as numbers or texts, fractions
//! also as `"NaN"` and `"Infinity"`. What is not known is passed over. Numbers become the nearest float, to the last
//! bit, which general readers of JSON do not promise.
//!
//! Compat: opentelemetry-collector `pdata`, `UnmarshalJSON`; text behind the request is refused, where upstream passes
//! over it.

mod reader;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use self::reader::Bad;
use self::reader::{Read, Reader};
use super::{
    AnyValue, BUCKETS_MAX, DECODED_BYTES_MAX, Data, Error, Exemplar, ExponentialPoint, Head, HistogramPoint,
    KeyValue, Metric, Number, NumberPoint, Request, ResourceMetrics, Scope, ScopeMetrics, Side, SummaryPoint,
    Temporality,
};

/// Decodes a request.
///
/// # Errors
/// The body is not JSON, a value is of a wrong type, or there is too much of it.
pub fn from_json(body: &[u8]) -> Result<Request<'_>, Error> {
    let mut reader = Reader::new(body, DECODED_BYTES_MAX);
    let mut request = Request::default();
    reader.object(|reader, name| match name {
        "resourceMetrics" | "resource_metrics" => reader.list(&mut request.resources, resource),
        _ => reader.skip(),
    })?;
    reader.end()?;
    Ok(request)
}

fn resource<'a>(reader: &mut Reader<'a>) -> Read<ResourceMetrics<'a>> {
    let mut out = ResourceMetrics::default();
    reader.object(|reader, name| match name {
        "resource" => reader.object(|reader, name| match name {
            "attributes" => reader.list(&mut out.attributes, key_value),
            _ => reader.skip(),
        }),
        "scopeMetrics" | "scope_metrics" => reader.list(&mut out.scopes, scope),
        _ => reader.skip(),
    })?;
    Ok(out)
}

fn scope<'a>(reader: &mut Reader<'a>) -> Read<ScopeMetrics<'a>> {
    let mut out = ScopeMetrics::default();
    reader.object(|reader, name| match name {
        "scope" => {
            let Scope { name: scope_name, version, attributes } = &mut out.scope;
            reader.object(|reader, name| match name {
                "name" => set(scope_name, reader.text()),
                "version" => set(version, reader.text()),
                "attributes" => reader.list(attributes, key_value),
                _ => reader.skip(),
            })
        }
        "metrics" => reader.list(&mut out.metrics, metric),
        "schemaUrl" | "schema_url" => set(&mut out.schema_url, reader.text()),
        _ => reader.skip(),
    })?;
    Ok(out)
}

fn metric<'a>(reader: &mut Reader<'a>) -> Read<Metric<'a>> {
    let mut out = Metric::default();
    reader.object(|reader, name| match name {
        "name" => set(&mut out.name, reader.text()),
        "description" => set(&mut out.description, reader.text()),
        "unit" => set(&mut out.unit, reader.text()),
        "gauge" => {
            let (points, _) = points(reader, number)?;
            set(&mut out.data, Ok(Data::Gauge(points)))
        }
        "sum" => {
            let (points, Rest { temporality, is_monotonic }) = points(reader, number)?;
            set(&mut out.data, Ok(Data::Sum { points, temporality, is_monotonic }))
        }
        "histogram" => {
            let (points, rest) = points(reader, histogram)?;
            set(&mut out.data, Ok(Data::Histogram { points, temporality: rest.temporality }))
        }
        "exponentialHistogram" | "exponential_histogram" => {
            let (points, rest) = points(reader, exponential)?;
            set(&mut out.data, Ok(Data::Exponential { points, temporality: rest.temporality }))
        }
        "summary" => {
            let (points, _) = points(reader, summary)?;
            set(&mut out.data, Ok(Data::Summary(points)))
        }
        _ => reader.skip(),
    })?;
    Ok(out)
}

/// What is said of all points of a metric.
#[derive(Default)]
struct Rest {
    temporality: Temporality,
    is_monotonic: bool,
}

fn points<'a, T>(reader: &mut Reader<'a>, read: impl Fn(&mut Reader<'a>) -> Read<T>) -> Read<(Vec<T>, Rest)> {
    let (mut points, mut rest) = (Vec::new(), Rest::default());
    reader.object(|reader, name| match name {
        "dataPoints" | "data_points" => reader.list(&mut points, &read),
        "aggregationTemporality" | "aggregation_temporality" => {
            set(&mut rest.temporality, temporality(reader))
        }
        "isMonotonic" | "is_monotonic" => set(&mut rest.is_monotonic, reader.boolean()),
        _ => reader.skip(),
    })?;
    Ok((points, rest))
}

fn temporality(reader: &mut Reader<'_>) -> Read<Temporality> {
    if !reader.is_at_text() {
        return reader.whole().map(Temporality::of);
    }
    match &*reader.text()? {
        "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(Temporality::Unspecified),
        "AGGREGATION_TEMPORALITY_DELTA" => Ok(Temporality::Delta),
        "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(Temporality::Cumulative),
        _ => Err(reader.bad("the name of an aggregation temporality")),
    }
}

/// A field that every kind of point has, or one that is not known.
fn head<'a>(reader: &mut Reader<'a>, name: &str, head: &mut Head<'a>) -> Read<()> {
    match name {
        "attributes" => reader.list(&mut head.attributes, key_value),
        "startTimeUnixNano" | "start_time_unix_nano" => set(&mut head.start, reader.whole()),
        "timeUnixNano" | "time_unix_nano" => set(&mut head.time, reader.whole()),
        "flags" => set(&mut head.flags, reader.whole()),
        _ => reader.skip(),
    }
}

fn number<'a>(reader: &mut Reader<'a>) -> Read<NumberPoint<'a>> {
    let mut out = NumberPoint::default();
    reader.object(|reader, name| match name {
        "asDouble" | "as_double" => set(&mut out.value, reader.fraction().map(|v| Some(Number::Double(v)))),
        "asInt" | "as_int" => set(&mut out.value, reader.whole().map(|v| Some(Number::Int(v)))),
        "exemplars" => reader.list(&mut out.exemplars, exemplar),
        _ => head(reader, name, &mut out.head),
    })?;
    Ok(out)
}

fn histogram<'a>(reader: &mut Reader<'a>) -> Read<HistogramPoint<'a>> {
    let mut out = HistogramPoint::default();
    reader.object(|reader, name| match name {
        "count" => set(&mut out.count, reader.whole()),
        "sum" => set(&mut out.sum, reader.fraction().map(Some)),
        "bucketCounts" | "bucket_counts" => buckets(reader, &mut out.counts, Reader::whole),
        "explicitBounds" | "explicit_bounds" => buckets(reader, &mut out.bounds, Reader::fraction),
        "exemplars" => reader.list(&mut out.exemplars, exemplar),
        _ => head(reader, name, &mut out.head),
    })?;
    Ok(out)
}

fn exponential<'a>(reader: &mut Reader<'a>) -> Read<ExponentialPoint<'a>> {
    let mut out = ExponentialPoint::default();
    reader.object(|reader, name| match name {
        "count" => set(&mut out.count, reader.whole()),
        "sum" => set(&mut out.sum, reader.fraction().map(Some)),
        "scale" => set(&mut out.scale, reader.whole()),
        "zeroCount" | "zero_count" => set(&mut out.zero_count, reader.whole()),
        "zeroThreshold" | "zero_threshold" => set(&mut out.zero_threshold, reader.fraction()),
        "positive" => side(reader, &mut out.positive),
        "negative" => side(reader, &mut out.negative),
        "exemplars" => reader.list(&mut out.exemplars, exemplar),
        _ => head(reader, name, &mut out.head),
    })?;
    Ok(out)
}

fn side(reader: &mut Reader<'_>, side: &mut Side) -> Read<()> {
    reader.object(|reader, name| match name {
        "offset" => set(&mut side.offset, reader.whole()),
        "bucketCounts" | "bucket_counts" => buckets(reader, &mut side.counts, Reader::whole),
        _ => reader.skip(),
    })
}

/// Numbers of buckets, of which there is an end.
fn buckets<'a, T>(
    reader: &mut Reader<'a>,
    list: &mut Vec<T>,
    read: impl Fn(&mut Reader<'a>) -> Read<T>,
) -> Read<()> {
    const { assert!(BUCKETS_MAX == 65_536, "as the text says") };
    reader.list_up_to(BUCKETS_MAX, "no more than 65536 buckets on a side of a histogram", list, read)
}

fn summary<'a>(reader: &mut Reader<'a>) -> Read<SummaryPoint<'a>> {
    let mut out = SummaryPoint::default();
    reader.object(|reader, name| match name {
        "count" => set(&mut out.count, reader.whole()),
        "sum" => set(&mut out.sum, reader.fraction()),
        "quantileValues" | "quantile_values" => reader.list(&mut out.quantiles, quantile),
        _ => head(reader, name, &mut out.head),
    })?;
    Ok(out)
}

fn quantile(reader: &mut Reader<'_>) -> Read<(f64, f64)> {
    let (mut quantile, mut value) = (0.0, 0.0);
    reader.object(|reader, name| match name {
        "quantile" => set(&mut quantile, reader.fraction()),
        "value" => set(&mut value, reader.fraction()),
        _ => reader.skip(),
    })?;
    Ok((quantile, value))
}

fn exemplar<'a>(reader: &mut Reader<'a>) -> Read<Exemplar<'a>> {
    let mut out = Exemplar::default();
    reader.object(|reader, name| match name {
        "filteredAttributes" | "filtered_attributes" => reader.list(&mut out.attributes, key_value),
        "timeUnixNano" | "time_unix_nano" => set(&mut out.time, reader.whole()),
        "asDouble" | "as_double" => set(&mut out.value, reader.fraction().map(|v| Some(Number::Double(v)))),
        "asInt" | "as_int" => set(&mut out.value, reader.whole().map(|v| Some(Number::Int(v)))),
        "traceId" | "trace_id" => set(&mut out.trace_id, id(reader)),
        "spanId" | "span_id" => set(&mut out.span_id, id(reader)),
        _ => reader.skip(),
    })?;
    Ok(out)
}

/// The id of a trace or span in hexadecimal digits; the empty text is none.
fn id<const N: usize>(reader: &mut Reader<'_>) -> Read<[u8; N]> {
    let text = reader.text()?;
    let mut id = [0; N];
    if text.is_empty() {
        return Ok(id);
    }
    if text.len() != 2 * N {
        return Err(reader.bad("an id of a trace or span of the right length"));
    }
    for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let digits = pair.iter().map(digit).try_fold(0, |sum, digit| Some(sum << 4 | digit?));
        let Some(v) = digits.and_then(|v| u8::try_from(v).ok()) else {
            return Err(reader.bad("an id of hexadecimal digits"));
        };
        *byte = v;
    }
    Ok(id)
}

fn key_value<'a>(reader: &mut Reader<'a>) -> Read<KeyValue<'a>> {
    let mut out = KeyValue::default();
    reader.object(|reader, name| match name {
        "key" => set(&mut out.key, reader.text()),
        "value" => set(&mut out.value, any(reader)),
        _ => reader.skip(),
    })?;
    Ok(out)
}

fn any<'a>(reader: &mut Reader<'a>) -> Read<AnyValue<'a>> {
    let mut out = AnyValue::Empty;
    reader.object(|reader, name| match name {
        "stringValue" | "string_value" => set(&mut out, reader.text().map(AnyValue::Text)),
        "boolValue" | "bool_value" => set(&mut out, reader.boolean().map(AnyValue::Bool)),
        "intValue" | "int_value" => set(&mut out, reader.whole().map(AnyValue::Int)),
        "doubleValue" | "double_value" => set(&mut out, reader.fraction().map(AnyValue::Double)),
        "bytesValue" | "bytes_value" => {
            let text = reader.text()?;
            let bytes = STANDARD.decode(&*text).map_err(|_| reader.bad("base64"));
            set(&mut out, bytes.map(|bytes| AnyValue::Bytes(Cow::Owned(bytes))))
        }
        "arrayValue" | "array_value" => set(&mut out, values(reader, any).map(AnyValue::List)),
        "kvlistValue" | "kvlist_value" => set(&mut out, values(reader, key_value).map(AnyValue::Map)),
        _ => reader.skip(),
    })?;
    Ok(out)
}

fn values<'a, T>(reader: &mut Reader<'a>, read: impl Fn(&mut Reader<'a>) -> Read<T>) -> Read<Vec<T>> {
    let mut out = Vec::new();
    reader.object(|reader, name| match name {
        "values" => reader.list(&mut out, &read),
        _ => reader.skip(),
    })?;
    Ok(out)
}

fn set<T>(place: &mut T, v: Result<T, Bad>) -> Read<()> {
    *place = v?;
    Ok(())
}
