//! Remote write requests of both versions, read in place, and written.
//!
//! [`Request::read`] goes through the whole message once, so that what is malformed anywhere has no effect at all.
//! After that [`Request::series`] walks it: labels are slices of the body, samples are numbers on the stack, and nothing
//! is allocated for either. Memory grows with nothing but the number of symbols, by eight bytes for each.
//!
//! Compat: prometheus `prompb/{remote,types}.proto` (`prometheus.WriteRequest`),
//! `prompb/io/prometheus/write/v2/types.proto` (`io.prometheus.write.v2.Request`), and the texts of what gogo/protobuf
//! generates for them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod check;
pub mod encode;

use super::Native;
use super::parse::MetricType;
use super::protobuf::cursor::{Bad, Elements, fields, low_u32};
pub use super::remote_histogram::Times;
use super::remote_histogram::read as read_histogram;
use crate::Timestamp;

/// What a body is an encoding of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Remote write 1.0.
    V1,
    /// Remote write 2.0.
    V2,
}

impl Message {
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The full name of the message, which content types and flags mention.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|message| message.name() == name)
    }
}

/// Name and value of a label.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Series with more labels are not read further: no store takes them.
pub const LABELS_MAX: usize = 4096;

/// The field that has the series, by version.
const V1_SERIES: u32 = 1;
const V2_SERIES: u32 = 5;

/// A request that is well-formed.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    message: Message,
    body: &'a [u8],
    symbols: Symbols<'a>,
}

/// Where the strings are that a request of version 2 refers to.
#[derive(Clone, Debug)]
struct Symbols<'a> {
    body: &'a [u8],
    places: Vec<Place>,
}

/// Where a symbol is, and whether it is UTF-8: judged once, however many series refer to it.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    /// With [`NO_UTF8`].
    len: u32,
}

const NO_UTF8: u32 = 1 << 31;

/// What is longer leaves no room for the bit of a [`Place`]. Readers of bodies have far lower limits.
const BODY_BYTES_MAX: usize = (NO_UTF8 - 1) as usize;

impl<'a> Symbols<'a> {
    /// A symbol, and whether it is UTF-8.
    fn get(&self, symbol: u32) -> Option<(&'a [u8], bool)> {
        let &Place { start, len } = self.places.get(symbol as usize)?;
        let text = self.body.get(start as usize..)?.get(..(len & !NO_UTF8) as usize)?;
        Some((text, len & NO_UTF8 == 0))
    }
}

impl<'a> Request<'a> {
    /// Goes through a body.
    ///
    /// # Errors
    /// It is malformed; the text is upstream's.
    pub fn read(message: Message, body: &'a [u8]) -> Result<Self, Bad> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Bad::TooLarge);
        }
        let mut places = Vec::new();
        match message {
            Message::V1 => check::v1(body)?,
            Message::V2 => check::v2(body, |left, symbol| {
                let start = body.len().saturating_sub(left).saturating_sub(symbol.len());
                let utf8 = if std::str::from_utf8(symbol).is_ok() { 0 } else { NO_UTF8 };
                places.push(Place { start: low_u32(start as u64), len: low_u32(symbol.len() as u64) | utf8 });
            })?,
        }
        Ok(Self { message, body, symbols: Symbols { body, places } })
    }

    pub fn message(&self) -> Message {
        self.message
    }

    pub fn series(&self) -> impl Iterator<Item = Series<'a>> + use<'a> {
        let (message, field) = match self.message {
            Message::V1 => (self.message, V1_SERIES),
            Message::V2 => (self.message, V2_SERIES),
        };
        Elements::new(self.body, field).map(move |bytes| Series { message, bytes })
    }

    /// Resolves references to pairs of symbols, in the order in which they are given, and says whether all of them are
    /// UTF-8.
    ///
    /// # Errors
    /// They are no pairs, or refer to what is not there.
    pub fn resolve(&self, refs: &[u32], out: &mut Vec<Pair<'a>>) -> Result<bool, BadRefs> {
        out.clear();
        let (pairs, rest) = refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(BadRefs::Odd(refs.len()));
        }
        if pairs.len() > LABELS_MAX {
            return Err(BadRefs::TooMany(pairs.len()));
        }
        let mut is_utf8 = true;
        for &[name, value] in pairs {
            let outside = BadRefs::Outside { name, value, size: self.symbols.places.len() };
            let (name, is_name_utf8) = self.symbols.get(name).ok_or(outside)?;
            let (value, is_value_utf8) = self.symbols.get(value).ok_or(outside)?;
            is_utf8 &= is_name_utf8 && is_value_utf8;
            out.push((name, value));
        }
        Ok(is_utf8)
    }

    /// Whether a symbol is there and UTF-8.
    pub fn is_utf8(&self, symbol: u32) -> bool {
        self.symbols.get(symbol).is_some_and(|(_, is_utf8)| is_utf8)
    }

    /// The strings that metadata refers to: unit, then help.
    ///
    /// # Errors
    /// They are not there.
    pub fn metadata_texts(&self, metadata: MetadataRefs) -> Result<(&'a [u8], &'a [u8]), BadMetadata> {
        let size = self.symbols.places.len();
        let get =
            |field, at| self.symbols.get(at).map(|(text, _)| text).ok_or(BadMetadata { field, at, size });
        Ok((get("unit_ref", metadata.unit)?, get("help_ref", metadata.help)?))
    }
}

