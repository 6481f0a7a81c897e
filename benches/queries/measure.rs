//! Times, the processor's time, and an allocator that counts.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tikv_jemallocator::Jemalloc;

/// The server's allocator with a count of its calls and of the bytes that are out.
pub(crate) struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes, Relaxed);
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call is passed on to the other allocator as it came; the counts touch no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise on `layout` is ours.
        unsafe { Jemalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise on `layout` is ours.
        unsafe { Jemalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise on `ptr` and `layout` is ours.
        unsafe { Jemalloc.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        count(new_size);
        // SAFETY: the caller's promises are ours.
        unsafe { Jemalloc.realloc(ptr, layout, new_size) }
    }
}

/// What one run cost.
pub(crate) struct Cost {
    pub(crate) least_ns: f64,
    pub(crate) median_ns: f64,
    /// Of all threads.
    pub(crate) cpu_ns: f64,
    /// Asked for in all, and the most of it that was out at once.
    pub(crate) bytes: usize,
    pub(crate) peak_bytes: usize,
    pub(crate) allocations: usize,
}

/// Runs `f` for at least `least` and three times, after one run that does not count.
pub(crate) fn measure(least: Duration, mut f: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Cost> {
    let began = Instant::now();
    f()?;
    // What is too short to be timed alone is timed in groups.
    let per_group = (20_000 / began.elapsed().as_nanos().max(1)).clamp(1, 10_000);
    let (calls, bytes, live) = (CALLS.load(Relaxed), BYTES.load(Relaxed), LIVE.load(Relaxed));
    PEAK.store(live, Relaxed);
    f()?;
    let (calls, bytes) = (CALLS.load(Relaxed) - calls, BYTES.load(Relaxed) - bytes);
    let peak_bytes = PEAK.load(Relaxed).saturating_sub(live);
    let mut times = Vec::with_capacity(1024);
    let (began, cpu) = (Instant::now(), cpu_time());
    while times.len() < 3 || (began.elapsed() < least && times.len() < 1_000_000) {
        let began = Instant::now();
        for _ in 0..per_group {
            f()?;
        }
        times.push(began.elapsed().as_nanos() as f64 / per_group as f64);
    }
    let cpu = cpu_time().saturating_sub(cpu).as_nanos() as f64 / (times.len() as f64 * per_group as f64);
    times.sort_by(f64::total_cmp);
    Ok(Cost {
        least_ns: times[0],
        median_ns: times[times.len() / 2],
        cpu_ns: cpu,
        bytes,
        peak_bytes,
        allocations: calls,
    })
}

/// The time that all threads of this process have spent on processors.
fn cpu_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let secs = u64::try_from(spent.tv_sec).unwrap_or_default();
    Duration::from_secs(secs) + Duration::from_nanos(u64::try_from(spent.tv_nsec).unwrap_or_default())
}
