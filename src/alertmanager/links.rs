//! Signed links: what a click in a message may do, and nothing else, for a week.
//!
//! A token says what is to be done and carries a MAC over it; nobody who has no key can make or change one. Keys live in a
//! file of the data folder, are replaced every week and kept until all that they signed has expired. Whoever has the
//! message may use its links: that is their point. What a click does is decided elsewhere, after a confirmation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::clock::after;

/// How long a link works.
const LIFE: Duration = Duration::from_hours(7 * 24);
/// A key signs for so long; then another one does.
const KEY_LIFE: Duration = Duration::from_hours(7 * 24);
/// A token longer than this was not made here.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// The file of the keys in the data folder.
const FILE: &str = "link-keys.json";

/// What a link does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silencing {
    /// The labels that a silence must match, all of them.
    #[serde(rename = "m")]
    pub labels: BTreeMap<String, String>,
    #[serde(rename = "l")]
    pub length: Length,
    /// Who was sent the link.
    #[serde(rename = "r")]
    pub receiver: String,
    /// The clock of the mail; UTC where it is empty.
    #[serde(rename = "z", default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// How long a silence lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// Minutes from the click on.
    #[serde(rename = "m")]
    Minutes(u32),
    /// Until this second of the epoch.
    #[serde(rename = "u")]
    Until(i64),
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this link is damaged: it was not made by this server, or not all of it arrived")]
    Forged,
    #[error("this link has expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(flatten)]
    what: Silencing,
    /// The second from which on the link no longer works.
    #[serde(rename = "e")]
    expires: i64,
}

/// The keys as their file has them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Keys {
    /// Oldest first.
    keys: Vec<Key>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Key {
    id: u32,
    made_at: i64,
    /// In base64.
    secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("made_at", &self.made_at).finish_non_exhaustive()
    }
}

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Signer {
    path: Option<PathBuf>,
    keys: Mutex<Keys>,
}

impl Signer {
    /// With the keys of `dir`, or with keys that end with the process.
    ///
    /// # Errors
    /// The file of the keys is there but not readable.
    pub fn open(dir: Option<&Path>) -> std::io::Result<Self> {
        let path = dir.map(|dir| dir.join(FILE));
        let mut keys = Keys::default();
        if let Some(path) = &path {
            match std::fs::read(path) {
                Ok(text) => match serde_json::from_slice(&text) {
                    Ok(read) => keys = read,
                    // New keys only end the life of old links.
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "keys of links are not readable, making new ones");
                    }
                },
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self { path, keys: Mutex::new(keys) })
    }

    /// A token for `what`; `None` where no key can be made or kept.
    pub fn sign(&self, what: Silencing, now: Timestamp) -> Option<String> {
        let key = self.current(now)?;
        let payload = Payload { what, expires: after(now, LIFE).as_second() };
        let body = serde_json::to_vec(&payload).expect("a payload has string keys");
        let signed = format!("{}.{}", key.id, BASE64.encode(body));
        let mac = hmac::sign(&key.hmac()?, signed.as_bytes());
        // Half of it is more than anybody can guess, and links are long enough.
        Some(format!("{signed}.{}", BASE64.encode(&mac.as_ref()[..16])))
    }

    /// What a token asks for.
    ///
    /// # Errors
    /// It was not made here, was changed, or is too old.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Silencing, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Forged);
        }
        let (signed, mac) = token.rsplit_once('.').ok_or(Refused::Forged)?;
        let (id, body) = signed.split_once('.').ok_or(Refused::Forged)?;
        let id: u32 = id.parse().map_err(|_| Refused::Forged)?;
        let mac = BASE64.decode(mac).map_err(|_| Refused::Forged)?;
        let key = {
            let keys = self.keys.lock();
            // An unknown number is most likely that of a key whose links have all expired.
            match keys.keys.iter().find(|key| key.id == id) {
                Some(key) => key.hmac().ok_or(Refused::Forged)?,
                None => return Err(if keys.is_older(id) { Refused::Expired } else { Refused::Forged }),
            }
        };
        let expected = hmac::sign(&key, signed.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(&mac, &expected.as_ref()[..16])
            .map_err(|_| Refused::Forged)?;
        let payload: Payload = BASE64
            .decode(body)
            .ok()
            .and_then(|body| serde_json::from_slice(&body).ok())
            .ok_or(Refused::Forged)?;
        if payload.expires <= now.as_second() {
            return Err(Refused::Expired);
        }
        Ok(payload.what)
    }

    /// The key that signs now, made when it is time for another one.
    fn current(&self, now: Timestamp) -> Option<Key> {
        let mut keys = self.keys.lock();
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        if let Some(key) = keys.keys.last()
            && now.as_second() < key.made_at.saturating_add(seconds(KEY_LIFE))
        {
            return Some(key.clone());
        }
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).ok()?;
        let id = keys.keys.last().map_or(1, |key| key.id.wrapping_add(1));
        let key = Key { id, made_at: now.as_second(), secret: BASE64.encode(secret) };
        let mut next = keys.clone();
        next.keys.retain(|key| now.as_second() < key.made_at.saturating_add(seconds(KEY_LIFE + LIFE)));
        next.keys.push(key.clone());
        if let Some(path) = &self.path
            && let Err(error) = save(path, &next)
        {
            tracing::error!(path = %path.display(), %error, "save keys of links; messages go without such links");
            return None;
        }
        *keys = next;
        Some(key)
    }
}

