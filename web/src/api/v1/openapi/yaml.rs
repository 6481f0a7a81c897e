//! A tree as YAML. Texts are quoted as JSON does, which is YAML as well, so that none reads as anything else.

use std::fmt::Write as _;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    Number(usize),
    Flag(bool),
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Node {
    pub(crate) fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    /// Writes a block whose first line is indented already.
    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Map(fields) if fields.is_empty() => out.push_str("{}\n"),
            Self::List(items) if items.is_empty() => out.push_str("[]\n"),
            Self::Map(fields) => {
                for (i, (key, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        indent(out, depth);
                    }
                    let _ = write!(out, "{}:", scalar(key));
                    value.write_below(out, depth + 1);
                }
            }
            Self::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        indent(out, depth);
                    }
                    out.push_str("- ");
                    item.write(out, depth + 1);
                }
            }
            Self::Text(text) => {
                let _ = writeln!(out, "{}", quoted(text));
            }
            Self::Number(n) => {
                let _ = writeln!(out, "{n}");
            }
            Self::Flag(flag) => {
                let _ = writeln!(out, "{flag}");
            }
        }
    }

    /// Writes what stands behind a key.
    fn write_below(&self, out: &mut String, depth: usize) {
        let is_block = match self {
            Self::Map(fields) => !fields.is_empty(),
            Self::List(items) => !items.is_empty(),
            _ => false,
        };
        if is_block {
            out.push('\n');
            indent(out, depth);
        } else {
            out.push(' ');
        }
        self.write(out, depth);
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// A key: bare where nothing can be misread.
fn scalar(key: &str) -> String {
    let is_plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '$')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "/_-$+.".contains(c));
    if is_plain { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn blocks_are_indented_and_texts_quoted() {
        let fields = vec![
            ("a".to_owned(), "x: \"y\"".into()),
            (
                "200".to_owned(),
                Node::List(vec![Node::Map(vec![("b".to_owned(), Node::Number(1))]), Node::Flag(true)]),
            ),
            ("none".to_owned(), Node::List(Vec::new())),
        ];
        let text = Node::Map(fields).to_yaml();
        assert_eq!(text, "a: \"x: \\\"y\\\"\"\n\"200\":\n  - b: 1\n  - true\nnone: []\n");
    }
}
