//! The parser of Go's regular expressions, giving the tree that our matcher runs.
//!
//! Go's syntax reads much like that of other engines and means something else in a dozen places: `\d` and its
//! kin are ASCII, a brace that opens no repetition is a literal, `\Q…\E` quotes, `[a&&b]` has no operators,
//! repetitions end at 1000 and do not stack. So the grammar is read here, and only tables of characters
//! (properties, simple case folding) come from the library.
//!
//! Compat: Go `regexp/syntax`, `Parse` with `Perl` flags, its messages included; for matchers the version in
//! grafana/regexp, as prometheus.

use regex_syntax::hir::{
    Capture, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, HirKind, Look, Repetition,
};

use super::Error;

/// The most copies that a repetition, with those inside it, may ask for.
const MAX_REPEAT: u32 = 1000;
/// The deepest tree.
const MAX_HEIGHT: u32 = 1000;
/// The most instructions that a program may have: 128 MiB of Go's.
const MAX_SIZE: u64 = (128 << 20) / 40;

/// Where a pattern stands, which upstream reads in two versions of the syntax.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A matcher: the dot matches a line feed, names of properties are exact.
    Matcher,
    /// Everything else: names of properties are taken loosely.
    Plain,
}

/// Reads `pattern`.
pub(super) fn parse(pattern: &[u8], dialect: Dialect) -> Result<Hir, Error> {
    parse_with_size(pattern, dialect).map(|(hir, _)| hir)
}

/// Reads `pattern` and tells how many instructions Go's program of it has.
pub(super) fn parse_with_size(pattern: &[u8], dialect: Dialect) -> Result<(Hir, u64), Error> {
    let dot_newline = dialect == Dialect::Matcher;
    let mut parser = Parser {
        dialect,
        pattern,
        at: 0,
        flags: Flags { fold: false, dot_newline, one_line: true, lazy: false },
        frames: vec![Frame::new(None, Flags::default())],
        names: Vec::new(),
        n_groups: 0,
    };
    parser.run().map(|node| (node.hir, node.size))
}

#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of the language")]
struct Flags {
    /// `i`: letters match in both cases.
    fold: bool,
    /// `s`: the dot matches a line feed.
    dot_newline: bool,
    /// Not `m`: `^` and `$` are the ends of the text.
    one_line: bool,
    /// `U`: repetitions are lazy unless marked.
    lazy: bool,
}

/// A finished piece with what the limits look at.
struct Node {
    hir: Hir,
    /// The product of the repetitions that lie in each other.
    copies: u32,
    height: u32,
    /// Instructions of Go's program.
    size: u64,
    is_char: bool,
}

impl Node {
    fn leaf(hir: Hir) -> Self {
        Self { hir, copies: 1, height: 1, size: 1, is_char: false }
    }
}

/// An open group: what stands behind its newest `|`, and the branches before.
struct Frame {
    group: Option<(u32, Option<Box<str>>)>,
    /// The flags outside.
    flags: Flags,
    branches: Vec<Node>,
    items: Vec<Node>,
}

impl Frame {
    fn new(group: Option<(u32, Option<Box<str>>)>, flags: Flags) -> Self {
        Self { group, flags, branches: Vec::new(), items: Vec::new() }
    }

    fn end_branch(&mut self) {
        let items = std::mem::take(&mut self.items);
        let node = if items.len() == 1 {
            items.into_iter().next().expect("there is one")
        } else {
            // Adjacent characters are one literal in Go's tree.
            let is_literal = items.iter().all(|item| item.is_char);
            combine(items, u32::from(!is_literal), 0, Hir::concat)
        };
        self.branches.push(node);
    }

    fn close(mut self) -> Node {
        self.end_branch();
        if self.branches.len() == 1 {
            return self.branches.pop().expect("there is one");
        }
        let splits = self.branches.len() as u64 - 1;
        combine(self.branches, 1, splits, Hir::alternation)
    }
}

fn combine(nodes: Vec<Node>, height: u32, size: u64, build: impl FnOnce(Vec<Hir>) -> Hir) -> Node {
    let copies = nodes.iter().map(|n| n.copies).max().unwrap_or(1);
    let height = height + nodes.iter().map(|n| n.height).max().unwrap_or(1);
    let size = nodes.iter().fold(size, |sum, n| sum.saturating_add(n.size)).max(1);
    Node { hir: build(nodes.into_iter().map(|n| n.hir).collect()), copies, height, size, is_char: false }
}

