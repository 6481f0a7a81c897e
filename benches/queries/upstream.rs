//! Reads what `go test -bench` prints.

use std::collections::BTreeMap;

/// One line of it, the best of several of the same name.
pub(crate) struct Figures {
    pub(crate) ns: f64,
    /// Time of the processor, if it was reported as `cpu-ns/op`.
    pub(crate) cpu_ns: Option<f64>,
    pub(crate) bytes: f64,
    pub(crate) allocations: f64,
}

/// Adds the lines `Name-2   3   75472 ns/op   8757 B/op   119 allocs/op` of `text`; others are not looked at.
pub(crate) fn parse(text: &str, known: &mut BTreeMap<String, Figures>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next().filter(|name| name.starts_with("Benchmark")) else { continue };
        // Behind the last dash is the number of threads, unless there was one.
        let name = match name.rsplit_once('-') {
            Some((name, threads)) if threads.parse::<u32>().is_ok() => name,
            _ => name,
        };
        let words: Vec<&str> = words.collect();
        let of = |unit: &str| {
            let at = words.iter().position(|&word| word == unit)?;
            words.get(at.checked_sub(1)?)?.parse::<f64>().ok()
        };
        let Some(ns) = of("ns/op") else { continue };
        let new = Figures {
            ns,
            cpu_ns: of("cpu-ns/op"),
            bytes: of("B/op").unwrap_or(f64::NAN),
            allocations: of("allocs/op").unwrap_or(f64::NAN),
        };
        let best = known.entry(name.to_owned()).or_insert(Figures { ..new });
        best.ns = best.ns.min(new.ns);
        best.cpu_ns = [best.cpu_ns, new.cpu_ns].into_iter().flatten().reduce(f64::min);
        best.bytes = best.bytes.min(new.bytes);
        best.allocations = best.allocations.min(new.allocations);
    }
}

/// A name as Go prints it.
pub(crate) fn name(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect()
}
