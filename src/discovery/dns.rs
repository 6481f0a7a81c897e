//! Discovery by DNS: one group per name, one target per record.
//!
//! Uses the servers and search list of `/etc/resolv.conf`, which is read once when the provider starts.
//! Nothing is cached: the refresh interval is the user's word on how old an answer may be.
//!
//! Compat: prometheus `discovery/dns`.

use std::net::IpAddr;
use std::sync::Arc;

use config::TargetGroup;
use config::prometheus::{DnsDiscovery, DnsRecordType};
use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::proto::rr::{RData, RecordType};
use model::Labels;

use super::{Error, Metrics, Update};

pub(super) struct Source {
    section: DnsDiscovery,
    resolver: TokioResolver,
    metrics: Arc<Metrics>,
}

/// One answer, names with their final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Srv { target: String, port: u16 },
    Mx { target: String },
    Ns { target: String },
}

impl Source {
    pub(super) fn new(section: DnsDiscovery, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let mut builder = TokioResolver::builder_tokio()
            .map_err(|error| Error(format!("could not load the resolver's configuration: {error}")))?;
        let options = builder.options_mut();
        options.cache_size = 0;
        options.edns0 = true;
        // A record type is asked of DNS, never of /etc/hosts.
        options.use_hosts_file = ResolveHosts::Never;
        let resolver =
            builder.build().map_err(|error| Error(format!("could not make a resolver: {error}")))?;
        Ok(Self { section, resolver, metrics })
    }

    async fn lookup(&self, name: &str) -> Result<Vec<Record>, Error> {
        let record_type = match self.section.record_type {
            DnsRecordType::A => RecordType::A,
            DnsRecordType::Aaaa => RecordType::AAAA,
            DnsRecordType::Mx => RecordType::MX,
            DnsRecordType::Ns => RecordType::NS,
            DnsRecordType::Srv => RecordType::SRV,
        };
        self.metrics.dns_lookups.inc();
        let answer = match self.resolver.lookup(name, record_type).await {
            Ok(answer) => answer,
            // A name that does not exist has no targets, which is an answer.
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => {
                self.metrics.dns_lookup_failures.inc();
                return Err(Error(format!("could not resolve {name:?}: {error}")));
            }
        };
        Ok(answer.answers().iter().filter_map(|record| convert(&record.data)).collect())
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
pub(super) fn group(name: &str, port: u16, records: &[Record]) -> TargetGroup {
    let target = |record: &Record| {
        let (host, port, meta) = match record {
            Record::Address(ip) => (ip.to_string(), port, vec![]),
            Record::Srv { target, port } => {
                let number = port.to_string();
                let meta = vec![
                    ("__meta_dns_srv_record_target", target.clone()),
                    ("__meta_dns_srv_record_port", number),
                ];
                (target.clone(), *port, meta)
            }
            Record::Mx { target } => {
                (target.clone(), port, vec![("__meta_dns_mx_record_target", target.clone())])
            }
            Record::Ns { target } => {
                (target.clone(), port, vec![("__meta_dns_ns_record_target", target.clone())])
            }
        };
        let host = host.trim_end_matches('.');
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let fixed = [("__address__", address), ("__meta_dns_name", name.to_owned())];
        Labels::from_pairs(fixed.into_iter().chain(meta))
    };
    TargetGroup {
        source: name.to_owned(),
        targets: records.iter().map(target).collect(),
        labels: Labels::empty(),
    }
}

impl super::refresh::Source for Source {
    const MECHANISM: &'static str = "dns";

    async fn refresh(&self) -> (Update, Vec<Error>) {
        let names = &self.section.names;
        let answers = join_all(names.iter().map(|name| self.lookup(name))).await;
        let (mut groups, mut errors) = (Vec::new(), Vec::new());
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(records) => {
                    groups.push(Arc::new(group(name, self.section.port.unwrap_or_default(), &records)));
                }
                Err(error) => errors.push(error),
            }
        }
        (groups, errors)
    }
}
