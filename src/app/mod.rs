//! The wiring: every part built, started, reloaded and stopped in its order.
//!
//! Nobody imports this module but the binary. The API answers from the first moment, with "not ready" until
//! the store is replayed; only then does anything scrape or evaluate.
//!
//! Compat: prometheus `cmd/prometheus/main.go`: the order of starting, reloading and stopping.

mod explain;
mod features;
mod files;
mod insight;
mod otlp;
mod reload;
mod remote;
mod store;
mod views;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use model::{Labels, Timestamp};
use promql::{Engine, EngineOptions, Features};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsdb::db::Db;
use tsdb::head::ReplayProgress;
use web::security::Security;

pub use files::Files;

use crate::alertmanager::{self, Alertmanager};
use crate::cli::flags::Flags;
use crate::{container, discovery, notifier, queries, rules, scrape, story};
use reload::Reloads;
use store::Store;

/// The most threads that may block at once: scrapes being ingested, queries, evaluations, name lookups. What HTTP may take is
/// 88 of them (queries 32, lookups 8, large answers 8, remote reads 16, federation 8, remote write 8, OTLP 8), so that
/// clients, however many, leave scrapes and rules theirs. Threads are made when they are needed.
const BLOCKING_THREADS_MAX: usize = 128;

/// More threads that scrape would not find more work: one takes in a million samples a second.
const SCRAPE_LANES_MAX: usize = 8;