/// References to labels that cannot be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRefs {
    #[error("invalid labelRefs length {0}")]
    Odd(usize),
    #[error("labelRefs {name} (name) = {value} (value) outside of symbols table (size {size})")]
    Outside { name: u32, value: u32, size: usize },
    #[error("{0} labels are more than the {LABELS_MAX} that a series may have")]
    TooMany(usize),
}

/// References of metadata that cannot be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata {field} {at} outside of symbols table (size {size})")]
pub struct BadMetadata {
    field: &'static str,
    at: u32,
    size: usize,
}

/// A float at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    pub t: Timestamp,
    /// Since when it counts, 0 where that is not known.
    pub st: Timestamp,
    pub v: f64,
}

/// What version 2 says of a series beside its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataRefs {
    pub kind: MetricType,
    pub help: u32,
    pub unit: u32,
}

/// What a series has, found in one walk over it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outline {
    pub n_samples: usize,
    pub n_histograms: usize,
    pub n_exemplars: usize,
    /// Of version 1, labels beyond [`LABELS_MAX`] among them.
    pub n_labels: usize,
    /// The last of the samples: the only one, mostly.
    pub sample: Sample,
    pub metadata: MetadataRefs,
}

/// One series of a request.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    message: Message,
    bytes: &'a [u8],
}

impl<'a> Series<'a> {
    /// Finds out what there is: the labels of version 1 go into `pairs` in the order in which they are given, what
    /// those of version 2 refer to goes into `refs`.
    pub fn outline(&self, pairs: &mut Vec<Pair<'a>>, refs: &mut Vec<u32>) -> Outline {
        pairs.clear();
        refs.clear();
        let mut outline = Outline::default();
        let walk = match self.message {
            Message::V1 => fields("TimeSeries", self.bytes, |field, wire, cursor| {
                match field {
                    1 => {
                        let label = cursor.bytes("Labels", wire)?;
                        outline.n_labels = outline.n_labels.saturating_add(1);
                        if pairs.len() < LABELS_MAX {
                            pairs.push(read_label(label)?);
                        }
                    }
                    2 => outline.take_sample(self.message, cursor.bytes("Samples", wire)?)?,
                    3 => outline.take_exemplar(cursor.bytes("Exemplars", wire)?),
                    4 => outline.take_histogram(cursor.bytes("Histograms", wire)?),
                    _ => return Ok(false),
                }
                Ok(true)
            }),
            Message::V2 => fields("TimeSeries", self.bytes, |field, wire, cursor| {
                match field {
                    1 => cursor.uint32s("LabelsRefs", wire, |at| refs.push(at))?,
                    2 => outline.take_sample(self.message, cursor.bytes("Samples", wire)?)?,
                    3 => outline.take_histogram(cursor.bytes("Histograms", wire)?),
                    4 => outline.take_exemplar(cursor.bytes("Exemplars", wire)?),
                    5 => read_metadata(cursor.bytes("Metadata", wire)?, &mut outline.metadata)?,
                    _ => return Ok(false),
                }
                Ok(true)
            }),
        };
        debug_assert!(walk.is_ok(), "BUG: a request that was gone through is malformed: {walk:?}");
        outline
    }

