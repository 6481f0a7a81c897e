use expect_test::{Expect, expect};

use std::sync::Arc;

use super::Settings;

const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

#[track_caller]
fn check(text: &str, expected: Expect) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cert.pem"), "a certificate").unwrap();
    std::fs::write(dir.path().join("key.pem"), "a key").unwrap();
    let pair = |cert: &[u8], key: &[u8]| match (cert, key) {
        (b"a certificate", b"a key") => Ok(()),
        _ => Err("tls: they do not belong together".to_owned()),
    };
    let path = dir.path().join("web.yml");
    let judged = || {
        let settings = Settings::parse(&path, text.replace("HASH", HASH).as_bytes())
            .map_err(|e| e.problems()[0].message.clone())?;
        settings.check_users()?;
        let tls = settings.tls(&mut |path| std::fs::read(path).map(Arc::from), &pair)?;
        let Settings { http2, headers, rate_limit, users, .. } = settings;
        Ok(format!("{tls:?} http2: {http2} {headers:?} {rate_limit:?} {users:?}"))
    };
    let shown = judged().unwrap_or_else(|refusal: String| refusal);
    expected.assert_eq(&shown.replace(&dir.path().display().to_string(), "DIR"));
}

#[test]
fn good_files() {
    check("", expect!["None http2: true {} None {}"]);
    check(
        "tls_server_config: {}\nrate_limit: {interval: 1m1.5s, burst: 3}",
        expect!["None http2: true {} Some(RateLimit { interval: 61.5s, burst: 3 }) {}"],
    );
    check("rate_limit: {interval: -1s, burst: 3}", expect!["None http2: true {} None {}"]);
    check(
        "rate_limit: {interval: 1500.7}",
        expect!["None http2: true {} Some(RateLimit { interval: 1.5µs, burst: 0 }) {}"],
    );
    check(
        "tls_server_config:
  cert_file: cert.pem
  key_file: key.pem
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: cert.pem
  client_allowed_sans: [a]
  min_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256]
  curve_preferences: [X25519]
  prefer_server_cipher_suites: false
http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: any}}
basic_auth_users: {alice: HASH}",
        expect![[
            r#"Some(ServerTls { cert: <pem>, key: <pem>, client_ca: Some(<pem>), client_auth: RequireAndVerify, client_allowed_sans: Some(["a"]), min_version: Tls13, max_version: Tls13, cipher_suites: ["TLS_AES_128_GCM_SHA256"], curve_preferences: ["X25519"], prefer_server_cipher_suites: false }) http2: false {"X-Frame-Options": "deny", "X-XSS-Protection": "any"} None {"alice": <secret>}"#
        ]],
    );
}

#[test]
fn bad_files() {
    for (text, expected) in [
        (
            "tls: {}",
            expect![[r#"
            yaml: unmarshal errors:
              line 1: field tls not found in type web.Config"#]],
        ),
        ("tls_server_config: {cert: x}", expect!["missing one of key or key_file"]),
        ("tls_server_config: {key: x}", expect!["missing one of cert or cert_file"]),
        ("tls_server_config: {client_auth_type: x}", expect!["missing one of cert or cert_file"]),
        (
            "tls_server_config: {cert: x, key: x}",
            expect!["failed to load X509KeyPair: tls: they do not belong together"],
        ),
        (
            "tls_server_config: {cert_file: none, key: x}",
            expect!["failed to read cert_file (DIR/none): open DIR/none: no such file or directory"],
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: none}",
            expect!["failed to read key_file (DIR/none): open DIR/none: no such file or directory"],
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: x}",
            expect!["invalid ClientAuth: x"],
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca: x}",
            expect!["client CA's have been configured without a Client Auth Policy"],
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: x}",
            expect!["open DIR/x: no such file or directory"],
        ),
        ("tls_server_config: {min_version: TLS9}", expect!["unknown TLS version: TLS9"]),
        (
            "tls_server_config: {cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}",
            expect!["unknown cipher: TLS_RSA_WITH_RC4_128_SHA"],
        ),
        ("tls_server_config: {curve_preferences: [P1]}", expect!["unknown curve: P1"]),
        (
            "http_server_config: {headers: {X-Mine: a}}",
            expect![[r#"HTTP header "X-Mine" can not be configured"#]],
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: a}}",
            expect![[
                r#"invalid value for X-Frame-Options. Expected one of: ["deny" "sameorigin"], but got: "a""#
            ]],
        ),
        (
            "rate_limit: {interval: '5'}",
            expect![[r#"
            yaml: unmarshal errors:
              line 1: cannot unmarshal !!str `5` into time.Duration"#]],
        ),
        (
            "rate_limit: {interval: soon}",
            expect![[r#"
            yaml: unmarshal errors:
              line 1: cannot unmarshal !!str `soon` into time.Duration"#]],
        ),
        (
            "basic_auth_users: {a: b}",
            expect!["crypto/bcrypt: hashedSecret too short to be a bcrypted password"],
        ),
        ("basic_auth_users: {a: xHASH}", expect!["crypto/bcrypt: bcrypt hashes must start with '$'"]),
        (
            "basic_auth_users: {a: $3y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
            expect![
                "crypto/bcrypt: bcrypt algorithm version '3' requested is newer than current version '2'"
            ],
        ),
        (
            "basic_auth_users: {a: $2y$03$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
            expect!["crypto/bcrypt: cost 3 is outside allowed inclusive range 4..31"],
        ),
        (
            "basic_auth_users: {a: $2y$xx$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}",
            expect![[r#"strconv.Atoi: parsing "xx": invalid syntax"#]],
        ),
    ] {
        check(text, expected);
    }
}
