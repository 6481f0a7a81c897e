use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use model::{Labels, TimeRange, Timestamp};

use super::cause::{deliveries, notification, state};
use super::*;

const MINUTE: i64 = 60_000;

fn clock() -> Clock {
    Box::new(|| 0)
}

fn labels(pod: &str) -> Labels {
    Labels::from_pairs([("alertname", "High"), ("job", "api"), ("pod", pod)])
}

fn rule() -> Arc<Rule> {
    let none = std::collections::BTreeMap::new();
    Rule::new(Subject::rule("/r.yml", "g", "High", &none), "load > 5")
}

fn seen(pod: &str, state: State, value: f64, active_at: Timestamp) -> Seen {
    Seen { labels: labels(pod), state, value, active_at, resolved_at: None, keep_firing_since: None }
}

fn evaluated(at: i64, alerts: Vec<Seen>) -> Note {
    Note::Evaluated(Evaluation {
        rule: rule(),
        at,
        query_at: at,
        hold_ms: 5 * MINUTE,
        keep_ms: 0,
        error: None,
        alerts,
    })
}

fn tale(journal: &Journal, pod: &str) -> Vec<Entry> {
    let subject = Subject::alert(&labels(pod));
    let tales = journal.tell(TimeRange::ALL, &|s| *s == subject).unwrap();
    tales.into_iter().next().map(|tale| tale.entries).unwrap_or_default()
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|e| format!("{}x {}", e.count, tell::text(&e.event))).collect()
}

/// A life: pending at 1, firing at 6, resolved at 1000.
fn live(journal: &Journal) {
    for minute in 1..1000 {
        let state = if minute < 6 { State::Pending } else { State::Firing };
        journal.note(evaluated(minute * MINUTE, vec![seen("a", state, 6.0 + (minute % 7) as f64, MINUTE)]));
    }
    journal.note(evaluated(1000 * MINUTE, Vec::new()));
}

#[test]
fn a_thousand_equal_evaluations_are_one_entry() {
    let journal = Journal::in_memory(clock());
    live(&journal);
    let entries = tale(&journal, "a");
    assert_eq!(
        texts(&entries),
        [
            "1x pending: the expression became true, value 7",
            "999x the expression is true, values 6 to 12, the last 11",
            "1x firing: `for` of 5m reached, value 12",
            "1x resolved after 16h39m: `load > 5` gave nothing for it",
        ]
    );
    assert_eq!((entries[1].first, entries[1].last), (MINUTE, 999 * MINUTE));
}

#[test]
fn the_investigator_says_why_it_ended() {
    let journal = Journal::in_memory(clock());
    journal.set_investigator(Box::new(|question| {
        assert_eq!((question.labels.clone(), question.query_at), (labels("a"), 3 * MINUTE));
        Some(Finding::new(Code::ThresholdNotCrossed).of("load").with_value(4.5, "> 5"))
    }));
    journal.note(evaluated(MINUTE, vec![seen("a", State::Pending, 7.0, MINUTE)]));
    journal.note(evaluated(2 * MINUTE, vec![seen("a", State::Pending, 7.0, MINUTE)]));
    journal.note(evaluated(3 * MINUTE, Vec::new()));
    let (is, cause) = state(&tale(&journal, "a"), &[], 3 * MINUTE).unwrap();
    assert_eq!((is, cause.code), (State::Inactive, Code::ThresholdNotCrossed));
    assert_eq!(
        cause.text,
        "no longer pending after 2m of the 5m that `for` asks: `load` is 4.5, which is not > 5 at 1970-01-01T00:03:00Z"
    );
    // It comes back: the story remembers that the `for` was reset.
    journal.note(evaluated(4 * MINUTE, vec![seen("a", State::Pending, 8.0, 4 * MINUTE)]));
    let (is, cause) = state(&tale(&journal, "a"), &[], 5 * MINUTE).unwrap();
    assert_eq!((is, cause.code, cause.next), (State::Pending, Code::ForReset, Some(9 * MINUTE)));
    assert!(cause.text.contains("(in 4m)") && cause.text.contains("4.5"), "{}", cause.text);
}

