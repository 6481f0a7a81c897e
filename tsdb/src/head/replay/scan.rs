//! Where in a log lies what: runs of records that make the table of series, and runs of others.
//!
//! Frames are hopped over, not read: their checksums are verified by whoever reads the run.

use std::path::PathBuf;

use crate::fs::Mmap;
use crate::wal::reader::{Corruption, Records};
use crate::wal::record::Kind;
use crate::wal::segment;
use crate::{Error, Result};

/// A run ends once it is this long, so that it is a good piece of work for one thread.
const RUN_BYTES: usize = 64 << 10;

/// One file of a log.
#[derive(Debug)]
pub(super) struct LogFile {
    /// Of the segment; a checkpoint's files have none.
    pub(super) number: Option<u64>,
    pub(super) path: PathBuf,
    pub(super) map: Mmap,
}

/// Records one behind the other in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The first record that is wrong.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) file: usize,
    /// The bytes of the file before it.
    pub(super) sound_len: usize,
    pub(super) corruption: Corruption,
}

/// A log, looked through.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) files: Vec<LogFile>,
    /// Series, metadata, tombstones.
    pub(super) table: Vec<Run>,
    /// Everything else.
    pub(super) data: Vec<Run>,
    pub(super) cut: Option<Cut>,
}

/// A place in a log: segment and byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::head) struct LogPosition {
    pub(in crate::head) segment: u64,
    pub(in crate::head) offset: u64,
}

/// Opens the checkpoint and the segments of the log in `dir`, or what is behind `from`.
pub(super) fn open(dir: &std::path::Path, from: Option<LogPosition>) -> Result<Vec<LogFile>> {
    let checkpoint = segment::checkpoints(dir)?.last().copied();
    // What the position stands for covers a checkpoint that ends before it.
    let checkpoint = checkpoint.filter(|&last| from.is_none_or(|from| last >= from.segment));
    let mut paths = Vec::new();
    if let Some(checkpoint) = checkpoint {
        let path = segment::checkpoint_path(dir, checkpoint);
        paths.extend(segment::list(&path)?.into_iter().map(|n| (None, segment::path(&path, n))));
    }
    let first = checkpoint.map(|last| last + 1).max(from.map(|from| from.segment)).unwrap_or(0);
    let segments = segment::list(dir)?.into_iter().filter(|&n| n >= first);
    paths.extend(segments.map(|n| (Some(n), segment::path(dir, n))));
    let open = |(number, path): (Option<u64>, PathBuf)| {
        let map = Mmap::open(&path)?;
        map.advise_sequential();
        Ok(LogFile { number, path, map })
    };
    paths.into_iter().map(open).collect()
}

/// Looks through the files, in the first segment from `from` on.
pub(super) fn scan(files: Vec<LogFile>, from: Option<LogPosition>) -> Result<Scanned> {
    let mut scanned = Scanned { files, ..Scanned::default() };
    for file in 0..scanned.files.len() {
        let LogFile { number, path, map } = &scanned.files[file];
        let skipped = from.filter(|from| *number == Some(from.segment)).map_or(0, |from| from.offset);
        let start = usize::try_from(skipped).unwrap_or(usize::MAX);
        if start > map.len() {
            return Err(Error::corrupt(path, map.len() as u64, format!("nothing at byte {start}")));
        }
        let cut = scan_file(map, file, start, &mut scanned.table, &mut scanned.data);
        if cut.is_some() {
            scanned.cut = cut;
            break;
        }
    }
    Ok(scanned)
}

fn scan_file(
    map: &[u8],
    file: usize,
    start: usize,
    table: &mut Vec<Run>,
    data: &mut Vec<Run>,
) -> Option<Cut> {
    let mut records = Records::within(map, start, map.len());
    loop {
        let sound_len = records.sound_len();
        let cut = |corruption| Some(Cut { file, sound_len, corruption });
        let extent = match records.skip() {
            Ok(Some(extent)) => extent,
            Ok(None) => return None,
            Err(corruption) => return cut(corruption),
        };
        let run = Run { file, start: extent.start, end: extent.end };
        let kind = match Records::peek(&extent) {
            Some(kind) => kind,
            // Has to be unpacked to be known. If that fails it is told when it is read.
            None => match Records::within(map, run.start, run.end).next() {
                Ok(Some(record)) => Kind::of(record),
                Ok(None) | Err(_) => Kind::Unknown(0),
            },
        };
        let runs = match kind {
            Kind::Series | Kind::Metadata | Kind::Tombstones => &mut *table,
            _ => &mut *data,
        };
        match runs.last_mut() {
            // Only neighbours: nothing of the other kind may lie between.
            Some(last) if last.file == file && last.end == sound_len && run.end - last.start <= RUN_BYTES => {
                last.end = run.end;
            }
            _ => runs.push(run),
        }
    }
}

impl Scanned {
    /// Leaves out what begins at or behind the cut.
    pub(super) fn cut_at(&mut self, cut: Cut) {
        let keeps = |run: &Run| (run.file, run.start) < (cut.file, cut.sound_len);
        self.table.retain(keeps);
        self.data.retain(keeps);
        self.cut = Some(cut);
    }

    /// The records of a run.
    pub(super) fn records(&self, run: Run) -> Records<'_> {
        Records::within(&self.files[run.file].map, run.start, run.end)
    }
}

/// For progress: the numbers of the first and last segment.
pub(super) fn bounds(files: &[LogFile]) -> (u64, u64) {
    let mut numbers = files.iter().filter_map(|file| file.number);
    let first = numbers.next().unwrap_or(0);
    (first, numbers.next_back().unwrap_or(first))
}
