//! Entries as bytes: integers of variable length, times as differences, every text and subject written once.
//!
//! A stream is read from its beginning: what a reference means is what was written before it. An entry is
//! subject, number, first time, span, count, event; see [`Encoder::entry`] for the order. What is read is not
//! trusted: every length and reference is checked, and a stream ends where it stops making sense.

#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use model::{Labels, Timestamp};

use super::code::Code;
use super::event::{Entry, Event, Finding, State, Telling, Text, Verdict};
use super::subject::{Id, Kind, Subject};

/// The longest text that is kept; errors of the world may be longer.
pub(super) const TEXT_BYTES_MAX: usize = 2048;

/// The most labels of a subject, as a guard against a broken file.
const LABELS_MAX: u64 = 10_000;

/// Both directions in one: what [`Event::visit`] calls for each of its fields.
trait Fields {
    fn int(&mut self, v: &mut i64);
    fn count(&mut self, v: &mut u64);
    /// 0 stands for none.
    fn time(&mut self, v: &mut Timestamp);
    fn float(&mut self, v: &mut f64);
    /// Six digits of a value; the store has all of them.
    fn rounded(&mut self, v: &mut f64);
    fn text(&mut self, v: &mut Text);
    fn code(&mut self, v: &mut Code);
    fn state(&mut self, v: &mut State);
    fn flag(&mut self, v: &mut bool);
    fn labels(&mut self, v: &mut Labels);
}

impl Event {
    /// The number of the kind on disk.
    const fn number(&self) -> u8 {
        match self {
            Self::Held { .. } => 1,
            Self::Kept { .. } => 2,
            Self::Began { .. } => 3,
            Self::Ended { .. } => 4,
            Self::Evaluated { .. } => 5,
            Self::Failed { .. } => 6,
            Self::Reloaded { .. } => 7,
            Self::KnownAs { .. } => 8,
            Self::Stopped { .. } => 9,
            Self::Posted { .. } => 10,
            Self::Received { .. } => 11,
            Self::Grouped { .. } => 12,
            Self::Flushed { .. } => 13,
            Self::Told { .. } => 14,
            Self::Server { .. } => 15,
        }
    }

    fn blank(number: u8) -> Option<Self> {
        let none = || -> Text { Arc::from("") };
        let code = Code::Unknown;
        Some(match number {
            1 => Self::Held { low: 0.0, high: 0.0, value: 0.0 },
            2 => Self::Kept { until: 0, why: Finding::new(code) },
            3 => Self::Began {
                state: State::Inactive,
                active_at: 0,
                hold_ms: 0,
                value: 0.0,
                because: code,
                detail: none(),
            },
            4 => Self::Ended { was: State::Inactive, active_ms: 0, hold_ms: 0, why: Finding::new(code) },
            5 => Self::Evaluated { low: 0, high: 0 },
            6 => Self::Failed { error: none() },
            7 => Self::Reloaded { code, what: none() },
            8 => Self::KnownAs { labels: Labels::empty() },
            9 => Self::Stopped { code, by: none() },
            10 => Self::Posted { to: none(), code, error: none() },
            11 => Self::Received { starts_at: 0, ends_at: 0, is_timeout: false, code },
            12 => Self::Grouped { group: none(), receiver: none(), due: 0, code },
            13 => Self::Flushed {
                group: none(),
                receiver: none(),
                is_resolved: false,
                verdict: Verdict::new(code),
                next: 0,
            },
            14 => Self::Told {
                group: none(),
                receiver: none(),
                integration: none(),
                telling: Telling::new(code),
            },
            15 => Self::Server { code, detail: none() },
            _ => return None,
        })
    }

