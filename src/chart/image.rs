//! From pixels to a PNG file with a palette: a third of the size of full colours.

use std::collections::HashMap;

use tiny_skia::Pixmap;

/// As many as a byte can tell apart.
const COLORS_MAX: usize = 256;

/// So many colours are kept as they are: those of areas and lines, not of their soft edges.
const EXACT: usize = 32;

/// What remains of them where edges need not be soft.
const COARSE: usize = 14;

/// How finely soft edges are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shades {
    Fine,
    Coarse,
}

pub(super) fn encode(pixmap: &Pixmap, shades: Shades) -> Vec<u8> {
    // Everything is opaque.
    let pixels: Vec<[u8; 3]> = pixmap.pixels().iter().map(|p| [p.red(), p.green(), p.blue()]).collect();
    let palette = palette(&pixels, shades);
    let mut indices: HashMap<[u8; 3], u8> = HashMap::new();
    let data: Vec<u8> = pixels
        .iter()
        .map(|color| *indices.entry(*color).or_insert_with(|| nearest(&palette, *color)))
        .collect();

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, pixmap.width(), pixmap.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_compression(png::Compression::High);
    // Filters compare neighbouring bytes, and those of a palette are no neighbours.
    encoder.set_filter(png::Filter::NoFilter);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&data));
    written.expect("writing to memory cannot fail, and the data has the size of the image");
    file
}

/// The most frequent colours, ties by their value, so that the same image always has the same palette.
fn palette(pixels: &[[u8; 3]], shades: Shades) -> Vec<[u8; 3]> {
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for run in pixels.chunk_by(PartialEq::eq) {
        *counts.entry(run[0]).or_default() += run.len();
    }
    let mut colors = by_count(counts);
    let rest = colors.split_off(colors.len().min(EXACT));
    let mut palette: Vec<_> = colors.into_iter().map(|(color, _)| color).collect();
    if shades == Shades::Coarse {
        palette.truncate(COARSE);
    } else {
        let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
        for (color, n) in rest {
            *counts.entry(color.map(|c| c / 16 * 17)).or_default() += n;
        }
        palette.extend(by_count(counts).into_iter().map(|(color, _)| color).take(COLORS_MAX - EXACT));
    }
    palette
}

fn by_count(counts: HashMap<[u8; 3], usize>) -> Vec<([u8; 3], usize)> {
    let mut colors: Vec<_> = counts.into_iter().collect();
    colors.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    colors
}

fn nearest(palette: &[[u8; 3]], color: [u8; 3]) -> u8 {
    let distance = |other: &[u8; 3]| -> u32 {
        other.iter().zip(color).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    let found = palette.iter().enumerate().min_by_key(|(_, other)| distance(other));
    let index = found.map_or(0, |(index, _)| index);
    u8::try_from(index).expect("a palette has at most 256 colours")
}
