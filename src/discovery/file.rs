//! Discovery by files: lists of groups in JSON or YAML, read again when they change.
//!
//! The parent folders are watched, never the files, so that a rename over a file and the symlink swap of a
//! mounted volume are both seen; any event means "look again". A poll at the refresh interval stands behind
//! the watch, since not every file system reports changes. A file that cannot be read or decoded, perhaps
//! because it is half written, keeps its last good groups; a file that is gone loses them.
//!
//! Compat: prometheus `discovery/file`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use config::TargetGroup;
use config::prometheus::FileDiscovery;
use notify::Watcher as _;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Error, Metrics, Update};

/// Several events of one change (create, write, close, rename) are taken together within this time.
const SETTLE: Duration = Duration::from_millis(50);

/// The most bytes of one file; beyond it the file is refused rather than read into memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub(super) struct Discoverer {
    section: FileDiscovery,
    metrics: Arc<Metrics>,
    files: Files,
}

impl Discoverer {
    pub(super) fn new(section: FileDiscovery, metrics: Arc<Metrics>) -> Self {
        let files = Files { globs: section.files.clone(), known: BTreeMap::new() };
        Self { section, metrics, files }
    }

    async fn watch_until_stopped(mut self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let watcher = self.watch(&changed);
        let mut ticks = tokio::time::interval(self.section.refresh_interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = changed.notified() => {
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(SETTLE) => {}
                    }
                }
            }
            let metrics = Arc::clone(&self.metrics);
            let mut files = std::mem::take(&mut self.files);
            let scan = tokio::task::spawn_blocking(move || {
                let update = files.scan(&metrics);
                (files, update)
            });
            let Ok((files, update)) = scan.await else {
                tracing::error!("the scan of discovery files panicked; file discovery stops");
                break;
            };
            self.files = files;
            if !update.is_empty() && updates.send(update).await.is_err() {
                break;
            }
        }
        drop(watcher);
        let mut mtimes = self.metrics.file_mtimes.lock();
        for path in self.files.known.keys() {
            mtimes.remove(&*path.to_string_lossy());
        }
    }

    /// Starts to watch the folders of all globs; `None` leaves discovery to the poll.
    fn watch(&self, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let (changed, metrics) = (Arc::clone(changed), Arc::clone(&self.metrics));
        let on_event = move |event: notify::Result<notify::Event>| match event {
            // Our own reading is no change.
            Ok(event) if event.kind.is_access() => {}
            Ok(_) => changed.notify_one(),
            Err(error) => {
                metrics.file_watcher_errors.inc();
                tracing::error!(%error, "error watching discovery files");
            }
        };
        let mut watcher = match notify::recommended_watcher(on_event) {
            Ok(watcher) => watcher,
            Err(error) => {
                self.metrics.file_watcher_errors.inc();
                tracing::error!(%error, "could not watch discovery files; polling only");
                return None;
            }
        };
        let folders: BTreeSet<&Path> =
            self.section.files.iter().filter_map(|glob| Path::new(glob).parent()).collect();
        for folder in folders {
            if let Err(error) = watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
                self.metrics.file_watcher_errors.inc();
                tracing::error!(folder = %folder.display(), %error, "could not watch folder; polling only");
            }
        }
        Some(watcher)
    }
}

impl super::Discoverer for Discoverer {
    fn run(
        self: Box<Self>,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.watch_until_stopped(updates, stop))
    }
}

/// The files of one section and what was read of them last.
#[derive(Default)]
pub(super) struct Files {
    globs: Vec<String>,
    known: BTreeMap<PathBuf, Known>,
}

struct Known {
    content: Vec<u8>,
    n_groups: usize,
}

impl Files {
    #[cfg(test)]
    pub(super) fn new(globs: Vec<String>) -> Self {
        Self { globs, known: BTreeMap::new() }
    }

    /// Looks at every file once; returns the groups of those that changed or went.
    pub(super) fn scan(&mut self, metrics: &Metrics) -> Update {
        let start = Instant::now();
        let first = self.known.is_empty();
        let mut update = Update::new();
        let paths: BTreeSet<PathBuf> = self.globs.iter().flat_map(|glob| expand(glob)).collect();
        for path in &paths {
            match self.read(path, metrics) {
                Ok(groups) => update.extend(groups),
                Err(error) => {
                    metrics.file_read_errors.inc();
                    tracing::error!(path = %path.display(), %error, "error reading discovery file");
                }
            }
        }
        let gone: Vec<PathBuf> = self.known.keys().filter(|path| !paths.contains(*path)).cloned().collect();
        for path in gone {
            let known = self.known.remove(&path).expect("the path was just listed");
            metrics.file_mtimes.lock().remove(&*path.to_string_lossy());
            update.extend((0..known.n_groups).map(|i| empty(&path, i)));
        }
        metrics.file_scan_duration.observe(start.elapsed().as_secs_f64());
        if first && update.is_empty() {
            // Says that the files were looked at and hold nothing.
            update.push(Arc::new(TargetGroup::default()));
        }
        update
    }

    fn read(&mut self, path: &Path, metrics: &Metrics) -> Result<Update, Error> {
        let io = |error: std::io::Error| Error(format!("could not read the file: {error}"));
        let meta = std::fs::metadata(path).map_err(io)?;
        if meta.len() > FILE_BYTES_MAX {
            return Err(Error(format!("the file has {} bytes, more than {FILE_BYTES_MAX}", meta.len())));
        }
        let content = std::fs::read(path).map_err(io)?;
        if self.known.get(path).is_some_and(|known| known.content == content) {
            return Ok(Update::new());
        }
        let text =
            std::str::from_utf8(&content).map_err(|error| Error(format!("not a text file: {error}")))?;
        let groups =
            config::target_group::parse_file(path, text).map_err(|error| Error(error.to_string()))?;
        let name = path.to_string_lossy().into_owned();
        let mtime = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        metrics.file_mtimes.lock().insert(name.clone(), mtime.unwrap_or_default().as_secs_f64().floor());

        let before = self.known.get(path).map_or(0, |known| known.n_groups);
        let n_groups = groups.len();
        self.known.insert(path.to_owned(), Known { content, n_groups });
        Ok(groups.into_iter().map(Arc::new).chain((n_groups..before).map(|i| empty(path, i))).collect())
    }
}

/// Says that the group of this place in the file is gone.
fn empty(path: &Path, i: usize) -> Arc<TargetGroup> {
    Arc::new(TargetGroup { source: format!("{}:{i}", path.display()), ..TargetGroup::default() })
}

/// The existing files that `glob` names; a star stands in the last element only (the configuration saw to it).
fn expand(glob: &str) -> Vec<PathBuf> {
    let path = Path::new(glob);
    let (Some(folder), Some(pattern)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Vec::new();
    };
    let Some((prefix, suffix)) = pattern.split_once('*') else {
        return if path.is_file() { vec![path.to_owned()] } else { Vec::new() };
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let matches = |name: &OsStr| {
        name.to_str().is_some_and(|name| {
            name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
        })
    };
    entries
        .flatten()
        .filter(|entry| matches(&entry.file_name()))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}
