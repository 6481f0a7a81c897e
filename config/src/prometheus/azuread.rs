//! `azuread` in `remote_write`: tokens of Microsoft Entra, by one of five ways.
//!
//! Compat: prometheus `storage/remote/azuread`, `AzureADConfig`.

use std::path::PathBuf;

use crate::Secret;
use crate::yaml::emit::Fields;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureAd {
    pub method: Method,
    pub cloud: String,
    /// Empty for the cloud's own.
    pub scope: String,
}

/// How tokens are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    ManagedIdentity {
        /// Empty for the system's own.
        client_id: String,
    },
    WorkloadIdentity {
        client_id: String,
        tenant_id: String,
        token_file: PathBuf,
    },
    Oauth {
        client_id: String,
        client_secret: Secret,
        tenant_id: String,
    },
    Sdk {
        tenant_id: String,
    },
    Certificate {
        client_id: String,
        tenant_id: String,
        /// Like all paths of this section, as typed.
        certificate: PathBuf,
        key: Option<PathBuf>,
        password: Secret,
        send_chain: bool,
    },
}

const TOKEN_FILE_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const DEFAULT_TOKEN_FILE: &str = "/var/run/secrets/azure/tokens/azure-identity-token";

/// The keys of all ways; each takes its own.
#[derive(Default)]
struct RawMethod {
    client_id: String,
    tenant_id: String,
    client_secret: Secret,
    token_file_path: String,
    certificate_path: String,
    certificate_key_path: String,
    certificate_password: Secret,
    send_certificate_chain: bool,
}

impl RawMethod {
    fn decode(decoder: &mut Decoder, node: &Node, go_type: &str, keys: &[&str]) -> Result<Self, Issue> {
        let mut raw = Self::default();
        decoder.fields(node, go_type, &mut |decoder, key, value| {
            let text = match key {
                _ if !keys.contains(&key) => return Ok(false),
                "client_id" => &mut raw.client_id,
                "tenant_id" => &mut raw.tenant_id,
                "token_file_path" => &mut raw.token_file_path,
                "certificate_path" => &mut raw.certificate_path,
                "certificate_key_path" => &mut raw.certificate_key_path,
                "client_secret" => {
                    decoder.set(value, &mut raw.client_secret)?;
                    return Ok(true);
                }
                "certificate_password" => {
                    decoder.set(value, &mut raw.certificate_password)?;
                    return Ok(true);
                }
                "send_certificate_chain" => {
                    decoder.set(value, &mut raw.send_certificate_chain)?;
                    return Ok(true);
                }
                _ => return Ok(false),
            };
            decoder.set(value, text)?;
            Ok(true)
        })?;
        Ok(raw)
    }
}

#[derive(Default)]
struct Raw {
    managed_identity: Option<RawMethod>,
    workload_identity: Option<RawMethod>,
    oauth: Option<RawMethod>,
    sdk: Option<RawMethod>,
    certificate: Option<RawMethod>,
    cloud: String,
    scope: String,
}

