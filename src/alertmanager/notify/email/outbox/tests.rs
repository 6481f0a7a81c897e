//! Letters against a server of the test: nothing is lost, nothing is told twice, nothing is claimed that is
//! not so.

use std::sync::atomic::{AtomicUsize, Ordering};

use config::alertmanager::Integration;

use super::*;
use crate::alertmanager::SystemClock;
use crate::alertmanager::notify::email::fake::{Act, Fake, say};
use crate::alertmanager::notify::email::samples::{alert, config, message};
use crate::alertmanager::notify::templates::Templates;

const SOON: Duration = Duration::from_secs(20);

fn templates() -> Templates {
    Templates::new([]).unwrap()
}

fn outbox(dir: Option<&Path>) -> Arc<Outbox> {
    Outbox::open(dir, Arc::new(SystemClock))
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("waiting for {what}"));
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn metrics(outbox: &Outbox) -> String {
    let mut out = Exposition::default();
    outbox.expose(&mut out);
    String::from_utf8(out.into_body()).unwrap()
}

fn ids(fake: &Fake) -> Vec<String> {
    let id = |text: &String| text.lines().find(|line| line.starts_with("Message-ID")).unwrap().to_owned();
    fake.messages().iter().map(|(_, text)| id(text)).collect()
}

/// Sends a message about the alert `name` and says what came of it.
async fn send(outbox: &Arc<Outbox>, config: &Email, name: &str, timeout: Duration) -> Outcome {
    let templates = templates();
    let message = message(&templates, vec![alert(&[("alertname", name)], &[])], Memory::new());
    outbox.send(config, &message, timeout).await
}

#[tokio::test]
async fn a_mail_is_accepted_and_the_outbox_is_empty() {
    let fake = Fake::start(|_, _| Act::Agree).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let outcome = send(&outbox, &config(&fake.address), "A", SOON).await;
    assert_eq!((outcome.requests, outcome.failed_requests), (1, 0));
    let sent = outcome.result.unwrap();
    assert_eq!(ids(&fake), [format!("Message-ID: {}", sent.id.unwrap())]);
    assert_eq!(fake.messages()[0].0, ["RCPT TO:<ops@example.org>", "RCPT TO:<other@example.org>"]);
    // The file stays for a moment, for a crash before the notification log is saved.
    assert_eq!((outbox.state.lock().letters.len(), files(dir.path())), (0, 1));
    assert!(metrics(&outbox).contains("ferula_email_sent_total 1\n"), "{}", metrics(&outbox));
}

#[tokio::test]
async fn greylisting_only_delays() {
    let mut first = true;
    let fake = Fake::start(move |line, _| {
        if line.starts_with("RCPT") && std::mem::take(&mut first) {
            say("450 4.2.0 greylisted")
        } else {
            Act::Agree
        }
    })
    .await;
    let mut config = config(&fake.address);
    config.to = "ops@example.org".to_owned();
    let outbox = outbox(None);
    let outcome = send(&outbox, &config, "A", SOON).await;
    assert_eq!((outcome.requests, outcome.failed_requests), (2, 1), "{outcome:?}");
    assert!(outcome.result.is_ok());
    assert_eq!(fake.messages().len(), 1);
    assert!(metrics(&outbox).contains("ferula_email_deferred_total{class=\"4xx\"} 1\n"));
}

