use jiff::tz::TimeZone;

use super::{Bad, Chart, Curve, HEIGHT, OWN, Span, SpanKind, Threshold, WIDTH};
use crate::unit::{Base, Unit};

const MINUTE: i64 = 60_000;
/// 2026-08-03 10:00 UTC.
const START: i64 = 1_785_751_200_000;

fn curve(n: i64, value: impl Fn(f64) -> f64) -> Curve {
    Curve { points: (0..n).map(|i| (START + i * MINUTE / 2, value(i as f64))).collect() }
}

/// A latency that rises above its threshold, with neighbours.
fn latency() -> Chart {
    let wave =
        |phase: f64, i: f64| 0.35 + 0.08 * (i / 9.0 + phase).sin() + 0.03 * (i / 2.3 + phase * 7.0).sin();
    let own = curve(181, |i| wave(0.0, i) + if i > 120.0 { (i - 120.0) * 0.03 } else { 0.0 });
    Chart {
        from: START,
        to: START + 90 * MINUTE,
        step_ms: MINUTE / 2,
        zone: TimeZone::UTC,
        unit: Unit::from(Base::Seconds),
        own: vec![own],
        limits: Vec::new(),
        neighbours: [1.0, 2.0, 3.0, 4.0].map(|phase| curve(181, |i| wave(phase, i))).into(),
        threshold: Some(Threshold { value: 1.0, operator: ">", bad: Bad::Above }),
        spans: vec![
            Span { from: START + 70 * MINUTE, to: START + 75 * MINUTE, kind: SpanKind::Pending },
            Span { from: START + 75 * MINUTE, to: START + 90 * MINUTE, kind: SpanKind::Firing },
        ],
    }
}

/// Free space that ends, in another zone, with a gap and a sudden end.
fn disk() -> Chart {
    let mut own = curve(400, |i| 6e9 - i * 1.45e7);
    own.points.retain(|(t, _)| !(START + 60 * MINUTE..START + 95 * MINUTE).contains(t));
    Chart {
        to: START + 200 * MINUTE,
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        unit: Unit::from(Base::Bytes),
        own: vec![own],
        neighbours: Vec::new(),
        threshold: Some(Threshold { value: 1e9, operator: "<", bad: Bad::Below }),
        spans: vec![Span { from: START + 172 * MINUTE, to: START + 200 * MINUTE, kind: SpanKind::Firing }],
        ..latency()
    }
}

/// `absent(up)`: a count that is not there any more.
fn absent() -> Chart {
    Chart {
        unit: Unit::default(),
        own: vec![curve(120, |_| 1.0)],
        neighbours: Vec::new(),
        threshold: None,
        spans: vec![
            Span { from: START + 60 * MINUTE, to: START + 65 * MINUTE, kind: SpanKind::Pending },
            Span { from: START + 65 * MINUTE, to: START + 90 * MINUTE, kind: SpanKind::Firing },
        ],
        ..latency()
    }
}

/// The image as rows of colours.
struct Pixels {
    data: Vec<u8>,
    width: usize,
}

impl Pixels {
    fn of(file: &[u8]) -> Self {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut data).unwrap();
        assert_eq!((info.width, info.height), (u32::from(WIDTH), u32::from(HEIGHT)));
        assert_eq!(info.color_type, png::ColorType::Rgb, "an image with a palette and without transparency");
        Self { data, width: info.width as usize }
    }

    fn at(&self, x: f32, y: f32) -> [u8; 3] {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the image")]
        let [x, y] = [x, y].map(|v| v.round() as usize);
        let i = (y * self.width + x) * 3;
        [self.data[i], self.data[i + 1], self.data[i + 2]]
    }

    fn is_near(&self, x: f32, y: f32, color: [u8; 3]) -> bool {
        self.at(x, y).iter().zip(color).all(|(a, b)| a.abs_diff(b) <= 10)
    }
}

/// Every value is a blue pixel where its time and its size say, and blue is nowhere else in that column.
fn check_curve(chart: &Chart) {
    let pixels = Pixels::of(&chart.render());
    let frame = chart.frame(&chart.values());
    let blue = OWN.channels();
    // Labels are blue too: what lies below them is left out.
    let points: Vec<_> = chart.own[0].drawn().collect();
    for pair in points.windows(3).skip(30) {
        let (t, v) = pair[1];
        let (x, y) = (frame.x(t), frame.y(v));
        if pair[2].0 - pair[0].0 > 2 * chart.step_ms || frame.x(points[points.len() - 1].0) - x < 30.0 {
            continue;
        }
        assert!(pixels.is_near(x, y, blue), "no curve at {t} with {v}: {:?} at {x},{y}", pixels.at(x, y));
        for row in 40..350_u16 {
            let row = f32::from(row);
            let slope = (frame.y(pair[0].1) - frame.y(pair[2].1)).abs();
            if (row - y).abs() > 8.0 + slope {
                assert!(!pixels.is_near(x, row, blue), "a curve at {x},{row} where {v} is at {y}");
            }
        }
    }
}

