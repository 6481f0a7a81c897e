//! A case: a job of its own with one target, what the job says, and what the target answers, scrape by scrape.
//!
//! Everything follows from the seed and the number of the case, but for the times, which are those of the run.

use std::fmt::Write as _;
use std::io::Write as _;

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::family::{self, one_in, pick};
use super::text::{self, Flavour};
use super::{proto, spoil};

/// What both servers have been told by flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) features: &'static str,
}

pub(super) const SETUPS: [Setup; 4] = [
    Setup { name: "plain", features: "exemplar-storage" },
    Setup { name: "zero samples", features: "exemplar-storage,created-timestamp-zero-ingestion" },
    Setup { name: "start timestamps", features: "exemplar-storage,st-storage,xor2-encoding" },
    Setup { name: "type and unit labels", features: "exemplar-storage,type-and-unit-labels" },
];

/// The setup of a case: half of them run without further features.
pub(super) fn setup_of(id: usize) -> usize {
    [0, 0, 0, 1, 2, 3][id % 6]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Gzip,
    /// Cut off before its end.
    GzipCut,
    /// Says gzip and is not.
    GzipNot,
    /// Says something that nobody asked for.
    Other,
}

/// What a target answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Lines or messages.
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) content_type: Option<String>,
    pub(super) encoding: Encoding,
    pub(super) status: u16,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) id: usize,
    pub(super) seed: u64,
    /// Keys of the job.
    pub(super) options: Vec<String>,
    pub(super) target_labels: String,
    pub(super) answers: Vec<Answer>,
}

impl Answer {
    /// The body on the wire and its encoding's name.
    pub(super) fn encoded(&self) -> (Vec<u8>, Option<&'static str>) {
        let plain = self.pieces.concat();
        let gzip = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&plain).unwrap();
            encoder.finish().unwrap()
        };
        match self.encoding {
            Encoding::Plain => (plain, None),
            Encoding::Gzip => (gzip(), Some("gzip")),
            Encoding::GzipCut => {
                let mut body = gzip();
                body.truncate(body.len() - 9);
                (body, Some("gzip"))
            }
            Encoding::GzipNot => (plain, Some("gzip")),
            Encoding::Other => (plain, Some("identity")),
        }
    }
}

const METRIC_RELABEL: &[&str] = &[
    "{source_labels: [__name__], regex: '.*_bucket', action: drop}",
    "{source_labels: [__name__], regex: '.*(seconds|total|bytes).*', action: keep}",
    "{source_labels: [__name__], regex: '(.*)_total', target_label: __name__, replacement: '${1}_sum'}",
    "{action: labeldrop, regex: 'method|code|le'}",
    "{action: labelmap, regex: '(zone|team)', replacement: 'mapped_$1'}",
    "{target_label: extra, replacement: added}",
    "{target_label: __name__, replacement: one}",
    "{source_labels: [method], regex: GET, target_label: __name__, replacement: ''}",
    "{source_labels: [code], action: uppercase, target_label: code}",
    "{source_labels: [__name__, code], action: hashmod, modulus: 3, target_label: shard}",
    "{source_labels: [shard], regex: '0', action: drop}",
    "{regex: 'exported_(.*)', action: labelmap}",
    "{target_label: instance, replacement: ''}",
    "{source_labels: [path], regex: '(.+)', target_label: __name__, replacement: 'x.$1'}",
    "{source_labels: [__name__], regex: (x|build), target_label: job}",
    "{source_labels: [__type__], regex: counter, action: drop}",
];