struct Parser<'p> {
    dialect: Dialect,
    pattern: &'p [u8],
    at: usize,
    flags: Flags,
    frames: Vec<Frame>,
    /// Names given so far: of equal ones the first stays.
    names: Vec<Box<str>>,
    n_groups: u32,
}

impl<'p> Parser<'p> {
    fn run(&mut self) -> Result<Node, Error> {
        // Where the repetition began that ended just here.
        let mut last_repeat = None;
        while let Some(&b) = self.pattern.get(self.at) {
            let start = self.at;
            let mut repeat = None;
            match b {
                b'(' => self.open_group()?,
                b'|' => {
                    self.at += 1;
                    self.frame().end_branch();
                }
                b')' => self.close_group()?,
                b'^' => {
                    let look = if self.flags.one_line { Look::Start } else { Look::StartLF };
                    self.token(1, Hir::look(look))?;
                }
                b'$' => {
                    let look = if self.flags.one_line { Look::End } else { Look::EndLF };
                    self.token(1, Hir::look(look))?;
                }
                b'.' => {
                    let dot = if self.flags.dot_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                    self.token(1, Hir::dot(dot))?;
                }
                b'[' => {
                    let class = self.class()?;
                    self.push(Node::leaf(Hir::class(Class::Unicode(class))))?;
                }
                b'*' | b'+' | b'?' => {
                    let (min, max) = match b {
                        b'*' => (0, None),
                        b'+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.at += 1;
                    self.repeat(min, max, start, last_repeat, false)?;
                    repeat = Some(start);
                }
                b'{' => {
                    if let Some((min, max, end)) = self.bounds() {
                        self.at = end;
                        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || min > max) {
                            return Err(self.error("invalid repeat count", start, end));
                        }
                        self.repeat(min, max, start, last_repeat, true)?;
                        repeat = Some(start);
                    } else {
                        self.at += 1;
                        self.literal('{')?;
                    }
                }
                b'\\' => self.escape()?,
                _ => {
                    let c = self.next_char()?;
                    self.literal(c)?;
                }
            }
            last_repeat = repeat;
        }
        if self.frames.len() != 1 {
            return Err(self.error("missing closing )", 0, self.pattern.len()));
        }
        let node = self.frames.pop().expect("there is one").close();
        self.check(&node)?;
        Ok(node)
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the outermost frame stays until the end")
    }

    fn error(&self, what: &str, from: usize, to: usize) -> Error {
        Error::new(what, &self.pattern[from..to])
    }

