//! All that the parsers say about a body, as text: for tests that compare.
//!
//! The golden files hold the same text made by a program around upstream's parsers.

use std::fmt::Write;

use model::LabelsBuilder;
use model::histogram::{Buckets, Span};
use model::wire::parse::{self, Entry, ParseError};
use model::wire::{Format, HistogramOptions, Native, nhcb, protobuf};

/// How a body is to be read, by letters: native histograms, classic ones too, converted, with start times, with labels
/// for type and unit.
pub(crate) fn dump(format: &str, letters: &str, body: &[u8], verbose: bool) -> String {
    let has = |letter: char| letters.contains(letter);
    let options = HistogramOptions { native: has('n'), classic_too: has('c'), convert: has('v') };
    let format = match format {
        "T" => Format::Text,
        "O" => Format::OpenMetrics,
        _ => Format::Protobuf,
    };
    let mut out = Out { text: String::new(), labels: LabelsBuilder::default(), starts: has('s') };
    let read = match format.text() {
        None => protobuf(&mut out, body, options, has('l')),
        Some(format) => {
            let mut parser = parse::Parser::new(body, format).with_type_and_unit_labels(has('l'));
            if has('s') {
                parser = parser.with_start_times();
            }
            if has('v') {
                converted(&mut out, nhcb::Converter::new(parser, has('c')))
            } else {
                plain(&mut out, parser)
            }
        }
    };
    if let Err(error) = read {
        if verbose {
            writeln!(out.text, " E {}", quote(error.message.as_bytes())).expect("a string takes all");
        } else {
            out.text.push_str(" E\n");
        }
    }
    out.text
}

struct Out {
    text: String,
    labels: LabelsBuilder,
    starts: bool,
}

fn protobuf(
    out: &mut Out,
    body: &[u8],
    options: HistogramOptions,
    type_and_unit: bool,
) -> Result<(), ParseError> {
    let mut parser = protobuf::Parser::new(body, options).with_type_and_unit_labels(type_and_unit);
    while let Some(item) = parser.next() {
        let item = item?;
        if let protobuf::Item::Said(entry) = &item {
            out.said(entry);
            continue;
        }
        parser.labels_into(&mut out.labels)?;
        let st = if out.starts { parser.start_time() } else { 0 };
        match item {
            protobuf::Item::Float(v) => out.float(parser.t(), st, v),
            _ => out.native(parser.t(), st, parser.native()),
        }
        for exemplar in parser.exemplars() {
            out.exemplar(exemplar.t, exemplar.v, &exemplar.labels());
        }
    }
    Ok(())
}

fn plain(out: &mut Out, mut parser: parse::Parser<'_>) -> Result<(), ParseError> {
    while let Some(entry) = parser.next() {
        match entry? {
            Entry::Series(line) => out.line(&mut parser, &line, true)?,
            entry => out.said(&entry),
        }
    }
    Ok(())
}

fn converted(out: &mut Out, mut converter: nhcb::Converter<'_>) -> Result<(), ParseError> {
    while let Some(item) = converter.next() {
        match item? {
            nhcb::Item::Entry(Entry::Series(line)) => out.line(converter.parser(), &line, true)?,
            nhcb::Item::Classic(line) => out.line(converter.parser(), &line, false)?,
            nhcb::Item::Entry(entry) => out.said(&entry),
            nhcb::Item::Histogram => {
                out.labels = converter.labels().clone();
                let (t, st) = (converter.t(), if out.starts { converter.start_time() } else { 0 });
                out.native(t, st, converter.native());
                for exemplar in converter.exemplars().iter().filter(|exemplar| exemplar.t.is_some()) {
                    out.exemplar(exemplar.t, exemplar.v, &exemplar.labels());
                }
            }
        }
    }
    Ok(())
}

impl Out {
    fn said(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Series(_) => unreachable!("series are told apart before"),
            Entry::Type { family, kind } => writeln!(self.text, " T {} {kind}", quote(family)),
            Entry::Help { family, text } => writeln!(self.text, " H {} {}", quote(family), quote(text)),
            Entry::Unit { family, unit } => writeln!(self.text, " U {} {}", quote(family), quote(unit)),
        }
        .expect("a string takes all");
    }

    fn line(
        &mut self,
        parser: &mut parse::Parser<'_>,
        line: &parse::SeriesLine<'_>,
        has_exemplar: bool,
    ) -> Result<(), ParseError> {
        parser.labels_into(line, &mut self.labels)?;
        let st = if self.starts { parser.start_time(line) } else { 0 };
        self.float(line.t, st, line.v);
        if let Some(exemplar) = parser.exemplar(line).filter(|_| has_exemplar) {
            self.exemplar(exemplar.t, exemplar.v, &exemplar.labels());
        }
        Ok(())
    }

    fn float(&mut self, t: Option<i64>, st: i64, v: f64) {
        let labels = self.shown_labels();
        writeln!(self.text, " S {} {st} {labels} {:x}", time(t), v.to_bits()).expect("a string takes all");
    }

    fn native(&mut self, t: Option<i64>, st: i64, native: &Native) {
        let labels = self.shown_labels();
        let head = format!("{} {st} {labels}", time(t));
        let shown = if native.is_float {
            let it = &native.float;
            let totals = format!("zc={:x} n={:x}", it.zero_count.to_bits(), it.count.to_bits());
            format!(" F {head} {}", show(it, &totals, |v| format!("{:x}", v.to_bits())))
        } else {
            let it = &native.int;
            let totals = format!("zc={} n={}", it.zero_count, it.count);
            format!(" I {head} {}", show(it, &totals, |v| v.to_string()))
        };
        self.text.push_str(&shown);
        self.text.push('\n');
    }

    fn exemplar(&mut self, t: Option<i64>, v: f64, labels: &model::Labels) {
        let labels = shown(labels.iter());
        writeln!(self.text, " X {} {:x} {labels}", time(t), v.to_bits()).expect("a string takes all");
    }

    fn shown_labels(&self) -> String {
        shown(self.labels.iter())
    }
}

fn show<C, B: Copy>(it: &Buckets<C, B>, totals: &str, bucket: impl Fn(B) -> String) -> String {
    let spans = |spans: &[Span]| -> String {
        let each: Vec<String> =
            spans.iter().map(|span| format!("{}:{},", span.offset, span.length)).collect();
        each.concat()
    };
    let bounds: Vec<String> = it.custom_values.iter().map(|v| format!("{:x},", v.to_bits())).collect();
    let buckets = |buckets: &[B]| -> String { buckets.iter().map(|&b| bucket(b) + ",").collect() };
    format!(
        "hint={} schema={} zt={:x} {totals} sum={:x} {} {} {} {} {}",
        it.counter_reset_hint as u8,
        it.schema,
        it.zero_threshold.to_bits(),
        it.sum.to_bits(),
        spans(&it.positive_spans),
        buckets(&it.positive_buckets),
        spans(&it.negative_spans),
        buckets(&it.negative_buckets),
        bounds.concat(),
    )
}

fn shown<'a>(labels: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let each: Vec<String> =
        labels.map(|(name, value)| format!("{}={},", quote(name), quote(value))).collect();
    each.concat()
}

fn time(t: Option<i64>) -> String {
    t.map_or_else(|| "-".to_owned(), |t| t.to_string())
}

pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &b in bytes {
        match b {
            b'"' | b'\\' | 0..=b' ' | 0x7f.. => write!(out, "\\x{b:02x}").expect("a string takes all"),
            b => out.push(char::from(b)),
        }
    }
    out.push('"');
    out
}
