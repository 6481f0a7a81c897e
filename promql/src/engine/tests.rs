//! Limits, deadlines, cancellation, and what happens when things go wrong.

mod hostile;

use std::sync::atomic::AtomicUsize;

use model::storage::{Querier, SeriesSet};
use model::{Labels, Matcher};

use super::*;
use crate::testing::Storage;

fn engine(change: impl FnOnce(&mut EngineOptions)) -> Engine {
    let mut options = EngineOptions { threads: 2, ..EngineOptions::default() };
    change(&mut options);
    Engine::new(options)
}

/// `n` series `m{i=".."}` with a sample every 10 s for an hour, i.e. 361 samples from 0 on.
fn storage(n: usize) -> Storage {
    let mut storage = Storage::default();
    for i in 0..n {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
        storage.append(&labels, (0..=360).map(|k| (k * 10_000, k as f64)));
    }
    storage
}

const HOUR: RangeParams = RangeParams { start: 0, end: 3_600_000, step_ms: 10_000 };

fn failure(engine: &Engine, storage: &dyn Queryable, text: &str, opts: &QueryOptions) -> String {
    engine.range_query(storage, text, HOUR, opts).expect_err("the query must fail").to_string()
}

#[test]
fn too_many_samples_are_refused_and_just_enough_are_not() {
    let storage = storage(10);
    let points = 10 * 361;
    let opts = QueryOptions::default();
    let enough = engine(|o| o.max_samples = points);
    let result = enough.range_query(&storage, "m", HOUR, &opts).expect("within the limit");
    assert_eq!(result.stats.peak_samples, points);
    let few = engine(|o| o.max_samples = points - 1);
    for text in ["m", "sum(m)", "m + 1", "max(m) by (i)", "quantile(0.5, m)", "m[1h:10s] @ 3600"] {
        let refused = match few.parse(text).expect("valid").value_type() {
            ValueType::Matrix => few.instant_query(&storage, text, 3_600_000, &opts).map(drop),
            _ => few.range_query(&storage, text, HOUR, &opts).map(drop),
        };
        let text_of = refused.err().map(|e| e.to_string());
        let expected = "query processing would load too many samples into memory in query execution";
        if text.contains(':') {
            // 360 of the 361 steps lie in the window of a subquery.
            assert_eq!(text_of, None, "{text}");
        } else {
            assert_eq!(text_of.as_deref(), Some(expected), "{text}");
        }
    }
}

#[test]
fn samples_are_given_back_between_operators() {
    // Both sides of `or` are held at once, but a chain of operators holds one block.
    let engine = engine(|o| o.max_samples = 361 * 10 * 2);
    let storage = storage(10);
    let opts = QueryOptions::default();
    let chain = "abs(ceil(m) + 1) * 2 > 3 and m";
    engine.range_query(&storage, chain, HOUR, &opts).expect("a chain needs no more than its ends");
    for _ in 0..3 {
        engine.range_query(&storage, "m and m", HOUR, &opts).expect("the account starts anew");
    }
}

#[test]
fn memory_is_refused_before_it_is_allocated() {
    let engine = engine(|o| o.max_samples = 1000);
    let text = "sum by (i) (m)";
    let range = RangeParams { start: 0, end: 1_000_000_000_000, step_ms: 1 };
    let e = engine
        .range_query(&storage(3), text, range, &QueryOptions::default())
        .expect_err("far too many steps");
    assert!(e.to_string().contains("bytes of memory"), "{e}");
    let e = engine
        .instant_query(&storage(3), "max_over_time(m[10y:1ms])", 0, &QueryOptions::default())
        .expect_err("far too many steps");
    assert!(e.to_string().contains("bytes of memory"), "{e}");
}

#[test]
fn an_expired_query_says_so() {
    let engine = engine(|o| o.timeout = Duration::ZERO);
    let text = failure(&engine, &storage(1), "m", &QueryOptions::default());
    assert_eq!(text, "query timed out in expression evaluation");
    let own = QueryOptions { timeout: Some(Duration::ZERO), ..QueryOptions::default() };
    let text = failure(&self::engine(|_| {}), &storage(1), "m", &own);
    assert_eq!(text, "query timed out in expression evaluation");
}

