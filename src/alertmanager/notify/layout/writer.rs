//! HTML, written node by node: what is text stays text, and every node that opens closes.

/// A document that grows.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

/// An attribute; its value is escaped.
pub(super) type Attribute<'a> = (&'static str, &'a str);

impl Html {
    /// A node with what `inside` writes into it.
    pub(super) fn node(
        &mut self,
        tag: &'static str,
        attributes: &[Attribute<'_>],
        inside: impl FnOnce(&mut Self),
    ) {
        self.open(tag, attributes);
        inside(self);
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
        // Lines of their own keep the source readable where that changes nothing.
        if matches!(tag, "table" | "tr" | "td" | "head" | "body" | "html" | "style" | "title" | "div" | "p") {
            self.out.push('\n');
        }
    }

    /// A node that holds nothing.
    pub(super) fn void(&mut self, tag: &'static str, attributes: &[Attribute<'_>]) {
        self.open(tag, attributes);
    }

    /// A node that holds a text.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: &[Attribute<'_>], text: &str) {
        self.node(tag, attributes, |html| html.text(text));
    }

    pub(super) fn text(&mut self, text: &str) {
        escape(&mut self.out, text);
    }

    /// A part of the document that is ours to the letter.
    pub(super) fn raw(&mut self, ours: &'static str) {
        self.out.push_str(ours);
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    fn open(&mut self, tag: &'static str, attributes: &[Attribute<'_>]) {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
    }
}

/// All that could end a text or an attribute.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\0' => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn texts_and_attributes_cannot_leave_their_place() {
        let mut html = Html::default();
        html.node("a", &[("href", "x\" onload='y'><b>")], |html| html.text("</a><script>&amp;"));
        html.void("br", &[]);
        assert_eq!(
            html.finish(),
            "<a href=\"x&quot; onload=&#39;y&#39;&gt;&lt;b&gt;\">&lt;/a&gt;&lt;script&gt;&amp;amp;</a><br>"
        );
    }
}
