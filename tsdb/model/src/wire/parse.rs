//! The parser of exposition bodies: the Prometheus text format and OpenMetrics, without copying.
//!
//! A [`Parser`] walks one body and gives its entries one by one, borrowed from the body. A line that looks
//! as most lines do is taken by [`super::line`] in one pass; every other goes through the lexer of its
//! format and the grammar here, which are the reference for what is valid and for the messages.
//! Comments are passed over. Label sets are decoded on demand only, because a scrape knows most of its
//! lines by their bytes.
//!
//! `_created` lines are series as all others unless [`Parser::with_start_times`] is asked for.
//!
//! Compat: prometheus `model/textparse`, `PromParser` and `OpenMetricsParser` (3.14).

use std::borrow::Cow;
use std::fmt;

use super::token::{Cursor, Mode, Token, is_label_byte, is_metric_byte, is_space};
use super::{line, openmetrics, text};
use crate::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT};
use crate::number::{self, parse_float};
use crate::quote::go_quote;
use crate::sample::NORMAL_NAN;
use crate::{Labels, LabelsBuilder, Timestamp};

/// In which of the two formats a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics, 0.0.1 and 1.0.0.
    OpenMetrics,
}

/// The type of a metric family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// The type that a `# TYPE` line of `format` means by `word`.
    fn from_word(word: &[u8], format: Format) -> Option<Self> {
        Some(match (word, format) {
            (b"counter", _) => Self::Counter,
            (b"gauge", _) => Self::Gauge,
            (b"histogram", _) => Self::Histogram,
            (b"summary", _) => Self::Summary,
            (b"untyped", Format::Text) | (b"unknown", Format::OpenMetrics) => Self::Unknown,
            (b"gaugehistogram", Format::OpenMetrics) => Self::GaugeHistogram,
            (b"info", Format::OpenMetrics) => Self::Info,
            (b"stateset", Format::OpenMetrics) => Self::StateSet,
            _ => return None,
        })
    }

    /// The label whose values are floats in this type.
    const fn float_label(self) -> &'static [u8] {
        match self {
            Self::Histogram => b"le",
            Self::Summary => b"quantile",
            _ => b"",
        }
    }

    /// Whether families of this type say by `_created` lines since when they count.
    const fn has_starts(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram | Self::Summary)
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where and why a body is not valid; displays upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The first byte of the token that does not fit.
    pub offset: usize,
    pub message: String,
}

/// One piece of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    Series(SeriesLine<'a>),
    Type { family: &'a [u8], kind: MetricType },
    Help { family: &'a [u8], text: Cow<'a, [u8]> },
    Unit { family: &'a [u8], unit: &'a [u8] },
}

/// A sample as exposed. [`Parser::labels_into`] decodes its labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesLine<'a> {
    /// Name and labels exactly as exposed: equal bytes under an equal `kind` are equal label sets.
    pub raw: &'a [u8],
    pub t: Option<Timestamp>,
    /// A NaN always has the bits of [`NORMAL_NAN`].
    pub v: f64,
    /// Where the line begins in the body.
    pub offset: usize,
    /// What the newest `# TYPE` line said, of whatever family it was.
    pub kind: MetricType,
}

/// The exemplar of a sample as exposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarLine<'a> {
    /// The labels in their braces.
    raw: &'a [u8],
    pub t: Option<Timestamp>,
    /// A NaN always has the bits of [`NORMAL_NAN`].
    pub v: f64,
}

impl ExemplarLine<'_> {
    /// The labels, those with empty values left out. Escapes stay as they are: upstream does not resolve them here.
    ///
    /// Compat: prometheus `model/textparse`, `OpenMetricsParser.Exemplar`.
    pub fn labels(&self) -> Labels {
        Labels::from_pairs(Pairs::new(self.raw))
    }
}

/// A walk over one body.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    cursor: Cursor<'a>,
    format: Format,
    kind: MetricType,
    /// The first byte of the entry that is being read.
    line_start: usize,
    is_done: bool,
    /// The newest exemplar, and where its line begins.
    exemplar: Option<(usize, ExemplarLine<'a>)>,
    /// The length of the family's name in the newest metadata.
    family_len: usize,
    /// `None` if `_created` lines are series.
    starts: Option<Starts<'a>>,
    /// What the newest `# UNIT` line said, of whatever family it was.
    unit: &'a [u8],
    type_and_unit_labels: bool,
    hides_created: bool,
}

