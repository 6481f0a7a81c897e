//! Whether a request is well-formed, down to the last byte and in the order of the bytes: the first thing that is wrong
//! is the one that is told, as upstream tells it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::Native;
use super::super::protobuf::cursor::{Bad, Cursor, fields};
use super::{Message, MetadataRefs, read_histogram, read_label, read_metadata, read_sample};

/// A walk over the fields of one message.
type Walk<'a> = Result<bool, Bad>;

pub(super) fn v1(body: &[u8]) -> Result<(), Bad> {
    let mut scratch = Native::default();
    fields("WriteRequest", body, |field, wire, cursor| {
        match field {
            1 => {
                let series = cursor.bytes("Timeseries", wire)?;
                fields("TimeSeries", series, |field, wire, cursor| {
                    match field {
                        1 => drop(read_label(cursor.bytes("Labels", wire)?)?),
                        2 => drop(read_sample(Message::V1, cursor.bytes("Samples", wire)?)?),
                        3 => exemplar(Message::V1, cursor.bytes("Exemplars", wire)?)?,
                        4 => drop(read_histogram(cursor.bytes("Histograms", wire)?, false, &mut scratch)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            3 => family(cursor.bytes("Metadata", wire)?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// What version 1 says of metric families: nobody here keeps it, but it has to be sound.
fn family(message: &[u8]) -> Result<(), Bad> {
    fields("MetricMetadata", message, |field, wire, cursor| {
        match field {
            1 => drop(cursor.uint("Type", wire)?),
            2 => drop(cursor.bytes("MetricFamilyName", wire)?),
            4 => drop(cursor.bytes("Help", wire)?),
            5 => drop(cursor.bytes("Unit", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

fn exemplar(message: Message, bytes: &[u8]) -> Result<(), Bad> {
    fields("Exemplar", bytes, |field, wire, cursor: &mut Cursor<'_>| -> Walk<'_> {
        match (field, message) {
            (1, Message::V1) => drop(read_label(cursor.bytes("Labels", wire)?)?),
            (1, Message::V2) => cursor.uint32s("LabelsRefs", wire, |_| ())?,
            (2, _) => drop(cursor.double("Value", wire)?),
            (3, _) => drop(cursor.uint("Timestamp", wire)?),
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// Hands every symbol to `on`, with the number of bytes behind it.
pub(super) fn v2<'a>(body: &'a [u8], mut on: impl FnMut(usize, &'a [u8])) -> Result<(), Bad> {
    let mut scratch = Native::default();
    let mut metadata = MetadataRefs::default();
    fields("Request", body, |field, wire, cursor| {
        match field {
            4 => {
                let symbol = cursor.bytes("Symbols", wire)?;
                on(cursor.len(), symbol);
            }
            5 => {
                let series = cursor.bytes("Timeseries", wire)?;
                fields("TimeSeries", series, |field, wire, cursor| {
                    match field {
                        1 => cursor.uint32s("LabelsRefs", wire, |_| ())?,
                        2 => drop(read_sample(Message::V2, cursor.bytes("Samples", wire)?)?),
                        3 => drop(read_histogram(cursor.bytes("Histograms", wire)?, true, &mut scratch)?),
                        4 => exemplar(Message::V2, cursor.bytes("Exemplars", wire)?)?,
                        5 => read_metadata(cursor.bytes("Metadata", wire)?, &mut metadata)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}
