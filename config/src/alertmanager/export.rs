//! A configuration without our own keys, for an Alertmanager that would refuse them; and the flags of its tool.
//!
//! Values stay as they are written, secrets included; comments, anchors and the style of quotes do not.

use std::collections::BTreeMap;

use super::kinds::EXTENSIONS;
use crate::Problem;
use crate::yaml::decode::Dialect;
use crate::yaml::emit::print;
use crate::yaml::scalar::{self, Value};
use crate::yaml::tree::{self, Kind};
use crate::yaml::{Decode as _, Decoder, Node, Out};

/// The text without our keys, and which were left out.
///
/// # Errors
/// The text is no YAML.
pub fn export(text: &str) -> Result<(String, Vec<String>), Problem> {
    let document = tree::parse(text).map_err(Problem::from)?;
    let mut dropped = Vec::new();
    let out = document
        .root
        .as_ref()
        .map_or(Out::Map(Vec::new()), |root| convert(root, &mut Vec::new(), &mut dropped));
    Ok((print(&out), dropped))
}

/// A file of flags: texts by name.
///
/// # Errors
/// The text is no YAML, or no mapping of texts.
pub fn flat_map(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut decoder = Decoder::new(Dialect::V2);
    let Some(root) = tree::parse(text).map_err(Problem::from)?.root else { return Ok(BTreeMap::new()) };
    let map = BTreeMap::decode(&mut decoder, &root).map_err(Problem::from)?;
    decoder.finish().map_err(Problem::from)?;
    Ok(map.unwrap_or_default())
}

/// `path` holds the keys that lead here.
fn convert(node: &Node, path: &mut Vec<String>, dropped: &mut Vec<String>) -> Out {
    match &node.kind {
        Kind::List(items) => Out::List(items.iter().map(|item| convert(item, path, dropped)).collect()),
        Kind::Map(entries) => {
            let mut fields = Vec::new();
            for (key, value) in entries {
                let name = key.text().unwrap_or_default().to_owned();
                if is_ours(path, &name) {
                    dropped.push(format!("line {}: {}", key.pos.line, name));
                    continue;
                }
                path.push(name.clone());
                let value = convert(value, path, dropped);
                path.pop();
                fields.push((name, value));
            }
            Out::Map(fields)
        }
        Kind::Scalar(scalar) => match scalar::resolve(scalar) {
            // As they are written: `0777` is an octal number to one reader and a decimal to another.
            Value::Text | Value::Merge => Out::Text(scalar.text.clone()),
            _ if scalar.text.is_empty() => Out::Raw("null".to_owned()),
            _ => Out::Raw(scalar.text.clone()),
        },
    }
}

fn is_ours(path: &[String], name: &str) -> bool {
    let [receivers, emails] = path else { return false };
    receivers == "receivers" && emails == "email_configs" && EXTENSIONS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::export;

    #[test]
    fn our_keys_are_left_out_and_nothing_else_is() {
        let text = "\
global: {smtp_auth_password: 'p: w', smtp_from: a@b, smtp_smarthost: 'c:25'}
route: {receiver: a, group_by: ['...']}
receivers:
- name: a # the only one
  email_configs:
  - {to: x@y, layout: alertmanager, max_alerts: 5, headers: {layout: mine}}
  - to: z@y
    graphs: false
    auth_token_file: t
  webhook_configs:
  - url: http://x/
    max_alerts: 0777
";
        let (out, dropped) = export(text).unwrap();
        assert_eq!(
            out,
            "\
global:
  smtp_auth_password: 'p: w'
  smtp_from: a@b
  smtp_smarthost: c:25
route:
  receiver: a
  group_by:
  - '...'
receivers:
- name: a
  email_configs:
  - to: x@y
    headers:
      layout: mine
  - to: z@y
  webhook_configs:
  - url: http://x/
    max_alerts: 0777
"
        );
        assert_eq!(
            dropped,
            ["line 6: layout", "line 6: max_alerts", "line 8: graphs", "line 9: auth_token_file"]
        );
    }
}
