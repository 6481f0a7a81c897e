//! The table that a comparison ends with.

use std::io::Write;

use crate::Load;

pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) version: String,
    /// Of one core.
    pub(crate) cpu_percent: f64,
    pub(crate) cpu_us_per_sample: f64,
    pub(crate) rss_anon_bytes: u64,
    pub(crate) rss_anon_per_series: f64,
    pub(crate) missed_scrapes: u64,
    pub(crate) expected_scrapes: u64,
    pub(crate) disk_bytes_per_sample: f64,
    /// The most that was resident since the start, mapped files included.
    pub(crate) peak_per_series: f64,
    pub(crate) restart: Option<Restart>,
}

/// What the start after a kill took.
pub(crate) struct Restart {
    /// From the kill to the first answer that the server is ready.
    pub(crate) seconds: f64,
    pub(crate) peak_per_series: f64,
    /// Samples that could be queried before the kill and not after it.
    pub(crate) lost: u64,
}

pub(crate) fn print(load: Load, rows: &[Row]) {
    let mut out = std::io::stdout().lock();
    let encoding = if load.gzip { "gzip" } else { "plain" };
    let churn = match (load.replace, load.churn) {
        (true, _) => ", all series replaced after warming up".to_owned(),
        (false, churn) if churn > 0 => format!(", {churn} % of the series replaced each minute"),
        _ => String::new(),
    };
    let written = writeln!(
        out,
        "{} targets{} x {} series at {} s, {encoding}{churn}, {} s after {} s of warming up",
        load.targets,
        if load.listed { " from a list" } else { "" },
        load.series,
        load.interval,
        load.seconds,
        load.warmup
    )
    .and_then(|()| {
        writeln!(
            out,
            "{:<24} {:>6} {:>14} {:>12} {:>16} {:>14} {:>16} {:>14} {:>38}",
            "server",
            "CPU %",
            "CPU us/sample",
            "RssAnon MiB",
            "RssAnon B/series",
            "peak B/series",
            "missed scrapes",
            "disk B/sample",
            "ready after kill (peak, samples lost)"
        )
    })
    .and_then(|()| {
        rows.iter().try_for_each(|row| {
            writeln!(
                out,
                "{:<24} {:>6.1} {:>14.3} {:>12.1} {:>16.0} {:>14.0} {:>16} {:>14.2} {:>38}",
                format!("{} {}", row.server, row.version),
                row.cpu_percent,
                row.cpu_us_per_sample,
                row.rss_anon_bytes as f64 / f64::from(1 << 20),
                row.rss_anon_per_series,
                row.peak_per_series,
                format!("{} of {}", row.missed_scrapes, row.expected_scrapes),
                row.disk_bytes_per_sample,
                row.restart.as_ref().map_or_else(
                    || "-".to_owned(),
                    |restart| format!(
                        "{:.2} s ({:.0} B/series, {})",
                        restart.seconds, restart.peak_per_series, restart.lost
                    )
                ),
            )
        })
    });
    // A closed pipe is the reader's wish.
    drop(written);
}
