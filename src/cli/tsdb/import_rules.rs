//! `ferula tsdb create-blocks-from rules`: what recording rules would have said, had they been there before.
//!
//! A server is asked, one block of time after the other; its answers become the blocks. Alerting rules are left out.
//!
//! Compat: prometheus `cmd/promtool/rules.go`, `ruleImporter`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use config::Secret;
use config::http_client::{BasicAuth, HttpClient, SecretSource, TextSource};
use config::rules::RuleKind;
use http::header::{CONTENT_TYPE, HeaderValue};
use model::LabelsBuilder;
use model::labels::METRIC_NAME;
use serde::Deserialize;
use tsdb::db::import::BlockBuilder;

use super::import_openmetrics::{BATCH_SAMPLES, block_ms};
use crate::http_client::Client;
use crate::rules::group::{Group, Rule};

/// How long before now a server's own evaluation may still be on its way.
const RECENT_MS: i64 = 3 * 3_600_000;

/// More than that is no answer to a question about one block.
const ANSWER_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// HTTP client configuration file for promtool to connect to Prometheus.
    #[arg(long = "http.config.file", value_name = "filename")]
    http_config: Option<PathBuf>,
    /// The URL for the Prometheus API with the data where the rule will be backfilled from.
    #[arg(long, default_value = "http://localhost:9090")]
    url: url::Url,
    /// The time to start backfilling the new rule from. Must be a RFC3339 formatted date or Unix timestamp.
    #[arg(long, value_parser = time)]
    start: i64,
    /// If an end time is provided, all recording rules in the rule files provided will be backfilled to the end time.
    /// Default will backfill up to 3 hours ago. Must be a RFC3339 formatted date or Unix timestamp.
    #[arg(long, value_parser = time)]
    end: Option<i64>,
    /// Output directory for generated blocks.
    #[arg(long, default_value = "data/")]
    output_dir: PathBuf,
    /// How frequently to evaluate rules when backfilling if a value is not set in the recording rule files.
    #[arg(long, default_value = "60s", value_parser = model::duration::parse)]
    eval_interval: Duration,
    /// A list of one or more files containing recording rules to be backfilled. All recording rules listed in the files
    /// will be backfilled. Alerting rules are not evaluated.
    #[arg(value_name = "rule-files", required = true)]
    files: Vec<PathBuf>,
}

/// Whole seconds.
fn time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = model::number::parse_float(text.as_bytes())
        && seconds.abs() < 1e15
    {
        #[expect(clippy::cast_possible_truncation, reason = "within range")]
        return Ok(seconds.floor() as i64);
    }
    let time = text.parse::<jiff::Timestamp>();
    let fail = |_| format!("cannot parse {} to a valid timestamp", model::quote::go_quote(text.as_bytes()));
    time.map(jiff::Timestamp::as_second).map_err(fail)
}

pub(super) fn run(options: &Options, max_block: Duration, errors: &mut dyn Write) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now().as_millisecond();
    let end = options.end.unwrap_or((now - RECENT_MS).div_euclid(1000));
    ensure!(options.start < end, "start time is not before end time");
    ensure!(!options.eval_interval.is_zero(), "the evaluation interval is zero");
    let mut groups = Vec::new();
    for file in &options.files {
        let specs = config::rules::load(file).context("rule importer parse error")?;
        let running = |spec| Group::new(spec, options.eval_interval, Duration::ZERO, false);
        groups.extend(specs.into_iter().map(running));
    }
    let import = Import { options, end, block_ms: block_ms(max_block), server: Server::new(options)? };
    let mut has_failed = false;
    for group in &groups {
        for rule in &group.rules {
            let RuleKind::Recording { name } = &rule.spec.kind else { continue };
            if let Err(e) = import.rule(group, rule, name) {
                writeln!(errors, "rule importer error: {e:#}")?;
                has_failed = true;
            }
        }
    }
    ensure!(!has_failed, "error importing rules");
    Ok(())
}

struct Import<'a> {
    options: &'a Options,
    /// Seconds.
    end: i64,
    block_ms: i64,
    server: Server,
}

