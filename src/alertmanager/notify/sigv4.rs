//! Requests signed for Amazon's services, and where the keys come from.
//!
//! Keys stand in the configuration, in the environment or in a shared credentials file; a role is assumed with them.
//! Neither the metadata of a machine nor of a container is asked.
//!
//! Compat: AWS Signature Version 4.

use std::path::PathBuf;

use aws_lc_rs::{digest, hmac};
use config::Secret;
use config::http_client::sigv4::Sigv4;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{HeaderMap as Headers, Method};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::quote::hex;
use url::{Position, Url};

use super::Failure;
use super::exchange::{Exchange, form, shown};

const SECURITY_TOKEN: &str = "x-amz-security-token";

/// What a request is signed with.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) session_token: Option<Secret>,
}

impl Keys {
    /// The keys that `sigv4` leads to, its role assumed.
    pub(super) async fn find(sigv4: &Sigv4, region: &str, exchange: Exchange<'_>) -> Result<Self, Failure> {
        let keys = if sigv4.access_key.is_empty() {
            tokio::task::spawn_blocking({
                let profile = sigv4.profile.clone();
                move || Self::of_surroundings(&profile)
            })
            .await
            .map_err(|error| Failure::again(error.to_string()))??
        } else {
            Self {
                access_key: sigv4.access_key.clone(),
                secret_key: sigv4.secret_key.clone(),
                session_token: None,
            }
        };
        if sigv4.role_arn.is_empty() {
            return Ok(keys);
        }
        keys.assume(sigv4, region, exchange).await
    }

