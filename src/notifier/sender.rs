//! The loop that empties one queue into one Alertmanager.
//!
//! A batch that fails is tried once more after a pause, its alerts in their newest states; then it is lost, because
//! rules send every active alert again and again.
//!
//! Compat: prometheus `notifier/sendloop.go`, which does not try again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use config::prometheus::Alertmanager;
use http::{HeaderMap, HeaderValue, StatusCode};
use model::wire::expose::{Counter, Histogram, Summary};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::queue::{Entry, Queue};
use super::{Alert, chronicle};
use crate::http_client;
use crate::http_client::sigv4::Signer;
use crate::story::{Code, Journal};

/// How long a batch waits before it is sent a second time.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How often a batch is sent.
const TRIES_MAX: u8 = 2;

/// The most alerts in one request.
#[derive(Clone, Copy, Debug)]
pub struct BatchSize(pub usize);

/// What happened to alerts, by count of alerts.
#[derive(Debug)]
pub struct Metrics {
    pub sent: Counter,
    /// Once for every time that an alert could not be sent.
    pub errors: Counter,
    pub dropped: Counter,
    /// Alerts that a newer state of them replaced before they were sent.
    pub replaced: Counter,
    /// Seconds per request that went well.
    pub latency: Summary,
    pub latencies: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sent: Counter::new(),
            errors: Counter::new(),
            dropped: Counter::new(),
            replaced: Counter::new(),
            latency: Summary::new(&[0.5, 0.9, 0.99]),
            latencies: Histogram::new(&[0.01, 0.1, 1.0, 10.0]),
        }
    }
}

/// How the requests of one section are made.
pub struct Client {
    http: http_client::Client,
    signer: Option<Signer>,
}

impl Client {
    /// # Errors
    /// A file of certificates cannot be used, or no keys to sign with are found.
    pub fn new(section: &Alertmanager) -> anyhow::Result<Self> {
        Ok(Self {
            http: http_client::Client::new(&section.http, section.timeout)?,
            signer: section.sigv4.as_ref().map(Signer::new).transpose()?,
        })
    }

    /// The status of the answer to a body of alerts.
    async fn post(&self, url: &Url, body: Vec<u8>) -> Result<StatusCode, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(signer) = &self.signer {
            let now = jiff::Timestamp::now();
            signer
                .sign(&http::Method::POST, url, &mut headers, &body, now)
                .map_err(|e| Failure { text: e.to_string(), is_final: true })?;
        }
        let fail = |e: http_client::Error| Failure { is_final: e.is_final(), text: e.to_string() };
        let request = self.http.request(http::Method::POST, url.clone()).map_err(fail)?;
        Ok(request.headers(headers).body(body).send().await.map_err(fail)?.status())
    }
}

