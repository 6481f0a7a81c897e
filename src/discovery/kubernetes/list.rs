//! Cuts the items out of a list in JSON while it arrives, so that no list is ever held whole.
//!
//! A list of 20,000 pods has 200 MB; one item has a few kilobytes. The members of the list may come in any
//! order. What is cut out is checked when it is decoded, not here.
//!
//! Compat: the list types of the Kubernetes API, `{"metadata": {...}, "items": [...]}`.

use serde::Deserialize;

/// The most bytes of one object. A cluster's store refuses objects beyond 1.5 MiB.
pub(super) const OBJECT_BYTES_MAX: usize = 16 << 20;

/// Takes the bytes of a list piece by piece.
#[derive(Default)]
pub(super) struct Splitter {
    /// Brackets that are open.
    depth: usize,
    /// Inside a string, and whether the next byte is escaped.
    string: Option<Escape>,
    /// At depth 1: whether a key comes next, and the last one that came.
    is_key: bool,
    key: Vec<u8>,
    member: Member,
    /// What is cut out at present.
    piece: Vec<u8>,
    metadata: Vec<u8>,
    is_complete: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Escape {
    No,
    Yes,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum Member {
    #[default]
    Other,
    Metadata,
    Items,
}

/// What a list says of itself.
#[derive(Debug, Deserialize, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) token: String,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub(super) enum Error {
    #[error("an object of the list has more than {OBJECT_BYTES_MAX} bytes")]
    TooLong,
    #[error("the list ended early")]
    Incomplete,
    #[error("the list is no JSON object")]
    Malformed,
    #[error("the metadata of the list cannot be read")]
    Metadata,
}

impl Splitter {
    /// Takes the next bytes and hands out the items that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut item: impl FnMut(&[u8])) -> Result<(), Error> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let Some(escape) = self.string {
                // The insides of strings are most of a list.
                let end = match escape {
                    Escape::Yes => 0,
                    Escape::No => memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len()),
                };
                let (inside, after) = bytes.split_at((end + 1).min(bytes.len()));
                self.keep(inside)?;
                self.string = match (escape, inside.last()) {
                    (Escape::No, Some(b'"')) => None,
                    (Escape::No, Some(b'\\')) => Some(Escape::Yes),
                    _ => Some(Escape::No),
                };
                bytes = after;
                continue;
            }
            match byte {
                b'"' => {
                    self.string = Some(Escape::No);
                    if self.depth == 1 && self.is_key {
                        self.key.clear();
                    }
                    self.keep(&[byte])?;
                }
                b'{' | b'[' => self.open(byte)?,
                b'}' | b']' => self.close(byte, &mut item)?,
                b',' if self.depth == 1 => (self.is_key, self.member) = (true, Member::Other),
                b':' if self.depth == 1 => {
                    self.is_key = false;
                    self.member = match &*self.key {
                        b"\"metadata\"" => Member::Metadata,
                        b"\"items\"" => Member::Items,
                        _ => Member::Other,
                    };
                }
                // Numbers and the like are no members that we read, and space is no part of a key.
                _ if self.depth == 1 => {}
                _ => self.keep(&[byte])?,
            }
            bytes = rest;
        }
        Ok(())
    }

    /// What the list said of itself, once it came to its end.
    pub(super) fn finish(self) -> Result<ListMeta, Error> {
        if !self.is_complete {
            return Err(Error::Incomplete);
        }
        if self.metadata.is_empty() {
            return Ok(ListMeta::default());
        }
        serde_json::from_slice(&self.metadata).map_err(|_| Error::Metadata)
    }

    fn open(&mut self, byte: u8) -> Result<(), Error> {
        match self.depth {
            0 if byte != b'{' || self.is_complete => return Err(Error::Malformed),
            0 => self.is_key = true,
            _ => {}
        }
        self.depth += 1;
        self.keep(&[byte])
    }

    fn close(&mut self, byte: u8, item: &mut impl FnMut(&[u8])) -> Result<(), Error> {
        self.keep(&[byte])?;
        self.depth = self.depth.checked_sub(1).ok_or(Error::Malformed)?;
        match (self.depth, self.member) {
            (0, _) => self.is_complete = true,
            (2, Member::Items) => {
                item(&self.piece);
                self.piece.clear();
            }
            (1, Member::Metadata) => std::mem::swap(&mut self.metadata, &mut self.piece),
            _ => {}
        }
        Ok(())
    }

    /// Keeps bytes that belong to a key of the list or to something that is cut out.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let piece = match (self.depth, self.member) {
            (0, _) if !bytes.iter().all(u8::is_ascii_whitespace) => return Err(Error::Malformed),
            (1, _) if self.is_key => &mut self.key,
            // An item stands in the array that stands in the list.
            (3.., Member::Items) | (2.., Member::Metadata) => &mut self.piece,
            _ => return Ok(()),
        };
        if piece.len() + bytes.len() > OBJECT_BYTES_MAX {
            return Err(Error::TooLong);
        }
        piece.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(json: &str, step: usize) -> Result<(Vec<String>, ListMeta), Error> {
        let (mut splitter, mut items) = (Splitter::default(), Vec::new());
        for bytes in json.as_bytes().chunks(step) {
            splitter.push(bytes, |item| items.push(String::from_utf8(item.to_vec()).unwrap()))?;
        }
        splitter.finish().map(|meta| (items, meta))
    }

    #[test]
    fn any_order_any_pieces() {
        let items =
            r#"{"a":{"b":[1,{"c":"}]\\\"["}],"metadata":{"resourceVersion":"no"}}}, {"items":[{}]} ,{}"#;
        let meta = r#"{"resourceVersion":"7","continue":"to\"ken","remainingItemCount":3}"#;
        let first = format!(r#" {{"kind":"PodList","metadata":{meta},"items":[{items}]}} "#);
        let last =
            format!(r#"{{ "items" : [{items}], "x":["items", {{"metadata":1}}], "metadata" : {meta}}}"#);
        let expected = ListMeta { resource_version: "7".to_owned(), token: "to\"ken".to_owned() };
        for json in [&first, &last] {
            for step in [1, 2, 3, 7, 64, 4096] {
                let (items, meta) = split(json, step).unwrap();
                assert_eq!(meta, expected, "{json} by {step}");
                assert_eq!(items.len(), 3, "{items:?}");
                assert_eq!(
                    items[0],
                    r#"{"a":{"b":[1,{"c":"}]\\\"["}],"metadata":{"resourceVersion":"no"}}}"#
                );
                assert_eq!(items[1], r#"{"items":[{}]}"#);
            }
        }
    }

    #[test]
    fn nothing_to_list() {
        for json in [r#"{"items":null,"metadata":{}}"#, r#"{"items":[]}"#, "{}"] {
            assert_eq!(split(json, 3), Ok((Vec::new(), ListMeta::default())), "{json}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(split(r#"{"items":[{"a":1}"#, 4), Err(Error::Incomplete));
        assert_eq!(split("", 4), Err(Error::Incomplete));
        assert_eq!(split("[1]", 4), Err(Error::Malformed));
        assert_eq!(split("404 page not found", 4), Err(Error::Malformed));
        assert_eq!(split("{}}", 4), Err(Error::Malformed));
        assert_eq!(split("{}{}", 4), Err(Error::Malformed));
        let long = format!(r#"{{"items":[{{"a":"{}"}}]}}"#, "x".repeat(OBJECT_BYTES_MAX));
        assert_eq!(split(&long, 1 << 16), Err(Error::TooLong));
    }
}
