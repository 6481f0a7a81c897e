//! A disk that breaks at operation N, for tests: it refuses one operation, is full, or stops; and it knows what of a
//! directory would be left after a power cut.
//!
//! Real files in a real directory are what the store sees (maps need them): the live image, which is also what a killed
//! process leaves behind. Beside it the simulation keeps what was made durable: the content of a file as of its
//! last sync, the names in a directory as of the directory's last sync, and nothing else, since that is all that is
//! promised. [`Sim::materialise`] writes images that a power cut may leave into another directory.
//!
//! One operation runs at a time; nothing is synced for real, so that thousands of runs are cheap. Unlike [`super::fault`],
//! which limits how much succeeds, everything here is counted from the same start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, RwLock};

/// Changes to bytes arrive in units of this.
const SECTOR: usize = 4096;

/// What goes wrong, and when: operations count from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Operation `at` fails; if it is a write, half of it has happened.
    Refuse { at: u64, kind: io::ErrorKind },
    /// From operation `at` on there is no space.
    Full { at: u64 },
    /// Operation `at` does not happen, nor does any after it; of a write the given share (in eighths) happens.
    Stop { at: u64, share: u8 },
}

/// What a power cut may leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Image {
    /// What was synced, and nothing else.
    Synced,
    /// All names, of the content what was synced: files renamed before their bytes arrived.
    Names,
    /// All content, of the names what was synced: renames and new names are lost.
    Contents,
    /// All names; of what was written since the last sync, a part, with holes.
    Torn(u64),
}

/// What an operation is, as far as faults care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Takes space: creates, writes, grows, links.
    Takes,
    /// Removes, renames, shortens.
    Changes,
    Syncs,
}

#[derive(Debug)]
enum Node {
    File { durable: Vec<u8> },
    Dir { live: Names, durable: Names },
}

type Names = BTreeMap<OsString, usize>;

#[derive(Debug, Default)]
struct State {
    root: PathBuf,
    nodes: Vec<Node>,
    /// Of files, by the number that the real file system has for them now.
    by_inode: BTreeMap<u64, usize>,
    fault: Option<Fault>,
    count: u64,
    is_struck: bool,
    log: Vec<String>,
}

/// Every simulated directory.
type Sims = Vec<(PathBuf, &'static Mutex<State>)>;

static SIMS: LazyLock<RwLock<Sims>> = LazyLock::new(RwLock::default);

/// A directory on a simulated disk, until dropped.
#[derive(Debug)]
pub(crate) struct Sim {
    root: PathBuf,
    state: &'static Mutex<State>,
}

impl Sim {
    /// Puts `root`, an empty directory, on the simulated disk.
    pub(crate) fn new(root: &Path) -> Self {
        assert!(super::list(root).unwrap().is_empty(), "BUG: only an empty directory can be simulated");
        let nodes = vec![Node::Dir { live: Names::new(), durable: Names::new() }];
        let state = State { root: root.to_owned(), nodes, ..State::default() };
        // A lock that outlives all threads which may still look at it; its content is freed with the simulation.
        let state: &'static Mutex<State> = Box::leak(Box::new(Mutex::new(state)));
        SIMS.write().unwrap().push((root.to_owned(), state));
        Self { root: root.to_owned(), state }
    }

    fn lock(&self) -> MutexGuard<'static, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn plan(&self, fault: Fault) {
        let mut state = self.lock();
        (state.fault, state.is_struck) = (Some(fault), false);
    }

    /// Lets everything succeed again.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        (state.fault, state.is_struck) = (None, false);
    }

    /// Whether the planned operation was reached.
    pub(crate) fn is_struck(&self) -> bool {
        self.lock().is_struck
    }

    /// What tells whether the planned operation was reached, for others to ask.
    pub(crate) fn struck(&self) -> Box<dyn Fn() -> bool> {
        let state = self.state;
        Box::new(move || state.lock().unwrap().is_struck)
    }

    /// The operations so far.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// The last few operations, for messages.
    pub(crate) fn recent(&self) -> String {
        let state = self.lock();
        state.log[state.log.len().saturating_sub(12)..].join("\n")
    }

    /// How much of the file that is now at `path` was synced; `None` if it is not there or was never in a synced
    /// directory.
    pub(crate) fn synced_len(&self, path: &Path) -> Option<u64> {
        let state = self.lock();
        let node = state.find(path)?;
        let (parent, name) = state.parent(path)?;
        let Node::Dir { durable, .. } = &state.nodes[parent] else { return None };
        (durable.get(&name) == Some(&node)).then(|| match &state.nodes[node] {
            Node::File { durable } => durable.len() as u64,
            Node::Dir { .. } => 0,
        })
    }

    /// Writes what a power cut now may leave into the new directory `to`.
    pub(crate) fn materialise(&self, to: &Path, image: Image) {
        let state = self.lock();
        let seed = if let Image::Torn(seed) = image { seed } else { 0 };
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut live_paths = BTreeMap::new();
        state.live_paths(0, &state.root, &mut live_paths);
        state.copy(0, to, image, &live_paths, &mut rng);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        SIMS.write().unwrap().retain(|(root, _)| *root != self.root);
        if let Ok(mut state) = self.state.lock() {
            *state = State::default();
        }
    }
}

