//! Logging in at an SMTP server: the first mechanism of the server's own order that we have what it takes for.
//!
//! CRAM-MD5, PLAIN and LOGIN as upstream; XOAUTH2 and OAUTHBEARER with a token of ours in addition. A
//! password or token is not said in the clear by PLAIN and its like, except to this machine.
//!
//! Compat: alertmanager `notify/email`, `Email.auth` (0.34), Go `net/smtp`, `PlainAuth` and `CRAMMD5Auth`. A secret
//! from a file has no blanks around it, where upstream takes a line's end for a part of the one for CRAM-MD5.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use config::alertmanager::Email;
use config::http_client::SecretSource;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use model::quote::hex;

use crate::alertmanager::notify::Failure;

use super::session::{Cause, Fault, Reply, Session};

/// A server that asks more often has nothing good in mind.
const CHALLENGES_MAX: usize = 5;

/// What will be said, secrets and all.
enum Method {
    CramMd5 { username: String, secret: String },
    Plain { identity: String, username: String, password: String },
    Login { username: String, password: String },
    Xoauth2 { username: String, token: String },
    OauthBearer { username: String, token: String, host: String, port: String },
}

/// Logs in, where the configuration has a user and the server lets users log in.
pub(super) async fn authenticate(config: &Email, session: &mut Session) -> Result<(), Fault> {
    if config.auth_username.is_empty() {
        return Ok(());
    }
    let Some(mechanisms) = session.extension("AUTH") else {
        if config.extensions.is_auth_optional {
            return Ok(());
        }
        let message = format!("{:?} does not advertise the AUTH extension", config.smarthost);
        return Err(Fault::new(Cause::Unsuitable, message));
    };
    let mechanisms: Vec<_> = mechanisms.split_whitespace().map(str::to_ascii_uppercase).collect();
    let Some(method) = choose(config, session, &mechanisms).await? else { return Ok(()) };
    let name = method.name();
    let is_local = matches!(session.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    if method.is_readable() && !session.is_encrypted && !is_local {
        return Err(Fault::new(Cause::Login, format!("{name} auth: unencrypted connection")));
    }
    method.exchange(session).await
}

/// The first mechanism that we can use, in the server's order.
async fn choose(config: &Email, session: &Session, offered: &[String]) -> Result<Option<Method>, Fault> {
    let mut errors = Vec::new();
    let username = || config.auth_username.clone();
    for mechanism in offered {
        let found = match mechanism.as_str() {
            "CRAM-MD5" => secret(&config.auth_secret, "secret", mechanism)
                .await
                .map(|secret| Method::CramMd5 { username: username(), secret }),
            "PLAIN" => {
                let identity = config.auth_identity.clone();
                let password = secret(&config.auth_password, "password", mechanism).await;
                password.map(|password| Method::Plain { identity, username: username(), password })
            }
            "LOGIN" => secret(&config.auth_password, "password", mechanism)
                .await
                .map(|password| Method::Login { username: username(), password }),
            "XOAUTH2" | "OAUTHBEARER" if config.extensions.auth_token.is_some() => {
                let none = SecretSource::Inline(config::Secret::default());
                let source = config.extensions.auth_token.as_ref().unwrap_or(&none);
                let (host, port) = (session.host.clone(), session.port.clone());
                secret(source, "token", mechanism).await.map(|token| match mechanism.as_str() {
                    "XOAUTH2" => Method::Xoauth2 { username: username(), token },
                    _ => Method::OauthBearer { username: username(), token, host, port },
                })
            }
            unknown => Err(format!("unknown auth mechanism: {unknown}")),
        };
        match found {
            Ok(method) => return Ok(Some(method)),
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() {
        return Ok(None);
    }
    Err(Fault::new(Cause::Login, format!("find auth mechanism: {}", errors.join("; "))))
}

async fn secret(source: &SecretSource, what: &str, mechanism: &str) -> Result<String, String> {
    let text = read_secret(source).await.map_err(|failure| failure.message)?;
    if text.is_empty() {
        return Err(format!("missing {what} for {mechanism} auth mechanism"));
    }
    Ok(text)
}

/// The secret itself; a file is read at each use, so that it may be changed.
async fn read_secret(source: &SecretSource) -> Result<String, Failure> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.expose().to_owned()),
        SecretSource::File(path) => {
            let opened = path.clone();
            let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(opened)).await;
            let text = text.map_err(|e| Failure::again(e.to_string()))?;
            let text = text.map_err(|e| Failure::again(format!("could not read {}: {e}", path.display())))?;
            Ok(text.trim().to_owned())
        }
        SecretSource::Ref(_) => Err(Failure::last("cannot use secret ref without manager")),
    }
}