#[test]
fn the_curve_is_where_the_values_are() {
    check_curve(&latency());
    check_curve(&disk());
    check_curve(&absent());
}

#[test]
fn another_curve_is_another_image() {
    let (chart, mut other) = (latency(), latency());
    other.own[0].points[90].1 += 0.2;
    assert_ne!(chart.render(), other.render());
    assert_eq!(chart.render(), latency().render());
}

#[test]
fn gaps_are_not_drawn_over() {
    let chart = disk();
    let (pixels, frame) = (Pixels::of(&chart.render()), chart.frame(&chart.values()));
    let (before, after) = (chart.own[0].points[119], chart.own[0].points[120]);
    assert!(after.0 - before.0 > 30 * MINUTE);
    let middle = (frame.x(i64::midpoint(before.0, after.0)), frame.y(f64::midpoint(before.1, after.1)));
    assert!(!pixels.is_near(middle.0, middle.1, OWN.channels()));
}

#[test]
fn marks_and_threshold_are_in_their_places() {
    let chart = latency();
    let (pixels, frame) = (Pixels::of(&chart.render()), chart.frame(&chart.values()));
    let y = frame.bottom - 20.0;
    let column = |minutes: i64| pixels.at(frame.x(START + minutes * MINUTE + 20_000), y);
    let [calm, pending, firing] = [40, 72, 80].map(column);
    assert_eq!(calm, [255, 255, 255]);
    assert!(pending[2] < 220 && pending[0] == 255, "{pending:?}");
    assert!(firing[1] < 245 && firing[0] == 255, "{firing:?}");
    // The threshold is dashed.
    let line = frame.y(1.0);
    let reds = (200..700_u16).filter(|x| pixels.is_near(f32::from(*x), line, [0xcf, 0x22, 0x2e])).count();
    assert!((150..450).contains(&reds), "{reds} red pixels of 500");
}

/// Compares with the stored image; `UPDATE_EXPECT=1` writes it anew.
fn check_golden(name: &str, chart: &Chart) {
    let file = chart.render();
    assert!(file.len() <= 40_000, "{name} has {} bytes", file.len());
    let path = format!("{}/src/chart/testdata/{name}.png", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &file).unwrap();
    }
    let stored = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; UPDATE_EXPECT=1 writes it"));
    let (ours, theirs) = (Pixels::of(&file), Pixels::of(&stored));
    // Another processor may round a shade at an edge otherwise.
    let differing = ours.data.iter().zip(&theirs.data).filter(|(a, b)| a.abs_diff(**b) > 24).count();
    assert!(differing < 300, "{name} differs in {differing} of {} channels", ours.data.len());
}

#[test]
fn images_are_as_stored() {
    check_golden("latency", &latency());
    check_golden("disk", &disk());
    check_golden("absent", &absent());
}

#[test]
fn odd_values_do_no_harm() {
    for values in [
        &[f64::NAN; 5][..],
        &[f64::INFINITY, f64::NEG_INFINITY, 1.0],
        &[f64::MAX, f64::MIN, 0.0],
        &[1e299, -1e299],
        &[5e-324, 0.0],
        &[3.0],
        &[],
    ] {
        let points = (0..).zip(values).map(|(i, v)| (START + i * MINUTE, *v)).collect();
        for threshold in [0.0, f64::NAN, f64::INFINITY, 1e300, -5.0] {
            let chart = Chart {
                own: vec![Curve { points: Vec::clone(&points) }],
                neighbours: Vec::new(),
                threshold: Some(Threshold { value: threshold, operator: ">", bad: Bad::Above }),
                ..latency()
            };
            assert!(chart.render().len() < 40_000);
        }
    }
    let chart = Chart { to: START, own: Vec::new(), neighbours: Vec::new(), ..latency() };
    assert!(chart.is_empty());
    chart.render();
}

#[test]
fn the_busiest_chart_is_small() {
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f64
    };
    let mut noise = || Curve { points: (0..300).map(|i| (START + i * MINUTE / 2, random())).collect() };
    let chart = Chart {
        to: START + 150 * MINUTE,
        own: vec![noise()],
        neighbours: (0..8).map(|_| noise()).collect(),
        limits: vec![noise()],
        ..latency()
    };
    let bytes = chart.render().len();
    assert!(bytes <= super::BYTES_MAX, "{bytes} bytes");
}
