//! A warm scrape allocates nothing: counted by the allocator itself, which is why this is a binary of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use ferula::scrape::cache::{Cache, Hasher};
use ferula::scrape::ingest::{Body, Counts, Extras, Rules, ingest};
use ferula::scrape::metadata::Memory;
use model::storage::{AppendError, Appender, Error, SeriesKey, SeriesRef};
use model::wire::parse::Format;
use model::{Labels, Value};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged; the count is a plain thread-local cell
// without a destructor, so touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Count(u64);

impl Appender for Count {
    fn append(&mut self, key: SeriesKey<'_>, _: i64, _: f64) -> Result<SeriesRef, AppendError> {
        self.0 += 1;
        Ok(match key {
            SeriesKey::Ref(series) => series,
            SeriesKey::Labels(_) => SeriesRef(NonZeroU64::MIN.saturating_add(self.0)),
        })
    }

    fn append_value(
        &mut self,
        key: SeriesKey<'_>,
        _st: i64,
        t: i64,
        value: Value<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Float(v) => self.append(key, t, v),
            Value::Histogram(_) | Value::FloatHistogram(_) => panic!("BUG: these targets serve floats"),
        }
    }

    fn commit(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn a_warm_pass_allocates_nothing() {
    let text = "scrape_configs: [{job_name: j}]\n";
    let config = config::prometheus::parse(text, Path::new("/")).unwrap();
    let rules = Rules {
        job: Arc::clone(&config.scrape_configs[0]),
        target: Labels::from_pairs([("job", "j"), ("instance", "i")]),
        extras: Extras::default(),
    };
    let head = "# HELP requests_total Requests served.\n# TYPE requests_total counter\n".to_owned();
    let body = (0..1000).fold(head, |body, i| {
        body + &format!("requests_total{{code=\"200\",handler=\"/{i}\"}} {}.5\n", i * 31)
    });
    let (hasher, memory, mut cache) = (Hasher::default(), Memory::default(), Cache::default());
    let mut pass = |t| {
        let body = Body { bytes: body.as_bytes(), format: Format::Text, t };
        let (mut counts, mut batch) = (Counts::default(), Count(0));
        let before = ALLOCATIONS.get();
        ingest(body, &rules, &hasher, &mut cache, &memory, &mut batch, &mut counts).unwrap();
        (ALLOCATIONS.get() - before, counts.kept, counts.new)
    };
    let (cold, kept, new) = pass(1_000);
    assert!(cold > 1000 && kept == 1000 && new == 1000, "the counter counts: {cold}");
    assert_eq!(pass(2_000), (0, 1000, 0));
    assert_eq!(pass(3_000), (0, 1000, 0));
}
