use std::path::Path;

use model::storage::Metadata;
use model::{Exemplar, FloatHistogram, Histogram, Labels, Value};
use proptest::prelude::*;

use super::reader::Records;
use super::record::{self, Kind, RefMarker, RefSample, RefTombstone};
use super::*;
use crate::fs::{self, fault};

const RAW: Compression = Compression::None;
const SNAPPY: Compression = Compression::Snappy;
const ALL: [Compression; 3] = [RAW, SNAPPY, Compression::Zstd];

fn options(segment_bytes: u64, compression: Compression) -> Options {
    Options { segment_bytes, compression, sync_interval: None }
}

fn batch(records: &[Vec<u8>], compression: Compression) -> Batch {
    let mut batch = Batch::new(compression);
    for record in records {
        batch.push(record);
    }
    batch
}

/// All records of a log; panics at corruption.
fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for n in segment::list(dir).unwrap() {
        let bytes = fs::read(&segment::path(dir, n)).unwrap();
        let mut records = Records::new(&bytes);
        while let Some(record) = records.next().unwrap() {
            all.push(record.to_vec());
        }
    }
    all
}

/// Bytes that do not compress, each record recognisable.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

#[test]
fn frame_golden_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(1 << 20, RAW)).unwrap();
    writer.log(batch(&[b"123456789".to_vec()], RAW)).unwrap();
    let bytes = fs::read(&segment::path(dir.path(), 0)).unwrap();
    // The checksum is the standard check value of CRC-32C.
    assert_eq!(bytes, b"\x01\x00\x09\xe3\x06\x92\x83123456789");
    writer.close().unwrap();
    assert_eq!(fs::file_len(&segment::path(dir.path(), 0)).unwrap(), PAGE_LEN as u64);
}

#[test]
fn records_of_all_lengths_come_back_over_pages_and_segments() {
    for compression in ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut logged = Vec::new();
        for round in 0..2 {
            let writer = Writer::open(dir.path(), options(4 * PAGE_LEN as u64, compression)).unwrap();
            let edges = (PAGE_LEN - 2 * HEADER_LEN - 3..PAGE_LEN + 3).step_by(2);
            for (i, len) in edges.chain([1, 2, 90_000, 3 * PAGE_LEN]).enumerate() {
                let records = vec![noise(len, i as u64), vec![7; len], b"x".to_vec()];
                writer.log(batch(&records, compression)).unwrap();
                logged.extend(records);
            }
            if round == 0 {
                writer.close().unwrap();
            }
        }
        assert!(segment::list(dir.path()).unwrap().len() > 4);
        assert_eq!(read_all(dir.path()), logged);
    }
}

#[test]
fn a_log_torn_at_any_byte_of_its_last_page_loses_the_torn_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(1 << 20, RAW)).unwrap();
    let records: Vec<Vec<u8>> = (0..60).map(|i| noise(1000, i)).collect();
    for record in &records {
        writer.log(batch(std::slice::from_ref(record), RAW)).unwrap();
    }
    drop(writer);
    let whole = fs::read(&segment::path(dir.path(), 0)).unwrap();
    for cut in (PAGE_LEN..whole.len()).chain([0, 1]) {
        let mut reader = Records::new(&whole[..cut]);
        let mut n = 0;
        let ending = loop {
            match reader.next() {
                Ok(Some(record)) => {
                    assert_eq!(record, records[n]);
                    n += 1;
                }
                other => break other.map(|_| ()),
            }
        };
        let sound = reader.sound_len();
        assert!(sound <= cut);
        if ending.is_ok() {
            continue;
        }
        // What a repair keeps reads without complaint and holds the same records.
        let mut again = Records::new(&whole[..sound]);
        let mut kept = 0;
        while again.next().unwrap().is_some() {
            kept += 1;
        }
        assert_eq!(kept, n, "cut at {cut}");
    }
}