#[test]
fn labels_that_change_are_told_on_both_sides() {
    let journal = Journal::in_memory(clock());
    journal.note(evaluated(MINUTE, vec![seen("a", State::Pending, 7.0, MINUTE)]));
    journal.note(evaluated(2 * MINUTE, vec![seen("b", State::Pending, 7.0, 2 * MINUTE)]));
    let (_, cause) = state(&tale(&journal, "b"), &[], 2 * MINUTE).unwrap();
    assert_eq!(cause.code, Code::LabelChurn);
    assert!(cause.text.contains(r#"pod="a""#), "{}", cause.text);
    let (_, cause) = state(&tale(&journal, "a"), &[], 2 * MINUTE).unwrap();
    assert_eq!(cause.code, Code::LabelChurn);
    assert!(cause.text.contains(r#"pod="b""#), "{}", cause.text);
}

fn flush(at: i64, code: Code) -> Note {
    let verdict =
        Verdict { by: "s1".into(), author: "me".into(), comment: "why".into(), ..Verdict::new(code) };
    Note::Flushed {
        at,
        group: "g".into(),
        receiver: "team".into(),
        next: at + 5 * MINUTE,
        alerts: vec![Flushed { alert: Subject::alert(&labels("a")).id(), is_resolved: false, verdict }],
    }
}

fn received(at: i64) -> Note {
    Note::Received { at, labels: labels("a"), starts_at: at, ends_at: at + 4 * MINUTE, is_timeout: false }
}

fn told(at: i64, code: Code) -> Note {
    let telling = Telling {
        reason: "first notification".into(),
        attempts: 1,
        message: "<id@h>".into(),
        next: if code == Code::AlreadyTold { at + 60 * MINUTE } else { 0 },
        ..Telling::new(code)
    };
    Note::Told {
        at,
        group: "g".into(),
        receiver: "team".into(),
        integration: "email[0]".into(),
        alerts: [Subject::alert(&labels("a")).id()].into(),
        telling,
    }
}

#[test]
fn the_way_of_a_message_is_told_stage_by_stage() {
    let journal = Journal::in_memory(clock());
    let id = Subject::alert(&labels("a")).id();
    journal.note(received(MINUTE));
    journal.note(Note::Grouped {
        at: MINUTE,
        alert: id,
        group: "g".into(),
        receiver: "team".into(),
        due: 2 * MINUTE,
        code: Code::GroupWait,
    });
    journal.note(flush(2 * MINUTE, Code::Silenced));
    journal.note(flush(7 * MINUTE, Code::Passed));
    journal.note(told(7 * MINUTE + 1, Code::Delivered));
    journal.note(told(12 * MINUTE, Code::AlreadyTold));
    let entries = tale(&journal, "a");
    let at = |t: i64| {
        let ways = deliveries(&entries, t);
        notification(State::Firing, &entries, &ways, t)
    };
    assert_eq!(at(0).code, Code::NotSent);
    assert_eq!((at(MINUTE).code, at(MINUTE).next), (Code::GroupWait, Some(2 * MINUTE)));
    assert_eq!(at(3 * MINUTE).code, Code::Silenced);
    assert!(at(3 * MINUTE).text.contains("silenced by s1 of me: why"), "{}", at(3 * MINUTE).text);
    assert_eq!(at(7 * MINUTE).code, Code::Sending);
    assert_eq!(at(8 * MINUTE).code, Code::Delivered);
    assert!(at(8 * MINUTE).text.contains("<id@h>"), "{}", at(8 * MINUTE).text);
    assert_eq!(at(13 * MINUTE).code, Code::AlreadyTold);
    assert_eq!(notification(State::Pending, &entries, &[], MINUTE).code, Code::NotFiring);
}

#[test]
fn stories_outlive_the_process_and_torn_tails() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Journal::open(dir.path(), Limits::default(), clock()).unwrap();
    let journal = open();
    live(&journal);
    journal.save();
    let before = tale(&journal, "a");
    drop(journal);
    // A torn write at the end costs nothing that was written before it.
    let log = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.extend_from_slice(&[77, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&log, &bytes).unwrap();
    let journal = open();
    assert_eq!(tale(&journal, "a"), before);
    // It goes on: what was firing before the restart was never seen to end.
    journal.note(evaluated(1001 * MINUTE, vec![seen("a", State::Pending, 9.0, 1001 * MINUTE)]));
    assert_eq!(tale(&journal, "a").len(), before.len() + 2);
    // Any cut of the file is a prefix of the story, and no panic.
    let before = texts(&before);
    for cut in 0..bytes.len() {
        std::fs::write(&log, &bytes[..cut]).unwrap();
        let lines = Book::open(Some(Archive::open(dir.path(), Limits::default()).unwrap()), 1000)
            .unwrap()
            .tell(TimeRange::ALL, &|s| s.kind == Kind::Alert)
            .unwrap();
        assert!(lines.len() <= 1 && lines.iter().all(|tale| tale.entries.len() <= before.len() + 2));
    }
}

#[test]
fn damaged_bytes_are_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Limits::default(), clock()).unwrap();
    live(&journal);
    journal.save();
    drop(journal);
    let log = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&log).unwrap();
    // Below the checksums: the decoder itself.
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut payload = bytes[27..].to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..payload.len());
            payload[at] = rng.u8(..);
        }
        codec::Decoder::default().read(&payload, |_, _| {});
    }
}

