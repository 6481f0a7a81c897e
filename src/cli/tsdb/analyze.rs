//! `ferula tsdb analyze`: what in a block is many, and what comes and goes.
//!
//! Where promtool leaves the order of equals to chance, they are in the order of their names.
//!
//! Compat: prometheus `cmd/promtool/tsdb.go`, `analyzeBlock`, `analyzeCompaction`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use anyhow::Context;
use clap::Args;
use model::labels::METRIC_NAME;
use model::{AnyHistogram, Matcher, SampleBatch, TimeRange};
use tsdb::block::Block;
use tsdb::chunk::{self, Encoding};
use tsdb::db::ReadOnly;
use tsdb::index::ChunkMeta;

use super::{Database, output};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    database: Database,
    /// Block to analyze (default is the last block).
    #[arg(value_name = "block id")]
    block: Option<String>,
    /// How many items to show in each list.
    #[arg(long, default_value_t = 20, allow_negative_numbers = true)]
    limit: i64,
    /// Run extended analysis.
    #[arg(long)]
    extended: bool,
    /// Series selector to analyze. Only 1 set of matchers is supported now.
    #[arg(long = "match", default_value = "", hide_default_value = true)]
    selector: String,
}

/// One line of a list.
type Item = (Vec<u8>, u64);

pub(super) fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    let matchers = match options.selector.as_str() {
        "" => None,
        text => Some(promql::parse::parse_selector(text)?),
    };
    let store = ReadOnly::open(&options.database.path, None).context("opening the db dir")?;
    let block = store.block(options.block.as_deref().filter(|name| !name.is_empty()))?;
    let limit = usize::try_from(options.limit).unwrap_or(0);
    Analysis { block: &block, matchers, limit }.write(&options.selector, out)?;
    if options.extended {
        let matchers = match options.selector.as_str() {
            "" => Vec::new(),
            text => promql::parse::parse_selector(text)?,
        };
        write_chunks(&block, &matchers, out)?;
    }
    Ok(())
}

struct Analysis<'a> {
    block: &'a Block,
    matchers: Option<Vec<Matcher>>,
    limit: usize,
}

/// Sums over the series of a block.
#[derive(Default)]
struct Sums {
    /// Milliseconds of the block's time in which series with the name, or the pair, have no samples.
    uncovered_by_name: HashMap<Vec<u8>, u64>,
    uncovered_by_pair: HashMap<Vec<u8>, u64>,
    series_by_pair: HashMap<Vec<u8>, u64>,
    entries: u64,
}

