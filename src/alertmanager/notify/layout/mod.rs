//! How our e-mails look: what happened, since when, how bad, and what to do, before anything else.
//!
//! [`render`] asks the server what it knows ([`super::Extras`]), makes a [`page::Page`] of it, and writes that as HTML and
//! as text. Nothing here fails: what cannot be had is left out. Labels and annotations come from anywhere; they are text,
//! never markup, and link to nothing but HTTP.

mod html;
mod markup;
mod page;
mod spark;
mod text;
mod words;
mod writer;

use std::time::Duration;

use config::alertmanager::Email;

use super::Message;
use super::email::content::{Content, Image};
use crate::alertmanager::insight::{Asked, Findings, Question};
use page::Page;

/// Charts in one mail; more of them nobody scrolls through.
const CHARTS_MAX: usize = 3;
/// All images of a mail together.
const IMAGES_BYTES_MAX: usize = 200_000;
/// What the server knows has to be there by then, and drawn by then.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// Tests look at what is drawn, on machines that are busy.
const DRAW_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 120 } else { 2 });
/// Some readers clip what is longer, with the links at its end.
const HTML_BYTES_MAX: usize = 100_000;
/// The unit of an alert's value, where its metric's name does not tell.
const UNIT: &str = "unit";

/// The mail for `message`.
pub(super) async fn render(config: &Email, message: &Message<'_>) -> Content {
    let mut findings = look(config, message).await;
    let images = draw(message, &mut findings).await;
    compose(config, message, &findings, images)
}

/// What the server knows of the alerts.
async fn look(config: &Email, message: &Message<'_>) -> Findings {
    let Some(insight) = &message.extras.insight else { return Findings::default() };
    let order = page::order(&message.data.alerts);
    let asked = order.iter().map(|&i| {
        let alert = &message.data.alerts[i];
        Asked {
            labels: alert.labels.clone(),
            generator_url: alert.generator_url.clone(),
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            unit: alert.annotations.get(UNIT).cloned(),
        }
    });
    let question = Question {
        alerts: asked.collect(),
        now: message.now,
        charts_max: if config.extensions.has_graphs { n_charts(message) } else { 0 },
        zone: words::zone(&config.extensions.timezone),
    };
    match tokio::time::timeout(LOOK_MAX, insight.look(question)).await {
        Ok(mut findings) => {
            // Asked in the order in which they are shown, to be found in that of the message.
            let known = std::mem::take(&mut findings.alerts);
            findings.alerts =
                known.into_iter().filter_map(|(i, facts)| Some((*order.get(i)?, facts))).collect();
            findings
        }
        Err(_) => Findings {
            notes: vec![format!("values and graphs are not available: no answer within {LOOK_MAX:?}")],
            ..Findings::default()
        },
    }
}

/// What is over is drawn only where nothing fires.
fn n_charts(message: &Message<'_>) -> usize {
    let alerts = &message.data.alerts;
    let n_firing = alerts.iter().filter(|alert| !alert.is_resolved).count();
    CHARTS_MAX.min(if n_firing > 0 { n_firing } else { alerts.len() })
}

/// Draws the charts in the order in which they are shown, off the threads that others wait for; images by the place of their alert.
async fn draw(message: &Message<'_>, findings: &mut Findings) -> Vec<(usize, Vec<u8>)> {
    let charts: Vec<_> = page::order(&message.data.alerts)
        .into_iter()
        .filter_map(|i| Some((i, findings.alerts.get(&i)?.chart.clone()?)))
        .filter(|(_, chart)| !chart.is_empty())
        .take(CHARTS_MAX)
        .collect();
    if charts.is_empty() {
        return Vec::new();
    }
    let work = tokio::task::spawn_blocking(move || {
        charts.into_iter().map(|(i, chart)| (i, chart.render())).collect::<Vec<_>>()
    });
    match tokio::time::timeout(DRAW_MAX, work).await {
        Ok(Ok(images)) => images,
        Ok(Err(_)) => {
            findings.notes.push("graph not available: drawing it failed".to_owned());
            Vec::new()
        }
        Err(_) => {
            findings.notes.push(format!("graph not available: not drawn within {DRAW_MAX:?}"));
            Vec::new()
        }
    }
}

/// The parts of the mail from all that is known.
fn compose(
    config: &Email,
    message: &Message<'_>,
    findings: &Findings,
    images: Vec<(usize, Vec<u8>)>,
) -> Content {
    let mut bytes = 0;
    let images: Vec<_> = images
        .into_iter()
        .take_while(|(_, png)| {
            bytes += png.len();
            bytes <= IMAGES_BYTES_MAX
        })
        .collect();
    let charted: Vec<_> = images.iter().map(|(i, _)| *i).collect();
    let mut n_rows = config.extensions.max_alerts;
    let (page, html) = loop {
        let page = Page::new(config, message, findings, &charted, n_rows);
        let html = html::write(&page);
        if html.len() <= HTML_BYTES_MAX || n_rows == 0 {
            break (page, html);
        }
        n_rows /= 2;
    };
    let image = |(graph, (_, png)): (&page::Graph, (usize, Vec<u8>))| Image {
        cid: graph.cid.clone(),
        png,
        alt: graph.alt.clone(),
    };
    Content {
        text: Some(text::write(&page)),
        html: Some(html),
        images: page.graphs.iter().zip(images).map(image).collect(),
        subject: Some(page.subject),
        headers: Vec::new(),
        note: findings.notes.clone(),
    }
}

#[cfg(test)]
mod tests;
