//! Charts of an alert's expression as small PNG images, for mail clients: they drop SVG and cannot run anything.
//!
//! [`Chart`] says what to show, [`Chart::render`] gives the file: `scale` chooses axes, `canvas` draws, `text` knows the
//! font, `image` packs pixels. The same chart gives the same bytes, so images are tested against stored ones. Nothing here
//! asks for data or knows alerts.

mod canvas;
mod image;
mod scale;
mod text;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::unit::Unit;
use canvas::{Anchor, Canvas, Color, Dash, Point};
use scale::{Frame, Values};

/// Pixels of the image. It is shown at half of that, which is sharp on any screen.
pub const WIDTH: u16 = 1200;
pub const HEIGHT: u16 = 400;

/// The most bytes of a file: several of them are in one mail.
pub const BYTES_MAX: usize = 40_000;

/// Values beyond this are no use on an axis.
const VALUE_MAX: f64 = 1e300;

/// What a chart shows. Times are milliseconds since the epoch.
#[derive(Clone, Debug)]
pub struct Chart {
    pub from: i64,
    /// The time of the mail.
    pub to: i64,
    /// Points further apart than this and a half are not joined.
    pub step_ms: i64,
    pub zone: TimeZone,
    pub unit: Unit,
    /// The series of the alert, drawn bold.
    pub own: Vec<Curve>,
    /// What it is compared with, where that varies.
    pub limits: Vec<Curve>,
    /// Series beside it, thin and grey behind it.
    pub neighbours: Vec<Curve>,
    pub threshold: Option<Threshold>,
    pub spans: Vec<Span>,
}

/// Points by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    pub points: Vec<(i64, f64)>,
}

/// A line that should not be crossed.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pub value: f64,
    /// Such as `>`.
    pub operator: &'static str,
    pub bad: Bad,
}

/// On which side of a threshold values are bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Above,
    Below,
    /// Equal or unequal: there is no side to shade.
    Neither,
}

/// Time that is marked behind the curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    pub to: i64,
    pub kind: SpanKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Pending,
    Firing,
}

const PAPER: Color = Color::rgb(0xff, 0xff, 0xff);
const BORDER: Color = Color::rgb(0xd0, 0xd7, 0xde);
const GRID: Color = Color::rgb(0xe7, 0xeb, 0xef);
const INK: Color = Color::rgb(0x24, 0x29, 0x2f);
const FAINT_INK: Color = Color::rgb(0x5f, 0x68, 0x73);
const OWN: Color = Color::rgb(0x0b, 0x5c, 0xd5);
const NEIGHBOUR: Color = Color::rgb(0xb4, 0xbb, 0xc4);
const LIMIT: Color = Color::rgb(0xcf, 0x22, 0x2e);
const BAD_SIDE: Color = Color::rgba(0xcf, 0x22, 0x2e, 9);
const BAD_AREA: Color = Color::rgba(0xcf, 0x22, 0x2e, 56);
const PENDING: Color = Color::rgb(0xff, 0xf5, 0xcf);
const PENDING_EDGE: Color = Color::rgb(0xd4, 0xa0, 0x12);
const FIRING: Color = Color::rgb(0xff, 0xec, 0xea);
const FIRING_EDGE: Color = Color::rgb(0xcf, 0x22, 0x2e);

const TEXT: f32 = 25.0;
const LABEL: f32 = 28.0;
const TOP: f32 = 38.0;
const BOTTOM: f32 = 346.0;
/// The least vertical distance between two labels at the right edge.
const LABEL_GAP: f32 = 32.0;

impl Curve {
    /// The pieces between gaps.
    fn pieces(&self, step_ms: i64) -> Vec<&[(i64, f64)]> {
        let mut pieces = Vec::new();
        let mut begin = 0;
        for i in 0..=self.points.len() {
            let is_drawn = |p: &(i64, f64)| p.1.is_finite() && p.1.abs() <= VALUE_MAX;
            let ends = match self.points.get(i) {
                None => true,
                Some(point) if !is_drawn(point) => true,
                Some(point) => i > begin && point.0 - self.points[i - 1].0 > step_ms + step_ms / 2,
            };
            if ends {
                if i > begin {
                    pieces.push(&self.points[begin..i]);
                }
                let skips = self.points.get(i).is_some_and(|point| !is_drawn(point));
                begin = if skips { i + 1 } else { i };
            }
        }
        pieces
    }

