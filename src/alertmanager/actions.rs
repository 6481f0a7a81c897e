//! What clicks on signed links do: look at what a silence would cover, and make it.
//!
//! Pages and methods of HTTP are not here; [`super::links`] says whether a token is good.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Alertmanager;
use super::alert::{LabelSet, matches};
use super::clock::after;
use super::links::{Length, Refused, Silencing};
use super::silence::{PostedSilence, SilenceMatcher, SilenceState};

/// Names of alerts that are shown as examples.
const EXAMPLES_MAX: usize = 5;

/// A second click within this time asks for the same silence.
const AGAIN_MAX: Duration = Duration::from_mins(5);

/// What a link would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub labels: LabelSet,
    /// For people.
    pub length: String,
    /// How many alerts that fire now would be silenced, and the names of some.
    pub n_alerts: usize,
    pub examples: Vec<String>,
    pub author: String,
}

/// The silence that a link made, or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub silence: String,
    /// For people.
    pub until: String,
    pub is_old: bool,
}

/// Why a link does nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(transparent)]
    Token(#[from] Refused),
    #[error("{0}")]
    Impossible(String),
}

impl Alertmanager {
    /// What the link with this token would do.
    ///
    /// # Errors
    /// The token is not good, or its time has passed.
    pub fn offer(&self, token: &str) -> Result<Offer, Denied> {
        let now = self.clock.now();
        let what = self.signer.check(token, now)?;
        let end = end(&what, now)?;
        let length = match what.length {
            Length::Minutes(minutes) => format!("for {}", minutes_text(minutes)),
            Length::Until(_) => format!("until {}", time_text(&what, end)),
        };
        let compiled: Vec<_> = matchers(&what.labels).iter().filter_map(compile).collect();
        let state = self.state.lock();
        let is_hit = |labels: &LabelSet| matches(&compiled, labels);
        let firing = state.store.iter().filter(|alert| !alert.is_resolved(now) && is_hit(&alert.labels));
        let (mut n_alerts, mut examples) = (0, Vec::new());
        for alert in firing {
            n_alerts += 1;
            let name = alert.labels.get("alertname").cloned().unwrap_or_default();
            if examples.len() < EXAMPLES_MAX && !examples.contains(&name) && !name.is_empty() {
                examples.push(name);
            }
        }
        drop(state);
        Ok(Offer { author: author(&what), labels: what.labels, length, n_alerts, examples })
    }

    /// Makes the silence, unless there is one that lasts as long.
    ///
    /// # Errors
    /// The token is not good, or the silence is refused.
    pub fn act(&self, token: &str) -> Result<Done, Denied> {
        let now = self.clock.now();
        let what = self.signer.check(token, now)?;
        let ends_at = end(&what, now)?;
        let until = time_text(&what, ends_at);
        let matchers = matchers(&what.labels);
        let author = author(&what);
        // Whoever clicks twice, or forwards the mail, does not want two of them.
        let existing = self.state.lock().silences.list(now).into_iter().find_map(|silence| {
            let is_same = silence.created_by == author
                && silence.sets.as_slice() == [matchers.clone()]
                && silence.receiver_sets.is_empty();
            let is_active = silence.state(now) == SilenceState::Active;
            (is_same && is_active && after(silence.ends_at, AGAIN_MAX) >= ends_at)
                .then(|| (silence.id.clone(), silence.ends_at))
        });
        if let Some((silence, ends_at)) = existing {
            return Ok(Done { silence, until: time_text(&what, ends_at), is_old: true });
        }
        let posted = PostedSilence {
            id: String::new(),
            annotations: LabelSet::new(),
            comment: format!("by a link in a mail to receiver {}", what.receiver),
            created_by: author,
            ends_at,
            matchers,
            starts_at: now,
        };
        let silence = self.put_silence(posted).map_err(|e| Denied::Impossible(e.to_string()))?.id;
        tracing::info!(silence, receiver = what.receiver, "silenced by a link in a mail");
        Ok(Done { silence, until, is_old: false })
    }
}

fn author(what: &Silencing) -> String {
    format!("silence by mail link: {}", what.receiver)
}