impl<'a> Parser<'a> {
    pub fn new(body: &'a [u8], format: Format) -> Self {
        Self {
            cursor: Cursor::new(body, format == Format::Text),
            format,
            kind: MetricType::default(),
            line_start: 0,
            is_done: false,
            exemplar: None,
            family_len: 0,
            starts: None,
            unit: b"",
            type_and_unit_labels: false,
            hides_created: false,
        }
    }

    /// Takes the `_created` lines of OpenMetrics for what [`Parser::start_time`] tells, and for no series.
    ///
    /// Compat: prometheus `model/textparse`, `WithOMParserSTSeriesSkipped`.
    #[must_use]
    pub fn with_start_times(mut self) -> Self {
        self.starts = (self.format == Format::OpenMetrics).then(Starts::default);
        self.hide_created();
        self
    }

    /// Takes the `_created` lines of OpenMetrics for no series from here on.
    pub(super) fn hide_created(&mut self) {
        self.hides_created = self.format == Format::OpenMetrics;
    }

    /// Adds type and unit as labels, in place of what the target sent under their names: those that were said last,
    /// of whatever family, as upstream has it.
    ///
    /// Compat: prometheus `model/textparse`, `WithOMParserTypeAndUnitLabels`.
    #[must_use]
    pub fn with_type_and_unit_labels(mut self, wanted: bool) -> Self {
        self.type_and_unit_labels = wanted;
        self
    }

