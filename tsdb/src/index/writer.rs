//! Writes an index in one pass over sorted series; the postings follow from reading the series back.
//!
//! Memory: the symbols, four bytes per series, some 24 bytes per distinct label pair and one batch of
//! postings ([`BATCH_REFS_MAX`]). No side files.
//! The bytes equal upstream's for the same symbols, series and chunk refs.
//!
//! Compat: prometheus `tsdb/index/index.go`, `Writer` (3.14: no label index sections, their slots in the
//! table of contents filled all the same).

use std::hash::BuildHasher as _;
use std::ops::Range;
use std::path::Path;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use model::Labels;

use super::{ALL, ChunkMeta, MAGIC, SERIES_ALIGN, Toc, VERSION};
use crate::bytes::{Cursor, put_str, put_uvarint, put_varint};
use crate::fs::Mmap;
use crate::output::Output;
use crate::{Error, Result};

/// The most refs of a postings batch, unless one label name alone has more: 64 MiB.
const BATCH_REFS_MAX: u64 = 16 << 20;
/// Offsets of symbols and table entries have 32 bits.
const SECTION_BYTES_MAX: u64 = u32::MAX as u64;

/// An index under construction.
#[derive(Debug)]
pub struct Writer {
    out: Output,
    toc: Toc,
    symbols: SymbolTable,
    pairs: PairTable,
    /// The ref of every series written.
    refs: Vec<u32>,
    previous: Labels,
    previous_pairs: Vec<Pair>,
    scratch: Vec<u8>,
}

/// A label pair: its symbols and its slot in the [`PairTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    name: u32,
    value: u32,
    slot: u32,
}