    /// The samples, in the order in which they are given.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + use<'a> {
        let message = self.message;
        Elements::new(self.bytes, 2).map_while(move |bytes| read_sample(message, bytes).ok())
    }

    /// The histograms; [`HistogramBytes::read_into`] reads one.
    pub fn histograms(&self) -> impl Iterator<Item = HistogramBytes<'a>> + use<'a> {
        let message = self.message;
        let field = match message {
            Message::V1 => 4,
            Message::V2 => 3,
        };
        Elements::new(self.bytes, field).map(move |bytes| HistogramBytes { message, bytes })
    }

    /// The exemplars, their labels in `pairs` or `refs` as [`Self::outline`] has them.
    pub fn exemplars(&self) -> impl Iterator<Item = ExemplarBytes<'a>> + use<'a> {
        let message = self.message;
        let field = match message {
            Message::V1 => 3,
            Message::V2 => 4,
        };
        Elements::new(self.bytes, field).map(move |bytes| ExemplarBytes { message, bytes })
    }
}

impl Outline {
    fn take_sample(&mut self, message: Message, bytes: &[u8]) -> Result<(), Bad> {
        self.n_samples = self.n_samples.saturating_add(1);
        self.sample = read_sample(message, bytes)?;
        Ok(())
    }

    fn take_histogram(&mut self, _: &[u8]) {
        self.n_histograms = self.n_histograms.saturating_add(1);
    }

    fn take_exemplar(&mut self, _: &[u8]) {
        self.n_exemplars = self.n_exemplars.saturating_add(1);
    }
}

/// One histogram of a series, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct HistogramBytes<'a> {
    message: Message,
    bytes: &'a [u8],
}

impl HistogramBytes<'_> {
    /// Reads it into memory that is used again for the next one.
    pub fn read_into(self, to: &mut Native) -> Times {
        let read = read_histogram(self.bytes, self.message == Message::V2, to);
        debug_assert!(read.is_ok(), "BUG: a request that was gone through is malformed: {read:?}");
        read.unwrap_or_default()
    }
}

/// One exemplar of a series, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarBytes<'a> {
    message: Message,
    bytes: &'a [u8],
}

impl<'a> ExemplarBytes<'a> {
    /// Its value and time; 0 stands for no time of its own. The labels are put where [`Series::outline`] puts them.
    pub fn read_into(self, pairs: &mut Vec<Pair<'a>>, refs: &mut Vec<u32>) -> (f64, Timestamp) {
        pairs.clear();
        refs.clear();
        let (mut v, mut t) = (0.0, 0);
        let read = fields("Exemplar", self.bytes, |field, wire, cursor| {
            match (field, self.message) {
                (1, Message::V1) => {
                    let label = cursor.bytes("Labels", wire)?;
                    if pairs.len() < LABELS_MAX {
                        pairs.push(read_label(label)?);
                    }
                }
                (1, Message::V2) => cursor.uint32s("LabelsRefs", wire, |at| refs.push(at))?,
                (2, _) => v = cursor.double("Value", wire)?,
                (3, _) => t = cursor.uint("Timestamp", wire)?.cast_signed(),
                _ => return Ok(false),
            }
            Ok(true)
        });
        debug_assert!(read.is_ok(), "BUG: a request that was gone through is malformed: {read:?}");
        (v, t)
    }
}

pub(super) fn read_label(message: &[u8]) -> Result<Pair<'_>, Bad> {
    let (mut name, mut value): Pair<'_> = (b"", b"");
    fields("Label", message, |field, wire, cursor| {
        match field {
            1 => name = cursor.bytes("Name", wire)?,
            2 => value = cursor.bytes("Value", wire)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((name, value))
}

pub(super) fn read_sample(message: Message, bytes: &[u8]) -> Result<Sample, Bad> {
    let mut sample = Sample::default();
    fields("Sample", bytes, |field, wire, cursor| {
        match field {
            1 => sample.v = cursor.double("Value", wire)?,
            2 => sample.t = cursor.uint("Timestamp", wire)?.cast_signed(),
            3 if message == Message::V2 => sample.st = cursor.uint("StartTimestamp", wire)?.cast_signed(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(sample)
}

/// Reads metadata over what an earlier field said.
fn read_metadata(message: &[u8], to: &mut MetadataRefs) -> Result<(), Bad> {
    fields("Metadata", message, |field, wire, cursor| {
        match field {
            1 => {
                to.kind = match low_u32(cursor.uint("Type", wire)?) {
                    1 => MetricType::Counter,
                    2 => MetricType::Gauge,
                    3 => MetricType::Histogram,
                    4 => MetricType::GaugeHistogram,
                    5 => MetricType::Summary,
                    6 => MetricType::Info,
                    7 => MetricType::StateSet,
                    _ => MetricType::Unknown,
                }
            }
            3 => to.help = low_u32(cursor.uint("HelpRef", wire)?),
            4 => to.unit = low_u32(cursor.uint("UnitRef", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests;