impl State {
    fn find(&self, path: &Path) -> Option<usize> {
        let rest = path.strip_prefix(&self.root).ok()?;
        let mut at = 0;
        for part in rest.components() {
            let (Component::Normal(name), Node::Dir { live, .. }) = (part, &self.nodes[at]) else {
                return None;
            };
            at = *live.get(name)?;
        }
        Some(at)
    }

    fn parent(&self, path: &Path) -> Option<(usize, OsString)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    fn name(&mut self, path: &Path, node: usize) {
        let Some((parent, name)) = self.parent(path) else { return };
        if let Node::Dir { live, .. } = &mut self.nodes[parent] {
            live.insert(name, node);
        }
    }

    fn unname(&mut self, path: &Path) -> Option<usize> {
        let (parent, name) = self.parent(path)?;
        let Node::Dir { live, .. } = &mut self.nodes[parent] else { return None };
        live.remove(&name)
    }

    fn live_paths(&self, dir: usize, path: &Path, out: &mut BTreeMap<usize, PathBuf>) {
        let Node::Dir { live, .. } = &self.nodes[dir] else { return };
        for (name, &node) in live {
            let path = path.join(name);
            self.live_paths(node, &path, out);
            out.insert(node, path);
        }
    }

    fn copy(
        &self,
        dir: usize,
        to: &Path,
        image: Image,
        live_paths: &BTreeMap<usize, PathBuf>,
        rng: &mut fastrand::Rng,
    ) {
        let Node::Dir { live, durable } = &self.nodes[dir] else { return };
        std::fs::create_dir_all(to).unwrap();
        let names = if matches!(image, Image::Names | Image::Torn(_)) { live } else { durable };
        for (name, &node) in names {
            let target = to.join(name);
            match &self.nodes[node] {
                Node::Dir { .. } => self.copy(node, &target, image, live_paths, rng),
                Node::File { durable } => {
                    let live = || live_paths.get(&node).and_then(|path| std::fs::read(path).ok());
                    let content = match image {
                        Image::Synced | Image::Names => durable.clone(),
                        Image::Contents => live().unwrap_or_else(|| durable.clone()),
                        Image::Torn(_) => torn(durable, live(), rng),
                    };
                    std::fs::write(target, content).unwrap();
                }
            }
        }
    }
}

/// What may be left of a file of which `durable` was synced and `live` written.
fn torn(durable: &[u8], live: Option<Vec<u8>>, rng: &mut fastrand::Rng) -> Vec<u8> {
    let Some(mut live) = live.filter(|live| live != durable) else { return durable.to_vec() };
    let same = durable.iter().zip(&live).take_while(|(a, b)| a == b).count();
    if same < durable.len() && rng.bool() {
        return durable.to_vec();
    }
    live.truncate(rng.usize(same..=live.len()));
    // Sectors that never arrived read as zeros.
    for start in (same / SECTOR * SECTOR..live.len()).step_by(SECTOR) {
        let end = (start + SECTOR).min(live.len());
        if rng.u8(..4) == 0 {
            live[start.max(same)..end].fill(0);
        }
    }
    live
}

