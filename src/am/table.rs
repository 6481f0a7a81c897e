//! Columns as wide as their widest cell, over as many lines as have them without a gap.
//!
//! Compat: Go `text/tabwriter`, with a padding of two blanks.

const PADDING: usize = 2;

/// Aligns what the tabs in `text` separate; what follows the last tab of a line belongs to no column.
pub(super) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut table = Table { lines, widths: Vec::new(), out: String::new() };
    let end = table.lines.len();
    table.format(0, end);
    // What follows the last line break is the start of a line that never came.
    table.out.truncate(table.out.len() - 1);
    table.out
}

struct Table<'a> {
    lines: Vec<Vec<&'a str>>,
    /// Of the columns to the left of the one looked at.
    widths: Vec<usize>,
    out: String,
}

impl Table<'_> {
    fn format(&mut self, start: usize, end: usize) {
        let column = self.widths.len();
        let has_column = |line: &Vec<&str>| column + 1 < line.len();
        let mut written = start;
        let mut at = start;
        while at < end {
            if !has_column(&self.lines[at]) {
                at += 1;
                continue;
            }
            self.write(written, at);
            let first = at;
            let mut width = 0;
            while at < end && has_column(&self.lines[at]) {
                width = width.max(self.lines[at][column].chars().count() + PADDING);
                at += 1;
            }
            self.widths.push(width);
            self.format(first, at);
            self.widths.pop();
            written = at;
        }
        self.write(written, end);
    }

    fn write(&mut self, start: usize, end: usize) {
        for line in &self.lines[start..end] {
            for (i, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(i) {
                    let pad = width.saturating_sub(cell.chars().count());
                    self.out.extend(std::iter::repeat_n(' ', pad));
                }
            }
            self.out.push('\n');
        }
    }
}
