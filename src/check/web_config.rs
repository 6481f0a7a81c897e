//! `ferula check web-config`: the file that says how the server itself is protected.
//!
//! Compat: prometheus `cmd/promtool/main.go`, `CheckWebConfig`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Outcome, Streams, existing_file};
use crate::http_client;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The config files to check.
    #[arg(value_name = "web-config-files", required = true, value_parser = existing_file)]
    files: Vec<PathBuf>,
}

pub(super) fn run(options: &Options, streams: &mut Streams<'_>) -> io::Result<Outcome> {
    let mut outcome = Outcome::Passed;
    for file in &options.files {
        match config::web::load(file, &check_pair) {
            Ok(_) => writeln!(streams.err, "{} SUCCESS", file.display())?,
            Err(e) => {
                outcome = Outcome::Failed;
                for problem in e.problems() {
                    let place = match problem.line {
                        0 => String::new(),
                        line => format!("{line}:{}: ", problem.column),
                    };
                    writeln!(streams.err, "{} FAILED: {place}{}", file.display(), problem.message)?;
                }
            }
        }
    }
    Ok(outcome)
}

/// Compat: Go `crypto/tls`, `X509KeyPair`.
fn check_pair(cert: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("tls: failed to read the certificate: {e}"))?;
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => key,
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            return Err("tls: failed to find any PEM data in key input".to_owned());
        }
        Err(e) => return Err(format!("tls: failed to read the private key: {e}")),
    };
    let provider = http_client::provider();
    let key = provider.key_provider.load_private_key(key).map_err(|e| format!("tls: {e}"))?;
    match rustls::sign::CertifiedKey::new(chain, Arc::clone(&key)).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("tls: private key does not match public key".to_owned())
        }
        Err(e) => Err(format!("tls: {e}")),
    }
}
