//! What is counted of the connections that a job opens.
//!
//! Compat: mwitkow/go-conntrack, names, labels and help texts; a refused connection counts as refused only, where the
//! original counts it as unknown, too. Requests of discovery and of the notifier go through pools that do not tell when
//! a connection ends, so they have no such counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::wire::expose::{Counter, Exposition, Kind};
use parking_lot::Mutex;

/// The counts of all jobs since the start, by name; they stay when a job goes.
#[derive(Debug, Default)]
pub(super) struct Dialers(Mutex<BTreeMap<String, Arc<Dials>>>);

/// The counts of one job.
#[derive(Debug, Default)]
pub(super) struct Dials {
    attempted: Counter,
    established: Counter,
    closed: Counter,
    /// As [`Reason`].
    failed: [Counter; 4],
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Refused,
    Resolution,
    Timeout,
    Unknown,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Refused, Self::Resolution, Self::Timeout, Self::Unknown];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Resolution => "resolution",
            Self::Timeout => "timeout",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Self::Refused,
            std::io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Unknown,
        }
    }
}

/// An attempt under way; one that is given up has run out of time.
pub(super) struct Attempt(Option<Arc<Dials>>);

/// A connection; counted as closed when it is dropped.
pub(super) struct Dialed(Arc<Dials>);

impl Dialers {
    /// The counts of `job`, there from now on.
    pub(super) fn of(&self, job: &str) -> Arc<Dials> {
        Arc::clone(self.0.lock().entry(job.to_owned()).or_default())
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        type Pick = fn(&Dials) -> &Counter;
        let dialers = self.0.lock();
        let counts: [(&str, &str, Pick); 3] = [
            (
                "net_conntrack_dialer_conn_attempted_total",
                "Total number of connections attempted by the given dialer a given name.",
                |dials| &dials.attempted,
            ),
            (
                "net_conntrack_dialer_conn_established_total",
                "Total number of connections successfully established by the given dialer a given name.",
                |dials| &dials.established,
            ),
            (
                "net_conntrack_dialer_conn_closed_total",
                "Total number of connections closed which originated from the dialer of a given name.",
                |dials| &dials.closed,
            ),
        ];
        for (name, help, pick) in counts {
            out.family(name, help, Kind::Counter);
            for (job, dials) in &*dialers {
                out.sample(name, &[("dialer_name", job)], pick(dials).get() as f64);
            }
        }
        let name = "net_conntrack_dialer_conn_failed_total";
        let help = "Total number of connections failed to dial by the dialer a given name.";
        out.family(name, help, Kind::Counter);
        for (job, dials) in &*dialers {
            for reason in Reason::ALL {
                let labels = [("dialer_name", job.as_str()), ("reason", reason.as_str())];
                out.sample(name, &labels, dials.failed[reason as usize].get() as f64);
            }
        }
    }
}

impl Dials {
    pub(super) fn attempt(self: &Arc<Self>) -> Attempt {
        self.attempted.inc();
        Attempt(Some(Arc::clone(self)))
    }
}

impl Attempt {
    pub(super) fn succeeded(mut self) -> Dialed {
        let dials = self.0.take().expect("only an attempt's end takes it");
        dials.established.inc();
        Dialed(dials)
    }

    pub(super) fn failed(mut self, reason: Reason) {
        if let Some(dials) = self.0.take() {
            dials.failed[reason as usize].inc();
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(dials) = self.0.take() {
            dials.failed[Reason::Timeout as usize].inc();
        }
    }
}

impl Drop for Dialed {
    fn drop(&mut self) {
        self.0.closed.inc();
    }
}

#[cfg(test)]
mod tests {
    use model::wire::expose::Exposition;

    use super::{Dialers, Reason};

    #[test]
    fn each_attempt_ends_in_one_way() {
        let dialers = Dialers::default();
        let dials = dialers.of("a");
        let first = dials.attempt().succeeded();
        let _second = dials.attempt().succeeded();
        drop(first);
        dials.attempt().failed(Reason::Refused);
        drop(dials.attempt());
        let mut out = Exposition::default();
        dialers.expose(&mut out);
        let text = String::from_utf8(out.into_body()).unwrap();
        for line in [
            "net_conntrack_dialer_conn_attempted_total{dialer_name=\"a\"} 4",
            "net_conntrack_dialer_conn_established_total{dialer_name=\"a\"} 2",
            "net_conntrack_dialer_conn_closed_total{dialer_name=\"a\"} 1",
            "net_conntrack_dialer_conn_failed_total{dialer_name=\"a\",reason=\"refused\"} 1",
            "net_conntrack_dialer_conn_failed_total{dialer_name=\"a\",reason=\"resolution\"} 0",
            "net_conntrack_dialer_conn_failed_total{dialer_name=\"a\",reason=\"timeout\"} 1",
            "net_conntrack_dialer_conn_failed_total{dialer_name=\"a\",reason=\"unknown\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
