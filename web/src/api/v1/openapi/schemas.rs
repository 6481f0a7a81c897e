//! The shapes of answers, by the names that generated clients know them under.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Any,
    /// One of [`SCHEMAS`].
    Ref(&'static str),
    Text,
    Words(&'static [&'static str]),
    /// An RFC 3339 time in an answer.
    Moment,
    Integer,
    /// From 1 on; this unless the request says otherwise.
    Limit(usize),
    Double,
    Number,
    Flag,
    /// A time in a request: RFC 3339 or seconds.
    Time,
    /// A duration in a request: with units, or seconds.
    Duration,
    List(&'static Shape),
    Pair(&'static Shape, &'static Shape),
    Either(&'static [Shape]),
    AnyOf(&'static [Shape]),
    /// Any keys, each with a value of this shape.
    Map(&'static Shape),
    /// Any keys and values.
    Open,
    /// Just these fields; those that end in `?` may be missing.
    Object(&'static [(&'static str, Shape)]),
    /// These fields and maybe others.
    Loose(&'static [(&'static str, Shape)]),
}

use Shape::{
    Any, AnyOf, Double, Either, Flag, Integer, List, Loose, Map, Moment, Number, Object, Open, Pair, Ref,
    Text, Words,
};

const SAMPLE: Shape = Pair(&Number, &Text);
const HISTOGRAM_SAMPLE: Shape = Pair(&Number, &Ref("HistogramValue"));
const PER_STEP: Shape = List(&Pair(&Number, &Number));
const COUNTS: Shape = List(&Ref("TSDBStat"));