/// Segments 0 to 2, a flipped bit in the sixth record of segment 1, and how much of that segment is sound.
fn corrupt_log() -> (tempfile::TempDir, usize) {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(PAGE_LEN as u64, RAW)).unwrap();
    for i in 0..90 {
        writer.log(batch(&[noise(1000, i)], RAW)).unwrap();
    }
    drop(writer);
    let path = segment::path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5 * 1007 + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut records = Records::new(&bytes);
    let corruption = loop {
        if let Err(corruption) = records.next() {
            break corruption;
        }
    };
    assert_eq!(corruption.offset, 5 * 1007);
    let sound = records.sound_len();
    (dir, sound)
}

#[track_caller]
fn check_repaired(dir: &Path) {
    assert_eq!(segment::list(dir).unwrap(), [0, 1]);
    assert_eq!(read_all(dir).len(), 32 + 5);
    assert_eq!(fs::list(dir).unwrap(), ["00000000", "00000001", "00000001.corrupt", "00000002.corrupt"]);
}

#[test]
fn repair_keeps_what_is_sound_and_puts_the_rest_aside() {
    let (dir, sound) = corrupt_log();
    // What an older repair left goes.
    fs::write(&dir.path().join("00000000.corrupt"), b"").unwrap();
    repair::repair(dir.path(), 1, sound).unwrap();
    check_repaired(dir.path());
}

#[test]
fn a_repair_that_was_interrupted_anywhere_is_done_again() {
    for changes in 0.. {
        let (dir, sound) = corrupt_log();
        let whole = fs::read(&segment::path(dir.path(), 1)).unwrap();
        fs::fault::limit_changes(dir.path(), changes);
        let finished = repair::repair(dir.path(), 1, sound).is_ok();
        fs::fault::heal(dir.path());
        // The log is still one: no number is missing, and nothing that was sound is lost.
        let segments = segment::list(dir.path()).unwrap();
        assert!(segments == [0, 1] || segments == [0, 1, 2], "after {changes} changes: {segments:?}");
        let kept = fs::read(&segment::path(dir.path(), 1)).unwrap();
        assert!(kept == whole || kept == whole[..sound], "after {changes} changes");
        if kept == whole {
            repair::repair(dir.path(), 1, sound).unwrap();
        }
        check_repaired(dir.path());
        assert_eq!(fs::read(&dir.path().join("00000001.corrupt")).unwrap(), whole);
        if finished {
            assert!(changes >= 4, "the repair takes at least a rename, a write, a link and a rename");
            return;
        }
    }
}

#[test]
fn a_full_disk_refuses_the_batch_and_the_log_goes_on_when_there_is_space() {
    for limit in (0..3500).step_by(97) {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::open(dir.path(), options(PAGE_LEN as u64, RAW)).unwrap();
        let first: Vec<Vec<u8>> = (0..30).map(|i| noise(1000, i)).collect();
        writer.log(batch(&first, RAW)).unwrap();
        fault::limit_bytes(dir.path(), limit);
        // The group crosses from the first segment into the second and must be taken back from both.
        let refused: Vec<Vec<u8>> = (30..40).map(|i| noise(1000, i)).collect();
        let error = writer.log(batch(&refused, RAW)).unwrap_err().to_string();
        assert!(error.contains("no storage space"), "{error}");
        fault::heal(dir.path());
        assert_eq!(read_all(dir.path()), first, "limit {limit}");
        let second = vec![noise(500, 99)];
        writer.log(batch(&second, RAW)).unwrap();
        drop(writer);
        assert_eq!(read_all(dir.path()), [first, second].concat());
    }
}

