//! Discovery sections as YAML, defaults filled in, secrets masked.
//!
//! Compat: prometheus `discovery/registry.go`, `MarshalYAMLWithInlineConfigs`.

use super::{Discovery, DnsDiscovery, DnsRecordType, FileDiscovery, consul, docker, http, kubernetes};
use crate::prometheus::print::print_map;
use crate::target_group::TargetGroup;
use crate::yaml::Out;
use crate::yaml::emit::Fields;

/// One key per mechanism, with all of its sections. `discovery` is in the order of the keys.
pub(crate) fn print_discovery(fields: &mut Fields, discovery: &[Discovery]) {
    let mut rest = discovery;
    while let Some(first) = rest.first() {
        let key = first.key();
        let (same, others) = rest.split_at(rest.iter().take_while(|other| other.key() == key).count());
        fields.some(&key, Out::List(same.iter().flat_map(sections).collect()));
        rest = others;
    }
}

fn sections(discovery: &Discovery) -> Vec<Out> {
    vec![match discovery {
        Discovery::Static(groups) => return groups.iter().map(group).collect(),
        Discovery::Consul(section) => consul::print(section),
        Discovery::Dns(section) => dns(section),
        Discovery::Docker(section) => docker::print(section),
        Discovery::DockerSwarm(section) => docker::print_swarm(section),
        Discovery::File(section) => file(section),
        Discovery::Http(section) => http::print(section),
        Discovery::Kubernetes(section) => kubernetes::print(section),
        Discovery::Other(section) => section.printed.clone(),
    }]
}

fn file(section: &FileDiscovery) -> Out {
    let mut fields = Fields::default();
    fields.put("files", section.files.iter().cloned().collect::<Out>());
    fields.some("refresh_interval", section.refresh_interval);
    fields.into_out()
}

fn dns(section: &DnsDiscovery) -> Out {
    let kind = match section.record_type {
        DnsRecordType::A => "A",
        DnsRecordType::Aaaa => "AAAA",
        DnsRecordType::Mx => "MX",
        DnsRecordType::Ns => "NS",
        DnsRecordType::Srv => "SRV",
    };
    let mut fields = Fields::default();
    fields.put("names", section.names.iter().cloned().collect::<Out>());
    fields.some("refresh_interval", section.refresh_interval).put("type", kind);
    fields.put("port", u64::from(section.port.unwrap_or(0)));
    fields.into_out()
}

fn group(group: &TargetGroup) -> Out {
    let mut fields = Fields::default();
    let address = |labels: &model::Labels| {
        String::from_utf8_lossy(labels.get(b"__address__").unwrap_or_default()).into_owned()
    };
    fields.put("targets", group.targets.iter().map(address).collect::<Out>());
    fields.some("labels", print_map(&group.labels.to_map()));
    fields.into_out()
}
