//! The log of failed scrapes: a line of JSON for each, in the file that a job names.
//!
//! A file is opened once, however many jobs name it, and again at each reload, so that it can be rotated.
//!
//! Compat: prometheus `scrape_failure_log_file`; `util/logging`, `JSONFileLogger`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use crate::http_client::plain;

/// All files, by name.
#[derive(Default)]
pub(super) struct FailureLogs(BTreeMap<String, Arc<FailureLog>>);

/// One file.
pub(super) struct FailureLog {
    path: PathBuf,
    file: Mutex<File>,
}

impl FailureLogs {
    /// Opens the files `names`, those that are open anew; others are closed when their last job has let go of them.
    ///
    /// # Errors
    /// One cannot be opened; then all stay as they were.
    pub(super) fn reopen<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<(), String> {
        let mut opened = BTreeMap::new();
        for name in names.filter(|name| !name.is_empty()) {
            if !opened.contains_key(name) {
                opened.insert(name.to_owned(), open(Path::new(name))?);
            }
        }
        let old = std::mem::take(&mut self.0);
        for (name, file) in opened {
            let log = if let Some(log) = old.get(&name) {
                *log.file.lock() = file;
                Arc::clone(log)
            } else {
                Arc::new(FailureLog { path: PathBuf::from(&name), file: Mutex::new(file) })
            };
            self.0.insert(name, log);
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<FailureLog>> {
        self.0.get(name).cloned()
    }
}

fn open(path: &Path) -> Result<File, String> {
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(|error| format!("open {}: {}", path.display(), plain(&error)))
}

impl FailureLog {
    pub(super) fn write(&self, error: &str, job: &str, target: &str) {
        let line = json!({
            "time": format!("{:.3}", jiff::Timestamp::now()),
            "level": "ERROR",
            "msg": error,
            "job_name": job,
            "target": target,
        });
        // In one write, so that lines of several threads do not mix.
        if let Err(error) = self.file.lock().write_all(format!("{line}\n").as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "could not write to the log of failed scrapes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shared_and_opened_anew() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let (a, b, bad) = (path("a"), path("b"), path("none/c"));
        let mut logs = FailureLogs::default();
        logs.reopen(["", &a, &a, &b].into_iter()).unwrap();
        assert!(logs.get("").is_none());
        let log = logs.get(&a).unwrap();
        log.write("boom \"x\"", "j", "http://t/metrics");
        let text = std::fs::read_to_string(&a).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["msg"], "boom \"x\"");
        assert_eq!((&line["level"], &line["job_name"]), (&"ERROR".into(), &"j".into()));
        assert_eq!(line["target"], "http://t/metrics");
        line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();

        // Moved away by a rotation: the next reload begins a new file, for those who hold the log already, too.
        std::fs::rename(&a, path("a.1")).unwrap();
        let refused = logs.reopen([a.as_str(), &bad].into_iter()).unwrap_err();
        assert_eq!(refused, format!("open {bad}: no such file or directory"));
        logs.reopen([a.as_str()].into_iter()).unwrap();
        log.write("second", "j", "t");
        assert!(std::fs::read_to_string(&a).unwrap().contains("second"));
        assert!(!std::fs::read_to_string(path("a.1")).unwrap().contains("second"));
        assert!(logs.get(&b).is_none());
    }
}
