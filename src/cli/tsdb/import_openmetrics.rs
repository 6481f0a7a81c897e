//! `ferula tsdb create-blocks-from openmetrics`: a file of old samples made into blocks.
//!
//! The file is read once per block, so that of all samples only those of one block are in memory.
//!
//! Compat: prometheus `cmd/promtool/backfill.go`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use model::wire::parse::{Entry, Format, Parser};
use model::{LabelsBuilder, Timestamp};
use tsdb::block::Block;
use tsdb::db::import::BlockBuilder;
use tsdb::fs::{self, Mmap};

use super::{Shown, output};

/// The span of the smallest blocks.
const BLOCK_MS: i64 = 2 * 3_600_000;
/// So many samples are judged together, see [`BlockBuilder::append`].
pub(super) const BATCH_SAMPLES: usize = 5000;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Label to attach to metrics. Can be specified multiple times. Example `--label=label_name=label_value`
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// `OpenMetrics` file to read samples from.
    #[arg(value_name = "input file")]
    input: PathBuf,
    /// Output directory for generated blocks.
    #[arg(value_name = "output directory", default_value = "data/")]
    output: PathBuf,
}

fn label(text: &str) -> Result<(String, String), String> {
    // Both separators are kingpin's.
    let split = text.split_once(['=', ':']).filter(|(name, _)| !name.is_empty());
    let (name, value) = split.ok_or_else(|| format!("expected KEY=VALUE got '{text}'"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The bytes of the input, wherever they come from.
enum Input {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl Input {
    fn open(path: &std::path::Path) -> anyhow::Result<Self> {
        let kind = std::fs::metadata(path).with_context(|| format!("stat {}", path.display()))?;
        // Pipes cannot be mapped.
        Ok(if kind.is_file() { Self::Mapped(Mmap::open(path)?) } else { Self::Read(fs::read(path)?) })
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

pub(super) fn run(
    options: &Options,
    shown: Shown,
    max_block: Duration,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let input = Input::open(&options.input)?;
    fs::create_dir_all(&options.output).context("create output dir")?;
    let times = times(input.bytes()).context("getting min and max timestamp")?;
    let import =
        Import { input: input.bytes(), options, shown, block_ms: block_ms(max_block), wrote_header: false };
    import.run(times, out).context("block creation")
}

/// The times of the oldest and the newest sample, zeros if there is none.
fn times(input: &[u8]) -> anyhow::Result<(Timestamp, Timestamp)> {
    let mut times: Option<(Timestamp, Timestamp)> = None;
    let mut parser = Parser::new(input, Format::OpenMetrics);
    while let Some(entry) = parser.next() {
        if let Entry::Series(line) = entry.context("next")? {
            let t = line.t.ok_or_else(|| anyhow!("expected timestamp for series got none"))?;
            let (mint, maxt) = times.unwrap_or((t, t));
            times = Some((mint.min(t), maxt.max(t)));
        }
    }
    Ok(times.unwrap_or_default())
}

/// The largest span that the compactor knows and that is not longer than asked for.
pub(super) fn block_ms(max_block: Duration) -> i64 {
    let most = i64::try_from(max_block.as_millis()).unwrap_or(i64::MAX);
    tsdb::compact::plan::ranges(BLOCK_MS, most).pop().unwrap_or(BLOCK_MS)
}

struct Import<'a> {
    input: &'a [u8],
    options: &'a Options,
    shown: Shown,
    block_ms: i64,
    wrote_header: bool,
}

impl Import<'_> {
    fn run(mut self, (mint, maxt): (Timestamp, Timestamp), out: &mut dyn Write) -> anyhow::Result<()> {
        let mut start = mint / self.block_ms * self.block_ms;
        // A sample that is at hand for each of the blocks to come, so that empty ones cost no walk over the input.
        let mut next = None;
        while start <= maxt {
            let end = start.saturating_add(self.block_ms);
            if next.is_none_or(|next| next < end) {
                next = self.block(start, end, out).context("process blocks")?;
                if next.is_none() {
                    break;
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Makes the block of the samples from `start` to before `end`; returns the time of the next one behind.
    fn block(
        &mut self,
        start: Timestamp,
        end: Timestamp,
        out: &mut dyn Write,
    ) -> anyhow::Result<Option<Timestamp>> {
        let mut builder = BlockBuilder::new(self.block_ms);
        let mut parser = Parser::new(self.input, Format::OpenMetrics);
        let mut labels = LabelsBuilder::default();
        let mut next: Option<Timestamp> = None;
        let mut n_samples = 0;
        while let Some(entry) = parser.next() {
            let Entry::Series(line) = entry.context("parse")? else { continue };
            let t = line.t.ok_or_else(|| anyhow!("expected timestamp for series, got none"))?;
            if t < start {
                continue;
            }
            if t >= end {
                next = Some(next.map_or(t, |next| next.min(t)));
                continue;
            }
            parser.labels_into(&line, &mut labels).context("add sample")?;
            for (name, value) in &self.options.labels {
                labels.set(name.as_bytes(), value.as_bytes());
            }
            builder.append(&labels.build(), t, line.v).context("add sample")?;
            n_samples += 1;
            if n_samples % BATCH_SAMPLES == 0 {
                builder.commit();
            }
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let written = builder.write(&self.options.output, now).context("flush")?;
        if let Some(meta) = written.filter(|_| !self.shown.quiet) {
            let block = Block::open(&self.options.output.join(meta.ulid.to_string()))?;
            output::blocks(&[Arc::new(block)], !self.wrote_header, self.shown.human_readable, out)?;
            self.wrote_header = true;
        }
        Ok(next)
    }
}