/// The longest the store may take for its maintenance to be called late.
const MAINTENANCE_BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Every part of the running server.
pub(crate) struct App {
    flags: Flags,
    started_at: Timestamp,
    external_url: String,
    /// The first port that is listened on.
    port: u16,
    config: ArcSwap<config::Config>,
    reloads: Reloads,
    store: Arc<Store>,
    replay: Arc<ReplayProgress>,
    engine: Arc<Engine>,
    queries: Arc<queries::Watch>,
    scrape: Arc<scrape::Manager>,
    scrape_discovery: Arc<discovery::Manager>,
    notifier: Arc<notifier::Manager>,
    notify_discovery: Arc<discovery::Manager>,
    rules: rules::Manager,
    rules_ctx: Arc<rules::Context>,
    alertmanager: Option<Arc<Alertmanager>>,
    otlp: Option<crate::remote::otlp::Receiver>,
    notifications: Arc<web::Notifications>,
    story: Arc<story::Journal>,
    story_thread: parking_lot::Mutex<Option<thread::JoinHandle<()>>>,
    /// What writes to the store and ends when its sources are stopped.
    writers: TaskTracker,
    stop_alertmanager: CancellationToken,
    alertmanager_tasks: TaskTracker,
    is_ready: AtomicBool,
    is_stopping: AtomicBool,
    quit: Notify,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// An address cannot be bound or the store cannot be opened.
pub fn run(flags: Flags, files: Files) -> anyhow::Result<()> {
    let resources = Resources::new(&flags);
    resources.tell();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(resources.threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(serve(flags, files));
    // What still blocks after the store is closed has nothing left to lose.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(flags: Flags, files: Files) -> anyhow::Result<()> {
    let listeners = listen(&flags.web.listen)?;
    let security = security(flags.web.config_file.as_deref())?;
    let port = listeners[0].local_addr().context("read the bound address")?.port();
    let stop_sources = CancellationToken::new();
    let app = Arc::new(App::build(flags, &files, port, &stop_sources)?);
    if let Some(alertmanager) = &app.alertmanager {
        alertmanager.connect(Arc::new(insight::Insight::new(&app)));
    }
    let stop_web = CancellationToken::new();
    let web = app.start_web(listeners, security, &stop_web);

    let outcome = app.open_and_run(files).await;
    app.is_stopping.store(true, Ordering::Release);
    app.is_ready.store(false, Ordering::Release);
    app.notifications.add(web::notifications::STOPPING);
    stop_sources.cancel();
    app.stop_parts().await;
    // Nobody is waited for who listens for more.
    app.notifications.close();
    stop_web.cancel();
    for server in web {
        // A panic of a listener has been logged where it happened.
        let _ = server.await;
    }
    tracing::info!("see you next time!");
    outcome
}

/// What users should know, which is first of all that the server starts.
fn notifications(flags: &Flags) -> Arc<web::Notifications> {
    let date = || jiff::Timestamp::now().to_string();
    let notifications = web::Notifications::new(flags.web.notification_subscribers_max, date);
    notifications.add(web::notifications::STARTING);
    Arc::new(notifications)
}

/// How many threads work, and how much memory may be used up.
#[derive(Clone, Copy, Debug)]
struct Resources {
    threads: usize,
    memory_bytes: Option<u64>,
}

impl Resources {
    fn new(flags: &Flags) -> Self {
        let found = container::this();
        let share = |bytes: u64, ratio: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u64")]
            let bytes = (bytes as f64 * ratio) as u64;
            bytes
        };
        Self {
            threads: found.threads(flags.resources.threads_by_quota),
            memory_bytes: found
                .memory_bytes()
                .and_then(|bytes| flags.resources.memory_ratio.map(|ratio| share(bytes, ratio))),
        }
    }

    fn tell(self) {
        let found = container::this();
        let shown = |n: Option<u64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
        tracing::info!(
            cpus = found.cpus,
            cpu_quota = found.cpu_quota.map_or_else(|| "none".to_owned(), |quota| quota.to_string()),
            machine_memory_bytes = shown(found.machine_bytes),
            container_memory_bytes = shown(found.group_bytes),
            threads = self.threads,
            memory_budget_bytes = shown(self.memory_bytes),
            "Resources of the machine and the container"
        );
    }
}

fn listen(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for &address in addresses {
        let listener = bind(address).with_context(|| format!("listen on {address}"))?;
        tracing::info!(address = %listener.local_addr()?, "Listening on");
        listeners.push(listener);
    }
    anyhow::ensure!(!listeners.is_empty(), "no address to listen on is given");
    Ok(listeners)
}

/// What protects the server, if anything does.
fn security(path: Option<&Path>) -> anyhow::Result<Option<Security>> {
    let Some(path) = path else { return Ok(None) };
    let security = Security::open(path).context("unable to validate web configuration file")?;
    for warning in security.warnings() {
        tracing::warn!(path = %path.display(), "{warning}");
    }
    Ok(Some(security))
}

/// Connections that may wait to be accepted, if the system lets so many: all panels of many dashboards come at once.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Milliseconds since the epoch.
fn now() -> Timestamp {
    jiff::Timestamp::now().as_millisecond()
}

/// The stories of before, or none if they cannot be read: nobody goes without alerts for that.
fn journal(dir: &Path) -> Arc<story::Journal> {
    let clock = || -> story::Clock { Box::new(now) };
    story::Journal::open(dir, story::Limits::default(), clock()).unwrap_or_else(|e| {
        tracing::error!(path = %dir.display(), error = %e, "reading the stories of alerts failed, new ones are not kept");
        story::Journal::in_memory(clock())
    })
}

impl App {
    fn start_story(&self) {
        let journal = Arc::clone(&self.story);
        let thread = thread::Builder::new().name("story".to_owned()).spawn(move || journal.run());
        *self.story_thread.lock() = Some(thread.expect("the system has threads left"));
        self.note_of_server(story::Code::Restarted, "the server started");
    }

    /// Returns once everything noted is in files.
    async fn stop_story(&self) {
        self.note_of_server(story::Code::NotEvaluated, "the server stopped");
        self.story.stop();
        let Some(thread) = self.story_thread.lock().take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the thread that keeps the stories of alerts panicked");
        }
    }

    fn note_of_server(&self, code: story::Code, detail: &str) {
        self.story.note(story::Note::Server { at: now(), code, detail: detail.into() });
    }
}