/// `None` for null, too.
pub(super) fn decode_azuread(decoder: &mut Decoder, node: &Node) -> Decoded<AzureAd> {
    if node.is_null() {
        return Ok(None);
    }
    let mut raw = Raw::default();
    let ok = decoder.fields(node, "azuread.plain", &mut |decoder, key, value| {
        let (slot, go_type, keys): (_, _, &[&str]) = match key {
            "managed_identity" => {
                (&mut raw.managed_identity, "azuread.ManagedIdentityConfig", &["client_id"])
            }
            "workload_identity" => (
                &mut raw.workload_identity,
                "azuread.WorkloadIdentityConfig",
                &["client_id", "tenant_id", "token_file_path"],
            ),
            "oauth" => (&mut raw.oauth, "azuread.OAuthConfig", &["client_id", "client_secret", "tenant_id"]),
            "sdk" => (&mut raw.sdk, "azuread.SDKConfig", &["tenant_id"]),
            "certificate" => (
                &mut raw.certificate,
                "azuread.CertificateConfig",
                &[
                    "client_id",
                    "tenant_id",
                    "certificate_path",
                    "certificate_key_path",
                    "certificate_password",
                    "send_certificate_chain",
                ],
            ),
            "cloud" => {
                decoder.set(value, &mut raw.cloud)?;
                return Ok(true);
            }
            "scope" => {
                decoder.set(value, &mut raw.scope)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *slot = if value.is_null() { None } else { Some(RawMethod::decode(decoder, value, go_type, keys)?) };
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    raw.finish().map(Some).map_err(|text| Issue::new(node.pos, text))
}

impl Raw {
    fn finish(self) -> Result<AzureAd, &'static str> {
        let cloud = if self.cloud.is_empty() { "AzurePublic".to_owned() } else { self.cloud };
        if !matches!(cloud.as_str(), "AzurePublic" | "AzureGovernment" | "AzureChina") {
            return Err("must provide a cloud in the Azure AD config");
        }
        let method = match (
            self.managed_identity,
            self.workload_identity,
            self.oauth,
            self.sdk,
            self.certificate,
        ) {
            (None, None, None, None, None) => {
                return Err(
                    "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or Azure SDK in the Azure AD config",
                );
            }
            (Some(raw), None, None, None, None) => managed_identity(raw)?,
            (None, Some(raw), None, None, None) => workload_identity(raw)?,
            (None, None, Some(raw), None, None) => oauth(raw)?,
            (None, None, None, Some(raw), None) => Method::Sdk { tenant_id: raw.tenant_id },
            (None, None, None, None, Some(raw)) => certificate(raw)?,
            _ => return Err("cannot provide multiple authentication methods in the Azure AD config"),
        };
        let is_scope = |c: char| c.is_ascii_alphanumeric() || "_ \t\n\x0c\r:/.-".contains(c);
        if !self.scope.chars().all(is_scope) {
            return Err("the provided scope contains invalid characters");
        }
        Ok(AzureAd { method, cloud, scope: self.scope })
    }
}

fn managed_identity(raw: RawMethod) -> Result<Method, &'static str> {
    if !raw.client_id.is_empty() && !is_uuid(&raw.client_id) {
        return Err("the provided Azure Managed Identity client_id is invalid");
    }
    Ok(Method::ManagedIdentity { client_id: raw.client_id })
}

fn workload_identity(raw: RawMethod) -> Result<Method, &'static str> {
    if raw.client_id.is_empty() {
        return Err("must provide an Azure Workload Identity client_id in the Azure AD config");
    }
    if raw.tenant_id.is_empty() {
        return Err("must provide an Azure Workload Identity tenant_id in the Azure AD config");
    }
    if !is_uuid(&raw.client_id) {
        return Err("the provided Azure Workload Identity client_id is invalid");
    }
    if !is_uuid(&raw.tenant_id) {
        return Err("the provided Azure Workload Identity tenant_id is invalid");
    }
    let token_file = if raw.token_file_path.is_empty() {
        let named = std::env::var(TOKEN_FILE_VARIABLE).ok().filter(|path| !path.is_empty());
        named.unwrap_or_else(|| DEFAULT_TOKEN_FILE.to_owned())
    } else {
        raw.token_file_path
    };
    Ok(Method::WorkloadIdentity {
        client_id: raw.client_id,
        tenant_id: raw.tenant_id,
        token_file: token_file.into(),
    })
}

fn oauth(raw: RawMethod) -> Result<Method, &'static str> {
    if raw.client_id.is_empty() {
        return Err("must provide an Azure OAuth client_id in the Azure AD config");
    }
    if raw.client_secret.is_empty() {
        return Err("must provide an Azure OAuth client_secret in the Azure AD config");
    }
    if raw.tenant_id.is_empty() {
        return Err("must provide an Azure OAuth tenant_id in the Azure AD config");
    }
    if !is_uuid(&raw.client_id) {
        return Err("the provided Azure OAuth client_id is invalid");
    }
    Ok(Method::Oauth { client_id: raw.client_id, client_secret: raw.client_secret, tenant_id: raw.tenant_id })
}

