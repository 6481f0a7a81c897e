//! Calls of Amazon's services in the query protocol, signed, with a role assumed where the configuration has one.
//!
//! Compat: what Amazon's library makes of `sigv4` in alertmanager `notify/sns` (0.34).

use config::Secret;
use config::http_client::sigv4::Sigv4;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use url::Url;

use super::Failure;
use super::exchange::{Exchange, form, shown};
use crate::http_client::sigv4::{Keys, Signer};

/// The keys that `sigv4` leads to, its role assumed.
pub(super) async fn keys(sigv4: &Sigv4, region: &str, exchange: Exchange<'_>) -> Result<Keys, Failure> {
    let found = tokio::task::spawn_blocking({
        let sigv4 = sigv4.clone();
        move || Keys::find(&sigv4)
    });
    // A file may come, or come back.
    let keys = found.await.map_err(|error| Failure::again(error.to_string()))?;
    let keys = keys.map_err(|error| Failure::again(format!("find AWS credentials: {error:#}")))?;
    if sigv4.role_arn.is_empty() {
        return Ok(keys);
    }
    assume(&keys, sigv4, region, exchange).await
}

async fn assume(keys: &Keys, sigv4: &Sigv4, region: &str, exchange: Exchange<'_>) -> Result<Keys, Failure> {
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
    let body = post(&url, &pairs, keys, region, "sts", exchange).await;
    let body = body.map_err(|failure| failure.within(&format!("assume role {}", sigv4.role_arn)))?;
    let of = |name| element(&body, name);
    match (of("AccessKeyId"), of("SecretAccessKey"), of("SessionToken")) {
        (Some(access_key), Some(secret), token) => {
            Ok(Keys { access_key, secret_key: Secret::new(secret), session_token: token.map(Secret::new) })
        }
        _ => Err(Failure::again(format!("assume role {}: the answer has no keys", sigv4.role_arn))),
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
    let signer = Signer::with(keys.clone(), region, service);
    let signed = signer.sign(&Method::POST, url, &mut headers, &body, Timestamp::now());
    signed.map_err(|error| Failure::last(format!("{error:#}")))?;
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

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn texts_are_taken_from_answers() {
        let xml = "<ErrorResponse><Error><Code>Bad</Code><Message>a &lt;b&gt; &amp;lt;</Message></Error></ErrorResponse>";
        assert_eq!(element(xml, "Message").as_deref(), Some("a <b> &lt;"));
        assert_eq!(element(xml, "None"), None);
        assert_eq!(element("<Message>cut", "Message"), None);
    }
}