impl Writer {
    /// Creates the file and writes `symbols`: every string of the labels to come, sorted and unique.
    ///
    /// The empty string is added where it is missing: upstream always has it in front.
    ///
    /// # Errors
    /// The file exists or cannot be written; the symbols are not sorted or take more than 4 GiB.
    pub fn create(path: &Path, mut symbols: Vec<Box<[u8]>>) -> Result<Self> {
        let mut out = Output::create(path)?;
        out.put(&MAGIC.to_be_bytes())?;
        out.put(&[VERSION])?;
        if symbols.first().is_none_or(|first| !first.is_empty()) {
            symbols.insert(0, Box::default());
        }
        if let Some((_, late)) = symbols.iter().zip(&symbols[1..]).find(|(a, b)| a >= b) {
            return Err(refuse(path, format!("symbols out of order at {}", model::quote::go_quote(late))));
        }
        let mut toc = Toc {
            symbols: out.pos(),
            series: 0,
            label_indices: 0,
            label_indices_table: 0,
            postings: 0,
            postings_table: 0,
        };
        write_symbols(&mut out, &symbols)?;
        toc.series = out.pos();
        Ok(Self {
            out,
            toc,
            symbols: SymbolTable::new(symbols),
            pairs: PairTable::default(),
            refs: Vec::new(),
            previous: Labels::empty(),
            previous_pairs: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Appends a series: its labels above those of the one before, its chunks one after the other in time.
    ///
    /// # Errors
    /// The order is broken, a string is no symbol, the file passes 64 GiB, or it cannot be written.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<()> {
        if !self.refs.is_empty() && *labels <= self.previous {
            return Err(refuse(
                self.out.path(),
                format!("series out of order: {labels} behind {}", self.previous),
            ));
        }
        self.resolve(labels)?;
        self.out.pad(SERIES_ALIGN)?;
        let series_ref = u32::try_from(self.out.pos() / SERIES_ALIGN)
            .map_err(|_| refuse(self.out.path(), "index larger than 64 GiB".to_owned()))?;
        let mut content = std::mem::take(&mut self.scratch);
        content.clear();
        put_uvarint(&mut content, self.previous_pairs.len() as u64);
        for pair in &self.previous_pairs {
            put_uvarint(&mut content, u64::from(pair.name));
            put_uvarint(&mut content, u64::from(pair.value));
        }
        encode_chunks(&mut content, chunks)
            .map_err(|what| refuse(self.out.path(), format!("{what} in {labels}")))?;
        let mut len = Vec::with_capacity(10);
        put_uvarint(&mut len, content.len() as u64);
        self.out.put(&len)?;
        self.out.begin_sum();
        self.out.put_summed(&content)?;
        self.out.put_sum()?;
        self.scratch = content;
        self.refs.push(series_ref);
        self.previous = labels.clone();
        Ok(())
    }

    /// Looks the pairs of `labels` up, where they are not those of the series before, and counts them.
    fn resolve(&mut self, labels: &Labels) -> Result<()> {
        let previous = std::mem::take(&mut self.previous);
        let mut before = previous.iter();
        let mut reusable = std::mem::take(&mut self.previous_pairs);
        let known = reusable.len();
        for (i, (name, value)) in labels.iter().enumerate() {
            let is_same = before.next() == Some((name, value));
            let pair = if is_same && i < known {
                reusable[i]
            } else {
                let (Some(name), Some(value)) = (self.symbols.get(name), self.symbols.get(value)) else {
                    return Err(refuse(
                        self.out.path(),
                        format!("a label of {labels} is not among the symbols"),
                    ));
                };
                Pair { name, value, slot: self.pairs.slot(name, value) }
            };
            self.pairs.counts[pair.slot as usize] += 1;
            if i < reusable.len() {
                reusable[i] = pair;
            } else {
                reusable.push(pair);
            }
        }
        reusable.truncate(labels.len());
        self.previous_pairs = reusable;
        Ok(())
    }

    /// Writes postings, offset table and table of contents and syncs the file; returns its length.
    ///
    /// # Errors
    /// The file cannot be written or read back, or its offset table would pass 4 GiB.
    pub fn finish(mut self) -> Result<u64> {
        self.toc.label_indices = self.out.pos();
        self.toc.postings = self.out.pos();
        let rows = self.write_postings()?;
        self.toc.label_indices_table = self.out.pos();
        self.toc.postings_table = self.out.pos();
        self.write_table(&rows)?;
        self.out.put(&self.toc.encode())?;
        self.out.finish()
    }

    /// Writes the lists in order of name and value and returns where they are: one row of the table each.
    fn write_postings(&mut self) -> Result<Vec<Row>> {
        self.out.flush()?;
        // What is mapped stays as it is while the file grows behind it.
        let series = Mmap::open(self.out.path())?;
        let mut rows = Vec::with_capacity(self.pairs.keys.len() + 1);
        let refs = std::mem::take(&mut self.refs);
        rows.push(Row { name: None, value: None, offset: self.write_list(&refs)? });
        let order = self.pairs.sorted_slots();
        let mut slots = &order[..];
        while !slots.is_empty() {
            let batch = self.take_batch(&mut slots);
            let lists = self.collect(&series, &refs, batch)?;
            for (&slot, list) in batch.iter().zip(&lists.ranges) {
                let key = self.pairs.keys[slot as usize];
                let offset = self.write_list(&lists.refs[list.clone()])?;
                rows.push(Row { name: Some(key.0), value: Some(key.1), offset });
            }
        }
        Ok(rows)
    }

    /// Splits off the slots of as many whole names as fit a batch, of one at least.
    fn take_batch<'a>(&self, slots: &mut &'a [u32]) -> &'a [u32] {
        let name = |slot: &u32| self.pairs.keys[*slot as usize].0;
        let mut taken = 0;
        let mut refs = 0;
        while let Some(first) = slots.get(taken) {
            let same = slots[taken..].iter().take_while(|slot| name(slot) == name(first)).count();
            let group = &slots[taken..taken + same];
            refs += group.iter().map(|&slot| u64::from(self.pairs.counts[slot as usize])).sum::<u64>();
            if taken > 0 && refs > BATCH_REFS_MAX {
                break;
            }
            taken += same;
        }
        let (batch, rest) = slots.split_at(taken);
        *slots = rest;
        batch
    }

