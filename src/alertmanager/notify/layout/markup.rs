//! The little markup that annotations may have: `**bold**`, `` `code` ``, `[text](link)`, bare links, lists.
//!
//! A text without any of it comes out as it is. Links that are not HTTP stay text.

use super::words;

/// A line of text, or of a list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Line {
    pub(super) is_item: bool,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Bold(String),
    Code(String),
    Link { text: String, url: String },
}

/// Blank lines are lines without parts; there are never two of them.
pub(super) fn parse(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let item = line.strip_prefix("- ").or_else(|| line.strip_prefix("* "));
        let parsed = Line { is_item: item.is_some(), parts: inline(item.unwrap_or(line)) };
        let is_second_blank =
            parsed.parts.is_empty() && lines.last().is_none_or(|last| last.parts.is_empty());
        if !is_second_blank {
            lines.push(parsed);
        }
    }
    while lines.last().is_some_and(|last| last.parts.is_empty()) {
        lines.pop();
    }
    lines
}

fn inline(line: &str) -> Vec<Part> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), line);
    while let Some(c) = rest.chars().next() {
        let found = match c {
            '*' => enclosed(rest, "**").map(|(text, rest)| (Part::Bold(text), rest)),
            '`' => enclosed(rest, "`").map(|(text, rest)| (Part::Code(text), rest)),
            '[' => named_link(rest),
            'h' if !plain.ends_with(|c: char| c.is_alphanumeric()) => bare_link(rest),
            _ => None,
        };
        if let Some((part, after)) = found {
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
            rest = after;
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

fn enclosed<'t>(text: &'t str, mark: &str) -> Option<(String, &'t str)> {
    let inside = text.strip_prefix(mark)?;
    let (inside, rest) = inside.split_once(mark)?;
    let is_text = !inside.trim().is_empty() && !inside.starts_with(' ') && !inside.ends_with(' ');
    is_text.then(|| (inside.to_owned(), rest))
}

fn named_link(text: &str) -> Option<(Part, &str)> {
    let (name, rest) = text.strip_prefix('[')?.split_once("](")?;
    let (url, rest) = rest.split_once(')')?;
    if name.is_empty() || name.contains('[') {
        return None;
    }
    Some((Part::Link { text: name.to_owned(), url: words::link(url)? }, rest))
}

fn bare_link(text: &str) -> Option<(Part, &str)> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return None;
    }
    let is_end = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '`');
    let end = text.find(is_end).unwrap_or(text.len());
    // What ends a sentence does not belong to a link, nor does the bracket around one.
    let mut link = text[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', '\'']);
    if link.ends_with(')') && !link.contains('(') {
        link = &link[..link.len() - 1];
    }
    let url = words::link(link)?;
    Some((Part::Link { text: link.to_owned(), url }, &text[link.len()..]))
}

/// The text without its markup; links behind their names.
pub(super) fn plain(line: &Line) -> String {
    let mut out = String::new();
    for part in &line.parts {
        match part {
            Part::Text(text) | Part::Bold(text) => out.push_str(text),
            Part::Code(text) => {
                out.push('`');
                out.push_str(text);
                out.push('`');
            }
            Part::Link { text, url } if text == url || format!("{text}/") == *url => out.push_str(text),
            Part::Link { text, url } => {
                out.push_str(text);
                out.push_str(" <");
                out.push_str(url);
                out.push('>');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Line, Part, parse, plain};

    fn parts(text: &str) -> Vec<Part> {
        let lines = parse(text);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap().parts
    }

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn marks_become_parts() {
        assert_eq!(
            parts("a **b** `c` [d](https://e/f) g"),
            [
                text("a "),
                Part::Bold("b".to_owned()),
                text(" "),
                Part::Code("c".to_owned()),
                text(" "),
                Part::Link { text: "d".to_owned(), url: "https://e/f".to_owned() },
                text(" g"),
            ]
        );
        let linked = parts("see (https://e/f?x=1&y=2).");
        assert_eq!(
            linked[1],
            Part::Link { text: "https://e/f?x=1&y=2".to_owned(), url: "https://e/f?x=1&y=2".to_owned() }
        );
        assert_eq!(linked[2], text(")."));
    }

    #[test]
    fn what_is_no_markup_stays() {
        for same in [
            "2 * 3 * 4",
            "a ** b ** c",
            "`",
            "[x](javascript:alert(1))",
            "[x](ftp://y)",
            "xhttp://y",
            "http://",
            "**",
            "<b>x</b>",
        ] {
            assert_eq!(parts(same), [text(same)]);
        }
        assert_eq!(parts("https://user:pass@evil/"), [text("https://user:pass@evil/")]);
    }

    #[test]
    fn lines_and_items_stay_apart() {
        let lines = parse("a\n\n\n- b\n* c\n\n");
        let shown: Vec<_> = lines.iter().map(|line: &Line| (line.is_item, plain(line))).collect();
        assert_eq!(
            shown,
            [(false, "a".to_owned()), (false, String::new()), (true, "b".to_owned()), (true, "c".to_owned())]
        );
    }
}
