//! Handshakes in memory, with certificates that only Go's leniency lets through.
//!
//! `tests/testdata/x509v1` holds an authority of X.509 version 1, a certificate of today that it signed, and one of
//! version 1.

use std::io::{Read as _, Write as _};

use config::Secret;
use config::http_client::SecretSource;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

const CA: &str = include_str!("../../../tests/testdata/x509v1/ca.pem");
const LEAF: &str = include_str!("../../../tests/testdata/x509v1/leaf.pem");
const OLD: &str = include_str!("../../../tests/testdata/x509v1/old.pem");
const KEY: &str = include_str!("../../../tests/testdata/x509v1/leaf.key");

fn inline(text: &str) -> TextSource {
    TextSource::Inline(text.to_owned())
}

/// What comes of a client with these settings that asks `127.0.0.1`, which shows `cert`.
fn shake(tls: &Tls, cert: &str, versions: &[&'static SupportedProtocolVersion]) -> Result<(), String> {
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let config = TlsSource::new(tls.clone(), &[]).current().map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(config, ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let told = |error: rustls::Error| explain(&io::Error::other(error));
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            // What the server refuses it tells the client.
            let _ = server.process_new_packets();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets().map_err(told)?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "BUG: the handshake stands still");
    client.writer().write_all(b"ping").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut &wire[..]).unwrap();
    server.process_new_packets().unwrap();
    let mut heard = [0; 4];
    server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    Ok(())
}

#[test]
fn an_authority_of_version_1_is_one() {
    let tls = Tls { ca: Some(inline(CA)), ..Tls::default() };
    assert_eq!(shake(&tls, LEAF, &[&TLS12, &TLS13]), Ok(()));
    // It names no host, so Go refuses it as well.
    let error = shake(&tls, OLD, &[&TLS12, &TLS13]).unwrap_err();
    assert!(error.starts_with("tls: "), "{error}");
}

#[test]
fn who_does_not_care_takes_any_certificate() {
    let tls = Tls { insecure_skip_verify: true, ..Tls::default() };
    for version in [&TLS12, &TLS13] {
        for cert in [LEAF, OLD] {
            assert_eq!(shake(&tls, cert, &[version]), Ok(()), "{version:?}");
        }
    }
}

#[test]
fn versions_are_as_configured() {
    use TlsVersion::{Tls10, Tls11, Tls12, Tls13};
    let of = |min, max| Tls { ca: Some(inline(CA)), min_version: min, max_version: max, ..Tls::default() };
    for (min, max, speaks_12, speaks_13) in [
        (None, None, true, true),
        (Some(Tls10), None, true, true),
        (Some(Tls13), None, false, true),
        (None, Some(Tls12), true, false),
        (Some(Tls10), Some(Tls11), true, false),
        (Some(Tls12), Some(Tls13), true, true),
    ] {
        let tls = of(min, max);
        assert_eq!(shake(&tls, LEAF, &[&TLS12]).is_ok(), speaks_12, "{min:?} {max:?}");
        assert_eq!(shake(&tls, LEAF, &[&TLS13]).is_ok(), speaks_13, "{min:?} {max:?}");
    }
    assert_eq!(
        shake(&of(Some(Tls13), None), LEAF, &[&TLS12]),
        Err("remote error: tls: protocol version not supported".to_owned())
    );
    assert_eq!(
        shake(&of(Some(Tls13), Some(Tls12)), LEAF, &[&TLS12]).unwrap_err(),
        "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified"
    );
}

#[test]
fn names_are_told() {
    let tls = Tls { ca: Some(inline(CA)), server_name: Some("h.test".to_owned()), ..Tls::default() };
    assert_eq!(
        shake(&tls, LEAF, &[&TLS13]).unwrap_err(),
        "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, not h.test"
    );
}

#[test]
fn what_is_no_pem_is_told_without_showing_it() {
    let text = |ca, cert, key: Option<&str>| {
        let key = key.map(|key| SecretSource::Inline(Secret::new(key)));
        let tls = Tls { ca, cert, key, ..Tls::default() };
        TlsSource::new(tls, &[]).current().unwrap_err().to_string()
    };
    assert_eq!(
        text(Some(inline("x")), None, None),
        "unable to use specified CA cert: it holds no certificate"
    );
    let error = text(None, Some(inline(LEAF)), Some("hidden"));
    assert!(
        error.starts_with("unable to use specified client key: ") && !error.contains("hidden"),
        "{error}"
    );
    let path = TextSource::File(PathBuf::from("/nowhere/c.pem"));
    assert_eq!(
        text(None, Some(path), Some(KEY)),
        "unable to read client cert: unable to read file /nowhere/c.pem: open /nowhere/c.pem: no such file or directory"
    );
}
