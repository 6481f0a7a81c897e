//! Metrics in the text format, gathered into families: the slow and complete view that linting wants.
//!
//! Not the parser of scrapes: it keeps help texts, refuses what client libraries refuse, and says where.
//!
//! Compat: prometheus/common `expfmt`, `TextParser` (format 0.0.4).

use std::collections::BTreeMap;

use model::quote::go_quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gauge_histogram",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all =
            [Self::Counter, Self::Gauge, Self::Summary, Self::Untyped, Self::Histogram, Self::GaugeHistogram];
        let text = text.to_ascii_lowercase();
        all.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether several lines make one metric.
    const fn is_compound(self) -> bool {
        matches!(self, Self::Summary | Self::Histogram | Self::GaugeHistogram)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    pub(super) help: Option<String>,
    kind: Option<Kind>,
    pub(super) metrics: Vec<Metric>,
}

impl Family {
    pub(super) fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Untyped)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metric {
    /// In the order of the line; neither `le` of a histogram nor `quantile` of a summary.
    pub(super) labels: Vec<(String, String)>,
    /// The lines of buckets or quantiles.
    pub(super) n_parts: usize,
}

/// Every family that has a metric, by name.
///
/// # Errors
/// The text is not in the format; line and reason are told.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families = BTreeMap::new();
    let mut lines = text.split('\n').zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let is_last = lines.peek().is_none();
        let mut parser = Line { rest: line, families: &mut families };
        let done = parser.line().and_then(|is_blank| {
            // The last line must end like all others.
            if is_last && !is_blank { Err("unexpected end of input stream".to_owned()) } else { Ok(()) }
        });
        done.map_err(|e| format!("text format parsing error in line {number}: {e}"))?;
    }
    families.retain(|_, family: &mut Family| !family.metrics.is_empty());
    Ok(families)
}

struct Line<'a> {
    rest: &'a str,
    families: &'a mut BTreeMap<String, Family>,
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