#[tokio::test]
async fn each_recipient_has_an_answer_of_its_own() {
    let later = Arc::new(AtomicUsize::new(0));
    let tries = Arc::clone(&later);
    let fake = Fake::start(move |line, _| match line {
        "RCPT TO:<gone@example.org>" => say("550 5.1.1 unknown"),
        "RCPT TO:<later@example.org>" if tries.fetch_add(1, Ordering::Relaxed) == 0 => say("451 4.7.1 later"),
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let mut config = config(&fake.address);
    config.to = "ok@example.org, gone@example.org, later@example.org".to_owned();
    let outcome = send(&outbox, &config, "A", SOON).await;
    // Somebody knows, and nobody is told twice.
    assert!(outcome.result.is_ok(), "{outcome:?}");
    until("the second recipient", || fake.messages().len() == 2).await;
    until("the outbox to be empty", || outbox.state.lock().letters.is_empty()).await;
    let messages = fake.messages();
    assert_eq!(messages[0].0, ["RCPT TO:<ok@example.org>"]);
    assert_eq!(messages[1].0, ["RCPT TO:<later@example.org>"]);
    assert_eq!(messages[0].1, messages[1].1, "the same mail");
    assert!(metrics(&outbox).contains("ferula_email_recipients_refused_total 1\n"));
    assert!(outbox.take_lost().is_empty());
}

#[tokio::test]
async fn what_is_refused_for_good_fails_at_once_and_leaves_nothing() {
    for (verb, reply) in [("MAIL", "553 no such sender"), ("RCPT", "550 unknown"), (".", "554 spam")] {
        let fake =
            Fake::start(move |line, _| if line.starts_with(verb) { say(reply) } else { Act::Agree }).await;
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(Some(dir.path()));
        let failure = send(&outbox, &config(&fake.address), "A", SOON).await.result.unwrap_err();
        assert_eq!((failure.retry, failure.reason), (false, "clientError"), "{failure}");
        assert!(failure.message.contains(reply), "{failure}");
        assert_eq!((files(dir.path()), fake.messages().len()), (0, 0));
        // The flush has failed, so nothing was claimed that would have to be taken back.
        assert!(outbox.take_lost().is_empty());
        assert!(metrics(&outbox).contains("ferula_email_rejected_total{class=\"5xx\"} 1\n"));
    }
}

/// What counted as sent because it was safe, and is refused after all, is taken back.
#[tokio::test]
async fn a_late_refusal_is_taken_back() {
    let refuses = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&refuses);
    let fake = Fake::start(move |line, _| match (line, now.load(Ordering::Relaxed)) {
        (".", 0) => say("451 not yet"),
        (".", _) => say("554 never"),
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let outcome = send(&outbox, &config(&fake.address), "A", Duration::from_millis(400)).await;
    let sent = outcome.result.unwrap();
    assert_eq!((outbox.take_lost(), files(dir.path())), (Vec::new(), 1));
    refuses.store(1, Ordering::Relaxed);
    until("the refusal", || outbox.state.lock().letters.is_empty()).await;
    let lost = outbox.take_lost();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].is_last_of(&sent.memory) && lost[0].message.contains("554 never"), "{lost:?}");
    assert!(!lost[0].is_last_of(&Memory::new()));
    assert_eq!(files(dir.path()), 0);
}

#[tokio::test]
async fn without_a_disk_nothing_counts_as_safe() {
    let fake = Fake::start(|line, _| if line == "." { say("451 not yet") } else { Act::Agree }).await;
    let outbox = outbox(None);
    let failure =
        send(&outbox, &config(&fake.address), "A", Duration::from_millis(400)).await.result.unwrap_err();
    assert!(failure.retry && failure.message.contains("451 not yet"), "{failure}");
    let state = outbox.state.lock();
    assert!(state.letters.is_empty() && state.chains.is_empty() && state.bytes == 0);
}

/// The process dies while mails wait: the next one sends them, each once and under its identity, and
/// does not tell the same news by a second mail.
#[tokio::test]
async fn a_restart_sends_what_waits_and_knows_what_was_told() {
    let is_up = Arc::new(AtomicUsize::new(0));
    let up = Arc::clone(&is_up);
    let fake = Fake::start(move |line, _| match (line, up.load(Ordering::Relaxed)) {
        ("", 0) => say("421 not now"),
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&fake.address);
    {
        let outbox = outbox(Some(dir.path()));
        // The flush is cut off by the death of the process: nobody hears that it counts as sent.
        let cut = tokio::time::timeout(Duration::from_millis(300), send(&outbox, &config, "A", SOON)).await;
        assert!(cut.is_err());
        outbox.stop();
        outbox.stopped().await;
    }
    assert_eq!(files(dir.path()), 1);
    is_up.store(1, Ordering::Relaxed);
    let outbox = outbox(Some(dir.path()));
    assert_eq!(outbox.state.lock().letters.len(), 1);
    let integration =
        Integration { index: 0, send_resolved: true, notifier: Notifier::Email(Box::new(config.clone())) };
    let receiver =
        Receiver { name: "team.a".to_owned(), integrations: vec![integration], ..Receiver::default() };
    outbox.apply([&receiver]);
    outbox.resume();
    until("the mail of the process before", || fake.messages().len() == 1).await;
    // The dispatcher, which does not know, comes with the same news: they are told already.
    let sent = send(&outbox, &config, "A", SOON).await.result.unwrap();
    assert_eq!(ids(&fake), [format!("Message-ID: {}", sent.id.unwrap())]);
    // Only the first time, and only the same news.
    send(&outbox, &config, "A", SOON).await.result.unwrap();
    assert_eq!(fake.messages().len(), 2);
}

#[tokio::test]
async fn a_restart_does_not_hold_back_other_news() {
    let fake = Fake::start(|_, _| Act::Agree).await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&fake.address);
    let first = outbox(Some(dir.path()));
    send(&first, &config, "A", SOON).await.result.unwrap();
    let second = outbox(Some(dir.path()));
    let templates = templates();
    let more = vec![alert(&[("alertname", "A")], &[]), alert(&[("alertname", "A"), ("x", "y")], &[])];
    second.send(&config, &message(&templates, more, Memory::new()), SOON).await.result.unwrap();
    // That flush was the first of the group: the old news are no excuse any more.
    send(&second, &config, "A", SOON).await.result.unwrap();
    assert_eq!(fake.messages().len(), 3);
}

#[tokio::test]
async fn the_mails_of_a_group_keep_their_order() {
    let is_up = Arc::new(AtomicUsize::new(0));
    let up = Arc::clone(&is_up);
    let fake = Fake::start(move |line, _| match (line, up.load(Ordering::Relaxed)) {
        (".", 0) => say("451 not yet"),
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let config = config(&fake.address);
    let templates = templates();
    let mut memory = Memory::new();
    let mut sent = Vec::new();
    for _ in 0..3 {
        let message = message(&templates, vec![alert(&[("alertname", "A")], &[])], memory);
        let told = outbox.send(&config, &message, Duration::from_millis(200)).await.result.unwrap();
        memory = told.memory;
        sent.push(format!("Message-ID: {}", told.id.unwrap()));
    }
    is_up.store(1, Ordering::Relaxed);
    until("all mails", || fake.messages().len() == 3).await;
    assert_eq!(ids(&fake), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_groups_share_few_sessions() {
    let fake = Fake::start(|_, _| Act::Agree).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let config = Arc::new(config(&fake.address));
    let sends = (0..200).map(|n| {
        let (outbox, config) = (Arc::clone(&outbox), Arc::clone(&config));
        tokio::spawn(async move { send(&outbox, &config, &format!("A{n}"), SOON).await })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap().result.unwrap();
    }
    let mut unique = ids(&fake);
    unique.sort();
    unique.dedup();
    let seen = fake.seen.lock();
    assert_eq!((seen.messages.len(), unique.len()), (200, 200));
    assert!(seen.most_open <= 5, "{} sessions at once", seen.most_open);
    assert!(seen.connections < 100, "{} sessions for 200 mails", seen.connections);
}

#[tokio::test]
async fn a_refused_login_is_not_repeated() {
    let fake = Fake::start(|line, _| {
        if line.starts_with("EHLO") {
            say("250-fake\r\n250 AUTH LOGIN PLAIN")
        } else if line.starts_with("AUTH") {
            say("535 5.7.8 wrong")
        } else {
            Act::Agree
        }
    })
    .await;
    let mut config = config(&fake.address);
    config.auth_username = "me".to_owned();
    config.auth_password = config::http_client::SecretSource::Inline(config::Secret::new("secret"));
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    for n in 0..5 {
        let failure = send(&outbox, &config, &format!("A{n}"), SOON).await.result.unwrap_err();
        assert_eq!((failure.retry, failure.reason), (false, "authError"), "{failure}");
        assert!(failure.message.contains("LOGIN auth: 535 5.7.8 wrong"), "{failure}");
        assert!(!failure.message.contains("secret"));
    }
    assert_eq!((fake.count("AUTH"), files(dir.path())), (1, 0));
    // Another configuration may have another password.
    outbox.apply([]);
    send(&outbox, &config, "B", SOON).await.result.unwrap_err();
    assert_eq!(fake.count("AUTH"), 2);
}

#[tokio::test]
async fn a_server_that_is_down_is_not_stormed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let config = config(&address);
    let templates = templates();
    let names: Vec<_> = (0..50).map(|n| format!("A{n}")).collect();
    let sends = names.iter().map(|name| async {
        let message = message(&templates, vec![alert(&[("alertname", name)], &[])], Memory::new());
        outbox.send(&config, &message, Duration::from_secs(2)).await
    });
    let outcomes = futures_util::future::join_all(sends).await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    let attempts: u64 = outcomes.iter().map(|outcome| outcome.failed_requests).sum();
    assert!((1..20).contains(&attempts), "{attempts} attempts in two seconds");
    assert_eq!(files(dir.path()), 50);
}

#[tokio::test]
async fn a_mail_that_is_too_large_goes_as_a_small_one() {
    let fake =
        Fake::start(
            |line, _| {
                if line.starts_with("EHLO") { say("250-fake\r\n250 SIZE 20000") } else { Act::Agree }
            },
        )
        .await;
    let outbox = outbox(None);
    let templates = templates();
    let large = vec![alert(&[("alertname", "A")], &[("description", &"x".repeat(100_000))])];
    let message = message(&templates, large, Memory::new());
    outbox.send(&config(&fake.address), &message, SOON).await.result.unwrap();
    let text = &fake.messages()[0].1;
    assert!(
        text.len() < 20_000 && text.contains("alertname") && text.contains("refused the message"),
        "{text}"
    );
}

#[tokio::test]
async fn a_hundred_hours_old_letter_makes_place_and_a_waiting_one_does_not() {
    let fake = Fake::start(|line, _| if line == "." { say("451 not yet") } else { Act::Agree }).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let config = config(&fake.address);
    let brief = Duration::from_millis(200);
    send(&outbox, &config, "A", brief).await.result.unwrap();
    send(&outbox, &config, "A", brief).await.result.unwrap();
    assert_eq!(outbox.state.lock().letters.len(), 2);
    // As if both had been posted long ago, and one had reached a recipient.
    {
        let mut state = outbox.state.lock();
        let mut numbers: Vec<_> = state.letters.keys().copied().collect();
        numbers.sort_unstable();
        for number in &numbers {
            let slot = state.letters.get_mut(number).unwrap();
            let mut letter = Letter::clone(&slot.letter);
            letter.posted_at = clock::before(letter.posted_at, Duration::from_hours(100));
            slot.letter = Arc::new(letter);
        }
        let got = state.letters.get_mut(&numbers[0]).unwrap();
        got.is_got = true;
        got.to = vec!["other@example.org".to_owned()];
    }
    // Who waits for the first would not get this one.
    let mut elsewhere = config.clone();
    elsewhere.to = "ops@example.org".to_owned();
    send(&outbox, &elsewhere, "A", brief).await.result.unwrap();
    assert_eq!(outbox.state.lock().letters.len(), 2);
    assert!(metrics(&outbox).contains("ferula_email_superseded_total 1\n"));
    // But this one, unless the old one is tried just now.
    until("the first to make place", || {
        let state = outbox.state.lock();
        let Some((number, slot)) = state.letters.iter().find(|(_, slot)| slot.is_got) else { return false };
        let newer = Letter { to: vec!["other@example.org".to_owned()], ..Letter::clone(&slot.letter) };
        let newer = Letter { posted_at: clock::after(newer.posted_at, Duration::from_hours(2)), ..newer };
        state.superseded_by(&newer).contains(number)
    })
    .await;
}

/// A mailbox that is full for days keeps no news from the others.
#[tokio::test]
async fn who_cannot_get_a_mail_does_not_hold_up_the_others() {
    let is_up = Arc::new(AtomicUsize::new(0));
    let up = Arc::clone(&is_up);
    let fake = Fake::start(move |line, _| match (line, up.load(Ordering::Relaxed)) {
        ("RCPT TO:<other@example.org>", 0) => say("452 4.2.2 mailbox full"),
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let first = outbox(Some(dir.path()));
    let config = config(&fake.address);
    let mut sent = Vec::new();
    for _ in 0..2 {
        let told = send(&first, &config, "A", SOON).await.result.unwrap();
        sent.push(format!("Message-ID: {}", told.id.unwrap()));
    }
    assert_eq!(ids(&fake), sent);
    assert!(fake.messages().iter().all(|(to, _)| to == &["RCPT TO:<ops@example.org>"]));
    assert_eq!(first.state.lock().letters.len(), 2);
    first.stop();
    first.stopped().await;

    // The next process knows that somebody got them: a third one goes at once, too.
    let second = outbox(Some(dir.path()));
    let integration =
        Integration { index: 0, send_resolved: true, notifier: Notifier::Email(Box::new(config.clone())) };
    let receiver =
        Receiver { name: "team.a".to_owned(), integrations: vec![integration], ..Receiver::default() };
    second.apply([&receiver]);
    second.resume();
    let templates = templates();
    let more = vec![alert(&[("alertname", "A")], &[]), alert(&[("alertname", "A"), ("x", "y")], &[])];
    let told = second.send(&config, &message(&templates, more, Memory::new()), SOON).await.result.unwrap();
    sent.push(format!("Message-ID: {}", told.id.unwrap()));
    assert_eq!(ids(&fake), sent);
    is_up.store(1, Ordering::Relaxed);
    until("the outbox to be empty", || second.state.lock().letters.is_empty()).await;
    // The newest at least reaches the one who waited, and nobody gets a mail twice.
    let (messages, ids) = (fake.messages(), ids(&fake));
    let mut to_other: Vec<_> =
        messages.iter().zip(&ids).skip(3).map(|((to, _), id)| (to.join(" "), id)).collect();
    assert!(to_other.iter().all(|(to, _)| to == "RCPT TO:<other@example.org>"), "{to_other:?}");
    assert!(to_other.iter().any(|(_, id)| *id == &sent[2]), "{to_other:?}");
    let all = to_other.len();
    to_other.sort();
    to_other.dedup();
    assert_eq!((to_other.len(), second.take_lost()), (all, Vec::new()));
}

#[tokio::test]
async fn who_got_a_newer_mail_does_not_get_the_older_ones() {
    let fake = Fake::start(|line, _| match line {
        "RCPT TO:<a@example.org>" => Act::Agree,
        line if line.starts_with("RCPT") => say("452 4.2.2 mailbox full"),
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let mut config = config(&fake.address);
    config.to = "a@example.org, b@example.org, c@example.org".to_owned();
    send(&outbox, &config, "A", SOON).await.result.unwrap();
    let (number, log_key) = {
        let state = outbox.state.lock();
        let (number, slot) = state.letters.iter().next().unwrap();
        (*number, slot.letter.log_key.clone())
    };
    let is_idle = || !outbox.state.lock().letters[&number].is_in_flight;
    until("the first attempt to end", is_idle).await;
    outbox.stop();
    outbox.stopped().await;
    let mut state = outbox.state.lock();
    let (notes, ended) = state.outrun(number + 1, &log_key, &["b@example.org".to_owned()]);
    assert_eq!((notes.len(), notes[0].1.done.as_slice()), (1, &["b@example.org".to_owned()][..]));
    assert_eq!((ended, state.letters[&number].to.as_slice()), (vec![], &["c@example.org".to_owned()][..]));
    // Its own attempt is no newer letter.
    let (notes, ended) = state.outrun(number, &log_key, &["c@example.org".to_owned()]);
    assert!(notes.is_empty() && ended.is_empty());
    let (notes, ended) = state.outrun(number + 1, &log_key, &["c@example.org".to_owned()]);
    assert_eq!((notes.len(), ended), (0, vec![number]));
}

/// Who was refused for good has not got it: when the last recipient is refused, too, nobody has.
#[tokio::test]
async fn what_nobody_got_is_taken_back() {
    for timeout in [SOON, Duration::from_millis(400)] {
        let refuses = Arc::new(AtomicUsize::new(0));
        let now = Arc::clone(&refuses);
        let fake = Fake::start(move |line, _| match (line, now.load(Ordering::Relaxed)) {
            ("RCPT TO:<ops@example.org>", _) => say("550 5.1.1 unknown"),
            ("RCPT TO:<other@example.org>", 0) => say("450 4.2.0 later"),
            ("RCPT TO:<other@example.org>", _) => say("550 5.7.1 never"),
            _ => Act::Agree,
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(Some(dir.path()));
        let config = config(&fake.address);
        let sending = send(&outbox, &config, "A", timeout);
        let refusing = async {
            until("the first attempt", || fake.count("RCPT") >= 2).await;
            if timeout == SOON {
                refuses.store(1, Ordering::Relaxed);
            }
        };
        let (outcome, ()) = tokio::join!(sending, refusing);
        if timeout == SOON {
            let failure = outcome.result.unwrap_err();
            assert!(failure.message.contains("550 5.7.1 never"), "{failure}");
            assert_eq!(outbox.take_lost(), []);
        } else {
            let sent = outcome.result.unwrap();
            refuses.store(1, Ordering::Relaxed);
            tokio::time::timeout(SOON, outbox.has_lost()).await.unwrap();
            let lost = outbox.take_lost();
            assert_eq!(lost.len(), 1);
            assert!(lost[0].is_last_of(&sent.memory), "{lost:?}");
            let key = Key {
                group: "{}:{alertname=\"A\"}".to_owned(),
                receiver: "team.a".to_owned(),
                integration: "email".to_owned(),
                index: 0,
            };
            assert_eq!(lost[0].key, key);
        }
        assert_eq!((files(dir.path()), fake.messages().len()), (0, 0));
        assert!(metrics(&outbox).contains("ferula_email_rejected_total{class=\"5xx\"} 1\n"));
    }
}

#[tokio::test]
async fn what_somebody_got_is_not_taken_back() {
    let mut mails = 0;
    let fake = Fake::start(move |line, _| match line {
        "RCPT TO:<other@example.org>" => say("450 4.2.0 later"),
        line if line.starts_with("MAIL") => {
            mails += 1;
            if mails == 1 { Act::Agree } else { say("553 no such sender") }
        }
        _ => Act::Agree,
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    send(&outbox, &config(&fake.address), "A", SOON).await.result.unwrap();
    until("the outbox to be empty", || outbox.state.lock().letters.is_empty()).await;
    assert_eq!((outbox.take_lost(), files(dir.path())), (Vec::new(), 0));
    assert!(metrics(&outbox).contains("ferula_email_recipients_refused_total 1\n"));
}

/// Told, resolved without a word, and on again after a restart: that is news.
#[tokio::test]
async fn what_the_log_knows_explains_nothing() {
    let fake = Fake::start(|_, _| Act::Agree).await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&fake.address);
    let sent = send(&outbox(Some(dir.path())), &config, "A", SOON).await.result.unwrap();
    let key = |index| Key {
        group: "{}:{alertname=\"A\"}".to_owned(),
        receiver: "team.a".to_owned(),
        integration: "email".to_owned(),
        index,
    };
    let entry = |memory| Entry {
        at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::UNIX_EPOCH,
        firing: std::collections::BTreeSet::new(),
        resolved: std::collections::BTreeSet::new(),
        memory,
    };
    let saved = entry(sent.memory);
    // Another integration, or a log that was saved before.
    for (key, entry) in [(key(1), saved.clone()), (key(0), entry(Memory::new()))] {
        let outbox = outbox(Some(dir.path()));
        outbox.settle([(&key, &entry)].into_iter());
        let again = send(&outbox, &config, "A", SOON).await.result.unwrap();
        assert_eq!((again.id, fake.messages().len()), (sent.id.clone(), 1));
    }
    let outbox = outbox(Some(dir.path()));
    outbox.settle([(&key(0), &saved)].into_iter());
    send(&outbox, &config, "A", SOON).await.result.unwrap();
    assert_eq!(fake.messages().len(), 2);
}

/// Two receivers shared a server, and one of them is given another: its mails go there, and only its.
#[tokio::test]
async fn what_waits_goes_where_its_receiver_points_now() {
    let is_up = Arc::new(AtomicUsize::new(0));
    let up = Arc::clone(&is_up);
    let before = Fake::start(move |line, _| match (line, up.load(Ordering::Relaxed)) {
        (".", 0) => say("451 not yet"),
        _ => Act::Agree,
    })
    .await;
    let after = Fake::start(|_, _| Act::Agree).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(Some(dir.path()));
    let templates = templates();
    let mut sent = Vec::new();
    for index in 0..2 {
        let mut message = message(&templates, vec![alert(&[("alertname", "A")], &[])], Memory::new());
        message.origin.index = index;
        let told = outbox.send(&config(&before.address), &message, Duration::from_millis(200)).await;
        sent.push(format!("Message-ID: {}", told.result.unwrap().id.unwrap()));
    }
    let integration = |index, address| Integration {
        index,
        send_resolved: true,
        notifier: Notifier::Email(Box::new(config(address))),
    };
    let integrations = vec![integration(0, &after.address), integration(1, &before.address)];
    outbox.apply([&Receiver { name: "team.a".to_owned(), integrations, ..Receiver::default() }]);
    is_up.store(1, Ordering::Relaxed);
    until("both mails", || outbox.state.lock().letters.is_empty()).await;
    assert_eq!((ids(&after), ids(&before)), (vec![sent[0].clone()], vec![sent[1].clone()]));
}

/// A session that was opened without TLS is nothing for a mail that demands it.
#[test]
fn lanes_are_shared_by_those_who_begin_alike() {
    let name = |change: fn(&mut Email)| {
        let mut config = config("mail:25");
        change(&mut config);
        lane::name(&config)
    };
    let usual = name(|_| ());
    assert_eq!(usual, name(|config| config.to = "other@example.org".to_owned()));
    let secret = |text| config::http_client::SecretSource::Inline(config::Secret::new(text));
    let others = [
        name(|config| config.require_tls = true),
        name(|config| config.force_implicit_tls = Some(true)),
        name(|config| config.tls.insecure_skip_verify = true),
        name(|config| config.hello = "here".to_owned()),
        name(|config| config.auth_identity = "us".to_owned()),
        name(|config| config.auth_username = "me".to_owned()),
    ];
    assert!(others.iter().all(|other| *other != usual), "{others:?}");
    let with = |text| {
        let mut config = config("mail:25");
        config.auth_password = secret(text);
        lane::name(&config)
    };
    assert_ne!(with("one"), with("two"));
    assert!(!with("pa55word").contains("pa55word"));
}
