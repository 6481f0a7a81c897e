//! An expression as the pieces it is written from, so that one that shows a difference can be made smaller by leaving
//! out pieces, whatever they mean.

/// What a piece of an expression evaluates to, as far as the generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Vector,
    Matrix,
    Text,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// May be left out.
    Optional(String),
    Child(Expr),
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: Kind,
    /// Whether it can stand beside an operator or before brackets as it is.
    pub(crate) is_tight: bool,
    parts: Vec<Part>,
}

/// Stands for white space that may be something else.
const GAP: char = '\u{b7}';

impl Expr {
    /// Takes a template apart: `§` stands for the next child, `⟦ ⟧` enclose what may be left out, `·` is a gap.
    pub(crate) fn new(kind: Kind, template: &str, children: impl IntoIterator<Item = Self>) -> Self {
        let mut children = children.into_iter();
        let mut parts = Vec::new();
        let mut text = String::new();
        for c in template.chars() {
            match c {
                '§' | '⟦' | '⟧' => {
                    let piece = std::mem::take(&mut text);
                    if !piece.is_empty() {
                        parts.push(if c == '⟧' { Part::Optional(piece) } else { Part::Text(piece) });
                    }
                    if c == '§' {
                        parts.push(Part::Child(children.next().expect("a child for each place")));
                    }
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        assert!(children.next().is_none(), "{template} has no place for a child");
        Self { kind, is_tight: true, parts }
    }

    /// That which needs parentheses beside operators.
    pub(crate) fn loose(kind: Kind, template: &str, children: impl IntoIterator<Item = Self>) -> Self {
        Self { is_tight: false, ..Self::new(kind, template, children) }
    }

    pub(crate) fn leaf(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, is_tight: true, parts: vec![Part::Text(text.into())] }
    }

    /// In parentheses unless it is tight.
    pub(crate) fn tight(self) -> Self {
        if self.is_tight { self } else { Self::new(self.kind, "(§)", [self]) }
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out.replace(GAP, " ")
    }

    /// As [`Expr::text`], with gaps as somebody might write them who likes long queries.
    pub(crate) fn dressed(&self, rng: &mut fastrand::Rng) -> String {
        let mut out = String::new();
        self.write(&mut out);
        let mut dressed = String::with_capacity(out.len());
        for c in out.chars() {
            if c == GAP {
                dressed.push_str(rng.choice([" ", " ", "\n", "  ", "\t", "\n  # é\n\t"]).expect("a choice"));
            } else {
                dressed.push(c);
            }
        }
        dressed
    }

    fn write(&self, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) | Part::Optional(text) => out.push_str(text),
                Part::Child(child) => child.write(out),
            }
        }
    }

    /// All that are smaller by one step and of the same kind, the much smaller ones first.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        self.collect(self.kind, &mut found);
        for (i, part) in self.parts.iter().enumerate() {
            match part {
                Part::Optional(_) => {
                    let mut without = self.clone();
                    without.parts.remove(i);
                    found.push(without);
                }
                Part::Child(child) => found.extend(child.smaller().into_iter().map(|smaller| {
                    let mut with = self.clone();
                    let smaller = if child.is_tight { smaller.tight() } else { smaller };
                    with.parts[i] = Part::Child(smaller);
                    with
                })),
                Part::Text(_) => {}
            }
        }
        found
    }

    /// The outermost expressions of a kind below this one.
    fn collect(&self, kind: Kind, found: &mut Vec<Self>) {
        for part in &self.parts {
            if let Part::Child(child) = part {
                if child.kind == kind {
                    found.push(child.clone());
                } else {
                    child.collect(kind, found);
                }
            }
        }
    }
}
