//! How names of OpenTelemetry become names of metrics, labels and units.
//!
//! Compat: prometheus/otlptranslator 1.0, `MetricNamer`, `LabelNamer`, `UnitNamer`. Where it cuts a suffix and the one
//! character before it, we cut a character, it a byte.

use config::prometheus::otlp::{Otlp, TranslationStrategy};
use model::quote::go_quote;

/// What a name is made of, beside the name itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes by its unit alone.
    Plain,
    Gauge,
    /// A sum that only grows.
    Counter,
}

/// What the configuration wants of names.
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the configuration")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Characters outside the classic ones become underscores.
    pub(super) escapes: bool,
    /// Units and types become suffixes.
    suffixes: bool,
    /// A label that begins with one underscore begins with `key_`.
    underscore_sanitization: bool,
    /// Underscores that follow each other are kept in labels.
    multiple_underscores: bool,
}

impl Names {
    pub(super) fn new(config: &Otlp) -> Self {
        use TranslationStrategy::{
            NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes,
            UnderscoreEscapingWithoutSuffixes,
        };
        let strategy = config.translation_strategy;
        let (escapes, suffixes) = match strategy {
            Some(UnderscoreEscapingWithSuffixes) => (true, true),
            Some(UnderscoreEscapingWithoutSuffixes) => (true, false),
            Some(NoUtf8EscapingWithSuffixes) => (false, true),
            // A section that is null has no strategy, which upstream reads as the last one.
            Some(NoTranslation) | None => (false, false),
        };
        Self {
            escapes,
            suffixes,
            underscore_sanitization: config.label_name_underscore_sanitization,
            multiple_underscores: config.label_name_preserve_multiple_underscores,
        }
    }

    /// The name of a metric.
    pub(super) fn metric(self, name: &str, unit: &str, kind: Kind) -> Result<String, String> {
        let built = match (self.escapes, self.suffixes) {
            (true, true) => escaped_with_suffixes(name, unit, kind),
            (true, false) => not_beginning_with_digit(
                pieces(name, |b| is_name_char(b) || b == b'_').collect::<Vec<_>>().join("_"),
            ),
            (false, true) => with_suffixes(name, unit, kind),
            (false, false) => name.to_owned(),
        };
        let quoted = || go_quote(name.as_bytes());
        if built.is_empty() {
            return Err(format!("normalization for metric {} resulted in empty name", quoted()));
        }
        if self.escapes && built != name && is_underscores(&built) {
            let found = go_quote(built.as_bytes());
            return Err(format!("normalization for metric {} resulted in invalid name {found}", quoted()));
        }
        Ok(built)
    }

    /// The name of a label.
    pub(super) fn label(self, name: &str) -> Result<String, String> {
        if name.is_empty() {
            return Err("label name is empty".to_owned());
        }
        if !self.escapes {
            if is_underscores(name) {
                let quoted = go_quote(name.as_bytes());
                return Err(format!("label name {quoted} contains only underscores"));
            }
            return Ok(name.to_owned());
        }
        let mut built = if self.multiple_underscores {
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
        } else {
            with_single_underscores(name)
        };
        if built.starts_with(|c: char| c.is_ascii_digit()) {
            built.insert_str(0, "key_");
        } else if self.underscore_sanitization && built.starts_with('_') && !built.starts_with("__") {
            built.insert_str(0, "key");
        }
        if is_underscores(&built) {
            let (quoted, found) = (go_quote(name.as_bytes()), go_quote(built.as_bytes()));
            return Err(format!("normalization for label name {quoted} resulted in invalid name {found}"));
        }
        Ok(built)
    }
}

/// The unit that metadata tells, of classic characters only.
pub(super) fn unit(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    joined_unit(&clean_unit(&main), &clean_unit(&per))
}

/// The unit in the label `__unit__`, made of the one that metadata tells.
pub(super) fn unit_label(told: &str, escapes: bool) -> String {
    if escapes {
        return unit(told);
    }
    let (main, per) = unit_suffixes(told);
    joined_unit(&main, &per)
}

fn joined_unit(main: &str, per: &str) -> String {
    let separator = if main.is_empty() || per.is_empty() { "" } else { "_" };
    let joined = format!("{main}{separator}{per}");
    let trimmed = joined.strip_prefix('_').unwrap_or(&joined);
    trimmed.strip_suffix('_').unwrap_or(trimmed).to_owned()
}

const fn is_name_char(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b':'
}

fn is_underscores(name: &str) -> bool {
    name.bytes().all(|b| b == b'_')
}

/// The runs of bytes that may stay, which are ASCII.
fn pieces(name: &str, may_stay: impl Fn(u8) -> bool) -> impl Iterator<Item = &str> {
    name.split(move |c: char| !u8::try_from(c).is_ok_and(&may_stay)).filter(|piece| !piece.is_empty())
}