#[test]
fn a_canceled_query_says_where() {
    let opts = QueryOptions::default();
    opts.cancel.cancel();
    assert_eq!(failure(&engine(|_| {}), &storage(1), "m", &opts), "query was canceled in query queue");
}

/// Counts reads, and does to the query what a test asks for.
struct Meddling {
    inner: Storage,
    reads: Arc<AtomicUsize>,
    on_read: Arc<dyn Fn(usize) + Send + Sync>,
}

impl Meddling {
    fn new(inner: Storage, on_read: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self { inner, reads: Arc::default(), on_read: Arc::new(on_read) }
    }
}

impl Queryable for Meddling {
    fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier>, model::storage::Error> {
        let (inner, reads, on_read) =
            (self.inner.clone(), Arc::clone(&self.reads), Arc::clone(&self.on_read));
        Ok(Box::new(Self { inner, reads, on_read }))
    }
}

impl Querier for Meddling {
    fn select(&self, m: &[Matcher], h: &SelectHints) -> Result<Box<dyn SeriesSet>, model::storage::Error> {
        let inner = self.inner.select(m, h)?;
        Ok(Box::new(Set { inner, reads: Arc::clone(&self.reads), on_read: Arc::clone(&self.on_read) }))
    }

    fn label_values(
        &self,
        n: &[u8],
        m: &[Matcher],
        l: usize,
    ) -> Result<Vec<Box<[u8]>>, model::storage::Error> {
        self.inner.label_values(n, m, l)
    }

    fn label_names(&self, m: &[Matcher], l: usize) -> Result<Vec<Box<[u8]>>, model::storage::Error> {
        self.inner.label_names(m, l)
    }
}

struct Set {
    inner: Box<dyn SeriesSet>,
    reads: Arc<AtomicUsize>,
    on_read: Arc<dyn Fn(usize) + Send + Sync>,
}

impl SeriesSet for Set {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn labels(&self, i: usize) -> Labels {
        self.inner.labels(i)
    }

    fn samples_into(
        &self,
        i: usize,
        r: TimeRange,
        out: &mut SampleBatch,
    ) -> Result<(), model::storage::Error> {
        (self.on_read)(self.reads.fetch_add(1, Ordering::Relaxed));
        self.inner.samples_into(i, r, out)
    }
}

#[test]
fn cancellation_is_seen_within_a_few_morsels() {
    let opts = QueryOptions::default();
    let cancel = opts.cancel.clone();
    let storage = Meddling::new(storage(2000), move |read| {
        if read == 10 {
            cancel.cancel();
        }
    });
    let text = failure(&engine(|_| {}), &storage, "sum(rate(m[1m]))", &opts);
    assert_eq!(text, "query was canceled in expression evaluation");
    let reads = storage.reads.load(Ordering::Relaxed);
    assert!(reads <= 10 + 4 * MORSEL_ROWS, "{reads} of 2000 series were read after the cancellation");
}

#[test]
fn a_panic_in_a_query_is_an_error_and_the_engine_lives_on() {
    for threads in [1, 2] {
        let engine = engine(|o| o.threads = threads).with_morsels_of(3);
        let storage = Meddling::new(storage(20), |read| assert!(read != 7, "seven is too many"));
        let text = failure(&engine, &storage, "sum(m)", &QueryOptions::default());
        assert_eq!(text, "unexpected error: seven is too many");
        engine
            .range_query(&self::storage(20), "sum(m)", HOUR, &QueryOptions::default())
            .expect("still at work");
    }
}

#[test]
fn the_gate_makes_queries_wait_and_time_out() {
    let engine = Arc::new(engine(|o| {
        o.max_concurrency = 1;
        o.threads = 1;
    }));
    let (entered, is_in) = std::sync::mpsc::sync_channel(0);
    let (release, may_go) = std::sync::mpsc::sync_channel::<()>(0);
    let may_go = Mutex::new(may_go);
    let slow = Meddling::new(storage(1), move |_| {
        entered.send(()).expect("the test listens");
        may_go.lock().recv().expect("the test answers");
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| engine.instant_query(&slow, "m", 0, &QueryOptions::default()).map(drop));
        is_in.recv().expect("the first query runs");
        let opts = QueryOptions { timeout: Some(Duration::from_millis(1)), ..QueryOptions::default() };
        assert_eq!(failure(&engine, &storage(1), "m", &opts), "query timed out in query queue");
        release.send(()).expect("the first query waits");
        first.join().expect("no panic").expect("the first query succeeds");
    });
    engine.instant_query(&storage(1), "m", 0, &QueryOptions::default()).expect("the place is free again");
}

