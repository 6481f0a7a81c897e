//! The log of ended queries: a line of JSON each, in a file that the configuration names.
//!
//! Traces are not made here, so their ids are zero, as upstream writes them where there is none.
//!
//! Compat: prometheus `promql/engine.go`, `exec`, and `util/logging`, `JSONFileLogger`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::Timestamp;
use model::wire::expose::Counter;
use parking_lot::RwLock;
use promql::{Ended, Origin};
use web::json::{write_raw, write_stats};

#[derive(Default)]
pub(super) struct Log {
    file: RwLock<Option<(PathBuf, File)>>,
    pub(super) failures: Counter,
}

impl Log {
    pub(super) fn set(&self, path: Option<&Path>) -> io::Result<()> {
        // Opened anew even if it is the same, so that a moved file is let go.
        let opened = match path {
            None => None,
            Some(path) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                Some((path.to_owned(), File::options().create(true).append(true).open(path)?))
            }
        };
        *self.file.write() = opened;
        Ok(())
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.file.read().is_some()
    }

    pub(super) fn write(&self, query: &Ended<'_>) {
        let line = line(query, jiff::Timestamp::now());
        // One call a line, which appending keeps whole.
        if let Some((path, file)) = &*self.file.read()
            && let Err(e) = (&mut &*file).write_all(&line)
        {
            self.failures.inc();
            tracing::error!(file = %path.display(), error = %e, "can't log query");
        }
    }
}

fn line(query: &Ended<'_>, now: jiff::Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let text = |out: &mut Vec<u8>, key: &str, value: &str| {
        out.extend_from_slice(key.as_bytes());
        write_raw(out, value.as_bytes());
    };
    text(&mut out, "{\"time\":", &now.to_string());
    out.extend_from_slice(b",\"level\":\"INFO\",\"msg\":\"promql query logged\"");
    text(&mut out, ",\"params\":{\"end\":", &date(query.range.end));
    text(&mut out, ",\"query\":", query.text);
    text(&mut out, ",\"start\":", &date(query.range.start));
    out.extend_from_slice(format!(",\"step\":{}}}", query.range.step_ms / 1000).as_bytes());
    if let Some(error) = query.error {
        text(&mut out, ",\"error\":", &error.to_string());
    }
    out.extend_from_slice(b",\"stats\":");
    write_stats(&mut out, query.stats);
    out.extend_from_slice(
        b",\"spanID\":\"0000000000000000\",\"traceID\":\"00000000000000000000000000000000\"",
    );
    match query.origin {
        Some(Origin::Http { client, method, path, .. }) => {
            text(&mut out, ",\"httpRequest\":{\"clientIP\":", client);
            text(&mut out, ",\"method\":", method);
            text(&mut out, ",\"path\":", path);
            out.push(b'}');
        }
        Some(Origin::Rules { file, group }) => {
            text(&mut out, ",\"ruleGroup\":{\"file\":", file);
            text(&mut out, ",\"name\":", group);
            out.push(b'}');
        }
        None => {}
    }
    out.extend_from_slice(b"}\n");
    out
}

fn date(t: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(t).map_or_else(|_| t.to_string(), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use promql::{Ended, Error, Origin, RangeParams, Stats};

    use super::{Log, line};

    fn ended<'a>(origin: &'a Origin, stats: &'a Stats, error: Option<&'a Error>) -> Ended<'a> {
        let range = RangeParams { start: 1_000, end: 61_500, step_ms: 15_500 };
        Ended {
            text: "a < \"b\"",
            range,
            origin: Some(origin),
            stats,
            error,
            took: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn a_line_has_the_fields_of_upstream() {
        let origin = Origin::Http {
            client: "127.0.0.1".to_owned(),
            method: "GET".to_owned(),
            path: "/api/v1/query_range".to_owned(),
            shown_in: Vec::new(),
        };
        let stats = Stats { total_queryable_samples: 3, samples_read: 2, ..Stats::default() };
        let at = jiff::Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
        let shown = String::from_utf8(line(&ended(&origin, &stats, None), at)).unwrap();
        assert_eq!(
            shown,
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123456789Z","level":"INFO","msg":"promql query logged","params":"#,
                r#"{"end":"1970-01-01T00:01:01.500Z","query":"a < \"b\"","start":"1970-01-01T00:00:01.000Z","step":15},"#,
                r#""stats":{"timings":{"evalTotalTime":0,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":0,"#,
                r#""execQueueTime":0,"execTotalTime":0},"samples":{"totalQueryableSamples":3,"samplesRead":2,"peakSamples":0}},"#,
                r#""spanID":"0000000000000000","traceID":"00000000000000000000000000000000","#,
                r#""httpRequest":{"clientIP":"127.0.0.1","method":"GET","path":"/api/v1/query_range"}}"#,
                "\n"
            )
        );
        let origin = Origin::Rules { file: "/r.yml".to_owned(), group: "g".to_owned() };
        let error = Error::Timeout("query queue".to_owned());
        let shown = String::from_utf8(line(&ended(&origin, &stats, Some(&error)), at)).unwrap();
        assert!(shown.contains(r#"},"error":"query timed out in query queue","stats":{"#), "{shown}");
        assert!(shown.ends_with("\"ruleGroup\":{\"file\":\"/r.yml\",\"name\":\"g\"}}\n"), "{shown}");
    }

    #[test]
    fn the_file_is_appended_to_and_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/q.log");
        let (log, origin) = (Log::default(), Origin::Rules { file: String::new(), group: String::new() });
        let stats = Stats::default();
        let write = || log.write(&ended(&origin, &stats, None));
        write();
        for _ in 0..2 {
            log.set(Some(&path)).unwrap();
            write();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        log.set(None).unwrap();
        write();
        assert!(!log.is_enabled());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert!(log.set(Some(dir.path())).is_err(), "a folder is no log");
    }
}
