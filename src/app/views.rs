//! Live state as the API shows it: the only place where the server's parts become `web::view` structs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use futures_util::future::BoxFuture;
use model::number::format_g;
use model::wire::expose::{Expose, Exposition};
use model::{Labels, Matcher, TimeRange, Timestamp};
use tokio::sync::Semaphore;
use web::api::v2::{AlertQuery, Json, Refusal, SilenceQuery};
use web::view;

use super::{App, now};
use crate::alertmanager::{self, Alertmanager, PostedAlert, SilenceError};
use crate::notifier;
use crate::rules::alerting::{Alert, AlertState};
use crate::rules::group::{Group, Report, Rule};
use crate::{discovery, telemetry};

/// Threads that may block for queries of users; scrapes and rules need some, too.
const QUERY_THREADS_MAX: usize = 32;

/// Threads that may block for questions about series and labels.
const LOOKUP_THREADS_MAX: usize = 8;

/// Threads that write large answers; each has a few pieces to write, then it is another's turn.
const ANSWER_THREADS_MAX: usize = 8;

/// The time before all times, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Everything the server answers over HTTP.
pub(super) fn router(app: &Arc<App>, connections: Arc<web::server::Counts>) -> Router {
    let api = web::Api {
        engine: Arc::clone(&app.engine),
        storage: Arc::clone(&app.store) as Arc<dyn model::storage::Queryable>,
        exemplars: Arc::clone(&app.store) as Arc<dyn model::storage::ExemplarQueryable>,
        targets: Arc::clone(app) as Arc<dyn view::TargetSource>,
        rules: Arc::clone(app) as Arc<dyn view::RuleSource>,
        stories: Arc::clone(app) as Arc<dyn view::story::StorySource>,
        status: Arc::clone(app) as Arc<dyn view::StatusSource>,
        lifecycle: Arc::clone(app) as Arc<dyn view::Lifecycle>,
        admin: Arc::clone(app) as Arc<dyn view::TsdbAdmin>,
        otlp: app.otlp.as_ref().map(|_| Arc::new(web::remote::otlp::Otlp::new(Arc::clone(app) as _))),
        running: Arc::clone(app) as Arc<dyn view::running::Running>,
        notifications: Arc::clone(&app.notifications),
        searches: web::api::v1::search::Searches::default(),
        profiling: tokio::sync::Mutex::default(),
        metrics: Arc::new(web::metrics::Metrics::new(connections)),
        remote: super::remote::remote(app),
        queries: Arc::new(Semaphore::new(match app.flags.query.concurrency_max {
            0 => QUERY_THREADS_MAX,
            n => n.min(QUERY_THREADS_MAX),
        })),
        lookups: Arc::new(Semaphore::new(LOOKUP_THREADS_MAX)),
        answers: Arc::new(Semaphore::new(ANSWER_THREADS_MAX)),
        admin_turn: Arc::default(),
        options: web::api::Options {
            enable_lifecycle: app.flags.web.enable_lifecycle,
            enable_admin: app.flags.web.enable_admin,
            route_prefix: app.route_prefix(),
            external_path: app.external_path(),
            cors_origin: app.flags.web.cors_origin.clone(),
            origins: Arc::new(app.origins()),
            enable_search: app.flags.web.enable_search,
            search_limit_max: app.flags.web.search_limit_max,
            page: page(app),
            now,
        },
    };
    let alertmanager = app.alertmanager.as_ref().map(|alertmanager| {
        let view = Arc::new(AlertmanagerView(Arc::clone(alertmanager)));
        web::api::v2::router(Arc::clone(&view) as _).merge(web::actions::router(view))
    });
    web::router(Arc::new(api), alertmanager)
}

fn page(app: &App) -> web::ui::Page {
    let flags = &app.flags.web;
    web::ui::Page {
        title: flags.page_title.clone(),
        consoles: web::consoles::Consoles {
            templates: flags.console_templates.clone(),
            libraries: flags.console_libraries.clone(),
        },
        user_assets: flags.user_assets.clone(),
        external_url: app.external_url.clone(),
        lookback_delta: model::duration::format(app.flags.query.lookback_delta),
    }
}

fn time_text(t: Option<Timestamp>) -> String {
    t.map_or_else(|| NEVER.to_owned(), notifier::alert::rfc3339)
}

fn instant_text(t: Option<jiff::Timestamp>) -> String {
    t.map_or_else(|| NEVER.to_owned(), |t| t.to_string())
}

