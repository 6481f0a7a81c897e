//! What a pass asks of a sample, whatever the format that it stands in.

use model::wire::nhcb::Converter;
use model::wire::parse::{self, ExemplarLine, ParseError, SeriesLine};
use model::wire::{Native, protobuf};
use model::{Exemplar, LabelsBuilder, Timestamp};

/// The value of a sample. A histogram may be changed on its way.
pub(super) enum Sampled<'n> {
    Float(f64),
    Native(&'n mut Native),
}

/// A sample of a body.
pub(super) trait Exposed {
    /// The time that came with it.
    fn own_t(&self) -> Option<Timestamp>;

    /// Decodes name and labels into `out`, which is cleared first.
    fn labels_into(&self, out: &mut LabelsBuilder) -> Result<(), ParseError>;

    /// The names of labels with an empty value, which a label set cannot hold.
    fn empty_labels(&self) -> Vec<&[u8]>;

    /// Since when it counts, in ms; 0 if that is not known. Not to be asked for what is not wanted.
    fn start_time(&mut self) -> Timestamp;

    fn has_exemplars(&self) -> bool;

    /// Appends its exemplars, those without a time at that of the sample.
    fn exemplars_into(&self, t: Timestamp, out: &mut Vec<Exemplar>);
}

/// A line of a text format.
pub(super) struct Line<'p, 'a> {
    pub(super) parser: &'p mut parse::Parser<'a>,
    pub(super) series: &'p SeriesLine<'a>,
    /// The line went into a histogram, and its exemplar with it.
    pub(super) is_classic: bool,
}

impl Exposed for Line<'_, '_> {
    #[inline]
    fn own_t(&self) -> Option<Timestamp> {
        self.series.t
    }

    fn labels_into(&self, out: &mut LabelsBuilder) -> Result<(), ParseError> {
        self.parser.labels_into(self.series, out)
    }

    fn empty_labels(&self) -> Vec<&[u8]> {
        empty_labels(self.series.raw)
    }

    #[inline]
    fn start_time(&mut self) -> Timestamp {
        self.parser.start_time(self.series)
    }

    #[inline]
    fn has_exemplars(&self) -> bool {
        !self.is_classic && self.parser.exemplar(self.series).is_some()
    }

    fn exemplars_into(&self, t: Timestamp, out: &mut Vec<Exemplar>) {
        out.extend(self.parser.exemplar(self.series).map(|exemplar| exemplar_of(&exemplar, t)));
    }
}

/// The names of labels that a line exposes with an empty value.
pub(super) fn empty_labels(raw: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    // Two quotes meet only around an empty value: inside one they are escaped, after one comes no quote.
    for (at, _) in raw.windows(2).enumerate().filter(|(_, pair)| pair == b"\"\"") {
        let head = raw[..at].trim_ascii_end();
        let Some(head) = head.strip_suffix(b"=") else { continue };
        let head = head.trim_ascii_end();
        let name = if let Some(quoted) = head.strip_suffix(b"\"") {
            &quoted[quoted.iter().rposition(|&b| b == b'"').map_or(0, |i| i + 1)..]
        } else {
            let begin = head.iter().rposition(|&b| !(b.is_ascii_alphanumeric() || b == b'_'));
            &head[begin.map_or(0, |i| i + 1)..]
        };
        names.push(name);
    }
    names
}

fn exemplar_of(exemplar: &ExemplarLine<'_>, t: Timestamp) -> Exemplar {
    Exemplar {
        labels: exemplar.labels(),
        v: exemplar.v,
        t: exemplar.t.unwrap_or(t),
        has_own_t: exemplar.t.is_some(),
    }
}

/// The histogram that the lines before it were converted to.
pub(super) struct Converted<'p, 'a>(pub(super) &'p mut Converter<'a>);

impl Exposed for Converted<'_, '_> {
    fn own_t(&self) -> Option<Timestamp> {
        self.0.t()
    }

    fn labels_into(&self, out: &mut LabelsBuilder) -> Result<(), ParseError> {
        out.clone_from(self.0.labels());
        Ok(())
    }

    fn empty_labels(&self) -> Vec<&[u8]> {
        empty_labels(self.0.raw())
    }

    fn start_time(&mut self) -> Timestamp {
        self.0.start_time()
    }

    fn has_exemplars(&self) -> bool {
        !self.0.exemplars().is_empty()
    }

    /// Those without a time are no exemplars of histograms.
    fn exemplars_into(&self, t: Timestamp, out: &mut Vec<Exemplar>) {
        let timed = self.0.exemplars().iter().filter(|exemplar| exemplar.t.is_some());
        out.extend(timed.map(|exemplar| exemplar_of(exemplar, t)));
    }
}

/// A sample of a protobuf body.
pub(super) struct Message<'p, 'a> {
    pub(super) parser: &'p protobuf::Parser<'a>,
}

impl Exposed for Message<'_, '_> {
    fn own_t(&self) -> Option<Timestamp> {
        self.parser.t()
    }

    fn labels_into(&self, out: &mut LabelsBuilder) -> Result<(), ParseError> {
        self.parser.labels_into(out)
    }

    fn empty_labels(&self) -> Vec<&[u8]> {
        self.parser.empty_labels()
    }

    fn start_time(&mut self) -> Timestamp {
        self.parser.start_time()
    }

    fn has_exemplars(&self) -> bool {
        self.parser.exemplars().next().is_some()
    }

    fn exemplars_into(&self, t: Timestamp, out: &mut Vec<Exemplar>) {
        out.extend(self.parser.exemplars().map(|exemplar| Exemplar {
            labels: exemplar.labels(),
            v: exemplar.v,
            t: exemplar.t.unwrap_or(t),
            has_own_t: exemplar.t.is_some(),
        }));
    }
}
