//! Reads an index in place: the map is the data, memory holds only samples of the two tables.
//!
//! Symbols, offset table and table of contents are checked whole at open (checksums, order, bounds); postings
//! lists and series entries have their checksum verified whenever they are read. Nothing here panics on bytes.
//!
//! Compat: prometheus `tsdb/index/index.go`, `Reader`.

#![deny(clippy::indexing_slicing)]

use std::ops::Range;
use std::path::{Path, PathBuf};

use model::{Labels, LabelsBuilder};

use super::postings::Postings;
use super::select::PostingsSource;
use super::{ALL, ChunkMeta, HEADER_LEN, MAGIC, SERIES_ALIGN, TOC_LEN, Toc, VERSION};
use crate::bytes::Cursor;
use crate::fs::Mmap;
use crate::{DecodeError, Error, Result};

/// Every eighth symbol's offset stays in memory: half a byte per symbol for four steps of walking on average.
const SYMBOL_SAMPLING: u32 = 8;
/// Every 32nd entry of the offset table stays in memory, as upstream.
const VALUE_SAMPLING: u32 = 32;
/// What the encoding of labels takes; no server lets so long a label in.
const LABEL_BYTES_MAX: usize = (1 << 24) - 1;

/// An open index.
#[derive(Debug)]
pub struct Reader {
    map: Mmap,
    path: PathBuf,
    version: u8,
    toc: Toc,
    symbols: Symbols,
    /// Where the entries of the postings offset table lie in the file.
    table: Range<usize>,
    /// Ascending by name; the list of all series is not among them.
    names: Vec<NameEntry>,
    /// Where the list of all series begins.
    all_at: u64,
}

/// The symbol section: strings in ascending order, referred to by position (in format 1, by offset).
#[derive(Debug)]
struct Symbols {
    count: u32,
    /// Where the strings lie in the file.
    strings: Range<usize>,
    /// Offsets into the file, one per [`SYMBOL_SAMPLING`] symbols.
    sampled: Vec<u32>,
}

/// The values of one label name in the offset table.
#[derive(Debug)]
struct NameEntry {
    name: Box<[u8]>,
    values: u32,
    /// Offsets of entries in the table, ascending by value, one per `every` entries.
    sampled: Vec<u32>,
    every: u32,
}

/// The pairs of a series as symbol refs.
type PairRefs = Vec<(u32, u32)>;