impl App {
    fn build(flags: Flags, files: &Files, port: u16, stop: &CancellationToken) -> anyhow::Result<Self> {
        let external_url = flags.web.external_url.clone().unwrap_or_else(|| default_url(port));
        let store = Arc::new(Store::default());
        let engine = Arc::new(engine(&flags));
        let queries = Arc::new(queries::Watch::default());
        engine.observe(Arc::clone(&queries) as Arc<dyn promql::Observer>);
        let story = journal(&flags.storage.path.join("ferula").join("stories"));
        let alertmanager = match &files.alertmanager {
            Some(config) => {
                let options = alertmanager::Options {
                    data_dir: Some(
                        flags
                            .alertmanager
                            .path
                            .clone()
                            .unwrap_or_else(|| flags.storage.path.join("alertmanager")),
                    ),
                    external_url: external_url.clone(),
                    retention: flags.alertmanager.retention,
                    maintenance_interval: flags.alertmanager.maintenance_interval,
                    gc_interval: flags.alertmanager.gc_interval,
                    start_delay: flags.alertmanager.start_delay,
                    silences_max: flags.alertmanager.silences_max,
                    silence_bytes_max: flags.alertmanager.silence_bytes_max,
                    alerts_per_name_max: flags.alertmanager.alerts_per_name_max,
                    groups_max: flags.alertmanager.groups_max,
                    logs_silences: flags.alertmanager.logs_silences,
                    version: views::alertmanager_version(),
                    story: Some(Arc::clone(&story)),
                };
                let clock = Arc::new(alertmanager::SystemClock);
                Some(
                    Alertmanager::new(config.as_ref().clone(), options, clock)
                        .context("start the Alertmanager")?,
                )
            }
            None => None,
        };
        let inbox = alertmanager.clone().map(|alertmanager| -> notifier::manager::Inbox {
            Box::new(move |alerts| {
                if let Err(e) = alertmanager.put(alerts.into_iter().map(views::posted).collect()) {
                    tracing::warn!(error = %e, "the Alertmanager refused alerts of a rule");
                }
            })
        });
        let notifier = notifier::Manager::new(flags.notifier, inbox).told_to(Some(Arc::clone(&story)));
        let notifier = Arc::new(notifier);
        let send_to = Arc::clone(&notifier);
        let rules_ctx = Arc::new(rules::Context {
            engine: Arc::clone(&engine),
            storage: Arc::clone(&store) as Arc<dyn rules::Storage>,
            notify: Box::new(move |alerts| send_to.send(alerts)),
            external_url: external_url.clone(),
            external_labels: ArcSwap::from_pointee(Labels::empty()),
            now,
            options: flags.rules,
            metrics: rules::Metrics::default(),
            story: Some(Arc::clone(&story)),
        });
        let ask = Arc::clone(&store) as Arc<dyn rules::Storage>;
        story.set_investigator(rules::why::investigator(Arc::clone(&engine), ask));
        let scrape_discovery = discovery::Manager::new("scrape", stop.child_token());
        Ok(Self {
            started_at: now(),
            external_url,
            port,
            config: ArcSwap::new(Arc::clone(&files.config)),
            reloads: Reloads::default(),
            replay: Arc::default(),
            engine,
            queries,
            scrape: Arc::new(scrape_manager(&flags, Arc::clone(&store), stop.child_token())?),
            notify_discovery: Arc::new(discovery::Manager::beside(
                &scrape_discovery,
                "notify",
                stop.child_token(),
            )),
            scrape_discovery: Arc::new(scrape_discovery),
            notifier,
            rules: rules::Manager::new(
                Arc::clone(&rules_ctx),
                Some(flags.storage.path.join("rules").join("alerts.state")),
            ),
            rules_ctx,
            alertmanager,
            otlp: otlp::receiver(&flags),
            notifications: notifications(&flags),
            story,
            story_thread: parking_lot::Mutex::default(),
            store,
            writers: TaskTracker::new(),
            stop_alertmanager: CancellationToken::new(),
            alertmanager_tasks: TaskTracker::new(),
            is_ready: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            quit: Notify::new(),
            flags,
        })
    }