    /// Reads all series back and sorts their refs by the pairs of `batch`, each list ascending as the series do.
    fn collect(&self, series: &Mmap, refs: &[u32], batch: &[u32]) -> Result<Lists> {
        let mut ranges = Vec::with_capacity(batch.len());
        let mut next = vec![u32::MAX; self.pairs.keys.len()];
        let mut total = 0_usize;
        for &slot in batch {
            let end = total + self.pairs.counts[slot as usize] as usize;
            next[slot as usize] = u32::try_from(total)
                .map_err(|_| refuse(self.out.path(), "one label name with 4 G postings".to_owned()))?;
            ranges.push(total..end);
            total = end;
        }
        let name = |slot: Option<&u32>| slot.map_or(0, |&slot| self.pairs.keys[slot as usize].0);
        let names = name(batch.first())..=name(batch.last());
        let mut lists = vec![0; total];
        let mut before: Vec<Pair> = Vec::new();
        for &series_ref in refs {
            let offset = usize::try_from(u64::from(series_ref) * SERIES_ALIGN).unwrap_or(usize::MAX);
            self.read_pairs(series, offset, &mut before)
                .map_err(|e| Error::corrupt(self.out.path(), offset as u64, e.what))?;
            for pair in before.iter().filter(|pair| names.contains(&pair.name)) {
                let at = &mut next[pair.slot as usize];
                lists[*at as usize] = series_ref;
                *at += 1;
            }
        }
        Ok(Lists { refs: lists, ranges })
    }

    /// Reads the pairs of a series into `pairs`, which holds those of the series before.
    fn read_pairs(
        &self,
        series: &[u8],
        offset: usize,
        pairs: &mut Vec<Pair>,
    ) -> Result<(), crate::DecodeError> {
        let mut cursor = Cursor::at(series, offset);
        cursor.uvarint()?;
        let count = usize::try_from(cursor.uvarint()?).unwrap_or(usize::MAX);
        for i in 0..count {
            let (name, value) = (cursor.uvarint32()?, cursor.uvarint32()?);
            match pairs.get_mut(i) {
                Some(pair) if (pair.name, pair.value) == (name, value) => {}
                Some(pair) => *pair = Pair { name, value, slot: self.pairs.known_slot(name, value) },
                None => pairs.push(Pair { name, value, slot: self.pairs.known_slot(name, value) }),
            }
        }
        pairs.truncate(count);
        Ok(())
    }

    fn write_list(&mut self, refs: &[u32]) -> Result<u64> {
        let too_long = || refuse(self.out.path(), format!("postings list of {} refs", refs.len()));
        let count = u32::try_from(refs.len()).map_err(|_| too_long())?;
        let len = count.checked_mul(4).and_then(|len| len.checked_add(4)).ok_or_else(too_long)?;
        self.out.pad(4)?;
        let offset = self.out.pos();
        self.out.put(&len.to_be_bytes())?;
        self.out.begin_sum();
        self.out.put_summed(&count.to_be_bytes())?;
        for refs in refs.chunks(4096) {
            self.scratch.clear();
            self.scratch.extend(refs.iter().flat_map(|r| r.to_be_bytes()));
            let bytes = std::mem::take(&mut self.scratch);
            self.out.put_summed(&bytes)?;
            self.scratch = bytes;
        }
        self.out.put_sum()?;
        Ok(offset)
    }

    fn write_table(&mut self, rows: &[Row]) -> Result<()> {
        let mut row_bytes = Vec::with_capacity(256);
        let symbols = &self.symbols.strings;
        let encode = |row: &Row, out: &mut Vec<u8>| {
            let string = |symbol: Option<u32>| symbol.map_or(ALL.0, |symbol| &*symbols[symbol as usize]);
            out.clear();
            put_uvarint(out, 2);
            put_str(out, string(row.name));
            put_str(out, string(row.value));
            put_uvarint(out, row.offset);
        };
        let mut len = 4;
        for row in rows {
            encode(row, &mut row_bytes);
            len += row_bytes.len() as u64;
        }
        let too_long =
            || refuse(self.out.path(), format!("postings offset table of {len} bytes, above 4 GiB"));
        let len = u32::try_from(len).map_err(|_| too_long())?;
        let count = u32::try_from(rows.len()).map_err(|_| too_long())?;
        self.out.put(&len.to_be_bytes())?;
        self.out.begin_sum();
        self.out.put_summed(&count.to_be_bytes())?;
        for row in rows {
            encode(row, &mut row_bytes);
            self.out.put_summed(&row_bytes)?;
        }
        self.out.put_sum()
    }
}

/// Where a list lies; without a name it is the list of all series.
struct Row {
    name: Option<u32>,
    value: Option<u32>,
    offset: u64,
}

/// The lists of one batch, back to back.
struct Lists {
    refs: Vec<u32>,
    ranges: Vec<Range<usize>>,
}