    fn visit(&mut self, f: &mut impl Fields) {
        match self {
            Self::Held { low, high, value } => {
                f.rounded(low);
                f.rounded(high);
                f.rounded(value);
            }
            Self::Kept { until, why } => {
                f.time(until);
                why.visit(f);
            }
            Self::Began { state, active_at, hold_ms, value, because, detail } => {
                f.state(state);
                f.time(active_at);
                f.int(hold_ms);
                f.rounded(value);
                f.code(because);
                f.text(detail);
            }
            Self::Ended { was, active_ms, hold_ms, why } => {
                f.state(was);
                f.int(active_ms);
                f.int(hold_ms);
                why.visit(f);
            }
            Self::Evaluated { low, high } => {
                f.count(low);
                f.count(high);
            }
            Self::Failed { error } => f.text(error),
            Self::Reloaded { code, what } => {
                f.code(code);
                f.text(what);
            }
            Self::KnownAs { labels } => f.labels(labels),
            Self::Stopped { code, by } => {
                f.code(code);
                f.text(by);
            }
            Self::Posted { to, code, error } => {
                f.text(to);
                f.code(code);
                f.text(error);
            }
            Self::Received { starts_at, ends_at, is_timeout, code } => {
                f.time(starts_at);
                f.time(ends_at);
                f.flag(is_timeout);
                f.code(code);
            }
            Self::Grouped { group, receiver, due, code } => {
                f.text(group);
                f.text(receiver);
                f.time(due);
                f.code(code);
            }
            Self::Flushed { group, receiver, is_resolved, verdict, next } => {
                f.text(group);
                f.text(receiver);
                f.flag(is_resolved);
                f.code(&mut verdict.code);
                if verdict.code != Code::Passed {
                    f.text(&mut verdict.by);
                    f.text(&mut verdict.author);
                    f.text(&mut verdict.comment);
                    f.time(&mut verdict.until);
                }
                f.time(next);
            }
            Self::Told { group, receiver, integration, telling } => {
                f.text(group);
                f.text(receiver);
                f.text(integration);
                f.code(&mut telling.code);
                f.text(&mut telling.reason);
                f.count(&mut telling.attempts);
                f.text(&mut telling.error);
                f.text(&mut telling.message);
                f.time(&mut telling.next);
            }
            Self::Server { code, detail } => {
                f.code(code);
                f.text(detail);
            }
        }
    }
}

impl Finding {
    fn visit(&mut self, f: &mut impl Fields) {
        f.code(&mut self.code);
        f.text(&mut self.expr);
        f.text(&mut self.labels);
        f.float(&mut self.value);
        f.text(&mut self.bound);
        f.time(&mut self.at);
    }
}

// === Writing ===

/// Writes one stream.
#[derive(Default)]
pub(super) struct Encoder {
    pub(super) out: Vec<u8>,
    texts: HashMap<Text, u64>,
    subjects: HashMap<Id, u64>,
    /// The subject of the last entry.
    subject: Option<Id>,
    number: u64,
    first: Timestamp,
    /// What the times inside an event are counted from.
    base: Timestamp,
}

impl Encoder {
    pub(super) fn entry(&mut self, subject: &Subject, entry: &Entry) {
        let n_known = self.subjects.len() as u64;
        let id = subject.id();
        let is_same = self.subject.replace(id) == Some(id);
        match self.subjects.get(&id) {
            Some(_) if is_same => self.varint(1),
            Some(&known) => self.varint(known + 2),
            None => {
                self.varint(0);
                self.out.push(subject.kind as u8);
                self.put_labels(&subject.labels);
                self.subjects.insert(id, n_known);
            }
        }
        self.signed(entry.number.wrapping_sub(self.number).cast_signed());
        self.number = entry.number;
        self.signed(entry.first.wrapping_sub(self.first));
        self.first = entry.first;
        self.base = entry.first;
        self.signed(entry.last.wrapping_sub(entry.first));
        self.varint(entry.count);
        let mut event = entry.event.clone();
        self.out.push(event.number());
        event.visit(self);
    }

    fn varint(&mut self, mut v: u64) {
        loop {
            let [low, ..] = v.to_le_bytes();
            v >>= 7;
            if v == 0 {
                return self.out.push(low);
            }
            self.out.push(low | 0x80);
        }
    }

    fn signed(&mut self, v: i64) {
        self.varint(((v << 1) ^ (v >> 63)).cast_unsigned());
    }

