//! The walk over a text body that puts classic histograms together.
//!
//! The series of one histogram follow each other: same family, same labels but `le`. Whatever else comes ends it.
//! Only lines of histogram families have their labels decoded.
//!
//! Compat: prometheus `model/textparse`, `NHCBParser` (3.14).

use super::Classic;
use crate::labels::METRIC_NAME;
use crate::number::parse_go_float;
use crate::wire::Native;
use crate::wire::parse::{Entry, ExemplarLine, MetricType, ParseError, Parser, SeriesLine, empty_labels};
use crate::{LabelsBuilder, Timestamp};

const BOUND: &[u8] = b"le";

/// One piece of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    Entry(Entry<'a>),
    /// A line that went into a histogram and is wanted all the same. Its exemplar went there, too.
    Classic(SeriesLine<'a>),
    /// A histogram made of the lines before, which lies in [`Converter::native`].
    Histogram,
}

/// A walk over one body.
#[derive(Debug)]
pub struct Converter<'a> {
    parser: Parser<'a>,
    keeps_classic: bool,
    /// Of the newest `# TYPE` line.
    family: &'a [u8],
    /// What ended the histogram that was given last.
    pending: Option<Entry<'a>>,
    /// The labels of the newest line of a histogram family.
    line_labels: LabelsBuilder,
    /// Names of labels that it has with an empty value. They tell histograms apart, although no series has them.
    line_empty: Vec<&'a [u8]>,
    group: Option<Group<'a>>,
    group_labels: LabelsBuilder,
    group_empty: Vec<&'a [u8]>,
    classic: Classic,
    exemplars: Vec<ExemplarLine<'a>>,
    native: Native,
    /// Histograms of which nothing could be made.
    n_unconverted: u64,
}

/// A histogram that is being collected, or was.
#[derive(Clone, Copy, Debug, Default)]
struct Group<'a> {
    is_open: bool,
    /// Of the newest line.
    t: Option<Timestamp>,
    st: Timestamp,
    /// Name and labels of the first line.
    raw: &'a [u8],
}

impl<'a> Converter<'a> {
    /// Classic series that go into a histogram are given as well if `keeps_classic`.
    pub fn new(parser: Parser<'a>, keeps_classic: bool) -> Self {
        Self {
            parser,
            keeps_classic,
            family: b"",
            pending: None,
            line_labels: LabelsBuilder::default(),
            line_empty: Vec::new(),
            group: None,
            group_labels: LabelsBuilder::default(),
            group_empty: Vec::new(),
            classic: Classic::default(),
            exemplars: Vec::new(),
            native: Native::default(),
            n_unconverted: 0,
        }
    }