impl Method {
    const fn name(&self) -> &'static str {
        match self {
            Self::CramMd5 { .. } => "CRAM-MD5",
            Self::Plain { .. } => "PLAIN",
            Self::Login { .. } => "LOGIN",
            Self::Xoauth2 { .. } => "XOAUTH2",
            Self::OauthBearer { .. } => "OAUTHBEARER",
        }
    }

    /// Whether who listens learns the secret. Upstream says LOGIN to anybody.
    const fn is_readable(&self) -> bool {
        matches!(self, Self::Plain { .. } | Self::Xoauth2 { .. } | Self::OauthBearer { .. })
    }

    /// What goes along with AUTH.
    fn first(&self) -> Option<String> {
        match self {
            Self::Plain { identity, username, password } => {
                Some(format!("{identity}\0{username}\0{password}"))
            }
            Self::Xoauth2 { username, token } => {
                Some(format!("user={username}\x01auth=Bearer {token}\x01\x01"))
            }
            Self::OauthBearer { username, token, host, port } => {
                let user = username.replace('=', "=3D").replace(',', "=2C");
                Some(format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"))
            }
            Self::CramMd5 { .. } | Self::Login { .. } => None,
        }
    }

    /// What is answered to a challenge.
    fn answer(&self, challenge: &[u8]) -> Result<String, &'static str> {
        match self {
            Self::CramMd5 { username, secret } => {
                let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes())
                    .map_err(|_| "secret of an impossible length")?;
                mac.update(challenge);
                let digest = mac.finalize().into_bytes();
                Ok(format!("{username} {}", hex(&digest)))
            }
            Self::Login { username, password } => {
                // Upstream knows `Username:` alone; the older `User Name` with a NUL is about as common.
                let letters = challenge.iter().filter(|b| b.is_ascii_alphabetic());
                match letters.map(u8::to_ascii_lowercase).collect::<Vec<_>>().as_slice() {
                    b"username" => Ok(username.clone()),
                    b"password" => Ok(password.clone()),
                    _ => Err("unexpected server challenge"),
                }
            }
            Self::Plain { .. } => Err("unexpected server challenge"),
            // The server says in JSON why not, and wants an empty line before it refuses.
            Self::Xoauth2 { .. } => Ok(String::new()),
            Self::OauthBearer { .. } => Ok("\x01".to_owned()),
        }
    }

    async fn exchange(&self, session: &mut Session) -> Result<(), Fault> {
        let what = format!("{} auth", self.name());
        let mut line = format!("AUTH {}", self.name());
        if let Some(first) = self.first() {
            line.push(' ');
            line.push_str(&BASE64.encode(first));
        }
        for _ in 0..CHALLENGES_MAX {
            let reply = session.say(&what, &line).await?;
            match reply.code {
                235 => return Ok(()),
                334 => {}
                _ => return Err(judge(&what, &reply)),
            }
            let text = reply.lines.first().map(|line| line.trim()).unwrap_or_default();
            let answer = match BASE64.decode(text) {
                Ok(challenge) => self.answer(&challenge),
                Err(_) => Err("challenge is not base64"),
            };
            match answer {
                Ok(answer) => line = BASE64.encode(answer),
                Err(why) => {
                    let _ = session.say(&what, "*").await;
                    return Err(Fault::new(Cause::Login, format!("{what}: {why}")));
                }
            }
        }
        Err(Fault::new(Cause::Login, format!("{what}: too many challenges")))
    }
}

fn judge(what: &str, reply: &Reply) -> Fault {
    let message = format!("{what}: {}", reply.text());
    match reply.code {
        500.. => Fault::new(Cause::Login, message),
        code => Fault::new(Cause::Refused(code), message),
    }
}