/// An operation under way; the disk does nothing else until it is over. `None` where nothing is simulated.
pub(super) struct Step(Option<MutexGuard<'static, State>>);

fn lookup(path: &Path) -> Option<&'static Mutex<State>> {
    SIMS.read().unwrap().iter().find(|(root, _)| path.starts_with(root)).map(|&(_, state)| state)
}

/// Begins an operation that happens or not.
pub(super) fn begin(kind: Kind, what: &str, path: &Path) -> io::Result<Step> {
    begin_write(kind, what, path, 0).map_err(|(_, error)| error)
}

/// Begins an operation on `len` bytes; the error comes with how many of them are written all the same.
pub(super) fn begin_write(
    kind: Kind,
    what: &str,
    path: &Path,
    len: usize,
) -> Result<Step, (usize, io::Error)> {
    let Some(state) = lookup(path) else { return Ok(Step(None)) };
    let mut state = state.lock().unwrap();
    state.count += 1;
    let n = state.count;
    let name = path.strip_prefix(&state.root).unwrap_or(path).display().to_string();
    state.log.push(format!("{n}: {what} {name} ({len} bytes)"));
    let failed = match state.fault {
        Some(Fault::Refuse { at, kind }) if n == at => Some((len / 2, io::Error::from(kind))),
        Some(Fault::Full { at }) if n >= at && kind == Kind::Takes => {
            Some((if n == at { len / 3 } else { 0 }, io::Error::from(io::ErrorKind::StorageFull)))
        }
        Some(Fault::Stop { at, share }) if n >= at => Some((
            if n == at { len * usize::from(share) / 8 } else { 0 },
            io::Error::other("the machine is off"),
        )),
        _ => None,
    };
    match failed {
        Some(failed) => {
            state.is_struck = true;
            Err(failed)
        }
        None => Ok(Step(Some(state))),
    }
}

impl Step {
    pub(super) fn is_simulated(&self) -> bool {
        self.0.is_some()
    }

    /// `file` is at `path`: it was created there or emptied.
    pub(super) fn created(self, path: &Path, file: &std::fs::File) {
        let Some(mut state) = self.0 else { return };
        let inode = file.metadata().unwrap().ino();
        if let Some(node) = state.find(path).filter(|node| state.by_inode.get(&inode) == Some(node)) {
            state.name(path, node);
            return;
        }
        let node = state.nodes.len();
        state.nodes.push(Node::File { durable: Vec::new() });
        state.by_inode.insert(inode, node);
        state.name(path, node);
    }

    pub(super) fn created_dir(self, path: &Path) {
        let Some(mut state) = self.0 else { return };
        if state.find(path).is_none() {
            let node = state.nodes.len();
            state.nodes.push(Node::Dir { live: Names::new(), durable: Names::new() });
            state.name(path, node);
        }
    }

    pub(super) fn renamed(self, from: &Path, to: &Path) {
        let Some(mut state) = self.0 else { return };
        if let Some(node) = state.unname(from) {
            state.name(to, node);
        }
    }

    pub(super) fn linked(self, from: &Path, to: &Path) {
        let Some(mut state) = self.0 else { return };
        if let Some(node) = state.find(from) {
            state.name(to, node);
        }
    }

    pub(super) fn removed(self, path: &Path) {
        if let Some(mut state) = self.0 {
            state.unname(path);
        }
    }

    pub(super) fn synced(self, file: &std::fs::File) {
        use std::os::unix::fs::FileExt as _;
        let Some(mut state) = self.0 else { return };
        let meta = file.metadata().unwrap();
        let Some(&node) = state.by_inode.get(&meta.ino()) else { return };
        let mut content = vec![0; usize::try_from(meta.len()).unwrap()];
        file.read_exact_at(&mut content, 0).unwrap();
        if let Node::File { durable } = &mut state.nodes[node] {
            *durable = content;
        }
    }

    pub(super) fn synced_dir(self, path: &Path) {
        let Some(mut state) = self.0 else { return };
        if let Some(node) = state.find(path)
            && let Node::Dir { live, durable } = &mut state.nodes[node]
        {
            durable.clone_from(live);
        }
    }
}

