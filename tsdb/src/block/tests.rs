use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;

use model::{MatchOp, SampleBatch};
use proptest::prelude::*;
use tempfile::TempDir;
use ulid::Ulid;

use super::*;
use crate::bytes::{put_uvarint, put_varint};
use crate::compact::SeriesSource;
use crate::compact::merge::BlockMerge;
use crate::compact::testing::{
    Model, ModelSource, collect, labels, model, peer, read_block, upstream, write_block,
};
use crate::db::paths;
use crate::fs::{self, fault};

#[test]
fn reads_what_it_wrote() {
    let dir = TempDir::new().unwrap();
    let series = model(50, 0..7_200_000, 15_000);
    let block_dir = write_block(dir.path(), &series, 0..7_200_000).unwrap();
    let block = Arc::new(Block::open(&block_dir).unwrap());
    let stats = block.meta().stats;
    assert_eq!((stats.num_series, stats.num_samples, stats.num_chunks), (50, 24_000, 200));
    assert_eq!(block.size_bytes(), fs::dir_size(&block_dir));
    assert_eq!(read_block(&block_dir), series);

    let range = TimeRange::new(1_000_000, 1_100_000);
    let zone = Matcher::new(MatchOp::Re, "zone", "z1|nope").unwrap();
    let set = block.select(std::slice::from_ref(&zone), range).unwrap();
    assert_eq!(set.len(), 17);
    let times: Vec<i64> = collect(&set, TimeRange::ALL)[0].1.keys().copied().collect();
    assert_eq!(times, (1_005_000..=1_095_000).step_by(15_000).collect::<Vec<i64>>());
    assert_eq!(block.select(&[], TimeRange::new(7_200_000, i64::MAX)).unwrap().len(), 0);
    assert_eq!(block.label_values(b"zone", &[], 2).unwrap().len(), 2);
    assert_eq!(block.label_values(b"zone", std::slice::from_ref(&zone), 0).unwrap(), [Box::from(&b"z1"[..])]);
    assert_eq!(block.label_names(&[zone]).unwrap().len(), 3);
}

#[test]
fn segments_are_cut_before_they_pass_the_limit() {
    let dir = TempDir::new().unwrap();
    let series = model(40, 0..1_000_000, 5_000);
    let meta = BlockMeta::level1(Ulid::generate(), 0, 1_000_000);
    let options = writer::Options { segment_bytes: 4096 };
    let meta = writer::write(dir.path(), meta, &mut ModelSource::new(&series, 120), options, &mut |_, _| {})
        .unwrap();
    let block = dir.path().join(meta.unwrap().ulid.to_string());
    let segments = fs::list(&block.join("chunks")).unwrap();
    assert!(segments.len() > 2, "{segments:?}");
    assert!(segments.iter().all(|name| fs::file_len(&block.join("chunks").join(name)).unwrap() <= 4096));
    assert_eq!(read_block(&block), series);
    // A hole would shift every ref.
    fs::remove_file(&block.join("chunks/000002")).unwrap();
    let e = Block::open(&block).unwrap_err().to_string();
    assert!(e.contains("chunk segment 2 is missing"), "{e}");
}

#[test]
fn nothing_to_write_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    assert!(write_block(dir.path(), &Model::new(), 0..10).is_none());
    assert_eq!(fs::list(dir.path()).unwrap(), [""; 0]);
}

/// The disk fills up at every possible byte, and syncs fail: there is a whole block or none, and no rest.
#[test]
fn a_block_is_whole_or_not_there() {
    let series = model(5, 0..100_000, 5_000);
    let mut limit = 0;
    let mut failures = 0;
    loop {
        let dir = TempDir::new().unwrap();
        fault::limit_bytes(dir.path(), limit);
        let meta = BlockMeta::level1(Ulid::generate(), 0, 100_000);
        let mut source = ModelSource::new(&series, 120);
        let written =
            writer::write(dir.path(), meta, &mut source, writer::Options::default(), &mut |_, _| {});
        fault::heal(dir.path());
        match written {
            Ok(meta) => {
                assert_eq!(read_block(&dir.path().join(meta.unwrap().ulid.to_string())), series);
                break;
            }
            Err(e) => {
                assert!(matches!(e, Error::Io { op: "write", .. }), "{e}");
                assert_eq!(fs::list(dir.path()).unwrap(), [""; 0], "after {limit} bytes");
            }
        }
        failures += 1;
        limit += 13;
    }
    assert!(failures > 50, "{failures} crash points");
}

