//! What the machine and the control groups around the process leave it: processors and memory.
//!
//! Read once at the start, from `/proc` and `/sys/fs/cgroup` of either version; how many threads and how much memory
//! are used follows from it (`--auto-gomaxprocs`, `--auto-gomemlimit`). Nothing here sets anything.
//!
//! Compat: prometheus `cmd/prometheus`: `go.uber.org/automaxprocs` and `github.com/KimMachineGun/automemlimit`.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// Those that the process may run on.
    pub cpus: usize,
    /// How many of them it may use up, by its control groups.
    pub cpu_quota: Option<f64>,
    pub machine_bytes: Option<u64>,
    /// What its control groups leave of that.
    pub group_bytes: Option<u64>,
}

/// Of this process.
pub fn this() -> &'static Container {
    static THIS: LazyLock<Container> = LazyLock::new(|| Container::detect(Path::new("/")));
    &THIS
}

impl Container {
    /// Looks below `root`, which is `/` but for tests.
    pub fn detect(root: &Path) -> Self {
        let read = |path: &Path| std::fs::read_to_string(root.join(path)).ok();
        let groups = Groups::parse(&read(Path::new("proc/self/cgroup")).unwrap_or_default());
        let field = |file: &str, name: &str| {
            let text = read(Path::new(file))?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim().to_owned())
        };
        let listed = field("proc/self/status", "Cpus_allowed_list").map(|list| n_listed(&list));
        let of_system = || std::thread::available_parallelism().map_or(1, usize::from);
        let machine_kib = field("proc/meminfo", "MemTotal")
            .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            cpus: listed.filter(|n| *n > 0).unwrap_or_else(of_system),
            cpu_quota: groups.cpu_quota(read),
            machine_bytes: machine_kib.map(|kib| kib * 1024),
            group_bytes: groups.memory(read),
        }
    }

    /// How many threads find a processor; without `by_quota` control groups are not asked.
    pub fn threads(&self, by_quota: bool) -> usize {
        let quota = self.cpu_quota.filter(|_| by_quota).map_or(usize::MAX, |quota| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            let whole = quota as usize;
            whole
        });
        // A part of a processor still needs a thread.
        self.cpus.min(quota).max(1)
    }

    /// The most memory that the process may have, in bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.machine_bytes.into_iter().chain(self.group_bytes).min()
    }
}

/// The number of processors in a list like `0-3,8`.
fn n_listed(list: &str) -> usize {
    let n = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (last + 1).checked_sub(first)
    };
    list.split(',').filter_map(n).sum()
}

/// The folders of the control groups that the process is in, those above them included: it is bound by all.
///
/// Inside a container the path may be that of the host, which is not there to be seen; the root then is the group.
struct Groups {
    /// Of version 2.
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Groups {
    /// Takes the text of `/proc/self/cgroup`.
    fn parse(text: &str) -> Self {
        let mut groups = Self { unified: Vec::new(), cpu: Vec::new(), memory: Vec::new() };
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let folders = |mount: &str| {
                let mount = Path::new("sys/fs/cgroup").join(mount);
                let path = Path::new(path.trim_start_matches('/'));
                path.ancestors().map(|above| mount.join(above)).collect::<Vec<_>>()
            };
            if controllers.is_empty() {
                groups.unified.extend(folders(""));
                // Where both versions are mounted.
                groups.unified.extend(folders("unified"));
            }
            for name in controllers.split(',') {
                let of = match name {
                    "cpu" => &mut groups.cpu,
                    "memory" => &mut groups.memory,
                    _ => continue,
                };
                of.extend(folders(name));
                if name != controllers {
                    of.extend(folders(controllers));
                }
            }
        }
        groups
    }

    fn memory(&self, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let of_unified = ["memory.max", "memory.high"].map(|name| (name, &self.unified));
        let files = of_unified.into_iter().chain([("memory.limit_in_bytes", &self.memory)]);
        files
            .flat_map(|(name, folders)| folders.iter().map(move |folder| folder.join(name)))
            .filter_map(|path| read(&path)?.trim().parse().ok())
            // Version 1 has no word for no limit: it is the largest number of whole pages.
            .filter(|bytes| *bytes < 1 << 60)
            .min()
    }