// === targets ===

impl view::TargetSource for App {
    fn targets(&self) -> view::Targets {
        let targets = self.scrape.targets(None);
        let active = targets.active.into_iter().map(|target| view::ActiveTarget {
            discovered_labels: target.discovered_labels.to_map(),
            labels: target.labels.to_map(),
            scrape_pool: target.scrape_pool,
            global_url: self.global_url(&target.scrape_url),
            scrape_url: target.scrape_url,
            last_error: target.last_error,
            last_scrape: time_text(target.last_scrape),
            last_scrape_duration: target.last_scrape_duration.as_secs_f64(),
            health: target.health.as_str(),
            scrape_interval: model::duration::format(target.scrape_interval),
            scrape_timeout: model::duration::format(target.scrape_timeout),
        });
        let dropped = targets.dropped.into_iter().map(|target| view::DroppedTarget {
            discovered_labels: target.discovered_labels.to_map(),
            scrape_pool: target.scrape_pool,
        });
        view::Targets {
            active: active.collect(),
            dropped: dropped.collect(),
            dropped_counts: targets.dropped_counts,
        }
    }

    fn pools(&self) -> Vec<String> {
        self.scrape.pools()
    }

    fn discovery(&self) -> Vec<view::Discovery> {
        let managers = [("scrape", &self.scrape_discovery), ("notify", &self.notify_discovery)];
        let sections = managers.into_iter().flat_map(|(name, manager)| {
            manager.status().into_iter().map(move |status| {
                let (last_error, since) =
                    status.failure.map_or((String::new(), None), |f| (f.error, Some(f.since)));
                view::Discovery {
                    job: status.job,
                    manager: name,
                    mechanism: status.mechanism,
                    targets: status.n_targets,
                    last_error,
                    failing_since: time_text(since),
                    last_update: time_text(status.last_update),
                }
            })
        });
        sections.collect()
    }

    fn metadata(&self) -> Vec<view::TargetMetadata> {
        let told = self.scrape.metadata().into_iter().map(|told| view::TargetMetadata {
            target: told.labels.to_map(),
            families: told
                .families
                .iter()
                .map(|family| {
                    let entry = view::Metadata {
                        kind: family.kind.as_str(),
                        help: family.help.to_string(),
                        unit: family.unit.to_string(),
                    };
                    (family.name.to_string(), entry)
                })
                .collect(),
        });
        told.collect()
    }
}

impl App {
    /// The URL under which somebody elsewhere reaches a target that is local to this host.
    /// Compat: prometheus `web/api/v1`, `getGlobalURL`.
    fn global_url(&self, scrape_url: &str) -> String {
        let (Ok(mut target), Ok(own)) = (url::Url::parse(scrape_url), url::Url::parse(&self.external_url))
        else {
            return scrape_url.to_owned();
        };
        if !matches!(target.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            return scrape_url.to_owned();
        }
        // A URL that cannot take the host of another stays as it is.
        if target.port_or_known_default() == Some(self.port) {
            let _ = target.set_scheme(own.scheme());
            let _ = target.set_port(own.port());
        }
        let _ = target.set_host(own.host_str());
        target.to_string()
    }
}

// === rules ===

impl view::RuleSource for App {
    fn groups(&self) -> Vec<view::RuleGroup> {
        self.rules.groups().iter().map(|group| group_view(group)).collect()
    }
}

fn group_view(group: &Group) -> view::RuleGroup {
    let last = *group.last.lock();
    view::RuleGroup {
        name: group.spec.name.clone(),
        file: group.spec.file.display().to_string(),
        rules: group.rules.iter().map(rule_view).collect(),
        interval: group.interval.as_secs_f64(),
        limit: group.spec.limit,
        evaluation_time: last.duration.as_secs_f64(),
        last_evaluation: instant_text(last.began_at),
    }
}