fn end(what: &Silencing, now: Timestamp) -> Result<Timestamp, Denied> {
    let end = match what.length {
        Length::Minutes(minutes) => after(now, Duration::from_secs(u64::from(minutes) * 60)),
        Length::Until(second) => Timestamp::from_second(second).unwrap_or_default(),
    };
    let passed = || format!("the silence would have ended on {}", time_text(what, end));
    if end > now { Ok(end) } else { Err(Denied::Impossible(passed())) }
}

fn matchers(labels: &LabelSet) -> Vec<SilenceMatcher> {
    let matcher = |(name, value): (&String, &String)| SilenceMatcher {
        is_equal: true,
        is_regex: false,
        name: name.clone(),
        value: value.clone(),
    };
    labels.iter().map(matcher).collect()
}

fn compile(matcher: &SilenceMatcher) -> Option<model::Matcher> {
    model::Matcher::new(matcher.op(), matcher.name.as_bytes(), matcher.value.as_bytes()).ok()
}

fn minutes_text(minutes: u32) -> String {
    match minutes {
        60 => "1 hour".to_owned(),
        n if n % 60 == 0 => format!("{} hours", n / 60),
        n => format!("{n} minutes"),
    }
}

fn time_text(what: &Silencing, t: Timestamp) -> String {
    let zone = match what.zone.as_str() {
        "" => TimeZone::UTC,
        name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
    };
    t.to_zoned(zone).strftime("%a %-d %b %Y %H:%M %Z").to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::alertmanager::Options;
    use crate::alertmanager::alert::PostedAlert;
    use crate::alertmanager::clock::Clock;

    /// Noon, always.
    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_785_758_400).unwrap()
        }
    }

    fn manager() -> Arc<Alertmanager> {
        let text = "route: {receiver: sink}\nreceivers: [{name: sink}]\n";
        let config = config::alertmanager::parse(text, Path::new("am.yml")).unwrap();
        Alertmanager::new(config, Options::default(), Arc::new(Noon)).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> LabelSet {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn token(manager: &Alertmanager, length: Length) -> String {
        let labels = labels(&[("alertname", "Down")]);
        let what = Silencing { labels, length, receiver: "ops".to_owned(), zone: "Europe/Berlin".to_owned() };
        manager.signer.sign(what, Noon.now()).unwrap()
    }

    #[test]
    fn an_offer_counts_what_fires_and_changes_nothing() {
        let manager = manager();
        let alert = |name: &str, i: i64| PostedAlert {
            labels: labels(&[("alertname", name), ("i", &i.to_string())]),
            ..PostedAlert::default()
        };
        manager.put(vec![alert("Down", 1), alert("Down", 2), alert("Other", 1)]).unwrap();
        let offer = manager.offer(&token(&manager, Length::Minutes(240))).unwrap();
        assert_eq!((offer.n_alerts, offer.length.as_str()), (2, "for 4 hours"));
        assert_eq!(
            (offer.examples, offer.author.as_str()),
            (vec!["Down".to_owned()], "silence by mail link: ops")
        );
        let until = Length::Until(Noon.now().as_second() + 3_600);
        assert_eq!(manager.offer(&token(&manager, until)).unwrap().length, "until Mon 3 Aug 2026 15:00 CEST");
        assert!(manager.state.lock().silences.list(Noon.now()).is_empty());
    }

    #[test]
    fn a_second_click_finds_the_silence_of_the_first() {
        let manager = manager();
        let hour = token(&manager, Length::Minutes(60));
        let first = manager.act(&hour).unwrap();
        assert!(!first.is_old && first.until == "Mon 3 Aug 2026 15:00 CEST", "{first:?}");
        let second = manager.act(&hour).unwrap();
        assert_eq!((second.silence, second.is_old), (first.silence, true));
        // A longer one is another one.
        assert!(!manager.act(&token(&manager, Length::Minutes(240))).unwrap().is_old);
        let past = token(&manager, Length::Until(Noon.now().as_second()));
        assert!(
            matches!(manager.act(&past), Err(Denied::Impossible(text)) if text.contains("would have ended"))
        );
        assert_eq!(manager.act("x"), Err(Denied::Token(Refused::Forged)));
    }
}
