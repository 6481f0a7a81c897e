//! What a server made of its targets, in a form in which two servers can be compared: scrapes have numbers instead of
//! times, and what came after the last body is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::path::Path;

use model::histogram::Span;
use model::storage::{Queryable, SelectHints};
use model::{AnyHistogram, Labels, LabelsBuilder, Matcher, SampleBatch, TimeRange, Timestamp, is_stale};
use serde_json::Value;
use tsdb::chunk::FloatEncoding;
use tsdb::head::{Features, ReplayProgress};
use tsdb::{Db, db};

use crate::process::Server;

/// Served more often than this beyond the last body, families of earlier ones may be forgotten already.
const METADATA_SCRAPES: usize = 8;

/// The report of a scrape that no two scrapes have alike.
const DURATION: &str = "scrape_duration_seconds";

/// One target as one server has it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) asked: String,
    pub(super) health: String,
    pub(super) last_error: String,
    /// Of each body that could not be had, as the log of failures says, which does not tell of those that could not be
    /// taken in; `None` without such a log.
    pub(super) failures: Option<Vec<String>>,
    pub(super) series: BTreeMap<String, Vec<String>>,
    pub(super) exemplars: BTreeMap<String, Vec<String>>,
    /// `None` if it was asked for too late.
    pub(super) metadata: Option<Vec<String>>,
}

/// What can be asked while the server runs, by the place of the case.
#[derive(Default)]
pub(super) struct Asked {
    health: BTreeMap<usize, (String, String)>,
    metadata: BTreeMap<usize, Vec<String>>,
    exemplars: Vec<Exemplars>,
    /// What the metadata of all targets come to, and what the server says they come to.
    pub(super) summed: BTreeMap<String, BTreeSet<String>>,
    pub(super) summary: BTreeMap<String, BTreeSet<String>>,
}

/// The place of the case, the series, and its exemplars with their times.
type Exemplars = (usize, String, Vec<(Timestamp, String)>);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The place of a case from its label.
fn place_of(labels: &Value) -> Option<usize> {
    labels["case"].as_str()?.strip_prefix('c')?.parse().ok()
}

pub(super) fn ask(server: &Server, base: i64) -> Asked {
    let mut asked = Asked::default();
    let metadata = server.data("/api/v1/targets/metadata", &[]);
    for entry in metadata.as_array().into_iter().flatten() {
        let what = format!("{} {} {:?}", text(&entry["type"]), text(&entry["unit"]), text(&entry["help"]));
        let line = format!("{:?} {what}", text(&entry["metric"]));
        if let Some(place) = place_of(&entry["target"]) {
            asked.metadata.entry(place).or_default().push(line);
        }
        asked.summed.entry(text(&entry["metric"])).or_default().insert(what);
    }
    let summary = server.data("/api/v1/metadata", &[]);
    for (metric, entries) in summary.as_object().into_iter().flatten() {
        for entry in entries.as_array().into_iter().flatten() {
            let what =
                format!("{} {} {:?}", text(&entry["type"]), text(&entry["unit"]), text(&entry["help"]));
            asked.summary.entry(metric.clone()).or_default().insert(what);
        }
    }
    let targets = server.data("/api/v1/targets", &[("state", "active")]);
    for target in targets["activeTargets"].as_array().into_iter().flatten() {
        if let Some(place) = place_of(&target["labels"]) {
            asked.health.insert(place, (text(&target["health"]), text(&target["lastError"])));
        }
    }
    let (start, end) = ((base / 1000 - 7200).to_string(), (base / 1000 + 7200).to_string());
    let selector = [("query", "{case=~\".+\"}"), ("start", &start), ("end", &end)];
    let exemplars = server.data("/api/v1/query_exemplars", &selector);
    for series in exemplars.as_array().into_iter().flatten() {
        let Some(place) = place_of(&series["seriesLabels"]) else { continue };
        let one = |exemplar: &Value| {
            let t = (exemplar["timestamp"].as_f64().unwrap_or_default() * 1000.0).round() as Timestamp;
            (t, format!("{} {}", exemplar["labels"], text(&exemplar["value"])))
        };
        let list = series["exemplars"].as_array().into_iter().flatten().map(one).collect();
        asked.exemplars.push((place, series["seriesLabels"].to_string(), list));
    }
    asked
}