impl Reader {
    /// Opens the index in `map`, which was mapped from `path`.
    ///
    /// # Errors
    /// It is not an index of a known format, a section lies outside of the file or fails its checksum.
    pub fn open(path: &Path, map: Mmap) -> Result<Self> {
        let version = read_header(&map).map_err(|e| corrupt(path, 0, e))?;
        let toc_at = map.len().saturating_sub(TOC_LEN);
        let toc = Toc::decode(map.get(toc_at..).unwrap_or_default())
            .map_err(|e| corrupt(path, toc_at as u64, e))?;
        let symbols = Symbols::open(&map, toc.symbols, version).map_err(|e| corrupt(path, toc.symbols, e))?;
        let mut reader = Self {
            map,
            path: path.to_owned(),
            version,
            toc,
            symbols,
            table: 0..0,
            names: Vec::new(),
            all_at: 0,
        };
        reader.load_table().map_err(|e| corrupt(path, toc.postings_table, e))?;
        Ok(reader)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn size_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// What the symbols take in memory.
    pub fn symbol_table_bytes(&self) -> u64 {
        (self.symbols.sampled.len() * size_of::<u32>()) as u64
    }

    /// The memory of all that was sampled; the file itself is mapped.
    pub fn memory_bytes(&self) -> u64 {
        let of_name =
            |entry: &NameEntry| size_of::<NameEntry>() + entry.name.len() + size_of_val(&*entry.sampled);
        self.symbol_table_bytes() + self.names.iter().map(|entry| of_name(entry) as u64).sum::<u64>()
    }

    /// Walks the offset table once and samples it per name.
    fn load_table(&mut self) -> Result<(), DecodeError> {
        let table = section(&self.map, self.toc.postings_table)?;
        let base = table.start;
        let bytes = self.map.get(..table.end).unwrap_or_default();
        let mut cursor = Cursor::at(bytes, base);
        let count = cursor.u32()?;
        let every = if self.version == 1 { 1 } else { VALUE_SAMPLING };
        let mut names: Vec<NameEntry> = Vec::new();
        let mut last_value: &[u8] = b"";
        for _ in 0..count {
            let at = u32::try_from(cursor.pos() - base)
                .map_err(|_| DecodeError { what: "postings offset table beyond 4 GiB", offset: 0 })?;
            let entry = TableEntry::decode(&mut cursor)?;
            if (entry.name, entry.value) == ALL {
                self.all_at = entry.offset;
                continue;
            }
            let previous = names.last_mut().filter(|previous| *previous.name == *entry.name);
            let Some(previous) = previous else {
                let is_ascending = names.last().is_none_or(|previous| *previous.name < *entry.name);
                if every > 1 && !is_ascending {
                    return Err(DecodeError { what: "label names of the offset table descend", offset: at });
                }
                names.push(NameEntry { name: entry.name.into(), values: 1, sampled: vec![at], every });
                last_value = entry.value;
                continue;
            };
            if every > 1 && entry.value <= last_value {
                return Err(DecodeError { what: "values of the offset table descend", offset: at });
            }
            if previous.values % every == 0 {
                previous.sampled.push(at);
            }
            previous.values += 1;
            last_value = entry.value;
        }
        self.table = base..table.end;
        if self.version == 1 {
            names = self.sort_unordered(&names)?;
        }
        self.names = names;
        Ok(())
    }

    /// Format 1 promises no order in its table: brings equal names together and sorts their entries.
    fn sort_unordered(&self, names: &[NameEntry]) -> Result<Vec<NameEntry>, DecodeError> {
        let mut entries = Vec::new();
        for at in names.iter().flat_map(|entry| &entry.sampled) {
            let entry = self.table_entry(*at)?;
            entries.push((entry.name, entry.value, *at));
        }
        entries.sort_unstable();
        let mut sorted: Vec<NameEntry> = Vec::new();
        for (name, _, at) in entries {
            match sorted.last_mut().filter(|last| *last.name == *name) {
                Some(last) => {
                    last.values += 1;
                    last.sampled.push(at);
                }
                None => {
                    sorted.push(NameEntry { name: name.into(), values: 1, sampled: vec![at], every: 1 });
                }
            }
        }
        Ok(sorted)
    }

    fn table_bytes(&self) -> &[u8] {
        self.map.get(self.table.clone()).unwrap_or_default()
    }

    fn table_entry(&self, at: u32) -> Result<TableEntry<'_>, DecodeError> {
        TableEntry::decode(&mut Cursor::at(self.table_bytes(), at as usize))
    }

    fn name_entry(&self, name: &[u8]) -> Option<&NameEntry> {
        let i = self.names.binary_search_by(|entry| (*entry.name).cmp(name)).ok()?;
        self.names.get(i)
    }

