//! Decoding from protobuf.

use std::borrow::Cow;

use super::{
    AnyValue, BUCKETS_MAX, DECODED_BYTES_MAX, Data, Error, Exemplar, ExponentialPoint, Head, HistogramPoint,
    KeyValue, Metric, Number, NumberPoint, Request, ResourceMetrics, Scope, ScopeMetrics, Side, SummaryPoint,
    Temporality,
};
use crate::wire::protobuf::cursor::{BYTES, Bad, Cursor, fields, unzigzag};

/// The most attributes that lie in each other.
const DEPTH_MAX: usize = 64;

/// Decodes a request.
///
/// # Errors
/// The body is no such message, nests too deep or takes too much memory.
pub fn from_protobuf(body: &[u8]) -> Result<Request<'_>, Error> {
    let mut decoder = Decoder { left: DECODED_BYTES_MAX };
    let mut request = Request::default();
    fields("ExportMetricsServiceRequest", body, |field, wire, cursor| match field {
        1 => {
            let resource = decoder.resource(cursor.bytes("ResourceMetrics", wire)?)?;
            decoder.push(&mut request.resources, resource)
        }
        _ => Ok(false),
    })?;
    Ok(request)
}

struct Decoder {
    /// Bytes of memory that may still be used.
    left: usize,
}

/// What a field closure returns.
type Taken = Result<bool, Bad>;

impl Decoder {
    fn push<T>(&mut self, list: &mut Vec<T>, item: T) -> Taken {
        self.spend(size_of::<T>())?;
        list.push(item);
        Ok(true)
    }

    fn spend(&mut self, n_bytes: usize) -> Result<(), Bad> {
        self.left = self.left.checked_sub(n_bytes).ok_or(Bad::TooLarge)?;
        Ok(())
    }

