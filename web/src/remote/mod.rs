//! What other servers and programs send and fetch: remote write, remote read and OTLP over HTTP.
//!
//! Headers, status codes, bodies and their encoding are here; what bodies mean is for those who take them, behind
//! [`crate::view::remote`]. A body is bounded, all bodies together are, and so is the number of requests that are
//! worked on at a time.
//!
//! Compat: prometheus `web/api/v1`, `remoteWrite` and `remoteRead`; `storage/remote/read_handler.go`; `client_golang`
//! `exp/api/remote`, `NewWriteHandler`.

mod body;
pub mod otlp;
pub(crate) mod pieces;
pub(crate) mod read;
pub(crate) mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::wire::expose::{Expose, Exposition};
use model::wire::remote_write::Message;
use tokio::sync::Semaphore;

use crate::view::remote::{ExternalLabels, ReadServer, WriteReceiver};

/// As many requests of writers are worked on at a time; more wait.
const WRITES_MAX: usize = 8;

/// Without a limit of the user's, as many reads run at a time as threads can be spared for.
const READS_MAX: usize = 16;

const FEDERATIONS_MAX: usize = 8;

/// Everything that serves other servers.
pub struct Remote {
    /// Nobody, if remote write is not enabled.
    pub receiver: Option<Arc<dyn WriteReceiver>>,
    /// The messages that are taken.
    pub accepted: Vec<Message>,
    pub reader: Arc<dyn ReadServer>,
    pub external_labels: Arc<dyn ExternalLabels>,
    /// What federation counts.
    pub federation: crate::federate::Metrics,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    bodies: body::Budget,
    n_reads: Arc<AtomicUsize>,
    /// As many federations run at a time; more wait.
    pub(crate) federations: Arc<Semaphore>,
}

impl Remote {
    /// `reads_max` is the most remote reads at a time, 0 for no limit of the user's.
    pub fn new(
        receiver: Option<Arc<dyn WriteReceiver>>,
        accepted: Vec<Message>,
        reader: Arc<dyn ReadServer>,
        external_labels: Arc<dyn ExternalLabels>,
        reads_max: usize,
    ) -> Self {
        let reads = if reads_max == 0 { READS_MAX } else { reads_max.min(READS_MAX) };
        Self {
            receiver,
            accepted,
            reader,
            external_labels,
            federation: crate::federate::Metrics::default(),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            reads: Arc::new(Semaphore::new(reads)),
            bodies: body::Budget::default(),
            n_reads: Arc::default(),
            federations: Arc::new(Semaphore::new(FEDERATIONS_MAX)),
        }
    }
}

impl Expose for Remote {
    fn expose(&self, out: &mut Exposition) {
        if let Some(receiver) = &self.receiver {
            receiver.expose(out);
        }
        out.gauge(
            "prometheus_remote_read_handler_queries",
            "The current number of remote read queries that are either in execution or queued on the handler.",
            self.n_reads.load(Ordering::Relaxed) as f64,
        );
        self.federation.expose(out);
    }
}

/// A request that is counted until it is over, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