fn options(rng: &mut Rng) -> Vec<String> {
    let mut options = Vec::new();
    let mut maybe = |rng: &mut Rng, percent: u32, key: &str, value: &dyn Fn(&mut Rng) -> String| {
        if rng.u32(..100) < percent {
            options.push(format!("{key}: {}", value(rng)));
        }
    };
    let yes = |_: &mut Rng| "true".to_owned();
    let no = |_: &mut Rng| "false".to_owned();
    maybe(rng, 30, "honor_labels", &yes);
    maybe(rng, 15, "honor_timestamps", &no);
    maybe(rng, 30, "track_timestamps_staleness", &yes);
    maybe(rng, 60, "scrape_native_histograms", &yes);
    maybe(rng, 30, "always_scrape_classic_histograms", &yes);
    maybe(rng, 35, "convert_classic_histograms_to_nhcb", &yes);
    maybe(rng, 40, "extra_scrape_metrics", &yes);
    maybe(rng, 10, "enable_compression", &no);
    maybe(rng, 8, "sample_limit", &|rng| rng.u32(1..40).to_string());
    maybe(rng, 5, "label_limit", &|rng| rng.u32(3..8).to_string());
    maybe(rng, 5, "label_name_length_limit", &|rng| rng.u32(7..15).to_string());
    maybe(rng, 5, "label_value_length_limit", &|rng| rng.u32(8..40).to_string());
    maybe(rng, 6, "body_size_limit", &|rng| format!("{}B", rng.u32(20..2000)));
    maybe(rng, 15, "native_histogram_bucket_limit", &|rng| rng.u32(1..25).to_string());
    maybe(rng, 12, "native_histogram_min_bucket_factor", &|rng| {
        pick(rng, &["1.0001", "1.1", "1.5", "2", "4", "70000", "0.5"]).to_owned()
    });
    maybe(rng, 40, "fallback_scrape_protocol", &|rng| {
        pick(
            rng,
            &[
                "PrometheusText0.0.4",
                "PrometheusText1.0.0",
                "OpenMetricsText0.0.1",
                "OpenMetricsText1.0.0",
                "PrometheusProto",
            ],
        )
        .to_owned()
    });
    maybe(rng, 12, "scrape_protocols", &|rng| {
        pick(
            rng,
            &[
                "[PrometheusProto]",
                "[OpenMetricsText1.0.0, PrometheusText1.0.0]",
                "[PrometheusText0.0.4, PrometheusProto, OpenMetricsText0.0.1]",
            ],
        )
        .to_owned()
    });
    maybe(rng, 8, "params", &|_| "{a: [x, y], 'b c': ['ü&=']}".to_owned());
    maybe(rng, 25, "metric_relabel_configs", &|rng| {
        let rules: Vec<_> = (0..rng.usize(1..=3)).map(|_| pick(rng, METRIC_RELABEL)).collect();
        format!("[{}]", rules.join(", "))
    });
    match rng.u32(..100) {
        0..=12 => options.push("metric_name_validation_scheme: legacy".to_owned()),
        13..=20 => {
            let escaping = pick(rng, &["underscores", "dots", "values", "allow-utf-8"]);
            options.push(format!("metric_name_escaping_scheme: {escaping}"));
        }
        _ => {}
    }
    options
}

fn content_type(rng: &mut Rng, format: Format) -> Option<String> {
    let ordinary: &[&str] = match format {
        Format::Text => &[
            "text/plain; version=0.0.4; charset=utf-8",
            "text/plain; version=1.0.0; escaping=allow-utf-8",
            "text/plain",
            "TEXT/Plain;version=0.0.4",
        ],
        Format::OpenMetrics => &[
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "application/openmetrics-text; version=0.0.1",
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; escaping=underscores",
        ],
        Format::Protobuf => &[
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=values",
            "application/vnd.google.protobuf",
        ],
    };
    let odd: &[&str] = &[
        "",
        "text/html; charset=utf-8",
        "application/json",
        "text/plain; version=0.0.5",
        "text/plain; version",
        "text/plain; a=b; a=c",
        "application/openmetrics-text; version=2.0.0",
        "application/vnd.google.protobuf; encoding=text",
        "text",
        "text/",
        "/plain",
        "text/plain, text/html",
        "text/plain; charset=\"utf-8",
        ";",
        "application/openmetrics-text",
        "text/plain",
    ];
    match rng.u8(..25) {
        0 => Some(pick(rng, odd).to_owned()),
        1 if rng.bool() => None,
        _ => Some(pick(rng, ordinary).to_owned()),
    }
}

