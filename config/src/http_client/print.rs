//! The HTTP client block as YAML: upstream's key order, secrets masked.
//!
//! Compat: prometheus/common `config`, `HTTPClientConfig` as yaml.v2 prints it.

use std::collections::BTreeMap;

use super::proxy::print_proxy;
use super::{Header, HttpClient, SecretSource, TextSource, Tls};
use crate::yaml::Out;
use crate::yaml::emit::Fields;

pub(crate) fn print(http: &HttpClient) -> Fields {
    let mut fields = Fields::default();
    if let Some(auth) = &http.basic_auth {
        let mut inner = Fields::default();
        print_text(&mut inner, "username", &auth.username);
        print_secret(&mut inner, "password", &auth.password);
        fields.put("basic_auth", inner.into_out());
    }
    if let Some(auth) = &http.authorization {
        let mut inner = Fields::default();
        inner.put("type", auth.kind.as_str());
        print_secret(&mut inner, "credentials", &auth.credentials);
        fields.put("authorization", inner.into_out());
    }
    if let Some(printed) = http.oauth2.as_ref().and_then(|oauth2| oauth2.printed.0.clone()) {
        fields.put("oauth2", printed);
    }
    if http.tls != Tls::default() {
        fields.put("tls_config", print_tls(&http.tls));
    }
    fields.put("follow_redirects", http.follow_redirects).put("enable_http2", http.enable_http2);
    print_proxy(&mut fields, &http.proxy);
    fields.some("http_headers", print_headers(&http.headers));
    fields
}

pub(crate) fn print_headers(headers: &BTreeMap<String, Header>) -> Out {
    Out::sorted(headers.iter().map(|(name, header)| {
        let mut inner = Fields::default();
        inner.some("values", header.values.iter().cloned().collect::<Out>());
        inner.some("secrets", Out::List(header.secrets.iter().map(Out::secret).collect()));
        let files = header.files.iter().map(|file| file.to_string_lossy().into_owned());
        inner.some("files", files.collect::<Out>());
        (name.clone(), inner.into_out())
    }))
}

/// `key` with the secret masked, or `key_file`, or `key_ref`.
pub(crate) fn print_secret(fields: &mut Fields, key: &str, source: &SecretSource) {
    match source {
        SecretSource::Inline(secret) if secret.is_empty() => {}
        SecretSource::Inline(secret) => drop(fields.put(key, Out::secret(secret))),
        SecretSource::File(path) => drop(fields.put(&format!("{key}_file"), &*path.to_string_lossy())),
        SecretSource::Ref(name) => drop(fields.put(&format!("{key}_ref"), name.as_str())),
    }
}

/// `key` with the text, or `key_file`, or `key_ref`.
pub(crate) fn print_text(fields: &mut Fields, key: &str, source: &TextSource) {
    match source {
        TextSource::Inline(text) => drop(fields.some(key, text.as_str())),
        TextSource::File(path) => drop(fields.put(&format!("{key}_file"), &*path.to_string_lossy())),
        TextSource::Ref(name) => drop(fields.put(&format!("{key}_ref"), name.as_str())),
    }
}

pub(crate) fn print_tls(tls: &Tls) -> Out {
    let mut fields = Fields::default();
    // All texts stand before all files, and these before all references.
    for rank in 0..3 {
        let text_rank = |source: &TextSource| match source {
            TextSource::Inline(_) => 0,
            TextSource::File(_) => 1,
            TextSource::Ref(_) => 2,
        };
        let secret_rank = |source: &SecretSource| match source {
            SecretSource::Inline(_) => 0,
            SecretSource::File(_) => 1,
            SecretSource::Ref(_) => 2,
        };
        if let Some(ca) = tls.ca.as_ref().filter(|source| text_rank(source) == rank) {
            print_text(&mut fields, "ca", ca);
        }
        if let Some(cert) = tls.cert.as_ref().filter(|source| text_rank(source) == rank) {
            print_text(&mut fields, "cert", cert);
        }
        if let Some(key) = tls.key.as_ref().filter(|source| secret_rank(source) == rank) {
            print_secret(&mut fields, "key", key);
        }
    }
    fields
        .some("server_name", tls.server_name.as_deref().unwrap_or_default())
        .put("insecure_skip_verify", tls.insecure_skip_verify)
        .some("min_version", tls.min_version.map_or("", |version| version.as_str()))
        .some("max_version", tls.max_version.map_or("", |version| version.as_str()));
    fields.into_out()
}