    fn put_text(&mut self, text: &str) {
        let text = shortened(text);
        if text.is_empty() {
            return self.varint(0);
        }
        if let Some(&known) = self.texts.get(text) {
            return self.varint(known + 2);
        }
        self.varint(1);
        self.varint(text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
        self.texts.insert(Arc::from(text), self.texts.len() as u64);
    }

    fn put_labels(&mut self, labels: &Labels) {
        self.varint(labels.len() as u64);
        for (name, value) in labels {
            self.put_text(&String::from_utf8_lossy(name));
            self.put_text(&String::from_utf8_lossy(value));
        }
    }
}

/// The beginning of a text that is too long.
pub(super) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Fields for Encoder {
    fn int(&mut self, v: &mut i64) {
        self.signed(*v);
    }

    fn count(&mut self, v: &mut u64) {
        self.varint(*v);
    }

    fn time(&mut self, v: &mut Timestamp) {
        if *v == 0 {
            self.varint(0);
        } else {
            let difference = v.wrapping_sub(self.base);
            // One more than the zigzag form, which leaves 0 for none; the one time that this cannot say is none.
            self.varint((((difference << 1) ^ (difference >> 63)).cast_unsigned()).wrapping_add(1));
        }
    }

    /// What a few digits say exactly is written as those digits and the place of the point; else all bits are.
    fn float(&mut self, v: &mut f64) {
        if let Some((exponent, digits)) = decimal(*v) {
            self.out.push(exponent);
            self.signed(digits);
        } else {
            self.out.push(ALL_BITS);
            self.out.extend_from_slice(&v.to_le_bytes());
        }
    }

    fn rounded(&mut self, v: &mut f64) {
        let mut rounded = format!("{v:.5e}").parse().unwrap_or(*v);
        self.float(&mut rounded);
    }

    fn text(&mut self, v: &mut Text) {
        self.put_text(v);
    }

    fn code(&mut self, v: &mut Code) {
        self.out.push(*v as u8);
    }

    fn state(&mut self, v: &mut State) {
        self.out.push(*v as u8);
    }

    fn flag(&mut self, v: &mut bool) {
        self.out.push(u8::from(*v));
    }

    fn labels(&mut self, v: &mut Labels) {
        self.put_labels(v);
    }
}

/// Instead of an exponent: eight bytes follow.
const ALL_BITS: u8 = 0xff;
/// What is added to exponents on disk.
const EXPONENT_BIAS: i32 = 100;

/// The number as digits and the biased power of ten that they are multiplied by, if there are not many digits.
fn decimal(v: f64) -> Option<(u8, i64)> {
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if fraction.len() > 9 {
        return None;
    }
    let digits: i64 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()? + EXPONENT_BIAS;
    let exponent = u8::try_from(exponent).ok().filter(|&e| e != ALL_BITS)?;
    (undecimal(exponent, digits).to_bits() == v.to_bits()).then_some((exponent, digits))
}

fn undecimal(exponent: u8, digits: i64) -> f64 {
    format!("{digits}e{}", i32::from(exponent) - EXPONENT_BIAS).parse().unwrap_or(f64::NAN)
}

// === Reading ===

/// What a stream has said so far.
#[derive(Default)]
pub(super) struct Decoder {
    texts: Vec<Text>,
    subjects: Vec<Arc<Subject>>,
    subject: Option<Arc<Subject>>,
    number: u64,
    first: Timestamp,
}

impl Decoder {
    /// Reads the entries of the next part of the stream; `false` if it does not make sense from somewhere on.
    pub(super) fn read(&mut self, bytes: &[u8], mut found: impl FnMut(&Arc<Subject>, Entry)) -> bool {
        let mut cursor = Cursor { bytes, decoder: self, base: 0, is_broken: false };
        while !cursor.bytes.is_empty() {
            match cursor.entry() {
                Some((subject, entry)) => found(&subject, entry),
                None => return false,
            }
        }
        true
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    decoder: &'a mut Decoder,
    base: Timestamp,
    is_broken: bool,
}

impl Cursor<'_> {
    fn entry(&mut self) -> Option<(Arc<Subject>, Entry)> {
        let subject = match self.varint() {
            0 => {
                let kind = Kind::from_number(self.byte())?;
                let labels = self.take_labels();
                let subject = Arc::new(Subject { kind, labels });
                self.decoder.subjects.push(Arc::clone(&subject));
                subject
            }
            1 => Arc::clone(self.decoder.subject.as_ref()?),
            known => Arc::clone(self.decoder.subjects.get(usize::try_from(known - 2).ok()?)?),
        };
        self.decoder.subject = Some(Arc::clone(&subject));
        let number = self.decoder.number.wrapping_add(self.signed().cast_unsigned());
        self.decoder.number = number;
        let first = self.decoder.first.wrapping_add(self.signed());
        self.decoder.first = first;
        self.base = first;
        let last = first.wrapping_add(self.signed());
        let count = self.varint();
        let mut event = Event::blank(self.byte())?;
        event.visit(self);
        (!self.is_broken).then_some((subject, Entry { number, first, last, count, event }))
    }

    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.bytes.split_first() else {
            self.is_broken = true;
            return 0;
        };
        self.bytes = rest;
        byte
    }