/// Limits what is generated.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) formats: Vec<Format>,
    /// Keys of jobs.
    pub(super) without: Vec<String>,
}

impl Case {
    pub(super) fn make(seed: u64, id: usize, base: i64, scope: &Scope) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(id as u64));
        let rng = &mut rng;
        let format = scope.formats[rng.usize(..scope.formats.len())];
        let is_plain = rng.bool();
        let is_spoilt = one_in(rng, 2);
        let mut families = family::families(rng, is_plain, base);
        let mut options = options(rng);
        options.retain(|option| !scope.without.iter().any(|key| option.starts_with(key)));
        let mut target_labels = String::new();
        if one_in(rng, 4) {
            target_labels.push_str(pick(
                rng,
                &[
                    "code: target",
                    "exported_job: target, zone: ''",
                    "le: target",
                    "'my.label': target",
                    "team: ü, exported_instance: x",
                ],
            ));
        }
        let is_gzip = one_in(rng, 4);
        let n_answers = if one_in(rng, 3) { 1 } else { rng.usize(2..=5) };
        let mut answers = Vec::new();
        for step in 0..n_answers {
            family::advance(rng, &mut families, is_plain, base, step);
            let shown =
                if one_in(rng, 20) { scope.formats[rng.usize(..scope.formats.len())] } else { format };
            let mut pieces = match shown {
                Format::Text => text::lines(rng, &families, Flavour::Text),
                Format::OpenMetrics => text::lines(rng, &families, Flavour::OpenMetrics),
                Format::Protobuf => proto::messages(rng, &families),
            };
            if is_spoilt && one_in(rng, 2) {
                match shown {
                    Format::Protobuf => spoil::messages(rng, &mut pieces),
                    _ => spoil::lines(rng, &mut pieces),
                }
            }
            if step > 0 && one_in(rng, 30) {
                pieces.clear();
            }
            let encoding = match rng.u8(..60) {
                0 => Encoding::GzipCut,
                1 => Encoding::GzipNot,
                2 => Encoding::Other,
                _ if is_gzip => Encoding::Gzip,
                _ => Encoding::Plain,
            };
            let status = if one_in(rng, 50) { [503, 404, 500, 204, 201][rng.usize(..5)] } else { 200 };
            answers.push(Answer { pieces, content_type: content_type(rng, shown), encoding, status });
        }
        Self { id, seed, options, target_labels, answers }
    }

    /// The job for the target at `address`, which is told apart by the path.
    pub(super) fn job(&self, place: usize, address: &str) -> String {
        let mut job = format!("- job_name: c{place}\n  metrics_path: /c{place}\n");
        for option in &self.options {
            writeln!(job, "  {option}").unwrap();
        }
        let comma = if self.target_labels.is_empty() { "" } else { ", " };
        writeln!(
            job,
            "  static_configs: [{{targets: ['{address}'], labels: {{case: c{place}, instance: i{comma}{}}}}}]",
            self.target_labels
        )
        .unwrap();
        job
    }

    /// For the eyes of who has to find out why.
    pub(super) fn shown(&self) -> String {
        let mut out = format!(
            "case {} of seed {} ({}), {}\n",
            self.id,
            self.seed,
            SETUPS[setup_of(self.id)].name,
            self.options.join("; ")
        );
        if !self.target_labels.is_empty() {
            writeln!(out, "  target labels {}", self.target_labels).unwrap();
        }
        for (i, answer) in self.answers.iter().enumerate() {
            let kind = answer.content_type.as_deref().unwrap_or("(none)");
            writeln!(out, "  body {i}: {} {kind:?} {:?}", answer.status, answer.encoding).unwrap();
            for piece in &answer.pieces {
                writeln!(
                    out,
                    "    {}",
                    piece.escape_ascii().to_string().replace("\\\"", "\"").replace("\\n", "⏎")
                )
                .unwrap();
            }
        }
        out
    }
}
