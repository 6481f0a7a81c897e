//! The loop of one target: wait for the slot, fetch, ingest, report; and the end of its series when it goes.
//!
//! Waiting and fetching are asynchronous; nobody awaits between the parser and the commit. On a lane of its own a
//! body of ordinary size is inflated, parsed, appended and committed where it was received. Larger ones, which would
//! hold up the other targets of the lane, and all where there are no lanes, run on a thread of the blocking pool, of
//! which a semaphore admits a few more than there are cores.
//!
//! Compat: prometheus `scrape/scrape.go`, `scrapeLoop`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use config::prometheus::ScrapeConfig;
use model::Timestamp;
use model::storage::Appendable;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{self, Buffers};
use super::cache::{Cache, Hasher};
use super::clock::Clock;
use super::connect::{Connection, Place};
use super::failures::FailureLog;
use super::fetch::{self, Client, Head};
use super::ingest::{self, Body, Counts, Extras, Rules};
use super::lanes::Lanes;
use super::metadata::{self, Tables};
use super::metrics::Metrics;
use super::negotiate;
use super::report::{Extra, Refs, Report};
use super::target::{Health, State, Target};

/// A body of this size takes a fraction of a millisecond.
const IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// How much larger a compressed body is thought to become.
const GZIP_RATIO: usize = 8;

/// What all loops share.
pub(super) struct Shared {
    pub(super) appendable: Arc<dyn Appendable>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hasher: Hasher,
    pub(super) buffers: Buffers,
    /// Admits ingestion.
    pub(super) workers: Semaphore,
    pub(super) lanes: Lanes,
    pub(super) metrics: Metrics,
    /// How far a scrape may be off its slot and still be given the slot's time.
    pub(super) tolerance: Duration,
    pub(super) extras: Extras,
    pub(super) stop: CancellationToken,
}

/// A job as its loops see it; replaced as a whole by a reload.
pub(super) struct Job {
    pub(super) config: Arc<ScrapeConfig>,
    pub(super) client: Client,
    /// Where scrapes that fail are told, if the job wants that.
    pub(super) failures: Option<Arc<FailureLog>>,
    pub(super) tables: Arc<Tables>,
}

/// What a loop is to do from now on.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) job: Arc<Job>,
    pub(super) target: Arc<Target>,
    /// Fail every scrape with this.
    pub(super) forced_error: Option<Arc<str>>,
    /// The target is gone.
    pub(super) stop: bool,
}

/// Runs a loop until it is ordered to stop or the server stops. `seed` spreads replicas apart.
pub(super) async fn run(shared: Arc<Shared>, mut orders: watch::Receiver<Order>, seed: u64) {
    let order = orders.borrow_and_update().clone();
    let mut ticks = Ticks::new(shared.clock.now(), order.target.hash ^ seed, order.target.interval);
    let mut scraper = Scraper::new(Arc::clone(&shared), order);
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            changed = orders.changed() => {
                let order = orders.borrow_and_update().clone();
                if changed.is_err() || order.stop {
                    break;
                }
                if order.target.interval != ticks.interval {
                    ticks = Ticks::new(shared.clock.now(), order.target.hash ^ seed, order.target.interval);
                }
                scraper.obey(order);
            }
            scheduled = ticks.next() => {
                // The end of the server cuts a fetch short, never an ingestion.
                if !scraper.scrape(scheduled).await {
                    return;
                }
            }
        }
    }
    scraper.end(ticks).await;
}

/// The slots of a loop: fixed points in time, one interval apart.
pub(super) struct Ticks {
    first: Instant,
    first_wall: Timestamp,
    interval: Duration,
    /// The next slot.
    n: u32,
}

impl Ticks {
    /// The first slot is the next moment whose distance from the epoch, modulo the interval, is `hash`'s.
    pub(super) fn new(now: Timestamp, hash: u64, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let offset = hash % interval_ms;
        let phase = u64::try_from(now).unwrap_or_default() % interval_ms;
        let wait = (offset + interval_ms - phase) % interval_ms;
        Self {
            first: Instant::now() + Duration::from_millis(wait),
            first_wall: now.saturating_add_unsigned(wait),
            interval,
            n: 0,
        }
    }

