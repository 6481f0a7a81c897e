//! Discovery sections in YAML: which keys there are, what each mechanism demands of its own.
//!
//! Compat: prometheus `discovery/registry.go` and the `UnmarshalYAML` of each mechanism.

use std::path::Path;
use std::time::Duration;

use model::Labels;
use model::quote::go_quote;

use super::table::{self, Mechanism};
use super::{
    Discovery, DnsDiscovery, DnsRecordType, FileDiscovery, aws, clouds, consul, docker, http, kubernetes,
    registries,
};
use crate::paths;
use crate::prometheus::decode::is_empty_list;
use crate::relabel::decode::label_name;
use crate::target_group::TargetGroup;
use crate::yaml::tree::Pos;
use crate::yaml::{Decoded, Decoder, Issue, Node};

static OTHERS: [&[Mechanism]; 3] = [&aws::MECHANISMS, &clouds::MECHANISMS, &registries::MECHANISMS];

/// The mechanisms that are read and printed but find nothing.
fn other_mechanism(key: &str) -> Option<&'static Mechanism> {
    let name = key.strip_suffix("_sd_configs")?;
    OTHERS.iter().copied().flatten().find(|mechanism| mechanism.name == name)
}

/// The names of the mechanisms whose sections are valid although nothing here runs them.
pub fn other_mechanisms() -> impl Iterator<Item = &'static str> {
    OTHERS.iter().copied().flatten().map(|mechanism| mechanism.name)
}

/// The discovery keys of a scrape job or an Alertmanager set.
#[derive(Debug, Default)]
pub(crate) struct SdFields {
    groups: Vec<(Pos, TargetGroup)>,
    has_static: bool,
    others: Vec<Discovery>,
    /// The first section without content, in the order of the keys.
    null: Option<(Pos, String)>,
}

impl SdFields {
    pub(crate) fn field(
        &mut self,
        decoder: &mut Decoder,
        base: &Path,
        key: &str,
        node: &Node,
    ) -> Result<bool, Issue> {
        match key {
            "static_configs" => {
                self.has_static = true;
                decoder.items(node, "[]*targetgroup.Group", &mut |decoder, item| {
                    if self.is_null(key, item) {
                        return Ok(());
                    }
                    let source = self.groups.len().to_string();
                    if let Some(group) = decode_static_group(decoder, item, source)? {
                        self.groups.push((item.pos, group));
                    }
                    Ok(())
                })?;
            }
            "consul_sd_configs" => self.sections(decoder, key, "consul.SDConfig", node, &mut |d, item| {
                let section = consul::decode(d, base, item)?;
                Ok(section.map(|section| Discovery::Consul(Box::new(section))))
            })?,
            "dns_sd_configs" => self.sections(decoder, key, "dns.SDConfig", node, &mut |d, item| {
                Ok(decode_dns_sd(d, item)?.map(Discovery::Dns))
            })?,
            "docker_sd_configs" => {
                self.sections(decoder, key, "moby.DockerSDConfig", node, &mut |d, item| {
                    let section = docker::decode(d, base, item)?;
                    Ok(section.map(|section| Discovery::Docker(Box::new(section))))
                })?;
            }
            "dockerswarm_sd_configs" => {
                self.sections(decoder, key, "moby.DockerSwarmSDConfig", node, &mut |d, item| {
                    let section = docker::decode_swarm(d, base, item)?;
                    Ok(section.map(|section| Discovery::DockerSwarm(Box::new(section))))
                })?;
            }
            "file_sd_configs" => self.sections(decoder, key, "file.SDConfig", node, &mut |d, item| {
                Ok(decode_file_sd(d, base, item)?.map(Discovery::File))
            })?,
            "http_sd_configs" => self.sections(decoder, key, "http.SDConfig", node, &mut |d, item| {
                let section = http::decode(d, base, item)?;
                Ok(section.map(|section| Discovery::Http(Box::new(section))))
            })?,
            "kubernetes_sd_configs" => {
                self.sections(decoder, key, "kubernetes.SDConfig", node, &mut |d, item| {
                    let section = kubernetes::decode(d, base, item)?;
                    Ok(section.map(|section| Discovery::Kubernetes(Box::new(section))))
                })?;
            }
            _ => {
                let Some(mechanism) = other_mechanism(key) else { return Ok(false) };
                self.sections(decoder, key, mechanism.go_type, node, &mut |d, item| {
                    Ok(table::decode(mechanism, d, base, item)?.map(Discovery::Other))
                })?;
                if !is_empty_list(node) {
                    let text = format!("{key} finds no targets: this kind of discovery is not supported yet");
                    decoder.warn(node.pos, &text);
                }
            }
        }
        Ok(true)
    }

