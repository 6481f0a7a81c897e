//! The mail as HTML for mail readers: tables and inline styles, one column that narrows, readable without images and
//! without any style. Dark colours and small screens are extras for readers that know media queries.

use super::markup::{Line, Part};
use super::page::{Fact, Graph, Link, Page, Row, Table, Tone};
use super::writer::{Attribute, Html};

const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;";

/// Readers that follow this get dark colours and small screens; all others lose nothing.
const STYLE: &str = "
:root{color-scheme:light dark;supported-color-schemes:light dark}
a{text-decoration:none}
@media (max-width:520px){
.edge{padding-left:14px!important;padding-right:14px!important}
.outer{padding:0!important}
.card{border-radius:0!important;border-left:0!important;border-right:0!important}
.fact{display:inline-block!important;width:49%!important;box-sizing:border-box;padding-bottom:12px!important;vertical-align:top}
.name{font-size:21px!important}
.button{margin-bottom:8px!important}
}
@media (prefers-color-scheme:dark){
.page{background-color:#0d1117!important}
.card{background-color:#161b22!important;border-color:#30363d!important}
.ink{color:#e6edf3!important}
.faint{color:#9aa4af!important}
.rule{border-color:#30363d!important}
.link{color:#79b8ff!important}
.button{border-color:#3d444d!important;background-color:#21262d!important;color:#79b8ff!important}
.main{background-color:#1f6feb!important;border-color:#1f6feb!important;color:#ffffff!important}
.code{background-color:#262c36!important;color:#e6edf3!important}
.notice{background-color:#3a2d0a!important;border-color:#7d5a0b!important;color:#f2d98d!important}
.bad{color:#ff8f87!important}
}
";

const INK: &str = "color:#1f2328;";
const FAINT: &str = "color:#59636e;";
const MONO: &str = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;";

impl Tone {
    const fn color(self) -> &'static str {
        match self {
            Self::Critical | Self::Unknown => "#b42318",
            Self::Warning => "#9a5b00",
            Self::Info => "#0a5bb5",
            Self::Resolved => "#1a7f37",
        }
    }
}

/// The HTML part.
pub(super) fn write(page: &Page) -> String {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n");
    html.node("html", &[("lang", "en")], |html| {
        html.node("head", &[], |html| head(html, page));
        let style = format!("margin:0;padding:0;background-color:#eef1f4;{FONT}");
        html.node("body", &[("class", "page"), ("style", &style)], |html| body(html, page));
    });
    html.finish()
}

fn head(html: &mut Html, page: &Page) {
    html.void("meta", &[("charset", "utf-8")]);
    html.void("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.void("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.void("meta", &[("name", "supported-color-schemes"), ("content", "light dark")]);
    // Telephones would make links of numbers.
    html.void(
        "meta",
        &[("name", "format-detection"), ("content", "telephone=no,date=no,address=no,email=no")],
    );
    html.leaf("title", &[], &page.subject);
    html.node("style", &[], |html| html.raw(STYLE));
}

fn body(html: &mut Html, page: &Page) {
    let hidden = "display:none;max-height:0;max-width:0;overflow:hidden;opacity:0;mso-hide:all;";
    html.node("div", &[("style", hidden)], |html| {
        html.text(&page.preheader);
        // Keeps readers that fill the line from taking what follows.
        html.raw(
            " &#847;&zwnj;&nbsp;&#847;&zwnj;&nbsp;&#847;&zwnj;&nbsp;&#847;&zwnj;&nbsp;&#847;&zwnj;&nbsp;",
        );
    });
    let outer = [("width", "100%"), ("class", "page"), ("style", "background-color:#eef1f4;")];
    table(html, &outer, |html| {
        html.node("tr", &[], |html| {
            let cell = [("align", "center"), ("class", "outer"), ("style", "padding:20px 8px;")];
            html.node("td", &cell, |html| card(html, page));
        });
    });
}

fn card(html: &mut Html, page: &Page) {
    let style = "width:100%;max-width:640px;background-color:#ffffff;border:1px solid #d5dbe1;border-radius:8px;border-collapse:separate;overflow:hidden;";
    table(html, &[("width", "640"), ("class", "card"), ("style", style)], |html| {
        banner(html, page);
        texts(html, page);
        facts(html, &page.facts);
        buttons(html, page);
        page.graphs.iter().for_each(|graph| self::graph(html, graph));
        alerts(html, "Firing", &page.firing, page.all_alerts.as_deref());
        alerts(html, "Resolved", &page.resolved, None);
        labels(html, page);
        surroundings(html, page);
        footer(html, page);
    });
}

/// A table that is there for the looks only.
fn table(html: &mut Html, attributes: &[Attribute<'_>], rows: impl FnOnce(&mut Html)) {
    let mut all = vec![("role", "presentation"), ("cellpadding", "0"), ("cellspacing", "0"), ("border", "0")];
    all.extend_from_slice(attributes);
    html.node("table", &all, rows);
}

/// A row of the card.
fn band(html: &mut Html, padding: &str, inside: impl FnOnce(&mut Html)) {
    let style = format!("padding:{padding};{INK}font-size:15px;line-height:1.5;");
    html.node("tr", &[], |html| {
        html.node("td", &[("class", "edge ink"), ("style", &style)], inside);
    });
}

fn heading(html: &mut Html, text: &str) {
    let style = format!(
        "margin:0 0 6px 0;padding-top:14px;border-top:1px solid #e3e8ed;{FAINT}font-size:12px;font-weight:600;letter-spacing:0.4px;text-transform:uppercase;"
    );
    html.leaf("div", &[("class", "faint rule"), ("style", &style)], text);
}

fn banner(html: &mut Html, page: &Page) {
    let color = page.tone.color();
    let style = format!("padding:18px 20px;background-color:{color};color:#ffffff;");
    html.node("tr", &[], |html| {
        html.node("td", &[("class", "edge"), ("bgcolor", color), ("style", &style)], |html| {
            html.node("div", &[("style", "font-size:14px;line-height:1.4;color:#ffffff;")], |html| {
                html.leaf("strong", &[], &page.status);
                if let Some(severity) = &page.severity {
                    html.text(" · ");
                    html.leaf("span", &[("dir", "auto")], severity);
                }
            });
            let name = "font-size:24px;line-height:1.25;font-weight:700;color:#ffffff;word-break:break-word;";
            html.leaf("div", &[("class", "name"), ("dir", "auto"), ("style", name)], &page.name);
            if !page.scope.is_empty() {
                let style =
                    "padding-top:4px;font-size:14px;line-height:1.4;color:#ffffff;word-break:break-word;";
                html.node("div", &[("style", style)], |html| pairs(html, &page.scope, "color:#ffffff;", ""));
            }
        });
    });
}

/// `name=value` with the values apart from the names and from each other.
fn pairs(html: &mut Html, labels: &[(String, String)], ink: &str, class: &str) {
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            html.text("  ");
        }
        let style = format!("{ink}opacity:0.85;");
        html.leaf("span", &[("class", class), ("style", &style)], &format!("{name}="));
        html.node("bdi", &[], |html| html.leaf("strong", &[], value));
        html.text(" ");
    }
}

fn texts(html: &mut Html, page: &Page) {
    if page.summary.is_empty() && page.description.is_empty() && page.notices.is_empty() {
        return;
    }
    band(html, "18px 20px 0 20px", |html| {
        if page.is_over && !page.summary.is_empty() {
            let style = format!("margin:0 0 2px 0;{FAINT}font-size:13px;");
            html.leaf("div", &[("class", "faint"), ("style", &style)], "What it said while it fired:");
        }
        if !page.summary.is_empty() {
            let style = format!(
                "margin:0 0 6px 0;{INK}font-size:18px;line-height:1.4;font-weight:600;word-break:break-word;"
            );
            html.node("div", &[("class", "ink"), ("dir", "auto"), ("style", &style)], |html| {
                lines(html, &page.summary);
            });
        }
        if let Some(others) = &page.others {
            let style = format!("margin:0 0 6px 0;{FAINT}font-size:14px;");
            html.leaf("div", &[("class", "faint"), ("style", &style)], others);
        }
        if !page.description.is_empty() {
            let style = format!("margin:0;{INK}font-size:15px;line-height:1.5;word-break:break-word;");
            html.node("div", &[("class", "ink"), ("dir", "auto"), ("style", &style)], |html| {
                lines(html, &page.description);
            });
        }
        for notice in &page.notices {
            let style = "margin:10px 0 0 0;padding:8px 12px;background-color:#fff4d6;border:1px solid #e8cf8a;border-radius:6px;color:#6b4a00;font-size:14px;";
            html.leaf("div", &[("class", "notice"), ("style", style)], notice);
        }
    });
}

fn lines(html: &mut Html, lines: &[Line]) {
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            html.void("br", &[]);
        }
        if line.is_item {
            html.text("•\u{a0}");
        }
        for part in &line.parts {
            match part {
                Part::Text(text) => html.text(text),
                Part::Bold(text) => html.leaf("strong", &[], text),
                Part::Code(text) => code(html, text),
                Part::Link { text, url } => link(html, text, url),
            }
        }
    }
}

fn code(html: &mut Html, text: &str) {
    let style = format!(
        "{MONO}font-size:13px;background-color:#eef1f4;padding:1px 4px;border-radius:4px;word-break:break-word;overflow-wrap:anywhere;"
    );
    html.leaf("code", &[("class", "code"), ("style", &style)], text);
}

fn link(html: &mut Html, text: &str, url: &str) {
    html.leaf(
        "a",
        &[("class", "link"), ("href", url), ("style", "color:#0b5cd5;word-break:break-word;")],
        text,
    );
}

fn facts(html: &mut Html, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    band(html, "16px 20px 0 20px", |html| {
        table(html, &[("width", "100%")], |html| {
            html.node("tr", &[], |html| {
                for fact in facts {
                    let cell = [("class", "fact"), ("valign", "top"), ("style", "padding:0 10px 0 0;")];
                    html.node("td", &cell, |html| self::fact(html, fact));
                }
            });
        });
    });
}

fn fact(html: &mut Html, fact: &Fact) {
    let small = format!("{FAINT}font-size:12px;line-height:1.4;");
    html.leaf("div", &[("class", "faint"), ("style", &small)], fact.name);
    let large = format!("{INK}font-size:19px;line-height:1.35;font-weight:700;white-space:nowrap;");
    html.leaf("div", &[("class", "ink"), ("style", &large)], &fact.value);
    if !fact.note.is_empty() {
        let small = format!("{small}word-break:break-word;");
        html.leaf("div", &[("class", "faint"), ("style", &small)], &fact.note);
    }
}

fn buttons(html: &mut Html, page: &Page) {
    if page.links.is_empty() && page.silences.is_empty() {
        return;
    }
    band(html, "16px 20px 0 20px", |html| {
        if !page.links.is_empty() {
            html.node("div", &[("style", "margin:0 0 8px 0;")], |html| {
                for (i, link) in page.links.iter().enumerate() {
                    button(html, link, i == 0);
                }
            });
        }
        if !page.silences.is_empty() {
            let style = format!("{FAINT}font-size:14px;line-height:1.7;");
            html.node("div", &[("class", "faint"), ("style", &style)], |html| {
                html.text("Silence:\u{a0} ");
                for silence in &page.silences {
                    let style = "display:inline-block;padding:3px 12px;margin:0 6px 6px 0;border:1px solid #c9d1d9;border-radius:14px;background-color:#f6f8fa;color:#0b5cd5;font-size:13px;line-height:1.5;text-decoration:none;white-space:nowrap;";
                    let attributes = [("class", "button"), ("href", &*silence.url), ("style", style)];
                    html.leaf("a", &attributes, silence.text);
                    html.text(" ");
                }
            });
        }
    });
}

fn button(html: &mut Html, link: &Link, is_main: bool) {
    let (class, colors) = if is_main {
        ("button main", "background-color:#0b5cd5;border:1px solid #0b5cd5;color:#ffffff;")
    } else {
        ("button", "background-color:#f6f8fa;border:1px solid #c9d1d9;color:#0b5cd5;")
    };
    let style = format!(
        "display:inline-block;padding:7px 16px;margin:0 8px 0 0;border-radius:6px;font-size:14px;line-height:1.4;font-weight:600;text-decoration:none;{colors}"
    );
    html.leaf("a", &[("class", class), ("href", &link.url), ("style", &style)], link.text);
    html.text(" ");
}

fn graph(html: &mut Html, graph: &Graph) {
    band(html, "16px 20px 0 20px", |html| {
        let source = format!("cid:{}", graph.cid);
        let image = |html: &mut Html| {
            let style = format!(
                "display:block;width:100%;max-width:600px;height:auto;border:0;border-radius:6px;{FAINT}font-size:13px;"
            );
            html.void("img", &[("src", &source), ("width", "600"), ("alt", &graph.alt), ("style", &style)]);
        };
        match &graph.url {
            Some(url) => html.node("a", &[("href", url)], image),
            None => image(html),
        }
        let style = format!("padding-top:4px;{FAINT}font-size:12px;line-height:1.5;word-break:break-word;");
        html.node("div", &[("class", "faint"), ("style", &style)], |html| {
            let parts = [!graph.of.is_empty(), graph.subject.is_some(), graph.n_neighbours > 0];
            if parts[0] {
                html.leaf("strong", &[("dir", "auto")], &graph.of);
            }
            if let Some(subject) = &graph.subject {
                html.text(if parts[0] { " of " } else { "" });
                code(html, subject);
            }
            if parts[2] {
                html.text(if parts[0] || parts[1] { " · " } else { "" });
                html.text(&format!("grey: {} beside it", graph.n_neighbours));
            }
        });
    });
}

fn alerts(html: &mut Html, title: &str, list: &Table, more: Option<&str>) {
    if list.rows.is_empty() && list.rest.is_none() {
        return;
    }
    band(html, "20px 20px 0 20px", |html| {
        heading(html, title);
        table(html, &[("width", "100%"), ("style", "border-collapse:collapse;")], |html| {
            for (i, row) in list.rows.iter().enumerate() {
                alert(html, row, i + 1 == list.rows.len());
            }
        });
        if let Some(rest) = &list.rest {
            let style = format!("padding-top:8px;{FAINT}font-size:14px;");
            html.node("div", &[("class", "faint"), ("dir", "auto"), ("style", &style)], |html| {
                html.text(rest);
                if let Some(url) = more {
                    html.text(" ");
                    link(html, "show all", url);
                }
            });
        }
    });
}

fn alert(html: &mut Html, row: &Row, is_last: bool) {
    let rule = if is_last { "" } else { "border-bottom:1px solid #e3e8ed;" };
    let left =
        format!("padding:7px 12px 7px 0;{rule}{INK}font-size:14px;line-height:1.45;word-break:break-word;");
    let right = format!("padding:7px 0;{rule}{INK}font-size:14px;line-height:1.45;");
    html.node("tr", &[], |html| {
        html.node("td", &[("class", "ink rule"), ("valign", "top"), ("style", &left)], |html| {
            pairs(html, &row.labels, FAINT, "faint");
            let style = format!("{FAINT}font-size:12px;line-height:1.5;");
            html.node("div", &[("class", "faint"), ("style", &style)], |html| {
                html.text(&row.note);
                for (text, url) in [("query", &row.query), ("silence", &row.silence)] {
                    if let Some(url) = url {
                        html.text(" · ");
                        link(html, text, url);
                    }
                }
            });
        });
        let cell = [("class", "ink rule"), ("valign", "top"), ("align", "right"), ("style", &right)];
        html.node("td", &cell, |html| {
            if !row.value.is_empty() {
                html.leaf("strong", &[("style", "white-space:nowrap;")], &row.value);
            }
            if !row.spark.is_empty() {
                let style = format!("{FAINT}{MONO}font-size:12px;line-height:1.3;white-space:nowrap;");
                html.leaf("div", &[("class", "faint"), ("style", &style)], &row.spark);
            }
        });
    });
}

fn labels(html: &mut Html, page: &Page) {
    if page.labels.is_empty() && page.annotations.is_empty() {
        return;
    }
    band(html, "20px 20px 0 20px", |html| {
        heading(
            html,
            if page.firing.rows.is_empty() && page.resolved.rows.is_empty() { "Labels" } else { "In common" },
        );
        table(html, &[("style", "border-collapse:collapse;")], |html| {
            let named = |html: &mut Html, name: &str, value: &dyn Fn(&mut Html)| {
                html.node("tr", &[], |html| {
                    let style = format!(
                        "padding:2px 14px 2px 0;{FAINT}font-size:13px;line-height:1.5;white-space:nowrap;"
                    );
                    html.leaf("td", &[("class", "faint"), ("valign", "top"), ("style", &style)], name);
                    let style =
                        format!("padding:2px 0;{INK}font-size:13px;line-height:1.5;word-break:break-word;");
                    let cell = [("class", "ink"), ("dir", "auto"), ("style", &*style)];
                    html.node("td", &cell, value);
                });
            };
            for (name, value) in &page.labels {
                named(html, name, &|html| html.text(value));
            }
            for (name, text) in &page.annotations {
                named(html, name, &|html| lines(html, text));
            }
        });
    });
}

fn surroundings(html: &mut Html, page: &Page) {
    if page.history.is_none() && page.related.is_empty() {
        return;
    }
    band(html, "20px 20px 0 20px", |html| {
        heading(html, if page.related.is_empty() { "Before" } else { "Around it" });
        let style = format!("{INK}font-size:14px;line-height:1.5;");
        if let Some(history) = &page.history {
            html.leaf("div", &[("class", "ink"), ("style", &style)], history);
        }
        for related in &page.related {
            html.node("div", &[("class", "ink"), ("style", &style)], |html| {
                html.text("Also firing: ");
                html.leaf("strong", &[("dir", "auto")], &related.name);
                html.text(&format!(" {}", related.shared));
                html.leaf("span", &[("class", "faint"), ("style", FAINT)], &format!(" {}", related.since));
            });
        }
    });
}

fn footer(html: &mut Html, page: &Page) {
    band(html, "20px 20px 20px 20px", |html| {
        let style = format!(
            "padding-top:14px;border-top:1px solid #e3e8ed;{FAINT}font-size:12px;line-height:1.6;word-break:break-word;"
        );
        html.node("div", &[("class", "faint rule"), ("style", &style)], |html| {
            for (name, value) in &page.footer {
                html.leaf("strong", &[], &format!("{name}: "));
                html.leaf("span", &[("dir", "auto")], value);
                html.void("br", &[]);
            }
            if let Some(url) = &page.all_alerts {
                link(html, "All alerts of this receiver", url);
                html.void("br", &[]);
            }
            html.text(&page.sender);
        });
    });
}