fn write_symbols(out: &mut Output, symbols: &[Box<[u8]>]) -> Result<()> {
    let mut bytes = Vec::with_capacity(256);
    let mut len = 4;
    for symbol in symbols {
        bytes.clear();
        put_uvarint(&mut bytes, symbol.len() as u64);
        len += (bytes.len() + symbol.len()) as u64;
    }
    if len > SECTION_BYTES_MAX {
        return Err(refuse(out.path(), format!("symbols of {len} bytes, above 4 GiB")));
    }
    let len = u32::try_from(len).expect("checked above");
    let count = u32::try_from(symbols.len()).expect("each takes a byte of the checked length");
    out.put(&len.to_be_bytes())?;
    out.begin_sum();
    out.put_summed(&count.to_be_bytes())?;
    for symbol in symbols {
        bytes.clear();
        put_str(&mut bytes, symbol);
        out.put_summed(&bytes)?;
    }
    out.put_sum()
}

fn encode_chunks(out: &mut Vec<u8>, chunks: &[ChunkMeta]) -> Result<(), &'static str> {
    put_uvarint(out, chunks.len() as u64);
    let mut last: Option<ChunkMeta> = None;
    for &chunk in chunks {
        if chunk.maxt < chunk.mint {
            return Err("chunk that ends before it begins");
        }
        match last {
            None => put_varint(out, chunk.mint),
            Some(last) if chunk.mint <= last.maxt => return Err("overlapping chunks"),
            Some(last) => put_uvarint(out, chunk.mint.abs_diff(last.maxt)),
        }
        put_uvarint(out, chunk.maxt.abs_diff(chunk.mint));
        match last {
            None => put_uvarint(out, chunk.chunk_ref),
            Some(last) => put_varint(out, chunk.chunk_ref.wrapping_sub(last.chunk_ref).cast_signed()),
        }
        last = Some(chunk);
    }
    Ok(())
}

fn refuse(path: &Path, what: String) -> Error {
    Error::io("write", path)(std::io::Error::other(what))
}

/// Symbols by string.
#[derive(Debug)]
struct SymbolTable {
    strings: Vec<Box<[u8]>>,
    positions: HashTable<u32>,
    hasher: RandomState,
}

impl SymbolTable {
    fn new(strings: Vec<Box<[u8]>>) -> Self {
        let hasher = RandomState::default();
        let hash = |i: &u32| hasher.hash_one(&*strings[*i as usize]);
        let mut positions = HashTable::with_capacity(strings.len());
        for i in (0..).take(strings.len()) {
            positions.insert_unique(hash(&i), i, hash);
        }
        Self { strings, positions, hasher }
    }

    fn get(&self, string: &[u8]) -> Option<u32> {
        self.positions.find(self.hasher.hash_one(string), |&i| *self.strings[i as usize] == *string).copied()
    }
}

/// The distinct label pairs and how many series carry each.
#[derive(Debug, Default)]
struct PairTable {
    keys: Vec<(u32, u32)>,
    counts: Vec<u32>,
    slots: HashTable<u32>,
    hasher: RandomState,
}

impl PairTable {
    fn find(&self, name: u32, value: u32) -> Option<u32> {
        self.slots
            .find(self.hasher.hash_one((name, value)), |&slot| self.keys[slot as usize] == (name, value))
            .copied()
    }

    fn slot(&mut self, name: u32, value: u32) -> u32 {
        if let Some(slot) = self.find(name, value) {
            return slot;
        }
        let slot = u32::try_from(self.keys.len()).expect("fewer pairs than bytes in a 32-bit symbol section");
        self.keys.push((name, value));
        self.counts.push(0);
        let (keys, hasher) = (&self.keys, &self.hasher);
        self.slots.insert_unique(hasher.hash_one((name, value)), slot, |&slot| {
            hasher.hash_one(keys[slot as usize])
        });
        slot
    }

    fn known_slot(&self, name: u32, value: u32) -> u32 {
        self.find(name, value).expect("every pair in the file went through the table")
    }

    /// All slots in the order of their strings, which is the order of their symbols.
    fn sorted_slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = (0..).take(self.keys.len()).collect();
        slots.sort_unstable_by_key(|&slot| self.keys[slot as usize]);
        slots
    }
}
