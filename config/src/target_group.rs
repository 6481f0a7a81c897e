//! The shape in which every discovery mechanism hands over targets.

use std::collections::BTreeMap;
use std::path::Path;

use model::{Labels, LabelsBuilder};

use crate::prometheus::decode_static_group;
use crate::yaml::decode::Dialect;
use crate::yaml::{Decoder, Issue, tree};
use crate::{Error, Problem};

/// Targets that were found together and share labels.
///
/// Compat: prometheus `discovery/targetgroup`, `Group`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Which part of a mechanism's answer this is; a later group of the same source replaces it.
    pub source: String,
    /// Each with at least `__address__`.
    pub targets: Vec<Labels>,
    /// Labels that every target gets unless it has its own.
    pub labels: Labels,
}

/// The label that says in which file a target was found.
const FILEPATH: &[u8] = b"__meta_filepath";

/// Reads the groups of a discovery file, JSON or YAML by the ending of `path`; both are strict.
/// Each group's source is `path:index`, and its labels gain `__meta_filepath`.
///
/// Compat: prometheus `discovery/file`, `Discovery.readFile`.
///
/// # Errors
/// The text is not a list of groups, or has keys that a group does not have.
pub fn parse_file(path: &Path, text: &str) -> Result<Vec<TargetGroup>, Error> {
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let groups = if is_json { parse_json(text) } else { parse_yaml(text) };
    let mut groups = groups.map_err(|problem| Error::plain(path, problem))?;
    let name = path.to_string_lossy();
    for (i, group) in groups.iter_mut().enumerate() {
        group.source = format!("{name}:{i}");
        let mut labels = LabelsBuilder::from(&group.labels);
        labels.set(FILEPATH, name.as_bytes());
        group.labels = labels.build();
    }
    Ok(groups)
}

fn parse_yaml(text: &str) -> Result<Vec<TargetGroup>, Problem> {
    let mut decoder = Decoder::new(Dialect::V2);
    let mut groups = Vec::new();
    if let Some(root) = tree::parse(text)?.root {
        decoder.items(&root, "[]*targetgroup.Group", &mut |decoder, item| {
            if item.is_null() {
                return Err(Issue::new(item.pos, "nil target group item found"));
            }
            groups.extend(decode_static_group(decoder, item, String::new())?);
            Ok(())
        })?;
    }
    decoder.finish()?;
    Ok(groups)
}

/// A group as JSON has it. Go's decoder takes names of fields in any case and the last of equal ones.
#[derive(Default)]
struct JsonGroup {
    targets: Option<Vec<Option<String>>>,
    labels: Option<BTreeMap<String, Option<String>>>,
}

impl<'de> serde::Deserialize<'de> for JsonGroup {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = JsonGroup;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a target group")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<JsonGroup, A::Error> {
                let mut group = JsonGroup::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name.eq_ignore_ascii_case("targets") {
                        group.targets = map.next_value()?;
                    } else if name.eq_ignore_ascii_case("labels") {
                        group.labels = map.next_value()?;
                    } else {
                        return Err(serde::de::Error::unknown_field(&name, &["targets", "labels"]));
                    }
                }
                Ok(group)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// Reads the groups of a JSON text, as files and HTTP discovery hold them; their sources are empty.