#[test]
fn a_restart_in_the_middle_is_part_of_the_story() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Journal::open(dir.path(), Limits::default(), clock()).unwrap();
    let journal = open();
    for minute in 1..4 {
        journal.note(evaluated(minute * MINUTE, vec![seen("a", State::Pending, 9.0, MINUTE)]));
    }
    journal.save();
    drop(journal);
    let journal = open();
    journal.note(evaluated(6 * MINUTE, vec![seen("a", State::Pending, 9.0, 6 * MINUTE)]));
    let (is, cause) = state(&tale(&journal, "a"), &[], 6 * MINUTE).unwrap();
    assert_eq!((is, cause.code), (State::Pending, Code::Restarted), "{}", cause.text);
    journal.note(evaluated(7 * MINUTE, vec![seen("a", State::Pending, 9.0, 3 * MINUTE)]));
    let (_, cause) = state(&tale(&journal, "a"), &[], 7 * MINUTE).unwrap();
    assert_eq!((cause.code, cause.next), (Code::Restored, Some(8 * MINUTE)), "{}", cause.text);
    // An alert that does not come back after a restart has ended.
    drop(journal);
    let journal = open();
    journal.note(evaluated(9 * MINUTE, Vec::new()));
    let (is, _) = state(&tale(&journal, "a"), &[], 9 * MINUTE).unwrap();
    assert_eq!(is, State::Inactive);
}

#[test]
fn the_queue_and_the_memory_are_bounded() {
    let journal = Journal::in_memory(clock());
    let many: Vec<_> = (0..1000).map(|i| seen(&i.to_string(), State::Pending, 1.0, 0)).collect();
    for minute in 0..500 {
        journal.note(evaluated(minute * MINUTE, many.clone()));
    }
    assert!(journal.queue.lock().weight <= QUEUE_MAX);
    assert_eq!(journal.lost.get(), 101);
    journal.settle();
    let server = journal.tell(TimeRange::ALL, &|s| s.kind == Kind::Server).unwrap();
    assert_eq!(texts(&server[0].entries), ["1x 101 notes found no room and were lost"]);

    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::open(dir.path(), Limits::default()).unwrap();
    let mut book = Book::open(Some(archive), 1000).unwrap();
    for i in 0..1000 {
        book.apply(evaluated(i * MINUTE, vec![seen(&i.to_string(), State::Pending, 1.0, i * MINUTE)]), None);
        book.maintain(i * MINUTE);
    }
    let (_, n_entries, bytes) = book.sizes();
    assert!(n_entries <= 1001 && bytes > 0, "{n_entries} entries");
    // What memory forgot the files know.
    let first = Subject::alert(&labels("0"));
    assert_eq!(book.tell(TimeRange::ALL, &|s| *s == first).unwrap().len(), 1);
}

/// `AtomicI64` only so that the clock of the test can be moved.
#[test]
fn the_thread_saves_and_stops() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let dir = tempfile::tempdir().unwrap();
    let clock = || -> Clock { Box::new(|| NOW.load(Ordering::Relaxed)) };
    let journal = Journal::open(dir.path(), Limits::default(), clock()).unwrap();
    let thread = {
        let journal = Arc::clone(&journal);
        std::thread::spawn(move || journal.run())
    };
    live(&journal);
    journal.stop();
    thread.join().unwrap();
    let again = Journal::open(dir.path(), Limits::default(), clock()).unwrap();
    assert_eq!(tale(&again, "a"), tale(&journal, "a"));
}