    /// The unit that lines get as a label; empty if they get none.
    pub fn unit_label(&self) -> &'a [u8] {
        if self.type_and_unit_labels { self.unit } else { b"" }
    }

    /// The next entry, or `None` at the end of a valid body. After an error there is nothing more.
    ///
    /// # Errors
    /// The body is not valid; the text is upstream's.
    #[expect(clippy::should_implement_trait, reason = "a parser is asked for more than its entries")]
    pub fn next(&mut self) -> Option<Result<Entry<'a>, ParseError>> {
        loop {
            let entry = self.next_entry();
            match &entry {
                Some(Ok(Entry::Series(line))) if self.hides_created && is_start(line) => {}
                _ => return entry,
            }
        }
    }

    /// The next entry, `_created` lines among them.
    #[inline]
    fn next_entry(&mut self) -> Option<Result<Entry<'a>, ParseError>> {
        if self.is_done {
            return None;
        }
        let is_at_line = self.cursor.mode == Mode::Init;
        if is_at_line && let Some(line) = line::scan(self.cursor.body(), self.cursor.pos, self.format) {
            let offset = self.cursor.pos;
            self.cursor.pos = line.next;
            let series = SeriesLine { raw: line.raw, t: line.t, v: line.v, offset, kind: self.kind };
            return Some(Ok(Entry::Series(series)));
        }
        if is_at_line && let Some(entry) = self.plain_metadata() {
            return Some(Ok(entry));
        }
        let entry = self.next_by_token().transpose();
        self.is_done = !matches!(entry, Some(Ok(_)));
        entry
    }

    /// The next entry, if it is a series whose name and labels are `len` bytes long and `is_known` says that it has
    /// seen exactly these bytes in a line before; else nothing happens. It saves looking at them one by one.
    #[inline]
    pub fn next_known(
        &mut self,
        len: usize,
        is_known: impl FnOnce(&[u8], MetricType) -> bool,
    ) -> Option<SeriesLine<'a>> {
        let (body, offset) = (self.cursor.body(), self.cursor.pos);
        if self.is_done || self.cursor.mode != Mode::Init || body.get(offset + len) != Some(&b' ') {
            return None;
        }
        if !is_known(&body[offset..offset + len], self.kind) {
            return None;
        }
        let line = line::scan_after(body, offset, len, self.format)?;
        let series = SeriesLine { raw: line.raw, t: line.t, v: line.v, offset, kind: self.kind };
        // A line that was a series in another format.
        if self.hides_created && is_start(&series) {
            return None;
        }
        self.cursor.pos = line.next;
        Some(series)
    }

    /// The exemplar of the line that was given last.
    #[inline]
    pub fn exemplar(&self, line: &SeriesLine<'_>) -> Option<ExemplarLine<'a>> {
        self.exemplar.filter(|(offset, _)| *offset == line.offset).map(|(_, exemplar)| exemplar)
    }

    /// Since when the line that was given last counts, in ms; 0 if its family does not say so, or if
    /// [`Parser::with_start_times`] was not asked for.
    ///
    /// A series has the start of the next `_created` line before other metadata, if that has its labels (but `le`
    /// and `quantile`) in its order, or of the last one that was found so. Every line is looked at once more at most.
    ///
    /// Compat: prometheus `model/textparse`, `OpenMetricsParser.StartTimestamp`, which looks ahead anew for every
    /// line of a family that has none.
    pub fn start_time(&mut self, line: &SeriesLine<'_>) -> Timestamp {
        let Some(mut starts) = self.starts else { return 0 };
        let mut found = None;
        if line.kind.has_starts() {
            found = starts.last.filter(|last| last.t > 0 && last.is_of(line, self.family_len));
            if found.is_none() {
                if line.offset >= starts.next_end {
                    (starts.next, starts.next_end) = self.next_start();
                }
                found = starts.next.filter(|next| next.is_of(line, self.family_len));
            }
        }
        starts.last = found;
        self.starts = Some(starts);
        found.map_or(0, |start| start.t)
    }

    /// The first `_created` line from here on before anything that is no series, and where the search ended.
    fn next_start(&self) -> (Option<Start<'a>>, usize) {
        let mut ahead = self.clone();
        loop {
            let at = ahead.cursor.pos;
            match ahead.next_entry() {
                Some(Ok(Entry::Series(line))) if is_start(&line) => {
                    return (Some(Start { raw: line.raw, t: line::to_millis(line.v) }), at);
                }
                Some(Ok(Entry::Series(_))) => {}
                _ => return (None, at),
            }
        }
    }

    /// Decodes the name and the labels of `line` into `out`, which is cleared first.
    ///
    /// Escapes are resolved, names with an empty value dropped with all other values they have in the line, and the
    /// values of `le` in histograms and `quantile` in
    /// summaries rewritten as OpenMetrics writes floats, so that `1` and `1.0` name one series.
    ///
    /// # Errors
    /// A label name occurs twice with values.
    ///
    /// Compat: prometheus `model/textparse`, `Parser.Labels` and `normalizeFloatsInLabelValues`; the
    /// refusal of duplicates is that of `tsdb`, `Head.getOrCreate`, what an empty value does is `labels.Builder.Reset`.
    pub fn labels_into(&self, line: &SeriesLine<'_>, out: &mut LabelsBuilder) -> Result<(), ParseError> {
        out.clear();
        let mut empty = Vec::new();
        let said = type_and_unit(self.type_and_unit_labels.then_some((line.kind, self.unit)));
        for &(name, value) in &said {
            out.set(name, value);
        }
        let mut has_name = false;
        for (name, value) in Pairs::new(line.raw) {
            let (name, mut value) = (unescape(name), unescape(value));
            let is_name = *name == *METRIC_NAME;
            let is_overruled = said.iter().any(|(said, _)| **said == *name)
                || (self.type_and_unit_labels && is_name && has_name);
            has_name |= is_name;
            if is_overruled {
                continue;
            }
            // Go's syntax, not the format's: this is where upstream reads them so.
            if *name == *line.kind.float_label()
                && let Ok(v) = number::parse_go_float(&value)
            {
                let bytes = value.to_mut();
                bytes.clear();
                number::append_openmetrics_into(v, bytes);
            }
            if value.is_empty() {
                out.remove(&name);
                empty.push(name);
            } else if !empty.contains(&name) {
                if out.get(&name).is_some() {
                    let name = String::from_utf8_lossy(&name);
                    let message = format!("label name \"{name}\" is not unique: invalid sample");
                    return Err(ParseError { offset: line.offset, message });
                }
                out.set(&name, &value);
            }
        }
        Ok(())
    }

    /// The metadata at the cursor, if it is as most is.
    fn plain_metadata(&mut self) -> Option<Entry<'a>> {
        let meta = line::scan_meta(self.cursor.body(), self.cursor.pos)?;
        let entry = if meta.is_help {
            std::str::from_utf8(meta.text).ok()?;
            let text = unescape_with(meta.text, self.format == Format::OpenMetrics);
            Entry::Help { family: meta.family, text }
        } else {
            self.kind = MetricType::from_word(meta.text, self.format)?;
            Entry::Type { family: meta.family, kind: self.kind }
        };
        self.family_len = meta.family.len();
        self.cursor.pos = meta.next;
        Some(entry)
    }

    // === The grammar, token by token ===

    fn next_by_token(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            self.line_start = self.cursor.pos;
            match (self.lex(), self.format) {
                (Token::Eof, Format::Text) => return Ok(None),
                (Token::Eof, Format::OpenMetrics) => return Err(self.no_eof_mark()),
                (Token::EofWord, _) => {
                    return match self.lex() {
                        Token::Eof => Ok(None),
                        _ => Err(self.error("unexpected data after # EOF".to_owned())),
                    };
                }
                (Token::LineBreak, Format::Text) => {}
                (Token::Comment, Format::Text) => self.expect_line_break("comment")?,
                (word @ (Token::Help | Token::Type | Token::Unit), _) => {
                    return self.metadata(word).map(Some);
                }
                (Token::BraceOpen, _) => {
                    let has_name = self.label_set(Some(false))?;
                    return self.rest_of_line(has_name).map(Some);
                }
                (Token::MetricName, _) => return self.rest_of_line_after_name().map(Some),
                (got, _) => return Err(self.unexpected("expected a valid start token", got)),
            }
        }
    }

    /// The next token that is not white space.
    fn lex(&mut self) -> Token {
        loop {
            let token = match self.format {
                Format::Text => text::lex(&mut self.cursor),
                Format::OpenMetrics => openmetrics::lex(&mut self.cursor),
            };
            if token != Token::WhiteSpace {
                return token;
            }
        }
    }

    fn expect_line_break(&mut self, after: &str) -> Result<(), ParseError> {
        match self.lex() {
            Token::LineBreak => Ok(()),
            got => Err(self.unexpected(&format!("linebreak expected after {after}"), got)),
        }
    }

    /// What follows `# HELP `, `# TYPE ` or `# UNIT `.
    fn metadata(&mut self, word: Token) -> Result<Entry<'a>, ParseError> {
        let family = match self.lex() {
            Token::MetricName => self.cursor.token(),
            got => return Err(self.unexpected(&format!("expected metric name after {}", word.as_str()), got)),
        };
        let family = family.strip_prefix(b"\"").and_then(|f| f.strip_suffix(b"\"")).unwrap_or(family);
        self.family_len = family.len();
        // The text format ends before the line break, OpenMetrics behind it; both begin with one byte of space.
        let got = self.lex();
        let text = match (got, self.format) {
            (Token::Text, Format::Text) => self.cursor.token(),
            (Token::Text, Format::OpenMetrics) => self.cursor.slice(self.cursor.start, self.cursor.pos - 1),
            (got, Format::Text) => {
                let message = format!("expected text in {}, got {}", word.as_str(), got.as_str());
                return Err(self.error(message));
            }
            (_, Format::OpenMetrics) => return Err(self.error(format!("expected text in {}", word.as_str()))),
        };
        let text = text.get(1..).unwrap_or_default();
        let entry = match word {
            Token::Type => {
                self.kind = MetricType::from_word(text, self.format)
                    .ok_or_else(|| self.error(format!("invalid metric type {}", go_quote(text))))?;
                Entry::Type { family, kind: self.kind }
            }
            Token::Help => {
                if std::str::from_utf8(text).is_err() {
                    let message = format!("help text {} is not a valid utf8 string", go_quote(text));
                    return Err(self.error(message));
                }
                let quotes = self.format == Format::OpenMetrics;
                Entry::Help { family, text: unescape_with(text, quotes) }
            }
            _ => {
                let is_suffix = family.strip_suffix(text).is_some_and(|stem| stem.ends_with(b"_"));
                if !text.is_empty() && !is_suffix {
                    let (unit, metric) = (go_quote(text), go_quote(family));
                    return Err(self.error(format!("unit {unit} not a suffix of metric {metric}")));
                }
                self.unit = text;
                Entry::Unit { family, unit: text }
            }
        };
        if self.format == Format::Text {
            self.expect_line_break("metadata")?;
        }
        Ok(entry)
    }

    fn rest_of_line_after_name(&mut self) -> Result<Entry<'a>, ParseError> {
        let raw_end = self.cursor.pos;
        let token = self.lex();
        if token == Token::BraceOpen {
            self.label_set(Some(true))?;
            return self.rest_of_line(true);
        }
        self.value_and_time(token, raw_end)
    }

    fn rest_of_line(&mut self, has_name: bool) -> Result<Entry<'a>, ParseError> {
        let raw_end = self.cursor.pos;
        let token = self.lex();
        if !has_name {
            let seen = self.cursor.quote(self.line_start, self.cursor.pos);
            return Err(self.error(format!("metric name not set while parsing: {seen}")));
        }
        self.value_and_time(token, raw_end)
    }

    /// Checks pairs up to the closing brace. `has_name` says whether the metric's name was seen, which may
    /// also stand in quotes among the pairs; `None` is for exemplars, which have no name.
    /// Returns whether the name was seen by the end.
    fn label_set(&mut self, mut has_name: Option<bool>) -> Result<bool, ParseError> {
        let mut token = self.lex();
        loop {
            match token {
                Token::BraceClose => return Ok(has_name.unwrap_or(true)),
                Token::LabelName | Token::QuotedString => {}
                got => return Err(self.unexpected("expected label name", got)),
            }
            let is_quoted = token == Token::QuotedString;
            token = self.lex();
            if is_quoted && matches!(token, Token::Comma | Token::BraceClose) {
                match has_name {
                    None => return Err(self.unexpected("expected label name", token)),
                    Some(true) => {
                        let seen = self.cursor.quote(self.line_start, self.cursor.pos);
                        return Err(self.error(format!("metric name already set while parsing: {seen}")));
                    }
                    Some(false) => has_name = Some(true),
                }
                if token == Token::BraceClose {
                    return Ok(true);
                }
                token = self.lex();
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            match self.lex() {
                Token::LabelValue => {}
                got => return Err(self.unexpected("expected label value", got)),
            }
            if std::str::from_utf8(self.cursor.token()).is_err() {
                let value = go_quote(self.cursor.token());
                return Err(self.error(format!("invalid UTF-8 label value: {value}")));
            }
            token = self.lex();
            if token == Token::Comma {
                token = self.lex();
            } else if token != Token::BraceClose && self.format == Format::OpenMetrics {
                return Err(self.unexpected("expected comma or brace close", token));
            }
        }
    }

    /// The value, which `token` should be, and what may follow it.
    fn value_and_time(&mut self, token: Token, raw_end: usize) -> Result<Entry<'a>, ParseError> {
        let v = self.float(token, "metric")?;
        let t = match self.format {
            Format::Text => self.text_time()?,
            Format::OpenMetrics => self.openmetrics_time()?,
        };
        let offset = self.line_start;
        let raw = self.cursor.slice(offset, raw_end);
        Ok(Entry::Series(SeriesLine { raw, t, v, offset, kind: self.kind }))
    }

    fn text_time(&mut self) -> Result<Option<Timestamp>, ParseError> {
        match self.lex() {
            Token::LineBreak => Ok(None),
            Token::Timestamp => {
                let digits = self.cursor.token();
                let parsed = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                let Some(t) = parsed else {
                    let digits = go_quote(digits);
                    return Err(self
                        .invalid_number(&format!("strconv.ParseInt: parsing {digits}: value out of range")));
                };
                match self.lex() {
                    Token::LineBreak => Ok(Some(t)),
                    got => Err(self.unexpected("expected next entry after timestamp", got)),
                }
            }
            got => Err(self.unexpected("expected timestamp or new record", got)),
        }
    }

    fn openmetrics_time(&mut self) -> Result<Option<Timestamp>, ParseError> {
        match self.lex() {
            Token::Eof => Err(self.no_eof_mark()),
            Token::Comment => self.exemplar_after_brace().map(|()| None),
            Token::Timestamp => {
                let t = self.seconds("timestamp")?;
                match self.lex() {
                    Token::LineBreak => Ok(Some(t)),
                    Token::Comment => self.exemplar_after_brace().map(|()| Some(t)),
                    got => Err(self.unexpected("expected next entry after timestamp", got)),
                }
            }
            // Whatever else stands here fails as the start of the next line, as upstream.
            _ => Ok(None),
        }
    }

    /// Reads what follows ` # {`.
    fn exemplar_after_brace(&mut self) -> Result<(), ParseError> {
        let open = self.cursor.pos - 1;
        self.label_set(None)?;
        let raw = self.cursor.slice(open, self.cursor.pos);
        let token = self.lex();
        let v = self.float(token, "exemplar labels")?;
        let t = match self.lex() {
            Token::Eof => return Err(self.no_eof_mark()),
            Token::LineBreak => None,
            Token::Timestamp => {
                let t = self.seconds("exemplar timestamp")?;
                match self.lex() {
                    Token::LineBreak => Some(t),
                    got => return Err(self.unexpected("expected next entry after exemplar timestamp", got)),
                }
            }
            got => return Err(self.unexpected("expected timestamp or comment", got)),
        };
        self.exemplar = Some((self.line_start, ExemplarLine { raw, t, v }));
        Ok(())
    }

    /// The newest token as a value, a NaN made canonical.
    fn float(&mut self, token: Token, after: &str) -> Result<f64, ParseError> {
        if token != Token::Value {
            return Err(self.unexpected(&format!("expected value after {after}"), token));
        }
        let v = self.number()?;
        Ok(if v.is_nan() { NORMAL_NAN } else { v })
    }

    /// The newest token as seconds, in milliseconds.
    fn seconds(&mut self, what: &str) -> Result<Timestamp, ParseError> {
        let seconds = self.number()?;
        if !seconds.is_finite() {
            return Err(self.error(format!("invalid {what} {}", number::format_fixed(seconds, 6))));
        }
        Ok(line::to_millis(seconds))
    }

    fn number(&mut self) -> Result<f64, ParseError> {
        let token = self.cursor.token();
        let token = if self.format == Format::OpenMetrics { &token[1..] } else { token };
        if token.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
            return Err(self.invalid_number("unsupported character in float"));
        }
        parse_float(token).map_err(|e| self.invalid_number(&e.message(token)))
    }

    // === Messages ===

    fn error(&self, message: String) -> ParseError {
        ParseError { offset: self.cursor.start, message }
    }

    fn no_eof_mark(&self) -> ParseError {
        self.error("data does not end with # EOF".to_owned())
    }

    fn invalid_number(&self, why: &str) -> ParseError {
        let seen = self.cursor.quote(self.line_start, self.cursor.pos);
        self.error(format!("{why} while parsing: {seen}"))
    }

    /// Upstream shows one byte beyond the token.
    fn unexpected(&self, expected: &str, got: Token) -> ParseError {
        let end = self.cursor.end().min(self.cursor.pos + 1);
        let token = self.cursor.quote(self.cursor.start, end);
        let seen = self.cursor.quote(self.line_start, end);
        self.error(format!("{expected}, got {token} ({:?}) while parsing: {seen}", got.as_str()))
    }
}