    /// Waits for the next slot and returns its wall time. Slots that passed meanwhile are skipped, but for
    /// the last, which is due at once.
    ///
    /// May be dropped while it waits; the slot is taken when it returns.
    pub(super) async fn next(&mut self) -> Timestamp {
        tokio::time::sleep_until(self.first + self.interval * self.n).await;
        let passed = self.first.elapsed().as_nanos() / self.interval.as_nanos();
        let latest = u32::try_from(passed).unwrap_or(u32::MAX).max(self.n);
        self.n = latest.saturating_add(1);
        let since = (self.interval * latest).as_millis();
        self.first_wall.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

/// The time to give to a scrape that was due at `scheduled` and begins `now`.
pub(super) fn align(
    now: Timestamp,
    scheduled: Timestamp,
    interval: Duration,
    tolerance: Duration,
) -> Timestamp {
    let tolerance = tolerance.min(interval / 100);
    if u128::from(now.abs_diff(scheduled)) <= tolerance.as_millis() { scheduled } else { now }
}

/// Everything a loop remembers from one scrape to the next; lives on a worker while it ingests.
#[derive(Default)]
struct Memory {
    cache: Cache,
    refs: Refs,
    metadata: metadata::Memory,
}

/// One target under scrape.
pub(super) struct Scraper {
    shared: Arc<Shared>,
    order: Order,
    connection: Connection,
    memory: Box<Memory>,
    last_start: Option<Instant>,
}

impl Scraper {
    pub(super) fn new(shared: Arc<Shared>, order: Order) -> Self {
        Self { shared, order, connection: Connection::default(), memory: Box::default(), last_start: None }
    }

    /// Takes over a new form of the job or target between two scrapes.
    pub(super) fn obey(&mut self, order: Order) {
        if !Arc::ptr_eq(&self.order.job, &order.job) {
            // The connection may have been made under other credentials.
            self.connection = Connection::default();
        }
        if self.order.target.histograms != order.target.histograms
            || makes_other_series(&self.order.job.config, &order.job.config)
        {
            self.memory.cache.reset();
        }
        self.order = order;
    }

    /// One scrape. False if the server stops meanwhile.
    pub(super) async fn scrape(&mut self, scheduled: Timestamp) -> bool {
        let target = Arc::clone(&self.order.target);
        let (wall, start) = (self.shared.clock.now(), Instant::now());
        let t = align(wall, scheduled, target.interval, self.shared.tolerance);
        self.observe_interval(start);

        let mut body = Vec::new();
        let outcome = if let Some(error) = &self.order.forced_error {
            Err(body::Error::Other(error.to_string()))
        } else {
            let client = &self.order.job.client;
            let (connection, buffers) = (&mut self.connection, &self.shared.buffers);
            let place = Place { url: &target.url, socket: target.socket.as_deref() };
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return false,
                outcome = fetch::fetch(client, place, target.timeout, connection, buffers, &mut body) => outcome,
            }
        };
        let work = match &outcome {
            Ok(head) if head.is_gzip => body.len().saturating_mul(GZIP_RATIO),
            _ => body.len(),
        };
        let error = self
            .with_memory(work <= IN_PLACE_BYTES_MAX, move |shared, order, memory| {
                let error = record(shared, order, memory, outcome, &body, t, start);
                shared.buffers.give(body);
                (error, memory.metadata.table().cloned(), memory.cache.memory_bytes())
            })
            .await;
        let (error, metadata, cache_bytes) =
            error.unwrap_or_else(|| (Some("the scrape panicked".to_owned()), None, 0));
        *target.state.lock() = State {
            health: if error.is_none() { Health::Up } else { Health::Down },
            last_error: error.unwrap_or_default(),
            last_scrape: Some(wall),
            last_duration: start.elapsed(),
            metadata,
            cache_bytes,
        };
        true
    }

    fn observe_interval(&mut self, start: Instant) {
        if let Some(last) = self.last_start.replace(start) {
            let length = (start - last).as_secs_f64();
            let metrics = &self.shared.metrics;
            let interval = self.order.target.interval;
            metrics.interval_length.lock().entry(interval).or_default().observe(length);
        }
    }

    /// Runs `work` on a worker, or here if it is short. `None` if it panicked, after which the target starts anew.
    async fn with_memory<T: Send + 'static>(
        &mut self,
        is_short: bool,
        work: impl FnOnce(&Shared, &Order, &mut Memory) -> T + Send + 'static,
    ) -> Option<T> {
        if is_short && !self.shared.lanes.is_empty() {
            let mut memory = std::mem::take(&mut self.memory);
            let (shared, order) = (&*self.shared, &self.order);
            // What a panic leaves half done is dropped with the memory.
            let done = catch_unwind(AssertUnwindSafe(|| (work(shared, order, &mut memory), memory)));
            if let Ok((output, memory)) = done {
                self.memory = memory;
                return Some(output);
            }
            tracing::error!(target = self.order.target.url.text(), "BUG: scrape panicked");
            return None;
        }
        let (shared, order) = (Arc::clone(&self.shared), self.order.clone());
        let mut memory = std::mem::take(&mut self.memory);
        let permit = self.shared.workers.acquire().await;
        let done = tokio::task::spawn_blocking(move || {
            let output = work(&shared, &order, &mut memory);
            (output, memory)
        })
        .await;
        drop(permit);
        match done {
            Ok((output, memory)) => {
                self.memory = memory;
                Some(output)
            }
            Err(error) => {
                tracing::error!(target = self.order.target.url.text(), %error, "BUG: scrape panicked");
                None
            }
        }
    }

