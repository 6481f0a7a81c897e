//! Decoding from JSON: protobuf's mapping, with hexadecimal ids.
//!
//! Names are taken in both spellings (`timeUnixNano`, `time_unix_nano`), whole numbers as numbers or texts, fractions
//! also as `"NaN"` and `"Infinity"`. What is not known is passed over. The depth is bounded by the reader.
//!
//! Compat: opentelemetry-collector `pdata`, `UnmarshalJSON`; text behind the request is refused, where upstream passes
//! over it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Unexpected, Visitor};

use super::{
    AnyValue, Data, Error, Exemplar, ExponentialPoint, HistogramPoint, KeyValue, Metric, Number, NumberPoint,
    Request, ResourceMetrics, Scope, ScopeMetrics, Side, SummaryPoint, Temporality,
};
use crate::number;

/// The most objects of a body, counted by their braces: each takes some hundred bytes of memory, if empty.
pub(super) const OBJECTS_MAX: usize = 2_000_000;

/// Decodes a request.
///
/// # Errors
/// The body is not JSON, a value is of a wrong type, or there is too much of it.
pub fn from_json(body: &[u8]) -> Result<Request<'_>, Error> {
    let found = memchr::memchr_iter(b'{', body).count();
    if found > OBJECTS_MAX {
        return Err(Error::Objects { found });
    }
    Ok(serde_json::from_slice(body)?)
}

/// Makes a `Deserialize` for a message out of what becomes of each of its fields.
macro_rules! message {
    ($type:ident <$life:lifetime>, |$out:ident, $map:ident| { $($($name:literal)|+ => $set:expr;)* }) => {
        impl<'de: $life, $life> Deserialize<'de> for $type<$life> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> Visitor<'de> for Fields {
                    type Value = $type<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_unit<E>(self) -> Result<Self::Value, E> {
                        Ok($type::default())
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<Self::Value, A::Error> {
                        let mut $out = $type::default();
                        while let Some(Text(name)) = $map.next_key()? {
                            match &*name {
                                $($($name)|+ => $set,)*
                                _ => drop($map.next_value::<IgnoredAny>()?),
                            }
                        }
                        Ok($out)
                    }
                }
                deserializer.deserialize_any(Fields)
            }
        }
    };
}

/// As [`message`], for points: what all of them have is read into `head`.
macro_rules! point {
    ($type:ident <$life:lifetime>, |$out:ident, $map:ident| { $($($name:literal)|+ => $set:expr;)* }) => {
        message!($type<$life>, |$out, $map| {
            "attributes" => list($map.next_value()?, &mut $out.head.attributes);
            "startTimeUnixNano" | "start_time_unix_nano" => $out.head.start = whole($map.next_value()?);
            "timeUnixNano" | "time_unix_nano" => $out.head.time = whole($map.next_value()?);
            "flags" => $out.head.flags = whole($map.next_value()?);
            $($($name)|+ => $set;)*
        });
    };
}

message!(Request<'a>, |out, map| {
    "resourceMetrics" | "resource_metrics" => list(map.next_value()?, &mut out.resources);
});

/// The attributes of a resource.
#[derive(Default)]
struct Resource<'a>(Vec<KeyValue<'a>>);

message!(Resource<'a>, |out, map| {
    "attributes" => list(map.next_value()?, &mut out.0);
});

// The name that scopes had in the first versions of the protocol is not known in JSON.
message!(ResourceMetrics<'a>, |out, map| {
    "resource" => out.attributes.append(&mut map.next_value::<Resource<'_>>()?.0);
    "scopeMetrics" | "scope_metrics" => list(map.next_value()?, &mut out.scopes);
});

message!(ScopeMetrics<'a>, |out, map| {
    "scope" => out.scope = map.next_value()?;
    "metrics" => list(map.next_value()?, &mut out.metrics);
    "schemaUrl" | "schema_url" => out.schema_url = map.next_value::<Text<'_>>()?.0;
});

message!(Scope<'a>, |out, map| {
    "name" => out.name = map.next_value::<Text<'_>>()?.0;
    "version" => out.version = map.next_value::<Text<'_>>()?.0;
    "attributes" => list(map.next_value()?, &mut out.attributes);
});

message!(Metric<'a>, |out, map| {
    "name" => out.name = map.next_value::<Text<'_>>()?.0;
    "description" => out.description = map.next_value::<Text<'_>>()?.0;
    "unit" => out.unit = map.next_value::<Text<'_>>()?.0;
    "gauge" => out.data = Data::Gauge(map.next_value::<Numbers<'_>>()?.points);
    "sum" => {
        let Numbers { points, temporality, is_monotonic } = map.next_value()?;
        out.data = Data::Sum { points, temporality, is_monotonic };
    };
    "histogram" => {
        let Histograms { points, temporality } = map.next_value()?;
        out.data = Data::Histogram { points, temporality };
    };
    "exponentialHistogram" | "exponential_histogram" => {
        let Exponentials { points, temporality } = map.next_value()?;
        out.data = Data::Exponential { points, temporality };
    };
    "summary" => out.data = Data::Summary(map.next_value::<Summaries<'_>>()?.points);
});

#[derive(Default)]
struct Numbers<'a> {
    points: Vec<NumberPoint<'a>>,
    temporality: Temporality,
    is_monotonic: bool,
}