    /// Opens the store, starts everything, and returns when the server shall stop.
    async fn open_and_run(self: &Arc<Self>, files: Files) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        if let Some(interval) = self.flags.auto_reload {
            tracing::info!(?interval, "Automatic configuration file reloading enabled");
            self.note_files();
        }
        let mut opening = {
            let path = self.flags.storage.path.clone();
            // What the file says comes first: the first maintenance must not delete what it wants to keep.
            let options = tsdb::db::Options {
                retention: self.retention(&files.config),
                features: tsdb::head::Features {
                    max_exemplars: self.max_exemplars(&files.config),
                    floats: self.floats(&files.config)?,
                    ..self.flags.storage.options.features
                },
                stale_series_threshold: files.config.storage.stale_series_compaction_threshold,
                out_of_order_window: files.config.storage.out_of_order_time_window,
                ..self.flags.storage.options.clone()
            };
            let replay = Arc::clone(&self.replay);
            tokio::task::spawn_blocking(move || Db::open(&path, &options, &replay))
        };
        let db = loop {
            tokio::select! {
                opened = &mut opening => break Arc::new(opened.context("open the store")?.context("open the store")?),
                signal = signals.next() => if signal == Signal::Stop { return Ok(()) },
            }
        };
        tracing::info!(path = %self.flags.storage.path.display(), "TSDB started");
        // Only now is the folder known to be ours.
        self.queries.open(&self.flags.storage.path, self.query_places());
        self.store.set(Arc::clone(&db));
        let maintenance = Maintenance::start(db, self.flags.storage.reload_interval);
        self.start_parts();
        self.apply(files, true).await.context("apply the configuration")?;
        self.is_ready.store(true, Ordering::Release);
        self.notifications.remove(web::notifications::STARTING);
        tracing::info!("Server is ready to receive web requests.");
        let mut looks = tokio::time::interval(self.flags.auto_reload.unwrap_or(Duration::from_secs(1)));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick(), if self.flags.auto_reload.is_some() => self.reload_if_changed().await,
                signal = signals.next() => match signal {
                    // The outcome has been logged.
                    Signal::Reload => drop(self.reload().await),
                    Signal::Stop => {
                        tracing::warn!("Received an OS signal, exiting gracefully...");
                        break;
                    }
                },
                () = self.quit.notified() => {
                    tracing::warn!("Received termination request via web service, exiting gracefully...");
                    break;
                }
            }
        }
        tokio::task::spawn_blocking(move || maintenance.stop())
            .await
            .context("stop the maintenance of the store")
    }

    /// How many queries may run at once, those of rules included.
    fn query_places(&self) -> usize {
        match self.flags.query.concurrency_max {
            0 => BLOCKING_THREADS_MAX,
            n => (2 * n).min(BLOCKING_THREADS_MAX),
        }
    }

    fn start_parts(&self) {
        self.start_story();
        let discovery = Arc::clone(&self.scrape_discovery);
        tokio::spawn(async move { discovery.run().await });
        let discovery = Arc::clone(&self.notify_discovery);
        tokio::spawn(async move { discovery.run().await });
        let (scrape, targets) = (Arc::clone(&self.scrape), self.scrape_discovery.subscribe());
        self.writers.spawn(async move { scrape.run(targets).await });
        let (notifier, mut targets) = (Arc::clone(&self.notifier), self.notify_discovery.subscribe());
        tokio::spawn(async move {
            while targets.changed().await.is_ok() {
                let found = Arc::clone(&targets.borrow_and_update());
                notifier.set_targets(&found);
            }
        });
        if let Some(alertmanager) = self.alertmanager.clone() {
            let stop = self.stop_alertmanager.clone();
            self.alertmanager_tasks.spawn(alertmanager.run(stop));
        }
    }

    /// Stops what writes before the store, and the store before what only reads.
    async fn stop_parts(&self) {
        self.rules.stop().await;
        self.writers.close();
        self.writers.wait().await;
        self.notifier.stop().await;
        self.stop_alertmanager.cancel();
        self.alertmanager_tasks.close();
        self.alertmanager_tasks.wait().await;
        self.stop_story().await;
        if let Some(db) = self.store.get().cloned() {
            let closed = tokio::task::spawn_blocking(move || db.close()).await;
            match closed {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::error!(error = %e, "closing the store failed"),
                Err(e) => tracing::error!(error = %e, "closing the store panicked"),
            }
        }
    }

    fn start_web(
        self: &Arc<Self>,
        listeners: Vec<TcpListener>,
        security: Option<Security>,
        stop: &CancellationToken,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let limits = web::server::Limits {
            connections_max: self.flags.web.connections_max,
            read_timeout: self.flags.web.read_timeout,
        };
        let (has_tls, http2) = security.as_ref().map_or((false, false), |s| (s.has_tls(), s.http2()));
        let server = web::server::Server::new(limits, security);
        let router = views::router(self, server.counts());
        let serve = |listener: TcpListener| {
            let state = if has_tls { "TLS is enabled." } else { "TLS is disabled." };
            let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
            tracing::info!(http2, address, "{state}");
            let shutdown = stop.clone().cancelled_owned();
            tokio::spawn(Arc::clone(&server).run(listener, router.clone(), shutdown))
        };
        listeners.into_iter().map(serve).collect()
    }

    /// How many threads run at once.
    fn threads(&self) -> usize {
        Resources::new(&self.flags).threads
    }

    /// Where the routes lie: empty or `/prefix`.
    fn route_prefix(&self) -> String {
        self.flags.web.route_prefix.clone().unwrap_or_else(|| self.external_path())
    }

    /// Whose pages may change something.
    fn origins(&self) -> web::api::Origins {
        let origin = url::Url::parse(&self.external_url).map(|url| url.origin().ascii_serialization());
        web::api::Origins::new(&origin.unwrap_or_default(), self.flags.web.cors_origin.clone())
    }

    /// The path of the external URL: empty or `/prefix`.
    fn external_path(&self) -> String {
        let url = url::Url::parse(&self.external_url);
        url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
    }
}