impl Keys {
    fn is_older(&self, id: u32) -> bool {
        self.keys.first().is_some_and(|first| id < first.id)
    }
}

impl Key {
    fn hmac(&self) -> Option<hmac::Key> {
        BASE64.decode(&self.secret).ok().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }
}

/// Replaces the file at once; only its owner may read it.
fn save(path: &Path, keys: &Keys) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let beside = path.with_extension("tmp");
    let text = serde_json::to_vec(keys)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_785_751_200 + hours * 3_600).unwrap()
    }

    fn what() -> Silencing {
        let labels = BTreeMap::from([("alertname".to_owned(), "Böse \"Disk\"".to_owned())]);
        Silencing {
            labels,
            length: Length::Minutes(60),
            receiver: "team/ops".to_owned(),
            zone: String::new(),
        }
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_expires() {
        let signer = Signer::open(None).unwrap();
        let token = signer.sign(what(), at(0)).unwrap();
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{token}");
        assert_eq!(signer.check(&token, at(7 * 24 - 1)), Ok(what()));
        assert_eq!(signer.check(&token, at(7 * 24)), Err(Refused::Expired));
        // The key has gone, and still the answer is that the link is old.
        signer.sign(what(), at(8 * 24)).unwrap();
        signer.sign(what(), at(16 * 24)).unwrap();
        assert_eq!(signer.check(&token, at(16 * 24)), Err(Refused::Expired));
    }

    #[test]
    fn any_change_is_seen() {
        let signer = Signer::open(None).unwrap();
        let token = signer.sign(what(), at(0)).unwrap();
        for i in 0..token.len() {
            for other in ["A", "z", ".", "0"] {
                let mut changed = token.clone();
                changed.replace_range(i..=i, other);
                if changed != token {
                    assert!(signer.check(&changed, at(1)).is_err(), "{i} {other}");
                }
            }
            assert!(signer.check(&token[..i], at(1)).is_err(), "cut at {i}");
        }
        let stranger = Signer::open(None).unwrap();
        stranger.sign(what(), at(0)).unwrap();
        assert_eq!(stranger.check(&token, at(1)), Err(Refused::Forged));
        assert_eq!(signer.check(&"1.".repeat(10_000), at(1)), Err(Refused::Forged));
        assert_eq!(signer.check("", at(1)), Err(Refused::Forged));
    }

    #[test]
    fn keys_outlive_the_process_and_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let token = Signer::open(Some(dir.path())).unwrap().sign(what(), at(0)).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Signer::open(Some(dir.path())).unwrap();
        assert_eq!(again.check(&token, at(1)), Ok(what()));
        // The next key comes after a week; the old one goes on being known.
        again.sign(what(), at(6 * 24)).unwrap();
        assert_eq!(again.keys.lock().keys.len(), 1);
        let second = again.sign(what(), at(7 * 24)).unwrap();
        assert_eq!(again.keys.lock().keys.len(), 2);
        assert_eq!(again.check(&second, at(13 * 24)), Ok(what()));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Signer::open(Some(dir.path())).unwrap().check(&token, at(1)), Err(Refused::Forged));
        assert!(!format!("{again:?}").contains(&again.keys.lock().keys[0].secret));
    }
}