    /// Calls `each` with the values of `name` from the first that is at least `from`, ascending, until it
    /// says stop.
    fn walk_values(
        &self,
        name: &[u8],
        from: &[u8],
        mut each: impl FnMut(&TableEntry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let Some(entry) = self.name_entry(name) else { return Ok(()) };
        let fail = |e| corrupt(&self.path, self.toc.postings_table, e);
        // The last sample whose value is not beyond `from`: `from` lies behind it or nowhere.
        let mut first = 0;
        let mut end = entry.sampled.len();
        while first + 1 < end {
            let middle = first.midpoint(end);
            let at = entry.sampled.get(middle).copied().unwrap_or_default();
            if self.table_entry(at).map_err(fail)?.value <= from {
                first = middle;
            } else {
                end = middle;
            }
        }
        let mut left = entry.values.saturating_sub(u32::try_from(first).unwrap_or(u32::MAX) * entry.every);
        for &at in entry.sampled.get(first..).unwrap_or_default() {
            let mut cursor = Cursor::at(self.table_bytes(), at as usize);
            for _ in 0..entry.every.min(left) {
                let found = TableEntry::decode(&mut cursor).map_err(fail)?;
                left -= 1;
                if found.value >= from && !each(&found)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The label names, ascending.
    pub fn label_names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.iter().map(|entry| &*entry.name)
    }

    /// How many values `name` has.
    pub fn value_count(&self, name: &[u8]) -> u32 {
        self.name_entry(name).map_or(0, |entry| entry.values)
    }

    /// Calls `each` with every value of `name`, ascending, until it says stop.
    ///
    /// # Errors
    /// The offset table changed under us.
    pub fn for_each_value(&self, name: &[u8], mut each: impl FnMut(&[u8]) -> bool) -> Result<()> {
        self.walk_values(name, b"", |entry| Ok(each(entry.value)))
    }

    /// The values of `name` whose series are among `refs`, ascending, at most `limit` unless it is 0.
    ///
    /// # Errors
    /// A list or series cannot be read.
    pub fn values_among(&self, name: &[u8], refs: &Postings<'_>, limit: usize) -> Result<Vec<Box<[u8]>>> {
        let mut values: Vec<Box<[u8]>> = Vec::new();
        if refs.len() < self.value_count(name) as usize {
            // Few series: ask each for its value.
            let mut pairs = PairRefs::new();
            for series_ref in refs.iter() {
                self.series_into(series_ref, Some(&mut pairs), None)?;
                for &(pair_name, value) in &pairs {
                    if self.symbol(pair_name)? == name {
                        values.push(self.symbol(value)?.into());
                    }
                }
            }
            values.sort_unstable();
            values.dedup();
            if limit > 0 {
                values.truncate(limit);
            }
            return Ok(values);
        }
        self.walk_values(name, b"", |entry| {
            if self.list(entry.offset)?.intersects(refs) {
                values.push(entry.value.into());
            }
            Ok(limit == 0 || values.len() < limit)
        })?;
        Ok(values)
    }

    /// The label names of the series among `refs`, ascending.
    ///
    /// # Errors
    /// A series cannot be read.
    pub fn names_among(&self, refs: &Postings<'_>) -> Result<Vec<Box<[u8]>>> {
        let mut seen = std::collections::BTreeSet::new();
        let mut pairs = PairRefs::new();
        for series_ref in refs.iter() {
            self.series_into(series_ref, Some(&mut pairs), None)?;
            seen.extend(pairs.iter().map(|&(name, _)| name));
        }
        let mut names = Vec::with_capacity(seen.len());
        for name in seen {
            names.push(self.symbol(name)?.into());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Calls `each` with every symbol, ascending.
    ///
    /// # Errors
    /// `each` fails, or the section changed under us.
    pub fn for_each_symbol(&self, mut each: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let map = self.map.get(..self.symbols.strings.end).unwrap_or_default();
        let mut cursor = Cursor::at(map, self.symbols.strings.start);
        for _ in 0..self.symbols.count {
            let unknown = DecodeError { what: "symbols beyond 4 GiB", offset: u32::MAX };
            let at =
                u32::try_from(cursor.pos()).map_err(|_| corrupt(&self.path, self.toc.symbols, unknown))?;
            each(at, cursor.str().map_err(|e| corrupt(&self.path, self.toc.symbols, e))?)?;
        }
        Ok(())
    }

    /// The string at a place that [`Reader::for_each_symbol`] told.
    pub fn symbol_at(&self, offset: u32) -> Result<&[u8]> {
        self.symbols.at_offset(&self.map, offset).map_err(|e| corrupt(&self.path, self.toc.symbols, e))
    }

    /// Whether series name symbols by their place in the file and not by their position.
    pub fn names_symbols_by_offset(&self) -> bool {
        self.version == 1
    }

    pub fn symbol_count(&self) -> u32 {
        self.symbols.count
    }

    /// The string a series entry names by `symbol`.
    ///
    /// # Errors
    /// There is no such symbol.
    pub fn symbol(&self, symbol: u32) -> Result<&[u8]> {
        let found = if self.version == 1 {
            self.symbols.at_offset(&self.map, symbol)
        } else {
            self.symbols.at_position(&self.map, symbol)
        };
        found.map_err(|e| corrupt(&self.path, self.toc.symbols, e))
    }

    /// The list at an absolute offset of the file, its checksum verified.
    fn list(&self, offset: u64) -> Result<Postings<'_>> {
        let fail = |e| corrupt(&self.path, offset, e);
        let bytes = section(&self.map, offset).map_err(fail)?;
        let mut cursor = Cursor::new(self.map.get(bytes).unwrap_or_default());
        let count = cursor.u32().map_err(fail)? as usize;
        let refs = cursor.take(cursor.remaining()).map_err(fail)?;
        if refs.len() != count.saturating_mul(4) {
            return Err(Error::corrupt(
                &self.path,
                offset,
                format!("postings list of {count} refs has {} bytes", refs.len()),
            ));
        }
        Ok(Postings::Mapped(refs))
    }

    /// Reads the series at `series_ref`: its pairs and chunks replace what the vectors held.
    ///
    /// # Errors
    /// There is no sound entry: the checksum fails, names do not ascend, a symbol or a time is out of bounds.
    pub fn series_into(
        &self,
        series_ref: u32,
        pairs: Option<&mut Vec<(u32, u32)>>,
        chunks: Option<&mut Vec<ChunkMeta>>,
    ) -> Result<()> {
        let offset = self.series_offset(series_ref);
        let fail = |e| corrupt(&self.path, offset, e);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut cursor = Cursor::at(&self.map, start);
        let entry = cursor
            .str()
            .and_then(|content| {
                if cursor.u32()? == crc32c::crc32c(content) {
                    Ok(content)
                } else {
                    Err(DecodeError { what: "checksum of a series does not match", offset: 0 })
                }
            })
            .map_err(fail)?;
        self.decode_series(entry, pairs, chunks).map_err(fail)
    }

    fn decode_series(
        &self,
        entry: &[u8],
        pairs: Option<&mut Vec<(u32, u32)>>,
        chunks: Option<&mut Vec<ChunkMeta>>,
    ) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(entry);
        let count = cursor.uvarint()?;
        let mut kept = pairs;
        if let Some(pairs) = &mut kept {
            pairs.clear();
        }
        let mut previous = None;
        for _ in 0..count {
            let (name, value) = (cursor.uvarint32()?, cursor.uvarint32()?);
            if previous.is_some_and(|previous| previous >= name) {
                return Err(DecodeError { what: "label names of a series descend", offset: 0 });
            }
            previous = Some(name);
            if !self.symbols.holds(name, self.version) || !self.symbols.holds(value, self.version) {
                return Err(DecodeError { what: "series with an unknown symbol", offset: 0 });
            }
            if let Some(pairs) = &mut kept {
                pairs.push((name, value));
            }
        }
        if let Some(chunks) = chunks {
            decode_chunks(&mut cursor, chunks)?;
        }
        Ok(())
    }

    fn series_offset(&self, series_ref: u32) -> u64 {
        if self.version == 1 { u64::from(series_ref) } else { u64::from(series_ref) * SERIES_ALIGN }
    }

    /// The label set of the series at `series_ref`.
    ///
    /// # Errors
    /// As [`Reader::series_into`].
    pub fn labels(&self, series_ref: u32, scratch: &mut Vec<(u32, u32)>) -> Result<Labels> {
        self.series_into(series_ref, Some(scratch), None)?;
        let mut strings = smallvec::SmallVec::<[(&[u8], &[u8]); 24]>::new();
        for &(name, value) in scratch.iter() {
            strings.push((self.symbol(name)?, self.symbol(value)?));
        }
        let is_sound = strings.iter().all(|(_, value)| !value.is_empty())
            && strings.iter().zip(strings.iter().skip(1)).all(|(a, b)| a.0 < b.0);
        if is_sound {
            return Ok(Labels::from_sorted(strings));
        }
        // Legal by the checksums yet not by the rules; the builder makes a set of it.
        let mut builder = LabelsBuilder::default();
        for (name, value) in strings {
            builder.set(name, value);
        }
        Ok(builder.build())
    }
}

impl PostingsSource for Reader {
    type Error = Error;

    fn all(&self) -> Result<Postings<'_>> {
        if self.all_at == 0 { Ok(Postings::EMPTY) } else { self.list(self.all_at) }
    }

    fn postings(&self, name: &[u8], value: &[u8]) -> Result<Postings<'_>> {
        let mut offset = None;
        self.walk_values(name, value, |entry| {
            offset = (entry.value == value).then_some(entry.offset);
            Ok(false)
        })?;
        offset.map_or(Ok(Postings::EMPTY), |offset| self.list(offset))
    }

    fn postings_where(
        &self,
        name: &[u8],
        prefix: &[u8],
        keep: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Vec<Postings<'_>>> {
        let mut lists = Vec::new();
        self.walk_values(name, prefix, |entry| {
            if !entry.value.starts_with(prefix) {
                return Ok(false);
            }
            if keep(entry.value) {
                lists.push(self.list(entry.offset)?);
            }
            Ok(true)
        })?;
        Ok(lists)
    }
}

impl Symbols {
    fn open(map: &[u8], offset: u64, version: u8) -> Result<Self, DecodeError> {
        let range = section(map, offset)?;
        let bytes = map.get(..range.end).unwrap_or_default();
        let mut cursor = Cursor::at(bytes, range.start);
        let count = cursor.u32()?;
        let strings = cursor.pos()..range.end;
        // A string takes at least its length byte, which bounds the reservation by the file.
        let samples = (count as usize / SYMBOL_SAMPLING as usize).min(cursor.remaining());
        let mut sampled = Vec::with_capacity(samples + 1);
        let mut previous: Option<&[u8]> = None;
        for i in 0..count {
            let at = u32::try_from(cursor.pos())
                .map_err(|_| DecodeError { what: "symbols beyond 4 GiB", offset: 0 })?;
            if i % SYMBOL_SAMPLING == 0 {
                sampled.push(at);
            }
            let symbol = cursor.str()?;
            if symbol.len() > LABEL_BYTES_MAX {
                return Err(DecodeError { what: "symbol above 16 MiB", offset: at });
            }
            if version > 1 && previous.is_some_and(|previous| previous >= symbol) {
                return Err(DecodeError { what: "symbols descend", offset: at });
            }
            previous = Some(symbol);
        }
        Ok(Self { count, strings, sampled })
    }

