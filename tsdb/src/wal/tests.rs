use std::path::Path;

use model::Labels;
use proptest::prelude::*;

use super::reader::Records;
use super::record::{self, RefSample};
use super::*;
use crate::fs::{self, fault};

fn options(segment_bytes: u64, compress: bool) -> Options {
    Options { segment_bytes, compress, sync_interval: None }
}

fn batch(records: &[Vec<u8>], compress: bool) -> Batch {
    let mut batch = Batch::new(compress);
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
    let writer = Writer::open(dir.path(), options(1 << 20, false)).unwrap();
    writer.log(batch(&[b"123456789".to_vec()], false)).unwrap();
    let bytes = fs::read(&segment::path(dir.path(), 0)).unwrap();
    // The checksum is the standard check value of CRC-32C.
    assert_eq!(bytes, b"\x01\x00\x09\xe3\x06\x92\x83123456789");
    writer.close().unwrap();
    assert_eq!(fs::file_len(&segment::path(dir.path(), 0)).unwrap(), PAGE_LEN as u64);
}

#[test]
fn records_of_all_lengths_come_back_over_pages_and_segments() {
    for compress in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut logged = Vec::new();
        for round in 0..2 {
            let writer = Writer::open(dir.path(), options(4 * PAGE_LEN as u64, compress)).unwrap();
            let edges = (PAGE_LEN - 2 * HEADER_LEN - 3..PAGE_LEN + 3).step_by(2);
            for (i, len) in edges.chain([1, 2, 90_000, 3 * PAGE_LEN]).enumerate() {
                let records = vec![noise(len, i as u64), vec![7; len], b"x".to_vec()];
                writer.log(batch(&records, compress)).unwrap();
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
    let writer = Writer::open(dir.path(), options(1 << 20, false)).unwrap();
    let records: Vec<Vec<u8>> = (0..60).map(|i| noise(1000, i)).collect();
    for record in &records {
        writer.log(batch(std::slice::from_ref(record), false)).unwrap();
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
    let writer = Writer::open(dir.path(), options(PAGE_LEN as u64, false)).unwrap();
    for i in 0..90 {
        writer.log(batch(&[noise(1000, i)], false)).unwrap();
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
        let writer = Writer::open(dir.path(), options(PAGE_LEN as u64, false)).unwrap();
        let first: Vec<Vec<u8>> = (0..30).map(|i| noise(1000, i)).collect();
        writer.log(batch(&first, false)).unwrap();
        fault::limit_bytes(dir.path(), limit);
        // The group crosses from the first segment into the second and must be taken back from both.
        let refused: Vec<Vec<u8>> = (30..40).map(|i| noise(1000, i)).collect();
        let error = writer.log(batch(&refused, false)).unwrap_err().to_string();
        assert!(error.contains("no storage space"), "{error}");
        fault::heal(dir.path());
        assert_eq!(read_all(dir.path()), first, "limit {limit}");
        let second = vec![noise(500, 99)];
        writer.log(batch(&second, false)).unwrap();
        drop(writer);
        assert_eq!(read_all(dir.path()), [first, second].concat());
    }
}

#[test]
fn a_failed_sync_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Some(std::time::Duration::from_millis(1));
    let writer =
        Writer::open(dir.path(), Options { sync_interval: interval, ..options(1 << 20, false) }).unwrap();
    fault::fail_syncs(dir.path());
    writer.log(batch(&[b"one".to_vec()], false)).unwrap();
    while writer.poison().is_none() {
        std::thread::yield_now();
    }
    let error = writer.log(batch(&[b"two".to_vec()], false)).unwrap_err();
    assert!(
        matches!(&error, crate::Error::Refused(e) if matches!(**e, crate::Error::Poisoned(_))),
        "{error}"
    );
    fault::heal(dir.path());
}

#[test]
fn concurrent_commits_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(4 * PAGE_LEN as u64, true)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let writer = &writer;
            scope.spawn(move || {
                for i in 0..50 {
                    writer.log(batch(&[noise(700, thread * 1000 + i)], true)).unwrap();
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
fn zstd_is_named_and_never_cut_away() {
    let mut bytes = b"\x11\x00\x09\xe3\x06\x92\x83123456789".to_vec();
    let corruption = Records::new(&bytes).next().unwrap_err();
    assert!(corruption.is_unsupported);
    assert!(corruption.to_string().contains("zstd-compressed WAL records are not supported yet"));
    bytes[0] = 0x19;
    assert!(!Records::new(&bytes).next().unwrap_err().is_unsupported);
}

#[test]
fn checkpoint_keeps_living_series_recent_samples_and_foreign_records() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::open(dir.path(), options(PAGE_LEN as u64, false)).unwrap();
    let mut series = Vec::new();
    record::begin_series(&mut series);
    for n in 1..=3 {
        record::push_series(&mut series, n, &Labels::from_pairs([("n", n.to_string())]));
    }
    let base = RefSample { series: 1, st: 0, t: 100, v: 0.5 };
    let mut samples = Vec::new();
    record::begin_samples(&mut samples, base);
    for t in [100, 200, 300] {
        record::push_sample(&mut samples, base, RefSample { t, ..base });
    }
    writer.log(batch(&[series, samples, vec![6, 1, 2, 3]], false)).unwrap();
    for _ in 0..3 {
        writer.roll().unwrap();
    }
    checkpoint::write(dir.path(), 1, 200, options(PAGE_LEN as u64, true), |n| n != 2).unwrap();
    assert_eq!(segment::list(dir.path()).unwrap(), [2, 3]);
    let records = read_all(&segment::checkpoint_path(dir.path(), 1));
    assert_eq!(records.len(), 3);
    let mut kept = Vec::new();
    record::decode_series(&records[0], |n, _| kept.push(n)).unwrap();
    assert_eq!(kept, [1, 3]);
    let mut times = Vec::new();
    record::decode_samples(&records[1], &mut times).unwrap();
    assert_eq!(times.iter().map(|s| s.t).collect::<Vec<_>>(), [200, 300]);
    assert_eq!(records[2], [6, 1, 2, 3]);
    // The next one reads this one.
    checkpoint::write(dir.path(), 2, 300, options(PAGE_LEN as u64, true), |n| n == 1).unwrap();
    assert_eq!(segment::checkpoints(dir.path()).unwrap(), [2]);
    assert_eq!(read_all(&segment::checkpoint_path(dir.path(), 2)).len(), 3);
}

proptest! {
    #[test]
    fn any_bytes_are_records_or_corruption(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut records = Records::new(&bytes);
        while let Ok(Some(_)) = records.next() {}
        // A sound frame around arbitrary "compressed" bytes.
        let crc = crc32c::crc32c(&bytes).to_be_bytes();
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes.splice(0..0, [&[FULL | SNAPPY][..], &len, &crc].concat());
        let _ = Records::new(&bytes).next();
    }
}
