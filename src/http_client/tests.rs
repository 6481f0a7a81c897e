//! Credentials, and a client over loopback.

use config::Secret;
use config::http_client::{Authorization, BasicAuth};

use super::*;

#[test]
fn credentials_in_files_are_read_at_each_use() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = HttpClient {
        authorization: Some(Authorization {
            kind: "Bearer".to_owned(),
            credentials: SecretSource::File(file.path().to_owned()),
        }),
        ..HttpClient::default()
    };
    let headers = Headers::new(&config).unwrap();
    for token in ["one", "two"] {
        std::fs::write(file.path(), format!(" {token}\n")).unwrap();
        let value = headers.authorization().unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
        assert!(value.is_sensitive());
    }
}

#[test]
fn basic_credentials_are_encoded() {
    let config = HttpClient {
        basic_auth: Some(BasicAuth {
            username: TextSource::Inline("u".to_owned()),
            password: SecretSource::Inline(Secret::new("p")),
        }),
        ..HttpClient::default()
    };
    let value = Headers::new(&config).unwrap().authorization().unwrap().unwrap();
    assert_eq!(value.to_str().unwrap(), "Basic dTpw");
    assert!(Client::new(&config, Duration::from_secs(1)).is_ok());
}

#[test]
fn a_missing_file_is_told_by_name() {
    let tls = Tls { ca: Some(TextSource::File(PathBuf::from("/nowhere/ca.pem"))), ..Tls::default() };
    let error = TlsSource::new(tls, &[]).current().unwrap_err().to_string();
    assert!(error.starts_with("unable to read CA certificate file /nowhere/ca.pem: "), "{error}");
}
