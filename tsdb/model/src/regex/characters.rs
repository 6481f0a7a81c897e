//! Classes of characters spelled out as bytes, where that is short.
//!
//! A class such as `.` or `[^:]` has every character beyond ASCII. The general way to make an automaton of a class
//! needs tables of hundreds of kilobytes; of these, four branches say the same of a text that is UTF-8.

use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, Hir, HirKind, Repetition,
};

/// The same pattern for texts that are UTF-8, which all are that an automaton reads.
pub(super) fn of_bytes(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => spelled(class).unwrap_or_else(|| hir.clone()),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(of_bytes(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Capture(capture) => Hir::capture(Capture {
            index: capture.index,
            name: capture.name.clone(),
            sub: Box::new(of_bytes(&capture.sub)),
        }),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(of_bytes).collect()),
        HirKind::Alternation(branches) => Hir::alternation(branches.iter().map(of_bytes).collect()),
        _ => hir.clone(),
    }
}

/// A class that has all characters beyond ASCII.
fn spelled(class: &ClassUnicode) -> Option<Hir> {
    let beyond = class.ranges().last()?;
    if beyond.start() > '\u{80}' || beyond.end() < char::MAX {
        return None;
    }
    let ascii = class.ranges().iter().filter_map(|range| {
        let (start, end) = (u8::try_from(range.start()).ok()?, u32::from(range.end()).min(0x7f));
        (start < 0x80).then(|| ClassBytesRange::new(start, u8::try_from(end).unwrap_or(0x7f)))
    });
    let bytes = |range| Hir::class(Class::Bytes(ClassBytes::new([range])));
    let next = || bytes(ClassBytesRange::new(0x80, 0xbf));
    let lead = |start, end| bytes(ClassBytesRange::new(start, end));
    let mut branches = vec![
        Hir::concat(vec![lead(0xc2, 0xdf), next()]),
        Hir::concat(vec![lead(0xe0, 0xef), next(), next()]),
        Hir::concat(vec![lead(0xf0, 0xf4), next(), next(), next()]),
    ];
    let ascii = ClassBytes::new(ascii);
    if !ascii.ranges().is_empty() {
        branches.insert(0, Hir::class(Class::Bytes(ascii)));
    }
    Some(Hir::alternation(branches))
}