    fn cpu_quota(&self, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
        let unified = self.unified.iter().filter_map(|folder| {
            let text = read(&folder.join("cpu.max"))?;
            let mut words = text.split_whitespace();
            let quota = number(words.next()?)?;
            Some(quota / words.next().map_or(Some(100_000.0), number)?)
        });
        let old = self.cpu.iter().filter_map(|folder| {
            let quota = number(&read(&folder.join("cpu.cfs_quota_us"))?)?;
            Some(quota / number(&read(&folder.join("cpu.cfs_period_us"))?)?)
        });
        unified.chain(old).min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found among these files.
    fn detect(files: &[(&str, &str)]) -> Container {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Container::detect(root.path())
    }

    const SYSTEM: [(&str, &str); 2] = [
        ("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8,10-11\n"),
        ("proc/meminfo", "MemTotal:       2000 kB\nMemFree:  5 kB\n"),
    ];

    /// Quota, threads, and the memory that is left, on a machine of 7 processors.
    fn check(groups: &str, files: &[(&str, &str)], quota: Option<f64>, threads: usize, bytes: u64) {
        let mut all = SYSTEM.to_vec();
        all.push(("proc/self/cgroup", groups));
        all.extend(files);
        let found = detect(&all);
        assert_eq!(
            (found.cpu_quota, found.threads(true), found.memory_bytes()),
            (quota, threads, Some(bytes)),
            "{groups}"
        );
        assert_eq!(found.threads(false), 7);
    }

    #[test]
    fn the_tightest_group_of_version_2_bounds_the_process() {
        let all = 2000 * 1024;
        check("0::/\n", &[], None, 7, all);
        check("0::/a/b\n", &[("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")], None, 7, all);
        check("0::/a/b\n", &[("sys/fs/cgroup/a/b/cpu.max", "250000 100000\n")], Some(2.5), 2, all);
        check(
            "0::/a/b\n",
            &[
                ("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n"),
                ("sys/fs/cgroup/a/cpu.max", "50000 100000\n"),
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ],
            Some(0.5),
            1,
            1000,
        );
        let high = [("sys/fs/cgroup/a/b/memory.high", "500\n"), ("sys/fs/cgroup/a/memory.max", "1000\n")];
        check("0::/a/b\n", &high, None, 7, 500);
        // In a container the path of the host is not to be seen, and the mounted root is the own group.
        let inside = [("sys/fs/cgroup/memory.max", "700\n"), ("sys/fs/cgroup/cpu.max", "300000 100000\n")];
        check("0::/../kubepods/x\n", &inside, Some(3.0), 3, 700);
        check("0::/a\n", &[("sys/fs/cgroup/unified/a/cpu.max", "100000\n")], Some(1.0), 1, all);
    }

    #[test]
    fn the_tightest_group_of_version_1_bounds_the_process() {
        let all = 2000 * 1024;
        let groups = "3:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n1:name=systemd:/\n";
        let unlimited = [
            ("sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        check(groups, &unlimited, None, 7, all);
        let mut files = unlimited.to_vec();
        files.push(("proc/self/cgroup", groups));
        assert_eq!(detect(&files).group_bytes, None);
        let limited = [
            ("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "50000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "900\n"),
        ];
        check(groups, &limited, Some(3.0), 3, 900);
    }

    #[test]
    fn a_quota_above_the_machine_counts_for_nothing() {
        check("0::/\n", &[("sys/fs/cgroup/cpu.max", "6400000 100000\n")], Some(64.0), 7, 2000 * 1024);
    }

    #[test]
    fn finds_nothing_where_nothing_is() {
        let found =
            detect(&[("proc/self/cgroup", "garbage\n0:\n::\n0::/a\n"), ("sys/fs/cgroup/a/cpu.max", "x y")]);
        assert_eq!((found.cpu_quota, found.memory_bytes()), (None, None));
        assert!(found.threads(true) >= 1);
        assert!(this().threads(true) >= 1);
    }
}
