//! What queries cost: the shapes and queries of upstream's own benchmarks and of promql-engine's, over the real store.
//!
//! `cargo bench -p ferula --bench queries -- --filter 'rate(' --upstream FILE` prints per query the least and the median
//! time, the processor's time, the bytes and how often memory was asked for; with FILE, which `go test -bench` wrote in
//! upstream's `promql`, also the ratios. The data of a shape is made once and kept below the target folder.
//!
//! The floor, on a core of 3 GHz: decoding a float sample of a chunk takes 3 ns, advancing two indices and extrapolating
//! 15 ns, adding a column to a compensated sum 1 ns per step, writing 16 bytes of result into fresh memory 5 ns.
//!
//! Compat: prometheus `promql/bench_test.go` (3.14), whose names the rows carry; promql-engine `engine/bench_test.go`.

mod list;
mod measure;
mod shapes;
mod upstream;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use promql::{Engine, EngineOptions, Features, QueryOptions, RangeParams};
use tsdb::Db;

use list::{Case, Kind};
use measure::Cost;

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct Args {
    /// Only queries whose name contains one of these, or ends with it if it begins with `=`.
    #[arg(long)]
    filter: Vec<String>,
    /// The figures of upstream: what `go test -bench . -benchmem` printed; may be given several times.
    #[arg(long)]
    upstream: Vec<PathBuf>,
    /// Threads of the engine, 0 for one per core; every query is measured with each.
    #[arg(long, value_delimiter = ',', default_value = "1,0")]
    threads: Vec<usize>,
    /// Milliseconds to spend on a query at the least.
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// A fiftieth of a second per query.
    #[arg(long)]
    quick: bool,
    /// Blocks of two hours and what is merged of them, as in a server, instead of upstream's blocks of a day.
    #[arg(long)]
    blocks: bool,
    /// Only rows that miss what is aimed at.
    #[arg(long)]
    misses: bool,
    /// Fails if the ratio of a row is below this.
    #[arg(long)]
    at_least: Option<f64>,
    /// Prints the queries instead, for the benchmarks of others: group, name, text, times in ms (step 0 for an instant).
    #[arg(long)]
    list: bool,
    /// Where the data is kept.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/queries"))]
    data: PathBuf,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.quick {
        args.millis = 20;
    }
    let mut known = BTreeMap::new();
    for path in &args.upstream {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        upstream::parse(&text, &mut known);
    }
    let cases = list::all();
    let passes = |name: &str, filter: &str| match filter.strip_prefix('=') {
        Some(end) => name.ends_with(end),
        None => name.contains(filter),
    };
    let is_wanted =
        |case: &Case| args.filter.is_empty() || args.filter.iter().any(|filter| passes(&case.name, filter));
    let mut out = std::io::stdout().lock();
    if args.list {
        return Ok(cases.iter().filter(|case| is_wanted(case)).try_for_each(|case| list(&mut out, case))?);
    }
    let mut missed = 0;
    let mut open: Option<(shapes::Shape, Db)> = None;
    for &threads in &args.threads {
        let engine = engine(threads);
        let shown = if threads == 0 { "a thread per core".to_owned() } else { format!("threads: {threads}") };
        writeln!(out, "\n{shown}\n{HEADER}")?;
        for case in cases.iter().filter(|case| is_wanted(case)) {
            if open.as_ref().is_none_or(|(shape, _)| *shape != case.shape) {
                drop(open.take());
                open = Some((case.shape, shapes::open(case.shape, &args.data, args.blocks)?));
            }
            let Some((_, db)) = &open else { continue };
            let base = known.get(&case.name);
            match run(&engine, db, case, Duration::from_millis(args.millis)) {
                Ok(cost) => {
                    let row = Row { case, cost, base };
                    let is_miss =
                        row.ratio().is_some_and(|ratio| ratio < case.aim.max(args.at_least.unwrap_or(0.0)));
                    missed += usize::from(
                        row.ratio().zip(args.at_least).is_some_and(|(ratio, least)| ratio < least),
                    );
                    if is_miss || !args.misses {
                        row.print(&mut out, is_miss)?;
                    }
                }
                Err(e) => writeln!(out, "{:<96} failed: {e}", case.name)?,
            }
        }
    }
    anyhow::ensure!(missed == 0, "{missed} queries are slower than asked for");
    Ok(())
}

fn list(out: &mut impl Write, case: &Case) -> std::io::Result<()> {
    let (start, end, step) = match case.kind {
        Kind::Range { start, end, step_ms } => (start, end, step_ms),
        Kind::Instant { t } => (t, t, 0),
        Kind::Parse { .. } => return Ok(()),
    };
    let (group, name) = case.name.split_once('/').unwrap_or((&case.name, ""));
    writeln!(out, "{group}\t{name}\t{}\t{start} {end} {step}", case.text)
}

fn engine(threads: usize) -> Engine {
    let features = Features { parser: promql::parse::Options::ALL, ..Features::default() };
    let timeout = Duration::from_secs(100);
    Engine::new(EngineOptions { threads, features, timeout, ..EngineOptions::default() })
}

fn run(engine: &Engine, db: &Db, case: &Case, least: Duration) -> anyhow::Result<Cost> {
    let options = QueryOptions::default();
    let run = || -> anyhow::Result<()> {
        let result = match case.kind {
            Kind::Parse { is_valid } => {
                let parsed = engine.parse(&case.text);
                anyhow::ensure!(
                    parsed.is_ok() == is_valid,
                    "the text is valid or not, otherwise than expected"
                );
                return Ok(());
            }
            Kind::Range { start, end, step_ms } => {
                engine.range_query(db, &case.text, RangeParams { start, end, step_ms }, &options)?
            }
            Kind::Instant { t } => engine.instant_query(db, &case.text, t, &options)?,
        };
        std::hint::black_box(result);
        Ok(())
    };
    measure::measure(least, run)
}

const HEADER: &str = "query                                                                                            \
    | upstream ns |    least ns |   median ns |      CPU ns |  x | x CPU |       bytes | / upstream |  peak bytes | allocs | upstream";

struct Row<'a> {
    case: &'a Case,
    cost: Cost,
    base: Option<&'a upstream::Figures>,
}

impl Row<'_> {
    /// How many times faster than upstream: by the processor's time where that of upstream is known, since the clock is
    /// wrong for both on a machine with other things to do.
    fn ratio(&self) -> Option<f64> {
        let base = self.base?;
        Some(base.cpu_ns.map_or(base.ns / self.cost.least_ns, |cpu_ns| cpu_ns / self.cost.cpu_ns))
    }

    fn print(&self, out: &mut impl Write, is_miss: bool) -> std::io::Result<()> {
        let Cost { least_ns, median_ns, cpu_ns, bytes, peak_bytes, allocations } = self.cost;
        let or_dash = |v: Option<f64>, digits: usize| v.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        let base = self.base;
        writeln!(
            out,
            "{:<96} |{:>12} |{least_ns:>12.0} |{median_ns:>12.0} |{cpu_ns:>12.0} |{:>5} |{:>5} |{bytes:>12} |{:>8} |{peak_bytes:>12} |{allocations:>7} |{:>7}{}",
            self.case.name,
            or_dash(base.map(|b| b.ns), 0),
            or_dash(base.map(|b| b.ns / least_ns), 1),
            or_dash(base.and_then(|b| b.cpu_ns).map(|base| base / cpu_ns), 1),
            or_dash(base.map(|b| b.bytes / bytes.max(1) as f64), 1),
            or_dash(base.map(|b| b.allocations), 0),
            if is_miss { "  < aim" } else { "" },
        )
    }
}