    fn varint(&mut self) -> u64 {
        let mut v = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte();
            v |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return v;
            }
        }
        self.is_broken = true;
        0
    }

    fn signed(&mut self) -> i64 {
        unzigzag(self.varint())
    }

    fn take_text(&mut self) -> Text {
        let none = || Arc::from("");
        match self.varint() {
            0 => none(),
            1 => {
                let length = usize::try_from(self.varint()).unwrap_or(usize::MAX);
                let taken = (length <= TEXT_BYTES_MAX).then(|| self.bytes.split_at_checked(length)).flatten();
                let Some((Ok(text), rest)) = taken.map(|(text, rest)| (std::str::from_utf8(text), rest))
                else {
                    self.is_broken = true;
                    return none();
                };
                self.bytes = rest;
                let text: Text = Arc::from(text);
                self.decoder.texts.push(Arc::clone(&text));
                text
            }
            known => {
                let text = usize::try_from(known - 2).ok().and_then(|i| self.decoder.texts.get(i));
                self.is_broken |= text.is_none();
                text.map_or_else(none, Arc::clone)
            }
        }
    }

    fn take_labels(&mut self) -> Labels {
        let n = self.varint();
        if n > LABELS_MAX {
            self.is_broken = true;
            return Labels::empty();
        }
        let mut pairs = Vec::new();
        for _ in 0..n {
            pairs.push((self.take_text(), self.take_text()));
            if self.is_broken {
                return Labels::empty();
            }
        }
        Labels::from_pairs(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1).cast_signed() ^ -((v & 1).cast_signed())
}

impl Fields for Cursor<'_> {
    fn int(&mut self, v: &mut i64) {
        *v = self.signed();
    }

    fn count(&mut self, v: &mut u64) {
        *v = self.varint();
    }

    fn time(&mut self, v: &mut Timestamp) {
        *v = match self.varint() {
            0 => 0,
            difference => self.base.wrapping_add(unzigzag(difference.wrapping_sub(1))),
        };
    }

    fn float(&mut self, v: &mut f64) {
        *v = match self.byte() {
            ALL_BITS => {
                let Some((bits, rest)) = self.bytes.split_first_chunk::<8>() else {
                    self.is_broken = true;
                    return;
                };
                self.bytes = rest;
                f64::from_le_bytes(*bits)
            }
            exponent => undecimal(exponent, self.signed()),
        };
    }

    fn rounded(&mut self, v: &mut f64) {
        self.float(v);
    }

    fn text(&mut self, v: &mut Text) {
        *v = self.take_text();
    }

    fn code(&mut self, v: &mut Code) {
        // A code of a later version is one that we know nothing of.
        *v = Code::from_number(self.byte()).unwrap_or_default();
    }

    fn state(&mut self, v: &mut State) {
        let state = State::from_number(self.byte());
        self.is_broken |= state.is_none();
        *v = state.unwrap_or_default();
    }

    fn flag(&mut self, v: &mut bool) {
        *v = self.byte() != 0;
    }

    fn labels(&mut self, v: &mut Labels) {
        *v = self.take_labels();
    }
}
