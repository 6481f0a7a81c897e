//! The list of blocks that another program (Thanos' sidecar, for one) has copied away.
//!
//! Blocks fresh from the head are merged only once they are in the list, so that the copies need not be made twice.
//!
//! Compat: prometheus `cmd/prometheus/main.go`, `exludeBlocksPendingUpload`; `tsdb/compact.go`, `Plan`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::block::Block;
use crate::{Error, Result, fs};

#[derive(Deserialize)]
struct Uploads {
    #[serde(default)]
    uploaded: Option<Vec<String>>,
}

/// The blocks that may be merged: by id, those before the first that waits for its copy. A list that cannot be read
/// holds back nothing.
pub(super) fn compactable(mut blocks: Vec<Arc<Block>>, path: &Path) -> Vec<Arc<Block>> {
    let uploaded = match load(path) {
        Ok(uploaded) => uploaded,
        Err(e) => {
            tracing::warn!(error = %e, "cannot read which blocks are uploaded");
            return blocks;
        }
    };
    blocks.sort_by_key(|block| block.meta().ulid);
    let waits = |block: &Arc<Block>| {
        let meta = block.meta();
        meta.compaction.level <= 1 && !uploaded.contains(&meta.ulid.to_string())
    };
    let n = blocks.iter().position(waits).unwrap_or(blocks.len());
    blocks.truncate(n);
    blocks
}

fn load(path: &Path) -> Result<HashSet<String>> {
    let text = fs::read(path)?;
    let uploads: Uploads = serde_json::from_slice(&text)
        .map_err(|e| Error::corrupt(path, 0, format!("list of uploaded blocks: {e}")))?;
    Ok(uploads.uploaded.unwrap_or_default().into_iter().collect())
}
