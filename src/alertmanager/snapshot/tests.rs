//! Snapshots there and back, and one that Alertmanager's own tool chain wrote.

use std::time::Duration;

use jiff::Timestamp;

use super::{decode_entry, decode_silence, delimit, encode_entry, encode_silence, load, write};
use crate::alertmanager::alert::LabelSet;
use crate::alertmanager::nflog::{Datum, Entry, Key, Memory};
use crate::alertmanager::silence::{Parts, Silence, SilenceMatcher};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn matcher(is_equal: bool, is_regex: bool, name: &str, value: &str) -> SilenceMatcher {
    SilenceMatcher { is_equal, is_regex, name: name.to_owned(), value: value.to_owned() }
}

fn parts() -> Parts {
    Parts {
        id: "00000000-0000-4000-8000-000000000001".to_owned(),
        sets: vec![
            vec![matcher(true, false, "a", "b"), matcher(false, true, "c", "d.*|")],
            vec![matcher(true, true, "é", "x")],
        ],
        receiver_sets: vec![vec![matcher(false, false, "team", "y")]],
        starts_at: at(1),
        ends_at: at(3_600_002),
        updated_at: at(-5),
        created_by: "me".to_owned(),
        comment: "why\nnot".to_owned(),
        annotations: LabelSet::from([("k".to_owned(), String::new())]),
    }
}

#[test]
fn silences_come_back_as_they_were() {
    let silence = Silence::from_parts(parts()).unwrap();
    let bytes = encode_silence(&silence, Duration::from_hours(120));
    let back = decode_silence(&bytes).unwrap();
    let of = |silence: &Silence| {
        (
            silence.id.clone(),
            silence.sets.clone(),
            silence.receiver_sets.clone(),
            (silence.starts_at, silence.ends_at, silence.updated_at),
            (silence.created_by.clone(), silence.comment.clone(), silence.annotations.clone()),
        )
    };
    assert_eq!(of(&back), of(&silence));
    // What is cut off is refused, never taken for something else, and nothing panics.
    for n in 1..bytes.len() {
        if let Ok(part) = decode_silence(&bytes[..n]) {
            assert_eq!(part.id, silence.id, "{n}");
        }
    }
}

#[test]
fn silences_of_older_versions_have_one_set_and_a_list_of_comments() {
    // id, matchers (name, pattern), comments (author, comment): fields 1, 2 and 7.
    let silence = b"\x0a\x01i\x12\x06\x12\x01a\x1a\x01b\x3a\x06\x0a\x01m\x12\x01w";
    let mut mesh = vec![0x0a, u8::try_from(silence.len()).unwrap()];
    mesh.extend_from_slice(silence);
    let silence = decode_silence(&mesh).unwrap();
    assert_eq!(silence.sets, [[matcher(true, false, "a", "b")]]);
    assert_eq!((silence.created_by.as_str(), silence.comment.as_str()), ("m", "w"));
    assert!(decode_silence(b"").is_err(), "no silence");
}

#[test]
fn notifications_come_back_as_they_were() {
    let key = Key {
        group: "{}:{a=\"b\"}".to_owned(),
        receiver: "team/a".to_owned(),
        integration: "slack".to_owned(),
        index: 3,
    };
    let memory = Memory::from([
        ("d".to_owned(), Datum::Double(0.0)),
        ("i".to_owned(), Datum::Int(-1)),
        ("t".to_owned(), Datum::Text(String::new())),
    ]);
    let entry = Entry {
        at: at(7),
        expires_at: at(8),
        firing: [1, u64::MAX].into(),
        resolved: [0, 300].into(),
        memory,
    };
    let bytes = encode_entry(&key, &entry);
    assert_eq!(decode_entry(&bytes).unwrap(), (key, entry));
    for n in 0..bytes.len() {
        // No panic, whatever is missing.
        drop(decode_entry(&bytes[..n]));
    }
}

#[test]
fn files_hold_one_message_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/silences");
    assert!(load(&path, decode_silence).unwrap().is_empty());
    let mut bytes = Vec::new();
    for id in ["x", "y"] {
        let silence = Silence::from_parts(Parts { id: id.to_owned(), ..parts() }).unwrap();
        delimit(&mut bytes, &encode_silence(&silence, Duration::ZERO));
    }
    write(&path, &bytes).unwrap();
    let ids: Vec<_> = load(&path, decode_silence).unwrap().into_iter().map(|silence| silence.id).collect();
    assert_eq!(ids, ["x", "y"]);
    write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = load(&path, decode_silence).unwrap_err().to_string();
    assert!(error.contains("message 1: unexpected EOF"), "{error}");
}