/// A running loop.
pub struct Sender {
    pub url: String,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    story: Option<Arc<Journal>>,
    client: Arc<ArcSwap<Client>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sender {
    /// Begins to post what arrives in a new queue of `capacity` to `url`.
    pub fn start(
        url: Url,
        client: Arc<Client>,
        metrics: Arc<Metrics>,
        story: Option<Arc<Journal>>,
        capacity: usize,
        batch: BatchSize,
    ) -> Self {
        let queue = Arc::new(Queue::new(capacity));
        let client = Arc::new(ArcSwap::new(client));
        let stop = CancellationToken::new();
        let shown = url.to_string();
        let work = Loop {
            url,
            client: Arc::clone(&client),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
            story: story.clone(),
            batch,
            stop: stop.clone(),
        };
        Self { url: shown, queue, metrics, story, client, stop, task: tokio::spawn(work.run()) }
    }

    /// Lets `client` make the requests from now on.
    pub fn set_client(&self, client: Arc<Client>) {
        self.client.store(client);
    }

    pub fn push(&self, alerts: impl IntoIterator<Item = Arc<Alert>>) {
        let pushed = self.queue.push(alerts);
        self.metrics.replaced.add(pushed.n_replaced as u64);
        if !pushed.dropped.is_empty() {
            self.metrics.dropped.add(pushed.dropped.len() as u64);
            let dropped = chronicle::labels_of(&pushed.dropped);
            chronicle::posted(self.story.as_deref(), &self.url, dropped, Code::QueueOverflow, "");
            tracing::warn!(
                alertmanager = self.url,
                count = pushed.dropped.len(),
                "Alert notification queue full, dropping alerts"
            );
        }
    }

    /// Ends the loop after the request under way; with `drain` the queue is sent first.
    pub async fn stop(self, drain: bool) {
        if !drain {
            let count = self.queue.take(usize::MAX).len();
            self.metrics.dropped.add(count as u64);
            if count > 0 {
                tracing::warn!(
                    alertmanager = self.url,
                    count,
                    "Alert notification queue not drained on shutdown, dropping alerts"
                );
            }
        }
        self.stop.cancel();
        // A panic of the task has been logged where it happened.
        let _ = self.task.await;
    }
}

struct Loop {
    url: Url,
    client: Arc<ArcSwap<Client>>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    story: Option<Arc<Journal>>,
    batch: BatchSize,
    stop: CancellationToken,
}

impl Loop {
    async fn run(self) {
        loop {
            let batch = self.queue.take(self.batch.0);
            if !batch.is_empty() {
                self.send(batch).await;
                continue;
            }
            if self.stop.is_cancelled()
                || self.stop.run_until_cancelled(self.queue.arrived()).await.is_none()
                    && self.queue.is_empty()
            {
                return;
            }
        }
    }

    async fn send(&self, batch: Vec<Entry>) {
        let started = Instant::now();
        let n_alerts = batch.len() as u64;
        let labels = chronicle::labels_of(&batch);
        let outcome = self.post(&batch).await;
        let (code, error) = match &outcome {
            Ok(()) => (Code::Posted, ""),
            Err(failure) => (Code::PostFailed, failure.text.as_str()),
        };
        chronicle::posted(self.story.as_deref(), self.url.as_str(), labels, code, error);
        let Err(failure) = outcome else {
            let seconds = started.elapsed().as_secs_f64();
            self.metrics.latency.observe(seconds);
            self.metrics.latencies.observe(seconds);
            self.metrics.sent.add(n_alerts);
            return;
        };
        self.metrics.errors.add(n_alerts);
        let may_retry = !failure.is_final && !self.stop.is_cancelled();
        let (again, lost): (Vec<_>, Vec<_>) =
            batch.into_iter().map(Entry::failed).partition(|entry| may_retry && entry.n_failures < TRIES_MAX);
        let has_more = !again.is_empty();
        let overflowed = self.queue.put_back(again);
        let n_lost = lost.len() + overflowed.len();
        let overflowed = chronicle::labels_of(&overflowed);
        chronicle::posted(self.story.as_deref(), self.url.as_str(), overflowed, Code::QueueOverflow, "");
        self.metrics.dropped.add(n_lost as u64);
        tracing::error!(
            alertmanager = %self.url,
            count = n_alerts,
            dropped = n_lost,
            error = failure.text,
            "Error sending alerts"
        );
        if has_more {
            self.stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
        }
    }

    async fn post(&self, batch: &[Entry]) -> Result<(), Failure> {
        let alerts: Vec<&Alert> = batch.iter().map(|entry| &*entry.alert).collect();
        let fail = |e: serde_json::Error| Failure { text: e.to_string(), is_final: true };
        let body = serde_json::to_vec(&alerts).map_err(fail)?;
        let status = self.client.load_full().post(&self.url, body).await?;
        if status.is_success() {
            return Ok(());
        }
        let may_change = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let is_final = status.is_client_error() && !may_change;
        Err(Failure { text: format!("bad response status {status}"), is_final })
    }
}

/// Why a batch was not taken.
struct Failure {
    text: String,
    /// It would not be taken the second time.
    is_final: bool,
}