    fn drawn(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.points.iter().copied().filter(|(_, v)| v.is_finite() && v.abs() <= VALUE_MAX)
    }
}

impl Chart {
    /// Whether there is anything to see.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
            || self
                .own
                .iter()
                .chain(&self.limits)
                .chain(&self.neighbours)
                .all(|curve| curve.drawn().next().is_none())
    }

    /// The PNG file, of at most [`BYTES_MAX`] unless the alert's own curve alone is more.
    pub fn render(&self) -> Vec<u8> {
        let file = image::encode(&self.draw(), image::Shades::Fine);
        if file.len() <= BYTES_MAX {
            return file;
        }
        // Noise does not compress: first it loses its soft edges, then its surroundings.
        let file = image::encode(&self.draw(), image::Shades::Coarse);
        if file.len() <= BYTES_MAX || self.neighbours.is_empty() {
            return file;
        }
        let alone = Self { neighbours: Vec::new(), ..self.clone() };
        image::encode(&alone.draw(), image::Shades::Coarse)
    }

    fn draw(&self) -> tiny_skia::Pixmap {
        let values = self.values();
        let frame = self.frame(&values);
        let mut canvas = Canvas::new(WIDTH, HEIGHT, PAPER);
        self.draw_spans(&mut canvas, &frame);
        self.draw_grid(&mut canvas, &frame, &values);
        self.draw_bad_side(&mut canvas, &frame);
        for curve in &self.neighbours {
            self.draw_curve(&mut canvas, &frame, curve, NEIGHBOUR, 2.0, Dash::None);
        }
        for curve in &self.limits {
            self.draw_curve(&mut canvas, &frame, curve, LIMIT, 3.0, Dash::Short);
        }
        for curve in &self.own {
            self.draw_bad_area(&mut canvas, &frame, curve);
        }
        if let Some(threshold) = &self.threshold
            && threshold.value.is_finite()
        {
            let y = frame.y(threshold.value);
            canvas.line((frame.left, y), (frame.right, y), LIMIT, 3.0, Dash::Short);
        }
        for curve in &self.own {
            self.draw_curve(&mut canvas, &frame, curve, OWN, 4.0, Dash::None);
        }
        self.draw_labels(&mut canvas, &frame);
        canvas.frame(BORDER);
        canvas.into_pixmap()
    }

    fn values(&self) -> Values {
        let curves = self.own.iter().chain(&self.limits).chain(&self.neighbours);
        let shown = curves.flat_map(Curve::drawn).map(|(_, v)| v);
        let threshold = self.threshold.as_ref().map(|threshold| threshold.value);
        Values::new(shown.chain(threshold.filter(|v| v.is_finite() && v.abs() <= VALUE_MAX)), &self.unit)
    }

    fn frame(&self, values: &Values) -> Frame {
        let widest = values.ticks.iter().map(|tick| text::width(&values.label(*tick), TEXT, false));
        let left = widest.fold(0.0, f32::max) + 30.0;
        let now = text::width(&self.now(), TEXT, true) / 2.0;
        let labels = self.edge_labels();
        let right =
            labels.iter().map(|(_, label, _)| text::width(label, LABEL, true)).fold(now, f32::max) + 26.0;
        Frame {
            left,
            right: f32::from(WIDTH) - right.min(300.0),
            top: TOP,
            bottom: BOTTOM,
            from: self.from,
            to: self.to.max(self.from + 1),
            low: values.low,
            high: values.high,
        }
    }

    fn draw_spans(&self, canvas: &mut Canvas, frame: &Frame) {
        let mut taken = frame.left;
        for span in &self.spans {
            let (from, to) = (span.from.max(self.from), span.to.min(self.to));
            if from >= to {
                continue;
            }
            let (x0, x1) = (frame.x(from), frame.x(to));
            let (tint, edge, name) = match span.kind {
                SpanKind::Pending => (PENDING, PENDING_EDGE, "pending"),
                SpanKind::Firing => (FIRING, FIRING_EDGE, "firing"),
            };
            canvas.rect((x0, frame.top), (x1, frame.bottom), tint);
            canvas.rect((x0, frame.top - 6.0), (x1, frame.top), edge);
            let width = text::width(name, 22.0, true);
            // A name that does not fit is said by its colour, and by the text of the mail.
            if x1 - x0 >= width && x0 >= taken {
                canvas.text((x0, frame.top - 12.0), name, 22.0, true, edge, Anchor::Start);
                taken = x0 + width + 10.0;
            }
        }
    }

    fn draw_grid(&self, canvas: &mut Canvas, frame: &Frame, values: &Values) {
        for &tick in &values.ticks {
            let y = frame.y(tick);
            canvas.line((frame.left, y), (frame.right, y), GRID, 2.0, Dash::None);
            canvas.text(
                (frame.left - 12.0, y + 9.0),
                &values.label(tick),
                TEXT,
                false,
                FAINT_INK,
                Anchor::End,
            );
        }
        let now = self.now();
        let now_begins = frame.right - text::width(&now, TEXT, true) / 2.0;
        for (t, label) in scale::times(self.from, self.to, &self.zone) {
            let x = frame.x(t);
            canvas.line((x, frame.top), (x, frame.bottom), GRID, 2.0, Dash::None);
            if x + text::width(&label, TEXT, false) / 2.0 + 12.0 < now_begins {
                canvas.text((x, frame.bottom + 37.0), &label, TEXT, false, FAINT_INK, Anchor::Middle);
            }
        }
        canvas.line((frame.left, frame.bottom), (frame.right, frame.bottom), BORDER, 2.0, Dash::None);
        canvas.text((frame.right, frame.bottom + 37.0), &now, TEXT, true, INK, Anchor::Middle);
        let zone = self.clock(self.to, "%Z");
        canvas.text((14.0, frame.bottom + 37.0), &zone, 20.0, false, FAINT_INK, Anchor::Start);
    }

    fn draw_bad_side(&self, canvas: &mut Canvas, frame: &Frame) {
        let Some(threshold) = self.threshold.as_ref().filter(|threshold| threshold.value.is_finite()) else {
            return;
        };
        let y = frame.y(threshold.value);
        match threshold.bad {
            Bad::Above => canvas.rect((frame.left, frame.top), (frame.right, y), BAD_SIDE),
            Bad::Below => canvas.rect((frame.left, y), (frame.right, frame.bottom), BAD_SIDE),
            Bad::Neither => {}
        }
    }

    /// What lies between the curve and the threshold where the curve is on the bad side.
    fn draw_bad_area(&self, canvas: &mut Canvas, frame: &Frame, curve: &Curve) {
        let Some(threshold) = self.threshold.as_ref().filter(|threshold| threshold.value.is_finite()) else {
            return;
        };
        let limit = frame.y(threshold.value);
        let clamp = |v: f64| match threshold.bad {
            Bad::Above => frame.y(v).min(limit),
            Bad::Below => frame.y(v).max(limit),
            Bad::Neither => limit,
        };
        for piece in curve.pieces(self.step_ms).into_iter().filter(|piece| piece.len() > 1) {
            let mut outline = vec![(frame.x(piece[0].0), limit)];
            for pair in piece.windows(2) {
                outline.push((frame.x(pair[0].0), clamp(pair[0].1)));
                // Where the curve crosses the threshold the area ends.
                if (pair[0].1 - threshold.value) * (pair[1].1 - threshold.value) < 0.0 {
                    let share = (threshold.value - pair[0].1) / (pair[1].1 - pair[0].1);
                    let (a, b) = (frame.x(pair[0].0), frame.x(pair[1].0));
                    #[expect(clippy::cast_possible_truncation, reason = "a share of a pixel position")]
                    outline.push((a + (b - a) * share as f32, limit));
                }
            }
            let last = piece[piece.len() - 1];
            outline.push((frame.x(last.0), clamp(last.1)));
            outline.push((frame.x(last.0), limit));
            canvas.area(&outline, BAD_AREA);
        }
    }

    fn draw_curve(
        &self,
        canvas: &mut Canvas,
        frame: &Frame,
        curve: &Curve,
        color: Color,
        width: f32,
        dash: Dash,
    ) {
        for piece in curve.pieces(self.step_ms) {
            let points: Vec<_> = piece.iter().map(|&(t, v)| (frame.x(t), frame.y(v))).collect();
            match points.as_slice() {
                [alone] => canvas.dot(*alone, width * 1.2, color),
                _ => canvas.polyline(&points, color, width, dash),
            }
        }
    }

    /// The first value, the gap that is largest, and what stands at the right edge.
    fn draw_labels(&self, canvas: &mut Canvas, frame: &Frame) {
        if let Some(own) = self.own.first() {
            self.draw_own_values(canvas, frame, own);
        }
        if let Some((from, to)) = self.largest_gap() {
            let (x0, x1) = (frame.x(from), frame.x(to));
            if x1 - x0 > text::width("no data", TEXT, true) + 16.0 {
                let y = f32::midpoint(frame.top, frame.bottom);
                canvas.text((f32::midpoint(x0, x1), y), "no data", TEXT, true, FAINT_INK, Anchor::Middle);
            }
        }
        let mut labels: Vec<_> = self
            .edge_labels()
            .into_iter()
            .map(|(v, label, color)| (frame.y(v) + 8.0, label, color))
            .collect();
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Two at the same height move apart.
        if let [upper, lower] = labels.as_mut_slice() {
            let lacking = LABEL_GAP - (lower.0 - upper.0);
            if lacking > 0.0 {
                upper.0 -= lacking / 2.0;
                lower.0 += lacking / 2.0;
            }
            let beyond = (frame.top + 16.0 - upper.0).max(0.0) - (lower.0 - frame.bottom).max(0.0);
            upper.0 += beyond;
            lower.0 += beyond;
        }
        for (y, label, color) in labels {
            canvas.text((frame.right + 14.0, y), &label, LABEL, true, color, Anchor::Start);
        }
    }

    /// The first value beside its point, and the last one where it is not that of now.
    fn draw_own_values(&self, canvas: &mut Canvas, frame: &Frame, own: &Curve) {
        let points: Vec<_> = own.drawn().map(|(t, v)| (frame.x(t), frame.y(v))).collect();
        let mut label = |x: f32, y: f32, v: f64| {
            let shown = self.unit.show(v);
            let (x0, x1) = (x, x + text::width(&shown, TEXT, true));
            let is_free = |y: f32| {
                let inside = |y: f32| y - 20.0 >= frame.top && y + 4.0 <= frame.bottom;
                let touches =
                    |p: &Point| p.0 >= x0 - 6.0 && p.0 <= x1 + 6.0 && p.1 > y - 24.0 && p.1 < y + 8.0;
                inside(y) && !points.iter().any(touches)
            };
            // The axis tells it, too, where there is no room.
            if let Some(y) = [y - 14.0, y + 32.0, y - 28.0, y + 46.0].into_iter().find(|y| is_free(*y)) {
                canvas.halo_text((x, y), &shown, TEXT, OWN, PAPER);
            }
        };
        if let Some((t, v)) = own.drawn().next() {
            label(frame.x(t) + 8.0, frame.y(v), v);
        }
        if let Some((t, v)) = own.drawn().last() {
            if !self.is_now(t) && own.drawn().nth(1).is_some() {
                label(frame.x(t) - text::width(&self.unit.show(v), TEXT, true), frame.y(v), v);
            }
            canvas.dot((frame.x(t), frame.y(v)), 7.0, OWN);
        }
    }

    fn is_now(&self, t: i64) -> bool {
        self.to - t <= 2 * self.step_ms
    }

    /// The value of now and the threshold.
    fn edge_labels(&self) -> Vec<(f64, String, Color)> {
        let mut labels = Vec::new();
        if let Some((_, v)) =
            self.own.first().and_then(|curve| curve.drawn().last()).filter(|p| self.is_now(p.0))
        {
            labels.push((v, self.unit.show(v), OWN));
        }
        if let Some(threshold) = self.threshold.as_ref().filter(|threshold| threshold.value.is_finite()) {
            let label = format!("{} {}", threshold.operator, self.unit.show(threshold.value));
            labels.push((threshold.value, label, LIMIT));
        }
        labels
    }

    /// The longest time without a value of the alert's own, the edges of the chart included.
    fn largest_gap(&self) -> Option<(i64, i64)> {
        let own = self.own.first()?;
        let mut before = self.from;
        let mut largest = None;
        let ends = std::iter::once((self.to, 0.0));
        for (t, _) in own.drawn().chain(ends) {
            if t - before > self.step_ms * 2 && largest.is_none_or(|(from, to)| t - before > to - from) {
                largest = Some((before, t));
            }
            before = t;
        }
        largest
    }

    fn now(&self) -> String {
        format!("now {}", self.clock(self.to, "%H:%M"))
    }

    fn clock(&self, t: i64, format: &str) -> String {
        let at = Timestamp::from_millisecond(t).unwrap_or_default();
        at.to_zoned(self.zone.clone()).strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests;