/// A process killed while it writes leaves a prefix of the files under the temporary name.
#[test]
fn what_a_crash_left_is_removed_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let block = write_block(dir.path(), &model(3, 0..1000, 100), 0..1000).unwrap();
    let name = block.file_name().unwrap().to_str().unwrap();
    for suffix in [paths::CREATION_SUFFIX, paths::DELETION_SUFFIX, paths::LEGACY_SUFFIX] {
        let rest = dir.path().join(format!("{name}{suffix}"));
        fs::create_dir_all(&rest.join("chunks")).unwrap();
        fs::write(&rest.join("index"), b"half").unwrap();
    }
    fs::create_dir_all(&dir.path().join("notes.tmp")).unwrap();
    crate::db::blocks::remove_temporary(dir.path()).unwrap();
    assert_eq!(fs::list(dir.path()).unwrap(), [name, "notes.tmp"]);
}

fn tombstones_file(entries: &[(u32, i64, i64)]) -> Vec<u8> {
    let mut body = Vec::new();
    for &(series, mint, maxt) in entries {
        put_uvarint(&mut body, u64::from(series));
        put_varint(&mut body, mint);
        put_varint(&mut body, maxt);
    }
    let sum = crc32c::crc32c(&body).to_be_bytes();
    [&tombstones::EMPTY_FILE[..5], &body, &sum].concat()
}

#[test]
fn deletions_apply_to_reads_and_merges() {
    let dir = TempDir::new().unwrap();
    let mut series = model(3, 0..3_600_000, 15_000);
    let block_dir = write_block(dir.path(), &series, 0..3_600_000).unwrap();
    let refs = Block::open(&block_dir).unwrap().all_series().unwrap().into_vec();
    let entries = [(refs[0], 100_000, 200_000), (refs[1], i64::MIN, i64::MAX), (refs[2], 0, 1_785_000)];
    fs::write(&block_dir.join(paths::BLOCK_TOMBSTONES), &tombstones_file(&entries)).unwrap();
    for ((_, samples), (_, mint, maxt)) in series.iter_mut().zip(entries) {
        samples.retain(|&t, _| t < mint || t > maxt);
    }
    // A series deleted whole is not even found.
    series.retain(|_, samples| !samples.is_empty());
    assert_eq!(read_block(&block_dir), series);

    let block = Arc::new(Block::open(&block_dir).unwrap());
    let merged = BlockMeta::compacted(Ulid::generate(), &[block.meta().clone()]);
    let mut source = BlockMerge::new(&[block]).unwrap();
    let options = writer::Options::default();
    let meta = writer::write(dir.path(), merged, &mut source, options, &mut |_, _| {}).unwrap().unwrap();
    assert_eq!(read_block(&dir.path().join(meta.ulid.to_string())), series);
    assert_eq!((meta.stats.num_series, meta.compaction.level), (2, 2));
}

/// Any byte changed in any file: opening and reading says so or gives values, and never panics.
#[test]
fn damage_is_an_error() {
    let dir = TempDir::new().unwrap();
    let series = model(4, 0..30_000, 1_000);
    let block_dir = write_block(dir.path(), &series, 0..30_000).unwrap();
    let read = || -> Result<()> {
        let block = Arc::new(Block::open(&block_dir)?);
        let set = block.select(&[], TimeRange::ALL)?;
        let mut batch = SampleBatch::default();
        for i in 0..set.len() {
            block.samples_into(set.refs[i], TimeRange::ALL, &mut batch)?;
        }
        Ok(())
    };
    for name in ["chunks/000001", "tombstones", "meta.json"] {
        let path = block_dir.join(name);
        let good = fs::read(&path).unwrap();
        let mut seen = 0;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 7);
            std::fs::write(&path, &bad).unwrap();
            seen += usize::from(read().is_err());
        }
        for len in [0, 3, good.len() / 2, good.len() - 1] {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(read().is_err(), "{name} cut to {len} bytes");
        }
        std::fs::write(&path, &good).unwrap();
        // Of the description most bytes are numbers that may be anything, of the header three are spare.
        assert!(name == "meta.json" || seen + 3 >= good.len(), "{name}: {seen} of {} seen", good.len());
    }
    read().unwrap();
}

