use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::{Labels, MatchOp, Matcher};
use proptest::prelude::*;
use tempfile::TempDir;

use super::select::{self, PostingsSource as _};
use super::*;
use crate::compact::testing::upstream;
use crate::fs::{self, Mmap};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn symbols_of<'a>(series: impl Iterator<Item = &'a Labels>) -> Vec<Box<[u8]>> {
    let strings: BTreeSet<&[u8]> = series.flat_map(Labels::iter).flat_map(|(n, v)| [n, v]).collect();
    strings.into_iter().map(Into::into).collect()
}

fn write(dir: &Path, series: &BTreeMap<Labels, Vec<ChunkMeta>>) -> PathBuf {
    let path = dir.join("index");
    let mut writer = Writer::create(&path, symbols_of(series.keys())).unwrap();
    for (labels, chunks) in series {
        writer.add_series(labels, chunks).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), fs::file_len(&path).unwrap());
    path
}

fn open(path: &Path) -> crate::Result<Reader> {
    Reader::open(path, Mmap::open(path)?)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The two series of which promtool wrote the bytes below.
fn golden() -> BTreeMap<Labels, Vec<ChunkMeta>> {
    let t = 1_600_000_000_000;
    BTreeMap::from([
        (
            labels(&[("__name__", "a_total"), ("x", "1")]),
            vec![ChunkMeta { mint: t, maxt: t + 45_002, chunk_ref: 8 }],
        ),
        (labels(&[("__name__", "a_total"), ("x", "2")]), vec![ChunkMeta { mint: t, maxt: t, chunk_ref: 40 }]),
    ])
}

#[test]
fn golden_index() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), &golden());
    // Header to series as promtool 3.5 wrote them; it still puts label values between series and postings, so
    // the offsets behind are those of 3.14: lists from 0x64 on, table and contents thereafter.
    let expected = bytes(
        "baaad700 02 0000001c 00000006 00 0131 0132 085f5f6e616d655f5f 07615f746f74616c 0178 6ac6f767 \
         00000000000000 10 02 0304 0501 01 8080f4f6905d cadf02 08 1ee2203a 0000000000000000000000 \
         0e 02 0304 0502 01 8080f4f6905d 00 28 301d23d0 00 \
         0000000c 00000002 00000003 00000005 bb33cbd4 0000000c 00000002 00000003 00000005 bb33cbd4 \
         00000008 00000001 00000003 a7692ed2 00000008 00000001 00000005 81c8c93a",
    );
    let written = fs::read(&path).unwrap();
    assert_eq!(written[..expected.len()], expected);
    let mut table =
        bytes("00000004 02000064 02085f5f6e616d655f5f07615f746f74616c78 02017801318c01 02017801329c01");
    table.splice(0..0, u32::try_from(table.len()).unwrap().to_be_bytes());
    table.extend(crc32c::crc32c(&table[4..]).to_be_bytes());
    let toc = [5_u64, 0x29, 0x63, 0xac, 0x63, 0xac].map(u64::to_be_bytes).concat();
    let sum = crc32c::crc32c(&toc).to_be_bytes();
    assert_eq!(written[expected.len()..], [&table[..], &toc, &sum].concat());
}

#[test]
fn reads_what_it_wrote() {
    let dir = TempDir::new().unwrap();
    let series = golden();
    let reader = open(&write(dir.path(), &series)).unwrap();
    assert_eq!(reader.label_names().collect::<Vec<_>>(), [&b"__name__"[..], b"x"]);
    let all = reader.all().unwrap().into_vec();
    assert_eq!(all, [3, 5]);
    for (series_ref, (labels, chunks)) in all.into_iter().zip(&series) {
        let mut found = Vec::new();
        assert_eq!(reader.labels(series_ref, &mut Vec::new()).unwrap(), *labels);
        reader.series_into(series_ref, None, Some(&mut found)).unwrap();
        assert_eq!(found, *chunks);
    }
    assert!(reader.series_into(4, None, None).is_err());
    assert!(reader.series_into(u32::MAX, None, None).is_err());
}

#[test]
fn refuses_what_would_not_be_an_index() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("index");
    let symbols = || symbols_of(golden().keys());
    let a = labels(&[("__name__", "a_total"), ("x", "1")]);
    let chunk = |mint, maxt| ChunkMeta { mint, maxt, chunk_ref: 8 };
    let check = |series: &[(&Labels, &[ChunkMeta])]| {
        let mut writer = Writer::create(&path, symbols()).unwrap();
        let result = series.iter().try_for_each(|(labels, chunks)| writer.add_series(labels, chunks));
        fs::remove_file(&path).unwrap();
        result.unwrap_err().to_string()
    };
    assert!(check(&[(&a, &[]), (&a, &[])]).contains("series out of order"));
    assert!(check(&[(&labels(&[("new", "1")]), &[])]).contains("not among the symbols"));
    assert!(check(&[(&a, &[chunk(0, 5), chunk(5, 9)])]).contains("overlapping chunks"));
    assert!(check(&[(&a, &[chunk(5, 0)])]).contains("ends before it begins"));
    let e = Writer::create(&path, vec![b"b".as_slice().into(), b"a".as_slice().into()]).unwrap_err();
    assert!(e.to_string().contains("symbols out of order"), "{e}");
}

