//! Discovery by DNS: one group per name, one target per record.
//!
//! Uses the servers and the search list of `/etc/resolv.conf`, which is looked at before every refresh, so
//! that a change of it needs no reload. Nothing is cached: the refresh interval is the user's word on how old
//! an answer may be. The search list is walked here, not by the resolver: a name that exists without records
//! of the type ends the walk, and a server's failure for one candidate must not read as "no such name".
//!
//! Compat: prometheus `discovery/dns`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::{DnsDiscovery, DnsRecordType};
use futures_util::{StreamExt, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use model::Labels;
use parking_lot::Mutex;

use super::refresh::Answer;
use super::{Error, Metrics, label, refresh};

/// Names that are asked for at once.
const LOOKUPS_MAX: usize = 256;

const PORT: u16 = 53;

pub(super) struct Source {
    section: DnsDiscovery,
    resolv_conf: PathBuf,
    port: u16,
    resolver: Mutex<Option<Arc<Resolver>>>,
    metrics: Arc<Metrics>,
}

/// One state of `resolv.conf`.
struct Resolver {
    text: Vec<u8>,
    search: Vec<String>,
    ndots: usize,
    inner: TokioResolver,
}

/// One answer, names with their final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Record {
    Address(IpAddr),
    Srv { target: String, port: u16 },
    Mx { target: String },
    Ns { target: String },
}

impl Source {
    pub(super) fn new(section: DnsDiscovery, metrics: Arc<Metrics>) -> Self {
        Self::with(section, metrics, "/etc/resolv.conf".into(), PORT)
    }

    fn with(section: DnsDiscovery, metrics: Arc<Metrics>, resolv_conf: PathBuf, port: u16) -> Self {
        Self { section, resolv_conf, port, resolver: Mutex::default(), metrics }
    }

    fn resolver(&self) -> Result<Arc<Resolver>, Error> {
        let bad = |error: &dyn std::fmt::Display| {
            Error(format!("could not load {}: {error}", self.resolv_conf.display()))
        };
        let text = std::fs::read(&self.resolv_conf).map_err(|error| bad(&error))?;
        let mut known = self.resolver.lock();
        if let Some(known) = &*known
            && known.text == text
        {
            return Ok(Arc::clone(known));
        }
        let resolver = Arc::new(Resolver::new(text, self.port).map_err(|error| bad(&error))?);
        *known = Some(Arc::clone(&resolver));
        Ok(resolver)
    }

    async fn lookup(&self, resolver: &Resolver, name: &str) -> Result<Vec<Record>, Error> {
        let record_type = match self.section.record_type {
            DnsRecordType::A => RecordType::A,
            DnsRecordType::Aaaa => RecordType::AAAA,
            DnsRecordType::Mx => RecordType::MX,
            DnsRecordType::Ns => RecordType::NS,
            DnsRecordType::Srv => RecordType::SRV,
        };
        self.metrics.dns_lookups.inc();
        let answer = resolver.lookup(name, record_type).await;
        answer.inspect_err(|_| self.metrics.dns_lookup_failures.inc())
    }
}