    fn check(&self, node: &Node) -> Result<(), Error> {
        if node.size > MAX_SIZE {
            return Err(self.error("expression too large", 0, self.pattern.len()));
        }
        if node.height > MAX_HEIGHT {
            return Err(self.error("expression nests too deeply", 0, self.pattern.len()));
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), Error> {
        self.check(&node)?;
        self.frame().items.push(node);
        Ok(())
    }

    /// A piece spelt in `len` bytes.
    fn token(&mut self, len: usize, hir: Hir) -> Result<(), Error> {
        self.at += len;
        self.push(Node::leaf(hir))
    }

    fn literal(&mut self, c: char) -> Result<(), Error> {
        let hir = if self.flags.fold {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class.case_fold_simple();
            Hir::class(Class::Unicode(class))
        } else {
            Hir::literal(c.to_string().into_bytes())
        };
        self.push(Node { is_char: true, ..Node::leaf(hir) })
    }

    /// The character at the cursor, which moves behind it.
    fn next_char(&mut self) -> Result<char, Error> {
        let rest = &self.pattern[self.at..];
        let head = &rest[..rest.len().min(4)];
        let valid = match std::str::from_utf8(head) {
            Ok(text) => text,
            Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).expect("it is valid up to there"),
        };
        match valid.chars().next() {
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c)
            }
            None => Err(self.error("invalid UTF-8", self.at, self.pattern.len())),
        }
    }

    fn check_utf8(&self, from: usize, to: usize) -> Result<&'p str, Error> {
        std::str::from_utf8(&self.pattern[from..to])
            .map_err(|e| self.error("invalid UTF-8", from + e.valid_up_to(), to))
    }

    fn starts_with(&self, text: &str) -> bool {
        self.pattern[self.at..].starts_with(text.as_bytes())
    }

    // === Groups and repetitions ===

    fn open_group(&mut self) -> Result<(), Error> {
        if self.starts_with("(?") {
            return self.perl_group();
        }
        self.at += 1;
        self.push_group(None);
        Ok(())
    }

    fn push_group(&mut self, name: Option<Box<str>>) {
        self.n_groups += 1;
        self.frames.push(Frame::new(Some((self.n_groups, name)), self.flags));
    }

    fn close_group(&mut self) -> Result<(), Error> {
        if self.frames.len() < 2 {
            return Err(self.error("unexpected )", 0, self.pattern.len()));
        }
        self.at += 1;
        let frame = self.frames.pop().expect("there are two");
        self.flags = frame.flags;
        let group = frame.group.clone();
        let mut node = frame.close();
        if let Some((index, name)) = group {
            let sub = Box::new(std::mem::replace(&mut node.hir, Hir::empty()));
            node.hir = Hir::capture(Capture { index, name, sub });
            node.height += 1;
            node.size = node.size.saturating_add(2);
        }
        node.is_char = false;
        self.push(node)
    }

    /// `(?P<name>`, `(?<name>`, `(?flags:` or `(?flags)`.
    fn perl_group(&mut self) -> Result<(), Error> {
        let start = self.at;
        let rest = &self.pattern[start..];
        let name_at = if rest.len() > 4 && rest.starts_with(b"(?P<") {
            Some(start + 4)
        } else if rest.len() > 3 && rest.starts_with(b"(?<") {
            Some(start + 3)
        } else {
            None
        };
        if let Some(name_at) = name_at {
            let Some(len) = rest.iter().position(|&b| b == b'>') else {
                self.check_utf8(start, self.pattern.len())?;
                return Err(self.error("invalid named capture", start, self.pattern.len()));
            };
            let end = start + len;
            let name = self.check_utf8(name_at, end)?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(self.error("invalid named capture", start, end + 1));
            }
            self.at = end + 1;
            let name: Box<str> = name.into();
            // Go lets names repeat; our matcher does not, so the later groups stay without.
            let is_new = !self.names.contains(&name);
            if is_new {
                self.names.push(name.clone());
            }
            self.push_group(is_new.then_some(name));
            return Ok(());
        }
        self.at += 2;
        let mut flags = self.flags;
        let (mut is_negative, mut saw_flag) = (false, false);
        while self.at < self.pattern.len() {
            let on = !is_negative;
            match self.next_char()? {
                'i' => flags.fold = on,
                'm' => flags.one_line = !on,
                's' => flags.dot_newline = on,
                'U' => flags.lazy = on,
                '-' if !is_negative => {
                    is_negative = true;
                    saw_flag = false;
                    continue;
                }
                c @ (':' | ')') if !is_negative || saw_flag => {
                    if c == ':' {
                        self.frames.push(Frame::new(None, self.flags));
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            saw_flag = true;
        }
        Err(self.error("invalid or unsupported Perl syntax", start, self.at))
    }

    /// Repeats the newest piece; the operator began at `start` and ends at the cursor but for a `?`.
    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        start: usize,
        last_repeat: Option<usize>,
        is_counted: bool,
    ) -> Result<(), Error> {
        let mut greedy = !self.flags.lazy;
        if self.pattern.get(self.at) == Some(&b'?') {
            self.at += 1;
            greedy = !greedy;
        }
        if let Some(last) = last_repeat {
            return Err(self.error("invalid nested repetition operator", last, self.at));
        }
        let Some(node) = self.frame().items.pop() else {
            return Err(self.error("missing argument to repetition operator", start, self.at));
        };
        let copies = match (is_counted, max.unwrap_or(min)) {
            (true, copies @ 1..) => copies.saturating_mul(node.copies),
            (true, 0) if max == Some(0) => 1,
            _ => node.copies,
        };
        if is_counted && copies > MAX_REPEAT && (min >= 2 || max.is_some_and(|max| max >= 2)) {
            return Err(self.error("invalid repeat count", start, self.at));
        }
        let size = match (is_counted, max) {
            (false, None) => node.size.saturating_add(2),
            (false, Some(_)) => node.size.saturating_add(1),
            (true, None) => node.size.saturating_mul(u64::from(min.max(1))).saturating_add(2),
            (true, Some(max)) => {
                node.size.saturating_mul(u64::from(max)).saturating_add(u64::from(max - min))
            }
        };
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(node.hir) });
        self.push(Node { hir, copies, height: node.height + 1, size: size.max(1), is_char: false })
    }

    /// Reads `{n}`, `{n,}` or `{n,m}` at the cursor, which stays: bounds and the end, or `None` if it is
    /// something else.
    fn bounds(&self) -> Option<(u32, Option<u32>, usize)> {
        let (min, mut at) = self.integer(self.at + 1)?;
        let mut max = Some(min);
        if self.pattern.get(at) == Some(&b',') {
            at += 1;
            if self.pattern.get(at) == Some(&b'}') {
                max = None;
            } else {
                let (bound, end) = self.integer(at)?;
                max = Some(bound);
                at = end;
            }
        }
        (self.pattern.get(at) == Some(&b'}')).then_some((min, max, at + 1))
    }

    /// An integer without leading zeros, and where it ends; whatever is too large is the largest.
    fn integer(&self, at: usize) -> Option<(u32, usize)> {
        let digits = self.pattern[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || (digits > 1 && self.pattern[at] == b'0') {
            return None;
        }
        let text = std::str::from_utf8(&self.pattern[at..at + digits]).expect("digits are ASCII");
        Some((text.parse().unwrap_or(u32::MAX), at + digits))
    }

    // === Escapes ===

    fn escape(&mut self) -> Result<(), Error> {
        match self.pattern.get(self.at + 1) {
            Some(b'A') => return self.token(2, Hir::look(Look::Start)),
            Some(b'z') => return self.token(2, Hir::look(Look::End)),
            Some(b'b') => return self.token(2, Hir::look(Look::WordAscii)),
            Some(b'B') => return self.token(2, Hir::look(Look::WordAsciiNegate)),
            Some(b'C') => return Err(self.error("invalid escape sequence", self.at, self.at + 2)),
            Some(b'Q') => {
                self.at += 2;
                let rest = &self.pattern[self.at..];
                let end = rest.windows(2).position(|w| w == b"\\E");
                let (stop, next) = match end {
                    Some(len) => (self.at + len, self.at + len + 2),
                    None => (self.pattern.len(), self.pattern.len()),
                };
                self.check_utf8(self.at, stop)?;
                while self.at < stop {
                    let c = self.next_char()?;
                    self.literal(c)?;
                }
                self.at = next;
                return Ok(());
            }
            _ => {}
        }
        if let Some(class) = self.unicode_class()? {
            return self.push(Node::leaf(Hir::class(Class::Unicode(class))));
        }
        if let Some(class) = self.perl_class() {
            return self.push(Node::leaf(Hir::class(Class::Unicode(class))));
        }
        match char::from_u32(self.escaped_char()?) {
            Some(c) => self.literal(c),
            // A surrogate is in no text.
            None => self.push(Node::leaf(Hir::fail())),
        }
    }

    /// The character that a backslash at the cursor and what follows it stand for.
    fn escaped_char(&mut self) -> Result<u32, Error> {
        let start = self.at;
        self.at += 1;
        if self.at == self.pattern.len() {
            return Err(Error::new("trailing backslash at end of expression", b""));
        }
        let c = self.next_char()?;
        let is_octal = |b: Option<&u8>| b.is_some_and(|b| (b'0'..=b'7').contains(b));
        let value = match c {
            '1'..='7' if !is_octal(self.pattern.get(self.at)) => None,
            '0'..='7' => {
                let mut value = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    if is_octal(self.pattern.get(self.at)) {
                        value = value * 8 + u32::from(self.pattern[self.at] - b'0');
                        self.at += 1;
                    }
                }
                Some(value)
            }
            'x' => self.hex()?,
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        value.ok_or_else(|| self.error("invalid escape sequence", start, self.at))
    }

    /// What follows `\x`: two digits, or any number of them in braces.
    fn hex(&mut self) -> Result<Option<u32>, Error> {
        if self.at == self.pattern.len() {
            return Ok(None);
        }
        let first = self.next_char()?;
        if first != '{' {
            let second = self.next_char_or_invalid_utf8()?;
            return Ok(first.to_digit(16).zip(second.to_digit(16)).map(|(high, low)| high * 16 + low));
        }
        let (mut value, mut n_digits) = (0_u32, 0);
        while self.at < self.pattern.len() {
            match self.next_char()? {
                '}' => return Ok((n_digits > 0).then_some(value)),
                c => {
                    let Some(digit) = c.to_digit(16) else { return Ok(None) };
                    value = value * 16 + digit;
                    if value > u32::from(char::MAX) {
                        return Ok(None);
                    }
                    n_digits += 1;
                }
            }
        }
        Ok(None)
    }

    /// Go reads a second digit even at the end, where it finds what it takes for invalid UTF-8 or nothing.
    fn next_char_or_invalid_utf8(&mut self) -> Result<char, Error> {
        if self.at == self.pattern.len() { Ok('\u{fffd}') } else { self.next_char() }
    }

    // === Classes ===

    /// `\d` and its kin, ASCII only.
    fn perl_class(&mut self) -> Option<ClassUnicode> {
        let letter = *self.pattern.get(self.at + 1)?;
        if self.pattern[self.at] != b'\\' {
            return None;
        }
        let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
            b'd' => &[('0', '9')],
            b's' => &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
            b'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
            _ => return None,
        };
        self.at += 2;
        Some(self.group(ranges, letter.is_ascii_uppercase()))
    }

    fn group(&self, ranges: &[(char, char)], is_negative: bool) -> ClassUnicode {
        let mut class = ClassUnicode::new(ranges.iter().map(|&(lo, hi)| ClassUnicodeRange::new(lo, hi)));
        if self.flags.fold {
            class.case_fold_simple();
        }
        if is_negative {
            class.negate();
        }
        class
    }

    /// `[:alpha:]` inside a class, if there is one at the cursor.
    fn posix_class(&mut self) -> Result<Option<ClassUnicode>, Error> {
        let rest = &self.pattern[self.at..];
        if !(rest.len() > 2 && rest.starts_with(b"[:")) {
            return Ok(None);
        }
        let Some(len) = rest[2..].windows(2).position(|w| w == b":]") else {
            return Ok(None);
        };
        let name = &rest[2..2 + len];
        let (is_negative, name) = match name {
            [b'^', name @ ..] => (true, name),
            name => (false, name),
        };
        let end = self.at + len + 4;
        let ranges: &[(char, char)] = match name {
            b"alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
            b"alpha" => &[('A', 'Z'), ('a', 'z')],
            b"ascii" => &[('\0', '\x7f')],
            b"blank" => &[('\t', '\t'), (' ', ' ')],
            b"cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
            b"digit" => &[('0', '9')],
            b"graph" => &[('!', '~')],
            b"lower" => &[('a', 'z')],
            b"print" => &[(' ', '~')],
            b"punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            b"space" => &[('\t', '\r'), (' ', ' ')],
            b"upper" => &[('A', 'Z')],
            b"word" => &[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')],
            b"xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
            _ => return Err(self.error("invalid character class range", self.at, end)),
        };
        self.at = end;
        Ok(Some(self.group(ranges, is_negative)))
    }

    /// `\pL` or `\p{Greek}`, if there is one at the cursor.
    fn unicode_class(&mut self) -> Result<Option<ClassUnicode>, Error> {
        let start = self.at;
        if !self.starts_with("\\p") && !self.starts_with("\\P") {
            return Ok(None);
        }
        let mut is_negative = self.pattern[start + 1] == b'P';
        self.at += 2;
        if self.at == self.pattern.len() {
            // Go finds the empty rune there and no table of that name.
            return Err(self.error("invalid character class range", start, self.at));
        }
        let c = self.next_char()?;
        let mut name = if c == '{' {
            let Some(len) = self.pattern[start..].iter().position(|&b| b == b'}') else {
                self.check_utf8(start, self.pattern.len())?;
                return Err(self.error("invalid character class range", start, self.pattern.len()));
            };
            self.at = start + len + 1;
            self.check_utf8(start + 3, start + len)?
        } else {
            self.check_utf8(start + 2, self.at)?
        };
        if let Some(rest) = name.strip_prefix('^') {
            is_negative = !is_negative;
            name = rest;
        }
        let mut class = property(name, self.dialect)
            .ok_or_else(|| self.error("invalid character class range", start, self.at))?;
        if self.flags.fold {
            class.case_fold_simple();
        }
        if is_negative {
            class.negate();
        }
        Ok(Some(class))
    }

    /// `[…]` at the cursor.
    fn class(&mut self) -> Result<ClassUnicode, Error> {
        let start = self.at;
        self.at += 1;
        let is_negative = self.pattern.get(self.at) == Some(&b'^');
        self.at += usize::from(is_negative);
        let mut class = ClassUnicode::empty();
        let mut is_first = true;
        while is_first || self.pattern.get(self.at) != Some(&b']') {
            is_first = false;
            if let Some(part) = self.posix_class()? {
                class.union(&part);
                continue;
            }
            if let Some(part) = self.unicode_class()? {
                class.union(&part);
                continue;
            }
            if self.at < self.pattern.len()
                && let Some(part) = self.perl_class()
            {
                class.union(&part);
                continue;
            }
            let range_start = self.at;
            let lo = self.class_char(start)?;
            let mut hi = lo;
            if let [b'-', next, ..] = self.pattern[self.at..]
                && next != b']'
            {
                self.at += 1;
                hi = self.class_char(start)?;
                if hi < lo {
                    return Err(self.error("invalid character class range", range_start, self.at));
                }
            }
            if let Some(range) = scalar_range(lo, hi) {
                let mut part = ClassUnicode::new([range]);
                if self.flags.fold {
                    part.case_fold_simple();
                }
                class.union(&part);
            }
        }
        self.at += 1;
        if is_negative {
            class.negate();
        }
        Ok(class)
    }

    fn class_char(&mut self, class_start: usize) -> Result<u32, Error> {
        match self.pattern.get(self.at) {
            None => Err(self.error("missing closing ]", class_start, self.pattern.len())),
            Some(b'\\') => self.escaped_char(),
            Some(_) => self.next_char().map(u32::from),
        }
    }
}

