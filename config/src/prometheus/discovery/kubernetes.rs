//! `kubernetes_sd_configs`: what excludes what, and which selectors a role can have.
//!
//! Compat: prometheus `discovery/kubernetes`, `SDConfig`.

use std::path::Path;

use model::quote::go_quote;

use super::{
    AttachMetadata, KubernetesDiscovery, KubernetesNamespaces, KubernetesRole, KubernetesSelector, selectors,
};
use crate::http_client::HttpClient;
use crate::http_client::decode::HttpFields;
use crate::http_client::print as http;
use crate::paths;
use crate::uri::Uri;
use crate::yaml::emit::Fields;
use crate::yaml::{Decode, Decoded, Decoder, Issue, Node, Out};

/// The selectors that a role accepts.
const fn selectors_of(role: KubernetesRole) -> &'static [KubernetesRole] {
    use KubernetesRole::{EndpointSlice, Endpoints, Ingress, Node, Pod, Service};
    match role {
        Pod => &[Pod, Node],
        Service => &[Service],
        EndpointSlice => &[Pod, Service, EndpointSlice],
        Endpoints => &[Pod, Service, Endpoints],
        Node => &[Node],
        Ingress => &[Ingress],
    }
}

#[derive(Default)]
struct Raw {
    api_server: Option<String>,
    role: Option<KubernetesRole>,
    kubeconfig_file: String,
    namespaces: KubernetesNamespaces,
    selectors: Vec<RawSelector>,
    attach_metadata: Option<AttachMetadata>,
}

#[derive(Default)]
struct RawSelector {
    role: Option<KubernetesRole>,
    label: String,
    field: String,
}

pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<KubernetesDiscovery> {
    let mut http = HttpFields::default();
    let mut raw = Raw::default();
    let ok = decoder.fields(node, "kubernetes.plain", &mut |decoder, key, value| {
        match key {
            "api_server" if value.is_null() => raw.api_server = None,
            "api_server" => {
                if let Some(text) = String::decode(decoder, value)? {
                    Uri::parse(&text).map_err(|text| Issue::new(value.pos, text))?;
                    raw.api_server = Some(text);
                }
            }
            "role" => decode_role(decoder, value, &mut raw.role)?,
            "kubeconfig_file" => decoder.set(value, &mut raw.kubeconfig_file)?,
            "namespaces" => decode_namespaces(decoder, value, &mut raw.namespaces)?,
            "selectors" => decode_selectors(decoder, value, &mut raw.selectors)?,
            "attach_metadata" => decode_attach(decoder, value, &mut raw.attach_metadata)?,
            _ => return http.field(decoder, base, key, value),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    let fail = |text: &str| Issue::new(node.pos, text);
    let Some(role) = raw.role else {
        return Err(fail("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)"));
    };
    let http = http.finish(base, node.pos)?;
    raw.check_exclusions(&http).map_err(fail)?;
    let selectors = check_selectors(role, raw.selectors).map_err(|text| fail(&text))?;
    Ok(Some(KubernetesDiscovery {
        api_server: raw.api_server,
        role,
        kubeconfig_file: paths::join_path(base, &raw.kubeconfig_file),
        http,
        namespaces: raw.namespaces,
        selectors,
        attach_metadata: raw.attach_metadata,
    }))
}

impl Raw {
    fn check_exclusions(&self, http: &HttpClient) -> Result<(), &'static str> {
        let has_kubeconfig = !self.kubeconfig_file.is_empty();
        let is_custom = *http != HttpClient::default();
        let has_own_namespace = self.namespaces.own_namespace;
        if self.api_server.is_some() && has_kubeconfig {
            return Err("cannot use 'kubeconfig_file' and 'api_server' simultaneously");
        }
        if has_kubeconfig && is_custom {
            return Err("cannot use a custom HTTP client configuration together with 'kubeconfig_file'");
        }
        if self.api_server.is_none() && is_custom {
            return Err(
                "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
            );
        }
        if self.api_server.is_some() && has_own_namespace {
            return Err("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
        }
        if has_kubeconfig && has_own_namespace {
            return Err("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously");
        }
        Ok(())
    }
}

fn check_selectors(role: KubernetesRole, raw: Vec<RawSelector>) -> Result<Vec<KubernetesSelector>, String> {
    let allowed = selectors_of(role);
    let mut checked: Vec<KubernetesSelector> = Vec::new();
    for selector in raw {
        if let Some(role) = selector.role
            && checked.iter().any(|other| other.role == role)
        {
            return Err(format!("duplicated selector role: {}", role.as_str()));
        }
        let Some(role) = selector.role.filter(|role| allowed.contains(role)) else {
            let allowed: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
            return Err(format!("{} role supports only {} selectors", role.as_str(), allowed.join(", ")));
        };
        selectors::check_field(&selector.field)?;
        selectors::check_label(&selector.label)?;
        checked.push(KubernetesSelector { role, label: selector.label, field: selector.field });
    }
    Ok(checked)
}

fn decode_role(decoder: &mut Decoder, node: &Node, role: &mut Option<KubernetesRole>) -> Result<(), Issue> {
    if node.is_null() {
        *role = None;
    } else if let Some(text) = String::decode(decoder, node)? {
        let found = KubernetesRole::ALL.into_iter().find(|role| role.as_str() == text);
        let unknown = || format!("unknown Kubernetes SD role {}", go_quote(text.as_bytes()));
        *role = Some(found.ok_or_else(|| Issue::new(node.pos, unknown()))?);
    }
    Ok(())
}

fn decode_namespaces(
    decoder: &mut Decoder,
    node: &Node,
    out: &mut KubernetesNamespaces,
) -> Result<(), Issue> {
    let mut namespaces = KubernetesNamespaces::default();
    let ok = decoder.fields(node, "kubernetes.plain", &mut |decoder, key, value| {
        match key {
            "own_namespace" => decoder.set(value, &mut namespaces.own_namespace)?,
            "names" => decoder.set(value, &mut namespaces.names)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if ok {
        *out = namespaces;
    }
    Ok(())
}

fn decode_selectors(decoder: &mut Decoder, node: &Node, out: &mut Vec<RawSelector>) -> Result<(), Issue> {
    let mut found = Vec::new();
    let is_list = decoder.items(node, "[]kubernetes.SelectorConfig", &mut |decoder, item| {
        let mut selector = RawSelector::default();
        let ok = decoder.fields(item, "kubernetes.SelectorConfig", &mut |decoder, key, value| {
            match key {
                "role" => decode_role(decoder, value, &mut selector.role)?,
                "label" => decoder.set(value, &mut selector.label)?,
                "field" => decoder.set(value, &mut selector.field)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        found.extend(ok.then_some(selector));
        Ok(())
    })?;
    if is_list {
        *out = found;
    }
    Ok(())
}

fn decode_attach(decoder: &mut Decoder, node: &Node, out: &mut Option<AttachMetadata>) -> Result<(), Issue> {
    let mut attach = AttachMetadata::default();
    let ok = decoder.fields(node, "kubernetes.AttachMetadataConfig", &mut |decoder, key, value| {
        match key {
            "node" => decoder.set(value, &mut attach.node)?,
            "namespace" => decoder.set(value, &mut attach.namespace)?,
            "deployment" => decoder.set(value, &mut attach.deployment)?,
            "job" => decoder.set(value, &mut attach.job)?,
            "cronjob" => decoder.set(value, &mut attach.cronjob)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if ok {
        *out = (!node.is_null()).then_some(attach);
    }
    Ok(())
}

pub(super) fn print(kubernetes: &KubernetesDiscovery) -> Out {
    let mut fields = Fields::default();
    if let Some(server) = &kubernetes.api_server {
        let shown = Uri::parse(server).map(|url| url.to_string()).unwrap_or_default();
        fields.put("api_server", shown.as_str());
    }
    fields.put("role", kubernetes.role.as_str());
    let kubeconfig = kubernetes.kubeconfig_file.as_ref().map(|path| path.to_string_lossy().into_owned());
    fields.put("kubeconfig_file", kubeconfig.unwrap_or_default().as_str());
    fields.append(http::print(&kubernetes.http));
    if kubernetes.namespaces != KubernetesNamespaces::default() {
        let mut inner = Fields::default();
        inner.put("own_namespace", kubernetes.namespaces.own_namespace);
        inner.put("names", kubernetes.namespaces.names.iter().cloned().collect::<Out>());
        fields.put("namespaces", inner.into_out());
    }
    let selectors = kubernetes.selectors.iter().map(|selector| {
        let mut inner = Fields::default();
        inner.put("role", selector.role.as_str());
        inner.some("label", selector.label.as_str()).some("field", selector.field.as_str());
        inner.into_out()
    });
    fields.some("selectors", Out::List(selectors.collect()));
    if let Some(attach) = kubernetes.attach_metadata.filter(|attach| *attach != AttachMetadata::default()) {
        let mut inner = Fields::default();
        inner.put("node", attach.node).put("namespace", attach.namespace);
        inner.put("deployment", attach.deployment).put("job", attach.job).put("cronjob", attach.cronjob);
        fields.put("attach_metadata", inner.into_out());
    }
    fields.into_out()
}
