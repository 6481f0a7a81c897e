//! A certificate and its key: whether they serve together.
//!
//! Compat: Go `crypto/tls`, `X509KeyPair`, and `encoding/pem`; the texts are Go's.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Fewer bits of an RSA key our cryptography does not take.
const RSA_BITS_MIN: usize = 2048;

/// Says why a certificate and a key do not serve together.
///
/// # Errors
/// The reason, in Go's words.
pub(super) fn check(cert: &[u8], key: &[u8]) -> Result<(), String> {
    load(cert, key).map(drop)
}

/// A chain of certificates with the key of the first.
///
/// # Errors
/// As [`check`].
pub(super) fn load(cert: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let (mut chain, mut skipped) = (Vec::new(), Vec::new());
    for block in Blocks(cert) {
        if block.kind == "CERTIFICATE" {
            chain.push(CertificateDer::from(block.der));
        } else {
            skipped.push(block.kind);
        }
    }
    if chain.is_empty() {
        return Err(match skipped.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if one.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
                    .to_owned()
            }
            several => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
                several.join(" ")
            ),
        });
    }
    let key = find_key(key)?;
    let (_, leaf) =
        X509Certificate::from_der(&chain[0]).map_err(|_| "x509: malformed certificate".to_owned())?;
    let key = load_key(&key).ok_or_else(|| unloaded(&leaf))?;
    if let Some(public) = key.public_key()
        && *public != *leaf.public_key().raw
    {
        // The algorithm comes first in both.
        let theirs = x509_parser::x509::SubjectPublicKeyInfo::from_der(&public);
        let is_other_kind = theirs
            .is_ok_and(|(_, public)| public.algorithm.algorithm != leaf.public_key().algorithm.algorithm);
        let what =
            if is_other_kind { " type does not match public key type" } else { " does not match public key" };
        return Err(format!("tls: private key{what}"));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// The certificates of `pem`; blocks of other kinds, and what is none, are passed over.
///
/// Compat: Go `crypto/x509`, `CertPool.AppendCertsFromPEM`.
pub(super) fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    let blocks = Blocks(pem).filter(|block| block.kind == "CERTIFICATE");
    blocks.map(|block| CertificateDer::from(block.der)).collect()
}

fn find_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let mut skipped = Vec::new();
    for block in Blocks(pem) {
        if block.kind == "PRIVATE KEY" || block.kind.ends_with(" PRIVATE KEY") {
            return Ok(block.der);
        }
        skipped.push(block.kind);
    }
    Err(match skipped.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [one] if one == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        several => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            several.join(" ")
        ),
    })
}

/// What a block is called does not tell its form, says experience with OpenSSL.
fn load_key(der: &[u8]) -> Option<Arc<dyn SigningKey>> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().key_provider;
    let forms: [PrivateKeyDer<'static>; 3] = [
        PrivatePkcs1KeyDer::from(der.to_vec()).into(),
        PrivatePkcs8KeyDer::from(der.to_vec()).into(),
        PrivateSec1KeyDer::from(der.to_vec()).into(),
    ];
    forms.into_iter().find_map(|form| provider.load_private_key(form).ok())
}

fn unloaded(leaf: &X509Certificate<'_>) -> String {
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS_MIN => format!(
            "tls: RSA keys of less than {RSA_BITS_MIN} bits are not supported, and this one has {}",
            key.key_size()
        ),
        _ => "tls: failed to parse private key".to_owned(),
    }
}

struct Block {
    kind: String,
    der: Vec<u8>,
}

/// The blocks of a PEM text; what is malformed is passed over.
struct Blocks<'a>(&'a [u8]);

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        /// Bits behind the last byte are nobody's business.
        const BASE64: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent)
                .with_decode_allow_trailing_bits(true),
        );
        loop {
            let kind = loop {
                let line = self.line()?;
                if let Some(kind) =
                    line.strip_prefix(b"-----BEGIN ").and_then(|rest| rest.strip_suffix(b"-----"))
                {
                    break String::from_utf8_lossy(kind).into_owned();
                }
            };
            let end = format!("-----END {kind}-----");
            let (start, mut text) = (self.0, Vec::new());
            let is_whole = loop {
                match self.line() {
                    Some(line) if line == end.as_bytes() => break true,
                    Some(line) if line.starts_with(b"-----") => break false,
                    // A header, such as that of an encrypted key.
                    Some(line) if line.contains(&b':') => {}
                    Some(line) => text.extend(line.iter().filter(|b| !b.is_ascii_whitespace())),
                    None => break false,
                }
            };
            match BASE64.decode(&text) {
                Ok(der) if is_whole => return Some(Block { kind, der }),
                // Perhaps another begins inside of it.
                _ => self.0 = start,
            }
        }
    }
}

impl<'a> Blocks<'a> {
    /// The next line without what surrounds it.
    fn line(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match self.0.iter().position(|b| *b == b'\n') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line.trim_ascii_end())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;

    #[test]
    fn what_serves_together_and_what_does_not() {
        let made = generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let other = KeyPair::generate().unwrap().serialize_pem();
        let other_kind = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let cert_521 =
            rcgen::CertificateParams::new(vec!["b".to_owned()]).unwrap().self_signed(&p521).unwrap();
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let said = |cert: &str, key: &str| check(cert.as_bytes(), key.as_bytes()).err().unwrap_or_default();
        assert_eq!(said(&cert, &key), "");
        assert_eq!(said(&format!("a comment\n{cert}{cert}"), &format!("{parameters}{key}")), "");
        assert_eq!(said(&cert.replace('\n', "\r\n"), &key.replace('\n', "\r\n")), "");
        assert_eq!(said(&cert_521.pem(), &p521.serialize_pem()), "");
        assert_eq!(said(&cert, &other), "tls: private key does not match public key");
        assert_eq!(said(&cert, &other_kind), "tls: private key type does not match public key type");
        assert_eq!(said("x", &key), "tls: failed to find any PEM data in certificate input");
        assert_eq!(said(&cert, "x"), "tls: failed to find any PEM data in key input");
        assert_eq!(
            said(&key, &cert),
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
        );
        assert_eq!(
            said(&cert, &cert),
            "tls: found a certificate rather than a key in the PEM for the private key"
        );
        assert_eq!(
            said(&cert, parameters),
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [EC PARAMETERS]"
        );
        let junk = |kind: &str| format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n");
        assert_eq!(said(&junk("CERTIFICATE"), &key), "x509: malformed certificate");
        assert_eq!(said(&cert, &junk("PRIVATE KEY")), "tls: failed to parse private key");
        assert_eq!(certificates(format!("{}{cert}{key}{cert}", junk("X")).as_bytes()).len(), 2);
        // What begins inside of what does not end.
        assert_eq!(said(&format!("-----BEGIN CERTIFICATE-----\nMAA=\n{cert}"), &key), "");
    }
}