fn rule_view(rule: &Rule) -> view::Rule {
    use config::rules::RuleKind;
    let report: Report = rule.report.lock().clone();
    let health = report.health();
    let last_error = report.last_error.unwrap_or_default();
    match &rule.spec.kind {
        RuleKind::Recording { name } => view::Rule::Recording(view::RecordingRule {
            name: name.clone(),
            query: rule.query.clone(),
            labels: rule.spec.labels.clone(),
            health,
            last_error,
            evaluation_time: report.duration.as_secs_f64(),
            last_evaluation: instant_text(report.began_at),
            kind: "recording",
        }),
        RuleKind::Alerting { name, hold, keep_firing_for, annotations } => {
            let state = rule.alerts.lock();
            let overall = if report.at.is_none() { "unknown" } else { state.overall().as_str() };
            let mut active: Vec<_> = state.active().collect();
            active.sort_by(|a, b| (b.1.state as u8, a.0).cmp(&(a.1.state as u8, b.0)));
            view::Rule::Alerting(view::AlertingRule {
                state: overall,
                name: name.clone(),
                query: rule.query.clone(),
                duration: hold.as_secs_f64(),
                keep_firing_for: keep_firing_for.as_secs_f64(),
                labels: rule.spec.labels.clone(),
                annotations: annotations.clone(),
                alerts: Some(active.into_iter().map(|(labels, alert)| alert_view(labels, alert)).collect()),
                health,
                last_error,
                evaluation_time: report.duration.as_secs_f64(),
                last_evaluation: instant_text(report.began_at),
                kind: "alerting",
            })
        }
    }
}

fn alert_view(labels: &Labels, alert: &Alert) -> view::Alert {
    debug_assert!(alert.state != AlertState::Inactive, "BUG: resolved alerts are not listed");
    view::Alert {
        labels: labels.to_map(),
        annotations: (*alert.annotations).clone(),
        state: alert.state.as_str(),
        active_at: Some(notifier::alert::rfc3339(alert.active_at)),
        keep_firing_since: alert.keep_firing_since.map(notifier::alert::rfc3339),
        value: model::number::format_e(alert.value),
    }
}

// === status ===

impl view::StatusSource for App {
    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn config_text(&self) -> String {
        self.config.load().text.clone()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        let mut shown = self.flags.shown.clone();
        // Upstream shows what it has made of these two.
        shown.insert("web.route-prefix".to_owned(), format!("/{}", self.route_prefix().trim_matches('/')));
        if let Some(size) = shown.get_mut("storage.tsdb.retention.size").filter(|size| size.is_empty()) {
            "0B".clone_into(size);
        }
        shown
    }

    fn runtime_info(&self) -> view::RuntimeInfo {
        let last = self.reloads.last();
        let threads = self.threads();
        view::RuntimeInfo {
            start_time: notifier::alert::rfc3339(self.started_at),
            cwd: std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            server_time: notifier::alert::rfc3339(now()),
            reload_config_success: last.is_success,
            last_config_time: time_text(last.succeeded_at),
            corruption_count: self.store.get().map_or(0, |db| db.head().corruption_count()),
            goroutine_count: telemetry::n_threads(),
            gomaxprocs: threads,
            gomemlimit: i64::MAX,
            gogc: String::new(),
            godebug: String::new(),
            storage_retention: self.retention_text(),
        }
    }

    fn build_info(&self) -> view::BuildInfo {
        let ours = alertmanager_version();
        view::BuildInfo {
            version: telemetry::COMPATIBLE_VERSION.to_owned(),
            revision: ours.revision,
            branch: ours.branch,
            build_user: ours.build_user,
            build_date: ours.build_date,
            go_version: ours.go_version,
        }
    }

    fn tsdb_status(&self, limit: usize) -> view::TsdbStatus {
        let stats =
            self.store.get().expect("BUG: asked for the store before it was ready").head().stats(limit);
        let named = |list: Vec<tsdb::head::TopEntry>| {
            let counts =
                list.into_iter().map(|entry| view::NamedCount { name: entry.name, value: entry.value });
            counts.collect()
        };
        view::TsdbStatus {
            head_stats: view::HeadStats {
                num_series: stats.n_series,
                num_label_pairs: stats.n_label_pairs,
                chunk_count: stats.n_chunks,
                min_time: stats.min_time,
                max_time: stats.max_time,
            },
            series_count_by_metric_name: named(stats.series_by_metric),
            label_value_count_by_label_name: named(stats.values_by_label),
            memory_in_bytes_by_label_name: named(stats.memory_by_label),
            series_count_by_label_value_pair: named(stats.series_by_pair),
        }
    }

    fn wal_replay(&self) -> view::WalReplay {
        let read = |segment: &std::sync::atomic::AtomicU64| segment.load(Ordering::Relaxed);
        let replay = &self.replay;
        view::WalReplay { min: read(&replay.min), max: read(&replay.max), current: read(&replay.current) }
    }

