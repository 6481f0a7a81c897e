//! Drawing in pixels: lines, areas, text. Positions that are not numbers draw nothing.

use tiny_skia::{
    FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform,
};

use super::text;

pub(super) type Point = (f32, f32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Color {
    r: u8,
    g: u8,
    b: u8,
    a: u8,
}

impl Color {
    pub(super) const fn rgb(r: u8, g: u8, b: u8) -> Self {
        Self { r, g, b, a: 255 }
    }

    pub(super) const fn rgba(r: u8, g: u8, b: u8, a: u8) -> Self {
        Self { r, g, b, a }
    }

    #[cfg(test)]
    pub(super) const fn channels(self) -> [u8; 3] {
        [self.r, self.g, self.b]
    }

    fn paint(self) -> Paint<'static> {
        let mut paint = Paint::default();
        paint.set_color_rgba8(self.r, self.g, self.b, self.a);
        paint.anti_alias = true;
        paint
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dash {
    None,
    Short,
}

/// Where a text lies relative to its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

pub(super) struct Canvas {
    pixmap: Pixmap,
}

impl Canvas {
    pub(super) fn new(width: u16, height: u16, paper: Color) -> Self {
        let mut pixmap =
            Pixmap::new(width.into(), height.into()).expect("an image of some thousand pixels fits");
        pixmap.fill(tiny_skia::Color::from_rgba8(paper.r, paper.g, paper.b, 255));
        Self { pixmap }
    }

    pub(super) fn into_pixmap(self) -> Pixmap {
        self.pixmap
    }

    pub(super) fn rect(&mut self, (x0, y0): Point, (x1, y1): Point, color: Color) {
        if let Some(rect) = Rect::from_ltrb(x0, y0, x1, y1) {
            self.pixmap.fill_rect(rect, &color.paint(), Transform::identity(), None);
        }
    }

    /// A line of two pixels along the edges.
    pub(super) fn frame(&mut self, color: Color) {
        #[expect(clippy::cast_precision_loss, reason = "a size of some thousand pixels")]
        let (w, h) = (self.pixmap.width() as f32, self.pixmap.height() as f32);
        for (from, to) in [
            ((0.0, 0.0), (w, 2.0)),
            ((0.0, h - 2.0), (w, h)),
            ((0.0, 0.0), (2.0, h)),
            ((w - 2.0, 0.0), (w, h)),
        ] {
            self.rect(from, to, color);
        }
    }

    /// A straight line, moved to where whole pixels are if it lies level or upright.
    pub(super) fn line(&mut self, from: Point, to: Point, color: Color, width: f32, dash: Dash) {
        let snap = |v: f32| if width % 2.0 == 0.0 { v.round() } else { v.floor() + 0.5 };
        let (mut from, mut to) = (from, to);
        if from.1 == to.1 {
            (from.1, to.1) = (snap(from.1), snap(to.1));
        } else if from.0 == to.0 {
            (from.0, to.0) = (snap(from.0), snap(to.0));
        }
        self.polyline(&[from, to], color, width, dash);
    }

    pub(super) fn polyline(&mut self, points: &[Point], color: Color, width: f32, dash: Dash) {
        let Some(path) = path(points, false) else { return };
        let stroke = Stroke {
            width,
            line_cap: if dash == Dash::None { LineCap::Round } else { LineCap::Butt },
            line_join: LineJoin::Round,
            dash: if dash == Dash::None { None } else { StrokeDash::new(vec![12.0, 8.0], 0.0) },
            ..Stroke::default()
        };
        self.pixmap.stroke_path(&path, &color.paint(), &stroke, Transform::identity(), None);
    }

    pub(super) fn area(&mut self, points: &[Point], color: Color) {
        if let Some(path) = path(points, true) {
            let (rule, identity) = (FillRule::Winding, Transform::identity());
            self.pixmap.fill_path(&path, &color.paint(), rule, identity, None);
        }
    }

    pub(super) fn dot(&mut self, (x, y): Point, radius: f32, color: Color) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            let (rule, identity) = (FillRule::Winding, Transform::identity());
            self.pixmap.fill_path(&path, &color.paint(), rule, identity, None);
        }
    }

    pub(super) fn text(
        &mut self,
        (x, y): Point,
        text: &str,
        size: f32,
        is_bold: bool,
        color: Color,
        anchor: Anchor,
    ) {
        let width = text::width(text, size, is_bold);
        let x = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        if let Some(path) = text::outline(text, (x, y), size, is_bold) {
            let (rule, identity) = (FillRule::Winding, Transform::identity());
            self.pixmap.fill_path(&path, &color.paint(), rule, identity, None);
        }
    }

    /// Bold text with a rim of `paper`, which stays readable above lines.
    pub(super) fn halo_text(&mut self, at: Point, text: &str, size: f32, color: Color, paper: Color) {
        if let Some(path) = text::outline(text, at, size, true) {
            let stroke = Stroke { width: 6.0, line_join: LineJoin::Round, ..Stroke::default() };
            self.pixmap.stroke_path(&path, &paper.paint(), &stroke, Transform::identity(), None);
        }
        self.text(at, text, size, true, color, Anchor::Start);
    }
}

fn path(points: &[Point], is_closed: bool) -> Option<tiny_skia::Path> {
    let (first, rest) = points.split_first()?;
    let mut builder = PathBuilder::new();
    builder.move_to(first.0, first.1);
    for (x, y) in rest {
        builder.line_to(*x, *y);
    }
    if is_closed {
        builder.close();
    }
    builder.finish()
}