///
/// Compat: prometheus `discovery/targetgroup`, `Group.UnmarshalJSON`.
///
/// # Errors
/// The text is not a list of groups, or has keys that a group does not have.
pub fn parse_json(text: &str) -> Result<Vec<TargetGroup>, Problem> {
    let groups: Option<Vec<Option<JsonGroup>>> = serde_json::from_str(text).map_err(|e| {
        let clip = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Problem { line: clip(e.line()), column: clip(e.column()), message: format!("json: {e}") }
    })?;
    let problem = |message: String| Problem { line: 0, column: 0, message };
    let mut out = Vec::new();
    for group in groups.unwrap_or_default() {
        let group = group.ok_or_else(|| problem("nil target group item found".to_owned()))?;
        let labels = group.labels.unwrap_or_default();
        if let Some(bad) = labels.keys().find(|name| name.is_empty()) {
            return Err(problem(format!("{bad:?} is not a valid label name")));
        }
        let targets = group.targets.unwrap_or_default().into_iter().map(Option::unwrap_or_default);
        out.push(TargetGroup {
            source: String::new(),
            targets: targets.map(|address| Labels::from_pairs([("__address__", address)])).collect(),
            labels: Labels::from_pairs(
                labels.into_iter().map(|(name, value)| (name, value.unwrap_or_default())),
            ),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::{Expect, expect};

    use super::parse_file;

    #[track_caller]
    fn check(path: &str, text: &str, expected: Expect) {
        let shown = match parse_file(Path::new(path), text) {
            Ok(groups) => {
                groups.iter().map(|g| format!("{} {:?} {}\n", g.source, g.targets, g.labels)).collect()
            }
            Err(e) => format!("{e}\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn both_formats() {
        let yaml = "- targets: [a:1, 'b:2']\n  labels: {job: x, n: 5}\n- targets: []\n";
        check(
            "d/f.yml",
            yaml,
            expect![[r#"
            d/f.yml:0 [{__address__="a:1"}, {__address__="b:2"}] {__meta_filepath="d/f.yml", job="x", n="5"}
            d/f.yml:1 [] {__meta_filepath="d/f.yml"}
        "#]],
        );
        let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"job": "x", "n": "5"}}, {"targets": null}]"#;
        check(
            "d/f.JSON",
            json,
            expect![[r#"
            d/f.JSON:0 [{__address__="a:1"}, {__address__="b:2"}] {__meta_filepath="d/f.JSON", job="x", n="5"}
            d/f.JSON:1 [] {__meta_filepath="d/f.JSON"}
        "#]],
        );
        check("f.yml", "", expect![[""]]);
        check("f.json", "null", expect![[""]]);
        let folded = r#"[{"TARGETS": ["a:1"], "targets": ["b:1"], "Labels": {"x": null, "y": "z"}}]"#;
        check(
            "f.json",
            folded,
            expect![[r#"
            f.json:0 [{__address__="b:1"}] {__meta_filepath="f.json", y="z"}
        "#]],
        );
    }

    #[test]
    fn strict() {
        check(
            "f.yml",
            "- targats: [x]\n",
            expect![[r#"
            f.yml:1:3: yaml: unmarshal errors:
              line 1: field targats not found in type struct { Targets []string "yaml:\"targets\""; Labels model.LabelSet "yaml:\"labels\"" }
        "#]],
        );
        check(
            "f.yml",
            "- targets: x\n",
            expect![[r#"
            f.yml:1:12: yaml: unmarshal errors:
              line 1: cannot unmarshal !!str `x` into []string
        "#]],
        );
        check(
            "f.yml",
            "- targets: [x]\n-\n",
            expect![[r#"
            f.yml:2:2: nil target group item found
        "#]],
        );
        check(
            "f.yml",
            "targets: [x]\n",
            expect![[r#"
            f.yml:1:1: yaml: unmarshal errors:
              line 1: cannot unmarshal !!map into []*targetgroup.Group
        "#]],
        );
        check(
            "f.yml",
            "- labels: {\"\": x}\n",
            expect![[r#"
            f.yml:1:12: "" is not a valid label name
        "#]],
        );
        check(
            "f.json",
            r#"[{"targats": []}]"#,
            expect![[r#"
            f.json:1:11: json: unknown field `targats`, expected `targets` or `labels` at line 1 column 11
        "#]],
        );
        check(
            "f.json",
            r#"[null]"#,
            expect![[r#"
                f.json: nil target group item found
            "#]],
        );
        check(
            "f.json",
            r#"{}"#,
            expect![[r#"
            f.json:1:0: json: invalid type: map, expected a sequence at line 1 column 0
        "#]],
        );
    }
}