/// The aim: a year of ten thousand alerts a day in 200 MB. One day, and its share.
#[test]
fn a_year_of_alerts_is_small() {
    const PER_DAY: i64 = 10_000;
    const DAYS: i64 = 1;
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { log_bytes: 4 << 20, ..Limits::default() };
    let mut book = Book::open(Some(Archive::open(dir.path(), limits).unwrap()), ENTRIES_MAX).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for i in 0..PER_DAY * DAYS {
        let began = i * 86_400_000 / PER_DAY;
        let labels = Labels::from_pairs([
            ("alertname", format!("Alert{}", i % 150)),
            ("instance", format!("10.0.{}.{}:9100", rng.u8(..4), rng.u8(..))),
            ("job", "node".to_owned()),
            ("severity", "page".to_owned()),
        ]);
        let name = format!("Alert{}", i % 150);
        let none = std::collections::BTreeMap::new();
        let rule = Rule::new(Subject::rule("/r.yml", "g", &name, &none), format!("metric_{} > 0.9", i % 150));
        let id = Subject::alert(&labels).id();
        let group: Text = format!("{{}}:{{alertname=\"{name}\"}}").into();
        let receiver: Text = "team".into();
        let eval = |at: i64, alerts: Vec<Seen>| {
            let rule = Arc::clone(&rule);
            Note::Evaluated(Evaluation {
                rule,
                at,
                query_at: at,
                hold_ms: 300_000,
                keep_ms: 0,
                error: None,
                alerts,
            })
        };
        for step in 0..20 {
            let at = began + step * 60_000;
            let state = if step < 5 { State::Pending } else { State::Firing };
            let value = rng.f64();
            let seen = Seen {
                labels: labels.clone(),
                state,
                value,
                active_at: began,
                resolved_at: None,
                keep_firing_since: None,
            };
            book.apply(eval(at, vec![seen]), None);
        }
        let fired = began + 300_000;
        let received = |at: i64, ends_at: i64| Note::Received {
            at,
            labels: labels.clone(),
            starts_at: fired,
            ends_at,
            is_timeout: false,
        };
        book.apply(received(fired, fired + 240_000), None);
        book.apply(
            Note::Grouped {
                at: fired,
                alert: id,
                group: group.clone(),
                receiver: receiver.clone(),
                due: fired + 30_000,
                code: Code::GroupWait,
            },
            None,
        );
        let flushed = |at: i64, is_resolved: bool| Note::Flushed {
            at,
            group: group.clone(),
            receiver: receiver.clone(),
            next: at + 300_000,
            alerts: vec![Flushed { alert: id, is_resolved, verdict: Verdict::new(Code::Passed) }],
        };
        let sent = |at: i64, reason: &str| {
            let message =
                format!("<{:016x}.{:08x}@mail.example.org>", rng.clone().u64(..) ^ at.cast_unsigned(), i)
                    .into();
            let telling =
                Telling { reason: reason.into(), attempts: 1, message, ..Telling::new(Code::Delivered) };
            Note::Told {
                at,
                group: group.clone(),
                receiver: receiver.clone(),
                integration: "email[0]".into(),
                alerts: [id].into(),
                telling,
            }
        };
        book.apply(flushed(fired + 30_000, false), None);
        book.apply(sent(fired + 31_000, "first notification"), None);
        book.apply(eval(began + 1_200_000, Vec::new()), None);
        book.apply(received(began + 1_200_000, began + 1_200_000), None);
        book.apply(flushed(fired + 930_000, true), None);
        book.apply(sent(fired + 931_000, "all alerts resolved"), None);
        if i % 100 == 0 {
            book.maintain(began);
        }
    }
    book.checkpoint();
    let tight = Limits { log_bytes: 1, ..limits };
    drop(book);
    let mut archive = Archive::open(dir.path(), tight).unwrap();
    archive.maintain(DAYS * 86_400_000).unwrap();
    let a_year = archive.bytes() * 365 / DAYS.cast_unsigned();
    println!("{} bytes for {} alerts, a year is {} MB", archive.bytes(), PER_DAY * DAYS, a_year >> 20);
    assert!(a_year <= 200 << 20, "a year of ten thousand alerts a day takes {} MB", a_year >> 20);
}

#[test]
fn files_that_are_too_old_or_too_much_go() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { log_bytes: 1, total_bytes: 3000, retention_ms: 1_000_000 };
    let mut book = Book::open(Some(Archive::open(dir.path(), limits).unwrap()), 1000).unwrap();
    for i in 0..200 {
        book.apply(evaluated(i * MINUTE, vec![seen(&i.to_string(), State::Pending, 1.0, i * MINUTE)]), None);
        book.maintain(i * MINUTE);
    }
    let (_, _, bytes) = book.sizes();
    assert!((1000..=3000).contains(&bytes), "{bytes} bytes");
    book.maintain(200 * MINUTE + 2_000_000);
    let (_, _, bytes) = book.sizes();
    assert_eq!(bytes, 0);
}