impl Resolver {
    fn new(text: Vec<u8>, port: u16) -> Result<Self, NetError> {
        let (config, mut options) = parse_resolv_conf(&text)?;
        let (_, search, mut servers) = config.into_parts();
        for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = port;
        }
        options.cache_size = 0;
        options.edns0 = true;
        // A record type is asked of DNS, never of /etc/hosts.
        options.use_hosts_file = ResolveHosts::Never;
        let ndots = options.ndots;
        // The names it gets are complete.
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let inner = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        let search = search.iter().map(|name| name.to_utf8().trim_matches('.').to_owned());
        Ok(Self { text, search: search.filter(|name| !name.is_empty()).collect(), ndots, inner })
    }

    /// What to ask for, best first.
    ///
    /// Compat: miekg/dns `ClientConfig.NameList`.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut all: Vec<_> = self.search.iter().map(|domain| format!("{name}.{domain}.")).collect();
        let n_dots = name.matches('.').count();
        all.insert(if n_dots >= self.ndots { 0 } else { all.len() }, format!("{name}."));
        all
    }

    /// The records of the first candidate that exists; none if all servers agree that no candidate does.
    ///
    /// Compat: prometheus `discovery/dns`, `lookupWithSearchPath`.
    async fn lookup(&self, name: &str, record_type: RecordType) -> Result<Vec<Record>, Error> {
        let mut failure = None;
        for candidate in self.candidates(name) {
            let full = match Name::from_utf8(&candidate) {
                Ok(full) => full,
                Err(error) => {
                    failure = Some(error.to_string());
                    continue;
                }
            };
            match self.inner.lookup(full, record_type).await {
                Ok(answer) => return Ok(answer.answers().iter().filter_map(|r| convert(&r.data)).collect()),
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                    ResponseCode::NXDomain => {}
                    ResponseCode::NoError => return Ok(Vec::new()),
                    code => failure = Some(format!("{candidate} {code}")),
                },
                Err(error) => failure = Some(format!("{candidate} {error}")),
            }
        }
        failure.map_or(Ok(Vec::new()), |failure| {
            Err(Error(format!(
                "could not resolve {name:?}: all servers responded with errors to at least one search domain: {failure}"
            )))
        })
    }
}

/// `None` for what stands beside the answer, as a CNAME does.
fn convert(data: &RData) -> Option<Record> {
    Some(match data {
        RData::A(a) => Record::Address(IpAddr::V4(a.0)),
        RData::AAAA(a) => Record::Address(IpAddr::V6(a.0)),
        RData::SRV(srv) => Record::Srv { target: srv.target.to_ascii(), port: srv.port },
        RData::MX(mx) => Record::Mx { target: mx.exchange.to_ascii() },
        RData::NS(ns) => Record::Ns { target: ns.0.to_ascii() },
        _ => return None,
    })
}

/// The group of one name. `port` stands in where the record carries none.
fn group(name: &str, port: u16, records: &[Record]) -> TargetGroup {
    let target = |record: &Record| {
        let mut labels = label::Builder::default();
        let (host, port) = match record {
            Record::Address(ip) => (ip.to_string(), port),
            Record::Srv { target, port } => {
                labels.set("__meta_dns_srv_record_target", target);
                labels.set("__meta_dns_srv_record_port", port.to_string());
                (target.clone(), *port)
            }
            Record::Mx { target } => {
                labels.set("__meta_dns_mx_record_target", target);
                (target.clone(), port)
            }
            Record::Ns { target } => {
                labels.set("__meta_dns_ns_record_target", target);
                (target.clone(), port)
            }
        };
        labels.set("__meta_dns_name", name);
        labels.set("__address__", label::address(host.trim_end_matches('.'), port));
        labels.build()
    };
    TargetGroup {
        source: name.to_owned(),
        targets: records.iter().map(target).collect(),
        labels: Labels::empty(),
    }
}

impl refresh::Source for Source {
    /// Names fail one by one: a failing one keeps its records and leaves the others alone.
    async fn refresh(&self) -> Result<Answer, Error> {
        let resolver = self.resolver()?;
        let mut answer = Answer::default();
        let lookups = self.section.names.iter().map(|name| {
            let resolver = &resolver;
            async move { (name, self.lookup(resolver, name).await) }
        });
        // Collected first: a stream of futures that borrow cannot be proven to be sendable.
        let lookups: Vec<_> = lookups.collect();
        let mut found = stream::iter(lookups).buffered(LOOKUPS_MAX);
        while let Some((name, records)) = found.next().await {
            match records {
                Ok(records) => {
                    let group = group(name, self.section.port.unwrap_or_default(), &records);
                    answer.groups.push(Arc::new(group));
                }
                Err(error) => drop(answer.failed.insert(name.clone(), error)),
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