/// What is known of `_created` lines at the place of a parser.
#[derive(Clone, Copy, Debug, Default)]
struct Starts<'a> {
    /// That of the newest series asked for, if it had one.
    last: Option<Start<'a>>,
    /// The next one for all lines before `next_end`.
    next: Option<Start<'a>>,
    next_end: usize,
}

/// A `_created` line.
#[derive(Clone, Copy, Debug)]
struct Start<'a> {
    raw: &'a [u8],
    t: Timestamp,
}

impl Start<'_> {
    /// Whether `line` counts since then, its family's name being its first `family_len` bytes.
    fn is_of(&self, line: &SeriesLine<'_>, family_len: usize) -> bool {
        let stem = raw_name(self.raw).strip_suffix(CREATED);
        if stem.is_none() || stem != raw_name(line.raw).get(..family_len) {
            return false;
        }
        let is_own = |(name, _): &(&[u8], &[u8])| *name != METRIC_NAME && *name != line.kind.float_label();
        Pairs::new(self.raw).filter(is_own).eq(Pairs::new(line.raw).filter(is_own))
    }
}

const CREATED: &[u8] = b"_created";

/// The names of the labels that a line exposes with an empty value, escapes still in them.
pub(super) fn empty_labels<'a>(line: &SeriesLine<'a>) -> impl Iterator<Item = &'a [u8]> {
    Pairs::new(line.raw).filter(|(_, value)| value.is_empty()).map(|(name, _)| name)
}