fn not_beginning_with_digit(mut name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    let mut tokens: Vec<&str> = pieces(name, is_name_char).collect();
    let (main, per) = unit_suffixes(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let (mut main, mut per) = (main.as_str(), per.as_str());
    if tokens.contains(&main) {
        main = "";
    }
    per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(per) };
    if tokens.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    tokens.extend([main, per].into_iter().filter(|suffix| !suffix.is_empty()));
    for suffix in type_suffixes(unit, kind) {
        tokens.retain(|token| *token != suffix);
        tokens.push(suffix);
    }
    not_beginning_with_digit(tokens.join("_"))
}

fn with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    let (main, per) = unit_suffixes(unit);
    // From the outermost in.
    let mut suffixes: Vec<&str> = type_suffixes(unit, kind).rev().collect();
    suffixes.extend(Some(per.as_str()).filter(|per| !per.is_empty()));
    let inner = suffixes.iter().fold(name, |name, suffix| cut_suffix(name, suffix));
    let mut built = inner.to_owned();
    let main = Some(main.as_str()).filter(|main| !main.is_empty() && !inner.ends_with(main));
    for suffix in main.into_iter().chain(suffixes.into_iter().rev()) {
        built.push('_');
        built.push_str(suffix);
    }
    built
}

/// What the type adds, in this order.
fn type_suffixes(unit: &str, kind: Kind) -> impl DoubleEndedIterator<Item = &'static str> {
    let total = (kind == Kind::Counter).then_some("total");
    // Only of gauges: many count things and call the unit 1.
    let ratio = (kind == Kind::Gauge && unit == "1").then_some("ratio");
    total.into_iter().chain(ratio)
}

/// `name` without `suffix` and the character before it, whatever that is, if anything is left then.
fn cut_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix).filter(|rest| rest.len() > 1) else { return name };
    let mut rest = rest.chars();
    rest.next_back();
    rest.as_str()
}

/// What a unit adds to a name: what is measured, and `per_` what.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let named = |text: &str| {
        let text = text.trim();
        // What is in braces is a remark.
        if text.contains(['{', '}']) { String::new() } else { text.to_owned() }
    };
    let (main, per) = (named(main), named(per));
    let per = if per.is_empty() { per } else { format!("per_{}", per_name(&per)) };
    (main_name(&main).to_owned(), per)
}

