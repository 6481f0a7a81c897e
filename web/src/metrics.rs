//! What is counted of requests, by the route's pattern.
//!
//! A request counts once its answer is handed over to the connection, to its last byte where it is long; sizes are those
//! of bodies as they are sent. Whoever goes away before there is an answer is counted with the code 499.
//!
//! Compat: prometheus `web/web.go`, `newMetrics` and `instrumentHandler`; `client_golang`, `promhttp.InstrumentMetricHandler`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use model::wire::expose::{Counter, Expose, Exposition, Histogram, Kind};
use parking_lot::Mutex;

use crate::server;

const SECONDS: &[f64] = &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
const BYTES: &[f64] = &[1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The counts of all routes.
#[derive(Debug, Default)]
pub struct Metrics {
    connections: Arc<server::Counts>,
    handlers: Mutex<BTreeMap<String, Arc<Handler>>>,
    scrapes: Counter,
    scrapes_in_flight: AtomicU64,
}

/// Counts one answer to a scrape for as long as it lives.
pub(crate) struct Scrape<'a>(&'a Metrics);

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        self.0.scrapes_in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.scrapes.inc();
    }
}

/// The counts of one route.
#[derive(Debug)]
pub(crate) struct Handler {
    /// By status code.
    requests: Mutex<BTreeMap<u16, u64>>,
    seconds: Histogram,
    bytes: Histogram,
}

impl Metrics {
    /// `connections` are counted where they come in.
    pub fn new(connections: Arc<server::Counts>) -> Self {
        Self { connections, ..Self::default() }
    }

    /// The counts of `pattern`, there from now on.
    pub(crate) fn handler(&self, pattern: &str) -> Arc<Handler> {
        let mut handlers = self.handlers.lock();
        let handler = handlers.entry(pattern.to_owned()).or_insert_with(|| {
            Arc::new(Handler {
                requests: Mutex::new(BTreeMap::from([(200, 0)])),
                seconds: Histogram::new(SECONDS),
                bytes: Histogram::new(BYTES),
            })
        });
        Arc::clone(handler)
    }

    pub(crate) fn begin_scrape(&self) -> Scrape<'_> {
        self.scrapes_in_flight.fetch_add(1, Ordering::Relaxed);
        Scrape(self)
    }
}

/// What a request is counted with that was given up by its client.
const GIVEN_UP: u16 = 499;

impl Handler {
    /// Until then its histograms are not shown, as there are many handlers.
    fn was_asked(&self) -> bool {
        self.requests.lock().values().any(|&n| n > 0)
    }

    /// A request begins.
    pub(crate) fn visit(self: &Arc<Self>) -> Visit {
        Visit { handler: Arc::clone(self), began: Instant::now(), status: GIVEN_UP, bytes: 0 }
    }
}

/// A request that is being answered; counted when it is dropped.
pub(crate) struct Visit {
    handler: Arc<Handler>,
    began: Instant,
    status: u16,
    bytes: u64,
}

impl Visit {
    /// The same answer, counted now if its length is known and else when it has been sent.
    pub(crate) fn answered(mut self, response: Response) -> Response {
        self.status = response.status().as_u16();
        if let Some(bytes) = response.body().size_hint().exact() {
            self.bytes = bytes;
            return response;
        }
        response.map(|body| Body::new(Counted { body, visit: self }))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        *self.handler.requests.lock().entry(self.status).or_default() += 1;
        self.handler.seconds.observe(self.began.elapsed().as_secs_f64());
        self.handler.bytes.observe(self.bytes as f64);
    }
}

/// A body whose bytes are counted.
struct Counted {
    body: Body,
    visit: Visit,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.visit.bytes += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Expose for Metrics {
    fn expose(&self, out: &mut Exposition) {
        const SCRAPES: &str = "promhttp_metric_handler_requests_total";
        const DURATION: &str = "prometheus_http_request_duration_seconds";
        const REQUESTS: &str = "prometheus_http_requests_total";
        const SIZE: &str = "prometheus_http_response_size_bytes";
        self.connections.expose(out);
        let handlers = self.handlers.lock();
        out.family(DURATION, "Histogram of latencies for HTTP requests.", Kind::Histogram);
        for (pattern, handler) in handlers.iter().filter(|(_, handler)| handler.was_asked()) {
            out.histogram(DURATION, &[("handler", pattern)], &handler.seconds);
        }
        out.family(REQUESTS, "Counter of HTTP requests.", Kind::Counter);
        for (pattern, handler) in &*handlers {
            for (code, &n) in &*handler.requests.lock() {
                let code = code.to_string();
                out.sample(REQUESTS, &[("code", &code), ("handler", pattern)], n as f64);
            }
        }
        out.family(SIZE, "Histogram of response size for HTTP requests.", Kind::Histogram);
        for (pattern, handler) in handlers.iter().filter(|(_, handler)| handler.was_asked()) {
            out.histogram(SIZE, &[("handler", pattern)], &handler.bytes);
        }
        // A scrape cannot fail here, so the other codes stay at zero.
        out.family(SCRAPES, "Total number of scrapes by HTTP status code.", Kind::Counter);
        for (code, n) in [("200", self.scrapes.get()), ("500", 0), ("503", 0)] {
            out.sample(SCRAPES, &[("code", code)], n as f64);
        }
        out.gauge(
            "promhttp_metric_handler_requests_in_flight",
            "Current number of scrapes being served.",
            self.scrapes_in_flight.load(Ordering::Relaxed) as f64,
        );
    }
}
