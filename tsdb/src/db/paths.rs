//! Every name that the store gives a file or directory, and what its forms mean.
//!
//! The formats behind the names are in `tsdb/FORMAT.md`.

use ulid::Ulid;

/// Held while a process owns the directory, removed when it stops cleanly.
pub const LOCK: &str = "lock";
/// The write-ahead log: segments `%08d` and directories `checkpoint.%08d`.
pub const WAL: &str = "wal";
/// The log of late samples: segments as in the write-ahead log, no checkpoints.
pub const WBL: &str = "wbl";
/// Full chunks of the head: files `%06d`.
pub const CHUNKS_HEAD: &str = "chunks_head";

/// What the admin API copies: below it a directory per snapshot, which holds blocks.
pub const SNAPSHOTS: &str = "snapshots";

/// What only we write: every file in it may be deleted at any time.
pub const OWN: &str = "ferula";
/// Inside of it: a snapshot of the head.
pub const OWN_HEAD: &str = "head";
/// Inside of it: before which place of the chunk files chunks of late samples are in blocks.
pub const LATE_IN_BLOCKS: &str = "late_in_blocks";

/// Inside a block directory.
pub const BLOCK_META: &str = "meta.json";
pub const BLOCK_INDEX: &str = "index";
pub const BLOCK_CHUNKS: &str = "chunks";
pub const BLOCK_TOMBSTONES: &str = "tombstones";

/// Behind a ULID: a block being written.
pub const CREATION_SUFFIX: &str = ".tmp-for-creation";
/// Behind a ULID: a block being removed.
pub const DELETION_SUFFIX: &str = ".tmp-for-deletion";
/// Behind a ULID or a head snapshot: what old servers called unfinished.
pub const LEGACY_SUFFIX: &str = ".tmp";
/// In front of a head snapshot.
pub const SNAPSHOT_PREFIX: &str = "chunk_snapshot.";

pub fn block_under_construction(ulid: Ulid) -> String {
    format!("{ulid}{CREATION_SUFFIX}")
}

pub fn block_under_deletion(ulid: Ulid) -> String {
    format!("{ulid}{DELETION_SUFFIX}")
}

/// The block whose directory has this name, if it is one.
pub fn parse_block(name: &str) -> Option<Ulid> {
    Ulid::from_string(name).ok().filter(|ulid| ulid.to_string() == name)
}

/// Whether a directory of this name is the rest of something unfinished, to be removed at start.
pub fn is_temporary(name: &str) -> bool {
    let of_block = [CREATION_SUFFIX, DELETION_SUFFIX, LEGACY_SUFFIX]
        .iter()
        .any(|suffix| name.strip_suffix(suffix).is_some_and(|stem| parse_block(stem).is_some()));
    of_block || (name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(LEGACY_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        let ulid = "01M7Z7EP13T1GYDQRA5Q5WC0JS";
        assert!(parse_block(ulid).is_some());
        for name in
            ["01M7Z7EP13T1GYDQRA5Q5WC0J", "01m7z7ep13t1gydqra5q5wc0js", "wal", "81M7Z7EP13T1GYDQRA5Q5WC0JS"]
        {
            assert!(parse_block(name).is_none(), "{name}");
        }
        for suffix in [".tmp-for-creation", ".tmp-for-deletion", ".tmp"] {
            assert!(is_temporary(&format!("{ulid}{suffix}")), "{suffix}");
        }
        assert!(is_temporary("chunk_snapshot.000003.0000000123.tmp"));
        assert!(
            !is_temporary(ulid)
                && !is_temporary("notes.tmp")
                && !is_temporary("chunk_snapshot.000003.0000000123")
        );
    }
}
