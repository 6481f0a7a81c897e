//! `ferula tsdb list`: the blocks of a store, by time.
//!
//! Compat: prometheus `cmd/promtool/tsdb.go`, `listBlocks`.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use tsdb::db::ReadOnly;

use super::{Database, output};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    database: Database,
    /// Print human readable values.
    #[arg(short = 'r', long)]
    human_readable: bool,
}

pub(super) fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    let store = ReadOnly::open(&options.database.path, None).context("opening the db dir")?;
    output::blocks(&store.blocks()?, true, options.human_readable, out)
}