message!(Numbers<'a>, |out, map| {
    "dataPoints" | "data_points" => list(map.next_value()?, &mut out.points);
    "aggregationTemporality" | "aggregation_temporality" => out.temporality = map.next_value()?;
    "isMonotonic" | "is_monotonic" => out.is_monotonic = map.next_value()?;
});

#[derive(Default)]
struct Histograms<'a> {
    points: Vec<HistogramPoint<'a>>,
    temporality: Temporality,
}

message!(Histograms<'a>, |out, map| {
    "dataPoints" | "data_points" => list(map.next_value()?, &mut out.points);
    "aggregationTemporality" | "aggregation_temporality" => out.temporality = map.next_value()?;
});

#[derive(Default)]
struct Exponentials<'a> {
    points: Vec<ExponentialPoint<'a>>,
    temporality: Temporality,
}

message!(Exponentials<'a>, |out, map| {
    "dataPoints" | "data_points" => list(map.next_value()?, &mut out.points);
    "aggregationTemporality" | "aggregation_temporality" => out.temporality = map.next_value()?;
});

#[derive(Default)]
struct Summaries<'a> {
    points: Vec<SummaryPoint<'a>>,
}

message!(Summaries<'a>, |out, map| {
    "dataPoints" | "data_points" => list(map.next_value()?, &mut out.points);
});

point!(NumberPoint<'a>, |out, map| {
    "asDouble" | "as_double" => out.value = Some(Number::Double(fraction(map.next_value()?)));
    "asInt" | "as_int" => out.value = Some(Number::Int(whole(map.next_value()?)));
    "exemplars" => list(map.next_value()?, &mut out.exemplars);
});

point!(HistogramPoint<'a>, |out, map| {
    "count" => out.count = whole(map.next_value()?);
    "sum" => out.sum = Some(fraction(map.next_value()?));
    "bucketCounts" | "bucket_counts" => wholes(map.next_value()?, &mut out.counts);
    "explicitBounds" | "explicit_bounds" => {
        out.bounds.extend(map.next_value::<Option<Vec<Fraction>>>()?.into_iter().flatten().map(fraction));
    };
    "exemplars" => list(map.next_value()?, &mut out.exemplars);
});

point!(ExponentialPoint<'a>, |out, map| {
    "count" => out.count = whole(map.next_value()?);
    "sum" => out.sum = Some(fraction(map.next_value()?));
    "scale" => out.scale = whole(map.next_value()?);
    "zeroCount" | "zero_count" => out.zero_count = whole(map.next_value()?);
    "zeroThreshold" | "zero_threshold" => out.zero_threshold = fraction(map.next_value()?);
    "positive" => out.positive = map.next_value::<Buckets<'_>>()?.side;
    "negative" => out.negative = map.next_value::<Buckets<'_>>()?.side;
    "exemplars" => list(map.next_value()?, &mut out.exemplars);
});

#[derive(Default)]
struct Buckets<'a> {
    side: Side,
    borrows_nothing: PhantomData<&'a ()>,
}

message!(Buckets<'a>, |out, map| {
    "offset" => out.side.offset = whole(map.next_value()?);
    "bucketCounts" | "bucket_counts" => wholes(map.next_value()?, &mut out.side.counts);
});

point!(SummaryPoint<'a>, |out, map| {
    "count" => out.count = whole(map.next_value()?);
    "sum" => out.sum = fraction(map.next_value()?);
    "quantileValues" | "quantile_values" => {
        let found = map.next_value::<Option<Vec<Quantile<'_>>>>()?.into_iter().flatten();
        out.quantiles.extend(found.map(|found| found.pair));
    };
});

#[derive(Default)]
struct Quantile<'a> {
    pair: (f64, f64),
    borrows_nothing: PhantomData<&'a ()>,
}

message!(Quantile<'a>, |out, map| {
    "quantile" => out.pair.0 = fraction(map.next_value()?);
    "value" => out.pair.1 = fraction(map.next_value()?);
});

message!(Exemplar<'a>, |out, map| {
    "filteredAttributes" | "filtered_attributes" => list(map.next_value()?, &mut out.attributes);
    "timeUnixNano" | "time_unix_nano" => out.time = whole(map.next_value()?);
    "asDouble" | "as_double" => out.value = Some(Number::Double(fraction(map.next_value()?)));
    "asInt" | "as_int" => out.value = Some(Number::Int(whole(map.next_value()?)));
    "traceId" | "trace_id" => out.trace_id = map.next_value::<Id<16>>()?.0;
    "spanId" | "span_id" => out.span_id = map.next_value::<Id<8>>()?.0;
});

