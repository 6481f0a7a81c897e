//! The block in a file of its own, as `--http.config.file` of commands that talk to a server names it.
//!
//! Compat: prometheus/common `config`, `LoadHTTPConfigFile`.

use std::path::Path;

use super::HttpClient;
use super::decode::HttpFields;
use crate::yaml::decode::Dialect;
use crate::yaml::tree::Pos;
use crate::yaml::{Decoder, Issue, tree};
use crate::{Error, Problem};

/// Reads and validates a file; relative paths in it belong to its directory.
///
/// # Errors
/// The file cannot be read, or its text is refused.
pub fn load(path: &Path) -> Result<HttpClient, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, &e))?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, base).map_err(|issue| Error::plain(path, Problem::from(issue)))
}

fn parse(text: &str, base: &Path) -> Result<HttpClient, Issue> {
    let mut decoder = Decoder::new(Dialect::V2);
    let mut http = HttpFields::default();
    let mut pos = Pos::default();
    if let Some(root) = tree::parse(text)?.root {
        pos = root.pos;
        decoder.fields(&root, "config.plain", &mut |decoder, key, value| {
            http.field(decoder, base, key, value)
        })?;
    }
    decoder.finish()?;
    http.finish(base, pos)
}
