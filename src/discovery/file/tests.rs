//! Files on a real file system: changed, half written, replaced, swapped, gone.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use config::prometheus::FileDiscovery;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::testing::{context, shown};
use super::super::{Discoverer as _, Update};
use super::{Discoverer, Files};

#[test]
fn files_keep_their_last_good_groups_and_lose_them_when_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut files = Files::new(vec![path("*.yml").to_str().unwrap().to_owned()]);
    let context = context("file");
    assert_eq!(files.scan(&context).unwrap().len(), 0, "an empty folder is an answer");
    assert!(files.scan(&context).is_none(), "but not twice");

    std::fs::write(path("a.yml"), "- targets: [h:1]\n- targets: [h:2]\n  labels: {x: y}\n").unwrap();
    std::fs::write(path("a.json"), "not ours").unwrap();
    let update = files.scan(&context).unwrap();
    let name = path("a.yml").display().to_string();
    let expected = [
        format!(r#"{name}:0: {{__address__="h:1", __meta_filepath="{name}"}}"#),
        format!(r#"{name}:1: {{__address__="h:2", __meta_filepath="{name}", x="y"}}"#),
    ];
    assert_eq!(shown(&update), expected);
    assert!(files.scan(&context).is_none(), "nothing changed");
    assert_eq!(context.metrics.file_mtimes.lock().len(), 1);

    // Half written: kept, counted, shown.
    std::fs::write(path("a.yml"), "- targets: [h:3]\n- targ").unwrap();
    assert!(files.scan(&context).is_none());
    assert_eq!(context.metrics.file_read_errors.get(), 1);
    assert!(context.health.failure().unwrap().error.starts_with(&format!("{name}:")));

    // A link that leads nowhere for a moment is a file that cannot be read.
    std::fs::remove_file(path("a.yml")).unwrap();
    symlink("nowhere", path("a.yml")).unwrap();
    assert!(files.scan(&context).is_none());

    // Replaced by rename, with a group less.
    std::fs::write(path("new"), "- targets: [h:4]\n").unwrap();
    std::fs::rename(path("new"), path("a.yml")).unwrap();
    let update = files.scan(&context).unwrap();
    assert_eq!(update.iter().map(|g| g.targets.len()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(context.health.failure(), None);

    std::fs::remove_file(path("a.yml")).unwrap();
    assert_eq!(shown(&files.scan(&context).unwrap()), [format!("{name}:0: none")]);
    assert!(context.metrics.file_mtimes.lock().is_empty());
}

#[test]
fn a_folder_that_cannot_be_listed_keeps_its_files() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("targets");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.yml"), "- targets: [h:1]\n").unwrap();
    let mut files = Files::new(vec![folder.join("*.yml").to_str().unwrap().to_owned()]);
    let context = context("file");
    assert_eq!(files.scan(&context).unwrap().len(), 1);
    // Root reads everything, so the folder becomes a loop of links, which nobody can list.
    std::fs::rename(&folder, root.path().join("away")).unwrap();
    symlink(&folder, &folder).unwrap();
    assert!(files.scan(&context).is_none(), "files whose folder cannot be listed were taken for gone");
    assert!(context.health.failure().is_some());
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(root.path().join("away"), &folder).unwrap();
    assert!(files.scan(&context).is_none());
    assert_eq!(context.health.failure(), None);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(files.scan(&context).unwrap().len(), 1, "a folder that is gone takes its files with it");
}

struct Running {
    received: mpsc::Receiver<Update>,
    stop: CancellationToken,
}

impl Running {
    /// Polls once an hour, so that only the watch can bring news.
    fn start(glob: &Path) -> Self {
        let section = FileDiscovery {
            files: vec![glob.to_str().unwrap().to_owned()],
            refresh_interval: Duration::from_hours(1),
        };
        let (updates, received) = mpsc::channel(16);
        let stop = CancellationToken::new();
        tokio::spawn(Box::new(Discoverer::new(section, context("file"))).run(updates, stop.clone()));
        Self { received, stop }
    }

    async fn next(&mut self) -> Vec<String> {
        let update = tokio::time::timeout(Duration::from_secs(20), self.received.recv()).await;
        let addresses = |line: &String| line.split('"').nth(1).unwrap_or("none").to_owned();
        shown(&update.expect("the change went unnoticed").unwrap()).iter().map(addresses).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// As the kubelet mounts a `ConfigMap`: the file is a link into `..data`, which is a link that is swapped.
#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let version = |name: &str, target: &str| {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("t.yml"), format!("- targets: [{target}]\n")).unwrap();
    };
    version("..1", "h:1");
    symlink("..1", path("..data")).unwrap();
    symlink("..data/t.yml", path("t.yml")).unwrap();
    let mut running = Running::start(&path("*.yml"));
    assert_eq!(running.next().await, ["h:1"]);
    version("..2", "h:2");
    symlink("..2", path("..data_tmp")).unwrap();
    std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
    std::fs::remove_dir_all(path("..1")).unwrap();
    assert_eq!(running.next().await, ["h:2"]);
}

#[tokio::test]
async fn renames_and_removals_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("t.json"), r#"[{"targets": ["h:1"]}]"#).unwrap();
    let mut running = Running::start(&path("t.json"));
    assert_eq!(running.next().await, ["h:1"]);
    for i in 2..5 {
        std::fs::write(path("t.json.new"), format!(r#"[{{"targets": ["h:{i}"]}}]"#)).unwrap();
        std::fs::rename(path("t.json.new"), path("t.json")).unwrap();
        assert_eq!(running.next().await, [format!("h:{i}")]);
    }
    std::fs::remove_file(path("t.json")).unwrap();
    assert_eq!(running.next().await, ["none"]);
}

/// Without waiting for the poll: a folder that is exchanged, and one that is away for a while.
#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_again() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let version = |name: &str, target: &str| {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("t.yml"), format!("- targets: [{target}]\n")).unwrap();
    };
    version("now", "h:1");
    let mut running = Running::start(&path("now").join("*.yml"));
    assert_eq!(running.next().await, ["h:1"]);
    version("next", "h:2");
    std::fs::rename(path("now"), path("old")).unwrap();
    std::fs::rename(path("next"), path("now")).unwrap();
    assert_eq!(running.next().await, ["h:2"]);
    std::fs::write(path("now").join("t.yml"), "- targets: [h:3]\n").unwrap();
    assert_eq!(running.next().await, ["h:3"]);
    std::fs::remove_dir_all(path("now")).unwrap();
    assert_eq!(running.next().await, ["none"]);
    // Long enough for the last event of the old folder to be of no help.
    tokio::time::sleep(Duration::from_millis(300)).await;
    version("now", "h:4");
    assert_eq!(running.next().await, ["h:4"]);
    std::fs::write(path("now").join("t.yml"), "- targets: [h:5]\n").unwrap();
    assert_eq!(running.next().await, ["h:5"]);
}
