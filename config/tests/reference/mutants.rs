//! Configurations that may or may not be valid: good ones with a few lines changed.

use super::{Source, indent};

/// Xorshift: the same numbers everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &'a [&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// Scalars and small collections of every type, and what only looks like them.
const VALUES: [&str; 60] = [
    "",
    "null",
    "~",
    "Null",
    "''",
    "\"\"",
    "[]",
    "{}",
    "[a]",
    "[[a]]",
    "[null]",
    "[~, a]",
    "{a: b}",
    "{a: [b]}",
    "5",
    "-1",
    "0",
    "0777",
    "0x1f",
    "1_000",
    "1.5",
    "-0.5",
    "1e3",
    ".inf",
    ".nan",
    "1e400",
    "18446744073709551615",
    "99999999999999999999",
    "yes",
    "no",
    "on",
    "True",
    "y",
    "1x",
    "1s",
    "1m30s",
    "1h1h",
    "0s",
    "-5s",
    "1d",
    "90",
    "1.5h",
    "10MB",
    "10",
    "1KiB",
    "-1KB",
    "'",
    "\"\\xff\"",
    "!!binary /w==",
    "!!str 5",
    "!!int x",
    "a/b",
    "http://x",
    "http://u:p@x",
    "http://[",
    "$1",
    "(",
    "*nope",
    "TLS13",
    "2020-01-01",
];

/// Keys that stand somewhere in a configuration, most of them in the wrong place.
const KEYS: [&str; 24] = [
    "job_name",
    "url",
    "static_configs",
    "targets",
    "labels",
    "basic_auth",
    "username",
    "password_file",
    "authorization",
    "tls_config",
    "ca",
    "key",
    "proxy_url",
    "no_proxy",
    "http_headers",
    "oauth2",
    "relabel_configs",
    "regex",
    "action",
    "target_label",
    "scrape_timeout",
    "scrape_protocols",
    "queue_config",
    "nope",
];

/// One text with one change, seldom with more.
pub(crate) fn mutant(sources: &[Source], random: &mut Random) -> String {
    let source = &sources[random.below(sources.len())];
    let mut lines: Vec<String> = source.text.lines().map(str::to_owned).collect();
    for _ in 0..*random.pick(&[&1, &1, &1, &2, &3]) {
        change(&mut lines, sources, random);
    }
    lines.join("\n") + "\n"
}

fn change(lines: &mut Vec<String>, sources: &[Source], random: &mut Random) {
    let written: Vec<usize> = (0..lines.len())
        .filter(|&i| !lines[i].trim().is_empty() && !lines[i].trim_start().starts_with('#'))
        .collect();
    if written.is_empty() {
        return lines.push("global:".to_owned());
    }
    let at = written[random.below(written.len())];
    let block = at..end_of_block(lines, at);
    match random.below(19) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at].insert_str(0, "  "),
        3 => drop(lines.drain(block)),
        4 => {
            let copy = lines[block.clone()].to_vec();
            drop(lines.splice(block.end..block.end, copy));
        }
        5 => lines[at] = with_key(&lines[at], random.pick(&KEYS)),
        6 => lines[at] = lines[at].replacen(':', "x:", 1),
        7 => {
            // The whole block becomes one value.
            let key = lines[at].split_once(':').map_or(lines[at].clone(), |(key, _)| format!("{key}:"));
            drop(lines.splice(block, [format!("{key} {}", random.pick(&VALUES))]));
        }
        8 | 15..=18 => {
            // A value from elsewhere, of the same key if there is one.
            let key = |line: &str| {
                line.split(':').next().unwrap_or_default().trim_start_matches([' ', '-']).to_owned()
            };
            let wanted = key(&lines[at]);
            let others = (0..50).map(|_| other_line(sources, random)).collect::<Vec<_>>();
            let same = others.iter().find(|line| key(line) == wanted && **line != lines[at]);
            if let Some((_, value)) = same.unwrap_or(&others[0]).split_once(": ") {
                lines[at] = with_value(&lines[at], value);
            }
        }
        9 => {
            // A block from elsewhere, at the depth of this one.
            let other = &sources[random.below(sources.len())];
            let theirs: Vec<String> = other.text.lines().map(str::to_owned).collect();
            if theirs.is_empty() {
                return;
            }
            let from = random.below(theirs.len());
            let taken = &theirs[from..end_of_block(&theirs, from)];
            let (here, there) = (indent(&lines[at]), indent(&theirs[from]));
            let moved: Vec<String> = taken
                .iter()
                .map(|line| {
                    format!("{}{}", " ".repeat(here), line.get(there.min(line.len())..).unwrap_or_default())
                })
                .collect();
            drop(lines.splice(at..at, moved));
        }
        10 => {
            let depth = indent(&lines[at]);
            lines[at].insert_str(depth, "- ");
        }
        11 => {
            let body = lines[at].trim_start().to_owned();
            if let Some(body) = body.strip_prefix("- ") {
                lines[at] = format!("{}  {body}", " ".repeat(indent(&lines[at])));
            }
        }
        12 => {
            let copy = with_value(&lines[at], random.pick(&VALUES));
            lines.insert(at + 1, copy.replacen("- ", "  ", 1));
        }
        _ => lines[at] = with_value(&lines[at], random.pick(&VALUES)),
    }
}

/// Behind the line and all that is deeper, or as deep and in a list.
fn end_of_block(lines: &[String], at: usize) -> usize {
    let depth = indent(&lines[at]);
    let is_item = lines[at].trim_start().starts_with("- ");
    let inside = |line: &String| {
        line.trim().is_empty()
            || indent(line) > depth
            || (indent(line) == depth && !is_item && line.trim_start().starts_with("- "))
    };
    at + 1 + lines[at + 1..].iter().take_while(|line| inside(line)).count()
}

fn other_line(sources: &[Source], random: &mut Random) -> String {
    let text = &sources[random.below(sources.len())].text;
    text.lines().nth(random.below(text.lines().count())).unwrap_or_default().to_owned()
}

fn with_value(line: &str, value: &str) -> String {
    match line.split_once(':') {
        Some((key, _)) => format!("{key}: {value}"),
        None => match line.split_once("- ") {
            Some((start, _)) => format!("{start}- {value}"),
            None => format!("{}{value}", " ".repeat(indent(line))),
        },
    }
}

fn with_key(line: &str, key: &str) -> String {
    let dash = if line.trim_start().starts_with("- ") { "- " } else { "" };
    let value = line.split_once(':').map_or("", |(_, value)| value);
    format!("{}{dash}{key}:{value}", " ".repeat(indent(line)))
}