    fn holds(&self, symbol: u32, version: u8) -> bool {
        if version == 1 { self.strings.contains(&(symbol as usize)) } else { symbol < self.count }
    }

    fn at_position<'a>(&self, map: &'a [u8], symbol: u32) -> Result<&'a [u8], DecodeError> {
        let unknown = DecodeError { what: "unknown symbol", offset: symbol };
        if symbol >= self.count {
            return Err(unknown);
        }
        let at = self.sampled.get((symbol / SYMBOL_SAMPLING) as usize).ok_or(unknown)?;
        let mut cursor = Cursor::at(map.get(..self.strings.end).unwrap_or_default(), *at as usize);
        for _ in 0..symbol % SYMBOL_SAMPLING {
            cursor.str()?;
        }
        cursor.str()
    }

    fn at_offset<'a>(&self, map: &'a [u8], symbol: u32) -> Result<&'a [u8], DecodeError> {
        if !self.holds(symbol, 1) {
            return Err(DecodeError { what: "unknown symbol", offset: symbol });
        }
        Cursor::at(map.get(..self.strings.end).unwrap_or_default(), symbol as usize).str()
    }
}

/// One row of the postings offset table.
struct TableEntry<'a> {
    name: &'a [u8],
    value: &'a [u8],
    offset: u64,
}