/// The range without the surrogates, which no text holds.
fn scalar_range(lo: u32, hi: u32) -> Option<ClassUnicodeRange> {
    let lo = char::from_u32(lo).unwrap_or('\u{e000}');
    let hi = char::from_u32(hi).unwrap_or('\u{d7ff}');
    (lo <= hi).then(|| ClassUnicodeRange::new(lo, hi))
}

/// The general categories.
const CATEGORIES: &str = " C Cc Cf Cn Co Cs L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl \
    Zp Zs ";

/// The scripts.
const SCRIPTS: &str = " Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali \
    Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian \
    Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret \
    Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian \
    Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo \
    Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian \
    Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi \
    Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic \
    Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive \
    Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari \
    New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic \
    Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya \
    Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic \
    Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo \
    Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut \
    Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi \
    Zanabazar_Square ";

/// The names of categories that are taken loosely besides those above, in their canonical form.
const CATEGORY_ALIASES: &str = " Casedletter Closepunctuation Cntrl Combiningmark Connectorpunctuation Control \
    Currencysymbol Dashpunctuation Decimalnumber Digit Enclosingmark Finalpunctuation Format \
    Initialpunctuation Lc Letter Letternumber Lineseparator Lowercaseletter Mark Mathsymbol Modifierletter \
    Modifiersymbol Nonspacingmark Number Openpunctuation Other Otherletter Othernumber Otherpunctuation \
    Othersymbol Paragraphseparator Privateuse Punct Punctuation Separator Spaceseparator Spacingmark \
    Surrogate Symbol Titlecaseletter Unassigned Uppercaseletter ";