/// Whether a line tells a start time, as upstream has it: the name of the family does not matter.
/// Compat: prometheus `model/textparse`, `OpenMetricsParser.isCreatedSeries`.
fn is_start(line: &SeriesLine<'_>) -> bool {
    line.kind.has_starts() && raw_name(line.raw).ends_with(CREATED)
}

/// The name in a series line that was found valid, escapes still in it.
fn raw_name(raw: &[u8]) -> &[u8] {
    if raw.first() == Some(&b'{') {
        return Pairs::new(raw).find(|(name, _)| *name == METRIC_NAME).map_or(b"", |(_, name)| name);
    }
    &raw[..raw.iter().position(|&b| !is_metric_byte(b)).unwrap_or(raw.len())]
}

/// The pairs of name and value of a series line that was found valid, escapes still in them.
struct Pairs<'a> {
    raw: &'a [u8],
    at: usize,
    /// The name that stands before the braces, given first.
    name: Option<&'a [u8]>,
}

impl<'a> Pairs<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let mut at = raw.iter().position(|&b| !is_space(b)).unwrap_or(raw.len());
        let name_start = at;
        while raw.get(at).copied().is_some_and(is_metric_byte) {
            at += 1;
        }
        // A name takes the white space before it along, as upstream.
        let name = (at > name_start).then_some(&raw[..at]);
        while raw.get(at).copied().is_some_and(|b| is_space(b) || b == b'{') {
            at += 1;
        }
        Self { raw, at, name }
    }

    fn skip_space(&mut self) {
        // NULs count as nothing around label values, as in the lexer.
        while self.peek().is_some_and(|b| is_space(b) || b == 0) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.raw.get(self.at).copied()
    }

    /// The inside of the string in quotes at the cursor.
    fn quoted(&mut self) -> &'a [u8] {
        let start = self.at + 1;
        self.at = start;
        while let Some(b) = self.peek() {
            match b {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    while self.peek() == Some(0) {
                        self.at += 1;
                    }
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        let end = self.at.min(self.raw.len());
        self.at = end + 1;
        &self.raw[start..end]
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(name) = self.name.take() {
            return Some((METRIC_NAME, name));
        }
        while self.peek().is_some_and(|b| is_space(b) || b == b',' || b == 0) {
            self.at += 1;
        }
        let name = match self.peek()? {
            b'}' => return None,
            b'"' => self.quoted(),
            _ => {
                let start = self.at;
                while self.peek().is_some_and(is_label_byte) {
                    self.at += 1;
                }
                &self.raw[start..self.at]
            }
        };
        self.skip_space();
        if self.peek() != Some(b'=') {
            return Some((METRIC_NAME, name));
        }
        self.at += 1;
        self.skip_space();
        Some((name, self.quoted()))
    }
}

/// Type and unit as labels; those that say nothing are left out, and all without `said`.
///
/// Compat: prometheus `schema`, `Metadata.AddToLabels`.
pub(super) fn type_and_unit(said: Option<(MetricType, &[u8])>) -> Vec<(&'static [u8], &[u8])> {
    let Some((kind, unit)) = said else { return Vec::new() };
    let kind = if kind == MetricType::Unknown { "" } else { kind.as_str() };
    let labels = [(METRIC_TYPE, kind.as_bytes()), (METRIC_UNIT, unit)];
    labels.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn unescape(bytes: &[u8]) -> Cow<'_, [u8]> {
    unescape_with(bytes, true)
}

/// Resolves `\\`, `\n` and, if `quotes`, `\"`; any other backslash stands for itself.
fn unescape_with(bytes: &[u8], quotes: bool) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', bytes) else {
        return Cow::Borrowed(bytes);
    };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let [b, tail @ ..] = rest {
        let (resolved, used) = match (b, tail.first()) {
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'"')) if quotes => (b'"', 2),
            (&b, _) => (b, 1),
        };
        out.push(resolved);
        rest = &rest[used..];
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
