//! Requests signed for Amazon's services.
//!
//! Keys stand in the configuration, in the environment or in a shared credentials file; they are looked for once, when
//! the signer is made. Nobody's metadata is asked, and roles are assumed elsewhere or not at all.
//!
//! Compat: AWS Signature Version 4; prometheus/sigv4, `NewSigV4RoundTripper`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use aws_lc_rs::{digest, hmac};
use config::Secret;
use config::http_client::sigv4::Sigv4;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, header};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::quote::hex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Position, Url};

/// The managed Prometheus, whose Alertmanager asks for signatures.
const SERVICE_DEFAULT: &str = "aps";

/// What stands for itself in a path that is signed.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Signs requests of one section.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Keys,
    region: String,
    service: String,
}

#[derive(Clone, Debug)]
pub struct Keys {
    pub access_key: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Signer {
    /// # Errors
    /// No keys or no region are found, or a role is to be assumed.
    pub fn new(config: &Sigv4) -> anyhow::Result<Self> {
        if !config.role_arn.is_empty() {
            bail!("sigv4: assuming a role ({}) is not supported yet", config.role_arn);
        }
        let keys = Keys::find(config)?;
        let region = Some(config.region.clone()).filter(|region| !region.is_empty());
        let region = region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let service = if config.service_name.is_empty() { SERVICE_DEFAULT } else { &config.service_name };
        Ok(Self {
            keys,
            region: region.context("region not configured in sigv4 or in default credentials chain")?,
            service: service.to_owned(),
        })
    }

    pub fn with(keys: Keys, region: &str, service: &str) -> Self {
        Self { keys, region: region.to_owned(), service: service.to_owned() }
    }

    /// Adds the time and the signature to `headers`, all of which are signed.
    ///
    /// # Errors
    /// The keys cannot be sent in a header.
    pub fn sign(
        &self,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        headers.insert(HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&time)?);
        if let Some(token) = &self.keys.session_token {
            headers.insert(HeaderName::from_static("x-amz-security-token"), secret(token.expose())?);
        }
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let mut signed = vec![(header::HOST.as_str(), host.to_owned())];
        for (name, value) in &*headers {
            signed.push((name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned()));
        }
        signed.sort();
        let names: Vec<_> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String =
            signed.iter().flat_map(|(name, value)| [*name, ":", value.as_str(), "\n"]).collect();
        let mut query: Vec<_> =
            url.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()).collect();
        query.sort_unstable();
        let request = format!(
            "{method}\n{}\n{}\n{lines}\n{names}\n{}",
            utf8_percent_encode(url.path(), PATH),
            query.join("&"),
            hash(body)
        );
        let scope = format!("{}/{}/{}/aws4_request", &time[..8], self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(request.as_bytes()));
        let first = format!("AWS4{}", self.keys.secret_key.expose()).into_bytes();
        let key = scope.split('/').fold(first, |key, part| mac(&key, part));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.keys.access_key,
            hex(&mac(&key, &text))
        );
        headers.insert(AUTHORIZATION, secret(&value)?);
        Ok(())
    }
}

impl Keys {
    /// The keys of the configuration or of its surroundings. Reads a file.
    ///
    /// # Errors
    /// There are none.
    pub fn find(config: &Sigv4) -> anyhow::Result<Self> {
        if config.access_key.is_empty() {
            return Self::of_surroundings(&config.profile, variable)
                .context("could not get SigV4 credentials");
        }
        let secret_key = config.secret_key.clone();
        Ok(Self { access_key: config.access_key.clone(), secret_key, session_token: None })
    }