/// One byte changed anywhere: whatever is read is an error or a value, never a panic, and a changed table
/// is seen at open.
#[test]
fn damage_is_an_error() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), &many(25));
    let good = fs::read(&path).unwrap();
    let mut seen = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        seen += usize::from(!reads_all(&dir.path().join("bad"), &bad));
    }
    // Padding and the slots that nobody reads are all that may change unseen.
    assert!(seen * 100 > good.len() * 85, "{seen} of {} damages seen", good.len());
    for len in 0..good.len() {
        assert!(!reads_all(&dir.path().join("bad"), &good[..len]), "cut to {len} bytes");
    }
}

fn reads_all(path: &Path, content: &[u8]) -> bool {
    std::fs::write(path, content).unwrap();
    let read = || -> crate::Result<()> {
        let reader = open(path)?;
        let mut chunks = Vec::new();
        for series_ref in reader.all()?.iter() {
            reader.labels(series_ref, &mut Vec::new())?;
            reader.series_into(series_ref, None, Some(&mut chunks))?;
        }
        for name in reader.label_names() {
            reader.postings_where(name, b"", &mut |_| true)?;
        }
        Ok(())
    };
    read().is_ok()
}

fn many(n: i64) -> BTreeMap<Labels, Vec<ChunkMeta>> {
    (0..n)
        .map(|i| {
            let (pod, zone) = (format!("pod-{i}"), format!("z{}", i % 3));
            let pairs = [
                ("__name__", "up"),
                ("pod", &pod),
                ("zone", &zone),
                ("even", ["", "yes"][usize::from(i % 2 == 0)]),
            ];
            let chunk = |k: i64| ChunkMeta {
                mint: i * 10 + k * 1000,
                maxt: i * 10 + k * 1000 + 9,
                chunk_ref: (i * 100 + k * 7).unsigned_abs(),
            };
            (labels(&pairs), (0..i % 4).map(chunk).collect())
        })
        .collect()
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let op = prop_oneof![Just(MatchOp::Eq), Just(MatchOp::Ne), Just(MatchOp::Re), Just(MatchOp::Nre)];
    let name =
        prop_oneof![Just("__name__"), Just("pod"), Just("zone"), Just("even"), Just("absent"), Just("")];
    let value = prop_oneof![
        Just(""),
        Just("up"),
        Just("pod-7"),
        Just("pod-1.*"),
        Just("pod-1?"),
        Just("z1"),
        Just("z0|z2"),
        Just("z0|"),
        Just(".*"),
        Just(".+"),
        Just("yes"),
        Just("y.*s"),
        Just("nope"),
        Just("pod-(1|2)."),
        Just("pod-5[0-9]+"),
    ];
    (op, name, value).prop_map(|(op, name, value)| Matcher::new(op, name, value).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn selection_equals_matching_one_by_one(matchers in proptest::collection::vec(matcher(), 0..4)) {
        let dir = TempDir::new().unwrap();
        let series = many(100);
        let reader = open(&write(dir.path(), &series)).unwrap();
        let passes = |labels: &&Labels| {
            matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
        };
        let expected: Vec<Labels> = series.keys().filter(passes).cloned().collect();
        let found = select::postings(&reader, &matchers).unwrap();
        let got: Vec<Labels> = found.iter().map(|r| reader.labels(r, &mut Vec::new()).unwrap()).collect();
        prop_assert_eq!(&got, &expected);
        for name in ["pod", "zone", "absent"] {
            let values: BTreeSet<&[u8]> = expected.iter().filter_map(|l| l.get(name.as_bytes())).collect();
            let got = reader.values_among(name.as_bytes(), &found, 0).unwrap();
            prop_assert_eq!(got, values.into_iter().map(Box::from).collect::<Vec<Box<[u8]>>>());
        }
        let names: BTreeSet<&[u8]> = expected.iter().flat_map(Labels::iter).map(|(n, _)| n).collect();
        prop_assert_eq!(reader.names_among(&found).unwrap(), names.into_iter().map(Box::from).collect::<Vec<Box<[u8]>>>());
    }
}

#[test]
fn reads_the_index_of_prometheus_2_1_once_repaired() {
    let rel = "tsdb/repair_index_version/01BZJ9WJQPWHGNC2W4J9TA62KC/index";
    let Some(source) = upstream(rel, "reads_the_index_of_prometheus_2_1_once_repaired") else { return };
    let dir = TempDir::new().unwrap();
    let mut content = fs::read(&source).unwrap();
    content[4] = VERSION;
    let path = dir.path().join("index");
    fs::write(&path, &content).unwrap();
    let reader = open(&path).unwrap();
    // Its writer knew no list of all series.
    assert!(reader.all().unwrap().is_empty());
    let refs = reader.postings(b"b", b"1").unwrap();
    let found: Vec<String> =
        refs.iter().map(|r| reader.labels(r, &mut Vec::new()).unwrap().to_string()).collect();
    assert_eq!(found, [r#"{a="1", b="1"}"#, r#"{a="2", b="1"}"#]);
}

#[test]
fn reads_format_1() {
    let Some(path) = upstream("tsdb/index_format_v1/index", "reads_format_1") else { return };
    let reader = open(&path).unwrap();
    let found: Vec<Labels> =
        reader.all().unwrap().iter().map(|r| reader.labels(r, &mut Vec::new()).unwrap()).collect();
    assert_eq!(found.len(), 102);
    for name in reader.label_names() {
        reader
            .for_each_value(name, |value| {
                assert!(!reader.postings(name, value).unwrap().is_empty());
                true
            })
            .unwrap();
    }
}
