//! From parser events to a tree of shared nodes, each with the place where it was written.
//!
//! Aliases share the node of their anchor, so a tree costs what the file costs; what it would cost when
//! written out is counted, and refused where it is absurd.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StructureStyle, Tag};

use super::Issue;

/// How often a document may be larger with all aliases written out; yaml.v2 draws its line between 10 and
/// 99 times, depending on the size.
const ALIAS_RATIO_MAX: u64 = 99;

/// Below this many nodes aliases are nobody's problem.
const ALIAS_NODES_FREE: u64 = 400_000;

/// Nesting beyond this is no configuration; it also bounds every recursion over the tree.
const DEPTH_MAX: usize = 200;

/// Where a node begins; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Pos {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) pos: Pos,
    pub(crate) kind: Kind,
    /// Nodes in this one with every alias written out.
    size: u64,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block, so that its type follows from the text.
    pub(crate) plain: bool,
    /// The short form of a written tag: `!!str`, `!!binary`, `!mine`.
    pub(crate) tag: Option<String>,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar(scalar) => match scalar.tag.as_deref() {
                Some(tag) => tag == "!!null",
                None => scalar.plain && matches!(scalar.text.as_str(), "" | "~" | "null"),
            },
            _ => false,
        }
    }

    pub(crate) fn is_merge_key(&self) -> bool {
        match &self.kind {
            Kind::Scalar(scalar) => {
                scalar.text == "<<" && scalar.tag.as_deref().map_or(scalar.plain, |tag| tag == "!!merge")
            }
            _ => false,
        }
    }

    /// The value of `key`; merges are not followed.
    #[cfg(test)]
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Kind::Map(entries) = &self.kind else { return None };
        let is_key = |node: &Node| matches!(&node.kind, Kind::Scalar(scalar) if scalar.text == key);
        entries.iter().find(|(name, _)| is_key(name)).map(|(_, value)| &**value)
    }
}

/// The first document of a text.
pub(crate) struct Document {
    /// `None` for an empty text.
    pub(crate) root: Option<Rc<Node>>,
    /// Another document follows, or what cannot be one; it is not read.
    pub(crate) has_more: bool,
}

/// Parses the first document of `text`.
///
/// # Errors
/// The text is not YAML, holds an anchor inside itself, or aliases beyond reason.
pub(crate) fn parse(text: &str) -> Result<Document, Issue> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..REINDENTED_MAX {
        let mut builder = Builder::new(&text);
        let result = builder.parse();
        let (Err(_), Some(offset)) = (&result, builder.outdented) else { return result };
        // Blanks in front of a line of a quoted scalar mean nothing, and the reference library does not count them.
        text.to_mut().insert_str(offset, &" ".repeat(REINDENTED_BY));
    }
    Builder::new(&text).parse()
}

/// So many lines of quoted scalars may stand further left than the parser takes, and so far are they moved.
const REINDENTED_MAX: usize = 100;
const REINDENTED_BY: usize = 2 * DEPTH_MAX;

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            // Another user of the parser may have its comments switched on; here they would be events too many.
            parser: Parser::new_from_str_with_options(text, granit_parser::options! { emit_comments: false }),
            anchors: HashMap::new(),
            nodes: 0,
            offset: 0,
            flow_depth: 0,
            expected: Vec::new(),
            outdented: None,
        }
    }

    fn parse(&mut self) -> Result<Document, Issue> {
        let document = self.document()?;
        if let Some(root) = &document.root
            && root.size > ALIAS_NODES_FREE
            && root.size / self.nodes.max(1) > ALIAS_RATIO_MAX
        {
            return Err(Issue::new(root.pos, "yaml: document contains excessive aliasing"));
        }
        Ok(document)
    }
}

struct Builder<'a> {
    text: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// By the parser's number; `None` while the anchored node is still open.
    anchors: HashMap<usize, Option<Rc<Node>>>,
    nodes: u64,
    /// Where the last event begins, and how many flow collections are open there.
    offset: usize,
    flow_depth: usize,
    /// What the open collections wait for.
    expected: Vec<&'static str>,
    /// Where a line of a quoted scalar stands too far left, if that was the error.
    outdented: Option<usize>,
}

