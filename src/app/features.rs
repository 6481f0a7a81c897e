//! What this server can do and what of it is switched on, told by those who do it: the parser is asked, tables are read.
//!
//! Compat: prometheus `util/features`: the same categories and names.

use std::collections::BTreeMap;

use promql::parse::ast::{AggregateOp, BinaryOp};
use promql::parse::functions::FUNCTIONS;
use promql::parse::{Options, Parser};
use web::view::running::Features;

use crate::cli::flags::Flags;
use crate::discovery;

/// Parts of the language, each with an expression that only parses where it is there and on.
const LANGUAGE: [(&str, &str); 17] = [
    ("anchored", "rate(a[5m] anchored)"),
    ("at_modifier", "a @ 1"),
    ("bool", "a == bool 1"),
    ("by", "sum by (b) (a)"),
    ("duration_expr", "a[5m * 2]"),
    ("fill", "a + fill(0) b"),
    ("fill_left", "a + fill_left(0) b"),
    ("fill_right", "a + fill_right(0) b"),
    ("group_left", "a * on (b) group_left c"),
    ("group_right", "a * on (b) group_right c"),
    ("ignoring", "a * ignoring (b) c"),
    ("negative_offset", "a offset -5m"),
    ("offset", "a offset 5m"),
    ("on", "a * on (b) c"),
    ("smoothed", "rate(a[5m] smoothed)"),
    ("subqueries", "a[5m:1m]"),
    ("without", "sum without (b) (a)"),
];

/// Operators that stand in selectors.
const IN_SELECTORS: [(&str, &str); 3] = [("=~", "a{b=~'c'}"), ("!~", "a{b!~'c'}"), ("@", "a @ 1")];

pub(super) fn features(flags: &Flags, parser: Options) -> Features {
    let on = |name: &str| flags.is_on(name);
    Features::from([
        ("api", api(flags)),
        (
            "otlp_receiver",
            named([
                ("delta_conversion", on("otlp-deltatocumulative")),
                ("native_delta_ingestion", on("otlp-native-delta-ingestion")),
            ]),
        ),
        (
            "prometheus",
            named([
                ("agent_mode", false),
                ("auto_reload_config", flags.auto_reload.is_some()),
                ("server_mode", true),
                // A build of upstream's that packs the labels of a series into one text, as ours are.
                ("stringlabels", true),
            ]),
        ),
        ("promql", language(flags, parser)),
        (
            "promql_functions",
            FUNCTIONS
                .iter()
                .map(|f| (f.name.to_owned(), parser.experimental_functions || !f.experimental))
                .collect(),
        ),
        ("promql_operators", operators(parser)),
        (
            "rules",
            named([
                ("concurrent_rule_eval", on("concurrent-rule-eval")),
                ("keep_firing_for", true),
                ("query_offset", true),
            ]),
        ),
        (
            "scrape",
            named([
                // Of a job; the feature flag only makes it the default.
                ("extra_scrape_metrics", true),
                ("start_timestamp_zero_ingestion", on("created-timestamp-zero-ingestion")),
                ("type_and_unit_labels", on("type-and-unit-labels")),
            ]),
        ),
        ("service_discovery_providers", mechanisms()),
        (
            "templating_functions",
            config::template::alert::FUNCTIONS.iter().map(|name| ((*name).to_owned(), true)).collect(),
        ),
        (
            "tsdb",
            named([
                ("delayed_compaction", on("delayed-compaction")),
                ("exemplar_storage", on("exemplar-storage")),
                ("histograms_st_encoding", on("histograms-st-encoding")),
                ("isolation", true),
                ("native_histograms", true),
                ("st_storage", on("st-storage")),
                ("use_uncached_io", on("use-uncached-io")),
                ("xor2_encoding", on("xor2-encoding")),
            ]),
        ),
        ("ui", named([("ui_v2", false), ("ui_v3", true)])),
    ])
}

fn named<const N: usize>(features: [(&str, bool); N]) -> BTreeMap<String, bool> {
    features.into_iter().map(|(name, is_on)| (name.to_owned(), is_on)).collect()
}

