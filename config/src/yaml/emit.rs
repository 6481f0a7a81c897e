//! Printing YAML: quoting, block scalars and folding as the reference library does it, so that the effective
//! configuration of both servers can be compared as text.
//!
//! Compat: go.yaml.in/yaml/v2 `Marshal`.

use std::cmp::Ordering;
use std::time::Duration;

use super::scalar::{self, Value};
use crate::Secret;

/// Text is folded at the first blank beyond this column.
const LINE_WIDTH: usize = 80;

/// What is to be printed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Out {
    /// Already in its final form: numbers, durations, booleans, null.
    Raw(String),
    Text(String),
    List(Vec<Out>),
    /// In one line with brackets.
    Flow(Vec<String>),
    /// A text after which the next collection stands in one line: the reference library forgets to take back the
    /// wish of a field that turns out to be a scalar.
    FlowText(String),
    Map(Vec<(String, Out)>),
}

impl From<&str> for Out {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Out {
    fn from(value: bool) -> Self {
        Self::Raw(value.to_string())
    }
}

impl From<i64> for Out {
    fn from(value: i64) -> Self {
        Self::Raw(value.to_string())
    }
}

impl From<u64> for Out {
    fn from(value: u64) -> Self {
        Self::Raw(value.to_string())
    }
}

impl From<Duration> for Out {
    fn from(value: Duration) -> Self {
        Self::Raw(model::duration::format(value))
    }
}

impl FromIterator<String> for Out {
    fn from_iter<I: IntoIterator<Item = String>>(items: I) -> Self {
        Self::List(items.into_iter().map(Self::Text).collect())
    }
}

/// The keys of a mapping in the order in which they are printed; [`Fields::some`] leaves out empty ones.
#[derive(Default)]
pub(crate) struct Fields(Vec<(String, Out)>);

impl Fields {
    pub(crate) fn put(&mut self, key: &str, value: impl Into<Out>) -> &mut Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// Puts a value that is not its type's zero.
    pub(crate) fn some(&mut self, key: &str, value: impl Into<Out>) -> &mut Self {
        let value = value.into();
        let is_zero = match &value {
            Out::Raw(text) => matches!(text.as_str(), "0" | "0s" | "false" | "null"),
            Out::Text(text) | Out::FlowText(text) => text.is_empty(),
            Out::List(items) => items.is_empty(),
            Out::Flow(items) => items.is_empty(),
            Out::Map(fields) => fields.is_empty(),
        };
        if is_zero { self } else { self.put(key, value) }
    }

    pub(crate) fn append(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn into_out(self) -> Out {
        Out::Map(self.0)
    }
}

impl Out {
    /// A free mapping, its keys in the order in which they are printed.
    pub(crate) fn sorted(pairs: impl IntoIterator<Item = (String, Self)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|(a, _), (b, _)| key_order(a, b));
        Self::Map(pairs)
    }