#[test]
fn a_failed_sync_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Some(std::time::Duration::from_millis(1));
    let writer =
        Writer::open(dir.path(), Options { sync_interval: interval, ..options(1 << 20, RAW) }).unwrap();
    fault::fail_syncs(dir.path());
    writer.log(batch(&[b"one".to_vec()], RAW)).unwrap();
    while writer.poison().is_none() {
        std::thread::yield_now();
    }
    let error = writer.log(batch(&[b"two".to_vec()], RAW)).unwrap_err();
    assert!(
        matches!(&error, crate::Error::Refused(e) if matches!(**e, crate::Error::Poisoned(_))),
        "{error}"
    );
    fault::heal(dir.path());
}

#[test]
fn concurrent_commits_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(4 * PAGE_LEN as u64, SNAPPY)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let writer = &writer;
            scope.spawn(move || {
                for i in 0..50 {
                    writer.log(batch(&[noise(700, thread * 1000 + i)], SNAPPY)).unwrap();
                }
            });
        }
    });
    drop(writer);
    let mut found = read_all(dir.path());
    let mut expected: Vec<_> = (0..8).flat_map(|t| (0..50).map(move |i| noise(700, t * 1000 + i))).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_log_that_mixes_compressions_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut logged = Vec::new();
    for round in 0..3 {
        let writer = Writer::open(dir.path(), options(4 * PAGE_LEN as u64, RAW)).unwrap();
        for (n, compression) in (0..).zip(ALL) {
            let records = [vec![n; 5000 + 7 * round], noise(40_000, round as u64), vec![n; 3]];
            writer.log(batch(&records, compression)).unwrap();
            logged.extend(records);
        }
        writer.close().unwrap();
    }
    assert_eq!(read_all(dir.path()), logged);
    // Bytes that are not what the flag says: a corruption where they lie.
    let mut bytes = b"\x11\x00\x09\xe3\x06\x92\x83123456789".to_vec();
    for flag in [0x10, 0x08, 0x18, 0x20] {
        bytes[0] = FULL | flag;
        assert_eq!(Records::new(&bytes).next().unwrap_err().offset, 0, "{flag:#x}");
    }
}

#[test]
fn segments_before_one_can_be_removed_but_never_the_open_one() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(PAGE_LEN as u64, RAW)).unwrap();
    for i in 0..100 {
        writer.log(batch(&[noise(1000, i)], RAW)).unwrap();
    }
    assert_eq!(segment::list(dir.path()).unwrap(), [0, 1, 2, 3]);
    writer.remove_before(2).unwrap();
    assert_eq!(segment::list(dir.path()).unwrap(), [2, 3]);
    writer.remove_before(9).unwrap();
    assert_eq!(segment::list(dir.path()).unwrap(), [3]);
    writer.log(batch(&[b"on".to_vec()], RAW)).unwrap();
    drop(writer);
    assert_eq!(read_all(dir.path()).last().unwrap(), b"on");
}