fn main_name(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_name(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// Classic characters only, no two underscores together and none at the beginning.
fn clean_unit(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars() {
        if u8::try_from(c).is_ok_and(is_name_char) {
            out.push(c);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    if out.starts_with('_') {
        out.remove(0);
    }
    out
}

fn with_single_underscores(name: &str) -> String {
    let reserved = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let mut out = String::with_capacity(name.len());
    let mut is_behind_underscore = false;
    for c in reserved.unwrap_or(name).chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
            is_behind_underscore = false;
        } else if !is_behind_underscore {
            out.push('_');
            is_behind_underscore = true;
        }
    }
    if reserved.is_some() { format!("__{out}__") } else { out }
}

#[cfg(test)]
mod tests {
    use config::prometheus::otlp::TranslationStrategy::{
        NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes,
        UnderscoreEscapingWithoutSuffixes,
    };
    use config::prometheus::otlp::{Otlp, TranslationStrategy};

    use super::*;

    fn names(strategy: TranslationStrategy) -> Names {
        Names::new(&Otlp { translation_strategy: Some(strategy), ..Otlp::default() })
    }

    #[test]
    fn metric_names_by_strategy() {
        use Kind::{Counter, Gauge, Plain};
        // name, unit, kind: escaped with suffixes, escaped, as it is with suffixes.
        let cases = [
            (
                "http.server.duration",
                "s",
                Plain,
                ["http_server_duration_seconds", "http_server_duration", "http.server.duration_seconds"],
            ),
            (
                "http.server.duration",
                "ms",
                Plain,
                [
                    "http_server_duration_milliseconds",
                    "http_server_duration",
                    "http.server.duration_milliseconds",
                ],
            ),
            ("disk.io", "By", Counter, ["disk_io_bytes_total", "disk_io", "disk.io_bytes_total"]),
            ("disk.io.total", "By", Counter, ["disk_io_bytes_total", "disk_io_total", "disk.io_bytes_total"]),
            ("total.disk.io", "", Counter, ["disk_io_total", "total_disk_io", "total.disk.io_total"]),
            (
                "cpu.utilization",
                "1",
                Gauge,
                ["cpu_utilization_ratio", "cpu_utilization", "cpu.utilization_ratio"],
            ),
            ("cpu.utilization", "1", Plain, ["cpu_utilization", "cpu_utilization", "cpu.utilization"]),
            ("cpu.ratio", "1", Gauge, ["cpu_ratio", "cpu_ratio", "cpu_ratio"]),
            ("speed", "m/s", Gauge, ["speed_meters_per_second", "speed", "speed_meters_per_second"]),
            ("speed", "km/h", Gauge, ["speed_km_per_hour", "speed", "speed_km_per_hour"]),
            ("requests", "{request}/s", Gauge, ["requests_per_second", "requests", "requests_per_second"]),
            ("requests", "{request}", Counter, ["requests_total", "requests", "requests_total"]),
            ("load", "%", Gauge, ["load_percent", "load", "load_percent"]),
            ("load.percent", "%", Gauge, ["load_percent", "load_percent", "load.percent"]),
            ("2xx.count", "", Counter, ["_2xx_count_total", "_2xx_count", "2xx.count_total"]),
            ("a__b..c", "", Plain, ["a_b_c", "a__b_c", "a__b..c"]),
            ("_leading", "", Plain, ["leading", "_leading", "_leading"]),
            ("grüße:x", "", Gauge, ["gr_e:x", "gr_e:x", "grüße:x"]),
            ("temp", "°C", Gauge, ["temp_C", "temp", "temp_°C"]),
            ("temp", " Cel ", Gauge, ["temp_celsius", "temp", "temp_celsius"]),
            ("x", "a/b/c", Gauge, ["x_a_per_b_c", "x", "x_a_per_b/c"]),
            ("x", "/s", Gauge, ["x_per_second", "x", "x_per_second"]),
            ("x", "°/°", Gauge, ["x", "x", "x_°_per_°"]),
            ("äétotal", "", Counter, ["total", "total", "ä_total"]),
            ("subtotal", "", Counter, ["subtotal_total", "subtotal", "su_total"]),
        ];
        let strategies =
            [UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUtf8EscapingWithSuffixes];
        for (name, unit, kind, expected) in cases {
            for (strategy, expected) in strategies.into_iter().zip(expected) {
                let found = names(strategy).metric(name, unit, kind);
                assert_eq!(found.as_deref(), Ok(expected), "{name} {unit} {kind:?} {strategy:?}");
            }
            assert_eq!(names(NoTranslation).metric(name, unit, kind).as_deref(), Ok(name));
        }
    }

    #[test]
    fn names_of_nothing_are_refused() {
        let refused = |strategy, name| names(strategy).metric(name, "", Kind::Plain).unwrap_err();
        assert_eq!(
            refused(UnderscoreEscapingWithSuffixes, "ä"),
            "normalization for metric \"ä\" resulted in empty name"
        );
        assert_eq!(
            refused(UnderscoreEscapingWithoutSuffixes, "_.."),
            "normalization for metric \"_..\" resulted in invalid name \"_\""
        );
        assert_eq!(refused(NoTranslation, ""), "normalization for metric \"\" resulted in empty name");
        assert_eq!(
            names(UnderscoreEscapingWithoutSuffixes).metric("__", "", Kind::Plain).as_deref(),
            Ok("__")
        );
    }

    #[test]
    fn label_names() {
        let base = names(UnderscoreEscapingWithSuffixes);
        let single = Names { multiple_underscores: false, ..base };
        let plain = Names { underscore_sanitization: false, ..base };
        let cases = [
            ("http.method", ["http_method", "http_method", "http_method"]),
            ("1st", ["key_1st", "key_1st", "key_1st"]),
            ("_private", ["key_private", "key_private", "_private"]),
            ("__reserved__", ["__reserved__", "__reserved__", "__reserved__"]),
            ("__a..b__", ["__a__b__", "__a_b__", "__a__b__"]),
            ("a..b", ["a__b", "a_b", "a__b"]),
            ("..a", ["__a", "key_a", "__a"]),
            ("é", ["key_", "key_", ""]),
        ];
        for (name, expected) in cases {
            for (names, expected) in [base, single, plain].into_iter().zip(expected) {
                let found = names.label(name);
                if expected.is_empty() {
                    let text = found.unwrap_err();
                    assert!(text.starts_with("normalization for label name \"é\" resulted in"), "{text}");
                } else {
                    assert_eq!(found.as_deref(), Ok(expected), "{name} {names:?}");
                }
            }
        }
        assert_eq!(base.label("").unwrap_err(), "label name is empty");
        assert_eq!(names(NoTranslation).label("a.b é").as_deref(), Ok("a.b é"));
        assert_eq!(
            names(NoTranslation).label("__").unwrap_err(),
            "label name \"__\" contains only underscores"
        );
    }

    #[test]
    fn units_of_metadata() {
        for (told, expected) in [
            ("s", "seconds"),
            ("By/s", "bytes_per_second"),
            ("1", ""),
            ("{x}", ""),
            ("/m", "per_minute"),
            ("°C", "C"),
            ("%", "percent"),
        ] {
            assert_eq!(unit(told), expected, "{told}");
        }
        assert_eq!(unit_label("seconds", true), "seconds");
        assert_eq!(unit_label("seconds", false), "seconds");
    }
}