fn api(flags: &Flags) -> BTreeMap<String, bool> {
    named([
        ("admin", flags.web.enable_admin),
        ("exclude_alerts", true),
        ("label_values_match", true),
        ("lifecycle", flags.web.enable_lifecycle),
        ("openapi_3.1", true),
        ("openapi_3.2", true),
        ("otlp_write_receiver", flags.is_set_to_true("web.enable-otlp-receiver")),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", flags.is_set_to_true("web.enable-remote-write-receiver")),
        ("search", flags.web.enable_search),
        ("search_fuzz_alg_jarowinkler", true),
        ("search_fuzz_alg_subsequence", true),
        ("time_range_labels", true),
        ("time_range_series", true),
    ])
}

fn language(flags: &Flags, parser: Options) -> BTreeMap<String, bool> {
    let parser = Parser::new(parser);
    let parses = |text: &str| parser.parse(text).is_ok();
    let mut features: BTreeMap<_, _> =
        LANGUAGE.iter().map(|(name, text)| ((*name).to_owned(), parses(text))).collect();
    features.extend(named([
        ("delayed_name_removal", flags.is_on("promql-delayed-name-removal")),
        ("per_query_lookback_delta", true),
        ("per_step_stats", flags.is_on("promql-per-step-stats")),
        ("type_and_unit_labels", flags.is_on("type-and-unit-labels")),
    ]));
    features
}

fn operators(parser: Options) -> BTreeMap<String, bool> {
    let binary = BinaryOp::ALL.map(|op| (op.as_str(), true));
    let aggregate =
        AggregateOp::ALL.map(|op| (op.as_str(), parser.experimental_functions || !op.is_experimental()));
    let parser = Parser::new(parser);
    let in_selectors = IN_SELECTORS.map(|(name, text)| (name, parser.parse(text).is_ok()));
    let all = binary.into_iter().chain(aggregate).chain(in_selectors);
    all.map(|(name, is_on)| (name.to_owned(), is_on)).collect()
}

/// Those that are only checked find nothing, so they count as missing.
fn mechanisms() -> BTreeMap<String, bool> {
    let known = config::prometheus::other_mechanisms().map(|name| (name.to_owned(), false));
    known.chain(discovery::MECHANISMS.iter().map(|name| ((*name).to_owned(), true))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::features;
    use crate::cli::flags::{Flags, Values};

    fn of(args: &[&str]) -> super::Features {
        let args = ["ferula"].iter().chain(args).map(std::ffi::OsString::from);
        let flags = Flags::resolve(&Values::parse(args).unwrap()).unwrap();
        features(&flags, crate::app::parser(&flags))
    }

    #[test]
    fn flags_switch_features_on() {
        let (plain, all) = (
            of(&[]),
            of(&[
                "--enable-feature=promql-experimental-functions,promql-extended-range-selectors,exemplar-storage",
                "--enable-feature=promql-binop-fill-modifiers,xor2-encoding,no-such-thing",
                "--web.enable-admin-api",
            ]),
        );
        for (category, name) in [
            ("promql", "anchored"),
            ("promql", "smoothed"),
            ("promql", "fill"),
            ("promql", "fill_left"),
            ("promql", "fill_right"),
            ("promql_functions", "limitk"),
            ("promql_functions", "info"),
            ("promql_operators", "limitk"),
            ("promql_operators", "limit_ratio"),
            ("tsdb", "exemplar_storage"),
            ("tsdb", "xor2_encoding"),
            ("api", "admin"),
        ] {
            if (category, name) == ("promql_functions", "limitk") {
                assert!(!all[category].contains_key(name), "an operator is no function");
                continue;
            }
            assert_eq!((plain[category][name], all[category][name]), (false, true), "{category} {name}");
        }
        for (name, is_on) in &plain["promql"] {
            let is_optional = ["fill", "anchored", "smoothed", "per_step", "delayed", "type_and"];
            let is_optional = is_optional.iter().any(|start| name.starts_with(start));
            assert_eq!(*is_on, !is_optional, "{name}");
        }
        let mechanisms: BTreeMap<_, _> = plain["service_discovery_providers"].clone();
        assert!(mechanisms["static"] && mechanisms["file"] && !mechanisms["ec2"]);
    }
}