    /// Ends the series of a target that is gone, unless it came back meanwhile under another loop.
    ///
    /// The marks bear the time at which the next scrape would have been, and are written after one more
    /// interval, when a loop that took over has scraped: then the store finds ours out of order.
    async fn end(mut self, mut ticks: Ticks) {
        self.connection = Connection::default();
        if self.last_start.is_none() {
            return;
        }
        let stop = self.shared.stop.clone();
        let interval = ticks.interval;
        let wait = async {
            ticks.next().await;
            let t = self.shared.clock.now();
            ticks.next().await;
            tokio::time::sleep(interval / 10).await;
            t
        };
        let t = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            t = wait => t,
        };
        self.with_memory(false, move |shared, order, memory| {
            let mut batch = shared.appendable.appender(order.target.hash);
            memory.cache.begin();
            let written = ingest::mark_all_stale(&mut memory.cache, &mut *batch, t)
                .and_then(|()| memory.refs.append_stale(&order.target.labels, t, &mut *batch));
            let committed = match written {
                Ok(()) => batch.commit().map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = committed {
                let target = order.target.url.text();
                tracing::warn!(target, %error, "could not mark the series of a vanished target as ended");
            }
        })
        .await;
    }
}

/// Whether lines become other series under the new rules, so that what is cached of them is void.
fn makes_other_series(old: &ScrapeConfig, new: &ScrapeConfig) -> bool {
    let labels = |config: &ScrapeConfig| {
        (config.limits.labels, config.limits.label_name_bytes, config.limits.label_value_bytes)
    };
    old.honor_labels != new.honor_labels
        || old.honor_timestamps != new.honor_timestamps
        || old.track_timestamps_staleness != new.track_timestamps_staleness
        || old.metric_relabel != new.metric_relabel
        || old.name_scheme != new.name_scheme
        || old.escaping != new.escaping
        || labels(old) != labels(new)
}

