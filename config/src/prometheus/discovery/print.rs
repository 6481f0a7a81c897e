//! Discovery sections as YAML, defaults filled in, secrets masked.
//!
//! Compat: prometheus `discovery/registry.go`, `MarshalYAMLWithInlineConfigs`.

use super::{Discovery, DnsRecordType};
use crate::prometheus::print::print_map;
use crate::target_group::TargetGroup;
use crate::yaml::Out;
use crate::yaml::emit::Fields;

/// One key per mechanism, with all of its sections.
pub(crate) fn print_discovery(fields: &mut Fields, discovery: &[Discovery]) {
    let (mut dns, mut files, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for entry in discovery {
        let mut inner = Fields::default();
        match entry {
            Discovery::Static(list) => groups.extend(list.iter().map(group)),
            Discovery::File(file) => {
                inner.put("files", file.files.iter().cloned().collect::<Out>());
                inner.some("refresh_interval", file.refresh_interval);
                files.push(inner.into_out());
            }
            Discovery::Dns(found) => {
                let kind = match found.record_type {
                    DnsRecordType::A => "A",
                    DnsRecordType::Aaaa => "AAAA",
                    DnsRecordType::Mx => "MX",
                    DnsRecordType::Ns => "NS",
                    DnsRecordType::Srv => "SRV",
                };
                inner.put("names", found.names.iter().cloned().collect::<Out>());
                inner.some("refresh_interval", found.refresh_interval).put("type", kind);
                inner.put("port", u64::from(found.port.unwrap_or(0)));
                dns.push(inner.into_out());
            }
            Discovery::Consul(_)
            | Discovery::Docker(_)
            | Discovery::DockerSwarm(_)
            | Discovery::Http(_)
            | Discovery::Kubernetes(_)
            | Discovery::Other(_) => {}
        }
    }
    fields.some("dns_sd_configs", Out::List(dns)).some("file_sd_configs", Out::List(files));
    fields.some("static_configs", Out::List(groups));
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