/// Records of every type for series 1 to 3 at 100, 200 and 300 ms; those of later times come first.
fn records_of_all_types() -> Vec<Vec<u8>> {
    let mut series = Vec::new();
    record::begin_series(&mut series);
    for n in 1..=3 {
        record::push_series(&mut series, n, &Labels::from_pairs([("n", n.to_string())]));
    }
    let mut all = vec![series];
    let integers = Histogram { count: 7, zero_count: 7, sum: 1.5, ..Histogram::default() };
    let floats = FloatHistogram { count: 7.5, zero_count: 7.5, sum: 1.5, ..FloatHistogram::default() };
    let custom = Histogram { schema: -53, custom_values: vec![1.0, 2.5], ..Histogram::default() };
    let custom_floats =
        FloatHistogram { schema: -53, custom_values: vec![1.0, 2.5], ..FloatHistogram::default() };
    for stores_start_times in [false, true] {
        let mut samples = record::Samples::new(stores_start_times);
        let mut histograms = record::HistogramRecords::new(stores_start_times);
        let mut bytes = Vec::new();
        for t in [300, 100, 200] {
            let st = t - 50;
            samples.push(&mut bytes, RefSample { series: 1, st, t, v: 0.5 });
            histograms.push(2, st, t, Value::Histogram(&integers));
            histograms.push(2, st, t, Value::Histogram(&custom));
            histograms.push(3, st, t, Value::FloatHistogram(&floats));
            histograms.push(3, st, t, Value::FloatHistogram(&custom_floats));
        }
        all.push(bytes);
        histograms.drain(|record| all.push(record.to_vec()));
    }
    let (mut exemplars, mut bytes) = (record::Exemplars::default(), Vec::new());
    for t in [300, 100, 200] {
        let exemplar =
            Exemplar { labels: Labels::from_pairs([("id", t.to_string())]), v: 1.0, t, has_own_t: true };
        exemplars.push(&mut bytes, 1, &exemplar);
    }
    all.push(bytes);
    let mut bytes = Vec::new();
    record::begin_tombstones(&mut bytes);
    for (series, maxt) in [(1, 150), (1, 200), (2, 500), (3, 199)] {
        record::push_tombstone(&mut bytes, RefTombstone { series, mint: 100, maxt });
    }
    all.push(bytes);
    for help in ["old", "new"] {
        let mut bytes = Vec::new();
        for n in 1..=3 {
            let metadata = Metadata { help: help.into(), ..Metadata::default() };
            record::push_metadata(&mut bytes, n, &metadata);
        }
        all.push(bytes);
    }
    let mut bytes = Vec::new();
    record::push_marker(&mut bytes, RefMarker { series: 1, chunk: 8 });
    all.push(bytes);
    all.push(vec![200, 1, 2, 3]);
    all
}

/// What is in records, one line per item: type, ref, start time, time, or what else there is.
fn items(records: &[Vec<u8>]) -> Vec<String> {
    let mut lines = Vec::new();
    for record in records {
        let kind = record[0];
        match Kind::of(record) {
            Kind::Series => record::decode_series(record, |n, _| lines.push(format!("{kind}: {n}"))).unwrap(),
            Kind::Samples => {
                record::each_sample(record, |it| {
                    lines.push(format!("{kind}: {} {} {}", it.series, it.st, it.t));
                })
                .unwrap();
            }
            Kind::Histograms => record::decode_histograms(record, |series, st, t, _| {
                lines.push(format!("{kind}: {series} {st} {t}"));
            })
            .unwrap(),
            Kind::Exemplars => record::decode_exemplars(record, |it| {
                lines.push(format!("{kind}: {} {} {}", it.series, it.exemplar.t, it.exemplar.labels));
            })
            .unwrap(),
            Kind::Tombstones => {
                let mut tombstones = Vec::new();
                record::decode_tombstones(record, &mut tombstones).unwrap();
                lines.extend(tombstones.iter().map(|it| format!("{kind}: {} {}", it.series, it.maxt)));
            }
            Kind::Metadata => {
                record::decode_metadata(record, |n, it| lines.push(format!("{kind}: {n} {}", it.help)))
                    .unwrap();
            }
            Kind::Markers | Kind::Unknown(_) => lines.push(format!("{record:?}")),
        }
    }
    lines
}

/// The items of a checkpoint of all types, series 2 gone, from 200 ms on.
fn checkpointed(stores_start_times: bool, compression: Compression) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let options = options(PAGE_LEN as u64, compression);
    let writer = Writer::open(dir.path(), options).unwrap();
    writer.log(batch(&records_of_all_types(), compression)).unwrap();
    for _ in 0..4 {
        writer.roll().unwrap();
    }
    checkpoint::write(dir.path(), 1, 200, stores_start_times, options, |n| n != 2).unwrap();
    assert_eq!(segment::list(dir.path()).unwrap(), [2, 3, 4]);
    let first = items(&read_all(&segment::checkpoint_path(dir.path(), 1)));
    // The next one reads this one, and keeps all that is still wanted.
    checkpoint::write(dir.path(), 2, 200, stores_start_times, options, |n| n != 2).unwrap();
    assert_eq!(segment::checkpoints(dir.path()).unwrap(), [2]);
    let second = items(&read_all(&segment::checkpoint_path(dir.path(), 2)));
    let sorted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&second), sorted(&first));
    // And one that wants nothing any more keeps what nobody knows.
    checkpoint::write(dir.path(), 3, 301, stores_start_times, options, |_| false).unwrap();
    assert_eq!(items(&read_all(&segment::checkpoint_path(dir.path(), 3))), ["[200, 1, 2, 3]"]);
    first
}

