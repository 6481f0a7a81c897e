//! The mail as plain text, at most 78 columns wide but for links, which must not be broken.

use super::markup::{self, Line};
use super::page::{Link, Page, Row, Table};

pub(super) const WIDTH: usize = 78;
const NAME_WIDTH: usize = 15;

/// The text part.
pub(super) fn write(page: &Page) -> String {
    let mut out = Out::default();
    let severity = page.severity.as_ref().map(|severity| format!(" [{severity}]")).unwrap_or_default();
    out.wrapped("", "", &format!("{}: {}{severity}", page.status.to_uppercase(), page.name));
    out.wrapped("", "", &page.scope.iter().map(pair).collect::<Vec<_>>().join(" "));
    out.line(&"=".repeat(WIDTH));
    if page.is_over && !page.summary.is_empty() {
        out.line("What it said while it fired:");
    }
    out.lines(&page.summary);
    if let Some(others) = &page.others {
        out.wrapped("", "", &format!("({others})"));
    }
    if !page.description.is_empty() {
        out.blank();
        out.lines(&page.description);
    }
    for notice in &page.notices {
        out.blank();
        out.wrapped("! ", "  ", notice);
    }
    out.blank();
    for fact in &page.facts {
        let note = if fact.note.is_empty() { String::new() } else { format!(" ({})", fact.note) };
        out.named(fact.name, &format!("{}{note}", fact.value));
    }
    graphs(&mut out, page);
    links(&mut out, page);
    table(&mut out, &format!("Firing ({})", count(&page.firing)), &page.firing, page.all_alerts.as_deref());
    table(&mut out, "Resolved", &page.resolved, None);
    section(&mut out, "Labels", !page.labels.is_empty());
    for (name, value) in &page.labels {
        out.named(name, value);
    }
    section(&mut out, "Annotations", !page.annotations.is_empty());
    for (name, lines) in &page.annotations {
        out.named(name, &lines.iter().map(markup::plain).collect::<Vec<_>>().join(" "));
    }
    if let Some(history) = &page.history {
        out.blank();
        out.wrapped("", "", history);
    }
    section(&mut out, "Also firing", !page.related.is_empty());
    for related in &page.related {
        out.wrapped("- ", "  ", &format!("{} {}, {}", related.name, related.shared, related.since));
    }
    out.blank();
    // What readers know as the mark of a signature.
    out.line("-- ");
    for (name, value) in &page.footer {
        out.wrapped("", "  ", &format!("{name}: {value}"));
    }
    if let Some(url) = &page.all_alerts {
        out.line("All alerts of this receiver:");
        out.line(&format!("  {url}"));
    }
    out.wrapped("", "", &page.sender);
    out.text
}

fn count(table: &Table) -> String {
    match &table.rest {
        None => table.rows.len().to_string(),
        Some(_) => format!("the first {}", table.rows.len()),
    }
}

fn pair((name, value): &(String, String)) -> String {
    format!("{name}={value}")
}

fn section(out: &mut Out, title: &str, is_there: bool) {
    if is_there {
        out.blank();
        out.line(title);
        out.line(&"-".repeat(title.chars().count()));
    }
}

fn graphs(out: &mut Out, page: &Page) {
    for graph in &page.graphs {
        out.blank();
        out.wrapped("", "  ", &graph.alt);
        if !graph.spark.is_empty() {
            out.line(&format!("  {}", graph.spark));
        }
    }
}

fn links(out: &mut Out, page: &Page) {
    let mut all = |title: &str, links: &[Link]| {
        for link in links {
            out.blank_once();
            out.line(&format!("{title}{}:", link.text));
            out.line(&format!("  {}", link.url));
        }
    };
    all("", &page.links);
    // Links that are signed are long: one of them, and the form that has all choices.
    let (first, last) = (page.silences.first(), page.silences.last());
    let silences: Vec<_> =
        first.into_iter().chain(last.filter(|_| page.silences.len() > 1)).cloned().collect();
    all("Silence ", &silences);
}

fn table(out: &mut Out, title: &str, table: &Table, more: Option<&str>) {
    section(out, title, !table.rows.is_empty() || table.rest.is_some());
    for row in &table.rows {
        self::row(out, row);
    }
    if let Some(rest) = &table.rest {
        out.wrapped("", "  ", rest);
        if let Some(url) = more {
            out.line(&format!("  {url}"));
        }
    }
}

fn row(out: &mut Out, row: &Row) {
    out.wrapped("- ", "  ", &row.labels.iter().map(pair).collect::<Vec<_>>().join(" "));
    let value = if row.value.is_empty() { String::new() } else { format!("{}, ", row.value) };
    let spark = if row.spark.is_empty() { String::new() } else { format!("  {}", row.spark) };
    out.wrapped("  ", "  ", &format!("{value}{}{spark}", row.note));
}

/// Lines of text that are not too long.
#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end_matches(|c| c == ' ' && line != "-- "));
        self.text.push('\n');
    }

    /// An empty line, never two, never at the top.
    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// An empty line before the first of several blocks of two lines.
    fn blank_once(&mut self) {
        let is_block = self.text.rsplit('\n').nth(1).is_some_and(|last| last.starts_with("  http"));
        if !is_block {
            self.blank();
        }
    }

    fn named(&mut self, name: &str, value: &str) {
        let gap = " ".repeat(NAME_WIDTH.saturating_sub(width(name)));
        self.wrapped(&format!("  {name}{gap} "), &" ".repeat(NAME_WIDTH + 3), value);
    }

    fn lines(&mut self, lines: &[Line]) {
        for line in lines {
            if line.parts.is_empty() {
                self.blank();
            } else if line.is_item {
                self.wrapped("- ", "  ", &markup::plain(line));
            } else {
                self.wrapped("", "", &markup::plain(line));
            }
        }
    }

    /// Words between margins; a word that is too long for a line is broken unless it is a link.
    fn wrapped(&mut self, first: &str, other: &str, text: &str) {
        let mut line = first.to_owned();
        let mut is_empty = true;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let needs = usize::from(!is_empty) + width(word);
            if !is_empty && width(&line) + needs > WIDTH {
                self.line(&line);
                other.clone_into(&mut line);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            let is_link = word.trim_start_matches(['<', '(']).starts_with("http");
            if is_link && width(&line) + width(word) > WIDTH && !line.trim().is_empty() {
                self.line(&line);
                other.clone_into(&mut line);
            }
            for c in word.chars() {
                if !is_link && width(&line) + width_of(c) > WIDTH {
                    self.line(&line);
                    other.clone_into(&mut line);
                }
                line.push(c);
            }
            is_empty = false;
        }
        if !is_empty {
            self.line(&line);
        }
    }
}

/// Columns that a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

const fn width_of(c: char) -> usize {
    match c {
        // Marks that stand on other characters, joiners and variants.
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        // East Asian scripts and pictures.
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}