#[test]
fn the_highest_tree_fits_on_the_stack() {
    let engine = engine(|_| {});
    let terms = 2000;
    let sum = vec!["m"; terms].join(" + ");
    let result =
        engine.instant_query(&storage(1), &sum, 10_000, &QueryOptions::default()).expect("deep but valid");
    let Value::Vector(samples) = result.value else { panic!("{:?}", result.value) };
    let SampleValue::Float(v) = samples[0].value else { panic!("a float") };
    assert_eq!(v, terms as f64);
    for (open, close, levels) in [
        ("abs(", ")", 10_000),
        ("(", ")", crate::parse::HEIGHT_MAX - 1),
        ("-", "", crate::parse::HEIGHT_MAX - 1),
        ("sum by (x) (", ")", 1000),
        ("m * on() group_left () (", ")", 500),
        ("max_over_time(", "[1s:])", crate::parse::SUBQUERIES_MAX),
    ] {
        let nested = format!("{}m{}", open.repeat(levels), close.repeat(levels));
        engine.instant_query(&storage(1), &nested, 10_000, &QueryOptions::default()).expect("deep but valid");
    }
}

#[test]
fn results_have_their_kinds_and_texts() {
    let engine = engine(|_| {});
    let (storage, opts) = (storage(2), QueryOptions::default());
    let instant = |text: &str| engine.instant_query(&storage, text, 10_000, &opts);
    assert!(matches!(instant("1 + 1").expect("valid").value, Value::Scalar(Sample { t: 10_000, v: 2.0 })));
    assert!(matches!(instant("\"a\"").expect("valid").value, Value::String { t: 10_000, .. }));
    assert!(
        matches!(instant("m[1m]").expect("valid").value, Value::Matrix(m) if m.len() == 2 && m[0].samples.len() == 2)
    );
    assert!(
        matches!(instant("m[1m:10s]").expect("valid").value, Value::Matrix(m) if m[0].samples.ts == [0, 10_000])
    );
    for (text, what) in [("m[1m]", "range vector"), ("\"a\"", "string")] {
        let expected =
            format!("invalid expression type \"{what}\" for range query, must be Scalar or instant Vector");
        assert_eq!(failure(&engine, &storage, text, &opts), expected);
    }
    assert_eq!(instant("m[1m").expect_err("unclosed").to_string().split(':').nth(2), Some(" parse error"));
    let refused = instant("start_timestamp(m)").expect_err("experimental").to_string();
    assert!(refused.contains("is not enabled"), "{refused}");
}

#[test]
fn the_metric_name_falls_now_or_at_the_end() {
    let delayed = engine(|o| o.features.delayed_name_removal = true);
    let now = engine(|_| {});
    let (storage, opts) = (storage(1), QueryOptions::default());
    let text = "sum by (__name__) (rate(m[1m]))";
    for (engine, expected) in [(&now, 0), (&delayed, 0)] {
        let Value::Matrix(matrix) = engine.range_query(&storage, text, HOUR, &opts).expect("valid").value
        else {
            panic!("a range query gives a matrix");
        };
        assert_eq!(matrix[0].labels.len(), expected);
    }
    let by_name = "count by (n) (label_replace(rate(m[1m]), \"n\", \"$1\", \"__name__\", \"(.+)\"))";
    for (engine, expected) in [(&now, "{}"), (&delayed, "{n=\"m\"}")] {
        let result = engine.instant_query(&storage, by_name, 60_000, &opts).expect("valid");
        let Value::Vector(samples) = result.value else { panic!("an instant query gives a vector") };
        assert_eq!(samples[0].labels.to_string(), expected);
    }
}

#[test]
fn the_default_subquery_step_can_be_changed() {
    let engine = engine(|_| {});
    let count = |engine: &Engine| {
        let result = engine.instant_query(
            &storage(1),
            "count_over_time(m[10m:])",
            3_600_000,
            &QueryOptions::default(),
        );
        let Value::Vector(samples) = result.expect("valid").value else { panic!("a vector") };
        let SampleValue::Float(v) = samples[0].value else { panic!("a float") };
        v
    };
    assert_eq!(count(&engine), 10.0);
    engine.set_default_subquery_step(Duration::from_secs(30));
    assert_eq!(count(&engine), 20.0);
}