    fn resource<'a>(&mut self, message: &'a [u8]) -> Result<ResourceMetrics<'a>, Bad> {
        let mut out = ResourceMetrics::default();
        // What clients of before 2022 send; only counts where there are no scopes.
        let mut libraries = Vec::new();
        fields("ResourceMetrics", message, |field, wire, cursor| match field {
            1 => {
                let resource = cursor.bytes("Resource", wire)?;
                fields("Resource", resource, |field, wire, cursor| match field {
                    1 => self.attribute(&mut out.attributes, "Attributes", wire, cursor),
                    _ => Ok(false),
                })?;
                Ok(true)
            }
            2 => {
                let scope = self.scope(cursor.bytes("ScopeMetrics", wire)?)?;
                self.push(&mut out.scopes, scope)
            }
            1000 => {
                let scope = self.scope(cursor.bytes("DeprecatedScopeMetrics", wire)?)?;
                self.push(&mut libraries, scope)
            }
            _ => Ok(false),
        })?;
        if out.scopes.is_empty() {
            out.scopes = libraries;
        }
        Ok(out)
    }

    fn scope<'a>(&mut self, message: &'a [u8]) -> Result<ScopeMetrics<'a>, Bad> {
        let mut out = ScopeMetrics::default();
        fields("ScopeMetrics", message, |field, wire, cursor| match field {
            1 => {
                let scope = cursor.bytes("Scope", wire)?;
                let Scope { name, version, attributes } = &mut out.scope;
                fields("InstrumentationScope", scope, |field, wire, cursor| match field {
                    1 => set(name, text("Name", wire, cursor)?),
                    2 => set(version, text("Version", wire, cursor)?),
                    3 => self.attribute(attributes, "Attributes", wire, cursor),
                    _ => Ok(false),
                })?;
                Ok(true)
            }
            2 => {
                let metric = self.metric(cursor.bytes("Metrics", wire)?)?;
                self.push(&mut out.metrics, metric)
            }
            3 => set(&mut out.schema_url, text("SchemaUrl", wire, cursor)?),
            _ => Ok(false),
        })?;
        Ok(out)
    }

    fn metric<'a>(&mut self, message: &'a [u8]) -> Result<Metric<'a>, Bad> {
        let mut out = Metric::default();
        fields("Metric", message, |field, wire, cursor| match field {
            1 => set(&mut out.name, text("Name", wire, cursor)?),
            2 => set(&mut out.description, text("Description", wire, cursor)?),
            3 => set(&mut out.unit, text("Unit", wire, cursor)?),
            5 => {
                let (points, _) = self.points(cursor.bytes("Gauge", wire)?, "Gauge", Self::number)?;
                set(&mut out.data, Data::Gauge(points))
            }
            7 => {
                let sum = cursor.bytes("Sum", wire)?;
                let (points, rest) = self.points(sum, "Sum", Self::number)?;
                let Rest { temporality, is_monotonic } = rest;
                set(&mut out.data, Data::Sum { points, temporality, is_monotonic })
            }
            9 => {
                let histogram = cursor.bytes("Histogram", wire)?;
                let (points, rest) = self.points(histogram, "Histogram", Self::histogram)?;
                set(&mut out.data, Data::Histogram { points, temporality: rest.temporality })
            }
            10 => {
                let histogram = cursor.bytes("ExponentialHistogram", wire)?;
                let (points, rest) = self.points(histogram, "ExponentialHistogram", Self::exponential)?;
                set(&mut out.data, Data::Exponential { points, temporality: rest.temporality })
            }
            11 => {
                let (points, _) = self.points(cursor.bytes("Summary", wire)?, "Summary", Self::summary)?;
                set(&mut out.data, Data::Summary(points))
            }
            _ => Ok(false),
        })?;
        Ok(out)
    }

    /// The points of a metric and what is said of them.
    fn points<'a, T>(
        &mut self,
        message: &'a [u8],
        name: &'static str,
        read: impl Fn(&mut Self, &'a [u8]) -> Result<T, Bad>,
    ) -> Result<(Vec<T>, Rest), Bad> {
        let (mut points, mut rest) = (Vec::new(), Rest::default());
        fields(name, message, |field, wire, cursor| match field {
            1 => {
                let point = read(self, cursor.bytes("DataPoints", wire)?)?;
                self.push(&mut points, point)
            }
            2 if name != "Gauge" && name != "Summary" => {
                let number = int32(cursor.uint("AggregationTemporality", wire)?);
                set(&mut rest.temporality, Temporality::of(number))
            }
            3 if name == "Sum" => set(&mut rest.is_monotonic, cursor.uint("IsMonotonic", wire)? != 0),
            _ => Ok(false),
        })?;
        Ok((points, rest))
    }

    fn number<'a>(&mut self, message: &'a [u8]) -> Result<NumberPoint<'a>, Bad> {
        let mut out = NumberPoint::default();
        fields("NumberDataPoint", message, |field, wire, cursor| match field {
            4 => set(&mut out.value, Some(Number::Double(cursor.double("AsDouble", wire)?))),
            5 => self.exemplar(&mut out.exemplars, wire, cursor),
            6 => set(&mut out.value, Some(Number::Int(cursor.fixed("AsInt", wire)?.cast_signed()))),
            _ => self.head(&mut out.head, (7, 8), field, wire, cursor),
        })?;
        Ok(out)
    }

    fn histogram<'a>(&mut self, message: &'a [u8]) -> Result<HistogramPoint<'a>, Bad> {
        let mut out = HistogramPoint::default();
        fields("HistogramDataPoint", message, |field, wire, cursor| match field {
            4 => set(&mut out.count, cursor.fixed("Count", wire)?),
            5 => set(&mut out.sum, Some(cursor.double("Sum", wire)?)),
            6 => {
                self.expect_numbers(out.counts.len(), size_of::<u64>(), wire, cursor)?;
                done(cursor.fixeds("BucketCounts", wire, &mut out.counts))
            }
            7 => {
                self.expect_numbers(out.bounds.len(), size_of::<u64>(), wire, cursor)?;
                done(cursor.doubles("ExplicitBounds", wire, &mut out.bounds))
            }
            8 => self.exemplar(&mut out.exemplars, wire, cursor),
            _ => self.head(&mut out.head, (9, 10), field, wire, cursor),
        })?;
        Ok(out)
    }

    fn exponential<'a>(&mut self, message: &'a [u8]) -> Result<ExponentialPoint<'a>, Bad> {
        let mut out = ExponentialPoint::default();
        fields("ExponentialHistogramDataPoint", message, |field, wire, cursor| match field {
            4 => set(&mut out.count, cursor.fixed("Count", wire)?),
            5 => set(&mut out.sum, Some(cursor.double("Sum", wire)?)),
            6 => set(&mut out.scale, sint32(cursor.uint("Scale", wire)?)),
            7 => set(&mut out.zero_count, cursor.fixed("ZeroCount", wire)?),
            8 => self.side(&mut out.positive, cursor.bytes("Positive", wire)?),
            9 => self.side(&mut out.negative, cursor.bytes("Negative", wire)?),
            11 => self.exemplar(&mut out.exemplars, wire, cursor),
            14 => set(&mut out.zero_threshold, cursor.double("ZeroThreshold", wire)?),
            _ => self.head(&mut out.head, (1, 10), field, wire, cursor),
        })?;
        Ok(out)
    }

    fn side(&mut self, side: &mut Side, message: &[u8]) -> Taken {
        fields("Buckets", message, |field, wire, cursor| match field {
            1 => set(&mut side.offset, sint32(cursor.uint("Offset", wire)?)),
            2 => {
                self.expect_numbers(side.counts.len(), 1, wire, cursor)?;
                done(cursor.uints("BucketCounts", wire, &mut side.counts))
            }
            _ => Ok(false),
        })?;
        Ok(true)
    }

    fn summary<'a>(&mut self, message: &'a [u8]) -> Result<SummaryPoint<'a>, Bad> {
        let mut out = SummaryPoint::default();
        fields("SummaryDataPoint", message, |field, wire, cursor| match field {
            4 => set(&mut out.count, cursor.fixed("Count", wire)?),
            5 => set(&mut out.sum, cursor.double("Sum", wire)?),
            6 => {
                let (mut quantile, mut value) = (0.0, 0.0);
                let message = cursor.bytes("QuantileValues", wire)?;
                fields("ValueAtQuantile", message, |field, wire, cursor| match field {
                    1 => set(&mut quantile, cursor.double("Quantile", wire)?),
                    2 => set(&mut value, cursor.double("Value", wire)?),
                    _ => Ok(false),
                })?;
                self.push(&mut out.quantiles, (quantile, value))
            }
            _ => self.head(&mut out.head, (7, 8), field, wire, cursor),
        })?;
        Ok(out)
    }

    /// A field that every kind of point has; attributes and flags are in `places`.
    fn head<'a>(
        &mut self,
        head: &mut Head<'a>,
        places: (i32, i32),
        field: i32,
        wire: u8,
        cursor: &mut Cursor<'a>,
    ) -> Taken {
        match field {
            2 => set(&mut head.start, cursor.fixed("StartTimeUnixNano", wire)?),
            3 => set(&mut head.time, cursor.fixed("TimeUnixNano", wire)?),
            _ if field == places.0 => self.attribute(&mut head.attributes, "Attributes", wire, cursor),
            _ if field == places.1 => {
                set(&mut head.flags, int32(cursor.uint("Flags", wire)?).cast_unsigned())
            }
            _ => Ok(false),
        }
    }

    /// Takes the memory for the numbers of buckets that are next, one or a piece of many, before they are read behind
    /// `n_before` others. On the wire they have eight bytes or, where `width` is 1, as many as they need.
    fn expect_numbers(
        &mut self,
        n_before: usize,
        width: usize,
        wire: u8,
        cursor: &Cursor<'_>,
    ) -> Result<(), Bad> {
        let mut ahead = *cursor;
        let n = match wire {
            // The last of a piece may reach beyond it.
            BYTES if width == 1 => {
                let piece = ahead.delimited()?;
                let n_ended = piece.iter().filter(|&&b| b < 0x80).count();
                n_ended.saturating_add(usize::from(piece.last().is_some_and(|&b| b >= 0x80)))
            }
            BYTES => ahead.delimited()?.len().div_ceil(width),
            _ => 1,
        };
        if n_before.saturating_add(n) > BUCKETS_MAX {
            return Err(Bad::TooMany { message: "Buckets", most: BUCKETS_MAX });
        }
        self.spend(n.saturating_mul(size_of::<u64>()))
    }

    fn exemplar<'a>(&mut self, list: &mut Vec<Exemplar<'a>>, wire: u8, cursor: &mut Cursor<'a>) -> Taken {
        let mut out = Exemplar::default();
        let message = cursor.bytes("Exemplars", wire)?;
        fields("Exemplar", message, |field, wire, cursor| match field {
            2 => set(&mut out.time, cursor.fixed("TimeUnixNano", wire)?),
            3 => set(&mut out.value, Some(Number::Double(cursor.double("AsDouble", wire)?))),
            4 => set(&mut out.span_id, id(cursor.bytes("SpanId", wire)?, "SpanID")?),
            5 => set(&mut out.trace_id, id(cursor.bytes("TraceId", wire)?, "TraceID")?),
            6 => set(&mut out.value, Some(Number::Int(cursor.fixed("AsInt", wire)?.cast_signed()))),
            7 => self.attribute(&mut out.attributes, "FilteredAttributes", wire, cursor),
            _ => Ok(false),
        })?;
        self.push(list, out)
    }

    fn attribute<'a>(
        &mut self,
        list: &mut Vec<KeyValue<'a>>,
        field: &'static str,
        wire: u8,
        cursor: &mut Cursor<'a>,
    ) -> Taken {
        let pair = self.key_value(cursor.bytes(field, wire)?, 0)?;
        self.push(list, pair)
    }

    fn key_value<'a>(&mut self, message: &'a [u8], depth: usize) -> Result<KeyValue<'a>, Bad> {
        let mut out = KeyValue::default();
        fields("KeyValue", message, |field, wire, cursor| match field {
            1 => set(&mut out.key, text("Key", wire, cursor)?),
            2 => set(&mut out.value, self.any(cursor.bytes("Value", wire)?, depth)?),
            _ => Ok(false),
        })?;
        Ok(out)
    }

    fn any<'a>(&mut self, message: &'a [u8], depth: usize) -> Result<AnyValue<'a>, Bad> {
        if depth >= DEPTH_MAX {
            return Err(Bad::TooDeep);
        }
        let depth = depth.saturating_add(1);
        let mut out = AnyValue::Empty;
        fields("AnyValue", message, |field, wire, cursor| match field {
            1 => set(&mut out, AnyValue::Text(text("StringValue", wire, cursor)?)),
            2 => set(&mut out, AnyValue::Bool(cursor.uint("BoolValue", wire)? != 0)),
            3 => set(&mut out, AnyValue::Int(cursor.uint("IntValue", wire)?.cast_signed())),
            4 => set(&mut out, AnyValue::Double(cursor.double("DoubleValue", wire)?)),
            5 => {
                let mut list = Vec::new();
                fields("ArrayValue", cursor.bytes("ArrayValue", wire)?, |field, wire, cursor| match field {
                    1 => {
                        let value = self.any(cursor.bytes("Values", wire)?, depth)?;
                        self.push(&mut list, value)
                    }
                    _ => Ok(false),
                })?;
                set(&mut out, AnyValue::List(list))
            }
            6 => {
                let mut map = Vec::new();
                fields(
                    "KeyValueList",
                    cursor.bytes("KvlistValue", wire)?,
                    |field, wire, cursor| match field {
                        1 => {
                            let pair = self.key_value(cursor.bytes("Values", wire)?, depth)?;
                            self.push(&mut map, pair)
                        }
                        _ => Ok(false),
                    },
                )?;
                set(&mut out, AnyValue::Map(map))
            }
            7 => set(&mut out, AnyValue::Bytes(Cow::Borrowed(cursor.bytes("BytesValue", wire)?))),
            _ => Ok(false),
        })?;
        Ok(out)
    }
}

/// What is said of all points of a metric.
#[derive(Default)]
struct Rest {
    temporality: Temporality,
    is_monotonic: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "the last expression of most arms")]
fn set<T>(place: &mut T, v: T) -> Taken {
    *place = v;
    Ok(true)
}

fn done(read: Result<(), Bad>) -> Taken {
    read.map(|()| true)
}

fn text<'a>(field: &'static str, wire: u8, cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, Bad> {
    Ok(String::from_utf8_lossy(cursor.bytes(field, wire)?))
}

fn id<const N: usize>(bytes: &[u8], kind: &'static str) -> Result<[u8; N], Bad> {
    if bytes.is_empty() {
        return Ok([0; N]);
    }
    bytes.try_into().map_err(|_| Bad::Id { kind })
}

/// The low half, as numbers of 32 bits are read.
#[expect(clippy::cast_possible_truncation, reason = "as upstream has it")]
const fn int32(v: u64) -> i32 {
    v as i32
}

#[expect(clippy::cast_possible_truncation, reason = "as upstream has it")]
const fn sint32(v: u64) -> i32 {
    unzigzag(v) as i32
}
