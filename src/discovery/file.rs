//! Discovery by files: lists of groups in JSON or YAML, read again when they change.
//!
//! The parent folders are watched, never the files, so that a rename over a file and the symlink swap of a
//! mounted volume are both seen; any event means "look again". A poll at the refresh interval stands behind
//! the watch, since not every file system reports changes. A file that cannot be read or decoded, perhaps
//! because it is half written, keeps its last good groups, and so do the files of a folder that cannot be
//! listed; a file that is gone loses them.
//!
//! Compat: prometheus `discovery/file`.

mod glob;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::MetadataExt;
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

use super::{Context, Error, Metrics, Update, refresh, taken};

/// Several events of one change (create, write, close, rename) are taken together within this time.
const SETTLE: Duration = Duration::from_millis(50);

/// A folder that is not there cannot be watched, so it is looked for.
const ABSENCE: Duration = Duration::from_secs(2);

/// The most bytes of one file; beyond it the file is refused rather than read into memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub(super) struct Discoverer {
    section: FileDiscovery,
    context: Context,
    files: Files,
}

impl Discoverer {
    pub(super) fn new(section: FileDiscovery, context: Context) -> Self {
        let files = Files::new(section.files.clone());
        Self { section, context, files }
    }

    async fn watch_until_stopped(mut self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let mut watch = Watch::new(&self.section.files, &self.context, &changed);
        let mut ticks = tokio::time::interval(self.section.refresh_interval.max(refresh::INTERVAL_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let health = Arc::clone(&self.context.health);
        health.hold();
        let mut is_settled = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                () = tokio::time::sleep(ABSENCE), if watch.is_partial => {}
                () = changed.notified() => {
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(SETTLE) => {}
                    }
                }
            }
            let context = self.context.clone();
            let mut files = std::mem::take(&mut self.files);
            let scan = tokio::task::spawn_blocking(move || {
                // First the watch, then the look: what changes in between is seen twice rather than never.
                watch.renew(&context);
                let update = files.scan(&context);
                (files, watch, update)
            });
            let Ok((files, renewed, mut update)) = scan.await else {
                let error = "the scan of the files panicked; their discovery has stopped";
                self.context.health.failed("", "Error reading files", &error);
                return;
            };
            self.files = files;
            watch = renewed;
            if !is_settled && self.files.is_begun {
                taken(&updates).await;
                let failed = self.files.failed.clone();
                is_settled = failed.is_empty();
                if is_settled {
                    health.settle();
                } else {
                    health.settle_but(move |source| is_of(source, &failed));
                }
                update.get_or_insert_default();
            }
            if let Some(update) = update
                && updates.send(update).await.is_err()
            {
                break;
            }
        }
        let mut mtimes = self.context.metrics.file_mtimes.lock();
        for path in self.files.known.keys() {
            mtimes.remove(&*path.to_string_lossy());
        }
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

/// The watch of the folders of all globs.
struct Watch {
    /// `None` leaves discovery to the poll.
    watcher: Option<notify::RecommendedWatcher>,
    /// Each folder with what it was when its watch was set: a folder that is replaced needs a new one.
    folders: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// One of the folders is not there.
    is_partial: bool,
}

impl Watch {
    fn new(globs: &[String], context: &Context, changed: &Arc<Notify>) -> Self {
        let (changed, metrics) = (Arc::clone(changed), Arc::clone(&context.metrics));
        let on_event = move |event: notify::Result<notify::Event>| match event {
            // Our own reading is no change.
            Ok(event) if event.kind.is_access() => {}
            Ok(_) => changed.notify_one(),
            Err(error) => {
                metrics.file_watcher_errors.inc();
                tracing::error!(%error, "error watching discovery files");
            }
        };
        let watcher = notify::recommended_watcher(on_event)
            .inspect_err(|error| {
                context.metrics.file_watcher_errors.inc();
                tracing::error!(%error, "could not watch discovery files; polling only");
            })
            .ok();
        let folders = globs.iter().map(|glob| (glob::folder(glob), None)).collect();
        Self { watcher, folders, is_partial: false }
    }

    /// Watches the folders that came to be or were replaced since the last time.
    fn renew(&mut self, context: &Context) {
        let Some(watcher) = &mut self.watcher else { return };
        self.is_partial = false;
        for (folder, watched) in &mut self.folders {
            let now = std::fs::metadata(folder).ok().map(|meta| (meta.dev(), meta.ino()));
            self.is_partial |= now.is_none();
            if now == *watched {
                continue;
            }
            if watched.take().is_some() {
                // It fails if the folder is gone, and the watch with it.
                let _ = watcher.unwatch(folder);
            }
            if now.is_none() {
                continue;
            }
            match watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
                Ok(()) => *watched = now,
                Err(error) => {
                    context.metrics.file_watcher_errors.inc();
                    tracing::error!(folder = %folder.display(), %error, "could not watch folder; polling only");
                }
            }
        }
    }
}

