//! One line per method and path: what is asked and what is answered.

use super::schemas::Shape;
use Shape::{Duration, Flag, Integer, Limit, List, Text, Time, Words};

pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What a generated client calls it.
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) about: &'static str,
    pub(super) request: Request,
    pub(super) answer: Answer,
}

#[derive(Clone, Copy)]
pub(super) enum Request {
    Nothing,
    Url(&'static [Param]),
    /// The parameters as a form, whose schema has this name.
    Form(&'static str, &'static [Param]),
    /// Of this content type.
    Body(&'static str),
}

pub(super) enum Answer {
    /// The schema of this name.
    Envelope(&'static str),
    /// This status alone.
    Nothing(&'static str),
    /// Of this content type.
    Body(&'static str),
    Lines,
    Events,
}

pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) is_required: bool,
    pub(super) shape: Shape,
    pub(super) about: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
}

const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Param {
    Param { name, place: Place::Query, is_required: false, shape, about }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Param {
    Param { name, place: Place::Query, is_required: true, shape, about }
}

const TEXTS: Shape = List(&Text);

const START: Param = optional("start", Time, "Where the span begins.");
const END: Param = optional("end", Time, "Where the span ends.");
const QUERY: Param = required("query", Text, "An expression in PromQL.");
const SERIES_LIMIT: Param = optional("limit", Integer, "The most series in the answer, 0 for all.");
const LIMIT: Param = optional("limit", Integer, "The most entries in the answer, 0 for all.");
const MATCH: Param = optional("match[]", TEXTS, "Selectors of series; one of them must match.");
const TIMEOUT: Param =
    optional("timeout", Duration, "The longest it may take; the flag --query.timeout is the most.");
const LOOKBACK: Param =
    optional("lookback_delta", Duration, "How far back the newest sample of a series may lie.");
const STATS: Param =
    optional("stats", Text, "Tells what the query cost: `true` for totals, `all` for each step, too.");
const METRIC: Param = optional("metric", Text, "Only this family.");

const INSTANT: &[Param] = &[
    SERIES_LIMIT,
    optional("time", Time, "The moment to evaluate at; now unless given."),
    QUERY,
    TIMEOUT,
    LOOKBACK,
    STATS,
];
const RANGE: &[Param] = &[
    SERIES_LIMIT,
    required("start", Time, "The first step."),
    required("end", Time, "No step is later."),
    required("step", Duration, "From one step to the next."),
    QUERY,
    TIMEOUT,
    LOOKBACK,
    STATS,
];
const EXPLAINED: &[Param] = &[
    QUERY,
    optional("time", Time, "The moment of an instant query."),
    optional("start", Time, "The first step of a range query."),
    optional("end", Time, "No step of a range query is later."),
    optional("step", Duration, "From one step to the next."),
    LOOKBACK,
];
const EXEMPLARS: &[Param] = &[START, END, QUERY];
const EXPRESSION: &[Param] = &[QUERY];
const NAMES: &[Param] = &[START, END, MATCH, LIMIT];
const VALUES: &[Param] = &[
    Param { name: "name", place: Place::Path, is_required: true, shape: Text, about: "The label." },
    START,
    END,
    MATCH,
    LIMIT,
];
const SERIES: &[Param] =
    &[START, END, required("match[]", TEXTS, "Selectors of series; one of them must match."), LIMIT];

const SEARCH_TERMS: Param =
    optional("search[]", TEXTS, "What to look for, at most 32 terms; one of them must fit.");
const FUZZ_THRESHOLD: Param = optional("fuzz_threshold", Integer, "From 0 to 100: how well a text must fit.");
const FUZZ_ALG: Param = optional("fuzz_alg", Words(&["subsequence", "jarowinkler"]), "What it means to fit.");
const CASE: Param =
    optional("case_sensitive", Flag, "Whether upper and lower case differ; they do unless told.");
const SORT_BY: Param = optional("sort_by", Words(&["alpha", "score"]), "By name, or the best first.");
const SORT_DIR: Param = optional("sort_dir", Words(&["asc", "dsc"]), "Which way names are sorted.");
const SCORE: Param = optional("include_score", Flag, "Tells how well each fits, from 0 to 1.");
const SEARCH_LIMIT: Param = optional("limit", Limit(100), "The most results.");
const BATCH: Param = optional("batch_size", Limit(100), "The most results in one line.");

const SEARCH_METRICS: &[Param] = &[
    MATCH,
    SEARCH_TERMS,
    FUZZ_THRESHOLD,
    FUZZ_ALG,
    CASE,
    SORT_BY,
    SORT_DIR,
    SCORE,
    optional("include_metadata", Flag, "Tells type, help and unit of each metric, where a target does."),
    START,
    END,
    SEARCH_LIMIT,
    BATCH,
];
const SEARCH_NAMES: &[Param] = &[
    MATCH,
    SEARCH_TERMS,
    FUZZ_THRESHOLD,
    FUZZ_ALG,
    CASE,
    SORT_BY,
    SORT_DIR,
    SCORE,
    START,
    END,
    SEARCH_LIMIT,
    BATCH,
];
const SEARCH_VALUES: &[Param] = &[
    required("label", Text, "The label whose values are searched."),
    MATCH,
    SEARCH_TERMS,
    FUZZ_THRESHOLD,
    FUZZ_ALG,
    CASE,
    SORT_BY,
    SORT_DIR,
    SCORE,
    START,
    END,
    SEARCH_LIMIT,
    BATCH,
];

const POOL: Param = optional("scrapePool", Text, "Only this job.");
const ONE_POOL: Param = required("scrapePool", Text, "The job.");
const STEPS: &[Param] = &[ONE_POOL, required("labels", Text, "The labels to begin with, as a JSON object.")];
const TARGETS: &[Param] = &[POOL, optional("state", Text, "`active`, `dropped` or `any`.")];
const FAMILIES: &[Param] = &[
    optional("limit", Integer, "The most families."),
    optional("limit_per_metric", Integer, "The most entries of one family."),
    METRIC,
];
const TARGET_FAMILIES: &[Param] = &[
    optional("match_target", Text, "A selector of targets by their labels."),
    METRIC,
    optional("limit", Integer, "The most entries."),
];
const RULES: &[Param] = &[
    optional("type", Text, "`alert` or `record`."),
    optional("rule_name[]", TEXTS, "Only rules of these names."),
    optional("rule_group[]", TEXTS, "Only groups of these names."),
    optional("file[]", TEXTS, "Only groups of these files."),
    optional("match[]", TEXTS, "Only rules whose own labels match."),
    optional("exclude_alerts", Text, "`true` leaves active alerts out."),
    optional("group_limit", Integer, "The most groups on one page."),
    optional("group_next_token", Text, "Where the page before ended."),
];
const EXPLAINED_ALERTS: &[Param] = &[
    optional("match[]", TEXTS, "Selectors of alerts; or any label as a parameter of its own."),
    optional("time", Time, "The moment to explain; now unless given."),
    START,
    END,
    optional("limit", Integer, "The most alerts."),
    optional("entries", Integer, "The most entries of a timeline."),
    optional("next_token", Text, "Where the page before ended."),
];
const DELETED: &[Param] =
    &[required("match[]", TEXTS, "Selectors of series; one of them must match."), START, END];
const SNAPSHOT: &[Param] = &[optional("skip_head", Text, "`true` leaves out what is not in a block yet.")];

pub(super) const TAGS: &[(&str, &str, &str)] = &[
    ("query", "Query", "Expressions: what they evaluate to, and what they are made of."),
    ("metadata", "Metadata", "What metrics are and what they mean."),
    ("labels", "Labels", "Names and values of labels."),
    ("series", "Series", "Which series there are."),
    ("targets", "Targets", "What is scraped, and how it goes."),
    ("rules", "Rules", "The rules that are evaluated."),
    ("alerts", "Alerts", "What fires, why, and who is told."),
    ("status", "Status", "How the server is set up and how it does."),
    ("admin", "Admin", "Changes to what is stored; off unless a flag allows them."),
    ("features", "Features", "What this server can do."),
    ("remote", "Remote Storage", "Samples from and for other servers."),
    ("otlp", "OTLP", "Metrics of OpenTelemetry."),
    ("notifications", "Notifications", "What users of the page should know."),
];

const fn get(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    about: &'static str,
    params: &'static [Param],
    answer: &'static str,
) -> Operation {
    let request = if params.is_empty() { Request::Nothing } else { Request::Url(params) };
    Operation { method: "get", path, id, tag, about, request, answer: Answer::Envelope(answer) }
}

const fn form(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    about: &'static str,
    schema: (&'static str, &'static [Param]),
    answer: &'static str,
) -> Operation {
    let request = Request::Form(schema.0, schema.1);
    Operation { method: "post", path, id, tag, about, request, answer: Answer::Envelope(answer) }
}

const fn search(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    about: &'static str,
    request: Request,
) -> Operation {
    Operation { method, path, id, tag, about, request, answer: Answer::Lines }
}

const fn admin(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    about: &'static str,
    params: &'static [Param],
    answer: Answer,
) -> Operation {
    let request = if params.is_empty() { Request::Nothing } else { Request::Url(params) };
    Operation { method, path, id, tag: "admin", about, request, answer }
}

#[rustfmt::skip]
pub(super) const OPERATIONS: &[Operation] = &[
    get("/query", "query", "query", "Evaluates an expression at one moment", INSTANT, "QueryOutputBody"),
    form("/query", "query-post", "query", "Evaluates an expression at one moment", ("QueryPostInputBody", INSTANT), "QueryOutputBody"),
    get("/query_range", "query-range", "query", "Evaluates an expression step by step", RANGE, "QueryRangeOutputBody"),
    form("/query_range", "query-range-post", "query", "Evaluates an expression step by step", ("QueryRangePostInputBody", RANGE), "QueryRangeOutputBody"),
    get("/query_exemplars", "query-exemplars", "query", "Finds the exemplars of the series that an expression selects", EXEMPLARS, "QueryExemplarsOutputBody"),
    form("/query_exemplars", "query-exemplars-post", "query", "Finds the exemplars of the series that an expression selects", ("QueryExemplarsPostInputBody", EXEMPLARS), "QueryExemplarsOutputBody"),
    get("/format_query", "format-query", "query", "Lays an expression out for reading", EXPRESSION, "FormatQueryOutputBody"),
    form("/format_query", "format-query-post", "query", "Lays an expression out for reading", ("FormatQueryPostInputBody", EXPRESSION), "FormatQueryOutputBody"),
    get("/parse_query", "parse-query", "query", "Takes an expression apart into its tree", EXPRESSION, "ParseQueryOutputBody"),
    form("/parse_query", "parse-query-post", "query", "Takes an expression apart into its tree", ("ParseQueryPostInputBody", EXPRESSION), "ParseQueryOutputBody"),
    get("/explain_query", "explain-query", "query", "Tells how an expression would be evaluated", EXPLAINED, "ExplainQueryOutputBody"),
    form("/explain_query", "explain-query-post", "query", "Tells how an expression would be evaluated", ("ExplainQueryPostInputBody", EXPLAINED), "ExplainQueryOutputBody"),
    get("/labels", "labels", "labels", "Lists the names of labels", NAMES, "LabelsOutputBody"),
    form("/labels", "labels-post", "labels", "Lists the names of labels", ("LabelsPostInputBody", NAMES), "LabelsOutputBody"),
    get("/label/{name}/values", "label-values", "labels", "Lists the values of a label", VALUES, "LabelValuesOutputBody"),
    search("get", "/search/metric_names", "search-metric-names", "metadata", "Searches the names of metrics", Request::Url(SEARCH_METRICS)),
    search("post", "/search/metric_names", "search-metric-names-post", "metadata", "Searches the names of metrics", Request::Form("SearchMetricNamesPostInputBody", SEARCH_METRICS)),
    search("get", "/search/label_names", "search-label-names", "labels", "Searches the names of labels", Request::Url(SEARCH_NAMES)),
    search("post", "/search/label_names", "search-label-names-post", "labels", "Searches the names of labels", Request::Form("SearchLabelNamesPostInputBody", SEARCH_NAMES)),
    search("get", "/search/label_values", "search-label-values", "labels", "Searches the values of a label", Request::Url(SEARCH_VALUES)),
    search("post", "/search/label_values", "search-label-values-post", "labels", "Searches the values of a label", Request::Form("SearchLabelValuesPostInputBody", SEARCH_VALUES)),
    get("/series", "series", "series", "Lists series by their labels", SERIES, "SeriesOutputBody"),
    form("/series", "series-post", "series", "Lists series by their labels", ("SeriesPostInputBody", SERIES), "SeriesOutputBody"),
    get("/metadata", "get-metadata", "metadata", "Tells what targets say of their metrics", FAMILIES, "MetadataOutputBody"),
    get("/scrape_pools", "get-scrape-pools", "targets", "Lists the jobs that are scraped", &[], "ScrapePoolsOutputBody"),
    get("/scrape_pools/config", "get-scrape-pool-config", "targets", "Shows the configuration of one job", &[ONE_POOL], "ScrapePoolConfigOutputBody"),
    get("/discovery", "get-discovery", "targets", "Tells how discovery does, section by section", &[], "DiscoveryOutputBody"),
    get("/targets", "get-targets", "targets", "Lists targets and how scraping them goes", TARGETS, "TargetsOutputBody"),
    get("/targets/metadata", "get-targets-metadata", "targets", "Tells what each target says of its metrics", TARGET_FAMILIES, "TargetMetadataOutputBody"),
    get("/targets/relabel_steps", "get-targets-relabel-steps", "targets", "Shows what each relabelling rule of a job makes of labels", STEPS, "TargetRelabelStepsOutputBody"),
    get("/rules", "rules", "rules", "Lists rules by group", RULES, "RulesOutputBody"),
    get("/alerts", "alerts", "alerts", "Lists what is pending or fires", &[], "AlertsOutputBody"),
    get("/alerts/explain", "alerts-explain", "alerts", "Tells why an alert fires or does not, and where its messages went", EXPLAINED_ALERTS, "AlertsExplainOutputBody"),
    form("/alerts/explain", "alerts-explain-post", "alerts", "Tells why an alert fires or does not, and where its messages went", ("AlertsExplainPostInputBody", EXPLAINED_ALERTS), "AlertsExplainOutputBody"),
    get("/alertmanagers", "alertmanagers", "alerts", "Lists the Alertmanagers that are told", &[], "AlertmanagersOutputBody"),
    get("/status/config", "get-status-config", "status", "Shows the running configuration", &[], "StatusConfigOutputBody"),
    get("/status/runtimeinfo", "get-status-runtimeinfo", "status", "Tells how the process runs", &[], "StatusRuntimeInfoOutputBody"),
    get("/status/buildinfo", "get-status-buildinfo", "status", "Tells which build runs", &[], "StatusBuildInfoOutputBody"),
    get("/status/flags", "get-status-flags", "status", "Shows the flags of the command line", &[], "StatusFlagsOutputBody"),
    get("/status/tsdb", "status-tsdb", "status", "Counts what the newest hours hold, the largest first", &[optional("limit", Integer, "The most entries of each list, up to 10000.")], "StatusTSDBOutputBody"),
    get("/status/tsdb/blocks", "status-tsdb-blocks", "status", "Lists the blocks on disk", &[], "StatusTSDBBlocksOutputBody"),
    get("/status/walreplay", "get-status-walreplay", "status", "Tells how far a start has come", &[], "StatusWALReplayOutputBody"),
    get("/status/self_metrics", "get-status-self-metrics", "status", "Shows the server's own metrics as JSON", &[optional("metric_name_pattern", Text, "A pattern that names must match as a whole.")], "StatusSelfMetricsOutputBody"),
    get("/status/top_queries", "get-status-top-queries", "status", "Lists the queries that cost most, and who asks them", &[optional("sort_by", Words(&["total_time", "longest_time", "average_time", "count", "errors", "samples", "last_time"]), "What the first has most of."), optional("limit", Integer, "The most queries.")], "StatusTopQueriesOutputBody"),
    admin("put", "/admin/tsdb/delete_series", "deleteSeriesPut", "Deletes samples", DELETED, Answer::Nothing("204")),
    admin("post", "/admin/tsdb/delete_series", "deleteSeriesPost", "Deletes samples", DELETED, Answer::Nothing("204")),
    admin("put", "/admin/tsdb/clean_tombstones", "cleanTombstonesPut", "Takes what is deleted off the disk", &[], Answer::Nothing("204")),
    admin("post", "/admin/tsdb/clean_tombstones", "cleanTombstonesPost", "Takes what is deleted off the disk", &[], Answer::Nothing("204")),
    admin("put", "/admin/tsdb/snapshot", "snapshotPut", "Copies the store into a folder beside it", SNAPSHOT, Answer::Envelope("SnapshotOutputBody")),
    admin("post", "/admin/tsdb/snapshot", "snapshotPost", "Copies the store into a folder beside it", SNAPSHOT, Answer::Envelope("SnapshotOutputBody")),
    Operation { method: "post", path: "/read", id: "remoteRead", tag: "remote", about: "Gives samples to another server", request: Request::Body("application/x-protobuf"), answer: Answer::Body("application/x-protobuf") },
    Operation { method: "post", path: "/write", id: "remoteWrite", tag: "remote", about: "Takes samples from another server", request: Request::Body("application/x-protobuf"), answer: Answer::Nothing("204") },
    Operation { method: "post", path: "/otlp/v1/metrics", id: "otlpWrite", tag: "otlp", about: "Takes metrics from an OpenTelemetry exporter", request: Request::Body("application/x-protobuf"), answer: Answer::Nothing("200") },
    get("/notifications", "get-notifications", "notifications", "Lists what users should know now", &[], "NotificationsOutputBody"),
    Operation { method: "get", path: "/notifications/live", id: "notifications-live", tag: "notifications", about: "Tells of what users should know as it changes", request: Request::Nothing, answer: Answer::Events },
    get("/features", "get-features", "features", "Lists features and whether they are on", &[], "FeaturesOutputBody"),
];
