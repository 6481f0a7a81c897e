use std::path::Path;

use expect_test::{Expect, expect, expect_file};

use super::{Grant, SecretSource};
use crate::prometheus::parse;

const EVERYTHING: &str = include_str!("../../testdata/prometheus/http.yml");

/// The text was compared with what the reference server (3.14) prints.
#[test]
fn every_key_is_printed() {
    let config = parse(EVERYTHING, Path::new("/etc/x")).unwrap();
    expect_file!["../../testdata/prometheus/http.txt"].assert_eq(&config.text);
    let text = format!("{config:?}");
    assert!(!text.contains("pass word") && !text.contains("pass%20word"), "secrets stay hidden: {text}");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_grants_are_told_apart() {
    let config = parse(EVERYTHING, Path::new("/etc/x")).unwrap();
    let job = |name: &str| config.scrape_configs.iter().find(|job| job.job_name == name).unwrap();
    let oauth2 = job("oauth2").http.oauth2.as_ref().unwrap();
    assert_eq!(oauth2.grant, Grant::ClientCredentials);
    assert_eq!(oauth2.client_secret, SecretSource::File("/etc/x/s".into()));
    assert_eq!(oauth2.proxy.url.as_ref().unwrap().expose(), "socks5://u:p@x");
    let jwt = job("jwt").http.oauth2.as_ref().unwrap();
    expect![[r#"
        JwtBearer {
            key: Inline(
                <secret>,
            ),
            key_id: "kid",
            algorithm: Rs384,
            iss: "iss",
            audience: "aud",
            claims: "{\"1\":\"2\",\"date\":\"2020-01-01\",\"e\":null,\"f\":1.5,\"l\":[\"a\",1,{\"b\":\"c\"}],\"m\":{\"x\":true},\"n\":1,\"t\":\"x\",\"yes\":true}",
        }
    "#]]
    .assert_debug_eq(&jwt.grant);
    assert_eq!(job("any grant").http.oauth2.as_ref().unwrap().grant, Grant::ClientCredentials);
}

#[test]
fn references_load_and_cannot_be_used() {
    let config = parse(EVERYTHING, Path::new("/etc/x")).unwrap();
    let job = config.scrape_configs.iter().find(|job| job.job_name == "refs").unwrap();
    let auth = job.http.basic_auth.as_ref().unwrap();
    for error in [auth.username.read().unwrap_err(), auth.password.read().unwrap_err()] {
        assert_eq!(error.to_string(), "cannot use secret ref without manager");
    }
}

#[track_caller]
fn refuse(block: &str, expected: Expect) {
    let text = format!("scrape_configs:\n- job_name: a\n  {}\n", block.replace('\n', "\n  "));
    let shown = match parse(&text, Path::new("")) {
        Ok(config) => format!("loads: {:?}", config.scrape_configs[0].http),
        Err(e) => e.to_string().replace(": parsing YAML file prometheus.yml", ""),
    };
    expected.assert_eq(&shown);
}

#[test]
fn what_excludes_each_other_is_refused() {
    refuse(
        "bearer_token: a\nbearer_token_file: b",
        expect!["prometheus.yml:2:3: at most one of bearer_token & bearer_token_file must be configured"],
    );
    refuse(
        "bearer_token: a\nbasic_auth: {}",
        expect![
            "prometheus.yml:2:3: at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured"
        ],
    );
    refuse(
        "basic_auth: {username: a, username_ref: b}",
        expect![
            "prometheus.yml:2:3: at most one of basic_auth username, username_file & username_ref must be configured"
        ],
    );
    refuse(
        "basic_auth: {password_file: a, password_ref: b}",
        expect![
            "prometheus.yml:2:3: at most one of basic_auth password, password_file & password_ref must be configured"
        ],
    );
    refuse(
        "authorization: {credentials: a, credentials_ref: b}",
        expect![
            "prometheus.yml:2:3: at most one of authorization credentials & credentials_file must be configured"
        ],
    );
    refuse(
        "authorization: {type: BASIC}",
        expect![
            "prometheus.yml:2:3: authorization type cannot be set to \"basic\", use \"basic_auth\" instead"
        ],
    );
    refuse(
        "authorization: {}\noauth2: {}",
        expect!["prometheus.yml:2:3: at most one of basic_auth, oauth2 & authorization must be configured"],
    );
    refuse("oauth2: {token_url: a}", expect!["prometheus.yml:2:3: oauth2 client_id must be configured"]);
    refuse("oauth2: {client_id: a}", expect!["prometheus.yml:2:3: oauth2 token_url must be configured"]);
    refuse(
        "oauth2: {client_id: a, token_url: b, client_secret: c, client_secret_file: d}",
        expect![
            "prometheus.yml:2:3: at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials"
        ],
    );
    let jwt = "client_id: a, token_url: b, grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer'";
    refuse(
        &format!("oauth2: {{{jwt}, client_certificate_key: c, client_certificate_key_ref: d}}"),
        expect![
            "prometheus.yml:2:3: at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer"
        ],
    );
    refuse(
        &format!("oauth2: {{{jwt}, signature_algorithm: HS256}}"),
        expect!["prometheus.yml:2:3: valid signature algorithms are RS256, RS384 and RS512"],
    );
    refuse(
        "oauth2: {no_proxy: x}",
        expect!["prometheus.yml:3:11: if no_proxy is configured, proxy_url must also be configured"],
    );
    refuse(
        "proxy_connect_header: {a: [b]}",
        expect![
            "prometheus.yml:2:3: if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
        ],
    );
    refuse(
        "proxy_from_environment: true\nproxy_url: http://x",
        expect![
            "prometheus.yml:2:3: if proxy_from_environment is configured, proxy_url must not be configured"
        ],
    );
    refuse(
        "proxy_from_environment: true\nno_proxy: x",
        expect![
            "prometheus.yml:2:3: if proxy_from_environment is configured, no_proxy must not be configured"
        ],
    );
    refuse(
        "proxy_url: 'http://['",
        expect![[r#"prometheus.yml:3:14: parse "http://[": missing ']' in host"#]],
    );
    refuse(
        "http_headers: {host: {values: [x]}}",
        expect![[r#"prometheus.yml:2:3: setting header "Host" is not allowed"#]],
    );
    refuse(
        "tls_config: {ca: a, ca_ref: b}",
        expect!["prometheus.yml:3:15: at most one of ca, ca_file & ca_ref must be configured"],
    );
    refuse(
        "tls_config: {key: a, key_file: b}",
        expect!["prometheus.yml:3:15: at most one of key and key_file must be configured"],
    );
    refuse(
        "tls_config: {cert_ref: a}",
        expect![
            "prometheus.yml:3:15: exactly one of key or key_file must be configured when a client certificate is configured"
        ],
    );
    refuse(
        "tls_config: {key_ref: a}",
        expect![
            "prometheus.yml:3:15: exactly one of cert or cert_file must be configured when a client key is configured"
        ],
    );
    refuse("tls_config: {max_version: TLS14}", expect!["prometheus.yml:3:29: unknown TLS version: TLS14"]);
    refuse(
        "bearer_token: [a]\nhttp_headers: {a: {values: b}}\noauth2: {nope: 1}",
        expect![[r#"
            prometheus.yml:3:17: yaml: unmarshal errors:
              line 3: cannot unmarshal !!seq into config.plain
              line 4: cannot unmarshal !!str `b` into []string
              line 5: field nope not found in type config.plain"#]],
    );
}