/// The files of one section and what was read of them last.
#[derive(Default)]
struct Files {
    globs: Vec<String>,
    known: BTreeMap<PathBuf, Known>,
    /// Paths, and globs of folders, that could not be read the last time.
    failed: Vec<String>,
    /// Something was sent.
    is_begun: bool,
}

struct Known {
    /// Length and hash of the content.
    content: (usize, u64),
    n_groups: usize,
}

impl Files {
    fn new(globs: Vec<String>) -> Self {
        Self { globs, ..Self::default() }
    }

    /// Looks at every file once; returns the groups of those that changed or went, `None` if there is no news.
    fn scan(&mut self, context: &Context) -> Option<Update> {
        let Context { health, metrics } = context;
        let start = Instant::now();
        let mut update = Update::new();
        let (mut paths, mut failed) = (BTreeSet::new(), BTreeMap::new());
        for glob in &self.globs {
            match glob::expand(glob) {
                Ok(found) => paths.extend(found),
                Err(error) => {
                    failed.insert(glob.clone(), error);
                    // Nobody can tell which of them still exist.
                    paths.extend(self.known.keys().filter(|path| glob::matches(glob, path)).cloned());
                }
            }
        }
        for path in &paths {
            match self.read(path, metrics) {
                Ok(groups) => update.extend(groups),
                Err(error) => drop(failed.insert(path.to_string_lossy().into_owned(), error)),
            }
        }
        health.retain(|part| failed.contains_key(part));
        for (part, error) in &failed {
            metrics.file_read_errors.inc();
            health.failed(part, "Error reading file", error);
        }
        self.failed = failed.into_keys().collect();
        let gone: Vec<PathBuf> = self.known.keys().filter(|path| !paths.contains(*path)).cloned().collect();
        for path in gone {
            let known = self.known.remove(&path).expect("the path was just listed");
            metrics.file_mtimes.lock().remove(&*path.to_string_lossy());
            update.extend((0..known.n_groups).map(|i| empty(&path, i)));
        }
        metrics.file_scan_duration.observe(start.elapsed().as_secs_f64());
        // Files that hold nothing are news once; files that cannot be read are none.
        let is_news = !update.is_empty() || (!self.is_begun && self.failed.is_empty());
        self.is_begun |= is_news;
        is_news.then_some(update)
    }

    fn read(&mut self, path: &Path, metrics: &Metrics) -> Result<Update, Error> {
        let io = |error: std::io::Error| Error(format!("could not read the file: {error}"));
        let meta = std::fs::metadata(path).map_err(io)?;
        if !meta.is_file() {
            // Reading a pipe would wait for ever.
            return Err(Error("not a regular file".to_owned()));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(Error(format!("the file has {} bytes, more than {FILE_BYTES_MAX}", meta.len())));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let content = (bytes.len(), hasher.finish());
        let name = path.to_string_lossy().into_owned();
        let mtime = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let mtime = mtime.unwrap_or_default().as_secs_f64().floor();
        if self.known.get(path).is_some_and(|known| known.content == content) {
            metrics.file_mtimes.lock().insert(name, mtime);
            return Ok(Update::new());
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| Error(format!("not a text file: {error}")))?;
        let groups =
            config::target_group::parse_file(path, text).map_err(|error| Error(error.to_string()))?;
        metrics.file_mtimes.lock().insert(name, mtime);
        let before = self.known.get(path).map_or(0, |known| known.n_groups);
        let n_groups = groups.len();
        self.known.insert(path.to_owned(), Known { content, n_groups });
        Ok(groups.into_iter().map(Arc::new).chain((n_groups..before).map(|i| empty(path, i))).collect())
    }
}

/// Whether `source` is a group of one of these paths and globs.
fn is_of(source: &str, paths: &[String]) -> bool {
    let Some((file, _)) = source.rsplit_once(':') else { return false };
    paths.iter().any(|path| path == file || glob::matches(path, Path::new(file)))
}

/// Says that the group of this place in the file is gone.
fn empty(path: &Path, i: usize) -> Arc<TargetGroup> {
    Arc::new(TargetGroup { source: format!("{}:{i}", path.display()), ..TargetGroup::default() })
}

#[cfg(test)]
mod tests;
