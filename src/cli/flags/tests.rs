use std::time::Duration;

use tsdb::chunk::FloatEncoding;
use tsdb::wal::Compression;

use super::{FLAGS, Flags, Values};

fn flags(args: &[&str]) -> anyhow::Result<Flags> {
    let args = ["ferula"].iter().chain(args).map(std::ffi::OsString::from);
    Flags::resolve(&Values::parse(args)?)
}

#[test]
fn defaults_are_those_of_prometheus() {
    let flags = flags(&[]).unwrap();
    assert_eq!(flags.config_file.to_str(), Some("prometheus.yml"));
    assert_eq!(flags.storage.options.retention.or_default().time, Some(Duration::from_hours(15 * 24)));
    assert_eq!(flags.storage.options.wal_segment_bytes, 128 << 20);
    assert_eq!(flags.web.listen[0].port(), 9090);
    assert!(flags.warnings.is_empty(), "{:?}", flags.warnings);
    assert_eq!(flags.shown.len(), FLAGS.len());
    assert_eq!(flags.shown["query.max-samples"], "50000000");
}

#[test]
fn booleans_can_be_set_and_unset() {
    assert!(flags(&["--web.enable-lifecycle"]).unwrap().web.enable_lifecycle);
    assert!(flags(&["--web.enable-lifecycle=true"]).unwrap().web.enable_lifecycle);
    assert!(!flags(&["--no-web.enable-lifecycle"]).unwrap().web.enable_lifecycle);
    let snapshots = |args: &[&str]| flags(args).unwrap().storage.options.head_snapshot_interval;
    assert_eq!(snapshots(&[]), Some(Duration::from_mins(5)));
    assert_eq!(snapshots(&["--storage.tsdb.head-snapshot-interval=0s"]), None);
    let limit = |args: &[&str]| flags(args).unwrap().storage.options.head_series_limit;
    assert_eq!((limit(&[]), limit(&["--storage.tsdb.head-series-limit=1000"])), (0, 1000));
    let features = |args: &[&str]| flags(args).unwrap().storage.options.features;
    assert!(!features(&[]).snapshots_at_close);
    assert!(features(&["--enable-feature=memory-snapshot-on-shutdown"]).snapshots_at_close);
    let compression = |args: &[&str]| flags(args).map(|flags| flags.storage.options.wal_compression);
    assert_eq!(compression(&[]).unwrap(), Compression::Snappy);
    assert_eq!(compression(&["--no-storage.tsdb.wal-compression"]).unwrap(), Compression::None);
    assert_eq!(compression(&["--storage.tsdb.wal-compression-type=zstd"]).unwrap(), Compression::Zstd);
    assert!(compression(&["--storage.tsdb.wal-compression-type=lz4"]).is_err());
    assert!(flags(&["--web.enable-lifecycle=maybe"]).is_err());
}

#[test]
fn sizes_and_spans_have_their_ranges() {
    let error = |args: &[&str]| format!("{:#}", flags(args).unwrap_err());
    assert!(error(&["--storage.tsdb.wal-segment-size=1MB"]).contains("between 10MB and 256MB"));
    assert!(error(&["--query.timeout", "1x"]).contains("--query.timeout: "));
    let both = "--enable-feature=otlp-deltatocumulative,otlp-native-delta-ingestion";
    assert!(error(&[both]).contains("cannot enable otlp-deltatocumulative and otlp-native-delta-ingestion"));
    assert!(error(&["--log.level=loud"]).contains("unrecognized log level"));
    let retention =
        flags(&["--storage.tsdb.retention.size=1GB"]).unwrap().storage.options.retention.or_default();
    assert_eq!((retention.time, retention.size_bytes), (None, Some(1 << 30)));
}

#[test]
fn what_has_no_effect_is_named() {
    let flags = flags(&[
        "--storage.tsdb.samples-per-chunk=100",
        "--enable-feature=otel,promql-experimental-functions",
    ])
    .unwrap();
    assert_eq!(
        flags.warnings,
        [
            "flag --storage.tsdb.samples-per-chunk has no effect yet",
            "unknown feature \"otel\" in --enable-feature has no effect"
        ]
    );
}

#[test]
fn prefixes_are_normalised() {
    let prefix = |text: &str| flags(&["--web.route-prefix", text]).unwrap().web.route_prefix;
    assert_eq!(prefix("/"), Some(String::new()));
    assert_eq!(prefix("a/b/"), Some("/a/b".to_owned()));
    let url = |text: &str| flags(&["--web.external-url", text]).unwrap().web.external_url;
    assert_eq!(url("https://h.example/p/"), Some("https://h.example/p".to_owned()));
}

#[test]
fn compactions_are_late_only_with_the_feature() {
    let delay = |args: &[&str]| {
        let flags = flags(args).unwrap();
        (flags.storage.options.compaction_delay_percent, flags.warnings.len())
    };
    assert_eq!(delay(&[]), (0, 0));
    assert_eq!(delay(&["--storage.tsdb.delayed-compaction.max-percent=50"]), (0, 0));
    assert_eq!(delay(&["--enable-feature=delayed-compaction"]), (10, 0));
    let percent = |text| {
        delay(&[
            "--enable-feature=delayed-compaction",
            &format!("--storage.tsdb.delayed-compaction.max-percent={text}"),
        ])
    };
    assert_eq!(percent("33"), (33, 0));
    for text in ["0", "101", "-1", "300"] {
        assert_eq!(percent(text), (10, 1), "{text}");
    }
    assert!(
        flags(&["--no-storage.tsdb.allow-overlapping-compaction"])
            .is_ok_and(|flags| { !flags.storage.options.merge_overlapping })
    );
}

#[test]
fn features_reach_the_store() {
    let features = |names: &str| {
        let flags = flags(&[&format!("--enable-feature={names}")]).unwrap();
        assert!(flags.warnings.is_empty(), "{:?}", flags.warnings);
        flags.storage.options.features
    };
    let plain = features("");
    assert!(plain.floats == FloatEncoding::Xor && !plain.stores_start_times && !plain.zero_at_start);
    assert!(!plain.stores_histogram_starts && !plain.logs_metadata && !plain.snapshots_at_close);
    assert!(features("st-storage").stores_start_times);
    assert_eq!(features("st-storage").floats, FloatEncoding::Xor, "as upstream, which then refuses to start");
    assert!(features("xor2-encoding,st-storage").stores_start_times);
    assert_eq!(features("xor2-encoding,st-storage").floats, FloatEncoding::Xor2);
    assert!(features("histograms-st-encoding").stores_histogram_starts);
    assert!(features("created-timestamp-zero-ingestion").zero_at_start);
    assert!(features("metadata-wal-records").logs_metadata);
    assert!(features("memory-snapshot-on-shutdown").snapshots_at_close);
}