impl Import<'_> {
    fn rule(&self, group: &Group, rule: &Rule, name: &str) -> anyhow::Result<()> {
        let (start_ms, end_ms) = (self.options.start * 1000, self.end * 1000);
        let interval_ms = i64::try_from(group.interval.as_millis()).unwrap_or(i64::MAX);
        let mut block = start_ms / self.block_ms * self.block_ms;
        while block <= end_ms {
            let from = block.max(start_ms);
            let mut first = group.slot_before(from);
            if first < from {
                first = first.saturating_add(interval_ms);
            }
            let last = (block + self.block_ms - 1).min(end_ms) / 1000 * 1000;
            if last < first {
                break;
            }
            let found = self.server.query_range(&rule.query, first, last, group.interval)?;
            self.write(found, rule, name)?;
            block += self.block_ms;
        }
        Ok(())
    }

    /// The rule's own labels go before those of the answer.
    fn write(&self, found: Vec<Series>, rule: &Rule, name: &str) -> anyhow::Result<()> {
        let mut builder = BlockBuilder::new(self.block_ms);
        let mut labels = LabelsBuilder::default();
        let mut n_samples = 0;
        for series in found {
            labels.clear();
            for (name, value) in series.metric.iter().chain(&rule.spec.labels) {
                labels.set(name.as_bytes(), value.as_bytes());
            }
            labels.set(METRIC_NAME, name.as_bytes());
            let labels = labels.build();
            for (t, v) in series.values {
                let v =
                    model::number::parse_go_float(v.as_bytes()).map_err(|_| anyhow!("bad value {v:?}"))?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "saturates, and such a time is no sample's"
                )]
                let t = (t * 1000.0).round() as i64;
                builder.append(&labels, t, v).context("add")?;
                n_samples += 1;
                if n_samples % BATCH_SAMPLES == 0 {
                    builder.commit();
                }
            }
            if !series.histograms.is_empty() {
                bail!("native histograms cannot be imported from rules, {labels} has some");
            }
        }
        let now = jiff::Timestamp::now().as_millisecond();
        tsdb::fs::create_dir_all(&self.options.output_dir).context("create output dir")?;
        builder.write(&self.options.output_dir, now).context("flush")?;
        Ok(())
    }
}

/// The server that is asked.
struct Server {
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: url::Url,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<serde::de::IgnoredAny>,
}

impl Server {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        let mut url = options.url.clone();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let mut http = match &options.http_config {
            Some(_) if has_user => {
                bail!("Cannot set base auth in the server URL and use a http.config.file at the same time");
            }
            Some(path) => config::http_client::load(path).context("Failed to load HTTP config file")?,
            None => HttpClient::default(),
        };
        if has_user {
            let decode =
                |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            http.basic_auth = Some(BasicAuth {
                username: TextSource::Inline(decode(url.username())),
                password: SecretSource::Inline(Secret::new(decode(url.password().unwrap_or_default()))),
            });
            // Both fail only for URLs that have no host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        let client = Client::new(&http, Duration::MAX).context("new api client error")?;
        url.set_path(&format!("{}/api/v1/query_range", url.path().trim_end_matches('/')));
        Ok(Self { runtime, client, url })
    }

    /// Times in ms, both inside.
    fn query_range(&self, query: &str, start: i64, end: i64, step: Duration) -> anyhow::Result<Vec<Series>> {
        let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .append_pair("start", &seconds(start))
            .append_pair("end", &seconds(end))
            .append_pair("step", &model::number::format_f(step.as_secs_f64()))
            .finish();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = self.client.request(http::Method::POST, self.url.clone()).context("query range")?;
        let ask = request.header(CONTENT_TYPE, form_type).body(form).timeout(None).read(ANSWER_BYTES_MAX);
        let (_, body) = self.runtime.block_on(ask).context("query range")?;
        let answer: Answer = serde_json::from_slice(&body).context("query range: bad_response")?;
        for warning in &answer.warnings {
            tracing::warn!(warning, "Range query returned warnings.");
        }
        let Some(data) = answer.data.filter(|_| answer.error.is_empty()) else {
            bail!("query range: {}: {}", answer.error_type, answer.error);
        };
        ensure!(data.result_type == "matrix", "rule result is wrong type {}", data.result_type);
        Ok(data.result)
    }
}
