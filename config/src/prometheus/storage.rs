//! `storage`: how long, in what form and out of what order samples are kept.
//!
//! Compat: prometheus `config`, `StorageConfig`.

use model::quote::go_quote;

use super::{Defaults, FloatEncoding, Retention, Storage};
use crate::units::{Size, format_size};
use crate::yaml::emit::Fields;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

pub(super) fn decode_storage(decoder: &mut Decoder, node: &Node, storage: &mut Storage) -> Result<(), Issue> {
    decoder.fields(node, "config.StorageConfig", &mut |decoder, key, value| {
        match key {
            "tsdb" => decode_tsdb(decoder, value, storage)?,
            "exemplars" if value.is_null() => storage.max_exemplars = None,
            "exemplars" => {
                let max_exemplars = storage.max_exemplars.insert(0);
                decoder.fields(value, "config.ExemplarsConfig", &mut |decoder, key, value| {
                    if key == "max_exemplars" {
                        *max_exemplars = decoder.int_as(value, "int64")?.unwrap_or_default();
                    }
                    Ok(key == "max_exemplars")
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(())
}

fn decode_tsdb(decoder: &mut Decoder, node: &Node, storage: &mut Storage) -> Result<(), Issue> {
    let mut floats = String::new();
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            // Upstream's own number under the name that its library gives it: overwritten by the next key.
            "outofordertimewindow" => drop(decoder.int_as(value, "int64")?),
            "out_of_order_time_window" => {
                decoder.set(value, &mut storage.out_of_order_time_window)?;
            }
            "stale_series_compaction_threshold" => {
                decoder.set(value, &mut storage.stale_series_compaction_threshold)?;
            }
            "chunk_encoding" => {
                decoder.fields(value, "config.ChunkEncodingConfig", &mut |decoder, key, value| {
                    if key != "floats" {
                        return Ok(false);
                    }
                    decoder.set(value, &mut floats)?;
                    Ok(true)
                })?;
            }
            "retention" if value.is_null() => storage.retention = None,
            "retention" => storage.retention = decode_retention(decoder, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(());
    }
    storage.floats = match floats.as_str() {
        "" => None,
        "xor" => Some(FloatEncoding::Xor),
        "xor2" => Some(FloatEncoding::Xor2),
        other => {
            let text = format!(
                "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {}",
                go_quote(other.as_bytes())
            );
            return Err(Issue::new(node.pos, text));
        }
    };
    Ok(())
}

fn decode_retention(decoder: &mut Decoder, node: &Node) -> Decoded<Retention> {
    let mut retention = Retention::default();
    let mut size = Size::default();
    let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
        match key {
            "time" => decoder.set(value, &mut retention.time)?,
            "size" => decoder.set(value, &mut size)?,
            "percentage" => decoder.set(value, &mut retention.percentage)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    if size.0 < 0 {
        let shown = format_size(size.0.unsigned_abs());
        let text = format!("'storage.tsdb.retention.size' must be greater than or equal to 0, got -{shown}");
        return Err(Issue::new(node.pos, text));
    }
    if !(0.0..=100.0).contains(&retention.percentage) {
        let shown = model::number::format_g(retention.percentage);
        let text = format!("'storage.tsdb.retention.percentage' must be in the range [0, 100], got {shown}");
        return Err(Issue::new(node.pos, text));
    }
    if retention.percentage > 0.0 && size.0 > 0 {
        let text =
            "storage.tsdb.retention.size is ignored, because storage.tsdb.retention.percentage is specified";
        decoder.warn(node.pos, text);
    }
    retention.size_bytes = size.limit();
    Ok(Some(retention))
}

/// What the flags say counts, and is printed, where the file has no such section.
pub(super) fn print_storage(storage: &Storage, defaults: &Defaults) -> Out {
    let mut tsdb = Fields::default();
    tsdb.put("outofordertimewindow", Out::Raw(storage.out_of_order_time_window.as_millis().to_string()));
    tsdb.some("out_of_order_time_window", storage.out_of_order_time_window);
    if storage.stale_series_compaction_threshold != 0.0 {
        tsdb.put("stale_series_compaction_threshold", storage.stale_series_compaction_threshold);
    }
    if let Some(floats) = storage.floats {
        let text = match floats {
            FloatEncoding::Xor => "xor",
            FloatEncoding::Xor2 => "xor2",
        };
        tsdb.put("chunk_encoding", Out::Map(vec![("floats".to_owned(), text.into())]));
    }
    tsdb.put("retention", print_retention(storage.retention.as_ref().unwrap_or(&defaults.retention)));
    let mut fields = Fields::default();
    fields.put("tsdb", tsdb.into_out());
    if let Some(max) = storage.max_exemplars.or(defaults.max_exemplars) {
        let mut inner = Fields::default();
        inner.some("max_exemplars", max);
        fields.put("exemplars", inner.into_out());
    }
    fields.into_out()
}

fn print_retention(retention: &Retention) -> Out {
    let mut fields = Fields::default();
    fields.some("time", retention.time);
    if retention.size_bytes > 0 {
        fields.put("size", format_size(retention.size_bytes).as_str());
    }
    fields.some("percentage", retention.percentage);
    fields.into_out()
}
