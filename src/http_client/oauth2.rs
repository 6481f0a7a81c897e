//! Tokens of OAuth 2: fetched from their server, kept, and renewed before they expire.
//!
//! A client has one token; whoever needs it while it is fetched waits for the one request. A server that refuses is not asked
//! again at once, since thousands of targets may want its token.
//!
//! Compat: prometheus/common `config`, `NewOAuth2RoundTripper`; Go `golang.org/x/oauth2` for the requests and what is read
//! from the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Secret;
use config::http_client::{Grant, HttpClient, JwtAlgorithm, Oauth2, SecretSource};
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded;

use super::headers::{basic_value, read_secret, sensitive};
use super::{Client, Error, Head};

/// No answer with a token is larger.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The longest that a token's server may take; whoever waits for the token may have less.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A token is renewed that long before it expires, or a tenth of its life if that is longer, up to a minute.
const EARLY_MIN: Duration = Duration::from_secs(10);
const EARLY_MAX: Duration = Duration::from_mins(1);

/// A server that has just refused is left alone for a moment.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a signed assertion is good for.
const ASSERTION_SECONDS: i64 = 600;

/// Where the tokens of one block come from.
pub(super) struct Tokens {
    config: Oauth2,
    url: Url,
    client: Client,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one that the token was got with; another asks for another token.
    secret: Option<Secret>,
    token: Option<Token>,
    refused: Option<(Instant, String)>,
    /// Whether the server wants the client's secret among the parameters, once that is known.
    in_parameters: Option<bool>,
}

struct Token {
    header: HeaderValue,
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
}

impl Tokens {
    pub(super) fn new(config: &Oauth2) -> Result<Self, Error> {
        let own = HttpClient {
            tls: config.tls.clone(),
            proxy: config.proxy.clone(),
            enable_http2: false,
            ..HttpClient::default()
        };
        if matches!(config.client_secret, SecretSource::Ref(_))
            || matches!(config.grant, Grant::JwtBearer { key: SecretSource::Ref(_), .. })
        {
            return Err(Error::NoSecretManager);
        }
        let url = Url::parse(&config.token_url)
            .map_err(|error| Error::Oauth2(format!("cannot parse token_url: {error}")))?;
        // Its files are read when a token is fetched: as upstream, they may come later than the configuration.
        let client = Client::unchecked(&own, TIMEOUT, None)?;
        Ok(Self { config: config.clone(), url, client, state: tokio::sync::Mutex::default() })
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// There is no token to be had.
    pub(super) async fn header(&self) -> Result<HeaderValue, Error> {
        let secret = match &self.config.grant {
            Grant::ClientCredentials => read_secret("oauth2 client secret", &self.config.client_secret)?,
            Grant::JwtBearer { key, .. } => read_secret("oauth2 client secret", key)?,
        };
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if state.secret.as_ref() != Some(&secret) {
            *state = State { secret: Some(secret.clone()), ..State::default() };
        }
        if let Some(token) = &state.token
            && token.renew_at.is_none_or(|at| now < at)
        {
            return Ok(token.header.clone());
        }
        let still_good = |state: &State| {
            let token = state.token.as_ref().filter(|token| token.expires_at.is_none_or(|at| now < at));
            token.map(|token| token.header.clone())
        };
        if let Some((at, error)) = &state.refused
            && now < *at + PAUSE
        {
            return still_good(&state).ok_or_else(|| Error::Oauth2(error.clone()));
        }
        // Boxed, because a request may need a token and a token needs a request.
        match Box::pin(self.fetch(&secret, &mut state.in_parameters)).await {
            Ok(token) => {
                let header = token.header.clone();
                state.token = Some(token);
                state.refused = None;
                Ok(header)
            }
            Err(error) => {
                let error = match error {
                    Error::Oauth2(text) => text,
                    other => other.to_string(),
                };
                state.refused = Some((Instant::now(), error.clone()));
                still_good(&state).ok_or(Error::Oauth2(error))
            }
        }
    }

    async fn fetch(&self, secret: &Secret, in_parameters: &mut Option<bool>) -> Result<Token, Error> {
        let config = &self.config;
        let mut form = BTreeMap::new();
        if let Grant::JwtBearer { .. } = &config.grant {
            form.insert("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned());
            form.insert("assertion", self.assertion(secret)?);
        } else {
            form.insert("grant_type", "client_credentials".to_owned());
        }
        if !config.scopes.is_empty() {
            form.insert("scope", config.scopes.join(" "));
        }
        for (name, value) in &config.endpoint_params {
            // Servers of their own mind want another type of grant.
            if name != "grant_type" && form.contains_key(name.as_str()) {
                return Err(Error::Oauth2(format!("oauth2: cannot overwrite parameter {name:?}")));
            }
            form.insert(name, value.clone());
        }
        if let Grant::JwtBearer { .. } = config.grant {
            return self.ask(&form, HeaderMap::new()).await;
        }
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, basic_value(&encoded(&config.client_id), &encoded(secret.expose()))?);
        let first = match in_parameters {
            Some(true) => None,
            _ => Some(self.ask(&form, headers).await),
        };
        match first {
            Some(Ok(token)) => {
                *in_parameters = Some(false);
                return Ok(token);
            }
            Some(Err(error)) if *in_parameters == Some(false) => return Err(error),
            _ => {}
        }
        // Servers that take the secret only among the parameters do not say so: the other way has to fail first.
        if !config.client_id.is_empty() {
            form.insert("client_id", config.client_id.clone());
        }
        if !secret.is_empty() {
            form.insert("client_secret", secret.expose().to_owned());
        }
        let token = self.ask(&form, HeaderMap::new()).await?;
        *in_parameters = Some(true);
        Ok(token)
    }

    async fn ask(&self, form: &BTreeMap<&str, String>, mut headers: HeaderMap) -> Result<Token, Error> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let request = self.client.request(Method::POST, self.url.clone())?.headers(headers).body(body);
        let (head, body) = request.read(ANSWER_BYTES_MAX).await?;
        token(&head, &body)
    }

