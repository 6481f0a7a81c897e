//! The queries that run, in a file of the store's folder: what is in it after a crash may be its cause.
//!
//! The file is a JSON array of fixed places, padded with zero bytes. It is written through the page cache, which
//! outlives the process; nothing is synced, so a power cut may lose it.
//!
//! Compat: prometheus `promql/query_logger.go`, `ActiveQueryTracker`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;

pub(super) const NAME: &str = "queries.active";

/// The bytes of a place, the comma at its end included.
const PLACE_BYTES: usize = 1000;

/// The most that is read of what the last run left.
const LEFT_BYTES_MAX: u64 = 10 << 20;

pub(super) struct Active {
    file: File,
    free: Mutex<Vec<usize>>,
    /// How many queries the last run left.
    pub(super) unfinished: usize,
}

/// Holds a place until it is dropped.
pub(super) struct Entry<'a> {
    active: &'a Active,
    place: usize,
}

impl Active {
    pub(super) fn open(folder: &Path, slots: usize) -> io::Result<Self> {
        let path = folder.join(NAME);
        let unfinished = match read_left(&path) {
            Ok(left) => tell_left(&left),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => {
                tracing::error!(file = %path.display(), error = %e, "Failed to read query log file");
                0
            }
        };
        let file = File::options().create(true).truncate(true).write(true).open(&path)?;
        file.set_len((1 + slots * PLACE_BYTES) as u64)?;
        file.write_all_at(b"[", 0)?;
        Ok(Self { file, free: Mutex::new((0..slots).rev().collect()), unfinished })
    }

    /// Writes a query down; `None` if all places are taken or the file cannot be written.
    pub(super) fn insert(&self, text: &str) -> Option<Entry<'_>> {
        let place = self.free.lock().pop()?;
        let entry = Entry { active: self, place };
        self.write(place, &place_of(text, jiff::Timestamp::now().as_second())).ok()?;
        Some(entry)
    }

    fn write(&self, place: usize, bytes: &[u8; PLACE_BYTES]) -> io::Result<()> {
        self.file.write_all_at(bytes, (1 + place * PLACE_BYTES) as u64)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // At worst the query is taken for an unfinished one.
        let _ = self.active.write(self.place, &[0; PLACE_BYTES]);
        self.active.free.lock().push(self.place);
    }
}

/// A place filled with a query, of which the beginning stays if it is too long.
fn place_of(text: &str, timestamp_sec: i64) -> [u8; PLACE_BYTES] {
    #[derive(serde::Serialize)]
    struct Query<'q> {
        query: &'q str,
        timestamp_sec: i64,
    }
    let mut kept = text;
    let json = loop {
        let mut json = Vec::new();
        web::json::write_serialized(&mut json, &Query { query: kept, timestamp_sec });
        let Some(excess) = json.len().checked_sub(PLACE_BYTES) else { break json };
        // An escaped character takes up to six bytes, so what is cut may be more than needed.
        let cut = kept.len().saturating_sub(excess / 6 + 1).min(PLACE_BYTES);
        kept = &kept[..kept.floor_char_boundary(cut)];
    };
    let mut place = [0; PLACE_BYTES];
    place[..json.len()].copy_from_slice(&json);
    place[PLACE_BYTES - 1] = b',';
    place
}

fn read_left(path: &Path) -> io::Result<Vec<u8>> {
    let mut left = Vec::new();
    File::open(path)?.take(LEFT_BYTES_MAX).read_to_end(&mut left)?;
    Ok(left)
}

/// Tells what the last run left and returns how many queries that are.
fn tell_left(left: &[u8]) -> usize {
    let written: Vec<u8> = left.iter().copied().filter(|&b| b != 0).collect();
    let Some((b',', rest)) = written.split_last() else { return 0 };
    let queries = format!("{}]", String::from_utf8_lossy(rest));
    tracing::info!(queries, "These queries didn't finish in prometheus' last run:");
    serde_json::from_str::<Vec<serde::de::IgnoredAny>>(&queries).map_or(1, |queries| queries.len())
}

#[cfg(test)]
mod tests {
    use super::{Active, NAME, PLACE_BYTES, place_of};

    fn shown(place: &[u8]) -> String {
        String::from_utf8(place.iter().copied().filter(|&b| b != 0).collect()).unwrap()
    }

    #[test]
    fn a_place_holds_what_fits() {
        assert_eq!(shown(&place_of("a<\"b\"", 7)), "{\"query\":\"a\\u003c\\\"b\\\"\",\"timestamp_sec\":7},");
        for long in ["x".repeat(5000), "<".repeat(5000), "ü\"".repeat(700), "\u{1}".repeat(999)] {
            let text = shown(&place_of(&long, 1_700_000_000));
            let json: serde_json::Value = serde_json::from_str(text.trim_end_matches(',')).unwrap();
            let kept = json["query"].as_str().unwrap();
            assert!(long.starts_with(kept) && kept.len() >= 130, "{kept}");
        }
        // Exactly what fits is kept whole.
        let frame = shown(&place_of("", 1)).len();
        let fits = "x".repeat(PLACE_BYTES - frame);
        assert!(shown(&place_of(&fits, 1)).contains(&format!("\"{fits}\"")));
    }

    #[test]
    fn what_was_not_finished_is_counted_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let first = Active::open(dir.path(), 2).unwrap();
        assert_eq!(first.unfinished, 0);
        let (a, b) = (first.insert("a").unwrap(), first.insert("b").unwrap());
        assert!(first.insert("c").is_none(), "there are two places");
        drop(a);
        let c = first.insert("c").unwrap();
        let text = std::fs::read(dir.path().join(NAME)).unwrap();
        assert_eq!(text.len(), 1 + 2 * PLACE_BYTES);
        let shown = shown(&text);
        assert!(shown.starts_with("[{\"query\":\"c\",") && shown.contains(",{\"query\":\"b\","), "{shown}");
        // As after a crash: nothing was taken back.
        assert_eq!(Active::open(dir.path(), 3).unwrap().unfinished, 2);
        assert_eq!(Active::open(dir.path(), 3).unwrap().unfinished, 0, "once is enough");
        drop((b, c));
    }

    #[test]
    fn rubbish_does_not_keep_the_server_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        for rubbish in [&b""[..], b"[", b"\0\0\0", b"[{\"query\"", b"\xff\xfe,", b",,,,"] {
            std::fs::write(dir.path().join(NAME), rubbish).unwrap();
            Active::open(dir.path(), 1).unwrap();
        }
    }
}