    /// From the environment or a file; a profile that is named goes before the environment.
    fn of_surroundings(profile: &str) -> Result<Self, Failure> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if profile.is_empty()
            && let (Some(access_key), Some(secret)) = (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY"))
        {
            let session_token = var("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok(Self { access_key, secret_key: Secret::new(secret), session_token });
        }
        let home = || var("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
        let path = var("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(home);
        let named = Some(profile.to_owned()).filter(|name| !name.is_empty());
        let profile = named.or_else(|| var("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned());
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        Self::of_file(&text, &profile).ok_or_else(|| {
            let path = path.unwrap_or_default();
            Failure::again(format!(
                "find AWS credentials: none in the configuration, the environment or profile {profile} of {}",
                path.display()
            ))
        })
    }

    /// The section `[profile]` of a shared credentials file.
    fn of_file(text: &str, profile: &str) -> Option<Self> {
        let mut is_ours = false;
        let (mut access_key, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                is_ours = name.trim() == profile;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_ours) {
                let value = Some(value.trim().to_owned());
                match key.trim() {
                    "aws_access_key_id" => access_key = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        let (access_key, secret_key) = (access_key?, Secret::new(secret?));
        Some(Self { access_key, secret_key, session_token: token.map(Secret::new) })
    }

    async fn assume(self, sigv4: &Sigv4, region: &str, exchange: Exchange<'_>) -> Result<Self, Failure> {
        let mut pairs = vec![
            ("Action".to_owned(), "AssumeRole".to_owned()),
            ("DurationSeconds".to_owned(), "900".to_owned()),
            ("RoleArn".to_owned(), sigv4.role_arn.clone()),
            ("RoleSessionName".to_owned(), format!("ferula-{}", Timestamp::now().as_millisecond())),
            ("Version".to_owned(), "2011-06-15".to_owned()),
        ];
        if !sigv4.external_id.is_empty() {
            pairs.insert(2, ("ExternalId".to_owned(), sigv4.external_id.clone()));
        }
        let kind = if sigv4.use_fips_sts_endpoint { "sts-fips" } else { "sts" };
        let url = endpoint(kind, region)?;
        let body = post(&url, &pairs, &self, region, "sts", exchange).await;
        let body = body.map_err(|failure| failure.within(&format!("assume role {}", sigv4.role_arn)))?;
        let of = |name| element(&body, name);
        match (of("AccessKeyId"), of("SecretAccessKey"), of("SessionToken")) {
            (Some(access_key), Some(secret), token) => Ok(Self {
                access_key,
                secret_key: Secret::new(secret),
                session_token: token.map(Secret::new),
            }),
            _ => Err(Failure::again(format!("assume role {}: the answer has no keys", sigv4.role_arn))),
        }
    }
}

/// Where a service is in a region.
pub(super) fn endpoint(service: &str, region: &str) -> Result<Url, Failure> {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    super::exchange::parse(&format!("https://{service}.{region}.amazonaws.com{suffix}/"))
}

/// Calls an action of a service in the query protocol; the answer is XML.
pub(super) async fn post(
    url: &Url,
    pairs: &[(String, String)],
    keys: &Keys,
    region: &str,
    service: &str,
    exchange: Exchange<'_>,
) -> Result<String, Failure> {
    let body = form(pairs).into_bytes();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
    sign(&mut headers, &Method::POST, url, &body, keys, (region, service), Timestamp::now())?;
    let mut answer = exchange.ask(Method::POST, url.clone(), headers, Some(body)).await?;
    let detail = |_, body: &[u8]| {
        let text = shown(body);
        element(&text, "Message").unwrap_or_default()
    };
    answer.check_with(&[], detail).await?;
    Ok(shown(&answer.body().await?))
}

/// The text of the first element of a name. The answers have no attributes and no markup in their texts.
fn element(xml: &str, name: &str) -> Option<String> {
    let begin = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let end = begin + xml[begin..].find(&format!("</{name}>"))?;
    let text = xml[begin..end].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Some(text.replace("&apos;", "'").replace("&amp;", "&"))
}

/// Adds the time and the signature to the headers of a request; all that are there already are signed.
pub(super) fn sign(
    headers: &mut Headers,
    method: &Method,
    url: &Url,
    body: &[u8],
    keys: &Keys,
    (region, service): (&str, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    let bad = || Failure::last("the AWS keys cannot be sent in a header");
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    headers.insert(HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&time).map_err(|_| bad())?);
    if let Some(token) = &keys.session_token {
        let mut value = HeaderValue::from_str(token.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(SECURITY_TOKEN), value);
    }
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let mut signed: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned()))
        .collect();
    signed.push((HOST.to_string(), host.to_owned()));
    signed.sort();
    let names: Vec<_> = signed.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = signed.iter().flat_map(|(name, value)| [name.as_str(), ":", value, "\n"]).collect();
    let mut query: Vec<_> = url.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()).collect();
    query.sort_unstable();
    let canonical = format!(
        "{method}\n{}\n{}\n{lines}\n{names}\n{}",
        super::exchange::path_escape(url.path()),
        query.join("&"),
        hex(digest::digest(&digest::SHA256, body).as_ref())
    );
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let key = format!("AWS4{}", keys.secret_key.expose());
    let key = [date, region, service, "aws4_request"]
        .into_iter()
        .fold(key.into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}")));
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access_key
    );
    let mut value = HeaderValue::from_str(&value).map_err(|_| bad())?;
    value.set_sensitive(true);
    headers.insert(http::header::AUTHORIZATION, value);
    Ok(())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

    use super::*;

    /// Examples that Amazon has published with their signatures.
    #[test]
    fn requests_are_signed_as_amazon_says() {
        let keys = Keys {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        let signed = |method: Method, mut headers: HeaderMap, body: &[u8]| {
            sign(&mut headers, &method, &url, body, &keys, ("us-east-1", "service"), now).unwrap();
            headers["authorization"].to_str().unwrap().to_owned()
        };
        assert_eq!(
            signed(Method::GET, HeaderMap::new(), b""),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        assert_eq!(
            signed(Method::POST, HeaderMap::from_iter([(CONTENT_TYPE, form)]), b"Param1=value1"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn keys_are_found_in_a_shared_file() {
        let text = "[default]\naws_access_key_id = A\n[ops]\naws_access_key_id=B\n# no\naws_secret_access_key = s=1\n\
                    aws_session_token = t\n";
        let keys = Keys::of_file(text, "ops").unwrap();
        assert_eq!((keys.access_key.as_str(), keys.secret_key.expose()), ("B", "s=1"));
        assert_eq!(keys.session_token.as_ref().map(Secret::expose), Some("t"));
        assert!(Keys::of_file(text, "default").is_none());
        assert!(Keys::of_file(text, "other").is_none());
    }

    #[test]
    fn texts_are_taken_from_answers() {
        let xml = "<ErrorResponse><Error><Code>Bad</Code><Message>a &lt;b&gt; &amp;lt;</Message></Error></ErrorResponse>";
        assert_eq!(element(xml, "Message").as_deref(), Some("a <b> &lt;"));
        assert_eq!(element(xml, "None"), None);
        assert_eq!(element("<Message>cut", "Message"), None);
    }
}