    /// Reads all sections of one mechanism.
    fn sections(
        &mut self,
        decoder: &mut Decoder,
        key: &str,
        go_type: &str,
        node: &Node,
        section: &mut dyn FnMut(&mut Decoder, &Node) -> Decoded<Discovery>,
    ) -> Result<(), Issue> {
        decoder.items(node, &format!("[]*{go_type}"), &mut |decoder, item| {
            if !self.is_null(key, item) {
                self.others.extend(section(decoder, item)?);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Notes a section without content, which is refused once the whole job is known to be readable.
    fn is_null(&mut self, key: &str, item: &Node) -> bool {
        if item.is_null() && self.null.as_ref().is_none_or(|(_, other)| key < other.as_str()) {
            self.null = Some((item.pos, key.to_owned()));
        }
        item.is_null()
    }

    /// Without relabelling, which could mend them, static targets must be plain addresses.
    pub(crate) fn finish(self, has_no_relabel: bool) -> Result<Vec<Discovery>, Issue> {
        if let Some((pos, key)) = self.null {
            return Err(Issue::new(pos, format!("empty or null section in {key}")));
        }
        if has_no_relabel {
            for (pos, group) in &self.groups {
                let address = |labels: &Labels| labels.get(b"__address__").unwrap_or_default().to_vec();
                if let Some(bad) = group.targets.iter().map(address).find(|a| a.contains(&b'/')) {
                    return Err(Issue::new(*pos, format!("{} is not a valid hostname", go_quote(&bad))));
                }
            }
        }
        // In the order in which they are printed: by key.
        let mut all = self.others;
        if self.has_static {
            all.push(Discovery::Static(self.groups.into_iter().map(|(_, group)| group).collect()));
        }
        all.sort_by_key(Discovery::key);
        Ok(all)
    }
}

/// `{targets, labels}` of `static_configs` and of discovery files in YAML.
pub(crate) fn decode_static_group(
    decoder: &mut Decoder,
    node: &Node,
    source: String,
) -> Result<Option<TargetGroup>, Issue> {
    const GO_TYPE: &str =
        r#"struct { Targets []string "yaml:\"targets\""; Labels model.LabelSet "yaml:\"labels\"" }"#;
    let mut targets: Vec<String> = Vec::new();
    let mut labels = Vec::new();
    let ok = decoder.fields(node, GO_TYPE, &mut |decoder, key, value| {
        match key {
            "targets" => decoder.set(value, &mut targets)?,
            "labels" => {
                let pairs = decoder.pairs(value, "model.LabelSet", &mut |decoder, key, value| {
                    let Some(name) = label_name(decoder, key)? else { return Ok(None) };
                    Ok(decoder.bytes(value)?.map(|value| (name, value)))
                })?;
                labels = pairs.unwrap_or_default();
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(ok.then(|| TargetGroup {
        source,
        targets: targets.iter().map(|address| Labels::from_pairs([("__address__", address)])).collect(),
        labels: Labels::from_pairs(labels),
    }))
}

fn decode_file_sd(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<FileDiscovery>, Issue> {
    let mut files: Vec<String> = Vec::new();
    let mut refresh_interval = Duration::from_mins(5);
    let ok = decoder.fields(node, "file.plain", &mut |decoder, key, value| {
        match key {
            "files" => decoder.set(value, &mut files)?,
            "refresh_interval" => decoder.set(value, &mut refresh_interval)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    if files.is_empty() {
        let text = "file service discovery config must contain at least one path name";
        return Err(Issue::new(node.pos, text));
    }
    if let Some(bad) = files.iter().find(|path| !is_sd_path(path)) {
        let text = format!("path name {} is not valid for file discovery", go_quote(bad.as_bytes()));
        return Err(Issue::new(node.pos, text));
    }
    let files = files.iter().map(|path| paths::join(base, path)).collect();
    Ok(Some(FileDiscovery { files, refresh_interval }))
}

/// `^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`
fn is_sd_path(path: &str) -> bool {
    const ENDINGS: [&str; 6] = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"];
    ENDINGS.iter().any(|ending| path.ends_with(ending)) && paths::is_rule_path(path)
}

fn decode_dns_sd(decoder: &mut Decoder, node: &Node) -> Result<Option<DnsDiscovery>, Issue> {
    let mut names: Vec<String> = Vec::new();
    let mut kind = "SRV".to_owned();
    let mut port = 0_i64;
    let mut refresh_interval = Duration::from_secs(30);
    let ok = decoder.fields(node, "dns.plain", &mut |decoder, key, value| {
        match key {
            "names" => decoder.set(value, &mut names)?,
            "type" => decoder.set(value, &mut kind)?,
            "port" => decoder.set(value, &mut port)?,
            "refresh_interval" => decoder.set(value, &mut refresh_interval)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let fail = |text: String| Err(Issue::new(node.pos, text));
    if names.is_empty() {
        return fail("DNS-SD config must contain at least one SRV record name".to_owned());
    }
    let record_type = match kind.to_ascii_uppercase().as_str() {
        "SRV" => DnsRecordType::Srv,
        "A" => DnsRecordType::A,
        "AAAA" => DnsRecordType::Aaaa,
        "MX" => DnsRecordType::Mx,
        "NS" => DnsRecordType::Ns,
        _ => return fail(format!("invalid DNS-SD records type {kind}")),
    };
    if record_type != DnsRecordType::Srv && port == 0 {
        return fail("a port is required in DNS-SD configs for all record types except SRV".to_owned());
    }
    let Ok(port) = u16::try_from(port) else {
        return fail(format!("port {port} in DNS-SD config is outside of 0 to 65535"));
    };
    Ok(Some(DnsDiscovery { names, record_type, port: (port > 0).then_some(port), refresh_interval }))
}
