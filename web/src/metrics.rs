//! What is counted of requests, by the route's pattern.
//!
//! Sizes are those of bodies before they are compressed, which is what a handler produced.
//!
//! Compat: prometheus `web/web.go`, `newMetrics` and `instrumentHandler`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::response::Response;
use model::wire::expose::{Expose, Exposition, Histogram, Kind};
use parking_lot::Mutex;

const SECONDS: &[f64] = &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
const BYTES: &[f64] = &[1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The counts of all routes.
#[derive(Debug, Default)]
pub struct Metrics {
    handlers: Mutex<BTreeMap<String, Arc<Handler>>>,
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
}

impl Handler {
    pub(crate) fn count(&self, response: &Response, took: Duration) {
        *self.requests.lock().entry(response.status().as_u16()).or_default() += 1;
        self.seconds.observe(took.as_secs_f64());
        self.bytes.observe(response.body().size_hint().lower() as f64);
    }
}

impl Expose for Metrics {
    fn expose(&self, out: &mut Exposition) {
        const DURATION: &str = "prometheus_http_request_duration_seconds";
        const REQUESTS: &str = "prometheus_http_requests_total";
        const SIZE: &str = "prometheus_http_response_size_bytes";
        let handlers = self.handlers.lock();
        out.family(DURATION, "Histogram of latencies for HTTP requests.", Kind::Histogram);
        for (pattern, handler) in &*handlers {
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
        for (pattern, handler) in &*handlers {
            out.histogram(SIZE, &[("handler", pattern)], &handler.bytes);
        }
    }
}