fn certificate(raw: RawMethod) -> Result<Method, &'static str> {
    if raw.client_id.is_empty() {
        return Err("must provide an Azure Certificate client_id in the Azure AD config");
    }
    if raw.tenant_id.is_empty() {
        return Err("must provide an Azure Certificate tenant_id in the Azure AD config");
    }
    if raw.certificate_path.is_empty() {
        return Err("must provide an Azure Certificate certificate_path in the Azure AD config");
    }
    if !is_uuid(&raw.client_id) {
        return Err("the provided Azure Certificate client_id is invalid");
    }
    Ok(Method::Certificate {
        client_id: raw.client_id,
        tenant_id: raw.tenant_id,
        certificate: raw.certificate_path.into(),
        key: Some(raw.certificate_key_path).filter(|path| !path.is_empty()).map(PathBuf::from),
        password: raw.certificate_password,
        send_chain: raw.send_certificate_chain,
    })
}

/// In any of the four notations that Google's `uuid` package takes.
fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let body = match bytes.len() {
        32 => return bytes.iter().all(u8::is_ascii_hexdigit),
        36 => bytes,
        38 => &bytes[1..37],
        45 if bytes[..9].eq_ignore_ascii_case(b"urn:uuid:") => &bytes[9..],
        _ => return false,
    };
    body.iter().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
}

pub(super) fn print_azuread(azuread: &AzureAd) -> Out {
    let mut inner = Fields::default();
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let secret = |fields: &mut Fields, key: &str, secret: &Secret| {
        if !secret.is_empty() {
            fields.put(key, Out::secret(secret));
        }
    };
    let key = match &azuread.method {
        Method::ManagedIdentity { client_id } => {
            inner.some("client_id", client_id.as_str());
            "managed_identity"
        }
        Method::WorkloadIdentity { client_id, tenant_id, token_file } => {
            inner.some("client_id", client_id.as_str()).some("tenant_id", tenant_id.as_str());
            inner.some("token_file_path", path(token_file).as_str());
            "workload_identity"
        }
        Method::Oauth { client_id, client_secret, tenant_id } => {
            inner.some("client_id", client_id.as_str());
            secret(&mut inner, "client_secret", client_secret);
            inner.some("tenant_id", tenant_id.as_str());
            "oauth"
        }
        Method::Sdk { tenant_id } => {
            inner.some("tenant_id", tenant_id.as_str());
            "sdk"
        }
        Method::Certificate { client_id, tenant_id, certificate, key, password, send_chain } => {
            inner.some("client_id", client_id.as_str()).some("tenant_id", tenant_id.as_str());
            inner.some("certificate_path", path(certificate).as_str());
            inner.some("certificate_key_path", key.as_deref().map(path).unwrap_or_default().as_str());
            secret(&mut inner, "certificate_password", password);
            inner.some("send_certificate_chain", *send_chain);
            "certificate"
        }
    };
    let mut fields = Fields::default();
    fields.put(key, inner.into_out());
    fields.some("cloud", azuread.cloud.as_str()).some("scope", azuread.scope.as_str());
    fields.into_out()
}

#[cfg(test)]
mod tests {
    use super::is_uuid;

    #[test]
    fn notations_of_a_uuid() {
        let plain = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        for text in
            [plain, &format!("{{{plain}}}"), &format!("URN:uuid:{plain}"), "6ba7b8109dad11d180b400c04fd430c8"]
        {
            assert!(is_uuid(text), "{text}");
        }
        for text in ["", "x", "6ba7b810_9dad-11d1-80b4-00c04fd430c8", "6ba7b8109dad11d180b400c04fd430cg"] {
            assert!(!is_uuid(text), "{text}");
        }
    }
}