    /// The next item, or `None` at the end of a valid body. After an error there is nothing more.
    ///
    /// # Errors
    /// The body is not valid; the text is upstream's.
    #[expect(clippy::should_implement_trait, reason = "a converter is asked for more than its items")]
    pub fn next(&mut self) -> Option<Result<Item<'a>, ParseError>> {
        loop {
            let entry = if let Some(entry) = self.pending.take() {
                entry
            } else {
                let entry = match self.parser.next() {
                    None => return self.finish_group().then_some(Ok(Item::Histogram)),
                    Some(Err(error)) => return Some(Err(error)),
                    Some(Ok(entry)) => entry,
                };
                match self.goes_on(&entry) {
                    Ok(true) => {}
                    Ok(false) => {
                        if self.finish_group() {
                            self.pending = Some(entry);
                            return Some(Ok(Item::Histogram));
                        }
                    }
                    Err(error) => return Some(Err(error)),
                }
                entry
            };
            let Entry::Series(line) = entry else { return Some(Ok(Item::Entry(entry))) };
            if !self.collect(&line) {
                return Some(Ok(Item::Entry(entry)));
            }
            if self.keeps_classic {
                return Some(Ok(Item::Classic(line)));
            }
        }
    }

    /// Whether `entry` does not end the histogram that is being collected.
    fn goes_on(&mut self, entry: &Entry<'a>) -> Result<bool, ParseError> {
        match entry {
            Entry::Series(line) if line.kind == MetricType::Histogram => {
                self.parser.labels_into(line, &mut self.line_labels)?;
                self.line_empty.clear();
                self.line_empty.extend(empty_labels(line).filter(|name| *name != BOUND));
                self.line_empty.sort_unstable();
                Ok(self.is_of_group())
            }
            Entry::Type { family, .. } => {
                self.family = family;
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn is_of_group(&self) -> bool {
        let name = |labels| LabelsBuilder::get(labels, METRIC_NAME).unwrap_or_default();
        split(name(&self.line_labels)).1 == name(&self.group_labels)
            && own(&self.line_labels).eq(own(&self.group_labels))
            && self.line_empty == self.group_empty
    }

    /// Takes a line into the histogram it is part of; false if it is of none.
    fn collect(&mut self, line: &SeriesLine<'a>) -> bool {
        if line.kind != MetricType::Histogram {
            return false;
        }
        let name = self.line_labels.get(METRIC_NAME).unwrap_or_default();
        let (part, family) = split(name);
        if family != self.family {
            return false;
        }
        let bound = self.line_labels.get(BOUND).and_then(|text| parse_go_float(text).ok());
        let add: &dyn Fn(&mut Classic) = match (part, bound) {
            (Part::Bucket, Some(le)) if !le.is_nan() => &move |classic| classic.set_bucket(le, line.v),
            (Part::Bucket | Part::None, _) => return false,
            (Part::Count, _) => &|classic| classic.set_count(line.v),
            (Part::Sum, _) => &|classic| classic.set_sum(line.v),
        };
        if !self.group.is_some_and(|group| group.is_open) {
            self.classic.clear();
            self.exemplars.clear();
            self.group_labels.clear();
            self.group_labels.set(METRIC_NAME, family);
            for (name, value) in own(&self.line_labels) {
                self.group_labels.set(name, value);
            }
            self.group_empty.clone_from(&self.line_empty);
            let st = self.parser.start_time(line);
            // Upstream has asked for that whether it is wanted or not, and from then on such lines are no series.
            self.parser.hide_created();
            self.group = Some(Group { is_open: true, t: None, st, raw: line.raw });
        }
        if let Some(group) = &mut self.group {
            group.t = line.t;
        }
        self.exemplars.extend(self.parser.exemplar(line));
        add(&mut self.classic);
        true
    }

    /// Ends the histogram that is being collected; false if there is none or it makes no sense.
    fn finish_group(&mut self) -> bool {
        let Some(group) = self.group.as_mut().filter(|group| group.is_open) else { return false };
        group.is_open = false;
        let converted = match self.classic.convert_into(&mut self.native) {
            Ok(()) => self.native.validate().is_ok(),
            Err(_) => false,
        };
        self.n_unconverted += u64::from(!converted);
        converted
    }

    // === What can be asked of the histogram that was given last ===

    /// The histogram. The caller may change it and take it.
    pub fn native(&mut self) -> &mut Native {
        &mut self.native
    }

    /// The labels, `le` left out and the name that of the family.
    pub fn labels(&self) -> &LabelsBuilder {
        &self.group_labels
    }

    /// Name and labels of the first of its lines as exposed.
    pub fn raw(&self) -> &'a [u8] {
        self.group.map_or(b"", |group| group.raw)
    }

    pub fn t(&self) -> Option<Timestamp> {
        self.group.and_then(|group| group.t)
    }

    /// As [`Parser::start_time`], for the first of its lines.
    pub fn start_time(&self) -> Timestamp {
        self.group.map_or(0, |group| group.st)
    }

    /// The exemplars of all of its lines.
    pub fn exemplars(&self) -> &[ExemplarLine<'a>] {
        &self.exemplars
    }

    // === And of the walk ===

    /// The parser, which can be asked about lines that were given.
    pub fn parser(&mut self) -> &mut Parser<'a> {
        &mut self.parser
    }

    /// Histograms so far of which nothing could be made, and whose series are lost if they are not kept.
    pub fn n_unconverted(&self) -> u64 {
        self.n_unconverted
    }
}

/// The labels that all series of a histogram have in common, but for the name.
fn own(labels: &LabelsBuilder) -> impl Iterator<Item = (&[u8], &[u8])> {
    labels.iter().filter(|(name, _)| *name != METRIC_NAME && *name != BOUND)
}

/// What a series is to its histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bucket,
    Sum,
    Count,
    None,
}

/// The suffix of a series and what is before it.
fn split(name: &[u8]) -> (Part, &[u8]) {
    let suffixes: [(&[u8], Part); 3] =
        [(b"_bucket", Part::Bucket), (b"_sum", Part::Sum), (b"_count", Part::Count)];
    let found = suffixes.into_iter().find_map(|(suffix, part)| Some((part, name.strip_suffix(suffix)?)));
    found.unwrap_or((Part::None, name))
}