/// Writes what came of a scrape, or that nothing did, as one batch; returns the error that its target shows.
fn record(
    shared: &Shared,
    order: &Order,
    memory: &mut Memory,
    outcome: Result<Head, body::Error>,
    body: &[u8],
    t: Timestamp,
    start: Instant,
) -> Option<String> {
    let (job, target) = (&order.job, &order.target);
    let mut counts = Counts::default();
    let mut body_bytes = 0;
    let mut batch = shared.appendable.appender(target.hash);
    let taken = match outcome {
        Ok(head) => take_in(shared, order, memory, &head, body, t, &mut *batch, &mut counts, &mut body_bytes),
        Err(error) => Err(Failure::Body(error)),
    };
    let error = match taken {
        Ok(()) => None,
        Err(failure) => {
            // Nothing of a failed scrape is kept but the marks that its series have ended.
            drop(batch);
            batch = shared.appendable.appender(target.hash);
            memory.metadata.fail();
            if !failure.has_begun() {
                memory.cache.begin();
            }
            if let Err(error) = ingest::mark_all_stale(&mut memory.cache, &mut *batch, t) {
                tracing::warn!(target = target.url.text(), %error, "could not mark series as ended");
            }
            let is_fetch = matches!(failure, Failure::Body(_)) && order.forced_error.is_none();
            let error = failure.count(&shared.metrics, &mut body_bytes);
            tracing::debug!(
                scrape_pool = job.config.job_name,
                target = target.url.text(),
                error,
                "scrape failed"
            );
            // As upstream: what the target sent but we could not take is told elsewhere.
            if let Some(log) = job.failures.as_ref().filter(|_| is_fetch) {
                log.write(&error, &job.config.job_name, target.url.text());
            }
            Some(error)
        }
    };
    warn_of_refusals(shared, target, &counts);

    let config = &job.config;
    let report = Report {
        is_up: error.is_none(),
        duration: start.elapsed(),
        counts,
        extra: config.extra_scrape_metrics.then_some(Extra {
            timeout: target.timeout,
            sample_limit: config.limits.samples,
            body_bytes,
        }),
        tells_metadata: shared.extras.metadata,
    };
    let reported = memory.refs.append(&target.labels, &report, t, &mut *batch);
    let committed = match reported {
        Ok(()) => batch.commit().map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if config.extra_scrape_metrics {
        shared.metrics.duration.observe(start.elapsed().as_secs_f64());
    }
    let Err(unstored) = committed else { return error };
    tracing::error!(target = target.url.text(), error = unstored, "scrape could not be stored");
    // A target that looks healthy while nothing of it is kept would hide a full disk.
    error.or_else(|| Some(format!("scrape could not be stored: {unstored}")))
}

/// Why a scrape failed, for the counters.
enum Failure {
    Body(body::Error),
    Format(String),
    Ingest(ingest::Error),
}

impl Failure {
    /// Whether the cache is in the middle of a pass.
    const fn has_begun(&self) -> bool {
        matches!(self, Self::Ingest(_))
    }

    /// Counts the failure; returns its text.
    fn count(self, metrics: &Metrics, body_bytes: &mut i64) -> String {
        match self {
            Self::Body(error) => {
                *body_bytes = 0;
                if error == body::Error::TooLarge {
                    metrics.exceeded_body_size_limit.inc();
                    *body_bytes = -1;
                }
                error.to_string()
            }
            Self::Format(error) => error,
            Self::Ingest(error) => {
                match error {
                    ingest::Error::SampleLimit => metrics.exceeded_sample_limit.inc(),
                    ingest::Error::BucketLimit => metrics.exceeded_bucket_limit.inc(),
                    ingest::Error::LabelLimit(_) => metrics.exceeded_label_limits.inc(),
                    _ => {}
                }
                error.to_string()
            }
        }
    }
}

/// Inflates, parses and appends a body to the batch.
#[expect(clippy::too_many_arguments, reason = "the parts of one scrape, named once and used once")]
fn take_in(
    shared: &Shared,
    order: &Order,
    memory: &mut Memory,
    head: &Head,
    raw: &[u8],
    t: Timestamp,
    batch: &mut dyn model::storage::Appender,
    counts: &mut Counts,
    body_bytes: &mut i64,
) -> Result<(), Failure> {
    let (job, target) = (&order.job, &order.target);
    let mut inflated = None;
    if head.is_gzip {
        let mut buffer = shared.buffers.take();
        let result = body::inflate(raw, job.client.body_limit, &mut buffer);
        inflated = Some(buffer);
        if let Err(error) = result {
            shared.buffers.give(inflated.take().unwrap_or_default());
            return Err(Failure::Body(error));
        }
    }
    let bytes = inflated.as_deref().unwrap_or(raw);
    *body_bytes = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let result = if bytes.is_empty() {
        // Nothing exposed is no failure, but its series have ended. Their lines stay known.
        memory.cache.begin();
        ingest::mark_all_stale(&mut memory.cache, batch, t)
            .map_err(|error| Failure::Ingest(ingest::Error::Append(error)))
    } else {
        negotiate::format(head.content_type.as_deref(), job.config.fallback_scrape_protocol)
            .map_err(Failure::Format)
            .and_then(|format| {
                let body = Body { bytes, format, t };
                let rules = Rules {
                    job: Arc::clone(&job.config),
                    target: target.labels.clone(),
                    histograms: target.histograms,
                    extras: shared.extras,
                };
                let Memory { cache, metadata, .. } = memory;
                let taken = ingest::ingest(body, &rules, &shared.hasher, cache, metadata, batch, counts);
                match &taken {
                    Ok(()) => metadata.finish(counts.metadata, bytes, format, &job.tables),
                    Err(_) => metadata.keep(counts.said, counts.metadata, bytes, format, &job.tables),
                }
                taken.map_err(Failure::Ingest)
            })
    };
    if let Some(buffer) = inflated {
        shared.buffers.give(buffer);
    }
    result
}

fn warn_of_refusals(shared: &Shared, target: &Target, counts: &Counts) {
    let target = target.url.text();
    if counts.out_of_order > 0 {
        shared.metrics.out_of_order.add(counts.out_of_order);
        tracing::warn!(target, num_dropped = counts.out_of_order, "error on ingesting out-of-order samples");
    }
    if counts.duplicate > 0 {
        shared.metrics.duplicate.add(counts.duplicate);
        tracing::warn!(
            target,
            num_dropped = counts.duplicate,
            "error on ingesting samples with different value but same timestamp"
        );
    }
    if counts.beyond_series_limit > 0 {
        tracing::warn!(
            target,
            num_dropped = counts.beyond_series_limit,
            "error on ingesting samples of new series: the head holds as many series as its limit allows"
        );
    }
    if counts.out_of_bounds > 0 {
        shared.metrics.out_of_bounds.add(counts.out_of_bounds);
        tracing::warn!(
            target,
            num_dropped = counts.out_of_bounds,
            "error on ingesting samples that are too old or are too far into the future"
        );
    }
    if counts.unconverted > 0 {
        tracing::warn!(
            target,
            num_dropped = counts.unconverted,
            "error on converting classic histograms whose counts contradict each other"
        );
    }
    if counts.exemplar_out_of_order > 0 {
        let num_dropped = counts.exemplar_out_of_order;
        shared.metrics.exemplar_out_of_order.add(num_dropped);
        tracing::warn!(target, num_dropped, "error on ingesting out-of-order exemplars");
    }
}
