//! What the benches measure with: an allocator that counts, the processor's time, and what the kernel says of memory.

#![allow(dead_code, reason = "each bench takes what it needs")]

mod counting;
pub(crate) mod fleet;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

#[allow(unused_imports, reason = "each bench takes what it needs")]
pub(crate) use counting::*;

/// The time this thread has spent on a processor: what others take of a shared machine does not count.
pub(crate) fn thread_cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps account");
    let first = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(first.expect("starts with nanoseconds"))
}

/// The time that all threads of this process have spent on processors, those that ended included.
pub(crate) fn process_cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux keeps account");
    let fields: Vec<&str> = text.rsplit_once(')').expect("names the program").1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&i| fields[i].parse::<u64>().expect("ticks")).sum();
    // A tick is 10 ms wherever Linux runs.
    Duration::from_millis(ticks * 10)
}

/// A line of what the kernel says of this process, such as `RssAnon`, in bytes.
pub(crate) fn status_bytes(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux keeps account");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .map_or(default, |text| text.replace('_', "").parse().expect("the variable is a number"))
}

/// What something cost.
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// Anonymous memory before, the most meanwhile and after it, in bytes.
    pub(crate) anonymous: [u64; 3],
    /// The most that was resident at once, mapped files included.
    pub(crate) resident_peak: u64,
}

/// Runs `f` while a second thread watches the memory: the kernel keeps the peak of all that is resident, but not of its
/// anonymous part.
pub(crate) fn observe<T>(f: impl FnOnce() -> T) -> (T, Cost) {
    // Forgets the peak so far.
    std::fs::write("/proc/self/clear_refs", "5").expect("the kernel resets its peaks");
    let watch = Watch::start();
    let before = status_bytes("RssAnon");
    let (cpu, wall) = (process_cpu_time(), std::time::Instant::now());
    let out = f();
    let (cpu, wall) = (process_cpu_time().saturating_sub(cpu), wall.elapsed());
    let after = status_bytes("RssAnon");
    let peak = watch.stop().max(before).max(after);
    let resident_peak = status_bytes("VmHWM");
    (out, Cost { cpu, wall, anonymous: [before, peak, after], resident_peak })
}

struct Watch {
    is_done: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start() -> Self {
        let (is_done, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (done, highest) = (Arc::clone(&is_done), Arc::clone(&peak));
        let thread = std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(status_bytes("RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { is_done, peak, thread }
    }

    fn stop(self) -> u64 {
        self.is_done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic");
        self.peak.load(Ordering::Relaxed)
    }
}