/// The least memory for all queries together with which `text` is evaluated over `n` series.
fn bytes_needed(text: &str, n: usize) -> usize {
    let storage = storage(n);
    let is_enough = |bytes: usize| {
        let engine =
            Engine::new(EngineOptions { threads: 1, max_total_bytes: bytes, ..EngineOptions::default() });
        engine
            .range_query(&storage, text, HOUR, &QueryOptions { lane: Lane::Rules, ..QueryOptions::default() })
            .is_ok()
    };
    let (mut less, mut enough) = (0, 16 << 20);
    assert!(is_enough(enough), "{text} over {n} series needs more than {enough} bytes");
    while enough - less > 4 << 10 {
        let middle = usize::midpoint(less, enough);
        if is_enough(middle) { enough = middle } else { less = middle }
    }
    enough
}

#[test]
fn an_aggregation_needs_no_more_memory_for_more_series() {
    let texts = [
        "sum(m)",
        "sum(rate(m[5m]))",
        "avg(rate(m[5m]))",
        "max(m)",
        "count(m > 3)",
        "stddev(abs(m))",
        "topk(3, m)",
    ];
    for text in texts {
        // Rows are computed a good hundred at a time.
        let [some, more] = [200, 500].map(|n| bytes_needed(text, n));
        assert!(some > 361 * 8, "{text} is said to need {some} bytes, less than its result");
        assert!(more <= some, "{text} needs {some} bytes over 200 series, {more} over 500");
    }
    // What does grow: so the account is one.
    let [some, more] = [200, 500].map(|n| bytes_needed("m", n));
    assert!(more > 2 * some, "200 series need {some} bytes, 500 of them {more}");
}

/// Seen in total, read in total, and both at each step.
fn seen(text: &str, range: RangeParams) -> (usize, usize, Vec<(usize, usize)>) {
    let engine = engine(|o| o.features.per_step_stats = true);
    let opts = QueryOptions { detail: Detail::All, ..QueryOptions::default() };
    let stats = engine.range_query(&storage(1), text, range, &opts).expect("a valid query").stats;
    let steps: Vec<_> = stats.steps.iter().map(|step| (step.queryable_samples, step.samples_read)).collect();
    let ts: Vec<_> = stats.steps.iter().map(|step| step.t).collect();
    let expected: Vec<_> = (0..).take(steps.len()).map(|i| range.start + i * range.step_ms).collect();
    assert_eq!(ts, expected, "{text}");
    (stats.total_queryable_samples, stats.samples_read, steps)
}

#[test]
fn samples_are_counted_step_by_step() {
    // Samples are 10 s apart.
    let range = RangeParams { start: 100_000, end: 120_000, step_ms: 10_000 };
    assert_eq!(seen("m", range), (3, 3, vec![(1, 1); 3]));
    assert_eq!(seen("rate(m[30s])", range), (9, 5, vec![(3, 3), (3, 1), (3, 1)]));
    // Windows with gaps between them.
    let wide = RangeParams { start: 100_000, end: 300_000, step_ms: 100_000 };
    assert_eq!(seen("rate(m[30s])", wide), (9, 9, vec![(3, 3); 3]));
    // Read once, seen at every step.
    assert_eq!(seen("m @ 50", range), (3, 1, vec![(1, 1), (1, 0), (1, 0)]));
    assert_eq!(seen("sum(rate(m[30s])) + m @ 50", range), (12, 6, vec![(4, 4), (4, 1), (4, 1)]));
    // A subquery's windows are seen, its inside is read.
    let (total, read, _) = seen("sum_over_time(m[20s:10s])", range);
    assert_eq!((total, read), (6, 4));
    assert_eq!(seen("1 + 1", range), (0, 0, vec![(0, 0); 3]));
}