    /// A secret that is no field of a struct, where an empty one would be left out.
    pub(crate) fn secret(secret: &Secret) -> Self {
        if secret.is_empty() { Self::Raw("null".to_owned()) } else { Self::Text(secret.to_string()) }
    }
}

pub(crate) fn float(v: f64) -> String {
    if v.is_nan() {
        ".nan".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        model::number::format_g(v)
    }
}

impl From<f64> for Out {
    fn from(value: f64) -> Self {
        Self::Raw(float(value))
    }
}

/// Letters behind everything else, numbers by their value: `a2` stands before `a10`.
fn key_order(left: &str, right: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let Some(i) = left.iter().zip(&right).position(|(a, b)| a != b) else {
        return left.len().cmp(&right.len());
    };
    match (left[i].is_alphabetic(), right[i].is_alphabetic()) {
        (true, true) => return left[i].cmp(&right[i]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero that continues a number counts as a digit of it, not as a leading zero.
    let continues = (left[i] == '0' || right[i] == '0')
        && left[..i].iter().rev().take_while(|c| c.is_ascii_digit()).any(|&c| c != '0');
    let number = |text: &[char]| {
        let digits = text[i..].iter().map_while(|c| c.to_digit(10));
        digits.fold((u128::from(continues), 0_usize), |(value, len), digit| {
            (value.saturating_mul(10).saturating_add(u128::from(digit)), len + 1)
        })
    };
    number(&left).cmp(&number(&right)).then(left[i].cmp(&right[i]))
}

/// Prints a document.
pub(crate) fn print(root: &Out) -> String {
    let mut printer = Printer { out: String::new(), column: 0, flows_next: false };
    match root {
        Out::Map(fields) if !fields.is_empty() => printer.mapping(fields, 0),
        other => printer.value(other, 0, false),
    }
    printer.out
}

struct Printer {
    out: String,
    column: usize,
    /// Whether the next collection stands in one line.
    flows_next: bool,
}

impl Printer {
    fn write(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn start_line(&mut self, indent: usize) {
        self.out.push('\n');
        self.column = 0;
        self.write(&" ".repeat(indent));
    }

    /// The cursor stands where the first key goes.
    fn mapping(&mut self, fields: &[(String, Out)], indent: usize) {
        for (i, (key, value)) in fields.iter().enumerate() {
            if i > 0 {
                self.write(&" ".repeat(indent));
            }
            self.scalar(key, indent, true);
            self.write(":");
            self.value(value, indent, false);
        }
    }

    /// Writes what follows `key:` or `-`, up to and including the end of the line.
    fn value(&mut self, value: &Out, indent: usize, in_list: bool) {
        let is_collection = matches!(value, Out::Map(_) | Out::List(_));
        if is_collection && std::mem::take(&mut self.flows_next) {
            self.write(" ");
            self.flow(value, indent + 2);
            self.out.push('\n');
            self.column = 0;
            return;
        }
        match value {
            Out::Map(fields) if fields.is_empty() => self.write(" {}"),
            Out::List(items) if items.is_empty() => self.write(" []"),
            Out::Map(fields) if in_list => {
                self.write(" ");
                return self.mapping(fields, indent + 2);
            }
            Out::Map(fields) => {
                self.start_line(indent + 2);
                return self.mapping(fields, indent + 2);
            }
            Out::List(items) => {
                let indent = if in_list { indent + 2 } else { indent };
                for (i, item) in items.iter().enumerate() {
                    if i == 0 && in_list {
                        self.write(" ");
                    } else if i == 0 {
                        self.start_line(indent);
                    } else {
                        self.write(&" ".repeat(indent));
                    }
                    self.write("-");
                    self.value(item, indent, true);
                }
                return;
            }
            Out::Raw(text) => {
                self.write(" ");
                self.write(text);
            }
            Out::Text(text) => {
                self.write(" ");
                self.scalar(text, indent + 2, false);
            }
            Out::FlowText(text) => {
                self.flows_next = true;
                self.write(" ");
                self.scalar(text, indent + 2, false);
            }
            Out::Flow(_) => {
                self.flows_next = false;
                self.write(" ");
                self.flow(value, indent + 2);
            }
        }
        self.out.push('\n');
        self.column = 0;
    }

    /// Writes a value in one line, but for breaks where that is too long.
    fn flow(&mut self, value: &Out, indent: usize) {
        match value {
            Out::Raw(text) => self.write(text),
            Out::Text(text) => self.flow_scalar(text, indent),
            Out::FlowText(text) => {
                self.flows_next = true;
                self.flow_scalar(text, indent);
            }
            Out::Flow(items) => {
                self.flows_next = false;
                self.flow_items('[', ']', items.len(), indent, &mut |printer, i| {
                    printer.flow_scalar(&items[i], indent);
                });
            }
            Out::List(items) => {
                self.flows_next = false;
                self.flow_items('[', ']', items.len(), indent, &mut |printer, i| {
                    printer.flow(&items[i], indent + 2);
                });
            }
            Out::Map(fields) => {
                self.flows_next = false;
                self.flow_items('{', '}', fields.len(), indent, &mut |printer, i| {
                    printer.flow_scalar(&fields[i].0, indent);
                    printer.write(": ");
                    printer.flow(&fields[i].1, indent + 2);
                });
            }
        }
    }

    fn flow_items(
        &mut self,
        open: char,
        close: char,
        len: usize,
        indent: usize,
        item: &mut dyn FnMut(&mut Self, usize),
    ) {
        self.write(&open.to_string());
        for i in 0..len {
            self.write(if i > 0 { "," } else { "" });
            if self.column > LINE_WIDTH {
                self.start_line(indent);
            } else if i > 0 {
                self.write(" ");
            }
            item(self, i);
        }
        self.write(&close.to_string());
    }

    fn flow_scalar(&mut self, text: &str, indent: usize) {
        let shape = Shape::of(text);
        let plain = shape.flow_plain && !text.is_empty();
        match select(text, plain, &shape) {
            Style::Plain => self.folded(text, indent, true),
            Style::Single if !text.contains('\n') => {
                self.write("'");
                self.folded(&text.replace('\'', "''"), indent, true);
                self.write("'");
            }
            _ => self.double_quoted(text, indent, true),
        }
    }

    fn scalar(&mut self, text: &str, indent: usize, is_key: bool) {
        let shape = Shape::of(text);
        if text.contains('\n') && shape.block && !is_key {
            return self.literal(text, indent);
        }
        match select(text, shape.block_plain, &shape) {
            Style::Plain => self.folded(text, indent, !is_key),
            Style::Single if text.contains('\n') => self.double_quoted(text, indent, !is_key),
            Style::Single => {
                self.write("'");
                self.folded(&text.replace('\'', "''"), indent, !is_key);
                self.write("'");
            }
            Style::Double => self.double_quoted(text, indent, !is_key),
        }
    }

    /// Text without line breaks; a lone blank beyond the line's width becomes a line break.
    fn folded(&mut self, text: &str, indent: usize, may_fold: bool) {
        let mut was_blank = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((i, c)) = chars.next() {
            let next = chars.peek().map(|&(_, c)| c);
            let folds = c == ' '
                && may_fold
                && !was_blank
                && self.column > LINE_WIDTH
                && i > 0
                && next.is_some_and(|c| c != ' ');
            if folds {
                self.start_line(indent);
            } else {
                self.out.push(c);
                self.column += 1;
            }
            was_blank = c == ' ';
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, may_fold: bool) {
        self.write("\"");
        let mut was_blank = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((i, c)) = chars.next() {
            let next = chars.peek().map(|&(_, c)| c);
            if c == ' ' && may_fold && !was_blank && self.column > LINE_WIDTH && i > 0 && next.is_some() {
                self.start_line(indent);
                if next == Some(' ') {
                    self.write("\\");
                }
                was_blank = true;
                continue;
            }
            was_blank = c == ' ';
            if let Some(escaped) = escape(c) {
                self.write(&escaped);
            } else {
                self.out.push(c);
                self.column += 1;
            }
        }
        self.write("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.write("|");
        if text.starts_with([' ', '\n']) {
            self.write("2");
        }
        match (
            text.ends_with('\n'),
            text.strip_suffix('\n').is_some_and(|t| t.is_empty() || t.ends_with('\n')),
        ) {
            (false, _) => self.write("-"),
            (true, true) => self.write("+"),
            (true, false) => {}
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.out.push_str(&" ".repeat(indent));
                self.out.push_str(line);
            }
        }
        self.column = 0;
    }
}

enum Style {
    Plain,
    Single,
    Double,
}

/// A plain text that would read as something else gets double quotes, one that would not parse single ones.
fn select(text: &str, plain_allowed: bool, shape: &Shape) -> Style {
    if scalar::resolve_text(text) != Value::Text || scalar::is_base_60(text) || scalar::looks_like_time(text)
    {
        Style::Double
    } else if plain_allowed {
        Style::Plain
    } else if shape.single {
        Style::Single
    } else {
        Style::Double
    }
}

fn escape(c: char) -> Option<String> {
    Some(match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\0' => "\\0".to_owned(),
        '\x07' => "\\a".to_owned(),
        '\x08' => "\\b".to_owned(),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\x0b' => "\\v".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        '\x1b' => "\\e".to_owned(),
        '\u{85}' => "\\N".to_owned(),
        '\u{2028}' => "\\L".to_owned(),
        '\u{2029}' => "\\P".to_owned(),
        '\u{feff}' => "\\uFEFF".to_owned(),
        c if is_printable(c) => return None,
        c if (c as u32) < 0x100 => format!("\\x{:02X}", c as u32),
        c if (c as u32) < 0x1_0000 => format!("\\u{:04X}", c as u32),
        c => format!("\\U{:08X}", c as u32),
    })
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
        || c > '\u{ffff}'
}

/// Which notations can carry a text.
#[expect(clippy::struct_excessive_bools, reason = "independent answers about one text")]
struct Shape {
    flow_plain: bool,
    block_plain: bool,
    single: bool,
    block: bool,
}

impl Shape {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let is_blank_at = |i: usize| chars.get(i).is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        let is_marker = text.starts_with("---") || text.starts_with("...");
        let (mut flow_indicator, mut block_indicator) = (is_marker, is_marker);
        let (mut special, mut breaks, mut space_break, mut break_space) = (false, false, false, false);
        for (i, &c) in chars.iter().enumerate() {
            match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                | '`'
                    if i == 0 =>
                {
                    (flow_indicator, block_indicator) = (true, true);
                }
                '?' | ':' if i == 0 => {
                    flow_indicator = true;
                    block_indicator |= is_blank_at(1);
                }
                '-' if i == 0 && is_blank_at(1) => (flow_indicator, block_indicator) = (true, true),
                ',' | '?' | '[' | ']' | '{' | '}' => flow_indicator = true,
                ':' => {
                    flow_indicator = true;
                    block_indicator |= is_blank_at(i + 1);
                }
                '#' if is_blank_at(i - 1) => (flow_indicator, block_indicator) = (true, true),
                _ => {}
            }
            special |= !is_printable(c) || c == '\u{2028}' || c == '\u{2029}';
            if c == '\n' {
                breaks = true;
                space_break |= i > 0 && chars[i - 1] == ' ';
            }
            break_space |= c == ' ' && i > 0 && chars[i - 1] == '\n';
        }
        let leads = text.starts_with([' ', '\n']);
        let trails = text.ends_with([' ', '\n']);
        let plain = !leads && !trails && !breaks && !space_break && !special && !break_space;
        Self {
            flow_plain: plain && !flow_indicator,
            block_plain: plain && !block_indicator,
            single: !break_space && !space_break && !special,
            block: !text.ends_with(' ') && !space_break && !special,
        }
    }
}
