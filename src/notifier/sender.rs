//! The loop that empties one queue into one Alertmanager.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use model::wire::expose::{Counter, Histogram};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Alert;
use super::queue::Queue;
use crate::http_client;

/// The most alerts in one request.
#[derive(Clone, Copy, Debug)]
pub struct BatchSize(pub usize);

/// What happened to alerts, by count of alerts.
#[derive(Debug)]
pub struct Metrics {
    pub sent: Counter,
    pub errors: Counter,
    pub dropped: Counter,
    /// Seconds per request.
    pub latency: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        const BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        Self {
            sent: Counter::new(),
            errors: Counter::new(),
            dropped: Counter::new(),
            latency: Histogram::new(&BOUNDS),
        }
    }
}

/// A running loop.
pub struct Sender {
    pub url: String,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sender {
    /// Begins to post what arrives in a new queue of `capacity` to `url`.
    pub fn start(url: Url, client: Arc<http_client::Client>, capacity: usize, batch: BatchSize) -> Self {
        let queue = Arc::new(Queue::new(capacity));
        let metrics = Arc::new(Metrics::default());
        let stop = CancellationToken::new();
        let shown = url.to_string();
        let post = Post { url, client };
        let task = tokio::spawn(run(post, Arc::clone(&queue), Arc::clone(&metrics), batch, stop.clone()));
        Self { url: shown, queue, metrics, stop, task }
    }

    pub fn push(&self, alerts: Vec<Alert>) {
        let n_dropped = self.queue.push(alerts);
        if n_dropped > 0 {
            self.metrics.dropped.add(n_dropped as u64);
            tracing::warn!(
                alertmanager = self.url,
                n_dropped,
                "alert notification queue is full, dropping the oldest alerts"
            );
        }
    }

    /// Ends the loop after the request under way; with `drain` the queue is sent first.
    pub async fn stop(self, drain: bool) {
        if !drain {
            let left = self.queue.take(usize::MAX);
            self.metrics.dropped.add(left.len() as u64);
        }
        self.stop.cancel();
        // A panic of the task has been logged where it happened.
        let _ = self.task.await;
    }
}

async fn run(
    post: Post,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    batch: BatchSize,
    stop: CancellationToken,
) {
    loop {
        let alerts = queue.take(batch.0);
        if alerts.is_empty() {
            if stop.is_cancelled()
                || stop.run_until_cancelled(queue.arrived()).await.is_none() && queue.is_empty()
            {
                return;
            }
            continue;
        }
        let started = Instant::now();
        let outcome = post.send(&alerts).await;
        metrics.latency.observe(started.elapsed().as_secs_f64());
        let n_alerts = alerts.len() as u64;
        match outcome {
            Ok(()) => metrics.sent.add(n_alerts),
            Err(e) => {
                metrics.errors.add(n_alerts);
                metrics.dropped.add(n_alerts);
                tracing::error!(alertmanager = %post.url, n_alerts, error = %e, "sending alerts failed");
            }
        }
    }
}

/// One Alertmanager as a request sees it.
struct Post {
    url: Url,
    client: Arc<http_client::Client>,
}

impl Post {
    async fn send(&self, alerts: &[Alert]) -> anyhow::Result<()> {
        let body = serde_json::to_vec(alerts)?;
        let request = self.client.request(http::Method::POST, self.url.clone())?;
        let json = HeaderValue::from_static("application/json");
        let request = request.header(http::header::CONTENT_TYPE, json).body(body);
        let status = request.send().await?.status();
        anyhow::ensure!(status.is_success(), "bad response status {status}");
        Ok(())
    }
}