    fn blocks(&self) -> Vec<Vec<u8>> {
        let blocks = self.store.get().map(|db| db.blocks()).unwrap_or_default();
        blocks.iter().map(json).collect()
    }

    fn alertmanagers(&self) -> view::Alertmanagers {
        let urls = self.notifier.urls();
        let list = |urls: Vec<String>| urls.into_iter().map(|url| view::AlertmanagerUrl { url }).collect();
        view::Alertmanagers {
            active_alertmanagers: list(urls.active),
            dropped_alertmanagers: list(urls.dropped),
        }
    }

    fn expose(&self, out: &mut Exposition) {
        out.set_created(telemetry::start_time());
        telemetry::expose(out);
        let last = self.reloads.last();
        out.gauge(
            "prometheus_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
            f64::from(u8::from(last.is_success)),
        );
        out.gauge(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            last.succeeded_at.unwrap_or(0) as f64 / 1000.0,
        );
        out.gauge(
            "prometheus_ready",
            "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
            f64::from(u8::from(view::StatusSource::is_ready(self))),
        );
        if let Some(db) = self.store.get() {
            db.expose(out);
        }
        let mut holders: Vec<&dyn model::memory::Holder> = vec![&*self.engine, &*self.scrape];
        if let Some(db) = self.store.get() {
            holders.push(&**db);
        }
        model::memory::expose(&holders, out);
        self.engine.expose(out);
        self.queries.expose(out);
        self.scrape.expose(out);
        let (scrape, notify) = (self.scrape_discovery.metrics(), self.notify_discovery.metrics());
        discovery::Exposed(&[&scrape, &notify]).expose(out);
        self.rules.expose(out);
        self.notifier.expose(out);
        self.story.expose(out);
        if let Some(otlp) = &self.otlp {
            otlp.expose(out);
        }
        if let Some(alertmanager) = &self.alertmanager {
            // Both files are loaded together or not at all.
            out.gauge(
                "alertmanager_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
                f64::from(u8::from(last.is_success)),
            );
            out.gauge(
                "alertmanager_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
                last.succeeded_at.unwrap_or(0) as f64 / 1000.0,
            );
            alertmanager.expose(out);
        }
    }
}

impl App {
    fn retention_text(&self) -> String {
        let retention = self.retention(&self.config.load()).normalized();
        let time = retention.time.map(model::duration::format);
        let size = retention.size_bytes.map(config::units::format_size);
        let share = (retention.percentage > 0.0).then(|| format!("{}%", format_g(retention.percentage)));
        [time, size, share].into_iter().flatten().collect::<Vec<_>>().join(" or ")
    }
}

impl App {
    fn open_store(&self) -> Result<&tsdb::Db, String> {
        self.store.get().map(AsRef::as_ref).ok_or_else(|| "TSDB not ready".to_owned())
    }
}

impl view::running::Running for App {
    fn config(&self) -> Arc<config::Config> {
        self.config.load_full()
    }

    fn features(&self) -> view::running::Features {
        super::features::features(&self.flags, super::parser(&self.flags))
    }

    fn top_queries(&self) -> view::running::TopQueries {
        self.queries.top()
    }

    fn command_line(&self) -> Vec<String> {
        std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    fn threads(&self) -> Vec<view::running::Thread> {
        telemetry::threads()
    }
}

impl view::TsdbAdmin for App {
    fn delete_series(&self, range: TimeRange, matchers: &[Matcher]) -> Result<(), String> {
        self.open_store()?.delete(range, matchers).map_err(|e| e.to_string())
    }

    fn clean_tombstones(&self) -> Result<(), String> {
        self.open_store()?.clean_tombstones(now()).map_err(|e| e.to_string())
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, String> {
        let at = jiff::Timestamp::now();
        let name = format!("{}-{:016x}", at.strftime("%Y%m%dT%H%M%SZ"), fastrand::u64(..) >> 1);
        self.open_store()?.snapshot(&name, !skip_head, at.as_millisecond()).map_err(|e| e.to_string())?;
        Ok(name)
    }
}

impl view::Lifecycle for App {
    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.reload().await.map_err(|e| format!("{e:#}")) })
    }

    fn quit(&self) {
        self.quit.notify_one();
    }
}

// === the built-in Alertmanager ===

/// The build as the Alertmanager's API tells it.
pub(super) fn alertmanager_version() -> alertmanager::api::VersionInfo {
    alertmanager::api::VersionInfo {
        version: telemetry::COMPATIBLE_ALERTMANAGER_VERSION.to_owned(),
        revision: format!("ferula-{}", telemetry::VERSION),
        ..Default::default()
    }
}

