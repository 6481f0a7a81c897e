//! Basic authentication: who a request says it comes from, and whether the password is that user's.
//!
//! bcrypt is slow by intention. So a verdict is kept, a check runs on a thread that may block, and never two at once: whoever
//! guesses passwords keeps one core busy and nobody waiting who has been let in before. Passwords themselves are not kept.
//!
//! Compat: prometheus/exporter-toolkit `web/handler.go` and `web/cache.go`; golang.org/x/crypto `bcrypt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::Secret;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// How many verdicts of each kind are kept.
const VERDICTS_MAX: usize = 100;

/// What stands in for the hash of a user who does not exist, behind its cost: checking takes as long as for one who does.
const NOBODY: &str = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

pub(super) struct Users {
    /// Makes the keys of verdicts useless outside of this process.
    salt: [u8; 32],
    verdicts: Arc<Mutex<Verdicts>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Those who guess cannot push out those who know.
#[derive(Default)]
struct Verdicts {
    good: Recent,
    bad: Recent,
}

/// The newest last.
#[derive(Default)]
struct Recent(Vec<[u8; 32]>);

impl Recent {
    fn holds(&mut self, key: &[u8; 32]) -> bool {
        let Some(at) = self.0.iter().position(|known| known == key) else { return false };
        self.0[at..].rotate_left(1);
        true
    }

    fn add(&mut self, key: [u8; 32]) {
        if self.0.len() == VERDICTS_MAX {
            self.0.remove(0);
        }
        self.0.push(key);
    }
}

impl Verdicts {
    fn get(&mut self, key: &[u8; 32]) -> Option<bool> {
        if self.good.holds(key) { Some(true) } else { self.bad.holds(key).then_some(false) }
    }
}

impl Users {
    pub(super) fn new() -> Self {
        let mut salt = [0; 32];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut salt).expect("the system has random numbers");
        Self { salt, verdicts: Arc::default(), turn: Arc::default() }
    }