type Spanned<'a> = (Event<'a>, Pos);

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Document, Issue> {
        let mut root = None;
        loop {
            // A first line that is indented deeper than the rest is a document of its own to the reference library,
            // which then looks no further.
            if root.is_some()
                && self.parser.peek().is_some_and(
                    |event| matches!(event, Err(e) if *e.kind() == ErrorKind::ExpectedDocumentStart),
                )
            {
                return Ok(Document { root, has_more: true });
            }
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(Document { root, has_more: false }),
                (Event::DocumentStart(..), _) if root.is_some() => {
                    return Ok(Document { root, has_more: true });
                }
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                event => root = Some(self.node(event, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<Spanned<'a>, Issue> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Pos::default())),
            Some(Ok((event, span))) => {
                self.offset = span.start.byte_offset().unwrap_or_default();
                Ok((event, position(span.start.line(), span.start.col() + 1)))
            }
            Some(Err(error)) => {
                let pos = position(error.marker().line(), error.marker().col() + 1);
                if *error.kind() == ErrorKind::InvalidQuotedScalarIndent {
                    self.outdented = error.marker().byte_offset();
                }
                Err(Issue::new(pos, self.complaint(pos, &error)))
            }
        }
    }

    /// The reference library's words where the two parsers mean the same, ours elsewhere.
    fn complaint(&self, pos: Pos, error: &ScanError) -> String {
        let text = match error.kind() {
            ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar
                if !self.expected.is_empty() =>
            {
                format!("did not find expected {}", self.expected[self.expected.len() - 1])
            }
            ErrorKind::UnclosedQuotedScalar => {
                // There the reference library stopped looking for the end.
                let line = self.text.matches('\n').count() + 1;
                return format!("yaml: line {line}: found unexpected end of stream");
            }
            ErrorKind::UnknownAnchor => {
                let at = error.marker().byte_offset().unwrap_or_default();
                let rest = self.text.get(at..).unwrap_or_default().trim_start_matches('*');
                let end = rest.find(|c: char| c.is_whitespace() || ",[]{}".contains(c)).unwrap_or(rest.len());
                return format!("yaml: unknown anchor '{}' referenced", &rest[..end]);
            }
            ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
                "mapping values are not allowed in this context".to_owned()
            }
            ErrorKind::BlockSequenceEntryNotAllowed => {
                "block sequence entries are not allowed in this context".to_owned()
            }
            ErrorKind::ExpectedBlockMappingKey => "did not find expected key".to_owned(),
            ErrorKind::ExpectedBlockSequenceEntry => "did not find expected '-' indicator".to_owned(),
            ErrorKind::ExpectedFlowMappingSeparator => "did not find expected ',' or '}'".to_owned(),
            ErrorKind::ExpectedFlowSequenceSeparator => "did not find expected ',' or ']'".to_owned(),
            ErrorKind::ExpectedNodeContent => "did not find expected node content".to_owned(),
            ErrorKind::SimpleKeyExpected => "could not find expected ':'".to_owned(),
            ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
                "found character that cannot start any token".to_owned()
            }
            _ => error.info(),
        };
        // The reference library counts lines from 0 where its parser complains, from 1 where its scanner does.
        match (text.starts_with("did not find expected"), pos.line) {
            (true, 1) => format!("yaml: {text}"),
            (true, line) => format!("yaml: line {}: {text}", line - 1),
            (false, line) => format!("yaml: line {line}: {text}"),
        }
    }

    fn node(&mut self, (event, pos): Spanned<'a>, depth: usize) -> Result<Rc<Node>, Issue> {
        if depth > DEPTH_MAX {
            return Err(Issue::new(
                pos,
                format!("yaml: line {}: exceeded max depth of {DEPTH_MAX}", pos.line),
            ));
        }
        self.nodes += 1;
        self.refuse_tabs(pos)?;
        let (anchor, kind) = match event {
            Event::Alias(id) => {
                return match self.anchors.get(&id) {
                    Some(Some(node)) => Ok(Rc::clone(node)),
                    Some(None) => Err(Issue::new(pos, "yaml: anchor value contains itself")),
                    None => Err(Issue::new(pos, "yaml: unknown anchor referenced")),
                };
            }
            Event::Scalar(text, style, anchor, tag) => {
                // The parser writes `~` for a value that is not there at all.
                let plain = style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.into_owned(), plain, tag: short_tag(tag.as_deref()) };
                if let Some(problem) = super::scalar::tag_conflict(&scalar) {
                    return Err(Issue::new(pos, format!("yaml: {problem}")));
                }
                (anchor, Kind::Scalar(scalar))
            }
            Event::SequenceStart(style, anchor, _) => {
                self.open(anchor);
                let is_flow = usize::from(style == StructureStyle::Flow);
                self.flow_depth += is_flow;
                self.expected.push(if is_flow > 0 { "',' or ']'" } else { "'-' indicator" });
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                self.flow_depth -= is_flow;
                self.expected.pop();
                (anchor, Kind::List(items))
            }
            Event::MappingStart(style, anchor, _) => {
                self.open(anchor);
                let is_flow = usize::from(style == StructureStyle::Flow);
                self.flow_depth += is_flow;
                self.expected.push(if is_flow > 0 { "',' or '}'" } else { "key" });
                let mut entries = Vec::new();
                loop {
                    match self.next()? {
                        (Event::MappingEnd, _) => break,
                        event => {
                            let key = self.node(event, depth + 1)?;
                            let event = self.next()?;
                            entries.push((key, self.node(event, depth + 1)?));
                        }
                    }
                }
                self.flow_depth -= is_flow;
                self.expected.pop();
                (anchor, Kind::Map(entries))
            }
            other => return Err(Issue::new(pos, format!("yaml: line {}: unexpected {other:?}", pos.line))),
        };
        let size = match &kind {
            Kind::Scalar(_) => 1,
            Kind::List(items) => items.iter().fold(1, |sum: u64, item| sum.saturating_add(item.size)),
            Kind::Map(entries) => {
                entries.iter().fold(1, |sum: u64, (k, v)| sum.saturating_add(k.size).saturating_add(v.size))
            }
        };
        let node = Rc::new(Node { pos, kind, size });
        if anchor > 0 {
            self.anchors.insert(anchor, Some(Rc::clone(&node)));
        }
        Ok(node)
    }

    /// The parser takes tabs for indentation, which the language forbids outside of brackets.
    fn refuse_tabs(&self, pos: Pos) -> Result<(), Issue> {
        let before = self.text.get(..self.offset).unwrap_or_default();
        let indent = &before[before.rfind('\n').map_or(0, |i| i + 1)..];
        if self.flow_depth == 0 && indent.contains('\t') && indent.trim().is_empty() {
            let text = format!("yaml: line {}: found character that cannot start any token", pos.line);
            return Err(Issue::new(pos, text));
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
    }
}

fn position(line: usize, column: usize) -> Pos {
    let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Pos { line: clip(line.max(1)), column: clip(column) }
}

fn short_tag(tag: Option<&Tag>) -> Option<String> {
    let tag = tag?;
    let long = format!("{}{}", tag.handle(), tag.suffix());
    Some(match long.strip_prefix("tag:yaml.org,2002:") {
        Some(suffix) => format!("!!{suffix}"),
        None => long,
    })
}