pub(super) const SCHEMAS: &[(&str, Shape)] = &[
    ("Error", Object(&[("status", Words(&["success", "error"])), ("errorType", Text), ("error", Text)])),
    ("Labels", Open),
    (
        "QueryData",
        AnyOf(&[
            Object(&[
                ("resultType", Words(&["vector"])),
                ("result", List(&AnyOf(&[Ref("FloatSample"), Ref("HistogramSample")]))),
                ("stats?", Ref("QueryStats")),
            ]),
            Object(&[
                ("resultType", Words(&["matrix"])),
                ("result", List(&AnyOf(&[Ref("FloatSeries"), Ref("HistogramSeries")]))),
                ("stats?", Ref("QueryStats")),
            ]),
            Object(&[("resultType", Words(&["scalar"])), ("result", SAMPLE), ("stats?", Ref("QueryStats"))]),
            Object(&[
                ("resultType", Words(&["string"])),
                ("result", Pair(&Text, &Text)),
                ("stats?", Ref("QueryStats")),
            ]),
        ]),
    ),
    (
        "QueryStats",
        Loose(&[
            (
                "timings?",
                Loose(&[
                    ("evalTotalTime?", Number),
                    ("resultSortTime?", Number),
                    ("queryPreparationTime?", Number),
                    ("innerEvalTime?", Number),
                    ("execQueueTime?", Number),
                    ("execTotalTime?", Number),
                ]),
            ),
            (
                "samples?",
                Loose(&[
                    ("totalQueryableSamples?", Integer),
                    ("peakSamples?", Integer),
                    ("totalQueryableSamplesPerStep?", PER_STEP),
                    ("samplesRead?", Integer),
                    ("samplesReadPerStep?", PER_STEP),
                ]),
            ),
        ]),
    ),
    ("FloatSample", Object(&[("metric", Ref("Labels")), ("value", SAMPLE)])),
    ("HistogramSample", Object(&[("metric", Ref("Labels")), ("histogram", HISTOGRAM_SAMPLE)])),
    ("FloatSeries", Object(&[("metric", Ref("Labels")), ("values", List(&SAMPLE))])),
    ("HistogramSeries", Object(&[("metric", Ref("Labels")), ("histograms", List(&HISTOGRAM_SAMPLE))])),
    (
        "HistogramValue",
        Object(&[("count", Text), ("sum", Text), ("buckets?", List(&List(&Either(&[Number, Text]))))]),
    ),
    ("Metadata", Object(&[("type", Text), ("unit", Text), ("help", Text)])),
    (
        "MetricMetadata",
        Object(&[
            ("target", Ref("Labels")),
            ("metric?", Text),
            ("type", Text),
            ("help", Text),
            ("unit", Text),
        ]),
    ),
    (
        "Target",
        Object(&[
            ("discoveredLabels", Ref("Labels")),
            ("labels", Ref("Labels")),
            ("scrapePool", Text),
            ("scrapeUrl", Text),
            ("globalUrl", Text),
            ("lastError", Text),
            ("lastScrape", Moment),
            ("lastScrapeDuration", Double),
            ("health", Text),
            ("scrapeInterval", Text),
            ("scrapeTimeout", Text),
        ]),
    ),
    ("DroppedTarget", Object(&[("discoveredLabels", Ref("Labels")), ("scrapePool", Text)])),
    (
        "TargetDiscovery",
        Object(&[
            ("activeTargets", List(&Ref("Target"))),
            ("droppedTargets", List(&Ref("DroppedTarget"))),
            ("droppedTargetCounts", Map(&Integer)),
        ]),
    ),
    ("ScrapePoolsDiscovery", Object(&[("scrapePools", List(&Text))])),
    (
        "Config",
        Object(&[
            ("source_labels?", List(&Text)),
            ("separator?", Text),
            ("regex?", Text),
            ("modulus?", Integer),
            ("target_label?", Text),
            ("replacement?", Text),
            ("action?", Text),
        ]),
    ),
    ("RelabelStep", Object(&[("rule", Ref("Config")), ("output", Ref("Labels")), ("keep", Flag)])),
    ("RelabelStepsResponse", Object(&[("steps", List(&Ref("RelabelStep")))])),
    (
        "RuleGroup",
        Object(&[
            ("name", Text),
            ("file", Text),
            ("rules", List(&Open)),
            ("interval", Double),
            ("limit", Integer),
            ("evaluationTime", Double),
            ("lastEvaluation", Moment),
        ]),
    ),
    ("RuleDiscovery", Object(&[("groups", List(&Ref("RuleGroup"))), ("groupNextToken?", Text)])),
    (
        "Alert",
        Object(&[
            ("labels", Ref("Labels")),
            ("annotations", Ref("Labels")),
            ("state", Text),
            ("value", Text),
            ("activeAt?", Moment),
            ("keepFiringSince?", Moment),
        ]),
    ),
    ("AlertDiscovery", Object(&[("alerts", List(&Ref("Alert")))])),
    ("AlertmanagerTarget", Object(&[("url", Text)])),
    (
        "AlertmanagerDiscovery",
        Object(&[
            ("activeAlertmanagers", List(&Ref("AlertmanagerTarget"))),
            ("droppedAlertmanagers", List(&Ref("AlertmanagerTarget"))),
        ]),
    ),
    ("StatusConfigData", Object(&[("yaml", Text)])),
    ("ScrapePoolConfigData", Object(&[("yaml", Text)])),
    (
        "RuntimeInfo",
        Object(&[
            ("startTime", Moment),
            ("CWD", Text),
            ("hostname", Text),
            ("serverTime", Moment),
            ("reloadConfigSuccess", Flag),
            ("lastConfigTime", Moment),
            ("corruptionCount", Integer),
            ("goroutineCount", Integer),
            ("GOMAXPROCS", Integer),
            ("GOMEMLIMIT", Integer),
            ("GOGC", Text),
            ("GODEBUG", Text),
            ("storageRetention", Text),
        ]),
    ),
    (
        "PrometheusVersion",
        Object(&[
            ("version", Text),
            ("revision", Text),
            ("branch", Text),
            ("buildUser", Text),
            ("buildDate", Text),
            ("goVersion", Text),
        ]),
    ),
    (
        "HeadStats",
        Object(&[
            ("numSeries", Integer),
            ("numLabelPairs", Integer),
            ("chunkCount", Integer),
            ("minTime", Integer),
            ("maxTime", Integer),
        ]),
    ),
    ("TSDBStat", Object(&[("name", Text), ("value", Integer)])),
    (
        "TSDBStatus",
        Object(&[
            ("headStats", Ref("HeadStats")),
            ("seriesCountByMetricName", COUNTS),
            ("labelValueCountByLabelName", COUNTS),
            ("memoryInBytesByLabelName", COUNTS),
            ("seriesCountByLabelValuePair", COUNTS),
        ]),
    ),
    ("BlockDesc", Object(&[("ulid", Text), ("minTime", Integer), ("maxTime", Integer)])),
    (
        "BlockStats",
        Object(&[
            ("numSamples?", Integer),
            ("numSeries?", Integer),
            ("numChunks?", Integer),
            ("numTombstones?", Integer),
            ("numFloatSamples?", Integer),
            ("numHistogramSamples?", Integer),
        ]),
    ),
    (
        "BlockMetaCompaction",
        Object(&[
            ("level", Integer),
            ("sources?", List(&Text)),
            ("parents?", List(&Ref("BlockDesc"))),
            ("failed?", Flag),
            ("deletable?", Flag),
            ("hints?", List(&Text)),
        ]),
    ),
    (
        "BlockMeta",
        Object(&[
            ("ulid", Text),
            ("minTime", Integer),
            ("maxTime", Integer),
            ("stats?", Ref("BlockStats")),
            ("compaction", Ref("BlockMetaCompaction")),
            ("version", Integer),
        ]),
    ),
    ("StatusTSDBBlocksData", Object(&[("blocks", List(&Ref("BlockMeta")))])),
    ("StatusWALReplayData", Object(&[("min", Integer), ("max", Integer), ("current", Integer)])),
    ("DataStruct", Object(&[("name", Text)])),
    ("Notification", Object(&[("text", Text), ("date", Moment), ("active", Flag)])),
    (
        "TopQuery",
        Object(&[
            ("query", Text),
            ("origin", Words(&["http", "rules"])),
            ("path", Text),
            ("shownIn", Map(&Text)),
            ("count", Integer),
            ("errors", Integer),
            ("totalTime", Double),
            ("longestTime", Double),
            ("averageTime", Double),
            ("totalSamples", Integer),
            ("peakSamples", Integer),
            ("lastTime", Moment),
        ]),
    ),
    ("TopQueries", Object(&[("queries", List(&Ref("TopQuery"))), ("forgotten", Integer)])),
    (
        "Discovery",
        Object(&[
            ("job", Text),
            ("manager", Text),
            ("mechanism", Text),
            ("targets", Integer),
            ("lastError", Text),
            ("failingSince", Moment),
            ("lastUpdate", Moment),
        ]),
    ),
];