/// The errors of a log of failures, by the place of the case.
pub(super) fn failures(path: &Path) -> Option<BTreeMap<usize, Vec<String>>> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut failures: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let job = line["job_name"].as_str().unwrap_or_default();
        if let Some(place) = job.strip_prefix('c').and_then(|place| place.parse().ok()) {
            failures.entry(place).or_default().push(self::text(&line["msg"]));
        }
    }
    Some(failures)
}

/// Raw samples of one series.
struct Raw {
    labels: Labels,
    samples: Vec<(Timestamp, Timestamp, String)>,
}

/// Reads all that a server stored, by the place of the case. Nobody may have the directory open.
fn read(data: &Path) -> BTreeMap<usize, Vec<Raw>> {
    let options = db::Options {
        retention: db::Retention::default(),
        head_snapshot_interval: None,
        features: Features {
            floats: FloatEncoding::Xor2,
            stores_start_times: true,
            stores_histogram_starts: true,
            ..Features::default()
        },
        ..db::Options::default()
    };
    let db = Db::open(data, &options, &ReplayProgress::default()).unwrap();
    let range = TimeRange { mint: i64::MIN / 2, maxt: i64::MAX / 2 };
    let querier = db.querier(range).unwrap();
    let everything = Matcher::new(model::MatchOp::Re, "case", ".+").unwrap();
    let set = querier.select(&[everything], &SelectHints::default()).unwrap();
    let mut by_place: BTreeMap<usize, Vec<Raw>> = BTreeMap::new();
    let mut batch = SampleBatch::default();
    for i in 0..set.len() {
        batch.clear();
        set.samples_into(i, range, &mut batch).unwrap();
        let labels = set.labels(i);
        let place = std::str::from_utf8(labels.get(b"case").unwrap_or_default()).unwrap_or_default();
        let Some(place) = place.strip_prefix('c').and_then(|place| place.parse().ok()) else { continue };
        let is_duration = labels.metric_name() == DURATION.as_bytes();
        let mut samples = Vec::new();
        for (at, (&t, &v)) in batch.ts.iter().zip(&batch.vs).enumerate() {
            let st = batch.sts.get(at).copied().unwrap_or(0);
            samples.push((t, st, if is_duration && !is_stale(v) { "*".to_owned() } else { float(v) }));
        }
        for sample in &batch.histograms {
            samples.push((sample.t, sample.st, histogram(&sample.histogram)));
        }
        samples.sort_by_key(|sample| sample.0);
        by_place.entry(place).or_default().push(Raw { labels, samples });
    }
    drop(querier);
    db.close().unwrap();
    by_place
}

/// To the bit.
fn float(v: f64) -> String {
    if is_stale(v) {
        "stale".to_owned()
    } else if v.is_nan() {
        format!("NaN:{:x}", v.to_bits())
    } else {
        format!("{v:?}")
    }
}

fn histogram(histogram: &AnyHistogram) -> String {
    fn shown<C: Debug, B: Debug>(kind: &str, h: &model::histogram::Buckets<C, B>) -> String {
        let spans = |spans: &[Span]| {
            spans.iter().map(|span| format!("{}:{}", span.offset, span.length)).collect::<Vec<_>>().join(" ")
        };
        format!(
            "{{{kind} {:?} schema {} zero {:?}<={} count {:?} sum {} + [{}] {:?} - [{}] {:?} bounds {:?}}}",
            h.counter_reset_hint,
            h.schema,
            h.zero_count,
            float(h.zero_threshold),
            h.count,
            float(h.sum),
            spans(&h.positive_spans),
            h.positive_buckets,
            spans(&h.negative_spans),
            h.negative_buckets,
            h.custom_values
        )
    }
    match histogram {
        AnyHistogram::Int(h) => shown("int", h),
        AnyHistogram::Float(h) => shown("float", h),
    }
}