/// Whether `path` lies on a simulated disk.
pub(super) fn is_simulated(path: &Path) -> bool {
    lookup(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::{File, Mmap, create_dir_all, read, remove_file, rename, sync_dir, write};
    use super::*;

    fn image(sim: &Sim, image: Image) -> Vec<(String, Vec<u8>)> {
        let to = tempfile::tempdir().unwrap();
        sim.materialise(to.path(), image);
        let names = super::super::list(to.path()).unwrap();
        names.into_iter().map(|name| (name.clone(), read(&to.path().join(name)).unwrap())).collect()
    }

    #[test]
    fn a_power_cut_leaves_what_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::new(dir.path());
        let path = dir.path().join("a");
        let file = File::create(&path).unwrap();
        file.write_all_at(b"one", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(image(&sim, Image::Synced), [], "the name was not synced");
        assert_eq!(sim.synced_len(&path), None);
        sync_dir(dir.path()).unwrap();
        file.write_all_at(b" two", 3).unwrap();
        assert_eq!(sim.synced_len(&path), Some(3));
        assert_eq!(image(&sim, Image::Synced), [("a".to_owned(), b"one".to_vec())]);
        assert_eq!(image(&sim, Image::Contents), [("a".to_owned(), b"one two".to_vec())]);
        // The name arrives before the content, or not at all.
        let tmp = dir.path().join("b.tmp");
        File::create(&tmp).unwrap().write_all_at(b"three", 0).unwrap();
        let step = begin(Kind::Changes, "rename", &tmp).unwrap();
        let to = dir.path().join("b");
        std::fs::rename(&tmp, &to).unwrap();
        step.renamed(&tmp, &to);
        assert_eq!(image(&sim, Image::Names)[1], ("b".to_owned(), Vec::new()));
        assert_eq!(image(&sim, Image::Synced).len(), 1);
        for seed in 0..50 {
            let torn = image(&sim, Image::Torn(seed));
            assert!(torn[0].1.starts_with(b"one") && torn[0].1.len() <= 7, "{torn:?}");
        }
        remove_file(&path).unwrap();
        assert_eq!(image(&sim, Image::Synced)[0].0, "a", "the removal was not synced");
        sync_dir(dir.path()).unwrap();
        assert_eq!(image(&sim, Image::Contents), [("b".to_owned(), b"three".to_vec())]);
    }

    #[test]
    fn a_directory_keeps_its_names_when_it_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::new(dir.path());
        let (tmp, done) = (dir.path().join("d.tmp"), dir.path().join("d"));
        create_dir_all(&tmp).unwrap();
        write(&tmp.join("f"), b"x").unwrap();
        sync_dir(&tmp).unwrap();
        rename(&tmp, &done).unwrap();
        let to = tempfile::tempdir().unwrap();
        sim.materialise(to.path(), Image::Synced);
        assert_eq!(read(&to.path().join("d/f")).unwrap(), b"x");
        assert_eq!(&*Mmap::open(&done.join("f")).unwrap(), b"x");
        super::super::remove_dir_all(&done).unwrap();
        assert!(super::super::list(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn faults_strike_where_they_were_planned() {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::new(dir.path());
        let path = dir.path().join("f");
        sim.plan(Fault::Refuse { at: 2, kind: io::ErrorKind::StorageFull });
        let file = File::create(&path).unwrap();
        assert!(file.write_all_at(b"12345678", 0).is_err());
        assert_eq!(read(&path).unwrap(), b"1234");
        file.write_all_at(b"12345678", 0).unwrap();
        assert!(sim.is_struck() && sim.count() == 3);
        sim.plan(Fault::Full { at: 4 });
        assert!(file.write_all_at(b"abc", 8).is_err());
        assert!(file.write_all_at(b"abc", 8).is_err());
        file.set_len(2).unwrap();
        file.sync_data().unwrap();
        sim.plan(Fault::Stop { at: 8, share: 8 });
        assert!(file.write_all_at(b"xy", 2).is_err());
        assert!(remove_file(&path).is_err());
        assert_eq!(read(&path).unwrap(), b"12xy");
        sim.heal();
        remove_file(&path).unwrap();
    }
}
