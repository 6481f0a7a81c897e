//! Tokens by hand: what answers mean, and what an assertion says.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair as _;
use http::StatusCode;

use super::*;

fn answer(status: u16, kind: &'static str, body: &str) -> Result<Token, String> {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
    let head = Head { status: StatusCode::from_u16(status).unwrap(), headers };
    token(&head, body.as_bytes()).map_err(|error| error.to_string())
}

#[tokio::test(start_paused = true)]
async fn answers() {
    let json = "application/json";
    let told = |token: &Token| {
        let seconds = |at: Option<Instant>| at.map(|at| (at - Instant::now()).as_secs());
        (token.header.to_str().unwrap().to_owned(), seconds(token.renew_at), seconds(token.expires_at))
    };
    let of = |body| told(&answer(200, json, body).unwrap());
    assert_eq!(of(r#"{"access_token": "t"}"#), ("Bearer t".to_owned(), None, None));
    assert_eq!(
        of(r#"{"access_token": "t", "token_type": "bearer", "expires_in": 300}"#),
        ("Bearer t".to_owned(), Some(270), Some(300))
    );
    assert_eq!(
        of(r#"{"access_token": "t", "token_type": "Own", "expires_in": "3600"}"#),
        ("Own t".to_owned(), Some(3540), Some(3600))
    );
    assert_eq!(of(r#"{"access_token": "t", "expires_in": 5}"#).1, Some(0));
    let form = answer(201, "text/plain; charset=utf-8", "access_token=a%20b&expires_in=20").unwrap();
    assert_eq!(told(&form), ("Bearer a b".to_owned(), Some(10), Some(20)));

    let refused = |status, body| answer(status, json, body).err().unwrap();
    assert_eq!(refused(200, "{}"), "oauth2: server response missing access_token");
    assert_eq!(
        refused(400, r#"{"error": "invalid_client", "error_description": "who?"}"#),
        r#"oauth2: "invalid_client" "who?""#
    );
    assert_eq!(refused(503, "client_secret=hidden"), "oauth2: cannot fetch token: 503 Service Unavailable");
    let shown = refused(200, "client_secret=hidden");
    assert!(shown.starts_with("oauth2: cannot parse json: ") && !shown.contains("hidden"), "{shown}");
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn tokens(key: String, algorithm: JwtAlgorithm, claims: &str) -> Tokens {
    Tokens::new(&Oauth2 {
        client_id: "me".to_owned(),
        client_secret: SecretSource::Inline(Secret::default()),
        grant: Grant::JwtBearer {
            key: SecretSource::Inline(Secret::new(key)),
            key_id: "k1".to_owned(),
            algorithm,
            iss: String::new(),
            audience: String::new(),
            claims: claims.to_owned(),
        },
        scopes: vec!["a".to_owned(), "b".to_owned()],
        token_url: "http://127.0.0.1:1/token".to_owned(),
        endpoint_params: BTreeMap::new(),
        tls: config::http_client::Tls::default(),
        proxy: config::http_client::Proxy::default(),
        printed: config::http_client::Printed::default(),
    })
    .unwrap()
}

#[test]
fn assertions_are_signed() {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let key = pem("PRIVATE KEY", pair.as_der().unwrap().as_ref());
    let algorithms: [(_, &'static signature::RsaParameters, _); 3] = [
        (JwtAlgorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256, "RS256"),
        (JwtAlgorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384, "RS384"),
        (JwtAlgorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512, "RS512"),
    ];
    for (algorithm, verification, name) in algorithms {
        let jwt = tokens(key.clone(), algorithm, r#"{"x": 1}"#).assertion(&Secret::new(key.clone())).unwrap();
        let parts: Vec<&str> = jwt.split('.').collect();
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let json = |text: &str| serde_json::from_slice::<Value>(&decode(text)).unwrap();
        assert_eq!(json(parts[0]), json!({ "alg": name, "typ": "JWT", "kid": "k1" }));
        let claims = json(parts[1]);
        assert_eq!(claims["iss"], "me");
        assert_eq!(claims["sub"], "me");
        assert_eq!(claims["aud"], "http://127.0.0.1:1/token");
        assert_eq!(claims["scope"], "a b");
        assert_eq!(claims["x"], 1);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
        assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
        let public = signature::UnparsedPublicKey::new(verification, pair.public_key().as_ref());
        public.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &decode(parts[2])).unwrap();
    }
}

#[test]
fn bad_keys_are_refused_without_being_shown() {
    for key in ["", "hidden", "-----BEGIN PRIVATE KEY-----\naGlkZGVu\n-----END PRIVATE KEY-----\n"] {
        let error = tokens(key.to_owned(), JwtAlgorithm::Rs256, "").assertion(&Secret::new(key)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("unable to use specified oauth2 client certificate key: it is no"),
            "{text}"
        );
    }
}