    /// A JWT that says who we are, signed with the client's key.
    fn assertion(&self, key: &Secret) -> Result<String, Error> {
        let config = &self.config;
        let Grant::JwtBearer { key_id, algorithm, iss, audience, claims, key: source } = &config.grant else {
            return Err(Error::Oauth2("BUG: no assertion belongs to this grant".to_owned()));
        };
        let bad = |detail: &str| Error::Pem {
            what: "oauth2 client certificate key",
            path: match source {
                SecretSource::File(path) => path.clone(),
                SecretSource::Inline(_) | SecretSource::Ref(_) => std::path::PathBuf::new(),
            },
            detail: detail.to_owned(),
        };
        // What parsers say of keys is not repeated: it may show parts of them.
        let pair = match PrivateKeyDer::from_pem_slice(key.expose().as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(der)) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(der)) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(bad("it is no RSA key in PEM")),
        };
        let pair = pair.map_err(|_| bad("it is no RSA key of 2048 bits or more"))?;
        let (name, signing): (_, &'static dyn signature::RsaEncoding) = match algorithm {
            JwtAlgorithm::Rs256 => ("RS256", &signature::RSA_PKCS1_SHA256),
            JwtAlgorithm::Rs384 => ("RS384", &signature::RSA_PKCS1_SHA384),
            JwtAlgorithm::Rs512 => ("RS512", &signature::RSA_PKCS1_SHA512),
        };
        let mut header = json!({ "alg": name, "typ": "JWT" });
        if !key_id.is_empty() {
            header["kid"] = key_id.as_str().into();
        }
        let now = jiff::Timestamp::now().as_second();
        let or =
            |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let mut all = Map::new();
        all.insert("iss".to_owned(), or(iss, &config.client_id).into());
        all.insert("sub".to_owned(), config.client_id.as_str().into());
        all.insert("jti".to_owned(), random_id()?.into());
        all.insert("aud".to_owned(), or(audience, &config.token_url).into());
        all.insert("iat".to_owned(), now.into());
        all.insert("exp".to_owned(), (now + ASSERTION_SECONDS).into());
        if !config.scopes.is_empty() {
            all.insert("scope".to_owned(), config.scopes.join(" ").into());
        }
        if !claims.is_empty() {
            let more: Map<String, Value> = serde_json::from_str(claims)
                .map_err(|error| Error::Oauth2(format!("oauth2: claims are no JSON object: {error}")))?;
            all.extend(more);
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&Value::Object(all)));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(signing, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Error::Oauth2("oauth2: the assertion could not be signed".to_owned()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// 122 random bits in the form of a UUID of version 4.
fn random_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Oauth2("oauth2: the system has no random numbers".to_owned()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

/// What the server's answer says. Of a refusal only what is meant to be shown is shown: bodies may repeat secrets.
fn token(head: &Head, body: &[u8]) -> Result<Token, Error> {
    let media = head.content_type().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fields: Map<String, Value> =
        if matches!(media.as_str(), "application/x-www-form-urlencoded" | "text/plain") {
            let pairs = form_urlencoded::parse(body);
            pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
        } else {
            match serde_json::from_slice(body) {
                Ok(fields) => fields,
                Err(_) if !head.status.is_success() => Map::new(),
                Err(error) => {
                    let (line, column) = (error.line(), error.column());
                    return Err(Error::Oauth2(format!(
                        "oauth2: cannot parse json: the answer is no object at line {line}, column {column}"
                    )));
                }
            }
        };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    if !text("error").is_empty() {
        let parts = ["error", "error_description", "error_uri"].map(text);
        let quoted = parts.iter().filter(|part| !part.is_empty()).map(|part| format!(" {part:?}"));
        return Err(Error::Oauth2(format!("oauth2:{}", quoted.collect::<String>())));
    }
    if !head.status.is_success() {
        return Err(Error::Oauth2(format!("oauth2: cannot fetch token: {}", head.status)));
    }
    let access = text("access_token");
    if access.is_empty() {
        return Err(Error::Oauth2("oauth2: server response missing access_token".to_owned()));
    }
    let kind = match text("token_type") {
        kind if kind.eq_ignore_ascii_case("bearer") || kind.is_empty() => "Bearer",
        kind if kind.eq_ignore_ascii_case("mac") => "MAC",
        kind if kind.eq_ignore_ascii_case("basic") => "Basic",
        kind => kind,
    };
    // Some write the number as text.
    let seconds = match fields.get("expires_in") {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(number) => number.as_u64().unwrap_or(0),
        None => 0,
    };
    let life = (seconds > 0).then(|| Duration::from_secs(seconds.min(i32::MAX.unsigned_abs().into())));
    let now = Instant::now();
    Ok(Token {
        header: sensitive(&format!("{kind} {access}"), "oauth2 token")?,
        renew_at: life.map(|life| now + life.saturating_sub((life / 10).clamp(EARLY_MIN, EARLY_MAX))),
        expires_at: life.map(|life| now + life),
    })
}

#[cfg(test)]
mod tests;