/// The characters of a category or a script.
fn property(name: &str, dialect: Dialect) -> Option<ClassUnicode> {
    let name = match dialect {
        Dialect::Matcher => name.to_owned(),
        Dialect::Plain => canonical_name(name),
    };
    if !name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') {
        return None;
    }
    let is_in = |list: &str| list.contains(&format!(" {name} "));
    let query = match (name.as_str(), dialect) {
        // No text holds surrogates.
        ("Cs", _) | ("Surrogate", Dialect::Plain) => return Some(ClassUnicode::empty()),
        ("Any", _) | ("Assigned" | "Ascii", Dialect::Plain) => format!(r"\p{{{name}}}"),
        _ if is_in(CATEGORIES) => format!(r"\p{{gc={name}}}"),
        _ if dialect == Dialect::Plain && is_in(CATEGORY_ALIASES) => format!(r"\p{{gc={name}}}"),
        _ if is_in(SCRIPTS) => format!(r"\p{{sc={name}}}"),
        _ => return None,
    };
    match regex_syntax::parse(&query).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}

/// `name` with a capital in front and small letters behind, without underscores, hyphens and spaces.
/// That loses the scripts whose names have several words, in Go as well.
fn canonical_name(name: &str) -> String {
    let mut canonical = String::with_capacity(name.len());
    for c in name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')) {
        canonical.push(if canonical.is_empty() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
    }
    canonical
}
