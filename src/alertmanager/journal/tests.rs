//! Records there and back, and files that are cut off anywhere.

use std::sync::Arc;

use jiff::Timestamp;

use super::{JOURNAL, Journal, Record, Saved, file_of, read};
use crate::alertmanager::alert::{Alert, Fingerprint, LabelSet};
use crate::alertmanager::dispatch::{Change, GroupId, SavedGroup};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn records() -> Vec<Record> {
    let labels =
        LabelSet::from([("alertname".to_owned(), "A".to_owned()), ("ü".to_owned(), "\n".to_owned())]);
    let alert = Alert {
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: LabelSet::from([("s".to_owned(), String::new())]),
        starts_at: at(-3),
        ends_at: at(5),
        updated_at: at(0),
        generator_url: "http://x".to_owned(),
        is_timeout: true,
    };
    let id = GroupId("{}:{}".into());
    let alert_id = alert.fingerprint;
    vec![
        Record::Silence(vec![1, 2, 3]),
        Record::Entry(Vec::new()),
        Record::Alert(Arc::new(alert)),
        Record::Times {
            alert: alert_id,
            starts_at: at(-4),
            ends_at: at(6),
            updated_at: at(1),
            is_timeout: false,
        },
        Record::Group(Change::Due { id: id.clone(), due: at(30), timers: u64::MAX }),
        Record::Group(Change::Joined { id: id.clone(), alert: alert_id }),
        Record::Group(Change::Joined { id: id.clone(), alert: Fingerprint(0) }),
        Record::Group(Change::Left { id: id.clone(), alerts: vec![Fingerprint(0), Fingerprint(9)] }),
        Record::Group(Change::Gone(GroupId("other".into()))),
    ]
}

#[test]
fn records_come_back_as_they_were_and_a_cut_off_end_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let bytes = file_of(records().into_iter());
    let mut ends = vec![];
    for n in 0..=records().len() {
        ends.push(file_of(records().into_iter().take(n)).len());
    }
    for n in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..n]).unwrap();
        let whole = ends.iter().filter(|end| **end <= n).count().saturating_sub(1);
        assert_eq!(read(&path).unwrap(), records()[..whole], "{n} bytes");
    }
    // A byte that is wrong ends the file there.
    let mut wrong = bytes.clone();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    std::fs::write(&path, &wrong).unwrap();
    assert_eq!(read(&path).unwrap(), records()[..records().len() - 1]);
    std::fs::write(&path, "something else entirely").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("not a file of ours"));
    assert!(read(&dir.path().join("none")).unwrap().is_empty());
}

#[test]
fn the_last_record_of_each_thing_tells_all() {
    let mut saved = Saved::default();
    // Twice, as where a snapshot is younger than the journal.
    for record in records().into_iter().chain(records()) {
        saved.apply(record);
    }
    let alert = saved.alerts.values().next().unwrap();
    assert_eq!((alert.starts_at, alert.ends_at, alert.is_timeout), (at(-4), at(6), false));
    let group = SavedGroup { due: at(30), timers: u64::MAX, members: [alert.fingerprint].into() };
    assert_eq!(saved.groups.into_iter().collect::<Vec<_>>(), [(GroupId("{}:{}".into()), group)]);
}

#[test]
fn a_journal_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path()).unwrap();
    let path = dir.path().join(JOURNAL);
    for record in records() {
        let mut bytes = Vec::new();
        record.encode_into(&mut bytes);
        journal.append(&bytes).unwrap();
    }
    assert_eq!(read(&path).unwrap(), records());
    assert_eq!(journal.size(), std::fs::metadata(&path).unwrap().len());
    Journal::create(dir.path()).unwrap();
    assert!(read(&path).unwrap().is_empty());
}