    /// Whether the request with these headers comes from one of `users`.
    pub(super) async fn admits(&self, users: &BTreeMap<String, Secret>, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let known = std::str::from_utf8(&user).ok().and_then(|user| users.get(user));
        let hash = match known {
            Some(hash) => hash.expose().to_owned(),
            None => format!("$2y${:02}${NOBODY}", cost_of_nobody(users)),
        };
        let key = self.key(&user, &hash, &password);
        if let Some(verdict) = self.verdicts.lock().get(&key) {
            return verdict;
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Who waited in front of us may have asked the same.
        if let Some(verdict) = self.verdicts.lock().get(&key) {
            return verdict;
        }
        let (is_known, verdicts) = (known.is_some(), Arc::clone(&self.verdicts));
        let checked = tokio::task::spawn_blocking(move || {
            // Also if nobody waits for it any more: who has little patience gets in the next time.
            let _turn = turn;
            let verdict = matches(&hash, &password) && is_known;
            let mut verdicts = verdicts.lock();
            if verdict {
                verdicts.good.add(key);
            } else {
                verdicts.bad.add(key);
            }
            verdict
        });
        // A panic has been logged where it happened.
        checked.await.unwrap_or(false)
    }

    fn key(&self, user: &[u8], hash: &str, password: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix(self.salt);
        for part in [user, hash.as_bytes(), password] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// The user and the password of a request.
///
/// Compat: Go `net/http`, `Request.BasicAuth`.
fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    const SCHEME: &[u8] = b"Basic ";
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    Some((decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

/// The most that a check of a user who exists costs.
fn cost_of_nobody(users: &BTreeMap<String, Secret>) -> u8 {
    let cost = |hash: &Secret| hash.expose().get(4..6).and_then(|cost| cost.parse().ok());
    users.values().filter_map(cost).filter(|cost| (4..=31).contains(cost)).max().unwrap_or(10)
}

/// Whether `password` makes `hash`. What is not a hash matches nothing.
fn matches(hash: &str, password: &[u8]) -> bool {
    // All letters of the second version mean the same to upstream.
    let hash = match hash.as_bytes() {
        [b'$', b'2', b'$', ..] => format!("$2b{}", &hash[2..]),
        [b'$', b'2', minor, b'$', ..] if minor.is_ascii() => format!("$2b{}", &hash[3..]),
        _ => return false,
    };
    bcrypt::verify(password, &hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Of `secret`, with the least cost.
    fn hash() -> String {
        bcrypt::hash("secret", 4).unwrap()
    }

    fn basic(text: &str) -> HeaderMap {
        let value = format!("bAsIc {}", STANDARD.encode(text));
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[tokio::test]
    async fn the_right_password_of_the_right_user() {
        let all = BTreeMap::from([
            ("alice".to_owned(), Secret::new(hash())),
            ("broken".to_owned(), Secret::new("$2y$04$nonsense".to_owned())),
            ("old".to_owned(), Secret::new(hash().replacen("$2b$", "$2z$", 1))),
        ]);
        let users = Users::new();
        for _ in 0..2 {
            assert!(users.admits(&all, &basic("alice:secret")).await);
            assert!(users.admits(&all, &basic("old:secret")).await);
            for wrong in [
                "alice:Secret",
                "alice:",
                "alice",
                ":secret",
                "bob:secret",
                "broken:x",
                "Alice:secret",
                "bob:fakepassword",
            ] {
                assert!(!users.admits(&all, &basic(wrong)).await, "{wrong}");
            }
        }
        let value = |text| HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(text))]);
        for wrong in ["", "Basic", "Basic !", "Bearer YWxpY2U6c2VjcmV0", "Basic YWxpY2U6c2VjcmV0 "] {
            assert!(!users.admits(&all, &value(wrong)).await, "{wrong}");
        }
        assert!(!users.admits(&all, &HeaderMap::new()).await);
        // The same password for another hash is another question.
        let changed = BTreeMap::from([("alice".to_owned(), Secret::new(bcrypt::hash("other", 4).unwrap()))]);
        assert!(!users.admits(&changed, &basic("alice:secret")).await);
        assert!(users.admits(&changed, &basic("alice:other")).await);
    }

    #[tokio::test]
    async fn guesses_do_not_push_out_those_who_know() {
        let all = BTreeMap::from([("alice".to_owned(), Secret::new(hash()))]);
        let users = Users::new();
        assert!(users.admits(&all, &basic("alice:secret")).await);
        let good = users.verdicts.lock().good.0.clone();
        for i in 0..VERDICTS_MAX + 20 {
            assert!(!users.admits(&all, &basic(&format!("alice:{i}"))).await);
        }
        let verdicts = users.verdicts.lock();
        assert_eq!((verdicts.good.0.clone(), verdicts.bad.0.len()), (good, VERDICTS_MAX));
    }

    #[tokio::test]
    async fn who_does_not_wait_is_known_the_next_time() {
        let all = BTreeMap::from([("alice".to_owned(), Secret::new(bcrypt::hash("secret", 8).unwrap()))]);
        let users = Users::new();
        // Asked once, it has begun.
        let headers = basic("alice:secret");
        let mut impatient = Box::pin(users.admits(&all, &headers));
        let is_pending =
            std::future::poll_fn(|cx| std::task::Poll::Ready(impatient.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending);
        drop(impatient);
        let _over = users.turn.lock().await;
        assert_eq!(users.verdicts.lock().good.0.len(), 1);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut recent = Recent::default();
        let key = |i: usize| [u8::try_from(i).unwrap(); 32];
        (0..VERDICTS_MAX).for_each(|i| recent.add(key(i)));
        assert!(recent.holds(&key(0)));
        recent.add(key(200));
        assert!(recent.holds(&key(0)) && !recent.holds(&key(1)) && recent.holds(&key(200)));
    }

    #[test]
    fn nobody_costs_what_somebody_costs() {
        let users = |costs: &[&str]| -> BTreeMap<String, Secret> {
            costs.iter().map(|cost| ((*cost).to_owned(), Secret::new(format!("$2y${cost}$x")))).collect()
        };
        assert_eq!(cost_of_nobody(&users(&["04", "12"])), 12);
        assert_eq!(cost_of_nobody(&users(&["xx"])), 10);
        assert!(!matches(&format!("$2y$04${NOBODY}"), b"fakepassword"));
        assert!(matches(&format!("$2y$10${NOBODY}"), b"fakepassword"));
        // Longer ones count up to here, as upstream.
        let long = "x".repeat(72);
        let hash = bcrypt::hash(&long, 4).unwrap();
        assert!(matches(&hash, format!("{long}y").as_bytes()));
    }
}