/// A target's scrapes that count.
struct Scrapes {
    times: Vec<Timestamp>,
    n_bodies: usize,
    base: i64,
}

impl Scrapes {
    /// A time as it is compared; `None` if it is that of a scrape beyond the last body.
    fn shown(&self, t: Timestamp) -> Option<String> {
        match self.times.binary_search(&t) {
            Ok(n) if n >= self.n_bodies => None,
            Ok(n) => Some(format!("#{n}")),
            Err(_) => Some(format!("{:+}ms", i128::from(t) - i128::from(self.base))),
        }
    }
}

/// Puts together what `server` has of a case.
pub(super) fn collect(
    asked: &Asked,
    failures: Option<&BTreeMap<usize, Vec<String>>>,
    data: &Path,
    cases: impl Iterator<Item = (usize, usize, String)>,
    base: i64,
) -> Vec<Seen> {
    let mut stored = read(data);
    cases
        .enumerate()
        .map(|(place, (n_bodies, served, request))| {
            let raw = stored.remove(&place).unwrap_or_default();
            let is_report = |raw: &&Raw| raw.labels.metric_name() == DURATION.as_bytes();
            let times = raw.iter().filter(is_report).max_by_key(|raw| raw.samples.len());
            let times =
                times.map(|raw| raw.samples.iter().map(|sample| sample.0).collect()).unwrap_or_default();
            let scrapes = Scrapes { times, n_bodies, base };
            let mut seen = Seen { asked: request, ..Seen::default() };
            for raw in raw {
                let samples = raw.samples.iter().filter_map(|(t, st, v)| {
                    let mut out = format!("{} {v}", scrapes.shown(*t)?);
                    if *st != 0 {
                        write!(out, " since {}", scrapes.shown(*st).unwrap_or_default()).unwrap();
                    }
                    Some(out)
                });
                let samples: Vec<String> = samples.collect();
                if !samples.is_empty() {
                    seen.series.insert(raw.labels.to_string(), samples);
                }
            }
            for (_, series, list) in asked.exemplars.iter().filter(|(at, ..)| *at == place) {
                let list: Vec<_> =
                    list.iter().filter_map(|(t, v)| Some(format!("{} {v}", scrapes.shown(*t)?))).collect();
                if !list.is_empty() {
                    seen.exemplars.insert(series.clone(), list);
                }
            }
            (seen.health, seen.last_error) = asked.health.get(&place).cloned().unwrap_or_default();
            let mut metadata = asked.metadata.get(&place).cloned().unwrap_or_default();
            metadata.sort_unstable();
            seen.metadata = (served <= n_bodies + METADATA_SCRAPES).then_some(metadata);
            if let Some(failures) = failures {
                let of_case = failures.get(&place).map(Vec::as_slice).unwrap_or_default();
                // The last body may have failed many times.
                let up = seen
                    .series
                    .iter()
                    .find(|(labels, _)| labels.starts_with("{__name__=\"up\"") || labels.starts_with("up{"));
                let n_down =
                    up.map_or(0, |(_, samples)| samples.iter().filter(|s| s.ends_with(" 0.0")).count());
                let mut of_bodies: Vec<_> = of_case.iter().take(n_down).cloned().collect();
                // Those of the last body fill the places of bodies that could be had and not be taken in.
                while let [.., before, last] = of_bodies.as_slice()
                    && before == last
                {
                    of_bodies.pop();
                }
                seen.failures = Some(of_bodies);
            }
            seen
        })
        .collect()
}