impl<'a> TableEntry<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let at = u32::try_from(cursor.pos()).unwrap_or(u32::MAX);
        if cursor.uvarint()? != 2 {
            return Err(DecodeError { what: "offset table entry is not a label pair", offset: at });
        }
        Ok(Self { name: cursor.str()?, value: cursor.str()?, offset: cursor.uvarint()? })
    }
}

/// Checks the magic and returns the version.
fn read_header(map: &[u8]) -> Result<u8, DecodeError> {
    let mut cursor = Cursor::new(map);
    if map.len() < HEADER_LEN + TOC_LEN {
        return Err(DecodeError { what: "index too short", offset: 0 });
    }
    if cursor.u32()? != MAGIC {
        return Err(DecodeError { what: "not an index: wrong magic number", offset: 0 });
    }
    match cursor.u8()? {
        version @ (1 | VERSION | 3) => Ok(version),
        _ => Err(DecodeError { what: "index of an unknown version", offset: 4 }),
    }
}

/// The content of the section at `offset`: behind its length, before its checksum, which is verified.
fn section(map: &[u8], offset: u64) -> Result<Range<usize>, DecodeError> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut cursor = Cursor::at(map, start);
    let len = cursor.u32()? as usize;
    let content = cursor.pos();
    let bytes = cursor.take(len)?;
    if cursor.u32()? != crc32c::crc32c(bytes) {
        return Err(DecodeError { what: "checksum of a section does not match", offset: 0 });
    }
    Ok(content..content + len)
}

fn decode_chunks(cursor: &mut Cursor<'_>, chunks: &mut Vec<ChunkMeta>) -> Result<(), DecodeError> {
    let overflow = |what| DecodeError { what, offset: 0 };
    chunks.clear();
    let count = cursor.uvarint()?;
    let mut last = ChunkMeta { mint: 0, maxt: 0, chunk_ref: 0 };
    for i in 0..count {
        let mint = if i == 0 {
            cursor.varint()?
        } else {
            last.maxt.checked_add_unsigned(cursor.uvarint()?).ok_or(overflow("time of a chunk overflows"))?
        };
        let maxt =
            mint.checked_add_unsigned(cursor.uvarint()?).ok_or(overflow("time of a chunk overflows"))?;
        let chunk_ref =
            if i == 0 { cursor.uvarint()? } else { last.chunk_ref.wrapping_add_signed(cursor.varint()?) };
        last = ChunkMeta { mint, maxt, chunk_ref };
        chunks.push(last);
    }
    Ok(())
}

/// Attaches the path; `base` is where the decoded bytes begin in the file.
fn corrupt(path: &Path, base: u64, e: DecodeError) -> Error {
    Error::corrupt(path, base.max(u64::from(e.offset)), e.what)
}