#[test]
fn checkpoint_keeps_of_every_type_what_is_needed() {
    let mut tail = vec!["4: 1 300 {id=\"300\"}", "4: 1 200 {id=\"200\"}", "3: 1 200", "[200, 1, 2, 3]"];
    tail.extend(["6: 1 new", "6: 3 new"]);
    let plain = ["2: 1 0 300", "2: 1 0 200", "7: 2 0 300", "7: 2 0 200", "9: 2 0 300", "9: 2 0 200"];
    let plain = [&plain[..], &["8: 3 0 300", "8: 3 0 200", "10: 3 0 300", "10: 3 0 200"]].concat();
    let expected = [&["1: 1", "1: 3"][..], &plain, &plain, &tail].concat();
    assert_eq!(checkpointed(false, SNAPPY), expected);

    // Of records without start times none are known; the others keep theirs.
    let started = |kinds: [u8; 5], st: [i64; 2]| -> Vec<String> {
        let at = |kind, series| [300, 200].map(|t| (kind, series, t, st[usize::from(t == 200)]));
        let apart = kinds.into_iter().zip([1, 2, 2, 3, 3]).flat_map(|(kind, series)| at(kind, series));
        apart.map(|(kind, series, t, st)| format!("{kind}: {series} {st} {t}")).collect()
    };
    // Custom buckets lie apart in what was read first and among the others in what was read then.
    let mut expected: Vec<String> = ["1: 1", "1: 3"].map(str::to_owned).to_vec();
    expected.extend(started([11, 12, 12, 13, 13], [0, 0]));
    let mut mixed = started([11, 12, 12, 13, 13], [250, 150]);
    for at in [2, 6] {
        mixed[at..at + 4].sort_by(|a, b| b.cmp(a));
    }
    expected.extend(mixed);
    expected.extend(tail.iter().map(|&line| line.to_owned()));
    assert_eq!(checkpointed(true, Compression::Zstd), expected);
}

#[test]
fn a_checkpoint_that_fails_leaves_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(PAGE_LEN as u64, RAW);
    let writer = Writer::open(dir.path(), options).unwrap();
    writer.log(batch(&[vec![1, 0]], RAW)).unwrap();
    writer.roll().unwrap();
    let error = checkpoint::write(dir.path(), 0, 0, false, options, |_| true).unwrap_err().to_string();
    assert!(error.contains("record too short"), "{error}");
    assert_eq!(segment::list(dir.path()).unwrap(), [0, 1]);
    assert_eq!(segment::checkpoints(dir.path()).unwrap(), Vec::<u64>::new());
    segment::remove_temporary(dir.path()).unwrap();
    assert_eq!(fs::list(dir.path()).unwrap(), ["00000000", "00000001"]);
}

proptest! {
    #[test]
    fn any_bytes_are_records_or_corruption(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut records = Records::new(&bytes);
        while let Ok(Some(_)) = records.next() {}
        // A sound frame around arbitrary "compressed" bytes.
        let crc = crc32c::crc32c(&bytes).to_be_bytes();
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        for flag in [super::SNAPPY, super::ZSTD] {
            let mut framed = [&[FULL | flag][..], &len, &crc].concat();
            framed.extend_from_slice(&bytes);
            let _ = Records::new(&framed).next();
        }
    }
}