/// Answers by name, with the shape of their `data` where there is one.
pub(super) const ENVELOPES: &[(&str, Option<Shape>)] = &[
    ("QueryOutputBody", Some(Ref("QueryData"))),
    ("QueryRangeOutputBody", Some(Ref("QueryData"))),
    ("QueryExemplarsOutputBody", Some(Any)),
    ("FormatQueryOutputBody", Some(Text)),
    ("ParseQueryOutputBody", Some(Any)),
    ("ExplainQueryOutputBody", Some(Text)),
    ("LabelsOutputBody", Some(List(&Text))),
    ("LabelValuesOutputBody", Some(List(&Text))),
    ("SeriesOutputBody", Some(List(&Ref("Labels")))),
    ("MetadataOutputBody", Some(Map(&List(&Ref("Metadata"))))),
    ("TargetsOutputBody", Some(Ref("TargetDiscovery"))),
    ("TargetMetadataOutputBody", Some(List(&Ref("MetricMetadata")))),
    ("TargetRelabelStepsOutputBody", Some(Ref("RelabelStepsResponse"))),
    ("ScrapePoolsOutputBody", Some(Ref("ScrapePoolsDiscovery"))),
    ("ScrapePoolConfigOutputBody", Some(Ref("ScrapePoolConfigData"))),
    ("DiscoveryOutputBody", Some(List(&Ref("Discovery")))),
    ("RulesOutputBody", Some(Ref("RuleDiscovery"))),
    ("AlertsOutputBody", Some(Ref("AlertDiscovery"))),
    ("AlertsExplainOutputBody", Some(Any)),
    ("AlertmanagersOutputBody", Some(Ref("AlertmanagerDiscovery"))),
    ("StatusConfigOutputBody", Some(Ref("StatusConfigData"))),
    ("StatusRuntimeInfoOutputBody", Some(Ref("RuntimeInfo"))),
    ("StatusBuildInfoOutputBody", Some(Ref("PrometheusVersion"))),
    ("StatusFlagsOutputBody", Some(Map(&Text))),
    ("StatusTSDBOutputBody", Some(Ref("TSDBStatus"))),
    ("StatusTSDBBlocksOutputBody", Some(Ref("StatusTSDBBlocksData"))),
    ("StatusWALReplayOutputBody", Some(Ref("StatusWALReplayData"))),
    ("StatusSelfMetricsOutputBody", Some(Any)),
    ("StatusTopQueriesOutputBody", Some(Ref("TopQueries"))),
    ("SnapshotOutputBody", Some(Ref("DataStruct"))),
    ("NotificationsOutputBody", Some(List(&Ref("Notification")))),
    ("FeaturesOutputBody", Some(Map(&Map(&Flag)))),
];