/// A respect in which two servers differ.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) theirs: String,
    pub(super) ours: String,
    /// It is no more than what the servers make of the series of scrapes that failed half way.
    pub(super) of_failed: bool,
}

pub(super) fn compare(theirs: &Seen, ours: &Seen) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            differences.push(Difference { what: what.to_owned(), theirs, ours, of_failed: false });
        }
    };
    differ("request", theirs.asked.clone(), ours.asked.clone());
    if let (Some(theirs), Some(ours)) = (&theirs.failures, &ours.failures) {
        differ("errors", format!("{theirs:?}"), format!("{ours:?}"));
    }
    differ(
        "last error",
        format!("{} {}", theirs.health, theirs.last_error),
        format!("{} {}", ours.health, ours.last_error),
    );
    for (what, theirs, ours) in
        [("series", &theirs.series, &ours.series), ("exemplars", &theirs.exemplars, &ours.exemplars)]
    {
        let all: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for labels in all {
            let shown = |of: &BTreeMap<String, Vec<String>>| {
                of.get(labels).map_or("(none)".to_owned(), |s| s.join(", "))
            };
            differ(&format!("{what} {labels}"), shown(theirs), shown(ours));
        }
    }
    if let (Some(theirs), Some(ours)) = (&theirs.metadata, &ours.metadata) {
        differ("metadata", theirs.join("\n    "), ours.join("\n    "));
    }
    let near: BTreeSet<_> = theirs.failed().intersection(&ours.failed()).flat_map(|n| [*n, n + 1]).collect();
    let mut of_failed = BTreeSet::new();
    for difference in &mut differences {
        let what = &difference.what;
        difference.of_failed = if let Some(labels) = what.strip_prefix("series ") {
            let samples = |of: &Seen| of.series.get(labels).cloned().unwrap_or_default();
            let is = is_of_failed(labels, &samples(theirs), &samples(ours), &near);
            if is {
                of_failed.insert(labels.to_owned());
            }
            is
        } else if let Some(labels) = what.strip_prefix("exemplars ") {
            // Those of samples that are out of order.
            of_failed.contains(&labels_of(labels))
        } else {
            false
        };
    }
    differences
}

/// Labels as series have them, from JSON.
fn labels_of(json: &str) -> String {
    let pairs: BTreeMap<String, String> = serde_json::from_str(json).unwrap();
    let mut labels = LabelsBuilder::default();
    for (name, value) in &pairs {
        labels.set(name.as_bytes(), value.as_bytes());
    }
    labels.build().to_string()
}

impl Seen {
    /// The numbers of the scrapes that failed.
    fn failed(&self) -> BTreeSet<usize> {
        let reports = self.series.iter().filter(|(labels, _)| labels.starts_with("{__name__=\"up\""));
        let samples = reports.flat_map(|(_, samples)| samples);
        samples.filter_map(|sample| sample.strip_prefix('#')?.strip_suffix(" 0.0")?.parse().ok()).collect()
    }
}

/// A sample without what its neighbours in a chunk make of it: the hint and the empty buckets of a histogram.
fn outline(sample: &str) -> String {
    let mut of_buckets = sample.split_once(" + [").map_or(sample, |(outline, _)| outline).to_owned();
    if let Some((_, since)) = sample.split_once("} since ") {
        of_buckets.push_str(since);
    }
    of_buckets.replace(" NotCounterReset ", " Unknown ").replace(" CounterReset ", " Unknown ")
}