    /// From the environment or a file; a profile that is named goes before the environment.
    fn of_surroundings(profile: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        if profile.is_empty()
            && let (Some(access_key), Some(secret_key)) =
                (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            let session_token = variable("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok(Self { access_key, secret_key: Secret::new(secret_key), session_token });
        }
        let home = || variable("HOME").map(|home| Path::new(&home).join(".aws").join("credentials"));
        let path = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(home);
        let path = path.context("none in the configuration or the environment, and no home to look in")?;
        let named = Some(profile.to_owned()).filter(|name| !name.is_empty());
        let profile = named.or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned());
        let text = std::fs::read_to_string(&path);
        text.ok().and_then(|text| Self::of_file(&text, &profile)).with_context(|| {
            format!(
                "none in the configuration, the environment or the profile {profile} of {}",
                path.display()
            )
        })
    }

    /// The section `[profile]` of a shared credentials file.
    fn of_file(text: &str, profile: &str) -> Option<Self> {
        let mut is_ours = false;
        let (mut access_key, mut secret_key, mut session_token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                is_ours = name.trim() == profile;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_ours) {
                let value = value.trim();
                match key.trim() {
                    "aws_access_key_id" => access_key = Some(value.to_owned()),
                    "aws_secret_access_key" => secret_key = Some(Secret::new(value)),
                    "aws_session_token" => session_token = Some(Secret::new(value)),
                    _ => {}
                }
            }
        }
        Some(Self { access_key: access_key?, secret_key: secret_key?, session_token })
    }
}

fn secret(text: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok().context("the AWS keys cannot be sent in a header")?;
    value.set_sensitive(true);
    Ok(value)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Sigv4 {
        Sigv4 {
            region: "us-east-1".to_owned(),
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            service_name: "service".to_owned(),
            ..Sigv4::default()
        }
    }

    fn signed(signer: &Signer, method: &Method, headers: &mut HeaderMap, body: &[u8]) -> String {
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        signer.sign(method, &url, headers, body, "2015-08-30T12:36:00Z".parse().unwrap()).unwrap();
        headers[AUTHORIZATION].to_str().unwrap().rsplit_once("SignedHeaders=").unwrap().1.to_owned()
    }

    /// Examples that Amazon has published with their signatures.
    #[test]
    fn requests_are_signed_as_amazon_says() {
        let signer = Signer::new(&config()).unwrap();
        assert_eq!(
            signed(&signer, &Method::GET, &mut HeaderMap::new(), b""),
            "host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        assert_eq!(
            signed(
                &signer,
                &Method::POST,
                &mut HeaderMap::from_iter([(header::CONTENT_TYPE, form)]),
                b"Param1=value1"
            ),
            "content-type;host;x-amz-date, Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn a_role_is_refused_and_secrets_stay_hidden() {
        let role = Sigv4 { role_arn: "arn:aws:iam::1:role/x".to_owned(), ..config() };
        assert!(Signer::new(&role).unwrap_err().to_string().contains("not supported yet"));
        assert!(!format!("{:?}", Signer::new(&config()).unwrap()).contains("wJalr"));
    }

    #[test]
    fn keys_come_from_the_environment_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        let text = "[default]\naws_access_key_id = A\n[ops]\naws_access_key_id=B\n# no\naws_secret_access_key = s=1\naws_session_token = t\n";
        std::fs::write(dir.path().join(".aws/credentials"), text).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let find = |profile: &str, more: &[(&str, &str)]| {
            let keys = Keys::of_surroundings(profile, |name| {
                let known = more.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
                known.or_else(|| (name == "HOME").then(|| home.clone()))
            });
            keys.map(|keys| {
                (keys.access_key, keys.secret_key.expose().to_owned(), keys.session_token.is_some())
            })
        };
        let named = |key: &str, secret: &str, has_token| (key.to_owned(), secret.to_owned(), has_token);
        let environment = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "e")];
        assert_eq!(find("", &environment).unwrap(), named("E", "e", false));
        assert_eq!(find("ops", &environment).unwrap(), named("B", "s=1", true));
        assert_eq!(find("", &[("AWS_PROFILE", "ops")]).unwrap(), named("B", "s=1", true));
        let error = find("", &[]).unwrap_err().to_string();
        assert!(error.contains("profile default"), "{error}");
    }
}