impl Line<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }

    /// What is left up to the next blank.
    fn word(&mut self) -> String {
        let end = self.rest.find(is_blank).unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        word
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// A name, quoted or not; empty if there is none.
    fn name(&mut self, is_metric: bool) -> Result<String, String> {
        if let Some(rest) = self.rest.strip_prefix('"') {
            self.rest = rest;
            return self.quoted();
        }
        let fits = |i: usize, c: char| {
            c.is_ascii_alphabetic() || c == '_' || (is_metric && c == ':') || (i > 0 && c.is_ascii_digit())
        };
        let end = self.rest.char_indices().find(|(i, c)| !fits(*i, *c)).map_or(self.rest.len(), |(i, _)| i);
        let name = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        Ok(name)
    }

    /// Up to the closing quote.
    fn quoted(&mut self) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(out),
                Some('\\') => match self.next() {
                    Some('n') => out.push('\n'),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    other => {
                        let other = other.map_or("\n".to_owned(), String::from);
                        return Err(format!("invalid escape sequence '\\{other}'"));
                    }
                },
                Some(c) => out.push(c),
                None => {
                    let shown = go_quote(out.as_bytes());
                    return Err(format!("label value {shown} contains unescaped new-line"));
                }
            }
        }
    }

    /// Returns whether there is nothing on the line.
    fn line(&mut self) -> Result<bool, String> {
        self.skip_blanks();
        match self.rest.strip_prefix('#') {
            _ if self.rest.is_empty() => return Ok(true),
            Some(rest) => {
                self.rest = rest;
                self.comment()?;
            }
            None => self.sample()?,
        }
        Ok(false)
    }

    fn comment(&mut self) -> Result<(), String> {
        self.skip_blanks();
        let keyword = self.word();
        if !matches!(keyword.as_str(), "HELP" | "TYPE") {
            return Ok(());
        }
        self.skip_blanks();
        if self.rest.is_empty() {
            return Ok(());
        }
        let name = self.name(true)?;
        if self.rest.is_empty() {
            return Ok(());
        }
        if !self.rest.starts_with(is_blank) || name.is_empty() {
            return Err("invalid metric name in comment".to_owned());
        }
        self.skip_blanks();
        let rest = self.rest;
        let quoted = go_quote(name.as_bytes());
        let family = self.families.entry(name).or_default();
        if keyword == "HELP" {
            if family.help.is_some() {
                return Err(format!("second HELP line for metric name {quoted}"));
            }
            family.help = Some(unescaped_help(rest)?);
            return Ok(());
        }
        if family.kind.is_some() || !family.metrics.is_empty() {
            return Err(format!("second TYPE line for metric name {quoted}, or TYPE reported after samples"));
        }
        let kind = Kind::parse(rest);
        family.kind = Some(kind.ok_or_else(|| format!("unknown metric type {}", go_quote(rest.as_bytes())))?);
        Ok(())
    }

    fn sample(&mut self) -> Result<(), String> {
        let mut name = self.name(true)?;
        let mut labels: Vec<(String, String)> = Vec::new();
        self.skip_blanks();
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            self.labels(&mut name, &mut labels)?;
            self.skip_blanks();
        }
        if name.is_empty() {
            return Err("invalid metric name".to_owned());
        }
        let value = self.word();
        if parse_float(&value).is_none() {
            return Err(format!("expected float as value, got {}", go_quote(value.as_bytes())));
        }
        self.skip_blanks();
        if !self.rest.is_empty() {
            let timestamp = self.word();
            if timestamp.parse::<i64>().is_err() {
                let timestamp = go_quote(timestamp.as_bytes());
                return Err(format!("expected integer as timestamp, got {timestamp}"));
            }
            // Blanks behind it are spurious, too.
            if !self.rest.is_empty() {
                let more = go_quote(self.rest.as_bytes());
                return Err(format!("spurious string after timestamp: {more}"));
            }
        }
        self.add(&name, labels)
    }

    fn labels(&mut self, metric: &mut String, labels: &mut Vec<(String, String)>) -> Result<(), String> {
        loop {
            self.skip_blanks();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return Ok(());
            }
            let is_quoted = self.rest.starts_with('"');
            let name = self.name(false)?;
            let shown = go_quote(metric.as_bytes());
            if name.is_empty() {
                return Err(format!("invalid label name for metric {shown}"));
            }
            self.skip_blanks();
            match self.next() {
                Some('=') => {
                    if name == "__name__" {
                        return Err(format!("label name {} is reserved", go_quote(name.as_bytes())));
                    }
                    self.skip_blanks();
                    match self.next() {
                        Some('"') => {}
                        other => {
                            let other = go_char(other.unwrap_or('\n'));
                            return Err(format!("expected '\"' at start of label value, found {other}"));
                        }
                    }
                    let value = self.quoted()?;
                    if labels.iter().any(|(other, _)| *other == name) {
                        return Err(format!("duplicate label names for metric {shown}"));
                    }
                    labels.push((name, value));
                    self.skip_blanks();
                    match self.next() {
                        Some(',') => {}
                        Some('}') => return Ok(()),
                        other => {
                            let value = labels.last().map_or("", |(_, value)| value);
                            let (value, _) = (go_quote(value.as_bytes()), other);
                            return Err(format!("unexpected end of label value {value}"));
                        }
                    }
                }
                Some(end @ (',' | '}')) if is_quoted => {
                    if !metric.is_empty() {
                        return Err(format!("multiple metric names for metric {shown}"));
                    }
                    *metric = name;
                    if end == '}' {
                        return Ok(());
                    }
                }
                other => {
                    let other = go_char(other.unwrap_or('\n'));
                    return Err(if is_quoted {
                        format!("unexpected end of metric name {other}")
                    } else {
                        format!("expected '=' after label name, found {other}")
                    });
                }
            }
        }
    }

    /// Puts a sample to its family, which for sums, counts and buckets has a shorter name.
    fn add(&mut self, name: &str, mut labels: Vec<(String, String)>) -> Result<(), String> {
        let compound = |suffixes: &[&str], kinds: &[Kind]| {
            let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix))?;
            let kind = self.families.get(base).map(Family::kind)?;
            kinds.contains(&kind).then(|| base.to_owned())
        };
        let known = self.families.contains_key(name);
        let histograms = [Kind::Histogram, Kind::GaugeHistogram];
        let base = if known {
            name.to_owned()
        } else {
            compound(&["_count", "_sum"], &[Kind::Summary])
                .or_else(|| compound(&["_count", "_sum", "_bucket"], &histograms))
                .unwrap_or_else(|| name.to_owned())
        };
        let family = self.families.entry(base).or_default();
        let part_label = match family.kind() {
            Kind::Summary => "quantile",
            Kind::Histogram | Kind::GaugeHistogram => "le",
            _ => "",
        };
        let mut is_part = false;
        if let Some(at) = labels.iter().position(|(name, _)| name == part_label) {
            let (_, bound) = labels.remove(at);
            if parse_float(&bound).is_none() {
                let bound = go_quote(bound.as_bytes());
                return Err(format!("expected float as value for '{part_label}' label, got {bound}"));
            }
            is_part = true;
        }
        let same = family.metrics.iter_mut().find(|metric| {
            let mut sorted = metric.labels.clone();
            let mut ours = labels.clone();
            sorted.sort();
            ours.sort();
            sorted == ours
        });
        match same {
            Some(metric) if family.kind.is_some_and(Kind::is_compound) => {
                metric.n_parts += usize::from(is_part);
            }
            _ => family.metrics.push(Metric { labels, n_parts: usize::from(is_part) }),
        }
        Ok(())
    }
}

fn unescaped_help(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => out.push('\n'),
                Some('\\') => out.push('\\'),
                other => {
                    let other = other.map_or("\n".to_owned(), String::from);
                    return Err(format!("invalid escape sequence '\\{other}'"));
                }
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// As Go reads it, without hexadecimal numbers and digits in groups.
fn parse_float(text: &str) -> Option<f64> {
    if text.contains(['p', 'P', '_']) { None } else { text.parse().ok() }
}

fn go_char(c: char) -> String {
    match c {
        '\n' => "'\\n'".to_owned(),
        '\'' => "'\\''".to_owned(),
        '\\' => "'\\\\'".to_owned(),
        c => format!("'{c}'"),
    }
}