/// The URL of this host, where the user gave none.
fn default_url(port: u16) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("http://{name}:{port}")
}

/// The switches of the language, for queries and rules alike.
fn parser(flags: &Flags) -> promql::parse::Options {
    let has = |name: &str| flags.features.contains(name);
    promql::parse::Options {
        experimental_functions: has("promql-experimental-functions"),
        extended_range_selectors: has("promql-extended-range-selectors"),
        binop_fill: has("promql-binop-fill-modifiers"),
        ..promql::parse::Options::default()
    }
}

fn engine(flags: &Flags) -> Engine {
    let has = |name: &str| flags.features.contains(name);
    let query = flags.query;
    let resources = Resources::new(flags);
    Engine::new(EngineOptions {
        lookback_delta: query.lookback_delta,
        timeout: query.timeout,
        max_samples: query.samples_max,
        max_total_bytes: resources
            .memory_bytes
            .and_then(|budget| usize::try_from(budget / 2).ok())
            .unwrap_or(usize::MAX),
        max_concurrency: query.concurrency_max,
        threads: resources.threads,
        features: Features {
            parser: parser(flags),
            delayed_name_removal: has("promql-delayed-name-removal"),
            start_timestamps: has("use-start-timestamps"),
            per_step_stats: has("promql-per-step-stats"),
            type_and_unit_labels: flags.features.contains("type-and-unit-labels"),
        },
        passes: promql::Passes::ALL,
    })
}

fn scrape_manager(
    flags: &Flags,
    store: Arc<Store>,
    stop: CancellationToken,
) -> anyhow::Result<scrape::Manager> {
    let features = flags.storage.options.features;
    let options = scrape::Options {
        discovery_reload_interval: flags.scrape.reload_interval,
        timestamp_tolerance: if flags.scrape.adjust_timestamps {
            flags.scrape.timestamp_tolerance
        } else {
            Duration::ZERO
        },
        n_lanes: Resources::new(flags).threads.min(SCRAPE_LANES_MAX),
        extras: scrape::Extras {
            metadata: features.logs_metadata,
            // Whoever wants zeros where counts begin has to know where that is.
            start_times: features.stores_start_times || features.zero_at_start,
            made_up_starts: flags.features.contains("st-synthesis"),
            type_and_unit_labels: flags.features.contains("type-and-unit-labels"),
        },
    };
    scrape::Manager::new(store, Arc::new(scrape::System), options, stop)
        .context("start the threads that scrape")
}

/// The thread that lets the store do its housekeeping.
struct Maintenance {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Maintenance {
    fn start(db: Arc<Db>, interval: Duration) -> Self {
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            let mut wait = interval;
            while stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
                wait = match db.maintain(now()) {
                    Ok(()) => interval,
                    Err(e) => {
                        tracing::error!(error = %e, "maintaining the store failed");
                        (wait * 2).min(MAINTENANCE_BACKOFF_MAX.max(interval))
                    }
                };
            }
        };
        let thread = thread::Builder::new()
            .name("maintenance".to_owned())
            .spawn(work)
            .expect("the system has threads left");
        Self { stop, thread }
    }

    /// Returns after the round that is under way.
    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the maintenance of the store panicked");
        }
    }
}

/// What the system may tell the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Reload,
    Stop,
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
        }
    }
}
