//! What several commands print: tables, and spans, times and sizes as Go writes them.
//!
//! Compat: Go `text/tabwriter`, `time.Duration.String`, `time.Time.String`; alecthomas/units `Base2Bytes`.

use std::io::Write;
use std::sync::Arc;

use tsdb::block::Block;

/// A column is as wide as its widest cell and this, and at least [`COLUMN_MIN`].
const PADDING: usize = 2;
const COLUMN_MIN: usize = 13;

/// One line per block.
pub(super) fn blocks(
    blocks: &[Arc<Block>],
    with_header: bool,
    human_readable: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut rows: Vec<[String; 8]> = Vec::with_capacity(blocks.len() + 1);
    if with_header {
        let header = [
            "BLOCK ULID",
            "MIN TIME",
            "MAX TIME",
            "DURATION",
            "NUM SAMPLES",
            "NUM CHUNKS",
            "NUM SERIES",
            "SIZE",
        ];
        rows.push(header.map(str::to_owned));
    }
    for block in blocks {
        let meta = block.meta();
        rows.push([
            meta.ulid.to_string(),
            time(meta.min_time, human_readable),
            time(meta.max_time, human_readable),
            duration(meta.max_time.saturating_sub(meta.min_time)),
            meta.stats.num_samples.to_string(),
            meta.stats.num_chunks.to_string(),
            meta.stats.num_series.to_string(),
            size(block.size_bytes(), human_readable),
        ]);
    }
    Ok(out.write_all(table(&rows).as_bytes())?)
}

/// Rows in columns; the last column is as wide as each of its cells.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + PADDING;
    let widths: [usize; N] = std::array::from_fn(|column| width(column).max(COLUMN_MIN));
    for row in rows {
        for (cell, width) in row.iter().zip(widths).take(N - 1) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        text.push_str(&row[N - 1]);
        text.push('\n');
    }
    text
}

fn time(t: i64, human_readable: bool) -> String {
    let readable = || jiff::Timestamp::from_second(t / 1000).ok();
    match readable().filter(|_| human_readable) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        None => t.to_string(),
    }
}

fn size(bytes: u64, human_readable: bool) -> String {
    match (human_readable, bytes) {
        (true, 0) => "0B".to_owned(),
        (true, _) => config::units::format_size(bytes),
        (false, _) => bytes.to_string(),
    }
}

/// Milliseconds as hours, minutes and seconds.
pub(super) fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms {
        0 => return "0s".to_owned(),
        1..1000 => return format!("{sign}{ms}ms"),
        _ => {}
    }
    let (seconds, rest) = (ms / 1000 % 60, ms % 1000);
    let fraction =
        if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{fraction}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}{fraction}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{fraction}s"),
    }
}