#[test]
fn an_unknown_encoding_fails_its_series_alone() {
    let dir = TempDir::new().unwrap();
    let block_dir = write_block(dir.path(), &model(2, 0..10_000, 1_000), 0..10_000).unwrap();
    let path = block_dir.join("chunks/000001");
    let mut content = fs::read(&path).unwrap();
    // The first record: one byte of length, the encoding, the data, the checksum.
    let len = usize::from(content[8]);
    content[9] = 7;
    let sum = crc32c::crc32c(&content[9..10 + len]).to_be_bytes();
    content[10 + len..14 + len].copy_from_slice(&sum);
    fs::write(&path, &content).unwrap();
    let block = Arc::new(Block::open(&block_dir).unwrap());
    let set = block.select(&[], TimeRange::ALL).unwrap();
    let mut batch = SampleBatch::default();
    let e = set.samples_into(0, TimeRange::ALL, &mut batch).unwrap_err().to_string();
    assert!(e.contains(&block.meta().ulid.to_string()) && e.contains("encoding 7"), "{e}");
    set.samples_into(1, TimeRange::ALL, &mut batch).unwrap();
    assert_eq!(batch.len(), 10);
}

fn any_model() -> impl Strategy<Value = Model> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let series = (name, 0..4_u8).prop_map(|(name, x)| labels(&[("__name__", name), ("x", &x.to_string())]));
    let value = prop_oneof![any::<u64>(), (0..5_u8).prop_map(|v| f64::from(v).to_bits())];
    let samples = proptest::collection::btree_map(0_i64..300, value, 1..40);
    proptest::collection::btree_map(series, samples, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Blocks of overlapping times, merged, hold what the maps hold together; of equal times any one value.
    #[test]
    fn merged_blocks_equal_merged_maps(models in proptest::collection::vec(any_model(), 1..4), per_chunk in 1_u16..20) {
        let dir = TempDir::new().unwrap();
        let mut blocks = Vec::new();
        let mut all: BTreeMap<Labels, BTreeMap<i64, Vec<u64>>> = BTreeMap::new();
        for model in &models {
            for (labels, samples) in model {
                let known = all.entry(labels.clone()).or_default();
                for (&t, &v) in samples {
                    known.entry(t).or_default().push(v);
                }
            }
            let meta = BlockMeta::level1(Ulid::generate(), 0, 300);
            let mut source = ModelSource::new(model, per_chunk);
            if let Some(meta) = writer::write(dir.path(), meta, &mut source, writer::Options::default(), &mut |_, _| {}).unwrap() {
                blocks.push(Arc::new(Block::open(&dir.path().join(meta.ulid.to_string())).unwrap()));
            }
        }
        prop_assume!(!blocks.is_empty());
        let metas: Vec<_> = blocks.iter().map(|block| block.meta().clone()).collect();
        let merged = BlockMeta::compacted(Ulid::generate(), &metas);
        let mut source = BlockMerge::new(&blocks).unwrap();
        let meta = writer::write(dir.path(), merged, &mut source, writer::Options::default(), &mut |_, _| {}).unwrap().unwrap();
        let found = read_block(&dir.path().join(meta.ulid.to_string()));
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
        for (labels, samples) in &found {
            let expected = &all[labels];
            prop_assert_eq!(samples.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (t, v) in samples {
                prop_assert!(expected[t].contains(v), "{} at {}", labels, t);
            }
        }
        prop_assert_eq!(meta.stats.num_samples, all.values().map(|s| s.len() as u64).sum::<u64>());
    }
}

// === against real servers ===

/// `model` as an OpenMetrics text. Times in ms, values as Rust prints them (shortest, as Go).
fn open_metrics(model: &Model) -> String {
    let mut out = String::new();
    for (labels, samples) in model {
        let name = String::from_utf8_lossy(labels.metric_name());
        let pairs: Vec<String> = labels
            .iter()
            .filter(|(name, _)| *name != model::labels::METRIC_NAME)
            .map(|(name, value)| {
                format!("{}={}", String::from_utf8_lossy(name), model::quote::go_quote(value))
            })
            .collect();
        for (t, v) in samples {
            let v = f64::from_bits(*v);
            writeln!(out, "{name}{{{}}} {v} {}.{:03}", pairs.join(","), t / 1000, t % 1000).unwrap();
        }
    }
    out + "# EOF\n"
}

fn realistic() -> Model {
    let start = 1_600_000_000_000;
    let mut series = model(70, start..start + 1_800_000, 15_000);
    let odd = labels(&[("__name__", "odd"), ("path", "C:\\ \"q\"\nü"), ("z", "1")]);
    let values = [0.0, -0.0, 1e300, f64::INFINITY, -1.5, 0.1, 0.1, 123_456_789.0];
    let samples = values.iter().zip(0_i64..).map(|(v, i)| (start + i * i * 977, v.to_bits()));
    series.insert(odd, samples.collect());
    series
}

/// The promtool of the peers still writes sections of label values into the index, so what lies before and
/// behind them is compared apart.
#[test]
fn bytes_equal_those_of_promtool() {
    let Some(promtool) = peer("promtool", "bytes_equal_those_of_promtool") else { return };
    let dir = TempDir::new().unwrap();
    let series = realistic();
    let text = dir.path().join("in.om");
    fs::write(&text, open_metrics(&series).as_bytes()).unwrap();
    let theirs = dir.path().join("theirs");
    let run = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
        .args([&text, &theirs])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let names = fs::list(&theirs).unwrap();
    let theirs = theirs.join(names.iter().find(|name| paths::parse_block(name).is_some()).unwrap());
    assert_eq!(read_block(&theirs), series);

    // From their block through our merge, from our own samples, and both must be theirs to the byte.
    let block = Arc::new(Block::open(&theirs).unwrap());
    let ours = dir.path().join("ours");
    let mut sources: [Box<dyn SeriesSource>; 2] =
        [Box::new(BlockMerge::new(&[Arc::clone(&block)]).unwrap()), Box::new(ModelSource::new(&series, 120))];
    for source in &mut sources {
        let meta = BlockMeta::level1(Ulid::generate(), block.meta().min_time, block.meta().max_time);
        let options = writer::Options::default();
        let meta = writer::write(&ours, meta, source.as_mut(), options, &mut |_, _| {}).unwrap().unwrap();
        let dir = ours.join(meta.ulid.to_string());
        assert_eq!(
            fs::read(&dir.join("chunks/000001")).unwrap(),
            fs::read(&theirs.join("chunks/000001")).unwrap()
        );
        assert_eq!(fs::read(&dir.join("tombstones")).unwrap(), fs::read(&theirs.join("tombstones")).unwrap());
        assert_eq!(meta.stats.num_samples, block.meta().stats.num_samples);
        let (a, b) = (fs::read(&dir.join("index")).unwrap(), fs::read(&theirs.join("index")).unwrap());
        let offset = |index: &[u8], slot: usize| {
            let at = index.len() - 52 + slot * 8;
            usize::try_from(u64::from_be_bytes(index[at..at + 8].try_into().unwrap())).unwrap()
        };
        // Header, symbols, series: up to the third slot.
        assert_eq!(offset(&a, 2), offset(&b, 2));
        assert_eq!(a[..offset(&a, 2)], b[..offset(&b, 2)]);
        // The lists, from the first on.
        let (lists_a, lists_b) = (offset(&a, 4).next_multiple_of(4), offset(&b, 4));
        let len = offset(&a, 5) - lists_a;
        assert_eq!(a[lists_a..lists_a + len], b[lists_b..lists_b + len]);
    }
}

/// What promtool reads from a block of ours is what we wrote.
#[test]
fn promtool_reads_our_blocks() {
    let Some(promtool) = peer("promtool", "promtool_reads_our_blocks") else { return };
    let dir = TempDir::new().unwrap();
    let series = realistic();
    let times = 1_600_000_000_000..1_600_001_800_000;
    write_block(dir.path(), &series, times).unwrap();
    // The tool wants a log directory beside the blocks.
    fs::create_dir_all(&dir.path().join(paths::WAL)).unwrap();
    let run = |args: &[&str]| {
        let run = Command::new(&promtool).args(args).arg(dir.path()).output().unwrap();
        assert!(run.status.success(), "{args:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    let mut dumped: Vec<(String, i64, u64)> = Vec::new();
    let dump = run(&["tsdb", "dump"]);
    for line in dump.lines() {
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let (labels, v) = rest.rsplit_once(' ').unwrap();
        let v: f64 = v.parse().unwrap();
        dumped.push((labels.to_owned(), t.parse().unwrap(), v.to_bits()));
    }
    let expected: Vec<(String, i64, u64)> = series
        .iter()
        .flat_map(|(labels, samples)| samples.iter().map(|(&t, &v)| (labels.to_string(), t, v)))
        .collect();
    assert_eq!(dumped, expected);
    let analysis = run(&["tsdb", "analyze"]);
    assert!(analysis.contains("Total Series: 71"), "{analysis}");
}

#[test]
fn reads_the_block_of_upstreams_tests() {
    let Some(dir) = upstream("tsdb/index_format_v1", "reads_the_block_of_upstreams_tests") else { return };
    let found = read_block(&dir);
    assert_eq!(found.len(), 102);
    assert_eq!(found.values().map(BTreeMap::len).sum::<usize>(), 102);
}