message!(KeyValue<'a>, |out, map| {
    "key" => out.key = map.next_value::<Text<'_>>()?.0;
    "value" => out.value = map.next_value()?;
});

message!(Any<'a>, |out, map| {
    "stringValue" | "string_value" => out.0 = AnyValue::Text(map.next_value::<Text<'_>>()?.0);
    "boolValue" | "bool_value" => out.0 = AnyValue::Bool(map.next_value()?);
    "intValue" | "int_value" => out.0 = AnyValue::Int(whole(map.next_value()?));
    "doubleValue" | "double_value" => out.0 = AnyValue::Double(fraction(map.next_value()?));
    "arrayValue" | "array_value" => out.0 = AnyValue::List(map.next_value::<Values<'_>>()?.0);
    "kvlistValue" | "kvlist_value" => out.0 = AnyValue::Map(map.next_value::<Pairs<'_>>()?.0);
    "bytesValue" | "bytes_value" => {
        let text = map.next_value::<Text<'_>>()?.0;
        let bytes = STANDARD.decode(&*text).map_err(|e| A::Error::custom(format_args!("base64: {e}")))?;
        out.0 = AnyValue::Bytes(Cow::Owned(bytes));
    };
});

#[derive(Default)]
struct Any<'a>(AnyValue<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for AnyValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Any::deserialize(deserializer)?.0)
    }
}

#[derive(Default)]
struct Values<'a>(Vec<AnyValue<'a>>);

message!(Values<'a>, |out, map| {
    "values" => list(map.next_value()?, &mut out.0);
});

#[derive(Default)]
struct Pairs<'a>(Vec<KeyValue<'a>>);

message!(Pairs<'a>, |out, map| {
    "values" => list(map.next_value()?, &mut out.0);
});

// === The values that fields have ===

/// Adds what a repeated field has; a name that comes twice adds to itself.
fn list<T>(found: Option<Vec<T>>, out: &mut Vec<T>) {
    match found {
        Some(found) if out.is_empty() => *out = found,
        found => out.extend(found.into_iter().flatten()),
    }
}

fn wholes(found: Option<Vec<Whole<u64>>>, out: &mut Vec<u64>) {
    out.extend(found.into_iter().flatten().map(whole));
}

fn whole<T>(number: Whole<T>) -> T {
    number.0
}

fn fraction(number: Fraction) -> f64 {
    number.0
}

/// A text, borrowed if it has no escapes; null is the empty one.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed("")))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// A whole number, written as such or as a text.
struct Whole<T>(T);

impl<'de, T: FromStr + TryFrom<u64> + TryFrom<i64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers<T>(PhantomData<T>);
        impl<T: FromStr + TryFrom<u64> + TryFrom<i64>> Visitor<'_> for Numbers<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number in its range, or one in a string")
            }

            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Self::Value, E> {
                T::try_from(v).map(Whole).map_err(|_| E::invalid_value(Unexpected::Unsigned(v), &self))
            }

            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Self::Value, E> {
                T::try_from(v).map(Whole).map_err(|_| E::invalid_value(Unexpected::Signed(v), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Whole).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Numbers(PhantomData))
    }
}

/// A number, written as such or as a text.
struct Fraction(f64);

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Fraction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or one in a string")
            }

            fn visit_f64<E>(self, v: f64) -> Result<Self::Value, E> {
                Ok(Fraction(v))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
                Ok(Fraction(v as f64))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
                Ok(Fraction(v as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let v = number::parse_go_float(text.as_bytes());
                v.map(Fraction).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

impl<'de> Deserialize<'de> for Temporality {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Temporality;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number or the name of an aggregation temporality")
            }

            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Self::Value, E> {
                let number =
                    i32::try_from(v).map_err(|_| E::invalid_value(Unexpected::Unsigned(v), &self))?;
                Ok(Temporality::of(number))
            }

            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Self::Value, E> {
                let number = i32::try_from(v).map_err(|_| E::invalid_value(Unexpected::Signed(v), &self))?;
                Ok(Temporality::of(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Ok(Temporality::Unspecified),
                    "AGGREGATION_TEMPORALITY_DELTA" => Ok(Temporality::Delta),
                    "AGGREGATION_TEMPORALITY_CUMULATIVE" => Ok(Temporality::Cumulative),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// The id of a trace or span in hexadecimal digits; the empty text is none.
struct Id<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Id<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let mut id = [0; N];
        if text.is_empty() {
            return Ok(Self(id));
        }
        let digits = text.as_bytes();
        if digits.len() != 2 * N {
            let message = format_args!("an id of {} digits, expected {}", digits.len(), 2 * N);
            return Err(D::Error::custom(message));
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = u8::try_from(high << 4 | low).unwrap_or_default(),
                _ => return Err(D::Error::custom("an id with something else than hexadecimal digits")),
            }
        }
        Ok(Self(id))
    }
}