/// Whether samples differ in no more than that a server marks series stale at a failed scrape and the other where they
/// are missing next, which leaves older samples of their own time out of order, and in how many series are counted as
/// added from the first failed scrape on, less by Prometheus. `near` are the numbers of failed scrapes and of those that
/// came next.
fn is_of_failed(labels: &str, theirs: &[String], ours: &[String], near: &BTreeSet<usize>) -> bool {
    let number = |sample: &String| sample.strip_prefix('#')?.split(' ').next()?.parse::<usize>().ok();
    let is_near = |sample: &String| number(sample).is_some_and(|n| near.contains(&n));
    // The sample in which a scrape fails.
    if labels.starts_with("{__name__=\"scrape_samples_") {
        let value = |sample: &String| sample.split(' ').nth(1).and_then(|v| v.parse::<f64>().ok());
        return theirs.len() == ours.len()
            && theirs.iter().zip(ours).all(|(a, b)| {
                let is_one = value(a).zip(value(b)).is_some_and(|(a, b)| (a - b).abs() <= 1.0);
                a == b || is_near(a) && is_one && number(a) == number(b)
            });
    }
    if labels.starts_with("{__name__=\"scrape_series_added\"") {
        let value = |sample: &String| sample.split(' ').nth(1).and_then(|v| v.parse::<f64>().ok());
        let is_late = |sample: &String| near.first().is_some_and(|first| number(sample) >= Some(*first));
        return theirs.len() == ours.len()
            && theirs
                .iter()
                .zip(ours)
                .all(|(a, b)| a == b || number(a) == number(b) && is_late(a) && value(a) < value(b));
    }
    let left = |of: &[String]| {
        let left = of.iter().filter(|sample| !(sample.contains(" stale") && is_near(sample)));
        left.map(|sample| outline(sample)).collect::<Vec<_>>()
    };
    let [(theirs_left, n_theirs), (ours_left, n_ours)] = [theirs, ours].map(|of| (left(of), of.len()));
    // Whoever marked may lack samples that came with a time before that.
    let lacks = |less: &[String], more: &[String]| {
        let mut rest = more.iter();
        less.iter().all(|sample| rest.by_ref().any(|other| other == sample))
            && more.iter().all(|sample| less.contains(sample) || number(sample).is_none())
    };
    theirs_left == ours_left
        || theirs_left.len() < n_theirs && lacks(&theirs_left, &ours_left)
        || ours_left.len() < n_ours && lacks(&ours_left, &theirs_left)
}

#[test]
fn what_failed_scrapes_explain_is_bounded() {
    let is = |labels: &str, theirs: &[&str], ours: &[&str]| {
        let owned = |of: &[&str]| of.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        is_of_failed(labels, &owned(theirs), &owned(ours), &BTreeSet::from([1, 2]))
    };
    assert!(is("{__name__=\"a\"}", &["#0 1.0", "#2 stale"], &["#0 1.0", "#1 stale"]));
    assert!(is("{__name__=\"a\"}", &["#1 stale"], &["-120000ms 21.0"]));
    assert!(is("{__name__=\"scrape_series_added\"}", &["#0 1.0", "#2 3.0"], &["#0 1.0", "#2 4.0"]));
    assert!(!is("{__name__=\"scrape_series_added\"}", &["#0 1.0", "#2 3.0"], &["#0 2.0", "#2 3.0"]));
    assert!(!is("{__name__=\"scrape_series_added\"}", &["#0 1.0", "#2 5.0"], &["#0 1.0", "#2 4.0"]));
    assert!(is("{__name__=\"scrape_samples_scraped\"}", &["#0 1.0", "#1 4.0"], &["#0 1.0", "#1 3.0"]));
    assert!(!is("{__name__=\"scrape_samples_scraped\"}", &["#0 1.0", "#1 4.0"], &["#0 1.0", "#1 2.0"]));
    assert!(!is("{__name__=\"scrape_samples_scraped\"}", &["#0 1.0", "#1 4.0"], &["#0 2.0", "#1 4.0"]));
    assert!(!is("{__name__=\"a\"}", &["#0 1.0", "#3 stale"], &["#0 1.0"]));
    assert!(!is("{__name__=\"a\"}", &["#0 1.0", "#2 2.0"], &["#0 1.0", "#1 stale"]));
    assert!(!is("{__name__=\"a\"}", &["#0 1.0"], &["-120000ms 21.0", "#0 1.0"]));
}
