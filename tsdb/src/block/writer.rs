//! Writes a block so that it exists whole or not at all.
//!
//! Everything goes into `<ULID>.tmp-for-creation`, is synced, and the directory gets its name last. A crash at
//! any point leaves a directory that the next start removes.
//!
//! Compat: prometheus `tsdb/compact.go`, `LeveledCompactor.write`.

use std::path::Path;

use super::meta::{BlockMeta, Stats};
use super::{chunks, tombstones};
use crate::chunk::{self, EncodedChunk, Encoding};
use crate::compact::{SeriesSource, SourceSeries};
use crate::db::paths;
use crate::index::{self, ChunkMeta};
use crate::{Error, Result, fs};

/// How blocks are written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A chunk segment that would grow beyond it ends.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: chunks::SEGMENT_BYTES_DEFAULT }
    }
}

/// Writes the series of `source` into the block `meta.ulid` below `dir` and returns its description with the
/// totals filled in, or `None` if there were no samples: then nothing is left behind.
///
/// `on_chunk` sees every chunk with its number of samples.
///
/// # Errors
/// The source fails or the files cannot be written; what was begun is removed.
pub fn write(
    dir: &Path,
    meta: BlockMeta,
    source: &mut dyn SeriesSource,
    options: Options,
    on_chunk: &mut dyn FnMut(&EncodedChunk, u16),
) -> Result<Option<BlockMeta>> {
    let tmp = dir.join(paths::block_under_construction(meta.ulid));
    let finished = dir.join(meta.ulid.to_string());
    fs::remove_dir_all(&tmp)?;
    let written = write_files(&tmp, meta, source, options, on_chunk).and_then(|meta| {
        if meta.is_some() {
            fs::rename(&tmp, &finished)?;
        } else {
            fs::remove_dir_all(&tmp)?;
        }
        Ok(meta)
    });
    if written.is_err() {
        // The first failure is the one to tell; what cannot be removed now is removed at the next start.
        // A directory renamed but not synced goes too: the caller counts on there being no block.
        let _ = fs::remove_dir_all(&tmp);
        let _ = fs::remove_dir_all(&finished);
    }
    written
}

fn write_files(
    tmp: &Path,
    mut meta: BlockMeta,
    source: &mut dyn SeriesSource,
    options: Options,
    on_chunk: &mut dyn FnMut(&EncodedChunk, u16),
) -> Result<Option<BlockMeta>> {
    fs::create_dir_all(tmp)?;
    let mut chunks = chunks::Writer::create(&tmp.join(paths::BLOCK_CHUNKS), options.segment_bytes)?;
    let mut index = index::Writer::create(&tmp.join(paths::BLOCK_INDEX), source.symbols()?)?;
    meta.stats = write_series(source, &mut chunks, &mut index, on_chunk)?;
    chunks.finish()?;
    index.finish()?;
    if meta.stats.num_samples == 0 {
        return Ok(None);
    }
    fs::write(&tmp.join(paths::BLOCK_META), &meta.encode())?;
    fs::write(&tmp.join(paths::BLOCK_TOMBSTONES), &tombstones::EMPTY_FILE)?;
    fs::sync_dir(tmp)?;
    Ok(Some(meta))
}

fn write_series(
    source: &mut dyn SeriesSource,
    chunks: &mut chunks::Writer,
    index: &mut index::Writer,
    on_chunk: &mut dyn FnMut(&EncodedChunk, u16),
) -> Result<Stats> {
    let mut stats = Stats::default();
    let mut series = SourceSeries::default();
    let mut refs = Vec::new();
    let mut metas = Vec::new();
    while source.next(&mut series)? {
        if series.chunks.is_empty() {
            continue;
        }
        refs.clear();
        chunks.write(&series.chunks, &mut refs)?;
        metas.clear();
        for (chunk, &chunk_ref) in series.chunks.iter().zip(&refs) {
            metas.push(ChunkMeta { mint: chunk.mint, maxt: chunk.maxt, chunk_ref });
            let count = chunk::count(chunk.encoding, &chunk.bytes)
                .map_err(|e| Error::io("write", &paths_of(&series))(std::io::Error::other(e.to_string())))?;
            stats.num_samples += u64::from(count);
            match chunk.encoding {
                Encoding::Xor | Encoding::Xor2 => stats.num_float_samples += u64::from(count),
                _ => stats.num_histogram_samples += u64::from(count),
            }
            on_chunk(chunk, count);
        }
        index.add_series(&series.labels, &metas)?;
        stats.num_series += 1;
        stats.num_chunks += metas.len() as u64;
    }
    Ok(stats)
}

/// A series has no path; its labels say which one it is.
fn paths_of(series: &SourceSeries) -> std::path::PathBuf {
    series.labels.to_string().into()
}