#[test]
fn operators_tell_what_they_took() {
    let engine = engine(|_| {});
    let storage = storage(100);
    let all = QueryOptions { detail: Detail::All, ..QueryOptions::default() };
    let text = "sum(rate(m[1m]) * 2) + on () group_left max_over_time(sum(m)[1m:30s])";
    let measured = engine.range_query(&storage, text, HOUR, &all).expect("a valid query");
    let told: Vec<_> = measured.stats.operators.iter().map(|o| (o.depth, &*o.operator, o.series)).collect();
    assert_eq!(
        told,
        [
            (0, "join + many-to-one on ()", 1),
            (1, "sum", 1),
            (2, "vector * scalar", 100),
            (3, "constant 2", 0),
            (3, "rate over 1m of #0", 100),
            (1, "max over 1m in steps of 30s", 1),
            (2, "sum", 1),
            (3, "latest sample of #0", 100),
        ]
    );
    let rate = &measured.stats.operators[4];
    assert_eq!(rate.samples, 100 * 360, "a rate needs two samples");
    assert!(rate.time > Duration::ZERO && measured.stats.operators[0].time >= Duration::ZERO);
    assert!(measured.stats.operators[1].bytes >= 361 * 8, "the sum holds its row");
    // Measuring changes nothing else, and is not done unless asked for.
    let plain = engine.range_query(&storage, text, HOUR, &QueryOptions::default()).expect("a valid query");
    assert!(plain.stats.operators.is_empty() && plain.stats.steps.is_empty());
    assert_eq!(format!("{:?}", plain.value), format!("{:?}", measured.value));
    assert_eq!(format!("{:?}", plain.annotations), format!("{:?}", measured.annotations));
    assert_eq!(plain.stats.total_queryable_samples, measured.stats.total_queryable_samples);
}

/// Keeps what it hears.
#[derive(Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

struct Over(Arc<Mutex<Vec<String>>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.lock().push("over".to_owned());
    }
}

impl Observer for Ear {
    fn begun(&self, text: &str) -> Box<dyn Send + '_> {
        self.0.lock().push(format!("begun {text}"));
        Box::new(Over(Arc::clone(&self.0)))
    }

    fn listens(&self) -> bool {
        true
    }

    fn ended(&self, query: &Ended<'_>) {
        let error = query.error.map(ToString::to_string);
        self.0.lock().push(format!("ended {} {:?} {error:?}", query.text, query.origin));
    }
}

#[test]
fn an_observer_hears_of_every_query() {
    let engine = engine(|_| {});
    let heard = Arc::default();
    engine.observe(Arc::new(Ear(Arc::clone(&heard))));
    let origin = Origin::Rules { file: "f".to_owned(), group: "g".to_owned() };
    let opts = QueryOptions { origin: Some(origin), lane: Lane::Rules, ..QueryOptions::default() };
    let expr = engine.parse("1+1").expect("valid");
    engine.instant_expr(&Storage::default(), &expr, 0, &opts).expect("a valid query");
    let opts = QueryOptions::default();
    engine.instant_query(&storage(2), "m + on () m", 0, &opts).expect_err("many on both sides");
    engine.instant_query(&Storage::default(), "1 +", 0, &opts).expect_err("no query at all");
    let heard = heard.lock().clone();
    assert_eq!(
        heard[..3],
        ["begun 1 + 1", "over", "ended 1 + 1 Some(Rules { file: \"f\", group: \"g\" }) None"]
    );
    assert_eq!(heard[3..5], ["begun m + on () m", "over"]);
    assert!(heard[5].starts_with("ended m + on () m None Some(\"found duplicate series"), "{}", heard[5]);
    assert_eq!(heard.len(), 6, "what does not parse is no query");
}

#[test]
fn rules_do_not_wait_for_others() {
    let engine = engine(|o| o.max_concurrency = 1);
    // Holds the only turn of its lane until it is told to stop.
    let cancel = CancelFlag::new();
    let turn = engine.ad_hoc.gate.enter(now() + Duration::from_mins(1), &cancel).expect("the gate is free");
    let opts = QueryOptions { timeout: Some(Duration::from_millis(50)), ..QueryOptions::default() };
    let e = engine.instant_query(&storage(1), "m", 0, &opts).expect_err("there is no turn left");
    assert_eq!(e.to_string(), "query timed out in query queue");
    let rules = QueryOptions { lane: Lane::Rules, ..QueryOptions::default() };
    engine.instant_query(&storage(1), "m", 0, &rules).expect("rules have turns of their own");
    drop(turn);
    engine.instant_query(&storage(1), "m", 0, &opts).expect("the turn is free again");
}
