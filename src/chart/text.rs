//! The characters of charts: outlines of a small font that is part of the program.

use std::sync::LazyLock;

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, OutlineBuilder};

static REGULAR: LazyLock<Face<'static>> = LazyLock::new(|| face(include_bytes!("font/regular.ttf")));
static BOLD: LazyLock<Face<'static>> = LazyLock::new(|| face(include_bytes!("font/bold.ttf")));

fn face(data: &'static [u8]) -> Face<'static> {
    Face::parse(data, 0).expect("the font that is part of the program is whole")
}

fn of(is_bold: bool) -> &'static Face<'static> {
    if is_bold { &BOLD } else { &REGULAR }
}

/// How wide `text` is at `size` pixels.
pub(super) fn width(text: &str, size: f32, is_bold: bool) -> f32 {
    let face = of(is_bold);
    let units: u32 = text.chars().map(|c| u32::from(advance(face, c))).sum();
    #[expect(clippy::cast_precision_loss, reason = "a sum of small numbers")]
    let units = units as f32;
    units * size / f32::from(face.units_per_em())
}

/// The outline of `text` with its baseline beginning at `(x, y)`; characters that the font lacks are boxes.
pub(super) fn outline(text: &str, (x, y): (f32, f32), size: f32, is_bold: bool) -> Option<Path> {
    let face = of(is_bold);
    let scale = size / f32::from(face.units_per_em());
    let mut pen = Pen { path: PathBuilder::new(), x, y, scale };
    for c in text.chars() {
        face.outline_glyph(face.glyph_index(c).unwrap_or_default(), &mut pen);
        pen.x += f32::from(advance(face, c)) * scale;
    }
    pen.path.finish()
}

fn advance(face: &Face<'_>, c: char) -> u16 {
    face.glyph_hor_advance(face.glyph_index(c).unwrap_or_default()).unwrap_or_default()
}

/// Moves outlines from the font's coordinates, in which y grows upwards, to the image's.
struct Pen {
    path: PathBuilder,
    x: f32,
    y: f32,
    scale: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
