//! `ferula tsdb dump-openmetrics`: every float as a line that `create-blocks-from openmetrics` reads back.
//!
//! Compat: prometheus `cmd/promtool/tsdb.go`, `formatSeriesSetOpenMetrics`.

use std::io::Write;

use clap::Args;
use model::Labels;
use model::labels::METRIC_NAME;
use model::number::format_g;
use model::quote::go_quote;

use super::selection::{self, Selection};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    selection::each_series(&options.selection, |labels, batch| {
        let series = condensed(labels);
        for sample in batch.iter() {
            out.write_all(&series)?;
            writeln!(out, " {} {:.3}", format_g(sample.v), sample.t as f64 / 1000.0)?;
        }
        Ok(())
    })?;
    Ok(writeln!(out, "# EOF")?)
}

/// The name, then the other labels without spaces.
fn condensed(labels: &Labels) -> Vec<u8> {
    let mut text = labels.metric_name().to_vec();
    text.push(b'{');
    for (i, (name, value)) in labels.iter().filter(|(name, _)| *name != METRIC_NAME).enumerate() {
        if i > 0 {
            text.push(b',');
        }
        text.extend_from_slice(name);
        text.push(b'=');
        text.extend_from_slice(go_quote(value).as_bytes());
    }
    text.push(b'}');
    text
}