/// An alert of the rules as the Alertmanager takes it.
pub(super) fn posted(alert: notifier::Alert) -> PostedAlert {
    let time = |t: Timestamp| jiff::Timestamp::from_millisecond(t).ok();
    PostedAlert {
        labels: alert.labels.to_map(),
        annotations: alert.annotations,
        starts_at: time(alert.starts_at),
        ends_at: time(alert.ends_at),
        generator_url: alert.generator_url,
    }
}

struct AlertmanagerView(Arc<Alertmanager>);

impl web::actions::Actions for AlertmanagerView {
    fn offer(&self, token: &str) -> Result<web::actions::Offer, web::actions::Refused> {
        let offer = self.0.offer(token).map_err(denied)?;
        Ok(web::actions::Offer {
            labels: offer.labels.into_iter().collect(),
            length: offer.length,
            n_alerts: offer.n_alerts,
            examples: offer.examples,
            author: offer.author,
        })
    }

    fn act(&self, token: &str) -> Result<web::actions::Done, web::actions::Refused> {
        let done = self.0.act(token).map_err(denied)?;
        Ok(web::actions::Done { silence: done.silence, until: done.until, is_old: done.is_old })
    }
}

fn denied(denied: alertmanager::actions::Denied) -> web::actions::Refused {
    use alertmanager::actions::Denied;
    use alertmanager::links::Refused;
    match denied {
        Denied::Token(Refused::Forged) => web::actions::Refused::Forged,
        Denied::Token(Refused::Expired) => web::actions::Refused::Expired,
        Denied::Impossible(text) => web::actions::Refused::Impossible(text),
    }
}

impl AlertmanagerView {
    fn filter(query: AlertQuery) -> alertmanager::api::AlertFilter {
        alertmanager::api::AlertFilter {
            active: query.active,
            silenced: query.silenced,
            inhibited: query.inhibited,
            muted: query.muted,
            matchers: query.matchers,
            receiver: query.receiver,
            receiver_matchers: query.receiver_matchers,
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> Json {
    serde_json::to_vec(value).expect("the API's structs have string keys")
}

impl web::api::v2::Alertmanager for AlertmanagerView {
    fn status(&self) -> Json {
        json(&self.0.status())
    }

    fn receivers(&self, matchers: &[Matcher]) -> Json {
        json(&self.0.receivers(matchers))
    }

    fn alerts(&self, query: AlertQuery) -> Json {
        json(&self.0.alerts(&Self::filter(query)))
    }

    fn alert_groups(&self, query: AlertQuery) -> Json {
        json(&self.0.alert_groups(&Self::filter(query)))
    }

    fn post_alerts(&self, body: &[u8]) -> Result<(), Refusal> {
        let alerts = alertmanager::posted::alerts(body).map_err(refused)?;
        self.0.put(alerts).map_err(invalid)
    }

    fn silences(&self, query: SilenceQuery) -> Json {
        let SilenceQuery { active, pending, expired, matchers } = query;
        json(&self.0.silences(&alertmanager::api::SilenceFilter { active, pending, expired, matchers }))
    }

    fn silence(&self, id: &str) -> Result<Json, Refusal> {
        self.0.silence(id).map(|silence| json(&silence)).ok_or(Refusal::NotFound)
    }

    fn post_silence(&self, body: &[u8]) -> Result<Json, Refusal> {
        let silence = alertmanager::posted::silence(body).map_err(refused)?;
        match self.0.put_silence(silence) {
            Ok(id) => Ok(json(&id)),
            Err(e @ SilenceError::NotFound) => Err(Refusal::Unknown(e.to_string())),
            Err(e) => Err(invalid(e)),
        }
    }

    fn delete_silence(&self, id: &str) -> Result<(), Refusal> {
        self.0.expire_silence(id).map_err(|e| match e {
            SilenceError::NotFound => Refusal::NotFound,
            SilenceError::Invalid(text) => Refusal::Internal(text),
        })
    }
}

fn refused(e: alertmanager::posted::Refused) -> Refusal {
    match e {
        alertmanager::posted::Refused::Malformed(message) => Refusal::Malformed(message),
        alertmanager::posted::Refused::Schema { code, message } => Refusal::Schema { code, message },
    }
}

fn invalid(e: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(e.to_string())
}