impl Analysis<'_> {
    fn write(&self, selector: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let meta = self.block.meta();
        let span = meta.max_time.wrapping_sub(meta.min_time);
        writeln!(out, "Block ID: {}", meta.ulid)?;
        writeln!(out, "Duration: {}", output::duration(span))?;
        writeln!(out, "Total Series: {}", meta.stats.num_series)?;
        if self.matchers.is_some() {
            writeln!(out, "Matcher: {selector}")?;
        }
        let matchers = self.matchers.as_deref().unwrap_or_default();
        let names = self.block.label_names(matchers)?;
        writeln!(out, "Label names: {}", names.len())?;
        let refs = self.block.series_refs(matchers)?;
        if self.matchers.is_some() {
            writeln!(out, "Matched series: {}", refs.len())?;
        }
        let sums = self.sums(&refs, span)?;
        writeln!(out, "Postings (unique label pairs): {}", sums.uncovered_by_pair.len())?;
        writeln!(out, "Postings entries (total label pairs): {}", sums.entries)?;

        self.list("Label pairs most involved in churning", per_block(sums.uncovered_by_pair, span), out)?;
        self.list("Label names most involved in churning", per_block(sums.uncovered_by_name, span), out)?;
        self.list("Most common label pairs", sums.series_by_pair.into_iter().collect(), out)?;

        let mut lengths: Vec<Item> = Vec::new();
        let mut counts: Vec<Item> = Vec::new();
        for name in names {
            let values = self.block.label_values(&name, matchers, 0)?;
            lengths.push((name.to_vec(), values.iter().map(|value| value.len() as u64).sum()));
            counts.push((name.into_vec(), values.len() as u64));
        }
        self.list("Label names with highest cumulative label value length", lengths, out)?;
        self.list("Highest cardinality labels", counts, out)?;

        let selected: HashSet<u32> = refs.into_iter().collect();
        let mut metrics: Vec<Item> = Vec::new();
        for name in self.block.label_values(METRIC_NAME, matchers, 0)? {
            let matcher = Matcher::new(model::MatchOp::Eq, METRIC_NAME, &*name)
                .map_err(|e| anyhow::anyhow!("select a metric: {e}"))?;
            let found = self.block.series_refs(&[matcher])?;
            let n = found.into_iter().filter(|found| selected.contains(found)).count();
            metrics.push((name.into_vec(), n as u64));
        }
        self.list("Highest cardinality metric names", metrics, out)
    }

    fn sums(&self, refs: &[u32], span: i64) -> anyhow::Result<Sums> {
        let mut sums = Sums::default();
        let mut chunks = Vec::new();
        let add = |map: &mut HashMap<Vec<u8>, u64>, key: &[u8], n: u64| match map.get_mut(key) {
            Some(sum) => *sum = sum.wrapping_add(n),
            None => drop(map.insert(key.to_vec(), n)),
        };
        for &series_ref in refs {
            let labels = self.block.series(series_ref, &mut chunks)?;
            let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { continue };
            let covered = last.maxt.wrapping_sub(first.mint);
            let uncovered = span.wrapping_sub(covered).cast_unsigned();
            for (name, value) in &labels {
                let pair = [name, b"=", value].concat();
                add(&mut sums.uncovered_by_name, name, uncovered);
                add(&mut sums.uncovered_by_pair, &pair, uncovered);
                add(&mut sums.series_by_pair, &pair, 1);
                sums.entries += 1;
            }
        }
        Ok(sums)
    }

    /// The largest first.
    fn list(&self, title: &str, mut items: Vec<Item>, out: &mut dyn Write) -> anyhow::Result<()> {
        writeln!(out, "\n{title}:")?;
        items.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (key, n) in items.iter().take(self.limit) {
            write!(out, "{n} ")?;
            out.write_all(key)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Times as shares of a block, in whole blocks.
fn per_block(times: HashMap<Vec<u8>, u64>, span: i64) -> Vec<Item> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut off as upstream does")]
    let share = |time: u64| (time as f64 / span as f64) as u64;
    times.into_iter().map(|(key, time)| (key, share(time))).collect()
}

/// What the extended analysis gathers, a number per chunk.
#[derive(Default)]
struct ChunkSizes {
    float_samples: Vec<usize>,
    float_bytes: Vec<usize>,
    histogram_samples: Vec<usize>,
    histogram_bytes: Vec<usize>,
    histogram_buckets: Vec<usize>,
}

fn write_chunks(block: &Block, matchers: &[Matcher], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut sizes = ChunkSizes::default();
    let mut metas: Vec<ChunkMeta> = Vec::new();
    let mut total = 0;
    for series_ref in block.series_refs(matchers)? {
        block.series(series_ref, &mut metas)?;
        for meta in &metas {
            let chunk = block.encoded_chunk(meta)?;
            let n = usize::from(chunk::count(chunk.encoding, &chunk.bytes)?);
            if matches!(chunk.encoding, Encoding::Xor | Encoding::Xor2) {
                sizes.float_samples.push(n);
                sizes.float_bytes.push(chunk.bytes.len());
            } else {
                sizes.histogram_samples.push(n);
                sizes.histogram_bytes.push(chunk.bytes.len());
                sizes.histogram_buckets.push(n_buckets(chunk.encoding, &chunk.bytes)?);
            }
            total += 1;
        }
    }
    writeln!(out, "\nCompaction analysis:\n")?;
    write_distribution("samples per float chunk", sizes.float_samples, total, out)?;
    write_distribution("bytes per float chunk", sizes.float_bytes, total, out)?;
    write_distribution("samples per histogram chunk", sizes.histogram_samples, total, out)?;
    write_distribution("bytes per histogram chunk", sizes.histogram_bytes, total, out)?;
    write_distribution("buckets per histogram chunk", sizes.histogram_buckets, total, out)
}

/// The buckets of all samples of a chunk.
fn n_buckets(encoding: Encoding, bytes: &[u8]) -> anyhow::Result<usize> {
    let mut batch = SampleBatch::default();
    chunk::decode(encoding, bytes, TimeRange::ALL, &mut batch)?;
    let n = |sample: &model::HistogramSample| match &sample.histogram {
        AnyHistogram::Int(h) => h.positive_buckets.len() + h.negative_buckets.len(),
        AnyHistogram::Float(h) => h.positive_buckets.len() + h.negative_buckets.len(),
    };
    Ok(batch.histograms.iter().map(n).sum())
}

/// Numbers as bars of hundredths of `total`.
fn write_distribution(
    what: &str,
    mut numbers: Vec<usize>,
    total: usize,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    numbers.sort_unstable();
    let (Some(&min), Some(&max)) = (numbers.first(), numbers.last()) else {
        return Ok(writeln!(out, "{what}: N/A\n")?);
    };
    let (start, end, step) = scale(min, max);
    let mut bars: BTreeMap<usize, usize> = (0..=(end - start) / step).map(|bar| (bar, 0)).collect();
    for number in &numbers {
        *bars.entry((number - start) / step).or_default() += 1;
    }
    let average = numbers.iter().sum::<usize>() / numbers.len();
    writeln!(out, "{what} (min/avg/max): {min}/{average}/{max}")?;
    let width = |n: usize| n.to_string().len();
    let widest = bars.values().copied().max().unwrap_or(0);
    let (left, right, count) = (width(end), width(end + step), width(widest));
    for (bar, n) in bars {
        let (from, to) = (bar * step + start + 1, (bar + 1) * step + start);
        writeln!(out, "[{from:left$}, {to:right$}]: {n:count$} {}", "#".repeat(100 * n / total))?;
    }
    Ok(writeln!(out)?)
}

/// Where bars begin and end, and how much each covers.
fn scale(min: usize, max: usize) -> (usize, usize, usize) {
    let wanted = (max - min) / 10;
    let mut step = 10;
    while step < wanted && step <= 10_000 {
        step *= 10;
    }
    (min - min % step, max - max % step + step, step)
}
