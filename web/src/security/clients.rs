//! Certificates of clients: which are asked for, and whose are good.
//!
//! Compat: Go `crypto/tls`, `ClientAuthType`; prometheus/exporter-toolkit `VerifyPeerCertificate`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use config::web::{ClientAuth, ServerTls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Version};

use super::pair;

/// What judges the certificates of clients; `None` if they are not asked for any.
///
/// # Errors
/// The certificates of the authority cannot be used.
pub(super) fn verifier(
    tls: &ServerTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if tls.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let mut clients = Clients {
        policy: tls.client_auth,
        provider: Arc::clone(provider),
        chain: None,
        authorities: Vec::new(),
        names: tls.client_allowed_sans.clone(),
    };
    if clients.verifies() {
        let mut roots = RootCertStore::empty();
        match &tls.client_ca {
            Some(pem) => {
                clients.authorities = pair::certificates(&pem.0);
                roots.add_parsable_certificates(clients.authorities.iter().cloned());
            }
            // Whoever one of the system's authorities knows.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if !roots.is_empty() {
            let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            clients.chain = Some(chain.build().map_err(|e| e.to_string())?);
        }
    }
    Ok(Some(Arc::new(clients)))
}

#[derive(Debug)]
struct Clients {
    policy: ClientAuth,
    provider: Arc<CryptoProvider>,
    /// `None` if there is no authority to believe, so that nobody can be verified.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// As configured.
    authorities: Vec<CertificateDer<'static>>,
    /// One of them must be in a certificate.
    names: Option<Vec<String>>,
}

impl Clients {
    fn verifies(&self) -> bool {
        matches!(self.policy, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify)
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some(chain) = &self.chain else { return Err(CertificateError::UnknownIssuer.into()) };
        if let Some(cert) = first_version(end_entity) {
            return self.verify_first_version(&cert, now);
        }
        match chain.verify_client_cert(end_entity, intermediates, now) {
            Ok(_) => Ok(()),
            // A self-signed certificate that may sign others is good in Go if it is one of the authorities; webpki says
            // this of it after it has looked at its dates.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string().contains("CaUsedAsEndEntity")
                    && self.authorities.iter().any(|authority| authority == end_entity) =>
            {
                Ok(())
            }
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if is_self_signed(end_entity) => {
                Err(CertificateError::UnknownIssuer.into())
            }
            Err(e) => Err(e),
        }
    }

    /// Verifies what an authority has signed itself without extensions: `openssl x509 -req` makes such, Go takes them, and
    /// webpki does not read them.
    fn verify_first_version(&self, cert: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let is_valid = |cert: &X509Certificate<'_>| {
            let validity = cert.validity();
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        };
        if !is_valid(cert) {
            return Err(CertificateError::Expired.into());
        }
        let has_signed = |authority: &X509Certificate<'_>| {
            let signs_clients = authority
                .extended_key_usage()
                .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.any || usage.value.client_auth));
            authority.subject().as_raw() == cert.issuer().as_raw()
                && (authority.version() != X509Version::V3 || authority.is_ca())
                && authority
                    .key_usage()
                    .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
                && signs_clients
                && is_valid(authority)
                && verifies(
                    self.provider.signature_verification_algorithms.all,
                    authority,
                    cert.tbs_certificate.as_ref(),
                    &cert.signature_value.data,
                )
        };
        let parsed =
            |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok_and(|(_, ca)| has_signed(&ca));
        if self.authorities.iter().any(parsed) { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }
}

fn is_self_signed(cert: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(cert).is_ok_and(|(_, cert)| cert.subject().as_raw() == cert.issuer().as_raw())
}

/// The certificate, if it is of X.509's first version.
fn first_version<'a>(cert: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    (cert.version() == X509Version::V1).then_some(cert)
}

/// Whether the key of `signer` made `signature` by one of `algorithms`.
fn verifies(
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    signer: &X509Certificate<'_>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = &signer.public_key().subject_public_key.data;
    algorithms.iter().any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        matches!(self.policy, ClientAuth::RequireAny | ClientAuth::RequireAndVerify) || self.names.is_some()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.verifies() {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.names {
            let names = names(end_entity).map_err(|text| other(&text))?;
            if !names.iter().any(|name| allowed.contains(name)) {
                // Upstream shows what it wanted to find, too.
                let allowed = allowed.join(" ");
                return Err(other(&format!(
                    "could not find allowed SANs in client cert, found: [{allowed}]"
                )));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Some(cert) = first_version(cert) {
            let known = self.provider.signature_verification_algorithms.mapping.iter();
            let of_scheme = known.filter(|(scheme, _)| *scheme == dss.scheme);
            let is_good = of_scheme
                .flat_map(|(_, all)| *all)
                .any(|one| verifies(&[*one], &cert, message, dss.signature()));
            return if is_good {
                Ok(HandshakeSignatureValid::assertion())
            } else {
                Err(CertificateError::BadSignature.into())
            };
        }
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Some(cert) = first_version(cert) {
            let key = SubjectPublicKeyInfoDer::from(cert.public_key().raw);
            let known = &self.provider.signature_verification_algorithms;
            return verify_tls13_signature_with_raw_key(message, &key, dss, known);
        }
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn other(text: &str) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::from(Box::<
        dyn std::error::Error + Send + Sync,
    >::from(text)))))
}

/// All alternative names of a certificate: DNS names, mail addresses, IP addresses and URIs.
fn names(cert: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let malformed = |e: String| format!("error parsing client certificate: {e}");
    let (_, cert) = X509Certificate::from_der(cert).map_err(|e| malformed(e.to_string()))?;
    let found = cert.subject_alternative_name().map_err(|e| malformed(e.to_string()))?;
    let names = found.map(|found| found.value.general_names.iter().filter_map(name).collect());
    Ok(names.unwrap_or_default())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            let v6 =
                || <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_canonical().to_string());
            v4.or_else(|_| v6()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_of_every_kind() {
        let mut params = CertificateParams::new(vec!["a.test".to_owned(), "10.1.2.3".to_owned()]).unwrap();
        params.subject_alt_names.extend([
            SanType::Rfc822Name("me@a.test".try_into().unwrap()),
            SanType::URI("spiffe://a.test/x".try_into().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ]);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let expected = ["a.test", "10.1.2.3", "me@a.test", "spiffe://a.test/x", "2001:db8::1"];
        assert_eq!(names(cert.der()).unwrap(), expected);
        let none = CertificateParams::default().self_signed(&key).unwrap();
        assert_eq!(names(none.der()).unwrap(), Vec::<String>::new());
        assert!(
            names(&CertificateDer::from(vec![1, 2, 3])).unwrap_err().starts_with("error parsing client cert")
        );
    }
}
