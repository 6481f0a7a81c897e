//! Alerts as JSON, posted to a URL.
//!
//! Compat: alertmanager `notify/webhook` (payload version 4, 0.34).

use std::collections::BTreeMap;
use std::sync::Arc;

use config::alertmanager::Webhook;
use config::http_client::{HttpClient, SecretSource};
use config::template::Mode;
use config::template::notification::{Alert, quote_meta};
use jiff::Timestamp;
use serde::Serialize;

use super::email::read_secret;
use super::{Failure, Message};
use crate::alertmanager::clock;

/// As much of an answer as an error shows.
const ERROR_BYTES_MAX: usize = 512;

/// The body, fields in upstream's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'m> {
    receiver: String,
    status: &'static str,
    alerts: Vec<PayloadAlert<'m>>,
    #[serde(rename = "notification_reason")]
    reason: &'m str,
    group_labels: &'m BTreeMap<String, String>,
    common_labels: &'m BTreeMap<String, String>,
    common_annotations: &'m BTreeMap<String, String>,
    route_labels: BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: &'m str,
    version: &'static str,
    group_key: &'m str,
    truncated_alerts: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'m> {
    status: &'static str,
    labels: &'m BTreeMap<String, String>,
    annotations: &'m BTreeMap<String, String>,
    #[serde(serialize_with = "clock::nanos")]
    starts_at: Timestamp,
    /// Go's zero time while the alert fires.
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'m str,
    fingerprint: &'m str,
}

impl<'m> PayloadAlert<'m> {
    fn new(alert: &'m Alert) -> Self {
        Self {
            status: alert.status(),
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string()),
            generator_url: &alert.generator_url,
            fingerprint: &alert.fingerprint,
        }
    }
}

pub(super) fn payload(message: &Message<'_>, max_alerts: u64) -> serde_json::Result<Vec<u8>> {
    let data = &message.data;
    let max = match usize::try_from(max_alerts) {
        Ok(0) | Err(_) => data.alerts.len(),
        Ok(max) => max,
    };
    let payload = Payload {
        receiver: quote_meta(&data.receiver),
        status: data.status(),
        alerts: data.alerts.iter().take(max).map(PayloadAlert::new).collect(),
        reason: &data.reason,
        group_labels: &data.group_labels,
        common_labels: &data.common_labels,
        common_annotations: &data.common_annotations,
        route_labels: BTreeMap::new(),
        external_url: &data.external_url,
        version: "4",
        group_key: message.group_key,
        truncated_alerts: data.alerts.len().saturating_sub(max) as u64,
    };
    serde_json::to_vec(&payload)
}

pub(super) async fn send(config: &Webhook, message: &Message<'_>) -> Result<(), Failure> {
    let template = match &config.url_file {
        Some(path) => read_secret(&SecretSource::File(path.clone())).await?,
        None => config.url.expose().to_owned(),
    };
    let url = message.templates.expand(&template, &message.data, Mode::Text, message.now);
    let url = url.map_err(|e| Failure::last(format!("execute webhook URL template: {e}")))?;
    if url.is_empty() {
        return Err(Failure::last("webhook URL is empty after templating"));
    }
    let body = payload(message, config.max_alerts).map_err(|e| Failure::last(e.to_string()))?;
    let mut request = client(&config.http)?
        .post(&url)
        .header("Content-Type", "application/json")
        .header("User-Agent", concat!("Alertmanager/", env!("CARGO_PKG_VERSION")))
        .body(body);
    if let Some(basic) = &config.http.basic_auth {
        request = request.basic_auth(&basic.username, Some(read_secret(&basic.password).await?));
    }
    if let Some(auth) = &config.http.authorization {
        let secret = read_secret(&auth.credentials).await?;
        request = request.header("Authorization", format!("{} {secret}", auth.kind));
    }
    for (name, values) in &config.http.headers {
        for value in values {
            request = request.header(name, value.expose());
        }
    }
    if !config.timeout.is_zero() {
        request = request.timeout(config.timeout);
    }
    // The URL may hold a secret: errors do not show it.
    let answer = request.send().await.map_err(|e| {
        let retry = !e.is_builder();
        let e = e.without_url();
        let source = std::error::Error::source(&e).map(|source| format!(": {source}")).unwrap_or_default();
        Failure { message: format!("post to webhook: {e}{source}"), retry, reason: "other" }
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = match status.as_u16() {
        401 | 403 => "authError",
        429 => "rateLimited",
        400..=499 => "clientError",
        500.. => "serverError",
        _ => "other",
    };
    let detail = first_bytes(answer).await;
    let message = format!("unexpected status code {}: {detail}", status.as_u16());
    Err(Failure { message, retry: status.is_server_error(), reason })
}

/// The beginning of an answer's body, on one line.
async fn first_bytes(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ERROR_BYTES_MAX)]);
    }
    bytes.truncate(ERROR_BYTES_MAX);
    String::from_utf8_lossy(&bytes).replace(['\r', '\n'], " ").trim().to_owned()
}

fn client(config: &HttpClient) -> Result<reqwest::Client, Failure> {
    let redirects = if config.follow_redirects {
        reqwest::redirect::Policy::limited(10)
    } else {
        reqwest::redirect::Policy::none()
    };
    let mut builder = reqwest::Client::builder().redirect(redirects).tls_backend_preconfigured(tls(config)?);
    if !config.enable_http2 {
        builder = builder.http1_only();
    }
    builder.build().map_err(|e| Failure::last(format!("set up HTTP client: {e}")))
}

fn tls(config: &HttpClient) -> Result<rustls::ClientConfig, Failure> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let bad = |e: &dyn std::fmt::Display| Failure::last(format!("set up TLS: {e}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    match &config.tls.ca_file {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
                roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&e))?
        .with_root_certificates(roots);
    let mut tls = match (&config.tls.cert_file, &config.tls.key_file) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert).map_err(|e| bad(&e))?;
            let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|e| bad(&e))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(&e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| bad(&e))?
        }
        _ => builder.with_no_client_auth(),
    };
    if config.tls.insecure_skip_verify {
        tls.dangerous().set_certificate_verifier(Arc::new(AcceptAny(provider)));
    }
    Ok(tls)
}

/// `insecure_skip_verify`: any certificate, but real signatures.
#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
