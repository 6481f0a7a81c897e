//! The table that a comparison ends with.

use std::io::Write;

use crate::Load;

pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) version: String,
    pub(crate) cpu_us_per_sample: f64,
    pub(crate) rss_anon_per_series: f64,
    pub(crate) missed_scrapes: u64,
    pub(crate) expected_scrapes: u64,
    pub(crate) disk_bytes_per_sample: f64,
    /// From the kill to the first answer that the server is ready.
    pub(crate) ready_seconds: Option<f64>,
}

pub(crate) fn print(load: Load, rows: &[Row]) {
    let mut out = std::io::stdout().lock();
    let encoding = if load.gzip { "gzip" } else { "plain" };
    let written = writeln!(
        out,
        "{} targets x {} series at {} s, {encoding}, {} s after {} s of warming up",
        load.targets, load.series, load.interval, load.seconds, load.warmup
    )
    .and_then(|()| {
        writeln!(
            out,
            "{:<24} {:>14} {:>16} {:>16} {:>14} {:>16}",
            "server",
            "CPU us/sample",
            "RssAnon B/series",
            "missed scrapes",
            "disk B/sample",
            "ready after kill"
        )
    })
    .and_then(|()| {
        rows.iter().try_for_each(|row| {
            writeln!(
                out,
                "{:<24} {:>14.3} {:>16.0} {:>16} {:>14.2} {:>16}",
                format!("{} {}", row.server, row.version),
                row.cpu_us_per_sample,
                row.rss_anon_per_series,
                format!("{} of {}", row.missed_scrapes, row.expected_scrapes),
                row.disk_bytes_per_sample,
                row.ready_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s")),
            )
        })
    });
    // A closed pipe is the reader's wish.
    drop(written);
}
